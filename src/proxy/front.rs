//! The front of the proxy: reads a request, finds its route, and answers what needs no upstream, or only a plain exchange with one.
//!
//! Called by [`crate::server::connection`] for each request, before Pingora's phases begin. A fixed answer, a refusal or a
//! fresh stored answer pays for none of their machinery; all else goes on to them, with what was found out so far.

use super::authenticate;
use super::caching;
use super::ctx::Ctx;
use super::direct::{self, Served};
use super::downstream::{self, Watch};
use super::facts;
use super::keep;
use super::rate;
use super::record::{self, Finish};
use super::respond::{self, Answer};
use super::snapshot::Live;
use super::split;
use super::straighten;
use super::wire;
use crate::cache::Cache;
use crate::config::Clients;
use crate::observe::access_log::AccessLog;
use crate::observe::tally::Counts;
use crate::observe::traces::{Record, Traces};
use crate::policy::blocklist;
use crate::policy::cors;
use crate::policy::forwarded;
use crate::policy::framing;
use crate::policy::limits::Excess;
use crate::policy::retry::Reason;
use crate::policy::route::Action;
use crate::policy::router::Found;
use crate::policy::sampling::Kept;
use crate::policy::target;
use crate::server::acme::proofs;
use crate::server::connection::Connection;
use crate::server::stream::ClientStream;
use http::{Method, StatusCode};
use log::debug;
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::watch;

/// The log's words for what cannot be read, where nothing more can be said of it, and for a head that did not come in time.
pub const MALFORMED: &str = "malformed";
const LATE: &str = "head_timeout";

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// What requests are served with; shared by all workers.
#[derive(Clone)]
pub struct Front {
    /// The configuration in force.
    pub live: Live,
    /// Where requests are logged.
    pub log: AccessLog,
    /// Where its spans go, if anywhere.
    pub traces: Option<Traces>,
    /// What is counted beside routes.
    pub counts: Arc<Counts>,
    /// What answers are kept in.
    pub cache: Cache,
    /// How long clients are borne with.
    pub clients: Clients,
    /// Set once, when the process begins to drain.
    pub draining: Arc<AtomicBool>,
    /// Turns true a little later, when idle connections are to be closed.
    pub closing: watch::Receiver<bool>,
}

/// How long a session is kept for the next request on its connection: those that follow one another closely save making another
/// one, and those that are idle need not hold the head of the last one.
const SOON: Duration = Duration::from_millis(100);

/// What became of a request at the front.
pub enum Received {
    /// It is over; the connection comes along if it can serve on.
    Over(Option<Next>),
    /// It is for Pingora's phases, perhaps after a first try that failed.
    Onward(Box<ServerSession>),
}

/// A connection on its way to its next request.
pub enum Next {
    /// Without a session.
    Stream(ReusedHttpStream),
    /// With one that served a request already, and wrote nothing.
    Session(Box<ServerSession>),
}

/// What came of reading a head.
enum Head {
    /// A head. Whether nothing else came with it.
    Read { alone: bool },
    /// None came: whoever was there is gone, or the process is to end.
    None,
    /// What came was none, and was answered.
    Unreadable,
}

impl Front {
    /// Reads the next request of a connection, or the one of a stream, and answers it if no upstream is needed.
    /// `is_used`: whether the session served another one.
    pub async fn receive(
        &self,
        mut session: Box<ServerSession>,
        is_used: bool,
        connection: &Arc<Connection>,
    ) -> Received {
        // Most connections wait for a request most of the time: what is not needed for that is not kept for it.
        match self.read(&mut session, is_used).await {
            Head::Read { alone } => Box::pin(self.serve(session, alone, connection)).await,
            Head::None => Received::Over(None),
            Head::Unreadable => {
                Box::pin(keep::hang_up(session, keep::LINGER_HEAD)).await;
                Received::Over(None)
            }
        }
    }

