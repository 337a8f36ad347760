//! Backends that speak HTTP/2 and do what a test's script says, stream by stream.
//!
//! The frames are the `h2` crate's. A script is asked when a request's head is there; content is read before the answer.

use crate::harness::eventually;
use crate::reply::Gate;
use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// A request as such a backend saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request2 {
    /// How many this backend had before.
    pub(crate) number: usize,
    /// Which of its connections it came on, from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Bytes of content that the proxy took of the answer.
    pub(crate) sent: usize,
    /// Why the proxy reset the stream, if it did.
    pub(crate) reset: Option<Reason>,
}

impl Request2 {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("text"))
    }
}

/// What such a backend does with one request.
#[derive(Clone)]
pub(crate) struct Reply2 {
    status: u16,
    headers: Vec<(String, String)>,
    pieces: Vec<Vec<u8>>,
    trailers: Vec<(String, String)>,
    gate: Option<Gate>,
    reset: Option<Reason>,
    echoes: bool,
    early: bool,
    stalls: bool,
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    fields.iter().map(owned).collect()
}

fn map(fields: &[(String, String)]) -> HeaderMap {
    let fields = fields.iter();
    let field = |(name, value): &(String, String)| {
        let name: http::HeaderName = name.parse().expect("a name");
        (name, value.parse().expect("a value"))
    };
    fields.map(field).collect()
}

impl Reply2 {
    /// An answer with this content.
    pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        Reply2 {
            status,
            headers: owned(headers),
            pieces: vec![body.as_ref().to_vec()],
            trailers: Vec::new(),
            gate: None,
            reset: None,
            echoes: false,
            early: false,
            stalls: false,
        }
    }

    /// 200 with this content.
    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::answer(200, &[], body)
    }

    /// No answer: the stream is reset.
    pub(crate) fn reset(why: Reason) -> Self {
        Reply2 {
            reset: Some(why),
            ..Self::ok("")
        }
    }

    /// No answer at all.
    pub(crate) fn hang() -> Self {
        Self::ok("").when(&Gate::default())
    }

    /// The content of the request, as it comes, as that of a call of gRPC.
    pub(crate) fn echo() -> Self {
        let reply = Self::answer(200, &[("content-type", "application/grpc")], "");
        Reply2 {
            echoes: true,
            ..reply.trailing(&[("grpc-status", "0")])
        }
    }

    /// Before the content of the request is there, which it does not want any more (RFC 9113 §8.1).
    pub(crate) fn early(mut self) -> Self {
        self.early = true;
        self
    }

    /// Without an end, after the content.
    pub(crate) fn stalling(mut self) -> Self {
        self.stalls = true;
        self
    }

    /// With these trailers.
    pub(crate) fn trailing(mut self, trailers: &[(&str, &str)]) -> Self {
        self.trailers = owned(trailers);
        self
    }

    /// Once the gate is open.
    pub(crate) fn when(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }
}

type Script = dyn Fn(&Request2) -> Reply2 + Send + Sync;

#[derive(Default)]
struct Seen {
    requests: Vec<Request2>,
    connections: usize,
    open: usize,
}

/// One of its connections, while it is open.
struct Open(Arc<Mutex<Seen>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().expect("seen").open -= 1;
    }
}

/// A backend; it serves until the test ends.
pub(crate) struct Origin2 {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    seen: Arc<Mutex<Seen>>,
    script: Arc<Mutex<Arc<Script>>>,
    /// How often it was told to leave its connections.
    leave: watch::Sender<usize>,
}

impl Origin2 {
    pub(crate) fn new(script: impl Fn(&Request2) -> Reply2 + Send + Sync + 'static) -> Self {
        Self::limited(None, script)
    }

    /// One that takes so many requests at once on a connection.
    pub(crate) fn limited(
        streams: Option<u32>,
        script: impl Fn(&Request2) -> Reply2 + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (leave, left) = watch::channel(0);
        let seen = Arc::<Mutex<Seen>>::default();
        let script: Arc<Mutex<Arc<Script>>> = Arc::new(Mutex::new(Arc::new(script)));
        let shared = (seen.clone(), script.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                listener.set_nonblocking(true).expect("a socket");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                while let Ok((tcp, _)) = listener.accept().await {
                    let (seen, script) = shared.clone();
                    tokio::spawn(connection(tcp, streams, seen, script, left.clone()));
                }
            });
        });
        Origin2 {
            port,
            seen,
            script,
            leave,
        }
    }

    /// Always the same.
    pub(crate) fn always(reply: Reply2) -> Self {
        Self::new(move |_| reply.clone())
    }

    /// One reply after the other; the last one stays.
    pub(crate) fn sequence(replies: &[Reply2]) -> Self {
        let replies = replies.to_vec();
        Self::new(move |r| replies[r.number.min(replies.len() - 1)].clone())
    }

    /// From now on, this script.
    pub(crate) fn set(&self, script: impl Fn(&Request2) -> Reply2 + Send + Sync + 'static) {
        *self.script.lock().expect("script") = Arc::new(script);
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request2> {
        self.seen.lock().expect("seen").requests.clone()
    }

    /// How many requests so far.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().expect("seen").requests.len()
    }

    /// How many connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().expect("seen").connections
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.seen.lock().expect("seen").open
    }

    /// Waits for the `n`th request, from 0.
    pub(crate) fn request(&self, n: usize) -> Request2 {
        eventually("a request at the backend", || {
            self.requests().get(n).cloned()
        })
    }

    /// The latest request.
    pub(crate) fn last(&self) -> Request2 {
        self.requests().pop().expect("a request at the backend")
    }

    /// Says on every connection that it is to be the last of it, as a server does that restarts.
    pub(crate) fn go_away(&self) {
        self.leave.send_modify(|times| *times += 1);
    }
}

