//! What a route does with the requests it matches: the parts every other policy reads its rules from.
//!
//! Compiled by `config` at load, shared by all requests, never changed. Decides nothing itself.

use super::access::Access;
use super::budget::BudgetRules;
use super::cache::CachePolicy;
use super::canary::CanaryRules;
use super::concurrency::Concurrency;
use super::cors::CorsRules;
use super::encoding::CompressPolicy;
use super::error_body::ErrorPages;
use super::headers::HeaderRules;
use super::hedge::HedgeRules;
use super::jwt::TokenRules;
use super::rate::RateRules;
use super::requirement::Requirement;
use super::retry::RetryPolicy;
use super::sampling::RouteLog;
use super::target::Rewrite;
use super::template::Template;
use super::timeouts::Timeouts;
use http::{HeaderName, HeaderValue, StatusCode};
use std::path::PathBuf;
use std::time::Duration;

/// One route as running.
#[derive(Debug)]
pub struct Route {
    /// What the log calls it.
    pub name: String,
    /// Its position in the file.
    pub index: usize,
    /// Who may come in.
    pub access: Access,
    /// What a request has to have.
    pub requirement: Requirement,
    /// How those who pass have to prove who they are, if they have to.
    pub auth: Option<AuthPlan>,
    /// How often one client may ask, if that is bounded.
    pub rate_limit: Option<RateLimit>,
    /// The share of its requests that is to succeed, if somebody watches.
    pub slo: Option<f64>,
    /// Which of its requests are in the access log, where it has a say of its own.
    pub logging: Option<RouteLog>,
    /// What is done.
    pub action: Action,
    /// Edits of the response, whoever made it.
    pub response_headers: HeaderRules,
    /// What else its answers are given, whoever made them; `None` where that is nothing.
    pub answers: Option<AnswerRules>,
}

/// How people prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthPlan {
    /// By a password: the file of the users.
    Basic(PathBuf),
    /// By a token.
    Jwt(TokenRules, KeysFrom),
    /// By whatever a service knows them by.
    Forward(ForwardAuth),
}

/// A service that is asked whether a request may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardAuth {
    /// Where, by its position.
    pub upstream: usize,
    /// What is asked for there.
    pub path: String,
    /// How long that may take in all.
    pub timeout: Duration,
    /// Fields of its answer that the backend is told, and that clients cannot say.
    pub pass: Vec<HeaderName>,
    /// The one that names who it is.
    pub identity: Option<HeaderName>,
}

/// Where the keys of tokens are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysFrom {
    /// In a file; absolute.
    File(PathBuf),
    /// At an address that is asked again and again.
    Address(KeyAddress),
}

/// An address by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAddress {
    /// Whether by TLS.
    pub tls: bool,
    /// A name or an IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Both as written.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl std::fmt::Display for KeyAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// What answers are given, whoever made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRules {
    /// Whose scripts may read them, where not only those of their own origin.
    pub cors: Option<CorsRules>,
    /// Whether browsers are told to be careful.
    pub security_headers: bool,
    /// What is shown in place of our own texts; not of the upstream's.
    pub error_pages: Option<ErrorPages>,
}

impl Route {
    /// Fields that backends are told by the service that lets requests pass.
    pub fn told(&self) -> &[HeaderName] {
        match &self.auth {
            Some(AuthPlan::Forward(plan)) => &plan.pass,
            _ => &[],
        }
    }

    /// Whose scripts may read its answers, where not only those of their own origin.
    pub fn cors(&self) -> Option<&CorsRules> {
        self.answers.as_ref()?.cors.as_ref()
    }

    /// When it sends a request a second time, if ever.
    pub fn hedge(&self) -> Option<&HedgeRules> {
        match &self.action {
            Action::Proxy(proxy) => proxy.hedge.as_ref(),
            _ => None,
        }
    }

    /// How many of its requests may run at once, if that is bounded.
    pub fn concurrency(&self) -> Option<&Concurrency> {
        match &self.action {
            Action::Proxy(proxy) => proxy.concurrency.as_ref(),
            _ => None,
        }
    }

    /// Whether it hands requests to an upstream.
    pub fn is_proxied(&self) -> bool {
        matches!(self.action, Action::Proxy(_))
    }

