//! The cache phases of a request: each asks `policy::cache` and tells Pingora's state machine.
//!
//! Called by the callbacks in [`super`]. What became of it is noted in the context, for `Cache-Status` and the log.

use super::ctx::Ctx;
use super::facts::{authority, target};
use super::tries;
use crate::cache::Cache;
use crate::policy::cache::{self, Bypass, CachePolicy, NotStored};
use crate::policy::retry::{Reason, Verdict};
use http::header;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use pingora_cache::RespCacheable::{self, Cacheable, Uncacheable};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, CachePhase, NoCacheReason};
use pingora_proxy::{RangeType, Session, range_header_filter};
use std::time::SystemTime;

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
    let (max_object, patience) = (policy.max_object, proxy.timeouts.left(ctx.watch.elapsed()));
    ctx.cache = Some(match asked {
        Ok(()) => {
            cache.enable(&mut session.cache, max_object, patience);
            Outcome::Asked {
                personal,
                not_stored: None,
            }
        }
        Err(why) => Outcome::Bypass(why),
    });
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
            let stale = u32::try_from(policy.stale_if_error.as_secs()).unwrap_or(u32::MAX);
            Cacheable(CacheMeta::new(
                now + policy.ttl,
                now,
                0,
                stale,
                response.clone(),
            ))
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
pub(super) fn may_serve_stale(session: &mut Session, ctx: &mut Ctx, error: Option<&Error>) -> bool {
    let Some(error) = error.filter(|_| !ctx.client_left) else {
        return false;
    };
    let may = match error.etype() {
        // A response with such a status comes here before anybody has judged it.
        ErrorType::HTTPStatus(code) => gives_up_on(session, ctx, *code),
        // All other failures were judged before the tries ended.
        _ => ctx.end.is_some_and(|end| end.status.is_server_error()),
    };
    if may {
        ctx.watch.arm(None, None);
    }
    may
}

fn gives_up_on(session: &mut Session, ctx: &mut Ctx, code: u16) -> bool {
    let Ok(response) = ResponseHeader::build(code, None) else {
        return false;
    };
    if !matches!(code, 500 | 502 | 503 | 504) {
        return false;
    }
    let listed = ctx.proxy().is_some_and(|p| p.retry.on.lists_status(code));
    let reason = match listed {
        true => match tries::judge_response(session, ctx, &response) {
            Verdict::Retry(_) => return false,
            Verdict::GiveUp(reason) => reason,
        },
        false => Reason::NotListed,
    };
    ctx.reason = Some(reason);
    ctx.note_answer(response.status);
    true
}

/// Ranges of a stored answer; an empty one has none (and Pingora would count below zero).
pub(super) fn ranges(session: &Session, response: &mut ResponseHeader) -> RangeType {
    let length = response.headers.get(header::CONTENT_LENGTH);
    let range = session.req_header().headers.get(header::RANGE);
    let empty = length.is_some_and(|l| l.as_bytes() == b"0");
    let nothing = range.is_some_and(|r| r.as_bytes().windows(2).any(|w| w == b"-0"));
    if empty || nothing {
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
    response.insert_header("Cache-Status", status)
}
