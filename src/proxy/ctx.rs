//! What one request carries through the phases: the snapshot it was born under, its tries, its deadlines.
//!
//! Filled in by `front`, `direct` and Pingora's callbacks, read by the access log. Decides nothing.

use super::authenticate::Gate;
use super::body::Room;
use super::caching;
use super::caching::fill::{Job, Report};
use super::caching::passing_by::PartComing;
use super::compress::Encoder;
use super::content::Shape;
use super::entry::{Taken, Waited};
use super::mirror;
use super::rate;
use super::snapshot::Local;
use super::split::Split;
use super::watch::Watch;
use crate::cache::key::Key;
use crate::clock::{self, Moment};
use crate::policy::adaptive;
use crate::policy::balancer::Tried;
use crate::policy::budget::Spent;
use crate::policy::health::Observation;
use crate::policy::outcome::Outcome;
use crate::policy::retry::{Failure, Reason, Verdict};
use crate::policy::route::{Action, AnswerRules, Canary, Proxy, Route};
use crate::policy::timeouts::{Limit, Timeouts};
use crate::policy::trace::Trace;
use crate::server::connection::{Connection, Secured};
use crate::server::listener::Manner;
use crate::upstream::own::Own;
use crate::upstream::standing::Begun;
use crate::upstream::traffic::Traffic;
use crate::upstream::{Active, Backend, Upstream};
use http::{HeaderName, HeaderValue, StatusCode};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a client may take for the next piece of a request that was already answered.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// The state of one request. Made for each: what few of them have is in a box, so that it stays below 1 KiB, up to which the
/// allocator is fast.
pub struct Ctx {
    pub(super) snapshot: Arc<Local>,
    pub(super) watch: Arc<Watch>,
    /// The connection the request came on, if that is HTTP/1.
    pub(super) connection: Option<Arc<Connection>>,
    pub(super) client: Option<IpAddr>,
    /// The proxies it came through that are believed, the nearest last; empty if it came straight.
    pub(super) hops: Vec<IpAddr>,
    /// Whether it is known who is at the other end of its connection.
    pub(super) is_named: bool,
    /// Who it is, where that was proved, and how.
    pub(super) verified: Option<(String, &'static str)>,
    /// What its backend is told of it by the service that let it pass; `None` for what nobody says.
    pub(super) told: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Why it was not let through.
    pub(super) refused: Option<&'static str>,
    /// Whether that is because it is no request, or could hide another one.
    pub(super) is_malformed: bool,
    /// The target as the client wrote it, where that is not the one that was followed.
    pub(super) asked: Option<String>,
    /// Whether it cannot be said where its body ends.
    pub(super) body_unknown: bool,
    /// Whether there is content, as far as was known when its head was read.
    pub(super) has_content: bool,
    /// Bytes of its body that came so far.
    pub(super) body_seen: u64,
    /// How its listener serves; none for what is no client's.
    pub(super) manner: Option<Own<Manner>>,
    /// What TLS agreed on, where that is spoken.
    pub(super) secured: Option<Arc<Secured>>,
    /// That of what is asked for (RFC 9110 §4.2): backends are told, and answers are stored under it.
    pub(super) scheme: &'static str,
    pub(super) request_id: String,
    /// Its place in its trace, where there are traces.
    pub(super) trace: Option<Trace>,
    pub(super) route: Option<Own<Route>>,
    /// Whether the request carries `Idempotency-Key`.
    pub(super) idempotency_key: bool,
    /// Where its client stands, where the route limits how often it may ask.
    pub(super) rate: Option<rate::Standing>,
    /// How far it is with its route's split.
    pub(super) split: Split,
    /// This request's turn at its upstream, once it has one.
    pub(super) turn: Option<u64>,
    /// How often each backend was tried and failed.
    pub(super) tried: Tried,
    /// The tries that ended.
    pub(super) tries: Vec<Try>,
    /// The one under way.
    pub(super) current: Option<Current>,
    /// One beside it that failed.
    pub(super) lost: Option<Box<Try>>,
    /// Those beside that it overtook, which count as none.
    pub(super) overtaken: Vec<Try>,
    /// A failure after which there was hope for another one that was under way.
    pub(super) hoped: Option<(Failure, End)>,
    /// The pause before the next one.
    pub(super) wait: Duration,
    /// What it has waited for places so far.
    pub(super) queued: Waited,
    /// What that took of the route's retry budget.
    pub(super) charged: Option<Spent>,
    /// The verdict on a response that counts as a failure, until Pingora's loop asks for it.
    pub(super) verdict: Option<Verdict>,
    /// The limit the armed deadline stands for.
    pub(super) limit: Limit,
    /// The request body that has passed, if it is to be copied.
    pub(super) passing: Option<Box<mirror::Passing>>,
    /// Whether all of the request body is held for replay.
    pub(super) body_held: bool,
    /// What that takes of the room there is.
    pub(super) room: Room,
    /// Whether the client was told to send its content, as its backend cannot tell it.
    pub(super) told_to_go_on: bool,
    /// How long its client waits for it, where it says so.
    pub(super) patience: Option<Duration>,
    /// Whether the body's beginning was read ahead and can be sent only once.
    pub(super) body_partly_taken: bool,
    /// Whether the head of the request went to a backend, in this or an earlier try.
    pub(super) sent: bool,
    /// Whether the backend switched protocols: no deadlines of ours from then on, and nothing to answer or repeat.
    pub(super) tunnel: bool,
    /// Whether the last byte of the response was handed on.
    pub(super) response_whole: bool,
    /// What the front already looked for in the cache, in vain.
    pub(super) key: Option<Key>,
    /// What became of the request at its route's cache, where it has one.
    pub(super) cache: Option<caching::Outcome>,
    /// What this request fills, if it is a fill and no client's.
    pub(super) fill: Option<Box<Job>>,
    /// What the fill that this request began did.
    pub(super) report: Option<Arc<Mutex<Report>>>,
    /// Whether its tries were those of the fill, which counts them.
    pub(super) filled_by_another: bool,
    /// What compresses the answer on its way out, and whether each piece is to come out at once.
    pub(super) encoder: Option<Box<(Encoder, bool)>>,
    /// A part of an answer that is kept as it passes.
    pub(super) part: Option<Box<PartComing>>,
    /// Whether its client is told nothing.
    pub(super) dropped: bool,
    /// Whether Pingora's phases have it, which ask the session what was sent.
    pub(super) in_phases: bool,
    /// Status and body bytes of an answer that was sent beside the session.
    pub(super) sent_at_once: Option<(StatusCode, usize)>,
    /// Bytes of the head of that.
    pub(super) head_at_once: usize,
    pub(super) client_left: bool,
    /// Whether an answer of ours was written whole, so that the connection can serve on.
    pub(super) answered_here: bool,
    /// Why there was no further try; the log's `retry`.
    pub(super) reason: Option<Reason>,
    /// How the request ended, when no upstream's answer went through.
    pub(super) end: Option<End>,
}

/// A try under way.
pub(super) struct Current {
    /// Whether it needs HTTP/1.1 where HTTP/2 is spoken.
    pub(super) is_odd: bool,
    /// The backend's position in its upstream.
    pub(super) index: usize,
    pub(super) address: SocketAddr,
    pub(super) upstream: Arc<Upstream>,
    pub(super) active: Active,
    /// Those it holds, of the route and of the upstream.
    pub(super) places: Taken,
    pub(super) started: Moment,
    /// The name of its span, where there are traces.
    pub(super) span: u64,
    pub(super) waited: Duration,
    /// How long it waited for its places.
    pub(super) queued: Duration,
    /// Whether it was a second request, whose connection was made before it took the place of the first.
    pub(super) took_over: bool,
    /// A connection was made, so long after the try began.
    pub(super) connected: Option<Duration>,
    /// A response head came, so long after the try began.
    pub(super) answered: Option<(StatusCode, Duration)>,
    /// Who was told already, at the head of its answer, that it is good.
    pub(super) told: Told,
}

/// Who was told of an answer that is good so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Nobody,
    /// The backend: that is the end of a trial.
    Backend,
    /// All who are told of tries. Whatever follows still says something of the backend; to the split, the request was good.
    All,
}

