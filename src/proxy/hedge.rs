//! A second request to another backend while the first is late: `policy::hedge` says when.
//!
//! Made on a connection of its own, up to the first bytes of a good answer. Then it takes the place of the first try: Pingora
//! is told to try again, and gets that connection for it, with the request already sent and the answer in it. So whatever
//! comes after, the cache included, needs to know nothing of it. If the first try answers first, the second is dropped.
//! The first may be late with its connection already: [`super::racing`] sees to that.

use super::ctx::{Ctx, Current, Told, Try};
use super::entry::Taken;
use super::failure::{self, Cause};
use super::lent::Lent;
use super::peer::{Use, dial};
use super::racing::{self, First, Handshake};
use super::wait::client_leaves;
use super::{aside, forward, outgoing, translate};
use crate::clock::{self, Moment};
use crate::policy::balancer::Tried;
use crate::policy::blame::blame;
use crate::policy::hedge;
use crate::policy::outcome::Outcome;
use crate::policy::retry::Failure;
use crate::policy::route::{Action, Proxy, Route};
use crate::policy::timeouts::{Limit, Phase};
use crate::upstream::own::Own;
use crate::upstream::traffic::Traffic;
use crate::upstream::{Backend, Picked, Upstream};
use async_trait::async_trait;
use http::StatusCode;
use pingora::connectors::TransportConnector;
use pingora::connectors::l4::Connect;
use pingora::http::RequestHeader;
use pingora::protocols::Stream as Connection;
use pingora::protocols::l4::socket::SocketAddr as AnyAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::{HttpPeer, Scheme};
use pingora::{Error, ErrorType};
use pingora_proxy::Session;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The error by which a late try gives way.
pub(super) const HEDGED: ErrorType = ErrorType::Custom("another backend was faster");

/// A second request that may have to be made.
struct Plan {
    /// When, counted from the start of the request.
    at: Duration,
    route: Own<Route>,
    traffic: Arc<Traffic>,
    upstream: Arc<Upstream>,
    /// Where the request was sent already.
    tried: Tried,
    turn: u64,
    request: RequestHeader,
    /// The name of its span, where there are traces.
    span: u64,
}

/// A second request whose answer has begun to come.
pub(super) struct Won {
    picked: Picked,
    upstream: Arc<Upstream>,
    places: Taken,
    began: Moment,
    span: u64,
    asked: Asked,
}

/// A second request that failed.
pub(super) struct Lost {
    /// The backend's position in its upstream.
    pub(super) index: usize,
    pub(super) done: Try,
}

/// What one request's second request is doing.
#[derive(Default)]
pub(super) struct Hedge {
    state: Mutex<State>,
    /// Told of its end.
    ended: Notify,
    /// Where it went, once it did: its backend, when, and the name of its span.
    begun: OnceLock<(Own<Backend>, Moment, u64)>,
    /// The first try's handshake, while there is one.
    pub(super) handshake: Handshake,
}

#[derive(Default)]
enum State {
    /// There is none, or no longer.
    #[default]
    None,
    Planned(Box<Plan>),
    Running(JoinHandle<()>),
    Won(Box<Won>),
    Lost(Box<Lost>),
}

