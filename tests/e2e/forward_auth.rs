//! A service that is asked whether requests may pass.

use crate::client::{Client, get, request};
use crate::client2::Client2;
use crate::harness::{Proxy, one_route, outcomes, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::time::{Duration, Instant};

/// Lets those pass whose cookie names them, and sends others to log in.
fn service() -> Origin {
    Origin::new(|r| match r.header("cookie") {
        Some("session=ann") => Reply::answer(202, &[("X-User", "ann"), ("X-Team", "red")], b"-"),
        Some("session=bob") => Reply::answer(200, &[("X-User", "bob")], b""),
        Some("session=broken") => Reply::status(500),
        Some("session=slow") => Reply::hang(),
        Some("session=banned") => Reply::answer(403, &[("X-Why", "banned")], b"not you"),
        _ => Reply::answer(
            302,
            &[("Location", "/login"), ("Set-Cookie", "seen=1")],
            b"",
        ),
    })
}

fn rules(service: &[&Origin], origin: &Origin, forward: &str, more: &str) -> String {
    let addresses: Vec<_> = service
        .iter()
        .map(|o| format!("127.0.0.1:{}", o.port))
        .collect();
    let auth = format!("auth: {{ forward: {{ upstream: login, {forward} }} }}\n{more}");
    let yaml = one_route(&[origin.port], &auth);
    let login = format!(
        "upstreams:\n  login: {{ eject: off, backends: [{}] }}\n",
        addresses.join(", ")
    );
    let with = yaml.replacen("upstreams:\n", &login, 1);
    assert_ne!(with, yaml);
    with
}

fn as_user(port: u16, path: &str, session: &str) -> crate::client::Answer {
    let cookie = format!("session={session}");
    let headers = [
        ("Cookie", &*cookie),
        ("X-User", "root"),
        ("X-Team", "root"),
        ("X_Team", "root"),
    ];
    request(port, "GET", path, &headers, b"")
}

#[test]
fn whom_the_service_lets_pass_passes_and_the_backend_is_told_who_it_is() {
    let service = service();
    let origin = Origin::always(Reply::ok("hello"));
    let forward = "path: \"/check?a=b\", pass: [X-User, X-Team], identity: X-User";
    let headers = "headers: { request: { set: { X-Who: \"{user}\" } } }";
    let proxy = Proxy::start(&rules(&[&service], &origin, forward, headers));
    let answer = as_user(proxy.port, "/a?x=y", "ann");
    assert_eq!((answer.status, &*answer.text()), (200, "hello"));
    let (asked, told) = (service.last(), origin.last());
    assert_eq!((&*asked.method, &*asked.target), ("GET", "/check?a=b"));
    for (name, value) in [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-uri", "/a?x=y"),
        ("x-forwarded-host", "example.com"),
        ("x-forwarded-for", "127.0.0.1"),
        ("host", "example.com"),
        ("cookie", "session=ann"),
    ] {
        assert_eq!(asked.all(name), [value], "{name}");
    }
    assert_eq!(asked.header("x-request-id"), told.header("x-request-id"));
    for (name, value) in [("x-user", "ann"), ("x-team", "red"), ("x-who", "ann")] {
        assert_eq!(told.all(name), [value], "{name}");
    }
    let line = proxy.logged("/a?x=y");
    assert_eq!(
        (&line["enduser.id"], &line["identity_from"]),
        (&"ann".into(), &"forward".into())
    );
    // What the service does not say, nobody says.
    assert_eq!(as_user(proxy.port, "/b", "bob").status, 200);
    assert_eq!(origin.last().all("x-user"), ["bob"]);
    assert!(origin.last().all("x-team").is_empty());
    assert!(origin.last().all("x_team").is_empty());
    // A body goes to the backend only.
    let post = request(
        proxy.port,
        "POST",
        "/p",
        &[("Cookie", "session=ann")],
        b"content",
    );
    assert_eq!(post.status, 200);
    assert_eq!(
        (service.last().body.len(), &*origin.last().body),
        (0, &b"content"[..])
    );
    assert_eq!(service.last().header("x-forwarded-method"), Some("POST"));
    assert_eq!(service.last().header("content-length"), None);
}

#[test]
fn its_no_is_the_clients_answer_and_the_backend_hears_nothing() {
    let service = service();
    let origin = Origin::always(Reply::ok("hello"));
    let proxy = Proxy::with()
        .http2()
        .start(&rules(&[&service], &origin, "timeout: 300ms", ""));
    let mut client = Client::to(proxy.port);
    let answer = client.get("/out");
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some("/login"))
    );
    assert_eq!(answer.header("set-cookie"), Some("seen=1"));
    let banned = [("Cookie", "session=banned")];
    let answer = client.request("GET", "/banned", &banned, b"");
    assert_eq!((answer.status, &*answer.text()), (403, "not you"));
    assert_eq!(answer.header("x-why"), Some("banned"));
    assert_eq!(client.request("HEAD", "/banned", &banned, b"").status, 403);
    assert_eq!(proxy.logged("/banned")["refused"], "auth_said_no");
    let mut second = Client2::to(proxy.port);
    let answer = second.request("GET", "/", &banned, b"");
    assert_eq!((answer.status, &*answer.text()), (403, "not you"));
    // A service that fails, or does not answer in time, lets nobody pass.
    for session in ["broken", "slow"] {
        let begun = Instant::now();
        let answer = as_user(proxy.port, &format!("/{session}"), session);
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("5"))
        );
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(
            proxy.logged(&format!("/{session}"))["refused"],
            "auth_unavailable"
        );
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn another_backend_of_the_service_is_asked_when_one_fails() {
    let failing = Origin::always(Reply::status(500));
    let mut gone = Origin::always(Reply::ok(""));
    gone.stop();
    let service = service();
    let origin = Origin::always(Reply::ok("hello"));
    for other in [&failing, &gone] {
        let proxy = Proxy::start(&rules(&[other, &service], &origin, "", ""));
        for _ in 0..6 {
            assert_eq!(as_user(proxy.port, "/", "ann").status, 200);
        }
        assert_eq!(outcomes(&proxy.logged("/")), ["ok"]);
    }
    let none = Proxy::start(&rules(&[&gone], &origin, "", ""));
    assert_eq!(as_user(none.port, "/", "ann").status, 503);
}

