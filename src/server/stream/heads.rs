//! Requests of HTTP/1 on a client's connection, one after the other: the wait for a head, its bytes, and what is left of content that
//! nobody wants.
//!
//! While nothing comes, nothing is held for it.

use super::{ClientStream, Doubt, READ_INTO, ROOM};
use crate::clock::{self, Moment};
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How long a head is waited for, and how much of it is taken.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long it may take to begin.
    pub idle: Duration,
    /// How long it may take from its first byte on, however it trickles.
    pub head: Duration,
    /// How many bytes it may have.
    pub most: usize,
}

/// A head that came.
#[derive(Debug)]
pub struct HeadRead {
    /// Its bytes, from the request line to the empty one.
    pub bytes: Bytes,
    /// When all of it was there.
    pub at: Moment,
    /// What is doubtful in it, or in as much as came with it.
    pub doubt: Option<Doubt>,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHead {
    /// The client is gone.
    Gone,
    /// None began.
    Idle,
    /// It has not ended in time.
    Late,
    /// It has too many bytes.
    TooLarge,
    /// It is none.
    Doubtful(Doubt),
}

impl ClientStream {
    /// Reads the head of the next request.
    ///
    /// # Errors
    /// When there is none to answer.
    pub async fn head(&mut self, patience: Patience) -> Result<HeadRead, NoHead> {
        self.trailers = None;
        if !self.message.is_between() {
            // What comes belongs to the request before.
            return Err(NoHead::Gone);
        }
        let mut at = self.begins(patience.idle).await?;
        let until = at.instant() + patience.head;
        let mut followed = 0;
        loop {
            let new = self.ahead.get(followed..).unwrap_or_default();
            let (belongs, is_whole) = self.message.follow_head(new);
            followed += belongs;
            let doubt = self.message.doubt();
            if is_whole {
                return Ok(HeadRead {
                    bytes: self.take(followed),
                    at,
                    doubt: doubt.or_else(|| self.doubt_ahead()),
                });
            }
            if let Some(doubt) = doubt {
                return Err(NoHead::Doubtful(doubt));
            }
            if followed > patience.most {
                return Err(NoHead::TooLarge);
            }
            let read = poll_fn(|cx| match self.poll_fill(cx) {
                Poll::Ready(read) => Poll::Ready(Some(read)),
                Poll::Pending => self.alarm.poll(cx, until).map(|()| None),
            });
            match read.await {
                Some(Ok(1..)) => at = clock::moment(),
                Some(_) => return Err(NoHead::Gone),
                None => return Err(NoHead::Late),
            }
        }
    }

    /// Ends once something of the next request came: says when. Nobody needs room for it until then.
    async fn begins(&mut self, within: Duration) -> Result<Moment, NoHead> {
        let now = clock::moment();
        self.idle = Duration::ZERO;
        self.pass_empty_lines();
        if self.has_begun() {
            // Of many requests that were sent ahead not all are served before others have their turn.
            tokio::task::consume_budget().await;
            return Ok(now);
        }
        let until = now.instant() + within;
        let begun = poll_fn(|cx| {
            match self.poll_first(cx) {
                Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => return Poll::Ready(Err(NoHead::Gone)),
                Poll::Pending => {}
            }
            self.alarm.poll(cx, until).map(|()| Err(NoHead::Idle))
        });
        begun.await?;
        let at = clock::moment();
        self.idle = at.since(now);
        Ok(at)
    }

