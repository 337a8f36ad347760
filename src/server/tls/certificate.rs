//! One certificate with its key, read from two files in PEM and checked against each other.

use super::shown;
use crate::config::CertificateFiles;
use crate::server::acme::proofs::self_signed;
use jiff::Timestamp;
use log::error;
use rcgen::CertificateParams;
use rustls::SignatureAlgorithm;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a pair of files is no certificate with its key.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}\n  help: {help}")]
pub struct CertificateError {
    file: String,
    what: String,
    help: &'static str,
}

/// What tells whether files changed: of each, when and how large, and which it is.
pub(super) type Stamp = [Option<FileStamp>; 2];
/// Of one file.
pub(super) type FileStamp = (SystemTime, u64, u64);

/// A certificate with its key.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    /// As rustls takes it.
    pub(super) key: Arc<CertifiedKey>,
    /// The hosts it is for: `site.example`, `*.site.example`.
    pub names: Vec<String>,
    /// When it begins.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
    /// Whether it only stands in for one that is still to be fetched.
    pub stands_in: bool,
    pub(super) stamp: Stamp,
}

impl Certificate {
    /// Reads a pair.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn read(files: &CertificateFiles) -> Result<Self, CertificateError> {
        // Before the reading: what changes meanwhile is read again.
        let stamp = stamp(files);
        let wrong = |path: &Path, what: String, help| CertificateError {
            file: shown(path),
            what,
            help,
        };
        let chain = read_chain(&files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| {
            let help = "a private key in PEM is needed, without a passphrase, readable for the user that Backstop runs as";
            wrong(&files.key, format!("no private key can be read: {e}"), help)
        })?;
        let key = any_supported_type(&key).map_err(|_| {
            wrong(
                &files.key,
                "this kind of key cannot be used".into(),
                "use RSA, ECDSA P-256 or P-384, or Ed25519",
            )
        })?;
        let Some(first) = chain.first().cloned() else {
            return Err(wrong(
                &files.cert,
                "no certificate is in it".into(),
                "it is to begin with the server's own",
            ));
        };
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| {
            let what = format!(
                "it is not the certificate of the key in {}",
                files.key.display()
            );
            wrong(
                &files.cert,
                what,
                "the server's own certificate comes first, those that sign it after it",
            )
        })?;
        let (_, parsed) = X509Certificate::from_der(&first).map_err(|e| {
            wrong(
                &files.cert,
                format!("not a certificate: {e}"),
                "make it anew",
            )
        })?;
        let validity = parsed.validity();
        let at = |second: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(second).unwrap_or(0));
        Ok(Certificate {
            files: files.clone(),
            names: names(&parsed),
            not_before: at(validity.not_before.timestamp()),
            not_after: at(validity.not_after.timestamp()),
            stands_in: false,
            key: Arc::new(certified),
            stamp,
        })
    }

    /// Reads a pair; one that is fetched and not there yet has another one stand in for it, which no client will trust.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn open(files: &CertificateFiles) -> Result<Self, CertificateError> {
        match Self::read(files) {
            Err(e) if !files.fetched_for.is_empty() => {
                if files.cert.exists() {
                    // It is fetched anew.
                    error!("{e}");
                }
                Self::stand_in(files)
            }
            read => read,
        }
    }

    fn stand_in(files: &CertificateFiles) -> Result<Self, CertificateError> {
        let made = CertificateParams::new(files.fetched_for.clone());
        let made = made.and_then(|params| self_signed(&params));
        let key = made.map_err(|e| CertificateError {
            file: shown(&files.cert),
            what: format!("none can be made in its place: {e}"),
            help: "fetch it otherwise",
        })?;
        Ok(Certificate {
            files: files.clone(),
            key,
            names: files.fetched_for.clone(),
            not_before: SystemTime::now(),
            not_after: SystemTime::now(),
            stands_in: true,
            stamp: stamp(files),
        })
    }

    /// Whether it is for these names, all of them.
    pub fn is_for(&self, names: &[String]) -> bool {
        let has = |name: &String| self.names.iter().any(|own| own.eq_ignore_ascii_case(name));
        names.iter().all(has)
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.files.cert
    }

    /// When it ends, to be read.
    pub(super) fn until(&self) -> String {
        let since = self
            .not_after
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let at = i64::try_from(since.as_secs())
            .ok()
            .and_then(|s| Timestamp::from_second(s).ok());
        at.unwrap_or_default().strftime("%F %T UTC").to_string()
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// What a signature costs: the least first.
    pub(super) fn cost(&self) -> u8 {
        match self.key.key.algorithm() {
            SignatureAlgorithm::RSA => 1,
            _ => 0,
        }
    }
}

/// The hosts of a certificate (RFC 9525 §6.1: what stands in its subject does not count).
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    let hosts = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    hosts.collect()
}

/// The certificates of those who sign others.
///
/// # Errors
/// When there is none.
pub(super) fn read_ca(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    read_chain(path)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let wrong = |what: String| CertificateError {
        file: shown(path),
        what,
        help: "certificates in PEM are needed, readable for the user that Backstop runs as",
    };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|e| wrong(format!("no certificate can be read: {e}")))?;
    if chain.is_empty() {
        return Err(wrong("no certificate is in it".into()));
    }
    Ok(chain)
}

/// What tells later whether the files changed.
pub(super) fn stamp(files: &CertificateFiles) -> Stamp {
    [&files.cert, &files.key].map(|path| file_stamp(path))
}

/// The same of one file; `None` where there is none.
pub(super) fn file_stamp(path: &Path) -> Option<FileStamp> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len(), file.ino()))
}
