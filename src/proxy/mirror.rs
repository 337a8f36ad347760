//! Copies of requests to another upstream, whose answers nobody sees.
//!
//! Called by [`super`] when a request goes to its upstream. A copy runs by itself, on a connection of its own, within the
//! route's `total`: the original neither waits for it nor learns of it. When too many are under way, one is left out.

use super::ctx::Ctx;
use super::entry::Taken;
use super::facts::{authority, target};
use super::{forward, peer};
use crate::policy::balancer::Tried;
use crate::policy::health::Observation;
use crate::policy::timeouts::Timeouts;
use crate::upstream::{Reach, Upstream};
use bytes::Bytes;
use http::{StatusCode, Version, header};
use log::debug;
use pingora::Result;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::{Duration, Instant};

thread_local! {
    /// One for each worker: connections belong to the runtime they were opened on.
    static CONNECTOR: Arc<Connector> = Arc::new(Connector::new(None));
}

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
    let mut request =
        RequestHeader::build(original.method.clone(), target(original).as_bytes(), None)?;
    request.set_version(Version::HTTP_11);
    let nominated = forward::nominated(&original.headers);
    let kept = original.headers.iter();
    for (name, value) in kept.filter(|(name, _)| !nominated.contains(name)) {
        request.append_header(name.clone(), value.clone())?;
    }
    request.insert_header(header::HOST, authority(original))?;
    forward::prepare(original, &mut request, proxy, ctx)?;
    for name in [
        "connection",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    ] {
        request.remove_header(name);
    }
    if body.is_empty() {
        request.remove_header(&header::CONTENT_LENGTH);
    } else {
        request.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
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
    let began = Instant::now();
    let peer = peer::dial(
        (picked.index, picked.address),
        upstream,
        &timeouts,
        Duration::ZERO,
        false,
    );
    let connector = CONNECTOR.with(Arc::clone);
    let asked = async {
        let (mut session, _) = connector.get_http_session(&*peer).await?;
        session.set_read_timeout(Some(timeouts.first_byte));
        session.write_request_header(Box::new(request)).await?;
        if !body.is_empty() {
            session.write_request_body(body, true).await?;
        }
        session.finish_request_body().await?;
        let status = loop {
            session.read_response_header().await?;
            let status = session.response_header().map(|head| head.status);
            match status {
                Some(status) if status.is_informational() => {}
                status => break status.unwrap_or(StatusCode::BAD_GATEWAY),
            }
        };
        let latency = began.elapsed();
        // All of it: a backend that is hung up on in the middle of its answer may log that as a failure.
        while session.read_response_body().await?.is_some() {}
        Ok::<_, Box<pingora::Error>>((status, latency))
    };
    let seen = match asked.await {
        Ok((status, latency)) if !status.is_server_error() => Observation::Good(latency),
        Ok(_) => Observation::Failed,
        Err(e) if e.etype().as_str().starts_with("Connect") => Observation::ConnectFailed,
        Err(_) => Observation::Failed,
    };
    upstream.observe(picked.index, &picked.active, seen);
}
