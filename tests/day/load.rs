//! The clients: an open loop. Each request is sent when it is due, however long others take, and its time counts from when
//! it was due, so that no stall hides the requests it holds up.

use crate::harness::{PATIENCE, until};
use crate::origins::BODY;
use crate::script::{self, DEADLINE, Phase};
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

/// What a client met.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// When it was to ask, since the day began.
    pub(crate) due: Duration,
    /// How much later it did.
    pub(crate) late: Duration,
    /// How long it took from when it was due.
    pub(crate) took: Duration,
    /// Whether it got what it wanted, or else what.
    pub(crate) got: std::result::Result<(), String>,
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// Waits until the proxy on this port answers from a backend.
pub(crate) fn warm(port: u16) {
    let runtime = runtime();
    let clients = Clients::to(port);
    until("an answer through the proxy", || {
        let deadline = Instant::now() + PATIENCE;
        let answer = async { timeout_at(deadline, clients.ask("/warm")).await };
        matches!(runtime.block_on(answer), Ok(Ok(Answer::Good)))
    });
}

/// Lets the day pass: `turn` is called as each phase begins. Tells what became of each request, in the order they were due.
pub(crate) fn run(port: u16, turn: impl Fn(&Phase)) -> Vec<Outcome> {
    runtime().block_on(async {
        let clients = Clients::to(port);
        let day = Instant::now();
        let send = async {
            let mut all = Vec::new();
            for (number, due) in script::arrivals().into_iter().enumerate() {
                sleep_until(day + due).await;
                all.push(tokio::spawn(clients.clone().request(number, day, due)));
            }
            let mut outcomes = Vec::new();
            for one in all {
                outcomes.push(one.await.expect("a client"));
            }
            outcomes
        };
        let play = async {
            for (begins, phase) in script::phases() {
                sleep_until(day + begins).await;
                turn(phase);
            }
        };
        tokio::join!(send, play).0
    })
}

/// All clients, with the connections that none of them uses at the moment.
#[derive(Clone)]
struct Clients {
    port: u16,
    idle: Arc<Mutex<Vec<TcpStream>>>,
}

enum Answer {
    Good,
    Status(u16),
}

impl Clients {
    fn to(port: u16) -> Self {
        let idle = Arc::default();
        Clients { port, idle }
    }

    async fn request(self, number: usize, day: Instant, due: Duration) -> Outcome {
        let path = script::path(number);
        let late = day.elapsed().saturating_sub(due);
        let asked = timeout_at(day + due + DEADLINE, self.ask(&path)).await;
        let got = match asked {
            Ok(Ok(Answer::Good)) => Ok(()),
            Ok(Ok(Answer::Status(status))) => Err(format!("status {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("nothing in time".into()),
        };
        let took = day.elapsed().saturating_sub(due);
        Outcome {
            due,
            late,
            took,
            got,
        }
    }

    async fn ask(&self, path: &str) -> Result<Answer> {
        let mut stream = self.connection().await?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: day.example\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut read = Vec::new();
        let end = loop {
            if stream.read_buf(&mut read).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let blank = read.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = blank {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let wrong = || Error::new(ErrorKind::InvalidData, "not HTTP");
        let status: u16 = head
            .get(9..12)
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(wrong)?;
        if status != 200 {
            // Its connection goes with it: what else is in there is of no interest.
            return Ok(Answer::Status(status));
        }
        while read.len() < end + BODY.len() {
            if stream.read_buf(&mut read).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        if &read[end..] != BODY.as_bytes() {
            return Err(wrong());
        }
        if !head.contains("\r\nconnection: close\r\n") {
            self.idle.lock().expect("connections").push(stream);
        }
        Ok(Answer::Good)
    }

    /// A kept connection that the proxy has not closed, or a new one.
    async fn connection(&self) -> Result<TcpStream> {
        loop {
            let Some(kept) = self.idle.lock().expect("connections").pop() else {
                break;
            };
            let nothing = kept.try_read(&mut [0]);
            if nothing.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                return Ok(kept);
            }
        }
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
