//! The backends: as little HTTP/1.1 as will do, each with a behaviour that can be switched.
//!
//! All three run on one thread of their own. They count the requests of clients, and answer probes according to their
//! behaviour, too.

use crate::harness::free_port;
use crate::script::{BACKENDS, BURST, Behaviour, FINE, Phase, SEED, SLOW};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// What clients get when all is well.
pub(crate) const BODY: &str = "all is well\n";

/// Three backends. Dropping them ends them.
pub(crate) struct Origins {
    backends: Vec<Backend>,
    taken: Arc<AtomicUsize>,
    _end: oneshot::Sender<()>,
}

struct Backend {
    port: u16,
    behaviour: watch::Sender<Switched>,
}

/// A behaviour, and since when.
#[derive(Clone, Copy)]
struct Switched {
    to: Behaviour,
    at: Instant,
}

impl Switched {
    fn now(to: Behaviour) -> Self {
        let at = Instant::now();
        Switched { to, at }
    }
}

impl Origins {
    pub(crate) fn start() -> Self {
        let taken = Arc::new(AtomicUsize::new(0));
        let (_end, ended) = oneshot::channel::<()>();
        let mut backends = Vec::new();
        let mut all = Vec::new();
        for seed in 0..BACKENDS as u64 {
            let listener = std::net::TcpListener::bind(("127.0.0.1", free_port())).expect("a port");
            listener.set_nonblocking(true).expect("a socket");
            let port = listener.local_addr().expect("bound").port();
            let (behaviour, told) = watch::channel(Switched::now(Behaviour::Fine));
            backends.push(Backend { port, behaviour });
            all.push((listener, told, taken.clone(), SEED + seed));
        }
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for (listener, told, taken, seed) in all {
                    let dice = fastrand::Rng::with_seed(seed);
                    tokio::spawn(backend(listener, told, taken, dice));
                }
                // An error is the other end's going away, which is the end.
                let _ = ended.await;
            });
        });
        Origins {
            backends,
            taken,
            _end,
        }
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.backends.iter().map(|backend| backend.port).collect()
    }

    /// From now on they do what the phase says. Who goes on as before does not begin anew.
    pub(crate) fn turn(&self, phase: &Phase) {
        for (backend, to) in self.backends.iter().zip(phase.backends) {
            backend.behaviour.send_if_modified(|now| {
                let differs = now.to != to;
                if differs {
                    *now = Switched::now(to);
                }
                differs
            });
        }
    }

    /// How many requests of clients they have had to take.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

async fn backend(
    listener: std::net::TcpListener,
    mut told: watch::Receiver<Switched>,
    taken: Arc<AtomicUsize>,
    mut dice: fastrand::Rng,
) {
    let address = listener.local_addr().expect("bound");
    let mut listener = TcpListener::from_std(listener).expect("a socket");
    loop {
        let mut connections = JoinSet::new();
        while told.borrow_and_update().to != Behaviour::Refuses {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    // An error is the proxy's going away.
                    connections.spawn(serve(stream, told.clone(), taken.clone(), dice.fork()));
                }
                Some(_) = connections.join_next() => {}
                changed = told.changed() => if changed.is_err() { return },
            }
        }
        drop(listener);
        connections.shutdown().await;
        let back = told.wait_for(|behaviour| behaviour.to != Behaviour::Refuses);
        if back.await.is_err() {
            return;
        }
        // Nobody else takes it meanwhile: it is below the ports that the kernel hands out.
        listener = TcpListener::bind(address).await.expect("the same port");
    }
}

async fn serve(
    mut stream: TcpStream,
    told: watch::Receiver<Switched>,
    taken: Arc<AtomicUsize>,
    mut dice: fastrand::Rng,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut unread = Vec::new();
    loop {
        // Nobody sends a body here, nor the next request before the answer to the last one.
        while !unread.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut unread).await? == 0 {
                return Ok(());
            }
        }
        if unread.starts_with(b"GET /day/") {
            taken.fetch_add(1, Ordering::Relaxed);
        }
        unread.clear();
        let behaviour = *told.borrow();
        let millis = match behaviour.to {
            Behaviour::Slow => dice.u64(SLOW),
            _ => dice.u64(FINE),
        };
        sleep(Duration::from_millis(millis)).await;
        let second = behaviour.at.elapsed().as_millis() % 1_000;
        let status = match behaviour.to {
            Behaviour::Bursts if second < BURST.as_millis() => "500 Internal Server Error",
            _ => "200 OK",
        };
        let length = BODY.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{BODY}");
        stream.write_all(answer.as_bytes()).await?;
    }
}
