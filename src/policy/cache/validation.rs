//! How the origin is asked whether a stored answer is still good, and what its reply changes (RFC 9111 §4.3).
//!
//! `proxy/` puts the [`conditions`] on the request. If a 304 comes and [`selects`] the stored answer, [`merge`] gives
//! the head it goes on with, of which freshness, `vary_key` and whether it is storable have to be found out anew. A
//! HEAD goes through [`freshened_by_head`]. A client's own conditions are not evaluated here.

use super::freshness::single;
use super::storing::{belongs_to_hop, named_by_connection};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// What a successful HEAD means for a stored answer to GET (RFC 9111 §4.3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshen {
    /// It is still the one: [`merge`] the fields of the HEAD into it.
    Update,
    /// It is not: the stored answer is stale from now on.
    Invalidate,
    /// There is nothing to tell by.
    Nothing,
}

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntityTag<'a> {
    weak: bool,
    /// With its quotes.
    opaque: &'a [u8],
}

/// The conditions of a request that asks whether a stored answer is still good (RFC 9111 §4.3.1): both where there are
/// both, as some origins know only one. They take the place of the client's. None: there is nothing to ask by.
pub fn conditions(stored: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut conditions = Vec::new();
    if entity_tag(stored).is_some() {
        let tag = stored.get(header::ETAG).cloned();
        conditions.extend(tag.map(|tag| (header::IF_NONE_MATCH, tag)));
    }
    if single(stored, &header::LAST_MODIFIED).is_some_and(|date| !date.is_empty()) {
        let date = stored.get(header::LAST_MODIFIED).cloned();
        conditions.extend(date.map(|date| (header::IF_MODIFIED_SINCE, date)));
    }
    conditions
}

/// The head of a stored answer after a 304, or a HEAD that [`freshened_by_head`] took for the same (RFC 9111 §3.2):
/// every field of the update in place of the stored ones of its name, but for those below. Age and date are of the
/// update alone: where it has none, its arrival counts.
pub fn merge(stored: &HeaderMap, update: &HeaderMap) -> HeaderMap {
    let mut merged = stored.clone();
    merged.remove(header::AGE);
    merged.remove(header::DATE);
    let connection = named_by_connection(update);
    for name in update.keys() {
        if belongs_to_hop(name, &connection) || belongs_to_body(name) {
            continue;
        }
        // Some origins send a strong tag here although they sent a weak one with the content, as they compressed it.
        // Taken on, it would let pieces of compressed and of plain content be put together.
        if *name == header::ETAG && !is_strong(stored) && is_strong(update) {
            continue;
        }
        merged.remove(name);
        for value in update.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    merged
}

/// Whether a field describes the content that came with it, and so cannot come from a message without; and
/// `Set-Cookie`, which is one person's and with which nothing is stored.
fn belongs_to_body(name: &HeaderName) -> bool {
    [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::SET_COOKIE,
    ]
    .contains(name)
}

/// Whether a 304 is about this stored answer (RFC 9111 §4.3.4), given that it replies to a request with the
/// [`conditions`] of this one alone. If not, the request has to be sent again without conditions.
///
/// Tags are compared as the origin compares those of `If-None-Match` (RFC 9110 §13.1.2), so that a 304 with a strong
/// tag is good for a stored weak one: compressing origins send such. A strong tag that the stored answer lacks, or
/// another date, is of something else. A 304 that names nothing replies to what was asked.
pub fn selects(stored: &HeaderMap, update: &HeaderMap) -> bool {
    match (entity_tag(stored), entity_tag(update)) {
        (Some(old), Some(new)) => old.opaque == new.opaque,
        (None, Some(new)) if !new.weak => false,
        _ if update.contains_key(header::LAST_MODIFIED) => {
            same(stored, update, &header::LAST_MODIFIED)
        }
        _ => !update.contains_key(header::ETAG),
    }
}

/// What a 200 to a HEAD means for a stored answer to GET that could have served it, which has this status and
/// `stored_length` bytes of content (RFC 9111 §4.3.5). Where nothing can be compared, nothing is changed: a date without
/// proof would make old content fresh.
pub fn freshened_by_head(
    status: StatusCode,
    stored: &HeaderMap,
    stored_length: u64,
    head: &HeaderMap,
) -> Freshen {
    // An error or a redirect is not what the URL has now, however long it is.
    if status != StatusCode::OK {
        return Freshen::Invalidate;
    }
    let mut matched = false;
    if head.contains_key(header::ETAG) {
        let (old, new) = (entity_tag(stored), entity_tag(head));
        if old.is_none() || old.map(|tag| tag.opaque) != new.map(|tag| tag.opaque) {
            return Freshen::Invalidate;
        }
        matched = true;
    }
    if head.contains_key(header::LAST_MODIFIED) {
        if !same(stored, head, &header::LAST_MODIFIED) {
            return Freshen::Invalidate;
        }
        matched = true;
    }
    if head.contains_key(header::CONTENT_LENGTH) {
        let length = single(head, &header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        if length != Some(stored_length) {
            return Freshen::Invalidate;
        }
        matched = true;
    }
    if matched {
        Freshen::Update
    } else {
        Freshen::Nothing
    }
}

/// Whether two parts, or a part and a whole, are of the same content for sure: they have the same strong tag (RFC 9111
/// §3.4, RFC 9110 §8.8.3.2).
pub fn combinable(one: &HeaderMap, other: &HeaderMap) -> bool {
    is_strong(one) && entity_tag(one) == entity_tag(other)
}

/// Whether an answer has a strong validator. Dates are not taken for one (RFC 9110 §8.8.2.2 would allow some).
pub(super) fn is_strong(headers: &HeaderMap) -> bool {
    entity_tag(headers).is_some_and(|tag| !tag.weak)
}

/// The entity tag of a message, if it has one and no more. A tag without quotes, which RFC 9110 §8.8.3 does not know
/// but some origins send and understand, counts as weak.
pub(super) fn entity_tag(headers: &HeaderMap) -> Option<EntityTag<'_>> {
    let mut lines = headers.get_all(header::ETAG).iter();
    let first = lines.next()?;
    if lines.any(|line| line != first) {
        return None;
    }
    let text = first.as_bytes().trim_ascii();
    let (weak, opaque) = match text.strip_prefix(b"W/") {
        Some(opaque) => (true, opaque),
        None => (false, text),
    };
    let visible = |b: &u8| *b > b' ' && *b != 0x7f && *b != b'"';
    match opaque {
        [b'"', inner @ .., b'"'] if inner.iter().all(visible) => Some(EntityTag { weak, opaque }),
        // In `If-None-Match` a comma would make two of it.
        bare if !bare.is_empty() && bare.iter().all(|b| visible(b) && *b != b',' && *b != b'*') => {
            Some(EntityTag { weak: true, opaque })
        }
        _ => None,
    }
}

/// Whether both have this field, once, with the same value.
fn same(one: &HeaderMap, other: &HeaderMap, name: &HeaderName) -> bool {
    single(one, name).is_some_and(|value| single(other, name) == Some(value))
}

#[cfg(test)]
mod tests;
