//! Asking a service whether a request may pass, as nginx's `auth_request` and others' forward auth do.
//!
//! Called by [`super::ask`]. The service gets the head of the request; what it answers with 2xx may pass, with fields of that
//! answer for the backend; any other answer, but for one that says that the service itself failed, is the client's.

use super::Refusal;
use crate::policy::adaptive;
use crate::policy::admission::Priority;
use crate::policy::balancer::Tried;
use crate::policy::claims;
use crate::policy::route::ForwardAuth;
use crate::policy::timeouts::Timeouts;
use crate::proxy::aside::{self, Said};
use crate::proxy::ctx::Ctx;
use crate::proxy::facts::{authority, target};
use crate::proxy::forward;
use crate::upstream::places::Place;
use crate::upstream::{Reach, Upstream};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use pingora::Result;
use pingora::http::RequestHeader;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    let Some(said) = exchange(&upstream, &question, plan).await else {
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
    forward::pass_trace(&mut question, ctx, ctx.trace.map_or(0, |trace| trace.span))?;
    Ok(question)
}

/// Asks one backend, and another if that one fails or has used up half of the time.
async fn exchange(
    upstream: &Arc<Upstream>,
    question: &RequestHeader,
    plan: &ForwardAuth,
) -> Option<Said> {
    let until = Instant::now() + plan.timeout;
    let left = || until.saturating_duration_since(Instant::now());
    let (mut tried, turn) = (Tried::default(), upstream.take_turn());
    for n in 1..=TRIES {
        let place = place(upstream, left()).await?;
        let picked = upstream.pick(&tried, turn, None, Reach::Nothing).ok()?;
        tried.add(picked.index);
        let limit = match n < TRIES && upstream.has_untried(&tried, None) {
            true => left() / 2,
            false => left(),
        };
        let timeouts = Timeouts {
            connect: limit.min(Timeouts::default().connect),
            first_byte: limit,
            idle: limit,
            total: limit,
            ..Timeouts::default()
        };
        let began = Instant::now();
        let request = (question.clone(), Bytes::new());
        // One byte more tells that there is more.
        let said = aside::ask(upstream, &picked, request, &timeouts, MOST + 1).await;
        let status = said.as_ref().map(|said| said.head.status.as_u16());
        if let (Some(place), Some(dropped)) = (place, adaptive::speaks_of_load(status)) {
            place.observe(began.elapsed(), dropped);
        }
        if let Some(said) = said
            && !said.head.status.is_server_error()
            && said.body.len() <= MOST
        {
            return Some(said);
        }
    }
    None
}

/// A place of the service's upstream, where these are bounded; the outer `None` if there is none within this time.
async fn place(upstream: &Upstream, left: Duration) -> Option<Option<Place>> {
    if upstream.concurrency.is_none() {
        return Some(None);
    }
    let place = upstream.places.take(Duration::ZERO, Priority::Normal);
    let place = tokio::time::timeout(left, place).await;
    Some(Some(place.ok()?.ok()?))
}
