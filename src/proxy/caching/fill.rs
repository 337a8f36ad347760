//! A fill: a request of its own to the upstream, on behalf of the client that asked first.
//!
//! Pingora runs it as a subrequest, so it goes through the same phases, tries and timeouts as any other. Its answer goes to
//! the store, from where all clients read it; only what is not stored is handed to the client that began it.

use super::super::CLIENT_LEFT;
use super::super::ctx::{Ctx, Try};
use super::super::rate;
use super::super::snapshot::Local;
use super::super::split::Split;
use super::super::wait::client_leaves;
use super::admission::{is_confidential, keep, place, storable, updated};
use super::{Forwarded, How, Outcome, asker, date, now, remember, times};
use crate::cache::Cache;
use crate::cache::fills::{Failed, Filling, State};
use crate::cache::head::Head;
use crate::cache::key::Key;
use crate::cache::object::{Body, Object};
use crate::cache::storage::FillFor;
use crate::policy::cache::collapsing::{About, about};
use crate::policy::cache::freshness::Freshness;
use crate::policy::cache::reuse;
use crate::policy::cache::{CachePolicy, Keep, NotStored, key, validation};
use crate::policy::retry::{Reason, Verdict};
use crate::policy::route::Route;
use crate::policy::trace::Trace;
use crate::server::connection::Secured;
use crate::upstream::own::Own;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::subrequest::server::SubrequestHandle;
use pingora::{Error, ErrorType, Result};
use pingora_cache::RespCacheable::{self, Cacheable, Uncacheable};
use pingora_cache::{CacheKey, CacheMeta, NoCacheReason};
use pingora_proxy::{Session, subrequest};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What the client that began a fill learns of it, for its log line.
#[derive(Default)]
pub(in super::super) struct Report {
    pub(in super::super) tries: Vec<Try>,
    pub(in super::super) reason: Option<Reason>,
    status: Option<StatusCode>,
    /// `Set-Cookie` of the 304 that validated a stored answer.
    cookies: Vec<HeaderValue>,
}

/// The client's end of a fill it began.
pub(in super::super) struct Owner {
    handle: Option<SubrequestHandle>,
    /// The beginning of an answer that is not stored.
    first: Option<HttpTask>,
    pub(in super::super) report: Arc<Mutex<Report>>,
}

impl Owner {
    /// The next interim answer (RFC 9110 §15.2).
    pub(super) async fn interim(&mut self) -> Box<ResponseHeader> {
        if let (Some(handle), None) = (&mut self.handle, &self.first)
            && let Some(task) = handle.rx.recv().await
            && let Some(head) = self.sort(task)
        {
            return head;
        }
        std::future::pending().await
    }

    /// An interim answer that is here already.
    pub(super) fn interim_at_once(&mut self) -> Option<Box<ResponseHeader>> {
        if self.first.is_some() {
            return None;
        }
        let task = self.handle.as_mut()?.rx.try_recv().ok()?;
        self.sort(task)
    }

    /// Puts aside what is not an interim answer: it is for [`pipe`].
    fn sort(&mut self, task: HttpTask) -> Option<Box<ResponseHeader>> {
        match task {
            HttpTask::Header(head, _) if head.status.is_informational() => Some(head),
            other => {
                self.first = Some(other);
                None
            }
        }
    }

    /// What the upstream answered.
    pub(super) fn status(&self) -> Option<StatusCode> {
        lock(&self.report).status
    }
}

