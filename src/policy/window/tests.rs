//! The window against one that keeps every sample.

use super::*;
use proptest::prelude::*;

/// The most that a quantile may be off, as a part of it.
const ERROR: f64 = 0.087;

const SPAN: Duration = Duration::from_secs(10);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn assert_near(found: Duration, exact: Duration) {
    let ratio = found.as_secs_f64() / exact.as_secs_f64();
    assert!((ratio - 1.0).abs() <= ERROR, "{found:?} for {exact:?}");
}

#[test]
fn it_takes_little_memory() {
    assert!(size_of::<Window>() <= 4200, "{}", size_of::<Window>());
}

#[test]
fn an_empty_window_has_no_quantile() {
    let mut window = Window::new(SPAN);
    assert_eq!(window.totals(ms(5)), Totals::default());
    assert_eq!(window.totals(ms(5)).success(), None);
    assert_eq!(window.quantile(ms(5), 0.5), None);
    assert_eq!(window.above(ms(5), Duration::ZERO), 0);
    window.record(ms(5), false, None);
    assert_eq!(window.totals(ms(5)).success(), Some(0.0));
    assert_eq!(window.quantile(ms(5), 0.5), None, "no latency was given");
}

#[test]
fn what_is_counted() {
    let mut window = Window::new(SPAN);
    window.record(ms(1), true, ms(10));
    window.record(ms(2), true, ms(20));
    window.record(ms(3), false, ms(500));
    window.record(ms(4), false, None);
    assert_eq!(window.totals(ms(5)), Totals { good: 2, failed: 2 });
    assert_eq!((window.count(ms(5)), window.timed(ms(5))), (4, 3));
    assert_eq!(window.totals(ms(5)).success(), Some(0.5));
    for (q, exact) in [
        (0.0, 10),
        (0.33, 10),
        (0.34, 20),
        (0.66, 20),
        (0.67, 500),
        (1.0, 500),
        (7.0, 500),
        (-1.0, 10),
        (f64::NAN, 10),
    ] {
        assert_near(window.quantile(ms(5), q).unwrap(), ms(exact));
    }
    for (bound, above) in [(0, 3), (5, 3), (15, 2), (100, 1), (600, 0), (1_000_000, 0)] {
        assert_eq!(window.above(ms(5), ms(bound)), above, "above {bound} ms");
    }
    let twenty = Window::rounded(ms(20));
    assert_eq!(window.above(ms(5), twenty), 1, "equal is not above");
    window.clear();
    assert_eq!((window.count(ms(5)), window.timed(ms(5))), (0, 0));
    assert_eq!(window.quantile(ms(5), 1.0), None);
}

#[test]
fn slices_drop_out_one_by_one() {
    let mut window = Window::new(SPAN);
    for second in 0..10 {
        window.record(ms(second * 1000 + 500), true, ms(1 << second));
    }
    for (at, left) in [
        (9_999, 10),
        (10_000, 9),
        (10_999, 9),
        (11_000, 8),
        (18_999, 1),
        (19_000, 0),
    ] {
        let mut window = window.clone();
        assert_eq!(window.count(ms(at)), left, "at {at} ms");
        assert_eq!(window.timed(ms(at)), left, "at {at} ms");
        let slowest = (left > 0).then(|| Window::rounded(ms(512)));
        assert_eq!(window.quantile(ms(at), 1.0), slowest, "at {at} ms");
    }
    assert_eq!(window.clone().count(Duration::MAX), 0, "after a long gap");
}

#[test]
fn a_time_that_lags_behind_counts_as_the_latest() {
    let mut window = Window::new(SPAN);
    window.record(ms(25_500), true, ms(1));
    window.record(ms(3_000), true, ms(1));
    assert_eq!(window.count(ms(2_000)), 2);
    assert_eq!(window.count(ms(34_999)), 2);
    assert_eq!(window.count(ms(35_000)), 0);
}

#[test]
fn a_full_slice_stops_counting() {
    let mut window = Window::new(SPAN);
    window.record(ms(1), true, ms(10));
    let (full, bucket) = (u64::from(u32::MAX), bucket(ms(10)));
    window.slices[0].good = u32::MAX;
    window.slices[0].latencies[bucket] = u32::MAX;
    window.totals.good = full;
    (window.latencies[bucket], window.timed) = (full, full);
    window.record(ms(2), true, ms(10));
    assert_eq!((window.count(ms(3)), window.timed(ms(3))), (full, full));
    window.record(ms(1_000), true, ms(10));
    assert_eq!(window.count(ms(1_000)), full + 1);
    assert_eq!(window.count(ms(10_000)), 1);
    assert_eq!(window.timed(ms(10_000)), 1);
}

#[test]
fn spans_that_make_no_sense_do_no_harm() {
    for span in [Duration::ZERO, Duration::from_nanos(3), Duration::MAX] {
        let mut window = Window::new(span);
        assert_eq!(window.span(), span);
        for now in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            window.record(now, true, Duration::MAX);
            assert!(window.count(now) >= 1);
        }
    }
}

#[test]
fn buckets_begin_where_they_should() {
    for (quarter, from) in (1..).zip(QUARTERS) {
        let exact = 2f64.powi(63) * 2f64.powf(f64::from(quarter) / 4.0);
        assert!((from as f64 / exact - 1.0).abs() < 1e-15, "{quarter}");
    }
    for (nanos, expected) in [
        (0, 0),
        (1 << 16, 0),
        ((1 << 17) - 1, 3),
        (1 << 17, 4),
        ((1 << 37) - 1, BUCKETS - 1),
        (1 << 37, BUCKETS - 1),
        (u64::MAX, BUCKETS - 1),
    ] {
        assert_eq!(bucket(Duration::from_nanos(nanos)), expected, "{nanos}");
    }
    assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
}

