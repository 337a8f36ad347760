//! Whether a client asks too often: who it is counted as, and what it is told.
//!
//! Called by [`super`] once the route is known, before the cache is asked. How often is too often is `policy::rate`'s decision.

use super::authenticate::Found;
use super::client::Client;
use super::ctx::Ctx;
use super::facts;
use super::respond::Answer;
use crate::policy::rate::Verdict;
use crate::policy::route::{RateKey, RateLimit};
use crate::upstream::traffic::secret_hash;
use http::header;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use std::net::IpAddr;

/// Where the client stands, for the fields of its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    verdict: Verdict,
}

/// Counts the request before it is asked who it is, which can cost more than an answer; where the count goes by that, it is
/// only seen to it that its address has not failed too often. An answer comes back if it is refused.
pub(super) fn count(session: &dyn Client, ctx: &mut Ctx) -> Result<Option<Answer>> {
    let Some(limit) = limit(ctx) else {
        return Ok(None);
    };
    let verdict = if waits_for_name(ctx, &limit) {
        let key = key(None, ctx.client);
        ctx.traffic().and_then(|t| t.peek(&limit.rules, key))
    } else {
        let key = key(named(&limit, session.req_header()), ctx.client);
        ctx.traffic().and_then(|t| t.take(&limit.rules, key))
    };
    judge(ctx, verdict)
}

/// Counts a request by who it turned out to be, where the count goes by that: those who proved it by their name, others by
/// their address, so that guessing is limited, too. An answer comes back unless it may go on.
pub(super) fn count_named(
    session: &dyn Client,
    ctx: &mut Ctx,
    found: Found,
) -> Result<Option<Answer>> {
    let Some(limit) = limit(ctx).filter(|limit| waits_for_name(ctx, limit)) else {
        return Ok(found.answer());
    };
    let key = match (&found, &ctx.verified) {
        // Or else who asked while the service was down would be refused when it is back.
        (Found::Unknown(_), _) => return Ok(found.answer()),
        (Found::Refused(_), _) => key(None, ctx.client),
        (Found::Passed, Some((name, _))) => secret_hash(2, name.as_bytes()),
        // The service that let it pass has no name for it.
        (Found::Passed, None) => key(named(&limit, session.req_header()), ctx.client),
    };
    let verdict = ctx.traffic().and_then(|t| t.take(&limit.rules, key));
    Ok(judge(ctx, verdict)?.or(found.answer()))
}

fn limit(ctx: &Ctx) -> Option<RateLimit> {
    ctx.route.as_ref()?.rate_limit.clone()
}

fn waits_for_name(ctx: &Ctx, limit: &RateLimit) -> bool {
    matches!(limit.per, RateKey::Identity) && ctx.gate().is_some()
}

fn judge(ctx: &mut Ctx, verdict: Option<Verdict>) -> Result<Option<Answer>> {
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

/// What the route tells clients apart by.
fn named<'a>(limit: &RateLimit, request: &'a RequestHeader) -> Option<&'a [u8]> {
    let headers = &request.headers;
    match &limit.per {
        RateKey::ClientIp => None,
        RateKey::Identity => headers.get(header::AUTHORIZATION).map(|v| v.as_bytes()),
        RateKey::Header(name) => headers.get(name).map(|v| v.as_bytes()),
        RateKey::Cookie(name) => facts::cookie(request, name),
    }
}

/// What the client is counted as. Those that lack what the route tells them apart by are counted by their address, so that
/// leaving it out gains nothing.
fn key(named: Option<&[u8]>, client: Option<IpAddr>) -> u64 {
    match (named, client) {
        (Some(value), _) => secret_hash(1, value),
        (None, Some(IpAddr::V4(ip))) => secret_hash(4, &ip.octets()),
        // A site has all of them.
        (None, Some(IpAddr::V6(ip))) => secret_hash(6, &ip.octets()[..8]),
        (None, None) => secret_hash(0, &[]),
    }
}
