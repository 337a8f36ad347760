//! What is known of a route while it runs, over all workers and across reloads: its retry budget, its places, its split, who
//! asked how often.
//!
//! The locks around the policies of the same names (that of the budget is in [`super::budget`]), each held for a few hundred instructions, and none by a route that does
//! not use it. Built by `server::reload`, asked by `proxy`. Decides nothing; logs what a split did by itself.

use super::budget::SharedBudget;
use super::places::Places;
use crate::clock;
use crate::observe::tally::Tally;
use crate::policy::budget::{BudgetRules, Report, Spent};
use crate::policy::canary::{self, Event, Figures, Memory, Share, Side, SideFigures};
use crate::policy::hedge;
use crate::policy::rate::{RateRules, Table, Verdict};
use crate::policy::route::{Canary, Route};
use crate::policy::window::Window;
use log::{info, warn};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How far back it is looked to know when an answer is late.
const REMEMBERED: Duration = Duration::from_secs(60);

/// One route's traffic.
#[derive(Debug)]
pub struct Traffic {
    /// The route.
    pub route: Arc<Route>,
    /// What is counted of its requests.
    pub tally: Arc<Tally>,
    /// Its places, if their number is bounded.
    pub places: Arc<Places>,
    budget: Arc<SharedBudget>,
    hedging: Option<Arc<Hedging>>,
    split: Option<Arc<Split>>,
    rate: Option<Arc<Rate>>,
    /// Copies of requests under way.
    mirrored: Arc<AtomicU32>,
    left_out: Arc<AtomicU64>,
}

/// A route's split between stable and canary.
#[derive(Debug)]
struct Split {
    plan: Canary,
    turn: AtomicU64,
    state: Mutex<canary::Canary>,
}

/// What second requests of a route go by.
#[derive(Debug)]
struct Hedging {
    budget: SharedBudget,
    /// How long answers took of late.
    answers: Mutex<Window>,
}

struct Rate {
    table: Mutex<Table>,
    refused: AtomicU64,
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rate").finish_non_exhaustive()
    }
}

/// A split as it is, for whoever looks.
#[derive(Debug, Clone)]
pub struct SplitFigures {
    /// The share in force.
    pub share: Share,
    /// Why it was taken back, if it was.
    pub rolled_back: Option<Figures>,
    /// The step, from 0.
    pub step: usize,
    /// The shares of all steps.
    pub shares: Vec<Share>,
    /// How long until the next one is due.
    pub next_step: Option<Duration>,
    /// How both sides did of late.
    pub stable: SideFigures,
    /// The other side.
    pub canary: SideFigures,
}

/// A copy of a request that is under way; counted until it is dropped.
#[derive(Debug)]
pub struct Copying(Arc<AtomicU32>);

impl Traffic {
    /// The traffic of a route, with what `old` (the route of the same name before a reload) knows. A split begins anew when the
    /// file says something else of it.
    pub fn build(route: &Arc<Route>, old: Option<&Traffic>) -> Self {
        let split = route.canary().map(|plan| {
            let kept = old.and_then(|old| old.split.as_ref());
            match kept.filter(|kept| kept.plan.is_the_same(plan)) {
                Some(split) => split.clone(),
                None => Arc::new(Split {
                    plan: plan.clone(),
                    turn: AtomicU64::new(0),
                    state: Mutex::new(canary::Canary::new(&plan.rules, clock::now())),
                }),
            }
        });
        let rate = route.rate_limit.as_ref().map(|limit| {
            let before =
                old.and_then(|old| Some((old.route.rate_limit.as_ref()?, old.rate.as_ref()?)));
            match before.filter(|(was, _)| was.keys == limit.keys && was.per == limit.per) {
                Some((_, rate)) => rate.clone(),
                None => Arc::new(Rate {
                    table: Mutex::new(Table::with_keys(
                        usize::try_from(limit.keys).unwrap_or(usize::MAX),
                    )),
                    refused: AtomicU64::new(0),
                }),
            }
        });
        let hedging = route.hedge().map(|_| {
            let kept = old.and_then(|old| old.hedging.clone());
            kept.unwrap_or_else(|| {
                Arc::new(Hedging {
                    budget: SharedBudget::default(),
                    answers: Mutex::new(Window::new(REMEMBERED)),
                })
            })
        });
        Traffic {
            route: route.clone(),
            tally: old.map(|old| old.tally.clone()).unwrap_or_default(),
            hedging,
            places: match old {
                Some(old) => old.places.clone(),
                None => Arc::new(Places::under(route.concurrency())),
            },
            budget: old.map(|old| old.budget.clone()).unwrap_or_default(),
            split,
            rate,
            mirrored: old.map(|old| old.mirrored.clone()).unwrap_or_default(),
            left_out: old.map(|old| old.left_out.clone()).unwrap_or_default(),
        }
    }

