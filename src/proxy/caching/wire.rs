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
use crate::policy::plain::has_form;
use http::{HeaderName, header};
use std::time::Duration;

/// Room for what is added to a stored head.
const ADDED: usize = 256;

/// Whether a field is ours to write, whatever the answer's maker said of it.
fn is_own(name: &[u8]) -> bool {
    let is = |field: &HeaderName| name.eq_ignore_ascii_case(field.as_str().as_bytes());
    match name.len() {
        3 => is(&header::AGE),
        10 => is(&header::CONNECTION),
        13 => is(&header::ACCEPT_RANGES),
        _ => false,
    }
}

/// How the head of such an answer is written.
fn written(head: &Head) -> Written {
    let (mut has_length, mut has_own, mut dates) = (false, false, 0);
    for (name, value) in head.fields() {
        let is = |field: &HeaderName| name.eq_ignore_ascii_case(field.as_str().as_bytes());
        match name.len() {
            4 if is(&header::DATE) && has_form(value) => dates += 1,
            // One that is none nobody gets.
            4 if is(&header::DATE) => return Written::Not,
            14 if is(&header::CONTENT_LENGTH) => has_length = true,
            _ if is_own(name) => has_own = true,
            _ => {}
        }
    }
    if !has_length || dates != 1 {
        return Written::Not;
    }
    if !has_own {
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
