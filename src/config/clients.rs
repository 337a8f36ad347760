//! `clients` of the static file, as written: how long and how many of them are borne with.
//!
//! Read by `settings`.

use super::duration::PositiveSpan;
use super::number::Bounded;
use super::size::Size;
use super::written::{Complaint, Written, written};
use crate::policy::limits::Limits;
use serde::{Deserialize, Serialize};
use std::fmt;
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
    /// What a head may hold.
    pub limits: Limits,
    /// How many requests one connection of HTTP/1 may bring.
    pub keepalive_requests: u32,
    /// How many streams of an HTTP/2 connection may be open at once.
    pub max_streams: u32,
    /// How many bytes of a body have to come in a second, after some time to begin; 0 for any.
    pub min_body_rate: u64,
    /// How many bytes of the content of all requests together are held, for another try or to be looked at.
    pub max_held: u64,
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
    max_head: Option<HeadSize>,
    max_fields: Option<Bounded<1, 250>>,
    max_target: Option<HeadSize>,
    keepalive_requests: Option<Bounded<1, 1_000_000_000>>,
    max_streams: Option<Bounded<1, 10_000>>,
    min_body_rate: Option<Size>,
    max_held: Option<Size>,
}

/// Bytes of a head, or of a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HeadSize(u64);

impl HeadSize {
    const LEAST: u64 = 256;
    /// What is longer is not read in any case.
    const MOST: u64 = 512 * 1024;
}

impl Written for HeadSize {
    const EXPECTED: &'static str = "a size from 256B to 512KiB such as 64KiB";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let Size(bytes) = Size::parse(word)?;
        match (Self::LEAST..=Self::MOST).contains(&bytes) {
            true => Ok(HeadSize(bytes)),
            false => Err(Complaint::unfit()),
        }
    }
}

impl fmt::Display for HeadSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Size(self.0).fmt(f)
    }
}

written!(HeadSize);

impl ClientsSpec {
    const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
    const KEEPALIVE: Duration = Duration::from_secs(75);
    const MAX_CONNECTIONS: u32 = 50_000;
    const MAX_HEAD: u64 = 64 * 1024;
    const MAX_FIELDS: u32 = 128;
    const MAX_TARGET: u64 = 8 * 1024;
    const KEEPALIVE_REQUESTS: u32 = 10_000;
    const MAX_STREAMS: u32 = 128;
    const MIN_BODY_RATE: u64 = 100;
    const MAX_HELD: u64 = 256 << 20;

    /// With every default filled in.
    pub(crate) fn compile(self) -> Clients {
        let span = |written: Option<PositiveSpan>, default| written.map_or(default, |span| span.0);
        let bytes = |written: Option<HeadSize>, default| {
            usize::try_from(written.map_or(default, |size| size.0)).unwrap_or(usize::MAX)
        };
        Clients {
            head_timeout: span(self.head_timeout, Self::HEAD_TIMEOUT),
            keepalive: span(self.keepalive, Self::KEEPALIVE),
            max_connections: self.max_connections.map_or(Self::MAX_CONNECTIONS, |n| n.0),
            max_per_address: self.max_per_address.map(|n| n.0),
            limits: Limits {
                head: bytes(self.max_head, Self::MAX_HEAD),
                fields: self.max_fields.map_or(Self::MAX_FIELDS, |n| n.0) as usize,
                target: bytes(self.max_target, Self::MAX_TARGET),
            },
            keepalive_requests: self
                .keepalive_requests
                .map_or(Self::KEEPALIVE_REQUESTS, |n| n.0),
            max_streams: self.max_streams.map_or(Self::MAX_STREAMS, |n| n.0),
            min_body_rate: self
                .min_body_rate
                .map_or(Self::MIN_BODY_RATE, |size| size.0),
            max_held: self.max_held.map_or(Self::MAX_HELD, |size| size.0),
        }
    }

    /// How it is written.
    pub(crate) fn of(clients: &Clients) -> ClientsSpec {
        ClientsSpec {
            head_timeout: Some(PositiveSpan(clients.head_timeout)),
            keepalive: Some(PositiveSpan(clients.keepalive)),
            max_connections: Some(Bounded(clients.max_connections)),
            max_per_address: clients.max_per_address.map(Bounded),
            max_head: Some(HeadSize(clients.limits.head as u64)),
            max_fields: Some(Bounded(
                u32::try_from(clients.limits.fields).unwrap_or(u32::MAX),
            )),
            max_target: Some(HeadSize(clients.limits.target as u64)),
            keepalive_requests: Some(Bounded(clients.keepalive_requests)),
            max_streams: Some(Bounded(clients.max_streams)),
            min_body_rate: Some(Size(clients.min_body_rate)),
            max_held: Some(Size(clients.max_held)),
        }
    }
}
