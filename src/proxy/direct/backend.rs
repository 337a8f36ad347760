//! A backend that is asked: the connection to it, and the content of its answer.
//!
//! Called by [`super`]. Every wait here ends at the deadline that is armed, and when the client leaves.

use super::reader::{Content, Reader};
use crate::policy::timeouts::Phase;
use crate::proxy::ctx::Ctx;
use crate::proxy::downstream::DEADLINE;
use crate::proxy::tries::arm;
use crate::server::alarm::Alarm;
use crate::upstream::links::Link;
use pingora::{Error, ErrorType, Result};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The error of chunked content that is none; Pingora's name for it.
const INVALID_CHUNK: ErrorType = ErrorType::new("InvalidChunk");

/// Finds or opens the connection of the try under way.
///
/// # Errors
/// That tell what went wrong as Pingora's do.
pub(super) async fn connect(ctx: &mut Ctx) -> Result<Link> {
    let (Some(current), Some(timeouts)) = (&ctx.current, ctx.timeouts()) else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let address = current.address;
    let link = match Link::kept(address) {
        Some(link) => link,
        None => {
            let left = timeouts.left(ctx.watch.elapsed());
            let link = open(address, timeouts.connect.min(left)).await?;
            ctx.note_connection();
            link
        }
    };
    ctx.connected(true);
    Ok(link)
}

async fn open(address: SocketAddr, within: Duration) -> Result<Link> {
    let Ok(opened) = tokio::time::timeout(within, Link::open(address)).await else {
        return Err(Error::explain(ErrorType::ConnectTimedout, "connecting").into_up());
    };
    opened.map_err(|e| {
        let kind = match e.kind() {
            io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
            io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                ErrorType::ConnectNoRoute
            }
            _ => ErrorType::ConnectError,
        };
        Error::because(kind, "connecting", e).into_up()
    })
}

/// Lets a wait run until the deadline that is armed.
pub(super) async fn in_time<T>(
    ctx: &Ctx,
    alarm: &mut Alarm,
    wait: impl Future<Output = T>,
) -> Result<T> {
    let mut wait = pin!(wait);
    let deadline = ctx.watch.deadline();
    poll_fn(|cx| {
        if let Poll::Ready(done) = wait.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        match deadline.is_some_and(|deadline| alarm.poll(cx, deadline).is_ready()) {
            true => Poll::Ready(Err(late())),
            false => Poll::Pending,
        }
    })
    .await
}

pub(super) fn late() -> Box<Error> {
    Error::explain(DEADLINE, "waiting for a backend")
}

pub(super) fn ended() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "before the end").into_up()
}

/// Waits for more bytes of an answer; says how many came: none at the end. `gone`: whether the client is.
///
/// # Errors
/// Of the connection; when there are none in time; when the client has left.
pub(super) async fn read(
    ctx: &Ctx,
    link: &mut Link,
    reader: &mut Reader,
    mut gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Result<usize> {
    let deadline = ctx.watch.deadline();
    poll_fn(|cx| {
        if let Poll::Ready(read) = reader.poll(cx, link) {
            let failed = |e| Error::because(ErrorType::ReadError, "reading an answer", e);
            return Poll::Ready(read.map_err(|e| failed(e).into_up()));
        }
        if gone(cx).is_ready() {
            let left = Error::explain(ErrorType::ConnectionClosed, "the client left");
            return Poll::Ready(Err(left.into_down()));
        }
        match deadline.is_some_and(|deadline| link.alarm.poll(cx, deadline).is_ready()) {
            true => Poll::Ready(Err(late())),
            false => Poll::Pending,
        }
    })
    .await
}

/// What an answer comes from.
pub(super) struct Backend {
    pub(super) link: Link,
    pub(super) reader: Reader,
    pub(super) content: Content,
    pub(super) is_kept: bool,
}

impl Backend {
    /// Finds content among what was read, and waits for none. Says how much of it was looked at.
    pub(super) fn find(&mut self, ctx: &mut Ctx, found: &mut Vec<Range<usize>>) -> Result<usize> {
        let looked_at = self.content.find(self.reader.unread(), found);
        let looked_at = looked_at
            .map_err(|_| Error::explain(INVALID_CHUNK, "the content of an answer").into_up())?;
        self.note_end(ctx);
        Ok(looked_at)
    }

    fn note_end(&mut self, ctx: &mut Ctx) {
        if self.content.is_whole() {
            ctx.has_come();
        }
    }

    /// Waits for more content. `gone`: whether the client is.
    pub(super) async fn more(
        &mut self,
        ctx: &mut Ctx,
        gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Result<()> {
        self.reader.rest();
        arm(ctx, Phase::AwaitingBody);
        // An answer that trickles keeps the wait from ever reaching its deadline; the total still ends it.
        if ctx.time_left().is_zero() {
            return Err(late());
        }
        let read = read(ctx, &mut self.link, &mut self.reader, gone).await?;
        match (&self.content, read) {
            (Content::UntilClosed, 0) => {
                self.content = Content::None;
                self.note_end(ctx);
                Ok(())
            }
            (_, 0) => Err(ended()),
            _ => Ok(()),
        }
    }

    /// Keeps the connection for another request, where that is possible.
    pub(super) fn keep(self, ctx: &Ctx) {
        let idle = ctx.current.as_ref().map(|c| c.upstream.keepalive_idle);
        // What comes after the end was not asked for.
        if let Some(idle) = idle.filter(|_| self.is_kept && self.reader.unread().is_empty()) {
            self.link.keep(idle);
        }
    }
}
