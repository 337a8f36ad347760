//! An object's open file: its body, every byte of it checked before it is handed out.
//!
//! A file is never changed under its readers, save for the slots of its head: a new version is another file under the
//! same name. So an open object stays readable, whatever is removed or replaced meanwhile.

use super::files::{self, Filled};
use super::format::{self, BLOCK, HeadPlace, Prefix, SUM, to_u64};
use super::health::{self, lock};
use super::{Corrupt, Disk, Id};
use crate::cache::buffer::Buffer;
use crate::cache::descriptors::{self, Place};
use bytes::Bytes;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Bytes that are read when a file is opened: all of most objects, and the heads of the others.
const OPENING: usize = 16 * 1024;
/// For how many milliseconds a body that was right needs not be read again: what a disk spoils by itself is found by then.
const RECHECK: u64 = 10_000;
/// Longer than a tick of any file system's clock.
const TICK: Duration = Duration::from_millis(100);
/// Most bytes that one call reads: enough that the system calls do not count.
const MOST: usize = 4 * BLOCK;

/// An object whose body can be read.
#[derive(Debug)]
pub struct Stored {
    id: Id,
    file: Arc<OwnedFd>,
    seed: u64,
    stamp: u64,
    /// Moves once at most: at the end of a writing, when no byte of the body is in the file yet.
    body_start: AtomicU64,
    /// Grows while the file is being written.
    body_len: AtomicU64,
    /// The whole body, where it came with the head.
    whole: Option<Bytes>,
    /// The checksums of the body's blocks, until they are in the file: they follow the body there.
    sums: Mutex<Option<Vec<u8>>>,
    /// When all of the body was last found to be right.
    checked: Checked,
    /// The right to stay open for later.
    place: OnceLock<Place>,
    disk: Weak<Disk>,
}

/// When all of a body was last found to be right.
#[derive(Debug, Default)]
struct Checked {
    /// In milliseconds of this process, from 1 on; 0 for never.
    at: AtomicU64,
    /// The file's [`Version`] then.
    version: AtomicU64,
}

/// When a file was last changed in any way, in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(u64);

/// What is known of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its file has its name no more: it was replaced or removed.
    Gone,
    /// All of it was right a short time ago, and its file was not touched since.
    Right,
    /// It has to be read to know.
    Unknown(Version),
}

/// Why a file could not be opened as an object.
#[derive(Debug)]
pub enum Trouble {
    /// What is in it is wrong.
    Corrupt(Corrupt),
    /// It could not be read.
    Io(Errno),
    /// It would have to wait for the disk, and was not to.
    WouldBlock,
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        match error {
            Errno::AGAIN | Errno::OPNOTSUPP => Trouble::WouldBlock,
            // A link has no place there.
            Errno::LOOP => Trouble::Corrupt(Corrupt::Foreign),
            // Asked again, the disk is likely to fail again, and slowly.
            Errno::IO | Errno::UCLEAN | Errno::BADMSG => Trouble::Corrupt(Corrupt::Unreadable),
            error => Trouble::Io(error),
        }
    }
}

impl From<Corrupt> for Trouble {
    fn from(corrupt: Corrupt) -> Self {
        Trouble::Corrupt(corrupt)
    }
}

/// What stands before the body, checked.
#[derive(Debug)]
pub struct Front {
    /// The file's first bytes, to the end of the slots or farther.
    pub bytes: Vec<u8>,
    /// Whether `bytes` is the whole file.
    pub is_whole: bool,
    /// What the file says of itself.
    pub prefix: Prefix,
    /// What its checksums are seeded with.
    pub seed: u64,
    /// Where the head is.
    pub head: HeadPlace,
}

