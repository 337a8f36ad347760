//! The client, to whom an answer goes as it comes.
//!
//! Called by [`super`].

use super::backend::Backend;
use crate::policy::framing::knows_chunks;
use crate::proxy::client::{Client, Side, fields_bytes};
use crate::proxy::compress::Encoder;
use crate::proxy::ctx::Ctx;
use crate::proxy::{watch, wire};
use crate::server::http2::Exchange;
use crate::server::stream::ClientStream;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, OrErr, Result};
use std::io::IoSlice;
use std::ops::Range;

/// Hands on an interim answer (RFC 9110 §15.2).
pub(super) async fn interim(
    client: &mut dyn Client,
    ctx: &mut Ctx,
    head: Box<ResponseHeader>,
) -> Result<()> {
    if head.status == StatusCode::CONTINUE {
        // Nobody asked to go on.
        return Ok(());
    }
    match client.side() {
        Side::Stream(exchange) => {
            exchange.interim(&head);
            Ok(())
        }
        // Not on the straight way.
        Side::Pingora(_) => Err(Error::new_in(ErrorType::InternalError)),
        Side::Front(request) if !knows_chunks(request.head.version) => Ok(()),
        Side::Front(request) => {
            let mut out = Vec::with_capacity(wire::USUAL);
            wire::begin(&mut out, &head);
            out.extend_from_slice(b"\r\n");
            write(&mut request.stream, ctx, &mut [IoSlice::new(&out)]).await
        }
    }
}

/// Writes to a connection of HTTP/1.
async fn write(stream: &mut ClientStream, ctx: &Ctx, parts: &mut [IoSlice<'_>]) -> Result<()> {
    let failed = |e| Error::because(ErrorType::WriteError, "writing an answer", e);
    let sent = async { stream.send(parts).await.map_err(failed) };
    let sent = watch::write(&ctx.watch, sent).await;
    sent.map_err(|e| e.into_down())
}

/// How a client of HTTP/1 is told where an answer ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its head says so.
    Told,
    /// By the last chunk.
    Chunk,
    /// By that of its connection: HTTP/1.0 knows no chunks.
    Connection,
}

/// What is compressed of an answer before others have their turn: an encoder that stops in the middle is in nobody's way, but what it
/// works with is no longer at hand when it goes on, and most answers are shorter.
const TURN: usize = 256 * 1024;

/// Compresses content: what was `found` in what the backend has sent, of which so much was `looked_at`, up to its end if it
/// `is_whole`. What came is not needed any more then.
fn compressed(
    encoder: &mut Option<Box<(Encoder, bool)>>,
    backend: &mut Backend,
    found: &[Range<usize>],
    (looked_at, is_whole): (usize, bool),
) -> Result<Option<Bytes>> {
    let Some((encoder, flush)) = encoder.as_deref_mut() else {
        return Ok(None);
    };
    let unread = backend.reader.unread();
    // More of it follows at once.
    let flush = *flush && looked_at == unread.len();
    let parts = found.iter().filter_map(|range| unread.get(range.clone()));
    let coded = encoder.encode_all(parts, is_whole, flush);
    let coded = coded.or_err(ErrorType::InternalError, "an answer cannot be compressed")?;
    backend.reader.take(looked_at);
    backend.reader.rest();
    Ok(Some(coded))
}

/// Counts what was compressed in this turn, and ends it after much.
async fn take_turns(turn: &mut usize, bytes: usize) {
    *turn += bytes;
    if *turn >= TURN {
        *turn = 0;
        tokio::task::yield_now().await;
    }
}

