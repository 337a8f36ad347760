//! An HTTP/2 client with prior knowledge, small enough to leave at any moment.
//!
//! The frames are the `h2` crate's; each [`Client2`] drives one connection on a thread of its own.

use crate::client::Answer;
use crate::harness::PATIENCE;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use std::future::{Future, poll_fn};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// One HTTP/2 connection.
pub(crate) struct Client2 {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

/// One request under way.
pub(crate) struct Stream2 {
    response: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Client2 {
    /// Connects and shakes hands.
    pub(crate) fn to(port: u16) -> Self {
        Client2::introduced(port, b"")
    }

    /// The same, after these bytes.
    pub(crate) fn introduced(port: u16, by: &[u8]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (requests, connection) = within(&runtime, async {
            let mut stream = TcpStream::connect(("127.0.0.1", port))
                .await
                .expect("a connection");
            stream.write_all(by).await.expect("sent");
            let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
            let connection = tokio::spawn(async {
                // Its end shows in the requests.
                let _ = connection.await;
            });
            (requests, connection)
        });
        Client2 {
            runtime,
            requests,
            connection,
        }
    }

    /// Sends a head; `end` says that no body follows.
    pub(crate) fn begin(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        end: bool,
    ) -> Stream2 {
        let mut request = http::Request::builder()
            .method(method)
            .version(http::Version::HTTP_2)
            .uri(format!("http://example.com{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let requests = self.requests.clone();
        let (response, body) = within(&self.runtime, async {
            let mut ready = requests.ready().await.expect("the connection takes it");
            ready
                .send_request(request, end)
                .expect("the connection takes it")
        });
        Stream2 { response, body }
    }

    /// Sends a piece of body, as the peer's window allows.
    pub(crate) fn send(&self, stream: &mut Stream2, piece: &[u8], end: bool) {
        within(&self.runtime, async {
            let mut left = Bytes::copy_from_slice(piece);
            while !left.is_empty() {
                stream.body.reserve_capacity(left.len());
                let capacity = poll_fn(|cx| stream.body.poll_capacity(cx)).await;
                // A server may answer before it has the body, and then wants no more of it (RFC 9113 §8.1).
                let Some(Ok(capacity)) = capacity else { return };
                let now = left.split_to(capacity.min(left.len()));
                if stream.body.send_data(now, false).is_err() {
                    return;
                }
            }
            if end {
                let _ = stream.body.send_data(Bytes::new(), true);
            }
        });
    }

    /// The body of a response of which nothing is read yet.
    pub(crate) fn begun(&self, stream: Stream2) -> RecvStream {
        within(&self.runtime, stream.response)
            .expect("an answer")
            .into_body()
    }

    /// The status of the interim response that comes first.
    pub(crate) fn told(&self, stream: &mut Stream2) -> u16 {
        let interim = poll_fn(|cx| stream.response.poll_informational(cx));
        let interim = within(&self.runtime, interim).expect("an interim response");
        interim.expect("a response").status().as_u16()
    }

    /// The response.
    pub(crate) fn answer(&self, stream: Stream2) -> Answer {
        within(&self.runtime, async {
            let mut response = stream.response;
            let mut informational = Vec::new();
            while let Some(Ok(interim)) = poll_fn(|cx| response.poll_informational(cx)).await {
                informational.push(interim.status().as_u16());
            }
            let response = response.await.expect("an answer");
            let (head, mut body) = response.into_parts();
            let value = |v: &http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
            let mut answer = Answer {
                status: head.status.as_u16(),
                first_line: "HTTP/2".into(),
                headers: head
                    .headers
                    .iter()
                    .map(|(n, v)| (n.to_string(), value(v)))
                    .collect(),
                body: Vec::new(),
                complete: true,
                trailers: Vec::new(),
                informational,
            };
            while let Some(piece) = body.data().await {
                let Ok(piece) = piece else {
                    answer.complete = false;
                    break;
                };
                let _ = body.flow_control().release_capacity(piece.len());
                answer.body.extend(&piece);
            }
            if let Ok(Some(trailers)) = body.trailers().await {
                let pairs = trailers.iter().map(|(n, v)| (n.to_string(), value(v)));
                answer.trailers = pairs.collect();
            }
            answer
        })
    }

    /// The fields of a response that ends with its head.
    pub(crate) fn only_head(&self, stream: Stream2) -> http::HeaderMap {
        let response = within(&self.runtime, stream.response).expect("an answer");
        assert!(response.body().is_end_stream(), "more follows");
        response.into_parts().0.headers
    }

    /// The body of a response that has begun while the request goes on, and the request's.
    pub(crate) fn both_bodies(&self, stream: Stream2) -> (SendStream<Bytes>, RecvStream) {
        let response = within(&self.runtime, stream.response);
        (stream.body, response.expect("an answer").into_body())
    }

    /// Sends a small piece more.
    pub(crate) fn send_more(&self, body: &mut SendStream<Bytes>, piece: &'static [u8], end: bool) {
        let _entered = self.runtime.enter();
        body.send_data(piece.into(), end).expect("sent");
    }

    /// The next piece of a body.
    pub(crate) fn piece(&self, body: &mut RecvStream) -> Bytes {
        within(&self.runtime, async {
            let piece = body.data().await.expect("a piece").expect("whole");
            let _ = body.flow_control().release_capacity(piece.len());
            piece
        })
    }

    /// What follows a body of which nothing is left.
    pub(crate) fn trailers(&self, mut body: RecvStream) -> Option<http::HeaderMap> {
        within(&self.runtime, async {
            assert!(body.data().await.is_none(), "more of the body");
            body.trailers().await.expect("whole")
        })
    }

    /// Whether the answer is an error or there is none.
    pub(crate) fn ends_in_failure(&self, stream: Stream2) -> bool {
        let response = within(&self.runtime, stream.response);
        response.map_or(true, |r| r.status().as_u16() >= 400)
    }

    /// Whether the rest of an answer's content breaks off.
    pub(crate) fn breaks_off(&self, mut body: RecvStream) -> bool {
        within(&self.runtime, async {
            loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return true,
                    None => return false,
                }
            }
        })
    }

    /// Whether there is none.
    pub(crate) fn ends_without_an_answer(&self, stream: Stream2) -> bool {
        within(&self.runtime, stream.response).is_err()
    }

    /// A whole exchange; a body is sent without `Content-Length` unless `headers` has it.
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = self.begin(method, target, headers, body.is_empty());
        if !body.is_empty() {
            self.send(&mut stream, body, true);
        }
        self.answer(stream)
    }

    /// How many streams it may have open at once, as far as it was told.
    pub(crate) fn most_streams(&self) -> usize {
        self.requests.current_max_send_streams()
    }

    /// GET.
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[], b"")
    }

    /// Whether the connection is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_finished()
    }

    /// Begins a request, unless the connection takes none.
    pub(crate) fn try_begin(&mut self, target: &str) -> Option<Stream2> {
        let request = http::Request::builder().uri(format!("http://example.com{target}"));
        let request = request.body(()).expect("a request");
        let requests = self.requests.clone();
        within(&self.runtime, async {
            let mut ready = requests.ready().await.ok()?;
            let (response, body) = ready.send_request(request, true).ok()?;
            Some(Stream2 { response, body })
        })
    }

    /// Cancels one request; the connection stays.
    pub(crate) fn cancel(&self, mut stream: Stream2) {
        let _entered = self.runtime.enter();
        stream.body.send_reset(Reason::CANCEL);
    }

    /// Closes the connection without a word.
    pub(crate) fn leave(self) {
        self.connection.abort();
        drop(self.runtime);
    }
}

fn within<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("in time") })
}
