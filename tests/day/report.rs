//! What came of a day: the figures, and the tables of all proxies.

use crate::load::Outcome;
use crate::script::{self, DEADLINE, Light};
use std::cmp::Reverse;
use std::io::Write;
use std::time::Duration;

/// More than a healthy backend ever takes, and less than a slow one.
const HELD_UP: Duration = Duration::from_millis(150);

/// One proxy's day.
pub(crate) struct Day {
    pub(crate) name: &'static str,
    /// What became of each request, in the order they were due.
    pub(crate) outcomes: Vec<Outcome>,
    /// How many requests the backends took.
    taken: usize,
}

impl Day {
    pub(crate) fn new(name: &'static str, outcomes: Vec<Outcome>, taken: usize) -> Self {
        Day {
            name,
            outcomes,
            taken,
        }
    }

    /// The requests of the time in which at least one backend works and that can be known.
    fn counted(&self) -> impl Iterator<Item = &Outcome> {
        let known = |o: &&Outcome| script::light(o.due) == Light::Day;
        self.outcomes.iter().filter(known)
    }

    /// The share of them that succeeded.
    pub(crate) fn success(&self) -> f64 {
        share(self.counted())
    }

    /// The same from the moment on at which the backends are back after all were gone, known or not.
    pub(crate) fn promptly(&self) -> f64 {
        let works = |o: &&Outcome| script::light(o.due) != Light::Night;
        share(self.outcomes.iter().filter(works))
    }

    /// So many of those that count, 0.99 for 99 %, took this long or less. One that failed has its client waiting still.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        quantile(self.counted(), share)
    }

    /// The same of the time in which one backend is sick, or two, but not all.
    pub(crate) fn quantile_in_trouble(&self, share: f64) -> Duration {
        let sick = |o: &&Outcome| script::is_trouble(o.due);
        quantile(self.counted().filter(sick), share)
    }

    /// How many requests the backends took for each one of the time in which they could.
    pub(crate) fn amplification(&self) -> f64 {
        self.taken as f64 / self.counted().count() as f64
    }

    /// When the last request failed, counted from when all backends were back.
    fn back_after(&self) -> Duration {
        let back = script::night().end;
        let failed = |o: &&Outcome| o.due >= back && o.got.is_err();
        let last = self.outcomes.iter().rfind(failed);
        last.map_or(Duration::ZERO, |o| o.due - back)
    }

    /// How late the clients themselves were at most: if it is much, the machine was busy with something else.
    pub(crate) fn late(&self) -> Duration {
        let late = self.outcomes.iter().map(|o| o.late);
        late.max().unwrap_or_default()
    }

    /// The numbers of those that went worst, of the time in which at least one backend works.
    pub(crate) fn worst(&self, n: usize) -> Vec<usize> {
        let works = |i: &usize| script::light(self.outcomes[*i].due) != Light::Night;
        let mut all: Vec<usize> = (0..self.outcomes.len()).filter(works).collect();
        all.sort_by_key(|i| Reverse(cost(&self.outcomes[*i])));
        all.truncate(n);
        all
    }
}

fn quantile<'a>(outcomes: impl Iterator<Item = &'a Outcome>, share: f64) -> Duration {
    let mut times: Vec<Duration> = outcomes.map(cost).collect();
    times.sort_unstable();
    let rank = (times.len() as f64 * share).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

/// What a request costs its client.
fn cost(outcome: &Outcome) -> Duration {
    match outcome.got {
        Ok(()) => outcome.took,
        Err(_) => DEADLINE,
    }
}

fn share<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> f64 {
    let (good, failed): (Vec<_>, Vec<_>) = outcomes.partition(|o| o.got.is_ok());
    good.len() as f64 / (good.len() + failed.len()) as f64
}

/// Says something that is seen also when the test passes.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints the tables.
pub(crate) fn print(days: &[Day]) {
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    say("");
    say(
        "          |  success | from the start |     p50 |       p99 | in trouble | origin |  back after | clients late",
    );
    for day in days {
        say(&format!(
            "{:9} | {:>6.2} % | {:>12.2} % | {:>7} | {:>9} | {:>10} | {:>6.3} | {:>11} | {:>9}",
            day.name,
            day.success() * 100.0,
            day.promptly() * 100.0,
            ms(day.quantile(0.5)),
            ms(day.quantile(0.99)),
            ms(day.quantile_in_trouble(0.99)),
            day.amplification(),
            ms(day.back_after()),
            ms(day.late()),
        ));
    }
    let names: Vec<String> = days.iter().map(|d| format!("{:>21}", d.name)).collect();
    say(&format!("\nfailed, held up, longest {}", names.join("")));
    for (begins, phase) in script::phases() {
        let within = |o: &&Outcome| (begins..begins + phase.lasts).contains(&o.due);
        let cells = days.iter().map(|day| {
            let all: Vec<_> = day.outcomes.iter().filter(within).collect();
            let failed = all.iter().filter(|o| o.got.is_err()).count();
            let slow = all.iter().filter(|o| o.took >= HELD_UP).count();
            let longest = all.iter().map(|o| o.took).max().unwrap_or_default();
            format!("{failed:>5} {slow:>4} {:>7} ms", longest.as_millis())
        });
        let cells: Vec<String> = cells.collect();
        say(&format!("  {:22} {}", phase.name, cells.join("")));
    }
    say("");
}
