//! Requests inside of requests: whatever a client sends, the backend never sees a request that the proxy did not.
//!
//! Each case is sent with a second request in its body, or after it, that only somebody who reads the first one otherwise than
//! the proxy would take for a request of its own.

use crate::client::{Client, get};
use crate::client2::Client2;
use crate::harness::{Proxy, eventually, one_route, outcomes, until};
use crate::origin::Origin;
use crate::program::Nginx;
use crate::reply::Reply;

const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers that could be read in more than one way, and what else could end up in the next one.
#[test]
fn no_answer_gets_into_another() {
    let next = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let length = "Content-Length: 5\r\n";
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    let coding = "Transfer-Encoding: chunked\r\n";
    let cases = [
        // The first line, fields, content, and what clients get of it.
        (
            "1.1 200",
            length.to_string(),
            "hello".to_string(),
            Some("hello"),
        ),
        ("1.1 200", coding.into(), chunked.into(), Some("hello")),
        (
            "1.1 200",
            length.into(),
            format!("hello{next}"),
            Some("hello"),
        ),
        (
            "1.1 200",
            coding.into(),
            format!("{chunked}{next}"),
            Some("hello"),
        ),
        ("1.1 204", String::new(), next.into(), Some("")),
        ("1.1 204", length.into(), "hello".into(), Some("")),
        ("1.1 204", coding.into(), chunked.into(), Some("")),
        ("1.1 200", format!("{length}{length}"), "hello".into(), None),
        (
            "1.1 200",
            format!("{length}Content-Length: 7\r\n"),
            "hello!!".into(),
            None,
        ),
        (
            "1.1 200",
            "Content-Length: 5, 5\r\n".into(),
            "hello".into(),
            None,
        ),
        (
            "1.1 200",
            "Content-Length: +5\r\n".into(),
            "hello".into(),
            None,
        ),
        (
            "1.1 200",
            "Content-Length: -5\r\n".into(),
            "hello".into(),
            None,
        ),
        (
            "1.1 200",
            "Content-Length: 0x5\r\n".into(),
            "hello".into(),
            None,
        ),
        ("1.1 200", format!("{coding}{coding}"), chunked.into(), None),
        (
            "1.1 200",
            "Transfer-Encoding: gzip, chunked\r\n".into(),
            chunked.into(),
            None,
        ),
        (
            "1.1 200",
            "Transfer-Encoding: identity\r\n".into(),
            "hello".into(),
            None,
        ),
        (
            "1.1 200",
            "Transfer-Encoding: xchunked\r\n".into(),
            chunked.into(),
            None,
        ),
        ("1.0 200", coding.into(), chunked.into(), None),
        (
            "1.1 200",
            format!("X: a\rSet-Cookie: b\r\n{length}"),
            "hello".into(),
            None,
        ),
        (
            "1.1 200",
            format!("X: a\0b\r\n{length}"),
            "hello".into(),
            None,
        ),
        ("2.0 200", length.into(), "hello".into(), None),
        // Made anew for the client: of the coding beside a length, in one line, with both bytes at its end.
        (
            "1.1 200",
            format!("Content-Length: 3\r\n{coding}"),
            chunked.into(),
            Some("hello"),
        ),
        (
            "1.1 200",
            format!("{coding}Content-Length: 100\r\n"),
            format!("{chunked}{next}"),
            Some("hello"),
        ),
        (
            "1.1 200",
            format!("X: a\r\n Set-Cookie: b\r\n{length}"),
            "hello".into(),
            Some("hello"),
        ),
        (
            "1.1 200",
            format!("X: a\nY: b\n{length}"),
            "hello".into(),
            Some("hello"),
        ),
        // Nobody asked to switch: what follows is not for the client as it is.
        ("1.1 101", String::new(), next.into(), None),
        (
            "1.1 101",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n".into(),
            next.into(),
            None,
        ),
        ("1.1 99", length.into(), "hello".into(), None),
        ("1.1 1000", length.into(), "hello".into(), None),
    ];
    let origin = Origin::always(Reply::ok(""));
    let rules = "retry: { tries: 2, wait: 1ms }\ncache: off";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    for (line, fields, content, expected) in cases {
        let raw = format!("HTTP/{line} OK\r\n{fields}\r\n{content}");
        origin.set(move |r| match &*r.target {
            "/case" => Reply::raw(&raw),
            _ => Reply::ok("fine"),
        });
        let mut client = Client::to(proxy.port);
        let answer = client.get("/case");
        match expected {
            Some(text) => {
                assert_eq!(answer.text(), text, "{line} {fields:?}");
                assert!(answer.all("set-cookie").is_empty(), "{answer:?}");
                let is_one_line = |(_, value): &(String, String)| !value.contains(['\r', '\n']);
                assert!(answer.headers.iter().all(is_one_line), "{answer:?}");
                let lengths = answer.all("content-length").len();
                let codings = answer.all("transfer-encoding").len();
                assert!(
                    lengths + codings <= 1,
                    "{line} {fields:?}: {:?}",
                    answer.headers
                );
                assert!(answer.status == 200 || lengths + codings == 0, "{fields:?}");
            }
            None => assert_eq!(answer.status, 502, "{line} {fields:?}"),
        }
        for _ in 0..2 {
            assert_eq!(
                client.get("/next").text(),
                "fine",
                "after {line} {fields:?}"
            );
        }
    }
    // A second try may find a better one.
    let torn = origin.count();
    origin.set(move |r| match r.number - torn {
        0 => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"),
        _ => Reply::ok("better"),
    });
    assert_eq!(get(proxy.port, "/again").text(), "better");
    assert_eq!(outcomes(&proxy.logged("/again")), ["reset", "ok"]);
}

