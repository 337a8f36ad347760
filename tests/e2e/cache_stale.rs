//! Stale answers on purpose: given out while a new one is fetched, or as soon as the origin begins to fail.

use crate::cache::{caching, is_hit, stored, told};
use crate::client::{Answer, get};
use crate::harness::{PATIENCE, Proxy, eventually, one_route, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::time::Instant;

const WHILE: &str = "stale-while-revalidate";
const IF_ERROR: &str = "stale-if-error";

/// Asks until a stale answer comes, given for this reason.
fn stale(proxy: &Proxy, why: &str) -> Answer {
    eventually("a stale answer", || {
        let answer = get(proxy.port, "/");
        told(&answer).contains(why).then_some(answer)
    })
}

fn is_fresh(answer: &Answer) -> bool {
    is_hit(answer) && !told(answer).contains("detail")
}

#[test]
fn while_a_new_answer_is_fetched_the_stale_one_is_given_to_all_at_once() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |r| match r.number {
        0 => Reply::ok("old"),
        _ => Reply::ok("new").when(&open),
    });
    let proxy = caching(&origin, "ttl: 100ms, stale_while_revalidate: 1h");
    stored(&get(proxy.port, "/"));
    assert_eq!(stale(&proxy, WHILE).text(), "old");
    for _ in 0..20 {
        let answer = get(proxy.port, "/");
        assert_eq!(
            (told(&answer).contains(WHILE), &answer.body[..]),
            (true, &b"old"[..])
        );
    }
    until("the refresh", || origin.count() == 2);
    gate.open();
    until("the new answer", || get(proxy.port, "/").text() == "new");
    // One refresh for all of them.
    assert_eq!(origin.requests()[1].number, 1);
    // Nobody waited: no line of the log but the first answer's has a try.
    let lines = proxy.log_lines();
    assert!(
        lines
            .iter()
            .all(|l| l["cache"] == "miss" || l["tries"] == serde_json::json!([])),
        "{lines:?}"
    );
}

#[test]
fn a_refresh_that_fails_leaves_the_stale_answer_and_is_tried_again() {
    let origin = Origin::new(|r| match r.number {
        0 => Reply::ok("old"),
        1 => Reply::status(500),
        2 => Reply::reset(),
        3 => Reply::ok("new"),
        _ => Reply::ok("newer"),
    });
    let proxy = caching(&origin, "ttl: 100ms, stale_while_revalidate: 1h");
    stored(&get(proxy.port, "/"));
    let new = eventually("the new answer", || {
        let answer = get(proxy.port, "/");
        assert!(is_hit(&answer) && answer.status == 200, "{}", told(&answer));
        (answer.text() != "old").then_some(answer)
    });
    assert!(new.text().starts_with("new"));
    assert!(origin.count() >= 4);
}

#[test]
fn stale_first_gives_the_stale_answer_at_the_first_failure_and_goes_on_trying() {
    let origin = Origin::new(|r| match r.number {
        0 => Reply::ok("old"),
        1..4 => Reply::status(503),
        _ => Reply::ok("new"),
    });
    let route = "cache: { ttl: 100ms, stale_if_error: 1h, stale: first }\n\
                 retry: { tries: 4, wait: 1s, max_wait: 1s, on: [503] }\ntimeouts: { total: 60s }";
    let proxy = Proxy::start(&one_route(&[origin.port], route));
    stored(&get(proxy.port, "/"));
    eventually("the end of the ttl", || {
        (!is_fresh(&get(proxy.port, "/"))).then_some(())
    });
    let start = Instant::now();
    let answer = stale(&proxy, IF_ERROR);
    assert_eq!(answer.text(), "old");
    // Three waits would take three seconds.
    assert!(start.elapsed().as_millis() < 900, "{:?}", start.elapsed());
    assert!(origin.count() < 4);
    // The tries go on without the client, and their answer is there for the next.
    until("the new answer", || get(proxy.port, "/").text() == "new");
}

#[test]
fn stale_first_waits_for_an_origin_that_does_not_fail() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |r| match r.number {
        0 => Reply::ok("old"),
        _ => Reply::ok("new").when(&open),
    });
    let proxy = caching(&origin, "ttl: 50ms, stale_if_error: 1h, stale: first");
    stored(&get(proxy.port, "/"));
    let mut client = eventually("a request that waits", || {
        let mut client = crate::client::Client::to(proxy.port);
        client.begin("GET", "/", &[], b"");
        if origin.count() == 1 {
            until("an answer or a try", || {
                origin.count() == 2 || !client.is_silent_for(std::time::Duration::from_millis(1))
            });
        }
        (origin.count() == 2).then_some(client)
    });
    gate.open();
    assert_eq!(client.answer().text(), "new");
}

#[test]
fn a_refresh_of_what_is_no_longer_to_be_stored_ends_the_stale_answer() {
    let origin = Origin::new(|r| match r.number {
        0 => Reply::ok("old"),
        _ => Reply::status(404),
    });
    let proxy = caching(
        &origin,
        "ttl: 50ms, stale_while_revalidate: 1h, stale_if_error: 1h",
    );
    stored(&get(proxy.port, "/"));
    let start = Instant::now();
    until("the origin's word", || get(proxy.port, "/").status == 404);
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(get(proxy.port, "/").status, 404);
}
