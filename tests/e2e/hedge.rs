//! A second request to another backend while the first is late.

use crate::admin::with_admin;
use crate::client::{Client, get, request};
use crate::client2::Client2;
use crate::harness::{Proxy, eventually, one_route, outcomes, until, with_upstream};
use crate::maintenance::status;
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use crate::timeouts::BlackHole;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// Two backends, of which the first answers when the gate opens, and the second at once.
fn late_and_quick(gate: &Gate) -> (Origin, Origin) {
    let open = gate.clone();
    let late = Origin::new(move |_| Reply::ok("late").when(&open));
    (late, Origin::always(Reply::ok("quick")))
}

/// A backend that answers its first request when the gate opens, and the others at once.
fn held(gate: &Gate, reply: Reply) -> Origin {
    let open = gate.clone();
    Origin::new(move |r| match r.number {
        0 => reply.clone().when(&open),
        _ => Reply::ok("another"),
    })
}

/// Begins a request, and waits until both were asked.
fn ask_both(proxy: &Proxy, first: &Origin, second: &Origin) -> Client {
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    until("both are asked", || {
        first.count() == 1 && second.count() == 1
    });
    client
}

fn pool(late: &Origin, quick: &Origin, rules: &str) -> String {
    with_upstream(&one_route(&[late.port, quick.port], rules), "eject: off")
}

#[test]
fn a_late_answer_is_overtaken_by_another_backends() {
    let gate = Gate::default();
    let (late, quick) = late_and_quick(&gate);
    let proxy = Proxy::start(&pool(&late, &quick, "hedge: { after: 100ms }"));
    let start = Instant::now();
    assert_eq!(get(proxy.port, "/a?b=c").text(), "quick");
    let took = start.elapsed();
    assert!((100 * MS..2_000 * MS).contains(&took), "{took:?}");
    let line = proxy.logged("/a?b=c");
    assert_eq!(outcomes(&line), ["hedged", "ok"]);
    assert_eq!(line["backend"], format!("127.0.0.1:{}", quick.port));
    assert_eq!(line["retry"], "answered");
    let (first, second) = (late.request(0), quick.request(0));
    assert_eq!(first.target, second.target);
    for name in ["host", "x-request-id", "x-forwarded-for", "via"] {
        assert_eq!(first.header(name), second.header(name), "{name}");
    }
    until("the loser is cancelled", || late.requests()[0].abandoned);
}

