//! Whether a canary is worse than it may be, beyond what chance explains.
//!
//! `policy::canary` asks after each piece of bad news, with the counts of its two windows. To compare figures alone would
//! roll back on a single failure; so each rule asks how likely these counts were if the canary just kept the rule, and
//! breaks only where that is about one in a million. Each question takes a few logarithms, whatever the counts.
//!
//! For one sample that likelihood is Chernoff's bound on the tail of a binomial distribution (Hoeffding, "Probability
//! inequalities for sums of bounded random variables", 1963, theorem 1). For two it is the product of both bounds at the
//! pooled rate, which is the likelihood ratio of the G-test and close to Fisher's exact test. Requests are taken to be
//! independent of each other.

use super::super::window::{Totals, Window};
use std::fmt;
use std::time::Duration;

/// When a canary's share is taken back. That its success is worse than stable's always is a reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollback {
    /// If its success falls below this share, from 0.0 to 1.0.
    pub success_below: Option<f64>,
    /// If its 95th percentile of latency exceeds this many times that of stable.
    pub p95_above_stable: Option<f64>,
    /// How many canary requests there must be before it is judged, and stable ones where latencies are
    /// compared.
    pub after: u32,
    /// What is older than this no longer counts; unless that leaves fewer than `after` canary requests, which are then judged
    /// by as many, however old.
    pub window: Duration,
}

/// The rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// [`Rollback::success_below`], with its value.
    SuccessBelow(f64),
    /// Success was worse than stable's.
    WorseThanStable,
    /// [`Rollback::p95_above_stable`], with its value.
    P95AboveStable(f64),
}

impl Rule {
    /// The rule of this word, with this bound; one that has no bound has none.
    pub fn of(word: &str, bound: Option<f64>) -> Option<Rule> {
        let rules = [
            bound.map(Rule::SuccessBelow),
            bound.map(Rule::P95AboveStable),
            Some(Rule::WorseThanStable),
        ];
        let found = rules.into_iter().flatten().find(|rule| rule.word() == word);
        found.filter(|rule| rule.bound() == bound)
    }

    /// Its bound, if it has one.
    pub fn bound(self) -> Option<f64> {
        match self {
            Rule::SuccessBelow(bound) | Rule::P95AboveStable(bound) => Some(bound),
            Rule::WorseThanStable => None,
        }
    }

    /// The word for it in logs and on the status page.
    pub fn word(self) -> &'static str {
        match self {
            Rule::SuccessBelow(_) => "success_below",
            Rule::WorseThanStable => "worse_than_stable",
            Rule::P95AboveStable(_) => "p95_above_stable",
        }
    }
}

/// How one side did within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SideFigures {
    /// Its outcomes.
    pub outcomes: Totals,
    /// The 95th percentile of the latencies of the good ones, at most 8.7 % off.
    pub p95: Option<Duration>,
}

/// What a rollback went by. Its text is for the log and says which rule was broken, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The rule.
    pub rule: Rule,
    /// How the canary did.
    pub canary: SideFigures,
    /// How stable did.
    pub stable: SideFigures,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (canary, stable) = (&self.canary.outcomes, &self.stable.outcomes);
        match self.rule {
            Rule::SuccessBelow(bound) => {
                // Without the noise of the multiplication: 57 %, not 56.99999999999999 %.
                let bound = (bound * 1e6).round() / 1e4;
                write!(f, "success {} requests is below {bound} % ", of(canary))?;
                match stable.count() {
                    0 => f.write_str("(stable: no requests)"),
                    _ => write!(f, "(stable: {})", of(stable)),
                }
            }
            Rule::WorseThanStable => write!(
                f,
                "success {} requests is worse than stable's {}",
                of(canary),
                of(stable)
            ),
            Rule::P95AboveStable(factor) => write!(
                f,
                "p95 {} of {} good requests is above {factor} times stable's {} of {}",
                milliseconds(self.canary.p95),
                canary.good,
                milliseconds(self.stable.p95),
                stable.good
            ),
        }
    }
}

/// As in `99.90 % of 950`. Rounded down: one failure in a million is not 100 %, nor is 98.999 % a success of 99 %.
fn of(outcomes: &Totals) -> String {
    let count = outcomes.count();
    let hundredths = u128::from(outcomes.good) * 10_000 / u128::from(count.max(1));
    format!("{}.{:02} % of {count}", hundredths / 100, hundredths % 100)
}

