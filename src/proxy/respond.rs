//! Answers made here: fixed ones, redirects, and what a client gets when no backend's answer could be had.

use super::caching::mark::mark;
use super::client::{Client, Side};
use super::ctx::{Ctx, End};
use super::facts::Values;
use super::forward::{edit_response, give, strip_hop_by_hop};
use super::{rate, watch, wire};
use crate::policy::error_body::{Form, Page, PageBody, Told};
use crate::policy::grpc;
use crate::policy::limits::Excess;
use crate::policy::requirement::Lacks;
use crate::policy::route::{Redirect, Respond};
use crate::policy::target;
use crate::server::http2::Exchange;
use crate::server::request::{Request, waits_to_be_told};
use crate::server::stream::ClientStream;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::{ErrorType, OrErr, Result};
use std::io::IoSlice;
use std::time::Duration;

/// How long the writing of an answer that is made here may take.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// How much content that nobody wants is read to keep its connection.
const SKIPPED: u64 = 64 * 1024;

/// An answer about to be written. Boxed, for most requests carry the place for one along and never have it.
pub(super) struct Answer(Box<Made>);

struct Made {
    head: ResponseHeader,
    content: Content,
}

/// What follows its head.
enum Content {
    /// Nothing.
    None,
    /// This, of this media type.
    Fixed(HeaderValue, Bytes),
    /// What goes with a status of our own, and why; in the form that the client takes.
    Own(Option<String>),
    /// Nothing: it says what a script may do.
    Permission,
    /// What a service said, whose fields are in the head already.
    Said(Bytes),
}

impl Answer {
    fn new(status: StatusCode, content: Content) -> Result<Self> {
        let head = ResponseHeader::build(status, Some(6))?;
        Ok(Answer(Box::new(Made { head, content })))
    }

    /// What goes with a status of our own.
    pub(super) fn short(status: StatusCode) -> Result<Self> {
        Answer::new(status, Content::Own(None))
    }

    /// The same, and why.
    fn explained(status: StatusCode, why: String) -> Result<Self> {
        Answer::new(status, Content::Own(Some(why)))
    }

    /// What a script may do here (Fetch §3.3.3).
    pub(super) fn permission() -> Result<Self> {
        Answer::new(StatusCode::NO_CONTENT, Content::Permission)
    }

    /// No route fits.
    pub(super) fn not_found() -> Result<Self> {
        Answer::short(StatusCode::NOT_FOUND)
    }

    /// Only a stored answer is wanted, and there is none (RFC 9111 §5.2.1.7).
    pub(super) fn only_if_cached() -> Result<Self> {
        Answer::short(StatusCode::GATEWAY_TIMEOUT)
    }

    /// The path is not one.
    pub(super) fn bad_request() -> Result<Self> {
        Answer::short(StatusCode::BAD_REQUEST)
    }

    /// Its head says more than is taken.
    pub(super) fn too_much(excess: Excess) -> Result<Self> {
        Answer::short(excess.status())
    }

    /// Its address may not come in.
    pub(super) fn forbidden() -> Result<Self> {
        Answer::short(StatusCode::FORBIDDEN)
    }

    /// Who it is has to be proved (RFC 9110 §15.5.2).
    pub(super) fn unauthorized(challenge: HeaderValue) -> Result<Self> {
        let mut answer = Answer::short(StatusCode::UNAUTHORIZED)?;
        answer.0.head.insert_header("WWW-Authenticate", challenge)?;
        Ok(answer)
    }

    /// What the service says that lets nobody pass here.
    pub(super) fn said(mut head: ResponseHeader, body: Bytes) -> Result<Self> {
        strip_hop_by_hop(&mut head, false);
        for name in [
            "connection",
            "content-length",
            "transfer-encoding",
            "upgrade",
        ] {
            head.remove_header(name);
        }
        Ok(Answer(Box::new(Made {
            head,
            content: Content::Said(body),
        })))
    }

    /// There is no time to find out who it is.
    pub(super) fn busy() -> Result<Self> {
        let mut answer = Answer::short(StatusCode::SERVICE_UNAVAILABLE)?;
        answer.0.head.insert_header("Retry-After", "5")?;
        Ok(answer)
    }

