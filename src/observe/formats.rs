//! The access log in the forms that other programs read: nginx's `combined`, the common log format, and AWS's for its load
//! balancers.
//!
//! Whatever clients send is escaped as the program that is imitated does it: nobody can begin a line of their own, or end a
//! quoted field. Decides nothing.

use super::access_log::{Line, stamp};
use super::identity::BASIC;
use super::template::Template;
use http::HeaderMap;
use jiff::Timestamp;
use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// An object of JSON each.
    Json,
    /// As nginx writes its `combined`.
    Combined,
    /// The same without the last two fields, as Apache's common log format.
    Clf,
    /// As an Application Load Balancer of AWS.
    Alb,
    /// As the operator wants it.
    Template(Arc<Template>),
}

/// What only these forms have.
#[derive(Debug, Default)]
pub struct More<'a> {
    /// When the request ended, since the epoch.
    pub ended: Duration,
    /// As the client sent it, but for what is left out of queries.
    pub referer: Option<Cow<'a, [u8]>>,
    /// At the other end of the connection.
    pub client_port: Option<u16>,
    /// `http`, `https`, `h2`, `ws` or `wss`.
    pub kind: &'static str,
    /// Bytes of the request.
    pub received: usize,
    /// Bytes of the head of the response, as HTTP/1.1 writes it.
    pub head_sent: usize,
    /// Until the request went to the backend that answered last, if it went there, and from then until the head of its answer came,
    /// if it did.
    pub processing: Option<(Duration, Option<Duration>)>,
    /// Where a client was sent that is to ask elsewhere, by this program itself.
    pub redirect: Option<Cow<'a, str>>,
    /// Of each try: its backend and the status it answered with, if it did.
    pub answers: Vec<(&'a str, Option<u16>)>,
    /// The name that the client asked for in its handshake.
    pub server_name: Option<&'a str>,
    /// The head of the request.
    pub headers: Option<&'a HeaderMap>,
}

impl More<'static> {
    /// None of it.
    pub const NOTHING: Self = More {
        ended: Duration::ZERO,
        referer: None,
        client_port: None,
        kind: "",
        received: 0,
        head_sent: 0,
        processing: None,
        redirect: None,
        answers: Vec::new(),
        server_name: None,
        headers: None,
    };
}

/// What OpenSSL calls a cipher that IANA calls so.
fn by_openssl(cipher: &str) -> Cow<'_, str> {
    // Those of TLS 1.3 have one name.
    let Some((exchange, rest)) = cipher
        .strip_prefix("TLS_")
        .and_then(|c| c.split_once("_WITH_"))
    else {
        return Cow::Borrowed(cipher);
    };
    let rest = rest
        .replace("AES_", "AES")
        .replace("_POLY1305_SHA256", "_POLY1305");
    Cow::Owned(format!("{exchange}_{rest}").replace('_', "-"))
}

/// Writes a line as nginx's `combined`: `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent
/// "$http_referer" "$http_user_agent"`; `most` is how many of the last two fields it has. Times are UTC.
#[inline(never)] // What writes JSON is to lie close together.
pub fn combined(line: &Line<'_>, with_agent: bool) -> String {
    let more = line.more();
    let mut out = String::with_capacity(256);
    match line.summary.client {
        Some(client) => push(&mut out, client),
        None => out.push('-'),
    }
    out.push_str(" - ");
    let user = line
        .identity
        .as_deref()
        .filter(|_| matches!(line.summary.identity_from, Some(BASIC | "basic")));
    nginx(&mut out, user.map(str::as_bytes));
    out.push_str(" [");
    clock(&mut out, more.ended);
    out.push_str("] \"");
    if line.method.is_empty() {
        out.push('-');
    } else {
        nginx(&mut out, Some(line.method.as_bytes()));
        out.push(' ');
        nginx(&mut out, Some(line.path.as_bytes()));
        out.push(' ');
        out.push_str(if line.summary.protocol == "HTTP/2" {
            "HTTP/2.0"
        } else {
            line.summary.protocol
        });
    }
    let _ = write!(out, "\" {} {}", line.summary.status, line.summary.bytes);
    if with_agent {
        for field in [more.referer.as_deref(), line.user_agent] {
            out.push_str(" \"");
            nginx(&mut out, field);
            out.push('"');
        }
    }
    out
}

