//! Whether a failed try is followed by another, after which wait, and why (not).
//!
//! Pure: `proxy/` fills in an [`Attempt`] after each failed try and obeys the [`Verdict`]. The reason in it is what the
//! access log shows under `retry`. Method rules follow RFC 9110 §9.2.2.

use super::admission::Why;
use http::{Method, StatusCode};
use std::time::Duration;

/// A route's rules for further tries.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Tries in all, the first included; at least 1. May exceed the number of backends.
    pub tries: u32,
    /// The pause before a retry.
    pub wait: Wait,
    /// Which failures are retried.
    pub on: Conditions,
    /// Which methods may be sent again once a backend may have seen the request.
    pub methods: Methods,
    /// The longest pause an upstream's `Retry-After` can ask for.
    pub max_wait: Duration,
    /// Request bodies up to this many bytes are kept for replay.
    pub max_body: usize,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            tries: 3,
            wait: Wait::Fixed(Duration::from_millis(100)),
            on: Conditions::default(),
            methods: Methods::Idempotent,
            max_wait: Duration::from_secs(10),
            max_body: 1024 * 1024,
        }
    }
}

/// The pause before a retry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wait {
    /// The same each time.
    Fixed(Duration),
    /// `initial`, doubled for each further retry up to `max`; `jitter` (0.0 to 1.0) is the share of it that is left to chance.
    Growing {
        /// Before the first retry.
        initial: Duration,
        /// Never longer than this.
        max: Duration,
        /// The random share: 0.2 spreads a wait of 1 s over 0.8 s to 1 s.
        jitter: f64,
    },
}

impl Wait {
    /// The pause after the failed try number `try_number` (from 1), with `chance` in 0.0..1.0.
    pub fn after(&self, try_number: u32, chance: f64) -> Duration {
        match *self {
            Wait::Fixed(wait) => wait,
            Wait::Growing {
                initial,
                max,
                jitter,
            } => {
                let doublings = try_number.saturating_sub(1).min(31);
                let full = initial.saturating_mul(1 << doublings).min(max);
                full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0))
            }
        }
    }
}

/// Which failures are retried. A failure counts as listed when its own word is, or the status that a client would get for
/// it: 502 covers failed connects and resets, 504 covers timeouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// Statuses, each in 400..=599, sorted.
    pub statuses: Vec<u16>,
    /// Failures to connect.
    pub connect_failure: bool,
    /// Connections that broke before the response head was whole, and responses that were not HTTP.
    pub reset: bool,
    /// No connection or no response in time.
    pub timeout: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions {
            statuses: vec![500, 502, 503, 504],
            connect_failure: true,
            reset: true,
            timeout: true,
        }
    }
}

impl Conditions {
    /// Whether a response with this status is to be tried again.
    pub fn lists_status(&self, status: u16) -> bool {
        self.statuses.binary_search(&status).is_ok()
    }

    /// Whether this failure is to be tried again.
    pub fn lists(&self, failure: Failure) -> bool {
        match failure {
            Failure::Status(status) => self.lists_status(status.as_u16()),
            Failure::ConnectFailure => self.connect_failure || self.lists_status(502),
            Failure::Reset | Failure::Refused => self.reset || self.lists_status(502),
            Failure::ConnectTimeout | Failure::Timeout => self.timeout || self.lists_status(504),
        }
    }
}

/// Which methods may be sent a second time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    /// Those that RFC 9110 §9.2.2 calls idempotent.
    Idempotent,
    /// All of them: the operator vouches that the upstream can take it.
    Any,
    /// These and no others.
    Only(Vec<Method>),
}

impl Methods {
    /// Whether a request with this method may be repeated after a backend may have seen it.
    pub fn allow(&self, method: &Method) -> bool {
        match self {
            Methods::Idempotent => method.is_idempotent(),
            Methods::Any => true,
            Methods::Only(list) => list.contains(method),
        }
    }
}

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The backend answered with this status.
    Status(StatusCode),
    /// No connection was made; nothing was sent.
    ConnectFailure,
    /// No connection was made in time; nothing was sent.
    ConnectTimeout,
    /// The connection broke, or what came was not HTTP, before the response head was whole.
    Reset,
    /// The response head did not come in time.
    Timeout,
    /// The backend says that it did not look at the request (RFC 9113 §8.7): it may be sent again whatever it is.
    Refused,
}

impl Failure {
    /// Whether the backend cannot have seen any of the request.
    pub fn nothing_was_sent(self) -> bool {
        matches!(self, Failure::ConnectFailure | Failure::ConnectTimeout)
    }

    /// Whether it cannot have done any of it either.
    pub fn nothing_was_done(self) -> bool {
        self.nothing_was_sent() || self == Failure::Refused
    }
}

/// Whether the request body can be sent again from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none, or all of it is held, or nothing of it was taken yet.
    Replayable,
    /// It is larger than `max_body`, and some of it is gone.
    TooLarge,
    /// The client has not sent all of it yet, and some of it is gone.
    Unfinished,
}

