//! Many clients for one answer, and answers kept for when the origin fails.

use crate::cache::{caching, hit, is_hit, logged_as, not_stored, rules, stored, told};
use crate::client::{Answer, Client, get, request};
use crate::client2::Client2;
use crate::harness::{PATIENCE, Proxy, eventually, one_route, outcomes, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";

/// So many clients that have asked for this and got nothing yet.
pub(crate) fn waiting(proxy: &Proxy, clients: usize, path: &str) -> Vec<Client> {
    let mut all: Vec<Client> = (0..clients).map(|_| Client::to(proxy.port)).collect();
    for client in &mut all {
        client.begin("GET", path, &[], b"");
    }
    all
}

pub(crate) fn answers(clients: Vec<Client>) -> Vec<Answer> {
    clients.into_iter().map(|mut c| c.answer()).collect()
}

/// A stored answer past its time, given because the origin failed.
#[track_caller]
fn stale(answer: &Answer) {
    let told = told(answer);
    let ttl = told
        .strip_prefix("backstop; hit; ttl=")
        .and_then(|t| t.strip_suffix("; detail=\"stale-if-error\""));
    let ttl: i64 = ttl.and_then(|t| t.parse().ok()).expect(told);
    assert!(
        answer.status == 200 && answer.complete && ttl <= 0,
        "{told}"
    );
    let age: i64 = answer
        .header("age")
        .expect("an age")
        .parse()
        .expect("seconds");
    assert!(age >= 0);
}

/// Waits for the first answer that is no longer fresh.
fn once_expired(proxy: &Proxy, path: &str) -> Answer {
    eventually("the end of the ttl", || {
        let answer = get(proxy.port, path);
        let fresh = is_hit(&answer) && !told(&answer).contains("detail");
        (!fresh).then_some(answer)
    })
}

#[test]
fn s4_200_clients_at_once_ask_for_one_slow_url_and_the_origin_sees_one_request() {
    let gate = Gate::default();
    let open = gate.clone();
    let body = vec![b'x'; 200_000];
    let expected = body.clone();
    let origin = Origin::new(move |_| Reply::ok(&body).when(&open));
    let proxy = caching(&origin, "ttl: 1h");
    let mut clients = waiting(&proxy, 200, "/slow");
    origin.request(0);
    assert!(clients[199].is_silent_for(300 * MS));
    gate.open();
    for answer in answers(clients) {
        assert_eq!(answer.status, 200);
        assert!(
            answer.complete && answer.body == expected,
            "{}",
            told(&answer)
        );
    }
    assert_eq!(origin.count(), 1);
    until("200 log lines", || proxy.log_lines().len() == 200);
    let lines = proxy.log_lines();
    assert_eq!(lines.iter().filter(|l| !outcomes(l).is_empty()).count(), 1);
    hit(&get(proxy.port, "/slow"));
}

#[test]
fn s4_different_urls_do_not_wait_for_each_other() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/held" => Reply::ok("held").when(&open),
        _ => Reply::ok("quick"),
    });
    let proxy = caching(&origin, "ttl: 1h");
    let mut held = waiting(&proxy, 3, "/held");
    until("the fill", || origin.count() == 1);
    assert_eq!(get(proxy.port, "/quick").text(), "quick");
    let tenant = [("Authorization", "Bearer other")];
    let mut other = Client::to(proxy.port);
    other.begin("GET", "/held", &tenant, b"");
    // Another person's answer is another fill.
    until("their fill", || origin.count() == 3);
    assert!(held[0].is_silent_for(100 * MS));
    gate.open();
    held.push(other);
    assert!(answers(held).iter().all(|a| a.text() == "held"));
    assert_eq!(origin.count(), 3);
}

#[test]
fn s4_a_client_that_leaves_during_a_fill_does_not_break_it_for_the_next() {
    for begun in [false, true] {
        for others in [0, 5] {
            let gate = Gate::default();
            let open = gate.clone();
            let origin = Origin::new(move |r| {
                let (head, rest) = if begun {
                    (50_000, 50_000)
                } else {
                    (0, 100_000)
                };
                let rest = Reply::raw(vec![b'x'; rest]);
                if r.number > 0 {
                    Reply::ok(vec![b'x'; 100_000])
                } else if begun {
                    let first = Reply::raw(HEAD).then(Reply::raw(vec![b'x'; head]));
                    first.then(rest.when(&open))
                } else {
                    Reply::raw(HEAD).when(&open).then(rest)
                }
            });
            let proxy = caching(&origin, "ttl: 1h");
            let mut leaver = Client::to(proxy.port);
            leaver.begin("GET", "/", &[], b"");
            origin.request(0);
            // It may have got the first half by then.
            let _ = leaver.is_silent_for(100 * MS);
            let mut clients = waiting(&proxy, others, "/");
            if let Some(last) = clients.last_mut() {
                // They are all there before it goes.
                let _ = last.is_silent_for(100 * MS);
            }
            leaver.leave();
            clients.extend(waiting(&proxy, 1, "/"));
            let _ = clients[others].is_silent_for(300 * MS);
            gate.open();
            for answer in answers(clients) {
                assert_eq!(answer.status, 200);
                assert!(answer.complete && answer.body == vec![b'x'; 100_000]);
            }
            hit(&get(proxy.port, "/"));
            assert!(origin.count() <= 2, "{} requests", origin.count());
        }
    }
}

