//! A tunnel: once a backend has switched to the protocol that the client asked for (RFC 9110 §7.8), what either sends goes to the
//! other as it comes, until one of them ends it or both are silent for too long.
//!
//! Called by [`super`].

use super::backend::late;
use super::reader::Reader;
use crate::proxy::client::{Client, Side};
use crate::proxy::ctx::Ctx;
use crate::proxy::{answered, wire};
use crate::server::stream::ClientStream;
use crate::upstream::links::Link;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at once.
const ROOM: usize = 64 * 1024;

thread_local! {
    /// What is read is nearly always written at once: so a tunnel with nothing to do has no room of its own.
    static READ_INTO: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Hands on the head that switches, and then whatever comes.
///
/// # Errors
/// When nobody asked for that; when one of the two breaks off, or both are silent for too long.
pub(super) async fn serve(
    session: &mut dyn Client,
    ctx: &mut Ctx,
    mut head: Box<ResponseHeader>,
    (mut link, mut reader): (Link, Reader),
) -> Result<()> {
    answered::check(session.req_header(), &mut head)?;
    ctx.note_answer(head.status);
    answered::weigh(session, ctx, &head)?;
    answered::tell(ctx, &head);
    // It has no end to wait for but that of what goes through it.
    ctx.tunnel = true;
    ctx.watch.set_total(None);
    ctx.tunnel_speaks();
    session.close();
    let Side::Front(request) = session.side() else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let mut down = Way::default();
    // It is no answer of the route's, and goes on as it came.
    wire::begin(&mut down.left, &head);
    down.left.extend_from_slice(b"\r\n");
    let (status, head_length) = (head.status, down.left.len());
    // It need not be here as long as the tunnel is.
    drop(head);
    down.left.extend_from_slice(reader.unread());
    reader.take(reader.unread().len());
    reader.rest();
    ctx.head_at_once = head_length;
    ctx.sent_at_once = Some((status, 0));
    request.stream.begin_tunnel();
    let mut up = Way::default();
    let ended = poll_fn(|cx| {
        poll(
            cx,
            ctx,
            &mut request.stream,
            &mut link,
            (&mut down, &mut up),
        )
    });
    let ended = ended.await;
    // What TLS took is not yet on its way. Where the client is gone, that shows here again.
    let _ = poll_fn(|cx| request.stream.poll_passed(cx)).await;
    request.sent = up.passed;
    ctx.sent_at_once = Some((status, down.passed.saturating_sub(head_length)));
    match up.broken {
        // Who broke off, whoever ended it then.
        Some(e) => Err(of_backend(e)),
        None => ended,
    }
}

fn of_client(e: io::Error) -> Box<Error> {
    Error::because(ErrorType::ReadError, "a tunnel", e).into_down()
}

fn of_backend(e: io::Error) -> Box<Error> {
    Error::because(ErrorType::ReadError, "a tunnel", e).into_up()
}

/// Has everything go on that can; is ready at the end.
fn poll(
    cx: &mut Context<'_>,
    ctx: &Ctx,
    stream: &mut ClientStream,
    link: &mut Link,
    (down, up): (&mut Way, &mut Way),
) -> Poll<Result<()>> {
    // That it waits is no reason not to listen.
    if let Poll::Ready(Err(e)) = stream.poll_passed(cx) {
        return Poll::Ready(Err(of_client(e)));
    }
    loop {
        let tcp = &mut link.tcp;
        let moved_down = down.poll(
            cx,
            |cx, room| Pin::new(&mut *tcp).poll_read(cx, room),
            |cx, data| stream.poll_pass(cx, data),
        );
        let moved_down = moved_down.map_err(|broken| match broken {
            Broken::From(e) => of_backend(e),
            Broken::To(e) => of_client(e),
        })?;
        let is_heard = up.broken.is_none();
        let moved_up = up.poll(
            cx,
            |cx, room| Pin::new(&mut *stream).poll_read(cx, room),
            |cx, data| match is_heard {
                true => Pin::new(&mut *tcp).poll_write(cx, data),
                // What is left unread would take the answer with it when the connection is closed.
                false => Poll::Ready(Ok(data.len())),
            },
        );
        let moved_up = match moved_up {
            Poll::Ready(Err(Broken::From(e))) => return Poll::Ready(Err(of_client(e))),
            // It may have said something before it ceased to listen.
            Poll::Ready(Err(Broken::To(e))) => {
                up.broken = Some(e);
                continue;
            }
            Poll::Ready(Ok(moved)) => Poll::Ready(moved),
            Poll::Pending => Poll::Pending,
        };
        match (moved_down, moved_up) {
            (Poll::Ready(Moved::End), _) | (_, Poll::Ready(Moved::End)) => {
                return Poll::Ready(Ok(()));
            }
            // It goes nowhere.
            (Poll::Pending, Poll::Ready(Moved::Some)) if !is_heard => {}
            (Poll::Pending, Poll::Pending) => {
                let deadline = ctx.watch.deadline();
                let is_late = |deadline| link.alarm.poll(cx, deadline).is_ready();
                return match deadline.is_some_and(is_late) {
                    true => Poll::Ready(Err(late())),
                    false => Poll::Pending,
                };
            }
            _ => ctx.tunnel_speaks(),
        }
    }
}

/// One way through.
#[derive(Default)]
struct Way {
    /// What was read and could not be written yet, from `written` on.
    left: Vec<u8>,
    written: usize,
    /// Bytes that were written in all, or thrown away.
    passed: usize,
    /// Why nobody takes anything any more.
    broken: Option<io::Error>,
}

/// What became of an attempt.
enum Moved {
    /// Something moved.
    Some,
    /// Nothing will come any more, and all that came is written.
    End,
}

/// Where it broke.
enum Broken {
    From(io::Error),
    To(io::Error),
}

impl Way {
    /// Writes what is left, or reads and writes that. Nothing more is read before all is written.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
        mut write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<std::result::Result<Moved, Broken>> {
        if let Some(rest) = self
            .left
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            let written = ready!(write(cx, rest)).and_then(some).map_err(Broken::To)?;
            self.written += written;
            self.passed += written;
            if self.written == self.left.len() {
                // An empty one would keep its room.
                self.left = Vec::new();
                self.written = 0;
            }
            return Poll::Ready(Ok(Moved::Some));
        }
        READ_INTO.with_borrow_mut(|room| {
            room.resize(ROOM, 0);
            let mut into = ReadBuf::new(room);
            ready!(read(cx, &mut into)).map_err(Broken::From)?;
            let came = into.filled();
            if came.is_empty() {
                return Poll::Ready(Ok(Moved::End));
            }
            let written = match write(cx, came) {
                Poll::Ready(written) => written.and_then(some).map_err(Broken::To)?,
                Poll::Pending => 0,
            };
            self.passed += written;
            self.left
                .extend_from_slice(came.get(written..).unwrap_or_default());
            Poll::Ready(Ok(Moved::Some))
        })
    }
}

/// Who takes nothing at all never will.
fn some(written: usize) -> io::Result<usize> {
    match written {
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}
