//! A plain request on the straight way: one try, on a connection of the worker's own, its answer handed on as it comes.
//!
//! Called by [`super::front`] for what needs an upstream. Pingora's phases can do everything, and each request pays for that; most
//! requests need little of it ([`crate::policy::plain`]). What decides is the same here and there: [`super::next`] picks the
//! backend, [`super::outgoing`] says how the request goes on, [`super::answered`] and [`super::tries`] judge what comes back. When a further try is due,
//! it and all after it are Pingora's.

mod backend;
mod client;
mod field_writer;
mod reader;
mod tunnel;

use super::client::{Client, Side};
use super::ctx::Ctx;
use super::front::Front;
use super::tries::{self, arm};
use super::{answered, caching, ending, forward, next, outgoing, wire};
use crate::cache::Cache;
use crate::clock;
use crate::policy::fields;
use crate::policy::framing::knows_chunks;
use crate::policy::grpc;
use crate::policy::plain::{self, is_plain, opens_websocket};
use crate::policy::route::Proxy;
use crate::policy::timeouts::Phase;
use crate::server::http2::fitted;
use crate::upstream::links::Link;
use backend::{Backend, connect, ended, in_time, late, read};
use client::{End, beside, by_stream, interim};
use http::{HeaderMap, Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use reader::{Content, Reader, keeps};
use std::future::poll_fn;
use std::io;
use std::time::Duration;

/// What became of a request.
pub(super) enum Served {
    /// It was answered.
    Answered,
    /// Its answer broke off: the client can only be told so by the end of its connection or stream.
    BrokenOff,
    /// It is for Pingora's phases, to begin with or after a first try that failed.
    Onward,
}

/// Serves a request, if it is a plain one.
///
/// # Errors
/// When its client is gone.
pub(super) async fn serve(
    front: &Front,
    session: &mut dyn Client,
    ctx: &mut Ctx,
) -> Result<Served> {
    if !is_ours(session, ctx) {
        return Ok(Served::Onward);
    }
    ctx.watch.set_total(ctx.timeouts().map(|t| t.total));
    ctx.idempotency_key = forward::has_idempotency_key(session.req_header());
    if let Some(traffic) = ctx.traffic() {
        traffic.request();
    }
    let error = match next::enter(session, ctx, Duration::ZERO).await {
        Err(error) => error,
        Ok(()) => match connect(ctx).await {
            Err(error) => match tries::after_connect_error(session, ctx, &error) {
                true => return Ok(Served::Onward),
                false => error,
            },
            Ok(link) => match exchange(front.cache, session, ctx, link).await {
                Ok(()) => {
                    ending::end_try(ctx, false);
                    return Ok(Served::Answered);
                }
                Err(error) => {
                    ctx.watch.arm(None, None);
                    match tries::after_error(session, ctx, &error) {
                        true => return Ok(Served::Onward),
                        false => error,
                    }
                }
            },
        },
    };
    Box::pin(ending::fail(&front.counts, session, ctx, &error)).await;
    ending::end_try(ctx, true);
    match (ctx.client_left, ctx.answered_here) {
        (true, _) => Err(error),
        (false, true) => Ok(Served::Answered),
        (false, false) => Ok(Served::BrokenOff),
    }
}

/// Whether a request is plain, and so is what its route does with it.
fn is_ours(session: &dyn Client, ctx: &Ctx) -> bool {
    let Some(proxy) = ctx.proxy() else {
        return false;
    };
    let speaks_plainly = |index: usize| {
        let upstream = ctx.snapshot.upstreams.get(index);
        upstream.is_some_and(|upstream| upstream.tls.is_none() && !upstream.http2)
    };
    let is_simple = proxy.hedge.is_none()
        && proxy.mirror.is_none()
        && ctx.shape().is_none()
        && caching::policy(ctx).is_none();
    let canary = proxy.canary.as_ref();
    if !is_simple
        || !speaks_plainly(proxy.upstream)
        || canary.is_some_and(|canary| !speaks_plainly(canary.upstream))
    {
        return false;
    }
    let request = session.req_header();
    let (method, target) = (&request.method, request.raw_path());
    let content = session.front().and_then(|request| request.stream.content());
    let has_content = content.is_some();
    let (version, fields) = (request.version, &request.headers);
    has_content == ctx.has_content
        // Its client's patience is noted where its content is.
        && !grpc::is_call(method, version, fields)
        && (is_plain(method, target, version, fields, has_content)
            || opens_websocket(method, target, version, fields))
}

/// Sends the request and hands on its answer.
///
/// # Errors
/// That tell what went wrong as Pingora's do.
async fn exchange(
    cache: Cache,
    session: &mut dyn Client,
    ctx: &mut Ctx,
    mut link: Link,
) -> Result<()> {
    arm(ctx, Phase::AwaitingHead);
    send(session, ctx, &mut link).await?;
    let mut reader = Reader::default();
    let head = loop {
        match read_head(session, ctx, &mut link, &mut reader).await? {
            Head::Whole(head)
                if head.status.is_informational()
                    && head.status != StatusCode::SWITCHING_PROTOCOLS =>
            {
                Box::pin(interim(session, ctx, head)).await?;
            }
            Head::Whole(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                return tunnel::serve(session, ctx, head, (link, reader)).await;
            }
            head => break head,
        }
    };
    // By what the upstream says, not by what is made of that.
    let changed = {
        // One that names another target is no plain one, if the request changes something.
        let none = HeaderMap::new();
        let told = match &head {
            Head::Plain(_, dressed) => (dressed.status(), &none),
            Head::Whole(head) => (head.status, &head.headers),
        };
        caching::passing_by::changed(ctx.scheme, session.req_header(), told)
    };
    let (mut backend, head) = match head {
        Head::Plain(plain, dressed) => {
            answered::stands(ctx, dressed.status());
            ctx.tell_head(false);
            let backend = Backend {
                is_kept: plain.is_kept,
                link,
                reader,
                content: Content::of_plain(plain),
            };
            (backend, dressed)
        }
        Head::Whole(head) => {
            let (backend, head) = dress(session, ctx, head, (link, reader))?;
            (backend, Dressed::Head(head))
        }
    };
    if let Some(urls) = changed {
        cache.forget_urls(&urls).await;
    }
    if ctx.watch.draining() {
        session.close();
    }
    match (session.side(), head) {
        (Side::Front(request), head) => {
            let (status, mut out) = head.written()?;
            let end = match () {
                () if ctx.encoder.is_none() && backend.content.has_length() => End::Told,
                () if knows_chunks(request.head.version) => End::Chunk,
                () => End::Connection,
            };
            request.keeps &= end != End::Connection;
            wire::end(&mut out, request.keeps);
            beside(&mut request.stream, ctx, &mut backend, (status, out, end)).await?;
        }
        (Side::Stream(exchange), head) => {
            by_stream(exchange, ctx, &mut backend, head.fields()?).await?;
        }
        // Not on the straight way.
        (Side::Pingora(_), _) => {
            return Err(Error::new_in(ErrorType::InternalError));
        }
    }
    backend.keep(ctx);
    Ok(())
}

/// The head of an answer as it came.
enum Head {
    /// One that needs only be handed on: what it says of its content, and itself as it goes to the client.
    Plain(plain::Answer, Dressed),
    Whole(Box<ResponseHeader>),
}

/// The head of an answer as it goes to the client.
enum Dressed {
    /// For HTTP/1.
    Written(StatusCode, Vec<u8>),
    /// For HTTP/2.
    Fields(StatusCode, HeaderMap),
    Head(Box<ResponseHeader>),
}

impl Dressed {
    fn status(&self) -> StatusCode {
        match self {
            Dressed::Written(status, _) | Dressed::Fields(status, _) => *status,
            Dressed::Head(head) => head.status,
        }
    }

    /// Written down, but for its end.
    fn written(self) -> Result<(StatusCode, Vec<u8>)> {
        match self {
            Dressed::Written(status, out) => Ok((status, out)),
            Dressed::Head(head) => {
                let mut out = Vec::with_capacity(wire::USUAL);
                wire::begin(&mut out, &head);
                wire::date(&mut out, fields::has(&head.headers, &header::DATE));
                Ok((head.status, out))
            }
            // Nobody is asked for both.
            Dressed::Fields(..) => Err(Error::new_in(ErrorType::InternalError)),
        }
    }

    /// As fields.
    fn fields(self) -> Result<(StatusCode, HeaderMap)> {
        match self {
            Dressed::Fields(status, fields) => Ok((status, fields)),
            Dressed::Head(head) => Ok(fitted(*head)),
            Dressed::Written(..) => Err(Error::new_in(ErrorType::InternalError)),
        }
    }
}

/// Judges the head of an answer, and makes it fit for the client.
fn dress(
    session: &mut dyn Client,
    ctx: &mut Ctx,
    mut head: Box<ResponseHeader>,
    (link, reader): (Link, Reader),
) -> Result<(Backend, Box<ResponseHeader>)> {
    answered::check(session.req_header(), &mut head)?;
    ctx.note_answer(head.status);
    answered::weigh(session, ctx, &head)?;
    answered::tell(ctx, &head);
    let content = Content::of(&session.req_header().method, &head);
    let is_kept = keeps(&head, &content);
    forward::strip_hop_by_hop(&mut head, false);
    head.remove_header(&header::CONNECTION);
    if !knows_chunks(session.req_header().version) {
        head.remove_header(&header::TRANSFER_ENCODING);
    } else if matches!(content, Content::UntilClosed) {
        // Its end can be told from a connection that breaks.
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    head.set_version(Version::HTTP_11);
    forward::dress(&mut head, session.req_header(), ctx)?;
    if !plain::is_dated(&head.headers) {
        head.remove_header(&header::DATE);
    }
    let backend = Backend {
        is_kept,
        link,
        reader,
        content,
    };
    Ok((backend, head))
}

/// Sends the request, all of which is there.
async fn send(session: &mut dyn Client, ctx: &mut Ctx, link: &mut Link) -> Result<()> {
    let Some(proxy) = ctx.proxy() else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let span = ctx.current.as_ref().map_or(0, |current| current.span);
    let mut out = Vec::with_capacity(wire::USUAL);
    write_request(session, proxy, ctx, span, &mut out)?;
    if let Side::Front(request) = session.side()
        && let Some(content) = request.stream.content()
    {
        out.extend_from_slice(content);
        request.sent = content.len();
    }
    ctx.sent = true;
    let mut sent = 0;
    while let Some(rest) = out.get(sent..).filter(|rest| !rest.is_empty()) {
        match link.tcp.try_write(rest) {
            Ok(bytes) => sent += bytes,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let ready = poll_fn(|cx| link.tcp.poll_write_ready(cx));
                in_time(ctx, &mut link.alarm, ready)
                    .await?
                    .map_err(written)?;
            }
            Err(e) => return Err(written(e)),
        }
    }
    Ok(())
}

fn write_request(
    session: &dyn Client,
    proxy: &Proxy,
    ctx: &Ctx,
    span: u64,
    out: &mut Vec<u8>,
) -> Result<()> {
    outgoing::write(session, proxy, ctx, span, out).map_err(|e| e.into_down())
}

fn written(e: io::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "sending a request", e).into_up()
}

