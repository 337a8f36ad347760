//! A connection to a backend of HTTP/1 that follows what is sent and answered on it, for the trailers: Pingora writes none, and
//! leaves out those that it reads.
//!
//! Used only for requests that may have some, or whose client takes them ([`super::trailers`]). Such connections are kept by
//! the worker in a pool of their own, made by Pingora with and without TLS.

use super::ctx::Ctx;
use super::trailers::Trailers;
use crate::policy::answer::Answer;
use crate::policy::http1::Http1;
use crate::server::stream::LAST_CHUNK;
use crate::upstream::links::MOST_KEPT;
use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::ALPN;
use pingora::protocols::Stream as Connection;
use pingora::protocols::l4::socket::SocketAddr as AnyAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::{HttpPeer, Peer, Scheme};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;

thread_local! {
    /// One for each worker: connections belong to the runtime they were opened on.
    static CONNECTOR: Arc<TransportConnector> =
        Arc::new(TransportConnector::new(Some(ConnectorOptions::new(MOST_KEPT))));
}

/// Has the connection of a try followed, where its request or answer may have trailers.
pub(super) fn follow(ctx: &Ctx, peer: &mut Box<HttpPeer>) {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let Some(trailers) = ctx.watch.trailers.get() else {
        return;
    };
    trailers.begin();
    let is_http1 = matches!(peer.options.alpn, ALPN::H1);
    if !is_http1 || !trailers.may_come() {
        return;
    }
    let own = peer.clone();
    // TLS is spoken below.
    peer.scheme = Scheme::HTTP;
    // No other connection will do, and this one is for nobody else.
    peer.group_key = NUMBER.fetch_add(1, Ordering::Relaxed);
    peer.options.idle_timeout = Some(Duration::ZERO);
    peer.options.custom_l4 = Some(Arc::new(Followed {
        peer: own,
        trailers: trailers.clone(),
    }));
}

/// Connects as Pingora would, or takes a connection that there is.
struct Followed {
    peer: Box<HttpPeer>,
    trailers: Arc<Trailers>,
}

impl std::fmt::Debug for Followed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed").finish_non_exhaustive()
    }
}

#[async_trait]
impl Connect for Followed {
    async fn connect(&self, _address: &AnyAddr) -> pingora::Result<Stream> {
        let connector = CONNECTOR.with(Arc::clone);
        let (connection, reused) = connector.get_stream(&*self.peer).await?;
        self.trailers.reused.store(reused, Ordering::Relaxed);
        let trailing = Trailing {
            connection: Some(connection),
            connector,
            key: self.peer.reuse_hash(),
            idle: self.peer.options.idle_timeout,
            sent: Http1::default(),
            answer: Answer::new(self.trailers.to_head),
            trailers: self.trailers.clone(),
            end: Vec::new(),
        };
        Ok(VirtualSocketStream::new(Box::new(trailing)).into())
    }
}

/// Such a connection, for one request. Given back afterwards, if another one can follow.
struct Trailing {
    /// None once it was given back.
    connection: Option<Connection>,
    connector: Arc<TransportConnector>,
    /// What it is found by again, and how long it is kept.
    key: u64,
    idle: Option<Duration>,
    sent: Http1,
    answer: Answer,
    trailers: Arc<Trailers>,
    /// What is still to be written of the request's end.
    end: Vec<u8>,
}

impl std::fmt::Debug for Trailing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trailing").finish_non_exhaustive()
    }
}

impl Trailing {
    fn connection(&mut self) -> io::Result<Pin<&mut Connection>> {
        let connection = self.connection.as_mut().map(Pin::new);
        connection.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Writes the end of the request's content, with its trailers.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.end.is_empty() {
            let end = std::mem::take(&mut self.end);
            let written = match self.connection() {
                Ok(connection) => connection.poll_write(cx, &end),
                Err(e) => Poll::Ready(Err(e)),
            };
            self.end = end;
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(self.end.drain(..written)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether both the request and its answer went over it as a whole, and another request can follow.
    fn is_done(&self) -> bool {
        let is_sent = self.sent.is_between() && self.sent.message() == 1;
        is_sent && self.answer.is_whole_and_kept()
    }

    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.idle != Some(Duration::ZERO)
            // Who keeps it is a task.
            && Handle::try_current().is_ok()
        {
            self.connector
                .release_stream(connection, self.key, self.idle);
        }
    }
}

impl Drop for Trailing {
    fn drop(&mut self) {
        if self.is_done() {
            self.give_back();
        }
    }
}

impl AsyncRead for Trailing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_done() {
            // Pingora has what it wanted, and looks whether this one can be kept: not by Pingora.
            self.give_back();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(self.connection()?.poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        self.answer.see(new);
        if let Some(fields) = self.answer.trailers().filter(|fields| !fields.is_empty()) {
            self.trailers.set_answered(fields);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Trailing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let is_last = buf == LAST_CHUNK && self.sent.is_between_chunks();
        if is_last && self.end.is_empty() {
            self.end = self.trailers.last_chunk().unwrap_or_default();
        }
        let written = match is_last && !self.end.is_empty() {
            true => {
                ready!(self.poll_end(cx))?;
                buf.len()
            }
            false => ready!(self.connection()?.poll_write(cx, buf))?,
        };
        self.sent.see(buf.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whatever it looks like here.
        self.idle = Some(Duration::ZERO);
        self.connection()?.poll_shutdown(cx)
    }
}

impl VirtualSocket for Trailing {
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        // Pingora has set them.
        Ok(())
    }
}
