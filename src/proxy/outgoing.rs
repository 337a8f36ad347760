//! The request as it goes to the backend: its target rewritten, its headers edited, its way recorded.
//!
//! [`changes`] says what is different from what the client sent. [`prepare`] makes these changes where Pingora sends the request,
//! [`write`] where [`super::direct`] does.

use super::client::Client;
use super::ctx::Ctx;
use super::facts::{Values, authority, target};
use super::forward::{self, written};
use super::trailers;
use super::wire::line;
use crate::policy::claims;
use crate::policy::fields;
use crate::policy::forwarded;
use crate::policy::framing;
use crate::policy::grpc;
use crate::policy::headers::Edit;
use crate::policy::route::Proxy;
use crate::policy::trace;
use http::{HeaderName, HeaderValue, Version, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, OrErr, Result};
use std::borrow::Cow;

/// A field that is ours: its name, and as it is written.
struct Ours {
    name: HeaderName,
    written: &'static str,
}

const fn ours(name: HeaderName, written: &'static str) -> Ours {
    Ours { name, written }
}

static VIA: Ours = ours(header::VIA, "Via");
static HOST: Ours = ours(header::HOST, "Host");
static FORWARDED_FOR: Ours = ours(
    HeaderName::from_static("x-forwarded-for"),
    "X-Forwarded-For",
);
static FORWARDED_PROTO: Ours = ours(
    HeaderName::from_static("x-forwarded-proto"),
    "X-Forwarded-Proto",
);
static FORWARDED_HOST: Ours = ours(
    HeaderName::from_static("x-forwarded-host"),
    "X-Forwarded-Host",
);
static REQUEST_ID: Ours = ours(HeaderName::from_static("x-request-id"), "X-Request-ID");
static GRPC_TIMEOUT: Ours = ours(HeaderName::from_static(grpc::TIMEOUT), grpc::TIMEOUT);
static TRACE_PARENT: Ours = ours(HeaderName::from_static(trace::PARENT), trace::PARENT);
static REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
static TRACE_STATE: HeaderName = HeaderName::from_static(trace::STATE);

/// A change of a request's fields.
enum Change<'a> {
    Remove(&'a HeaderName),
    /// In place of any there are.
    Set(Name<'a>, Value<'a>),
    /// Beside those there are.
    Add(Name<'a>, Value<'a>),
}

/// The name of a field.
enum Name<'a> {
    Ours(&'static Ours),
    Other(&'a HeaderName),
}

impl Name<'_> {
    fn name(&self) -> &HeaderName {
        match self {
            Name::Ours(own) => &own.name,
            Name::Other(name) => name,
        }
    }

    fn written(&self) -> Cow<'static, str> {
        match self {
            Name::Ours(own) => Cow::Borrowed(own.written),
            Name::Other(name) => Cow::Owned(written(name)),
        }
    }
}

/// What it has. Fit to be sent, whatever it was made of.
enum Value<'a> {
    Field(HeaderValue),
    Text(Cow<'a, str>),
}

impl Value<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Value::Field(value) => value.as_bytes(),
            Value::Text(text) => text.as_bytes(),
        }
    }

    fn field(self) -> Result<HeaderValue> {
        match self {
            Value::Field(value) => Ok(value),
            Value::Text(text) => HeaderValue::from_str(&text)
                .or_err(ErrorType::InvalidHTTPHeader, "a field that cannot be sent"),
        }
    }
}

/// What is different in a request on its way, in order.
pub(super) struct Changes<'a> {
    /// Another target than that of the client.
    target: Option<Cow<'a, str>>,
    fields: Vec<Change<'a>>,
}

impl<'a> Changes<'a> {
    fn set(&mut self, own: &'static Ours, value: impl Into<Cow<'a, str>>) {
        let value = Value::Text(value.into());
        self.fields.push(Change::Set(Name::Ours(own), value));
    }