/// Reads the head of an answer, as long as the client is there to get it.
async fn read_head(
    session: &mut dyn Client,
    ctx: &Ctx,
    link: &mut Link,
    reader: &mut Reader,
) -> Result<Head> {
    // HTTP/2 has small letters only.
    let with_case = !session.is_http2();
    let knows_chunks = knows_chunks(session.req_header().version);
    let method = &session.req_header().method;
    // What an unsafe method changes may be stored, which its head may tell more of.
    let changes = *method != Method::GET;
    let may_be_compressed = ctx.proxy().is_some_and(|proxy| proxy.compress.is_some());
    let is_left = forward::leaves_as_is(ctx) && !may_be_compressed;
    let may_be_plain = *method != Method::HEAD && is_left;
    loop {
        if may_be_plain && !reader.unread().is_empty() {
            let is_fit = |status, plain: &plain::Answer| {
                answered::is_ordinary(ctx, status)
                    && !(changes && plain.names_target)
                    && (knows_chunks || plain.length.is_some())
            };
            if with_case {
                let mut out = Vec::with_capacity(wire::USUAL);
                if let Some((status, plain)) = reader.plain_head(is_fit, &mut out) {
                    wire::date(&mut out, plain.is_dated);
                    return Ok(Head::Plain(plain, Dressed::Written(status, out)));
                }
            } else if let Some(((status, fields), plain)) = reader.plain_fields(is_fit) {
                return Ok(Head::Plain(plain, Dressed::Fields(status, fields)));
            }
        }
        if let Some(head) = reader.head(with_case)? {
            return Ok(Head::Whole(head));
        }
        // A backend that sends one interim answer after the other is never waited for.
        if ctx
            .watch
            .deadline()
            .is_some_and(|at| at <= clock::instant())
        {
            return Err(late());
        }
        let read = match session.side() {
            Side::Front(request) => {
                read(ctx, link, reader, |cx| request.stream.poll_gone(cx)).await?
            }
            Side::Stream(exchange) => read(ctx, link, reader, |cx| exchange.poll_left(cx)).await?,
            Side::Pingora(_) => return Err(Error::new_in(ErrorType::InternalError)),
        };
        if read == 0 {
            return Err(ended());
        }
    }
}
