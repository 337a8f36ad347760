//! `routes` and `defaults`, as written.
//!
//! [`RouteSpec::over`] merges a route with the defaults; `config::compile` checks and compiles what comes of it.

use super::access::{Entry, Lists};
use super::access_log::RouteLogSpec;
use super::answers::AnswersSpec;
use super::auth::AuthSpec;
use super::cache::CacheSpec;
use super::canary::{CanarySpec, MirrorSpec};
use super::compress::CompressSpec;
use super::concurrency::ConcurrencySpec;
use super::cors::CorsSpec;
use super::error_pages::{ErrorPagesSpec, PageFiles};
use super::fault::mismatch;
use super::headers::{EditsSpec, HeadersSpec, ValueText};
use super::hedge::HedgeSpec;
use super::number::Bounded;
use super::patterns::{
    ExactPathText, HostText, MethodText, PathText, RouteName, TargetText, UpstreamName,
};
use super::percentage::Percentage;
use super::rate_limit::RateLimitSpec;
use super::require::RequireSpec;
use super::retry::RetrySpec;
use super::switch::Switch;
use super::timeouts::TimeoutsSpec;
use super::written::{Complaint, Written, written};
use crate::policy::cache::Per;
use crate::policy::headers::HeaderRules;
use crate::policy::route::{Action, Proxy, Redirect, Respond, Route};
use crate::policy::router::{HostPattern, PathPattern, RouteMatch};
use crate::policy::target::Rewrite;
use http::{HeaderValue, StatusCode};
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

/// `defaults`: what routes share.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with upstream, allow, deny, require, auth, slo, access_log, retry, timeouts, hedge, concurrency, rate_limit, cache, compress, cors, security_headers, error_pages and headers"
)]
pub(crate) struct DefaultsSpec {
    pub(crate) upstream: Option<UpstreamName>,
    pub(crate) allow: Option<Vec<Entry>>,
    pub(crate) deny: Option<Vec<Entry>>,
    pub(crate) require: Option<Switch<RequireSpec>>,
    pub(crate) auth: Option<Switch<AuthSpec>>,
    pub(crate) slo: Option<Percentage>,
    pub(crate) access_log: Option<Switch<RouteLogSpec>>,
    pub(crate) retry: Option<RetrySpec>,
    pub(crate) timeouts: Option<TimeoutsSpec>,
    pub(crate) hedge: Option<Switch<HedgeSpec>>,
    pub(crate) concurrency: Option<Switch<ConcurrencySpec>>,
    pub(crate) rate_limit: Option<Switch<RateLimitSpec>>,
    pub(crate) cache: Option<CacheSpec>,
    pub(crate) compress: Option<CompressSpec>,
    pub(crate) cors: Option<Switch<CorsSpec>>,
    pub(crate) security_headers: Option<bool>,
    pub(crate) error_pages: Option<Switch<ErrorPagesSpec>>,
    pub(crate) headers: Option<HeadersSpec>,
}

/// One entry of `routes`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { match: { path: / }, upstream: NAME }"
)]
pub(crate) struct RouteSpec {
    pub(crate) name: Option<RouteName>,
    pub(crate) r#match: Option<MatchSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream: Option<UpstreamName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) respond: Option<RespondSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redirect: Option<RedirectSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allow: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deny: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) require: Option<Switch<RequireSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth: Option<Switch<AuthSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slo: Option<Percentage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access_log: Option<Switch<RouteLogSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) strip_prefix: Option<PathText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) set_path: Option<TargetText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) headers: Option<HeadersSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<RetrySpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeouts: Option<TimeoutsSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hedge: Option<Switch<HedgeSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<Switch<ConcurrencySpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limit: Option<Switch<RateLimitSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) canary: Option<CanarySpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mirror: Option<MirrorSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<CacheSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compress: Option<CompressSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cors: Option<Switch<CorsSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) security_headers: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_pages: Option<Switch<ErrorPagesSpec>>,
}

/// `match`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { host: api.example.com, path: / }"
)]
pub(crate) struct MatchSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<HostText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<PathText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exact_path: Option<ExactPathText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) methods: Option<Vec<MethodText>>,
}

