//! Asking a service whether a request may pass, as nginx's `auth_request` and others' forward auth do.
//!
//! Called by [`super::ask`]. The service gets the head of the request; what it answers with 2xx may pass, with fields of that
//! answer for the backend; any other answer, but for one that says that the service itself failed, is the client's.

use super::Refusal;
use crate::policy::balancer::Tried;
use crate::policy::claims;
use crate::policy::route::ForwardAuth;
use crate::policy::timeouts::Timeouts;
use crate::proxy::aside::{self, Said};
use crate::proxy::ctx::Ctx;
use crate::proxy::facts::{authority, target};
use crate::proxy::forward;
use crate::upstream::{Reach, Upstream};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use pingora::Result;
use pingora::http::RequestHeader;
use std::sync::Arc;

/// How often it is asked, each time another backend.
const TRIES: usize = 2;
/// A longer answer is none that could be handed on.
const MOST: usize = 256 * 1024;

/// Fields of a request that are about its content, or about what the client has stored.
const LEFT_OUT: [HeaderName; 11] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::ACCEPT_ENCODING,
];

/// Somebody who may pass.
pub(super) struct Passed {
    /// Who that is, if the service says it.
    pub(super) name: Option<String>,
    /// What the backend is told; `None` for what the service did not say, which nobody else may say either.
    pub(super) told: Vec<(HeaderName, Option<HeaderValue>)>,
}

/// Asks the service.
pub(super) async fn ask(
    plan: &ForwardAuth,
    request: &RequestHeader,
    ctx: &Ctx,
) -> Result<std::result::Result<Passed, Refusal>> {
    let unavailable = Ok(Err(Refusal::Busy("auth_unavailable")));
    let Some(upstream) = ctx.snapshot.upstreams.get(plan.upstream).cloned() else {
        return unavailable;
    };
    let question = question(plan, request, ctx)?;
    let asked = exchange(&upstream, &question, plan);
    let Ok(Some(said)) = tokio::time::timeout(plan.timeout, asked).await else {
        return unavailable;
    };
    if !said.head.status.is_success() {
        return Ok(Err(Refusal::Said(Box::new(said.head), said.body.into())));
    }
    let field = |name: &HeaderName| said.head.headers.get(name).cloned();
    let name = plan.identity.as_ref().and_then(|name| {
        let value = field(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|n| !n.is_empty())
    });
    let told = plan.pass.iter().map(|name| (name.clone(), field(name)));
    Ok(Ok(Passed {
        name,
        told: told.collect(),
    }))
}

/// What the service is asked. The names are those that others use for this.
fn question(plan: &ForwardAuth, request: &RequestHeader, ctx: &Ctx) -> Result<RequestHeader> {
    let mut question = aside::alike(request, Method::GET, plan.path.as_bytes())?;
    aside::strip(&mut question, &Bytes::new())?;
    for name in &LEFT_OUT {
        question.remove_header(name);
    }
    forward::remove(&mut question, claims::is_claim);
    question.insert_header("X-Forwarded-Method", request.method.as_str())?;
    question.insert_header("X-Forwarded-Proto", ctx.scheme)?;
    question.insert_header("X-Forwarded-Host", authority(request))?;
    question.insert_header("X-Forwarded-Uri", target(request))?;
    let client = ctx.client.map(|ip| ip.to_string()).unwrap_or_default();
    question.insert_header("X-Forwarded-For", client)?;
    question.insert_header("X-Request-ID", ctx.request_id.as_str())?;
    Ok(question)
}

/// Asks one backend, and another if that one fails.
async fn exchange(
    upstream: &Arc<Upstream>,
    question: &RequestHeader,
    plan: &ForwardAuth,
) -> Option<Said> {
    let timeouts = Timeouts {
        connect: plan.timeout.min(Timeouts::default().connect),
        first_byte: plan.timeout,
        idle: plan.timeout,
        total: plan.timeout,
    };
    let (mut tried, turn) = (Tried::default(), upstream.take_turn());
    for _ in 0..TRIES {
        let picked = upstream.pick(&tried, turn, None, Reach::Nothing).ok()?;
        tried.add(picked.index);
        let request = (question.clone(), Bytes::new());
        // One byte more tells that there is more.
        let said = aside::ask(upstream, &picked, request, &timeouts, MOST + 1).await;
        if let Some(said) = said
            && !said.head.status.is_server_error()
            && said.body.len() <= MOST
        {
            return Some(said);
        }
    }
    None
}
