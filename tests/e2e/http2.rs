//! What a client may do with a connection of HTTP/2, and what it comes to over HTTP/1.

use crate::client::Client;
use crate::client_tls::Authority;
use crate::client2::Client2;
use crate::harness::{PATIENCE, PHASES, Proxy, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn cookies_in_pieces_are_one_field_again() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::with().http2().start(&one_route(
        &[origin.port],
        "cache: { ttl: 1m, per: [{ cookie: b }] }",
    ));
    let mut client = Client2::to(proxy.port);
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")];
    assert_eq!(client.request("GET", "/", &crumbs, b"").status, 200);
    assert_eq!(origin.last().all("cookie"), ["a=1; b=2; c=3; d=4"]);
}

#[test]
fn a_connection_that_does_not_begin_is_closed() {
    let origin = Origin::always(Reply::ok(""));
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let pair = authority.sign(dir.path(), "a", &["example.com"]);
    let proxy = Proxy::with()
        .http2()
        .listener(&pair.tls())
        .key("clients", "{ head_timeout: 500ms }")
        .start(&one_route(&[origin.port], ""));
    // HTTP/2 is agreed on, and then there is nothing of it.
    let tls = authority.client().offering(&["h2"]);
    let mut client = tls.to(proxy.port, "example.com").unwrap();
    assert_eq!(client.protocol().as_deref(), Some("h2"));
    let began = Instant::now();
    client.wait_for_close();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn each_answer_has_one_date_and_that_of_who_made_it_if_that_is_one() {
    const GOOD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let origin = Origin::new(|r| {
        let dates = match r.target.as_str() {
            "/good" => format!("Date: {GOOD}\r\n"),
            "/twice" => format!("Date: {GOOD}\r\nDate: {GOOD}\r\n"),
            "/bad" => "Date: 0\r\n".into(),
            _ => String::new(),
        };
        Reply::raw(format!(
            "HTTP/1.1 200 OK\r\n{dates}Content-Length: 1\r\n\r\nx"
        ))
    });
    for route in ["", "compress: true", PHASES, "cache: { ttl: 1h }"] {
        let proxy = Proxy::with()
            .http2()
            .start(&one_route(&[origin.port], route));
        let mut client = Client2::to(proxy.port);
        for path in ["/good", "/twice", "/bad", "/none"] {
            // And once more, from the store where there is one.
            for _ in 0..2 {
                let answer = client.get(path);
                let dates = answer.headers.iter().filter(|(name, _)| name == "date");
                let dates: Vec<&str> = dates.map(|(_, date)| date.as_str()).collect();
                assert_eq!(dates.len(), 1, "{route} {path}");
                assert_eq!(dates == [GOOD], path == "/good", "{route} {path} {dates:?}");
                assert!(httpdate::parse_http_date(dates[0]).is_ok(), "{dates:?}");
            }
        }
    }
}

#[test]
fn who_waits_to_be_told_to_go_on_is_told() {
    let origin = Origin::new(|r| Reply::ok(r.body.len().to_string()));
    // Its content is read before anything is decided.
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], "retry: { max_body: 1MiB }"));
    let mut client = Client2::to(proxy.port);
    let fields = [("expect", "100-continue"), ("content-length", "100000")];
    let mut stream = client.begin("PUT", "/", &fields, false);
    assert_eq!(client.told(&mut stream), 100);
    client.send(&mut stream, &[b'x'; 100_000], true);
    let answer = client.answer(stream);
    assert_eq!((answer.status, answer.text().as_str()), (200, "100000"));
}

/// A connection that ends for what came on it is told from one whose client left.
#[test]
fn what_is_no_http2_is_in_the_log() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    // Data of no stream.
    let data = b"\0\0\x01\0\0\0\0\0\0a";
    let mut left = Client::to(proxy.port);
    left.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], settings].concat());
    drop(left);
    let mut odd = Client::to(proxy.port);
    odd.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], settings, data].concat());
    let malformed = || {
        let lines = proxy.log_lines();
        lines.iter().filter(|l| l["refused"] == "malformed").count()
    };
    until("it is in the log", || malformed() > 0);
    assert_eq!(malformed(), 1);
}

/// As one of HTTP/1 may: from its first byte on, whatever other streams do.
#[test]
fn a_head_may_take_no_longer_than_it_may() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::with()
        .http2()
        .key("clients", "{ head_timeout: 500ms }")
        .start(&one_route(&[origin.port], ""));
    let mut idle = Client2::to(proxy.port);
    assert_eq!(idle.get("/").status, 200);
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    // A head whose end is in a frame that does not come, and one whose frame does not end.
    for part in [
        &b"\0\0\x01\x01\x01\0\0\0\x01\x82"[..],
        b"\0\0\x09\x01\x05\0\0\0\x01\x82",
    ] {
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let begin = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], settings, part];
        client.write_all(&begin.concat()).unwrap();
        let began = Instant::now();
        // Closed in one way or the other.
        let _ = client.read_to_end(&mut Vec::new());
        let took = began.elapsed();
        assert!((400..5000).contains(&took.as_millis()), "{took:?}");
    }
    // Between two of them there is no such haste.
    assert_eq!(idle.get("/").status, 200);
}

#[test]
fn a_connection_serves_so_many_requests_and_says_when_it_ends() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::with()
        .http2()
        .key("clients", "{ keepalive_requests: 3 }")
        .start(&one_route(&[origin.port], ""));
    let mut client = Client2::to(proxy.port);
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    until("the connection is closed", || client.is_closed());
    assert_eq!(origin.count(), 3);
}

#[test]
fn streams_that_are_reset_do_not_pile_up() {
    // What is asked before a request may pass takes its time, whether the client still waits or not.
    let service = Origin::always(Reply::hang());
    let origin = Origin::always(Reply::ok(""));
    let auth = "auth: { forward: { upstream: login, path: /, timeout: 20s } }";
    let yaml = one_route(&[origin.port], auth);
    let login = format!(
        "upstreams:\n  login: {{ eject: off, backends: [127.0.0.1:{}] }}\n",
        service.port
    );
    let yaml = yaml.replacen("upstreams:\n", &login, 1);
    let proxy = Proxy::with()
        .http2()
        .key("clients", "{ max_streams: 8 }")
        .start(&yaml);
    let mut client = Client2::to(proxy.port);
    let mut sent = 0;
    while let Some(stream) = client.try_begin("/").filter(|_| sent < 200) {
        until("it is asked about", || {
            service.count() > sent || client.is_closed()
        });
        client.cancel(stream);
        sent += 1;
    }
    until("the connection is closed", || client.is_closed());
    assert!(sent < 200, "{sent}");
    assert!(service.count() <= 17, "{}", service.count());
    until("it is logged", || {
        let lines = proxy.log_lines();
        lines.iter().any(|l| l["refused"] == "too_many_resets")
    });
    // Who comes on another connection is heard.
    assert!(Client2::to(proxy.port).try_begin("/").is_some());
}
