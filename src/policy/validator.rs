//! What tells one state of a representation from another: entity tags and dates (RFC 9110 §8.8).
//!
//! `policy::conditional` and `policy::range` ask it. It reads and compares; what a match leads to is said there. Tags
//! are bytes and stay as they are: they may hold what is not ASCII (RFC 9110 §8.8.3). What cannot be read matches
//! nothing.

use http::{HeaderMap, HeaderName, header};
use std::time::Duration;

/// Reads a date in one of the forms of RFC 9110 §5.6.7: the time since the epoch.
pub type ReadDate<'a> = &'a dyn Fn(&str) -> Option<Duration>;

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Reads a text that is a tag and nothing else.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::take(text.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    /// The tag in the `ETag` field of an answer; `None` also when there are several fields, as nobody knows which
    /// counts.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        Self::parse(only(headers, &header::ETAG)?)
    }

    /// Whether it is marked as weak.
    pub fn is_weak(self) -> bool {
        self.weak
    }

    /// Whether the two are the same and both strong: the same bytes are behind them (RFC 9110 §8.8.3.2).
    pub fn is_strongly(self, other: EntityTag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Whether the two are the same, strong or not: one will do for the other (RFC 9110 §8.8.3.2).
    pub fn is_weakly(self, other: EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    /// The tag that a text begins with, and what follows it. `W/` has to be in upper case.
    fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let marked = text.strip_prefix(b"W/");
        let quoted = marked.unwrap_or(text).strip_prefix(b"\"")?;
        let end = quoted.iter().position(|&b| b == b'"')?;
        let (opaque, rest) = quoted.split_at(end);
        let tag = EntityTag {
            weak: marked.is_some(),
            opaque,
        };
        Some((tag, rest.get(1..)?))
    }
}

/// What `If-Match` and `If-None-Match` name (RFC 9110 §13.1.1, §13.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named<'a> {
    /// `*`: whatever there is.
    Any,
    /// These, over all lines of the field. What is no tag is passed over.
    Tags(Vec<EntityTag<'a>>),
}

impl<'a> Named<'a> {
    /// Reads a list of tags; `None` if there is no field of this name.
    pub fn read(headers: &'a HeaderMap, name: &HeaderName) -> Option<Self> {
        if only(headers, name).is_some_and(|value| value.trim_ascii() == b"*") {
            return Some(Named::Any);
        }
        let mut lines = headers.get_all(name).iter().peekable();
        lines.peek()?;
        let mut tags = Vec::new();
        for line in lines {
            let mut rest = line.as_bytes();
            // A tag may hold a comma, so each element is read before the next one is looked for.
            while let Some(start) = rest.iter().position(|b| !b", \t".contains(b)) {
                rest = &rest[start..];
                let read = EntityTag::take(rest);
                let after = read.map_or(rest, |(_, after)| after);
                let end = after.iter().position(|&b| b == b',').unwrap_or(after.len());
                let (left, next) = after.split_at(end);
                if let Some((tag, _)) = read
                    && left.trim_ascii().is_empty()
                {
                    tags.push(tag);
                }
                rest = next;
            }
        }
        Some(Named::Tags(tags))
    }
}

/// The value of a field that may be there once; `None` if it is not, or several times.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// The date in a field that may be there once; `None` if there is none that can be read.
pub(super) fn date_in(
    headers: &HeaderMap,
    name: &HeaderName,
    date: ReadDate<'_>,
) -> Option<Duration> {
    let text = std::str::from_utf8(only(headers, name)?).ok()?;
    date(text.trim())
}

#[cfg(test)]
mod tests;