    fn remove(&mut self, name: &'a HeaderName) {
        self.fields.push(Change::Remove(name));
    }
}

/// How many changes most requests have.
const USUAL: usize = 8;

/// Says how the client's request changes. `span`: the name of the try's, where there are traces (W3C Trace Context).
/// `by_http2`: whether that is how it goes on.
///
/// # Errors
/// When a path cannot be rewritten because it is not a path; the client gets 400.
pub(super) fn changes<'a>(
    client_request: &'a RequestHeader,
    proxy: &'a Proxy,
    ctx: &'a Ctx,
    span: u64,
    by_http2: bool,
) -> Result<Changes<'a>> {
    let asked = target(client_request);
    let rewritten = proxy
        .rewrite
        .apply(asked)
        .or_err(ErrorType::InvalidHTTPHeader, "the path cannot be rewritten")?;
    // An absolute target (RFC 9112 §3.2.2) goes on as a path: Pingora has seen to it that its host is the one in `Host`.
    let raw = client_request.raw_path();
    let absolute = !raw.starts_with(b"/") && raw != b"*";
    let mut changes = Changes {
        target: (rewritten != asked || absolute).then_some(rewritten),
        fields: Vec::with_capacity(USUAL),
    };
    let host = authority(client_request);
    if by_http2 || client_request.version == Version::HTTP_2 {
        // Pingora takes the target's host from there.
        changes.set(&HOST, host);
    }
    if host.is_empty()
        && let Some(current) = &ctx.current
    {
        // HTTP/1.0 may come without a host; HTTP/1.1, as which it goes on, may not.
        changes.set(&HOST, current.active.backend().label.as_str());
    }
    let via = match client_request.version {
        Version::HTTP_2 => "2 backstop",
        Version::HTTP_10 => "1.0 backstop",
        _ => "1.1 backstop",
    };
    let headers = &client_request.headers;
    let earlier = fields::first(headers, &VIA.name).and_then(|via| via.to_str().ok());
    // What `Connection` names went no further than here.
    match earlier.filter(|_| !framing::hides(headers, &VIA.name)) {
        Some(earlier) => changes.set(&VIA, format!("{earlier}, {via}")),
        None => changes.set(&VIA, via),
    }
    // Whatever the client claims of where it comes from, it is not believed, unless it is a proxy that is trusted.
    changes.remove(&header::FORWARDED);
    changes.remove(&REAL_IP);
    match ctx.client {
        Some(ip) => changes.set(&FORWARDED_FOR, forwarded::way(ip, &ctx.hops)),
        None => changes.remove(&FORWARDED_FOR.name),
    }
    if ctx.patience.is_some() {
        // What the tries before took of it, and what the route gives no one, the backend need not count on.
        changes.set(&GRPC_TIMEOUT, grpc::written(ctx.time_left()));
    }
    changes.set(&FORWARDED_PROTO, ctx.scheme);
    changes.set(&FORWARDED_HOST, host);
    changes.set(&REQUEST_ID, ctx.request_id.as_str());
    if let Some(trace) = &ctx.trace {
        changes.set(&TRACE_PARENT, trace.header(span));
        if trace.parent.is_none() {
            // It is of another trace, or of none (§3.2.2.5).
            changes.remove(&TRACE_STATE);
        }
    }
    if ctx.body_held || ctx.body_partly_taken || ctx.told_to_go_on {
        // The client was already told to go on.
        changes.remove(&header::EXPECT);
    }
    let is_told = |name: &HeaderName| {
        proxy.request_headers.edit(name) || ctx.told.iter().any(|(told, _)| told == name)
    };
    for name in client_request.headers.keys() {
        if claims::passes_for(name, is_told) {
            changes.remove(name);
        }
    }
    for (name, value) in &ctx.told {
        changes.fields.push(match value {
            Some(value) => Change::Set(Name::Other(name), Value::Field(value.clone())),
            None => Change::Remove(name),
        });
    }
    if !proxy.request_headers.is_empty() {
        let values = Values::of(client_request, ctx);
        let vars = values.vars(&ctx.request_id);
        let edits = proxy.request_headers.edits(&vars);
        changes.fields.extend(edits.map(|edit| match edit {
            Edit::Remove(name) => Change::Remove(name),
            Edit::Set(name, value) => Change::Set(Name::Other(name), Value::Field(value)),
            Edit::Add(name, value) => Change::Add(Name::Other(name), Value::Field(value)),
        }));
    }
    Ok(changes)
}