proptest! {
    #[test]
    fn a_latency_is_rounded_by_little(nanos in 100_000..100_000_000_000u64) {
        let exact = Duration::from_nanos(nanos);
        assert_near(Window::rounded(exact), exact);
    }
}

/// Keeps everything.
#[derive(Default)]
struct Naive(Vec<(Duration, bool, Option<Duration>)>);

impl Naive {
    /// What was recorded in the slice of `now` and the nine before it.
    fn recent(&self, now: Duration) -> impl Iterator<Item = &(Duration, bool, Option<Duration>)> {
        let slice = |time: Duration| time.as_nanos() / (SPAN.as_nanos() / 10);
        self.0
            .iter()
            .filter(move |(time, ..)| slice(*time) + 10 > slice(now))
    }

    fn totals(&self, now: Duration) -> Totals {
        let count = |wanted| self.recent(now).filter(move |sample| sample.1 == wanted);
        Totals {
            good: count(true).count() as u64,
            failed: count(false).count() as u64,
        }
    }

    fn latencies(&self, now: Duration) -> Vec<Duration> {
        let mut latencies: Vec<_> = self.recent(now).filter_map(|sample| sample.2).collect();
        latencies.sort();
        latencies
    }
}

fn any_latency() -> impl Strategy<Value = Duration> {
    // As many of each magnitude.
    (-9.2..4.6f64).prop_map(|exponent| Duration::from_secs_f64(exponent.exp()))
}

fn any_step() -> impl Strategy<Value = Duration> {
    prop_oneof![
        8 => 0..300u64,
        2 => 300..3_000u64,
        1 => 3_000..40_000u64,
    ]
    .prop_map(ms)
}

proptest! {
    #[test]
    fn it_counts_what_one_that_keeps_everything_counts(
        samples in prop::collection::vec(
            (any_step(), any::<bool>(), prop::option::of(any_latency())), 0..200),
        q in 0.0..=1.0f64,
    ) {
        let (mut window, mut naive, mut now) = (Window::new(SPAN), Naive::default(), ms(0));
        for (step, good, latency) in samples {
            now += step;
            // Before and after: what is recorded may hide that something was not dropped.
            prop_assert_eq!(window.totals(now), naive.totals(now));
            window.record(now, good, latency);
            naive.0.push((now, good, latency));
            prop_assert_eq!(window.totals(now), naive.totals(now));

            let totals = window.totals(now).count() as usize;
            let younger = |than| naive.0.iter().filter(|(time, ..)| now - *time < than).count();
            prop_assert!(younger(SPAN * 9 / 10) <= totals && totals <= younger(SPAN));

            let exact = naive.latencies(now);
            prop_assert_eq!(window.timed(now), exact.len() as u64);
            let rank = ((q * exact.len() as f64).ceil() as usize).max(1);
            match (window.quantile(now, q), exact.get(rank - 1)) {
                (Some(found), Some(exact)) => assert_near(found, *exact),
                (found, exact) => prop_assert_eq!(found, exact.copied()),
            }
            if let Some(latency) = latency {
                let bound = Window::rounded(latency);
                let above = exact.iter().filter(|l| Window::rounded(**l) > bound).count();
                prop_assert_eq!(window.above(now, bound), above as u64);
            }
        }
    }
}

proptest! {
    /// However late they are taken in, as long as that is before anybody asks.
    #[test]
    fn what_was_counted_beside_it_is_as_if_it_had_counted_that(
        seen in prop::collection::vec((0..30_000_u64, 0..2_000_u64, any::<bool>(), 0..3_usize), 0..200),
        later in 0..12_000_u64,
    ) {
        let mut seen = seen;
        seen.sort_unstable();
        let (mut all, mut window) = (Window::new(SPAN), Window::new(SPAN));
        let mut batches: [Batch; 3] = Default::default();
        for (at, took, good, which) in &seen {
            all.record(ms(*at), *good, ms(*took));
            let length = window.slice();
            let batch = &mut batches[*which];
            if !*good {
                window.record(ms(*at), false, ms(*took));
            } else if !batch.record(length, ms(*at), ms(*took)) {
                window.take_in(batch);
                prop_assert!(batch.record(length, ms(*at), ms(*took)));
            }
        }
        batches.iter_mut().for_each(|batch| window.take_in(batch));
        let now = ms(seen.last().map_or(0, |(at, ..)| *at) + later);
        prop_assert_eq!(window.totals(now), all.totals(now));
        prop_assert_eq!(window.timed(now), all.timed(now));
        for q in [0.0, 0.5, 0.9, 1.0] {
            prop_assert_eq!(window.quantile(now, q), all.quantile(now, q));
        }
    }
}

/// What was counted under other rules may seem to be of the future.
#[test]
fn what_was_counted_in_slices_of_another_length_is_forgotten() {
    let (short, mut long) = (Window::new(SPAN), Window::new(10 * SPAN));
    let mut batch = Batch::default();
    assert!(batch.record(short.slice(), ms(95_000), ms(1)));
    long.take_in(&mut batch);
    assert_eq!(long.count(ms(95_000)), 0);
    long.record(ms(95_000), true, ms(1));
    assert_eq!(long.count(ms(300_000)), 0);
}
