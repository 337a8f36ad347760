//! Header fields on their way: what is added by default, what a route edits, and what never passes.

use crate::client::{Client, get, request};
use crate::client2::Client2;
use crate::harness::{Proxy, one_route};
use crate::origin::Origin;
use crate::reply::Reply;

#[test]
fn a_backend_is_told_who_asked() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let sent = [
        ("Host", "api.example.com:8080"),
        ("X-Forwarded-For", "10.6.6.6"),
        ("X-Forwarded-For", "10.7.7.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Custom", "kept"),
        ("Cookie", "a=1; b=2"),
        ("Authorization", "Bearer t0ken"),
    ];
    request(proxy.port, "GET", "/", &sent, b"");
    let seen = origin.last();
    for (name, value) in [
        ("host", "api.example.com:8080"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "api.example.com:8080"),
        ("via", "1.1 backstop"),
        ("x-custom", "kept"),
        ("cookie", "a=1; b=2"),
        ("authorization", "Bearer t0ken"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert!(seen.header("x-request-id").is_some_and(|id| id.len() >= 16));
}

#[test]
fn http2_requests_get_the_same() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    Client2::to(proxy.port).request("GET", "/x", &[("x-forwarded-for", "10.6.6.6")], b"");
    let seen = origin.last();
    assert_eq!(seen.header("host"), Some("example.com"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some("example.com"));
    assert_eq!(seen.all("via").len(), 1);
}

#[test]
fn an_earlier_via_is_kept() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    request(proxy.port, "GET", "/", &[("Via", "1.0 fred")], b"");
    assert_eq!(
        origin.last().all("via").join(", "),
        "1.0 fred, 1.1 backstop"
    );
}

#[test]
fn a_well_formed_request_id_is_kept_and_any_other_replaced() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let long = "x".repeat(5_000);
    for (id, kept) in [
        ("7b1e6f0e-5a39-4d4f-9d6b-0d6d2f8f4c11", true),
        ("", false),
        ("two words", false),
        ("\"quoted\"", false),
        (long.as_str(), false),
    ] {
        request(proxy.port, "GET", "/", &[("X-Request-ID", id)], b"");
        let seen = origin
            .last()
            .header("x-request-id")
            .unwrap_or("")
            .to_string();
        assert_eq!(seen == id, kept, "{id:?} became {seen:?}");
        assert!(seen.len() >= 16);
    }
    let mut ids: Vec<String> = (0..20)
        .map(|_| {
            get(proxy.port, "/");
            origin.last().header("x-request-id").unwrap().to_string()
        })
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20, "ids repeat");
}

