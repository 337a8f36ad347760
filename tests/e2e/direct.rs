//! Plain requests, which go to a backend on a connection of the worker's own: what is sent, what comes back, what is kept.

use crate::admin::with_admin;
use crate::client::{Client, get};
use crate::client_tls::Authority;
use crate::client2::Client2;
use crate::concurrency::until_queued;
use crate::harness::{PHASES, Proxy, never_ejecting, one_route, outcomes, until, with_upstream};
use crate::origin::Origin;
use crate::reply::{Gate, Reply, Step};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What `Connection` names goes no further (RFC 9110 §7.6.1): such a request is not plain, and loses it.
#[test]
fn what_concerns_one_connection_goes_no_further() {
    let origin = Origin::always(Reply::ok("x"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    let fields = [
        ("Connection", "x-hop, via"),
        ("X-Hop", "1"),
        ("Via", "1.0 a"),
        ("Keep-Alive", "5"),
    ];
    assert_eq!(client.request("GET", "/", &fields, b"").status, 200);
    let sent = origin.last();
    assert_eq!(sent.header("via"), Some("1.1 backstop"));
    for name in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(sent.header(name), None, "{name}");
    }
}

#[test]
fn content_arrives_as_it_was_however_it_is_told_where_it_ends() {
    let large: String = (0..40_000).map(|n| format!("{n:08}")).collect();
    let whole = large.clone();
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/length" => Reply::ok(&whole),
        "/chunks" => {
            let chunks: Vec<_> = whole.as_bytes().chunks(777).collect();
            Reply::chunked(200, &[], &chunks)
        }
        "/odd" => Reply::raw(
            "HTTP/1.1 200 Just So\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nx-a: 2\r\n\r\n5;a=b\r\nhello\r\n05 \r\n, you\r\n0\r\nX-Sum: 1\r\n\r\n",
        ),
        "/closed" => Reply(vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n".to_vec()),
            Step::Send(whole.clone().into_bytes()),
            Step::Close,
        ]),
        "/old" => {
            Reply::raw("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nold")
        }
        "/none" => Reply::answer(200, &[], b""),
        "/204" => Reply::raw("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        "/304" => {
            Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 9\r\n\r\n")
        }
        _ => Reply::status(404),
    });
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    let mut http2 = Client2::to(proxy.port);
    for _ in 0..2 {
        for (target, status, body) in [
            ("/length", 200, &large[..]),
            ("/chunks", 200, &large),
            ("/odd", 200, "hello, you"),
            ("/closed", 200, &large),
            ("/old", 200, "old"),
            ("/none", 200, ""),
            ("/204", 204, ""),
            ("/304", 304, ""),
            ("/else", 404, "the backend's own 404\n"),
        ] {
            for answer in [client.get(target), http2.get(target)] {
                assert_eq!((answer.status, answer.complete), (status, true), "{target}");
                assert!(
                    answer.text() == body,
                    "{target}: {} bytes",
                    answer.body.len()
                );
                assert!(answer.trailers.is_empty());
            }
            assert_eq!(
                client.request("HEAD", target, &[], b"").status,
                status,
                "{target}"
            );
        }
    }
    let odd = client.get("/odd");
    assert_eq!(odd.first_line, "HTTP/1.1 200 Just So");
    assert_eq!(odd.all("x-a"), ["1", "2"]);
    assert!(odd.header("date").is_some());
}

