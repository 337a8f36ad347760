//! Tasks of tests: such as count how often they are woken, and such as have had their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker};
use tokio::task::consume_budget;
use tokio::task::coop::has_budget_remaining;

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Sleeper(AtomicU32);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Sleeper {
    /// Two, and what wakes them.
    pub(super) fn two() -> ([Arc<Sleeper>; 2], [Waker; 2]) {
        let tasks = [(); 2].map(|()| Arc::default());
        (tasks.clone(), tasks.map(Waker::from))
    }

    /// How often it was woken since this was last asked.
    pub(super) fn woken(&self) -> u32 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Uses up all that the task may do before others have their turn.
pub(super) async fn take_turn() {
    while has_budget_remaining() {
        consume_budget().await;
    }
}