impl MatchSpec {
    /// What the router takes.
    pub(crate) fn compile(&self) -> RouteMatch {
        let methods = self.methods.iter().flatten().map(|m| m.0.clone());
        RouteMatch {
            host: self
                .host
                .as_ref()
                .map_or(HostPattern::Any, HostText::pattern),
            path: match &self.exact_path {
                Some(path) => PathPattern::Exact(path.0.clone()),
                None => PathPattern::Prefix(self.path().to_string()),
            },
            methods: methods.collect(),
        }
    }

    /// The path, whichever way it is matched.
    pub(crate) fn path(&self) -> &str {
        match (&self.exact_path, &self.path) {
            (Some(exact), _) => &exact.0,
            (None, Some(prefix)) => &prefix.0,
            (None, None) => "/",
        }
    }

    /// What a route is called that has no name: `<host or *><path>`.
    pub(crate) fn name(&self) -> String {
        match &self.host {
            Some(host) => format!("{host}{}", self.path()),
            None => format!("*{}", self.path()),
        }
    }

    /// The same for a route of which there is another with that name.
    pub(crate) fn longer_name(&self) -> String {
        let exact = if self.exact_path.is_some() {
            " exact"
        } else {
            ""
        };
        let methods: String = self
            .methods
            .iter()
            .flatten()
            .map(|method| format!(" {method}"))
            .collect();
        format!("{}{exact}{methods}", self.name())
    }
}

/// `respond`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping such as { status: 404 }")]
pub(crate) struct RespondSpec {
    pub(crate) status: Bounded<200, 599>,
    pub(crate) body: Option<String>,
    pub(crate) content_type: Option<MediaType>,
}

/// A media type.
#[derive(Debug, Clone)]
pub(crate) struct MediaType(pub(crate) HeaderValue, String);

impl MediaType {
    /// `text/plain`.
    pub(crate) fn plain() -> Self {
        let plain = "text/plain";
        MediaType(HeaderValue::from_static(plain), plain.to_string())
    }
}

impl Written for MediaType {
    const EXPECTED: &'static str = "a media type such as text/plain";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b);
        let essence = word.split(';').next().unwrap_or(word).trim_end();
        let fits = essence.split_once('/').is_some_and(|(kind, subtype)| {
            [kind, subtype]
                .iter()
                .all(|p| !p.is_empty() && p.bytes().all(token))
        });
        match HeaderValue::from_str(word) {
            Ok(value) if fits => Ok(MediaType(value, word.to_string())),
            _ => Err(Complaint::unfit()),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

/// `redirect`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { to: \"https://api.example.com{uri}\" }"
)]
pub(crate) struct RedirectSpec {
    pub(crate) to: LocationText,
    pub(crate) status: Option<RedirectStatus>,
}

/// Where a redirect leads.
#[derive(Debug, Clone)]
pub(crate) struct LocationText(pub(crate) ValueText);

impl Written for LocationText {
    const EXPECTED: &'static str = "a location such as https://api.example.com{uri}";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let value = ValueText::parse(word)?;
        if !word.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Complaint::because(
                "a location is ASCII without spaces; other characters must be percent-encoded",
            ));
        }
        if ["http://", "https://", "/", "{"]
            .iter()
            .any(|start| word.starts_with(start))
        {
            return Ok(LocationText(value));
        }
        let complaint =
            Complaint::because("a redirect leads to a URL or to a path that begins with \"/\"");
        Err(match word.split_once('.') {
            Some(_) if !word.contains("://") => {
                complaint.or(format!("did you mean \"https://{word}\"?"))
            }
            _ => complaint,
        })
    }
}

impl fmt::Display for LocationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written!(MediaType, LocationText);

/// The status of a redirect.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct RedirectStatus(pub(crate) u16);

impl<'de> Deserialize<'de> for RedirectStatus {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(RedirectStatusVisitor)
    }
}

struct RedirectStatusVisitor;

