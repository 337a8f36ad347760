//! Upstreams and their backends.

use super::super::Scene;
use super::super::status::{STATES, state};
use crate::observe::exposition::{Exposition, Kind};
use crate::policy::health::Gate;

/// Writes what is known of each.
pub(super) fn write(scene: &Scene, all: &mut Exposition) {
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
        "Tries that are over, by how they ended.",
    );
    for (_, upstream, _, backend) in backends() {
        for (outcome, count) in backend.outcomes() {
            let labels = [
                ("upstream", upstream),
                ("backend", &*backend.label),
                ("outcome", outcome),
            ];
            family.sample(&labels, count);
        }
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
        "backstop_backend_state",
        Kind::Gauge,
        "1 for the state that it is in, 0 for the others.",
    );
    for (of, upstream, i, backend) in backends() {
        let is_in = state(of, i);
        for word in STATES {
            let labels = [
                ("upstream", upstream),
                ("backend", &*backend.label),
                ("state", word),
            ];
            family.sample(&labels, u8::from(is_in == Some(word)));
        }
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
