//! Which backend of an upstream gets the next try.
//!
//! `config` builds a [`Balancer`] per upstream; `proxy/` asks it before each try and says, through [`Pool`], how the
//! backends are doing. It holds no state that changes: what was tried, whose turn it is and chance are arguments, so all
//! workers share one without a lock. It must not judge whether a backend is well, nor extract the key of a hash.

use super::cycle::{Dice, Kind};
use std::fmt;

/// How the choice is made among the backends that may be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// In turn, in proportion to the weights.
    RoundRobin,
    /// The one with the fewest active requests for its weight; in turn among equals.
    LeastConn,
    /// Of two drawn in proportion to the weights, the one with fewer active requests for its weight.
    RandomTwo,
    /// The same one for the same key, as long as it can be tried.
    Hash(HashOn),
}

/// What a hash is taken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// The client's address.
    ClientIp,
    /// Path and query.
    Uri,
    /// The value of this header field.
    Header(http::HeaderName),
    /// The value of the cookie of this name.
    Cookie(String),
}

/// One backend, as written. Everywhere else a backend is its index in the list of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its share beside the others of its kind; 0 means never.
    pub weight: u32,
    /// Whether it is kept for when no other can be tried.
    pub backup: bool,
}

/// How the backends are doing at this moment. Answers may change between two calls.
pub trait Pool {
    /// Whether backend `i` may be tried now: it has an address and is not ejected.
    fn usable(&self, i: usize) -> bool;
    /// How many requests backend `i` is busy with.
    fn active(&self, i: usize) -> u32;
}

/// A consistent hash over the backends.
pub trait Ring: Send + Sync {
    /// Offers backends in the order of the ring, from where `key` falls, until `take` returns true or each was offered.
    /// The same one may be offered repeatedly.
    fn walk(&self, key: &[u8], take: &mut dyn FnMut(usize) -> bool);
}

/// What tells one pick from the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// A counter that all workers share, raised once per pick.
    pub count: u64,
    /// Chance: any number, all of them equally likely.
    pub dice: u64,
}

/// How often each backend was tried in this request. Allocates nothing until the first [`add`](Self::add), which comes
/// once a try has failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried(Vec<u32>);

impl Tried {
    /// Counts a try of backend `i`.
    pub fn add(&mut self, i: usize) {
        if self.0.len() <= i {
            self.0.resize(i + 1, 0);
        }
        self.0[i] = self.0[i].saturating_add(1);
    }

    /// How often backend `i` was tried.
    pub fn count(&self, i: usize) -> u32 {
        self.0.get(i).copied().unwrap_or(0)
    }
}

/// Why backends cannot be balanced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BalancerError {
    /// There is no backend with a weight above 0, so none could ever be picked.
    AllWeightsZero,
    /// The weights have so small a common divisor that their sequence is too long to hold ready.
    CycleTooLong {
        /// Turns until the sequence repeats: the sum of the weights over their greatest common divisor.
        turns: u64,
        /// The most turns that this number of backends may have.
        limit: u64,
    },
}

impl fmt::Display for BalancerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BalancerError::AllWeightsZero => f.write_str(
                "no backend has a weight above 0, so none would ever be tried; give at least one a weight of 1",
            ),
            BalancerError::CycleTooLong { turns, limit } => write!(
                f,
                "the weights make a cycle of {turns} turns, more than {limit}; use smaller weights, or rounder ones \
                 (10, 20 and 30 make a cycle of 6, 11, 20 and 30 one of 61)"
            ),
        }
    }
}

impl std::error::Error for BalancerError {}

/// Draws before looking at every backend. Fewer than this fail only where most of the weight cannot be tried.
const DRAWS: u32 = 8;

/// Which candidates come before which: those tried less often, among these the primaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Level {
    tried: u32,
    backup: bool,
}

impl Level {
    /// Nothing comes before a primary that was not tried.
    const FIRST: Level = Level {
        tried: 0,
        backup: false,
    };
}

/// A backend that may be tried, and what it comes after.
type Found = (Level, usize);

/// What one pick goes by.
struct Facts<'a, P> {
    pool: &'a P,
    tried: &'a Tried,
    turn: Turn,
}

impl<P: Pool> Facts<'_, P> {
    /// Whether nothing comes before this primary.
    fn first(&self, i: usize) -> bool {
        self.tried.count(i) == 0 && self.pool.usable(i)
    }

    fn level(&self, i: usize, backup: bool) -> Level {
        Level {
            tried: self.tried.count(i),
            backup,
        }
    }
}

/// Picks backends of one upstream.
pub struct Balancer {
    balance: Balance,
    /// As written, but for weights without a common divisor within each kind.
    slots: Vec<Slot>,
    primaries: Kind,
    backups: Kind,
    ring: Option<Box<dyn Ring>>,
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("balance", &self.balance)
            .field("slots", &self.slots)
            .field("ring", &self.ring.is_some())
            .finish_non_exhaustive()
    }
}

