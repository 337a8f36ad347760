//! The store behind Pingora's cache phases, and what those phases share: eviction, the fill lock, the memory of what cannot be
//! stored.
//!
//! Made once per process; Pingora wants all of it to live as long as the process does. What may be stored, for how long and
//! for whom is decided in `policy::cache`.

mod memory;

use memory::Memory;
use pingora_cache::eviction::lru::Manager;
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora_cache::predictor::Predictor;
use pingora_cache::{CacheOptionOverrides, HttpCache};
use std::time::Duration;

/// Shards of the eviction list and of the predictor: more than there will be workers at the same spot.
const SHARDS: usize = 16;
/// Keys that are remembered as not worth queuing for, for each shard.
const UNCACHEABLE_KEYS: usize = 1024;
/// Objects for which a shard of the eviction list has room before it grows.
const OBJECTS: usize = 1024;
/// How long a fill may hold its lock. Longer than any request: whoever fills is bounded by its route's `total`.
const FILL: Duration = Duration::from_secs(24 * 3600);

/// Everything the cache phases need.
#[derive(Clone, Copy)]
pub struct Cache {
    storage: &'static Memory,
    eviction: &'static Manager<SHARDS>,
    predictor: &'static Predictor<SHARDS>,
    lock: &'static CacheKeyLockImpl,
    /// Hashes credentials; new in each process, like what it guards.
    secret: &'static [u8; 32],
}

impl Cache {
    /// A cache of at most `memory` bytes.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(memory: usize) -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Cache {
            storage: Box::leak(Box::default()),
            eviction: Box::leak(Box::new(Manager::with_capacity(memory, OBJECTS))),
            predictor: Box::leak(Box::new(Predictor::new(UNCACHEABLE_KEYS, Some(is_passing)))),
            lock: Box::leak(CacheLock::new_boxed(FILL)),
            secret: Box::leak(Box::new(secret)),
        })
    }

    /// Switches the cache on for a request, which waits for another's fill at most for `patience`.
    pub fn enable(&self, cache: &mut HttpCache, max_object: usize, patience: Duration) {
        let mut options = CacheOptionOverrides::default();
        options.wait_timeout = Some(patience);
        cache.enable(
            self.storage,
            Some(self.eviction),
            Some(self.predictor),
            Some(self.lock),
            Some(options),
        );
        cache.set_max_file_size_bytes(max_object);
    }

    /// The hash that stands for credentials in a key.
    pub fn secret_hash(&self, credentials: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(self.secret, credentials).as_bytes()
    }
}

/// Why an answer was not stored, where that may be different the next time.
fn is_passing(reason: &'static str) -> bool {
    reason == "status"
}
