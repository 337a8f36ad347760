//! The limits: how much the files may take, how much is to stay free, and who makes way.
//!
//! What is written is counted before it is, and who counts too much removes objects first; what is removed is counted
//! when it is. So the files never take more than the limit, but for what others wrote meanwhile and what readers still
//! hold open.
//!
//! Directories count as well: each of those for objects takes as much as a small object, and goes when the last object in
//! it does.
//!
//! Until all is indexed nobody knows how much there is. It is taken for the limit, and the directory may grow by 4 % of
//! that.

use super::files;
use super::health::{lock, more};
use super::{Disk, Off};
use std::sync::atomic::Ordering;

/// By which part of the limit the directory may grow before all is indexed.
const UNINDEXED_GROWTH: i64 = 25;
/// Objects that make way for free space at a time, where somebody waits.
const AT_ONCE: usize = 64;

impl Disk {
    /// Counts units that are about to be written, and makes room for them.
    pub(super) fn reserve(&self, units: u64) -> Result<(), Off> {
        let more = i64::try_from(units).unwrap_or(i64::MAX / 4);
        self.counts.writing.fetch_add(more, Ordering::Relaxed);
        self.grew(more);
        while self.is_over() {
            if self.evict().is_none() {
                self.release(units);
                return Err(Off::NoRoom);
            }
        }
        Ok(())
    }

    /// Whether one object would take so much of the limit that too many others had to make way. That nobody said how
    /// long it becomes must not empty the cache.
    pub(super) fn is_too_large(&self, units: u64) -> bool {
        i64::try_from(units).unwrap_or(i64::MAX) > self.max_units / 2
    }

    /// Counts units as not being written any more, nor there.
    pub(super) fn release(&self, units: u64) {
        let less = i64::try_from(units).unwrap_or(i64::MAX / 4);
        self.counts.writing.fetch_sub(less, Ordering::Relaxed);
        self.grew(-less);
    }

    /// Counts by how many units we made the directory grow.
    pub(super) fn grew(&self, units: i64) {
        self.counts.growth.fetch_add(units, Ordering::Relaxed);
    }

    /// Whether something has to make way.
    pub(super) fn is_over(&self) -> bool {
        let counts = &self.counts;
        if counts.unindexed.load(Ordering::Relaxed) > 0 {
            // By what is known nobody can say yet what was used the longest ago: nothing goes that does not have to.
            return counts.growth.load(Ordering::Relaxed) > self.max_units / UNINDEXED_GROWTH;
        }
        self.taken() > self.max_units
    }

    /// Units of the objects, of what is being written and of the directories.
    pub(super) fn taken(&self) -> i64 {
        let counts = &self.counts;
        [&counts.units, &counts.writing, &counts.dirs, &counts.base]
            .map(|units| units.load(Ordering::Relaxed))
            .iter()
            .sum()
    }

    /// Looks how much a directory of objects takes by itself. It grows with its entries, and does not shrink.
    pub(super) fn measure(&self, shard: usize) {
        let now = self.units_of(&self.names.shard(shard));
        let mut table = self.table_of(shard);
        let more = i64::from(now) - i64::from(table.dir_units);
        table.dir_units = now;
        let is_new = table.indexed;
        drop(table);
        self.counts.dirs.fetch_add(more, Ordering::Relaxed);
        // What is met for the first time was there before.
        if is_new {
            self.grew(more);
            if more > 0 {
                // The directory above it may have grown, too.
                self.measure_base();
            }
        }
    }

    /// Looks how much all else takes: the directories above those of objects, and what is no object.
    pub(super) fn measure_base(&self) {
        let root = self.names.root();
        let mut units = self.units_of(root.as_os_str().as_encoded_bytes());
        for name in ["objects", "tmp", "secret", "cleared", "purges"] {
            units += self.units_of(root.join(name).as_os_str().as_encoded_bytes());
        }
        if let Some(tmp) = self.tmp.get() {
            units += self.units_of(tmp.path().as_os_str().as_encoded_bytes());
        }
        self.counts.base.store(i64::from(units), Ordering::Relaxed);
    }

    fn units_of(&self, path: &[u8]) -> u32 {
        #[cfg(test)]
        if !self.faults.count_directories.load(Ordering::Relaxed) {
            return 0;
        }
        files::units_taken(path)
    }

    /// Removes a directory of objects in which there are none. The caller holds the lock.
    pub(super) fn remove_if_empty(&self, shard: usize) {
        let is_empty = {
            let table = self.table_of(shard);
            table.indexed && table.oldest().is_none()
        };
        // Another process may have put something there: then it stays.
        if is_empty && rustix::fs::rmdir(self.names.shard(shard)).is_ok() {
            self.measure(shard);
        }
    }

    /// Removes the object that was used the longest ago. Returns its size in units; `None` if there is no object, or it
    /// cannot be removed.
    pub(super) fn evict(&self) -> Option<i64> {
        loop {
            let uses = self
                .oldest
                .iter()
                .map(|oldest| oldest.load(Ordering::Relaxed));
            let (shard, used) = uses.enumerate().min_by_key(|&(_, used)| used)?;
            if used == u64::MAX {
                return None;
            }
            let _files = lock(&self.shards.get(shard)?.files);
            let Some(node) = self.table_of(shard).oldest() else {
                continue;
            };
            // Another thread was faster, or somebody used it.
            if node.used > used {
                continue;
            }
            // What cannot be removed frees nothing, and the next one is likely to fare the same.
            self.remove_file(node.id).ok()?;
            self.counts.evicted.fetch_add(1, Ordering::Relaxed);
            return Some(i64::from(node.units));
        }
    }

    /// Whether there is enough free space on the file system to write anything.
    pub(super) fn check_space(&self) -> Result<(), Off> {
        match self.make_space(AT_ONCE) {
            true => Ok(()),
            false => Err(Off::LowSpace),
        }
    }

    /// Sees to it that enough space is free, by removing `most` objects at a time at most. Says whether it was.
    pub(super) fn make_space(&self, most: usize) -> bool {
        let (free, is_new) = self.health.free_space(self.names.root());
        let missing = self.min_free.saturating_sub(free);
        if is_new {
            self.health.note_low((missing > 0).then_some(free));
        }
        if missing == 0 {
            return true;
        }
        if is_new {
            let mut units = i64::try_from(super::files::units(missing)).unwrap_or(i64::MAX);
            let mut left = most;
            while units > 0 && left > 0 {
                let Some(freed) = self.evict() else {
                    break;
                };
                units -= freed;
                left -= 1;
            }
            if let Some(missed) = self.health.space_log.now() {
                let root = self.names.root().display();
                let (least, more) = (self.min_free, more(missed));
                log::warn!(
                    "cache on disk at {root}: {free} bytes are free, {least} are to be: nothing is written, and \
                     objects make way{more}"
                );
            }
        }
        false
    }
}
