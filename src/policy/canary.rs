//! Which side of a split gets a request, stable or canary, how the canary's share grows, and when it is taken back.
//!
//! `proxy/` asks [`Canary::choose`] for each request, says with [`Canary::observe`] how each side did, calls
//! [`Canary::tick`] now and then, and logs the [`Event`]s. `rollback` judges. It must not know what the two sides are, nor
//! what counts as a failure, nor take a key from a request.

use super::window::Window;
use std::fmt;
use std::time::Duration;

mod rollback;

pub use rollback::{Figures, Rollback, Rule, SideFigures};

/// A share of the requests, in hundredths of a percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// No request.
    pub const NONE: Share = Share(0);
    /// Every request.
    pub const ALL: Share = Share(10_000);

    /// So many hundredths of a percent; `None` if that is more than all.
    pub fn new(hundredths: u16) -> Option<Share> {
        let share = Share(hundredths);
        (share <= Share::ALL).then_some(share)
    }

    /// In hundredths of a percent, 0 to 10 000.
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// Whether the requests with this key are among the share. Those of a smaller share are among those of a larger one.
    fn has_key(self, key: u64) -> bool {
        // The finish of SplitMix64. The key may be the one that a backend is chosen by; without it, the clients of the
        // canary would share a few backends. To change it is to move clients across.
        let z = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let mixed = z ^ (z >> 31);
        (u128::from(mixed) * u128::from(Share::ALL.0)) >> 64 < u128::from(self.0)
    }

    /// Whether the turn at this place is one of the share's: they are those at which the sum of the shares so far passes a
    /// whole number. Among any n turns in a row there are n times the share of them, rounded down or up.
    fn has_place(self, place: u64) -> bool {
        let (share, all) = (u64::from(self.0), u64::from(Share::ALL.0));
        let place = place % all;
        (place + 1) * share / all > place * share / all
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 100.0)
    }
}

/// A route's rules for its canary.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryRules {
    /// The canary's share, where there are no `steps`.
    pub share: Share,
    /// The shares it has one after the other, the last one for good. Empty means `share`.
    pub steps: Vec<Share>,
    /// How long each step lasts at least.
    pub every: Duration,
    /// When the share is taken back.
    pub rollback: Rollback,
}

impl CanaryRules {
    /// The share of this step, from 0.
    fn share_of(&self, step: usize) -> Share {
        let share = self.steps.get(step).or(self.steps.last());
        share.copied().unwrap_or(self.share)
    }
}

/// One of the two that a route's requests are split between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What is known to work.
    Stable,
    /// What is being tried out.
    Canary,
}

impl Side {
    /// The word for it in logs and on the status page.
    pub fn word(self) -> &'static str {
        match self {
            Side::Stable => "stable",
            Side::Canary => "canary",
        }
    }
}

/// What happened to the split by itself, to be logged.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The next step began.
    Advanced {
        /// The share until now.
        from: Share,
        /// The share from now on.
        to: Share,
    },
    /// The canary broke a rule, and gets nothing until [`Canary::resume`].
    RolledBack(Figures),
}

/// What a split is to remember over a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// The step, from 0.
    pub step: usize,
    /// Why it was rolled back, if it was.
    pub verdict: Option<Figures>,
}

/// The state of one route's split.
///
/// The rules are an argument, so that they can be changed under it; a verdict stands nevertheless. It takes
/// 17 kB, most of it the four windows.
#[derive(Debug, Clone)]
pub struct Canary {
    step: usize,
    /// When the step began.
    begun: Duration,
    /// How many canary requests were observed since then.
    seen: u64,
    turns: Turns,
    /// The rules' window.
    recent: Sides,
    /// All since `after` canary requests were last complete, or since the step began, however long ago that is. Where few
    /// requests come, these are judged; or else a canary would go from step to step without having been looked at.
    block: Sides,
    verdict: Option<Figures>,
}

/// How both sides did within the same time.
#[derive(Debug, Clone)]
struct Sides {
    stable: Window,
    canary: Window,
}

