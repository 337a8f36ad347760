//! The dynamic configuration as compiled: what `server` turns into a running snapshot.
//!
//! Made by `config::compile` and by nothing else, so whoever holds one may rely on every rule of the configuration having
//! been checked. It holds no sockets and no state.

use super::address::BackendAddress;
use crate::policy::balancer::Balance;
use crate::policy::route::Route;
use crate::policy::router::Router;
use std::sync::Arc;
use std::time::Duration;

/// Everything a reload replaces.
pub struct Routing {
    /// Which route a request takes. [`crate::policy::route::Proxy::upstream`] is an index into `upstreams`.
    pub router: Router<Arc<Route>>,
    /// The upstreams in the order of the file.
    pub upstreams: Vec<UpstreamPlan>,
    /// How many routes there are.
    pub routes: usize,
}

impl Routing {
    /// How many backends there are in all upstreams together.
    pub fn backends(&self) -> usize {
        self.upstreams.iter().map(|u| u.backends.len()).sum()
    }
}

/// One upstream.
#[derive(Debug)]
pub struct UpstreamPlan {
    /// Its name in the file.
    pub name: String,
    /// How a backend is chosen.
    pub balance: Balance,
    /// At least one; no address occurs twice, and at least one weight is above 0.
    pub backends: Vec<BackendPlan>,
    /// How long an unused connection to a backend is kept.
    pub keepalive_idle: Duration,
}

/// One backend of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendPlan {
    /// Where it listens.
    pub address: BackendAddress,
    /// Its share of the traffic; 0 is none.
    pub weight: u32,
    /// Whether it is used only when no other can be.
    pub backup: bool,
}
