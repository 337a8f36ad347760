//! `upstreams`, as written.
//!
//! One [`UpstreamSpec`] becomes one [`UpstreamPlan`]; what concerns a single value is checked when it is read, what concerns
//! all backends together in [`UpstreamSpec::check`].

use super::address::BackendAddress;
use super::concurrency::ConcurrencySpec;
use super::duration::PositiveSpan;
use super::eject::{self, EjectSpec};
use super::headers::ReadName;
use super::health_check::HealthCheckSpec;
use super::keypath::KeyPath;
use super::number::Bounded;
use super::plan::{BackendPlan, BackendState, UpstreamPlan};
use super::report::{Document, Report};
use super::switch::Switch;
use super::upstream_tls::UpstreamTlsSpec;
use super::written::{Complaint, Written, written};
use crate::policy::balancer::{Balance, Balancer, HashOn, Slot};
use crate::policy::health::FailRules;
use serde::de::value::{MapAccessDeserializer, StrDeserializer, U64Deserializer};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// One entry of `upstreams`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with backends")]
pub(crate) struct UpstreamSpec {
    // Else it would be written with a YAML tag.
    #[serde(serialize_with = "serde_yaml::with::singleton_map_recursive::serialize")]
    balance: Option<BalanceSpec>,
    backends: Vec<BackendSpec>,
    keepalive: Option<KeepaliveSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<UpstreamTlsSpec>,
    http2: Option<bool>,
    health_check: Option<Switch<HealthCheckSpec>>,
    eject: Option<Switch<EjectSpec>>,
    concurrency: Option<Switch<ConcurrencySpec>>,
}

/// `keepalive`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping such as { idle: 55s }")]
struct KeepaliveSpec {
    idle: Option<PositiveSpan>,
}

/// Just below the 60 s after which many servers close an unused connection, so that it is Backstop that closes it.
const IDLE: PositiveSpan = PositiveSpan(Duration::from_secs(55));

/// `balance`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum BalanceSpec {
    RoundRobin,
    LeastConn,
    RandomTwo,
    Hash(HashSpec),
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping such as { on: client_ip }")]
struct HashSpec {
    on: HashOnSpec,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum HashOnSpec {
    ClientIp,
    Uri,
    Header(ReadName),
    Cookie(CookieName),
}

/// The name of a cookie (RFC 6265 §4.1.1: a token).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CookieName(pub(crate) String);

impl Written for CookieName {
    const EXPECTED: &'static str = "the name of a cookie such as session";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if word.is_empty() || !word.bytes().all(token) {
            return Err(Complaint::unfit());
        }
        Ok(CookieName(word.to_string()))
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written!(CookieName);

impl BalanceSpec {
    fn compile(&self) -> Balance {
        match self {
            BalanceSpec::RoundRobin => Balance::RoundRobin,
            BalanceSpec::LeastConn => Balance::LeastConn,
            BalanceSpec::RandomTwo => Balance::RandomTwo,
            BalanceSpec::Hash(hash) => Balance::Hash(match &hash.on {
                HashOnSpec::ClientIp => HashOn::ClientIp,
                HashOnSpec::Uri => HashOn::Uri,
                HashOnSpec::Header(name) => HashOn::Header(name.0.clone()),
                HashOnSpec::Cookie(name) => HashOn::Cookie(name.0.clone()),
            }),
        }
    }
}

/// One entry of `backends`, in either of its forms.
#[derive(Debug, Clone, Serialize)]
struct BackendSpec {
    address: BackendAddress,
    weight: u32,
    backup: bool,
    max_fails: u32,
    fail_timeout: PositiveSpan,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_conns: Option<Bounded<1, 1_000_000>>,
    state: BackendState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an address such as 127.0.0.1:9001")]
struct LongForm {
    address: BackendAddress,
    weight: Option<Bounded<0, 1000>>,
    backup: Option<bool>,
    max_fails: Option<Bounded<0, 1000>>,
    fail_timeout: Option<PositiveSpan>,
    max_conns: Option<Bounded<1, 1_000_000>>,
    state: Option<BackendState>,
}

impl From<LongForm> for BackendSpec {
    fn from(long: LongForm) -> Self {
        let fail = FailRules::default();
        BackendSpec {
            address: long.address,
            weight: long.weight.map_or(1, |weight| weight.0),
            backup: long.backup.unwrap_or(false),
            max_fails: long.max_fails.map_or(fail.max_fails, |n| n.0),
            fail_timeout: long.fail_timeout.unwrap_or(PositiveSpan(fail.fail_timeout)),
            max_conns: long.max_conns,
            state: long.state.unwrap_or(BackendState::Up),
        }
    }
}

impl<'de> Deserialize<'de> for BackendSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(BackendVisitor)
    }
}