impl Current {
    /// Tells `places`, those it holds, how long it took, where that says something of the load.
    fn tell_limits(&self, places: &Taken, latency: Duration) {
        let status = self.answered.map(|(status, _)| status.as_u16());
        if let Some(dropped) = adaptive::speaks_of_load(status) {
            places.observe(latency, dropped);
        }
    }

    /// Tells the backend, the limits and the split what the try met; nobody is told twice that it is good.
    pub(super) fn observe(&self, ctx: &Ctx, seen: Observation) {
        let is_good = matches!(seen, Observation::Good(_));
        if !is_good || self.told == Told::Nobody {
            self.upstream.observe(self.index, &self.active, seen);
        }
        if self.told < Told::All {
            self.tell_others(ctx, seen);
        }
    }

    fn tell_others(&self, ctx: &Ctx, seen: Observation) {
        let (good, latency) = match seen {
            Observation::Good(latency) | Observation::Late(latency) => (true, latency),
            Observation::Failed | Observation::ConnectFailed => (false, self.started.elapsed()),
        };
        if let (Observation::Good(latency), Some(traffic)) = (seen, ctx.traffic()) {
            // What overtook another one has not begun when the request did.
            let late = ctx.tries.last().filter(|t| t.outcome == Outcome::Hedged);
            traffic.answered_in(late.map_or(latency, |late| late.took));
        }
        if !good {
            // An answer that goes to the client tells the limits of itself when it ends.
            self.tell_limits(&self.places, latency);
        }
        // What a further try meets says nothing of the side that the request began on.
        if let (Some(side), Some(traffic), true) =
            (ctx.split.side(), ctx.traffic(), ctx.tries.is_empty())
        {
            traffic.split_saw(side, good, latency);
        }
    }

