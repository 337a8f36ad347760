//! Each rule on what is kept as a row of a table: those for a forced `ttl`, and those of RFC 9111 with its sections.

use super::super::tests::{date, fields, forced, respectful, secs};
use super::*;
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(1_000_000);

/// What becomes of an answer where the origin is respected.
fn judged(request: &[(&str, &str)], status: u16, lines: &[(&str, &str)]) -> Option<NotStored> {
    let (request, lines) = (fields(request), fields(lines));
    let code = StatusCode::from_u16(status).unwrap();
    let policy = respectful(&[]);
    storable(&policy, Keep::Whole, &request, code, &lines, NOW, &date).err()
}

fn control(value: &str) -> [(&str, &str); 1] {
    [("cache-control", value)]
}

#[test]
fn what_a_shared_cache_keeps() {
    use NotStored::*;
    for (section, value, expected) in [
        ("3 explicit", "max-age=60", None),
        ("3 explicit", "s-maxage=60", None),
        ("3 explicit", "max-age=0, s-maxage=60", None),
        ("3 explicit", "MAX-AGE=60", None),
        ("3 nothing said", "", Some(Stale)),
        ("3 nothing said", "x, y=1", Some(Stale)),
        ("3 stale at once", "max-age=0", Some(Stale)),
        ("3 stale at once", "s-maxage=0, max-age=60", Some(Stale)),
        ("4.2.1 not a number", "max-age=-1", Some(Stale)),
        ("4.2.1 not a number", "max-age=1.5", Some(Stale)),
        ("4.2.1 not a number", "max-age", Some(Stale)),
        ("4.2.1 not a number", "s-maxage=x, max-age=60", Some(Stale)),
        ("4.2.1 two of them", "max-age=60, max-age=90", Some(Stale)),
        ("4.2.1 the same twice", "max-age=60, max-age=60", None),
        ("5.2 quoted", "max-age=\"60\"", None),
        ("1.2.2 too large", "max-age=99999999999999999999", None),
        ("5.2.2.5", "no-store, max-age=60", Some(NoStore)),
        ("5.2.2.5", "No-Store=x, max-age=60", Some(NoStore)),
        ("5.2.2.5 hidden", "max-age=60; no-store", Some(NoStore)),
        ("5.2.2.7", "private, max-age=60", Some(Private)),
        ("5.2.2.7 fields", "private=\"x\", max-age=60", Some(Private)),
        (
            "5.2.2.7 both",
            "public, private, s-maxage=60",
            Some(Private),
        ),
        ("5.2.2.4 nothing to ask by", "no-cache", Some(Stale)),
        (
            "5.2.2.4 nothing to ask by",
            "no-cache, max-age=60",
            Some(Stale),
        ),
        (
            "5.2.2.4 nothing to ask by",
            "no-cache=\"x\", max-age=60",
            Some(Stale),
        ),
        ("5.2.2.3", "must-understand, no-store, max-age=60", None),
        ("5.2.2.3", "must-understand, max-age=60", None),
        (
            "5.2.2.3 private all the same",
            "must-understand, private, max-age=60",
            Some(Private),
        ),
        (
            "5861.4 useful when stale",
            "max-age=0, stale-if-error=60",
            None,
        ),
        (
            "5861.3 useful when stale",
            "max-age=0, stale-while-revalidate=60",
            None,
        ),
        (
            "5861.3 but forbidden",
            "max-age=0, must-revalidate, stale-while-revalidate=60",
            Some(Stale),
        ),
    ] {
        let found = judged(&[], 200, &control(value));
        assert_eq!(found, expected, "{section}: {value}");
    }
}

