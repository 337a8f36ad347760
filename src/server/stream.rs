//! A client's connection as Pingora reads and writes it.
//!
//! Pingora's own stream type comes with a 64 KiB read buffer for every connection, idle ones included. This one reads
//! straight into the buffer of whoever asks and gathers small writes, so that a response head and a small body leave in one
//! packet. Decides nothing.

use super::alarm::Alarm;
use super::origin_date::OriginDate;
use crate::policy::frames::Frames;
use crate::policy::framing::Doubt;
use crate::policy::http1::Http1;
use async_trait::async_trait;
use pingora::protocols::ALPN;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use rustix::net::SendFlags;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::net;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

/// Writes up to this size are gathered until the next flush.
const GATHER: usize = 8 * 1024;

/// Up to how many bytes are put together for one write.
const SMALL: usize = 4 * 1024;

/// Bytes of trailers that are kept, those of requests that were sent ahead included, and of how many of those.
const KEPT_TRAILERS: usize = 64 * 1024;
const MOST_KEPT: usize = 1024;

/// How Pingora ends chunked content, in one piece.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How long a client may take nothing of what is sent to it, as nginx's `send_timeout`.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// What bytes go through.
#[derive(Debug)]
pub enum Transport {
    /// TCP as it is.
    Plain(TcpStream),
    /// TLS over it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn tcp(&self) -> &TcpStream {
        match self {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Whether the client chose HTTP/2 in the handshake (RFC 7301).
    pub fn chose_http2(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Writes what the kernel takes at once.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(tcp) => tcp.try_write(bytes),
            Transport::Tls(tls) => {
                let (tcp, session) = tls.get_mut();
                let taken = session.writer().write(bytes)?;
                while session.wants_write() {
                    session.write_tls(&mut AtOnce(tcp))?;
                }
                Ok(taken)
            }
        }
    }
}

/// Writes without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Calls a method of whichever transport it is.
macro_rules! either {
    ($transport:expr, $io:ident => $call:expr) => {
        match $transport {
            Transport::Plain($io) => $call,
            Transport::Tls($io) => $call,
        }
    };
}

/// A client's connection.
#[derive(Debug)]
pub struct ClientStream {
    transport: Transport,
    /// Written, not yet sent.
    pending: Vec<u8>,
    /// How long a head may take that is being read; 0 while none is.
    head_time: AtomicU64,
    /// How many bytes it may have, and how many came since it is expected; what follows it may be among them.
    head_most: AtomicUsize,
    head_read: AtomicUsize,
    /// When its first byte came, in nanoseconds since `born`; 0 before.
    head_began: AtomicU64,
    /// Since when it is expected, and how long its first byte then took to come: nanoseconds.
    expected: AtomicU64,
    idle: AtomicU64,
    /// Grows when a head begins to be read, and when it has been: odd in between.
    heads: AtomicU32,
    /// The messages of HTTP/1, where that is spoken.
    messages: Http1,
    /// What the trailers of those messages were, by their numbers; none of one for which there was no room.
    trailers: Vec<(u32, Option<Vec<u8>>)>,
    /// What is written instead of the next last chunk.
    last_chunk: Mutex<Vec<u8>>,
    /// The frames of HTTP/2, where that is spoken, and how long a head may take there.
    frames: Option<(Duration, Frames)>,
    /// Runs while nothing comes of it.
    head_timer: Option<Pin<Box<Sleep>>>,
    born: Instant,
    /// Rings when the next request does not begin.
    idle_alarm: Mutex<Alarm>,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    digest: Arc<SocketDigest>,
    date: Arc<OriginDate>,
}

impl ClientStream {
    /// That of a client's session of HTTP/1.
    pub fn of(session: &ServerSession) -> Option<&ClientStream> {
        let stream = &**session.as_http1()?.stream();
        stream.as_any().downcast_ref()
    }