/// The second request is made by other code than the first: what arrives is the same.
#[test]
fn both_get_the_same_request() {
    let gate = Gate::default();
    let (late, quick) = late_and_quick(&gate);
    let rules = "hedge: { after: 50ms, budget: 100% }\nheaders: { request: { set: { X-Set: \"{host}\" } } }";
    let proxy = Proxy::with().http2().start(&pool(&late, &quick, rules));
    let same = |target: &str| {
        let of = |origin: &Origin| {
            eventually(&format!("{target} comes"), || {
                let mut all = origin.requests().into_iter();
                all.rfind(|r| r.target == target)
            })
        };
        let (mut first, mut second) = (of(&late), of(&quick));
        first.headers.sort();
        second.headers.sort();
        assert_eq!(first.method, second.method);
        assert_eq!(first.target, second.target);
        assert_eq!(first.headers, second.headers);
        first
    };
    let fields = [
        ("Connection", "x-own, keep-alive"),
        ("X-Own", "1"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Trailer", "X-Sum"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ("Cookie", "a=1"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("Forwarded", "for=1.2.3.4"),
        ("X-CASED-name", "kept"),
        ("Accept", "a/b"),
        ("Accept", "c/d"),
    ];
    assert_eq!(
        request(proxy.port, "GET", "/a/../b?c=%20d", &fields, b"").text(),
        "quick"
    );
    let seen = same("/b?c=%20d");
    assert_eq!(seen.header("x-own"), None);
    assert_eq!(seen.header("upgrade"), None);
    assert_eq!(seen.header("x-set"), Some("example.com"));
    // The turn of the quick one.
    assert_eq!(get(proxy.port, "/").text(), "quick");
    let mut client = Client2::to(proxy.port);
    let fields = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")];
    assert_eq!(client.request("HEAD", "/b?c=d", &fields, b"").status, 200);
    assert_eq!(same("/b?c=d").header("cookie"), Some("a=1; b=2"));
    assert_eq!(get(proxy.port, "/").text(), "quick");
    // An old client without a host gets the first backend's name for one.
    let mut client = Client::to(proxy.port);
    client.send("GET /old HTTP/1.0\r\nX-A: b\r\n\r\n");
    assert_eq!(client.answer().text(), "quick");
    same("/old");
}

#[test]
fn who_answers_in_time_is_asked_alone() {
    let origins = [
        Origin::always(Reply::ok("a")),
        Origin::always(Reply::ok("b")),
    ];
    let proxy = Proxy::start(&pool(&origins[0], &origins[1], "hedge: { after: 5s }"));
    for _ in 0..20 {
        assert_eq!(get(proxy.port, "/").status, 200);
    }
    assert_eq!(origins[0].count() + origins[1].count(), 20);
}

#[test]
fn the_first_answer_wins_also_if_the_second_was_asked() {
    let gate = Gate::default();
    let first = held(&gate, Reply::ok("first"));
    let second = Origin::always(Reply::hang());
    let proxy = Proxy::start(&pool(&first, &second, "hedge: { after: 50ms }"));
    let mut client = ask_both(&proxy, &first, &second);
    gate.open();
    assert_eq!(client.answer().text(), "first");
    until("the loser is cancelled", || second.requests()[0].abandoned);
    assert_eq!(outcomes(&proxy.logged("/")), ["ok"]);
}

#[test]
fn a_second_that_fails_or_is_too_busy_does_not_end_the_first() {
    for answered in [500, 429] {
        let gate = Gate::default();
        let late = held(&gate, Reply::ok("late but right"));
        let wrong = Origin::always(Reply::status(answered));
        let proxy = Proxy::start(&pool(&late, &wrong, "hedge: { after: 50ms }"));
        let mut client = ask_both(&proxy, &late, &wrong);
        assert!(client.is_silent_for(100 * MS), "{answered}");
        wrong.until_released();
        gate.open();
        assert_eq!(client.answer().text(), "late but right");
        let line = proxy.logged("/");
        assert_eq!(
            outcomes(&line),
            [format!("status {answered}").as_str(), "ok"]
        );
        assert_eq!(line["backend"], format!("127.0.0.1:{}", late.port));
    }
}

#[test]
fn a_first_that_fails_waits_for_the_second() {
    let (one, two) = (Gate::default(), Gate::default());
    let first = held(&one, Reply::status(500));
    let second = held(&two, Reply::ok("second"));
    let rules = "hedge: { after: 50ms }\nretry: { tries: 1 }";
    let proxy = Proxy::start(&pool(&first, &second, rules));
    let mut client = ask_both(&proxy, &first, &second);
    one.open();
    assert!(client.is_silent_for(100 * MS));
    two.open();
    assert_eq!(client.answer().text(), "second");
    assert_eq!(outcomes(&proxy.logged("/")), ["status 500", "ok"]);
    assert_eq!((first.count(), second.count()), (1, 1));
}

#[test]
fn a_first_that_fails_before_it_is_late_is_retried_as_ever() {
    let (first, second) = (
        Origin::always(Reply::status(500)),
        Origin::always(Reply::ok("second")),
    );
    let rules = "hedge: { after: 50ms }\nretry: { tries: 2, wait: 200ms }";
    let proxy = Proxy::start(&pool(&first, &second, rules));
    for n in 0..4 {
        let path = format!("/{n}");
        assert_eq!(get(proxy.port, &path).text(), "second");
        assert!(!outcomes(&proxy.logged(&path)).contains(&"hedged".to_string()));
    }
    assert_eq!((first.count(), second.count()), (2, 4));
}

#[test]
fn if_both_fail_that_was_it() {
    let gate = Gate::default();
    let failing = || held(&gate, Reply::status(500));
    let (first, second) = (failing(), failing());
    let rules = "hedge: { after: 50ms }\nretry: { tries: 1 }";
    let proxy = Proxy::start(&pool(&first, &second, rules));
    let mut client = ask_both(&proxy, &first, &second);
    gate.open();
    assert_eq!(client.answer().status, 500);
    assert_eq!((first.count(), second.count()), (1, 1));
}

#[test]
fn what_has_a_side_effect_is_never_sent_twice() {
    let gate = Gate::default();
    let (late, quick) = late_and_quick(&gate);
    let proxy = Proxy::start(&pool(&late, &quick, "hedge: { after: 20ms }"));
    for (n, method) in ["POST", "PUT", "DELETE", "PATCH"].into_iter().enumerate() {
        // Every second request begins on the quick one.
        if n > 0 {
            assert_eq!(get(proxy.port, "/").text(), "quick");
        }
        let mut client = Client::to(proxy.port);
        client.begin(method, "/order", &[], b"");
        until("it is there", || late.count() == n + 1);
        assert!(client.is_silent_for(150 * MS), "{method}");
        client.leave();
    }
    assert!(quick.requests().iter().all(|r| r.target == "/"));
}

#[test]
fn no_more_than_the_budget_allows() {
    let slow = || Origin::always(Reply::ok("slow").after(30 * MS));
    let (one, two) = (slow(), slow());
    let rules = "hedge: { after: 1ms, budget: 10% }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&pool(&one, &two, rules));
    let mut client = Client::to(proxy.port);
    for _ in 0..100 {
        assert_eq!(client.get("/").status, 200);
    }
    let sent = one.count() + two.count();
    // A tenth of what any ten seconds had, or three.
    assert!((103..=113).contains(&sent), "{sent} requests");
    let hedged = status(admin)["routes"][0]["hedged_total"].as_u64();
    let hedged = hedged.expect("a number");
    // The first may answer before the second has been sent.
    assert!((sent as u64 - 100..=13).contains(&hedged), "{hedged}");
    // What was not made for want of a budget was no try.
    let backends = &status(admin)["upstreams"][0]["backends"];
    let tries = |i: usize| backends[i]["tries"].as_u64().unwrap_or_default();
    assert_eq!(tries(0) + tries(1), 100 + hedged);
}

#[test]
fn p95_is_learned_from_the_answers() {
    let gate = Gate::default();
    let (late, quick) = late_and_quick(&gate);
    late.set(|_| Reply::ok("quick"));
    let proxy = Proxy::start(&pool(&late, &quick, "hedge: { after: p95, budget: 100% }"));
    let mut client = Client::to(proxy.port);
    for _ in 0..40 {
        assert_eq!(client.get("/").text(), "quick");
    }
    let open = gate.clone();
    late.set(move |_| Reply::ok("late").when(&open));
    for n in 0..6 {
        let start = Instant::now();
        assert_eq!(client.get(&format!("/{n}")).text(), "quick");
        assert!(start.elapsed() < 2_000 * MS, "{:?}", start.elapsed());
    }
    until("three lines of those that were late", || {
        let lines = proxy.log_lines();
        lines.iter().filter(|l| outcomes(l)[0] == "hedged").count() >= 3
    });
}

/// Not before: what takes as long as usual is no reason.
#[test]
fn a_request_is_late_when_it_takes_longer_than_usual() {
    let usual = || Origin::always(Reply::ok("usual").after(150 * MS));
    let (one, two) = (usual(), usual());
    let rules = "hedge: { after: p95, budget: 100% }";
    let proxy = Proxy::start(&pool(&one, &two, rules));
    let mut clients: Vec<Client> = (0..40).map(|_| Client::to(proxy.port)).collect();
    for client in &mut clients {
        client.begin("GET", "/", &[], b"");
    }
    assert!(clients.iter_mut().all(|c| c.answer().text() == "usual"));
    until("nothing else is known", || proxy.log_lines().len() == 40);
    let gate = Gate::default();
    let open = gate.clone();
    one.set(move |_| Reply::ok("late").when(&open));
    let mut client = Client::to(proxy.port);
    for n in 0..2 {
        let start = Instant::now();
        let path = format!("/{n}");
        assert_eq!(client.get(&path).text(), "usual");
        let took = start.elapsed();
        if outcomes(&proxy.logged(&path))[0] == "hedged" {
            // As long as usual twice, one after the other.
            assert!((300 * MS..2_000 * MS).contains(&took), "{took:?}");
            return;
        }
    }
    panic!("one of two goes to the late one");
}

#[test]
fn a_fill_of_the_cache_is_hedged_as_well() {
    let gate = Gate::default();
    let (late, quick) = late_and_quick(&gate);
    let rules = "hedge: { after: 50ms }\ncache: { ttl: 1h }";
    let proxy = Proxy::start(&pool(&late, &quick, rules));
    let answer = get(proxy.port, "/");
    assert_eq!(answer.text(), "quick");
    assert!(
        answer
            .header("cache-status")
            .is_some_and(|s| s.contains("stored"))
    );
    assert_eq!(outcomes(&proxy.logged("/")), ["hedged", "ok"]);
    assert_eq!(get(proxy.port, "/").text(), "quick");
    assert_eq!((late.count(), quick.count()), (1, 1));
}

#[test]
fn a_large_answer_of_the_second_is_whole_and_heads_have_no_body() {
    let gate = Gate::default();
    let open = gate.clone();
    let late = Origin::new(move |_| Reply::ok("late").when(&open));
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let sent = body.clone();
    let large = Origin::new(move |r| match &*r.target {
        "/chunked" => Reply::chunked(200, &[], &[&sent[..1_000_000], &sent[1_000_000..]]),
        _ => Reply::ok(&sent),
    });
    let proxy = Proxy::start(&pool(&late, &large, "hedge: { after: 20ms, budget: 100% }"));
    for path in ["/", "/chunked"] {
        for _ in 0..2 {
            let answer = get(proxy.port, path);
            assert!(answer.complete && answer.body == body, "{path}");
        }
    }
    for _ in 0..2 {
        let head = request(proxy.port, "HEAD", "/", &[], b"");
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some("3000000"))
        );
    }
    assert!(late.count() >= 3);
}

