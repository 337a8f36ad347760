//! A route with a cache: when it is asked, how long it keeps an answer, and what it says of it.

use crate::client::{Answer, Client, get, request};
use crate::client2::Client2;
use crate::harness::{Proxy, eventually, one_route, outcomes, target};
use crate::origin::Origin;
use crate::reply::Reply;
use serde_json::Value;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// A proxy whose only route caches by these rules and tries once.
pub(crate) fn caching(origin: &Origin, cache: &str) -> Proxy {
    Proxy::start(&rules(origin, cache))
}

/// Its upstreams document.
pub(crate) fn rules(origin: &Origin, cache: &str) -> String {
    let route = format!("cache: {{ {cache} }}\nretry: {{ tries: 1 }}");
    one_route(&[origin.port], &route)
}

/// What the answer says of the cache.
pub(crate) fn told(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap_or("nothing")
}

/// Whether it came from the cache, fresh or stale.
pub(crate) fn is_hit(answer: &Answer) -> bool {
    told(answer).starts_with("backstop; hit")
}

/// The `ttl` it names, in seconds.
fn ttl(answer: &Answer) -> i64 {
    let ttl = told(answer)
        .split("; ")
        .find_map(|p| p.strip_prefix("ttl="));
    let ttl = ttl.unwrap_or_else(|| panic!("no ttl in {}", told(answer)));
    ttl.parse().expect("whole seconds")
}

fn age(answer: &Answer) -> i64 {
    let age = answer.header("age").expect("an age");
    age.parse().expect("whole seconds")
}

/// A fresh stored answer.
#[track_caller]
pub(crate) fn hit(answer: &Answer) {
    assert!(
        is_hit(answer) && !told(answer).contains("detail"),
        "{}",
        told(answer)
    );
    assert!(answer.complete && ttl(answer) >= 0 && age(answer) >= 0);
}

/// An answer from the origin that was put away.
#[track_caller]
pub(crate) fn stored(answer: &Answer) {
    let told = told(answer);
    let stored =
        told.starts_with("backstop; fwd=uri-miss; fwd-status=") && told.ends_with("; stored");
    assert!(stored && answer.complete, "{told}");
    assert_eq!(answer.header("age"), None);
}

/// An answer from the origin that was not put away.
#[track_caller]
pub(crate) fn not_stored(answer: &Answer) {
    assert!(
        told(answer).starts_with("backstop; fwd=") && !told(answer).contains("; stored"),
        "{}",
        told(answer)
    );
    assert_eq!(answer.header("age"), None);
}

/// The log's first line about this path with this word under `cache`.
pub(crate) fn logged_as(proxy: &Proxy, path: &str, cache: &str) -> Value {
    eventually(&format!("a {cache} of {path} in the log"), || {
        let mut lines = proxy.log_lines().into_iter();
        lines.find(|l| target(l) == path && l["cache"] == cache)
    })
}

/// Every answer another one.
pub(crate) fn counting(headers: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::new(move |r| Reply::answer(200, headers, r.number.to_string().as_bytes()))
}

#[test]
fn s2_an_origin_without_caching_headers_is_asked_once() {
    let origin = counting(&[("Content-Type", "text/x-number"), ("X-Own", "kept")]);
    let proxy = caching(&origin, "ttl: 2m");
    let mut client = Client::to(proxy.port);
    stored(&client.get("/patients?page=1"));
    for _ in 0..20 {
        let answer = client.get("/patients?page=1");
        hit(&answer);
        assert!((110..=120).contains(&ttl(&answer)), "{}", told(&answer));
        assert_eq!((answer.status, answer.text().as_str()), (200, "0"));
        assert_eq!(answer.header("content-type"), Some("text/x-number"));
        assert_eq!(answer.header("x-own"), Some("kept"));
        assert_eq!(answer.header("content-length"), Some("1"));
    }
    assert_eq!(origin.count(), 1);
    let miss = logged_as(&proxy, "/patients?page=1", "miss");
    assert_eq!(outcomes(&miss), ["ok"]);
    let hit = logged_as(&proxy, "/patients?page=1", "hit");
    assert!(outcomes(&hit).is_empty() && hit.get("retry").is_none());
    assert_eq!(
        (
            &hit["http.response.status_code"],
            &hit["http.response.body.size"]
        ),
        (&200.into(), &1.into())
    );
}

#[test]
fn s2_age_and_ttl_tell_how_long_an_answer_has_been_and_will_be_kept() {
    let origin = counting(&[]);
    let proxy = caching(&origin, "ttl: 1h");
    let start = Instant::now();
    stored(&get(proxy.port, "/"));
    let answer = eventually("an age", || {
        let answer = get(proxy.port, "/");
        hit(&answer);
        (age(&answer) >= 2).then_some(answer)
    });
    assert!(start.elapsed() >= 1_900 * MS, "{:?}", start.elapsed());
    assert!((3_599..=3_600).contains(&(ttl(&answer) + age(&answer))));
    assert_eq!(origin.count(), 1);
}

