//! TLS: which certificate is shown, how they are exchanged, and that what is inside of it is the same as without.

use crate::admin::with_admin;
use crate::client::Client;
use crate::client_tls::{Authority, Tls};
use crate::command::run;
use crate::harness::{Proxy, one_route, until};
use crate::observe::{metrics, value};
use crate::origin::Origin;
use crate::reply::Reply;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn shown(client: &Tls, proxy: &Proxy, host: &str) -> Vec<u8> {
    client.to(proxy.port, host).unwrap().shown().to_vec()
}

#[test]
fn each_host_gets_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let first = authority.sign(dir.path(), "first", &["a.example", "localhost"]);
    let exact = authority.sign(dir.path(), "exact", &["www.b.example"]);
    let wild = authority.sign(dir.path(), "wild", &["*.b.example"]);
    let all = [&first, &exact, &wild].map(|pair| pair.yaml()).join(", ");
    let origin = Origin::new(|_| Reply::ok("hello"));
    let yaml = one_route(&[origin.port], "");
    let tls = format!("tls: {{ certificates: [{all}] }}");
    let proxy = Proxy::with().listener(&tls).start(&yaml);
    let client = authority.client();
    for (host, pair) in [
        ("a.example", &first),
        ("A.Example", &first),
        ("www.b.example", &exact),
        ("other.b.example", &wild),
    ] {
        assert_eq!(shown(&client, &proxy, host), pair.der().to_vec(), "{host}");
    }
    // The wildcard stands for one label, and what nobody names gets the first, which does not fit.
    for host in ["x.y.b.example", "b.example", "elsewhere.example"] {
        assert!(client.to(proxy.port, host).is_err(), "{host}");
    }
    let mut connection = client.to(proxy.port, "a.example").unwrap();
    for _ in 0..3 {
        let answer = connection.get("/").unwrap();
        assert_eq!((answer.status, &*answer.text()), (200, "hello"));
    }
    let asked = origin.request(0);
    assert_eq!(asked.header("x-forwarded-proto"), Some("https"));
}

/// Of two for one host a client gets the one that it can verify.
#[test]
fn rsa_and_ecdsa_stand_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let rsa = authority.sign_rsa(dir.path(), "rsa", &["a.example"]);
    let ecdsa = authority.sign(dir.path(), "ecdsa", &["a.example"]);
    let all = [&rsa, &ecdsa].map(|pair| pair.yaml()).join(", ");
    let origin = Origin::new(|_| Reply::ok("hello"));
    let tls = format!("tls: {{ certificates: [{all}] }}");
    let proxy = Proxy::with()
        .listener(&tls)
        .start(&one_route(&[origin.port], ""));
    for (client, pair) in [
        (authority.client(), &ecdsa),
        (authority.client().old(), &ecdsa),
        (authority.client().of_rsa(), &rsa),
        (authority.client().of_rsa().old(), &rsa),
    ] {
        let mut connection = client.to(proxy.port, "a.example").unwrap();
        assert_eq!(connection.shown(), pair.der());
        assert_eq!(connection.get("/").unwrap().text(), "hello");
    }
}

/// However it goes about it: a client that says nothing, one that stops, and one that trickles.
#[test]
fn a_handshake_may_take_no_longer_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let tls = pair.tls();
    let proxy = Proxy::with()
        .listener(&tls)
        .key("clients", "{ head_timeout: 500ms }")
        .start(&one_route(&[9], ""));
    // The beginning of a record, of 512 bytes.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for (sent, trickles) in [(&b""[..], false), (&hello[..], false), (&hello[..], true)] {
        let mut client = std::net::TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
        let pause = Duration::from_millis(if trickles { 50 } else { 10_000 });
        client.set_read_timeout(Some(pause)).unwrap();
        let began = Instant::now();
        client.write_all(sent).unwrap();
        let is_over = |read: std::io::Result<usize>| match read {
            Ok(n) => n == 0,
            Err(e) => e.kind() != std::io::ErrorKind::WouldBlock,
        };
        while !is_over(client.read(&mut [0; 64])) {
            let _ = client.write_all(b"\0");
        }
        let took = began.elapsed().as_millis();
        assert!((400..5000).contains(&took), "{took} ms");
    }
}

