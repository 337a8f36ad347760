//! The front of the proxy: reads a request, finds its route, and answers what needs no upstream, or only a plain exchange with one.
//!
//! Called by [`crate::server::connection`] for each request, before Pingora's phases begin. A fixed answer, a refusal or a
//! fresh stored answer pays for none of their machinery; all else goes on to them, with what was found out so far.

use super::account::{Account, Due, Seen};
use super::authenticate;
use super::caching;
use super::client::{Client, target_bytes};
use super::ctx::Ctx;
use super::direct::{self, Served};
use super::downstream;
use super::facts;
use super::keep;
use super::rate;
use super::record::{self, Finish};
use super::respond::{self, Answer};
use super::snapshot::LiveHere;
use super::split;
use super::straighten;
use super::watch::Watch;
use crate::cache::Cache;
use crate::clock::{self, Moment};
use crate::config::Clients;
use crate::observe::access_log::{AccessLog, Line};
use crate::observe::tally::Counts;
use crate::observe::traces::{Record, Traces};
use crate::policy::blocklist;
use crate::policy::cors;
use crate::policy::forwarded;
use crate::policy::framing;
use crate::policy::glimpse::glimpse;
use crate::policy::limits::Excess;
use crate::policy::retry::Reason;
use crate::policy::route::Action;
use crate::policy::router::Found;
use crate::policy::sampling::Kept;
use crate::policy::target;
use crate::server::acme::proofs;
use crate::server::connection::Connection;
use crate::server::flag;
use crate::server::http2::Exchange;
use crate::server::request::{NoRequest, Request};
use crate::server::rooms::{self, Rooms};
use crate::server::stream::{ClientStream, NoHead, Patience};
use crate::upstream::own::Own;
use http::{Method, StatusCode};
use log::debug;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::protocols::Shutdown;
use pingora::protocols::http::ServerSession;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::watch;

/// The log's words for what cannot be read, where nothing more can be said of it, and for a head that did not come in time.
pub const MALFORMED: &str = "malformed";
const LATE: &str = "head_timeout";

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// What a worker serves requests with.
#[derive(Clone)]
pub struct Front {
    /// The configuration in force.
    pub live: LiveHere,
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
    pub draining: Own<AtomicBool>,
    /// Turns true a little later, when idle connections are to be closed.
    pub closing: watch::Receiver<bool>,
}

thread_local! {
    static SERVING: Rooms<Came, Received> = const { Rooms::new() };
}

/// A request, and the connection it came on.
type Came = (Request, Arc<Connection>);

/// What came of reading a request.
type Read = std::result::Result<Request, (Box<ClientStream>, NoRequest)>;

/// What became of a request of HTTP/1 at the front.
pub enum Received {
    /// It is over; the connection comes along if it can serve on.
    Over(Option<Box<ClientStream>>),
    /// It is for Pingora's phases, perhaps after a first try that failed.
    Onward(Box<ServerSession>),
}

/// Serves one request after the other.
// No closure that is asked for each: what it serves one in would be moved to where it is served.
async fn serve() -> Infallible {
    loop {
        let (request, connection) = rooms::next(&SERVING).await;
        let received = connection.front.serve(request, &connection).await;
        // What waits for nothing more holds nothing either.
        drop(connection);
        rooms::done(&SERVING, received);
    }
}

impl Front {
    /// Ends when connections that are idle are to end: a connection asks once, and [goes on waiting](Self::receive).
    pub async fn closes(&self) {
        flag::raised(&self.closing).await;
    }

