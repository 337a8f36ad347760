//! `eject` of an upstream, as written: when what tries meet takes a backend out of rotation.

use super::duration::{PositiveSpan, Span};
use super::number::Bounded;
use super::percentage::Percentage;
use super::switch::{Section, Switch, over};
use super::times::Times;
use crate::policy::health::EjectRules;
use serde::{Deserialize, Serialize};

/// `eject`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { consecutive: 5, time: 10s }, or off"
)]
pub(crate) struct EjectSpec {
    consecutive: Option<Bounded<0, 1000>>,
    error_rate: Option<Percentage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Times>,
    window: Option<PositiveSpan>,
    min_tries: Option<Bounded<1, 1_000_000>>,
    time: Option<PositiveSpan>,
    max_time: Option<PositiveSpan>,
    max_ejected: Option<Percentage>,
    slow_start: Option<Span>,
}

impl Section for EjectSpec {
    const EXPECTED: &'static str = "a mapping such as { consecutive: 5, time: 10s }, or off";

    fn over(&self, base: &Self) -> Self {
        over!(
            self,
            base,
            EjectSpec {
                consecutive,
                error_rate,
                latency,
                window,
                min_tries,
                time,
                max_time,
                max_ejected,
                slow_start,
            }
        )
    }
}

/// Every key with a default filled in.
pub(crate) fn filled(written: Option<&Switch<EjectSpec>>) -> Switch<EjectSpec> {
    let default = EjectRules::default();
    let base = EjectSpec {
        consecutive: Some(Bounded(default.consecutive)),
        error_rate: Some(Percentage::of(default.error_rate.unwrap_or_default())),
        latency: None,
        window: Some(PositiveSpan(default.window)),
        min_tries: Some(Bounded(default.min_tries)),
        time: Some(PositiveSpan(default.time)),
        max_time: Some(PositiveSpan(default.max_time)),
        max_ejected: Some(Percentage::of(default.max_ejected)),
        slow_start: Some(Span(default.slow_start)),
    };
    match written {
        None => Switch::On(base),
        Some(written) => written.map(|own| own.over(&base)),
    }
}

/// What the upstream goes by.
pub(crate) fn compile(written: Option<&Switch<EjectSpec>>) -> EjectRules {
    let default = EjectRules::default();
    let Switch::On(spec) = filled(written) else {
        // Only `max_fails` and probes are left.
        return EjectRules {
            consecutive: 0,
            error_rate: None,
            ..default
        };
    };
    let span = |span: Option<PositiveSpan>, default| span.map_or(default, |span| span.0);
    EjectRules {
        consecutive: spec.consecutive.map_or(default.consecutive, |n| n.0),
        error_rate: spec
            .error_rate
            .map(Percentage::fraction)
            .filter(|rate| *rate > 0.0),
        latency: spec.latency.map(Times::factor),
        window: span(spec.window, default.window),
        min_tries: spec.min_tries.map_or(default.min_tries, |n| n.0),
        time: span(spec.time, default.time),
        max_time: span(spec.max_time, default.max_time),
        max_ejected: spec
            .max_ejected
            .map_or(default.max_ejected, Percentage::fraction),
        slow_start: spec.slow_start.map_or(default.slow_start, |span| span.0),
    }
}
