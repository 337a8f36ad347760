//! The head of an answer as the bytes of HTTP/1 (RFC 9112 §4), for those that are given without Pingora's phases.

use super::forward::written;
use crate::clock;
use crate::policy::fields;
use crate::policy::plain::is_dated;
use http::{HeaderName, header};
use pingora::http::ResponseHeader;

/// Room for most heads.
pub(super) const USUAL: usize = 1024;

/// All of it. `keeps`: whether the connection serves on.
pub(super) fn whole(head: &ResponseHeader, keeps: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(USUAL);
    // What is no date nobody gets.
    let is_dated = is_dated(&head.headers);
    match is_dated {
        true => begin_without(&mut out, head, &[header::CONNECTION]),
        false => begin_without(&mut out, head, &[header::CONNECTION, header::DATE]),
    }
    date(&mut out, is_dated);
    end(&mut out, keeps);
    out
}

/// Writes the status line and the fields.
pub(super) fn begin(out: &mut Vec<u8>, head: &ResponseHeader) {
    status_line(out, head);
    head.header_to_h1_wire(out);
}

/// The same, but for fields with one of these names.
pub(super) fn begin_without(out: &mut Vec<u8>, head: &ResponseHeader, names: &[HeaderName]) {
    let fields = &head.headers;
    if !names.iter().any(|name| fields::has(fields, name)) {
        return begin(out, head);
    }
    status_line(out, head);
    if head.has_case() {
        for ((name, value), (written, _)) in fields.iter().zip(head.case_header_iter()) {
            if !names.contains(name) {
                line(out, written.as_slice(), value.as_bytes());
            }
        }
    } else {
        for (name, value) in fields.iter().filter(|(name, _)| !names.contains(name)) {
            line(out, written(name).as_bytes(), value.as_bytes());
        }
    }
}

/// Writes a field.
pub(super) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn status_line(out: &mut Vec<u8>, head: &ResponseHeader) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    let reason = head.get_reason_phrase().unwrap_or_default();
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Says when it was made, where its maker does not (RFC 9110 §6.6.1).
pub(super) fn date(out: &mut Vec<u8>, is_dated: bool) {
    if !is_dated {
        out.extend_from_slice(b"Date: ");
        let now = httpdate::fmt_http_date(clock::wall());
        out.extend_from_slice(now.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Ends it. `keeps`: whether the connection serves on.
pub(super) fn end(out: &mut Vec<u8>, keeps: bool) {
    out.extend_from_slice(match keeps {
        true => b"Connection: keep-alive\r\n\r\n",
        false => b"Connection: close\r\n\r\n",
    });
}
