//! What a client's bytes go through: TCP, or TLS over it. How they are written without more ado than needed.
//!
//! Used by [`super::stream`]. Decides nothing.

use rustix::net::{RecvFlags, SendFlags};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Up to how many bytes are put together for one write.
const SMALL: usize = 4 * 1024;

/// How long a client may take nothing of what is sent to it, as nginx's `send_timeout`.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// What bytes go through.
#[derive(Debug)]
pub enum Transport {
    /// TCP as it is.
    Plain(TcpStream),
    /// TLS over it.
    Tls(Box<TlsStream<TcpStream>>),
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

impl Transport {
    pub(super) fn tcp(&self) -> &TcpStream {
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

    /// Is ready once there may be something to read.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // What TLS has read already is not in the socket any more.
            Transport::Tls(tls) if !tls.get_ref().1.wants_read() => Poll::Ready(()),
            // A failure is seen by who reads.
            _ => self.tcp().poll_read_ready(cx).map(|_| ()),
        }
    }

    /// Reads what is in the socket, whatever the runtime knows of it. With TLS that is for its session alone.
    ///
    /// # Errors
    /// When nothing is there, or the client is gone.
    pub(super) fn read_now(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(tcp) => Ok(rustix::net::recv(tcp, room, RecvFlags::empty())?.0),
            Transport::Tls(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_read(cx, buf))
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_write(cx, data))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_flush(cx))
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_shutdown(cx))
    }

    /// Writes what the kernel takes at once.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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

    /// Sends parts of an answer, in one packet and one record where they fit.
    ///
    /// # Errors
    /// When the client is gone, or takes nothing for too long.
    pub(super) async fn send(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut parts = parts;
        // Empty ones are passed over.
        IoSlice::advance_slices(&mut parts, 0);
        match self {
            Transport::Plain(tcp) => {
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
            Transport::Tls(tls) => {
                while !parts.is_empty() {
                    let write = poll_fn(|cx| Pin::new(&mut *tls).poll_write_vectored(cx, parts));
                    match in_time(write).await? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        sent => IoSlice::advance_slices(&mut parts, sent),
                    }
                }
                in_time(poll_fn(|cx| Pin::new(&mut *tls).poll_flush(cx))).await
            }
        }
    }

    /// Has the kernel send `len` bytes of a file from `at` on, which it does not copy, after these bytes; nothing where TLS is spoken.
    ///
    /// # Errors
    /// When the client is gone, or takes nothing for too long, or the file is shorter.
    pub(super) async fn send_file(
        &self,
        mut head: &[u8],
        file: BorrowedFd<'_>,
        at: u64,
        len: usize,
    ) -> io::Result<()> {
        let Transport::Plain(tcp) = self else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        // Not held back for the body (`MSG_MORE`): where TCP paces what it sends, as BBR does, 100 KB then took 34 µs of the
        // kernel's time instead of 27, for it was stopped on the way; elsewhere a packet more is 3 µs.
        while !head.is_empty() {
            let send = || Ok(rustix::net::send(tcp, head, SendFlags::NOSIGNAL)?);
            let sent = patient(tcp, send).await?;
            head = head.get(sent..).unwrap_or_default();
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

/// A write that may wait for the client so long. What the client takes is seen only in what it comes to: where there is much, it
/// is to be done in parts.
async fn in_time<T>(write: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut write = std::pin::pin!(write);
    // Mostly there is nothing to wait for.
    if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await {
        return done;
    }
    tokio::time::timeout(SEND_TIMEOUT, write).await?
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

/// Is ready once the client has closed its connection. Nothing is read; a client that has sent its next request is not known to be
/// gone.
pub(super) fn poll_closed(tcp: &TcpStream, cx: &mut Context<'_>) -> Poll<()> {
    let mut byte = [0];
    match ready!(tcp.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
        Ok(0) | Err(_) => Poll::Ready(()),
        Ok(_) => Poll::Pending,
    }
}
