//! Ranges in every form, `If-Range`, and what a 206 says it is.

use super::*;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use std::time::Duration;

fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// Two ways to write a date, as HTTP has three.
fn date(text: &str) -> Option<Duration> {
    let seconds = text
        .strip_prefix('@')
        .or_else(|| text.strip_prefix("at "))?;
    seconds.parse().ok().map(Duration::from_secs)
}

fn asked(range: &str, length: u64) -> Ranges {
    let request = fields(&[(header::RANGE, range)]);
    ranges(&Method::GET, &request, &HeaderMap::new(), length, &date)
}

fn many(parts: &[(u64, u64)]) -> Ranges {
    Ranges::Many(parts.iter().map(|&(start, end)| start..end).collect())
}

#[test]
fn one_range() {
    use Ranges::{One, Unsatisfiable, Whole};
    const MAX: &str = "18446744073709551615";
    for (range, expected) in [
        ("bytes=0-0".to_owned(), One(0..1)),
        ("bytes=0-9".into(), One(0..10)),
        ("bytes=0-99".into(), One(0..100)),
        ("bytes=0-".into(), One(0..100)),
        ("bytes=99-".into(), One(99..100)),
        ("bytes=99-99".into(), One(99..100)),
        ("bytes=90-200".into(), One(90..100)),
        ("bytes=007-008".into(), One(7..9)),
        ("Bytes=1-2".into(), One(1..3)),
        ("bytes= 1-2 ".into(), One(1..3)),
        ("bytes=-1".into(), One(99..100)),
        ("bytes=-100".into(), One(0..100)),
        ("bytes=-101".into(), One(0..100)),
        (format!("bytes=0-{MAX}"), One(0..100)),
        (format!("bytes=0-{MAX}0"), One(0..100)),
        (format!("bytes=-{MAX}0"), One(0..100)),
        // No such bytes.
        ("bytes=100-".into(), Unsatisfiable),
        ("bytes=100-100".into(), Unsatisfiable),
        ("bytes=-0".into(), Unsatisfiable),
        ("bytes=-000".into(), Unsatisfiable),
        (format!("bytes={MAX}-"), Unsatisfiable),
        (format!("bytes={MAX}0-{MAX}1"), Unsatisfiable),
        // Nothing that could be understood.
        ("".into(), Whole),
        ("bytes".into(), Whole),
        ("bytes=".into(), Whole),
        ("bytes=,".into(), Whole),
        ("bytes=-".into(), Whole),
        ("bytes=1".into(), Whole),
        ("bytes=2-1".into(), Whole),
        ("bytes=--1".into(), Whole),
        ("bytes=-1-".into(), Whole),
        ("bytes=+1-2".into(), Whole),
        ("bytes=1-2-3".into(), Whole),
        ("bytes=1 -2".into(), Whole),
        ("bytes=1- 2".into(), Whole),
        ("bytes=a-b".into(), Whole),
        ("bytes=0x1-2".into(), Whole),
        ("bytes=\u{661}-2".into(), Whole),
        ("bytes =1-2".into(), Whole),
        ("bytes:1-2".into(), Whole),
        ("1-2".into(), Whole),
        ("=1-2".into(), Whole),
        ("items=1-2".into(), Whole),
        ("bytes=1-2,bytes=4-5".into(), Whole),
    ] {
        assert_eq!(asked(&range, 100), expected, "{range}");
    }
}

#[test]
fn several_ranges() {
    use Ranges::{One, Unsatisfiable, Whole};
    for (range, expected) in [
        ("bytes=0-1,4-5", many(&[(0, 2), (4, 6)])),
        ("bytes= 0-1 ,\t4-5,,", many(&[(0, 2), (4, 6)])),
        ("bytes=4-5,0-1", many(&[(4, 6), (0, 2)])),
        ("bytes=-2,0-1", many(&[(98, 100), (0, 2)])),
        ("bytes=0-0,2-2,4-", many(&[(0, 1), (2, 3), (4, 100)])),
        // What is not there is left out, as long as something is.
        ("bytes=0-1,100-", One(0..2)),
        ("bytes=200-,-0,5-5", One(5..6)),
        ("bytes=100-,200-,-0", Unsatisfiable),
        // One that cannot be read spoils all.
        ("bytes=0-1,x", Whole),
        ("bytes=0-1,5-4", Whole),
        // What overlaps or touches is one, in the place of the first.
        ("bytes=0-9,5-14", One(0..15)),
        ("bytes=0-9,10-19", One(0..20)),
        ("bytes=10-19,0-9", One(0..20)),
        ("bytes=0-9,0-9,0-9,0-9", One(0..10)),
        ("bytes=0-,-1,0-0", One(0..100)),
        ("bytes=50-59,0-9,55-69", many(&[(50, 70), (0, 10)])),
        ("bytes=50-59,0-9,80-89,8-55", many(&[(0, 60), (80, 90)])),
        ("bytes=80-89,0-9,50-59,8-55", many(&[(80, 90), (0, 60)])),
        ("bytes=0-0,2-2,4-4,1-1,3-3", One(0..5)),
    ] {
        assert_eq!(asked(range, 100), expected, "{range}");
    }
}

