//! Whether a backend may be tried: what probes and tries say of it, when it is ejected, and how it comes back.
//!
//! `upstream::standing` keeps one [`Health`] per backend, tells it of every probe and every try, and publishes its [`Gate`] for
//! the balancer. It must not choose among backends, nor count those of a pool: whether an ejection leaves enough of them is
//! the caller's question to [`may_eject`].

use super::window::Window;
use std::time::Duration;

/// Failed connections in a row after which a backend counts as unreachable: more than the one that a restart costs.
pub const UNREACHABLE_AFTER: u32 = 3;

/// An upstream's rules for taking backends out of rotation by what tries meet (outlier detection, as Envoy calls it).
#[derive(Debug, Clone, PartialEq)]
pub struct EjectRules {
    /// Failed tries in a row that eject; 0 for never.
    pub consecutive: u32,
    /// The share of failed tries in `window` from which on a backend is ejected; none for never.
    pub error_rate: Option<f64>,
    /// A backend is ejected when the median time of its answers is this many times that of the others; none for never.
    pub latency: Option<f64>,
    /// How far back `error_rate` and `latency` look.
    pub window: Duration,
    /// Tries in `window` without which neither judges.
    pub min_tries: u32,
    /// How long the first ejection lasts; each further one twice as long as the one before.
    pub time: Duration,
    /// The longest.
    pub max_time: Duration,
    /// The share of a pool that may be ejected at the same time, from 0.0 to 1.0.
    pub max_ejected: f64,
    /// How long a backend that comes back takes to get its whole share.
    pub slow_start: Duration,
}

impl Default for EjectRules {
    fn default() -> Self {
        EjectRules {
            consecutive: 5,
            error_rate: Some(0.5),
            latency: None,
            window: Duration::from_secs(10),
            min_tries: 20,
            time: Duration::from_secs(10),
            max_time: Duration::from_secs(300),
            max_ejected: 0.5,
            slow_start: Duration::from_secs(10),
        }
    }
}

/// A backend's own rule, as nginx means it: `max_fails` failed tries, each within `fail_timeout` of the one before, eject it
/// for `fail_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailRules {
    /// 0 for never.
    pub max_fails: u32,
    /// Both the time in which failures count together and the length of the first ejection.
    pub fail_timeout: Duration,
}

impl Default for FailRules {
    fn default() -> Self {
        FailRules {
            max_fails: 0,
            fail_timeout: Duration::from_secs(10),
        }
    }
}

/// When probes turn a backend's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeRules {
    /// Good probes in a row that bring a backend back.
    pub rise: u32,
    /// Failed probes in a row that take it out.
    pub fall: u32,
}

/// What a try met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// An answer that is none of the failures, so long after the request had a connection.
    Good(Duration),
    /// A listed status, a reset, or no answer in time.
    Failed,
    /// No connection could be made.
    ConnectFailed,
    /// None, but for this long none came: another backend was faster.
    Late(Duration),
}

/// Whether a backend may be tried, for the balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// It may, with a share that has been growing since this time.
    Warming(Duration),
    /// Not before this time; then by one request at a time.
    Ejected(Duration),
    /// Connections fail: not before one succeeds.
    Unreachable,
    /// Probes say no.
    Down,
    /// It has not been probed yet.
    Checking,
}

impl Gate {
    /// The word of the log and the status page.
    pub fn word(self) -> &'static str {
        match self {
            Gate::Open => "up",
            Gate::Warming(_) => "warming",
            Gate::Ejected(_) => "ejected",
            Gate::Unreachable => "unreachable",
            Gate::Down => "down",
            Gate::Checking => "checking",
        }
    }
}

