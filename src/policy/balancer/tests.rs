//! The balancer's choices as tables and properties.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What a pool says of each backend: standing, active.
struct Fixed(Vec<(Standing, u32)>);

impl Pool for Fixed {
    fn standing(&self, i: usize) -> Standing {
        self.0[i].0
    }
    fn active(&self, i: usize) -> u32 {
        self.0[i].1
    }
    fn share(&self, _: usize) -> f64 {
        1.0
    }
}

/// All ready, busy with so many, and up to such a part of their share.
struct Warming(Vec<(u32, f64)>);

impl Pool for Warming {
    fn standing(&self, _: usize) -> Standing {
        Standing::Ready
    }
    fn active(&self, i: usize) -> u32 {
        self.0[i].0
    }
    fn share(&self, i: usize) -> f64 {
        self.0[i].1
    }
}

impl Balancer {
    fn index(
        &self,
        pool: &impl Pool,
        tried: &Tried,
        turn: Turn,
        key: Option<&[u8]>,
    ) -> Option<usize> {
        self.pick(pool, tried, turn, key).map(|pick| pick.index)
    }
}

#[test]
fn a_backend_that_warms_up_carries_a_part_of_the_load() {
    let slots = [1, 1].map(|weight| Slot {
        weight,
        backup: false,
    });
    for balance in [Balance::LeastConn, Balance::RandomTwo] {
        let name = format!("{balance:?}");
        let balancer = Balancer::new(balance, slots.to_vec(), None).unwrap();
        for (busy, share, expected) in [
            ([9, 1], 0.1, 0),
            ([11, 1], 0.1, 1),
            ([3, 1], 0.5, 1),
            ([1, 1], 0.5, 0),
        ] {
            let pool = Warming(vec![(busy[0], 1.0), (busy[1], share)]);
            for dice in 0..20 {
                let turn = Turn {
                    count: dice,
                    dice: dice << 58,
                };
                let pick = balancer.index(&pool, &Tried::default(), turn, None);
                assert_eq!(pick, Some(expected), "{name} {busy:?} {share}");
            }
        }
    }
}

#[test]
fn it_says_whether_its_choice_is_out() {
    use Standing::{Closed, Out, Ready};
    let slots = [1, 1].map(|weight| Slot {
        weight,
        backup: false,
    });
    let balancer = Balancer::new(Balance::RoundRobin, slots.to_vec(), None).unwrap();
    for (pool, expected) in [
        ([Out, Ready], Some((1, false))),
        ([Out, Closed], Some((0, true))),
        ([Closed, Closed], None),
    ] {
        let fixed = Fixed(pool.map(|standing| (standing, 0)).to_vec());
        let pick = balancer.pick(&fixed, &Tried::default(), Turn::default(), None);
        assert_eq!(pick.map(|p| (p.index, p.out)), expected, "{pool:?}");
    }
}

/// Offers all of `0..n` from the key's first byte on, or only the first `offers` of them.
struct Circle {
    n: usize,
    offers: usize,
}

impl Ring for Circle {
    fn walk(&self, key: &[u8], take: &mut dyn FnMut(usize) -> bool) {
        let start = usize::from(key[0]);
        let _ = (0..self.offers).any(|step| take((start + step) % self.n));
    }
}

/// Weights as in `[5, 1, 1]`, backups as negative ones.
fn slots(weights: &[i32]) -> Vec<Slot> {
    let slot = |&w: &i32| Slot {
        weight: w.unsigned_abs(),
        backup: w < 0,
    };
    weights.iter().map(slot).collect()
}

fn balancer(balance: Balance, weights: &[i32]) -> Balancer {
    let n = weights.len();
    Balancer::new(
        balance,
        slots(weights),
        Some(Box::new(Circle { n, offers: n })),
    )
    .unwrap()
}

fn up(n: usize) -> Fixed {
    Fixed(vec![(Standing::Ready, 0); n])
}

fn busy(active: &[u32]) -> Fixed {
    Fixed(
        active
            .iter()
            .map(|&active| (Standing::Ready, active))
            .collect(),
    )
}

fn without(n: usize, down: &[usize]) -> Fixed {
    let standing = |i| match down.contains(&i) {
        true => Standing::Closed,
        false => Standing::Ready,
    };
    Fixed((0..n).map(|i| (standing(i), 0)).collect())
}

fn tried(list: &[usize]) -> Tried {
    let mut tried = Tried::default();
    list.iter().for_each(|&i| tried.add(i));
    tried
}

/// Picks with nothing tried, each with a new count, and dice that stand still.
fn picks(balancer: &Balancer, pool: &Fixed, turns: u64) -> Vec<usize> {
    let pick = |count| balancer.index(pool, &Tried::default(), Turn { count, dice: 7 }, None);
    (0..turns).map(|count| pick(count).unwrap()).collect()
}

