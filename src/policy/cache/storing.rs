//! Which answers are kept, and what of them (RFC 9111 §3).
//!
//! `proxy/` asks [`storable`] of each answer to a request that [`lookup`](super::lookup) let pass, of each part of one,
//! and of the fields that a validation or a HEAD brings. How long an answer is then fresh is
//! [`freshness`](super::freshness)'s business; what tells it apart from others is [`key`](mod@super::key)'s.

use super::super::cache_control::CacheControl;
use super::directives::Directives;
use super::freshness::{Freshness, Times, heuristically_cacheable, single};
use super::key::{personal, varies_on};
use super::{CachePolicy, NotStored, validation};
use http::{HeaderMap, HeaderName, StatusCode, header};
use std::time::Duration;

/// What of an answer is to be kept.
#[derive(Debug, Clone, Copy)]
pub enum Keep<'a> {
    /// All of it.
    Whole,
    /// The part that a 206 is (RFC 9111 §3.3), to be combined with others (§3.4) and to answer requests that ask for no
    /// more: only where the origin is respected, and if a strong validator tells what it is a part of.
    Part,
    /// Its fields, for a stored answer that then has these (§3.2): those of a 304, or of a 200 to HEAD (§4.3.5).
    Fields(&'a HeaderMap),
}

/// Whether an answer may be kept: by the rules for a forced `ttl`, or by those of RFC 9111 §3 for a shared cache.
/// `headers` are the answer's own, `status` its status or, with [`Keep::Fields`], that of the stored one. `date` reads a
/// date as time since the epoch.
///
/// Whoever keeps anything of an answer asks here, so that no way in has rules of its own.
pub fn storable(
    policy: &CachePolicy,
    keep: Keep<'_>,
    request: &HeaderMap,
    status: StatusCode,
    headers: &HeaderMap,
    now: Duration,
    date: &dyn Fn(&str) -> Option<Duration>,
) -> Result<(), NotStored> {
    let merged = match keep {
        // RFC 9111 §3.3: incomplete, and only to be combined by who knows how.
        Keep::Whole if status == StatusCode::PARTIAL_CONTENT => return Err(NotStored::Partial),
        Keep::Part if !policy.respects_origin() || !validation::is_strong(headers) => {
            return Err(NotStored::Partial);
        }
        Keep::Whole | Keep::Part => headers,
        // RFC 9110 §15.4.5: a 304 says of caching what the 200 would have said, so that what it says to one person alone
        // is in it. That others were allowed the stored answer does not make these fields theirs.
        Keep::Fields(merged) => {
            meant_for_many(policy, request, headers)?;
            merged
        }
    };
    if !has_right_status(policy, status) {
        return Err(NotStored::Status);
    }
    meant_for_many(policy, request, merged)?;
    if policy.respects_origin() {
        worth_it(policy, status, merged, now, date)?;
    }
    Ok(())
}

/// Which statuses are kept at all. Under a forced `ttl` freshness (`max-age`, `Expires`, `no-cache`, `must-revalidate`, …)
/// is not asked beside: the `ttl` is there to overrule it.
fn has_right_status(policy: &CachePolicy, status: StatusCode) -> bool {
    if policy.respects_origin() {
        // Final, not about another answer, and not about more of the request than its key holds.
        let other = status.is_informational() || status == StatusCode::NOT_MODIFIED;
        return !other && !is_about_request(status);
    }
    // RFC 9110 §15.1 lets more be kept: errors, which would outlive their cause, and 300 and 410, which are rare.
    matches!(status.as_u16(), 200 | 203 | 204 | 301 | 308)
}

