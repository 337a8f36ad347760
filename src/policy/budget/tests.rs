//! The retry budget as tables, and what it promises as properties over any calls at any times.

use super::*;
use proptest::prelude::*;

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn rules(share: f64, floor: u32) -> BudgetRules {
    BudgetRules { share, floor }
}

fn began(requests: u64, now: Duration) -> Budget {
    let mut budget = Budget::new();
    (0..requests).for_each(|_| budget.request(now));
    budget
}

/// How many of `asked` retries are granted at once.
fn granted(budget: &mut Budget, rules: &BudgetRules, asked: u64, now: Duration) -> u64 {
    (0..asked).filter_map(|_| budget.spend(rules, now)).count() as u64
}

#[test]
fn what_a_window_allows() {
    for (share, floor, requests, allowed) in [
        (0.20, 10, 0, 10),
        (0.20, 10, 50, 10),
        (0.20, 10, 54, 10),
        (0.20, 10, 55, 11),
        (0.20, 10, 1_000, 200),
        (0.20, 0, 4, 0),
        (0.20, 0, 5, 1),
        (0.0, 0, 1_000_000, 0),
        (0.0, 3, 1_000_000, 3),
        (1.0, 0, 7, 7),
        (1.0, 10, 7, 10),
        // Shares that binary fractions miss from below, and from above.
        (0.29, 0, 100, 29),
        (0.1, 0, 30, 3),
        (0.000_249, 0, 1_000_000, 249),
        (0.000_001, 0, 999_999, 0),
        (0.000_001, 0, 1_000_000, 1),
        // None of these passes the configuration.
        (1.5, 0, 10, 10),
        (-1.0, 2, 10, 2),
        (f64::INFINITY, 0, 10, 10),
        (f64::NAN, 2, 10, 2),
        (1.0, 0, u64::MAX, u64::MAX / 1_000_000),
    ] {
        let what = format!("{share} of {requests}, at least {floor}");
        assert_eq!(rules(share, floor).allowed(requests), allowed, "{what}");
        if requests <= 1_000 {
            let mut budget = began(requests, s(5.0));
            let asked = allowed + 3;
            assert_eq!(
                granted(&mut budget, &rules(share, floor), asked, s(5.0)),
                allowed,
                "{what}"
            );
        }
    }
}

#[test]
fn the_defaults() {
    assert_eq!(BudgetRules::default(), rules(0.2, 100));
    let mut budget = began(1000, s(0.0));
    let granted = granted(&mut budget, &BudgetRules::default(), 999, s(0.0));
    assert_eq!(granted, 200);
}

#[test]
fn both_sides_expire_with_the_window() {
    // A hundred requests and all retries they allow, at 0.5 s; then how many more are granted.
    for (what, share, floor, later, more) in [
        ("at once", 0.2, 10, 0.5, 0),
        ("in the last slice of the window", 0.2, 10, 9.999, 0),
        ("the slice is gone: the floor is new", 0.2, 10, 10.0, 10),
        ("likewise, without a floor", 0.2, 0, 10.0, 0),
        ("after ten windows", 0.2, 10, 100.5, 10),
        ("after an age", 0.2, 10, 1e15, 10),
    ] {
        let mut budget = began(100, s(0.5));
        assert_eq!(granted(&mut budget, &rules(share, floor), 50, s(0.5)), 20);
        assert_eq!(
            granted(&mut budget, &rules(share, floor), 50, s(later)),
            more,
            "{what}"
        );
    }
}

#[test]
fn requests_of_all_ten_slices_count() {
    let mut budget = Budget::new();
    for second in 0..20 {
        (0..10).for_each(|_| budget.request(s(f64::from(second))));
        let requests = budget.report(s(f64::from(second))).requests;
        assert_eq!(requests, 10 * (second as u64 + 1).min(10), "at {second} s");
    }
    assert_eq!(granted(&mut budget, &rules(0.5, 0), 99, s(19.0)), 50);
}

#[test]
fn rules_may_change_between_calls() {
    let mut budget = began(100, s(1.0));
    assert_eq!(granted(&mut budget, &rules(0.1, 0), 50, s(1.0)), 10);
    assert_eq!(granted(&mut budget, &rules(0.3, 0), 50, s(1.0)), 20);
    assert_eq!(granted(&mut budget, &rules(0.2, 0), 50, s(1.0)), 0);
}

