//! Finding the answer to a request: in memory, else in files, whose small bodies then go into memory.

use super::disk::{Corrupt, Disk, Id, Standing, Stored};
use super::key::{Key, Variant};
use super::moment::Moment;
use super::object::{self, Body, Object};
use super::whole;
use super::{Cache, IN_FILE, SMALL, codec};
use bytes::Bytes;
use http::{HeaderMap, header};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Files under one key that are looked at for one request.
const LOOKED_AT: usize = 64;

/// An object's file and head, or that it is not there; `None` when that cannot be said without waiting.
type Opened = Option<Option<(Arc<Stored>, Vec<u8>)>>;

/// What was found for a request.
pub struct Found {
    /// The answer that fits, the newest of several.
    pub object: Option<Arc<Object>>,
    /// Whether there are others under this key, which do not fit.
    pub others: bool,
    /// Which variant this request asks for, as far as the newest answer under the key tells.
    pub variant: Option<Variant>,
    /// When the looking began: what was purged since may not be brought back.
    pub began: Moment,
    /// How many fills had ended by then.
    pub ended: u64,
    /// What is known of the file that the object's body is in, if that was just asked for.
    pub standing: Option<Standing>,
}

impl Cache {
    /// The answer to a request, where there is only one and it is in memory, whole and for whoever asks: the common case, in which
    /// nothing else need be known. What comes along says of the file that its body is in, if it is in one, that it is there still.
    pub fn only(self, key: &Key) -> Option<(Arc<Object>, Option<Standing>)> {
        let object = self.0.memory.only(key)?;
        let standing = standing(&object);
        let is_whole = !matches!(object.body, Body::Parts(_) | Body::Growing(_));
        (is_whole && standing != Some(Standing::Gone)).then(|| {
            self.0.used(&object);
            (object, standing)
        })
    }

    /// Looks for the answer to a request. `usable`: whether an object that has only parts of a body has the right ones.
    pub async fn find(
        self,
        key: &Key,
        request: &HeaderMap,
        usable: impl Fn(&Object) -> bool,
    ) -> Found {
        let began = self.moment();
        // Before it is looked: what is stored by one that ends in between may be overlooked.
        let ended = self.0.fills.ended(&key.url);
        let mut found = self.choose(self.0.memory.get(key), request, began, &usable);
        found.ended = ended;
        found.standing = found.object.as_deref().and_then(standing);
        if found.standing == Some(Standing::Gone)
            && let Some(object) = found.object.take()
        {
            self.0.memory.remove(&object);
        }
        if let Some(object) = &found.object {
            self.0.used(object);
            return found;
        }
        let Some(disk) = &self.0.disk else {
            return found;
        };
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
        let mut from_disk = self.choose(objects, request, began, &usable);
        if let Some(object) = from_disk.object.take() {
            from_disk.object = self.load(object, began).await;
        }
        if let Some(object) = &from_disk.object {
            self.0.used(object);
        }
        Found {
            others: from_disk.others || found.others,
            variant: from_disk.variant.or(found.variant),
            object: from_disk.object,
            began,
            ended,
            standing: None,
        }
    }

