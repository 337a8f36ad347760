//! The disk tier: objects as files, found by numbers, least recently used out first.
//!
//! A library of its own: it knows neither HTTP nor the runtime, decides nothing about freshness and blocks the thread
//! that calls it. The cache's store calls it with ids that it has hashed, heads that it has encoded, and bodies.
//! Whatever is wrong with the disk or with what is on it costs a miss, never a request and never a wrong byte: see
//! `format` for the checksums, `health` for failures, `room` for the limits, `upkeep` for the thread in the background.
//!
//! Several processes may use one directory at the same time, as during an upgrade. Each finds what the other wrote
//! within ten minutes, and each holds the limit by itself.

mod files;
mod format;
mod heads;
mod health;
mod index;
mod kept;
mod place;
mod removal;
mod room;
mod start;
mod stored;
mod tmp;
mod trouble;
mod upkeep;
mod writer;

pub use start::alone;
pub use stored::{Standing, Stored, Version};
pub use trouble::{Corrupt, Off, OpenError};
pub use writer::Writer;

use files::{Names, SHARDS, UNIT};
use format::{MOST_ROOM, Prefix};
use health::{Health, lock};
use index::Table;
use kept::Kept;
use rustix::io::Errno;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;
use stored::Trouble;
use tmp::TmpDir;

/// Under which an object is kept: three hashes of the caller's making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Of the URL. All objects of one are in one directory.
    pub url: u64,
    /// Of what else tells requests apart before an answer is known.
    pub who: u64,
    /// Of what tells the answers to such requests apart.
    pub variant: u64,
}

/// Where and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSettings {
    /// The directory. Made if it is missing; nothing else may be in it.
    pub path: PathBuf,
    /// Most bytes that files and directories take together, each rounded up to 4 KiB. One object takes half of it at most.
    pub max_size: u64,
    /// Bytes that others are left on the file system.
    pub min_free: u64,
}

/// What the tier holds and how it fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskStatus {
    /// Objects that are known.
    pub objects: u64,
    /// Bytes that they take, with those that are being written and the directories.
    pub bytes: u64,
    /// Most that they may take.
    pub max_size: u64,
    /// How much of the directory was looked through since the start, in percent.
    pub indexed: u8,
    /// Objects that had to make way since the start.
    pub evicted: u64,
    /// Files with wrong contents since the start.
    pub corrupt: u64,
    /// Failures of the disk since the start.
    pub errors: u64,
    /// Since when (since the epoch) nothing is written, and why.
    pub off: Option<(Duration, String)>,
}

/// Whether something may still be found, as who wrote it says when it is about to be.
pub type Keep<'a> = &'a dyn Fn() -> bool;

/// Whether the head that is there may be replaced.
pub type MayGo<'a> = &'a dyn Fn(&[u8]) -> bool;

/// What became of a head's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Updated {
    /// It was changed.
    Yes,
    /// It was not, and the file is as it was, or gone.
    No,
    /// There is no file, or it is another version's.
    Other,
}

/// Who hears of objects.
struct Heard(Box<dyn Fn(Id) + Send + Sync>);

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heard")
    }
}

/// The tier.
#[derive(Debug)]
pub struct Disk {
    me: Weak<Disk>,
    names: Names,
    secret: [u8; 32],
    max_units: i64,
    max_size: u64,
    min_free: u64,
    shards: Box<[Shard]>,
    /// When the oldest object of each shard was last used: all in one place, as all of it is read to find the oldest.
    oldest: Box<[AtomicU64]>,
    counts: Counts,
    health: Health,
    /// Where files are written; not there as long as the directory cannot be used.
    tmp: OnceLock<TmpDir>,
    /// Held while it is made.
    making: Mutex<()>,
    /// For its name.
    token: u64,
    salt: u64,
    last_stamp: AtomicU64,
    /// Objects that were begun up to this moment are gone, in microseconds since the epoch.
    cleared: AtomicU64,
    /// Up to which moment their files are gone too.
    swept: AtomicU64,
    /// Files whose modification time is to be set.
    touched: Mutex<Vec<Id>>,
    /// Small files that are to be closed.
    closing: Mutex<Vec<kept::Open>>,
    /// When those that are not used last were; see [`stored::uptime`].
    closed: AtomicU64,
    upkeep: upkeep::Bell,
    upkeep_started: AtomicBool,
    /// Hears of each object whose file lost its name.
    removed: OnceLock<Heard>,
    #[cfg(test)]
    faults: tests::Faults,
}

