//! What a request and its wrapped session share: until when what is waited for has to come, and how what is read and written is
//! timed by that.
//!
//! Made by `front`, armed by whoever begins to wait, looked at by [`super::downstream`]. Decides nothing: the deadlines come from
//! `policy::timeouts`, what is too slow says `policy::pace`.

use super::ctx::LINGER;
use super::hedge::Hedge;
use super::trailers::Trailers;
use super::turn::in_turn;
use crate::clock::Moment;
use crate::policy::limits::patience;
use crate::policy::pace;
use crate::upstream::own::Own;
use bytes::Bytes;
use pin_project_lite::pin_project;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// The error of a client whose body comes too slowly.
pub(super) const SLOW_BODY: ErrorType = ErrorType::Custom("slow body");
/// The error of a client that had not taken its response when `total` was over.
pub(super) const SLOW_CLIENT: ErrorType = ErrorType::Custom("slow client");
/// "None" among the times of a [`Watch`].
const NEVER: u64 = u64::MAX;

/// What a request and its wrapped session share.
pub(super) struct Watch {
    began: Moment,
    /// What is waited for has to come by then. Nanoseconds after `started`, or [`NEVER`], as are the next two.
    deadline: AtomicU64,
    /// The span that `deadline` is moved to after each write to the client: its slowness is not the backend's.
    idle: AtomicU64,
    /// When `total` is over.
    total: AtomicU64,
    /// A second request, where there may be one.
    pub(super) hedge: OnceLock<Arc<Hedge>>,
    /// Its trailers, where there may be some.
    pub(super) trailers: OnceLock<Arc<Trailers>>,
    /// Whether this is a fill whose answer goes to the store: then there is nobody to read from or write to.
    filling: AtomicBool,
    /// Whether the end of the answer went to the client.
    ended: AtomicBool,
    /// Whether what is written is to leave at once, because what follows may take a while.
    eager: AtomicBool,
    /// How fast the body has to come: bytes in a second.
    body_rate: OnceLock<u64>,
    /// How long it was waited for, in nanoseconds, and how much of it came.
    body_waited: AtomicU64,
    body_seen: AtomicU64,
    /// Set when the process drains: responses then close their connection.
    draining: Own<AtomicBool>,
    /// Whether there is a wrapper.
    pub(super) wrapped: AtomicBool,
    /// Where it leaves the session when it is dropped.
    pub(super) returned: Mutex<Option<Box<ServerSession>>>,
}

impl Watch {
    /// That of a request whose head was there then. `draining`: set when the process is to end.
    pub(super) fn new(draining: Own<AtomicBool>, began: Moment) -> Self {
        Watch {
            began,
            deadline: AtomicU64::new(NEVER),
            idle: AtomicU64::new(NEVER),
            total: AtomicU64::new(NEVER),
            hedge: OnceLock::new(),
            trailers: OnceLock::new(),
            filling: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            eager: AtomicBool::new(false),
            body_rate: OnceLock::new(),
            body_waited: AtomicU64::new(0),
            body_seen: AtomicU64::new(0),
            draining,
            wrapped: AtomicBool::new(false),
            returned: Mutex::new(None),
        }
    }

    /// The body has to come as fast as that, from now on.
    pub(super) fn expect_body(&self, rate: u64) {
        // It is said once for each request.
        let _ = self.body_rate.set(rate);
    }

    /// The answer goes to the store.
    pub(super) fn fill(&self) {
        self.filling.store(true, Ordering::Relaxed);
    }

    /// The answer goes to the client after all.
    pub(super) fn pass(&self) {
        self.filling.store(false, Ordering::Relaxed);
    }

    /// Whether it does.
    pub(super) fn filling(&self) -> bool {
        self.filling.load(Ordering::Relaxed)
    }

