//! Changing and looking through the heads of finished files.

use super::files::{self, units};
use super::format::{self, MOST_ROOM, Prefix};
use super::health::lock;
use super::stored::{Front, Stored, Trouble};
use super::{Disk, Id, Off};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

impl Disk {
    /// Writes a head into the slot that does not count, or where it does not fit, into a new file.
    pub(super) fn write_head(&self, id: Id, object: &Stored, head: &[u8]) -> Result<bool, Trouble> {
        let path = self.names.object(id);
        let files = lock(&self.shard(id.url).files);
        let file = match files::open_change(&path) {
            Err(Errno::NOENT) => return Ok(false),
            other => other?,
        };
        // Not by the name: another process may have put another file there just now.
        if !files::is_same(&file, object.file()) {
            return Ok(false);
        }
        let Front {
            prefix,
            seed,
            head: now,
            ..
        } = Front::read(file.as_fd(), id, true)?;
        let slot = 1 - now.slot;
        let number = now.number.saturating_add(1);
        let fits = format::encode_slot(&prefix, seed, slot, number, head);
        let (Ok(bytes), true) = (fits, number > now.number) else {
            drop(files);
            return Ok(self
                .copy(file.as_fd(), &prefix, head, true)
                .is_ok_and(|s| s.is_some()));
        };
        let at = format::to_u64(prefix.slot_start(slot));
        if let Err(error) = self.write(file.as_fd(), &[&bytes], at) {
            self.write_failed("changing a head", error);
            return Ok(false);
        }
        Ok(true)
    }

    /// Copies a file that is whole but for its head into one with more room, which gets the object's name.
    pub(super) fn copy_with_head(
        &self,
        from: BorrowedFd<'_>,
        prefix: &Prefix,
        head: &[u8],
    ) -> Result<Arc<Stored>, Off> {
        self.copy(from, prefix, head, false)?.ok_or(Off::Failed)
    }

    /// `None`: with `replaces`, when `from` does not have the object's name any more.
    pub(super) fn copy(
        &self,
        from: BorrowedFd<'_>,
        prefix: &Prefix,
        head: &[u8],
        replaces: bool,
    ) -> Result<Option<Arc<Stored>>, Off> {
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
        let (path, file) = match made {
            Ok(made) => made,
            Err(error) => {
                self.release(reserved);
                return Err(self.write_failed("rewriting an object", error));
            }
        };
        let _files = lock(&self.shard(prefix.id.url).files);
        if replaces && !files::is_at(from, &self.names.object(prefix.id)) {
            self.remove_tmp(&path);
            self.release(reserved);
            return Ok(None);
        }
        self.give_name_locked(&path, &wider, reserved)?;
        let stored = Stored::growing(file, &wider, self.me.clone());
        Ok(Some(Arc::new(stored)))
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
