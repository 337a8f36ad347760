//! The way of a try to its backend: places of the route and the upstream, and a backend that is not full.
//!
//! Called by [`super`] before each try; a try that ends gives everything back, so that a wait before the next one holds
//! nothing. Who waits how long is `policy::admission`'s decision.

use super::client::Client;
use super::ctx::Ctx;
use super::{facts, wait};
use crate::clock::{self, Moment};
use crate::policy::admission::{Priority, Why};
use crate::policy::concurrency::Concurrency;
use crate::policy::target::normalise_path;
use crate::upstream::line::InLine;
use crate::upstream::places::{Place, Places};
use crate::upstream::traffic::Traffic;
use crate::upstream::{NoBackend, Picked, Reach, Upstream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

/// The places that a try holds.
#[derive(Debug, Default)]
pub(super) struct Taken {
    route: Option<Place>,
    upstream: Option<Place>,
}

/// How long a request has waited for places, over all its tries.
#[derive(Debug, Default)]
pub(super) struct Waited {
    route: Duration,
    upstream: Duration,
}

impl Waited {
    /// It goes on with another upstream, where it has not waited yet.
    pub(super) fn elsewhere(&mut self) {
        self.upstream = Duration::ZERO;
    }
}

/// When it is, while a try waits to begin: the clock is read only after something was waited for.
pub(super) struct Clock(pub(super) Moment);

/// A try that may begin.
pub(super) struct Entry {
    pub(super) picked: Picked,
    pub(super) upstream: Arc<Upstream>,
    pub(super) places: Taken,
}

/// Why a try may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Barred {
    /// Its client went away while it waited.
    ClientLeft,
    /// `total` was over while it waited.
    TimeOver,
    /// The route had no place, whichever its upstream.
    RefusedByRoute(Why),
    /// The upstream had none, or its backends are full.
    Refused(Why),
    /// No backend can be tried.
    NoBackend,
}

impl Taken {
    /// Those that a try needs, if they are free at this moment.
    pub(super) fn at_once(
        of_route: Option<&Concurrency>,
        traffic: &Traffic,
        upstream: &Upstream,
    ) -> Option<Taken> {
        let free = |places: &Arc<Places>, rules: Option<&Concurrency>| match rules {
            None => Some(None),
            Some(_) => places.take_in_passing().map(Some),
        };
        // Nobody who has to come in is overtaken by what can be left undone.
        if !upstream.line.is_empty() {
            return None;
        }
        Some(Taken {
            route: free(&traffic.places, of_route)?,
            upstream: free(&upstream.places, upstream.concurrency.as_ref())?,
        })
    }

    /// Tells both how long the try took, so that limits can find themselves.
    pub(super) fn observe(&self, latency: Duration, dropped: bool) {
        for place in [&self.route, &self.upstream].into_iter().flatten() {
            place.observe(latency, dropped);
        }
    }
}

/// Takes what the next try needs, waiting where that is allowed. A place of the route that is in `places` already stays there,
/// also when there is none at the upstream: the request may go on with another one.
///
/// # Errors
/// Why it may not begin.
pub(super) async fn enter(
    session: &mut dyn Client,
    ctx: &mut Ctx,
    places: &mut Taken,
    clock: &mut Clock,
) -> Result<Entry, Barred> {
    let Some(upstream) = ctx.upstream().cloned() else {
        return Err(Barred::NoBackend);
    };
    if upstream.is_down() && ctx.tries.is_empty() {
        // A canary's request has another upstream to go to.
        if ctx.split.is_on_canary() {
            return Err(Barred::NoBackend);
        }
        let mut comes_back = Box::pin(upstream.comes_back());
        if !in_time(session, ctx, clock, comes_back.as_mut()).await? {
            // No need to wait for a place to learn that.
            return Err(Barred::NoBackend);
        }
    }
    if places.route.is_none()
        && let (Some(proxy), Some(traffic)) = (ctx.proxy(), ctx.traffic())
        && let Some(rules) = &proxy.concurrency
    {
        let asked = clock.0;
        let priority = priority_of(rules, session);
        let place = {
            let wait = pin!(traffic.places.take(ctx.queued.route, priority));
            in_time(session, ctx, clock, wait).await?
        };
        ctx.queued.route += clock.0.since(asked);
        places.route = Some(place.map_err(Barred::RefusedByRoute)?);
    }
    let asked = clock.0;
    let picked = at_upstream(session, ctx, &upstream, places, clock).await;
    ctx.queued.upstream += clock.0.since(asked);
    Ok(Entry {
        picked: picked?,
        upstream,
        places: std::mem::take(places),
    })
}