    /// The answer is at its end, which no filter is told of where that is the end of its head: for a while the client may go on
    /// sending its request.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.arm(Some(self.elapsed() + LINGER), None);
    }

    /// Whether the end of the answer went to the client.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// What is written from now on leaves at once.
    pub(super) fn hurry(&self) {
        self.eager.store(true, Ordering::Relaxed);
    }

    pub(super) fn eager(&self) -> bool {
        self.eager.load(Ordering::Relaxed)
    }

    /// When the request began.
    pub(super) fn started(&self) -> Instant {
        self.began.instant()
    }

    /// How long it lasts until then.
    pub(super) fn lasted(&self, until: Moment) -> Duration {
        until.since(self.began)
    }

    /// How long the request has lasted.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether the process drains.
    pub(super) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Arms the deadline, counted from the request's start, or with `None` disarms it. `idle`: whether the wait is for more
    /// of the response, and how long it may last each time.
    pub(super) fn arm(&self, deadline: Option<Duration>, idle: Option<Duration>) {
        self.deadline.store(nanos(deadline), Ordering::Relaxed);
        self.idle.store(nanos(idle), Ordering::Relaxed);
    }

    /// Sets when `total` is over, counted from the request's start; a tunnel has no such time.
    pub(super) fn set_total(&self, total: Option<Duration>) {
        self.total.store(nanos(total), Ordering::Relaxed);
    }

    /// The client took what was written: the wait for more begins now.
    pub(super) fn written(&self) {
        let idle = self.idle.load(Ordering::Relaxed);
        if idle != NEVER {
            let next = nanos(Some(self.elapsed())).saturating_add(idle);
            let total = self.total.load(Ordering::Relaxed);
            self.deadline.store(next.min(total), Ordering::Relaxed);
        }
    }

    /// When what is waited for has to be there.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.at(&self.deadline)
    }

    fn at(&self, time: &AtomicU64) -> Option<Instant> {
        match time.load(Ordering::Relaxed) {
            NEVER => None,
            nanos => Some(self.started() + Duration::from_nanos(nanos)),
        }
    }
}

fn nanos(time: Option<Duration>) -> u64 {
    time.map_or(NEVER, |t| u64::try_from(t.as_nanos()).unwrap_or(NEVER))
}

/// A wait for a piece of a body; counts when it ends, also because something else came first.
struct Waiting<'a>(&'a Watch, Instant);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Waiting(watch, began) = self;
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        watch.body_waited.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// Waits for the next piece of a body, as long as that is bearable.
///
/// # Errors
/// Of the read, or [`SLOW_BODY`].
pub(super) async fn next_piece(
    watch: &Watch,
    read: impl Future<Output = Result<Option<Bytes>>>,
) -> Result<Option<Bytes>> {
    let rate = watch.body_rate.get().copied();
    let waited = Duration::from_nanos(watch.body_waited.load(Ordering::Relaxed));
    let Some(left) = patience(rate, watch.body_seen.load(Ordering::Relaxed), waited) else {
        return read.await;
    };
    let began = Instant::now();
    let _waiting = Waiting(watch, began);
    let seen = watch.body_seen.load(Ordering::Relaxed);
    let is_slow = || pace::is_slow(seen, waited + began.elapsed());
    let read = tokio::select! {
        biased;
        read = in_turn(read, is_slow) => read?,
        () = tokio::time::sleep(left) => return Error::e_explain(SLOW_BODY, "too few bytes came"),
    };
    let bytes = read.as_ref().map_or(0, Bytes::len);
    watch.body_seen.fetch_add(bytes as u64, Ordering::Relaxed);
    Ok(read)
}

/// Lets a write to the client run until `total` is over: Pingora does not look at the session's deadline meanwhile.
pub(super) fn write<T, F: Future<Output = Result<T>> + Send>(
    watch: &Watch,
    write: F,
) -> Writing<'_, F> {
    Writing {
        watch,
        write,
        over: None,
    }
}

pin_project! {
    /// Such a write. No `async fn`, which would have room for what it waits for twice.
    pub(super) struct Writing<'a, F> {
        watch: &'a Watch,
        #[pin]
        write: F,
        // Mostly there is nothing to wait for.
        over: Option<Pin<Box<Sleep>>>,
    }
}

impl<T, F: Future<Output = Result<T>>> Future for Writing<'_, F> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.project();
        let written = match this.write.poll(cx) {
            Poll::Ready(written) => written,
            Poll::Pending => {
                let Some(total) = this.watch.at(&this.watch.total) else {
                    return Poll::Pending;
                };
                let over = || Box::pin(tokio::time::sleep_until(total.into()));
                ready!(this.over.get_or_insert_with(over).as_mut().poll(cx));
                Error::e_explain(SLOW_CLIENT, "total is over")
            }
        };
        this.watch.written();
        Poll::Ready(written)
    }
}
