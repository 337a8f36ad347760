//! A line of the access log as JSON (RFC 8259), its fields named as in OpenTelemetry's semantic conventions for HTTP where those
//! have a name.
//!
//! Every request writes one, so the names of its fields are written as they stand, and a text that needs no escaping, as nearly
//! all do, is copied.

use super::access_log::{Line, TryLine, write_stamp};
use crate::policy::forwarded;
use crate::policy::outcome::Outcome;
use crate::policy::retry::Failure;
use std::io::Write as _;
use std::time::UNIX_EPOCH;

/// Writes the line, without its end.
pub fn write(out: &mut Vec<u8>, line: &Line<'_>) {
    out.reserve(512);
    out.extend_from_slice(b"{\"time\":\"");
    write_stamp(out, line.began.unwrap_or(UNIX_EPOCH));
    match line.client {
        Some(client) => {
            out.extend_from_slice(b"\",\"client.address\":\"");
            // What an address is written with needs no escaping.
            forwarded::write(out, client);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"\",\"client.address\":null"),
    }
    field(out, b",\"enduser.id\":\"", line.identity.as_deref());
    word(out, b",\"identity_from\":\"", line.identity_from);
    out.extend_from_slice(b",\"request_id\":\"");
    plain(out, line.request_id);
    out.extend_from_slice(b",\"http.request.method\":\"");
    plain(out, line.method);
    let (host, port) = parted(line.host);
    out.extend_from_slice(b",\"server.address\":\"");
    text(out, host);
    if let Some(port) = port {
        out.extend_from_slice(b",\"server.port\":");
        whole(out, usize::from(port));
    }
    out.extend_from_slice(b",\"url.scheme\":\"");
    plain(out, line.scheme);
    let (path, query) = parted_path(&line.path);
    out.extend_from_slice(b",\"url.path\":\"");
    text(out, path);
    field(out, b",\"url.query\":\"", query);
    let protocol = line.protocol.strip_prefix("HTTP/");
    out.extend_from_slice(b",\"network.protocol.version\":\"");
    plain(out, protocol.unwrap_or_default());
    let tls = line.tls.map(|version| version.trim_start_matches("TLSv"));
    field(out, b",\"tls.protocol.version\":\"", tls);
    field(out, b",\"tls.cipher\":\"", line.cipher);
    let agent = line.user_agent.map(String::from_utf8_lossy);
    field(out, b",\"user_agent.original\":\"", agent.as_deref());
    match line.route {
        Some(route) => {
            out.extend_from_slice(b",\"http.route\":\"");
            text(out, route);
        }
        None => out.extend_from_slice(b",\"http.route\":null"),
    }
    match line.upstream {
        Some(upstream) => {
            out.extend_from_slice(b",\"upstream\":\"");
            text(out, upstream);
        }
        None => out.extend_from_slice(b",\"upstream\":null"),
    }
    match line.backend {
        Some(backend) => {
            out.extend_from_slice(b",\"backend\":\"");
            text(out, backend);
        }
        None => out.extend_from_slice(b",\"backend\":null"),
    }
    out.extend_from_slice(b",\"tries\":[");
    for (number, one) in line.tries.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        attempt(out, one);
    }
    out.push(b']');
    word(out, b",\"cache\":\"", line.cache);
    word(out, b",\"retry\":\"", line.retry);
    word(out, b",\"refused\":\"", line.refused);
    word(out, b",\"error.type\":\"", line.error);
    out.extend_from_slice(b",\"http.response.status_code\":");
    whole(out, usize::from(line.status));
    if line.received > 0 {
        out.extend_from_slice(b",\"http.request.body.size\":");
        whole(out, line.received);
    }
    out.extend_from_slice(b",\"http.response.body.size\":");
    whole(out, line.bytes);
    if let Some(idle) = line.idle_ms {
        out.extend_from_slice(b",\"idle_ms\":");
        number(out, idle);
    }
    out.extend_from_slice(b",\"duration_ms\":");
    number(out, line.duration_ms);
    if let Some(trace) = line.trace {
        // Writing to memory does not fail.
        let _ = write!(
            out,
            ",\"trace_id\":\"{:032x}\",\"span_id\":\"{:016x}\"",
            trace.id, trace.span
        );
    }
    if let Some(sample) = line.sample {
        out.extend_from_slice(b",\"sample\":");
        number(out, sample);
    }
    out.push(b'}');
}

fn attempt(out: &mut Vec<u8>, one: &TryLine<'_>) {
    out.extend_from_slice(b"{\"backend\":\"");
    text(out, one.backend);
    out.extend_from_slice(b",\"outcome\":\"");
    out.extend_from_slice(one.outcome.word().as_bytes());
    if let Outcome::Failed(Failure::Status(status)) = one.outcome {
        out.push(b' ');
        out.extend(status.as_str().as_bytes());
    }
    out.extend_from_slice(b"\",\"ms\":");
    number(out, one.ms);
    out.extend_from_slice(b",\"waited_ms\":");
    number(out, one.waited_ms);
    // Less than the clock shows is what it takes to find out that there is nothing to wait for.
    if one.queued_ms >= 1.0 {
        out.extend_from_slice(b",\"queued_ms\":");
        number(out, one.queued_ms);
    }
    for (name, value) in [
        (&b",\"connect_ms\":"[..], one.connect_ms),
        (b",\"first_byte_ms\":", one.first_byte_ms),
    ] {
        if let Some(value) = value {
            out.extend(name);
            number(out, value);
        }
    }
    out.push(b'}');
}