/// Takes a place of the upstream, and one of a backend.
async fn at_upstream(
    session: &mut dyn Client,
    ctx: &mut Ctx,
    upstream: &Arc<Upstream>,
    places: &mut Taken,
    clock: &mut Clock,
) -> Result<Picked, Barred> {
    let asked = clock.0;
    if let Some(rules) = &upstream.concurrency {
        let priority = priority_of(rules, session);
        let place = {
            let wait = pin!(upstream.places.take(ctx.queued.upstream, priority));
            in_time(session, ctx, clock, wait).await?
        };
        places.upstream = Some(place.map_err(Barred::Refused)?);
    }
    let picked = pick(session, ctx, upstream, (asked, clock)).await;
    if picked.is_err() {
        places.upstream = None;
    }
    picked
}

fn priority_of(rules: &Concurrency, session: &dyn Client) -> Priority {
    if rules.priorities.is_empty() {
        return Priority::Normal;
    }
    let request = session.req_header();
    let path = normalise_path(facts::target(request)).unwrap_or_default();
    rules.priorities.of(&path, &request.headers)
}

/// Lets a wait run until the client leaves or `total` is over.
async fn in_time<T>(
    session: &mut dyn Client,
    ctx: &Ctx,
    clock: &mut Clock,
    mut wait: Pin<&mut (impl Future<Output = T> + ?Sized)>,
) -> Result<T, Barred> {
    // Mostly there is nothing to wait for, and then nothing to watch either.
    if let std::task::Poll::Ready(done) = futures::poll!(&mut wait) {
        return Ok(done);
    }
    let left = ctx.time_left();
    let done = tokio::select! {
        biased;
        done = &mut wait => Ok(done),
        () = wait::client_leaves(session) => Err(Barred::ClientLeft),
        () = tokio::time::sleep(left) => Err(Barred::TimeOver),
    };
    clock.0 = clock::moment();
    done
}

/// Picks a backend; where all are full, waits for one if the upstream has a queue: so long that it is `queue_timeout` since
/// `asked`, with what it had waited before.
async fn pick(
    session: &mut dyn Client,
    ctx: &mut Ctx,
    upstream: &Arc<Upstream>,
    (asked, clock): (Moment, &mut Clock),
) -> Result<Picked, Barred> {
    let turn = *ctx.turn.get_or_insert_with(|| upstream.take_turn());
    let reach = match ctx.tries.is_empty() {
        true => Reach::Nothing,
        false => Reach::Down,
    };
    let try_pick = |session: &dyn Client, ctx: &Ctx| {
        let key = facts::hash_key(upstream.balance(), session.req_header(), ctx.client);
        upstream.pick(&ctx.tried, turn, key.as_deref(), reach)
    };
    let queue = upstream.concurrency.as_ref();
    let queue = queue.filter(|rules| rules.admission.queue > 0);
    let patience = queue.map_or(Duration::ZERO, |rules| rules.admission.queue_timeout);
    let deadline = asked.instant() + patience.saturating_sub(ctx.queued.upstream);
    let priority = queue.map_or(Priority::Normal, |rules| priority_of(rules, session));
    let mut waiting: Option<InLine> = None;
    loop {
        let may_look = match &waiting {
            Some(waiting) => waiting.is_first(),
            None => queue.is_none() || upstream.line.lets_by(priority),
        };
        if may_look {
            match try_pick(session, ctx) {
                Ok(picked) => return Ok(picked),
                Err(NoBackend::Down) => return Err(Barred::NoBackend),
                Err(NoBackend::Full) => {}
            }
        }
        if queue.is_none() {
            return Err(Barred::Refused(Why::QueueFull));
        }
        // What became free before it stood in line is seen by looking once more.
        let Some(waiting) = &waiting else {
            waiting = Some(upstream.line.join(priority));
            continue;
        };
        let mut wait = Box::pin(tokio::time::timeout_at(deadline.into(), waiting.called()));
        if in_time(session, ctx, clock, wait.as_mut()).await?.is_err() {
            return Err(Barred::Refused(Why::TimedOut));
        }
    }
}
