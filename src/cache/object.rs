//! One stored answer: its head, what is known of its freshness, and where its body is.

use super::disk::{Id, Stored};
use super::growing::{End, Growing};
use super::key::{Key, Variant};
use super::moment::Moment;
use super::sealed::Sealed;
use super::whole;
use crate::policy::cache::freshness::Freshness;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What an object takes beside its header's and body's bytes: map entry, list entry, allocations, a status line.
const OVERHEAD: usize = 1024;
/// What a place in the two maps of a head takes, that of fields and that of how their names are written.
const FIELD: usize = 192;

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
    pub head: ResponseHeader,
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
    written: OnceLock<Option<Box<[u8]>>>,
    counted: OnceLock<Counted>,
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
        head: ResponseHeader,
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
    pub fn refreshed(&self, head: ResponseHeader, freshness: Freshness) -> Self {
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
                owned(head),
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
                let length = self.head.headers.get(http::header::CONTENT_LENGTH)?;
                length.to_str().ok()?.parse().ok()
            }
        }
    }

    /// Its head as somebody writes it down, who always writes the same: that is done once. `None` where it is more than to be
    /// written down.
    pub fn written(&self, write: impl FnOnce(&ResponseHeader) -> Option<Vec<u8>>) -> Option<&[u8]> {
        // What was written into has room for more, which a smaller size would not give back.
        let exactly = |written: Vec<u8>| Box::from(written.as_slice());
        let written = self.written.get_or_init(|| write(&self.head).map(exactly));
        written.as_deref()
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
        let fields = self.head.headers.iter();
        let texts: usize = fields
            .map(|(name, value)| 3 * name.as_str().len() + 2 * value.len() + 40)
            .sum();
        // Their places are powers of two, of which three quarters are used at most.
        let fields = self.head.headers.len();
        // Once by itself, and once as it is written down.
        let reason = 2 * self.head.get_reason_phrase().map_or(0, str::len);
        let head = texts + reason + (fields + fields / 3).next_power_of_two().max(8) * FIELD;
        let body = match &self.body {
            Body::Memory(bytes) => whole::size(bytes.len()),
            Body::Sealed(sealed) => sealed.size(),
            Body::Parts(parts) => whole::size(parts.held()),
            Body::File(_) | Body::Growing(_) => 0,
        };
        OVERHEAD + self.place.len() + head + body
    }
}

/// A head with bytes of its own: what was read from a connection keeps all of the buffer that it was read into.
pub(super) fn owned(head: ResponseHeader) -> ResponseHeader {
    copied(&head).unwrap_or(head)
}

fn copied(head: &ResponseHeader) -> Option<ResponseHeader> {
    let fields = Some(head.headers.len());
    let mut own = match head.has_case() {
        true => ResponseHeader::build(head.status, fields).ok()?,
        false => ResponseHeader::build_no_case(head.status, fields).ok()?,
    };
    own.set_version(head.version);
    own.set_reason_phrase(head.get_reason_phrase()).ok()?;
    if head.has_case() {
        for (name, value) in head.case_header_iter() {
            let name = String::from_utf8(name.as_slice().to_vec()).ok()?;
            own.append_header(name, value.as_bytes()).ok()?;
        }
    } else {
        for (name, value) in &head.headers {
            own.append_header(name, value.as_bytes()).ok()?;
        }
    }
    Some(own)
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
