//! How many file descriptors the cache may hold open for later.
//!
//! Connections need them more: half of what the process may have is theirs whatever the cache does. A quarter is for bodies that
//! are sent from files and from sealed memory, another for small files, which are only opened faster by it. Beyond that the cache
//! does without. Asked by `disk::stored`, `disk::kept` and `sealed`.

use rustix::process::{Resource, getrlimit};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Small files at most: an open one takes about a kilobyte of the kernel's memory, where it could have been forgotten.
const MOST_SMALL: u64 = 16 * 1024;

static BODIES: AtomicU64 = AtomicU64::new(0);
static SMALL: AtomicU64 = AtomicU64::new(0);

/// The right to hold one open.
#[derive(Debug)]
pub struct Place(&'static AtomicU64);

/// A place for a body that is sent from its file, if there is one left.
pub fn take() -> Option<Place> {
    take_up_to(&BODIES, quarter())
}

/// The same for who does nearly as well without: half of what there is remains for others.
pub fn take_spare() -> Option<Place> {
    take_up_to(&BODIES, quarter() / 2)
}

/// A place for a small file.
pub fn take_for_small() -> Option<Place> {
    take_up_to(&SMALL, quarter().min(MOST_SMALL))
}

fn take_up_to(taken: &'static AtomicU64, most: u64) -> Option<Place> {
    if taken.fetch_add(1, Ordering::Relaxed) < most {
        return Some(Place(taken));
    }
    taken.fetch_sub(1, Ordering::Relaxed);
    None
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Of what the process may have; that does not change while it runs.
fn quarter() -> u64 {
    static QUARTER: OnceLock<u64> = OnceLock::new();
    *QUARTER.get_or_init(|| getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4)
}
