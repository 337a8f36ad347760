//! Trailers: fields that follow content, through HTTP/1 and HTTP/2, both ways.

use crate::client::{Answer, Client, request};
use crate::client_tls::Authority;
use crate::client2::Client2;
use crate::harness::{Proxy, one_route, outcomes, until, with_upstream};
use crate::origin::Origin;
use crate::origin2::{Origin2, Reply2};
use crate::reply::{Reply, Request};

const TAKES: &[(&str, &str)] = &[("TE", "trailers"), ("Connection", "TE")];

/// An answer in two chunks with these trailers.
fn trailing(trailers: &str) -> Reply {
    Reply::raw(format!(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\n0\r\n\r\n\r\n0\r\n{trailers}\r\n"
    ))
}

fn pairs(fields: &[(String, String)]) -> Vec<String> {
    let lower = |(name, value): &(String, String)| format!("{}: {value}", name.to_lowercase());
    fields.iter().map(lower).collect()
}

fn trailers(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.status, answer.complete), (200, true));
    assert_eq!(answer.text(), "abc0\r\n\r\n");
    pairs(&answer.trailers)
}

/// Sends content in two chunks with these trailers.
fn send(client: &mut Client, head: &str, trailers: &str) -> Answer {
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n{head}\r\n3\r\nabc\r\n5\r\n0\r\n\r\n\r\n0\r\n{trailers}\r\n"
    ));
    client.answer()
}

fn sent(request: &Request) -> Vec<String> {
    assert!(request.complete);
    assert_eq!(request.body, b"abc0\r\n\r\n");
    pairs(&request.trailers)
}

#[test]
fn an_answers_trailers_reach_who_takes_them() {
    let origin = Origin::always(trailing("X-Sum: 12\r\nServer-Timing: db;dur=5\r\n"));
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    let expected = ["x-sum: 12", "server-timing: db;dur=5"];
    let mut client = Client::to(proxy.port);
    for _ in 0..3 {
        let answer = client.request("GET", "/", TAKES, b"");
        assert_eq!(trailers(&answer), expected);
        assert_eq!(answer.header("trailer"), Some("X-Sum"));
        assert_eq!(origin.last().header("te"), Some("trailers"));
        assert_eq!(origin.last().header("connection"), Some("TE"));
    }
    let mut http2 = Client2::to(proxy.port);
    for _ in 0..3 {
        let answer = http2.request("GET", "/", &[("te", "trailers")], b"");
        assert_eq!(trailers(&answer), expected);
    }
    // Each of two workers has used one again.
    let connections = |origin: &Origin| {
        let all = origin.requests();
        all.iter().map(|r| r.connection).max().map_or(0, |n| n + 1)
    };
    assert!(connections(&origin) <= 2, "{}", connections(&origin));
    // Who does not say so gets none, nor the promise.
    let answer = client.get("/");
    assert!(trailers(&answer).is_empty());
    assert_eq!(answer.header("trailer"), None);
    assert_eq!(origin.last().header("te"), None);
    assert!(trailers(&http2.get("/")).is_empty());
    // Nor does who knows no chunks.
    let mut old = Client::to(proxy.port);
    old.send("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n");
    assert!(trailers(&old.answer()).is_empty());
    // The connection serves on.
    assert_eq!(trailers(&client.request("GET", "/", TAKES, b"")), expected);
}

#[test]
fn what_decides_by_its_head_does_not_pass_as_a_trailer() {
    let origin = Origin::always(trailing(
        "Set-Cookie: a=b\r\nContent-Length: 3\r\nX-Sum: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n",
    ));
    let edits = "headers: { request: { set: { X-User: operator } } }";
    let proxy = Proxy::start(&one_route(&[origin.port], edits));
    let mut client = Client::to(proxy.port);
    let answer = client.request("GET", "/", TAKES, b"");
    assert_eq!(trailers(&answer), ["x-sum: 1"]);
    let claims = "X-Sum: 2\r\nX-User: me\r\nx_user: me\r\nX-Forwarded-For: 1.2.3.4\r\nAuthorization: a\r\nHost: b\r\n";
    send(&mut client, "Trailer: X-Sum\r\n", claims);
    assert_eq!(sent(&origin.last()), ["x-sum: 2"]);
    assert_eq!(origin.last().header("x-user"), Some("operator"));
}

