//! What somebody seems to have asked for who sent no request: method and target, for the log.
//!
//! Asked by `proxy::front` of what was refused before it was a head. Nothing else goes by it.

use super::target::UNFIT;
use percent_encoding::percent_encode;

/// How much of a target is told.
const MOST: usize = 2048;

/// Method and target of what began so; the target with what it may not have made visible. None where it does not look like a
/// request.
pub fn glimpse(bytes: &[u8]) -> Option<(&str, String)> {
    let bytes = bytes.trim_ascii_start();
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let end = line.iter().position(|byte| *byte == b' ')?;
    let (method, target) = line.split_at(end);
    let method = std::str::from_utf8(method).ok()?;
    if !(1..=32).contains(&method.len()) || !method.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let target = target.get(1..)?;
    let ends = target.windows(6).rposition(|part| part == b" HTTP/");
    let target = target.get(..ends.unwrap_or(target.len()))?;
    let target = target.get(..MOST).unwrap_or(target);
    Some((method, percent_encode(target, UNFIT).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for() {
        let long = format!("GET /{} HTTP/1.1", "x".repeat(3000));
        for (bytes, asked) in [
            (
                "\r\nGET /a\x01 b HTTP/1.1\r\nX: y",
                Some(("GET", "/a%01%20b")),
            ),
            ("PUT /a HTTP/1.1\nX: HTTP/1", Some(("PUT", "/a"))),
            ("GET /\u{e4}", Some(("GET", "/%C3%A4"))),
            ("GET  HTTP/1.1", Some(("GET", ""))),
            ("\x16\x03\x01 \x02", None),
            (" / HTTP/1.1", None),
            ("GET", None),
            ("", None),
            (&long, Some(("GET", &*format!("/{}", "x".repeat(MOST - 1))))),
        ] {
            let seen = glimpse(bytes.as_bytes());
            let seen = seen.as_ref().map(|(method, target)| (*method, &**target));
            assert_eq!(seen, asked, "{bytes:?}");
        }
    }
}
