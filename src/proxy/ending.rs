//! The end of a request: what its client is told when no upstream's answer could be handed on, and what its last try comes to.
//!
//! Asked by [`super`] at the end of Pingora's phases, and by [`super::direct`].

use super::client::Client;
use super::ctx::Ctx;
use super::failure::{self, Cause};
use super::respond::Answer;
use super::tries;
use crate::cache::fills::Failed;
use crate::observe::tally::Counts;
use crate::policy::framing::Doubt;
use crate::policy::outcome::Outcome;
use crate::policy::retry::{Failure, Reason};
use pingora::Error;

/// Tells the client that its request failed, as far as that can still be said. Returns the status that it got, or would have got.
pub(super) async fn fail(
    counts: &Counts,
    session: &mut dyn Client,
    ctx: &mut Ctx,
    e: &Error,
) -> u16 {
    let at_once = ctx.sent_at_once.map(|(status, _)| status);
    let sent = at_once.or_else(|| session.written().map(|head| head.status));
    if let (true, Some(status)) = (ctx.is_whole() || ctx.tunnel, sent) {
        return status.as_u16();
    }
    if ctx.end.is_none() && !ctx.client_left {
        // An error outside the loop of tries.
        match failure::while_proxying(e) {
            Cause::Client => ctx.client_left = true,
            Cause::TooLong => ctx.end = Some(failure::PAYLOAD_TOO_LARGE),
            Cause::SlowBody => ctx.end = Some(failure::CLIENT_STALLED),
            Cause::BadRequest => ctx.end = Some(failure::BAD_REQUEST),
            Cause::Backend(failure, word) => {
                ctx.end = Some(failure::end(failure, word, ctx.limit, false))
            }
            Cause::Internal => ctx.end = Some(failure::INTERNAL),
        }
    }
    if ctx.end == Some(failure::BAD_REQUEST) {
        let word = failure::doubt(e).map_or("content", Doubt::word);
        ctx.refused.get_or_insert(word);
        Counts::one(&counts.malformed);
        // Where the next one would begin is not known.
        session.close();
    }
    let Some(end) = ctx.end.filter(|_| !ctx.client_left) else {
        ctx.reason.get_or_insert(Reason::ClientLeft);
        return failure::CLIENT_LEFT;
    };
    tries::warn(session, ctx, end, e);
    if let Some(job) = &ctx.fill {
        job.failed(Failed {
            status: end.status,
            proxy_error: end.proxy_error,
            details: end.details,
        });
    } else if !tries::response_started(session, ctx) {
        let written = match Answer::failed(end) {
            Ok(answer) => answer.write(session, ctx).await,
            Err(error) => Err(error),
        };
        ctx.answered_here = written.is_ok();
    }
    end.status.as_u16()
}

/// Ends the try that is still under way when its request ends. `broke_off`: whether that is for an error.
pub(super) fn end_try(ctx: &mut Ctx, broke_off: bool) {
    if ctx.current.is_none() {
        return;
    }
    if broke_off && !ctx.is_whole() {
        tries::observe(ctx, Failure::Reset);
        ctx.end_try(Outcome::Failed(Failure::Reset));
    } else {
        tries::end_as_answered(ctx);
    }
}
