//! What a stored answer is good for, with the sections of RFC 9111 and RFC 5861.

use super::super::tests::{fields, forced, respectful, secs};
use super::*;
use Reuse::*;
use proptest::prelude::*;

const RECEIVED: Duration = Duration::from_secs(1_000_000);

/// An answer that was fresh for a minute, and nothing more.
const MINUTE: Freshness = Freshness {
    received: RECEIVED,
    initial_age: Duration::ZERO,
    lifetime: Duration::from_secs(60),
    never_stale: false,
    always_validate: false,
    stale_while_revalidate: Duration::ZERO,
    stale_if_error: Duration::ZERO,
};

/// How an answer of this age serves a request with this `Cache-Control`, where the origin is respected.
fn at(stored: &Freshness, age: f64, wish: &str) -> Reuse {
    let lines = [("cache-control", wish)];
    let lines = if wish.is_empty() { &[][..] } else { &lines };
    let now = stored.received + Duration::from_secs_f64(age);
    reuse(&respectful(&[]), stored, &fields(lines), now)
}

#[test]
fn fresh_answers_are_given_out_and_stale_ones_are_not() {
    for (section, initial_age, age, expected) in [
        ("4.2 new", 0, 0.0, Fresh),
        ("4.2 fresh", 0, 59.999, Fresh),
        ("4.2 as old as its lifetime", 0, 60.0, Validate),
        ("4.2 stale", 0, 1000.0, Validate),
        ("4.2.3 the age it came with counts", 50, 9.999, Fresh),
        ("4.2.3 the age it came with counts", 50, 10.0, Validate),
        ("4.2.3 stale on arrival", 60, 0.0, Validate),
    ] {
        let stored = Freshness {
            initial_age: secs(initial_age),
            ..MINUTE
        };
        assert_eq!(
            at(&stored, age, ""),
            expected,
            "{section}: {initial_age} {age}"
        );
    }
}

#[test]
fn an_answer_from_the_future_is_not_believed() {
    let now = RECEIVED - secs(3600);
    let endless = Freshness {
        lifetime: MOST,
        ..MINUTE
    };
    let forever = CachePolicy {
        lifetime: Lifetime::Ttl(Duration::MAX),
        ..forced(true, &[])
    };
    for (policy, stored) in [
        (respectful(&[]), MINUTE),
        (respectful(&[]), endless),
        (forced(true, &[]), MINUTE),
        (forever, MINUTE),
    ] {
        let found = reuse(&policy, &stored, &fields(&[]), now);
        assert_eq!(found, Validate, "{policy:?} {stored:?}");
        // A clock set back a little is no reason.
        let found = reuse(&policy, &stored, &fields(&[]), RECEIVED - secs(60));
        assert_eq!(found, Fresh, "{policy:?} {stored:?}");
    }
}

