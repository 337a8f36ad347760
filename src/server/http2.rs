//! A client connection of HTTP/2: its streams, and what a client may do with them.
//!
//! Each stream is a task of its own. What one connection can make this program hold is bounded whatever the client does: a
//! stream that is reset no longer counts for the protocol (RFC 9113 §5.1.2), but here it does until its task has ended.

mod exchange;

pub use exchange::{Exchange, fitted};

use super::alarm::Alarm;
use super::connection::Connection;
use super::flag;
use super::rooms::{self, Rooms};
use crate::clock;
use crate::proxy::MALFORMED;
use http::StatusCode;
use log::debug;
use pingora::protocols::http::v2::server::{H2Options, handshake};
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

thread_local! {
    static SERVING: Rooms<Came, ()> = const { Rooms::new() };
}

/// A request, its place among the tasks of its connection, that connection, and who tells of the end of the process.
type Came = (Box<Exchange>, Task, Arc<Connection>, ShutdownWatch);

/// How long a connection without a stream is kept.
const IDLE: Duration = Duration::from_secs(75);
/// How many times as many tasks there may be as streams are allowed at once.
const TASKS_PER_STREAM: usize = 2;

/// Serves a connection until it ends.
pub(super) async fn serve(
    connection: &Arc<Connection>,
    stream: Stream,
    options: H2Options,
    shutdown: &ShutdownWatch,
) {
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let peer = digest.socket_digest.as_ref().and_then(|d| d.peer_addr());
    let client = peer.and_then(|peer| Some(peer.as_inet()?.ip().to_canonical()));
    let front = &connection.front;
    let clients = &front.clients;
    // Its part of that are preface and settings (RFC 9113 §3.4).
    let begun = tokio::time::timeout(clients.head_timeout, handshake(stream, Some(options)));
    let mut http2 = match begun.await {
        Ok(Ok(http2)) => http2,
        Ok(Err(e)) => return debug!("HTTP/2 did not begin: {e}"),
        Err(_) => return debug!("HTTP/2 took too long to begin"),
    };
    let most_tasks = TASKS_PER_STREAM * clients.max_streams as usize;
    let tasks = Arc::new(Tasks::new());
    let mut last_call = false;
    // Made once, not each time that something comes.
    let mut closing = pin!(flag::raised(shutdown));
    let mut idle = pin!(tasks.idle());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut closing, if !last_call => {
                // What was sent before the client could know is still served (RFC 9113 §6.8).
                http2.graceful_shutdown();
                last_call = true;
                continue;
            }
            accepted = http2.accept() => accepted,
            () = &mut idle => break,
        };
        match accepted {
            Some(Ok((request, answer))) => {
                let is_last = connection.is_last(clients.keepalive_requests);
                if (is_last || connection.is_too_odd()) && !last_call {
                    http2.graceful_shutdown();
                    last_call = true;
                }
                let task = Task::begin(&tasks);
                let exchange = Box::new(Exchange::new(request, answer, digest.clone()));
                let came = (exchange, task, connection.clone(), shutdown.clone());
                // One that panics is one stream.
                tokio::spawn(clock::woken(rooms::serve(&SERVING, came, serve_streams)));
                if tasks.under_way() > most_tasks {
                    debug!("a client resets streams faster than they end");
                    front.note_malformed(client, StatusCode::BAD_REQUEST, "too_many_resets", "");
                    break;
                }
            }
            // Clients often leave without a word.
            None => break,
            Some(Err(e)) => {
                if is_malformed(&e) {
                    front.note_malformed(client, StatusCode::BAD_REQUEST, MALFORMED, "");
                }
                break;
            }
        }
    }
    // Those that are left see for themselves that nobody waits any more, and are logged then.
}

/// Serves the request of one stream after the other.
async fn serve_streams() -> Infallible {
    loop {
        let (exchange, task, connection, shutdown) = rooms::next(&SERVING).await;
        connection.serve_stream(exchange, &shutdown).await;
        drop((connection, shutdown, task));
        rooms::done(&SERVING, ());
    }
}

/// The tasks of a connection.
struct Tasks {
    under_way: AtomicUsize,
    /// When the last one ended, in nanoseconds since the connection began.
    ended: AtomicU64,
    began: Instant,
}

impl Tasks {
    fn new() -> Self {
        Tasks {
            under_way: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            began: Instant::now(),
        }
    }

    fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Ends once there has been none for so long. Nobody is woken when one ends: that is looked at when the time is over.
    async fn idle(&self) {
        let mut alarm = Alarm::default();
        loop {
            let due = match self.under_way() {
                0 => {
                    let ended = Duration::from_nanos(self.ended.load(Ordering::Relaxed));
                    self.began + ended + IDLE
                }
                _ => Instant::now() + IDLE,
            };
            if due <= Instant::now() {
                return;
            }
            poll_fn(|cx| alarm.poll(cx, due.into_std())).await;
        }
    }
}

/// One of them, until dropped.
struct Task(Arc<Tasks>);

impl Task {
    fn begin(tasks: &Arc<Tasks>) -> Self {
        tasks.under_way.fetch_add(1, Ordering::Relaxed);
        Task(tasks.clone())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let Task(tasks) = self;
        let now = u64::try_from(tasks.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        tasks.ended.store(now, Ordering::Relaxed);
        tasks.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a connection ended because what came on it was no HTTP/2, and not because its client left.
fn is_malformed(error: &h2::Error) -> bool {
    error.is_library() && error.is_go_away()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_its_last_stream_on() {
        let tasks = Arc::new(Tasks::new());
        let one = Task::begin(&tasks);
        let other = Task::begin(&tasks);
        assert_eq!(tasks.under_way(), 2);
        // However long they take.
        let long = tokio::time::timeout(5 * IDLE / 2, tasks.idle());
        assert!(long.await.is_err());
        drop((one, other));
        assert_eq!(tasks.under_way(), 0);
        let ended = Instant::now();
        tasks.idle().await;
        assert_eq!(ended.elapsed(), IDLE);
    }
}
