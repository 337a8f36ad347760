//! What the store learns from answers that pass it by: of unsafe methods, of `HEAD`, of ranges, of what was not stored before.

use super::super::ctx::Ctx;
use super::super::facts::{authority, target};
use super::admission::{is_confidential, keep, place, rebuilt, storable, updated};
use super::{How, asker, date, key_parts, remember, times};
use crate::cache::head::Head;
use crate::cache::key::Key;
use crate::cache::moment::Moment;
use crate::cache::object::{Body, Object, Parts};
use crate::cache::whole;
use crate::cache::{Cache, Held};
use crate::policy::cache::freshness::{Freshness, Times};
use crate::policy::cache::validation::{self, Freshen};
use crate::policy::cache::{Keep, invalidation, key};
use crate::policy::range;
use crate::policy::route::Route;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Duration;

/// A part of an answer on its way to its client, and into the store.
pub(in super::super) struct PartComing {
    object: Object,
    at: u64,
    /// When it was asked for; since the epoch.
    asked: Duration,
    /// When its request began.
    began: Moment,
    bytes: BytesMut,
    /// Counts them as taken.
    held: Held,
    expected: usize,
}

/// Looks at the head of an answer that the store has no part in.
pub(in super::super) async fn head(
    cache: Cache,
    session: &Session,
    ctx: &mut Ctx,
    response: &ResponseHeader,
) -> Result<()> {
    let request = session.req_header();
    if let Some(urls) = changed(ctx.scheme, request, (response.status, &response.headers)) {
        cache.forget_urls(&urls).await;
        return Ok(());
    }
    let Some(route) = ctx.route.clone() else {
        return Ok(());
    };
    let Some(policy) = route.cache() else {
        return Ok(());
    };
    let status = response.status;
    let times = times(ctx);
    let key = cache.key(&key_parts(cache, policy, request, ctx));
    let Some(outcome) = &mut ctx.cache else {
        return Ok(());
    };
    let How::Forwarded(forwarded) = &mut outcome.how else {
        return Ok(());
    };
    forwarded.status = Some(status);
    if request.method == Method::HEAD {
        let began = cache.began(ctx.watch.started().elapsed());
        freshen(cache, &route, session, response, (key, times), began).await;
        return Ok(());
    }
    if status == StatusCode::PARTIAL_CONTENT {
        // By the clock: what is purged at this moment must not seem to be older than the request.
        let elapsed = ctx.watch.started().elapsed();
        let about = (ctx.scheme, elapsed);
        let coming = part(cache, &route, session, response, (key, times), about);
        ctx.part = coming.map(Box::new);
        forwarded.stored = ctx.part.is_some();
        return Ok(());
    }
    let fields = (status, &response.headers);
    match storable(&route, request, fields, Keep::Whole, times.received) {
        // The next one is stored.
        Ok(()) => {
            cache.passing().forget(&key);
            cache.passing().forget(&asker(cache, key, request));
        }
        Err(why) => {
            forwarded.detail = Some(why.word());
            remember(cache, key, request, status);
        }
    }
    Ok(())
}

/// What a request has changed, as its upstream's answer has it, and is to be forgotten (RFC 9111 §4.4), by whatever route it came and
/// whichever stored it. None where it changes nothing.
pub(in super::super) fn changed(
    scheme: &str,
    request: &RequestHeader,
    (status, fields): (StatusCode, &HeaderMap),
) -> Option<Vec<Vec<u8>>> {
    if !invalidation::invalidates(&request.method, status) {
        return None;
    }
    let host = authority(request);
    let targets = invalidation::targets(scheme, host, target(request), fields);
    let hosts = invalidation::spellings(scheme, host);
    let urls = hosts
        .iter()
        .flat_map(|host| targets.iter().map(|t| key::url(scheme, host, t)));
    Some(urls.collect())
}

