//! A timer for one wait after the other.
//!
//! Most waits end long before they have taken too long. Setting a timer for each and taking it back would cost more than the
//! waits themselves do. Decides nothing: how long is the caller's to say.

use crate::clock;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;
use tokio::task::unconstrained;
use tokio::time::Sleep;

/// A timer that is set for each wait, and moved only when it would ring too late: most waits end long before.
#[derive(Debug, Default)]
pub struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// Whom it wakes.
    waits: Option<Waker>,
}

impl Alarm {
    /// Nobody waits any more: whoever did is not woken, nor kept for it.
    pub fn forget(&mut self) {
        if let (Some(timer), Some(_)) = (&mut self.timer, self.waits.take()) {
            // Whether it rings at this moment concerns nobody.
            let _ = rings(timer, &mut Context::from_waker(Waker::noop()));
        }
    }

    /// Is ready once it is so late.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let at = tokio::time::Instant::from_std(deadline);
        if self.is_set(cx, at) {
            return Poll::Pending;
        }
        self.waits = Some(cx.waker().clone());
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        loop {
            if timer.is_elapsed() || timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            ready!(rings(timer, cx));
            if tokio::time::Instant::now() >= at {
                // What is decided on it finds that the time is over.
                clock::read();
                return Poll::Ready(());
            }
        }
    }

    /// Whether it wakes the task that asks anyway, and soon enough: so it is with nearly all waits but the first.
    fn is_set(&self, cx: &Context<'_>, at: tokio::time::Instant) -> bool {
        let rings = |timer: &Pin<Box<Sleep>>| timer.deadline() <= at && !timer.is_elapsed();
        let wakes = |waits: &Waker| waits.will_wake(cx.waker());
        self.waits.as_ref().is_some_and(wakes) && self.timer.as_ref().is_some_and(rings)
    }
}

/// Whether a timer rings; if not, it is set. One whose task has had its turn would not be, were it asked as others are, and it is
/// not asked again.
fn rings(timer: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>) -> Poll<()> {
    pin!(unconstrained(timer.as_mut())).poll(cx)
}

#[cfg(test)]
mod tests {
    use super::super::sleeper::{Sleeper, take_turn};
    use super::*;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_when_it_is_set_to() {
        let mut alarm = Alarm::default();
        let begin = tokio::time::Instant::now();
        let mut rings = async |seconds| {
            let at = (begin + Duration::from_secs(seconds)).into_std();
            poll_fn(|cx| alarm.poll(cx, at)).await;
            begin.elapsed().as_secs()
        };
        assert_eq!(rings(5).await, 5);
        assert_eq!(rings(9).await, 9);
        // Over already.
        assert_eq!(rings(7).await, 9);
        assert_eq!(rings(12).await, 12);
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_who_waits_last_and_nobody_once_it_is_forgotten() {
        let mut alarm = Alarm::default();
        let now = tokio::time::Instant::now().into_std();
        let seconds = Duration::from_secs;
        let (tasks, wakers) = Sleeper::two();
        let woken = || tasks.clone().map(|task| task.woken());
        let wait = |alarm: &mut Alarm, task: usize, until| {
            let mut cx = Context::from_waker(&wakers[task]);
            alarm.poll(&mut cx, now + seconds(until)).is_ready()
        };

        // Earlier than it was set to first; and later, which it is found out to be when it rings.
        assert!(!wait(&mut alarm, 0, 5) && !wait(&mut alarm, 0, 3) && !wait(&mut alarm, 0, 4));
        tokio::time::sleep(seconds(3)).await;
        assert_eq!(woken(), [1, 0]);
        assert!(!wait(&mut alarm, 0, 4));
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(woken(), [1, 0]);
        assert!(wait(&mut alarm, 0, 4));

        assert!(!wait(&mut alarm, 0, 6) && !wait(&mut alarm, 1, 6));
        tokio::time::sleep(seconds(2)).await;
        assert_eq!(woken(), [0, 1]);

        assert!(!wait(&mut alarm, 1, 8));
        let held = Arc::strong_count(&tasks[1]);
        alarm.forget();
        // By what it remembers of it, and by the timer.
        assert_eq!(Arc::strong_count(&tasks[1]), held - 2);
        tokio::time::sleep(seconds(2)).await;
        assert_eq!(woken(), [0, 0]);
        // Whoever waits then is woken all the same.
        assert!(!wait(&mut alarm, 1, 9));
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(woken(), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_set_for_a_task_that_has_had_its_turn() {
        let task = tokio::spawn(async {
            let mut alarm = Alarm::default();
            take_turn().await;
            let second = Duration::from_secs(1);
            let at = (tokio::time::Instant::now() + second).into_std();
            poll_fn(|cx| alarm.poll(cx, at)).await;
            // Nor is one that has rung before set any less, or one that another task had.
            take_turn().await;
            poll_fn(|cx| alarm.poll(cx, at + second)).await;
            {
                let mut other = Context::from_waker(Waker::noop());
                assert!(alarm.poll(&mut other, at + 2 * second).is_pending());
            }
            take_turn().await;
            poll_fn(|cx| alarm.poll(cx, at + 2 * second)).await;
        });
        let ended = tokio::time::timeout(Duration::from_secs(9), task).await;
        assert!(ended.is_ok_and(|task| task.is_ok()));
    }
}
