//! Paths that are answered before a route is looked for.

use crate::client::{Client, get};
use crate::client2::Client2;
use crate::harness::{Proxy, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;

fn blocking(origin: &Origin, rules: &str) -> String {
    format!("block: {{ {rules} }}\n{}", one_route(&[origin.port], ""))
}

#[test]
fn s12_scanners_get_404_and_no_backend_hears_of_them() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let rules = "scanners: true, paths: [/internal/, \"*.bak\"], except: [/wp-login.php]";
    let proxy = Proxy::start(&blocking(&origin, rules));
    for path in [
        "/.env",
        "/%2e%65nv",
        "/a/../.git/config",
        "//.git/config",
        "/WP-ADMIN/x.php?a=b",
        "/internal/x",
        "/site.bak",
        "/blog/wp-login.php",
    ] {
        assert_eq!(get(proxy.port, path).status, 404, "{path}");
    }
    assert_eq!(origin.count(), 0);
    let line = proxy.logged("/internal/x");
    assert_eq!(
        (&line["refused"], &line["http.response.status_code"]),
        (&"blocked".into(), &404.into())
    );
    for path in [
        "/",
        "/wp-login.php",
        "/internals",
        "/.well-known/acme-challenge/x.bak",
    ] {
        assert_eq!(get(proxy.port, path).status, 200, "{path}");
    }
    // A reload changes it.
    proxy.reload_with(&blocking(&origin, "paths: [/internals], answer: 410"));
    assert_eq!(get(proxy.port, "/internals").status, 410);
    assert_eq!(get(proxy.port, "/.env").status, 200);
}

#[test]
fn what_is_dropped_is_told_nothing() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let rules = blocking(&origin, "scanners: true, answer: drop");
    let proxy = Proxy::with().http2().start(&rules);
    let mut client = Client::to(proxy.port);
    assert_eq!(client.get("/").status, 200);
    client.begin("GET", "/.env", &[], b"");
    client.expect_close();
    let mut client = Client2::to(proxy.port);
    let stream = client.begin("GET", "/.git/HEAD", &[], true);
    assert!(client.ends_without_an_answer(stream));
    assert_eq!(client.get("/").status, 200, "other streams go on");
    for path in ["/.env", "/.git/HEAD"] {
        let line = proxy.logged(path);
        assert_eq!(
            (&line["refused"], &line["http.response.status_code"]),
            (&"blocked".into(), &444.into())
        );
    }
    until("all lines", || proxy.log_lines().len() == 4);
    assert_eq!(origin.count(), 2);
}
