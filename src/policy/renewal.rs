//! When a certificate is fetched anew, and when again after that failed.
//!
//! Times are since the epoch.

use std::time::Duration;

/// From the first failure to the next attempt. Let's Encrypt lets five proofs of a name fail in an hour.
const FIRST: Duration = Duration::from_secs(5 * 60);
/// At most.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// When a certificate of this validity is due: with a third of it left, as Let's Encrypt asks for.
pub fn due(not_before: Duration, not_after: Duration) -> Duration {
    not_after.saturating_sub(not_after.saturating_sub(not_before) / 3)
}

/// How long one that lasts so long is left alone once it is there, even if it is due: an authority would have to issue it again
/// and again where its clock and ours differ.
pub fn rest(lasts: Duration) -> Duration {
    (lasts / 3).clamp(FIRST, Duration::from_secs(3600))
}

/// How long to wait after so many failures in a row, at least one: twice as long each time, less up to a fifth by `chance`
/// in 0.0..1.0.
pub fn again(failures: u32, chance: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    full.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_before_its_end() {
        let days = |n: u64| Duration::from_secs(n * 24 * 3600);
        assert_eq!(due(days(0), days(90)), days(60));
        assert_eq!(due(days(10), days(16)), days(14));
        assert_eq!(due(days(5), days(5)), days(5));
        // What makes no sense is due at its end.
        assert_eq!(due(days(9), days(5)), days(5));
    }

    #[test]
    fn left_alone_for_a_while() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        for (lasts, expected) in [(0, 5), (60, 20), (24 * 60, 60), (90 * 24 * 60, 60)] {
            assert_eq!(rest(minutes(lasts)), minutes(expected), "{lasts}");
        }
    }

    #[test]
    fn less_and_less_often() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        for (failures, expected) in [
            (1, 5),
            (2, 10),
            (3, 20),
            (4, 40),
            (7, 320),
            (8, 360),
            (99, 360),
        ] {
            assert_eq!(again(failures, 0.0), minutes(expected), "{failures}");
        }
        assert_eq!(again(1, 1.0), minutes(4));
        // Four in the first hour, whatever the dice say.
        let four: Duration = (1..=4).map(|n| again(n, 1.0)).sum();
        assert!(four >= minutes(60));
    }
}