#[test]
fn one_of_the_service_that_hangs_costs_no_answer_and_is_found_out() {
    let (hangs, works) = (Origin::always(Reply::hang()), service());
    let origin = Origin::always(Reply::ok("hello"));
    let yaml = rules(&[&hangs, &works], &origin, "path: /, timeout: 2s", "");
    let yaml = yaml.replace(
        "login: { eject: off,",
        "login: { eject: { consecutive: 2 },",
    );
    let proxy = Proxy::start(&yaml);
    for _ in 0..4 {
        let start = Instant::now();
        assert_eq!(as_user(proxy.port, "/", "ann").status, 200);
        assert!(start.elapsed() < Duration::from_millis(1_900));
    }
    proxy.said(&format!("backend 127.0.0.1:{} is ejected", hangs.port));
    assert_eq!(hangs.count(), 2);
}

#[test]
fn the_service_has_no_more_questions_at_once_than_its_upstream_allows() {
    let gate = Gate::default();
    let open = gate.clone();
    let service = Origin::new(move |_| Reply::status(200).when(&open));
    let origin = Origin::always(Reply::ok("hello"));
    let yaml = rules(&[&service], &origin, "path: /, timeout: 10s", "");
    let yaml = yaml.replace(
        "login: { eject: off,",
        "login: { concurrency: { max: 1, queue: 0 },",
    );
    let proxy = Proxy::start(&yaml);
    let mut first = Client::to(proxy.port);
    first.begin("GET", "/", &[], b"");
    until("it is asked", || service.count() == 1);
    assert_eq!(get(proxy.port, "/").status, 503);
    gate.open();
    assert_eq!(first.answer().status, 200);
    assert_eq!(get(proxy.port, "/").status, 200);
    assert_eq!(service.count(), 2);
}

