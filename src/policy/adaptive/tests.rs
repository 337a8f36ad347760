//! The limiter in front of a simulated upstream, and against any observations at all.

use super::*;
use proptest::prelude::*;
use simulation::{BASE, Sim, WIDE, Work};

mod simulation;

const ALL_WORK: [Work; 3] = [Work::Even, Work::Jittered, Work::Exponential];

#[test]
fn what_a_status_says_of_the_load() {
    for (status, expected) in [
        (None, Some(true)),
        (Some(200), Some(false)),
        (Some(404), Some(false)),
        (Some(429), Some(true)),
        (Some(500), None),
        (Some(502), None),
        (Some(503), Some(true)),
        (Some(504), Some(true)),
    ] {
        assert_eq!(speaks_of_load(status), expected, "{status:?}");
    }
}

#[test]
fn settles_near_the_capacity() {
    // How many times the capacity and the base latency it may be: the queue allowed for weighs more where little is
    // worked on at once.
    for (capacity, times) in [(2, 3.0), (4, 2.4), (10, 2.1), (30, 2.0), (100, 2.0)] {
        for work in ALL_WORK {
            let mut sim = Sim::new(WIDE, capacity, 5_000, work);
            sim.base = BASE * 10;
            sim.run(20_000 + 1_000 * capacity as u32);
            // Long enough for Gradient2 itself to take the queue for usual.
            for _ in 0..3 {
                let seen = sim.run(600 * capacity as u32);
                let what = format!("{capacity} {work:?}: {seen:?}");
                let limit = seen.limit / capacity as f64;
                assert!((1.0..times).contains(&limit), "{what}");
                assert!(seen.latency < times, "{what}");
                assert!(seen.used > 0.9, "{what}");
                assert!(f64::from(seen.highest) < 2.0 * seen.limit, "{what}");
            }
        }
    }
}

#[test]
fn settles_whatever_the_latency() {
    for base in [1, 100, 1_000, 30_000].map(Duration::from_millis) {
        let mut sim = Sim::new(WIDE, 20, 5_000, Work::Jittered);
        sim.base = base;
        sim.run(100_000);
        let seen = sim.run(50_000);
        assert!((20.0..40.0).contains(&seen.limit), "{base:?}: {seen:?}");
        assert!(seen.latency < 2.0 && seen.used > 0.95, "{base:?}: {seen:?}");
    }
}

#[test]
fn follows_a_capacity_that_halves_and_comes_back() {
    for work in ALL_WORK {
        let mut sim = Sim::new(WIDE, 100, 5_000, work);
        sim.run(300_000);
        let whole = sim.run(50_000);
        sim.capacity = 50;
        // One second, in which it finishes 5 000 requests; then it has settled.
        sim.run(5_000);
        let half = sim.run(20_000);
        assert!((50.0..100.0).contains(&half.limit), "{work:?}: {half:?}");
        assert!(half.latency < 2.0 && half.used > 0.94, "{work:?}: {half:?}");
        sim.capacity = 100;
        sim.run(50_000);
        let again = sim.run(50_000);
        let limits = (again.limit, whole.limit);
        assert!((again.limit / whole.limit - 1.0).abs() < 0.1, "{limits:?}");
    }
}

#[test]
fn follows_an_upstream_that_becomes_slower_or_faster_for_good() {
    for work in ALL_WORK {
        let mut sim = Sim::new(WIDE, 100, 5_000, work);
        sim.run(200_000);
        for base in [BASE * 3, BASE] {
            sim.base = base;
            sim.run(200_000);
            let seen = sim.run(50_000);
            assert!((100.0..200.0).contains(&seen.limit), "{work:?}: {seen:?}");
            assert!(seen.latency < 2.0 && seen.used > 0.95, "{work:?}: {seen:?}");
        }
    }
}

#[test]
fn does_not_hold_up_what_the_upstream_can_take() {
    for work in ALL_WORK {
        let mut sim = Sim::new(WIDE, 100, 60, work);
        sim.run(60_000);
        let seen = sim.run(200_000);
        assert!(seen.lowest >= 60 && seen.used > 0.59, "{work:?}: {seen:?}");
        // Nor does it grow without being used.
        assert!(seen.highest <= 121, "{work:?}: {seen:?}");
    }
}

#[test]
fn stays_within_its_bounds() {
    for (min, max) in [(30, 60), (400, 900), (7, 7), (1, 1)] {
        let rules = AdaptiveRules { min, max };
        // Below, between and above them; `run` looks at each limit.
        for capacity in [1, 40, 900] {
            Sim::new(rules, capacity, 1_000, Work::Jittered).run(30_000);
        }
    }
}

