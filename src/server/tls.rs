//! TLS towards clients: one configuration of rustls for each listener, whose certificates can be exchanged under load.
//!
//! Certificates are read at start, at each reload, and when their files change. A pair that cannot be used leaves the one
//! before it in place, and the log says why. Session tickets belong to the listener, not to its certificates, so that they
//! outlive these; but not a change of those whose certificates clients may show.

mod certificate;

pub use certificate::{Certificate, CertificateError};

use super::acme::proofs::{ALPN, Proofs};
use crate::config::{CertificateFiles, Settings, Tls, TlsVersion, UnknownHost, VerifyClient};
use arc_swap::ArcSwap;
use certificate::read_ca;
use log::{error, info, warn};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// From how long before its end on a certificate is warned of.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is wrong.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What rustls does not take.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// Nor its verifier.
    #[error("client_ca: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The certificates of a listener, by the names in them.
#[derive(Debug, Default)]
struct Certificates {
    all: Vec<Arc<Certificate>>,
    /// `site.example`, and `.site.example` for `*.site.example`.
    by_name: HashMap<String, Vec<Arc<Certificate>>>,
}

impl Certificates {
    fn new(all: Vec<Arc<Certificate>>) -> Self {
        let mut by_name: HashMap<String, Vec<_>> = HashMap::new();
        for certificate in &all {
            for name in &certificate.names {
                let name = name.strip_prefix('*').unwrap_or(name);
                let name = name.to_ascii_lowercase();
                by_name.entry(name).or_default().push(certificate.clone());
            }
        }
        Certificates { all, by_name }
    }

    /// Those for a host: of its own name, else by a wildcard, which stands for one label (RFC 9525 §6.3).
    fn named(&self, host: &str) -> Option<&[Arc<Certificate>]> {
        let wild = host.find('.').and_then(|dot| host.get(dot..));
        let found = self.by_name.get(host);
        let wild = wild.and_then(|wild| self.by_name.get(wild));
        // What only stands in for another one comes last.
        let real = |all: &&Vec<Arc<Certificate>>| all.iter().any(|one| !one.stands_in);
        let best = found.filter(real).or(wild.filter(real)).or(found).or(wild);
        best.map(Vec::as_slice)
    }

    /// That for a host which none is for.
    fn default(&self) -> Option<&[Arc<Certificate>]> {
        let real = self.all.iter().position(|one| !one.stands_in);
        let first = real.unwrap_or(0);
        self.all.get(first..=first)
    }
}

/// What one listener shows.
#[derive(Debug)]
pub struct TlsStore {
    files: Vec<CertificateFiles>,
    unknown_host: UnknownHost,
    certificates: ArcSwap<Certificates>,
    /// Shown to an authority that asks for a proof.
    proofs: Arc<Proofs>,
}

impl TlsStore {
    /// Reads all pairs.
    ///
    /// # Errors
    /// When one cannot be used.
    fn open(tls: &Tls, proofs: Arc<Proofs>) -> Result<Arc<Self>, CertificateError> {
        let read = |files| Certificate::open(files).map(Arc::new);
        let all = tls
            .certificates
            .iter()
            .map(read)
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(TlsStore {
            files: tls.certificates.clone(),
            unknown_host: tls.unknown_host,
            certificates: ArcSwap::from_pointee(Certificates::new(all)),
            proofs,
        }))
    }

    /// The certificates in force.
    pub fn certificates(&self) -> Vec<Arc<Certificate>> {
        self.certificates.load().all.clone()
    }

    /// Reads the pairs anew whose files changed, or with `all` every one. Those that cannot be used stay as they were.
    fn refresh(&self, all: bool, complained: &mut HashSet<(usize, CertificateStamp)>) {
        let before = self.certificates.load_full();
        let mut now = Vec::new();
        let mut changed = false;
        for (place, (files, old)) in self.files.iter().zip(&before.all).enumerate() {
            let stamp = certificate::stamp(files);
            let is_missing = old.stands_in && stamp == old.stamp;
            if is_missing || !all && stamp == old.stamp || complained.contains(&(place, stamp)) {
                now.push(old.clone());
                continue;
            }
            match Certificate::read(files) {
                Ok(new) => {
                    if new.chain() != old.chain() {
                        info!(
                            "the certificate {} was exchanged, it is valid until {}",
                            files.cert.display(),
                            new.until()
                        );
                    }
                    changed = true;
                    now.push(Arc::new(new));
                }
                Err(e) => {
                    error!("the certificate before it stays in force: {e}");
                    complained.insert((place, stamp));
                    now.push(old.clone());
                }
            }
        }
        if changed {
            self.certificates.store(Arc::new(Certificates::new(now)));
        }
    }
}

