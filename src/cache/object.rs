//! One stored answer: its head, what is known of its freshness, and where its body is.

use super::disk::{Id, Stored};
use super::growing::{End, Growing};
use super::head::Head;
use super::key::{Key, Variant};
use super::moment::Moment;
use super::sealed::Sealed;
use super::whole;
use crate::policy::cache::freshness::Freshness;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What an object takes beside its header's and body's bytes: places in the maps, allocations beside it.
const OVERHEAD: usize = 768;

/// A stored answer.
pub struct Object {
    /// Tells this object from every other in this process.
    pub number: u64,
    /// What it is kept under.
    pub key: Key,
    /// Scheme, host and path, as `http://host/path`: what a purge by prefix goes by. The query may hold secrets.
    pub place: Box<str>,
    /// Which of several under one key.
    pub variant: Option<Variant>,
    /// Status and fields as they are given out, but for `Age` and what a hop adds.
    pub head: Head,
    /// How long it is fresh.
    pub freshness: Freshness,
    /// What follows the head.
    pub body: Body,
    /// Whether its head repeats a secret of its request, which no file may have.
    pub memory_only: bool,
    /// When its body was asked for: whatever was validated since. Of a body in parts, the first of them.
    pub born: Moment,
    /// The file that it is in as well, or will be.
    pub(super) file: Option<Id>,
    /// Which file of that name has this body, as [`Stored::copy`] says; 0 as long as none has. One for all versions of the
    /// object that differ in their heads only.
    pub(super) copy: Arc<AtomicU64>,
    /// When it was last given out; the memory tier's clock.
    pub(super) used: AtomicU64,
    /// When the disk tier last heard of it; the same clock.
    pub(super) told: AtomicU64,
    /// See [`Object::written`].
    written: OnceLock<Written>,
    counted: OnceLock<Counted>,
}

/// How a head is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// As it is.
    AsItIs,
    /// The same, and one of its fields need not be added any more.
    Complete,
    /// Without some of its fields.
    InPart,
    /// It takes more than that.
    Not,
}

/// What an object takes of memory, until the last who has it lets go: one that had to make room may still be on its way to
/// slow clients.
struct Counted {
    bytes: usize,
    sum: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where a body is.
pub enum Body {
    /// In memory, whole.
    Memory(Bytes),
    /// In memory, whole, in pages that the kernel sends.
    Sealed(Arc<Sealed>),
    /// In a file, whole.
    File(Arc<Stored>),
    /// On its way.
    Growing(Arc<Growing>),
    /// Only parts of it are here (RFC 9111 §3.3).
    Parts(Parts),
}

/// Parts of a body: position and bytes, in order, neither overlapping nor touching.
#[derive(Clone)]
pub struct Parts {
    /// How long the whole is.
    pub total: u64,
    /// What is here.
    pub pieces: Vec<(u64, Bytes)>,
}

impl Parts {
    /// The parts there are once these bytes are added (RFC 9111 §3.4).
    pub fn with(&self, at: u64, bytes: &Bytes) -> Parts {
        let end = at + bytes.len() as u64;
        let (mut start, mut joined) = (at, bytes.clone());
        let mut pieces = Vec::new();
        for (from, piece) in &self.pieces {
            let to = from + piece.len() as u64;
            if to < at || *from > end {
                pieces.push((*from, piece.clone()));
                continue;
            }
            let mut both = Vec::new();
            let joined_end = start + joined.len() as u64;
            if *from < start {
                both.extend_from_slice(&piece[..usize::try_from(start - from).unwrap_or(0)]);
            }
            both.extend_from_slice(&joined);
            if to > joined_end {
                both.extend_from_slice(&piece[usize::try_from(joined_end - from).unwrap_or(0)..]);
            }
            start = start.min(*from);
            joined = both.into_boxed_slice().into();
        }
        pieces.push((start, joined));
        pieces.sort_by_key(|(at, _)| *at);
        Parts {
            total: self.total,
            pieces,
        }
    }

    /// The bytes of this range, if all of them are here.
    pub fn get(&self, range: std::ops::Range<u64>) -> Option<Bytes> {
        self.pieces.iter().find_map(|(at, bytes)| {
            let from = usize::try_from(range.start.checked_sub(*at)?).ok()?;
            let to = usize::try_from(range.end.checked_sub(*at)?).ok()?;
            (from <= to && to <= bytes.len()).then(|| bytes.slice(from..to))
        })
    }

