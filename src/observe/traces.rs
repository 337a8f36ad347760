//! Spans of requests and of their tries, sent by OTLP over HTTP to whoever collects them.
//!
//! As in the access log a request only puts what there is to say into a bounded queue; a thread of its own sends it, some at a time.
//! What is named as in OpenTelemetry's semantic conventions for HTTP is what they mean. Decides nothing: `policy::trace` says
//! which requests are recorded.

use super::access_log::{Line, TryLine, micros, millis};
use super::json::{parted, parted_path};
use super::outgoing::{Http, NoAnswer, in_words};
use crate::config;
use crate::policy::trace::Trace;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Collected, Full, Limited};
use log::{error, info, warn};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use percent_encoding::percent_decode_str;
use prost::Message as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Requests whose spans may wait.
const QUEUE: usize = 4096;
/// Spans that are sent at once, and how long the first of them waits for others.
const BATCH: usize = 512;
const GATHER: Duration = Duration::from_secs(1);
/// How often it is looked whether there are enough, or an end.
const LOOK: Duration = Duration::from_millis(50);
/// How long a collector may take, and how often it is asked to take the same, if it said or may have meant that it is busy.
const ANSWER: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 4;
/// The pause before the second attempt, half of which is up to chance; it doubles. And the longest that a collector may ask for.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Characters of a text that a client chooses.
const LONGEST: usize = 1024;
/// Field names and values that each request to the collector has, as OpenTelemetry has it: `name=value,name=value`.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// How far it is.
#[derive(Debug, Default)]
pub struct Sending {
    /// Spans that were taken.
    pub sent: AtomicU64,
    /// Spans that nobody will see, for want of room or because nobody took them.
    pub dropped: AtomicU64,
    /// Attempts to send some that failed.
    pub failures: AtomicU64,
}

/// Where requests put their spans; cheap to clone.
#[derive(Debug, Clone)]
pub struct Traces {
    queue: Sender<Message>,
    /// The share of requests that are recorded.
    share: f64,
    /// How far they are.
    pub sending: Arc<Sending>,
}

enum Message {
    Spans(Vec<Span>),
    Finish,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").finish_non_exhaustive()
    }
}

/// The sending end.
#[derive(Debug)]
pub struct Exporter {
    traces: Traces,
    thread: JoinHandle<()>,
}

