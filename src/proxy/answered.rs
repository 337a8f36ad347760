//! The head of a backend's final answer: whether it is one, and whether it is to stand or another try is to be made.
//!
//! Asked by [`super`] in Pingora's phase, and by [`super::direct`].

use super::client::Client;
use super::ctx::Ctx;
use super::tries::judge_response;
use super::{TRY_AGAIN, forward};
use crate::policy::blame;
use crate::policy::framing;
use crate::policy::retry::{Reason, Verdict};
use crate::policy::route::Proxy;
use http::{StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

/// Refuses what nobody can be sure of, and takes out what says nothing.
///
/// # Errors
/// When the answer cannot be handed on; its backend is to blame.
pub(super) fn check(request: &RequestHeader, response: &mut ResponseHeader) -> Result<()> {
    if let Err(doubt) = framing::judge_answer(response.version, &response.headers) {
        let error = Error::explain(ErrorType::InvalidHTTPHeader, doubt.word());
        return Err(error.into_up());
    }
    if response.status == StatusCode::SWITCHING_PROTOCOLS
        && !forward::is_asked_for(request, response)
    {
        // What followed would reach the client as it is, and be taken for the next answer.
        let error = Error::explain(ErrorType::InvalidHTTPHeader, "nobody asked to switch");
        return Err(error.into_up());
    }
    if response.status == StatusCode::NO_CONTENT {
        // It has none (RFC 9110 §8.6, RFC 9112 §6.1).
        response.remove_header(&header::CONTENT_LENGTH);
        response.remove_header(&header::TRANSFER_ENCODING);
    }
    Ok(())
}

/// Whether its route tries again after a status.
pub(super) fn is_listed(ctx: &Ctx, status: StatusCode) -> bool {
    let lists = |p: &Proxy| p.retry.on.lists_status(status.as_u16());
    ctx.proxy().is_some_and(lists)
}

/// Whether an answer with this status stands, whatever else its head says, and has content as others have.
pub(super) fn is_ordinary(ctx: &Ctx, status: StatusCode) -> bool {
    let is_bare = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    (200..500).contains(&status.as_u16()) && !is_bare && !is_listed(ctx, status)
}

/// Notes that an answer with this status, which is not listed, came and stands.
pub(super) fn stands(ctx: &mut Ctx, status: StatusCode) {
    ctx.note_answer(status);
    ctx.reason = Some(unlisted(status));
}

fn unlisted(status: StatusCode) -> Reason {
    match status.is_server_error() {
        true => Reason::NotListed,
        false => Reason::Answered,
    }
}

/// Says why the answer stands.
///
/// # Errors
/// [`TRY_AGAIN`], if it does not: the verdict is in the context.
pub(super) fn weigh(
    session: &mut dyn Client,
    ctx: &mut Ctx,
    response: &ResponseHeader,
) -> Result<()> {
    let status = response.status;
    ctx.reason = Some(if is_listed(ctx, status) {
        match judge_response(session, ctx, response) {
            verdict @ Verdict::Retry(_) => {
                ctx.verdict = Some(verdict);
                return Err(Error::new_up(TRY_AGAIN));
            }
            Verdict::GiveUp(reason) => reason,
        }
    } else {
        unlisted(status)
    });
    Ok(())
}

/// Tells of an answer that stands, where it is good, whoever is to know before its end.
pub(super) fn tell(ctx: &mut Ctx, response: &ResponseHeader) {
    if ctx.reason == Some(Reason::Answered) {
        let is_stream = blame::speaks_by_its_head(response.status, &response.headers);
        ctx.tell_head(is_stream);
    }
}
