//! Every wait ends, by the limit that is meant for it, with an answer that says so, on a connection that lives on.

use crate::client::{Answer, Client, get};
use crate::client2::Client2;
use crate::harness::{Proxy, free_port, one_route, outcomes};
use crate::origin::Origin;
use crate::reply::Reply;
use socket2::SockRef;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// An address where connecting takes for ever: a listener whose queue is full.
pub(crate) struct BlackHole {
    pub(crate) port: u16,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        // The second call shortens the queue of the first.
        SockRef::from(&listener).listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        for _ in 0..10 {
            match TcpStream::connect_timeout(&address, 100 * MS) {
                Ok(stream) => queue.push(stream),
                Err(_) => {
                    return BlackHole {
                        port: address.port(),
                        _listener: listener,
                        _queue: queue,
                    };
                }
            }
        }
        panic!("the queue never fills");
    }
}

/// The `error` of a `Proxy-Status` when a response head took longer than `first_byte`.
const FIRST_BYTE: &str = "http_response_timeout; details=\"first_byte\"";
/// The same when `total` was over.
const TOTAL: &str = "http_response_timeout; details=\"total\"";

/// An answer that Backstop itself made: its words, and which request it was.
fn generated(answer: &Answer, status: u16, reason: &str, error: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let id = answer.header("x-request-id").expect("an id");
    assert_eq!(
        answer.text(),
        format!("{status} {reason}\nrequest id: {id}\n")
    );
    assert!(
        answer
            .header("content-type")
            .is_some_and(|t| t.starts_with("text/plain"))
    );
    assert_eq!(
        answer.header("proxy-status"),
        Some(format!("backstop; error={error}").as_str())
    );
}

