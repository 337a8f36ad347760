//! Health as tables and properties.

use super::*;
use proptest::prelude::*;

const RULES: EjectRules = EjectRules {
    consecutive: 3,
    error_rate: Some(0.5),
    latency: None,
    window: Duration::from_secs(10),
    min_tries: 10,
    time: Duration::from_secs(10),
    max_time: Duration::from_secs(60),
    max_ejected: 0.5,
    slow_start: Duration::from_secs(10),
};
const OFF: EjectRules = EjectRules {
    consecutive: 0,
    error_rate: None,
    ..RULES
};
const NONE: FailRules = FailRules {
    max_fails: 0,
    fail_timeout: Duration::from_secs(10),
};
const PROBES: ProbeRules = ProbeRules { rise: 2, fall: 3 };

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn good() -> Observation {
    Observation::Good(Duration::from_millis(5))
}

/// One backend whose time is told.
struct One {
    health: Health,
    rules: EjectRules,
    own: FailRules,
    may: bool,
}

impl One {
    fn new(rules: &EjectRules, own: FailRules) -> Self {
        One {
            health: Health::new(false, rules.window),
            rules: rules.clone(),
            own,
            may: true,
        }
    }

    fn saw(&mut self, at: f64, seen: Observation) -> Option<Change> {
        self.tried(at, seen, false)
    }

    fn tried(&mut self, at: f64, seen: Observation, trial: bool) -> Option<Change> {
        let may = self.may;
        self.health
            .observe(&self.rules, self.own, s(at), seen, trial, || may)
    }

    fn saw_all(&mut self, at: f64, all: &[Observation]) -> Option<Change> {
        all.iter()
            .fold(None, |last, seen| self.saw(at, *seen).or(last))
    }
}

#[test]
fn failures_in_a_row_eject_and_a_good_answer_between_them_does_not() {
    use Observation::Failed;
    for (name, seen, ejected) in [
        ("too few", &[Failed, Failed][..], false),
        ("enough", &[Failed, Failed, Failed], true),
        (
            "not in a row",
            &[Failed, Failed, good(), Failed, Failed],
            false,
        ),
    ] {
        let mut one = One::new(&RULES, NONE);
        let change = one.saw_all(1.0, seen);
        let expected = ejected.then_some(Change::Ejected(Cause::Consecutive(3), s(10.0)));
        assert_eq!(change, expected, "{name}");
        let gate = if ejected {
            Gate::Ejected(s(11.0))
        } else {
            Gate::Open
        };
        assert_eq!(one.health.gate(), gate, "{name}");
    }
}

#[test]
fn max_fails_counts_failures_that_follow_each_other_within_fail_timeout() {
    let own = FailRules {
        max_fails: 3,
        fail_timeout: s(5.0),
    };
    for (name, times, ejected) in [
        ("at once", &[0.0, 0.0, 0.0][..], true),
        ("each within the time", &[0.0, 4.9, 9.8], true),
        ("too far apart", &[0.0, 5.1, 10.2, 15.3], false),
        ("begun anew", &[0.0, 1.0, 6.1, 7.0], false),
    ] {
        let mut one = One::new(&OFF, own);
        let mut change = None;
        for at in times {
            change = one.saw(*at, Observation::Failed).or(change);
            // nginx does not care for good ones in between.
            one.saw(*at, good());
        }
        let expected = ejected.then_some(Change::Ejected(Cause::MaxFails(3), s(5.0)));
        assert_eq!(change, expected, "{name}");
    }
}