impl Visitor<'_> for RedirectStatusVisitor {
    type Value = RedirectStatus;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("301, 302, 303, 307 or 308")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<RedirectStatus, E> {
        match value {
            301 => Ok(RedirectStatus(301)),
            302 => Ok(RedirectStatus(302)),
            303 => Ok(RedirectStatus(303)),
            307 => Ok(RedirectStatus(307)),
            308 => Ok(RedirectStatus(308)),
            _ => Err(E::custom(mismatch(
                "301, 302, 303, 307 or 308",
                Unexpected::Unsigned(value),
            ))),
        }
    }
}

/// What every route is merged with: the defaults of the file over those of the policies.
pub(crate) struct Base {
    upstream: Option<UpstreamName>,
    allow: Option<Vec<Entry>>,
    deny: Option<Vec<Entry>>,
    require: Switch<RequireSpec>,
    auth: Switch<AuthSpec>,
    slo: Option<Percentage>,
    access_log: Switch<RouteLogSpec>,
    retry: RetrySpec,
    timeouts: TimeoutsSpec,
    hedge: Switch<HedgeSpec>,
    concurrency: Switch<ConcurrencySpec>,
    rate_limit: Switch<RateLimitSpec>,
    cache: CacheSpec,
    compress: CompressSpec,
    answers: AnswersSpec,
    headers: HeadersSpec,
}

impl Base {
    pub(crate) fn new(defaults: DefaultsSpec) -> Self {
        Base {
            upstream: defaults.upstream,
            allow: defaults.allow,
            deny: defaults.deny,
            require: defaults.require.unwrap_or(Switch::Off),
            auth: defaults.auth.unwrap_or(Switch::Off),
            slo: defaults.slo,
            access_log: defaults
                .access_log
                .unwrap_or_else(|| Switch::On(RouteLogSpec::default())),
            retry: defaults.retry.unwrap_or_default(),
            timeouts: defaults.timeouts.unwrap_or_default().filled(),
            hedge: defaults.hedge.unwrap_or(Switch::Off),
            concurrency: defaults.concurrency.unwrap_or(Switch::Off),
            rate_limit: defaults.rate_limit.unwrap_or(Switch::Off),
            cache: defaults.cache.unwrap_or(CacheSpec::Off),
            compress: defaults.compress.unwrap_or(CompressSpec::Off),
            answers: AnswersSpec {
                cors: defaults.cors.unwrap_or(Switch::Off),
                security_headers: defaults.security_headers.unwrap_or(false),
                error_pages: defaults.error_pages.unwrap_or(Switch::Off),
            },
            headers: defaults.headers.unwrap_or_default(),
        }
    }

    /// What answers are given that no route makes.
    pub(crate) fn unrouted(&self) -> AnswersSpec {
        AnswersSpec {
            cors: self.answers.cors.map(CorsSpec::filled),
            ..self.answers.clone()
        }
    }
}

impl RouteSpec {
    /// Whether the route itself says that it does not go to an upstream.
    pub(crate) fn answers_itself(&self) -> bool {
        self.upstream.is_none() && (self.respond.is_some() || self.redirect.is_some())
    }

