//! `health_check` of an upstream, as written: how its backends are probed.

use super::duration::PositiveSpan;
use super::fault::mismatch;
use super::headers::ReadName;
use super::keypath::KeyPath;
use super::number::Bounded;
use super::patterns::{MethodText, TargetText};
use super::report::{Document, Report};
use super::switch::{Section, over};
use crate::policy::health::ProbeRules;
use http::{HeaderName, HeaderValue, Method};
use serde::de::Unexpected;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How the backends of an upstream are probed.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckPlan {
    /// What is asked, and what is a good answer.
    pub kind: CheckKind,
    /// The port, if it is not the backend's own.
    pub port: Option<u16>,
    /// From one probe to the next.
    pub interval: Duration,
    /// How long one may take in all.
    pub timeout: Duration,
    /// How many turn a backend's state.
    pub rules: ProbeRules,
    /// Whether a backend that is new gets no request before its first good probe.
    pub checking: bool,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckKind {
    /// Whether it takes connections.
    Tcp,
    /// An HTTP request.
    Http(HttpCheck),
    /// The health of this service (the empty name: of the server), by gRPC's health checking protocol.
    Grpc(String),
}

/// An HTTP probe.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpCheck {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// `Host`, if it is not the backend's address.
    pub host: Option<String>,
    /// Further header fields.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Good statuses.
    pub expect: Vec<u16>,
    /// What the first 64 KiB of the body must contain, if anything.
    pub body: Option<String>,
}

/// `health_check`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { path: /health, interval: 5s }, or off"
)]
pub(crate) struct HealthCheckSpec {
    r#type: Option<TypeSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<TargetText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<MethodText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<ReadName, HeaderText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Vec<Bounded<100, 599>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<Bounded<1, 65_535>>,
    interval: Option<PositiveSpan>,
    timeout: Option<PositiveSpan>,
    rise: Option<Bounded<1, 1000>>,
    fall: Option<Bounded<1, 1000>>,
    initial: Option<InitialSpec>,
}

/// `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum TypeSpec {
    Http,
    Tcp,
    Grpc,
}

/// `initial`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum InitialSpec {
    Checking,
    Up,
}

/// The value of a header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderText(pub(crate) HeaderValue, String);

impl super::written::Written for HeaderText {
    const EXPECTED: &'static str = "the value of a header field";

    fn parse(word: &str) -> Result<Self, super::written::Complaint> {
        match HeaderValue::from_str(word) {
            Ok(value) => Ok(HeaderText(value, word.to_string())),
            Err(_) => Err(super::written::Complaint::because(
                "a header field cannot hold line feeds and other control characters",
            )),
        }
    }
}

impl std::fmt::Display for HeaderText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

super::written::written!(HeaderText);

const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(1);
const RISE: u32 = 2;
const FALL: u32 = 3;

impl Section for HealthCheckSpec {
    const EXPECTED: &'static str = "a mapping such as { path: /health, interval: 5s }, or off";

    fn over(&self, base: &Self) -> Self {
        over!(
            self,
            base,
            HealthCheckSpec {
                r#type,
                path,
                host,
                method,
                headers,
                expect,
                body,
                service,
                port,
                interval,
                timeout,
                rise,
                fall,
                initial,
            }
        )
    }
}

impl HealthCheckSpec {
    fn kind(&self) -> TypeSpec {
        self.r#type.unwrap_or(TypeSpec::Http)
    }

    /// Reports keys that mean nothing for this type of check, and values that cannot be.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        let http = [
            (self.path.is_some(), "path"),
            (self.host.is_some(), "host"),
            (self.method.is_some(), "method"),
            (self.headers.is_some(), "headers"),
            (self.expect.is_some(), "expect"),
            (self.body.is_some(), "body"),
        ];
        let grpc = [(self.service.is_some(), "service")];
        let (useless, kind): (Vec<_>, _) = match self.kind() {
            TypeSpec::Http => (grpc.to_vec(), "http"),
            TypeSpec::Tcp => (http.into_iter().chain(grpc).collect(), "tcp"),
            TypeSpec::Grpc => (http.to_vec(), "grpc"),
        };
        for (_, key) in useless.into_iter().filter(|(given, _)| *given) {
            let message = format!("has no effect in a check of type {kind}");
            report.add(document, path.key(key), message);
        }
        if self.expect.as_ref().is_some_and(Vec::is_empty) {
            let problem = report.add(document, path.key("expect"), "no status is listed");
            problem.help = Some("leave it out to expect 200".to_string());
        }
        if self.body.as_ref().is_some_and(String::is_empty) {
            let problem = report.add(document, path.key("body"), "every body contains nothing");
            problem.help = Some("leave it out, or say what it must contain".to_string());
        }
        if self.body.is_some() && self.method.as_ref().is_some_and(|m| m.0 == Method::HEAD) {
            report.add(document, path.key("body"), "an answer to HEAD has no body");
        }
        if self.service.as_ref().is_some_and(|name| name.len() > 127) {
            let expected = "the name of a gRPC service of at most 127 bytes";
            let found = Unexpected::Other("a longer one");
            report.add(document, path.key("service"), mismatch(expected, found));
        }
        if self
            .host
            .as_ref()
            .is_some_and(|h| HeaderValue::from_str(h).is_err())
        {
            let found = Unexpected::Other("something else");
            report.add(document, path.key("host"), mismatch("a host", found));
        }
    }

    /// Every key with a default filled in.
    pub(crate) fn filled(&self) -> HealthCheckSpec {
        let http = self.kind() == TypeSpec::Http;
        self.over(&HealthCheckSpec {
            r#type: Some(TypeSpec::Http),
            path: http.then(|| TargetText("/".to_string())),
            method: http.then_some(MethodText(Method::GET)),
            expect: http.then(|| vec![Bounded(200)]),
            interval: Some(PositiveSpan(INTERVAL)),
            timeout: Some(PositiveSpan(TIMEOUT)),
            rise: Some(Bounded(RISE)),
            fall: Some(Bounded(FALL)),
            initial: Some(InitialSpec::Checking),
            ..HealthCheckSpec::default()
        })
    }

    /// What the prober goes by.
    pub(crate) fn compile(&self) -> CheckPlan {
        let small = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let expect = self.expect.as_deref().unwrap_or(&[Bounded(200)]);
        let kind = match self.kind() {
            TypeSpec::Tcp => CheckKind::Tcp,
            TypeSpec::Grpc => CheckKind::Grpc(self.service.clone().unwrap_or_default()),
            TypeSpec::Http => CheckKind::Http(HttpCheck {
                method: self.method.as_ref().map_or(Method::GET, |m| m.0.clone()),
                path: self.path.as_ref().map_or("/", |path| &path.0).to_string(),
                host: self.host.clone(),
                headers: self
                    .headers
                    .iter()
                    .flatten()
                    .map(|(name, value)| (name.0.clone(), value.0.clone()))
                    .collect(),
                expect: expect.iter().map(|status| small(status.0)).collect(),
                body: self.body.clone(),
            }),
        };
        CheckPlan {
            kind,
            port: self.port.map(|port| small(port.0)),
            interval: self.interval.map_or(INTERVAL, |span| span.0),
            timeout: self.timeout.map_or(TIMEOUT, |span| span.0),
            rules: ProbeRules {
                rise: self.rise.map_or(RISE, |n| n.0),
                fall: self.fall.map_or(FALL, |n| n.0),
            },
            checking: self.initial != Some(InitialSpec::Up),
        }
    }
}