impl Balancer {
    /// Lays out the turns of these backends. `ring` is what a hash goes by; without one it goes in turn.
    ///
    /// # Errors
    /// Weights that are all 0, or whose cycle exceeds 65 535 turns or, times the backends, 50 million.
    pub fn new(
        balance: Balance,
        mut slots: Vec<Slot>,
        ring: Option<Box<dyn Ring>>,
    ) -> Result<Self, BalancerError> {
        let primaries = Kind::build(&mut slots, false)?;
        let backups = Kind::build(&mut slots, true)?;
        if primaries.members.is_empty() && backups.members.is_empty() {
            return Err(BalancerError::AllWeightsZero);
        }
        Ok(Balancer {
            balance,
            slots,
            primaries,
            backups,
            ring,
        })
    }

    /// How the choice is made.
    pub fn balance(&self) -> &Balance {
        &self.balance
    }

    /// The backend to try next, or `None` if none can be tried. `key` is what a hash is taken of; a request without one
    /// goes to whose turn it is.
    ///
    /// The choice is among the usable primaries not tried yet; if there are none, the usable backups not tried yet; if there
    /// are none either, the usable ones tried least often, primaries before backups.
    pub fn pick(
        &self,
        pool: &impl Pool,
        tried: &Tried,
        turn: Turn,
        key: Option<&[u8]>,
    ) -> Option<usize> {
        let facts = Facts { pool, tried, turn };
        let mut dice = Dice::new(turn.count, turn.dice);
        let (_, i) = match (&self.balance, &self.ring, key) {
            (Balance::LeastConn, ..) => self.look(&facts, &mut dice, None),
            (Balance::RandomTwo, ..) => self.lighter_of_two(&facts, &mut dice),
            (Balance::Hash(_), Some(ring), Some(key)) => {
                self.by_key(&facts, &mut dice, ring.as_ref(), key)
            }
            (Balance::RoundRobin | Balance::Hash(_), ..) => self.in_turn(&facts, &mut dice),
        }?;
        Some(i)
    }

    fn in_turn(&self, facts: &Facts<'_, impl Pool>, dice: &mut Dice) -> Option<Found> {
        match self.primaries.at(facts.turn.count) {
            Some(i) if facts.first(i) => Some((Level::FIRST, i)),
            // Not simply the next one: a neighbour would carry the whole share of the one that is missing.
            _ => self.draw(facts, dice, None),
        }
    }

    fn by_key(
        &self,
        facts: &Facts<'_, impl Pool>,
        dice: &mut Dice,
        ring: &dyn Ring,
        key: &[u8],
    ) -> Option<Found> {
        let mut best: Option<Found> = None;
        ring.walk(key, &mut |i| {
            let slot = self.slots.get(i).filter(|slot| slot.weight > 0);
            let Some(slot) = slot.filter(|_| facts.pool.usable(i)) else {
                return false;
            };
            let level = facts.level(i, slot.backup);
            if best.is_none_or(|(other, _)| level < other) {
                best = Some((level, i));
            }
            level == Level::FIRST
        });
        if best.is_some_and(|(level, _)| level == Level::FIRST) {
            return best;
        }
        // A ring that leaves backends out must not hide one that comes first. Of equals, the ring's stays.
        let other = self.look(facts, dice, None);
        best.into_iter()
            .chain(other)
            .min_by_key(|(level, _)| *level)
    }

    fn lighter_of_two(&self, facts: &Facts<'_, impl Pool>, dice: &mut Dice) -> Option<Found> {
        let one = self.draw(facts, dice, None)?;
        let two = self.draw(facts, dice, Some(one.1));
        let load = |(_, i): &Found| self.load(facts.pool, *i);
        match two {
            Some(two) if two.0 == one.0 && load(&two) < load(&one) => Some(two),
            _ => Some(one),
        }
    }

    /// One of the candidates but for `not`, each as likely as its weight.
    fn draw(
        &self,
        facts: &Facts<'_, impl Pool>,
        dice: &mut Dice,
        not: Option<usize>,
    ) -> Option<Found> {
        for _ in 0..DRAWS {
            match self.primaries.at(dice.throw()) {
                Some(i) if Some(i) != not && facts.first(i) => return Some((Level::FIRST, i)),
                Some(_) => {}
                None => break,
            }
        }
        self.look(facts, dice, not)
    }