#[test]
fn a_host_that_no_certificate_names_can_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let tls = format!(
        "tls: {{ certificates: [{}], unknown_host: refuse }}",
        pair.yaml()
    );
    let yaml = one_route(&[9], "");
    let proxy = Proxy::with().listener(&tls).start(&yaml);
    let client = authority.client();
    assert!(client.to(proxy.port, "a.example").is_ok());
    let refused = client
        .to(proxy.port, "b.example")
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("alert") || refused.contains("handshake"),
        "{refused}"
    );
}

#[test]
fn old_versions_can_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    for (more, spoken) in [
        ("", true),
        (", min_version: \"1.2\"", true),
        (", min_version: \"1.3\"", false),
    ] {
        let tls = format!("tls: {{ certificates: [{}]{more} }}", pair.yaml());
        let proxy = Proxy::with().listener(&tls).start(&one_route(&[9], ""));
        let old = authority.client().old().to(proxy.port, "a.example");
        assert_eq!(old.is_ok(), spoken, "{more}");
        assert!(authority.client().to(proxy.port, "a.example").is_ok());
    }
}

#[test]
fn http2_is_chosen_where_both_speak_it() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let yaml = one_route(&[9], "");
    let tls = pair.tls();
    let chosen = |http2: bool, offered: &[&str]| {
        let setup = Proxy::with().listener(&tls);
        let setup = if http2 { setup.http2() } else { setup };
        let proxy = setup.start(&yaml);
        let client = authority.client().offering(offered);
        client.to(proxy.port, "a.example").unwrap().protocol()
    };
    assert_eq!(chosen(true, &["h2", "http/1.1"]).as_deref(), Some("h2"));
    assert_eq!(chosen(true, &["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(
        chosen(false, &["h2", "http/1.1"]).as_deref(),
        Some("http/1.1")
    );
    assert_eq!(chosen(true, &[]), None);
}

#[test]
fn s10_certificates_are_exchanged_200_times_under_load_without_a_failed_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let origin = Origin::new(|_| Reply::ok("hello"));
    let tls = pair.tls();
    let proxy = Proxy::with()
        .listener(&tls)
        .start(&one_route(&[origin.port], ""));
    let client = authority.client();
    let over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (client, over, done, port) =
                (client.clone(), over.clone(), done.clone(), proxy.port);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut connection = client.to(port, "a.example").expect("a handshake");
                    assert_eq!(connection.get("/").expect("an answer").status, 200);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for n in 0..200 {
        let new = authority
            .sign(dir.path(), "site", &["a.example"])
            .der()
            .to_vec();
        let began = Instant::now();
        // Reloads come in between, as `systemctl reload` does; now and then nobody says anything.
        if n % 10 != 0 {
            proxy.signal(Signal::HUP);
        }
        until("the newest certificate", || {
            shown(&client, &proxy, "a.example") == new
        });
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
    }
    over.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().unwrap();
    }
    assert!(done.load(Ordering::Relaxed) > 200);
}

#[test]
fn changed_files_are_noticed_and_broken_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let tls = pair.tls();
    let proxy = Proxy::with().listener(&tls).start(&one_route(&[9], ""));
    let client = authority.client();
    let old = pair.der().to_vec();
    assert_eq!(shown(&client, &proxy, "a.example"), old);
    std::fs::write(&pair.cert, "no certificate").unwrap();
    let said = proxy.said("stays in force");
    assert!(said.contains("site.pem"), "{said}");
    assert_eq!(shown(&client, &proxy, "a.example"), old);
    // Nobody tells the process.
    let new = authority
        .sign(dir.path(), "site", &["a.example"])
        .der()
        .to_vec();
    until("the new certificate", || {
        shown(&client, &proxy, "a.example") == new
    });
    proxy.said("was exchanged");
}

#[test]
fn sessions_are_resumed_also_after_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let origin = Origin::new(|_| Reply::ok("hello"));
    let tls = pair.tls();
    let yaml = one_route(&[origin.port], "");
    let proxy = Proxy::with().listener(&tls).start(&yaml);
    let client = authority.client().resuming();
    let visit = || {
        let mut connection = client.to(proxy.port, "a.example").unwrap();
        // The ticket comes after the handshake, with the first answer.
        assert_eq!(connection.get("/").unwrap().status, 200);
        connection.is_resumed()
    };
    assert!(!visit());
    assert!(visit());
    proxy.reload_with(&yaml);
    assert!(visit());
}

