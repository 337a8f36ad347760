//! What each worker counts for itself, and who looks adds up.
//!
//! A count that all workers write goes from one processor's cache to the other's with each request, and its lock with it.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// How many parts there are; workers beyond share them.
const PARTS: usize = 8;

thread_local! {
    /// Which of them this thread counts in: one that is no worker's in the first.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// This thread is a worker's: it counts apart from the others.
pub fn belong_to(worker: usize) {
    OWN.set(worker % PARTS);
}

/// A count in parts. One that nothing was counted in takes no room.
#[derive(Debug)]
pub struct Parts<T>([OnceLock<Box<Mutex<T>>>; PARTS]);

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Parts(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl<T: Default> Parts<T> {
    /// That of this thread.
    pub fn own(&self) -> MutexGuard<'_, T> {
        let Parts(parts) = self;
        // Always one of them.
        let part = &parts[OWN.get() % PARTS];
        locked(part.get_or_init(Box::default))
    }

    /// All in which there may be something, one after the other.
    pub fn all(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        let Parts(parts) = self;
        parts
            .iter()
            .filter_map(OnceLock::get)
            .map(|part| locked(part))
    }
}

fn locked<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn each_thread_counts_in_its_part_and_nothing_is_lost() {
        let parts = Parts::<Vec<usize>>::default();
        assert_eq!(parts.all().count(), 0);
        thread::scope(|scope| {
            for worker in 0..2 * PARTS {
                let parts = &parts;
                scope.spawn(move || {
                    belong_to(worker);
                    (0..100).for_each(|_| parts.own().push(worker % PARTS));
                });
            }
        });
        let all: Vec<_> = parts.all().map(|part| part.clone()).collect();
        assert_eq!(
            all,
            (0..PARTS).map(|part| vec![part; 200]).collect::<Vec<_>>()
        );
    }
}
