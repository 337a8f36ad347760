//! Tokens: who passes by one, who does not, and where the keys come from.

use crate::client::{Answer, get, request};
use crate::harness::{Proxy, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A key of the issuer, by its number.
fn secret(n: u8) -> [u8; 32] {
    [n; 32]
}

fn jwks(numbers: &[u8]) -> String {
    let keys = numbers.iter().map(|n| {
        let k = URL_SAFE_NO_PAD.encode(secret(*n));
        format!("{{\"kty\":\"oct\",\"kid\":\"{n}\",\"k\":\"{k}\"}}")
    });
    format!("{{\"keys\":[{}]}}", keys.collect::<Vec<_>>().join(","))
}

fn token(n: u8, claims: &str) -> String {
    let head = format!("{{\"alg\":\"HS256\",\"typ\":\"JWT\",\"kid\":\"{n}\"}}");
    let signed = [head.as_str(), claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = signed.join(".");
    let signature = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &secret(n)),
        signed.as_bytes(),
    );
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// So many seconds from now, since 1970.
fn at(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

fn good(n: u8) -> String {
    token(n, &format!("{{\"sub\":\"ann\",\"exp\":{}}}", at(60)))
}

fn bearing(port: u16, path: &str, token: &str) -> Answer {
    let value = format!("Bearer {token}");
    request(port, "GET", path, &[("Authorization", &value)], b"")
}

fn written(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    path.display().to_string()
}

#[test]
fn who_bears_a_good_token_passes_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let keys = written(&dir.path().join("keys.json"), &jwks(&[1, 2]));
    let origin = Origin::always(Reply::ok("hello"));
    let auth = format!(
        "auth: {{ jwt: {{ keys: {keys}, issuer: idp, audience: [api, web], identity: email }} }}\nheaders: {{ request: {{ set: {{ X-User: \"{{user}}\" }} }} }}\ncache: {{ ttl: 1m }}"
    );
    let proxy = Proxy::start(&one_route(&[origin.port], &auth));
    let claims = |exp: i64, more: &str| {
        format!("{{\"iss\":\"idp\",\"aud\":\"api\",\"email\":\"ann@x.test\",\"exp\":{exp}{more}}}")
    };
    let fine = claims(at(60), "");
    let spoofed = [
        ("Authorization", format!("bearer {}", token(1, &fine))),
        ("X-User", "root".to_string()),
    ];
    let spoofed: Vec<(&str, &str)> = spoofed.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let answer = request(proxy.port, "GET", "/a", &spoofed, b"");
    assert_eq!((answer.status, &*answer.text()), (200, "hello"));
    assert_eq!(origin.last().all("x-user"), ["ann@x.test"]);
    // A clock that is some seconds late does no harm.
    for claims in [
        claims(at(-20), ""),
        claims(at(60), &format!(",\"nbf\":{}", at(20))),
    ] {
        assert_eq!(bearing(proxy.port, "/b", &token(2, &claims)).status, 200);
    }
    let asked = origin.count();
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}"),
        URL_SAFE_NO_PAD.encode(&fine)
    );
    let forged = {
        let (head, rest) = token(1, &fine)
            .split_once('.')
            .map(|(h, r)| (h.to_string(), r.to_string()))
            .unwrap();
        let signature = rest.rsplit_once('.').unwrap().1.to_string();
        let other = URL_SAFE_NO_PAD.encode(claims(at(60), ",\"admin\":true"));
        format!("{head}.{other}.{signature}")
    };
    for (token, word, told) in [
        (
            token(1, &claims(at(-31), "")),
            "token_expired",
            "the token has expired",
        ),
        (
            token(1, &claims(at(60), &format!(",\"nbf\":{}", at(40)))),
            "token_early",
            "not valid yet",
        ),
        (
            token(1, "{\"iss\":\"idp\",\"aud\":\"api\",\"email\":\"a\"}"),
            "token_endless",
            "no exp",
        ),
        (
            token(1, &fine.replace("idp", "other")),
            "token_issuer",
            "another issuer",
        ),
        (
            token(1, &fine.replace("\"api\"", "[\"x\"]")),
            "token_audience",
            "another audience",
        ),
        (
            token(1, &fine.replace("email", "name")),
            "token_nameless",
            "names nobody",
        ),
        (token(3, &fine), "token_key_unknown", "the key is not known"),
        (forged, "token_signature", "the signature is wrong"),
        (unsigned, "token_signature", "the signature is wrong"),
        ("x.y.z".to_string(), "token_malformed", "cannot be read"),
    ] {
        let answer = bearing(proxy.port, &format!("/{word}"), &token);
        let challenge = answer.header("www-authenticate").unwrap();
        assert_eq!(answer.status, 401, "{word}");
        assert!(
            challenge.contains("error=\"invalid_token\"") && challenge.contains(told),
            "{challenge}"
        );
        assert_eq!(proxy.logged(&format!("/{word}"))["refused"], word);
    }
    let nobody = get(proxy.port, "/a");
    assert_eq!(nobody.status, 401);
    assert_eq!(
        nobody.header("www-authenticate"),
        Some("Bearer realm=\"backstop\"")
    );
    let two = format!("Bearer {}", token(1, &fine));
    let two = [("Authorization", &*two), ("Authorization", &*two)];
    assert_ne!(request(proxy.port, "GET", "/a", &two, b"").status, 200);
    assert_eq!(origin.count(), asked);
    let line = proxy.logged("/a");
    assert_eq!(
        (&line["enduser.id"], &line["identity_from"]),
        (&"ann@x.test".into(), &"jwt".into())
    );
    assert!(!format!("{:?}{}", proxy.log_lines(), proxy.stderr()).contains(&token(1, &fine)));
}

