//! Clients that say exactly what a test wants: HTTP/1 over a plain socket, and HTTP/2 with prior knowledge.
//!
//! They check framing (a response must end as its head says) and nothing else.

use crate::harness::PATIENCE;
use crate::reply::field;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A response.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The rest of the first line, "HTTP/1.1 200 OK"; "HTTP/2" for HTTP/2.
    pub(crate) first_line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub(crate) complete: bool,
    /// The fields that followed the body.
    pub(crate) trailers: Vec<(String, String)>,
    /// The statuses of the 1xx responses before it.
    pub(crate) informational: Vec<u16>,
}

impl Answer {
    /// The value of a header that may come once at most.
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

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One HTTP/1 connection.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) fn to(port: u16) -> Self {
        Self::try_to(port).expect("a connection to the proxy")
    }

    /// Connects, or tells why not.
    pub(crate) fn try_to(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream,
            unread: Vec::new(),
        })
    }

    /// Sends these bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the proxy takes it");
    }

    /// Sends these bytes, or tells why not.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// GET, on this connection.
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[], b"")
    }

    /// Says that nothing more will be sent.
    pub(crate) fn say_no_more(&mut self) {
        self.stream
            .shutdown(std::net::Shutdown::Write)
            .expect("an open connection");
    }

    /// A request with `Content-Length` if it has a body. `Host` is `example.com` unless given.
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.begin(method, target, headers, body);
        self.answer_to(method)
    }

    /// Sends a request and does not wait.
    pub(crate) fn begin(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut bytes = head(method, target, headers);
        if !body.is_empty() {
            bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend(body);
        self.send(bytes);
    }

    /// Sends a bodiless request if the connection still takes one.
    pub(crate) fn begin_if_open(&mut self, method: &str, target: &str) {
        // A closed one shows when the answer is read.
        let _ = self.try_send(head(method, target, &[]) + "\r\n");
    }

    /// A request whose body comes in these chunks.
    pub(crate) fn chunked(&mut self, method: &str, target: &str, chunks: &[&[u8]]) -> Answer {
        let head = head(method, target, &[("Transfer-Encoding", "chunked")]);
        self.send(format!("{head}\r\n"));
        for chunk in chunks {
            let mut bytes = format!("{:x}\r\n", chunk.len()).into_bytes();
            bytes.extend(*chunk);
            bytes.extend(b"\r\n");
            self.send(bytes);
        }
        self.send("0\r\n\r\n");
        self.answer_to(method)
    }

    /// The next response, to a request that was no HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// The next response to a request with this method.
    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        self.try_answer_to(method).expect("an answer")
    }

    /// The next response; an error if no whole head comes.
    pub(crate) fn try_answer_to(&mut self, method: &str) -> std::io::Result<Answer> {
        let mut informational = Vec::new();
        loop {
            let mut answer = self.head()?;
            if answer.status < 200 && answer.status != 101 {
                informational.push(answer.status);
                continue;
            }
            answer.informational = informational;
            let bodyless = method == "HEAD" || matches!(answer.status, 101 | 204 | 304);
            if !bodyless {
                answer.complete = self.body(&mut answer)?;
            }
            return Ok(answer);
        }
    }

    /// Reads a response head, 1xx included.
    pub(crate) fn head(&mut self) -> std::io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let first_line = lines.next().unwrap_or("").to_string();
        let status = first_line.get(9..12).and_then(|s| s.parse().ok());
        Ok(Answer {
            status: status.ok_or_else(|| std::io::Error::other(format!("{first_line:?}")))?,
            first_line,
            headers: lines.filter_map(field).collect(),
            body: Vec::new(),
            complete: true,
            trailers: Vec::new(),
            informational: Vec::new(),
        })
    }

    /// Exactly these many bytes of whatever comes.
    pub(crate) fn read(&mut self, n: usize) -> Vec<u8> {
        while self.unread.len() < n {
            assert!(
                self.fill().expect("bytes") > 0,
                "closed after {:?}",
                self.unread
            );
        }
        self.unread.drain(..n).collect()
    }

    fn body(&mut self, answer: &mut Answer) -> std::io::Result<bool> {
        if answer
            .header("transfer-encoding")
            .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
        {
            loop {
                let Some(line) = self.line()? else {
                    return Ok(false);
                };
                let size =
                    usize::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                        .map_err(|_| std::io::Error::other(format!("bad chunk size {line:?}")))?;
                if !self.take(size, &mut answer.body)? {
                    return Ok(false);
                }
                // The empty line after a chunk; after the last one trailers may come before it.
                loop {
                    match self.line()? {
                        None => return Ok(false),
                        Some(line) if line.is_empty() => break,
                        Some(line) => answer.trailers.extend(field(&line)),
                    }
                }
                if size == 0 {
                    return Ok(true);
                }
            }
        }
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(std::io::Error::other)?;
            return self.take(length, &mut answer.body);
        }
        while self.fill()? > 0 {}
        answer.body.append(&mut self.unread);
        Ok(true)
    }

    fn take(&mut self, n: usize, into: &mut Vec<u8>) -> std::io::Result<bool> {
        while self.unread.len() < n {
            if self.fill()? == 0 {
                into.append(&mut self.unread);
                return Ok(false);
            }
        }
        into.extend(self.unread.drain(..n));
        Ok(true)
    }

    fn line(&mut self) -> std::io::Result<Option<String>> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..at]).into_owned()));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads once; 0 means that the proxy closed. A reset counts as that.
    fn fill(&mut self) -> std::io::Result<usize> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(n) => {
                self.unread.extend(&buffer[..n]);
                Ok(n)
            }
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// The next chunk of a body in chunks; empty for its end, or that of the connection.
    pub(crate) fn chunk(&mut self) -> String {
        String::from_utf8_lossy(&self.chunk_bytes()).into_owned()
    }

    /// The same of what is no text.
    pub(crate) fn chunk_bytes(&mut self) -> Vec<u8> {
        let Some(size) = self.line().expect("a chunk") else {
            return Vec::new();
        };
        let size = usize::from_str_radix(&size, 16).expect("a size");
        let mut chunk = self.read(size + 2);
        chunk.truncate(size);
        chunk
    }

    /// Waits for the proxy to close the connection; more bytes are an error.
    pub(crate) fn expect_close(&mut self) {
        assert_eq!(
            self.fill().expect("the end"),
            0,
            "more came: {:?}",
            self.unread
        );
    }

    /// Whether nothing comes for so long.
    pub(crate) fn is_silent_for(&mut self, span: Duration) -> bool {
        self.stream.set_read_timeout(Some(span)).expect("a timeout");
        let silent = self.unread.is_empty() && self.fill().is_err();
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        silent
    }

    /// Goes away.
    pub(crate) fn leave(self) {
        // Fails only if the proxy went first.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
        head.push_str("Host: example.com\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}

/// GET on a connection of its own.
pub(crate) fn get(port: u16, target: &str) -> Answer {
    Client::to(port).get(target)
}

/// A request on a connection of its own.
pub(crate) fn request(
    port: u16,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    Client::to(port).request(method, target, headers, body)
}