/// The framings of a request: what stands between its first line and its body, and the body.
fn cases() -> Vec<(String, String)> {
    let hidden_chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let ends_early = format!("0\r\n\r\n{HIDDEN}");
    let codings = [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: \x0bchunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
        "TrAnSfEr-EnCoDiNg: ChUnKeD",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding: chunked\x00",
    ];
    let lengths = [
        "",
        "Content-Length: 0",
        "Content-Length: 5",
        "Content-Length: 6\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 ",
        "Content-Length : 5",
        "Content-Length: 05",
        "Content-Length: 5\x0b",
        "Content-Length:",
    ];
    let mut all = Vec::new();
    for coding in codings {
        for length in lengths {
            for body in [&hidden_chunk, &ends_early] {
                let fields = [length, coding].into_iter().filter(|f| !f.is_empty());
                all.push((fields.collect::<Vec<_>>().join("\r\n"), body.clone()));
            }
        }
    }
    for length in &lengths[1..] {
        all.push(((*length).to_string(), HIDDEN.to_string()));
    }
    let chunks = [
        "5;ext=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\n0\n\n",
        "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;\n4\r\nhello\r\n0\r\n\r\n",
        "5;\x01\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0;\n\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n\r\n",
        "5\r\nhello\r\n0\r\nrubbish\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: \x00\r\n\r\n",
        "5\r\nhello\r\n0\r\n\rX: y\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n",
    ];
    for chunk in chunks {
        all.push((
            "Transfer-Encoding: chunked".to_string(),
            format!("{chunk}{HIDDEN}"),
        ));
    }
    all
}

/// Sends all cases, and has `seen` tell how often the backend was asked for a target.
fn try_all(proxy: &Proxy, seen: impl Fn(&str) -> usize) {
    let cases = cases();
    assert!(cases.len() > 600, "{}", cases.len());
    let mut refused = 0;
    for (n, (fields, body)) in cases.iter().enumerate() {
        let mut client = Client::to(proxy.port);
        client.send(format!(
            "POST /{n} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}"
        ));
        // What follows in clear after a whole request is a request of the client's own; the proxy knows of it, then.
        let status = client
            .try_answer_to("POST")
            .map_or(0, |answer| answer.status);
        assert!(
            matches!(status, 200 | 400 | 408 | 502),
            "{fields:?}: {status}"
        );
        refused += usize::from(status == 400);
    }
    assert!(refused > 400, "{refused} of {}", cases.len());
    // All that the backend was asked, the proxy was asked: every one of them has its own line, which is written a little later.
    let known = |target: &str| {
        let lines = proxy.log_lines();
        let logged = lines
            .iter()
            .filter(|l| l["url.path"] == target && l["tries"] != serde_json::json!([]));
        let (seen, logged) = (seen(target), logged.count());
        (seen <= logged).then_some(seen)
    };
    let hidden = eventually("the proxy knows of all that the backend saw", || {
        known("/smuggled")
    });
    assert!(hidden > 0, "some are the client's own");
    for n in 0..cases.len() {
        eventually("the same for each", || known(&format!("/{n}")));
    }
}

