//! Ages and lifetimes of answers, with the sections of RFC 9111.

use super::super::tests::{date, fields, secs};
use super::*;
use proptest::prelude::*;

/// When the answers of these tests come, a second and a half after they were asked for.
const TIMES: Times = Times {
    requested: Duration::from_millis(999_999_000),
    received: Duration::from_millis(1_000_000_500),
};

fn of(status: u16, lines: &[(&str, &str)]) -> Freshness {
    let status = StatusCode::from_u16(status).unwrap();
    Freshness::of(false, status, &fields(lines), TIMES, &date)
}

#[test]
fn ages_on_arrival() {
    for (section, lines, expected) in [
        ("4.2.3 the delay alone", &[][..], 1500),
        ("4.2.3 of now", &[("date", "@1000000")], 1500),
        ("4.2.3 apparent", &[("date", "@999990")], 10_000),
        (
            "4.2.3 apparent, not negative",
            &[("date", "@1000009")],
            1500,
        ),
        ("4.2.3 corrected", &[("age", "10")], 11_500),
        (
            "4.2.3 the greater",
            &[("age", "10"), ("date", "@999980")],
            20_000,
        ),
        (
            "4.2.3 the greater",
            &[("age", "30"), ("date", "@999980")],
            31_500,
        ),
        ("6.6.1 no date", &[("date", "yesterday")], 1500),
        (
            "6.6.1 two dates",
            &[("date", "@999990"), ("date", "@1000000")],
            1500,
        ),
        ("5.1 no number", &[("age", "abc")], 1500),
        ("5.1 negative", &[("age", "-10")], 1500),
        ("5.1 a fraction", &[("age", "10.0")], 1500),
        ("5.1 a parameter", &[("age", "10;a=b")], 1500),
        ("5.1 empty", &[("age", "")], 1500),
        ("5.1 quoted", &[("age", "\"10\"")], 1500),
        ("5.1 the first of a list", &[("age", "10, 0")], 11_500),
        ("5.1 the first of a list", &[("age", "0, 10")], 1500),
        ("5.1 the first line", &[("age", "10"), ("age", "0")], 11_500),
        ("5.1 the first, valid or not", &[("age", "x, 10")], 1500),
        ("5.1 an empty element is none", &[("age", " , 10")], 11_500),
        (
            "1.2.2 too large",
            &[("age", "99999999999999999999")],
            MOST_SECONDS * 1000,
        ),
        (
            "1.2.2 infinity",
            &[("age", "2147483648")],
            MOST_SECONDS * 1000,
        ),
    ] {
        let found = of(200, lines);
        assert_eq!(
            found.initial_age,
            Duration::from_millis(expected),
            "{section}: {lines:?}"
        );
        assert_eq!(found.received, TIMES.received);
        // Age is all that is asked for where the route says how long.
        let forced = Freshness::of(true, StatusCode::OK, &fields(lines), TIMES, &date);
        assert_eq!(
            forced.initial_age, found.initial_age,
            "{section}: {lines:?}"
        );
    }
    // A clock that was set back in between.
    let back = Times {
        requested: secs(20),
        received: secs(10),
    };
    let found = Freshness::of(false, StatusCode::OK, &fields(&[]), back, &date);
    assert_eq!(found.initial_age, Duration::ZERO);
}

#[test]
fn ages_later() {
    let stored = of(200, &[("age", "10")]);
    for (after, expected) in [(0, 11_500), (250, 11_750), (60_000, 71_500)] {
        let now = TIMES.received + Duration::from_millis(after);
        assert_eq!(stored.age(now), Duration::from_millis(expected), "{after}");
    }
    // A clock that goes back a little, and one that was wrong.
    for (back, expected) in [(1, 11_500), (60, 11_500), (61, MOST_SECONDS * 1000)] {
        let now = TIMES.received - secs(back);
        assert_eq!(stored.age(now), Duration::from_millis(expected), "{back}");
    }
    assert_eq!(stored.age(Duration::MAX), MOST, "1.2.2 no overflow");
}

