//! How often one client may ask.

use crate::client::{Client, get, request};
use crate::harness::{Proxy, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;

fn limited(origin: &Origin, rules: &str) -> Proxy {
    let rules = format!("rate_limit: {{ {rules} }}");
    Proxy::start(&one_route(&[origin.port], &rules))
}

#[test]
fn who_asks_too_often_is_told_when_to_come_again() {
    let origin = Origin::always(Reply::ok("fine"));
    let proxy = limited(&origin, "rate: 6/m, burst: 3");
    let mut client = Client::to(proxy.port);
    for left in ["2", "1", "0"] {
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        let field = answer.header("ratelimit").expect("RateLimit");
        assert!(
            field.starts_with(&format!("\"default\";r={left};t=")),
            "{field}"
        );
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"default\";q=3;w=30")
        );
    }
    let answer = client.get("/refused");
    assert_eq!(answer.status, 429);
    let after: u64 = answer
        .header("retry-after")
        .expect("Retry-After")
        .parse()
        .expect("seconds");
    assert!((1..=10).contains(&after), "{after}");
    assert_eq!(
        answer.header("ratelimit"),
        Some(format!("\"default\";r=0;t={after}").as_str())
    );
    assert_eq!(origin.count(), 3);
    let line = proxy.logged("/refused");
    assert_eq!(line["http.response.status_code"], 429);
    // The connection goes on.
    assert_eq!(client.get("/").status, 429);
}

#[test]
fn the_rate_gives_back_what_was_used() {
    let origin = Origin::always(Reply::ok("fine"));
    let proxy = limited(&origin, "rate: 1/s, burst: 1");
    assert_eq!(get(proxy.port, "/").status, 200);
    assert_eq!(get(proxy.port, "/").status, 429);
    until("a second", || get(proxy.port, "/").status == 200);
}

#[test]
fn clients_are_told_apart_by_what_the_route_names() {
    let origin = Origin::always(Reply::ok("fine"));
    for (per, one, two) in [
        (
            "identity",
            ("Authorization", "Bearer one"),
            ("Authorization", "Bearer two"),
        ),
        ("{ header: X-Key }", ("X-Key", "one"), ("X-Key", "two")),
        (
            "{ cookie: session }",
            ("Cookie", "a=b; session=1"),
            ("Cookie", "session=2"),
        ),
    ] {
        let proxy = limited(&origin, &format!("per: {per}, rate: 1/h, burst: 1"));
        let ask = |headers: &[(&str, &str)]| request(proxy.port, "GET", "/", headers, b"").status;
        assert_eq!((ask(&[one]), ask(&[one])), (200, 429), "{per}");
        assert_eq!((ask(&[two]), ask(&[two])), (200, 429), "{per}");
        // Without it, the address counts.
        assert_eq!((ask(&[]), ask(&[])), (200, 429), "{per}");
    }
    let proxy = limited(&origin, "rate: 1/h, burst: 1");
    let ask = |key: &str| request(proxy.port, "GET", "/", &[("Authorization", key)], b"").status;
    assert_eq!((ask("one"), ask("two")), (200, 429));
}

#[test]
fn fixed_answers_and_stored_ones_count_too_and_a_reload_forgets_nobody() {
    let origin = Origin::always(Reply::ok("fine"));
    let rules = "cache: { ttl: 1h }\nrate_limit: { rate: 1/h, burst: 2 }";
    let upstreams = one_route(&[origin.port], rules);
    let proxy = Proxy::start(&upstreams);
    assert_eq!(get(proxy.port, "/").status, 200);
    assert_eq!(get(proxy.port, "/").status, 200);
    assert_eq!(get(proxy.port, "/").status, 429);
    proxy.reload_with(&upstreams);
    assert_eq!(get(proxy.port, "/").status, 429);
    let respond = "defaults: { rate_limit: { rate: 1/h, burst: 1 } }\nroutes:\n  - { match: { path: / }, respond: { status: 200 } }\n  - { match: { path: /free }, rate_limit: off, respond: { status: 200 } }\n";
    let proxy = Proxy::start(respond);
    assert_eq!(get(proxy.port, "/").status, 200);
    assert_eq!(get(proxy.port, "/").status, 429);
    assert_eq!(get(proxy.port, "/free").status, 200);
    assert_eq!(get(proxy.port, "/free").status, 200);
}
