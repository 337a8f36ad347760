//! The consistent hash ring, which pingora-load-balancing holds: ketama, as nginx's `hash … consistent`.
//!
//! Used by [`super::Upstream`] for `balance: hash`. Which of the backends it offers is taken is the balancer's decision.

use crate::config::{BackendPlan, Host};
use crate::policy::balancer::Ring;
use pingora_load_balancing::Backend as Node;
use pingora_load_balancing::selection::{BackendIter, BackendSelection, Consistent};
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

struct Ketama {
    ring: Arc<Consistent>,
    positions: HashMap<SocketAddr, usize>,
}

/// The ring of these backends; those of weight 0 are not on it.
pub(super) fn build(backends: &[BackendPlan]) -> Box<dyn Ring> {
    let mut nodes = BTreeSet::new();
    let mut positions = HashMap::new();
    for (position, backend) in backends.iter().enumerate() {
        let point = point(backend);
        positions.insert(point, position);
        if backend.weight > 0
            && let Ok(node) = Node::new_with_weight(&point.to_string(), backend.weight as usize)
        {
            nodes.insert(node);
        }
    }
    Box::new(Ketama {
        ring: Arc::new(Consistent::build(&nodes)),
        positions,
    })
}

/// Where a backend stands: its address, or for a name an address made of the name's hash (in the discard prefix of
/// RFC 6666), so that a name keeps its place whatever it resolves to.
fn point(backend: &BackendPlan) -> SocketAddr {
    let address = &backend.address;
    match &address.host {
        Host::Ip(ip) => SocketAddr::new(*ip, address.port),
        Host::Name(name) => {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            let bits = (0x0100_u128 << 112) | u128::from(hasher.finish());
            SocketAddr::new(Ipv6Addr::from_bits(bits).into(), address.port)
        }
    }
}

impl Ring for Ketama {
    fn walk(&self, key: &[u8], take: &mut dyn FnMut(usize) -> bool) {
        let mut nodes = self.ring.iter(key);
        // The ring holds many points per backend; twice around is more than enough to have met all of them.
        let mut points = self.positions.len().saturating_mul(320);
        while let Some(node) = nodes.next() {
            let taken = node
                .addr
                .as_inet()
                .and_then(|address| self.positions.get(address))
                .is_some_and(|&position| take(position));
            points = points.saturating_sub(1);
            if taken || points == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BackendAddress, BackendState};
    use crate::policy::health::FailRules;

    fn backends(hosts: &[&str]) -> Vec<BackendPlan> {
        hosts
            .iter()
            .map(|host| BackendPlan {
                address: BackendAddress {
                    host: host
                        .parse()
                        .map_or_else(|_| Host::Name(host.to_string()), Host::Ip),
                    port: 80,
                },
                weight: 1,
                backup: false,
                fail: FailRules::default(),
                max_conns: None,
                state: BackendState::Up,
            })
            .collect()
    }

    fn first(ring: &dyn Ring, key: &str) -> Option<usize> {
        let mut chosen = None;
        ring.walk(key.as_bytes(), &mut |i| {
            chosen = Some(i);
            true
        });
        chosen
    }

    #[test]
    fn removing_a_backend_moves_only_its_own_keys() {
        let three = build(&backends(&["10.0.0.1", "10.0.0.2", "spare.internal"]));
        let two = build(&backends(&["10.0.0.1", "10.0.0.2"]));
        let mut counts = [0; 3];
        for key in (0..3000).map(|n| format!("user-{n}")) {
            let before = first(three.as_ref(), &key).unwrap();
            counts[before] += 1;
            if before < 2 {
                assert_eq!(first(two.as_ref(), &key), Some(before), "{key}");
            }
        }
        assert!(counts.iter().all(|&n| n > 600), "{counts:?}");
    }

    #[test]
    fn a_walk_meets_every_backend() {
        let ring = build(&backends(&["10.0.0.1", "10.0.0.2", "a.test", "b.test"]));
        let mut seen = BTreeSet::new();
        ring.walk(b"key", &mut |i| {
            seen.insert(i);
            seen.len() == 4
        });
        assert_eq!(seen.len(), 4);
    }
}
