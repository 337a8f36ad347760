//! Tags in every form, and lists of them.

use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn fields(name: HeaderName, lines: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(&name, HeaderValue::from_bytes(line).unwrap());
    }
    headers
}

fn tag(text: &str) -> EntityTag<'_> {
    EntityTag::parse(text.as_bytes()).unwrap()
}

#[test]
fn what_is_a_tag() {
    for (text, expected) in [
        (&b"\"a\""[..], Some((false, &b"a"[..]))),
        (b" \"a\"\t", Some((false, b"a"))),
        (b"W/\"a\"", Some((true, b"a"))),
        (b"\"\"", Some((false, b""))),
        (b"W/\"\"", Some((true, b""))),
        (b"\"a,b c\"", Some((false, b"a,b c"))),
        // Nothing is escaped (RFC 9110 §8.8.3).
        (b"\"a\\\"", Some((false, b"a\\"))),
        (b"\"\xe9\xff\"", Some((false, b"\xe9\xff"))),
        (b"", None),
        (b"a", None),
        (b"\"", None),
        (b"\"a", None),
        (b"a\"", None),
        (b"w/\"a\"", None),
        (b"W\"a\"", None),
        (b"W/ \"a\"", None),
        (b"W/W/\"a\"", None),
        (b"W/", None),
        (b"W/a", None),
        (b"\"a\"b", None),
        (b"\"a\", \"b\"", None),
        (b"*", None),
        (b"'a'", None),
    ] {
        let read = EntityTag::parse(text).map(|tag| (tag.weak, tag.opaque));
        assert_eq!(read, expected, "{}", text.escape_ascii());
        let headers = fields(header::ETAG, &[text]);
        assert_eq!(EntityTag::of(&headers), EntityTag::parse(text));
    }
    assert_eq!(EntityTag::of(&HeaderMap::new()), None);
    assert_eq!(
        EntityTag::of(&fields(header::ETAG, &[b"\"a\"", b"\"a\""])),
        None
    );
}

/// The table of RFC 9110 §8.8.3.2.
#[test]
fn comparisons() {
    for (one, other, strongly, weakly) in [
        ("W/\"1\"", "W/\"1\"", false, true),
        ("W/\"1\"", "W/\"2\"", false, false),
        ("W/\"1\"", "\"1\"", false, true),
        ("\"1\"", "\"1\"", true, true),
        ("\"1\"", "\"2\"", false, false),
        ("\"a\"", "\"A\"", false, false),
    ] {
        for (one, other) in [(one, other), (other, one)] {
            assert_eq!(tag(one).is_strongly(tag(other)), strongly, "{one} {other}");
            assert_eq!(tag(one).is_weakly(tag(other)), weakly, "{one} {other}");
        }
    }
}

#[test]
fn what_is_named() {
    let name = header::IF_NONE_MATCH;
    for (lines, expected) in [
        (&[&b"\"a\""[..]][..], Some(&["\"a\""][..])),
        (&[b"\"a\",W/\"b\""], Some(&["\"a\"", "W/\"b\""])),
        (&[b" \"a\" , \"b\" "], Some(&["\"a\"", "\"b\""])),
        (&[b"\"a,b\", \"c\""], Some(&["\"a,b\"", "\"c\""])),
        (&[b",, \"a\",\t,"], Some(&["\"a\""])),
        (&[b"\"a\"", b"\"b\""], Some(&["\"a\"", "\"b\""])),
        (&[b""], Some(&[])),
        // What is no tag is passed over, and hides no other.
        (&[b"a, \"b\""], Some(&["\"b\""])),
        (&[b"\"a\"x, \"b\""], Some(&["\"b\""])),
        (&[b"\"a\" \"b\", \"c\""], Some(&["\"c\""])),
        (&[b"w/\"a\", \"b\""], Some(&["\"b\""])),
        (&[b"\"a\", \"b"], Some(&["\"a\""])),
        (&[b"\"a", b"\"b\""], Some(&["\"b\""])),
        // An asterisk counts alone.
        (&[b"*, \"a\""], Some(&["\"a\""])),
        (&[b"*", b"\"a\""], Some(&["\"a\""])),
        (&[b"*", b"*"], Some(&[])),
        (&[], None),
    ] {
        let headers = fields(name.clone(), lines);
        let expected = expected.map(|tags| Named::Tags(tags.iter().map(|t| tag(t)).collect()));
        assert_eq!(Named::read(&headers, &name), expected, "{lines:?}");
    }
    for any in [&b"*"[..], b" * "] {
        let headers = fields(name.clone(), &[any]);
        assert_eq!(Named::read(&headers, &name), Some(Named::Any));
    }
}

#[test]
fn dates_stand_alone() {
    let date = |text: &str| {
        text.strip_prefix('@')?
            .parse()
            .ok()
            .map(Duration::from_secs)
    };
    let read = |lines: &[&[u8]]| date_in(&fields(header::DATE, lines), &header::DATE, &date);
    assert_eq!(read(&[b" @7 "]), Some(Duration::from_secs(7)));
    assert_eq!(read(&[]), None);
    assert_eq!(read(&[b"7"]), None);
    assert_eq!(read(&[b"@\xff"]), None);
    assert_eq!(read(&[b"@7", b"@7"]), None);
}

/// What a tag may hold (RFC 9110 §8.8.3).
fn opaque() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b','), Just(b'\\'), 0x23..0x7fu8, 0x80..=0xffu8];
    prop::collection::vec(byte, 0..6)
}

proptest! {
    #[test]
    fn a_list_is_read_back(
        tags in prop::collection::vec((any::<bool>(), opaque()), 1..6),
        gap in prop::sample::select(vec![",", ", ", " ,\t", ",,"]),
        cut in any::<prop::sample::Index>(),
    ) {
        let written = |(weak, opaque): &(bool, Vec<u8>)| {
            [if *weak { b"W/\"" } else { &b"\""[..] }, opaque, b"\""].concat()
        };
        let (one, other) = tags.split_at(cut.index(tags.len()));
        let line = |tags: &[(bool, Vec<u8>)]| {
            tags.iter().map(written).collect::<Vec<_>>().join(gap.as_bytes())
        };
        let headers = fields(header::IF_MATCH, &[&line(one), &line(other)]);
        let expected = tags.iter().map(|(weak, opaque)| EntityTag { weak: *weak, opaque }).collect();
        prop_assert_eq!(Named::read(&headers, &header::IF_MATCH), Some(Named::Tags(expected)));
    }

    #[test]
    fn anything_is_read(line in "[W/\"a,* \\\\]{0,16}") {
        let headers = fields(header::IF_MATCH, &[line.as_bytes()]);
        match Named::read(&headers, &header::IF_MATCH) {
            Some(Named::Any) => prop_assert_eq!(line.trim(), "*"),
            Some(Named::Tags(tags)) => prop_assert!(tags.len() * 2 <= line.len()),
            None => prop_assert!(false, "there is a field"),
        }
    }
}
