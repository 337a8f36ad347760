//! Which of two upstreams a request goes to, where its route is split between stable and canary.
//!
//! Called by [`super`] before each try. The side is `policy::canary`'s decision; a request that failed on the canary goes on
//! with stable, never the other way round.

use super::ctx::Ctx;
use super::entry::Barred;
use super::facts;
use crate::policy::canary::Side;
use crate::policy::route::{Canary, Sticky};
use crate::upstream::traffic;
use pingora_proxy::Session;
use std::time::Duration;

/// Chooses the side for the first try; takes a further one off the canary.
pub(super) fn choose(session: &Session, ctx: &mut Ctx) {
    let Some(route) = ctx.route.clone() else {
        return;
    };
    let Some(canary) = route.canary() else { return };
    if ctx.side.is_some() || ctx.side_left {
        if ctx.elsewhere.take().is_some() {
            // Its turn and what it tried were those of the other upstream.
            ctx.turn = None;
            ctx.tried = Default::default();
            ctx.queued.elsewhere();
        }
        return;
    }
    let key = key(canary, session, ctx);
    let side = ctx
        .traffic()
        .map_or(Side::Stable, |traffic| traffic.choose_side(canary, key));
    ctx.elsewhere = (side == Side::Canary).then_some(canary.upstream);
    ctx.side = Some(side);
}

/// Takes a request off a canary that has no room for it, or no backend: that counts against the canary, and stable gets the
/// request. Says whether it did.
pub(super) fn leave(ctx: &mut Ctx, barred: Barred) -> bool {
    let concerns_it = matches!(barred, Barred::NoBackend | Barred::Refused(_));
    if !concerns_it || ctx.elsewhere.take().is_none() {
        return false;
    }
    if let Some(traffic) = ctx.traffic() {
        traffic.split_saw(Side::Canary, false, Duration::ZERO);
    }
    // What stable makes of it is no first try of its own.
    ctx.side = None;
    ctx.side_left = true;
    ctx.turn = None;
    ctx.tried = Default::default();
    ctx.queued.elsewhere();
    true
}

/// What keeps a client on its side; one that lacks it is counted by itself.
fn key(canary: &Canary, session: &Session, ctx: &Ctx) -> Option<u64> {
    let headers = &session.req_header().headers;
    match &canary.sticky {
        Sticky::None => None,
        Sticky::ClientIp => Some(traffic::hash(ctx.client?.to_string().as_bytes())),
        Sticky::Header(name) => Some(traffic::hash(headers.get(name)?.as_bytes())),
        Sticky::Cookie(name) => Some(traffic::hash(facts::cookie(session.req_header(), name)?)),
    }
}
