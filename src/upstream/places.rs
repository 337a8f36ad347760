//! The places of a route or an upstream, and the wait for one: the lock around `policy::admission` and what wakes its waiters.
//!
//! A [`Place`] is given back when it is dropped, whatever became of the request that held it. Outlives a reload, with
//! everybody who waits; the rules are those of the configuration in force, also for a request that began under another.

use crate::clock;
use crate::policy::adaptive::{Adaptive, AdaptiveRules};
use crate::policy::admission::{
    Admission, AdmissionRules, Asked, Priority, Ticket, Why, Withdrawn,
};
use crate::policy::concurrency::Concurrency;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The places, and who waits for one.
#[derive(Debug)]
pub struct Places {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    admission: Admission<oneshot::Sender<()>>,
    /// None where the number of places is not bounded (any more).
    rules: Option<AdmissionRules>,
    adaptive: Option<(AdaptiveRules, Adaptive)>,
}

/// Places without an end.
const UNBOUNDED: AdmissionRules = AdmissionRules {
    max: u32::MAX,
    queue: 0,
    queue_timeout: Duration::ZERO,
};

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
    fn new() -> Self {
        State {
            admission: Admission::new(&UNBOUNDED),
            rules: None,
            adaptive: None,
        }
    }

    fn rules(&self) -> AdmissionRules {
        self.rules.unwrap_or(UNBOUNDED)
    }

    /// What is known of the latency stays, as long as the limit is one that finds itself.
    fn settle(&mut self, rules: Option<&Concurrency>, now: Duration) {
        self.rules = rules.map(|rules| rules.admission);
        self.adaptive = rules.and_then(|rules| rules.adaptive).map(|bounds| {
            let kept = self.adaptive.take().map(|(_, adaptive)| adaptive);
            (bounds, kept.unwrap_or_else(|| Adaptive::new(&bounds)))
        });
        let limit = self.adaptive.as_mut();
        let limit = limit.map(|(bounds, adaptive)| adaptive.rebound(bounds));
        let rules = self.rules();
        self.admission
            .set_limit(&rules, now, limit.unwrap_or(rules.max), wake);
    }
}

fn wake(waiter: oneshot::Sender<()>) -> bool {
    waiter.send(()).is_ok()
}

impl Places {
    /// Under these rules; none for places without an end.
    pub fn under(rules: Option<&Concurrency>) -> Self {
        let mut state = State::new();
        state.settle(rules, clock::now());
        Places {
            state: Mutex::new(state),
        }
    }

    /// Puts other rules in force. Who waits and has a place under them gets it.
    pub fn settle(&self, rules: Option<&Concurrency>) {
        self.lock().settle(rules, clock::now());
    }

    /// Takes a place, at once or after a wait in the queue. `waited`: how long the request has waited here before.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn take(
        self: &Arc<Self>,
        waited: Duration,
        priority: Priority,
    ) -> Result<Place, Why> {
        let mut turn = None;
        let now = clock::now();
        let asked = {
            let mut guard = self.lock();
            let state = &mut *guard;
            let make = || {
                let (sender, receiver) = oneshot::channel();
                turn = Some(receiver);
                sender
            };
            let rules = state.rules();
            state.admission.ask(&rules, now, waited, priority, make)
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
    pub fn take_in_passing(self: &Arc<Self>) -> Option<Place> {
        self.lock().admission.ask_in_passing().then(|| Place {
            places: self.clone(),
            ticket: None,
        })
    }

    /// How they are doing; none where their number is not bounded.
    pub fn figures(&self) -> Option<Figures> {
        let state = self.lock();
        state.rules?;
        let admission = &state.admission;
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, ticket: Option<Ticket>) {
        self.lock().admission.leave(clock::now(), ticket, wake);
    }
}

impl Place {
    /// Tells how long the request that holds it took, so that the limit can find itself. `dropped`: whether it failed.
    pub fn observe(&self, latency: Duration, dropped: bool) {
        let now = clock::now();
        let mut guard = self.places.lock();
        let state = &mut *guard;
        let in_flight = state.admission.active();
        let rules = state.rules();
        let limit = state.adaptive.as_mut().and_then(|(bounds, adaptive)| {
            adaptive.observe(bounds, now, latency, in_flight, dropped)
        });
        if let Some(limit) = limit {
            state.admission.set_limit(&rules, now, limit, wake);
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
            let mut state = self.places.lock();
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
            let places = Arc::new(Places::under(Some(&rules(1, 2, Duration::from_secs(10)))));
            let take = || places.take(Duration::ZERO, Priority::Normal);
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
            let places = Arc::new(Places::under(Some(&rules(1, 2, Duration::from_secs(10)))));
            let take = || places.take(Duration::ZERO, Priority::Normal);
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
            let places = Arc::new(Places::under(Some(&rules(1, 2, Duration::from_millis(10)))));
            let _first = places.take(Duration::ZERO, Priority::Normal).await.unwrap();
            let second = places.take(Duration::ZERO, Priority::Normal).await;
            assert_eq!(second.unwrap_err(), Why::TimedOut);
            let refused = places.figures().unwrap().refused;
            assert_eq!(refused[1], (Why::TimedOut, 1));
        });
    }

    #[test]
    fn new_bounds_of_a_limit_that_finds_itself_keep_what_it_has_found() {
        let adaptive = |min, max| Concurrency {
            adaptive: Some(AdaptiveRules { min, max }),
            ..rules(max, 10, Duration::from_secs(10))
        };
        run(async {
            let places = Arc::new(Places::under(Some(&adaptive(1, 100))));
            let limit = || places.figures().map(|figures| figures.limit);
            assert_eq!(limit(), Some(20));
            let mut held = Vec::new();
            for _ in 0..20 {
                held.push(places.take(Duration::ZERO, Priority::Normal).await.unwrap());
            }
            held[0].observe(Duration::from_millis(1), true);
            assert_eq!(limit(), Some(18), "a failure lowers it");
            places.settle(Some(&adaptive(1, 50)));
            assert_eq!(limit(), Some(18));
            places.settle(Some(&adaptive(30, 50)));
            assert_eq!(limit(), Some(30));
            places.settle(None);
            assert_eq!(limit(), None);
            let more = places.take(Duration::ZERO, Priority::Normal).await;
            assert!(more.is_ok());
        });
    }
}
