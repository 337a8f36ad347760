//! The common hit: a fresh answer, whole, to a plain GET, given before any of Pingora's cache phases.
//!
//! Called by [`super::super::front`]. Whatever needs more (a range, a condition, an encoder, a fill) is left to
//! [`super::consult`].

use super::super::client::{Client, Side, fields_bytes};
use super::super::ctx::Ctx;
use super::super::{forward, watch};
use super::{How, choose, key_parts, now, policy, wire};
use crate::cache::disk::Standing;
use crate::cache::object::{Body, Object};
use crate::cache::reader::Reader;
use crate::cache::{Cache, IN_FILE};
use crate::policy::cache;
use crate::policy::cache::reuse::{self, Reuse};
use crate::server::http2::Exchange;
use crate::server::stream::ClientStream;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{ErrorType, OrErr, Result};
use std::io::IoSlice;
use std::os::fd::BorrowedFd;

/// How much of a file the kernel is given to send before others have their turn.
const AT_ONCE: usize = 1024 * 1024;

/// Answers from the store, if that is a simple thing to do; says whether it did.
///
/// # Errors
/// When the client cannot be written to.
pub(in super::super) async fn serve(
    cache: Cache,
    client: &mut dyn Client,
    ctx: &mut Ctx,
) -> Result<bool> {
    let Some(policy) = policy(ctx) else {
        return Ok(false);
    };
    let request = client.req_header();
    let headers = &request.headers;
    if ctx.has_content
        || request.method != Method::GET
        || asks_for_more(headers)
        || cache::lookup(policy, &request.method, headers).is_err()
        || ctx.proxy().is_none_or(|proxy| proxy.compress.is_some())
    {
        return Ok(false);
    }
    let key = cache.key(&key_parts(cache, policy, request, ctx));
    let (found, standing) = match cache.only(&key) {
        Some((object, standing)) => (Some(object), standing),
        None => {
            let whole = |object: &Object| !matches!(object.body, Body::Parts(_));
            let found = Box::pin(cache.find(&key, headers, whole)).await;
            (found.object, found.standing)
        }
    };
    let now = now();
    let fresh = found.filter(|object| {
        matches!(
            object.body,
            Body::Memory(_) | Body::Sealed(_) | Body::File(_)
        ) && object.head.status == StatusCode::OK
            && reuse::reuse(policy, &object.freshness, headers, now) == Reuse::Fresh
    });
    let Some(object) = fresh else {
        // What was found is not handed on: a fill may end any moment, and is not to be begun again then.
        ctx.key = Some(key);
        return Ok(false);
    };
    choose(ctx, &object, How::Hit(None));
    let mut wire = match client.side() {
        Side::Front(request) => {
            let head = wire::head(ctx, &object, now, request.keeps);
            head.map(|head| (&mut *request.stream, head))
        }
        Side::Stream(_) | Side::Pingora(_) => None,
    };
    let standing = standing.or_else(|| match &object.body {
        // Small ones are read each time.
        Body::File(stored) if stored.body_len() >= IN_FILE as u64 => Some(stored.standing()),
        _ => None,
    });
    let span = match &object.body {
        Body::Sealed(sealed) => Some((sealed.file(), 0, sealed.len() as u64)),
        // Else it is to be read: it is small, or its file may have been spoiled.
        Body::File(stored) if standing == Some(Standing::Right) => Some(stored.span()),
        _ => None,
    };
    if let (Some((stream, head)), Some(span)) = (&mut wire, span)
        && stream.takes_files()
    {
        send(stream, ctx, head, span).await?;
        return Ok(true);
    }
    if let (Some((stream, head)), Body::Memory(body)) = (&mut wire, &object.body) {
        send_whole(stream, ctx, head, body).await?;
        return Ok(true);
    }
    let version = match standing {
        Some(Standing::Unknown(version)) => Some(version),
        _ => None,
    };
    let mut body = Reader::new(object.clone(), usize::MAX, cache.memory());
    let Ok(first) = body.read().await else {
        // Nothing was sent yet: what cannot be read is as if it were not there.
        ctx.cache = None;
        return Ok(false);
    };
    let first = first.unwrap_or_default();
    match wire {
        Some((stream, head)) => write_beside(stream, ctx, &head, first, body).await?,
        None => write(client, ctx, &object, first, body).await?,
    }
    if let (Body::File(stored), Some(version)) = (&object.body, version) {
        stored.was_right(version);
    }
    Ok(true)
}

/// Sends an answer all of which is in memory.
async fn send_whole(
    stream: &mut ClientStream,
    ctx: &mut Ctx,
    head: &[u8],
    body: &[u8],
) -> Result<()> {
    let sent = async {
        let sent = stream
            .send(&mut [IoSlice::new(head), IoSlice::new(body)])
            .await;
        sent.or_err(ErrorType::WriteError, "sending a stored answer")
    };
    watch::write(&ctx.watch, sent).await?;
    ctx.sent_at_once = Some((StatusCode::OK, body.len()));
    ctx.head_at_once = head.len();
    tokio::task::consume_budget().await;
    Ok(())
}

