//! The access log's line for a request, read off its context.

use super::account::Seen;
use super::caching::mark::word;
use super::client::Client;
use super::ctx::{Ctx, Try};
use super::facts::{authority_by, target};
use super::failure;
use super::respond::StandsFor;
use crate::clock;
use crate::observe::access_log::{AccessLog, Line, Summary, TryLine, TrySummary};
use crate::observe::formats::{Format, More};
use crate::observe::identity::{self, Identity};
use crate::observe::tally::{Ended, Failed, Phases};
use crate::policy::fields;
use crate::policy::outcome::Outcome;
use crate::policy::redact::Redaction;
use crate::policy::success::Saved;
use http::{HeaderValue, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The end of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish {
    /// When that is, since the epoch.
    pub(super) at: Duration,
    /// How long it lasted.
    pub(super) lasted: Duration,
}

impl Finish {
    /// It ends now.
    pub(super) fn now(ctx: &Ctx) -> Self {
        let now = clock::read();
        Finish {
            at: clock::since_epoch(),
            lasted: ctx.watch.lasted(now),
        }
    }
}

/// The line of a request that ends now.
pub(super) fn line<'a>(
    session: &'a dyn Client,
    ctx: &'a Ctx,
    finish: Finish,
    log: &AccessLog,
) -> Line<'a> {
    let seen = Seen::by(session, ctx);
    let head = session.req_header();
    let mut line = plain(head, ctx, (seen, finish), (&log.redaction, &log.claim));
    if !matches!(log.format, Format::Json) {
        let (status, _) = seen.sent;
        let more = more(session, ctx, (status, finish.at), &log.redaction);
        line.more = Some(Box::new(more));
    }
    line
}

/// What of it all forms of the log have. `rules`: what is left out of queries, and the claim of a token that is the name of who asks.
pub(super) fn plain<'a>(
    request: &'a RequestHeader,
    ctx: &'a Ctx,
    (seen, Finish { at, lasted }): (Seen, Finish),
    (redaction, claim): (&Redaction, &str),
) -> Line<'a> {
    let (status, bytes) = seen.sent;
    let names = [&header::HOST, &header::USER_AGENT, &header::AUTHORIZATION];
    let [host, user_agent, authorization] = fields::firsts(&request.headers, names);
    let identity = who(authorization, ctx, claim);
    Line {
        summary: Summary {
            began: at.saturating_sub(lasted),
            lasted,
            trace: ctx.trace,
            client: ctx.client,
            identity_from: identity.as_ref().map(|identity| identity.from),
            scheme: ctx.scheme,
            protocol: protocol(request.version),
            tls: ctx.secured.as_ref().map(|secured| secured.version),
            cache: word(ctx),
            retry: ctx.reason.map(|reason| reason.word()),
            refused: ctx.refused,
            error: ctx
                .end
                .filter(|end| status == Some(end.status))
                .map(|end| end.proxy_error),
            received: seen.received,
            idle: seen.idle,
            status: status.map_or(failure::CLIENT_LEFT, |status| status.as_u16()),
            bytes,
            sample: None,
        },
        identity: identity.map(|identity| identity.name),
        request_id: &ctx.request_id,
        method: request.method.as_str(),
        host: authority_by(request, host),
        path: redaction.redact(ctx.asked.as_deref().unwrap_or_else(|| target(request))),
        cipher: ctx.secured.as_ref().map(|secured| secured.cipher.as_str()),
        user_agent: user_agent.map(HeaderValue::as_bytes),
        route: ctx.route.as_deref().map(|route| route.name.as_str()),
        upstream: ctx.upstream().map(|upstream| upstream.name.as_str()),
        tries: ctx.tries.iter().map(|t| attempt(t, ctx)).collect(),
        overtaken: ctx.overtaken.iter().map(|t| attempt(t, ctx)).collect(),
        more: None,
    }
}

/// Who asks, where that was proved or is told. `claim`: which claim of a token is the name.
#[inline(never)]
fn who(authorization: Option<&HeaderValue>, ctx: &Ctx, claim: &str) -> Option<Identity> {
    if let Some((name, from)) = ctx.verified.clone() {
        return Some(Identity { name, from });
    }
    if let Some(name) = ctx.client_cert() {
        let (name, from) = (name.to_owned(), "client_cert");
        return Some(Identity { name, from });
    }
    identity::of(authorization?, claim)
}

