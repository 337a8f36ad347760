//! Which requests the cache may answer, which answers it may keep and give out, and under which key.
//!
//! `config` compiles the [`CachePolicy`]; `proxy/` asks [`lookup`] and [`key()`] of each request, [`storable`] of each
//! answer, and [`reuse()`] of each stored one. A route either forces a `ttl`, where the operator's word stands in for
//! what the origin does not say, or respects the origin, and then RFC 9111 holds as for any shared cache. The rule
//! above all others: nobody gets another person's answer. Where a field can be read in two ways, the one that keeps and
//! shares less is taken. Nothing here holds an answer, and what time it is, the caller says.

pub mod collapsing;
pub mod confidence;
mod directives;
pub mod freshness;
pub mod invalidation;
pub mod key;
pub mod reuse;
pub mod storing;
pub mod tags;
pub mod validation;

pub use freshness::{Freshness, Times};
pub use key::{KeyParts, key, personal, vary_key};
pub use reuse::{Reuse, reuse};
pub use storing::{Keep, storable};

use super::cache_control::CacheControl;
use super::fields;
use super::framing;
use http::{HeaderMap, HeaderName, Method, header};
use std::time::Duration;

/// Who says how long an answer is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The route: this long, whatever the origin says of it; greater than zero.
    Ttl(Duration),
    /// The origin (RFC 9111).
    Origin,
}

/// A route's rules for keeping answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePolicy {
    /// How long an answer is fresh.
    pub lifetime: Lifetime,
    /// Whether people who send credentials share answers. If not, each has their own. Only under [`Lifetime::Ttl`]:
    /// else the origin says it.
    pub shared: bool,
    /// What else tells requests apart, in either case.
    pub per: Vec<Per>,
    /// How long an answer that is no longer fresh may stand in for a failing origin (RFC 5861 §4). If the route does
    /// not say, never; under [`Lifetime::Origin`] what the origin says, which this can only prolong, and only where the
    /// origin does not forbid stale answers.
    pub stale_if_error: Option<Duration>,
    /// The same for being given out while the origin is asked for a new one (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// Whether a stale answer stands in at the first failed try, and retries go on without the client; else it does
    /// after the last one.
    pub stale_first: bool,
    /// Bodies up to this many bytes are kept.
    pub max_object: u64,
}

impl CachePolicy {
    /// Whether the origin's caching headers count, and with them the client's.
    pub fn respects_origin(&self) -> bool {
        self.lifetime == Lifetime::Origin
    }
}

/// A part of a request that has its own answers for each value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Per {
    /// A cookie, by its name.
    Cookie(String),
    /// A header field: all its values.
    Header(HeaderName),
    /// What backends are told of the client that it does not say itself: whose certificate it showed, what a service says
    /// of it. Where the route tells any of that, and does not share.
    Told,
}

/// Why the cache is neither asked nor filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// Neither GET nor HEAD, or one of these with content.
    Method,
    /// The request asks for another protocol.
    Upgrade,
    /// `Connection` names a field of the request, which the upstream will not see.
    Connection,
    /// The request says `no-store`.
    NoStore,
    /// The request is for one state of what it names, which only the origin knows: `If-Match`, `If-Unmodified-Since`.
    Precondition,
}

impl Bypass {
    /// The detail in `Cache-Status` (RFC 9211 §2.8).
    pub fn word(self) -> &'static str {
        match self {
            Bypass::Method => "method",
            Bypass::Upgrade => "upgrade",
            Bypass::Connection => "connection-field",
            Bypass::NoStore => "request-no-store",
            Bypass::Precondition => "precondition",
        }
    }
}

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStored {
    /// Answers of this status are not kept; where the origin is respected, not without its word.
    Status,
    /// The answer says `no-store`.
    NoStore,
    /// The answer is for one person, and the route's are for all.
    Private,
    /// The answer sets a cookie.
    SetCookie,
    /// The answer varies on what no request shows.
    VaryStar,
    /// The answer is a part of the whole.
    Partial,
    /// The request was one person's, and the origin does not say that others may have the answer.
    Authorization,
    /// The request had a cookie, and the origin says neither how long the answer is good nor that it is for all.
    Cookie,
    /// The answer is larger than the route's are to be.
    TooLarge,
    /// A canary's request was answered by stable: that is neither what the canary says nor what stable was asked for.
    OtherSide,
    /// The answer is stale from the start, and there is no way of finding out whether it is still good.
    Stale,
}

impl NotStored {
    /// The detail in `Cache-Status` (RFC 9211 §2.8).
    pub fn word(self) -> &'static str {
        match self {
            NotStored::Status => "status",
            NotStored::NoStore => "no-store",
            NotStored::Private => "private",
            NotStored::SetCookie => "set-cookie",
            NotStored::VaryStar => "vary-star",
            NotStored::Partial => "partial",
            NotStored::Authorization => "authorization",
            NotStored::Cookie => "cookie",
            NotStored::TooLarge => "too-large",
            NotStored::OtherSide => "other-side",
            NotStored::Stale => "stale",
        }
    }
}

/// Whether a request may be answered from the cache, and its answer kept (RFC 9111 §3, §4). By any route's rules alike:
/// where they differ is whether a certain answer suits the request, as [`reuse()`] tells.
pub fn lookup(_policy: &CachePolicy, method: &Method, headers: &HeaderMap) -> Result<(), Bypass> {
    // RFC 9110 §9.2.3: of the methods defined as cacheable, POST needs freshness of the origin's own making. Content is
    // no part of the key; RFC 9110 §9.3.1 gives it no meaning in a GET, yet some origins heed it, and with one such
    // request anyone could place an answer of their choice under a URL that others ask for.
    let readable = matches!(*method, Method::GET | Method::HEAD);
    if !readable || announces_content(headers) {
        return Err(Bypass::Method);
    }
    // RFC 9110 §7.8: the answer may be a change of protocol.
    if fields::has(headers, &header::UPGRADE) {
        return Err(Bypass::Upgrade);
    }
    // RFC 9110 §7.6.1: what it answers without the field is not for who sends that.
    if framing::named(headers).any(|name| !is_usual(name)) {
        return Err(Bypass::Connection);
    }
    // RFC 9111 §5.2.1.5. The other directives of a request are advisory (§5.2.1). Where the origin is respected,
    // [`reuse`] heeds them. Under a forced `ttl` they are ignored, as nginx does: the operator has said how old an
    // answer may be, to spare an origin that cannot take every request. With `no-cache` or `max-age=0`, which browsers
    // send at each reload, every client could undo that.
    if CacheControl::parse(headers).has("no-store") {
        return Err(Bypass::NoStore);
    }
    Ok(())
}

/// Whether a word of `Connection` says only what becomes of the connection.
fn is_usual(name: &[u8]) -> bool {
    let usual: [&[u8]; 5] = [b"", b"close", b"keep-alive", b"te", b"upgrade"];
    usual.iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// Whether content follows the head, as far as the head says (RFC 9112 §6.3).
fn announces_content(headers: &HeaderMap) -> bool {
    fields::has(headers, &header::TRANSFER_ENCODING)
        || fields::all(headers, &header::CONTENT_LENGTH)
            .any(|l| l.as_bytes().iter().any(|&b| b != b'0'))
}

#[cfg(test)]
mod tests;
