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
use pingora::http::ResponseHeader;
use std::time::Duration;

/// Room for what is added to a stored head.
const ADDED: usize = 256;

/// What is the same in the head of each such answer.
fn written(head: &ResponseHeader) -> Option<Vec<u8>> {
    if !fields::has(&head.headers, &header::CONTENT_LENGTH) || !is_dated(&head.headers) {
        return None;
    }
    let mut out = Vec::with_capacity(wire::USUAL);
    // Those are ours to write, whatever its maker said of them.
    let own = [header::AGE, header::ACCEPT_RANGES, header::CONNECTION];
    wire::begin_without(&mut out, head, &own);
    out.extend_from_slice(b"Accept-Ranges: bytes\r\n");
    Some(out)
}

/// The head of a fresh answer, as it is `now`; `None` where its fields need more than to be written down. `keeps`: whether
/// the connection serves on.
pub(super) fn head(ctx: &Ctx, object: &Object, now: Duration, keeps: bool) -> Option<Vec<u8>> {
    if !leaves_as_is(ctx) {
        return None;
    }
    let stored = object.written(written)?;
    let mut out = Vec::with_capacity(stored.len() + ADDED);
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(stored);
    out.extend_from_slice(b"Age: ");
    let age = object.freshness.age(now).as_secs();
    out.extend_from_slice(digits.format(age).as_bytes());
    out.extend_from_slice(b"\r\nCache-Status: ");
    out.extend_from_slice(mark::said(ctx, now)?.as_bytes());
    out.extend_from_slice(b"\r\n");
    wire::end(&mut out, keeps);
    Some(out)
}
