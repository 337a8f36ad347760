//! What the cache did, in words: `Cache-Status` (RFC 9211) and the log.

use super::super::ctx::Ctx;
use super::{Forwarded, How, now, policy};
use crate::policy::cache::reuse;
use pingora::Result;
use pingora::http::ResponseHeader;
use std::io::Write as _;
use std::time::Duration;

/// The log's word for what the cache did.
pub(in super::super) fn word(ctx: &Ctx) -> Option<&'static str> {
    Some(match ctx.cache.as_ref()?.how {
        How::Bypass(_) => "bypass",
        How::Hit(None) => "hit",
        How::Hit(Some(_)) => "stale",
        How::OnlyIfCached => "miss",
        How::Forwarded(forwarded) if forwarded.collapsed => "collapsed",
        How::Forwarded(forwarded) if forwarded.is_validation() => "revalidated",
        How::Forwarded(_) => "miss",
    })
}

impl Forwarded {
    /// Whether the upstream only confirmed what was stored.
    fn is_validation(&self) -> bool {
        self.stored && self.status == Some(http::StatusCode::NOT_MODIFIED)
    }
}

/// Says in `Cache-Status` what the cache did.
pub(in super::super) fn mark(response: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let mut said = Vec::with_capacity(64);
    if say(&mut said, ctx, now()).is_some() {
        response.append_header("Cache-Status", said)?;
    }
    Ok(())
}

/// Appends what `Cache-Status` says `now`; `None` where no cache was to be asked.
pub(super) fn say(said: &mut Vec<u8>, ctx: &Ctx, now: Duration) -> Option<()> {
    let outcome = ctx.cache.as_ref()?;
    said.extend_from_slice(b"backstop");
    match outcome.how {
        How::Bypass(why) => {
            said.extend_from_slice(b"; fwd=bypass; detail=\"");
            said.extend_from_slice(why.word().as_bytes());
            said.push(b'"');
        }
        How::Hit(detail) => {
            said.extend_from_slice(b"; hit");
            if let (Some(policy), Some(object)) = (policy(ctx), &outcome.served) {
                let ttl = reuse::fresh_for(policy, &object.freshness, now);
                said.extend_from_slice(b"; ttl=");
                said.extend_from_slice(itoa::Buffer::new().format(ttl).as_bytes());
            }
            if let Some(detail) = detail {
                let _ = write!(said, "; detail=\"{detail}\"");
            }
        }
        How::OnlyIfCached => said.extend_from_slice(b"; detail=\"only-if-cached\""),
        How::Forwarded(forwarded) => {
            said.extend_from_slice(b"; fwd=");
            said.extend_from_slice(forwarded.why.as_bytes());
            if let Some(status) = forwarded.status {
                let _ = write!(said, "; fwd-status={}", status.as_u16());
            }
            if forwarded.stored {
                said.extend_from_slice(b"; stored");
            }
            if forwarded.collapsed {
                said.extend_from_slice(b"; collapsed");
            }
            if let Some(detail) = forwarded.detail {
                let _ = write!(said, "; detail=\"{detail}\"");
            }
        }
    }
    Some(())
}
