//! Nobody gets an answer that was made for another: not another person, and not another host, path, query or language.

use crate::cache::{caching, hit, logged_as, not_stored, rules, stored};
use crate::client::{Answer, Client, get, request};
use crate::client2::Client2;
use crate::harness::{Proxy, one_route};
use crate::origin::Origin;
use crate::reply::{Reply, Request};
use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;

const KEPT: &str = "ttl: 1h";

/// Says who asked for what.
fn echo(headers: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::new(move |r| Reply::answer(200, headers, who(r).as_bytes()))
}

fn who(r: &Request) -> String {
    let (host, token, cookie) = (r.all("host"), r.all("authorization"), r.all("cookie"));
    format!("{host:?} {} {token:?} {cookie:?}", r.target)
}

/// What [`echo`] says to this request for `example.com`.
fn made_for(path: &str, headers: &[(&str, &str)]) -> String {
    let all = |name: &str| -> Vec<&str> {
        let same = headers.iter().filter(|(n, _)| *n == name);
        same.map(|(_, v)| *v).collect()
    };
    let (token, cookie) = (all("Authorization"), all("Cookie"));
    format!("[\"example.com\"] {path} {token:?} {cookie:?}")
}

/// What a person sends: nothing, a token, a cookie, or both.
fn person(n: usize) -> Vec<(&'static str, String)> {
    let token = ("Authorization", format!("Bearer token-of-{n}"));
    let cookie = ("Cookie", format!("theme=dark; session=secret-of-{n}"));
    match n {
        0 => vec![],
        n if n % 3 == 0 => vec![token, cookie],
        n if n % 3 == 1 => vec![token],
        _ => vec![cookie],
    }
}

fn borrowed<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    headers.iter().map(|(n, v)| (*n, v.as_str())).collect()
}

#[track_caller]
fn says(answer: &Answer, expected: &str) {
    assert_eq!((answer.status, answer.text().as_str()), (200, expected));
}

#[test]
fn s3_2000_requests_of_20_people_for_20_urls_reach_not_one_wrong_person() {
    const PEOPLE: usize = 20;
    let origin = echo(&[]);
    let proxy = caching(&origin, KEPT);
    let asked = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for worker in 0..10_u64 {
            let (proxy, asked) = (&proxy, &asked);
            scope.spawn(move || {
                let mut client = Client::to(proxy.port);
                let mut dice = worker.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for _ in 0..200 {
                    // Xorshift: the same people and URLs in every run.
                    dice ^= dice << 13;
                    dice ^= dice >> 7;
                    dice ^= dice << 17;
                    let (n, url) = ((dice >> 8) as usize % PEOPLE, (dice >> 40) % 20);
                    asked.lock().unwrap().insert((n, url));
                    let (path, headers) = (format!("/patients/{url}"), person(n));
                    let headers = borrowed(&headers);
                    let answer = client.request("GET", &path, &headers, b"");
                    says(&answer, &made_for(&path, &headers));
                }
            });
        }
    });
    let asked = asked.into_inner().unwrap().len();
    assert!((380..=400).contains(&asked), "{asked} is no test");
    assert_eq!(origin.count(), asked, "once for each person and URL");
}

#[test]
fn s3_no_token_and_no_cookie_gets_into_the_logs() {
    let origin = echo(&[]);
    let proxy = caching(&origin, KEPT);
    for n in 1..=3 {
        let headers = person(n);
        stored(&request(proxy.port, "GET", "/", &borrowed(&headers), b""));
        hit(&request(proxy.port, "GET", "/", &borrowed(&headers), b""));
        request(proxy.port, "POST", "/", &borrowed(&headers), b"");
    }
    request(proxy.port, "GET", "/end", &[], b"");
    for word in ["hit", "miss", "bypass"] {
        logged_as(&proxy, "/", word);
    }
    logged_as(&proxy, "/end", "miss");
    let log: Vec<String> = proxy.log_lines().iter().map(|l| l.to_string()).collect();
    for secret in ["token-of", "secret-of", "Bearer", "theme=dark"] {
        assert!(!log.join("\n").contains(secret), "{secret}");
        assert!(!proxy.stderr().contains(secret), "{secret}");
    }
}