fn push(out: &mut String, ip: IpAddr) {
    let _ = write!(out, "{ip}");
}

/// `26/Nov/2026:03:40:00 +0000`.
fn clock(out: &mut String, since: Duration) {
    let at = i64::try_from(since.as_secs())
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok());
    let _ = write!(
        out,
        "{}",
        at.unwrap_or_default().strftime("%d/%b/%Y:%H:%M:%S +0000")
    );
}

/// As nginx escapes (`escape=default`).
pub(super) fn nginx(out: &mut String, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
        return out.push('-');
    };
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            byte => out.push(char::from(byte)),
        }
    }
}

/// Writes a line as an Application Load Balancer does. What there is no such thing as here is `-`.
#[inline(never)]
pub fn alb(line: &Line<'_>) -> String {
    let more = line.more();
    let mut out = String::with_capacity(512);
    let ended = more.ended;
    let _ = write!(out, "{} {} backstop ", more.kind, micros(ended));
    match (line.summary.client, more.client_port) {
        (Some(client), port) => {
            let _ = write!(out, "{}:{} ", bracketed(client), port.unwrap_or(0));
        }
        (None, _) => out.push_str("- "),
    }
    let (last, status) = more
        .answers
        .last()
        .map_or(("-", None), |(backend, status)| (*backend, *status));
    let _ = write!(out, "{last} ");
    match more.processing {
        // The answer goes on as soon as it is there.
        Some((before, Some(answered))) => {
            let _ = write!(out, "{} {} 0.000 ", seconds(before), seconds(answered));
        }
        Some((before, None)) => {
            let _ = write!(out, "{} -1 -1 ", seconds(before));
        }
        None => out.push_str("-1 -1 -1 "),
    }
    let code = |status: Option<u16>| status.map_or_else(|| "-".to_string(), |s| s.to_string());
    // AWS knows 460 for a client that left.
    let seen = if line.summary.status == 499 {
        460
    } else {
        line.summary.status
    };
    let _ = write!(
        out,
        "{seen} {} {} {} \"",
        code(status),
        more.received,
        more.head_sent + line.summary.bytes
    );
    if line.method.is_empty() {
        out.push_str("- - -");
    } else {
        let port = if line.summary.scheme == "https" {
            443
        } else {
            80
        };
        let host = line.host;
        quoted(&mut out, line.method);
        let _ = write!(out, " {}://", line.summary.scheme);
        quoted(&mut out, host);
        if !has_port(host) {
            let _ = write!(out, ":{port}");
        }
        quoted(&mut out, &line.path);
        let _ = write!(
            out,
            " {}",
            if line.summary.protocol == "HTTP/2" {
                "HTTP/2.0"
            } else {
                line.summary.protocol
            }
        );
    }
    out.push_str("\" \"");
    match line.user_agent {
        Some(agent) if !agent.is_empty() => quoted(&mut out, &String::from_utf8_lossy(agent)),
        _ => out.push('-'),
    }
    let cipher = line.cipher.map_or(Cow::Borrowed("-"), by_openssl);
    let version = line.summary.tls.unwrap_or("-");
    let _ = write!(out, "\" {cipher} {version} ");
    match line.upstream {
        Some(upstream) => quoted(&mut out, &upstream.replace(' ', "_")),
        None => out.push('-'),
    }
    let _ = write!(
        out,
        " \"Root={}\" \"",
        if line.request_id.is_empty() {
            "-"
        } else {
            line.request_id
        }
    );
    match more.server_name {
        Some(name) => quoted(&mut out, name),
        None => out.push('-'),
    }
    let began = ended.saturating_sub(line.summary.lasted);
    let action = match (line.upstream, &more.redirect, line.method) {
        (Some(_), ..) => "forward",
        (None, Some(_), _) => "redirect",
        // What is no request came to no rule.
        (None, None, "") => "-",
        (None, None, _) => "fixed-response",
    };
    let _ = write!(out, "\" \"-\" 0 {} \"{action}\" \"", micros(began));
    match &more.redirect {
        Some(to) => quoted(&mut out, to),
        None => out.push('-'),
    }
    out.push_str("\" \"-\" \"");
    // Of several, no space between: the published table takes none.
    let list = |parts: Vec<String>| match parts.is_empty() {
        true => "-".to_string(),
        false => parts.join(","),
    };
    let backends = more
        .answers
        .iter()
        .map(|(backend, _)| (*backend).to_string());
    let statuses = more.answers.iter().map(|(_, status)| code(*status));
    out.push_str(&list(backends.collect()));
    out.push_str("\" \"");
    out.push_str(&list(statuses.collect()));
    out.push_str("\" \"-\" \"-\"");
    out
}

