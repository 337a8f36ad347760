//! The memory tier: whole objects in sharded maps, and which of them has to go when they take too much.
//!
//! The least recently used goes first: each object knows when it was last given out, to the moment at which the task was woken that
//! did so, and a queue ordered by that time is put right only when something has to go. A hit writes one number and takes no lock of the queue.

use super::disk::{Id, Standing};
use super::key::Key;
use super::object::{Body, Object};
use crate::clock;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Maps, so that workers rarely wait for one another.
const SHARDS: usize = 64;
/// Variants of one key that are kept; the least recently used goes.
const VARIANTS: usize = 64;

type Map = BTreeMap<Key, Vec<Arc<Object>>>;

/// What is in an object's place.
fn same_variant<'a>(map: &'a Map, object: &'a Object) -> impl Iterator<Item = &'a Arc<Object>> {
    let variants = map.get(&object.key).into_iter().flatten();
    variants.filter(|other| other.variant == object.variant)
}

/// The tier.
pub struct Memory {
    shards: [Mutex<Map>; SHARDS],
    /// When each object was last known to be used, the longest ago first.
    queue: Mutex<BinaryHeap<Reverse<(u64, Key, u64)>>>,
    /// Bytes taken, those of bodies on their way included, and of what had to go but is still being read.
    bytes: Arc<AtomicUsize>,
    /// Bytes that were read from files for clients and are on their way to them.
    lent: AtomicUsize,
    objects: AtomicUsize,
    evicted: AtomicU64,
    limit: usize,
    /// As [`clock::now`] counts.
    began: Duration,
    /// The same moment in microseconds since the epoch, by which the disk tier counts.
    began_at: u64,
}

