//! No token, no cookie and no query is in a file's name or head, whatever the origin repeats of them.

use crate::cache::{hit, rules, told};
use crate::cache_disk::{files, kill, objects, until_written, with_sizes};
use crate::client::request;
use crate::origin::Origin;
use crate::reply::{Reply, Request};
use std::path::Path;

const SECRETS: [&str; 4] = ["token-of", "secret-of", "query-secret", "session="];

#[track_caller]
fn no_secret_in(directory: &Path) {
    for file in files(directory) {
        let mut text = std::fs::read(&file).unwrap();
        text.extend(file.to_string_lossy().bytes());
        let text = String::from_utf8_lossy(&text);
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {}", file.display());
        }
    }
}

/// Repeats in its head what the path says.
fn echo(r: &Request) -> Reply {
    let (path, query) = r.target.split_once('?').unwrap_or((&r.target, ""));
    let credentials = [r.all("authorization"), r.all("cookie")].concat().concat();
    let escaped = r.target.replace('?', "%3F").replace('=', "%3D");
    let (status, name, value) = match path.split('/').nth(1) {
        Some("location") => (301, "Location", format!("{path}/?{query}")),
        Some("escaped") => (308, "Location", format!("/login?next={escaped}")),
        Some("link") => (200, "Link", format!("<{path}?{query}>; rel=\"self\"")),
        Some("who") => (200, "X-Who", credentials),
        _ => (200, "X-Nothing", "plain".into()),
    };
    let kept = ("Cache-Control", "public, max-age=600");
    let lines = [(name, value.as_str()), kept, ("ETag", "\"a\"")];
    let body = vec![
        b'x';
        if path.ends_with("large") {
            900_000
        } else {
            100
        }
    ];
    match r.header("if-none-match") {
        Some(_) => Reply::raw(format!(
            "HTTP/1.1 304 Not Modified\r\nX-Who: {}\r\nETag: \"a\"\r\nCache-Control: public, max-age=600\r\n\r\n",
            lines[0].1
        )),
        None => Reply::answer(status, &lines, &body),
    }
}

#[test]
fn what_a_head_repeats_of_its_request_is_in_no_file() {
    for cache in ["ttl: 1h", "respect_origin: true"] {
        let directory = tempfile::tempdir().unwrap();
        let origin = Origin::new(echo);
        let yaml = rules(&origin, cache);
        let proxy = with_sizes(directory.path(), "16MiB", "64MiB").start(&yaml);
        let people = [
            ("Authorization", "Bearer token-of-ann"),
            ("Cookie", "theme=dark; session=secret-of-ann"),
        ];
        for kind in ["location", "escaped", "link", "who"] {
            for size in ["small", "large"] {
                let path = format!("/{kind}/{size}?token=query-secret");
                let ask = || request(proxy.port, "GET", &path, &people, b"");
                assert!(told(&ask()).ends_with("; stored"), "{cache} {path}");
                // From memory.
                let again = ask();
                hit(&again);
                assert_eq!(again.status, ask().status, "{path}");
            }
        }
        // One that repeats nothing is in a file. It is the last, so the others are through.
        let path = "/plain/small?token=query-secret";
        request(proxy.port, "GET", path, &people, b"");
        until_written(directory.path(), 1);
        no_secret_in(directory.path());
        kill(proxy);
        let proxy = with_sizes(directory.path(), "16MiB", "64MiB").start(&yaml);
        hit(&request(proxy.port, "GET", path, &people, b""));
        let other = "/who/small?token=query-secret";
        let answer = request(proxy.port, "GET", other, &people, b"");
        assert!(told(&answer).contains("uri-miss"), "{}", told(&answer));
    }
}

#[test]
fn nor_what_a_later_head_repeats_nor_an_older_file_instead() {
    let directory = tempfile::tempdir().unwrap();
    let origin = Origin::new(|r| {
        let kept = [("Cache-Control", "public, max-age=600"), ("ETag", "\"a\"")];
        match r.number {
            0 => Reply::answer(200, &kept, b"old"),
            _ => echo(r),
        }
    });
    let yaml = rules(&origin, "respect_origin: true");
    let proxy = with_sizes(directory.path(), "16MiB", "64MiB").start(&yaml);
    let who = ("Authorization", "Bearer token-of-ann");
    let anew = ("Cache-Control", "no-cache");
    let ask = |more: &[(&str, &str)]| {
        let lines = [&[who], more].concat();
        request(proxy.port, "GET", "/who/small", &lines, b"")
    };
    ask(&[]);
    until_written(directory.path(), 1);
    // The 304 repeats the token.
    let answer = ask(&[anew]);
    assert!(
        told(&answer).contains("fwd-status=304"),
        "{}",
        told(&answer)
    );
    assert_eq!(answer.text(), "old");
    until_written(directory.path(), 0);
    hit(&ask(&[]));
    no_secret_in(directory.path());
    kill(proxy);
    assert!(objects(directory.path()).is_empty());
}