#[test]
fn a_clock_read_earlier_counts_as_the_latest() {
    let mut budget = began(10, s(30.0));
    budget.request(s(1.0));
    assert_eq!(granted(&mut budget, &rules(1.0, 0), 99, s(2.0)), 11);
    assert_eq!(budget.report(s(0.0)).requests, 11);
    assert_eq!(budget.report(s(39.9)).retries, 11);
    assert_eq!(budget.report(s(40.0)).retries, 0);
}

#[test]
fn the_end_of_time_is_no_trouble() {
    let mut budget = began(5, Duration::MAX);
    budget.request(Duration::MAX);
    assert_eq!(granted(&mut budget, &rules(0.5, 0), 9, Duration::MAX), 3);
    assert_eq!(budget.report(Duration::MAX).requests, 6);
}

#[test]
fn a_refund_makes_place_for_another() {
    let mut budget = began(10, s(1.0));
    let rules = rules(0.2, 0);
    let first = budget.spend(&rules, s(1.0)).unwrap();
    let second = budget.spend(&rules, s(2.0)).unwrap();
    assert_eq!(budget.spend(&rules, s(2.0)), None);
    budget.refund(first);
    assert_eq!(budget.report(s(3.0)).retries, 1);
    let third = budget.spend(&rules, s(3.0)).unwrap();
    assert_eq!(budget.spend(&rules, s(3.0)), None);
    // Each leaves the window with its own second.
    assert_eq!(budget.report(s(11.9)).retries, 2);
    assert_eq!(budget.report(s(12.0)).retries, 1);
    budget.refund(third);
    assert_eq!(budget.report(s(12.0)).retries, 0);
    budget.refund(second);
}

#[test]
fn a_late_refund_does_not_give_back_another_s() {
    // Who waited for longer than a window, and then left: that retry counts for nothing any more, the others do.
    let mut budget = began(10, s(1.0));
    let rules = rules(0.0, 1);
    let late = budget.spend(&rules, s(1.0)).unwrap();
    assert!(budget.spend(&rules, s(11.0)).is_some());
    budget.refund(late);
    assert_eq!(budget.report(s(11.0)).retries, 1);
    assert_eq!(budget.spend(&rules, s(11.0)), None);
}

#[test]
fn a_report_is_of_the_window_and_its_totals_of_all_time() {
    let mut budget = began(10, s(1.0));
    let spent = budget.spend(&rules(0.3, 0), s(1.0)).unwrap();
    assert_eq!(granted(&mut budget, &rules(0.3, 0), 6, s(1.0)), 2);
    budget.refund(spent);
    let report = Report {
        requests: 10,
        retries: 2,
        refused: 4,
        retries_total: 3,
        refused_total: 4,
    };
    assert_eq!(budget.report(s(10.9)), report);
    let report = Report {
        requests: 0,
        retries: 0,
        refused: 0,
        ..report
    };
    assert_eq!(budget.report(s(11.0)), report);
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Request,
    Spend,
    /// Refunds the youngest or the oldest of the retries that were made, however old.
    Refund(bool),
}

/// Calls with the milliseconds since the one before: mostly close together, sometimes a second or windows apart.
fn calls() -> impl Strategy<Value = Vec<(u64, Call)>> {
    let gap = prop_oneof![
        30 => 0..40u64,
        6 => 0..1_500u64,
        1 => 8_000..12_000u64,
        1 => 0..40_000u64,
    ];
    let call = prop_oneof![
        5 => Just(Call::Request),
        4 => Just(Call::Spend),
        1 => any::<bool>().prop_map(Call::Refund),
    ];
    prop::collection::vec((gap, call), 0..400)
}

/// How many of these seconds are in `first..=last`.
fn count(seconds: &[u64], first: u64, last: u64) -> u64 {
    let between = seconds.iter().filter(|s| (first..=last).contains(*s));
    between.count() as u64
}

/// The first slice of the window that ends with this one.
fn start(second: u64) -> u64 {
    second.saturating_sub(9)
}

