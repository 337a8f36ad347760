//! The one way into the store: what every answer passes before anything of it is kept, and what is kept of its head.
//!
//! A whole answer, a part of one, and fields for one that is stored already come here alike.

use super::super::facts::{authority, target};
use super::super::forward;
use super::date;
use crate::cache::Cache;
use crate::cache::head::Head;
use crate::cache::object::Object;
use crate::clock;
use crate::policy::cache::confidence::repeats_request;
use crate::policy::cache::freshness::{Freshness, Times};
use crate::policy::cache::{CachePolicy, Keep, NotStored, storing, validation};
use crate::policy::route::{Action, Route};
use http::{HeaderMap, HeaderName, StatusCode, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use std::time::Duration;

/// Whether something of an answer may be kept: what `policy::cache` says, and what only this route knows. With
/// [`Keep::Fields`], `status` is that of the stored answer.
pub(super) fn storable(
    route: &Route,
    request: &RequestHeader,
    (status, fields): (StatusCode, &HeaderMap),
    keep: Keep<'_>,
    received: Duration,
) -> Result<(), NotStored> {
    let Action::Proxy(proxy) = &route.action else {
        return Err(NotStored::Status);
    };
    let policy = route.cache().ok_or(NotStored::Status)?;
    let asked = &request.headers;
    storing::storable(policy, keep, asked, status, fields, received, &date)?;
    let merged = match keep {
        Keep::Fields(merged) => merged,
        Keep::Whole | Keep::Part => fields,
    };
    if [fields, merged]
        .iter()
        .any(|f| forward::varies_on_ours(f, proxy, route.told()))
    {
        return Err(NotStored::VaryStar);
    }
    let length = fields.get(header::CONTENT_LENGTH);
    let length = length.and_then(|l| l.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > policy.max_object => Err(NotStored::TooLarge),
        _ => Ok(()),
    }
}

/// Whether an answer with these fields is for memory only: what the client said in confidence is in none of its files.
pub(super) fn is_confidential(
    policy: &CachePolicy,
    request: &RequestHeader,
    fields: &HeaderMap,
) -> bool {
    repeats_request(policy, target(request), &request.headers, fields)
}

/// What a purge by prefix goes by: no query, which may hold secrets.
pub(super) fn place(request: &RequestHeader, scheme: &str) -> String {
    let (path, _) = target(request)
        .split_once('?')
        .unwrap_or((target(request), ""));
    let host = authority(request).to_ascii_lowercase();
    format!("{scheme}://{host}{path}")
}

/// The stored answer with the fields that a 304 or an answer to HEAD brings (RFC 9111 §3.2).
///
/// # Errors
/// When the fields cannot be put together.
pub(super) fn updated(
    cache: Cache,
    policy: &CachePolicy,
    request: &RequestHeader,
    stored: &Object,
    update: &HeaderMap,
    times: Times,
) -> Result<Object> {
    let status = stored.head.status;
    let merged = validation::merge(&stored.head.headers(), update);
    let mut head = rebuilt(status, &merged)?;
    keep(&mut head)?;
    let ttl = !policy.respects_origin();
    // Its age is counted from what the update says of it.
    let freshness = Freshness::of(ttl, status, &head.headers, times, &date);
    let variant = cache.variant(&head.headers, &request.headers);
    let confidential = is_confidential(policy, request, &head.headers);
    let mut fresh = stored
        .refreshed(Head::of(&head)?, freshness)
        .confined(confidential);
    fresh.variant = variant;
    Ok(fresh)
}

/// A head of these fields.
pub(super) fn rebuilt(status: StatusCode, fields: &HeaderMap) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(status, Some(fields.len() + 1))?;
    for (name, value) in fields {
        head.append_header(name.clone(), value.clone())?;
    }
    Ok(head)
}

/// Leaves of a head what is kept of it (RFC 9111 §3.1), and adds the date that one without is to get (RFC 9110 §6.6.1).
pub(super) fn keep(head: &mut ResponseHeader) -> Result<()> {
    let kept = storing::kept(&head.headers);
    let dropped: Vec<HeaderName> = head
        .headers
        .keys()
        .filter(|name| !kept.contains_key(*name))
        .cloned()
        .collect();
    for name in &dropped {
        head.remove_header(name);
    }
    if !head.headers.contains_key(header::DATE) {
        head.insert_header("Date", httpdate::fmt_http_date(clock::wall()))?;
    }
    Ok(())
}
