//! Files of small objects that stay open for a while: to find a file by its name costs more than to read it.
//!
//! That is all they are for. Whether a file still has its name is asked before each use, so what is removed or replaced, by
//! whoever, is found no longer than if it had been opened by its name.

use super::health::lock;
use super::{Disk, Id};
use crate::cache::descriptors::{self, Place};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// For how long one that nobody asks for stays open at least, in microseconds.
pub const UNUSED: u64 = 60_000_000;

/// Those of one directory of objects.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Vec<Open>>);

#[derive(Debug)]
struct Open {
    id: Id,
    file: Arc<OwnedFd>,
    /// Since those that are not used were last closed.
    is_used: bool,
    _place: Place,
}

impl Kept {
    fn get(&self, id: Id) -> Option<Arc<OwnedFd>> {
        let mut all = lock(&self.0);
        let open = all.iter_mut().find(|open| open.id == id)?;
        open.is_used = true;
        Some(open.file.clone())
    }

    /// Where there is no place for another, it takes that of one that is not used, if there is one.
    fn put(&self, id: Id, file: Arc<OwnedFd>) {
        let mut all = lock(&self.0);
        let same = all.iter().position(|open| open.id == id);
        let place = match same {
            Some(_) => None,
            None => descriptors::take_for_small(),
        };
        if let Some(place) = place {
            all.push(Open {
                id,
                file,
                is_used: true,
                _place: place,
            });
            return;
        }
        let before = all
            .iter_mut()
            .find(|open| same.map_or(!open.is_used, |_| open.id == id));
        let before = before.map(|open| {
            open.id = id;
            open.is_used = true;
            std::mem::replace(&mut open.file, file)
        });
        drop(all);
        // To close the last one of a file that was removed frees its blocks, which may wait for the disk.
        drop(before);
    }

    fn forget(&self, id: Id) {
        let gone = {
            let mut all = lock(&self.0);
            let at = all.iter().position(|open| open.id == id);
            at.map(|at| all.swap_remove(at))
        };
        drop(gone);
    }

    fn close_unused(&self) {
        let unused: Vec<_> = {
            let mut all = lock(&self.0);
            all.extract_if(.., |open| !std::mem::take(&mut open.is_used))
                .collect()
        };
        drop(unused);
    }
}

impl Disk {
    /// An object's file that is open from an earlier time, if it still has its name.
    pub(super) fn kept(&self, id: Id) -> Option<Arc<OwnedFd>> {
        let kept = &self.shard(id.url).kept;
        let file = kept.get(id)?;
        if has_name(&file) {
            return Some(file);
        }
        kept.forget(id);
        None
    }

    /// Keeps an object's file open, which was found by its name a moment ago.
    pub(super) fn keep_open(&self, id: Id, file: &Arc<OwnedFd>) {
        let kept = &self.shard(id.url).kept;
        kept.put(id, file.clone());
        // Removed before it was here: nobody would close it for long, and what is open takes its room.
        if !has_name(file) {
            kept.forget(id);
        }
    }

    /// An object's file lost its name.
    pub(super) fn close_kept(&self, id: Id) {
        self.shard(id.url).kept.forget(id);
    }

    /// Closes those that nobody asked for since this was last done, if that is some time ago.
    pub(super) fn close_unused(&self, now: u64) {
        if now.saturating_sub(self.closed.load(Ordering::Relaxed)) < UNUSED {
            return;
        }
        self.closed.store(now, Ordering::Relaxed);
        for shard in &self.shards {
            shard.kept.close_unused();
        }
    }
}

fn has_name(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink > 0)
}