    /// Answers a request whose head was read, if no upstream is needed, or only a plain exchange with one.
    async fn serve(
        &self,
        mut session: Box<ServerSession>,
        alone: bool,
        connection: &Arc<Connection>,
    ) -> Received {
        let watch = Watch::new(self.draining.clone());
        let mut ctx = Box::new(Ctx::new(self.live.load_full(), watch));
        ctx.scheme = connection.manner.scheme();
        ctx.manner = Some(connection.manner.clone());
        ctx.is_named = connection.is_named;
        ctx.secured.clone_from(&connection.secured);
        if !session.is_http2() {
            ctx.connection = Some(connection.clone());
            // Pingora would keep an idle connection for ever once it served a request.
            let is_last = connection.is_last(self.clients.keepalive_requests);
            let kept = session
                .get_keepalive()
                .filter(|_| !is_last && !ctx.watch.draining());
            session.set_keepalive(kept.map(|_| self.clients.keepalive.as_secs().max(1)));
        }
        let answered = match self.answer(&mut session, &mut ctx).await {
            Ok(false) => direct::serve(self, &mut session, &mut ctx).await,
            Ok(true) => Ok(Served::Answered),
            Err(e) => Err(e),
        };
        match answered {
            Ok(Served::Onward) => Received::Onward(Box::new(downstream::pack(session, ctx))),
            answered => {
                if answered.is_err() {
                    ctx.client_left = true;
                    ctx.reason.get_or_insert(Reason::ClientLeft);
                }
                self.log(&session, &ctx);
                match answered {
                    Ok(Served::BrokenOff) => {
                        session.shutdown().await;
                        Received::Over(None)
                    }
                    Ok(_) if ctx.dropped => {
                        session.shutdown().await;
                        Received::Over(None)
                    }
                    Ok(_) if !ctx.body_unknown => {
                        Received::Over(serve_on(session, alone, ctx.has_content).await)
                    }
                    Ok(_) => {
                        Box::pin(keep::hang_up(session, keep::LINGER_BYTES)).await;
                        Received::Over(None)
                    }
                    Err(_) => Received::Over(None),
                }
            }
        }
    }

    /// Reads a request's head. What cannot be read is answered.
    async fn read(&self, session: &mut ServerSession, is_used: bool) -> Head {
        let closing = async {
            let mut closing = self.closing.clone();
            // Without a sender the process ends anyway.
            let _ = closing.wait_for(|closing| *closing).await;
        };
        expect_head(
            session,
            Some(self.clients.head_timeout),
            self.clients.limits.head,
        );
        let came_ahead = ClientStream::of(session).is_none_or(ClientStream::came_ahead);
        // To Pingora 0 is for ever.
        let idle = session.get_keepalive().filter(|seconds| *seconds > 0);
        let idle = idle.map(Duration::from_secs);
        let read = async {
            let mut idle = idle;
            if let (true, Some(stream)) = (is_used, ClientStream::of(session))
                && !stream
                    .begins(idle.map_or(SOON, |idle| idle.min(SOON)))
                    .await
            {
                renew(session);
                idle = idle.map(|idle| idle.saturating_sub(SOON));
            }
            if let (Some(stream), Some(idle)) = (ClientStream::of(session), idle)
                && !stream.begins(idle).await
            {
                return None;
            }
            let read = session.read_request().await;
            if is_used && read.is_err() {
                // What is in it may be the request before.
                renew(session);
            }
            Some(read)
        };
        let read = tokio::select! {
            biased;
            read = read => read,
            () = closing => return Head::None,
        };
        let Some(read) = read else {
            // Whoever does not say anything need not take anything either.
            let _ = tokio::time::timeout(keep::HANG_UP, session.shutdown()).await;
            return Head::None;
        };
        let is_too_large = ClientStream::of(session).is_some_and(ClientStream::head_is_too_large);
        let is_late = ClientStream::of(session).is_some_and(ClientStream::head_is_late);
        let alone = matches!(read, Ok(true)) && !came_ahead && is_alone(session);
        expect_head(session, None, usize::MAX);
        match read {
            Ok(true) => Head::Read { alone },
            Ok(false) => Head::None,
            Err(e) => Box::pin(self.refuse(session, &e, (is_too_large, is_late))).await,
        }
    }

    /// Answers what cannot be read, if it was something.
    async fn refuse(
        &self,
        session: &mut ServerSession,
        e: &Error,
        (is_too_large, is_late): (bool, bool),
    ) -> Head {
        debug!("a request cannot be read: {e}");
        let doubt = ClientStream::of(session).and_then(ClientStream::doubt);
        let found = match (e.etype.clone(), doubt) {
            _ if is_too_large => Some((Excess::Fields.status(), Excess::Fields.word())),
            _ if is_late => Some((StatusCode::REQUEST_TIMEOUT, LATE)),
            (ErrorType::InvalidHTTPHeader, Some(doubt)) => {
                Some((StatusCode::BAD_REQUEST, doubt.word()))
            }
            (ErrorType::InvalidHTTPHeader, None) => Some((StatusCode::BAD_REQUEST, MALFORMED)),
            _ => None,
        };
        if let Some((status, why)) = found {
            let id = facts::new_request_id();
            // The client may be gone already; there is nobody to tell.
            let _ = respond::to_nothing(session, status, &id).await;
            self.note_malformed(facts::client(session), status, why, &id);
            return Head::Unreadable;
        }
        session.shutdown().await;
        Head::None
    }