#[test]
fn every_try_of_a_request_has_the_same_headers() {
    let origin = Origin::sequence(&[Reply::status(500), Reply::reset(), Reply::ok("")]);
    let rules = "retry: { wait: 1ms }\nheaders: { request: { add: { X-Added: once } } }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    get(proxy.port, "/");
    let seen = origin.requests();
    assert_eq!(seen.len(), 3);
    for request in &seen {
        assert_eq!(request.header("x-added"), Some("once"));
        assert_eq!(request.header("via"), Some("1.1 backstop"));
        assert_eq!(
            request.header("x-request-id"),
            seen[0].header("x-request-id")
        );
    }
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let reply = Reply::answer(
        200,
        &[
            ("Connection", "X-Mine"),
            ("X-Mine", "1"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Trailer", "X-T"),
            ("Upgrade", "h2c"),
            ("X-Yours", "1"),
        ],
        b"",
    );
    let origin = Origin::always(reply);
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let sent = [
        ("Connection", "X-Hop, keep-alive"),
        ("X-Hop", "1"),
        ("Keep-Alive", "300"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "gzip"),
        ("X-End", "1"),
    ];
    let answer = request(proxy.port, "GET", "/", &sent, b"");
    for name in ["x-hop", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(origin.last().header(name), None, "{name} went upstream");
    }
    assert_eq!(origin.last().header("x-end"), Some("1"));
    for name in ["x-mine", "keep-alive", "te", "trailer", "upgrade"] {
        assert_eq!(answer.header(name), None, "{name} came downstream");
    }
    assert_eq!(answer.header("x-yours"), Some("1"));
}

const EDITS: &str = "upstreams: { pool: { backends: [127.0.0.1:PORT] } }
defaults:
  upstream: pool
  headers:
    request: { set: { X-Default: theirs, X-Both: default } }
routes:
  - match: { path: / }
    headers:
      request:
        set:
          x-both: route
          X-Real-IP: \"{client_ip}\"
          X-All: \"{method} {scheme} {host} {uri} {path} {query} {{literal}}\"
          X-Id: \"{request_id}\"
          Host: inner.example
        add: { X-Many: second }
        remove: [X-Debug, Cookie]
      response:
        set: { Server: backstop, X-From: \"{host}{path}\" }
        add: { Set-Cookie: \"b=2\" }
        remove: [X-Powered-By, ETag]
  - match: { path: /answer }
    respond: { status: 200, body: hi }
    headers: { response: { set: { X-Fixed: \"{method} {uri}\" }, add: { X-More: a } } }
  - match: { path: /moved }
    redirect: { to: \"/new{uri}\" }
    headers: { response: { set: { Cache-Control: no-store } } }
";

#[test]
fn a_route_edits_requests() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&EDITS.replace("PORT", &origin.port.to_string()));
    let sent = [
        ("X-Debug", "1"),
        ("x-debug", "2"),
        ("Cookie", "a=1"),
        ("X-Many", "first"),
        ("X-Both", "c"),
    ];
    request(proxy.port, "GET", "/a/b?c=d&e", &sent, b"");
    let seen = origin.last();
    for (name, value) in [
        ("x-default", "theirs"),
        ("x-both", "route"),
        ("x-real-ip", "127.0.0.1"),
        (
            "x-all",
            "GET http example.com /a/b?c=d&e /a/b c=d&e {literal}",
        ),
        ("host", "inner.example"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(seen.header("x-id"), seen.header("x-request-id"));
    assert_eq!(seen.all("x-many"), ["first", "second"]);
    assert_eq!(
        (seen.header("x-debug"), seen.header("cookie")),
        (None, None)
    );
    get(proxy.port, "/plain");
    assert_eq!(
        origin.last().header("x-all"),
        Some("GET http example.com /plain /plain  {literal}")
    );
}

#[test]
fn a_route_edits_responses() {
    let reply = Reply::answer(
        200,
        &[
            ("Server", "iis"),
            ("X-Powered-By", "php"),
            ("ETag", "\"1\""),
            ("Set-Cookie", "a=1"),
        ],
        b"",
    );
    let origin = Origin::always(reply);
    let proxy = Proxy::start(&EDITS.replace("PORT", &origin.port.to_string()));
    let answer = get(proxy.port, "/a?b");
    assert_eq!(answer.header("server"), Some("backstop"));
    assert_eq!(answer.header("x-from"), Some("example.com/a"));
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(
        (answer.header("x-powered-by"), answer.header("etag")),
        (None, None)
    );
}

#[test]
fn fixed_answers_and_redirects_are_edited_too() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&EDITS.replace("PORT", &origin.port.to_string()));
    let mut client = Client::to(proxy.port);
    let answer = client.get("/answer/1?x");
    assert_eq!(answer.header("x-fixed"), Some("GET /answer/1?x"));
    assert_eq!(answer.header("x-more"), Some("a"));
    assert_eq!(
        client.get("/moved").header("cache-control"),
        Some("no-store")
    );
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_client_cannot_smuggle_a_line_through_a_variable() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&EDITS.replace("PORT", &origin.port.to_string()));
    get(proxy.port, "/a%0d%0aX-Injected:%20yes?b=%0aX-Injected:1");
    assert_eq!(origin.last().header("x-injected"), None);
    let answer = get(proxy.port, "/moved?%0d%0aX-Injected:1");
    assert_eq!(answer.header("x-injected"), None);
    assert_eq!(
        answer.header("location"),
        Some("/new/moved?%0d%0aX-Injected:1")
    );
}

#[test]
fn a_field_with_underscores_does_not_pass_for_one_that_is_set() {
    let origin = Origin::always(Reply::ok(""));
    let rules = "headers: { request: { set: { X-User: \"{user}\" }, remove: [X-Debug] } }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let headers = [
        ("X_User", "root"),
        ("x_user", "root"),
        ("X_Debug", "1"),
        ("X_Forwarded-For", "10.0.0.1"),
        ("X_Real_IP", "10.0.0.1"),
        ("My_Own", "kept"),
    ];
    assert_eq!(request(proxy.port, "GET", "/a", &headers, b"").status, 200);
    let seen = origin.last();
    assert_eq!(seen.all("my_own"), ["kept"]);
    for (name, _) in &headers[..5] {
        assert!(seen.all(name).is_empty(), "{name}");
    }
}
