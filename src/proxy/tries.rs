//! Between two tries: the facts of the one that failed, the question to `policy::retry`, and what follows from its answer.
//!
//! The callbacks in [`super`] that learn of a failure all come here.

use super::client::Client;
use super::ctx::{Ctx, End};
use super::downstream::DEADLINE;
use super::entry::Barred;
use super::facts::{authority, target};
use super::failure::Cause;
use super::hedge;
use super::{CLIENT_LEFT, body, failure};
use crate::policy::blame::blame;
use crate::policy::health::Observation;
use crate::policy::outcome::Outcome;
use crate::policy::retry::{self, Attempt, Failure, Reason, Verdict};
use crate::policy::route::Proxy as ProxyTo;
use crate::policy::timeouts::{Limit, Phase};
use http::{StatusCode, header};
use log::warn;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The error of a request no further try can be made for.
const NO_TRY: ErrorType = ErrorType::Custom("no try possible");

/// The facts of the try that just failed.
fn attempt<'a>(session: &'a mut dyn Client, ctx: &Ctx, failure: Failure) -> Attempt<'a> {
    let body = body::state(session, ctx);
    let response_started = response_started(session, ctx);
    Attempt {
        number: ctx.tries_made(),
        failure,
        idempotency_key: ctx.idempotency_key,
        body,
        response_started,
        client_left: ctx.client_left,
        retry_after: None,
        time_left: ctx.time_left(),
        chance: fastrand::f64(),
        method: &session.req_header().method,
    }
}

/// Ends the failed try and does what the policy says: says whether there is to be another.
pub(super) fn judge(
    session: &mut dyn Client,
    ctx: &mut Ctx,
    failure: Failure,
    proxy_error: &'static str,
) -> bool {
    if hedge::is_open(ctx) && !response_started(session, ctx) {
        // The other backend may still give a good answer.
        observe(ctx, failure);
        ctx.hoped = Some((failure, end(ctx, failure, proxy_error)));
        ctx.end_try_before_retry(failure, Duration::ZERO);
        return true;
    }
    let attempt = attempt(session, ctx, failure);
    let verdict = match ctx.proxy() {
        Some(proxy) => retry::decide(&proxy.retry, &attempt),
        None => Verdict::GiveUp(Reason::NotListed),
    };
    let verdict = within_budget(ctx, failure, verdict);
    observe(ctx, failure);
    match verdict {
        Verdict::Retry(wait) => {
            ctx.end_try_before_retry(failure, wait);
            again(ctx);
            true
        }
        Verdict::GiveUp(reason) => {
            ctx.end_try(Outcome::Failed(failure));
            ctx.reason = Some(reason);
            ctx.end = Some(end(ctx, failure, proxy_error));
            false
        }
    }
}

/// What the client gets when this failure stands.
fn end(ctx: &Ctx, failure: Failure, proxy_error: &'static str) -> End {
    let is_down = ctx.upstream().is_some_and(|upstream| upstream.is_down());
    failure::end(failure, proxy_error, ctx.limit, is_down)
}

/// A retry that its route's budget does not allow is none.
fn within_budget(ctx: &mut Ctx, failure: Failure, verdict: Verdict) -> Verdict {
    let (Verdict::Retry(_), Some(proxy), Some(traffic)) = (verdict, ctx.proxy(), ctx.traffic())
    else {
        return verdict;
    };
    let index = ctx.current.as_ref().map(|current| current.index);
    // Off a canary, everything is new.
    let new = ctx.split.is_on_canary()
        || ctx
            .upstream()
            .is_some_and(|upstream| upstream.has_untried(&ctx.tried, index));
    if !retry::is_charged(failure, new) {
        return verdict;
    }
    match traffic.spend(&proxy.budget) {
        Some(spent) => {
            ctx.charged = Some(spent);
            verdict
        }
        None => Verdict::GiveUp(Reason::BudgetSpent),
    }
}

/// The failure of a first try stands, for the second one beside it came to nothing: says how long to wait for the next.
///
/// # Errors
/// When there is to be none.
pub(super) fn after_hope(session: &mut dyn Client, ctx: &mut Ctx) -> Result<Duration, Box<Error>> {
    let Some((failure, end)) = ctx.hoped.take() else {
        return Ok(Duration::ZERO);
    };
    ctx.note_lost();
    let attempt = attempt(session, ctx, failure);
    let verdict = ctx
        .proxy()
        .map_or(Verdict::GiveUp(Reason::NotListed), |proxy| {
            retry::decide(&proxy.retry, &attempt)
        });
    match within_budget(ctx, failure, verdict) {
        Verdict::Retry(wait) => {
            again(ctx);
            Ok(wait)
        }
        Verdict::GiveUp(reason) => Err(no_try(ctx, reason, end)),
    }
}

