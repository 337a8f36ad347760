//! One flaky backend of the demo: an HTTP/1.1 origin that answers every request, or fails it as the dice say.
//!
//! Started by `demo::run`, one per port. Decides nothing about failing (`chance` does); it reads requests whole, bodies
//! included, so that a failed one never looks like a client's mistake. Not a server for anything but a demo.

use super::chance::{Chance, Fault};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The longest request head that is read, in bytes.
const HEAD_LIMIT: u64 = 64 * 1024;

/// What all backends together have answered.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// With 200.
    pub(super) ok: AtomicU64,
    /// With 500.
    pub(super) status_500: AtomicU64,
    /// With 502.
    pub(super) status_502: AtomicU64,
    /// Not at all.
    pub(super) reset: AtomicU64,
}

impl Counts {
    /// Requests that failed, however.
    pub(super) fn failed(&self) -> u64 {
        self.status_500.load(Relaxed) + self.status_502.load(Relaxed) + self.reset.load(Relaxed)
    }

    fn count(&self, fault: Option<Fault>) {
        let counter = match fault {
            None => &self.ok,
            Some(Fault::Status500) => &self.status_500,
            Some(Fault::Status502) => &self.status_502,
            Some(Fault::Reset) => &self.reset,
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// One backend.
#[derive(Debug)]
pub(super) struct Backend {
    /// Its address, which is also the name it gives in its answers.
    name: String,
    chance: Chance,
    slow: Duration,
    requests: AtomicU64,
    counts: Arc<Counts>,
}

impl Backend {
    /// The backend that will answer on `listener`.
    pub(super) fn new(
        listener: &TcpListener,
        chance: Chance,
        slow: Duration,
        counts: Arc<Counts>,
    ) -> io::Result<Self> {
        Ok(Backend {
            name: listener.local_addr()?.to_string(),
            chance,
            slow,
            requests: AtomicU64::new(0),
            counts,
        })
    }

    /// Answers on `listener` until the task is dropped.
    pub(super) async fn serve(self, listener: TcpListener) {
        let backend = Arc::new(self);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let backend = backend.clone();
                    // A client that breaks its connection off concerns nobody else.
                    tokio::spawn(async move { drop(backend.converse(stream).await) });
                }
                // Out of descriptors, most likely: some are given back soon.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn converse(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        while let Some(request) = Request::read(&mut stream).await? {
            if !self.slow.is_zero() {
                tokio::time::sleep(self.slow).await;
            }
            let number = self.requests.fetch_add(1, Relaxed) + 1;
            let fault = self.chance.fault();
            self.counts.count(fault);
            let status = match fault {
                None => "200 OK",
                Some(Fault::Status500) => "500 Internal Server Error",
                Some(Fault::Status502) => "502 Bad Gateway",
                // With no time to linger, closing sends RST instead of FIN.
                Some(Fault::Reset) => return stream.get_ref().set_zero_linger(),
            };
            let answer = self.answer(status, number, &request);
            stream.write_all(answer.as_bytes()).await?;
            if !request.keep_alive {
                return stream.shutdown().await;
            }
        }
        Ok(())
    }

    fn answer(&self, status: &str, number: u64, request: &Request) -> String {
        let body = format!(
            "{{\"backend\":\"{}\",\"number\":{number},\"request\":\"{}\",\"status\":\"{status}\"}}\n",
            self.name,
            escape(&request.line),
        );
        let connection = if request.keep_alive {
            ""
        } else {
            "Connection: close\r\n"
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{connection}\r\n{}",
            body.len(),
            if request.head_only { "" } else { &body },
        )
    }
}

/// What an answer depends on.
#[derive(Debug)]
struct Request {
    line: String,
    head_only: bool,
    keep_alive: bool,
}

impl Request {
    /// Reads one request to the end of its body; `None` when the client has no more.
    async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut budget = HEAD_LIMIT;
        let line = loop {
            match read_line(stream, &mut budget).await? {
                None => return Ok(None),
                // RFC 9112 §2.2: empty lines before a request line are to be ignored.
                Some(line) if line.is_empty() => continue,
                Some(line) => break line,
            }
        };
        let mut request = Request {
            head_only: line.starts_with("HEAD "),
            keep_alive: !line.ends_with(" HTTP/1.0"),
            line,
        };
        let (mut length, mut chunked, mut awaits_continue) = (0, false, false);
        while let Some((name, value)) = read_field(stream, &mut budget).await? {
            match name.as_str() {
                "content-length" => length = value.parse().map_err(|_| malformed())?,
                "transfer-encoding" => chunked = value.ends_with("chunked"),
                "connection" if value.contains("close") => request.keep_alive = false,
                "connection" if value.contains("keep-alive") => request.keep_alive = true,
                "expect" => awaits_continue = value == "100-continue",
                _ => {}
            }
        }
        if awaits_continue && (chunked || length > 0) {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if chunked {
            skip_chunks(stream).await?;
        } else {
            skip(stream, length).await?;
        }
        Ok(Some(request))
    }
}

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// A line without its end; `None` where the connection ends instead.
async fn read_line(
    stream: &mut BufReader<TcpStream>,
    budget: &mut u64,
) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = (&mut *stream)
        .take(*budget)
        .read_until(b'\n', &mut line)
        .await?;
    *budget -= read as u64;
    if read == 0 && *budget > 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(malformed());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// A header field, both parts in lower case; `None` at the end of the head.
async fn read_field(
    stream: &mut BufReader<TcpStream>,
    budget: &mut u64,
) -> io::Result<Option<(String, String)>> {
    let line = read_line(stream, budget).await?.ok_or_else(malformed)?;
    if line.is_empty() {
        return Ok(None);
    }
    let (name, value) = line.split_once(':').ok_or_else(malformed)?;
    Ok(Some((
        name.to_ascii_lowercase(),
        value.trim().to_ascii_lowercase(),
    )))
}

async fn skip(stream: &mut BufReader<TcpStream>, length: u64) -> io::Result<()> {
    let skipped = tokio::io::copy(&mut (&mut *stream).take(length), &mut tokio::io::sink()).await?;
    if skipped < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// A chunked body with its trailers (RFC 9112 §7.1).
async fn skip_chunks(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    loop {
        let mut budget = HEAD_LIMIT;
        let line = read_line(stream, &mut budget)
            .await?
            .ok_or_else(malformed)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| malformed())?;
        if size == 0 {
            while read_field(stream, &mut budget).await?.is_some() {}
            return Ok(());
        }
        skip(stream, size).await?;
        read_line(stream, &mut budget).await?;
    }
}

/// The text as it may stand inside a JSON string.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push_str(&format!("\\u{:04x}", c as u32)),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::SocketAddr;

