//! Tables and properties.

use super::*;
use proptest::prelude::*;

const NONE: Savings = Savings {
    retry: 0,
    failover: 0,
    cache: 0,
};
const GOOD: Count = Count {
    requests: 1,
    failed: 0,
    tries: 1,
    tries_failed: 0,
    saved: NONE,
};
/// Failed twice at the upstream, and not for the client.
const MASKED: Count = Count {
    requests: 1,
    failed: 0,
    tries: 3,
    tries_failed: 2,
    saved: Savings {
        retry: 0,
        failover: 1,
        cache: 0,
    },
};
const BAD: Count = Count {
    requests: 1,
    failed: 1,
    tries: 1,
    tries_failed: 1,
    saved: NONE,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(1_764_000_000 + seconds)
}

#[test]
fn what_saved_a_request() {
    use Saved::{Cache, Failover, Retry};
    let (good, bad) = (false, true);
    for (tries, stored, by) in [
        (&[][..], false, None),
        (&[], true, None),
        (&[(1, good)], false, None),
        (&[(1, bad)], false, None),
        (&[(1, bad)], true, Some(Cache)),
        (&[(1, bad), (2, bad)], true, Some(Cache)),
        (&[(1, bad), (1, good)], false, Some(Retry)),
        (&[(1, bad), (2, good)], false, Some(Failover)),
        (&[(2, bad), (1, bad), (2, good)], false, Some(Failover)),
        // The one that a second request overtook, and that.
        (&[(1, good), (2, good)], false, None),
        (&[(1, bad), (1, good), (2, good)], false, Some(Failover)),
    ] {
        let tries_of = tries.iter().copied();
        assert_eq!(Saved::by(tries_of, stored), by, "{tries:?} {stored}");
    }
}

#[test]
fn what_clients_saw_and_what_the_upstream_answered() {
    let mut success = Success::default();
    assert_eq!(success.within(Span::Hour, at(0)).seen(), None);
    for _ in 0..90 {
        success.add(at(0), GOOD);
    }
    for _ in 0..9 {
        success.add(at(1), MASKED);
    }
    success.add(at(2), BAD);
    for span in SPANS {
        let count = success.within(span, at(3));
        assert_eq!(
            (
                count.requests,
                count.failed,
                count.tries,
                count.tries_failed
            ),
            (100, 1, 118, 19)
        );
        assert!((count.seen().unwrap() - 0.99).abs() < 1e-9);
        assert!((count.answered().unwrap() - 99.0 / 118.0).abs() < 1e-9);
        // Of 99.5 %, twice the room for errors is gone.
        assert!((count.burnt(0.995).unwrap() - 2.0).abs() < 1e-9);
    }
    assert_eq!(BAD.burnt(1.0), Some(f64::INFINITY));
    assert_eq!(GOOD.burnt(1.0), Some(0.0));
}

#[test]
fn each_span_forgets_after_its_time() {
    for (span, seconds, step) in [
        (Span::Minutes5, 300, 10),
        (Span::Hour, 3600, 120),
        (Span::Day, 86_400, 1800),
        (Span::Days30, 30 * 86_400, 43_200),
    ] {
        let mut success = Success::default();
        success.add(at(0), BAD);
        assert_eq!(
            success.within(span, at(seconds - step)).requests,
            1,
            "{span:?}"
        );
        assert_eq!(
            success.within(span, at(seconds + step)).requests,
            0,
            "{span:?}"
        );
        // After a long silence nothing old comes back.
        success.add(at(100 * seconds), GOOD);
        assert_eq!(success.within(span, at(100 * seconds)), GOOD);
    }
}

