//! A worker: one thread, one single-threaded runtime, one Pingora proxy with its own pool of upstream connections.
//!
//! One per core, so that no connection is ever polled from another thread. The workers share the listening sockets, each
//! through its own descriptor; the kernel hands a connection to whichever asks first.

use super::connection::Connection;
use super::introduction;
use super::listener::{self, Listener, Manner};
use super::visitors::Visitors;
use crate::cache::Cache;
use crate::config::Clients;
use crate::observe::access_log::AccessLog;
use crate::observe::tally::Counts;
use crate::observe::traces::Traces;
use crate::proxy::{Front, Live, Proxy};
use crate::upstream::links::MOST_KEPT;
use log::{error, info};
use pingora::apps::HttpServerApp;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// Pingora's own bound on tries, for the whole process; each route's `tries`, which is at most 100, counts before it.
const MAX_TRIES: usize = 128;
/// When a drain begins, how long idle connections may still bring a request that was already on its way.
const LINGER: Duration = Duration::from_millis(250);

/// Threads that wait for the disk, or check a password, for a worker. Each keeps some mebibytes of what it read and wrote, which
/// no limit of the cache counts: a slow disk must not make them many.
const WAITING: usize = 4;

/// How long a handshake that had begun may take to complete.
const HANDSHAKE: Duration = Duration::from_millis(20);

/// What all workers share.
#[derive(Clone)]
pub struct Shared {
    /// The configuration in force.
    pub live: Live,
    /// Where requests are logged.
    pub log: AccessLog,
    /// Where their spans go, if anywhere.
    pub traces: Option<Traces>,
    /// What is counted beside routes.
    pub counts: Arc<Counts>,
    /// What answers are kept in.
    pub cache: Cache,
    /// Set when the process is told to end: nothing changes yet, but it is not ready any more.
    pub leaving: Arc<AtomicBool>,
    /// Set when the drain begins, before `shutdown` says so.
    pub draining: Arc<AtomicBool>,
    /// Turns true when the drain begins.
    pub shutdown: watch::Receiver<bool>,
    /// Who is connected, over all workers.
    pub visitors: Arc<Visitors>,
    /// How long clients are borne with.
    pub clients: Clients,
}

/// Starts worker number `index` on its own descriptors of the listening sockets.
///
/// # Errors
/// When the sockets cannot be shared, or the system gives no further thread.
pub fn start(index: usize, listeners: &[Listener], shared: Shared) -> io::Result<JoinHandle<()>> {
    let sockets = listeners
        .iter()
        .map(|listener| Ok((listener.socket.try_clone()?, listener.manner.clone())))
        .collect::<io::Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(WAITING)
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || runtime.block_on(run(sockets, shared)))
}

async fn run(sockets: Vec<(std::net::TcpListener, Arc<Manner>)>, shared: Shared) {
    let conf = ServerConf {
        threads: 1,
        max_retries: MAX_TRIES,
        upstream_keepalive_pool_size: MOST_KEPT,
        ..ServerConf::default()
    };
    let (close_idle, closing) = watch::channel(false);
    let front = Front {
        live: shared.live.clone(),
        log: shared.log.for_worker(),
        traces: shared.traces.clone(),
        counts: shared.counts.clone(),
        cache: shared.cache,
        clients: shared.clients,
        draining: shared.draining.clone(),
        closing,
    };
    let proxy = http_proxy(&Arc::new(conf), Proxy::new(front.clone()));
    let served_by = (Arc::new(front), Arc::new(proxy));

    // Every connection holds a clone of `open`; when the last is gone, `all_closed` ends.
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let mut acceptors = Vec::new();
    for (socket, manner) in sockets {
        match TcpListener::from_std(socket) {
            Ok(listener) => acceptors.push(tokio::spawn(accept(
                listener,
                manner,
                served_by.clone(),
                shared.clone(),
                open.clone(),
            ))),
            Err(e) => error!("a listening socket cannot be used: {e}"),
        }
    }
    drop(open);
    for acceptor in acceptors {
        let _ = acceptor.await;
    }

    // Drain. Requests under way end with `Connection: close`; a connection that is idle may have one in flight that was
    // sent before the client could know.
    let _ = tokio::time::timeout(LINGER, all_closed.recv()).await;
    let _ = close_idle.send(true);
    served_by.1.http_cleanup().await;
    all_closed.recv().await;
}

async fn accept(
    listener: TcpListener,
    manner: Arc<Manner>,
    served_by: (Arc<Front>, Arc<HttpProxy<Proxy>>),
    shared: Shared,
    open: mpsc::Sender<()>,
) {
    let mut shutdown = shared.shutdown.clone();
    let serve = |tcp: TcpStream, peer: SocketAddr| {
        let served_by = served_by.clone();
        let manner = manner.clone();
        let shutdown: ShutdownWatch = shared.shutdown.clone();
        let Some(mut visit) = shared.visitors.enter() else {
            return;
        };
        let (trusted, introducing) = {
            let snapshot = shared.live.load();
            (
                snapshot.doors.trusted.clone(),
                snapshot.doors.introducing.clone(),
            )
        };
        if !manner.proxy_protocol && !visit.is_of(peer.ip(), trusted.contains(peer.ip())) {
            return;
        }
        let open = open.clone();
        tokio::spawn(async move {
            let (mut tcp, mut peer, mut is_named) = (tcp, peer, true);
            if manner.proxy_protocol {
                if !introducing.contains(peer.ip()) {
                    return visit.turn_away(peer.ip());
                }
                let introduced = introduction::client(&served_by.0, &mut tcp, peer, &shutdown);
                match Box::pin(introduced).await {
                    Some(introduced) => {
                        (peer, is_named) = (introduced.client, introduced.is_named);
                    }
                    None => return,
                }
                if !visit.is_of(peer.ip(), trusted.contains(peer.ip())) {
                    return;
                }
            }
            Connection::serve(served_by, tcp, (peer, is_named), manner, shutdown).await;
            drop(visit);
            drop(open);
        });
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((tcp, peer)) => serve(tcp, peer),
            Err(e) => refuse(&e).await,
        }
    }
    if listener::hang_up(&listener).is_ok() {
        tokio::time::sleep(HANDSHAKE).await;
    }
    // What the kernel already accepted for us would be reset when the socket closes. Asked of the kernel itself: the
    // runtime may not have heard of the newest yet.
    if let Ok(listener) = listener.into_std() {
        while let Ok((tcp, peer)) = listener.accept() {
            if tcp.set_nonblocking(true).is_ok()
                && let Ok(tcp) = TcpStream::from_std(tcp)
            {
                serve(tcp, peer);
            }
        }
    }
    info!("no longer accepting connections");
}

/// After a failed accept: most failures concern one connection that is gone again, but without descriptors or memory the
/// next attempt would fail just as fast.
async fn refuse(e: &io::Error) {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    if matches!(e.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM)) {
        error!("connections cannot be accepted (raise LimitNOFILE if descriptors ran out): {e}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
