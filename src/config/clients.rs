//! `clients` of the static file, as written: how long and how many of them are borne with.
//!
//! Read by `settings`.

use super::duration::PositiveSpan;
use super::number::Bounded;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is borne with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clients {
    /// How long the head of a request may take from its first byte on.
    pub head_timeout: Duration,
    /// How long an idle connection is kept.
    pub keepalive: Duration,
    /// How many connections there may be at once.
    pub max_connections: u32,
    /// How many of them of one address, or of one /64 of IPv6; `None` for as many as there may be.
    pub max_per_address: Option<u32>,
}

impl Default for Clients {
    fn default() -> Self {
        ClientsSpec::default().compile()
    }
}

/// `clients`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { head_timeout: 30s, max_per_address: 100 }"
)]
pub(crate) struct ClientsSpec {
    head_timeout: Option<PositiveSpan>,
    keepalive: Option<PositiveSpan>,
    max_connections: Option<Bounded<1, 1_000_000>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_address: Option<Bounded<1, 1_000_000>>,
}

impl ClientsSpec {
    const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
    const KEEPALIVE: Duration = Duration::from_secs(75);
    const MAX_CONNECTIONS: u32 = 50_000;

    /// With every default filled in.
    pub(crate) fn compile(self) -> Clients {
        let span = |written: Option<PositiveSpan>, default| written.map_or(default, |span| span.0);
        Clients {
            head_timeout: span(self.head_timeout, Self::HEAD_TIMEOUT),
            keepalive: span(self.keepalive, Self::KEEPALIVE),
            max_connections: self.max_connections.map_or(Self::MAX_CONNECTIONS, |n| n.0),
            max_per_address: self.max_per_address.map(|n| n.0),
        }
    }

    /// How it is written.
    pub(crate) fn of(clients: &Clients) -> ClientsSpec {
        ClientsSpec {
            head_timeout: Some(PositiveSpan(clients.head_timeout)),
            keepalive: Some(PositiveSpan(clients.keepalive)),
            max_connections: Some(Bounded(clients.max_connections)),
            max_per_address: clients.max_per_address.map(Bounded),
        }
    }
}
