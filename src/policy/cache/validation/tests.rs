//! How stored answers are validated and updated, with the sections of RFC 9111.

use super::super::tests::fields;
use super::*;
use proptest::prelude::*;

#[test]
fn what_the_origin_is_asked() {
    for (section, stored, expected) in [
        ("4.3.1 nothing to ask by", &[("date", "@1")][..], &[][..]),
        (
            "4.3.1 a tag",
            &[("etag", "\"a\"")],
            &[("if-none-match", "\"a\"")],
        ),
        (
            "4.3.1 a weak tag",
            &[("etag", "W/\"a\"")],
            &[("if-none-match", "W/\"a\"")],
        ),
        (
            "4.3.1 a date",
            &[("last-modified", "@1")],
            &[("if-modified-since", "@1")],
        ),
        (
            "4.3.1 both",
            &[("last-modified", "@1"), ("etag", "\"a\"")],
            &[("if-none-match", "\"a\""), ("if-modified-since", "@1")],
        ),
        (
            "9110.8.8.3 any visible bytes",
            &[("etag", "\"a,b\u{e9}'\"")],
            &[("if-none-match", "\"a,b\u{e9}'\"")],
        ),
        (
            "9110.8.8.3 empty",
            &[("etag", "\"\"")],
            &[("if-none-match", "\"\"")],
        ),
        (
            "9110.8.8.3 without quotes",
            &[("etag", "a-b")],
            &[("if-none-match", "a-b")],
        ),
        ("9110.8.8.3 not two", &[("etag", "a,b")], &[]),
        ("9110.8.8.3 not any", &[("etag", "*")], &[]),
        ("9110.8.8.3 half a quote", &[("etag", "\"a")], &[]),
        ("9110.8.8.3 half a quote", &[("etag", "W/a\"")], &[]),
        ("9110.8.8.3 just a quote", &[("etag", "\"")], &[]),
        ("9110.8.8.3 blanks", &[("etag", "\"a b\"")], &[]),
        (
            "9110.8.8.3 nothing",
            &[("etag", ""), ("last-modified", "")],
            &[],
        ),
        (
            "9110.8.8.3 two",
            &[
                ("etag", "\"a\""),
                ("etag", "\"b\""),
                ("last-modified", "@1"),
            ],
            &[("if-modified-since", "@1")],
        ),
        (
            "9110.8.8.2 two",
            &[("last-modified", "@1"), ("last-modified", "@2")],
            &[],
        ),
    ] {
        let found: HeaderMap = conditions(&fields(stored)).into_iter().collect();
        assert_eq!(found, fields(expected), "{section}: {stored:?}");
    }
}