struct BackendVisitor;

impl BackendVisitor {
    fn short(address: BackendAddress) -> BackendSpec {
        BackendSpec::from(LongForm {
            address,
            weight: None,
            backup: None,
            max_fails: None,
            fail_timeout: None,
            max_conns: None,
            state: None,
        })
    }
}

impl<'de> Visitor<'de> for BackendVisitor {
    type Value = BackendSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BackendAddress::EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<BackendSpec, E> {
        BackendAddress::deserialize(StrDeserializer::new(word)).map(Self::short)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<BackendSpec, E> {
        BackendAddress::deserialize(U64Deserializer::new(value)).map(Self::short)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BackendSpec, A::Error> {
        LongForm::deserialize(MapAccessDeserializer::new(map)).map(BackendSpec::from)
    }
}

impl UpstreamSpec {
    /// Reports what is wrong with the backends as a whole; `path` is that of the upstream.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        if let Some(tls) = &self.tls {
            tls.check(document, &path.key("tls"), report);
        }
        if let Some(check) = self.health_check.as_ref().and_then(Switch::on) {
            check.check(document, &path.key("health_check"), report);
        }
        if let Some(places) = self.concurrency.as_ref().and_then(Switch::on) {
            places.check(document, &path.key("concurrency"), report);
        }
        let backends = path.key("backends");
        if self.backends.is_empty() {
            report.add(document, backends, "an upstream needs at least one backend");
            return;
        }
        let mut seen = HashMap::new();
        for (i, backend) in self.backends.iter().enumerate() {
            if let Some(first) = seen.get(&backend.address) {
                let message = format!("{} is listed twice: also", backend.address);
                let problem = report.add(document, backends.index(i), message);
                problem.see = Some(backends.index(*first));
                problem.help = Some("give it once, with a weight".to_string());
            } else {
                seen.insert(&backend.address, i);
            }
        }
        let slots = self.backends.iter().map(|b| Slot {
            weight: b.weight,
            backup: b.backup,
        });
        // Building it is the one way to learn whether it can be built; the balancer in use is built by the server.
        if let Err(error) = Balancer::new(Balance::RoundRobin, slots.collect(), None) {
            let text = error.to_string();
            let (message, help) = match text.split_once("; ") {
                Some((message, help)) => (message, Some(help.to_string())),
                None => (&*text, None),
            };
            report.add(document, backends, message).help = help;
        }
    }

    /// What the server builds the upstream from.
    pub(crate) fn compile(&self, name: &str) -> UpstreamPlan {
        let idle = self
            .keepalive
            .as_ref()
            .and_then(|keepalive| keepalive.idle)
            .unwrap_or(IDLE);
        UpstreamPlan {
            name: name.to_string(),
            balance: self
                .balance
                .as_ref()
                .map_or(Balance::RoundRobin, BalanceSpec::compile),
            backends: self
                .backends
                .iter()
                .map(|backend| BackendPlan {
                    address: backend.address.clone(),
                    weight: backend.weight,
                    backup: backend.backup,
                    fail: FailRules {
                        max_fails: backend.max_fails,
                        fail_timeout: backend.fail_timeout.0,
                    },
                    max_conns: backend.max_conns.map(|most| most.0),
                    state: backend.state,
                })
                .collect(),
            keepalive_idle: idle.0,
            tls: self.tls.as_ref().map(UpstreamTlsSpec::compile),
            http2: self.http2.unwrap_or(false),
            check: self
                .health_check
                .as_ref()
                .and_then(Switch::on)
                .map(HealthCheckSpec::compile),
            eject: eject::compile(self.eject.as_ref()),
            concurrency: self
                .concurrency
                .as_ref()
                .and_then(Switch::on)
                .map(ConcurrencySpec::compile),
        }
    }

    /// Every key filled in.
    pub(crate) fn filled(mut self) -> UpstreamSpec {
        self.balance.get_or_insert(BalanceSpec::RoundRobin);
        self.keepalive
            .get_or_insert_default()
            .idle
            .get_or_insert(IDLE);
        self.tls = self.tls.map(UpstreamTlsSpec::filled);
        self.http2.get_or_insert(false);
        let check = self.health_check.unwrap_or(Switch::Off);
        self.health_check = Some(check.map(HealthCheckSpec::filled));
        self.eject = Some(eject::filled(self.eject.as_ref()));
        let places = self.concurrency.unwrap_or(Switch::Off);
        self.concurrency = Some(places.map(ConcurrencySpec::filled));
        self
    }
}
