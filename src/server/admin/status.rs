//! Upstreams and routes in figures: as JSON for programs, as tables for people.

use super::Scene;
use crate::observe::access_log::stamp;
use crate::observe::tally::{Failed, Sums};
use crate::policy::canary::SideFigures;
use crate::policy::health::{Gate, warm_share};
use crate::policy::success::{Count, SPANS, Savings, Span};
use crate::upstream::places::Figures;
use crate::upstream::traffic::Traffic;
use crate::upstream::{Upstream, clock};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
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
    /// In the order of the file; only those that hand requests on.
    pub routes: Vec<RouteStatus>,
    /// Requests that failed, the last first.
    pub failures: Vec<FailureStatus>,
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

/// `95 saved: 60 by another backend, 30 by another try, 5 by a stored answer`.
impl fmt::Display for MaskedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} saved", self.sum())?;
        let ways = [
            ("another backend", self.failover),
            ("another try", self.retry),
            ("a stored answer", self.cache),
        ];
        let used = ways.into_iter().filter(|(_, count)| *count > 0);
        for (number, (what, count)) in used.enumerate() {
            let before = if number == 0 { ": " } else { ", " };
            write!(f, "{before}{count} by {what}")?;
        }
        Ok(())
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

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
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
        let proxied = |traffic: &&Arc<Traffic>| traffic.route.is_proxied();
        let mut all: Vec<Sums> = snapshot.traffic.iter().map(|t| t.tally.figures()).collect();
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
                reload_error: reload.error,
            },
            success: success(&mut all, None),
            upstreams: snapshot.upstreams.iter().map(|u| upstream(u)).collect(),
            routes: snapshot
                .traffic
                .iter()
                .filter(proxied)
                .map(|traffic| route(traffic))
                .collect(),
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
fn percent(share: f64) -> f64 {
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

fn route(traffic: &Traffic) -> RouteStatus {
    let budget = traffic.budget();
    let sums = traffic.tally.figures();
    let millis_of = |share| {
        sums.quantile(share)
            .filter(|s| s.is_finite())
            .map(|s| s * 1000.0)
    };
    RouteStatus {
        name: traffic.route.name.clone(),
        requests_total: sums.count(),
        masked_total: sums.masked.sum(),
        p50_ms: millis_of(0.5),
        p99_ms: millis_of(0.99),
        slo_percent: traffic.route.slo.map(percent),
        success: success(&mut [sums], traffic.route.slo),
        requests: budget.requests,
        retries: budget.retries,
        retries_total: budget.retries_total,
        retries_refused_total: budget.refused_total,
        hedged_total: traffic.hedges().map(|report| report.retries_total),
        concurrency: traffic.places.figures().map(places),
        rate_limited: traffic.rate_refused(),
        canary: traffic.split().map(|split| CanaryStatus {
            share_percent: f64::from(split.share.hundredths()) / 100.0,
            rolled_back: split.rolled_back.map(|figures| figures.to_string()),
            step: split.step.0 + 1,
            steps: split.step.1,
            next_step_ms: split.next_step.map(millis),
            stable: side(split.stable),
            canary: side(split.canary),
        }),
        not_mirrored: traffic.not_copied(),
    }
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

/// What clients have written, with nothing in it that a terminal could take for a command.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for char in self.0.chars() {
            match char {
                ' '..='~' => f.write_char(char)?,
                char => write!(f, "{}", char.escape_unicode())?,
            }
        }
        Ok(())
    }
}

/// How many failures are in the table; JSON and page have all that are remembered.
const SHOWN_FAILURES: usize = 10;

