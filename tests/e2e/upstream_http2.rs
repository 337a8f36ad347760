//! HTTP/2 to backends, and what gRPC asks of it.

use crate::admin::with_admin;
use crate::client::{Client, get, request};
use crate::client_tls::Authority;
use crate::client2::Client2;
use crate::compress::decoded;
use crate::harness::{Proxy, eventually, one_route, outcomes, until, with_upstream};
use crate::origin::Origin;
use crate::origin2::{Origin2, Reply2};
use crate::reply::{Gate, Reply};
use h2::Reason;
use std::time::Instant;

fn upstreams(origins: &[&Origin2], rules: &str) -> String {
    let ports: Vec<u16> = origins.iter().map(|origin| origin.port).collect();
    with_upstream(&one_route(&ports, rules), "http2: true\neject: off")
}

#[test]
fn requests_of_any_client_go_by_http2() {
    let origin = Origin2::always(Reply2::answer(201, &[("x-own", "1")], "here you are"));
    let proxy = Proxy::with().http2().start(&upstreams(&[&origin], ""));
    let mut http1 = Client::to(proxy.port);
    let mut http2 = Client2::to(proxy.port);
    let fields = [("TE", "trailers"), ("X-Mine", "2")];
    let body = vec![b'x'; 200_000];
    for (n, method) in ["GET", "POST", "PUT", "DELETE"].iter().enumerate() {
        let body = if n % 3 == 0 { &b""[..] } else { &body };
        let target = format!("/path/{n}?q=%20");
        let (old, new) = (
            http1.request(method, &target, &fields, body),
            http2.request(method, &target, &fields, body),
        );
        for (answer, via) in [(old, "1.1 backstop"), (new, "2 backstop")] {
            assert_eq!((answer.status, &*answer.text()), (201, "here you are"));
            assert_eq!(answer.header("x-own"), Some("1"));
            let seen = eventually("the request", || {
                let all = origin.requests().into_iter();
                { all }.find(|r| r.target == target && r.header("via") == Some(via))
            });
            assert_eq!((&*seen.method, &*seen.scheme), (*method, "http"));
            assert_eq!(seen.authority, "example.com");
            assert!(seen.body == body, "{} bytes", seen.body.len());
            assert_eq!(seen.header("x-mine"), Some("2"));
            assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
            assert_eq!(seen.header("x-forwarded-host"), Some("example.com"));
            assert_eq!(seen.header("te"), Some("trailers"));
            for name in ["host", "connection", "transfer-encoding", "upgrade"] {
                assert_eq!(seen.header(name), None, "{name}");
            }
        }
    }
    // Each of two workers has one.
    assert!(origin.connections() <= 2);
}

#[test]
fn many_share_a_connection() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin2::new(move |_| Reply2::ok("fine").when(&open));
    let proxy = Proxy::with()
        .key("workers", "1")
        .start(&upstreams(&[&origin], ""));
    let mut clients: Vec<Client> = (0..40).map(|_| Client::to(proxy.port)).collect();
    // Else each would have to make one, for there would be none yet.
    clients[0].begin("GET", "/", &[], b"");
    origin.request(0);
    for client in &mut clients[1..] {
        client.begin("GET", "/", &[], b"");
    }
    until("all are asked", || origin.count() == 40);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().text(), "fine");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn what_a_connection_has_no_room_for_goes_by_another() {
    let origin = Origin2::limited(Some(2), |_| Reply2::ok("fine"));
    let proxy = Proxy::start(&upstreams(&[&origin], "retry: { tries: 3, wait: 1ms }"));
    let mut clients: Vec<Client> = (0..20).map(|_| Client::to(proxy.port)).collect();
    for _ in 0..10 {
        for client in &mut clients {
            client.begin("GET", "/", &[], b"");
        }
        for client in &mut clients {
            assert_eq!(client.answer().text(), "fine");
        }
    }
}

