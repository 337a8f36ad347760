//! What is known of a backend's health, and whether it may be tried: the lock around `policy::health`, and its verdict as an
//! atomic that the balancer reads.
//!
//! Told of every try by `proxy`, of every probe by [`super::probes`]. Good answers of a sound backend change nothing but their
//! count: each worker notes them by itself, and the lock's holder takes them in. Decides nothing; logs what changed.

use super::comeback;
use crate::clock;
use crate::observe::parts::Parts;
use crate::policy::health::{Change, EjectRules, FailRules, Gate, Health, Observation, ProbeRules};
use crate::policy::window::{Batch, Window};
use crossbeam_utils::CachePadded;
use log::{info, warn};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A backend's health, shared by all workers.
#[derive(Debug)]
pub struct Standing {
    health: CachePadded<Mutex<Health>>,
    /// What workers have seen of good answers and not told it yet.
    good: Parts<Batch>,
    /// The gate as last published, see [`encode`].
    gate: AtomicU64,
    /// Whether good answers change nothing else, and in slices of which length they are counted.
    is_sound: AtomicBool,
    slice: AtomicU64,
    /// Whether the one request runs that an ejected backend gets when its time is over.
    trial: AtomicBool,
    /// Whether the operator took it out, until the next reload.
    drained: AtomicBool,
    /// When it was probed last, and when it was last tried to connect to, in nanoseconds of [`clock`]; 0 for never.
    probed_at: AtomicU64,
    knocked_at: AtomicU64,
    /// Of its own, so that backends which were probed at the same moment are not the next time.
    seed: u64,
    /// How often it was ejected since the start.
    ejections: AtomicU64,
    /// Whether either is under way.
    probing: AtomicBool,
    last_failure: Mutex<Option<Failed>>,
}

/// The last thing that went wrong, for whoever looks.
#[derive(Debug, Clone)]
pub struct Failed {
    /// In words.
    pub what: String,
    /// When, by [`clock`].
    pub at: Duration,
}

/// How a try stands to the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// As any other.
    InTurn,
    /// The backend is ejected: this shows whether it is well again.
    Trial,
}

/// A gate in one word: the kind in the upper three bits, its time in the others, which hold 73 years of nanoseconds.
fn encode(gate: Gate) -> u64 {
    let (kind, time) = match gate {
        Gate::Open => (0, Duration::ZERO),
        Gate::Warming(since) => (1, since),
        Gate::Ejected(until) => (2, until),
        Gate::Unreachable => (3, Duration::ZERO),
        Gate::Down => (4, Duration::ZERO),
        Gate::Checking => (5, Duration::ZERO),
    };
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    (kind << 61) | nanos.min((1 << 61) - 1)
}

fn decode(word: u64) -> Gate {
    let time = Duration::from_nanos(word & ((1 << 61) - 1));
    match word >> 61 {
        0 => Gate::Open,
        1 => Gate::Warming(time),
        2 => Gate::Ejected(time),
        3 => Gate::Unreachable,
        4 => Gate::Down,
        _ => Gate::Checking,
    }
}

impl Standing {
    /// Of a backend nothing is known of. `checking`: whether it is to be probed before anything goes there.
    pub fn new(checking: bool, window: Duration) -> Self {
        let mut health = Health::new(checking, window);
        let slice = health.window().slice();
        Standing {
            gate: AtomicU64::new(encode(health.gate())),
            is_sound: AtomicBool::new(health.is_sound()),
            slice: AtomicU64::new(slice),
            good: Parts::default(),
            health: CachePadded::new(Mutex::new(health)),
            trial: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            probed_at: AtomicU64::new(0),
            knocked_at: AtomicU64::new(0),
            seed: fastrand::u64(..),
            ejections: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            last_failure: Mutex::new(None),
        }
    }

    /// Under the rules of a new configuration.
    pub fn settle(&self, probed: bool, window: Duration) {
        self.drained.store(false, Ordering::Relaxed);
        let mut health = self.lock();
        health.settle(probed, window);
        self.slice.store(health.window().slice(), Ordering::Relaxed);
        self.publish(&health);
    }

