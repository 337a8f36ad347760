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
pub const MOST: usize = 32;

/// Those of one directory of objects.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Vec<Open>>);

/// One of them.
#[derive(Debug)]
pub struct Open {
    id: Id,
    file: Arc<OwnedFd>,
    /// Since those that are not used were last closed.
    is_used: bool,
    /// Of one in whose place another is, that one has it.
    place: Option<Place>,
}

impl Kept {
    fn get(&self, id: Id) -> Option<Arc<OwnedFd>> {
        let mut all = lock(&self.0);
        let open = all.iter_mut().find(|open| open.id == id)?;
        open.is_used = true;
        Some(open.file.clone())
    }

    /// Where there is no place for another, it takes that of one that is not used, if there is one. `None` if it is not in; else what
    /// is out for it, if that is one.
    fn put(&self, id: Id, file: Arc<OwnedFd>) -> Option<Option<Open>> {
        let mut all = lock(&self.0);
        let same = all.iter().position(|open| open.id == id);
        let mut place = match same.is_none() && all.len() < MOST {
            true => descriptors::take_for_small(),
            false => None,
        };
        let mut out = None;
        if place.is_none() {
            let at = same.or_else(|| all.iter().position(|open| !open.is_used))?;
            let mut gone = all.swap_remove(at);
            place = gone.place.take();
            out = Some(gone);
        }
        all.push(Open {
            id,
            file,
            is_used: true,
            place,
        });
        Some(out)
    }

    fn forget(&self, id: Id) -> Option<Open> {
        let mut all = lock(&self.0);
        let at = all.iter().position(|open| open.id == id)?;
        Some(all.swap_remove(at))
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
        self.close_later(kept.forget(id));
        None
    }

    /// Keeps an object's file open, which was found by its name a moment ago.
    pub(super) fn keep_open(&self, id: Id, file: &Arc<OwnedFd>) {
        let kept = &self.shard(id.url).kept;
        let Some(out) = kept.put(id, file.clone()) else {
            return;
        };
        match out {
            Some(out) if has_name(&out.file) => drop(out),
            out => self.close_later(out),
        }
        // Removed or replaced before it was here: nobody would close it.
        if !files::is_at(file.as_fd(), &self.names.object(id)) {
            self.close_later(kept.forget(id));
        }
    }

    /// An object's file lost its name to us.
    pub(super) fn close_kept(&self, id: Id) {
        drop(self.shard(id.url).kept.forget(id));
    }

    /// An object's file was found to have lost its name.
    pub(super) fn close_lost(&self, id: Id) {
        self.close_later(self.shard(id.url).kept.forget(id));
    }

    /// Has it closed by the thread in the background: to close the last one of a file that others removed frees its blocks, which may
    /// wait for the disk.
    fn close_later(&self, open: Option<Open>) {
        lock(&self.closing).extend(open);
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
