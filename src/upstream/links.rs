//! Connections of one worker to backends that speak HTTP/1.1 without TLS, kept from one request to the next.
//!
//! Those of `proxy::direct`; Pingora keeps its own. A connection never leaves the thread that opened it. Which backend is
//! asked is decided elsewhere, and so is how long one is kept.

use crate::clock;
use crate::server::alarm::Alarm;
use foldhash::fast::RandomState;
use indexmap::IndexMap;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Connections that a worker keeps at most, of each kind: those here, those of Pingora, and those of requests with trailers.
pub const MOST_KEPT: usize = 4096;
/// At how many addresses it is looked for one to close, where there are so many.
const LOOKED_AT: usize = 16;
/// How often those are looked for that are to be closed.
const SWEEP: Duration = Duration::from_secs(1);

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::new(Kept::new(MOST_KEPT));
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
        let now = clock::instant();
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
        let until = clock::instant() + so_long;
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

#[derive(Debug)]
struct Kept {
    /// How many there may be.
    most: usize,
    by_address: IndexMap<SocketAddr, Vec<Idle>, RandomState>,
    /// How many there are in all.
    number: usize,
    /// At which address the next search for one to close begins.
    hand: usize,
}

impl Kept {
    fn new(most: usize) -> Self {
        Kept {
            most,
            by_address: IndexMap::default(),
            number: 0,
            hand: 0,
        }
    }

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
        while self.number >= self.most {
            self.close_one();
        }
        self.number += 1;
        let there = self.by_address.entry(idle.link.address).or_default();
        there.push(idle);
    }

    /// Closes the one that is least likely to be needed: of the next addresses in turn, the oldest where there are most. To look
    /// at all would take the longer the more there are.
    fn close_one(&mut self) {
        let addresses = self.by_address.len();
        let places = (self.hand..self.hand + LOOKED_AT.min(addresses)).map(|at| at % addresses);
        self.hand = self.hand.wrapping_add(LOOKED_AT) % addresses.max(1);
        let length = |at: &usize| self.by_address.get_index(*at).map_or(0, |(_, l)| l.len());
        let Some(fullest) = places.max_by_key(length) else {
            self.number = 0;
            return;
        };
        if let Some((_, there)) = self.by_address.get_index_mut(fullest) {
            if there.is_empty() {
                self.by_address.swap_remove_index(fullest);
            } else {
                there.remove(0);
                self.number -= 1;
            }
        }
    }

    /// Closes those whose time is over, and whose backend has closed them. The others let go of whoever used them last: not each time
    /// they are given back, for most are taken again before this, and then the next one takes that place.
    fn sweep(&mut self, now: Instant) {
        for there in self.by_address.values_mut() {
            there.retain(|idle| idle.is_good(now));
            for idle in there {
                idle.link.alarm.forget();
            }
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

    #[tokio::test]
    async fn no_more_are_kept_than_may_be() {
        let mut kept = Kept::new(20);
        let until = Instant::now() + Duration::from_secs(3600);
        let mut listeners = Vec::new();
        for _ in 0..3 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let places: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        let mut backends = Vec::new();
        let mut own = Vec::new();
        for n in [0; 18].into_iter().chain([1; 5]).chain([2; 4]) {
            let link = Link::open(places[n]).await.unwrap();
            backends.push(listeners[n].accept().await.unwrap().0);
            own.push(link.tcp.local_addr().unwrap());
            kept.put(Idle { link, until });
        }
        assert_eq!(kept.number, 20);
        let of = |kept: &Kept, n: usize| -> Vec<_> {
            let there = kept.by_address.get(&places[n]).into_iter().flatten();
            there
                .map(|idle| idle.link.tcp.local_addr().unwrap())
                .collect()
        };
        // The address with the most has lost its oldest.
        assert_eq!(of(&kept, 0), own[7..18]);
        assert_eq!(of(&kept, 1), own[18..23]);
        assert_eq!(of(&kept, 2), own[23..]);
        // An address that has none left is no obstacle.
        while kept.take(places[0], Instant::now()).is_some() {}
        for _ in 0..30 {
            let link = Link::open(places[1]).await.unwrap();
            kept.put(Idle { link, until });
        }
        assert_eq!(kept.number, 20);
        assert_eq!(kept.by_address.values().map(Vec::len).sum::<usize>(), 20);
        // Nor are very many of those.
        for n in 0..3 * LOOKED_AT {
            let address = SocketAddr::from(([127, 0, 0, 2], u16::try_from(n).unwrap()));
            kept.by_address.insert(address, Vec::new());
        }
        for _ in 0..30 {
            let link = Link::open(places[1]).await.unwrap();
            kept.put(Idle { link, until });
        }
        assert_eq!(kept.number, 20);
        assert_eq!(kept.by_address.values().map(Vec::len).sum::<usize>(), 20);
        assert!(kept.by_address.len() < 3 * LOOKED_AT);
    }
}
