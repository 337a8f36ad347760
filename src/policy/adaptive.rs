//! How many requests an upstream can take at once, found out from how long they last.
//!
//! `proxy/` keeps one [`Adaptive`] beside each `policy::admission` whose limit is to be found, says how each request went,
//! and passes each new limit on to `Admission::set_limit`. It must not refuse anyone, nor judge which failures speak of
//! overload.
//!
//! # The rules
//!
//! They are those of the Gradient2 limiter of Netflix's concurrency-limits (`Gradient2Limit` under `WindowedLimit`):
//!
//! - Latencies are averaged over windows of some round trips. The average over the last window stands for the present, one
//!   that decays exponentially over some 600 windows for what is usual.
//! - The gradient is the usual latency over the present one, with a tolerance of 1.5, and kept in 0.5..=1: at 1 nothing
//!   queues, below it something does, and no window halves the limit.
//! - The limit moves to `limit * gradient + sqrt(limit)`, by a fifth of the way. The root is the queue that is allowed for,
//!   as in Gradient2's predecessor; it is what makes the limit grow while nothing queues.
//! - A window in which less than half of the limit was in use leaves the limit as it is: it says nothing about more.
//! - A usual latency of more than twice the present one comes from an overload that is over. It shrinks by a twentieth.
//!
//! Three things are different:
//!
//! - Left alone, Gradient2 takes a lasting overload for what is usual, allows half more on top of that, and so ends at
//!   `max`. Here a window in which requests queue teaches nothing about the usual latency. Instead, after 20 such windows,
//!   the limit is lowered for two windows to where nothing should queue, and the second of them teaches it: the ProbeRTT of
//!   BBR (draft-ietf-ccwg-bbr), and the minRTT window of Envoy's adaptive concurrency filter. So the queue shrinks with each
//!   probe, and an upstream that has become slower for good is recognised as that.
//! - A failed request lowers the limit by a tenth, as in Netflix's `AIMDLimit`, and its latency teaches nothing: a timeout
//!   says how patient we were. Failures of one round trip count as one, as losses do for TCP (RFC 6582): what failed
//!   after the limit was lowered, but began before, is no news.
//! - A window lasts as long as two round trips do, not one second: the first still shows what the limit was before.

use std::time::Duration;

/// What a try with this status, or none at all, says of the load: that there is too much of it (true), that it is borne
/// (false), or nothing. A backend that is broken fails fast, and how fast must not be taken for what is usual.
pub fn speaks_of_load(status: Option<u16>) -> Option<bool> {
    match status {
        None | Some(429 | 503 | 504) => Some(true),
        Some(500..) => None,
        Some(_) => Some(false),
    }
}

/// The bounds of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveRules {
    /// Never fewer; 0 counts as 1.
    pub min: u32,
    /// Never more; less than `min` counts as `min`.
    pub max: u32,
}

impl AdaptiveRules {
    fn bound(&self, limit: u32) -> u32 {
        let min = self.min.max(1);
        limit.clamp(min, self.max.max(min))
    }

    fn bound_estimate(&self, limit: f64) -> f64 {
        let bounds = (self.bound(0), self.bound(u32::MAX));
        limit.clamp(bounds.0.into(), bounds.1.into())
    }
}

/// Where the search begins, if the bounds allow it: Gradient2's default.
const START: u32 = 20;
/// How much longer than usual requests may take before the limit falls.
const TOLERANCE: f64 = 1.5;
/// No window counts as more overloaded than this.
const LEAST_GRADIENT: f64 = 0.5;
/// How far the limit goes towards where a window wants it.
const SMOOTHING: f64 = 0.2;
/// What a failure leaves of the limit.
const AFTER_FAILURE: f64 = 0.9;
/// How much one window counts in the usual latency: as in an average over 600 of them.
const WEIGHT: f64 = 2.0 / 601.0;
/// The first windows, which count alike.
const WARM_UP: u32 = 10;
/// A usual latency beyond this many times the present one is out of date …
const OUT_OF_DATE: f64 = 2.0;
/// … and this much of it is kept for the next window.
const KEPT: f64 = 0.95;
/// Windows with a queue until the limit is lowered to see what is usual.
const PROBE_AFTER: u32 = 20;
/// How much such a probe counts in the usual latency if it took longer. One that did not counts in full: a queue can have
/// added to what was usual before, but takes nothing from what was measured now.
const SLOWER_PROBE_WEIGHT: f64 = 0.5;

