//! Rates as tables, GCRA against a token bucket, and what a full table forgets.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn rules(count: u32, period: Duration, burst: u32) -> RateRules {
    RateRules::new(count, period, burst).unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ns(ns: u64) -> Duration {
    Duration::from_nanos(ns)
}

fn small() -> Table {
    Table::with_keys(1)
}

/// How many of `asked` requests are allowed at once.
fn allowed(table: &mut Table, rules: &RateRules, key: u64, asked: u32, now: Duration) -> u32 {
    let take = |_: &u32| table.take(rules, key, now).allowed;
    (0..asked).filter(take).count() as u32
}

/// Numbers spread as those of a good hash (SplitMix64), one for each `i` and all different.
fn hash(i: u64) -> u64 {
    let z = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[test]
fn rates_as_written() {
    let year = SECOND * 365 * 24 * 3_600;
    for (what, count, period, burst, interval) in [
        ("10/s", 10, SECOND, 20, Ok(ms(100))),
        ("600/m", 600, SECOND * 60, 1, Ok(ms(100))),
        ("1000/h", 1_000, SECOND * 3_600, 50, Ok(ms(3_600))),
        ("rounded down", 3, SECOND, 1, Ok(ns(333_333_333))),
        ("the fastest", 1_000_000_000, SECOND, u32::MAX, Ok(ns(1))),
        ("a burst of a century", 1, year, 100, Ok(year)),
        (
            "too fast",
            1_000_000_001,
            SECOND,
            1,
            Err(RateError::TooFast),
        ),
        ("no time", 1, Duration::ZERO, 1, Err(RateError::TooFast)),
        ("no count", 0, SECOND, 1, Err(RateError::NothingPasses)),
        ("no burst", 1, SECOND, 0, Err(RateError::NothingPasses)),
        ("too slow", 1, Duration::MAX, 1, Err(RateError::TooSlow)),
        ("too slow a burst", 1, year, 200, Err(RateError::TooSlow)),
        (
            "the slowest there could be",
            1,
            Duration::MAX,
            u32::MAX,
            Err(RateError::TooSlow),
        ),
    ] {
        let rules = RateRules::new(count, period, burst);
        assert_eq!(rules.map(|r| r.interval()), interval, "{what}");
        assert_eq!(rules.map_or(burst, |r| r.burst()), burst, "{what}");
    }
    assert!(
        RateError::TooFast
            .to_string()
            .contains("leave the limit out")
    );
}

#[test]
fn one_client_step_by_step() {
    // 10 a second, 3 at once.
    let rules = rules(10, SECOND, 3);
    let mut table = small();
    for (at, allowed, remaining, retry_after, reset) in [
        (5_000, true, 2, 0, 100),
        (5_000, true, 1, 0, 200),
        (5_000, true, 0, 0, 300),
        (5_000, false, 0, 100, 300),
        (5_000, false, 0, 100, 300),
        (5_060, false, 0, 40, 240),
        (5_100, true, 0, 0, 300),
        (5_100, false, 0, 100, 300),
        (5_250, true, 0, 0, 250),
        (5_500, true, 2, 0, 100),
        (5_599, true, 1, 0, 101),
        (9_000, true, 2, 0, 100),
        // A clock that was read earlier counts as the latest.
        (1_000, true, 1, 0, 200),
    ] {
        let verdict = Verdict {
            allowed,
            remaining,
            retry_after: ms(retry_after),
            reset: ms(reset),
        };
        assert_eq!(table.take(&rules, 7, ms(at)), verdict, "at {at} ms");
    }
}

#[test]
fn who_only_looks_is_told_the_same_and_uses_nothing_up() {
    let (mut table, rules) = (small(), rules(1, SECOND, 2));
    for at in [0, 1, 2, 500, 1_200, 1_300] {
        let seen = table.peek(&rules, 7, ms(at));
        assert_eq!(table.peek(&rules, 7, ms(at)), seen, "{at}");
        assert_eq!(table.take(&rules, 7, ms(at)), seen, "{at}");
    }
}

#[test]
fn clients_do_not_share_a_limit() {
    let rules = rules(1, SECOND, 2);
    let mut table = small();
    for key in [0, 1, 2, 1 << 63, u64::MAX] {
        assert_eq!(allowed(&mut table, &rules, key, 5, SECOND), 2, "{key}");
        assert_eq!(allowed(&mut table, &rules, key, 5, SECOND), 0, "{key}");
    }
}

#[test]
fn the_ends_of_time_are_no_trouble() {
    let slow = rules(1, ns(LONGEST), 1);
    for now in [Duration::ZERO, ns(LONGEST), ns(u64::MAX), Duration::MAX] {
        let mut table = small();
        assert!(table.take(&slow, 1, now).allowed);
        let verdict = table.take(&slow, 1, now);
        assert!(!verdict.allowed);
        assert_eq!(verdict.retry_after, ns(LONGEST));
    }
}

#[test]
fn what_was_used_up_carries_over_to_new_rules() {
    let hours = rules(1, SECOND * 3_600, 10);
    let seconds = rules(1, SECOND, 5);
    let mut table = small();
    assert_eq!(allowed(&mut table, &hours, 1, 99, SECOND), 10);
    // Ten hours ahead, which is cut to the five seconds that the new burst is.
    let verdict = table.take(&seconds, 1, SECOND);
    assert_eq!((verdict.allowed, verdict.retry_after), (false, SECOND));
    assert_eq!(verdict.reset, 5 * SECOND);
    assert_eq!(allowed(&mut table, &seconds, 1, 99, 2 * SECOND), 1);
    assert_eq!(allowed(&mut table, &seconds, 1, 99, 10 * SECOND), 5);
    // Five seconds ahead, little of a window of ten hours, but a part of one request.
    assert_eq!(allowed(&mut table, &hours, 1, 99, 10 * SECOND), 9);
}

#[test]
fn fields() {
    let at = |remaining, retry_after, reset| Verdict {
        allowed: retry_after == 0,
        remaining,
        retry_after: ns(retry_after),
        reset: ns(reset),
    };
    for (verdict, limit, retry_after) in [
        (at(19, 0, 100_000_000), "\"default\";r=19;t=1", 0),
        (at(5, 0, 1_000_000_000), "\"default\";r=5;t=1", 0),
        (at(0, 1, 1_000_000_001), "\"default\";r=0;t=1", 1),
        (
            at(0, 2_000_000_001, 7_000_000_000),
            "\"default\";r=0;t=3",
            3,
        ),
        (at(u32::MAX, 0, 0), "\"default\";r=4294967295;t=0", 0),
    ] {
        assert_eq!(verdict.limit_field(), limit);
        assert_eq!(verdict.retry_after_seconds(), retry_after, "{limit}");
    }
    for (rules, policy) in [
        (rules(10, SECOND, 20), "\"default\";q=20;w=2"),
        (rules(10, SECOND, 21), "\"default\";q=21;w=3"),
        (rules(10, SECOND, 1), "\"default\";q=1;w=1"),
        (rules(1_000_000_000, SECOND, 1), "\"default\";q=1;w=1"),
        (rules(100, 60 * SECOND, 100), "\"default\";q=100;w=60"),
    ] {
        assert_eq!(rules.policy_field(), policy);
    }
}

#[test]
fn memory_is_what_was_asked_for() {
    for (asked, keys) in [
        (0, 16),
        (1, 16),
        (16, 16),
        (17, 24),
        (1_000_000, 1_000_000),
        (1_000_001, 1_000_008),
    ] {
        let table = Table::with_keys(asked);
        assert_eq!(table.keys(), keys);
        assert_eq!(table.bytes(), keys * 16);
        assert_eq!(
            format!("{table:?}"),
            format!("Table {{ keys: {keys}, .. }}")
        );
    }
    assert_eq!(Table::with_keys(usize::MAX).bytes(), 1 << 30);
}

#[test]
fn a_million_keys() {
    let rules = rules(1, 3_600 * SECOND, 1);
    let mut table = Table::with_keys(1_000_000);
    let bytes = table.bytes();
    let allowed = |table: &mut Table, keys: std::ops::Range<u64>, hours: u32| {
        let now = hours * 3_600 * SECOND;
        keys.filter(|i| table.take(&rules, hash(*i), now).allowed)
            .count()
    };
    // Nobody is forgotten with twice the room, whoever had it before: all are allowed once.
    for hours in 1..4 {
        let half = u64::from(hours) * 500_000;
        let half = half..half + 500_000;
        assert_eq!(allowed(&mut table, half.clone(), hours), 500_000);
        assert_eq!(allowed(&mut table, half, hours), 0, "hour {hours}");
    }
    // Far more than there is room for: all that are new are allowed, some are forgotten, and memory stays what it is.
    assert_eq!(allowed(&mut table, 3_000_000..4_500_000, 3), 1_500_000);
    assert!(allowed(&mut table, 1_500_000..2_000_000, 3) > 0);
    assert_eq!(table.bytes(), bytes);
}

#[test]
fn who_sent_most_is_remembered_longest() {
    let rules = rules(1, SECOND, 100);
    let mut table = Table::with_keys(1_000);
    for heavy in 0..100 {
        assert_eq!(allowed(&mut table, &rules, hash(heavy), 200, SECOND), 100);
    }
    // A flood of clients that send once displaces itself.
    for light in 100..100_000 {
        assert_eq!(allowed(&mut table, &rules, hash(light), 1, SECOND), 1);
    }
    for heavy in 0..100 {
        assert_eq!(allowed(&mut table, &rules, hash(heavy), 200, SECOND), 0);
    }
}

#[test]
fn sets_are_two_and_all_are_used_alike() {
    // Counters and addresses in place of hashes, too.
    for (what, key) in [
        ("hashes", hash as fn(u64) -> u64),
        ("counters", |i| i),
        ("high bits", |i| i << 44),
        ("ports", |i| i << 16),
    ] {
        for sets in [2, 3, 100, 1_000] {
            let table = Table::with_keys(sets * WAYS);
            let mut counts = vec![[0_u32; 2]; sets];
            let each = 1_000;
            for i in 0..(sets * each) as u64 {
                let [one, two] = table.sets_of(key(i));
                assert_ne!(one, two);
                counts[one][0] += 1;
                counts[two][1] += 1;
            }
            let even = (each as u32 * 8 / 10)..(each as u32 * 12 / 10);
            for count in counts.iter().flatten() {
                assert!(even.contains(count), "{what}, {sets} sets: {count}");
            }
        }
    }
}

/// A token bucket: the same decisions in other words. Tokens are counted in ns of refilling.
struct Bucket {
    tokens: u128,
    latest: u128,
}

impl Bucket {
    fn take(&mut self, rules: &RateRules, now: Duration) -> Verdict {
        let (interval, now) = (rules.interval().as_nanos(), now.as_nanos());
        let full = interval * u128::from(rules.burst());
        self.tokens = full.min(self.tokens.saturating_add(now - self.latest));
        self.latest = now;
        let allowed = self.tokens >= interval;
        if allowed {
            self.tokens -= interval;
        }
        let missing = if allowed { 0 } else { interval - self.tokens };
        Verdict {
            allowed,
            remaining: (self.tokens / interval) as u32,
            retry_after: ns(missing as u64),
            reset: ns((full - self.tokens) as u64),
        }
    }
}

/// Rates from one in an hour to a thousand in a second.
fn any_rules() -> impl Strategy<Value = RateRules> {
    let period = prop::sample::select(vec![1, 60, 3_600]);
    (1..1_000u32, period, 1..30u32).prop_map(|(count, s, burst)| rules(count, s * SECOND, burst))
}

/// Times of one client, in intervals of its rate: bursts, about the rate, and pauses.
fn times(rules: RateRules) -> impl Strategy<Value = (RateRules, Vec<Duration>)> {
    let gap = prop_oneof![
        4 => Just(0.0),
        3 => 0.0..1.0f64,
        2 => Just(1.0),
        2 => 0.9..1.2f64,
        1 => 0.0..40.0f64,
    ];
    prop::collection::vec(gap, 1..150).prop_map(move |gaps| {
        let later = |now: &mut Duration, gap: f64| {
            *now += rules.interval().mul_f64(gap);
            Some(*now)
        };
        (rules, gaps.into_iter().scan(SECOND, later).collect())
    })
}

proptest! {
    #[test]
    fn it_decides_like_a_token_bucket((rules, times) in any_rules().prop_flat_map(times), key: u64) {
        let mut table = small();
        let mut bucket = Bucket { tokens: u128::MAX, latest: 0 };
        for now in times {
            prop_assert_eq!(table.take(&rules, key, now), bucket.take(&rules, now));
        }
    }

    #[test]
    fn no_interval_sees_more_than_burst_and_rate((rules, times) in any_rules().prop_flat_map(times)) {
        let mut table = small();
        let allowed: Vec<Duration> = times
            .into_iter()
            .filter(|now| table.take(&rules, 1, *now).allowed)
            .collect();
        for (i, first) in allowed.iter().enumerate() {
            for (n, last) in (1u128..).zip(&allowed[i..]) {
                let refilled = (*last - *first).as_nanos() / rules.interval().as_nanos();
                prop_assert!(n <= u128::from(rules.burst()) + refilled);
            }
        }
    }

    #[test]
    fn whoever_keeps_to_the_rate_is_never_refused(
        count in 1..100_000u32,
        period in prop::sample::select(vec![1, 60, 3_600]),
        burst in 1..5u32,
        pauses in prop::collection::vec(prop_oneof![Just(0.0), 0.0..3.0f64], 1..200),
    ) {
        // The rate as written, without the rounding of its interval: request number n comes no earlier than n of them.
        let period = period * SECOND;
        let rules = rules(count, period, burst);
        let mut table = small();
        let mut paused = Duration::ZERO;
        for (n, pause) in (0u64..).zip(pauses) {
            paused += rules.interval().mul_f64(pause);
            let nanos = (u128::from(n) * period.as_nanos()).div_ceil(count.into());
            let now = SECOND + ns(nanos as u64) + paused;
            prop_assert!(table.take(&rules, 1, now).allowed, "request {n} at {now:?}");
        }
    }

    #[test]
    fn what_a_verdict_says_comes_true((rules, times) in any_rules().prop_flat_map(times)) {
        let mut table = small();
        let mut verdict = None;
        for now in times {
            verdict = Some((now, table.take(&rules, 1, now)));
        }
        let (now, verdict) = verdict.unwrap();
        let again = |at: Duration, asked| {
            let mut table = Table { sets: table.sets.clone(), ..table };
            allowed(&mut table, &rules, 1, asked, at)
        };
        let burst = rules.burst();
        prop_assert_eq!(again(now, burst + 1), verdict.remaining);
        prop_assert_eq!(again(now + verdict.reset, burst + 1), burst);
        prop_assert_eq!(again(now + verdict.reset - ns(1), burst + 1), burst - 1);
        prop_assert_eq!(verdict.retry_after.is_zero(), verdict.allowed);
        if !verdict.allowed {
            prop_assert_eq!(verdict.remaining, 0);
            prop_assert_eq!(again(now + verdict.retry_after, burst + 1), 1);
            prop_assert_eq!(again(now + verdict.retry_after - ns(1), burst + 1), 0);
            let obeyed = now + SECOND * verdict.retry_after_seconds() as u32;
            prop_assert!(again(obeyed, 1) == 1);
        }
    }

    #[test]
    fn nobody_is_forgotten_with_twice_the_room(
        keys in prop::collection::hash_set(any::<u64>(), 1..600),
        takes in prop::collection::vec(any::<prop::sample::Index>(), 1..600),
    ) {
        // As if each had a table of its own.
        let rules = rules(1, SECOND, 3);
        let mut table = Table::with_keys(2 * keys.len());
        let keys: Vec<u64> = keys.into_iter().collect();
        let mut alone: Vec<Table> = keys.iter().map(|_| small()).collect();
        for (step, take) in (0..).zip(takes) {
            // Some have their burst back before the end.
            let (i, now) = (take.index(keys.len()), ms(20) * step);
            let apart = alone[i].take(&rules, keys[i], now);
            prop_assert_eq!(table.take(&rules, keys[i], now), apart);
        }
    }
}
