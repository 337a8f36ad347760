//! A line of the access log of the operator's own making: a text with the fields of the JSON log in braces.
//!
//! Whatever clients send is escaped as nginx does it: nobody can begin a line of their own, or end a quoted field.

use super::access_log::{Line, TryLine, millis, stamp};
use super::formats::nginx;
use super::json::parted;
use crate::policy::redact::Redaction;
use crate::policy::template::{Part, parts};
use http::{HeaderName, HeaderValue};
use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// Before the name of a field of the request's head, as OpenTelemetry has it.
const HEADER: &str = "http.request.header.";
/// What is in the names of fields that are secrets, or may be, and are never in a log.
const SECRETS: [&str; 12] = [
    "auth",
    "cookie",
    "token",
    "secret",
    "passw",
    "key",
    "credential",
    "session",
    "signature",
    "jwt",
    "oidc",
    // Where browsers put what they cannot put into `Authorization`.
    "sec-websocket-protocol",
];
/// What is no secret though it is called so.
const NO_SECRETS: [&str; 1] = ["idempotency-key"];

fn may_be_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    !NO_SECRETS.contains(&name) && SECRETS.iter().any(|secret| name.contains(secret))
}

/// A field of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Time,
    Client,
    ClientPort,
    Identity,
    IdentityFrom,
    RequestId,
    Method,
    Host,
    Port,
    Scheme,
    Path,
    Query,
    Protocol,
    Tls,
    Cipher,
    UserAgent,
    Route,
    Upstream,
    Backend,
    Tries,
    Outcomes,
    Cache,
    Retry,
    Refused,
    Error,
    Status,
    Received,
    Sent,
    Idle,
    Queued,
    Waited,
    Connect,
    FirstByte,
    Duration,
    Sample,
    TraceId,
    SpanId,
    Header(HeaderName),
}

/// Every field under its name, but for those of the head.
const FIELDS: [(&str, Field); 37] = [
    ("time", Field::Time),
    ("client.address", Field::Client),
    ("client.port", Field::ClientPort),
    ("enduser.id", Field::Identity),
    ("identity_from", Field::IdentityFrom),
    ("request_id", Field::RequestId),
    ("http.request.method", Field::Method),
    ("server.address", Field::Host),
    ("server.port", Field::Port),
    ("url.scheme", Field::Scheme),
    ("url.path", Field::Path),
    ("url.query", Field::Query),
    ("network.protocol.version", Field::Protocol),
    ("tls.protocol.version", Field::Tls),
    ("tls.cipher", Field::Cipher),
    ("user_agent.original", Field::UserAgent),
    ("http.route", Field::Route),
    ("upstream", Field::Upstream),
    ("backend", Field::Backend),
    ("tries", Field::Tries),
    ("outcomes", Field::Outcomes),
    ("cache", Field::Cache),
    ("retry", Field::Retry),
    ("refused", Field::Refused),
    ("error.type", Field::Error),
    ("http.response.status_code", Field::Status),
    ("http.request.body.size", Field::Received),
    ("http.response.body.size", Field::Sent),
    ("idle_ms", Field::Idle),
    ("queued_ms", Field::Queued),
    ("waited_ms", Field::Waited),
    ("connect_ms", Field::Connect),
    ("first_byte_ms", Field::FirstByte),
    ("duration_ms", Field::Duration),
    ("sample", Field::Sample),
    ("trace_id", Field::TraceId),
    ("span_id", Field::SpanId),
];

/// How lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part<Field>>,
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// A field that there is not, or that is a secret, or a brace without its partner.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains(['\n', '\r']) {
            return Err("a line has no line end in it".to_owned());
        }
        let parts = parts(text, find).map_err(|e| {
            let names = FIELDS.iter().map(|(name, _)| *name);
            e.told(names.chain(["http.request.header.NAME"]))
        })?;
        for part in &parts {
            if let Part::Variable(Field::Header(name)) = part
                && may_be_secret(name)
            {
                return Err(format!(
                    "{HEADER}{name} may be a secret, and is never in the log"
                ));
            }
        }
        Ok(Template {
            source: text.to_owned(),
            parts,
        })
    }

    /// As written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The line, without its end. What is left out of queries is left out of the fields of the head, too.
    pub fn line(&self, line: &Line<'_>, redaction: &Redaction) -> String {
        let mut out = String::with_capacity(256);
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Variable(field) => field.write(line, redaction, &mut out),
            }
        }
        out
    }
}

