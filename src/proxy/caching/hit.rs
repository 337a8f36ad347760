//! A stored answer on its way to the client: what of it is sent (RFC 9110 §13, §14), and how old it is.

use super::super::ctx::Ctx;
use super::{How, Outcome, date, now};
use crate::cache::Cache;
use crate::cache::object::Object;
use crate::cache::storage::Serve;
use crate::policy::conditional::{self, Condition};
use crate::policy::range::{self, Ranges};
use http::{HeaderValue, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_cache::{CacheKey, ForcedFreshness};
use pingora_proxy::{MultiRangeInfo, RangeType, Session};
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are compressed at once.
const ENCODED: usize = 64 * 1024;

/// The answer this request gets from the store.
pub(in super::super) fn served(ctx: &Ctx) -> Option<&Arc<Object>> {
    ctx.cache.as_ref()?.served.as_ref()
}

/// Switches Pingora's cache phases on, for a hit or for a fill.
pub(in super::super) fn enable(cache: Cache, session: &mut Session, ctx: &Ctx) {
    if served(ctx).is_some() || ctx.fill.is_some() {
        session
            .cache
            .enable(cache.storage(), None, None, None, None);
    }
}

/// The key by which the store knows what was chosen.
pub(in super::super) fn key(object: &Arc<Object>, ctx: &Ctx) -> CacheKey {
    // An encoder works on the worker's thread, which others wait for.
    let compresses = ctx.proxy().is_some_and(|proxy| proxy.compress.is_some());
    let mut key = CacheKey::new(Vec::new(), "");
    key.extensions.insert(Serve {
        object: object.clone(),
        piece: if compresses { ENCODED } else { usize::MAX },
    });
    key
}

/// Whether it may be used was decided before.
pub(in super::super) fn freshness(ctx: &Ctx) -> Option<ForcedFreshness> {
    served(ctx).map(|_| ForcedFreshness::ForceFresh)
}

/// Whether the client has it already (RFC 9110 §13.1).
pub(in super::super) fn not_modified(session: &Session, response: &ResponseHeader) -> bool {
    let request = session.req_header();
    let (method, headers) = (&request.method, &request.headers);
    let condition =
        conditional::evaluate(method, headers, response.status, &response.headers, &date);
    condition == Condition::NotModified
}

/// Which parts of it are asked for, and the head that goes with them.
pub(in super::super) fn ranges(
    session: &Session,
    response: &mut ResponseHeader,
) -> Result<RangeType> {
    let request = session.req_header();
    if response.status != StatusCode::OK {
        return Ok(RangeType::None);
    }
    let length = response.headers.get(header::CONTENT_LENGTH);
    let Some(length) = length.and_then(|l| l.to_str().ok()?.parse::<u64>().ok()) else {
        return Ok(RangeType::None);
    };
    let (method, headers) = (&request.method, &request.headers);
    Ok(
        match range::ranges(method, headers, &response.headers, length, &date) {
            Ranges::Whole => {
                response.insert_header("Accept-Ranges", "bytes")?;
                RangeType::None
            }
            Ranges::Unsatisfiable => {
                response.set_status(StatusCode::RANGE_NOT_SATISFIABLE)?;
                response.insert_header("Content-Range", format!("bytes */{length}"))?;
                response.insert_header("Content-Length", "0")?;
                response.remove_header(&header::CONTENT_TYPE);
                response.remove_header(&header::CONTENT_ENCODING);
                response.remove_header(&header::TRANSFER_ENCODING);
                RangeType::Invalid
            }
            Ranges::One(range) => {
                response.set_status(StatusCode::PARTIAL_CONTENT)?;
                let last = range.end - 1;
                let said = format!("bytes {}-{last}/{length}", range.start);
                response.insert_header("Content-Range", said)?;
                response.insert_header("Content-Length", range.end - range.start)?;
                RangeType::Single(counted(&range))
            }
            Ranges::Many(ranges) => {
                let mut parts = MultiRangeInfo::new(ranges.iter().map(counted).collect());
                let kind = response.headers.get(header::CONTENT_TYPE);
                if let Some(kind) = kind.and_then(|k| k.to_str().ok()) {
                    parts.set_content_type(kind.to_owned());
                }
                parts.set_total_length(usize::try_from(length).unwrap_or(usize::MAX));
                response.set_status(StatusCode::PARTIAL_CONTENT)?;
                response.insert_header("Content-Length", parts.calculate_multipart_length())?;
                let kind = format!("multipart/byteranges; boundary={}", parts.boundary);
                response.insert_header("Content-Type", kind)?;
                response.remove_header(&header::CONTENT_RANGE);
                RangeType::Multi(parts)
            }
        },
    )
}

/// Pingora counts in the machine's own size.
fn counted(range: &Range<u64>) -> Range<usize> {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    size(range.start)..size(range.end)
}

/// Writes how old it is (RFC 9111 §5.1); Pingora wrote what it thinks.
pub(in super::super) fn age(response: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let Some(object) = served(ctx) else {
        return Ok(());
    };
    if let Some(Outcome {
        how: How::Forwarded(forwarded),
        ..
    }) = &ctx.cache
        && !forwarded.collapsed
        && forwarded.status != Some(StatusCode::NOT_MODIFIED)
    {
        // Straight from the origin: what it says of its age stands.
        match object.head.values(&header::AGE).next() {
            Some(age) => response.insert_header(header::AGE, age)?,
            None => {
                response.remove_header(&header::AGE);
            }
        }
        return Ok(());
    }
    let age = object.freshness.age(now()).as_secs();
    response.insert_header(header::AGE, HeaderValue::from(age))
}
