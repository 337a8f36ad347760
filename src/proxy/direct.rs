//! A plain request on the straight way: one try, on a connection of the worker's own, its answer handed on as it comes.
//!
//! Called by [`super::front`] for what needs an upstream. Pingora's phases can do everything, and each request pays for that; most
//! requests need little of it ([`crate::policy::plain`]). What decides is the same here and there: [`super::next`] picks the
//! backend, [`super::outgoing`] says how the request goes on, [`super::answered`] and [`super::tries`] judge what comes back. When a further try is due,
//! it and all after it are Pingora's.

mod reader;

use super::ctx::Ctx;
use super::downstream::{self, DEADLINE};
use super::front::Front;
use super::tries::{self, arm};
use super::{answered, caching, ending, forward, next, outgoing, wire};
use crate::policy::plain::{self, is_plain};
use crate::policy::route::Proxy;
use crate::policy::timeouts::Phase;
use crate::server::stream::ClientStream;
use crate::upstream::links::{Alarm, Link};
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::{Error, ErrorType, Result};
use reader::{Content, Reader, keeps};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The error of chunked content that is none; Pingora's name for it.
const INVALID_CHUNK: ErrorType = ErrorType::new("InvalidChunk");

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
    session: &mut ServerSession,
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
            Ok(link) => match exchange(session, ctx, link).await {
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
    ending::fail(&front.counts, session, ctx, &error).await;
    ending::end_try(ctx, true);
    match (ctx.client_left, ctx.answered_here) {
        (true, _) => Err(error),
        (false, true) => Ok(Served::Answered),
        (false, false) => Ok(Served::BrokenOff),
    }
}

/// Whether a request is plain, and so is what its route does with it.
fn is_ours(session: &mut ServerSession, ctx: &Ctx) -> bool {
    let Some(proxy) = ctx.proxy() else {
        return false;
    };
    let speaks_plainly = |index: usize| {
        let upstream = ctx.snapshot.upstreams.get(index);
        upstream.is_some_and(|upstream| upstream.tls.is_none() && !upstream.http2)
    };
    let is_simple = proxy.hedge.is_none()
        && proxy.mirror.is_none()
        && proxy.compress.is_none()
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
    is_plain(method, target, request.version, &request.headers) && session.is_body_empty()
}

/// Finds or opens the connection of the try under way.
///
/// # Errors
/// That tell what went wrong as Pingora's do.
async fn connect(ctx: &mut Ctx) -> Result<Link> {
    let (Some(current), Some(timeouts)) = (&ctx.current, ctx.timeouts()) else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let address = current.address;
    let link = match Link::kept(address) {
        Some(link) => link,
        None => {
            let left = timeouts.left(ctx.watch.elapsed());
            let link = open(address, timeouts.connect.min(left)).await?;
            ctx.note_connection();
            link
        }
    };
    ctx.connected(true);
    Ok(link)
}

async fn open(address: SocketAddr, within: Duration) -> Result<Link> {
    let Ok(opened) = tokio::time::timeout(within, Link::open(address)).await else {
        return Err(Error::explain(ErrorType::ConnectTimedout, "connecting").into_up());
    };
    opened.map_err(|e| {
        let kind = match e.kind() {
            io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
            io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                ErrorType::ConnectNoRoute
            }
            _ => ErrorType::ConnectError,
        };
        Error::because(kind, "connecting", e).into_up()
    })
}

/// Sends the request and hands on its answer.
///
/// # Errors
/// That tell what went wrong as Pingora's do.
async fn exchange(session: &mut ServerSession, ctx: &mut Ctx, mut link: Link) -> Result<()> {
    arm(ctx, Phase::AwaitingHead);
    send(session, ctx, &mut link).await?;
    let mut reader = Reader::default();
    let head = loop {
        match read_head(session, ctx, &mut link, &mut reader).await? {
            Head::Whole(head)
                if head.status.is_informational()
                    && head.status != StatusCode::SWITCHING_PROTOCOLS =>
            {
                interim(session, ctx, head).await?;
            }
            head => break head,
        }
    };
    let (mut backend, head) = match head {
        Head::Plain(status, plain, out) => {
            answered::stands(ctx, status);
            ctx.tell_head(false);
            let backend = Backend {
                is_kept: plain.is_kept,
                link,
                reader,
                content: Content::of_plain(plain),
            };
            (backend, Dressed::Written(status, out))
        }
        Head::Whole(head) => {
            let (backend, head) = dress(session, ctx, head, (link, reader))?;
            (backend, Dressed::Head(head))
        }
    };
    if ctx.watch.draining() {
        session.set_keepalive(None);
    }
    match (wire::stream(session), head) {
        (Some(stream), head) => {
            let (status, mut out) = head.written();
            wire::end(&mut out, session.get_keepalive().is_some());
            beside(stream, ctx, &mut backend, (status, out)).await?;
        }
        (None, Dressed::Head(head)) => through(session, ctx, &mut backend, head).await?,
        // Asked for only where there is one.
        (None, Dressed::Written(..)) => return Err(Error::new_in(ErrorType::InternalError)),
    }
    backend.keep(ctx);
    Ok(())
}

