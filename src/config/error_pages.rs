//! `error_pages` of a route, as written: files that are shown in place of our own texts.
//!
//! Read by `routes`. The files are read here, each once however many routes name it, so that a request never waits for one.

use super::fault::quoted;
use super::files;
use super::keypath::KeyPath;
use super::report::{Document, Report};
use super::switch::Section;
use super::written::{Complaint, Written, meant, written};
use crate::policy::error_body::{ErrorPages, Kind, Page, PageFor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a page is none that is most often meant to be elsewhere.
const MISSING: &str = "there is no such file";

/// The largest page.
const LARGEST: u64 = 1 << 20;

/// `error_pages`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct ErrorPagesSpec(BTreeMap<PageForText, PageText>);

/// A status, or a class of them: `503`, `5xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PageForText(PageFor);

impl Written for PageForText {
    const EXPECTED: &'static str = "a status from 400 to 599, or 4xx or 5xx";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match word {
            "4xx" => return Ok(PageForText(PageFor::Class(4))),
            "5xx" => return Ok(PageForText(PageFor::Class(5))),
            "4XX" | "5XX" => return Err(Complaint::help(meant(word.to_ascii_lowercase()))),
            _ => {}
        }
        let digits = word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit());
        let status = word.parse().ok().filter(|n| (400..600).contains(n));
        match status {
            Some(status) if digits => Ok(PageForText(PageFor::Status(status))),
            _ => Err(Complaint::unfit()),
        }
    }
}

impl fmt::Display for PageForText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PageFor::Status(status) => write!(f, "{status}"),
            PageFor::Class(class) => write!(f, "{class}xx"),
        }
    }
}

/// The path of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PageText {
    written: String,
    kind: Kind,
    /// Absolute, once it is known where it is written.
    path: PathBuf,
}

impl Written for PageText {
    const EXPECTED: &'static str = "the path of a file that ends in .html, .json or .txt";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let kind = Kind::of(word).filter(|_| !word.contains('\0'));
        match kind {
            Some(kind) => Ok(PageText {
                written: word.to_string(),
                kind,
                path: PathBuf::from(word),
            }),
            None => {
                let htm = word.strip_suffix(".htm").filter(|stem| !stem.is_empty());
                Err(Complaint {
                    message: None,
                    help: htm.map(|stem| meant(format_args!("{stem}.html"))),
                })
            }
        }
    }
}

impl fmt::Display for PageText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

written!(PageForText, PageText);

impl Section for ErrorPagesSpec {
    const EXPECTED: &'static str = "a mapping such as { 5xx: errors/5xx.html }, or off";

    fn over(&self, base: &Self) -> Self {
        let mut pages = base.0.clone();
        pages.extend(self.0.iter().map(|(what, page)| (*what, page.clone())));
        ErrorPagesSpec(pages)
    }
}

impl ErrorPagesSpec {
    /// The same, its paths being those of this directory.
    pub(crate) fn within(&self, directory: &Path) -> ErrorPagesSpec {
        let placed = |page: &PageText| PageText {
            path: files::absolute(directory, &page.path),
            ..page.clone()
        };
        let pages = self.0.iter().map(|(what, page)| (*what, placed(page)));
        ErrorPagesSpec(pages.collect())
    }

    /// What the proxy goes by; `None` where there is no page.
    pub(crate) fn compile(&self, files: &PageFiles) -> Option<ErrorPages> {
        let pages = self.0.iter().filter_map(|(what, page)| {
            let read = files.0.get(&page.path)?.as_ref().ok()?;
            Some((what.0, read.clone()))
        });
        let pages: Vec<_> = pages.collect();
        (!pages.is_empty()).then_some(ErrorPages(pages))
    }
}

/// What was read so far, by path: a page, or why it is none.
#[derive(Default)]
pub(crate) struct PageFiles(HashMap<PathBuf, Result<Arc<Page>, String>>);

impl PageFiles {
    /// Reads the files of a mapping, which is found at `path`, and reports those that are no pages.
    pub(crate) fn read(
        &mut self,
        spec: &ErrorPagesSpec,
        document: Document,
        path: &KeyPath,
        report: &mut Report,
    ) {
        for (what, page) in &spec.0 {
            let read = self
                .0
                .entry(page.path.clone())
                .or_insert_with(|| read(&page.path, page.kind));
            if let Err(why) = read {
                let message = format!("{}: {why}", quoted(&page.written));
                let problem = report.add(document, path.key(&what.to_string()), message);
                problem.help = (why == MISSING)
                    .then(|| "paths are relative to the directory of this file".to_string());
            }
        }
    }
}

fn read(path: &Path, kind: Kind) -> Result<Arc<Page>, String> {
    let cannot = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => MISSING.to_string(),
        _ => format!("cannot be read: {error}"),
    };
    // Opening a pipe would wait for somebody to write to it.
    if !path.metadata().map_err(cannot)?.is_file() {
        return Err("this is not a file".to_string());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err("the file is larger than 1 MiB".to_string());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Arc::new(Page::parse(kind, &text))),
        Err(_) => Err("the file is not UTF-8 text".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_paths() {
        for word in ["400", "404", "599", "4xx", "5xx"] {
            assert_eq!(PageForText::parse(word).unwrap().to_string(), word);
        }
        for word in [
            "399", "600", "0404", "+404", "3xx", "xx", "5XX", "", "any", "4 4",
        ] {
            assert!(PageForText::parse(word).is_err(), "{word}");
        }
        for word in ["a.html", "/srv/errors/a.b.json", "../a.txt"] {
            assert_eq!(PageText::parse(word).unwrap().to_string(), word);
        }
        for word in ["", "a", ".html", "a.php", "errors/", "a\0.html"] {
            assert!(PageText::parse(word).is_err(), "{word}");
        }
        let htm = PageText::parse("a.htm").unwrap_err();
        assert_eq!(htm.help.as_deref(), Some("did you mean a.html?"));
    }

    #[test]
    fn a_route_wins_over_the_defaults_status_by_status() {
        let spec = |text: &str| serde_yaml::from_str::<ErrorPagesSpec>(text).unwrap();
        let base = spec(r#"{ "404": a.html, 5xx: b.html }"#);
        let own = spec(r#"{ "404": c.html, "503": d.txt }"#);
        let merged = spec(r#"{ "404": c.html, "503": d.txt, 5xx: b.html }"#);
        assert_eq!(own.over(&base), merged);
        let placed = base.within(Path::new("/etc/backstop"));
        let shown = serde_yaml::to_string(&placed).unwrap();
        assert!(shown.contains("/etc/backstop/a.html"), "{shown}");
    }
}
