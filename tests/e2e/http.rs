//! The protocol itself: persistence, framing, upgrades, versions, and requests made to confuse.

use crate::client::{Client, get};
use crate::client2::Client2;
use crate::harness::{PHASES, Proxy, one_route, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply, Step};
use std::time::Duration;

/// A backend that answers with the request's target.
fn echo() -> Origin {
    Origin::new(|r| Reply::ok(&r.target))
}

#[test]
fn a_connection_serves_many_requests() {
    let origin = echo();
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    for n in 0..200 {
        assert_eq!(client.get(&format!("/{n}")).text(), format!("/{n}"));
    }
    client.begin("GET", "/last", &[("Connection", "close")], b"");
    assert_eq!(client.answer().text(), "/last");
    client.expect_close();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = echo();
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    let mut all = Vec::new();
    for n in 0..10 {
        let body = "x".repeat(n);
        all.extend(
            format!("PUT /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{body}").bytes(),
        );
    }
    client.send(&all);
    for n in 0..10 {
        assert_eq!(client.answer().text(), format!("/{n}"));
    }
    let bodies: Vec<usize> = origin.requests().iter().map(|r| r.body.len()).collect();
    assert_eq!(bodies, (0..10).collect::<Vec<_>>());
}

#[test]
fn head_has_the_length_and_no_body() {
    let origin = Origin::always(Reply::ok("twelve bytes"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    let head = client.request("HEAD", "/", &[], b"");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("12"))
    );
    assert_eq!(origin.last().method, "HEAD");
    assert_eq!(client.get("/").text(), "twelve bytes");
}

#[test]
fn every_framing_of_a_response_comes_through_whole() {
    let long: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let body = long.clone();
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/length" => Reply::ok(&body),
        "/chunks" => Reply::chunked(200, &[], &body.chunks(7_777).collect::<Vec<_>>()),
        "/close" => Reply::raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            .then(Reply::raw(&body))
            .closing(),
        "/old" => Reply::raw("HTTP/1.0 200 OK\r\n\r\n")
            .then(Reply::raw(&body))
            .closing(),
        "/204" => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n"),
        _ => Reply::ok(""),
    });
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    let mut client2 = Client2::to(proxy.port);
    for (path, status, size) in [
        ("/length", 200, long.len()),
        ("/chunks", 200, long.len()),
        ("/204", 204, 0),
        ("/304", 304, 0),
        ("/empty", 200, 0),
        ("/close", 200, long.len()),
        ("/old", 200, long.len()),
    ] {
        let two = client2.get(path);
        assert_eq!(
            (two.status, two.body.len(), two.complete),
            (status, size, true),
            "{path} h2"
        );
        let one = client.get(path);
        assert_eq!(
            (one.status, one.body.len(), one.complete),
            (status, size, true),
            "{path}"
        );
        assert!(
            size == 0 || (one.body == long && two.body == long),
            "{path} differs"
        );
        if path == "/close" || path == "/old" {
            client = Client::to(proxy.port);
        }
    }
}

#[test]
fn interim_responses_do_not_confuse_anyone() {
    let origin = Origin::new(|_| {
        Reply::raw("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").then(Reply::ok("final"))
    });
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "final");
    }
    assert_eq!(Client2::to(proxy.port).get("/").text(), "final");
}

#[test]
fn a_websocket_is_passed_through_both_ways() {
    let origin = Origin::always(Reply::websocket());
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    let headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    client.begin("GET", "/socket", &headers, b"");
    let answer = client.answer();
    assert_eq!(answer.status, 101);
    assert!(
        answer
            .header("upgrade")
            .is_some_and(|u| u.eq_ignore_ascii_case("websocket"))
    );
    for message in [&b"\x81\x05hello"[..], &[0, 255, 13, 10], &[7; 50_000]] {
        client.send(message);
        assert_eq!(client.read(message.len()), message);
    }
    client.leave();
    assert_eq!(proxy.logged("/socket")["http.response.status_code"], 101);
}

