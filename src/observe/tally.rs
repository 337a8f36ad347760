//! What is counted of requests: for each route, for what no route took, and for the process.
//!
//! Written once for each request and each fill that ends, by each worker in a part of its own ([`super::parts`]); read by metrics,
//! status and page, which add those up. What clients send makes no series of its own: methods that are not well known are one,
//! and so is everything without a route.

use super::history::{History, Totals};
use super::parts::Parts;
use crate::policy::success::{Count, Noted, Saved, Savings, Span, Step, Success};
use http::Method;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The bounds of the histogram's buckets, in seconds.
pub const BOUNDS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Failures that are remembered one by one.
const RECENT: usize = 50;

/// The methods that are told apart.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
];

/// A method that is told apart, or that it is none of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Known(u8);

impl From<&Method> for Known {
    fn from(method: &Method) -> Self {
        let place = METHODS.iter().position(|m| *m == method.as_str());
        Known(u8::try_from(place.unwrap_or(METHODS.len() - 1)).unwrap_or(0))
    }
}

/// Where the time of a request goes: waiting for a place, pausing before further tries, connecting, and until the head of an answer
/// comes, connecting included.
pub const PHASES: [&str; 4] = ["queue", "backoff", "connect", "first_byte"];

/// How long each of [`PHASES`] took, all tries of a request together, in vain or not; `None` for what there was not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases(pub [Option<Duration>; PHASES.len()]);

impl Phases {
    /// Adds how long each took in one try.
    pub fn add(&mut self, one: [Option<Duration>; PHASES.len()]) {
        let Phases(sums) = self;
        for (sum, took) in sums.iter_mut().zip(one) {
            if let Some(took) = took {
                *sum = Some(sum.unwrap_or_default().saturating_add(took));
            }
        }
    }
}

/// How many took how long.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Histogram {
    /// Those in each bucket of [`BOUNDS`]; the last is beyond all.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Seconds, all together.
    pub seconds: f64,
}

impl Histogram {
    /// All of them.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time that this share of all requests took at most, as far as the buckets tell; `None` without requests.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        #[allow(clippy::cast_precision_loss)]
        let wanted = share * count as f64;
        let mut so_far = 0;
        (count > 0).then(|| {
            for (bound, number) in BOUNDS.iter().zip(self.buckets) {
                so_far += number;
                #[allow(clippy::cast_precision_loss)]
                if so_far as f64 >= wanted {
                    return *bound;
                }
            }
            f64::INFINITY
        })
    }

    /// What was counted since it was as in `before`.
    pub fn since(&self, before: &Histogram) -> Histogram {
        let mut since = *self;
        for (count, before) in since.buckets.iter_mut().zip(before.buckets) {
            *count = count.saturating_sub(before);
        }
        since.seconds = (self.seconds - before.seconds).max(0.0);
        since
    }

    /// Both together.
    pub fn plus(mut self, other: &Histogram) -> Histogram {
        for (count, other) in self.buckets.iter_mut().zip(other.buckets) {
            *count += other;
        }
        self.seconds += other.seconds;
        self
    }

    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket += 1;
        }
        self.seconds += seconds;
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// How it asked.
    pub method: Known,
    /// What the client got; 499 if it left before.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub bytes: u64,
    /// From its head to the end.
    pub took: Duration,
    /// What the cache did, if it was asked.
    pub cache: Option<&'static str>,
    /// Tries that upstreams were asked on its behalf, but for those of a fill, which counts them itself.
    pub tries: u32,
    /// Those of them that failed.
    pub tries_failed: u32,
    /// Whether what it got in the end was good: the last try, or what was stored.
    pub well: bool,
    /// What gave it a good answer, if a try had failed.
    pub saved: Option<Saved>,
    /// Where its time went.
    pub phases: Phases,
}

impl Ended {
    /// A request with this method, which got this status.
    pub fn new(method: &Method, status: u16) -> Self {
        Ended {
            method: method.into(),
            status,
            bytes: 0,
            took: Duration::ZERO,
            cache: None,
            tries: 0,
            tries_failed: 0,
            well: true,
            saved: None,
            phases: Phases::default(),
        }
    }

