//! The admin address: what it refuses, and that a process with it starts, reloads and drains as any other.

use crate::client::{Answer, Client, get, request};
use crate::command::run;
use crate::harness::{PATIENCE, Proxy, Setup, bearer, eventually, free_port, one_route, until};
use crate::maintenance::command;
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");
const LOCAL: (&str, &str) = ("Host", "localhost");
const ROUTE: &str =
    "routes:\n  - { match: { path: / }, respond: { status: 200, body: \"fine\" } }\n";

/// A process with an admin address on this port, which was free a moment ago.
pub(crate) fn with_admin() -> (Setup, u16) {
    let port = free_port();
    let address = format!("{{ address: 127.0.0.1:{port} }}");
    (Proxy::with().key("admin", &address), port)
}

/// `POST /cache/purge` with this body.
pub(crate) fn post(admin: u16, body: &str) -> Answer {
    request(
        admin,
        "POST",
        "/cache/purge",
        &[LOCAL, JSON, ("Authorization", &bearer(admin))],
        body.as_bytes(),
    )
}

/// `GET /cache`.
pub(crate) fn figures(admin: u16) -> serde_json::Value {
    let answer = request(admin, "GET", "/cache", &[LOCAL], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn why(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    body["error"].as_str().expect("a sentence").to_string()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_endpoint_has_its_methods() {
    let (setup, admin) = with_admin();
    let _proxy = setup.start(ROUTE);
    let mut client = Client::to(admin);
    for (method, path, status, allow) in [
        ("GET", "/nothing", 404, None),
        ("GET", "/cache/", 404, None),
        ("POST", "/cache/purge/x", 404, None),
        ("GET", "/cache/../cache", 404, None),
        ("POST", "/cache", 405, Some("GET, HEAD")),
        ("DELETE", "/cache", 405, Some("GET, HEAD")),
        ("OPTIONS", "/cache/purge", 405, Some("POST")),
        ("GET", "/cache/purge", 405, Some("POST")),
        ("PURGE", "/cache/purge", 405, Some("POST")),
    ] {
        // All on one connection: a refusal does not end it.
        let answer = client.request(method, path, &[LOCAL], b"");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (status, allow),
            "{method} {path}"
        );
        assert!(!why(&answer).is_empty());
    }
    let get = client.request("GET", "/cache?x", &[LOCAL], b"");
    assert_eq!(
        (get.status, get.header("cache-control")),
        (200, Some("no-store"))
    );
    let head = client.request("HEAD", "/cache", &[LOCAL], b"");
    let length = get.header("content-length");
    assert_eq!((head.status, head.header("content-length")), (200, length));
    // And clients see nothing of it.
    assert_eq!(crate::client::get(_proxy.port, "/cache").text(), "fine");
}

/// What another page fetches or embeds without asking comes without `Origin`.
#[test]
fn another_site_may_link_to_the_page_and_do_nothing_else() {
    let (setup, admin) = with_admin();
    let _proxy = setup.start("routes:\n  - { match: { path: / }, respond: { status: 200 } }\n");
    for (site, mode, dest, status) in [
        ("cross-site", "no-cors", "empty", 403),
        ("same-site", "no-cors", "image", 403),
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("none", "navigate", "document", 200),
    ] {
        let fields = [
            LOCAL,
            ("Sec-Fetch-Site", site),
            ("Sec-Fetch-Mode", mode),
            ("Sec-Fetch-Dest", dest),
        ];
        let answer = request(admin, "GET", "/status", &fields, b"");
        assert_eq!(answer.status, status, "{site} {mode} {dest}");
    }
}

#[test]
fn what_a_web_page_can_make_a_browser_send_is_refused() {
    let origin = Origin::new(|r| Reply::ok(r.number.to_string()));
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], "cache: { ttl: 1h }"));
    assert_eq!(get(proxy.port, "/").text(), "0");
    let key = bearer(admin);
    let ask = |headers: &[(&str, &str)]| {
        let headers = [headers, &[("Authorization", &*key)]].concat();
        request(admin, "POST", "/cache/purge", &headers, br#"{"all": true}"#)
    };
    let own = format!("127.0.0.1:{admin}");
    let rebound = format!("evil.example:{admin}");
    for (headers, status) in [
        // A name that somebody points at this machine.
        (&[("Host", rebound.as_str()), JSON][..], 403),
        (&[("Host", "evil.example"), JSON], 403),
        (&[("Host", "localhost.evil.example"), JSON], 403),
        (&[("Host", ""), JSON], 403),
        // What a form or a script sends without being asked first.
        (&[("Host", &own)], 415),
        (&[("Host", &own), ("Content-Type", "text/plain")], 415),
        (
            &[
                ("Host", &own),
                ("Content-Type", "application/x-www-form-urlencoded"),
            ],
            415,
        ),
        (
            &[
                ("Host", &own),
                ("Content-Type", "text/plain;application/json"),
            ],
            415,
        ),
        (
            &[("Host", &own), JSON, ("Origin", "http://evil.example")],
            403,
        ),
        (&[("Host", &own), JSON, ("Origin", "null")], 403),
        (
            &[("Host", &own), JSON, ("Sec-Fetch-Site", "cross-site")],
            403,
        ),
    ] {
        let answer = ask(headers);
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        why(&answer);
        // No browser may be told that it may.
        assert!(
            answer
                .headers
                .iter()
                .all(|(n, _)| !n.to_lowercase().starts_with("access-control"))
        );
    }
    let question = [
        ("Host", own.as_str()),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    assert_eq!(
        request(admin, "OPTIONS", "/cache/purge", &question, b"").status,
        405
    );
    let elsewhere = [("Host", "evil.example")];
    assert_eq!(request(admin, "GET", "/cache", &elsewhere, b"").status, 403);
    for head in [
        format!("POST /cache/purge HTTP/1.1\r\nHost: {own}\r\nHost: evil.example\r\n"),
        format!("POST http://evil.example/cache/purge HTTP/1.1\r\nHost: {own}\r\n"),
        "POST /cache/purge HTTP/1.0\r\n".to_string(),
    ] {
        let mut client = Client::to(admin);
        client.send(format!(
            "{head}Authorization: {key}\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{{\"all\": true}}"
        ));
        // Some of it is not even HTTP, and gets no answer.
        if let Ok(answer) = client.try_answer_to("POST") {
            assert!([400, 403].contains(&answer.status), "{head}");
        }
    }
    assert_eq!(get(proxy.port, "/").text(), "0", "something purged");
    for host in [
        own.as_str(),
        "localhost",
        "LocalHost:1",
        "[::1]:9",
        "10.0.0.1",
    ] {
        let answer = ask(&[
            ("Host", host),
            ("Content-Type", "Application/JSON; charset=utf-8"),
        ]);
        assert_eq!(answer.status, 200, "{host}");
    }
    assert_eq!(get(proxy.port, "/").text(), "1");
}

#[test]
fn a_body_is_read_whole_but_not_for_ever() {
    let (setup, admin) = with_admin();
    let _proxy = setup.start(ROUTE);
    let limit = 64 * 1024;
    let padded = |length: usize| format!("{{\"all\": true{}}}", " ".repeat(length - 13));
    assert_eq!(post(admin, &padded(limit)).status, 200);
    for length in [limit + 1, 900_000] {
        let answer = post(admin, &padded(length));
        assert_eq!(answer.status, 413);
        assert!(why(&answer).contains("64 KiB"));
    }
    let mut client = Client::to(admin);
    let head = format!(
        "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n",
        bearer(admin)
    );
    client.send(format!(
        "{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    client.send("5\r\n{\"all\r\n9\r\n\": true} \r\n0\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    // And who asks first is told to go on.
    client.send(format!(
        "{head}Content-Type: application/json\r\nContent-Length: 13\r\nExpect: 100-continue\r\n\r\n"
    ));
    assert_eq!(client.head().expect("a head").status, 100);
    client.send("{\"all\": true}");
    assert_eq!(client.answer().status, 200);
    // A body that breaks off purges nothing, and holds up nobody.
    let mut broken = Client::to(admin);
    broken.send(format!(
        "{head}Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{{\"all\": true}}"
    ));
    assert_eq!(post(admin, "{\"all\": true}").status, 200);
    broken.leave();
    assert_eq!(figures(admin)["fills"], 0);
}

#[test]
fn wrong_purges_are_told_what_is_wrong() {
    let (setup, admin) = with_admin();
    let _proxy = setup.start(ROUTE);
    for (body, part) in [
        ("", "one of"),
        ("{}", "nothing is named"),
        ("all", "one of"),
        (r#"{"all": true, "tag": "a"}"#, "more than one"),
        (r#"{"uri": "http://a/"}"#, "`uri`"),
        (r#"{"url": "/a"}"#, "http://"),
        (r#"{"url": "http://a/#b"}"#, "fragment"),
        (r#"{"prefix": "http://a/?b"}"#, "query"),
        (r#"{"tag": "a\nb"}"#, "control"),
    ] {
        let answer = post(admin, body);
        assert_eq!(answer.status, 400, "{body}");
        let why = why(&answer);
        assert!(why.contains(part), "{body}: {why}");
    }
}

#[test]
fn an_address_that_is_taken_is_an_error_at_the_start_and_nothing_is_served() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (port, admin) = (free_port(), taken.local_addr().expect("bound"));
    let dir = tempfile::tempdir().expect("a directory");
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:{port} }}]\nadmin: {{ address: {admin} }}\n---\n{ROUTE}"
    );
    std::fs::write(dir.path().join("backstop.yaml"), text).expect("a file");
    let output = run(&["-c", "backstop.yaml"], dir.path());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [format!("cannot listen on {admin}"), "change `admin`".into()] {
        assert!(said.contains(&part), "{part:?} in {said}");
    }
}

#[test]
fn a_reload_keeps_the_address() {
    let (setup, admin) = with_admin();
    let mut proxy = setup.start(ROUTE);
    let mut client = Client::to(admin);
    assert_eq!(client.request("GET", "/cache", &[LOCAL], b"").status, 200);
    let elsewhere = free_port();
    proxy.set_key("admin", &format!("{{ address: 127.0.0.1:{elsewhere} }}"));
    proxy.reload_with(&ROUTE.replace("fine", "new"));
    proxy.said("needs a restart: admin");
    assert_eq!(get(proxy.port, "/").text(), "new");
    assert_eq!(client.request("GET", "/cache", &[LOCAL], b"").status, 200);
    figures(admin);
    assert!(Client::try_to(elsewhere).is_err());
}

#[test]
fn it_answers_until_the_drain_ends_and_does_not_hold_it_up() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |_| Reply::ok("finished").when(&open));
    let (setup, admin) = with_admin();
    let mut proxy = setup
        .key("drain_timeout", "20s")
        .start(&one_route(&[origin.port], ""));
    let idle = Client::to(admin);
    let mut kept = Client::to(admin);
    assert_eq!(kept.request("GET", "/cache", &[LOCAL], b"").status, 200);
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    origin.request(0);
    proxy.signal(Signal::TERM);
    until("the drain", || Client::try_to(proxy.port).is_err());
    figures(admin);
    // A kept connection says that this was the last.
    let last = kept.request("GET", "/cache", &[LOCAL], b"");
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    gate.open();
    assert_eq!(client.answer().text(), "finished");
    let (status, took) = proxy.wait_exit(Duration::from_secs(5));
    assert!(
        status.success() && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert!(Client::try_to(admin).is_err());
    idle.leave();
}

#[test]
fn many_connections_wait_and_all_are_answered() {
    let (setup, admin) = with_admin();
    let _proxy = setup.start(ROUTE);
    let held: Vec<Client> = (0..100).map(|_| Client::to(admin)).collect();
    let mut last = Client::to(admin);
    last.begin("GET", "/cache", &[LOCAL], b"");
    assert!(last.is_silent_for(Duration::from_millis(200)));
    held.into_iter().for_each(Client::leave);
    assert_eq!(last.answer().status, 200);
}

#[test]
fn the_command_says_where_it_asked_and_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backstop.yaml");
    let write = |admin: &str| {
        let port = free_port();
        let text = format!("listeners: [{{ address: 127.0.0.1:{port} }}]\n{admin}---\n{ROUTE}");
        std::fs::write(&file, text).expect("a file");
    };
    let ask = |args: &[&str]| {
        let output = run(
            &[&["-c", "backstop.yaml", "cache"][..], args].concat(),
            dir.path(),
        );
        assert!(output.stdout.is_empty());
        (output.status.code(), said(&output))
    };
    let fails = |parts: &[&str]| {
        for args in [&["status"][..], &["status", "--json"], &["purge", "--all"]] {
            let (code, said) = ask(args);
            assert_eq!(code, Some(1), "{said}");
            for part in parts {
                assert!(said.contains(part), "{part:?} in {said}");
            }
        }
    };
    fails(&["backstop.yaml"]);
    write("");
    fails(&[
        "backstop.yaml has no `admin`",
        "add admin: { address: 127.0.0.1:9090 } to backstop.yaml",
        "restart",
    ]);
    let nobody = free_port();
    write(&format!("admin: {{ address: 127.0.0.1:{nobody} }}\n"));
    fails(&[
        &format!("127.0.0.1:{nobody}"),
        "Connection refused",
        "is backstop running",
    ]);
    // Some other program: one that answers otherwise, and one that only hangs up.
    for reply in [
        Reply::ok("hello"),
        Reply::status(500),
        Reply::garbage(),
        Reply::close(),
    ] {
        let other = Origin::always(reply.closing());
        write(&format!("admin: {{ address: 127.0.0.1:{} }}\n", other.port));
        fails(&[
            &format!("127.0.0.1:{}", other.port),
            "does not answer as backstop does",
            "another program",
        ]);
    }
    for args in [
        &["purge"][..],
        &["purge", "http://a/", "--all"],
        &["purge", "--tag"],
        &[],
        &["drop"],
    ] {
        let (code, said) = ask(args);
        assert_eq!(code, Some(2), "{args:?}: {said}");
    }
    let (code, said) = ask(&["purge", "--tag", "a", "--prefix", "http://a/"]);
    assert!(
        code == Some(2) && said.contains("cannot be used with"),
        "{said}"
    );
}

#[test]
fn an_address_for_all_is_asked_on_this_machine() {
    let admin = free_port();
    let dir = tempfile::tempdir().expect("a directory");
    let users = dir.path().join("users");
    std::fs::write(&users, USERS).expect("a file");
    let key = format!(
        "{{ address: \"0.0.0.0:{admin}\", auth: {} }}",
        users.display()
    );
    let proxy = Proxy::with().key("admin", &key).start(ROUTE);
    let output = eventually("an answer", || {
        let output = run(&["-c", "backstop.yaml", "cache", "status"], proxy.dir());
        output.status.success().then_some(output)
    });
    assert!(String::from_utf8_lossy(&output.stdout).contains("memory"));
}

/// `ann`, whose password is `secret`.
const USERS: &str = "ann:$2y$04$5awy1hN54VgtZaWMdJdRq.JTmnUzEO6KTzPP6IKt2Zieux9qHhrQq\n";

#[test]
fn what_changes_something_takes_a_key_or_a_user() {
    let (setup, admin) = with_admin();
    let mut proxy = setup.start(ROUTE);
    let file = proxy.dir().join("backstop.pid.key");
    let mode = std::fs::metadata(&file)
        .expect("the key")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let purge = |authorization: &str| {
        let fields = [LOCAL, JSON, ("Authorization", authorization)];
        request(admin, "POST", "/cache/purge", &fields, b"{\"all\": true}")
    };
    let none = request(
        admin,
        "POST",
        "/cache/purge",
        &[LOCAL, JSON],
        b"{\"all\": true}",
    );
    assert_eq!(none.status, 401);
    assert_eq!(none.header("www-authenticate"), Some("Bearer"));
    assert!(
        why(&none).contains(&file.display().to_string()),
        "{}",
        none.text()
    );
    for wrong in [
        "Bearer ",
        "Bearer x",
        "Basic YW5uOnNlY3JldA==",
        &format!("{}x", bearer(admin)),
    ] {
        assert_eq!(purge(wrong).status, 401, "{wrong}");
    }
    assert_eq!(purge(&bearer(admin)).status, 200);
    // To look is free, and the command line knows the key.
    assert_eq!(request(admin, "GET", "/status", &[LOCAL], b"").status, 200);
    let run = |args: &[&str]| run(&[&["-c", "backstop.yaml"][..], args].concat(), proxy.dir());
    let done = run(&["cache", "purge", "--all"]);
    assert!(done.status.success(), "{}", said(&done));
    std::fs::rename(&file, proxy.dir().join("away")).expect("a file");
    let refused = run(&["cache", "purge", "--all"]);
    assert!(
        said(&refused).contains("this takes the key in"),
        "{}",
        said(&refused)
    );
    std::fs::rename(proxy.dir().join("away"), &file).expect("a file");
    proxy.signal(Signal::TERM);
    let (exit, _) = proxy.wait_exit(PATIENCE);
    assert!(exit.success());
    assert!(!file.exists(), "the key outlives the process");
}

#[test]
fn with_users_only_they_may_look() {
    let dir = tempfile::tempdir().expect("a directory");
    let users = dir.path().join("users");
    std::fs::write(&users, USERS).expect("a file");
    let admin = free_port();
    let key = format!(
        "{{ address: 127.0.0.1:{admin}, auth: {} }}",
        users.display()
    );
    let proxy = Proxy::with().key("admin", &key).start(ROUTE);
    let ask = |method: &str, path: &str, who: Option<&str>| {
        let authorization = who.map(|who| ("Authorization", who));
        let fields: Vec<_> = [LOCAL, JSON].into_iter().chain(authorization).collect();
        request(admin, method, path, &fields, b"{\"all\": true}").status
    };
    let (right, wrong) = ("Basic YW5uOnNlY3JldA==", "Basic YW5uOndyb25n");
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", "/events?"),
        ("POST", "/cache/purge"),
    ] {
        for who in [None, Some(wrong), Some("Bearer x")] {
            assert_eq!(ask(method, path, who), 401, "{method} {path} {who:?}");
        }
        if !path.starts_with("/events") {
            assert_eq!(ask(method, path, Some(right)), 200, "{method} {path}");
            assert_eq!(
                ask(method, path, Some(&bearer(admin))),
                200,
                "{method} {path}"
            );
        }
    }
    // A load balancer has no password.
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask("GET", path, None), 200);
    }
    let done = run(&["-c", "backstop.yaml", "status"], proxy.dir());
    assert!(done.status.success(), "{}", said(&done));
    // A file that is none is found beforehand.
    std::fs::write(&users, "ann:secret\n").expect("a file");
    let checked = run(&["-t", "-c", "backstop.yaml"], proxy.dir());
    assert!(
        said(&checked).contains("admin.auth: "),
        "{}",
        said(&checked)
    );
}