#[test]
fn what_a_client_can_ask_for() {
    for (section, age, wish, expected) in [
        ("5.2.1.1", 10.0, "max-age=11", Fresh),
        ("5.2.1.1", 10.0, "max-age=10", Fresh),
        ("5.2.1.1", 10.0, "max-age=9", Validate),
        ("5.2.1.1 a reload", 0.0, "max-age=0", Validate),
        ("5.2.1.1 not a number", 10.0, "max-age=x", Validate),
        (
            "5.2.1.1 no more than the origin allows",
            60.0,
            "max-age=100",
            Validate,
        ),
        ("5.2.1.2 any", 60.0, "max-stale", MaxStale),
        ("5.2.1.2 any", 1e6, "Max-Stale", MaxStale),
        ("5.2.1.2 up to", 65.0, "max-stale=5", MaxStale),
        ("5.2.1.2 up to", 65.1, "max-stale=5", Validate),
        ("5.2.1.2 not a number", 65.0, "max-stale=x", Validate),
        ("5.2.1.2 not a number", 65.0, "max-stale=", Validate),
        (
            "5.2.1.2 two of them",
            65.0,
            "max-stale=9, max-stale",
            Validate,
        ),
        ("5.2.1.2 not needed", 10.0, "max-stale=5", Fresh),
        (
            "5.2.1.1 with max-stale",
            65.0,
            "max-age=100, max-stale=5",
            MaxStale,
        ),
        (
            "5.2.1.1 with max-stale",
            65.0,
            "max-age=64, max-stale=5",
            Validate,
        ),
        ("5.2.1.3", 10.0, "min-fresh=49", Fresh),
        ("5.2.1.3", 10.0, "min-fresh=50", Fresh),
        ("5.2.1.3", 10.0, "min-fresh=51", Validate),
        ("5.2.1.3 too large", 10.0, "min-fresh=99999999999", Validate),
        (
            "5.2.1.3 before max-stale",
            65.0,
            "min-fresh=1, max-stale",
            Validate,
        ),
        ("5.2.1.4", 10.0, "no-cache", Validate),
        (
            "5.2.1.4 before max-stale",
            10.0,
            "max-stale, No-Cache",
            Validate,
        ),
        ("5.2.1.5 is asked elsewhere", 10.0, "no-store", Fresh),
        ("5.2.1.6", 10.0, "no-transform", Fresh),
        ("5.2.1.7", 10.0, "only-if-cached", Fresh),
        (
            "5.2.1.7 consistent with the rest",
            65.0,
            "only-if-cached",
            Validate,
        ),
        (
            "5.2.1.7 consistent with the rest",
            65.0,
            "only-if-cached, max-stale",
            MaxStale,
        ),
        (
            "5.2.3 unknown",
            10.0,
            "foo=\"no-cache\", s-maxage=0, must-revalidate",
            Fresh,
        ),
    ] {
        assert_eq!(at(&MINUTE, age, wish), expected, "{section}: {age} {wish}");
        // Under a forced ttl no client has a say.
        let now = RECEIVED + Duration::from_secs_f64(age);
        let whatever = reuse(
            &forced(true, &[]),
            &MINUTE,
            &fields(&[("cache-control", wish)]),
            now,
        );
        assert_eq!(
            whatever,
            if age < 120.0 { Fresh } else { Validate },
            "{age} {wish}"
        );
    }
    for (section, lines, expected) in [
        ("5.4", &[("pragma", "no-cache")][..], Validate),
        ("5.4", &[("pragma", "x, No-Cache")], Validate),
        (
            "5.4 not with Cache-Control",
            &[("pragma", "no-cache"), ("cache-control", "max-age=99")],
            Fresh,
        ),
        (
            "5.4 not with Cache-Control",
            &[("pragma", "no-cache"), ("cache-control", "")],
            Fresh,
        ),
        ("5.4 nothing else", &[("pragma", "x")], Fresh),
    ] {
        let found = reuse(
            &respectful(&[]),
            &MINUTE,
            &fields(lines),
            RECEIVED + secs(1),
        );
        assert_eq!(found, expected, "{section}: {lines:?}");
    }
}

#[test]
fn what_the_origin_forbids_nobody_allows() {
    let generous = CachePolicy {
        stale_if_error: Some(MOST),
        stale_while_revalidate: Some(MOST),
        ..respectful(&[])
    };
    for (section, never_stale, always_validate, age, expected) in [
        ("4 no-cache", true, true, 0, Validate),
        ("4.2.4 while fresh", true, false, 59, Fresh),
        ("4.2.4 stale", true, false, 60, Validate),
        (
            "4.2.4 not forbidden",
            false,
            false,
            60,
            StaleWhileRevalidate,
        ),
    ] {
        let stored = Freshness {
            never_stale,
            always_validate,
            stale_while_revalidate: MOST,
            stale_if_error: MOST,
            ..MINUTE
        };
        for wish in [
            "max-stale",
            "max-stale=1000",
            "stale-if-error=1000, max-stale",
        ] {
            let request = fields(&[("cache-control", wish)]);
            let now = RECEIVED + secs(age);
            assert_eq!(
                reuse(&generous, &stored, &request, now),
                expected,
                "{section}: {wish}"
            );
            let stands_in = may_stand_in(&generous, &stored, &request, now);
            assert_eq!(stands_in, expected != Validate, "{section}: {wish}");
        }
    }
}