/// A time that no process sees the end of.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Sides {
    fn new(span: Duration) -> Self {
        let window = Window::new(span);
        Sides {
            stable: window.clone(),
            canary: window,
        }
    }

    fn clear(&mut self) {
        self.stable.clear();
        self.canary.clear();
    }

    fn of(&mut self, side: Side) -> &mut Window {
        match side {
            Side::Stable => &mut self.stable,
            Side::Canary => &mut self.canary,
        }
    }

    fn figures(&mut self, now: Duration, side: Side) -> SideFigures {
        let window = self.of(side);
        SideFigures {
            outcomes: window.totals(now),
            p95: window.quantile(now, rollback::P95),
        }
    }

    fn verdict(&mut self, now: Duration, rule: Rule) -> Figures {
        Figures {
            rule,
            canary: self.figures(now, Side::Canary),
            stable: self.figures(now, Side::Stable),
        }
    }

    fn by_success(&mut self, rules: &Rollback, now: Duration) -> Option<Rule> {
        rollback::by_success(rules, self.canary.totals(now), self.stable.totals(now))
    }

    fn by_latency(&mut self, rules: &Rollback, now: Duration, latency: Duration) -> Option<Rule> {
        rollback::by_latency(rules, now, &mut self.canary, &mut self.stable, latency)
    }
}

impl Canary {
    /// Begins with the first step.
    pub fn new(rules: &CanaryRules, now: Duration) -> Self {
        Canary {
            step: 0,
            begun: now,
            seen: 0,
            turns: Turns::default(),
            recent: Sides::new(rules.rollback.window),
            block: Sides::new(FOR_EVER),
            verdict: None,
        }
    }

    /// Goes on where an earlier process was: at this step, which begins anew, or rolled back.
    pub fn restore(&mut self, rules: &CanaryRules, now: Duration, memory: Memory) {
        *self = Canary::new(rules, now);
        self.step = memory.step.min(rules.steps.len().saturating_sub(1));
        self.verdict = memory.verdict;
    }

    /// What the next process has to know.
    pub fn memory(&self) -> Memory {
        Memory {
            step: self.step,
            verdict: self.verdict.clone(),
        }
    }

    /// The side of one request: by its key if it has one, so that a client stays where it is while the share does, and stays
    /// on the canary while the share grows; else by its turn, of which exactly the share is the canary's, evenly spread.
    ///
    /// `turn` is a counter that is raised once per request without a key; it may wrap. The exact share is counted from the
    /// first turn at which it was in force.
    pub fn choose(&mut self, rules: &CanaryRules, turn: u64, key: Option<u64>) -> Side {
        let share = self.share(rules);
        let canary = match key {
            Some(key) => share.has_key(key),
            None => share.has_place(self.turns.place(share, turn)),
        };
        if canary { Side::Canary } else { Side::Stable }
    }

    /// Counts what came of a try, and judges the canary anew if that speaks against it. A try that failed counts even where
    /// another made up for it, or else retries would hide a broken canary. The latency is that of the response head or of
    /// all of the response, as long as it is the same for both sides; of a failure it is not used, because fast failures
    /// would hide slow answers.
    pub fn observe(
        &mut self,
        rules: &CanaryRules,
        now: Duration,
        side: Side,
        good: bool,
        latency: Duration,
    ) -> Option<Event> {
        let span = rules.rollback.window;
        if self.recent.canary.span() != span {
            self.recent = Sides::new(span);
            self.block.clear();
        }
        let latency = good.then_some(latency);
        self.recent.of(side).record(now, good, latency);
        self.block.of(side).record(now, good, latency);
        if side == Side::Stable || self.verdict.is_some() {
            return None;
        }
        self.seen = self.seen.saturating_add(1);
        let figures = self.judge(&rules.rollback, now, latency)?;
        self.verdict = Some(figures.clone());
        Some(Event::RolledBack(figures))
    }

