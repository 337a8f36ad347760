//! The running pools: backends, what is known of them, and what outlives a reload.
//!
//! Built by `server::reload` from `config`, asked by `proxy` on every try. Which backend is picked is decided by
//! `policy::balancer`; this module only holds the facts it decides on.

pub mod backend;
pub mod resolver;
mod ring;

pub use backend::{Active, Backend};

use crate::config::UpstreamPlan;
use crate::policy::balancer::{Balance, Balancer, BalancerError, Pool, Slot, Tried, Turn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A named group of backends, as running.
#[derive(Debug)]
pub struct Upstream {
    /// As in the file.
    pub name: String,
    /// In the file's order; the balancer's indexes are positions here.
    pub backends: Vec<Arc<Backend>>,
    /// How long an unused connection to a backend is kept.
    pub keepalive_idle: Duration,
    balancer: Balancer,
    /// Requests so far, over all workers and across reloads: whose turn it is.
    turn: Arc<AtomicU64>,
}

impl Upstream {
    /// Builds the pool of `plan`, taking over from `old` (the upstream of the same name before a reload) the turn and every
    /// backend whose address is unchanged, with its counters and what is known of its name.
    ///
    /// # Errors
    /// What [`Balancer::new`] refuses; `config` has already checked that it does not.
    pub fn build(plan: &UpstreamPlan, old: Option<&Upstream>) -> Result<Self, BalancerError> {
        let backends: Vec<Arc<Backend>> = plan
            .backends
            .iter()
            .map(|written| {
                old.and_then(|old| old.backends.iter().find(|b| b.address == written.address))
                    .cloned()
                    .unwrap_or_else(|| Arc::new(Backend::new(written.address.clone())))
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
        Ok(Upstream {
            name: plan.name.clone(),
            backends,
            keepalive_idle: plan.keepalive_idle,
            balancer: Balancer::new(plan.balance.clone(), slots, ring)?,
            turn: old.map(|old| old.turn.clone()).unwrap_or_default(),
        })
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

    /// The backend for the next try of a request with this turn, and its position; `None` when none can be tried.
    pub fn pick(
        &self,
        tried: &Tried,
        turn: u64,
        key: Option<&[u8]>,
    ) -> Option<(usize, &Arc<Backend>)> {
        let turn = Turn {
            count: turn,
            dice: fastrand::u64(..),
        };
        let index = self.balancer.pick(self, tried, turn, key)?;
        self.backends.get(index).map(|backend| (index, backend))
    }
}

impl Pool for Upstream {
    fn usable(&self, i: usize) -> bool {
        self.backends.get(i).is_some_and(|b| b.has_address())
    }

    fn active(&self, i: usize) -> u32 {
        self.backends.get(i).map_or(0, |b| b.active())
    }
}