    /// The upstream that gets a share of its requests, if any.
    pub fn canary(&self) -> Option<&Canary> {
        match &self.action {
            Action::Proxy(proxy) => proxy.canary.as_ref(),
            _ => None,
        }
    }

    /// The rules of its cache, if it has one.
    pub fn cache(&self) -> Option<&CachePolicy> {
        match &self.action {
            Action::Proxy(proxy) => proxy.cache.as_ref(),
            _ => None,
        }
    }
}

/// What is done with a request.
// Nearly every route is a `Proxy`: boxing it would cost each request a jump to save memory in the few that are not.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Action {
    /// Hand it to an upstream.
    Proxy(Proxy),
    /// Answer it at once.
    Respond(Respond),
    /// Send the client elsewhere.
    Redirect(Redirect),
}

/// Handing a request to an upstream.
#[derive(Debug)]
pub struct Proxy {
    /// Index into the snapshot's upstreams.
    pub upstream: usize,
    /// How the path changes on its way.
    pub rewrite: Rewrite,
    /// Edits of the request.
    pub request_headers: HeaderRules,
    /// When to try again.
    pub retry: RetryPolicy,
    /// How many retries all its requests together may have.
    pub budget: BudgetRules,
    /// How many tries may run at once, if that is bounded.
    pub concurrency: Option<Concurrency>,
    /// When a request that is late is sent a second time, if ever.
    pub hedge: Option<HedgeRules>,
    /// Another upstream that gets a share of the requests, if any.
    pub canary: Option<Canary>,
    /// Another upstream that gets copies of the requests, if any.
    pub mirror: Option<Mirror>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// What is kept of the answers, if anything.
    pub cache: Option<CachePolicy>,
    /// Which answers are compressed on their way to the client, if any.
    pub compress: Option<CompressPolicy>,
}

/// Another upstream that gets a share of the requests.
#[derive(Debug, Clone)]
pub struct Canary {
    /// Index into the snapshot's upstreams.
    pub upstream: usize,
    /// Its name, which stays when others are added to the file.
    pub name: String,
    /// Who stays on the side they were on.
    pub sticky: Sticky,
    /// The share, and when it is taken back.
    pub rules: CanaryRules,
}

impl Canary {
    /// Whether the file says the same of it as before.
    pub fn is_the_same(&self, before: &Canary) -> bool {
        self.name == before.name && self.sticky == before.sticky && self.rules == before.rules
    }

    /// A text that is the same in another process if the file says the same of it.
    pub fn fingerprint(&self) -> String {
        format!("{} {:?} {:?}", self.name, self.sticky, self.rules)
    }
}

/// By what clients stay on one side of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// Nobody stays: every request is counted by itself.
    None,
    /// By their address.
    ClientIp,
    /// By the value of this header field.
    Header(HeaderName),
    /// By the cookie of this name.
    Cookie(String),
}

/// Another upstream that gets copies of requests, whose answers nobody sees.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Index into the snapshot's upstreams.
    pub upstream: usize,
    /// The share of the requests that is copied, from 0.0 to 1.0.
    pub share: f64,
    /// Copies under way at most; further ones are left out.
    pub max: u32,
}

/// How often one client may ask.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// What a client is told from others by.
    pub per: RateKey,
    /// How often.
    pub rules: RateRules,
    /// How many clients are told apart at the same time.
    pub keys: u32,
}

/// What clients are told apart by where their requests are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateKey {
    /// Their address; of IPv6 the first 64 bits, which is what one site has.
    ClientIp,
    /// Their credentials: `Authorization`, as a whole. Without it, their address.
    Identity,
    /// The value of this header field. Without it, their address.
    Header(HeaderName),
    /// The cookie of this name. Without it, their address.
    Cookie(String),
}

/// A fixed answer.
#[derive(Debug)]
pub struct Respond {
    /// 200 to 599.
    pub status: StatusCode,
    /// What follows the head; none for 204 and 304.
    pub body: String,
    /// Its media type.
    pub content_type: HeaderValue,
}

/// A redirect.
#[derive(Debug)]
pub struct Redirect {
    /// The new location.
    pub to: Template,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}