#[test]
fn no_request_of_http1_hides_another() {
    let origin = Origin::new(|r| Reply::ok(&r.target));
    let yaml = one_route(&[origin.port], "require: { max_body: 1MiB }");
    let proxy = Proxy::start(&yaml);
    try_all(&proxy, |target| {
        let all = origin.requests().into_iter();
        { all }.filter(|r| r.target == target).count()
    });
    for request in origin.requests() {
        let one_way = request.all("transfer-encoding").len() + request.all("content-length").len();
        assert!(one_way <= 1, "{:?}", request.headers);
    }
}

/// nginx reads framings in its own way.
#[test]
fn nor_does_one_from_nginx() {
    let Some(nginx) = Nginx::start("$request_uri") else {
        return;
    };
    let port = nginx.port;
    let yaml = one_route(&[port], "require: { max_body: 1MiB }");
    let proxy = Proxy::start(&yaml);
    try_all(&proxy, |target| {
        let log = nginx.log();
        log.lines().filter(|line| *line == target).count()
    });
}

#[test]
fn a_switch_is_to_what_was_asked_for() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { tries: 1 }"));
    for (to, status) in [("WebSocket", 101), ("h2c", 502), ("", 502)] {
        origin.set(move |_| {
            Reply::raw(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n"
            ))
        });
        let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
        let answer = Client::to(proxy.port).request("GET", "/", &fields, b"");
        assert_eq!(answer.status, status, "{to:?}");
    }
}

#[test]
fn what_is_not_coded_as_it_should_be_gets_400_and_a_line() {
    let origin = Origin::new(|r| Reply::ok(&r.target));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let coded = "0x5\r\nhello\r\n0\r\n\r\n|+5\r\nhello\r\n0\r\n\r\n|5\r\nhelloXX0\r\n\r\n|ffffffffffffffff1\r\nhello\r\n0\r\n\r\n";
    for (n, coded) in coded.split('|').enumerate() {
        let mut client = Client::to(proxy.port);
        client.send(format!(
            "POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{coded}"
        ));
        assert_eq!(client.answer_to("POST").status, 400, "{coded:?}");
        client.expect_close();
        let line = proxy.logged(&format!("/{n}"));
        let said = (&line["refused"], &line["http.response.status_code"]);
        assert_eq!(said, (&"chunk".into(), &400.into()), "{coded:?}");
    }
}