#[test]
fn explicit_lifetimes() {
    let late = ("expires", "@1000100");
    for (section, lines, expected) in [
        (
            "4.2.1 max-age",
            &[("cache-control", "max-age=60")][..],
            60_000,
        ),
        (
            "4.2.1 s-maxage first",
            &[("cache-control", "max-age=60, s-maxage=9")],
            9_000,
        ),
        (
            "4.2.1 s-maxage first",
            &[
                ("cache-control", "s-maxage=90"),
                ("cache-control", "max-age=0"),
            ],
            90_000,
        ),
        (
            "4.2.1 max-age before Expires",
            &[("cache-control", "max-age=60"), late],
            60_000,
        ),
        (
            "5.3 even if zero",
            &[("cache-control", "max-age=0"), late],
            0,
        ),
        (
            "5.3 even if invalid",
            &[("cache-control", "max-age=x"), late],
            0,
        ),
        (
            "5.3 s-maxage before Expires",
            &[("cache-control", "s-maxage=60"), ("expires", "0")],
            60_000,
        ),
        (
            "4.2.1 Expires minus Date",
            &[late, ("date", "@1000010")],
            90_000,
        ),
        (
            "4.2.1 Expires minus Date",
            &[late, ("date", "@999900")],
            200_000,
        ),
        ("4.2.1 or the arrival", &[("expires", "@1000101")], 100_500),
        ("4.2.1 or the arrival", &[late, ("date", "x")], 99_500),
        (
            "5.3 past",
            &[("expires", "@999999"), ("date", "@1000000")],
            0,
        ),
        (
            "5.3 at Date",
            &[("expires", "@1000000"), ("date", "@1000000")],
            0,
        ),
        ("5.3 zero", &[("expires", "0")], 0),
        ("5.3 no date", &[("expires", "tomorrow")], 0),
        ("5.3 empty", &[("expires", "")], 0),
        (
            "4.2.1 two",
            &[late, ("expires", "@1000200"), ("date", "@1000000")],
            0,
        ),
        (
            "4.2.1 the same twice",
            &[late, late, ("date", "@1000000")],
            100_000,
        ),
        (
            "5.2 unknown ones ignored",
            &[("cache-control", "foo, max-age=60, bar=1"), late],
            60_000,
        ),
        (
            "5.2 inside quotes",
            &[("cache-control", "a=\"max-age=60\", max-age=1")],
            1_000,
        ),
        (
            "1.2.2 infinity",
            &[("cache-control", "max-age=2147483648")],
            MOST_SECONDS * 1000,
        ),
        (
            "1.2.2 beyond",
            &[("cache-control", "s-maxage=99999999999")],
            MOST_SECONDS * 1000,
        ),
        (
            "1.2.2 beyond",
            &[("expires", "@99999999999")],
            MOST_SECONDS * 1000,
        ),
        (
            "9213.2.2 in place of Cache-Control",
            &[
                ("cdn-cache-control", "max-age=9"),
                ("cache-control", "s-maxage=60"),
            ],
            9_000,
        ),
        (
            "9213.2.2 in place of Expires",
            &[("cdn-cache-control", "public"), late],
            0,
        ),
        (
            "9213.2.1 ignored",
            &[
                ("cdn-cache-control", "max-age=9,"),
                ("cache-control", "max-age=60"),
            ],
            60_000,
        ),
        (
            "9213.2.1 ignored",
            &[
                ("cdn-cache-control", "Max-Age=9"),
                late,
                ("date", "@1000000"),
            ],
            100_000,
        ),
        (
            "9213.2.1 s-maxage first",
            &[("cdn-cache-control", "max-age=9, s-maxage=60")],
            60_000,
        ),
    ] {
        // The origin's word counts for any status.
        for status in [200, 302, 404, 503, 599] {
            let expected = Duration::from_millis(expected);
            assert_eq!(of(status, lines).lifetime, expected, "{section}: {lines:?}");
        }
    }
}

#[test]
fn heuristic_lifetimes() {
    let (day, old) = (24 * 3600, ("last-modified", "@900000"));
    let dated = ("date", "@1000000");
    for (section, status, lines, expected) in [
        ("4.2.2", 200, &[old, dated][..], 10_000),
        (
            "4.2.2 a day at most",
            200,
            &[("last-modified", "@1"), dated],
            day,
        ),
        (
            "4.2.2 of the future",
            200,
            &[("last-modified", "@1000001"), dated],
            0,
        ),
        ("4.2.2 no date", 200, &[("last-modified", "x"), dated], 0),
        ("4.2.2 two", 200, &[old, ("last-modified", "@1"), dated], 0),
        ("4.2.2 nothing", 200, &[dated], 0),
        (
            "4.2.2 never against an explicit one",
            200,
            &[old, ("expires", "0")],
            0,
        ),
        (
            "4.2.2 never against an explicit one",
            200,
            &[old, ("cache-control", "max-age=x")],
            0,
        ),
        (
            "4.2.2 never against an explicit one",
            200,
            &[old, ("cache-control", "s-maxage=0")],
            0,
        ),
        (
            "9213.2.2 Expires is for others",
            200,
            &[old, dated, ("cdn-cache-control", "a"), ("expires", "0")],
            10_000,
        ),
        ("4.2.2 not this status", 201, &[old, dated], 0),
        ("4.2.2 not this status", 302, &[old, dated], 0),
        ("4.2.2 not this status", 403, &[old, dated], 0),
        ("4.2.2 not this status", 503, &[old, dated], 0),
        (
            "5.2.2.9 unless public",
            599,
            &[old, dated, ("cache-control", "public")],
            10_000,
        ),
        (
            "5.2.2.9 unless public",
            302,
            &[old, dated, ("cache-control", "Public")],
            10_000,
        ),
        (
            "9213.2.2 to this cache",
            302,
            &[
                old,
                dated,
                ("cdn-cache-control", "a"),
                ("cache-control", "public"),
            ],
            0,
        ),
    ] {
        assert_eq!(
            of(status, lines).lifetime,
            secs(expected),
            "{section}: {status} {lines:?}"
        );
    }
    for status in [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(
            of(status, &[old, dated]).lifetime,
            secs(10_000),
            "9110.15.1: {status}"
        );
    }
}