fn milliseconds(latency: Option<Duration>) -> String {
    let latency = latency.unwrap_or_default();
    format!("{:.1} ms", latency.as_secs_f64() * 1e3)
}

/// The quantile compared.
pub(super) const P95: f64 = 0.95;

/// How much evidence it takes, as the negative logarithm of how likely chance is to look like this in one look: one in a
/// million. So little, because a canary is looked at thousands of times. Simulated with two sides that fail equally often, a
/// canary was wronged once in some 10^9 requests.
const ENOUGH: f64 = 13.8;

/// The rule on outcomes that the canary breaks, if any.
pub(super) fn by_success(rules: &Rollback, canary: Totals, stable: Totals) -> Option<Rule> {
    let canary = Part::new(canary.failed, canary.count());
    let stable = Part::new(stable.failed, stable.count());
    if let Some(bound) = rules.success_below
        && canary.evidence_above(1.0 - bound) > ENOUGH
    {
        return Some(Rule::SuccessBelow(bound));
    }
    (canary.evidence_above_that_of(stable) > ENOUGH).then_some(Rule::WorseThanStable)
}

/// Whether the canary breaks the rule on latencies, after one more of this `latency`.
///
/// Were the canary as fast as it has to be, no more of its latencies would exceed the bound than of stable's exceed their
/// 95th percentile, and of these it is 5 % by definition. That this percentile is itself an estimate, and a poor one
/// from few samples, is allowed for by comparing the two as samples.
pub(super) fn by_latency(
    rules: &Rollback,
    now: Duration,
    canary: &mut Window,
    stable: &mut Window,
    latency: Duration,
) -> Option<Rule> {
    let factor = rules.p95_above_stable?;
    let (canaries, stables) = (canary.timed(now), stable.timed(now));
    if canaries.min(stables) < u64::from(rules.after).max(1) {
        return None;
    }
    let bound = stable.quantile(now, P95)?.as_secs_f64() * factor;
    let bound = Duration::try_from_secs_f64(bound).ok()?;
    if Window::rounded(latency) <= bound {
        return None;
    }
    let slow = Part::new(canary.above(now, bound), canaries);
    let allowed = Part {
        hits: stables as f64 * (1.0 - P95),
        of: stables as f64,
    };
    (slow.evidence_above_that_of(allowed) > ENOUGH).then_some(Rule::P95AboveStable(factor))
}

/// So many of so many.
#[derive(Debug, Clone, Copy)]
struct Part {
    hits: f64,
    of: f64,
}

impl Part {
    fn new(hits: u64, of: u64) -> Self {
        Part {
            hits: hits as f64,
            of: of as f64,
        }
    }

    fn rate(self) -> f64 {
        self.hits / self.of
    }

    /// The evidence that the true rate exceeds `rate`: chance makes it look at least like this with a probability of at most
    /// e to the minus this.
    fn evidence_above(self, rate: f64) -> f64 {
        if self.of > 0.0 && self.rate() > rate {
            self.of * divergence(self.rate(), rate)
        } else {
            0.0
        }
    }

    /// The evidence that the true rate exceeds that of `other`: chance makes equal ones look like these with a probability
    /// of about e to the minus this.
    fn evidence_above_that_of(self, other: Part) -> f64 {
        if self.of > 0.0 && other.of > 0.0 && self.rate() > other.rate() {
            let pooled = (self.hits + other.hits) / (self.of + other.of);
            self.of * divergence(self.rate(), pooled) + other.of * divergence(other.rate(), pooled)
        } else {
            0.0
        }
    }
}

/// The Kullback-Leibler divergence, in nats, of an outcome of probability `seen` from one of probability `true_rate`.
fn divergence(seen: f64, true_rate: f64) -> f64 {
    let term = |seen: f64, rate: f64| {
        if seen > 0.0 {
            seen * (seen / rate).ln()
        } else {
            0.0
        }
    };
    let true_rate = true_rate.clamp(0.0, 1.0);
    term(seen, true_rate) + term(1.0 - seen, 1.0 - true_rate)
}

#[cfg(test)]
mod tests;
