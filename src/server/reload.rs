//! From a checked configuration to a running snapshot, at start and at every reload.
//!
//! One reload at a time, on the control thread. Whatever goes wrong, the snapshot in force stays in force.

use crate::config::{self, Errors, Loaded, Routing, Settings};
use crate::observe::tally::Counts;
use crate::policy::route::AuthPlan;
use crate::proxy::authenticate::basic::Directory;
use crate::proxy::authenticate::jwt::Bearers;
use crate::proxy::authenticate::source::Source;
use crate::proxy::authenticate::{Gate, GateError};
use crate::proxy::content::{SchemaError, Shape};
use crate::proxy::snapshot::{Doors, Entrance};
use crate::proxy::{Live, Snapshot};
use crate::upstream::own::Own;
use crate::upstream::probes;
use crate::upstream::resolver::Resolver;
use crate::upstream::traffic::Traffic;
use crate::upstream::{Backend, BuildError, Upstream};
use log::{error, info, warn};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long a new configuration waits for the names in it that have never been resolved.
const FIRST_LOOKUP: Duration = Duration::from_secs(2);

/// How long it waits for the first probe of backends that are to have one before they take requests.
const FIRST_PROBE: Duration = Duration::from_secs(2);

/// How long it waits for the keys of tokens that have never been fetched.
const FIRST_FETCH: Duration = Duration::from_secs(2);

