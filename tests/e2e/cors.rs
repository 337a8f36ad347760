//! Whose scripts may read answers: permission asked for, permission given, and nobody told what concerns another.

use crate::client::{Answer, Client, request};
use crate::client2::Client2;
use crate::harness::{Proxy, free_port, one_route};
use crate::origin::Origin;
use crate::reply::Reply;

const APP: &str = "https://app.example.com";
const BLOG: &str = "https://blog.example.org";
const EVIL: &str = "https://evil.test";

const CORS: &str = "cors: { origins: [\"https://app.example.com\", \"https://*.example.org\"], methods: [GET, PUT], \
                    headers: [Authorization, Content-Type], expose: [X-Request-ID], credentials: true, max_age: 10m }";

fn from(port: u16, method: &str, path: &str, origin: &str) -> Answer {
    request(port, method, path, &[("Origin", origin)], b"")
}

fn preflight(port: u16, path: &str, origin: &str, method: &str) -> Answer {
    let asked = [
        ("Origin", origin),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "authorization"),
    ];
    request(port, "OPTIONS", path, &asked, b"")
}

fn allowed(answer: &Answer) -> Option<&str> {
    answer.header("access-control-allow-origin")
}

fn varies_on_origin(answer: &Answer) -> bool {
    let lines = answer.all("vary").join(", ");
    lines
        .split(',')
        .any(|name| name.trim().eq_ignore_ascii_case("origin"))
}

/// That nothing in an answer tells of CORS.
fn says_nothing(answer: &Answer) -> bool {
    let tells = |name: &str| name.to_ascii_lowercase().starts_with("access-control-");
    !answer.headers.iter().any(|(name, _)| tells(name))
}