/// Hands an answer on by HTTP/1, with this head.
pub(super) async fn beside(
    stream: &mut ClientStream,
    ctx: &mut Ctx,
    backend: &mut Backend,
    (status, mut out, told): (StatusCode, Vec<u8>, End),
) -> Result<()> {
    let is_chunked = told == End::Chunk;
    let mut bytes = 0;
    let head_length = out.len();
    let (mut found, mut end) = (Vec::new(), Vec::new());
    let mut encoder = ctx.encoder.take();
    let mut turn = 0;
    if backend.content.is_whole() {
        ctx.has_come();
    }
    loop {
        let looked_at = backend.find(ctx, &mut found)?;
        let is_whole = backend.content.is_whole();
        let coded = compressed(&mut encoder, backend, &found, (looked_at, is_whole))?;
        let content = match &coded {
            Some(coded) => coded.len(),
            None => found.iter().map(Range::len).sum(),
        };
        if is_chunked {
            frame(&mut out, &mut end, content, is_whole);
        }
        // Some of it may arrive whatever comes of it.
        ctx.sent_at_once = Some((status, bytes));
        ctx.head_at_once = head_length;
        let unread = backend.reader.unread();
        let mut pieces = found.iter().filter_map(|range| unread.get(range.clone()));
        match (&coded, found.len()) {
            // It may hold all of it back for now.
            (Some(coded), _) if coded.is_empty() && out.is_empty() && end.is_empty() => {}
            (Some(coded), _) => {
                let parts = [&out, &coded[..], &end].map(IoSlice::new);
                write(stream, ctx, &mut { parts }).await?;
            }
            (None, 0 | 1) => {
                let piece = pieces.next().unwrap_or_default();
                let parts = [&out, piece, &end].map(IoSlice::new);
                write(stream, ctx, &mut { parts }).await?;
            }
            _ => {
                let parts = [&out[..]].into_iter().chain(pieces).chain([&end[..]]);
                let mut parts: Vec<_> = parts.map(IoSlice::new).collect();
                write(stream, ctx, &mut parts).await?;
            }
        }
        bytes += content;
        ctx.sent_at_once = Some((status, bytes));
        if coded.is_none() {
            backend.reader.take(looked_at);
        }
        if is_whole {
            return Ok(());
        }
        out.clear();
        end.clear();
        // The kernel may take and give it all at once: others have their turn between two pieces.
        tokio::task::consume_budget().await;
        if encoder.is_some() {
            take_turns(&mut turn, looked_at).await;
        }
        if backend.reader.unread().is_empty() {
            backend.more(ctx, |cx| stream.poll_gone(cx)).await?;
        }
    }
}

/// Makes a chunk of so much content (RFC 9112 §7.1): `out` is what is before it, `end` what is after it.
fn frame(out: &mut Vec<u8>, end: &mut Vec<u8>, content: usize, is_last: bool) {
    if content > 0 {
        out.extend_from_slice(format!("{content:x}\r\n").as_bytes());
        end.extend_from_slice(b"\r\n");
    }
    if is_last {
        end.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Hands an answer on by HTTP/2, with these fields.
pub(super) async fn by_stream(
    exchange: &mut Exchange,
    ctx: &mut Ctx,
    backend: &mut Backend,
    (status, fields): (StatusCode, HeaderMap),
) -> Result<()> {
    if backend.content.is_whole() {
        ctx.has_come();
    }
    let is_alone = backend.content.is_whole();
    ctx.head_at_once = fields_bytes(&fields);
    let begun = exchange.begin(status, fields, is_alone);
    begun.map_err(|e| e.into_down())?;
    ctx.sent_at_once = Some((status, 0));
    let mut found = Vec::new();
    let mut encoder = ctx.encoder.take();
    let mut turn = 0;
    loop {
        let looked_at = backend.find(ctx, &mut found)?;
        let is_whole = backend.content.is_whole();
        let coded = compressed(&mut encoder, backend, &found, (looked_at, is_whole))?;
        let content = match coded {
            Some(coded) => coded,
            None => {
                let unread = backend.reader.unread();
                let mut content = BytesMut::with_capacity(found.iter().map(Range::len).sum());
                for range in &found {
                    content.extend_from_slice(unread.get(range.clone()).unwrap_or_default());
                }
                // It is there once, however long it takes the client.
                backend.reader.take(looked_at);
                backend.reader.rest();
                content.freeze()
            }
        };
        if !content.is_empty() || is_whole && !is_alone {
            let piece = exchange.write(content, is_whole);
            watch::write(&ctx.watch, piece).await?;
            ctx.sent_at_once = Some((status, exchange.sent()));
        }
        if is_whole {
            return Ok(());
        }
        if encoder.is_some() {
            take_turns(&mut turn, looked_at).await;
        }
        if backend.reader.unread().is_empty() {
            backend.more(ctx, |cx| exchange.poll_left(cx)).await?;
        }
    }
}
