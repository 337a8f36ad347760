//! The names of files and directories, and the system calls on them.
//!
//! ```text
//! secret                    32 random bytes
//! cleared                   when everything was last removed
//! purges                    what else was; the store's own
//! objects/abc/HEX           an object: url, who, variant in 48 hexadecimal digits; the directory is the first three
//! tmp/PID-HEX/NUMBER        what a living process is writing; it holds a lock on the directory
//! ```
//!
//! Paths are always walked from the root: so nothing is wrong for long when somebody empties the directory under a
//! running process.

use super::Id;
use super::index::Found;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps,
};
use rustix::io::{Errno, ReadWriteFlags};
use std::cell::RefCell;
use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Directories of objects.
pub const SHARDS: usize = 4096;
/// In what steps the size of a file counts.
pub const UNIT: u64 = 4096;
/// Directories are for this user alone.
const PRIVATE_DIR: Mode = Mode::RWXU;
/// Files too.
pub const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// What a file of this length takes, in units.
pub fn units(len: u64) -> u64 {
    len.div_ceil(UNIT)
}

/// Which directory a URL's objects are in.
pub fn shard_of(url: u64) -> usize {
    usize::try_from(url >> 52).unwrap_or(0)
}

/// Makes the paths.
#[derive(Debug)]
pub struct Names {
    root: PathBuf,
}

impl Names {
    /// Below this directory.
    pub fn new(root: PathBuf) -> Self {
        Names { root }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where all objects are.
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// A directory of objects.
    pub fn shard(&self, shard: usize) -> Vec<u8> {
        let mut path = self.below(b"/objects/", 64);
        path.extend([8, 4, 0].map(|shift| digit(shard as u64 >> shift)));
        path
    }

    /// An object's file.
    pub fn object(&self, id: Id) -> Vec<u8> {
        let mut path = self.below(b"/objects/", 64);
        path.extend([60, 56, 52].map(|shift| digit(id.url >> shift)));
        path.push(b'/');
        for word in [id.url, id.who, id.variant] {
            path.extend((0..16).rev().map(|nibble| digit(word >> (4 * nibble))));
        }
        path
    }

    fn below(&self, what: &[u8], room: usize) -> Vec<u8> {
        let root = self.root.as_os_str().as_bytes();
        let mut path = Vec::with_capacity(root.len() + what.len() + room);
        path.extend(root);
        path.extend(what);
        path
    }
}

fn digit(word: u64) -> u8 {
    let nibble = (word & 15) as u8;
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + nibble - 10,
    }
}

/// The id that a file's name stands for, if it does for one in this directory.
fn parse_name(name: &[u8], shard: usize) -> Option<Id> {
    let (words, rest) = name.as_chunks::<16>();
    let [url, who, variant] = words else {
        return None;
    };
    if !rest.is_empty() {
        return None;
    }
    let word = |digits: &[u8; 16]| {
        digits.iter().try_fold(0, |word: u64, digit| {
            let nibble = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            Some(word << 4 | u64::from(nibble))
        })
    };
    let id = Id {
        url: word(url)?,
        who: word(who)?,
        variant: word(variant)?,
    };
    (shard_of(id.url) == shard).then_some(id)
}