    /// Reads the next request of a connection, which has to begin within `idle` and before it `closes`, and answers it if Pingora's
    /// phases are not needed for that. Where it has closed, nothing comes along, and `closes` has ended.
    pub async fn receive(
        connection: &Arc<Connection>,
        stream: Box<ClientStream>,
        idle: Duration,
        closes: Pin<&mut impl Future<Output = ()>>,
    ) -> Received {
        let front = &connection.front;
        // Most connections wait for a request most of the time: what is not needed for that is not kept for it.
        match front.read(stream, idle, closes).await {
            Some(Ok(request)) => {
                let came = (request, connection.clone());
                rooms::serve(&SERVING, came, serve).await
            }
            Some(Err((stream, none))) => {
                Box::pin(front.refuse(stream, none)).await;
                Received::Over(None)
            }
            None => Received::Over(None),
        }
    }

    /// Reads a request; none when the connection is to be closed without a word.
    async fn read(
        &self,
        stream: Box<ClientStream>,
        idle: Duration,
        closes: Pin<&mut impl Future<Output = ()>>,
    ) -> Option<Read> {
        let patience = Patience {
            idle,
            head: self.clients.head_timeout,
            most: self.clients.limits.head,
        };
        tokio::select! {
            biased;
            read = Request::read(stream, patience) => Some(read),
            () = closes => None,
        }
    }

    /// Answers what cannot be read, if it was something.
    async fn refuse(&self, mut stream: Box<ClientStream>, none: NoRequest) {
        let (why, came) = match none {
            NoRequest::NoHead(NoHead::Gone) => return,
            NoRequest::NoHead(NoHead::Idle) => {
                // Whoever does not say anything need not take anything either.
                let _ = tokio::time::timeout(keep::HANG_UP, stream.shutdown()).await;
                return;
            }
            NoRequest::NoHead(NoHead::TooLarge) => {
                ((Excess::Fields.status(), Excess::Fields.word()), None)
            }
            NoRequest::NoHead(NoHead::Late) => ((StatusCode::REQUEST_TIMEOUT, LATE), None),
            NoRequest::NoHead(NoHead::Doubtful(doubt)) => {
                ((StatusCode::BAD_REQUEST, doubt.word()), None)
            }
            NoRequest::Malformed(came, e) => {
                debug!("a request cannot be read: {e}");
                ((StatusCode::BAD_REQUEST, MALFORMED), Some(came))
            }
        };
        self.turn_away(stream, why, came.as_deref()).await;
    }

