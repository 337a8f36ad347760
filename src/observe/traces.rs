//! Spans of requests and of their tries, sent by OTLP over HTTP to whoever collects them.
//!
//! As in the access log a request only puts what there is to say into a bounded queue; a thread of its own sends it, some at a time.
//! What is named as in OpenTelemetry's semantic conventions for HTTP is what they mean. Decides nothing: `policy::trace` says
//! which requests are recorded.

use super::access_log::{Line, TryLine};
use super::json::parted;
use super::outgoing::{Http, NoAnswer};
use crate::config;
use crate::policy::outcome::Outcome;
use crate::policy::retry::Failure;
use crate::policy::trace::Trace;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use log::{error, info};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Requests whose spans may wait.
const QUEUE: usize = 4096;
/// Spans that are sent at once, and how long the first of them waits for others.
const BATCH: usize = 512;
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take, and how often it is asked to take the same, if it said or may have meant that it is busy.
const ANSWER: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 4;
/// The pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
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
    queue: SyncSender<Message>,
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
    /// When the system's certificates cannot be read, the environment has fields that are none, or there is no further thread.
    pub fn start(settings: &config::Traces) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let collector = Collector {
            address: settings.otlp.clone(),
            fields: fields(&std::env::var(HEADERS).unwrap_or_default())?,
            service: settings.service.clone(),
            http: Http::new()?,
        };
        let (queue, spans) = sync_channel(QUEUE);
        let sending = Arc::<Sending>::default();
        let counts = sending.clone();
        let thread = std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || runtime.block_on(collector.send_all(&spans, &counts)))?;
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
    pub fn write(&self, line: &Line<'_>, trace: &Trace) {
        let spans = spans(line, trace);
        let count = spans.len() as u64;
        if self.queue.try_send(Message::Spans(spans)).is_err() {
            self.sending.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }
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
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Request(#[from] http::Error),
}

impl NotTaken {
    /// Whether the same may be taken later (OTLP, "Retryable Response Codes").
    fn is_for_now(&self) -> bool {
        match self {
            NotTaken::NoAnswer(_) => true,
            NotTaken::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            NotTaken::Request(_) => false,
        }
    }
}

impl Collector {
    async fn send_all(&self, queue: &Receiver<Message>, counts: &Sending) {
        let mut failing = false;
        loop {
            let (batch, is_last) = gather(queue);
            if !batch.is_empty() {
                let count = batch.len() as u64;
                match self.send(batch, counts).await {
                    Ok(()) => {
                        counts.sent.fetch_add(count, Ordering::Relaxed);
                        if std::mem::take(&mut failing) {
                            info!("spans are taken by {} again", self.address);
                        }
                    }
                    Err(e) => {
                        counts.dropped.fetch_add(count, Ordering::Relaxed);
                        if !std::mem::replace(&mut failing, true) {
                            error!("spans are lost until {} takes them: {e}", self.address);
                        }
                    }
                }
            }
            if is_last {
                return;
            }
        }
    }

    async fn send(&self, spans: Vec<Span>, counts: &Sending) -> Result<(), NotTaken> {
        let body = Bytes::from(self.wrap(spans).encode_to_vec());
        let mut pause = PAUSE;
        for attempt in 1.. {
            let Err(e) = self.offer(body.clone()).await else {
                break;
            };
            counts.failures.fetch_add(1, Ordering::Relaxed);
            if attempt == ATTEMPTS || !e.is_for_now() {
                return Err(e);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    async fn offer(&self, body: Bytes) -> Result<(), NotTaken> {
        let mut request = Request::post(&self.address)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(body))?;
        request.headers_mut().extend(self.fields.clone());
        let response = self.http.ask(request, ANSWER).await?;
        let status = response.status();
        // Read to its end, so that the connection can be used again; no more than that is of interest.
        let rest = http_body_util::Limited::new(response.into_body(), 64 * 1024);
        let rest = http_body_util::BodyExt::collect(rest);
        let _ = tokio::time::timeout(ANSWER, rest).await;
        match status.is_success() {
            true => Ok(()),
            false => Err(NotTaken::Status(status)),
        }
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
fn gather(queue: &Receiver<Message>) -> (Vec<Span>, bool) {
    let mut batch = Vec::new();
    let mut until = None;
    while batch.len() < BATCH {
        let next = match until {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => {
                let left = Instant::saturating_duration_since(&until, Instant::now());
                queue.recv_timeout(left)
            }
        };
        match next {
            Ok(Message::Spans(spans)) => {
                batch.extend(spans);
                until.get_or_insert_with(|| Instant::now() + GATHER);
            }
            Err(RecvTimeoutError::Timeout) => break,
            Ok(Message::Finish) | Err(RecvTimeoutError::Disconnected) => return (batch, true),
        }
    }
    (batch, false)
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
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
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

/// The span of a request, and one for each of its tries.
fn spans(line: &Line<'_>, trace: &Trace) -> Vec<Span> {
    let began = line.began.unwrap_or(UNIX_EPOCH);
    let request = request(line, trace, began);
    let tries = line.tries.iter().enumerate();
    let tries = tries.map(|(number, one)| attempt(line, trace, (number, one), began));
    std::iter::once(request).chain(tries).collect()
}

fn request(line: &Line<'_>, trace: &Trace, began: SystemTime) -> Span {
    let (host, port) = parted(line.host);
    let (path, query) = match line.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*line.path, None),
    };
    let mut attributes = vec![
        text("http.request.method", line.method),
        text("url.scheme", line.scheme),
        text("url.path", path),
        text("server.address", host),
        text(
            "network.protocol.version",
            line.protocol.strip_prefix("HTTP/").unwrap_or_default(),
        ),
        whole("http.response.status_code", i64::from(line.status)),
        size("http.response.body.size", line.bytes),
        text("backstop.request_id", line.request_id),
    ];
    let agent = line.user_agent.map(String::from_utf8_lossy);
    let client = line.client.map(|client| client.to_string());
    let some = [
        ("url.query", query),
        ("client.address", client.as_deref()),
        ("user_agent.original", agent.as_deref()),
        (
            "tls.protocol.version",
            line.tls.map(|tls| tls.trim_start_matches("TLSv")),
        ),
        ("http.route", line.route),
        ("backstop.upstream", line.upstream),
        ("backstop.cache", line.cache),
        ("backstop.retry", line.retry),
        ("backstop.refused", line.refused),
    ];
    attributes.extend(
        some.iter()
            .filter_map(|(name, value)| Some(text(name, (*value)?))),
    );
    attributes.extend(port.map(|port| whole("server.port", i64::from(port))));
    if line.received > 0 {
        attributes.push(size("http.request.body.size", line.received));
    }
    let failed = line.status >= 500;
    if failed {
        let status = line.status.to_string();
        attributes.push(text("error.type", line.error.unwrap_or(&status)));
    }
    Span {
        parent_span_id: trace.parent.map_or_else(Vec::new, named),
        name: match line.route {
            Some(route) => format!("{} {route}", line.method),
            None => line.method.into(),
        },
        kind: SpanKind::Server.into(),
        end_time_unix_nano: nanos(began + line.lasted),
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
    let status = match one.outcome {
        Outcome::Failed(Failure::Status(status)) => Some(status.as_u16()),
        Outcome::Ok => Some(line.status),
        _ => None,
    };
    let mut attributes = vec![
        text("http.request.method", line.method),
        text("server.address", host),
        text("backstop.outcome", one.outcome.word()),
    ];
    attributes.extend(port.map(|port| whole("server.port", i64::from(port))));
    attributes.extend(status.map(|s| whole("http.response.status_code", i64::from(s))));
    if number > 0 {
        attributes.push(size("http.request.resend_count", number));
    }
    for (name, value) in [
        ("backstop.waited_ms", one.waited_ms),
        ("backstop.queued_ms", one.queued_ms),
        ("backstop.connect_ms", one.connect_ms.unwrap_or_default()),
        (
            "backstop.first_byte_ms",
            one.first_byte_ms.unwrap_or_default(),
        ),
    ] {
        if value > 0.0 {
            attributes.push(key(name, Value::DoubleValue(value)));
        }
    }
    let failed = one.outcome.is_failure();
    if failed {
        let status = status.map(|status| status.to_string());
        let why = status.as_deref().unwrap_or(one.outcome.word());
        attributes.push(text("error.type", why));
    }
    let at = began + one.began;
    Span {
        parent_span_id: named(trace.span),
        name: line.method.into(),
        kind: SpanKind::Client.into(),
        end_time_unix_nano: nanos(at + one.took),
        attributes,
        ..span(trace, one.span, at, failed)
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
        let read = fields("authorization=Bearer a=b, x-scope = c ,").unwrap();
        assert_eq!(read["authorization"], "Bearer a=b");
        assert_eq!(read["x-scope"], "c");
        assert!(fields("").unwrap().is_empty());
        for wrong in ["secret", "a b=c", "a=b\u{1}c"] {
            let said = fields(wrong).unwrap_err().to_string();
            assert!(!said.contains(wrong), "{said}");
        }
    }
}