    /// Whether it may be tried, as far as health goes.
    pub fn gate(&self) -> Gate {
        decode(self.gate.load(Ordering::Relaxed))
    }

    /// Whether the operator took it out.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Takes it out, or back in.
    pub fn drain(&self, out: bool) {
        self.drained.store(out, Ordering::Relaxed);
    }

    /// Whether the one trial of an ejected backend is free.
    pub fn trial_is_free(&self) -> bool {
        !self.trial.load(Ordering::Relaxed)
    }

    /// Begins a try: says how it stands, or none if another was faster to take the one trial there is. `forced`: whether it
    /// goes there for lack of any other.
    pub fn begin(&self, forced: bool) -> Option<Begun> {
        match self.gate() {
            Gate::Ejected(_) if forced => Some(Begun::Trial),
            Gate::Ejected(_) => {
                let taken = self.trial.swap(true, Ordering::AcqRel);
                (!taken).then_some(Begun::Trial)
            }
            _ => Some(Begun::InTurn),
        }
    }

    /// A trial ended, however it did.
    pub fn end_trial(&self) {
        self.trial.store(false, Ordering::Release);
    }

    /// Takes note of what a try met.
    pub fn observe(
        &self,
        label: &str,
        (rules, own): (&EjectRules, FailRules),
        seen: Observation,
        begun: Begun,
        may_eject: impl FnOnce() -> bool,
    ) {
        let now = clock::now();
        if let (Observation::Good(latency), Begun::InTurn) = (seen, begun)
            && self.is_sound.load(Ordering::Relaxed)
            && self.note_good(now, latency)
        {
            return;
        }
        let mut health = self.lock();
        let change = health.observe(rules, own, now, seen, begun == Begun::Trial, may_eject);
        self.publish(&health);
        self.tell(label, change);
    }

    /// Counts a good answer where this worker counts by itself, if it is of the same slice as those before.
    fn note_good(&self, now: Duration, latency: Duration) -> bool {
        let slice = self.slice.load(Ordering::Relaxed);
        self.good.own().record(slice, now, latency)
    }

    /// Notes what went wrong, for whoever looks.
    pub fn failed(&self, what: String) {
        let mut last = self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(Failed {
            what,
            at: clock::now(),
        });
    }

    /// The last thing that went wrong.
    pub fn last_failure(&self) -> Option<Failed> {
        let last = self.last_failure.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of a probe.
    pub fn probed(&self, label: &str, rules: ProbeRules, result: Result<(), String>) {
        let mut health = self.lock();
        let change = health.probe(rules, clock::now(), result.is_ok());
        self.publish(&health);
        self.tell(label, change);
        drop(health);
        if let Err(why) = result {
            if change == Some(Change::Down) {
                warn!("backend {label}: {why}");
            }
            self.failed(format!("probe: {why}"));
        }
    }

    /// A connection could be made, outside of any try.
    pub fn reached(&self, label: &str) {
        let mut health = self.lock();
        let change = health.reached(clock::now());
        self.publish(&health);
        self.tell(label, change);
    }

    /// Ejects it for being so many times as slow as the others.
    pub fn too_slow(
        &self,
        label: &str,
        rules: &EjectRules,
        times: f64,
        may_eject: impl FnOnce() -> bool,
    ) {
        let mut health = self.lock();
        let change = health.too_slow(rules, clock::now(), times, may_eject);
        self.publish(&health);
        self.tell(label, change);
    }

    /// The median time of its answers in the last while, if there were at least so many.
    pub fn median(&self, at_least: u32) -> Option<Duration> {
        let now = clock::now();
        let mut health = self.lock();
        let window = health.window();
        let enough = window.totals(now).good >= u64::from(at_least);
        if enough {
            window.quantile(now, 0.5)
        } else {
            None
        }
    }

    /// Reads its tries of the last while.
    pub fn read<T>(&self, read: impl FnOnce(&mut Window) -> T) -> T {
        read(self.lock().window())
    }

    /// Takes the next probe if the last was so long ago.
    pub fn take_probe(&self, now: Duration, interval: Duration) -> bool {
        self.take(&self.probed_at, now, interval)
    }

    /// How often it was ejected since the start.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Takes the next connection to see whether one can be made, if the last was so long ago.
    pub fn take_knock(&self, now: Duration, interval: Duration) -> bool {
        self.take(&self.knocked_at, now, interval)
    }

    fn take(&self, last: &AtomicU64, now: Duration, interval: Duration) -> bool {
        let before = last.load(Ordering::Relaxed);
        // Up to a tenth less, the same until the next one: a thousand backends are not probed in the same moment for ever.
        let mixed = (before ^ self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let spread = f64::from((mixed >> 56) as u8) / 255.0;
        let interval = interval.mul_f64(1.0 - 0.1 * spread);
        let due = before == 0 || Duration::from_nanos(before) + interval <= now;
        if !due || self.probing.swap(true, Ordering::AcqRel) {
            return false;
        }
        last.store(nanos(now).max(1), Ordering::Relaxed);
        true
    }

    /// The probe that was taken ended, and with it is known how the backend is, or not.
    pub fn end_probe(&self, is_known: bool) {
        if !is_known {
            self.probed_at.store(0, Ordering::Relaxed);
        }
        self.probing.store(false, Ordering::Release);
    }

    /// Its health, told all that workers have seen.
    fn lock(&self) -> MutexGuard<'_, Health> {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        for mut good in self.good.all() {
            health.window().take_in(&mut good);
        }
        health
    }

