//! What the operator wrote: two YAML files, read, checked and compiled.
//!
//! [`load`] is the one path for start, `-t` and reload: read, parse, compile, and all errors of both files at once. It calls
//! into `policy` and is called by `main` and `server`. It opens no sockets, resolves no names and changes nothing.
//!
//! The way of a file: `files` (text) → `tree` (plain values) → `decode` (specs: `settings`, `upstreams`, `routes`, …) →
//! `compile` (the types of `policy`). Errors go to `report`, which finds their lines with `locate`.

mod access;
mod access_log;
mod acme;
mod address;
mod admin;
mod answers;
mod auth;
mod block;
mod cache;
mod canary;
mod clients;
mod compile;
mod compress;
mod concurrency;
mod cors;
mod decode;
mod duration;
mod eject;
mod error;
mod error_pages;
mod fault;
mod files;
mod headers;
mod health_check;
mod hedge;
mod key;
mod keypath;
mod locate;
mod number;
mod patterns;
mod percentage;
mod plan;
mod print;
mod rate_limit;
mod report;
mod require;
mod retry;
mod routes;
mod settings;
mod ship;
mod size;
mod store;
mod suggest;
mod switch;
#[cfg(test)]
mod tests;
mod timeouts;
mod times;
mod tls;
mod to_https;
mod traces;
mod tree;
mod upstream_tls;
mod upstreams;
mod wanted;
mod written;

pub use access_log::{AccessLog, LogTarget};
pub use acme::{Acme, Challenge};
pub use address::{BackendAddress, Host};
pub use admin::AdminPlace;
pub use clients::Clients;
pub use error::{ConfigError, Errors};
pub use health_check::{CheckKind, CheckPlan, HttpCheck};
pub use plan::{BackendPlan, BackendState, Routing, UpstreamPlan};
pub use print::print;
pub use settings::{Listener, Resolver, Settings};
pub use ship::Ship;
pub use store::{CacheSettings, DiskSettings};
pub use tls::{CertificateFiles, Tls, TlsVersion, UnknownHost, VerifyClient};
pub use traces::Traces;
pub use upstream_tls::UpstreamTls;

use compile::Resolved;
use decode::{Decoded, decode};
use files::Files;
use keypath::KeyPath;
use report::{Document, Report};
use settings::SettingsSpec;
use std::path::{Path, PathBuf};
use tree::Node;

/// A configuration that passed every check.
pub struct Loaded {
    /// What only a restart changes.
    pub settings: Settings,
    /// What a reload replaces.
    pub routing: Routing,
    /// The files it came from, as an operator would name them: the static one first.
    pub files: Vec<PathBuf>,
    /// For [`print`].
    resolved: Resolved,
}

/// Reads, checks and compiles the configuration whose static file is `path`.
///
/// # Errors
/// Every error of both files.
pub fn load(path: &Path) -> Result<Loaded, Errors> {
    const STATIC: Document = Document { file: 0, index: 0 };
    let mut report = Report::default();
    let mut files = Files::default();
    files.read(path, path.to_path_buf(), 2, &mut report);
    let directory = path.parent().unwrap_or(Path::new(""));
    let dynamic = find_upstreams(directory, &mut files, &mut report);

    let mut settings = None;
    let mut lists = access::Lists::new(directory);
    if let Some(root) = files.root(STATIC) {
        let Decoded { value, whole } =
            decode::<SettingsSpec>(root, STATIC, &KeyPath::default(), &mut report);
        if let Some(spec) = &value
            && whole
        {
            spec.check(STATIC, &mut lists, &mut report);
        }
        settings = value.map(|spec| spec.compile(directory, &mut lists));
    }
    let compiled = dynamic.and_then(|document| {
        let root = files.root(document)?;
        let file = files
            .sources
            .get(document.file)
            .map(|source| source.name.clone());
        let file = file.unwrap_or_default();
        let directory = file.parent().unwrap_or(Path::new(""));
        compile::compile(root, document, directory, &mut report)
    });

    let roots = files
        .documents
        .iter()
        .map(|(document, root)| (*document, root))
        .collect();
    report.finish(&files.sources, &roots)?;
    let names: Vec<PathBuf> = files
        .sources
        .into_iter()
        .map(|source| source.name)
        .collect();
    match (settings, compiled) {
        (Some(settings), Some((mut routing, resolved))) => Ok(Loaded {
            routing: {
                let file = names.last().map_or(path, PathBuf::as_path);
                routing.resolve_files(file.parent().unwrap_or(Path::new("")));
                routing
            },
            settings,
            files: names,
            resolved,
        }),
        // Whatever is missing was reported; this is for the type's sake.
        _ => Err(Errors::one(ConfigError {
            file: path.to_path_buf(),
            line: None,
            path: String::new(),
            message: "the configuration cannot be read".to_string(),
            help: None,
        })),
    }
}

/// Where the upstreams are: in the second document of the static file, or in a file of their own, which is read. Looks at
/// the plain values, so that errors elsewhere in the static file do not hide those of the other.
fn find_upstreams(directory: &Path, files: &mut Files, report: &mut Report) -> Option<Document> {
    const STATIC: Document = Document { file: 0, index: 0 };
    const SECOND: Document = Document { file: 0, index: 1 };
    let root = files.root(STATIC)?;
    let key = KeyPath::default().key("upstreams_file");
    let written = root
        .get("upstreams_file")
        .filter(|node| **node != Node::Null);
    match (written, files.root(SECOND)) {
        (None, Some(_)) => Some(SECOND),
        (Some(_), Some(_)) => {
            let message = "the file holds a second document, which already is the upstreams";
            report.add(STATIC, key, message).help = Some("give either, not both".to_string());
            Some(SECOND)
        }
        (Some(Node::Text(file)), None) if !file.is_empty() => {
            let (path, name) = files::beside(directory, file);
            files.read(&path, name, 1, report);
            Some(Document::first(1))
        }
        // Not the name of a file: the settings say so.
        (Some(_), None) => None,
        (None, None) => {
            // A second document that is not YAML was reported, and so is a first one that is no mapping.
            if !files.broken && matches!(root, Node::Map(_)) {
                report.add(STATIC, key, "required, but missing").help = Some(
                    "name the file with the upstreams and routes, or put them into this one after a line of \"---\""
                        .to_string(),
                );
            }
            None
        }
    }
}
