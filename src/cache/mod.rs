//! The store: a memory tier in front of files, the fills under way, and what is known not to be worth a wait.
//!
//! Made once per process; Pingora wants it to live as long as the process does. It finds and keeps; what may be stored, for
//! how long, for whom, and whether a stored answer fits a request is decided in `policy::cache`.

mod codec;
pub mod disk;
pub mod fills;
pub mod growing;
pub mod key;
mod memory;
mod moments;
pub mod object;
mod passing;
pub mod purges;
mod reader;
pub mod storage;
mod writer;

use crate::policy::cache::key::{KeyParts, url, vary_key};
use crate::policy::cache::validation::combinable;
use bytes::{Bytes, BytesMut};
use disk::{Corrupt, Disk, DiskSettings, DiskStatus, Id, OpenError, Stored};
use fills::Fills;
use http::HeaderMap;
use key::{Key, Variant};
use log::warn;
use memory::Memory;
use moments::Moments;
use object::{Body, Object};
use passing::Passing;
use purges::{Purge, Purges};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// Bodies up to this many bytes are kept in memory besides a file.
const SMALL: usize = 512 * 1024;
/// Files under one key that are looked at for one request.
const LOOKED_AT: usize = 64;
/// How often the disk tier hears that an object in memory is in use, in microseconds.
const TELL: u64 = 60_000_000;

/// Why there is no cache.
#[derive(Debug, Error)]
pub enum CacheError {
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// The directory cannot be used.
    #[error(transparent)]
    Disk(#[from] OpenError),
}

/// The tiers, and what belongs to them.
pub struct Store {
    pub(crate) memory: Memory,
    disk: Option<Arc<Disk>>,
    fills: Fills,
    passing: Passing,
    secret: [u8; 32],
    rules: Purges,
    purges: Moments,
}

/// The process's store.
#[derive(Clone, Copy)]
pub struct Cache(&'static Store);

/// An object's file and head, or that it is not there; `None` when that cannot be said without waiting.
type Opened = Option<Option<(Arc<Stored>, Vec<u8>)>>;

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

/// What was found for a request.
pub struct Found {
    /// The answer that fits, the newest of several.
    pub object: Option<Arc<Object>>,
    /// Whether there are others under this key, which do not fit.
    pub others: bool,
    /// Which variant this request asks for, as far as the newest answer under the key tells.
    pub variant: Option<Variant>,
}

impl Cache {
    /// A cache of at most `memory` bytes, and files if there is a place for them.
    ///
    /// # Errors
    /// When the place cannot be used, or the system gives no random bytes.
    pub fn new(memory: usize, disk: Option<DiskSettings>) -> Result<Self, CacheError> {
        let rules = match &disk {
            Some(settings) => Purges::in_directory(&settings.path),
            None => Purges::default(),
        };
        let disk = disk.map(Disk::open).transpose()?;
        let mut secret = [0; 32];
        match &disk {
            // The names of files are made with it, so it has to last as long as they do.
            Some(disk) => secret = *disk.secret(),
            None => getrandom::fill(&mut secret)?,
        }
        Ok(Cache(Box::leak(Box::new(Store {
            memory: Memory::new(memory),
            disk,
            fills: Fills::default(),
            passing: Passing::default(),
            secret,
            rules,
            purges: Moments::default(),
        }))))
    }

    /// Begins to look through the files of an earlier process; answers are found meanwhile.
    pub fn start(self) {
        if let Some(disk) = &self.0.disk {
            disk.start_indexing();
            if !self.0.rules.is_empty() {
                self.0.sweep();
            }
        }
    }

    /// What Pingora calls.
    pub fn storage(self) -> &'static Store {
        self.0
    }

    /// The hash that stands for credentials in a key.
    pub fn secret_hash(self, credentials: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0.secret, credentials).as_bytes()
    }

    /// The key for these parts.
    pub fn key(self, parts: &KeyParts) -> Key {
        Key::new(&self.0.secret, parts)
    }

    /// Who of those that share a key sends these credentials.
    pub fn asker(self, key: &Key, credentials: &[u8]) -> [u8; 16] {
        key::half(&self.0.secret, &[&key.who, credentials].concat())
    }

    /// Which variant a request asks for, of an answer with these fields.
    pub fn variant(self, answer: &HeaderMap, request: &HeaderMap) -> Option<Variant> {
        let key = vary_key(answer, request)?;
        Some(key::half(&self.0.secret, &key))
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

    /// The fills under way.
    pub fn fills(self) -> &'static Fills {
        &self.0.fills
    }