    /// Whether the client got an error of the server, or only part of an answer.
    pub fn has_failed(&self) -> bool {
        self.status >= 500 || self.status < 400 && !self.well
    }
}

/// The counts of one route.
#[derive(Debug, Default)]
pub struct Tally {
    parts: Parts<Part>,
    /// What is not noted in the parts any more: it is large, and written every ten seconds.
    success: Mutex<Success>,
}

/// What one worker counts.
#[derive(Debug, Default)]
struct Part {
    /// But for the success.
    sums: Sums,
    noted: Noted,
}

/// What a [`Tally`] has counted.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    requests: BTreeMap<(Known, u16), u64>,
    /// How long they took.
    pub took: Histogram,
    /// Where the time of those went that upstreams were asked for. None until there is one: most of ten thousand routes may never
    /// be asked.
    phases: Option<Box<[Histogram; PHASES.len()]>>,
    /// Bytes of bodies sent.
    pub bytes: u64,
    /// Requests by what the cache did.
    pub cache: BTreeMap<&'static str, u64>,
    /// Requests and tries since the start.
    pub total: Count,
    success: Success,
}

impl Sums {
    /// Requests by method and status.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u16, u64)> {
        let named = |(&(method, status), &count): (&(Known, u16), &u64)| {
            let method = METHODS
                .get(usize::from(method.0))
                .copied()
                .unwrap_or("other");
            (method, status, count)
        };
        self.requests.iter().map(named)
    }

    /// All requests.
    pub fn count(&self) -> u64 {
        self.took.count()
    }

    /// How long each of [`PHASES`] took.
    pub fn phases(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        let times = self.phases.iter().flat_map(|times| times.iter());
        PHASES.into_iter().zip(times)
    }

    /// What was counted within a span.
    pub fn within(&mut self, span: Span) -> Count {
        self.success.within(span, now())
    }

    /// Takes in what was counted elsewhere, but for the success.
    fn take_in(&mut self, other: &Sums) {
        for (which, count) in &other.requests {
            *self.requests.entry(*which).or_default() += count;
        }
        self.took = self.took.plus(&other.took);
        if let Some(others) = &other.phases {
            let phases = self.phases.get_or_insert_default();
            for (phase, other) in phases.iter_mut().zip(&**others) {
                *phase = phase.plus(other);
            }
        }
        self.bytes += other.bytes;
        for (word, count) in &other.cache {
            *self.cache.entry(word).or_default() += count;
        }
        self.total = self.total.plus(other.total);
    }
}

impl Tally {
    /// Counts a request that ended so long after the epoch.
    pub fn add(&self, at: Duration, ended: &Ended) {
        let left = ended.status == 499;
        let saved = ended.saved.filter(|_| !ended.has_failed() && !left);
        let count = Count {
            requests: u64::from(!left),
            failed: u64::from(ended.has_failed()),
            tries: ended.tries.into(),
            tries_failed: ended.tries_failed.into(),
            saved: Savings::of(saved),
        };
        let mut part = self.parts.own();
        let sums = &mut part.sums;
        *sums
            .requests
            .entry((ended.method, ended.status))
            .or_default() += 1;
        sums.took.add(ended.took);
        let Phases(phases) = ended.phases;
        if phases.iter().any(Option::is_some) {
            let sums = sums.phases.get_or_insert_default();
            for (sum, took) in sums.iter_mut().zip(phases) {
                if let Some(took) = took {
                    sum.add(took);
                }
            }
        }
        sums.bytes += ended.bytes;
        if let Some(word) = ended.cache {
            *sums.cache.entry(word).or_default() += 1;
        }
        self.note(part, at, count);
    }

    /// Counts the tries of a fill.
    pub fn add_tries(&self, tries: u32, failed: u32) {
        let count = Count {
            tries: tries.into(),
            tries_failed: failed.into(),
            ..Count::default()
        };
        self.note(self.parts.own(), now(), count);
    }