#[test]
fn s2_after_the_ttl_the_origin_is_asked_again() {
    let origin = counting(&[]);
    let proxy = caching(&origin, "ttl: 400ms");
    stored(&get(proxy.port, "/"));
    let fresh = eventually("the next answer", || {
        let answer = get(proxy.port, "/");
        if is_hit(&answer) {
            assert_eq!(answer.text(), "0");
        }
        (!is_hit(&answer)).then_some(answer)
    });
    assert_eq!(fresh.text(), "1");
    assert!(told(&fresh).ends_with("; stored"), "{}", told(&fresh));
    let seen = origin.requests();
    assert!(seen[1].at - seen[0].at >= 400 * MS);
}

/// Many origins say of their files that parts can be had, and caches on the way how old an answer is.
#[test]
fn what_the_cache_says_itself_is_there_once() {
    let own = [
        ("aCCept-Ranges", "none"),
        ("AGE", "5"),
        ("X-Case", "a"),
        ("X-Case", "b"),
    ];
    let origin = Origin::always(Reply::answer(200, &own, b"x"));
    let proxy = Proxy::start(&one_route(&[origin.port], "cache: { ttl: 1m }"));
    for _ in 0..3 {
        let answer = get(proxy.port, "/x");
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert!((5..60).contains(&age(&answer)));
        assert_eq!(answer.all("X-Case"), ["a", "b"]);
        assert_eq!(answer.text(), "x");
    }
    assert_eq!(origin.count(), 1);
    // Also where its maker says the same, once or twice.
    let same = [("Accept-Ranges", "bytes"); 2];
    for (target, count) in [("/once", 1), ("/twice", 2)] {
        let fields = same[..count].to_vec();
        origin.set(move |_| Reply::answer(200, &fields, b"x"));
        for _ in 0..3 {
            let answer = get(proxy.port, target);
            assert_eq!(answer.all("accept-ranges"), ["bytes"], "{target}");
        }
    }
    assert_eq!(origin.count(), 3);
    // Nor does anybody get a date that is none.
    let head = "HTTP/1.1 200 OK\r\nDate: 0\r\nDate: 1\r\nContent-Length: 1\r\n\r\nx";
    origin.set(move |_| Reply::raw(head));
    for _ in 0..3 {
        let answer = get(proxy.port, "/y");
        assert!(
            answer
                .header("date")
                .is_some_and(|date| date.ends_with(" GMT"))
        );
    }
    assert_eq!(origin.count(), 4);
}

#[test]
fn a_route_without_a_cache_says_nothing_of_one_and_a_default_can_be_switched_off() {
    let origin = counting(&[]);
    let proxy = Proxy::start(&format!(
        "defaults:\n  cache: {{ ttl: 1h }}\nupstreams:\n  pool: {{ backends: [127.0.0.1:{}] }}\nroutes:\n  \
         - {{ match: {{ path: / }}, upstream: pool }}\n  \
         - {{ match: {{ path: /live }}, upstream: pool, cache: off }}\n",
        origin.port
    ));
    stored(&get(proxy.port, "/a"));
    hit(&get(proxy.port, "/a"));
    for expected in ["1", "2"] {
        let answer = get(proxy.port, "/live");
        assert_eq!(
            (told(&answer), answer.text().as_str()),
            ("nothing", expected)
        );
        assert_eq!(answer.header("age"), None);
    }
    assert!(proxy.logged("/live").get("cache").is_none());
}

#[test]
fn head_is_answered_from_a_stored_get_and_never_takes_its_place() {
    let origin = Origin::always(Reply::ok("0123456789"));
    let proxy = caching(&origin, "ttl: 1h");
    let mut client = Client::to(proxy.port);
    let first = client.request("HEAD", "/head-first", &[], b"");
    assert_eq!((first.status, first.body.len()), (200, 0));
    assert_eq!(client.get("/head-first").text(), "0123456789");
    stored(&client.get("/"));
    let before = origin.count();
    let head = client.request("HEAD", "/", &[], b"");
    hit(&head);
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("10"))
    );
    assert_eq!(client.get("/").text(), "0123456789");
    assert_eq!(origin.count(), before);
}

