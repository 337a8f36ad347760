//! The client's session while upstreams are tried: it keeps deadlines, replays large bodies, and gives itself back.
//!
//! Pingora's retry loop polls the client's session all the while it waits for a backend. Wrapping that session is how this
//! crate reaches into the wait through public interfaces: a deadline that passes surfaces as an error of the session, and a
//! body larger than Pingora's own 64 KiB replay buffer is handed out again from ours. `proxy` wraps once the route is known
//! and unwraps before the request ends. Decides nothing: the deadlines come from `policy::timeouts`.

use super::ctx::Ctx;
use super::hedge::HEDGED;
use super::trailers;
use super::watch::{Watch, next_piece, write};
use crate::clock;
use crate::policy::framing::knows_chunks;
use crate::server::stream::ClientStream;
use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Sleep;

/// The error of a wait that reached its deadline.
pub(super) const DEADLINE: ErrorType = ErrorType::Custom("deadline");
/// A request body read ahead, to be sent as often as needed.
#[derive(Debug, Clone)]
pub(super) enum Held {
    /// All of it.
    Whole(Bytes),
    /// Its beginning; the rest is still with the client, so it can be sent only once.
    Beginning(Bytes),
}

impl Held {
    /// What is held.
    pub(super) fn bytes(&self) -> &Bytes {
        match self {
            Held::Whole(bytes) | Held::Beginning(bytes) => bytes,
        }
    }
}

/// Puts the wrapper around the client's session.
pub(super) fn wrap(session: &mut Session, watch: &Arc<Watch>, held: Option<Held>) {
    let wrapper = Box::new(ServerSession::Custom(Box::new(())));
    let inner = std::mem::replace(&mut session.downstream_session, wrapper);
    *session.downstream_session = around(inner, watch, held, None);
}

thread_local! {
    static UNPACKING: Cell<bool> = const { Cell::new(false) };
    static UNPACKED: Cell<Option<(Box<ServerSession>, Box<Ctx>)>> = const { Cell::new(None) };
}

/// Wraps a session whose request was read, which Pingora then does not do, and lets what is known of that request travel
/// along to the first phase.
pub(super) fn pack(session: Box<ServerSession>, ctx: Box<Ctx>) -> ServerSession {
    let watch = ctx.watch.clone();
    around(session, &watch, None, Some(ctx))
}

/// Takes that wrapper off again. `None` where there is none: the request is not a client's.
pub(super) fn unpack(session: &mut Session) -> Option<Box<Ctx>> {
    if !session.downstream_session.is_custom() {
        return None;
    }
    // A wrapper can be told nothing through Pingora's interface, but it can be dropped.
    UNPACKING.set(true);
    *session.downstream_session = ServerSession::Custom(Box::new(()));
    UNPACKING.set(false);
    let (inner, ctx) = UNPACKED.take()?;
    ctx.watch.wrapped.store(false, Ordering::Relaxed);
    session.downstream_session = inner;
    Some(ctx)
}

fn around(
    inner: Box<ServerSession>,
    watch: &Arc<Watch>,
    held: Option<Held>,
    packed: Option<Box<Ctx>>,
) -> ServerSession {
    watch.wrapped.store(true, Ordering::Relaxed);
    ServerSession::Custom(Box::new(Downstream {
        packed,
        inner: Some(inner),
        watch: watch.clone(),
        held,
        swallowed: None,
        timer: None,
    }))
}

/// Takes the wrapper off again, if it is on.
pub(super) fn unwrap(session: &mut Session, watch: &Watch) {
    if watch.wrapped.swap(false, Ordering::Relaxed) {
        // Dropping the wrapper leaves the session in `returned`.
        *session.downstream_session = ServerSession::Custom(Box::new(()));
        let returned = watch
            .returned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(inner) = returned {
            session.downstream_session = inner;
        }
    }
}

struct Downstream {
    /// There until dropped.
    inner: Option<Box<ServerSession>>,
    watch: Arc<Watch>,
    held: Option<Held>,
    /// The head of an answer that went to the store: the response has begun, though nobody was written to.
    swallowed: Option<Box<ResponseHeader>>,
    /// What is known of the request, until its first phase asks for it.
    packed: Option<Box<Ctx>>,
    /// Kept between polls, so that a body of many pieces arms one timer, not one for each.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Downstream {
    fn inner(&self) -> &ServerSession {
        match &self.inner {
            Some(inner) => inner,
            None => unreachable!("the session is given back only in drop"),
        }
    }

