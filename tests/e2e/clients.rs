//! How long and how many clients are borne with.

use crate::client::{Client, get};
use crate::client2::Client2;
use crate::harness::{Proxy, eventually, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;
use std::time::{Duration, Instant};

#[test]
fn a_head_that_trickles_ends_in_time() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let proxy = Proxy::with()
        .key("clients", "{ head_timeout: 500ms }")
        .start(&one_route(&[origin.port], ""));
    let mut slow = Client::to(proxy.port);
    let began = Instant::now();
    slow.send("GET / HTTP/1.1\r\nHost: a\r\n");
    let closed = eventually("the connection is closed", || {
        // Each byte is in time for every limit but that of the whole.
        let gone = slow.try_send("X").is_err();
        std::thread::park_timeout(Duration::from_millis(50));
        gone.then(|| began.elapsed())
    });
    assert!(closed >= Duration::from_millis(450), "{closed:?}");
    // And one that stops coming.
    let mut silent = Client::to(proxy.port);
    silent.send("GET / HTTP/1.1\r\nHo");
    let began = Instant::now();
    assert_eq!(silent.answer().status, 408);
    silent.expect_close();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    until("both are in the log", || {
        let late = |line: &&serde_json::Value| line["refused"] == "head_timeout";
        proxy.log_lines().iter().filter(late).count() == 2
    });
    // It counts from the first byte of each head: an idle connection has all the time it has.
    let mut idle = Client::to(proxy.port);
    for _ in 0..3 {
        assert_eq!(idle.get("/").status, 200);
        assert!(idle.is_silent_for(Duration::from_millis(600)));
    }
}

#[test]
fn a_head_ends_in_time_after_however_many_that_came_with_it() {
    let proxy = Proxy::with()
        .key("clients", "{ head_timeout: 500ms }")
        .start("routes:\n  - { match: { path: / }, respond: { status: 200 } }\n");
    // A worker turns to others after so many: the wait for the rest of the last head may begin just then.
    let clients = (100..150).map(|whole| {
        let mut client = Client::to(proxy.port);
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.send(format!("{}GET / HT", request.repeat(whole)));
        (whole, client)
    });
    for (whole, mut client) in clients.collect::<Vec<_>>() {
        for _ in 0..whole {
            assert_eq!(client.answer().status, 200);
        }
        let last = client.try_answer_to("GET").map(|answer| answer.status);
        assert_eq!(last.ok(), Some(408), "after {whole}");
        client.expect_close();
    }
}

#[test]
fn idle_connections_are_kept_so_long_and_no_longer() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let proxy = Proxy::with()
        .key("clients", "{ keepalive: 1s }")
        .start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    assert_eq!(client.get("/").status, 200);
    let began = Instant::now();
    client.expect_close();
    assert!(
        began.elapsed() > Duration::from_millis(800),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn too_many_connections_are_turned_away() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let yaml = one_route(&[origin.port], "");
    for clients in ["{ max_connections: 3 }", "{ max_per_address: 3 }"] {
        let proxy = Proxy::with().key("clients", clients).start(&yaml);
        let mut some: Vec<Client> = (0..3).map(|_| Client::to(proxy.port)).collect();
        for client in &mut some {
            assert_eq!(client.get("/").status, 200);
        }
        let mut one_more = Client::to(proxy.port);
        one_more.expect_close();
        assert!(proxy.said("turned away").contains(&clients[2..13]));
        // Nobody else minds, and one that leaves makes room.
        assert_eq!(some[0].get("/").status, 200);
        drop(some.pop());
        until("there is room", || {
            let mut client = Client::to(proxy.port);
            client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok()
                && client
                    .try_answer_to("GET")
                    .is_ok_and(|answer| answer.status == 200)
        });
    }
}

#[test]
fn what_is_no_request_is_logged_too() {
    let proxy = Proxy::start(&one_route(&[9], ""));
    let mut client = Client::to(proxy.port);
    client.send("GET / HTTP/1.1\r\nHost : a\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    let line = eventually("its line", || {
        proxy
            .log_lines()
            .into_iter()
            .find(|line| line["refused"] == "field_name")
    });
    assert_eq!(
        (&line["http.response.status_code"], &line["client.address"]),
        (&400.into(), &"127.0.0.1".into())
    );
    assert_eq!(get(proxy.port, "/%zz").status, 400);
}

