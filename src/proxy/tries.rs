//! Between two tries: the facts of the one that failed, the question to `policy::retry`, and what follows from its answer.
//!
//! The callbacks in [`super`] that learn of a failure all come here.

use super::ctx::{Ctx, End, outcome};
use super::downstream::DEADLINE;
use super::failure::Cause;
use super::{body, failure};
use crate::policy::retry::{self, Attempt, Failure, Reason, Verdict};
use crate::policy::timeouts::Phase;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The error of a request no further try can be made for.
const NO_TRY: ErrorType = ErrorType::Custom("no try possible");

/// The facts of the try that just failed.
fn attempt<'a>(session: &'a mut Session, ctx: &Ctx, failure: Failure) -> Attempt<'a> {
    let body = body::state(session, ctx);
    let response_started = response_started(session);
    Attempt {
        number: ctx.tries_made(),
        failure,
        idempotency_key: ctx.idempotency_key,
        body,
        response_started,
        client_left: ctx.client_left,
        retry_after: None,
        time_left: ctx
            .proxy()
            .map_or(Duration::ZERO, |p| p.timeouts.left(ctx.watch.elapsed())),
        chance: fastrand::f64(),
        method: &session.req_header().method,
    }
}

/// Ends the failed try and does what the policy says: says whether there is to be another.
pub(super) fn judge(
    session: &mut Session,
    ctx: &mut Ctx,
    failure: Failure,
    proxy_error: &'static str,
) -> bool {
    let attempt = attempt(session, ctx, failure);
    let verdict = match ctx.proxy() {
        Some(proxy) => retry::decide(&proxy.retry, &attempt),
        None => Verdict::GiveUp(Reason::NotListed),
    };
    match verdict {
        Verdict::Retry(wait) => {
            ctx.end_try_before_retry(failure, wait);
            again(ctx);
            true
        }
        Verdict::GiveUp(reason) => {
            ctx.end_try(outcome(failure));
            ctx.reason = Some(reason);
            ctx.end = Some(failure::end(failure, proxy_error, ctx.limit));
            false
        }
    }
}

/// The verdict on a response whose status is listed; nobody has seen the response yet.
pub(super) fn judge_response(
    session: &mut Session,
    ctx: &Ctx,
    response: &ResponseHeader,
) -> Verdict {
    let Some(proxy) = ctx.proxy() else {
        return Verdict::GiveUp(Reason::NotListed);
    };
    let attempt = Attempt {
        retry_after: retry_after(response),
        ..attempt(session, ctx, Failure::Status(response.status))
    };
    retry::decide(&proxy.retry, &attempt)
}

/// Ends the try that an error broke off once there was a connection: says whether there is to be another.
pub(super) fn after_error(session: &mut Session, ctx: &mut Ctx, e: &Error) -> bool {
    let is_write = matches!(e.etype(), ErrorType::WriteError | ErrorType::WriteTimedout);
    if ctx.response_whole && !is_write {
        // The client has its answer and was still sending: the connection ends, the request did not fail.
        return false;
    }
    if let Some(verdict) = ctx.verdict.take() {
        return obey(ctx, verdict);
    }
    let cause = failure::while_proxying(e);
    if ctx.tunnel {
        ctx.end_try(if cause == Cause::Client {
            "ok"
        } else {
            "reset"
        });
        return false;
    }
    let stalled = *e.etype() == DEADLINE
        && !response_started(session)
        && !ctx.body_held
        && !session.downstream_session.is_body_done();
    match cause {
        Cause::Backend(..) if stalled => {
            // The backend could not answer a request it did not have.
            ctx.end_try("client_timeout");
            ctx.reason = Some(Reason::BodyUnfinished);
            ctx.end = Some(failure::CLIENT_STALLED);
        }
        Cause::Backend(failure, word) => return judge(session, ctx, failure, word),
        Cause::Client => {
            ctx.client_left = true;
            ctx.reason = Some(Reason::ClientLeft);
            ctx.end_try("client_left");
        }
        Cause::BadRequest => {
            ctx.end_try("bad_request");
            ctx.end = Some(failure::BAD_REQUEST);
        }
        Cause::Internal => {
            ctx.end_try("internal");
            ctx.end = Some(failure::INTERNAL);
        }
    }
    false
}

/// Does what was decided on a response: says whether there is to be another try.
fn obey(ctx: &mut Ctx, verdict: Verdict) -> bool {
    let status = ctx.current.as_ref().and_then(|c| c.answered);
    let failure = Failure::Status(status.unwrap_or(StatusCode::BAD_GATEWAY));
    match verdict {
        Verdict::Retry(wait) => {
            ctx.end_try_before_retry(failure, wait);
            again(ctx);
            true
        }
        // A stale answer is there to be given instead.
        Verdict::GiveUp(_) => {
            ctx.end_try(outcome(failure));
            ctx.end = Some(failure::end(failure, "http_response_incomplete", ctx.limit));
            false
        }
    }
}

/// Tells those who wait for a fill that it takes another try.
fn again(ctx: &Ctx) {
    if let Some(fill) = &ctx.fill {
        fill.failing();
    }
}

/// Arms the deadline of a phase that begins now.
pub(super) fn arm(ctx: &mut Ctx, phase: Phase) {
    let Some(proxy) = ctx.proxy() else { return };
    let (deadline, limit) = proxy.timeouts.deadline(phase, ctx.watch.elapsed());
    let idle = (phase == Phase::AwaitingBody).then_some(proxy.timeouts.idle);
    ctx.watch.arm(Some(deadline), idle);
    ctx.limit = limit;
}

/// No further try: disarms, notes why, and makes the error that ends Pingora's loop.
pub(super) fn no_try(ctx: &mut Ctx, reason: Reason, end: End) -> Box<Error> {
    ctx.watch.arm(None, None);
    ctx.reason = Some(reason);
    ctx.end = Some(end);
    Error::explain(NO_TRY, reason.word())
}

/// Whether the head of a final response went to the client; after 101 there is no other (RFC 9110 §15.2.2).
pub(super) fn response_started(session: &Session) -> bool {
    session.response_written().is_some_and(|head| {
        !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
    })
}

/// Reads an upstream's `Retry-After`.
fn retry_after(response: &ResponseHeader) -> Option<Duration> {
    let value = response.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    retry::retry_after(value, now, |date| {
        let then = httpdate::parse_http_date(date).ok()?;
        Some(then.duration_since(UNIX_EPOCH).ok()?.as_secs())
    })
}