    fn publish(&self, health: &Health) {
        self.is_sound.store(health.is_sound(), Ordering::Relaxed);
        let gate = health.gate();
        let word = encode(gate);
        let before = self.gate.load(Ordering::Relaxed);
        if before != word {
            self.gate.store(word, Ordering::Relaxed);
            let opens = matches!(gate, Gate::Open | Gate::Warming(_));
            if opens && !matches!(decode(before), Gate::Open | Gate::Warming(_)) {
                comeback::tell();
            }
        }
    }

    fn tell(&self, label: &str, change: Option<Change>) {
        let Some(change) = change else { return };
        match change {
            Change::Ejected(cause, lasts) => {
                self.ejections.fetch_add(1, Ordering::Relaxed);
                warn!("backend {label} is ejected for {lasts:.1?}: {cause}");
            }
            Change::Returned => info!("backend {label} is back: a trial request succeeded"),
            Change::Unreachable => {
                warn!(
                    "backend {label} is unreachable: nothing is sent there until it takes connections"
                );
            }
            Change::Reachable => info!("backend {label} takes connections again"),
            Change::Down => warn!("backend {label} is down: its health check fails"),
            Change::Up => info!("backend {label} is up: its health check succeeds"),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_fits_into_one_word() {
        let time = Duration::from_nanos(123_456_789_012_345);
        for gate in [
            Gate::Open,
            Gate::Warming(time),
            Gate::Ejected(time),
            Gate::Unreachable,
            Gate::Down,
            Gate::Checking,
        ] {
            assert_eq!(decode(encode(gate)), gate);
        }
    }

    #[test]
    fn an_ejected_backend_gets_one_trial_at_a_time() {
        let standing = Standing::new(false, Duration::from_secs(10));
        let rules = EjectRules {
            consecutive: 1,
            ..EjectRules::default()
        };
        let fail = |begun| {
            standing.observe(
                "b",
                (&rules, FailRules::default()),
                Observation::Failed,
                begun,
                || true,
            );
        };
        assert_eq!(standing.begin(false), Some(Begun::InTurn));
        fail(Begun::InTurn);
        assert!(matches!(standing.gate(), Gate::Ejected(_)));
        assert_eq!(standing.begin(false), Some(Begun::Trial));
        assert_eq!(standing.begin(false), None);
        assert_eq!(
            standing.begin(true),
            Some(Begun::Trial),
            "for lack of others"
        );
        standing.end_trial();
        assert_eq!(standing.begin(false), Some(Begun::Trial));
    }
}
