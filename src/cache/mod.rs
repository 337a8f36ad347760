//! The store: a memory tier in front of files, the fills under way, and what is known not to be worth a wait.
//!
//! Made once per process; Pingora wants it to live as long as the process does. It finds and keeps; what may be stored, for
//! how long, for whom, and whether a stored answer fits a request is decided in `policy::cache`.

mod buffer;
mod codec;
mod descriptors;
pub mod disk;
pub mod fills;
pub mod find;
pub mod growing;
pub mod head;
pub mod key;
mod memory;
pub mod moment;
pub mod object;
mod passing;
pub mod purges;
pub mod reader;
mod sealed;
pub mod storage;
mod sweep;
pub mod whole;
mod writer;

use crate::policy::cache::key::{KeyParts, url, vary_key};
use crate::policy::cache::validation::combinable;
pub use find::Found;

use bytes::Bytes;
use disk::{Disk, DiskSettings, DiskStatus, Id, Standing, Stored, Updated};
use fills::{Ends, Fills, Part};
use find::Loads;
use http::{HeaderMap, header};
use key::{Key, Variant};
use log::{error, warn};
use memory::Memory;
use moment::Moment;
use object::{Body, Object};
use passing::Passing;
use purges::{Purge, Purges, What};
use sealed::Sealed;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use sweep::Sweeper;
use thiserror::Error;

/// How long the answer of a change waits for what it makes void to be removed from files.
const FORGETTING: Duration = Duration::from_millis(250);

/// Bodies up to this many bytes are kept in memory besides a file.
const SMALL: usize = 512 * 1024;
/// From so many bytes on a body that is in a file is sent from there, which takes no copy of it.
pub const IN_FILE: usize = 32 * 1024;
/// How often the disk tier hears that an object in memory is in use, in microseconds.
const TELL: u64 = 60_000_000;

