//! Connections of one worker to backends that speak HTTP/1.1 without TLS, kept from one request to the next.
//!
//! Those of `proxy::direct`; Pingora keeps its own. A connection never leaves the thread that opened it. Which backend is
//! asked is decided elsewhere, and so is how long one is kept.

use crate::server::alarm::Alarm;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Connections that a worker keeps at most, of each kind: those here, those of Pingora, and those of requests with trailers.
pub const MOST_KEPT: usize = 4096;
/// How often those are looked for that are to be closed.
const SWEEP: Duration = Duration::from_secs(1);

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
    static SWEEPING: Cell<bool> = const { Cell::new(false) };
}

/// A connection to a backend.
#[derive(Debug)]
pub struct Link {
    /// What bytes go through.
    pub tcp: TcpStream,
    /// Rings when what is waited for takes too long.
    pub alarm: Alarm,
    /// Whether it served another request before.
    pub reused: bool,
    address: SocketAddr,
}

impl Link {
    /// Takes one that is kept, if there is one.
    pub fn kept(address: SocketAddr) -> Option<Link> {
        let now = Instant::now();
        KEPT.with_borrow_mut(|kept| kept.take(address, now))
    }

    /// Opens one.
    ///
    /// # Errors
    /// Of the connection.
    pub async fn open(address: SocketAddr) -> io::Result<Link> {
        let tcp = TcpStream::connect(address).await?;
        // Small packets at once; a failure here only costs speed.
        let _ = tcp.set_nodelay(true);
        Ok(Link {
            tcp,
            alarm: Alarm::default(),
            reused: false,
            address,
        })
    }

    /// Keeps it for another request, for so long at most. Its backend owes nothing on it.
    pub fn keep(mut self, so_long: Duration) {
        if so_long.is_zero() {
            return;
        }
        self.reused = true;
        self.alarm.forget();
        let until = Instant::now() + so_long;
        KEPT.with_borrow_mut(|kept| kept.put(Idle { link: self, until }));
        if !SWEEPING.replace(true) {
            tokio::spawn(sweep());
        }
    }

    /// Whether nothing came on it: neither its end, nor an answer to nothing.
    fn is_quiet(&self) -> bool {
        let read = self.tcp.try_read(&mut [0]);
        matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

#[derive(Debug)]
struct Idle {
    link: Link,
    until: Instant,
}

impl Idle {
    fn is_good(&self, now: Instant) -> bool {
        now < self.until && self.link.is_quiet()
    }
}

#[derive(Debug, Default)]
struct Kept {
    by_address: HashMap<SocketAddr, Vec<Idle>>,
    /// How many there are in all.
    number: usize,
}

impl Kept {
    /// The one that was used last.
    fn take(&mut self, address: SocketAddr, now: Instant) -> Option<Link> {
        let there = self.by_address.get_mut(&address)?;
        while let Some(idle) = there.pop() {
            self.number -= 1;
            if idle.is_good(now) {
                return Some(idle.link);
            }
        }
        None
    }

    fn put(&mut self, idle: Idle) {
        if self.number >= MOST_KEPT {
            // The one that is least likely to be needed: where there are most, the oldest.
            let fullest = self.by_address.values_mut().max_by_key(|there| there.len());
            if let Some(there) = fullest.filter(|there| !there.is_empty()) {
                there.remove(0);
                self.number -= 1;
            }
        }
        self.number += 1;
        let there = self.by_address.entry(idle.link.address).or_default();
        there.push(idle);
    }

    /// Closes those whose time is over, and whose backend has closed them.
    fn sweep(&mut self, now: Instant) {
        for there in self.by_address.values_mut() {
            there.retain(|idle| idle.is_good(now));
        }
        self.by_address.retain(|_, there| !there.is_empty());
        self.number = self.by_address.values().map(Vec::len).sum();
    }
}

/// Sweeps as long as there are any.
async fn sweep() {
    loop {
        tokio::time::sleep(SWEEP).await;
        let is_empty = KEPT.with_borrow_mut(|kept| {
            kept.sweep(Instant::now());
            kept.number == 0
        });
        if is_empty {
            return SWEEPING.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn one_is_kept_until_it_is_over_or_something_came() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hour = Duration::from_secs(3600);
        let accepted = async |listener: &TcpListener| listener.accept().await.unwrap().0;

        let link = Link::open(address).await.unwrap();
        assert!(!link.reused);
        let mut backend = accepted(&listener).await;
        link.keep(hour);
        let link = Link::kept(address).unwrap();
        assert!(link.reused && Link::kept(address).is_none());
        link.keep(hour);
        backend.write_all(b"?").await.unwrap();
        let there = || KEPT.with_borrow(|kept| kept.number);
        // What came is seen once the runtime has heard of it.
        while KEPT.with_borrow_mut(|kept| {
            kept.sweep(Instant::now());
            kept.number > 0
        }) {
            tokio::task::yield_now().await;
        }
        assert!(Link::kept(address).is_none());

        let link = Link::open(address).await.unwrap();
        let _backend = accepted(&listener).await;
        link.keep(hour);
        KEPT.with_borrow_mut(|kept| kept.sweep(Instant::now()));
        assert_eq!(there(), 1);
        KEPT.with_borrow_mut(|kept| kept.sweep(Instant::now() + hour));
        assert_eq!(there(), 0);
        Link::open(address).await.unwrap().keep(Duration::ZERO);
        assert_eq!(there(), 0);
    }
}
