//! What is wrong with one value, and how that is put into words.
//!
//! Arises where a value is read, is passed up by serde and gathers the way to the value on its way; `config::decode` reports
//! it. The one place where serde's own errors get our wording.

use super::keypath::Step;
use super::suggest;
use super::tree::Node;
use serde::de::{self, Expected, Unexpected};
use std::fmt;

/// Which value it is, told by its place in memory: the tree stands still while it is read.
pub(crate) type NodeId = *const Node;

/// What is wrong with one value.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) Box<FaultParts>);

/// Its parts.
#[derive(Debug)]
pub(crate) struct FaultParts {
    /// What is wrong.
    pub(crate) message: String,
    /// What may put it right.
    pub(crate) help: Option<String>,
    /// The steps to it, the last one first.
    pub(crate) trail: Vec<Step>,
    /// What has to be left out to read on.
    pub(crate) node: Option<NodeId>,
    /// The key that a mapping lacks, until it is known whether it was left out.
    missing: Option<&'static str>,
    /// Whether a mapping without an entry is meant, until it is known whether there was one.
    empty: bool,
    /// Whether it is only there because something else was left out.
    pub(crate) follows: bool,
}

impl Fault {
    /// An error whose place is not known yet.
    pub(crate) fn new(message: String, help: Option<String>) -> Self {
        Fault(Box::new(FaultParts {
            message,
            help,
            trail: Vec::new(),
            node: None,
            missing: None,
            empty: false,
            follows: false,
        }))
    }

    /// On the way up through the value `node`, which is under `step`.
    pub(crate) fn under(mut self, step: impl FnOnce() -> Step, node: &Node) -> Self {
        self.0.node.get_or_insert(node);
        self.0.trail.push(step());
        self
    }

    /// On the way up through the mapping itself.
    pub(crate) fn in_mapping(mut self, node: &Node) -> Self {
        if std::mem::take(&mut self.0.empty) {
            self.0.follows = matches!(node, Node::Map(entries) if !entries.is_empty());
        }
        if let Some(key) = self.0.missing.take() {
            self.0.follows = node.get(key).is_some();
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    /// What follows a line feed in the message is the help.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        match text.split_once('\n') {
            Some((message, help)) => Fault::new(message.to_string(), Some(help.to_string())),
            None => Fault::new(text, None),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::new(mismatch(&expected.to_string(), found), None)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let near = suggest::nearest(variant, expected.iter().copied());
        Fault::new(
            mismatch(&alternatives(expected), Unexpected::Str(variant)),
            near.map(|near| format!("did you mean \"{near}\"?")),
        )
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Fault::new(
            "unknown key".to_string(),
            suggest::help(field, expected.iter().copied(), "known here"),
        )
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        let found = match length {
            0 => "nothing in it".to_string(),
            n => format!("{n} entries"),
        };
        let mut fault = Fault::new(format!("expected {expected}, found {found}"), None);
        fault.0.empty = length == 0;
        fault
    }

    fn missing_field(field: &'static str) -> Self {
        let mut fault = Fault::new("required, but missing".to_string(), None);
        fault.0.trail.push(Step::Key(field.to_string()));
        fault.0.missing = Some(field);
        fault
    }
}

/// `expected this, found that`.
pub(crate) fn mismatch(expected: &str, found: Unexpected<'_>) -> String {
    // Serde's words for its own types, in ours.
    let expected = match expected {
        "a sequence" => "a list",
        "a string" => "text",
        "a map" => "a mapping",
        "a boolean" => "true or false",
        other => other,
    };
    let found = match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(value) => quoted(value),
        Unexpected::Unit => "nothing".to_string(),
        Unexpected::Seq => "a list".to_string(),
        Unexpected::Map => "a mapping".to_string(),
        other => other.to_string(),
    };
    format!("expected {expected}, found {found}")
}

/// Text in quotation marks, on one line and not too long.
pub(crate) fn quoted(text: &str) -> String {
    const LONG: usize = 80;
    if text.chars().count() <= LONG {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(LONG).collect();
    format!("{start:?}…")
}

/// `a, b or c`.
pub(crate) fn alternatives(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_string(),
        [one] => one.to_string(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