    /// Counts a request that begins its first try.
    pub fn request(&self) {
        self.budget.request();
        if let Some(hedging) = &self.hedging {
            hedging.budget.request();
        }
    }

    /// What a reload changes in what was there before. To be called when this is in force.
    pub fn settle(&self) {
        self.places.settle(self.route.concurrency());
    }

    /// Takes a second request out of its budget, if there is one.
    pub fn spend_hedge(&self, rules: &BudgetRules) -> bool {
        let hedging = self.hedging.as_ref();
        let spent = hedging.and_then(|hedging| hedging.budget.spend(rules));
        spent.is_some()
    }

    /// What was spent on second requests, where there are any.
    pub fn hedges(&self) -> Option<Report> {
        let hedging = self.hedging.as_ref()?;
        Some(hedging.budget.report())
    }

    /// Takes note of how long an answer took, where that decides on second requests.
    pub fn answered_in(&self, latency: Duration) {
        if let Some(hedging) = &self.hedging {
            lock(&hedging.answers).record(clock::now(), true, latency);
        }
    }

    /// The time that 95 of 100 answers of late took at most; none while there are too few.
    pub fn p95(&self) -> Option<Duration> {
        let hedging = self.hedging.as_ref()?;
        let now = clock::now();
        let mut answers = lock(&hedging.answers);
        let enough = answers.count(now) >= hedge::ENOUGH;
        if enough {
            answers.quantile(now, 0.95)
        } else {
            None
        }
    }

    /// Takes a retry out of the budget, if there is one.
    pub fn spend(&self, rules: &BudgetRules) -> Option<Spent> {
        self.budget.spend(rules)
    }

    /// Gives back a retry that was not made.
    pub fn refund(&self, spent: Spent) {
        self.budget.refund(spent);
    }

    /// What was spent of the budget.
    pub fn budget(&self) -> Report {
        self.budget.report()
    }

    /// The side of the next request; `key` is what its client is known by, if clients are to stay on their side.
    pub fn choose_side(&self, plan: &Canary, key: Option<u64>) -> Side {
        let Some(split) = &self.split else {
            return Side::Stable;
        };
        let turn = match key {
            None => split.turn.fetch_add(1, Ordering::Relaxed),
            Some(_) => 0,
        };
        lock(&split.state).choose(&plan.rules, turn, key)
    }

    /// Takes note of what the first try of a request met on its side.
    pub fn split_saw(&self, side: Side, good: bool, latency: Duration) {
        let Some(split) = &self.split else { return };
        let now = clock::now();
        let event = lock(&split.state).observe(&split.plan.rules, now, side, good, latency);
        self.tell(event);
    }

    /// Goes on to the split's next step if it is time. To be called again and again.
    pub fn tick(&self) {
        let Some(split) = &self.split else { return };
        let event = lock(&split.state).tick(&split.plan.rules, clock::now());
        self.tell(event);
    }

    /// Begins a split anew if it was rolled back; says whether it was.
    pub fn resume(&self) -> bool {
        let Some(split) = &self.split else {
            return false;
        };
        let mut state = lock(&split.state);
        if state.rolled_back().is_none() {
            return false;
        }
        state.resume(&split.plan.rules, clock::now());
        info!("canary of route {} is resumed", self.route.name);
        true
    }

