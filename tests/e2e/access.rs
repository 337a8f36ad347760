//! Who may come in, and what a request has to have to be let through.

use crate::client::{Client, get, request};
use crate::client2::Client2;
use crate::harness::{Proxy, never_ejecting, one_route};
use crate::origin::Origin;
use crate::reply::Reply;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn addresses_are_let_in_or_kept_out_by_route_and_by_listener() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let answer = |listener: &str, rules: &str| {
        let setup = Proxy::with();
        let setup = match listener {
            "" => setup,
            keys => setup.listener(keys),
        };
        let proxy = setup.start(&one_route(&[origin.port], rules));
        let status = get(proxy.port, "/a").status;
        let refused = proxy.logged("/a")["refused"].as_str().map(str::to_owned);
        (status, refused)
    };
    let refused = |word: &str| (403, Some(word.to_string()));
    let fine = || (200, None);
    assert_eq!(answer("", "allow: [127.0.0.0/8]"), fine());
    assert_eq!(answer("", "deny: [10.0.0.0/8, 192.168.0.1]"), fine());
    assert_eq!(answer("allow: [127.0.0.1]", ""), fine());
    let before = origin.count();
    assert_eq!(answer("", "allow: [10.0.0.0/8]"), refused("not_allowed"));
    assert_eq!(answer("", "deny: [127.0.0.0/8]"), refused("denied"));
    assert_eq!(
        answer("", "allow: [127.0.0.1]\ndeny: [127.0.0.1]"),
        refused("denied")
    );
    assert_eq!(answer("allow: [10.0.0.0/8]", ""), refused("not_allowed"));
    assert_eq!(answer("deny: [127.0.0.1]", ""), refused("denied"));
    assert_eq!(origin.count(), before);
}

#[test]
fn the_client_behind_a_trusted_proxy_is_who_it_says() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let yaml = one_route(&[origin.port], "deny: [6.6.6.6]");
    let from = |proxy: &Proxy, target: &str, fields: &[(&str, &str)]| {
        let answer = request(proxy.port, "GET", target, fields, b"");
        let client = proxy.logged(target)["client.address"]
            .as_str()
            .unwrap()
            .to_owned();
        (answer.status, client)
    };
    let proxy = Proxy::start(&yaml);
    // Nobody is trusted: what is claimed changes nothing.
    let forged = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "6.6.6.6"),
    ];
    assert_eq!(from(&proxy, "/forged", &forged), (200, "127.0.0.1".into()));
    let seen = origin.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-real-ip"), None);

    let trusting = Proxy::with().key("trusted_proxies", "[127.0.0.0/8, 10.0.0.0/8]");
    let proxy = trusting.start(&yaml);
    let behind = [
        ("X-Forwarded-For", "6.6.6.6, 1.2.3.4, 10.0.0.7"),
        ("X-Forwarded-Proto", "https"),
    ];
    assert_eq!(from(&proxy, "/behind", &behind), (200, "1.2.3.4".into()));
    let seen = origin.last();
    assert_eq!(
        seen.header("x-forwarded-for"),
        Some("1.2.3.4, 10.0.0.7, 127.0.0.1")
    );
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(
        from(&proxy, "/denied", &[("X-Forwarded-For", "6.6.6.6")]),
        (403, "6.6.6.6".into())
    );
    assert_eq!(from(&proxy, "/itself", &[]), (200, "127.0.0.1".into()));
}