type CertificateStamp = certificate::Stamp;
type FileStamp = certificate::FileStamp;

impl ResolvesServerCert for TlsStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if asks_for_proof(&hello) {
            return self.proofs.certificate(hello.server_name()?);
        }
        let certificates = self.certificates.load();
        let named = hello
            .server_name()
            .and_then(|host| certificates.named(&host.to_ascii_lowercase()));
        let several = match (named, self.unknown_host) {
            (Some(named), _) => named,
            (None, UnknownHost::Default) => certificates.default()?,
            (None, UnknownHost::Refuse) => return None,
        };
        // RSA and ECDSA side by side: what this client can verify, the cheaper first.
        let fits =
            |c: &&Arc<Certificate>| c.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let best = several
            .iter()
            .filter(fits)
            .min_by_key(|c| (c.stands_in, c.cost()));
        best.or(several.first()).map(|c| c.key.clone())
    }
}

/// Whether this is an authority that wants to see a proof (RFC 8737 §3), and nothing else.
fn asks_for_proof(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| {
        offered.next().is_some_and(|one| one == ALPN) && offered.next().is_none()
    })
}

/// Whose certificates clients may show.
#[derive(Debug)]
struct Believed {
    /// In which state the file was when it was last looked into.
    stamp: Option<FileStamp>,
    /// Who was in it when somebody was.
    authorities: Vec<CertificateDer<'static>>,
}

/// What a listener needs to accept TLS.
#[derive(Debug)]
pub struct Terminator {
    config: ArcSwap<ServerConfig>,
    /// Whose certificates clients may show, where they may show any.
    clients: Option<(Tls, Mutex<Believed>)>,
    http2: bool,
    /// What it shows.
    pub store: Arc<TlsStore>,
    /// The value of `Strict-Transport-Security`, if it is sent.
    pub hsts: Option<Arc<str>>,
}

impl Terminator {
    /// For a listener; `http2`: whether that is offered (RFC 7301); `proofs`: what authorities are shown.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn open(tls: &Tls, http2: bool, proofs: Arc<Proofs>) -> Result<Self, TlsError> {
        let store = TlsStore::open(tls, proofs)?;
        // Before the reading: what changes meanwhile is read again.
        let stamp = tls.client_ca.as_deref().and_then(certificate::file_stamp);
        let read = tls.client_ca.as_deref().map(read_ca).transpose()?;
        let authorities = read.unwrap_or_default();
        let config = config(tls, http2, &store, &authorities)?;
        let believed = Mutex::new(Believed { stamp, authorities });
        let hsts = tls
            .hsts
            .map(|age| format!("max-age={}", age.as_secs()).into());
        Ok(Terminator {
            config: ArcSwap::from_pointee(config),
            clients: tls.client_ca.is_some().then(|| (tls.clone(), believed)),
            http2,
            store,
            hsts,
        })
    }

    /// For a handshake that begins now.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Reads anew whose certificates clients may show, if that file changed, or with `all` in any case. Sessions that began
    /// under another one cannot be resumed: the certificate shown then may be none any more.
    fn refresh(&self, all: bool) {
        let Some((tls, believed)) = &self.clients else {
            return;
        };
        let Some(path) = &tls.client_ca else { return };
        let stamp = certificate::file_stamp(path);
        let mut believed = believed.lock().unwrap_or_else(PoisonError::into_inner);
        if believed.stamp == stamp && !all {
            return;
        }
        believed.stamp = stamp;
        let read = read_ca(path).map_err(TlsError::from);
        let changed = read.and_then(|authorities| {
            let config = config(tls, self.http2, &self.store, &authorities)?;
            Ok((authorities != believed.authorities).then_some((authorities, config)))
        });
        match changed {
            Ok(Some((authorities, config))) => {
                let path = path.display();
                info!("whose certificates clients may show was read from {path} again");
                believed.authorities = authorities;
                self.config.store(Arc::new(config));
            }
            Ok(None) => {}
            Err(e) => error!("those whose certificates clients may show stay the same: {e}"),
        }
    }
}

