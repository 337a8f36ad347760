//! Which share of requests succeeded, and what objectives leave.

use super::Counted;
use crate::observe::exposition::{Exposition, Kind};
use crate::policy::success::{Count, SPANS};

/// Writes shares, objectives and what is left of them.
pub(super) fn write(tallies: &mut [Counted], all: &mut Exposition) {
    // Of each route, and of all together.
    let (mut ratios, mut overall, mut burnt) = (Vec::new(), Vec::new(), Vec::new());
    for span in SPANS {
        let mut sum = Count::default();
        for one in tallies.iter_mut() {
            let count = one.sums.within(span);
            sum = sum.plus(count);
            for (seen, share) in shares(&count) {
                ratios.push((one.route.clone(), span.word(), seen, share));
            }
            if let Some((slo, used)) = one.slo.and_then(|slo| Some((slo, count.burnt(slo)?))) {
                burnt.push((one.route.clone(), span.word(), slo, used));
            }
        }
        for (seen, share) in shares(&sum) {
            overall.push((span.word(), seen, share));
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
    let help = "The share of requests that is to succeed.";
    let mut family = all.family("backstop_slo_objective_ratio", Kind::Gauge, help);
    for one in tallies.iter() {
        if let Some(slo) = one.slo {
            family.sample(&[("route", &one.route)], slo);
        }
    }
    let help = "How fast the room for errors is used up: 1 uses all of it within the window.";
    let mut family = all.family("backstop_slo_burn_rate", Kind::Gauge, help);
    for (route, span, _, used) in &burnt {
        family.sample(&[("route", route), ("window", span)], number(*used));
    }
    let help = "How much of the room for errors is left: all of it is 1, and below 0 the objective is missed. One of 100 % has no room.";
    let mut family = all.family("backstop_slo_budget_remaining_ratio", Kind::Gauge, help);
    for (route, span, slo, used) in &burnt {
        if *slo < 1.0 {
            family.sample(&[("route", route), ("window", span)], number(1.0 - used));
        }
    }
}

fn shares(count: &Count) -> impl Iterator<Item = (&'static str, f64)> {
    let shares = [("client", count.seen()), ("upstream", count.answered())];
    shares
        .into_iter()
        .filter_map(|(seen, share)| Some((seen, share?)))
}

/// As both formats write what has no bounds.
fn number(number: f64) -> String {
    match number.is_finite() {
        true => number.to_string(),
        false => "+Inf".to_string(),
    }
}