fn tally(n: usize, picks: &[usize]) -> Vec<u32> {
    let mut tally = vec![0; n];
    picks.iter().for_each(|&i| tally[i] += 1);
    tally
}

#[test]
fn smooth_sequences() {
    for (weights, sequence) in [
        (&[1][..], &[0, 0][..]),
        (&[1, 1, 1], &[0, 1, 2, 0, 1, 2]),
        (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0, 0, 0, 1]),
        (&[50, 10, 10], &[0, 0, 1, 0, 2, 0, 0, 0, 0, 1]),
        (&[2, 0, 1], &[0, 2, 0, 0, 2, 0]),
        (&[1, -7, 1], &[0, 2, 0, 2]),
    ] {
        let balancer = balancer(Balance::RoundRobin, weights);
        let turns = sequence.len() as u64;
        assert_eq!(
            picks(&balancer, &up(weights.len()), turns),
            sequence,
            "{weights:?}"
        );
    }
}

#[test]
fn candidates_in_their_order() {
    // 0 and 1 are primaries, 2 and 3 backups, the others must never be picked.
    let weights = [1, 1, -1, -1, 0, 0];
    for (what, down, already, allowed) in [
        ("primaries", &[][..], &[][..], &[0, 1][..]),
        ("the primary not tried", &[], &[0], &[1]),
        ("the primary that is up", &[1], &[], &[0]),
        ("backups", &[0, 1], &[], &[2, 3]),
        ("backups once primaries are tried", &[], &[0, 1], &[2, 3]),
        ("the backup not tried", &[1], &[0, 2], &[3]),
        ("all again, primaries first", &[], &[0, 1, 2, 3], &[0, 1]),
        (
            "the one least often tried",
            &[],
            &[0, 0, 1, 1, 2, 2, 3],
            &[3],
        ),
        ("the only one, again", &[0, 1, 2], &[3, 3], &[3]),
        ("none", &[0, 1, 2, 3], &[], &[]),
    ] {
        for balance in every_balance() {
            let balancer = balancer(balance, &weights);
            let (pool, tried) = (without(6, down), tried(already));
            let pick = |n: u64| {
                let turn = Turn { count: n, dice: n };
                balancer.index(&pool, &tried, turn, Some(&[n as u8]))
            };
            let seen: BTreeSet<usize> = (0..200).filter_map(pick).collect();
            let allowed = allowed.iter().copied().collect();
            assert_eq!(seen, allowed, "{what}: {:?}", balancer.balance());
        }
    }
}

#[test]
fn backups_take_turns_too() {
    let balancer = balancer(Balance::RoundRobin, &[3, -2, -1]);
    assert_eq!(picks(&balancer, &without(3, &[0]), 6), [1, 2, 1, 1, 2, 1]);
}

#[test]
fn least_conn_weighs_what_is_active() {
    for (weights, active, sequence) in [
        (&[1, 1][..], &[3, 2][..], &[1, 1][..]),
        (&[2, 1], &[3, 2], &[0, 0]),
        (&[2, 1], &[5, 2], &[1, 1]),
        (&[5, 1, 1], &[0, 0, 0], &[0, 0, 1, 0, 2, 0, 0]),
        (&[500, 100, 100], &[10, 2, 2], &[0, 0, 1, 0, 2, 0, 0]),
        (&[1, 1, -1], &[9, 8, 0], &[1, 1]),
    ] {
        let balancer = balancer(Balance::LeastConn, weights);
        let picks = picks(&balancer, &busy(active), sequence.len() as u64);
        assert_eq!(picks, sequence, "{weights:?} {active:?}");
    }
}

#[test]
fn the_turns_of_a_busy_backend_are_spread_by_weight() {
    let balancer = balancer(Balance::LeastConn, &[6, 1, 2, 3]);
    let picks = picks(&balancer, &busy(&[1, 0, 0, 0]), 60_000);
    assert_near(&tally(4, &picks), &[0, 1, 2, 3]);
}

#[test]
fn random_two_avoids_the_busiest_and_goes_by_weight() {
    let even = balancer(Balance::RandomTwo, &[1, 1, 1]);
    let counts = tally(3, &picks(&even, &busy(&[1, 2, 3]), 30_000));
    // Of the three pairs, 0 is the lighter in two, 1 in one, 2 in none.
    assert_near(&counts, &[2, 1, 0]);
    let all = tally(3, &picks(&even, &up(3), 30_000));
    assert_near(&all, &[1, 1, 1]);
    let one = balancer(Balance::RandomTwo, &[4, 0]);
    assert_eq!(picks(&one, &up(2), 3), [0, 0, 0]);
    // Nearly all of the weight is down, so that draws miss; the two left still compete.
    let lopsided = balancer(Balance::RandomTwo, &[1000, 1, 1]);
    let pool = Fixed(vec![
        (Standing::Closed, 0),
        (Standing::Ready, 5),
        (Standing::Ready, 4),
    ]);
    assert_eq!(tally(3, &picks(&lopsided, &pool, 1_000)), [0, 0, 1_000]);
}

