//! The running pools: backends, what is known of them, and what outlives a reload.
//!
//! Built by `server::reload` from `config`, asked by `proxy` on every try. Which backend is picked is decided by
//! `policy::balancer`, which are ejected by `policy::health`; this module only holds the facts they decide on.

pub mod backend;
pub mod budget;
pub mod check;
pub mod comeback;
pub mod http2;
pub mod line;
pub mod links;
pub mod own;
pub mod places;
pub mod probes;
pub mod resolver;
mod ring;
pub mod standing;
pub mod tls;
pub mod traffic;

pub use backend::{Active, Backend};

use crate::clock;
use crate::config::{BackendPlan, BackendState, UpstreamPlan};
use crate::policy::balancer::{self, Balance, Balancer, BalancerError, Pool, Slot, Tried, Turn};
use crate::policy::concurrency::Concurrency;
use crate::policy::health::{self, EjectRules, FailRules, Gate, Observation};
use check::Check;
use comeback::Hope;
use line::Line;
use log::warn;
use own::Own;
use places::Places;
use standing::Begun;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tls::UpstreamTls;

/// A named group of backends, as running.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// As in the file.
    pub name: String,
    /// In the file's order; the balancer's indexes are positions here.
    pub backends: Vec<Own<Backend>>,
    /// What the file says of each of them, at the same positions.
    rules: Vec<Rules>,
    /// How long an unused connection to a backend is kept.
    pub keepalive_idle: Duration,
    /// How TLS is spoken to its backends, if it is.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Whether they are spoken to by HTTP/2, see [`http2`].
    pub http2: bool,
    /// When tries take a backend out of rotation.
    pub eject: EjectRules,
    /// How its backends are probed, if they are.
    pub check: Option<Arc<Check>>,
    /// How many tries may run at once, if that is bounded.
    pub concurrency: Option<Concurrency>,
    /// Those that run, and who waits; outlives a reload.
    pub places: Arc<Places>,
    /// Who waits for a backend that is not full; outlives a reload.
    pub line: Arc<Line>,
    balancer: Arc<Balancer>,
    /// Requests so far, over all workers and across reloads: whose turn it is.
    turn: Arc<AtomicU64>,
    /// Who hopes that a backend is back.
    pub(super) hope: Arc<Hope>,
    /// Held while it is decided whether one more may be ejected: two workers must not each take the last but one.
    ejecting: Arc<Mutex<()>>,
}

/// Why an upstream cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// `config` accepted what the balancer refuses.
    #[error("{0}")]
    Balancer(#[from] BalancerError),
    /// A file of its `tls` cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// What the file says of one backend.
#[derive(Debug, Clone, Copy)]
struct Rules {
    weight: u32,
    fail: FailRules,
    max_conns: Option<u32>,
    state: BackendState,
}

impl From<&BackendPlan> for Rules {
    fn from(plan: &BackendPlan) -> Self {
        Rules {
            weight: plan.weight,
            fail: plan.fail,
            max_conns: plan.max_conns,
            state: plan.state,
        }
    }
}

/// A backend that was picked for a try.
#[derive(Debug)]
pub struct Picked {
    /// Its position in the upstream.
    pub index: usize,
    /// The try, counted from now on.
    pub active: Active,
    /// Where to connect.
    pub address: SocketAddr,
}

/// Why no backend can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBackend {
    /// All that could be are busy with `max_conns` tries.
    Full,
    /// All are down, unreachable, drained or without an address.
    Down,
}