#[test]
fn connecting_is_bounded_by_connect() {
    let hole = BlackHole::new();
    let rules = "retry: { tries: 1 }\ntimeouts: { connect: 200ms }";
    let proxy = Proxy::start(&one_route(&[hole.port], rules));
    let start = Instant::now();
    generated(
        &get(proxy.port, "/a"),
        504,
        "Gateway Timeout",
        "connection_timeout; details=\"connect\"",
    );
    assert!(
        (200 * MS..2_000 * MS).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(outcomes(&proxy.logged("/a")), ["timeout"]);
}

#[test]
fn a_connect_that_takes_too_long_is_retried_elsewhere_even_for_a_post() {
    let (hole, sound) = (BlackHole::new(), Origin::always(Reply::ok("sound")));
    let rules = "retry: { tries: 2, wait: 1ms }\ntimeouts: { connect: 150ms }";
    let proxy = Proxy::start(&one_route(&[hole.port, sound.port], rules));
    for _ in 0..3 {
        let answer = crate::client::request(proxy.port, "POST", "/", &[], b"order");
        assert_eq!(answer.text(), "sound");
    }
    assert!(sound.requests().iter().all(|r| r.body == b"order"));
}

#[test]
fn the_response_head_is_bounded_by_first_byte_whatever_idle_says() {
    // (first_byte, idle, the backend's delay, whether it comes through)
    for (first_byte, idle, delay, through) in [
        (1_500, 200, 600, true),
        (300, 5_000, 900, false),
        (300, 100, 900, false),
    ] {
        let origin = Origin::always(Reply::ok("slow").after(delay * MS));
        let rules = format!(
            "retry: {{ tries: 1 }}\ntimeouts: {{ first_byte: {first_byte}ms, idle: {idle}ms }}"
        );
        let proxy = Proxy::start(&one_route(&[origin.port], &rules));
        let start = Instant::now();
        let answer = get(proxy.port, "/");
        if through {
            assert_eq!(
                answer.text(),
                "slow",
                "first_byte {first_byte}, idle {idle}"
            );
        } else {
            generated(&answer, 504, "Gateway Timeout", FIRST_BYTE);
            let took = start.elapsed();
            assert!(
                took >= first_byte as u32 * MS && took < 850 * MS,
                "{took:?}"
            );
        }
    }
}

#[test]
fn a_gap_in_the_body_is_bounded_by_idle_whatever_first_byte_says() {
    let reply = Reply::answer(200, &[], &[b'x'; 100]);
    for (first_byte, idle, gap, through) in [
        (200, 2_000, 700, true),
        (5_000, 300, 8_000, false),
        (150, 300, 8_000, false),
    ] {
        let origin = Origin::always(reply.clone().gap(80, gap * MS));
        let rules = format!("timeouts: {{ first_byte: {first_byte}ms, idle: {idle}ms }}");
        let proxy = Proxy::start(&one_route(&[origin.port], &rules));
        let start = Instant::now();
        let answer = get(proxy.port, "/");
        assert_eq!(
            (answer.status, answer.complete),
            (200, through),
            "idle {idle}, gap {gap}"
        );
        if !through {
            assert!(start.elapsed() < 3_000 * MS, "{:?}", start.elapsed());
            assert_eq!(proxy.logged("/")["retry"], "response_started");
        }
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn total_bounds_all_tries_together() {
    let origin = Origin::always(Reply::hang());
    let rules = "retry: { tries: 20, wait: 50ms }\ntimeouts: { first_byte: 250ms, total: 1s }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let start = Instant::now();
    generated(&get(proxy.port, "/a"), 504, "Gateway Timeout", TOTAL);
    let took = start.elapsed();
    assert!((700 * MS..1_800 * MS).contains(&took), "{took:?}");
    assert!(
        (3..=4).contains(&origin.count()),
        "{} tries",
        origin.count()
    );
    let line = proxy.logged("/a");
    assert!(outcomes(&line).iter().all(|o| o == "timeout"), "{line}");
    assert_eq!(line["retry"], "total_timeout");
}

#[test]
fn total_bounds_a_single_try_that_is_shorter_than_first_byte() {
    let origin = Origin::always(Reply::hang());
    let proxy = Proxy::start(&one_route(
        &[origin.port],
        "timeouts: { first_byte: 20s, total: 400ms }",
    ));
    let start = Instant::now();
    generated(&get(proxy.port, "/"), 504, "Gateway Timeout", TOTAL);
    assert!(start.elapsed() < 1_500 * MS, "{:?}", start.elapsed());
}

#[test]
fn total_bounds_a_body_that_never_ends() {
    let origin = Origin::always(Reply::answer(200, &[], &[b'x'; 400]).trickle(20 * MS));
    let rules = "timeouts: { first_byte: 9s, idle: 5s, total: 1500ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let start = Instant::now();
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    // The head may not be whole by then either: then it is a 504.
    let answer = client.try_answer_to("GET").expect("a head");
    assert!(answer.status == 504 || !answer.complete);
    let took = start.elapsed();
    assert!((1_300 * MS..3_000 * MS).contains(&took), "{took:?}");
}

#[test]
fn total_bounds_a_head_that_trickles() {
    let origin =
        Origin::always(Reply::answer(200, &[("X-Long", &"x".repeat(900))], b"").trickle(15 * MS));
    let rules = "retry: { tries: 1 }\ntimeouts: { first_byte: 9s, idle: 9s, total: 800ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let start = Instant::now();
    assert_eq!(get(proxy.port, "/").status, 504);
    assert!(start.elapsed() < 2_500 * MS, "{:?}", start.elapsed());
}

#[test]
fn total_bounds_a_client_that_sends_its_body_too_slowly() {
    let origin = Origin::always(Reply::ok("stored"));
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], "timeouts: { total: 600ms }"));
    for head in [
        "Content-Length: 1000\r\n\r\nfirst",
        "Content-Length: 500000\r\n\r\nfirst",
        "Content-Length: 5000000\r\n\r\nfirst",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    ] {
        let start = Instant::now();
        let mut client = Client::to(proxy.port);
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{head}"));
        // An answer or a closed connection; not an endless wait.
        if let Ok(answer) = client.try_answer_to("PUT") {
            assert!(answer.status >= 400, "{answer:?}");
        }
        assert!(
            start.elapsed() < 3_000 * MS,
            "{head:?}: {:?}",
            start.elapsed()
        );
    }
    let start = Instant::now();
    let mut client = Client2::to(proxy.port);
    let mut stream = client.begin("PUT", "/http2", &[], false);
    client.send(&mut stream, b"first", false);
    assert!(client.ends_in_failure(stream));
    assert!(
        start.elapsed() < 3_000 * MS,
        "HTTP/2: {:?}",
        start.elapsed()
    );
}

