//! The fields that make browsers careful, and those that tell too much.

use crate::client::{Answer, Client, get};
use crate::harness::{Proxy, one_route};
use crate::origin::Origin;
use crate::reply::Reply;

fn is_careful(answer: &Answer) -> bool {
    [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ]
    .iter()
    .all(|(name, value)| answer.header(name) == Some(value))
        && answer.header("permissions-policy").is_some()
        && answer.header("x-frame-options").is_some()
}

#[test]
fn what_the_upstream_left_out_is_set_and_what_tells_of_it_goes() {
    let origin = Origin::new(|_| {
        let own = [
            ("Server", "Old/1.0"),
            ("X-Powered-By", "Older/0.9"),
            ("X-Frame-Options", "DENY"),
            ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        Reply::answer(200, &own, b"page")
    });
    let rules = "security_headers: true\ncache: { ttl: 1m }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let mut client = Client::to(proxy.port);
    for _ in 0..3 {
        let answer = client.get("/");
        assert!(is_careful(&answer), "{:?}", answer.headers);
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("server"), None);
        assert_eq!(answer.header("x-powered-by"), None);
    }
    assert_eq!(origin.count(), 1);
    proxy.reload_with(&one_route(&[origin.port], "cache: { ttl: 1m }"));
    let plain = get(proxy.port, "/");
    assert_eq!(plain.header("server"), Some("Old/1.0"));
    assert_eq!(plain.header("x-content-type-options"), None);
}

#[test]
fn answers_made_here_have_them_too() {
    let proxy = Proxy::start(
        "defaults: { security_headers: true }\nroutes:\n\
         - { match: { path: /fixed }, respond: { status: 200, body: x } }\n\
         - { match: { path: /own }, respond: { status: 200, body: x }, headers: { response: { set: { X-Frame-Options: DENY } } } }\n\
         - { match: { path: /off }, respond: { status: 200, body: x }, security_headers: false }\n",
    );
    for path in ["/fixed", "/own", "/none"] {
        let answer = get(proxy.port, path);
        assert!(is_careful(&answer), "{path}: {:?}", answer.headers);
    }
    let own = get(proxy.port, "/own");
    assert_eq!(own.header("x-frame-options"), Some("DENY"));
    let off = get(proxy.port, "/off");
    assert_eq!(off.header("x-content-type-options"), None);
}
