//! What one client's request may and may not do to the answers of others.

use crate::cache::{caching, hit, rules, stored, told};
use crate::cache_disk::{on_disk, until_written};
use crate::client::{Client, get, request};
use crate::harness::{Proxy, one_route, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply, Request};
use std::time::Duration;

const ORIGIN: &str = "respect_origin: true";
const ALICE: (&str, &str) = ("Authorization", "Bearer alice");

#[test]
fn an_origin_that_breaks_off_midway_does_so_for_its_clients_and_no_longer() {
    let origin = Origin::new(|r| match r.number {
        0 => Reply::ok(vec![b'x'; 50_000]).cut_after(20_000),
        _ => Reply::ok("whole"),
    });
    let proxy = Proxy::start(&one_route(
        &[origin.port],
        "cache: { ttl: 1h }\nretry: { tries: 3, wait: 1ms }",
    ));
    assert!(!get(proxy.port, "/").complete);
    assert_eq!(origin.count(), 1);
    let next = get(proxy.port, "/");
    stored(&next);
    assert_eq!(next.text(), "whole");
    hit(&get(proxy.port, "/"));
    assert_eq!(proxy.count_said("panicked"), 0);
}

#[test]
fn an_answer_that_varies_on_what_the_proxy_writes_is_not_stored() {
    for (vary, route) in [
        ("X-Forwarded-For", ""),
        ("Accept, X-Real-IP", ""),
        (
            "X-Team",
            "headers: { request: { set: { X-Team: \"{client_ip}\" } } }\n",
        ),
    ] {
        let headers = [("Vary", vary), ("Cache-Control", "max-age=60")];
        let origin = Origin::new(move |_| Reply::answer(200, &headers, b"for one"));
        let yaml = one_route(&[origin.port], &format!("{route}cache: {{ {ORIGIN} }}"));
        let proxy = Proxy::start(&yaml);
        for _ in 0..2 {
            let answer = get(proxy.port, "/");
            assert!(told(&answer).contains("vary-star"), "{}", told(&answer));
        }
        assert_eq!(origin.count(), 2);
    }
}

#[test]
fn what_a_304_makes_private_is_given_to_none_of_those_who_waited() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |r| {
        let tag = ("ETag", "\"1\"");
        match (r.number, r.header("if-none-match")) {
            (0, _) => Reply::answer(200, &[tag, ("Cache-Control", "max-age=0")], b"public"),
            (_, Some(_)) => Reply::raw(
                "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nCache-Control: private\r\n\r\n",
            )
            .when(&open),
            _ => Reply::answer(200, &[("Cache-Control", "private")], b"own"),
        }
    });
    let proxy = caching(&origin, ORIGIN);
    get(proxy.port, "/");
    let mut alice = Client::to(proxy.port);
    alice.begin("GET", "/", &[ALICE], b"");
    until("the validation", || origin.count() == 2);
    let mut bob = Client::to(proxy.port);
    bob.begin("GET", "/", &[], b"");
    assert!(bob.is_silent_for(Duration::from_millis(100)));
    gate.open();
    assert_eq!(alice.answer().text(), "public");
    assert_eq!(bob.answer().text(), "own");
}

#[test]
fn one_clients_refusal_does_not_cost_others_what_is_fresh() {
    let origin = Origin::new(|r| match r.header("authorization") {
        Some(_) => Reply::status(401),
        None => Reply::answer(200, &[("Cache-Control", "max-age=600")], b"fresh"),
    });
    let proxy = caching(&origin, ORIGIN);
    get(proxy.port, "/");
    let anew = [("Cache-Control", "no-cache"), ALICE];
    assert_eq!(request(proxy.port, "GET", "/", &anew, b"").status, 401);
    let answer = get(proxy.port, "/");
    hit(&answer);
    assert_eq!((origin.count(), answer.text().as_str()), (2, "fresh"));
}

