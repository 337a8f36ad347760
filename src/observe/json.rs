//! A line of the access log as JSON (RFC 8259), its fields named as in OpenTelemetry's semantic conventions for HTTP where those
//! have a name.
//!
//! Every request has one, so the names of its fields are written as they stand, with the value that most have where there is one,
//! and a text that needs no escaping, as nearly all do, is copied. Where there are many requests, many lines are written in one go: so what fields have in common is repeated
//! for each where that is faster, although it takes more room in the processor's cache of instructions.

use super::access_log::{Line, Summary, TryLine, micros, write_stamp};
use crate::policy::eights::{self, below, is};
use crate::policy::forwarded;
use crate::policy::outcome::Outcome;
use crate::policy::retry::Failure;
use std::io::Write as _;
use std::time::Duration;

/// Writes the line, without its end.
pub fn write(out: &mut Vec<u8>, line: &Line<'_>) {
    out.reserve(512);
    let summary = &line.summary;
    put(out, b"{\"time\":\"");
    write_stamp(out, summary.began);
    match summary.client {
        Some(client) => {
            put(out, b"\",\"client.address\":\"");
            // What an address is written with needs no escaping.
            forwarded::write(out, client);
            out.push(b'"');
        }
        None => put(out, b"\",\"client.address\":null"),
    }
    some_text(out, b",\"enduser.id\":\"", line.identity.as_deref());
    some_word(out, b",\"identity_from\":\"", summary.identity_from);
    word(out, b",\"request_id\":\"", line.request_id);
    match line.method {
        "GET" => put(out, b",\"http.request.method\":\"GET\""),
        method => word(out, b",\"http.request.method\":\"", method),
    }
    let (host, port) = parted(line.host);
    text(out, b",\"server.address\":\"", host);
    if let Some(port) = port {
        number(out, b",\"server.port\":", u64::from(port));
    }
    match summary.scheme {
        "http" => put(out, b",\"url.scheme\":\"http\""),
        scheme => word(out, b",\"url.scheme\":\"", scheme),
    }
    let (path, query) = parted_path(&line.path);
    text(out, b",\"url.path\":\"", path);
    some_text(out, b",\"url.query\":\"", query);
    match summary.protocol.strip_prefix("HTTP/") {
        Some("1.1") => put(out, b",\"network.protocol.version\":\"1.1\""),
        version => word(
            out,
            b",\"network.protocol.version\":\"",
            version.unwrap_or_default(),
        ),
    }
    if let Some(version) = summary.tls {
        let version = version.trim_start_matches("TLSv");
        word(out, b",\"tls.protocol.version\":\"", version);
        some_text(out, b",\"tls.cipher\":\"", line.cipher);
    }
    if let Some(agent) = line.user_agent {
        bytes(out, b",\"user_agent.original\":\"", agent);
    }
    text_or_null(out, b",\"http.route\":\"", line.route);
    text_or_null(out, b",\"upstream\":\"", line.upstream);
    text_or_null(out, b",\"backend\":\"", line.backend());
    put(out, b",\"tries\":[");
    for (number, one) in line.tries.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        attempt(out, one);
    }
    out.push(b']');
    match summary.cache {
        Some("hit") => put(out, b",\"cache\":\"hit\""),
        cache => some_word(out, b",\"cache\":\"", cache),
    }
    some_word(out, b",\"retry\":\"", summary.retry);
    some_word(out, b",\"refused\":\"", summary.refused);
    some_word(out, b",\"error.type\":\"", summary.error);
    number(
        out,
        b",\"http.response.status_code\":",
        u64::from(summary.status),
    );
    if summary.received > 0 {
        number(
            out,
            b",\"http.request.body.size\":",
            summary.received as u64,
        );
    }
    number(out, b",\"http.response.body.size\":", summary.bytes as u64);
    if let Some(idle) = summary.idle {
        millis(out, b",\"idle_ms\":", idle);
    }
    millis(out, b",\"duration_ms\":", summary.lasted);
    if summary.trace.is_some() || summary.sample.is_some() {
        seldom(out, summary);
    }
    out.push(b'}');
}

/// What few lines have.
#[cold]
fn seldom(out: &mut Vec<u8>, summary: &Summary) {
    if let Some(trace) = summary.trace {
        // Writing to memory does not fail.
        let _ = write!(
            out,
            ",\"trace_id\":\"{:032x}\",\"span_id\":\"{:016x}\"",
            trace.id, trace.span
        );
    }
    if let Some(sample) = summary.sample {
        put(out, b",\"sample\":");
        // A `Vec` takes everything.
        let _ = serde_json::to_writer(&mut *out, &sample);
    }
}

