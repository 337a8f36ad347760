//! Trailers, the fields that follow content (RFC 9110 §6.5): who wants them, which may pass, and how HTTP/1.1 writes them.
//!
//! What they say comes too late for whoever acts by it, and some who get them put them among the fields of the head. So what a
//! head decides by may not pass as a trailer (§6.5.1). `proxy::trailers` sees to it that they get through.

use super::claims;
use super::fields;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Whether these fields ask for trailers (`TE`, RFC 9110 §10.1.4), which is all that the field may say in HTTP/2 (RFC 9113
/// §8.2.2).
pub fn are_wanted(headers: &HeaderMap) -> bool {
    let words = fields::all(headers, &header::TE);
    let mut words = words.flat_map(|line| line.as_bytes().split(|b| *b == b','));
    words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Whether this field may be a trailer: none by which a message is framed, routed, stored, or who sends it believed, and none
/// that says what its content is.
pub fn may_be(name: &HeaderName) -> bool {
    const BEGINNINGS: [&str; 4] = ["content-", "if-", "proxy-", "access-control-"];
    const NAMES: [&str; 30] = [
        "accept-ranges",
        "age",
        "authorization",
        "cache-control",
        "connection",
        "cookie",
        "date",
        "expect",
        "expires",
        "host",
        "http2-settings",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "range",
        "retry-after",
        "set-cookie",
        "strict-transport-security",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "via",
        "warning",
        "www-authenticate",
        "x-request-id",
        "idempotency-key",
        "alt-svc",
    ];
    // Servers that make variables of fields know no difference (RFC 3875 §4.1.18).
    let spelled = name.as_str().replace('_', "-");
    // `Content-MD5` and `Content-Digest` can be known no sooner (RFC 9530 §2).
    let is_digest = matches!(spelled.as_str(), "content-md5" | "content-digest");
    !NAMES.contains(&spelled.as_str())
        && !claims::is_claim(name)
        && (is_digest || !BEGINNINGS.iter().any(|begin| spelled.starts_with(begin)))
}

/// The fields of a trailer section of HTTP/1.1, up to and with its empty line. What is none is left out.
pub fn read(section: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in section.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            fields.append(name, value);
        }
    }
    fields
}

/// The end of a chunked message that has these trailers (RFC 9112 §7.1).
pub fn last_chunk(fields: &HeaderMap) -> Vec<u8> {
    let mut end = b"0\r\n".to_vec();
    for (name, value) in fields {
        end.extend_from_slice(name.as_str().as_bytes());
        end.extend_from_slice(b": ");
        end.extend_from_slice(value.as_bytes());
        end.extend_from_slice(b"\r\n");
    }
    end.extend_from_slice(b"\r\n");
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_wants_them() {
        for (lines, expected) in [
            (&["trailers"][..], true),
            (&["gzip, Trailers"], true),
            (&["gzip", "trailers"], true),
            (&["trailers;q=0"], false),
            (&["trailer"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::TE, line.parse().unwrap());
            }
            assert_eq!(are_wanted(&headers), expected, "{lines:?}");
        }
    }

    #[test]
    fn which_may_pass() {
        for (name, expected) in [
            ("grpc-status", true),
            ("server-timing", true),
            ("etag", true),
            ("content-digest", true),
            ("content-md5", true),
            ("x-checksum", true),
            ("content-length", false),
            ("content-type", false),
            ("transfer-encoding", false),
            ("transfer_encoding", false),
            ("host", false),
            ("authorization", false),
            ("set-cookie", false),
            ("cache-control", false),
            ("x-forwarded-for", false),
            ("x_forwarded_for", false),
            ("x-real-ip", false),
            ("x-request-id", false),
            ("if-match", false),
            ("trailer", false),
        ] {
            assert_eq!(may_be(&HeaderName::from_static(name)), expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_field_is_left_out() {
        let fields = read(b"X-A: 1\r\nno field\r\nX-A:2 \r\n\x01: 3\r\n\r\n");
        let all: Vec<_> = fields.get_all("x-a").iter().collect();
        assert_eq!(all, ["1", "2"]);
        assert_eq!(fields.len(), 2);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            fields in proptest::collection::vec(("[a-z][a-z0-9-]{0,12}", "[!-~]([ -~]{0,12}[!-~])?"), 0..6),
        ) {
            let mut map = HeaderMap::new();
            for (name, value) in &fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, value.parse().unwrap());
            }
            let written = last_chunk(&map);
            prop_assert!(written.starts_with(b"0\r\n") && written.ends_with(b"\r\n\r\n"));
            prop_assert_eq!(read(&written[3..]), map);
        }
    }
}
