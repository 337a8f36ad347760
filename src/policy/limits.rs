//! How much a request may say of itself: the length of its target, its fields, all of its head; and how slowly its body may come.
//!
//! Asked by `proxy::front` once a head was read; `server::stream` and HTTP/2 itself stop what is longer while it comes.

use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// How long a body may be waited for at any rate.
const GRACE: Duration = Duration::from_secs(10);

/// So many requests of a connection may be none whatever the others are.
const ODD: u32 = 32;

/// Whether a connection is to take no more requests, as so many of them were none, or could have hidden another one: not if others
/// share it who ask for what there is.
pub fn is_too_odd(malformed: u32, requests: u32) -> bool {
    malformed >= ODD && malformed > requests / 2
}

/// The most that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head.
    pub head: usize,
    /// Fields in it.
    pub fields: usize,
    /// Bytes of the target.
    pub target: usize,
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// The target is too long (RFC 9110 §15.5.15).
    Target,
    /// There are too many fields, or they are too long (RFC 6585 §5).
    Fields,
}

impl Excess {
    /// The log's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Excess::Target => "target_too_long",
            Excess::Fields => "head_too_large",
        }
    }

    /// What the client is told.
    pub fn status(self) -> StatusCode {
        match self {
            Excess::Target => StatusCode::URI_TOO_LONG,
            Excess::Fields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }
}

impl Limits {
    /// Whether a head with this target and these fields is too much.
    ///
    /// # Errors
    /// It is.
    pub fn judge(&self, target: &str, fields: &HeaderMap) -> Result<(), Excess> {
        if target.len() > self.target {
            return Err(Excess::Target);
        }
        // A name, a colon, a space, a value and the end of the line.
        let bytes = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            name.as_str().len() + value.len() + 4
        };
        let head = target.len() + fields.iter().map(bytes).sum::<usize>();
        match fields.len() > self.fields || head > self.head {
            true => Err(Excess::Fields),
            false => Ok(()),
        }
    }
}

/// How much longer the next piece of a body may be waited for. `seen`: how many bytes of it came, `waited`: how long they
/// were waited for, which does not count while nobody did. `rate`: the bytes a second that have to come after some time to
/// begin; `None` for any.
pub fn patience(rate: Option<u64>, seen: u64, waited: Duration) -> Option<Duration> {
    let rate = rate.filter(|rate| *rate > 0)?;
    let paid = Duration::from_millis(seen.saturating_mul(1000) / rate);
    Some((GRACE + paid).saturating_sub(waited))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn bodies_may_take_their_time_if_they_come() {
        let s = Duration::from_secs;
        for (rate, seen, waited, left) in [
            (None, 0, s(1000), None),
            (Some(0), 0, s(1000), None),
            (Some(100), 0, s(0), Some(s(10))),
            (Some(100), 0, s(5), Some(s(5))),
            (Some(100), 0, s(25), Some(s(0))),
            (Some(100), 1_000, s(15), Some(s(5))),
            (Some(100), 1_000_000, s(15), Some(s(9_995))),
            (
                Some(100),
                u64::MAX,
                s(25),
                Some(Duration::from_millis(u64::MAX / 100) + GRACE - s(25)),
            ),
        ] {
            assert_eq!(
                patience(rate, seen, waited),
                left,
                "{rate:?} {seen} {waited:?}"
            );
        }
    }

    #[test]
    fn who_brings_little_else_brings_no_more() {
        for (malformed, requests, is) in [
            (0, 0, false),
            (31, 31, false),
            (32, 32, true),
            (32, 63, true),
            (32, 64, false),
            (100, 10_000, false),
            (6_000, 10_000, true),
        ] {
            assert_eq!(
                is_too_odd(malformed, requests),
                is,
                "{malformed} of {requests}"
            );
        }
    }

    #[test]
    fn no_more_than_may_be() {
        let limits = Limits {
            head: 100,
            fields: 3,
            target: 20,
        };
        let fields = |lengths: &[usize]| {
            let mut fields = HeaderMap::new();
            for length in lengths {
                let value = HeaderValue::from_str(&"x".repeat(*length)).unwrap();
                fields.append("x-a", value);
            }
            fields
        };
        for (target, lengths, expected) in [
            (1, &[][..], Ok(())),
            (20, &[1, 1, 1], Ok(())),
            (21, &[], Err(Excess::Target)),
            (1, &[1, 1, 1, 1], Err(Excess::Fields)),
            (1, &[92], Ok(())),
            (1, &[93], Err(Excess::Fields)),
            (20, &[73], Ok(())),
            (20, &[74], Err(Excess::Fields)),
        ] {
            let target = "/".repeat(target);
            let judged = limits.judge(&target, &fields(lengths));
            assert_eq!(judged, expected, "{target} {lengths:?}");
        }
    }
}