/// As many releases of nginx ask, unless they are told otherwise.
#[test]
fn a_client_of_http_1_0_gets_no_chunks_and_no_interim_answers() {
    let large = "0123456789".repeat(40_000);
    let whole = large.clone();
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/chunks" => {
            let chunks: Vec<_> = whole.as_bytes().chunks(7_777).collect();
            Reply::chunked(200, &[], &chunks)
        }
        "/closed" => Reply::raw("HTTP/1.1 200 OK\r\n\r\n")
            .then(Reply::raw(&whole))
            .closing(),
        "/hints" => {
            Reply::raw("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").then(Reply::ok("hinted"))
        }
        "/broken" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").closing(),
        _ => Reply::ok(&r.body),
    });
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let ask = |client: &mut Client, head: &str, content: &str| {
        client.send(format!("{head}\r\n\r\n{content}"));
        let answer = client.answer();
        assert_eq!(answer.header("transfer-encoding"), None, "{head}");
        assert!(answer.informational.is_empty(), "{head}");
        answer
    };
    let mut client = Client::to(proxy.port);
    for _ in 0..3 {
        let head = "POST /echo HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5";
        let answer = ask(&mut client, head, "hello");
        assert_eq!(answer.text(), "hello");
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    let sent = origin.last();
    assert_eq!(sent.header("via"), Some("1.0 backstop"));
    assert_eq!(sent.header("host"), Some("a"));
    assert_eq!(sent.header("connection"), None);
    let hints = "GET /hints HTTP/1.0\r\nConnection: keep-alive";
    assert_eq!(ask(&mut client, hints, "").text(), "hinted");
    let plain = ask(&mut client, "GET /echo HTTP/1.0", "");
    assert_eq!(plain.header("connection"), Some("close"));
    client.expect_close();
    for target in ["/chunks", "/closed"] {
        let mut client = Client::to(proxy.port);
        let head = format!("GET {target} HTTP/1.0\r\nConnection: keep-alive");
        let answer = ask(&mut client, &head, "");
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close"))
        );
        assert!(answer.text() == large, "{target}: {}", answer.body.len());
        client.expect_close();
    }
    let mut client = Client::to(proxy.port);
    let broken = ask(&mut client, "GET /broken HTTP/1.0", "");
    assert_eq!((broken.text().as_str(), broken.complete), ("half", false));
    assert_eq!(outcomes(&proxy.logged("/broken")), ["reset"]);
}

/// What ends with its connection is whole where that ends with a word (RFC 9112 §9.8).
#[test]
fn a_client_of_http_1_0_is_told_by_tls_whether_it_has_all() {
    let origin = Origin::new(|r| {
        let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        match r.target.as_str() {
            "/broken" => Reply::raw(begun).closing(),
            _ => Reply::raw(begun).then(Reply::raw("0\r\n\r\n")),
        }
    });
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let tls = authority.sign(dir.path(), "site", &["a.example"]).tls();
    let yaml = never_ejecting(&one_route(&[origin.port], ""));
    let proxy = Proxy::with().listener(&tls).start(&yaml);
    for (target, said) in [("/whole", true), ("/broken", false)] {
        let mut client = authority.client().to(proxy.port, "a.example").unwrap();
        let head = format!("GET {target} HTTP/1.0\r\n\r\n");
        client.send(head.as_bytes()).unwrap();
        let mut came = Vec::new();
        while !came.ends_with(b"half") {
            came.extend(client.read(1).expect("what there is"));
        }
        let end = client.read(1).expect_err("no more than that");
        assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "{target}: {end}");
        assert_eq!(
            !end.to_string().contains("close_notify"),
            said,
            "{target}: {end}"
        );
    }
}

#[test]
fn a_connection_serves_one_request_after_the_other_as_long_as_nothing_is_wrong_with_it() {
    let origin = Origin::new(|r| match r.target.as_str() {
        "/close" => Reply::answer(200, &[("Connection", "close")], b"x"),
        "/more" => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        ),
        "/chunks" => Reply::chunked(200, &[], &[b"x"]),
        _ => Reply::ok("x"),
    });
    let upstreams = with_upstream(&one_route(&[origin.port], ""), "keepalive: { idle: 2s }");
    let proxy = Proxy::with().key("workers", "1").start(&upstreams);
    let mut client = Client::to(proxy.port);
    let mut on = |target: &str| {
        let answer = client.get(target);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "x"),
            "{target}"
        );
        origin.last().connection
    };
    assert_eq!([on("/"), on("/chunks"), on("/"), on("/close")], [0; 4]);
    assert_eq!([on("/"), on("/more")], [1; 2]);
    assert_eq!([on("/"), on("/")], [2; 2]);
    // Whether or not somebody asks for it.
    origin.until_released();
    assert_eq!(on("/"), 3);
}

/// A backend that closes a connection on which nothing is under way does nothing wrong.
#[test]
fn a_connection_that_its_backend_has_closed_is_not_used_again() {
    let mut origin = Origin::always(Reply::ok("x"));
    let proxy = Proxy::with()
        .key("workers", "1")
        .start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    for n in 0..5 {
        assert_eq!(client.get("/").status, 200);
        assert_eq!(origin.last().connection, n);
        origin.restart();
        // The end of the connection came before anything that is sent now.
    }
}

