//! Giving files their names and taking them away, so that names and index agree.
//!
//! Both are changed under a shard's `files` lock, which other processes do not know of: where they came in between, the
//! next listing puts the index right.

use super::files::{self, shard_of};
use super::format::Prefix;
use super::health::{self, Seldom, lock, more};
use super::index::Change;
use super::start;
use super::tmp::TmpDir;
use super::{Corrupt, Disk, Id, Keep, Off};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

impl Disk {
    /// A new file among those that are not whole yet.
    pub(super) fn create_tmp(&self) -> Result<(Vec<u8>, OwnedFd), Errno> {
        #[cfg(test)]
        self.faults.check_create()?;
        self.tmp()?.create()
    }

    /// Where files are written until they are whole. Made now, if the directory could not be used when it was opened.
    pub(super) fn tmp(&self) -> Result<&TmpDir, Errno> {
        if let Some(tmp) = self.tmp.get() {
            return Ok(tmp);
        }
        let _making = lock(&self.making);
        if let Some(tmp) = self.tmp.get() {
            return Ok(tmp);
        }
        let (tmp, _) = start::make(&self.names, self.token, Some(&self.secret))
            .map_err(|error| error.errno())?;
        log::info!(
            "cache on disk at {}: it can be used now",
            self.names.root().display()
        );
        Ok(self.tmp.get_or_init(|| tmp))
    }

    /// Removes one of these.
    pub(super) fn remove_tmp(&self, path: &[u8]) {
        if let Err(error) = unlink(path) {
            self.upkeep_failed("removing a file that was not finished", error);
        }
    }

    /// Writes to a file.
    pub(super) fn write(
        &self,
        file: BorrowedFd<'_>,
        pieces: &[&[u8]],
        at: u64,
    ) -> Result<(), Errno> {
        #[cfg(test)]
        self.faults.check_write(file, pieces, at)?;
        files::write_all(file, pieces, at)
    }

    /// Gives a file that is whole its name, and counts it as an object. Where it is not to be kept, it is removed.
    pub(super) fn give_name(
        &self,
        path: &[u8],
        prefix: &Prefix,
        reserved: u64,
        keep: Keep<'_>,
    ) -> Result<(), Off> {
        let _files = lock(&self.shard(prefix.id.url).files);
        self.give_name_locked(path, prefix, reserved, keep)
    }

    /// The same under the lock.
    pub(super) fn give_name_locked(
        &self,
        path: &[u8],
        prefix: &Prefix,
        reserved: u64,
        keep: Keep<'_>,
    ) -> Result<(), Off> {
        let id = prefix.id;
        if prefix.stamp <= self.cleared.load(Ordering::Relaxed) || !keep() {
            self.remove_tmp(path);
            self.release(reserved);
            return Ok(());
        }
        if let Err(error) = self.rename(path, id) {
            self.remove_tmp(path);
            self.release(reserved);
            return Err(self.write_failed("naming an object", error));
        }
        let len = prefix.file_len().unwrap_or(u64::MAX);
        let units = u32::try_from(files::units(len)).unwrap_or(u32::MAX);
        let change = self.table(id.url).insert(id, units, health::micros());
        self.count(change);
        self.lost_its_file(id);
        self.release(reserved);
        // `release` took from the growth what stays.
        self.grew(change.units);
        self.measure(shard_of(id.url));
        self.keep_to_variants(id);
        self.health.write_worked(self.names.root());
        Ok(())
    }

    fn rename(&self, path: &[u8], id: Id) -> Result<(), Errno> {
        #[cfg(test)]
        self.faults.check_rename()?;
        let name = self.names.object(id);
        match rustix::fs::rename(path, &name) {
            Err(Errno::NOENT) => {
                files::make_dir(self.names.objects())?;
                files::make_dir(self.names.shard(shard_of(id.url)))?;
                rustix::fs::rename(path, &name)
            }
            other => other,
        }
    }

    /// Takes an object's file off the disk, and then the object out of the index. Says whether it was there. The caller
    /// holds the lock.
    ///
    /// # Errors
    /// When the file stays. So does what is known of it, but as the last used: it keeps nobody from making way.
    pub(super) fn remove_file(&self, id: Id) -> Result<bool, Errno> {
        let removed = self.unlink_object(id);
        match removed {
            Ok(_) => {
                // Not before: what is freed on paper only must not be written to yet.
                let change = self.table(id.url).remove(id);
                self.count(change);
                self.lost_its_file(id);
                self.grew(change.units);
                self.remove_if_empty(shard_of(id.url));
            }
            Err(error) => {
                self.table(id.url).touch(id, health::micros());
                self.upkeep_failed("removing an object", error);
            }
        }
        removed
    }

    fn unlink_object(&self, id: Id) -> Result<bool, Errno> {
        #[cfg(test)]
        self.faults.check_unlink()?;
        unlink(&self.names.object(id))
    }

