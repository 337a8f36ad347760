//! A worker: one thread, one single-threaded runtime, one Pingora proxy with its own pool of upstream connections.
//!
//! One per core, so that no connection is ever polled from another thread. The workers share the listening sockets, each
//! through its own descriptor; the kernel hands a connection to whichever asks first, and that one to another which has clearly
//! fewer ([`super::spread`]).

use super::connection::Connection;
use super::flag;
use super::introduction;
use super::listener::{self, Listener, Manner};
use super::spread::{self, Arrival, Seat, Share, Usher};
use super::visitors::{Visit, Visitors};
use crate::cache::Cache;
use crate::clock;
use crate::config::Clients;
use crate::observe::access_log::AccessLog;
use crate::observe::parts;
use crate::observe::tally::Counts;
use crate::observe::traces::Traces;
use crate::proxy::{Front, Live, Proxy};
use crate::upstream::links::MOST_KEPT;
use crate::upstream::own::Own;
use log::{error, info};
use pingora::apps::HttpServerApp;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use rustix::net::SocketFlags;
use std::io;
use std::net::{self, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

/// Pingora's own bound on tries, for the whole process; each route's `tries`, which is at most 100, counts before it.
const MAX_TRIES: usize = 128;
/// When a drain begins, how long idle connections may still bring a request that was already on its way.
const LINGER: Duration = Duration::from_millis(250);

/// Threads that wait for the disk, or check a password, for a worker. Each keeps some mebibytes of what it read and wrote, which
/// no limit of the cache counts: a slow disk must not make them many.
const WAITING: usize = 4;

/// How long the other workers are waited for when a drain begins.
const OTHERS: Duration = Duration::from_millis(500);

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
    /// How many of those each worker has.
    pub spread: spread::Counts,
    /// How long clients are borne with.
    pub clients: Clients,
}

/// Starts worker number `index` on its own descriptors of the listening sockets, with its share of the connections.
///
/// # Errors
/// When the sockets cannot be shared, or the system gives no further thread.
pub fn start(
    index: usize,
    listeners: &[Listener],
    share: Share,
    shared: Shared,
) -> io::Result<JoinHandle<()>> {
    let sockets = listeners
        .iter()
        .map(|listener| {
            Ok((
                listener.socket.try_clone()?,
                Own::new(listener.manner.clone()),
            ))
        })
        .collect::<io::Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(WAITING)
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            parts::belong_to(index);
            runtime.block_on(run(index, sockets, share, shared));
        })
}

async fn run(
    index: usize,
    sockets: Vec<(net::TcpListener, Own<Manner>)>,
    share: Share,
    shared: Shared,
) {
    let conf = ServerConf {
        threads: 1,
        max_retries: MAX_TRIES,
        upstream_keepalive_pool_size: MOST_KEPT,
        ..ServerConf::default()
    };
    let (close_idle, closing) = watch::channel(false);
    let front = Front {
        live: shared.live.of_worker(index),
        log: shared.log.for_worker(),
        traces: shared.traces.clone(),
        counts: shared.counts.clone(),
        cache: shared.cache,
        clients: shared.clients,
        draining: Own::new(shared.draining.clone()),
        closing,
    };
    let proxy = Arc::new(http_proxy(&Arc::new(conf), Proxy::new(front.clone())));

    // Every connection holds a clone of `open`; when the last is gone, `all_closed` ends.
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let server = Server {
        served_by: (Arc::new(front), proxy.clone()),
        manners: sockets.iter().map(|(_, manner)| manner.clone()).collect(),
        shared,
        open,
    };
    let (usher, mut arrivals) = share.open();
    let mut acceptors = Vec::new();
    for (socket, manner) in sockets {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change; that of a listener of the standard library does not"
        )]
        let listener = AsyncFd::with_interest(socket, Interest::READABLE);
        match listener {
            Ok(listener) => {
                let (usher, server) = (usher.clone(), server.clone());
                acceptors.push(tokio::spawn(accept(listener, manner, usher, server)));
            }
            Err(e) => error!("a listening socket cannot be used: {e}"),
        }
    }
    drop(usher);
    let receiving = tokio::spawn(async move {
        while let Some(arrival) = arrivals.recv().await {
            server.receive(arrival);
        }
    });
    for acceptor in acceptors {
        let _ = acceptor.await;
    }
    // What others handed on before they heard of it.
    let _ = tokio::time::timeout(OTHERS, receiving).await;

    // Drain. Requests under way end with `Connection: close`; a connection that is idle may have one in flight that was
    // sent before the client could know.
    let _ = tokio::time::timeout(LINGER, all_closed.recv()).await;
    let _ = close_idle.send(true);
    proxy.http_cleanup().await;
    all_closed.recv().await;
}

