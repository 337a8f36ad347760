//! Who is connected: how many in all, and how many of one address.

use super::sites::Sites;
use crate::config::Clients;
use log::warn;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is said that some are turned away.
const SAY: Duration = Duration::from_secs(10);

/// All connections of clients.
#[derive(Debug)]
pub struct Visitors {
    limits: Clients,
    open: AtomicUsize,
    /// Counted only where they are limited.
    of_address: Sites,
    refused: AtomicU64,
    said: Mutex<Option<Instant>>,
}

/// One of them, as long as this is there.
#[derive(Debug)]
pub struct Visit {
    visitors: Arc<Visitors>,
    site: Option<IpAddr>,
}

impl Visitors {
    /// Nobody yet.
    pub fn new(limits: Clients) -> Arc<Self> {
        Arc::new(Visitors {
            limits,
            open: AtomicUsize::new(0),
            of_address: Sites::default(),
            refused: AtomicU64::new(0),
            said: Mutex::default(),
        })
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many were turned away since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Lets one in, unless there are too many.
    pub fn enter(self: &Arc<Self>) -> Option<Visit> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        // Counts itself out again when it is dropped, also just below.
        let visit = Visit {
            visitors: self.clone(),
            site: None,
        };
        if before >= self.limits.max_connections as usize {
            self.turn_away(&format!(
                "max_connections ({}) is reached",
                self.limits.max_connections
            ));
            return None;
        }
        Some(visit)
    }

    fn turn_away(&self, why: &str) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() > SAY) {
            *said = Some(Instant::now());
            warn!("connections are turned away, {refused} so far: {why}");
        }
    }
}

impl Visit {
    /// Says that one who is no trusted proxy came where only those may.
    pub fn turn_away(&self, peer: IpAddr) {
        self.visitors.turn_away(&format!(
            "{peer} is not among trusted_proxies, and came to a listener with proxy_protocol"
        ));
    }

    /// Says who it is; whether one may stay of whom so many are there. Behind a proxy that is `trusted` are many clients: those
    /// are not counted as one.
    pub fn is_of(&mut self, peer: IpAddr, trusted: bool) -> bool {
        let visitors = &self.visitors;
        let Some(most) = visitors.limits.max_per_address.filter(|_| !trusted) else {
            return true;
        };
        let (site, count) = visitors.of_address.more(peer);
        self.site = Some(site);
        if count > most {
            visitors.turn_away(&format!("{site} has max_per_address ({most}) connections"));
        }
        count <= most
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.visitors.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(site) = self.site {
            self.visitors.of_address.less(site);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_may_be() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let visitors = Visitors::new(Clients {
            max_connections: 4,
            max_per_address: Some(2),
            ..Clients::default()
        });
        let enter = |address: IpAddr| {
            let mut visit = visitors.enter()?;
            visit.is_of(address, false).then_some(visit)
        };
        let first = enter(ip("10.0.0.1")).unwrap();
        let _second = enter(ip("::ffff:10.0.0.1")).unwrap();
        assert!(enter(ip("10.0.0.1")).is_none());
        let _third = enter(ip("2001:db8::1")).unwrap();
        let fourth = enter(ip("2001:db8::2")).unwrap();
        assert!(enter(ip("10.0.0.2")).is_none());
        drop(fourth);
        drop(first);
        let again = enter(ip("10.0.0.1")).unwrap();
        assert_eq!((visitors.open(), visitors.refused()), (3, 2));
        drop(again);
        assert_eq!(visitors.of_address.present(), 2);
    }
}
