//! One backend: its address, what its name resolves to, how many tries run on it, and how it fares.
//!
//! Shared by all workers and carried over a reload while its address stays the same. Everything a request touches here is
//! an atomic.

use super::line::Line;
use super::own::Own;
use super::standing::{Begun, Standing};
use crate::config::{BackendAddress, Host};
use crate::policy::outcome::{Outcome, WORDS};
use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// One address in an upstream.
#[derive(Debug)]
pub struct Backend {
    /// As written.
    pub address: BackendAddress,
    /// `address` as text, for logs.
    pub label: String,
    /// Whether it may be tried, and why not.
    pub standing: Standing,
    target: Target,
    counts: CachePadded<Counts>,
    /// The most tries at once, under the configuration in force; `u32::MAX` for no bound.
    max_conns: AtomicU32,
    /// Which of its shared connections are in use: those of before get no new request.
    connections: Generation,
    /// Called whenever a try ends: somebody may wait for a backend that is not full.
    line: Arc<Line>,
}

/// What each try changes.
#[derive(Debug, Default)]
struct Counts {
    active: AtomicU32,
    tries: AtomicU64,
    failures: AtomicU64,
    outcomes: [AtomicU64; WORDS.len()],
}

#[derive(Debug)]
enum Target {
    Fixed(SocketAddr),
    Name {
        /// The last good answer; empty until there is one.
        answers: ArcSwap<Vec<Answer>>,
        next: AtomicUsize,
        /// Whether the last lookup found nothing.
        unresolvable: AtomicBool,
    },
}

/// One address of a name.
#[derive(Debug)]
struct Answer {
    address: SocketAddr,
    /// Whether the last connection to it failed: it is then passed over while the name has others, until a lookup brings
    /// different addresses or all of them have failed.
    failed: AtomicBool,
}

/// A number that moves on when connections are not to be used any more.
#[derive(Debug, Default)]
struct Generation {
    number: AtomicU64,
    /// When it last did, in whole seconds of [`crate::clock`], and one.
    moved: AtomicU64,
}

