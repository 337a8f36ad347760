//! Answers without an upstream: fixed ones, redirects, and what no route can serve.

use crate::client::{Client, get};
use crate::client2::Client2;
use crate::harness::Proxy;
use std::time::{Duration, Instant};

const ROUTES: &str = "routes:
  - { match: { path: /fixed }, respond: { status: 418, body: \"tea\\n\", content_type: text/x-tea } }
  - { match: { path: /plain }, respond: { status: 200, body: \"käse\" } }
  - { match: { path: /empty }, respond: { status: 204 } }
  - { match: { path: /bare }, respond: { status: 404 } }
  - { match: { host: old.example.com }, redirect: { to: \"https://api.example.com{uri}\" } }
  - { match: { path: /r302 }, redirect: { to: /new, status: 302 } }
  - { match: { path: /r303 }, redirect: { to: /new, status: 303 } }
  - { match: { path: /r307 }, redirect: { to: /new, status: 307 } }
  - { match: { path: /r308 }, redirect: { to: \"{scheme}://{host}/new{path}\", status: 308 } }
  - { match: { path: /read, methods: [GET] }, respond: { status: 200, body: read } }
  - { match: { path: /read, methods: [PUT, DELETE] }, respond: { status: 200, body: written } }
";

#[test]
fn fixed_answers_come_as_written() {
    let proxy = Proxy::start(ROUTES);
    let mut client = Client::to(proxy.port);
    for (path, status, kind, body) in [
        ("/fixed", 418, Some("text/x-tea"), "tea\n"),
        ("/plain", 200, None, "käse"),
        ("/bare", 404, None, ""),
    ] {
        let answer = client.get(path);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (status, body),
            "{path}"
        );
        assert_eq!(
            answer.header("content-length"),
            Some(body.len().to_string().as_str())
        );
        if kind.is_some() {
            assert_eq!(answer.header("content-type"), kind);
        }
        let head = client.request("HEAD", path, &[], b"");
        assert_eq!((head.status, head.body.len()), (status, 0), "HEAD {path}");
        assert_eq!(
            head.header("content-length"),
            Some(body.len().to_string().as_str())
        );
    }
    let answer = client.get("/empty");
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(answer.header("content-length"), None);
    assert_eq!(client.get("/fixed/deeper").status, 418);
    let line = proxy.logged("/fixed");
    assert_eq!(
        (
            &line["http.response.status_code"],
            &line["http.response.body.size"]
        ),
        (&418.into(), &4.into())
    );
    assert!(line["upstream"].is_null() && line["retry"].is_null());
    assert_eq!(line["tries"], serde_json::json!([]));
}

#[test]
fn redirects_name_the_new_place() {
    let proxy = Proxy::start(ROUTES);
    let mut client = Client::to(proxy.port);
    for (host, path, status, location) in [
        (
            "old.example.com",
            "/a/b?c=%20d",
            301,
            "https://api.example.com/a/b?c=%20d",
        ),
        ("old.example.com", "/", 301, "https://api.example.com/"),
        ("x", "/r302?a", 302, "/new"),
        ("x", "/r303", 303, "/new"),
        ("x", "/r307", 307, "/new"),
        ("x.org", "/r308/y?z", 308, "http://x.org/new/r308/y"),
    ] {
        let answer = client.request("GET", path, &[("Host", host)], b"");
        assert_eq!(
            (answer.status, answer.header("location")),
            (status, Some(location)),
            "{path}"
        );
    }
}

#[test]
fn what_no_route_matches_is_404_and_says_which_request_it_was() {
    let proxy = Proxy::start(ROUTES);
    let mut client = Client::to(proxy.port);
    for path in ["/", "/unknown", "/fixedly"] {
        let answer = client.get(path);
        let id = answer.header("x-request-id").expect("an id").to_string();
        assert_eq!(answer.status, 404);
        assert_eq!(answer.text(), format!("404 Not Found\nrequest id: {id}\n"));
        let line = proxy.logged(path);
        assert_eq!(line["request_id"], id.as_str());
        assert!(line["http.route"].is_null());
    }
}

#[test]
fn a_method_no_route_lists_is_405_with_allow() {
    let proxy = Proxy::start(ROUTES);
    let mut client = Client::to(proxy.port);
    let answer = client.request("POST", "/read/1", &[], b"");
    assert_eq!(answer.status, 405);
    let allow: Vec<&str> = answer.header("allow").unwrap().split(", ").collect();
    let sorted = {
        let mut sorted = allow.clone();
        sorted.sort();
        sorted
    };
    assert_eq!(allow, sorted);
    for method in ["DELETE", "GET", "PUT"] {
        assert!(allow.contains(&method), "{allow:?}");
    }
    assert!(!allow.contains(&"POST"));
    assert!(answer.text().starts_with("405 Method Not Allowed\n"));
    assert_eq!(client.get("/read").text(), "read");
}

#[test]
fn paths_that_lead_nowhere_are_400() {
    let proxy = Proxy::start(&format!(
        "{ROUTES}  - {{ match: {{ path: / }}, respond: {{ status: 200 }} }}\n"
    ));
    for path in [
        "/../etc/passwd",
        "/a/../../b",
        "/%2e%2e/x",
        "/%zz",
        "/%4",
        "/%",
        "/a%00b",
    ] {
        let answer = get(proxy.port, path);
        assert_eq!(answer.status, 400, "{path}");
    }
    assert_eq!(get(proxy.port, "/a/../b").status, 200);
}

#[test]
fn a_body_nobody_reads_does_not_become_the_next_request() {
    let proxy = Proxy::start(ROUTES);
    for (path, status) in [
        ("/fixed", 418),
        ("/unknown", 404),
        ("/read", 405),
        ("/r302", 302),
    ] {
        let mut client = Client::to(proxy.port);
        let body = b"GET /plain HTTP/1.1\r\nHost: smuggled\r\n\r\n";
        assert_eq!(client.request("POST", path, &[], body).status, status);
        // Read and thrown away, or the connection closed: never taken for a request.
        client.begin_if_open("GET", "/bare");
        if let Ok(answer) = client.try_answer_to("GET") {
            assert_eq!(answer.status, 404, "after POST {path}: {}", answer.text());
        }
        assert!(
            proxy
                .log_lines()
                .iter()
                .all(|l| l["server.address"] != "smuggled")
        );
    }
    // A client that asks first need not send it at all, and is told so at once.
    let asks = [("Expect", "100-continue"), ("Content-Length", "1000")];
    let mut client = Client::to(proxy.port);
    client.begin("POST", "/fixed", &asks, b"");
    let asked = Instant::now();
    let answer = client.answer();
    assert_eq!(answer.status, 418);
    assert_eq!(answer.header("connection"), Some("close"));
    client.expect_close();
    assert!(asked.elapsed() < Duration::from_secs(3));
    // What is little is waited for, what is much is not.
    for (length, connection) in [(1000, "keep-alive"), (1_000_000, "close")] {
        let mut client = Client::to(proxy.port);
        client.send(format!(
            "POST /fixed HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ));
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (418, Some(connection))
        );
        client.send("x".repeat(length));
        match connection {
            "close" => client.expect_close(),
            _ => assert_eq!(client.get("/fixed").status, 418),
        }
    }
}

#[test]
fn http2_gets_the_same_answers() {
    let proxy = Proxy::with().http2().start(ROUTES);
    let mut client = Client2::to(proxy.port);
    assert_eq!(client.get("/fixed").text(), "tea\n");
    assert_eq!(client.get("/empty").status, 204);
    assert_eq!(client.request("HEAD", "/fixed", &[], b"").status, 418);
    assert_eq!(client.get("/r302").header("location"), Some("/new"));
    assert_eq!(client.request("POST", "/read", &[], b"body").status, 405);
    assert_eq!(client.get("/unknown").status, 404);
    assert_eq!(client.get("/%zz").status, 400);
}

#[test]
fn a_redirect_on_this_host_stays_on_it() {
    let proxy = Proxy::start(
        "routes:\n  - { match: { path: / }, redirect: { to: \"{uri}\", status: 302 } }\n  - { match: { path: /x }, redirect: { to: \"https://a.example{uri}\", status: 302 } }\n",
    );
    for (target, location) in [
        ("/a//b?c=//d", "/a//b?c=//d"),
        ("//evil.example/a", "/evil.example/a"),
        ("///evil.example", "/evil.example"),
        ("//x/a", "https://a.example//x/a"),
    ] {
        let answer = get(proxy.port, target);
        assert_eq!(answer.header("location"), Some(location), "{target}");
    }
}