    /// Takes an accepted connection from `peer`; `date` goes into its responses.
    pub fn new(transport: Transport, peer: net::SocketAddr, date: Arc<OriginDate>) -> Self {
        let digest = SocketDigest::from_raw_fd(transport.tcp().as_raw_fd());
        // Known from accept(): saves asking the kernel again for each request.
        let _ = digest.peer_addr.set(Some(SocketAddr::Inet(peer)));
        ClientStream {
            transport,
            pending: Vec::new(),
            head_time: AtomicU64::new(0),
            head_most: AtomicUsize::new(usize::MAX),
            head_read: AtomicUsize::new(0),
            head_began: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            heads: AtomicU32::new(0),
            messages: Http1::default(),
            trailers: Vec::new(),
            last_chunk: Mutex::default(),
            frames: None,
            head_timer: None,
            born: Instant::now(),
            idle_alarm: Mutex::default(),
            stalled: None,
            digest: Arc::new(digest),
            date,
        }
    }

    /// The head of a request is about to be read, or with `None` has been: how long it may take from its first byte on,
    /// however it trickles, and how many bytes it may have.
    pub fn expect_head(&self, within: Option<Duration>, most: usize) {
        let heads = self.heads.load(Ordering::Relaxed);
        let is_odd = u32::from(within.is_some());
        let more = 1 + u32::from(heads % 2 == is_odd);
        self.heads
            .store(heads.wrapping_add(more), Ordering::Relaxed);
        self.head_most.store(most, Ordering::Relaxed);
        self.head_read.store(0, Ordering::Relaxed);
        self.head_time
            .store(within.map_or(0, nanos), Ordering::Relaxed);
        let began = self.head_began.swap(0, Ordering::Relaxed);
        match within {
            // The first one is expected from the beginning on.
            Some(_) if heads > 0 => self
                .expected
                .store(nanos(self.born.elapsed()), Ordering::Relaxed),
            Some(_) => {}
            None => {
                let expected = self.expected.load(Ordering::Relaxed);
                self.idle
                    .store(began.saturating_sub(expected), Ordering::Relaxed);
            }
        }
    }

    /// How long the connection was idle before the request that was read last; not known where HTTP/2 is spoken, on which
    /// several may be under way.
    pub fn idle(&self) -> Option<Duration> {
        let is_http1 = self.frames.is_none();
        is_http1.then(|| Duration::from_nanos(self.idle.load(Ordering::Relaxed)))
    }

    /// HTTP/2 begins: so long may the head of a request take, from its first byte on.
    pub fn expect_frames(&mut self, within: Duration) {
        self.frames = Some((within, Frames::default()));
    }

    /// Whether the head that is expected has taken longer than it may.
    pub fn head_is_late(&self) -> bool {
        let most = self.head_time.load(Ordering::Relaxed);
        let began = self.head_began.load(Ordering::Relaxed);
        most > 0 && began > 0 && nanos(self.born.elapsed()).saturating_sub(began) >= most
    }

    /// Whether more came without an end to the head than it may have.
    pub fn head_is_too_large(&self) -> bool {
        self.head_read.load(Ordering::Relaxed) > self.head_most.load(Ordering::Relaxed)
    }

    /// The message whose head is being read, or was read last.
    fn message(&self) -> u32 {
        self.heads.load(Ordering::Relaxed).div_ceil(2)
    }

    /// How many bytes were read since a head was expected, or since it was read.
    pub fn head_read(&self) -> usize {
        self.head_read.load(Ordering::Relaxed)
    }

    /// Whether something of the message whose head is expected came with the one before.
    pub fn came_ahead(&self) -> bool {
        self.messages.message() >= self.message()
    }

    /// What is doubtful in that message, as far as it came.
    pub fn doubt(&self) -> Option<Doubt> {
        self.messages.doubt(self.message())
    }

    /// Its trailers, as far as they came: their section as it was sent.
    pub fn trailers(&self) -> &[u8] {
        let message = self.message();
        let mut all = self.trailers.iter();
        all.find(|(of, _)| *of == message)
            .and_then(|(_, bytes)| bytes.as_deref())
            .unwrap_or_default()
    }

    /// The content of a response is at its end, of which only the last chunk is still to be written: that is to be these bytes
    /// instead, which have trailers.
    pub fn end_with(&self, last_chunk: Vec<u8>) {
        *self
            .last_chunk
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = last_chunk;
    }