#[test]
fn permission_is_given_before_anything_else_is_asked() {
    let origin = Origin::new(|_| Reply::ok("data"));
    let yaml = one_route(
        &[origin.port],
        &format!("{CORS}\nrequire: {{ authorization: bearer, headers: [X-Tenant] }}"),
    )
    .replace(
        "match: { path: / }",
        "match: { path: /, methods: [GET, PUT] }",
    );
    let proxy = Proxy::start(&yaml);
    for (asker, method) in [(APP, "PUT"), (BLOG, "GET"), (APP, "DELETE")] {
        let answer = preflight(proxy.port, "/x", asker, method);
        // A method that no route takes is not for any route to allow: that is a 405 as ever.
        if method == "DELETE" {
            assert_eq!(answer.status, 405);
            continue;
        }
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert_eq!(allowed(&answer), Some(asker));
        for (name, value) in [
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, PUT"),
            (
                "access-control-allow-headers",
                "authorization, content-type",
            ),
            ("access-control-max-age", "600"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(answer.header("vary"), Some("Origin"));
        assert_eq!(answer.header("access-control-expose-headers"), None);
    }
    let refused = preflight(proxy.port, "/refused", EVIL, "GET");
    assert_eq!(refused.status, 204);
    assert!(says_nothing(&refused) && varies_on_origin(&refused));
    let line = proxy.logged("/refused");
    assert_eq!(
        (
            &line["http.route"],
            &line["http.response.status_code"],
            &line["http.request.method"]
        ),
        (&"all".into(), &204.into(), &"OPTIONS".into())
    );
    // Without the field that makes it one, it is a request like any other.
    assert_eq!(from(proxy.port, "OPTIONS", "/x", APP).status, 405);
    assert_eq!(origin.count(), 0);
}

#[test]
fn who_may_not_come_in_gets_no_permission() {
    let yaml = one_route(&[free_port()], &format!("{CORS}\nallow: [192.0.2.1]"));
    let proxy = Proxy::start(&yaml);
    assert_eq!(preflight(proxy.port, "/", APP, "GET").status, 403);
}

#[test]
fn routes_without_it_leave_it_to_the_upstream() {
    let origin = Origin::new(|_| {
        let own = [("Access-Control-Allow-Origin", "https://own.test")];
        Reply::answer(200, &own, b"own")
    });
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let answer = preflight(proxy.port, "/", APP, "PUT");
    assert_eq!((answer.status, origin.count()), (200, 1));
    assert_eq!(allowed(&answer), Some("https://own.test"));
    assert!(!varies_on_origin(&answer));
    let own = allowed(&from(proxy.port, "GET", "/", APP)).map(str::to_string);
    assert_eq!(own.as_deref(), Some("https://own.test"));
}

#[test]
fn answers_say_who_may_read_them_whatever_the_upstream_says() {
    let origin = Origin::new(|_| {
        let own = [
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", "DELETE"),
            ("Vary", "Accept-Language"),
        ];
        Reply::answer(200, &own, b"data")
    });
    let proxy = Proxy::start(&one_route(&[origin.port], CORS));
    for asker in [APP, BLOG, "https://a.b.example.org"] {
        let answer = from(proxy.port, "GET", "/", asker);
        assert_eq!(allowed(&answer), Some(asker));
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            Some("true")
        );
        assert_eq!(
            answer.header("access-control-expose-headers"),
            Some("x-request-id")
        );
        assert_eq!(answer.header("access-control-allow-methods"), None);
        assert!(varies_on_origin(&answer));
        assert!(answer.all("vary").contains(&"Accept-Language"));
    }
    for asker in [
        EVIL,
        "null",
        "http://app.example.com",
        "https://example.org",
        "https://evil.test/.example.org",
        "https://app.example.com.evil.test",
    ] {
        let answer = from(proxy.port, "GET", "/", asker);
        assert_eq!(answer.text(), "data");
        assert!(says_nothing(&answer), "{asker}: {:?}", answer.headers);
        assert!(varies_on_origin(&answer), "{asker}");
    }
    let nobody = request(proxy.port, "GET", "/", &[], b"");
    assert!(says_nothing(&nobody) && varies_on_origin(&nobody));
}

#[test]
fn any_is_the_same_for_everybody() {
    let origin = Origin::new(|_| Reply::ok("data"));
    let rules = "cors: { origins: any, headers: [X-A] }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    for asker in [APP, EVIL, "null"] {
        let answer = from(proxy.port, "GET", "/", asker);
        assert_eq!(allowed(&answer), Some("*"));
        assert!(!varies_on_origin(&answer));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        let asked = preflight(proxy.port, "/", asker, "POST");
        assert_eq!((asked.status, allowed(&asked)), (204, Some("*")));
        let methods = asked.header("access-control-allow-methods");
        assert_eq!(methods, Some("GET, HEAD, POST"));
        assert_eq!(asked.header("access-control-max-age"), None);
    }
    assert_eq!(
        allowed(&request(proxy.port, "GET", "/", &[], b"")),
        Some("*")
    );
}

#[test]
fn what_is_answered_here_says_so_too() {
    let gone = free_port();
    let yaml = format!(
        "defaults:\n  {CORS}\nupstreams:\n  gone: {{ backends: [\"127.0.0.1:{gone}\"] }}\nroutes:\n\
         - {{ match: {{ path: /fixed }}, respond: {{ status: 200, body: fixed }} }}\n\
         - {{ match: {{ path: /moved }}, redirect: {{ to: /fixed }} }}\n\
         - {{ match: {{ path: /secret }}, respond: {{ status: 200 }}, require: {{ authorization: any }} }}\n\
         - {{ match: {{ path: /gone }}, upstream: gone, retry: {{ tries: 1 }} }}\n\
         - {{ match: {{ path: /off }}, respond: {{ status: 200 }}, cors: off }}\n"
    );
    let proxy = Proxy::start(&yaml);
    for (path, status) in [
        ("/fixed", 200),
        ("/moved", 301),
        ("/secret", 401),
        ("/none", 404),
    ] {
        let answer = from(proxy.port, "GET", path, APP);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(allowed(&answer), Some(APP), "{path}");
        assert!(varies_on_origin(&answer), "{path}");
        assert!(says_nothing(&from(proxy.port, "GET", path, EVIL)), "{path}");
    }
    let gone = from(proxy.port, "GET", "/gone", APP);
    assert!(gone.status >= 502, "{}", gone.status);
    assert_eq!(allowed(&gone), Some(APP));
    let off = from(proxy.port, "GET", "/off", APP);
    assert!(says_nothing(&off) && !varies_on_origin(&off));
}