#[test]
fn clients_can_be_made_to_show_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let known = authority.sign(dir.path(), "known", &["someone"]);
    let stranger = other.sign(dir.path(), "stranger", &["someone"]);
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let origin = Origin::new(|_| Reply::ok("hello"));
    let yaml = one_route(&[origin.port], "");
    let start = |mode: &str| {
        let tls = format!(
            "tls: {{ certificates: [{}], verify_client: {mode}, client_ca: {} }}",
            pair.yaml(),
            ca.display()
        );
        Proxy::with().listener(&tls).start(&yaml)
    };
    // With TLS 1.3 a refusal comes after the client's part of the handshake.
    let visit = |proxy: &Proxy, client: Tls| {
        let connection = client.to(proxy.port, "a.example");
        connection
            .and_then(|mut c| c.get("/"))
            .map(|answer| answer.status)
            .ok()
    };
    let (none, good, bad) = (
        authority.client(),
        authority.client().showing(&known),
        authority.client().showing(&stranger),
    );
    let proxy = start("required");
    assert_eq!(visit(&proxy, none.clone()), None);
    assert_eq!(visit(&proxy, bad.clone()), None);
    assert_eq!(visit(&proxy, good.clone()), Some(200));
    let proxy = start("optional");
    assert_eq!(visit(&proxy, none), Some(200));
    assert_eq!(visit(&proxy, bad), None);
    assert_eq!(visit(&proxy, good), Some(200));
}

/// The file of those who are believed is followed too, and who is believed no more cannot resume what began before.
#[test]
fn whose_certificates_count_can_change() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let old = authority.sign(dir.path(), "old", &["someone"]);
    let new = other.sign(dir.path(), "new", &["someone"]);
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let origin = Origin::new(|_| Reply::ok("hello"));
    let yaml = one_route(&[origin.port], "");
    let tls = format!(
        "tls: {{ certificates: [{}], verify_client: required, client_ca: {} }}",
        pair.yaml(),
        ca.display()
    );
    let proxy = Proxy::with().listener(&tls).start(&yaml);
    let visit = |client: &Tls| {
        let connection = client.to(proxy.port, "a.example");
        connection
            .and_then(|mut c| Ok((c.get("/")?.status, c.is_resumed())))
            .ok()
    };
    let old = authority.client().showing(&old).resuming();
    let new = authority.client().showing(&new);
    assert_eq!(visit(&old), Some((200, false)));
    assert_eq!(visit(&old), Some((200, true)));
    assert_eq!(visit(&new), None);
    // A reload for another reason changes nothing.
    proxy.reload_with(&yaml);
    for _ in 0..20 {
        assert_eq!(visit(&old), Some((200, true)));
    }
    // A file that is none leaves those of before.
    std::fs::write(&ca, "nobody").unwrap();
    proxy.said("those whose certificates clients may show stay the same");
    assert_eq!(visit(&old), Some((200, true)));
    other.write(&ca);
    until("the other ones count", || visit(&new) == Some((200, false)));
    assert_eq!(visit(&old), None);
}

#[test]
fn backends_are_told_whose_certificate_it_was_and_answers_are_each_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let [ann, bob] = ["ann", "bob"].map(|name| authority.sign(dir.path(), name, &[name]));
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let origin = Origin::new(|r| Reply::ok(r.header("x-client").unwrap_or("nobody")));
    let rules =
        "headers: { request: { set: { X-Client: \"{client_cert}\" } } }\ncache: { ttl: 1h }";
    let tls = format!(
        "tls: {{ certificates: [{}], verify_client: optional, client_ca: {} }}",
        pair.yaml(),
        ca.display()
    );
    let proxy = Proxy::with()
        .listener(&tls)
        .start(&one_route(&[origin.port], rules));
    let ask = |client: Tls| {
        let mut connection = client.to(proxy.port, "a.example").unwrap();
        connection.get("/").unwrap().text()
    };
    for _ in 0..2 {
        let said = [&ann, &bob].map(|who| ask(authority.client().showing(who)));
        assert_eq!(said, ["CN=ann", "CN=bob"]);
        assert_eq!(ask(authority.client()), "");
    }
    // Each was asked for once, and stored.
    assert_eq!(origin.count(), 3);
    let line = proxy
        .log_lines()
        .into_iter()
        .find(|l| l["enduser.id"] == "CN=bob");
    assert_eq!(line.unwrap()["identity_from"], "client_cert");
}

