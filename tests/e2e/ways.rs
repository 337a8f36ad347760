//! The two ways to a backend, beside Pingora's phases and through them: which requests go which, and that no backend can tell.

use crate::client::{Client, get, request};
use crate::client2::Client2;
use crate::harness::{PHASES, Proxy, never_ejecting, one_route};
use crate::origin::Origin;
use crate::reply::{Reply, Request};

/// A request's line and fields, however they are ordered.
fn lines(request: &Request) -> Vec<String> {
    let line = |(name, value): &(String, String)| format!("{name}: {value}");
    let mut lines: Vec<_> = request.headers.iter().map(line).collect();
    lines.sort_unstable();
    lines.insert(0, format!("{} {}", request.method, request.target));
    lines
}

/// The first try is made beside Pingora, the second by it: no backend can tell one from the other.
#[test]
fn both_ways_send_the_same_request() {
    let origin = Origin::new(|r| Reply::status([503, 200][r.number % 2]));
    let edits = "headers:\n  request:\n    set: { X-Edge: \"{client_ip} {path} {query}\", Via: us, X-Forwarded-Host: '{http_host}' }\n    add: { X-Tag: b }\n    remove: [X-Gone, Forwarded, X-Real-IP]\nstrip_prefix: /app\nretry: { tries: 2, wait: 1ms }";
    for rules in ["retry: { tries: 2, wait: 1ms }", edits] {
        let upstreams = never_ejecting(&one_route(&[origin.port], rules));
        let upstreams = upstreams.replace("{ path: / }", "{ path: /app }");
        let proxy = Proxy::with().http2().start(&upstreams);
        let odd: &[&[(&str, &str)]] = &[
            &[],
            &[
                ("connection", "keep-alive"),
                ("Accept", "*/*"),
                ("accept", "text/html"),
            ],
            &[
                ("Via", "1.0 a, 1.1 b"),
                ("X-Forwarded-For", "10.0.0.9"),
                ("x-forwarded-proto", "https"),
            ],
            &[
                ("X-REAL-ip", "10.0.0.9"),
                ("Forwarded", "for=10.0.0.9"),
                ("X_Forwarded_For", "1.2.3.4"),
            ],
            &[
                ("X-Tag", "a"),
                ("x-gone", "1"),
                ("X-Gone", "2"),
                ("X-Edge", "mine"),
                ("x_edge", "mine"),
            ],
            &[
                ("X-Request-ID", "r-1"),
                ("traceparent", "00-1-2-03"),
                ("Cookie", "a=1"),
                ("Cookie", "b=2"),
            ],
            &[
                ("X-Empty", ""),
                ("X-High", "caf\u{e9}"),
                ("Referer", "/a b"),
                ("If-None-Match", "\"x\""),
            ],
            &[("Host", "Other.Example:8080")],
            &[("Host", "a"), ("Content-Length", "0")],
        ];
        for (method, content) in [
            ("GET", ""),
            ("HEAD", ""),
            ("PUT", "x=y&z"),
            ("DELETE", "all"),
            ("PUT", ""),
            ("DELETE", ""),
            ("OPTIONS", ""),
        ] {
            let is_told = |field: &(&str, &str)| field.0 == "Content-Length";
            // Content says itself how long it is.
            let fit = |fields: &&&[_]| content.is_empty() || !fields.iter().any(is_told);
            for fields in odd.iter().filter(fit) {
                let before = origin.count();
                let target = "/app/%7e/x;y=1?q=%20&r";
                let answer = request(proxy.port, method, target, fields, content.as_bytes());
                assert_eq!(answer.status, 200);
                let (first, second) = (origin.request(before), origin.request(before + 1));
                assert_ne!(first.connection, second.connection);
                let ids = |r: &Request| r.header("x-request-id").map(str::to_owned);
                assert_eq!(ids(&first), ids(&second));
                assert_eq!(lines(&first), lines(&second), "{method} {fields:?}");
                assert_eq!(first.body, content.as_bytes());
                assert_eq!(second.body, content.as_bytes());
            }
        }
        let mut client = Client2::to(proxy.port);
        for fields in [
            &[][..],
            &[("cookie", "a=1"), ("cookie", "b=2")],
            &[("x-tag", "a")],
        ] {
            for method in ["GET", "DELETE"] {
                let before = origin.count();
                assert_eq!(client.request(method, "/app/2", fields, b"").status, 200);
                let (first, second) = (origin.request(before), origin.request(before + 1));
                // There every name is small; that of ours is as people write it.
                let small = |r: &Request| {
                    let mut lines: Vec<_> = lines(r).iter().map(|l| l.to_lowercase()).collect();
                    lines.sort_unstable();
                    lines
                };
                assert_eq!(small(&first), small(&second), "{method} {fields:?}");
            }
        }
    }
}

/// The ways have connections of their own: one that goes the straight way is sent on that which the one before left.
#[test]
fn what_goes_the_straight_way() {
    let origin = Origin::always(Reply::answer(
        200,
        &[("Content-Type", "text/css")],
        &[b'a'; 5000],
    ));
    for route in ["", "compress: true", PHASES] {
        let proxy = Proxy::with().key("workers", "1").http2().start(&format!(
            "{}  - {{ name: before, match: {{ path: /before }}, upstream: pool }}\n",
            one_route(&[origin.port], route)
        ));
        let is_straight = |ask: &dyn Fn()| {
            assert_eq!(get(proxy.port, "/before").status, 200);
            let before = origin.request(origin.count() - 1).connection;
            ask();
            let is_straight = before == origin.request(origin.count() - 1).connection;
            if is_straight {
                // And it leaves the connection to the next one.
                assert_eq!(get(proxy.port, "/before").status, 200);
                assert_eq!(before, origin.request(origin.count() - 1).connection);
            }
            is_straight
        };
        for (method, fields, body, straight) in [
            ("GET", "", "", true),
            ("GET", "Accept-Encoding: br", "", true),
            ("HEAD", "Accept-Encoding: br", "", true),
            ("OPTIONS", "", "", true),
            ("DELETE", "", "", false),
            ("POST", "Content-Length: 0", "", false),
            ("PUT", "Content-Length: 2", "{}", true),
            ("GET", "TE: trailers", "", false),
            ("POST", "Transfer-Encoding: chunked", "0\r\n\r\n", false),
        ] {
            for (version, is_fit) in [("1.1", true), ("1.0", !fields.starts_with("T"))] {
                let ask = || {
                    let mut client = Client::to(proxy.port);
                    let fields = match fields {
                        "" => String::new(),
                        fields => format!("{fields}\r\n"),
                    };
                    client.send(format!(
                        "{method} / HTTP/{version}\r\nHost: a\r\n{fields}\r\n{body}"
                    ));
                    assert_eq!(client.answer_to(method).status, 200);
                };
                if is_fit {
                    let found = is_straight(&ask);
                    let straight = straight && route != PHASES;
                    assert_eq!(found, straight, "{route}: {method} {version} {fields}");
                }
            }
        }
        let call = ("content-type", "application/grpc");
        for (method, fields, straight) in [
            ("OPTIONS", &[][..], true),
            ("POST", &[], false),
            ("POST", &[call], false),
        ] {
            let ask = || {
                let mut client = Client2::to(proxy.port);
                assert_eq!(client.request(method, "/", fields, b"").status, 200);
            };
            let straight = straight && route != PHASES;
            assert_eq!(is_straight(&ask), straight, "{route}: {method} {fields:?}");
        }
    }
}
