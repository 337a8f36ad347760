//! Reading the files: what is on disk, as text and as trees.
//!
//! Called by `config::load` for both files. Decides what a file must be to be read at all.

use super::keypath::KeyPath;
use super::locate::Occurrence;
use super::report::{Document, Report, Source};
use super::tree::{self, Flaw, Node};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

/// The largest file that is read. A configuration of a hundred thousand routes is smaller.
const LARGEST: u64 = 8 * 1024 * 1024;

/// What was read so far.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) sources: Vec<Source>,
    pub(crate) documents: Vec<(Document, Node)>,
    /// Whether some of it is not YAML, so that what is missing may be there.
    pub(crate) broken: bool,
}

impl Files {
    /// Reads a file, reporting what is wrong with it; tells whether it holds the documents that it should. At most `most`
    /// documents may be in it.
    pub(crate) fn read(&mut self, path: &Path, name: PathBuf, most: usize, report: &mut Report) {
        let file = self.sources.len();
        self.sources.push(Source {
            name,
            text: String::new(),
        });
        let text = match read(path) {
            Ok(text) => text,
            Err(Unreadable { message, line }) => {
                let problem = report.add_file(file, message);
                problem.line = line;
                return;
            }
        };
        let trees = tree::parse(&text);
        // What is not written is nothing, and so is a row of comments.
        let empty = |t: &Result<_, _>| {
            matches!(
                t,
                Ok(tree::Tree {
                    root: Node::Null,
                    ..
                })
            )
        };
        if trees.iter().all(empty) {
            report.add_file(file, "the file is empty");
            return;
        }
        for (index, tree) in trees.into_iter().enumerate() {
            let document = Document { file, index };
            match tree {
                _ if index >= most => {
                    report.add(document, KeyPath::default(), surplus(most));
                }
                Ok(tree) => {
                    for (path, flaw) in tree.flaws {
                        add_flaw(document, path, flaw, report);
                    }
                    self.documents.push((document, tree.root));
                }
                Err(error) => {
                    self.broken = true;
                    let (message, line) = yaml_message(&error, &text);
                    let problem = report.add_file(file, message);
                    problem.line = line;
                    if line.is_some_and(|n| unquoted_ipv6(text.lines().nth(n - 1).unwrap_or(""))) {
                        problem.help =
                            Some("an IPv6 address needs quotes: \"[::1]:8080\"".to_string());
                    }
                }
            }
        }
        self.sources[file].text = text;
    }

    /// The value of a document, if it could be read.
    pub(crate) fn root(&self, document: Document) -> Option<&Node> {
        self.documents
            .iter()
            .find(|(d, _)| *d == document)
            .map(|(_, root)| root)
    }
}

fn surplus(most: usize) -> &'static str {
    match most {
        1 => "the file holds a second document; the upstreams file is a single one",
        _ => "the file holds a third document; the settings and the upstreams are all there is",
    }
}

fn add_flaw(document: Document, path: KeyPath, flaw: Flaw, report: &mut Report) {
    match flaw {
        Flaw::Duplicate => {
            let problem = report.add(document, path.clone(), "this key is already given");
            problem.occurrence = Occurrence::Second;
            problem.see = Some(path);
        }
        Flaw::Tag(tag) => {
            report.add(
                document,
                path,
                format!("the YAML tag {tag} has no meaning here"),
            );
        }
        Flaw::Merge => {
            report.add(document, path, "only mappings can be merged");
        }
    }
}

struct Unreadable {
    message: String,
    line: Option<usize>,
}

impl From<&str> for Unreadable {
    fn from(message: &str) -> Self {
        Unreadable {
            message: message.to_string(),
            line: None,
        }
    }
}

fn read(path: &Path) -> Result<String, Unreadable> {
    let cannot = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Unreadable::from("there is no such file"),
        ErrorKind::IsADirectory => Unreadable::from("this is a directory, not a file"),
        _ => Unreadable {
            message: format!("cannot be read: {error}"),
            line: None,
        },
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    // Read no more than that, whatever the file system says of the size.
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err("the file is larger than 8 MiB".into());
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        // Some editors begin every file with one.
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Unreadable {
            message: "the file is not UTF-8 text".to_string(),
            line: Some(good.iter().filter(|b| **b == b'\n').count() + 1),
        }
    })
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The YAML reader's message without the places it names, and the line of the first.
fn yaml_message(error: &serde_yaml::Error, text: &str) -> (String, Option<usize>) {
    let full = error.to_string();
    let mut message = String::new();
    let mut words = full.split(' ').peekable();
    while let Some(word) = words.next() {
        // "at line 3 column 5", the words that come again in our own form
        if word == "at" && words.peek() == Some(&"line") {
            let place: Vec<&str> = words.by_ref().take(4).collect();
            if place.last().is_some_and(|number| number.ends_with(',')) {
                message.push(',');
            }
            continue;
        }
        if !message.is_empty() {
            message.push(' ');
        }
        message.push_str(word);
    }
    let lines = text.lines().count().max(1);
    let line = error
        .location()
        .and_then(|l| text.lines().nth(l.line().saturating_sub(1)));
    if line.is_some_and(|line| line.contains('\t')) {
        message.push_str(" (this line has a tab; YAML is indented with spaces)");
    }
    (
        format!("cannot be read as YAML: {message}"),
        error
            .location()
            .map(|location| location.line().clamp(1, lines)),
    )
}

/// Whether a line has an IPv6 address that YAML takes for a list.
fn unquoted_ipv6(line: &str) -> bool {
    line.split_once("[").is_some_and(|(before, after)| {
        !before.ends_with(['"', '\''])
            && after
                .split_once("]:")
                .is_some_and(|(ip, _)| ip.contains(':'))
    })
}

/// A path as it is written in a file of `directory`, made absolute.
pub(crate) fn absolute(directory: &Path, written: impl AsRef<Path>) -> PathBuf {
    let path = directory.join(written);
    // Fails only where there is no working directory any more; then the path is the best there is.
    std::path::absolute(&path).unwrap_or(path)
}

/// The path of `file` as seen from `directory`, and how an operator would name it: `conf/../upstreams.yaml` is
/// `upstreams.yaml`, if that is the same file.
pub(crate) fn beside(directory: &Path, file: &str) -> (PathBuf, PathBuf) {
    let path = directory.join(file);
    let mut tidy = PathBuf::new();
    for component in path.components() {
        match (component, tidy.components().next_back()) {
            (Component::ParentDir, Some(Component::Normal(_))) => {
                tidy.pop();
            }
            (Component::CurDir, _) => {}
            _ => tidy.push(component),
        }
    }
    // Behind a symbolic link, `..` leads elsewhere.
    let same = match (path.canonicalize(), tidy.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        (Err(_), Err(_)) => true,
        _ => false,
    };
    let name = if same { tidy } else { path.clone() };
    (path, name)
}
