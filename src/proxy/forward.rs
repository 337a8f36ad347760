//! What passes through both ways: answers made fit for their clients, and what of a message concerns one connection only.
//!
//! How a request changes is in [`super::outgoing`].

use super::caching;
use super::compress::Encoder;
use super::ctx::Ctx;
use super::facts::Values;
use super::peer::Use;
use super::rate;
use super::trailers;
use crate::policy::encoding;
use crate::policy::fields;
use crate::policy::framing;
use crate::policy::grpc;
use crate::policy::headers::{Edit, HeaderRules};
use crate::policy::route::{AnswerRules, Proxy};
use crate::policy::security;
use crate::policy::trace;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{ErrorType, OrErr, Result};

/// What marks a request as safe to repeat (draft-ietf-httpapi-idempotency-key-header).
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says to which trace a request belongs, where there are traces, and to which span in it (W3C Trace Context).
///
/// # Errors
/// When a field cannot be written.
pub(super) fn pass_trace(request: &mut RequestHeader, ctx: &Ctx, span: u64) -> Result<()> {
    if let Some(trace) = &ctx.trace {
        request.insert_header(trace::PARENT, trace.header(span))?;
        if trace.parent.is_none() {
            // It is of another trace, or of none (§3.2.2.5).
            request.remove_header(trace::STATE);
        }
    }
    Ok(())
}

/// Takes out the fields of which this holds.
pub(super) fn remove(request: &mut RequestHeader, is_one: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|n| is_one(n))
        .cloned()
        .collect();
    for name in &names {
        request.remove_header(name);
    }
}

/// A name as people write it, `X-Real-Ip`: HTTP does not care, but there are old servers that do.
pub(super) fn written(name: &HeaderName) -> String {
    let mut capital = true;
    let letter = |c: char| match std::mem::replace(&mut capital, c == '-') {
        true => c.to_ascii_uppercase(),
        false => c,
    };
    name.as_str().chars().map(letter).collect()
}

/// Makes a final response of an upstream, or of the store, the one that the client gets.
///
/// # Errors
/// When a field cannot be written, or there is no memory to compress with.
pub(super) fn dress(
    response: &mut ResponseHeader,
    client_request: &RequestHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    if response.status != StatusCode::SWITCHING_PROTOCOLS {
        caching::hit::age(response, ctx)?;
        caching::fill::own_fields(response, ctx)?;
    }
    if let Some(hsts) = ctx.hsts() {
        response.insert_header("Strict-Transport-Security", hsts)?;
    }
    caching::mark::mark(response, ctx)?;
    rate::mark(response, ctx)?;
    if let (true, Some(connection), Some(date)) = (
        ctx.in_phases,
        &ctx.connection,
        fields::first(&response.headers, &header::DATE),
    ) {
        connection.date.set(date.as_bytes());
    }
    if !ctx.watch.filling() {
        compress(response, client_request, ctx)?;
    }
    if let Some(rules) = ctx.answer_rules() {
        give(response, rules, client_request, false)?;
    }
    match &ctx.route {
        Some(route) => edit_response(response, &route.response_headers, client_request, ctx),
        None => Ok(()),
    }
}

/// Whether [`dress`] would add nothing but what a cache says, unless the route compresses.
pub(super) fn leaves_as_is(ctx: &Ctx) -> bool {
    let is_edited = ctx
        .route
        .as_ref()
        .is_some_and(|route| !route.response_headers.is_empty() || route.answers.is_some());
    !is_edited && ctx.hsts().is_none() && ctx.rate.is_none()
}

/// Gives a response what all answers of its route are given. Only on the way out: what is stored is for everybody.
/// `permission`: whether it is the answer to who only asked for that.
pub(super) fn give(
    response: &mut ResponseHeader,
    rules: &AnswerRules,
    client_request: &RequestHeader,
    permission: bool,
) -> Result<()> {
    if rules.security_headers {
        let edits = security::edits(&response.headers);
        carry_out(response, edits)?;
    }
    if let Some(cors) = &rules.cors {
        let edits = match permission {
            true => cors.permission(&client_request.headers),
            false => cors.edits(&client_request.headers, &response.headers),
        };
        carry_out(response, edits)?;
    }
    Ok(())
}

/// Edits a response as its route says, whoever made it.
pub(super) fn edit_response(
    response: &mut ResponseHeader,
    rules: &HeaderRules,
    client_request: &RequestHeader,
    ctx: &Ctx,
) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let values = Values::of(client_request, ctx);
    carry_out(response, rules.edits(&values.vars(&ctx.request_id)))
}