/// Why a backend was ejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cause {
    /// So many failed tries in a row.
    Consecutive(u32),
    /// So many failed tries within `fail_timeout`.
    MaxFails(u32),
    /// This share of its tries failed.
    ErrorRate(f64),
    /// The request that was to show whether it is well again failed.
    Trial,
    /// A second request to another backend overtook that one.
    Overtaken,
    /// Its answers take this many times as long as those of the others.
    Latency(f64),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Consecutive(n) => write!(f, "{n} failed tries in a row"),
            Cause::MaxFails(n) => write!(f, "{n} failed tries within fail_timeout"),
            Cause::ErrorRate(share) => write!(f, "{:.0} % of its tries failed", share * 100.0),
            Cause::Trial => f.write_str("the trial request failed"),
            Cause::Overtaken => f.write_str("another backend was faster than its trial request"),
            Cause::Latency(times) => write!(f, "{times:.1} times as slow as the others"),
        }
    }
}

/// What changed, for the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Ejected, for so long.
    Ejected(Cause, Duration),
    /// Back after an ejection.
    Returned,
    /// Connections fail.
    Unreachable,
    /// Connections succeed again.
    Reachable,
    /// Probes turned it off.
    Down,
    /// Probes turned it on.
    Up,
}

/// All that is known of one backend.
#[derive(Debug)]
pub struct Health {
    /// What probes say; none before the first one.
    probed: Option<bool>,
    /// Whether nothing goes there before the first probe.
    checking: bool,
    /// Probes in a row that say otherwise.
    contrary: u32,
    /// Failed connections in a row.
    unconnected: u32,
    unreachable: bool,
    /// Failed tries in a row.
    in_a_row: u32,
    /// nginx's count, and when it last grew.
    fails: u32,
    failed_at: Duration,
    ejection: Option<Ejection>,
    /// How long the last ejection was, and when it ended.
    last: Option<(Duration, Duration)>,
    warming: Option<Duration>,
    window: Window,
}

#[derive(Debug, Clone, Copy)]
struct Ejection {
    until: Duration,
    lasts: Duration,
}

impl Health {
    /// Nothing known. `checking`: whether it waits for its first probe.
    pub fn new(checking: bool, window: Duration) -> Self {
        Health {
            probed: None,
            checking,
            contrary: 0,
            unconnected: 0,
            unreachable: false,
            in_a_row: 0,
            fails: 0,
            failed_at: Duration::ZERO,
            ejection: None,
            last: None,
            warming: None,
            window: Window::new(window),
        }
    }

    /// Whether it may be tried.
    pub fn gate(&self) -> Gate {
        if self.unreachable {
            Gate::Unreachable
        } else if self.probed == Some(false) {
            Gate::Down
        } else if self.probed.is_none() && self.checking {
            Gate::Checking
        } else if let Some(ejection) = self.ejection {
            Gate::Ejected(ejection.until)
        } else {
            self.warming.map_or(Gate::Open, Gate::Warming)
        }
    }

    /// Whether a good answer to a try that is no trial would change nothing but what [`Self::window`] counts.
    pub fn is_sound(&self) -> bool {
        self.in_a_row == 0 && self.unconnected == 0 && !self.unreachable
    }