/// The facts of one failed try.
#[derive(Debug, Clone)]
pub struct Attempt<'a> {
    /// Which try it was, from 1.
    pub number: u32,
    /// How it failed.
    pub failure: Failure,
    /// The request's method.
    pub method: &'a Method,
    /// Whether the request carries `Idempotency-Key`.
    pub idempotency_key: bool,
    /// Whether the body can be replayed.
    pub body: Body,
    /// Whether a byte of a final response went to the client.
    pub response_started: bool,
    /// Whether the client is known to have gone.
    pub client_left: bool,
    /// `Retry-After` of a failed response, if it was there and understood.
    pub retry_after: Option<Duration>,
    /// What is left of the route's `total`.
    pub time_left: Duration,
    /// Chance in 0.0..1.0, for jitter.
    pub chance: f64,
}

/// What to do after a failed try.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Try again after this pause.
    Retry(Duration),
    /// Let the failure stand.
    GiveUp(Reason),
}

/// Why there was no further try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An answer that needs no retry came.
    Answered,
    /// The failure is not among those listed in `on`.
    NotListed,
    /// All `tries` were made.
    TriesUsedUp,
    /// The method may not be repeated once a backend may have seen the request.
    MethodNotIdempotent,
    /// The same, because the route lists methods and this is none of them.
    MethodNotListed,
    /// The body exceeds `max_body`.
    BodyTooLarge,
    /// The client is still sending the body.
    BodyUnfinished,
    /// Part of the response already went to the client.
    ResponseStarted,
    /// The client has gone.
    ClientLeft,
    /// The wait and a further try do not fit into `total`.
    TotalTimeout,
    /// The route's retries are used up for the moment: see `policy::budget`.
    BudgetSpent,
    /// No backend can be tried.
    NoBackend,
    /// No place was free, or none in time: see `policy::admission`.
    Refused(Why),
}

impl Reason {
    /// The access log's word.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Answered => "answered",
            Reason::NotListed => "not_listed",
            Reason::TriesUsedUp => "tries_used_up",
            Reason::MethodNotIdempotent => "method_not_idempotent",
            Reason::MethodNotListed => "method_not_listed",
            Reason::BodyTooLarge => "body_too_large",
            Reason::BodyUnfinished => "body_unfinished",
            Reason::ResponseStarted => "response_started",
            Reason::ClientLeft => "client_left",
            Reason::TotalTimeout => "total_timeout",
            Reason::BudgetSpent => "budget_spent",
            Reason::NoBackend => "no_backend",
            Reason::Refused(why) => why.word(),
        }
    }
}

/// Judges one failed try. The order of the checks is the order of importance of the reasons: what can never be retried
/// first, then what the operator asked for, then what time allows.
pub fn decide(policy: &RetryPolicy, attempt: &Attempt<'_>) -> Verdict {
    use Verdict::GiveUp;
    if attempt.client_left {
        return GiveUp(Reason::ClientLeft);
    }
    if attempt.response_started {
        return GiveUp(Reason::ResponseStarted);
    }
    if !policy.on.lists(attempt.failure) {
        return GiveUp(Reason::NotListed);
    }
    let repeatable = attempt.failure.nothing_was_done()
        || attempt.idempotency_key
        || policy.methods.allow(attempt.method);
    if !repeatable {
        return GiveUp(match policy.methods {
            Methods::Only(_) => Reason::MethodNotListed,
            Methods::Idempotent | Methods::Any => Reason::MethodNotIdempotent,
        });
    }
    match attempt.body {
        Body::Replayable => {}
        Body::TooLarge => return GiveUp(Reason::BodyTooLarge),
        Body::Unfinished => return GiveUp(Reason::BodyUnfinished),
    }
    if attempt.number >= policy.tries {
        return GiveUp(Reason::TriesUsedUp);
    }
    let own = policy.wait.after(attempt.number, attempt.chance);
    let asked = attempt.retry_after.unwrap_or_default().min(policy.max_wait);
    let wait = own.max(asked);
    if wait >= attempt.time_left {
        return GiveUp(Reason::TotalTimeout);
    }
    Verdict::Retry(wait)
}

/// Whether a retry counts against the route's budget. The one after a failed connection costs nobody anything while there is a
/// backend that was not tried yet (`untried`): what could not be reached has no work of it, and the other one gets the request
/// for the first time.
pub fn is_charged(failure: Failure, untried: bool) -> bool {
    !(failure.nothing_was_done() && untried)
}

/// Whether a failed response can possibly be followed by another try, asked before the response is seen by anyone, so
/// that the body of a request that can never be repeated is not kept.
pub fn may_repeat(policy: &RetryPolicy, method: &Method, idempotency_key: bool) -> bool {
    policy.tries > 1 && (idempotency_key || policy.methods.allow(method))
}

/// Reads `Retry-After` in its form of whole seconds (RFC 9110 §10.2.3); `now` in seconds since 1970 serves its date form,
/// which `parse_date` reads.
pub fn retry_after(
    value: &str,
    now: u64,
    parse_date: impl FnOnce(&str) -> Option<u64>,
) -> Option<Duration> {
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    if value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds still mean "very long"; `max_wait` bounds it.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    parse_date(value).map(|then| Duration::from_secs(then.saturating_sub(now)))
}

#[cfg(test)]
mod tests;