    /// Counts and logs what is no request, what it is or would be answered with, and the log's word for why.
    pub fn note_malformed(
        &self,
        client: Option<IpAddr>,
        status: StatusCode,
        why: &'static str,
        request_id: &str,
    ) {
        Counts::one(&self.counts.malformed);
        let line = record::malformed(client, status, why, request_id);
        self.log.write(&line);
    }

    /// Answers a request, if that needs no upstream; says whether it did.
    ///
    /// # Errors
    /// When the client cannot be written to.
    async fn answer(&self, session: &mut ServerSession, ctx: &mut Ctx) -> Result<bool> {
        ctx.client = facts::client(session);
        // Pingora's session gets ready for content by being asked: what comes next would be lost else.
        ctx.has_content = !session.is_body_empty();
        let request = session.req_header();
        let is_believed = look_behind(request, ctx);
        if let Some(traces) = &self.traces {
            ctx.trace = Some(traces.begin(&request.headers, is_believed));
        }
        ctx.request_id = facts::request_id(request);
        let authority = request.uri.authority().map(|authority| authority.as_str());
        let framed = match ClientStream::of(session).and_then(ClientStream::doubt) {
            Some(doubt) => Err(doubt),
            None => framing::judge(request.version, authority, &request.headers),
        };
        if let Err(doubt) = framed {
            ctx.refused = Some(doubt.word());
            Counts::one(&self.counts.malformed);
            // Where the next one would begin is not known.
            session.set_keepalive(None);
            Answer::bad_request()?.write(session, ctx).await?;
            ctx.body_unknown = true;
            return Ok(true);
        }
        let target = facts::target(request);
        if let Err(excess) = self.clients.limits.judge(target, &request.headers) {
            ctx.refused = Some(excess.word());
            let answer = Answer::too_much(excess)?;
            answer.write(session, ctx).await?;
            return Ok(true);
        }
        if let Err(why) = straighten::straighten(session, ctx) {
            debug!("a request is refused: {why}");
            ctx.refused = Some("target");
            Counts::one(&self.counts.malformed);
            Answer::bad_request()?.write(session, ctx).await?;
            return Ok(true);
        }
        let request = session.req_header();
        let refused = match route(request, ctx)? {
            None => admit(request, ctx)?,
            refused => refused,
        };
        // Counted before a password is checked, which costs more than most answers.
        if ctx.dropped {
            // As nginx has it in its log.
            ctx.sent_at_once = StatusCode::from_u16(444).ok().map(|status| (status, 0));
            return Ok(true);
        }
        let refused = match refused {
            None => rate::count(session, ctx)?,
            refused => refused,
        };
        let refused = match refused {
            None => {
                let found = authenticate::ask(session.req_header(), ctx).await?;
                rate::count_named(session, ctx, found)?
            }
            refused => refused,
        };
        let answer = match (&refused, ctx.route.as_deref().map(|route| &route.action)) {
            (None, Some(Action::Respond(respond))) => Some(Answer::fixed(respond)?),
            (None, Some(Action::Redirect(redirect))) => {
                Some(Answer::redirect(redirect, session, ctx)?)
            }
            _ => refused,
        };
        match answer {
            Some(answer) => {
                answer.write(session, ctx).await?;
                Ok(true)
            }
            None => {
                if caching::policy(ctx).is_some() {
                    // Each side has stored answers of its own.
                    split::choose(session.req_header(), ctx);
                }
                caching::at_once::serve(self.cache, session, ctx).await
            }
        }
    }

    /// Counts the tries of a fill that ends now. The request that began it is counted by itself.
    pub(super) fn count_tries(&self, ctx: &Ctx) {
        let (tries, failed) = record::tries(ctx);
        if tries > 0
            && let Some(traffic) = ctx.traffic()
        {
            traffic.tally.add_tries(tries, failed);
        }
    }

    /// Counts and logs a request that ends now.
    pub(super) fn log(&self, session: &ServerSession, ctx: &Ctx) {
        let finish = Finish::now(ctx);
        let ended = record::ended(session, ctx, finish);
        let tally = ctx
            .traffic()
            .map_or(&self.counts.unrouted, |traffic| &traffic.tally);
        tally.add(finish.at, &ended);
        if ended.has_failed() {
            self.counts.remember(record::failed(session, ctx, &ended));
        }
        self.record(
            session,
            ctx,
            finish,
            match ctx.filled_by_another {
                true => Record::Request,
                false => Record::All,
            },
        );
        if self.log.enabled() {
            let own = ctx.route.as_ref().and_then(|route| route.logging);
            let Some(sampling) = self.log.sampling.on(own) else {
                return;
            };
            let chance = fastrand::f64();
            let failed = ctx.tries.iter().any(|t| t.outcome.is_failure());
            let sample = match sampling.judge(ended.status, u32::from(failed), ended.took, chance) {
                Kept::Always => None,
                Kept::Sample(share) => Some(share),
                Kept::Not => return,
            };
            let mut line = record::line(session, ctx, finish, &self.log);
            line.sample = sample;
            self.log.write(&line);
        }
    }

