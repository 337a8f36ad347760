//! Any sequence of calls, against a plain list that does the same by looking at everyone.

use super::super::*;
use super::ms;
use Priority::{High, Low, Normal};
use proptest::prelude::*;

/// One request of the model.
#[derive(Debug, Clone)]
struct Request {
    priority: Priority,
    ticket: Option<Ticket>,
    deadline: Duration,
    state: State,
    /// Its client is gone but nobody has noticed yet.
    deaf: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Active,
    Over,
}

/// The same rules on a list of all requests ever, in order of arrival, each looked at each time.
struct Model {
    all: Vec<Request>,
    limit: u32,
    refused: [u64; 3],
}

impl Model {
    fn having(&self, state: State) -> Vec<usize> {
        let ids = 0..self.all.len();
        ids.filter(|&i| self.all[i].state == state).collect()
    }

    fn active(&self) -> usize {
        self.having(State::Active).len()
    }

    /// Who is to be woken now, in order, with whether each can be.
    fn hand_over(&mut self, now: Duration) -> Vec<usize> {
        let mut woken = Vec::new();
        while self.active() < self.limit as usize {
            let waiting = self.having(State::Waiting);
            let Some(&next) = waiting.iter().min_by_key(|&&i| (self.all[i].priority, i)) else {
                break;
            };
            let late = self.all[next].deadline <= now;
            let deaf = self.all[next].deaf;
            self.refused[1] += u64::from(late);
            self.all[next].state = if late || deaf {
                State::Over
            } else {
                State::Active
            };
            if !late {
                woken.push(next);
            }
        }
        woken
    }

