//! What an answer is kept under: hashes of what `policy::cache::key` framed.
//!
//! Keyed with the store's secret, so that neither a file name nor a core dump gives away a token, and nobody can make two
//! requests share a key on purpose.

use crate::policy::cache::key::KeyParts;

/// Tells apart the answers under one key (RFC 9111 §4.1).
pub type Variant = [u8; 16];

/// Which answers are for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Scheme, host and target: what a purge names. First, so that a sorted map has a URL's answers side by side.
    pub url: [u8; 16],
    /// Who shares them.
    pub who: [u8; 16],
}

impl Key {
    /// The key for these parts.
    pub fn new(secret: &[u8; 32], parts: &KeyParts) -> Self {
        Key {
            url: half(secret, &parts.url),
            who: half(secret, &parts.who),
        }
    }

    /// The smallest and the largest key of a URL.
    pub fn of_url(url: [u8; 16]) -> std::ops::RangeInclusive<Key> {
        Key { url, who: [0; 16] }..=Key {
            url,
            who: [0xff; 16],
        }
    }
}

impl Key {
    /// The smallest and the largest key of all URLs whose hash begins with this.
    pub fn of_hash(first: u64) -> std::ops::RangeInclusive<Key> {
        let url = |rest: [u8; 8]| {
            let mut url = [0; 16];
            url[..8].copy_from_slice(&first.to_be_bytes());
            url[8..].copy_from_slice(&rest);
            url
        };
        let (low, high) = (Key::of_url(url([0; 8])), Key::of_url(url([0xff; 8])));
        *low.start()..=*high.end()
    }
}

/// 128 bits of the keyed hash.
pub fn half(secret: &[u8; 32], bytes: &[u8]) -> [u8; 16] {
    let hash = blake3::keyed_hash(secret, bytes);
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}
