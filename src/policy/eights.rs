//! Looking for bytes of a kind in a text, eight at a time: heads and lines are long, and what is looked for is nearly never there.
//!
//! A kind is told by a number: of the eight bytes that it is made of, the first being the lowest, it sets the upper bit of each that is
//! of the kind. Of those above one it may set more than that; the lowest that it sets is right.

/// A number of eight bytes that are 1 each.
const EACH: u64 = 0x0101_0101_0101_0101;

/// Those that are this byte, which is one of ASCII.
pub fn is(eight: u64, byte: u8) -> u64 {
    let none = eight ^ (EACH * u64::from(byte));
    none.wrapping_sub(EACH) & !none
}

/// Those that are less than this one, which is one of ASCII.
pub fn below(eight: u64, least: u8) -> u64 {
    // A byte borrows from its upper bit if it is less.
    eight.wrapping_sub(EACH * u64::from(least)) & !eight
}

/// Whether a byte of that kind is in a text; `other` is none.
pub fn has(text: &[u8], other: u8, kind: impl Fn(u64) -> u64) -> bool {
    let is_found = |eight: &[u8; 8]| upper(kind(u64::from_le_bytes(*eight))) != 0;
    let last = match text.last_chunk::<8>() {
        // Some of it is looked at twice.
        Some(last) => *last,
        None => {
            let mut last = [other; 8];
            for (place, byte) in last.iter_mut().zip(text) {
                *place = *byte;
            }
            last
        }
    };
    let (whole, _) = text.as_chunks::<8>();
    is_found(&last) || whole.iter().any(is_found)
}

/// How many bytes of a text come before the first one that `ends` it, which is of that kind, as others may be.
pub fn before(text: &[u8], kind: impl Fn(u64) -> u64, ends: impl Fn(u8) -> bool) -> usize {
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let Some(eight) = rest.first_chunk::<8>() else {
            let end = rest.iter().position(|byte| ends(*byte));
            return at + end.unwrap_or(rest.len());
        };
        let found = upper(kind(u64::from_le_bytes(*eight)));
        // All eight, where there is none.
        at += (found.trailing_zeros() / 8) as usize;
        match text.get(at) {
            Some(byte) if found != 0 && ends(*byte) => return at,
            _ if found != 0 => at += 1,
            _ => {}
        }
    }
}

fn upper(bits: u64) -> u64 {
    bits & (EACH * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a head has in it, and what is beside that.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            6 => b'a'..=b'c',
            1 => prop::sample::select(b"\0\t\n\x1f !\x7e\x7f\x80\x9f\xa0\xff".to_vec()),
            1 => any::<u8>(),
        ];
        prop::collection::vec(byte, 0..40)
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_is_there(text in text(), byte in 0..0x80_u8, least in 0..0x80_u8) {
            let (same, less) = (|b: &u8| *b == byte, |b: &u8| *b < least);
            // One that is neither.
            let other = 0x80;
            prop_assert_eq!(has(&text, other, |eight| is(eight, byte)), text.iter().any(same));
            prop_assert_eq!(has(&text, other, |eight| below(eight, least)), text.iter().any(less));
            let both = |eight| is(eight, byte) | below(eight, least);
            let either = |b: &u8| same(b) || less(b);
            prop_assert_eq!(has(&text, other, both), text.iter().any(either));
            for ends in [Box::new(either) as Box<dyn Fn(&u8) -> bool>, Box::new(same), Box::new(less)] {
                let end = text.iter().position(&ends).unwrap_or(text.len());
                prop_assert_eq!(before(&text, both, |b| ends(&b)), end);
            }
        }
    }
}