/// What cannot be read, or could be read in two ways, is in the log with the reason: whether it comes by itself, after a request
/// that is as it should be, or in two parts.
#[test]
fn the_log_says_what_was_wrong() {
    let origin = Origin::new(|r| Reply::ok(&r.target));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let coded = "Transfer-Encoding: chunked\r\n\r\n";
    let cases = [
        (
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_string(),
            "request_line",
        ),
        (
            "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            "request_line",
        ),
        ("GET / HTTP/3.1\r\nHost: a\r\n\r\n".into(), "request_line"),
        ("\x16\x03\x01\x02\0\r\n\r\n".into(), "request_line"),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n".into(), "bare_line_end"),
        (
            "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n".into(),
            "bare_line_end",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n".into(),
            "folded_line",
        ),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".into(), "field_name"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n".into(),
            "control_byte",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n".into(),
            "two_hosts",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n".into(),
            "content_length",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n".into(),
            "transfer_coding",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n{coded}"),
            "length_and_coding",
        ),
        (
            format!("PUT / HTTP/1.1\r\nHost: a\r\n{coded}3;\x01\r\nabc\r\n0\r\n\r\n"),
            "chunk",
        ),
        (
            format!("PUT / HTTP/1.1\r\nHost: a\r\n{coded}3\r\nabc\r\n0\r\nX: \x01\r\n\r\n"),
            "control_byte",
        ),
        ("GET / HTTP/1.1\r\n\r\n".into(), "target"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(), "target"),
    ];
    let reasons = || {
        let lines = proxy.log_lines().into_iter();
        let refused = lines.filter(|line| line["http.response.status_code"] == 400);
        let words = refused.map(|line| line["refused"].as_str().unwrap_or_default().to_string());
        words.collect::<Vec<_>>()
    };
    let mut said = 0;
    for (bytes, word) in &cases {
        let head = bytes.find("\r\n").unwrap() + 1;
        let whole = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
        for (before, cut) in [("", 0), (whole, 0), ("", head), (whole, bytes.len() - 3)] {
            let mut client = Client::to(proxy.port);
            let (one, two) = bytes.split_at(cut);
            client.send(format!("{before}{one}"));
            if !before.is_empty() {
                assert_eq!(client.answer().text(), "/first", "{bytes:?}");
            }
            // It may have been refused already.
            let _ = client.try_send(two);
            assert_eq!(client.answer().status, 400, "{bytes:?}");
            if *word != "target" {
                // It is known where that one ends.
                client.expect_close();
            }
            said += 1;
            until("it is in the log", || reasons().len() == said);
            assert_eq!(reasons().last().unwrap(), word, "{bytes:?} cut at {cut}");
        }
    }
    // All that came to the origin is what was as it should be, and tries that were broken off.
    let seen = origin.requests().into_iter();
    assert!({ seen }.all(|r| r.target == "/first" || r.method == "PUT"));
}

/// A client that is still sending learns why nobody listens any more: its connection is not reset before.
#[test]
fn what_turns_bad_in_the_midst_of_an_upload_gets_its_answer() {
    let origin = Origin::new(|r| Reply::ok(&r.target));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
    for (bad, word) in [("0x5\r\n", "chunk"), ("0\r\nX : y\r\n", "field_name")] {
        let mut client = Client::to(proxy.port);
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{}{bad}", chunk.repeat(5)));
        for _ in 0..100 {
            client.send(&chunk);
        }
        assert_eq!(client.answer_to("PUT").status, 400);
        client.expect_close();
        let said = || {
            let lines = proxy.log_lines();
            lines.iter().any(|line| line["refused"] == word)
        };
        until("it is in the log", said);
    }
}

/// Whoever answers without the content does not know where it ends either.
#[test]
fn nothing_follows_content_that_is_none() {
    let proxy = Proxy::start(
        "routes:\n  - { match: { path: /fixed }, respond: { status: 200 } }\n  - { match: { path: /get, methods: [GET] }, respond: { status: 200 } }\n",
    );
    for (path, status) in [("/fixed", 200), ("/get", 405), ("/none", 404)] {
        let mut client = Client::to(proxy.port);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert_eq!(client.answer_to("POST").status, status);
        client.send("0x5\r\n");
        // The connection may be closed by now.
        let _ = client.try_send("GET /fixed/smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.try_answer_to("GET").is_err(), "{path}");
    }
}

#[test]
fn a_length_beside_a_coding_is_refused() {
    let origin = Origin::new(|r| Reply::ok(&r.target));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\ncontent-length: 5",
    ] {
        let mut client = Client::to(proxy.port);
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n"
        ));
        assert_eq!(client.answer_to("POST").status, 400);
        client.expect_close();
    }
    assert_eq!(proxy.logged("/")["refused"], "length_and_coding");
    assert_eq!(origin.count(), 0);
}

#[test]
fn two_hosts_are_one_too_many() {
    let origin = Origin::new(|r| Reply::ok(&r.target));
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    client.send("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    let mut client = Client2::to(proxy.port);
    assert_eq!(
        client
            .request("GET", "/same", &[("host", "example.com")], b"")
            .status,
        200
    );
    assert_eq!(
        client
            .request("GET", "/other", &[("host", "elsewhere")], b"")
            .status,
        400
    );
    assert_eq!(origin.count(), 1);
}
