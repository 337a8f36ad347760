//! What time it is.
//!
//! A request asks some ten times, and reading the clock costs more than what is then done with it. So the clock is read when a
//! task of a connection is woken, and what it does until it waits again happens at that moment: some ten microseconds as a rule,
//! some milliseconds where it compresses or had to wait for a processor. Tasks of another kind read the clock each time, and so
//! does what is compared with others' times to the microsecond, as purges are.

use pin_project_lite::pin_project;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long it may take until the system's clock was set is known here.
const KNOWN: Duration = Duration::from_millis(100);

/// A moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    at: Instant,
    /// The same, counted from the start of the process: what most who ask want to know, and sooner taken from another.
    since_start: Duration,
}

impl Moment {
    /// As others know it.
    pub fn instant(self) -> Instant {
        self.at
    }

    /// How long ago it is, as far as the task that asks knows.
    pub fn elapsed(self) -> Duration {
        now().saturating_sub(self.since_start)
    }

    /// How long it is after another one.
    pub fn since(self, earlier: Moment) -> Duration {
        self.since_start.saturating_sub(earlier.since_start)
    }

    /// This one.
    fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        // First, so that no moment is before it.
        let start = *START.get_or_init(Instant::now);
        let at = Instant::now();
        Moment {
            at,
            since_start: at.saturating_duration_since(start),
        }
    }
}

thread_local! {
    /// When the task was woken that runs on this thread, if it is one of those.
    static WOKEN: Cell<Option<Moment>> = const { Cell::new(None) };
    /// A moment, and what the system's clock showed then, since the epoch.
    static SHOWN: Cell<Option<(Duration, Duration)>> = const { Cell::new(None) };
}

/// The time as policies of running pools count it: since the process first asked. One clock for all workers: what one notes,
/// another compares. One may be a moment behind the other.
pub fn now() -> Duration {
    WOKEN.get().unwrap_or_else(Moment::now).since_start
}

/// The moment at which the task was woken that asks, or this one.
pub fn moment() -> Moment {
    WOKEN.get().unwrap_or_else(Moment::now)
}

/// The same as others know it.
pub fn instant() -> Instant {
    WOKEN.get().map_or_else(Instant::now, |woken| woken.at)
}

/// What the system's clock showed at that moment, or shows now where that was long ago.
pub fn wall() -> SystemTime {
    UNIX_EPOCH + since_epoch()
}

/// The same as a time since the epoch, as policies count it. A clock that shows an earlier one shows the epoch.
pub fn since_epoch() -> Duration {
    let shows = || SystemTime::now().duration_since(UNIX_EPOCH);
    let Some(Moment { since_start, .. }) = WOKEN.get() else {
        return shows().unwrap_or_default();
    };
    let known = SHOWN.get();
    let shown = known.and_then(|shown| shown_at(shown, since_start));
    shown.unwrap_or_else(|| {
        // In this order: what comes between the two makes it late, and never early.
        let shown = shows().unwrap_or_default();
        let now = (Moment::now().since_start, shown);
        SHOWN.set(Some(now));
        shown_at(now, since_start).unwrap_or(shown)
    })
}

/// What it showed at a moment, as long as it is known what it showed about that time.
fn shown_at((then, shown): (Duration, Duration), at: Duration) -> Option<Duration> {
    match at.checked_sub(then) {
        Some(later) if later < KNOWN => shown.checked_add(later),
        Some(_) => None,
        None => shown.checked_sub(then.checked_sub(at).filter(|earlier| *earlier < KNOWN)?),
    }
}

/// How long before that something was.
pub fn since(then: Instant) -> Duration {
    instant().saturating_duration_since(then)
}

/// This moment, which the task that asks takes for the one at which it was woken from now on.
pub fn read() -> Moment {
    let now = Moment::now();
    if WOKEN.get().is_some() {
        WOKEN.set(Some(now));
    }
    now
}

pin_project! {
    /// A task that reads the clock when it is woken.
    pub struct Woken<F> {
        #[pin]
        task: F,
    }
}

/// Makes it one.
pub fn woken<F: Future>(task: F) -> Woken<F> {
    Woken { task }
}

/// Sets what was before, whatever happens.
struct Before(Option<Moment>);

impl Drop for Before {
    fn drop(&mut self) {
        WOKEN.set(self.0);
    }
}

impl<F: Future> Future for Woken<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _before = Before(WOKEN.replace(Some(Moment::now())));
        self.project().task.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until_it_moves() -> Instant {
        let began = Instant::now();
        while began.elapsed().is_zero() {}
        began
    }

    #[tokio::test]
    async fn a_task_is_at_one_moment_until_it_waits_or_reads_the_clock() {
        woken(async {
            let asked = || (instant(), now());
            let first = asked();
            until_it_moves();
            assert_eq!((asked(), since(first.0)), (first, Duration::ZERO));
            tokio::task::yield_now().await;
            let second = asked();
            assert!(second.0 > first.0);
            // Both count the same time.
            assert_eq!(second.1 - first.1, second.0 - first.0);
            until_it_moves();
            let third = read().instant();
            assert_eq!(third - second.0, now() - second.1);
            assert!(third > second.0);
            assert_eq!(instant(), third);
        })
        .await;
    }

    #[test]
    fn the_systems_clock_goes_on_as_the_other_one_does() {
        let ms = Duration::from_millis;
        let (then, shown) = (ms(1_000), ms(1_795_910_400_000));
        for (at, expected) in [
            (then, Some(shown)),
            (then + ms(99), Some(shown + ms(99))),
            (then - ms(99), Some(shown - ms(99))),
            // A look of long ago counts for nothing any more, nor does one that is still to come.
            (then + KNOWN, None),
            (then - KNOWN, None),
        ] {
            assert_eq!(shown_at((then, shown), at), expected);
        }
    }

    #[tokio::test]
    async fn what_it_shows_is_looked_at_again_where_it_is_not_known() {
        woken(async {
            let long_ago = Duration::ZERO;
            for known in [
                None,
                // One to come, for there may be none so long ago: the process has just begun.
                Some((now() + 2 * KNOWN, long_ago)),
            ] {
                SHOWN.set(known);
                until_it_moves();
                let told = since_epoch();
                let (then, shown) = SHOWN.get().unwrap();
                assert!(then > now() && shown > long_ago);
                // It is the moment of waking that is asked for, whenever it is asked.
                assert_eq!(told, shown_at((then, shown), now()).unwrap_or(shown));
                assert!(told < shown || then - now() >= KNOWN);
            }
            SHOWN.set(Some((now(), Duration::ZERO)));
            assert_eq!((since_epoch(), wall()), (Duration::ZERO, UNIX_EPOCH));
        })
        .await;
        let before = SystemTime::now();
        assert!(wall() >= before);
    }

    #[tokio::test]
    async fn elsewhere_the_clock_is_read_each_time_whatever_became_of_a_task() {
        let panicked = tokio::spawn(woken(async { panic!("in the middle") })).await;
        assert!(panicked.is_err());
        let first = instant();
        until_it_moves();
        assert!(instant() > first);
        assert!(read().instant() > first);
        let last = instant();
        until_it_moves();
        assert!(instant() > last);
    }
}