#[test]
fn what_other_fields_lead_to() {
    use NotStored::*;
    let fresh = ("cache-control", "max-age=60");
    for (section, lines, expected) in [
        ("5.3", &[("expires", "@1000060")][..], None),
        ("5.3 in the past", &[("expires", "@999999")], Some(Stale)),
        ("5.3 no date", &[("expires", "0")], Some(Stale)),
        (
            "5.3 two of them",
            &[("expires", "@1000060"), ("expires", "@1000090")],
            Some(Stale),
        ),
        (
            "5.3 of no account",
            &[("expires", "@1000060"), ("cache-control", "max-age=0")],
            Some(Stale),
        ),
        ("5.3 of no account", &[("expires", "0"), fresh], None),
        ("4.3.1 an entity tag", &[("etag", "\"a\"")], None),
        ("4.3.1 a weak one", &[("etag", "W/\"a\"")], None),
        ("4.3.1 none", &[("etag", "\"a")], Some(Stale)),
        (
            "4.3.1 two",
            &[("etag", "\"a\""), ("etag", "\"b\"")],
            Some(Stale),
        ),
        ("4.3.1 a date", &[("last-modified", "@1")], None),
        (
            "4.3.1 a date of now",
            &[("last-modified", "@1000000")],
            None,
        ),
        ("4.3.1 no date", &[("last-modified", "x")], Some(Stale)),
        (
            "5.2.2.4 something to ask by",
            &[("cache-control", "no-cache"), ("etag", "\"a\"")],
            None,
        ),
        (
            "3 no-store, whatever else",
            &[("cache-control", "no-store"), ("etag", "\"a\"")],
            Some(NoStore),
        ),
        ("4.1", &[("vary", "Accept"), fresh], None),
        ("4.1", &[("vary", "*"), fresh], Some(VaryStar)),
        ("4.1", &[("vary", "a, *"), fresh], Some(VaryStar)),
        ("7.3", &[("set-cookie", "a=b"), fresh], Some(SetCookie)),
        (
            "7.3 public",
            &[
                ("set-cookie", "a=b"),
                ("cache-control", "public, max-age=60"),
            ],
            Some(SetCookie),
        ),
        (
            "5.4 of no account in an answer",
            &[("pragma", "no-cache"), fresh],
            None,
        ),
        (
            "9213.2.2 alone",
            &[("cdn-cache-control", "max-age=60")],
            None,
        ),
        (
            "9213.2.2 allows more",
            &[
                ("cdn-cache-control", "max-age=60"),
                ("cache-control", "no-store, private"),
            ],
            None,
        ),
        (
            "9213.2.2 forbids more",
            &[("cdn-cache-control", "no-store"), fresh],
            Some(NoStore),
        ),
        (
            "9213.2.2 forbids more",
            &[("cdn-cache-control", "private"), fresh],
            Some(Private),
        ),
        (
            "9213.2.2 in place of both",
            &[("cdn-cache-control", "foo"), fresh, ("expires", "@1000060")],
            Some(Stale),
        ),
        (
            "9213.2.1 malformed",
            &[("cdn-cache-control", "no-store, &&"), fresh],
            None,
        ),
        (
            "9213.2.1 malformed",
            &[
                ("cdn-cache-control", "max-age=60, &&"),
                ("cache-control", "no-store"),
            ],
            Some(NoStore),
        ),
        ("9213.2.1 empty", &[("cdn-cache-control", ""), fresh], None),
        (
            "9213.2.1 of another type",
            &[("cdn-cache-control", "max-age=\"60\""), fresh],
            Some(Stale),
        ),
    ] {
        assert_eq!(judged(&[], 200, lines), expected, "{section}: {lines:?}");
    }
}

