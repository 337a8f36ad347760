//! A client connection of HTTP/2: its streams, and what a client may do with them.
//!
//! Each stream is a task of its own. What one connection can make this program hold is bounded whatever the client does: a
//! stream that is reset no longer counts for the protocol (RFC 9113 §5.1.2), but here it does until its task has ended.

use super::connection::Connection;
use crate::proxy::MALFORMED;
use http::StatusCode;
use log::debug;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, handshake};
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a connection without a stream is kept.
const IDLE: Duration = Duration::from_secs(75);
/// How many streams may be malformed before the connection is closed.
const MOST_MALFORMED: usize = 32;
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
    let (mut tasks, mut malformed) = (JoinSet::new(), 0);
    let mut last_call = false;
    let mut shutdown_seen = shutdown.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = shutdown_seen.changed(), if !last_call => {
                // What was sent before the client could know is still served (RFC 9113 §6.8).
                http2.graceful_shutdown();
                last_call = true;
                continue;
            }
            // A task that panicked was one stream.
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            accepted = HttpSession::from_h2_conn(&mut http2, digest.clone()) => accepted,
            () = tokio::time::sleep(IDLE), if tasks.is_empty() => break,
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                if connection.is_last(clients.keepalive_requests) && !last_call {
                    http2.graceful_shutdown();
                    last_call = true;
                }
                let (connection, shutdown) = (connection.clone(), shutdown.clone());
                tasks.spawn(async move {
                    let session = Box::new(ServerSession::new_http2(session));
                    connection.serve_stream(session, &shutdown).await;
                });
                if tasks.len() > most_tasks {
                    debug!("a client resets streams faster than they end");
                    front.note_malformed(client, StatusCode::BAD_REQUEST, "too_many_resets", "");
                    break;
                }
            }
            Ok(Some(H2Accept::Rejected)) => {
                front.note_malformed(client, StatusCode::BAD_REQUEST, MALFORMED, "");
                malformed += 1;
                if malformed >= MOST_MALFORMED {
                    break;
                }
            }
            // Clients often leave without a word.
            Ok(None) => break,
            Err(e) => {
                if is_malformed(&e) {
                    front.note_malformed(client, StatusCode::BAD_REQUEST, MALFORMED, "");
                }
                break;
            }
        }
    }
    // They see for themselves that nobody waits any more, and are logged then.
    tasks.detach_all();
}

/// Whether a connection ended because what came on it was no HTTP/2, and not because its client left.
fn is_malformed(error: &pingora::Error) -> bool {
    let cause = error.cause.as_ref();
    cause
        .and_then(|cause| cause.downcast_ref::<h2::Error>())
        .is_some_and(|error| error.is_library() && error.is_go_away())
}
