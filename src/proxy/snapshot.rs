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
use crate::upstream::own::Own;
use crate::upstream::traffic::Traffic;
use arc_swap::{ArcSwap, Guard};
use log::info;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where everybody finds the snapshot in force.
#[derive(Debug, Clone)]
pub struct Live(Arc<InForce>);

#[derive(Debug)]
struct InForce {
    snapshot: ArcSwap<Snapshot>,
    /// What each worker has of it.
    workers: Box<[ArcSwap<Local>]>,
}

/// Where one worker finds it.
#[derive(Debug, Clone)]
pub struct LiveHere {
    live: Live,
    worker: usize,
}

impl Live {
    /// With this one in force, for so many workers.
    pub fn new(snapshot: Snapshot, workers: usize) -> Self {
        let snapshot = Arc::new(snapshot);
        let local = |_| ArcSwap::from_pointee(Local::of(&snapshot));
        Live(Arc::new(InForce {
            workers: (0..workers).map(local).collect(),
            snapshot: ArcSwap::new(snapshot),
        }))
    }

    /// The one in force, for a look.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.snapshot.load()
    }

    /// The same to be kept.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// Puts another one in force, on one worker after the other.
    pub fn store(&self, snapshot: Arc<Snapshot>) {
        let Live(in_force) = self;
        let locals = in_force
            .workers
            .iter()
            .map(|_| Arc::new(Local::of(&snapshot)));
        let locals: Vec<_> = locals.collect();
        for (worker, local) in in_force.workers.iter().zip(locals) {
            worker.store(local);
        }
        in_force.snapshot.store(snapshot);
    }

    /// Where this worker finds it.
    pub fn of_worker(&self, worker: usize) -> LiveHere {
        LiveHere {
            live: self.clone(),
            worker,
        }
    }
}

impl LiveHere {
    /// The one in force, as this worker has it.
    pub fn current(&self) -> Arc<Local> {
        let Live(in_force) = &self.live;
        match in_force.workers.get(self.worker) {
            Some(local) => local.load_full(),
            // There are as many as there were when the process began.
            None => Arc::new(Local::of(&self.live.load())),
        }
    }
}

/// What one worker has of a snapshot: handles of its own on what requests hold.
#[derive(Debug)]
pub struct Local {
    snapshot: Arc<Snapshot>,
    routes: Vec<Own<Route>>,
    /// This worker's, which stand before those of the snapshot.
    pub upstreams: Vec<Arc<Upstream>>,
}

impl Local {
    fn of(snapshot: &Arc<Snapshot>) -> Self {
        let traffic = snapshot.traffic.iter();
        let upstreams = snapshot.upstreams.iter();
        Local {
            routes: traffic
                .map(|traffic| Own::new(traffic.route.clone()))
                .collect(),
            upstreams: upstreams
                .map(|upstream| Arc::new(upstream.of_worker()))
                .collect(),
            snapshot: snapshot.clone(),
        }
    }

    /// This worker's handle of a route of the snapshot.
    pub fn own(&self, route: &Route) -> Option<Own<Route>> {
        let own = self.routes.get(route.index);
        debug_assert!(
            own.is_some_and(|own| std::ptr::eq(&**own, route)),
            "each has its index"
        );
        own.cloned()
    }
}

impl Deref for Local {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

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
