//! What a route does with the requests it matches: the parts every other policy reads its rules from.
//!
//! Compiled by `config` at load, shared by all requests, never changed. Decides nothing itself.

use super::cache::CachePolicy;
use super::encoding::CompressPolicy;
use super::headers::HeaderRules;
use super::retry::RetryPolicy;
use super::target::Rewrite;
use super::template::Template;
use super::timeouts::Timeouts;
use http::{HeaderValue, StatusCode};

/// One route as running.
#[derive(Debug)]
pub struct Route {
    /// What the log calls it.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// Edits of the response, whoever made it.
    pub response_headers: HeaderRules,
}

impl Route {
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
    /// How long to wait.
    pub timeouts: Timeouts,
    /// What is kept of the answers, if anything.
    pub cache: Option<CachePolicy>,
    /// Which answers are compressed on their way to the client, if any.
    pub compress: Option<CompressPolicy>,
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
