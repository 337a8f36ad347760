//! Which directives of an answer hold for this cache: its `Cache-Control`, or what is addressed to caches like it.
//!
//! [`storing`](super::storing) and [`freshness`](super::freshness) ask here, so that they never differ about it.

use super::super::cache_control::CacheControl;
use http::{HeaderMap, HeaderName, header};

/// The targeted fields that this cache heeds, the most specific first (RFC 9213 §2.2).
const TARGETS: [HeaderName; 1] = [header::CDN_CACHE_CONTROL];

/// What the origin says to this cache.
pub(super) struct Directives {
    /// The directives.
    pub(super) control: CacheControl,
    /// Whether they come from a targeted field.
    pub(super) targeted: bool,
}

impl Directives {
    /// Those of an answer. A targeted field replaces `Cache-Control` and `Expires` as a whole (RFC 9213 §2.2), even
    /// where these would forbid more: the origin says different things to different caches. One that is empty or
    /// malformed counts as absent (§2.1).
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut targeted = TARGETS
            .iter()
            .filter_map(|name| CacheControl::parse_targeted(headers, name));
        match targeted.next() {
            Some(control) => Directives {
                control,
                targeted: true,
            },
            None => Directives {
                control: CacheControl::parse(headers),
                targeted: false,
            },
        }
    }

    /// Whether these, or else `Expires`, say until when the answer is fresh, rightly or not (RFC 9111 §4.2.1).
    pub(super) fn is_explicit(&self, headers: &HeaderMap) -> bool {
        let says = |name| self.control.has(name);
        says("s-maxage") || says("max-age") || self.heeded_expires(headers)
    }

    /// Whether there is an `Expires` for this cache. It counts only where no directive says the same (RFC 9111 §5.3).
    pub(super) fn heeded_expires(&self, headers: &HeaderMap) -> bool {
        !self.targeted && headers.contains_key(header::EXPIRES)
    }
}
