//! What is done once, when a directory is opened: making what is missing, removing what the dead left, reading what is
//! not an object.

use super::files::{self, Names, SHARDS};
use super::tmp::{self, TmpDir};
use super::{DiskSettings, OpenError, format, health};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How much the times in a file system may be behind our clock, in microseconds.
pub const COARSE: u64 = 2_000_000;

/// What is known of the directory.
pub struct Prepared {
    /// Its names.
    pub names: Names,
    /// Its secret.
    pub secret: [u8; 32],
    /// What no other writer has.
    pub salt: u64,
    /// For the name of where this one writes.
    pub token: u64,
    /// Where this one writes.
    pub tmp: Option<TmpDir>,
    /// Why there is no such place.
    pub trouble: Option<OpenError>,
    /// Up to when everything was removed, in microseconds since the epoch.
    pub cleared: u64,
    /// Which shards have a directory.
    pub shards: Vec<bool>,
}

/// Makes what is missing and reads what is not an object.
pub fn prepare(settings: &DiskSettings) -> Result<Prepared, getrandom::Error> {
    let names = Names::new(settings.path.clone());
    let mut random = [0; 48];
    getrandom::fill(&mut random)?;
    let [salt, token] = [0, 8].map(|at| format::u64_at(&random, at));
    let mut unsaved = [0; 32];
    unsaved.copy_from_slice(&random[16..]);
    let (tmp, secret, trouble) = match make(&names, token, None) {
        Ok((tmp, secret)) => (Some(tmp), secret, None),
        Err(trouble) => {
            // What is there can be read with the secret that is there. Without one there is nothing to read.
            let secret = read_secret(&names.root().join("secret"));
            (
                None,
                secret.ok().flatten().unwrap_or(unsaved),
                Some(trouble),
            )
        }
    };
    let cleared = load_cleared(&names);
    Ok(Prepared {
        shards: shards(&names),
        names,
        secret,
        salt,
        token,
        tmp,
        trouble,
        cleared,
    })
}

/// Which shards may have a directory.
fn shards(names: &Names) -> Vec<bool> {
    let mut shards = vec![false; SHARDS];
    let listed = files::open_dir(names.objects()).and_then(|dir| {
        files::list(&dir, |name| {
            let number = name.to_str().ok().filter(|name| name.len() == 3);
            let number = number.and_then(|name| usize::from_str_radix(name, 16).ok());
            if let Some(there) = number.and_then(|number| shards.get_mut(number)) {
                *there = true;
            }
        })
    });
    match listed {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => shards,
        // Who knows.
        Err(_) => vec![true; SHARDS],
    }
}

/// Makes the directories, removes what the dead left, and reads or makes the secret. With `secret`, it has to be that one:
/// things are named by it already.
pub fn make(
    names: &Names,
    token: u64,
    secret: Option<&[u8; 32]>,
) -> Result<(TmpDir, [u8; 32]), OpenError> {
    let root = names.root();
    let fail = |doing, path: &Path, why: Errno| OpenError {
        path: path.to_owned(),
        doing,
        why: why.into(),
        advice: advice(why),
    };
    make_dirs(root).map_err(|why| fail("make the directory", root, why))?;
    let objects = names.objects();
    files::make_dir(&objects).map_err(|why| fail("make the directory", &objects, why))?;
    files::open_dir(&objects).map_err(|why| fail("list", &objects, why))?;
    let all_tmp = root.join("tmp");
    let tmp = TmpDir::make(names, token);
    let tmp = tmp.map_err(|why| fail("make and lock a directory in", &all_tmp, why))?;
    match tmp::remove_leftovers(names) {
        Ok(0) => {}
        Ok(removed) => log::info!(
            "cache on disk at {}: removed {removed} unfinished files of processes that died",
            root.display()
        ),
        // They take space and do no other harm.
        Err(error) => log::warn!(
            "cache on disk at {}: removing unfinished files: {error}",
            root.display()
        ),
    }
    let secret_path = root.join("secret");
    let ours = secret;
    let secret = read_or_make_secret(root, &tmp, ours);
    let secret = secret.map_err(|why| fail("make or read", &secret_path, why))?;
    if ours.is_some_and(|ours| *ours != secret) {
        // Another process was the first to make it.
        return Err(fail("use", &secret_path, Errno::STALE));
    }
    Ok((tmp, secret))
}