#[test]
fn no_more_than_ten() {
    let list = |count: u64| {
        let items: Vec<String> = (0..count).map(|i| format!("{0}-{0}", i * 2)).collect();
        format!("bytes={}", items.join(","))
    };
    assert!(matches!(asked(&list(10), 100), Ranges::Many(parts) if parts.len() == 10));
    assert_eq!(asked(&list(11), 100), Ranges::Whole);
    // Missing elements are none.
    assert_eq!(asked("bytes=,,,,,,,,,,,,0-0", 100), Ranges::One(0..1));
}

#[test]
fn who_gets_the_whole() {
    let get = |lines: &[(HeaderName, &str)], method: &Method, length| {
        ranges(method, &fields(lines), &HeaderMap::new(), length, &date)
    };
    let range = [(header::RANGE, "bytes=0-0")];
    assert_eq!(get(&range, &Method::GET, 1), Ranges::One(0..1));
    for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
        assert_eq!(get(&range, &method, 1), Ranges::Whole, "{method}");
    }
    assert_eq!(get(&[], &Method::GET, 1), Ranges::Whole);
    let twice = [range[0].clone(), range[0].clone()];
    assert_eq!(get(&twice, &Method::GET, 1), Ranges::Whole);
    // Nothing has no parts.
    for range in ["bytes=0-0", "bytes=5-", "bytes=-5", "bytes=-0"] {
        assert_eq!(asked(range, 0), Ranges::Whole, "{range}");
    }
    assert_eq!(asked("bytes=0-", u64::MAX), Ranges::One(0..u64::MAX));
}

#[test]
fn if_range_holds() {
    const TAG: HeaderName = header::ETAG;
    const CHANGED: HeaderName = header::LAST_MODIFIED;
    const SENT: HeaderName = header::DATE;
    let old = &[(CHANGED, "@50"), (SENT, "@60")];
    for (value, stored, holds) in [
        ("\"a\"", &[(TAG, "\"a\"")][..], true),
        ("\"a\"", &[(TAG, "\"b\"")], false),
        // §13.1.5: only strongly.
        ("W/\"a\"", &[(TAG, "W/\"a\"")], false),
        ("W/\"a\"", &[(TAG, "\"a\"")], false),
        ("\"a\"", &[(TAG, "W/\"a\"")], false),
        ("\"a\"", &[], false),
        ("\"a\"", &[(TAG, "a")], false),
        ("a", &[(TAG, "a")], false),
        ("\"a\", \"b\"", &[(TAG, "\"a\"")], false),
        ("*", &[(TAG, "\"a\"")], false),
        ("", &[(TAG, "\"a\"")], false),
        // A date has to be the same, and older than the answer.
        ("@50", old, true),
        ("at 50", old, true),
        ("@49", old, false),
        ("@51", old, false),
        ("@60", old, false),
        ("yesterday", old, false),
        ("@50", &[(CHANGED, "@50"), (SENT, "@51")], true),
        ("@50", &[(CHANGED, "@50"), (SENT, "@50")], false),
        ("@50", &[(CHANGED, "@50"), (SENT, "@40")], false),
        ("@50", &[(CHANGED, "@50")], false),
        ("@50", &[(SENT, "@60")], false),
        ("@50", &[(CHANGED, "long ago"), (SENT, "@60")], false),
        ("@50", &[(TAG, "\"@50\"")], false),
    ] {
        let request = fields(&[(header::RANGE, "bytes=0-0"), (header::IF_RANGE, value)]);
        let stored = fields(stored);
        assert_eq!(
            if_range(&request, &stored, &date),
            holds,
            "{value} {stored:?}"
        );
        let expected = if holds {
            Ranges::One(0..1)
        } else {
            Ranges::Whole
        };
        let found = ranges(&Method::GET, &request, &stored, 9, &date);
        assert_eq!(found, expected, "{value} {stored:?}");
    }
    let stored = fields(&[(TAG, "\"a\"")]);
    assert!(if_range(&HeaderMap::new(), &stored, &date));
    let twice = fields(&[(header::IF_RANGE, "\"a\""), (header::IF_RANGE, "\"a\"")]);
    assert!(!if_range(&twice, &stored, &date));
    // Before what is not there is told: the client gets the new whole, no 416.
    let request = fields(&[(header::RANGE, "bytes=99-"), (header::IF_RANGE, "\"b\"")]);
    assert_eq!(
        ranges(&Method::GET, &request, &stored, 9, &date),
        Ranges::Whole
    );
}

