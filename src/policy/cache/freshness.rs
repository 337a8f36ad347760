//! How old an answer is, and how long it is fresh by its own word (RFC 9111 §4.2).
//!
//! `proxy/` makes a [`Freshness`] of each answer that is stored and again of each that was validated; it is kept with
//! the answer, and [`reuse`](mod@super::reuse) judges by it. What the route says of time is not asked here. Where the
//! origin is unclear, the answer is old and its time short.

use super::super::cache_control::{MOST_SECONDS, seconds};
use super::directives::Directives;
use http::{HeaderMap, HeaderName, StatusCode, header};
use std::time::Duration;

/// The longest time that counts: infinity, for RFC 9111 §1.2.2.
pub(super) const MOST: Duration = Duration::from_secs(MOST_SECONDS);

/// The longest time that is made up for an answer which says nothing of it.
const MOST_HEURISTIC: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the clock may have been set back before nothing it said earlier is believed.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// When an answer was asked for and came, since the epoch: of the try that brought it, not of the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the request was sent.
    pub requested: Duration,
    /// When the head of the answer came.
    pub received: Duration,
}

/// What is known of an answer's age and of how long it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// When the answer came, or was last validated, since the epoch.
    pub received: Duration,
    /// How old it was then: `corrected_initial_age` of RFC 9111 §4.2.3.
    pub initial_age: Duration,
    /// How long the origin lets it be fresh (§4.2.1, §4.2.2), zero for not at all. From when the origin made it, so its
    /// age at arrival is part of it.
    pub lifetime: Duration,
    /// Whether it may never be given out stale, not even when the origin fails: `must-revalidate`, `proxy-revalidate`,
    /// `s-maxage` and `no-cache` (§4.2.4).
    pub never_stale: bool,
    /// Whether the origin has to be asked each time: `no-cache` (§5.2.2.4), for all of the answer even where it names
    /// fields.
    pub always_validate: bool,
    /// How long past its lifetime it may be given out while the origin is asked (RFC 5861 §3), as the origin says.
    pub stale_while_revalidate: Duration,
    /// How long past its lifetime it may stand in for a failing origin (RFC 5861 §4), as the origin says.
    pub stale_if_error: Duration,
}

impl Freshness {
    /// That of an answer which came just now. `headers` are those it is stored with: after a validation, the merged
    /// ones. `date` reads a date (RFC 9110 §5.6.7) as time since the epoch.
    ///
    /// Where the route forces a `ttl`, only the age is found out, for the `Age` field.
    pub fn of(
        policy_is_ttl: bool,
        status: StatusCode,
        headers: &HeaderMap,
        times: Times,
        date: &dyn Fn(&str) -> Option<Duration>,
    ) -> Freshness {
        let received = times.received;
        // RFC 9110 §6.6.1: without it, the time of arrival.
        let dated = single(headers, &header::DATE).and_then(date);
        let dated = dated.unwrap_or(received);
        // Dates count in seconds, so of the difference a part of a second means nothing.
        let apparent_age = Duration::from_secs(received.saturating_sub(dated).as_secs());
        let delay = received.saturating_sub(times.requested);
        let corrected_age = stated_age(headers).saturating_add(delay);
        let mut freshness = Freshness {
            received,
            initial_age: apparent_age.max(corrected_age).min(MOST),
            lifetime: Duration::ZERO,
            never_stale: false,
            always_validate: false,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        };
        if policy_is_ttl {
            return freshness;
        }
        let said = Directives::of(headers);
        let any = |names: &[&str]| names.iter().any(|name| said.control.has(name));
        let span = |name| said.control.span(name).unwrap_or(Duration::ZERO);
        freshness.lifetime = lifetime(status, headers, &said, dated, date);
        freshness.always_validate = any(&["no-cache"]);
        freshness.never_stale = any(&[
            "must-revalidate",
            "proxy-revalidate",
            "s-maxage",
            "no-cache",
        ]);
        freshness.stale_while_revalidate = span("stale-while-revalidate");
        freshness.stale_if_error = span("stale-if-error");
        freshness
    }

    /// How old the answer is: `current_age` of RFC 9111 §4.2.3, at most 2^31 seconds. In whole seconds, rounded down,
    /// it is what `Age` says (§5.1).
    pub fn age(&self, now: Duration) -> Duration {
        self.initial_age.saturating_add(self.held(now)).min(MOST)
    }

    /// How long the answer has been here: `resident_time` of RFC 9111 §4.2.3. An answer from the future was stored by a
    /// clock that went wrong; how long ago nobody knows, and so it is as old as can be.
    pub(super) fn held(&self, now: Duration) -> Duration {
        match self.received.checked_sub(now) {
            Some(ahead) if ahead > CLOCK_SLACK => MOST,
            _ => now.saturating_sub(self.received),
        }
    }
}

/// How long the origin lets an answer be fresh, counted from `dated` (RFC 9111 §4.2.1).
fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    said: &Directives,
    dated: Duration,
    date: &dyn Fn(&str) -> Option<Duration>,
) -> Duration {
    let control = &said.control;
    if let Some(span) = control.span("s-maxage").or_else(|| control.span("max-age")) {
        return span;
    }
    if said.heeded_expires(headers) {
        // §5.3: what is no date is a time in the past.
        let expires = single(headers, &header::EXPIRES).and_then(date);
        return expires.map_or(Duration::ZERO, |then| then.saturating_sub(dated).min(MOST));
    }
    // §4.2.2: only where it says nothing itself, and for these. It has stayed the same for so long; a tenth of that it
    // will.
    if !heuristically_cacheable(status) && !control.has("public") {
        return Duration::ZERO;
    }
    let modified = single(headers, &header::LAST_MODIFIED).and_then(date);
    modified.map_or(Duration::ZERO, |then| {
        (dated.saturating_sub(then) / 10).min(MOST_HEURISTIC)
    })
}

/// Whether answers of this status may be kept without a word of the origin (RFC 9110 §15.1).
pub(super) fn heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// `Age` (RFC 9111 §5.1): of several values the first, and one that is no number counts as none.
fn stated_age(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(header::AGE).iter();
    let mut items = lines
        .flat_map(|line| line.as_bytes().split(|&b| b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty());
    let first = items
        .next()
        .and_then(|item| seconds(str::from_utf8(item).ok()?));
    Duration::from_secs(first.unwrap_or(0))
}

/// The value of a field that has but one; `None` if it is not there, or twice with different values, or no text.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    if lines.any(|line| line != first) {
        return None;
    }
    Some(first.to_str().ok()?.trim())
}

#[cfg(test)]
mod tests;
