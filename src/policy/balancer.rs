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

/// How fit a backend is to be tried at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may have its share.
    Ready,
    /// It just came back, and this turn is not yet its own: others come first.
    Cold,
    /// It is ejected: only when there is no other.
    Out,
    /// It cannot be tried.
    Closed,
}

/// How the backends are doing at this moment. Answers may change between two calls.
pub trait Pool {
    /// How fit backend `i` is.
    fn standing(&self, i: usize) -> Standing;
    /// How many requests backend `i` is busy with.
    fn active(&self, i: usize) -> u32;
    /// What part of its share backend `i` is up to, above 0.0 and at most 1.0: less while it warms up.
    fn share(&self, i: usize) -> f64;
}

/// A choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// The backend.
    pub index: usize,
    /// Whether it was [`Standing::Out`], and is chosen for lack of any other.
    pub out: bool,
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

/// Which candidates come before which: those in rotation, among these those tried less often, among these the primaries,
/// and of these the warm ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Level {
    out: bool,
    tried: u32,
    backup: bool,
    cold: bool,
}

impl Level {
    /// Nothing comes before a warm primary that was not tried.
    const FIRST: Level = Level {
        out: false,
        tried: 0,
        backup: false,
        cold: false,
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
        self.tried.count(i) == 0 && self.pool.standing(i) == Standing::Ready
    }

    /// What comes before this backend; none if it cannot be tried.
    fn level(&self, i: usize, backup: bool) -> Option<Level> {
        let standing = self.pool.standing(i);
        (standing != Standing::Closed).then(|| Level {
            out: standing == Standing::Out,
            tried: self.tried.count(i),
            backup,
            cold: standing == Standing::Cold,
        })
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
    /// The choice is among the primaries in rotation not tried yet; if there are none, the backups not tried yet; if there are
    /// none either, those tried least often, primaries before backups. Ejected ones come last of all.
    pub fn pick(
        &self,
        pool: &impl Pool,
        tried: &Tried,
        turn: Turn,
        key: Option<&[u8]>,
    ) -> Option<Pick> {
        let facts = Facts { pool, tried, turn };
        let mut dice = Dice::new(turn.count, turn.dice);
        let (level, index) = match (&self.balance, &self.ring, key) {
            (Balance::LeastConn, ..) => self.look(&facts, &mut dice, None),
            (Balance::RandomTwo, ..) => self.lighter_of_two(&facts, &mut dice),
            (Balance::Hash(_), Some(ring), Some(key)) => {
                self.by_key(&facts, &mut dice, ring.as_ref(), key)
            }
            (Balance::RoundRobin | Balance::Hash(_), ..) => self.in_turn(&facts, &mut dice),
        }?;
        Some(Pick {
            index,
            out: level.out,
        })
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
            let Some(level) = slot.and_then(|slot| facts.level(i, slot.backup)) else {
                return false;
            };
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
                if Some(i) == not {
                    continue;
                }
                let Some(level) = facts.level(i, kind.backup) else {
                    continue;
                };
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
    /// divisor are below 2^16. Each counts for more on a backend that warms up: an idle one would otherwise get every request
    /// that it may have, and these add up.
    fn load(&self, pool: &impl Pool, i: usize) -> u64 {
        let load = (u64::from(pool.active(i)) << 32) / u64::from(self.slots[i].weight);
        let share = pool.share(i);
        if share < 1.0 {
            (load as f64 / share) as u64
        } else {
            load
        }
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
mod tests;