    /// A backend on a free port, its address and its counts.
    async fn start(share: f64) -> (SocketAddr, Arc<Counts>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let chance = Chance::new(share, 1);
        let backend = Backend::new(&listener, chance, Duration::ZERO, counts.clone()).unwrap();
        tokio::spawn(backend.serve(listener));
        (address, counts)
    }

    async fn converse(address: SocketAddr, requests: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(requests.as_bytes()).await?;
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await?;
        Ok(answers)
    }

    #[tokio::test]
    async fn all_three_faults_are_seen_on_several_backends() {
        for _ in 0..2 {
            let (address, counts) = start(1.0).await;
            let mut seen = HashSet::new();
            for _ in 0..60 {
                let answer = converse(address, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
                seen.insert(match answer {
                    Err(e) => format!("{:?}", e.kind()),
                    Ok(answer) => answer.lines().next().unwrap_or("nothing").to_string(),
                });
            }
            let expected = [
                "HTTP/1.1 500 Internal Server Error",
                "HTTP/1.1 502 Bad Gateway",
                "ConnectionReset",
            ];
            assert_eq!(seen, expected.map(String::from).into());
            assert_eq!((counts.ok.load(Relaxed), counts.failed()), (0, 60));
        }
    }

    #[tokio::test]
    async fn bodies_are_read_and_connections_kept() {
        let (address, counts) = start(0.0).await;
        let answers = converse(
            address,
            "POST /a\"b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\
             PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: t\r\n\r\n\
             HEAD /d HTTP/1.1\r\n\r\n\
             POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx\
             GET /f HTTP/1.0\r\n\r\n",
        )
        .await
        .unwrap();
        let bodies: Vec<_> = answers.lines().filter(|l| l.starts_with('{')).collect();
        let body = |number, request| {
            format!(
                "{{\"backend\":\"{address}\",\"number\":{number},\"request\":\"{request}\",\"status\":\"200 OK\"}}"
            )
        };
        let expected = [
            body(1, "POST /a\\\"b HTTP/1.1"),
            body(2, "PUT /c HTTP/1.1"),
            body(4, "POST /e HTTP/1.1"),
            body(5, "GET /f HTTP/1.0"),
        ];
        assert_eq!(bodies, expected);
        assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 5);
        assert_eq!(answers.matches("HTTP/1.1 100 Continue\r\n\r\n").count(), 1);
        assert_eq!(answers.matches("Connection: close\r\n").count(), 1);
        assert_eq!(counts.ok.load(Relaxed), 5);
    }

    #[tokio::test]
    async fn nonsense_ends_the_connection_without_an_answer() {
        let (address, counts) = start(0.0).await;
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(70_000));
        for nonsense in [
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            &endless,
        ] {
            let answer = converse(address, nonsense).await.unwrap_or_default();
            assert_eq!(answer, "", "{:.40}", nonsense);
        }
        assert_eq!(counts.ok.load(Relaxed), 0);
    }
}
