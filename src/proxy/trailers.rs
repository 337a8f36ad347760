//! Trailers of one request and of its answer, on their way: `policy::trailers` says who wants them and which may pass.
//!
//! Pingora hands on those of HTTP/2 and leaves out those of HTTP/1. Here they are brought past it: a client's are taken from its
//! connection, a backend's from [`super::trailing`], and [`end`] writes them where it would write the last chunk.

use super::ctx::Ctx;
use super::forward::is_duplex;
use crate::policy::claims;
use crate::policy::fields;
use crate::policy::route::{Action, Route};
use crate::policy::trailers;
use crate::server::stream::ClientStream;
use crate::upstream::own::Own;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora_proxy::Session;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The trailers of a request, and of its answer.
#[derive(Debug)]
pub(super) struct Trailers {
    route: Own<Route>,
    /// What backends are told of a client by somebody else.
    told: Vec<HeaderName>,
    /// Whether the client takes those of the answer, and whether it has announced some.
    wanted: AtomicBool,
    announced: bool,
    pub(super) to_head: bool,
    /// Those of the request, once they came.
    sent: Mutex<HeaderMap>,
    /// Those of the answer, once they came.
    answered: Mutex<HeaderMap>,
    /// Whether the connection of the try under way served another request before.
    pub(super) reused: AtomicBool,
}

impl Trailers {
    /// All content of the request came: so did its trailers.
    pub(super) fn note_sent(&self, client: &ServerSession) {
        let Some(stream) = ClientStream::of(client).filter(|_| self.announced) else {
            return;
        };
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.is_empty() && !stream.trailers().is_empty() {
            for (name, value) in &trailers::read(stream.trailers()) {
                if self.may_be_sent(name) {
                    sent.append(name, value.clone());
                }
            }
        }
    }

    /// Nobody but the operator says what the operator's configuration tells backends.
    fn may_be_sent(&self, name: &HeaderName) -> bool {
        let Action::Proxy(proxy) = &self.route.action else {
            return false;
        };
        let is_told =
            |name: &HeaderName| proxy.request_headers.edit(name) || self.told.contains(name);
        trailers::may_be(name) && !is_told(name) && !claims::passes_for(name, is_told)
    }

    /// These are those of the answer.
    pub(super) fn set_answered(&self, fields: HeaderMap) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = fields;
    }

    /// The end of the request's chunked content, where that is not the usual one.
    pub(super) fn last_chunk(&self) -> Option<Vec<u8>> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        (!sent.is_empty()).then(|| trailers::last_chunk(&sent))
    }

    /// Whether there may be any.
    pub(super) fn may_come(&self) -> bool {
        self.announced || self.wanted.load(Ordering::Relaxed)
    }

    /// Another try begins: nothing of an earlier one counts.
    pub(super) fn begin(&self) {
        self.set_answered(HeaderMap::new());
        self.reused.store(false, Ordering::Relaxed);
    }

    /// What the operator takes out of heads does not come after them.
    fn may_be_answered(&self, name: &HeaderName) -> bool {
        let is_edited = |name: &HeaderName| self.route.response_headers.edit(name);
        trailers::may_be(name) && !is_edited(name) && !claims::passes_for(name, is_edited)
    }

    /// Takes the end out of the last pieces of an answer, where trailers are to follow: these.
    pub(super) fn last(&self, tasks: &mut Vec<HttpTask>) -> Option<HeaderMap> {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fields = std::mem::take(&mut *answered);
        for task in &mut *tasks {
            if let HttpTask::Trailer(Some(more)) = task {
                fields = std::mem::take(&mut **more);
            }
        }
        let wanted = self.wanted.load(Ordering::Relaxed);
        let heads_only = tasks.iter().any(|t| matches!(t, HttpTask::Header(_, true)));
        let mut passing = HeaderMap::new();
        for (name, value) in fields.iter().filter(|_| wanted && !heads_only) {
            if self.may_be_answered(name) {
                passing.append(name, value.clone());
            }
        }
        if passing.is_empty() {
            for task in &mut *tasks {
                if matches!(task, HttpTask::Trailer(_)) {
                    *task = HttpTask::Done;
                }
            }
            return None;
        }
        tasks.retain_mut(|task| match task {
            HttpTask::Body(piece, end) => {
                *end = false;
                piece.as_ref().is_some_and(|piece| !piece.is_empty())
            }
            HttpTask::Trailer(_) | HttpTask::Done => false,
            _ => true,
        });
        Some(passing)
    }
}

