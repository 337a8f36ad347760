//! A request at its route's cache: what is stored is looked for, a fill waited for, and the answer chosen.
//!
//! Called by [`super`] before an upstream is thought of. Every decision is `policy::cache`'s; what became of the request is
//! noted in the context, for `Cache-Status` and the log.

mod admission;
pub(super) mod at_once;
pub(super) mod fill;
pub(super) mod hit;
pub(super) mod mark;
pub(super) mod passing_by;
mod wire;

use super::ctx::{Ctx, End};
use super::facts::{authority, target};
use super::respond::Answer;
use super::{CLIENT_LEFT, downstream, failure, wait};
use crate::cache::Cache;
use crate::cache::fills::{Part, State};
use crate::cache::key::Key;
use crate::cache::object::{Body, Object};
use crate::clock;
use crate::policy::cache::collapsing::{About, about};
use crate::policy::cache::freshness::Times;
use crate::policy::cache::key::{Asks, KeyParts};
use crate::policy::cache::reuse::{self, Reuse};
use crate::policy::cache::{self, Bypass, CachePolicy};
use crate::policy::conditional;
use crate::policy::date;
use crate::policy::framing::knows_chunks;
use crate::policy::range::{self, Ranges};
use crate::policy::retry::Reason;
use crate::policy::target::lower_case;
use fill::Owner;
use http::{HeaderMap, Method, StatusCode, header};
use pingora::http::RequestHeader;
use pingora::{Error, Result};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often a request looks again after a fill that was not for it.
const ROUNDS: usize = 3;

/// Header fields of a request that a fill can be made for.
const MOST_FIELDS: usize = 200;

/// What became of a request at a cache.
pub(super) struct Outcome {
    /// In words.
    pub(super) how: How,
    /// The stored answer it gets.
    pub(super) served: Option<Arc<Object>>,
}

/// How a request was answered (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// The cache was not asked.
    Bypass(Bypass),
    /// By a stored answer; why it was used, if it was not fresh.
    Hit(Option<&'static str>),
    /// The cache could not answer, and was not to ask.
    OnlyIfCached,
    /// The upstream was asked.
    Forwarded(Forwarded),
}

/// How the upstream was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forwarded {
    /// `fwd`: why.
    pub(super) why: &'static str,
    /// `fwd-status`: what it answered.
    pub(super) status: Option<StatusCode>,
    /// `stored`: whether the answer is kept.
    pub(super) stored: bool,
    /// `collapsed`: whether another request asked on behalf of this one.
    pub(super) collapsed: bool,
    /// `detail`: why it is not kept, or what else is to be said.
    pub(super) detail: Option<&'static str>,
}

impl Forwarded {
    const fn because(why: &'static str) -> Self {
        Forwarded {
            why,
            status: None,
            stored: false,
            collapsed: false,
            detail: None,
        }
    }
}

/// How a request goes on.
pub(super) enum Next {
    /// With the stored answer in its context.
    Serve,
    /// To the upstream.
    Forward,
    /// It does not: it was answered.
    Answered,
}

/// The time since the epoch, as policies count it.
pub(super) fn now() -> Duration {
    clock::since_epoch()
}

/// Reads a date of HTTP (RFC 9110 §5.6.7).
pub(super) fn date(text: &str) -> Option<Duration> {
    date::parse(text, now())
}

/// The rules of the request's route, where it has a cache.
pub(super) fn policy(ctx: &Ctx) -> Option<&CachePolicy> {
    ctx.proxy()?.cache.as_ref()
}

/// What answers to this request are kept under, on the side it is on now.
pub(super) fn key_parts(
    cache: Cache,
    policy: &CachePolicy,
    request: &RequestHeader,
    ctx: &Ctx,
) -> KeyParts {
    // With its port, which the backend gets to see and may answer with.
    let host = lower_case(authority(request));
    let secret = |credentials: &[u8]| cache.secret_hash(credentials);
    let mut told: Vec<&[u8]> = Vec::new();
    if policy.per.contains(&cache::Per::Told) {
        told.push(ctx.client_cert().unwrap_or_default().as_bytes());
        let user = ctx.verified.as_ref().map(|(name, _)| name.as_bytes());
        told.push(user.unwrap_or_default());
        let values = ctx.told.iter().map(|(_, value)| value.as_ref());
        told.extend(values.map(|value| value.map_or(&b""[..], |value| value.as_bytes())));
    }
    let asks = Asks {
        headers: &request.headers,
        told: &told,
        canary: ctx.canary().map(|canary| canary.name.as_str()),
    };
    cache::key::key(policy, ctx.scheme, &host, target(request), asks, secret)
}

