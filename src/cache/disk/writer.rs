//! An object on its way to the disk: written beside, given its name when it is whole.
//!
//! Nothing waits until it has reached the disk itself (fsync): a crash of the system may leave a file with a name and
//! wrong contents, which the checksums show, and a lost cache entry costs a request to the origin, while waiting for
//! the disk costs every one.

use super::files::units;
use super::format::{self, BLOCK, MOST_ROOM, Prefix, to_u64};
use super::stored::Stored;
use super::{Disk, Id, Keep, Off};
use rustix::io::Errno;
use std::sync::Arc;

/// Writes one object. Dropped before it is finished, nothing remains of it.
#[derive(Debug)]
pub struct Writer {
    disk: Arc<Disk>,
    stored: Arc<Stored>,
    prefix: Prefix,
    seed: u64,
    /// Where the file is until it is whole; `None` once it has another name.
    path: Option<Vec<u8>>,
    /// What is not yet a whole block.
    block: Vec<u8>,
    /// Bytes of the body that are in the file.
    written: u64,
    /// What is counted for the file, in units.
    reserved: u64,
    failed: Option<Off>,
}

impl Writer {
    /// Begins; `prefix` has no length yet.
    pub(super) fn begin(disk: Arc<Disk>, prefix: Prefix) -> Result<Self, Off> {
        let reserved = units(prefix.body_start());
        disk.reserve(reserved)?;
        let (path, file) = match disk.create_tmp() {
            Ok(made) => made,
            Err(error) => {
                disk.release(reserved);
                return Err(disk.write_failed("making a file", error));
            }
        };
        let weak = Arc::downgrade(&disk);
        Ok(Writer {
            stored: Arc::new(Stored::growing(file, &prefix, weak)),
            disk,
            seed: prefix.seed(),
            prefix,
            path: Some(path),
            block: Vec::new(),
            written: 0,
            reserved,
            failed: None,
        })
    }

    /// Whose it is.
    pub fn id(&self) -> Id {
        self.prefix.id
    }

    /// Adds to the body. Waits for the disk once in 64 KiB, as dropping an unfinished writer does.
    ///
    /// # Errors
    /// When it cannot be written; nothing more can then.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<(), Off> {
        if let Some(off) = self.failed {
            return Err(off);
        }
        while !bytes.is_empty() {
            if self.block.is_empty() && bytes.len() >= BLOCK {
                let (block, rest) = bytes.split_at(BLOCK);
                self.write_block(block)?;
                bytes = rest;
                continue;
            }
            let fits = (BLOCK - self.block.len()).min(bytes.len());
            let (now, rest) = bytes.split_at(fits);
            self.block.extend_from_slice(now);
            bytes = rest;
            if self.block.len() == BLOCK {
                let block = std::mem::take(&mut self.block);
                self.write_block(&block)?;
                self.block = block;
                self.block.clear();
            }
        }
        Ok(())
    }

    /// The object as far as it is written: it grows as this writer goes on, in steps of 64 KiB.
    pub fn reader(&self) -> Arc<Stored> {
        self.stored.clone()
    }

    /// Bytes of the body that a reader can read by now.
    pub fn flushed(&self) -> u64 {
        self.written
    }

    /// Writes the rest and gives the object its name, in place of the one that had it. If it was purged meanwhile, it
    /// can be read through what is returned and is found by nobody else.
    ///
    /// # Errors
    /// When it cannot be written. Nothing remains of it then.
    pub fn finish(self, head: &[u8]) -> Result<Arc<Stored>, Off> {
        self.finish_if(head, &|| true)
    }

    /// The same, but only what `keep` then still wants gets its name. It is asked under the lock that removals take: what
    /// it does not know of yet finds the file.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn finish_if(mut self, head: &[u8], keep: Keep<'_>) -> Result<Arc<Stored>, Off> {
        if let Some(off) = self.failed {
            return Err(off);
        }
        if head.len() > MOST_ROOM {
            return Err(Off::NoRoom);
        }
        if self.written == 0 {
            self.write_small(head)?;
        } else {
            if !self.block.is_empty() {
                let block = std::mem::take(&mut self.block);
                self.write_block(&block)?;
            }
            self.prefix.body_len = self.written;
            let sums = self.stored.sums();
            self.write(&[&sums], self.prefix.body_start() + self.written)?;
            self.stored.sums_written();
            if head.len() > self.prefix.room {
                return self.finish_elsewhere(head, keep);
            }
            let front = self.prefix.front(head).map_err(|_| Off::NoRoom)?;
            self.write(&[&front], 0)?;
        }
        let path = self.path.take().unwrap_or_default();
        let named = self
            .disk
            .give_name(&path, &self.prefix, self.reserved, keep);
        // Counted by the index now, or not at all.
        self.reserved = 0;
        named?;
        Ok(self.stored.clone())
    }

    /// All of a small file in one call.
    fn write_small(&mut self, head: &[u8]) -> Result<(), Off> {
        let body = std::mem::take(&mut self.block);
        self.prefix.body_len = to_u64(body.len());
        self.prefix.room = self.prefix.room.max(head.len());
        let len = self.prefix.file_len().ok_or(Off::NoRoom)?;
        self.count(len)?;
        let front = self.prefix.front(head).map_err(|_| Off::NoRoom)?;
        let sum = format::block_sum(self.seed, 0, &body).to_le_bytes();
        match body.is_empty() {
            true => self.write(&[&front], 0)?,
            false => self.write(&[&front, &body, &sum], 0)?,
        }
        self.written = self.prefix.body_len;
        self.stored.sums_written();
        self.stored.grown(self.prefix.body_start(), self.written);
        Ok(())
    }

    /// The head does not fit into this file: it becomes another with more room.
    fn finish_elsewhere(mut self, head: &[u8], keep: Keep<'_>) -> Result<Arc<Stored>, Off> {
        let disk = self.disk.clone();
        let result = disk.copy_with_head(self.stored.file(), &self.prefix, head, keep);
        self.failed = result.as_ref().err().copied();
        result
    }

    fn write_block(&mut self, block: &[u8]) -> Result<(), Off> {
        let number = self.written / to_u64(BLOCK);
        let at = self.prefix.body_start() + self.written;
        let written = self.written + to_u64(block.len());
        // With the checksums, which follow at the end.
        self.count(at + to_u64(block.len()) + format::sums_len(written))?;
        self.write(&[block], at)?;
        let sum = format::block_sum(self.seed, number, block).to_le_bytes();
        self.stored.summed(sum);
        self.written = written;
        self.stored.grown(self.prefix.body_start(), written);
        Ok(())
    }

    /// Counts the file as this long, before it is.
    fn count(&mut self, len: u64) -> Result<(), Off> {
        let more = units(len).saturating_sub(self.reserved);
        if more == 0 {
            return Ok(());
        }
        let room = match self.disk.is_too_large(self.reserved + more) {
            true => Err(Off::NoRoom),
            false => self
                .disk
                .check_space()
                .and_then(|()| self.disk.reserve(more)),
        };
        match room {
            Ok(()) => self.reserved += more,
            Err(off) => self.failed = Some(off),
        }
        room
    }

    fn write(&mut self, pieces: &[&[u8]], at: u64) -> Result<(), Off> {
        let result = self.disk.write(self.stored.file(), pieces, at);
        result.map_err(|error: Errno| {
            let off = self.disk.write_failed("writing an object", error);
            self.failed = Some(off);
            off
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            self.disk.remove_tmp(&path);
        }
        self.disk.release(self.reserved);
    }
}
