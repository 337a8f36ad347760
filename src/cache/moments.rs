//! When purges were, for those who were reading or asking meanwhile: what was read from a file before a purge may not be put
//! into memory after it, nor what was asked of the origin before.
//!
//! Kept by groups of URLs, so that one that changes often does not keep others from being read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const GROUPS: usize = 256;

/// The purges of this process.
pub struct Moments([Moment; GROUPS]);

#[derive(Default)]
struct Moment {
    count: AtomicU64,
    /// When the last one was, in microseconds since the epoch.
    last: AtomicU64,
}

impl Default for Moments {
    fn default() -> Self {
        Moments(std::array::from_fn(|_| Moment::default()))
    }
}

impl Moments {
    fn of(&self, url: &[u8; 16]) -> &Moment {
        // Other bytes choose the maps of memory and the directories of files.
        &self.0[usize::from(url[15]) % GROUPS]
    }

    /// How many there were that may have been of this URL.
    pub fn count(&self, url: &[u8; 16]) -> u64 {
        self.of(url).count.load(Ordering::Acquire)
    }

    /// When the last of them was, since the epoch.
    pub fn last(&self, url: &[u8; 16]) -> Duration {
        Duration::from_micros(self.of(url).last.load(Ordering::Acquire))
    }

    /// There is one now, of a URL or of anything.
    pub fn note(&self, url: Option<&[u8; 16]>, now: Duration) {
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let note = |moment: &Moment| {
            // Rounded up: what came in the same microsecond came before.
            let order = Ordering::AcqRel;
            moment.last.fetch_max(micros.saturating_add(1), order);
            moment.count.fetch_add(1, order);
        };
        match url {
            Some(url) => note(self.of(url)),
            None => self.0.iter().for_each(note),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_counts_for_its_url_and_one_of_anything_for_all() {
        let moments = Moments::default();
        let (one, other) = ([1; 16], [2; 16]);
        let at = Duration::from_micros;
        moments.note(Some(&one), at(5));
        assert_eq!((moments.count(&one), moments.last(&one)), (1, at(6)));
        assert_eq!((moments.count(&other), moments.last(&other)), (0, at(0)));
        moments.note(None, at(9));
        assert_eq!((moments.count(&one), moments.last(&one)), (2, at(10)));
        assert_eq!((moments.count(&other), moments.last(&other)), (1, at(10)));
        // A clock that was set back undoes nothing.
        moments.note(None, at(3));
        assert_eq!(moments.last(&other), at(10));
    }
}
