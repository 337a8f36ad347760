//! Probes: what they ask, and what follows from the answers.

use crate::client::{Client, get};
use crate::harness::{Proxy, free_port, one_route, until, with_upstream};
use crate::origin::Origin;
use crate::origin2::{Origin2, Reply2};
use crate::reply::{Reply, Request};
use crate::timeouts::BlackHole;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const RETRY: &str = "retry: { tries: 2, wait: 1ms }";

/// A backend whose health is told, and which says to everything else that it is fine.
fn with_health() -> (Origin, Arc<AtomicU16>) {
    let health = Arc::new(AtomicU16::new(200));
    let status = health.clone();
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/health" => Reply::status(status.load(Ordering::SeqCst)),
        _ => Reply::ok("fine"),
    });
    (origin, health)
}

fn served(origin: &Origin) -> usize {
    let is_client = |r: &&Request| r.target != "/health";
    origin.requests().iter().filter(is_client).count()
}

fn probes(origin: &Origin) -> usize {
    origin.count() - served(origin)
}

fn checked(ports: &[u16], check: &str) -> String {
    let check = format!("health_check: {{ {check} }}\neject: {{ slow_start: 0s }}");
    with_upstream(&one_route(ports, RETRY), &check)
}

#[test]
fn s8_a_backend_whose_check_fails_gets_nothing_until_it_succeeds_again() {
    let ((one, health), (two, _)) = (with_health(), with_health());
    let check = "path: /health, interval: 50ms, fall: 2, rise: 2";
    let proxy = Proxy::start(&checked(&[one.port, two.port], check));
    let mut client = Client::to(proxy.port);
    for _ in 0..10 {
        client.get("/");
    }
    assert_eq!((served(&one), served(&two)), (5, 5));
    health.store(500, Ordering::SeqCst);
    proxy.said(&format!("backend 127.0.0.1:{} is down", one.port));
    proxy.said("it answers with status 500");
    for _ in 0..10 {
        client.get("/");
    }
    assert_eq!((served(&one), served(&two)), (5, 15));
    health.store(200, Ordering::SeqCst);
    until("it is up", || {
        let again = format!("backend 127.0.0.1:{} is up", one.port);
        proxy.count_said(&again) == 2
    });
    for _ in 0..10 {
        client.get("/");
    }
    assert_eq!((served(&one), served(&two)), (10, 20));
}

/// They all began with the same start: what they share does not go on having its load at the same moments.
#[test]
fn backends_are_not_probed_in_the_same_moment_for_ever() {
    let origins: Vec<Origin> = (0..10).map(|_| with_health().0).collect();
    let ports: Vec<u16> = origins.iter().map(|origin| origin.port).collect();
    let _proxy = Proxy::start(&checked(&ports, "path: /health, interval: 1s"));
    until("six probes of each", || {
        origins.iter().all(|origin| probes(origin) >= 6)
    });
    let sixth = origins.iter().map(|origin| origin.request(5).at);
    let (first, last) = (sixth.clone().min(), sixth.max());
    let apart = last.zip(first).map(|(last, first)| last - first);
    assert!(apart > Some(Duration::from_millis(40)), "{apart:?}");
    for origin in &origins {
        let times: Vec<Instant> = origin.requests().iter().map(|r| r.at).collect();
        // Up to a tenth earlier, and when it is looked next. Before the first has succeeded there is some hurry.
        let gap = (times[5] - times[1]) / 4;
        let fair = Duration::from_millis(850)..Duration::from_millis(2_000);
        assert!(fair.contains(&gap), "{times:?}");
    }
}

#[test]
fn with_fall_1_the_first_failed_probe_takes_a_backend_out() {
    // It has to be up first, and then for a while.
    let one = Origin::new(|r| Reply::status(if r.number < 2 { 200 } else { 500 }));
    let other = Origin::always(Reply::ok("fine"));
    let check = "path: /health, interval: 1s, fall: 1, rise: 1";
    let proxy = Proxy::start(&checked(&[one.port, other.port], check));
    proxy.said(&format!("backend 127.0.0.1:{} is down", one.port));
    assert_eq!(one.count(), 3);
}

