//! How long the head of a request has been coming on a connection of HTTP/2, on which there may be several.
//!
//! Asked by [`super::stream`] with the bytes as they come. How long is bearable is the configuration's to say.

use crate::policy::frames::Frames;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// The clock of a connection.
#[derive(Debug)]
pub(super) struct HeadClock {
    /// How long a head may take from its first byte on.
    within: Duration,
    frames: Frames,
    /// When the one that is coming began.
    began: Option<Instant>,
    /// Runs while nothing comes of it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl HeadClock {
    pub(super) fn new(within: Duration) -> Self {
        HeadClock {
            within,
            frames: Frames::default(),
            began: None,
            timer: None,
        }
    }

    /// These bytes came.
    ///
    /// # Errors
    /// When a head has been coming for too long before.
    pub(super) fn see(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.began.is_some_and(|at| at.elapsed() > self.within) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let before = self.frames.heads();
        self.frames.see(bytes);
        let is_another = self.frames.heads() != before;
        match self.frames.is_within_head() {
            true if self.began.is_none() || is_another => self.began = Some(Instant::now()),
            true => {}
            false => self.began = None,
        }
        Ok(())
    }

    /// Ends, with an error, when a head that has begun takes too long although nothing comes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(began) = self.began else {
            self.timer = None;
            return Poll::Pending;
        };
        let until = tokio::time::Instant::from_std(began + self.within);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}
