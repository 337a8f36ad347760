//! Further tries: after which failures, with which pauses, on which backends, and when there is none.
//!
//! The log's `retry` word is asserted throughout: "why was this not retried?" must have an answer.

use crate::client::{Client, get};
use crate::harness::{Proxy, free_port, never_ejecting, one_route, outcomes};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// The pauses between the requests a backend got.
fn gaps(origin: &Origin) -> Vec<Duration> {
    let at: Vec<Instant> = origin.requests().iter().map(|r| r.at).collect();
    at.windows(2).map(|w| w[1] - w[0]).collect()
}

#[test]
fn s1_five_tries_on_one_backend_turn_500s_and_502s_into_a_200() {
    let replies = [500, 502, 500, 502].map(Reply::status);
    let origin = Origin::sequence(&[&replies[..], &[Reply::ok("at last")]].concat());
    let proxy = Proxy::start(&one_route(
        &[origin.port],
        "retry: { tries: 5, wait: 60ms, on: [500, 502] }",
    ));
    let answer = get(proxy.port, "/patients/1?x=y");
    assert_eq!((answer.status, answer.text().as_str()), (200, "at last"));
    assert!(
        gaps(&origin).iter().all(|g| *g >= 60 * MS),
        "{:?}",
        gaps(&origin)
    );
    for request in origin.requests() {
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("GET", "/patients/1?x=y")
        );
    }
    let line = proxy.logged("/patients/1?x=y");
    let expected = ["status 500", "status 502", "status 500", "status 502", "ok"];
    assert_eq!(outcomes(&line), expected);
    assert_eq!(line["retry"], "answered");
    let tries = line["tries"].as_array().unwrap().iter();
    let waited: Vec<f64> = tries.map(|t| t["waited_ms"].as_f64().unwrap()).collect();
    assert_eq!(waited[0], 0.0);
    assert!(
        waited[1..].iter().all(|w| (60.0..2_000.0).contains(w)),
        "{waited:?}"
    );
}

#[test]
fn s1_when_tries_run_out_the_last_answer_goes_through_unchanged() {
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let headers = [
        ("Content-Type", "application/problem+json; odd"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Empty", ""),
        ("ETag", "\"last\""),
        ("Server", "the-api"),
        ("Retry-After", "0"),
    ];
    let origin = Origin::sequence(&[
        Reply::answer(500, &[("X-First", "1")], b"the first failure"),
        Reply::answer(503, &headers, &body),
    ]);
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { tries: 2, wait: 1ms }"));
    let mut client = Client::to(proxy.port);
    let answer = client.get("/last");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, body);
    assert_eq!(answer.header("x-first"), None);
    for name in [
        "Content-Type",
        "Set-Cookie",
        "X-Empty",
        "ETag",
        "Server",
        "Retry-After",
    ] {
        let expected: Vec<&str> = headers
            .iter()
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| *v)
            .collect();
        assert_eq!(answer.all(name), expected, "{name}");
    }
    assert_eq!(answer.header("content-length"), Some("100000"));
    let line = proxy.logged("/last");
    assert_eq!(outcomes(&line), ["status 500", "status 503"]);
    assert_eq!(
        (&line["retry"], &line["http.response.status_code"]),
        (&"tries_used_up".into(), &503.into())
    );
    // And the connection is good for the next request.
    origin.set(|_| Reply::ok("next"));
    assert_eq!(client.get("/next").text(), "next");
}

#[test]
fn a_last_answer_in_chunks_goes_through_too() {
    let origin = Origin::always(Reply::chunked(
        500,
        &[("X-A", "b")],
        &[b"one ", b"two ", b"three"],
    ));
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { tries: 3, wait: 1ms }"));
    let answer = get(proxy.port, "/");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (500, "one two three")
    );
    assert_eq!((answer.header("x-a"), answer.complete), (Some("b"), true));
    assert_eq!(origin.count(), 3);
}

