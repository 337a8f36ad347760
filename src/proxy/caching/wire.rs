//! A stored answer as the bytes of HTTP/1 (RFC 9112 §4), for the common hit.
//!
//! [`super::at_once`] sends them with the body in one write. Whatever the route or the answer itself makes special goes
//! the longer way instead, which says the same with more ado.

use super::super::ctx::Ctx;
use super::super::forward::leaves_as_is;
use super::super::wire;
use super::mark;
use crate::cache::object::Object;
use crate::policy::fields;
use crate::policy::plain::is_dated;
use http::header;
use std::time::Duration;

/// The head of a fresh answer, as it is `now`; `None` where its fields need more than to be written down. `keeps`: whether
/// the connection serves on.
pub(super) fn head(ctx: &Ctx, object: &Object, now: Duration, keeps: bool) -> Option<Vec<u8>> {
    let fields = &object.head.headers;
    let complete = fields::has(fields, &header::CONTENT_LENGTH) && is_dated(fields);
    if !leaves_as_is(ctx) || !complete {
        return None;
    }
    let mut out = Vec::with_capacity(wire::USUAL);
    let mut digits = itoa::Buffer::new();
    // Those are ours to write, whatever its maker said of them.
    let own = [header::AGE, header::ACCEPT_RANGES, header::CONNECTION];
    wire::begin_without(&mut out, &object.head, &own);
    out.extend(b"Accept-Ranges: bytes\r\nAge: ");
    let age = object.freshness.age(now).as_secs();
    out.extend(digits.format(age).as_bytes());
    out.extend(b"\r\nCache-Status: ");
    out.extend(mark::said(ctx, now)?.as_bytes());
    out.extend(b"\r\n");
    wire::end(&mut out, keeps);
    Some(out)
}