#[test]
fn an_answer_may_come_before_the_request_is_whole() {
    let refusal = Reply2::answer(413, &[], "too much").early();
    let origin = Origin2::always(refusal);
    let proxy = Proxy::with()
        .http2()
        .start(&upstreams(&[&origin], "retry: { tries: 1 }"));
    let body = vec![b'x'; 3_000_000];
    let answer = request(proxy.port, "POST", "/", &[], &body);
    assert_eq!((answer.status, &*answer.text()), (413, "too much"));
    let mut client = Client2::to(proxy.port);
    let answer = client.request("POST", "/", &[], &body);
    assert_eq!((answer.status, &*answer.text()), (413, "too much"));
}

#[test]
fn calls_of_grpc_go_both_ways_at_once_and_end_with_trailers() {
    let origin = Origin2::always(Reply2::echo());
    let proxy = Proxy::with().http2().start(&upstreams(&[&origin], ""));
    let mut client = Client2::to(proxy.port);
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let mut call = client.begin("POST", "/chat.Chat/Talk", &fields, false);
    client.send(&mut call, b"one", false);
    let (mut body, mut answer) = client.both_bodies(call);
    assert_eq!(client.piece(&mut answer), "one");
    client.send_more(&mut body, b"two", false);
    assert_eq!(client.piece(&mut answer), "two");
    client.send_more(&mut body, b"three", true);
    assert_eq!(client.piece(&mut answer), "three");
    let trailers = client.trailers(answer).expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    let seen = origin.last();
    assert_eq!(seen.body, b"onetwothree");
    assert_eq!(seen.header("te"), Some("trailers"));
    let line = proxy.logged("/chat.Chat/Talk");
    assert_eq!(outcomes(&line), ["ok"]);
}