#[test]
fn heads_hold_no_more_than_they_may() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let limits = "{ max_head: 4KiB, max_fields: 20, max_target: 1KiB }";
    let proxy = Proxy::with()
        .http2()
        .key("clients", limits)
        .start(&one_route(&[origin.port], ""));
    let long = |n: usize| format!("/{}", "x".repeat(n));
    let value = "v".repeat(1100);
    let many: Vec<(String, &str)> = (0..25).map(|n| (format!("X-{n}"), "v")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (&**n, *v)).collect();
    let large = [
        ("X-A", &*value),
        ("X-B", &value),
        ("X-C", &value),
        ("X-D", &value),
    ];
    for (target, fields, status) in [
        (long(1000), &[][..], 200),
        (long(1024), &[], 414),
        ("/many".into(), &many[..10], 200),
        ("/too-many".into(), &many[..], 431),
        ("/large".into(), &large[..3], 200),
        ("/too-large".into(), &large[..], 431),
    ] {
        let mut client = Client::to(proxy.port);
        assert_eq!(
            client.request("GET", &target, fields, b"").status,
            status,
            "{target}"
        );
        // Over HTTP/2 it is the same.
        let mut client = Client2::to(proxy.port);
        assert_eq!(
            client.request("GET", &target, fields, b"").status,
            status,
            "{target}"
        );
        assert_eq!(client.get("/again").status, 200);
    }
    assert_eq!(proxy.logged("/too-many")["refused"], "head_too_large");
    let too_long = proxy.logged(&long(1024));
    assert_eq!(too_long["refused"], "target_too_long");
}

#[test]
fn a_head_that_never_ends_is_not_read_for_ever() {
    let proxy = Proxy::with()
        .key("clients", "{ max_head: 4KiB }")
        .start(&one_route(&[9], ""));
    let mut client = Client::to(proxy.port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    let mut sent = 0;
    // Until it is closed; what is sent is more than any buffer holds.
    while sent < 64 << 20
        && client
            .try_send(format!("X: {}\r\n", "x".repeat(1000)))
            .is_ok()
    {
        sent += 1000;
    }
    assert!(sent < 8 << 20, "{sent} bytes were taken");
    let line = eventually("its line", || {
        let lines = proxy.log_lines();
        lines
            .into_iter()
            .find(|line| line["refused"] == "head_too_large")
    });
    assert_eq!(line["client.address"], "127.0.0.1");
    // As long as it takes no more than it may, it may come in as many parts as it likes.
    let mut client = Client::to(proxy.port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    for _ in 0..3 {
        client.send(format!("X: {}\r\n", "x".repeat(1100)));
    }
    client.send(format!("X: {}", "x".repeat(1100)));
    client.send("x\r\n\r\n");
    assert_eq!(client.answer().status, 431);
}

#[test]
fn connections_bring_so_many_requests_and_streams() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let proxy = Proxy::with()
        .http2()
        .key("clients", "{ keepalive_requests: 3, max_streams: 7 }")
        .start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    for n in 1..=3 {
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        let connection = answer.header("connection");
        assert_eq!(connection == Some("close"), n == 3, "{n}: {connection:?}");
    }
    client.expect_close();
    let mut client = Client2::to(proxy.port);
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.most_streams(), 7);
}

/// What thousands of clients at once would have to wait for in the middle of their requests.
#[test]
fn the_kernel_has_nothing_large_to_prepare_later() {
    let proxy = Proxy::start("routes:\n  - { match: { path: / }, respond: { status: 200 } }\n");
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let said = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let room = most.unwrap_or(u64::MAX).min(65_536);
    assert!(
        said("FDSize:") >= Some(room),
        "{:?} of {room}",
        said("FDSize:")
    );
    // Older kernels do not tell.
    assert_ne!(said("THP_enabled:"), Some(1));
}