impl Exporter {
    /// Starts its thread. Nobody is asked yet.
    ///
    /// # Errors
    /// When the environment has fields that are none, or there is no further thread.
    pub fn start(settings: &config::Traces) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let collector = Collector {
            address: settings.otlp.clone(),
            fields: fields(&std::env::var(HEADERS).unwrap_or_default())?,
            service: settings.service.clone(),
            http: Http::new(),
        };
        let (queue, spans) = channel(QUEUE);
        let sending = Arc::<Sending>::default();
        let counts = sending.clone();
        let thread = std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || runtime.block_on(collector.send_all(spans, &counts)))?;
        Ok(Exporter {
            traces: Traces {
                queue,
                share: settings.share,
                sending,
            },
            thread,
        })
    }

    /// A handle for requests.
    pub fn traces(&self) -> Traces {
        self.traces.clone()
    }

    /// Sends what is queued and ends; gives up on a collector that takes longer than that.
    pub fn finish(self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut message = Message::Finish;
        while let Err(TrySendError::Full(back)) = self.traces.queue.try_send(message) {
            if Instant::now() > deadline {
                return;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Traces {
    /// The place in its trace of a request with these fields; see [`Trace::begin`].
    pub fn begin(&self, headers: &HeaderMap, believed: bool) -> Trace {
        let dice = (fastrand::u128(..), fastrand::u64(..));
        Trace::begin(headers, believed, self.share, fastrand::f64(), dice)
    }

    /// Queues the spans of a request that ended; never waits.
    pub fn write(&self, line: &Line<'_>, trace: &Trace, what: Record) {
        let tries = (line.tries.len() + line.overtaken.len()) as u64;
        let count = match what {
            Record::All => 1 + tries,
            Record::Request => 1,
            Record::Tries => tries,
        };
        if count == 0 {
            return;
        }
        let Ok(place) = self.queue.try_reserve() else {
            self.sending.dropped.fetch_add(count, Ordering::Relaxed);
            return;
        };
        place.send(Message::Spans(spans(line, trace, what)));
    }
}

/// Which spans of a request there are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// Its own and those of its tries.
    All,
    /// Its own: its tries are those of a fill.
    Request,
    /// Those of its tries: it is a fill, of a request that has its own.
    Tries,
}

/// Who takes them.
struct Collector {
    address: String,
    fields: HeaderMap,
    service: String,
    http: Http<Full<Bytes>>,
}

/// Why some were not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("{}", in_words(.0))]
    NoAnswer(#[from] NoAnswer),
    #[error("it answers {0}")]
    Status(StatusCode, Option<Duration>),
    #[error("{0}")]
    Request(#[from] http::Error),
}

impl NotTaken {
    /// Whether the same may be taken later (OTLP, "Retryable Response Codes").
    fn is_for_now(&self) -> bool {
        match self {
            NotTaken::NoAnswer(_) => true,
            NotTaken::Status(status, _) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            NotTaken::Request(_) => false,
        }
    }
}

impl Collector {
    async fn send_all(&self, mut queue: Receiver<Message>, counts: &Sending) {
        let mut failing = false;
        // Those that were dropped here, or before the last look; and whether it was said that some are not wanted.
        let (mut known, mut rejecting) = (0, false);
        loop {
            let (batch, is_last) = gather(&mut queue).await;
            let dropped = counts.dropped.load(Ordering::Relaxed);
            if dropped > known && !failing {
                warn!(
                    "{} spans were dropped: they come faster than they are taken",
                    dropped - known
                );
            }
            let mut own = 0;
            if !batch.is_empty() {
                let count = batch.len() as u64;
                match self.send(batch, counts).await {
                    Ok((rejected, why)) => {
                        let taken = count.saturating_sub(rejected);
                        if rejected > 0 && !std::mem::replace(&mut rejecting, true) {
                            warn!("{} does not want all spans: {why}", self.address);
                        }
                        counts.sent.fetch_add(taken, Ordering::Relaxed);
                        counts.dropped.fetch_add(count - taken, Ordering::Relaxed);
                        own += count - taken;
                        if std::mem::take(&mut failing) {
                            info!("spans are taken by {} again", self.address);
                        }
                    }
                    Err(e) => {
                        counts.dropped.fetch_add(count, Ordering::Relaxed);
                        own += count;
                        if !std::mem::replace(&mut failing, true) {
                            error!("spans are lost until {} takes them: {e}", self.address);
                        }
                    }
                }
            }
            known = dropped + own;
            if is_last {
                return;
            }
        }
    }

    /// Says how many of them the collector did not want, and why.
    async fn send(&self, spans: Vec<Span>, counts: &Sending) -> Result<(u64, String), NotTaken> {
        let body = Bytes::from(self.wrap(spans).encode_to_vec());
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            let e = match self.offer(body.clone()).await {
                Ok(rejected) => return Ok(rejected),
                Err(e) => e,
            };
            counts.failures.fetch_add(1, Ordering::Relaxed);
            if attempt == ATTEMPTS || !e.is_for_now() {
                return Err(e);
            }
            let asked = match &e {
                NotTaken::Status(_, asked) => asked.map(|asked| asked.min(LONGEST_PAUSE)),
                _ => None,
            };
            let by_chance = pause.mul_f64(0.75 + fastrand::f64() / 2.0);
            tokio::time::sleep(asked.unwrap_or(by_chance)).await;
            pause *= 2;
            attempt += 1;
        }
    }

    async fn offer(&self, body: Bytes) -> Result<(u64, String), NotTaken> {
        let mut request = Request::post(&self.address)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(body))?;
        request.headers_mut().extend(self.fields.clone());
        let response = self.http.ask(request, ANSWER).await?;
        let status = response.status();
        let seconds = response.headers().get(header::RETRY_AFTER);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
        // Read to its end, so that the connection can be used again.
        let rest = Limited::new(response.into_body(), 64 * 1024);
        let rest = tokio::time::timeout(ANSWER, rest.collect()).await;
        if !status.is_success() {
            return Err(NotTaken::Status(status, seconds.map(Duration::from_secs)));
        }
        let said = rest.ok().and_then(Result::ok).map(Collected::to_bytes);
        let said = said.and_then(|said| ExportTraceServiceResponse::decode(said).ok());
        let partial = said
            .and_then(|said| said.partial_success)
            .unwrap_or_default();
        let why = cut(&partial.error_message).escape_debug().to_string();
        Ok((u64::try_from(partial.rejected_spans).unwrap_or(0), why))
    }

    fn wrap(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let attributes = vec![
            text("service.name", &self.service),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("host.name", &host),
            whole("process.pid", i64::from(std::process::id())),
        ];
        let scope = InstrumentationScope {
            name: "backstop".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..InstrumentationScope::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource {
                    attributes,
                    ..Resource::default()
                }),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        }
    }
}