#[test]
fn which_answer_a_304_is_about() {
    const STRONG: (&str, &str) = ("etag", "\"a\"");
    const WEAK: (&str, &str) = ("etag", "W/\"a\"");
    const OTHER: (&str, &str) = ("etag", "\"b\"");
    const OTHER_WEAK: (&str, &str) = ("etag", "W/\"b\"");
    const DATE: (&str, &str) = ("last-modified", "@1");
    const LATER: (&str, &str) = ("last-modified", "@2");
    for (section, stored, update, expected) in [
        ("4.3.4 strong", &[STRONG][..], &[STRONG][..], true),
        ("4.3.4 strong, another", &[STRONG], &[OTHER], false),
        (
            "4.3.4 strong, the date is of no account",
            &[STRONG, DATE],
            &[OTHER, DATE],
            false,
        ),
        (
            "4.3.4 strong, the date is of no account",
            &[STRONG, DATE],
            &[STRONG, LATER],
            true,
        ),
        (
            "4.3.4 strong, of something else",
            &[DATE],
            &[STRONG, DATE],
            false,
        ),
        ("4.3.4 strong, of something else", &[], &[STRONG], false),
        ("4.3.4 weak", &[WEAK], &[WEAK], true),
        ("4.3.4 weak, another", &[WEAK], &[OTHER_WEAK], false),
        ("4.3.4 weak for strong", &[STRONG], &[WEAK], true),
        (
            "4.3.4 weak for strong, another",
            &[STRONG],
            &[OTHER_WEAK],
            false,
        ),
        (
            "4.3.4 strong for weak: a compressing origin",
            &[WEAK],
            &[STRONG],
            true,
        ),
        ("4.3.4 strong for weak, another", &[WEAK], &[OTHER], false),
        (
            "4.3.4 weak, the stored has but a date",
            &[DATE],
            &[WEAK, DATE],
            true,
        ),
        (
            "4.3.4 weak, the stored has but a date",
            &[DATE],
            &[WEAK, LATER],
            false,
        ),
        (
            "4.3.4 weak, the stored has but a date",
            &[DATE],
            &[WEAK],
            false,
        ),
        ("4.3.4 a date", &[DATE], &[DATE], true),
        ("4.3.4 a date", &[STRONG, DATE], &[DATE], true),
        ("4.3.4 another date", &[DATE], &[LATER], false),
        ("4.3.4 another date", &[STRONG, DATE], &[LATER], false),
        ("4.3.4 a date for none", &[STRONG], &[DATE], false),
        ("4.3.4 none", &[], &[], true),
        ("4.3.4 none in the reply", &[STRONG, DATE], &[], true),
        (
            "4.3.4 one that cannot be read",
            &[STRONG],
            &[("etag", "\"a")],
            false,
        ),
        (
            "4.3.4 one that cannot be read",
            &[STRONG],
            &[STRONG, OTHER],
            false,
        ),
        (
            "4.3.4 one that cannot be read",
            &[DATE],
            &[("etag", "\"a"), DATE],
            true,
        ),
        (
            "4.3.4 without quotes",
            &[("etag", "a")],
            &[("etag", "a")],
            true,
        ),
        ("4.3.4 without quotes", &[("etag", "a")], &[STRONG], false),
        (
            "9110.8.8.3.2 case counts",
            &[STRONG],
            &[("etag", "\"A\"")],
            false,
        ),
    ] {
        let found = selects(&fields(stored), &fields(update));
        assert_eq!(found, expected, "{section}: {stored:?} {update:?}");
    }
}

