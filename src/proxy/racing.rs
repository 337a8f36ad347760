//! The connection of a first try, given up when the second request has won before it is made.
//!
//! Pingora has no place to look at anything else while it connects. So `hedge` hands it what connects in its stead, and gives up
//! by itself. A TLS handshake is Pingora's again: it ends when the connection below it is shut down.

use super::hedge::{HEDGED, Hedge};
use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::ext;
use pingora::protocols::l4::socket::SocketAddr as AnyAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::upstreams::peer::{HttpPeer, Scheme};
use pingora::{Error, ErrorType};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::task::JoinHandle;

/// How a handshake goes. Either it is over, or it was broken off, never both.
#[derive(Debug, Default)]
pub(super) struct Handshake(AtomicU8);

const GOING: u8 = 0;
const OVER: u8 = 1;
const BROKEN_OFF: u8 = 2;

impl Handshake {
    /// There is a connection: nobody breaks it off any more.
    pub(super) fn end(&self) {
        self.change(GOING, OVER);
    }

    /// Whether the second request won before. Told once: what fails later fails by itself.
    pub(super) fn was_broken_off(&self) -> bool {
        self.change(BROKEN_OFF, OVER)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        let changed = self
            .0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        changed.is_ok()
    }
}

/// Has this peer's connection race against the second request. `started`: when the client's request was.
pub(super) fn race(peer: &mut HttpPeer, hedge: &Arc<Hedge>, started: Instant) {
    peer.options.custom_l4 = Some(Arc::new(Racing {
        hedge: hedge.clone(),
        started,
        handshake: peer.scheme == Scheme::HTTPS,
        watcher: Mutex::default(),
    }));
}

/// Connects as Pingora does. Pingora keeps the time.
struct Racing {
    hedge: Arc<Hedge>,
    started: Instant,
    /// Whether one follows.
    handshake: bool,
    /// Ends with the try.
    watcher: Mutex<Option<JoinHandle<()>>>,
}

#[async_trait]
impl Connect for Racing {
    async fn connect(&self, address: &AnyAddr) -> pingora::Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "not an address of the internet");
        };
        let stream = tokio::select! {
            biased;
            stream = ext::connect(address, None) => stream?,
            () = self.hedge.won(self.started) => {
                return Error::e_explain(HEDGED, "no connection so far");
            }
        };
        if self.handshake
            && let Ok(twin) = stream.as_fd().try_clone_to_owned()
        {
            let task = watch(self.hedge.clone(), self.started, twin.into());
            *self.watcher() = Some(tokio::spawn(task));
        }
        Ok(stream.into())
    }
}

impl Racing {
    fn watcher(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Racing {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher().take() {
            watcher.abort();
        }
    }
}

impl std::fmt::Debug for Racing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Racing").finish_non_exhaustive()
    }
}

/// Shuts down a connection when the second request has won during its handshake.
async fn watch(hedge: Arc<Hedge>, started: Instant, connection: TcpStream) {
    hedge.won(started).await;
    if hedge.handshake.change(GOING, BROKEN_OFF) {
        // Where that fails, it is down already.
        let _ = connection.shutdown(Shutdown::Both);
    }
}