/// Tells the backend of the try under way that it failed; unless it is not to blame.
pub(super) fn observe(ctx: &Ctx, failure: Failure) {
    let (Some(current), Some(proxy)) = (&ctx.current, ctx.proxy()) else {
        return;
    };
    let hasty = ctx.ran_out_of_patience();
    if failure == Failure::Timeout && !hasty {
        current.upstream.distrust(current.index);
    }
    // A backend that speaks HTTP/2 only has no part in what cannot be sent by it.
    if current.is_odd && failure.nothing_was_sent() {
        return;
    }
    let used_up = hasty || ctx.limit == Limit::Total && !ctx.tries.is_empty();
    if let Some(seen) = blame(failure, &proxy.retry.on, used_up) {
        let backend = current.active.backend();
        backend
            .standing
            .failed(Outcome::Failed(failure).to_string());
        current.observe(ctx, seen);
    }
}

/// The verdict on a response whose status is listed; nobody has seen the response yet.
pub(super) fn judge_response(
    session: &mut dyn Client,
    ctx: &mut Ctx,
    response: &ResponseHeader,
) -> Verdict {
    let Some(proxy) = ctx.proxy() else {
        return Verdict::GiveUp(Reason::NotListed);
    };
    let failure = Failure::Status(response.status);
    let attempt = Attempt {
        retry_after: retry_after(response),
        ..attempt(session, ctx, failure)
    };
    let verdict = retry::decide(&proxy.retry, &attempt);
    within_budget(ctx, failure, verdict)
}

/// Ends the try for which no connection could be made: says whether there is to be another.
pub(super) fn after_connect_error(session: &mut dyn Client, ctx: &mut Ctx, e: &Error) -> bool {
    if hedge::has_overtaken(ctx, e) {
        give_way(ctx);
        return true;
    }
    ctx.connected(false);
    if *e.etype() == ErrorType::H2Error
        && let Some(current) = &ctx.current
    {
        // It takes no new stream, and would be tried again.
        current.upstream.distrust(current.index);
    }
    match failure::while_connecting(e) {
        Cause::Backend(failure, word) => judge(session, ctx, failure, word),
        _ => false,
    }
}

/// Ends the try that an error broke off once there was a connection: says whether there is to be another.
pub(super) fn after_error(session: &mut dyn Client, ctx: &mut Ctx, e: &Error) -> bool {
    let is_write = matches!(e.etype(), ErrorType::WriteError | ErrorType::WriteTimedout);
    if ctx.is_whole() && !is_write {
        // The client has its answer and was still sending: the connection ends, the request did not fail.
        return false;
    }
    if hedge::has_overtaken(ctx, e) {
        give_way(ctx);
        return true;
    }
    if let Some(verdict) = ctx.verdict.take() {
        return obey(ctx, verdict);
    }
    let cause = failure::while_proxying(e);
    if ctx.tunnel {
        // One that falls silent has nothing more to say.
        let is_over = cause == Cause::Client || *e.etype() == DEADLINE;
        ctx.end_try(match is_over {
            true => Outcome::Ok,
            false => Outcome::Failed(Failure::Reset),
        });
        return false;
    }
    let stalled = *e.etype() == DEADLINE
        && !response_started(session, ctx)
        && !ctx.body_held
        && !session.is_body_done();
    match cause {
        Cause::Backend(..) if stalled => {
            // The backend could not answer a request it did not have.
            ctx.end_try(Outcome::ClientTimeout);
            ctx.reason = Some(Reason::BodyUnfinished);
            ctx.end = Some(failure::CLIENT_STALLED);
        }
        Cause::Backend(failure, word) => return judge(session, ctx, failure, word),
        Cause::SlowBody => {
            ctx.end_try(Outcome::ClientTimeout);
            ctx.reason = Some(Reason::BodyUnfinished);
            ctx.end = Some(failure::CLIENT_STALLED);
        }
        Cause::Client => {
            ctx.client_left = true;
            let answered = ctx.current.as_ref().is_some_and(|c| c.answered.is_some());
            if ctx.fill.is_some() && answered {
                // Nobody reads an answer that is not stored and that no client waits for: it was one all the same.
                end_as_answered(ctx);
            } else {
                ctx.tell_left();
                ctx.end_try(Outcome::ClientLeft);
            }
            ctx.reason = Some(Reason::ClientLeft);
        }
        Cause::TooLong => {
            ctx.end_try(Outcome::BodyTooLarge);
            ctx.end = Some(failure::PAYLOAD_TOO_LARGE);
        }
        Cause::BadRequest => {
            ctx.end_try(Outcome::BadRequest);
            ctx.end = Some(failure::BAD_REQUEST);
        }
        Cause::Internal => {
            ctx.end_try(Outcome::Internal);
            ctx.end = Some(failure::INTERNAL);
        }
    }
    false
}