    /// Reads an opened object's body into memory, if that is small and there is room. `None` if it cannot be read, or was
    /// purged since it was found.
    pub(super) async fn load(self, object: Arc<Object>, began: Moment) -> Option<Arc<Object>> {
        let store = self.0;
        let Body::File(stored) = &object.body else {
            return Some(object);
        };
        let length = usize::try_from(stored.body_len()).unwrap_or(usize::MAX);
        if (IN_FILE..=SMALL).contains(&length) {
            return self.keep_head(object, began);
        }
        if length > SMALL || !self.belongs_in_memory(&object, stored.id(), length) {
            return (!store.purges.bars(&object, began)).then_some(object);
        }
        let mut held = self.held();
        // One reads, the others find it in memory then. What came with the head is here already.
        let turn = match stored.is_at_hand() {
            true => None,
            false => Some(store.loads.turn(stored.id()).await),
        };
        if turn.is_some() {
            if let Some(same) = store.memory.same(&object) {
                return Some(same);
            }
            held.grow(length);
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
        drop(held);
        let object = Arc::new(object.moved(Body::Memory(body)));
        let is_barred = || store.purges.bars(&object, began);
        store.memory.restore(&object, is_barred)
    }

    /// Keeps the head of a large answer in memory and its file open: the kernel sends the body from there, and has it in
    /// memory by itself.
    fn keep_head(self, object: Arc<Object>, began: Moment) -> Option<Arc<Object>> {
        let store = self.0;
        let is_barred = || store.purges.bars(&object, began);
        let Body::File(stored) = &object.body else {
            return Some(object);
        };
        if store.memory.is_crowded() || !stored.stays_open() {
            return (!is_barred()).then_some(object);
        }
        let kept = store.memory.restore(&object, is_barred);
        // Removed before it was to be found here: nobody would tell.
        if standing(&object) == Some(Standing::Gone) {
            store.memory.remove(&object);
        }
        kept
    }

    /// Whether there is room in memory, or what would have to make way was not used for longer than this: otherwise whoever
    /// asks for everything in turn would only push out what others ask for often.
    fn belongs_in_memory(self, object: &Object, id: Id, length: usize) -> bool {
        let memory = &self.0.memory;
        if memory.is_crowded() {
            return false;
        }
        let used = || self.0.disk.as_ref()?.last_used(id);
        memory.has_room(object.size() + whole::size(length))
            || used().is_some_and(|used| used > memory.oldest_use())
    }

    /// Opens what is in files under a key, bodies unread, waiting for the disk where that is needed.
    pub(super) fn open_all(self, disk: &Disk, key: &Key, request: &HeaderMap) -> Vec<Arc<Object>> {
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
            let Some(object) = object.filter(|o| o.key == *key && !self.0.purges.hit(o)) else {
                continue;
            };
            if objects.is_empty() {
                let wanted = self.variant(&object.head.only(&[header::VARY]), request);
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
        began: Moment,
        usable: &impl Fn(&Object) -> bool,
    ) -> Found {
        let mut found = Found {
            began,
            ended: 0,
            standing: None,
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
                Some(_) => self.variant(&object.head.only(&[header::VARY]), request),
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
}

/// What is known of the file that an answer's body is in: it may have been removed or replaced, maybe by another process.
fn standing(object: &Object) -> Option<Standing> {
    match &object.body {
        Body::File(stored) => Some(stored.standing()),
        _ => None,
    }
}

/// Whose body is being read into memory.
#[derive(Default)]
pub(super) struct Loads {
    going: Mutex<HashMap<Id, Arc<tokio::sync::Mutex<()>>>>,
}

/// The right to read one.
struct Turn {
    loads: &'static Loads,
    id: Id,
    held: Option<OwnedMutexGuard<()>>,
}

impl Loads {
    /// Waits until nobody else reads this one.
    async fn turn(&'static self, id: Id) -> Turn {
        let one = {
            let mut going = self.going.lock().unwrap_or_else(PoisonError::into_inner);
            going.entry(id).or_default().clone()
        };
        // Made before the wait: who gives up waiting leaves no entry behind.
        let mut turn = Turn {
            loads: self,
            id,
            held: None,
        };
        turn.held = Some(one.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.held.take());
        let going = self.loads.going.lock();
        let mut going = going.unwrap_or_else(PoisonError::into_inner);
        // Who waits has it as well.
        if going
            .get(&self.id)
            .is_some_and(|one| Arc::strong_count(one) == 1)
        {
            going.remove(&self.id);
        }
    }
}

/// A whole body.
fn read(
    stored: &Stored,
    length: usize,
    read_at: impl Fn(&Stored, u64, usize) -> Option<Result<Bytes, Corrupt>>,
) -> Option<Bytes> {
    let (mut pieces, mut done) = (Vec::new(), 0);
    while done < length {
        let piece = read_at(stored, done as u64, length - done)?.ok()?;
        if piece.is_empty() {
            return None;
        }
        done += piece.len();
        pieces.push(piece);
    }
    Some(whole::whole(&pieces))
}
