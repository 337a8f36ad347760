//! The errors of a configuration while it is being read: gathered in any order, put in order and given their lines at the end.
//!
//! Every part of `config` adds to it. Lines are looked up only for errors that are shown.

use super::error::{ConfigError, Errors, SHOWN};
use super::keypath::KeyPath;
use super::locate::{self, Occurrence};
use super::tree::Node;
use std::collections::HashMap;
use std::path::PathBuf;

/// One file that was read.
pub(crate) struct Source {
    /// As an operator would name it.
    pub(crate) name: PathBuf,
    /// What it says; empty where it could not be read.
    pub(crate) text: String,
}

/// One document of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Document {
    /// Position among the sources.
    pub(crate) file: usize,
    /// Position in the file.
    pub(crate) index: usize,
}

impl Document {
    /// The first document of a file.
    pub(crate) fn first(file: usize) -> Self {
        Document { file, index: 0 }
    }
}

/// One error before its line is known.
pub(crate) struct Problem {
    document: Document,
    path: KeyPath,
    message: String,
    /// What may put it right.
    pub(crate) help: Option<String>,
    /// Which occurrence of the key.
    pub(crate) occurrence: Occurrence,
    /// Another place that has to do with it, named at the end of the message.
    pub(crate) see: Option<KeyPath>,
    /// The line, where the YAML reader told it.
    pub(crate) line: Option<usize>,
    /// Whether it is about the file and no place in it.
    pub(crate) nowhere: bool,
}

/// The errors so far.
#[derive(Default)]
pub(crate) struct Report {
    problems: Vec<Problem>,
}

impl Report {
    /// Adds an error at a place in a document. What else is known about it is set in what this returns.
    pub(crate) fn add(
        &mut self,
        document: Document,
        path: KeyPath,
        message: impl Into<String>,
    ) -> &mut Problem {
        let at = self.problems.len();
        self.problems.push(Problem {
            document,
            path,
            message: message.into(),
            help: None,
            occurrence: Occurrence::First,
            see: None,
            line: None,
            nowhere: false,
        });
        &mut self.problems[at]
    }

    /// Adds an error about a file as a whole.
    pub(crate) fn add_file(&mut self, file: usize, message: impl Into<String>) -> &mut Problem {
        let problem = self.add(Document::first(file), KeyPath::default(), message);
        problem.nowhere = true;
        problem
    }

    /// How many errors there are.
    pub(crate) fn count(&self) -> usize {
        self.problems.len()
    }

    /// All errors with their lines, or none.
    ///
    /// # Errors
    /// There are any.
    pub(crate) fn finish(
        self,
        sources: &[Source],
        roots: &HashMap<Document, &Node>,
    ) -> Result<(), Errors> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let mut problems = self.problems;
        problems.sort_by_cached_key(|p| {
            let position = roots.get(&p.document).map(|root| root.position(&p.path));
            (p.document.file, p.document.index, position)
        });
        let more = problems.len().saturating_sub(SHOWN);
        problems.truncate(SHOWN);
        let mut shown: Vec<(usize, ConfigError)> = problems
            .into_iter()
            .map(|p| {
                let root = roots.get(&p.document).copied();
                (p.document.file, p.located(sources, root))
            })
            .collect();
        shown.sort_by_key(|(file, error)| (*file, error.line));
        Err(Errors::new(
            shown.into_iter().map(|(_, error)| error).collect(),
            more,
        ))
    }
}

impl Problem {
    fn located(self, sources: &[Source], root: Option<&Node>) -> ConfigError {
        let source = sources.get(self.document.file);
        let find = |path: &KeyPath, occurrence| {
            // Only as far as the path leads somewhere: looking for what is missing would take the whole text.
            let steps = root.map_or(path.0.len(), |root| root.position(path).len());
            let path = KeyPath(path.0.iter().take(steps).cloned().collect());
            source.and_then(|s| locate::line(&s.text, self.document.index, &path, occurrence))
        };
        let line = match self.line {
            None if !self.nowhere => find(&self.path, self.occurrence),
            known => known,
        };
        let mut message = self.message;
        if let Some(see) = &self.see {
            message.push_str(&match (see == &self.path, find(see, Occurrence::First)) {
                (true, Some(line)) => format!(" on line {line}"),
                (true, None) => String::new(),
                (false, Some(line)) => format!(" {see} on line {line}"),
                (false, None) => format!(" {see}"),
            });
        }
        ConfigError {
            file: source.map(|s| s.name.clone()).unwrap_or_default(),
            line,
            path: self.path.to_string(),
            message,
            help: self.help,
        }
    }
}
