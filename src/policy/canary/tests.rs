//! The steps, and what follows from the outcomes.

use super::super::window::Totals;
use super::*;
use std::ops::RangeInclusive;

mod simulation;
mod split;

fn share(hundredths: u16) -> Share {
    Share::new(hundredths).unwrap()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const FAST: Duration = Duration::from_millis(10);
const SLOW: Duration = Duration::from_millis(50);

/// A constant share and a window of a minute.
fn rules(hundredths: u16) -> CanaryRules {
    CanaryRules {
        share: share(hundredths),
        steps: Vec::new(),
        every: secs(300),
        rollback: Rollback {
            success_below: Some(0.99),
            p95_above_stable: None,
            after: 50,
            window: secs(60),
        },
    }
}

fn stepped(steps: &[u16]) -> CanaryRules {
    CanaryRules {
        steps: steps.iter().map(|s| share(*s)).collect(),
        ..rules(0)
    }
}

fn canary(rules: &CanaryRules) -> Canary {
    Canary::new(rules, Duration::ZERO)
}

/// The events of so many outcomes, all at `now`.
fn outcomes(
    canary: &mut Canary,
    rules: &CanaryRules,
    now: Duration,
    side: Side,
    good: bool,
    count: usize,
) -> Vec<Event> {
    (0..count)
        .filter_map(|_| canary.observe(rules, now, side, good, FAST))
        .collect()
}

/// A canary that was rolled back at 10 s, after 50 failures.
fn failed(rules: &CanaryRules) -> Canary {
    let mut canary = canary(rules);
    let events = outcomes(&mut canary, rules, secs(10), Side::Canary, false, 50);
    assert!(matches!(&events[..], [Event::RolledBack(_)]), "{events:?}");
    canary
}

#[test]
fn shares_as_text() {
    assert_eq!(Share::new(10_000), Some(Share::ALL));
    assert_eq!(Share::new(10_001), None);
    for (hundredths, text) in [
        (0, "0 %"),
        (1, "0.01 %"),
        (57, "0.57 %"),
        (500, "5 %"),
        (1_250, "12.5 %"),
        (10_000, "100 %"),
    ] {
        assert_eq!(share(hundredths).to_string(), text);
        assert_eq!(share(hundredths).hundredths(), hundredths);
    }
}

/// How many of these turns the canary gets.
fn taken(canary: &mut Canary, rules: &CanaryRules, turns: RangeInclusive<u64>) -> usize {
    turns
        .filter(|turn| canary.choose(rules, *turn, None) == Side::Canary)
        .count()
}

#[test]
fn steps_follow_each_other() {
    let rules = stepped(&[100, 500, 10_000]);
    let mut canary = canary(&rules);
    let enough = |canary: &mut Canary, now| {
        let events = outcomes(canary, &rules, now, Side::Canary, true, 50);
        assert_eq!(events, []);
    };
    assert_eq!(canary.share(&rules), share(100));
    assert_eq!(canary.next_step_at(&rules), Some(secs(300)));
    enough(&mut canary, secs(10));
    assert_eq!(canary.tick(&rules, secs(299)), None, "too early");
    let event = canary.tick(&rules, secs(301));
    let (from, to) = (share(100), share(500));
    assert_eq!(event, Some(Event::Advanced { from, to }));
    assert_eq!((canary.share(&rules), canary.step()), (to, 1));
    assert_eq!(canary.tick(&rules, secs(301)), None);
    assert_eq!(canary.next_step_at(&rules), Some(secs(601)));

    assert_eq!(canary.seen(), 0, "each step has to see its own");
    outcomes(&mut canary, &rules, secs(500), Side::Canary, true, 49);
    outcomes(&mut canary, &rules, secs(500), Side::Stable, true, 500);
    assert_eq!(canary.tick(&rules, secs(700)), None, "one is missing");
    assert_eq!(canary.next_step_at(&rules), Some(secs(601)), "it waits");
    outcomes(&mut canary, &rules, secs(900), Side::Canary, true, 1);
    let (from, to) = (to, Share::ALL);
    let event = canary.tick(&rules, secs(5_000));
    assert_eq!(event, Some(Event::Advanced { from, to }), "however late");

    enough(&mut canary, secs(5_001));
    assert_eq!(canary.next_step_at(&rules), None, "it was the last");
    assert_eq!(canary.tick(&rules, secs(90_000)), None);
    assert_eq!(canary.share(&rules), Share::ALL);
}

#[test]
fn a_constant_share_does_not_advance() {
    let rules = rules(500);
    let mut canary = canary(&rules);
    outcomes(&mut canary, &rules, secs(10), Side::Canary, true, 100);
    assert_eq!(canary.next_step_at(&rules), None);
    assert_eq!(canary.tick(&rules, secs(9_000)), None);
    assert_eq!(canary.share(&rules), share(500));
}

#[test]
fn rules_with_fewer_steps_end_at_their_last() {
    let rules = stepped(&[100, 500, 2_000]);
    let mut canary = canary(&rules);
    for at in [300, 600] {
        outcomes(&mut canary, &rules, secs(at), Side::Canary, true, 50);
        assert!(canary.tick(&rules, secs(at)).is_some());
    }
    let fewer = stepped(&[100, 700]);
    assert_eq!(canary.share(&fewer), share(700));
    assert_eq!(canary.next_step_at(&fewer), None);
    assert_eq!(canary.tick(&fewer, secs(9_000)), None);
}

#[test]
fn after_a_rollback_everything_is_stable_until_resumed() {
    let rules = stepped(&[10_000, 10_000]);
    let mut canary = failed(&rules);
    let figures = canary.rolled_back().unwrap().clone();
    assert_eq!(figures.rule, Rule::SuccessBelow(0.99));
    let failures = Totals {
        good: 0,
        failed: 50,
    };
    assert_eq!(figures.canary.outcomes, failures);
    assert_eq!(figures.stable, SideFigures::default());

    assert_eq!(canary.share(&rules), Share::NONE);
    assert_eq!(taken(&mut canary, &rules, 0..=1_000), 0);
    assert_eq!(canary.choose(&rules, 0, Some(5)), Side::Stable);
    assert_eq!(canary.next_step_at(&rules), None);
    assert_eq!(canary.tick(&rules, secs(9_000)), None);
    let late = outcomes(&mut canary, &rules, secs(11), Side::Canary, false, 100);
    assert_eq!(late, [], "those under way are no news");
    assert_eq!(canary.rolled_back(), Some(&figures));

    canary.resume(&rules, secs(9_000));
    assert_eq!(canary.rolled_back(), None);
    assert_eq!(canary.share(&rules), Share::ALL);
    assert_eq!(canary.next_step_at(&rules), Some(secs(9_300)));
    let nothing = SideFigures::default();
    assert_eq!(canary.figures(secs(9_000), Side::Canary), nothing);
    assert_eq!(taken(&mut canary, &rules, 0..=99), 100);
}

#[test]
fn resuming_begins_with_the_first_step() {
    let rules = stepped(&[100, 500]);
    let mut canary = canary(&rules);
    outcomes(&mut canary, &rules, secs(10), Side::Canary, true, 50);
    assert!(canary.tick(&rules, secs(300)).is_some());
    let events = outcomes(&mut canary, &rules, secs(310), Side::Canary, false, 50);
    assert_eq!(events.len(), 1);
    canary.resume(&rules, secs(400));
    assert_eq!((canary.step(), canary.share(&rules)), (0, share(100)));
    assert_eq!(canary.seen(), 0);
}

#[test]
fn it_judges_once_it_has_seen_enough() {
    let rules = rules(500);
    let mut canary = canary(&rules);
    let mut canary_saw = |good, count| {
        let events = outcomes(&mut canary, &rules, secs(10), Side::Canary, good, count);
        events.len()
    };
    assert_eq!(canary_saw(false, 30), 0);
    assert_eq!(canary_saw(true, 19), 0, "49 are not 50");
    assert_eq!(canary_saw(true, 1), 1, "the one that makes it 50 is good");
}

#[test]
fn what_is_older_than_the_window_is_forgiven_where_many_requests_come() {
    let rules = rules(500);
    let mut canary = canary(&rules);
    // Too few to speak against it, in two blocks; together they would.
    let mut saw = |at, good, count| {
        let events = outcomes(&mut canary, &rules, secs(at), Side::Canary, good, count);
        assert_eq!(events, [], "{count} at {at} s");
    };
    saw(10, true, 45);
    saw(10, false, 4);
    saw(71, true, 60);
    saw(72, false, 4);
    assert_eq!(canary.seen(), 113, "the step still counts them");
}

#[test]
fn where_few_requests_come_the_last_ones_are_judged_however_old_they_are() {
    let rules = stepped(&[500, 10_000]);
    for (good, expected) in [(true, "advanced"), (false, "rolled back")] {
        let mut canary = canary(&rules);
        let mut events = Vec::new();
        // One canary request every five minutes, and one of stable.
        for n in 1..=50 {
            let now = secs(n * 300);
            events.extend(canary.observe(&rules, now, Side::Stable, true, FAST));
            events.extend(canary.observe(&rules, now, Side::Canary, good, FAST));
            events.extend(canary.tick(&rules, now));
        }
        match (&events[..], expected) {
            ([Event::Advanced { .. }], "advanced") => {}
            ([Event::RolledBack(figures)], "rolled back") => assert_eq!(
                figures.to_string(),
                "success 0.00 % of 50 requests is below 99 % (stable: 100.00 % of 50)"
            ),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_step_is_judged_by_its_own_requests_where_few_come() {
    let rules = stepped(&[500, 5_000, 10_000]);
    let mut canary = canary(&rules);
    let events = outcomes(&mut canary, &rules, secs(10), Side::Canary, true, 90);
    assert_eq!(events, []);
    assert!(canary.tick(&rules, secs(301)).is_some());
    let mut seen = Vec::new();
    for n in 1..=50 {
        let now = secs(301 + n * 300);
        seen.extend(canary.observe(&rules, now, Side::Canary, n <= 35, FAST));
        seen.extend(canary.tick(&rules, now));
    }
    assert!(matches!(&seen[..], [Event::RolledBack(_)]), "{seen:?}");
}

#[test]
fn a_slow_canary_is_seen_where_few_requests_come() {
    let mut rules = rules(500);
    rules.rollback.p95_above_stable = Some(1.5);
    let mut canary = canary(&rules);
    let mut events = Vec::new();
    for n in 1..=50 {
        let now = secs(n * 300);
        events.extend(canary.observe(&rules, now, Side::Stable, true, FAST));
        events.extend(canary.observe(&rules, now, Side::Canary, true, SLOW));
    }
    let [Event::RolledBack(figures)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(figures.rule, Rule::P95AboveStable(1.5));
}

#[test]
fn another_window_begins_with_nothing() {
    let rules = rules(500);
    let mut canary = canary(&rules);
    outcomes(&mut canary, &rules, secs(10), Side::Canary, false, 49);
    let mut longer = rules;
    longer.rollback.window = secs(600);
    let event = canary.observe(&longer, secs(11), Side::Canary, true, FAST);
    assert_eq!(event, None);
    let now = canary.figures(secs(300), Side::Canary);
    assert_eq!(now.outcomes, Totals { good: 1, failed: 0 });
}

#[test]
fn it_is_worse_than_stable_without_any_bound() {
    let mut rules = rules(500);
    rules.rollback.success_below = None;
    let mut canary = canary(&rules);
    outcomes(&mut canary, &rules, secs(10), Side::Canary, true, 50);
    let events = outcomes(&mut canary, &rules, secs(10), Side::Canary, false, 50);
    assert_eq!(events, [], "there is nothing to compare with");
    let events = outcomes(&mut canary, &rules, secs(10), Side::Stable, true, 500);
    assert_eq!(events, []);
    let event = canary.observe(&rules, secs(11), Side::Canary, false, FAST);
    let Some(Event::RolledBack(figures)) = event else {
        panic!("{event:?}");
    };
    assert_eq!(
        figures.to_string(),
        "success 49.50 % of 101 requests is worse than stable's 100.00 % of 500"
    );
}

#[test]
fn it_is_slower_than_stable() {
    let mut rules = rules(500);
    rules.rollback.p95_above_stable = Some(1.5);
    let mut canary = canary(&rules);
    outcomes(&mut canary, &rules, secs(10), Side::Stable, true, 500);
    let mut slow = |good| canary.observe(&rules, secs(10), Side::Canary, good, SLOW);
    // Equal success, as slow failures are no slow answers.
    assert_eq!((0..49).find_map(|_| slow(true)), None);
    assert_eq!(slow(false), None);
    let event = slow(true);
    let Some(Event::RolledBack(figures)) = event else {
        panic!("{event:?}");
    };
    assert_eq!(figures.rule, Rule::P95AboveStable(1.5));
    assert_eq!(figures.canary.p95, Some(Window::rounded(SLOW)));
    assert_eq!(figures.stable.p95, Some(Window::rounded(FAST)));
}

#[test]
fn figures_for_the_status_page() {
    let rules = rules(500);
    let mut canary = canary(&rules);
    outcomes(&mut canary, &rules, secs(10), Side::Stable, true, 9);
    outcomes(&mut canary, &rules, secs(10), Side::Stable, false, 1);
    outcomes(&mut canary, &rules, secs(10), Side::Canary, false, 2);
    let stable = canary.figures(secs(11), Side::Stable);
    assert_eq!(stable.outcomes.success(), Some(0.9));
    assert_eq!(stable.p95, Some(Window::rounded(FAST)));
    let of_canary = canary.figures(secs(11), Side::Canary);
    assert_eq!(of_canary.outcomes, Totals { good: 0, failed: 2 });
    assert_eq!(of_canary.p95, None, "failures have no latency");
    assert_eq!(
        canary.figures(secs(80), Side::Stable),
        SideFigures::default()
    );
    assert_eq!(
        [Side::Stable, Side::Canary].map(Side::word),
        ["stable", "canary"]
    );
}
