//! `tls` of a listener, as written: which certificates it shows, and whether clients have to show theirs.
//!
//! Read by `settings`. What is in the files, `server::tls` looks at.

use super::acme::Domain;
use super::duration::PositiveSpan;
use super::keypath::KeyPath;
use super::patterns::FileText;
use super::report::{Document, Report};
use super::written::{Complaint, Written, written};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a listener speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// At least one; the first is shown to whoever asks for a host that none names.
    pub certificates: Vec<CertificateFiles>,
    /// What becomes of those.
    pub unknown_host: UnknownHost,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Whether clients have to show a certificate.
    pub verify_client: VerifyClient,
    /// Whose certificates are believed; there if clients are asked for one.
    pub client_ca: Option<PathBuf>,
    /// How long browsers are told to come by TLS only (RFC 6797).
    pub hsts: Option<Duration>,
}

/// A certificate and its key, both in PEM; the paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The names that it is fetched for, where that is done here: then both are in one file.
    pub fetched_for: Vec<String>,
}

/// What a client gets that asks for a host which no certificate names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownHost {
    /// The first certificate.
    Default,
    /// No handshake.
    Refuse,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Whether clients have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyClient {
    /// They are not asked for one.
    Off,
    /// If they show one, it has to be right.
    Optional,
    /// Without one there is no handshake.
    Required,
}

macro_rules! words {
    ($type:ty, $expected:literal, $($value:path => $word:literal),+) => {
        impl Written for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(word: &str) -> Result<Self, Complaint> {
                match word {
                    $($word => Ok($value),)+
                    _ => {
                        let near = super::suggest::nearest(word, [$($word),+].into_iter());
                        let help = near.map(super::written::meant);
                        Err(Complaint { message: None, help })
                    }
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($value => $word),+ })
            }
        }

        written!($type);
    };
}
pub(super) use words;

words!(UnknownHost, "default or refuse", UnknownHost::Default => "default", UnknownHost::Refuse => "refuse");
words!(TlsVersion, "\"1.2\" or \"1.3\", in quotes", TlsVersion::Tls12 => "1.2", TlsVersion::Tls13 => "1.3");
words!(
    VerifyClient,
    "off, optional or required",
    VerifyClient::Off => "off",
    VerifyClient::Optional => "optional",
    VerifyClient::Required => "required"
);

/// `tls`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { certificates: [{ cert: site.pem, key: site.key }] }"
)]
pub(crate) struct TlsSpec {
    certificates: Vec<CertificateSpec>,
    unknown_host: Option<UnknownHost>,
    min_version: Option<TlsVersion>,
    verify_client: Option<VerifyClient>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ca: Option<FileText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hsts: Option<PositiveSpan>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { cert: site.pem, key: site.key } or { acme: [www.example.com] }"
)]
struct CertificateSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    cert: Option<FileText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<FileText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acme: Option<Vec<Domain>>,
}

impl CertificateSpec {
    /// Reports what is missing or too much.
    fn check(&self, document: Document, path: &KeyPath, report: &mut Report, can_fetch: bool) {
        match (&self.cert, &self.key, &self.acme) {
            (Some(_), Some(_), None) => {}
            (None, None, Some(names)) if names.is_empty() => {
                report.add(document, path.key("acme"), "at least one name is needed");
            }
            (None, None, Some(_)) if !can_fetch => {
                let problem = report.add(document, path.key("acme"), "needs the section acme");
                problem.help =
                    Some("such as acme: { path: /var/lib/backstop/acme }, beside listeners".into());
            }
            (None, None, Some(_)) => {}
            (_, _, Some(_)) => {
                report.add(document, path.key("acme"), "goes without cert and key");
            }
            (Some(_), None, None) => {
                report.add(document, path.key("cert"), "needs its key");
            }
            (None, Some(_), None) => {
                report.add(document, path.key("key"), "needs its cert");
            }
            (None, None, None) => {
                let problem = report.add(document, path.clone(), "names no certificate");
                problem.help = Some("write cert and key, or acme".to_string());
            }
        }
    }

    /// Where it is. Two are never fetched into one file: `check` sees to it.
    fn compile(
        self,
        absolute: &impl Fn(&str) -> PathBuf,
        fetched: Option<&Path>,
    ) -> CertificateFiles {
        let fetched_for: Vec<String> = self.acme.into_iter().flatten().map(|d| d.0).collect();
        if let (Some(first), Some(directory)) = (fetched_for.first(), fetched) {
            let file = directory.join(format!("{first}.pem"));
            return CertificateFiles {
                cert: file.clone(),
                key: file,
                fetched_for,
            };
        }
        let path = |file: Option<FileText>| file.map_or(PathBuf::new(), |file| absolute(&file.0));
        CertificateFiles {
            cert: path(self.cert),
            key: path(self.key),
            fetched_for,
        }
    }

