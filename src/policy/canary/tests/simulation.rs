//! Canaries that are well or ill, by chance, over many runs. The chance is the same in each run of the tests.

use super::*;

const RUNS: u64 = 100;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In 0.0..1.0.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Of a part that is always there and a tail: 5 ms at least, 35 ms on average, 95 ms at the 95th percentile.
    fn latency(&mut self) -> f64 {
        0.005 - 0.03 * (1.0 - self.share()).ln()
    }
}

/// How a side does.
#[derive(Clone, Copy)]
struct Health {
    /// The share of failures.
    failing: f64,
    /// What latencies are multiplied with.
    slowness: f64,
}

impl Health {
    fn failing(failing: f64) -> Self {
        Health {
            failing,
            slowness: 1.0,
        }
    }
}

/// What a run came to.
#[derive(Debug)]
struct Run {
    rule: Rule,
    /// Canary requests until it was rolled back.
    requests: u32,
    /// Failures among these.
    failures: u32,
}

/// 100 requests a second until rolled back, or 20 000 of them: 6 000 in the window.
fn run(rules: &CanaryRules, seed: u64, stable: Health, canary: Health) -> Option<Run> {
    let mut split = Canary::new(rules, Duration::ZERO);
    let mut chance = Chance(seed);
    let (mut requests, mut failures) = (0, 0);
    for turn in 0..20_000 {
        let now = Duration::from_millis(10 * turn);
        let side = split.choose(rules, turn, None);
        let health = match side {
            Side::Stable => stable,
            Side::Canary => canary,
        };
        let good = chance.share() >= health.failing;
        let latency = Duration::from_secs_f64(chance.latency() * health.slowness);
        if side == Side::Canary {
            requests += 1;
            failures += u32::from(!good);
        }
        if let Some(event) = split.observe(rules, now, side, good, latency) {
            let Event::RolledBack(figures) = event else {
                panic!("{event:?}");
            };
            return Some(Run {
                rule: figures.rule,
                requests,
                failures,
            });
        }
    }
    None
}

fn with(hundredths: u16, success_below: Option<f64>, p95_above_stable: Option<f64>) -> CanaryRules {
    let mut rules = rules(hundredths);
    rules.rollback.success_below = success_below;
    rules.rollback.p95_above_stable = p95_above_stable;
    rules
}

#[test]
fn a_canary_as_well_as_stable_is_left_alone() {
    let half = with(5_000, None, Some(1.5));
    for (what, rules, failing) in [
        ("one in a thousand", with(500, Some(0.99), None), 0.001),
        (
            "half of what is allowed",
            with(500, Some(0.99), None),
            0.005,
        ),
        ("shaky on both sides", with(500, None, None), 0.05),
        ("equal latencies", with(500, None, Some(1.5)), 0.0),
        ("shaky, half the share", half, 0.05),
    ] {
        let well = Health::failing(failing);
        for seed in 0..RUNS {
            let run = run(&rules, seed, well, well);
            assert!(run.is_none(), "{what}, seed {seed}: {run:?}");
        }
    }
}

#[test]
fn a_canary_that_fails_every_fifth_is_rolled_back_at_once() {
    let rules = with(500, Some(0.99), None);
    for seed in 0..RUNS {
        let run = run(&rules, seed, Health::failing(0.001), Health::failing(0.2));
        let run = run.unwrap_or_else(|| panic!("seed {seed}"));
        assert!(
            (50..=75).contains(&run.requests) && run.failures <= 25,
            "seed {seed}: {run:?}"
        );
    }
}

#[test]
fn a_canary_worse_than_a_shaky_stable_is_rolled_back() {
    let rules = with(500, None, None);
    for seed in 0..RUNS {
        let run = run(&rules, seed, Health::failing(0.05), Health::failing(0.25));
        let run = run.unwrap_or_else(|| panic!("seed {seed}"));
        assert_eq!(run.rule, Rule::WorseThanStable);
        assert!(run.requests <= 250, "seed {seed}: {run:?}");
    }
}

#[test]
fn a_slow_canary_is_rolled_back() {
    let slow = Health {
        failing: 0.001,
        slowness: 2.0,
    };
    for (factor, most) in [(1.2, 1_500), (1.5, 3_500)] {
        let rules = with(2_000, Some(0.99), Some(factor));
        for seed in 0..RUNS {
            let run = run(&rules, seed, Health::failing(0.001), slow);
            let run = run.unwrap_or_else(|| panic!("seed {seed}"));
            assert_eq!(run.rule, Rule::P95AboveStable(factor));
            assert!(run.requests <= most, "seed {seed}: {run:?}");
        }
    }
}