#[test]
fn what_an_update_changes() {
    for (section, stored, update, expected) in [
        (
            "3.2 added",
            &[("x-a", "1")][..],
            &[("x-b", "2")][..],
            &[("x-a", "1"), ("x-b", "2")][..],
        ),
        (
            "3.2 replaced",
            &[("x-a", "1")],
            &[("X-A", "2")],
            &[("x-a", "2")],
        ),
        (
            "3.2 all lines",
            &[("x-a", "1"), ("x-a", "2")],
            &[("x-a", "3")],
            &[("x-a", "3")],
        ),
        (
            "3.2 by all lines",
            &[("x-a", "1")],
            &[("x-a", "2"), ("x-a", "3")],
            &[("x-a", "2"), ("x-a", "3")],
        ),
        (
            "3.2 freshness",
            &[("cache-control", "max-age=1"), ("expires", "@1")],
            &[
                ("cache-control", "no-cache"),
                ("expires", "@2"),
                ("vary", "a"),
            ],
            &[
                ("cache-control", "no-cache"),
                ("expires", "@2"),
                ("vary", "a"),
            ],
        ),
        (
            "3.2 unknown Content-",
            &[("content-foo", "1")],
            &[("content-foo", "2")],
            &[("content-foo", "2")],
        ),
        (
            "3.2 Content-Type",
            &[("content-type", "a/b")],
            &[("content-type", "a/c")],
            &[("content-type", "a/c")],
        ),
        (
            "3.2 Content-Length",
            &[("content-length", "5")],
            &[("content-length", "0")],
            &[("content-length", "5")],
        ),
        ("3.2 Content-Length", &[], &[("content-length", "0")], &[]),
        (
            "3.2 Content-Encoding",
            &[("content-encoding", "gzip")],
            &[("content-encoding", "br")],
            &[("content-encoding", "gzip")],
        ),
        (
            "3.2 Content-Encoding",
            &[],
            &[("content-encoding", "br")],
            &[],
        ),
        (
            "3.2 Content-Range",
            &[],
            &[("content-range", "bytes 0-1/2")],
            &[],
        ),
        (
            "3.1 one connection",
            &[("x-hop", "1")],
            &[
                ("connection", "X-Hop, close"),
                ("x-hop", "2"),
                ("keep-alive", "a"),
                ("transfer-encoding", "b"),
                ("te", "c"),
            ],
            &[("x-hop", "1")],
        ),
        (
            "3.1 one proxy",
            &[],
            &[
                ("proxy-authenticate", "a"),
                ("proxy-authentication-info", "b"),
                ("proxy-authorization", "c"),
            ],
            &[],
        ),
        ("7.3 cookies", &[], &[("set-cookie", "a=b")], &[]),
        // They tell how old the reply is, not what was stored.
        (
            "4.2.3 Age and Date",
            &[("age", "9"), ("date", "@1")],
            &[("age", "1"), ("date", "@2")],
            &[("age", "1"), ("date", "@2")],
        ),
        (
            "4.2.3 Age and Date",
            &[("age", "9"), ("date", "@1"), ("x-a", "1")],
            &[],
            &[("x-a", "1")],
        ),
        // A tag: no stronger than what came with the content.
        (
            "3.2 ETag",
            &[("etag", "\"a\"")],
            &[("etag", "\"a\"")],
            &[("etag", "\"a\"")],
        ),
        (
            "3.2 ETag",
            &[("etag", "\"a\"")],
            &[("etag", "W/\"a\"")],
            &[("etag", "W/\"a\"")],
        ),
        (
            "3.2 ETag",
            &[("etag", "W/\"a\"")],
            &[("etag", "\"a\"")],
            &[("etag", "W/\"a\"")],
        ),
        (
            "3.2 ETag",
            &[("last-modified", "@1")],
            &[("etag", "W/\"a\"")],
            &[("last-modified", "@1"), ("etag", "W/\"a\"")],
        ),
        (
            "3.2 Last-Modified",
            &[("last-modified", "@1")],
            &[("last-modified", "@2")],
            &[("last-modified", "@2")],
        ),
    ] {
        let found = merge(&fields(stored), &fields(update));
        assert_eq!(found, fields(expected), "{section}: {stored:?} {update:?}");
    }
}

#[test]
fn what_a_head_means() {
    use Freshen::*;
    const TAG: (&str, &str) = ("etag", "\"a\"");
    const DATE: (&str, &str) = ("last-modified", "@1");
    for (section, stored, head, expected) in [
        ("4.3.5 the tag", &[TAG][..], &[TAG][..], Update),
        (
            "4.3.5 another tag",
            &[TAG],
            &[("etag", "\"b\"")],
            Invalidate,
        ),
        (
            "4.3.5 weak for strong",
            &[TAG],
            &[("etag", "W/\"a\"")],
            Update,
        ),
        ("4.3.5 a new tag", &[DATE], &[TAG, DATE], Invalidate),
        (
            "4.3.5 no tag to read",
            &[("etag", "\"a")],
            &[("etag", "\"a")],
            Invalidate,
        ),
        ("4.3.5 the date", &[DATE], &[DATE], Update),
        (
            "4.3.5 another date",
            &[DATE],
            &[("last-modified", "@2")],
            Invalidate,
        ),
        (
            "4.3.5 another date",
            &[TAG, DATE],
            &[TAG, ("last-modified", "@2")],
            Invalidate,
        ),
        ("4.3.5 a new date", &[TAG], &[TAG, DATE], Invalidate),
        ("4.3.5 received ones only", &[TAG, DATE], &[TAG], Update),
        ("4.3.5 the length", &[], &[("content-length", "5")], Update),
        (
            "4.3.5 another length",
            &[],
            &[("content-length", "6")],
            Invalidate,
        ),
        (
            "4.3.5 another length",
            &[TAG],
            &[TAG, ("content-length", "6")],
            Invalidate,
        ),
        (
            "4.3.5 no length",
            &[TAG],
            &[TAG, ("content-length", "x")],
            Invalidate,
        ),
        (
            "4.3.5 not what was stored",
            &[("content-length", "6")],
            &[("content-length", "5")],
            Update,
        ),
        (
            "4.3.5 all",
            &[TAG, DATE],
            &[TAG, DATE, ("content-length", "5")],
            Update,
        ),
        (
            "4.3.5 nothing to tell by",
            &[TAG, DATE],
            &[("cache-control", "max-age=60")],
            Nothing,
        ),
        ("4.3.5 nothing to tell by", &[], &[], Nothing),
    ] {
        let (stored, head) = (fields(stored), fields(head));
        let found = freshened_by_head(StatusCode::OK, &stored, 5, &head);
        assert_eq!(found, expected, "{section}: {stored:?} {head:?}");
        for other in [StatusCode::NOT_FOUND, StatusCode::MOVED_PERMANENTLY] {
            let found = freshened_by_head(other, &stored, 5, &head);
            assert_eq!(found, Invalidate, "{section}: {stored:?} {head:?}");
        }
    }
}

