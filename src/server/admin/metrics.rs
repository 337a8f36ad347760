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
use crate::observe::tally::{Sums, Tally};

/// What stands for "no route" in the label.
const NONE: &str = "";

/// Writes them; `open` for OpenMetrics.
pub(super) fn write(scene: &Scene, open: bool) -> String {
    let mut all = Exposition::new(open);
    let mut tallies = tallies(scene);
    requests::write(&tallies, &mut all);
    success::write(scene, &mut tallies, &mut all);
    upstreams::write(scene, &mut all);
    routes::write(scene, &mut all);
    routes::places(scene, &mut all);
    cache::write(scene, &mut all);
    process::write(scene, &mut all);
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
