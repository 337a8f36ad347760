//! A stored answer as the bytes of HTTP/1 (RFC 9112 §4), for the common hit.
//!
//! [`super::at_once`] sends them with the body in one write. Whatever the route or the answer itself makes special goes
//! through the session instead, which says the same with more ado.

use super::super::ctx::Ctx;
use super::{mark, now};
use crate::cache::object::Object;
use crate::server::stream::ClientStream;
use http::header;
use pingora::protocols::http::ServerSession;

/// Room for the fields of most answers.
const USUAL: usize = 1024;

/// The stream to write to, where that can be done beside the session: it is HTTP/1 without TLS, with nothing unsent.
pub(super) fn stream(session: &ServerSession) -> Option<&ClientStream> {
    ClientStream::of(session).filter(|stream| stream.is_direct())
}

/// The head of a fresh answer; `None` where its fields need more than to be written down.
pub(super) fn head(session: &ServerSession, ctx: &Ctx, object: &Object) -> Option<Vec<u8>> {
    let fields = &object.head.headers;
    let edited = ctx
        .route
        .as_ref()
        .is_some_and(|route| !route.response_headers.is_empty() || route.answers.is_some());
    let complete = fields.contains_key(header::CONTENT_LENGTH) && fields.contains_key(header::DATE);
    let own = [header::AGE, header::ACCEPT_RANGES, header::CONNECTION];
    if edited
        || ctx.hsts().is_some()
        || ctx.rate.is_some()
        || !complete
        || own.iter().any(|name| fields.contains_key(name))
    {
        return None;
    }
    let mut out = Vec::with_capacity(USUAL);
    let mut digits = itoa::Buffer::new();
    out.extend(b"HTTP/1.1 ");
    out.extend(object.head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend(
        object
            .head
            .get_reason_phrase()
            .unwrap_or_default()
            .as_bytes(),
    );
    out.extend(b"\r\n");
    object.head.header_to_h1_wire(&mut out);
    out.extend(b"Accept-Ranges: bytes\r\nAge: ");
    out.extend(
        digits
            .format(object.freshness.age(now()).as_secs())
            .as_bytes(),
    );
    out.extend(b"\r\nCache-Status: ");
    out.extend(mark::said(ctx)?.as_bytes());
    out.extend(match session.get_keepalive() {
        Some(_) => &b"\r\nConnection: keep-alive\r\n\r\n"[..],
        None => b"\r\nConnection: close\r\n\r\n",
    });
    Some(out)
}
