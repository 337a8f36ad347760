//! How many file descriptors the cache may hold open for later.
//!
//! Connections need them more: the cache has a quarter of what the process may have, and does without beyond it. Asked by
//! `disk::stored` and `sealed`.

use rustix::process::{Resource, getrlimit};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// The right to hold one open.
#[derive(Debug)]
pub struct Place(());

/// A place for one, if there is one left.
pub fn take() -> Option<Place> {
    take_up_to(most())
}

/// The same for who does nearly as well without: half of what there is remains for others.
pub fn take_spare() -> Option<Place> {
    take_up_to(most() / 2)
}

fn take_up_to(most: u64) -> Option<Place> {
    if TAKEN.fetch_add(1, Ordering::Relaxed) < most {
        return Some(Place(()));
    }
    TAKEN.fetch_sub(1, Ordering::Relaxed);
    None
}

impl Drop for Place {
    fn drop(&mut self) {
        TAKEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What there is for the cache; the limit does not change while the process runs.
fn most() -> u64 {
    static MOST: OnceLock<u64> = OnceLock::new();
    *MOST.get_or_init(|| getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4)
}
