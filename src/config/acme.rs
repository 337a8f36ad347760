//! `acme` of the static file, as written: the authority that certificates are fetched from.
//!
//! Read by `settings`; which certificates are fetched stands at the listeners, see [`super::tls`].

use super::address::is_name;
use super::patterns::{DirectoryText, FileText, shown_as_written};
use super::tls::words;
use super::written::{Complaint, Written, written};
use http::Uri;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// An authority that issues certificates to who can prove that a name is theirs (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// Where it says how it is spoken to.
    pub directory: String,
    /// Whom it may write to.
    pub contact: Option<String>,
    /// Where the account and the certificates are kept; absolute.
    pub path: PathBuf,
    /// Whose certificate it has itself, if not one that the system trusts; absolute.
    pub ca: Option<PathBuf>,
    /// How names are proved.
    pub challenge: Challenge,
}

/// How it is proved that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By an answer in clear text, on port 80 (RFC 8555 §8.3).
    Http01,
    /// By a handshake of TLS, on port 443 (RFC 8737).
    TlsAlpn01,
}

words!(
    Challenge,
    "http-01 or tls-alpn-01",
    Challenge::Http01 => "http-01",
    Challenge::TlsAlpn01 => "tls-alpn-01"
);

/// The address of a directory.
#[derive(Debug, Clone)]
struct DirectoryUrl(String);

impl Written for DirectoryUrl {
    const EXPECTED: &'static str =
        "an address such as https://acme-v02.api.letsencrypt.org/directory";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let uri: Uri = word.parse().map_err(|_| Complaint::unfit())?;
        match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(host)) if !host.is_empty() => Ok(DirectoryUrl(word.to_string())),
            (Some("http"), _) => Err(Complaint::help("an authority is spoken to by https")),
            _ => Err(Complaint::unfit()),
        }
    }
}

/// Where somebody reads mail.
#[derive(Debug, Clone)]
struct Mail(String);

impl Written for Mail {
    const EXPECTED: &'static str = "an address such as ops@example.com";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let word = word.strip_prefix("mailto:").unwrap_or(word);
        let fits = |b: u8| b.is_ascii_graphic() && !b"<>,;\"()?".contains(&b);
        match word.rsplit_once('@') {
            Some((who, host)) if !who.is_empty() && is_name(host) && word.bytes().all(fits) => {
                Ok(Mail(word.to_string()))
            }
            _ => Err(Complaint::unfit()),
        }
    }
}

/// A name that a certificate can be had for.
#[derive(Debug, Clone)]
pub(crate) struct Domain(pub(crate) String);

impl Written for Domain {
    const EXPECTED: &'static str = "the name of a host such as www.example.com";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if word.starts_with("*.") {
            return Err(Complaint::help(
                "for a wildcard an authority wants to see DNS records: fetch it otherwise, and name its files with cert and key",
            ));
        }
        let name = word.to_ascii_lowercase();
        let is_number = name.parse::<std::net::IpAddr>().is_ok();
        let is_full = name.contains('.') && !name.ends_with('.') && !name.contains('_');
        match is_name(&name) && is_full && !is_number {
            true => Ok(Domain(name)),
            false => Err(Complaint::unfit()),
        }
    }
}

shown_as_written!(DirectoryUrl, Mail, Domain);
written!(DirectoryUrl, Mail, Domain);

/// `acme`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { path: /var/lib/backstop/acme, contact: ops@example.com }"
)]
pub(crate) struct AcmeSpec {
    path: DirectoryText,
    #[serde(skip_serializing_if = "Option::is_none")]
    contact: Option<Mail>,
    directory: Option<DirectoryUrl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<FileText>,
    challenge: Option<Challenge>,
}

impl AcmeSpec {
    /// With every default filled in. `in_clear`: whether names are proved without TLS, unless the file says how.
    pub(crate) fn compile(self, absolute: &impl Fn(&str) -> PathBuf, in_clear: bool) -> Acme {
        let challenge = self.challenge.unwrap_or(match in_clear {
            true => Challenge::Http01,
            false => Challenge::TlsAlpn01,
        });
        Acme {
            directory: self.directory.map_or(DIRECTORY.into(), |url| url.0),
            contact: self.contact.map(|mail| mail.0),
            path: absolute(&self.path.0),
            ca: self.ca.map(|file| absolute(&file.0)),
            challenge,
        }
    }

    /// How it is written.
    pub(crate) fn of(acme: &Acme) -> AcmeSpec {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        AcmeSpec {
            path: DirectoryText(text(&acme.path)),
            contact: acme.contact.clone().map(Mail),
            directory: Some(DirectoryUrl(acme.directory.clone())),
            ca: acme.ca.as_deref().map(|path| FileText(text(path))),
            challenge: Some(acme.challenge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (word, fits) in [
            ("www.example.com", true),
            ("WWW.example.com", true),
            ("*.example.com", false),
            ("localhost", false),
            ("www.example.com.", false),
            ("_acme.example.com", false),
            ("10.0.0.1", false),
            ("a b.example", false),
            ("../../etc/x.y", false),
        ] {
            assert_eq!(Domain::parse(word).is_ok(), fits, "{word}");
        }
        for (word, fits) in [
            ("ops@example.com", true),
            ("mailto:ops@example.com", true),
            ("ops", false),
            ("@example.com", false),
            ("a b@example.com", false),
        ] {
            assert_eq!(Mail::parse(word).is_ok(), fits, "{word}");
        }
        for (word, fits) in [
            (DIRECTORY, true),
            ("http://authority.test/directory", false),
            ("authority.test", false),
        ] {
            assert_eq!(DirectoryUrl::parse(word).is_ok(), fits, "{word}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        let within = |file: &str| Path::new("/etc/backstop").join(file);
        let read = |text: &str| {
            serde_yaml::from_str::<AcmeSpec>(text)
                .unwrap()
                .compile(&within, true)
        };
        for text in [
            "{ path: certs }",
            "{ path: /c, contact: a@b.test, directory: \"https://x.test/d\", ca: ca.pem, challenge: tls-alpn-01 }",
        ] {
            let compiled = read(text);
            let shown = serde_yaml::to_string(&AcmeSpec::of(&compiled)).unwrap();
            assert_eq!(read(&shown), compiled, "{shown}");
        }
        let least = read("{ path: certs }");
        assert_eq!(least.path, Path::new("/etc/backstop/certs"));
        assert_eq!(least.directory, DIRECTORY);
        assert_eq!(least.challenge, Challenge::Http01);
    }
}
