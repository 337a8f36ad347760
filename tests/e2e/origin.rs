//! Backends that fail on purpose: HTTP/1 servers on loopback that do, byte for byte, what a test's script says.
//!
//! A script is a function from the request to a [`Reply`]. Every request is recorded whole, from its
//! head on, so that a test can assert on what the upstream saw even when the proxy broke off.

use crate::harness::{PATIENCE, eventually, free_port, until};
use crate::reply::{Reply, Request, Step, field};
use socket2::SockRef;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    script: Mutex<Arc<Script>>,
    /// Whether the script is asked when the head is there, before the body is read.
    on_head: bool,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    open: Mutex<HashMap<usize, TcpStream>>,
    stopped: AtomicBool,
}

/// A backend.
pub(crate) struct Origin {
    /// Where it listens, on 127.0.0.1 unless made with [`Origin::at`].
    pub(crate) port: u16,
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Origin {
    /// Reads each request whole, then does what the script says.
    pub(crate) fn new(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::bind(None, false, script)
    }

    /// Does what the script says as soon as a request's head is there.
    pub(crate) fn on_head(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::bind(None, true, script)
    }

    /// As [`Origin::new`], on this address.
    pub(crate) fn at(
        address: SocketAddr,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::bind(Some(address), false, script)
    }

    /// Always the same.
    pub(crate) fn always(reply: Reply) -> Self {
        Self::new(move |_| reply.clone())
    }

    /// One reply after the other; the last one stays.
    pub(crate) fn sequence(replies: &[Reply]) -> Self {
        let replies = replies.to_vec();
        Self::new(move |r| replies[r.number.min(replies.len() - 1)].clone())
    }

    fn bind(
        address: Option<SocketAddr>,
        on_head: bool,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = eventually("a backend's port", || {
            let address = address.unwrap_or_else(|| ([127, 0, 0, 1], free_port()).into());
            TcpListener::bind(address).ok()
        });
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            on_head,
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let acceptor = Some(accept(listener, shared.clone()));
        Origin {
            port: address.port(),
            address,
            shared,
            acceptor,
        }
    }

    /// From now on, this script.
    pub(crate) fn set(&self, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock().expect("script") = Arc::new(script);
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("requests").clone()
    }

    /// How many requests so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.requests.lock().expect("requests").len()
    }

    /// Waits for the `n`th request, from 0.
    pub(crate) fn request(&self, n: usize) -> Request {
        eventually("a request at the backend", || {
            self.requests().get(n).cloned()
        })
    }

    /// The latest request.
    pub(crate) fn last(&self) -> Request {
        self.requests().pop().expect("a request at the backend")
    }

    /// Waits until the proxy has closed every connection: it does so with one whose answer it does not pass on, before
    /// the wait for the next try begins.
    pub(crate) fn until_released(&self) {
        until("the proxy lets the backend go", || {
            self.count() > 0 && self.shared.open.lock().expect("open").is_empty()
        });
    }

    /// Stops as a killed process does: the port closed, every connection gone.
    pub(crate) fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
        let _ = acceptor.join();
        for (_, stream) in self.shared.open.lock().expect("open").drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again on the same port.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let listener = eventually("the same port", || TcpListener::bind(self.address).ok());
        self.shared.stopped.store(false, Ordering::SeqCst);
        self.acceptor = Some(accept(listener, self.shared.clone()));
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    thread::spawn(move || {
        for stream in listener.incoming() {
            if shared.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let number = shared.connections.fetch_add(1, Ordering::SeqCst);
            let Ok(handle) = stream.try_clone() else {
                continue;
            };
            shared.open.lock().expect("open").insert(number, handle);
            let shared = shared.clone();
            thread::spawn(move || {
                let connection = Connection {
                    number,
                    stream,
                    shared,
                };
                // An error is the proxy's going away, which the record shows.
                let _ = connection.serve();
                connection.shared.open.lock().expect("open").remove(&number);
            });
        }
    })
}

struct Connection {
    number: usize,
    stream: TcpStream,
    shared: Arc<Shared>,
}