impl Memory {
    /// A tier of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Memory {
            shards: std::array::from_fn(|_| Mutex::default()),
            queue: Mutex::default(),
            bytes: Arc::default(),
            lent: AtomicUsize::new(0),
            objects: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            limit,
            began: clock::now(),
            began_at: since_epoch(),
        }
    }

    fn shard(&self, url: &[u8; 16]) -> MutexGuard<'_, Map> {
        let shard = &self.shards[usize::from(url[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        let since = clock::now().saturating_sub(self.began);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// Everything under a key, the newest last.
    pub fn get(&self, key: &Key) -> Vec<Arc<Object>> {
        self.shard(&key.url).get(key).cloned().unwrap_or_default()
    }

    /// What is under a key, where that is one object, for whoever asks for it.
    pub fn only(&self, key: &Key) -> Option<Arc<Object>> {
        match self.shard(&key.url).get(key).map(Vec::as_slice) {
            Some([object]) if object.variant.is_none() => Some(object.clone()),
            _ => None,
        }
    }

    /// Notes that an object was given out.
    pub fn used(&self, object: &Object) {
        // By a task that may have been woken before it was put in.
        object.used.fetch_max(self.now(), Ordering::Relaxed);
    }

    /// Puts an object in, in place of the one it is a newer version of, and makes room. Not in place of one that is newer,
    /// nor where `is_barred`, which is asked under the lock that removals take. Says whether it is in.
    pub fn insert(&self, object: &Arc<Object>, is_barred: impl FnOnce() -> bool) -> bool {
        {
            let mut shard = self.shard(&object.key.url);
            let older = |old: &Arc<Object>| !old.is_newer_than(object);
            if is_barred() || !same_variant(&shard, object).all(older) {
                return false;
            }
            self.put(&mut shard, object);
        }
        self.queue(object);
        true
    }

    /// Puts an object in that was read from a file, unless it is in already or a newer one is. Returns what is to be given
    /// out in any case: what is in, if it is the same answer. `None` where `is_barred`.
    pub fn restore(
        &self,
        object: &Arc<Object>,
        is_barred: impl FnOnce() -> bool,
    ) -> Option<Arc<Object>> {
        {
            let mut shard = self.shard(&object.key.url);
            if is_barred() {
                return None;
            }
            let is_same = |old: &&Arc<Object>| old.born == object.born && old.is_in_memory();
            if let Some(same) = same_variant(&shard, object).find(is_same) {
                return Some(same.clone());
            }
            if same_variant(&shard, object).any(|old| old.born > object.born) {
                return Some(object.clone());
            }
            self.put(&mut shard, object);
        }
        self.queue(object);
        Some(object.clone())
    }

    /// Puts the newer version of an object in, in the place of that one if it is there. If it is not, it was in a file
    /// only, or was purged: `is_barred` knows.
    pub fn renew(&self, old: &Object, new: &Arc<Object>, is_barred: impl FnOnce() -> bool) -> bool {
        {
            let mut shard = self.shard(&old.key.url);
            if is_barred() {
                return false;
            }
            let is_beaten = same_variant(&shard, new).any(|other| other.born > old.born);
            let variants = shard.get_mut(&old.key);
            let place = variants.and_then(|v| v.iter_mut().find(|o| o.number == old.number));
            match place {
                Some(place) => self.exchange(place, new),
                None if is_beaten => return false,
                None => self.put(&mut shard, new),
            }
        }
        self.queue(new);
        true
    }

    /// Puts an object in, under the lock.
    fn put(&self, shard: &mut Map, object: &Arc<Object>) {
        let mut gone = Vec::new();
        let variants = shard.entry(object.key).or_default();
        variants.retain(|old| {
            let stays = old.variant != object.variant;
            if !stays {
                gone.push(old.clone());
            }
            stays
        });
        if variants.len() >= VARIANTS {
            let uses = variants.iter().map(|o| o.used.load(Ordering::Relaxed));
            let oldest = uses.enumerate().min_by_key(|&(_, used)| used);
            gone.push(variants.remove(oldest.map_or(0, |(place, _)| place)));
        }
        object.used.store(self.now(), Ordering::Relaxed);
        variants.push(object.clone());
        object.count(&self.bytes);
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.objects.fetch_sub(gone.len(), Ordering::Relaxed);
    }

    /// Puts an object in the place of its older version.
    fn exchange(&self, place: &mut Arc<Object>, new: &Arc<Object>) {
        new.used.store(self.now(), Ordering::Relaxed);
        new.count(&self.bytes);
        *place = new.clone();
    }

    /// Notes that an object came, and makes room.
    fn queue(&self, object: &Object) {
        let used = object.used.load(Ordering::Relaxed);
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push(Reverse((used, object.key, object.number)));
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

    /// The same answer, if all of it is in memory.
    pub fn same(&self, object: &Object) -> Option<Arc<Object>> {
        let shard = self.shard(&object.key.url);
        let is_same = |other: &&Arc<Object>| other.born == object.born && other.is_in_memory();
        same_variant(&shard, object).find(is_same).cloned()
    }

    /// Whether a newer version of this object is in, or a newer answer in its place.
    pub fn has_newer(&self, object: &Object) -> bool {
        let shard = self.shard(&object.key.url);
        same_variant(&shard, object).any(|other| other.is_newer_than(object))
    }

    /// Whether exactly this object is in.
    pub fn contains(&self, object: &Object) -> bool {
        self.find(&object.key, object.number).is_some()
    }

    /// Puts a newer version of an object in its place; not if it is not there any more.
    pub fn replace(&self, old: &Object, new: &Arc<Object>) -> bool {
        {
            let mut shard = self.shard(&old.key.url);
            let variants = shard.get_mut(&old.key);
            let place = variants.and_then(|v| v.iter_mut().find(|o| o.number == old.number));
            let Some(place) = place else {
                return false;
            };
            self.exchange(place, new);
        }
        self.queue(new);
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
            self.objects.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// Takes the heads of answers out whose bodies are in a file of this name that has it no more.
    pub fn forget_file(&self, id: Id) {
        let keys = Key::of_hash(id.url);
        let mut shard = self.shard(&keys.start().url);
        let keys: Vec<Key> = shard.range(keys).map(|(key, _)| *key).collect();
        let mut gone = Vec::new();
        for key in keys {
            let Some(variants) = shard.get_mut(&key) else {
                continue;
            };
            variants.retain(|object| {
                let is_gone = matches!(&object.body, Body::File(stored)
                    if stored.id() == id && stored.standing() == Standing::Gone);
                if is_gone {
                    gone.push(object.clone());
                }
                !is_gone
            });
            if variants.is_empty() {
                shard.remove(&key);
            }
        }
        drop(shard);
        self.objects.fetch_sub(gone.len(), Ordering::Relaxed);
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
            self.objects.fetch_sub(objects.len(), Ordering::Relaxed);
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
        self.objects.fetch_sub(gone.len(), Ordering::Relaxed);
        gone.len()
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

    /// Counts bytes that are on their way from a file to a client.
    pub fn lend(&self, bytes: usize) {
        self.lent.fetch_add(bytes, Ordering::Relaxed);
        self.make_room();
    }

    /// The client has them.
    pub fn returned(&self, bytes: usize) {
        self.lent.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn taken(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) + self.lent.load(Ordering::Relaxed)
    }

    /// Whether so many bytes more can be taken without anything having to go.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.taken() + bytes <= self.limit
    }

    /// When what has to go next was last used, in microseconds since the epoch; never, if there is nothing.
    pub fn oldest_use(&self) -> u64 {
        loop {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(&Reverse((stamp, key, number))) = queue.peek() else {
                return u64::MAX;
            };
            let used = self
                .find(&key, number)
                .map(|o| o.used.load(Ordering::Relaxed));
            if used == Some(stamp) {
                return self.began_at.saturating_add(stamp);
            }
            queue.pop();
            if let Some(used) = used {
                queue.push(Reverse((used, key, number)));
            }
        }
    }

    /// Whether more is taken than may be, with nothing left that could make room.
    pub fn is_crowded(&self) -> bool {
        self.taken() > self.limit
    }

    /// Whether bodies on their way alone take everything.
    pub fn is_exhausted(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limit
    }

    /// The least recently used go until the rest fits.
    fn make_room(&self) {
        while self.is_crowded() {
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
            self.taken(),
            self.limit,
            self.evicted.load(Ordering::Relaxed),
        )
    }
}

fn since_epoch() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