/// Path and query of a target.
pub(super) fn parted_path(target: &str) -> (&str, Option<&str>) {
    match target.bytes().position(|byte| byte == b'?') {
        Some(at) => (target.get(..at).unwrap_or_default(), target.get(at + 1..)),
        None => (target, None),
    }
}

/// Host and port of an authority.
pub(super) fn parted(authority: &str) -> (&str, Option<u16>) {
    // Most have none.
    if !authority.bytes().any(|byte| byte == b':') {
        return (authority, None);
    }
    let parts = authority.rsplit_once(':');
    let number = |port: &str| {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| port.parse().ok())?
    };
    let parts = parts.and_then(|(host, port)| Some((host, Some(number(port)?))));
    // A colon of an address is not before a port.
    parts
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'))
        .unwrap_or((authority, None))
}

/// A field that is left out where there is nothing to say. `name`: up to the quote before the value, here and below.
fn field(out: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        text(out, value);
    }
}

/// The same for a word of ours.
fn word(out: &mut Vec<u8>, name: &[u8], word: Option<&'static str>) {
    if let Some(word) = word {
        out.extend_from_slice(name);
        plain(out, word);
    }
}

/// The end of a text in which nothing can need escaping: a method is a token (RFC 9110 §5.6.2), an id of a request has letters,
/// digits and what joins them.
fn plain(out: &mut Vec<u8>, text: &str) {
    debug_assert!(is_plain(text.as_bytes()));
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// That of any text.
fn text(out: &mut Vec<u8>, text: &str) {
    match is_plain(text.as_bytes()) {
        true => out.extend_from_slice(text.as_bytes()),
        false => text.chars().for_each(|char| escaped(out, char)),
    }
    out.push(b'"');
}

/// Whether nothing in it is part of something that needs escaping: looks at eight bytes at a time, none of which may be below a
/// space, beyond ASCII, a quote, a backslash or 0x7f.
fn is_plain(text: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let is_odd = |eight: [u8; 8]| {
        let all = u64::from_le_bytes(eight);
        // A byte borrows from its upper bit if it is less; those above it do not count any more then.
        let below = all.wrapping_sub(EACH * 0x20) & !all;
        let is = |byte: u8| {
            let none = all ^ (EACH * u64::from(byte));
            none.wrapping_sub(EACH) & !none
        };
        (all | below | is(b'"') | is(b'\\') | is(0x7f)) & (EACH * 0x80) != 0
    };
    let (eights, rest) = text.as_chunks::<8>();
    let mut last = [b' '; 8];
    if let Some(place) = last.get_mut(..rest.len()) {
        place.copy_from_slice(rest);
    }
    !eights.iter().any(|eight| is_odd(*eight)) && !is_odd(last)
}

/// Escapes what JSON has to have escaped, and what a terminal or an editor that shows a line could take for a command:
/// control characters of either kind, ends of lines, and changes of the direction of writing.
fn escaped(out: &mut Vec<u8>, char: char) {
    match char {
        '"' | '\\' => out.extend([b'\\', char as u8]),
        '\u{0}'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => {
            // A `Vec` takes everything.
            drop(write!(out, "\\u{:04x}", u32::from(char)));
        }
        char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn whole(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A number, which nearly always has three digits behind the point at most; then it takes a tenth of the time.
fn number(out: &mut Vec<u8>, number: f64) {
    // A cast ends at the bounds of what there is.
    let thousandths = (number * 1000.0 + 0.5) as u64;
    let is_exact = thousandths < 1_000_000_000_000_000 && thousandths as f64 / 1000.0 == number;
    if !is_exact {
        // A `Vec` takes everything.
        let _ = serde_json::to_writer(out, &number);
        return;
    }
    let (whole, rest) = (thousandths / 1000, thousandths % 1000);
    let digit = |number: u64| b'0' + (number % 10) as u8;
    let rest = [b'.', digit(rest / 100), digit(rest / 10), digit(rest)];
    let length = match rest {
        [.., b'0', b'0'] => 2,
        [.., b'0'] => 3,
        _ => 4,
    };
    match whole {
        0..10 => out.push(digit(whole)),
        _ => out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes()),
    }
    out.extend_from_slice(rest.get(..length).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::net::IpAddr;
    use std::time::Duration;

    fn line(line: &Line<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, line);
        out
    }

    #[test]
    fn what_needs_escaping_is_found_wherever_it_stands() {
        for at in 0..20 {
            for byte in 0..=255 {
                let mut text = [b'a'; 20];
                text[at] = byte;
                let is_fit = (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
                assert_eq!(is_plain(&text), is_fit, "{byte} at {at}");
                assert_eq!(is_plain(&text[..=at]), is_fit, "{byte} at the end, {at}");
            }
        }
    }

    #[test]
    fn numbers() {
        for text in [
            "0.0",
            "0.001",
            "1.0",
            "0.1",
            "12.34",
            "999.999",
            "1234567.5",
            "0.0001",
            "1e+300",
        ] {
            let mut out = Vec::new();
            number(&mut out, text.parse().unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    fn empty() -> Line<'static> {
        Line {
            began: Some(UNIX_EPOCH + Duration::from_secs(1_795_910_400)),
            protocol: "HTTP/2",
            scheme: "http",
            status: 200,
            ..Line::default()
        }
    }

    #[test]
    fn fields_have_the_order_that_the_readme_shows_and_are_left_out_where_they_are_not_meant() {
        let written = String::from_utf8(line(&empty())).unwrap();
        assert_eq!(
            written,
            concat!(
                r#"{"time":"2026-11-29T00:00:00.000Z","client.address":null,"request_id":"","http.request.method":"","#,
                r#""server.address":"","url.scheme":"http","url.path":"","network.protocol.version":"2","http.route":null,"#,
                r#""upstream":null,"backend":null,"tries":[],"http.response.status_code":200,"#,
                r#""http.response.body.size":0,"duration_ms":0.0}"#
            )
        );
    }

    #[test]
    fn hosts_and_ports() {
        for (authority, parts) in [
            ("a.example", ("a.example", None)),
            ("a.example:8080", ("a.example", Some(8080))),
            ("[::1]", ("[::1]", None)),
            ("[::1]:80", ("[::1]", Some(80))),
            ("a:b", ("a:b", None)),
            ("a:+80", ("a:+80", None)),
            ("::1", ("::1", None)),
            ("", ("", None)),
        ] {
            assert_eq!(parted(authority), parts, "{authority}");
        }
    }

    proptest! {
        /// Whatever is in it, it is one line, and says what it was given.
        #[test]
        fn what_is_written_can_be_read(
            [identity, host, path, label, agent] in ["[\\PC\\x00-\\x9f\u{2026}-\u{202f}\u{2066}-\u{206a}\"\\\\]*"; 5],
            client in any::<Option<IpAddr>>(),
            [ms, waited, queued] in prop::array::uniform3(0..10_000_000_u32),
            (status, bytes) in any::<(u16, usize)>(),
            outcome in prop_oneof![Just(Outcome::Ok), (100..1000_u16).prop_map(|status| Outcome::Failed(Failure::Status(StatusCode::from_u16(status).unwrap())))],
            tries in 0..3_usize,
        ) {
            let [ms, waited, queued] = [ms, waited, queued].map(|n| f64::from(n) / 1e3);
            let connect_ms = (tries > 1).then_some(waited);
            let one = || TryLine { backend: &label, outcome, ms, waited_ms: waited, queued_ms: queued, connect_ms, first_byte_ms: Some(ms), status: None, span: 0, began: Duration::ZERO, took: Duration::ZERO };
            let given = Line {
                client,
                identity: Some(identity.clone()),
                identity_from: Some("basic"),
                host: &host,
                path: path.as_str().into(),
                tls: Some("TLSv1.3"),
                cipher: Some(&label),
                user_agent: Some(agent.as_bytes()),
                route: Some(&host),
                backend: Some(&label),
                tries: (0..tries).map(|_| one()).collect(),
                cache: Some("hit"),
                error: Some("connection_refused"),
                status,
                received: 7,
                bytes,
                idle_ms: Some(queued),
                duration_ms: ms,
                sample: Some(0.25),
                ..empty()
            };
            let written = line(&given);
            let shown = std::str::from_utf8(&written).unwrap();
            let acts = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
            prop_assert!(!shown.contains(acts), "{}", shown);
            let read: Value = serde_json::from_slice(&written).unwrap();
            let mut attempt = json!({ "backend": label, "outcome": outcome.to_string(), "ms": ms, "waited_ms": waited });
            if queued >= 1.0 {
                attempt["queued_ms"] = json!(queued);
            }
            if let Some(connect_ms) = connect_ms {
                attempt["connect_ms"] = json!(connect_ms);
            }
            attempt["first_byte_ms"] = json!(ms);
            let (address, port) = parted(&host);
            let mut expected = json!({
                "time": "2026-11-29T00:00:00.000Z", "client.address": client, "enduser.id": identity, "identity_from": "basic",
                "request_id": "", "http.request.method": "", "server.address": address, "url.scheme": "http",
                "url.path": path.split('?').next(), "network.protocol.version": "2", "tls.protocol.version": "1.3",
                "tls.cipher": label, "user_agent.original": agent, "http.route": host, "upstream": null, "backend": label,
                "tries": vec![attempt; tries], "cache": "hit", "error.type": "connection_refused",
                "http.response.status_code": status, "http.request.body.size": 7, "http.response.body.size": bytes,
                "idle_ms": queued, "duration_ms": ms, "sample": 0.25,
            });
            if let Some(port) = port {
                expected["server.port"] = json!(port);
            }
            if let Some((_, query)) = path.split_once('?') {
                expected["url.query"] = json!(query);
            }
            prop_assert_eq!(read, expected);
        }
    }
}