#[test]
fn timeouts_answer_504_no_backend_503_and_a_broken_upstream_502() {
    let origin = Origin::new(|r| match r.target.as_str() {
        "/hang" => Reply::hang(),
        "/garbage" => Reply::garbage(),
        "/reset" => Reply::reset(),
        _ => Reply::close(),
    });
    let yaml = format!(
        "defaults: {{ retry: {{ tries: 1 }}, timeouts: {{ first_byte: 200ms }} }}
upstreams:
  pool: {{ backends: [127.0.0.1:{}] }}
  dead: {{ backends: [127.0.0.1:{}] }}
  none: {{ backends: [no-such-name.invalid:80] }}
routes:
  - {{ match: {{ path: / }}, upstream: pool }}
  - {{ match: {{ path: /dead }}, upstream: dead }}
  - {{ match: {{ path: /none }}, upstream: none }}
",
        origin.port,
        free_port()
    );
    // No name server listens there.
    let resolver = format!(
        "{{ servers: [\"127.0.0.1:{}\"], interval: 10s }}",
        free_port()
    );
    let proxy = Proxy::with().key("resolver", &resolver).start(&yaml);
    generated(
        &get(proxy.port, "/dead"),
        502,
        "Bad Gateway",
        "connection_refused",
    );
    // With the third failure in a row it is known.
    get(proxy.port, "/dead");
    assert_eq!(get(proxy.port, "/dead").status, 503);
    for (path, status, reason, errors) in [
        ("/hang", 504, "Gateway Timeout", &[FIRST_BYTE][..]),
        (
            "/garbage",
            502,
            "Bad Gateway",
            &["http_protocol_error", "connection_terminated"],
        ),
        ("/reset", 502, "Bad Gateway", &["connection_terminated"]),
        (
            "/close",
            502,
            "Bad Gateway",
            &["connection_terminated", "http_response_incomplete"],
        ),
        (
            "/dead",
            503,
            "Service Unavailable",
            &["destination_unavailable"],
        ),
        (
            "/none",
            503,
            "Service Unavailable",
            &["dns_error", "destination_unavailable"],
        ),
    ] {
        // On one connection each: these answers keep it.
        let mut client = Client::to(proxy.port);
        for _ in 0..3 {
            let answer = client.get(path);
            let error = answer
                .header("proxy-status")
                .unwrap_or("")
                .replace("backstop; error=", "");
            assert!(errors.contains(&error.as_str()), "{path}: {error}");
            generated(&answer, status, reason, &error);
        }
        let head = client.request("HEAD", path, &[], b"");
        assert_eq!((head.status, head.body.len()), (status, 0));
        assert_eq!(client.get(path).status, status, "after HEAD {path}");
    }
}

#[test]
fn the_connection_stays_in_step_after_a_504_to_a_request_with_a_body() {
    let origin = Origin::new(|r| {
        if r.target == "/hang" {
            Reply::hang()
        } else {
            Reply::ok("in step")
        }
    });
    let rules = "retry: { tries: 1 }\ntimeouts: { first_byte: 200ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let mut client = Client::to(proxy.port);
    assert_eq!(
        client.request("PUT", "/hang", &[], &[b'x'; 100_000]).status,
        504
    );
    assert_eq!(client.get("/next").text(), "in step");
}