#[test]
fn stale_while_it_is_refreshed() {
    let origin = |window| Freshness {
        stale_while_revalidate: secs(window),
        ..MINUTE
    };
    for (section, route, stored, age, wish, expected) in [
        ("5861.3", None, origin(30), 59.9, "", Fresh),
        ("5861.3", None, origin(30), 60.0, "", StaleWhileRevalidate),
        ("5861.3", None, origin(30), 89.9, "", StaleWhileRevalidate),
        ("5861.3 over", None, origin(30), 90.0, "", Validate),
        (
            "the route adds",
            Some(40),
            origin(30),
            99.9,
            "",
            StaleWhileRevalidate,
        ),
        ("the route adds", Some(40), origin(30), 100.0, "", Validate),
        (
            "the route takes nothing away",
            Some(0),
            origin(30),
            89.9,
            "",
            StaleWhileRevalidate,
        ),
        (
            "the route alone",
            Some(40),
            origin(0),
            99.9,
            "",
            StaleWhileRevalidate,
        ),
        ("none", None, origin(0), 60.0, "", Validate),
        (
            "5.2.1.1 not if the client refuses",
            None,
            origin(30),
            70.0,
            "max-age=100",
            Validate,
        ),
        (
            "5.2.1.2 unless it does not",
            None,
            origin(30),
            70.0,
            "max-age=100, max-stale",
            StaleWhileRevalidate,
        ),
        (
            "5.2.1.2 no more than it takes",
            None,
            origin(30),
            70.0,
            "max-stale=9",
            Validate,
        ),
        (
            "5.2.1.2 no more than it takes",
            None,
            origin(30),
            70.0,
            "max-stale=10",
            StaleWhileRevalidate,
        ),
        (
            "5.2.1.2 more than the origin grants",
            None,
            origin(30),
            95.0,
            "max-stale=50",
            MaxStale,
        ),
        ("5.2.1.3", None, origin(30), 70.0, "min-fresh=0", Validate),
        ("5.2.1.4", None, origin(30), 70.0, "no-cache", Validate),
    ] {
        let policy = CachePolicy {
            stale_while_revalidate: route.map(secs),
            ..respectful(&[])
        };
        let now = RECEIVED + Duration::from_secs_f64(age);
        let found = reuse(&policy, &stored, &fields(&[("cache-control", wish)]), now);
        assert_eq!(found, expected, "{section}: {route:?} {age} {wish}");
    }
}

#[test]
fn who_stands_in_for_a_failed_origin() {
    let origin = |window| Freshness {
        stale_if_error: secs(window),
        ..MINUTE
    };
    for (section, route, stored, age, wish, expected) in [
        ("fresh", None, origin(0), 59.9, "", true),
        (
            "fresh, the client wanted another",
            None,
            origin(0),
            30.0,
            "no-cache",
            true,
        ),
        ("no window", None, origin(0), 60.0, "", false),
        ("5861.4", None, origin(30), 89.9, "", true),
        ("5861.4 over", None, origin(30), 90.0, "", false),
        ("the route: at least", Some(40), origin(30), 99.9, "", true),
        (
            "the route: at least",
            Some(40),
            origin(30),
            100.0,
            "",
            false,
        ),
        ("the route: at least", Some(0), origin(30), 89.9, "", true),
        (
            "5861.4 the client",
            None,
            origin(0),
            89.9,
            "stale-if-error=30",
            true,
        ),
        (
            "5861.4 the client",
            None,
            origin(0),
            90.0,
            "stale-if-error=30",
            false,
        ),
        (
            "5861.4 the client takes nothing away",
            None,
            origin(30),
            89.9,
            "stale-if-error=0",
            true,
        ),
        (
            "5861.4 the client, unclear",
            None,
            origin(0),
            60.0,
            "stale-if-error",
            false,
        ),
        (
            "5861.4 whatever else of freshness",
            None,
            origin(30),
            89.9,
            "max-age=1, min-fresh=5, no-cache",
            true,
        ),
    ] {
        let policy = CachePolicy {
            stale_if_error: route.map(secs),
            ..respectful(&[])
        };
        let now = RECEIVED + Duration::from_secs_f64(age);
        let found = may_stand_in(&policy, &stored, &fields(&[("cache-control", wish)]), now);
        assert_eq!(found, expected, "{section}: {route:?} {age} {wish}");
    }
}

