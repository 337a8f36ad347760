//! A budget of retries while it runs: the lock around [`crate::policy::budget`], and what each worker counts beside it.
//!
//! Every request pays in and few draw out: so each worker notes by itself what began, and the budget is told of that once a second,
//! or when somebody asks it for something.

use crate::clock;
use crate::observe::parts::Parts;
use crate::policy::budget::{Budget, BudgetRules, Noted, Report, Spent};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A budget, over all workers.
#[derive(Debug, Default)]
pub struct SharedBudget {
    budget: Mutex<Budget>,
    noted: Parts<Noted>,
}

impl SharedBudget {
    /// Counts a request that begins.
    pub fn request(&self) {
        let now = clock::now();
        let is_noted = self.noted.own().request(now);
        if !is_noted {
            self.lock().request(now);
        }
    }

    /// Takes a retry out of it, if there is one.
    pub fn spend(&self, rules: &BudgetRules) -> Option<Spent> {
        self.lock().spend(rules, clock::now())
    }

    /// Gives back a retry that was not made.
    pub fn refund(&self, spent: Spent) {
        self.lock().refund(spent);
    }

    /// What was spent of it.
    pub fn report(&self) -> Report {
        self.lock().report(clock::now())
    }

    /// It, told all that workers have noted.
    fn lock(&self) -> MutexGuard<'_, Budget> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        for mut noted in self.noted.all() {
            budget.take_in(&mut noted);
        }
        budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_on_any_worker_counts_when_somebody_asks() {
        let budget = SharedBudget::default();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let budget = &budget;
                scope.spawn(move || {
                    crate::observe::parts::belong_to(worker);
                    (0..25).for_each(|_| budget.request());
                });
            }
        });
        let rules = BudgetRules {
            share: 0.2,
            floor: 0,
        };
        let spent: Vec<_> = std::iter::from_fn(|| budget.spend(&rules)).collect();
        assert_eq!(spent.len(), 20);
        spent.into_iter().for_each(|spent| budget.refund(spent));
        assert_eq!(
            (budget.report().requests, budget.report().retries),
            (100, 0)
        );
    }
}