/// Makes a directory for this user alone, if it is not there.
pub fn make_dir(path: impl rustix::path::Arg) -> Result<(), Errno> {
    match rustix::fs::mkdir(path, PRIVATE_DIR) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Opens a file to read it.
pub fn open_read(path: &[u8]) -> Result<OwnedFd, Errno> {
    // Neither link nor pipe belongs there: a link is refused, a pipe does not make the opening wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Opens a file to read it if the way to it is in memory: [`Errno::AGAIN`] otherwise.
pub fn open_cached(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED)
}

/// Opens a file to change it.
pub fn open_change(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Makes a new file, to write and to read it.
pub fn create(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, PRIVATE_FILE)
}

/// Opens a directory, as itself.
pub fn open_dir(path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Whether a path leads to this open file.
pub fn is_at(file: impl AsFd, path: &[u8]) -> bool {
    let (Ok(open), Ok(there)) = (rustix::fs::fstat(file), rustix::fs::lstat(path)) else {
        return false;
    };
    is_same_stat(&open, &there)
}

fn is_same_stat(one: &Stat, other: &Stat) -> bool {
    one.st_dev == other.st_dev && one.st_ino == other.st_ino
}

/// Reads from `at` on until `buffer` has `most` bytes or the file ends.
pub fn read_up_to(
    file: impl AsFd,
    buffer: &mut Vec<u8>,
    most: usize,
    at: u64,
) -> Result<(), Errno> {
    let begin = buffer.len();
    buffer.reserve_exact(most.saturating_sub(begin));
    while buffer.len() < most {
        let done = u64::try_from(buffer.len() - begin).unwrap_or(u64::MAX);
        let spare = rustix::buffer::spare_capacity(buffer);
        match rustix::io::pread(file.as_fd(), spare, at.saturating_add(done)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a file from its beginning until `buffer` has `most` bytes or the file ends; `buffer` has the first already.
/// With `wait` false only what is in memory: what is not, is [`Errno::AGAIN`].
pub fn read_front(
    file: impl AsFd,
    buffer: &mut Vec<u8>,
    most: usize,
    wait: bool,
) -> Result<(), Errno> {
    if wait {
        let at = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        return read_up_to(file, buffer, most, at);
    }
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < most {
            scratch.resize(most, 0);
        }
        while buffer.len() < most {
            let at = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
            let rest = most - buffer.len();
            let mut places = [IoSliceMut::new(scratch.get_mut(..rest).unwrap_or_default())];
            match rustix::io::preadv2(file.as_fd(), &mut places, at, ReadWriteFlags::NOWAIT) {
                Ok(read) => {
                    buffer.extend_from_slice(scratch.get(..read).unwrap_or_default());
                    // The end; if only that of what is in memory, the length that the file says tells.
                    if read < rest {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}

/// How reading what is to be there ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// All of it is there.
    Whole,
    /// The file ends before.
    Short,
    /// It would have to wait for the disk.
    WouldBlock,
}

/// Fills these places one after the other with what is in the file from `at` on. With `wait` false only from memory.
pub fn fill(
    file: impl AsFd,
    places: &mut [&mut [u8]],
    at: u64,
    wait: bool,
) -> Result<Filled, Errno> {
    let whole: usize = places.iter().map(|place| place.len()).sum();
    let flags = match wait {
        true => ReadWriteFlags::empty(),
        false => ReadWriteFlags::NOWAIT,
    };
    let mut done = 0;
    while done < whole {
        let mut slices: Vec<_> = places.iter_mut().map(|p| IoSliceMut::new(p)).collect();
        let mut rest = slices.as_mut_slice();
        IoSliceMut::advance_slices(&mut rest, done);
        let from = at.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
        match rustix::io::preadv2(file.as_fd(), rest, from, flags) {
            Ok(0) if wait => return Ok(Filled::Short),
            Ok(0) => return Ok(Filled::WouldBlock),
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            // A file system that cannot tell counts as one that would have to wait.
            Err(Errno::AGAIN | Errno::OPNOTSUPP) if !wait => return Ok(Filled::WouldBlock),
            Err(error) => return Err(error),
        }
    }
    Ok(Filled::Whole)
}

/// Writes these pieces one after the other, from `at` on.
pub fn write_all(file: impl AsFd, pieces: &[&[u8]], at: u64) -> Result<(), Errno> {
    let whole: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut done = 0;
    while done < whole {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, done);
        let from = at.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
        match rustix::io::pwritev(file.as_fd(), rest, from) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Copies `len` bytes from one file to another. [`Errno::BADMSG`] is that the first cannot be read.
pub fn copy(
    from: impl AsFd,
    mut from_at: u64,
    to: impl AsFd,
    mut to_at: u64,
    len: u64,
) -> Result<(), Errno> {
    let end = from_at.saturating_add(len);
    let mut buffer = Vec::new();
    while from_at < end {
        let most = usize::try_from(end - from_at).unwrap_or(usize::MAX);
        buffer.clear();
        let read = read_up_to(from.as_fd(), &mut buffer, most.min(1024 * 1024), from_at);
        read.map_err(|_| Errno::BADMSG)?;
        // `spare_capacity` may be more than what was asked for.
        buffer.truncate(most);
        if buffer.is_empty() {
            return Err(Errno::BADMSG);
        }
        write_all(to.as_fd(), &[&buffer], to_at)?;
        let done = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        from_at += done;
        to_at += done;
    }
    Ok(())
}

/// Gives a file this modification time, in microseconds since the epoch.
pub fn set_modified(path: &[u8], micros: u64) -> Result<(), Errno> {
    let omit = Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_OMIT,
    };
    let times = Timestamps {
        last_access: omit,
        last_modification: Timespec {
            tv_sec: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(micros % 1_000_000 * 1000).unwrap_or(0),
        },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// A file's modification time, in microseconds since the epoch.
pub fn modified(stat: &Stat) -> u64 {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000)
        .saturating_add(stat.st_mtime_nsec / 1000)
}

/// When anything of a file was last changed, in nanoseconds since the epoch.
pub fn changed(stat: &Stat) -> u64 {
    let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(stat.st_ctime_nsec)
}

/// The names in a directory, without `.` and `..`.
pub fn list(dir: impl AsFd, mut each: impl FnMut(&CStr)) -> Result<(), Errno> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            each(entry.file_name());
        }
    }
    Ok(())
}

/// The objects in one of their directories. Names that are none of ours are left alone.
pub fn list_shard(path: &[u8], shard: usize) -> Result<Vec<Found>, Errno> {
    let dir = match open_dir(path) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    list(&dir, |name| {
        let Some(id) = parse_name(name.to_bytes(), shard) else {
            return;
        };
        // What was removed since the directory was read is left out.
        let Ok(stat) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return;
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            let len = u64::try_from(stat.st_size).unwrap_or(0);
            found.push(Found {
                id,
                units: u32::try_from(units(len)).unwrap_or(u32::MAX),
                used: modified(&stat),
            });
        }
    })?;
    Ok(found)
}

/// The objects of a URL in their directory.
pub fn list_url(path: &[u8], shard: usize, url: u64) -> Result<Vec<Id>, Errno> {
    let dir = match open_dir(path) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    list(&dir, |name| {
        found.extend(parse_name(name.to_bytes(), shard).filter(|id| id.url == url));
    })?;
    Ok(found)
}

/// What a file or directory takes on the file system, in units; nothing if it is not there.
pub fn units_taken(path: &[u8]) -> u32 {
    let stat = rustix::fs::lstat(path);
    let blocks = stat.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0));
    u32::try_from(units(blocks.saturating_mul(512))).unwrap_or(u32::MAX)
}

/// Waits until what came and went in a directory is on the disk.
pub fn sync_dir(path: impl rustix::path::Arg) -> Result<(), Errno> {
    rustix::fs::fsync(open_dir(path)?)
}

/// Bytes that this user can still write on the file system.
pub fn free_space(path: &Path) -> Result<u64, Errno> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
