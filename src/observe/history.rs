//! How it went in the last half hour: the counts of the process in steps of ten seconds, for the charts of the page.
//!
//! Fed by `server::admin`, which alone shows it.

use super::tally::Histogram;
use crate::policy::success::Count;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a step is.
pub const STEP: Duration = Duration::from_secs(10);
/// How many there are.
pub const STEPS: usize = 180;

/// All that was counted of one tally since its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Requests and tries.
    pub count: Count,
    /// Retries.
    pub retries: u64,
    /// How long requests took.
    pub took: Histogram,
}

/// What was counted within a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    /// Requests and tries.
    pub count: Count,
    /// Retries.
    pub retries: u64,
    /// The seconds that half of the requests took at most, as far as buckets tell; `None` without any.
    pub p50: Option<f64>,
    /// The same of 99 in a hundred.
    pub p99: Option<f64>,
}

/// The steps.
#[derive(Debug, Default)]
pub struct History(Mutex<Steps>);

#[derive(Debug, Default)]
struct Steps {
    /// What each tally had at the end of the last step.
    last: HashMap<usize, Totals>,
    points: VecDeque<Point>,
}

impl History {
    /// Ends a step with what each tally has counted up to now. A tally is known by a number that no other has as long as it is
    /// there; what is not there any more, as after a reload without its route, is left out.
    pub fn step(&self, tallies: impl Iterator<Item = (usize, Totals)>) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut point, mut took) = (Point::default(), Histogram::default());
        let mut last = HashMap::new();
        for (tally, now) in tallies {
            let before = steps.last.get(&tally).copied().unwrap_or_default();
            point.count = point.count.plus(now.count.since(before.count));
            point.retries += now.retries.saturating_sub(before.retries);
            took = took.plus(&now.took.since(&before.took));
            last.insert(tally, now);
        }
        (point.p50, point.p99) = (took.quantile(0.5), took.quantile(0.99));
        steps.last = last;
        if steps.points.len() == STEPS {
            steps.points.pop_front();
        }
        steps.points.push_back(point);
    }

    /// All steps, the oldest first.
    pub fn points(&self) -> Vec<Point> {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.points.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::BOUNDS;
    use super::*;

    fn totals(requests: u64, slow: u64) -> Totals {
        let mut took = Histogram::default();
        took.buckets[0] = requests - slow;
        took.buckets[BOUNDS.len() - 1] = slow;
        Totals {
            count: Count {
                requests,
                ..Count::default()
            },
            retries: requests / 2,
            took,
        }
    }

    #[test]
    fn a_step_has_what_was_counted_since_the_one_before() {
        let history = History::default();
        let step = |tallies: &[(usize, Totals)]| history.step(tallies.iter().copied());
        step(&[(1, totals(10, 0))]);
        step(&[(1, totals(20, 5)), (2, totals(10, 10))]);
        step(&[(1, totals(20, 5)), (2, totals(10, 10))]);
        // A reload has taken one route away and brought another.
        step(&[(2, totals(14, 10)), (3, totals(2, 0))]);
        let points = history.points();
        let counts: Vec<_> = points
            .iter()
            .map(|p| (p.count.requests, p.retries))
            .collect();
        assert_eq!(counts, [(10, 5), (20, 10), (0, 0), (6, 3)]);
        let times: Vec<_> = points.iter().map(|p| (p.p50, p.p99)).collect();
        let (fast, slow) = (Some(BOUNDS[0]), Some(BOUNDS[BOUNDS.len() - 1]));
        assert_eq!(
            times,
            [(fast, fast), (slow, slow), (None, None), (fast, fast)]
        );
    }

    #[test]
    fn only_the_last_steps_are_kept() {
        let history = History::default();
        for n in 1..=STEPS as u64 + 5 {
            history.step([(1, totals(n * n, 0))].into_iter());
        }
        let points = history.points();
        assert_eq!(points.len(), STEPS);
        assert_eq!(
            points.last().unwrap().count.requests,
            2 * (STEPS as u64 + 5) - 1
        );
    }
}
