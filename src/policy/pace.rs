//! When the next piece of content is taken from a client that sends slowly, so that thousands of those who send at the same moment
//! do not keep everybody else waiting.
//!
//! Asked by `proxy::downstream` when such a piece may be there. A virtual queue of evenly spaced places, as in the generic cell rate
//! algorithm (ITU-T I.371): who comes when it is empty goes at once, of a crowd one goes after the other.

use std::time::Duration;

/// From one place to the next: sixteen thousand pieces in a second, half a processor's work.
const SPACE: Duration = Duration::from_nanos(62_500);
/// Places that may be taken at once.
const AT_ONCE: Duration = Duration::from_millis(2);
/// Who has sent less than this in a second, on average, is slow.
const SLOW: u64 = 16 * 1024;
/// Nobody is, before so much time was spent waiting for them.
const EARLY: Duration = Duration::from_millis(500);

/// Whether a client is slow that has sent so much while it was waited for so long.
pub fn is_slow(seen: u64, waited: Duration) -> bool {
    waited >= EARLY && u128::from(seen) * 1000 < u128::from(SLOW) * waited.as_millis()
}

/// Takes a place: how long until it, and from when on the next one is. `free`: what the last call said.
pub fn place(free: Duration, now: Duration) -> (Duration, Duration) {
    let at = free.max(now);
    let wait = (at - now).saturating_sub(AT_ONCE);
    (wait, at + SPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_who_was_waited_for() {
        for (seen, millis, slow) in [
            (0, 0, false),
            (0, 499, false),
            (0, 500, true),
            (32, 5_000, true),
            (8 * 1024, 500, false),
            (8 * 1024 - 1, 500, true),
            (1 << 40, 10_000_000, false),
            (u64::MAX, u64::MAX / 2, true),
        ] {
            assert_eq!(
                is_slow(seen, Duration::from_millis(millis)),
                slow,
                "{seen} in {millis} ms"
            );
        }
    }

    #[test]
    fn a_crowd_goes_one_after_the_other_and_a_few_at_once() {
        let now = Duration::from_secs(7);
        let (mut free, mut waits) = (Duration::ZERO, Vec::new());
        for _ in 0..4000 {
            let (wait, next) = place(free, now);
            (free, _) = (next, waits.push(wait));
        }
        assert!(waits[..33].iter().all(Duration::is_zero));
        assert!(waits[33..].iter().all(|wait| !wait.is_zero()));
        assert!(waits.is_sorted());
        assert_eq!(waits.last().unwrap().as_millis(), 247);
        // Later there is nobody left.
        assert_eq!(place(free, now + Duration::from_secs(1)).0, Duration::ZERO);
    }
}