#[test]
fn a_call_ends_when_its_client_says_and_hears_of_it_as_calls_do() {
    let origin = Origin2::always(Reply2::hang());
    let yaml = upstreams(&[&origin], "retry: { tries: 1 }");
    let yaml = yaml.replace("match: { path: / }", "match: { path: /there }");
    let proxy = Proxy::with().http2().start(&yaml);
    let mut client = Client2::to(proxy.port);
    let mut call = |path: &str, timeout: &str| {
        let fields = [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", timeout),
        ];
        let stream = client.begin("POST", path, &fields, true);
        client.only_head(stream)
    };
    let began = Instant::now();
    let head = call("/there/slow", "300m");
    let took = began.elapsed();
    assert!((300..3_000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(head["content-type"], "application/grpc");
    assert_eq!(head["grpc-status"], "4", "{head:?}");
    assert_eq!(head["grpc-message"], "Gateway Timeout");
    let told = origin.request(0).header("grpc-timeout").map(str::to_owned);
    let told = told.and_then(|t| t.strip_suffix('m')?.parse::<u64>().ok());
    assert!(told.is_some_and(|t| (1..=300).contains(&t)), "{told:?}");
    until("its stream is reset", || {
        origin.request(0).reset == Some(Reason::CANCEL)
    });
    assert_eq!(
        proxy.logged("/there/slow")["http.response.status_code"],
        504
    );
    let head = call("/elsewhere", "1S");
    assert_eq!(head["grpc-status"], "12", "{head:?}");
    assert_eq!(proxy.logged("/elsewhere")["http.response.status_code"], 404);
    // Others wait as long as their route lets them.
    let stream = client.begin("GET", "/there/other", &[("grpc-timeout", "1m")], true);
    until("it is asked", || origin.count() == 2);
    assert_eq!(origin.last().header("grpc-timeout"), Some("1m"));
    client.cancel(stream);
}

#[test]
fn trailers_end_an_answer_for_clients_without_them_too() {
    let body = "text ".repeat(20_000);
    let reply = Reply2::answer(200, &[("content-type", "text/plain")], &body);
    let origin = Origin2::always(reply.trailing(&[("x-sum", "1")]));
    let rules = "compress: true\ncache: { ttl: 1h }";
    let proxy = Proxy::with().http2().start(&upstreams(&[&origin], rules));
    let mut client = Client::to(proxy.port);
    for path in ["/a", "/a", "/b"] {
        let answer = client.get(path);
        let length = answer.body.len();
        assert!(
            answer.complete && answer.text() == body,
            "{path}: {length} {}",
            answer.complete
        );
    }
    assert_eq!(origin.count(), 2, "/a was kept");
    let coded = request(proxy.port, "GET", "/c", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!(coded.header("content-encoding"), Some("gzip"));
    assert!(coded.complete && decoded(&coded) == body.as_bytes());
    let mut http2 = Client2::to(proxy.port);
    assert!(http2.get("/d").text() == body);
    // Without a cache in between.
    let proxy = Proxy::start(&upstreams(&[&origin], "compress: true"));
    let coded = request(proxy.port, "GET", "/e", &[("Accept-Encoding", "gzip")], b"");
    assert!(coded.complete && decoded(&coded) == body.as_bytes());
    assert!(get(proxy.port, "/f").text() == body);
}

#[test]
fn clients_of_http_1_0_get_no_chunks() {
    let origin = Origin2::always(Reply2::ok("plain"));
    let proxy = Proxy::start(&upstreams(&[&origin], ""));
    let mut client = Client::to(proxy.port);
    client.send("GET / HTTP/1.0\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.text(), "plain");
    let host = format!("127.0.0.1:{}", origin.port);
    assert_eq!(origin.last().authority, host);
}

#[test]
fn failures_are_retried_as_by_http1() {
    let tries = "retry: { tries: 3, wait: 1ms }";
    for (failure, word) in [
        (Reply2::answer(503, &[], ""), "status 503"),
        (Reply2::reset(Reason::INTERNAL_ERROR), "reset"),
        (Reply2::reset(Reason::REFUSED_STREAM), "refused"),
    ] {
        let replies = [failure.clone(), failure, Reply2::ok("fine")];
        let origin = Origin2::sequence(&replies);
        let proxy = Proxy::start(&upstreams(&[&origin], tries));
        assert_eq!(get(proxy.port, "/").text(), "fine", "{word}");
        assert_eq!(outcomes(&proxy.logged("/")), [word, word, "ok"]);
    }
}

/// What may have been done is not done twice; what was refused was not done.
#[test]
fn only_what_was_refused_is_sent_again_whatever_it_is() {
    for (why, status, times) in [
        (Reason::INTERNAL_ERROR, 502, 1),
        (Reason::REFUSED_STREAM, 200, 2),
    ] {
        let origin = Origin2::sequence(&[Reply2::reset(why), Reply2::ok("fine")]);
        let proxy = Proxy::start(&upstreams(&[&origin], "retry: { tries: 3, wait: 1ms }"));
        let answer = request(proxy.port, "POST", "/", &[], b"an order");
        assert_eq!((answer.status, origin.count()), (status, times), "{why:?}");
        assert_eq!(origin.last().body, b"an order");
    }
}

#[test]
fn who_waits_in_vain_leaves_its_stream_and_the_next_has_another_connection() {
    let origin = Origin2::sequence(&[Reply2::hang(), Reply2::ok("fine")]);
    let rules = "retry: { tries: 2, wait: 1ms }\ntimeouts: { first_byte: 200ms }";
    let proxy = Proxy::start(&upstreams(&[&origin], rules));
    assert_eq!(get(proxy.port, "/").text(), "fine");
    assert_eq!(outcomes(&proxy.logged("/")), ["timeout", "ok"]);
    until("the first was left", || {
        origin.request(0).reset == Some(Reason::CANCEL)
    });
    let [first, second] = [0, 1].map(|n| origin.request(n).connection);
    assert_ne!(first, second, "it may hang as a whole");
}

#[test]
fn a_client_that_leaves_resets_its_stream_only() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin2::new(move |r| match &*r.target {
        "/slow" => Reply2::hang(),
        _ => Reply2::ok("fine").when(&open),
    });
    let proxy = Proxy::with()
        .key("workers", "1")
        .start(&upstreams(&[&origin], ""));
    let mut stays = Client::to(proxy.port);
    stays.begin("GET", "/stays", &[], b"");
    origin.request(0);
    let mut leaves = Client::to(proxy.port);
    leaves.begin("GET", "/slow", &[], b"");
    let number = eventually("it is asked", || {
        origin.requests().iter().position(|r| r.target == "/slow")
    });
    drop(leaves);
    until("its stream is reset", || {
        origin.request(number).reset == Some(Reason::CANCEL)
    });
    gate.open();
    assert_eq!(stays.answer().text(), "fine");
}

#[test]
fn a_backend_that_goes_away_loses_no_request() {
    let origin = Origin2::always(Reply2::ok("fine"));
    let proxy = Proxy::start(&upstreams(&[&origin], "retry: { tries: 1 }"));
    let mut client = Client::to(proxy.port);
    for _ in 0..20 {
        for _ in 0..5 {
            assert_eq!(client.get("/").status, 200);
        }
        origin.go_away();
    }
    assert!(origin.connections() > 10);
}

#[test]
fn late_answers_are_overtaken_copies_are_sent_and_probes_asked_by_http2() {
    let gate = Gate::default();
    let open = gate.clone();
    let late = Origin2::new(move |r| match &*r.target {
        "/health" => Reply2::ok("well"),
        _ => Reply2::ok("late").when(&open),
    });
    let large = "quick".repeat(60_000);
    let body = large.clone();
    let quick = Origin2::new(move |_| Reply2::ok(&body).trailing(&[("x-sum", "1")]));
    let copies = Origin2::always(Reply2::ok("nobody looks"));
    let rules = "hedge: { after: 50ms, budget: 100% }\nmirror: { upstream: copies }";
    let yaml = with_upstream(
        &one_route(&[late.port, quick.port], rules),
        "http2: true\neject: off\nhealth_check: { path: /health, interval: 100ms }",
    );
    let more = format!(
        "upstreams:\n  copies: {{ http2: true, backends: [127.0.0.1:{}] }}\n",
        copies.port
    );
    let (setup, admin) = with_admin();
    let proxy = setup
        .http2()
        .start(&yaml.replacen("upstreams:\n", &more, 1));
    until("it is probed", || {
        late.requests().iter().any(|r| r.target == "/health")
    });
    let mut client = Client2::to(proxy.port);
    for n in 0..4 {
        let path = format!("/{n}");
        assert!(client.get(&path).text() == large);
        let tried = outcomes(&proxy.logged(&path));
        assert!(tried == ["hedged", "ok"] || tried == ["ok"], "{tried:?}");
    }
    let seen = late.requests().into_iter().find(|r| r.target != "/health");
    let original = seen.expect("the first request");
    until("it was left", || {
        let seen = late.requests().into_iter();
        { seen }.any(|r| r.reset == Some(Reason::CANCEL))
    });
    let second = quick.requests().into_iter();
    let second = { second }.find(|r| r.target == original.target);
    let second = second.expect("the second request");
    assert_eq!(second.authority, original.authority);
    assert_eq!(second.headers, original.headers);
    until("copies", || copies.count() == 4);
    assert_eq!(copies.last().authority, "example.com");
    let status = crate::maintenance::status(admin);
    assert_eq!(status["upstreams"].as_array().map(Vec::len), Some(2));
    gate.open();
}

#[test]
fn with_tls_the_backend_chooses() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["api.internal"]);
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let gate = Gate::default();
    let answer = |text: &'static str, gate: Option<Gate>| {
        Origin::new(move |r| match (r.header("upgrade"), &gate) {
            (Some(_), _) => Reply::raw(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            ),
            (None, Some(gate)) => Reply::ok(text).when(gate),
            (None, None) => Reply::ok(text),
        })
    };
    let (late, quick) = (answer("late", Some(gate.clone())), answer("quick", None));
    for speaks in [true, false] {
        let tls = pair.tls();
        let setup = Proxy::with().listener(&tls);
        let (setup, protocol) = match speaks {
            true => (setup.http2(), "2"),
            false => (setup, "1.1"),
        };
        let [first, second] =
            [&late, &quick].map(|origin| setup.clone().start(&one_route(&[origin.port], "")));
        let upstream = format!(
            "http2: true\neject: off\ntls: {{ sni: api.internal, ca: {} }}",
            ca.display()
        );
        let pool = one_route(
            &[first.port, second.port],
            "hedge: { after: 100ms, budget: 100% }",
        );
        let proxy = Proxy::start(&with_upstream(&pool, &upstream));
        for path in ["/a", "/b"] {
            assert_eq!(get(proxy.port, path).text(), "quick");
        }
        let tried = ["/a", "/b"].map(|path| outcomes(&proxy.logged(path)).join(" "));
        assert!(tried.contains(&"hedged ok".to_string()), "{tried:?}");
        assert_eq!(second.logged("/a")["network.protocol.version"], protocol);
        // There is no WebSocket by HTTP/2 here.
        let mut client = Client::to(proxy.port);
        client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        assert_eq!(client.head().expect("an answer").status, 101);
    }
    gate.open();
}