    /// It lacks what its route requires.
    pub(super) fn lacking(lacks: &Lacks) -> Result<Self> {
        let mut answer = Answer::explained(lacks.status(), lacks.reason())?;
        if let Lacks::Method(taken) = lacks {
            answer.allow(taken)?;
        }
        if let Some(challenge) = lacks.challenge() {
            answer.0.head.insert_header("WWW-Authenticate", challenge)?;
        }
        Ok(answer)
    }

    /// The same is to be asked for elsewhere, by the same method (RFC 9110 §15.4.9).
    pub(super) fn moved(to: &str) -> Result<Self> {
        let mut answer = Answer::new(StatusCode::PERMANENT_REDIRECT, Content::None)?;
        answer.0.head.insert_header("Location", to)?;
        Ok(answer)
    }

    /// The client took too long to send its body.
    pub(super) fn request_timeout() -> Result<Self> {
        Answer::short(StatusCode::REQUEST_TIMEOUT)
    }

    /// The client asks too often (RFC 6585 §4).
    pub(super) fn too_many_requests(retry_after: u64) -> Result<Self> {
        let mut answer = Answer::short(StatusCode::TOO_MANY_REQUESTS)?;
        answer
            .0
            .head
            .insert_header("Retry-After", retry_after.max(1))?;
        Ok(answer)
    }

    /// A route fits, but for the method (RFC 9110 §15.5.6).
    pub(super) fn method_not_allowed(allowed: &[Method]) -> Result<Self> {
        let mut answer = Answer::short(StatusCode::METHOD_NOT_ALLOWED)?;
        answer.allow(allowed)?;
        Ok(answer)
    }

    fn allow(&mut self, methods: &[Method]) -> Result<()> {
        let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
        self.0.head.insert_header("Allow", methods.join(", "))
    }

    /// What an authority wants to see (RFC 8555 §8.3).
    pub(super) fn proof(proof: String) -> Result<Self> {
        let content_type = HeaderValue::from_static("application/octet-stream");
        let content = Content::Fixed(content_type, proof.into());
        Answer::new(StatusCode::OK, content)
    }

    /// A route's fixed answer.
    pub(super) fn fixed(respond: &Respond) -> Result<Self> {
        let content = match respond.body.is_empty() {
            true => Content::None,
            false => Content::Fixed(respond.content_type.clone(), respond.body.clone().into()),
        };
        Answer::new(respond.status, content)
    }

    /// A route's redirect.
    pub(super) fn redirect(
        redirect: &Redirect,
        request: &RequestHeader,
        ctx: &Ctx,
    ) -> Result<Self> {
        let values = Values::of(request, ctx);
        let to = redirect.to.render_value(&values.vars(&ctx.request_id));
        let mut answer = Answer::new(redirect.status, Content::None)?;
        match to.to_str() {
            Ok(text) => {
                let text = target::on_this_host(text, redirect.to.source());
                answer.0.head.insert_header("Location", &*text)?;
            }
            Err(_) => answer.0.head.insert_header("Location", to)?,
        }
        Ok(answer)
    }