/// Under which it is remembered that this client's answers for a key are not stored, whatever those of others are.
fn asker(cache: Cache, key: Key, request: &RequestHeader) -> Key {
    let credentials = cache::key::credentials(&request.headers);
    Key {
        who: cache.asker(&key, &credentials),
        ..key
    }
}

/// Remembers of an answer that is not stored that nobody, or not this client, need wait for the next one.
fn remember(cache: Cache, key: Key, request: &RequestHeader, status: StatusCode) {
    match about(status) {
        About::Url => cache.passing().remember(key),
        About::Asker => cache.passing().remember(asker(cache, key, request)),
        // All who come meanwhile wait for one of them, and share what it gets.
        About::Moment | About::Nothing => {}
    }
}

/// When the try under way was made, and its answer came: now.
fn times(ctx: &Ctx) -> Times {
    let took = ctx
        .current
        .as_ref()
        .map(|current| current.started.elapsed());
    let received = now();
    Times {
        requested: received.saturating_sub(took.unwrap_or_default()),
        received,
    }
}

/// Asks the cache, where the route has one and the request may be answered from it.
///
/// # Errors
/// When the client leaves or cannot be written to.
pub(super) async fn consult(cache: Cache, session: &mut Session, ctx: &mut Ctx) -> Result<Next> {
    let Some(route) = ctx.route.clone() else {
        return Ok(Next::Forward);
    };
    let Some(proxy) = ctx.proxy() else {
        return Ok(Next::Forward);
    };
    let Some(policy) = route.cache() else {
        return Ok(Next::Forward);
    };
    let total = proxy.timeouts.total;
    let has_content = !session.downstream_session.is_body_empty();
    let request = session.req_header();
    let only_if_cached = reuse::only_if_cached(policy, &request.headers)
        && matches!(request.method, Method::GET | Method::HEAD);
    let asked = match cache::lookup(policy, &request.method, &request.headers) {
        // What the head does not tell of: HTTP/2 needs no length.
        Ok(()) if has_content => Err(Bypass::Method),
        // What is stored judges no precondition of this kind (RFC 9111 §4.3.2).
        Ok(()) if conditional::only_for_origin(&request.headers) => Err(Bypass::Precondition),
        asked => asked,
    };
    let asked = match asked {
        Err(Bypass::NoStore) if only_if_cached => Ok(()),
        asked => asked,
    };
    if asked.is_err() && only_if_cached {
        // Nothing stored is for such a request, and nobody else is to be asked.
        return no_stored_answer(session, ctx).await;
    }
    if let Err(why) = asked {
        ctx.cache = Some(Outcome {
            how: How::Bypass(why),
            served: None,
        });
        return Ok(Next::Forward);
    }
    let key = match ctx.key {
        Some(key) => key,
        None => cache.key(&key_parts(cache, policy, session.req_header(), ctx)),
    };
    // A hit, too, ends when `total` is over.
    ctx.watch.set_total(Some(total));
    downstream::wrap(session, &ctx.watch, None);

    let mut why = "uri-miss";
    for round in 1..=ROUNDS {
        let headers = &session.req_header().headers;
        let method = &session.req_header().method;
        let usable = |object: &Object| has_what_is_asked(object, method, headers);
        let found = cache.find(&key, headers, usable).await;
        why = match &found.object {
            Some(object) => match reuse::reuse(policy, &object.freshness, headers, now()) {
                Reuse::Fresh => return Ok(serve(ctx, object, How::Hit(None))),
                Reuse::MaxStale => {
                    let how = How::Hit(Some("max-stale"));
                    return Ok(serve(ctx, object, how));
                }
                Reuse::StaleWhileRevalidate => {
                    if let Part::Begin(filling) = cache.join(key, &found, true) {
                        // Nobody waits for this one.
                        fill::start(session, ctx, filling, Some(object), "stale");
                    }
                    let how = How::Hit(Some("stale-while-revalidate"));
                    return Ok(serve(ctx, object, how));
                }
                Reuse::Validate if reuse::fresh_for(policy, &object.freshness, now()) > 0 => {
                    "request"
                }
                Reuse::Validate => "stale",
            },
            None if found.others => "vary-miss",
            None => "uri-miss",
        };
        if only_if_cached {
            return no_stored_answer(session, ctx).await;
        }
        let stale = found.object.clone();
        // How a stored answer fares, an answer to HEAD can tell; it would be a pity to fetch the whole for it. Where a
        // failure is to be hidden, only the whole will do.
        let hides = |o: &&Arc<Object>| {
            reuse::fresh_for(policy, &o.freshness, now()) < 0
                && reuse::may_stand_in(policy, &o.freshness, headers, now())
        };
        let tells = policy.respects_origin() && stale.as_ref().filter(hides).is_none();
        if *method == Method::HEAD && stale.is_some() && tells {
            break;
        }
        if stale.is_none() && wants_less(method, headers) {
            // Asking for the whole would be asking for what nobody wants.
            if cache.fills().find(key, found.variant).is_none() {
                break;
            }
        }
        // The parser that a fill is read by takes no more.
        let too_many = headers.len() > MOST_FIELDS;
        let request = session.req_header();
        let passes = || {
            let asker = asker(cache, key, request);
            [key, asker].iter().any(|k| cache.passing().contains(k))
        };
        if too_many || stale.is_none() && passes() {
            break;
        }
        let mut owner = None;
        let mut steps = match cache.join(key, &found, round < ROUNDS) {
            Part::Look => continue,
            Part::Begin(filling) => {
                let steps = filling.fill().follow();
                let began = fill::start(session, ctx, filling, stale.as_ref(), why);
                ctx.report = Some(began.report.clone());
                owner = Some(began);
                steps
            }
            Part::Join(fill) => fill.follow(),
        };
        let stand_in = |session: &Session, stale: &Option<Arc<Object>>| {
            let headers = &session.req_header().headers;
            let may = |o: &&Arc<Object>| reuse::may_stand_in(policy, &o.freshness, headers, now());
            stale.as_ref().filter(may).cloned()
        };
        let impatient = policy.stale_first && stand_in(session, &stale).is_some();
        let collapsed = owner.is_none();
        let forwarded = Forwarded {
            collapsed,
            ..Forwarded::because(why)
        };
        // For the log of a client that leaves meanwhile.
        note(ctx, How::Forwarded(forwarded));
        let end = wait_for(session, ctx, &mut steps, owner.as_mut(), total, impatient).await?;
        match end {
            State::Validated { shared: false, .. } if owner.is_none() => break,
            State::Stored(ref object) | State::Validated { ref object, .. } => {
                let headers = &session.req_header().headers;
                let variant = object
                    .variant
                    .and_then(|_| cache.variant(&object.head.only(&[header::VARY]), headers));
                let fits = variant == object.variant;
                let reusable = !matches!(
                    // What this client asks of stored answers is met: this one has just come.
                    reuse::reuse(policy, &object.freshness, &HeaderMap::new(), now()),
                    Reuse::Validate
                );
                if owner.is_some() || fits && reusable {
                    let how = How::Forwarded(Forwarded {
                        stored: !matches!(end, State::Validated { shared: false, .. }),
                        status: owner.as_ref().and_then(Owner::status),
                        ..forwarded
                    });
                    return Ok(serve(ctx, object, how));
                }
                if fits {
                    // Everybody has to ask for themselves; one after the other would take too long.
                    break;
                }
            }
            State::Passing { status, personal } => match owner {
                Some(owner) => {
                    note(ctx, How::Forwarded(forwarded));
                    fill::pipe(session, ctx, owner).await?;
                    return Ok(Next::Answered);
                }
                // It may be due to who asked. But not each time.
                None if about(status) == About::Moment && personal && round < ROUNDS => {}
                None if about(status) == About::Moment => {
                    let end = End {
                        status,
                        proxy_error: "http_response_incomplete",
                        details: None,
                    };
                    note(ctx, How::Forwarded(forwarded));
                    return fail(session, ctx, end).await;
                }
                None => break,
            },
            State::Waiting | State::Failing | State::Failed(_) => {
                if let Some(object) = stand_in(session, &stale) {
                    let how = How::Hit(Some("stale-if-error"));
                    return Ok(serve(ctx, &object, how));
                }
                note(ctx, How::Forwarded(forwarded));
                let end = match end {
                    State::Failed(failed) => End {
                        status: failed.status,
                        proxy_error: failed.proxy_error,
                        details: failed.details,
                    },
                    _ => failure::TOTAL_TIMEOUT,
                };
                return fail(session, ctx, end).await;
            }
        }
    }
    note(ctx, How::Forwarded(Forwarded::because(why)));
    Ok(Next::Forward)
}

