//! A stored answer as the bytes of HTTP/1 (RFC 9112 §4), for the common hit.
//!
//! [`super::at_once`] sends them with the body in one write. Whatever the route or the answer itself makes special goes
//! through the session instead, which says the same with more ado.

use super::super::ctx::Ctx;
use super::super::forward::leaves_as_is;
use super::super::wire;
use super::{mark, now};
use crate::cache::object::Object;
use crate::policy::plain::is_date;
use http::header;
use pingora::protocols::http::ServerSession;

/// The head of a fresh answer; `None` where its fields need more than to be written down.
pub(super) fn head(session: &ServerSession, ctx: &Ctx, object: &Object) -> Option<Vec<u8>> {
    let fields = &object.head.headers;
    let mut dates = fields.get_all(header::DATE).iter();
    let is_dated =
        dates.next().is_some_and(|date| is_date(date.as_bytes())) && dates.next().is_none();
    let complete = fields.contains_key(header::CONTENT_LENGTH) && is_dated;
    if !leaves_as_is(ctx) || !complete {
        return None;
    }
    let mut out = Vec::with_capacity(wire::USUAL);
    let mut digits = itoa::Buffer::new();
    // Those are ours to write, whatever its maker said of them.
    let own = [header::AGE, header::ACCEPT_RANGES, header::CONNECTION];
    wire::begin_without(&mut out, &object.head, &own);
    out.extend(b"Accept-Ranges: bytes\r\nAge: ");
    out.extend(
        digits
            .format(object.freshness.age(now()).as_secs())
            .as_bytes(),
    );
    out.extend(b"\r\nCache-Status: ");
    out.extend(mark::said(ctx)?.as_bytes());
    out.extend(b"\r\n");
    wire::end(&mut out, session.get_keepalive().is_some());
    Some(out)
}
