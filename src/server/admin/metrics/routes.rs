//! Retries, second requests, limits and canaries of routes; and the places of routes and upstreams.

use super::super::Scene;
use crate::observe::exposition::{Exposition, Kind};
use crate::policy::route::Action;
use crate::upstream::places;
use crate::upstream::traffic::SplitFigures;

/// Writes what routes do beyond counting requests.
pub(super) fn write(scene: &Scene, all: &mut Exposition) {
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
    let help = "Retries that the budget would grant at this moment.";
    let mut family = all.family("backstop_retry_budget_remaining", Kind::Gauge, help);
    for traffic in proxied() {
        if let Action::Proxy(proxy) = &traffic.route.action {
            let report = traffic.budget();
            let allowed = proxy.budget.allowed(report.requests);
            let left = allowed.saturating_sub(report.retries);
            family.sample(&[("route", &traffic.route.name)], left);
        }
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
    let canaries: Vec<(&str, SplitFigures)> = proxied()
        .filter_map(|traffic| Some((traffic.route.name.as_str(), traffic.split()?)))
        .collect();
    type Number = fn(&SplitFigures) -> f64;
    #[allow(clippy::cast_precision_loss)] // Nobody writes so many steps.
    let gauges: [(&str, &str, Number); 4] = [
        (
            "backstop_canary_share_ratio",
            "The share of requests that the canary gets.",
            |split| f64::from(split.share.hundredths()) / 10_000.0,
        ),
        (
            "backstop_canary_step",
            "The step that the canary is at, from 1.",
            |split| (split.step + 1) as f64,
        ),
        ("backstop_canary_steps", "How many steps it has.", |split| {
            split.shares.len() as f64
        }),
        (
            "backstop_canary_rolled_back",
            "Whether the canary was taken back.",
            |split| u8::from(split.rolled_back.is_some()).into(),
        ),
    ];
    for (name, help, number) in gauges {
        let mut family = all.family(name, Kind::Gauge, help);
        for (route, split) in &canaries {
            family.sample(&[("route", route)], number(split));
        }
    }
}

/// Writes the places of routes and upstreams that bound how much runs at once.
pub(super) fn places(scene: &Scene, all: &mut Exposition) {
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