#[test]
fn a_requests_trailers_reach_its_backend() {
    let origin = Origin::always(Reply::ok("thanks"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    for n in 0..3 {
        let fields = format!("X-Sum: {n}\r\nX-More:\r\n");
        assert_eq!(send(&mut client, "Trailer: X-Sum\r\n", &fields).status, 200);
        let seen = origin.last();
        assert_eq!(sent(&seen), [format!("x-sum: {n}"), "x-more: ".into()]);
        assert_eq!(seen.header("trailer"), Some("X-Sum"));
        assert_eq!(seen.connection, 0);
    }
    // What was announced may be missing.
    assert_eq!(send(&mut client, "Trailer: X-Sum\r\n", "").status, 200);
    assert!(sent(&origin.last()).is_empty());
    // What was not is left out.
    assert_eq!(send(&mut client, "", "X-Sum: 1\r\n").status, 200);
    assert!(sent(&origin.last()).is_empty());
    // Of requests sent ahead each has its own.
    let one = |n: u8| {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-N\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\n0\r\n\r\n\r\n0\r\nX-N: {n}\r\n\r\n"
        )
    };
    let before = origin.count();
    client.send(one(1) + &one(2) + &one(3));
    for n in 1..=3 {
        assert_eq!(client.answer().status, 200);
        assert_eq!(sent(&origin.request(before + n - 1)), [format!("x-n: {n}")]);
    }
}

#[test]
fn a_request_is_repeated_with_its_trailers() {
    let broken = Origin::always(Reply::status(503));
    let good = Origin::always(trailing("X-Sum: 12\r\n"));
    let ports = [broken.port, good.port];
    let rules = "retry: { tries: 2, methods: any }";
    let proxy = Proxy::start(&with_upstream(&one_route(&ports, rules), "eject: off"));
    let mut client = Client::to(proxy.port);
    let head = "Trailer: X-Sum\r\nTE: trailers\r\nConnection: TE\r\n";
    for n in 0..4 {
        let answer = send(&mut client, head, &format!("X-N: {n}\r\n"));
        assert_eq!(trailers(&answer), ["x-sum: 12"]);
        assert_eq!(sent(&good.last()), [format!("x-n: {n}")]);
    }
    assert!(broken.count() >= 2);
    for request in broken.requests() {
        assert_eq!(sent(&request).len(), 1);
    }
    until("both tries are in the log", || {
        let lines = proxy.log_lines();
        lines
            .iter()
            .any(|line| outcomes(line) == ["status 503", "ok"])
    });
}

#[test]
fn trailers_go_by_tls_and_from_http2_too() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["api.internal"]);
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let origin = Origin::always(trailing("X-Sum: 12\r\n"));
    let behind = Proxy::with()
        .listener(&pair.tls())
        .start(&one_route(&[origin.port], ""));
    let tls = format!("tls: {{ sni: api.internal, ca: {} }}", ca.display());
    let proxy = Proxy::start(&with_upstream(&one_route(&[behind.port], ""), &tls));
    let mut client = Client::to(proxy.port);
    let head = "Trailer: X-Sum\r\nTE: trailers\r\nConnection: TE\r\n";
    for _ in 0..2 {
        let answer = send(&mut client, head, "X-N: 1\r\n");
        assert_eq!(trailers(&answer), ["x-sum: 12"]);
        assert_eq!(sent(&origin.last()), ["x-n: 1"]);
    }
    let origin = Origin2::always(
        Reply2::ok("abc0\r\n\r\n").trailing(&[("x-sum", "12"), ("x-forwarded-for", "a")]),
    );
    let http2 = with_upstream(&one_route(&[origin.port], ""), "http2: true");
    let proxy = Proxy::start(&http2);
    let answer = request(proxy.port, "GET", "/", TAKES, b"");
    assert_eq!(trailers(&answer), ["x-sum: 12"]);
    assert_eq!(origin.last().header("te"), Some("trailers"));
    assert!(trailers(&request(proxy.port, "GET", "/", &[], b"")).is_empty());
}

