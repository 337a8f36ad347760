//! Which worker serves a connection.
//!
//! The workers share their listening sockets, and the kernel wakes whoever asks first: of a burst of connections, one worker may
//! get all. Those that stay open would keep it busy while its neighbours have nothing to do.

/// How many connections fewer another worker must have. Handing one on costs both of them a little; where connections come
/// and go, small differences even out by themselves.
const CLEARLY: usize = 4;

/// The worker that is to serve a connection which `own` accepted, where so many are `open` with each: the one with the fewest,
/// if these are clearly fewer.
pub fn place(own: usize, open: impl IntoIterator<Item = usize>) -> usize {
    let mut mine = 0;
    let mut least = (usize::MAX, own);
    for (worker, open) in open.into_iter().enumerate() {
        if worker == own {
            mine = open;
        }
        least = least.min((open, worker));
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
            assert_eq!(place(own, open.iter().copied()), expected, "{own} {open:?}");
        }
    }

    proptest! {
        /// Whoever accepts them.
        #[test]
        fn no_worker_gets_many_more_than_another(
            accepted_by in prop::collection::vec(0_usize..5, 0..300)
        ) {
            let mut open = [0_usize; 5];
            for own in accepted_by {
                open[place(own, open)] += 1;
            }
            let most = open.iter().max().unwrap();
            let least = open.iter().min().unwrap();
            prop_assert!(most - least <= CLEARLY, "{open:?}");
        }
    }
}