fn note(ctx: &mut Ctx, how: How) {
    ctx.cache = Some(Outcome { how, served: None });
}

/// The client gets this stored answer, by Pingora's phases.
fn serve(ctx: &mut Ctx, object: &Arc<Object>, how: How) -> Next {
    choose(ctx, object, how);
    Next::Serve
}

/// The client gets this stored answer.
fn choose(ctx: &mut Ctx, object: &Arc<Object>, how: How) {
    ctx.cache = Some(Outcome {
        how,
        served: Some(object.clone()),
    });
    if let Body::Growing(_) = object.body {
        ctx.watch.hurry();
    }
    if let Some(proxy) = ctx.proxy() {
        // What was waited for a fill is not taken off the time for the body.
        let total = ctx.watch.elapsed() + proxy.timeouts.total;
        ctx.watch.set_total(Some(total));
    }
}

/// There is nothing stored to give, and the client wants nothing else.
async fn no_stored_answer(session: &mut Session, ctx: &mut Ctx) -> Result<Next> {
    note(ctx, How::OnlyIfCached);
    Answer::only_if_cached()?
        .write(&mut *session.downstream_session, ctx)
        .await?;
    Ok(Next::Answered)
}

/// There is nothing to give.
async fn fail(session: &mut Session, ctx: &mut Ctx, end: End) -> Result<Next> {
    ctx.end = Some(end);
    let answer = Answer::failed(end)?;
    answer.write(&mut *session.downstream_session, ctx).await?;
    Ok(Next::Answered)
}