/// What a client at the socket gets.
fn at_socket(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn at_a_socket_in_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let setup = || {
        let admin = format!("{{ address: \"unix:{}\" }}", path.display());
        Proxy::with().key("admin", &admin)
    };
    let mut proxy = setup().start(ROUTE);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    let ask = |head: &str| at_socket(&path, &format!("{head}\r\nConnection: close\r\n\r\n"));
    let answer = ask("GET /status HTTP/1.1\r\nHost: localhost");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // What changes something takes the key all the same.
    let purge = "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 0";
    let answer = ask(purge);
    assert!(
        answer.starts_with("HTTP/1.1 401") && answer.contains(".key"),
        "{answer}"
    );
    let (ok, said) = command(&proxy, &["status"]);
    assert!(ok && said.contains("running for"), "{said}");
    let (ok, said) = command(&proxy, &["cache", "purge", "--all"]);
    assert!(ok && said.starts_with("purged 0 answers"), "{said}");

    // Another process with the same file does not take it away.
    let config = proxy.config();
    let second = run(&["-c", config.to_str().unwrap()], proxy.dir());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && said.contains("admin.sock: "),
        "{said}"
    );
    assert!(ask("GET /healthz HTTP/1.1\r\nHost: localhost").starts_with("HTTP/1.1 200"));

    // The file of one that was killed makes room, that of somebody else does not.
    proxy.signal(Signal::KILL);
    proxy.wait_exit(PATIENCE);
    assert!(path.exists());
    let proxy = setup().start(ROUTE);
    assert!(ask("GET /healthz HTTP/1.1\r\nHost: localhost").starts_with("HTTP/1.1 200"));
    drop(proxy);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "mine").unwrap();
    let refused = run(&["-c", config.to_str().unwrap()], dir.path());
    assert!(!refused.status.success());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}
