//! The pause between two tries, which ends at once when the client leaves.

use http::Version;
use pingora::protocols::http::ServerSession;
use std::time::Duration;

/// The client left during a pause.
#[derive(Debug)]
pub(super) struct Left;

/// Waits, watching the client.
///
/// # Errors
/// [`Left`] as soon as the client is seen to have closed its connection or stream.
pub(super) async fn pause(session: &mut ServerSession, wait: Duration) -> Result<(), Left> {
    if wait.is_zero() {
        return Ok(());
    }
    tokio::select! {
        biased;
        () = client_leaves(session) => Err(Left),
        () = tokio::time::sleep(wait) => Ok(()),
    }
}

/// Ends when the client closes its connection or stream.
pub(super) async fn client_leaves(session: &mut ServerSession) {
    let is_http2 = session.req_header().version == Version::HTTP_2;
    if is_http2 || session.is_body_done() {
        // Ends with an error when the client closes, and stays pending otherwise; bytes of a next, pipelined request are
        // put aside for it.
        let _ = session.read_body_or_idle(true).await;
        return;
    }
    // Part of an HTTP/1 body is still unread in the socket and has to stay there, so nothing may be read: ask the kernel.
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let closed = session
            .digest()
            .and_then(|digest| digest.socket_digest.as_ref())
            .and_then(|socket| socket.tcp_info())
            .is_some_and(|info| matches!(info.tcpi_state, TCP_CLOSE | TCP_CLOSE_WAIT));
        if closed {
            return;
        }
    }
}

/// States of `tcp_info.tcpi_state`, as in Linux's `net/tcp_states.h`.
const TCP_CLOSE: u8 = 7;
const TCP_CLOSE_WAIT: u8 = 8;
