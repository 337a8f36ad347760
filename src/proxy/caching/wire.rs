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

fn is(name: &[u8], field: &HeaderName) -> bool {
    name.eq_ignore_ascii_case(field.as_str().as_bytes())
}

/// Whether a field is ours to write, whatever the answer's maker said of it.
fn is_own(name: &[u8]) -> bool {
    match name.len() {
        3 => is(name, &header::AGE),
        10 => is(name, &header::CONNECTION),
        13 => is(name, &header::ACCEPT_RANGES),
        _ => false,
    }
}

/// How the head of such an answer is written.
fn written(head: &Head) -> Written {
    let (mut lengths, mut dates, mut ranges, mut own) = (0, 0, 0, 0);
    for (name, value) in head.fields() {
        match name.len() {
            4 if is(name, &header::DATE) && has_form(value) => dates += 1,
            // One that is none nobody gets.
            4 if is(name, &header::DATE) => return Written::Not,
            14 if is(name, &header::CONTENT_LENGTH) => lengths += 1,
            13 if is(name, &header::ACCEPT_RANGES) && value == b"bytes" => ranges += 1,
            _ if is_own(name) => own += 1,
            _ => {}
        }
    }
    match (lengths, dates, ranges, own) {
        (1.., 1, 0, 0) => Written::AsItIs,
        // As servers of files say.
        (1.., 1, 1, 0) => Written::Complete,
        (1.., 1, _, _) => Written::InPart,
        _ => Written::Not,
    }
}

/// The head of a fresh answer, as it is `now`; `None` where its fields need more than to be written down. `keeps`: whether
/// the connection serves on.
pub(super) fn head(ctx: &Ctx, object: &Object, now: Duration, keeps: bool) -> Option<Vec<u8>> {
    if !leaves_as_is(ctx) {
        return None;
    }
    let head = &object.head;
    let how = object.written(written);
    let mut out = Vec::with_capacity(head.written().len() + ADDED);
    match how {
        Written::Not => return None,
        Written::AsItIs | Written::Complete => out.extend_from_slice(head.written()),
        Written::InPart => {
            out.extend_from_slice(head.status_line());
            for (name, value) in head.fields().filter(|(name, _)| !is_own(name)) {
                wire::line(&mut out, name, value);
            }
        }
    }
    if how != Written::Complete {
        out.extend_from_slice(b"Accept-Ranges: bytes\r\n");
    }
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"Age: ");
    let age = object.freshness.age(now).as_secs();
    out.extend_from_slice(digits.format(age).as_bytes());
    out.extend_from_slice(b"\r\nCache-Status: ");
    mark::say(&mut out, ctx, now)?;
    out.extend_from_slice(b"\r\n");
    wire::end(&mut out, keeps);
    Some(out)
}