    /// These bytes came of HTTP/1. Content is no longer passed on when something is doubtful in it; a head is judged as a
    /// whole, by who reads it.
    fn see_messages(&mut self, bytes: &[u8]) -> io::Result<()> {
        // An end is an end, whatever was before it.
        if self.frames.is_some() || bytes.is_empty() {
            return Ok(());
        }
        let (message, kept) = (self.message(), &mut self.trailers);
        kept.retain(|(of, _)| *of >= message);
        let sizes = kept
            .iter()
            .map(|(_, kept)| kept.as_ref().map_or(0, Vec::len));
        let mut room = KEPT_TRAILERS.saturating_sub(sizes.sum());
        self.messages.follow(bytes, |of, bytes| {
            let is_same = kept.last().is_some_and(|(last, _)| *last == of);
            if !is_same && bytes == b"\r" {
                // There are none.
                return;
            }
            if !is_same && kept.len() < MOST_KEPT {
                kept.push((of, Some(Vec::new())));
            }
            let fits = room > 0;
            room = room.saturating_sub(bytes.len());
            if let Some((last, kept)) = kept.last_mut()
                && *last == of
            {
                match kept {
                    Some(kept) if fits => kept.extend_from_slice(bytes),
                    kept => *kept = None,
                }
            }
        });
        let is_content = self.heads.get_mut().is_multiple_of(2);
        match self.doubt() {
            Some(doubt) if is_content => Err(io::Error::new(io::ErrorKind::InvalidData, doubt)),
            _ => Ok(()),
        }
    }

    /// These bytes came, frames or parts of them, where frames are expected.
    fn see_frames(&mut self, bytes: &[u8]) {
        let Some((_, frames)) = &mut self.frames else {
            return;
        };
        let before = frames.heads();
        frames.see(bytes);
        let is_another = frames.heads() != before;
        let began = self.head_began.get_mut();
        match frames.is_within_head() {
            true if *began == 0 || is_another => *began = nanos(self.born.elapsed()).max(1),
            true => {}
            false => *began = 0,
        }
    }

