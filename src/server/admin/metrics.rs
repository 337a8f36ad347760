//! `GET /metrics`: everything that is counted, for Prometheus.
//!
//! Every label is something that the operator wrote, or one of a few words: what clients send makes no series.

use super::Scene;
use super::figures::Figures;
use crate::observe::exposition::{Exposition, Kind, Labels};
use crate::observe::tally::{BOUNDS, Sums, Tally};
use crate::policy::health::Gate;
use crate::policy::success::{SAVED, SPANS};
use crate::upstream::places;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// What stands for "no route" in the label.
const NONE: &str = "";

/// Writes them; `open` for OpenMetrics.
pub(super) fn write(scene: &Scene, open: bool) -> String {
    let mut all = Exposition::new(open);
    requests(scene, &mut all);
    upstreams(scene, &mut all);
    routes(scene, &mut all);
    places_of(scene, &mut all);
    cache(scene, &mut all);
    process(scene, &mut all);
    all.finish()
}

/// What was counted of each route, and of what had none.
fn tallies(scene: &Scene) -> Vec<(String, Sums)> {
    let snapshot = scene.shared.live.load();
    let routed = snapshot.traffic.iter();
    let routed = routed.map(|traffic| (traffic.route.name.clone(), traffic.tally.figures()));
    let unrouted: &Tally = &scene.shared.counts.unrouted;
    routed
        .chain([(NONE.to_string(), unrouted.figures())])
        .collect()
}

fn requests(scene: &Scene, all: &mut Exposition) {
    let mut tallies = tallies(scene);
    let mut family = all.family(
        "backstop_requests",
        Kind::Counter,
        "Requests that ended, by what the client got; 499 if it left.",
    );
    for (route, sums) in &tallies {
        for (method, status, count) in sums.requests() {
            let code = status.to_string();
            family.sample(
                &[("route", route), ("method", method), ("code", &code)],
                count,
            );
        }
    }
    let mut family = all.family(
        "backstop_request_duration_seconds",
        Kind::Histogram,
        "From a request's head to its end.",
    );
    for (route, sums) in tallies.iter().filter(|(_, sums)| sums.count() > 0) {
        family.histogram(&[("route", route)], &BOUNDS, &sums.buckets, sums.seconds);
    }
    let mut family = all.family(
        "backstop_response_body_bytes",
        Kind::Counter,
        "Bytes of bodies that were sent to clients.",
    );
    for (route, sums) in &tallies {
        family.sample(&[("route", route)], sums.bytes);
    }
    let mut family = all.family(
        "backstop_masked_requests",
        Kind::Counter,
        "Requests that succeeded although a try had failed, by what helped: another try at that backend, another backend, a stored answer.",
    );
    for (route, sums) in &tallies {
        for (by, count) in SAVED.iter().zip(sums.masked) {
            family.sample(&[("route", route), ("by", by.word())], count);
        }
    }
    let mut family = all.family(
        "backstop_cache_requests",
        Kind::Counter,
        "Requests by what the cache did.",
    );
    for (route, sums) in &tallies {
        for (result, count) in &sums.cache {
            family.sample(&[("route", route), ("result", result)], count);
        }
    }
    let mut ratios = Vec::new();
    for (route, sums) in &mut tallies {
        for span in SPANS {
            let count = sums.within(span);
            for (seen, share) in [("client", count.seen()), ("upstream", count.answered())] {
                if let Some(share) = share {
                    ratios.push((route.clone(), span.word(), seen, share));
                }
            }
        }
    }
    let help = "Share of requests that succeeded, as clients saw it, and of tries that the upstream answered well.";
    let mut family = all.family("backstop_success_ratio", Kind::Gauge, help);
    for (route, span, seen, share) in &ratios {
        family.sample(&[("route", route), ("window", span), ("seen", seen)], share);
    }
    let snapshot = scene.shared.live.load();
    let with_slo = || {
        snapshot
            .traffic
            .iter()
            .filter_map(|t| Some((t, t.route.slo?)))
    };
    let mut family = all.family(
        "backstop_slo_objective_ratio",
        Kind::Gauge,
        "The share of requests that is to succeed.",
    );
    for (traffic, slo) in with_slo() {
        family.sample(&[("route", &traffic.route.name)], slo);
    }
    let help = "How fast the room for errors is used up: 1 uses all of it within the window.";
    let mut family = all.family("backstop_slo_burn_rate", Kind::Gauge, help);
    for (traffic, slo) in with_slo() {
        let mut sums = traffic.tally.figures();
        for span in SPANS {
            if let Some(burnt) = sums.within(span).burnt(slo) {
                let burnt = if burnt.is_finite() {
                    format!("{burnt}")
                } else {
                    "+Inf".to_string()
                };
                family.sample(
                    &[("route", &traffic.route.name), ("window", span.word())],
                    burnt,
                );
            }
        }
    }
}

