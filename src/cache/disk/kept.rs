//! Files of small objects that stay open for a while: to find a file by its name costs more than to read it.
//!
//! That is all they are for. Before each use it is asked whether the file still has a name. What this process removes or
//! replaces is closed at once. What others do is seen at the next use, or its room is free once nobody has used it for two
//! minutes; only a file that they move, or link elsewhere as well, goes on being found.

use super::files;
use super::health::lock;
use super::{Disk, Id};
use crate::cache::descriptors::{self, Place};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// For how long one that nobody asks for stays open at least, in milliseconds.
pub const UNUSED: u64 = 60_000;
/// Of one directory: all persons' answers to a URL are there, and one looks at each to find one.
const MOST: usize = 32;

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

    /// Where there is no place for another, it takes that of one that is not used, if there is one. Says whether it is in.
    fn put(&self, id: Id, file: Arc<OwnedFd>) -> bool {
        let mut all = lock(&self.0);
        let same = all.iter().position(|open| open.id == id);
        let place = match same.is_none() && all.len() < MOST {
            true => descriptors::take_for_small(),
            false => None,
        };
        if let Some(place) = place {
            all.push(Open {
                id,
                file,
                is_used: true,
                _place: place,
            });
            return true;
        }
        let mut fitting = all.iter_mut();
        let Some(open) = fitting.find(|open| same.map_or(!open.is_used, |_| open.id == id)) else {
            return false;
        };
        open.id = id;
        open.is_used = true;
        let before = std::mem::replace(&mut open.file, file);
        drop(all);
        drop(before);
        true
    }

    fn forget(&self, id: Id) -> Option<Arc<OwnedFd>> {
        let mut all = lock(&self.0);
        let at = all.iter().position(|open| open.id == id)?;
        Some(all.swap_remove(at).file)
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
        // To close the last one of a file that others removed frees its blocks, which may wait for the disk.
        let gone = kept.forget(id);
        lock(&self.closing).extend(gone);
        None
    }

    /// Keeps an object's file open, which was found by its name a moment ago.
    pub(super) fn keep_open(&self, id: Id, file: &Arc<OwnedFd>) {
        let kept = &self.shard(id.url).kept;
        // Removed or replaced before it was here: nobody would close it.
        if kept.put(id, file.clone()) && !files::is_at(file.as_fd(), &self.names.object(id)) {
            kept.forget(id);
        }
    }

    /// An object's file lost its name.
    pub(super) fn close_kept(&self, id: Id) {
        self.shard(id.url).kept.forget(id);
    }

    /// Closes those that nobody asked for since this was last done, if that is some time ago.
    /// `now`: in milliseconds, by [`super::stored::uptime`].
    pub(super) fn close_unused(&self, now: u64) {
        let gone = std::mem::take(&mut *lock(&self.closing));
        drop(gone);
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