#[test]
fn a_later_process_goes_on_where_an_earlier_one_stopped() {
    let mut before = Success::default();
    before.add(at(0), BAD);
    before.add(at(4000), MASKED);
    let steps = before.steps(at(4001));
    let mut after = Success::default();
    after.add(at(4002), GOOD);
    for step in steps {
        after.restore(at(4003), step);
    }
    assert_eq!(after.within(Span::Hour, at(4003)), MASKED.plus(GOOD));
    assert_eq!(
        after.within(Span::Day, at(4003)),
        BAD.plus(MASKED).plus(GOOD)
    );
    // Nothing from the future, and nothing from long ago.
    for began in [1_764_000_000 + 999_999, 0] {
        let span = Span::Hour;
        after.restore(
            at(4003),
            Step {
                span,
                began,
                count: BAD,
            },
        );
    }
    assert_eq!(after.within(Span::Hour, at(4003)).requests, 2);
}

proptest! {
    #[test]
    fn nothing_is_counted_twice_or_lost(times in prop::collection::vec(0_u64..2000, 1..60)) {
        let mut success = Success::default();
        let mut sorted = times.clone();
        sorted.sort_unstable();
        for time in &sorted {
            success.add(at(*time), GOOD);
        }
        let count = success.within(Span::Hour, at(2000));
        prop_assert_eq!(count.requests, times.len() as u64);
        let recent = success.within(Span::Minutes5, at(2000)).requests;
        let surely = sorted.iter().filter(|t| **t >= 2000 - 290).count() as u64;
        let perhaps = sorted.iter().filter(|t| **t >= 2000 - 310).count() as u64;
        prop_assert!(surely <= recent && recent <= perhaps, "{} {} {}", surely, recent, perhaps);
    }
}

proptest! {
    /// Whoever noted what, and however late it is taken in.
    #[test]
    fn what_was_noted_beside_it_is_as_if_it_had_counted_that(
        counted in prop::collection::vec((0..200_000_u64, 0..3_usize), 0..40),
        later in 0..5_000_u64,
    ) {
        let mut counted = counted;
        counted.sort_unstable();
        let (mut all, mut success) = (Success::default(), Success::default());
        let mut noted: [Noted; 3] = Default::default();
        for (seconds, which) in &counted {
            all.add(at(*seconds), MASKED);
            let noted = &mut noted[*which];
            if !noted.add(at(*seconds), MASKED) {
                success.take_in(at(*seconds), noted);
                prop_assert!(noted.add(at(*seconds), MASKED));
            }
        }
        let now = at(counted.last().map_or(0, |(seconds, _)| *seconds) + later);
        noted.iter_mut().for_each(|noted| success.take_in(now, noted));
        for span in SPANS {
            prop_assert_eq!(success.within(span, now), all.within(span, now));
        }
    }
}

/// What one worker counted under a wrong clock must not cost what others count under the right one.
#[test]
fn nothing_is_lost_when_a_clock_is_set_back() {
    let mut success = Success::default();
    let (mut one, mut other) = (Noted::default(), Noted::default());
    assert!(one.add(at(7200), GOOD));
    success.take_in(at(7200), &mut one);
    for (noted, count) in [(&mut one, GOOD), (&mut other, BAD)] {
        (0..200).for_each(|_| assert!(noted.add(at(0), count)));
        success.take_in(at(1), noted);
    }
    for span in SPANS {
        let count = success.within(span, at(1));
        assert_eq!((count.requests, count.failed), (401, 200), "{span:?}");
    }
}

/// Who takes it in may have read the clock before others did.
#[test]
fn what_was_noted_long_ago_is_not_of_now() {
    const DAY: u64 = 86_400;
    for now in [2 * DAY, 2 * DAY - 1, 2 * DAY - 3600] {
        let (mut success, mut old) = (Success::default(), Noted::default());
        assert!(old.add(at(0), BAD));
        success.add(at(2 * DAY), GOOD);
        success.take_in(at(now), &mut old);
        for (span, failed) in [(Span::Minutes5, 0), (Span::Hour, 0), (Span::Days30, 1)] {
            assert_eq!(
                success.within(span, at(2 * DAY)).failed,
                failed,
                "{now} {span:?}"
            );
        }
    }
}