impl Hedge {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        if let State::Running(task) = std::mem::take(&mut *self.lock()) {
            task.abort();
        }
    }

    /// Takes what came of it, if that is known.
    fn take_end(&self) -> State {
        let mut state = self.lock();
        match &*state {
            State::Won(_) | State::Lost(_) => std::mem::take(&mut *state),
            _ => State::None,
        }
    }

    fn has_won(&self) -> bool {
        matches!(&*self.lock(), State::Won(_))
    }

    fn is_running(&self) -> bool {
        matches!(&*self.lock(), State::Running(_))
    }

    /// Waits for its end, if it is under way. There may be several who do.
    async fn end(&self) {
        let told = self.ended.notified();
        if self.is_running() {
            told.await;
        }
    }

    /// Makes it.
    fn start(self: &Arc<Self>) {
        let mut state = self.lock();
        // Whoever waits for it may find that another has made it.
        if !matches!(&*state, State::Planned(_)) {
            return;
        }
        let State::Planned(plan) = std::mem::take(&mut *state) else {
            return;
        };
        // The task must not keep alive what ends it when the request ends.
        let hedge = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let weak = hedge.clone();
            let begun = move |begun| {
                if let Some(hedge) = weak.upgrade() {
                    // There is but one.
                    let _ = hedge.begun.set(begun);
                }
            };
            let end = plan.run(begun).await;
            let Some(hedge) = hedge.upgrade() else { return };
            let mut state = hedge.lock();
            if let State::Running(_) = &*state {
                *state = end;
            }
            drop(state);
            hedge.ended.notify_waiters();
        });
        *state = State::Running(task);
    }

    /// Ends when the second request has won; never if it does not. Polled while the first one is waited for, from `started`
    /// on, which is when the client's request was.
    pub(super) async fn won(self: &Arc<Self>, started: Instant) {
        loop {
            // One look: what happens between two of them would be missed.
            let due = match &*self.lock() {
                State::Won(_) => return,
                State::Planned(plan) => Some(plan.at),
                State::Running(_) => None,
                State::None | State::Lost(_) => break,
            };
            match due {
                Some(due) => {
                    tokio::time::sleep_until((started + due).into()).await;
                    self.start();
                }
                None => self.end().await,
            }
        }
        std::future::pending().await
    }
}

impl Drop for Hedge {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Plan {
    /// Makes the request, if there is a backend, a place and a budget for it.
    async fn run(self: Box<Self>, begun: impl FnOnce((Own<Backend>, Moment, u64))) -> State {
        let Action::Proxy(proxy) = &self.route.action else {
            return State::None;
        };
        let Some((picked, places)) = self.enter(proxy) else {
            return State::None;
        };
        let began = clock::moment();
        begun((picked.active.backend().clone(), began, self.span));
        let failure = match self.ask(&picked, proxy).await {
            Ok(asked) => {
                return State::Won(Box::new(Won {
                    picked,
                    upstream: self.upstream,
                    places,
                    began,
                    span: self.span,
                    asked,
                }));
            }
            // What follows an interim answer is not known.
            Err((Failure::Status(status), _)) if status.is_informational() => return State::None,
            // The request itself is at its end, and gives up what is under way: which of the two is noticed first is chance.
            Err((Failure::Timeout | Failure::ConnectTimeout, Limit::Total)) => return State::None,
            Err((failure, _)) => failure,
        };
        if let Some(seen) = blame(failure, &proxy.retry.on, false) {
            let standing = &picked.active.backend().standing;
            standing.failed(Outcome::Failed(failure).to_string());
            self.upstream.observe(picked.index, &picked.active, seen);
        }
        State::Lost(Box::new(Lost {
            index: picked.index,
            done: Try {
                backend: picked.active.backend().clone(),
                outcome: Outcome::Failed(failure),
                span: self.span,
                started: began,
                took: began.elapsed(),
                waited: Duration::ZERO,
                queued: Duration::ZERO,
                connected: None,
                answered: None,
                status: match failure {
                    Failure::Status(status) => Some(status),
                    _ => None,
                },
            },
        }))
    }

    /// Another backend, and the places it takes.
    fn enter(&self, proxy: &Proxy) -> Option<(Picked, Taken)> {
        let rules = proxy.hedge.as_ref()?;
        let places = Taken::at_once(proxy.concurrency.as_ref(), &self.traffic, &self.upstream)?;
        let picked = self.upstream.pick_if(&self.tried, self.turn, |picked| {
            self.tried.count(picked.index) == 0 && self.traffic.spend_hedge(&rules.budget)
        })?;
        Some((picked, places))
    }