#[test]
fn a_hash_goes_round_the_ring() {
    let ring = |offers| Some(Box::new(Circle { n: 4, offers }) as Box<dyn Ring>);
    let hash = |ring| Balancer::new(Balance::Hash(HashOn::ClientIp), slots(&[1, 1, 1, -1]), ring);
    let whole = hash(ring(4)).unwrap();
    for (key, down, already, expected) in [
        (1, &[][..], &[][..], Some(1)),
        (1, &[1], &[], Some(2)),
        (1, &[], &[1], Some(2)),
        (1, &[2], &[1], Some(0)),
        (3, &[], &[], Some(0)),
        (2, &[0, 1, 2], &[], Some(3)),
        (2, &[], &[0, 1, 2, 3], Some(2)),
        (2, &[0, 1, 2, 3], &[], None),
    ] {
        for count in 0..8 {
            let turn = Turn { count, dice: count };
            let pick = whole.index(&without(4, down), &tried(already), turn, Some(&[key]));
            assert_eq!(pick, expected, "{key} {down:?} {already:?}");
        }
    }
    // No key, or no ring: in turn. A ring that ends early: what it left out is still found.
    assert_eq!(picks(&whole, &up(4), 4), [0, 1, 2, 0]);
    let turn = Turn { count: 1, dice: 0 };
    let pick = |hash: Balancer, down| hash.index(&without(4, down), &tried(&[1]), turn, Some(&[1]));
    assert_eq!(
        hash(None)
            .unwrap()
            .index(&up(4), &Tried::default(), turn, Some(&[0])),
        Some(1)
    );
    assert_eq!(pick(hash(ring(1)).unwrap(), &[0]), Some(2));
    assert_eq!(pick(hash(ring(1)).unwrap(), &[0, 2, 3]), Some(1));
}