/// The tables.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = &self.process;
        let drains = if process.draining { "; DRAINING" } else { "" };
        writeln!(
            f,
            "backstop {}, running for {}, {} connections; configuration {}, in force for {}{drains}",
            process.version,
            ago(process.uptime_s * 1000),
            process.connections,
            self.configuration,
            ago(process.configured_s * 1000)
        )?;
        if let Some(error) = &self.process.reload_error {
            writeln!(f, "the last reload failed: {error}")?;
        }
        let asked = || self.success.iter().filter(|s| s.requests > 0);
        if asked().next().is_some() {
            writeln!(f, "\nsuccess")?;
        }
        for success in asked() {
            writeln!(f, "  {success}")?;
        }
        for upstream in &self.upstreams {
            let down = if upstream.down { "  DOWN" } else { "" };
            writeln!(f, "\nupstream {}{down}", upstream.name)?;
            writeln!(
                f,
                "  {:<24} {:<12} {:>7} {:>10} {:>9} {:>9}  last failure",
                "backend", "state", "active", "tries", "failed", "median"
            )?;
            for backend in &upstream.backends {
                let median = backend
                    .median_ms
                    .map_or_else(|| "-".to_string(), |ms| format!("{ms} ms"));
                let failure = match &backend.last_failure {
                    Some(last) => format!("{} ({} ago)", last.what, ago(last.ago_ms)),
                    None => "-".to_string(),
                };
                writeln!(
                    f,
                    "  {:<24} {:<12} {:>7} {:>10} {:>9} {:>9}  {failure}",
                    backend.address,
                    backend.state,
                    backend.active,
                    backend.tries,
                    backend.failures,
                    median
                )?;
            }
            if let Some(places) = &upstream.concurrency {
                writeln!(f, "  {places}")?;
            }
        }
        for route in &self.routes {
            writeln!(f, "\nroute {}", route.name)?;
            if let Some(success) = route.success.first().filter(|s| s.requests > 0) {
                writeln!(f, "  success {success}")?;
            }
            writeln!(
                f,
                "  {} requests and {} retries in 10 s; {} retries in all, {} refused by the budget",
                route.requests, route.retries, route.retries_total, route.retries_refused_total
            )?;
            if let Some(hedged) = route.hedged_total {
                writeln!(f, "  {hedged} sent twice")?;
            }
            if let Some(places) = &route.concurrency {
                writeln!(f, "  {places}")?;
            }
            if let Some(refused) = route.rate_limited {
                writeln!(f, "  rate limit: {refused} refused")?;
            }
            if let Some(canary) = &route.canary {
                writeln!(f, "  {canary}")?;
            }
        }
        if !self.failures.is_empty() {
            writeln!(f, "\nfailures, the last first")?;
        }
        for failure in self.failures.iter().take(SHOWN_FAILURES) {
            writeln!(
                f,
                "  {} {} {} ({}) {}; tries: {}; no further one: {}",
                failure.time,
                failure.status,
                Plain(&failure.request),
                failure.route,
                failure.request_id,
                match failure.tries.is_empty() {
                    true => "-".to_string(),
                    false => failure.tries.join(", "),
                },
                failure.reason.as_deref().unwrap_or("-")
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for SuccessStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share =
            |share: Option<f64>| share.map_or_else(|| "-".to_string(), |p| format!("{p} %"));
        write!(
            f,
            "{}: {} for clients, {} at the upstream",
            self.window,
            share(self.client_percent),
            share(self.upstream_percent)
        )?;
        if let Some(used) = self.slo_used_percent {
            write!(f, ", {used} % of the room for errors used")?;
        }
        match self.masked.sum() {
            0 => Ok(()),
            _ => write!(f, "; {}", self.masked),
        }
    }
}

impl fmt::Display for PlacesStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "concurrency: {} of {} places taken, {} queued; refused: {} queue full, {} too long, {} displaced",
            self.active,
            self.limit,
            self.queued,
            self.queue_full,
            self.queue_timeout,
            self.displaced
        )
    }
}

impl fmt::Display for CanaryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "canary: {} %", self.share_percent)?;
        if self.steps > 1 {
            write!(f, ", step {} of {}", self.step, self.steps)?;
        }
        write!(f, "; canary {}, stable {}", self.canary, self.stable)?;
        match &self.rolled_back {
            Some(why) => write!(f, "; rolled back: {why}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SideStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} failed", self.requests, self.failed)?;
        match self.p95_ms {
            Some(ms) => write!(f, ", p95 {ms} ms"),
            None => Ok(()),
        }
    }
}

