//! Requests by route: how many, how long, how large, and what the cache did.

use super::Counted;
use crate::observe::exposition::{Exposition, Kind};
use crate::observe::tally::BOUNDS;

/// Writes what was counted of requests.
pub(super) fn write(tallies: &[Counted], all: &mut Exposition) {
    let mut family = all.family(
        "backstop_requests",
        Kind::Counter,
        "Requests that ended, by what the client got; 499 if it left.",
    );
    for Counted { route, sums, .. } in tallies {
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
    for Counted { route, sums, .. } in tallies.iter().filter(|one| one.sums.count() > 0) {
        family.histogram(
            &[("route", route)],
            &BOUNDS,
            &sums.took.buckets,
            sums.took.seconds,
        );
    }
    let mut family = all.family(
        "backstop_request_phase_seconds",
        Kind::Histogram,
        "Where the time of requests went that were handed on, all tries of one together.",
    );
    for Counted { route, sums, .. } in tallies {
        for (phase, took) in sums.phases().filter(|(_, took)| took.count() > 0) {
            let labels = [("route", route.as_str()), ("phase", phase)];
            family.histogram(&labels, &BOUNDS, &took.buckets, took.seconds);
        }
    }
    let mut family = all.family(
        "backstop_response_body_bytes",
        Kind::Counter,
        "Bytes of bodies that were sent to clients.",
    );
    for Counted { route, sums, .. } in tallies {
        family.sample(&[("route", route)], sums.bytes);
    }
    let mut family = all.family(
        "backstop_masked_requests",
        Kind::Counter,
        "Requests that succeeded although a try had failed, by what helped: another try at that backend, another backend, a stored answer.",
    );
    for Counted { route, sums, .. } in tallies {
        for (by, count) in sums.total.saved.each() {
            family.sample(&[("route", route), ("by", by.word())], count);
        }
    }
    let mut family = all.family(
        "backstop_cache_requests",
        Kind::Counter,
        "Requests by what the cache did.",
    );
    for Counted { route, sums, .. } in tallies {
        for (result, count) in &sums.cache {
            family.sample(&[("route", route), ("result", result)], count);
        }
    }
}
