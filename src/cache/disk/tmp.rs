//! Where files are written until they are whole, and what dead processes left there.
//!
//! Each open disk has its own directory below `tmp` and holds a lock on it as long as it lives, even if it is killed.
//! What can be locked by another is a dead one's.

use super::files::{self, Names};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A directory for files that are not whole yet, removed at the end.
#[derive(Debug)]
pub struct TmpDir {
    path: PathBuf,
    /// The lock is on this open file.
    locked: Mutex<OwnedFd>,
    next: AtomicU64,
}

impl TmpDir {
    /// Makes one that no other has: `token` is random.
    pub fn make(names: &Names, token: u64) -> Result<Self, Errno> {
        let all = names.root().join("tmp");
        files::make_dir(&all)?;
        let pid = std::process::id();
        for attempt in 0..8 {
            let path = all.join(format!("{pid}-{:016x}", token.wrapping_add(attempt)));
            if let Some(lock) = claim(&path)? {
                return Ok(TmpDir {
                    path,
                    locked: Mutex::new(lock),
                    next: AtomicU64::new(0),
                });
            }
        }
        Err(Errno::EXIST)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new file in it, and its path.
    pub fn create(&self) -> Result<(Vec<u8>, OwnedFd), Errno> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(number.to_string()).into_os_string();
        let path = path.as_bytes().to_vec();
        let file = match files::create(&path) {
            Err(Errno::NOENT) => {
                self.make_again()?;
                files::create(&path)?
            }
            other => other?,
        };
        Ok((path, file))
    }

    /// Somebody removed the directory: it is made anew.
    fn make_again(&self) -> Result<(), Errno> {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        for dir in [
            self.path.parent().and_then(Path::parent),
            self.path.parent(),
        ] {
            files::make_dir(dir.unwrap_or(Path::new("/")))?;
        }
        // Without the lock only where another thread was faster.
        if let Some(lock) = claim(&self.path)? {
            *locked = lock;
        }
        Ok(())
    }
}

impl Drop for TmpDir {
    fn drop(&mut self) {
        let _ = rustix::fs::rmdir(&self.path);
    }
}

/// Makes a directory and locks it; `None` if another has it.
fn claim(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    files::make_dir(path)?;
    let Some(lock) = lock(path)? else {
        return Ok(None);
    };
    // Between making and locking somebody may have taken it for a leftover and removed it.
    let ours = files::is_at(&lock, path.as_os_str().as_bytes());
    Ok(ours.then_some(lock))
}

fn lock(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let dir = match files::open_dir(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other?,
    };
    match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(dir)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what dead processes left. Returns how many files.
pub fn remove_leftovers(names: &Names) -> Result<usize, Errno> {
    let all = names.root().join("tmp");
    let (mut removed, mut failed) = (0, Ok(()));
    for name in list(&all)? {
        let path = all.join(OsStr::from_bytes(&name));
        let Ok(Some(_lock)) = lock(&path) else {
            continue;
        };
        for file in list(&path)? {
            match rustix::fs::unlink(path.join(OsStr::from_bytes(&file))) {
                Ok(()) => removed += 1,
                Err(error) => failed = Err(error),
            }
        }
        let _ = rustix::fs::rmdir(&path);
    }
    failed.map(|()| removed)
}

fn list(path: &Path) -> Result<Vec<Vec<u8>>, Errno> {
    let dir = match files::open_dir(path) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    files::list(&dir, |name| names.push(name.to_bytes().to_vec()))?;
    Ok(names)
}
