//! Every rule of `decide` as a row of a table.

use super::*;

fn attempt(failure: Failure, method: &Method) -> Attempt<'_> {
    Attempt {
        number: 1,
        failure,
        method,
        idempotency_key: false,
        body: Body::Replayable,
        response_started: false,
        client_left: false,
        retry_after: None,
        time_left: Duration::from_secs(60),
        chance: 0.0,
    }
}

fn status(code: u16) -> Failure {
    Failure::Status(StatusCode::from_u16(code).unwrap())
}

const S3: Duration = Duration::from_secs(3);

fn story_s1() -> RetryPolicy {
    RetryPolicy {
        tries: 5,
        wait: Wait::Fixed(S3),
        on: Conditions {
            statuses: vec![500, 502],
            connect_failure: false,
            reset: false,
            timeout: false,
        },
        ..RetryPolicy::default()
    }
}

#[test]
fn what_is_retried_and_why_not() {
    use Failure::*;
    use Reason::*;
    use Verdict::{GiveUp, Retry};
    let policy = story_s1();
    let (get, post) = (Method::GET, Method::POST);
    let cases: Vec<(&str, Attempt, Verdict)> = vec![
        ("listed status", attempt(status(500), &get), Retry(S3)),
        (
            "unlisted status",
            attempt(status(503), &get),
            GiveUp(NotListed),
        ),
        (
            "502 covers failed connects",
            attempt(ConnectFailure, &get),
            Retry(S3),
        ),
        ("502 covers resets", attempt(Reset, &get), Retry(S3)),
        (
            "504 is not listed, so timeouts are not",
            attempt(Timeout, &get),
            GiveUp(NotListed),
        ),
        (
            "a POST a backend may have seen",
            attempt(status(500), &post),
            GiveUp(MethodNotIdempotent),
        ),
        (
            "a POST that was reset",
            attempt(Reset, &post),
            GiveUp(MethodNotIdempotent),
        ),
        (
            "a POST that was never sent",
            attempt(ConnectFailure, &post),
            Retry(S3),
        ),
        (
            "a POST that the backend did not look at",
            attempt(Failure::Refused, &post),
            Retry(S3),
        ),
        (
            "a POST with Idempotency-Key",
            Attempt {
                idempotency_key: true,
                ..attempt(status(500), &post)
            },
            Retry(S3),
        ),
        (
            "the last try",
            Attempt {
                number: 5,
                ..attempt(status(500), &get)
            },
            GiveUp(TriesUsedUp),
        ),
        (
            "the one before it",
            Attempt {
                number: 4,
                ..attempt(status(500), &get)
            },
            Retry(S3),
        ),
        (
            "large body",
            Attempt {
                body: Body::TooLarge,
                ..attempt(status(500), &get)
            },
            GiveUp(BodyTooLarge),
        ),
        (
            "body still arriving",
            Attempt {
                body: Body::Unfinished,
                ..attempt(status(500), &get)
            },
            GiveUp(BodyUnfinished),
        ),
        (
            "response under way",
            Attempt {
                response_started: true,
                ..attempt(Reset, &get)
            },
            GiveUp(ResponseStarted),
        ),
        (
            "client gone",
            Attempt {
                client_left: true,
                ..attempt(Reset, &get)
            },
            GiveUp(ClientLeft),
        ),
        (
            "no time for the wait",
            Attempt {
                time_left: S3,
                ..attempt(status(500), &get)
            },
            GiveUp(TotalTimeout),
        ),
        (
            "Retry-After longer than the wait",
            Attempt {
                retry_after: Some(Duration::from_secs(7)),
                ..attempt(status(500), &get)
            },
            Retry(Duration::from_secs(7)),
        ),
        (
            "Retry-After shorter than the wait",
            Attempt {
                retry_after: Some(Duration::from_secs(1)),
                ..attempt(status(500), &get)
            },
            Retry(S3),
        ),
        (
            "Retry-After beyond max_wait",
            Attempt {
                retry_after: Some(Duration::from_secs(600)),
                ..attempt(status(500), &get)
            },
            Retry(Duration::from_secs(10)),
        ),
    ];
    for (what, attempt, expected) in cases {
        assert_eq!(decide(&policy, &attempt), expected, "{what}");
    }
}

#[test]
fn methods_any_repeats_a_post() {
    let policy = RetryPolicy {
        methods: Methods::Any,
        ..story_s1()
    };
    assert_eq!(
        decide(&policy, &attempt(status(500), &Method::POST)),
        Verdict::Retry(S3)
    );
    let only = RetryPolicy {
        methods: Methods::Only(vec![Method::POST]),
        ..story_s1()
    };
    assert_eq!(
        decide(&only, &attempt(status(500), &Method::POST)),
        Verdict::Retry(S3)
    );
    assert_eq!(
        decide(&only, &attempt(status(500), &Method::GET)),
        Verdict::GiveUp(Reason::MethodNotListed)
    );
}

#[test]
fn growing_waits_double_to_their_maximum() {
    let wait = Wait::Growing {
        initial: Duration::from_millis(100),
        max: Duration::from_millis(500),
        jitter: 0.5,
    };
    let ms = |n, chance| wait.after(n, chance).as_millis();
    assert_eq!(
        [ms(1, 0.0), ms(2, 0.0), ms(3, 0.0), ms(4, 0.0), ms(100, 0.0)],
        [100, 200, 400, 500, 500]
    );
    assert_eq!([ms(1, 1.0), ms(4, 1.0)], [50, 250]);
}

#[test]
fn retry_after_in_seconds_and_as_a_date() {
    let at = |text, then| retry_after(text, 1_000, |_| then).map(|d| d.as_secs());
    assert_eq!(at("3", None), Some(3));
    assert_eq!(at(" 120 ", None), Some(120));
    assert_eq!(at("99999999999999999999999", None), Some(u64::MAX));
    assert_eq!(at("Wed, 21 Oct 2026 07:28:00 GMT", Some(1_060)), Some(60));
    assert_eq!(at("Wed, 21 Oct 2015 07:28:00 GMT", Some(10)), Some(0));
    assert_eq!(at("soon", None), None);
    assert_eq!(at("", None), None);
    assert_eq!(at("-1", None), None);
}