    fn inner_mut(&mut self) -> &mut ServerSession {
        match &mut self.inner {
            Some(inner) => inner,
            None => unreachable!("the session is given back only in drop"),
        }
    }

    /// Once all content of a request came, its trailers are known.
    fn note_trailers(&mut self) {
        if let (Some(trailers), Some(inner)) = (self.watch.trailers.get(), &mut self.inner)
            && inner.is_body_done()
        {
            trailers.note_sent(inner);
        }
    }

    /// Called before the head of a response is written: whether the connection can serve on.
    fn settle_connection(&mut self, head: &ResponseHeader) {
        if head.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(stream) = ClientStream::of(self.inner())
        {
            stream.begin_tunnel();
        }
        // HTTP/1.0 knows no chunks, so a body of unknown length ends with the connection.
        let ends_with_connection = !knows_chunks(self.req_header().version)
            && !head.headers.contains_key(header::CONTENT_LENGTH);
        if self.watch.draining() || ends_with_connection {
            self.inner_mut().set_keepalive(None);
        }
    }
}

impl Downstream {
    /// Takes an answer that goes to the store. Says whether this was its end.
    fn swallow(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut end = false;
        for task in tasks {
            // Pingora ends what is stored at what follows the trailers.
            end |= task.is_end() && !matches!(task, HttpTask::Trailer(_));
            match task {
                HttpTask::Failed(e) => return Err(e),
                // Interim answers were handed on as they came.
                HttpTask::Header(head, _) if !head.status.is_informational() => {
                    self.swallowed = Some(head);
                }
                _ => {}
            }
        }
        self.watch.written();
        Ok(end)
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        if let (Some(ctx), true) = (self.packed.take(), UNPACKING.get()) {
            return UNPACKED.set(self.inner.take().zip(Some(ctx)));
        }
        let mut returned = self
            .watch
            .returned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *returned = self.inner.take();
    }
}

/// Ends when the deadline passes, however often it is moved meanwhile; never without one.
async fn deadline_passed(watch: &Watch, timer: &mut Option<Pin<Box<Sleep>>>) {
    loop {
        let Some(deadline) = watch.deadline() else {
            return std::future::pending().await;
        };
        let deadline = tokio::time::Instant::from_std(deadline);
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // A deadline that moved later needs no new timer before the old one rings.
        if timer.is_elapsed() || timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().await;
        if watch
            .deadline()
            .is_some_and(|d| d <= clock::read().instant())
        {
            return;
        }
    }
}

/// Ends when a second request has an answer; never where there is none.
async fn hedge_won(watch: &Watch) {
    match watch.hedge.get() {
        Some(hedge) => hedge.won(watch.started()).await,
        None => std::future::pending().await,
    }
}

