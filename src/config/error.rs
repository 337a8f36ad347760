//! What is wrong with a configuration, in the form an operator reads.
//!
//! Built by `config::report` and printed by `main` (`-t`) and `server` (a refused reload). Decides the wording's form, not
//! its content.

use std::fmt;
use std::path::PathBuf;

/// The most errors that are shown at once.
pub(crate) const SHOWN: usize = 50;

/// One error: where it is, what it is, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as an operator would name it.
    pub file: PathBuf,
    /// Counted from 1, where there is a place in the file.
    pub line: Option<usize>,
    /// The key, such as `routes[0].upstream`; empty when the file as a whole is meant.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What may put it right.
    pub help: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// All errors of a configuration, in the order of the files and lines; never empty. Displays as the errors one below the
/// other, without a line feed at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    shown: Vec<ConfigError>,
    more: usize,
}

impl Errors {
    /// The errors to show, in order, and how many more there are.
    pub(crate) fn new(shown: Vec<ConfigError>, more: usize) -> Self {
        Errors { shown, more }
    }

    /// A single error.
    pub fn one(error: ConfigError) -> Self {
        Errors::new(vec![error], 0)
    }

    /// The first of them; at most 50.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.shown.iter()
    }

    /// How many there are in all.
    pub fn count(&self) -> usize {
        self.shown.len() + self.more
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.shown.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: Option<usize>, path: &str, help: Option<&str>) -> ConfigError {
        ConfigError {
            file: PathBuf::from("upstreams.yaml"),
            line,
            path: path.to_string(),
            message: "no upstream is named \"hopsital\"".to_string(),
            help: help.map(str::to_string),
        }
    }

    #[test]
    fn the_form() {
        let full = error(
            Some(14),
            "routes[0].upstream",
            Some("did you mean \"hospital\"?"),
        );
        assert_eq!(
            full.to_string(),
            "upstreams.yaml:14: routes[0].upstream: no upstream is named \"hopsital\"\n  help: did you mean \"hospital\"?"
        );
        assert_eq!(
            error(None, "", None).to_string(),
            "upstreams.yaml: no upstream is named \"hopsital\""
        );
    }

    #[test]
    fn one_below_the_other_and_how_many_more() {
        let errors = Errors::new(
            vec![error(Some(1), "a", None), error(Some(2), "b", None)],
            3,
        );
        assert_eq!(errors.count(), 5);
        let text = errors.to_string();
        assert_eq!(text.lines().count(), 3);
        assert!(text.ends_with("\nand 3 more"), "{text}");
    }
}
