//! Calls of gRPC: how long one may take, and what a refusal of ours says to it.
//!
//! As "gRPC over HTTP2" has it, and for statuses "HTTP to gRPC Status Code Mapping". A call is a request of HTTP/2 whose outcome
//! is in its trailers: to a client of gRPC an answer of HTTP alone says that something is in its way, not what became of the call.

use super::fields;
use http::{HeaderMap, Method, StatusCode, Version, header};
use std::time::Duration;

/// The field by which a client says how long it waits.
pub const TIMEOUT: &str = "grpc-timeout";

/// Whether a request is one.
pub fn is_call(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    // HTTP/1 has no frames to go both ways with.
    if version != Version::HTTP_2 || *method != Method::POST {
        return false;
    }
    let content_type = fields::first(headers, &header::CONTENT_TYPE);
    let rest = content_type.and_then(|t| t.as_bytes().strip_prefix(b"application/grpc"));
    // What has another name, such as `grpc-web`, is no call.
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// How long its client waits for it, if it says so: up to eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The field's value for what is left of that time, in milliseconds, or in seconds where those are more than it takes.
pub fn written(left: Duration) -> String {
    match left.as_millis() {
        millis @ 0..=99_999_999 => format!("{millis}m"),
        _ => format!("{}S", left.as_secs().min(99_999_999)),
    }
}

/// What an answer of ours with this status tells a call: the number that stands for it.
pub fn code(status: StatusCode) -> u8 {
    const UNKNOWN: u8 = 2;
    const DEADLINE_EXCEEDED: u8 = 4;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const UNAUTHENTICATED: u8 = 16;
    match status.as_u16() {
        400 | 500 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        413 => RESOURCE_EXHAUSTED,
        429 | 502 | 503 => UNAVAILABLE,
        // The mapping says UNAVAILABLE, for who cannot know better: here it is a deadline that has passed.
        504 => DEADLINE_EXCEEDED,
        _ => UNKNOWN,
    }
}

/// A text as `grpc-message` has it: printable characters of ASCII as they are, but `%`.
pub fn message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("30S", Some(Duration::from_secs(30))),
            ("0250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("7n", Some(Duration::from_nanos(7))),
            ("0S", Some(Duration::ZERO)),
            ("100000000m", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1 S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, text.parse().unwrap());
            assert_eq!(timeout(&headers), expected, "{text:?}");
            if let Some(time) = expected {
                headers.insert(TIMEOUT, written(time).parse().unwrap());
                let again = timeout(&headers).unwrap();
                assert!(again <= time && time - again < Duration::from_millis(1));
            }
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
        assert_eq!(written(Duration::from_secs(100_000)), "100000S");
        assert_eq!(written(Duration::MAX), "99999999S");
    }

    #[test]
    fn what_is_a_call() {
        for (version, content_type, expected) in [
            (Version::HTTP_2, "application/grpc", true),
            (Version::HTTP_2, "application/grpc+proto", true),
            (Version::HTTP_2, "application/grpc;a=b", true),
            (Version::HTTP_2, "application/grpc-web", false),
            (Version::HTTP_2, "application/json", false),
            (Version::HTTP_11, "application/grpc", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
            assert_eq!(
                is_call(&Method::POST, version, &headers),
                expected,
                "{version:?} {content_type}"
            );
        }
        assert!(!is_call(&Method::POST, Version::HTTP_2, &HeaderMap::new()));
    }

    #[test]
    fn codes_and_messages() {
        for (status, expected) in [
            (401, 16),
            (403, 7),
            (404, 12),
            (503, 14),
            (504, 4),
            (418, 2),
        ] {
            assert_eq!(code(StatusCode::from_u16(status).unwrap()), expected);
        }
        assert_eq!(message("50 %, \"ä\"\n"), "50 %25, \"%C3%A4\"%0A");
    }
}
