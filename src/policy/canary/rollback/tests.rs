//! Each rule as a table, and the evidence against exact probabilities.

use super::*;
use proptest::prelude::*;

fn rules(success_below: Option<f64>) -> Rollback {
    Rollback {
        success_below,
        p95_above_stable: None,
        after: 50,
        window: Duration::from_secs(60),
    }
}

/// `failed` of `of`.
fn totals((failed, of): (u64, u64)) -> Totals {
    Totals {
        good: of - failed,
        failed,
    }
}

#[test]
fn success_below_a_bound_or_worse_than_stables() {
    use Rule::{SuccessBelow, WorseThanStable};
    let below = Some(SuccessBelow(0.99));
    let worse = Some(WorseThanStable);
    for (what, bound, canary, stable, expected) in [
        ("clearly below", Some(0.99), (10, 50), (1, 950), below),
        ("just enough", Some(0.99), (8, 50), (0, 0), below),
        ("one less is not", Some(0.99), (7, 50), (0, 0), None),
        ("at the bound", Some(0.99), (100, 10_000), (0, 0), None),
        ("below by chance", Some(0.99), (120, 10_000), (0, 0), None),
        ("not by chance", Some(0.99), (160, 10_000), (0, 0), below),
        ("nothing is above 100 %", Some(1.0), (1, 50), (0, 0), {
            Some(SuccessBelow(1.0))
        }),
        ("all good at 100 %", Some(1.0), (0, 5_000), (0, 0), None),
        ("nothing is below 0 %", Some(0.0), (50, 50), (0, 0), None),
        ("both below", Some(0.99), (200, 1_000), (200, 1_000), below),
        ("no bound, no stable", None, (50, 50), (0, 0), None),
        ("equally shaky", None, (200, 1_000), (3_800, 19_000), None),
        ("shakier by chance", None, (15, 50), (190, 950), None),
        ("just worse", None, (5, 50), (0, 950), worse),
        ("one less is not worse", None, (4, 50), (0, 950), None),
        (
            "all fail, stable is shaky",
            None,
            (50, 50),
            (190, 950),
            worse,
        ),
        (
            "little stable is little to go by",
            None,
            (10, 50),
            (0, 5),
            None,
        ),
        ("stable is worse", None, (5, 50), (500, 950), None),
        ("stable always fails", None, (50, 50), (950, 950), None),
        ("no failures", None, (0, 50), (0, 950), None),
    ] {
        let found = by_success(&rules(bound), totals(canary), totals(stable));
        assert_eq!(found, expected, "{what}");
    }
}

/// Windows of `stable` and `canary`, each a list of (how many, milliseconds).
fn judged(factor: f64, canary: &[(u32, u64)], stable: &[(u32, u64)], latest: u64) -> Option<Rule> {
    let rules = Rollback {
        p95_above_stable: Some(factor),
        ..rules(None)
    };
    let window = |latencies: &[(u32, u64)]| {
        let mut window = Window::new(rules.window);
        for &(count, ms) in latencies {
            (0..count).for_each(|_| window.record(NOW, true, Duration::from_millis(ms)));
        }
        window
    };
    let latest = Duration::from_millis(latest);
    by_latency(
        &rules,
        NOW,
        &mut window(canary),
        &mut window(stable),
        latest,
    )
}

const NOW: Duration = Duration::from_secs(1);

#[test]
fn p95_above_that_of_stable() {
    let broken = Some(Rule::P95AboveStable(1.5));
    let stable = &[(900, 10), (100, 40)][..];
    for (what, canary, stable, latest, expected) in [
        (
            "twice as slow",
            &[(40, 20), (20, 80)][..],
            stable,
            80,
            broken,
        ),
        (
            "the latest is fast",
            &[(40, 20), (20, 80)],
            stable,
            20,
            None,
        ),
        ("one slow answer", &[(59, 10), (1, 80)], stable, 80, None),
        (
            "as slow as stable",
            &[(900, 10), (100, 40)],
            stable,
            40,
            None,
        ),
        ("slower, but not by so much", &[(60, 55)], stable, 55, None),
        ("some 7 % above", &[(930, 10), (70, 80)], stable, 80, None),
        (
            "some 12 % above",
            &[(880, 10), (120, 80)],
            stable,
            80,
            broken,
        ),
        ("too few", &[(49, 80)], stable, 80, None),
        ("enough", &[(50, 80)], stable, 80, broken),
        ("too few of stable", &[(50, 80)], &[(49, 10)], 80, None),
        ("enough of stable", &[(50, 80)], &[(50, 10)], 80, broken),
        ("no stable", &[(50, 80)], &[], 80, None),
        ("faster", &[(500, 5)], stable, 5, None),
    ] {
        assert_eq!(judged(1.5, canary, stable, latest), expected, "{what}");
    }
    assert_eq!(judged(3.0, &[(60, 80)], &[(950, 40)], 80), None);
    for factor in [f64::INFINITY, f64::NAN, -1.0, 1e300] {
        assert_eq!(judged(factor, &[(60, 80)], stable, 80), None, "{factor}");
    }
}

#[test]
fn without_the_rule_no_latency_is_too_long() {
    let mut canary = Window::new(NOW);
    (0..500).for_each(|_| canary.record(NOW, true, NOW));
    let mut stable = Window::new(NOW);
    (0..500).for_each(|_| stable.record(NOW, true, NOW / 100));
    let found = by_latency(&rules(None), NOW, &mut canary, &mut stable, NOW);
    assert_eq!(found, None);
}