impl Generation {
    fn renew(&self, now: Duration) {
        let second = now.as_secs() + 1;
        // Who asks may be a moment behind.
        if self.moved.fetch_max(second, Ordering::Relaxed) < second {
            self.number.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Backend {
    /// A backend nothing is known of yet. `checking`: whether it is to be probed before anything goes there; `window`: how far
    /// back its tries are looked at; `line`: who waits for it or another one of its upstream.
    pub fn new(address: BackendAddress, checking: bool, window: Duration, line: Arc<Line>) -> Self {
        let target = match &address.host {
            Host::Ip(ip) => Target::Fixed(SocketAddr::new(*ip, address.port)),
            Host::Name(_) => Target::Name {
                answers: ArcSwap::default(),
                next: AtomicUsize::new(0),
                unresolvable: AtomicBool::new(false),
            },
        };
        Backend {
            label: address.to_string(),
            address,
            standing: Standing::new(checking, window),
            target,
            counts: CachePadded::default(),
            max_conns: AtomicU32::new(u32::MAX),
            connections: Generation::default(),
            line,
        }
    }

    /// Where to connect: the address itself, or the addresses of its name in turn. `None` while the name has never been
    /// resolved.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match &self.target {
            Target::Fixed(address) => Some(*address),
            Target::Name { answers, next, .. } => {
                let answers = answers.load();
                if answers.is_empty() {
                    return None;
                }
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let in_turn = || (0..answers.len()).map(|n| &answers[(turn + n) % answers.len()]);
                let sound = in_turn().find(|answer| !answer.failed.load(Ordering::Relaxed));
                sound
                    .or_else(|| in_turn().next())
                    .map(|answer| answer.address)
            }
        }
    }

    /// What its connections of HTTP/2 are told from those before by.
    pub fn generation(&self) -> u64 {
        self.connections.number.load(Ordering::Relaxed)
    }

    /// Something on a connection that others share did not come: what comes next gets another one. Once in a second at most:
    /// what is slow is not to get a connection for each request.
    pub fn distrust_connections(&self, now: Duration) {
        self.connections.renew(now);
    }

    /// Takes note of whether a connection to `address`, one of its own, could be made.
    pub fn connected(&self, address: SocketAddr, made: bool) {
        if let Target::Name { answers, .. } = &self.target {
            let answers = answers.load();
            if let Some(answer) = answers.iter().find(|a| a.address == address)
                && answer.failed.load(Ordering::Relaxed) == made
            {
                answer.failed.store(!made, Ordering::Relaxed);
            }
        }
    }

    /// Whether [`Self::socket_address`] would find one.
    pub fn has_address(&self) -> bool {
        match &self.target {
            Target::Fixed(_) => true,
            Target::Name { answers, .. } => !answers.load().is_empty(),
        }
    }

    /// The name to look up, if it is one.
    pub fn name(&self) -> Option<&str> {
        match &self.address.host {
            Host::Ip(_) => None,
            Host::Name(name) => Some(name),
        }
    }

    /// Takes a new answer for the name; says whether it differs from the last. An empty answer is ignored: the last good
    /// one stays.
    pub fn resolved(&self, mut addresses: Vec<SocketAddr>) -> bool {
        let Target::Name { answers, .. } = &self.target else {
            return false;
        };
        addresses.sort_unstable();
        addresses.dedup();
        let known = answers.load();
        if addresses.is_empty() || known.iter().map(|a| &a.address).eq(&addresses) {
            return false;
        }
        let fresh = addresses.into_iter().map(|address| Answer {
            address,
            failed: AtomicBool::new(false),
        });
        answers.store(Arc::new(fresh.collect()));
        true
    }

    /// Takes note of whether a lookup found nothing; says whether that is new.
    pub fn set_unresolvable(&self, nothing: bool) -> bool {
        match &self.target {
            Target::Fixed(_) => false,
            Target::Name { unresolvable, .. } => {
                let before = unresolvable.swap(nothing, Ordering::Relaxed);
                nothing && !before
            }
        }
    }

    /// Tries under way.
    pub fn active(&self) -> u32 {
        self.counts.active.load(Ordering::Relaxed)
    }

    /// Tries so far.
    pub fn tries(&self) -> u64 {
        self.counts.tries.load(Ordering::Relaxed)
    }

    /// Those of them that failed.
    pub fn failures(&self) -> u64 {
        self.counts.failures.load(Ordering::Relaxed)
    }

    /// Counts a try that is made.
    pub fn count_try(&self) {
        self.counts.tries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed try.
    pub fn count_failure(&self) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts how a try ended.
    pub fn count_outcome(&self, outcome: Outcome) {
        if let Some(count) = self.counts.outcomes.get(outcome.place()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How tries ended: each word and how often.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .counts
            .outcomes
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        WORDS.into_iter().zip(counts)
    }

    /// Puts another bound on its tries in force.
    pub fn set_max_conns(&self, most: Option<u32>) {
        self.max_conns
            .store(most.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Whether as many tries run as may.
    pub fn is_full(&self) -> bool {
        self.active() >= self.max_conns.load(Ordering::Relaxed)
    }
}

/// A try under way; ends when dropped, also when its request is cancelled or panics.
#[derive(Debug)]
pub struct Active {
    backend: Own<Backend>,
    /// Whether it is a trial that nothing was heard of yet.
    is_trial: AtomicBool,
    /// Whether it is, or was, the one there is.
    holds_trial: bool,
    ended: bool,
}

impl Active {
    /// Begins a try, which is counted for as long as this lives; none if `max_conns` tries run already, or if the backend is
    /// ejected and another request is its trial. `forced`: whether it goes there for lack of any other.
    pub fn begin(backend: &Own<Backend>, forced: bool) -> Option<Self> {
        let before = backend.counts.active.fetch_add(1, Ordering::Relaxed);
        let mut active = Active {
            backend: backend.clone(),
            is_trial: AtomicBool::new(false),
            holds_trial: false,
            ended: false,
        };
        if before >= backend.max_conns.load(Ordering::Relaxed) {
            return None;
        }
        let is_trial = backend.standing.begin(forced)? == Begun::Trial;
        active.is_trial = AtomicBool::new(is_trial);
        active.holds_trial = is_trial && !forced;
        Some(active)
    }

    /// The backend it runs on.
    pub fn backend(&self) -> &Own<Backend> {
        &self.backend
    }

    /// How it stands to the rotation. A trial is one until it is known what it has met: what follows, say of a stream that
    /// goes on for hours, says of its backend what any other try does.
    pub fn begun(&self) -> Begun {
        match self.is_trial.load(Ordering::Relaxed) {
            true => Begun::Trial,
            false => Begun::InTurn,
        }
    }

    /// It is known what it has met: another one may be a trial, where that is needed.
    pub fn is_known(&self) {
        if self.is_trial.swap(false, Ordering::Relaxed) && self.holds_trial {
            self.backend.standing.end_trial();
        }
    }

    /// The backend has done its part: whoever hears of the end of its answer finds it free.
    pub fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.backend.counts.active.fetch_sub(1, Ordering::Relaxed);
            self.backend.line.call();
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.is_known();
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Backend {
        let address = BackendAddress {
            host: Host::Name("spare.internal".into()),
            port: 80,
        };
        Backend::new(address, false, Duration::from_secs(10), Arc::default())
    }

    fn at(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_is_unusable_until_resolved_and_keeps_its_last_good_answer() {
        let backend = named();
        assert!(!backend.has_address());
        assert_eq!(backend.socket_address(), None);
        assert!(backend.resolved(at(&["10.0.0.2:80", "10.0.0.1:80"])));
        assert!(
            !backend.resolved(at(&["10.0.0.1:80", "10.0.0.2:80"])),
            "order does not matter"
        );
        assert!(!backend.resolved(vec![]), "no answer is not an answer");
        let seen: Vec<_> = (0..4).filter_map(|_| backend.socket_address()).collect();
        assert_eq!(
            seen,
            at(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80", "10.0.0.2:80"])
        );
    }

    #[test]
    fn an_address_that_refuses_is_passed_over_while_there_are_others() {
        let backend = named();
        let (one, two) = (at(&["10.0.0.1:80"])[0], at(&["10.0.0.2:80"])[0]);
        backend.resolved(vec![one, two]);
        let seen =
            |n: usize| -> Vec<_> { (0..n).filter_map(|_| backend.socket_address()).collect() };
        backend.connected(one, false);
        assert_eq!(seen(3), [two, two, two]);
        backend.connected(two, false);
        assert!(seen(4).contains(&one), "none is sound: all are tried");
        backend.connected(one, true);
        assert_eq!(seen(3), [one, one, one]);
    }

    #[test]
    fn a_try_is_counted_while_its_guard_lives() {
        let backend = Own::new(Arc::new(named()));
        backend.set_max_conns(Some(2));
        let first = Active::begin(&backend, false);
        let second = Active::begin(&backend, false);
        assert_eq!(backend.active(), 2);
        assert!(Active::begin(&backend, false).is_none(), "it is full");
        assert_eq!(backend.active(), 2);
        drop(first);
        drop(second);
        assert_eq!(backend.active(), 0);
    }
}
