//! Which route a request takes: host before path, exact before longest, and never the order in the file.

use crate::client::{Client, get, request};
use crate::client2::Client2;
use crate::harness::{Proxy, one_route};
use crate::origin::Origin;
use crate::reply::Reply;

/// Routes that answer with their own name.
const ROUTES: [(&str, &str); 13] = [
    ("any", "path: /"),
    ("any-admin", "path: /admin"),
    ("any-admin-exact", "exact_path: /admin/login"),
    ("any-admin-users", "path: /admin/users/"),
    ("any-get", "path: /method, methods: [GET]"),
    ("any-put", "path: /method, methods: [PUT, DELETE]"),
    ("any-rest", "path: /method"),
    ("exact", "host: api.example.com"),
    ("exact-admin", "host: api.example.com, path: /admin"),
    ("wild", "host: \"*.example.com\", path: /wild"),
    ("wild-deep", "host: \"*.deep.example.com\", path: /wild"),
    ("six", "host: \"[::1]\""),
    ("umlaut", "path: /käse"),
];

const CASES: [(&str, &str, &str, &str); 38] = [
    ("GET", "other.org", "/", "any"),
    ("GET", "other.org", "/x/y?a=/admin", "any"),
    ("GET", "other.org", "/admin", "any-admin"),
    ("GET", "other.org", "/admin?x", "any-admin"),
    ("GET", "other.org", "/admin/", "any-admin"),
    ("GET", "other.org", "/admin/x", "any-admin"),
    ("GET", "other.org", "/administrator", "any"),
    ("GET", "other.org", "/Admin", "any"),
    ("GET", "other.org", "/admin/login", "any-admin-exact"),
    ("GET", "other.org", "/admin/login?next=/", "any-admin-exact"),
    ("GET", "other.org", "/admin/login/", "any-admin"),
    ("GET", "other.org", "/admin/users/7", "any-admin-users"),
    ("GET", "other.org", "/admin/users", "any-admin"),
    ("GET", "other.org", "/admin/users2", "any-admin"),
    ("GET", "other.org", "//admin//x", "any-admin"),
    ("GET", "other.org", "/x/../admin/x", "any-admin"),
    ("GET", "other.org", "/x/./../%61dmin", "any-admin"),
    (
        "GET",
        "other.org",
        "/x/%2e%2e/admin/login",
        "any-admin-exact",
    ),
    ("GET", "other.org", "/admin/../x", "any"),
    ("GET", "other.org", "/k%C3%A4se/1", "umlaut"),
    ("GET", "other.org", "/method", "any-get"),
    ("HEAD", "other.org", "/method", "any-get"),
    ("PUT", "other.org", "/method", "any-put"),
    ("DELETE", "other.org", "/method/1", "any-put"),
    ("PATCH", "other.org", "/method", "any-rest"),
    ("GET", "api.example.com", "/", "exact"),
    ("GET", "API.Example.COM:8080", "/x", "exact"),
    ("GET", "api.example.com.", "/x", "exact"),
    ("GET", "api.example.com", "/admin/login", "exact-admin"),
    ("PUT", "api.example.com", "/method", "exact"),
    ("GET", "www.example.com", "/wild", "wild"),
    ("GET", "a.b.example.com", "/wild/1", "wild"),
    ("GET", "x.deep.example.com", "/wild", "wild-deep"),
    ("GET", "x.y.deep.example.com", "/wild", "wild-deep"),
    ("GET", "deep.example.com", "/wild", "wild"),
    ("GET", "example.com", "/wild", "any"),
    ("GET", "www.example.com", "/admin", "any-admin"),
    ("GET", "[::1]:8080", "/x", "six"),
];

fn yaml(routes: &[(&str, &str)]) -> String {
    let mut text = String::from("routes:\n");
    for (name, matching) in routes {
        text.push_str(&format!(
            "  - {{ name: {name}, match: {{ {matching} }}, respond: {{ status: 200, body: \"{name}\" }} }}\n"
        ));
    }
    text
}