impl Connection {
    fn serve(&self) -> std::io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream
            .set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut reader = BufReader::new(self.stream.try_clone()?);
        while let Some(index) = self.read_head(&mut reader)? {
            if !self.shared.on_head {
                self.read_body(&mut reader, index)?;
            }
            let request = self.shared.requests.lock().expect("requests")[index].clone();
            let script = self.shared.script.lock().expect("script").clone();
            let reply = script(&request);
            // What belongs together is written at once: a backend that is killed has then sent all of it or nothing.
            let mut unsent = Vec::new();
            for step in reply.0 {
                match step {
                    Step::Body(_) if request.method == "HEAD" => continue,
                    Step::Send(bytes) | Step::Body(bytes) => {
                        unsent.extend(bytes);
                        continue;
                    }
                    _ => (&self.stream).write_all(&std::mem::take(&mut unsent))?,
                }
                match step {
                    Step::Send(_) | Step::Body(_) => {}
                    Step::Pause(pause) => self.wait(index, pause, || false)?,
                    Step::Wait(gate) => {
                        self.wait(index, PATIENCE, || gate.is_open())?;
                    }
                    Step::Hang => self.wait(index, PATIENCE * 2, || false)?,
                    Step::Read(n) => self.read_exactly(&mut reader, index, n)?,
                    Step::Echo => return self.echo(&mut reader),
                    Step::Reset => {
                        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                        return Ok(());
                    }
                    Step::Close => return Ok(()),
                }
            }
            (&self.stream).write_all(&unsent)?;
        }
        Ok(())
    }

    fn record(&self, index: usize, change: impl FnOnce(&mut Request)) {
        change(&mut self.shared.requests.lock().expect("requests")[index]);
    }

    fn read_head(&self, reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<usize>> {
        let mut lines: Vec<String> = Vec::new();
        loop {
            let mut line = Vec::new();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_string();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut first = lines.first().map(String::as_str).unwrap_or("").split(' ');
        let request = Request {
            number: 0,
            connection: self.number,
            at: Instant::now(),
            method: first.next().unwrap_or("").into(),
            target: first.next().unwrap_or("").into(),
            headers: lines
                .iter()
                .skip(1)
                .filter_map(|line| field(line))
                .collect(),
            body: Vec::new(),
            trailers: Vec::new(),
            complete: false,
            abandoned: false,
        };
        let mut requests = self.shared.requests.lock().expect("requests");
        let number = requests.len();
        requests.push(Request { number, ..request });
        Ok(Some(number))
    }

    /// Reads the body into the record, piece by piece, asking for it first where the head says so.
    fn read_body(&self, reader: &mut BufReader<TcpStream>, index: usize) -> std::io::Result<()> {
        let request = self.shared.requests.lock().expect("requests")[index].clone();
        if request.header("expect").is_some() {
            (&self.stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if request.header("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16)
                    .map_err(|_| std::io::Error::other(format!("bad chunk size {line:?}")))?;
                self.read_exactly(reader, index, size)?;
                if size == 0 {
                    break;
                }
                reader.read_line(&mut line)?;
            }
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                if line.trim().is_empty() {
                    break;
                }
                self.record(index, |r| r.trailers.extend(field(line.trim_end())));
            }
        } else {
            let length = request.header("content-length").map_or(Ok(0), str::parse);
            self.read_exactly(reader, index, length.map_err(std::io::Error::other)?)?;
        }
        self.record(index, |r| r.complete = true);
        Ok(())
    }

    fn read_exactly(
        &self,
        reader: &mut BufReader<TcpStream>,
        index: usize,
        mut left: usize,
    ) -> std::io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            let want = left.min(buffer.len());
            let got = reader.read(&mut buffer[..want])?;
            if got == 0 {
                self.record(index, |r| r.abandoned = true);
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.record(index, |r| r.body.extend(&buffer[..got]));
            left -= got;
        }
        Ok(())
    }

    /// Waits, and notices when the proxy leaves meanwhile.
    fn wait(
        &self,
        index: usize,
        at_most: Duration,
        enough: impl Fn() -> bool,
    ) -> std::io::Result<()> {
        let deadline = Instant::now() + at_most;
        self.stream.set_nonblocking(true)?;
        loop {
            if matches!(self.stream.peek(&mut [0]), Ok(0)) {
                self.record(index, |r| r.abandoned = true);
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if enough() || left.is_zero() {
                return self.stream.set_nonblocking(false);
            }
            thread::park_timeout(left.min(Duration::from_millis(3)));
        }
    }

    fn echo(&self, reader: &mut BufReader<TcpStream>) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let got = reader.read(&mut buffer)?;
            if got == 0 {
                return Ok(());
            }
            (&self.stream).write_all(&buffer[..got])?;
        }
    }
}