#[test]
fn s3_no_secret_of_a_query_gets_into_the_logs() {
    let origin = Origin::new(|r| match r.target.starts_with("/fails") {
        true => Reply::close(),
        false => Reply::ok("fine"),
    });
    let (token, own) = ("s3cret-token", "s3cret-patient");
    let rules = "retry: { tries: 1 }\ncache: { ttl: 1h }";
    let proxy = Proxy::with()
        .key(
            "access_log",
            "{ path: stdout, hide_query: [token, patient] }",
        )
        .start(&one_route(&[origin.port], rules));
    for path in ["/fine", "/fine", "/fails"] {
        get(
            proxy.port,
            &format!("{path}?a=b&token={token}&Patient={own}"),
        );
    }
    proxy.logged("/fine?a=b&token=***&Patient=***");
    proxy.logged("/fails?a=b&token=***&Patient=***");
    proxy.said("/fails: 502");
    let log: Vec<String> = proxy.log_lines().iter().map(|l| l.to_string()).collect();
    for secret in [token, own] {
        assert!(!log.join("\n").contains(secret), "{secret}");
        assert!(!proxy.stderr().contains(secret), "{secret}");
    }
    assert!(
        origin.requests()[0].target.contains(token),
        "the backend gets it"
    );
}

#[test]
fn s3_credentials_are_told_apart_whatever_header_they_are_in() {
    let origin = echo(&[]);
    let proxy = caching(&origin, KEPT);
    let people: [&[(&str, &str)]; 10] = [
        &[],
        &[("Authorization", "a")],
        &[("Cookie", "a")],
        &[("Authorization", "a"), ("Cookie", "b")],
        &[("Authorization", "b"), ("Cookie", "a")],
        &[("Authorization", "ab")],
        &[("Cookie", "ab")],
        &[("Authorization", "A")],
        &[("Cookie", "a; b")],
        &[("Cookie", "b; a")],
    ];
    for first in [true, false] {
        for headers in people {
            let answer = request(proxy.port, "GET", "/", headers, b"");
            says(&answer, &made_for("/", headers));
            if first {
                stored(&answer);
            } else {
                hit(&answer);
            }
        }
    }
}

#[test]
fn s3_people_on_one_http2_connection_are_told_apart() {
    let origin = echo(&[]);
    let proxy = Proxy::with().http2().start(&rules(&origin, KEPT));
    let mut client = Client2::to(proxy.port);
    for first in [true, false] {
        for n in 0..4 {
            let headers = person(n);
            let headers = borrowed(&headers);
            let names: Vec<String> = headers.iter().map(|h| h.0.to_lowercase()).collect();
            let lower = names.iter().zip(&headers);
            let lower: Vec<(&str, &str)> = lower.map(|(n, h)| (n.as_str(), h.1)).collect();
            let answer = client.request("GET", "/", &lower, b"");
            says(&answer, &made_for("/", &headers));
            if first {
                stored(&answer);
            } else {
                hit(&answer);
            }
            // The same person by HTTP/1.
            let answer = request(proxy.port, "GET", "/", &headers, b"");
            says(&answer, &made_for("/", &headers));
        }
    }
}