/// Why a configuration could not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The files are wrong.
    #[error(transparent)]
    Files(#[from] Errors),
    /// A file of users or keys is wrong.
    #[error("auth: {0}")]
    Gate(#[from] GateError),
    /// A schema is wrong.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// An upstream cannot be built.
    #[error("upstream {0}: {1}")]
    Upstream(String, #[source] BuildError),
}

/// What a reload came to.
#[derive(Debug)]
pub struct Outcome {
    /// For `systemctl status`.
    pub status: String,
}

/// Reloads the configuration of this process.
pub struct Reloader {
    config_file: PathBuf,
    /// What the process started with; the static part of every later file is compared with it.
    settings: Settings,
    live: Live,
    resolver: Arc<Resolver>,
    counts: Arc<Counts>,
}

/// Builds the snapshot of `routing` behind these `doors`, carrying over what `old` knows of unchanged backends.
///
/// # Errors
/// What [`Upstream::build`] refuses.
pub async fn build(
    routing: Routing,
    doors: Doors,
    old: Option<&Snapshot>,
    resolver: &Resolver,
) -> Result<Snapshot, ReloadError> {
    let upstreams = routing
        .upstreams
        .iter()
        .map(|plan| {
            let before = old.and_then(|old| old.upstreams.iter().find(|u| u.name == plan.name));
            let built = Upstream::build(plan, before.map(Arc::as_ref));
            let built = built.map_err(|e| ReloadError::Upstream(plan.name.clone(), e))?;
            Ok(Arc::new(built))
        })
        .collect::<Result<Vec<_>, ReloadError>>()?;
    let unresolved: Vec<_> = backends(&upstreams)
        .filter(|b| !b.has_address())
        .cloned()
        .collect();
    if !unresolved.is_empty() {
        // Better a moment later than with backends that cannot be tried.
        let _ = tokio::time::timeout(FIRST_LOOKUP, resolver.refresh(unresolved)).await;
    }
    // Nor with backends of which nothing is known.
    let _ = tokio::time::timeout(FIRST_PROBE, probes::first(&upstreams)).await;
    let traffic = routing
        .routes
        .iter()
        .map(|route| {
            let mut before = old.iter().flat_map(|old| &old.traffic);
            let before = before.find(|traffic| traffic.route.name == route.name);
            Arc::new(Traffic::build(route, before.map(Arc::as_ref)))
        })
        .collect();
    let entrances = entrances(&routing, old)?;
    let unasked = sources(&entrances).filter(|source| source.keys().is_none());
    let fetches = unasked.map(|source| async move { source.fetch().await });
    // Nor with nobody who could pass.
    let _ = tokio::time::timeout(FIRST_FETCH, futures::future::join_all(fetches)).await;
    let generation = old.map_or(1, |old| old.generation + 1);
    Ok(Snapshot {
        generation,
        router: routing.router,
        upstreams,
        traffic,
        entrances,
        block: routing.block,
        unrouted: routing.unrouted,
        doors,
        retired: AtomicBool::new(false),
    })
}

/// Who and what may pass each route: each file is read once, and what was fetched is kept.
///
/// # Errors
/// When a file is not as it should be.
pub fn entrances(routing: &Routing, old: Option<&Snapshot>) -> Result<Vec<Entrance>, ReloadError> {
    let mut directories: HashMap<&Path, Arc<Directory>> = HashMap::new();
    let mut known: Vec<Arc<Source>> = old.iter().flat_map(|old| sources(&old.entrances)).collect();
    let mut all = Vec::with_capacity(routing.routes.len());
    for route in &routing.routes {
        let gate = match &route.auth {
            None => None,
            Some(AuthPlan::Basic(path)) => Some(Gate::Basic(match directories.get(&**path) {
                Some(directory) => directory.clone(),
                None => {
                    let directory = Directory::open(path)?;
                    directories.insert(path, directory.clone());
                    directory
                }
            })),
            Some(AuthPlan::Forward(plan)) => Some(Gate::Forward(Arc::new(plan.clone()))),
            Some(AuthPlan::Jwt(rules, from)) => {
                let source = match known.iter().find(|source| source.is_of(from)) {
                    Some(source) => source.clone(),
                    None => Source::open(from)?,
                };
                known.push(source.clone());
                Some(Gate::Jwt(Arc::new(Bearers::new(rules.clone(), source))))
            }
        };
        let shape = route.requirement.json.as_ref().map(Shape::open);
        all.push(Entrance {
            gate,
            shape: shape.transpose()?,
        });
    }
    Ok(all)
}

/// Where the keys come from by which people pass.
pub fn sources(entrances: &[Entrance]) -> impl Iterator<Item = Arc<Source>> {
    let sources = entrances
        .iter()
        .filter_map(|entrance| match &entrance.gate {
            Some(Gate::Jwt(bearers)) => Some(bearers.source.clone()),
            _ => None,
        });
    let mut sources: Vec<_> = sources.collect();
    sources.sort_by_key(Arc::as_ptr);
    sources.dedup_by(|a, b| Arc::ptr_eq(a, b));
    sources.into_iter()
}

/// All backends of these upstreams.
pub fn backends(upstreams: &[Arc<Upstream>]) -> impl Iterator<Item = &Own<Backend>> {
    upstreams
        .iter()
        .flat_map(|upstream| upstream.backends.iter())
}

/// `3 routes, 1 upstream, 3 backends`.
pub fn summary(routing: &Routing) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    [
        count(routing.routes.len(), "route"),
        count(routing.upstreams.len(), "upstream"),
        count(routing.backends(), "backend"),
    ]
    .join(", ")
}

impl Reloader {
    /// Of the process that started with `settings` from `config_file`.
    pub fn new(
        config_file: &Path,
        settings: Settings,
        live: Live,
        resolver: Arc<Resolver>,
        counts: Arc<Counts>,
    ) -> Self {
        Reloader {
            config_file: config_file.to_owned(),
            settings,
            live,
            resolver,
            counts,
        }
    }

    /// Reads the files again and puts them in force, or says in the log why not.
    pub async fn reload(&self) -> Outcome {
        let begun = Instant::now();
        let now = || jiff::Timestamp::now().strftime("%F %T UTC").to_string();
        let old = self.live.load_full();
        let kept = old.generation;
        match self.replace(&old).await {
            Ok(summary) => {
                self.counts.reloaded(None);
                info!(
                    "configuration {} is in force: {summary} (reloaded in {} ms)",
                    kept + 1,
                    begun.elapsed().as_millis()
                );
                Outcome {
                    status: format!("Serving {summary}; reloaded at {}", now()),
                }
            }
            Err(e) => {
                let text = e.to_string();
                self.counts.reloaded(Some(text.clone()));
                error!("reload failed, configuration {kept} stays in force:\n{text}");
                let first = text.lines().next().unwrap_or_default();
                Outcome {
                    status: format!(
                        "Reload failed at {}, configuration {kept} stays in force: {first}",
                        now()
                    ),
                }
            }
        }
    }

    async fn replace(&self, old: &Arc<Snapshot>) -> Result<String, ReloadError> {
        let Loaded {
            settings, routing, ..
        } = config::load(&self.config_file)?;
        let changed = self.settings.changed_keys(&settings);
        if !changed.is_empty() {
            warn!(
                "needs a restart: {} (the old values stay in force)",
                changed.join(", ")
            );
        }
        let summary = summary(&routing);
        let trusted = settings.trusted_proxies.addresses.clone();
        let are_needed = self.settings.listeners.iter().any(|l| l.proxy_protocol);
        let doors_for_proxies = (trusted.is_empty() && are_needed).then(|| {
            warn!("needs a restart: listeners with proxy_protocol still take those of trusted_proxies of before");
            old.doors.introducing.clone()
        });
        let doors = Doors {
            listeners: settings.doors(&self.settings, &old.doors.listeners),
            trusted: settings.trusted_proxies.addresses,
            // Listeners that are for proxies only stay so until a restart, and are of use only with some.
            introducing: match doors_for_proxies {
                Some(kept) => kept,
                None => trusted,
            },
        };
        let snapshot = build(routing, doors, Some(old), &self.resolver).await?;
        old.retire();
        let snapshot = Arc::new(snapshot);
        self.live.store(snapshot.clone());
        for upstream in &snapshot.upstreams {
            upstream.settle();
        }
        for traffic in &snapshot.traffic {
            traffic.settle();
        }
        Ok(summary)
    }
}