#[test]
fn http2_carries_many_requests_at_once() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::new(move |r| Reply::ok(&r.target).when(&held));
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    let mut client = Client2::to(proxy.port);
    let streams: Vec<_> = (0..20)
        .map(|n| client.begin("GET", &format!("/{n}"), &[], true))
        .collect();
    origin.request(19);
    gate.open();
    for (n, stream) in streams.into_iter().enumerate() {
        assert_eq!(client.answer(stream).text(), format!("/{n}"));
    }
}

#[test]
fn an_http2_body_that_ends_in_an_empty_frame_keeps_the_backend_in_step() {
    let origin = echo();
    let proxy = Proxy::with()
        .http2()
        .key("workers", "1")
        .start(&one_route(&[origin.port], ""));
    let mut client = Client2::to(proxy.port);
    for n in 0..5 {
        let mut stream = client.begin("POST", &format!("/{n}"), &[], false);
        client.send(&mut stream, b"some", false);
        client.send(&mut stream, b"", true);
        assert_eq!(client.answer(stream).text(), format!("/{n}"));
        assert_eq!(origin.last().body, b"some");
    }
    assert!(
        origin.requests().iter().all(|r| r.method == "POST"),
        "{:?}",
        origin.requests()
    );
}

#[test]
fn http1_works_on_a_listener_that_also_speaks_http2() {
    let origin = echo();
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    assert_eq!(get(proxy.port, "/a").text(), "/a");
    // Shorter than HTTP/2's preface.
    let mut client = Client::to(proxy.port);
    client.send("GET / HTTP/1.0\r\n\r\n");
    let answer = client.answer();
    assert!(answer.first_line.starts_with("HTTP/1."), "{answer:?}");
    assert!(answer.status == 200 || answer.status == 400, "{answer:?}");
    client.expect_close();
}

#[test]
fn http_1_0_gets_an_answer_it_can_read() {
    let origin = Origin::always(Reply::chunked(200, &[], &[b"one ", b"two"]));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "one two"));
    assert_eq!(
        answer.header("transfer-encoding"),
        None,
        "HTTP/1.0 knows no chunks"
    );
    client.expect_close();
}

#[test]
fn absolute_targets_are_routed_by_their_host() {
    let origin = echo();
    let yaml = format!(
        "upstreams: {{ pool: {{ backends: [127.0.0.1:{}] }} }}
routes:
  - {{ match: {{ host: right.example }}, upstream: pool }}
",
        origin.port
    );
    let proxy = Proxy::start(&yaml);
    let mut client = Client::to(proxy.port);
    client.send("GET http://right.example/a?b HTTP/1.1\r\nHost: right.example\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert_eq!(origin.last().target, "/a?b");
}

#[test]
fn ambiguous_framing_smuggles_nothing() {
    let origin = echo();
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    for head in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\nContent-Length: 0\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked, identity\r\nContent-Length: 5\r\n",
        "Content-Length: +5\r\n",
    ] {
        let mut client = Client::to(proxy.port);
        client.send(format!(
            "POST /outer HTTP/1.1\r\nHost: a\r\n{head}\r\n0\r\n\r\nG"
        ));
        // With another reading of the head, this would be the rest of a request for /smuggled.
        let _ = client.try_send("ET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        for _ in 0..3 {
            if client.try_answer_to("GET").is_err() {
                break;
            }
        }
        let bodies: Vec<_> = origin.requests();
        assert!(
            bodies.iter().all(|r| r.target != "/smuggled"),
            "{head:?} let it through"
        );
    }
    assert_eq!(get(proxy.port, "/after").text(), "/after");
}

#[test]
fn what_is_not_http_is_refused_and_harms_nobody() {
    let origin = echo();
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost a\r\n\r\n",
        b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    ] {
        let mut client = Client::to(proxy.port);
        client.send(bytes);
        if let Ok(answer) = client.try_answer_to("GET") {
            assert!(
                (400..600).contains(&answer.status),
                "{:?}: {answer:?}",
                bytes.escape_ascii()
            );
        }
    }
    assert_eq!(get(proxy.port, "/after").text(), "/after");
}

