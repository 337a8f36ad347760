//! One backend: its address, what its name resolves to, and how many tries run on it.
//!
//! Shared by all workers and carried over a reload while its address stays the same. Everything a request touches here is
//! an atomic.

use crate::config::{BackendAddress, Host};
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// One address in an upstream.
#[derive(Debug)]
pub struct Backend {
    /// As written.
    pub address: BackendAddress,
    /// `address` as text, for logs.
    pub label: String,
    target: Target,
    active: AtomicU32,
}

#[derive(Debug)]
enum Target {
    Fixed(SocketAddr),
    Name {
        /// The last good answer; empty until there is one.
        answers: ArcSwap<Vec<SocketAddr>>,
        next: AtomicUsize,
    },
}

impl Backend {
    /// A backend nothing is known of yet.
    pub fn new(address: BackendAddress) -> Self {
        let target = match &address.host {
            Host::Ip(ip) => Target::Fixed(SocketAddr::new(*ip, address.port)),
            Host::Name(_) => Target::Name {
                answers: ArcSwap::default(),
                next: AtomicUsize::new(0),
            },
        };
        Backend {
            label: address.to_string(),
            address,
            target,
            active: AtomicU32::new(0),
        }
    }

    /// Where to connect: the address itself, or the addresses of its name in turn. `None` while the name has never been
    /// resolved.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match &self.target {
            Target::Fixed(address) => Some(*address),
            Target::Name { answers, next } => {
                let answers = answers.load();
                if answers.is_empty() {
                    return None;
                }
                let turn = next.fetch_add(1, Ordering::Relaxed);
                answers.get(turn % answers.len()).copied()
            }
        }
    }

    /// Whether [`Self::socket_address`] would find one.
    pub fn has_address(&self) -> bool {
        match &self.target {
            Target::Fixed(_) => true,
            Target::Name { answers, .. } => !answers.load().is_empty(),
        }
    }

    /// The name to look up, if it is one.
    pub fn name(&self) -> Option<&str> {
        match &self.address.host {
            Host::Ip(_) => None,
            Host::Name(name) => Some(name),
        }
    }

    /// Takes a new answer for the name; says whether it differs from the last. An empty answer is ignored: the last good
    /// one stays.
    pub fn resolved(&self, mut addresses: Vec<SocketAddr>) -> bool {
        let Target::Name { answers, .. } = &self.target else {
            return false;
        };
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() || **answers.load() == addresses {
            return false;
        }
        answers.store(Arc::new(addresses));
        true
    }

    /// Tries under way.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Counts a try for as long as the guard lives.
    pub fn begin(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(self.clone())
    }
}

/// A try under way; ends when dropped, also when its request is cancelled or panics.
#[derive(Debug)]
pub struct Active(Arc<Backend>);

impl Active {
    /// The backend it runs on.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Backend {
        Backend::new(BackendAddress {
            host: Host::Name("spare.internal".into()),
            port: 80,
        })
    }

    fn at(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_is_unusable_until_resolved_and_keeps_its_last_good_answer() {
        let backend = named();
        assert!(!backend.has_address());
        assert_eq!(backend.socket_address(), None);
        assert!(backend.resolved(at(&["10.0.0.2:80", "10.0.0.1:80"])));
        assert!(
            !backend.resolved(at(&["10.0.0.1:80", "10.0.0.2:80"])),
            "order does not matter"
        );
        assert!(!backend.resolved(vec![]), "no answer is not an answer");
        let seen: Vec<_> = (0..4).filter_map(|_| backend.socket_address()).collect();
        assert_eq!(
            seen,
            at(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80", "10.0.0.2:80"])
        );
    }

    #[test]
    fn a_try_is_counted_while_its_guard_lives() {
        let backend = Arc::new(named());
        let first = backend.begin();
        let second = backend.begin();
        assert_eq!(backend.active(), 2);
        drop(first);
        drop(second);
        assert_eq!(backend.active(), 0);
    }
}