/// An answer to `HEAD` says whether the stored answer to `GET` still holds (RFC 9111 §4.3.5).
async fn freshen(
    cache: Cache,
    route: &Route,
    session: &Session,
    response: &ResponseHeader,
    (key, times): (Key, Times),
    began: Moment,
) {
    let Some(policy) = route.cache().filter(|policy| policy.respects_origin()) else {
        return;
    };
    if response.status != StatusCode::OK {
        return;
    }
    let request = session.req_header();
    let found = cache.find(&key, &request.headers, |_| true).await;
    let Some(object) = found.object else { return };
    let Some(length) = object.length() else {
        return;
    };
    let (status, stored) = (object.head.status, object.head.headers());
    let fields = &response.headers;
    // What was said to one person is not for all.
    let may = |merged| {
        let keep = Keep::Fields(merged);
        storable(
            route,
            request,
            (StatusCode::OK, fields),
            keep,
            times.received,
        )
        .is_ok()
    };
    match validation::freshened_by_head(status, &stored, length, fields) {
        Freshen::Update => {
            let fresh = updated(cache, policy, request, &object, fields, times);
            let Ok(fresh) = fresh else { return };
            if may(&fresh.head.headers()) {
                cache.replace(&object, &Arc::new(fresh), began).await;
            }
        }
        Freshen::Invalidate if may(fields) => cache.remove(&object).await,
        Freshen::Invalidate | Freshen::Nothing => {}
    }
}

/// Begins to keep a part (RFC 9111 §3.3): one range, of an answer that has a strong validator and may be stored.
fn part(
    cache: Cache,
    route: &Route,
    session: &Session,
    response: &ResponseHeader,
    (key, times): (Key, Times),
    (scheme, elapsed): (&str, Duration),
) -> Option<PartComing> {
    let request = session.req_header();
    let policy = route.cache()?;
    let range = response.headers.get(header::CONTENT_RANGE)?;
    let (range, total) = range::content_range(range.to_str().ok()?)?;
    let total = total.filter(|total| *total <= policy.max_object)?;
    let fields = (response.status, &response.headers);
    storable(route, request, fields, Keep::Part, times.received).ok()?;
    let mut head = response.clone();
    head.set_status(StatusCode::OK).ok()?;
    keep(&mut head).ok()?;
    head.remove_header(&header::CONTENT_RANGE);
    head.insert_header("Content-Length", total).ok()?;
    let freshness = Freshness::of(false, StatusCode::OK, &head.headers, times, &date);
    let variant = cache.variant(&head.headers, &request.headers);
    head.remove_header(&header::AGE);
    let confidential = is_confidential(policy, request, &head.headers);
    let pieces = Vec::new();
    let body = Body::Parts(Parts { total, pieces });
    let began = cache.began(elapsed);
    let object = Object::new(
        key,
        &place(request, scheme),
        variant,
        Head::of(&head).ok()?,
        freshness,
        body,
        began,
    );
    Some(PartComing {
        object: object.confined(confidential),
        at: range.start,
        asked: times.received.saturating_sub(elapsed),
        began,
        bytes: BytesMut::new(),
        held: cache.held(),
        expected: usize::try_from(range.end - range.start).ok()?,
    })
}

/// Keeps what comes of a part; puts it away when it is whole.
pub(in super::super) fn body(cache: Cache, ctx: &mut Ctx, bytes: Option<&Bytes>, end: bool) {
    let Some(part) = &mut ctx.part else { return };
    if let Some(bytes) = bytes {
        part.bytes.extend_from_slice(bytes);
        part.held.grow(bytes.len());
    }
    let (length, expected) = (part.bytes.len(), part.expected);
    if length == expected {
        if let Some(part) = ctx.part.take() {
            put_away(cache, *part);
        }
    } else if length > expected || end || cache.is_exhausted() {
        ctx.part = None;
    }
}

/// Joins a part with what is stored of the same answer (RFC 9111 §3.4). `None` if the answer is stored whole already, or
/// the fields cannot be put together.
fn put_away(cache: Cache, part: PartComing) -> Option<()> {
    let bytes = part.bytes.freeze();
    let Body::Parts(empty) = &part.object.body else {
        return None;
    };
    let mut object = part.object.moved(Body::Parts(empty.with(part.at, &bytes)));
    if cache.has_newer(&part.object, part.asked) {
        return None;
    }
    if let Some(old) = cache.same_answer(&part.object) {
        let Body::Parts(parts) = &old.body else {
            return None;
        };
        let fields = validation::merge(&old.head.headers(), &part.object.head.headers());
        object.head = Head::of(&rebuilt(StatusCode::OK, &fields).ok()?).ok()?;
        object.born = object.born.min(old.born);
        object.body = Body::Parts(parts.with(part.at, &bytes));
        object = object.confined(old.memory_only);
    }
    if let Body::Parts(parts) = &object.body
        && let Some(all) = parts.whole()
    {
        object.body = Body::Memory(whole::whole(&[all]));
    }
    // At once: the client that has its last byte may ask for more.
    cache.insert(object, part.began);
    Some(())
}