#[test]
fn which_statuses_a_shared_cache_keeps() {
    use NotStored::*;
    // Kept when only a validator is there; when the origin says how long; and with `must-understand`.
    for (status, by_itself, when_told, when_understood) in [
        (100, Some(Status), Some(Status), Some(Status)),
        (101, Some(Status), Some(Status), Some(Status)),
        (103, Some(Status), Some(Status), Some(Status)),
        (200, None, None, None),
        (201, Some(Status), None, None),
        (203, None, None, None),
        (204, None, None, None),
        (206, Some(Partial), Some(Partial), Some(Partial)),
        (299, Some(Status), None, Some(Status)),
        (300, None, None, None),
        (301, None, None, None),
        (302, Some(Status), None, None),
        (303, Some(Status), None, None),
        (304, Some(Status), Some(Status), Some(Status)),
        (307, Some(Status), None, None),
        (308, None, None, None),
        (400, Some(Status), None, None),
        (401, Some(Status), Some(Status), Some(Status)),
        (403, Some(Status), None, None),
        (404, None, None, None),
        (405, None, None, None),
        (407, Some(Status), Some(Status), Some(Status)),
        (410, None, None, None),
        (412, Some(Status), Some(Status), Some(Status)),
        (414, None, None, None),
        (416, Some(Status), Some(Status), Some(Status)),
        (421, Some(Status), Some(Status), Some(Status)),
        (425, Some(Status), Some(Status), Some(Status)),
        (428, Some(Status), Some(Status), Some(Status)),
        (429, Some(Status), Some(Status), Some(Status)),
        (431, Some(Status), Some(Status), Some(Status)),
        (499, Some(Status), None, Some(Status)),
        (500, Some(Status), None, None),
        (501, None, None, None),
        (502, Some(Status), None, None),
        (503, Some(Status), None, None),
        (504, Some(Status), None, None),
        (511, Some(Status), Some(Status), Some(Status)),
        (599, Some(Status), None, Some(Status)),
    ] {
        let tag = [("etag", "\"a\"")];
        assert_eq!(judged(&[], status, &tag), by_itself, "{status}");
        for told in [
            control("max-age=60"),
            control("s-maxage=60"),
            [("expires", "@1000060")],
            [("cdn-cache-control", "max-age=60")],
        ] {
            assert_eq!(judged(&[], status, &told), when_told, "{status} {told:?}");
        }
        let marked = [tag[0], ("cache-control", "public")];
        assert_eq!(judged(&[], status, &marked), when_told, "{status} public");
        let understood = control("max-age=60, no-store, must-understand");
        assert_eq!(
            judged(&[], status, &understood),
            when_understood,
            "{status} must-understand"
        );
    }
}

#[test]
fn answers_to_authorised_requests() {
    use NotStored::*;
    // What becomes of it with credentials and without.
    for (value, authorised, plain) in [
        ("max-age=60", Some(Authorization), None),
        ("max-age=60, proxy-revalidate", Some(Authorization), None),
        ("max-age=60, x=\"public\"", Some(Authorization), None),
        ("max-age=60, s-maxage", Some(Authorization), Some(Stale)),
        ("max-age=60, s-maxage=x", Some(Authorization), Some(Stale)),
        ("max-age=60, public", None, None),
        ("max-age=60, Must-Revalidate", None, None),
        ("s-maxage=60", None, None),
        ("public, private, max-age=60", Some(Private), Some(Private)),
        ("public, no-store, max-age=60", Some(NoStore), Some(NoStore)),
    ] {
        for name in ["authorization", "proxy-authorization"] {
            let found = judged(&[(name, "Basic YQ==")], 200, &control(value));
            assert_eq!(found, authorised, "{name} {value}");
        }
        // Cookies are no authorisation to RFC 9111: the origin has to say that they matter.
        let found = judged(&[("cookie", "a=1")], 200, &control(value));
        assert_eq!(found, plain, "{value}");
    }
    let lines = [
        ("cache-control", "public"),
        ("cdn-cache-control", "max-age=60"),
    ];
    let found = judged(&[("authorization", "x")], 200, &lines);
    assert_eq!(
        found,
        Some(Authorization),
        "the targeted field alone counts"
    );
}