#[test]
fn begins_at_twenty_or_at_a_bound() {
    for (min, max, expected) in [
        (1, 1_000, 20),
        (1, 10, 10),
        (50, 100, 50),
        (0, 0, 1),
        (9, 4, 9),
    ] {
        let adaptive = Adaptive::new(&AdaptiveRules { min, max });
        assert_eq!(adaptive.limit(), expected, "{min}..={max}");
    }
}

/// One window of ten samples, the last at `now`, all in flight that may be. What the last of them changed.
fn window(adaptive: &mut Adaptive, now: &mut Duration, latencies: [u64; 10]) -> Option<u32> {
    let mut changed = None;
    for latency in latencies {
        *now += Duration::from_secs(1);
        assert_eq!(changed, None);
        let latency = Duration::from_millis(latency);
        changed = adaptive.observe(&WIDE, *now, latency, adaptive.limit(), false);
    }
    changed
}

/// Used to 100 ms, with a limit of 100.
fn used() -> (Adaptive, Duration) {
    let (mut adaptive, mut now) = (Adaptive::new(&WIDE), Duration::ZERO);
    for _ in 0..WARM_UP {
        window(&mut adaptive, &mut now, [100; 10]);
    }
    adaptive.estimate = 100.0;
    adaptive.limit = 100;
    (adaptive, now)
}

#[test]
fn one_window_moves_the_limit_as_gradient2_does() {
    let mut outlier = [100; 10];
    outlier[4] = 40_000;
    for (what, latencies, expected) in [
        ("as usual: a fifth of the root", [100; 10], 102.0),
        ("within the tolerance", [149; 10], 102.0),
        ("faster", [60; 10], 102.0),
        ("twice as slow: 3/4 and the root", [200; 10], 97.0),
        ("far slower: half and the root", [2_000; 10], 92.0),
        ("a lone outlier: no more than that", outlier, 92.0),
    ] {
        let (mut adaptive, mut now) = used();
        let changed = window(&mut adaptive, &mut now, latencies);
        let off = adaptive.estimate - expected;
        assert!(off.abs() < 1e-6, "{what}: {}", adaptive.estimate);
        // Whole, and never more than what was found.
        assert!(
            [Some(expected as u32), Some(expected as u32 - 1)].contains(&changed),
            "{what}"
        );
    }
}

#[test]
fn what_one_window_makes_usual() {
    for (present, expected) in [
        (140, 100.0 + 40.0 * 2.0 / 601.0),
        (60, 100.0 - 40.0 * 2.0 / 601.0),
        // A queue teaches nothing.
        (160, 100.0),
        // An overload is over.
        (40, (100.0 - 60.0 * 2.0 / 601.0) * 0.95),
    ] {
        let (mut adaptive, mut now) = used();
        window(&mut adaptive, &mut now, [present; 10]);
        let usual = adaptive.usual.average * 1_000.0;
        assert!((usual - expected).abs() < 1e-6, "{present}: {usual}");
    }
}

#[test]
fn a_limit_that_is_not_used_stays() {
    for (in_flight, expected) in [(49, 100.0), (50, 102.0)] {
        let (mut adaptive, mut now) = used();
        for _ in 0..10 {
            now += Duration::from_secs(1);
            let latency = Duration::from_millis(100);
            adaptive.observe(&WIDE, now, latency, in_flight, false);
        }
        assert_eq!(adaptive.estimate, expected, "{in_flight} in flight");
    }
}

#[test]
fn a_window_needs_ten_samples_and_two_round_trips() {
    // When it ends, in ms, with one sample each so many ms.
    for (every, latency, ends) in [
        (1, 1, 100),
        (1, 400, 800),
        (60, 30, 540),
        (300, 1_600, 3_300),
    ] {
        let mut adaptive = Adaptive::new(&WIDE);
        let mut now = Duration::ZERO;
        while adaptive.usual.windows == 0 {
            let latency = Duration::from_millis(latency);
            adaptive.observe(&WIDE, now, latency, 20, false);
            now += Duration::from_millis(every);
        }
        let ended = (now - Duration::from_millis(every)).as_millis();
        assert_eq!(ended, ends, "{latency} ms each {every} ms");
    }
}

#[test]
fn a_lasting_queue_is_probed() {
    let (mut adaptive, mut now) = used();
    for _ in 1..PROBE_AFTER {
        window(&mut adaptive, &mut now, [300; 10]);
    }
    assert_eq!(adaptive.limit(), adaptive.estimate as u32);
    let probe = window(&mut adaptive, &mut now, [300; 10]).unwrap();
    let full = adaptive.estimate;
    assert_eq!(probe, ((full - full.sqrt()) / 2.0) as u32);
    // Until here the queue was not taken for usual. The first window of the probe teaches nothing, the second half of the
    // difference where it took longer, and all of it where it did not.
    assert!((adaptive.usual.average - 0.1).abs() < 1e-9);
    for (measured, usual) in [(200, 0.150), (90, 0.090)] {
        let (mut adaptive, mut now) = (adaptive.clone(), now);
        assert_eq!(window(&mut adaptive, &mut now, [250; 10]), None);
        let back = window(&mut adaptive, &mut now, [measured; 10]);
        assert_eq!(back, Some(full as u32));
        assert!((adaptive.usual.average - usual).abs() < 1e-9, "{measured}");
        assert_eq!(adaptive.estimate, full);
    }
}

