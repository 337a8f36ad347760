//! A pattern that a whole value has to match.
//!
//! Written by operators, read at load; matching takes time in proportion to the value, whatever the pattern.

use regex::bytes::Regex;
use std::fmt;

/// A regular expression for a whole value.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    whole: Regex,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is none; what is wrong with it, in one line.
    pub fn parse(source: &str) -> Result<Self, String> {
        // By itself first: a bracket too many must not end the group around it.
        let read = Regex::new(source).and_then(|_| Regex::new(&format!("^(?:{source})$")));
        let whole = read.map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_string()
        })?;
        Ok(Pattern {
            source: source.to_string(),
            whole,
        })
    }

    /// Whether this is such a value.
    pub fn matches(&self, value: &[u8]) -> bool {
        self.whole.is_match(value)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_value_has_to_match() {
        for (pattern, value, fits) in [
            ("[0-9]+", "17", true),
            ("[0-9]+", "17 ", false),
            ("[0-9]+", "17\n", false),
            ("[0-9]+", "", false),
            ("a|b", "b", true),
            ("a|b", "ab", false),
            ("", "", true),
            ("(?i)v[0-9]", "V1", true),
            ("é", "é", true),
            ("# no comment", "# no comment", true),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(
                parsed.matches(value.as_bytes()),
                fits,
                "{pattern} {value:?}"
            );
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for (pattern, why) in [
            ("(", "unclosed group"),
            ("a)|(b", "unopened group"),
            ("[", "unclosed character class"),
            ("a{1000000}", "size limit"),
        ] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
