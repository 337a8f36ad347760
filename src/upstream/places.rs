//! The places of a route or an upstream, and the wait for one: the lock around `policy::admission` and what wakes its waiters.
//!
//! A [`Place`] is given back when it is dropped, whatever became of the request that held it. Outlives a reload, with
//! everybody who waits.

use super::clock;
use crate::policy::adaptive::Adaptive;
use crate::policy::admission::{
    Admission, AdmissionRules, Asked, Priority, Ticket, Why, Withdrawn,
};
use crate::policy::concurrency::Concurrency;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The places, and who waits for one.
#[derive(Debug, Default)]
pub struct Places {
    state: Mutex<Option<State>>,
}

#[derive(Debug)]
struct State {
    admission: Admission<oneshot::Sender<()>>,
    /// The rules that the limit was last set by.
    rules: AdmissionRules,
    adaptive: Option<Adaptive>,
}

/// The state of the places, for whoever looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Places taken.
    pub active: u32,
    /// Requests that wait for one.
    pub queued: usize,
    /// How many places there are.
    pub limit: u32,
    /// Requests refused so far: the queue was full, the wait too long, one of a higher priority came.
    pub refused: [(Why, u64); 3],
}

/// A place. Dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    ticket: Option<Ticket>,
}

/// A wait for a place. Dropping it gives up.
struct Waiting {
    places: Arc<Places>,
    ticket: Option<Ticket>,
}

impl State {
    fn new(rules: &Concurrency) -> Self {
        let adaptive = rules.adaptive.as_ref().map(Adaptive::new);
        let mut admission = Admission::new(&rules.admission);
        if let Some(adaptive) = &adaptive {
            let limit = adaptive.limit();
            admission.set_limit(&rules.admission, Duration::ZERO, limit, wake);
        }
        State {
            admission,
            rules: rules.admission,
            adaptive,
        }
    }

    /// Takes over rules that a reload changed.
    fn settle(&mut self, rules: &Concurrency, now: Duration) {
        let same_kind = self.adaptive.is_some() == rules.adaptive.is_some();
        if self.rules == rules.admission && same_kind {
            return;
        }
        self.rules = rules.admission;
        self.adaptive = rules.adaptive.as_ref().map(Adaptive::new);
        let limit = self.adaptive.as_ref().map(Adaptive::limit);
        let limit = limit.unwrap_or(rules.admission.max);
        self.admission.set_limit(&rules.admission, now, limit, wake);
    }
}

fn wake(waiter: oneshot::Sender<()>) -> bool {
    waiter.send(()).is_ok()
}