    /// What is left to say when the upstream failed; `Proxy-Status` as in RFC 9209.
    pub(super) fn failed(end: End) -> Result<Self> {
        let mut answer = Answer::short(end.status)?;
        let mut proxy_status = format!("backstop; error={}", end.proxy_error);
        if let Some(details) = end.details {
            proxy_status.push_str(&format!("; details=\"{details}\""));
        }
        answer.0.head.insert_header("Proxy-Status", proxy_status)?;
        if end.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.0.head.insert_header("Retry-After", "1")?;
        }
        Ok(answer)
    }

    /// Says in the head what follows it, and returns that.
    fn body(&mut self, request: &RequestHeader, ctx: &Ctx) -> Result<Bytes> {
        let Made { head, content } = &mut *self.0;
        let status = head.status;
        let page = ctx
            .answer_rules()
            .and_then(|rules| rules.error_pages.as_ref());
        let page = page.and_then(|pages| pages.find(status));
        let (content_type, body) = match (content, page) {
            (Content::Fixed(content_type, body), _) => (content_type.clone(), body.clone()),
            // A fixed answer that says nothing itself is what such pages are for.
            (Content::None | Content::Own(_), Some(page)) => shown(page, status, ctx),
            (Content::Said(body), _) => {
                if !bodiless(status) {
                    head.insert_header("Content-Length", body.len())?;
                }
                return Ok(body.clone());
            }
            (Content::Own(why), None) => {
                let form = Form::of(&request.headers);
                // A cache on the way must not give it to who takes another form (RFC 9110 §12.5.5).
                head.append_header("Vary", "Accept")?;
                let told = told(status, why.as_deref(), ctx);
                (form.content_type(), form.body(&told).into())
            }
            (Content::None | Content::Permission, _) => {
                if !bodiless(status) {
                    head.insert_header("Content-Length", "0")?;
                }
                return Ok(Bytes::new());
            }
        };
        if !bodiless(status) {
            head.insert_header("Content-Type", content_type)?;
            head.insert_header("Content-Length", body.len())?;
        }
        Ok(body)
    }

    /// Writes it, edited as the route says, and keeps the connection where HTTP allows. Over HTTP/2 a client can refuse to take
    /// even this: it has so long for it.
    pub(super) async fn write(mut self, client: &mut dyn Client, ctx: &mut Ctx) -> Result<()> {
        ctx.watch.set_total(Some(ctx.watch.elapsed() + ANSWER_TIME));
        let body = self.dress(client, ctx)?;
        match client.side() {
            Side::Front(request) => beside(request, ctx, self.0.head, &body).await,
            Side::Stream(exchange) => {
                watch::write(&ctx.watch, self.send_by_stream(exchange, body)).await
            }
            Side::Pingora(session) => {
                let sent = watch::write(&ctx.watch, self.send(session, body));
                Box::pin(sent).await
            }
        }
    }

    /// Makes the head what it is to be; returns the body.
    fn dress(&mut self, client: &mut dyn Client, ctx: &Ctx) -> Result<Bytes> {
        let body = self.body(client.req_header(), ctx)?;
        self.0
            .head
            .insert_header("X-Request-ID", ctx.request_id.as_str())?;
        if let Some(hsts) = ctx.hsts() {
            self.0
                .head
                .insert_header("Strict-Transport-Security", hsts)?;
        }
        mark(&mut self.0.head, ctx)?;
        rate::mark(&mut self.0.head, ctx)?;
        if let Some(rules) = ctx.answer_rules() {
            let permission = matches!(self.0.content, Content::Permission);
            give(&mut self.0.head, rules, client.req_header(), permission)?;
        }
        if let Some(route) = &ctx.route {
            edit_response(
                &mut self.0.head,
                &route.response_headers,
                client.req_header(),
                ctx,
            )?;
        }
        if let Some(connection) = &ctx.connection {
            connection.date.clear();
        }
        if ctx.watch.draining() {
            client.close();
        }
        Ok(body)
    }

    /// Whether it is told to a call of gRPC in the words of gRPC.
    fn is_for_call(&self, request: &RequestHeader) -> bool {
        matches!(self.0.content, Content::Own(_))
            && grpc::is_call(&request.method, request.version, &request.headers)
    }

    async fn send_by_stream(self, exchange: &mut Exchange, body: Bytes) -> Result<()> {
        if self.is_for_call(exchange.head()) {
            return exchange.write_head(Box::new(refused_call(self.0.head)?), true);
        }
        let is_bodiless = exchange.head().method == Method::HEAD || bodiless(self.0.head.status);
        let is_all = is_bodiless || body.is_empty();
        exchange.write_head(Box::new(self.0.head), is_all)?;
        match is_all {
            true => Ok(()),
            false => exchange.write(body, true).await,
        }
    }

    async fn send(self, session: &mut ServerSession, body: Bytes) -> Result<()> {
        if self.is_for_call(session.req_header()) {
            let head = HttpTask::Header(Box::new(refused_call(self.0.head)?), true);
            return session.response_duplex_vec(vec![head]).await.map(|_| ());
        }
        let has_body = session.req_header().method != Method::HEAD && !bodiless(self.0.head.status);
        session.write_response_header(Box::new(self.0.head)).await?;
        if has_body {
            session.write_response_body(body, true).await
        } else {
            session.finish_body().await
        }
    }
}

