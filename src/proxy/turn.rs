//! Turns for pieces of content that come slowly: see [`pace`].

use crate::clock;
use crate::policy::pace;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

/// From when on the next place is free, in nanoseconds of the process's clock. Only who is slow looks here.
static FREE: AtomicU64 = AtomicU64::new(0);

/// Reads; and from who is slow, once it had to be waited for, in its turn. Nothing is read before that, so whoever gives up waiting
/// loses nothing.
pub(super) async fn in_turn<T>(read: impl Future<Output = T>, is_slow: impl Fn() -> bool) -> T {
    let mut read = pin!(read);
    loop {
        // What is there already is taken at once.
        let now = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
        if let Poll::Ready(read) = now {
            return read;
        }
        let mut is_woken = false;
        poll_fn(|_| match std::mem::replace(&mut is_woken, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        let wait = if is_slow() { take() } else { Duration::ZERO };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Takes a place: how long until it.
fn take() -> Duration {
    let now = clock::now();
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut wait = Duration::ZERO;
    let taken = FREE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
        let next;
        (wait, next) = pace::place(Duration::from_nanos(free), now);
        Some(nanos(next))
    });
    debug_assert!(taken.is_ok(), "there always is another place");
    wait
}