#[test]
fn heads_may_be_long_and_come_in_pieces() {
    let long = "x".repeat(200_000);
    let value = long.clone();
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/long" => Reply::answer(200, &[("X-Long", &value)], b"x"),
        _ => Reply(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
                .chunks(3)
                .flat_map(|piece| {
                    [
                        Step::Send(piece.to_vec()),
                        Step::Pause(Duration::from_millis(1)),
                    ]
                })
                .collect(),
        ),
    });
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    let answer = client.get("/long");
    assert_eq!(answer.header("x-long"), Some(&long[..]));
    let answer = client.get("/pieces");
    assert_eq!(
        (answer.text().as_str(), answer.header("x-a")),
        ("hello", Some("b"))
    );
}

#[test]
fn interim_answers_go_before_the_final_one() {
    let origin = Origin::always(Reply::raw(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    ));
    // On the straight way, and through Pingora's phases.
    for route in ["", "compress: true", PHASES] {
        let proxy = Proxy::with()
            .http2()
            .start(&one_route(&[origin.port], route));
        let mut client = Client::to(proxy.port);
        for _ in 0..3 {
            let answer = client.get("/");
            assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
            assert!(answer.informational.ends_with(&[103]), "{route}");
        }
        let mut client = Client2::to(proxy.port);
        for _ in 0..3 {
            let answer = client.get("/");
            assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
            assert_eq!(answer.informational, [103], "{route}");
        }
    }
}

#[test]
fn interim_answers_are_bounded_and_cost_nobody_the_final_one() {
    let origin = Origin::new(|r| {
        let interim = match r.target.as_str() {
            "/many" => "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100),
            // What concerns a connection is not for HTTP/2.
            _ => "HTTP/1.1 103 Early Hints\r\nTE: gzip\r\nUpgrade: x\r\n\r\n".into(),
        };
        Reply::raw(format!(
            "{interim}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
        ))
    });
    for route in ["", "compress: true", PHASES] {
        let proxy = Proxy::with()
            .http2()
            .start(&one_route(&[origin.port], route));
        let mut client = Client2::to(proxy.port);
        let many = client.get("/many");
        assert_eq!((many.status, many.text().as_str()), (200, "x"), "{route}");
        assert_eq!(many.informational, [103; 16], "{route}");
        let odd = client.get("/odd");
        assert_eq!((odd.status, odd.text().as_str()), (200, "x"), "{route}");
        assert_eq!(odd.informational, [103], "{route}");
    }
}

/// An answer may name protocols that its connection could change to, of which HTTP/2 has none.
#[test]
fn answers_that_name_protocols_reach_clients_of_http2() {
    let origin = Origin::always(Reply::raw(
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx",
    ));
    for route in ["", "compress: true", PHASES] {
        let proxy = Proxy::with()
            .http2()
            .start(&one_route(&[origin.port], route));
        let answer = Client2::to(proxy.port).get("/");
        assert_eq!((answer.status, answer.text().as_str()), (426, "x"));
        assert_eq!(answer.header("upgrade"), None);
    }
}

#[test]
fn what_is_no_answer_is_a_failed_try_and_what_breaks_off_ends_the_connection() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/nonsense" => Reply::raw("what?\r\n\r\n"),
        "/empty" => Reply(vec![Step::Close]),
        "/switch" => Reply::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
        "/coding" => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx"),
        "/lengths" => {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx")
        }
        "/short" => Reply(vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_vec()),
            Step::Close,
        ]),
        "/chunk" => Reply(vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".to_vec()),
            Step::Wait(opened.clone()),
            Step::Send(b"z\r\n".to_vec()),
            Step::Hang,
        ]),
        _ => Reply::ok("x"),
    });
    let upstreams = never_ejecting(&one_route(&[origin.port], "retry: { tries: 1 }"));
    let proxy = Proxy::start(&upstreams);
    let mut client = Client::to(proxy.port);
    for (target, word) in [
        ("/nonsense", "http_protocol_error"),
        ("/empty", "connection_terminated"),
        ("/switch", "http_protocol_error"),
        ("/coding", "http_protocol_error"),
        ("/lengths", "http_protocol_error"),
    ] {
        let answer = client.get(target);
        assert_eq!(answer.status, 502, "{target}");
        assert_eq!(
            answer.header("proxy-status"),
            Some(format!("backstop; error={word}").as_str())
        );
        assert_eq!(outcomes(&proxy.logged(target)), ["reset"], "{target}");
        assert_eq!(client.get("/").status, 200);
    }
    let answer = client.get("/short");
    assert_eq!((answer.status, answer.complete), (200, false));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/chunk", &[], b"");
    assert_eq!(client.head().unwrap().status, 200);
    assert_eq!(client.chunk(), "x");
    gate.open();
    client.expect_close();
    for target in ["/short", "/chunk"] {
        assert_eq!(outcomes(&proxy.logged(target)), ["reset"], "{target}");
    }
}

