//! Which parts of an answer a request asks for (RFC 9110 §14), and which part a 206 is.
//!
//! `proxy/` asks [`ranges`] when it has the whole of a 200 to give, after [`super::conditional`] has let the request
//! pass; [`parse_one`], [`if_range`] and [`content_range`] serve answers that are stored in part. A server may always
//! ignore `Range` (§14.2), so whatever is odd gets the whole. Nothing here builds the 206.

use super::validator::{EntityTag, ReadDate, date_in, only};
use http::{HeaderMap, Method, header};
use std::ops::Range;

/// Ranges that one request may ask for; more are answered with the whole (RFC 9110 §17.15).
const MOST: usize = 10;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// Everything: the answer as it is.
    Whole,
    /// Nothing: there is content, but none where it was asked for. The client gets 416 (§15.5.17).
    Unsatisfiable,
    /// One part: a 206 with `Content-Range`.
    One(Range<u64>),
    /// Two parts or more, in the order asked for: a 206 with `multipart/byteranges` (§14.6). They neither overlap nor
    /// touch, so together they are shorter than the whole.
    Many(Vec<Range<u64>>),
}

/// One range as asked for, before the length is known (RFC 9110 §14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spec {
    /// `5-`: from this byte to the end.
    From(u64),
    /// `5-9`: from the first of these bytes to the second, both included. The second is not below the first.
    Between(u64, u64),
    /// `-5`: this many at the end.
    Last(u64),
}

impl Spec {
    /// Reads one element of the list.
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        Some(match (first, last) {
            ("", suffix) => Spec::Last(number(suffix)?),
            (first, "") => Spec::From(number(first)?),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                // Were they too large to tell apart, they are equal here, and there is no such byte.
                (first <= last).then_some(Spec::Between(first, last))?
            }
        })
    }

    /// The bytes of a content of this length that are meant; `None` if it has none of them.
    pub fn within(self, length: u64) -> Option<Range<u64>> {
        let part = match self {
            Spec::From(first) => first..length,
            Spec::Between(first, last) => first..last.saturating_add(1).min(length),
            Spec::Last(count) => length.saturating_sub(count)..length,
        };
        (!part.is_empty()).then_some(part)
    }
}

/// What of an answer of `length` bytes this request is to get. `stored` holds the fields of the answer, whose status is
/// 200.
///
/// Ranges that overlap or touch become one, whatever their number and order (§15.3.7.2), and it comes where the first
/// of them was asked for: no byte is sent twice, which is what makes the rest of §14.2's advice needless. An answer
/// without content is sent as it is: it has no part that a 206 could name, and some clients ask for ranges of
/// everything.
pub fn ranges(
    method: &Method,
    request: &HeaderMap,
    stored: &HeaderMap,
    length: u64,
    date: ReadDate<'_>,
) -> Ranges {
    // §14.2: only for GET is it defined.
    if *method != Method::GET || length == 0 {
        return Ranges::Whole;
    }
    let Some(specs) = read(request) else {
        return Ranges::Whole;
    };
    if !if_range(request, stored, date) {
        return Ranges::Whole;
    }
    let mut parts = Vec::new();
    for spec in specs {
        if let Some(part) = spec.within(length) {
            join(&mut parts, part);
        }
    }
    match parts.pop() {
        None => Ranges::Unsatisfiable,
        Some(part) if parts.is_empty() => Ranges::One(part),
        Some(part) => {
            parts.push(part);
            Ranges::Many(parts)
        }
    }
}

/// The range that is asked for, if it is one alone and well-formed. Neither the method nor `If-Range` is looked at.
pub fn parse_one(request: &HeaderMap) -> Option<Spec> {
    match read(request)?.as_slice() {
        [spec] => Some(*spec),
        _ => None,
    }
}

/// Whether the part that the client has is of this answer, as far as `If-Range` asks (RFC 9110 §13.1.5); true without
/// the field. If it is not, the client is to get the whole.
pub fn if_range(request: &HeaderMap, stored: &HeaderMap, date: ReadDate<'_>) -> bool {
    if !request.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(value) = only(request, &header::IF_RANGE) else {
        return false;
    };
    if value.contains(&b'"') {
        let tags = (EntityTag::parse(value), EntityTag::of(stored));
        return matches!(tags, (Some(asked), Some(stored)) if asked.is_strongly(stored));
    }
    let [asked, modified, sent] = [
        date_in(request, &header::IF_RANGE, date),
        date_in(stored, &header::LAST_MODIFIED, date),
        date_in(stored, &header::DATE, date),
    ];
    let (Some(asked), Some(modified), Some(sent)) = (asked, modified, sent) else {
        return false;
    };
    // §8.8.2.2: within the second of a change there may have been another, of which the date would not tell.
    let strong = sent.as_secs() > modified.as_secs();
    strong && asked == modified
}

/// The part that a 206 is, from its `Content-Range` (RFC 9110 §14.4), and the length of the whole where it is known;
/// `None` for what is malformed and for the `*` of a 416.
pub fn content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (unit, rest) = value.trim().split_once(' ')?;
    let (part, length) = rest.trim_start().split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, end) = (exactly(first)?, exactly(last)?.checked_add(1)?);
    let length = match length {
        "*" => None,
        digits => Some(exactly(digits)?),
    };
    let fits = first < end && length.is_none_or(|length| end <= length);
    (is_bytes(unit) && fits).then_some((first..end, length))
}

/// The ranges asked for; `None` without the field and where there is something odd about it.
fn read(request: &HeaderMap) -> Option<Vec<Spec>> {
    let value = std::str::from_utf8(only(request, &header::RANGE)?).ok()?;
    let (unit, list) = value.trim().split_once('=')?;
    if !is_bytes(unit) {
        return None;
    }
    let mut specs = Vec::new();
    for item in list.split(',') {
        let item = item.trim_matches([' ', '\t']);
        // RFC 9110 §5.6.1.2: an element may be missing.
        if item.is_empty() {
            continue;
        }
        if specs.len() == MOST {
            return None;
        }
        specs.push(Spec::parse(item)?);
    }
    (!specs.is_empty()).then_some(specs)
}

/// Adds a part to others that do not touch each other, so that it stays so.
fn join(parts: &mut Vec<Range<u64>>, part: Range<u64>) {
    let touches = |other: &Range<u64>| other.start <= part.end && part.start <= other.end;
    let place = parts.iter().position(touches).unwrap_or(parts.len());
    let mut joined = part.clone();
    parts.retain(|other| {
        if touches(other) {
            joined = joined.start.min(other.start)..joined.end.max(other.end);
        }
        !touches(other)
    });
    parts.insert(place, joined);
}

/// RFC 9110 §14.1: units have no case.
fn is_bytes(unit: &str) -> bool {
    unit.eq_ignore_ascii_case("bytes")
}

/// A number of digits alone; one too large to hold is the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// A number of digits alone that can be held.
fn exactly(text: &str) -> Option<u64> {
    number(text)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests;
