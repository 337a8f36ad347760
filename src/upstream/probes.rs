//! When backends are probed: those with a health check again and again, unreachable ones until they take connections.
//!
//! Runs on the control thread, off the request path, and looks at the configuration in force each time, so that a reload needs
//! no hand-over: what is known of a backend stays with it.

use super::check::{self, Check};
use super::own::Own;
use super::tls::UpstreamTls;
use super::{Backend, Upstream};
use crate::clock;
use crate::policy::health::Gate;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked which probes are due.
const TICK: Duration = Duration::from_millis(50);
/// How often it is tried to connect to an unreachable backend.
pub(super) const KNOCK: Duration = Duration::from_millis(100);
/// How long such a try may take.
const KNOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the speed of backends is compared.
const COMPARE: Duration = Duration::from_millis(500);
/// Probes under way at the same time; further ones wait for the next tick.
const AT_ONCE: usize = 512;

/// Probes for ever. `upstreams` tells those in force.
pub async fn follow(upstreams: impl Fn() -> Vec<Arc<Upstream>>) {
    let running = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut compared = Duration::ZERO;
    loop {
        tokio::time::sleep(TICK).await;
        let now = clock::now();
        let compare = now.saturating_sub(compared) >= COMPARE;
        if compare {
            compared = now;
        }
        for upstream in upstreams() {
            if compare {
                upstream.judge_latency();
            }
            for (i, backend) in upstream.backends.iter().enumerate() {
                if upstream.is_off(i) {
                    continue;
                }
                if running.available_permits() == 0 {
                    break;
                }
                let Some(job) = due(&upstream, backend, now) else {
                    continue;
                };
                let Ok(permit) = running.clone().try_acquire_owned() else {
                    break;
                };
                tokio::spawn(async move {
                    job.run().await;
                    drop(permit);
                });
            }
        }
    }
}

/// Probes each backend that waits for its first probe, and returns when all have had one.
pub async fn first(upstreams: &[Arc<Upstream>]) {
    let now = clock::now();
    let mut jobs = tokio::task::JoinSet::new();
    for upstream in upstreams {
        for (i, backend) in upstream.backends.iter().enumerate() {
            if backend.standing.gate() == Gate::Checking
                && !upstream.is_off(i)
                && let Some(job) = due(upstream, backend, now)
            {
                jobs.spawn(job.run());
            }
        }
    }
    while jobs.join_next().await.is_some() {}
}

/// A probe that is to be made now.
struct Job {
    backend: Own<Backend>,
    /// How TLS is spoken to it, where it is.
    tls: Option<Arc<UpstreamTls>>,
    http2: bool,
    /// The health check; without one, it is seen whether it takes connections at all.
    check: Option<Arc<Check>>,
    /// While no backend of the upstream can be used, the first good probe brings one back.
    hurry: bool,
}

fn due(upstream: &Upstream, backend: &Own<Backend>, now: Duration) -> Option<Job> {
    let standing = &backend.standing;
    let hurry = upstream.is_down();
    let job = |check: Option<Arc<Check>>| Job {
        backend: backend.clone(),
        tls: upstream.tls.clone(),
        http2: upstream.http2,
        check,
        hurry,
    };
    if let Some(check) = &upstream.check {
        let interval = match hurry {
            true => check.interval / 2,
            false => check.interval,
        };
        if standing.take_probe(now, interval) {
            return Some(job(Some(check.clone())));
        }
    }
    let unreachable = standing.gate() == Gate::Unreachable;
    (unreachable && standing.take_knock(now, KNOCK)).then(|| job(None))
}

impl Job {
    async fn run(self) {
        let Job {
            backend,
            tls,
            http2,
            check,
            hurry,
        } = self;
        let mut done = Done::of(&backend);
        let standing = &backend.standing;
        let Some(address) = backend.socket_address() else {
            if let Some(check) = &check {
                let why = "its name has no address".to_string();
                standing.probed(&backend.label, check.rules, Err(why));
            }
            done.is_known();
            return;
        };
        match &check {
            Some(check) => {
                let result = check.probe(address, &backend).await;
                let mut rules = check.rules;
                if hurry {
                    rules.rise = 1;
                }
                standing.probed(&backend.label, rules, result);
            }
            None => match check::connect(address, &backend, (tls.as_deref(), http2), KNOCK_TIMEOUT)
                .await
            {
                Ok(()) => standing.reached(&backend.label),
                Err(why) => standing.failed(format!("connecting: {why}")),
            },
        }
        done.is_known();
    }
}

/// Frees the backend for its next probe. If this one is cut off before anything is known, the next is due at once.
pub(super) struct Done<'a> {
    backend: &'a Backend,
    is_known: bool,
}

impl<'a> Done<'a> {
    pub(super) fn of(backend: &'a Backend) -> Self {
        Done {
            backend,
            is_known: false,
        }
    }

    /// Nothing more is to be found out by it: the next is due an interval later.
    pub(super) fn is_known(&mut self) {
        self.is_known = true;
    }
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.backend.standing.end_probe(self.is_known);
    }
}
