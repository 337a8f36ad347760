//! How it went in the last half hour: the counts of the process in steps of ten seconds, for the charts of the page.
//!
//! Fed by `server::admin`, which alone shows it.

use super::tally::Histogram;
use crate::policy::success::Count;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a step is.
pub const STEP: Duration = Duration::from_secs(10);
/// How many there are.
pub const STEPS: usize = 180;

/// All that was counted since the start.
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
    last: Totals,
    points: VecDeque<Point>,
}

impl History {
    /// Ends a step with what was counted up to now. What routes counted that are no more is in it no more, so counts may shrink: that
    /// is none.
    pub fn step(&self, totals: Totals) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let took = totals.took.since(&steps.last.took);
        let point = Point {
            count: totals.count.since(steps.last.count),
            retries: totals.retries.saturating_sub(steps.last.retries),
            p50: took.quantile(0.5),
            p99: took.quantile(0.99),
        };
        steps.last = totals;
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
        history.step(totals(10, 0));
        history.step(totals(30, 15));
        history.step(totals(30, 15));
        // A reload has taken routes away.
        history.step(totals(5, 0));
        let points = history.points();
        let counts: Vec<_> = points
            .iter()
            .map(|p| (p.count.requests, p.retries))
            .collect();
        assert_eq!(counts, [(10, 5), (20, 10), (0, 0), (0, 0)]);
        let times: Vec<_> = points.iter().map(|p| (p.p50, p.p99)).collect();
        let (fast, slow) = (Some(BOUNDS[0]), Some(BOUNDS[BOUNDS.len() - 1]));
        assert_eq!(
            times,
            [(fast, fast), (slow, slow), (None, None), (None, None)]
        );
    }

    #[test]
    fn only_the_last_steps_are_kept() {
        let history = History::default();
        for n in 1..=STEPS as u64 + 5 {
            history.step(totals(n * n, 0));
        }
        let points = history.points();
        assert_eq!(points.len(), STEPS);
        assert_eq!(
            points.last().unwrap().count.requests,
            2 * (STEPS as u64 + 5) - 1
        );
    }
}
