//! A new configuration in a running process: all of it at once, or nothing.

use crate::client::{Client, get};
use crate::harness::{Proxy, one_route, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A route that answers with this.
fn says(body: &str) -> String {
    format!(
        "routes:\n  - {{ match: {{ path: / }}, respond: {{ status: 200, body: \"{body}\" }} }}\n"
    )
}

#[test]
fn s16_a_valid_file_is_in_force_for_the_next_request() {
    let proxy = Proxy::start(&says("one"));
    let mut client = Client::to(proxy.port);
    assert_eq!(client.get("/").text(), "one");
    proxy.reload_with(&says("two"));
    // On a connection from before as on a new one.
    assert_eq!(client.get("/").text(), "two");
    assert_eq!(get(proxy.port, "/").text(), "two");
    let line = proxy.said("configuration 2 is in force");
    for part in ["1 route", "0 upstreams", "0 backends"] {
        assert!(line.contains(part), "{part:?} in {line}");
    }
}

#[test]
fn s16_a_wrong_file_changes_nothing_and_is_logged_in_full() {
    let mut proxy = Proxy::start(&says("one"));
    let wrong = "routes:
  - { match: { path: / }, upstream: hopsital, retry: { tires: 3 } }
  - { match: { path: /b }, respond: { status: 99 } }
  - { match: { path: /c }, respond: { status: 200 }, timeouts: { total: 5 } }
";
    proxy.reload_refused(wrong);
    for part in [
        "configuration 1 stays in force",
        "hopsital",
        "tires",
        "tries",
        "status",
        "total",
    ] {
        proxy.said(part);
    }
    assert_eq!(get(proxy.port, "/").text(), "one");
    until("the service manager knows", || {
        proxy.notices().last().is_some_and(|n| {
            n.contains("READY=1")
                && n.lines()
                    .any(|l| l.starts_with("STATUS=") && l.contains("fail"))
        })
    });
    // Files that are no configuration at all.
    for (number, bytes) in [&b""[..], b"\xff\xfe", b"listeners: [", b"%"]
        .iter()
        .enumerate()
    {
        std::fs::write(proxy.config(), bytes).unwrap();
        proxy.signal(Signal::HUP);
        until("it is refused", || {
            proxy.count_said("stays in force") == number + 2
        });
        assert_eq!(get(proxy.port, "/").text(), "one");
    }
    std::fs::remove_file(proxy.config()).unwrap();
    proxy.signal(Signal::HUP);
    until("it is refused", || proxy.count_said("stays in force") == 6);
    assert!(proxy.is_alive());
    proxy.reload_with(&says("two"));
    assert_eq!(get(proxy.port, "/").text(), "two");
}

#[test]
fn changed_static_keys_are_named_and_the_rest_takes_effect() {
    let mut proxy = Proxy::start(&says("one"));
    proxy.set_key("workers", "1");
    proxy.set_key("drain_timeout", "9s");
    proxy.reload_with(&says("two"));
    let line = proxy.said("needs a restart");
    assert!(
        line.contains("workers") && line.contains("drain_timeout"),
        "{line}"
    );
    assert!(
        !line.contains("listeners") && !line.contains("access_log"),
        "{line}"
    );
    assert_eq!(get(proxy.port, "/").text(), "two");
}

#[test]
fn requests_under_way_finish_under_the_old_configuration_which_then_goes() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::new(move |r| {
        if r.target == "/held" {
            Reply::ok("").when(&held)
        } else {
            Reply::ok("")
        }
    });
    let edit = |v: &str| {
        one_route(
            &[origin.port],
            &format!("headers: {{ response: {{ set: {{ X-Version: {v} }} }} }}"),
        )
    };
    let proxy = Proxy::start(&edit("old"));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/held", &[], b"");
    origin.request(0);
    proxy.reload_with(&edit("new"));
    assert_eq!(get(proxy.port, "/").header("x-version"), Some("new"));
    assert_eq!(proxy.count_said("configuration 1 is gone from memory"), 0);
    gate.open();
    assert_eq!(client.answer().header("x-version"), Some("old"));
    // Though the client's connection is still open, and so is the backend's.
    proxy.said("configuration 1 is gone from memory");
    assert_eq!(client.get("/").header("x-version"), Some("new"));
}

#[test]
fn a_request_that_waits_for_its_retry_stays_with_its_configuration() {
    let old = Origin::sequence(&[Reply::status(500), Reply::ok("old")]);
    let new = Origin::always(Reply::ok("new"));
    let rules = "retry: { tries: 2, wait: 700ms }";
    let proxy = Proxy::start(&one_route(&[old.port], rules));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    old.request(0);
    proxy.reload_with(&one_route(&[new.port], rules));
    assert_eq!(client.answer().text(), "old");
    assert_eq!(client.get("/").text(), "new");
    proxy.said("configuration 1 is gone from memory");
}

