//! Many at once for what cannot be stored: the origin is not stormed, and nobody waits for nothing.

use crate::cache::{caching, hit, is_hit, not_stored, stored};
use crate::cache_fill::{answers, waiting};
use crate::client::{Answer, Client, get, request};
use crate::harness::until;
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::collections::HashSet;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

#[test]
fn s4_when_a_fill_fails_those_who_waited_do_not_storm_the_origin() {
    for cache in ["ttl: 1h", "respect_origin: true"] {
        let origin = Origin::always(Reply::status(500).after(500 * MS));
        let proxy = caching(&origin, cache);
        let start = Instant::now();
        // One after the other they would take 25 seconds.
        for answer in answers(waiting(&proxy, 50, "/")) {
            assert!((500..=504).contains(&answer.status), "{}", answer.status);
        }
        assert!(start.elapsed() < 4_000 * MS, "{:?}", start.elapsed());
        // One, and a second if some came so late that the first was over.
        assert!(origin.count() <= 2, "{} requests", origin.count());
        origin.set(|_| Reply::answer(200, &[("Cache-Control", "max-age=60")], b"well again"));
        stored(&get(proxy.port, "/"));
        hit(&get(proxy.port, "/"));
    }
}

#[test]
fn s4_nor_if_the_failure_may_be_due_to_who_asked_first() {
    let origin = Origin::new(|r| match r.header("authorization") {
        Some(who) if who.contains("broken") => Reply::status(500).after(500 * MS),
        _ => {
            Reply::answer(200, &[("Cache-Control", "public, max-age=60")], b"good").after(500 * MS)
        }
    });
    let proxy = caching(&origin, "respect_origin: true");
    let people = |path: &str, names: &[String]| -> Vec<Answer> {
        let mut all: Vec<Client> = names.iter().map(|_| Client::to(proxy.port)).collect();
        for (n, (client, name)) in all.iter_mut().zip(names).enumerate() {
            client.begin("GET", path, &[("Authorization", name)], b"");
            if n == 0 {
                until("the first one's request", || {
                    origin.requests().iter().any(|r| r.target == path)
                });
            }
        }
        answers(all)
    };
    // The first one's failure is not the others'.
    let mut names: Vec<String> = (0..50).map(|n| format!("Bearer {n}")).collect();
    names[0] = "Bearer broken".into();
    let answers = people("/one", &names);
    assert_eq!(answers[0].status, 500);
    for answer in &answers[1..] {
        assert_eq!(answer.text(), "good", "{answer:?}");
    }
    assert!(origin.count() <= 3, "{} requests", origin.count());
    // But if it fails for one after the other, it fails for all.
    let before = origin.count();
    let names: Vec<String> = (0..50).map(|n| format!("Bearer broken {n}")).collect();
    let start = Instant::now();
    let answers = people("/all", &names);
    assert!(answers.iter().all(|a| a.status == 500));
    assert!(start.elapsed() < 8_000 * MS, "{:?}", start.elapsed());
    let asked = origin.count() - before;
    assert!(asked <= 6, "{asked} requests");
}

#[test]
fn s4_those_who_are_refused_do_not_queue_the_next_time() {
    for status in [401, 403, 429] {
        let gate = Gate::default();
        let open = gate.clone();
        let origin = Origin::new(move |r| match r.header("authorization") {
            Some("Bearer good") => {
                Reply::answer(200, &[("Cache-Control", "max-age=60")], b"mine").when(&open)
            }
            _ if r.number < 2 => Reply::status(status),
            _ => Reply::status(status).when(&open),
        });
        let proxy = caching(&origin, "respect_origin: true");
        let refused: [&[(&str, &str)]; 2] = [&[], &[("Authorization", "Bearer bad")]];
        for who in refused {
            assert_eq!(request(proxy.port, "GET", "/", who, b"").status, status);
        }
        let mut clients = Vec::new();
        for n in 0..10 {
            let mut client = Client::to(proxy.port);
            client.begin("GET", "/", refused[n % 2], b"");
            clients.push(client);
        }
        // All are with the origin at once; nobody waits for another.
        until("ten requests", || origin.count() == 12);
        // Others queue as before.
        let good = [("Authorization", "Bearer good")];
        let mut others: Vec<Client> = (0..5).map(|_| Client::to(proxy.port)).collect();
        for client in &mut others {
            client.begin("GET", "/", &good, b"");
        }
        until("theirs", || origin.count() == 13);
        assert!(others[4].is_silent_for(100 * MS));
        assert_eq!(origin.count(), 13);
        gate.open();
        assert!(answers(clients).iter().all(|a| a.status == status));
        assert!(answers(others).iter().all(|a| a.text() == "mine"));
    }
}

#[test]
fn s4_an_answer_that_is_not_stored_makes_nobody_queue_and_is_given_to_one() {
    let origin = Origin::new(|r| {
        let body = r.number.to_string();
        Reply::answer(200, &[("Set-Cookie", "a=1")], body.as_bytes()).after(300 * MS)
    });
    let proxy = caching(&origin, "ttl: 1h");
    for _ in 0..2 {
        let start = Instant::now();
        let answers = answers(waiting(&proxy, 50, "/"));
        answers.iter().for_each(not_stored);
        assert!(start.elapsed() < 4_000 * MS, "{:?}", start.elapsed());
        let different: HashSet<String> = answers.iter().map(Answer::text).collect();
        assert_eq!(different.len(), 50);
    }
    // What may be stored after all is.
    origin.set(|_| Reply::ok("for all"));
    until("a hit", || is_hit(&get(proxy.port, "/")));
}
