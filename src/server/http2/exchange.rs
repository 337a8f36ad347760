//! A request of HTTP/2 and its answer: what one stream is for (RFC 9113 §8.1).
//!
//! Accepted by [`super`]. The front answers it as it is; for Pingora's phases it is a session. Its bytes go out with those of its
//! connection, which sees to the client's pace; each piece waits here until the client has room for it (§5.2).

use crate::clock;
use crate::policy::interim;
use crate::policy::plain::is_dated;
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use log::debug;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, OrErr, Result};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Content that is kept to be sent again, as Pingora's sessions keep it.
const REPLAYED: usize = 64 * 1024;
/// What concerns a connection of HTTP/1 and has no place here (RFC 9113 §8.2.2).
const OF_CONNECTION: [HeaderName; 6] = [
    header::TE,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The request, and how far its answer is.
pub struct Exchange {
    // Some outlive it.
    head: Box<RequestHeader>,
    content: RecvStream,
    answer: SendResponse<Bytes>,
    /// Where content goes, once there is a head.
    sending: Option<SendStream<Bytes>>,
    /// The head of the answer, where it is to be remembered.
    written: Option<Box<ResponseHeader>>,
    /// Whether the client was told that nothing follows.
    has_ended: bool,
    /// How many interim answers it had.
    interim: u32,
    received: usize,
    sent: usize,
    replay: Option<Replay>,
    digest: Arc<Digest>,
    drain_time: Option<Duration>,
}

/// Content that came, to be sent again.
enum Replay {
    /// All of it.
    Whole(BytesMut),
    /// It was too much.
    Cut,
}

impl Replay {
    fn keep(&mut self, bytes: &Bytes) {
        match self {
            Replay::Whole(kept) if kept.len() + bytes.len() <= REPLAYED => {
                kept.extend_from_slice(bytes);
            }
            _ => *self = Replay::Cut,
        }
    }
}

impl Exchange {
    /// That of a stream on a connection of which this is known.
    pub(super) fn new(
        request: Request<RecvStream>,
        answer: SendResponse<Bytes>,
        digest: Arc<Digest>,
    ) -> Self {
        let (head, content) = request.into_parts();
        Exchange {
            head: Box::new(head.into()),
            content,
            answer,
            sending: None,
            written: None,
            has_ended: false,
            interim: 0,
            received: 0,
            sent: 0,
            replay: None,
            digest,
            drain_time: None,
        }
    }

    /// What was asked.
    pub fn head(&self) -> &RequestHeader {
        &self.head
    }

    /// The same, where nothing else of it is needed any more.
    pub fn into_head(self) -> Box<RequestHeader> {
        self.head
    }

    /// The same, to be made fit.
    pub fn head_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    /// The connection that it came on.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether it has no content.
    pub fn has_no_content(&self) -> bool {
        let is_nothing = |length: &HeaderValue| length.as_bytes() == b"0";
        let length = || self.head.headers.get(header::CONTENT_LENGTH);
        self.received == 0 && (self.content.is_end_stream() || length().is_some_and(is_nothing))
    }

    /// Whether all of its content came.
    pub fn is_all_here(&self) -> bool {
        self.has_no_content() || self.content.is_end_stream()
    }

    /// How many bytes of its content were read.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Whether more of it was read than is kept to be sent again.
    pub fn is_past_replay(&self) -> bool {
        matches!(self.replay, Some(Replay::Cut))
    }

    /// The head of the answer, where it is to be remembered.
    pub fn written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    /// How many bytes of content were sent.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Is ready once the client wants no answer any more.
    pub fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sending {
            Some(sending) => sending.poll_reset(cx).map(|_| ()),
            None => self.answer.poll_reset(cx).map(|_| ()),
        }
    }

    /// Sends the head of an interim answer, if it [goes on](interim::goes_on). Nothing depends on it: whoever is gone does not get the answer either.
    pub fn interim(&mut self, head: &ResponseHeader) {
        let waits = self.head.headers.contains_key(header::EXPECT);
        // A stream that was reset may get nothing more (RFC 9113 §5.1), which is not looked at below.
        let mut now = Context::from_waker(Waker::noop());
        if !interim::goes_on(head.status, waits, self.interim)
            || self.sending.is_some()
            || self.poll_left(&mut now).is_ready()
        {
            return;
        }
        self.interim += 1;
        let mut fields = head.headers.clone();
        fit(&mut fields);
        if let Err(e) = (self.answer).send_informational(response(head.status, fields)) {
            debug!("an interim answer cannot be sent: {e}");
        }
    }

    /// Begins the answer, with fields that are fit for it: [`fitted`]. `is_all`: whether nothing follows.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn begin(&mut self, status: StatusCode, mut fields: HeaderMap, is_all: bool) -> Result<()> {
        if !is_dated(&fields)
            && let Ok(date) = httpdate::fmt_http_date(clock::wall()).try_into()
        {
            // By who passes it on, where its maker does not say (RFC 9110 §6.6.1).
            fields.insert(header::DATE, date);
        }
        let sending = self.answer.send_response(response(status, fields), is_all);
        self.sending = Some(sending.or_err(ErrorType::WriteError, "writing an answer")?);
        self.has_ended = is_all;
        Ok(())
    }

    /// The same with any head.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn send_head(&mut self, head: ResponseHeader, is_all: bool) -> Result<()> {
        let (status, fields) = fitted(head);
        self.begin(status, fields, is_all)
    }

    /// The same with one that is to be remembered.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn write_head(&mut self, head: Box<ResponseHeader>, is_all: bool) -> Result<()> {
        if head.status.is_informational() {
            self.interim(&head);
            return Ok(());
        }
        // What is written twice is written by who does not know that it was.
        if self.sending.is_some() || self.has_ended {
            return Ok(());
        }
        let mut fields = head.headers.clone();
        fit(&mut fields);
        self.begin(head.status, fields, is_all)?;
        self.written = Some(head);
        Ok(())
    }

    /// Sends content, as the client has room for it. `is_last`: whether nothing follows.
    ///
    /// # Errors
    /// When the client is gone, or there was no head.
    pub async fn write(&mut self, mut content: Bytes, is_last: bool) -> Result<()> {
        if self.has_ended {
            return Ok(());
        }
        let Some(sending) = &mut self.sending else {
            return Error::e_explain(ErrorType::WriteError, "content before its head");
        };
        let failed = |e| Error::because(ErrorType::WriteError, "writing an answer", e).into_down();
        let length = content.len();
        while !content.is_empty() {
            sending.reserve_capacity(content.len());
            let room = match sending.capacity() {
                0 => poll_fn(|cx| sending.poll_capacity(cx)).await,
                room => Some(Ok(room)),
            };
            let room = match room {
                Some(Ok(0)) => continue,
                Some(room) => room.map_err(failed)?,
                None => return Err(gone()),
            };
            let piece = content.split_to(room.min(content.len()));
            let is_end = is_last && content.is_empty();
            sending.send_data(piece, is_end).map_err(failed)?;
        }
        if is_last && length == 0 {
            sending.send_data(content, true).map_err(failed)?;
        }
        self.sent += length;
        self.has_ended = is_last;
        Ok(())
    }

    /// Ends the answer, if that did not happen.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn end(&mut self) -> Result<()> {
        if let Some(sending) = self.sending.as_mut().filter(|_| !self.has_ended) {
            let ended = sending.send_data(Bytes::new(), true);
            ended.or_err(ErrorType::WriteError, "ending an answer")?;
            self.has_ended = true;
        }
        Ok(())
    }

    /// Says that the answer comes to nothing, if it did not end.
    pub fn break_off(&mut self) {
        if !self.has_ended {
            self.answer.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    /// The next content; `None` after the last.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let read = self.content.data().await.transpose();
        let read = read.or_err(ErrorType::ReadError, "reading content")?;
        if let Some(bytes) = &read {
            self.received += bytes.len();
            if let Some(replay) = &mut self.replay {
                replay.keep(bytes);
            }
            // Who reads has room. If the stream is gone, the next read says so.
            let _ = self.content.flow_control().release_capacity(bytes.len());
        }
        Ok(read)
    }

    async fn read_to_the_end(&mut self) -> Result<()> {
        while self.read().await?.is_some() {}
        Ok(())
    }
}

