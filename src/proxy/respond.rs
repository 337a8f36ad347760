//! Answers made here: fixed ones, redirects, and what a client gets when no backend's answer could be had.

use super::caching::mark::mark;
use super::ctx::{Ctx, End};
use super::facts::Values;
use super::forward::edit_response;
use super::rate;
use crate::policy::limits::Excess;
use crate::policy::requirement::Lacks;
use crate::policy::route::{Redirect, Respond};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

/// An answer about to be written.
pub(super) struct Answer {
    head: ResponseHeader,
    body: Bytes,
}

impl Answer {
    /// A head with `Content-Type` and `Content-Length`, and the body.
    fn new(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Result<Self> {
        let body = body.into();
        let mut head = ResponseHeader::build(status, Some(6))?;
        if !bodiless(status) {
            if !body.is_empty() {
                head.insert_header("Content-Type", content_type)?;
            }
            head.insert_header("Content-Length", body.len())?;
        }
        Ok(Answer { head, body })
    }

    /// The short text that goes with a status of our own.
    pub(super) fn short(status: StatusCode, ctx: &Ctx) -> Result<Self> {
        Answer::explained(status, None, ctx)
    }

    /// The same, and why.
    fn explained(status: StatusCode, why: Option<&str>, ctx: &Ctx) -> Result<Self> {
        let reason = status.canonical_reason().unwrap_or("Error");
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let body = format!(
            "{} {reason}{why}\nrequest id: {}\n",
            status.as_u16(),
            ctx.request_id
        );
        let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
        Answer::new(status, content_type, body)
    }

    /// No route fits.
    pub(super) fn not_found(ctx: &Ctx) -> Result<Self> {
        Answer::short(StatusCode::NOT_FOUND, ctx)
    }

    /// Only a stored answer is wanted, and there is none (RFC 9111 §5.2.1.7).
    pub(super) fn only_if_cached(ctx: &Ctx) -> Result<Self> {
        Answer::short(StatusCode::GATEWAY_TIMEOUT, ctx)
    }

    /// The path is not one.
    pub(super) fn bad_request(ctx: &Ctx) -> Result<Self> {
        Answer::short(StatusCode::BAD_REQUEST, ctx)
    }

    /// Its head says more than is taken.
    pub(super) fn too_much(excess: Excess, ctx: &Ctx) -> Result<Self> {
        Answer::short(excess.status(), ctx)
    }

    /// Its address may not come in.
    pub(super) fn forbidden(ctx: &Ctx) -> Result<Self> {
        Answer::short(StatusCode::FORBIDDEN, ctx)
    }

    /// Who it is has to be proved (RFC 9110 §15.5.2).
    pub(super) fn unauthorized(challenge: HeaderValue, ctx: &Ctx) -> Result<Self> {
        let mut answer = Answer::short(StatusCode::UNAUTHORIZED, ctx)?;
        answer.head.insert_header("WWW-Authenticate", challenge)?;
        Ok(answer)
    }

    /// There is no time to find out who it is.
    pub(super) fn busy(ctx: &Ctx) -> Result<Self> {
        let mut answer = Answer::short(StatusCode::SERVICE_UNAVAILABLE, ctx)?;
        answer.head.insert_header("Retry-After", "5")?;
        Ok(answer)
    }

    /// It lacks what its route requires.
    pub(super) fn lacking(lacks: &Lacks, ctx: &Ctx) -> Result<Self> {
        let mut answer = Answer::explained(lacks.status(), Some(&lacks.reason()), ctx)?;
        if let Some(challenge) = lacks.challenge() {
            answer.head.insert_header("WWW-Authenticate", challenge)?;
        }
        Ok(answer)
    }

    /// The same is to be asked for elsewhere, by the same method (RFC 9110 §15.4.9).
    pub(super) fn moved(to: &str) -> Result<Self> {
        let plain = HeaderValue::from_static("text/plain");
        let mut answer = Answer::new(StatusCode::PERMANENT_REDIRECT, plain, Bytes::new())?;
        answer.head.insert_header("Location", to)?;
        Ok(answer)
    }

    /// The client took too long to send its body.
    pub(super) fn request_timeout(ctx: &Ctx) -> Result<Self> {
        Answer::short(StatusCode::REQUEST_TIMEOUT, ctx)
    }

    /// The client asks too often (RFC 6585 §4).
    pub(super) fn too_many_requests(retry_after: u64, ctx: &Ctx) -> Result<Self> {
        let mut answer = Answer::short(StatusCode::TOO_MANY_REQUESTS, ctx)?;
        answer
            .head
            .insert_header("Retry-After", retry_after.max(1))?;
        Ok(answer)
    }

    /// A route fits, but for the method (RFC 9110 §15.5.6).
    pub(super) fn method_not_allowed(allowed: &[Method], ctx: &Ctx) -> Result<Self> {
        let mut answer = Answer::short(StatusCode::METHOD_NOT_ALLOWED, ctx)?;
        let allow: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        answer.head.insert_header("Allow", allow.join(", "))?;
        Ok(answer)
    }

    /// A route's fixed answer.
    pub(super) fn fixed(respond: &Respond) -> Result<Self> {
        Answer::new(
            respond.status,
            respond.content_type.clone(),
            respond.body.clone(),
        )
    }

    /// A route's redirect.
    pub(super) fn redirect(
        redirect: &Redirect,
        session: &ServerSession,
        ctx: &Ctx,
    ) -> Result<Self> {
        let values = Values::of(session.req_header(), ctx);
        let to = redirect.to.render_value(&values.vars(&ctx.request_id));
        let mut answer = Answer::new(
            redirect.status,
            HeaderValue::from_static("text/plain"),
            Bytes::new(),
        )?;
        answer.head.insert_header("Location", to)?;
        Ok(answer)
    }

    /// What is left to say when the upstream failed; `Proxy-Status` as in RFC 9209.
    pub(super) fn failed(end: End, ctx: &Ctx) -> Result<Self> {
        let mut answer = Answer::short(end.status, ctx)?;
        let mut proxy_status = format!("backstop; error={}", end.proxy_error);
        if let Some(details) = end.details {
            proxy_status.push_str(&format!("; details=\"{details}\""));
        }
        answer.head.insert_header("Proxy-Status", proxy_status)?;
        if end.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.head.insert_header("Retry-After", "1")?;
        }
        Ok(answer)
    }

    /// Writes it, edited as the route says, and keeps the connection where HTTP allows.
    pub(super) async fn write(mut self, session: &mut ServerSession, ctx: &Ctx) -> Result<()> {
        self.head
            .insert_header("X-Request-ID", ctx.request_id.as_str())?;
        if let Some(hsts) = ctx.hsts() {
            self.head.insert_header("Strict-Transport-Security", hsts)?;
        }
        mark(&mut self.head, ctx)?;
        rate::mark(&mut self.head, ctx)?;
        if let Some(route) = &ctx.route {
            edit_response(
                &mut self.head,
                &route.response_headers,
                session.req_header(),
                ctx,
            )?;
        }
        if let Some(connection) = &ctx.connection {
            connection.date.clear();
        }
        if ctx.watch.draining() {
            session.set_keepalive(None);
        }
        let has_body = session.req_header().method != Method::HEAD && !bodiless(self.head.status);
        session.write_response_header(Box::new(self.head)).await?;
        if has_body {
            session.write_response_body(self.body, true).await
        } else {
            session.finish_body().await
        }
    }
}

/// Whether a response with this status never has a body (RFC 9110 §6.4.1).
fn bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
