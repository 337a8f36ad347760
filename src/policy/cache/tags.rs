//! The tags by which an origin names groups of its answers, for purging.
//!
//! `proxy/` keeps them with each stored answer. No RFC knows the fields; each is read as those who brought it up write
//! it: `Cache-Tag` with commas, `Surrogate-Key` with spaces.

use http::{HeaderMap, HeaderName};
use std::collections::HashSet;

/// More tags of one answer are not looked at.
pub const MOST_TAGS: usize = 256;

/// Longer tags are left out: cut off, they would name something else.
pub const MOST_BYTES: usize = 256;

const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// The fields that have them.
pub const FIELDS: [HeaderName; 2] = [CACHE_TAG, SURROGATE_KEY];

/// The tags of an answer in order, each once. Case counts. What is no text or too long is left out.
pub fn tags(headers: &HeaderMap) -> Vec<String> {
    let values = |name| headers.get_all(name).iter().map(|value| value.as_bytes());
    let listed = values(CACHE_TAG).flat_map(|line| line.split(|&b| b == b','));
    let spaced = values(SURROGATE_KEY).flat_map(|line| line.split(u8::is_ascii_whitespace));
    let mut seen = HashSet::new();
    listed
        .chain(spaced)
        .map(<[u8]>::trim_ascii)
        .filter(|tag| !tag.is_empty() && tag.len() <= MOST_BYTES)
        .filter_map(|tag| str::from_utf8(tag).ok())
        .filter(|tag| seen.insert(*tag))
        .take(MOST_TAGS)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests;