#[test]
fn s11_what_a_route_requires_is_asked_before_the_upstream_is() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let rules = "require: { authorization: bearer, content_types: [application/json], max_body: 100B, headers: [X-Tenant], query: [id] }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let full = [("Authorization", "Bearer x"), ("X-Tenant", "a"), JSON];
    let without = |name: &str| -> Vec<(&str, &str)> {
        full.into_iter().filter(|(n, _)| *n != name).collect()
    };
    let ask = |target: &str, fields: &[(&str, &str)], body: &[u8]| {
        request(proxy.port, "POST", target, fields, body)
    };
    assert_eq!(ask("/ok?id=1", &full, b"{}").status, 200);
    assert_eq!(origin.count(), 1);
    let long = [b'x'; 101];
    for (target, fields, body, status, word, says) in [
        (
            "/1?id=1",
            without("Authorization"),
            &b"{}"[..],
            401,
            "authorization_required",
            "credentials",
        ),
        (
            "/2?id=1",
            without("X-Tenant"),
            b"{}",
            400,
            "header_required",
            "x-tenant",
        ),
        (
            "/3",
            full.to_vec(),
            b"{}",
            400,
            "query_required",
            "parameter id",
        ),
        (
            "/4?id=1",
            without("Content-Type"),
            b"{}",
            415,
            "content_type_refused",
            "content type",
        ),
        (
            "/5?id=1",
            full.to_vec(),
            &long,
            413,
            "body_too_large",
            "100 bytes",
        ),
    ] {
        let answer = ask(target, &fields, body);
        assert_eq!(answer.status, status, "{target}");
        assert!(answer.text().contains(says), "{}", answer.text());
        assert_eq!(proxy.logged(target)["refused"], word);
        let challenge = (status == 401).then_some("Bearer");
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn no_other_method_gets_past_a_route_that_requires_some() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let proxy = Proxy::start(&format!(
        "upstreams: {{ pool: {{ backends: [127.0.0.1:{}] }} }}\ndefaults: {{ upstream: pool }}\nroutes:\n  - {{ match: {{ path: / }} }}\n  - {{ match: {{ path: /admin }}, require: {{ methods: [GET, PUT] }} }}\n",
        origin.port
    ));
    for (method, path, status) in [
        ("GET", "/admin/a", 200),
        ("HEAD", "/admin/a", 200),
        ("PUT", "/admin/a", 200),
        ("DELETE", "/admin/a", 405),
        ("get", "/admin/a", 405),
        ("DELETE", "/else", 200),
    ] {
        let answer = request(proxy.port, method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}");
        let allow = (status == 405).then_some("GET, PUT");
        assert_eq!(answer.header("allow"), allow);
    }
    request(proxy.port, "PATCH", "/admin/log", &[], b"");
    assert_eq!(proxy.logged("/admin/log")["refused"], "method_not_allowed");
}

#[test]
fn a_body_without_a_length_is_counted_as_it_comes() {
    let origin = Origin::on_head(|_| Reply::hang());
    let proxy = Proxy::start(&one_route(&[origin.port], "require: { max_body: 100KiB }"));
    let piece = [b'x'; 30_000];
    let mut client = Client::to(proxy.port);
    let answer = client.chunked("POST", "/streamed", &[&piece, &piece, &piece, &piece]);
    assert_eq!(answer.status, 413);
    assert_eq!(proxy.logged("/streamed")["refused"], "body_too_large");
    // One that would be read ahead, too.
    let proxy = Proxy::start(&one_route(
        &[origin.port],
        "require: { max_body: 50B }\nretry: { methods: any }",
    ));
    let before = origin.count();
    let answer = Client::to(proxy.port).chunked("POST", "/held", &[&piece[..40], &piece[..40]]);
    assert_eq!(answer.status, 413);
    assert_eq!(origin.count(), before);
    // And who asks first is told before a byte of it is sent.
    let mut client = Client::to(proxy.port);
    client.send(
        "POST /asked HTTP/1.1\r\nHost: a\r\nContent-Length: 51\r\nExpect: 100-continue\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!((answer.status, answer.informational.len()), (413, 0));
}

#[test]
fn a_body_that_is_sent_again_is_counted_once() {
    let origin = Origin::new(|r| match r.number {
        0 | 1 => Reply::status(503),
        _ => Reply::ok("hello"),
    });
    let rules = "require: { max_body: 100KiB }\nretry: { tries: 3, wait: 1ms, methods: any }";
    let proxy = Proxy::start(&never_ejecting(&one_route(&[origin.port], rules)));
    let body = vec![b'x'; 60 * 1024];
    let answer = request(proxy.port, "PUT", "/again", &[], &body);
    assert_eq!(answer.status, 200);
    assert_eq!(origin.last().body.len(), body.len());
}

#[test]
fn what_is_required_cannot_be_hidden_or_left_unsaid() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let rules = "require: { content_types: [application/json], headers: [X-Tenant] }";
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], rules));
    let tenant = ("X-Tenant", "a");
    // HTTP/2 need not say that content follows.
    let mut client = Client2::to(proxy.port);
    let mut stream = client.begin("POST", "/unsaid", &[("x-tenant", "a")], false);
    client.send(&mut stream, b"{}", true);
    assert_eq!(client.answer(stream).status, 415);
    // What Connection names does not arrive.
    let hidden = [tenant, ("Connection", "close, X-Tenant")];
    assert_eq!(
        request(proxy.port, "GET", "/hidden", &hidden, b"").status,
        400
    );
    let secret = [
        tenant,
        ("Authorization", "Bearer x"),
        ("Connection", "Authorization"),
    ];
    assert_eq!(
        request(proxy.port, "GET", "/secret", &secret, b"").status,
        400
    );
    assert_eq!(origin.count(), 0);
    assert_eq!(
        request(proxy.port, "GET", "/fine", &[tenant], b"").status,
        200
    );
}