impl Upstream {
    /// Builds the pool of `plan`, taking over from `old` (the upstream of the same name before a reload) the turn and every
    /// backend whose address is unchanged, with its counters and what is known of its name and its health.
    ///
    /// # Errors
    /// What [`Balancer::new`] refuses; `config` has already checked that it does not.
    pub fn build(plan: &UpstreamPlan, old: Option<&Upstream>) -> Result<Self, BuildError> {
        let checking = plan.check.as_ref().is_some_and(|check| check.checking);
        let window = plan.eject.window;
        let line = old.map(|old| old.line.clone()).unwrap_or_default();
        let backends: Vec<Own<Backend>> = plan
            .backends
            .iter()
            .map(|written| {
                let kept =
                    old.and_then(|old| old.backends.iter().find(|b| b.address == written.address));
                kept.cloned().unwrap_or_else(|| {
                    let new = Backend::new(written.address.clone(), checking, window, line.clone());
                    new.set_max_conns(written.max_conns);
                    Own::new(Arc::new(new))
                })
            })
            .collect();
        let slots = plan
            .backends
            .iter()
            .map(|b| Slot {
                weight: b.weight,
                backup: b.backup,
            })
            .collect();
        let ring = match plan.balance {
            Balance::Hash(_) => Some(ring::build(&plan.backends)),
            _ => None,
        };
        let tls = plan.tls.as_ref().map(UpstreamTls::open).transpose()?;
        let tls = tls.map(Arc::new);
        let http2 = plan.http2;
        if tls.as_ref().is_some_and(|tls| !tls.verifies()) {
            warn!(
                "upstream {}: verify is false, so its backends may be anybody",
                plan.name
            );
        }
        Ok(Upstream {
            name: plan.name.clone(),
            backends,
            rules: plan.backends.iter().map(Rules::from).collect(),
            keepalive_idle: plan.keepalive_idle,
            eject: plan.eject.clone(),
            check: plan
                .check
                .as_ref()
                .map(|plan| Arc::new(Check::new(plan, tls.clone(), http2))),
            tls,
            http2,
            concurrency: plan.concurrency.clone(),
            places: match old {
                Some(old) => old.places.clone(),
                None => Arc::new(Places::under(plan.concurrency.as_ref())),
            },
            line,
            balancer: Arc::new(Balancer::new(plan.balance.clone(), slots, ring)?),
            turn: old.map(|old| old.turn.clone()).unwrap_or_default(),
            hope: Arc::default(),
            ejecting: Arc::default(),
        })
    }

    /// The same one for a worker, with handles of its own on what all share.
    #[must_use]
    pub fn of_worker(&self) -> Self {
        Upstream {
            backends: self.backends.iter().map(Own::apart).collect(),
            ..self.clone()
        }
    }

    /// How this upstream chooses.
    pub fn balance(&self) -> &Balance {
        self.balancer.balance()
    }

    /// The turn of one request. Its retries stay on that turn: were they to take further ones, every second request
    /// over two backends, one of which fails, would begin on the failing one again.
    pub fn take_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Begins the next try of a request with this turn. `reach`: what else it may go to where nothing can be tried.
    ///
    /// # Errors
    /// When none can be tried.
    pub fn pick(
        &self,
        tried: &Tried,
        turn: u64,
        key: Option<&[u8]>,
        reach: Reach,
    ) -> Result<Picked, NoBackend> {
        let picked = self.find(tried, turn, key, reach)?;
        picked.active.backend().count_try();
        Ok(picked)
    }

    /// The same for a try that can be left undone: it is made only where it is `granted`, and counts only then.
    pub fn pick_if(
        &self,
        tried: &Tried,
        turn: u64,
        granted: impl FnOnce(&Picked) -> bool,
    ) -> Option<Picked> {
        let picked = self.find(tried, turn, None, Reach::Nothing).ok()?;
        if !granted(&picked) {
            return None;
        }
        picked.active.backend().count_try();
        Some(picked)
    }

    fn find(
        &self,
        tried: &Tried,
        turn: u64,
        key: Option<&[u8]>,
        reach: Reach,
    ) -> Result<Picked, NoBackend> {
        let turn = Turn {
            count: turn,
            dice: fastrand::u64(..),
        };
        // One throw for all looks at the pool: a backend that warms up would have a better chance with each.
        let chance = fastrand::f64();
        let view = |reach| View {
            upstream: self,
            reach,
            chance,
        };
        let (sound, all) = (view(Reach::Nothing), view(reach));
        // Another request may be faster to take the last place of a backend, or its trial: then it stands differently, and
        // another one is picked.
        for _ in 0..=self.backends.len() {
            let pick = self.balancer.pick(&sound, tried, turn, key);
            let pick = pick.or_else(|| {
                // Better to wait for one that works than to go to one that does not.
                if self.concurrency.is_some() && self.has_full() {
                    return None;
                }
                self.balancer.pick(&all, tried, turn, key)
            });
            let Some((pick, backend)) = pick.and_then(|p| Some((p, self.backends.get(p.index)?)))
            else {
                break;
            };
            let begun = Active::begin(backend, pick.out);
            if let Some((active, address)) = begun.zip(backend.socket_address()) {
                return Ok(Picked {
                    index: pick.index,
                    active,
                    address,
                });
            }
        }
        Err(if self.has_full() {
            NoBackend::Full
        } else {
            NoBackend::Down
        })
    }

