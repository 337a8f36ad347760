//! The mechanism of one request: Pingora's phases in their order, each of which gathers facts, asks a policy, and obeys.
//!
//! Called by Pingora, on the worker that accepted the connection. Never decides by itself: routing is `policy::router`'s,
//! choosing a backend `policy::balancer`'s, trying again `policy::retry`'s, deadlines `policy::timeouts`'s.

mod account;
mod answered;
mod aside;
pub mod authenticate;
mod body;
mod caching;
mod client;
mod compress;
pub mod content;
mod ctx;
mod direct;
mod downstream;
mod ending;
mod entry;
mod facts;
mod failure;
mod forward;
mod front;
mod hedge;
mod keep;
mod lent;
mod mirror;
mod next;
mod outgoing;
mod peer;
mod racing;
mod rate;
mod record;
mod respond;
pub mod snapshot;
mod split;
mod straighten;
mod trailers;
mod trailing;
mod translate;
mod tries;
mod turn;
mod wait;
mod watch;
mod wire;

use body::Room;
pub use body::held;
pub use ctx::{Ctx, Try};
pub use front::{Front, MALFORMED, Received};
pub use snapshot::{Live, Snapshot};

use crate::clock;
use crate::observe::traces::Record;
use crate::policy::framing::knows_chunks;
use crate::policy::grpc;
use crate::policy::requirement::Lacks;
use crate::policy::retry::{self, Reason, Verdict};
use crate::policy::timeouts::Phase;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use pingora_cache::storage::HitHandler;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, NoCacheReason, RespCacheable};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, RangeType, Session};
use record::Finish;
use respond::Answer;
use std::time::Duration;
use tries::arm;
use watch::Watch;

/// The error by which a response is turned into another try.
const TRY_AGAIN: ErrorType = ErrorType::Custom("try again");
/// The error of a request body that is longer than its route takes.
const TOO_LONG: ErrorType = ErrorType::Custom("body too large");
/// The error of a client that left during a wait.
const CLIENT_LEFT: ErrorType = ErrorType::Custom("client left");

/// One worker's share of the proxy.
pub struct Proxy {
    front: Front,
}

impl Proxy {
    /// Serves what `front` hands on.
    pub fn new(front: Front) -> Self {
        Proxy { front }
    }
}

