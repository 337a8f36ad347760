//! The memory tier: whole objects in sharded maps, and which of them has to go when they take too much.
//!
//! The least recently used goes first, exactly: each object knows when it was last given out, and a queue ordered by that
//! time is put right only when something has to go. A hit writes one number and takes no lock of the queue.

use super::key::Key;
use super::object::{Body, Object};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Maps, so that workers rarely wait for one another.
const SHARDS: usize = 64;
/// Variants of one key that are kept; the oldest goes.
const VARIANTS: usize = 64;

type Map = BTreeMap<Key, Vec<Arc<Object>>>;

/// The tier.
pub struct Memory {
    shards: [Mutex<Map>; SHARDS],
    /// When each object was last known to be used, the longest ago first.
    queue: Mutex<BinaryHeap<Reverse<(u64, Key, u64)>>>,
    /// Bytes taken, those of bodies on their way included.
    bytes: AtomicUsize,
    objects: AtomicUsize,
    evicted: AtomicU64,
    limit: usize,
    began: Instant,
}

impl Memory {
    /// A tier of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Memory {
            shards: std::array::from_fn(|_| Mutex::default()),
            queue: Mutex::default(),
            bytes: AtomicUsize::new(0),
            objects: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            limit,
            began: Instant::now(),
        }
    }

    fn shard(&self, url: &[u8; 16]) -> MutexGuard<'_, Map> {
        let shard = &self.shards[usize::from(url[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Everything under a key, the newest last.
    pub fn get(&self, key: &Key) -> Vec<Arc<Object>> {
        self.shard(&key.url).get(key).cloned().unwrap_or_default()
    }

    /// Notes that an object was given out.
    pub fn used(&self, object: &Object) {
        object.used.store(self.now(), Ordering::Relaxed);
    }

    /// Puts an object in, in place of the one it is a newer version of, and makes room.
    pub fn insert(&self, object: &Arc<Object>) {
        let now = self.now();
        object.used.store(now, Ordering::Relaxed);
        let mut gone = Vec::new();
        {
            let mut shard = self.shard(&object.key.url);
            let variants = shard.entry(object.key).or_default();
            variants.retain(|old| {
                let stays = old.variant != object.variant || old.number == object.number;
                if !stays {
                    gone.push(old.clone());
                }
                stays
            });
            if variants.len() >= VARIANTS {
                gone.push(variants.remove(0));
            }
            if variants.iter().all(|old| old.number != object.number) {
                variants.push(object.clone());
                self.bytes.fetch_add(object.size(), Ordering::Relaxed);
                self.objects.fetch_add(1, Ordering::Relaxed);
            }
        }
        for old in gone {
            self.forget(&old);
        }
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push(Reverse((now, object.key, object.number)));
            // What was replaced or purged is still in it.
            if queue.len() > 2 * self.objects.load(Ordering::Relaxed) + 1024 {
                let old = std::mem::take(&mut *queue);
                *queue = old
                    .into_iter()
                    .filter(|Reverse((_, key, number))| self.find(key, *number).is_some())
                    .collect();
            }
        }
        self.make_room();
    }

    /// Whether exactly this object is in.
    pub fn contains(&self, object: &Object) -> bool {
        self.find(&object.key, object.number).is_some()
    }

    /// Puts a newer version of an object in its place; not if it is not there any more.
    pub fn replace(&self, old: &Object, new: &Arc<Object>) -> bool {
        let now = self.now();
        new.used.store(now, Ordering::Relaxed);
        {
            let mut shard = self.shard(&old.key.url);
            let variants = shard.get_mut(&old.key);
            let place = variants.and_then(|v| v.iter_mut().find(|o| o.number == old.number));
            let Some(place) = place else {
                return false;
            };
            *place = new.clone();
        }
        self.bytes.fetch_add(new.size(), Ordering::Relaxed);
        self.bytes.fetch_sub(old.size(), Ordering::Relaxed);
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push(Reverse((now, new.key, new.number)));
        }
        self.make_room();
        true
    }

    fn find(&self, key: &Key, number: u64) -> Option<Arc<Object>> {
        let shard = self.shard(&key.url);
        let found = shard.get(key)?.iter().find(|o| o.number == number);
        found.cloned()
    }

    /// Takes exactly this object out. Says whether it was in.
    pub fn remove(&self, object: &Object) -> bool {
        let mut shard = self.shard(&object.key.url);
        let Some(variants) = shard.get_mut(&object.key) else {
            return false;
        };
        let before = variants.len();
        variants.retain(|o| o.number != object.number);
        let removed = variants.len() < before;
        if variants.is_empty() {
            shard.remove(&object.key);
        }
        drop(shard);
        if removed {
            self.forget(object);
        }
        removed
    }

    /// Takes everything out that is kept for a URL.
    pub fn remove_url(&self, url: [u8; 16]) -> usize {
        let keys: Vec<Key> = {
            let shard = self.shard(&url);
            shard.range(Key::of_url(url)).map(|(k, _)| *k).collect()
        };
        let mut removed = 0;
        for key in keys {
            let objects = self.shard(&url).remove(&key).unwrap_or_default();
            removed += objects.len();
            objects.iter().for_each(|o| self.forget(o));
        }
        removed
    }

    /// Takes everything out that fits.
    pub fn remove_if(&self, fits: impl Fn(&Object) -> bool) -> usize {
        let mut gone = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, variants| {
                variants.retain(|object| {
                    let goes = fits(object);
                    if goes {
                        gone.push(object.clone());
                    }
                    !goes
                });
                !variants.is_empty()
            });
        }
        gone.iter().for_each(|o| self.forget(o));
        gone.len()
    }

    fn forget(&self, object: &Object) {
        self.bytes.fetch_sub(object.size(), Ordering::Relaxed);
        self.objects.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts bytes of a body on its way.
    pub fn reserve(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.make_room();
    }

    /// They are free again.
    pub fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether bodies on their way alone take everything.
    pub fn is_exhausted(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limit
    }

    /// The least recently used go until the rest fits.
    fn make_room(&self) {
        while self.bytes.load(Ordering::Relaxed) > self.limit {
            let oldest = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.pop()
            };
            let Some(Reverse((stamp, key, number))) = oldest else {
                return;
            };
            let Some(object) = self.find(&key, number) else {
                continue;
            };
            let used = object.used.load(Ordering::Relaxed);
            let growing = matches!(object.body, Body::Growing(_));
            if used > stamp {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.push(Reverse((used, key, number)));
            } else if !growing && self.remove(&object) {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Objects, bytes, the limit, and how many had to go.
    pub fn figures(&self) -> (usize, usize, usize, u64) {
        (
            self.objects.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
            self.limit,
            self.evicted.load(Ordering::Relaxed),
        )
    }
}