    /// Whether there is a backend that lacks nothing but a place.
    fn has_full(&self) -> bool {
        (0..self.backends.len()).any(|i| self.is_full(i) && self.is_open(i))
    }

    /// Takes note of what a try on backend `index` met.
    pub fn observe(&self, index: usize, active: &Active, seen: Observation) {
        let backend = active.backend();
        if matches!(seen, Observation::Failed | Observation::ConnectFailed) {
            backend.count_failure();
        }
        self.tell(index, seen, active.begun());
        active.is_known();
    }

    /// Whether backend `index` takes connections at this address of its, to the end of the handshake where TLS is spoken. `None`
    /// where that is, or has just been, looked at: one look at a time is enough.
    pub async fn reach(&self, index: usize, address: SocketAddr, limit: Duration) -> Option<bool> {
        let backend = self.backends.get(index)?;
        if !backend.standing.take_knock(clock::now(), probes::KNOCK) {
            return None;
        }
        let mut done = probes::Done::of(backend);
        // As far as its health check goes.
        done.is_known();
        let connected = check::connect(address, backend, (self.tls.as_deref(), self.http2), limit);
        Some(connected.await.is_ok())
    }

    /// Something that was to come on a connection to backend `index` did not: where others share that one, what comes next gets
    /// another, as it does by HTTP/1.1.
    pub fn distrust(&self, index: usize) {
        if let Some(backend) = self.backends.get(index).filter(|_| self.http2) {
            backend.distrust_connections(clock::now());
        }
    }

    /// Takes note that no connection to backend `index` could be made, which no try waited for.
    pub fn could_not_connect(&self, index: usize) {
        if let Some(backend) = self.backends.get(index) {
            let why = "connecting, which nobody waited for";
            backend.standing.failed(why.into());
        }
        self.tell(index, Observation::ConnectFailed, Begun::InTurn);
    }

    fn tell(&self, index: usize, seen: Observation, begun: Begun) {
        let Some(backend) = self.backends.get(index) else {
            return;
        };
        let rules = (&self.eject, self.rules_of(index).fail);
        // Only what failed may eject.
        let failed = matches!(seen, Observation::Failed | Observation::ConnectFailed);
        let _one = failed.then(|| self.one_at_a_time());
        let may_eject = || self.may_eject();
        let standing = &backend.standing;
        standing.observe(&backend.label, rules, seen, begun, may_eject);
    }

    fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.ejecting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ejects those that are much slower than the others. To be called again and again.
    pub fn judge_latency(&self) {
        let Some(times) = self.eject.latency else {
            return;
        };
        let medians: Vec<_> = self
            .backends
            .iter()
            .map(|b| b.standing.median(self.eject.min_tries))
            .collect();
        for (i, backend) in self.backends.iter().enumerate() {
            if let Some(ratio) = health::slower(&medians, i, times) {
                let _one = self.one_at_a_time();
                let standing = &backend.standing;
                standing.too_slow(&backend.label, &self.eject, ratio, || self.may_eject());
            }
        }
    }

    /// Whether the file or the operator keeps new tries from backend `i`.
    pub fn is_withdrawn(&self, i: usize) -> bool {
        self.is_withdrawn_by_file(i) || self.backends.get(i).is_none_or(|b| b.standing.is_drained())
    }

    /// Whether the file does.
    pub fn is_withdrawn_by_file(&self, i: usize) -> bool {
        self.rules_of(i).state != BackendState::Up
    }

    /// Backends that would be used if they took connections, or if their health check succeeded.
    fn gone(&self) -> impl Iterator<Item = &Own<Backend>> {
        let backends = self.backends.iter().enumerate();
        let gone = backends.filter(|(i, backend)| {
            let is_wanted = self.weight(*i) > 0 && !self.is_withdrawn(*i);
            is_wanted && matches!(backend.standing.gate(), Gate::Unreachable | Gate::Down)
        });
        gone.map(|(_, backend)| backend)
    }

    /// Whether backend `i` is out of service by the file, so that it is not even probed.
    pub fn is_off(&self, i: usize) -> bool {
        self.rules_of(i).state == BackendState::Down
    }