/// `450 ms`, `12 s`, `3 m`, `2 h`.
pub(super) fn ago(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{} s", ms / 1000),
        60_000..3_600_000 => format!("{} m", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables() {
        let success = vec![SuccessStatus {
            window: "5m".into(),
            requests: 1000,
            client_percent: Some(99.9),
            upstream_percent: Some(90.5),
            slo_used_percent: Some(12.5),
            masked: MaskedStatus {
                retry: 30,
                failover: 65,
                cache: 0,
            },
        }];
        let status = Status {
            configuration: 3,
            process: ProcessStatus {
                version: "1.2.3".into(),
                uptime_s: 5,
                connections: 2,
                draining: false,
                configured_s: 4,
                reload_error: Some("upstreams.yaml:3: no".into()),
            },
            success: success.clone(),
            failures: vec![FailureStatus {
                time: "2026-11-29T00:00:00.000Z".into(),
                request_id: "abc".into(),
                route: "all".into(),
                request: "GET /a\u{9b}".into(),
                status: 502,
                tries: vec!["127.0.0.1:9001: reset".into()],
                reason: Some("tries".into()),
            }],
            upstreams: vec![UpstreamStatus {
                name: "pool".into(),
                down: false,
                backends: vec![BackendStatus {
                    address: "127.0.0.1:9001".into(),
                    state: "ejected".into(),
                    active: 1,
                    tries: 20,
                    failures: 5,
                    median_ms: Some(1.5),
                    ejected_for_ms: Some(900),
                    last_failure: Some(LastFailure {
                        what: "status 500".into(),
                        ago_ms: 61_000,
                    }),
                }],
                concurrency: None,
            }],
            routes: vec![RouteStatus {
                name: "all".into(),
                requests_total: 1000,
                masked_total: 95,
                success,
                slo_percent: Some(99.95),
                p50_ms: Some(5.0),
                p99_ms: None,
                requests: 10,
                retries: 2,
                retries_total: 7,
                retries_refused_total: 1,
                hedged_total: Some(3),
                concurrency: Some(PlacesStatus {
                    active: 3,
                    queued: 2,
                    limit: 3,
                    queue_full: 4,
                    queue_timeout: 5,
                    displaced: 6,
                }),
                rate_limited: Some(8),
                canary: Some(CanaryStatus {
                    share_percent: 0.0,
                    rolled_back: Some("too many failures".into()),
                    step: 1,
                    steps: 1,
                    next_step_ms: None,
                    stable: SideStatus {
                        requests: 100,
                        failed: 0,
                        p95_ms: Some(2.0),
                    },
                    canary: SideStatus {
                        requests: 10,
                        failed: 9,
                        p95_ms: None,
                    },
                }),
                not_mirrored: 0,
            }],
        };
        let text = "backstop 1.2.3, running for 5 s, 2 connections; configuration 3, in force for 4 s
the last reload failed: upstreams.yaml:3: no

success
  5m: 99.9 % for clients, 90.5 % at the upstream, 12.5 % of the room for errors used; 95 saved: 65 by another backend, 30 by another try

upstream pool
  backend                  state         active      tries    failed    median  last failure
  127.0.0.1:9001           ejected            1         20         5    1.5 ms  status 500 (1 m ago)

route all
  success 5m: 99.9 % for clients, 90.5 % at the upstream, 12.5 % of the room for errors used; 95 saved: 65 by another backend, 30 by another try
  10 requests and 2 retries in 10 s; 7 retries in all, 1 refused by the budget
  3 sent twice
  concurrency: 3 of 3 places taken, 2 queued; refused: 4 queue full, 5 too long, 6 displaced
  rate limit: 8 refused
  canary: 0 %; canary 10 requests, 9 failed, stable 100 requests, 0 failed, p95 2 ms; rolled back: too many failures

failures, the last first
  2026-11-29T00:00:00.000Z 502 GET /a\\u{9b} (all) abc; tries: 127.0.0.1:9001: reset; no further one: tries
";
        assert_eq!(status.to_string(), text);
    }
}