    /// Connects, sends the request, and waits for the first bytes of a good answer, with the same limits as for any other try.
    ///
    /// # Errors
    /// What it met instead, and the limit that held then.
    async fn ask(&self, picked: &Picked, proxy: &Proxy) -> Result<Asked, (Failure, Limit)> {
        let timeouts = &proxy.timeouts;
        let began = clock::moment();
        let place = (picked.index, picked.address);
        let peer = dial(place, &self.upstream, timeouts, self.at, Use::Exchange);
        let line = Line::open(peer, &self.upstream).await.map_err(|e| {
            let (_, limit) = timeouts.deadline(Phase::Connecting, self.at);
            match failure::while_connecting(&e) {
                Cause::Backend(failure, _) => (failure, limit),
                _ => (Failure::ConnectFailure, limit),
            }
        })?;
        let now = self.at + began.elapsed();
        let (deadline, limit) = timeouts.deadline(Phase::AwaitingHead, now);
        let sent = self.send(line, timeouts.idle);
        match tokio::time::timeout(deadline.saturating_sub(now), sent).await {
            Ok(Ok((status, asked))) if hedge::is_good(status, &proxy.retry.on) => Ok(asked),
            Ok(Ok((status, _))) => Err((Failure::Status(status), limit)),
            Ok(Err(_)) => Err((Failure::Reset, limit)),
            Err(_) => {
                if limit != Limit::Total {
                    self.upstream.distrust(picked.index);
                }
                Err((Failure::Timeout, limit))
            }
        }
    }

