//! Whether a request may go on now, waits for its turn, or is refused: backpressure.
//!
//! `proxy/` keeps one [`Admission`] behind a lock for each route or upstream that has a limit, asks it before the first try
//! and gives the place back when the request is over, however it ends. It decides who is next. It must not wait, keep
//! timers or wake anyone: it hands the caller what to wake, and the caller's own timer ends a wait at its deadline.
//!
//! What always holds: no more requests are active than the limit allows, but for those admitted before it was lowered; while
//! a place is free nobody waits; the queue takes in nobody beyond its bound; nobody is admitted at or after its deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many requests may be active, and how many may wait for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionRules {
    /// Active requests at most; at least 1, and 0 counts as 1.
    pub max: u32,
    /// Waiting requests at most; 0 means that nobody waits.
    pub queue: u32,
    /// The longest that one request waits; zero means that nobody waits.
    pub queue_timeout: Duration,
}

/// Who is served first. Within a priority it is first come first served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before all others.
    High,
    /// Where nothing else is said.
    #[default]
    Normal,
    /// Once no other waits.
    Low,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No place was free and the queue took nobody in.
    QueueFull,
    /// It waited until its deadline.
    TimedOut,
    /// It waited, and one of a higher priority came to the full queue.
    Displaced,
}

impl Why {
    /// The access log's word.
    pub const fn word(self) -> &'static str {
        match self {
            Why::QueueFull => "queue_full",
            Why::TimedOut => "queue_timeout",
            Why::Displaced => "displaced",
        }
    }
}

/// Names one wait in the queue of one [`Admission`], and the place that may come of it. Never given out twice.
// The order of the fields is the order of service: the first ticket of all is the next, the last one the one to displace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    priority: Priority,
    number: u64,
}

/// The answer to a request that asks for a place.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an admitted request holds a place until it leaves"]
pub enum Asked<W> {
    /// It has a place and must [`leave`](Admission::leave) it, without a ticket.
    Admitted,
    /// It waits. If it is woken it has a place, and must [`leave`](Admission::leave) it with this ticket. If the wait ends
    /// otherwise, it must [`withdraw`](Admission::withdraw).
    Queued {
        /// Names the wait.
        ticket: Ticket,
        /// When the wait ends, on the caller's clock.
        deadline: Duration,
        /// The waiter that had to go for it. It is out of the queue and has no place: tell it, or drop this.
        displaced: Option<W>,
    },
    /// It has no place and gets none.
    Refused(Why),
}

/// What a waiter had when it gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a place that was handed over meanwhile has to be left"]
pub enum Withdrawn {
    /// Its turn had not come. It is out of the queue, and nothing is left to do.
    WasQueued,
    /// A place had just been handed to it: [`leave`](Admission::leave) it, with the ticket.
    WasAdmitted,
    /// It was out of the queue without a place: displaced, passed over at its deadline, or not to be woken.
    WasRefused,
}

/// How many were refused, ever.
#[derive(Debug, Default)]
struct Refusals {
    queue_full: u64,
    timed_out: u64,
    displaced: u64,
}

#[derive(Debug)]
struct Waiter<W> {
    deadline: Duration,
    wake: W,
}

/// The places of one route or upstream, and the queue for them. `W` is what the caller wakes a waiter with, such as the
/// sender of a channel; where a waiter is dropped from the queue, its `W` is dropped with it.
///
/// It holds one entry per waiter and one per active request that had waited; each call takes time logarithmic in these.
#[derive(Debug)]
pub struct Admission<W> {
    limit: u32,
    /// Places taken, the handed over ones included.
    active: u32,
    /// Ordered as they are to be served.
    waiting: BTreeMap<Ticket, Waiter<W>>,
    /// Those who waited and hold a place now. It tells a waiter that gives up whether it has one, whatever became of the
    /// wake-up, so that a place can neither be lost nor given back twice.
    handed: BTreeSet<Ticket>,
    next: u64,
    refusals: Refusals,
}

impl<W> Admission<W> {
    /// With all places free, and as many as the rules allow.
    pub fn new(rules: &AdmissionRules) -> Self {
        Admission {
            limit: rules.max.max(1),
            active: 0,
            waiting: BTreeMap::new(),
            handed: BTreeSet::new(),
            next: 0,
            refusals: Refusals::default(),
        }
    }