#[test]
fn every_failure_before_the_response_is_retried() {
    let whole = Reply::ok("never seen");
    let failures = [
        ("status 500", Reply::status(500)),
        ("status 504", Reply::status(504)),
        ("reset", Reply::reset()),
        ("reset", Reply::close()),
        ("reset", whole.clone().reset_after(5)),
        ("reset", whole.clone().reset_after(25)),
        ("reset", whole.cut_after(25)),
        ("reset", Reply::garbage()),
        ("timeout", Reply::hang()),
        ("timeout", Reply::ok("too late").after(600 * MS)),
    ];
    let script = failures.clone();
    let broken = Origin::new(move |r| {
        let case: usize = r.target[1..].parse().unwrap();
        script[case].1.clone()
    });
    let sound = Origin::always(Reply::ok("sound"));
    let rules = "retry: { tries: 2, wait: 1ms }\ntimeouts: { first_byte: 300ms }";
    let upstreams = never_ejecting(&one_route(&[broken.port, sound.port], rules));
    let proxy = Proxy::start(&upstreams);
    for (case, (outcome, _)) in failures.iter().enumerate() {
        let path = format!("/{case}");
        // Twice, because the first one may go straight to the sound backend.
        for _ in 0..2 {
            let answer = get(proxy.port, &path);
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "sound"),
                "{outcome}"
            );
        }
        let tried = crate::harness::eventually("the log line", || {
            let lines = proxy.log_lines();
            let tries: Vec<_> = lines
                .iter()
                .filter(|l| l["url.path"] == path)
                .map(outcomes)
                .collect();
            tries.into_iter().find(|t| t.len() == 2)
        });
        assert_eq!(tried, [*outcome, "ok"], "case {case}");
    }
}

#[test]
fn a_failed_connect_is_retried() {
    let sound = Origin::always(Reply::ok("sound"));
    let proxy = Proxy::start(&one_route(
        &[free_port(), sound.port],
        "retry: { wait: 1ms }",
    ));
    for n in 0..4 {
        assert_eq!(get(proxy.port, &format!("/{n}")).text(), "sound");
    }
    let tried: Vec<_> = (0..4)
        .map(|n| outcomes(&proxy.logged(&format!("/{n}"))))
        .collect();
    assert!(
        tried.contains(&vec!["connect_failure".into(), "ok".into()]),
        "{tried:?}"
    );
}

#[test]
fn backends_that_were_not_tried_come_first_and_then_it_goes_round_again() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::always(Reply::status(502))).collect();
    let ports: Vec<u16> = origins.iter().map(|o| o.port).collect();
    let proxy = Proxy::start(&one_route(&ports, "retry: { tries: 7, wait: 1ms }"));
    assert_eq!(get(proxy.port, "/round").status, 502);
    let line = proxy.logged("/round");
    let order: Vec<&str> = line["tries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["backend"].as_str().unwrap())
        .collect();
    assert_eq!(order.len(), 7);
    for round in [&order[0..3], &order[3..6]] {
        let mut round = round.to_vec();
        round.sort();
        round.dedup();
        assert_eq!(round.len(), 3, "each once in {order:?}");
    }
}

#[test]
fn what_is_not_listed_is_not_retried() {
    let origin = Origin::new(|r| match r.target.as_str() {
        "/reset" => Reply::reset(),
        "/hang" => Reply::hang(),
        status => Reply::status(status[1..].parse().unwrap()),
    });
    let rules = "retry: { tries: 3, wait: 1ms, on: [503] }\ntimeouts: { first_byte: 200ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    for (path, status, tries, why) in [
        ("/500", 500, 1, "not_listed"),
        ("/503", 503, 3, "tries_used_up"),
        ("/404", 404, 1, "answered"),
        ("/reset", 502, 1, "not_listed"),
        ("/hang", 504, 1, "not_listed"),
    ] {
        assert_eq!(get(proxy.port, path).status, status, "{path}");
        assert_eq!(
            origin
                .requests()
                .iter()
                .filter(|r| r.target == path)
                .count(),
            tries,
            "{path}"
        );
        assert_eq!(proxy.logged(path)["retry"], why, "{path}");
    }
}

#[test]
fn a_status_like_429_is_retried_when_listed() {
    let origin = Origin::sequence(&[Reply::status(429), Reply::ok("fine")]);
    let proxy = Proxy::start(&one_route(
        &[origin.port],
        "retry: { wait: 1ms, on: [429] }",
    ));
    assert_eq!(get(proxy.port, "/").text(), "fine");
}

#[test]
fn one_try_means_one_try() {
    let origin = Origin::always(Reply::status(500));
    let proxy = Proxy::start(&one_route(
        &[origin.port, free_port()],
        "retry: { tries: 1 }",
    ));
    let mut statuses = vec![get(proxy.port, "/a").status, get(proxy.port, "/b").status];
    statuses.sort();
    assert_eq!(statuses, [500, 502]);
    assert_eq!(origin.count(), 1);
    assert_eq!(proxy.logged("/a")["retry"], "tries_used_up");
}

