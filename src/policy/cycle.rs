//! Whose turn it is: the smooth weighted sequence, found once at load, and the dice for when the turn cannot be taken.
//!
//! The arithmetic of `policy::balancer`, which alone uses it. It knows weights and counts, nothing of pools.

use super::balancer::{BalancerError, Slot};

/// The longest cycle, whatever the number of backends.
const MAX_TURNS: u64 = 65_535;
/// The most steps (turns times backends) that finding a cycle may take: well under a second.
const MAX_STEPS: u64 = 50_000_000;

/// The backends of one kind, primaries or backups, without those of weight 0.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) backup: bool,
    pub(super) members: Vec<usize>,
    /// Whose turn it is: nginx's smooth weighted sequence, as places in `members`.
    cycle: Vec<u16>,
}

impl Kind {
    /// Divides the weights of this kind by their greatest common divisor and lays out the turns.
    pub(super) fn build(slots: &mut [Slot], backup: bool) -> Result<Self, BalancerError> {
        let counts = |slot: &Slot| slot.backup == backup && slot.weight > 0;
        let members: Vec<usize> = (0..slots.len()).filter(|&i| counts(&slots[i])).collect();
        let divisor = members
            .iter()
            .fold(0, |divisor, &i| gcd(slots[i].weight, divisor));
        let mut turns = 0;
        for &i in &members {
            slots[i].weight /= divisor;
            turns += u64::from(slots[i].weight);
        }
        let limit = MAX_TURNS.min(MAX_STEPS / (members.len() as u64).max(1));
        if turns > limit {
            return Err(BalancerError::CycleTooLong { turns, limit });
        }
        let weights: Vec<i64> = members.iter().map(|&i| slots[i].weight.into()).collect();
        Ok(Kind {
            backup,
            members,
            cycle: smooth(&weights),
        })
    }

    /// The backend whose turn it is at `count`. For a `count` by chance, each is as likely as its weight.
    pub(super) fn at(&self, count: u64) -> Option<usize> {
        let turns = self.cycle.len() as u64;
        let place = self.cycle[count.checked_rem(turns)? as usize];
        Some(self.members[usize::from(place)])
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Each turn all gain their weight and the first of the richest pays the sum of the weights: after as many turns as that
/// sum, everyone is back at nothing and has had as many turns as its weight, spread as evenly as can be.
fn smooth(weights: &[i64]) -> Vec<u16> {
    let sum: i64 = weights.iter().sum();
    let mut wealth = vec![0; weights.len()];
    let mut turn = || {
        let mut richest = 0;
        for (i, weight) in weights.iter().enumerate() {
            wealth[i] += weight;
            if wealth[i] > wealth[richest] {
                richest = i;
            }
        }
        wealth[richest] -= sum;
        // There are no more members than turns, and those are limited to what this type holds.
        richest as u16
    };
    (0..sum).map(|_| turn()).collect()
}

/// Chance for one pick: a sequence of numbers (SplitMix64) that begins at both parts of a [`super::balancer::Turn`], so that it is spread
/// well even where one of them stands still.
pub(super) struct Dice(u64);

impl Dice {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    pub(super) fn new(count: u64, dice: u64) -> Self {
        Dice(Dice(count).throw() ^ dice)
    }

    pub(super) fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One throw, true `share` times out of `of`.
    pub(super) fn hits(&mut self, share: u64, of: u64) -> bool {
        ((u128::from(self.throw()) * u128::from(of)) >> 64) < u128::from(share)
    }
}
