//! `tls` of an upstream, as written: how its backends are spoken to, and how they prove who they are.
//!
//! Read by `upstreams`. What is in the files, `upstream::tls` looks at.

use super::files;
use super::keypath::KeyPath;
use super::patterns::FileText;
use super::report::{Document, Report};
use super::written::{Complaint, Written, written};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// How TLS is spoken to the backends of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that their certificates must have, which they are asked by; `None` for each one's own.
    pub server_name: Option<String>,
    /// Whether it is looked at who they are.
    pub verify: bool,
    /// Whose word is taken for that; `None` for those that the system trusts.
    pub ca: Option<PathBuf>,
    /// What they are shown, certificate and key, if they ask.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl UpstreamTls {
    /// The same with its files in this directory, where they are not written as absolute.
    pub(crate) fn within(mut self, directory: &Path) -> Self {
        let absolute = |path: &PathBuf| files::absolute(directory, path);
        self.ca = self.ca.as_ref().map(absolute);
        let identity = self.identity.as_ref();
        self.identity = identity.map(|(cert, key)| (absolute(cert), absolute(key)));
        self
    }
}

/// A name in a certificate, or an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerName(String);

impl Written for ServerName {
    const EXPECTED: &'static str = "a name in a certificate such as api.internal";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match rustls::pki_types::ServerName::try_from(word) {
            Ok(_) => Ok(ServerName(word.to_string())),
            Err(_) => Err(Complaint::unfit()),
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written!(ServerName);

/// `tls`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { sni: api.internal, ca: ca.pem }, or {}"
)]
pub(crate) struct UpstreamTlsSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<ServerName>,
    verify: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<FileText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cert: Option<FileText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<FileText>,
}

impl UpstreamTlsSpec {
    /// Reports what does not go together; `path` is that of this mapping.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        if self.verify == Some(false) && self.ca.is_some() {
            let problem = report.add(document, path.key("ca"), "has no effect with verify: false");
            problem.help =
                Some("leave verify out: then backends must prove who they are".to_string());
        }
        match (&self.cert, &self.key) {
            (Some(_), None) => {
                report.add(document, path.key("cert"), "needs its key");
            }
            (None, Some(_)) => {
                report.add(document, path.key("key"), "needs its cert");
            }
            _ => {}
        }
    }

    /// With every default filled in; paths as they are written.
    pub(crate) fn compile(&self) -> UpstreamTls {
        let path = |file: &FileText| PathBuf::from(&file.0);
        UpstreamTls {
            server_name: self.sni.as_ref().map(|name| name.0.clone()),
            verify: self.verify.unwrap_or(true),
            ca: self.ca.as_ref().map(path),
            identity: self
                .cert
                .as_ref()
                .map(path)
                .zip(self.key.as_ref().map(path)),
        }
    }

    /// With what is not said.
    pub(crate) fn filled(mut self) -> Self {
        self.verify.get_or_insert(true);
        self
    }
}