#[test]
fn a_share_of_failures_ejects_once_there_are_enough_tries() {
    for (name, good_ones, failed_ones, ejected) in [
        ("half", 6, 6, true),
        ("less than half", 8, 6, false),
        ("too few tries", 4, 5, false),
        ("most", 2, 10, true),
    ] {
        let rules = EjectRules {
            consecutive: 0,
            ..RULES
        };
        let mut one = One::new(&rules, NONE);
        let all: Vec<_> = std::iter::repeat_n(good(), good_ones)
            .chain(std::iter::repeat_n(Observation::Failed, failed_ones))
            .collect();
        let change = one.saw_all(1.0, &all);
        assert_eq!(change.is_some(), ejected, "{name}: {change:?}");
        assert!(matches!(
            change,
            None | Some(Change::Ejected(Cause::ErrorRate(_), _))
        ));
    }
    // What is older than the window does not count.
    let mut one = One::new(
        &EjectRules {
            consecutive: 0,
            ..RULES
        },
        NONE,
    );
    one.saw_all(1.0, &[Observation::Failed; 9]);
    let later: Vec<_> = std::iter::repeat_n(good(), 9)
        .chain([Observation::Failed])
        .collect();
    assert_eq!(one.saw_all(30.0, &later), None);
}

#[test]
fn an_ejected_backend_comes_back_by_a_trial_and_goes_for_longer_if_that_fails() {
    let mut one = One::new(&RULES, NONE);
    one.saw_all(0.0, &[Observation::Failed; 3]);
    assert_eq!(one.health.gate(), Gate::Ejected(s(10.0)));
    for (name, at, seen, trial, change, gate) in [
        (
            "begun before: fails",
            1.0,
            Observation::Failed,
            false,
            None,
            Gate::Ejected(s(10.0)),
        ),
        (
            "begun before: succeeds",
            1.0,
            good(),
            false,
            None,
            Gate::Ejected(s(10.0)),
        ),
        (
            "the trial fails",
            10.0,
            Observation::Failed,
            true,
            Some(Change::Ejected(Cause::Trial, s(20.0))),
            Gate::Ejected(s(30.0)),
        ),
        (
            "again",
            30.0,
            Observation::Failed,
            true,
            Some(Change::Ejected(Cause::Trial, s(40.0))),
            Gate::Ejected(s(70.0)),
        ),
        (
            "never for longer than max_time",
            70.0,
            Observation::Failed,
            true,
            Some(Change::Ejected(Cause::Trial, s(60.0))),
            Gate::Ejected(s(130.0)),
        ),
        (
            "a good one",
            130.0,
            good(),
            true,
            Some(Change::Returned),
            Gate::Warming(s(130.0)),
        ),
    ] {
        assert_eq!(one.tried(at, seen, trial), change, "{name}");
        assert_eq!(one.health.gate(), gate, "{name}");
    }
    // Soon after: twice as long again; after a long time well: as at first.
    let change = one.saw_all(140.0, &[Observation::Failed; 3]);
    assert_eq!(
        change,
        Some(Change::Ejected(Cause::Consecutive(3), s(60.0)))
    );
    assert_eq!(one.tried(200.0, good(), true), Some(Change::Returned));
    let change = one.saw_all(900.0, &[Observation::Failed; 3]);
    assert_eq!(
        change,
        Some(Change::Ejected(Cause::Consecutive(3), s(10.0)))
    );
}

#[test]
fn what_may_not_be_ejected_stays() {
    let mut one = One::new(&RULES, NONE);
    one.may = false;
    assert_eq!(one.saw_all(0.0, &[Observation::Failed; 20]), None);
    assert_eq!(one.health.gate(), Gate::Open);
}

#[test]
fn failed_connections_make_a_backend_unreachable_until_one_succeeds() {
    use Observation::{ConnectFailed, Failed};
    for (name, seen, unreachable) in [
        ("enough", &[ConnectFailed; 3][..], true),
        ("too few", &[ConnectFailed; 2], false),
        (
            "reached in between",
            &[ConnectFailed, ConnectFailed, Failed, ConnectFailed],
            false,
        ),
        (
            "an answer in between",
            &[ConnectFailed, ConnectFailed, good(), ConnectFailed],
            false,
        ),
    ] {
        let mut one = One::new(&OFF, NONE);
        // Also where nothing may be ejected: whoever went there would get nothing.
        one.may = false;
        let change = one.saw_all(1.0, seen);
        assert_eq!(change, unreachable.then_some(Change::Unreachable), "{name}");
        assert_eq!(
            one.health.gate() == Gate::Unreachable,
            unreachable,
            "{name}"
        );
    }
    let mut one = One::new(&OFF, NONE);
    one.saw_all(1.0, &[ConnectFailed; 3]);
    assert_eq!(one.health.reached(s(2.0)), Some(Change::Reachable));
    assert_eq!(one.health.reached(s(2.0)), None);
    assert_eq!(one.health.gate(), Gate::Warming(s(2.0)));
    one.saw_all(3.0, &[ConnectFailed; 3]);
    assert_eq!(one.saw(4.0, good()), Some(Change::Reachable));
    one.saw_all(5.0, &[ConnectFailed; 3]);
    assert_eq!(one.health.probe(PROBES, s(6.0), true), None);
    assert_eq!(
        one.health.gate(),
        Gate::Unreachable,
        "a probe may go elsewhere"
    );
    assert_eq!(one.saw(7.0, Failed), None, "it may have begun before");
    assert_eq!(one.health.gate(), Gate::Unreachable);
}

