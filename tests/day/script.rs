//! The day: what each backend does when, and how many ask.
//!
//! Data, and what follows from it alone. One second stands for ten: what would answer in 2 s to 20 s is slow with 0.2 s to
//! 2 s here, and a timeout of 5 s is one of 0.5 s.

use std::ops::Range;
use std::time::Duration;

/// What a backend does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers with 200 after some milliseconds.
    Fine,
    /// Its port is closed, and so are its connections.
    Refuses,
    /// Answers with 200 after 0.2 s to 2 s.
    Slow,
    /// Answers with 500 for 0.8 s of each second.
    Bursts,
}

/// A part of the day.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) lasts: Duration,
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) backends: [Behaviour; BACKENDS],
}

pub(crate) const BACKENDS: usize = 3;
/// Everything random comes from this.
pub(crate) const SEED: u64 = 20_261_121;
/// How long an answer of a backend that is fine takes, in milliseconds.
pub(crate) const FINE: Range<u64> = 2..7;
/// How long one of a slow backend takes, in milliseconds.
pub(crate) const SLOW: Range<u64> = 200..2_000;
/// The part of each second in which a backend with bursts fails.
pub(crate) const BURST: Duration = Duration::from_millis(800);
/// How long a client waits for its answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);
/// How long a proxy may take to know that the backends are back when all were gone: two probes.
const NOTICE: Duration = Duration::from_millis(500);
/// What comes just before all backends go may not have its answer yet when they do.
const UNDER_WAY: Duration = Duration::from_millis(100);

// An unoptimised Backstop on a busy machine has to manage the rush.
const USUAL: f64 = 20.0;
const RUSH: f64 = 10.0 * USUAL;

use Behaviour::{Bursts, Fine, Refuses, Slow};

/// The day.
pub(crate) const DAY: [Phase; 12] = [
    phase("all are well", 2_000, USUAL, [Fine, Fine, Fine]),
    phase("the first refuses", 3_000, USUAL, [Refuses, Fine, Fine]),
    phase("and is back", 1_500, USUAL, [Fine, Fine, Fine]),
    phase("the second is slow", 4_000, USUAL, [Fine, Slow, Fine]),
    phase("and well again", 1_500, USUAL, [Fine, Fine, Fine]),
    phase("the third fails", 4_000, USUAL, [Fine, Fine, Bursts]),
    phase("and recovers", 1_500, USUAL, [Fine, Fine, Fine]),
    phase("a rush", 3_000, RUSH, [Fine, Fine, Fine]),
    phase("and trouble in it", 2_000, RUSH, [Bursts, Fine, Slow]),
    phase("it is over", 1_500, USUAL, [Fine, Fine, Fine]),
    phase("all are gone", 2_500, USUAL, [Refuses, Refuses, Refuses]),
    phase("all are back", 3_000, USUAL, [Fine, Fine, Fine]),
];

const fn phase(
    name: &'static str,
    millis: u64,
    rate: f64,
    backends: [Behaviour; BACKENDS],
) -> Phase {
    Phase {
        name,
        lasts: Duration::from_millis(millis),
        rate,
        backends,
    }
}

/// The phases with their beginnings.
pub(crate) fn phases() -> impl Iterator<Item = (Duration, &'static Phase)> {
    let mut next = Duration::ZERO;
    DAY.iter().map(move |phase| {
        let begins = next;
        next += phase.lasts;
        (begins, phase)
    })
}

/// When the requests are due. They come as they do where nobody agreed with anybody: the gaps are exponential.
pub(crate) fn arrivals() -> Vec<Duration> {
    let mut dice = fastrand::Rng::with_seed(SEED);
    let mut all = Vec::new();
    for (begins, phase) in phases() {
        let mut at = begins;
        loop {
            at += Duration::from_secs_f64(-(1.0 - dice.f64()).ln() / phase.rate);
            if at >= begins + phase.lasts {
                break;
            }
            all.push(at);
        }
    }
    all
}

/// What a request asks for.
pub(crate) fn path(number: usize) -> String {
    format!("/day/{number}")
}

/// Whether what is due at this time comes while one backend is sick, or two, but not all.
pub(crate) fn is_trouble(due: Duration) -> bool {
    let during =
        |(begins, phase): &(Duration, &Phase)| (*begins..*begins + phase.lasts).contains(&due);
    let phase = phases().find(during);
    phase.is_some_and(|(_, phase)| {
        let sick = phase.backends.iter().filter(|b| **b != Fine).count();
        (1..BACKENDS).contains(&sick)
    })
}

/// When all backends go, and when they are back.
pub(crate) fn night() -> Range<Duration> {
    let (begins, phase) = phases()
        .find(|(_, phase)| phase.backends == [Refuses; BACKENDS])
        .expect("a phase without a backend");
    begins..begins + phase.lasts
}

/// What can be expected of a request, by when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Light {
    /// At least one backend works.
    Day,
    /// None does, or none will in a moment.
    Night,
    /// All do again, which nobody can know yet.
    Dawn,
}

/// What it is at this time.
pub(crate) fn light(due: Duration) -> Light {
    let night = night();
    if due + UNDER_WAY < night.start || due >= night.end + NOTICE {
        Light::Day
    } else if due < night.end {
        Light::Night
    } else {
        Light::Dawn
    }
}
