//! What is done once, when a directory is opened: making what is missing, removing what the dead left, reading what is
//! not an object.

use super::files::{self, Names, SHARDS};
use super::tmp::{self, TmpDir};
use super::{DiskSettings, OpenError, format, health};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How much the times in a file system may be behind our clock, in microseconds.
pub const COARSE: u64 = 2_000_000;

/// What is known once the directory is there.
pub struct Prepared {
    /// Its names.
    pub names: Names,
    /// Its secret.
    pub secret: [u8; 32],
    /// What no other writer has.
    pub salt: u64,
    /// Where this one writes.
    pub tmp: TmpDir,
    /// Up to when everything was removed, in microseconds since the epoch.
    pub cleared: u64,
    /// Which shards have a directory.
    pub shards: Vec<bool>,
}

/// Makes what is missing and reads what is not an object.
pub fn prepare(settings: &DiskSettings) -> Result<Prepared, OpenError> {
    let names = Names::new(settings.path.clone());
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
    let mut salt = [0; 16];
    let random = getrandom::fill(&mut salt).map_err(|_| Errno::NOSYS);
    random.map_err(|why| fail("get random bytes for", root, why))?;
    let [salt, token] = [0, 8].map(|at| format::u64_at(&salt, at));
    let all_tmp = root.join("tmp");
    let tmp = TmpDir::make(&names, token);
    let tmp = tmp.map_err(|why| fail("make and lock a directory in", &all_tmp, why))?;
    match tmp::remove_leftovers(&names) {
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
    let secret = secret(root, &tmp).map_err(|why| fail("make or read", &secret_path, why))?;
    let cleared = load_cleared(&names);
    let mut shards = vec![false; SHARDS];
    let listed = files::open_dir(&objects).and_then(|dir| {
        files::list(&dir, |name| {
            let number = name.to_str().ok().filter(|name| name.len() == 3);
            let number = number.and_then(|name| usize::from_str_radix(name, 16).ok());
            if let Some(there) = number.and_then(|number| shards.get_mut(number)) {
                *there = true;
            }
        })
    });
    listed.map_err(|why| fail("list", &objects, why))?;
    Ok(Prepared {
        names,
        secret,
        salt,
        tmp,
        cleared,
        shards,
    })
}

fn advice(why: Errno) -> &'static str {
    match why {
        Errno::ACCESS | Errno::PERM => {
            "make it belong to the user that the process runs as, or name another directory"
        }
        Errno::ROFS => "name a directory on a file system that can be written to",
        Errno::NOSPC | Errno::DQUOT => "make room there, or name another directory",
        Errno::NOTDIR | Errno::EXIST => "name a directory, or a path where there is nothing yet",
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

/// Reads the secret, or makes it.
fn secret(root: &Path, tmp: &TmpDir) -> Result<[u8; 32], Errno> {
    let path = root.join("secret");
    if let Some(secret) = read_secret(&path)? {
        return Ok(secret);
    }
    // One process at a time, so that none goes on with a secret that another replaces.
    let dir = files::open_dir(root)?;
    loop {
        match rustix::fs::flock(&dir, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    }
    if let Some(secret) = read_secret(&path)? {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|_| Errno::NOSYS)?;
    let (new, file) = tmp.create()?;
    files::write_all(&file, &[&secret], 0)?;
    // The one file that nothing can be done without after a crash.
    rustix::fs::fsync(&file)?;
    rustix::fs::rename(new, &path)?;
    Ok(secret)
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
    rustix::fs::rename(new, names.root().join("cleared"))
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