    /// What its split is to remember over a restart, if it has one, and of which plan that holds.
    pub fn split_memory(&self) -> Option<(String, Memory)> {
        let split = self.split.as_ref()?;
        Some((split.plan.fingerprint(), lock(&split.state).memory()))
    }

    /// Lets its split go on where an earlier process was, if the file says the same of it as then.
    pub fn restore_split(&self, plan: &str, memory: Memory) {
        let Some(split) = &self.split else { return };
        if split.plan.fingerprint() != plan {
            return;
        }
        let name = &self.route.name;
        if let Some(figures) = &memory.verdict {
            warn!("canary of route {name} stays rolled back, as before the restart: {figures}");
        }
        lock(&split.state).restore(&split.plan.rules, clock::now(), memory);
    }

    /// How its split does, if it has one.
    pub fn split(&self) -> Option<SplitFigures> {
        let split = self.split.as_ref()?;
        let rules = &split.plan.rules;
        let now = clock::now();
        let mut state = lock(&split.state);
        Some(SplitFigures {
            share: state.share(rules),
            rolled_back: state.rolled_back().cloned(),
            step: state.step(),
            shares: match rules.steps.is_empty() {
                true => vec![rules.share],
                false => rules.steps.clone(),
            },
            next_step: state.next_step_at(rules).map(|at| at.saturating_sub(now)),
            stable: state.figures(now, Side::Stable),
            canary: state.figures(now, Side::Canary),
        })
    }

    /// Counts a request of the client with this key; none where the route has no limit.
    pub fn take(&self, rules: &RateRules, key: u64) -> Option<Verdict> {
        self.rated(|table| table.take(rules, key, clock::now()))
    }

    /// What [`take`](Self::take) would say.
    pub fn peek(&self, rules: &RateRules, key: u64) -> Option<Verdict> {
        self.rated(|table| table.peek(rules, key, clock::now()))
    }

    fn rated(&self, ask: impl FnOnce(&mut Table) -> Verdict) -> Option<Verdict> {
        let rate = self.rate.as_ref()?;
        let verdict = ask(&mut lock(&rate.table));
        if !verdict.allowed {
            rate.refused.fetch_add(1, Ordering::Relaxed);
        }
        Some(verdict)
    }

    /// Requests refused for coming too often; none where the route has no limit.
    pub fn rate_refused(&self) -> Option<u64> {
        Some(self.rate.as_ref()?.refused.load(Ordering::Relaxed))
    }

    /// Begins a copy of a request, unless `max` are under way already.
    pub fn copy(&self, max: u32) -> Option<Copying> {
        let copying = Copying(self.mirrored.clone());
        if self.mirrored.fetch_add(1, Ordering::Relaxed) < max {
            return Some(copying);
        }
        self.leave_out_copy();
        None
    }

    /// Counts a request that is not copied, although it should have been.
    pub fn leave_out_copy(&self) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were not copied: too many copies were under way, their upstream had no place, or there was too much
    /// content.
    pub fn not_copied(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    fn tell(&self, event: Option<Event>) {
        let name = &self.route.name;
        match event {
            None => {}
            Some(Event::Advanced { from, to }) => {
                info!("canary of route {name} goes from {from} to {to}");
            }
            Some(Event::RolledBack(figures)) => {
                warn!(
                    "canary of route {name} is rolled back, its share is 0 % until `backstop canary resume` or a change of the file: {figures}"
                );
            }
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Goes on with every split in force, for ever. `traffic` tells them.
pub async fn follow(traffic: impl Fn() -> Vec<Arc<Traffic>>) {
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        for route in traffic() {
            route.tick();
        }
    }
}

/// A hash by which a client stays on its side of a split: the same in every process, so that a restart moves nobody.
pub fn hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// A hash of who asks, keyed with chance so that nobody can choose to be mistaken for another.
pub fn secret_hash(kind: u8, bytes: &[u8]) -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    let seed = *SEED.get_or_init(|| {
        let mut seed = [0; 8];
        match getrandom::fill(&mut seed) {
            Ok(()) => u64::from_ne_bytes(seed),
            // Nobody can guess that either, only less so.
            Err(_) => fastrand::u64(..),
        }
    });
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed ^ u64::from(kind))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
