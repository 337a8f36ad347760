//! Copies of requests to another upstream, whose answers nobody sees.
//!
//! Called by [`super`] when a request goes to its upstream. A copy runs by itself, on a connection of its own, within the
//! route's `total`: the original neither waits for it nor learns of it. When too many are under way, one is left out.

use super::ctx::Ctx;
use super::entry::Taken;
use super::facts::target;
use super::{aside, forward};
use crate::policy::balancer::Tried;
use crate::policy::timeouts::Timeouts;
use crate::upstream::{Reach, Upstream};
use bytes::Bytes;
use log::debug;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

/// Whether this request is to be copied, if it can be: as often as the route says.
pub(super) fn is_wanted(ctx: &Ctx) -> bool {
    let mirror = ctx.proxy().and_then(|proxy| proxy.mirror.as_ref());
    mirror.is_some_and(|mirror| mirror.share >= 1.0 || fastrand::f64() < mirror.share)
}

/// Sends a copy with this body, which is all of it. What goes wrong with it concerns nobody.
pub(super) fn send(session: &Session, ctx: &Ctx, body: Bytes) {
    if let Err(e) = try_send(session, ctx, body) {
        debug!("a request is not copied: {e}");
    }
}

fn try_send(session: &Session, ctx: &Ctx, body: Bytes) -> Result<()> {
    let Some(proxy) = ctx.proxy() else {
        return Ok(());
    };
    let (Some(mirror), Some(traffic)) = (&proxy.mirror, ctx.traffic()) else {
        return Ok(());
    };
    let Some(upstream) = ctx.snapshot.upstreams.get(mirror.upstream).cloned() else {
        return Ok(());
    };
    let (Some(copying), Some(places)) = (
        traffic.copy(mirror.max),
        Taken::at_once(None, traffic, &upstream),
    ) else {
        return Ok(());
    };
    let original = session.req_header();
    let mut request = aside::alike(
        original,
        original.method.clone(),
        target(original).as_bytes(),
    )?;
    forward::prepare(original, &mut request, proxy, ctx)?;
    aside::strip(&mut request, &body)?;
    let timeouts = proxy.timeouts;
    tokio::spawn(async move {
        let copy = exchange(&upstream, request, body, timeouts);
        if tokio::time::timeout(timeouts.total, copy).await.is_err() {
            debug!("a copy to upstream {} took too long", upstream.name);
        }
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
