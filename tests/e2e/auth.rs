//! Name and password: who passes, who does not, and what that costs.

use crate::client::{Client, get, request};
use crate::client2::Client2;
use crate::command::run;
use crate::harness::{Proxy, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;
use std::time::{Duration, Instant};

fn basic(text: &str) -> (&'static str, String) {
    ("Authorization", format!("Basic {}", STANDARD.encode(text)))
}

fn users(path: &Path) {
    let bcrypt = bcrypt::hash("open sesame", 6).unwrap();
    // The password is "argon", by the library's own example settings.
    let salt = argon2::password_hash::SaltString::encode_b64(b"0123456789abcdef").unwrap();
    let params = argon2::Params::new(256, 1, 1, None).unwrap();
    let hasher = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let argon = argon2::PasswordHasher::hash_password(&hasher, b"argon", &salt).unwrap();
    std::fs::write(path, format!("# staff\nann:{bcrypt}\nbob:{argon}\n")).unwrap();
}

#[test]
fn a_rate_per_identity_goes_by_who_it_is_and_limits_guesses() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.htpasswd");
    users(&file);
    let origin = Origin::always(Reply::ok("hello"));
    let rules = format!(
        "auth: {{ basic: {} }}\nrate_limit: {{ rate: 1/m, burst: 3, per: identity }}",
        file.display()
    );
    let proxy = Proxy::start(&one_route(&[origin.port], &rules));
    let ask = |scheme: &str, said: &str| {
        let value = format!("{scheme} {}", STANDARD.encode(said));
        let answer = request(proxy.port, "GET", "/", &[("Authorization", &value)], b"");
        assert!(answer.header("ratelimit").is_some(), "{}", answer.status);
        answer.status
    };
    // However it is written, it is one and the same.
    for (scheme, status) in [
        ("Basic", 200),
        ("basic", 200),
        ("BASIC", 200),
        ("bASIC", 429),
    ] {
        assert_eq!(ask(scheme, "ann:open sesame"), status, "{scheme}");
    }
    assert_eq!(ask("Basic", "bob:argon"), 200, "another one");
    let guesses: Vec<u16> = (0..6)
        .map(|n| ask("Basic", &format!("bob:guess {n}")))
        .collect();
    assert_eq!(guesses, [401, 401, 401, 429, 429, 429]);
    // Nor is it said of a good guess that it is one.
    assert_eq!(ask("Basic", "bob:argon"), 429);
}

#[test]
fn only_those_pass_who_know_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.htpasswd");
    users(&file);
    let origin = Origin::new(|_| Reply::ok("hello"));
    let yaml = one_route(
        &[origin.port],
        &format!(
            "auth: {{ basic: {} }}\ncache: {{ ttl: 1m }}",
            file.display()
        ),
    );
    let proxy = Proxy::start(&yaml);
    let ask = |target: &str, said: &str| {
        let (name, value) = basic(said);
        request(proxy.port, "GET", target, &[(name, &value)], b"").status
    };
    assert_eq!(ask("/a", "ann:open sesame"), 200);
    assert_eq!(ask("/b", "bob:argon"), 200);
    let asked = origin.count();
    for said in [
        "ann:open",
        "ann:",
        "bob:open sesame",
        "eve:open sesame",
        ":open sesame",
        "ann",
        "# staff:x",
    ] {
        assert_eq!(ask("/a", said), 401, "{said}");
    }
    let nobody = get(proxy.port, "/a");
    assert_eq!(nobody.status, 401);
    assert!(
        nobody
            .header("www-authenticate")
            .unwrap()
            .starts_with("Basic realm=")
    );
    let bearer = [("Authorization", "Bearer x")];
    assert_eq!(request(proxy.port, "GET", "/a", &bearer, b"").status, 401);
    assert_eq!(origin.count(), asked);
    // Stored answers are not for everybody either; those who may have them get them.
    assert_eq!(ask("/a", "ann:open sesame"), 200);
    assert_eq!(origin.count(), asked);
    let line = proxy.logged("/b");
    assert_eq!(
        (&line["enduser.id"], &line["identity_from"]),
        (&"bob".into(), &"basic".into())
    );
    assert!(
        !proxy
            .log_lines()
            .iter()
            .any(|line| line.to_string().contains("sesame"))
    );
}