#[test]
fn content_that_is_coded_or_kept_has_none() {
    let text = "a".repeat(5000);
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n{text}\r\n0\r\nX-Sum: 1\r\n\r\n"
    );
    let origin = Origin::always(Reply::raw(reply));
    for (rules, coding) in [
        ("compress: { codings: [gzip] }", "gzip"),
        ("cache: { ttl: 1m }", "identity"),
    ] {
        let proxy = Proxy::start(&one_route(&[origin.port], rules));
        let fields = [TAKES, &[("Accept-Encoding", coding)]].concat();
        for _ in 0..2 {
            let answer = request(proxy.port, "GET", "/", &fields, b"");
            assert!(answer.complete && answer.trailers.is_empty(), "{answer:?}");
        }
    }
}

#[test]
fn a_websocket_is_asked_for_as_ever() {
    let origin = Origin::always(Reply::websocket());
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, TE\r\nUpgrade: websocket\r\nTE: trailers\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 101);
    assert_eq!(origin.last().header("connection"), Some("Upgrade"));
    assert_eq!(origin.last().header("te"), None);
}

/// What Pingora takes for the end of a head is the end of it, however it is written.
#[test]
fn a_head_that_is_read_in_two_ways_ends_its_connection() {
    for head in [
        "HTTP/1.1 200 OK\nX: y\n\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    ] {
        let origin = Origin::new(move |request| match &*request.target {
            "/odd" => Reply::raw(head).closing(),
            _ => Reply::ok("plain"),
        });
        let proxy = Proxy::with()
            .key("workers", "1")
            .start(&one_route(&[origin.port], "retry: { tries: 1 }"));
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/odd", TAKES, b"");
        let odd = client.try_answer_to("GET");
        let mut client = Client::to(proxy.port);
        let answer = client.request("GET", "/plain", TAKES, b"");
        assert_eq!(answer.text(), "plain", "after {odd:?}");
        assert_eq!(origin.last().connection, 1);
    }
}

#[test]
fn trailers_of_a_failed_try_are_nobody_elses() {
    let broken = Origin::always(Reply::raw(
        "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: of a failure\r\n\r\n",
    ));
    let good = Origin::always(trailing(""));
    let ports = [broken.port, good.port];
    let rules = with_upstream(&one_route(&ports, "retry: { tries: 2 }"), "eject: off");
    let proxy = Proxy::start(&rules);
    for _ in 0..4 {
        let answer = request(proxy.port, "GET", "/", TAKES, b"");
        assert!(trailers(&answer).is_empty());
    }
    assert!(broken.count() >= 2);
}

#[test]
fn what_is_taken_out_of_heads_does_not_follow_content() {
    let origin = Origin::always(trailing("X-Internal: 1\r\nX_Internal: 2\r\nX-Sum: 3\r\n"));
    let edits = "headers: { response: { remove: [X-Internal] } }";
    let proxy = Proxy::start(&one_route(&[origin.port], edits));
    let answer = request(proxy.port, "GET", "/", TAKES, b"");
    assert_eq!(trailers(&answer), ["x-sum: 3"]);
}

/// What is not whole is not taken for whole, whoever follows it.
#[test]
fn an_answer_that_breaks_off_has_no_trailers() {
    let whole =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 12\r\n\r\n";
    let head = whole.len() - "3\r\nabc\r\n0\r\nX-Sum: 12\r\n\r\n".len();
    for cut in [head + 4, head + 8, head + 11, head + 20, whole.len() - 2] {
        let origin = Origin::always(Reply::raw(&whole[..cut]).closing());
        let proxy = Proxy::start(&one_route(&[origin.port], "retry: { tries: 1 }"));
        let answer = request(proxy.port, "GET", "/", TAKES, b"");
        assert!(!answer.complete && answer.trailers.is_empty(), "{cut}");
        until("it is in the log", || {
            let lines = proxy.log_lines();
            lines.iter().any(|line| outcomes(line) != ["ok"])
        });
    }
}
