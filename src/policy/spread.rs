//! Which worker serves a connection.
//!
//! The workers share their listening sockets, and the kernel wakes whoever asks first: of a burst of connections, one worker may
//! get all. Those that stay open would keep it busy while its neighbours have nothing to do.

use std::time::Duration;

/// How many connections fewer another worker must have. Handing one on costs both of them a little.
const CLEARLY: usize = 4;
/// Where connections come and go, differences even out by themselves: then it must have more by one in so many of its own, too,
/// but by no more than have come and gone of late.
const ONE_IN: usize = 4;
/// How long a connection lasts that only comes and goes.
const BRIEF: Duration = Duration::from_millis(100);
/// How many may wait to be taken by a worker. One that leaves so many waiting is held up, and nobody is to wait for it who need not.
const WAITING: usize = 16;

/// What a worker has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections, those included that wait.
    pub open: usize,
    /// Those that were handed on to it, and that it has not taken yet.
    pub waiting: usize,
}

/// The connections of one worker that only came and went, of late.
#[derive(Debug, Clone, Copy, Default)]
pub struct Passing {
    /// Which tenth of a second it is, how many ended in it, and in the one before.
    slot: u64,
    count: usize,
    before: usize,
}

impl Passing {
    /// One has ended that was there so long.
    pub fn ended(&mut self, now: Duration, life: Duration) {
        self.turn(now);
        self.count += usize::from(life < BRIEF);
    }

    /// How many did in the last while.
    pub fn lately(&mut self, now: Duration) -> usize {
        self.turn(now);
        self.count + self.before
    }

    fn turn(&mut self, now: Duration) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let slot = millis(now) / millis(BRIEF);
        match slot.saturating_sub(self.slot) {
            0 => return,
            1 => self.before = self.count,
            _ => self.before = 0,
        }
        (self.slot, self.count) = (slot, 0);
    }
}

/// The worker that is to serve a connection which `own` accepted, where each has so much: the one with the fewest, if these are
/// clearly fewer. `passing`: how many of its own came and went of late.
pub fn place(own: usize, passing: usize, loads: impl IntoIterator<Item = Load>) -> usize {
    let mut mine = 0;
    let mut least = (usize::MAX, own);
    for (worker, Load { open, waiting }) in loads.into_iter().enumerate() {
        if worker == own {
            mine = open;
        }
        if worker == own || waiting < WAITING {
            least = least.min((open, worker));
        }
    }
    let clearly = CLEARLY.saturating_add((mine / ONE_IN).min(passing));
    match least.0.saturating_add(clearly) <= mine {
        true => least.1,
        false => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loads(open: &[usize]) -> impl Iterator<Item = Load> {
        open.iter().map(|open| Load {
            open: *open,
            waiting: 0,
        })
    }

    #[test]
    fn where_it_is_unless_another_has_clearly_fewer() {
        for (own, open, expected) in [
            (0, &[0][..], 0),
            (0, &[900], 0),
            (0, &[3, 0], 0),
            (0, &[4, 0], 1),
            (1, &[0, 4], 0),
            (1, &[9, 5, 0], 2),
            (0, &[4, 1, 2], 0),
            (2, &[7, 7, 12, 8], 0),
            (5, &[1], 5),
            (0, &[], 0),
        ] {
            assert_eq!(place(own, 0, loads(open)), expected, "{own} {open:?}");
        }
    }

    #[test]
    fn nobody_is_handed_on_to_one_that_takes_nobody() {
        let load = |open, waiting| Load { open, waiting };
        let stuck = [load(100, 0), load(20, WAITING), load(50, WAITING - 1)];
        assert_eq!(place(0, 0, stuck), 2);
        assert_eq!(place(0, 0, stuck[..2].iter().copied()), 0);
        // What it accepts itself, it does take.
        assert_eq!(place(1, 0, stuck), 1);
    }

    #[test]
    fn connections_that_come_and_go_are_handed_on_for_large_differences_only() {
        for (passing, mine, other, expected) in [
            (900, 4, 0, 0),
            (900, 5, 0, 1),
            (900, 60, 42, 0),
            (900, 60, 41, 1),
            (900, 1000, 747, 0),
            (900, 1000, 746, 1),
            // Of those, few come and go: the others stay where they are.
            (2, 60, 55, 0),
            (2, 60, 54, 1),
            (0, 60, 56, 1),
        ] {
            let placed = place(0, passing, loads(&[mine, other]));
            assert_eq!(placed, expected, "{passing} {mine} {other}");
        }
    }

    #[test]
    fn how_many_came_and_went_of_late() {
        let ms = Duration::from_millis;
        let mut passing = Passing::default();
        for life in [0, 99, 100, 5_000] {
            passing.ended(ms(1_010), ms(life));
        }
        assert_eq!(passing.lately(ms(1_099)), 2);
        passing.ended(ms(1_150), ms(7));
        assert_eq!(passing.lately(ms(1_199)), 3);
        // A clock that lags behind.
        assert_eq!(passing.lately(ms(1_050)), 3);
        assert_eq!(passing.lately(ms(1_200)), 1);
        assert_eq!(passing.lately(ms(1_300)), 0);
        passing.ended(ms(1_310), ms(1));
        assert_eq!(passing.lately(ms(9_000)), 0);
    }

    proptest! {
        /// Whoever accepts them.
        #[test]
        fn no_worker_gets_many_more_than_another(
            accepted_by in prop::collection::vec(0_usize..5, 0..300)
        ) {
            let mut open = [0_usize; 5];
            for own in accepted_by {
                open[place(own, 0, loads(&open))] += 1;
            }
            let most = open.iter().max().unwrap();
            let least = open.iter().min().unwrap();
            prop_assert!(most - least <= CLEARLY, "{open:?}");
        }
    }
}
