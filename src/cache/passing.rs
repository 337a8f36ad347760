//! The memory of answers that are not stored, so that nobody waits for a fill that will not help.
//!
//! Bounded, and forgetful: a key that is pushed out or has been in it for too long only costs one wait.

use super::key::Key;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const SHARDS: usize = 16;
/// Keys in a shard.
const KEYS: usize = 4096;
/// How long a key is remembered, as Varnish does by default.
const MEMORY: Duration = Duration::from_secs(120);

/// Keys whose answers were not stored the last time.
#[derive(Default)]
pub struct Passing {
    shards: [Mutex<HashMap<Key, Instant>>; SHARDS],
}

impl Passing {
    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Instant>> {
        let shard = &self.shards[usize::from(key.url[1]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an answer for this key is not worth waiting for.
    pub fn contains(&self, key: &Key) -> bool {
        let shard = self.shard(key);
        shard.get(key).is_some_and(|since| since.elapsed() < MEMORY)
    }

    /// The answer was not stored.
    pub fn remember(&self, key: Key) {
        let mut shard = self.shard(&key);
        if shard.len() >= KEYS && !shard.contains_key(&key) {
            shard.retain(|_, since| since.elapsed() < MEMORY);
            // Still full: any other makes room.
            if shard.len() >= KEYS
                && let Some(other) = shard.keys().next().copied()
            {
                shard.remove(&other);
            }
        }
        shard.insert(key, Instant::now());
    }

    /// The next answer can be stored.
    pub fn forget(&self, key: &Key) {
        self.shard(key).remove(key);
    }
}
