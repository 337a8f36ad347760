//! A client's connection as it is read and written, by Pingora where its phases serve a request.
//!
//! Pingora's own stream type comes with a 64 KiB read buffer for every connection, idle ones included. This one reads
//! straight into the buffer of whoever asks and gathers small writes, so that a response head and a small body leave in one
//! packet. Of HTTP/1 it hands out no more than the request under way: what follows that is kept for the next one.

use super::head_clock::HeadClock;
use super::origin_date::OriginDate;
use super::transport::{Transport, poll_closed};
use crate::policy::framing::Doubt;
use crate::policy::http1::Http1;
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::apps::ReusedHttpStream;
use pingora::protocols::ALPN;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

mod heads;

pub use heads::{HeadRead, NoHead, Patience};

/// Writes up to this size are gathered until the next flush.
const GATHER: usize = 8 * 1024;

/// What is read at once of a head, and of what nobody asked for yet.
const ROOM: usize = 16 * 1024;

/// How much is read of what follows a request before that was answered: it is read to see whether the client is still there.
const AHEAD: usize = 4 * 1024;

/// Bytes of trailers that are kept.
const KEPT_TRAILERS: usize = 64 * 1024;

/// How Pingora ends chunked content, in one piece.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

thread_local! {
    static READ_INTO: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A client's connection.
#[derive(Debug)]
pub struct ClientStream {
    transport: Transport,
    /// Written, not yet sent.
    pending: Vec<u8>,
    /// Read, and not yet handed out: of a head that is not whole, of content that came with one, or of what follows.
    ahead: BytesMut,
    /// The message of HTTP/1 under way, as far as it was handed out.
    message: Http1,
    /// Its trailers, as far as they came; none when there were too many.
    trailers: Option<Vec<u8>>,
    /// Whether what comes is HTTP no more.
    is_tunnel: AtomicBool,
    /// How long the connection was idle before the request that was read last.
    idle: Duration,
    /// Whether it was just accepted, and nobody has waited for a request on it yet.
    is_new: bool,
    /// What is written instead of the next last chunk.
    last_chunk: Mutex<Vec<u8>>,
    /// The heads of HTTP/2, where that is spoken.
    http2: Option<HeadClock>,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Rings when no head comes, or no end to it.
    alarm: super::alarm::Alarm,
    peer: net::SocketAddr,
    digest: Arc<SocketDigest>,
    date: Arc<OriginDate>,
}

impl ClientStream {
    /// That of a client's session of HTTP/1.
    pub fn of(session: &ServerSession) -> Option<&ClientStream> {
        let stream = &**session.as_http1()?.stream();
        stream.as_any().downcast_ref()
    }

    /// That of a connection that Pingora gives back.
    pub fn from_reused(reused: ReusedHttpStream) -> Option<Box<ClientStream>> {
        ClientStream::from_stream(reused.consume().0)
    }

    /// The same of one that it held.
    pub fn from_stream(stream: Stream) -> Option<Box<ClientStream>> {
        stream.into_any().downcast().ok()
    }

    /// Takes an accepted connection from `peer`; `date` goes into its responses.
    pub fn new(transport: Transport, peer: net::SocketAddr, date: Arc<OriginDate>) -> Self {
        let digest = SocketDigest::from_raw_fd(transport.tcp().as_raw_fd());
        // Known from accept(): saves asking the kernel again for each request.
        let _ = digest.peer_addr.set(Some(SocketAddr::Inet(peer)));
        ClientStream {
            transport,
            pending: Vec::new(),
            ahead: BytesMut::new(),
            message: Http1::default(),
            trailers: None,
            is_tunnel: AtomicBool::new(false),
            idle: Duration::ZERO,
            is_new: true,
            last_chunk: Mutex::default(),
            http2: None,
            stalled: None,
            alarm: super::alarm::Alarm::default(),
            peer,
            digest: Arc::new(digest),
            date,
        }
    }

    /// Who is at its other end.
    pub fn peer(&self) -> net::SocketAddr {
        self.peer
    }

    /// What is known of its socket.
    pub fn digest(&self) -> &SocketDigest {
        &self.digest
    }

    /// How long the connection was idle before the request that was read last; not known where HTTP/2 is spoken, on which
    /// several may be under way.
    pub fn idle(&self) -> Option<Duration> {
        self.http2.is_none().then_some(self.idle)
    }

    /// HTTP/2 begins: so long may the head of a request take, from its first byte on.
    pub fn expect_frames(&mut self, within: Duration) {
        self.http2 = Some(HeadClock::new(within));
    }

    /// What comes from now on is not HTTP: it goes through as it is.
    pub fn begin_tunnel(&self) {
        self.is_tunnel.store(true, Ordering::Relaxed);
    }

    /// Writes what goes through a tunnel, as it is and at once. Where TLS takes it, it is only on its way after a flush.
    pub fn poll_pass(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let written = ready!(self.poll_write_now(cx, data))?;
        match self.poll_passed(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(written)),
        }
    }

    /// Is ready once all that [`ClientStream::poll_pass`] took is on its way.
    pub fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.transport {
            // Nothing is held back here, and that nothing has to be flushed is no sign that the client takes anything.
            Transport::Plain(_) => Poll::Ready(Ok(())),
            _ => Pin::new(self).poll_flush(cx),
        }
    }

    /// The trailers of the message under way, as far as they came: their section as it was sent.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.as_deref().unwrap_or_default()
    }

    /// The content of a response is at its end, of which only the last chunk is still to be written: that is to be these bytes
    /// instead, which have trailers.
    pub fn end_with(&self, last_chunk: Vec<u8>) {
        *self
            .last_chunk
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = last_chunk;
    }

    /// Whether the kernel can send files on it.
    pub fn takes_files(&self) -> bool {
        matches!(self.transport, Transport::Plain(_))
    }

    /// Sends parts of an answer, in one packet where they fit.
    ///
    /// # Errors
    /// When the client is gone, or takes nothing for too long.
    pub async fn send(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        if !self.pending.is_empty() {
            std::future::poll_fn(|cx| self.poll_send(cx)).await?;
        }
        self.transport.send(parts).await
    }

    /// Sends an answer whose body is `len` bytes of a file from `at` on, which the kernel does not copy. Only where it
    /// [can](ClientStream::takes_files).
    ///
    /// # Errors
    /// When the client is gone, or takes nothing for too long, or the file is shorter.
    pub async fn send_file(
        &mut self,
        head: &[u8],
        file: BorrowedFd<'_>,
        at: u64,
        len: usize,
    ) -> io::Result<()> {
        if !self.pending.is_empty() {
            std::future::poll_fn(|cx| self.poll_send(cx)).await?;
        }
        self.transport.send_file(head, file, at, len).await
    }

    /// Is ready once the client has closed its connection, while nothing is to be read. One that has sent its next request is not
    /// known to be gone.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_next() {
            return Poll::Pending;
        }
        if let Transport::Plain(tcp) = &self.transport {
            return poll_closed(tcp, cx);
        }
        // With TLS there is no other way to know than to read.
        self.poll_read_ahead(cx).map(|_| ())
    }

    /// Reads what nobody asked for. Is ready at the end of the connection only.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Content that was not handed out yet is no reason to look away.
        let own = self.content().map_or(0, <[u8]>::len);
        while self.ahead.len() < own + AHEAD {
            if ready!(self.poll_fill(cx))? == 0 {
                return match self.has_next() {
                    // It has said all that it will say, and waits for the answers.
                    true => Poll::Pending,
                    false => Poll::Ready(Ok(())),
                };
            }
        }
        Poll::Pending
    }

    /// Reads what is there; says how many bytes. None at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        READ_INTO.with_borrow_mut(|room| {
            room.resize(ROOM, 0);
            let mut read = ReadBuf::new(room);
            ready!(self.transport.poll_read(cx, &mut read))?;
            self.ahead.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    /// Whoever waits for the client has nothing more to say for now: what was gathered leaves, as far as it can.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.pending.is_empty()
            && let Poll::Ready(Err(e)) = self.poll_send(cx)
        {
            return Poll::Ready(Err(e));
        }
        Poll::Ready(Ok(()))
    }

    /// Follows content; says how much of these bytes belongs to it.
    ///
    /// # Errors
    /// When something is doubtful in it: then none of it is passed on.
    fn follow(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let trailers = &mut self.trailers;
        let belongs = self.message.follow_one(bytes, |bytes| {
            let kept = trailers.get_or_insert_default();
            // Such a line has to have an end; more than there is room for is as good as none.
            if kept.len() < KEPT_TRAILERS {
                kept.extend_from_slice(bytes);
            }
        });
        if self.trailers.as_deref() == Some(b"\r") {
            // There are none.
            self.trailers = None;
        }
        match self.message.doubt() {
            Some(doubt) => Err(io::Error::new(io::ErrorKind::InvalidData, doubt)),
            None => Ok(belongs),
        }
    }

    /// Hands out content of the request under way, and nothing of what follows it.
    fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.message.is_between() {
            return self.poll_read_ahead(cx);
        }
        if self.ahead.is_empty() {
            let before = buf.filled().len();
            ready!(self.transport.poll_read(cx, buf))?;
            let new = buf.filled().get(before..).unwrap_or_default();
            let belongs = self.follow(new);
            let end = *belongs.as_ref().unwrap_or(&0);
            self.ahead
                .extend_from_slice(new.get(end..).unwrap_or_default());
            buf.set_filled(before + end);
            return Poll::Ready(belongs.map(|_| ()));
        }
        let there = std::mem::take(&mut self.ahead);
        let most = there.len().min(buf.remaining());
        let belongs = self.follow(there.get(..most).unwrap_or_default());
        self.ahead = there;
        let belongs = belongs?;
        buf.put_slice(self.ahead.get(..belongs).unwrap_or_default());
        self.advance(belongs);
        Poll::Ready(Ok(()))
    }

    /// What came with a head first, then all that comes.
    fn poll_tunnel(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return self.transport.poll_read(cx, buf);
        }
        let most = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..most).unwrap_or_default());
        self.advance(most);
        Poll::Ready(Ok(()))
    }

    /// So much of what was read was handed out.
    fn advance(&mut self, bytes: usize) {
        match bytes < self.ahead.len() {
            true => self.ahead.advance(bytes),
            // An empty one would keep the room of what was in it.
            false => self.ahead = BytesMut::new(),
        }
    }

    /// Hands on frames of HTTP/2.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.transport.poll_read(cx, buf);
        let Some(clock) = &mut self.http2 else {
            return read;
        };
        match &read {
            Poll::Ready(Ok(())) => clock.see(buf.filled().get(before..).unwrap_or_default())?,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => ready!(clock.poll(cx)?),
        }
        read
    }

    /// Writes to the socket, or fails when the client has taken nothing for too long.
    fn poll_write_now(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.transport.poll_write(cx, data);
        self.poll_patience(cx, written)
    }

    /// What came of writing, or a failure when the client has taken nothing for too long. TLS takes what is written before
    /// the client does: there it is the flush that waits.
    fn poll_patience<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(super::transport::SEND_TIMEOUT)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pending = std::mem::take(&mut self.pending);
        let (sent, result) = self.poll_send_all(cx, &pending);
        self.pending = pending;
        self.pending.drain(..sent);
        result
    }

    fn poll_send_all(
        &mut self,
        cx: &mut Context<'_>,
        pending: &[u8],
    ) -> (usize, Poll<io::Result<()>>) {
        let mut sent = 0;
        while sent < pending.len() {
            match self.poll_write_now(cx, &pending[sent..]) {
                Poll::Ready(Ok(0)) => {
                    return (sent, Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(e)) => return (sent, Poll::Ready(Err(e))),
                Poll::Pending => return (sent, Poll::Pending),
            }
        }
        (sent, Poll::Ready(Ok(())))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        // The beginning of a response that broke off: the client is to see as much of it as there is. What the kernel does
        // not take at once is lost, as the rest is.
        if !self.pending.is_empty() {
            let _ = self.transport.try_write(&self.pending);
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        if self.http2.is_some() {
            self.poll_frames(cx, buf)
        } else if *self.is_tunnel.get_mut() {
            self.poll_tunnel(cx, buf)
        } else {
            self.poll_content(cx, buf)
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data == LAST_CHUNK {
            let this = &mut *self;
            let last_chunk = this.last_chunk.get_mut();
            let last_chunk = last_chunk.unwrap_or_else(PoisonError::into_inner);
            if !last_chunk.is_empty() {
                this.pending.append(last_chunk);
                return Poll::Ready(Ok(data.len()));
            }
        }
        if self.pending.len() + data.len() <= GATHER {
            let new = self.pending.len();
            self.pending.extend_from_slice(data);
            let this = &mut *self;
            this.date.put_into(&mut this.pending[new..]);
            return Poll::Ready(Ok(data.len()));
        }
        self.date.pass(data);
        if self.pending.is_empty() {
            return self.poll_write_now(cx, data);
        }
        // The head goes out with the first of a large body.
        let both = [IoSlice::new(&self.pending), IoSlice::new(data)];
        if let Transport::Plain(tcp) = &self.transport
            && let Ok(sent) = tcp.try_write_vectored(&both)
        {
            let of_pending = sent.min(self.pending.len());
            self.pending.drain(..of_pending);
            if sent > of_pending {
                self.stalled = None;
                return Poll::Ready(Ok(sent - of_pending));
            }
        }
        ready!(self.poll_send(cx))?;
        self.poll_write_now(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        let flushed = self.transport.poll_flush(cx);
        self.poll_patience(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        let shut = self.transport.poll_shutdown(cx);
        self.poll_patience(cx, shut)
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // The client may be gone already; there is nobody to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.transport.tcp().as_raw_fd()
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }
}

impl Ssl for ClientStream {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.transport.chose_http2().then_some(ALPN::H2)
    }
}
impl Peek for ClientStream {}
