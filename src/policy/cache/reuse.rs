//! Whether a stored answer may be given out, and on what terms (RFC 9111 §4, RFC 5861).
//!
//! `proxy/` asks [`reuse()`] of the answer that the key and `Vary` have found, and [`may_stand_in`] once the origin has
//! failed. Neither finds the answer nor looks at its content. Under a forced `ttl` only the route counts; else the
//! origin's word comes first, then the client's, then the route's.

use super::super::cache_control::CacheControl;
use super::super::fields;
use super::freshness::{Freshness, MOST};
use super::{CachePolicy, Lifetime};
use http::{HeaderMap, header};
use std::time::Duration;

/// How a stored answer may serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// As it is.
    Fresh,
    /// As it is, and the origin is asked for a new one behind the client's back.
    StaleWhileRevalidate,
    /// As it is: stale, but the client has said `max-stale`.
    MaxStale,
    /// Not before the origin has been asked.
    Validate,
}

/// How a stored answer that matches a request may serve it. `now` is since the epoch.
pub fn reuse(
    policy: &CachePolicy,
    stored: &Freshness,
    request: &HeaderMap,
    now: Duration,
) -> Reuse {
    let (lifetime, age) = lifetime_and_age(policy, stored, now);
    let past = age.checked_sub(lifetime);
    let window = stale_while_revalidate(policy, stored);
    if !policy.respects_origin() {
        return match past {
            None => Reuse::Fresh,
            Some(past) if past < window => Reuse::StaleWhileRevalidate,
            Some(_) => Reuse::Validate,
        };
    }
    let wishes = CacheControl::parse(request);
    if stored.always_validate || wants_validation(request, &wishes) {
        return Reuse::Validate;
    }
    // §5.2.1.1. Zero is how browsers ask for a new answer; none is so young.
    let too_old = |most: Duration| most.is_zero() || age > most;
    // §5.2.1.3.
    let too_late = |least: Duration| age.saturating_add(least) > lifetime;
    if wishes.span("max-age").is_some_and(too_old) || wishes.span("min-fresh").is_some_and(too_late)
    {
        return Reuse::Validate;
    }
    let Some(past) = past else {
        return Reuse::Fresh;
    };
    // §4.2.4: no client can allow what the origin forbids. §5.2.1.1: `max-age` without `max-stale` forbids it as well.
    let accepted = accepted_staleness(&wishes);
    let refused = accepted.map_or(wishes.has("max-age"), |most| past > most);
    if stored.never_stale || refused {
        Reuse::Validate
    } else if past < window {
        Reuse::StaleWhileRevalidate
    } else if accepted.is_some() {
        Reuse::MaxStale
    } else {
        Reuse::Validate
    }
}

/// Whether a stored answer may stand in for an origin that failed to give a new one (RFC 5861 §4, RFC 9111 §4.3.3).
/// What else the client wishes of freshness is not asked then, as RFC 5861 has it: the choice is between this answer
/// and none.
pub fn may_stand_in(
    policy: &CachePolicy,
    stored: &Freshness,
    request: &HeaderMap,
    now: Duration,
) -> bool {
    let (lifetime, age) = lifetime_and_age(policy, stored, now);
    let Some(past) = age.checked_sub(lifetime) else {
        return !(policy.respects_origin() && stored.always_validate);
    };
    let route = policy.stale_if_error.unwrap_or_default();
    if !policy.respects_origin() {
        return past < route;
    }
    let asked = CacheControl::parse(request).span("stale-if-error");
    let window = route
        .max(stored.stale_if_error)
        .max(asked.unwrap_or_default());
    !stored.never_stale && past < window
}

/// Whole seconds until the answer is stale, negative when it is: `ttl` of `Cache-Status` (RFC 9211 §2.4). Rounded down,
/// so that an answer which is stale has not the least time left.
pub fn fresh_for(policy: &CachePolicy, stored: &Freshness, now: Duration) -> i64 {
    let (lifetime, age) = lifetime_and_age(policy, stored, now);
    let whole = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    match age.checked_sub(lifetime) {
        None => whole((lifetime - age).as_secs()),
        Some(past) => -whole(past.as_secs() + u64::from(past.subsec_nanos() > 0)),
    }
}

/// Whether the client would rather have no answer than one that is not stored (RFC 9111 §5.2.1.7): without one, 504.
/// Under a forced `ttl` it is not asked.
pub fn only_if_cached(policy: &CachePolicy, request: &HeaderMap) -> bool {
    policy.respects_origin() && CacheControl::parse(request).has("only-if-cached")
}

/// How long an answer is fresh and how old it is; fresh while the former is the greater (RFC 9111 §4.2). A `ttl` counts
/// from when the answer came, however old it was.
fn lifetime_and_age(
    policy: &CachePolicy,
    stored: &Freshness,
    now: Duration,
) -> (Duration, Duration) {
    match policy.lifetime {
        Lifetime::Ttl(ttl) => (ttl.min(MOST), stored.held(now)),
        Lifetime::Origin => (stored.lifetime, stored.age(now)),
    }
}

/// How long past its lifetime an answer may be given out while the origin is asked. `never_stale` is not looked at.
fn stale_while_revalidate(policy: &CachePolicy, stored: &Freshness) -> Duration {
    let route = policy.stale_while_revalidate.unwrap_or_default();
    match policy.lifetime {
        Lifetime::Ttl(_) => route,
        Lifetime::Origin => route.max(stored.stale_while_revalidate),
    }
}

/// Whether the client wants the origin asked (RFC 9111 §5.2.1.4). `Pragma` says so only in a request without
/// `Cache-Control` (§5.4).
fn wants_validation(request: &HeaderMap, wishes: &CacheControl) -> bool {
    let pragma = || CacheControl::parse_field(request, &header::PRAGMA).has("no-cache");
    wishes.has("no-cache") || (!fields::has(request, &header::CACHE_CONTROL) && pragma())
}

/// How far past its lifetime the client takes an answer (RFC 9111 §5.2.1.2); `None` if it does not say.
fn accepted_staleness(wishes: &CacheControl) -> Option<Duration> {
    if wishes.is_bare("max-stale") {
        return Some(Duration::MAX);
    }
    wishes.span("max-stale")
}

#[cfg(test)]
mod tests;