#[test]
fn weights_that_cannot_be_balanced() {
    let error = |weights: &[i32]| {
        Balancer::new(Balance::RoundRobin, slots(weights), None)
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(error(&[]), BalancerError::AllWeightsZero);
    assert_eq!(error(&[0, 0]), BalancerError::AllWeightsZero);
    let too_long = |turns, limit| BalancerError::CycleTooLong { turns, limit };
    assert_eq!(error(&[65_535, 1]), too_long(65_536, 65_535));
    assert_eq!(error(&[1, -65_535, -1]), too_long(65_536, 65_535));
    assert_eq!(error(&vec![1; 7_072]), too_long(7_072, 7_070));
    assert!(
        error(&[65_535, 1])
            .to_string()
            .contains("use smaller weights")
    );
    for fine in [
        &[65_534, 1][..],
        &[2_000_000_000, 1_000_000_000],
        &[0, -1],
        &[1; 7_071],
    ] {
        assert!(Balancer::new(Balance::RoundRobin, slots(fine), None).is_ok());
    }
}

#[test]
fn tries_are_counted() {
    let tried = tried(&[3, 1, 3]);
    assert_eq!([0, 1, 2, 3, 4].map(|i| tried.count(i)), [0, 1, 0, 2, 0]);
}

/// Counts in proportion to weights, to within 5 % of each share.
fn assert_near(counts: &[u32], weights: &[u32]) {
    let share = |n: u32, all: &[u32]| f64::from(n) / f64::from(all.iter().sum::<u32>());
    for (&count, &weight) in counts.iter().zip(weights) {
        let (is, ought) = (share(count, counts), share(weight, weights));
        assert!(
            (is - ought).abs() <= 0.05 * ought,
            "{counts:?} for {weights:?}"
        );
    }
}

/// nginx's smooth weighted round robin, one step at a time on the weights as written.
fn naive(weights: &[i32], turns: u64) -> Vec<usize> {
    let total: i32 = weights.iter().sum();
    let mut current = vec![0; weights.len()];
    let mut step = || {
        current.iter_mut().zip(weights).for_each(|(c, w)| *c += w);
        let most = current.iter().max().copied();
        let pick = current.iter().position(|c| Some(*c) == most).unwrap();
        current[pick] -= total;
        pick
    };
    (0..turns).map(|_| step()).collect()
}

fn any_standing() -> impl Strategy<Value = Standing> {
    prop::sample::select(vec![
        Standing::Ready,
        Standing::Cold,
        Standing::Out,
        Standing::Closed,
    ])
}

#[test]
fn an_ejected_backend_comes_after_every_other_and_a_cold_one_before_backups() {
    use Standing::{Closed, Cold, Out, Ready};
    let all = balancer(Balance::RoundRobin, &[1, 1, -1]);
    for (name, standings, expected) in [
        ("warm before cold", [Cold, Ready, Ready], Some(1)),
        ("cold before backup", [Cold, Closed, Ready], Some(0)),
        ("backup before ejected", [Out, Out, Ready], Some(2)),
        ("ejected before none", [Out, Closed, Closed], Some(0)),
        ("none", [Closed, Closed, Closed], None),
    ] {
        let pool = Fixed(standings.map(|s| (s, 0)).to_vec());
        for count in 0..6 {
            let turn = Turn { count, dice: 7 };
            let pick = all.index(&pool, &Tried::default(), turn, None);
            assert_eq!(pick, expected, "{name}, turn {count}");
        }
        let pool = Fixed(vec![(Out, 0), (Ready, 0), (Closed, 0)]);
        let again = all.index(&pool, &tried(&[1, 1]), Turn::default(), None);
        assert_eq!(
            again,
            Some(1),
            "one that failed is better than an ejected one"
        );
    }
}

proptest! {
    #[test]
    fn round_robin_is_smooth_and_exact(
        weights in prop::collection::vec(0..30, 1..8),
        factor in 1..5,
        start in prop::sample::select(vec![0, 3, 1_000_000_007]),
    ) {
        let weights: Vec<i32> = weights.iter().map(|w| w * factor).collect();
        let total: i32 = weights.iter().sum();
        prop_assume!(total > 0);
        let balancer = balancer(Balance::RoundRobin, &weights);
        let turns = total as u64;
        prop_assert_eq!(picks(&balancer, &up(weights.len()), turns), naive(&weights, turns));
        let cycle = (start..start + turns).map(|count| {
            let turn = Turn { count, dice: 0 };
            balancer.index(&up(weights.len()), &Tried::default(), turn, None).unwrap()
        });
        let counts = tally(weights.len(), &cycle.collect::<Vec<_>>());
        let expected: Vec<u32> = weights.iter().map(|w| w.unsigned_abs()).collect();
        prop_assert_eq!(counts, expected);
    }

    #[test]
    fn every_pick_is_one_of_the_first(
        backends in prop::collection::vec((-3..4, any_standing(), 0..5u32, 0..3usize), 1..7),
        balance in prop::sample::select(every_balance().to_vec()),
        (count, dice) in any::<(u64, u64)>(),
        (key, offers) in (prop::option::of(any::<u8>()), 0..8usize),
    ) {
        let weights: Vec<i32> = backends.iter().map(|b| b.0).collect();
        prop_assume!(weights.iter().any(|w| *w != 0));
        let n = backends.len();
        let ring = Box::new(Circle { n, offers });
        let balancer = Balancer::new(balance, slots(&weights), Some(ring)).unwrap();
        let pool = Fixed(backends.iter().map(|b| (b.1, b.2)).collect());
        let mut tried = Tried::default();
        for (i, b) in backends.iter().enumerate() {
            (0..b.3).for_each(|_| tried.add(i));
        }
        let level = |i: usize| {
            let (weight, standing, _, tried) = backends[i];
            (standing == Standing::Out, tried, weight < 0, standing == Standing::Cold)
        };
        let open = |i: usize| weights[i] != 0 && pool.standing(i) != Standing::Closed;
        let best = (0..n).filter(|&i| open(i)).map(level).min();
        let key = key.map(|key| [key]);
        let pick = balancer.index(&pool, &tried, Turn { count, dice }, key.as_ref().map(|k| &k[..]));
        prop_assert_eq!(pick.map(level), best);
        prop_assert!(pick.is_none_or(open));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_share_of_a_missing_backend_is_spread_by_weight(
        weights in prop::collection::vec(1..7u32, 3..6),
        missing in any::<prop::sample::Index>(),
        already_tried in any::<bool>(),
        dice in prop::option::of(any::<u64>()),
    ) {
        let missing = missing.index(weights.len());
        let signed: Vec<i32> = weights.iter().map(|w| *w as i32).collect();
        let balancer = balancer(Balance::RoundRobin, &signed);
        let (pool, tried) = if already_tried {
            (up(weights.len()), tried(&[missing]))
        } else {
            (without(weights.len(), &[missing]), Tried::default())
        };
        let picks: Vec<usize> = (0..60_000).map(|count| {
            // Whether or not the dice move.
            let dice = dice.unwrap_or(count * count);
            balancer.index(&pool, &tried, Turn { count, dice }, None).unwrap()
        }).collect();
        let mut left = weights.clone();
        left[missing] = 0;
        assert_near(&tally(weights.len(), &picks), &left);
    }
}

fn every_balance() -> [Balance; 4] {
    use Balance::*;
    [RoundRobin, LeastConn, RandomTwo, Hash(HashOn::Uri)]
}