    /// So much came, of which a head may be part.
    fn time_head(&self, bytes: usize) -> io::Result<()> {
        // Asked before these are counted: its end may be in them.
        if self.head_is_too_large() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.head_read.fetch_add(bytes, Ordering::Relaxed);
        let most = self.head_time.load(Ordering::Relaxed);
        if most == 0 {
            return Ok(());
        }
        let now = nanos(self.born.elapsed()).max(1);
        match self.head_began.load(Ordering::Relaxed) {
            0 => self.head_began.store(now, Ordering::Relaxed),
            began if now.saturating_sub(began) > most => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends, with an error, when a head that has begun takes too long although nothing comes.
    fn poll_head_time(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let most = match &self.frames {
            Some((within, _)) => nanos(*within),
            None => self.head_time.load(Ordering::Relaxed),
        };
        let began = self.head_began.load(Ordering::Relaxed);
        if most == 0 || began == 0 {
            self.head_timer = None;
            return Poll::Pending;
        }
        let until = self.born + Duration::from_nanos(began.saturating_add(most));
        let until = tokio::time::Instant::from_std(until);
        let timer = self
            .head_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether [`ClientStream::send`] may be called: everything that was written is sent, and as it is.
    pub fn is_direct(&self) -> bool {
        self.pending.is_empty() && matches!(self.transport, Transport::Plain(_))
    }

    /// Sends parts of an answer as they are, in one packet where they fit.
    ///
    /// # Errors
    /// When the client is gone, or takes nothing for too long.
    pub async fn send(&self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let tcp = self.transport.tcp();
        // Empty ones are passed over.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match try_write(tcp, parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => IoSlice::advance_slices(&mut parts, sent),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::timeout(SEND_TIMEOUT, tcp.writable()).await??;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Ends once something of the next request came, or the connection is at its end; says whether that was within so long. Nobody
    /// needs room for it until then.
    pub async fn begins(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        poll_fn(|cx| {
            if self.poll_begun(cx).is_ready() {
                return Poll::Ready(true);
            }
            let mut idle = self
                .idle_alarm
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            idle.poll(cx, until).map(|()| false)
        })
        .await
    }

    fn poll_begun(&self, cx: &mut Context<'_>) -> Poll<()> {
        // What was read with the request before, or by TLS, is not in the socket any more. What is still unsent leaves when
        // something is read.
        let is_here = self.came_ahead()
            || !self.pending.is_empty()
            || matches!(&self.transport, Transport::Tls(tls) if !tls.get_ref().1.wants_read());
        match is_here {
            true => Poll::Ready(()),
            // A failure is seen by who reads.
            false => self.transport.tcp().poll_read_ready(cx).map(|_| ()),
        }
    }

    /// Is ready once the client has closed its connection. Nothing is read, and nothing is to be read meanwhile; a client that
    /// speaks TLS, or has sent its next request, is not known to be gone.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Transport::Plain(tcp) = &self.transport else {
            return Poll::Pending;
        };
        let mut byte = [0];
        match ready!(tcp.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => Poll::Pending,
        }
    }

    /// Sends an answer whose body is `len` bytes of a file from `at` on, which the kernel does not copy.
    ///
    /// # Errors
    /// When the client is gone, or takes nothing for too long, or the file is shorter.
    pub async fn send_file(
        &self,
        mut head: &[u8],
        file: BorrowedFd<'_>,
        at: u64,
        len: usize,
    ) -> io::Result<()> {
        let tcp = self.transport.tcp();
        // Not held back for the body (`MSG_MORE`): where TCP paces what it sends, as BBR does, 100 KB then took 34 µs of the
        // kernel's time instead of 27, for it was stopped on the way; elsewhere a packet more is 3 µs.
        while !head.is_empty() {
            let send = || Ok(rustix::net::send(tcp, head, SendFlags::NOSIGNAL)?);
            let sent = patient(tcp, send).await?;
            head = &head[sent..];
        }
        let (mut from, mut left) = (at, len);
        while left > 0 {
            let send = || Ok(rustix::fs::sendfile(tcp, file, Some(&mut from), left)?);
            match patient(tcp, send).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                sent => left -= sent,
            }
        }
        Ok(())
    }

    /// Writes to the socket, or fails when the client has taken nothing for too long.
    fn poll_tcp(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = either!(&mut self.transport, io => Pin::new(io).poll_write(cx, data));
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
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(SEND_TIMEOUT)));
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
            match self.poll_tcp(cx, &pending[sent..]) {
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

/// Writes what the socket takes now. Small parts are put together first: one write from one place is less work for the kernel
/// than one from several.
fn try_write(tcp: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    thread_local! {
        static TOGETHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let mut full = parts.iter().filter(|part| !part.is_empty());
    if let (Some(only), None) = (full.next(), full.next()) {
        return tcp.try_write(only);
    }
    if parts.iter().map(|part| part.len()).sum::<usize>() > SMALL {
        return tcp.try_write_vectored(parts);
    }
    TOGETHER.with_borrow_mut(|together| {
        together.clear();
        parts
            .iter()
            .for_each(|part| together.extend_from_slice(part));
        tcp.try_write(together)
    })
}

/// What a call on the socket comes to, once the client takes anything.
async fn patient(
    tcp: &TcpStream,
    mut call: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match tcp.try_io(Interest::WRITABLE, &mut call) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::timeout(SEND_TIMEOUT, tcp.writable()).await??;
            }
            done => return done,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
        // Whoever waits for the client has nothing more to say for now: what was gathered leaves.
        if !self.pending.is_empty()
            && let Poll::Ready(Err(e)) = self.poll_send(cx)
        {
            return Poll::Ready(Err(e));
        }
        let before = buf.filled().len();
        let read = either!(&mut self.transport, io => Pin::new(io).poll_read(cx, buf));
        match &read {
            Poll::Ready(Ok(())) => {
                let new = buf.filled().get(before..).unwrap_or_default();
                self.time_head(new.len())?;
                self.see_frames(new);
                if let Err(e) = self.see_messages(new) {
                    buf.set_filled(before);
                    return Poll::Ready(Err(e));
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => ready!(self.poll_head_time(cx)?),
        }
        read
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
            return self.poll_tcp(cx, data);
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
        self.poll_tcp(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        let flushed = either!(&mut self.transport, io => Pin::new(io).poll_flush(cx));
        self.poll_patience(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        let shut = either!(&mut self.transport, io => Pin::new(io).poll_shutdown(cx));
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
