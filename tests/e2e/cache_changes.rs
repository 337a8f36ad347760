//! What a request that changes something makes void (RFC 9111 §4.4), whichever route it takes.

use crate::cache::{hit, told};
use crate::cache_disk::{on_disk, until_written};
use crate::client::{Answer, request};
use crate::harness::Proxy;
use crate::origin::Origin;
use crate::reply::Reply;

/// Routes that store by different rules, and ways to change that have none.
fn routes(port: u16) -> String {
    let mut text = format!(
        "defaults: {{ retry: {{ tries: 1 }}, upstream: pool }}\nupstreams:\n  pool: {{ backends: [127.0.0.1:{port}] }}\nroutes:\n"
    );
    for (path, cache) in [
        ("ttl", "ttl: 1h"),
        ("per", "ttl: 1h, per: [{ header: X-Tenant }]"),
        ("shared", "ttl: 1h, shared: true"),
        ("origin", "respect_origin: true"),
    ] {
        text.push_str(&format!(
            "  - {{ name: get-{path}, match: {{ path: /{path}, methods: [GET] }}, cache: {{ {cache} }} }}\n  \
               - {{ name: other-{path}, match: {{ path: /{path} }}, cache: off }}\n"
        ));
    }
    text.push_str("  - { name: rest }\n");
    text
}

fn origin() -> Origin {
    Origin::new(|r| {
        let kept = [("Cache-Control", "public, max-age=600"), ("Vary", "X-Kind")];
        let elsewhere = r.target.strip_prefix("/change?").unwrap_or("/none");
        match r.method.as_str() {
            "GET" => Reply::answer(200, &kept, r.number.to_string().as_bytes()),
            _ => Reply::answer(201, &[("Location", elsewhere)], b"done"),
        }
    })
}

const PEOPLE: [&[(&str, &str)]; 4] = [
    &[],
    &[("Authorization", "Bearer ann")],
    &[("Cookie", "session=bob"), ("X-Tenant", "2")],
    &[("X-Kind", "other")],
];

fn ask(proxy: &Proxy, path: &str, who: &[(&str, &str)]) -> Answer {
    request(proxy.port, "GET", path, who, b"")
}

#[test]
fn a_change_by_a_route_without_a_cache_is_a_change() {
    for directory in [None, Some(tempfile::tempdir().unwrap())] {
        let origin = origin();
        let setup = match &directory {
            Some(directory) => on_disk(directory.path()),
            None => Proxy::with(),
        };
        let proxy = setup.start(&routes(origin.port));
        for path in ["/ttl/x", "/per/x", "/shared/x", "/origin/x"] {
            let before = origin.count();
            for who in PEOPLE {
                ask(&proxy, path, who);
            }
            let stored = origin.count() - before;
            for (method, content) in [
                ("POST", ""),
                ("POST", "some"),
                ("DELETE", ""),
                ("by Location", ""),
                ("by Location", "some"),
            ] {
                let content = content.as_bytes();
                for who in PEOPLE {
                    hit(&ask(&proxy, path, who));
                }
                if let (Some(directory), true) = (&directory, method == "POST") {
                    until_written(directory.path(), stored);
                }
                let changed = match method {
                    "by Location" => {
                        request(proxy.port, "POST", &format!("/change?{path}"), &[], content)
                    }
                    _ => request(proxy.port, method, path, &[], content),
                };
                assert_eq!(changed.status, 201);
                let before = origin.count();
                for who in PEOPLE {
                    let answer = ask(&proxy, path, who);
                    assert_eq!(answer.status, 200);
                }
                let asked = origin.count() - before;
                assert_eq!(asked, stored, "{path} after {method}");
            }
            // What another URL holds stays.
            let other = format!("{path}/other");
            ask(&proxy, &other, &[]);
            request(proxy.port, "POST", path, &[], b"");
            let answer = ask(&proxy, &other, &[]);
            hit(&answer);
            for path in [path, &other] {
                request(proxy.port, "POST", path, &[], b"");
            }
        }
    }
}

#[test]
fn the_usual_port_names_the_same_origin() {
    let origin = origin();
    let proxy = Proxy::start(&routes(origin.port));
    let hosts = ["example.com", "example.com:80", "EXAMPLE.com:80"];
    for stored in hosts {
        for changed in hosts {
            let (get, post) = ([("Host", stored)], [("Host", changed)]);
            ask(&proxy, "/ttl/x", &get);
            hit(&ask(&proxy, "/ttl/x", &get));
            request(proxy.port, "POST", "/ttl/x", &post, b"");
            let answer = ask(&proxy, "/ttl/x", &get);
            assert!(told(&answer).contains("miss"), "{stored} after {changed}");
        }
        ask(&proxy, "/ttl/x", &[("Host", stored)]);
        let other = [("Host", "example.com:81")];
        request(proxy.port, "POST", "/ttl/x", &other, b"");
        hit(&ask(&proxy, "/ttl/x", &[("Host", stored)]));
    }
}