/// nginx refuses them too; a parser that escapes them would make another target of them.
#[test]
fn a_target_has_neither_control_bytes_nor_spaces() {
    let origin = echo();
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    for target in ["/a\x01", "/a\x7f", "/a\tb", "/a b", "/?a=\x1fb", "/ "] {
        let mut client = Client::to(proxy.port);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.answer().status, 400, "{target:?}");
        client.expect_close();
    }
    assert_eq!(proxy.logged("/a%01")["refused"], "request_line");
    // A request whose beginning came with the one before it has spaces where they belong.
    let mut client = Client::to(proxy.port);
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nUser-Agent: Moz");
    assert_eq!(client.answer().text(), "/1");
    client.send("illa/5.0 (X11; Linux x86_64)\tGecko\r\n\r\n");
    assert_eq!(client.answer().text(), "/2");
    // On a connection that served before, in pieces, after an empty line.
    let mut client = Client::to(proxy.port);
    for target in ["/a%01", "/a?b=%0A%7F", "/\"{}|^", "/%20"] {
        client.send("\r\nGET ");
        client.send(format!("{target} HTTP/1.1\r\nHost: a\r\nX: a b c\r\n\r\n"));
        assert_eq!(client.answer().status, 200, "{target:?}");
    }
    client.send("GET /\x0b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    let last = origin.requests().pop().map(|request| request.target);
    assert_eq!(last.as_deref(), Some("/%20"));
}

/// On the straight way as through the phases.
#[test]
fn a_target_that_is_no_text_is_made_one() {
    let origin = echo();
    for rules in ["", "compress: true", PHASES, "cache: { ttl: 1m }"] {
        let proxy = Proxy::start(&one_route(&[origin.port], rules));
        let mut client = Client::to(proxy.port);
        for _ in 0..2 {
            client.send(b"GET /caf\xe9?\xff HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.answer().text(), "/caf%E9?%FF", "{rules}");
        }
    }
}

/// The next one begins with its first byte, whatever is known of the socket: what was refused was read to its last byte, and
/// no further.
#[test]
fn the_time_between_two_requests_belongs_to_neither() {
    let origin = echo();
    let proxy = Proxy::start(&one_route(&[origin.port], "require: { json: any }"));
    let mut client = Client::to(proxy.port);
    client.send("POST /no HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n");
    let part = Duration::from_millis(200);
    assert!(client.is_silent_for(part));
    client.send("{,");
    assert_eq!(client.answer().status, 400);
    // An empty line is not the beginning of one either.
    client.send("\r\n");
    assert!(client.is_silent_for(part));
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "/next");
    let line = proxy.logged("/next");
    let ms = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{line}"));
    assert!(ms("idle_ms") >= 190.0, "{line}");
    assert!(ms("duration_ms") < ms("idle_ms"), "{line}");
}

/// Whoever has said all that it will say still gets what it asked for.
#[test]
fn the_end_of_what_is_sent_ahead_ends_no_request_before_it() {
    for rules in ["", "compress: true", PHASES] {
        let gate = Gate::default();
        let opened = gate.clone();
        let origin = Origin::new(move |r| {
            let Reply(mut steps) = Reply::ok(&r.target);
            if r.target == "/1" {
                steps.insert(0, Step::Wait(opened.clone()));
            }
            Reply(steps)
        });
        let proxy = Proxy::start(&one_route(&[origin.port], rules));
        let mut client = Client::to(proxy.port);
        let one = |n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(format!("{}{}GET /3", one(1), one(2)));
        client.say_no_more();
        until("it is asked for", || origin.count() == 1);
        gate.open();
        assert_eq!(client.answer().text(), "/1", "{rules}");
        assert_eq!(client.answer().text(), "/2", "{rules}");
        client.expect_close();
    }
}

#[test]
fn large_heads_pass() {
    let value = "v".repeat(16_000);
    let headers = [("X-Large", value.as_str())];
    let origin = Origin::always(Reply::answer(200, &headers, b"fine"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let answer = Client::to(proxy.port).request("GET", "/", &headers, b"");
    assert_eq!(
        (answer.status, answer.header("x-large")),
        (200, Some(value.as_str()))
    );
    assert_eq!(origin.last().header("x-large"), Some(value.as_str()));
}