/// Why there is no cache.
#[derive(Debug, Error)]
pub enum CacheError {
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// The tiers, and what belongs to them.
pub struct Store {
    pub(crate) memory: Memory,
    disk: Option<Arc<Disk>>,
    fills: Fills,
    passing: Passing,
    loads: Loads,
    secret: key::Secret,
    purges: Purges,
    sweeper: Sweeper,
}

/// The process's store.
#[derive(Clone, Copy)]
pub struct Cache(&'static Store);

/// Memory that somebody else holds on behalf of the cache; counted until dropped.
pub struct Held {
    store: &'static Store,
    bytes: usize,
}

impl Held {
    /// So many bytes more.
    pub fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.store.memory.reserve(bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.store.memory.release(self.bytes);
    }
}

/// Figures of the store.
#[derive(Debug, Clone)]
pub struct Status {
    /// The memory tier.
    pub memory: Tier,
    /// The files, where there are any.
    pub disk: Option<DiskStatus>,
    /// Fills under way whose answer has not begun to come.
    pub fills: u64,
    /// How fills have ended so far.
    pub fills_ended: Ends<u64>,
}

/// Figures of the memory tier.
#[derive(Debug, Clone, Copy)]
pub struct Tier {
    /// Answers.
    pub objects: u64,
    /// What they take, with what is on its way.
    pub bytes: u64,
    /// What they may take.
    pub limit: u64,
    /// Answers that had to go to make room.
    pub evicted: u64,
}

impl Cache {
    /// A cache of at most `memory` bytes, and files if there is a place for them. One that cannot be used is tried again
    /// later.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(memory: usize, disk: Option<DiskSettings>) -> Result<Self, CacheError> {
        let purges = match &disk {
            Some(settings) => Purges::in_directory(&settings.path),
            None => Purges::default(),
        };
        let opened = disk.map(Disk::open).transpose()?;
        if let Some((_, Some(trouble))) = &opened {
            error!("{trouble}; until it can be used, new answers are kept in memory only");
        }
        let disk = opened.map(|(disk, _)| disk);
        let mut secret = [0; 32];
        match &disk {
            // The names of files are made with it, so it has to last as long as they do.
            Some(disk) => secret = *disk.secret(),
            None => getrandom::fill(&mut secret)?,
        }
        let store: &'static Store = Box::leak(Box::new(Store {
            memory: Memory::new(memory),
            disk,
            fills: Fills::default(),
            passing: Passing::default(),
            loads: Loads::default(),
            secret: key::Secret::new(secret),
            purges,
            sweeper: Sweeper::default(),
        }));
        if let Some(disk) = &store.disk {
            disk.tell_of_removals(|id| store.memory.forget_file(id));
        }
        Ok(Cache(store))
    }

    /// Begins to look through the files of an earlier process; answers are found meanwhile.
    pub fn start(self) {
        if let Some(disk) = &self.0.disk {
            disk.start_indexing();
            sweep::start(self.0);
            if !self.0.purges.is_swept() {
                self.0.sweeper.ring();
            }
        }
    }

    /// What Pingora calls.
    pub fn storage(self) -> &'static Store {
        self.0
    }

    /// The hash that stands for credentials in a key.
    pub fn secret_hash(self, credentials: &[u8]) -> [u8; 32] {
        self.0.secret.hash(credentials)
    }

    /// The key for these parts.
    #[inline(never)] // Counted by its name in `benches/instructions.py`.
    pub fn key(self, parts: &KeyParts) -> Key {
        self.0.secret.key(parts)
    }

    /// Who of those that share a key sends these credentials.
    pub fn asker(self, key: &Key, credentials: &[u8]) -> [u8; 16] {
        self.0.secret.half(&[&key.who, credentials].concat())
    }

    /// Which variant a request asks for, of an answer with these fields.
    pub fn variant(self, answer: &HeaderMap, request: &HeaderMap) -> Option<Variant> {
        let key = vary_key(answer, request)?;
        Some(self.0.secret.half(&key))
    }

    /// The tier that readers of files count their bytes in.
    pub(crate) fn memory(self) -> &'static Memory {
        &self.0.memory
    }

    /// Nothing yet of what somebody will hold on behalf of the cache.
    pub fn held(self) -> Held {
        Held {
            store: self.0,
            bytes: 0,
        }
    }

    /// Whether what is on its way alone takes all the memory there is.
    pub fn is_exhausted(self) -> bool {
        self.0.memory.is_exhausted()
    }

    /// The moment it is.
    pub fn moment(self) -> Moment {
        self.0.purges.clock().now()
    }

    /// The moment at which something began that has taken so long.
    pub fn began(self, elapsed: Duration) -> Moment {
        self.0.purges.clock().ago(elapsed)
    }

    /// Joins the fill under way for a key, or begins one, on behalf of a request that found this. `looks`: whether it looks again
    /// where what it wants may have come since.
    pub fn join(self, key: Key, found: &Found, looks: bool) -> Part {
        let is_over = |fill: Moment| self.0.purges.any_since(&key.url, fill);
        let ended = looks.then_some(found.ended);
        let fills = &self.0.fills;
        fills.join(key, found.variant, found.began, ended, is_over)
    }

    /// The fills under way.
    pub fn fills(self) -> &'static Fills {
        &self.0.fills
    }

    /// Keys whose answers are not stored.
    pub fn passing(self) -> &'static Passing {
        &self.0.passing
    }

    /// Puts an answer in whose body is in memory, as a request brings it that began then.
    pub fn insert(self, mut object: Object, began: Moment) {
        if let Body::Memory(body) = &object.body {
            if self.0.disk.is_some() && !object.memory_only {
                object.file = Some(object.id());
            } else if let Some(sealed) = Sealed::of(std::slice::from_ref(body)) {
                object.body = Body::Sealed(Arc::new(sealed));
            }
        }
        let object = Arc::new(object);
        let is_barred = || self.0.purges.bars(&object, began);
        if !self.0.memory.insert(&object, is_barred) {
            return;
        }
        if object.memory_only {
            tokio::spawn(async move { self.0.clear_place(&object).await });
        } else if object.file.is_some() {
            tokio::spawn(async move { self.0.write_small(&object, began).await });
        }
    }

    /// Puts a validated answer in place of what it was, as a request brings it that began then. What was purged since stays
    /// away; what is not whole yet is its writer's to put in place.
    pub async fn replace(self, old: &Object, new: &Arc<Object>, began: Moment) {
        let store = self.0;
        // Both: a purge by tag may mean what it was.
        let before = old.refreshed(old.head.clone(), old.freshness);
        let is_barred =
            move |new: &Object| store.purges.bars(new, began) || store.purges.bars(&before, began);
        if matches!(old.body, Body::Growing(_)) || is_barred(new) {
            return;
        }
        if new.variant != old.variant {
            // It varies on something else now, and has another place.
            self.remove(old).await;
            if !matches!(new.body, Body::File(_)) && store.memory.insert(new, || is_barred(new)) {
                store.clear_place(new).await;
            }
            return;
        }
        // What is in a file only stays there.
        let belongs = !matches!(new.body, Body::File(_)) || store.memory.contains(old);
        if belongs && !store.memory.renew(old, new, || is_barred(new)) {
            return;
        }
        let (Some(disk), Some(id)) = (&store.disk, old.file) else {
            return;
        };
        if new.memory_only {
            // After it is in memory: so no writer of the old one puts it back.
            self.remove(old).await;
            return;
        }
        let (disk, head, new) = (disk.clone(), codec::encode(new), new.clone());
        let _ = tokio::task::spawn_blocking(move || {
            let copy = new.copy.load(Ordering::Acquire);
            let keep = |there: &[u8]| {
                let there = codec::decode(there, id, Body::Memory(Bytes::new()));
                there.is_some_and(|there| !store.purges.hit(&there)) && !is_barred(&new)
            };
            // Only the file that has this very body: another one's is none of this head's.
            if disk.update_head(id, copy, &head, &keep) == Updated::Other {
                store.write(&disk, id, &new, &|| !is_barred(&new));
            }
        })
        .await;
    }

    /// Forgets one answer.
    pub async fn remove(self, object: &Object) {
        self.0.memory.remove(object);
        self.0.remove_file(object).await;
    }

    /// Purges. No request that begins after this returns gets what was purged, nor what was asked of the origin before.
    ///
    /// # Errors
    /// When a purge by prefix or tag, or of all, cannot be written down: it holds, but a crash before all files were gone
    /// through would undo it for those that were not.
    pub async fn purge(self, what: Purge) -> io::Result<usize> {
        let store = self.0;
        let what = match what {
            Purge::Url {
                scheme,
                host,
                target,
            } => {
                let url = store.secret.half(&url(&scheme, &host, &target));
                let (removed, lasting) = store.remove_urls(vec![url], true).await;
                return lasting.map(|()| removed);
            }
            Purge::Prefix(prefix) => What::Prefix(prefix),
            Purge::Tag(tag) => What::Tag(tag),
            Purge::All => What::All,
        };
        let is_all = what == What::All;
        let at = store.purges.add(what);
        let removed = store.leave_memory();
        let Some(disk) = store.disk.clone() else {
            return Ok(removed);
        };
        let saved = tokio::task::spawn_blocking(move || {
            if is_all {
                // So that its files need not be read one by one.
                disk.remove_everything_before(at.since_epoch());
            }
            store.purges.save()
        });
        store.sweeper.ring();
        saved.await.map_err(io::Error::other)??;
        Ok(removed)
    }

    /// What is in it.
    pub fn status(self) -> Status {
        let (objects, bytes, limit, evicted) = self.0.memory.figures();
        Status {
            memory: Tier {
                objects: objects as u64,
                bytes: bytes as u64,
                limit: limit as u64,
                evicted,
            },
            disk: self.0.disk.as_ref().map(|disk| disk.status()),
            fills: self.0.fills.count() as u64,
            fills_ended: self.0.fills.ends(),
        }
    }

    /// Forgets all answers for these URLs, as [`url`] makes them, also those on their way: whoever they are for, by
    /// whatever rules they were stored.
    pub async fn forget_urls(self, urls: &[Vec<u8>]) {
        let urls = urls.iter().map(|url| self.0.secret.half(url));
        let urls: Vec<_> = urls.collect();
        if self.0.disk.is_none() {
            self.0.remove_from_memory(&urls);
            return;
        }
        let removal = tokio::spawn(async move {
            let (_, done) = self.0.remove_urls(urls, false).await;
            if let Err(e) = done {
                warn!("what was changed at the upstream may be given out after a restart: {e}");
            }
        });
        // A disk that hangs must not hold up the answer of a change; the removal goes on by itself.
        let _ = tokio::time::timeout(FORGETTING, removal).await;
    }
}