    /// Asks for a place. `waited`: how long the request has waited here before, for an earlier try; `queue_timeout` is for all
    /// its waits together. `make` gives what the waiter is to be woken with; it is called only for one that is queued.
    ///
    /// When the queue is full, a request displaces the newest waiter of the lowest priority, if that is lower than its own.
    /// The newest, because it has the longest wait before it and has lost the least.
    pub fn ask(
        &mut self,
        rules: &AdmissionRules,
        now: Duration,
        waited: Duration,
        priority: Priority,
        make: impl FnOnce() -> W,
    ) -> Asked<W> {
        if self.active < self.limit {
            self.active += 1;
            return Asked::Admitted;
        }
        if rules.queue == 0 || rules.queue_timeout.is_zero() {
            return self.queue_full();
        }
        let left = rules.queue_timeout.saturating_sub(waited);
        if left.is_zero() {
            self.refusals.timed_out += 1;
            return Asked::Refused(Why::TimedOut);
        }
        let mut displaced = None;
        if self.waiting.len() >= to_usize(rules.queue) {
            match self.waiting.last_entry() {
                Some(last) if last.key().priority > priority => {
                    displaced = Some(last.remove().wake);
                    self.refusals.displaced += 1;
                }
                _ => return self.queue_full(),
            }
        }
        let number = self.next;
        self.next += 1;
        let ticket = Ticket { priority, number };
        let deadline = now.saturating_add(left);
        let wake = make();
        self.waiting.insert(ticket, Waiter { deadline, wake });
        Asked::Queued {
            ticket,
            deadline,
            displaced,
        }
    }

    /// Takes a place for something that can be left undone, if one is free: it counts as refused nowhere if there is none.
    pub fn ask_in_passing(&mut self) -> bool {
        let free = self.active < self.limit;
        self.active += u32::from(free);
        free
    }

    /// Gives a place back, and hands it on. `ticket` is the one that its holder had waited with, `None` if it was admitted
    /// at once. A ticket that holds no place gives none back, so that leaving twice with one does no harm.
    ///
    /// `wake` is called for each waiter admitted by this, whose place then counts as taken: mostly one, none while more are
    /// active than the limit allows. It must return whether the waiter could be told. On `false` the waiter counts as gone
    /// and its place goes to the next. A waiter that was told but goes before it learns of it recovers the place by
    /// [`withdraw`](Self::withdraw). Waiters found at or past their deadline are dropped.
    pub fn leave(&mut self, now: Duration, ticket: Option<Ticket>, wake: impl FnMut(W) -> bool) {
        let held = ticket.is_none_or(|ticket| self.handed.remove(&ticket));
        if held {
            self.active = self.active.saturating_sub(1);
        }
        self.hand_over(now, wake);
    }

    /// Takes note that a waiter gave up: at `now` its deadline has passed, which counts as [`Why::TimedOut`], or else its
    /// client left, which is no refusal.
    pub fn withdraw(&mut self, now: Duration, ticket: Ticket) -> Withdrawn {
        match self.waiting.remove(&ticket) {
            Some(waiter) => {
                if waiter.deadline <= now {
                    self.refusals.timed_out += 1;
                }
                Withdrawn::WasQueued
            }
            None if self.handed.contains(&ticket) => Withdrawn::WasAdmitted,
            None => Withdrawn::WasRefused,
        }
    }

    /// Sets the limit, to at least 1 and at most the rules' `max`: when one is found by measuring, and after a reload, which
    /// takes no effect on it otherwise. A higher one admits waiters through `wake`, as [`leave`](Self::leave) does. After a
    /// lower one nobody is admitted until fewer are active. Waiters beyond a smaller `queue` keep their turn.
    pub fn set_limit(
        &mut self,
        rules: &AdmissionRules,
        now: Duration,
        limit: u32,
        wake: impl FnMut(W) -> bool,
    ) {
        self.limit = limit.min(rules.max).max(1);
        self.hand_over(now, wake);
    }

    /// Admits waiters in their order while there are places. Afterwards there are none, or nobody waits.
    fn hand_over(&mut self, now: Duration, mut wake: impl FnMut(W) -> bool) {
        while self.active < self.limit {
            let Some((ticket, waiter)) = self.waiting.pop_first() else {
                return;
            };
            if waiter.deadline <= now {
                self.refusals.timed_out += 1;
            } else if wake(waiter.wake) {
                self.active += 1;
                self.handed.insert(ticket);
            }
        }
    }

    fn queue_full(&mut self) -> Asked<W> {
        self.refusals.queue_full += 1;
        Asked::Refused(Why::QueueFull)
    }

    /// How many places are taken. More than the limit only after that was lowered.
    pub fn active(&self) -> u32 {
        self.active
    }

    /// How many wait, those included whose deadline has passed but who have not withdrawn yet.
    pub fn queued(&self) -> usize {
        self.waiting.len()
    }

    /// How many may be active: what [`new`](Self::new) or [`set_limit`](Self::set_limit) last said.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// How many were refused for this reason, ever. Each refused request is counted once.
    pub fn refused(&self, why: Why) -> u64 {
        match why {
            Why::QueueFull => self.refusals.queue_full,
            Why::TimedOut => self.refusals.timed_out,
            Why::Displaced => self.refusals.displaced,
        }
    }
}

fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
