//! A cache in front of a canary: what one side answered is not for the clients of the other.

use crate::admin::{post, with_admin};
use crate::canary::{origins, split, until_rolled_back};
use crate::client::{Client, request};
use crate::harness::{Proxy, until};
use crate::reply::Reply;

/// How many of so many requests got the canary's answer.
fn of_next(client: &mut Client, path: &str, requests: usize) -> usize {
    let is_next = |_: &usize| {
        let answer = client.get(path);
        assert_eq!(answer.status, 200);
        answer.text() == "next"
    };
    (0..requests).filter(is_next).count()
}

#[test]
fn s14_each_side_has_stored_answers_of_its_own() {
    let (stable, next) = origins();
    let rules = "cache: { ttl: 1h }\ncanary: { upstream: next, share: 50% }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&split(&stable, &next, rules));
    let of_both = || {
        let host = [("Host", "example.com")];
        let texts = (0..20).map(|_| request(proxy.port, "GET", "/", &host, b"").text());
        let texts: Vec<String> = texts.collect();
        let of = |side: &str| texts.iter().filter(|text| *text == side).count();
        assert_eq!((of("stable"), of("next")), (10, 10));
    };
    of_both();
    assert_eq!((stable.count(), next.count()), (1, 1), "the rest is stored");
    let purged = post(admin, r#"{"url": "http://example.com/"}"#).text();
    assert!(purged.contains("\"purged\":2"), "of both: {purged}");
    of_both();
    assert_eq!((stable.count(), next.count()), (2, 2));
}

#[test]
fn s14_after_a_rollback_nothing_of_the_canary_comes_from_the_cache() {
    let (stable, next) = origins();
    let rules = "cache: { ttl: 1h }\nretry: { tries: 1 }\ncanary: { upstream: next, share: 50%, rollback: { success_below: 99%, after: 20 } }";
    let proxy = Proxy::start(&split(&stable, &next, rules));
    let mut client = Client::to(proxy.port);
    assert_eq!(of_next(&mut client, "/", 10), 5);
    next.set(|_| Reply::status(500));
    until_rolled_back(&proxy, |n| drop(client.get(&format!("/{n}"))));
    assert_eq!(of_next(&mut client, "/", 10), 0);
}

#[test]
fn s14_what_stable_answered_for_the_canary_is_kept_for_neither() {
    let (stable, next) = origins();
    next.set(|_| Reply::status(500));
    let rules = "cache: { ttl: 1h }\nretry: { tries: 2, wait: 1ms }\ncanary: { upstream: next, share: 100%, rollback: { after: 1000 } }";
    let proxy = Proxy::start(&split(&stable, &next, rules));
    let mut client = Client::to(proxy.port);
    assert_eq!(of_next(&mut client, "/", 3), 0);
    assert_eq!((stable.count(), next.count()), (3, 3));
    next.set(|_| Reply::ok("next"));
    assert_eq!(of_next(&mut client, "/", 3), 3, "as soon as it can");
    assert_eq!(next.count(), 4);
}

#[test]
fn s14_stable_is_not_asked_whether_the_canary_s_answer_still_holds() {
    let (stable, next) = origins();
    let etag = [("ETag", "\"same\"")];
    next.set(move |_| Reply::answer(200, &etag, b"next"));
    stable.set(|request| match request.header("If-None-Match") {
        Some(_) => Reply::status(304),
        None => Reply::ok("stable"),
    });
    let rules = "cache: { ttl: 100ms }\nretry: { tries: 2, wait: 1ms }\ncanary: { upstream: next, share: 100%, rollback: { after: 1000 } }";
    let proxy = Proxy::start(&split(&stable, &next, rules));
    let mut client = Client::to(proxy.port);
    assert_eq!(of_next(&mut client, "/", 1), 1);
    next.set(|_| Reply::status(500));
    until("its time is over", || {
        let text = client.get("/").text();
        let asked = stable.count() > 0;
        assert_eq!(text, if asked { "stable" } else { "next" });
        asked
    });
}