/// Has the kernel send the answer from where its body is: a file, from a position on so many bytes.
async fn send(
    stream: &mut ClientStream,
    ctx: &mut Ctx,
    mut head: &[u8],
    (file, mut at, mut left): (BorrowedFd<'_>, u64, u64),
) -> Result<()> {
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE);
        send_span(stream, ctx, head, file, (at, len)).await?;
        head = &[];
        at += len as u64;
        left -= len as u64;
    }
    Ok(())
}

/// Has the kernel send a part of a file, from a position on so many bytes.
async fn send_span(
    stream: &mut ClientStream,
    ctx: &mut Ctx,
    head: &[u8],
    file: BorrowedFd<'_>,
    (at, len): (u64, usize),
) -> Result<()> {
    let sent = async {
        let sent = stream.send_file(head, file, at, len).await;
        sent.or_err(ErrorType::WriteError, "sending a stored answer")
    };
    watch::write(&ctx.watch, sent).await?;
    let before = ctx.sent_at_once.map_or(0, |(_, bytes)| bytes);
    ctx.sent_at_once = Some((StatusCode::OK, before + len));
    ctx.head_at_once = ctx.head_at_once.max(head.len());
    tokio::task::consume_budget().await;
    Ok(())
}

/// Whether the answer is not simply what is stored: a part of it, or that it is known already.
fn asks_for_more(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str().starts_with("if-") || name == header::RANGE)
}

/// Writes the answer straight to the connection.
async fn write_beside(
    stream: &mut ClientStream,
    ctx: &mut Ctx,
    head: &[u8],
    first: Bytes,
    mut body: Reader,
) -> Result<()> {
    let mut head = head;
    let mut next = Some(first);
    let mut bytes = 0;
    while let Some(piece) = next {
        let sent = async {
            let mut parts = [IoSlice::new(head), IoSlice::new(&piece)];
            let sent = stream.send(&mut parts).await;
            sent.or_err(ErrorType::WriteError, "sending a stored answer")
        };
        watch::write(&ctx.watch, sent).await?;
        bytes += piece.len();
        ctx.sent_at_once = Some((StatusCode::OK, bytes));
        ctx.head_at_once = ctx.head_at_once.max(head.len());
        head = &[];
        drop(piece);
        // The kernel may take it all at once: others have their turn between two pieces.
        tokio::task::consume_budget().await;
        next = body.read().await?;
    }
    Ok(())
}

/// Writes the answer to a stream of HTTP/2.
async fn write_by_stream(
    exchange: &mut Exchange,
    ctx: &mut Ctx,
    head: ResponseHeader,
    first: Bytes,
    mut body: Reader,
) -> Result<()> {
    let status = head.status;
    ctx.head_at_once = fields_bytes(&head.headers);
    exchange.send_head(head, first.is_empty())?;
    ctx.sent_at_once = Some((status, 0));
    let mut next = (!first.is_empty()).then_some(first);
    while let Some(piece) = next {
        let is_last = body.is_at_end();
        let piece = exchange.write(piece, is_last);
        watch::write(&ctx.watch, piece).await?;
        ctx.sent_at_once = Some((status, exchange.sent()));
        tokio::task::consume_budget().await;
        next = match is_last {
            true => None,
            false => body.read().await?,
        };
    }
    // Where it was not known that the last piece was the last.
    exchange.end()
}

/// Writes the answer edited as the route says.
async fn write(
    client: &mut dyn Client,
    ctx: &mut Ctx,
    object: &Object,
    first: Bytes,
    mut body: Reader,
) -> Result<()> {
    // HTTP/2 has small letters only.
    let mut head = Box::new(object.head.response(!client.is_http2())?);
    if let (None, Some(length)) = (head.headers.get(header::CONTENT_LENGTH), object.length()) {
        head.remove_header(&header::TRANSFER_ENCODING);
        head.insert_header(header::CONTENT_LENGTH, length)?;
    }
    head.insert_header(header::ACCEPT_RANGES, "bytes")?;
    forward::dress(&mut head, client.req_header(), ctx)?;
    let session = match client.side() {
        Side::Pingora(session) => session,
        Side::Stream(exchange) => return write_by_stream(exchange, ctx, *head, first, body).await,
        Side::Front(request) => {
            let head = super::super::wire::whole(&head, request.keeps);
            return write_beside(&mut request.stream, ctx, &head, first, body).await;
        }
    };
    session.write_response_header(head).await?;
    let mut next = Some(first);
    while let Some(piece) = next {
        let piece = session.write_response_body(piece, false);
        watch::write(&ctx.watch, piece).await?;
        next = body.read().await?;
    }
    watch::write(&ctx.watch, session.finish_body()).await
}