    /// The whole, if all of it is here.
    pub fn whole(&self) -> Option<Bytes> {
        self.get(0..self.total)
    }

    fn held(&self) -> usize {
        self.pieces.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

impl Object {
    /// An answer that comes now.
    pub fn new(
        key: Key,
        place: &str,
        variant: Option<Variant>,
        head: Head,
        freshness: Freshness,
        body: Body,
        born: Moment,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Object {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            key,
            place: place.into(),
            variant,
            head,
            freshness,
            body,
            memory_only: false,
            born,
            file: None,
            copy: Arc::default(),
            used: AtomicU64::new(0),
            told: AtomicU64::new(0),
            written: OnceLock::new(),
            counted: OnceLock::new(),
        }
    }

    /// The same answer, and if `so`, no file is to have it.
    pub fn confined(mut self, so: bool) -> Self {
        if so {
            self.memory_only = true;
            self.file = None;
        }
        self
    }

    /// The same answer with another head: it was validated.
    pub fn refreshed(&self, head: Head, freshness: Freshness) -> Self {
        let body = match &self.body {
            Body::Memory(bytes) => Body::Memory(bytes.clone()),
            Body::Sealed(sealed) => Body::Sealed(sealed.clone()),
            Body::File(stored) => Body::File(stored.clone()),
            Body::Growing(growing) => Body::Growing(growing.clone()),
            Body::Parts(parts) => Body::Parts(parts.clone()),
        };
        Object {
            memory_only: self.memory_only,
            file: self.file,
            copy: self.copy.clone(),
            ..Object::new(
                self.key,
                &self.place,
                self.variant,
                head,
                freshness,
                body,
                self.born,
            )
        }
    }

    /// The same answer with its body elsewhere.
    pub fn moved(&self, body: Body) -> Self {
        Object {
            memory_only: self.memory_only,
            file: self.file,
            copy: self.copy.clone(),
            ..Object::new(
                self.key,
                &self.place,
                self.variant,
                self.head.clone(),
                self.freshness,
                body,
                self.born,
            )
        }
    }

    /// Whether this is another answer that was asked for later than that one, or the same one validated since.
    pub fn is_newer_than(&self, other: &Object) -> bool {
        (self.born, self.number) > (other.born, other.number)
    }

    /// Whether its body broke off.
    pub fn is_broken(&self) -> bool {
        matches!(&self.body, Body::Growing(growing) if growing.progress().end == End::Broken)
    }

    /// Whether all of its body is in memory.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.body, Body::Memory(_) | Body::Sealed(_))
    }

    /// How long the body is, where that is known.
    pub fn length(&self) -> Option<u64> {
        match &self.body {
            Body::Memory(bytes) => Some(bytes.len() as u64),
            Body::Sealed(sealed) => Some(sealed.len() as u64),
            Body::File(stored) => Some(stored.body_len()),
            Body::Parts(parts) => Some(parts.total),
            Body::Growing(_) => {
                let length = self.head.values(&http::header::CONTENT_LENGTH).next()?;
                str::from_utf8(length).ok()?.parse().ok()
            }
        }
    }

    /// How its head is written down by somebody who always does it the same way: that is found out once.
    pub fn written(&self, how: impl FnOnce(&Head) -> Written) -> Written {
        *self.written.get_or_init(|| how(&self.head))
    }

    /// Counts it as taken of this sum, once.
    pub(super) fn count(&self, sum: &Arc<AtomicUsize>) {
        self.counted.get_or_init(|| {
            let bytes = self.size();
            sum.fetch_add(bytes, Ordering::Relaxed);
            let sum = sum.clone();
            Counted { bytes, sum }
        });
    }

    /// What it takes of memory. A growing body counts for itself.
    pub fn size(&self) -> usize {
        let body = match &self.body {
            Body::Memory(bytes) => whole::size(bytes.len()),
            Body::Sealed(sealed) => sealed.size(),
            Body::Parts(parts) => whole::size(parts.held()),
            Body::File(_) | Body::Growing(_) => 0,
        };
        OVERHEAD + self.place.len() + self.head.size() + body
    }
}

impl Object {
    /// The name of its file.
    pub fn id(&self) -> Id {
        Id {
            url: first(&self.key.url),
            who: first(&self.key.who),
            variant: self.variant.as_ref().map_or(0, first),
        }
    }
}

/// The first half of a hash.
pub(super) fn first(hash: &[u8; 16]) -> u64 {
    let mut half = [0; 8];
    half.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(half)
}