/// Whether a body of so many bytes is more than its route takes.
fn too_long(ctx: &Ctx, length: u64) -> Option<Lacks> {
    ctx.route.as_ref()?.requirement.judge_length(length).err()
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(
            self.front.live.current(),
            Watch::new(self.front.draining.clone(), clock::moment()),
        )
    }

    /// None: Pingora's own default would build a compression module for each request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        if let Some(packed) = downstream::unpack(session) {
            *ctx = *packed;
        }
        ctx.in_phases = true;
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        if caching::fill::adopt(session, ctx)? {
            return Ok(false);
        }
        match caching::consult(self.front.cache, session, ctx).await? {
            caching::Next::Answered => {
                downstream::unwrap(session, &ctx.watch);
                ctx.answered_here = true;
                Ok(true)
            }
            caching::Next::Serve | caching::Next::Forward => Ok(false),
        }
    }

    /// Fills are requests of their own.
    fn allow_spawning_subrequest(&self, _session: &Session, _ctx: &Ctx) -> bool {
        true
    }

    /// Stored answers are looked for before: here Pingora learns of the one that was chosen, or of the fill that this is.
    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        caching::hit::enable(self.front.cache, session, ctx);
        Ok(())
    }

    fn cache_key_callback(&self, _session: &Session, ctx: &mut Ctx) -> Result<CacheKey> {
        match (caching::hit::served(ctx), &ctx.fill) {
            (Some(object), _) => Ok(caching::hit::key(object, ctx)),
            (None, Some(job)) => Ok(caching::fill::key_of(job)),
            (None, None) => Err(Error::new_in(ErrorType::InternalError)),
        }
    }

    async fn cache_hit_filter(
        &self,
        _session: &mut Session,
        _meta: &CacheMeta,
        _hit: &mut HitHandler,
        _is_fresh: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(caching::hit::freshness(ctx))
    }

    fn cache_not_modified_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        _ctx: &mut Ctx,
    ) -> Result<bool> {
        Ok(caching::hit::not_modified(session, response))
    }

    fn range_header_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _ctx: &mut Ctx,
    ) -> RangeType {
        caching::hit::ranges(session, response).unwrap_or(RangeType::None)
    }

    fn response_cache_filter(
        &self,
        _session: &Session,
        response: &ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<RespCacheable> {
        Ok(match &ctx.fill {
            Some(job) => caching::fill::admit(job, response),
            None => RespCacheable::Uncacheable(NoCacheReason::Custom("no fill")),
        })
    }

    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        downstream::unwrap(session, &ctx.watch);
        let Some(proxy) = ctx.proxy() else {
            return Ok(false);
        };
        let request = session.req_header();
        let key = forward::has_idempotency_key(request);
        let duplex = forward::is_duplex(request);
        let repeatable = retry::may_repeat(&proxy.retry, &request.method, key);
        let max_body = proxy.retry.max_body;
        let patience = grpc::timeout(&request.headers);
        let patience =
            patience.filter(|_| grpc::is_call(&request.method, request.version, &request.headers));
        let mirrored = !duplex && mirror::is_wanted(ctx);
        let empty = session.downstream_session.is_body_empty();
        // What goes both ways at once may be silent.
        if !empty && !duplex {
            ctx.watch.expect_body(self.front.clients.min_body_rate);
        }
        let shape = ctx.shape().filter(|_| !empty).cloned();
        let max_body = match (
            &shape,
            ctx.route.as_ref().and_then(|r| r.requirement.most()),
        ) {
            (Some(_), Some(most)) => usize::try_from(most).unwrap_or(usize::MAX),
            _ => max_body,
        };
        let read_ahead =
            shape.is_some() || repeatable && !duplex && body::wanted(session, &proxy.retry);
        ctx.patience = patience;
        ctx.watch.set_total(ctx.timeouts().map(|t| t.total));
        let time = ctx.time_left();
        ctx.idempotency_key = key;
        let mut held = None;
        if read_ahead {
            let most = self.front.clients.max_held;
            let read = body::read_ahead(session, &ctx.watch, max_body, most);
            let (read, room) = match tokio::time::timeout(time, read).await {
                Ok(Err(e)) if *e.etype() != watch::SLOW_BODY => return Err(e.into_down()),
                Ok(Ok(read)) => read,
                Ok(Err(_)) | Err(_) => {
                    Answer::request_timeout()?
                        .write(&mut *session.downstream_session, ctx)
                        .await?;
                    ctx.reason = Some(Reason::BodyUnfinished);
                    return Ok(false);
                }
            };
            let length = u64::try_from(read.bytes().len()).unwrap_or(u64::MAX);
            let is_shaped = shape.is_some();
            let is_whole = matches!(read, downstream::Held::Whole(_));
            let unfit = || shape.filter(|_| is_whole)?.judge(read.bytes()).err();
            if let Some(lacks) = too_long(ctx, length).or_else(unfit) {
                ctx.refused = Some(lacks.word());
                Answer::lacking(&lacks)?
                    .write(&mut *session.downstream_session, ctx)
                    .await?;
                ctx.answered_here = true;
                return Ok(false);
            }
            if is_shaped && !is_whole {
                // It cannot be looked at.
                ctx.refused = failure::TOO_MUCH_HELD.details;
                Answer::failed(failure::TOO_MUCH_HELD)?
                    .write(&mut *session.downstream_session, ctx)
                    .await?;
                ctx.answered_here = true;
                return Ok(false);
            }
            ctx.room = room;
            match read {
                downstream::Held::Whole(_) => ctx.body_held = true,
                downstream::Held::Beginning(_) => ctx.body_partly_taken = true,
            }
            held = Some(read);
        }
        if !read_ahead && !empty && ctx.upstream().is_some_and(|upstream| upstream.http2) {
            // What its backend says of that does not come through.
            body::tell_to_go_on(session).await?;
            ctx.told_to_go_on = true;
        }
        // One whose first try is behind it was counted then.
        if let Some(traffic) = ctx.traffic().filter(|_| ctx.tries.is_empty()) {
            traffic.request();
        }
        match &held {
            Some(downstream::Held::Whole(body)) if mirrored => {
                mirror::send(session, ctx, body.clone());
            }
            None if mirrored && empty => mirror::send(session, ctx, Bytes::new()),
            // Nobody waits for all of it, least of all a client that sends slowly.
            _ if mirrored => ctx.passing = mirror::Passing::begin(ctx, max_body).map(Box::new),
            _ => {}
        }
        trailers::plan(session, ctx);
        downstream::wrap(session, &ctx.watch, held);
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        next::begin(session, ctx).await
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut e: Box<Error>,
    ) -> Box<Error> {
        e.set_retry(tries::after_connect_error(
            &mut *session.downstream_session,
            ctx,
            &e,
        ));
        e
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.connected(true);
        if !reused && !trailers::is_reused(ctx) {
            ctx.note_connection();
        }
        hedge::connected(ctx);
        arm(ctx, Phase::AwaitingHead);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let Some(proxy) = ctx.proxy() else {
            return Ok(());
        };
        let span = ctx.current.as_ref().map_or(0, |current| current.span);
        outgoing::prepare(session.req_header(), request, proxy, ctx, span)
            .map_err(|e| e.into_down())?;
        if let Some(job) = &ctx.fill {
            job.condition(request, ctx.split)?;
        }
        // Each try begins anew with it.
        ctx.body_seen = 0;
        ctx.sent = true;
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        // Pingora ends a chunked body twice when it is handed an empty last piece.
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        if ctx.tunnel {
            ctx.tunnel_speaks();
            return Ok(());
        }
        if ctx.body_partly_taken {
            // What was read ahead is on its way.
            ctx.room = Room::default();
        }
        ctx.body_seen += body.as_ref().map_or(0, |body| body.len() as u64);
        if let Some(lacks) = too_long(ctx, ctx.body_seen) {
            ctx.refused = Some(lacks.word());
            return Err(Error::new_down(TOO_LONG));
        }
        mirror::pass(session, ctx, body.as_ref(), end_of_stream);
        if ctx.watch.has_ended() && !ctx.response_whole {
            ctx.came_whole();
        }
        if ctx.response_whole {
            ctx.linger();
        } else if ctx.current.as_ref().is_some_and(|c| c.answered.is_none()) {
            arm(ctx, Phase::AwaitingHead);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let status = response.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            if ctx.fill.is_some() {
                caching::fill::interim(session, response).await;
            }
            return Ok(());
        }
        answered::check(session.req_header(), response)?;
        ctx.note_answer(status);
        // The other backend may still give a good answer.
        if answered::is_listed(ctx, status)
            && hedge::is_open(ctx)
            && hedge::settle(session, ctx).await
        {
            ctx.verdict = Some(Verdict::Retry(Duration::ZERO));
            return Err(Error::new_up(TRY_AGAIN));
        }
        answered::weigh(&mut *session.downstream_session, ctx, response)?;
        hedge::cancel(ctx);
        answered::tell(ctx, response);
        if caching::fill::prefers_stale(session, ctx, status) {
            ctx.verdict = ctx.reason.map(Verdict::GiveUp);
            return Err(Error::new_up(TRY_AGAIN));
        }
        // The answer goes through as it is.
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // A tunnel has no end to wait for but that of what goes through it.
            ctx.tunnel = true;
            ctx.watch.set_total(None);
            ctx.tunnel_speaks();
            return Ok(());
        }
        if ctx.fill.is_some() {
            caching::fill::judge(self.front.cache, session, ctx, response).await?;
        } else {
            caching::passing_by::head(self.front.cache, session, ctx, response).await?;
        }
        forward::strip_hop_by_hop(response, trailers::are_wanted(ctx));
        if forward::has_no_body(&session.req_header().method, response) {
            ctx.came_whole();
        } else {
            arm(ctx, Phase::AwaitingBody);
        }
        Ok(())
    }

    /// The end of an answer that has trailers.
    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        _trailers: &mut HeaderMap,
        ctx: &mut Ctx,
    ) -> Result<()> {
        caching::passing_by::body(self.front.cache, ctx, None, true);
        ctx.came_whole();
        Ok(())
    }

    /// What an encoder still holds takes the place of the trailers, which may be left out (RFC 9110 §6.5.1).
    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        _trailers: &mut HeaderMap,
        ctx: &mut Ctx,
    ) -> Result<Option<Bytes>> {
        let Some((encoder, flush)) = ctx.encoder.as_deref_mut() else {
            return Ok(None);
        };
        let rest = encoder.encode(&Bytes::new(), true, *flush);
        let rest = rest.or_err(ErrorType::InternalError, "an answer cannot be compressed")?;
        Ok(Some(rest))
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        if ctx.tunnel {
            ctx.tunnel_speaks();
            return Ok(None);
        }
        caching::passing_by::body(self.front.cache, ctx, body.as_ref(), end_of_stream);
        if end_of_stream {
            ctx.came_whole();
            return Ok(None);
        }
        arm(ctx, Phase::AwaitingBody);
        // A response that trickles keeps the wait from ever reaching its deadline; the total still ends it.
        if ctx.time_left().is_zero() {
            return Error::e_explain(downstream::DEADLINE, "response body");
        }
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if !knows_chunks(session.req_header().version) {
            // HTTP/1.0 knows no chunks.
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        if !response.status.is_informational() {
            forward::dress(response, session.req_header(), ctx)?;
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        if let Some((encoder, flush)) = ctx.encoder.as_deref_mut() {
            let piece = body.take().unwrap_or_default();
            let encoded = encoder.encode(&piece, end_of_stream, *flush);
            *body =
                Some(encoded.or_err(ErrorType::InternalError, "an answer cannot be compressed")?);
        }
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        ctx: &mut Ctx,
        _client_reused: bool,
    ) -> Box<Error> {
        ctx.watch.arm(None, None);
        // Always decided here: Pingora panics on a question left open.
        e.set_retry(tries::after_error(
            &mut *session.downstream_session,
            ctx,
            &e,
        ));
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        downstream::unwrap(session, &ctx.watch);
        FailToProxy {
            error_code: ending::fail(&self.front.counts, &mut *session.downstream_session, ctx, e)
                .await,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Ctx) {
        downstream::unwrap(session, &ctx.watch);
        if ctx.hoped.take().is_some() {
            // It ended before it was known what came of the try on which there was hope.
            hedge::cancel(ctx);
            ctx.note_lost();
        }
        hedge::note_overtaken(ctx);
        ending::end_try(ctx, e.is_some());
        caching::fill::report(ctx, None);
        if ctx.fill.take().is_some() {
            // Perhaps nobody waits for it any more, and nobody else knows how its last try ends.
            self.front.count_tries(ctx);
            return self.front.record(
                &*session.downstream_session,
                ctx,
                Finish::now(ctx),
                Record::Tries,
            );
        }
        if let Some(report) = ctx.report.take() {
            ctx.filled_by_another = true;
            let mut report = caching::fill::lock(&report);
            ctx.tries = std::mem::take(&mut report.tries);
            ctx.reason = report.reason.or(ctx.reason);
        }
        self.front.log(&*session.downstream_session, ctx);
        if ctx.answered_here && ctx.end == Some(failure::BAD_REQUEST) {
            return keep::end_connection(session).await;
        }
        if ctx.answered_here {
            keep::linger(session).await;
        }
        if e.is_some() && ctx.answered_here {
            keep::keep_connection(session, ctx).await;
        }
    }

    /// The access log and the warning of [`Self::fail_to_proxy`] say it all.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Ctx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
