//! What an answer is kept under: hashes of what `policy::cache::key` framed.
//!
//! Keyed with the store's secret, so that neither a file name nor a core dump gives away a token, and nobody can make two
//! requests share a key on purpose.

use crate::policy::cache::key::{KeyParts, Mode, Who};

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

/// What keys are made with, and the hashes that stand for everybody, whom nearly all answers are for.
pub struct Secret {
    bytes: [u8; 32],
    everybody: [[u8; 16]; Mode::ALL.len()],
}

impl Secret {
    /// That of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        let everybody = |mode: Mode| half(blake3::keyed_hash(&bytes, &mode.everybody()));
        Secret {
            bytes,
            everybody: Mode::ALL.map(everybody),
        }
    }

    /// The key for these parts.
    pub fn key(&self, parts: &KeyParts) -> Key {
        let [ttl, shared, origin] = self.everybody;
        Key {
            url: self.half(&parts.url),
            who: match &parts.who {
                Who::Everybody(Mode::Ttl) => ttl,
                Who::Everybody(Mode::Shared) => shared,
                Who::Everybody(Mode::Origin) => origin,
                Who::These(who) => self.half(who),
            },
        }
    }

    /// The keyed hash.
    pub fn hash(&self, bytes: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.bytes, bytes).as_bytes()
    }

    /// 128 bits of it.
    pub fn half(&self, bytes: &[u8]) -> [u8; 16] {
        half(blake3::keyed_hash(&self.bytes, bytes))
    }
}

fn half(hash: blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}

impl Key {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_hashed_the_same_way_whether_everybody_is_meant_or_somebody() {
        let secret = Secret::new([7; 32]);
        let of = |who| {
            let url = b"url".to_vec();
            let key = secret.key(&KeyParts { url, who });
            assert_eq!(key.url, secret.half(b"url"));
            key.who
        };
        for mode in Mode::ALL {
            let these = mode.everybody();
            assert_eq!(of(Who::Everybody(mode)), secret.half(&these));
            assert_eq!(of(Who::These(these)), of(Who::Everybody(mode)));
            let somebody = [&mode.everybody()[..], b"somebody"].concat();
            assert_eq!(of(Who::These(somebody.clone())), secret.half(&somebody));
        }
    }
}