#[test]
fn ranges_are_cut_from_a_stored_answer_and_never_take_its_place() {
    let origin = Origin::always(Reply::ok("0123456789"));
    let proxy = caching(&origin, "ttl: 1h");
    let mut client = Client::to(proxy.port);
    let first = client.request("GET", "/range-first", &[("Range", "bytes=2-4")], b"");
    let expected = if first.status == 206 {
        "234"
    } else {
        "0123456789"
    };
    assert_eq!(first.text(), expected);
    assert_eq!(client.get("/range-first").text(), "0123456789");
    stored(&client.get("/"));
    let before = origin.count();
    for (range, content_range, part) in [
        ("bytes=2-5", "bytes 2-5/10", "2345"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-3", "bytes 7-9/10", "789"),
        ("bytes=8-99", "bytes 8-9/10", "89"),
    ] {
        let answer = client.request("GET", "/", &[("Range", range)], b"");
        hit(&answer);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (206, part),
            "{range}"
        );
        assert_eq!(answer.header("content-range"), Some(content_range));
    }
    let beyond = client.request("GET", "/", &[("Range", "bytes=10-")], b"");
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    assert_eq!(client.get("/").text(), "0123456789");
    assert_eq!(origin.count(), before);
}

#[test]
fn other_methods_upgrades_and_no_store_pass_the_cache_by() {
    let origin = counting(&[]);
    let proxy = caching(&origin, "ttl: 1h");
    let mut client = Client::to(proxy.port);
    stored(&client.get("/"));
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let no_store = [("Cache-Control", "max-age=0, No-Store")];
    let mut expected = 1;
    for (method, headers, body, detail) in [
        ("POST", &[][..], &b"one"[..], "method"),
        ("PUT", &[], b"one", "method"),
        ("DELETE", &[], b"", "method"),
        ("OPTIONS", &[], b"", "method"),
        ("GET", &upgrade, b"", "upgrade"),
        ("GET", &no_store, b"", "request-no-store"),
    ] {
        for path in ["/", "/not-stored-yet"] {
            let answer = Client::to(proxy.port).request(method, path, headers, body);
            assert_eq!(
                told(&answer),
                format!("backstop; fwd=bypass; detail=\"{detail}\"")
            );
            assert_eq!(
                (answer.text(), answer.header("age")),
                (expected.to_string(), None)
            );
            expected += 1;
        }
    }
    assert_eq!(outcomes(&logged_as(&proxy, "/", "bypass")), ["ok"]);
    // None of them left anything behind.
    stored(&client.get("/not-stored-yet"));
}

#[test]
fn s2_a_client_cannot_ask_the_cache_to_spare_it() {
    let origin = counting(&[]);
    let proxy = caching(&origin, "ttl: 1h");
    let mut client = Client::to(proxy.port);
    stored(&client.get("/"));
    for header in [
        ("Cache-Control", "no-cache"),
        ("Cache-Control", "max-age=0"),
        ("Pragma", "no-cache"),
    ] {
        hit(&client.request("GET", "/", &[header], b""));
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn s4_a_reload_keeps_the_cache() {
    let origin = counting(&[]);
    let proxy = caching(&origin, "ttl: 1h");
    stored(&get(proxy.port, "/"));
    for n in 1..=3 {
        let changed = format!("cache: {{ ttl: 1h }}\ntimeouts: {{ total: {n}s }}");
        proxy.reload_with(&one_route(&[origin.port], &changed));
        let answer = get(proxy.port, "/");
        hit(&answer);
        assert_eq!(answer.text(), "0");
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn http2_clients_and_http1_clients_share_what_is_stored() {
    let origin = counting(&[]);
    let proxy = Proxy::with().http2().start(&rules(&origin, "ttl: 1h"));
    let mut client = Client2::to(proxy.port);
    stored(&get(proxy.port, "/from-1"));
    stored(&client.get("/from-2"));
    for (path, expected) in [("/from-1", "0"), ("/from-2", "1")] {
        for answer in [client.get(path), get(proxy.port, path)] {
            hit(&answer);
            assert_eq!(answer.text(), expected);
        }
    }
    let head = client.request("HEAD", "/from-1", &[], b"");
    hit(&head);
    assert!(head.body.is_empty());
    let miss = logged_as(&proxy, "/from-2", "miss");
    assert_eq!(miss["network.protocol.version"], "2");
    assert_eq!(origin.count(), 2);
}

#[test]
fn odd_lengths_and_ranges_are_answered() {
    let origin = Origin::new(|r| match r.target.as_str() {
        "/empty" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 00\r\n\r\n"),
        _ => Reply::ok("0123456789"),
    });
    let proxy = Proxy::start(&rules(&origin, "ttl: 1m"));
    for path in ["/empty", "/ten"] {
        stored(&get(proxy.port, path));
    }
    let ranged = |path, range| {
        let answer = request(proxy.port, "GET", path, &[("Range", range)], b"");
        (answer.status, answer.text())
    };
    assert_eq!(ranged("/ten", "bytes=0-0"), (206, "0".to_string()));
    assert_eq!(ranged("/ten", "bytes=-5"), (206, "56789".to_string()));
    assert_eq!(ranged("/ten", "bytes=-0"), (416, String::new()));
    assert_eq!(ranged("/empty", "bytes=-5"), (200, String::new()));
}