    /// How it is written.
    fn of(files: &CertificateFiles) -> Self {
        let file = |path: &Path| FileText(path.to_string_lossy().into_owned());
        if files.fetched_for.is_empty() {
            return CertificateSpec {
                cert: Some(file(&files.cert)),
                key: Some(file(&files.key)),
                acme: None,
            };
        }
        CertificateSpec {
            cert: None,
            key: None,
            acme: Some(files.fetched_for.iter().cloned().map(Domain).collect()),
        }
    }
}

impl TlsSpec {
    /// Reports what does not go together; `path` is that of this mapping.
    pub(crate) fn check(
        &self,
        document: Document,
        path: &KeyPath,
        report: &mut Report,
        can_fetch: bool,
    ) {
        let certificates = path.key("certificates");
        for (i, one) in self.certificates.iter().enumerate() {
            one.check(document, &certificates.index(i), report, can_fetch);
        }
        if self.certificates.is_empty() {
            let at = certificates;
            let problem = report.add(document, at, "at least one certificate is needed");
            problem.help = Some("such as { cert: site.pem, key: site.key }".to_string());
        }
        let verifies = self.verify_client.is_some_and(|v| v != VerifyClient::Off);
        match (&self.client_ca, verifies) {
            (None, true) => {
                let at = path.key("verify_client");
                let problem = report.add(document, at, "needs client_ca");
                problem.help =
                    Some("client_ca is the file of those whose certificates count".to_string());
            }
            (Some(_), false) => {
                let at = path.key("client_ca");
                let problem = report.add(document, at, "has no effect without verify_client");
                problem.help = Some("write verify_client: required beside it".to_string());
            }
            _ => {}
        }
    }

    /// The names of those that are fetched, of each.
    pub(crate) fn fetched(&self) -> impl Iterator<Item = Vec<&str>> {
        let fetched = self.certificates.iter().filter_map(|one| one.acme.as_ref());
        fetched.map(|names| names.iter().map(|name| name.0.as_str()).collect())
    }

    /// With every default filled in.
    /// `fetched`: where those are kept that are fetched.
    pub(crate) fn compile(
        self,
        absolute: &impl Fn(&str) -> PathBuf,
        fetched: Option<&Path>,
    ) -> Tls {
        let files = |spec: CertificateSpec| spec.compile(absolute, fetched);
        Tls {
            certificates: self.certificates.into_iter().map(files).collect(),
            unknown_host: self.unknown_host.unwrap_or(UnknownHost::Default),
            min_version: self.min_version.unwrap_or(TlsVersion::Tls12),
            verify_client: self.verify_client.unwrap_or(VerifyClient::Off),
            client_ca: self.client_ca.map(|file| absolute(&file.0)),
            hsts: self.hsts.map(|span| span.0),
        }
    }

    /// How it is written.
    pub(crate) fn of(tls: &Tls) -> TlsSpec {
        let file = |path: &Path| FileText(path.to_string_lossy().into_owned());
        TlsSpec {
            certificates: tls.certificates.iter().map(CertificateSpec::of).collect(),
            unknown_host: Some(tls.unknown_host),
            min_version: Some(tls.min_version),
            verify_client: Some(tls.verify_client),
            client_ca: tls.client_ca.as_deref().map(file),
            hsts: tls.hsts.map(PositiveSpan),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(text: &str) -> Tls {
        let spec: TlsSpec = serde_yaml::from_str(text).unwrap();
        let absolute = |file: &str| Path::new("/etc/backstop").join(file);
        spec.compile(&absolute, Some(Path::new("/acme")))
    }

    #[test]
    fn what_is_shown_is_read_again() {
        let least = "{ certificates: [{ cert: a.pem, key: /b.key }] }";
        let most = "{ certificates: [{ cert: a.pem, key: a.key }, { cert: b.pem, key: b.key }], unknown_host: refuse, \
                    min_version: \"1.3\", verify_client: optional, client_ca: ca.pem, hsts: 1d }";
        let fetched = "{ certificates: [{ acme: [A.example, b.example] }] }";
        for text in [least, most, fetched] {
            let compiled = tls(text);
            let shown = serde_yaml::to_string(&TlsSpec::of(&compiled)).unwrap();
            assert_eq!(tls(&shown), compiled, "{shown}");
        }
        let fetched = tls(fetched).certificates.remove(0);
        assert_eq!(fetched.cert, Path::new("/acme/a.example.pem"));
        assert_eq!(fetched.key, fetched.cert);
        assert_eq!(fetched.fetched_for, ["a.example", "b.example"]);
        let least = tls(least);
        assert_eq!(least.certificates[0].cert, Path::new("/etc/backstop/a.pem"));
        assert_eq!(least.certificates[0].key, Path::new("/b.key"));
        assert_eq!(least.min_version, TlsVersion::Tls12);
        assert_eq!(least.unknown_host, UnknownHost::Default);
        assert_eq!((least.verify_client, least.hsts), (VerifyClient::Off, None));
    }
}