    /// The try as if it ended now, and well.
    pub(super) fn so_far(&self) -> Try {
        Try {
            backend: self.active.backend().clone(),
            outcome: Outcome::Ok,
            span: self.span,
            started: self.started,
            took: self.started.elapsed(),
            waited: self.waited,
            queued: self.queued,
            connected: self.connected,
            answered: self.answered.map(|(_, latency)| latency),
            status: self.answered.map(|(status, _)| status),
        }
    }
}

/// A try that ended.
#[derive(Debug, Clone)]
pub struct Try {
    /// Where it went.
    pub backend: Own<Backend>,
    /// What came of it.
    pub outcome: Outcome,
    /// The name of its span, where there are traces.
    pub span: u64,
    /// When it began.
    pub started: Moment,
    /// How long it took, the wait before it not included.
    pub took: Duration,
    /// The wait before it.
    pub waited: Duration,
    /// The wait for a place, after that one.
    pub queued: Duration,
    /// From its beginning until a connection was made, if one was made for it.
    pub connected: Option<Duration>,
    /// From its beginning until the head of an answer came.
    pub answered: Option<Duration>,
    /// The status of that.
    pub status: Option<StatusCode>,
}

/// A request's end that is not an upstream's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// What the client gets.
    pub(super) status: StatusCode,
    /// The `error` of `Proxy-Status` (RFC 9209 §2.3).
    pub(super) proxy_error: &'static str,
    /// Its `details`: for a timeout, the configuration's word for the limit that passed.
    pub(super) details: Option<&'static str>,
}

const _: () = assert!(
    size_of::<Ctx>() <= 1024,
    "see Ctx: what few requests have belongs in a box"
);

impl Ctx {
    pub(super) fn new(snapshot: Arc<Local>, watch: Watch) -> Self {
        Ctx {
            snapshot,
            watch: Arc::new(watch),
            connection: None,
            client: None,
            hops: Vec::new(),
            is_named: true,
            verified: None,
            told: Vec::new(),
            refused: None,
            is_malformed: false,
            asked: None,
            body_unknown: false,
            has_content: false,
            body_seen: 0,
            manner: None,
            secured: None,
            scheme: "http",
            request_id: String::new(),
            trace: None,
            route: None,
            idempotency_key: false,
            told_to_go_on: false,
            patience: None,
            rate: None,
            split: Split::Open,
            turn: None,
            tried: Tried::default(),
            tries: Vec::new(),
            current: None,
            lost: None,
            overtaken: Vec::new(),
            hoped: None,
            wait: Duration::ZERO,
            queued: Waited::default(),
            passing: None,
            charged: None,
            verdict: None,
            limit: Limit::Total,
            body_held: false,
            room: Room::default(),
            body_partly_taken: false,
            sent: false,
            tunnel: false,
            response_whole: false,
            key: None,
            cache: None,
            fill: None,
            report: None,
            filled_by_another: false,
            part: None,
            encoder: None,
            dropped: false,
            in_phases: false,
            sent_at_once: None,
            head_at_once: 0,
            client_left: false,
            answered_here: false,
            reason: None,
            end: None,
        }
    }

