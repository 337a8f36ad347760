//! The memory that requests are served in: lent to one after the other.
//!
//! What is known of a request while it is served takes some two thousand bytes, too many to be held for connections that wait for
//! one, and enough for an allocator to take its time. The room that was used last is still in the processor's cache.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread::LocalKey;
use tokio_util::sync::ReusableBoxFuture;

/// How many a worker keeps that nobody uses.
const SPARE: usize = 64;

/// Those that nobody uses, of one kind of request.
pub struct Rooms<T>(RefCell<Vec<ReusableBoxFuture<'static, T>>>);

impl<T> Rooms<T> {
    /// None so far.
    pub const fn new() -> Self {
        Rooms(RefCell::new(Vec::new()))
    }
}

impl<T> Default for Rooms<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves a request in a room, which is given back when that is done.
pub struct InRoom<T: 'static> {
    /// There until it is given back.
    room: Option<ReusableBoxFuture<'static, T>>,
    rooms: &'static LocalKey<Rooms<T>>,
}

/// Has it served in one of these rooms, or in a new one.
pub fn serve<T>(
    rooms: &'static LocalKey<Rooms<T>>,
    serving: impl Future<Output = T> + Send + 'static,
) -> InRoom<T> {
    let room = match rooms.with(|rooms| rooms.0.borrow_mut().pop()) {
        Some(mut room) => {
            room.set(serving);
            room
        }
        None => ReusableBoxFuture::new(serving),
    };
    InRoom {
        room: Some(room),
        rooms,
    }
}

impl<T> Future for InRoom<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        let Some(room) = &mut this.room else {
            // It has ended before.
            return Poll::Pending;
        };
        let done = ready!(room.poll(cx));
        let room = this.room.take();
        this.rooms.with(|rooms| {
            let mut rooms = rooms.0.borrow_mut();
            if rooms.len() < SPARE {
                rooms.extend(room);
            }
        });
        Poll::Ready(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    thread_local! {
        static ROOMS: Rooms<usize> = const { Rooms::new() };
    }

    fn spare() -> usize {
        ROOMS.with(|rooms| rooms.0.borrow().len())
    }

    /// Where it is.
    fn place(served: &mut InRoom<usize>) -> *const u8 {
        let room = served.room.as_mut().unwrap().get_pin();
        std::ptr::from_ref(&*room).cast()
    }

    /// Waits once, and has something of its own.
    fn serving(held: Arc<()>) -> InRoom<usize> {
        serve(&ROOMS, async move {
            tokio::task::yield_now().await;
            Arc::strong_count(&held)
        })
    }

    #[tokio::test]
    async fn one_serves_in_the_room_of_the_one_before_of_whom_nothing_is_left() {
        let held = Arc::new(());
        let mut first = serving(held.clone());
        let room = place(&mut first);
        assert_eq!(first.await, 2);
        assert_eq!((spare(), Arc::strong_count(&held)), (1, 1));
        assert_eq!(place(&mut serving(held.clone())), room);
        assert_eq!(serving(held.clone()).await, 2);
        let mut one = serving(held.clone());
        let other = serving(held.clone());
        assert_eq!(spare(), 0);
        assert_eq!((&mut one).await, 3);
        assert_eq!(other.await, 2);
        assert_eq!((spare(), Arc::strong_count(&held)), (2, 1));
        // Nor of one that nobody waits for any more, or that panics: its room is not used again.
        drop(serving(held.clone()));
        let panics = serve(&ROOMS, async { panic!("in the middle") });
        assert!(tokio::spawn(panics).await.is_err());
        assert_eq!((spare(), Arc::strong_count(&held)), (0, 1));
    }

    #[tokio::test]
    async fn no_more_are_kept_than_may_be() {
        let held = Arc::new(());
        let all: Vec<_> = (0..SPARE + 9).map(|_| serving(held.clone())).collect();
        futures::future::join_all(all).await;
        assert_eq!(spare(), SPARE);
    }
}
