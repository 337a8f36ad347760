//! Which of two upstreams a request goes to, where its route is split between stable and canary.
//!
//! Called by [`super`] before each try, and by `caching` before it looks for a stored answer: each side has its own. The side
//! is `policy::canary`'s decision; a request that failed on the canary goes on with stable, never the other way round.

use super::ctx::Ctx;
use super::entry::Barred;
use super::facts;
use crate::policy::canary::Side;
use crate::policy::route::{Canary, Sticky};
use crate::upstream::traffic;
use pingora::http::RequestHeader;
use std::time::Duration;

/// How far a request is with its route's split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// Nobody asked for its side yet, or there is no split.
    Open,
    /// It is to begin on this side.
    Chosen(Side),
    /// It began on this side.
    Begun(Side),
    /// It was the canary's, and goes on with stable.
    Left,
}

impl Split {
    /// The side that the first try is counted for.
    pub(super) fn side(self) -> Option<Side> {
        match self {
            Split::Begun(side) => Some(side),
            Split::Open | Split::Chosen(_) | Split::Left => None,
        }
    }

    /// Whether it is for the canary now.
    pub(super) fn is_on_canary(self) -> bool {
        matches!(
            self,
            Split::Chosen(Side::Canary) | Split::Begun(Side::Canary)
        )
    }
}

/// Chooses the side, once for each request.
pub(super) fn choose(request: &RequestHeader, ctx: &mut Ctx) {
    if ctx.split != Split::Open {
        return;
    }
    let Some(route) = ctx.route.clone() else {
        return;
    };
    let Some(canary) = route.canary() else { return };
    let key = key(canary, request, ctx);
    let side = ctx
        .traffic()
        .map_or(Side::Stable, |traffic| traffic.choose_side(canary, key));
    ctx.split = Split::Chosen(side);
}

/// Chooses the side for the first try, unless that is done; takes a further one off the canary.
pub(super) fn begin(request: &RequestHeader, ctx: &mut Ctx) {
    choose(request, ctx);
    match ctx.split {
        Split::Chosen(side) => ctx.split = Split::Begun(side),
        Split::Begun(Side::Canary) => go_to_stable(ctx),
        Split::Begun(Side::Stable) | Split::Left | Split::Open => {}
    }
}

/// Takes a request off the canary. Its turn and what it tried were those of that upstream; what stable makes of it is no first
/// try of its own.
fn go_to_stable(ctx: &mut Ctx) {
    ctx.split = Split::Left;
    ctx.turn = None;
    ctx.tried = Default::default();
    ctx.queued.elsewhere();
}

/// Takes a request off a canary that has no room for it, or no backend: that counts against the canary, and stable gets the
/// request. Says whether it did.
pub(super) fn leave(ctx: &mut Ctx, barred: Barred) -> bool {
    let concerns_it = matches!(barred, Barred::NoBackend | Barred::Refused(_));
    if !concerns_it || !ctx.split.is_on_canary() {
        return false;
    }
    if let Some(traffic) = ctx.traffic() {
        traffic.split_saw(Side::Canary, false, Duration::ZERO);
    }
    go_to_stable(ctx);
    true
}

/// What keeps a client on its side; one that lacks it is counted by itself.
fn key(canary: &Canary, request: &RequestHeader, ctx: &Ctx) -> Option<u64> {
    let headers = &request.headers;
    match &canary.sticky {
        Sticky::None => None,
        Sticky::ClientIp => Some(traffic::hash(ctx.client?.to_string().as_bytes())),
        Sticky::Header(name) => Some(traffic::hash(headers.get(name)?.as_bytes())),
        Sticky::Cookie(name) => Some(traffic::hash(facts::cookie(request, name)?)),
    }
}