#[test]
fn nothing_is_retried_once_a_byte_of_the_response_has_gone_downstream() {
    let body = vec![b'x'; 50_000];
    let reply = Reply::answer(200, &[], &body);
    let cases = [
        ("/reset", reply.clone().reset_after(30_000)),
        ("/cut", reply.clone().cut_after(30_000)),
        ("/head", reply.cut_after_head()),
        (
            "/chunks",
            Reply::chunked(200, &[], &[b"some", &body]).cut_after(20_000),
        ),
    ];
    let script = cases.clone();
    let origin = Origin::new(move |r| {
        script
            .iter()
            .find(|(path, _)| *path == r.target)
            .unwrap()
            .1
            .clone()
    });
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { tries: 5, wait: 1ms }"));
    for (path, _) in &cases {
        let mut client = Client::to(proxy.port);
        client.begin("GET", path, &[], b"");
        // The client sees a cut response, never a whole one; a head that could not be sent yet may be a 502.
        let answer = client.try_answer_to("GET").expect("a head");
        if *path != "/head" || answer.status == 200 {
            assert_eq!((answer.status, answer.complete), (200, false), "{path}");
            client.expect_close();
            assert_eq!(proxy.logged(path)["retry"], "response_started", "{path}");
        }
        assert_eq!(
            origin
                .requests()
                .iter()
                .filter(|r| r.target == *path)
                .count(),
            1,
            "{path}"
        );
    }
}

#[test]
fn a_wait_can_grow_to_its_maximum() {
    let origin = Origin::always(Reply::status(500));
    let proxy = Proxy::start(&one_route(
        &[origin.port],
        "retry: { tries: 5, wait: { initial: 40ms, max: 160ms, jitter: 0% } }",
    ));
    get(proxy.port, "/");
    for (gap, least) in gaps(&origin).iter().zip([40, 80, 160, 160]) {
        assert!(
            *gap >= least * MS && *gap < least * MS + 1_000 * MS,
            "{:?}",
            gaps(&origin)
        );
    }
    assert_eq!(origin.count(), 5);
}

#[test]
fn retry_after_is_honoured_up_to_max_wait() {
    for (value, least, most) in [
        ("1", 1_000, 3_000),
        ("100", 1_200, 4_000),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 1_200, 4_000),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 50, 900),
        ("0", 50, 900),
        ("soon", 50, 900),
    ] {
        let first = Reply::answer(503, &[("Retry-After", value)], b"");
        let origin = Origin::sequence(&[first, Reply::ok("back")]);
        let rules = "retry: { tries: 2, wait: 50ms, max_wait: 1200ms }";
        let proxy = Proxy::start(&one_route(&[origin.port], rules));
        assert_eq!(get(proxy.port, "/").text(), "back");
        let gap = gaps(&origin)[0];
        assert!(
            gap >= least * MS && gap < most * MS,
            "Retry-After {value}: {gap:?}"
        );
    }
}

#[test]
fn a_wait_that_total_does_not_allow_is_not_begun() {
    let origin = Origin::always(Reply::answer(503, &[("Retry-After", "9")], b"busy"));
    let rules = "retry: { tries: 5, wait: 10ms }\ntimeouts: { total: 2s }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let start = Instant::now();
    let answer = get(proxy.port, "/");
    assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    assert!(start.elapsed() < 1_500 * MS, "{:?}", start.elapsed());
    assert_eq!(origin.count(), 1);
    assert_eq!(proxy.logged("/")["retry"], "total_timeout");
}

#[test]
fn a_failed_answer_is_not_waited_for() {
    // Its head is enough: the body never ends.
    let gate = Gate::default();
    let head = "HTTP/1.1 500 Slow\r\nContent-Length: 10\r\n\r\nhalf";
    let slow = Reply::raw(head).then(Reply::raw("").when(&gate)).closing();
    let origin = Origin::sequence(&[slow, Reply::ok("next")]);
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { wait: 1ms }"));
    let answer = get(proxy.port, "/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "next"));
    gate.open();
}

#[test]
fn early_hints_do_not_count_as_the_response() {
    let first = Reply::raw("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
    let origin = Origin::sequence(&[first.then(Reply::status(500)), Reply::ok("final")]);
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { wait: 1ms }"));
    let answer = get(proxy.port, "/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "final"));
}