/// Waits until a fill ends, or the client's patience or the client itself does. A state that is not final: `total` is over,
/// or, for the impatient, a try failed.
async fn wait_for(
    session: &mut Session,
    ctx: &mut Ctx,
    steps: &mut watch::Receiver<State>,
    mut owner: Option<&mut Owner>,
    total: Duration,
    impatient: bool,
) -> Result<State> {
    let over = tokio::time::Instant::from_std(ctx.watch.started() + total);
    loop {
        let state = steps.borrow_and_update().clone();
        while let Some(head) = owner.as_mut().and_then(|owner| owner.interim_at_once()) {
            if !knows_chunks(session.req_header().version) {
                continue;
            }
            session
                .downstream_session
                .write_response_header(head)
                .await?;
        }
        match state {
            State::Waiting => {}
            State::Failing if !impatient => {}
            end => return Ok(end),
        }
        let interim = async {
            match &mut owner {
                Some(owner) => owner.interim().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = steps.changed() => if changed.is_err() {
                return Ok(steps.borrow().clone());
            },
            head = interim => if knows_chunks(session.req_header().version) {
                session.downstream_session.write_response_header(head).await?;
            },
            () = tokio::time::sleep_until(over) => return Ok(State::Waiting),
            () = wait::client_leaves(&mut *session.downstream_session) => {
                ctx.client_left = true;
                ctx.reason = Some(Reason::ClientLeft);
                return Err(Error::new_down(CLIENT_LEFT));
            }
        }
    }
}

/// Whether a request wants less than the whole of what it names.
fn wants_less(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::HEAD || headers.contains_key(header::RANGE)
}

/// Whether a stored answer has what this request asks for: of one that has only parts, the right ones.
fn has_what_is_asked(object: &Object, method: &Method, headers: &HeaderMap) -> bool {
    let Body::Parts(parts) = &object.body else {
        return true;
    };
    let stored = object.head.headers();
    match range::ranges(method, headers, &stored, parts.total, &date) {
        Ranges::One(range) => parts.get(range).is_some(),
        Ranges::Many(ranges) => ranges.into_iter().all(|r| parts.get(r).is_some()),
        Ranges::Whole => *method == Method::HEAD,
        Ranges::Unsatisfiable => true,
    }
}
