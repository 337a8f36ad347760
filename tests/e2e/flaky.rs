//! What it is all for: three unreliable backends look like one reliable one.
//!
//! Chance is a function of a fixed seed, the request and the try, not of the order in which requests arrive, so that
//! every run sees the same failures.

use crate::client::{Client, get, request};
use crate::harness::{Proxy, one_route, until};
use crate::origin::Origin;
use crate::reply::{Reply, Request};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const SEED: u64 = 8;

fn chance(request: u64, attempt: u64) -> u64 {
    // SplitMix64: every bit of the three inputs matters.
    let mut z = SEED ^ request.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (attempt << 56);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How the try fails, if it does: one in ten, with 500, 502 or a reset.
fn failure(request: u64, attempt: u64) -> Option<Reply> {
    let dice = chance(request, attempt);
    let kinds = [Reply::status(500), Reply::status(502), Reply::reset()];
    dice.is_multiple_of(10)
        .then(|| kinds[(dice / 10 % 3) as usize].clone())
}

/// How often each request was seen, by all three backends together.
type Seen = Arc<Mutex<HashMap<u64, u64>>>;

fn flaky_backends(seen: &Seen) -> Vec<Origin> {
    let script = |seen: Seen| {
        move |r: &Request| {
            let number: u64 = r.target[1..].parse().unwrap();
            let attempt = {
                let mut seen = seen.lock().unwrap();
                let times = seen.entry(number).or_default();
                *times += 1;
                *times
            };
            failure(number, attempt).unwrap_or_else(|| Reply::ok(&r.target))
        }
    };
    (0..3).map(|_| Origin::new(script(seen.clone()))).collect()
}

fn ports(origins: &[Origin]) -> Vec<u16> {
    origins.iter().map(|o| o.port).collect()
}

#[test]
fn s1_three_backends_that_fail_one_in_ten_look_reliable() {
    const REQUESTS: u64 = 3_000;
    let worst = (0..REQUESTS).map(|n| (1..=5).take_while(|t| failure(n, *t).is_some()).count());
    let worst = worst.max().unwrap();
    assert!(
        (3..5).contains(&worst),
        "the seed is no test: {worst} failures in a row"
    );
    let seen = Seen::default();
    let origins = flaky_backends(&seen);
    let rules = "retry: { tries: 5, wait: 2ms, on: [500, 502] }";
    let proxy = Proxy::start(&one_route(&ports(&origins), rules));
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let mut client = Client::to(proxy.port);
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst) as u64;
                    if n >= REQUESTS {
                        return;
                    }
                    let answer = client.get(&format!("/{n}"));
                    assert_eq!((answer.status, answer.text()), (200, format!("/{n}")));
                }
            });
        }
    });
    let tries: u64 = seen.lock().unwrap().values().sum();
    assert!((3_250..3_450).contains(&tries), "{tries} tries");
    let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
    assert!(
        counts.iter().all(|c| (1_000..1_250).contains(c)),
        "{counts:?}"
    );
}

#[test]
fn not_one_post_without_a_key_is_executed_twice() {
    let seen = Seen::default();
    let origins = flaky_backends(&seen);
    let proxy = Proxy::start(&one_route(
        &ports(&origins),
        "retry: { tries: 5, wait: 2ms }",
    ));
    let failed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for worker in 0..10 {
            let (proxy, failed) = (&proxy, &failed);
            scope.spawn(move || {
                for n in 0..60 {
                    let path = format!("/{}", worker * 60 + n);
                    match request(proxy.port, "POST", &path, &[], b"one order").status {
                        200 => {}
                        500 | 502 => {
                            failed.fetch_add(1, Ordering::SeqCst);
                        }
                        other => panic!("{other} for {path}"),
                    }
                }
            });
        }
    });
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 600);
    assert!(seen.values().all(|times| *times == 1), "executed twice");
    // Their failures are not hidden, for nobody can.
    let expected = (0..600).filter(|n| failure(*n, 1).is_some()).count();
    assert_eq!(failed.load(Ordering::SeqCst), expected);
}

#[test]
fn s6_a_backend_that_dies_and_comes_back_is_not_noticed() {
    let mut origins: Vec<Origin> = (0..3)
        .map(|_| Origin::new(|r| Reply::ok(&r.target)))
        .collect();
    let rules = "retry: { tries: 5, wait: 2ms }";
    let proxy = Proxy::start(&one_route(&ports(&origins), rules));
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for n in 0..10 {
            let (proxy, over, served) = (&proxy, &over, &served);
            scope.spawn(move || {
                let mut client = Client::to(proxy.port);
                let path = format!("/{n}");
                while !over.load(Ordering::SeqCst) {
                    let answer = client.get(&path);
                    assert_eq!(
                        (answer.status, answer.text().as_str()),
                        (200, path.as_str())
                    );
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let more = |n: usize| {
            let now = served.load(Ordering::SeqCst);
            until("more requests", || served.load(Ordering::SeqCst) >= now + n);
        };
        for round in 0..4 {
            more(100);
            origins[round % 3].stop();
            more(200);
            origins[round % 3].restart();
        }
        // The one that came back takes its share again.
        let before = origins[0].count();
        until("the first backend works again", || {
            origins[0].count() > before + 20
        });
        over.store(true, Ordering::SeqCst);
    });
    assert_eq!(get(proxy.port, "/1").text(), "/1");
}
