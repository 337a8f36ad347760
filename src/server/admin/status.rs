//! Upstreams and routes in figures, as JSON. `super::terminal` has them as tables.

use super::Scene;
use super::figures::Figures as CacheFigures;
use crate::clock;
use crate::observe::access_log::stamp;
use crate::observe::history::Point;
use crate::observe::tally::{Failed, Sums};
use crate::policy::canary::{Share, SideFigures};
use crate::policy::health::{Gate, warm_share};
use crate::policy::route::Action;
use crate::policy::success::{Count, SPANS, Savings, Span};
use crate::upstream::Upstream;
use crate::upstream::places::Figures;
use crate::upstream::traffic::Traffic;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What `GET /status` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Which configuration is in force, from 1.
    pub configuration: u64,
    /// How the process does.
    pub process: ProcessStatus,
    /// The success of all routes together.
    pub success: Vec<SuccessStatus>,
    /// In the order of the file.
    pub upstreams: Vec<UpstreamStatus>,
    /// In the order of the file.
    pub routes: Vec<RouteStatus>,
    /// What is stored.
    pub cache: CacheFigures,
    /// Requests that failed, the last first.
    pub failures: Vec<FailureStatus>,
    /// The last half hour, the oldest first. For the page alone: Prometheus keeps more of it.
    #[serde(skip)]
    pub history: Vec<Point>,
}

/// The process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Of the program.
    pub version: String,
    /// How long it has been running.
    pub uptime_s: u64,
    /// Connections of clients.
    pub connections: usize,
    /// Whether it is about to end.
    pub draining: bool,
    /// How long ago the configuration in force was taken.
    pub configured_s: u64,
    /// How long ago one was last read.
    pub read_s: u64,
    /// Why the last reload failed, if it did.
    pub reload_error: Option<String>,
}

/// The success within a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuccessStatus {
    /// `5m`, `1h`, `24h` or `30d`.
    pub window: String,
    /// Requests that ended.
    pub requests: u64,
    /// Share of them that succeeded, in percent, as clients saw it.
    pub client_percent: Option<f64>,
    /// Share of tries that the upstream answered well, in percent.
    pub upstream_percent: Option<f64>,
    /// How much of the room for errors that `slo` leaves is used up, in percent.
    pub slo_used_percent: Option<f64>,
    /// Requests that succeeded although a try had failed.
    pub masked: MaskedStatus,
}

/// Requests that succeeded although a try had failed, by what helped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedStatus {
    /// Another try at the backend that had failed.
    pub retry: u64,
    /// Another backend.
    pub failover: u64,
    /// A stored answer.
    pub cache: u64,
}

impl MaskedStatus {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.retry + self.failover + self.cache
    }
}

impl From<Savings> for MaskedStatus {
    fn from(saved: Savings) -> Self {
        MaskedStatus {
            retry: saved.retry,
            failover: saved.failover,
            cache: saved.cache,
        }
    }
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// When, as RFC 3339 writes it.
    pub time: String,
    /// What it is called in headers and logs.
    pub request_id: String,
    /// Its route.
    pub route: String,
    /// Method and path, without the query.
    pub request: String,
    /// What the client got.
    pub status: u16,
    /// What its tries met.
    pub tries: Vec<String>,
    /// Why there was no further one.
    pub reason: Option<String>,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Whether no request can be sent to any of its backends.
    pub down: bool,
    /// In the order of the file.
    pub backends: Vec<BackendStatus>,
    /// Its places, if it has `concurrency` and was used.
    pub concurrency: Option<PlacesStatus>,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// As written.
    pub address: String,
    /// `up`, `warming`, `ejected`, `unreachable`, `down`, `checking`, `drain` or `off`.
    pub state: String,
    /// Tries under way.
    pub active: u32,
    /// Tries since the start.
    pub tries: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Median time to a response head in the last while.
    pub median_ms: Option<f64>,
    /// For how much longer it is ejected.
    pub ejected_for_ms: Option<u64>,
    /// The last failure, and how long ago it was.
    pub last_failure: Option<LastFailure>,
}

/// A backend's last failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// In words.
    pub what: String,
    /// How long ago.
    pub ago_ms: u64,
}

/// The places of a route or an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacesStatus {
    /// Taken.
    pub active: u32,
    /// Waiting for one.
    pub queued: usize,
    /// How many there are.
    pub limit: u32,
    /// Refused because the queue was full.
    pub queue_full: u64,
    /// Refused because the wait was too long.
    pub queue_timeout: u64,
    /// Refused for one of a higher priority.
    pub displaced: u64,
}