#[test]
fn probes_turn_a_backend_after_rise_and_fall() {
    let mut health = Health::new(true, s(10.0));
    assert_eq!(health.gate(), Gate::Checking);
    let up = Gate::Warming;
    for (name, good, change, gate) in [
        (
            "the first one counts at once",
            true,
            Some(Change::Up),
            Gate::Open,
        ),
        ("fails", false, None, Gate::Open),
        ("fails", false, None, Gate::Open),
        ("not in a row", true, None, Gate::Open),
        ("fails", false, None, Gate::Open),
        ("fails", false, None, Gate::Open),
        ("the third in a row", false, Some(Change::Down), Gate::Down),
        ("fails", false, None, Gate::Down),
        ("succeeds", true, None, Gate::Down),
        ("the second in a row", true, Some(Change::Up), up(s(5.0))),
    ] {
        assert_eq!(health.probe(PROBES, s(5.0), good), change, "{name}");
        assert_eq!(health.gate(), gate, "{name}");
    }
    let mut health = Health::new(true, s(10.0));
    assert_eq!(health.probe(PROBES, s(1.0), false), Some(Change::Down));
    let once = ProbeRules { rise: 1, fall: 1 };
    let mut health = Health::new(false, s(10.0));
    assert_eq!(health.probe(once, s(1.0), false), Some(Change::Down));
    assert_eq!(health.gate(), Gate::Down);
    // `initial: up` has it take requests until `fall` probes have failed.
    let mut health = Health::new(false, s(10.0));
    assert_eq!(health.gate(), Gate::Open);
    assert_eq!(health.probe(PROBES, s(1.0), false), None);
    assert_eq!(health.probe(PROBES, s(1.0), false), None);
    assert_eq!(health.probe(PROBES, s(1.0), false), Some(Change::Down));
    // A file without a check: what probes said is forgotten.
    health.settle(false, s(10.0));
    assert_eq!(health.gate(), Gate::Open);
}

#[test]
fn an_unreachable_backend_is_not_ejected_besides() {
    // However it is found to be reachable: what could not be sent there says nothing any more.
    type Way = fn(&mut One) -> Option<Change>;
    let ways: [(&str, Way); 2] = [
        ("a connection", |one| one.health.reached(s(2.0))),
        ("a good answer", |one| one.saw(2.0, good())),
    ];
    for (name, way) in ways {
        let mut one = One::new(&RULES, NONE);
        // All of these were under way when it went.
        let change = one.saw_all(1.0, &[Observation::ConnectFailed; 20]);
        assert_eq!(change, Some(Change::Unreachable));
        assert_eq!(
            one.saw(1.5, Observation::Failed),
            None,
            "nor does a timeout"
        );
        assert_eq!(one.health.gate(), Gate::Unreachable);
        assert_eq!(way(&mut one), Some(Change::Reachable), "{name}");
        assert_eq!(one.health.gate(), Gate::Warming(s(2.0)), "{name}");
        assert_eq!(one.saw(2.1, Observation::Failed), None, "{name}");
        assert_eq!(one.health.gate(), Gate::Warming(s(2.0)), "{name}");
    }
}

