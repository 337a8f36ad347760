//! A whole body in memory: a small one on the heap, a large one in pages of its own.
//!
//! Pages of its own go back to the system as soon as nobody has them any more, where the heap would keep holes of many
//! sizes between what is left. Made by `writer` and `find`.

use bytes::{Bytes, BytesMut};
use memmap2::{MmapMut, MmapOptions};
use std::sync::atomic::{AtomicUsize, Ordering};

/// From how many bytes on a body has pages of its own: rounding up to whole ones takes a quarter at most, and is counted. The
/// holes that bodies of this size leave on the heap are not: with 32 KiB here, bodies of 20 kB made the process larger than
/// it may be by up to 3.4 MB in 64 MiB.
const LARGE: usize = 16 * 1024;
/// A page.
const PAGE: usize = 4096;
/// Bodies with pages of their own at most: the system allows 65530 areas of memory for each process, others need some too.
const MOST: usize = 16 * 1024;

static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Pages that hold one body.
struct Pages(MmapMut);

impl Pages {
    /// `None` if the system has no more, or too many are in use.
    fn new(len: usize) -> Option<Self> {
        if MAPPED.fetch_add(1, Ordering::Relaxed) < MOST
            && let Ok(pages) = MmapOptions::new().len(len).populate().map_anon()
        {
            return Some(Pages(pages));
        }
        MAPPED.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        MAPPED.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The body that these pieces make, in memory of its own: that of a connection's buffer is larger.
pub fn whole(pieces: &[Bytes]) -> Bytes {
    let len = pieces.iter().map(Bytes::len).sum();
    if len >= LARGE
        && let Some(mut pages) = Pages::new(len)
    {
        let mut rest = &mut pages.0[..];
        for piece in pieces {
            let (place, after) = rest.split_at_mut(piece.len());
            place.copy_from_slice(piece);
            rest = after;
        }
        return Bytes::from_owner(pages);
    }
    let mut whole = BytesMut::with_capacity(len);
    for piece in pieces {
        whole.extend_from_slice(piece);
    }
    whole.freeze()
}

/// What a body of so many bytes takes of memory.
pub fn size(len: usize) -> usize {
    match len >= LARGE {
        true => len.next_multiple_of(PAGE),
        // The allocator has four sizes between one power of two and the next.
        false => len.next_multiple_of((len.next_power_of_two() / 8).max(16)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_it_was_made_of() {
        for len in [0, 1, LARGE - 1, LARGE, 3 * LARGE + 17] {
            let bytes: Bytes = (0..len).map(|n| (n * 31 % 251) as u8).collect();
            for step in [1000, LARGE, 4 * LARGE] {
                let pieces: Vec<Bytes> = bytes.chunks(step).map(Bytes::copy_from_slice).collect();
                assert_eq!(whole(&pieces), bytes);
                assert!(size(len) >= len && size(len) <= len + len / 4 + 16);
            }
        }
    }

    #[test]
    fn pages_are_given_back() {
        let before = MAPPED.load(Ordering::Relaxed);
        let bodies: Vec<Bytes> = (0..50).map(|_| whole(&[vec![7; LARGE].into()])).collect();
        let part = bodies[0].slice(10..20);
        assert!(MAPPED.load(Ordering::Relaxed) >= 50);
        drop(bodies);
        assert_eq!(part, [7; 10][..], "as long as somebody has a part of it");
        drop(part);
        // Other tests may have some.
        assert!(MAPPED.load(Ordering::Relaxed) < before + 50);
    }
}