#[test]
fn the_route_can_make_stale_answers_worth_keeping() {
    let windows = [
        (None, None, "max-age=0", false),
        (Some(secs(60)), None, "max-age=0", true),
        (None, Some(secs(60)), "max-age=0", true),
        (Some(secs(0)), Some(secs(0)), "max-age=0", false),
        (Some(secs(60)), None, "max-age=0, must-revalidate", false),
        (Some(secs(60)), None, "no-cache", false),
        (Some(secs(60)), Some(secs(60)), "s-maxage=0", false),
    ];
    for (stale_if_error, stale_while_revalidate, value, expected) in windows {
        let policy = CachePolicy {
            stale_if_error,
            stale_while_revalidate,
            ..respectful(&[])
        };
        let (request, lines) = (fields(&[]), fields(&control(value)));
        let (keep, status) = (Keep::Whole, StatusCode::OK);
        let found = storable(&policy, keep, &request, status, &lines, NOW, &date);
        assert_eq!(found.is_ok(), expected, "{stale_if_error:?} {value}");
    }
}

#[test]
fn which_parts_are_kept() {
    use NotStored::*;
    let tag = ("etag", "\"a\"");
    for (lines, expected) in [
        (&[tag][..], None),
        (&[tag, ("cache-control", "max-age=60")], None),
        (&[("cache-control", "max-age=60")], Some(Partial)),
        (&[("etag", "W/\"a\"")], Some(Partial)),
        (&[("last-modified", "@1")], Some(Partial)),
        (&[tag, ("cache-control", "no-store")], Some(NoStore)),
        (&[tag, ("set-cookie", "a=b")], Some(SetCookie)),
    ] {
        let (request, headers) = (fields(&[]), fields(lines));
        let status = StatusCode::PARTIAL_CONTENT;
        let part = |policy: CachePolicy| {
            storable(&policy, Keep::Part, &request, status, &headers, NOW, &date).err()
        };
        assert_eq!(part(respectful(&[])), expected, "{lines:?}");
        assert_eq!(part(forced(true, &[])), Some(Partial), "{lines:?}");
    }
}

#[test]
fn a_guess_is_not_made_for_who_has_a_cookie_whichever_way_in() {
    use NotStored::*;
    let (tag, modified) = (("etag", "\"a\""), ("last-modified", "@1"));
    let cookie = fields(&[("cookie", "a=1")]);
    let plain = fields(&[]);
    for (own, worded) in [
        (&[tag, modified][..], false),
        (&[tag], false),
        (&[tag, ("cache-control", "must-revalidate")], false),
        (&[tag, ("cache-control", "max-age=60")], true),
        (&[tag, ("cache-control", "public")], true),
        (&[tag, ("expires", "@2000000")], true),
        (&[tag, modified, ("cdn-cache-control", "max-age=60")], true),
        // What is no dictionary says nothing, and neither does one without a word of it.
        (
            &[tag, modified, ("cdn-cache-control", "max-age=60, &&&")],
            false,
        ),
        (
            &[
                tag,
                modified,
                ("cdn-cache-control", "own"),
                ("cache-control", "max-age=60"),
            ],
            false,
        ),
    ] {
        let own = fields(own);
        let policy = CachePolicy {
            stale_if_error: Some(secs(60)),
            ..respectful(&[])
        };
        let whole = (Keep::Whole, StatusCode::OK);
        let part = (Keep::Part, StatusCode::PARTIAL_CONTENT);
        // An update of what was allowed to all.
        let merged = fields(&[tag, ("cache-control", "public, max-age=60")]);
        let update = (Keep::Fields(&merged), StatusCode::OK);
        for (keep, status) in [whole, part, update] {
            let judge = |request| storable(&policy, keep, request, status, &own, NOW, &date).err();
            let expected = (!worded).then_some(Cookie);
            assert_eq!(judge(&cookie), expected, "{keep:?} {own:?}");
            assert_eq!(judge(&plain), None, "{keep:?} {own:?}");
        }
    }
}