/// What a route does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Hands them on.
    Proxy,
    /// Answers them.
    Respond,
    /// Sends clients elsewhere.
    Redirect,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    pub action: Doing,
    /// Requests that ended since the start.
    pub requests_total: u64,
    /// Those of them that succeeded although a try had failed.
    pub masked_total: u64,
    /// Its success of late.
    pub success: Vec<SuccessStatus>,
    /// The share of its requests that is to succeed, in percent.
    pub slo_percent: Option<f64>,
    /// The time that half of its requests took at most, as far as the buckets tell.
    pub p50_ms: Option<f64>,
    /// The same of 99 in a hundred.
    pub p99_ms: Option<f64>,
    /// Requests that went to the upstream in the last 10 s.
    pub requests: u64,
    /// Retries charged to the budget in the last 10 s.
    pub retries: u64,
    /// Retries since the start.
    pub retries_total: u64,
    /// Retries the budget refused, since the start.
    pub retries_refused_total: u64,
    /// Second requests since the start, if it has `hedge`.
    pub hedged_total: Option<u64>,
    /// Its places, if it has `concurrency` and was used.
    pub concurrency: Option<PlacesStatus>,
    /// Requests refused for coming too often, if it has `rate_limit`.
    pub rate_limited: Option<u64>,
    /// Its canary, if it has one.
    pub canary: Option<CanaryStatus>,
    /// Requests by what the cache did, since the start.
    pub cache: BTreeMap<String, u64>,
    /// Copies that were left out because too many were under way.
    pub not_mirrored: u64,
}

/// A canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// In percent of the requests.
    pub share_percent: f64,
    /// Why it was rolled back, if it was.
    pub rolled_back: Option<String>,
    /// Which step it is at, from 1.
    pub step: usize,
    /// How many there are.
    pub steps: usize,
    /// The share of each, in percent.
    pub shares_percent: Vec<f64>,
    /// How long until the next one is due.
    pub next_step_ms: Option<u64>,
    /// How the other side did in the last while.
    pub stable: SideStatus,
    /// How the canary did.
    pub canary: SideStatus,
}

/// One side of a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideStatus {
    /// Requests.
    pub requests: u64,
    /// Those whose first try failed.
    pub failed: u64,
    /// 95th percentile of the time to a response head.
    pub p95_ms: Option<f64>,
}

impl Status {
    /// As everything is now.
    pub fn of(scene: &Scene) -> Self {
        let shared = &scene.shared;
        let snapshot = shared.live.load();
        let mut all: Vec<Sums> = snapshot.traffic.iter().map(|t| t.tally.figures()).collect();
        let each = snapshot.traffic.iter().zip(&mut all);
        let routes = each.map(|(traffic, sums)| route(traffic, sums)).collect();
        all.push(shared.counts.unrouted.figures());
        let reload = shared.counts.reloads();
        Status {
            configuration: snapshot.generation,
            process: ProcessStatus {
                version: env!("CARGO_PKG_VERSION").to_string(),
                uptime_s: shared.counts.started.elapsed().as_secs(),
                connections: shared.visitors.open(),
                draining: shared.leaving.load(Ordering::Relaxed),
                configured_s: reload.since.elapsed().unwrap_or_default().as_secs(),
                read_s: reload.tried.elapsed().unwrap_or_default().as_secs(),
                reload_error: reload.error,
            },
            success: success(&mut all, None),
            upstreams: snapshot.upstreams.iter().map(|u| upstream(u)).collect(),
            routes,
            cache: shared.cache.status().into(),
            history: shared.counts.history.points(),
            failures: shared.counts.recent().into_iter().map(failure).collect(),
        }
    }
}

/// The success of several routes together.
fn success(all: &mut [Sums], slo: Option<f64>) -> Vec<SuccessStatus> {
    let within = |span: Span| {
        let counts = all.iter_mut().map(|sums| sums.within(span));
        let count = counts.fold(Count::default(), Count::plus);
        let used = slo.and_then(|slo| count.burnt(slo));
        SuccessStatus {
            window: span.word().to_string(),
            requests: count.requests,
            client_percent: count.seen().map(percent),
            upstream_percent: count.answered().map(percent),
            slo_used_percent: used.filter(|used| used.is_finite()).map(percent),
            masked: count.saved.into(),
        }
    };
    SPANS.map(within).into()
}

/// A share in percent, to a thousandth. Rounded down: only what never failed is 100 %.
pub(super) fn percent(share: f64) -> f64 {
    (share * 100_000.0).floor() / 1000.0
}

