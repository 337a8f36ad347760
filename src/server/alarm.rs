//! A timer for one wait after the other.
//!
//! Most waits end long before they have taken too long. Setting a timer for each and taking it back would cost more than the
//! waits themselves do. Decides nothing: how long is the caller's to say.

use crate::clock;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;
use tokio::time::Sleep;

/// A timer that is set for each wait, and moved only when it would ring too late: most waits end long before.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Nobody waits any more: whoever did is not woken, nor kept for it.
    pub fn forget(&mut self) {
        if let Some(timer) = &mut self.0 {
            // Whether it rings at this moment concerns nobody.
            let _ = timer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Is ready once it is so late.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let at = tokio::time::Instant::from_std(deadline);
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        loop {
            if timer.is_elapsed() || timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
            if tokio::time::Instant::now() >= at {
                // What is decided on it finds that the time is over.
                clock::read();
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_when_it_is_set_to() {
        let mut alarm = Alarm::default();
        let begin = tokio::time::Instant::now();
        let mut rings = async |seconds| {
            let at = (begin + Duration::from_secs(seconds)).into_std();
            std::future::poll_fn(|cx| alarm.poll(cx, at)).await;
            begin.elapsed().as_secs()
        };
        assert_eq!(rings(5).await, 5);
        assert_eq!(rings(9).await, 9);
        // Over already.
        assert_eq!(rings(7).await, 9);
        assert_eq!(rings(12).await, 12);
    }
}
