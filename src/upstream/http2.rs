//! HTTP/2 to backends: how it is offered, and the form that a request takes for it.
//!
//! With TLS a backend chooses between HTTP/2 and HTTP/1.1 in the handshake (RFC 7301); without, it is spoken to by "prior
//! knowledge" (RFC 9113 §3.3). Used by [`super::check`] and by `proxy`, for requests, copies and second requests alike.

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Version, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::l4::ext::TcpKeepalive;
use pingora::upstreams::peer::HttpPeer;
use pingora::{ErrorType, OrErr, Result};
use std::time::Duration;

/// Requests at once on one connection; RFC 9113 §6.5.2 recommends that a server allows so many at least.
const STREAMS: usize = 100;
/// How much of an answer may wait for its client to take it, and of all on a connection: enough for each, so that who does not
/// read holds nobody else up, nor much memory.
const WINDOW: u32 = 256 * 1024;
const WINDOWS: u32 = WINDOW * STREAMS as u32;
/// A host that is gone is noticed after half a minute. Not by pings of HTTP/2: servers of gRPC hang up on who sends more than
/// one in five minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    count: 3,
    user_timeout: Duration::from_secs(30),
};

/// Makes dialling instructions those of HTTP/2, for a connection that nobody else uses.
pub fn offer(peer: &mut HttpPeer) {
    let least = if peer.is_tls() { 1 } else { 2 };
    peer.options.set_http_version(2, least);
}

/// The same for one that is kept, and used by many at once. Those of another `generation` are not used.
pub fn share(peer: &mut HttpPeer, generation: u64) {
    offer(peer);
    peer.options.max_h2_streams = STREAMS;
    peer.options.h2_stream_window_size = Some(WINDOW);
    peer.options.h2_connection_window_size = Some(WINDOWS);
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    peer.group_key = peer.group_key.wrapping_add(generation << 32);
}

/// The same as [`offer`] for who speaks nothing else.
pub fn insist(peer: &mut HttpPeer) {
    peer.options.set_http_version(2, 2);
}

/// Sends the head of a request of ours, in the form that its connection wants.
///
/// # Errors
/// When it cannot be sent.
pub async fn write_head(session: &mut HttpSession, head: RequestHeader, tls: bool) -> Result<()> {
    let mut head = head;
    if session.as_http2().is_some() {
        form(&mut head, tls)?;
    }
    session.write_request_header(Box::new(head)).await
}

/// Gives a request of HTTP/1.1 the form of HTTP/2: its host is part of the target (RFC 9113 §8.3.1), and nothing in it
/// speaks of the connection (§8.2.2).
fn form(head: &mut RequestHeader, tls: bool) -> Result<()> {
    const INVALID: ErrorType = ErrorType::InvalidHTTPHeader;
    let host = head.remove_header(&header::HOST);
    let host = host.as_ref().map_or(&b""[..], |host| host.as_bytes());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(host).or_err(INVALID, "no host")?);
    let path = PathAndQuery::try_from(head.raw_path()).or_err(INVALID, "no path")?;
    parts.path_and_query = Some(path);
    let uri = Uri::from_parts(parts).or_err(INVALID, "no target")?;
    head.set_uri(uri);
    head.set_version(Version::HTTP_2);
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ] {
        head.remove_header(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn the_host_becomes_part_of_the_target() {
        let mut head = RequestHeader::build(Method::GET, b"/a?b=c", None).unwrap();
        head.insert_header("Host", "example.com:81").unwrap();
        head.insert_header("Connection", "close").unwrap();
        head.insert_header("X-Kept", "1").unwrap();
        form(&mut head, true).unwrap();
        assert_eq!(head.uri, "https://example.com:81/a?b=c");
        assert_eq!(head.version, Version::HTTP_2);
        assert_eq!(head.headers.len(), 1);
        for host in ["", "a b"] {
            head.insert_header("Host", host).unwrap();
            assert!(form(&mut head, false).is_err(), "{host:?}");
        }
    }
}
