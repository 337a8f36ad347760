//! TLS towards backends: whom to believe, and what to show them, read from files once for each configuration.
//!
//! Built by [`super::Upstream::build`]; [`UpstreamTls::apply`] puts it into Pingora's dialling instructions, for requests, copies
//! and probes alike. Decides nothing.

use super::{Backend, TlsError};
use crate::config;
use pingora::protocols::ALPN;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509};
use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How TLS is spoken to the backends of one upstream.
pub struct UpstreamTls {
    server_name: Option<String>,
    verify: bool,
    ca: Option<Arc<CaType>>,
    identity: Option<Arc<CertKey>>,
    /// Connections are shared only among those who have the same: what a reload changed holds at once.
    group: u64,
}

impl std::fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("server_name", &self.server_name)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

impl UpstreamTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be used.
    pub fn open(plan: &config::UpstreamTls) -> Result<Self, TlsError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let ca = plan.ca.as_deref().map(certificates).transpose()?;
        if let (Some(all), Some(path)) = (&ca, &plan.ca) {
            let mut roots = RootCertStore::empty();
            for one in all {
                roots.add(one.clone()).map_err(|e| wrong(path, &e))?;
            }
        }
        let ca = ca.map(|all| all.into_iter().filter_map(wrapped).collect());
        let identity = plan.identity.as_ref().map(|(cert, key)| {
            let chain = certificates(cert)?;
            let der = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
            let usable = any_supported_type(&der).map_err(|e| wrong(key, &e))?;
            let pair = CertifiedKey::new(chain.clone(), usable);
            let matches = pair.keys_match();
            matches.map_err(|_| {
                wrong(
                    cert,
                    &format!("it is not the certificate of the key in {}", key.display()),
                )
            })?;
            let chain = chain.into_iter().map(|c| c.to_vec()).collect();
            Ok(Arc::new(CertKey::new(chain, der.secret_der().to_vec())))
        });
        Ok(UpstreamTls {
            server_name: plan.server_name.clone(),
            verify: plan.verify,
            ca,
            identity: identity.transpose()?,
            group: NEXT.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Whether it is looked at who the backends are.
    pub fn verifies(&self) -> bool {
        self.verify
    }

    /// Makes dialling instructions for this backend those of TLS.
    pub fn apply(&self, peer: &mut HttpPeer, backend: &Backend, address: SocketAddr) {
        let named = self.server_name.as_deref().or(backend.name());
        peer.sni = named.map_or_else(|| address.ip().to_string(), str::to_owned);
        peer.scheme = pingora::upstreams::peer::Scheme::HTTPS;
        peer.group_key = self.group;
        peer.options.verify_cert = self.verify;
        peer.options.verify_hostname = self.verify;
        peer.options.ca.clone_from(&self.ca);
        peer.client_cert_key.clone_from(&self.identity);
        // Unless `http2` says otherwise.
        peer.options.alpn = ALPN::H1;
    }
}

fn wrong(path: &Path, e: &dyn std::fmt::Display) -> TlsError {
    TlsError(format!("{}: {e}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = read.map_err(|e| wrong(path, &e))?;
    if all.is_empty() {
        return Err(wrong(path, &"no certificate is in it"));
    }
    for one in &all {
        X509Certificate::from_der(one).map_err(|e| wrong(path, &e))?;
    }
    Ok(all)
}

/// As Pingora holds it. What is no certificate was refused before.
fn wrapped(der: CertificateDer<'static>) -> Option<WrappedX509> {
    X509Certificate::from_der(&der).ok()?;
    Some(WrappedX509::new(
        der.to_vec(),
        |raw| match X509Certificate::from_der(raw) {
            Ok((_, certificate)) => certificate,
            Err(_) => unreachable!("it was parsed just before"),
        },
    ))
}