fn attempt(out: &mut Vec<u8>, one: &TryLine<'_>) {
    text(out, b"{\"backend\":\"", one.backend);
    put(out, b",\"outcome\":\"");
    out.extend_from_slice(one.summary.outcome.word().as_bytes());
    if let Outcome::Failed(Failure::Status(status)) = one.summary.outcome {
        out.push(b' ');
        out.extend_from_slice(status.as_str().as_bytes());
    }
    millis(out, b"\",\"ms\":", one.summary.took);
    millis(out, b",\"waited_ms\":", one.summary.waited);
    // Less than the clock shows is what it takes to find out that there is nothing to wait for.
    if one.summary.queued >= Duration::from_millis(1) {
        millis(out, b",\"queued_ms\":", one.summary.queued);
    }
    if let Some(connected) = one.summary.connected {
        millis(out, b",\"connect_ms\":", connected);
    }
    if let Some(first_byte) = one.summary.first_byte {
        millis(out, b",\"first_byte_ms\":", first_byte);
    }
    out.push(b'}');
}

/// Path and query of a target.
pub(super) fn parted_path(target: &str) -> (&str, Option<&str>) {
    match has(target, b'?').then(|| target.split_once('?')).flatten() {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// Host and port of an authority.
pub(super) fn parted(authority: &str) -> (&str, Option<u16>) {
    let whole = (authority, None);
    let (mut port, mut unit) = (0, 1);
    // From its end on, no farther than a port is long.
    for (at, byte) in authority.bytes().enumerate().rev().take(6) {
        match byte {
            b'0'..=b'9' if unit <= 10_000 => {
                port += unit * u32::from(byte - b'0');
                unit *= 10;
            }
            b':' if unit > 1 => {
                let (host, _) = authority.split_at(at);
                // A colon of an address is not before a port.
                let is_host = host.ends_with(']') || !has(host, b':');
                let port = u16::try_from(port).ok().filter(|_| is_host);
                return port.map_or(whole, |port| (host, Some(port)));
            }
            _ => break,
        }
    }
    whole
}

/// Appends these bytes. How many there are is known when it is compiled, so that they are stored and no loop copies them.
#[inline]
fn put<const N: usize>(out: &mut Vec<u8>, bytes: &[u8; N]) {
    out.extend_from_slice(bytes);
}

/// A field whose value is a text. `name`: up to the quote before the value, here and below.
#[inline]
fn text<const N: usize>(out: &mut Vec<u8>, name: &[u8; N], text: &str) {
    bytes(out, name, text.as_bytes());
}

/// One that is left out where there is nothing to say.
#[inline]
fn some_text<const N: usize>(out: &mut Vec<u8>, name: &[u8; N], value: Option<&str>) {
    if let Some(value) = value {
        text(out, name, value);
    }
}

/// One that says that there is nothing.
#[inline]
fn text_or_null<const N: usize>(out: &mut Vec<u8>, name: &[u8; N], value: Option<&str>) {
    match value {
        Some(value) => text(out, name, value),
        None => {
            out.extend_from_slice(name.strip_suffix(b"\"").unwrap_or(name));
            put(out, b"null");
        }
    }
}

/// A field whose value is a word in which nothing can need escaping: one of ours, a method, which is a token (RFC 9110 §5.6.2),
/// an id of a request, which has letters, digits and what joins them.
#[inline]
fn word<const N: usize>(out: &mut Vec<u8>, name: &[u8; N], word: &str) {
    debug_assert!(is_plain(word.as_bytes()));
    put(out, name);
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// One that is left out where there is nothing to say.
#[inline]
fn some_word<const N: usize>(out: &mut Vec<u8>, name: &[u8; N], value: Option<&'static str>) {
    if let Some(value) = value {
        word(out, name, value);
    }
}

/// A field whose value should be a text.
#[inline]
fn bytes<const N: usize>(out: &mut Vec<u8>, name: &[u8; N], bytes: &[u8]) {
    put(out, name);
    match is_plain(bytes) {
        true => out.extend_from_slice(bytes),
        false => escape(out, bytes),
    }
    out.push(b'"');
}

#[cold]
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    text.chars().for_each(|char| escaped(out, char));
}

/// Whether nothing in it is part of something that needs escaping: no byte may be below a space, beyond ASCII, a quote, a
/// backslash or 0x7f.
fn is_plain(text: &[u8]) -> bool {
    !eights::has(text, b' ', |eight| {
        let marks = is(eight, b'"') | is(eight, b'\\') | is(eight, 0x7f);
        eight | below(eight, 0x20) | marks
    })
}

/// Whether a byte of ASCII, which is no space, is in it.
fn has(text: &str, byte: u8) -> bool {
    eights::has(text.as_bytes(), b' ', |eight| is(eight, byte))
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

/// A field whose value is a number. `name`: up to the colon, here and below.
#[inline]
fn number<const N: usize>(out: &mut Vec<u8>, name: &[u8; N], number: u64) {
    put(out, name);
    digits(out, number);
}

fn digits(out: &mut Vec<u8>, number: u64) {
    match u8::try_from(number) {
        Ok(digit @ 0..10) => out.push(b'0' + digit),
        _ => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
    }
}

/// A field whose value is a time in milliseconds.
#[inline]
fn millis<const N: usize>(out: &mut Vec<u8>, name: &[u8; N], time: Duration) {
    put(out, name);
    in_millis(out, time);
}

/// That as a number that has a point and no needless zeros.
fn in_millis(out: &mut Vec<u8>, time: Duration) {
    let micros = micros(time);
    digits(out, micros / 1000);
    let rest = (micros % 1000) as u32;
    let digit = |number: u32| b'0' + (number % 10) as u8;
    let three = [digit(rest / 100), digit(rest / 10), digit(rest)];
    let needless = match three {
        [_, b'0', b'0'] => 2,
        [_, _, b'0'] => 1,
        _ => 0,
    };
    out.push(b'.');
    // As many as are known when it is compiled, which are stored and not copied.
    out.extend_from_slice(&three);
    out.truncate(out.len() - needless);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::access_log::TrySummary;
    use crate::observe::pending::Pending;
    use http::StatusCode;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::net::IpAddr;
    use std::time::Duration;

    /// How it is written at once, and with others later.
    fn line(line: &Line<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, line);
        let mut pending = Pending::default();
        let mut lines = Vec::new();
        // What an earlier one left must not show.
        for _ in 0..2 {
            lines.clear();
            for one in [line, &Line::default(), line] {
                pending.push(one);
            }
            assert_eq!(pending.write(&mut lines, &Default::default(), write), 0);
        }
        let mut nothing = Vec::new();
        write(&mut nothing, &Line::default());
        assert_eq!(lines, [&*out, &*nothing, &*out].concat());
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
    fn a_byte_is_found_wherever_it_stands() {
        for length in 0..20 {
            for at in 0..length {
                let mut text = "\u{7f}a:b".repeat(5)[..length].replace(':', ";");
                assert!(!has(&text, b':'), "{text}");
                text.replace_range(at..=at, ":");
                assert!(has(&text, b':'), "{text}");
            }
        }
        assert!(!has("\u{3a3a}\u{ba}", b':'));
    }

    #[test]
    fn times() {
        for (nanos, text) in [
            (0, "0.0"),
            (499, "0.0"),
            (500, "0.001"),
            (1_000_000, "1.0"),
            (100_000, "0.1"),
            (12_340_000, "12.34"),
            (999_999_000, "999.999"),
            (999_999_600, "1000.0"),
            (1_234_567_500_000, "1234567.5"),
        ] {
            let mut out = Vec::new();
            millis(&mut out, b"", Duration::from_nanos(nanos));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    fn empty() -> Line<'static> {
        Line {
            summary: Summary {
                began: Duration::from_secs(1_795_910_400),
                protocol: "HTTP/2",
                scheme: "http",
                status: 200,
                ..Summary::default()
            },
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
    fn all_that_a_line_can_have_in_its_order() {
        let ms = Duration::from_millis;
        let one = |outcome| TryLine {
            backend: "10.0.0.1:80",
            summary: TrySummary {
                outcome,
                took: ms(12),
                waited: ms(100),
                queued: ms(2),
                connected: Some(ms(1)),
                first_byte: Some(ms(10)),
                status: None,
                span: 0,
                began: Duration::ZERO,
            },
        };
        let written = line(&Line {
            summary: Summary {
                client: Some(IpAddr::from([192, 0, 2, 255])),
                identity_from: Some("basic_unverified"),
                tls: Some("TLSv1.3"),
                cache: Some("miss"),
                retry: Some("answered"),
                refused: Some("blocked"),
                error: Some("http_response_timeout"),
                status: 499,
                received: 7,
                bytes: 1024,
                idle: Some(ms(5)),
                lasted: Duration::from_micros(1_234_560),
                sample: Some(0.5),
                ..empty().summary
            },
            identity: Some("an\"n".into()),
            request_id: "r-1",
            method: "GET",
            host: "a.example:8080",
            path: "/a\u{1b}?b=c".into(),
            cipher: Some("TLS_AES_128_GCM_SHA256"),
            user_agent: Some(b"curl"),
            route: Some("all"),
            upstream: Some("pool"),
            tries: vec![
                one(Outcome::Failed(Failure::Status(StatusCode::BAD_GATEWAY))),
                one(Outcome::Ok),
            ],
            ..empty()
        });
        assert_eq!(
            String::from_utf8(written).unwrap(),
            concat!(
                r#"{"time":"2026-11-29T00:00:00.000Z","client.address":"192.0.2.255","enduser.id":"an\"n","identity_from":"basic_unverified","#,
                r#""request_id":"r-1","http.request.method":"GET","server.address":"a.example","server.port":8080,"url.scheme":"http","#,
                r#""url.path":"/a\u001b","url.query":"b=c","network.protocol.version":"2","tls.protocol.version":"1.3","#,
                r#""tls.cipher":"TLS_AES_128_GCM_SHA256","user_agent.original":"curl","http.route":"all","upstream":"pool","backend":"10.0.0.1:80","#,
                r#""tries":[{"backend":"10.0.0.1:80","outcome":"status 502","ms":12.0,"waited_ms":100.0,"queued_ms":2.0,"connect_ms":1.0,"first_byte_ms":10.0},"#,
                r#"{"backend":"10.0.0.1:80","outcome":"ok","ms":12.0,"waited_ms":100.0,"queued_ms":2.0,"connect_ms":1.0,"first_byte_ms":10.0}],"#,
                r#""cache":"miss","retry":"answered","refused":"blocked","error.type":"http_response_timeout","http.response.status_code":499,"#,
                r#""http.request.body.size":7,"http.response.body.size":1024,"idle_ms":5.0,"duration_ms":1234.56,"sample":0.5}"#
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
            ("a:", ("a:", None)),
            (":80", ("", Some(80))),
            ("a:65535", ("a", Some(65535))),
            ("a:65536", ("a:65536", None)),
            ("a:000080", ("a:000080", None)),
            ("1234567", ("1234567", None)),
            ("ä:1", ("ä", Some(1))),
            ("::1:80", ("::1:80", None)),
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
            let times = [ms, waited, queued].map(|micros| Duration::from_micros(u64::from(micros)));
            let connected = (tries > 1).then_some(times[1]);
            let summary = TrySummary { outcome, took: times[0], waited: times[1], queued: times[2], connected, first_byte: Some(times[0]), status: None, span: 0, began: Duration::ZERO };
            let one = || TryLine { backend: &label, summary };
            let given = Line {
                summary: Summary {
                    client,
                    identity_from: Some("basic"),
                    tls: Some("TLSv1.3"),
                    cache: Some("hit"),
                    error: Some("connection_refused"),
                    status,
                    received: 7,
                    bytes,
                    idle: Some(times[2]),
                    lasted: times[0],
                    sample: Some(0.25),
                    ..empty().summary
                },
                identity: Some(identity.clone()),
                host: &host,
                path: path.as_str().into(),
                cipher: Some(&label),
                user_agent: Some(agent.as_bytes()),
                route: Some(&host),
                tries: (0..tries).map(|_| one()).collect(),
                ..empty()
            };
            let written = line(&given);
            let shown = std::str::from_utf8(&written).unwrap();
            let acts = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
            prop_assert!(!shown.contains(acts), "{}", shown);
            let read: Value = serde_json::from_slice(&written).unwrap();
            let [ms, waited, queued] = times.map(|time| time.as_micros() as f64 / 1e3);
            let mut attempt = json!({ "backend": label, "outcome": outcome.to_string(), "ms": ms, "waited_ms": waited });
            if queued >= 1.0 {
                attempt["queued_ms"] = json!(queued);
            }
            if connected.is_some() {
                attempt["connect_ms"] = json!(waited);
            }
            attempt["first_byte_ms"] = json!(ms);
            let (address, port) = parted(&host);
            let mut expected = json!({
                "time": "2026-11-29T00:00:00.000Z", "client.address": client, "enduser.id": identity, "identity_from": "basic",
                "request_id": "", "http.request.method": "", "server.address": address, "url.scheme": "http",
                "url.path": path.split('?').next(), "network.protocol.version": "2", "tls.protocol.version": "1.3",
                "tls.cipher": label, "user_agent.original": agent, "http.route": host, "upstream": null, "backend": (tries > 0).then_some(&label),
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