    /// Reads the first bytes of what comes next; says whether there are any. That a socket seems readable is a hint only.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while !self.has_begun() {
            if std::mem::take(&mut self.is_new) && self.fill_now() {
                self.pass_empty_lines();
                continue;
            }
            if self.pending.is_empty() {
                ready!(self.transport.poll_readable(cx));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(false));
            }
            self.pass_empty_lines();
        }
        Poll::Ready(Ok(true))
    }

    /// Reads what a client sent while its connection was being accepted, which the runtime has not heard of yet. Says whether there
    /// was any.
    fn fill_now(&mut self) -> bool {
        READ_INTO.with_borrow_mut(|room| {
            room.resize(ROOM, 0);
            let read = self.transport.read_now(room).unwrap_or(0);
            let read = room.get(..read).unwrap_or_default();
            self.ahead.extend_from_slice(read);
            !read.is_empty()
        })
    }

    /// Whether there is more than an empty line, or the first half of one.
    fn has_begun(&self) -> bool {
        !matches!(&*self.ahead, b"" | b"\r")
    }

    /// Empty lines before a request are not its beginning (RFC 9112 §2.2).
    fn pass_empty_lines(&mut self) {
        while self.ahead.starts_with(b"\r\n") {
            self.advance(2);
        }
    }

    /// Takes so much of what was read.
    fn take(&mut self, bytes: usize) -> Bytes {
        let head = match bytes == self.ahead.len() {
            // Nothing is held for what may follow.
            true => std::mem::take(&mut self.ahead),
            false => self.ahead.split_to(bytes),
        };
        let head = head.freeze();
        let lines = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let empty = lines.count();
        match empty {
            0 => head,
            empty => head.slice(empty..),
        }
    }

    /// What is doubtful in as much content as came with its head: there is no need to begin with it then.
    fn doubt_ahead(&self) -> Option<Doubt> {
        let mut message = self.message;
        if message.is_between() || self.ahead.is_empty() {
            return None;
        }
        message.follow_one(&self.ahead, |_| {});
        message.doubt()
    }

    /// Whether something of the next request came.
    pub(super) fn has_next(&self) -> bool {
        let own = self.content().map_or(0, <[u8]>::len);
        let mut rest = self.ahead.iter().skip(own);
        // Empty lines are of none.
        rest.any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// How much content of the request under way is still to come, or to be handed out. None where that is not known.
    pub fn content_left(&self) -> Option<u64> {
        match self.is_at_end() {
            true => Some(0),
            false => self.message.left(),
        }
    }

    /// What was read and is no part of a request so far.
    pub fn unread(&self) -> &[u8] {
        &self.ahead
    }

    /// The content of the request under way, where none of it was handed out, its length is known and all of it came with its head.
    pub fn content(&self) -> Option<&[u8]> {
        let length = usize::try_from(self.message.left()?).ok()?;
        self.ahead.get(..length)
    }

    /// Whether all content of the request under way was read.
    pub fn is_at_end(&self) -> bool {
        self.message.is_between()
    }

    /// Throws away content of the request under way, up to so many bytes. Says whether that was all of it: then the next one can follow.
    ///
    /// # Errors
    /// When the client is gone, or sends what is no content.
    pub async fn skip(&mut self, most: usize) -> io::Result<bool> {
        let mut left = most;
        while !self.is_at_end() {
            if self.ahead.is_empty() && poll_fn(|cx| self.poll_fill(cx)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let there = std::mem::take(&mut self.ahead);
            let belongs = self.follow(&there)?;
            if belongs < there.len() {
                self.ahead = BytesMut::from(there.get(belongs..).unwrap_or_default());
            }
            match left.checked_sub(belongs) {
                Some(less) => left = less,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether there is something that nobody has read: closing would reset the connection, and with it what the client has not
    /// read yet. Asked of the kernel, for the runtime may not have heard of it yet.
    pub fn has_unread(&self) -> bool {
        // A socket that cannot be asked has nothing to lose. Who has begun to send more will go on.
        self.has_next()
            || rustix::io::ioctl_fionread(self.transport.tcp()).is_ok_and(|bytes| bytes > 0)
    }

    /// Ends the connection after its last answer, where nothing is unread: closing it says to the client that this was all, but
    /// with TLS.
    pub async fn close(mut self: Box<Self>) {
        use pingora::protocols::Shutdown;
        if !self.pending.is_empty() || !self.takes_files() {
            self.shutdown().await;
        }
    }

    /// Says that nothing more will be sent, and throws away what comes, up to so many bytes, until nothing came for so long: closing
    /// at once would reset the connection, and with it what was sent before the client has read it.
    pub async fn hang_up(mut self: Box<Self>, most: usize, silence: Duration) {
        use pingora::protocols::Shutdown;
        self.shutdown().await;
        let mut left = most;
        loop {
            let came = self.ahead.len();
            self.ahead = BytesMut::new();
            left = left.saturating_sub(came);
            let read = tokio::time::timeout(silence, poll_fn(|cx| self.poll_fill(cx)));
            if left == 0 || !matches!(read.await, Ok(Ok(1..))) {
                return;
            }
        }
    }
}