#[test]
fn shared_true_shares_between_people() {
    let origin = echo(&[]);
    let proxy = caching(&origin, "ttl: 1h, shared: true");
    let first = made_for("/", &borrowed(&person(3)));
    for n in [3, 0, 1, 2, 4] {
        let headers = person(n);
        let answer = request(proxy.port, "GET", "/", &borrowed(&headers), b"");
        says(&answer, &first);
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn s3_private_answers_are_stored_for_their_person_only() {
    let word = "Cache-Control";
    for (name, value) in [
        (word, "private"),
        (word, "PRIVATE, max-age=60"),
        (word, "private=\"x-own\""),
        ("CDN-Cache-Control", "private, max-age=60"),
    ] {
        let origin = Origin::new(move |r| Reply::answer(200, &[(name, value)], who(r).as_bytes()));
        let proxy = caching(&origin, KEPT);
        for n in 1..4 {
            let headers = person(n);
            let headers = borrowed(&headers);
            for _ in 0..2 {
                let answer = request(proxy.port, "GET", "/", &headers, b"");
                says(&answer, &made_for("/", &headers));
            }
        }
        assert_eq!(origin.count(), 3, "{value}");
        let shared = caching(&origin, "ttl: 1h, shared: true");
        for n in 1..4 {
            let headers = person(n);
            let answer = request(shared.port, "GET", "/", &borrowed(&headers), b"");
            not_stored(&answer);
            says(&answer, &made_for("/", &borrowed(&headers)));
        }
        assert_eq!(origin.count(), 6, "{value}");
    }
}

#[test]
fn per_names_the_cookies_and_headers_that_separate() {
    let origin = Origin::new(|r| {
        let (tenant, cookie) = (r.all("x-tenant"), r.all("cookie"));
        Reply::ok(format!("{} {tenant:?} {cookie:?}", r.number))
    });
    let cache = "ttl: 1h, shared: true, per: [ { cookie: session }, { header: X-Tenant } ]";
    let proxy = caching(&origin, cache);
    let ask = |headers: &[(&str, &str)]| request(proxy.port, "GET", "/", headers, b"").text();
    let separate: [&[(&str, &str)]; 8] = [
        &[],
        &[("Cookie", "session=1")],
        &[("Cookie", "session=2")],
        &[("Cookie", "session=")],
        &[("X-Tenant", "1")],
        &[("X-Tenant", "2")],
        &[("X-Tenant", "")],
        &[("X-Tenant", "1"), ("Cookie", "session=1")],
    ];
    let first: Vec<String> = separate.iter().map(|headers| ask(headers)).collect();
    assert_eq!(origin.count(), separate.len());
    for (headers, first) in separate.iter().zip(&first) {
        assert_eq!(&ask(headers), first);
    }
    // Other cookies and headers do not separate.
    for (headers, same_as) in [
        (&[("Cookie", "theme=dark")][..], 0),
        (&[("Authorization", "Bearer any")], 0),
        (&[("Cookie", "xsession=1")], 0),
        (&[("Cookie", "theme=dark; session=1")], 1),
        (&[("Cookie", "session=2; other=1")], 2),
    ] {
        assert_eq!(ask(headers), first[same_as], "{headers:?}");
    }
    assert_eq!(origin.count(), separate.len());
}

#[test]
fn per_adds_to_what_separates_people() {
    let origin = echo(&[]);
    let proxy = caching(&origin, "ttl: 1h, per: [ { header: X-Tenant } ]");
    for tenant in ["1", "2"] {
        for n in 0..4 {
            let credentials = person(n);
            let mut headers = borrowed(&credentials);
            headers.push(("X-Tenant", tenant));
            for _ in 0..2 {
                let answer = request(proxy.port, "GET", "/", &headers, b"");
                says(&answer, &made_for("/", &headers));
            }
        }
    }
    assert_eq!(origin.count(), 8);
}

#[test]
fn s3_hosts_paths_and_queries_never_share() {
    let origin = echo(&[]);
    let proxy = caching(&origin, "ttl: 1h, shared: true");
    let targets = [
        "/",
        "/a",
        "/A",
        "/a/",
        "/a?",
        "/a?b",
        "/a?b=",
        "/a?b=1",
        "/a?B=1",
        "/a?b=1&c",
        "/a?c&b=1",
        "/a%3Fb",
        "/a/b",
        "/a%2Fb",
        "/ab",
        "/example.com/a",
    ];
    let hosts = [
        "example.com",
        "www.example.com",
        "example.co",
        "example.com.au",
        "com",
    ];
    for first in [true, false] {
        for host in hosts {
            for target in targets {
                let answer = request(proxy.port, "GET", target, &[("Host", host)], b"");
                says(&answer, &format!("[\"{host}\"] {target} [] []"));
                if !first {
                    hit(&answer);
                }
            }
        }
    }
    assert_eq!(origin.count(), hosts.len() * targets.len());
}

#[test]
fn s3_an_answer_that_names_the_port_its_client_wrote_is_not_given_to_others() {
    // Origins write `Host` into links and redirects, and it goes to them with its port.
    let origin = Origin::new(|r| Reply::ok(r.all("host").join(" ")));
    let proxy = caching(&origin, "ttl: 1h, shared: true");
    for host in ["example.com:6666", "example.com", "example.com:81"] {
        let answer = request(proxy.port, "GET", "/", &[("Host", host)], b"");
        says(&answer, host);
    }
}

#[test]
fn answers_that_vary_are_kept_side_by_side() {
    let origin = Origin::new(|r| {
        let headers = [("Vary", "Accept-Language"), ("Vary", "x-device")];
        let (language, device) = (r.all("accept-language"), r.all("x-device"));
        Reply::answer(200, &headers, format!("{language:?} {device:?}").as_bytes())
    });
    let proxy = caching(&origin, KEPT);
    let variants: [&[(&str, &str)]; 6] = [
        &[],
        &[("Accept-Language", "de")],
        &[("Accept-Language", "en")],
        &[("X-Device", "de")],
        &[("Accept-Language", "de"), ("X-Device", "phone")],
        &[("Accept-Language", "en"), ("X-Device", "phone")],
    ];
    for round in 0..3 {
        for headers in variants {
            let headers = [headers, &[("X-Other", ["a", "b", "c"][round])]].concat();
            let all = |name: &str| -> Vec<&str> {
                let same = headers.iter().filter(|(n, _)| *n == name);
                same.map(|(_, v)| *v).collect()
            };
            let expected = format!("{:?} {:?}", all("Accept-Language"), all("X-Device"));
            let answer = request(proxy.port, "GET", "/", &headers, b"");
            says(&answer, &expected);
            if round > 0 {
                hit(&answer);
            }
        }
    }
    assert_eq!(origin.count(), variants.len());
}

#[test]
fn codings_that_mean_the_same_share_an_answer() {
    let origin = Origin::new(|r| {
        Reply::answer(
            200,
            &[("Vary", "Accept-Encoding")],
            r.number.to_string().as_bytes(),
        )
    });
    let proxy = caching(&origin, KEPT);
    for (coding, expected) in [
        ("gzip, br", "0"),
        ("br;q=1.0,gzip;q=0.5", "0"),
        ("GZIP , br, deflate;q=0", "0"),
        ("gzip", "1"),
        ("gzip, br;q=0", "1"),
        ("br", "2"),
        ("gzip, br", "0"),
    ] {
        let answer = request(proxy.port, "GET", "/", &[("Accept-Encoding", coding)], b"");
        assert_eq!(answer.text(), expected, "{coding}");
    }
    assert_eq!(get(proxy.port, "/").text(), "3");
    assert_eq!(origin.count(), 4);
}

#[test]
fn s3_a_private_answer_to_nobody_in_particular_is_not_kept() {
    // The origin tells people apart by something that is no credential to us.
    let origin = Origin::new(|r| {
        let who = r.header("x-api-key").unwrap_or("nobody").to_string();
        Reply::answer(200, &[("Cache-Control", "private")], who.as_bytes())
    });
    let proxy = Proxy::start(&one_route(&[origin.port], "cache: { ttl: 1m }"));
    for who in ["ann", "bob", "ann"] {
        let answer = request(proxy.port, "GET", "/", &[("X-Api-Key", who)], b"");
        assert_eq!(answer.text(), who);
    }
    assert_eq!(origin.count(), 3);
}

#[test]
fn s3_a_get_with_content_plants_nothing() {
    let origin = Origin::new(|r| Reply::ok(&r.body));
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], "cache: { ttl: 1m }"));
    assert_eq!(
        request(proxy.port, "GET", "/", &[], b"planted").text(),
        "planted"
    );
    let mut client = Client2::to(proxy.port);
    assert_eq!(
        client.request("GET", "/", &[], b"planted").text(),
        "planted"
    );
    assert_eq!(request(proxy.port, "GET", "/", &[], b"").text(), "");
}
