//! What is said once to all who wait for it: that the process ends, that idle connections do.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};
use tokio::sync::watch;
use tokio::task::unconstrained;

/// Ends when a flag turns true, or nobody is left who could say so. Connections wait for it beside all else that may happen to them:
/// to ask again costs next to nothing where the task that asks will be woken already.
pub async fn raised(flag: &watch::Receiver<bool>) {
    let mut waiting = flag.clone();
    // A task that has had its turn would not be told, were it to ask as others do, and it does not ask again.
    let mut raised = pin!(unconstrained(waiting.wait_for(|is_raised| *is_raised)));
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
    use super::super::sleeper::{Sleeper, take_turn};
    use super::*;
    use std::task::Context;
    use std::time::Duration;

    #[test]
    fn who_waits_is_woken_however_often_it_asked() {
        let (sender, flag) = watch::channel(false);
        let (tasks, wakers) = Sleeper::two();
        let mut waits = pin!(raised(&flag));
        let mut asks = |task: usize| {
            let mut cx = Context::from_waker(&wakers[task]);
            waits.as_mut().poll(&mut cx).is_ready()
        };
        assert!(!asks(0) && !asks(0) && !asks(1) && !asks(1));
        sender.send(true).unwrap();
        // The one that asked last.
        assert_eq!(tasks[1].woken(), 1);
        assert!(asks(1));
        // Who comes later need not wait.
        let mut late = pin!(raised(&flag));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(late.as_mut().poll(&mut cx).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn so_is_a_task_that_has_had_its_turn() {
        let (sender, flag) = watch::channel(false);
        let task = tokio::spawn(async move {
            take_turn().await;
            raised(&flag).await;
        });
        // Time goes on once the task waits.
        let second = Duration::from_secs(1);
        tokio::time::sleep(second).await;
        // What is said beside makes no difference, and that nobody can say it any more is the same as that it was said.
        sender.send(false).unwrap();
        tokio::time::sleep(second).await;
        assert!(!task.is_finished());
        drop(sender);
        let ended = tokio::time::timeout(Duration::from_secs(9), task).await;
        assert!(ended.is_ok_and(|task| task.is_ok()));
    }
}