/// What a fill was told by who began it, and how far it is.
pub(in super::super) struct Job {
    snapshot: Arc<Local>,
    route: Own<Route>,
    request_id: String,
    trace: Option<Trace>,
    client: Option<IpAddr>,
    scheme: &'static str,
    secured: Option<Arc<Secured>>,
    verified: Option<(String, &'static str)>,
    told: Vec<(HeaderName, Option<HeaderValue>)>,
    hops: Vec<IpAddr>,
    /// The side whose answer it is to be.
    split: Split,
    key: Key,
    filling: Arc<Filling>,
    /// The stored answer to be validated.
    stale: Option<Arc<Object>>,
    why: &'static str,
    report: Arc<Mutex<Report>>,
    /// What is about to be stored.
    pending: Arc<Mutex<Option<Object>>>,
}

/// Begins a fill. The answer it may validate is `stale`.
pub(super) fn start(
    session: &Session,
    ctx: &Ctx,
    filling: Filling,
    stale: Option<&Arc<Object>>,
    why: &'static str,
) -> Owner {
    let report = Arc::<Mutex<Report>>::default();
    let mut owner = Owner {
        handle: None,
        first: None,
        report: report.clone(),
    };
    let (Some(spawner), Some(route)) = (&session.subrequest_spawner, &ctx.route) else {
        return owner;
    };
    let job = Job {
        snapshot: ctx.snapshot.clone(),
        route: route.clone(),
        request_id: ctx.request_id.clone(),
        trace: ctx.trace,
        client: ctx.client,
        scheme: ctx.scheme,
        secured: ctx.secured.clone(),
        verified: ctx.verified.clone(),
        told: ctx.told.clone(),
        hops: ctx.hops.clone(),
        split: ctx.split,
        key: *filling.key(),
        filling: Arc::new(filling),
        stale: stale.cloned(),
        why,
        report,
        pending: Arc::default(),
    };
    let told = subrequest::Ctx::builder().user_ctx(Box::new(Mutex::new(Some(job))));
    let (fill, handle) = spawner.create_subrequest(session.as_ref(), told.build());
    tokio::spawn(fill.run());
    owner.handle = Some(handle);
    owner
}

/// Makes this request a fill, if that is what it is.
pub(in super::super) fn adopt(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let told = session.subrequest_ctx.as_ref();
    let told = told.and_then(|told| told.user_ctx()?.downcast_ref::<Mutex<Option<Job>>>());
    let Some(job) = told.and_then(|job| lock(job).take()) else {
        return Ok(false);
    };
    let request = session.downstream_session.req_header_mut();
    request.set_method(Method::GET);
    ctx.snapshot = job.snapshot.clone();
    ctx.route = Some(job.route.clone());
    ctx.request_id.clone_from(&job.request_id);
    ctx.trace = job.trace;
    ctx.client = job.client;
    ctx.scheme = job.scheme;
    ctx.secured.clone_from(&job.secured);
    ctx.verified.clone_from(&job.verified);
    ctx.told.clone_from(&job.told);
    ctx.hops.clone_from(&job.hops);
    ctx.split = job.split;
    ctx.cache = Some(Outcome {
        how: How::Forwarded(Forwarded::because(job.why)),
        served: None,
    });
    ctx.watch.fill();
    ctx.fill = Some(Box::new(job));
    Ok(true)
}

/// The key by which the store knows the fill.
pub(in super::super) fn key_of(job: &Job) -> CacheKey {
    let policy = job.route.cache();
    let mut key = CacheKey::new(Vec::new(), "");
    key.extensions.insert(FillFor {
        filling: job.filling.clone(),
        pending: job.pending.clone(),
        max_object: policy.map_or(0, |policy| policy.max_object),
        parts: policy.is_some_and(CachePolicy::respects_origin),
    });
    key
}

impl Job {
    /// Whether it is still with the side whose answer it is to be, now that its request is so far.
    fn is_on_its_side(&self, split: Split) -> bool {
        self.split.is_on_canary() == split.is_on_canary()
    }

    /// Makes the request to the upstream a conditional one, where there is something to validate (RFC 9111 §4.3.1) and this
    /// upstream is the one to know.
    pub(in super::super) fn condition(
        &self,
        request: &mut RequestHeader,
        split: Split,
    ) -> Result<()> {
        for name in [
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
            header::IF_RANGE,
            header::RANGE,
        ] {
            request.remove_header(&name);
        }
        if let Some(stale) = &self.stale
            && self.is_on_its_side(split)
            && !matches!(stale.body, Body::Parts(_))
        {
            for (name, value) in validation::conditions(&stale.head.headers()) {
                request.insert_header(name, value)?;
            }
        }
        Ok(())
    }

    /// A try failed, and another follows.
    pub(in super::super) fn failing(&self) {
        self.filling.failing();
    }

    /// There is no answer.
    pub(in super::super) fn failed(&self, failed: Failed) {
        self.filling.end(State::Failed(failed));
    }