fn advice(why: Errno) -> &'static str {
    match why {
        Errno::ACCESS | Errno::PERM => {
            "make it belong to the user that the process runs as, or name another directory"
        }
        Errno::ROFS => "name a directory on a file system that can be written to",
        Errno::NOSPC | Errno::DQUOT => "make room there, or name another directory",
        Errno::NOTDIR | Errno::EXIST => "name a directory, or a path where there is nothing yet",
        Errno::STALE => "start again: another process made it meanwhile",
        Errno::NOLCK | Errno::OPNOTSUPP => "name a directory on a local disk",
        _ => "name another directory, or see to the disk",
    }
}

fn make_dirs(path: &Path) -> Result<(), Errno> {
    match files::make_dir(path) {
        Err(Errno::NOENT) => match path.parent() {
            Some(parent) if parent != Path::new("") => {
                make_dirs(parent)?;
                files::make_dir(path)
            }
            _ => Err(Errno::NOENT),
        },
        // A root that is there already may be a mount point above which nothing can be made.
        Err(error) => match rustix::fs::stat(path) {
            Ok(_) => Ok(()),
            Err(_) => Err(error),
        },
        Ok(()) => Ok(()),
    }
}

/// Reads the secret, or makes it: `ours`, or any.
fn read_or_make_secret(
    root: &Path,
    tmp: &TmpDir,
    ours: Option<&[u8; 32]>,
) -> Result<[u8; 32], Errno> {
    let path = root.join("secret");
    if let Some(secret) = read_secret(&path)? {
        return Ok(secret);
    }
    // One process at a time, so that none goes on with a secret that another replaces.
    let _alone = alone(root)?;
    if let Some(secret) = read_secret(&path)? {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    match ours {
        Some(ours) => secret = *ours,
        None => getrandom::fill(&mut secret).map_err(|_| Errno::NOSYS)?,
    }
    let (new, file) = tmp.create()?;
    files::write_all(&file, &[&secret], 0)?;
    // The one file that nothing can be done without after a crash.
    rustix::fs::fsync(&file)?;
    rustix::fs::rename(new, &path)?;
    Ok(secret)
}

/// Keeps other processes from changing what is not an object, as long as it is held.
pub fn alone(root: &Path) -> Result<OwnedFd, Errno> {
    let dir = files::open_dir(root)?;
    loop {
        match rustix::fs::flock(&dir, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            other => return other.map(|()| dir),
        }
    }
}

/// `None` if it is not there, or cut short by a crash: what was kept under it is then never found again, and makes way.
fn read_secret(path: &Path) -> Result<Option<[u8; 32]>, Errno> {
    let file = match files::open_read(path.as_os_str().as_bytes()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    files::read_up_to(&file, &mut bytes, 64, 0)?;
    Ok(<[u8; 32]>::try_from(bytes).ok())
}

/// Notes up to when everything was removed, in microseconds since the epoch.
pub fn save_cleared(names: &Names, tmp: &TmpDir, until: u64) -> Result<(), Errno> {
    let (new, file) = tmp.create()?;
    files::write_all(&file, &[cleared_line(until).as_bytes()], 0)?;
    rustix::fs::fsync(&file)?;
    rustix::fs::rename(new, names.root().join("cleared"))?;
    files::sync_dir(names.root())
}

fn cleared_line(until: u64) -> String {
    let sum = format::block_sum(0, 0, &until.to_le_bytes());
    format!("{until} {sum:016x}\n")
}

/// Reads it. What cannot be understood counts as of the moment it was written: rather too much is removed than too
/// little.
pub fn load_cleared(names: &Names) -> u64 {
    let path = names.root().join("cleared");
    let Ok(file) = files::open_read(path.as_os_str().as_bytes()) else {
        return 0;
    };
    let mut text = Vec::new();
    let read = files::read_up_to(&file, &mut text, 64, 0);
    let text = String::from_utf8_lossy(&text);
    let until = text.split(' ').next().and_then(|n| n.parse().ok());
    match (read, until) {
        (Ok(()), Some(until)) if text == cleared_line(until) => until,
        _ => {
            let stat = rustix::fs::fstat(&file);
            stat.map_or_else(|_| health::micros(), |stat| files::modified(&stat) + COARSE)
        }
    }
}
