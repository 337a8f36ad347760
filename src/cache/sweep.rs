//! The thread that holds every file against the rules of purges, and takes in the purges of other processes.
//!
//! One for the process: however many purges there are meanwhile, they are seen to together by the next pass.

use super::object::Body;
use super::{Store, codec};
use bytes::Bytes;
use log::{error, warn};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it looks for what other processes purged.
const TICK: Duration = Duration::from_secs(5);
/// The least pause between two passes.
const PAUSE: Duration = Duration::from_secs(1);

/// Wakes the thread.
#[derive(Debug, Default)]
pub struct Sweeper {
    wanted: Mutex<bool>,
    bell: Condvar,
}

impl Sweeper {
    /// Files are to be held against the rules.
    pub fn ring(&self) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    fn wait(&self, most: Duration) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .bell
            .wait_timeout_while(wanted, most, |wanted| !*wanted);
        let (mut wanted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *wanted)
    }
}

/// Starts it.
pub fn start(store: &'static Store) {
    let thread = std::thread::Builder::new().name("cache-purge".to_owned());
    if let Err(e) = thread.spawn(move || run(store)) {
        error!("no thread to remove purged files; they are not given out, but take space: {e}");
    }
}

fn run(store: &'static Store) {
    let mut rest = Instant::now();
    loop {
        let is_wanted = store.sweeper.wait(TICK);
        if store.purges.adopt() {
            store.leave_memory();
        }
        if !is_wanted && store.purges.is_swept() {
            // Those that were swept before may have stayed long enough by now.
            end(store, store.purges.clock().ago(Duration::MAX));
            continue;
        }
        // Half of the time at most: a purge each second must not keep the disk busy.
        std::thread::sleep(rest.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        sweep(store);
        rest = Instant::now() + begun.elapsed().max(PAUSE);
    }
}

/// One pass.
pub(super) fn sweep(store: &'static Store) {
    let Some(disk) = &store.disk else { return };
    let began = store.purges.clock().now();
    disk.each_head(&mut |id, head| {
        let object = codec::decode(head, id, Body::Memory(Bytes::new()));
        object.is_none_or(|object| store.purges.hit(&object))
    });
    end(store, began);
}

fn end(store: &'static Store, began: super::moment::Moment) {
    if store.purges.swept(began)
        && let Err(e) = store.purges.save()
    {
        warn!("the list of purges cannot be written: {e}");
    }
}