fn upstreams(scene: &Scene, all: &mut Exposition) {
    let snapshot = scene.shared.live.load();
    let backends = || {
        snapshot.upstreams.iter().flat_map(|upstream| {
            let name = upstream.name.as_str();
            upstream
                .backends
                .iter()
                .enumerate()
                .map(move |(i, backend)| (upstream, name, i, backend))
        })
    };
    let mut family = all.family(
        "backstop_backend_tries",
        Kind::Counter,
        "Tries, by how they ended.",
    );
    for (_, upstream, _, backend) in backends() {
        let failed = backend.failures();
        let labels = |outcome| {
            [
                ("upstream", upstream),
                ("backend", &*backend.label),
                ("outcome", outcome),
            ]
        };
        family.sample(&labels("failed"), failed);
        family.sample(&labels("ok"), backend.tries().saturating_sub(failed));
    }
    let mut family = all.family("backstop_backend_active", Kind::Gauge, "Tries under way.");
    for (_, upstream, _, backend) in backends() {
        family.sample(
            &[("upstream", upstream), ("backend", &backend.label)],
            backend.active(),
        );
    }
    let mut family = all.family(
        "backstop_backend_up",
        Kind::Gauge,
        "Whether requests are sent there.",
    );
    for (of, upstream, i, backend) in backends() {
        let takes = matches!(backend.standing.gate(), Gate::Open | Gate::Warming(_));
        let up = takes && !of.is_off(i) && !of.is_withdrawn(i);
        family.sample(
            &[("upstream", upstream), ("backend", &backend.label)],
            u8::from(up),
        );
    }
    let mut family = all.family(
        "backstop_backend_latency_median_seconds",
        Kind::Gauge,
        "Median time to a response head of late.",
    );
    for (_, upstream, _, backend) in backends() {
        if let Some(median) = backend.standing.median(1) {
            family.sample(
                &[("upstream", upstream), ("backend", &backend.label)],
                median.as_secs_f64(),
            );
        }
    }
    let mut family = all.family(
        "backstop_backend_ejections",
        Kind::Counter,
        "How often it was taken out of rotation for failing.",
    );
    for (_, upstream, _, backend) in backends() {
        family.sample(
            &[("upstream", upstream), ("backend", &backend.label)],
            backend.standing.ejections(),
        );
    }
    let mut family = all.family(
        "backstop_upstream_down",
        Kind::Gauge,
        "Whether no backend can be sent anything.",
    );
    for upstream in &snapshot.upstreams {
        family.sample(
            &[("upstream", &upstream.name)],
            u8::from(upstream.is_down()),
        );
    }
}

fn routes(scene: &Scene, all: &mut Exposition) {
    let snapshot = scene.shared.live.load();
    let proxied = || {
        snapshot
            .traffic
            .iter()
            .filter(|traffic| traffic.route.is_proxied())
    };
    let mut family = all.family("backstop_retries", Kind::Counter, "Retries.");
    for traffic in proxied() {
        family.sample(
            &[("route", &traffic.route.name)],
            traffic.budget().retries_total,
        );
    }
    let mut family = all.family(
        "backstop_retries_refused",
        Kind::Counter,
        "Retries that the budget refused.",
    );
    for traffic in proxied() {
        family.sample(
            &[("route", &traffic.route.name)],
            traffic.budget().refused_total,
        );
    }
    let mut family = all.family(
        "backstop_hedged_requests",
        Kind::Counter,
        "Requests that were sent a second time.",
    );
    for traffic in proxied() {
        if let Some(hedges) = traffic.hedges() {
            family.sample(&[("route", &traffic.route.name)], hedges.retries_total);
        }
    }
    let mut family = all.family(
        "backstop_rate_limited_requests",
        Kind::Counter,
        "Requests refused for coming too often.",
    );
    for traffic in &snapshot.traffic {
        if let Some(refused) = traffic.rate_refused() {
            family.sample(&[("route", &traffic.route.name)], refused);
        }
    }
    let mut family = all.family(
        "backstop_canary_share_ratio",
        Kind::Gauge,
        "The share of requests that the canary gets.",
    );
    for traffic in proxied() {
        if let Some(split) = traffic.split() {
            let share = f64::from(split.share.hundredths()) / 10_000.0;
            family.sample(&[("route", &traffic.route.name)], share);
        }
    }
    let mut family = all.family(
        "backstop_canary_rolled_back",
        Kind::Gauge,
        "Whether the canary was taken back.",
    );
    for traffic in proxied() {
        if let Some(split) = traffic.split() {
            let back = u8::from(split.rolled_back.is_some());
            family.sample(&[("route", &traffic.route.name)], back);
        }
    }
}

