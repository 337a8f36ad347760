//! The dynamic configuration as compiled: what `server` turns into a running snapshot.
//!
//! Made by `config::compile` and by nothing else, so whoever holds one may rely on every rule of the configuration having
//! been checked. It holds no sockets and no state.

use super::address::BackendAddress;
use super::health_check::CheckPlan;
use super::upstream_tls::UpstreamTls;
use crate::policy::balancer::Balance;
use crate::policy::blocklist::{Answer, Blocklist};
use crate::policy::concurrency::Concurrency;
use crate::policy::health::{EjectRules, FailRules};
use crate::policy::route::{AnswerRules, Route};
use crate::policy::router::Router;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Everything a reload replaces.
pub struct Routing {
    /// Which route a request takes. [`crate::policy::route::Proxy::upstream`] is an index into `upstreams`.
    pub router: Router<Arc<Route>>,
    /// The upstreams in the order of the file.
    pub upstreams: Vec<UpstreamPlan>,
    /// The routes in the order of the file: [`Route::index`] is a position here.
    pub routes: Vec<Arc<Route>>,
    /// Paths that are answered before a route is looked for, and how.
    pub block: Option<(Blocklist, Answer)>,
    /// What answers are given that no route makes; `None` where that is nothing.
    pub unrouted: Option<AnswerRules>,
}

impl Routing {
    /// Makes paths of files absolute that are relative to this directory.
    pub(crate) fn resolve_files(&mut self, directory: &Path) {
        for upstream in &mut self.upstreams {
            upstream.tls = upstream.tls.take().map(|tls| tls.within(directory));
        }
    }

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
    /// How TLS is spoken to its backends, if it is.
    pub tls: Option<UpstreamTls>,
    /// Whether they are spoken to by HTTP/2: with TLS if they choose so, else without asking.
    pub http2: bool,
    /// How its backends are probed, if they are.
    pub check: Option<CheckPlan>,
    /// When tries take a backend out of rotation.
    pub eject: EjectRules,
    /// How many tries may run at once, if that is bounded.
    pub concurrency: Option<Concurrency>,
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
    /// nginx's rule for taking it out.
    pub fail: FailRules,
    /// The most tries at once.
    pub max_conns: Option<u32>,
    /// What the operator wants of it.
    pub state: BackendState,
}

/// What the operator wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// It takes requests.
    Up,
    /// It takes no new ones; what runs there may end.
    Drain,
    /// It is not there, and is not probed either.
    Down,
}
