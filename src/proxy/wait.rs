//! The pause between two tries, which ends at once when the client leaves.

use super::client::{Client, Side};
use http::Version;
use std::future::poll_fn;
use std::time::Duration;

/// The client left during a pause.
#[derive(Debug)]
pub(super) struct Left;

/// Waits, watching the client.
///
/// # Errors
/// [`Left`] as soon as the client is seen to have closed its connection or stream.
pub(super) async fn pause(client: &mut dyn Client, wait: Duration) -> Result<(), Left> {
    if wait.is_zero() {
        return Ok(());
    }
    tokio::select! {
        biased;
        () = client_leaves(client) => Err(Left),
        () = tokio::time::sleep(wait) => Ok(()),
    }
}

/// Ends when the client closes its connection or stream.
pub(super) async fn client_leaves(client: &mut dyn Client) {
    let is_http2 = client.req_header().version == Version::HTTP_2;
    if is_http2 || client.is_body_done() {
        return match client.side() {
            Side::Front(request) => poll_fn(|cx| request.stream.poll_gone(cx)).await,
            Side::Stream(exchange) => poll_fn(|cx| exchange.poll_left(cx)).await,
            // Ends with an error when the client closes, and stays pending otherwise.
            Side::Pingora(session) => drop(session.read_body_or_idle(true).await),
        };
    }
    // Part of an HTTP/1 body is still unread in the socket and has to stay there, so nothing may be read: ask the kernel.
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let closed = client
            .socket()
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