#[test]
fn a_probe_asks_what_the_file_says() {
    let origin = Origin::new(|r| match r.target.as_str() {
        "/status?full" => Reply::answer(204, &[], b""),
        _ => Reply::ok("fine"),
    });
    let check = "path: /status?full, host: api.internal, method: POST, expect: [204, 200], headers: { X-Probe: \"yes\" }, interval: 50ms";
    let proxy = Proxy::start(&checked(&[origin.port], check));
    let probe = origin.request(0);
    assert_eq!((&*probe.method, &*probe.target), ("POST", "/status?full"));
    assert_eq!(probe.header("host"), Some("api.internal"));
    assert_eq!(probe.header("x-probe"), Some("yes"));
    assert_eq!(get(proxy.port, "/").text(), "fine");
}

#[test]
fn a_good_status_with_the_wrong_body_is_no_health() {
    let origin = Origin::new(|r| match r.number {
        0..3 => Reply::ok("database: ok"),
        _ => Reply::ok("database: gone"),
    });
    let check = "path: /health, body: \"database: ok\", interval: 50ms, fall: 1";
    let proxy = Proxy::start(&checked(&[origin.port], check));
    proxy.said("is up");
    proxy.said("does not contain \"database: ok\"");
    until("no more requests", || get(proxy.port, "/").status == 503);
}

#[test]
fn a_backend_that_hangs_is_down_after_the_timeout() {
    let origin = Origin::always(Reply::hang());
    let check = "path: /health, interval: 50ms, timeout: 100ms";
    let start = Instant::now();
    let proxy = Proxy::start(&checked(&[origin.port], check));
    proxy.said("no answer within 100ms");
    assert!(start.elapsed() >= 100 * MS);
    assert_eq!(get(proxy.port, "/").status, 503);
    // One after the other, although the interval is shorter.
    until("the fourth probe", || origin.count() >= 4);
    assert!(origin.requests()[3].at - start >= 300 * MS);
}

/// At the start nobody waits for ever for a probe: one that takes longer is made once more, and not an interval later.
#[test]
fn a_first_probe_that_was_not_waited_for_is_made_again_at_once() {
    let origin = Origin::new(|r| match &*r.target {
        "/health" => Reply::ok("fine").after(2_500 * MS),
        _ => Reply::ok("fine"),
    });
    let check = "path: /health, interval: 10m, timeout: 8s";
    let proxy = Proxy::start(&checked(&[origin.port], check));
    until("it is up", || get(proxy.port, "/").status == 200);
}

#[test]
fn requests_do_not_wait_for_probes_that_hang() {
    let holes: Vec<BlackHole> = (0..3).map(|_| BlackHole::new()).collect();
    let origin = Origin::always(Reply::ok("fine"));
    let upstreams: String = holes
        .iter()
        .enumerate()
        .map(|(n, hole)| {
            format!(
                "  u{n}: {{ backends: [127.0.0.1:{}], health_check: {{ type: tcp, port: {}, interval: 100ms, timeout: 60s, initial: up }} }}\n",
                origin.port, hole.port
            )
        })
        .collect();
    let routes: String = (0..3)
        .map(|n| format!("  - {{ match: {{ path: /{n}/ }}, upstream: u{n} }}\n"))
        .collect();
    let proxy = Proxy::start(&format!("upstreams:\n{upstreams}routes:\n{routes}"));
    let mut client = Client::to(proxy.port);
    let start = Instant::now();
    for n in 0..300 {
        assert_eq!(client.get(&format!("/{}/", n % 3)).status, 200);
    }
    assert!(start.elapsed() < 5_000 * MS, "{:?}", start.elapsed());
}