#[test]
fn a_trial_that_is_late_is_not_followed_by_the_next_at_once() {
    let mut one = One::new(&RULES, NONE);
    let change = one.saw_all(1.0, &[Observation::Failed; 3]);
    assert!(matches!(
        change,
        Some(Change::Ejected(Cause::Consecutive(3), _))
    ));
    let Gate::Ejected(until) = one.health.gate() else {
        panic!("it is ejected");
    };
    let late = Observation::Late(s(1.0));
    assert_eq!(one.tried(until.as_secs_f64() - 0.5, late, true), None);
    assert_eq!(one.tried(until.as_secs_f64() + 0.5, late, false), None);
    let change = one.tried(until.as_secs_f64() + 0.5, late, true);
    assert!(
        matches!(change, Some(Change::Ejected(Cause::Overtaken, _))),
        "{change:?}"
    );
    // As far off as the one before, for it did not fail.
    let lasts = until - s(1.0);
    assert_eq!(one.health.gate(), Gate::Ejected(until + s(0.5) + lasts));
}

#[test]
fn a_good_answer_of_an_unreachable_backend_outdoes_probes_that_could_not_connect() {
    let mut one = One::new(&OFF, NONE);
    for _ in 0..3 {
        one.health.probe(PROBES, s(1.0), false);
        one.saw(1.0, Observation::ConnectFailed);
    }
    assert_eq!(one.health.gate(), Gate::Unreachable);
    assert_eq!(one.saw(2.0, good()), Some(Change::Reachable));
    assert_eq!(one.health.gate(), Gate::Warming(s(2.0)));
    // That it can be connected to alone does not.
    for _ in 0..3 {
        one.health.probe(PROBES, s(3.0), false);
        one.saw(3.0, Observation::ConnectFailed);
    }
    one.health.reached(s(4.0));
    assert_eq!(one.health.gate(), Gate::Down);
}

#[test]
fn how_many_of_a_pool_may_be_ejected() {
    for (pool, ejected, max, may) in [
        (0, 0, 0.5, false),
        (1, 0, 1.0, false),
        (2, 0, 0.5, true),
        (2, 1, 1.0, false),
        (2, 0, 0.1, true),
        (2, 0, 0.0, false),
        (3, 0, 0.5, true),
        (3, 1, 0.5, false),
        (3, 1, 1.0, true),
        (3, 2, 1.0, false),
        (4, 1, 0.5, true),
        (4, 2, 0.5, false),
        (10, 4, 0.5, true),
        (10, 5, 0.5, false),
    ] {
        assert_eq!(
            may_eject(pool, ejected, max),
            may,
            "{ejected} of {pool}, {max}"
        );
    }
}

#[test]
fn slow_ones_are_compared_with_the_others() {
    let ms = |n: u64| Some(Duration::from_millis(n));
    for (name, medians, i, slower_than) in [
        (
            "three times as slow",
            &[ms(10), ms(10), ms(30)][..],
            2,
            Some(3.0),
        ),
        ("not enough", &[ms(10), ms(10), ms(29)], 2, None),
        ("itself unknown", &[ms(10), None], 1, None),
        ("nobody to compare with", &[ms(10), None], 0, None),
        ("alone", &[ms(10)], 0, None),
        (
            "the better of two others",
            &[ms(10), ms(100), ms(100)],
            2,
            Some(10.0),
        ),
        (
            "the middle of three others",
            &[ms(10), ms(50), ms(60), ms(100)],
            3,
            None,
        ),
        ("out of range", &[ms(10)], 7, None),
    ] {
        let ratio = slower(medians, i, 3.0);
        assert_eq!(ratio.map(|r| r.round()), slower_than, "{name}");
    }
    let mut one = One::new(&RULES, NONE);
    let change = one.health.too_slow(&RULES, s(1.0), 4.0, || true);
    assert_eq!(change, Some(Change::Ejected(Cause::Latency(4.0), s(10.0))));
    assert_eq!(one.health.too_slow(&RULES, s(2.0), 4.0, || true), None);
}