#[test]
fn a_check_that_succeeded_is_not_made_again_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.htpasswd");
    std::fs::write(
        &file,
        format!("ann:{}\n", bcrypt::hash("slow", 11).unwrap()),
    )
    .unwrap();
    let yaml = format!(
        "routes:\n  - {{ match: {{ path: / }}, respond: {{ status: 200 }}, auth: {{ basic: {} }} }}\n",
        file.display()
    );
    let proxy = Proxy::start(&yaml);
    let (name, value) = basic("ann:slow");
    let mut client = Client::to(proxy.port);
    let mut ask = || {
        let began = Instant::now();
        assert_eq!(
            client.request("GET", "/", &[(name, &value)], b"").status,
            200
        );
        began.elapsed()
    };
    let first = ask();
    let ten: Duration = (0..10).map(|_| ask()).sum();
    assert!(ten < first, "{ten:?} for ten after {first:?}");
}

#[test]
fn files_of_users_are_checked_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.htpasswd");
    users(&file);
    let yaml = format!(
        "routes:\n  - {{ match: {{ path: / }}, respond: {{ status: 200 }}, auth: {{ basic: {} }} }}\n",
        file.display()
    );
    let proxy = Proxy::start(&yaml);
    let (name, value) = basic("ann:open sesame");
    let ask = || request(proxy.port, "GET", "/", &[(name, &value)], b"").status;
    assert_eq!(ask(), 200);
    std::fs::write(&file, "ann:plain\n").unwrap();
    proxy.reload_refused(&yaml);
    assert!(
        proxy
            .stderr()
            .contains("users.htpasswd:1: this hash is neither bcrypt nor argon2"),
        "{}",
        proxy.stderr()
    );
    assert_eq!(ask(), 200);
    let check = run(&["-t", "-c", proxy.config().to_str().unwrap()], proxy.dir());
    assert!(!check.status.success());
    std::fs::write(&file, "").unwrap();
    proxy.reload_with(&yaml);
    until("nobody passes", || ask() == 401);
}

#[test]
fn whoever_guesses_does_not_keep_the_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.htpasswd");
    let slow = bcrypt::hash("open sesame", 8).unwrap();
    std::fs::write(&file, format!("ann:{slow}\n")).unwrap();
    let origin = Origin::always(Reply::ok("hello"));
    let yaml = one_route(
        &[origin.port],
        &format!("auth: {{ basic: {} }}", file.display()),
    );
    let proxy = Proxy::with()
        .http2()
        .key("trusted_proxies", "[127.0.0.1]")
        .start(&yaml);
    let mut guesser = Client2::to(proxy.port);
    let guesses: Vec<_> = (0..100)
        .map(|n| {
            let (name, value) = basic(&format!("ann:guess {n}"));
            let headers = [(name, &*value), ("x-forwarded-for", "10.0.0.1")];
            guesser.begin("GET", "/guess", &headers, true)
        })
        .collect();
    let (name, value) = basic("ann:open sesame");
    let headers = [(name, &*value), ("X-Forwarded-For", "10.0.0.2")];
    assert_eq!(request(proxy.port, "GET", "/", &headers, b"").status, 200);
    let answers: Vec<u16> = guesses
        .into_iter()
        .map(|g| guesser.answer(g).status)
        .collect();
    let count = |status| answers.iter().filter(|s| **s == status).count();
    assert_eq!(count(401) + count(503), 100, "{answers:?}");
    // Some are checked while others still come; far from all.
    assert!(count(401) >= 16 && count(503) >= 20, "{answers:?}");
}
