//! Whether a client asks too often: who it is counted as, and what it is told.
//!
//! Called by [`super`] once the route is known, before the cache is asked. How often is too often is `policy::rate`'s decision.

use super::ctx::Ctx;
use super::facts;
use super::respond::Answer;
use crate::policy::rate::Verdict;
use crate::policy::route::{RateKey, RateLimit};
use crate::upstream::traffic::secret_hash;
use http::header;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use std::net::IpAddr;

/// Where the client stands, for the fields of its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    verdict: Verdict,
}

/// Counts the request. An answer comes back if it is refused.
pub(super) fn count(session: &ServerSession, ctx: &mut Ctx) -> Result<Option<Answer>> {
    let Some(limit) = ctx
        .route
        .as_ref()
        .and_then(|route| route.rate_limit.clone())
    else {
        return Ok(None);
    };
    let key = key(&limit, session.req_header(), ctx.client);
    let verdict = ctx
        .traffic()
        .and_then(|traffic| traffic.take(&limit.rules, key));
    let Some(verdict) = verdict else {
        return Ok(None);
    };
    ctx.rate = Some(Standing { verdict });
    if verdict.allowed {
        return Ok(None);
    }
    Answer::too_many_requests(verdict.retry_after_seconds()).map(Some)
}

/// Tells the client where it stands (draft-ietf-httpapi-ratelimit-headers).
pub(super) fn mark(response: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let limit = ctx
        .route
        .as_ref()
        .and_then(|route| route.rate_limit.as_ref());
    if let (Some(standing), Some(limit)) = (&ctx.rate, limit) {
        response.insert_header("RateLimit-Policy", limit.rules.policy_field())?;
        response.insert_header("RateLimit", standing.verdict.limit_field())?;
    }
    Ok(())
}

/// What the client is counted as. Those that lack what the route tells them apart by are counted by their address, so that
/// leaving it out gains nothing.
fn key(limit: &RateLimit, request: &RequestHeader, client: Option<IpAddr>) -> u64 {
    let headers = &request.headers;
    let named = match &limit.per {
        RateKey::ClientIp => None,
        RateKey::Identity => headers.get(header::AUTHORIZATION).map(|v| v.as_bytes()),
        RateKey::Header(name) => headers.get(name).map(|v| v.as_bytes()),
        RateKey::Cookie(name) => facts::cookie(request, name),
    };
    match (named, client) {
        (Some(value), _) => secret_hash(1, value),
        (None, Some(IpAddr::V4(ip))) => secret_hash(4, &ip.octets()),
        // A site has all of them.
        (None, Some(IpAddr::V6(ip))) => secret_hash(6, &ip.octets()[..8]),
        (None, None) => secret_hash(0, &[]),
    }
}
