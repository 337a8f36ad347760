//! `upstreams`, as written.
//!
//! One [`UpstreamSpec`] becomes one [`UpstreamPlan`]; what concerns a single value is checked when it is read, what concerns
//! all backends together in [`UpstreamSpec::check`].

use super::address::BackendAddress;
use super::duration::PositiveSpan;
use super::headers::ReadName;
use super::keypath::KeyPath;
use super::number::Bounded;
use super::plan::{BackendPlan, UpstreamPlan};
use super::report::{Document, Report};
use super::written::{Complaint, Written, written};
use crate::policy::balancer::{Balance, Balancer, HashOn, Slot};
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
#[derive(Debug, Clone)]
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
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an address such as 127.0.0.1:9001")]
struct LongForm {
    address: BackendAddress,
    weight: Option<Bounded<0, 1000>>,
    backup: Option<bool>,
}

impl<'de> Deserialize<'de> for BackendSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(BackendVisitor)
    }
}

struct BackendVisitor;

impl BackendVisitor {
    fn short(address: BackendAddress) -> BackendSpec {
        BackendSpec {
            address,
            weight: 1,
            backup: false,
        }
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
        let long = LongForm::deserialize(MapAccessDeserializer::new(map))?;
        Ok(BackendSpec {
            address: long.address,
            weight: long.weight.map_or(1, |weight| weight.0),
            backup: long.backup.unwrap_or(false),
        })
    }
}

impl UpstreamSpec {
    /// Reports what is wrong with the backends as a whole; `path` is that of the upstream.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
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
                })
                .collect(),
            keepalive_idle: idle.0,
        }
    }

    /// Every key filled in.
    pub(crate) fn filled(mut self) -> UpstreamSpec {
        self.balance.get_or_insert(BalanceSpec::RoundRobin);
        self.keepalive
            .get_or_insert_default()
            .idle
            .get_or_insert(IDLE);
        self
    }
}
