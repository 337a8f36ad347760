//! Fills under way: one for each key, which everybody else who asks for it waits for.
//!
//! A fill is a request of its own, made on behalf of the client that asked first. So it does not end with that client, and
//! nobody is slowed down by another's slow connection.

use super::key::{Key, Variant};
use super::moment::Moment;
use super::object::Object;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

const SHARDS: usize = 64;

/// How far a fill is.
#[derive(Clone)]
pub enum State {
    /// The origin was asked.
    Waiting,
    /// A try failed, further ones are made.
    Failing,
    /// The answer is stored: it can be read, even if it is still coming.
    Stored(Arc<Object>),
    /// The stored answer was validated.
    Validated {
        /// As it is now.
        object: Arc<Object>,
        /// Whether others than the client that asked first may have it.
        shared: bool,
    },
    /// The answer is not stored. The client that asked first gets it.
    Passing {
        /// Its status.
        status: StatusCode,
        /// Whether it may be due to who asked.
        personal: bool,
    },
    /// There is no answer.
    Failed(Failed),
}

impl State {
    fn is_final(&self) -> bool {
        !matches!(self, State::Waiting | State::Failing)
    }
}

/// What a client is told of a fill that failed.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// The status.
    pub status: StatusCode,
    /// The `error` of `Proxy-Status` (RFC 9209 §2.3).
    pub proxy_error: &'static str,
    /// Its details.
    pub details: Option<&'static str>,
}

/// A fill as those see it who wait for it.
pub struct Fill {
    state: watch::Sender<State>,
    began: Moment,
}

impl Fill {
    /// Hears of every step.
    pub fn follow(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// When the request that began it began to look for an answer.
    pub fn began(&self) -> Moment {
        self.began
    }
}

/// What fills are told apart by: the key, and the variant where it is known beforehand.
type Lane = (Key, Option<Variant>);

/// How fills end, each with a count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends<N> {
    /// The answer is stored: counted from its head on, though its end may not come.
    pub stored: N,
    /// The stored answer was found to be good.
    pub validated: N,
    /// The answer was not one to be stored, an error of the origin for instance.
    pub not_stored: N,
    /// There was no answer.
    pub failed: N,
}

/// The fills under way.
pub struct Fills {
    shards: [Mutex<HashMap<Lane, Arc<Fill>>>; SHARDS],
    /// How many of each shard have ended.
    ended: [AtomicU64; SHARDS],
    /// How they ended, all together.
    ends: Ends<AtomicU64>,
}

impl Default for Fills {
    fn default() -> Self {
        Fills {
            shards: std::array::from_fn(|_| Mutex::default()),
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
            ends: Ends::default(),
        }
    }
}

/// One's part in a fill.
pub enum Part {
    /// Nobody fills yet: it is to be done.
    Begin(Filling),
    /// Somebody does.
    Join(Arc<Fill>),
    /// Somebody did, since the request looked for an answer: it is to look again.
    Look,
}

/// Which shard a URL's fills are in.
fn place(url: &[u8; 16]) -> usize {
    usize::from(url[0]) % SHARDS
}

impl Fills {
    fn shard(&self, url: &[u8; 16]) -> MutexGuard<'_, HashMap<Lane, Arc<Fill>>> {
        let shard = &self.shards[place(url)];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have ended, of those among which a URL's are.
    pub fn ended(&self, url: &[u8; 16]) -> u64 {
        self.ended[place(url)].load(Ordering::Acquire)
    }

    /// Joins the fill under way, or begins one for a request that began then; not if more have `ended` than had when it looked for
    /// an answer, where that is given: its own may be among them. `is_over` says whether something was purged
    /// since a fill began: nobody joins it any more, and a new one takes its place.
    pub fn join(
        &'static self,
        key: Key,
        variant: Option<Variant>,
        began: Moment,
        ended: Option<u64>,
        is_over: impl Fn(Moment) -> bool,
    ) -> Part {
        let lane = (key, variant);
        let mut shard = self.shard(&key.url);
        match shard.get(&lane) {
            Some(fill) if !is_over(fill.began) => return Part::Join(fill.clone()),
            Some(_) => {}
            None if ended.is_some_and(|then| then != self.ended(&key.url)) => return Part::Look,
            None => {}
        }
        let fill = Arc::new(Fill {
            state: watch::Sender::new(State::Waiting),
            began,
        });
        shard.insert(lane, fill.clone());
        Part::Begin(Filling {
            fill,
            lane,
            fills: self,
        })
    }