/// The file of the README.
const FILE: &str = include_str!("../../conf/examples/one-source.yaml");

#[test]
fn s12_one_source_blocked_scans_and_four_routes_take_less_than_40_lines() {
    assert!(FILE.lines().count() < 40);
    let readme = include_str!("../../README.md");
    assert!(
        readme.contains(FILE.trim_end()),
        "the README shows another file"
    );
    let origin = Origin::new(|r| Reply::ok(r.target.clone()));
    let backend = format!("127.0.0.1:{}", origin.port);
    let yaml = FILE
        .replace("127.0.0.1:9001", &backend)
        .replace("203.0.113.7", "127.0.0.1");
    let (statics, upstreams) = yaml.split_once("---\n").unwrap();
    assert!(statics.contains("listeners:"));
    let proxy = Proxy::start(upstreams);
    let ask = |method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]| {
        request(proxy.port, method, target, fields, body).status
    };
    // A scan is told nothing.
    let mut scan = Client::to(proxy.port);
    scan.send("GET /.env HTTP/1.1\r\nHost: a\r\n\r\n");
    scan.expect_close();
    let key = ("Authorization", "Bearer x");
    for (method, target, fields, body, status) in [
        ("GET", "/patients/7", &[key][..], &b""[..], 200),
        ("GET", "/patients/7", &[], b"", 401),
        ("POST", "/patients/7", &[key], b"", 405),
        ("POST", "/notes", &[key, JSON], b"{}", 200),
        (
            "POST",
            "/notes",
            &[key, ("Content-Type", "text/plain")],
            b"{}",
            415,
        ),
        (
            "POST",
            "/images",
            &[key, ("Content-Type", "image/png")],
            b"x",
            200,
        ),
        ("POST", "/images", &[key, JSON], b"{}", 415),
        ("GET", "/health", &[], b"", 200),
        ("GET", "/admin/", &[], b"", 404),
        ("GET", "/sitemap.xml", &[], b"", 404),
        ("GET", "/elsewhere", &[key], b"", 404),
    ] {
        assert_eq!(
            ask(method, target, fields, body),
            status,
            "{method} {target}"
        );
    }
    assert_eq!(origin.count(), 4);
    // Everybody else stays out.
    let strange = FILE.replace("127.0.0.1:9001", &backend);
    proxy.reload_with(strange.split_once("---\n").unwrap().1);
    for target in ["/patients/7", "/notes", "/images"] {
        assert_eq!(ask("GET", target, &[key], b"") / 100, 4);
    }
    assert_eq!(ask("GET", "/patients/7", &[key], b""), 403);
    assert_eq!(origin.count(), 4);
}

#[test]
fn s10_the_log_names_who_asks_and_not_the_secret() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let proxy = Proxy::with()
        .key("access_log", "{ path: stdout, identity_claim: staff }")
        .start(&one_route(&[origin.port], ""));
    let token = "eyJhbGciOiJub25lIn0.eyJzdGFmZiI6ImFubiJ9.c2VjcmV0LXNpZ25hdHVyZQ";
    let value = format!("Bearer {token}");
    request(proxy.port, "GET", "/jwt", &[("Authorization", &value)], b"");
    let line = proxy.logged("/jwt");
    assert_eq!(
        (&line["enduser.id"], &line["identity_from"]),
        (&"ann".into(), &"jwt_unverified".into())
    );
    assert!(!line.to_string().contains("c2VjcmV0"));
    request(
        proxy.port,
        "GET",
        "/basic",
        &[("Authorization", "Basic Ym9iOnMzY3JldA==")],
        b"",
    );
    let line = proxy.logged("/basic");
    assert_eq!(
        (&line["enduser.id"], &line["identity_from"]),
        (&"bob".into(), &"basic_unverified".into())
    );
    assert!(!line.to_string().contains("s3cret"));
    get(proxy.port, "/nobody");
    assert!(proxy.logged("/nobody").get("enduser.id").is_none());
}