    /// Counts requests and tries where this worker notes them.
    fn note(&self, mut part: MutexGuard<'_, Part>, now: Duration, count: Count) {
        part.sums.total = part.sums.total.plus(count);
        if part.noted.add(now, count) {
            return;
        }
        // Whoever has both locks has taken the other one first.
        drop(part);
        let mut success = self.locked();
        success.take_in(now, &mut self.parts.own().noted);
        success.add(now, count);
    }

    fn locked(&self) -> MutexGuard<'_, Success> {
        self.success.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The success of late, told all that workers have noted.
    fn success(&self) -> MutexGuard<'_, Success> {
        let mut success = self.locked();
        for mut part in self.parts.all() {
            success.take_in(now(), &mut part.noted);
        }
        success
    }

    /// What was counted so far.
    pub fn figures(&self) -> Sums {
        let mut sums = Sums {
            success: self.success().clone(),
            ..Sums::default()
        };
        for part in self.parts.all() {
            sums.take_in(&part.sums);
        }
        sums
    }

    /// The totals alone, without retries, which are not counted here.
    pub fn totals(&self) -> Totals {
        let parts = self.parts.all();
        parts.fold(Totals::default(), |all, part| Totals {
            count: all.count.plus(part.sums.total),
            retries: 0,
            took: all.took.plus(&part.sums.took),
        })
    }

    /// The success of late, to be written down.
    pub fn steps(&self) -> Vec<Step> {
        self.success().steps(now())
    }

    /// Takes in what an earlier process wrote down.
    pub fn restore(&self, step: Step) {
        self.locked().restore(now(), step);
    }
}

fn now() -> Duration {
    since_epoch(SystemTime::now())
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A request that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// When it ended, since the epoch.
    pub at: Duration,
    /// What it is called in headers and logs.
    pub request_id: String,
    /// Its route.
    pub route: String,
    /// Method and path, without the query.
    pub what: String,
    /// What the client got.
    pub status: u16,
    /// What its tries met.
    pub tries: Vec<String>,
    /// Why there was no further one.
    pub reason: Option<&'static str>,
}

/// The counts of the process.
#[derive(Debug)]
pub struct Counts {
    /// Requests that no route took.
    pub unrouted: Tally,
    /// Heads that were no request.
    pub malformed: AtomicU64,
    /// Handshakes of TLS that were completed.
    pub handshakes: AtomicU64,
    /// Those that were not.
    pub handshakes_failed: AtomicU64,
    /// Since when the process serves.
    pub started: Instant,
    /// The last half hour.
    pub history: History,
    recent: Mutex<VecDeque<Failed>>,
    reload: Mutex<Reload>,
}

/// What became of reloads.
#[derive(Debug, Clone)]
pub struct Reload {
    /// Those that took effect, the start included.
    pub done: u64,
    /// Those that did not.
    pub failed: u64,
    /// When the configuration in force was taken.
    pub since: SystemTime,
    /// When one was last read.
    pub tried: SystemTime,
    /// Why the last one failed, if it did.
    pub error: Option<String>,
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            unrouted: Tally::default(),
            malformed: AtomicU64::new(0),
            handshakes: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            started: Instant::now(),
            history: History::default(),
            recent: Mutex::default(),
            reload: Mutex::new(Reload {
                done: 1,
                failed: 0,
                since: SystemTime::now(),
                tried: SystemTime::now(),
                error: None,
            }),
        }
    }
}