/// Closing with bytes that nobody read resets a connection, and who reads later than that loses what was still on its way.
#[test]
fn a_client_that_sends_on_after_its_last_request_gets_all_of_its_answer() {
    let gate = Gate::default();
    let opened = gate.clone();
    let large = "x".repeat(400_000);
    let body = large.clone();
    let origin = Origin::new(move |_| Reply::ok(&body).when(&opened));
    let routes = one_route(&[origin.port], "").replace(
        "routes:",
        "routes:\n  - { name: fixed, match: { path: /fixed }, respond: { status: 200, body: answer } }",
    );
    let proxy = Proxy::start(&routes);
    let ask = |path: &str| {
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let more = "and what of this? ".repeat(2_000);
        // More than is read at once.
        client.write_all((request + &more).as_bytes()).unwrap();
        client
    };
    let rest = |mut client: TcpStream| {
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("an end, and no reset");
        String::from_utf8(all).unwrap()
    };
    for _ in 0..20 {
        assert!(rest(ask("/fixed")).ends_with("\r\n\r\nanswer"));
    }
    let mut client = ask("/large");
    until("the backend is asked", || origin.count() == 1);
    client.write_all(b"or of that?").unwrap();
    gate.open();
    // All of it is with the kernel then.
    proxy.logged("/large");
    assert!(rest(client).ends_with(&large));
}

/// What is there is not held back until there is more.
#[test]
fn pieces_reach_the_client_as_they_come() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::new(move |_| {
        Reply(vec![
            Step::Send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n".to_vec(),
            ),
            Step::Wait(opened.clone()),
            Step::Send(b"3\r\ntwo\r\n0\r\n\r\n".to_vec()),
        ])
    });
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    assert_eq!(client.head().unwrap().status, 200);
    assert_eq!(client.chunk(), "one");
    gate.open();
    assert_eq!(client.chunk(), "two");
}