#[test]
fn what_can_be_put_together() {
    for (section, one, other, expected) in [
        (
            "3.4 the same",
            &[("etag", "\"a\"")][..],
            &[("etag", "\"a\"")][..],
            true,
        ),
        (
            "3.4 another",
            &[("etag", "\"a\"")],
            &[("etag", "\"b\"")],
            false,
        ),
        (
            "3.4 weak",
            &[("etag", "W/\"a\"")],
            &[("etag", "W/\"a\"")],
            false,
        ),
        (
            "3.4 weak",
            &[("etag", "\"a\"")],
            &[("etag", "W/\"a\"")],
            false,
        ),
        (
            "3.4 weak",
            &[("etag", "W/\"a\"")],
            &[("etag", "\"a\"")],
            false,
        ),
        (
            "3.4 without quotes",
            &[("etag", "a")],
            &[("etag", "a")],
            false,
        ),
        (
            "3.4 a date",
            &[("last-modified", "@1")],
            &[("last-modified", "@1")],
            false,
        ),
        ("3.4 none", &[], &[], false),
    ] {
        assert_eq!(
            combinable(&fields(one), &fields(other)),
            expected,
            "{section}: {one:?} {other:?}"
        );
    }
}

const NAMES: [&str; 10] = [
    "age",
    "cache-control",
    "connection",
    "content-length",
    "date",
    "etag",
    "last-modified",
    "set-cookie",
    "transfer-encoding",
    "x-a",
];

fn head() -> impl Strategy<Value = HeaderMap> {
    let value = prop_oneof!["[0-9]{1,2}", "(W/)?\"[ab]\"", "x-a|etag|close"];
    prop::collection::vec((prop::sample::select(&NAMES[..]), value), 0..8).prop_map(|lines| {
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        fields(&lines)
    })
}

proptest! {
    #[test]
    fn an_update_keeps_its_promises(stored in head(), update in head()) {
        let merged = merge(&stored, &update);
        let values = |headers: &HeaderMap, name| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        for name in NAMES {
            let (old, new, found) = (values(&stored, name), values(&update, name), values(&merged, name));
            prop_assert!(found.is_empty() || found == old || found == new, "{name}");
            match name {
                "content-length" | "connection" | "transfer-encoding" | "set-cookie" => prop_assert_eq!(found, old),
                "age" | "date" => prop_assert!(found == new || found.is_empty()),
                _ => prop_assert!(!found.is_empty() || old.is_empty()),
            }
        }
        // Content is told apart by strong tags alone, so none may appear.
        prop_assert!(is_strong(&stored) || !is_strong(&merged));
        // What is done twice changes nothing more.
        prop_assert_eq!(merge(&merged, &update), merged);
    }

    #[test]
    fn an_answer_is_about_itself(stored in head()) {
        // A tag that cannot be read names nothing.
        prop_assume!(!stored.contains_key("etag") || entity_tag(&stored).is_some());
        prop_assume!(stored.get_all("last-modified").iter().collect::<std::collections::HashSet<_>>().len() < 2);
        prop_assert!(selects(&stored, &stored));
        prop_assert!(selects(&merge(&stored, &stored), &stored));
    }
}
