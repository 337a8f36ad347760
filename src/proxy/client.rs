//! Who asked, as those see it who serve a request: a request of HTTP/1 with its connection, one of HTTP/2 with its stream, or a
//! session of Pingora's.
//!
//! The front has the first two, Pingora's phases the third only. What is decided about a request, and most of what is done about
//! it, is the same for all.

use crate::server::http2::Exchange;
use crate::server::request::Request;
use crate::server::stream::ClientStream;
use http::{HeaderMap, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::SocketDigest;
use pingora::protocols::http::ServerSession;
use std::net::SocketAddr;

/// Which of them it is.
pub(super) enum Side<'a> {
    /// A request of HTTP/1 at the front.
    Front(&'a mut Request),
    /// One of HTTP/2 there.
    Stream(&'a mut Exchange),
    /// A session of Pingora's.
    Pingora(&'a mut ServerSession),
}

/// Who asked.
pub(super) trait Client: Send + Sync {
    /// Which of them it is.
    fn side(&mut self) -> Side<'_>;
    /// The request of HTTP/1 at the front, if it is that.
    fn front(&self) -> Option<&Request>;
    /// What was asked.
    fn req_header(&self) -> &RequestHeader;
    /// The same, to be made fit.
    fn req_header_mut(&mut self) -> &mut RequestHeader;
    /// Whether it was asked by HTTP/2.
    fn is_http2(&self) -> bool;
    /// Who is at the other end of the connection.
    fn address(&self) -> Option<SocketAddr>;
    /// What the kernel can be asked about that.
    fn socket(&self) -> Option<&SocketDigest>;
    /// The connection, where that is HTTP/1.
    fn stream(&self) -> Option<&ClientStream>;
    /// The connection serves no further request.
    fn close(&mut self);
    /// Whether there is no content.
    fn is_body_empty(&mut self) -> bool;
    /// Whether all of it came.
    fn is_body_done(&mut self) -> bool;
    /// How many bytes of it were read, to be sent on.
    fn body_bytes_read(&self) -> usize;
    /// Whether more of it was read than is kept to be sent again.
    fn is_past_replay(&self) -> bool;
    /// The head of the answer, if that was written by the session, or is to be remembered.
    fn written(&self) -> Option<&ResponseHeader>;
    /// How many bytes of the answer's content were written by the session.
    fn body_bytes_sent(&self) -> usize;
    /// How many bytes the head of the request has.
    fn head_bytes(&self) -> usize;
}

impl Client for Request {
    fn side(&mut self) -> Side<'_> {
        Side::Front(self)
    }

    fn front(&self) -> Option<&Request> {
        Some(self)
    }

    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    fn is_http2(&self) -> bool {
        false
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.stream.peer())
    }

    fn socket(&self) -> Option<&SocketDigest> {
        Some(self.stream.digest())
    }

    fn stream(&self) -> Option<&ClientStream> {
        Some(&self.stream)
    }

    fn close(&mut self) {
        self.keeps = false;
    }

    fn is_body_empty(&mut self) -> bool {
        !self.has_content()
    }

    fn is_body_done(&mut self) -> bool {
        !self.has_content() || self.stream.content().is_some()
    }

    fn body_bytes_read(&self) -> usize {
        self.sent
    }

    fn is_past_replay(&self) -> bool {
        false
    }

    fn written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    fn body_bytes_sent(&self) -> usize {
        0
    }

    fn head_bytes(&self) -> usize {
        Request::head_bytes(self)
    }
}

impl Client for Exchange {
    fn side(&mut self) -> Side<'_> {
        Side::Stream(self)
    }

    fn front(&self) -> Option<&Request> {
        None
    }

    fn req_header(&self) -> &RequestHeader {
        self.head()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.head_mut()
    }

    fn is_http2(&self) -> bool {
        true
    }

    fn address(&self) -> Option<SocketAddr> {
        self.socket()?.peer_addr()?.as_inet().copied()
    }

    fn socket(&self) -> Option<&SocketDigest> {
        self.digest().socket_digest.as_deref()
    }

    fn stream(&self) -> Option<&ClientStream> {
        None
    }

    /// A stream serves one request only, and its connection is not its own.
    fn close(&mut self) {}

    fn is_body_empty(&mut self) -> bool {
        self.has_no_content()
    }

    fn is_body_done(&mut self) -> bool {
        self.is_all_here()
    }

    fn body_bytes_read(&self) -> usize {
        self.received()
    }

    fn is_past_replay(&self) -> bool {
        Exchange::is_past_replay(self)
    }

    fn written(&self) -> Option<&ResponseHeader> {
        Exchange::written(self)
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent()
    }

    fn head_bytes(&self) -> usize {
        fields_bytes(&self.head().headers)
    }
}

impl Client for ServerSession {
    fn side(&mut self) -> Side<'_> {
        Side::Pingora(self)
    }

    fn front(&self) -> Option<&Request> {
        None
    }

    fn req_header(&self) -> &RequestHeader {
        ServerSession::req_header(self)
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        ServerSession::req_header_mut(self)
    }

    fn is_http2(&self) -> bool {
        ServerSession::req_header(self).version == Version::HTTP_2
    }

    fn address(&self) -> Option<SocketAddr> {
        self.client_addr()?.as_inet().copied()
    }

    fn socket(&self) -> Option<&SocketDigest> {
        self.digest()?.socket_digest.as_deref()
    }

    fn stream(&self) -> Option<&ClientStream> {
        ClientStream::of(self)
    }

    fn close(&mut self) {
        self.set_keepalive(None);
    }

    fn is_body_empty(&mut self) -> bool {
        ServerSession::is_body_empty(self)
    }

    fn is_body_done(&mut self) -> bool {
        ServerSession::is_body_done(self)
    }

    fn body_bytes_read(&self) -> usize {
        ServerSession::body_bytes_read(self)
    }

    fn is_past_replay(&self) -> bool {
        self.retry_buffer_truncated()
    }

    fn written(&self) -> Option<&ResponseHeader> {
        self.response_written()
    }

    fn body_bytes_sent(&self) -> usize {
        ServerSession::body_bytes_sent(self)
    }

    fn head_bytes(&self) -> usize {
        match self.as_http1() {
            Some(http1) => http1.get_headers_raw_bytes().len(),
            None => fields_bytes(&self.req_header().headers),
        }
    }
}

/// How many bytes say what is asked for, beside the fields of HTTP/2.
pub(super) fn target_bytes(head: &RequestHeader) -> usize {
    let authority = head.uri.authority();
    head.raw_path().len() + authority.map_or(0, |authority| authority.as_str().len())
}

/// How many bytes these would be by HTTP/1.
pub(super) fn fields_bytes(fields: &HeaderMap) -> usize {
    let lines = fields.iter();
    lines.map(|(n, v)| n.as_str().len() + v.len() + 4).sum()
}