    /// The route with everything that it does not say itself. A default that cannot concern it is left aside.
    pub(crate) fn over(self, base: &Base) -> RouteSpec {
        let proxied = !self.answers_itself();
        let mut headers = self.headers.unwrap_or_default().over(&base.headers);
        if !proxied {
            headers.request = None;
        }
        let retry = self.retry.unwrap_or_default().over(&base.retry).filled();
        let timeouts = self.timeouts.unwrap_or_default().over(&base.timeouts);
        let cache = match &self.cache {
            Some(own) => own.over(&base.cache).filled(),
            None => base.cache.filled(),
        };
        let compress = match &self.compress {
            Some(own) => own.over(&base.compress).filled(),
            None => base.compress.filled(),
        };
        let hedge = match &self.hedge {
            Some(own) => own.over(&base.hedge),
            None => base.hedge.clone(),
        };
        let concurrency = match &self.concurrency {
            Some(own) => own.over(&base.concurrency),
            None => base.concurrency.clone(),
        };
        let require = match &self.require {
            Some(own) => own.over(&base.require),
            None => base.require.clone(),
        };
        let auth = match &self.auth {
            Some(own) => own.over(&base.auth),
            None => base.auth.clone(),
        };
        let rate_limit = match &self.rate_limit {
            Some(own) => own.over(&base.rate_limit),
            None => base.rate_limit.clone(),
        };
        let cors = match &self.cors {
            Some(own) => own.over(&base.answers.cors),
            None => base.answers.cors.clone(),
        };
        let error_pages = match &self.error_pages {
            Some(own) => own.over(&base.answers.error_pages),
            None => base.answers.error_pages.clone(),
        };
        let security_headers = self
            .security_headers
            .unwrap_or(base.answers.security_headers);
        let respond = self.respond.map(|respond| RespondSpec {
            body: Some(respond.body.unwrap_or_default()),
            content_type: Some(respond.content_type.unwrap_or_else(MediaType::plain)),
            ..respond
        });
        let redirect = self.redirect.map(|redirect| RedirectSpec {
            status: Some(redirect.status.unwrap_or(RedirectStatus(301))),
            ..redirect
        });
        let mut matches = self.r#match.unwrap_or_default();
        if matches.path.is_none() && matches.exact_path.is_none() {
            matches.path = Some(PathText("/".to_string()));
        }
        RouteSpec {
            name: self.name,
            r#match: Some(matches),
            upstream: self
                .upstream
                .or_else(|| base.upstream.clone().filter(|_| proxied)),
            respond,
            redirect,
            allow: self.allow.or_else(|| base.allow.clone()),
            deny: self.deny.or_else(|| base.deny.clone()),
            require: Some(match proxied {
                true => require,
                false => require.map(RequireSpec::without_content),
            }),
            auth: Some(auth.map(AuthSpec::filled)),
            slo: self.slo.or(base.slo),
            access_log: match &self.access_log {
                Some(own) => Some(own.over(&base.access_log)),
                None => Some(base.access_log.clone()),
            }
            .filter(|log| !matches!(log, Switch::On(rules) if rules.is_empty())),
            strip_prefix: self.strip_prefix,
            set_path: self.set_path,
            headers: headers.unless_empty(),
            retry: proxied.then_some(retry),
            timeouts: proxied.then_some(timeouts),
            hedge: proxied.then(|| hedge.map(HedgeSpec::filled)),
            concurrency: proxied.then(|| concurrency.map(ConcurrencySpec::filled)),
            rate_limit: Some(rate_limit.map(RateLimitSpec::filled)),
            canary: self.canary.map(CanarySpec::filled),
            mirror: self.mirror.map(MirrorSpec::filled),
            cache: proxied.then_some(cache),
            compress: proxied.then_some(compress),
            cors: Some(cors.map(CorsSpec::filled)),
            security_headers: Some(security_headers),
            error_pages: Some(error_pages),
        }
    }
}

