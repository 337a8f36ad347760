//! What a scripted backend sees and does: the recorded [`Request`] and the [`Reply`], a list of steps.
//!
//! Data only; `origin.rs` plays it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A request as a backend saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// How many this backend had before.
    pub(crate) number: usize,
    /// Which of its connections it came on, from 0.
    pub(crate) connection: usize,
    /// When its head was there.
    pub(crate) at: Instant,
    pub(crate) method: String,
    /// The request target as sent.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    /// The body's bytes so far, without chunk framing.
    pub(crate) body: Vec<u8>,
    /// The fields that followed it.
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the body ended as its framing says.
    pub(crate) complete: bool,
    /// Whether the proxy closed the connection while the backend was still waiting or answering.
    pub(crate) abandoned: bool,
}

impl Request {
    /// The value of a header that is there once at most.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} came {} times: {all:?}", all.len());
        all.first().copied()
    }

    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        same.map(|(_, v)| v.as_str()).collect()
    }
}

/// A field's name and value.
pub(crate) fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.into(), value.trim().into()))
}

/// Opened by the test when a waiting backend may go on.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<AtomicBool>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Sent unless the request was a HEAD.
    Body(Vec<u8>),
    Pause(Duration),
    Wait(Gate),
    Hang,
    /// Reads so many bytes of the body.
    Read(usize),
    Echo,
    Reset,
    Close,
}

/// What a backend does with one request.
#[derive(Clone)]
pub(crate) struct Reply(pub(crate) Vec<Step>);

impl Reply {
    /// A whole response with `Content-Length`.
    pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut head = head(status, headers);
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        Reply(vec![Step::Send(head.into_bytes()), Step::Body(body.into())])
    }

    /// 200 with this body.
    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::answer(200, &[], body.as_ref())
    }

    /// This status with a body that names it.
    pub(crate) fn status(status: u16) -> Self {
        Self::answer(
            status,
            &[],
            format!("the backend's own {status}\n").as_bytes(),
        )
    }

    /// A response in these chunks.
    pub(crate) fn chunked(status: u16, headers: &[(&str, &str)], chunks: &[&[u8]]) -> Self {
        let mut head = head(status, headers);
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        let mut body = Vec::new();
        for chunk in chunks {
            body.extend(format!("{:x}\r\n", chunk.len()).bytes());
            body.extend(*chunk);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        Reply(vec![Step::Send(head.into_bytes()), Step::Body(body)])
    }

    /// These bytes.
    pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Reply(vec![Step::Send(bytes.as_ref().into())])
    }

    /// Nothing, until the proxy leaves.
    pub(crate) fn hang() -> Self {
        Reply(vec![Step::Hang])
    }

    /// A reset connection.
    pub(crate) fn reset() -> Self {
        Reply(vec![Step::Reset])
    }

    /// A closed connection.
    pub(crate) fn close() -> Self {
        Reply(vec![Step::Close])
    }

    /// Something that is not HTTP.
    pub(crate) fn garbage() -> Self {
        Self::raw(b"\x16\x03\x01 220 ready for mail\r\n\r\n\x00\xff").closing()
    }

    /// 101, then whatever comes goes back.
    pub(crate) fn websocket() -> Self {
        let mut reply = Self::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        );
        reply.0.push(Step::Echo);
        reply
    }

    /// The same after a pause.
    pub(crate) fn after(mut self, pause: Duration) -> Self {
        self.0.insert(0, Step::Pause(pause));
        self
    }

    /// The same when the test opens the gate.
    pub(crate) fn when(mut self, gate: &Gate) -> Self {
        self.0.insert(0, Step::Wait(gate.clone()));
        self
    }

    /// The same, then this.
    pub(crate) fn then(mut self, other: Reply) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The same once `n` bytes of the body have been read; for backends that answer before they have it all.
    pub(crate) fn having_read(mut self, n: usize) -> Self {
        self.0.insert(0, Step::Read(n));
        self
    }

    /// The same, then the connection closes.
    pub(crate) fn closing(mut self) -> Self {
        self.0.push(Step::Close);
        self
    }

    /// Only the first `n` bytes, then a reset.
    pub(crate) fn reset_after(self, n: usize) -> Self {
        Self::raw(&self.bytes()[..n]).then(Self::reset())
    }

    /// Only the first `n` bytes, then the connection closes.
    pub(crate) fn cut_after(self, n: usize) -> Self {
        Self::raw(&self.bytes()[..n]).closing()
    }

    /// The whole head and nothing of the body, then the connection closes.
    pub(crate) fn cut_after_head(self) -> Self {
        let bytes = self.bytes();
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .expect("a head")
            + 4;
        Self::raw(&bytes[..end]).closing()
    }

    /// A pause after the first `n` bytes.
    pub(crate) fn gap(self, n: usize, pause: Duration) -> Self {
        let bytes = self.bytes();
        let mut reply = Self::raw(&bytes[..n]);
        reply.0.push(Step::Pause(pause));
        reply.then(Self::raw(&bytes[n..]))
    }

    /// Single bytes with a pause after each.
    pub(crate) fn trickle(self, pause: Duration) -> Self {
        let bytes = self.bytes();
        Reply(
            bytes
                .iter()
                .flat_map(|b| [Step::Send(vec![*b]), Step::Pause(pause)])
                .collect(),
        )
    }

    fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for step in &self.0 {
            match step {
                Step::Send(bytes) | Step::Body(bytes) => all.extend(bytes),
                _ => panic!("only whole responses can be cut"),
            }
        }
        all
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> String {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}
