//! A large body in memory that the kernel sends by itself: a connection gets the pages that it is in, and no copy of them.
//!
//! It is a file without a name or a disk (memfd_create(2)), sealed once it is written, so that nobody can change what is on
//! its way to a client. Made where an answer is to be in memory only; sent by `proxy::caching::at_once`, read by `reader`
//! where it cannot be sent as it is: by TLS, in parts, compressed.

use super::buffer::Buffer;
use super::descriptors::{self, Place};
use super::object::Body;
use super::{IN_FILE, whole};
use bytes::Bytes;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::io::{Errno, pread, pwrite};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What `/proc` calls it.
const NAME: &str = "cached";
/// What the system needs for one beside its pages.
const OVERHEAD: usize = 2048;

/// The body.
#[derive(Debug)]
pub struct Sealed {
    file: OwnedFd,
    len: usize,
    /// Its pages.
    taken: usize,
    _place: Place,
}

impl Sealed {
    /// The body that these pieces make, if it is large. `None` too if there is no descriptor left for it, or no memory.
    pub(super) fn of(pieces: &[Bytes]) -> Option<Self> {
        if pieces.iter().map(Bytes::len).sum::<usize>() < IN_FILE {
            return None;
        }
        let place = descriptors::take_spare()?;
        let (file, len) = written(pieces).ok()?;
        // Where the system gives such memory in huge pages only, most of it would be taken for nothing.
        let taken = usize::try_from(fstat(&file).ok()?.st_blocks).ok()? * 512;
        if taken > 2 * len {
            return None;
        }
        Some(Sealed {
            file,
            len,
            taken,
            _place: place,
        })
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// What it takes of memory.
    pub(super) fn size(&self) -> usize {
        self.taken + OVERHEAD
    }

    /// What the kernel sends it from.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Up to `most` bytes from a position on; none at the end.
    ///
    /// # Errors
    /// When the system cannot read its own memory.
    pub(super) fn read_at(&self, at: u64, most: usize) -> io::Result<Bytes> {
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(self.len);
        let mut data = Buffer::of(most.min(self.len - start));
        let mut done = 0;
        while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match pread(&self.file, rest, at + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Bytes::from_owner(data))
    }
}

fn written(pieces: &[Bytes]) -> rustix::io::Result<(OwnedFd, usize)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before Linux 6.3 the system did not know that; since then it complains of who does not say it.
    let file = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(NAME, flags)?,
        other => other?,
    };
    let len = pieces.iter().map(Bytes::len).sum::<usize>();
    ftruncate(&file, len as u64)?;
    let mut at = 0;
    for piece in pieces {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let written = match pwrite(&file, rest, at) {
                Err(Errno::INTR) => continue,
                Ok(0) => return Err(Errno::NOSPC),
                other => other?,
            };
            at += written as u64;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok((file, len))
}

/// The body of an answer that is to be in memory for good, and in no file: sealed, if it is large.
pub(super) fn body(pieces: &[Bytes]) -> Body {
    match Sealed::of(pieces) {
        Some(sealed) => Body::Sealed(Arc::new(sealed)),
        None => Body::Memory(whole::whole(pieces)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Bytes {
        (0..len).map(|n| (n * 31 % 251) as u8).collect()
    }

    #[test]
    fn a_large_one_is_what_it_was_made_of() {
        for len in [IN_FILE, 3 * IN_FILE + 17] {
            let bytes = bytes(len);
            let pieces: Vec<Bytes> = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
            let Body::Sealed(sealed) = body(&pieces) else {
                panic!("{len} bytes are not sealed")
            };
            assert_eq!(sealed.len(), len);
            assert_eq!(sealed.read_at(0, len).unwrap(), bytes);
            assert_eq!(sealed.read_at(0, usize::MAX).unwrap(), bytes);
            assert_eq!(sealed.read_at(999, 3).unwrap(), bytes[999..1002]);
            let end = sealed.read_at(len as u64 - 1, 5).unwrap();
            assert_eq!(end, bytes[len - 1..]);
            assert!(sealed.read_at(len as u64, 5).unwrap().is_empty());
            assert!(sealed.read_at(u64::MAX, 5).unwrap().is_empty());
        }
    }

    #[test]
    fn a_small_one_is_on_the_heap() {
        for len in [0, 1, IN_FILE - 1] {
            let bytes = bytes(len);
            let body = body(std::slice::from_ref(&bytes));
            assert!(matches!(body, Body::Memory(same) if same == bytes));
        }
    }

    #[test]
    fn nobody_can_change_one() {
        let Body::Sealed(sealed) = body(&[bytes(IN_FILE)]) else {
            panic!("not sealed")
        };
        assert_eq!(pwrite(&sealed.file, b"x", 0), Err(Errno::PERM));
        assert_eq!(ftruncate(&sealed.file, 0), Err(Errno::PERM));
    }
}