#[test]
fn every_old_configuration_goes() {
    let origin = Origin::always(Reply::ok("fine"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut idle = Client::to(proxy.port);
    idle.get("/");
    for n in 1..=10 {
        proxy.reload_with(&one_route(
            &[origin.port],
            &format!("timeouts: {{ total: {n}s }}"),
        ));
        get(proxy.port, "/");
        proxy.said(&format!("configuration {n} is gone from memory"));
    }
    assert_eq!(idle.get("/").text(), "fine");
}

#[test]
fn a_hundred_signals_at_once_are_safe() {
    let mut proxy = Proxy::start(&says("one"));
    proxy.rewrite(&says("two"));
    for _ in 0..100 {
        proxy.signal(Signal::HUP);
    }
    until("the new answer", || get(proxy.port, "/").text() == "two");
    proxy.reload_with(&says("three"));
    assert!(proxy.is_alive());
    assert_eq!(get(proxy.port, "/").text(), "three");
    assert!(!proxy.stderr().contains("panicked"));
}

#[test]
fn a_signal_right_after_ready_does_no_harm() {
    for _ in 0..5 {
        let mut proxy = Proxy::start(&says("one"));
        proxy.signal(Signal::HUP);
        proxy.said("configuration 2 is in force");
        assert!(proxy.is_alive());
        assert_eq!(get(proxy.port, "/").text(), "one");
    }
}

#[test]
fn s16_reloads_under_load_lose_no_request() {
    let origin = Origin::always(Reply::ok("fine"));
    let file = |n: u32| {
        one_route(
            &[origin.port],
            &format!("timeouts: {{ total: {}s }}", 60 + n),
        )
    };
    let proxy = Proxy::start(&file(0));
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let reloads = thread::scope(|scope| {
        for n in 0..8 {
            let (proxy, over, served) = (&proxy, &over, &served);
            scope.spawn(move || {
                let mut client = Client::to(proxy.port);
                while !over.load(Ordering::SeqCst) {
                    if n % 2 == 0 {
                        client = Client::to(proxy.port);
                    }
                    assert_eq!(client.get("/").text(), "fine");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let mut reloads = 0;
        while reloads < 60 || (served.load(Ordering::SeqCst) < 400 && reloads < 2_000) {
            reloads += 1;
            proxy.reload_with(&file(reloads));
        }
        over.store(true, Ordering::SeqCst);
        reloads
    });
    let served = served.into_inner();
    assert!(served >= 400, "{served} requests, {reloads} reloads");
    assert_eq!(proxy.count_said("reload failed"), 0);
    proxy.said(&format!("configuration {reloads} is gone from memory"));
}

#[test]
fn the_service_manager_is_told_each_step() {
    let mut proxy = Proxy::start(&says("one"));
    proxy.reload_with(&says("two"));
    until("ready again", || {
        proxy
            .notices()
            .iter()
            .filter(|n| n.lines().any(|l| l == "READY=1"))
            .count()
            == 2
    });
    let notices = proxy.notices().join("\n");
    let at = |what: &str| {
        notices
            .find(what)
            .unwrap_or_else(|| panic!("{what} in {notices}"))
    };
    assert!(at("READY=1") < at("RELOADING=1"));
    assert!(at("RELOADING=1") < notices.rfind("READY=1").unwrap());
    let stamp = notices
        .lines()
        .find_map(|l| l.strip_prefix("MONOTONIC_USEC="));
    assert!(stamp.is_some_and(|s| s.parse::<u64>().is_ok()), "{notices}");
    assert!(
        notices[notices.rfind("READY=1").unwrap()..].contains("STATUS="),
        "{notices}"
    );
    proxy.signal(Signal::TERM);
    proxy.wait_exit(Duration::from_secs(5));
    until("stopping", || {
        proxy
            .notices()
            .iter()
            .any(|n| n.lines().any(|l| l == "STOPPING=1"))
    });
}

#[test]
fn unchanged_upstreams_keep_their_turn_and_their_connections() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::always(Reply::ok(""))).collect();
    let ports: Vec<u16> = origins.iter().map(|o| o.port).collect();
    let proxy = Proxy::with()
        .key("workers", "1")
        .start(&one_route(&ports, ""));
    let mut client = Client::to(proxy.port);
    for n in 0..12 {
        client.get("/");
        let mut counts: Vec<usize> = origins.iter().map(Origin::count).collect();
        counts.sort();
        assert!(
            counts[2] - counts[0] <= 1,
            "{counts:?} after {} requests",
            n + 1
        );
        proxy.reload_with(&one_route(
            &ports,
            &format!("timeouts: {{ total: {}s }}", 10 + n),
        ));
    }
    for origin in &origins {
        assert_eq!(
            origin.last().connection,
            0,
            "a reload closed a good connection"
        );
    }
}

#[test]
fn ten_thousand_routes_and_a_thousand_backends_reload_quickly() {
    let mut text = String::from("upstreams:\n");
    for n in 0..250 {
        text.push_str(&format!("  pool{n}:\n    backends: ["));
        for k in 0..4 {
            text.push_str(&format!("127.0.0.1:{}, ", 2_000 + n * 4 + k));
        }
        text.push_str("]\n");
    }
    text.push_str("routes:\n");
    for n in 0..10_000 {
        text.push_str(&format!(
            "  - {{ match: {{ path: /r/{n} }}, upstream: pool{} }}\n",
            n % 250
        ));
    }
    let proxy = Proxy::start(&says("small"));
    let start = std::time::Instant::now();
    proxy.reload_with(&text);
    // The limit is a second; what is not optimised gets more.
    let limit = if cfg!(debug_assertions) { 12 } else { 1 };
    assert!(
        start.elapsed() < Duration::from_secs(limit),
        "{:?}",
        start.elapsed()
    );
    let line = proxy.said("configuration 2 is in force");
    assert!(
        line.contains("10000 routes") || line.contains("10,000 routes"),
        "{line}"
    );
}
