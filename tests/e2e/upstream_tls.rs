//! TLS to backends: who they must be, and what they are shown. The backend is a Backstop of its own.

use crate::admin::with_admin;
use crate::client::{Client, get};
use crate::client_tls::{Authority, Pair};
use crate::command::run;
use crate::harness::{Proxy, one_route, outcomes, until, with_upstream};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};

const ANSWER: &str =
    "routes:\n  - { match: { path: / }, respond: { status: 200, body: \"from behind\" } }\n";

/// One that hands everything on.
fn before(origin: &Origin, pair: &Pair) -> Proxy {
    let tls = pair.tls();
    let rules = "retry: { tries: 1 }";
    Proxy::with()
        .listener(&tls)
        .start(&one_route(&[origin.port], rules))
}

#[test]
fn second_requests_go_by_tls_too_and_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let site = authority.sign(dir.path(), "site", &["api.internal"]);
    let stranger = other.sign(dir.path(), "stranger", &["api.internal"]);
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let gate = Gate::default();
    let open = gate.clone();
    let large = "quick".repeat(100_000);
    let body = large.clone();
    let late = Origin::new(move |_| Reply::ok("late").when(&open));
    let quick = Origin::new(move |_| Reply::ok(&body));
    let first = before(&late, &site);
    let ask = |second: &Proxy, path: &str| {
        let pool = one_route(&[first.port, second.port], "hedge: { after: 50ms }");
        let tls = format!(
            "tls: {{ sni: api.internal, ca: {} }}\neject: off",
            ca.display()
        );
        let (setup, admin) = with_admin();
        let proxy = setup.start(&with_upstream(&pool, &tls));
        let mut client = Client::to(proxy.port);
        client.begin("GET", path, &[], b"");
        if path == "/late" {
            until("its second request was made in vain", || {
                crate::maintenance::status(admin)["upstreams"][0]["backends"][1]["failures"] == 1
            });
            gate.open();
        }
        (client.answer().text(), outcomes(&proxy.logged(path)))
    };
    let (text, tries) = ask(&before(&quick, &site), "/quick");
    assert!(text == large, "{} bytes", text.len());
    assert_eq!(tries, ["hedged", "ok"]);
    let (text, tries) = ask(&before(&quick, &stranger), "/late");
    assert_eq!(text, "late");
    assert_eq!(tries, ["connect_failure", "ok"]);
    assert_eq!(quick.count(), 1);
}

/// A backend with this certificate.
fn backend(pair: &Pair, more: &str) -> Proxy {
    let tls = format!("tls: {{ certificates: [{}]{more} }}", pair.yaml());
    Proxy::with().listener(&tls).start(ANSWER)
}

fn yaml(backend: &Proxy, tls: &str) -> String {
    with_upstream(
        &one_route(&[backend.port], "retry: { tries: 1 }"),
        &format!("tls: {tls}\neject: off"),
    )
}

fn status(yaml: &str) -> u16 {
    get(Proxy::start(yaml).port, "/").status
}

/// Connections alone are not enough: it stays out until there is TLS as well, and is not tried by requests meanwhile.
#[test]
fn a_backend_whose_handshakes_fail_is_unreachable_until_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let wrong = other.sign(dir.path(), "site", &["api.internal"]);
    let site = backend(&wrong, "");
    let upstreams = with_upstream(
        &one_route(&[site.port], "retry: { tries: 1 }"),
        &format!("tls: {{ sni: api.internal, ca: {} }}", ca.display()),
    );
    let proxy = Proxy::start(&upstreams);
    until("it is unreachable", || {
        assert!(get(proxy.port, "/").status >= 502);
        proxy.count_said("is unreachable") == 1
    });
    for _ in 0..30 {
        let answer = get(proxy.port, "/");
        assert_eq!(
            (answer.status, answer.header("retry-after").is_some()),
            (503, true)
        );
    }
    assert_eq!(proxy.count_said("takes connections again"), 0);
    // The same files, with what they should have had.
    authority.sign(dir.path(), "site", &["api.internal"]);
    site.reload_with(ANSWER);
    until("it is back", || {
        get(proxy.port, "/").text() == "from behind"
    });
    proxy.said("takes connections again");
}

