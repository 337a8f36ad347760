//! When something was asked for: what purges are compared with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment of one process's clock, in microseconds since the epoch. No two are the same, and none is before one that was
/// given out earlier, whatever happens to the system's clock: so they tell what came first. Written down, they mean
/// something to a later process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub(super) u64);

/// Gives them out.
#[derive(Debug, Default)]
pub struct Clock {
    last: AtomicU64,
}

impl Clock {
    /// A clock that is past this moment.
    pub fn after(moment: Moment) -> Self {
        Clock {
            last: AtomicU64::new(moment.0),
        }
    }

    /// The next moment.
    pub fn now(&self) -> Moment {
        let now = system();
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let order = Ordering::SeqCst;
        let last = self.last.fetch_update(order, order, next);
        let last = last.unwrap_or_else(|last| last);
        Moment(now.max(last.saturating_add(1)))
    }

    /// A moment so long ago.
    pub fn ago(&self, elapsed: Duration) -> Moment {
        let elapsed = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        Moment(self.now().0.saturating_sub(elapsed))
    }

    /// From now on all moments are later than this one, which another process's clock gave.
    pub fn pass(&self, moment: Moment) {
        self.last.fetch_max(moment.0, Ordering::SeqCst);
    }
}

impl Moment {
    /// How long it is since the epoch.
    pub fn since_epoch(self) -> Duration {
        Duration::from_micros(self.0)
    }

    /// So much later.
    pub fn plus(self, later: Duration) -> Moment {
        let later = u64::try_from(later.as_micros()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(later))
    }
}

fn system() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_only_become_later() {
        let clock = Clock::default();
        let first = clock.now();
        let second = clock.now();
        assert!(second > first);
        assert!(clock.ago(Duration::from_secs(5)) < first);
        // As if the system's clock had been set back.
        let ahead = second.plus(Duration::from_secs(3600));
        clock.pass(ahead);
        assert_eq!(clock.now(), Moment(ahead.0 + 1));
        assert_eq!(Clock::after(ahead).now(), Moment(ahead.0 + 1));
    }
}
