//! What was found before a purge, or before another answer came, does not bring back what it was: validations, refreshes in
//! the background, answers to HEAD, other processes.

use crate::admin::{figures, post, with_admin};
use crate::cache::{is_hit, rules, told};
use crate::cache_disk::{kill, objects, on_disk, until_written};
use crate::client::{Client, get, request};
use crate::harness::until;
use crate::origin::Origin;
use crate::reply::{Gate, Reply, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const PURGES: [&str; 4] = [
    r#"{"url": "http://example.com/x"}"#,
    r#"{"prefix": "http://example.com/"}"#,
    r#"{"tag": "x"}"#,
    r#"{"all": true}"#,
];

/// Says once that the old answer holds, when the gate is open; to all who do not ask for that, it gives a new one.
fn confirming(cache_control: &'static str, asked_by: &'static str, gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::new(move |r: &Request| {
        let old = [
            ("ETag", "\"old\""),
            ("Cache-Tag", "x"),
            ("Cache-Control", cache_control),
        ];
        let new = [("ETag", "\"new\""), ("Cache-Control", "max-age=60")];
        if r.number == 0 {
            return Reply::answer(200, &old, b"old body");
        }
        let is_confirmed = match asked_by {
            "HEAD" => r.method == "HEAD",
            _ => r.header("if-none-match").is_some(),
        };
        // What it says from now on: fresh, and no tag any more.
        let fresh = [("ETag", "\"old\""), ("Cache-Control", "max-age=60")];
        match (is_confirmed, asked_by) {
            (true, "HEAD") => Reply::answer(200, &fresh, b"old body").when(&gate),
            (true, _) => Reply::answer(304, &fresh, b"").when(&gate),
            (false, _) => Reply::answer(200, &new, b"new body"),
        }
    })
}

/// One request found the old answer and asks whether it holds; the purge comes; the origin says yes.
fn purged_meanwhile(cache_control: &'static str, asked_by: &'static str) {
    for body in PURGES {
        for is_on_disk in [false, true] {
            let gate = Gate::default();
            let origin = confirming(cache_control, asked_by, &gate);
            let dir = tempfile::tempdir().unwrap();
            let (setup, admin) = with_admin();
            let setup = match is_on_disk {
                true => setup.key(
                    "cache",
                    &format!(
                        "{{ memory: 1MiB, path: {}, max_size: 64MiB, min_free: 1MiB }}",
                        dir.path().display()
                    ),
                ),
                false => setup,
            };
            let yaml = rules(&origin, "respect_origin: true");
            let mut proxy = setup.clone().start(&yaml);
            assert_eq!(get(proxy.port, "/x").text(), "old body");
            if is_on_disk {
                until_written(dir.path(), 1);
                // So that it is found there, and nowhere else.
                kill(proxy);
                proxy = setup.clone().start(&yaml);
            }
            let method = if asked_by == "HEAD" { "HEAD" } else { "GET" };
            let mut early = Client::to(proxy.port);
            early.begin(method, "/x", &[], b"");
            origin.request(1);
            let answer = post(admin, body);
            assert_eq!(answer.status, 200, "{}", answer.text());
            gate.open();
            assert_eq!(early.answer_to(method).status, 200);
            until("its line", || {
                proxy
                    .log_lines()
                    .iter()
                    .any(|line| line["http.request.method"] == method)
            });
            // The refresh in the background ends by itself.
            until("no fill", || figures(admin)["fills"] == 0);
            let context = format!("{body} on disk: {is_on_disk}");
            for _ in 0..3 {
                let answer = get(proxy.port, "/x");
                assert_eq!(answer.text(), "new body", "{context}: {}", told(&answer));
            }
            if is_on_disk {
                until("the new file", || objects(dir.path()).len() == 1);
                kill(proxy);
                let proxy = setup.start(&yaml);
                let answer = get(proxy.port, "/x");
                assert_eq!(answer.text(), "new body", "{context}: {}", told(&answer));
            }
        }
    }
}

#[test]
fn a_validation_does_not_bring_back_what_was_purged_meanwhile() {
    purged_meanwhile("no-cache", "GET");
}

#[test]
fn nor_does_a_refresh_in_the_background() {
    purged_meanwhile("max-age=0, stale-while-revalidate=60", "background");
}

#[test]
fn nor_does_an_answer_to_head() {
    purged_meanwhile("max-age=0", "HEAD");
}

/// Who comes after a purge does not wait for who asks whether the old answer holds.
#[test]
fn nobody_joins_a_validation_that_began_before_a_purge() {
    for body in PURGES {
        let gate = Gate::default();
        let origin = confirming("no-cache", "GET", &gate);
        let (setup, admin) = with_admin();
        let proxy = setup.start(&rules(&origin, "respect_origin: true"));
        assert_eq!(get(proxy.port, "/x").text(), "old body");
        let mut early = Client::to(proxy.port);
        early.begin("GET", "/x", &[], b"");
        origin.request(1);
        assert_eq!(post(admin, body).status, 200);
        // At once, while the gate is still closed.
        assert_eq!(get(proxy.port, "/x").text(), "new body", "{body}");
        gate.open();
        assert_eq!(early.answer().text(), "old body", "{body}");
        assert_eq!(get(proxy.port, "/x").text(), "new body", "{body}");
    }
}

/// Two processes share a directory; the origin goes back and forth between two answers. What comes out of the files has
/// the body that its tag says, always.
#[test]
fn a_validated_head_never_lands_on_another_processs_body() {
    let phase = Arc::new(AtomicUsize::new(0));
    let now = phase.clone();
    let origin = Origin::new(move |r: &Request| {
        let version = ["1", "2", "1", "1"][now.load(Ordering::SeqCst)];
        let tag = format!("\"v{version}\"");
        let headers = [("ETag", tag.as_str()), ("Cache-Control", "no-cache")];
        match r.header("if-none-match") {
            Some(known) if known == tag => Reply::answer(304, &headers, b""),
            _ => Reply::answer(200, &headers, format!("body {version}").as_bytes()),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let yaml = rules(&origin, "respect_origin: true");
    let check = |port: u16, version: &str| {
        let answer = get(port, "/x");
        let tag = answer.header("etag").map(str::to_string);
        assert_eq!(tag, Some(format!("\"v{version}\"")));
        assert_eq!(
            answer.text(),
            format!("body {version}"),
            "{}",
            told(&answer)
        );
    };
    let one = on_disk(dir.path()).start(&yaml);
    check(one.port, "1");
    until_written(dir.path(), 1);
    let first = std::fs::read(&objects(dir.path())[0]).unwrap();
    let other = on_disk(dir.path()).start(&yaml);
    phase.store(1, Ordering::SeqCst);
    check(other.port, "2");
    until("the second file", || {
        std::fs::read(&objects(dir.path())[0]).is_ok_and(|now| now != first)
    });
    // The first process still has the first answer in memory, and is told that it holds again.
    phase.store(2, Ordering::SeqCst);
    check(one.port, "1");
    kill(one);
    kill(other);
    let next = on_disk(dir.path()).start(&yaml);
    check(next.port, "1");
}

/// A write elsewhere is no reason to ask the origin for what is in a file.
#[test]
fn changes_of_one_url_make_no_misses_of_others() {
    let origin =
        Origin::new(|r| Reply::ok(vec![b'x'; if r.method == "GET" { 700_000 } else { 1 }]));
    let dir = tempfile::tempdir().unwrap();
    let proxy = on_disk(dir.path()).start(&rules(&origin, "respect_origin: true"));
    origin.set(|r| match r.method.as_str() {
        "GET" => Reply::answer(
            200,
            &[("Cache-Control", "max-age=600")],
            &vec![b'x'; 700_000],
        ),
        _ => Reply::ok("changed"),
    });
    get(proxy.port, "/kept");
    until_written(dir.path(), 1);
    let done = Gate::default();
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (port, done) = (proxy.port, &done);
            scope.spawn(move || {
                let mut client = Client::to(port);
                let mut n = 0;
                while !done.is_open() {
                    let path = format!("/changed/{worker}/{n}");
                    assert_eq!(client.request("POST", &path, &[], b"x").status, 200);
                    n += 1;
                }
            });
        }
        let misses = (0..300)
            .filter(|_| !is_hit(&get(proxy.port, "/kept")))
            .count();
        done.open();
        assert_eq!(misses, 0);
    });
    // But what was changed itself is asked for again.
    assert_eq!(request(proxy.port, "POST", "/kept", &[], b"x").status, 200);
    assert!(!is_hit(&get(proxy.port, "/kept")));
}
