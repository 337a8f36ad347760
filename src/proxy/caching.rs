//! The cache phases of a request: each asks `policy::cache` and tells Pingora's state machine.
//!
//! Called by the callbacks in [`super`]. What became of it is noted in the context, for `Cache-Status` and the log.

use super::ctx::Ctx;
use super::downstream;
use super::facts::{authority, target};
use crate::cache::Cache;
use crate::policy::cache::{self, Bypass, CachePolicy, NotStored};
use http::{HeaderValue, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use pingora_cache::RespCacheable::{self, Cacheable, Uncacheable};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, CachePhase, NoCacheReason};
use pingora_proxy::{RangeType, Session, range_header_filter};
use std::time::{Duration, SystemTime};

/// Ranges that one request may ask for; more are answered with the whole.
const MAX_RANGES: usize = 10;

/// What became of a request at a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The cache was not asked.
    Bypass(Bypass),
    /// It was asked. What came of it, Pingora's phase knows.
    Asked {
        /// Whether the key is one person's own.
        personal: bool,
        /// Why the answer was not stored.
        not_stored: Option<NotStored>,
    },
}

fn policy(ctx: &Ctx) -> Option<&CachePolicy> {
    ctx.proxy()?.cache.as_ref()
}

/// Switches the cache on where the route has one and the request may be answered from it.
pub(super) fn begin(cache: &Cache, session: &mut Session, ctx: &mut Ctx) {
    let Some(proxy) = ctx.proxy() else { return };
    let Some(policy) = &proxy.cache else { return };
    let has_content = !session.downstream_session.is_body_empty();
    let request = session.downstream_session.req_header();
    let personal = cache::personal(policy, &request.headers);
    let asked = match cache::lookup(&request.method, &request.headers) {
        // What the head does not tell of: HTTP/2 needs no length.
        Ok(()) if has_content => Err(Bypass::Method),
        asked => asked,
    };
    // Half of the time: whoever waited for a fill in vain still has to be able to ask the backend.
    let patience = proxy.timeouts.left(ctx.watch.elapsed()) / 2;
    let (max_object, total) = (policy.max_object, proxy.timeouts.total);
    ctx.cache = Some(match asked {
        Ok(()) => {
            cache.enable(&mut session.cache, max_object, patience);
            // A hit, too, ends when `total` is over.
            ctx.watch.set_total(Some(total));
            downstream::wrap(session, &ctx.watch, None);
            Outcome::Asked {
                personal,
                not_stored: None,
            }
        }
        Err(why) => Outcome::Bypass(why),
    });
}

/// Lets go of the cache where this request's answer would end before the stored one's: the fill would break off with it.
pub(super) fn leave_unless_filling(session: &mut Session) {
    let request = session.downstream_session.req_header();
    let partial = [
        header::RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ];
    let ends_early = request.method == Method::HEAD
        || partial
            .iter()
            .any(|name| request.headers.contains_key(name));
    if ends_early && session.cache.phase() == CachePhase::Miss {
        session.cache.disable(NoCacheReason::Deferred);
    }
}

/// The end of the request: a fill that did not come to its end lets the next one begin.
pub(super) fn end(session: &mut Session) {
    session.cache.release_write_lock(NoCacheReason::Deferred);
}

/// The key under which the answer to this request is kept.
pub(super) fn key(cache: &Cache, session: &Session, ctx: &Ctx) -> Result<CacheKey> {
    let Some(policy) = policy(ctx) else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let request = session.req_header();
    // With its port, which the backend gets to see and may answer with.
    let host = authority(request).to_ascii_lowercase();
    let secret = |credentials: &[u8]| cache.secret_hash(credentials);
    let key = cache::key(
        policy,
        "http",
        &host,
        target(request),
        &request.headers,
        secret,
    );
    Ok(CacheKey::new(key, ""))
}

/// Which of several answers under one key this request asks for.
pub(super) fn variance(
    cache: &Cache,
    meta: &CacheMeta,
    request: &RequestHeader,
) -> Option<HashBinary> {
    let key = cache::vary_key(meta.headers(), &request.headers)?;
    // Credentials may be among what an answer varies on.
    let hash = cache.secret_hash(&key);
    let mut half = HashBinary::default();
    half.copy_from_slice(&hash[..size_of::<HashBinary>()]);
    Some(half)
}

