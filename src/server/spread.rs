//! Spreads connections over the workers: one that accepts a connection hands it on where another has clearly fewer.
//!
//! Decided by [`crate::policy::spread`]. Asked by `worker` for each connection it accepts.

use super::listener::Manner;
use super::visitors::Visit;
use crate::policy::spread;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How many connections each worker has.
#[derive(Debug, Clone)]
pub struct Counts(Arc<[AtomicUsize]>);

/// A connection on its way to the worker that is to serve it.
#[derive(Debug)]
pub struct Arrival {
    /// In no runtime.
    pub tcp: std::net::TcpStream,
    /// Who is at its other end.
    pub peer: SocketAddr,
    /// How its listener serves.
    pub manner: Arc<Manner>,
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
}

/// What a worker has to do with the others.
pub struct Share {
    own: usize,
    counts: Counts,
    others: Vec<UnboundedSender<Arrival>>,
    /// What others hand on to this one. Ends when all of them have stopped accepting.
    pub arrivals: UnboundedReceiver<Arrival>,
}

/// How a worker that accepts connections asks who is to serve them.
#[derive(Clone)]
pub struct Usher {
    own: usize,
    counts: Counts,
    others: Arc<[UnboundedSender<Arrival>]>,
}

impl Counts {
    /// Connections of each worker.
    pub fn open(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|open| open.load(Ordering::Relaxed))
    }

    fn sit(&self, worker: usize) -> Seat {
        if let Some(open) = self.0.get(worker) {
            open.fetch_add(1, Ordering::Relaxed);
        }
        Seat {
            counts: self.clone(),
            worker,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(open) = self.counts.0.get(self.worker) {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A share for each of so many workers.
pub fn among(workers: usize) -> (Counts, Vec<Share>) {
    let counts = Counts((0..workers).map(|_| AtomicUsize::new(0)).collect());
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded_channel()).unzip();
    let shares = receivers.into_iter().enumerate();
    let shares = shares.map(|(own, arrivals)| Share {
        own,
        counts: counts.clone(),
        others: senders.clone(),
        arrivals,
    });
    (counts.clone(), shares.collect())
}

impl Share {
    /// What each of the worker's listeners asks, and what comes from the others.
    pub fn open(self) -> (Usher, UnboundedReceiver<Arrival>) {
        let usher = Usher {
            own: self.own,
            counts: self.counts,
            others: self.others.into(),
        };
        (usher, self.arrivals)
    }
}

impl Usher {
    /// A place for a connection that was just accepted here, and whether that is with this worker.
    pub fn seat(&self) -> (Seat, bool) {
        let worker = spread::place(self.own, self.counts.open());
        (self.counts.sit(worker), worker == self.own)
    }

    /// Hands one on to the worker that its seat is with. It comes back where that does not take any.
    ///
    /// # Errors
    /// The connection, with a seat here, if that worker is gone.
    pub fn hand_on(&self, arrival: Arrival) -> Result<(), Box<Arrival>> {
        let Some(other) = self.others.get(arrival.seat.worker) else {
            return Err(Box::new(self.back(arrival)));
        };
        other
            .send(arrival)
            .map_err(|refused| Box::new(self.back(refused.0)))
    }

    fn back(&self, arrival: Arrival) -> Arrival {
        Arrival {
            seat: self.counts.sit(self.own),
            ..arrival
        }
    }
}