impl Counts {
    /// One more.
    pub fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Remembers a request that failed.
    pub fn remember(&self, failed: Failed) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_back();
        }
        recent.push_front(failed);
    }

    /// The requests that failed, the last first.
    pub fn recent(&self) -> Vec<Failed> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
    }

    /// A reload ended, with this error if it failed.
    pub fn reloaded(&self, error: Option<String>) {
        let mut reload = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        reload.tried = SystemTime::now();
        match &error {
            None => {
                reload.done += 1;
                reload.since = reload.tried;
            }
            Some(_) => reload.failed += 1,
        }
        reload.error = error;
    }

    /// What became of them.
    pub fn reloads(&self) -> Reload {
        self.reload
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_once_and_by_what_is_known_beforehand() {
        let tally = Tally::default();
        for (method, status, failed) in [
            ("GET", 200, 2),
            ("BREW", 200, 0),
            ("MADE-UP", 200, 0),
            ("GET", 503, 1),
            ("GET", 499, 0),
        ] {
            tally.add(
                now(),
                &Ended {
                    took: Duration::from_millis(3),
                    tries: failed + 1,
                    tries_failed: failed,
                    saved: (failed > 0).then_some(Saved::Failover),
                    cache: Some("miss"),
                    ..Ended::new(&method.parse().unwrap(), status)
                },
            );
        }
        let mut sums = tally.figures();
        let requests: Vec<_> = sums.requests().collect();
        assert_eq!(
            requests,
            [
                ("GET", 200, 1),
                ("GET", 499, 1),
                ("GET", 503, 1),
                ("other", 200, 2)
            ]
        );
        assert_eq!(
            (
                sums.count(),
                sums.took.buckets[2],
                sums.total.saved.failover
            ),
            (5, 5, 1)
        );
        assert_eq!(sums.cache["miss"], 5);
        assert_eq!(sums.took.quantile(0.5), Some(0.005));
        let count = sums.within(Span::Minutes5);
        assert_eq!(
            (
                count.requests,
                count.failed,
                count.tries,
                count.tries_failed
            ),
            (4, 1, 8, 3)
        );
    }

    #[test]
    fn what_several_workers_counted_is_what_one_would_have() {
        let ended = |n: u64| {
            let method = ["GET", "POST"][n as usize % 2];
            Ended {
                bytes: n,
                took: Duration::from_millis(n),
                cache: [None, Some("hit")][n as usize % 2],
                tries: 2,
                tries_failed: 1,
                saved: Some(Saved::Retry),
                phases: Phases([Some(Duration::from_millis(1)), None, None, None]),
                ..Ended::new(&method.parse().unwrap(), 200 + (n % 3) as u16)
            }
        };
        let (one, several) = (Tally::default(), Tally::default());
        // So that they count in different steps of the success.
        let at = |n: u64| now() - Duration::from_secs(20 * (n % 4));
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let several = &several;
                scope.spawn(move || {
                    super::super::parts::belong_to(worker as usize);
                    let mine = (0..300).filter(|n| n % 3 == worker);
                    mine.for_each(|n| several.add(at(n), &ended(n)));
                    several.add_tries(7, 3);
                });
            }
        });
        (0..300).for_each(|n| one.add(at(n), &ended(n)));
        (0..3).for_each(|_| one.add_tries(7, 3));
        let (mut one, mut all) = (one.figures(), several.figures());
        assert!(one.requests().eq(all.requests()));
        assert_eq!((one.took.buckets, one.bytes), (all.took.buckets, all.bytes));
        assert!(
            one.phases()
                .map(|(_, p)| p.buckets)
                .eq(all.phases().map(|(_, p)| p.buckets))
        );
        assert_eq!((&one.cache, one.total), (&all.cache, all.total));
        assert_eq!(several.totals().count, one.total);
        assert_eq!(one.total.requests, 300);
        for span in [Span::Minutes5, Span::Days30] {
            assert_eq!(one.within(span), all.within(span));
            assert_eq!(all.within(span), all.total);
        }
    }

    #[test]
    fn only_the_last_failures_are_remembered() {
        let counts = Counts::default();
        for status in 500..500 + 60 {
            counts.remember(Failed {
                at: now(),
                request_id: String::new(),
                route: String::new(),
                what: String::new(),
                status,
                tries: Vec::new(),
                reason: None,
            });
        }
        let recent: Vec<u16> = counts.recent().iter().map(|failed| failed.status).collect();
        assert_eq!((recent.len(), recent[0], recent[49]), (50, 559, 510));
    }
}
