//! The request body: reading it ahead of its first try, so that it can be sent again, and whether it still can be.
//!
//! Pingora keeps up to 64 KiB of a body for replay by itself. What is larger, or of unknown size, is read here first, up
//! to the route's `max_body`, and handed to the wrapped session.

use super::client::Client;
use super::ctx::Ctx;
use super::downstream::Held;
use super::watch::{Watch, next_piece};
use crate::policy::retry::{Body, RetryPolicy};
use crate::server::request::waits_to_be_told;
use bytes::BytesMut;
use http::{Version, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that all requests hold.
static HELD: AtomicU64 = AtomicU64::new(0);

/// The room that a request's content takes of what may be held in all, until dropped.
#[derive(Debug, Default)]
pub(super) struct Room(u64);

/// How many bytes of content are held, of all requests together.
pub fn held() -> u64 {
    HELD.load(Ordering::Relaxed)
}

impl Room {
    /// Takes so much more; says whether there was so much, of `most` in all.
    fn grow(&mut self, by: usize, most: u64) -> bool {
        let by = u64::try_from(by).unwrap_or(u64::MAX);
        let before = HELD.fetch_add(by, Ordering::Relaxed);
        let fits = before.saturating_add(by) <= most;
        match fits {
            true => self.0 += by,
            false => drop(Room(by)),
        }
        fits
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Most hold nothing, and should not touch what all workers count in.
        if self.0 > 0 {
            HELD.fetch_sub(self.0, Ordering::Relaxed);
        }
    }
}

/// What Pingora's own replay buffer holds, in bytes.
const PINGORA_KEEPS: usize = 64 * 1024;

/// Whether this request's body has to be read ahead to be replayed.
pub(super) fn wanted(session: &mut ServerSession, policy: &RetryPolicy) -> bool {
    if session.is_body_empty() {
        return false;
    }
    match length(session.req_header()) {
        Some(length) => length > PINGORA_KEEPS && length <= policy.max_body,
        None => policy.max_body > 0,
    }
}

/// The body's length, where the head says it.
fn length(request: &RequestHeader) -> Option<usize> {
    let value = request.headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// Whether the request's body can be sent once more.
pub(super) fn state(client: &mut dyn Client, ctx: &Ctx) -> Body {
    let max_body = ctx.proxy().map_or(0, |proxy| proxy.retry.max_body);
    let length = length(client.req_header());
    let read = client.body_bytes_read();
    if ctx.body_held || !ctx.sent || client.is_body_empty() || read == 0 {
        Body::Replayable
    } else if ctx.body_partly_taken || client.is_past_replay() || read > max_body {
        Body::TooLarge
    } else if client.is_body_done() || length == Some(read) {
        // With HTTP/2 the end may be announced in a frame of its own, after the last byte.
        Body::Replayable
    } else {
        Body::Unfinished
    }
}

/// Tells a client that waits to be told that its content is wanted (RFC 9110 §10.1.1).
///
/// # Errors
/// Of the client's connection.
pub(super) async fn tell_to_go_on(session: &mut ServerSession) -> Result<()> {
    let expects = waits_to_be_told(session.req_header());
    if expects && session.req_header().version >= Version::HTTP_11 {
        session.write_continue_response().await?;
    }
    Ok(())
}

/// Reads up to `max_body` bytes, as long as all requests together hold no more than `most`.
///
/// # Errors
/// Of the client's connection.
pub(super) async fn read_ahead(
    session: &mut ServerSession,
    watch: &Watch,
    max_body: usize,
    most: u64,
) -> Result<(Held, Room)> {
    tell_to_go_on(session).await?;
    let mut held = BytesMut::new();
    let mut room = Room::default();
    loop {
        let read = session.read_request_body();
        let Some(piece) = next_piece(watch, read).await? else {
            break;
        };
        held.extend_from_slice(&piece);
        if held.len() > max_body || !room.grow(piece.len(), most) {
            return Ok((Held::Beginning(held.freeze()), room));
        }
    }
    Ok((Held::Whole(held.freeze()), room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_so_much_room() {
        let (mut one, mut two) = (Room::default(), Room::default());
        assert!(one.grow(60, 100) && !two.grow(41, 100) && two.grow(40, 100));
        assert!(!one.grow(1, 100));
        drop(one);
        assert!(two.grow(60, 100) && !two.grow(usize::MAX, u64::MAX - 1));
        drop(two);
        assert_eq!(HELD.load(Ordering::Relaxed), 0);
    }
}
