//! The access log's line for a request, read off its context.

use super::caching::mark::word;
use super::ctx::Ctx;
use super::facts::{authority, target};
use super::failure;
use crate::observe::access_log::{Line, TryLine, millis};
use crate::policy::redact::Redaction;
use http::{StatusCode, Version};
use jiff::Timestamp;
use pingora_proxy::Session;

/// The line of a request that ends now.
pub(super) fn line<'a>(session: &'a Session, ctx: &'a Ctx, redaction: &Redaction) -> Line<'a> {
    let request = session.req_header();
    let lasted = ctx.watch.elapsed();
    let began = Timestamp::now() - jiff::SignedDuration::try_from(lasted).unwrap_or_default();
    let written = session
        .response_written()
        .map(|head| head.status)
        .filter(|s| !s.is_informational() || *s == StatusCode::SWITCHING_PROTOCOLS)
        .map(|status| status.as_u16());
    Line {
        time: format!("{began:.3}"),
        client: ctx.client.map(|ip| ip.to_string()),
        request_id: &ctx.request_id,
        method: request.method.as_str(),
        host: authority(request),
        path: redaction.redact(target(request)),
        protocol: protocol(request.version),
        route: ctx.route.as_deref().map(|route| route.name.as_str()),
        upstream: ctx.upstream().map(|upstream| upstream.name.as_str()),
        backend: ctx.tries.last().map(|t| t.backend.label.as_str()),
        tries: ctx
            .tries
            .iter()
            .map(|t| TryLine {
                backend: &t.backend.label,
                outcome: &t.outcome,
                ms: millis(t.took),
                waited_ms: millis(t.waited),
                queued_ms: millis(t.queued),
            })
            .collect(),
        cache: word(ctx),
        retry: ctx.reason.map(|reason| reason.word()),
        status: written.unwrap_or(failure::CLIENT_LEFT),
        bytes: session.body_bytes_sent(),
        duration_ms: millis(lasted),
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP",
    }
}