/// The places of routes and upstreams that bound how much runs at once.
fn places_of(scene: &Scene, all: &mut Exposition) {
    let snapshot = scene.shared.live.load();
    let routes = snapshot
        .traffic
        .iter()
        .map(|t| ("route", t.route.name.as_str(), &t.places));
    let upstreams = snapshot
        .upstreams
        .iter()
        .map(|u| ("upstream", u.name.as_str(), &u.places));
    let all_places: Vec<(&str, &str, places::Figures)> = routes
        .chain(upstreams)
        .filter_map(|(kind, name, places)| Some((kind, name, places.figures()?)))
        .collect();
    type Number = fn(&places::Figures) -> u64;
    let gauges: [(&str, &str, Number); 3] = [
        (
            "backstop_concurrency_active",
            "Places that are taken.",
            |f| f.active.into(),
        ),
        (
            "backstop_concurrency_limit",
            "Places that there are.",
            |f| f.limit.into(),
        ),
        (
            "backstop_queue_length",
            "Requests that wait for a place.",
            |f| f.queued as u64,
        ),
    ];
    for (name, help, number) in gauges {
        let mut family = all.family(name, Kind::Gauge, help);
        for (kind, of, figures) in &all_places {
            family.sample(&[("kind", kind), ("of", of)], number(figures));
        }
    }
    let mut family = all.family(
        "backstop_queue_refused",
        Kind::Counter,
        "Requests that got no place, by why.",
    );
    for (kind, of, figures) in &all_places {
        for (why, count) in &figures.refused {
            family.sample(&[("kind", kind), ("of", of), ("why", why.word())], count);
        }
    }
}