    /// Removes all of a URL that is found in the index or in the directory, whoever wrote it. The caller holds the lock.
    pub(super) fn remove_url_locked(&self, url: u64) -> Result<usize, Errno> {
        let shard = shard_of(url);
        let path = self.names.shard(shard);
        let listed = files::list_url(&path, shard, url);
        let mut failed = listed.as_ref().err().copied();
        let mut ids = listed.unwrap_or_default();
        ids.extend(lock(&self.shard(url).table).ids(|node| node.id.url == url));
        ids.sort_unstable();
        ids.dedup();
        let mut removed = 0;
        for id in ids {
            match self.remove_file(id) {
                Ok(was_there) => removed += usize::from(was_there),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(removed), Err)
    }

    /// Of very many variants of an object the least recently used go. The caller holds the lock.
    pub(super) fn keep_to_variants(&self, id: Id) {
        let surplus = lock(&self.shard(id.url).table).surplus(id.url, id.who);
        for id in surplus {
            if self.remove_file(id).is_ok() {
                self.counts.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Removes an object if it was last used by then, in microseconds since the epoch.
    pub(super) fn remove_unless_used(&self, id: Id, since: u64) {
        let _files = lock(&self.shard(id.url).files);
        let node = self.table(id.url).get(id);
        if node.is_some_and(|node| node.used <= since) {
            // What cannot be removed is in the log.
            let _ = self.remove_file(id);
        }
    }

    /// Removes an object if its file is still this one.
    pub(super) fn remove_if_same(&self, id: Id, file: BorrowedFd<'_>) {
        let _files = lock(&self.shard(id.url).files);
        if files::is_at(file, &self.names.object(id)) {
            let _ = self.remove_file(id);
        }
    }

    /// A file that the index knows was not there: another process removed it.
    pub(super) fn forget_if_gone(&self, id: Id) {
        let _files = lock(&self.shard(id.url).files);
        if matches!(rustix::fs::lstat(self.names.object(id)), Err(Errno::NOENT)) {
            let change = self.table(id.url).remove(id);
            self.count(change);
            self.close_lost(id);
        }
    }

    /// What was read from this file is wrong: it goes, unless another has its name by now.
    pub(super) fn damaged(&self, id: Id, file: BorrowedFd<'_>, corrupt: Corrupt) {
        let _files = lock(&self.shard(id.url).files);
        if files::is_at(file, &self.names.object(id)) {
            self.remove_damaged(id, corrupt);
        } else {
            self.note_damaged(id, corrupt);
        }
    }

    /// Removes a file with wrong contents. The caller holds the lock.
    pub(super) fn remove_damaged(&self, id: Id, corrupt: Corrupt) {
        self.note_damaged(id, corrupt);
        let _ = self.remove_file(id);
    }

    fn note_damaged(&self, id: Id, corrupt: Corrupt) {
        self.health.corrupt.fetch_add(1, Ordering::Relaxed);
        let log = self.health.corrupt_log.get(corrupt as usize);
        if let Some(missed) = log.and_then(Seldom::now) {
            let path = self.names.object(id);
            let path = String::from_utf8_lossy(&path);
            log::warn!(
                "cache on disk: {path} is removed: {corrupt}{}",
                more(missed)
            );
        }
    }

    /// A file could not be read.
    pub(super) fn read_failed(&self, error: Errno) {
        self.health.errors.fetch_add(1, Ordering::Relaxed);
        if let Some(missed) = self.health.read_log.now() {
            let root = self.names.root().display();
            let more = more(missed);
            log::warn!("cache on disk at {root}: reading an object: {error}{more}");
        }
    }

    /// Something could not be written: nothing is for a while, unless it is about this one object or moment.
    pub(super) fn write_failed(&self, doing: &str, error: Errno) -> Off {
        match error {
            Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM
            | Errno::NOENT
            | Errno::FBIG
            | Errno::BADMSG
            | Errno::ISDIR
            | Errno::EXIST
            | Errno::NOTEMPTY => {
                self.upkeep_failed(doing, error);
            }
            _ => self.health.write_failed(self.names.root(), doing, error),
        }
        Off::Failed
    }

    /// Something failed that nobody waits for.
    pub(super) fn upkeep_failed(&self, doing: &str, error: Errno) {
        self.health.errors.fetch_add(1, Ordering::Relaxed);
        if let Some(missed) = self.health.upkeep_log.now() {
            let root = self.names.root().display();
            let more = more(missed);
            log::warn!("cache on disk at {root}: {doing}: {error}{more}");
        }
    }

    /// Takes a change of the index into the sums.
    pub(super) fn count(&self, change: Change) {
        self.counts
            .objects
            .fetch_add(change.objects, Ordering::Relaxed);
        self.counts.units.fetch_add(change.units, Ordering::Relaxed);
    }
}

/// Removes a file. Says whether it was there.
fn unlink(path: &[u8]) -> Result<bool, Errno> {
    match rustix::fs::unlink(path) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