/// What serves a worker's connections.
#[derive(Clone)]
struct Server {
    served_by: (Arc<Front>, Arc<HttpProxy<Proxy>>),
    /// How each listener serves.
    manners: Arc<[Own<Manner>]>,
    shared: Shared,
    open: mpsc::Sender<()>,
}

impl Server {
    /// Serves one that another worker accepted.
    fn receive(&self, arrival: Arrival) {
        let Arrival {
            tcp,
            peer,
            listener,
            visit,
            mut seat,
        } = arrival;
        seat.is_taken();
        // All workers have the same ones.
        if let Some(manner) = self.manners.get(listener).cloned() {
            self.serve((tcp, peer), manner, (visit, seat));
        }
    }

    /// Serves one, or turns it away.
    fn serve(
        &self,
        (tcp, peer): (net::TcpStream, SocketAddr),
        manner: Own<Manner>,
        (mut visit, mut seat): (Visit, Seat),
    ) {
        let tcp = match TcpStream::from_std(tcp) {
            Ok(tcp) => tcp,
            Err(e) => return error!("a connection cannot be used: {e}"),
        };
        let served_by = self.served_by.clone();
        let shutdown: ShutdownWatch = self.shared.shutdown.clone();
        let doors = manner.proxy_protocol.then(|| {
            let snapshot = self.shared.live.load();
            (
                snapshot.doors.trusted.clone(),
                snapshot.doors.introducing.clone(),
            )
        });
        let open = self.open.clone();
        let served = async move {
            let (mut tcp, mut peer, mut is_named) = (tcp, peer, true);
            seat.begins(clock::instant());
            if let Some((trusted, introducing)) = doors {
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
            drop((visit, seat));
            drop(open);
        };
        // In a box of its own: the runtime would move all of it several times.
        tokio::spawn(clock::woken(Box::pin(served)));
    }

    /// Serves one that was accepted here, or hands it on.
    fn take(&self, (tcp, peer): (net::TcpStream, SocketAddr), manner: &Own<Manner>, usher: &Usher) {
        let Some(mut visit) = self.shared.visitors.enter() else {
            return;
        };
        if !manner.proxy_protocol {
            let is_trusted = self.shared.live.load().doors.trusted.contains(peer.ip());
            if !visit.is_of(peer.ip(), is_trusted) {
                return;
            }
        }
        // When a drain begins, another worker may already have closed what is idle.
        let (seat, is_here) = match *self.shared.shutdown.borrow() {
            true => usher.seat_here(),
            false => usher.seat(),
        };
        if is_here {
            return self.serve((tcp, peer), manner.clone(), (visit, seat));
        }
        let arrival = Arrival {
            tcp,
            peer,
            listener: manner.index,
            visit,
            seat,
        };
        if let Err(refused) = usher.hand_on(arrival) {
            self.receive(*refused);
        }
    }
}

async fn accept(
    listener: AsyncFd<net::TcpListener>,
    manner: Own<Manner>,
    usher: Usher,
    server: Server,
) {
    let shutdown = server.shared.shutdown.clone();
    let mut stops = pin!(flag::raised(&shutdown));
    loop {
        let accepted = tokio::select! {
            accepted = listener.async_io(Interest::READABLE, accept_now) => accepted,
            () = &mut stops => break,
        };
        match accepted {
            Ok(client) => server.take(client, &manner, &usher),
            Err(e) => tokio::select! {
                () = refuse(&e) => {}
                () = &mut stops => break,
            },
        }
    }
    if listener::hang_up(&listener).is_ok() {
        tokio::time::sleep(HANDSHAKE).await;
    }
    // What the kernel already accepted for us would be reset when the socket closes. Asked of the kernel itself: the
    // runtime may not have heard of the newest yet.
    let listener = listener.into_inner();
    loop {
        match accept_now(&listener) {
            Ok(client) => server.take(client, &manner, &usher),
            // That one is gone; others may be there.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => break,
        }
    }
    info!("no longer accepting connections");
}

/// Accepts one that is there. It belongs to no runtime yet: another worker may be the one to serve it.
fn accept_now(listener: &net::TcpListener) -> io::Result<(net::TcpStream, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (tcp, peer) = rustix::net::acceptfrom_with(listener, flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let peer = peer.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
    Ok((tcp.into(), peer))
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
