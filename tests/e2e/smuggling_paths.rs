//! Paths that are not what they seem: however one is spelled, no backend is led by it to where another route leads.

use crate::client::Client;
use crate::harness::{Proxy, until};
use crate::origin::Origin;
use crate::program::Nginx;
use crate::reply::Reply;

/// Targets, each of which some server takes for something below `/private`, or could.
const TRICKS: [&str; 53] = [
    "/private",
    "/private/x",
    "/private/",
    "//private/x",
    "///private//x",
    "/./private/x",
    "/././private",
    "/a/../private/x",
    "/a/b/../../private/x",
    "/private/../private/x",
    "/private/a/../x",
    "/%70rivate/x",
    "/%70%72%69%76%61%74%65",
    "/priv%61te/x",
    "/%2e/private/x",
    "/%2E/private/x",
    "/a/%2e%2e/private/x",
    "/a/.%2e/private/x",
    "/a/%2e./private/x",
    "/a/..%2fprivate/x",
    "/a%2f..%2fprivate/x",
    "/a/%2e%2e%2fprivate/x",
    "/private%2fx",
    "/%2fprivate/x",
    "/%2Fprivate",
    "/private?x",
    "/private/x?../../a",
    "/private;a/x",
    "/private;a",
    "/private;a=b;c/x",
    "/;/private/x",
    "/;a/private/x",
    "/a/..;/private/x",
    "/..;/private/x",
    "/.;/private/x",
    "/a/..;x=y/private/x",
    "/a/%2e%2e;/private/x",
    "/\\private/x",
    "\\private/x",
    "/a\\..\\private/x",
    "/a/..\\private/x",
    "/a/..%5cprivate/x",
    "/a%5c..%5cprivate",
    "/a/%5c..;x/private/x",
    "/private%00/x",
    "/private%00.html",
    "/private#x",
    "/private/x#/../../a",
    "http://a/private/x",
    "HTTP://a/private",
    "http://a//private/x",
    "http://a/./private/x",
    "private/x",
];

/// Targets that lead elsewhere, and come to the backend.
const OTHERS: [&str; 9] = [
    "/a",
    "/a/private",
    "/privates",
    "/a;b/c",
    "/private/../a",
    "/a?/private",
    "/a?x=/../private",
    "/%2570rivate/x",
    "http://a/a",
];

fn yaml(port: u16) -> String {
    format!(
        "upstreams:\n  app: {{ backends: [127.0.0.1:{port}] }}\nroutes:\n  - {{ match: {{ path: / }}, upstream: app }}\n  - {{ match: {{ path: /private }}, respond: {{ status: 403 }} }}\n"
    )
}

fn try_all(proxy: &Proxy) {
    for target in TRICKS {
        let mut client = Client::to(proxy.port);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let status = client.answer().status;
        assert!(matches!(status, 400 | 403), "{target}: {status}");
    }
    for target in OTHERS {
        let mut client = Client::to(proxy.port);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.answer().status, 200, "{target}");
    }
}

#[test]
fn no_spelling_gets_around_a_route() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&yaml(origin.port));
    try_all(&proxy);
    assert_eq!(origin.count(), OTHERS.len());
    for request in origin.requests() {
        assert!(
            !request.target.starts_with("/private/"),
            "{}",
            request.target
        );
    }
    assert_eq!(proxy.logged("/private;a/x")["refused"], "target");
}

/// nginx has its own normal form, and says what it is.
#[test]
fn nor_does_one_to_nginx() {
    let Some(nginx) = Nginx::start("$uri") else {
        return;
    };
    let port = nginx.port;
    let proxy = Proxy::start(&yaml(port));
    try_all(&proxy);
    let lines = || nginx.log();
    until("all are in its log", || {
        lines().lines().count() == OTHERS.len()
    });
    for path in lines().lines() {
        assert!(
            path != "/private" && !path.starts_with("/private/"),
            "{path}"
        );
    }
}

/// A path with parameters is matched as it is, as long as it is for the same route without them.
#[test]
fn parameters_of_segments_are_characters_like_others() {
    let origin = Origin::new(|r| Reply::ok(&r.target));
    let yaml = format!(
        "block: {{ paths: [/hidden] }}\nupstreams:\n  app: {{ backends: [127.0.0.1:{}] }}\nroutes:\n  - {{ match: {{ path: /shop }}, upstream: app }}\n  - {{ match: {{ path: /cart, methods: [GET] }}, upstream: app }}\n",
        origin.port
    );
    let proxy = Proxy::start(&yaml);
    for (method, target, status) in [
        ("GET", "/shop/a;colour=red", 200),
        ("GET", "/shop/a;colour=red/b;x?c;d", 200),
        ("GET", "/shop;x/a", 400),
        ("GET", "/other;x", 404),
        ("PUT", "/cart/a;b", 405),
        ("GET", "/hidden;x", 404),
    ] {
        let answer = Client::to(proxy.port).request(method, target, &[], b"");
        assert_eq!(answer.status, status, "{method} {target}");
        if status == 200 {
            assert_eq!(answer.text(), target);
        }
    }
    assert_eq!(proxy.logged("/hidden;x")["refused"], "blocked");
}
