//! Looks up the names of backends, off the request path, again and again.
//!
//! Runs on the control thread. A name that cannot be resolved keeps its last good answer; one that never could is simply
//! not tried yet. Requests only ever read what [`Backend::resolved`] published.

use super::Backend;
use crate::config;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use log::{info, warn};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Finds addresses of names.
pub struct Resolver {
    dns: Option<TokioResolver>,
    interval: Duration,
}

impl Resolver {
    /// With the servers of the file, or the system's.
    pub fn new(settings: &config::Resolver) -> Self {
        let builder = if settings.servers.is_empty() {
            TokioResolver::builder_tokio()
        } else {
            let servers = settings
                .servers
                .iter()
                .map(|server| name_server(*server))
                .collect();
            let config = ResolverConfig::from_parts(None, vec![], servers);
            Ok(TokioResolver::builder_with_config(
                config,
                TokioRuntimeProvider::default(),
            ))
        };
        let dns = builder.and_then(|mut builder| {
            let options = builder.options_mut();
            // Each round asks anew: a cache would hide what the interval promises.
            options.cache_size = 0;
            options.timeout = Duration::from_secs(2);
            options.attempts = 2;
            builder.build()
        });
        Resolver {
            dns: dns
                .inspect_err(|error| warn!("no name can be resolved: {error}"))
                .ok(),
            interval: settings.interval,
        }
    }

    /// How long to wait between two rounds.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Looks up every name among `backends` once, all at the same time.
    pub async fn refresh(&self, backends: Vec<Arc<Backend>>) {
        let mut names: BTreeMap<String, Vec<Arc<Backend>>> = BTreeMap::new();
        for backend in backends {
            if let Some(name) = backend.name() {
                names.entry(name.to_owned()).or_default().push(backend);
            }
        }
        let mut lookups = tokio::task::JoinSet::new();
        for (name, backends) in names {
            let Some(dns) = self.dns.clone() else { return };
            lookups.spawn(async move {
                let answer = dns.lookup_ip(&name).await;
                (name, backends, answer)
            });
        }
        while let Some(done) = lookups.join_next().await {
            let Ok((name, backends, answer)) = done else {
                continue;
            };
            let addresses: Vec<_> = match answer {
                Ok(answer) => answer.iter().collect(),
                Err(error) => {
                    let kept = if backends.iter().all(|b| b.has_address()) {
                        "its last addresses are kept"
                    } else {
                        "it is not tried until it resolves"
                    };
                    warn!("backend name {name} cannot be resolved, {kept}: {error}");
                    continue;
                }
            };
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
        }
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
