//! The directives of `Cache-Control` (RFC 9111 §5.2) and of fields like it, as the sender wrote them or could have
//! meant them.
//!
//! `policy::cache` asks it, of requests and of answers. It decides nothing: what a directive leads to is said there.
//! What is malformed is read so that the least is stored and served: a directive that forbids something is found in
//! every odd form, a number is believed only in the right one (RFC 9111 §4.2.1: invalid freshness counts as stale).

mod dictionary;

use super::fields;
use http::{HeaderMap, HeaderName, header};
use std::time::Duration;

/// RFC 9111 §1.2.2: what a number of seconds too large to hold is taken for.
pub(super) const MOST_SECONDS: u64 = 1 << 31;

/// The directives of all fields of one name in one message, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheControl {
    directives: Vec<Directive>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Directive {
    name: String,
    argument: Option<String>,
}

impl CacheControl {
    /// Reads every `Cache-Control` field of a message. Cannot fail.
    ///
    /// Each field line is read by itself, although RFC 9110 §5.3 lets lines be joined: a quote that one line leaves
    /// open then hides nothing in the next.
    pub fn parse(headers: &HeaderMap) -> Self {
        Self::parse_field(headers, &header::CACHE_CONTROL)
    }

    /// Reads another field in the same way; `Pragma` is one that is written alike (RFC 9111 §5.4).
    pub fn parse_field(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut directives = Vec::new();
        for value in fields::all(headers, name) {
            read_line(value.as_bytes(), &mut directives);
        }
        CacheControl { directives }
    }

    /// Reads a field that is addressed to some caches only (RFC 9213 §2.1), such as `CDN-Cache-Control`. Its syntax is
    /// strict: `None` where the field is absent, empty or not as it should be, and then it must be ignored.
    ///
    /// A number is believed only where it is an integer, not a string; what else stands in its place is an argument
    /// that cannot be read.
    pub fn parse_targeted(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let lines: Vec<_> = fields::all(headers, name).map(|v| v.as_bytes()).collect();
        let directives = dictionary::parse(&lines.join(&b", "[..]))?;
        (!directives.is_empty()).then_some(CacheControl { directives })
    }

    /// Every directive in order, repeated ones too: the name as written and the argument, unquoted. An argument that
    /// cannot be read is an empty one.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.directives
            .iter()
            .map(|d| (d.name.as_str(), d.argument.as_deref()))
    }

    /// Whether the directive is there, with an argument or without. Names have no case (RFC 9111 §5.2).
    pub fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The argument of the directive's first occurrence (RFC 9111 §4.2.1 on repeated ones); `None` when the directive
    /// is not there or its first occurrence has none. Whether a later occurrence says more, only [`CacheControl::iter`]
    /// tells.
    pub fn argument(&self, name: &str) -> Option<String> {
        self.first(name)?.argument.clone()
    }

    /// The argument as a number of seconds (RFC 9111 §1.2.2), at most 2^31. Quoted or not (§5.2), but digits alone: a
    /// sign, a fraction or a unit is `None`, as is a directive that is missing.
    pub fn seconds(&self, name: &str) -> Option<u64> {
        seconds(self.first(name)?.argument.as_deref()?)
    }

    /// The time that a directive grants, which may be one of an answer's or one of a request's: `None` when it is not
    /// there, zero when it has no number or several that differ. RFC 9111 §4.2.1 leaves a choice; whoever grants two
    /// times is taken to grant none.
    pub fn span(&self, name: &str) -> Option<Duration> {
        let mut all = self
            .all(name)
            .map(|d| d.argument.as_deref().and_then(seconds));
        let first = all.next()?;
        let agreed = first.filter(|_| all.all(|other| other == first));
        Some(Duration::from_secs(agreed.unwrap_or(0)))
    }

    /// Whether the directive is there and never with an argument.
    pub fn is_bare(&self, name: &str) -> bool {
        self.has(name) && self.all(name).all(|d| d.argument.is_none())
    }

    fn first(&self, name: &str) -> Option<&Directive> {
        self.all(name).next()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &Directive> {
        self.directives
            .iter()
            .filter(move |d| d.name.eq_ignore_ascii_case(name))
    }
}

/// A number of seconds (RFC 9111 §1.2.2), at most 2^31: digits and nothing else.
pub(super) fn seconds(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // All digits: the only thing that can go wrong is that they are too many.
    Some(text.parse().unwrap_or(u64::MAX).min(MOST_SECONDS))
}

/// Reads one field line. Directives are separated by whatever cannot be part of one: commas, as RFC 9111 §5.2 has it,
/// and also spaces, semicolons, stray `=` and bytes outside ASCII, because senders forget commas and a lost `no-store`
/// costs more than an invented one.
///
/// Where the quotes do not pair up, nobody can tell what they were to enclose. All of them are then mere separators, so
/// that they hide no directive, and no argument in the line is believed.
fn read_line(line: &[u8], directives: &mut Vec<Directive>) {
    let before = directives.len();
    if scan(line, true, directives).is_none() {
        directives.truncate(before);
        // Without quotes to heed it reaches the end of any line.
        let _ = scan(line, false, directives);
    }
}

/// One pass over a line; `None` when quotes are to be heeded and one is out of place.
fn scan(line: &[u8], heed_quotes: bool, directives: &mut Vec<Directive>) -> Option<()> {
    let mut rest = line;
    while let Some(&byte) = rest.first() {
        if byte == b'"' && heed_quotes {
            return None;
        }
        if !is_token(byte) {
            rest = &rest[1..];
            continue;
        }
        let name = take_token(&mut rest);
        let argument = match rest {
            [b'=', after @ ..] => {
                rest = after;
                if !heed_quotes {
                    take_token(&mut rest);
                    Some(String::new())
                } else if let [b'"', quoted @ ..] = rest {
                    let (text, after) = unquote(quoted)?;
                    rest = after;
                    Some(text)
                } else {
                    let token = take_token(&mut rest);
                    Some(if at_separator(rest) {
                        token
                    } else {
                        String::new()
                    })
                }
            }
            _ => None,
        };
        directives.push(Directive { name, argument });
    }
    Some(())
}

/// The content of a quoted string (RFC 9110 §5.6.4) whose opening quote is gone, and what follows it; `None` when it
/// does not close, or closes in the middle of something.
fn unquote(quoted: &[u8]) -> Option<(String, &[u8])> {
    let mut text = Vec::new();
    let mut rest = quoted;
    loop {
        match rest {
            [b'"', after @ ..] => {
                return at_separator(after)
                    .then(|| (String::from_utf8_lossy(&text).into_owned(), after));
            }
            [b'\\', escaped, after @ ..] => {
                text.push(*escaped);
                rest = after;
            }
            [byte, after @ ..] => {
                text.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}

/// Whether an argument may end here.
fn at_separator(rest: &[u8]) -> bool {
    matches!(rest.first(), None | Some(b',' | b';' | b' ' | b'\t'))
}

fn take_token(rest: &mut &[u8]) -> String {
    let end = rest.iter().position(|&b| !is_token(b));
    let (token, after) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = after;
    token.iter().map(|&b| char::from(b)).collect()
}

/// What a name is made of (RFC 9110 §5.6.2), without the apostrophe: no field or directive has one in its name, but
/// some senders quote with it.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