#[test]
fn browsers_are_kept_on_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let origin = Origin::new(|_| Reply::ok("hello"));
    let yaml = one_route(&[origin.port], "cache: { ttl: 1m }");
    let tls = format!("tls: {{ certificates: [{}], hsts: 365d }}", pair.yaml());
    let proxy = Proxy::with().listener(&tls).start(&yaml);
    let mut connection = authority.client().to(proxy.port, "a.example").unwrap();
    // From the upstream, from the cache, and of our own making.
    for target in ["/", "/", "/%zz"] {
        let answer = connection.get(target).unwrap();
        let said = answer.header("strict-transport-security");
        assert_eq!(said, Some("max-age=31536000"), "{target}");
    }

    let proxy = Proxy::with()
        .listener("redirect_to_https: true")
        .start(&yaml);
    let mut client = Client::to(proxy.port);
    let answer = client.request("GET", "/a?b=c", &[("Host", "A.example:8080")], b"");
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), Some("https://a.example/a?b=c"));
    assert_eq!(answer.header("strict-transport-security"), None);
    let other = Proxy::with()
        .listener("redirect_to_https: 8443")
        .start(&yaml);
    let answer = Client::to(other.port).request("GET", "/a", &[("Host", "a.example:8080")], b"");
    assert_eq!(answer.header("location"), Some("https://a.example:8443/a"));
    // Where to, if no host is named?
    let mut old = Client::to(proxy.port);
    old.send("GET //evil.example/ HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().status, 400);
    // Who issues certificates looks here.
    let answer = client.get("/.well-known/acme-challenge/token");
    assert_eq!((answer.status, &*answer.text()), (200, "hello"));
}

#[test]
fn the_end_of_a_certificate_is_a_metric() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let sign = |days: u64| {
        let lasts = Duration::from_secs(days * 86_400);
        authority.sign_for(dir.path(), "site", &["a.example"], lasts)
    };
    let pair = sign(30);
    let (setup, admin) = with_admin();
    let tls = pair.tls();
    let _proxy = setup.listener(&tls).start(&one_route(&[9], ""));
    let series = format!(
        "backstop_certificate_expiry_timestamp_seconds{{file=\"{}\"}}",
        pair.cert.display()
    );
    let days = || {
        let end = value(&metrics(admin), &series).expect("its end");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (end - now.as_secs_f64()) / 86_400.0
    };
    assert!((29.9..30.1).contains(&days()), "{}", days());
    sign(60);
    until("that of the next one", || (59.9..60.1).contains(&days()));
}

#[test]
fn the_check_says_what_is_wrong_with_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let a = authority.sign(dir.path(), "a", &["a.example"]);
    let b = authority.sign(dir.path(), "b", &["a.example"]);
    let check = |cert: &Path, key: &Path| {
        let yaml = format!(
            "listeners: [{{ address: 127.0.0.1:1, tls: {{ certificates: [{{ cert: {}, key: {} }}] }} }}]\n---\nroutes: [{{ respond: {{ status: 200 }} }}]\n",
            cert.display(),
            key.display()
        );
        let file = dir.path().join("backstop.yaml");
        std::fs::write(&file, yaml).unwrap();
        let out = run(&["-t", "-c", file.to_str().unwrap()], dir.path());
        (
            out.status.success(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    let (fine, said) = check(&a.cert, &a.key);
    assert!(fine && !said.contains("ends soon"), "{said}");
    assert!(said.contains("a.pem is valid until 20"), "{said}");
    let short = authority.sign_for(
        dir.path(),
        "short",
        &["a.example"],
        Duration::from_secs(86_400),
    );
    let (fine, said) = check(&short.cert, &short.key);
    assert!(fine && said.contains("short.pem ends soon: "), "{said}");
    let missing = dir.path().join("missing.pem");
    for (cert, key, word) in [
        (&a.cert, &b.key, "it is not the certificate of the key"),
        (&missing, &a.key, "missing.pem: no certificate can be read"),
        (&a.key, &a.key, "no certificate is in it"),
        (&a.cert, &a.cert, "no private key can be read"),
    ] {
        let (fine, said) = check(cert, key);
        assert!(
            !fine && said.contains(word) && said.contains("help: "),
            "{said}"
        );
    }
}
