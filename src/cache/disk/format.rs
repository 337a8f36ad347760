//! What an object's file looks like, byte by byte. Reads and writes no file: `files` does, `writer` and `stored` call
//! this.
//!
//! All numbers are little-endian, all checksums XXH3 with 64 bits.
//!
//! ```text
//!      0  magic              8
//!      8  version            4
//!     12  room               4   bytes that each of the two slots has for a head
//!     16  url, who, variant 24   the object's id
//!     40  stamp              8   microseconds since the epoch when it was begun; unique among one writer's files
//!     48  salt               8   unlike in any two writers
//!     56  body length        8
//!     64  checksum           8   of all above
//!     72  slot A        16+room  sequence number 4, length 4, checksum 8, head
//!      …  slot B        16+room
//!      …  body
//!      …  checksums          8 each: of every 64 KiB of the body, the last of what is left
//! ```
//!
//! The body is in one piece, so that the kernel sends it in one call: where it has to be told twice, TCP may have begun to
//! pace what it was told first.
//!
//! The checksums of slots and blocks are seeded with the id, the stamp and the salt, and with the number of the slot or
//! block. So no part of one file passes for a part of another, or for another part of its own: after a crash a file
//! system may leave in a file what an earlier file held there.
//!
//! A head is replaced by writing the slot that does not count: first that it is unfinished, then the head, and at last the
//! slot's number, length and checksum. Of two whole slots the one with the higher number counts; beside an unfinished
//! one, which an update that a crash cut short leaves, the other. A slot that is neither whole nor said to be unfinished is
//! damaged, and the file is wrong as a whole: the head before it may have been taken back by the one that was there.

use super::{Corrupt, Id};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What the files begin with: bytes that no text has, so that no text is taken for one.
const MAGIC: [u8; 8] = *b"\x89BSTOP\r\n";
/// The one version that is read and written.
const VERSION: u32 = 3;
/// Bytes of the body between two checksums.
pub const BLOCK: usize = 64 * 1024;
/// Bytes that a checksum takes.
pub const SUM: usize = 8;
/// Bytes before the first slot.
pub const PREFIX: usize = 72;
/// Bytes of a slot before its head.
const SLOT: usize = 16;
/// The largest room for a head. A number beyond it is damage and not worth an allocation.
pub const MOST_ROOM: usize = 1024 * 1024;

/// What a file says of itself before the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Whose file it is.
    pub id: Id,
    /// When it was begun, in microseconds since the epoch.
    pub stamp: u64,
    /// What tells writers apart.
    pub salt: u64,
    /// Bytes that each slot has for a head; at most [`MOST_ROOM`].
    pub room: usize,
    /// Bytes of the body.
    pub body_len: u64,
}

impl Prefix {
    /// As it stands in the file.
    pub fn encode(&self) -> [u8; PREFIX] {
        let room = u32::try_from(self.room).unwrap_or(u32::MAX);
        let mut bytes = [0; PREFIX];
        let mut rest = bytes.as_mut_slice();
        let mut put = |value: &[u8]| {
            let (place, after) = std::mem::take(&mut rest).split_at_mut(value.len());
            place.copy_from_slice(value);
            rest = after;
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&room.to_le_bytes());
        for word in [self.id.url, self.id.who, self.id.variant] {
            put(&word.to_le_bytes());
        }
        for word in [self.stamp, self.salt, self.body_len] {
            put(&word.to_le_bytes());
        }
        let sum = xxh3_64_with_seed(&bytes[..PREFIX - SUM], 0);
        bytes[PREFIX - SUM..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads it from the first bytes of a file.
    ///
    /// # Errors
    /// When it is no such file, of another version, or damaged.
    pub fn decode(front: &[u8]) -> Result<Self, Corrupt> {
        // Told apart by version first: another may have its checksum elsewhere.
        let (magic, rest) = front.split_first_chunk().ok_or(Corrupt::Foreign)?;
        if *magic != MAGIC {
            return Err(Corrupt::Foreign);
        }
        let (version, _) = rest.split_first_chunk().ok_or(Corrupt::Length)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Corrupt::Version);
        }
        let whole = front.get(..PREFIX).ok_or(Corrupt::Length)?;
        let (said, sum) = whole.split_last_chunk().ok_or(Corrupt::Length)?;
        if xxh3_64_with_seed(said, 0) != u64::from_le_bytes(*sum) {
            return Err(Corrupt::Prefix);
        }
        let room = usize::try_from(u32_at(said, 12)).unwrap_or(usize::MAX);
        if room > MOST_ROOM {
            return Err(Corrupt::Prefix);
        }
        Ok(Prefix {
            id: Id {
                url: u64_at(said, 16),
                who: u64_at(said, 24),
                variant: u64_at(said, 32),
            },
            stamp: u64_at(said, 40),
            salt: u64_at(said, 48),
            room,
            body_len: u64_at(said, 56),
        })
    }

    /// What the checksums of this file's slots and blocks are seeded with.
    pub fn seed(&self) -> u64 {
        // Room and length are left out: a body can be copied as it is into a file with more room, and blocks are
        // written before the length is known.
        xxh3_64_with_seed(&self.encode()[16..56], 1)
    }

    /// Where the body begins.
    pub fn body_start(&self) -> u64 {
        to_u64(PREFIX + 2 * (SLOT + self.room))
    }

    /// How long the file is; `None` if no file can be.
    pub fn file_len(&self) -> Option<u64> {
        sums_len(self.body_len)
            .checked_add(self.body_len)?
            .checked_add(self.body_start())
    }