/// Whether an answer is kept, and how long.
pub(super) fn admit(response: &ResponseHeader, ctx: &mut Ctx) -> RespCacheable {
    let Some(policy) = policy(ctx) else {
        return Uncacheable(NoCacheReason::Custom("no cache"));
    };
    let personal = matches!(ctx.cache, Some(Outcome::Asked { personal: true, .. }));
    match cache::storable(personal, response.status, &response.headers) {
        Ok(()) => {
            let now = SystemTime::now();
            // Pingora counts in seconds: a part of one counts as a whole.
            let stale = policy.stale_if_error.as_millis().div_ceil(1000);
            let stale = u32::try_from(stale).unwrap_or(u32::MAX);
            let mut head = response.clone();
            for name in [header::TRAILER, header::UPGRADE, header::AGE] {
                head.remove_header(&name);
            }
            let created = now.checked_sub(age(response)).unwrap_or(now);
            Cacheable(CacheMeta::new(now + policy.ttl, created, 0, stale, head))
        }
        Err(why) => {
            ctx.cache = Some(Outcome::Asked {
                personal,
                not_stored: Some(why),
            });
            Uncacheable(NoCacheReason::Custom(why.word()))
        }
    }
}

/// Whether a stale answer may stand in for a failure (RFC 5861 §4): only once no further try is made. Retries come first.
pub(super) fn may_serve_stale(ctx: &Ctx, error: Option<&Error>) -> bool {
    // A response with a failing status comes here before anybody has judged it; it will come again as an error.
    let judged = error.is_some_and(|e| !matches!(e.etype(), ErrorType::HTTPStatus(_)));
    let failed = ctx.end.is_some_and(|end| end.status.is_server_error());
    let may = judged && failed && !ctx.client_left;
    if may {
        ctx.watch.arm(None, None);
        // `total` may be what has passed; the stale answer gets as much again.
        let again = ctx.proxy().map(|p| ctx.watch.elapsed() + p.timeouts.total);
        ctx.watch.set_total(again);
    }
    may
}

/// Whether a response with this status, which no further try follows, is to give way to a stale answer.
pub(super) fn prefers_stale(session: &Session, status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
        && session.cache.enabled()
        && session.cache.can_serve_stale_error()
}

/// How old an answer was when it came (RFC 9111 §5.1).
fn age(response: &ResponseHeader) -> Duration {
    let age = response.headers.get(header::AGE);
    let seconds = age.and_then(|a| a.to_str().ok()?.trim().parse::<u32>().ok());
    Duration::from_secs(seconds.unwrap_or(0).into())
}

/// Ranges of a stored answer; an empty one has none (and Pingora would count below zero).
pub(super) fn ranges(session: &Session, response: &mut ResponseHeader) -> RangeType {
    let text =
        |value: Option<&HeaderValue>| value.and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let length = text(response.headers.get(header::CONTENT_LENGTH));
    let range = text(session.req_header().headers.get(header::RANGE));
    let is_nothing = |spec: &str| {
        let last = spec.trim().strip_prefix('-');
        last.is_some_and(|n| n.trim().bytes().all(|b| b == b'0'))
    };
    let (_, specs) = range.split_once('=').unwrap_or(("", &range));
    if length.parse() == Ok(0_u64) || specs.split(',').any(is_nothing) {
        return RangeType::None;
    }
    range_header_filter(session.req_header(), response, Some(MAX_RANGES))
}

/// The log's word for what the cache did.
pub(super) fn word(session: &Session, ctx: &Ctx) -> Option<&'static str> {
    Some(match (ctx.cache?, session.cache.phase()) {
        (Outcome::Bypass(_), _) => "bypass",
        (_, CachePhase::Hit | CachePhase::Revalidated) => "hit",
        (_, CachePhase::Stale | CachePhase::StaleUpdating) => "stale",
        _ => "miss",
    })
}

/// Says in `Cache-Status` (RFC 9211) what the cache did.
pub(super) fn mark(session: &Session, response: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let Some(outcome) = ctx.cache else {
        return Ok(());
    };
    let ttl = || match session.cache.maybe_cache_meta() {
        None => 0,
        Some(meta) => match meta.fresh_until().duration_since(SystemTime::now()) {
            Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            Err(past) => -i64::try_from(past.duration().as_secs()).unwrap_or(i64::MAX),
        },
    };
    let status = match (outcome, session.cache.phase()) {
        (Outcome::Bypass(why), _) => format!("backstop; fwd=bypass; detail=\"{}\"", why.word()),
        (_, CachePhase::Hit | CachePhase::Revalidated) => format!("backstop; hit; ttl={}", ttl()),
        (_, CachePhase::Stale | CachePhase::StaleUpdating) => {
            format!("backstop; hit; ttl={}; detail=\"stale-if-error\"", ttl())
        }
        (
            Outcome::Asked {
                not_stored: Some(why),
                ..
            },
            _,
        ) => format!("backstop; fwd=uri-miss; detail=\"{}\"", why.word()),
        (_, CachePhase::Miss | CachePhase::Expired) => "backstop; fwd=uri-miss; stored".to_owned(),
        _ => "backstop; fwd=uri-miss".to_owned(),
    };
    response.append_header("Cache-Status", status)?;
    Ok(())
}
