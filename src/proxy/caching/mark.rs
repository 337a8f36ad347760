//! What the cache did, in words: `Cache-Status` (RFC 9211) and the log.

use super::super::ctx::Ctx;
use super::{Forwarded, How, now, policy};
use crate::policy::cache::reuse;
use pingora::Result;
use pingora::http::ResponseHeader;
use std::fmt::Write as _;
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
    if let Some(said) = said(ctx, now()) {
        response.append_header("Cache-Status", said)?;
    }
    Ok(())
}

/// What `Cache-Status` says `now`; `None` where no cache was to be asked.
pub(super) fn said(ctx: &Ctx, now: Duration) -> Option<String> {
    let outcome = ctx.cache.as_ref()?;
    let mut said = String::with_capacity(64);
    said.push_str("backstop");
    match outcome.how {
        How::Bypass(why) => {
            said.push_str("; fwd=bypass; detail=\"");
            said.push_str(why.word());
            said.push('"');
        }
        How::Hit(detail) => {
            said.push_str("; hit");
            if let (Some(policy), Some(object)) = (policy(ctx), &outcome.served) {
                let ttl = reuse::fresh_for(policy, &object.freshness, now);
                said.push_str("; ttl=");
                said.push_str(itoa::Buffer::new().format(ttl));
            }
            if let Some(detail) = detail {
                let _ = write!(said, "; detail=\"{detail}\"");
            }
        }
        How::OnlyIfCached => said.push_str("; detail=\"only-if-cached\""),
        How::Forwarded(forwarded) => {
            said.push_str("; fwd=");
            said.push_str(forwarded.why);
            if let Some(status) = forwarded.status {
                let _ = write!(said, "; fwd-status={}", status.as_u16());
            }
            if forwarded.stored {
                said.push_str("; stored");
            }
            if forwarded.collapsed {
                said.push_str("; collapsed");
            }
            if let Some(detail) = forwarded.detail {
                let _ = write!(said, "; detail=\"{detail}\"");
            }
        }
    }
    Some(said)
}