    /// Begins the next step if it is due: `every` has passed since this one began, which has seen at least `after` canary
    /// requests. With fewer than these it waits for them, however long that takes. Never more than one step per call.
    pub fn tick(&mut self, rules: &CanaryRules, now: Duration) -> Option<Event> {
        let due = self.next_step_at(rules)?;
        if now < due || self.seen < u64::from(rules.rollback.after) {
            return None;
        }
        let from = self.share(rules);
        self.step += 1;
        self.begun = now;
        self.seen = 0;
        self.block.clear();
        let to = self.share(rules);
        Some(Event::Advanced { from, to })
    }

    /// When `every` has passed for this step; `None` if it is the last one or the canary was rolled back. A time in the past
    /// means that the step waits for canary requests, so a timer needs a pause of its own between two ticks.
    pub fn next_step_at(&self, rules: &CanaryRules) -> Option<Duration> {
        let waits = self.verdict.is_none() && self.step + 1 < rules.steps.len();
        waits.then(|| self.begun.saturating_add(rules.every))
    }

    /// Forgets the verdict and all that was seen, and begins again with the first step.
    pub fn resume(&mut self, rules: &CanaryRules, now: Duration) {
        *self = Canary::new(rules, now);
    }

    /// What the canary was rolled back for, if it was.
    pub fn rolled_back(&self) -> Option<&Figures> {
        self.verdict.as_ref()
    }

    /// The share in force: none after a rollback, else that of the step.
    pub fn share(&self, rules: &CanaryRules) -> Share {
        if self.verdict.is_some() {
            return Share::NONE;
        }
        rules.share_of(self.step)
    }

    /// The step in force, from 0.
    pub fn step(&self) -> usize {
        self.step
    }

    /// How many canary requests this step has seen.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How a side does at present.
    pub fn figures(&mut self, now: Duration, side: Side) -> SideFigures {
        self.recent.figures(now, side)
    }

    /// What the canary is now seen to do wrong.
    fn judge(
        &mut self,
        rules: &Rollback,
        now: Duration,
        latency: Option<Duration>,
    ) -> Option<Figures> {
        let needed = u64::from(rules.after);
        let block_is_whole = self.block.canary.count(now) >= needed;
        let recent = self.recent.canary.count(now);
        let found = if recent >= needed {
            let rule = self.broken_rule(rules, now, latency, recent == needed);
            rule.map(|rule| self.recent.verdict(now, rule))
        } else if block_is_whole {
            let by_success = self.block.by_success(rules, now);
            // All of it is new: there is no one latency to ask about first.
            let rule = by_success.or_else(|| self.block.by_latency(rules, now, Duration::MAX));
            rule.map(|rule| self.block.verdict(now, rule))
        } else {
            None
        };
        if block_is_whole {
            self.block.clear();
        }
        found
    }

    /// The rule that the canary breaks within the window. Only a failure, a slow answer, or the request that makes up the
    /// number needed (`first`) can be what shows it; after any other there is nothing to find out.
    fn broken_rule(
        &mut self,
        rules: &Rollback,
        now: Duration,
        latency: Option<Duration>,
        first: bool,
    ) -> Option<Rule> {
        if latency.is_none() || first {
            let rule = self.recent.by_success(rules, now);
            if rule.is_some() {
                return rule;
            }
        }
        self.recent.by_latency(rules, now, latency?)
    }
}

/// From where turns are counted.
#[derive(Debug, Clone, Copy, Default)]
struct Turns {
    share: Share,
    /// A turn at place 0.
    from: u64,
}

impl Turns {
    /// The place of this turn, counted from the first one with this share.
    fn place(&mut self, share: Share, turn: u64) -> u64 {
        if self.share != share {
            *self = Turns { share, from: turn };
        }
        // Signed, because workers come out of order: a turn may be a few before the one counted from.
        let distance = turn.wrapping_sub(self.from).cast_signed();
        let place = distance.rem_euclid(Share::ALL.0.into()).cast_unsigned();
        // Places repeat after as many turns. Counting on from a turn nearby, the distance never grows to where it wraps.
        self.from = turn.wrapping_sub(place);
        place
    }
}

#[cfg(test)]
mod tests;
