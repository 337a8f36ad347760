//! What one thread does in the background: finding the objects, keeping to the limits, removing what was purged, noting
//! what was used.

use super::files::{self, SHARDS};
use super::health::{self, lock};
use super::{Disk, Id, start, stored};
use rustix::io::Errno;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often it is noted in an object's file that it was used, in microseconds.
pub const SAVE_USE: u64 = 600_000_000;
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
        if is_first {
            // Before it counts as known: what the directory takes did not grow now.
            drop(table);
            self.measure(number);
            table = self.table_of(number);
        }
        let change = table.merge(found, is_whole, health::micros());
        let surplus = table.all_surplus();
        drop(table);
        self.count(change);
        if is_first {
            self.counts.unindexed.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.measure(number);
        }
        let _files = lock(&shard.files);
        for id in surplus {
            self.keep_to_variants(id);
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
        self.measure_base();
        self.save_uses();
        self.close_unused(stored::uptime());
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
            let surely = cleared.saturating_sub(start::COARSE);
            let ids = lock(&shard.table).ids(|node| node.used <= surely);
            for id in ids {
                self.remove_unless_used(id, surely);
            }
            // Where times in the file system do not tell, the files do.
            let ids =
                lock(&shard.table).ids(|node| node.used <= cleared.saturating_add(start::COARSE));
            for id in ids {
                self.show_head(id, cleared, &mut |_, _| true);
            }
        }
        self.swept.fetch_max(cleared, Ordering::Relaxed);
    }
}

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

/// Compares the directory with the index, holding on to the disk for one shard at a time. Says whether it is still
/// there.
fn pass(disk: &Weak<Disk>, is_first: bool) -> bool {
    for number in 0..SHARDS {
        let Some(disk) = disk.upgrade() else {
            return false;
        };
        disk.index_shard(number, !is_first);
        while disk.is_over() && disk.evict().is_some() {}
        disk.close_unused(stored::uptime());
        drop(disk);
        if !is_first {
            std::thread::sleep(BREATH);
        }
    }
    if let Some(disk) = disk.upgrade() {
        // Another process may have removed everything.
        let cleared = start::load_cleared(&disk.names);
        disk.cleared.fetch_max(cleared, Ordering::Relaxed);
    }
    true
}