    /// Prefix and both slots, with this head in the first.
    ///
    /// # Errors
    /// When the head needs more than [`Prefix::room`].
    pub fn front(&self, head: &[u8]) -> Result<Vec<u8>, TooLong> {
        let mut front = Vec::with_capacity(PREFIX + 2 * (SLOT + self.room));
        front.extend(self.encode());
        let seed = self.seed();
        front.extend(encode_slot(self, seed, 0, 1, head)?);
        front.resize(self.slot_start(1), 0);
        front.extend(unfinished(seed, 1));
        front.resize(PREFIX + 2 * (SLOT + self.room), 0);
        Ok(front)
    }

    /// Where a slot begins; `slot` is 0 or 1.
    pub fn slot_start(&self, slot: usize) -> usize {
        PREFIX + slot * (SLOT + self.room)
    }
}

/// The head has more bytes than there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// A slot with a head, up to the head's end.
///
/// # Errors
/// When the head needs more than [`Prefix::room`].
pub fn encode_slot(
    prefix: &Prefix,
    seed: u64,
    slot: usize,
    number: u32,
    head: &[u8],
) -> Result<Vec<u8>, TooLong> {
    let len = u32::try_from(head.len()).map_err(|_| TooLong)?;
    if head.len() > prefix.room {
        return Err(TooLong);
    }
    let mut bytes = Vec::with_capacity(SLOT + head.len());
    bytes.extend(number.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(slot_sum(seed, slot, number, head).to_le_bytes());
    bytes.extend(head);
    Ok(bytes)
}

/// What stands at the beginning of a slot that holds no head: nothing was written to it yet, or not all.
pub fn unfinished(seed: u64, slot: usize) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    // Not just zeros: those are what a bad sector may give.
    bytes[8..].copy_from_slice(&slot_sum(seed, slot, 0, &[]).to_le_bytes());
    bytes
}

/// How a slot gets another head: these bytes at its beginning, one after the other, and only then the second.
///
/// # Errors
/// When the head needs more than [`Prefix::room`].
pub fn update(
    prefix: &Prefix,
    seed: u64,
    slot: usize,
    number: u32,
    head: &[u8],
) -> Result<[Vec<u8>; 2], TooLong> {
    let mut bytes = encode_slot(prefix, seed, slot, number, head)?;
    let last = bytes[..SLOT].to_vec();
    bytes[..SLOT].copy_from_slice(&unfinished(seed, slot));
    Ok([bytes, last])
}

/// The head that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadPlace {
    /// Which slot it is in.
    pub slot: usize,
    /// Its sequence number.
    pub number: u32,
    /// Where it is, counted from the file's beginning.
    pub range: Range<usize>,
}

/// Finds the head that counts. `front` reaches from the file's beginning to the end of the second slot.
///
/// # Errors
/// When a slot is damaged, or neither holds a head.
pub fn find_head(prefix: &Prefix, seed: u64, front: &[u8]) -> Result<HeadPlace, Corrupt> {
    let a = read_slot(prefix, seed, 0, front)?;
    let b = read_slot(prefix, seed, 1, front)?;
    match (a, b) {
        (Some(a), Some(b)) => Ok(if a.number > b.number { a } else { b }),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (None, None) => Err(Corrupt::Head),
    }
}

/// `None` for an unfinished one.
fn read_slot(
    prefix: &Prefix,
    seed: u64,
    slot: usize,
    front: &[u8],
) -> Result<Option<HeadPlace>, Corrupt> {
    let start = prefix.slot_start(slot);
    let bytes = front.get(start..start + SLOT + prefix.room);
    let bytes = bytes.ok_or(Corrupt::Head)?;
    if bytes.starts_with(&unfinished(seed, slot)) {
        return Ok(None);
    }
    let number = u32_at(bytes, 0);
    let len = usize::try_from(u32_at(bytes, 4)).unwrap_or(usize::MAX);
    let head = bytes.get(SLOT..SLOT.saturating_add(len));
    let head = head.ok_or(Corrupt::Head)?;
    // Numbers begin at 1.
    if number == 0 || u64_at(bytes, 8) != slot_sum(seed, slot, number, head) {
        return Err(Corrupt::Head);
    }
    Ok(Some(HeadPlace {
        slot,
        number,
        range: start + SLOT..start + SLOT + len,
    }))
}

fn slot_sum(seed: u64, slot: usize, number: u32, head: &[u8]) -> u64 {
    // The length is in what XXH3 computes.
    let mut what = [0; 8];
    what[..4].copy_from_slice(&number.to_le_bytes());
    what[4] = u8::from(slot != 0);
    xxh3_64_with_seed(head, xxh3_64_with_seed(&what, seed))
}

/// The checksum of a block of the body.
pub fn block_sum(seed: u64, number: u64, block: &[u8]) -> u64 {
    // An odd factor: no two numbers give the same seed, and neighbours differ in many bits.
    let spread = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    xxh3_64_with_seed(block, seed ^ spread)
}

/// How many bytes the checksums of a body of this length have.
pub fn sums_len(body_len: u64) -> u64 {
    body_len.div_ceil(to_u64(BLOCK)) * to_u64(SUM)
}

/// A number of bytes that is in memory, as one that may be in a file.
pub fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk);
    four.map_or(0, |four| u32::from_le_bytes(*four))
}

/// Eight bytes as a number; zero where there are none, which no caller asks for.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..).and_then(<[u8]>::first_chunk);
    eight.map_or(0, |eight| u64::from_le_bytes(*eight))
}