    /// Sends it, and reads on to the status of the answer.
    async fn send(&self, line: Line, silence: Duration) -> io::Result<(StatusCode, Asked)> {
        let mut stream: Box<dyn Wire> = match line {
            Line::Own(mut stream) => {
                stream.write_all(&wire(&self.request)).await?;
                stream.flush().await?;
                Box::new(stream)
            }
            Line::Shared(lent) => {
                let answer = translate::ask(*lent, self.request.clone(), silence).await;
                Box::new(answer.map_err(io::Error::other)?)
            }
        };
        let mut begun = [0; STATUS_LINE];
        stream.read_exact(&mut begun).await?;
        let status = status(&begun).ok_or(io::ErrorKind::InvalidData)?;
        let asked = Asked {
            begun,
            given: 0,
            stream,
        };
        Ok((status, asked))
    }
}

/// What a second request goes by.
enum Line {
    /// A connection of HTTP/1.1 that nobody else uses.
    Own(Connection),
    /// One that HTTP/2 may share.
    Shared(Box<Lent>),
}

impl Line {
    async fn open(peer: Box<HttpPeer>, upstream: &Upstream) -> pingora::Result<Self> {
        if !upstream.http2 {
            return Ok(Line::Own(connect(&peer).await?));
        }
        let lent = Lent::open(peer, upstream.keepalive_idle).await?;
        // The backend may have chosen HTTP/1.1.
        Ok(match lent.into_own() {
            Ok(stream) => Line::Own(stream),
            Err(lent) => Line::Shared(lent),
        })
    }
}

/// What an answer is read from.
trait Wire: AsyncRead + AsyncWrite + std::fmt::Debug + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + std::fmt::Debug + Unpin + Send + Sync> Wire for T {}

/// Connects as Pingora would. One for all: each would read the system's certificates anew.
async fn connect(peer: &HttpPeer) -> pingora::Result<Connection> {
    static CONNECTOR: OnceLock<TransportConnector> = OnceLock::new();
    let connector = CONNECTOR.get_or_init(|| TransportConnector::new(None));
    connector.new_stream(peer).await
}

/// As much of a status line as has the status: `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;

fn status(line: &[u8; STATUS_LINE]) -> Option<StatusCode> {
    let line = str::from_utf8(line).ok()?;
    let status = line.strip_prefix("HTTP/1.")?.get(2..)?;
    status.parse().ok()
}

/// Plans a second request for the first try of a request, which is to begin with this peer, where its route wants one and it
/// may be sent twice.
pub(super) fn plan(session: &mut Session, ctx: &mut Ctx, peer: &mut HttpPeer) {
    let (Some(proxy), Some(traffic), true) = (ctx.proxy(), ctx.traffic(), ctx.tries.is_empty())
    else {
        return;
    };
    let Some(rules) = &proxy.hedge else { return };
    let empty = session.downstream_session.is_body_empty();
    let original = session.req_header();
    if !hedge::may(rules, &original.method) || !empty || forward::is_websocket(original) {
        return;
    }
    let (Some(current), Some(delay)) = (&ctx.current, hedge::delay(rules, || traffic.p95())) else {
        return;
    };
    if current.upstream.backends.len() < 2 {
        return;
    }
    // Where that cannot be made, the first try says so.
    let span = ctx.new_span();
    let prepared = prepare(original, proxy, ctx, span);
    let (Some(route), Ok(request)) = (ctx.route.clone(), prepared) else {
        return;
    };
    let mut tried = ctx.tried.clone();
    tried.add(current.index);
    let plan = Plan {
        at: ctx.watch.elapsed() + delay,
        route,
        traffic: traffic.clone(),
        upstream: current.upstream.clone(),
        tried,
        turn: ctx.turn.unwrap_or_default(),
        request,
        span,
    };
    let hedge = ctx.watch.hedge.get_or_init(Arc::default);
    *hedge.lock() = State::Planned(Box::new(plan));
    let first = First {
        upstream: current.upstream.clone(),
        index: current.index,
        limit: peer.options.connection_timeout.unwrap_or_default(),
    };
    racing::race(peer, first, hedge, ctx.watch.started());
}

/// The request as the first backend gets it from Pingora.
fn prepare(
    original: &RequestHeader,
    proxy: &Proxy,
    ctx: &Ctx,
    span: u64,
) -> pingora::Result<RequestHeader> {
    let mut request = aside::same(original)?;
    outgoing::prepare(original, &mut request, proxy, ctx, span)?;
    if let Some(job) = &ctx.fill {
        job.condition(&mut request, ctx.split)?;
    }
    Ok(request)
}

/// The first try has its connection.
pub(super) fn connected(ctx: &Ctx) {
    if let Some(hedge) = ctx.watch.hedge.get() {
        hedge.handshake.end();
    }
}

/// The first try failed: says whether that was for the second request had won.
pub(super) fn has_overtaken(ctx: &mut Ctx, error: &Error) -> bool {
    let hedge = ctx.watch.hedge.get();
    let broken_off = hedge.is_some_and(|hedge| hedge.handshake.was_broken_off());
    if broken_off || *error.etype() == HEDGED {
        return true;
    }
    if !is_open(ctx) {
        // One that was only planned was for a try that is late, not for one that failed.
        cancel(ctx);
    }
    false
}

/// Whether a second request is under way, or has won.
pub(super) fn is_open(ctx: &Ctx) -> bool {
    let hedge = ctx.watch.hedge.get();
    hedge.is_some_and(|hedge| hedge.is_running() || hedge.has_won())
}

/// There will be no second request, or no more of it: the first is known.
pub(super) fn cancel(ctx: &mut Ctx) {
    note_lost(ctx);
    if let Some(hedge) = ctx.watch.hedge.get() {
        hedge.cancel();
    }
    note_overtaken(ctx);
}

/// Notes one that came to no end of its own, for the trace that its backend was told of.
pub(super) fn note_overtaken(ctx: &mut Ctx) {
    let begun = ctx.watch.hedge.get().and_then(|hedge| hedge.begun.get());
    let Some((backend, started, span)) = begun.cloned().filter(|_| ctx.trace.is_some()) else {
        return;
    };
    let mut others = ctx
        .tries
        .iter()
        .chain(ctx.lost.as_deref())
        .chain(&ctx.overtaken);
    let has_it = others.any(|one| one.span == span);
    let is_under_way = ctx
        .current
        .as_ref()
        .is_some_and(|current| current.span == span);
    if !has_it && !is_under_way {
        ctx.overtaken.push(Try {
            backend,
            outcome: Outcome::Hedged,
            span,
            started,
            took: started.elapsed(),
            waited: Duration::ZERO,
            queued: Duration::ZERO,
            connected: None,
            answered: None,
            status: None,
        });
    }
}

/// Waits until it is known what came of the second request: whether it has won. What it did in vain is noted.
pub(super) async fn settle(session: &mut Session, ctx: &mut Ctx) -> bool {
    let Some(hedge) = ctx.watch.hedge.get().cloned() else {
        return false;
    };
    let over = tokio::time::Instant::now() + ctx.time_left();
    // The first has come to its end: no deadline of it holds.
    ctx.watch.arm(None, None);
    while hedge.is_running() {
        tokio::select! {
            biased;
            () = hedge.end() => {}
            // The try that follows finds out the same.
            () = client_leaves(&mut *session.downstream_session) => break,
            () = tokio::time::sleep_until(over) => break,
        }
    }
    let won = hedge.has_won();
    if !won {
        cancel(ctx);
    }
    won
}

/// Notes a second request that failed, if one did.
fn note_lost(ctx: &mut Ctx) {
    let end = ctx.watch.hedge.get().map(|hedge| hedge.take_end());
    if let Some(State::Lost(lost)) = end {
        ctx.tried.add(lost.index);
        ctx.lost = Some(Box::new(lost.done));
    }
}

/// What has won, if anything, once it is known.
pub(super) async fn winner(session: &mut Session, ctx: &mut Ctx) -> Option<Won> {
    if !settle(session, ctx).await {
        return None;
    }
    match ctx.watch.hedge.get()?.take_end() {
        State::Won(won) => Some(*won),
        _ => None,
    }
}

/// Takes the place of the try that gave way.
///
/// # Errors
/// For a route without an upstream, which has no second requests.
pub(super) fn take_over(ctx: &mut Ctx, won: Won) -> pingora::Result<Box<HttpPeer>> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let Some(proxy) = ctx.proxy() else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let Won {
        picked,
        upstream,
        places,
        began,
        span,
        asked,
    } = won;
    let place = (picked.index, picked.address);
    let elapsed = ctx.watch.elapsed();
    let mut peer = dial(place, &upstream, &proxy.timeouts, elapsed, Use::Exchange);
    peer.options.custom_l4 = Some(Arc::new(Opened(Mutex::new(Some(asked)))));
    // Where TLS is spoken, that was begun too; and HTTP/2 was translated.
    peer.scheme = Scheme::HTTP;
    peer.options.set_http_version(1, 1);
    // No other connection will do, and this one is for nobody else: it began as another's.
    peer.group_key = NUMBER.fetch_add(1, Ordering::Relaxed);
    peer.options.idle_timeout = Some(Duration::ZERO);
    ctx.current = Some(Current {
        is_odd: false,
        index: picked.index,
        address: picked.address,
        upstream,
        active: picked.active,
        places,
        started: began,
        span,
        waited: Duration::ZERO,
        queued: Duration::ZERO,
        took_over: true,
        connected: None,
        answered: None,
        told: Told::Nobody,
    });
    Ok(peer)
}

