//! Tags as origins send them, and bounds on what they send.

use super::super::tests::fields;
use super::*;
use http::HeaderValue;
use proptest::prelude::*;

#[test]
fn what_is_a_tag() {
    let long = "x".repeat(MOST_BYTES);
    let too_long = "x".repeat(MOST_BYTES + 1);
    for (lines, expected) in [
        (&[][..], &[][..]),
        (&[("cache-tag", "")], &[]),
        (&[("cache-tag", "a")], &["a"]),
        (&[("cache-tag", "a,b, c ,,\td")], &["a", "b", "c", "d"]),
        (&[("cache-tag", "a b,c")], &["a b", "c"]),
        (&[("cache-tag", "a"), ("cache-tag", "b,a")], &["a", "b"]),
        (&[("surrogate-key", "a b  c\td")], &["a", "b", "c", "d"]),
        (&[("surrogate-key", "a,b c")], &["a,b", "c"]),
        (
            &[("surrogate-key", "b c"), ("cache-tag", "a,b")],
            &["a", "b", "c"],
        ),
        (&[("cache-tag", "a,A")], &["a", "A"]),
        (&[("cache-tag", "\u{e9}")], &["\u{e9}"]),
        (&[("cache-tag", &long)], &[&long]),
        (&[("cache-tag", &too_long), ("surrogate-key", "a")], &["a"]),
        (&[("edge-cache-tag", "a"), ("xkey", "b")], &[]),
    ] {
        assert_eq!(tags(&fields(lines)), expected, "{lines:?}");
    }
    let mut headers = HeaderMap::new();
    headers.append("cache-tag", HeaderValue::from_bytes(b"a,\xff,b").unwrap());
    assert_eq!(tags(&headers), ["a", "b"], "what is no text");
}

#[test]
fn only_so_many() {
    let many: Vec<String> = (0..MOST_TAGS + 9).map(|n| n.to_string()).collect();
    for (name, separator) in [("cache-tag", ","), ("surrogate-key", " ")] {
        // What is there twice counts once.
        let value = format!("0{separator}{}", many.join(separator));
        assert_eq!(
            tags(&fields(&[(name, &value)])),
            many[..MOST_TAGS],
            "{name}"
        );
    }
}

proptest! {
    #[test]
    fn well_formed_tags_are_read_back(names in prop::collection::vec("[!-+--~]{1,9}", 0..20), spaced: bool) {
        let (name, separator) = if spaced { ("surrogate-key", " ") } else { ("cache-tag", ", ") };
        let found = tags(&fields(&[(name, &names.join(separator))]));
        let mut expected: Vec<String> = Vec::new();
        for name in names {
            if !expected.contains(&name) {
                expected.push(name);
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_field_is_read(value in prop::collection::vec(prop_oneof![0x20..0x7fu8, 0x80..=0xffu8], 0..600)) {
        let mut headers = HeaderMap::new();
        for name in ["cache-tag", "surrogate-key"] {
            headers.append(name, HeaderValue::from_bytes(&value).unwrap());
        }
        let found = tags(&headers);
        prop_assert!(found.len() <= MOST_TAGS);
        for tag in found {
            prop_assert!(!tag.is_empty() && tag.len() <= MOST_BYTES && tag.trim_ascii() == tag);
        }
    }
}