#[test]
fn the_most_specific_route_wins_whatever_the_order() {
    let mut routes = ROUTES.to_vec();
    for _ in 0..2 {
        let proxy = Proxy::start(&yaml(&routes));
        let mut client = Client::to(proxy.port);
        for (method, host, target, expected) in CASES {
            let answer = client.request(method, target, &[("Host", host)], b"");
            let what = format!("{method} {host} {target}");
            assert_eq!(answer.status, 200, "{what}");
            if method != "HEAD" {
                assert_eq!(answer.text(), expected, "{what}");
            }
        }
        assert_eq!(proxy.logged("/admin/login/")["http.route"], "any-admin");
        routes.reverse();
    }
}

#[test]
fn http2_requests_are_routed_by_authority() {
    let proxy = Proxy::with().http2().start(
        "routes:
  - { match: { host: example.com, path: /here }, respond: { status: 200, body: here } }
  - { match: { path: / }, respond: { status: 200, body: elsewhere } }
",
    );
    let mut client = Client2::to(proxy.port);
    assert_eq!(client.get("/here?x").text(), "here");
    assert_eq!(client.get("/there").text(), "elsewhere");
}

/// One backend behind routes that change the path.
const REWRITES: &str = "upstreams: { pool: { backends: [127.0.0.1:PORT] } }
defaults: { upstream: pool }
routes:
  - { match: { path: / } }
  - { match: { path: /api }, strip_prefix: /api }
  - { match: { path: /deep/er }, strip_prefix: /deep }
  - { match: { path: /fixed }, set_path: /v2/patients }
  - { match: { path: /query }, set_path: \"/v2/patients?all=1\" }
";

#[test]
fn paths_reach_the_upstream_as_the_route_says() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&REWRITES.replace("PORT", &origin.port.to_string()));
    for (sent, seen) in [
        // Untouched, byte for byte, where nothing is rewritten.
        ("/", "/"),
        (
            "/a//b/%7Euser/%2Fc;d=e?x=/../%20&y=[1]",
            "/a//b/%7Euser/%2Fc;d=e?x=/../%20&y=[1]",
        ),
        // But for dots, which could lead the backend elsewhere.
        ("/secret/../a/%7Euser/./b?x=/../y", "/a/~user/b?x=/../y"),
        ("/secret%2f%2E%2e/a", "/a"),
        ("/api/../deep/er/x", "/er/x"),
        ("/?", "/?"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?x=1", "/?x=1"),
        ("/api/patients/1?x=%2F", "/patients/1?x=%2F"),
        ("/api/a%20b", "/a%20b"),
        ("/apix", "/apix"),
        ("//api/x", "/x"),
        ("/deep/er/x", "/er/x"),
        ("/fixed/anything", "/v2/patients"),
        ("/fixed?x=1", "/v2/patients?x=1"),
        ("/query?x=1", "/v2/patients?all=1"),
    ] {
        assert_eq!(get(proxy.port, sent).status, 200, "{sent}");
        assert_eq!(origin.last().target, seen, "{sent}");
    }
}

#[test]
fn a_stripped_prefix_cannot_be_climbed_out_of() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&REWRITES.replace("PORT", &origin.port.to_string()));
    // It matches as `/secret`, so the route of `/api` does not apply.
    assert_eq!(get(proxy.port, "/api/../secret").status, 200);
    assert_eq!(origin.last().target, "/secret");
    assert_eq!(proxy.logged("/api/../secret")["http.route"], "*/");
}

#[test]
fn a_path_that_servers_follow_in_different_ways_is_refused() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    for path in [
        "/public/..\\secret",
        "/public/..%5Csecret",
        "/public/..;/secret",
        "/public/%2e%2e;x=y/secret",
    ] {
        assert_eq!(get(proxy.port, path).status, 400, "{path}");
        assert_eq!(proxy.logged(path)["refused"], "target");
    }
    assert_eq!(get(proxy.port, "/a%5Cb;c/..d").status, 200);
    assert_eq!(origin.count(), 1);
}

#[test]
fn many_routes_are_all_found() {
    let mut text = String::from("routes:\n");
    for n in 0..2_000 {
        text.push_str(&format!(
            "  - {{ match: {{ path: /r/{n} }}, respond: {{ status: 200, body: \"{n}\" }} }}\n"
        ));
    }
    let proxy = Proxy::start(&text);
    for n in [0, 1, 999, 1_999] {
        assert_eq!(get(proxy.port, &format!("/r/{n}/x")).text(), n.to_string());
    }
    assert_eq!(request(proxy.port, "GET", "/r/2000", &[], b"").status, 404);
}