/// The head of an answer as it came.
enum Head {
    /// One that needs only be handed on: its status, what it says of its content, and itself as it goes to the client.
    Plain(StatusCode, plain::Answer, Vec<u8>),
    Whole(Box<ResponseHeader>),
}

/// The head of an answer as it goes to the client.
enum Dressed {
    Written(StatusCode, Vec<u8>),
    Head(Box<ResponseHeader>),
}

impl Dressed {
    /// Written down, but for its end.
    fn written(self) -> (StatusCode, Vec<u8>) {
        match self {
            Dressed::Written(status, out) => (status, out),
            Dressed::Head(head) => {
                let mut out = Vec::with_capacity(wire::USUAL);
                wire::begin(&mut out, &head);
                wire::date(&mut out, head.headers.contains_key(header::DATE));
                (head.status, out)
            }
        }
    }
}

/// Judges the head of an answer, and makes it fit for the client.
fn dress(
    session: &mut ServerSession,
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
    if matches!(content, Content::UntilClosed) {
        // Its end can be told from a connection that breaks.
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    head.set_version(Version::HTTP_11);
    forward::dress(&mut head, session.req_header(), ctx)?;
    if let Some(connection) = ctx
        .connection
        .as_ref()
        .filter(|_| wire::stream(session).is_some())
    {
        // It is written as it is.
        connection.date.clear();
    }
    let backend = Backend {
        is_kept,
        link,
        reader,
        content,
    };
    Ok((backend, head))
}

/// Sends the request's head, which is all of it.
async fn send(session: &ServerSession, ctx: &mut Ctx, link: &mut Link) -> Result<()> {
    let Some(proxy) = ctx.proxy() else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let span = ctx.current.as_ref().map_or(0, |current| current.span);
    let mut out = Vec::with_capacity(wire::USUAL);
    write_request(session, proxy, ctx, span, &mut out)?;
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
    session: &ServerSession,
    proxy: &Proxy,
    ctx: &Ctx,
    span: u64,
    out: &mut Vec<u8>,
) -> Result<()> {
    outgoing::write(session.req_header(), proxy, ctx, span, out).map_err(|e| e.into_down())
}

fn written(e: io::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "sending a request", e).into_up()
}

/// Lets a wait run until the deadline that is armed.
async fn in_time<T>(ctx: &Ctx, alarm: &mut Alarm, wait: impl Future<Output = T>) -> Result<T> {
    let mut wait = pin!(wait);
    let deadline = ctx.watch.deadline();
    poll_fn(|cx| {
        if let Poll::Ready(done) = wait.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        match deadline.is_some_and(|deadline| alarm.poll(cx, deadline).is_ready()) {
            true => Poll::Ready(Err(late())),
            false => Poll::Pending,
        }
    })
    .await
}

fn late() -> Box<Error> {
    Error::explain(DEADLINE, "waiting for a backend")
}

/// Reads the head of an answer, as long as the client is there to get it.
async fn read_head(
    session: &mut ServerSession,
    ctx: &Ctx,
    link: &mut Link,
    reader: &mut Reader,
) -> Result<Head> {
    let method = &session.req_header().method;
    let may_be_plain =
        *method == Method::GET && wire::stream(session).is_some() && forward::leaves_as_is(ctx);
    loop {
        if may_be_plain && !reader.unread().is_empty() {
            let mut out = Vec::with_capacity(wire::USUAL);
            let is_fit = |status| answered::is_ordinary(ctx, status);
            if let Some((status, plain)) = reader.plain_head(is_fit, &mut out) {
                wire::date(&mut out, plain.is_dated);
                return Ok(Head::Plain(status, plain, out));
            }
        }
        if let Some(head) = reader.head()? {
            return Ok(Head::Whole(head));
        }
        let read = match wire::stream(session) {
            Some(stream) => read(ctx, link, reader, |cx| stream.poll_gone(cx)).await?,
            None => {
                let mut idle = pin!(session.read_body_or_idle(true));
                read(ctx, link, reader, |cx| idle.as_mut().poll(cx).map(|_| ())).await?
            }
        };
        if read == 0 {
            return Err(ended());
        }
    }
}

