//! A stored answer as the bytes of HTTP/1 (RFC 9112 §4), for the common hit.
//!
//! [`super::at_once`] sends them with the body in one write. Whatever the route or the answer itself makes special goes
//! the longer way instead, which says the same with more ado.

use super::super::ctx::Ctx;
use super::super::forward::leaves_as_is;
use super::super::wire;
use super::mark;
use crate::cache::head::Head;
use crate::cache::object::{Object, Written};
use crate::policy::plain::is_date;
use http::header;
use std::time::Duration;

/// Room for what is added to a stored head.
const ADDED: usize = 256;

/// How the head of such an answer is written.
fn written(head: &Head) -> Written {
    let length = head.values(&header::CONTENT_LENGTH).next();
    if length.is_none() || !is_date(head.values(&header::DATE)) {
        return Written::Not;
    }
    // Those are ours to write, whatever its maker said of them.
    let own = [header::AGE, header::ACCEPT_RANGES, header::CONNECTION];
    let is_own = |name: &[u8]| {
        own.iter()
            .any(|own| name.eq_ignore_ascii_case(own.as_str().as_bytes()))
    };
    if !head.fields().any(|(name, _)| is_own(name)) {
        return Written::AsItIs;
    }
    let mut out = head.status_line().to_vec();
    for (name, value) in head.fields().filter(|(name, _)| !is_own(name)) {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    Written::Otherwise(out.into())
}

/// The head of a fresh answer, as it is `now`; `None` where its fields need more than to be written down. `keeps`: whether
/// the connection serves on.
pub(super) fn head(ctx: &Ctx, object: &Object, now: Duration, keeps: bool) -> Option<Vec<u8>> {
    if !leaves_as_is(ctx) {
        return None;
    }
    let stored = match object.written(written) {
        Written::AsItIs => object.head.written(),
        Written::Otherwise(written) => written,
        Written::Not => return None,
    };
    let mut out = Vec::with_capacity(stored.len() + ADDED);
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(stored);
    out.extend_from_slice(b"Accept-Ranges: bytes\r\nAge: ");
    let age = object.freshness.age(now).as_secs();
    out.extend_from_slice(digits.format(age).as_bytes());
    out.extend_from_slice(b"\r\nCache-Status: ");
    out.extend_from_slice(mark::said(ctx, now)?.as_bytes());
    out.extend_from_slice(b"\r\n");
    wire::end(&mut out, keeps);
    Some(out)
}
