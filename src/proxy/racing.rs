//! The connection of a first try, given up when the second request has won before it is made.
//!
//! Pingora has no place to look at anything else while it connects. So `hedge` hands it what connects in its stead, and gives up
//! by itself. A TLS handshake is Pingora's again: it ends when the connection below it is shut down.

use super::hedge::{HEDGED, Hedge};
use crate::upstream::Upstream;
use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::ext;
use pingora::protocols::l4::socket::SocketAddr as AnyAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::upstreams::peer::{HttpPeer, Scheme};
use pingora::{Error, ErrorType};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// How a handshake goes. Either it ends by itself, or it is broken off, never both.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    state: AtomicU8,
    /// Breaks it off.
    watcher: Mutex<Option<AbortHandle>>,
}

const GOING: u8 = 0;
const OVER: u8 = 1;
const BROKEN_OFF: u8 = 2;

impl Handshake {
    /// There is a connection, or none any more: nobody breaks it off.
    pub(super) fn end(&self) {
        self.change(GOING, OVER);
        self.watch(None);
    }

    /// Whether the second request won before. Told once: what fails later fails by itself.
    pub(super) fn was_broken_off(&self) -> bool {
        self.change(BROKEN_OFF, OVER)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        let changed = self
            .state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        changed.is_ok()
    }

    /// Puts another watcher, or none, in the place of the last.
    fn watch(&self, next: Option<AbortHandle>) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = std::mem::replace(&mut *watcher, next) {
            last.abort();
        }
    }
}

/// A first try's backend.
pub(super) struct First {
    pub(super) upstream: Arc<Upstream>,
    pub(super) index: usize,
    /// How long connecting to it may take.
    pub(super) limit: Duration,
}

/// Has this peer's connection race against the second request. `started`: when the client's request was.
pub(super) fn race(peer: &mut HttpPeer, first: First, hedge: &Arc<Hedge>, started: Instant) {
    peer.options.custom_l4 = Some(Arc::new(Racing {
        first: Arc::new(first),
        hedge: hedge.clone(),
        started,
        handshake: peer.scheme == Scheme::HTTPS,
    }));
}

/// Connects as Pingora does. Pingora keeps the time.
struct Racing {
    first: Arc<First>,
    hedge: Arc<Hedge>,
    started: Instant,
    /// Whether one follows.
    handshake: bool,
}

#[async_trait]
impl Connect for Racing {
    async fn connect(&self, address: &AnyAddr) -> pingora::Result<Stream> {
        let Some(address) = address.as_inet().copied() else {
            return Error::e_explain(ErrorType::InternalError, "not an address of the internet");
        };
        let began = Instant::now();
        let mut connecting = Box::pin(async move { ext::connect(&address, None).await });
        let stream = tokio::select! {
            biased;
            stream = &mut connecting => stream?,
            () = self.hedge.won(self.started) => {
                let first = self.first.clone();
                tokio::spawn(async move {
                    let left = first.limit.saturating_sub(began.elapsed());
                    let made = tokio::time::timeout(left, connecting).await;
                    let made = matches!(made, Ok(Ok(_)));
                    // A connection alone says nothing of what is to follow.
                    if !made || first.upstream.tls.is_none() {
                        first.learn(address, made);
                    }
                });
                return Error::e_explain(HEDGED, "no connection so far");
            }
        };
        if self.handshake
            && let Ok(twin) = stream.as_fd().try_clone_to_owned()
        {
            let first = (self.first.clone(), address);
            let task = watch(self.hedge.clone(), self.started, twin.into(), first);
            let task = tokio::spawn(task);
            self.hedge.handshake.watch(Some(task.abort_handle()));
        }
        Ok(stream.into())
    }
}

impl Drop for Racing {
    fn drop(&mut self) {
        self.hedge.handshake.watch(None);
    }
}

impl std::fmt::Debug for Racing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Racing").finish_non_exhaustive()
    }
}

impl First {
    /// Nobody waited for its connection, but what came of it is worth knowing: a host that is gone would else be late for ever,
    /// and never unreachable.
    fn learn(&self, address: SocketAddr, made: bool) {
        let Some(backend) = self.upstream.backends.get(self.index) else {
            return;
        };
        backend.connected(address, made);
        match made {
            true => backend.standing.reached(&backend.label),
            false => self.upstream.could_not_connect(self.index),
        }
    }
}

/// Shuts down a connection when the second request has won during its handshake, and has another one find out what is the
/// matter.
async fn watch(
    hedge: Arc<Hedge>,
    started: Instant,
    connection: TcpStream,
    (first, address): (Arc<First>, SocketAddr),
) {
    hedge.won(started).await;
    if hedge.handshake.change(GOING, BROKEN_OFF) {
        // This task ends with the try.
        tokio::spawn(async move {
            let reached = first.upstream.reach(first.index, address, first.limit);
            if let Some(made) = reached.await {
                first.learn(address, made);
            }
        });
        // Where that fails, it is down already.
        let _ = connection.shutdown(Shutdown::Both);
    }
}