/// A directory of objects.
#[derive(Debug, Default)]
struct Shard {
    /// Held while a listing is made and taken in.
    listing: Mutex<()>,
    /// Held while names are given and taken away, and heads changed.
    files: Mutex<()>,
    /// Held briefly, never during I/O.
    table: Mutex<Table>,
    kept: Kept,
}

/// Sums over all shards, and what happened.
#[derive(Debug, Default)]
struct Counts {
    objects: AtomicI64,
    /// Units of the objects.
    units: AtomicI64,
    /// Units of what is being written.
    writing: AtomicI64,
    /// Units of the directories of objects.
    dirs: AtomicI64,
    /// Units of all else.
    base: AtomicI64,
    /// Units by which we made the directory grow since the start.
    growth: AtomicI64,
    /// Shards that were not looked through yet.
    unindexed: AtomicUsize,
    evicted: AtomicU64,
}

impl Disk {
    /// Opens the directory and makes what is missing. Starts nothing and looks at no object. Where it cannot be made or
    /// written to, what is there can be read all the same, and with each writing it is tried again.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn open(
        settings: DiskSettings,
    ) -> Result<(Arc<Self>, Option<OpenError>), getrandom::Error> {
        let mut opened = start::prepare(&settings)?;
        let max_units = i64::try_from(settings.max_size / UNIT).unwrap_or(i64::MAX);
        let trouble = opened.trouble.take();
        let disk = Arc::new_cyclic(|me| {
            let shards: Box<[Shard]> = (0..SHARDS).map(|_| Shard::default()).collect();
            let mut unindexed = SHARDS;
            for (shard, there) in shards.iter().zip(&opened.shards) {
                // Nothing is in a directory that is not there.
                if !there {
                    lock(&shard.table).indexed = true;
                    unindexed -= 1;
                }
            }
            Disk {
                me: me.clone(),
                names: opened.names,
                secret: opened.secret,
                max_units,
                max_size: settings.max_size,
                min_free: settings.min_free,
                shards,
                oldest: (0..SHARDS).map(|_| AtomicU64::new(u64::MAX)).collect(),
                counts: Counts {
                    unindexed: AtomicUsize::new(unindexed),
                    ..Counts::default()
                },
                health: Health::new(),
                tmp: opened.tmp.map_or_else(OnceLock::new, OnceLock::from),
                making: Mutex::default(),
                token: opened.token,
                salt: opened.salt,
                last_stamp: AtomicU64::new(0),
                cleared: AtomicU64::new(opened.cleared),
                swept: AtomicU64::new(0),
                touched: Mutex::default(),
                closing: Mutex::default(),
                closed: AtomicU64::new(0),
                upkeep: upkeep::Bell::default(),
                upkeep_started: AtomicBool::new(false),
                removed: OnceLock::new(),
                #[cfg(test)]
                faults: tests::Faults::default(),
            }
        });
        disk.measure_base();
        if let Some(trouble) = &trouble {
            disk.health.switch_off(trouble.to_string());
        }
        Ok((disk, trouble))
    }

    /// Tells of each object whose file was replaced or removed from now on: who has it open would hold its room. Called with
    /// a lock held; must not call back.
    pub fn tell_of_removals(&self, hear: impl Fn(Id) + Send + Sync + 'static) {
        // Said once; who says it again is not heard.
        let _ = self.removed.set(Heard(Box::new(hear)));
    }

    fn lost_its_file(&self, id: Id) {
        self.close_kept(id);
        if let Some(Heard(hear)) = self.removed.get() {
            hear(id);
        }
    }

    /// Random bytes that stay with the directory: ids that are hashed with them mean something in a later process too.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The ids of all objects of a URL and a `who`, the last used first. Lists the directory if that was not done yet.
    pub fn candidates(&self, url: u64, who: u64) -> Vec<Id> {
        if let Some(ids) = self.try_candidates(url, who) {
            return ids;
        }
        self.index_shard(files::shard_of(url), false);
        self.try_candidates(url, who).unwrap_or_default()
    }

    /// The same without I/O: `None` if the directory was not listed yet.
    pub fn try_candidates(&self, url: u64, who: u64) -> Option<Vec<Id>> {
        let table = lock(&self.shard(url).table);
        if !table.indexed {
            return None;
        }
        let nodes = table.candidates(url, who);
        drop(table);
        let cleared = self.cleared.load(Ordering::Relaxed);
        // Some may be left in which the times in the file system are less exact than ours; opening tells.
        let stays = nodes
            .iter()
            .filter(|node| node.used.saturating_add(start::COARSE) > cleared);
        Some(stays.map(|node| node.id).collect())
    }

    /// Opens an object and gives its head, both checked. `None` if it is not there, or is wrong and therefore removed.
    pub fn open_object(&self, id: Id) -> Option<(Arc<Stored>, Vec<u8>)> {
        let path = self.names.object(id);
        let mut opened = self.open_path(&path, id);
        if matches!(opened, Err(Trouble::Corrupt(_))) {
            let _files = lock(&self.shard(id.url).files);
            // A head that was changed while we read it is whole now.
            opened = self.open_path(&path, id);
            if let Err(Trouble::Corrupt(corrupt)) = opened {
                self.remove_damaged(id, corrupt);
                return None;
            }
        }
        match opened {
            Ok(opened) => self.unless_cleared(id, opened),
            Err(Trouble::Io(Errno::NOENT)) => {
                self.forget_if_gone(id);
                None
            }
            Err(Trouble::Io(error)) => {
                self.read_failed(error);
                None
            }
            Err(Trouble::Corrupt(_) | Trouble::WouldBlock) => None,
        }
    }

    /// The same without waiting for the disk: `None` says that only [`Disk::open_object`] can tell, now and then for no
    /// reason that is visible.
    pub fn try_open_object(&self, id: Id) -> Option<(Arc<Stored>, Vec<u8>)> {
        let kept = self.kept(id);
        let is_kept = kept.is_some();
        let file = match kept {
            Some(file) => file,
            None => Arc::new(files::open_cached(&self.names.object(id)).ok()?),
        };
        let (stored, head) = Stored::open(file, id, self.me.clone(), false).ok()?;
        if stored.stamp() <= self.cleared.load(Ordering::Relaxed) {
            // Removing it may wait.
            return None;
        }
        if !is_kept && stored.is_at_hand() {
            self.keep_open(id, stored.shared_file());
        }
        Some((Arc::new(stored), head))
    }

    /// Begins to write an object; `head_room` is how long its head is thought to become. It is found once it is
    /// finished.
    ///
    /// # Errors
    /// When nothing can be written at this time.
    pub fn create(self: &Arc<Self>, id: Id, head_room: usize) -> Result<Writer, Off> {
        if self.health.is_off() {
            return Err(Off::Failed);
        }
        self.check_space()?;
        let prefix = Prefix {
            id,
            stamp: self.stamp(),
            salt: self.salt,
            room: head_room.min(MOST_ROOM),
            body_len: 0,
        };
        Writer::begin(self.clone(), prefix)
    }

    /// Gives an object another head. `copy` is what [`Stored::copy`] said of the file that the head belongs to: in any
    /// other, nothing is done. `keep` sees the head that is there and says whether it may be replaced, under the lock that
    /// removals take.
    pub fn update_head(&self, id: Id, copy: u64, head: &[u8], keep: MayGo<'_>) -> Updated {
        if self.health.is_off() || head.len() > MOST_ROOM {
            return Updated::No;
        }
        match self.write_head(id, copy, head, keep) {
            Ok(done) => done,
            Err(Trouble::Corrupt(_)) => {
                // Looked at once more, and removed if it is wrong.
                let _ = self.open_object(id);
                Updated::Other
            }
            Err(Trouble::Io(error)) => {
                self.write_failed("changing a head", error);
                Updated::No
            }
            Err(Trouble::WouldBlock) => Updated::No,
        }
    }

    /// Notes that an object was used. No I/O: that it was is written to the file later, and not each time.
    pub fn used(&self, id: Id) {
        let now = health::micros();
        let before = self.table(id.url).touch(id, now);
        // Once in each of these periods, the first time.
        let period = |micros: u64| micros / upkeep::SAVE_USE;
        if before.is_some_and(|before| period(before) < period(now)) {
            self.note_touched(id);
        }
    }

    /// When an object was last used before it was found now, in microseconds since the epoch.
    pub fn last_used(&self, id: Id) -> Option<u64> {
        self.table(id.url).get(id).map(|node| node.used)
    }

    /// What the tier holds and how it fares.
    pub fn status(&self) -> DiskStatus {
        let counts = &self.counts;
        let unindexed = counts.unindexed.load(Ordering::Relaxed);
        let indexed = (SHARDS - unindexed) * 100 / SHARDS;
        DiskStatus {
            objects: u64::try_from(counts.objects.load(Ordering::Relaxed)).unwrap_or(0),
            bytes: u64::try_from(self.taken())
                .unwrap_or(0)
                .saturating_mul(UNIT),
            max_size: self.max_size,
            indexed: u8::try_from(indexed).unwrap_or(100),
            evicted: counts.evicted.load(Ordering::Relaxed),
            corrupt: self.health.corrupt.load(Ordering::Relaxed),
            errors: self.health.errors.load(Ordering::Relaxed),
            off: self.health.off(),
        }
    }

    fn shard(&self, url: u64) -> &Shard {
        &self.shards[files::shard_of(url)]
    }

    /// A table under its lock, which tells `oldest` of what was changed.
    fn table(&self, url: u64) -> TableGuard<'_> {
        self.table_of(files::shard_of(url))
    }

    fn table_of(&self, shard: usize) -> TableGuard<'_> {
        TableGuard {
            table: lock(&self.shards[shard].table),
            oldest: &self.oldest[shard],
        }
    }

    /// The time, later than any time that this gave before and than the last removal of everything.
    fn stamp(&self) -> u64 {
        let floor = self.cleared.load(Ordering::Relaxed);
        let now = health::micros().max(floor.saturating_add(1));
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let order = Ordering::Relaxed;
        let last = self.last_stamp.fetch_update(order, order, next);
        let last = last.unwrap_or_else(|last| last);
        now.max(last.saturating_add(1))
    }

    fn open_path(&self, path: &[u8], id: Id) -> Result<(Stored, Vec<u8>), Trouble> {
        let file = Arc::new(files::open_read(path)?);
        Stored::open(file, id, self.me.clone(), true)
    }

    fn unless_cleared(&self, id: Id, opened: (Stored, Vec<u8>)) -> Option<(Arc<Stored>, Vec<u8>)> {
        let (stored, head) = opened;
        if stored.stamp() <= self.cleared.load(Ordering::Relaxed) {
            self.remove_if_same(id, stored.file());
            return None;
        }
        Some((Arc::new(stored), head))
    }
}

/// A shard's table under its lock.
struct TableGuard<'a> {
    table: MutexGuard<'a, Table>,
    oldest: &'a AtomicU64,
}

impl Deref for TableGuard<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

impl DerefMut for TableGuard<'_> {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.table
    }
}

impl Drop for TableGuard<'_> {
    fn drop(&mut self) {
        let oldest = self.table.oldest_use();
        self.oldest.store(oldest, Ordering::Relaxed);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.upkeep.stop();
        self.save_uses();
    }
}

#[cfg(test)]
mod tests;