#[test]
fn a_forced_ttl_overrules_everything() {
    let policy = CachePolicy {
        lifetime: Lifetime::Ttl(Duration::from_millis(1500)),
        stale_if_error: Some(secs(20)),
        stale_while_revalidate: Some(secs(10)),
        ..forced(true, &[])
    };
    // Whatever the answer says of itself, and however old it was when it came.
    let stored = Freshness {
        initial_age: secs(1000),
        lifetime: secs(5),
        never_stale: true,
        always_validate: true,
        stale_if_error: secs(1000),
        stale_while_revalidate: secs(1000),
        ..MINUTE
    };
    let request = fields(&[
        (
            "cache-control",
            "no-cache, max-age=0, stale-if-error=1000, only-if-cached",
        ),
        ("pragma", "no-cache"),
    ]);
    for (millis, expected, stands_in, left) in [
        (0, Fresh, true, 1),
        (400, Fresh, true, 1),
        (600, Fresh, true, 0),
        (1499, Fresh, true, 0),
        (1500, StaleWhileRevalidate, true, 0),
        (1501, StaleWhileRevalidate, true, -1),
        (11_499, StaleWhileRevalidate, true, -10),
        (11_500, Validate, true, -10),
        (21_499, Validate, true, -20),
        (21_500, Validate, false, -20),
        (21_501, Validate, false, -21),
    ] {
        let now = RECEIVED + Duration::from_millis(millis);
        assert_eq!(reuse(&policy, &stored, &request, now), expected, "{millis}");
        assert_eq!(
            may_stand_in(&policy, &stored, &request, now),
            stands_in,
            "{millis}"
        );
        assert_eq!(fresh_for(&policy, &stored, now), left, "{millis}");
    }
    // Windows that the route does not name are none.
    let strict = CachePolicy {
        stale_if_error: None,
        stale_while_revalidate: None,
        ..policy
    };
    let now = RECEIVED + secs(2);
    assert_eq!(reuse(&strict, &stored, &request, now), Validate);
    assert!(!may_stand_in(&strict, &stored, &request, now));
}

#[test]
fn seconds_left() {
    let policy = respectful(&[]);
    for (millis, expected) in [
        (0, 60),
        (1, 59),
        (59_000, 1),
        (59_999, 0),
        (60_000, 0),
        (60_001, -1),
        (90_000, -30),
    ] {
        let found = fresh_for(&policy, &MINUTE, RECEIVED + Duration::from_millis(millis));
        assert_eq!(found, expected, "9211.2.4: {millis}");
    }
    assert_eq!(
        fresh_for(&policy, &MINUTE, Duration::MAX),
        60 - i64::from(1u32 << 31)
    );
}

#[test]
fn who_wants_no_other_answer() {
    for (value, expected) in [
        ("only-if-cached", true),
        ("max-age=5, Only-If-Cached", true),
        ("a=\"only-if-cached\"", false),
        ("", false),
    ] {
        let request = fields(&[("cache-control", value)]);
        assert_eq!(
            only_if_cached(&respectful(&[]), &request),
            expected,
            "5.2.1.7: {value}"
        );
        assert!(!only_if_cached(&forced(true, &[]), &request), "{value}");
    }
}