    /// The tries of the last while.
    pub fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Takes note of a try. `trial`: whether it began while the backend was ejected. `may_eject` is only asked when the
    /// rules say that it is to be.
    pub fn observe(
        &mut self,
        rules: &EjectRules,
        own: FailRules,
        now: Duration,
        seen: Observation,
        trial: bool,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Change> {
        match seen {
            Observation::Good(latency) => {
                self.window.record(now, true, latency);
                self.in_a_row = 0;
                self.good(now, trial)
            }
            // Neither good nor bad, but slow; what had failed in a row before still has. A trial asks for more: the next one
            // is as far off as this one was.
            Observation::Late(latency) => {
                self.window.record(now, true, latency);
                match trial {
                    true => self.trial_failed(rules, now, 1, Cause::Overtaken),
                    false => None,
                }
            }
            // It was under way when the backend went. That comes back by a connection, or by a good answer.
            Observation::Failed | Observation::ConnectFailed if self.unreachable => {
                self.window.record(now, false, None);
                None
            }
            Observation::Failed | Observation::ConnectFailed => {
                self.window.record(now, false, None);
                self.in_a_row = self.in_a_row.saturating_add(1);
                if now.saturating_sub(self.failed_at) > own.fail_timeout {
                    self.fails = 0;
                }
                self.fails = self.fails.saturating_add(1);
                self.failed_at = now;
                if seen == Observation::ConnectFailed {
                    self.unconnected = self.unconnected.saturating_add(1);
                    if self.unconnected >= UNREACHABLE_AFTER {
                        self.unreachable = true;
                        return Some(Change::Unreachable);
                    }
                } else {
                    self.unconnected = 0;
                }
                self.failed(rules, own, now, trial, may_eject)
            }
        }
    }

    fn good(&mut self, now: Duration, trial: bool) -> Option<Change> {
        self.unconnected = 0;
        let reachable = std::mem::take(&mut self.unreachable);
        if reachable && self.probed == Some(false) {
            // A good answer says more than a probe that could not connect.
            self.probed = Some(true);
            self.contrary = 0;
        }
        if trial && self.ejection.is_some() {
            self.return_at(now);
            return Some(Change::Returned);
        }
        if reachable {
            self.forget();
            self.warming = Some(now);
            return Some(Change::Reachable);
        }
        None
    }

    fn failed(
        &mut self,
        rules: &EjectRules,
        own: FailRules,
        now: Duration,
        trial: bool,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Change> {
        if self.ejection.is_some() {
            // Tries that began before the ejection say nothing new.
            return match trial {
                true => self.trial_failed(rules, now, 2, Cause::Trial),
                false => None,
            };
        }
        let cause = self.cause(rules, own, now)?;
        if !may_eject() {
            return None;
        }
        let first = match cause {
            Cause::MaxFails(_) => own.fail_timeout,
            _ => rules.time,
        };
        let lasts = self.next_length(now, first);
        Some(self.eject(rules, now, lasts, cause))
    }

    /// The trial of an ejected backend did not succeed: it goes for so many times as long.
    fn trial_failed(
        &mut self,
        rules: &EjectRules,
        now: Duration,
        times: u32,
        cause: Cause,
    ) -> Option<Change> {
        let ejection = self.ejection.filter(|ejection| now >= ejection.until)?;
        let lasts = ejection.lasts.saturating_mul(times);
        Some(self.eject(rules, now, lasts, cause))
    }

    /// Which rule says that it is to go.
    fn cause(&mut self, rules: &EjectRules, own: FailRules, now: Duration) -> Option<Cause> {
        if own.max_fails > 0 && self.fails >= own.max_fails {
            return Some(Cause::MaxFails(self.fails));
        }
        if rules.consecutive > 0 && self.in_a_row >= rules.consecutive {
            return Some(Cause::Consecutive(self.in_a_row));
        }
        let bound = rules.error_rate?;
        let totals = self.window.totals(now);
        let all = totals.good + totals.failed;
        if all < u64::from(rules.min_tries) {
            return None;
        }
        // Counts of a few seconds are far below 2^52.
        let share = totals.failed as f64 / all as f64;
        (share >= bound).then_some(Cause::ErrorRate(share))
    }

    /// Ejects a backend that is slower than the others; see [`slower`].
    pub fn too_slow(
        &mut self,
        rules: &EjectRules,
        now: Duration,
        times: f64,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Change> {
        if self.ejection.is_some() || !may_eject() {
            return None;
        }
        let lasts = self.next_length(now, rules.time);
        Some(self.eject(rules, now, lasts, Cause::Latency(times)))
    }

    /// Twice the last ejection, unless the backend was well for longer than that since.
    fn next_length(&self, now: Duration, first: Duration) -> Duration {
        match self.last {
            Some((lasted, ended)) if now.saturating_sub(ended) <= lasted.saturating_mul(2) => {
                lasted.saturating_mul(2)
            }
            _ => first,
        }
    }

    fn eject(
        &mut self,
        rules: &EjectRules,
        now: Duration,
        lasts: Duration,
        cause: Cause,
    ) -> Change {
        let lasts = lasts.min(rules.max_time);
        self.ejection = Some(Ejection {
            until: now.saturating_add(lasts),
            lasts,
        });
        Change::Ejected(cause, lasts)
    }

    fn return_at(&mut self, now: Duration) {
        if let Some(ejection) = self.ejection.take() {
            self.last = Some((ejection.lasts, now));
        }
        self.warming = Some(now);
        // What it did before it went must not send it away again.
        self.forget();
    }

    fn forget(&mut self) {
        self.window.clear();
        self.in_a_row = 0;
        self.fails = 0;
    }

    /// Takes note of a probe. It does not say whether requests can be sent there: it may have gone to another port.
    pub fn probe(&mut self, rules: ProbeRules, now: Duration, good: bool) -> Option<Change> {
        let up = match self.probed {
            Some(up) => up,
            None if self.checking => {
                self.probed = Some(good);
                return Some(if good { Change::Up } else { Change::Down });
            }
            // It has been taken for up until now.
            None => {
                self.probed = Some(true);
                true
            }
        };
        if up == good {
            self.contrary = 0;
            return None;
        }
        self.contrary = self.contrary.saturating_add(1);
        let needed = if good { rules.rise } else { rules.fall };
        if self.contrary < needed {
            return None;
        }
        self.contrary = 0;
        self.probed = Some(good);
        if good {
            self.return_at(now);
            Some(Change::Up)
        } else {
            Some(Change::Down)
        }
    }

    /// A connection could be made, outside of any try.
    pub fn reached(&mut self, now: Duration) -> Option<Change> {
        self.unconnected = 0;
        if !std::mem::take(&mut self.unreachable) {
            return None;
        }
        self.warming = Some(now);
        // Connections that could not be made must not send it away once they can.
        self.forget();
        Some(Change::Reachable)
    }

    /// Whether probes are made is for the file to say: forgets what they said once there are none, and waits for the first
    /// one where there are.
    pub fn settle(&mut self, probed: bool, window: Duration) {
        if !probed {
            self.probed = None;
            self.checking = false;
            self.contrary = 0;
        }
        if self.window.span() != window {
            self.window = Window::new(window);
        }
    }
}

/// Whether one more backend of a pool may be ejected: `pool` is how many of it could be tried if none were, of which `ejected`
/// are. Never the last one, whatever `max_ejected` (0.0 to 1.0) says; of two, one may always go unless it is 0.
pub fn may_eject(pool: usize, ejected: usize, max_ejected: f64) -> bool {
    if pool < 2 || max_ejected <= 0.0 {
        return false;
    }
    // A pool has far fewer than 2^52 backends.
    let share = (pool as f64 * max_ejected.min(1.0)).floor();
    let limit = (share as usize).clamp(1, pool - 1);
    ejected < limit
}

/// How many times as slow as the others backend `i` is, by the medians of their answers, where that is at least `times`; none
/// where too few others have one.
pub fn slower(medians: &[Option<Duration>], i: usize, times: f64) -> Option<f64> {
    let own = medians.get(i).copied().flatten()?;
    let mut others: Vec<Duration> = medians
        .iter()
        .enumerate()
        .filter(|(n, _)| *n != i)
        .filter_map(|(_, median)| *median)
        .collect();
    others.sort_unstable();
    // The lower one of two: with one other backend that is itself, with two the better.
    let other = others.get((others.len().checked_sub(1)?) / 2)?;
    let ratio = own.as_secs_f64() / other.as_secs_f64().max(1e-9);
    (ratio >= times).then_some(ratio)
}

/// What part of its share a backend that came back at `since` gets: it grows from a tenth to the whole over `slow_start`.
pub fn warm_share(now: Duration, since: Duration, slow_start: Duration) -> f64 {
    let warm = now.saturating_sub(since);
    if warm >= slow_start {
        return 1.0;
    }
    (warm.as_secs_f64() / slow_start.as_secs_f64()).max(0.1)
}

#[cfg(test)]
mod tests;
