//! Changing and looking through the heads of finished files.

use super::files::{self, units};
use super::format::{self, MOST_ROOM, Prefix};
use super::health::lock;
use super::stored::{Front, Stored, Trouble};
use super::{Disk, Id, Keep, MayGo, Off, Updated};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A copy with more room, without its name yet.
struct Wider {
    path: Vec<u8>,
    file: OwnedFd,
    prefix: Prefix,
    reserved: u64,
}

impl Disk {
    /// Writes a head into the slot that does not count, or where it does not fit, into a new file.
    pub(super) fn write_head(
        &self,
        id: Id,
        copy: u64,
        head: &[u8],
        keep: MayGo<'_>,
    ) -> Result<Updated, Trouble> {
        let path = self.names.object(id);
        let files = lock(&self.shard(id.url).files);
        let file = match files::open_change(&path) {
            Err(Errno::NOENT) => return Ok(Updated::Other),
            other => other?,
        };
        let front = Front::read(file.as_fd(), id, true)?;
        // Not by the name: any other version of the object may have it, and none of its bytes belong to this head.
        if front.seed != copy {
            return Ok(Updated::Other);
        }
        if !keep(front.head()) {
            return Ok(Updated::No);
        }
        let Front {
            prefix,
            seed,
            head: now,
            ..
        } = front;
        let slot = 1 - now.slot;
        let number = now.number.saturating_add(1);
        let fits = format::update(&prefix, seed, slot, number, head);
        let (Ok(steps), true) = (fits, number > now.number) else {
            drop(files);
            let copied = self.copy(file.as_fd(), &prefix, head, Some(keep));
            return Ok(match copied {
                Ok(Some(_)) => Updated::Yes,
                Ok(None) | Err(_) => Updated::No,
            });
        };
        let at = format::to_u64(prefix.slot_start(slot));
        for bytes in steps {
            if let Err(error) = self.write(file.as_fd(), &[&bytes], at) {
                self.write_failed("changing a head", error);
                return Ok(Updated::No);
            }
        }
        Ok(Updated::Yes)
    }

    /// Copies a file that is whole but for its head into one with more room, which gets the object's name.
    pub(super) fn copy_with_head(
        &self,
        from: BorrowedFd<'_>,
        prefix: &Prefix,
        head: &[u8],
        keep: Keep<'_>,
    ) -> Result<Arc<Stored>, Off> {
        let made = self.widen(from, prefix, head)?;
        let _files = lock(&self.shard(prefix.id.url).files);
        self.name_copy(made, keep)
    }

    /// The same for one that has the object's name. `None`: it does not have it any more, or `keep` says so of the head
    /// that is there.
    pub(super) fn copy(
        &self,
        from: BorrowedFd<'_>,
        prefix: &Prefix,
        head: &[u8],
        keep: Option<MayGo<'_>>,
    ) -> Result<Option<Arc<Stored>>, Off> {
        let made = self.widen(from, prefix, head)?;
        let _files = lock(&self.shard(prefix.id.url).files);
        let is_kept = || {
            let front = Front::read(from, prefix.id, true);
            front.is_ok_and(|front| keep.is_none_or(|keep| keep(front.head())))
        };
        if !files::is_at(from, &self.names.object(prefix.id)) || !is_kept() {
            self.remove_tmp(&made.path);
            self.release(made.reserved);
            return Ok(None);
        }
        self.name_copy(made, &|| true).map(Some)
    }

    /// The caller holds the lock.
    fn name_copy(&self, made: Wider, keep: Keep<'_>) -> Result<Arc<Stored>, Off> {
        self.give_name_locked(&made.path, &made.prefix, made.reserved, keep)?;
        let stored = Stored::growing(made.file, &made.prefix, self.me.clone());
        // They were copied with the body.
        stored.sums_written();
        Ok(Arc::new(stored))
    }

    fn widen(&self, from: BorrowedFd<'_>, prefix: &Prefix, head: &[u8]) -> Result<Wider, Off> {
        let room = (head.len() + head.len() / 4)
            .min(MOST_ROOM)
            .max(prefix.room);
        let wider = Prefix { room, ..*prefix };
        let (Some(len), Ok(front)) = (wider.file_len(), wider.front(head)) else {
            return Err(Off::NoRoom);
        };
        let reserved = units(len);
        if self.is_too_large(reserved) {
            return Err(Off::NoRoom);
        }
        self.check_space()?;
        self.reserve(reserved)?;
        let made = self.create_tmp().and_then(|(path, file)| {
            let body = len - wider.body_start();
            let (from_at, to_at) = (prefix.body_start(), wider.body_start());
            // As it is: the checksums stay right, and what was wrong stays wrong.
            let copied = files::copy(from, from_at, &file, to_at, body);
            let written = copied.and_then(|()| self.write(file.as_fd(), &[&front], 0));
            if written.is_err() {
                self.remove_tmp(&path);
            }
            written.map(|()| (path, file))
        });
        match made {
            Ok((path, file)) => Ok(Wider {
                path,
                file,
                prefix: wider,
                reserved,
            }),
            Err(error) => {
                self.release(reserved);
                Err(self.write_failed("rewriting an object", error))
            }
        }
    }

    /// Shows an object's head to `f`, unless it was begun after `began`, and removes it if that says so.
    pub(super) fn show_head(&self, id: Id, began: u64, f: &mut dyn FnMut(Id, &[u8]) -> bool) {
        let path = self.names.object(id);
        let Ok(file) = files::open_read(&path) else {
            // Gone meanwhile, or for the next who asks for it to find out.
            return;
        };
        match Front::read(file.as_fd(), id, true) {
            Ok(front) => {
                if front.prefix.stamp <= began && f(id, front.head()) {
                    self.remove_if_same(id, file.as_fd());
                }
            }
            Err(Trouble::Corrupt(_)) => {
                let files = lock(&self.shard(id.url).files);
                // A head that was changed while we read it is whole now.
                let again = Front::read(file.as_fd(), id, true);
                drop(files);
                match again {
                    Ok(front) if front.prefix.stamp <= began && f(id, front.head()) => {
                        self.remove_if_same(id, file.as_fd());
                    }
                    Err(Trouble::Corrupt(corrupt)) => self.damaged(id, file.as_fd(), corrupt),
                    _ => {}
                }
            }
            Err(Trouble::Io(error)) => self.read_failed(error),
            Err(Trouble::WouldBlock) => {}
        }
    }
}