fn has_port(host: &str) -> bool {
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after.contains(':')
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

/// RFC 3339 to the microsecond.
fn micros(at: Duration) -> String {
    let micros = at.subsec_micros();
    let text = stamp(at);
    let to_seconds = text
        .rsplit_once('.')
        .map_or(text.as_str(), |(seconds, _)| seconds);
    format!("{to_seconds}.{micros:06}Z")
}

/// What may stand in a quoted field: no quote, no control character, no line end.
fn quoted(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                let _ = write!(out, "\\x{:02X}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02X}", c as u32);
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::access_log::Summary;

    fn line<'a>(user_agent: &'a [u8], more: More<'a>) -> Line<'a> {
        Line {
            summary: Summary {
                client: Some("203.0.113.7".parse().unwrap()),
                identity_from: Some(BASIC),
                scheme: "http",
                protocol: "HTTP/1.1",
                status: 200,
                bytes: 12,
                lasted: Duration::from_millis(1500),
                ..Summary::default()
            },
            identity: Some("ann".into()),
            request_id: "abc",
            method: "GET",
            host: "api.example",
            path: "/a?b=\"c\"".into(),
            user_agent: Some(user_agent),
            upstream: Some("the pool"),
            more: Some(Box::new(more)),
            ..Line::default()
        }
    }

    fn more<'a>() -> More<'a> {
        More {
            ended: Duration::from_micros(1_764_122_400_000_123),
            client_port: Some(4711),
            kind: "http",
            received: 99,
            processing: Some((Duration::from_millis(2), Some(Duration::from_millis(1400)))),
            head_sent: 100,
            answers: vec![("10.0.0.1:80", Some(500)), ("10.0.0.2:80", Some(200))],
            ..More::default()
        }
    }

    #[test]
    fn ciphers() {
        for (iana, openssl) in [
            ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
            (
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "ECDHE-RSA-AES128-GCM-SHA256",
            ),
            (
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "ECDHE-ECDSA-AES256-GCM-SHA384",
            ),
            (
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
                "ECDHE-RSA-CHACHA20-POLY1305",
            ),
        ] {
            assert_eq!(by_openssl(iana), openssl);
        }
    }

    #[test]
    fn nobody_ends_a_field_or_a_line() {
        let line = line(b"a \"quoted\"\n\x80 agent", more());
        assert_eq!(
            combined(&line, true),
            "203.0.113.7 - ann [26/Nov/2025:02:00:00 +0000] \"GET /a?b=\\x22c\\x22 HTTP/1.1\" 200 12 \"-\" \"a \\x22quoted\\x22\\x0A\\x80 agent\""
        );
        assert_eq!(
            combined(&line, false),
            "203.0.113.7 - ann [26/Nov/2025:02:00:00 +0000] \"GET /a?b=\\x22c\\x22 HTTP/1.1\" 200 12"
        );
        let alb = alb(&line);
        assert_eq!(alb.lines().count(), 1);
        assert_eq!(alb.matches('"').count(), 24, "{alb}");
    }

    #[test]
    fn a_line_of_a_load_balancer() {
        let mut line = line(b"curl/8", more());
        line.path = "/a".into();
        assert_eq!(
            alb(&line),
            "http 2025-11-26T02:00:00.000123Z backstop 203.0.113.7:4711 10.0.0.2:80 0.002 1.400 0.000 200 200 99 112 \
             \"GET http://api.example:80/a HTTP/1.1\" \"curl/8\" - - the_pool \"Root=abc\" \"-\" \"-\" 0 2025-11-26T01:59:58.500123Z \
             \"forward\" \"-\" \"-\" \"10.0.0.1:80,10.0.0.2:80\" \"500,200\" \"-\" \"-\""
        );
    }
}
