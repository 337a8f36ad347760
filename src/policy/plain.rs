//! Whether a request is a plain one: all of it is there, and nothing in it concerns the connection or what comes after, unless it
//! opens a WebSocket.
//!
//! Asked by `proxy::direct`, which sends such requests on by itself; for all others there are Pingora's phases.

use super::fields;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

/// Fields of requests whose content has no length, that switch protocols, or speak of the way.
const SPECIAL: [HeaderName; 7] = [
    header::TRANSFER_ENCODING,
    header::EXPECT,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
];

/// Whether this is one; `target` as it was written. `content`: whether there is some, and all of it came with its head.
pub fn is_plain(
    method: &Method,
    target: &[u8],
    version: Version,
    headers: &HeaderMap,
    content: bool,
) -> bool {
    let length = fields::first(headers, &header::CONTENT_LENGTH);
    let is_known = |words: &[u8]| {
        let known = [&b"keep-alive"[..], b"close"];
        known.iter().any(|word| words.eq_ignore_ascii_case(word))
    };
    let is_fit_method = match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => !content,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => content,
        _ => false,
    };
    let is_told = match content {
        true => length.is_some(),
        false => length.is_none_or(|length| length == "0"),
    };
    let is_known_version = matches!(
        version,
        Version::HTTP_10 | Version::HTTP_11 | Version::HTTP_2
    );
    is_fit_method
        && is_told
        && is_known_version
        && target.first() == Some(&b'/')
        && are_plain(headers, is_known, |name, _| !is_special(name))
}

/// Whether a request opens a WebSocket (RFC 6455 §4.1), and nothing else in it is out of the ordinary.
pub fn opens_websocket(
    method: &Method,
    target: &[u8],
    version: Version,
    headers: &HeaderMap,
) -> bool {
    let is_known = |words: &[u8]| {
        let mut words = words.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let is = |word: &[u8], known: &[u8]| word.eq_ignore_ascii_case(known);
        words.clone().any(|word| is(word, b"upgrade"))
            && words.all(|word| is(word, b"upgrade") || is(word, b"keep-alive"))
    };
    let mut upgrades = 0;
    let is_fit = |name: &HeaderName, value: &HeaderValue| {
        if *name != header::UPGRADE {
            return !is_special(name) && *name != header::CONTENT_LENGTH;
        }
        upgrades += 1;
        upgrades == 1 && value.as_bytes().eq_ignore_ascii_case(b"websocket")
    };
    *method == Method::GET
        && version == Version::HTTP_11
        && target.first() == Some(&b'/')
        && fields::has(headers, &header::UPGRADE)
        && fields::has(headers, &header::CONNECTION)
        && are_plain(headers, is_known, is_fit)
}

/// Whether one field at most speaks of the connection and is known, and all others are fit.
fn are_plain(
    headers: &HeaderMap,
    is_known: impl Fn(&[u8]) -> bool,
    mut is_fit: impl FnMut(&HeaderName, &HeaderValue) -> bool,
) -> bool {
    let mut connections = 0;
    headers.iter().all(|(name, value)| {
        if *name != header::CONNECTION {
            return is_fit(name, value);
        }
        connections += 1;
        connections == 1 && is_known(value.as_bytes())
    })
}

fn is_special(name: &HeaderName) -> bool {
    SPECIAL.contains(name)
        || matches!(
            name.as_str(),
            "close" | "http2-settings" | "keep-alive" | "proxy-connection"
        )
}

/// An answer whose fields need only be handed on, but for those of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// How many bytes of content follow; `None` where that comes in chunks.
    pub length: Option<u64>,
    /// Whether the connection serves on (RFC 9112 §9.3).
    pub is_kept: bool,
    /// Whether it says when it was made.
    pub is_dated: bool,
    /// Whether it names another target, which a request that changes something may have changed too (RFC 9111 §4.4).
    pub names_target: bool,
}

/// Whether a field concerns one connection only.
pub fn is_of_connection(name: &str) -> bool {
    is_name(name, "Connection") || is_name(name, "Keep-Alive")
}

/// Whether a name is this one, which is written as most servers write it: that is seen at once.
#[inline]
fn is_name(name: &str, usual: &str) -> bool {
    name == usual || name.eq_ignore_ascii_case(usual)
}

/// Whether a date is in the form that all are to have (RFC 9110 §5.6.7), as far as one looks without reading it.
pub fn has_form(date: &[u8]) -> bool {
    date.len() == 29 && date.ends_with(b" GMT")
}

/// Whether an answer says when it was made, once and in that form.
pub fn is_dated(headers: &HeaderMap) -> bool {
    let mut dates = fields::all(headers, &header::DATE);
    dates.next().is_some_and(|date| has_form(date.as_bytes())) && dates.next().is_none()
}