#[async_trait]
impl CustomSession for Downstream {
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if let Some(Held::Beginning(bytes)) = &mut self.held
            && !bytes.is_empty()
            && !no_body_expected
        {
            return Ok(Some(std::mem::take(bytes)));
        }
        let Some(inner) = &mut self.inner else {
            unreachable!("the session is given back only in drop")
        };
        let filling = self.watch.filling();
        let comes = !no_body_expected && !filling && !inner.is_body_done();
        let read = async {
            let read = inner.read_body_or_idle(no_body_expected);
            match comes {
                true => next_piece(&self.watch, read).await,
                false => read.await,
            }
        };
        let read = tokio::select! {
            biased;
            read = read, if !filling => read,
            () = deadline_passed(&self.watch, &mut self.timer) => Error::e_explain(DEADLINE, "waiting for a backend"),
            () = hedge_won(&self.watch) => Error::e_explain(HEDGED, "an answer is there"),
        };
        self.note_trailers();
        read
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.inner_mut().read_request_body().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner_mut().drain_request_body().await
    }

    fn enable_retry_buffering(&mut self) {
        if self.held.is_none() {
            self.inner_mut().enable_retry_buffering();
        }
    }

    fn retry_buffer_truncated(&self) -> bool {
        match &self.held {
            Some(Held::Whole(_)) => false,
            Some(Held::Beginning(_)) => true,
            None => self.inner().retry_buffer_truncated(),
        }
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        match &self.held {
            // Where there is none, the head has said so already.
            Some(Held::Whole(bytes)) => (!bytes.is_empty()).then(|| bytes.clone()),
            Some(Held::Beginning(_)) => None,
            None => self.inner().get_retry_buffer(),
        }
    }

    fn is_body_done(&mut self) -> bool {
        match &self.held {
            Some(Held::Whole(_)) => true,
            Some(Held::Beginning(bytes)) if !bytes.is_empty() => false,
            _ => self.inner_mut().is_body_done(),
        }
    }

    fn is_body_empty(&mut self) -> bool {
        match &self.held {
            Some(Held::Whole(bytes)) => bytes.is_empty(),
            Some(Held::Beginning(_)) => false,
            None => self.inner_mut().is_body_empty(),
        }
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, end: bool) -> Result<()> {
        if self.watch.filling() && !resp.status.is_informational() {
            self.swallowed = Some(resp);
            return Ok(());
        }
        self.settle_connection(&resp);
        if self.watch.eager() && !end {
            let head = vec![HttpTask::Header(resp, false)];
            return self.inner_mut().response_duplex_vec(head).await.map(|_| ());
        }
        let filling = self.watch.filling();
        let written = self.inner_mut().write_response_header(resp).await;
        // Who began a fill may be gone; the fill is not theirs alone.
        if filling { Ok(()) } else { written }
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, _end: bool) -> Result<()> {
        self.settle_connection(resp);
        self.inner_mut().write_response_header_ref(resp).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        if self.watch.filling() {
            return Ok(());
        }
        let Some(inner) = &mut self.inner else {
            unreachable!("the session is given back only in drop")
        };
        if self.watch.eager() && !end {
            // Unlike a plain write, this one is flushed.
            let piece = vec![HttpTask::Body(Some(data), false)];
            return write(&self.watch, inner.response_duplex_vec(piece))
                .await
                .map(|_| ());
        }
        write(&self.watch, inner.write_response_body(data, end)).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner_mut().write_response_trailers(trailers).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        if self.watch.filling() {
            return self.swallow(tasks);
        }
        let mut tasks = tasks;
        if !knows_chunks(self.req_header().version) {
            // HTTP/1.0 knows no interim answers (RFC 9110 §15.2).
            tasks.retain(|task| match task {
                HttpTask::Header(head, _) => !head.status.is_informational(),
                _ => true,
            });
            if tasks.is_empty() {
                return Ok(false);
            }
            for task in &mut tasks {
                if let HttpTask::Header(head, _) = task {
                    // Nor chunks, which Pingora has answers of HTTP/2 sent in.
                    head.remove_header(&header::TRANSFER_ENCODING);
                }
            }
        }
        for task in &tasks {
            if let HttpTask::Header(head, _) = task {
                self.settle_connection(head);
            }
        }
        let Some(inner) = &mut self.inner else {
            unreachable!("the session is given back only in drop")
        };
        let fails = |task: &HttpTask| matches!(task, HttpTask::Failed(_));
        let ends = tasks.iter().any(HttpTask::is_end) && !tasks.iter().any(fails);
        let last = self.watch.trailers.get().filter(|_| ends);
        let last = last.and_then(|trailers| trailers.last(&mut tasks));
        let ended = match last {
            Some(last) => write(&self.watch, trailers::end(inner, tasks, last)).await?,
            None => write(&self.watch, inner.response_duplex_vec(tasks)).await?,
        };
        if ends || ended {
            self.watch.end();
        }
        Ok(ended)
    }

    async fn finish(&mut self) -> Result<()> {
        if self.watch.filling() {
            return Ok(());
        }
        let Some(inner) = &mut self.inner else {
            unreachable!("the session is given back only in drop")
        };
        write(&self.watch, inner.finish_body()).await
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        self.inner_mut().shutdown().await;
    }

    fn req_header(&self) -> &RequestHeader {
        self.inner().req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner_mut().req_header_mut()
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner().get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner().get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner().get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner().request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        let swallowed = self.swallowed.as_deref();
        swallowed.or_else(|| self.inner().response_written())
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner().body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner().body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner().digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner_mut().digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner().client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner().server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        // A fill reads it as a request of HTTP/1.1.
        self.inner().to_h1_raw()
    }

    fn is_upgrade_req(&self) -> bool {
        self.inner().is_upgrade_req()
    }

    fn was_upgraded(&self) -> bool {
        self.inner().was_upgraded()
    }

    // HTTP has no custom messages; Pingora asks for these of every wrapped session.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(
        &mut self,
        _writer: Box<dyn CustomMessageWrite>,
    ) -> Result<()> {
        Ok(())
    }
}