    /// Says no to what is no request, and closes its connection. `came`: what that was, if it was taken already.
    async fn turn_away(
        &self,
        mut stream: Box<ClientStream>,
        (status, why): (StatusCode, &'static str),
        came: Option<&[u8]>,
    ) {
        let id = facts::new_request_id();
        // The client may be gone already; there is nobody to tell.
        let _ = respond::to_nothing(&mut stream, status, &id).await;
        let client = stream.peer().ip().to_canonical();
        let asked = glimpse(came.unwrap_or(stream.unread()));
        let mut line = record::malformed(Some(client), status, why, &id);
        if let Some((method, target)) = &asked {
            line.method = method;
            line.path = self.log.redaction.redact(target);
        }
        self.note(line);
        keep::hang_up(stream, keep::LINGER_HEAD).await;
    }

    /// Answers a request, if Pingora's phases are not needed for that.
    async fn serve(&self, mut request: Request, connection: &Arc<Connection>) -> Received {
        let mut ctx = self.begin(connection, request.at);
        ctx.connection = Some(connection.clone());
        request.keeps &=
            !connection.is_last(self.clients.keepalive_requests) && !ctx.watch.draining();
        let answered = self.answer_or_pass(&mut request, &mut ctx).await;
        if let Ok(Served::Onward) = answered {
            return self.hand_on(request, ctx).await;
        }
        let untold = self.end(&request, &mut ctx, &answered);
        let next = match answered {
            Err(_) => None,
            // What the client goes on sending must not cost it the end.
            Ok(_) if ctx.tunnel => {
                Box::pin(keep::end_tunnel(request.stream, &self.closing)).await;
                None
            }
            // To HTTP/1.0 a proper end can mean that this was all. By TLS one without a word says that it was not (RFC 9112 §9.8).
            Ok(Served::BrokenOff) if !framing::knows_chunks(request.head.version) => None,
            Ok(served) if ctx.dropped || matches!(served, Served::BrokenOff) => {
                request.stream.shutdown().await;
                None
            }
            Ok(_) if ctx.body_unknown => {
                Box::pin(keep::hang_up(request.stream, keep::LINGER_BYTES)).await;
                None
            }
            Ok(_) => {
                // What goes on may take a while, and does not need what was known of the request.
                let seen = Seen::by(&request, &ctx);
                let bytes = request.head_bytes();
                let Request {
                    head,
                    stream,
                    keeps,
                    ..
                } = request;
                match untold {
                    Some(due) => self.hand_over((head, bytes), ctx, (seen, due)),
                    None => drop((head, ctx)),
                }
                keep::serve_on(stream, keeps, &self.closing).await
            }
        };
        Received::Over(next)
    }

    /// Hands over to the log what is left of a request that ended, but for its connection. `head`: its head, and how many bytes that had.
    fn hand_over(&self, head: (Box<RequestHeader>, usize), ctx: Box<Ctx>, last: (Seen, Due)) {
        self.log.keep(Box::new(Account::new(head, ctx, last)));
    }

    /// Hands a request on to Pingora's phases.
    async fn hand_on(&self, request: Request, ctx: Box<Ctx>) -> Received {
        match request.into_session().await {
            Ok(session) => Received::Onward(Box::new(downstream::pack(session, ctx))),
            Err((stream, none)) => {
                if let Some(stream) = stream {
                    Box::pin(self.refuse(stream, none)).await;
                }
                Received::Over(None)
            }
        }
    }

    /// Answers the request of a stream of HTTP/2, if Pingora's phases are not needed for that; else it comes back for them.
    pub async fn receive_stream(
        &self,
        mut exchange: Box<Exchange>,
        connection: &Arc<Connection>,
    ) -> Option<Box<ServerSession>> {
        let mut ctx = self.begin(connection, clock::moment());
        let answered = self.answer_or_pass(&mut *exchange, &mut ctx).await;
        if let Ok(Served::Onward) = answered {
            let session = Box::new(ServerSession::Custom(exchange));
            return Some(Box::new(downstream::pack(session, ctx)));
        }
        if ctx.is_malformed {
            connection.note_malformed();
        }
        let untold = self.end(&*exchange, &mut ctx, &answered);
        match answered {
            Ok(served)
                if ctx.dropped || ctx.body_unknown || matches!(served, Served::BrokenOff) =>
            {
                exchange.break_off();
            }
            Ok(_) => {
                // What the client still sends of its content is refused by the end of the stream.
                drop(exchange.end());
                if let Some(due) = untold {
                    let seen = Seen::by(&*exchange, &ctx);
                    let bytes = exchange.head_bytes() + target_bytes(exchange.head());
                    self.hand_over((exchange.into_head(), bytes), ctx, (seen, due));
                }
            }
            Err(_) => {}
        }
        None
    }

    /// What is known of a request when its head is there, since then.
    fn begin(&self, connection: &Arc<Connection>, at: Moment) -> Box<Ctx> {
        let watch = Watch::new(self.draining.clone(), at);
        let mut ctx = Box::new(Ctx::new(self.live.current(), watch));
        ctx.scheme = connection.manner.scheme();
        ctx.manner = Some(connection.manner.clone());
        ctx.is_named = connection.is_named;
        ctx.secured.clone_from(&connection.secured);
        ctx
    }

    async fn answer_or_pass(&self, client: &mut dyn Client, ctx: &mut Ctx) -> Result<Served> {
        match self.answer(client, ctx).await? {
            true => Ok(Served::Answered),
            false => direct::serve(self, client, ctx).await,
        }
    }

    /// The end of a request that was served here. What comes back is a line that is due still, of one from which nothing else is
    /// needed.
    fn end(&self, client: &dyn Client, ctx: &mut Ctx, answered: &Result<Served>) -> Option<Due> {
        if answered.is_err() {
            ctx.client_left = true;
            ctx.reason.get_or_insert(Reason::ClientLeft);
        }
        let due = self.count(client, ctx)?;
        let is_over = matches!(answered, Ok(Served::Answered));
        if is_over && !(ctx.tunnel || ctx.dropped || ctx.body_unknown) && self.log.keeps() {
            return Some(due);
        }
        self.tell(client, ctx, due);
        None
    }

    /// Counts and logs what is no request, what it is or would be answered with, and the log's word for why.
    pub fn note_malformed(
        &self,
        client: Option<IpAddr>,
        status: StatusCode,
        why: &'static str,
        request_id: &str,
    ) {
        self.note(record::malformed(client, status, why, request_id));
    }

    fn note(&self, line: Line<'_>) {
        Counts::one(&self.counts.malformed);
        self.log.write(|| line);
    }

    /// Answers a request, if that needs no upstream; says whether it did.
    ///
    /// # Errors
    /// When the client cannot be written to.
    async fn answer(&self, session: &mut dyn Client, ctx: &mut Ctx) -> Result<bool> {
        ctx.client = facts::client(session);
        ctx.has_content = !session.is_body_empty();
        let request = session.req_header();
        let is_believed = look_behind(request, ctx);
        if let Some(traces) = &self.traces {
            ctx.trace = Some(traces.begin(&request.headers, is_believed));
        }
        ctx.request_id = facts::request_id(request);
        let authority = request.uri.authority().map(|authority| authority.as_str());
        // What Pingora reads, HTTP/2, has no bytes to be in doubt.
        let framed = match session.front().and_then(|request| request.doubt) {
            Some(doubt) => Err(doubt),
            None => framing::judge(request.version, authority, &request.headers),
        };
        if let Err(doubt) = framed {
            ctx.refused = Some(doubt.word());
            ctx.is_malformed = true;
            Counts::one(&self.counts.malformed);
            // Where the next one would begin is not known.
            session.close();
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
            ctx.is_malformed = true;
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
                Some(Answer::redirect(redirect, session.req_header(), ctx)?)
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
    pub(super) fn log(&self, session: &dyn Client, ctx: &Ctx) {
        if let Some(due) = self.count(session, ctx) {
            self.tell(session, ctx, due);
        }
    }

    /// Writes its line.
    fn tell(&self, session: &dyn Client, ctx: &Ctx, Due { finish, sample }: Due) {
        self.log.write(|| {
            let mut line = record::line(session, ctx, finish, &self.log);
            line.summary.sample = sample;
            line
        });
    }

    /// Counts a request that ends now; says whether there is to be a line of it.
    fn count(&self, session: &dyn Client, ctx: &Ctx) -> Option<Due> {
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
        if !self.log.enabled() {
            return None;
        }
        let own = ctx.route.as_ref().and_then(|route| route.logging);
        let sampling = self.log.sampling.on(own)?;
        let chance = match sampling.share < 1.0 {
            true => fastrand::f64(),
            false => 0.0,
        };
        let failed = ctx.tries.iter().any(|t| t.outcome.is_failure());
        let sample = match sampling.judge(ended.status, u32::from(failed), ended.took, chance) {
            Kept::Always => None,
            Kept::Sample(share) => Some(share),
            Kept::Not => return None,
        };
        Some(Due { finish, sample })
    }

    /// Records a request that ends now, where it is to be in its trace.
    pub(super) fn record(&self, session: &dyn Client, ctx: &Ctx, finish: Finish, what: Record) {
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
            ctx.route = ctx.snapshot.own(route);
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
    let Some(route) = found
        .filter(|route| route.cors().is_some())
        .and_then(|route| ctx.snapshot.own(route))
    else {
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
