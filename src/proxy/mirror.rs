//! Copies of requests to another upstream, whose answers nobody sees.
//!
//! Called by [`super`] when a request goes to its upstream, and with its content as that passes: a copy is sent once there is
//! all of it. A copy runs by itself, on a connection of its own, within the route's `total`: the original neither waits for it
//! nor learns of it. When too many are under way, one is left out.

use super::ctx::Ctx;
use super::entry::Taken;
use super::{aside, outgoing};
use crate::policy::balancer::Tried;
use crate::policy::timeouts::Timeouts;
use crate::upstream::traffic::Copying;
use crate::upstream::{Reach, Upstream};
use bytes::{Bytes, BytesMut};
use log::debug;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

/// Whether this request is to be copied, if it can be: as often as the route says.
pub(super) fn is_wanted(ctx: &Ctx) -> bool {
    let mirror = ctx.proxy().and_then(|proxy| proxy.mirror.as_ref());
    mirror.is_some_and(|mirror| mirror.share >= 1.0 || fastrand::f64() < mirror.share)
}

/// Content that passes, for a copy, which has its place among those under way already: what is held is bounded, too.
#[derive(Debug)]
pub(super) struct Passing {
    pieces: BytesMut,
    /// After how many tries it began: another one sends it from the beginning.
    tries: usize,
    /// Keeps at most so much.
    most: usize,
    copying: Copying,
}

impl Passing {
    /// `None` if no further copy can be under way.
    pub(super) fn begin(ctx: &Ctx, most: usize) -> Option<Self> {
        Some(Passing {
            pieces: BytesMut::new(),
            tries: 0,
            most,
            copying: place(ctx)?,
        })
    }
}

/// A place among the copies under way.
fn place(ctx: &Ctx) -> Option<Copying> {
    let mirror = ctx.proxy()?.mirror.as_ref()?;
    ctx.traffic()?.copy(mirror.max)
}

/// Takes note of a piece of content, and sends the copy after the last one.
pub(super) fn pass(session: &Session, ctx: &mut Ctx, piece: Option<&Bytes>, is_last: bool) {
    let Some(mut passing) = ctx.passing.take() else {
        return;
    };
    if passing.tries != ctx.tries.len() {
        passing.tries = ctx.tries.len();
        passing.pieces.clear();
    }
    let piece = piece.map_or(&b""[..], |piece| piece);
    if passing.pieces.len() + piece.len() > passing.most {
        if let Some(traffic) = ctx.traffic() {
            traffic.leave_out_copy();
        }
        return;
    }
    passing.pieces.extend_from_slice(piece);
    if is_last {
        send_with(session, ctx, passing.pieces.freeze(), passing.copying);
    } else {
        ctx.passing = Some(passing);
    }
}

/// Sends a copy with this body, which is all of it, if a further copy can be under way. What goes wrong with it concerns nobody.
pub(super) fn send(session: &Session, ctx: &Ctx, body: Bytes) {
    if let Some(copying) = place(ctx) {
        send_with(session, ctx, body, copying);
    }
}

fn send_with(session: &Session, ctx: &Ctx, body: Bytes, copying: Copying) {
    if let Err(e) = try_send(session, ctx, body, copying) {
        debug!("a request is not copied: {e}");
    }
}

fn try_send(session: &Session, ctx: &Ctx, body: Bytes, copying: Copying) -> Result<()> {
    let (Some(proxy), Some(traffic)) = (ctx.proxy(), ctx.traffic()) else {
        return Ok(());
    };
    let mirror = proxy.mirror.as_ref().map(|mirror| mirror.upstream);
    let upstream = mirror.and_then(|upstream| ctx.snapshot.upstreams.get(upstream).cloned());
    let Some(upstream) = upstream else {
        return Ok(());
    };
    let Some(places) = Taken::at_once(None, traffic, &upstream) else {
        traffic.leave_out_copy();
        return Ok(());
    };
    let original = session.req_header();
    let mut request = aside::same(original)?;
    let span = ctx.trace.map_or(0, |trace| trace.span);
    outgoing::prepare(original, &mut request, proxy, ctx, span)?;
    aside::strip(&mut request, &body)?;
    let timeouts = proxy.timeouts;
    tokio::spawn(async move {
        exchange(&upstream, request, body, timeouts).await;
        drop((copying, places));
    });
    Ok(())
}

async fn exchange(upstream: &Upstream, request: RequestHeader, body: Bytes, timeouts: Timeouts) {
    let Ok(picked) = upstream.pick(
        &Tried::default(),
        upstream.take_turn(),
        None,
        Reach::Nothing,
    ) else {
        return;
    };
    aside::ask(upstream, &picked, (request, body), &timeouts, 0).await;
}
