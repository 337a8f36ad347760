//! A moment's wait for an upstream of which no backend can be reached.
//!
//! Who asks then is not refused at once: it is found out first, by connections beside the requests, whether a backend is
//! back. So nobody who comes after it is gets an error, and backends that are gone have few connections. Called by
//! `proxy::entry`.

use super::check::{self, Check};
use super::probes::Done;
use super::{Backend, Upstream};
use crate::clock;
use crate::policy::health::ProbeRules;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// From one attempt to connect to the next, over all requests.
const APART: Duration = Duration::from_millis(20);
/// How long one may take.
const PATIENCE: Duration = Duration::from_millis(40);
/// How long a request waits: for an attempt that begins after it came, and for what comes of it.
const MOMENT: Duration = Duration::from_millis(30);
/// Backends that are tried at the same time, the next ones the next time.
const AT_ONCE: usize = 4;
/// Requests that wait for one upstream at most.
const WAITING: usize = 1000;

/// Told when a backend of any upstream can be used again, which is seldom.
static BACK: Notify = Notify::const_new();

/// A backend can be used again.
pub(super) fn tell() {
    BACK.notify_waiters();
}

/// Who hopes that a backend of an upstream is back.
#[derive(Debug, Default)]
pub struct Hope {
    waiting: AtomicUsize,
    /// Whether somebody tries for all of them.
    knocking: AtomicBool,
    /// When it was last tried, in nanoseconds of [`clock`], and how often.
    tried_at: AtomicU64,
    tries: AtomicUsize,
}

impl Hope {
    /// Whether the next attempt should have been made.
    fn is_overdue(&self, now: Duration) -> bool {
        let before = Duration::from_nanos(self.tried_at.load(Ordering::Relaxed));
        now.saturating_sub(before) >= 2 * APART
    }

    /// Takes the next attempt, or says how long it is until then.
    fn take(&self, now: Duration) -> Result<usize, Duration> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let order = Ordering::Relaxed;
        let before = self.tried_at.load(order);
        let since = now.saturating_sub(Duration::from_nanos(before));
        if before != 0 && since < APART {
            return Err(APART - since);
        }
        match self
            .tried_at
            .compare_exchange(before, nanos(now).max(1), order, order)
        {
            Ok(_) => Ok(self.tries.fetch_add(1, order)),
            Err(_) => Err(APART),
        }
    }
}

/// Somebody who tries for all who wait. However that ends, with the worker that it is on for one: another one can begin.
struct Knocking(Arc<Upstream>);

impl Drop for Knocking {
    fn drop(&mut self) {
        self.0.hope.knocking.store(false, Ordering::SeqCst);
    }
}

/// One more that waits, until dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Place(waiting);
        (waiting.fetch_add(1, Ordering::SeqCst) < WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Upstream {
    /// Waits a moment for a backend that can be used; says whether there is one.
    pub async fn comes_back(self: &Arc<Self>) -> bool {
        let Some(_place) = Place::take(&self.hope.waiting) else {
            return !self.is_down();
        };
        let until = tokio::time::Instant::now() + MOMENT;
        loop {
            let mut back = std::pin::pin!(BACK.notified());
            // Before it is looked: what comes back in between is heard of.
            back.as_mut().enable();
            if !self.is_down() {
                return true;
            }
            if self.gone().next().is_none() {
                return false;
            }
            self.go_knocking();
            if self.hope.is_overdue(clock::now())
                && let Ok(number) = self.hope.take(clock::now())
            {
                // Nobody has begun yet, or who is at it is held up.
                self.knock(number);
            }
            if tokio::time::timeout_at(until, back).await.is_err() {
                return !self.is_down();
            }
        }
    }

    /// Sees to it that somebody tries to connect for as long as anybody waits.
    fn go_knocking(self: &Arc<Self>) {
        if self.hope.knocking.swap(true, Ordering::SeqCst) {
            return;
        }
        let knocking = Knocking(self.clone());
        tokio::spawn(async move {
            let upstream = &knocking.0;
            let is_wanted = || upstream.hope.waiting.load(Ordering::SeqCst) > 0;
            while is_wanted() && upstream.is_down() {
                match upstream.hope.take(clock::now()) {
                    Ok(number) => upstream.knock(number),
                    Err(next) => tokio::time::sleep(next).await,
                }
            }
            let upstream = upstream.clone();
            drop(knocking);
            // Who came in between has found somebody at it.
            if upstream.hope.waiting.load(Ordering::SeqCst) > 0 && upstream.is_down() {
                upstream.go_knocking();
            }
        });
    }

    /// Tries to connect to some that are gone.
    fn knock(&self, number: usize) {
        let gone: Vec<_> = self.gone().collect();
        let first = number.wrapping_mul(AT_ONCE);
        for i in 0..gone.len().min(AT_ONCE) {
            let backend = gone.get(first.wrapping_add(i) % gone.len());
            let Some(backend) = backend.copied().cloned() else {
                continue;
            };
            let Some(address) = backend.socket_address() else {
                continue;
            };
            let (check, tls) = (self.check.clone(), self.tls.clone());
            let http2 = self.http2;
            tokio::spawn(async move {
                let connected =
                    check::connect(address, &backend, (tls.as_deref(), http2), PATIENCE);
                if connected.await.is_err() {
                    return;
                }
                if let Some(check) = check {
                    greet(&backend, &check, address).await;
                }
                backend.standing.reached(&backend.label);
            });
        }
    }
}

/// Asks a backend that takes connections again how it is, as its health check would some time later.
async fn greet(backend: &Backend, check: &Check, address: SocketAddr) {
    // However short ago its last probe was: it says nothing of what has come back since. Attempts to connect are apart.
    if !backend.standing.take_probe(clock::now(), Duration::ZERO) {
        return;
    }
    let mut done = Done::of(backend);
    // Whatever comes of it: the next one is an interval later.
    done.is_known();
    let probed = tokio::time::timeout(PATIENCE, check.probe(address, backend)).await;
    if let Ok(Ok(())) = probed {
        // There is no other: once is enough.
        let rules = ProbeRules {
            rise: 1,
            ..check.rules
        };
        backend.standing.probed(&backend.label, rules, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_apart_however_many_hope() {
        let hope = Hope::default();
        let at = Duration::from_secs(5);
        assert_eq!(hope.take(at), Ok(0));
        assert_eq!(hope.take(at), Err(APART));
        let later = at + APART / 4;
        assert_eq!(hope.take(later), Err(APART / 4 * 3));
        assert_eq!(hope.take(at + APART), Ok(1));
        assert!(hope.take(at + APART).is_err());
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let waiting = AtomicUsize::new(0);
        let places: Vec<_> = (0..WAITING).map(|_| Place::take(&waiting)).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(Place::take(&waiting).is_none());
        drop(places);
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }
}