fn find(name: &str) -> Option<Field> {
    if let Some(header) = name.strip_prefix(HEADER) {
        return HeaderName::try_from(header).ok().map(Field::Header);
    }
    let mut known = FIELDS.iter();
    known
        .find(|(known, _)| *known == name)
        .map(|(_, field)| field.clone())
}

impl Field {
    fn write(&self, line: &Line<'_>, redaction: &Redaction, out: &mut String) {
        let path = || line.path.split_once('?').unwrap_or((&line.path, ""));
        let sum = |of: fn(&TryLine<'_>) -> Option<Duration>| {
            let mut times = line.tries.iter().filter_map(of).peekable();
            times.peek()?;
            Some(times.sum::<Duration>())
        };
        match self {
            Field::Time => out.push_str(&stamp(line.summary.began)),
            Field::Client => number(out, line.summary.client),
            Field::ClientPort => number(out, line.more().client_port),
            Field::Identity => word(out, line.identity.as_deref()),
            Field::IdentityFrom => word(out, line.summary.identity_from),
            Field::RequestId => word(out, Some(line.request_id)),
            Field::Method => word(out, Some(line.method)),
            Field::Host => word(out, Some(parted(line.host).0)),
            Field::Port => number(out, parted(line.host).1),
            Field::Scheme => word(out, Some(line.summary.scheme)),
            Field::Path => word(out, Some(path().0)),
            Field::Query => word(out, Some(path().1)),
            Field::Protocol => word(out, line.summary.protocol.strip_prefix("HTTP/")),
            Field::Tls => word(
                out,
                line.summary.tls.map(|tls| tls.trim_start_matches("TLSv")),
            ),
            Field::Cipher => word(out, line.cipher),
            Field::UserAgent => nginx(out, line.user_agent),
            Field::Route => word(out, line.route),
            Field::Upstream => word(out, line.upstream),
            Field::Backend => word(out, line.backend()),
            Field::Tries => number(out, Some(line.tries.len())),
            Field::Outcomes => {
                let outcomes = line.tries.iter().map(|one| one.summary.outcome.to_string());
                word(out, Some(&outcomes.collect::<Vec<_>>().join(", ")));
            }
            Field::Cache => word(out, line.summary.cache),
            Field::Retry => word(out, line.summary.retry),
            Field::Refused => word(out, line.summary.refused),
            Field::Error => word(out, line.summary.error),
            Field::Status => number(out, Some(line.summary.status)),
            Field::Received => number(out, Some(line.summary.received)),
            Field::Sent => number(out, Some(line.summary.bytes)),
            Field::Idle => time(out, line.summary.idle),
            Field::Queued => time(out, sum(|one| Some(one.summary.queued))),
            Field::Waited => time(out, sum(|one| Some(one.summary.waited))),
            Field::Connect => time(out, sum(|one| one.summary.connected)),
            Field::FirstByte => time(out, sum(|one| one.summary.first_byte)),
            Field::Duration => time(out, Some(line.summary.lasted)),
            Field::Sample => number(out, line.summary.sample),
            Field::TraceId => word(
                out,
                line.summary
                    .trace
                    .map(|t| format!("{:032x}", t.id))
                    .as_deref(),
            ),
            Field::SpanId => word(
                out,
                line.summary
                    .trace
                    .map(|t| format!("{:016x}", t.span))
                    .as_deref(),
            ),
            Field::Header(name) => {
                let value = line.more().headers.and_then(|headers| headers.get(name));
                let value = value.map(HeaderValue::as_bytes);
                let text = value.map(String::from_utf8_lossy);
                match text.as_deref().map(|text| redaction.redact(text)) {
                    Some(Cow::Owned(told)) => word(out, Some(&told)),
                    // As it came, whatever its bytes are.
                    _ => nginx(out, value),
                }
            }
        }
    }
}

fn word(out: &mut String, text: Option<&str>) {
    nginx(out, text.map(str::as_bytes));
}