    /// The route's rules for handing the request on, when that is what it does.
    pub(super) fn proxy(&self) -> Option<&Proxy> {
        match &self.route.as_deref()?.action {
            Action::Proxy(proxy) => Some(proxy),
            _ => None,
        }
    }

    /// A name for the span of a try, where there are traces.
    pub(super) fn new_span(&self) -> u64 {
        self.trace.map_or(0, |_| fastrand::u64(1..))
    }

    /// The limits of its route, and of its client's patience.
    pub(super) fn timeouts(&self) -> Option<Timeouts> {
        let mut timeouts = self.proxy()?.timeouts;
        if let Some(patience) = self.patience {
            timeouts.total = timeouts.total.min(patience);
        }
        Some(timeouts)
    }

    /// Whether it is its client's patience that is over, not the time that its route gives it.
    pub(super) fn ran_out_of_patience(&self) -> bool {
        let route = self.proxy().map(|proxy| proxy.timeouts.total);
        self.limit == Limit::Total && self.patience.zip(route).is_some_and(|(own, all)| own < all)
    }

    /// Whether all of the response is here, as far as is known.
    pub(super) fn is_whole(&self) -> bool {
        self.response_whole || self.watch.has_ended()
    }

    /// What is left of its time; nothing without an upstream.
    pub(super) fn time_left(&self) -> Duration {
        self.time_left_at(clock::moment())
    }

    /// The same, as it is then.
    pub(super) fn time_left_at(&self, now: Moment) -> Duration {
        let elapsed = self.watch.lasted(now);
        let timeouts = self.timeouts();
        timeouts.map_or(Duration::ZERO, |t| t.left(elapsed))
    }

    /// What its answers are given, whoever makes them: by its route or, where it has none, by the defaults.
    pub(super) fn answer_rules(&self) -> Option<&AnswerRules> {
        match self.route.as_deref() {
            Some(route) => route.answers.as_ref(),
            None => self.snapshot.unrouted.as_ref(),
        }
    }

    /// The subject of the certificate that its client showed, and that was found good.
    pub(super) fn client_cert(&self) -> Option<&str> {
        self.secured.as_ref()?.client_cert.as_deref()
    }

    /// The value of `Strict-Transport-Security`, where that is sent.
    pub(super) fn hsts(&self) -> Option<&str> {
        self.manner.as_ref()?.hsts()
    }

    /// The upstream it goes to: that of its route, or its canary.
    pub(super) fn upstream(&self) -> Option<&Arc<Upstream>> {
        let own = self.proxy()?.upstream;
        let index = self.canary().map_or(own, |canary| canary.upstream);
        self.snapshot.upstreams.get(index)
    }

    /// The canary, if it is that one's.
    pub(super) fn canary(&self) -> Option<&Canary> {
        let route = self.route.as_deref().filter(|_| self.split.is_on_canary());
        route?.canary()
    }

    /// What is known of its route's traffic.
    pub(super) fn traffic(&self) -> Option<&Arc<Traffic>> {
        self.snapshot.traffic.get(self.route.as_deref()?.index)
    }

    /// What its content has to be, if there is some.
    pub(super) fn shape(&self) -> Option<&Arc<Shape>> {
        let entrance = self.snapshot.entrances.get(self.route.as_deref()?.index)?;
        entrance.shape.as_ref()
    }

    /// Who may pass its route, if not everybody.
    pub(super) fn gate(&self) -> Option<&Gate> {
        let entrance = self.snapshot.entrances.get(self.route.as_deref()?.index)?;
        entrance.gate.as_ref()
    }

    /// Tries so far, the one under way included.
    pub(super) fn tries_made(&self) -> u32 {
        let ended = u32::try_from(self.tries.len()).unwrap_or(u32::MAX);
        let others = u32::from(self.current.is_some()) + u32::from(self.lost.is_some());
        ended.saturating_add(others)
    }

    /// The try under way got a response head.
    pub(super) fn note_answer(&mut self, status: StatusCode) {
        if let Some(current) = &mut self.current {
            current.answered = Some((status, current.started.elapsed()));
        }
    }

