//! Which worker serves a connection.
//!
//! The workers share their listening sockets, and the kernel wakes whoever asks first: of a burst of connections, one worker may
//! get all. Those that stay open would keep it busy while its neighbours have nothing to do.

/// How many connections fewer another worker must have. Handing one on costs both of them a little; where connections come
/// and go, small differences even out by themselves.
const CLEARLY: usize = 4;
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

/// The worker that is to serve a connection which `own` accepted, where each has so much: the one with the fewest, if these are
/// clearly fewer.
pub fn place(own: usize, loads: impl IntoIterator<Item = Load>) -> usize {
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
    match least.0.saturating_add(CLEARLY) <= mine {
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
            assert_eq!(place(own, loads(open)), expected, "{own} {open:?}");
        }
    }

    #[test]
    fn nobody_is_handed_on_to_one_that_takes_nobody() {
        let load = |open, waiting| Load { open, waiting };
        let stuck = [load(100, 0), load(20, WAITING), load(50, WAITING - 1)];
        assert_eq!(place(0, stuck), 2);
        assert_eq!(place(0, stuck[..2].iter().copied()), 0);
        // What it accepts itself, it does take.
        assert_eq!(place(1, stuck), 1);
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