fn number(out: &mut String, number: Option<impl std::fmt::Display>) {
    match number {
        // Writing to a `String` cannot fail.
        Some(number) => drop(write!(out, "{number}")),
        None => out.push('-'),
    }
}

/// In milliseconds.
fn time(out: &mut String, time: Option<Duration>) {
    number(out, time.map(millis));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::access_log::{Summary, TrySummary};
    use crate::observe::formats::More;
    use crate::policy::outcome::Outcome;
    use crate::policy::retry::Failure;
    use http::{HeaderMap, StatusCode};

    fn one(outcome: Outcome) -> TryLine<'static> {
        TryLine {
            backend: "10.0.0.1:80",
            summary: TrySummary {
                outcome,
                took: Duration::from_millis(1),
                waited: Duration::from_micros(100),
                queued: Duration::from_micros(200),
                connected: None,
                first_byte: Some(Duration::from_micros(1500)),
                status: None,
                span: 0,
                began: Duration::ZERO,
            },
        }
    }

    #[test]
    fn fields_are_filled_in_and_escaped() {
        let mut headers = HeaderMap::new();
        headers.insert("x-tenant", "a\"b".parse().unwrap());
        headers.insert(
            "idempotency-key",
            http::HeaderValue::from_bytes(b"\xe9").unwrap(),
        );
        headers.insert("referer", "/r?token=x&page=2".parse().unwrap());
        headers.insert("x-original-url", "/r?a=b&token=x".parse().unwrap());
        let line = Line {
            summary: Summary {
                began: Duration::from_secs(1_795_910_400),
                client: Some("2001:db8::1".parse().unwrap()),
                protocol: "HTTP/1.1",
                status: 200,
                lasted: Duration::from_micros(3250),
                tls: Some("TLSv1.3"),
                sample: Some(0.5),
                ..Summary::default()
            },
            method: "GET",
            host: "[::1]:8080",
            path: "/a?b=c".into(),
            user_agent: Some(b"x\ny"),
            tries: vec![
                one(Outcome::Failed(Failure::Status(StatusCode::BAD_GATEWAY))),
                one(Outcome::Ok),
            ],
            more: Some(Box::new(More {
                headers: Some(&headers),
                ..More::default()
            })),
            ..Line::default()
        };
        let redaction = Redaction::new(vec!["token".to_owned()]);
        for (template, written) in [
            (
                "{time} {client.address} {{}}",
                "2026-11-29T00:00:00.000Z 2001:db8::1 {}",
            ),
            (
                "{server.address} {server.port} {url.path} {url.query}",
                "[::1] 8080 /a b=c",
            ),
            (
                "{tries} {outcomes} {waited_ms} {connect_ms}",
                "2 status 502, ok 0.2 -",
            ),
            ("{first_byte_ms} {queued_ms} {duration_ms}", "3 0.4 3.25"),
            (
                "\"{user_agent.original}\" {backend} {cache}",
                "\"x\\x0Ay\" 10.0.0.1:80 -",
            ),
            (
                "{http.request.header.X-Tenant} {http.request.header.none}",
                "a\\x22b -",
            ),
            ("{http.request.header.referer}", "/r?token=***&page=2"),
            ("{http.request.header.x-original-url}", "/r?a=b&token=***"),
            ("{http.request.header.idempotency-key}", "\\xE9"),
            ("{tls.protocol.version} {sample}", "1.3 0.5"),
        ] {
            assert_eq!(
                Template::parse(template).unwrap().line(&line, &redaction),
                written,
                "{template}"
            );
        }
    }

    #[test]
    fn secrets_and_what_there_is_not_are_refused() {
        for (template, why) in [
            ("{http.request.header.Cookie}", "may be a secret"),
            ("{http.request.header.authorization}", "may be a secret"),
            ("{http.request.header.X-Api-Key}", "may be a secret"),
            ("{http.request.header.x-amzn-oidc-data}", "may be a secret"),
            (
                "{status}",
                "there is no variable {status} (known: {time} {client.address}",
            ),
            ("{http.request.header.a b}", "there is no variable"),
            ("{time", "is never closed"),
            ("a\nb", "no line end"),
        ] {
            let told = Template::parse(template).unwrap_err();
            assert!(told.contains(why), "{template}: {told}");
        }
    }
}