/// Turns the client's request into the one that Pingora sends. `span`: see [`changes`].
///
/// # Errors
/// As [`changes`].
pub(super) fn prepare(
    client_request: &RequestHeader,
    request: &mut RequestHeader,
    proxy: &Proxy,
    ctx: &Ctx,
    span: u64,
) -> Result<()> {
    let by_http2 = request.version == Version::HTTP_2;
    let changes = changes(client_request, proxy, ctx, span, by_http2)?;
    if let Some(target) = &changes.target {
        request.set_raw_path(target.as_bytes())?;
    }
    trailers::announce(client_request, request, ctx)?;
    for change in changes.fields {
        match change {
            Change::Remove(name) => {
                request.remove_header(name);
            }
            Change::Set(name, value) => {
                request.insert_header(name.written().into_owned(), value.field()?)?;
            }
            Change::Add(name, value) => {
                request.append_header(name.written().into_owned(), value.field()?)?;
            }
        }
    }
    Ok(())
}

/// Writes the head of the client's request as it is sent by HTTP/1.1, for a request that is about no connection, unless it opens a
/// WebSocket ([`crate::policy::plain`]). `span`: see [`changes`].
///
/// # Errors
/// As [`changes`], and when its target has what would end it (RFC 9112 §3.2).
pub(super) fn write(
    client: &dyn Client,
    proxy: &Proxy,
    ctx: &Ctx,
    span: u64,
    out: &mut Vec<u8>,
) -> Result<()> {
    let client_request = client.req_header();
    let changes = changes(client_request, proxy, ctx, span, false)?;
    let target = match &changes.target {
        Some(target) => target.as_bytes(),
        None => client_request.raw_path(),
    };
    if target
        .iter()
        .any(|byte| matches!(byte, 0 | b'\r' | b'\n' | b' '))
    {
        return Error::e_explain(ErrorType::InvalidHTTPHeader, "the target cannot be sent");
    }
    out.extend_from_slice(client_request.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // What a later change takes away or replaces is not there.
    let is_gone = |is: &dyn Fn(&HeaderName) -> bool, from: usize| {
        let later = changes.fields.get(from..).unwrap_or_default();
        later.iter().any(|change| match change {
            Change::Remove(gone) => is(gone),
            Change::Set(set, _) => is(set.name()),
            Change::Add(..) => false,
        })
    };
    let is_sent = |name: &[u8]| {
        let is = |gone: &HeaderName| name.eq_ignore_ascii_case(gone.as_str().as_bytes());
        !name.eq_ignore_ascii_case(b"connection") && !is_gone(&is, 0)
    };
    if let Some(request) = client.front() {
        for (name, value) in request.fields().filter(|(name, _)| is_sent(name)) {
            line(out, name, value);
        }
    } else {
        for (name, value) in &client_request.headers {
            if is_sent(name.as_str().as_bytes()) {
                line(out, written(name).as_bytes(), value.as_bytes());
            }
        }
    }
    for (place, change) in changes.fields.iter().enumerate() {
        if let Change::Set(name, value) | Change::Add(name, value) = change
            && !is_gone(&|gone| gone == name.name(), place + 1)
        {
            line(out, name.written().as_bytes(), value.bytes());
        }
    }
    if forward::is_websocket(client_request) {
        line(out, b"Connection", b"Upgrade");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}
