//! What is done once at the start, and what one thread does in the background: finding the objects, keeping to the limits,
//! removing what was purged, noting what was used.

use super::files::{self, Names, SHARDS};
use super::health::{self, lock};
use super::tmp::{self, TmpDir};
use super::{Disk, DiskSettings, OpenError};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How much the times in a file system may be behind our clock, in microseconds.
pub const COARSE: u64 = 2_000_000;
/// After how many seconds an object's use is noted in its file again.
pub const SAVE_USE: u32 = 600;
/// How often the directory is compared with the index.
const PASS: Duration = Duration::from_secs(600);
/// How often all else is seen to.
const TICK: Duration = Duration::from_secs(5);
/// Between two shards of a later pass: nobody waits for it.
const BREATH: Duration = Duration::from_millis(2);
/// Uses that wait to be noted; beyond it they are not.
const MOST_TOUCHED: usize = 1 << 16;

/// Wakes the thread.
#[derive(Debug, Default, Clone)]
pub struct Bell(Arc<(Mutex<Rung>, Condvar)>);

#[derive(Debug, Default)]
struct Rung {
    now: bool,
    stop: bool,
}

impl Bell {
    /// There is something to do.
    pub fn ring(&self) {
        lock(&self.0.0).now = true;
        self.0.1.notify_all();
    }

    /// There is nothing to do any more.
    pub fn stop(&self) {
        lock(&self.0.0).stop = true;
        self.0.1.notify_all();
    }

    /// Waits. Says whether to go on.
    fn wait(&self, most: Duration) -> bool {
        let rung = lock(&self.0.0);
        let waiting = |rung: &mut Rung| !rung.now && !rung.stop;
        let waited = self.0.1.wait_timeout_while(rung, most, waiting);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        rung.now = false;
        !rung.stop
    }
}

/// What is known once the directory is there.
pub struct Prepared {
    pub names: Names,
    pub secret: [u8; 32],
    pub salt: u64,
    pub tmp: TmpDir,
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
    let [salt, token] = [0, 8].map(|at| super::format::u64_at(&salt, at));
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
    use std::os::unix::ffi::OsStrExt;
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
    let sum = super::format::block_sum(0, 0, &until.to_le_bytes());
    format!("{until} {sum:016x}\n")
}

/// Reads it. What cannot be understood counts as of the moment it was written: rather too much is removed than too little.
pub fn load_cleared(names: &Names) -> u64 {
    use std::os::unix::ffi::OsStrExt;
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

impl Disk {
    /// Starts the thread that finds the objects, keeps to the limits and tidies up. It ends with the disk.
    pub fn start_indexing(self: &Arc<Self>) {
        if self.upkeep_started.swap(true, Ordering::Relaxed) {
            return;
        }
        let (disk, bell) = (Arc::downgrade(self), self.upkeep.clone());
        let thread = std::thread::Builder::new().name("cache-disk".to_owned());
        if let Err(error) = thread.spawn(move || run(&disk, &bell)) {
            self.upkeep_started.store(false, Ordering::Relaxed);
            let root = self.names.root().display();
            log::error!("cache on disk at {root}: no thread to look after it: {error}");
        }
    }

    /// Looks through a shard's directory: always, or only if that was not done before.
    pub(super) fn index_shard(&self, number: usize, again: bool) {
        let Some(shard) = self.shards.get(number) else {
            return;
        };
        let is_done = || lock(&shard.table).indexed && !again;
        if is_done() {
            return;
        }
        let _listing = lock(&shard.listing);
        if is_done() {
            return;
        }
        lock(&shard.table).begin_listing();
        let listed = files::list_shard(&self.names.shard(number), number);
        let is_whole = listed.is_ok();
        let found = listed.unwrap_or_else(|error| {
            self.upkeep_failed("listing objects", error);
            Vec::new()
        });
        let mut table = self.table_of(number);
        let is_first = !table.indexed;
        let change = table.merge(found, is_whole, health::micros());
        drop(table);
        self.count(change);
        if is_first {
            self.counts.unindexed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Notes that an object's use is to be written to its file.
    pub(super) fn note_touched(&self, id: Id) {
        let mut touched = lock(&self.touched);
        if touched.len() < MOST_TOUCHED {
            touched.push(id);
        }
    }

    /// Writes to the files which objects were used.
    pub(super) fn save_uses(&self) {
        let touched = std::mem::take(&mut *lock(&self.touched));
        for id in touched {
            let Some(node) = lock(&self.shard(id.url).table).get(id) else {
                continue;
            };
            match files::set_modified(&self.names.object(id), node.used) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => self.upkeep_failed("noting that an object was used", error),
            }
        }
    }

    /// All that is to be done every few seconds.
    pub(super) fn tend(&self) {
        self.save_uses();
        self.sweep();
        while self.is_over() && self.evict().is_some() {}
        self.make_space(usize::MAX);
    }

    /// Removes the files of what was removed with everything else.
    fn sweep(&self) {
        let cleared = self.cleared.load(Ordering::Relaxed);
        if self.swept.load(Ordering::Relaxed) >= cleared {
            return;
        }
        for number in 0..SHARDS {
            self.index_shard(number, false);
            let Some(shard) = self.shards.get(number) else {
                continue;
            };
            let surely = cleared.saturating_sub(COARSE);
            let ids = lock(&shard.table).ids(|node| node.used <= surely);
            for id in ids {
                self.remove(id);
            }
            // Where times in the file system do not tell, the files do.
            let ids = lock(&shard.table).ids(|node| node.used <= cleared.saturating_add(COARSE));
            for id in ids {
                self.show_head(id, cleared, &mut |_, _| true);
            }
        }
        self.swept.fetch_max(cleared, Ordering::Relaxed);
    }
}

use super::Id;

/// The thread.
fn run(disk: &Weak<Disk>, bell: &Bell) {
    let mut is_first = true;
    let mut next_pass = Instant::now();
    loop {
        if Instant::now() >= next_pass {
            if !pass(disk, is_first) {
                return;
            }
            is_first = false;
            next_pass = Instant::now() + PASS;
        }
        match disk.upgrade() {
            Some(disk) => disk.tend(),
            None => return,
        }
        if !bell.wait(TICK) {
            return;
        }
    }
}

/// Compares the directory with the index, holding on to the disk for one shard at a time. Says whether it is still there.
fn pass(disk: &Weak<Disk>, is_first: bool) -> bool {
    for number in 0..SHARDS {
        let Some(disk) = disk.upgrade() else {
            return false;
        };
        disk.index_shard(number, !is_first);
        while disk.is_over() && disk.evict().is_some() {}
        drop(disk);
        if !is_first {
            std::thread::sleep(BREATH);
        }
    }
    if let Some(disk) = disk.upgrade() {
        // Another process may have removed everything.
        let cleared = load_cleared(&disk.names);
        disk.cleared.fetch_max(cleared, Ordering::Relaxed);
    }
    true
}
