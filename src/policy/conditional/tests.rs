//! Each precondition and each pair of them as a row of a table.

use super::*;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

const MATCH: HeaderName = header::IF_MATCH;
const NONE_MATCH: HeaderName = header::IF_NONE_MATCH;
const UNMODIFIED: HeaderName = header::IF_UNMODIFIED_SINCE;
const MODIFIED: HeaderName = header::IF_MODIFIED_SINCE;
const TAG: HeaderName = header::ETAG;
const CHANGED: HeaderName = header::LAST_MODIFIED;
const SENT: HeaderName = header::DATE;

fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn date(text: &str) -> Option<Duration> {
    let seconds = text.strip_prefix('@')?;
    seconds.parse().ok().map(Duration::from_secs)
}

fn asked(
    method: &Method,
    request: &[(HeaderName, &str)],
    stored: &[(HeaderName, &str)],
) -> Condition {
    evaluate(
        method,
        &fields(request),
        StatusCode::OK,
        &fields(stored),
        &date,
    )
}

/// What a row expects of GET; `Failed` of 412.
use Condition::{NotModified, PreconditionFailed as Failed, Serve};

#[test]
fn one_precondition() {
    let full = &[(TAG, "\"a\""), (CHANGED, "@50"), (SENT, "@60")][..];
    let weak = &[(TAG, "W/\"a\"")][..];
    for (request, stored, expected) in [
        (&[][..], full, Serve),
        // §13.1.1: strongly.
        (&[(MATCH, "\"a\"")], full, Serve),
        (&[(MATCH, "\"b\"")], full, Failed),
        (&[(MATCH, "\"b\", \"a\"")], full, Serve),
        (&[(MATCH, "\"b\""), (MATCH, "\"a\"")], full, Serve),
        (&[(MATCH, "W/\"a\"")], full, Failed),
        (&[(MATCH, "\"a\"")], weak, Failed),
        (&[(MATCH, "W/\"a\"")], weak, Failed),
        (&[(MATCH, "*")], full, Serve),
        (&[(MATCH, "*")], &[], Serve),
        (&[(MATCH, "\"a\"")], &[], Failed),
        (&[(MATCH, "a")], full, Failed),
        (&[(MATCH, "")], full, Failed),
        // §13.1.2: weakly.
        (&[(NONE_MATCH, "\"a\"")], full, NotModified),
        (&[(NONE_MATCH, "\"b\"")], full, Serve),
        (&[(NONE_MATCH, "\"b\", \"a\"")], full, NotModified),
        (
            &[(NONE_MATCH, "\"b\""), (NONE_MATCH, "\"a\"")],
            full,
            NotModified,
        ),
        (&[(NONE_MATCH, "W/\"a\"")], full, NotModified),
        (&[(NONE_MATCH, "\"a\"")], weak, NotModified),
        (&[(NONE_MATCH, "W/\"a\"")], weak, NotModified),
        (&[(NONE_MATCH, "*")], full, NotModified),
        (&[(NONE_MATCH, "*")], &[], NotModified),
        (&[(NONE_MATCH, "\"a\"")], &[], Serve),
        (&[(NONE_MATCH, "a")], full, Serve),
        (&[(NONE_MATCH, "\"A\"")], full, Serve),
        (&[(NONE_MATCH, "")], full, Serve),
        (
            &[(NONE_MATCH, "\"a\"")],
            &[(TAG, "\"a\""), (TAG, "\"b\"")],
            Serve,
        ),
        // §13.1.3.
        (&[(MODIFIED, "@50")], full, NotModified),
        (&[(MODIFIED, "@51")], full, NotModified),
        (&[(MODIFIED, "@49")], full, Serve),
        (&[(MODIFIED, "now")], full, Serve),
        (&[(MODIFIED, "@50"), (MODIFIED, "@50")], full, Serve),
        // RFC 9111 §4.3.2: without a date of change, that of the answer.
        (&[(MODIFIED, "@60")], &[(SENT, "@60")], NotModified),
        (&[(MODIFIED, "@59")], &[(SENT, "@60")], Serve),
        (
            &[(MODIFIED, "@60")],
            &[(CHANGED, "now"), (SENT, "@50")],
            Serve,
        ),
        (&[(MODIFIED, "@60")], &[], Serve),
        // §13.1.4.
        (&[(UNMODIFIED, "@50")], full, Serve),
        (&[(UNMODIFIED, "@51")], full, Serve),
        (&[(UNMODIFIED, "@49")], full, Failed),
        (&[(UNMODIFIED, "now")], full, Serve),
        (&[(UNMODIFIED, "@1"), (UNMODIFIED, "@1")], full, Serve),
        (&[(UNMODIFIED, "@1")], &[(SENT, "@60")], Serve),
    ] {
        let got = asked(&Method::GET, request, stored);
        assert_eq!(got, expected, "{request:?} {stored:?}");
        assert_eq!(
            asked(&Method::HEAD, request, stored),
            got,
            "HEAD {request:?}"
        );
    }
}