#[test]
fn a_client_that_leaves_ends_both() {
    let gate = Gate::default();
    let late = held(&gate, Reply::ok("late"));
    let later = Origin::always(Reply::hang());
    let proxy = Proxy::start(&pool(&late, &later, "hedge: { after: 20ms }"));
    let client = ask_both(&proxy, &late, &later);
    client.leave();
    for origin in [&late, &later] {
        eventually("it is cancelled", || {
            origin.requests()[0].abandoned.then_some(())
        });
    }
    assert_eq!(proxy.logged("/")["http.response.status_code"], 499);
}

#[test]
fn a_limit_has_no_place_for_a_second_request() {
    let gate = Gate::default();
    let (late, quick) = late_and_quick(&gate);
    let rules = "hedge: { after: 20ms }\nconcurrency: { max: 1 }";
    let proxy = Proxy::start(&pool(&late, &quick, rules));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    until("it is there", || late.count() == 1);
    assert!(client.is_silent_for(200 * MS));
    assert_eq!(quick.count(), 0);
    gate.open();
    assert_eq!(client.answer().text(), "late");
}

#[test]
fn a_second_that_hangs_has_a_first_byte_limit_of_its_own_and_is_blamed() {
    let gate = Gate::default();
    let first = held(&gate, Reply::status(500));
    let second = Origin::always(Reply::hang());
    let rules =
        "hedge: { after: 50ms }\nretry: { tries: 2 }\ntimeouts: { first_byte: 1s, total: 60s }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&pool(&first, &second, rules));
    let mut client = ask_both(&proxy, &first, &second);
    gate.open();
    // What the first said is there still.
    assert_eq!(client.answer().text(), "the backend's own 500\n");
    let line = proxy.logged("/");
    assert_eq!(outcomes(&line), ["timeout", "status 500"]);
    assert_eq!(line["retry"], "tries_used_up");
    until("both failures are known", || {
        let backends = &status(admin)["upstreams"][0]["backends"];
        (0..2).all(|i| backends[i]["failures"] == 1)
    });
}

