//! Whether the preconditions of a request let it have its answer (RFC 9110 §13).
//!
//! `proxy/` asks [`only_for_origin`] before it answers from what is stored, and [`evaluate`] of the answer it is about
//! to send, before [`super::range`]. Validators of stored answers on their way to the origin are not decided here.

use super::fields;
use super::validator::{EntityTag, Named, ReadDate, date_in};
use http::{HeaderMap, Method, StatusCode, header};
use std::time::Duration;

/// What the preconditions lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The answer goes out.
    Serve,
    /// The client has it already: 304 (§15.4.5).
    NotModified,
    /// It is not what the client wants to deal with: 412 (§15.5.13).
    PreconditionFailed,
}

/// Whether a request has preconditions that only the origin may judge (RFC 9111 §4.3.2): `If-Match` and
/// `If-Unmodified-Since` ask what the state is now, which a stored answer does not tell. It may with what has just
/// come.
pub fn only_for_origin(request: &HeaderMap) -> bool {
    fields::has(request, &header::IF_MATCH) || fields::has(request, &header::IF_UNMODIFIED_SINCE)
}

/// Judges the preconditions of a request in the order of RFC 9110 §13.2.2, save the last, which is
/// [`super::range::if_range`]. `status` and `stored` are those of the answer that the request would get without them.
pub fn evaluate(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    stored: &HeaderMap,
    date: ReadDate<'_>,
) -> Condition {
    // §13.2.1: not where no representation is selected or changed. Of other answers than these, which 206 stands for
    // when it is the stored part of one, a 304 could not be told (§15.4.5).
    let selects = !matches!(*method, Method::CONNECT | Method::OPTIONS | Method::TRACE);
    if !selects || !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return Condition::Serve;
    }
    let tag = EntityTag::of(stored);
    let has = |named: Named<'_>, same: fn(EntityTag<'_>, EntityTag<'_>) -> bool| match named {
        Named::Any => true,
        Named::Tags(tags) => tag.is_some_and(|tag| tags.iter().any(|&other| same(tag, other))),
    };
    if let Some(named) = Named::read(request, &header::IF_MATCH) {
        // §13.1.1: the client is about to rely on every byte.
        if !has(named, |a, b| a.is_strongly(b)) {
            return Condition::PreconditionFailed;
        }
    } else if let Some(since) = date_in(request, &header::IF_UNMODIFIED_SINCE, date) {
        // §13.1.4: ignored where there is no date of modification.
        let modified = date_in(stored, &header::LAST_MODIFIED, date);
        if modified.is_some_and(|modified| modified > since) {
            return Condition::PreconditionFailed;
        }
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if let Some(named) = Named::read(request, &header::IF_NONE_MATCH) {
        return match has(named, |a, b| a.is_weakly(b)) {
            true if reads => Condition::NotModified,
            true => Condition::PreconditionFailed,
            // Whatever `If-Modified-Since` says (§13.1.3).
            false => Condition::Serve,
        };
    }
    let since = date_in(request, &header::IF_MODIFIED_SINCE, date);
    let modified = changed(stored, date);
    match (since, modified) {
        (Some(since), Some(modified)) if reads && modified <= since => Condition::NotModified,
        _ => Condition::Serve,
    }
}

/// When an answer was last changed as far as it tells: it was no later than it was made (RFC 9111 §4.3.2).
fn changed(stored: &HeaderMap, date: ReadDate<'_>) -> Option<Duration> {
    match stored.contains_key(header::LAST_MODIFIED) {
        true => date_in(stored, &header::LAST_MODIFIED, date),
        false => date_in(stored, &header::DATE, date),
    }
}

#[cfg(test)]
mod tests;
