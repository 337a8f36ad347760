//! Which trace a request belongs to, and whether it is recorded (W3C Trace Context).
//!
//! Whoever asks may say to which trace its request belongs, and that is passed on; but whether spans are sent somewhere, which costs
//! the operator, is for those to say who are believed.

use http::{HeaderMap, HeaderValue};

/// The field that says so (§3.2).
pub const PARENT: &str = "traceparent";
/// What the tracing systems on the way have to say to each other (§3.3); passed on as it is.
pub const STATE: &str = "tracestate";

/// A request's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// That of the trace; never 0.
    pub id: u128,
    /// The span of whoever asks, if it said so.
    pub parent: Option<u64>,
    /// The one of the request here; never 0.
    pub span: u64,
    /// Whether it is recorded.
    pub sampled: bool,
}

/// What a client says of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    id: u128,
    span: u64,
    sampled: bool,
}

impl Trace {
    /// The place of a request with these fields. Those who are `believed` say whether it is recorded; else it is a `share` of all,
    /// by `chance` from 0.0 to 1.0. `dice` are for the names of what begins here.
    pub fn begin(
        headers: &HeaderMap,
        believed: bool,
        share: f64,
        chance: f64,
        dice: (u128, u64),
    ) -> Self {
        let (id, span) = (dice.0.max(1), dice.1.max(1));
        let parent = parent(headers);
        let own = chance < share;
        Trace {
            id: parent.map_or(id, |parent| parent.id),
            parent: parent.map(|parent| parent.span),
            span,
            sampled: match parent {
                Some(parent) if believed => parent.sampled,
                _ => own,
            },
        }
    }

    /// The field for whom is asked within this span of it.
    pub fn header(&self, span: u64) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{:032x}-{span:016x}-{flags:02x}", self.id)
    }
}

/// What the field says, if it is there once and to the letter (§3.2.2). Later versions may have more at the end (§3.2.4).
fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut all = headers.get_all(PARENT).iter();
    let only = all.next().filter(|_| all.next().is_none())?;
    let text = HeaderValue::to_str(only).ok()?.trim_ascii();
    let hex = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        digits.bytes().all(is_hex).then_some(digits)
    };
    let version = u8::from_str_radix(hex(0, 2)?, 16).ok()?;
    let bytes = text.as_bytes();
    let is_parted = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
    let ends = match version {
        0 => text.len() == 55,
        0xff => false,
        _ => text.len() == 55 || bytes.get(55) == Some(&b'-'),
    };
    let id = u128::from_str_radix(hex(3, 35)?, 16).ok()?;
    let span = u64::from_str_radix(hex(36, 52)?, 16).ok()?;
    let flags = u8::from_str_radix(hex(53, 55)?, 16).ok()?;
    (is_parted && ends && id != 0 && span != 0).then_some(Parent {
        id,
        span,
        sampled: flags & 1 == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn begin(lines: &[&str], believed: bool, share: f64) -> Trace {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PARENT, line.parse().unwrap());
        }
        Trace::begin(&headers, believed, share, 0.5, (7, 9))
    }

    #[test]
    fn a_parent_is_followed() {
        let trace = begin(&[GIVEN], true, 0.0);
        assert_eq!(trace.id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(trace.parent, Some(0xb7ad_6b71_6920_3331));
        assert!(trace.sampled);
        assert_eq!(
            trace.header(0x1f),
            "00-0af7651916cd43dd8448eb211c80319c-000000000000001f-01"
        );
    }

    #[test]
    fn who_decides() {
        let not = GIVEN.replace("-01", "-00");
        for (lines, believed, share, sampled) in [
            (&[GIVEN][..], true, 0.0, true),
            (&[&not], true, 1.0, false),
            (&[GIVEN], false, 0.0, false),
            (&[GIVEN], false, 1.0, true),
            (&[], true, 0.4, false),
            (&[], false, 0.6, true),
        ] {
            assert_eq!(begin(lines, believed, share).sampled, sampled, "{lines:?}");
        }
    }

    #[test]
    fn what_is_none_begins_a_trace() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
        ] {
            let trace = begin(&[text], true, 1.0);
            assert_eq!((trace.id, trace.parent, trace.span), (7, None, 9), "{text}");
        }
        assert_eq!(begin(&[GIVEN, GIVEN], true, 1.0).parent, None);
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert!(begin(&[later], true, 1.0).parent.is_some());
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_not(text in "[ -~]{0,70}") {
            begin(&[&text], true, 1.0);
        }

        #[test]
        fn what_is_written_is_read_again(id in 1u128.., span in 1u64.., sampled: bool) {
            let trace = Trace { id, parent: None, span, sampled };
            let read = begin(&[&trace.header(span)], true, 0.0);
            prop_assert_eq!((read.id, read.parent, read.sampled), (id, Some(span), sampled));
        }
    }
}
