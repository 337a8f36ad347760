//! Which worker serves a connection.
//!
//! The workers share their listening sockets, and the kernel wakes whoever asks first: of a burst of connections, one worker may
//! get all. Those that stay open would keep it busy while its neighbours have nothing to do.

use std::time::Duration;

/// How many connections fewer another worker must have. Handing one on costs both of them a little.
const CLEARLY: usize = 4;
/// Where connections come and go, differences even out by themselves: of those of a worker, so many more must it have then.
const COMING_AND_GOING: usize = 4;
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
    /// How many of its last connections were brief.
    pub brief: Brief,
}

/// How many of a worker's connections only came and went: of 1,024, the last of them counting most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brief(pub u32);

impl Brief {
    /// All of them.
    const ALL: u32 = 1024;
    /// For how many of the last ones this stands.
    const LAST: u32 = 64;

    /// The same when one more has ended, which was there so long.
    #[must_use]
    pub fn after(self, life: Duration) -> Self {
        let new = match life < BRIEF {
            true => Self::ALL / Self::LAST,
            false => 0,
        };
        Brief(self.0 - self.0.div_ceil(Self::LAST) + new)
    }

    /// By how many connections a worker that has so many must have more than another.
    fn clearly(self, open: usize) -> usize {
        let share = self.0.min(Self::ALL) as usize;
        CLEARLY.saturating_add(open / COMING_AND_GOING * share / Self::ALL as usize)
    }
}

/// The worker that is to serve a connection which `own` accepted, where each has so much: the one with the fewest, if these are
/// clearly fewer.
pub fn place(own: usize, loads: impl IntoIterator<Item = Load>) -> usize {
    let mut mine = Load::default();
    let mut least = (usize::MAX, own);
    for (worker, load) in loads.into_iter().enumerate() {
        let Load { open, waiting, .. } = load;
        if worker == own {
            mine = load;
        }
        if worker == own || waiting < WAITING {
            least = least.min((open, worker));
        }
    }
    match least.0.saturating_add(mine.brief.clearly(mine.open)) <= mine.open {
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
            ..Load::default()
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
            assert_eq!(place(own, loads(open)), expected, "{own} {open:?}");
        }
    }

    #[test]
    fn nobody_is_handed_on_to_one_that_takes_nobody() {
        let load = |open, waiting| Load {
            open,
            waiting,
            ..Load::default()
        };
        let stuck = [load(100, 0), load(20, WAITING), load(50, WAITING - 1)];
        assert_eq!(place(0, stuck), 2);
        assert_eq!(place(0, stuck[..2].iter().copied()), 0);
        // What it accepts itself, it does take.
        assert_eq!(place(1, stuck), 1);
    }

    #[test]
    fn connections_that_come_and_go_are_handed_on_for_large_differences_only() {
        let brief = Brief(Brief::ALL);
        let loads = |mine, other| {
            let mine = Load {
                open: mine,
                brief,
                ..Load::default()
            };
            let other = Load {
                open: other,
                ..Load::default()
            };
            [mine, other]
        };
        for (mine, other, expected) in [
            (4, 0, 0),
            (5, 0, 1),
            (60, 50, 0),
            (60, 42, 0),
            (60, 41, 1),
            (1000, 700, 1),
        ] {
            assert_eq!(place(0, loads(mine, other)), expected, "{mine} {other}");
        }
    }

    #[test]
    fn the_last_connections_say_how_brief_they_are() {
        let after = |brief: Brief, lives: &[u64], times: usize| {
            let lives = lives.iter().cycle().take(times);
            lives.fold(brief, |brief, life| {
                brief.after(Duration::from_millis(*life))
            })
        };
        let none = Brief::default();
        assert_eq!(after(none, &[100, 5_000], 1_000), none);
        let all = after(none, &[0, 99], 1_000);
        assert!((950..=Brief::ALL).contains(&all.0), "{all:?}");
        let half = after(all, &[1, 200], 1_000);
        assert!((450..=550).contains(&half.0), "{half:?}");
        // As soon as they stay.
        assert!(after(all, &[200], 128).0 < Brief::ALL / 4);
        assert_eq!(after(all, &[200], 1_000), none);
    }

    proptest! {
        /// Whoever accepts them.
        #[test]
        fn no_worker_gets_many_more_than_another(
            accepted_by in prop::collection::vec(0_usize..5, 0..300)
        ) {
            let mut open = [0_usize; 5];
            for own in accepted_by {
                open[place(own, loads(&open))] += 1;
            }
            let most = open.iter().max().unwrap();
            let least = open.iter().min().unwrap();
            prop_assert!(most - least <= CLEARLY, "{open:?}");
        }
    }
}