    /// Looks at all backends but `not` for the best: by level, then by load where that counts, then the one whose turn it
    /// is, else one by chance, each as likely as its weight. It asks about each backend once, so that one that fails
    /// meanwhile cannot leave it with nothing.
    fn look(
        &self,
        facts: &Facts<'_, impl Pool>,
        dice: &mut Dice,
        not: Option<usize>,
    ) -> Option<Found> {
        let load_counts = self.balance == Balance::LeastConn;
        let turn_counts = self.balance != Balance::RandomTwo;
        let mut best: Option<Best> = None;
        for kind in [&self.primaries, &self.backups] {
            if best
                .as_ref()
                .is_some_and(|best| best.rank.0 == Level::FIRST)
            {
                break;
            }
            let next = kind.at(facts.turn.count).filter(|_| turn_counts);
            for &i in &kind.members {
                if Some(i) == not || !facts.pool.usable(i) {
                    continue;
                }
                let level = facts.level(i, kind.backup);
                let load = if load_counts {
                    self.load(facts.pool, i)
                } else {
                    0
                };
                let rank = (level, load);
                let its_turn = next == Some(i);
                let weight = u64::from(self.slots[i].weight);
                match &mut best {
                    Some(best) if best.rank < rank => {}
                    Some(best) if best.rank == rank => {
                        best.weights += weight;
                        // Replacing the earlier ones with this chance leaves each with its share in the end.
                        if its_turn || !best.its_turn && dice.hits(weight, best.weights) {
                            (best.i, best.its_turn) = (i, its_turn);
                        }
                    }
                    _ => {
                        best = Some(Best {
                            rank,
                            i,
                            its_turn,
                            weights: weight,
                        })
                    }
                }
            }
        }
        best.map(|best| (best.rank.0, best.i))
    }

    /// Active requests for the weight, in units so small that different quotients stay different: weights without a common
    /// divisor are below 2^16.
    fn load(&self, pool: &impl Pool, i: usize) -> u64 {
        (u64::from(pool.active(i)) << 32) / u64::from(self.slots[i].weight)
    }
}

/// The best backend so far, and the weights of all that are as good.
struct Best {
    rank: (Level, u64),
    i: usize,
    its_turn: bool,
    weights: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What a pool says of each backend: usable, active.
    struct Fixed(Vec<(bool, u32)>);

    impl Pool for Fixed {
        fn usable(&self, i: usize) -> bool {
            self.0[i].0
        }
        fn active(&self, i: usize) -> u32 {
            self.0[i].1
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
        Fixed(vec![(true, 0); n])
    }

    fn busy(active: &[u32]) -> Fixed {
        Fixed(active.iter().map(|&active| (true, active)).collect())
    }

    fn without(n: usize, down: &[usize]) -> Fixed {
        Fixed((0..n).map(|i| (!down.contains(&i), 0)).collect())
    }

    fn tried(list: &[usize]) -> Tried {
        let mut tried = Tried::default();
        list.iter().for_each(|&i| tried.add(i));
        tried
    }

    /// Picks with nothing tried, each with a new count, and dice that stand still.
    fn picks(balancer: &Balancer, pool: &Fixed, turns: u64) -> Vec<usize> {
        let pick = |count| balancer.pick(pool, &Tried::default(), Turn { count, dice: 7 }, None);
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
                    balancer.pick(&pool, &tried, turn, Some(&[n as u8]))
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
        let pool = Fixed(vec![(false, 0), (true, 5), (true, 4)]);
        assert_eq!(tally(3, &picks(&lopsided, &pool, 1_000)), [0, 0, 1_000]);
    }

    #[test]
    fn a_hash_goes_round_the_ring() {
        let ring = |offers| Some(Box::new(Circle { n: 4, offers }) as Box<dyn Ring>);
        let hash =
            |ring| Balancer::new(Balance::Hash(HashOn::ClientIp), slots(&[1, 1, 1, -1]), ring);
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
                let pick = whole.pick(&without(4, down), &tried(already), turn, Some(&[key]));
                assert_eq!(pick, expected, "{key} {down:?} {already:?}");
            }
        }
        // No key, or no ring: in turn. A ring that ends early: what it left out is still found.
        assert_eq!(picks(&whole, &up(4), 4), [0, 1, 2, 0]);
        let turn = Turn { count: 1, dice: 0 };
        let pick =
            |hash: Balancer, down| hash.pick(&without(4, down), &tried(&[1]), turn, Some(&[1]));
        assert_eq!(
            hash(None)
                .unwrap()
                .pick(&up(4), &Tried::default(), turn, Some(&[0])),
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
                balancer.pick(&up(weights.len()), &Tried::default(), turn, None).unwrap()
            });
            let counts = tally(weights.len(), &cycle.collect::<Vec<_>>());
            let expected: Vec<u32> = weights.iter().map(|w| w.unsigned_abs()).collect();
            prop_assert_eq!(counts, expected);
        }

        #[test]
        fn every_pick_is_one_of_the_first(
            backends in prop::collection::vec((-3..4, any::<bool>(), 0..5u32, 0..3usize), 1..7),
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
            let level = |i: usize| (backends[i].3, backends[i].0 < 0);
            let best = (0..n).filter(|&i| weights[i] != 0 && pool.usable(i)).map(level).min();
            let key = key.map(|key| [key]);
            let pick = balancer.pick(&pool, &tried, Turn { count, dice }, key.as_ref().map(|k| &k[..]));
            prop_assert_eq!(pick.map(level), best);
            prop_assert!(pick.is_none_or(|i| weights[i] != 0 && pool.usable(i)));
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
                balancer.pick(&pool, &tried, Turn { count, dice }, None).unwrap()
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
}
