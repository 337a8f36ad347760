//! What is said once to all who wait for it: that the process ends, that idle connections do.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};
use tokio::sync::watch;

/// Ends when a flag turns true, or nobody is left who could say so. Connections wait for it beside all else that may happen to them:
/// to ask again costs next to nothing where the task that asks will be woken already.
pub async fn raised(flag: &watch::Receiver<bool>) {
    let mut waiting = flag.clone();
    let mut raised = pin!(waiting.wait_for(|is_raised| *is_raised));
    let mut waits: Option<Waker> = None;
    poll_fn(|cx| {
        let will_be_woken = waits.as_ref().is_some_and(|w| w.will_wake(cx.waker()));
        if will_be_woken && matches!(flag.has_changed(), Ok(false)) {
            return Poll::Pending;
        }
        waits = Some(cx.waker().clone());
        raised.as_mut().poll(cx).map(drop)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Wake};

    #[derive(Default)]
    struct Waits(AtomicU32);

    impl Wake for Waits {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_however_often_it_asked() {
        let (sender, flag) = watch::channel(false);
        let tasks = [(); 2].map(|()| Arc::new(Waits::default()));
        let wakers = tasks.clone().map(Waker::from);
        let mut waits = pin!(raised(&flag));
        let mut asks = |task: usize| {
            let mut cx = Context::from_waker(&wakers[task]);
            waits.as_mut().poll(&mut cx).is_ready()
        };
        assert!(!asks(0) && !asks(0) && !asks(1) && !asks(1));
        sender.send(true).unwrap();
        // The one that asked last.
        assert_eq!(tasks[1].0.load(Ordering::Relaxed), 1);
        assert!(asks(1));
        // Who comes later need not wait.
        let mut late = pin!(raised(&flag));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(late.as_mut().poll(&mut cx).is_ready());
    }
}
