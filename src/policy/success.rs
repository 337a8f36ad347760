//! The one number users judge by: which share of requests succeeded, as clients saw it, beside what the upstream answered.
//!
//! Kept for each route by `upstream::traffic`, over four spans that each forget in steps. The difference between the two
//! shares is what retries, the cache and failover have masked.

use std::time::Duration;

/// How far back it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// Five minutes.
    Minutes5,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// Thirty days.
    Days30,
}

/// All of them, the shortest first.
pub const SPANS: [Span; 4] = [Span::Minutes5, Span::Hour, Span::Day, Span::Days30];

impl Span {
    /// What it is called in metrics and on the page.
    pub fn word(self) -> &'static str {
        match self {
            Span::Minutes5 => "5m",
            Span::Hour => "1h",
            Span::Day => "24h",
            Span::Days30 => "30d",
        }
    }

    /// How long one of its steps is, in seconds, and how many there are.
    fn steps(self) -> (u64, usize) {
        match self {
            Span::Minutes5 => (10, 30),
            Span::Hour => (120, 30),
            Span::Day => (1800, 48),
            Span::Days30 => (43_200, 60),
        }
    }
}

/// What gave a client a good answer although a try had failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Saved {
    /// Another try at the backend that had failed.
    Retry,
    /// A try at another backend.
    Failover,
    /// A stored answer.
    Cache,
}

impl Saved {
    /// What it is called in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Saved::Retry => "retry",
            Saved::Failover => "failover",
            Saved::Cache => "cache",
        }
    }

    /// What saved a request, of which these were the tries, each with its backend and whether it failed, the last one last;
    /// `None` if none had failed, or nothing helped. `stored`: whether the answer was a stored one.
    pub fn by<B: PartialEq>(tries: impl Iterator<Item = (B, bool)>, stored: bool) -> Option<Saved> {
        let (mut failed, mut last) = (None, None);
        for (backend, has_failed) in tries {
            if has_failed {
                (failed, last) = (Some(backend), None);
            } else {
                last = Some(backend);
            }
        }
        let failed = failed?;
        match last {
            _ if stored => Some(Saved::Cache),
            Some(last) if last == failed => Some(Saved::Retry),
            Some(_) => Some(Saved::Failover),
            None => None,
        }
    }
}

/// How many requests were saved, by what saved them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Savings {
    /// By [`Saved::Retry`].
    pub retry: u64,
    /// By [`Saved::Failover`].
    pub failover: u64,
    /// By [`Saved::Cache`].
    pub cache: u64,
}

impl Savings {
    /// Those of one request.
    pub fn of(saved: Option<Saved>) -> Self {
        let one = |by| u64::from(saved == Some(by));
        Savings {
            retry: one(Saved::Retry),
            failover: one(Saved::Failover),
            cache: one(Saved::Cache),
        }
    }

    /// Both together.
    pub fn plus(self, other: Savings) -> Savings {
        Savings {
            retry: self.retry + other.retry,
            failover: self.failover + other.failover,
            cache: self.cache + other.cache,
        }
    }

    /// What was counted since it was as in `before`.
    pub fn since(self, before: Savings) -> Savings {
        Savings {
            retry: self.retry.saturating_sub(before.retry),
            failover: self.failover.saturating_sub(before.failover),
            cache: self.cache.saturating_sub(before.cache),
        }
    }

    /// All of them.
    pub fn sum(self) -> u64 {
        self.retry + self.failover + self.cache
    }

    /// Each with what saved them.
    pub fn each(self) -> [(Saved, u64); 3] {
        [
            (Saved::Retry, self.retry),
            (Saved::Failover, self.failover),
            (Saved::Cache, self.cache),
        ]
    }
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests that were answered, whoever answered.
    pub requests: u64,
    /// Those of them that got an error of the server (5xx), or nothing.
    pub failed: u64,
    /// Tries that upstreams were asked.
    pub tries: u64,
    /// Those of them that failed.
    pub tries_failed: u64,
    /// Requests that succeeded although a try had failed.
    pub saved: Savings,
}

impl Count {
    /// What was counted since it was as in `before`.
    pub fn since(self, before: Count) -> Count {
        Count {
            requests: self.requests.saturating_sub(before.requests),
            failed: self.failed.saturating_sub(before.failed),
            tries: self.tries.saturating_sub(before.tries),
            tries_failed: self.tries_failed.saturating_sub(before.tries_failed),
            saved: self.saved.since(before.saved),
        }
    }

    /// Both together.
    pub fn plus(self, other: Count) -> Count {
        Count {
            requests: self.requests + other.requests,
            failed: self.failed + other.failed,
            tries: self.tries + other.tries,
            tries_failed: self.tries_failed + other.tries_failed,
            saved: self.saved.plus(other.saved),
        }
    }

    /// The share of requests that succeeded, as clients saw it; `None` without any.
    pub fn seen(&self) -> Option<f64> {
        share(self.requests, self.failed)
    }

    /// The share of tries that the upstream answered well.
    pub fn answered(&self) -> Option<f64> {
        share(self.tries, self.tries_failed)
    }

    /// How much of an objective's room for errors is used up: 1 is all of it. An objective of 100 % has none.
    pub fn burnt(&self, objective: f64) -> Option<f64> {
        let room = 1.0 - objective;
        let lost = 1.0 - self.seen()?;
        Some(if lost == 0.0 {
            0.0
        } else if room > 0.0 {
            lost / room
        } else {
            f64::INFINITY
        })
    }
}