/// Ends the try under way as the head of its answer has it.
pub(super) fn end_as_answered(ctx: &mut Ctx) {
    let answered = ctx.current.as_ref().and_then(|c| c.answered);
    let failed = |status: StatusCode| {
        let listed = |p: &ProxyTo| p.retry.on.lists_status(status.as_u16());
        status.is_server_error() || ctx.proxy().is_some_and(listed)
    };
    let outcome = match answered {
        Some((status, _)) if failed(status) => {
            observe(ctx, Failure::Status(status));
            Outcome::Failed(Failure::Status(status))
        }
        answered => {
            if let (Some(current), Some((_, latency))) = (&ctx.current, answered) {
                current.observe(ctx, Observation::Good(latency));
            }
            Outcome::Ok
        }
    };
    ctx.end_try(outcome);
}

/// The try under way ends for another backend was faster: that one's answer is taken as the next try.
fn give_way(ctx: &mut Ctx) {
    if let Some(current) = &ctx.current {
        let late = Observation::Late(current.started.elapsed());
        current.observe(ctx, late);
        ctx.tried.add(current.index);
    }
    ctx.wait = Duration::ZERO;
    ctx.end_try(Outcome::Hedged);
}

/// Does what was decided on a response: says whether there is to be another try.
fn obey(ctx: &mut Ctx, verdict: Verdict) -> bool {
    let status = ctx.current.as_ref().and_then(|c| c.answered);
    let status = status.map_or(StatusCode::BAD_GATEWAY, |(status, _)| status);
    let failure = Failure::Status(status);
    observe(ctx, failure);
    match verdict {
        Verdict::Retry(wait) => {
            ctx.end_try_before_retry(failure, wait);
            again(ctx);
            true
        }
        // A stale answer is there to be given instead.
        Verdict::GiveUp(_) => {
            ctx.end_try(Outcome::Failed(failure));
            ctx.end = Some(end(ctx, failure, "http_response_incomplete"));
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
    let Some(timeouts) = ctx.timeouts() else {
        return;
    };
    let (deadline, limit) = timeouts.deadline(phase, ctx.watch.elapsed());
    let idle = (phase == Phase::AwaitingBody).then_some(timeouts.idle);
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

/// Gives back a retry that is not made.
fn refund(ctx: &mut Ctx) {
    if let Some(spent) = ctx.charged.take()
        && let Some(traffic) = ctx.traffic()
    {
        traffic.refund(spent);
    }
}

/// The client left while its request waited for the next try.
pub(super) fn left(ctx: &mut Ctx) -> Box<Error> {
    refund(ctx);
    ctx.client_left = true;
    ctx.reason = Some(Reason::ClientLeft);
    Error::new_down(CLIENT_LEFT)
}

/// The try that was to come may not begin.
pub(super) fn barred(ctx: &mut Ctx, barred: Barred) -> Box<Error> {
    refund(ctx);
    match barred {
        Barred::ClientLeft => left(ctx),
        Barred::TimeOver => no_try(ctx, Reason::TotalTimeout, failure::TOTAL_TIMEOUT),
        Barred::RefusedByRoute(why) | Barred::Refused(why) => {
            no_try(ctx, Reason::Refused(why), failure::refused(why))
        }
        Barred::NoBackend => no_try(ctx, Reason::NoBackend, failure::NO_BACKEND),
    }
}

/// Says in the process log that a request failed. Not where that is no news: that no place was free, or that nothing can be
/// tried, has been said when it began, and the access log tells of each request.
pub(super) fn warn(session: &dyn Client, ctx: &Ctx, end: End, e: &Error) {
    if matches!(ctx.reason, Some(Reason::Refused(_) | Reason::NoBackend)) && ctx.tries.is_empty() {
        return;
    }
    let request = session.req_header();
    // Without its query, and without what Pingora read from the backend: either may hold secrets.
    let (path, _) = target(request)
        .split_once('?')
        .unwrap_or((target(request), ""));
    warn!(
        "{} {}{path}: {} ({}) after {} tries, request id {}: {}",
        request.method,
        authority(request),
        end.status,
        end.proxy_error,
        ctx.tries.len(),
        ctx.request_id,
        e.root_etype().as_str(),
    );
}

/// Whether the head of a final response went to the client; after 101 there is no other (RFC 9110 §15.2.2).
pub(super) fn response_started(session: &dyn Client, ctx: &Ctx) -> bool {
    let is_final = |head: &ResponseHeader| {
        !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
    };
    ctx.sent_at_once.is_some() || session.written().is_some_and(is_final)
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