#[test]
fn content_without_a_byte_is_none() {
    let origin = Origin2::always(Reply2::ok("fine"));
    let proxy = Proxy::with()
        .http2()
        .start(&upstreams(&[&origin], "retry: { tries: 2, wait: 1ms }"));
    let mut client = Client::to(proxy.port);
    assert_eq!(client.chunked("PUT", "/", &[]).text(), "fine");
    let mut http2 = Client2::to(proxy.port);
    for method in ["GET", "PUT"] {
        let mut stream = http2.begin(method, "/", &[], false);
        http2.send(&mut stream, b"", true);
        assert_eq!(http2.answer(stream).text(), "fine", "{method}");
    }
    assert_eq!(origin.count(), 3);
    assert!(origin.requests().iter().all(|r| r.body.is_empty()));
}

#[test]
fn the_haste_of_a_client_and_refusals_are_held_against_no_backend() {
    let refused = Reply2::reset(Reason::REFUSED_STREAM);
    let origin = Origin2::new(move |r| match &*r.target {
        "/slow" => Reply2::hang(),
        "/refused" => refused.clone(),
        _ => Reply2::ok("fine"),
    });
    let other = Origin2::always(Reply2::ok("fine"));
    let yaml = with_upstream(
        &one_route(&[origin.port, other.port], "retry: { tries: 1 }"),
        "http2: true\neject: { consecutive: 1, max_ejected: 50% }",
    );
    let (setup, admin) = with_admin();
    let proxy = setup.http2().start(&yaml);
    let mut client = Client2::to(proxy.port);
    let fields = [
        ("content-type", "application/grpc"),
        ("grpc-timeout", "40m"),
    ];
    let connection = |n: usize| origin.request(n).connection;
    for _ in 0..4 {
        let stream = client.begin("POST", "/slow", &fields, true);
        client.answer(stream);
        client.request("POST", "/refused", &[], b"");
    }
    let asked = origin.count();
    assert!(asked > 2, "{asked}");
    assert!((1..asked).all(|n| connection(n) == connection(0)));
    let status = crate::maintenance::status(admin);
    let backends = status["upstreams"][0]["backends"].as_array().unwrap();
    assert!(backends.iter().all(|b| b["state"] == "up"), "{status}");
}