proptest! {
    #[test]
    fn retries_stay_within_the_budget(
        calls in calls(),
        share in prop_oneof![Just(0.0), Just(0.2), Just(1.0), 0.0..1.0],
        floor in 0..12u32,
    ) {
        let rules = rules(share, floor);
        let mut budget = Budget::new();
        let mut now = 0;
        let mut requests: Vec<u64> = Vec::new();
        // Those that were made, and what they can be refunded with: refunded ones leave the lists.
        let mut made: Vec<u64> = Vec::new();
        let mut spent: Vec<Spent> = Vec::new();
        for (gap, call) in calls {
            now += gap;
            let (at, second) = (Duration::from_millis(now), now / 1_000);
            let seen = count(&requests, start(second), second);
            match call {
                Call::Request => {
                    budget.request(at);
                    requests.push(second);
                }
                Call::Spend => {
                    let report = budget.report(at);
                    prop_assert_eq!(report.requests, seen);
                    let retries = count(&made, start(second), second);
                    prop_assert_eq!(report.retries, retries);
                    let granted = budget.spend(&rules, at);
                    prop_assert_eq!(granted.is_some(), retries < rules.allowed(seen));
                    if let Some(granted) = granted {
                        made.push(second);
                        spent.push(granted);
                    }
                }
                Call::Refund(youngest) if !made.is_empty() => {
                    let i = if youngest { made.len() - 1 } else { 0 };
                    made.remove(i);
                    budget.refund(spent.remove(i));
                }
                Call::Refund(_) => {}
            }
        }
        // Any ten slices in a row, by the requests of those ten that end with their last retry.
        for last in 0..=now / 1_000 {
            let newest = made.iter().rfind(|s| (start(last)..=last).contains(*s));
            if let Some(newest) = newest {
                let seen = count(&requests, start(*newest), *newest);
                prop_assert!(count(&made, start(last), last) <= rules.allowed(seen));
            }
        }
        // Any span from one retry to another.
        let mut ends = made.clone();
        ends.dedup();
        for (i, first) in ends.iter().enumerate() {
            for last in &ends[i..] {
                let seen = count(&requests, start(*first), *last);
                let floors = ((last - first) / 10 + 1) * u64::from(floor);
                let share = BudgetRules { floor: 0, ..rules }.allowed(seen);
                prop_assert!(count(&made, *first, *last) <= share + floors);
            }
        }
    }

    #[test]
    fn failures_well_below_the_share_are_all_retried(
        share in 0.02..1.0f64,
        part in 0.0..0.9f64,
        bursts in prop::collection::vec((0..6_000u64, 1..80u32), 1..80),
    ) {
        // Evenly spread failures, nine tenths of the share at most: the floor covers what rounding takes at low numbers,
        // so that they fit at any load.
        let rules = rules(share, 10);
        let mut budget = Budget::new();
        let (mut now, mut failures) = (Duration::ZERO, 0.0);
        for (gap, requests) in bursts {
            now += Duration::from_millis(gap);
            for _ in 0..requests {
                budget.request(now);
                failures += share * part;
                if failures >= 1.0 {
                    failures -= 1.0;
                    prop_assert!(budget.spend(&rules, now).is_some(), "at {now:?}");
                }
            }
        }
    }

    #[test]
    fn with_enough_requests_no_floor_is_needed(
        share in 0.02..1.0f64,
        part in 0.0..0.99f64,
        wait in 0..9u64,
        more in 1..3u64,
    ) {
        // Steady traffic whose retries come some seconds after their requests. One more failure than the average may fall
        // into any window, so the distance to the share has to be worth one request in the first slice already.
        let each_second = more * (2.0 / (share * (1.0 - part))).ceil() as u64;
        let rules = rules(share, 0);
        let mut budget = Budget::new();
        let mut failed = std::collections::VecDeque::new();
        let mut failures = 0.0;
        for second in 0..25 {
            for i in 0..each_second {
                let now = Duration::from_secs(second) + Duration::from_secs(1).mul_f64(i as f64 / each_second as f64);
                budget.request(now);
                failures += share * part;
                if failures >= 1.0 {
                    failures -= 1.0;
                    failed.push_back(now + Duration::from_secs(wait));
                }
                while failed.front().is_some_and(|due| *due <= now) {
                    failed.pop_front();
                    prop_assert!(budget.spend(&rules, now).is_some(), "at {now:?}");
                }
            }
        }
        prop_assert_eq!(budget.report(Duration::from_secs(25)).refused_total, 0);
    }
}

proptest! {
    #[test]
    fn requests_that_were_counted_beside_it_count_in_their_second(
        began in prop::collection::vec((0..25_u64, 0..3_usize), 0..100),
        later in 0..15_u64,
    ) {
        let mut began = began;
        began.sort_unstable();
        let (mut all, mut budget) = (Budget::new(), Budget::new());
        let mut beside: [Noted; 3] = Default::default();
        for (second, which) in &began {
            let now = Duration::from_secs(*second);
            all.request(now);
            let noted = &mut beside[*which];
            if !noted.request(now) {
                budget.take_in(noted);
                prop_assert!(noted.request(now));
            }
        }
        beside.iter_mut().for_each(|noted| budget.take_in(noted));
        let now = Duration::from_secs(began.last().map_or(0, |(second, _)| *second) + later);
        prop_assert_eq!(budget.report(now), all.report(now));
    }
}