#[test]
fn s4_an_answer_that_is_cut_midway_is_never_stored() {
    let whole = vec![b'x'; 100_000];
    let cuts = [
        Reply::ok(&whole).cut_after(60_000),
        Reply::ok(&whole).reset_after(60_000),
        Reply::ok(&whole).cut_after_head(),
        Reply::chunked(200, &[], &[&whole[..50_000], &whole[50_000..]]).cut_after(70_000),
        Reply::chunked(200, &[], &[&whole]).cut_after(100_062),
    ];
    for (n, cut) in cuts.into_iter().enumerate() {
        let origin = Origin::sequence(&[cut.clone(), cut, Reply::ok(&whole)]);
        let proxy = caching(&origin, "ttl: 1h");
        for _ in 0..2 {
            let mut client = Client::to(proxy.port);
            client.begin("GET", "/", &[], b"");
            // Nobody may take it for whole.
            let answer = client.try_answer_to("GET");
            let taken = answer.is_ok_and(|a| a.status == 200 && a.complete);
            assert!(!taken, "cut {n}");
        }
        let answer = get(proxy.port, "/");
        stored(&answer);
        assert!(answer.body == whole, "cut {n}");
        let answer = get(proxy.port, "/");
        hit(&answer);
        assert!(answer.body == whole, "cut {n}");
        assert_eq!(origin.count(), 3);
    }
}

#[test]
fn s5_retries_come_before_storing_and_no_failure_is_stored() {
    let failures = [Reply::status(500), Reply::reset()];
    let origin = Origin::sequence(&[&failures[..], &[Reply::ok("third")]].concat());
    let route = "cache: { ttl: 1h }\nretry: { tries: 3, wait: 1ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], route));
    let answer = get(proxy.port, "/");
    stored(&answer);
    assert_eq!((answer.status, answer.text().as_str()), (200, "third"));
    let again = get(proxy.port, "/");
    hit(&again);
    assert_eq!(again.text(), "third");
    assert_eq!(origin.count(), 3);
    let miss = logged_as(&proxy, "/", "miss");
    assert_eq!(outcomes(&miss), ["status 500", "reset", "ok"]);
    assert_eq!(miss["retry"], "answered");
    // A failure that stays one is asked for anew.
    origin.set(|_| Reply::status(500));
    for _ in 0..2 {
        let answer = get(proxy.port, "/fails");
        not_stored(&answer);
        assert_eq!(answer.status, 500);
    }
    assert_eq!(origin.count(), 3 + 6);
    origin.set(|_| Reply::ok("well again"));
    stored(&get(proxy.port, "/fails"));
}

#[test]
fn s5_with_the_origin_down_what_was_stored_is_served_stale() {
    let mut origin = Origin::new(|r| Reply::ok(&r.target));
    let proxy = caching(&origin, "ttl: 200ms, stale_if_error: 1h");
    for n in 0..20 {
        stored(&get(proxy.port, &format!("/{n}")));
    }
    origin.stop();
    once_expired(&proxy, "/19");
    for n in 0..20 {
        let path = format!("/{n}");
        let answer = get(proxy.port, &path);
        stale(&answer);
        assert_eq!(answer.text(), path);
    }
    let line = logged_as(&proxy, "/19", "stale");
    assert_eq!(line["http.response.status_code"], 200);
    // A kept connection that the backend has just closed breaks, a new one is not made.
    assert!(matches!(outcomes(&line)[..], [ref one] if one == "connect_failure" || one == "reset"));
    let head = request(proxy.port, "HEAD", "/3", &[], b"");
    stale(&head);
    // What was never stored is not made up.
    let uncached = get(proxy.port, "/uncached");
    assert!(
        (502..=504).contains(&uncached.status),
        "{}",
        uncached.status
    );
    not_stored(&uncached);
    // And nobody else's is given out.
    let other = [("Authorization", "Bearer other")];
    assert!(request(proxy.port, "GET", "/3", &other, b"").status >= 502);
    origin.restart();
    until("a fresh answer", || {
        told(&get(proxy.port, "/3")).ends_with("; stored")
    });
}