fn stored() -> impl Strategy<Value = Freshness> {
    let small = || (0..200u64).prop_map(secs);
    (
        small(),
        small(),
        any::<bool>(),
        any::<bool>(),
        small(),
        small(),
    )
        .prop_map(
            |(
                initial_age,
                lifetime,
                never_stale,
                always_validate,
                stale_while_revalidate,
                stale_if_error,
            )| Freshness {
                received: RECEIVED,
                initial_age,
                lifetime,
                never_stale: never_stale || always_validate,
                always_validate,
                stale_while_revalidate,
                stale_if_error,
            },
        )
}

fn policy() -> impl Strategy<Value = CachePolicy> {
    let window = || prop::option::of((0..200u64).prop_map(secs));
    (window(), window(), any::<bool>()).prop_map(
        |(stale_if_error, stale_while_revalidate, origin)| CachePolicy {
            stale_if_error,
            stale_while_revalidate,
            ..if origin {
                respectful(&[])
            } else {
                forced(false, &[])
            }
        },
    )
}

fn wishes() -> impl Strategy<Value = String> {
    let wish = prop_oneof![
        "(max-age|min-fresh|max-stale|stale-if-error)=[0-9]{1,3}",
        prop::sample::select(&["max-stale", "no-cache", "max-age=x", "no-transform"][..])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(wish, 0..3).prop_map(|wishes| wishes.join(", "))
}

proptest! {
    #[test]
    fn what_is_given_out_is_allowed(policy in policy(), stored in stored(), wish in wishes(), after in 0..400_000u64) {
        let request = fields(&[("cache-control", &wish)]);
        let now = RECEIVED + Duration::from_millis(after);
        let found = reuse(&policy, &stored, &request, now);
        let origin = policy.respects_origin();
        let is_fresh = if origin { stored.age(now) < stored.lifetime } else { after < 120_000 };
        match found {
            Fresh => prop_assert!(is_fresh && !(origin && stored.always_validate)),
            StaleWhileRevalidate | MaxStale => prop_assert!(!(is_fresh || origin && stored.never_stale)),
            Validate => {}
        }
        prop_assert!(found != MaxStale || (origin && wish.contains("max-stale")));
        // Without wishes, a fresh answer that needs no asking is given out.
        let plain = reuse(&policy, &stored, &fields(&[]), now);
        prop_assert!(plain == Fresh || !is_fresh || (origin && stored.always_validate));
        // A client can only get less, but for what it says of stale answers.
        if !wish.contains("max-stale") && plain == Validate {
            prop_assert_eq!(found, Validate);
        }
        // What may be given out may stand in, if the windows are the same.
        let twin = Freshness { stale_if_error: stored.stale_while_revalidate, ..stored };
        let twin_policy = CachePolicy { stale_if_error: policy.stale_while_revalidate, ..policy.clone() };
        if matches!(found, Fresh | StaleWhileRevalidate) {
            prop_assert!(may_stand_in(&twin_policy, &twin, &request, now));
        }
        // `ttl` tells the same.
        let left = fresh_for(&policy, &stored, now);
        prop_assert!((is_fresh && left >= 0) || (!is_fresh && left <= 0));
    }

    #[test]
    fn who_could_not_stand_in_cannot_later(
        policy in policy(),
        stored in stored(),
        after in 0..300u64,
        more in 0..300u64,
    ) {
        let request = fields(&[]);
        let now = RECEIVED + secs(after);
        if !may_stand_in(&policy, &stored, &request, now) {
            prop_assert!(!may_stand_in(&policy, &stored, &request, now + secs(more)));
        }
        // The route's window at least, where the origin does not forbid it.
        let longest = CachePolicy { stale_if_error: Some(MOST), ..policy.clone() };
        let forbidden = policy.respects_origin() && stored.never_stale;
        prop_assert!(forbidden || may_stand_in(&longest, &stored, &request, now));
    }
}
