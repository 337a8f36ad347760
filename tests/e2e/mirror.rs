//! Copies of requests for another upstream, whose answers nobody sees.

use crate::admin::with_admin;
use crate::canary::{origins, split};
use crate::client::{Client, get};
use crate::harness::{Proxy, eventually, outcomes, until};
use crate::maintenance::status;
use crate::reply::{Gate, Reply};

#[test]
fn mirrored_requests_are_whole_and_nobody_waits_for_them() {
    let (stable, next) = origins();
    next.set(|_| Reply::hang());
    let mirror = "mirror: { upstream: next, max: 3 }\nheaders: { request: { set: { X-From: \"{client_ip}\" } } }";
    let proxy = Proxy::start(&split(&stable, &next, mirror));
    let mut client = Client::to(proxy.port);
    let body = vec![b'x'; 100_000];
    let answer = client.request("POST", "/orders?a=b", &[], &body);
    assert_eq!(answer.text(), "stable");
    let copy = eventually("the copy", || {
        next.requests().into_iter().find(|r| r.complete)
    });
    assert_eq!((&*copy.method, &*copy.target), ("POST", "/orders?a=b"));
    assert_eq!(copy.body, body);
    let original = stable.last();
    for name in ["host", "x-request-id", "x-from", "x-forwarded-for"] {
        assert_eq!(copy.header(name), original.header(name), "{name}");
    }
    // It hangs, and three hang at most.
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "stable");
    }
    until("two more", || next.count() == 3);
    assert_eq!(stable.count(), 21);
    assert_eq!(next.count(), 3);
}

#[test]
fn content_is_mirrored_as_it_passes_and_not_waited_for() {
    let (stable, next) = origins();
    let (setup, admin) = with_admin();
    let rules = "mirror: { upstream: next }\nretry: { max_body: 64KB }";
    let proxy = setup.start(&split(&stable, &next, rules));
    let mut client = Client::to(proxy.port);
    client.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    until("its beginning is there", || {
        stable
            .requests()
            .first()
            .is_some_and(|r| r.body == b"01234")
    });
    assert_eq!(next.count(), 0);
    client.send("56789");
    assert_eq!(client.answer().text(), "stable");
    let copy = |target: &str| {
        eventually("the copy", || {
            let all = next.requests();
            all.into_iter().find(|r| r.complete && r.target == target)
        })
    };
    assert_eq!(copy("/slow").body, b"0123456789");
    // Nor has its length to be known.
    let answer = client.chunked("POST", "/chunked", &[b"abc", b"def"]);
    assert_eq!(answer.text(), "stable");
    assert_eq!(copy("/chunked").body, b"abcdef");
    // What does not fit is left out, and that is counted.
    for target in ["/large", "/larger"] {
        let answer = client.request("POST", target, &[], &vec![b'x'; 100_000]);
        assert_eq!(answer.text(), "stable");
    }
    until("they are counted", || {
        status(admin)["routes"][0]["not_mirrored"] == 2
    });
    assert_eq!(next.count(), 2);
}

/// What comes slowly takes its place among the copies from its beginning on: no more is held than `max` of them.
#[test]
fn content_that_comes_slowly_is_a_copy_under_way() {
    let (stable, next) = origins();
    let (setup, admin) = with_admin();
    let proxy = setup.start(&split(
        &stable,
        &next,
        "mirror: { upstream: next, max: 1 }\nretry: { max_body: 1KB }",
    ));
    let mut slow = Client::to(proxy.port);
    slow.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n");
    slow.send([b'x'; 500]);
    until("it is under way", || stable.count() == 1);
    let mut client = Client::to(proxy.port);
    assert_eq!(client.get("/not-copied").text(), "stable");
    assert_eq!(status(admin)["routes"][0]["not_mirrored"], 1);
    // It is too long to be copied: that place is free again.
    slow.send([b'x'; 4_500]);
    assert_eq!(slow.answer().text(), "stable");
    assert_eq!(client.get("/copied").text(), "stable");
    until("its copy", || next.count() == 1);
    assert_eq!(next.request(0).target, "/copied");
}

#[test]
fn a_copy_overtakes_nobody_who_waits_for_a_backend() {
    let (stable, next) = origins();
    let gate = Gate::default();
    let open = gate.clone();
    next.set(move |_| Reply::ok("next").when(&open));
    let yaml = format!(
        "upstreams:\n  stable: {{ backends: [127.0.0.1:{}] }}\n  next: {{ concurrency: {{ max: 9, queue_timeout: 1m }}, backends: [{{ address: 127.0.0.1:{}, max_conns: 1 }}] }}\nroutes:\n  - {{ name: copied, match: {{ path: /copied }}, upstream: stable, mirror: {{ upstream: next }} }}\n  - {{ upstream: next, timeouts: {{ total: 2m }} }}\n",
        stable.port, next.port
    );
    let (setup, admin) = with_admin();
    let proxy = setup.start(&yaml);
    let status = || status(admin);
    let mut clients: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = Client::to(proxy.port);
            client.begin("GET", "/", &[], b"");
            client
        })
        .collect();
    until("one is there and one waits", || {
        next.count() == 1 && status()["upstreams"][1]["concurrency"]["active"] == 2
    });
    assert_eq!(get(proxy.port, "/copied").text(), "stable");
    until("the copy is left out", || {
        status()["routes"][0]["not_mirrored"] == 1
    });
    gate.open();
    assert!(clients.iter_mut().all(|c| c.answer().status == 200));
    assert_eq!(next.count(), 2);
}

#[test]
fn a_share_is_mirrored() {
    let (stable, next) = origins();
    let mirror = "mirror: { upstream: next, share: 20% }";
    let proxy = Proxy::start(&split(&stable, &next, mirror));
    let mut client = Client::to(proxy.port);
    for _ in 0..300 {
        assert_eq!(client.get("/").text(), "stable");
    }
    until("the copies", || next.count() >= 25);
    assert!(next.count() <= 110, "{}", next.count());
    assert!(proxy.log_lines().iter().all(|l| outcomes(l) == ["ok"]));
}

/// What a copy meets is no reason to take a backend for gone: it took the connection.
#[test]
fn a_backend_that_hangs_up_on_copies_is_not_unreachable() {
    let (stable, next) = origins();
    next.set(|_| Reply::close());
    let (setup, admin) = with_admin();
    let proxy = setup.start(&split(&stable, &next, "mirror: { upstream: next }"));
    let mut client = Client::to(proxy.port);
    let failures = || {
        let status = status(admin);
        let backend = status["upstreams"][1]["backends"][0].clone();
        assert_eq!(status["upstreams"][1]["name"], "next");
        (backend["failures"].as_u64(), backend["state"].clone())
    };
    for n in 1..=6 {
        assert_eq!(client.get("/").text(), "stable");
        until("its copy", || failures().0 == Some(n));
        assert_eq!(failures().1, "up");
    }
    assert_eq!(proxy.count_said("is unreachable"), 0);
}