    /// There is a connection for the try under way, made for it.
    pub(super) fn note_connection(&mut self) {
        if let Some(current) = &mut self.current
            && !current.took_over
        {
            current.connected = Some(current.started.elapsed());
        }
    }

    /// Tells the backend whether a connection could be made.
    pub(super) fn connected(&self, made: bool) {
        if let Some(current) = &self.current {
            current.active.backend().connected(current.address, made);
        }
    }

    /// A trial ends with the head of a good answer, for what follows may take for ever. So does any try whose answer is a
    /// stream without an end of its own: who waited for that would learn nothing of a backend that serves nothing else.
    pub(super) fn tell_head(&mut self, is_stream: bool) {
        let Some(mut current) = self.current.take() else {
            return;
        };
        if let Some((_, latency)) = current.answered {
            let good = Observation::Good(latency);
            if is_stream {
                current.observe(self, good);
                current.told = Told::All;
            } else if current.active.begun() == Begun::Trial {
                let upstream = &current.upstream;
                upstream.observe(current.index, &current.active, good);
                current.told = Told::Backend;
            }
        }
        self.current = Some(current);
    }

    /// The client left in the middle of an answer whose beginning was good.
    pub(super) fn tell_left(&mut self) {
        let Some(current) = &self.current else { return };
        let good = matches!(self.reason, Some(Reason::Answered));
        if let (true, Some((_, latency))) = (good, current.answered) {
            current.observe(self, Observation::Good(latency));
        }
    }

    /// The backend has sent all of its response: its places are free before the client can hear of the end.
    pub(super) fn release(&mut self) {
        let Some(mut current) = self.current.take() else {
            return;
        };
        let places = std::mem::take(&mut current.places);
        if let Some((_, latency)) = current.answered {
            current.tell_limits(&places, latency);
        }
        drop(places);
        current.active.end();
        self.current = Some(current);
    }

    /// It ended, and nothing but its line is still to be made: what that does not need goes at once.
    pub(super) fn let_go(&mut self) {
        self.connection = None;
        self.current = None;
        self.part = None;
        self.room = Room::default();
        if let Some(outcome) = &mut self.cache {
            outcome.served = None;
        }
    }

    /// Something went through the tunnel: it may be silent for so long from now on.
    pub(super) fn tunnel_speaks(&self) {
        let Some(proxy) = self.proxy() else { return };
        let silence = proxy.timeouts.websocket;
        let until = self.watch.elapsed().saturating_add(silence);
        self.watch.arm(Some(until), Some(silence));
    }

    /// All of the response is here, whether or not the client has it.
    pub(super) fn came_whole(&mut self) {
        self.has_come();
        self.linger();
    }

    /// The same where the request was whole before.
    pub(super) fn has_come(&mut self) {
        self.response_whole = true;
        self.release();
    }

    /// The response is whole: for a while the client may go on sending its request.
    pub(super) fn linger(&self) {
        self.watch.arm(Some(self.watch.elapsed() + LINGER), None);
    }

    /// Ends the try under way, which is to be followed by another, on another backend if there is one.
    pub(super) fn end_try_before_retry(&mut self, failure: Failure, wait: Duration) {
        if let Some(current) = &self.current {
            self.tried.add(current.index);
        }
        self.wait = wait;
        self.end_try(Outcome::Failed(failure));
    }

    /// Notes the try beside the one under way, if there was one that failed.
    pub(super) fn note_lost(&mut self) {
        if let Some(lost) = self.lost.take() {
            self.note(*lost);
        }
    }

    fn note(&mut self, ended: Try) {
        ended.backend.count_outcome(ended.outcome);
        // Most requests have one.
        self.tries.reserve_exact(1);
        self.tries.push(ended);
    }

    /// Ends the try under way.
    pub(super) fn end_try(&mut self, outcome: Outcome) {
        self.note_lost();
        if let Some(current) = self.current.take() {
            self.note(Try {
                backend: current.active.backend().clone(),
                outcome,
                span: current.span,
                started: current.started,
                took: current.started.elapsed(),
                waited: current.waited,
                queued: current.queued,
                connected: current.connected,
                answered: current.answered.map(|(_, latency)| latency),
                status: current.answered.map(|(status, _)| status),
            });
        }
    }
}