#[test]
fn lists_can_be_in_files_and_are_read_again_at_a_reload() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let mut proxy = Proxy::start(&one_route(&[origin.port], ""));
    let file = proxy.dir().join("denied.txt");
    std::fs::write(&file, "# nobody yet\n192.0.2.0/24\n").unwrap();
    let rules = format!("deny: [198.51.100.1, {{ file: {} }}]", file.display());
    let yaml = one_route(&[origin.port], &rules);
    proxy.reload_with(&yaml);
    assert_eq!(get(proxy.port, "/").status, 200);
    std::fs::write(&file, "192.0.2.0/24\n127.0.0.1 # us\n").unwrap();
    proxy.reload_with(&yaml);
    assert_eq!(get(proxy.port, "/").status, 403);
    // A wrong line leaves the old list in force.
    std::fs::write(&file, "192.0.2.0/24\n127.0.0\n").unwrap();
    proxy.reload_refused(&yaml);
    let said = proxy.said("denied.txt:2: expected an IP address");
    assert!(said.contains("found \"127.0.0\""), "{said}");
    assert_eq!(get(proxy.port, "/").status, 403);
    assert!(proxy.is_alive());
}

/// So can those of listeners and of proxies: a reload puts them in force, for connections that are open, too.
#[test]
fn lists_of_listeners_and_of_proxies_are_read_again() {
    let origin = Origin::new(|r| Reply::ok(r.header("x-forwarded-for").unwrap_or_default()));
    let dir = tempfile::tempdir().unwrap();
    let (denied, proxies) = (
        dir.path().join("denied.txt"),
        dir.path().join("proxies.txt"),
    );
    std::fs::write(&denied, "192.0.2.0/24\n").unwrap();
    std::fs::write(&proxies, "10.0.0.0/8 # not us\n").unwrap();
    let yaml = one_route(&[origin.port], "");
    let proxy = Proxy::with()
        .key(
            "trusted_proxies",
            &format!("[{{ file: {} }}]", proxies.display()),
        )
        .listener(&format!(
            "deny: [198.51.100.1, {{ file: {} }}]",
            denied.display()
        ))
        .start(&yaml);
    let mut client = Client::to(proxy.port);
    let mut ask = || {
        let answer = client.request("GET", "/", &[("X-Forwarded-For", "192.0.2.7")], b"");
        (answer.status, answer.text())
    };
    assert_eq!(ask(), (200, "127.0.0.1".into()));
    std::fs::write(&proxies, "127.0.0.1\n").unwrap();
    std::fs::write(&denied, "# nobody\n").unwrap();
    proxy.reload_with(&yaml);
    assert_eq!(ask(), (200, "192.0.2.7, 127.0.0.1".into()));
    std::fs::write(&denied, "192.0.2.0/24\n").unwrap();
    proxy.reload_with(&yaml);
    assert_eq!(ask().0, 403);
    // A wrong line leaves the old lists in force.
    std::fs::write(&denied, "192.0.2\n").unwrap();
    proxy.reload_refused(&yaml);
    proxy.said("listeners[0].deny[1].file: ");
    assert_eq!(ask().0, 403);
    assert_eq!(proxy.count_said("needs a restart"), 0);
}

#[test]
fn values_and_parameters_are_to_be_as_the_route_has_them() {
    let origin = Origin::always(Reply::ok("hello"));
    let rules = "require: { headers: [{ X-Api-Version: \"v[0-9]+\" }], query: [{ id: \"[0-9]+\" }], allowed_query: [q] }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let ask = |target: &str, version: &str| {
        let fields = [("X-Api-Version", version)];
        request(proxy.port, "GET", target, &fields, b"")
    };
    assert_eq!(ask("/ok?id=%37&q=a+b", "v1").status, 200);
    assert_eq!(origin.last().target, "/ok?id=%37&q=a+b");
    for (target, version, word, says) in [
        ("/1?id=1", "1", "header_unfit", "x-api-version"),
        ("/2?id=x", "v1", "query_unfit", "parameter id"),
        ("/3?id=1&i%64=x", "v1", "query_unfit", "parameter id"),
        ("/4?id=1&debug=1", "v1", "query_unknown", "not known"),
        ("/5?id=1&q=%4", "v1", "query_malformed", "hexadecimal"),
        ("/6?q=1", "v1", "query_required", "parameter id"),
    ] {
        let answer = ask(target, version);
        assert_eq!(answer.status, 400, "{target}");
        assert!(answer.text().contains(says), "{}", answer.text());
        assert_eq!(proxy.logged(target)["refused"], word);
    }
    assert_eq!(origin.count(), 1);
}
