//! Which share of requests succeeded, and what objectives leave.

use super::super::Scene;
use crate::observe::exposition::{Exposition, Kind};
use crate::observe::tally::Sums;
use crate::policy::success::{Count, SPANS};

/// Writes shares, objectives and what is left of them.
pub(super) fn write(scene: &Scene, tallies: &mut [(String, Sums)], all: &mut Exposition) {
    let mut ratios = Vec::new();
    for (route, sums) in tallies.iter_mut() {
        for span in SPANS {
            let count = sums.within(span);
            for (seen, share) in [("client", count.seen()), ("upstream", count.answered())] {
                if let Some(share) = share {
                    ratios.push((route.clone(), span.word(), seen, share));
                }
            }
        }
    }
    let mut overall = Vec::new();
    for span in SPANS {
        let counts = tallies.iter_mut().map(|(_, sums)| sums.within(span));
        let count = counts.fold(Count::default(), Count::plus);
        for (seen, share) in [("client", count.seen()), ("upstream", count.answered())] {
            if let Some(share) = share {
                overall.push((span.word(), seen, share));
            }
        }
    }
    let help = "Share of requests that succeeded, as clients saw it, and of tries that the upstream answered well.";
    let mut family = all.family("backstop_success_ratio", Kind::Gauge, help);
    for (route, span, seen, share) in &ratios {
        family.sample(&[("route", route), ("window", span), ("seen", seen)], share);
    }
    let help = "The same of all routes together, and of requests that no route took.";
    let mut family = all.family("backstop_overall_success_ratio", Kind::Gauge, help);
    for (span, seen, share) in overall {
        family.sample(&[("window", span), ("seen", seen)], share);
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
    let help = "How much of the room for errors is left: all of it is 1, and below 0 the objective is missed.";
    let mut family = all.family("backstop_slo_budget_remaining_ratio", Kind::Gauge, help);
    for (traffic, slo) in with_slo() {
        let mut sums = traffic.tally.figures();
        for span in SPANS {
            // An objective of 100 % has no room, of which no share can be left.
            let burnt = sums.within(span).burnt(slo);
            if let Some(burnt) = burnt.filter(|burnt| burnt.is_finite()) {
                let labels = [
                    ("route", traffic.route.name.as_str()),
                    ("window", span.word()),
                ];
                family.sample(&labels, 1.0 - burnt);
            }
        }
    }
}