#[test]
fn s5_a_failing_origin_is_tried_again_before_a_stale_answer() {
    let failures = [
        ("status 500", Reply::status(500)),
        ("status 503", Reply::status(503)),
        ("reset", Reply::reset()),
        ("timeout", Reply::hang()),
    ];
    for (outcome, failure) in failures {
        // Closing, so that no try is on a connection kept from before.
        let origin = Origin::always(Reply::ok("kept").closing());
        let route = "cache: { ttl: 150ms, stale_if_error: 1h }\nretry: { tries: 2, wait: 1ms }\n\
                     timeouts: { first_byte: 200ms }";
        let proxy = Proxy::start(&one_route(&[origin.port], route));
        stored(&get(proxy.port, "/"));
        origin.set(move |_| failure.clone());
        let answer = once_expired(&proxy, "/");
        stale(&answer);
        assert_eq!(answer.text(), "kept", "{outcome}");
        let line = logged_as(&proxy, "/", "stale");
        assert_eq!(outcomes(&line), [outcome, outcome]);
    }
}

#[test]
fn s5_an_answer_that_says_no_is_not_replaced_by_a_stale_one() {
    let origin = Origin::always(Reply::ok("kept"));
    let proxy = caching(&origin, "ttl: 150ms, stale_if_error: 1h");
    stored(&get(proxy.port, "/"));
    origin.set(|_| Reply::status(404));
    let answer = once_expired(&proxy, "/");
    assert_eq!(answer.status, 404);
    not_stored(&answer);
}

#[test]
fn s5_after_stale_if_error_the_failure_goes_through() {
    let mut origin = Origin::always(Reply::ok("kept"));
    let proxy = caching(&origin, "ttl: 200ms, stale_if_error: 2s");
    stored(&get(proxy.port, "/"));
    let filled = Instant::now();
    origin.stop();
    let mut seen_stale = 0;
    let failed = eventually("the end of the stale time", || {
        let answer = get(proxy.port, "/");
        if answer.status == 200 {
            assert_eq!(answer.text(), "kept");
            if told(&answer).contains("detail") {
                stale(&answer);
                seen_stale += 1;
            } else {
                hit(&answer);
                assert_eq!(seen_stale, 0, "fresh after stale");
            }
        }
        (answer.status != 200).then_some(answer)
    });
    assert!((502..=504).contains(&failed.status) && seen_stale > 0);
    assert!(filled.elapsed() >= 2_000 * MS, "{:?}", filled.elapsed());
    assert!(get(proxy.port, "/").status >= 502);
}

#[test]
fn s5_without_stale_if_error_nothing_stale_is_served() {
    let mut origin = Origin::always(Reply::ok("kept"));
    let proxy = Proxy::start(&rules(&origin, "ttl: 200ms"));
    stored(&get(proxy.port, "/"));
    origin.stop();
    let answer = once_expired(&proxy, "/");
    assert!((502..=504).contains(&answer.status), "{}", answer.status);
    not_stored(&answer);
}

#[test]
fn a_request_that_ends_before_its_fill_leaves_no_lock() {
    // The body comes in a packet of its own, when the answer to such a request is long over.
    let head = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 10\r\n\r\n";
    let origin = Origin::always(
        Reply::raw(head)
            .after(150 * MS)
            .then(Reply::raw("0123456789")),
    );
    let proxy = Proxy::start(&rules(&origin, "ttl: 1m"));
    for (n, (method, header)) in [
        ("HEAD", ("X-A", "b")),
        ("GET", ("If-None-Match", "\"a\"")),
        ("GET", ("Range", "bytes=0-1")),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        request(proxy.port, method, &path, &[header], b"");
        let start = Instant::now();
        assert_eq!(get(proxy.port, &path).text(), "0123456789");
        assert!(
            start.elapsed() < PATIENCE / 5,
            "{method}: {:?}",
            start.elapsed()
        );
        hit(&get(proxy.port, &path));
    }
}

#[test]
fn s5_a_maintenance_page_with_retry_after_gives_way_to_a_stale_answer() {
    let origin = Origin::always(Reply::ok("kept"));
    let yaml = rules(&origin, "ttl: 200ms, stale_if_error: 1h");
    let proxy = Proxy::start(&yaml);
    stored(&get(proxy.port, "/"));
    origin.set(|_| Reply::answer(503, &[("Retry-After", "3600")], b"maintenance"));
    let answer = eventually("a stale answer", || {
        let answer = get(proxy.port, "/");
        assert_eq!(answer.text(), "kept");
        told(&answer).contains("stale-if-error").then_some(answer)
    });
    stale(&answer);
}

#[test]
fn s5_a_stale_answer_is_whole_also_when_total_is_what_passed() {
    let body = vec![b'x'; 900_000];
    let kept = body.clone();
    let origin = Origin::new(move |_| Reply::ok(&kept));
    let yaml = one_route(
        &[origin.port],
        "cache: { ttl: 100ms, stale_if_error: 1h }\nretry: { tries: 1 }\ntimeouts: { total: 500ms }",
    );
    let proxy = Proxy::with().http2().start(&yaml);
    let mut client = Client2::to(proxy.port);
    assert_eq!(client.get("/").body, body);
    origin.set(|_| Reply::hang());
    eventually("a stale answer", || {
        let answer = client.get("/");
        assert!(
            answer.status == 200 && answer.body == body,
            "{}",
            answer.status
        );
        told(&answer).contains("stale-if-error").then_some(())
    });
}