#[test]
fn a_new_backend_is_probed_before_it_takes_traffic_unless_the_file_says_otherwise() {
    let ((one, health), (two, _)) = (with_health(), with_health());
    health.store(503, Ordering::SeqCst);
    let check = "path: /health, interval: 10s, fall: 3";
    let proxy = Proxy::start(&checked(&[two.port], check));
    assert_eq!(get(proxy.port, "/").status, 200);
    let known = probes(&two);
    proxy.reload_with(&checked(&[one.port, two.port], check));
    for _ in 0..10 {
        assert_eq!(get(proxy.port, "/").status, 200);
    }
    assert_eq!(served(&one), 0, "one probe was enough");
    assert_eq!(probes(&two), known, "what is known of it was kept");
    let up = "path: /health, interval: 10s, fall: 3, initial: up";
    let proxy = Proxy::start(&checked(&[one.port, two.port], up));
    for _ in 0..10 {
        assert_eq!(get(proxy.port, "/").status, 200);
    }
    assert_eq!(served(&one), 5);
}

#[test]
fn tcp_and_another_port() {
    let origin = Origin::always(Reply::ok("fine"));
    let proxy = Proxy::start(&checked(&[origin.port], "type: tcp, interval: 50ms"));
    assert_eq!(get(proxy.port, "/").status, 200);
    let dead = free_port();
    let check = format!("type: tcp, port: {dead}, interval: 50ms");
    let proxy = Proxy::start(&checked(&[origin.port], &check));
    proxy.said("is down");
    assert_eq!(get(proxy.port, "/").status, 503);
}

/// What a backend of gRPC says of its health: 1 is SERVING.
fn health(status: u8) -> Reply2 {
    let message = [0, 0, 0, 0, 2, 8, status];
    Reply2::answer(200, &[("content-type", "application/grpc")], message)
        .trailing(&[("grpc-status", "0")])
}

#[test]
fn grpc_health() {
    let backend = Origin2::new(|_| health(1));
    let check = "type: grpc, service: db, interval: 50ms, fall: 1, rise: 1";
    let proxy = Proxy::start(&checked(&[backend.port], check));
    proxy.said("is up");
    let call = backend.last();
    assert_eq!(call.target, "/grpc.health.v1.Health/Check");
    assert_eq!(call.authority, format!("127.0.0.1:{}", backend.port));
    assert_eq!(call.header("te"), Some("trailers"));
    assert_eq!(call.body, [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
    backend.set(|_| health(2));
    proxy.said("it says NOT_SERVING");
    proxy.said("is down");
    let before = backend.count();
    backend.set(|_| health(1));
    until("it is asked again", || backend.count() > before);
    until("it is up again", || proxy.count_said("is up") == 2);
}

#[test]
fn with_all_down_the_first_good_probe_is_enough() {
    let (one, health) = with_health();
    health.store(500, Ordering::SeqCst);
    let check = "path: /health, interval: 1s, rise: 5";
    let proxy = Proxy::start(&checked(&[one.port], check));
    assert_eq!(get(proxy.port, "/").status, 503);
    health.store(200, Ordering::SeqCst);
    let back = Instant::now();
    until("it is back", || get(proxy.port, "/").status == 200);
    let took = back.elapsed();
    assert!(took < 1_000 * MS, "{took:?}, longer than one interval");
}

#[test]
fn a_check_that_goes_at_a_reload_is_forgotten() {
    let (one, health) = with_health();
    health.store(500, Ordering::SeqCst);
    let check = "path: /health, interval: 50ms";
    let proxy = Proxy::start(&checked(&[one.port], check));
    assert_eq!(get(proxy.port, "/").status, 503);
    proxy.reload_with(&one_route(&[one.port], RETRY));
    assert_eq!(get(proxy.port, "/").status, 200);
    let before = probes(&one);
    proxy.reload_with(&checked(&[one.port], check));
    until("it is probed again", || probes(&one) > before);
}