    /// Whether a stored answer may take the place of a response with this status, or of none.
    pub(in super::super) fn has_stand_in(&self, request: &RequestHeader) -> bool {
        let Some(policy) = self.route.cache() else {
            return false;
        };
        self.stale.as_ref().is_some_and(|stale| {
            reuse::may_stand_in(policy, &stale.freshness, &request.headers, now())
        })
    }
}

/// Whether a response with this status, which no further try follows, is to give way to a stale answer.
pub(in super::super) fn prefers_stale(session: &Session, ctx: &Ctx, status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
        && ctx
            .fill
            .as_ref()
            .is_some_and(|job| job.has_stand_in(session.req_header()))
}

/// Hands an interim answer to the client that began the fill, before it can hear of the final one.
pub(in super::super) async fn interim(session: &mut Session, head: &ResponseHeader) {
    let head = Box::new(head.clone());
    // That client may be gone; the fill is not its alone.
    let _ = session.downstream_session.write_response_header(head).await;
}

/// What is done with the response to a fill, before anything of it goes anywhere.
///
/// # Errors
/// When the response cannot be used, and another try is to be made.
pub(in super::super) async fn judge(
    cache: Cache,
    session: &Session,
    ctx: &mut Ctx,
    response: &ResponseHeader,
) -> Result<()> {
    let times = times(ctx);
    let received = times.received;
    report(ctx, Some(response.status));
    let split = ctx.split;
    let Some(job) = &mut ctx.fill else {
        return Ok(());
    };
    let is_its_side = job.is_on_its_side(split);
    let route = job.route.clone();
    let Some(policy) = route.cache() else {
        return Ok(());
    };
    let ttl = !policy.respects_origin();
    if is_its_side
        && response.status == StatusCode::NOT_MODIFIED
        && let Some(stale) = job.stale.take()
    {
        if !validation::selects(&stale.head.headers(), &response.headers) {
            // It is about another answer (RFC 9111 §4.3.4): ask again, without conditions.
            cache.remove(&stale).await;
            ctx.verdict = Some(Verdict::Retry(Duration::ZERO));
            return Err(Error::new_up(super::super::TRY_AGAIN));
        }
        let request = session.req_header();
        let fields = &response.headers;
        let fresh = updated(cache, policy, request, &stale, fields, times)?;
        let kept = fresh.head.headers();
        let keep = Keep::Fields(&kept);
        let status = stale.head.status;
        let shared = storable(&route, request, (status, fields), keep, received).is_ok();
        let fresh = Arc::new(fresh);
        if !shared {
            // What the 304 says forbids it from now on; this once it is valid, for who asked.
            if is_over(policy, &stale) && !key::carries_credentials(&request.headers) {
                cache.remove(&stale).await;
            }
        } else {
            let began = job.filling.fill().began();
            cache.replace(&stale, &fresh, began).await;
        }
        // A cookie is for who asked, and for nobody else.
        let cookies = fields.get_all(header::SET_COOKIE).iter().cloned();
        lock(&job.report).cookies = cookies.collect();
        job.filling.end(State::Validated {
            object: fresh,
            shared,
        });
        return Ok(());
    }
    let request = session.req_header();
    let status = response.status;
    let fields = &response.headers;
    let storable = match is_its_side {
        true => storable(&route, request, (status, fields), Keep::Whole, received),
        false => Err(NotStored::OtherSide),
    };
    let mut how = Forwarded::because(job.why);
    how.status = Some(status);
    match storable {
        Ok(()) => {
            let mut head = response.clone();
            keep(&mut head)?;
            let freshness = Freshness::of(ttl, status, &head.headers, times, &date);
            let variant = cache.variant(&head.headers, &request.headers);
            if let Some(stale) = job.stale.take_if(|stale| stale.variant != variant) {
                // It varies on something else now: the old one would be found first for ever.
                cache.remove(&stale).await;
            }
            let nothing = Body::Memory(Bytes::new());
            let place = place(request, ctx.scheme);
            let confidential = is_confidential(policy, request, &head.headers);
            let born = job.filling.fill().began();
            let object = Object::new(
                job.key,
                &place,
                variant,
                Head::of(&head)?,
                freshness,
                nothing,
                born,
            );
            *lock(&job.pending) = Some(object.confined(confidential));
            how.stored = true;
            cache.passing().forget(&job.key);
            cache.passing().forget(&asker(cache, job.key, request));
        }
        Err(why) => {
            how.detail = Some(why.word());
            if is_its_side {
                remember(cache, job.key, request, status);
                // The origin has something else now; unless that is for this client only.
                if about(status) == About::Url
                    && let Some(stale) = job.stale.take()
                    && is_over(policy, &stale)
                    && !key::carries_credentials(&request.headers)
                {
                    cache.remove(&stale).await;
                }
            }
            let personal = policy.respects_origin() && key::carries_credentials(&request.headers);
            job.filling.end(State::Passing { status, personal });
            ctx.watch.pass();
        }
    }
    if let Some(outcome) = &mut ctx.cache {
        outcome.how = How::Forwarded(how);
    }
    Ok(())
}

/// Adds to the stored answer that this request had validated what the 304 said to it alone.
pub(in super::super) fn own_fields(response: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let Some(report) = &ctx.report else {
        return Ok(());
    };
    for cookie in std::mem::take(&mut lock(report).cookies) {
        response.append_header(header::SET_COOKIE, cookie)?;
    }
    Ok(())
}

/// Whether an answer's time is over.
fn is_over(policy: &CachePolicy, object: &Object) -> bool {
    reuse::fresh_for(policy, &object.freshness, now()) <= 0
}

/// Tells Pingora what was decided.
pub(in super::super) fn admit(job: &Job, response: &ResponseHeader) -> RespCacheable {
    if lock(&job.pending).is_none() {
        return Uncacheable(NoCacheReason::Custom("not stored"));
    }
    // The store has what it needs; Pingora wants a length to compare with its own limit, which is not set.
    let now = SystemTime::now();
    let head = response.clone();
    Cacheable(CacheMeta::new(
        now + Duration::from_secs(60),
        now,
        0,
        0,
        head,
    ))
}

/// Keeps the report of who began this fill up to date.
pub(in super::super) fn report(ctx: &Ctx, status: Option<StatusCode>) {
    let Some(job) = &ctx.fill else { return };
    let mut report = lock(&job.report);
    report.tries.clone_from(&ctx.tries);
    report.reason = ctx.reason;
    report.status = status.or(report.status);
    // The try under way counts as well, as far as it got.
    if let Some(current) = &ctx.current {
        report.tries.push(current.so_far());
    }
}

/// Hands the answer to a fill that is not stored to the client that began it.
///
/// # Errors
/// When the answer breaks off, or the client cannot be written to.
pub(super) async fn pipe(session: &mut Session, ctx: &mut Ctx, owner: Owner) -> Result<()> {
    let Some(mut handle) = owner.handle else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let mut first = owner.first;
    let is_head = session.req_header().method == Method::HEAD;
    loop {
        let task = tokio::select! {
            biased;
            task = next(&mut first, &mut handle) => task,
            () = client_leaves(&mut *session.downstream_session) => {
                ctx.client_left = true;
                return Err(Error::new_down(CLIENT_LEFT));
            }
        };
        let Some(task) = task else {
            let broken = Error::explain(ErrorType::ReadError, "the answer broke off");
            return Err(broken.into_up());
        };
        let (task, end) = match task {
            HttpTask::Failed(e) => return Err(e),
            HttpTask::Header(head, _) if is_head && !head.status.is_informational() => {
                (HttpTask::Header(head, true), true)
            }
            task => {
                let end = task.is_end();
                (task, end)
            }
        };
        if let (HttpTask::Header(head, _), Some(connection)) = (&task, &ctx.connection)
            && let Some(date) = head.headers.get(header::DATE)
        {
            connection.date.set(date.as_bytes());
        }
        let mut task = task;
        if let HttpTask::Header(head, _) = &mut task
            && !head.status.is_informational()
        {
            rate::mark(head, ctx)?;
            if let Some(hsts) = ctx.hsts() {
                head.insert_header("Strict-Transport-Security", hsts)?;
            }
        }
        session.write_response_tasks(vec![task]).await?;
        if end {
            break;
        }
    }
    ctx.response_whole = true;
    Ok(())
}

async fn next(first: &mut Option<HttpTask>, handle: &mut SubrequestHandle) -> Option<HttpTask> {
    match first.take() {
        Some(task) => Some(task),
        None => handle.rx.recv().await,
    }
}

pub(in super::super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