async fn connection(
    tcp: tokio::net::TcpStream,
    streams: Option<u32>,
    seen: Arc<Mutex<Seen>>,
    script: Arc<Mutex<Arc<Script>>>,
    mut leave: watch::Receiver<usize>,
) {
    leave.mark_unchanged();
    let mut settings = server::Builder::new();
    if let Some(most) = streams {
        settings.max_concurrent_streams(most);
    }
    let Ok(mut frames) = settings.handshake(tcp).await else {
        return;
    };
    let number = {
        let mut seen = seen.lock().expect("seen");
        seen.connections += 1;
        seen.open += 1;
        seen.connections - 1
    };
    let _open = Open(seen.clone());
    let mut leaves = false;
    loop {
        let accepted = tokio::select! {
            accepted = frames.accept() => accepted,
            _ = leave.changed(), if !leaves => {
                leaves = true;
                frames.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else {
            return;
        };
        let (head, body) = request.into_parts();
        let part = |part: Option<&str>| part.unwrap_or_default().to_string();
        let (at, reply) = {
            let mut seen = seen.lock().expect("seen");
            let request = Request2 {
                number: seen.requests.len(),
                connection: number,
                method: head.method.to_string(),
                scheme: part(head.uri.scheme_str()),
                authority: part(head.uri.authority().map(|a| a.as_str())),
                target: part(head.uri.path_and_query().map(|p| p.as_str())),
                headers: head.headers,
                body: Vec::new(),
                sent: 0,
                reset: None,
            };
            let script = script.lock().expect("script").clone();
            let reply = script(&request);
            seen.requests.push(request);
            (seen.requests.len() - 1, reply)
        };
        tokio::spawn(stream(seen.clone(), at, reply, body, respond));
    }
}

async fn stream(
    seen: Arc<Mutex<Seen>>,
    at: usize,
    reply: Reply2,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let note = |what: &dyn Fn(&mut Request2)| what(&mut seen.lock().expect("seen").requests[at]);
    let mut head = Response::new(());
    *head.status_mut() = reply.status.try_into().expect("a status");
    *head.headers_mut() = map(&reply.headers);
    let mut send = None;
    if reply.echoes {
        send = respond.send_response(head.clone(), false).ok();
    }
    while !reply.early
        && let Some(piece) = body.data().await
    {
        let Ok(piece) = piece else {
            let reset = piece.err().and_then(|e| e.reason());
            return note(&|request| request.reset = reset);
        };
        let _ = body.flow_control().release_capacity(piece.len());
        note(&|request| request.body.extend_from_slice(&piece));
        if let Some(send) = &mut send {
            let _ = send.send_data(piece, false);
        }
    }
    if let Some(gate) = &reply.gate {
        let open = async {
            while !gate.is_open() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = open => {}
            reset = poll_fn(|cx| respond.poll_reset(cx)) => {
                let reset = reset.ok();
                return note(&|request| request.reset = reset);
            }
        }
    }
    if let Some(why) = reply.reset {
        return respond.send_reset(why);
    }
    let send = match send {
        Some(send) => send,
        None => {
            let bare = reply.trailers.is_empty() && reply.pieces.iter().all(Vec::is_empty);
            match respond.send_response(head, bare) {
                Ok(send) if !bare => send,
                _ => return,
            }
        }
    };
    if !reply.stalls {
        // An error is the proxy's leaving.
        let _ = finish(send, &reply, |by| note(&|request| request.sent += by)).await;
        return;
    }
    let mut send = send;
    for piece in &reply.pieces {
        let _ = send_all(&mut send, piece, false, &|_| ()).await;
    }
    let reset = poll_fn(|cx| send.poll_reset(cx)).await.ok();
    note(&|request| request.reset = reset);
}

async fn finish(
    mut send: SendStream<Bytes>,
    reply: &Reply2,
    sent: impl Fn(usize),
) -> Result<(), h2::Error> {
    let pieces = reply.pieces.iter().filter(|piece| !piece.is_empty());
    let pieces: Vec<&Vec<u8>> = pieces.collect();
    for (n, piece) in pieces.iter().enumerate() {
        let ends = n + 1 == pieces.len() && reply.trailers.is_empty();
        send_all(&mut send, piece, ends, &sent).await?;
    }
    if !reply.trailers.is_empty() {
        send.send_trailers(map(&reply.trailers))?;
    }
    Ok(())
}

/// Sends this as the proxy takes it.
async fn send_all(
    send: &mut SendStream<Bytes>,
    piece: &[u8],
    ends: bool,
    sent: &impl Fn(usize),
) -> Result<(), h2::Error> {
    let mut left = Bytes::copy_from_slice(piece);
    while !left.is_empty() {
        send.reserve_capacity(left.len());
        let Some(capacity) = poll_fn(|cx| send.poll_capacity(cx)).await else {
            return Ok(());
        };
        let now = left.split_to(capacity?.min(left.len()));
        sent(now.len());
        send.send_data(now, ends && left.is_empty())?;
    }
    Ok(())
}