/// Some spans, and whether they are the last.
async fn gather(queue: &mut Receiver<Message>) -> (Vec<Span>, bool) {
    let mut batch = Vec::new();
    let Some(Message::Spans(first)) = queue.recv().await else {
        return (batch, true);
    };
    batch.extend(first);
    // Others gather meanwhile: none of them wakes anybody.
    let until = tokio::time::Instant::now() + GATHER;
    loop {
        while batch.len() < BATCH {
            match queue.try_recv() {
                Ok(Message::Spans(spans)) => batch.extend(spans),
                Ok(Message::Finish) | Err(TryRecvError::Disconnected) => return (batch, true),
                Err(TryRecvError::Empty) => break,
            }
        }
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        if batch.len() >= BATCH || left.is_zero() {
            return (batch, false);
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

/// The fields that a text of the environment has.
fn fields(text: &str) -> io::Result<HeaderMap> {
    let mut fields = HeaderMap::new();
    for pair in text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let read = pair.split_once('=').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            // As in W3C Baggage.
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        // What it has is a secret.
        let (name, value) = read.ok_or_else(|| {
            io::Error::other(format!(
                "{HEADERS} in the environment is not of the form name=value"
            ))
        })?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// The span of a request, and one for each of its tries, in the order in which they began.
fn spans(line: &Line<'_>, trace: &Trace, what: Record) -> Vec<Span> {
    let began = UNIX_EPOCH + line.summary.began;
    let own = (what != Record::Tries).then(|| request(line, trace, began));
    let mut tries: Vec<_> = line.tries.iter().chain(&line.overtaken).collect();
    tries.retain(|_| what != Record::Request);
    tries.sort_by_key(|one| one.summary.began);
    let tries = tries.into_iter().enumerate();
    let tries = tries.map(|numbered| attempt(line, trace, numbered, began));
    own.into_iter().chain(tries).collect()
}

/// A method as conventions have it: clients choose what they like, and it is not to be in names.
fn method(line: &Line<'_>) -> Option<&'static str> {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    KNOWN.into_iter().find(|known| *known == line.method)
}

/// As much of a text as there is room for.
fn cut(text: &str) -> &str {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => text.get(..at).unwrap_or(text),
        None => text,
    }
}

fn request(line: &Line<'_>, trace: &Trace, began: SystemTime) -> Span {
    let (host, port) = parted(line.host);
    let (path, query) = parted_path(&line.path);
    let mut attributes = vec![
        text("http.request.method", method(line).unwrap_or("_OTHER")),
        text("url.scheme", line.summary.scheme),
        text("url.path", cut(path)),
        size("http.response.body.size", line.summary.bytes),
        text("backstop.request_id", line.request_id),
    ];
    let agent = line.user_agent.map(String::from_utf8_lossy);
    let client = line.summary.client.map(|client| client.to_string());
    let some = [
        ("server.address", Some(host).filter(|host| !host.is_empty())),
        (
            "network.protocol.version",
            line.summary.protocol.strip_prefix("HTTP/"),
        ),
        ("url.query", query.map(cut)),
        ("client.address", client.as_deref()),
        ("user_agent.original", agent.as_deref().map(cut)),
        (
            "http.request.method_original",
            Some(cut(line.method)).filter(|_| method(line).is_none()),
        ),
        (
            "tls.protocol.version",
            line.summary.tls.map(|tls| tls.trim_start_matches("TLSv")),
        ),
        ("http.route", line.route),
        ("backstop.upstream", line.upstream),
        ("backstop.cache", line.summary.cache),
        ("backstop.retry", line.summary.retry),
        ("backstop.refused", line.summary.refused),
    ];
    attributes.extend(
        some.iter()
            .filter_map(|(name, value)| Some(text(name, (*value)?))),
    );
    attributes.extend(port.map(|port| whole("server.port", i64::from(port))));
    if line.summary.received > 0 {
        attributes.push(size("http.request.body.size", line.summary.received));
    }
    // Some that are in the log stand for an answer that was not sent.
    if !matches!(line.summary.status, 444 | 499) {
        attributes.push(whole(
            "http.response.status_code",
            i64::from(line.summary.status),
        ));
    }
    let last = line.tries.last().map(|last| last.summary.outcome);
    let is_stored = matches!(line.summary.cache, Some("hit" | "stale"));
    let broke_off =
        last.filter(|last| last.is_failure() && line.summary.status < 400 && !is_stored);
    let failed = line.summary.status >= 500 || broke_off.is_some();
    if failed {
        let status = line.summary.status.to_string();
        let why = match broke_off {
            Some(outcome) => outcome.word(),
            None => &status,
        };
        attributes.push(text("error.type", line.summary.error.unwrap_or(why)));
    }
    Span {
        parent_span_id: trace.parent.map_or_else(Vec::new, named),
        name: match (method(line).unwrap_or("HTTP"), line.route) {
            (method, Some(route)) => format!("{method} {route}"),
            (method, None) => method.into(),
        },
        kind: SpanKind::Server.into(),
        end_time_unix_nano: nanos(began + line.summary.lasted),
        attributes,
        ..span(trace, trace.span, began, failed)
    }
}

fn attempt(
    line: &Line<'_>,
    trace: &Trace,
    (number, one): (usize, &TryLine<'_>),
    began: SystemTime,
) -> Span {
    let (host, port) = parted(one.backend);
    let status = one.summary.status;
    let mut attributes = vec![
        text("http.request.method", method(line).unwrap_or("_OTHER")),
        text("server.address", host),
        text("backstop.outcome", one.summary.outcome.word()),
    ];
    attributes.extend(port.map(|port| whole("server.port", i64::from(port))));
    attributes.extend(status.map(|s| whole("http.response.status_code", i64::from(s))));
    if number > 0 {
        attributes.push(size("http.request.resend_count", number));
    }
    for (name, value) in [
        ("backstop.waited_ms", one.summary.waited),
        ("backstop.queued_ms", one.summary.queued),
        (
            "backstop.connect_ms",
            one.summary.connected.unwrap_or_default(),
        ),
        (
            "backstop.first_byte_ms",
            one.summary.first_byte.unwrap_or_default(),
        ),
    ] {
        if micros(value) > 0 {
            attributes.push(key(name, Value::DoubleValue(millis(value))));
        }
    }
    let failed = one.summary.outcome.is_failure() || status.is_some_and(|status| status >= 400);
    if failed {
        let status = status.map(|status| status.to_string());
        let why = status.as_deref().unwrap_or(one.summary.outcome.word());
        attributes.push(text("error.type", why));
    }
    let at = began + one.summary.began;
    Span {
        parent_span_id: named(trace.span),
        name: method(line).unwrap_or("HTTP").into(),
        kind: SpanKind::Client.into(),
        end_time_unix_nano: nanos(at + one.summary.took),
        attributes,
        ..span(trace, one.summary.span, at, failed)
    }
}

fn span(trace: &Trace, id: u64, began: SystemTime, failed: bool) -> Span {
    Span {
        trace_id: trace.id.to_be_bytes().to_vec(),
        span_id: named(id),
        flags: 1,
        start_time_unix_nano: nanos(began),
        status: failed.then(|| Status {
            code: SpanStatus::Error.into(),
            ..Status::default()
        }),
        ..Span::default()
    }
}

fn named(span: u64) -> Vec<u8> {
    span.to_be_bytes().to_vec()
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn key(name: &str, value: Value) -> KeyValue {
    KeyValue {
        key: name.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(name: &str, value: &str) -> KeyValue {
    key(name, Value::StringValue(value.into()))
}

fn whole(name: &str, value: i64) -> KeyValue {
    key(name, Value::IntValue(value))
}

fn size(name: &str, value: usize) -> KeyValue {
    whole(name, i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_environment() {
        let read = fields("authorization=Basic%20a=b%2B+, x-scope = c ,").unwrap();
        assert_eq!(read["authorization"], "Basic a=b++");
        assert_eq!(read["x-scope"], "c");
        assert!(fields("").unwrap().is_empty());
        for wrong in ["secret", "a b=c", "a=b\u{1}c"] {
            let said = fields(wrong).unwrap_err().to_string();
            assert!(!said.contains(wrong), "{said}");
        }
    }
}