fn cache(scene: &Scene, all: &mut Exposition) {
    let figures = Figures::from(scene.shared.cache.status());
    let memory = (
        "memory",
        figures.memory.objects,
        figures.memory.bytes,
        figures.memory.limit_bytes,
        figures.memory.evicted,
    );
    let disk = figures.disk.as_ref();
    let disk = disk.map(|d| ("disk", d.objects, d.bytes, d.limit_bytes, d.evicted));
    let tiers: Vec<_> = [Some(memory), disk].into_iter().flatten().collect();
    let mut one =
        |name: &str, kind, help: &str, number: fn(&(&'static str, u64, u64, u64, u64)) -> u64| {
            let mut family = all.family(name, kind, help);
            for tier in &tiers {
                family.sample(&[("tier", tier.0)], number(tier));
            }
        };
    one(
        "backstop_cache_objects",
        Kind::Gauge,
        "Stored answers.",
        |t| t.1,
    );
    one(
        "backstop_cache_bytes",
        Kind::Gauge,
        "What they take.",
        |t| t.2,
    );
    one(
        "backstop_cache_limit_bytes",
        Kind::Gauge,
        "What they may take.",
        |t| t.3,
    );
    one(
        "backstop_cache_evicted",
        Kind::Counter,
        "Answers that had to make room.",
        |t| t.4,
    );
    if let Some(disk) = &figures.disk {
        let plain: Labels<'_> = &[];
        all.family(
            "backstop_cache_disk_corrupt_files",
            Kind::Counter,
            "Files with wrong contents.",
        )
        .sample(plain, disk.corrupt);
        all.family(
            "backstop_cache_disk_errors",
            Kind::Counter,
            "Failures of the disk.",
        )
        .sample(plain, disk.errors);
        let off = u8::from(disk.off.is_some());
        all.family(
            "backstop_cache_disk_off",
            Kind::Gauge,
            "Whether nothing is written at this time.",
        )
        .sample(plain, off);
    }
    all.family(
        "backstop_cache_fills",
        Kind::Gauge,
        "Fills under way whose answer has not begun to come.",
    )
    .sample(&[], figures.fills);
}

fn process(scene: &Scene, all: &mut Exposition) {
    let shared = &scene.shared;
    let counts = &shared.counts;
    let mut number = |name: &str, kind, help: &str, value: f64| {
        all.family(name, kind, help).sample(&[], value);
    };
    #[allow(clippy::cast_precision_loss)]
    let of = |n: u64| n as f64;
    let read = |counter: &std::sync::atomic::AtomicU64| of(counter.load(Ordering::Relaxed));
    let seconds = |at: SystemTime| {
        at.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64()
    };
    number(
        "backstop_connections",
        Kind::Gauge,
        "Connections of clients.",
        of(shared.visitors.open() as u64),
    );
    number(
        "backstop_connections_refused",
        Kind::Counter,
        "Connections that were one too many.",
        of(shared.visitors.refused()),
    );
    number(
        "backstop_held_bytes",
        Kind::Gauge,
        "Content of requests that is held for another try or to be looked at.",
        of(crate::proxy::held()),
    );
    number(
        "backstop_malformed_requests",
        Kind::Counter,
        "Heads that were no request.",
        read(&counts.malformed),
    );
    number(
        "backstop_tls_handshakes",
        Kind::Counter,
        "Handshakes of TLS that were completed.",
        read(&counts.handshakes),
    );
    number(
        "backstop_tls_handshakes_failed",
        Kind::Counter,
        "Handshakes of TLS that were not.",
        read(&counts.handshakes_failed),
    );
    number(
        "backstop_access_log_dropped_lines",
        Kind::Counter,
        "Lines that the access log was too slow for.",
        of(shared.log.dropped()),
    );
    let reload = counts.reloads();
    number(
        "backstop_config_loads",
        Kind::Counter,
        "Configurations that took effect, that of the start included.",
        of(reload.done),
    );
    number(
        "backstop_config_reload_failures",
        Kind::Counter,
        "Reloads that failed.",
        of(reload.failed),
    );
    let ok = if reload.error.is_none() { 1.0 } else { 0.0 };
    number(
        "backstop_config_last_reload_successful",
        Kind::Gauge,
        "Whether the last reload took effect.",
        ok,
    );
    number(
        "backstop_config_since_timestamp_seconds",
        Kind::Gauge,
        "When the configuration in force was taken.",
        seconds(reload.since),
    );
    let draining = if shared.leaving.load(Ordering::Relaxed) {
        1.0
    } else {
        0.0
    };
    number(
        "backstop_draining",
        Kind::Gauge,
        "Whether the process is about to end.",
        draining,
    );
    let usage = super::usage::read();
    if let Some(usage) = usage {
        number(
            "process_cpu_seconds",
            Kind::Counter,
            "Processor time that was used.",
            usage.cpu_seconds,
        );
        number(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Memory that is resident.",
            of(usage.resident_bytes),
        );
        number(
            "process_open_fds",
            Kind::Gauge,
            "Open descriptors.",
            of(usage.open_files),
        );
    }
    let started = SystemTime::now() - counts.started.elapsed();
    number(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started.",
        seconds(started),
    );
    let mut family = all.family(
        "backstop_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When a certificate ends; one that is still to be fetched has ended.",
    );
    let mut seen = std::collections::BTreeSet::new();
    for certificate in scene
        .stores
        .iter()
        .flat_map(|store| Arc::clone(store).certificates())
    {
        let file = certificate.path().display().to_string();
        // Several listeners may show the same.
        if !seen.insert(file.clone()) {
            continue;
        }
        family.sample(&[("file", &file)], seconds(certificate.not_after));
    }
    let version = env!("CARGO_PKG_VERSION");
    all.family("backstop_build_info", Kind::Gauge, "Which program this is.")
        .sample(&[("version", version)], 1);
}