    /// Keys whose answers are not stored.
    pub fn passing(self) -> &'static Passing {
        &self.0.passing
    }

    /// Looks for the answer to a request. `usable`: whether an object that has only parts of a body has the right ones.
    pub async fn find(
        self,
        key: &Key,
        request: &HeaderMap,
        usable: impl Fn(&Object) -> bool,
    ) -> Found {
        let found = self.choose(self.0.memory.get(key), request, &usable);
        if let Some(object) = &found.object {
            self.0.used(object);
            return found;
        }
        let Some(disk) = &self.0.disk else {
            return found;
        };
        let before = self.0.purges.count(&key.url);
        let mut objects = match self.open_at_once(disk, key, request) {
            Some(objects) => objects,
            None => {
                let (disk, key, request) = (disk.clone(), *key, request.clone());
                let opened = move || self.open_all(&disk, &key, &request);
                let opened = tokio::task::spawn_blocking(opened).await;
                opened.unwrap_or_default()
            }
        };
        if objects.is_empty() {
            return found;
        }
        // The newest last, as in memory.
        objects.sort_by_key(|object| object.freshness.received);
        let mut from_disk = self.choose(objects, request, &usable);
        if let Some(object) = from_disk.object.take() {
            from_disk.object = with_body(object).await;
        }
        if self.0.purges.count(&key.url) != before {
            return found;
        }
        if let Some(object) = &from_disk.object {
            if matches!(object.body, Body::Memory(_)) {
                self.0.memory.insert(object);
            }
            self.0.used(object);
        }
        Found {
            others: from_disk.others || found.others,
            variant: from_disk.variant.or(found.variant),
            object: from_disk.object,
        }
    }

    /// Opens what is in files under a key, bodies unread, waiting for the disk where that is needed.
    fn open_all(self, disk: &Disk, key: &Key, request: &HeaderMap) -> Vec<Arc<Object>> {
        let ids = disk.candidates(object::first(&key.url), object::first(&key.who));
        let opened = self.open_some(ids, key, request, |id| Some(disk.open_object(id)));
        opened.unwrap_or_default()
    }

    /// The same, as far as it can be done without waiting; `None` if it cannot.
    fn open_at_once(self, disk: &Disk, key: &Key, request: &HeaderMap) -> Option<Vec<Arc<Object>>> {
        let ids = disk.try_candidates(object::first(&key.url), object::first(&key.who))?;
        self.open_some(ids, key, request, |id| disk.try_open_object(id).map(Some))
    }

    /// Clients choose what an answer varies by, so there may be very many: the one that the last used says to be right is
    /// looked at, and not many others.
    fn open_some(
        self,
        mut ids: Vec<Id>,
        key: &Key,
        request: &HeaderMap,
        open: impl Fn(Id) -> Opened,
    ) -> Option<Vec<Arc<Object>>> {
        let mut objects = Vec::new();
        let mut next = 0;
        while next < ids.len().min(LOOKED_AT) {
            let id = ids[next];
            next += 1;
            let Some((stored, head)) = open(id)? else {
                continue;
            };
            let object = codec::decode(&head, id, Body::File(stored));
            let Some(object) = object.filter(|o| o.key == *key && !self.0.rules.hit(o)) else {
                continue;
            };
            if objects.is_empty() {
                let wanted = self.variant(&object.head.headers, request);
                let wanted = wanted.as_ref().map_or(0, object::first);
                let place = ids.iter().position(|id| id.variant == wanted);
                if let Some(place) = place.filter(|place| *place > next) {
                    ids.swap(next, place);
                }
            }
            objects.push(Arc::new(object));
        }
        Some(objects)
    }

    fn choose(
        self,
        objects: Vec<Arc<Object>>,
        request: &HeaderMap,
        usable: &impl Fn(&Object) -> bool,
    ) -> Found {
        let mut found = Found {
            object: None,
            others: false,
            variant: None,
        };
        // Those that vary first: of an origin that forgets `Vary` now and then, the answer without it is not for everybody
        // (RFC 9111 §4.1).
        let (varied, plain): (Vec<_>, Vec<_>) =
            objects.iter().rev().partition(|o| o.variant.is_some());
        for object in varied.into_iter().chain(plain) {
            let variant = match object.variant {
                None => None,
                Some(_) => self.variant(&object.head.headers, request),
            };
            if found.variant.is_none() {
                found.variant = variant;
            }
            if variant != object.variant {
                found.others = true;
            } else if usable(object) && !object.is_broken() {
                found.object = Some(object.clone());
                return found;
            }
        }
        found
    }

    /// Puts an answer in whose body is in memory. Not one that was asked for before the last purge, of whatever that was.
    pub fn insert(self, mut object: Object, asked: Duration) {
        if self.0.disk.is_some() && matches!(object.body, Body::Memory(_)) && !object.memory_only {
            object.file = Some(object.id());
        }
        let object = Arc::new(object);
        self.0.memory.insert(&object);
        // Looked at after it is in: a purge that comes now finds it there.
        if asked <= self.0.purges.last(&object.key.url) {
            self.0.memory.remove(&object);
            return;
        }
        if object.memory_only {
            let place = async move { self.0.place_in_file(&object).await };
            tokio::spawn(place);
        } else if object.file.is_some() {
            tokio::spawn(async move { self.0.write_small(&object).await });
        }
    }

    /// Puts a validated answer in place of what it was. Not one that is still coming: it is its writer's to put in place,
    /// who would not find it any more.
    pub async fn replace(self, old: &Object, new: &Arc<Object>) {
        if matches!(new.body, Body::Growing(_)) {
            return;
        }
        if new.variant != old.variant || new.memory_only {
            // It varies on something else now, and has another place; or it may not be in a file any more.
            self.remove(old).await;
            if !matches!(new.body, Body::File(_)) {
                self.0.memory.insert(new);
            }
            return;
        }
        if !matches!(new.body, Body::File(_)) {
            self.0.memory.insert(new);
        }
        let (Some(disk), Some(id)) = (&self.0.disk, old.file) else {
            return;
        };
        let (disk, head) = (disk.clone(), codec::encode(new));
        let new = new.clone();
        let _ = tokio::task::spawn_blocking(move || {
            if let Some((stored, _)) = disk.open_object(id) {
                disk.update_head(id, &stored, &head);
            } else if let Body::Memory(bytes) = &new.body {
                write(&disk, id, &head, bytes);
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
        if let Purge::Url {
            scheme,
            host,
            target,
        } = &what
        {
            let url = key::half(&self.0.secret, &url(scheme, host, target));
            self.0.fills.purge_url(url);
            return Ok(self.0.remove_url(url).await);
        }
        let at = self.0.count_purge();
        let mut saved = match (&self.0.disk, &what) {
            (Some(_), Purge::Prefix(_) | Purge::Tag(_)) => self.0.rules.add(what.clone(), at),
            _ => Ok(()),
        };
        // What a fill will bring is not known before it does.
        self.0.fills.purge(|_| true);
        let removed = self.0.memory.remove_if(|object| what.fits(object));
        if let Some(disk) = &self.0.disk {
            match what {
                Purge::All => {
                    let disk = disk.clone();
                    let noted =
                        tokio::task::spawn_blocking(move || disk.remove_everything_before(at));
                    if !noted.await.unwrap_or(false) {
                        saved = Err(io::Error::other("the disk does not take it"));
                    }
                }
                _ => self.0.sweep(),
            }
        }
        saved.map(|()| removed)
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
        }
    }

    /// Whether nothing is in it, and nothing on its way into it that counts: so it is where no route has a cache.
    pub fn is_empty(self) -> bool {
        let (objects, bytes, _, _) = self.0.memory.figures();
        let no_file = |disk: &Arc<Disk>| {
            let status = disk.status();
            (status.objects, status.bytes, status.indexed) == (0, 0, 100)
        };
        (objects, bytes, self.0.fills.count()) == (0, 0, 0)
            && self.0.disk.as_ref().is_none_or(no_file)
    }

    /// Forgets all answers for these URLs, as [`url`] makes them, also those on their way: whoever they are for, by
    /// whatever rules they were stored.
    pub async fn forget_urls(self, urls: &[Vec<u8>]) {
        let urls = urls.iter().map(|url| key::half(&self.0.secret, url));
        let urls: Vec<[u8; 16]> = urls.collect();
        if self.is_empty() {
            // A part of an answer may be about to come.
            urls.iter()
                .for_each(|url| self.0.purges.note(Some(url), now()));
            return;
        }
        for url in &urls {
            self.0.fills.purge_url(*url);
            self.0.purges.note(Some(url), now());
            self.0.memory.remove_url(*url);
        }
        if let Some(disk) = &self.0.disk {
            let disk = disk.clone();
            let _ = tokio::task::spawn_blocking(move || {
                for url in &urls {
                    disk.remove_url(object::first(url));
                }
            })
            .await;
        }
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

    /// Writes an object's file, if it is to have one.
    async fn write_small(&self, object: &Arc<Object>) {
        let (Some(disk), Some(id), Body::Memory(bytes)) = (&self.disk, object.file, &object.body)
        else {
            return;
        };
        let before = self.purges.count(&object.key.url);
        let (disk, head, bytes) = (disk.clone(), codec::encode(object), bytes.clone());
        let _ = tokio::task::spawn_blocking(move || write(&disk, id, &head, &bytes)).await;
        // A purge may have come meanwhile, and not have found the file.
        let now = self.purges.count(&object.key.url);
        if now != before && !self.memory.contains(object) {
            self.remove_file(object).await;
        }
    }

    /// Removes an object's file.
    async fn remove_file(&self, object: &Object) {
        if let (Some(disk), Some(id)) = (&self.disk, object.file) {
            let disk = disk.clone();
            let _ = tokio::task::spawn_blocking(move || disk.remove(id)).await;
        }
    }

    /// Holds every file against the rules, on a thread of its own.
    fn sweep(&'static self) {
        let Some(disk) = self.disk.clone() else {
            return;
        };
        let swept = std::thread::Builder::new().name("purge".to_owned());
        let swept = swept.spawn(move || {
            let at = now();
            disk.each_head(&mut |id, head| {
                let nothing = Body::Memory(Bytes::new());
                let object = codec::decode(head, id, nothing);
                object.is_none_or(|o| self.rules.hit(&o))
            });
            if let Err(e) = self.rules.done(at) {
                warn!("the list of purges cannot be written: {e}");
            }
        });
        if let Err(e) = swept {
            warn!("no thread to remove purged files; they are not served, but take space: {e}");
        }
    }

    /// The file that an answer on its way is to have, if any. One that may have none has no older one either, which would
    /// be found in its place later.
    async fn place_in_file(&self, object: &Object) -> Option<Id> {
        let disk = self.disk.as_ref()?;
        let id = object.id();
        if !object.memory_only {
            return Some(id);
        }
        let disk = disk.clone();
        let _ = tokio::task::spawn_blocking(move || disk.remove(id)).await;
        None
    }

    /// Begins a purge of anything, and says when that was.
    fn count_purge(&self) -> Duration {
        let at = now();
        self.purges.note(None, at);
        at
    }

    async fn remove_url(&self, url: [u8; 16]) -> usize {
        self.purges.note(Some(&url), now());
        let mut removed = self.memory.remove_url(url);
        if let Some(disk) = &self.disk {
            let disk = disk.clone();
            let gone = tokio::task::spawn_blocking(move || disk.remove_url(object::first(&url)));
            removed = removed.max(gone.await.unwrap_or(0));
        }
        removed
    }
}

fn now() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// Writes a file whole. Where that does not work, the answer is in memory only.
fn write(disk: &Arc<Disk>, id: Id, head: &[u8], body: &[u8]) {
    if let Ok(mut file) = disk.create(id, head.len())
        && file.append(body).is_ok()
    {
        let _ = file.finish(head);
    }
}

/// An opened object with its body read, if that is small; `None` if it cannot be read.
async fn with_body(object: Arc<Object>) -> Option<Arc<Object>> {
    let Body::File(stored) = &object.body else {
        return Some(object);
    };
    let length = usize::try_from(stored.body_len()).unwrap_or(usize::MAX);
    if length > SMALL {
        return Some(object);
    }
    let body = match read(stored, length, Stored::try_read_at) {
        Some(body) => body,
        None => {
            let stored = stored.clone();
            let wait = |stored: &Stored, at, most| Some(stored.read_at(at, most));
            let body = tokio::task::spawn_blocking(move || read(&stored, length, wait));
            body.await.ok().flatten()?
        }
    };
    Some(Arc::new(object.moved(Body::Memory(body))))
}

/// A whole body.
fn read(
    stored: &Stored,
    length: usize,
    read_at: impl Fn(&Stored, u64, usize) -> Option<Result<Bytes, Corrupt>>,
) -> Option<Bytes> {
    let first = read_at(stored, 0, length)?.ok()?;
    if first.len() == length {
        return Some(first);
    }
    let mut whole = BytesMut::with_capacity(length);
    whole.extend_from_slice(&first);
    while whole.len() < length {
        let piece = read_at(stored, whole.len() as u64, length - whole.len())?.ok()?;
        if piece.is_empty() {
            return None;
        }
        whole.extend_from_slice(&piece);
    }
    Some(whole.freeze())
}

impl Cache {
    /// Whether another answer to the same requests came after this one was asked for.
    pub fn has_newer(self, object: &Object, asked: Duration) -> bool {
        let objects = self.0.memory.get(&object.key);
        objects.iter().any(|other| {
            other.variant == object.variant
                && other.freshness.received > asked
                && !combinable(&other.head.headers, &object.head.headers)
        })
    }

    /// The object in memory that this one is a part of, or the other way round: same key, same variant, same strong validator
    /// (RFC 9111 §3.4).
    pub fn same_answer(self, object: &Object) -> Option<Arc<Object>> {
        let objects = self.0.memory.get(&object.key);
        objects.into_iter().rev().find(|other| {
            other.variant == object.variant
                && other.length() == object.length()
                && combinable(&other.head.headers, &object.head.headers)
        })
    }
}
