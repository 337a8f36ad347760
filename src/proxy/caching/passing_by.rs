//! What the store learns from answers that pass it by: of unsafe methods, of `HEAD`, of ranges, of what was not stored before.

use super::super::ctx::Ctx;
use super::super::facts::{authority, target};
use super::super::forward::varies_on_ours;
use super::fill::{about_the_url, keep, rebuilt, storable};
use super::{How, date, key_parts, now};
use crate::cache::key::Key;
use crate::cache::moment::Moment;
use crate::cache::object::{Body, Object, Parts};
use crate::cache::{Cache, Held};
use crate::policy::cache::freshness::{Freshness, Times};
use crate::policy::cache::validation::{self, Freshen};
use crate::policy::cache::{CachePolicy, invalidation, key, personal, storing};
use crate::policy::range;
use crate::policy::route::{Action, Proxy};
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
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
    let Some(route) = ctx.route.clone() else {
        return Ok(());
    };
    let (Some(policy), Action::Proxy(proxy)) = (route.cache(), &route.action) else {
        return Ok(());
    };
    let request = session.req_header();
    let status = response.status;
    if invalidation::invalidates(&request.method, status) {
        let host = authority(request).to_ascii_lowercase();
        let targets = invalidation::targets("http", &host, target(request), &response.headers);
        for target in targets {
            let secret = |credentials: &[u8]| cache.secret_hash(credentials);
            let parts = key::key(policy, "http", &host, &target, &request.headers, secret);
            cache.forget_url(&parts).await;
        }
        return Ok(());
    }
    let Some(outcome) = &mut ctx.cache else {
        return Ok(());
    };
    let How::Forwarded(forwarded) = &mut outcome.how else {
        return Ok(());
    };
    forwarded.status = Some(status);
    let key = cache.key(&key_parts(cache, policy, session));
    if request.method == Method::HEAD {
        let began = cache.began(ctx.watch.elapsed());
        freshen(cache, policy, session, response, key, began).await;
        return Ok(());
    }
    let received = now();
    if status == StatusCode::PARTIAL_CONTENT {
        let elapsed = ctx.watch.elapsed();
        ctx.part = part(cache, (policy, proxy), session, response, key, elapsed);
        forwarded.stored = ctx.part.is_some();
        return Ok(());
    }
    let storable = storable(&route, request, response, received);
    match storable {
        // The next one is stored.
        Ok(()) => cache.passing().forget(&key),
        Err(why) => {
            forwarded.detail = Some(why.word());
            if about_the_url(status) {
                cache.passing().remember(key);
            }
        }
    }
    Ok(())
}

/// An answer to `HEAD` says whether the stored answer to `GET` still holds (RFC 9111 §4.3.5).
async fn freshen(
    cache: Cache,
    policy: &CachePolicy,
    session: &Session,
    response: &ResponseHeader,
    key: Key,
    began: Moment,
) {
    if !policy.respects_origin() || response.status != StatusCode::OK {
        return;
    }
    let request = session.req_header();
    // What was said to one person is not for all.
    let (asked, fields) = (&request.headers, &response.headers);
    let whose = personal(policy, asked);
    if storing::storable(policy, whose, asked, StatusCode::OK, fields, now(), &date).is_err() {
        return;
    }
    let found = cache.find(&key, &request.headers, |_| true).await;
    let Some(object) = found.object else { return };
    let Some(length) = object.length() else {
        return;
    };
    match validation::freshened_by_head(&object.head.headers, length, &response.headers) {
        Freshen::Update => {
            let merged = validation::merge(&object.head.headers, &response.headers);
            let Ok(mut head) = rebuilt(object.head.status, &merged) else {
                return;
            };
            if keep(&mut head).is_err() {
                return;
            }
            let received = now();
            let times = Times {
                requested: received,
                received,
            };
            let freshness = Freshness::of(false, head.status, &head.headers, times, &date);
            let fresh = Arc::new(object.refreshed(head, freshness));
            cache.replace(&object, &fresh, began).await;
        }
        Freshen::Invalidate => cache.remove(&object).await,
        Freshen::Nothing => {}
    }
}

/// Begins to keep a part (RFC 9111 §3.3): one range, of an answer that has a strong validator and may be stored.
fn part(
    cache: Cache,
    (policy, proxy): (&CachePolicy, &Proxy),
    session: &Session,
    response: &ResponseHeader,
    key: Key,
    elapsed: Duration,
) -> Option<PartComing> {
    let request = session.req_header();
    let range = response.headers.get(header::CONTENT_RANGE)?;
    let (range, total) = range::content_range(range.to_str().ok()?)?;
    let total = total.filter(|total| *total <= policy.max_object)?;
    let received = now();
    let asked = &request.headers;
    storing::part_storable(policy, asked, &response.headers, received, &date).ok()?;
    if varies_on_ours(&response.headers, proxy) {
        return None;
    }
    let mut head = response.clone();
    head.set_status(StatusCode::OK).ok()?;
    keep(&mut head).ok()?;
    head.remove_header(&header::CONTENT_RANGE);
    head.insert_header("Content-Length", total).ok()?;
    let times = Times {
        requested: received,
        received,
    };
    let ttl = !policy.respects_origin();
    let freshness = Freshness::of(ttl, StatusCode::OK, &head.headers, times, &date);
    let variant = cache.variant(&head.headers, asked);
    head.remove_header(&header::AGE);
    let pieces = Vec::new();
    let body = Body::Parts(Parts { total, pieces });
    let began = cache.began(elapsed);
    Some(PartComing {
        object: Object::new(
            key,
            &super::fill::place(request),
            variant,
            head,
            freshness,
            body,
            began,
        ),
        at: range.start,
        asked: received.saturating_sub(elapsed),
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
            put_away(cache, part);
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
        let fields = validation::merge(&old.head.headers, &part.object.head.headers);
        object.head = rebuilt(StatusCode::OK, &fields).ok()?;
        object.born = object.born.min(old.born);
        object.body = Body::Parts(parts.with(part.at, &bytes));
    }
    if let Body::Parts(parts) = &object.body
        && let Some(whole) = parts.whole()
    {
        object.body = Body::Memory(whole);
    }
    // At once: the client that has its last byte may ask for more.
    cache.insert(object, part.began);
    Some(())
}