#[test]
fn a_share_grows_while_a_backend_warms_up() {
    for (after, share) in [(0.0, 0.1), (0.5, 0.1), (5.0, 0.5), (10.0, 1.0), (99.0, 1.0)] {
        let now = s(100.0 + after);
        assert_eq!(warm_share(now, s(100.0), s(10.0)), share, "{after}");
    }
    assert_eq!(warm_share(s(1.0), s(1.0), Duration::ZERO), 1.0);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Saw(usize, Observation),
    Probe(usize, bool),
    Wait(f64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let seen = prop_oneof![
        Just(Observation::Good(Duration::from_millis(1))),
        Just(Observation::Failed),
        Just(Observation::Failed),
        Just(Observation::ConnectFailed),
    ];
    prop_oneof![
        8 => (0..5usize, seen).prop_map(|(i, seen)| Step::Saw(i, seen)),
        1 => (0..5usize, any::<bool>()).prop_map(|(i, good)| Step::Probe(i, good)),
        1 => (0.0..20.0).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens to a pool: no more are ejected than may be, and never the last one.
    #[test]
    fn never_too_many_and_never_the_last(
        steps in prop::collection::vec(any_step(), 1..300),
        max_ejected in prop::sample::select(vec![0.0, 0.2, 0.5, 1.0]),
    ) {
        let mut pool: Vec<Health> = (0..5).map(|_| Health::new(false, s(10.0))).collect();
        let mut now = 0.0;
        for step in steps {
            now += 0.01;
            match step {
                Step::Wait(time) => now += time,
                Step::Probe(i, good) => {
                    pool[i].probe(PROBES, s(now), good);
                }
                Step::Saw(i, seen) => {
                    let open = |gate: Gate| {
                        matches!(gate, Gate::Open | Gate::Warming(_) | Gate::Ejected(_))
                    };
                    let gates: Vec<Gate> = pool.iter().map(Health::gate).collect();
                    let all = gates.iter().filter(|g| open(**g)).count();
                    let out = gates.iter().filter(|g| matches!(g, Gate::Ejected(_))).count();
                    let trial = matches!(gates[i], Gate::Ejected(until) if until <= s(now));
                    let may = || may_eject(all, out, max_ejected);
                    let change = pool[i].observe(&RULES, NONE, s(now), seen, trial, may);
                    if let Some(Change::Ejected(cause, lasts)) = change {
                        prop_assert!(lasts <= RULES.max_time);
                        if !matches!(cause, Cause::Trial | Cause::Overtaken) {
                            prop_assert!(all >= 2, "the last one");
                            prop_assert!(out + 1 < all, "the last one in rotation");
                            let limit = (all as f64 * max_ejected).max(1.0);
                            prop_assert!(max_ejected > 0.0 && (out + 1) as f64 <= limit);
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    /// What workers note beside a backend's health instead of telling it.
    #[test]
    fn a_good_answer_of_a_sound_backend_changes_nothing_but_the_window(
        steps in prop::collection::vec((0..5_u8, any::<bool>(), 0..1_500_u64), 0..60),
    ) {
        let mut health = Health::new(false, Duration::from_secs(10));
        let mut now = Duration::from_secs(1);
        let but_window = |health: &Health| format!("{health:?}").split("window:").next().map(str::to_owned);
        for (what, trial, wait) in steps {
            now += Duration::from_millis(wait);
            let good = Observation::Good(Duration::from_millis(3));
            if health.is_sound() {
                let before = but_window(&health);
                let change = health.observe(&RULES, FailRules::default(), now, good, false, || true);
                prop_assert_eq!(change, None);
                prop_assert_eq!(before, but_window(&health));
            }
            match what {
                0 => drop(health.probe(ProbeRules { rise: 2, fall: 2 }, now, trial)),
                1 => drop(health.reached(now)),
                2 => drop(health.observe(&RULES, FailRules::default(), now, good, trial, || true)),
                3 => drop(health.observe(&RULES, FailRules::default(), now, Observation::Failed, trial, || true)),
                _ => drop(health.observe(&RULES, FailRules::default(), now, Observation::ConnectFailed, trial, || true)),
            }
        }
    }
}
