//! The configuration as running: one immutable value, taken once by each request and swapped whole at reload.
//!
//! Made by `server::reload`, held by every request under way. Decides nothing.

use super::authenticate::Gate;
use super::content::Shape;
use crate::policy::access::{Access, AddressSet};
use crate::policy::blocklist::{Answer, Blocklist};
use crate::policy::route::{AnswerRules, Route};
use crate::policy::router::Router;
use crate::upstream::Upstream;
use crate::upstream::traffic::Traffic;
use arc_swap::ArcSwap;
use log::info;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where every worker finds the snapshot in force.
pub type Live = Arc<ArcSwap<Snapshot>>;

/// What was read from files and elsewhere for what a route asks of requests.
#[derive(Debug, Default)]
pub struct Entrance {
    /// Who may pass, if not everybody.
    pub gate: Option<Gate>,
    /// What content has to be, if anything.
    pub shape: Option<Arc<Shape>>,
}

/// Who may come in before anything is known of a request, and who is believed when it says for whom it asks.
#[derive(Debug, Default)]
pub struct Doors {
    /// Of each listener, in their order.
    pub listeners: Vec<Access>,
    /// Proxies in front of this one.
    pub trusted: Arc<AddressSet>,
    /// Those that may connect where the PROXY protocol is spoken.
    pub introducing: Arc<AddressSet>,
}

/// One configuration as running.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 for the configuration the process started with, one more for each reload that took effect.
    pub generation: u64,
    /// Finds the route of a request.
    pub router: Router<Arc<Route>>,
    /// In the order that routes refer to.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Of each route, at its index.
    pub traffic: Vec<Arc<Traffic>>,
    /// Who and what may pass it, at its index too.
    pub entrances: Vec<Entrance>,
    /// Paths that are answered before a route is looked for, and how.
    pub block: Option<(Blocklist, Answer)>,
    /// What answers are given that no route makes; `None` where that is nothing.
    pub unrouted: Option<AnswerRules>,
    /// Who may come in, and who is believed.
    pub doors: Doors,
    /// Whether another took its place.
    pub(crate) retired: AtomicBool,
}

impl Snapshot {
    /// Says that another took its place; its end will be logged.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if *self.retired.get_mut() {
            info!("configuration {} is gone from memory", self.generation);
        }
    }
}