#[test]
fn fields_that_come_later_pass_by_themselves_and_merged() {
    use NotStored::*;
    let (tag, fresh) = (("etag", "\"a\""), ("cache-control", "max-age=60"));
    let ann = ("authorization", "Basic YQ==");
    for (request, own, merged, expected) in [
        (&[][..], &[tag][..], &[tag, fresh][..], None),
        (&[], &[tag, ("vary", "*")], &[tag, fresh], Some(VaryStar)),
        (
            &[],
            &[("set-cookie", "a=1")],
            &[tag, fresh],
            Some(SetCookie),
        ),
        (&[], &[tag], &[("cache-control", "private")], Some(Private)),
        (
            &[],
            &[("cache-control", "private")],
            &[fresh],
            Some(Private),
        ),
        (
            &[ann],
            &[tag, ("cache-control", "public")],
            &[tag, fresh],
            Some(Authorization),
        ),
        (
            &[ann],
            &[tag],
            &[tag, ("cache-control", "public")],
            Some(Authorization),
        ),
        (
            &[ann],
            &[tag, ("cache-control", "public")],
            &[tag, ("cache-control", "public")],
            None,
        ),
    ] {
        let (request, own, merged) = (fields(request), fields(own), fields(merged));
        let (policy, keep) = (respectful(&[]), Keep::Fields(&merged));
        let found = storable(&policy, keep, &request, StatusCode::OK, &own, NOW, &date);
        assert_eq!(found.err(), expected, "{request:?} {own:?} {merged:?}");
    }
}

#[test]
fn what_is_kept_of_a_head() {
    let head = fields(&[
        ("connection", "close, X-Hop"),
        ("connection", "x-other ,"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "x"),
        ("proxy-authorization", "x"),
        ("proxy-connection", "close"),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("x-hop", "1"),
        ("X-Other", "1"),
        ("x-unknown", "1"),
        ("x-unknown", "2"),
        ("content-length", "5"),
        ("age", "3"),
        ("www-authenticate", "Basic"),
    ]);
    let expected = fields(&[
        ("x-unknown", "1"),
        ("x-unknown", "2"),
        ("content-length", "5"),
        ("age", "3"),
        ("www-authenticate", "Basic"),
    ]);
    assert_eq!(kept(&head), expected);
}

/// Directives of which none forbids to keep an answer, and odd ones.
fn directive() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "max-age",
        "s-maxage",
        "public",
        "must-revalidate",
        "no-cache",
        "stale-if-error",
        "x",
    ];
    let argument = prop_oneof![Just(String::new()), "=[0-9]{1,12}", "=\"[a-z0-9, ]{0,9}\""];
    (prop::sample::select(NAMES), argument).prop_map(|(name, argument)| name.to_owned() + &argument)
}

proptest! {
    #[test]
    fn what_forbids_is_never_outvoted(
        mut directives in prop::collection::vec(directive(), 0..6),
        place in 0usize..7,
        word in prop::sample::select(&["no-store", "private", "private=\"x\""][..]),
        status in 200u16..600,
        authorised: bool,
    ) {
        directives.insert(place.min(directives.len()), word.to_owned());
        let value = directives.join(", ");
        let request: &[_] = if authorised { &[("authorization", "x")] } else { &[] };
        let lines = [("cache-control", &value[..]), ("etag", "\"a\""), ("expires", "@2000000")];
        prop_assert!(judged(request, status, &lines).is_some(), "{status} {value}");
        // The same in the field that is for caches like this one.
        let lines = [("cdn-cache-control", &value[..]), ("etag", "\"a\"")];
        if Directives::of(&fields(&lines)).targeted {
            prop_assert!(judged(request, status, &lines).is_some(), "{status} {value}");
        }
    }

    #[test]
    fn authorised_answers_are_shared_only_when_the_origin_says_so(
        directives in prop::collection::vec(directive(), 0..6),
        status in 200u16..600,
    ) {
        let value = directives.join(", ");
        let lines = [("cache-control", &value[..]), ("etag", "\"a\"")];
        let allowed = ["public", "must-revalidate", "s-maxage"].iter().any(|word| value.contains(word));
        let found = judged(&[("authorization", "x")], status, &lines);
        prop_assert!(allowed || found.is_some(), "{status} {value}");
        // What is refused without credentials is refused with them too.
        let plain = judged(&[], status, &lines);
        prop_assert!(plain.is_none() || found.is_some(), "{status} {value}");
    }
}