fn failure(failed: Failed) -> FailureStatus {
    FailureStatus {
        time: stamp(failed.at),
        request_id: failed.request_id,
        route: failed.route,
        request: failed.what,
        status: failed.status,
        tries: failed.tries,
        reason: failed.reason.map(str::to_string),
    }
}

fn upstream(upstream: &Upstream) -> UpstreamStatus {
    let backends = (0..upstream.backends.len()).filter_map(|i| backend(upstream, i));
    UpstreamStatus {
        name: upstream.name.clone(),
        down: upstream.is_down(),
        backends: backends.collect(),
        concurrency: upstream.places.figures().map(places),
    }
}

/// What the states of backends are called.
pub(super) const STATES: [&str; 8] = [
    "up",
    "warming",
    "ejected",
    "unreachable",
    "down",
    "checking",
    "drain",
    "off",
];

/// The one that a backend is in.
pub(super) fn state(upstream: &Upstream, i: usize) -> Option<&'static str> {
    let gate = upstream.backends.get(i)?.standing.gate();
    Some(match gate {
        _ if upstream.is_off(i) => "off",
        _ if upstream.is_withdrawn(i) => "drain",
        Gate::Warming(since)
            if warm_share(clock::now(), since, upstream.eject.slow_start) >= 1.0 =>
        {
            "up"
        }
        gate => gate.word(),
    })
}

fn backend(upstream: &Upstream, i: usize) -> Option<BackendStatus> {
    let backend = upstream.backends.get(i)?;
    let standing = &backend.standing;
    let now = clock::now();
    let state = state(upstream, i)?;
    let ejected_for = match standing.gate() {
        Gate::Ejected(until) => Some(millis(until.saturating_sub(now))),
        _ => None,
    };
    Some(BackendStatus {
        address: backend.label.clone(),
        state: state.to_string(),
        active: backend.active(),
        tries: backend.tries(),
        failures: backend.failures(),
        median_ms: standing.median(1).map(fraction),
        ejected_for_ms: ejected_for,
        last_failure: standing.last_failure().map(|failed| LastFailure {
            what: failed.what,
            ago_ms: millis(now.saturating_sub(failed.at)),
        }),
    })
}

fn places(figures: Figures) -> PlacesStatus {
    let [(_, queue_full), (_, queue_timeout), (_, displaced)] = figures.refused;
    PlacesStatus {
        active: figures.active,
        queued: figures.queued,
        limit: figures.limit,
        queue_full,
        queue_timeout,
        displaced,
    }
}

fn route(traffic: &Traffic, sums: &mut Sums) -> RouteStatus {
    let budget = traffic.budget();
    let millis_of = |share| {
        sums.took
            .quantile(share)
            .filter(|s| s.is_finite())
            .map(|s| s * 1000.0)
    };
    RouteStatus {
        name: traffic.route.name.clone(),
        action: match traffic.route.action {
            Action::Proxy(_) => Doing::Proxy,
            Action::Respond(_) => Doing::Respond,
            Action::Redirect(_) => Doing::Redirect,
        },
        cache: (sums.cache.iter())
            .map(|(word, count)| (word.to_string(), *count))
            .collect(),
        requests_total: sums.count(),
        masked_total: sums.total.saved.sum(),
        p50_ms: millis_of(0.5),
        p99_ms: millis_of(0.99),
        slo_percent: traffic.route.slo.map(percent),
        success: success(std::slice::from_mut(sums), traffic.route.slo),
        requests: budget.requests,
        retries: budget.retries,
        retries_total: budget.retries_total,
        retries_refused_total: budget.refused_total,
        hedged_total: traffic.hedges().map(|report| report.retries_total),
        concurrency: traffic.places.figures().map(places),
        rate_limited: traffic.rate_refused(),
        canary: traffic.split().map(|split| CanaryStatus {
            share_percent: of_share(&split.share),
            rolled_back: split.rolled_back.map(|figures| figures.to_string()),
            step: split.step + 1,
            steps: split.shares.len(),
            shares_percent: split.shares.iter().map(of_share).collect(),
            next_step_ms: split.next_step.map(millis),
            stable: side(split.stable),
            canary: side(split.canary),
        }),
        not_mirrored: traffic.not_copied(),
    }
}

fn of_share(share: &Share) -> f64 {
    f64::from(share.hundredths()) / 100.0
}

fn side(figures: SideFigures) -> SideStatus {
    SideStatus {
        requests: figures.outcomes.count(),
        failed: figures.outcomes.failed,
        p95_ms: figures.p95.map(fraction),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds to a tenth.
fn fraction(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