fn gone() -> Box<Error> {
    Error::explain(ErrorType::WriteError, "the client has closed the stream").into_down()
}

/// What goes out of a head: its status, and its fields but for those that have no place in HTTP/2.
pub fn fitted(head: ResponseHeader) -> (StatusCode, HeaderMap) {
    let parts = Parts::from(head);
    let mut fields = parts.headers;
    fit(&mut fields);
    (parts.status, fields)
}

/// Takes out what has no place in HTTP/2: an answer with it would not be sent.
fn fit(fields: &mut HeaderMap) {
    for name in &OF_CONNECTION {
        fields.remove(name);
    }
}

fn response(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

/// What Pingora's phases see.
#[async_trait]
impl Session for Exchange {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.read().await
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && !self.is_all_here() {
            return self.read().await;
        }
        poll_fn(|cx| self.poll_left(cx)).await;
        Error::e_explain(ErrorType::H2Error, "the client has closed the stream")
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        if self.is_all_here() {
            return Ok(());
        }
        match self.drain_time {
            None => self.read_to_the_end().await,
            Some(time) => match tokio::time::timeout(time, self.read_to_the_end()).await {
                Ok(read) => read,
                Err(_) => Error::e_explain(ErrorType::ReadTimedout, "reading content to its end"),
            },
        }
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write_head(resp, end)
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()> {
        self.write_head(Box::new(resp.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.write(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        let Some(sending) = self.sending.as_mut().filter(|_| !self.has_ended) else {
            return Ok(());
        };
        let sent = sending.send_trailers(trailers);
        sent.or_err(ErrorType::WriteError, "writing trailers")?;
        self.has_ended = true;
        Ok(())
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut is_over = false;
        for task in tasks {
            is_over |= match task {
                HttpTask::Header(head, end) => {
                    self.write_head(head, end).map_err(|e| e.into_down())?;
                    end
                }
                HttpTask::Body(piece, end) => {
                    if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
                        self.write(piece, end).await?;
                    }
                    end
                }
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "a tunnel by HTTP/2");
                }
                HttpTask::Trailer(Some(trailers)) => {
                    self.write_trailers(*trailers).await?;
                    true
                }
                HttpTask::Trailer(None) | HttpTask::Done => true,
                HttpTask::Failed(e) => return Err(e),
            };
        }
        if is_over {
            self.end().map_err(|e| e.into_down())?;
        }
        Ok(is_over)
    }

    // Each wait has its deadline from the session around this one, `proxy::downstream`.

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain_time = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_time
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written()
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        self.break_off();
    }

    fn is_body_done(&mut self) -> bool {
        self.is_all_here()
    }

    fn is_body_empty(&mut self) -> bool {
        self.has_no_content()
    }

    async fn finish(&mut self) -> Result<()> {
        self.end()
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn body_bytes_read(&self) -> usize {
        self.received
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    /// As the request of HTTP/1.1 that it could be.
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        let request = &self.head;
        let target = request.uri.path_and_query().map_or("/", |t| t.as_str());
        let mut raw = BytesMut::with_capacity(512);
        for part in [request.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            raw.put_slice(part.as_bytes());
        }
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                raw.put_slice(part);
            }
        };
        for (name, value) in &request.headers {
            line(name.as_str(), value.as_bytes());
        }
        if let (Some(host), false) = (
            request.uri.authority(),
            request.headers.contains_key(header::HOST),
        ) {
            line("host", host.as_str().as_bytes());
        }
        raw.put_slice(b"\r\n");
        raw.freeze()
    }

    fn enable_retry_buffering(&mut self) {
        let nothing = || Replay::Whole(BytesMut::new());
        self.replay.get_or_insert_with(nothing);
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.is_past_replay()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        match &self.replay {
            Some(Replay::Whole(kept)) if !kept.is_empty() => Some(kept.clone().freeze()),
            _ => None,
        }
    }

    // HTTP has no custom messages.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(
        &mut self,
        _writer: Box<dyn CustomMessageWrite>,
    ) -> Result<()> {
        Ok(())
    }
}
