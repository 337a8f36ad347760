//! Who gets to the canary.

use super::*;
use proptest::prelude::*;

#[test]
fn every_twentieth_turn_at_five_percent() {
    let rules = rules(500);
    let mut canary = canary(&rules);
    let hits: Vec<u64> = (7..=67)
        .filter(|turn| canary.choose(&rules, *turn, None) == Side::Canary)
        .collect();
    assert_eq!(hits, [26, 46, 66]);
}

#[test]
fn another_share_is_counted_from_the_change() {
    let mut rules = rules(500);
    let mut canary = canary(&rules);
    taken(&mut canary, &rules, 0..=29);
    rules.share = share(2_500);
    let hits: Vec<u64> = (30..=42)
        .filter(|turn| canary.choose(&rules, *turn, None) == Side::Canary)
        .collect();
    assert_eq!(hits, [33, 37, 41]);
}

#[test]
fn the_split_is_exact_halfway_round_the_counter() {
    let rules = rules(3_333);
    let mut canary = canary(&rules);
    // Where the distance from the first turn is too far for an i64.
    let half = 1 << 63;
    for turn in [0, half / 2, half - 15_000] {
        canary.choose(&rules, turn, None);
    }
    let sides: Vec<Side> = (half - 15_000..half + 15_000)
        .map(|turn| canary.choose(&rules, turn, None))
        .collect();
    assert!(is_exact(&sides, rules.share));
}

/// Whether in each row of n turns the canary has n times the share, rounded down or up. Of the differences between what it
/// had and what it should have had so far, in turns times the whole, no two may be a whole turn apart.
fn is_exact(sides: &[Side], share: Share) -> bool {
    let (share, all) = (i64::from(share.0), i64::from(Share::ALL.0));
    let (mut ahead, mut least, mut most) = (0, 0, 0);
    for side in sides {
        ahead -= share;
        if *side == Side::Canary {
            ahead += all;
        }
        least = least.min(ahead);
        most = most.max(ahead);
    }
    most - least < all
}

#[test]
fn the_check_for_exactness_tells_exact_from_nearly_exact() {
    use Side::{Canary as C, Stable as S};
    let half = share(5_000);
    assert!(is_exact(&[C, S, C, S, C], half));
    assert!(
        !is_exact(&[C, S, S, C, S], half),
        "two turns with none of it"
    );
    assert!(!is_exact(&[C, S, C, C, S], half));
    assert!(!is_exact(&[S, S], half));
    assert!(!is_exact(&[S], Share::ALL));
    assert!(!is_exact(&[C], Share::NONE));
}

fn any_share() -> impl Strategy<Value = Share> {
    prop_oneof![
        4 => 0..=10_000u16,
        1 => 0..100u16,
        1 => 9_900..=10_000u16,
    ]
    .prop_map(share)
}

fn any_turn() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), u64::MAX - 30_000..=u64::MAX, 0..10u64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_split_is_exact_over_any_turns(
        first in any_turn(),
        shares in prop::collection::vec((any_share(), 1..12_000u64), 1..4),
        // Workers that come to ask in another order than they drew their turns.
        swaps in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let mut rules = rules(0);
        let mut canary = canary(&rules);
        let mut turn = first;
        for (share, turns) in shares {
            rules.share = share;
            let mut order: Vec<u64> = (0..turns).collect();
            for (pair, swap) in order.chunks_exact_mut(2).zip(swaps.iter().cycle()) {
                if *swap {
                    pair.reverse();
                }
            }
            let mut sides = vec![Side::Stable; order.len()];
            for place in order {
                sides[place as usize] = canary.choose(&rules, turn.wrapping_add(place), None);
            }
            prop_assert!(is_exact(&sides, share), "{share} from {turn}");
            turn = turn.wrapping_add(turns);
        }
    }

    #[test]
    fn a_client_stays_and_is_joined_by_others(key in any::<u64>(), shares in [any_share(), any_share()]) {
        let mut rules = rules(0);
        let mut canary = canary(&rules);
        let mut side = |share: Share, turn: u64| {
            rules.share = share;
            canary.choose(&rules, turn, Some(key))
        };
        let (less, more) = (shares[0].min(shares[1]), shares[0].max(shares[1]));
        let before = side(less, 1);
        prop_assert_eq!(side(less, 77), before);
        if before == Side::Canary {
            prop_assert_eq!(side(more, 2), Side::Canary);
        }
        prop_assert_eq!(side(less, u64::MAX), before);
        prop_assert_eq!(side(Share::ALL, 3), Side::Canary);
        prop_assert_eq!(side(Share::NONE, 4), Side::Stable);
    }
}

#[test]
fn the_share_of_the_keys_is_about_right() {
    // Keys of poor hashes: in a row, and with only the upper bits set.
    for step in [1, 1 << 44] {
        for (hundredths, expected) in [(100, 900..=1_100), (500, 4_750..=5_250)] {
            let rules = rules(hundredths);
            let mut canary = canary(&rules);
            let keys = (0..100_000u64).map(|i| i * step);
            let hits = keys
                .filter(|key| canary.choose(&rules, 0, Some(*key)) == Side::Canary)
                .count();
            assert!(expected.contains(&hits), "{hits} at {hundredths}");
        }
    }
}

#[test]
fn requests_with_a_key_take_nobodys_turn() {
    let rules = rules(5_000);
    let mut canary = canary(&rules);
    let mut sides = Vec::new();
    for turn in 0..100 {
        canary.choose(&rules, 0, Some(turn));
        sides.push(canary.choose(&rules, turn, None));
    }
    assert!(is_exact(&sides, rules.share));
}
