//! Spreads connections over the workers: one that accepts a connection hands it on where another has clearly fewer.
//!
//! Decided by [`crate::policy::spread`]. Asked by `worker` for each connection it accepts.

use super::visitors::Visit;
use crate::clock;
use crate::policy::spread::{self, Load, Passing};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How many connections each worker has.
#[derive(Debug, Clone)]
pub struct Counts(Arc<[Count]>);

#[derive(Debug, Default)]
struct Count {
    open: AtomicUsize,
    waiting: AtomicUsize,
    /// The worker's alone.
    passing: Mutex<Passing>,
}

impl Count {
    fn passing(&self) -> MutexGuard<'_, Passing> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on its way to the worker that is to serve it.
#[derive(Debug)]
pub struct Arrival {
    /// In no runtime yet.
    pub tcp: std::net::TcpStream,
    /// Who is at its other end.
    pub peer: SocketAddr,
    /// Which listener it came to.
    pub listener: usize,
    /// Counted already.
    pub visit: Visit,
    /// Its place with that worker.
    pub seat: Seat,
}

/// A connection's place with a worker, as long as this is there.
#[derive(Debug)]
pub struct Seat {
    counts: Counts,
    worker: usize,
    is_waiting: bool,
    begun: Option<Instant>,
}

/// What a worker has to do with the others.
pub struct Share {
    own: usize,
    counts: Counts,
    workers: Arc<[UnboundedSender<Arrival>]>,
    arrivals: UnboundedReceiver<Arrival>,
}

/// How a worker that accepts connections asks who is to serve them.
#[derive(Clone)]
pub struct Usher {
    own: usize,
    counts: Counts,
    workers: Arc<[UnboundedSender<Arrival>]>,
}

impl Counts {
    /// Connections of each worker.
    pub fn open(&self) -> impl Iterator<Item = usize> {
        self.loads().map(|load| load.open)
    }

    fn loads(&self) -> impl Iterator<Item = Load> {
        self.0.iter().map(|count| Load {
            open: count.open.load(Ordering::Relaxed),
            waiting: count.waiting.load(Ordering::Relaxed),
        })
    }

    fn sit(&self, worker: usize, is_waiting: bool) -> Seat {
        if let Some(count) = self.0.get(worker) {
            count.open.fetch_add(1, Ordering::Relaxed);
            count
                .waiting
                .fetch_add(usize::from(is_waiting), Ordering::Relaxed);
        }
        Seat {
            counts: self.clone(),
            worker,
            is_waiting,
            begun: None,
        }
    }
}

impl Seat {
    /// The worker has the connection now.
    pub fn is_taken(&mut self) {
        if std::mem::take(&mut self.is_waiting)
            && let Some(count) = self.counts.0.get(self.worker)
        {
            count.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The worker begins to serve it.
    pub fn begins(&mut self, now: Instant) {
        self.begun = Some(now);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.is_taken();
        if let Some(count) = self.counts.0.get(self.worker) {
            count.open.fetch_sub(1, Ordering::Relaxed);
            if let Some(begun) = self.begun {
                count.passing().ended(clock::now(), clock::since(begun));
            }
        }
    }
}

/// A share for each of so many workers.
pub fn among(workers: usize) -> (Counts, Vec<Share>) {
    let counts = Counts((0..workers).map(|_| Count::default()).collect());
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded_channel()).unzip();
    let senders: Arc<[_]> = senders.into();
    let shares = receivers.into_iter().enumerate();
    let shares = shares.map(|(own, arrivals)| Share {
        own,
        counts: counts.clone(),
        workers: senders.clone(),
        arrivals,
    });
    (counts.clone(), shares.collect())
}

impl Share {
    /// What each of the worker's listeners asks, and what others hand on to it: that ends when none of them accepts any more.
    pub fn open(self) -> (Usher, UnboundedReceiver<Arrival>) {
        let usher = Usher {
            own: self.own,
            counts: self.counts,
            workers: self.workers,
        };
        (usher, self.arrivals)
    }
}

impl Usher {
    /// A place for a connection that was just accepted here, and whether that is with this worker.
    pub fn seat(&self) -> (Seat, bool) {
        let Counts(counts) = &self.counts;
        let own = counts.get(self.own);
        let passing = own.map_or(0, |own| own.passing().lately(clock::now()));
        let worker = spread::place(self.own, passing, self.counts.loads());
        let is_here = worker == self.own;
        (self.counts.sit(worker, !is_here), is_here)
    }

    /// A place with this worker, whatever the others have.
    pub fn seat_here(&self) -> (Seat, bool) {
        (self.counts.sit(self.own, false), true)
    }

    /// Hands one on to the worker that its seat is with.
    ///
    /// # Errors
    /// The connection, with a seat here, if that worker is gone.
    pub fn hand_on(&self, arrival: Arrival) -> Result<(), Box<Arrival>> {
        let Some(worker) = self.workers.get(arrival.seat.worker) else {
            return Err(Box::new(self.back(arrival)));
        };
        worker
            .send(arrival)
            .map_err(|refused| Box::new(self.back(refused.0)))
    }

    fn back(&self, arrival: Arrival) -> Arrival {
        Arrival {
            seat: self.counts.sit(self.own, false),
            ..arrival
        }
    }
}