fn attempt<'a>(t: &'a Try, ctx: &Ctx) -> TryLine<'a> {
    TryLine {
        backend: &t.backend.label,
        summary: TrySummary {
            outcome: t.outcome,
            took: t.took,
            waited: t.waited,
            queued: t.queued,
            connected: t.connected,
            first_byte: t.answered,
            status: t.status.map(|status| status.as_u16()),
            span: t.span,
            began: ctx.watch.lasted(t.started),
        },
    }
}

/// What other forms of the log have than JSON; `status` is the final one that the client got, `at` when the request ended.
fn more<'a>(
    session: &'a dyn Client,
    ctx: &'a Ctx,
    (status, at): (Option<StatusCode>, Duration),
    redaction: &Redaction,
) -> More<'a> {
    let request = session.req_header();
    let field =
        |name| fields::first(&request.headers, &name).map(|value: &HeaderValue| value.as_bytes());
    let peer = session.address();
    let websocket = status == Some(StatusCode::SWITCHING_PROTOCOLS);
    let answer = |t: &'a Try| (t.backend.label.as_str(), t.status.map(|told| told.as_u16()));
    let processing = ctx.tries.last().and_then(|last| {
        let connected = last.connected.unwrap_or_default();
        let went = match last.outcome {
            Outcome::Failed(failure) => !failure.nothing_was_sent(),
            Outcome::ClientLeft => last.connected.is_some() || last.answered.is_some(),
            _ => true,
        };
        let began = ctx.watch.lasted(last.started);
        let answered = last.answered.map(|at| at.saturating_sub(connected));
        went.then_some((began + connected, answered))
    });
    let written = session.written();
    let sent_head = |head: &ResponseHeader| -> usize {
        let fields = head.headers.iter();
        let fields: usize = fields.map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
        let reason = head.get_reason_phrase().map_or(0, str::len);
        "HTTP/1.1 200 \r\n\r\n".len() + reason + fields
    };
    let location = written.filter(|head| head.status.is_redirection());
    let location = location.and_then(|head| fields::first(&head.headers, &header::LOCATION));
    More {
        ended: at,
        // A page hands its own query on in it, with what is in that.
        referer: field(header::REFERER).map(|referer| {
            let text = String::from_utf8_lossy(referer);
            match redaction.redact(&text) {
                Cow::Borrowed(told) if told.as_bytes() == referer => Cow::Borrowed(referer),
                told => Cow::Owned(told.into_owned().into_bytes()),
            }
        }),
        client_port: peer.filter(|_| ctx.hops.is_empty()).map(|peer| peer.port()),
        kind: match (ctx.scheme, request.version, websocket) {
            ("https", _, true) => "wss",
            (_, _, true) => "ws",
            (_, Version::HTTP_2, _) => "h2",
            (scheme, _, _) => scheme,
        },
        received: session.head_bytes() + session.body_bytes_read(),
        head_sent: match ctx.head_at_once {
            0 => written.map_or(0, sent_head),
            head => head,
        },
        processing,
        redirect: location
            .filter(|_| ctx.upstream().is_none())
            .map(|to| String::from_utf8_lossy(to.as_bytes()))
            .map(|to| redaction.redact(&to).into_owned().into()),
        answers: ctx.tries.iter().map(answer).collect(),
        server_name: ctx.secured.as_ref().and_then(|s| s.server_name.as_deref()),
        headers: Some(&request.headers),
    }
}