#[test]
fn one_alone() {
    for (range, expected) in [
        ("bytes=5-", Some(Spec::From(5))),
        ("BYTES=5-9", Some(Spec::Between(5, 9))),
        ("bytes=-5", Some(Spec::Last(5))),
        ("bytes=,5-,", Some(Spec::From(5))),
        ("bytes=5-,7-", None),
        ("bytes=9-5", None),
        ("lines=5-", None),
    ] {
        let request = fields(&[(header::RANGE, range)]);
        assert_eq!(parse_one(&request), expected, "{range}");
    }
    assert_eq!(parse_one(&HeaderMap::new()), None);
}

#[test]
fn what_a_206_is() {
    for (value, expected) in [
        ("bytes 0-0/1", Some((0..1, Some(1)))),
        ("bytes 5-9/10", Some((5..10, Some(10)))),
        ("Bytes 5-9/*", Some((5..10, None))),
        (" bytes  5-9/10 ", Some((5..10, Some(10)))),
        (
            "bytes 0-18446744073709551614/18446744073709551615",
            Some((0..u64::MAX, Some(u64::MAX))),
        ),
        ("bytes 5-9/9", None),
        ("bytes 5-4/10", None),
        ("bytes 0-0/0", None),
        ("bytes */10", None),
        ("bytes */*", None),
        ("bytes 5-9", None),
        ("bytes 5-/10", None),
        ("bytes -9/10", None),
        ("bytes 5-9/", None),
        ("bytes 5-9/10/11", None),
        ("bytes 5 - 9/10", None),
        ("bytes 5-9 / 10", None),
        ("bytes=5-9/10", None),
        ("5-9/10", None),
        ("items 5-9/10", None),
        ("bytes 0-18446744073709551615/*", None),
        ("bytes 0-99999999999999999999/*", None),
        ("bytes 0-0/99999999999999999999", None),
        ("bytes +0-0/1", None),
        ("", None),
    ] {
        assert_eq!(content_range(value), expected, "{value}");
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    prop_oneof![
        (0u64..40).prop_map(Spec::From),
        (0u64..40, 0u64..10).prop_map(|(first, more)| Spec::Between(first, first + more)),
        (0u64..40).prop_map(Spec::Last),
    ]
}

fn written(spec: Spec) -> String {
    match spec {
        Spec::From(first) => format!("{first}-"),
        Spec::Between(first, last) => format!("{first}-{last}"),
        Spec::Last(count) => format!("-{count}"),
    }
}

proptest! {
    #[test]
    fn each_byte_asked_for_comes_once(specs in prop::collection::vec(spec(), 1..=MOST), length in 1u64..32) {
        let items: Vec<String> = specs.iter().map(|&spec| written(spec)).collect();
        let parts = match asked(&format!("bytes={}", items.join(", ")), length) {
            Ranges::Whole => return Err(TestCaseError::fail("whole")),
            Ranges::Unsatisfiable => Vec::new(),
            Ranges::One(part) => vec![part],
            Ranges::Many(parts) => {
                prop_assert!(parts.len() > 1);
                parts
            }
        };
        for byte in 0..length {
            let wanted = specs.iter().any(|spec| match *spec {
                Spec::From(first) => byte >= first,
                Spec::Between(first, last) => (first..=last).contains(&byte),
                Spec::Last(count) => length - byte <= count,
            });
            let times = parts.iter().filter(|part| part.contains(&byte)).count();
            prop_assert_eq!(times, usize::from(wanted), "{}", byte);
        }
        for part in &parts {
            prop_assert!(part.start < part.end && part.end <= length);
            // Another one does not begin where this one ends.
            prop_assert!(parts.iter().all(|other| other.start != part.end));
        }
        // Each comes in the order of the first range that it answers.
        let first = |part: &Range<u64>| {
            specs.iter().position(|spec| spec.within(length).is_some_and(|s| part.contains(&s.start)))
        };
        prop_assert!(parts.is_sorted_by_key(first));
    }

    #[test]
    fn any_text_is_read(range in "(bytes=)?[-0-9, a=]{0,24}", length in any::<u64>()) {
        match asked(&range, length) {
            Ranges::One(part) => prop_assert!(part.start < part.end && part.end <= length),
            Ranges::Many(parts) => prop_assert!(parts.iter().map(|p| p.end - p.start).sum::<u64>() < length),
            Ranges::Whole | Ranges::Unsatisfiable => {}
        }
    }

    #[test]
    fn what_a_206_says_is_read_back(
        first in any::<u64>(),
        more in 0u64..1000,
        after in proptest::option::of(0u64..1000),
    ) {
        let last = first.saturating_add(more).min(u64::MAX - 2000);
        prop_assume!(first <= last);
        let length = after.map(|after| last + 1 + after);
        let text = length.map_or("*".to_owned(), |length| length.to_string());
        let read = content_range(&format!("bytes {first}-{last}/{text}"));
        prop_assert_eq!(read, Some((first..last + 1, length)));
    }

    #[test]
    fn any_content_range_is_read(value in "(bytes )?[-0-9*/ ]{0,16}") {
        if let Some((part, length)) = content_range(&value) {
            prop_assert!(part.start < part.end && length.is_none_or(|length| part.end <= length));
        }
    }
}