impl RouteSpec {
    /// What the router takes.
    pub(crate) fn matches(&self) -> RouteMatch {
        match &self.r#match {
            Some(matches) => matches.compile(),
            None => MatchSpec::default().compile(),
        }
    }

    /// What it is called if nothing else is said.
    pub(crate) fn default_name(&self) -> String {
        self.r#match
            .as_ref()
            .map(MatchSpec::name)
            .unwrap_or_default()
    }

    /// Gives the route a name if it has none, a longer one if the first that comes to mind is `taken`.
    pub(crate) fn take_name(&mut self, taken: impl Fn(&str) -> bool) -> String {
        if let Some(name) = &self.name {
            return name.0.clone();
        }
        let mut name = self.default_name();
        if taken(&name)
            && let Some(matches) = &self.r#match
        {
            name = matches.longer_name();
        }
        self.name = Some(RouteName(name.clone()));
        name
    }

    /// What its answers are given.
    fn answers(&self) -> AnswersSpec {
        AnswersSpec {
            cors: self.cors.clone().unwrap_or(Switch::Off),
            security_headers: self.security_headers == Some(true),
            error_pages: self.error_pages.clone().unwrap_or(Switch::Off),
        }
    }

    /// What the proxy goes by. The route is merged and has passed the checks.
    pub(crate) fn compile(
        &self,
        index: usize,
        upstreams: &HashMap<&str, usize>,
        directory: &Path,
        pages: &PageFiles,
        lists: &mut Lists<'_>,
    ) -> Route {
        let headers = self.headers.as_ref();
        let rules =
            |edits: Option<&EditsSpec>| edits.map_or_else(HeaderRules::default, EditsSpec::compile);
        let status = |number: u32| {
            u16::try_from(number)
                .ok()
                .and_then(|n| StatusCode::from_u16(n).ok())
                .unwrap_or_default()
        };
        let action = match (&self.respond, &self.redirect) {
            (Some(respond), _) => Action::Respond(Respond {
                status: status(respond.status.0),
                body: respond.body.clone().unwrap_or_default(),
                content_type: match &respond.content_type {
                    Some(media_type) => media_type.0.clone(),
                    None => MediaType::plain().0,
                },
            }),
            (None, Some(redirect)) => Action::Redirect(Redirect {
                to: redirect.to.0.0.clone(),
                status: status(redirect.status.map_or(301, |status| status.0.into())),
            }),
            (None, None) => {
                let name = self.upstream.as_ref().map_or("", |name| &name.0);
                let auth = self.auth.as_ref().and_then(Switch::on);
                let tells = auth.is_some_and(AuthSpec::tells);
                let request_headers = rules(headers.and_then(|h| h.request.as_ref()));
                let mut cache = self.cache.as_ref().and_then(CacheSpec::compile);
                if let Some(policy) = &mut cache
                    && !policy.shared
                    && (tells || request_headers.tell_client_cert() || request_headers.tell_user())
                {
                    // By which backends may answer each their own.
                    policy.per.push(Per::Told);
                }
                Action::Proxy(Proxy {
                    upstream: upstreams.get(name).copied().unwrap_or_default(),
                    rewrite: match (&self.strip_prefix, &self.set_path) {
                        (Some(prefix), _) => Rewrite::StripPrefix(prefix.0.clone()),
                        (None, Some(path)) => Rewrite::SetPath(path.0.clone()),
                        (None, None) => Rewrite::None,
                    },
                    request_headers,
                    retry: self.retry.clone().unwrap_or_default().compile(),
                    budget: self.retry.clone().unwrap_or_default().budget(),
                    concurrency: self
                        .concurrency
                        .as_ref()
                        .and_then(Switch::on)
                        .map(ConcurrencySpec::compile),
                    hedge: self
                        .hedge
                        .as_ref()
                        .and_then(Switch::on)
                        .map(HedgeSpec::compile),
                    canary: self.canary.as_ref().map(|c| c.compile(upstreams)),
                    mirror: self.mirror.as_ref().map(|m| m.compile(upstreams)),
                    timeouts: self.timeouts.clone().unwrap_or_default().compile(),
                    cache,
                    compress: self.compress.as_ref().and_then(CompressSpec::compile),
                })
            }
        };
        Route {
            name: self
                .name
                .as_ref()
                .map(|name| name.0.clone())
                .unwrap_or_default(),
            index,
            access: lists.access(self.allow.as_deref(), self.deny.as_deref()),
            requirement: self
                .require
                .as_ref()
                .and_then(Switch::on)
                .map(|require| require.compile(directory))
                .unwrap_or_default(),
            auth: self
                .auth
                .as_ref()
                .and_then(Switch::on)
                .and_then(|auth| auth.compile(directory, upstreams)),
            slo: self.slo.map(Percentage::share),
            logging: self.access_log.as_ref().map(RouteLogSpec::compile),
            rate_limit: self
                .rate_limit
                .as_ref()
                .and_then(Switch::on)
                .and_then(RateLimitSpec::compile),
            action,
            response_headers: rules(headers.and_then(|h| h.response.as_ref())),
            answers: self.answers().compile(pages),
        }
    }
}