/// Whether an answer may be kept for all whom the request's key stands for, as far as it says so itself.
fn meant_for_many(
    policy: &CachePolicy,
    request: &HeaderMap,
    headers: &HeaderMap,
) -> Result<(), NotStored> {
    if policy.respects_origin() {
        shared_by_origin(request, headers)?;
    } else {
        shared_by_route(personal(policy, request), headers)?;
    }
    // RFC 9111 §7.3 leaves it to the origin to forbid; one that sends no caching headers does not, and a session given
    // out twice is one person's in another's hands.
    if headers.contains_key(header::SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    // RFC 9111 §4.1: it never matches.
    if varies_on(headers).contains("*") {
        return Err(NotStored::VaryStar);
    }
    Ok(())
}

/// The rules under a forced `ttl`. `personal`: whether the key of the request is one person's own.
///
/// Where the origin says different things to different caches, whatever forbids counts, in a field that is malformed
/// too: the route only says how long.
fn shared_by_route(personal: bool, headers: &HeaderMap) -> Result<(), NotStored> {
    let fields = [header::CACHE_CONTROL, header::CDN_CACHE_CONTROL];
    let says = |name: &str| {
        let mut all = fields.iter();
        all.any(|field| CacheControl::parse_field(headers, field).has(name))
    };
    // RFC 9111 §5.2.2.5.
    if says("no-store") {
        return Err(NotStored::NoStore);
    }
    // RFC 9111 §5.2.2.7. With field names, only those fields are private; it counts for the whole answer all the same,
    // as that section notes of most caches.
    if !personal && says("private") {
        return Err(NotStored::Private);
    }
    Ok(())
}

/// The rules of RFC 9111 §3 for a shared cache, where nothing of the answer's key is one person's own.
fn shared_by_origin(request: &HeaderMap, headers: &HeaderMap) -> Result<(), NotStored> {
    let said = Directives::of(headers);
    let control = &said.control;
    // §5.2.2.3: whoever understands the status ignores the `no-store` that comes with it.
    if control.has("no-store") && !control.has("must-understand") {
        return Err(NotStored::NoStore);
    }
    // §5.2.2.7; with field names too, see above.
    if control.has("private") {
        return Err(NotStored::Private);
    }
    // §3.5. `Proxy-Authorization` is for the next proxy, which is this one, so what is behind it may go by that.
    let authorised = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION]
        .iter()
        .any(|name| request.contains_key(name));
    if authorised && !allows_authorised(control) {
        return Err(NotStored::Authorization);
    }
    // §4.2.2 lets a lifetime be guessed; but an origin that says nothing of caching at all may well have made it for one
    // person, whom it knows by the cookie.
    let worded = ["public", "no-cache"].iter().any(|name| control.has(name));
    if request.contains_key(header::COOKIE) && !worded && !said.is_explicit(headers) {
        return Err(NotStored::Cookie);
    }
    Ok(())
}

/// What else RFC 9111 §3 asks, and whether what is kept could ever be used.
fn worth_it(
    policy: &CachePolicy,
    status: StatusCode,
    headers: &HeaderMap,
    now: Duration,
    date: &dyn Fn(&str) -> Option<Duration>,
) -> Result<(), NotStored> {
    let said = Directives::of(headers);
    let control = &said.control;
    // §5.2.2.3. No status that has a name and gets here has caching rules of its own.
    if control.has("must-understand") && status.canonical_reason().is_none() {
        return Err(NotStored::Status);
    }
    let by_status = heuristically_cacheable(status) || control.has("public");
    if !by_status && !said.is_explicit(headers) {
        return Err(NotStored::Status);
    }
    // What follows is not the origin's will (§3 notes that many caches do so) but saves room for what can be used.
    let times = Times {
        requested: now,
        received: now,
    };
    let fresh = Freshness::of(false, status, headers, times, date);
    let windows = [
        policy.stale_if_error.unwrap_or_default(),
        policy.stale_while_revalidate.unwrap_or_default(),
        fresh.stale_if_error,
        fresh.stale_while_revalidate,
    ];
    let usable_stale = !fresh.never_stale && windows.iter().any(|window| !window.is_zero());
    let usable_fresh = !fresh.always_validate && !fresh.lifetime.is_zero();
    if usable_fresh || usable_stale || can_be_validated(headers, date) {
        Ok(())
    } else {
        Err(NotStored::Stale)
    }
}

/// Whether answers of this status tell of a request's credentials, conditions, range, size or connection, or how many
/// there were: things that other requests for the same URL do not share. RFC 6585 forbids storing some of them; the
/// others would, with a `max-age` that an origin adds to whatever it sends, lock out those with better requests.
fn is_about_request(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        401 | 407 | 408 | 412 | 416 | 417 | 421 | 425 | 426 | 428 | 429 | 431 | 511
    )
}

/// Whether an answer to an authorised request may be given to others (RFC 9111 §3.5). A number that is none allows
/// nothing.
fn allows_authorised(control: &CacheControl) -> bool {
    control.has("public") || control.has("must-revalidate") || control.seconds("s-maxage").is_some()
}

/// Whether a conditional request can tell if the answer is still good (RFC 9111 §4.3.1).
fn can_be_validated(headers: &HeaderMap, date: &dyn Fn(&str) -> Option<Duration>) -> bool {
    let modified = single(headers, &header::LAST_MODIFIED).and_then(date);
    modified.is_some() || validation::entity_tag(headers).is_some()
}

/// What is kept of an answer's head (RFC 9111 §3.1): all but what belongs to one connection or one proxy, and
/// `Trailer`, as trailers are not kept. `Age` stays; it has to be replaced before the answer is given out (§4).
pub fn kept(headers: &HeaderMap) -> HeaderMap {
    let connection = named_by_connection(headers);
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if !belongs_to_hop(name, &connection) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// Whether a field is for one connection (RFC 9110 §7.6.1) or for one proxy (RFC 9111 §3.1) only.
pub(super) fn belongs_to_hop(name: &HeaderName, named_by_connection: &[String]) -> bool {
    const HOP: [&str; 10] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    HOP.contains(&name.as_str()) || named_by_connection.iter().any(|n| n == name.as_str())
}

/// The names in `Connection`, lower-case.
pub(super) fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&b| b == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