#[test]
fn an_origin_that_stops_to_vary_is_cached_again() {
    let origin = Origin::new(|r| match r.number {
        0 => Reply::answer(
            200,
            &[
                ("Vary", "Accept"),
                ("Cache-Control", "max-age=600"),
                ("Age", "900"),
            ],
            b"0",
        ),
        _ => Reply::answer(200, &[("Cache-Control", "max-age=600")], b"1"),
    });
    // Stale from the start, and kept for when the origin fails.
    let proxy = caching(&origin, "respect_origin: true, stale_if_error: 1h");
    get(proxy.port, "/");
    assert_eq!(get(proxy.port, "/").text(), "1");
    for _ in 0..3 {
        hit(&get(proxy.port, "/"));
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn clients_that_insist_on_a_new_answer_share_one() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |r| {
        let answer = Reply::answer(200, &[("Cache-Control", "max-age=600")], b"new");
        if r.number == 0 {
            answer
        } else {
            answer.when(&open)
        }
    });
    let proxy = caching(&origin, ORIGIN);
    get(proxy.port, "/");
    let mut clients: Vec<Client> = (0..20).map(|_| Client::to(proxy.port)).collect();
    for client in &mut clients {
        client.begin("GET", "/", &[("Cache-Control", "no-cache")], b"");
    }
    until("the one request", || origin.count() == 2);
    assert!(clients[19].is_silent_for(Duration::from_millis(200)));
    gate.open();
    for mut client in clients {
        assert_eq!(client.answer().text(), "new");
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn only_if_cached_does_not_make_a_read_of_a_write() {
    let origin = Origin::always(Reply::answer(
        200,
        &[("Cache-Control", "max-age=600")],
        b"x",
    ));
    let proxy = caching(&origin, ORIGIN);
    get(proxy.port, "/");
    let only = [("Cache-Control", "only-if-cached")];
    assert_eq!(request(proxy.port, "POST", "/", &only, b"").status, 200);
    assert_eq!(origin.last().method, "POST");
    assert_eq!(request(proxy.port, "GET", "/other", &only, b"").status, 504);
}

#[test]
fn http_1_0_clients_get_no_interim_answers() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let origin = Origin::new(move |_| {
        Reply::raw(hint).then(Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    });
    for route in ["retry: { tries: 1 }", "cache: { ttl: 1h }"] {
        let proxy = Proxy::start(&one_route(&[origin.port], route));
        let mut client = Client::to(proxy.port);
        client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().expect("a head").status, 200);
    }
}

#[test]
fn the_origins_date_is_in_no_other_answer_and_in_no_body() {
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    let other = "Mon, 07 Nov 1994 08:49:37 GMT";
    let large = "x".repeat(9000);
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/large" => Reply::answer(
            200,
            &[("Date", old), ("X-Large", &large)],
            format!("\r\nDate: {other}\r\n").as_bytes(),
        ),
        _ => Reply::answer(
            200,
            &[("Date", old)],
            format!("\r\nDate: {other}\r\n").as_bytes(),
        ),
    });
    let proxy = Proxy::start(
        &one_route(
            &[origin.port],
            "match: { path: /large }\nretry: { tries: 1 }",
        )
        .replace("    match: { path: / }\n", ""),
    );
    let mut client = Client::to(proxy.port);
    for _ in 0..2 {
        let answer = client.get("/large");
        assert_eq!(answer.text(), format!("\r\nDate: {other}\r\n"));
        let missing = client.get("/missing");
        assert_eq!(missing.status, 404);
        assert_ne!(missing.header("date"), Some(old));
    }
    let small = client.get("/large/small");
    assert_eq!(small.header("date"), Some(old));
    assert_eq!(small.text(), format!("\r\nDate: {other}\r\n"));
}

#[test]
fn a_guess_at_freshness_is_not_made_where_a_cookie_tells_people_apart() {
    let origin = Origin::new(|r| {
        let headers = [("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")];
        Reply::answer(
            200,
            &headers,
            r.header("cookie").unwrap_or("nobody").as_bytes(),
        )
    });
    let proxy = caching(&origin, ORIGIN);
    for who in ["alice", "bob"] {
        let answer = request(proxy.port, "GET", "/", &[("Cookie", who)], b"");
        assert_eq!(answer.text(), who);
        assert!(
            told(&answer).ends_with("detail=\"cookie\""),
            "{}",
            told(&answer)
        );
    }
}

const ANN: (&str, &str) = ("Cookie", "who=ann");
const BOB: (&str, &str) = ("Cookie", "who=bob");

#[test]
fn a_part_made_for_one_person_is_given_to_no_other() {
    for (lines, cache) in [
        (
            &[("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")][..],
            ORIGIN,
        ),
        (&[], "respect_origin: true, stale_if_error: 1h"),
    ] {
        let origin = Origin::new(move |r| {
            let range = [("ETag", "\"a\""), ("Content-Range", "bytes 0-6/100")];
            let who = r.header("cookie").unwrap_or("who=all").to_string();
            Reply::answer(206, &[lines, &range].concat(), who.as_bytes())
        });
        let proxy = caching(&origin, cache);
        let part = ("Range", "bytes=0-6");
        let ask = |who| request(proxy.port, "GET", "/", &[part, who], b"");
        for who in [ANN, BOB, ANN] {
            assert_eq!(ask(who).text(), who.1, "{}", told(&ask(who)));
        }
        // Nor when the origin fails.
        origin.set(|_| Reply::status(500));
        assert_eq!(ask(BOB).status, 500);
    }
}