/// What an answer of HTTP/1.1 with these fields is, if it is plain. Nothing about it is decided here: one that is not is looked
/// at as all others are.
pub fn answer<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<Answer> {
    let (mut length, mut chunked) = (None, false);
    let (mut is_kept, mut is_dated, mut names_target) = (true, false, false);
    for (name, value) in fields {
        let is = |field: &str| is_name(name, field);
        // Most fields are told from these by how long their names are.
        match name.len() {
            2 if is("TE") => return None,
            // One that clients cannot read, or two, are none.
            4 if is("Date") => match is_dated || !has_form(value) {
                true => return None,
                false => is_dated = true,
            },
            7 if is("Trailer") || is("Upgrade") => return None,
            8 if is("Location") => names_target = true,
            10 if is("Connection") => match value {
                _ if value.eq_ignore_ascii_case(b"close") => is_kept = false,
                _ if value.eq_ignore_ascii_case(b"keep-alive") => {}
                _ => return None,
            },
            // Events come for as long as both like.
            12 if is("Content-Type")
                && value
                    .get(..6)
                    .is_some_and(|b| b.eq_ignore_ascii_case(b"text/e")) =>
            {
                return None;
            }
            14 if is("Content-Length") => {
                let digits =
                    (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
                if !digits || length.is_some() {
                    return None;
                }
                let number = |all: u64, digit: &u8| 10 * all + u64::from(digit - b'0');
                length = Some(value.iter().fold(0, number));
            }
            16 if is("Proxy-Connection") => return None,
            16 if is("Content-Location") => names_target = true,
            17 if is("Transfer-Encoding") => {
                if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return None;
                }
                chunked = true;
            }
            _ => {}
        }
    }
    (chunked != length.is_some()).then_some(Answer {
        length,
        is_kept,
        is_dated,
        names_target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain() {
        let (eleven, two) = (Version::HTTP_11, Version::HTTP_2);
        for (method, target, version, fields, plain) in [
            (Method::GET, "/a", eleven, "host: a", true),
            (Method::HEAD, "/a", two, "accept: */*", true),
            (Method::GET, "/a", eleven, "connection: Keep-Alive", true),
            (Method::GET, "/a", eleven, "connection: close", true),
            (Method::GET, "/a", eleven, "connection: close, te", false),
            (Method::GET, "/a", eleven, "connection: x-key", false),
            (Method::GET, "/a", eleven, "close: a", false),
            (Method::GET, "/a", eleven, "te: trailers", false),
            (Method::GET, "/a", eleven, "expect: 100-continue", false),
            (Method::GET, "/a", eleven, "content-length: 0", true),
            (Method::GET, "/a", eleven, "content-length: 00", false),
            (Method::GET, "/a", eleven, "transfer-encoding: x", false),
            (Method::GET, "/a", eleven, "proxy-connection: close", false),
            (Method::GET, "/a", eleven, "upgrade: websocket", false),
            (Method::GET, "/a", Version::HTTP_10, "host: a", true),
            (Method::GET, "/a", Version::HTTP_09, "host: a", false),
            (Method::GET, "http://a/a", eleven, "host: a", false),
            (Method::OPTIONS, "*", eleven, "host: a", false),
            (Method::OPTIONS, "/a", eleven, "host: a", true),
            (Method::POST, "/a", eleven, "host: a", false),
            (Method::POST, "/a", two, "content-length: 0", false),
            (Method::POST, "/a", eleven, "content-length: 0", false),
            (Method::POST, "/a", eleven, "content-length: 1", false),
            (Method::DELETE, "/a", eleven, "host: a", false),
            (Method::TRACE, "/a", eleven, "host: a", false),
            (Method::CONNECT, "/a", eleven, "host: a", false),
        ] {
            let (name, value) = fields.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            let found = is_plain(&method, target.as_bytes(), version, &headers, false);
            assert_eq!(found, plain, "{method} {target} {fields}");
        }
        let length = (header::CONTENT_LENGTH, HeaderValue::from_static("5"));
        let coding = (
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
        let told = (header::EXPECT, HeaderValue::from_static("100-continue"));
        for (method, fields, is_there, plain) in [
            (Method::POST, &[&length][..], true, true),
            (Method::DELETE, &[&length], true, true),
            (Method::POST, &[&length], false, false),
            (Method::POST, &[&length, &told], true, false),
            (Method::POST, &[&coding], true, false),
            (Method::POST, &[], false, false),
            (Method::POST, &[], true, false),
            (Method::GET, &[&length], true, false),
            (Method::OPTIONS, &[&length], true, false),
        ] {
            let headers = HeaderMap::from_iter(fields.iter().map(|field| (*field).clone()));
            let found = is_plain(&method, b"/a", eleven, &headers, is_there);
            assert_eq!(found, plain, "{method} {headers:?}");
        }
    }

    #[test]
    fn which_requests_open_a_websocket() {
        let eleven = Version::HTTP_11;
        for (method, version, fields, opens) in [
            (
                Method::GET,
                eleven,
                "upgrade: websocket|connection: Upgrade",
                true,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: WebSocket|connection: keep-alive, upgrade|host: a",
                true,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: websocket|connection: upgrade,keep-alive|origin: b",
                true,
            ),
            (
                Method::POST,
                eleven,
                "upgrade: websocket|connection: upgrade",
                false,
            ),
            (
                Method::GET,
                Version::HTTP_2,
                "upgrade: websocket|connection: upgrade",
                false,
            ),
            (
                Method::GET,
                Version::HTTP_10,
                "upgrade: websocket|connection: upgrade",
                false,
            ),
            (Method::GET, eleven, "upgrade: websocket", false),
            (Method::GET, eleven, "connection: upgrade", false),
            (
                Method::GET,
                eleven,
                "upgrade: h2c|connection: upgrade",
                false,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: websocket, h2c|connection: upgrade",
                false,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: websocket|upgrade: websocket|connection: upgrade",
                false,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: websocket|connection: keep-alive",
                false,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: websocket|connection: upgrade, te",
                false,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: websocket|connection: upgrade, x-key",
                false,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: websocket|connection: upgrade|connection: close",
                false,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: websocket|connection: upgrade|content-length: 0",
                false,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: websocket|connection: upgrade|transfer-encoding: chunked",
                false,
            ),
            (
                Method::GET,
                eleven,
                "upgrade: websocket|connection: upgrade|expect: 100-continue",
                false,
            ),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields.split('|') {
                let (name, value) = field.split_once(": ").unwrap();
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, HeaderValue::from_static(value));
            }
            let found = opens_websocket(&method, b"/a", version, &headers);
            assert_eq!(found, opens, "{method} {version:?} {fields}");
            assert!(
                !is_plain(&method, b"/a", version, &headers, false),
                "{fields}"
            );
        }
        let fields = [
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
        ];
        let headers = HeaderMap::from_iter(fields);
        assert!(!opens_websocket(
            &Method::GET,
            b"http://a/a",
            eleven,
            &headers
        ));
    }

    #[test]
    fn which_answers_are_plain() {
        let plain = |length, is_kept, is_dated| {
            Some(Answer {
                length,
                is_kept,
                is_dated,
                names_target: false,
            })
        };
        let elsewhere = Some(Answer {
            length: Some(5),
            is_kept: true,
            is_dated: false,
            names_target: true,
        });
        for (fields, found) in [
            ("Content-Length: 5", plain(Some(5), true, false)),
            (
                "content-length: 0\ndate: Sun, 06 Nov 1994 08:49:37 GMT",
                plain(Some(0), true, true),
            ),
            ("content-length: 0\ndate: 0", None),
            ("Location: /b\nContent-Length: 5", elsewhere),
            ("Content-Length: 5\nContent-Location: /b", elsewhere),
            ("Transfer-Encoding: Chunked", plain(None, true, false)),
            (
                "Content-Length: 5\nConnection: Close",
                plain(Some(5), false, false),
            ),
            (
                "Content-Length: 5\nConnection: keep-alive\nKeep-Alive: timeout=5",
                plain(Some(5), true, false),
            ),
            (
                "content-type: text/html\ncontent-length: 5",
                plain(Some(5), true, false),
            ),
            (
                "content-type: text/event-stream\ntransfer-encoding: chunked",
                None,
            ),
            ("content-type: Text/Event-Stream;a\ncontent-length: 5", None),
            ("Content-Length: 5\nContent-Length: 5", None),
            ("Content-Length: 5\nTransfer-Encoding: chunked", None),
            (
                "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
                None,
            ),
            ("Transfer-Encoding: gzip, chunked", None),
            ("Content-Length: +5", None),
            ("Content-Length: ", None),
            ("Content-Length: 1000000000000000000", None),
            ("Content-Length: 5\nConnection: close, x-a", None),
            ("Content-Length: 5\nTrailer: x-a", None),
            ("Content-Length: 5\nUpgrade: h2c", None),
            ("Content-Length: 5\nProxy-Connection: close", None),
            ("Content-Length: 5\nTE: a", None),
            // Until it is closed.
            ("date: x", None),
        ] {
            let parts = fields.lines().map(|line| line.split_once(": ").unwrap());
            let parts = parts.map(|(name, value)| (name, value.as_bytes()));
            assert_eq!(answer(parts), found, "{fields}");
        }
    }
}