    fn ask(&mut self, rules: &AdmissionRules, now: Duration, priority: Priority) -> Expected {
        let mut request = Request {
            priority,
            ticket: None,
            deadline: now + rules.queue_timeout,
            state: State::Active,
            deaf: false,
        };
        if self.active() < self.limit as usize {
            self.all.push(request);
            return Expected::Admitted;
        }
        let waiting = self.having(State::Waiting);
        let mut displaced = None;
        if rules.queue_timeout.is_zero() || waiting.len() >= rules.queue as usize {
            let last = waiting.iter().max_by_key(|&&i| (self.all[i].priority, i));
            let lower = last.filter(|&&i| self.all[i].priority > priority);
            match lower {
                Some(&i) if rules.queue > 0 && !rules.queue_timeout.is_zero() => {
                    self.all[i].state = State::Over;
                    self.refused[2] += 1;
                    displaced = Some(i);
                }
                _ => {
                    self.refused[0] += 1;
                    return Expected::Refused;
                }
            }
        }
        request.state = State::Waiting;
        self.all.push(request);
        Expected::Queued(displaced)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Admitted,
    Queued(Option<usize>),
    Refused,
}

#[derive(Debug, Clone)]
enum Step {
    Ask(Priority),
    Leave(prop::sample::Index),
    Withdraw(prop::sample::Index),
    /// A client leaves, which is noticed only when it is to be woken.
    GoDeaf(prop::sample::Index),
    SetLimit(u32),
    /// A reload, with the limit at its maximum.
    Reload(u32, u32, u64),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use prop::sample::Index;
    let step = prop_oneof![
        8 => prop::sample::select(vec![High, Normal, Low]).prop_map(Step::Ask),
        5 => any::<Index>().prop_map(Step::Leave),
        2 => any::<Index>().prop_map(Step::Withdraw),
        1 => any::<Index>().prop_map(Step::GoDeaf),
        1 => (0..7u32).prop_map(Step::SetLimit),
        1 => (1..6u32, 0..8u32, 0..60u64).prop_map(|(m, q, t)| Step::Reload(m, q, t)),
        3 => (1..30u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..120)
}

/// Both at once, the model and the real one, whose wakers are the places in the model's list.
struct Pair {
    rules: AdmissionRules,
    now: Duration,
    model: Model,
    real: Admission<usize>,
}

impl Pair {
    fn new() -> Self {
        let rules = AdmissionRules {
            max: 3,
            queue: 4,
            queue_timeout: ms(40),
        };
        Pair {
            rules,
            now: ms(0),
            model: Model {
                all: Vec::new(),
                limit: 3,
                refused: [0; 3],
            },
            real: Admission::new(&rules),
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let active_before = self.real.active();
        let queued_before = self.real.queued();
        match *step {
            Step::Ask(priority) => self.ask(priority)?,
            Step::Leave(which) => {
                let active = self.model.having(State::Active);
                if !active.is_empty() {
                    self.leave(*which.get(&active))?;
                }
            }
            Step::Withdraw(which) => {
                // Anyone who ever queued: also those who have a place, and those who are long over.
                let ids = 0..self.model.all.len();
                let queued: Vec<usize> = ids
                    .filter(|&i| self.model.all[i].ticket.is_some())
                    .collect();
                if !queued.is_empty() {
                    self.withdraw(*which.get(&queued))?;
                }
            }
            Step::GoDeaf(which) => {
                let waiting = self.model.having(State::Waiting);
                if !waiting.is_empty() {
                    self.model.all[*which.get(&waiting)].deaf = true;
                }
            }
            Step::SetLimit(limit) => self.set_limit(limit)?,
            Step::Reload(max, queue, timeout) => {
                self.rules = AdmissionRules {
                    max,
                    queue,
                    queue_timeout: ms(timeout),
                };
                self.set_limit(max)?;
            }
            Step::Pass(time) => self.now += ms(time),
        }
        let limit = self.real.limit();
        prop_assert_eq!(limit, self.model.limit);
        prop_assert_eq!(self.real.active() as usize, self.model.active());
        prop_assert_eq!(self.real.queued(), self.model.having(State::Waiting).len());
        let refused = [Why::QueueFull, Why::TimedOut, Why::Displaced].map(|w| self.real.refused(w));
        prop_assert_eq!(refused, self.model.refused);
        // The promises, said without the model.
        prop_assert!(self.real.active() <= limit.max(active_before));
        prop_assert!(limit >= 1 && limit <= self.rules.max);
        prop_assert!(self.real.queued() <= queued_before.max(self.rules.queue as usize));
        prop_assert!(self.real.active() >= limit || self.real.queued() == 0);
        prop_assert!(self.real.handed.len() <= self.real.active() as usize);
        Ok(())
    }

    fn ask(&mut self, priority: Priority) -> Result<(), TestCaseError> {
        let id = self.model.all.len();
        let expected = self.model.ask(&self.rules, self.now, priority);
        let mut made = false;
        let make = || {
            made = true;
            id
        };
        let asked = self
            .real
            .ask(&self.rules, self.now, Duration::ZERO, priority, make);
        prop_assert_eq!(made, matches!(asked, Asked::Queued { .. }));
        let got = match asked {
            Asked::Admitted => Expected::Admitted,
            Asked::Refused(why) => {
                prop_assert_eq!(why, Why::QueueFull);
                Expected::Refused
            }
            Asked::Queued {
                ticket,
                deadline,
                displaced,
            } => {
                prop_assert_eq!(deadline, self.now + self.rules.queue_timeout);
                self.model.all[id].ticket = Some(ticket);
                Expected::Queued(displaced)
            }
        };
        prop_assert_eq!(got, expected);
        Ok(())
    }

    fn leave(&mut self, id: usize) -> Result<(), TestCaseError> {
        self.model.all[id].state = State::Over;
        let expected = self.model.hand_over(self.now);
        let mut woken = Vec::new();
        let model = &self.model;
        self.real.leave(self.now, model.all[id].ticket, |id| {
            woken.push(id);
            !model.all[id].deaf
        });
        prop_assert_eq!(woken, expected);
        Ok(())
    }

    fn set_limit(&mut self, limit: u32) -> Result<(), TestCaseError> {
        self.model.limit = limit.clamp(1, self.rules.max);
        let expected = self.model.hand_over(self.now);
        let mut woken = Vec::new();
        let model = &self.model;
        self.real.set_limit(&self.rules, self.now, limit, |id| {
            woken.push(id);
            !model.all[id].deaf
        });
        prop_assert_eq!(woken, expected);
        Ok(())
    }

    fn withdraw(&mut self, id: usize) -> Result<(), TestCaseError> {
        let request = self.model.all[id].clone();
        let withdrawn = self.real.withdraw(self.now, request.ticket.unwrap());
        let expected = match request.state {
            State::Waiting => Withdrawn::WasQueued,
            State::Active => Withdrawn::WasAdmitted,
            State::Over => Withdrawn::WasRefused,
        };
        prop_assert_eq!(withdrawn, expected);
        match withdrawn {
            Withdrawn::WasQueued => {
                self.model.refused[1] += u64::from(request.deadline <= self.now);
                self.model.all[id].state = State::Over;
            }
            Withdrawn::WasAdmitted => self.leave(id)?,
            Withdrawn::WasRefused => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn it_does_what_the_plain_list_does(steps in steps()) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.take(step)?;
        }
        // Everyone goes: no place and no waiter is left over.
        for id in 0..pair.model.all.len() {
            if pair.model.all[id].state == State::Active {
                pair.leave(id)?;
            } else if pair.model.all[id].ticket.is_some() {
                pair.withdraw(id)?;
            }
        }
        prop_assert_eq!((pair.real.active(), pair.real.queued()), (0, 0));
        prop_assert!(pair.real.handed.is_empty());
    }
}