impl Places {
    /// Takes a place, at once or after a wait in the queue. `waited`: how long the request has waited here before.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn take(
        self: &Arc<Self>,
        rules: &Concurrency,
        waited: Duration,
        priority: Priority,
    ) -> Result<Place, Why> {
        let mut turn = None;
        let now = clock::now();
        let asked = {
            let mut guard = self.lock();
            let state = guard.get_or_insert_with(|| State::new(rules));
            state.settle(rules, now);
            let make = || {
                let (sender, receiver) = oneshot::channel();
                turn = Some(receiver);
                sender
            };
            let rules = &rules.admission;
            state.admission.ask(rules, now, waited, priority, make)
        };
        let (ticket, deadline) = match asked {
            Asked::Admitted => {
                return Ok(Place {
                    places: self.clone(),
                    ticket: None,
                });
            }
            Asked::Refused(why) => return Err(why),
            Asked::Queued {
                ticket,
                deadline,
                displaced,
            } => {
                // It learns of it by the end of its channel.
                drop(displaced);
                (ticket, deadline)
            }
        };
        let mut waiting = Waiting {
            places: self.clone(),
            ticket: Some(ticket),
        };
        let Some(turn) = turn else {
            return Err(Why::QueueFull);
        };
        match tokio::time::timeout(deadline.saturating_sub(now), turn).await {
            Ok(Ok(())) => {
                waiting.ticket = None;
                Ok(Place {
                    places: self.clone(),
                    ticket: Some(ticket),
                })
            }
            Ok(Err(_)) if clock::now() < deadline => Err(Why::Displaced),
            Ok(Err(_)) | Err(_) => Err(Why::TimedOut),
        }
    }

    /// Takes a place for something that can be left undone, if one is free.
    pub fn take_in_passing(self: &Arc<Self>, rules: &Concurrency) -> Option<Place> {
        let mut guard = self.lock();
        let state = guard.get_or_insert_with(|| State::new(rules));
        state.settle(rules, clock::now());
        state.admission.ask_in_passing().then(|| Place {
            places: self.clone(),
            ticket: None,
        })
    }

    /// How they are doing; none before the first request.
    pub fn figures(&self) -> Option<Figures> {
        let guard = self.lock();
        let admission = &guard.as_ref()?.admission;
        let refused = |why| (why, admission.refused(why));
        Some(Figures {
            active: admission.active(),
            queued: admission.queued(),
            limit: admission.limit(),
            refused: [
                refused(Why::QueueFull),
                refused(Why::TimedOut),
                refused(Why::Displaced),
            ],
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, ticket: Option<Ticket>) {
        if let Some(state) = &mut *self.lock() {
            state.admission.leave(clock::now(), ticket, wake);
        }
    }
}

impl Place {
    /// Tells how long the request that holds it took, so that the limit can find itself. `dropped`: whether it failed.
    pub fn observe(&self, rules: &Concurrency, latency: Duration, dropped: bool) {
        let Some(bounds) = &rules.adaptive else {
            return;
        };
        let now = clock::now();
        if let Some(state) = &mut *self.places.lock()
            && let Some(adaptive) = &mut state.adaptive
        {
            let in_flight = state.admission.active();
            if let Some(limit) = adaptive.observe(bounds, now, latency, in_flight, dropped) {
                state
                    .admission
                    .set_limit(&rules.admission, now, limit, wake);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.leave(self.ticket);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let withdrawn = {
            let mut guard = self.places.lock();
            let Some(state) = &mut *guard else { return };
            state.admission.withdraw(clock::now(), ticket)
        };
        match withdrawn {
            Withdrawn::WasQueued | Withdrawn::WasRefused => {}
            Withdrawn::WasAdmitted => self.places.leave(Some(ticket)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::concurrency::Priorities;

    fn rules(max: u32, queue: u32, queue_timeout: Duration) -> Concurrency {
        Concurrency {
            admission: AdmissionRules {
                max,
                queue,
                queue_timeout,
            },
            adaptive: None,
            priorities: Priorities::default(),
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn a_place_given_back_goes_to_who_waits_longest() {
        run(async {
            let places = Arc::<Places>::default();
            let rules = rules(1, 2, Duration::from_secs(10));
            let take = || places.take(&rules, Duration::ZERO, Priority::Normal);
            let first = take().await.unwrap();
            let mut second = std::pin::pin!(take());
            let mut third = std::pin::pin!(take());
            assert!(futures::poll!(&mut second).is_pending());
            assert!(futures::poll!(&mut third).is_pending());
            assert_eq!(take().await.unwrap_err(), Why::QueueFull);
            drop(first);
            assert!(futures::poll!(&mut third).is_pending());
            let second = second.await.unwrap();
            drop(second);
            drop(third.await.unwrap());
            let figures = places.figures().unwrap();
            assert_eq!((figures.active, figures.queued), (0, 0));
        });
    }

    #[test]
    fn who_gives_up_leaves_the_queue_and_gives_back_what_it_was_handed() {
        run(async {
            let places = Arc::<Places>::default();
            let rules = rules(1, 2, Duration::from_secs(10));
            let take = || places.take(&rules, Duration::ZERO, Priority::Normal);
            let first = take().await.unwrap();
            let mut second = Box::pin(take());
            let mut third = Box::pin(take());
            assert!(futures::poll!(&mut second).is_pending());
            assert!(futures::poll!(&mut third).is_pending());
            drop(first);
            // It was handed the place, and goes before it looks.
            drop(second);
            drop(third.await.unwrap());
            assert_eq!(places.figures().unwrap().active, 0);
        });
    }

    #[test]
    fn nobody_waits_longer_than_allowed() {
        run(async {
            let places = Arc::<Places>::default();
            let rules = rules(1, 2, Duration::from_millis(10));
            let _first = places
                .take(&rules, Duration::ZERO, Priority::Normal)
                .await
                .unwrap();
            let second = places.take(&rules, Duration::ZERO, Priority::Normal).await;
            assert_eq!(second.unwrap_err(), Why::TimedOut);
            let refused = places.figures().unwrap().refused;
            assert_eq!(refused[1], (Why::TimedOut, 1));
        });
    }
}