#[test]
fn what_a_304_or_a_head_says_to_one_person_is_told_to_no_other() {
    for method in ["GET", "HEAD"] {
        for (who, vary) in [(ANN, ""), (("X-Any", "who=ann"), "X-Forwarded-For")] {
            let origin = Origin::new(move |r| {
                let (number, who) = (r.number, r.header("cookie").or(r.header("x-any")));
                let (tag, kept) = (("ETag", "\"a\""), ("Cache-Control", "public, max-age=0"));
                let own = ("X-Own", who.unwrap_or("nobody"));
                match number {
                    0 => Reply::answer(200, &[tag, kept, own], b"for all"),
                    1 if vary.is_empty() => update(r, &[tag, own]),
                    1 => update(r, &[tag, kept, own, ("Vary", vary)]),
                    _ => update(r, &[tag, kept]),
                }
            });
            let proxy = caching(&origin, ORIGIN);
            assert_eq!(get(proxy.port, "/").header("x-own"), Some("nobody"));
            let theirs = request(proxy.port, method, "/", &[who], b"");
            assert_eq!((theirs.status, theirs.header("x-own")), (200, Some(who.1)));
            let next = request(proxy.port, "GET", "/", &[BOB], b"");
            assert_ne!(next.header("x-own"), Some(who.1), "{method} {vary}");
            assert_eq!(next.text(), "for all");
        }
    }
}

/// What an origin says of what it said before: 304 where it is asked so.
fn update(r: &Request, lines: &[(&str, &str)]) -> Reply {
    if r.header("if-none-match").is_none() {
        return Reply::answer(200, lines, b"for all");
    }
    let lines = lines.iter().map(|(n, v)| format!("{n}: {v}\r\n"));
    let lines: String = lines.collect();
    Reply::raw(format!("HTTP/1.1 304 Not Modified\r\n{lines}\r\n"))
}

#[test]
fn the_cookie_of_a_304_is_for_who_asked() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |r| {
        let lines = [("ETag", "\"a\""), ("Cache-Control", "public, max-age=0")];
        match r.number {
            0 => Reply::answer(200, &lines, b"for all"),
            1 => update(r, &[&lines[..], &[("Set-Cookie", "session=1")]].concat()).when(&open),
            _ => update(r, &lines),
        }
    });
    let proxy = caching(&origin, ORIGIN);
    get(proxy.port, "/");
    let mut first = Client::to(proxy.port);
    first.begin("GET", "/", &[], b"");
    until("the validation", || origin.count() == 2);
    let mut other = Client::to(proxy.port);
    other.begin("GET", "/", &[], b"");
    assert!(other.is_silent_for(Duration::from_millis(100)));
    gate.open();
    let answer = first.answer();
    assert_eq!(answer.all("set-cookie"), ["session=1"]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "for all"));
    for answer in [other.answer(), get(proxy.port, "/")] {
        assert!(answer.all("set-cookie").is_empty(), "{}", told(&answer));
        assert_eq!(answer.text(), "for all");
    }
}

#[test]
fn a_head_during_a_fill_leaves_the_fill_alone() {
    let gate = Gate::default();
    let open = gate.clone();
    let lines = "ETag: \"a\"\r\nCache-Control: max-age=600\r\nContent-Length: 6";
    let origin = Origin::new(move |r| {
        let head = Reply::raw(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n"));
        match r.method.as_str() {
            "HEAD" => head,
            _ => head
                .then(Reply::raw("abc"))
                .then(Reply::raw("def").when(&open)),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let proxy = on_disk(directory.path()).start(&rules(&origin, ORIGIN));
    let mut first = Client::to(proxy.port);
    first.begin("GET", "/", &[], b"");
    // Its head may be held back until there is more of it.
    until("the fill", || origin.count() == 1);
    until("its head", || {
        let only = [("Cache-Control", "only-if-cached")];
        request(proxy.port, "HEAD", "/", &only, b"").status == 200
    });
    for _ in 0..3 {
        let anew = [("Cache-Control", "no-cache")];
        assert_eq!(request(proxy.port, "HEAD", "/", &anew, b"").status, 200);
    }
    assert_eq!(origin.count(), 4);
    gate.open();
    assert_eq!(first.answer().text(), "abcdef");
    // It finds its object where it put it, and finishes it: one that stays as it was coming could never be evicted.
    until_written(directory.path(), 1);
    let answer = get(proxy.port, "/");
    hit(&answer);
    assert_eq!((answer.text().as_str(), origin.count()), ("abcdef", 4));
}

#[test]
fn only_if_cached_is_never_forwarded_for_a_precondition() {
    let origin = Origin::always(Reply::ok("x"));
    let proxy = caching(&origin, ORIGIN);
    for name in ["If-Match", "If-Unmodified-Since"] {
        for method in ["GET", "HEAD"] {
            let only = [("Cache-Control", "only-if-cached"), (name, "\"a\"")];
            assert_eq!(request(proxy.port, method, "/", &only, b"").status, 504);
        }
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn the_scheme_that_a_client_writes_makes_no_other_answer() {
    let origin = Origin::new(|r| {
        let proto = r.header("x-forwarded-proto").unwrap_or("none");
        Reply::ok(format!("{} {proto} {}", r.target, r.number))
    });
    let proxy = caching(&origin, "ttl: 1h");
    for target in ["https://example.com/p", "http://example.com/p", "/p"] {
        assert_eq!(get(proxy.port, target).text(), "/p http 0", "{target}");
    }
    // What makes one of them void makes the others so.
    assert_eq!(
        request(proxy.port, "POST", "https://example.com/p", &[], b"").status,
        200
    );
    assert_eq!(get(proxy.port, "/p").text(), "/p http 2");
}