fn share(of: u64, failed: u64) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)] // Beyond 2^53 requests the share is exact enough.
    (of > 0).then(|| 1.0 - failed as f64 / of as f64)
}

/// The counts of one span: a ring of steps.
#[derive(Debug, Clone)]
struct Ring {
    span: Span,
    /// Which step the newest is, since the epoch.
    newest: u64,
    /// None until something is counted: most of ten thousand routes may never be asked.
    steps: Vec<Count>,
}

impl Ring {
    fn new(span: Span) -> Self {
        Ring {
            span,
            newest: 0,
            steps: Vec::new(),
        }
    }

    fn place(&self, step: u64) -> usize {
        usize::try_from(step % self.span.steps().1 as u64).unwrap_or(0)
    }

    /// Moves on to this time, and forgets what is too long ago. A clock that was set back counts for the newest step.
    fn turn(&mut self, now: u64) {
        let step = now / self.span.steps().0;
        let over = step
            .saturating_sub(self.newest)
            .min(self.steps.len() as u64);
        for back in 0..over {
            let place = self.place(step - back);
            if let Some(count) = self.steps.get_mut(place) {
                *count = Count::default();
            }
        }
        self.newest = self.newest.max(step);
    }

    fn add(&mut self, now: u64, count: Count) {
        self.turn(now);
        self.put(self.newest, count);
    }

    fn put(&mut self, step: u64, count: Count) {
        self.steps.resize(self.span.steps().1, Count::default());
        let place = self.place(step);
        if let Some(kept) = self.steps.get_mut(place) {
            *kept = kept.plus(count);
        }
    }

    fn sum(&mut self, now: u64) -> Count {
        self.turn(now);
        self.steps
            .iter()
            .fold(Count::default(), |sum, count| sum.plus(*count))
    }
}

/// The counts of a route over all spans.
#[derive(Debug, Clone)]
pub struct Success {
    rings: [Ring; 4],
}

impl Default for Success {
    fn default() -> Self {
        Success {
            rings: SPANS.map(Ring::new),
        }
    }
}

/// The shortest of all steps, of which the others are multiples, in seconds.
const UNIT: u64 = 10;

/// What was counted beside a [`Success`], all within the same ten seconds, until it takes that in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noted {
    unit: u64,
    count: Count,
}

impl Noted {
    /// Counts what ended now, if that is within the ten seconds of what was noted already or there is nothing yet: else that
    /// has to be taken in first.
    #[must_use]
    pub fn add(&mut self, now: Duration, count: Count) -> bool {
        let unit = now.as_secs() / UNIT;
        if self.count == Count::default() {
            self.unit = unit;
        }
        let fits = self.unit == unit;
        if fits {
            self.count = self.count.plus(count);
        }
        fits
    }
}

/// One step of one span, as it is written down for the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Which span.
    pub span: Span,
    /// When it began, in seconds since the epoch.
    pub began: u64,
    /// What was counted in it.
    pub count: Count,
}

impl Success {
    /// Counts a request that ended; `now` is since the epoch.
    pub fn add(&mut self, now: Duration, count: Count) {
        for ring in &mut self.rings {
            ring.add(now.as_secs(), count);
        }
    }

    /// What was counted within a span.
    pub fn within(&mut self, span: Span, now: Duration) -> Count {
        let ring = self.rings.iter_mut().find(|ring| ring.span == span);
        ring.map_or(Count::default(), |ring| ring.sum(now.as_secs()))
    }

    /// All that is to be written down.
    pub fn steps(&mut self, now: Duration) -> Vec<Step> {
        let mut steps = Vec::new();
        for ring in &mut self.rings {
            ring.turn(now.as_secs());
            let (length, _) = ring.span.steps();
            for back in 0..(ring.steps.len() as u64).min(ring.newest + 1) {
                let step = ring.newest - back;
                let count = ring
                    .steps
                    .get(ring.place(step))
                    .copied()
                    .unwrap_or_default();
                if count != Count::default() {
                    let began = step * length;
                    steps.push(Step {
                        span: ring.span,
                        began,
                        count,
                    });
                }
            }
        }
        steps
    }

    /// Counts what was noted beside it, for the time at which it was noted. What was noted just now counts for the newest step where
    /// that lies ahead, as after the clock was set back.
    pub fn take_in(&mut self, now: Duration, noted: &mut Noted) {
        let Noted { unit, count } = std::mem::take(noted);
        if count == Count::default() {
            return;
        }
        let (now, then) = (now.as_secs(), unit * UNIT);
        for ring in &mut self.rings {
            ring.turn(now.max(then));
            let (length, steps) = ring.span.steps();
            let step = then / length;
            let is_new = now.saturating_sub(then) <= 2 * UNIT;
            // By one step it may be ahead because others read the clock later.
            if is_new && ring.newest > now / length + 1 {
                ring.put(ring.newest, count);
            } else if ring.newest - step < steps as u64 {
                ring.put(step, count);
            }
        }
    }

    /// Takes in what an earlier process wrote down; what is too long ago, or lies in the future, is left out.
    pub fn restore(&mut self, now: Duration, step: Step) {
        let Some(ring) = self.rings.iter_mut().find(|ring| ring.span == step.span) else {
            return;
        };
        ring.turn(now.as_secs());
        let number = step.began / ring.span.steps().0;
        let age = ring.newest.checked_sub(number);
        if age.is_some_and(|age| age < ring.span.steps().1 as u64) {
            ring.put(number, step.count);
        }
    }
}

#[cfg(test)]
mod tests;
