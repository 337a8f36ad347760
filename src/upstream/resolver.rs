//! Looks up the names of backends, off the request path, again and again.
//!
//! Runs on the control thread. A name that cannot be resolved keeps its last good answer; one that never could is simply
//! not tried yet. Requests only ever read what [`Backend::resolved`] published.

use super::Backend;
use super::own::Own;
use crate::config;
use futures::StreamExt;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use log::{info, warn};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Names looked up at the same time.
const AT_ONCE: usize = 64;

/// Finds addresses of names.
#[derive(Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    interval: Duration,
}

impl Resolver {
    /// With the servers of the file, or the system's.
    pub fn new(settings: &config::Resolver) -> Self {
        Resolver {
            servers: settings.servers.clone(),
            interval: settings.interval,
        }
    }

    /// How long to wait between two rounds.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Looks up every name among `backends` once.
    pub async fn refresh(&self, backends: Vec<Own<Backend>>) {
        let mut names: BTreeMap<String, Vec<Own<Backend>>> = BTreeMap::new();
        for backend in backends {
            if let Some(name) = backend.name() {
                names.entry(name.to_owned()).or_default().push(backend);
            }
        }
        if names.is_empty() {
            return;
        }
        let dns = match self.connect() {
            Ok(dns) => dns,
            Err(e) => return warn!("names of backends cannot be looked up: {e}"),
        };
        futures::stream::iter(names)
            .for_each_concurrent(AT_ONCE, |(name, backends)| {
                let dns = &dns;
                async move { publish(&name, &backends, dns.lookup_ip(&name).await) }
            })
            .await;
    }

    /// Made anew for each round: whatever changed in `/etc/resolv.conf` or `/etc/hosts` counts from the next one on, and
    /// nothing is cached longer than `interval` promises.
    fn connect(&self) -> Result<TokioResolver, NetError> {
        let of = |servers: Vec<NameServerConfig>| {
            let config = ResolverConfig::from_parts(None, vec![], servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let mut builder = if self.servers.is_empty() {
            // A system without name servers still has its hosts file.
            TokioResolver::builder_tokio().unwrap_or_else(|_| of(vec![]))
        } else {
            of(self.servers.iter().map(|s| name_server(*s)).collect())
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        // A host that has both kinds of address need not listen on both.
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        builder.build()
    }
}

/// Hands an answer to the backends of that name, and tells the log what changed.
fn publish(name: &str, backends: &[Own<Backend>], answer: Result<LookupIp, NetError>) {
    let addresses: Vec<_> = answer.iter().flat_map(LookupIp::iter).collect();
    for backend in backends {
        let port = backend.address.port;
        let sockets = addresses
            .iter()
            .map(|ip| SocketAddr::new(*ip, port))
            .collect();
        if backend.resolved(sockets) {
            info!("backend {} is at {addresses:?}", backend.label);
        }
    }
    let newly_failing = backends
        .iter()
        .filter(|backend| backend.set_unresolvable(addresses.is_empty()))
        .count();
    if newly_failing > 0 {
        let kept = if backends.iter().all(|b| b.has_address()) {
            "its last addresses are kept"
        } else {
            "it is not tried until it resolves"
        };
        let why = answer
            .err()
            .map_or_else(|| "no address".into(), |e| e.to_string());
        warn!("backend name {name} cannot be resolved, {kept}: {why}");
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .into_iter()
        .map(|mut connection| {
            connection.port = address.port();
            connection
        })
        .collect();
    NameServerConfig::new(address.ip(), true, connections)
}
