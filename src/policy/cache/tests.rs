//! Each rule on requests and answers as a row of a table; what keys promise is below this module.

use super::*;

mod keys;
mod variants;

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn policy(shared: bool, per: &[Per]) -> CachePolicy {
    CachePolicy {
        ttl: Duration::from_secs(120),
        shared,
        per: per.to_vec(),
        stale_if_error: Duration::ZERO,
        max_object: 1024 * 1024,
    }
}

#[test]
fn which_requests_may_be_answered() {
    use Bypass::*;
    for (method, lines, expected) in [
        ("GET", &[][..], None),
        ("HEAD", &[], None),
        ("POST", &[], Some(Method)),
        ("OPTIONS", &[], Some(Method)),
        ("QUERY", &[], Some(Method)),
        ("CONNECT", &[], Some(Method)),
        ("GET", &[("content-length", "0")], None),
        ("GET", &[("content-length", "5")], Some(Method)),
        ("HEAD", &[("content-length", "10")], Some(Method)),
        ("GET", &[("transfer-encoding", "chunked")], Some(Method)),
        ("GET", &[("upgrade", "websocket")], Some(Upgrade)),
        ("GET", &[("cache-control", "No-Store")], Some(NoStore)),
        (
            "GET",
            &[
                ("cache-control", "max-age=0"),
                ("cache-control", "no-store"),
            ],
            Some(NoStore),
        ),
        (
            "GET",
            &[("cache-control", "no-cache, max-age=0, only-if-cached")],
            None,
        ),
        ("GET", &[("pragma", "no-cache")], None),
        (
            "GET",
            &[("authorization", "Bearer t"), ("cookie", "a=b")],
            None,
        ),
        (
            "PUT",
            &[("upgrade", "h2c"), ("cache-control", "no-store")],
            Some(Method),
        ),
        (
            "GET",
            &[("upgrade", "h2c"), ("cache-control", "no-store")],
            Some(Upgrade),
        ),
    ] {
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        let found = lookup(&method, &fields(lines));
        assert_eq!(found.err(), expected, "{method} {lines:?}");
    }
}

#[test]
fn which_answers_are_kept() {
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
            (
                200,
                &[("vary", "*"), ("set-cookie", "a=b")],
                Some(SetCookie),
            ),
        ] {
            let code = StatusCode::from_u16(status).unwrap();
            let found = storable(!shared, code, &fields(lines));
            assert_eq!(found.err(), expected, "{status} {lines:?} shared={shared}");
        }
    }
}

#[test]
fn words() {
    use NotStored::*;
    let bypass = [Bypass::Method, Bypass::Upgrade, Bypass::NoStore];
    assert_eq!(
        bypass.map(Bypass::word),
        ["method", "upgrade", "request-no-store"]
    );
    assert_eq!(
        [Status, NoStore, Private, SetCookie, VaryStar, Partial].map(NotStored::word),
        [
            "status",
            "no-store",
            "private",
            "set-cookie",
            "vary-star",
            "partial"
        ]
    );
}