#[test]
fn failures_of_one_round_trip_count_once() {
    // Failures as (ms, latency, in flight), and the limit after each.
    type Failed = (u64, u64, u32, u32);
    let cases: [(&str, &[Failed]); 5] = [
        ("one", &[(0, 100, 100, 90)]),
        (
            "below half of the limit",
            &[(0, 100, 49, 100), (1, 100, 50, 90)],
        ),
        (
            "too soon after the last",
            &[(0, 100, 100, 90), (99, 0, 90, 90), (100, 0, 90, 81)],
        ),
        (
            "begun before the last",
            &[(0, 100, 100, 90), (500, 501, 90, 90), (500, 500, 90, 81)],
        ),
        ("longer than the clock has run", &[(0, 1 << 60, 100, 90)]),
    ];
    for (what, failures) in cases {
        let (mut adaptive, now) = used();
        let usual = adaptive.usual.average;
        for &(at, latency, in_flight, expected) in failures {
            let before = adaptive.limit();
            let now = now + Duration::from_millis(at);
            let latency = Duration::from_millis(latency);
            let changed = adaptive.observe(&WIDE, now, latency, in_flight, true);
            let expected = (expected != before).then_some(expected);
            assert_eq!(changed, expected, "{what}: at {at} ms");
        }
        // They teach nothing about latency.
        assert_eq!(
            (adaptive.usual.average, adaptive.window.samples),
            (usual, 0)
        );
    }
}

#[test]
fn an_upstream_that_only_fails_gets_the_least() {
    let (mut adaptive, mut now) = used();
    let rules = AdaptiveRules { min: 3, max: 1_000 };
    for _ in 0..100 {
        now += Duration::from_secs(1);
        let latency = Duration::from_secs(1);
        adaptive.observe(&rules, now, latency, adaptive.limit(), true);
    }
    assert_eq!(adaptive.limit(), 3);
}

#[test]
fn new_bounds_apply_with_the_next_sample() {
    for (min, max, expected) in [(1, 40, Some(40)), (300, 900, Some(300)), (1, 100, None)] {
        let (mut adaptive, now) = used();
        let rules = AdaptiveRules { min, max };
        let changed = adaptive.observe(&rules, now, BASE, 1, false);
        assert_eq!(changed, expected, "{min}..={max}");
    }
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..1_000_000u64).prop_map(Duration::from_micros),
        (0..1_000u64).prop_map(Duration::from_secs),
        prop::sample::select(vec![Duration::ZERO, Duration::MAX]),
    ]
}

proptest! {
    #[test]
    fn any_observations_leave_it_finite_and_within_bounds(
        bounds in prop::collection::vec((0..300u32, 0..300u32), 1..4),
        huge in any::<bool>(),
        samples in prop::collection::vec(
            (any_duration(), any_duration(), prop_oneof![0..400u32, Just(u32::MAX)], any::<bool>(), 1..40u32),
            1..150,
        ),
    ) {
        let rule = |&(min, max): &(u32, u32)| AdaptiveRules { min, max: if huge { u32::MAX } else { max } };
        let rules: Vec<AdaptiveRules> = bounds.iter().map(rule).collect();
        let mut adaptive = Adaptive::new(&rules[0]);
        let mut now = Duration::ZERO;
        for (i, (pass, latency, in_flight, dropped, times)) in samples.into_iter().enumerate() {
            let rules = &rules[i * rules.len() / 150];
            let (min, max) = (rules.min.max(1), rules.max.max(rules.min).max(1));
            for _ in 0..times {
                now = now.saturating_add(pass / times);
                let before = adaptive.limit();
                let new = adaptive.observe(rules, now, latency, in_flight, dropped);
                let limit = adaptive.limit();
                prop_assert_eq!(new, (limit != before).then_some(limit));
                prop_assert!((min..=max).contains(&limit));
                let estimate = adaptive.estimate;
                prop_assert!(f64::from(min) <= estimate && estimate <= f64::from(max));
                let usual = adaptive.usual.average;
                prop_assert!((0.0..=MAX_LATENCY.as_secs_f64()).contains(&usual));
            }
        }
    }
}