/// §13.2.2.
#[test]
fn which_comes_first() {
    let full = &[(TAG, "\"a\""), (CHANGED, "@50"), (SENT, "@60")];
    for (request, expected) in [
        (&[(MATCH, "\"a\""), (UNMODIFIED, "@1")][..], Serve),
        (&[(MATCH, "\"b\""), (UNMODIFIED, "@99")], Failed),
        (&[(MATCH, "\"a\""), (NONE_MATCH, "\"a\"")], NotModified),
        (&[(MATCH, "\"b\""), (NONE_MATCH, "\"a\"")], Failed),
        (&[(MATCH, "\"a\""), (MODIFIED, "@50")], NotModified),
        (&[(UNMODIFIED, "@50"), (NONE_MATCH, "\"a\"")], NotModified),
        (&[(UNMODIFIED, "@1"), (NONE_MATCH, "\"a\"")], Failed),
        (&[(UNMODIFIED, "@50"), (MODIFIED, "@50")], NotModified),
        (&[(UNMODIFIED, "@1"), (MODIFIED, "@50")], Failed),
        (&[(NONE_MATCH, "\"b\""), (MODIFIED, "@99")], Serve),
        (&[(NONE_MATCH, "junk"), (MODIFIED, "@99")], Serve),
        (&[(NONE_MATCH, "\"a\""), (MODIFIED, "@1")], NotModified),
    ] {
        assert_eq!(asked(&Method::GET, request, full), expected, "{request:?}");
    }
}

#[test]
fn methods_and_statuses() {
    let full = &[(TAG, "\"a\""), (CHANGED, "@50")];
    let none_match = &[(NONE_MATCH, "\"a\"")][..];
    let modified = &[(MODIFIED, "@50")][..];
    let fails = &[(MATCH, "\"b\"")][..];
    for (method, request, expected) in [
        (Method::PUT, none_match, Failed),
        (Method::POST, none_match, Failed),
        (Method::DELETE, &[(NONE_MATCH, "*")], Failed),
        (Method::PUT, &[(NONE_MATCH, "\"b\"")], Serve),
        (Method::PUT, modified, Serve),
        (Method::PUT, fails, Failed),
        (Method::PUT, &[(UNMODIFIED, "@1")], Failed),
        (Method::OPTIONS, fails, Serve),
        (Method::TRACE, none_match, Serve),
        (Method::CONNECT, &[(UNMODIFIED, "@1")], Serve),
    ] {
        assert_eq!(
            asked(&method, request, full),
            expected,
            "{method} {request:?}"
        );
    }
    for status in [203, 204, 301, 304, 404, 410, 412, 500, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        for request in [none_match, modified, fails] {
            let got = evaluate(&Method::GET, &fields(request), status, &fields(full), &date);
            assert_eq!(got, Serve, "{status} {request:?}");
        }
    }
    let partial = StatusCode::PARTIAL_CONTENT;
    let got = evaluate(
        &Method::GET,
        &fields(none_match),
        partial,
        &fields(full),
        &date,
    );
    assert_eq!(got, NotModified);
}

#[test]
fn what_only_the_origin_may_judge() {
    for (request, expected) in [
        (&[][..], false),
        (&[(MATCH, "")], true),
        (&[(UNMODIFIED, "now")], true),
        (&[(NONE_MATCH, "*"), (MODIFIED, "@1")], false),
        (&[(header::IF_RANGE, "\"a\"")], false),
    ] {
        assert_eq!(only_for_origin(&fields(request)), expected, "{request:?}");
    }
}

proptest! {
    #[test]
    fn a_304_is_only_for_who_named_the_state(
        tag in "(W/)?\"[ab]\"",
        named in "[Wab/\", ]{0,12}",
        since in 0u64..4,
        changed in 0u64..4,
    ) {
        let (since, changed_text) = (format!("@{since}"), format!("@{changed}"));
        let stored = [(TAG, &*tag), (CHANGED, &*changed_text)];
        let got = asked(&Method::GET, &[(NONE_MATCH, &named), (MODIFIED, &since)], &stored);
        let quoted = &tag[tag.len() - 3..];
        prop_assert!(got != Failed);
        prop_assert!(got == Serve || named.contains(quoted));
        let got = asked(&Method::GET, &[(MODIFIED, &since)], &stored);
        prop_assert_eq!(got == NotModified, since >= changed_text);
    }
}