impl Front {
    /// Reads and checks what stands before the body.
    pub fn read(file: BorrowedFd<'_>, id: Id, wait: bool) -> Result<Self, Trouble> {
        let mut bytes = Vec::new();
        files::read_front(file, &mut bytes, OPENING, wait)?;
        let is_whole = bytes.len() < OPENING;
        let prefix = Prefix::decode(&bytes)?;
        if prefix.id != id {
            return Err(Corrupt::OtherId.into());
        }
        let end = usize::try_from(prefix.body_start()).unwrap_or(usize::MAX);
        if bytes.len() < end {
            if is_whole {
                return Err(Corrupt::Length.into());
            }
            files::read_front(file, &mut bytes, end, wait)?;
        }
        // A file that was cut is not to be found out in the middle of a response.
        let len = match is_whole {
            true => to_u64(bytes.len()),
            false => u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0),
        };
        if prefix.file_len() != Some(len) {
            return Err(Corrupt::Length.into());
        }
        let seed = prefix.seed();
        let head = format::find_head(&prefix, seed, &bytes)?;
        Ok(Front {
            bytes,
            is_whole,
            prefix,
            seed,
            head,
        })
    }

    /// The head that counts.
    pub fn head(&self) -> &[u8] {
        self.bytes.get(self.head.range.clone()).unwrap_or_default()
    }
}

impl Stored {
    /// Opens a finished file and takes its head out.
    pub(super) fn open(
        file: Arc<OwnedFd>,
        id: Id,
        disk: Weak<Disk>,
        wait: bool,
    ) -> Result<(Self, Vec<u8>), Trouble> {
        let front = Front::read(file.as_fd(), id, wait)?;
        let head = front.head().to_vec();
        let (prefix, seed) = (front.prefix, front.seed);
        let whole = match front.is_whole {
            true => Some(small_body(front)?),
            false => None,
        };
        let stored = Stored {
            id,
            file,
            seed,
            stamp: prefix.stamp,
            body_start: AtomicU64::new(prefix.body_start()),
            body_len: AtomicU64::new(prefix.body_len),
            whole,
            sums: Mutex::new(None),
            checked: Checked::default(),
            place: OnceLock::new(),
            disk,
        };
        Ok((stored, head))
    }

    /// A file that is being written, empty as yet.
    pub(super) fn growing(file: OwnedFd, prefix: &Prefix, disk: Weak<Disk>) -> Self {
        Stored {
            id: prefix.id,
            file: Arc::new(file),
            seed: prefix.seed(),
            stamp: prefix.stamp,
            body_start: AtomicU64::new(prefix.body_start()),
            body_len: AtomicU64::new(prefix.body_len),
            whole: None,
            sums: Mutex::new(Some(Vec::new())),
            checked: Checked::default(),
            place: OnceLock::new(),
            disk,
        }
    }

    /// This is the checksum of the next block, which is in the file.
    pub(super) fn summed(&self, sum: [u8; SUM]) {
        if let Some(sums) = lock(&self.sums).as_mut() {
            sums.extend(sum);
        }
    }

    /// All checksums so far, of a file that is being written.
    pub(super) fn sums(&self) -> Vec<u8> {
        lock(&self.sums).clone().unwrap_or_default()
    }

    /// All checksums are in the file.
    pub(super) fn sums_written(&self) {
        *lock(&self.sums) = None;
    }

    /// The body begins here and has this many bytes now, all of them in the file.
    pub(super) fn grown(&self, body_start: u64, body_len: u64) {
        self.body_start.store(body_start, Ordering::Relaxed);
        // Who sees this length sees the beginning too.
        self.body_len.store(body_len, Ordering::Release);
    }

    /// Whose it is.
    pub fn id(&self) -> Id {
        self.id
    }

    /// What tells this file from every other of the same object. A copy that was made only to have more room for its head
    /// has the same: the body is the same.
    pub fn copy(&self) -> u64 {
        self.seed
    }