#[test]
fn a_stored_answer_tells_nobody_of_another() {
    let origin = Origin::new(|r| {
        // As an upstream would that knows who asks.
        let asker = r.header("origin").unwrap_or("nobody").to_string();
        let own = [
            ("Access-Control-Allow-Origin", asker.as_str()),
            ("Access-Control-Allow-Credentials", "true"),
            ("ETag", "\"1\""),
            ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        Reply::answer(200, &own, b"data")
    });
    for ttl in ["ttl: 1m", "ttl: 1m, shared: true"] {
        let rules = format!("{CORS}\ncache: {{ {ttl} }}");
        let proxy = Proxy::start(&one_route(&[origin.port], &rules));
        let mut client = Client::to(proxy.port);
        let mut ask = |method: &str, asker: &str, more: &[(&str, &str)]| {
            let mut fields = vec![("Origin", asker)];
            fields.extend(more);
            client.request(method, "/stored", &fields, b"")
        };
        assert_eq!(allowed(&ask("GET", APP, &[])), Some(APP));
        let asked = origin.count();
        for _ in 0..3 {
            for (asker, said) in [(BLOG, Some(BLOG)), (EVIL, None), (APP, Some(APP))] {
                let hit = ask("GET", asker, &[]);
                let status = hit.header("cache-status").expect("Cache-Status");
                assert!(status.contains("; hit"), "{status}");
                assert_eq!((allowed(&hit), hit.text().as_str()), (said, "data"));
                assert!(varies_on_origin(&hit));
                assert_eq!(
                    hit.header("access-control-allow-credentials").is_some(),
                    said.is_some()
                );
                let known = ask("GET", asker, &[("If-None-Match", "\"1\"")]);
                assert_eq!((known.status, allowed(&known)), (304, said));
                let part = ask("GET", asker, &[("Range", "bytes=0-1")]);
                assert_eq!((part.status, allowed(&part)), (206, said));
                assert_eq!(allowed(&ask("HEAD", asker, &[])), said);
            }
        }
        assert_eq!(origin.count(), asked);
    }
}

#[test]
fn an_answer_that_is_not_stored_says_who_may_read_it() {
    let origin = Origin::new(|_| Reply::answer(200, &[("Set-Cookie", "a=b")], b"mine"));
    let rules = format!("{CORS}\ncache: {{ ttl: 1m }}");
    let proxy = Proxy::start(&one_route(&[origin.port], &rules));
    for asker in [APP, BLOG, APP] {
        let answer = from(proxy.port, "GET", "/", asker);
        assert_eq!(
            (answer.text().as_str(), allowed(&answer)),
            ("mine", Some(asker))
        );
    }
}

#[test]
fn http2_is_told_the_same() {
    let origin = Origin::new(|_| Reply::ok("data"));
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], CORS));
    let mut client = Client2::to(proxy.port);
    let asked = [("origin", APP), ("access-control-request-method", "PUT")];
    let answer = client.request("OPTIONS", "/", &asked, b"");
    assert_eq!((answer.status, allowed(&answer)), (204, Some(APP)));
    let answer = client.request("GET", "/", &asked[..1], b"");
    assert_eq!((answer.status, allowed(&answer)), (200, Some(APP)));
}

#[test]
fn the_route_has_the_last_word() {
    let origin = Origin::new(|_| Reply::ok("data"));
    let rules = format!(
        "{CORS}\nheaders: {{ response: {{ set: {{ Access-Control-Expose-Headers: X-B }} }} }}"
    );
    let proxy = Proxy::start(&one_route(&[origin.port], &rules));
    let answer = from(proxy.port, "GET", "/", APP);
    let exposed = answer.header("access-control-expose-headers");
    assert_eq!(exposed, Some("X-B"));
}
