//! The way from the top of a document to one of its values: `routes[0].match.host`.
//!
//! Every error carries one; `config::locate` turns it into a line.

use std::fmt;

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list, counted from 0.
    Index(usize),
}

/// The steps from the top; none for the document itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyPath(pub(crate) Vec<Step>);

impl KeyPath {
    /// The path of a list item under a top-level key, such as `routes[3]`.
    pub(crate) fn item(key: &str, index: usize) -> Self {
        KeyPath(vec![Step::Key(key.to_string()), Step::Index(index)])
    }

    /// The path of the value under `key` in what this path leads to.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_string()))
    }

    /// The path of item `index` in what this path leads to.
    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        KeyPath(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if i > 0 {
                        f.write_str(".")?;
                    }
                    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
                    if !key.is_empty() && key.len() <= 200 && key.bytes().all(plain) {
                        f.write_str(key)?;
                    } else {
                        // A dot or a line feed in a key must not look like ours.
                        let short: String = key.chars().take(200).collect();
                        write!(f, "{short:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display() {
        let path = KeyPath::item("routes", 0)
            .key("match")
            .key("methods")
            .index(2);
        assert_eq!(path.to_string(), "routes[0].match.methods[2]");
        assert_eq!(
            KeyPath::default().key("a.b").key("").to_string(),
            "\"a.b\".\"\""
        );
        assert_eq!(KeyPath::default().to_string(), "");
    }
}
