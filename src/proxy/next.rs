//! The beginning of a try, the first included: the wait before it, the side, the places and the backend, one after the other.
//!
//! Called by [`super`] when Pingora asks where to connect. Each step is decided elsewhere; here is their order.

use super::client::Client;
use super::ctx::{Ctx, Current, Told};
use super::entry::{Barred, Clock, Taken};
use super::{entry, forward, hedge, peer, split, trailing, tries, wait};
use crate::clock;
use crate::policy::timeouts::Phase;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::time::Duration;

/// Begins the next try: says where it connects.
///
/// # Errors
/// When there is to be none; why is in the context.
pub(super) async fn begin(session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    ctx.watch.arm(None, None);
    let mut waited = std::mem::take(&mut ctx.wait);
    pause(session, ctx, waited).await?;
    if let Some(won) = hedge::winner(session, ctx).await {
        ctx.hoped = None;
        let mut peer = hedge::take_over(ctx, won)?;
        trailing::follow(ctx, &mut peer);
        return Ok(peer);
    }
    if ctx.hoped.is_some() {
        waited = tries::after_hope(&mut *session.downstream_session, ctx)?;
        pause(session, ctx, waited).await?;
    }
    enter(&mut *session.downstream_session, ctx, waited).await?;
    let (Some(current), Some(timeouts)) = (&ctx.current, ctx.timeouts()) else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let mut peer = peer::dial(
        (current.index, current.address),
        &current.upstream,
        &timeouts,
        ctx.watch.elapsed(),
        forward::used_for(session.req_header()),
    );
    hedge::plan(session, ctx, &mut peer);
    trailing::follow(ctx, &mut peer);
    Ok(peer)
}

/// Chooses the side, takes the places and picks the backend of a try for which its request `waited` so long: it is the one under
/// way from now on, and may connect.
///
/// # Errors
/// When there is to be none; why is in the context.
pub(super) async fn enter(session: &mut dyn Client, ctx: &mut Ctx, waited: Duration) -> Result<()> {
    let asked = clock::moment();
    if ctx.time_left_at(asked).is_zero() {
        return Err(tries::barred(ctx, Barred::TimeOver));
    }
    split::begin(session.req_header(), ctx);
    let mut clock = Clock(asked);
    let mut places = Taken::default();
    let mut entered = entry::enter(session, ctx, &mut places, &mut clock).await;
    if let Err(barred) = &entered
        && split::leave(ctx, *barred)
    {
        entered = entry::enter(session, ctx, &mut places, &mut clock).await;
    }
    let started = clock.0;
    let entry = entered.map_err(|barred| tries::barred(ctx, barred))?;
    ctx.charged = None;
    let Some(timeouts) = ctx.timeouts() else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let elapsed = ctx.watch.lasted(started);
    (_, ctx.limit) = timeouts.deadline(Phase::Connecting, elapsed);
    ctx.current = Some(Current {
        is_odd: entry.upstream.http2 && forward::is_websocket(session.req_header()),
        index: entry.picked.index,
        address: entry.picked.address,
        upstream: entry.upstream,
        active: entry.picked.active,
        places: entry.places,
        started,
        span: ctx.new_span(),
        waited,
        queued: started.since(asked),
        took_over: false,
        connected: None,
        answered: None,
        told: Told::Nobody,
    });
    Ok(())
}

/// Waits so long, unless the client leaves or the request has no time left.
async fn pause(session: &mut Session, ctx: &mut Ctx, so_long: Duration) -> Result<()> {
    if wait::pause(&mut *session.downstream_session, so_long)
        .await
        .is_err()
    {
        return Err(tries::left(ctx));
    }
    match ctx.timeouts().map(|t| t.left(ctx.watch.elapsed())) {
        Some(left) if left.is_zero() => Err(tries::barred(ctx, Barred::TimeOver)),
        Some(_) => Ok(()),
        None => Err(Error::new_in(ErrorType::InternalError)),
    }
}
