//! Reading a request body ahead of its first try, so that it can be sent again.
//!
//! Pingora keeps up to 64 KiB of a body for replay by itself. What is larger, or of unknown size, is read here first, up
//! to the route's `max_body`, and handed to the wrapped session.

use super::downstream::Held;
use crate::policy::retry::RetryPolicy;
use bytes::BytesMut;
use http::{Version, header};
use pingora::Result;
use pingora_proxy::Session;

/// What Pingora's own replay buffer holds, in bytes.
const PINGORA_KEEPS: usize = 64 * 1024;

/// Whether this request's body has to be read ahead to be replayed.
pub(super) fn wanted(session: &mut Session, policy: &RetryPolicy) -> bool {
    if session.downstream_session.is_body_empty() {
        return false;
    }
    let length = session
        .req_header()
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    match length {
        Some(length) => length > PINGORA_KEEPS && length <= policy.max_body,
        None => policy.max_body > 0,
    }
}

/// Reads up to `max_body` bytes.
///
/// # Errors
/// Of the client's connection.
pub(super) async fn read_ahead(session: &mut Session, max_body: usize) -> Result<Held> {
    let expects = session
        .req_header()
        .headers
        .get(header::EXPECT)
        .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if expects && session.req_header().version == Version::HTTP_11 {
        session.downstream_session.write_continue_response().await?;
    }
    let mut held = BytesMut::new();
    while let Some(piece) = session.downstream_session.read_request_body().await? {
        held.extend_from_slice(&piece);
        if held.len() > max_body {
            return Ok(Held::Beginning(held.freeze()));
        }
    }
    Ok(Held::Whole(held.freeze()))
}