fn ended() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "before the end").into_up()
}

/// Waits for more bytes of an answer; says how many came: none at the end. `gone`: whether the client is.
///
/// # Errors
/// Of the connection; when there are none in time; when the client has left.
async fn read(
    ctx: &Ctx,
    link: &mut Link,
    reader: &mut Reader,
    mut gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Result<usize> {
    let deadline = ctx.watch.deadline();
    poll_fn(|cx| {
        if let Poll::Ready(read) = reader.poll(cx, link) {
            let failed = |e| Error::because(ErrorType::ReadError, "reading an answer", e);
            return Poll::Ready(read.map_err(|e| failed(e).into_up()));
        }
        if gone(cx).is_ready() {
            let left = Error::explain(ErrorType::ConnectionClosed, "the client left");
            return Poll::Ready(Err(left.into_down()));
        }
        match deadline.is_some_and(|deadline| link.alarm.poll(cx, deadline).is_ready()) {
            true => Poll::Ready(Err(late())),
            false => Poll::Pending,
        }
    })
    .await
}

/// Hands on an interim answer (RFC 9110 §15.2).
async fn interim(
    session: &mut ServerSession,
    ctx: &mut Ctx,
    head: Box<ResponseHeader>,
) -> Result<()> {
    if head.status == StatusCode::CONTINUE {
        // Nobody asked to go on.
        return Ok(());
    }
    let Some(stream) = wire::stream(session) else {
        let tasks = vec![HttpTask::Header(head, false)];
        let written = downstream::write(&ctx.watch, session.response_duplex_vec(tasks)).await;
        return written.map(|_| ()).map_err(|e| e.into_down());
    };
    let mut out = Vec::with_capacity(wire::USUAL);
    wire::begin(&mut out, &head);
    out.extend_from_slice(b"\r\n");
    write(stream, ctx, &mut [IoSlice::new(&out)]).await
}

/// Writes beside Pingora's session.
async fn write(stream: &ClientStream, ctx: &Ctx, parts: &mut [IoSlice<'_>]) -> Result<()> {
    let failed = |e| Error::because(ErrorType::WriteError, "writing an answer", e);
    let sent = async { stream.send(parts).await.map_err(failed) };
    let sent = downstream::write(&ctx.watch, sent).await;
    sent.map_err(|e| e.into_down())
}

/// What an answer comes from.
struct Backend {
    link: Link,
    reader: Reader,
    content: Content,
    is_kept: bool,
}

impl Backend {
    /// Finds content among what was read, and waits for none. Says how much of it was looked at.
    fn find(&mut self, ctx: &mut Ctx, found: &mut Vec<Range<usize>>) -> Result<usize> {
        let looked_at = self.content.find(self.reader.unread(), found);
        let looked_at = looked_at
            .map_err(|_| Error::explain(INVALID_CHUNK, "the content of an answer").into_up())?;
        self.note_end(ctx);
        Ok(looked_at)
    }

    fn note_end(&mut self, ctx: &mut Ctx) {
        if self.content.is_whole() {
            ctx.has_come();
        }
    }

    /// Waits for more content. `gone`: whether the client is.
    async fn more(
        &mut self,
        ctx: &mut Ctx,
        gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Result<()> {
        self.reader.rest();
        arm(ctx, Phase::AwaitingBody);
        // An answer that trickles keeps the wait from ever reaching its deadline; the total still ends it.
        if ctx.time_left().is_zero() {
            return Err(late());
        }
        let read = read(ctx, &mut self.link, &mut self.reader, gone).await?;
        match (&self.content, read) {
            (Content::UntilClosed, 0) => {
                self.content = Content::None;
                self.note_end(ctx);
                Ok(())
            }
            (_, 0) => Err(ended()),
            _ => Ok(()),
        }
    }

    /// Keeps the connection for another request, where that is possible.
    fn keep(self, ctx: &Ctx) {
        let idle = ctx.current.as_ref().map(|c| c.upstream.keepalive_idle);
        // What comes after the end was not asked for.
        if let Some(idle) = idle.filter(|_| self.is_kept && self.reader.unread().is_empty()) {
            self.link.keep(idle);
        }
    }
}

/// Hands an answer on beside Pingora's session, with this head.
async fn beside(
    stream: &ClientStream,
    ctx: &mut Ctx,
    backend: &mut Backend,
    (status, mut out): (StatusCode, Vec<u8>),
) -> Result<()> {
    let is_chunked = !backend.content.has_length();
    let (head_length, mut bytes) = (out.len(), 0);
    let (mut found, mut end) = (Vec::new(), Vec::new());
    if backend.content.is_whole() {
        ctx.has_come();
    }
    loop {
        let looked_at = backend.find(ctx, &mut found)?;
        let is_whole = backend.content.is_whole();
        let content: usize = found.iter().map(Range::len).sum();
        if is_chunked {
            frame(&mut out, &mut end, content, is_whole);
        }
        let unread = backend.reader.unread();
        let mut pieces = found.iter().filter_map(|range| unread.get(range.clone()));
        match found.len() {
            0 | 1 => {
                let piece = pieces.next().unwrap_or_default();
                let parts = [&out, piece, &end].map(IoSlice::new);
                write(stream, ctx, &mut { parts }).await?;
            }
            _ => {
                let parts = [&out[..]].into_iter().chain(pieces).chain([&end[..]]);
                let mut parts: Vec<_> = parts.map(IoSlice::new).collect();
                write(stream, ctx, &mut parts).await?;
            }
        }
        bytes += content;
        ctx.sent_at_once = Some((status, bytes));
        ctx.head_at_once = head_length;
        backend.reader.take(looked_at);
        if is_whole {
            return Ok(());
        }
        out.clear();
        end.clear();
        // The kernel may take and give it all at once: others have their turn between two pieces.
        tokio::task::consume_budget().await;
        if backend.reader.unread().is_empty() {
            backend.more(ctx, |cx| stream.poll_gone(cx)).await?;
        }
    }
}

/// Makes a chunk of so much content (RFC 9112 §7.1): `out` is what is before it, `end` what is after it.
fn frame(out: &mut Vec<u8>, end: &mut Vec<u8>, content: usize, is_last: bool) {
    if content > 0 {
        out.extend_from_slice(format!("{content:x}\r\n").as_bytes());
        end.extend_from_slice(b"\r\n");
    }
    if is_last {
        end.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Hands an answer on through Pingora's session, which speaks HTTP/2, or HTTP/1 by TLS.
async fn through(
    session: &mut ServerSession,
    ctx: &mut Ctx,
    backend: &mut Backend,
    head: Box<ResponseHeader>,
) -> Result<()> {
    let mut tasks = Vec::with_capacity(2);
    if backend.content.is_whole() {
        ctx.has_come();
    }
    let is_alone = backend.content.is_whole();
    tasks.push(HttpTask::Header(head, is_alone));
    let mut found = Vec::new();
    loop {
        let looked_at = backend.find(ctx, &mut found)?;
        let is_whole = backend.content.is_whole();
        let unread = backend.reader.unread();
        let mut content = BytesMut::with_capacity(found.iter().map(Range::len).sum());
        for range in &found {
            content.extend_from_slice(unread.get(range.clone()).unwrap_or_default());
        }
        let content = (!content.is_empty()).then(|| Bytes::from(content));
        if !is_alone && (content.is_some() || is_whole) {
            tasks.push(HttpTask::Body(content, is_whole));
        }
        let tasks = std::mem::take(&mut tasks);
        if !tasks.is_empty() {
            let written = downstream::write(&ctx.watch, session.response_duplex_vec(tasks)).await;
            written.map_err(|e| e.into_down())?;
        }
        backend.reader.take(looked_at);
        if is_whole {
            return Ok(());
        }
        if backend.reader.unread().is_empty() {
            let mut idle = pin!(session.read_body_or_idle(true));
            let gone = |cx: &mut Context<'_>| idle.as_mut().poll(cx).map(|_| ());
            backend.more(ctx, gone).await?;
        }
    }
}