    /// The file's weight of backend `i`.
    pub fn weight(&self, i: usize) -> u32 {
        self.rules_of(i).weight
    }

    /// Whether a backend other than `but` could take a request that was not tried there yet.
    pub fn has_untried(&self, tried: &Tried, but: Option<usize>) -> bool {
        (0..self.backends.len()).any(|i| Some(i) != but && tried.count(i) == 0 && self.is_open(i))
    }

    /// What a reload changes in backends and places that were there before. To be called when this is in force.
    pub fn settle(&self) {
        self.places.settle(self.concurrency.as_ref());
        for (i, backend) in self.backends.iter().enumerate() {
            let standing = &backend.standing;
            standing.settle(self.check.is_some(), self.eject.window);
            backend.set_max_conns(self.rules_of(i).max_conns);
        }
        self.line.call();
    }

    /// Whether no request can be sent to any backend at this moment.
    pub fn is_down(&self) -> bool {
        !(0..self.backends.len()).any(|i| self.is_open(i))
    }

    fn rules_of(&self, i: usize) -> Rules {
        self.rules.get(i).copied().unwrap_or(Rules {
            weight: 0,
            fail: FailRules::default(),
            max_conns: None,
            state: BackendState::Down,
        })
    }

    /// Whether backend `i` could take a request if it were not full.
    fn is_open(&self, i: usize) -> bool {
        let Some(backend) = self.backends.get(i) else {
            return false;
        };
        self.rules_of(i).weight > 0
            && !self.is_withdrawn(i)
            && backend.has_address()
            && matches!(
                backend.standing.gate(),
                Gate::Open | Gate::Warming(_) | Gate::Ejected(_)
            )
    }

    fn is_full(&self, i: usize) -> bool {
        self.backends
            .get(i)
            .is_some_and(|backend| backend.is_full())
    }

    /// Whether backend `i`, if it is ejected, may have a trial now.
    fn has_free_trial(&self, i: usize) -> bool {
        let Some(standing) = self.backends.get(i).map(|b| &b.standing) else {
            return false;
        };
        match standing.gate() {
            Gate::Ejected(until) => clock::now() >= until && standing.trial_is_free(),
            _ => true,
        }
    }

    fn may_eject(&self) -> bool {
        let pool = (0..self.backends.len()).filter(|i| self.is_open(*i));
        let (mut all, mut ejected) = (0, 0);
        for i in pool {
            all += 1;
            let gate = self.backends.get(i).map(|b| b.standing.gate());
            ejected += usize::from(matches!(gate, Some(Gate::Ejected(_))));
        }
        health::may_eject(all, ejected, self.eject.max_ejected)
    }
}

/// What a try may go to where nothing can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nothing.
    Nothing,
    /// A backend that was unreachable or down: it may be back.
    Down,
}

/// How the balancer sees the pool.
struct View<'a> {
    upstream: &'a Upstream,
    reach: Reach,
    /// Whether one that warms up takes this request; 0.0 to 1.0.
    chance: f64,
}

impl Pool for View<'_> {
    fn standing(&self, i: usize) -> balancer::Standing {
        use balancer::Standing::{Closed, Cold, Out, Ready};
        let upstream = self.upstream;
        let Some(backend) = upstream.backends.get(i) else {
            return Closed;
        };
        if !backend.has_address() || upstream.is_withdrawn(i) || upstream.is_full(i) {
            return Closed;
        }
        match backend.standing.gate() {
            Gate::Open => Ready,
            Gate::Warming(_) if self.chance >= self.share(i) => Cold,
            Gate::Warming(_) => Ready,
            Gate::Ejected(_) if upstream.has_free_trial(i) => Ready,
            Gate::Ejected(_) => Out,
            Gate::Unreachable | Gate::Down if self.reach == Reach::Down => Out,
            Gate::Unreachable | Gate::Down | Gate::Checking => Closed,
        }
    }

    fn active(&self, i: usize) -> u32 {
        self.upstream.backends.get(i).map_or(0, |b| b.active())
    }

    fn share(&self, i: usize) -> f64 {
        let gate = self.upstream.backends.get(i).map(|b| b.standing.gate());
        match gate {
            Some(Gate::Warming(since)) => {
                health::warm_share(clock::now(), since, self.upstream.eject.slow_start)
            }
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests;