impl Store {
    fn used(&self, object: &Object) {
        self.memory.used(object);
        let (Some(disk), Some(id)) = (&self.disk, object.file) else {
            return;
        };
        let now = object.used.load(Ordering::Relaxed);
        let told = object.told.load(Ordering::Relaxed);
        if told == 0 || now.saturating_sub(told) > TELL {
            object.told.store(now.max(1), Ordering::Relaxed);
            disk.used(id);
        }
    }

    /// Writes an object's file, if it is to have one. `began`: when the request did that brought it.
    async fn write_small(&'static self, object: &Arc<Object>, began: Moment) {
        let (Some(disk), Some(id), Body::Memory(_)) = (&self.disk, object.file, &object.body)
        else {
            return;
        };
        let (disk, object) = (disk.clone(), object.clone());
        let _ = tokio::task::spawn_blocking(move || {
            // Unless it was purged, written with a newer head already, or another took its place.
            let keep = || {
                let is_written = object.copy.load(Ordering::Acquire) != 0;
                let is_old = is_written || self.memory.has_newer(&object);
                !is_old && !self.purges.bars(&object, began)
            };
            self.write(&disk, id, &object, &keep);
        })
        .await;
    }

    /// Writes a file whole. Where that does not work, the answer is in memory only, and what has its file's name is not this
    /// one.
    fn write(&self, disk: &Arc<Disk>, id: Id, object: &Object, keep: disk::Keep<'_>) {
        let Body::Memory(body) = &object.body else {
            return;
        };
        let head = codec::encode(object);
        if let Ok(mut file) = disk.create(id, head.len())
            && file.append(body).is_ok()
        {
            let copy = file.reader().copy();
            let kept = || {
                let kept = keep();
                if kept {
                    object.copy.store(copy, Ordering::Release);
                }
                kept
            };
            if let Ok(stored) = file.finish_if(&head, &kept) {
                self.leave_to_file(object, stored, body.len());
            }
        }
    }