/// How handshakes go at a listener.
///
/// # Errors
/// When a file cannot be used.
fn config(
    tls: &Tls,
    http2: bool,
    store: &Arc<TlsStore>,
    authorities: &[CertificateDer<'static>],
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let versions = match tls.min_version {
        TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12][..],
        TlsVersion::Tls13 => &[&version::TLS13][..],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions)?;
    let builder = match tls.verify_client {
        VerifyClient::Optional | VerifyClient::Required => {
            let mut roots = RootCertStore::empty();
            for certificate in authorities {
                roots.add(certificate.clone())?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match tls.verify_client {
                VerifyClient::Optional => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            builder.with_client_cert_verifier(verifier.build()?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(store.clone());
    config.ticketer = ring::Ticketer::new()?;
    // Ours are in the order of their strength.
    config.ignore_client_order = true;
    config.alpn_protocols = match http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    if tls.certificates.iter().any(|c| !c.fetched_for.is_empty()) {
        config.alpn_protocols.push(ALPN.to_vec());
    }
    Ok(config)
}

/// Whether all listeners of these settings could speak TLS, for `-t`. What is worth knowing all the same comes back.
///
/// # Errors
/// A sentence for each that could not.
pub fn check(settings: &Settings) -> Result<Vec<String>, Vec<String>> {
    let (mut known, mut problems) = (Vec::new(), Vec::new());
    for listener in &settings.listeners {
        let Some(tls) = &listener.tls else { continue };
        match Terminator::open(tls, listener.http2, Arc::default()) {
            Ok(terminator) => known.extend(ends(&terminator.store, Duration::MAX)),
            Err(e) => problems.push(format!("listeners: {}: {e}", listener.address)),
        }
    }
    if problems.is_empty() {
        Ok(known)
    } else {
        Err(problems)
    }
}

/// Says in the log which certificates end soon.
pub fn warn_of_ends(store: &TlsStore) {
    for sentence in ends(store, SOON) {
        warn!("{sentence}");
    }
}

/// When certificates end that do so `within` this time, or have done so.
fn ends(store: &TlsStore, within: Duration) -> Vec<String> {
    let said = |certificate: Arc<Certificate>| {
        if certificate.stands_in {
            return None;
        }
        let (file, until) = (certificate.path().display(), certificate.until());
        match certificate.not_after.duration_since(SystemTime::now()) {
            Ok(left) if left > within => None,
            Ok(left) if left > SOON => {
                Some(format!("the certificate {file} is valid until {until}"))
            }
            Ok(_) => Some(format!("the certificate {file} ends soon: {until}")),
            Err(_) => Some(format!("the certificate {file} has ended: {until}")),
        }
    };
    store.certificates().into_iter().filter_map(said).collect()
}

/// Follows the files of these listeners until the process ends; `reloads` says that all are to be read.
pub async fn follow(terminators: Vec<Arc<Terminator>>, reloads: Arc<tokio::sync::Notify>) {
    if terminators.is_empty() {
        return;
    }
    let mut complained: Vec<HashSet<_>> = vec![HashSet::new(); terminators.len()];
    loop {
        let all = tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            () = reloads.notified() => true,
        };
        for (terminator, complained) in terminators.iter().zip(&mut complained) {
            if all {
                complained.clear();
            }
            terminator.store.refresh(all, complained);
            terminator.refresh(all);
        }
    }
}

/// Where a certificate comes from, as messages name it.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
