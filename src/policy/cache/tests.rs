//! Which requests the cache may answer, as a table; and what the tests of the modules below share.

use super::*;
use http::HeaderValue;

pub(super) fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// The only dates of these tests: `@` and seconds since the epoch.
pub(super) fn date(text: &str) -> Option<Duration> {
    text.strip_prefix('@')?.parse().ok().map(secs)
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A route that forces a `ttl` of two minutes.
pub(super) fn forced(shared: bool, per: &[Per]) -> CachePolicy {
    CachePolicy {
        lifetime: Lifetime::Ttl(secs(120)),
        shared,
        per: per.to_vec(),
        stale_if_error: None,
        stale_while_revalidate: None,
        stale_first: false,
        max_object: 1024 * 1024,
    }
}

/// A route that respects the origin.
pub(super) fn respectful(per: &[Per]) -> CachePolicy {
    CachePolicy {
        lifetime: Lifetime::Origin,
        ..forced(false, per)
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
        ("GET", &[("connection", "Keep-Alive, close")], None),
        (
            "GET",
            &[("connection", "close, X-Tenant")],
            Some(Connection),
        ),
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
            &[("range", "bytes=0-1"), ("if-none-match", "\"a\"")],
            None,
        ),
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
        for policy in [forced(false, &[]), forced(true, &[]), respectful(&[])] {
            let found = lookup(&policy, &method, &fields(lines));
            assert_eq!(found.err(), expected, "{method} {lines:?} {policy:?}");
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
        [
            Status,
            NoStore,
            Private,
            SetCookie,
            VaryStar,
            Partial,
            Authorization,
            Stale
        ]
        .map(NotStored::word),
        [
            "status",
            "no-store",
            "private",
            "set-cookie",
            "vary-star",
            "partial",
            "authorization",
            "stale"
        ]
    );
}