    /// The fill under way, if there is one.
    pub fn find(&self, key: Key, variant: Option<Variant>) -> Option<Arc<Fill>> {
        self.shard(&key.url).get(&(key, variant)).cloned()
    }

    /// How fills have ended so far.
    pub fn ends(&self) -> Ends<u64> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ends {
            stored: read(&self.ends.stored),
            validated: read(&self.ends.validated),
            not_stored: read(&self.ends.not_stored),
            failed: read(&self.ends.failed),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let lengths = self.shards.iter();
        lengths
            .map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }
}

/// The right, and the duty, to say how a fill ends. Dropped without a word, it failed.
pub struct Filling {
    fill: Arc<Fill>,
    lane: Lane,
    fills: &'static Fills,
}

impl Filling {
    /// What it fills.
    pub fn key(&self) -> &Key {
        &self.lane.0
    }

    /// The fill, as others see it.
    pub fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// A try failed, others follow.
    pub fn failing(&self) {
        self.say(State::Failing);
    }

    /// How it ended. What comes after is not heard.
    pub fn end(&self, state: State) {
        // Before anybody hears of it: who does, and looks for a fill again, is not to find this one.
        self.leave();
        self.say(state);
    }

    /// Nobody joins it any more.
    fn leave(&self) {
        let mut shard = self.fills.shard(&self.lane.0.url);
        // After a purge another may have taken its place.
        if shard
            .get(&self.lane)
            .is_some_and(|f| Arc::ptr_eq(f, &self.fill))
        {
            shard.remove(&self.lane);
            // What it brought is in its place by now.
            let ended = &self.fills.ended[place(&self.lane.0.url)];
            ended.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether anybody can still be told.
    pub fn is_over(&self) -> bool {
        self.fill.state.borrow().is_final()
    }

    fn say(&self, next: State) {
        self.fill.state.send_if_modified(|state| {
            let news = !state.is_final();
            if news {
                let ends = &self.fills.ends;
                let end = match next {
                    State::Waiting | State::Failing => None,
                    State::Stored(_) => Some(&ends.stored),
                    State::Validated { .. } => Some(&ends.validated),
                    State::Passing { .. } => Some(&ends.not_stored),
                    State::Failed(_) => Some(&ends.failed),
                };
                if let Some(end) = end {
                    end.fetch_add(1, Ordering::Relaxed);
                }
                *state = next;
            }
            news
        });
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.end(State::Failed(Failed {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            proxy_error: "proxy_internal_error",
            details: None,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key {
        url: [7; 16],
        who: [0; 16],
    };

    #[test]
    fn what_ended_since_it_was_looked_is_looked_for_again() {
        let fills: &'static Fills = Box::leak(Box::default());
        let join = |ended| fills.join(KEY, None, Moment::default(), ended, |_| false);
        let before = fills.ended(&KEY.url);
        let Part::Begin(filling) = join(Some(before)) else {
            panic!("nobody fills yet");
        };
        assert!(matches!(join(Some(before)), Part::Join(_)));
        drop(filling);
        // One that had looked before that.
        assert!(matches!(join(Some(before)), Part::Look));
        let Part::Begin(filling) = join(None) else {
            panic!("it has looked often enough");
        };
        drop(filling);
        let now = fills.ended(&KEY.url);
        assert!(matches!(join(Some(now)), Part::Begin(_)));
    }
    /// Looks for the fill at the very moment at which it hears of a step.
    struct Looks {
        fills: &'static Fills,
        found: AtomicU64,
        heard: AtomicU64,
    }

    impl std::task::Wake for Looks {
        fn wake(self: Arc<Self>) {
            let found = self.fills.find(KEY, None).is_some();
            self.found.fetch_add(u64::from(found), Ordering::SeqCst);
            self.heard.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_hears_of_an_end_does_not_find_it_again() {
        let fills: &'static Fills = Box::leak(Box::default());
        let Part::Begin(filling) = fills.join(KEY, None, Moment::default(), None, |_| false) else {
            panic!("nobody fills yet");
        };
        let looks = Arc::new(Looks {
            fills,
            found: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        });
        let mut steps = filling.fill().follow();
        let mut changed = std::pin::pin!(steps.changed());
        let waker = looks.clone().into();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(changed.as_mut().poll(&mut cx).is_pending());
        drop(filling);
        assert!(changed.as_mut().poll(&mut cx).is_ready());
        let seen = |count: &AtomicU64| count.load(Ordering::SeqCst);
        assert_eq!((seen(&looks.heard), seen(&looks.found)), (1, 0));
    }
}