#[test]
fn what_a_forced_ttl_keeps() {
    use NotStored::*;
    let private = |shared| if shared { Some(Private) } else { None };
    for shared in [false, true] {
        for (status, lines, expected) in [
            (200, &[][..], None),
            (203, &[], None),
            (204, &[], None),
            (301, &[], None),
            (308, &[], None),
            (206, &[], Some(Partial)),
            (206, &[("cache-control", "no-store")], Some(Partial)),
            (201, &[], Some(Status)),
            (300, &[], Some(Status)),
            (302, &[], Some(Status)),
            (304, &[], Some(Status)),
            (404, &[], Some(Status)),
            (410, &[], Some(Status)),
            (500, &[], Some(Status)),
            (503, &[], Some(Status)),
            (200, &[("cache-control", "no-store")], Some(NoStore)),
            (
                200,
                &[("cache-control", "max-age=9 NO-STORE")],
                Some(NoStore),
            ),
            (200, &[("cache-control", "x=\"no-store\"")], None),
            (200, &[("cache-control", "private")], private(shared)),
            (200, &[("cache-control", "private=\"x\"")], private(shared)),
            (200, &[("cache-control", "Private=\"x")], private(shared)),
            (
                200,
                &[("cache-control", "private, no-store")],
                Some(NoStore),
            ),
            // The route's `ttl` overrules what is said of freshness.
            (200, &[("cache-control", "no-cache, max-age=0")], None),
            (200, &[("expires", "0"), ("pragma", "no-cache")], None),
            (200, &[("set-cookie", "a=b")], Some(SetCookie)),
            (301, &[("set-cookie", "")], Some(SetCookie)),
            (200, &[("vary", "Accept")], None),
            (200, &[("vary", "*")], Some(VaryStar)),
            (
                200,
                &[("vary", "Accept"), ("vary", "Cookie, *")],
                Some(VaryStar),
            ),
            (200, &[("vary", "Accept *")], Some(VaryStar)),
            // What only counts where the origin is respected.
            (
                200,
                &[("cache-control", "no-store, must-understand")],
                Some(NoStore),
            ),
            // In whichever field, and however malformed, the origin forbids it.
            (200, &[("cdn-cache-control", "no-store")], Some(NoStore)),
            (
                200,
                &[("cdn-cache-control", "No-Store, &&&")],
                Some(NoStore),
            ),
            (200, &[("cdn-cache-control", "private")], private(shared)),
            (
                200,
                &[
                    ("cdn-cache-control", "max-age=9"),
                    ("cache-control", "private"),
                ],
                private(shared),
            ),
            (200, &[("cdn-cache-control", "no-cache, max-age=0")], None),
            (
                200,
                &[
                    ("cdn-cache-control", "max-age=9"),
                    ("cache-control", "no-store"),
                ],
                Some(NoStore),
            ),
            (
                200,
                &[("vary", "*"), ("set-cookie", "a=b")],
                Some(SetCookie),
            ),
        ] {
            let code = StatusCode::from_u16(status).unwrap();
            let policy = forced(shared, &[]);
            let request = fields(&[("authorization", "x"), ("cookie", "a=1")]);
            let lines = fields(lines);
            let found = storable(&policy, Keep::Whole, &request, code, &lines, NOW, &date);
            assert_eq!(found.err(), expected, "{status} {lines:?} shared={shared}");
        }
    }
}