/// Writes an answer to a request that has not gone on to Pingora's phases.
async fn beside(
    request: &mut Request,
    ctx: &mut Ctx,
    head: ResponseHeader,
    body: &[u8],
) -> Result<()> {
    let is_head = request.head.method == Method::HEAD;
    let body = match is_head || bodiless(head.status) {
        true => &[],
        false => body,
    };
    let is_little = |left| left <= SKIPPED;
    let comes =
        request.stream.content_left().is_some_and(is_little) && !waits_to_be_told(&request.head);
    // What is long may be long in coming, and whether it comes at all nobody can say of what waits to be asked for.
    request.keeps &= comes || !request.has_content();
    let out = wire::whole(&head, request.keeps);
    // Some of it may arrive whatever comes of it.
    ctx.sent_at_once = Some((head.status, 0));
    ctx.head_at_once = out.len();
    let mut parts = [IoSlice::new(&out), IoSlice::new(body)];
    let sent = async {
        let sent = request.stream.send(&mut parts).await;
        sent.or_err(ErrorType::WriteError, "writing an answer")
    };
    watch::write(&ctx.watch, sent).await?;
    ctx.sent_at_once = Some((head.status, body.len()));
    if head.headers.contains_key(header::LOCATION) {
        // The log says where to.
        request.written = Some(Box::new(head));
    }
    Ok(())
}

/// Answers what could not be read: nothing is known of it, not even what its client would like to read.
///
/// # Errors
/// When the client cannot be written to.
pub(super) async fn to_nothing(
    stream: &mut ClientStream,
    status: StatusCode,
    request_id: &str,
) -> Result<()> {
    let told = Told {
        status,
        why: None,
        request_id,
    };
    let body = Form::Text.body(&told);
    let mut head = ResponseHeader::build(status, Some(4))?;
    head.insert_header("Content-Type", Form::Text.content_type())?;
    head.insert_header("Content-Length", body.len())?;
    head.insert_header("X-Request-ID", request_id)?;
    // Where the next one would begin is not known.
    let head = wire::whole(&head, false);
    let mut parts = [IoSlice::new(&head), IoSlice::new(body.as_bytes())];
    let sent = tokio::time::timeout(ANSWER_TIME, stream.send(&mut parts)).await;
    let sent = sent.unwrap_or_else(|late| Err(late.into()));
    sent.or_err(ErrorType::WriteError, "writing an answer")
}

/// The status that an answer stands for, whatever HTTP says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct StandsFor(pub(super) StatusCode);

/// What says the same to a call of gRPC, which looks at nothing else: a head that is the trailers as well.
fn refused_call(mut head: ResponseHeader) -> Result<ResponseHeader> {
    let status = head.status;
    head.set_status(StatusCode::OK)?;
    head.remove_header("content-length");
    head.insert_header("Content-Type", "application/grpc")?;
    head.insert_header("grpc-status", u64::from(grpc::code(status)))?;
    let reason = status.canonical_reason().unwrap_or_default();
    head.insert_header("grpc-message", grpc::message(reason))?;
    let mut parts = head.as_owned_parts();
    parts.extensions.insert(StandsFor(status));
    Ok(ResponseHeader::from(parts))
}

/// What an answer of our own has to tell.
fn told<'a>(status: StatusCode, why: Option<&'a str>, ctx: &'a Ctx) -> Told<'a> {
    Told {
        status,
        why,
        request_id: &ctx.request_id,
    }
}

/// A page of the operator's, with its media type.
fn shown(page: &Page, status: StatusCode, ctx: &Ctx) -> (HeaderValue, Bytes) {
    let body = match page.body(&told(status, None, ctx)) {
        PageBody::Shared(bytes) => Bytes::from_owner(bytes),
        PageBody::Made(text) => text.into(),
    };
    (page.content_type(), body)
}

/// Whether a response with this status never has a body (RFC 9110 §6.4.1).
fn bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