#[test]
fn what_the_log_says() {
    let side = |failed_of, p95| SideFigures {
        outcomes: totals(failed_of),
        p95: Some(Duration::from_micros(p95)),
    };
    let canary = side((10, 50), 84_100);
    let stable = side((1, 1_000), 41_250);
    let none = SideFigures::default();
    for (rule, canary, stable, expected) in [
        (
            Rule::SuccessBelow(0.99),
            canary,
            stable,
            "success 80.00 % of 50 requests is below 99 % (stable: 99.90 % of 1000)",
        ),
        (
            Rule::SuccessBelow(0.57),
            side((1_000_000, 1_000_001), 1),
            none,
            "success 0.00 % of 1000001 requests is below 57 % (stable: no requests)",
        ),
        (
            Rule::SuccessBelow(0.9995),
            side((501, 1_000_000), 1),
            side((1, 1_000_000), 1),
            "success 99.94 % of 1000000 requests is below 99.95 % (stable: 99.99 % of 1000000)",
        ),
        (
            Rule::WorseThanStable,
            canary,
            stable,
            "success 80.00 % of 50 requests is worse than stable's 99.90 % of 1000",
        ),
        (
            Rule::P95AboveStable(1.5),
            canary,
            stable,
            "p95 84.1 ms of 40 good requests is above 1.5 times stable's 41.2 ms of 999",
        ),
    ] {
        let figures = Figures {
            rule,
            canary,
            stable,
        };
        assert_eq!(figures.to_string(), expected);
    }
}

/// The logarithms of the factorials up to `n`.
fn log_factorials(n: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let next = |i: usize| {
        sum += (i.max(1) as f64).ln();
        sum
    };
    (0..=n).map(next).collect()
}

/// The logarithm of the number of ways to take `k` of `n`.
fn log_choose(factorials: &[f64], n: usize, k: usize) -> f64 {
    factorials[n] - factorials[k] - factorials[n - k]
}

proptest! {
    /// Never overstated, and understated only by what Chernoff's bound is known to give away.
    #[test]
    fn evidence_is_chernoffs_bound(n in 1..400usize, k in 0..400usize, rate in 0.001..0.999f64) {
        let k = k % (n + 1);
        let evidence = Part::new(k as u64, n as u64).evidence_above(rate);
        if k as f64 / n as f64 <= rate {
            prop_assert_eq!(evidence, 0.0);
            return Ok(());
        }
        let factorials = log_factorials(n);
        let log_chance = |i: usize| {
            log_choose(&factorials, n, i) + i as f64 * rate.ln() + (n - i) as f64 * (1.0 - rate).ln()
        };
        // The first is the largest. Without it, they may be too small for their type.
        let first = log_chance(k);
        let surprise = -first - (k..=n).map(|i| (log_chance(i) - first).exp()).sum::<f64>().ln();
        prop_assert!(evidence <= surprise + 1e-6, "{evidence} for {surprise}");
        let least = surprise - (n as f64 + 1.0).ln() - 1e-6;
        prop_assert!(evidence >= least, "{evidence} for {surprise}");
    }

    /// Against Fisher's exact test: of all ways in which as many failures could have fallen on the two sides, how many have
    /// as many of them, or more, on the canary's.
    #[test]
    fn evidence_of_a_difference_is_that_of_fishers_test(
        canary in (1..300usize, 0..300usize),
        stable in (1..300usize, 0..300usize),
    ) {
        let ((n, k), (m, l)) = ((canary.0, canary.1 % (canary.0 + 1)), (stable.0, stable.1 % (stable.0 + 1)));
        let factorials = log_factorials(n + m);
        let failures = k + l;
        let chance = |i: usize| {
            (log_choose(&factorials, n, i) + log_choose(&factorials, m, failures - i)
                - log_choose(&factorials, n + m, failures)).exp()
        };
        let surprise = -(k..=n.min(failures)).map(chance).sum::<f64>().ln();
        let (canary, stable) = (Part::new(k as u64, n as u64), Part::new(l as u64, m as u64));
        let evidence = canary.evidence_above_that_of(stable);
        // Where the sides have nothing in common, all of one fail and none of the other, there is one such way, and their
        // number is overrated by this at most (MacWilliams, Sloane: "The Theory of Error-Correcting Codes", chapter 10, lemma 7).
        let all = (n + m) as f64;
        let spread = failures as f64 * (all - failures as f64) / all;
        let allowed = (0.5 * (8.0 * spread).ln()).max(0.0);
        prop_assert!(evidence <= surprise + allowed + 1e-6, "{evidence} for {surprise}");
        prop_assert!(evidence == 0.0 || evidence >= surprise - all.ln() - 1e-6);
        // Where it decides, it is a matter of a few in a million.
        prop_assert!(n < 50 || evidence <= ENOUGH || surprise > 12.5, "{evidence} for {surprise}");
        prop_assert_eq!(stable.evidence_above_that_of(stable), 0.0);
    }
}

#[test]
fn a_rule_is_known_by_its_word_and_bound() {
    for rule in [
        Rule::SuccessBelow(0.99),
        Rule::WorseThanStable,
        Rule::P95AboveStable(1.5),
    ] {
        assert_eq!(Rule::of(rule.word(), rule.bound()), Some(rule));
    }
    assert_eq!(Rule::of("success_below", None), None);
    assert_eq!(Rule::of("worse_than_stable", Some(1.0)), None);
    assert_eq!(Rule::of("too_loud", None), None);
}