    /// Records a request that ends now, where it is to be in its trace.
    pub(super) fn record(&self, session: &ServerSession, ctx: &Ctx, finish: Finish, what: Record) {
        let trace = ctx.trace.filter(|trace| trace.sampled);
        if let (Some(traces), Some(trace)) = (&self.traces, trace) {
            traces.write(&record::line(session, ctx, finish, &self.log), &trace, what);
        }
    }
}

/// Finds out who asks, and how, where a proxy in front of this one may be believed. Says whether it is one.
fn look_behind(request: &RequestHeader, ctx: &mut Ctx) -> bool {
    let trusted = &ctx.snapshot.doors.trusted;
    let believed = |peer: &IpAddr| ctx.is_named && trusted.contains(*peer);
    let peer = ctx.client.filter(believed);
    let Some(peer) = peer else { return false };
    let lines = request.headers.get_all(X_FORWARDED_FOR).iter();
    let lines = lines.map(|line| line.as_bytes());
    let forwarded = forwarded::client(peer, trusted, lines);
    ctx.client = Some(forwarded.client);
    ctx.hops = forwarded.hops;
    let scheme = request.headers.get(X_FORWARDED_PROTO);
    match scheme.map(|scheme| scheme.as_bytes()) {
        Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => ctx.scheme = "https",
        Some(scheme) if scheme.eq_ignore_ascii_case(b"http") => ctx.scheme = "http",
        _ => {}
    }
    true
}

/// Asks whether the request may pass its route. An answer comes back if not.
fn admit(request: &RequestHeader, ctx: &mut Ctx) -> Result<Option<Answer>> {
    let Some(route) = &ctx.route else {
        return Ok(None);
    };
    if let Err(barred) = route.access.judge(ctx.client) {
        ctx.refused = Some(barred.word());
        return Answer::forbidden().map(Some);
    }
    let judged = route.requirement.judge(
        &request.method,
        request.uri.query(),
        &request.headers,
        ctx.has_content,
    );
    match judged {
        Ok(()) => Ok(None),
        Err(lacks) => {
            ctx.refused = Some(lacks.word());
            Answer::lacking(&lacks).map(Some)
        }
    }
}

/// Tells the stream whether a head is being read.
fn expect_head(session: &ServerSession, within: Option<Duration>, most: usize) {
    if let Some(stream) = ClientStream::of(session) {
        stream.expect_head(within, most);
    }
}

/// Finds the request's route. An answer comes back if there is none.
fn route(request: &RequestHeader, ctx: &mut Ctx) -> Result<Option<Answer>> {
    // An authority asks from addresses that nobody knows, and for nothing else.
    let target = facts::target(request);
    if target.starts_with(proofs::PATH)
        && let Some(manner) = &ctx.manner
        && let Some(proof) = manner.proofs.answer(target)
    {
        return Answer::proof(proof).map(Some);
    }
    let door = ctx
        .manner
        .as_ref()
        .and_then(|manner| ctx.snapshot.doors.listeners.get(manner.index));
    if let Some(Err(barred)) = door.map(|access| access.judge(ctx.client)) {
        ctx.refused = Some(barred.word());
        return Answer::forbidden().map(Some);
    }
    if request.method == Method::CONNECT {
        // Tunnels are not for a reverse proxy (RFC 9110 §9.3.6).
        return Answer::method_not_allowed(&[]).map(Some);
    }
    let host = target::normalise_host(facts::authority(request));
    let Ok(path) = target::normalise_path(facts::target(request)) else {
        return Answer::bad_request().map(Some);
    };
    let bare = target::without_parameters(&path);
    if let Some((list, answer)) = &ctx.snapshot.block
        && !path.starts_with(proofs::PATH)
        && (list.contains(&path) || bare.as_ref().is_some_and(|bare| list.contains(bare)))
    {
        ctx.refused = Some("blocked");
        return match answer {
            blocklist::Answer::Status(status) => Answer::short(*status).map(Some),
            blocklist::Answer::Drop => {
                ctx.dropped = true;
                Ok(None)
            }
        };
    }
    let by_tls = ctx.manner.as_ref().and_then(|m| m.redirect_to_https);
    if let Some(port) = by_tls.filter(|_| ctx.scheme == "http")
        && !path.starts_with(proofs::PATH)
    {
        if host.is_empty() {
            return Answer::bad_request().map(Some);
        }
        let target = facts::target(request);
        let to = match port {
            443 => format!("https://{host}{target}"),
            port => format!("https://{host}:{port}{target}"),
        };
        return Answer::moved(&to).map(Some);
    }
    if let Some(answer) = permission(request, &host, &path, ctx)? {
        return Ok(Some(answer));
    }
    let router = &ctx.snapshot.router;
    let found = router.find(&host, &path, &request.method);
    if let Some(bare) = bare
        && !found.is_as(&router.find(&host, &bare, &request.method))
    {
        // To this proxy it is for one route, and to a backend that reads it otherwise it could be for another.
        ctx.refused = Some("target");
        return Answer::bad_request().map(Some);
    }
    match found {
        Found::Route(route) => {
            ctx.route = Some(route.clone());
            Ok(None)
        }
        Found::MethodNotAllowed(allowed) => Answer::method_not_allowed(&allowed).map(Some),
        Found::NotFound => Answer::not_found().map(Some),
    }
}