/// How a request ended, for the counts.
pub(super) fn ended(session: &dyn Client, ctx: &Ctx, finish: Finish) -> Ended {
    let (status, bytes) = sent(session, ctx);
    let status = status.map_or(failure::CLIENT_LEFT, |status| status.as_u16());
    let (tries, tries_failed) = match ctx.filled_by_another {
        true => (0, 0),
        false => self::tries(ctx),
    };
    let from_store = matches!(word(ctx), Some("hit" | "stale"));
    Ended {
        bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        took: finish.lasted,
        cache: word(ctx),
        tries,
        tries_failed,
        well: ctx.tunnel
            || from_store
            || ctx
                .tries
                .last()
                .is_none_or(|last| !last.outcome.is_failure()),
        saved: match ctx.tries.iter().any(|t| t.outcome.is_failure()) {
            true => saved(ctx, from_store),
            false => None,
        },
        phases: phases(ctx),
        ..Ended::new(&session.req_header().method, status)
    }
}

/// How many tries the upstream had to answer for, and how many of them failed.
pub(super) fn tries(ctx: &Ctx) -> (u32, u32) {
    let count = |which: fn(Outcome) -> bool| {
        let fitting = ctx.tries.iter().filter(|t| which(t.outcome));
        u32::try_from(fitting.count()).unwrap_or(u32::MAX)
    };
    let failed = count(Outcome::is_failure);
    (failed + count(|outcome| outcome == Outcome::Ok), failed)
}

/// What saved it, after a try had failed.
#[cold]
fn saved(ctx: &Ctx, from_store: bool) -> Option<Saved> {
    // What clients did, or a second request overtook, is neither.
    let ended = |t: &&Try| t.outcome.is_failure() || t.outcome == Outcome::Ok;
    let saving = ctx.tries.iter().filter(ended);
    let saving = saving.map(|t| (Arc::as_ptr(t.backend.shared()), t.outcome.is_failure()));
    Saved::by(saving, from_store)
}

/// Where its time went.
fn phases(ctx: &Ctx) -> Phases {
    let mut phases = Phases::default();
    for t in &ctx.tries {
        // What a try waited for in vain is what it took.
        let in_vain = |connecting: bool| match t.outcome {
            Outcome::Failed(failure) => {
                (failure.nothing_was_sent() == connecting).then_some(t.took)
            }
            _ => None,
        };
        phases.add([
            Some(t.queued),
            Some(t.waited).filter(|waited| !waited.is_zero()),
            t.connected.or_else(|| in_vain(true)),
            t.answered.or_else(|| in_vain(false)),
        ]);
    }
    phases
}

/// What is remembered of a request that failed.
pub(super) fn failed(session: &dyn Client, ctx: &Ctx, ended: &Ended) -> Failed {
    let request = session.req_header();
    let path = target(request).split('?').next().unwrap_or_default();
    let attempt = |t: &Try| format!("{}: {}", t.backend.label, t.outcome);
    Failed {
        at: clock::since_epoch(),
        request_id: ctx.request_id.clone(),
        route: ctx
            .route
            .as_ref()
            .map(|r| r.name.clone())
            .unwrap_or_default(),
        what: format!("{} {path}", request.method),
        status: ended.status,
        tries: ctx.tries.iter().map(attempt).collect(),
        reason: ctx.reason.map(|reason| reason.word()),
    }
}

/// The line of what is no request: what it is answered with, and why.
pub(super) fn malformed<'a>(
    client: Option<IpAddr>,
    status: StatusCode,
    why: &'static str,
    request_id: &'a str,
) -> Line<'a> {
    Line {
        summary: Summary {
            began: clock::since_epoch(),
            client,
            refused: Some(why),
            status: status.as_u16(),
            ..Summary::default()
        },
        request_id,
        more: Some(Box::new(More {
            ended: clock::since_epoch(),
            kind: "http",
            ..More::default()
        })),
        ..Line::default()
    }
}

/// The final status that the client got, if any, and how many bytes of a body.
pub(super) fn sent(session: &dyn Client, ctx: &Ctx) -> (Option<StatusCode>, usize) {
    if let Some((status, bytes)) = ctx.sent_at_once {
        return (Some(status), bytes);
    }
    let status = session.written().map(|head| {
        let stands_for = head.extensions.get::<StandsFor>();
        stands_for.map_or(head.status, |StandsFor(status)| *status)
    });
    let is_final = |s: &StatusCode| !s.is_informational() || *s == StatusCode::SWITCHING_PROTOCOLS;
    (status.filter(is_final), session.body_bytes_sent())
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