#[test]
fn keys_at_an_address_are_fetched_kept_and_renewed() {
    let mut issuer = Origin::always(Reply::status(500));
    let origin = Origin::always(Reply::ok("hello"));
    let auth = format!(
        "auth: {{ jwt: {{ keys: \"http://127.0.0.1:{}/keys\" }} }}",
        issuer.port
    );
    let yaml = one_route(&[origin.port], &auth);
    let proxy = Proxy::start(&yaml);
    proxy.said(
        "it answers with status 500 Internal Server Error; nobody can pass until there are keys",
    );
    let none_yet = bearing(proxy.port, "/early", &good(1));
    assert_eq!(
        (none_yet.status, none_yet.header("retry-after")),
        (503, Some("5"))
    );
    assert_eq!(proxy.logged("/early")["refused"], "keys_unavailable");
    issuer.set(|_| Reply::ok(jwks(&[1])));
    until("there are keys", || {
        bearing(proxy.port, "/", &good(1)).status == 200
    });
    assert_eq!(issuer.last().target, "/keys");
    // A new key is fetched when a token names it.
    issuer.set(|_| Reply::ok(jwks(&[1, 2])));
    until("the new key is known", || {
        bearing(proxy.port, "/", &good(2)).status == 200
    });
    // Tokens that anybody can make up do not have it fetched again and again.
    let asked = issuer.count();
    for n in 0..40 {
        assert_eq!(bearing(proxy.port, "/", &good(100 + n)).status, 401);
    }
    assert!(issuer.count() - asked <= 4, "{}", issuer.count() - asked);
    issuer.stop();
    proxy.reload_with(&yaml);
    assert_eq!(bearing(proxy.port, "/", &good(2)).status, 200);
    until("it was asked in vain", || {
        assert_eq!(bearing(proxy.port, "/", &good(3)).status, 401);
        proxy.count_said("the keys it gave before are used on") == 1
    });
    assert_eq!(bearing(proxy.port, "/", &good(1)).status, 200);
}

#[test]
fn a_file_of_keys_is_checked_and_read_again_at_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let keys = written(&path, &jwks(&[1]));
    let origin = Origin::always(Reply::ok("hello"));
    let yaml = one_route(
        &[origin.port],
        &format!("auth: {{ jwt: {{ keys: {keys} }} }}"),
    );
    let proxy = Proxy::start(&yaml);
    assert_eq!(bearing(proxy.port, "/", &good(1)).status, 200);
    assert_eq!(bearing(proxy.port, "/", &good(2)).status, 401);
    written(&path, &jwks(&[2]));
    proxy.reload_with(&yaml);
    assert_eq!(bearing(proxy.port, "/", &good(1)).status, 401);
    assert_eq!(bearing(proxy.port, "/", &good(2)).status, 200);
    written(&path, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}");
    proxy.reload_refused(&yaml);
    proxy.said("key 1 of it: the secret is shorter than its hash");
    assert_eq!(bearing(proxy.port, "/", &good(2)).status, 200);
}
