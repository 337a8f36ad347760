//! The memory that requests are served in: lent to one after the other.
//!
//! What is known of a request while it is served takes some three thousand bytes, too many to be held for connections that wait for
//! one, and enough for an allocator to take its time. The room that was used last is still in the processor's cache. Whoever serves
//! there stays: the next request is handed in, and what it is to be served in is not made elsewhere and moved.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::LocalKey;

/// How many a worker keeps that nobody uses.
const SPARE: usize = 64;

/// Serves one request after the other, and waits in between.
type Room = Pin<Box<dyn Future<Output = Infallible> + Send>>;

/// Those of one kind of request.
pub struct Rooms<J, T> {
    /// Nobody uses these.
    spare: RefCell<Vec<Room>>,
    /// What is handed into a room, and out of it: there only while that room is polled.
    job: Cell<Option<J>>,
    done: Cell<Option<T>>,
}

impl<J, T> Rooms<J, T> {
    /// None so far.
    pub const fn new() -> Self {
        Rooms {
            spare: RefCell::new(Vec::new()),
            job: Cell::new(None),
            done: Cell::new(None),
        }
    }
}

impl<J, T> Default for Rooms<J, T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves a request in a room, which is given back when that is done.
pub struct InRoom<J: 'static, T: 'static> {
    /// There until it is given back.
    room: Option<Room>,
    /// There until it is handed in.
    job: Option<J>,
    rooms: &'static LocalKey<Rooms<J, T>>,
}

/// Has a request served in one of these rooms, or in a new one. Who is to `stay` there asks for the [`next`] one and says when it is
/// [`done`], again and again.
pub fn serve<J, T, S>(
    rooms: &'static LocalKey<Rooms<J, T>>,
    job: J,
    stay: impl FnOnce() -> S,
) -> InRoom<J, T>
where
    S: Future<Output = Infallible> + Send + 'static,
{
    let spare = rooms.with(|rooms| rooms.spare.borrow_mut().pop());
    InRoom {
        room: Some(spare.unwrap_or_else(|| Box::pin(stay()))),
        job: Some(job),
        rooms,
    }
}

/// Waits for the next request that is handed into a room.
pub async fn next<J, T>(rooms: &'static LocalKey<Rooms<J, T>>) -> J {
    poll_fn(|_| match rooms.with(|rooms| rooms.job.take()) {
        Some(job) => Poll::Ready(job),
        None => Poll::Pending,
    })
    .await
}

/// Hands out what came of it.
pub fn done<J, T>(rooms: &'static LocalKey<Rooms<J, T>>, done: T) {
    rooms.with(|rooms| rooms.done.set(Some(done)));
}

// Only the room is polled where it is.
impl<J, T> Unpin for InRoom<J, T> {}

impl<J, T> Future for InRoom<J, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        let Some(room) = &mut this.room else {
            // It has ended before.
            return Poll::Pending;
        };
        if let Some(job) = this.job.take() {
            this.rooms.with(|rooms| rooms.job.set(Some(job)));
        }
        let Poll::Pending = room.as_mut().poll(cx);
        this.rooms.with(|rooms| match rooms.done.take() {
            Some(done) => {
                let mut spare = rooms.spare.borrow_mut();
                if spare.len() < SPARE {
                    spare.extend(this.room.take());
                }
                Poll::Ready(done)
            }
            None => Poll::Pending,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    type Job = Option<Arc<()>>;

    thread_local! {
        static ROOMS: Rooms<Job, usize> = const { Rooms::new() };
    }

    fn spare() -> usize {
        ROOMS.with(|rooms| rooms.spare.borrow().len())
    }

    /// Where it is.
    fn place(served: &InRoom<Job, usize>) -> *const u8 {
        let room = served.room.as_ref().unwrap();
        std::ptr::from_ref(&**room).cast()
    }

    /// Waits once, and has something of its own.
    fn serving(held: Arc<()>) -> InRoom<Job, usize> {
        serving_so(Some(held))
    }

    /// Without anything it panics.
    fn serving_so(held: Job) -> InRoom<Job, usize> {
        serve(&ROOMS, held, stay)
    }

    async fn stay() -> Infallible {
        loop {
            let held = next(&ROOMS).await;
            tokio::task::yield_now().await;
            let holders = Arc::strong_count(&held.unwrap());
            done(&ROOMS, holders);
        }
    }

    #[tokio::test]
    async fn one_serves_in_the_room_of_the_one_before_of_whom_nothing_is_left() {
        let held = Arc::new(());
        let first = serving(held.clone());
        let room = place(&first);
        assert_eq!(first.await, 2);
        assert_eq!((spare(), Arc::strong_count(&held)), (1, 1));
        assert_eq!(place(&serving(held.clone())), room);
        assert_eq!(serving(held.clone()).await, 2);
        let mut one = serving(held.clone());
        let other = serving(held.clone());
        assert_eq!(spare(), 0);
        assert_eq!((&mut one).await, 3);
        assert_eq!(other.await, 2);
        assert_eq!((spare(), Arc::strong_count(&held)), (2, 1));
        // Nor of one that nobody waits for any more, or that panics: its room is not used again.
        drop(serving(held.clone()));
        assert!(tokio::spawn(serving_so(None)).await.is_err());
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