#[test]
fn what_forbids_and_allows_stale_answers() {
    for (section, value, always_validate, never_stale) in [
        ("", "max-age=60", false, false),
        ("5.2.2.2", "max-age=60, must-revalidate", false, true),
        ("5.2.2.8", "max-age=60, Proxy-Revalidate", false, true),
        ("5.2.2.10", "s-maxage=60", false, true),
        ("5.2.2.10 invalid", "max-age=60, s-maxage", false, true),
        ("5.2.2.4", "no-cache", true, true),
        ("5.2.2.4 fields", "no-cache=\"x-a\"", true, true),
        ("5.2.2.4 odd", "max-age=60; No-Cache", true, true),
        (
            "5.2.2.6",
            "max-age=60, no-transform, immutable",
            false,
            false,
        ),
    ] {
        let value = value.to_owned() + ", stale-while-revalidate=7, stale-if-error=\"8\"";
        let found = of(200, &[("cache-control", &value)]);
        assert_eq!(found.always_validate, always_validate, "{section}: {value}");
        assert_eq!(found.never_stale, never_stale, "{section}: {value}");
        assert_eq!(found.stale_while_revalidate, secs(7), "5861.3: {value}");
        assert_eq!(found.stale_if_error, secs(8), "5861.4: {value}");
    }
    for value in [
        "",
        "stale-if-error",
        "stale-if-error=x",
        "stale-if-error=1, stale-if-error=2",
        "stale-while-revalidate=-1",
    ] {
        let found = of(200, &[("cache-control", value)]);
        assert_eq!(
            found.stale_while_revalidate,
            Duration::ZERO,
            "5861.3: {value}"
        );
        assert_eq!(found.stale_if_error, Duration::ZERO, "5861.4: {value}");
    }
    let cdn = [
        ("cdn-cache-control", "max-age=1, stale-if-error=8"),
        ("cache-control", "no-cache, s-maxage=9"),
    ];
    let found = of(200, &cdn);
    assert!(
        !found.always_validate && !found.never_stale && found.stale_if_error == secs(8),
        "9213.2.2"
    );
    // Under a forced ttl none of it is asked.
    let all = [
        (
            "cache-control",
            "no-cache, s-maxage=9, max-age=5, stale-if-error=8, stale-while-revalidate=7",
        ),
        ("expires", "@2000000"),
    ];
    let forced = Freshness::of(true, StatusCode::OK, &fields(&all), TIMES, &date);
    assert_eq!(
        forced,
        Freshness::of(true, StatusCode::OK, &fields(&[]), TIMES, &date)
    );
    assert!(!forced.always_validate && !forced.never_stale && forced.lifetime.is_zero());
}

/// Fields of any kind, those that matter more often than others.
fn answer() -> impl Strategy<Value = HeaderMap> {
    let names = prop::sample::select(
        &[
            "age",
            "date",
            "expires",
            "last-modified",
            "cache-control",
            "cdn-cache-control",
        ][..],
    );
    let value = prop_oneof![
        "@[0-9]{1,20}",
        "[0-9]{1,20}",
        "(max-age|s-maxage|stale-if-error)=[0-9]{1,20}",
        "[ -~]{0,12}"
    ];
    prop::collection::vec((names, value), 0..6).prop_map(|lines| {
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        fields(&lines)
    })
}

fn moment() -> impl Strategy<Value = Duration> {
    prop_oneof![0..2_000_000u64, any::<u64>()].prop_map(Duration::from_millis)
}

proptest! {
    #[test]
    fn nothing_overflows(
        headers in answer(),
        requested in moment(),
        received in moment(),
        now in moment(),
        status in 200u16..600,
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        let times = Times { requested, received };
        let found = Freshness::of(false, status, &headers, times, &date);
        let ages = [found.initial_age, found.age(now), found.age(Duration::MAX)];
        for time in ages.into_iter().chain([found.lifetime, found.stale_if_error]) {
            prop_assert!(time <= MOST);
        }
        // An answer ages as time goes by, and is never younger than when it came.
        prop_assert!(found.age(now) >= found.initial_age);
        if now >= received {
            prop_assert!(found.age(now + secs(5)) >= found.age(now));
        }
        prop_assert!(!found.always_validate || found.never_stale);
        if !Directives::of(&headers).is_explicit(&headers) {
            prop_assert!(found.lifetime <= MOST_HEURISTIC);
        }
    }

    #[test]
    fn a_stated_age_adds_up(age in 0..1_000_000u64, before in 0..100_000u64, after in 0..1_000_000u64) {
        let times = Times { requested: secs(5_000_000), received: secs(5_000_000) + Duration::from_millis(before) };
        let stored = Freshness::of(false, StatusCode::OK, &fields(&[("age", &age.to_string())]), times, &date);
        let now = times.received + Duration::from_millis(after);
        prop_assert_eq!(stored.age(now), secs(age) + Duration::from_millis(before + after));
    }
}
