//! `GET /metrics`: everything that is counted, for Prometheus.
//!
//! Every label is something that the operator wrote, or one of a few words: what clients send makes no series.

mod cache;
mod process;
mod requests;
mod routes;
mod success;
mod upstreams;

use super::Scene;
use crate::observe::exposition::Exposition;
use crate::observe::tally::Sums;

/// What stands for "no route" in the label.
const NONE: &str = "";

/// Writes them; `open` for OpenMetrics.
pub(super) fn write(scene: &Scene, open: bool) -> String {
    let mut all = Exposition::new(open);
    let mut tallies = tallies(scene);
    requests::write(&tallies, &mut all);
    success::write(&mut tallies, &mut all);
    upstreams::write(scene, &mut all);
    routes::write(scene, &mut all);
    routes::places(scene, &mut all);
    cache::write(scene, &mut all);
    process::write(scene, &mut all);
    all.finish()
}

/// What was counted of each route, and of what had none.
fn tallies(scene: &Scene) -> Vec<Counted> {
    let snapshot = scene.shared.live.load();
    let routed = snapshot.traffic.iter().map(|traffic| Counted {
        route: traffic.route.name.clone(),
        slo: traffic.route.slo,
        sums: traffic.tally.figures(),
    });
    let unrouted = Counted {
        route: NONE.to_string(),
        slo: None,
        sums: scene.shared.counts.unrouted.figures(),
    };
    routed.chain([unrouted]).collect()
}

/// What was counted of one route.
struct Counted {
    route: String,
    /// The share of its requests that is to succeed.
    slo: Option<f64>,
    sums: Sums,
}