/// The session of a client's connection goes on from one plain request to the next.
#[test]
fn nothing_of_a_request_is_left_to_the_next_one_on_its_connection() {
    let origin = Origin::new(|r| {
        let body = format!("{} {} {}", r.method, r.target, r.body.len());
        let seen = r.header("x-own").unwrap_or("-");
        Reply::answer(200, &[("X-Seen", seen)], body.as_bytes())
    });
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    let own = |value| [("X-Own", value)];
    let answer = client.request("GET", "/a", &own("1"), b"");
    assert_eq!(
        (answer.text().as_str(), answer.header("x-seen")),
        ("GET /a 0", Some("1"))
    );
    let answer = client.request("HEAD", "/b", &[], b"");
    assert_eq!((answer.body.len(), answer.header("x-seen")), (0, Some("-")));
    let answer = client.request("GET", "/c", &[], b"");
    assert_eq!(
        (answer.text().as_str(), answer.header("x-seen")),
        ("GET /c 0", Some("-"))
    );
    let answer = client.request("POST", "/d", &[], b"content");
    assert_eq!(answer.text(), "POST /d 7");
    // Through the phases, and back: its content comes later, and with it the next one.
    client.send("POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n12");
    assert!(client.is_silent_for(Duration::from_millis(50)));
    client.send("34GET /m HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "POST /l 4");
    assert_eq!(client.answer().text(), "GET /m 0");
    // The same, all at once.
    client.send("POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n1234GET /m HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "POST /l 4");
    assert_eq!(client.answer().text(), "GET /m 0");
    // Two of chunks, the second behind the first.
    let chunked =
        "POST /n HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    client.send(format!("{chunked}{chunked}"));
    assert_eq!(client.answer().text(), "POST /n 3");
    assert_eq!(client.answer().text(), "POST /n 3");
    assert_eq!(client.get("/e").text(), "GET /e 0");
    assert_eq!(client.get("/f").text(), "GET /f 0");
    // Two that come at once, and a third.
    client.send("GET /g HTTP/1.1\r\nHost: a\r\n\r\nGET /h HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "GET /g 0");
    assert_eq!(client.answer().text(), "GET /h 0");
    assert_eq!(client.get("/i").text(), "GET /i 0");
    // What cannot be read is not taken for the request before, which was one for no content.
    assert_eq!(client.request("HEAD", "/j", &own("2"), b"").status, 200);
    client.send("nonsense\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 400);
    assert!(!answer.body.is_empty());
    client.expect_close();
    let refused = crate::harness::eventually("its line", || {
        let mut lines = proxy.log_lines().into_iter();
        lines.find(|line| line["http.response.status_code"] == 400)
    });
    assert_eq!(refused["url.path"], "");
    assert_eq!(refused["http.request.method"], "");
}

/// While an answer is awaited the connection is watched: what comes on it is not lost.
#[test]
fn what_is_sent_ahead_by_tls_arrives_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::new(move |r| {
        let Reply(mut steps) = Reply::ok(format!("{} {}", r.method, r.target));
        if r.target.starts_with("/slow") {
            steps.insert(0, Step::Wait(opened.clone()));
        }
        Reply(steps)
    });
    let tls = pair.tls();
    let proxy = Proxy::with()
        .key("workers", "1")
        .listener(&tls)
        .start(&one_route(&[origin.port], ""));
    let client = authority.client();
    let mut ahead = client.to(proxy.port, "a.example").unwrap();
    let mut other = client.to(proxy.port, "a.example").unwrap();
    ahead.begin("/slow").unwrap();
    until("it is asked for", || origin.count() == 1);
    for target in ["/second", "/third"] {
        ahead.begin(target).unwrap();
        // Once this is answered, the only worker has seen what came before it.
        assert_eq!(other.get("/other").unwrap().text(), "GET /other");
    }
    gate.open();
    for target in ["/slow", "/second", "/third"] {
        assert_eq!(ahead.answer().unwrap().text(), format!("GET {target}"));
    }
}

/// Empty lines may come before a request (RFC 9112 §2.2), and so with the one before.
#[test]
fn empty_lines_between_requests_are_in_nobody_s_way() {
    let origin = Origin::new(|r| Reply::ok(format!("{} {}", r.method, r.target)));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    let mut pieces = Vec::new();
    for n in 0..4 {
        pieces.push(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    // With the request before, alone, in the middle of a request, and with as many bytes as came before it.
    let [a, b, c, d] = &pieces[..] else {
        unreachable!()
    };
    client.send(format!("{a}\r\n"));
    assert_eq!(client.answer().text(), "GET /0");
    client.send(format!("{b}\r\n"));
    assert_eq!(client.answer().text(), "GET /1");
    client.send(format!("{c}{}", &d[..2]));
    assert_eq!(client.answer().text(), "GET /2");
    client.send(format!("{}\r\n", &d[2..]));
    assert_eq!(client.answer().text(), "GET /3");
    let answer = client.request("POST", "/4", &[], b"content");
    assert_eq!(answer.text(), "POST /4");
}

/// A request that waits for its place is watched, too.
#[test]
fn what_is_sent_while_a_request_queues_arrives_as_it_was() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::new(move |r| {
        let Reply(mut steps) = Reply::ok(format!("{} {}", r.method, r.target));
        if r.target == "/first" {
            steps.insert(0, Step::Wait(opened.clone()));
        }
        Reply(steps)
    });
    let (setup, admin) = with_admin();
    let rules = "concurrency: { max: 1, queue: 3, queue_timeout: 20s }";
    let proxy = setup
        .key("workers", "1")
        .start(&one_route(&[origin.port], rules));
    let mut first = Client::to(proxy.port);
    first.begin("GET", "/first", &[], b"");
    until("it has the place", || origin.count() == 1);
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/a", &[], b"");
    until_queued(admin, 1);
    for target in ["/b", "/c"] {
        client.begin("GET", target, &[], b"");
        // Once this is answered, the only worker has seen what came before it.
        assert_eq!(get(proxy.port, "/%zz").status, 400);
    }
    gate.open();
    assert_eq!(first.answer().text(), "GET /first");
    for target in ["/a", "/b", "/c"] {
        assert_eq!(client.answer().text(), format!("GET {target}"));
    }
    assert_eq!(client.get("/d").text(), "GET /d");
}