#[test]
fn a_service_that_was_down_uses_up_nobody_s_rate() {
    let (service, origin) = (service(), Origin::always(Reply::ok("hello")));
    let limit = "rate_limit: { rate: 1/m, burst: 3, per: identity }";
    let forward = "path: /, identity: X-User";
    let proxy = Proxy::start(&rules(&[&service], &origin, forward, limit));
    for _ in 0..5 {
        assert_eq!(as_user(proxy.port, "/", "broken").status, 503);
    }
    let ask = |session: &str| as_user(proxy.port, "/", session).status;
    assert!((0..3).all(|_| ask("ann") == 200));
    assert_eq!(ask("ann"), 429);
    assert_eq!(ask("bob"), 200);
}

/// Though they send nothing by which the cache could tell them apart.
#[test]
fn answers_for_people_whom_the_service_knows_otherwise_are_each_their_own() {
    let service = Origin::new(|r| {
        let ticket = r.header("x-ticket").unwrap_or("nobody").to_string();
        Reply::answer(200, &[("X-User", &ticket)], b"")
    });
    let origin = Origin::new(|r| Reply::ok(format!("for {}", r.header("x-user").unwrap())));
    let proxy = Proxy::start(&rules(
        &[&service],
        &origin,
        "pass: [X-User]",
        "cache: { ttl: 1h }",
    ));
    for _ in 0..2 {
        for ticket in ["ann", "bob"] {
            let answer = request(proxy.port, "GET", "/", &[("X-Ticket", ticket)], b"");
            assert_eq!(answer.text(), format!("for {ticket}"));
        }
        assert_eq!(get(proxy.port, "/").text(), "for nobody");
    }
    // Stored once for each, and nobody gets one without being asked about.
    assert_eq!((origin.count(), service.count()), (3, 6));
}

#[test]
fn what_a_client_claims_does_not_reach_the_service() {
    let service = service();
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&rules(&[&service], &origin, "path: /check", ""));
    let claims = [
        ("Cookie", "session=ann"),
        ("X-Original-URL", "https://a/public"),
        ("X-Original-Method", "OPTIONS"),
        ("X_Original_Url", "/public"),
        ("X-Rewrite-Url", "/public"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/public"),
        ("X_Forwarded_Uri", "/public"),
        ("X-Auth-Request-Redirect", "/public"),
        ("X-Real-IP", "10.0.0.1"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-Other", "kept"),
    ];
    assert_eq!(request(proxy.port, "GET", "/a", &claims, b"").status, 200);
    let asked = service.last();
    assert_eq!(asked.header("x-other"), Some("kept"));
    assert_eq!(asked.all("x-forwarded-uri"), ["/a"]);
    for (name, _) in &claims[1..11] {
        assert!(asked.all(name).is_empty(), "{name}");
    }
}

#[test]
fn what_was_answered_for_one_user_is_not_for_another() {
    let service = Origin::new(|r| match r.header("x-api-key") {
        Some(key) => Reply::answer(200, &[("X-User", key)], b""),
        None => Reply::status(401),
    });
    let origin = Origin::new(|r| Reply::ok(r.header("x-who").unwrap_or("nobody")));
    let headers = "headers: { request: { set: { X-Who: \"{user}\" } } }\ncache: { ttl: 1h }";
    let forward = "path: /check, identity: X-User";
    let proxy = Proxy::start(&rules(&[&service], &origin, forward, headers));
    for (key, count) in [("ann", 1), ("bob", 2), ("ann", 2), ("bob", 2)] {
        let answer = request(proxy.port, "GET", "/a", &[("X-Api-Key", key)], b"");
        assert_eq!((answer.status, &*answer.text()), (200, key));
        assert_eq!(origin.count(), count);
    }
}