#[test]
fn what_follows_when_both_failed_is_a_retry_like_any_other() {
    let gate = Gate::default();
    let failing = || held(&gate, Reply::status(500));
    let (first, second) = (failing(), failing());
    let rules = "hedge: { after: 50ms }\nretry: { tries: 3, wait: 300ms }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&pool(&first, &second, rules));
    let mut client = ask_both(&proxy, &first, &second);
    gate.open();
    assert_eq!(client.answer().text(), "another");
    let line = proxy.logged("/");
    assert_eq!(outcomes(&line), ["status 500", "status 500", "ok"]);
    assert_eq!(line["tries"][2]["waited_ms"], 300.0);
    // Both backends were tried already, so it is paid for.
    let spent = status(admin)["routes"][0]["retries_total"].as_u64();
    assert_eq!(spent, Some(1));
}

#[test]
fn a_second_that_cannot_connect_has_a_connect_limit_of_its_own_and_is_blamed() {
    let gate = Gate::default();
    let late = held(&gate, Reply::ok("late but right"));
    let hole = BlackHole::new();
    let rules = "hedge: { after: 50ms }\ntimeouts: { connect: 200ms }";
    let text = one_route(&[late.port, hole.port], rules);
    let (setup, admin) = with_admin();
    let proxy = setup.start(&with_upstream(&text, "eject: off"));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    until("it is blamed", || {
        status(admin)["upstreams"][0]["backends"][1]["failures"] == 1
    });
    gate.open();
    assert_eq!(client.answer().text(), "late but right");
    assert_eq!(outcomes(&proxy.logged("/")), ["timeout", "ok"]);
}

#[test]
fn when_both_have_failed_and_no_time_is_left_the_first_failure_stands() {
    for (first_says, status, tries) in [
        (Reply::reset(), 502, &["reset"][..]),
        (Reply::status(503), 503, &["status 503"][..]),
    ] {
        let gate = Gate::default();
        let first = held(&gate, first_says);
        let second = Origin::always(Reply::hang());
        let rules =
            "hedge: { after: 50ms }\nretry: { tries: 3, wait: 1ms }\ntimeouts: { total: 800ms }";
        let proxy = Proxy::start(&pool(&first, &second, rules));
        let start = Instant::now();
        let mut client = ask_both(&proxy, &first, &second);
        gate.open();
        let answer = client.answer();
        let took = start.elapsed();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!((800 * MS..3_000 * MS).contains(&took), "{took:?}");
        let line = proxy.logged("/");
        assert_eq!(outcomes(&line), tries);
        assert_eq!(line["retry"], "total_timeout");
        assert_eq!((first.count(), second.count()), (1, 1));
        until("the second is cancelled", || second.requests()[0].abandoned);
    }
}
