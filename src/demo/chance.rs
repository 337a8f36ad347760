//! Which requests of the demo fail, and how.
//!
//! Asked by a demo backend once per request. Decides by dice alone; it knows nothing of the request or the connection.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a request of the demo fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// 500 Internal Server Error.
    Status500,
    /// 502 Bad Gateway.
    Status502,
    /// The connection is reset where the answer should be.
    Reset,
}

/// The dice of one backend.
#[derive(Debug)]
pub(super) struct Chance {
    share: f64,
    state: AtomicU64,
}

/// A new seed for each call.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one("demo")
}

impl Chance {
    /// `share` of all requests fail: none at 0.0, all at 1.0.
    pub(super) fn new(share: f64, seed: u64) -> Self {
        Chance {
            share,
            state: AtomicU64::new(seed),
        }
    }

    /// Throws the dice for one request.
    pub(super) fn fault(&self) -> Option<Fault> {
        // 53 bits are what a double holds exactly, so that 1.0 itself is never drawn.
        let drawn = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        if drawn >= self.share {
            return None;
        }
        Some(match self.next() % 3 {
            0 => Fault::Status500,
            1 => Fault::Status502,
            _ => Fault::Reset,
        })
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014): a counter, well mixed, and so free of locks.
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.state.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 30,000 requests: unharmed, 500, 502, reset.
    fn thrown(share: f64) -> [u32; 4] {
        let chance = Chance::new(share, 7);
        let mut seen = [0; 4];
        for _ in 0..30_000 {
            seen[match chance.fault() {
                None => 0,
                Some(Fault::Status500) => 1,
                Some(Fault::Status502) => 2,
                Some(Fault::Reset) => 3,
            }] += 1;
        }
        seen
    }

    #[test]
    fn the_share_is_kept_and_split_in_three() {
        let [_, kinds @ ..] = thrown(0.1);
        for kind in kinds {
            assert!((900..=1_100).contains(&kind), "{kinds:?}");
        }
    }

    #[test]
    fn none_at_0_and_all_at_1() {
        assert_eq!(thrown(0.0), [30_000, 0, 0, 0]);
        assert_eq!(thrown(1.0)[0], 0);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(seed(), seed());
    }
}
