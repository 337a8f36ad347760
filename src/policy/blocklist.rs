//! Which paths are answered at once, before any route is looked for: those of scanners, and those an operator names.
//!
//! Asked by `proxy::front` with the path in its normal form. Upper and lower case are the same: who looks for holes tries
//! both.

use std::borrow::Cow;
use std::collections::HashSet;

/// What is said of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This status.
    Status(http::StatusCode),
    /// Nothing: the connection is closed, or of HTTP/2 the stream.
    Drop,
}

/// Some paths.
#[derive(Debug, Default)]
pub struct Blocklist {
    /// Paths that stand for themselves and all below.
    paths: HashSet<Box<str>>,
    /// Segments at any depth.
    segments: HashSet<Box<str>>,
    /// All others.
    patterns: Vec<Pattern>,
    /// Paths of those that are not meant.
    except: HashSet<Box<str>>,
}

/// A pattern as the pieces between its stars.
#[derive(Debug)]
struct Pattern {
    pieces: Vec<Box<str>>,
    /// Whether it stands for all that is below as well.
    below: bool,
}

impl Blocklist {
    /// Those of these patterns: `/path` for itself and all below, `*/name` for a segment or several at any depth and all below,
    /// another with `*` for the whole path.
    pub fn new<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
        except: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut list = Blocklist::default();
        for pattern in patterns {
            let pattern = pattern.to_ascii_lowercase();
            let trimmed = pattern.strip_suffix('/').unwrap_or(&pattern);
            match trimmed.strip_prefix("*/") {
                Some(segment) if !segment.contains(['*', '/']) => {
                    list.segments.insert(segment.into());
                }
                None if !trimmed.contains('*') => {
                    list.paths.insert(trimmed.into());
                }
                anywhere => list.patterns.push(Pattern {
                    pieces: trimmed.split('*').map(Into::into).collect(),
                    below: anywhere.is_some(),
                }),
            }
        }
        let lower = |path: &str| path.to_ascii_lowercase().into_boxed_str();
        list.except = except.into_iter().map(lower).collect();
        list
    }

    /// The patterns of a list in a file: one a line, `#` before what is for its readers.
    pub fn lines(text: &str) -> impl Iterator<Item = &str> {
        let lines = text.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
    }

    /// Whether a path is among them.
    pub fn contains(&self, path: &str) -> bool {
        let path = match path.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(path.to_ascii_lowercase()),
            false => Cow::Borrowed(path),
        };
        if self.except.contains(&*path) {
            return false;
        }
        let slashes = path.match_indices('/').map(|(at, _)| at);
        let mut begin = 0;
        for end in slashes.skip(1).chain([path.len()]) {
            let segment = path.get(begin + 1..end).unwrap_or_default();
            let whole = path.get(..end).unwrap_or_default();
            if self.segments.contains(segment) || self.paths.contains(whole) {
                return true;
            }
            begin = end;
        }
        self.patterns.iter().any(|pattern| pattern.fits(&path))
    }
}

impl Pattern {
    fn fits(&self, path: &str) -> bool {
        if fits(&self.pieces, path) {
            return true;
        }
        // As a whole path each: with what is below cut off.
        let slashes = path.match_indices('/').skip(1);
        self.below
            && slashes
                .map(|(at, _)| path.get(..at).unwrap_or_default())
                .any(|above| fits(&self.pieces, above))
    }
}

/// Whether a text is these pieces with anything between them.
fn fits(pieces: &[Box<str>], text: &str) -> bool {
    let [first, between @ .., last] = pieces else {
        return pieces.iter().all(|only| **only == *text);
    };
    let Some(mut rest) = text.strip_prefix(&**first) else {
        return false;
    };
    // As early as can be: what is left for the others is most then.
    for piece in between {
        match rest.find(&**piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(&**last)
}

#[cfg(test)]
mod tests;