/// Sees which trailers a request may have, and get.
pub(super) fn plan(session: &mut Session, ctx: &mut Ctx) {
    let request = session.req_header();
    let (headers, version) = (&request.headers, request.version);
    // What goes both ways at once has none, or as calls of gRPC all of its own.
    if is_duplex(request) {
        return;
    }
    let wanted = version >= Version::HTTP_11 && trailers::are_wanted(headers);
    let announced = version == Version::HTTP_11
        && fields::has(headers, &header::TRAILER)
        && fields::has(headers, &header::TRANSFER_ENCODING);
    // Of those that a client of HTTP/2 gets from Pingora, not all may pass.
    let may_come = wanted || announced || version == Version::HTTP_2;
    // What is stored for others has none.
    let (true, Some(route), None) = (may_come, ctx.route.clone(), &ctx.fill) else {
        return;
    };
    let trailers = Trailers {
        route,
        told: ctx.told.iter().map(|(name, _)| name.clone()).collect(),
        wanted: AtomicBool::new(wanted),
        announced,
        to_head: request.method == Method::HEAD,
        sent: Mutex::default(),
        answered: Mutex::default(),
        reused: AtomicBool::new(false),
    };
    if session.downstream_session.is_body_done() {
        trailers.note_sent(&session.downstream_session);
    }
    // It is planned once for each request.
    let _ = ctx.watch.trailers.set(Arc::new(trailers));
}

/// Whether the client takes those of the answer.
pub(super) fn are_wanted(ctx: &Ctx) -> bool {
    let trailers = ctx.watch.trailers.get();
    trailers.is_some_and(|trailers| trailers.wanted.load(Ordering::Relaxed))
}

/// Those of the answer are not handed on.
pub(super) fn leave_out(ctx: &Ctx) {
    if let Some(trailers) = ctx.watch.trailers.get() {
        trailers.wanted.store(false, Ordering::Relaxed);
    }
}

/// Whether the connection of the try under way, which Pingora takes for a new one, served another request before.
pub(super) fn is_reused(ctx: &Ctx) -> bool {
    let trailers = ctx.watch.trailers.get();
    trailers.is_some_and(|trailers| trailers.reused.load(Ordering::Relaxed))
}

/// Tells the backend that trailers are taken, and which will come (RFC 9110 §6.6.2, §10.1.4). It concerns one connection, so
/// that Pingora has taken out what the client said.
///
/// # Errors
/// When a field cannot be written.
pub(super) fn announce(
    client_request: &RequestHeader,
    request: &mut RequestHeader,
    ctx: &Ctx,
) -> Result<()> {
    let by_http2 = ctx.upstream().is_some_and(|upstream| upstream.http2);
    let is_call = is_duplex(client_request) && by_http2;
    if are_wanted(ctx) || is_call && trailers::are_wanted(&client_request.headers) {
        request.insert_header("TE", HeaderValue::from_static("trailers"))?;
        if !by_http2 {
            request.insert_header("Connection", HeaderValue::from_static("TE"))?;
        }
    }
    let planned = ctx.watch.trailers.get();
    if planned.is_some_and(|trailers| trailers.announced) && !by_http2 {
        for line in fields::all(&client_request.headers, &header::TRAILER) {
            request.append_header("Trailer", line.clone())?;
        }
    }
    Ok(())
}

/// Writes the last pieces of an answer, and what follows them. Always the end.
///
/// # Errors
/// When the client cannot be written to.
pub(super) async fn end(
    client: &mut ServerSession,
    tasks: Vec<HttpTask>,
    fields: HeaderMap,
) -> Result<bool> {
    if client.req_header().version == Version::HTTP_2 {
        let mut tasks = tasks;
        tasks.push(HttpTask::Trailer(Some(Box::new(fields))));
        return client.response_duplex_vec(tasks).await;
    }
    if !tasks.is_empty() {
        client.response_duplex_vec(tasks).await?;
    }
    let head = client.response_written();
    let is_chunked =
        head.is_some_and(|head| fields::has(&head.headers, &header::TRANSFER_ENCODING));
    let end_with = |client: &ServerSession, last_chunk| {
        if let Some(stream) = ClientStream::of(client).filter(|_| is_chunked) {
            stream.end_with(last_chunk);
        }
    };
    end_with(client, trailers::last_chunk(&fields));
    let finished = client.finish_body().await;
    // Where there was no content there is no end to it either.
    end_with(client, Vec::new());
    finished.map(|_| true)
}
