//! Whether a route can afford one more retry, so that a dead upstream is not hit several times as hard.
//!
//! The model is the RetryBudget of Finagle and Linkerd: requests pay in, retries draw out, and both expire with a window
//! of 10 s. `proxy/` counts each request as it begins, and asks here once `policy::retry` would have another try. It must
//! not judge the failure itself, and knows nothing of backends: a route has one budget for all of them.
//!
//! Time is kept in slices of 1 s. The window at `now` is the slice that `now` falls into, as far as it has gone, and the
//! nine before it: the last 9 s to 10 s. What holds, whatever the order and times of the calls:
//!
//! - Whenever a retry is granted, the retries of the window, that one included, are at most
//!   [`BudgetRules::allowed`] for the requests of the window.
//! - So in any ten slices in a row there are at most as many retries as allowed for the ten slices that end with their
//!   last retry. Over a longer span, retries are at most the share of the requests of that span and of the nine slices
//!   before it, plus the floor once for each ten slices.
//! - A retry is refused only where granting it would break the first of these.
//!
//! A retry that was granted and given back counts as none from then on.

use std::time::Duration;

/// How many retries a route may make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetRules {
    /// Retries for each request of the window, 0.0 to 1.0, exact to a millionth. What lies outside is taken as the nearer
    /// end.
    pub share: f64,
    /// Retries that any one window allows, however few its requests. Not on top of the share: the larger of both counts.
    pub floor: u32,
}

impl Default for BudgetRules {
    fn default() -> Self {
        BudgetRules {
            share: 0.20,
            floor: 100,
        }
    }
}

impl BudgetRules {
    /// How many retries a window with this many requests allows.
    pub fn allowed(&self, requests: u64) -> u64 {
        // Millionths, since 0.29 of 100 is 28.999… in binary fractions. NaN becomes 0.
        let millionths = (self.share.clamp(0.0, 1.0) * 1e6).round() as u64;
        let share = requests.saturating_mul(millionths) / 1_000_000;
        share.max(self.floor.into())
    }
}

/// Slices of a window, 1 s each.
const SLICES: usize = 10;

/// What a route began and retried of late. Of fixed size.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    /// Second `s` is at `s % SLICES`.
    slices: [Counts; SLICES],
    /// The sums of the slices.
    window: Counts,
    /// The latest second that any call named.
    latest: u64,
    /// Retries ever granted.
    retries_total: u64,
    /// Retries ever refused.
    refused_total: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    requests: u64,
    retries: u64,
    refused: u64,
}

/// Requests that were counted beside a [`Budget`], all in one second, until it takes them in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noted {
    second: u64,
    requests: u64,
}

impl Noted {
    /// Counts a request of now, if that is in the second of what was counted already or there is nothing yet: else that has to
    /// be taken in first.
    #[must_use]
    pub fn request(&mut self, now: Duration) -> bool {
        if self.requests == 0 {
            self.second = now.as_secs();
        }
        let fits = self.second == now.as_secs();
        self.requests += u64::from(fits);
        fits
    }
}

/// A retry that was granted, by the second it counts in. Whoever does not make it can give it back, once.
#[derive(Debug, PartialEq, Eq)]
pub struct Spent(u64);

/// The numbers of the window, and those since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Requests begun in the window.
    pub requests: u64,
    /// Retries granted in the window and not refunded.
    pub retries: u64,
    /// Retries refused in the window.
    pub refused: u64,
    /// Retries ever granted, refunded ones included: it only grows.
    pub retries_total: u64,
    /// Retries ever refused.
    pub refused_total: u64,
}

impl Budget {
    /// A budget that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a request of a client as it begins. Not for further tries of the same request.
    pub fn request(&mut self, now: Duration) {
        let newest = self.advance(now);
        self.slices[newest].requests += 1;
        self.window.requests += 1;
    }

    /// Takes in requests that were counted beside it. Those that have left the window count no more.
    pub fn take_in(&mut self, noted: &mut Noted) {
        let Noted { second, requests } = std::mem::take(noted);
        if requests == 0 {
            return;
        }
        self.advance(Duration::from_secs(second));
        if self.latest - second < SLICES as u64 {
            self.slices[place(second)].requests += requests;
            self.window.requests += requests;
        }
    }

    /// Takes one retry, if the rules allow it at this moment. Counts a refusal if not.
    pub fn spend(&mut self, rules: &BudgetRules, now: Duration) -> Option<Spent> {
        let newest = self.advance(now);
        let slice = &mut self.slices[newest];
        if self.window.retries < rules.allowed(self.window.requests) {
            slice.retries += 1;
            self.window.retries += 1;
            self.retries_total += 1;
            return Some(Spent(self.latest));
        }
        slice.refused += 1;
        self.window.refused += 1;
        self.refused_total += 1;
        None
    }

    /// Gives back a retry of this budget that was taken but not made, for instance because the client left during the wait.
    /// One that has left the window makes place for nobody.
    pub fn refund(&mut self, Spent(second): Spent) {
        if self.latest - second < SLICES as u64 {
            self.slices[place(second)].retries -= 1;
            self.window.retries -= 1;
        }
    }

    /// What the window holds.
    pub fn report(&mut self, now: Duration) -> Report {
        self.advance(now);
        Report {
            requests: self.window.requests,
            retries: self.window.retries,
            refused: self.window.refused,
            retries_total: self.retries_total,
            refused_total: self.refused_total,
        }
    }

    /// Empties the slices that have left the window and tells the place of the newest. Workers read the clock before they
    /// get here in turn: a `now` before the latest one counts as the latest one.
    fn advance(&mut self, now: Duration) -> usize {
        let second = now.as_secs().max(self.latest);
        let gone = (second - self.latest).min(SLICES as u64);
        for step in 1..=gone {
            let slice = std::mem::take(&mut self.slices[place(self.latest + step)]);
            self.window.requests -= slice.requests;
            self.window.retries -= slice.retries;
            self.window.refused -= slice.refused;
        }
        self.latest = second;
        place(second)
    }
}

/// Where the slice of this second is, always below `SLICES`.
fn place(second: u64) -> usize {
    (second % SLICES as u64) as usize
}

#[cfg(test)]
mod tests;
