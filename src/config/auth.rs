//! `auth` of a route, as written: who has to prove who they are, and how.
//!
//! Read by `routes`. What is in the file, `proxy::authenticate` looks at.

use super::files;
use super::keypath::KeyPath;
use super::patterns::FileText;
use super::report::{Document, Report};
use super::switch::{Section, over};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// `auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { basic: users.htpasswd }, or off"
)]
pub(crate) struct AuthSpec {
    basic: Option<FileText>,
}

impl Section for AuthSpec {
    const EXPECTED: &'static str = "a mapping such as { basic: users.htpasswd }, or off";

    fn over(&self, base: &Self) -> Self {
        over!(self, base, AuthSpec { basic })
    }
}

impl AuthSpec {
    /// Reports that nobody could pass; `path` is that of this mapping.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        if self.basic.is_none() {
            let problem = report.add(document, path.key("basic"), "required, but missing");
            problem.help = Some("it is a file of users, as `htpasswd -B` writes it".to_string());
        }
    }

    /// The file of users; relative paths are those of this directory.
    pub(crate) fn users(&self, directory: &Path) -> Option<PathBuf> {
        Some(files::absolute(directory, &self.basic.as_ref()?.0))
    }
}