/// Compresses a response for clients who accept it, where its route says so (RFC 9110 §8.4).
///
/// # Errors
/// When there is no memory for it.
fn compress(
    response: &mut ResponseHeader,
    client_request: &RequestHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    let Some(policy) = ctx.proxy().and_then(|proxy| proxy.compress.as_ref()) else {
        return Ok(());
    };
    let asked = &client_request.headers;
    let (status, fields) = (response.status, &response.headers);
    if status == StatusCode::NOT_MODIFIED {
        let edits = encoding::not_modified(asked, fields);
        return carry_out(response, edits);
    }
    let length = fields::first(fields, &header::CONTENT_LENGTH);
    let length = length.and_then(|l| l.to_str().ok()?.parse().ok());
    if !encoding::varies(policy, status, fields, length) {
        return Ok(());
    }
    let coding = encoding::choose(policy, asked, status, fields, length);
    let edits = encoding::edits(fields, coding);
    carry_out(response, edits)?;
    let Some(coding) = coding else {
        return Ok(());
    };
    if client_request.version == Version::HTTP_11 {
        response.insert_header("Transfer-Encoding", "chunked")?;
    }
    if client_request.method != Method::HEAD {
        let encoder = Encoder::new(coding, length);
        let encoder = encoder.or_err(ErrorType::InternalError, "no memory to compress with")?;
        // They may say something of what was coded otherwise (RFC 9530 §2).
        trailers::leave_out(ctx);
        response.remove_header(&header::TRAILER);
        ctx.encoder = Some(Box::new((encoder, length.is_none())));
    }
    Ok(())
}

fn carry_out<'a>(
    response: &mut ResponseHeader,
    edits: impl IntoIterator<Item = Edit<'a>>,
) -> Result<()> {
    for edit in edits {
        match edit {
            Edit::Remove(name) => {
                response.remove_header(name);
            }
            Edit::Set(name, value) => response.insert_header(written(name), value)?,
            Edit::Add(name, value) => {
                response.append_header(written(name), value)?;
            }
        }
    }
    Ok(())
}

/// Takes out of a response what concerned only the connection to the backend (RFC 9110 §7.6.1). Pingora does so for
/// requests; for responses it only writes `Connection` anew. `with_trailers`: whether those that it announces will come.
pub(super) fn strip_hop_by_hop(response: &mut ResponseHeader, with_trailers: bool) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let is_one = |name: &HeaderName| {
        let known = [
            header::CONNECTION,
            header::TE,
            header::TRAILER,
            header::UPGRADE,
        ];
        known.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
    };
    // Most have none.
    if !response.headers.keys().any(is_one) {
        return;
    }
    for name in &nominated(&response.headers) {
        response.remove_header(name);
    }
    for name in ["keep-alive", "proxy-connection", "te"] {
        response.remove_header(name);
    }
    if !with_trailers {
        response.remove_header(&header::TRAILER);
    }
    // Without it a client does not know what to come by (RFC 9110 §15.5.22).
    if response.status != StatusCode::UPGRADE_REQUIRED {
        response.remove_header(&header::UPGRADE);
    }
}

/// What `Connection` says concerns this connection only.
pub(super) fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    framing::named(headers)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| !is_framing(name))
        .collect()
}

/// What Pingora's own framing depends on; it takes these out itself where they do not belong.
fn is_framing(name: &HeaderName) -> bool {
    [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
    ]
    .contains(name)
}

/// Whether an answer varies on a field that is not the client's but ours: what is kept could not be told apart by what
/// clients send. Those that are the same for all who share a key do not count.
pub(super) fn varies_on_ours(response: &HeaderMap, proxy: &Proxy, told: &[HeaderName]) -> bool {
    const OURS: [&str; 5] = [
        "x-forwarded-for",
        "x-real-ip",
        "forwarded",
        "x-request-id",
        "via",
    ];
    let lines = fields::all(response, &header::VARY);
    let names = lines.flat_map(|line| line.as_bytes().split(|b| b",; \t".contains(b)));
    let mut names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
    names.any(|name| {
        OURS.contains(&name.as_str()) || proxy.request_headers.names(&name) || told.contains(&name)
    })
}

/// Whether the client marks the request as safe to repeat.
pub(super) fn has_idempotency_key(request: &RequestHeader) -> bool {
    fields::has(&request.headers, &IDEMPOTENCY_KEY)
}

/// Whether the request opens a WebSocket (RFC 6455 §4.1); Pingora lets no other upgrade through.
pub(super) fn is_websocket(request: &RequestHeader) -> bool {
    let upgrade = fields::first(&request.headers, &header::UPGRADE);
    request.version == Version::HTTP_11
        && upgrade.is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Whether a backend that switches to another protocol does what the client asked for (RFC 9110 §15.2.2).
pub(super) fn is_asked_for(request: &RequestHeader, response: &ResponseHeader) -> bool {
    let to = fields::first(&response.headers, &header::UPGRADE);
    is_websocket(request) && to.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// What a connection is needed for to send this.
pub(super) fn used_for(request: &RequestHeader) -> Use {
    match (is_websocket(request), is_duplex(request)) {
        (true, _) => Use::WebSocket,
        (false, true) => Use::Duplex,
        (false, false) => Use::Exchange,
    }
}

/// Whether the request opens a stream in both directions at once, whose body cannot be read ahead.
pub(super) fn is_duplex(request: &RequestHeader) -> bool {
    is_websocket(request)
        && framing::named(&request.headers).any(|word| word.eq_ignore_ascii_case(b"upgrade"))
        || grpc::is_call(&request.method, request.version, &request.headers)
}

/// Whether this response ends with its head (RFC 9112 §6.3).
pub(super) fn has_no_body(method: &Method, response: &ResponseHeader) -> bool {
    let length = fields::first(&response.headers, &header::CONTENT_LENGTH);
    *method == Method::HEAD
        || matches!(
            response.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
        || length.is_some_and(|l| l.as_bytes() == b"0")
}