/// The request as it goes to the second backend.
fn wire(request: &RequestHeader) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(request.method.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(request.raw_path());
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    request.header_to_h1_wire(&mut bytes);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Hands Pingora a connection that is there already.
#[derive(Debug)]
struct Opened(Mutex<Option<Asked>>);

#[async_trait]
impl Connect for Opened {
    async fn connect(&self, _address: &AnyAddr) -> pingora::Result<Stream> {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match asked {
            Some(asked) => Ok(VirtualSocketStream::new(Box::new(asked)).into()),
            None => Error::e_explain(ErrorType::ConnectError, "the connection was used"),
        }
    }
}

/// A connection on which the request was sent already, and the answer has begun: what is written is left out, and what was
/// read is there once more.
#[derive(Debug)]
struct Asked {
    begun: [u8; STATUS_LINE],
    /// How much of that was given.
    given: usize,
    stream: Box<dyn Wire>,
}

impl AsyncRead for Asked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.begun.get(self.given..).unwrap_or_default();
        if !left.is_empty() {
            let now = left.len().min(buf.remaining());
            buf.put_slice(left.get(..now).unwrap_or_default());
            self.given += now;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Asked {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl VirtualSocket for Asked {
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (line, expected) in [
            (b"HTTP/1.1 200", Some(200)),
            (b"HTTP/1.0 404", Some(404)),
            (b"HTTP/2.0 200", None),
            (b"220 mail rea", None),
            (b"HTTP/1.1 2x0", None),
        ] {
            assert_eq!(status(line).map(|status| status.as_u16()), expected);
        }
    }

    #[test]
    fn the_request_as_it_is_sent() {
        let mut request = RequestHeader::build("GET", b"/a?b", None).unwrap();
        request.insert_header("Host", "example.com").unwrap();
        assert_eq!(
            wire(&request),
            b"GET /a?b HTTP/1.1\r\nHost: example.com\r\n\r\n"
        );
    }
}
