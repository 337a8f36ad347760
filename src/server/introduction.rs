//! Reading who is behind a proxy, before anything else of a connection: see [`crate::policy::proxy_protocol`].
//!
//! Called by a worker for listeners that are for proxies only. Takes not a byte of what follows.

use super::flag;
use crate::policy::proxy_protocol::{Introduction, read};
use crate::proxy::Front;
use http::StatusCode;
use log::debug;
use pingora::server::ShutdownWatch;
use std::io;
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Bytes that are looked at, at once: more than most heads have.
const LOOK: usize = 512;

/// Who is at the other end.
pub struct Introduced {
    /// The client.
    pub client: SocketAddr,
    /// Whether the proxy has named it. Where it speaks for itself, or does not know for whom, whatever is written there of
    /// others comes from nobody knows whom.
    pub is_named: bool,
}

/// Who the client is of the proxy that connected from `peer`. `None` if the connection is over.
pub async fn client(
    front: &Front,
    tcp: &mut TcpStream,
    peer: SocketAddr,
    shutdown: &ShutdownWatch,
) -> Option<Introduced> {
    let heard = tokio::select! {
        biased;
        heard = hear(tcp) => heard,
        () = tokio::time::sleep(front.clients.head_timeout) => Err(io::ErrorKind::TimedOut.into()),
        () = flag::raised(shutdown) => return None,
    };
    match heard {
        Ok(source) => Some(Introduced {
            client: source.unwrap_or(peer),
            is_named: source.is_some(),
        }),
        Err(e) => {
            debug!("{peer} does not say for whom it connects: {e}");
            if e.kind() == io::ErrorKind::InvalidData {
                front.note_malformed(
                    Some(peer.ip()),
                    StatusCode::BAD_REQUEST,
                    "proxy_protocol",
                    "",
                );
            }
            None
        }
    }
}

/// Whom the proxy speaks for; `None`: for itself.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when it does not say so as it should; else when it is gone.
async fn hear(tcp: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut heard = Vec::new();
    let mut seen = [0; LOOK];
    loop {
        let before = heard.len();
        let count = tcp.peek(&mut seen).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        heard.extend_from_slice(&seen[..count]);
        let (take, source) = match read(&heard) {
            Introduction::Malformed => return Err(io::ErrorKind::InvalidData.into()),
            Introduction::Incomplete => (count, None),
            // What was taken before was incomplete, so it ends among what was seen now.
            Introduction::Whole { length, source } => {
                (length.saturating_sub(before).min(count), Some(source))
            }
        };
        tcp.read_exact(&mut seen[..take]).await?;
        if let Some(source) = source {
            return Ok(source);
        }
    }
}