    /// Of a large answer that is in a file now, only the head stays in memory: see [`Cache::find`].
    fn leave_to_file(&self, object: &Object, stored: Arc<Stored>, len: usize) {
        if len >= IN_FILE && stored.standing() != Standing::Gone && stored.stays_open() {
            let body = Body::File(stored);
            self.memory.replace(object, &Arc::new(object.moved(body)));
        }
    }

    /// Removes an object's file.
    async fn remove_file(&self, object: &Object) {
        if let (Some(disk), Some(id)) = (&self.disk, object.file) {
            let disk = disk.clone();
            let _ = tokio::task::spawn_blocking(move || disk.remove(id)).await;
        }
    }

    /// Takes the file away that has the place of an answer which may be in none: it would be found there later.
    async fn clear_place(&self, object: &Object) {
        if let (Some(disk), true) = (&self.disk, object.memory_only) {
            let (disk, id) = (disk.clone(), object.id());
            let _ = tokio::task::spawn_blocking(move || disk.remove(id)).await;
        }
    }

    /// Takes out of memory what the rules mean.
    fn leave_memory(&self) -> usize {
        let removed = self.memory.remove_if(|object| self.purges.hit(object));
        self.purges.settled();
        removed
    }

    /// Removes all there is of these URLs. How many that were; and whether all files are gone, with `lasting` even after a
    /// crash of the system, or it is at least written down that they are purged.
    async fn remove_urls(
        &'static self,
        urls: Vec<[u8; 16]>,
        lasting: bool,
    ) -> (usize, io::Result<()>) {
        let Some(disk) = &self.disk else {
            return (self.remove_from_memory(&urls), Ok(()));
        };
        // Not given up when the request that asks for it is.
        let removal = tokio::task::spawn_blocking(move || {
            let (mut removed, mut done) = (0, Ok(()));
            for url in &urls {
                let (count, gone) = self.remove_url(disk, url, lasting);
                removed += count;
                done = done.and(gone);
            }
            (removed, done)
        });
        let gone = removal.await;
        gone.unwrap_or_else(|e| (0, Err(io::Error::other(e))))
    }

    /// Removes all there is of these URLs where nothing is in files. Takes no time, least of all where nothing is stored: every
    /// change that passes comes here.
    fn remove_from_memory(&self, urls: &[[u8; 16]]) -> usize {
        let removed = urls.iter().map(|url| {
            let _going = self.purges.begin_url(url);
            self.memory.remove_url(*url)
        });
        removed.sum()
    }

    /// Removes all there is of one, waiting for the disk.
    fn remove_url(&self, disk: &Disk, url: &[u8; 16], lasting: bool) -> (usize, io::Result<()>) {
        let going = self.purges.begin_url(url);
        let in_memory = self.memory.remove_url(*url);
        match disk.remove_url(object::first(url), lasting) {
            Ok(in_files) => (in_memory.max(in_files), Ok(())),
            Err(e) => {
                warn!("purged files cannot be removed, and are not given out: {e}");
                self.purges.add(What::Url(*url));
                drop(going);
                (in_memory, self.purges.save())
            }
        }
    }
}

impl Cache {
    /// Whether another answer to the same requests came after this one was asked for.
    pub fn has_newer(self, object: &Object, asked: Duration) -> bool {
        let objects = self.0.memory.get(&object.key);
        objects.iter().any(|other| {
            other.variant == object.variant
                && other.freshness.received > asked
                && !is_combinable(other, object)
        })
    }

    /// The object in memory that this one is a part of, or the other way round: same key, same variant, same strong validator
    /// (RFC 9111 §3.4).
    pub fn same_answer(self, object: &Object) -> Option<Arc<Object>> {
        let objects = self.0.memory.get(&object.key);
        objects.into_iter().rev().find(|other| {
            other.variant == object.variant
                && other.length() == object.length()
                && is_combinable(other, object)
        })
    }
}

/// Whether two are parts of the same answer.
fn is_combinable(one: &Object, other: &Object) -> bool {
    let tag = |object: &Object| object.head.only(&[header::ETAG]);
    combinable(&tag(one), &tag(other))
}

#[cfg(test)]
mod tests;