    /// The open file.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The same, for who holds it open after this.
    pub(super) fn shared_file(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    /// When its writing began, in microseconds since the epoch.
    pub(super) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// When its writing began, since the epoch, by the store's own clock: what is to hold for older objects only is
    /// compared with this.
    pub fn begun(&self) -> Duration {
        Duration::from_micros(self.stamp)
    }

    /// Bytes of the body; of a file that is being written those that can be read by now.
    pub fn body_len(&self) -> u64 {
        self.body_len.load(Ordering::Acquire)
    }

    /// Up to `most` bytes of the body from `offset` on, at least one unless the body ends there, never more than 256
    /// KiB. Waits for the disk.
    ///
    /// Blocks of 64 KiB are read and checked as a whole. To read each only once, ask for 64 KiB or more: what is
    /// returned then ends where a block does.
    ///
    /// # Errors
    /// When what is in the file is wrong. The file is removed then.
    pub fn read_at(&self, offset: u64, most: usize) -> Result<Bytes, Corrupt> {
        // With `wait` it never comes to nothing.
        self.read(offset, most, true).unwrap_or(Ok(Bytes::new()))
    }

    /// The same without waiting for the disk: `None` when the bytes are not in the system's memory, or are wrong:
    /// [`Stored::read_at`] sees to the rest.
    pub fn try_read_at(&self, offset: u64, most: usize) -> Option<Result<Bytes, Corrupt>> {
        self.read(offset, most, false)
    }

    fn read(&self, offset: u64, most: usize, wait: bool) -> Option<Result<Bytes, Corrupt>> {
        let body_len = self.body_len();
        if offset >= body_len || most == 0 {
            return Some(Ok(Bytes::new()));
        }
        if let Some(whole) = &self.whole {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = start.saturating_add(most).min(whole.len());
            return Some(Ok(whole.slice(start.min(end)..end)));
        }
        let block = to_u64(BLOCK);
        let first = offset / block;
        let mut end = body_len.min(offset.saturating_add(to_u64(most)));
        end = end.min((first * block).saturating_add(to_u64(MOST)));
        // To the end of a block rather than into the next one, whose rest would be read again.
        if end < body_len && end - end % block > offset {
            end -= end % block;
        }
        // The last block that is touched is read as far as it goes.
        let until = end.next_multiple_of(block).min(body_len);
        let len = usize::try_from(until - first * block).unwrap_or(0);
        let body_start = self.body_start.load(Ordering::Relaxed);
        let at = body_start.saturating_add(first * block);
        let mut data = Buffer::of(len);
        let result = match self.read_blocks(first, at, &mut data, wait) {
            Ok(Ok(sums)) => self.check(first, &data, &sums).map(|()| data),
            Ok(Err(Filled::WouldBlock)) => return None,
            Ok(Err(_)) => Err(Corrupt::Length),
            Err(_) if !wait => return None,
            Err(error) => {
                self.tell(|disk| disk.read_failed(error));
                Err(Corrupt::Unreadable)
            }
        };
        let data = match result {
            Ok(data) => data,
            // Removing it waits for the disk.
            Err(_) if !wait => return None,
            Err(corrupt) => {
                self.tell(|disk| disk.damaged(self.id, self.file(), corrupt));
                return Some(Err(corrupt));
            }
        };
        let start = usize::try_from(offset - first * block).unwrap_or(0);
        let end = usize::try_from(end - first * block).unwrap_or(0);
        Some(Ok(part(data, start, end)))
    }

    /// Whether it may stay open for whoever asks for it next.
    pub fn stays_open(&self) -> bool {
        if self.place.get().is_none()
            && let Some(place) = descriptors::take()
        {
            // Of two at the same time, one gives its place back.
            let _ = self.place.set(place);
        }
        self.place.get().is_some()
    }

    /// What is known of the body without reading it.
    pub fn standing(&self) -> Standing {
        let Ok(stat) = rustix::fs::fstat(&self.file) else {
            return Standing::Gone;
        };
        if stat.st_nlink == 0 {
            return Standing::Gone;
        }
        let version = Version(files::changed(&stat));
        let at = self.checked.at.load(Ordering::Acquire);
        let is_same = self.checked.version.load(Ordering::Relaxed) == version.0;
        if at != 0 && is_same && uptime().saturating_sub(at) < RECHECK {
            return Standing::Right;
        }
        Standing::Unknown(version)
    }

    /// All of the body was read, and was right, since its file had this version.
    pub fn was_right(&self, version: Version) {
        // Two changes within one tick of the file system's clock leave the same time: what was changed a moment ago may
        // have been changed after it was read.
        let changed = Duration::from_nanos(version.0);
        let since = Duration::from_micros(health::micros()).saturating_sub(changed);
        if since < TICK || self.standing() != Standing::Unknown(version) {
            return;
        }
        self.checked.version.store(version.0, Ordering::Relaxed);
        self.checked.at.store(uptime(), Ordering::Release);
    }

    /// The file, where in it the body begins, and how long that is.
    pub fn span(&self) -> (BorrowedFd<'_>, u64, u64) {
        let len = self.body_len();
        let start = self.body_start.load(Ordering::Relaxed);
        (self.file.as_fd(), start, len)
    }

    /// Whether the whole body is in memory already, as it came with the head.
    pub fn is_at_hand(&self) -> bool {
        self.whole.is_some()
    }

    /// Reads the blocks that `data` has room for, from block `first` at `at` on, and gives their checksums; or why not.
    fn read_blocks(
        &self,
        first: u64,
        at: u64,
        data: &mut [u8],
        wait: bool,
    ) -> Result<Result<Vec<u8>, Filled>, Errno> {
        let before = usize::try_from(first)
            .unwrap_or(usize::MAX)
            .saturating_mul(SUM);
        let mut sums = vec![0; data.len().div_ceil(BLOCK) * SUM];
        let known = lock(&self.sums).as_ref().map(|known| {
            let these = known.get(before..before.saturating_add(sums.len()));
            these.unwrap_or_default().to_vec()
        });
        let file = self.file.as_fd();
        if let Some(known) = known {
            let filled = files::fill(file, &mut [data], at, wait)?;
            return Ok(match filled {
                Filled::Whole => Ok(known),
                other => Err(other),
            });
        }
        // Asked again: it may have grown until its checksums were written.
        let body_end = (self.body_start.load(Ordering::Relaxed)).saturating_add(self.body_len());
        let filled = if first == 0 && at.saturating_add(to_u64(data.len())) == body_end {
            files::fill(file, &mut [data, &mut sums], at, wait)?
        } else {
            match files::fill(file, &mut [data], at, wait)? {
                Filled::Whole => {
                    let at = body_end.saturating_add(to_u64(before));
                    files::fill(file, &mut [&mut sums], at, wait)?
                }
                other => other,
            }
        };
        Ok(match filled {
            Filled::Whole => Ok(sums),
            other => Err(other),
        })
    }

    fn check(&self, first: u64, data: &[u8], sums: &[u8]) -> Result<(), Corrupt> {
        if sums.len() != data.len().div_ceil(BLOCK) * SUM {
            return Err(Corrupt::Length);
        }
        let sums = sums.chunks_exact(SUM);
        for ((number, block), sum) in (first..).zip(data.chunks(BLOCK)).zip(sums) {
            if format::block_sum(self.seed, number, block) != format::u64_at(sum, 0) {
                return Err(Corrupt::Block);
            }
        }
        Ok(())
    }

    fn tell(&self, what: impl FnOnce(&Disk)) {
        if let Some(disk) = self.disk.upgrade() {
            what(&disk);
        }
    }
}

/// Milliseconds since this process first asked, and one.
pub fn uptime() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let since = BEGAN.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1) + 1
}

/// The body of a file that was read as a whole.
fn small_body(front: Front) -> Result<Bytes, Corrupt> {
    let start = usize::try_from(front.prefix.body_start()).unwrap_or(usize::MAX);
    let body_len = usize::try_from(front.prefix.body_len).unwrap_or(usize::MAX);
    if body_len == 0 {
        return Ok(Bytes::new());
    }
    let body = front.bytes.get(start..).ok_or(Corrupt::Length)?;
    let (block, sum) = body.split_at_checked(body_len).ok_or(Corrupt::Length)?;
    if format::block_sum(front.seed, 0, block) != format::u64_at(sum, 0) {
        return Err(Corrupt::Block);
    }
    let range = start..start + block.len();
    let mut bytes = front.bytes;
    // What waited for the disk was read into room for the longest.
    bytes.shrink_to_fit();
    Ok(Bytes::from(bytes).slice(range))
}

/// A part of what was read.
fn part(data: Buffer, start: usize, end: usize) -> Bytes {
    let wanted = end - start;
    // A small part must not keep much memory from being used otherwise.
    if wanted < data.len() / 4 {
        return Bytes::copy_from_slice(data.get(start..end).unwrap_or_default());
    }
    Bytes::from_owner(data).slice(start..end)
}
