//! The line of those who wait because every backend of an upstream is busy with `max_conns` tries.
//!
//! Called by `proxy::entry`. Who comes first is as in `policy::admission`: by priority, and among equals who waits longest. Only
//! the first one looks for a backend, so that nobody overtakes it; whoever leaves calls the next. Outlives a reload, with
//! everybody in it.

use crate::policy::admission::Priority;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How often the first one looks without being called: a backend can also come back, be resumed, or be due for a trial.
const LOOK: Duration = Duration::from_millis(50);

/// Those who wait. Costs nothing but a look at a number while nobody does.
#[derive(Debug, Default)]
pub struct Line {
    waiting: Mutex<Waiting>,
    length: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    by_turn: BTreeMap<Turn, Arc<Notify>>,
    next: u64,
}

/// The order of the fields is the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    priority: Priority,
    number: u64,
}

/// A place in the line, until dropped.
#[derive(Debug)]
pub struct InLine {
    line: Arc<Line>,
    turn: Turn,
    called: Arc<Notify>,
}

impl Line {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.length.load(Ordering::SeqCst) == 0
    }

    /// Whether one of this priority who comes now need not stand in line.
    pub fn lets_by(&self, priority: Priority) -> bool {
        self.is_empty() || {
            let waiting = self.lock();
            let first = waiting.by_turn.first_key_value();
            first.is_none_or(|(turn, _)| priority < turn.priority)
        }
    }

    /// Stands in line.
    pub fn join(self: &Arc<Self>, priority: Priority) -> InLine {
        let called = Arc::new(Notify::new());
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        let turn = Turn { priority, number };
        waiting.by_turn.insert(turn, called.clone());
        self.length.store(waiting.by_turn.len(), Ordering::SeqCst);
        drop(waiting);
        InLine {
            line: self.clone(),
            turn,
            called,
        }
    }

    /// Something may have become free: the first one looks.
    pub fn call(&self) {
        if !self.is_empty()
            && let Some((_, first)) = self.lock().by_turn.first_key_value()
        {
            first.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InLine {
    /// Whether it is the first.
    pub fn is_first(&self) -> bool {
        let waiting = self.line.lock();
        waiting.by_turn.keys().next() == Some(&self.turn)
    }

    /// Ends when it should look again.
    pub async fn called(&self) {
        let _ = tokio::time::timeout(LOOK, self.called.notified()).await;
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let mut waiting = self.line.lock();
        waiting.by_turn.remove(&self.turn);
        self.line
            .length
            .store(waiting.by_turn.len(), Ordering::SeqCst);
        drop(waiting);
        self.line.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use proptest::prelude::*;

    #[test]
    fn the_first_by_priority_and_arrival_is_called_and_calls_the_next() {
        let line = Arc::<Line>::default();
        assert!(line.is_empty() && line.lets_by(Priority::Low));
        let low = line.join(Priority::Low);
        let normal = line.join(Priority::Normal);
        let later = line.join(Priority::Normal);
        assert!(!line.lets_by(Priority::Normal) && line.lets_by(Priority::High));
        assert!(normal.is_first());
        let is_called = |one: &InLine| one.called.notified().now_or_never().is_some();
        line.call();
        assert!(is_called(&normal) && !is_called(&later) && !is_called(&low));
        drop(normal);
        assert!(later.is_first() && is_called(&later));
        // Who goes from the middle leaves the others as they are.
        drop(low);
        assert!(later.is_first());
        drop(later);
        assert!(line.lets_by(Priority::Low));
    }

    proptest! {
        /// Whoever comes, and whoever goes: it is the same one's turn, and whoever has it from now on hears of it.
        #[test]
        fn the_turn_is_that_of_the_highest_priority_and_longest_wait(
            steps in prop::collection::vec((any::<bool>(), 0..3usize, any::<prop::sample::Index>()), 1..60),
        ) {
            let priorities = [Priority::High, Priority::Normal, Priority::Low];
            let line = Arc::<Line>::default();
            // As they came.
            let mut waiting: Vec<(usize, InLine)> = Vec::new();
            for (comes, priority, which) in steps {
                if comes || waiting.is_empty() {
                    let lets_by = waiting.iter().all(|(other, _)| priority < *other);
                    prop_assert_eq!(line.lets_by(priorities[priority]), lets_by);
                    waiting.push((priority, line.join(priorities[priority])));
                } else {
                    let (_, gone) = waiting.remove(which.index(waiting.len()));
                    let was_first = gone.is_first();
                    drop(gone);
                    let first = waiting.iter().find(|(_, one)| one.is_first());
                    if let (true, Some((_, next))) = (was_first, first) {
                        prop_assert!(next.called.notified().now_or_never().is_some());
                    }
                }
                let firsts: Vec<usize> = (0..waiting.len()).filter(|i| waiting[*i].1.is_first()).collect();
                // The first of equals is the one that came first.
                let expected = (0..waiting.len()).min_by_key(|i| waiting[*i].0);
                prop_assert_eq!(firsts, Vec::from_iter(expected));
            }
        }
    }
}