/// A window holds at least this many samples,
const MIN_SAMPLES: u32 = 10;
/// lasts at least this many times their average latency,
const ROUND_TRIPS: u32 = 2;
/// and at least so long, to even out what comes in bursts.
const MIN_WINDOW: Duration = Duration::from_millis(100);
/// Anything faster counts as this, so that no latency is zero.
const MIN_LATENCY: Duration = Duration::from_micros(1);
/// Anything slower counts as this, so that every window has an end.
const MAX_LATENCY: Duration = Duration::from_secs(600);

/// The samples of some round trips.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// When the first sample came.
    start: Duration,
    samples: u32,
    /// Of the latencies.
    sum: Duration,
    /// The most requests that were in flight.
    peak: u32,
}

impl Window {
    fn add(&mut self, now: Duration, latency: Duration, in_flight: u32) {
        if self.samples == 0 {
            self.start = now;
        }
        self.samples = self.samples.saturating_add(1);
        self.sum = self
            .sum
            .saturating_add(latency.clamp(MIN_LATENCY, MAX_LATENCY));
        self.peak = self.peak.max(in_flight);
    }

    fn average(&self) -> Duration {
        self.sum / self.samples.max(1)
    }

    fn is_over(&self, now: Duration) -> bool {
        let round_trips = self.average().saturating_mul(ROUND_TRIPS);
        self.samples >= MIN_SAMPLES && now.saturating_sub(self.start) >= round_trips.max(MIN_WINDOW)
    }
}

/// The latency to expect while nothing queues, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    average: f64,
    /// Windows that it has learnt from, up to [`WARM_UP`].
    windows: u32,
}

impl Usual {
    fn is_warming_up(&self) -> bool {
        self.windows < WARM_UP
    }

    fn learn(&mut self, latency: f64) {
        let weight = if self.is_warming_up() {
            self.windows += 1;
            f64::from(self.windows).recip()
        } else {
            WEIGHT
        };
        self.approach(latency, weight);
    }

    fn approach(&mut self, latency: f64, weight: f64) {
        self.average += (latency - self.average) * weight;
    }
}

/// Whether the limit is lowered for the sake of measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// It is not. So many windows had a queue since it was.
    Off { queueing: u32 },
    /// It is, but what ends in this window may have begun before.
    Settling,
    /// It is, and what ends in this window had less beside it.
    Measuring,
}

/// A limit that follows the latency of what it limits. Of constant size; each call takes constant time.
#[derive(Debug, Clone)]
pub struct Adaptive {
    /// The limit with its fraction, and without regard to a probe.
    estimate: f64,
    /// The limit in force.
    limit: u32,
    window: Window,
    /// The average latency of the last window.
    round_trip: Duration,
    usual: Usual,
    probe: Probe,
    /// When a failure last lowered the limit.
    lowered: Option<Duration>,
}

impl Adaptive {
    /// Begins at 20, or at the bound next to it.
    pub fn new(rules: &AdaptiveRules) -> Self {
        let limit = rules.bound(START);
        Adaptive {
            estimate: limit.into(),
            limit,
            window: Window::default(),
            // Until one is known. It spaces failures only.
            round_trip: MIN_WINDOW,
            usual: Usual::default(),
            probe: Probe::Off { queueing: 0 },
            lowered: None,
        }
    }

