//! Removing objects on request: one, all of a URL, those whose head somebody picks out, all.

use super::files::{self, SHARDS};
use super::health::lock;
use super::{Disk, Id, start};
use rustix::io::Errno;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Disk {
    /// Removes an object. Says whether it was there.
    pub fn remove(&self, id: Id) -> bool {
        let _files = lock(&self.shard(id.url).files);
        self.remove_file(id).unwrap_or(false)
    }

    /// Removes all objects of a URL, also those that another process wrote; `lasting`: so that not even a crash of the
    /// system brings them back. What is being written is not looked at: that is for `Writer::finish_if`. Returns how many
    /// there were.
    ///
    /// # Errors
    /// When some may still be there.
    pub fn remove_url(&self, url: u64, lasting: bool) -> Result<usize, io::Error> {
        let _files = lock(&self.shard(url).files);
        let removed = self.remove_url_locked(url)?;
        if lasting {
            match files::sync_dir(self.names.shard(files::shard_of(url))) {
                // The directory went with the last of them.
                Err(Errno::NOENT) => match files::sync_dir(self.names.objects()) {
                    Err(Errno::NOENT) => {}
                    synced => synced?,
                },
                synced => synced?,
            }
        }
        Ok(removed)
    }

    /// Removes all objects that were begun up to `now`, since the epoch. They are not found any more when this returns;
    /// the files go in the background. Says whether a restart before that would know of it.
    pub fn remove_everything_before(&self, now: Duration) -> bool {
        let until = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        // No time to come: what is written then would be missing.
        let until = until.min(self.stamp());
        let before = self.cleared.fetch_max(until, Ordering::Relaxed);
        let saved = self.tmp();
        let saved = saved.and_then(|tmp| start::save_cleared(&self.names, tmp, before.max(until)));
        if let Err(error) = saved {
            self.upkeep_failed("noting that all was removed", error);
        }
        self.upkeep.ring();
        saved.is_ok()
    }

    /// Shows every object's head to `f`, which says whether the object goes. Leaves out what was begun after this. For
    /// the background: it reads the whole directory.
    pub fn each_head(&self, f: &mut dyn FnMut(Id, &[u8]) -> bool) {
        let began = self.stamp();
        for number in 0..SHARDS {
            // Others may have written something, too.
            self.index_shard(number, true);
            let Some(shard) = self.shards.get(number) else {
                continue;
            };
            let ids = {
                // Whoever gives a file its name has done all of that, or asks afterwards whether it may.
                let _files = lock(&shard.files);
                lock(&shard.table).ids(|_| true)
            };
            for id in ids {
                self.show_head(id, began, f);
            }
        }
    }
}