#[test]
fn who_does_not_read_holds_nobody_else_up() {
    // More than the kernel takes for a client, and what is read ahead besides.
    let (endless, large) = (vec![b'x'; 64_000_000], vec![b'x'; 1_000_000]);
    let body = large.clone();
    let origin = Origin2::new(move |r| match &*r.target {
        "/idle" => Reply2::ok(&endless),
        _ => Reply2::ok(&body),
    });
    let proxy = Proxy::with()
        .key("workers", "1")
        .start(&upstreams(&[&origin], "retry: { tries: 1 }"));
    let mut idle = Client::to(proxy.port);
    idle.begin("GET", "/idle", &[], b"");
    idle.read(100);
    let mut before = 0;
    until("no more of it is taken", || {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
        let taken = origin.request(0).sent;
        std::mem::replace(&mut before, taken) == taken
    });
    // Mostly by the kernel, which takes 4 MB by default.
    assert!(before < 9_000_000, "{before}");
    for _ in 0..3 {
        let answer = get(proxy.port, "/");
        assert!(answer.complete && answer.body == large);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn connections_end_when_nobody_needs_them_whatever_became_of_requests() {
    let late = Origin2::always(Reply2::hang());
    let stalls = Reply2::answer(200, &[("content-type", "text/event-stream")], "one");
    let quick = Origin2::new(move |r| match &*r.target {
        "/stalls" => stalls.clone().stalling(),
        _ => Reply2::ok("quick"),
    });
    let yaml = with_upstream(
        &one_route(
            &[late.port, quick.port],
            "hedge: { after: 30ms, budget: 100% }\nmirror: { upstream: copies }\ntimeouts: { first_byte: 200ms }",
        ),
        "http2: true\neject: off\nkeepalive: { idle: 500ms }",
    );
    let copies = Origin2::always(Reply2::hang());
    let more = format!(
        "upstreams:\n  copies: {{ http2: true, eject: off, keepalive: {{ idle: 500ms }}, backends: [127.0.0.1:{}] }}\n",
        copies.port
    );
    let proxy = Proxy::start(&yaml.replacen("upstreams:\n", &more, 1));
    for _ in 0..6 {
        assert_eq!(get(proxy.port, "/").text(), "quick");
    }
    // Some begin at the late one, so that it is a second request that stalls.
    for _ in 0..4 {
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/stalls", &[], b"");
        assert_eq!(client.head().expect("an answer").status, 200);
        client.leave();
    }
    until("those streams are left", || {
        let all = quick.requests().into_iter();
        { all }
            .filter(|r| r.target == "/stalls")
            .all(|r| r.reset.is_some())
    });
    until("all are closed", || {
        [&late, &quick, &copies]
            .iter()
            .all(|origin| origin.open() == 0)
    });
}

#[test]
fn an_upgrade_that_cannot_be_is_none() {
    let origin = Origin2::always(Reply2::answer(426, &[], "not here"));
    let proxy = Proxy::start(&upstreams(&[&origin], "retry: { tries: 1 }"));
    let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let answer = request(proxy.port, "GET", "/ws", &fields, b"");
    assert_eq!((answer.status, &*answer.text()), (426, "not here"));
    assert_eq!(origin.last().header("upgrade"), None);
}

#[test]
fn a_call_that_is_refused_at_once_is_over() {
    let refusal = Reply2::answer(
        200,
        &[("content-type", "application/grpc"), ("grpc-status", "7")],
        "",
    );
    let origin = Origin2::always(refusal.early());
    let proxy = Proxy::with()
        .http2()
        .start(&upstreams(&[&origin], "concurrency: { max: 1, queue: 0 }"));
    let mut client = Client2::to(proxy.port);
    let fields = [("content-type", "application/grpc")];
    for n in 0..3 {
        // Its client might go on.
        let path = format!("/{n}");
        let call = client.begin("POST", &path, &fields, false);
        let (mut body, answer) = client.both_bodies(call);
        assert!(answer.is_end_stream());
        body.send_reset(Reason::CANCEL);
        let line = proxy.logged(&path);
        assert_eq!(
            (&line["http.response.status_code"], outcomes(&line)),
            (&200.into(), vec!["ok".to_string()])
        );
    }
}

#[test]
fn who_asks_whether_to_go_on_is_told() {
    let origin = Origin2::new(|r| Reply2::ok(r.header("expect").unwrap_or("nothing")));
    let proxy = Proxy::start(&upstreams(&[&origin], "retry: { tries: 1 }"));
    let mut client = Client::to(proxy.port);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().expect("an answer").status, 100);
    client.send("hello");
    assert_eq!(client.answer().text(), "nothing");
    assert_eq!(origin.last().body, b"hello");
}

#[test]
fn what_speaks_no_http2_is_answered_for_with_502() {
    let origin = Origin::always(Reply::ok("of HTTP/1.1"));
    let proxy = Proxy::start(&with_upstream(
        &one_route(&[origin.port], "retry: { tries: 1 }"),
        "http2: true\neject: off",
    ));
    let answer = get(proxy.port, "/");
    assert_eq!(answer.status, 502);
    let line = proxy.logged("/");
    assert_eq!(outcomes(&line), ["reset"]);
}