#[test]
fn a_backend_has_to_be_who_it_is_taken_for() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.sign(dir.path(), "site", &["api.internal", "127.0.0.1"]);
    let (ca, wrong) = (dir.path().join("ca.pem"), dir.path().join("wrong.pem"));
    authority.write(&ca);
    other.write(&wrong);
    let (ca, wrong) = (ca.display(), wrong.display());
    let behind = backend(&pair, "");
    for (tls, expected) in [
        (format!("{{ sni: api.internal, ca: {ca} }}"), 200),
        // By its address, which the certificate names too.
        (format!("{{ ca: {ca} }}"), 200),
        (format!("{{ sni: other.internal, ca: {ca} }}"), 502),
        (format!("{{ sni: api.internal, ca: {wrong} }}"), 502),
        // The system does not know this authority.
        ("{ sni: api.internal }".to_string(), 502),
        ("{}".to_string(), 502),
        ("{ sni: api.internal, verify: false }".to_string(), 200),
        ("{ verify: false }".to_string(), 200),
    ] {
        assert_eq!(status(&yaml(&behind, &tls)), expected, "{tls}");
    }
    let careless = Proxy::start(&yaml(&behind, "{ verify: false }"));
    assert!(careless.said("verify is false").contains("pool"));
    let careful = Proxy::start(&yaml(
        &behind,
        &format!("{{ sni: api.internal, ca: {ca} }}"),
    ));
    let answer = get(careful.port, "/a");
    assert_eq!(answer.text(), "from behind");
    assert_eq!(careful.count_said("verify is false"), 0);
    // It is not spoken to in clear text by mistake.
    assert!(status(&one_route(&[behind.port], "retry: { tries: 1 }")) >= 400);
}

#[test]
fn a_backend_that_asks_for_a_certificate_is_shown_one() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["api.internal"]);
    let own = authority.sign(dir.path(), "own", &["the proxy"]);
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let ca = ca.display();
    let behind = backend(
        &pair,
        &format!(", verify_client: required, client_ca: {ca}"),
    );
    let identity = format!("cert: {}, key: {}", own.cert.display(), own.key.display());
    let with = format!("{{ sni: api.internal, ca: {ca}, {identity} }}");
    assert_eq!(status(&yaml(&behind, &with)), 200);
    let without = format!("{{ sni: api.internal, ca: {ca} }}");
    assert!(status(&yaml(&behind, &without)) >= 500);
}

#[test]
fn probes_speak_tls_too() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["api.internal"]);
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let behind = backend(&pair, "");
    let start = |name: &str| {
        let tls = format!("{{ sni: {name}, ca: {} }}", ca.display());
        let check = "health_check: { path: /, interval: 50ms, rise: 1, fall: 1 }";
        Proxy::start(&with_upstream(&yaml(&behind, &tls), check))
    };
    let good = start("api.internal");
    until("it is up", || get(good.port, "/").status == 200);
    let bad = start("other.internal");
    bad.said("is down");
}

#[test]
fn files_that_cannot_be_used_leave_the_old_configuration_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["api.internal"]);
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let behind = backend(&pair, "");
    let tls = format!("{{ sni: api.internal, ca: {} }}", ca.display());
    let proxy = Proxy::start(&yaml(&behind, &tls));
    assert_eq!(get(proxy.port, "/").status, 200);
    proxy.reload_refused(&yaml(&behind, "{ sni: api.internal, ca: missing.pem }"));
    assert!(
        proxy.stderr().contains("upstream pool: "),
        "{}",
        proxy.stderr()
    );
    assert!(proxy.stderr().contains("missing.pem"));
    assert_eq!(get(proxy.port, "/").status, 200);
    let check = run(&["-t", "-c", proxy.config().to_str().unwrap()], proxy.dir());
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(
        !check.status.success() && said.contains("upstreams.pool.tls: "),
        "{said}"
    );
}