    /// The limit in force: within the rules last seen, and lower than what was found for as long as a probe lasts.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Brings the limit within bounds that were changed, and returns it. What is known of the latency stays.
    pub fn rebound(&mut self, rules: &AdaptiveRules) -> u32 {
        self.estimate = rules.bound_estimate(self.estimate);
        self.limit = rules.bound(self.limit);
        self.limit
    }

    /// Takes note of a request that is over, and returns the limit if it is a new one.
    ///
    /// `latency` is the time that the upstream took, without any wait for admission. `in_flight` is how many requests were
    /// active when it ended, itself included. `dropped` says that it failed in a way that speaks of overload, such as a
    /// timeout, a refused connection, 429 or 503. Requests that are over early for other reasons are not to be told of.
    pub fn observe(
        &mut self,
        rules: &AdaptiveRules,
        now: Duration,
        latency: Duration,
        in_flight: u32,
        dropped: bool,
    ) -> Option<u32> {
        if dropped {
            self.fail(now, latency, in_flight);
        } else {
            self.window.add(now, latency, in_flight);
            if self.window.is_over(now) {
                let window = std::mem::take(&mut self.window);
                self.judge(window);
            }
        }
        self.estimate = rules.bound_estimate(self.estimate);
        let before = self.limit;
        self.limit = rules.bound(match self.probe {
            Probe::Off { .. } => self.estimate as u32,
            Probe::Settling | Probe::Measuring => without_queue(self.estimate),
        });
        (self.limit != before).then_some(self.limit)
    }

    fn in_use(&self, in_flight: u32) -> bool {
        in_flight >= self.limit.div_ceil(2)
    }

    fn fail(&mut self, now: Duration, latency: Duration, in_flight: u32) {
        let known = self.lowered.is_some_and(|lowered| {
            let began = now.saturating_sub(latency);
            began < lowered || now.saturating_sub(lowered) < self.round_trip
        });
        if self.in_use(in_flight) && !known {
            self.lowered = Some(now);
            self.estimate *= AFTER_FAILURE;
        }
    }

    fn judge(&mut self, window: Window) {
        self.round_trip = window.average();
        let present = self.round_trip.as_secs_f64();
        match self.probe {
            Probe::Off { queueing } => {
                let queueing = self.move_limit(present, self.in_use(window.peak), queueing);
                self.probe = if queueing < PROBE_AFTER {
                    Probe::Off { queueing }
                } else {
                    Probe::Settling
                };
            }
            Probe::Settling => self.probe = Probe::Measuring,
            Probe::Measuring => {
                let slower = present > self.usual.average;
                let weight = if slower { SLOWER_PROBE_WEIGHT } else { 1.0 };
                self.usual.approach(present, weight);
                self.probe = Probe::Off { queueing: 0 };
            }
        }
    }

    /// Applies the rules of Gradient2 to a window, and counts it if it had a queue.
    fn move_limit(&mut self, present: f64, in_use: bool, queueing: u32) -> u32 {
        let queues = in_use && present > self.usual.average * TOLERANCE;
        if !queues || self.usual.is_warming_up() {
            self.usual.learn(present);
        }
        if self.usual.average > present * OUT_OF_DATE {
            self.usual.average *= KEPT;
        }
        if !in_use {
            return queueing;
        }
        let gradient = (self.usual.average * TOLERANCE / present).clamp(LEAST_GRADIENT, 1.0);
        let wanted = self.estimate * gradient + self.estimate.sqrt();
        self.estimate += (wanted - self.estimate) * SMOOTHING;
        queueing + u32::from(gradient < 1.0)
    }
}

/// Half of the limit, less the queue that it allows for. Where the usual latency is right, the limit rests where this is
/// three quarters of what the upstream can do at once; where it is too long, each probe brings the limit down by a quarter.
fn without_queue(limit: f64) -> u32 {
    ((limit - limit.sqrt()) / 2.0) as u32
}

#[cfg(test)]
mod tests;