/// Answers a request that only asks for permission to make another one (Fetch §3.3.2): whether the route that would serve the
/// other one gives it. The route itself need not take `OPTIONS`, and browsers ask without credentials.
fn permission(
    request: &RequestHeader,
    host: &str,
    path: &str,
    ctx: &mut Ctx,
) -> Result<Option<Answer>> {
    let Some(wanted) = cors::asked_for(&request.method, &request.headers) else {
        return Ok(None);
    };
    let router = &ctx.snapshot.router;
    // Where no route takes that method, the one that takes the request itself can say so.
    let found = match router.find(host, path, &wanted) {
        Found::Route(route) => Some(route),
        _ => match router.find(host, path, &request.method) {
            Found::Route(route) => Some(route),
            _ => None,
        },
    };
    let Some(route) = found.filter(|route| route.cors().is_some()).cloned() else {
        return Ok(None);
    };
    let judged = route.access.judge(ctx.client);
    ctx.route = Some(route);
    match judged {
        Ok(()) => Answer::permission().map(Some),
        Err(barred) => {
            ctx.refused = Some(barred.word());
            Answer::forbidden().map(Some)
        }
    }
}

/// Ends an answered request; the connection comes back if it can serve on. `has_content`: whether some may still be coming.
/// `alone`: whether nothing of what follows came with its head.
async fn serve_on(mut session: Box<ServerSession>, alone: bool, has_content: bool) -> Option<Next> {
    if has_content {
        Box::pin(keep::linger(&mut session)).await;
    } else if alone && is_as_new(&session) {
        return Some(Next::Session(session));
    }
    let settings = HttpPersistentSettings::for_session(&session);
    let stream = session.finish().await.ok().flatten()?;
    let stream = ReusedHttpStream::from_reusable_stream(stream, settings);
    Some(Next::Stream(stream))
}

/// Whether a session whose request was nothing but a head knows nothing that another request could be mistaken by: the answer was
/// written beside it, and nothing was read since. While a request waits for its turn, the session takes a byte of what follows to
/// see whether the client is still there.
fn is_as_new(session: &ServerSession) -> bool {
    session.get_keepalive().is_some()
        && session.response_written().is_none()
        && wire::stream(session).is_some_and(|stream| stream.head_read() == 0)
}

/// Whether all that came since a head was expected is that head, if nothing came before: then nothing else is in the session.
/// Empty lines before it may have come with the one before.
fn is_alone(session: &ServerSession) -> bool {
    let (Some(stream), Some(http1)) = (ClientStream::of(session), session.as_http1()) else {
        return false;
    };
    let head = http1.get_headers_raw_bytes();
    stream.head_read() == head.len() && !matches!(head.first(), Some(b'\r' | b'\n'))
}

/// Makes another session of HTTP/1 on the same stream, of which nothing was read that was not answered.
fn renew(session: &mut ServerSession) {
    let keepalive = session.get_keepalive();
    let shell = ServerSession::Custom(Box::new(()));
    match std::mem::replace(session, shell) {
        ServerSession::H1(http1) => {
            *session = ServerSession::new_http1(http1.into_inner());
            session.set_pipelining_enabled(true);
            session.set_keepalive(keepalive);
        }
        other => *session = other,
    }
}
