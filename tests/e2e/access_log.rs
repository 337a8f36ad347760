//! One JSON line per request, whatever became of it.

use crate::client::{Client, get, request};
use crate::client2::Client2;
use crate::harness::{PATIENCE, Proxy, eventually, free_port, one_route, parse_line, until};
use crate::origin::Origin;
use crate::reply::Reply;
use rustix::process::Signal;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_line_says_who_asked_what_happened_and_how_long_it_took() {
    let broken = Origin::always(Reply::status(500));
    let proxy = Proxy::start(&one_route(
        &[broken.port],
        "retry: { tries: 2, wait: 30ms }",
    ));
    broken.set(|r| {
        if r.number == 0 {
            Reply::status(500)
        } else {
            Reply::ok("1234567890")
        }
    });
    let answer = request(
        proxy.port,
        "GET",
        "/patients/1?x=y",
        &[("Host", "api.example.com:80"), ("User-Agent", "curl/8")],
        b"abc",
    );
    assert_eq!(answer.status, 200);
    let line = proxy.logged("/patients/1?x=y");
    let backend = format!("127.0.0.1:{}", broken.port);
    for (key, value) in [
        ("client.address", "127.0.0.1".into()),
        ("http.request.method", "GET".into()),
        ("server.address", "api.example.com".into()),
        ("server.port", 80.into()),
        ("url.scheme", "http".into()),
        ("url.path", "/patients/1".into()),
        ("url.query", "x=y".into()),
        ("network.protocol.version", "1.1".into()),
        ("user_agent.original", "curl/8".into()),
        ("http.route", "all".into()),
        ("upstream", "pool".into()),
        ("backend", backend.as_str().into()),
        ("retry", "answered".into()),
        ("http.response.status_code", 200.into()),
        ("http.request.body.size", 3.into()),
        ("http.response.body.size", serde_json::Value::from(10)),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert_eq!(
        line["request_id"].as_str(),
        broken.last().header("x-request-id")
    );
    let time = line["time"].as_str().unwrap();
    assert!(
        time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T",
        "{time}"
    );
    let tries = line["tries"].as_array().unwrap();
    assert_eq!(tries.len(), 2);
    for (one, outcome) in tries.iter().zip(["status 500", "ok"]) {
        assert_eq!(
            (&one["backend"], &one["outcome"]),
            (&backend.as_str().into(), &outcome.into())
        );
        assert!(
            one["ms"]
                .as_f64()
                .is_some_and(|ms| (0.0..5_000.0).contains(&ms))
        );
    }
    assert!(
        tries[1]["waited_ms"].as_f64().is_some_and(|ms| ms >= 30.0),
        "{line}"
    );
    assert!(
        line["duration_ms"].as_f64().is_some_and(|ms| ms >= 30.0),
        "{line}"
    );
}

/// Where the time went: before the request, until there was a connection, until the head of the answer, until its end.
#[test]
fn each_part_of_a_request_has_its_time() {
    let part = Duration::from_millis(120);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let reply = Reply::raw(format!("{head}1234567890"));
    let origin = Origin::always(reply.gap(head.len() + 5, part).after(part));
    let proxy = Proxy::start(&one_route(&[origin.port], "hedge: off"));
    let mut client = Client::to(proxy.port);
    client.get("/1");
    assert!(client.is_silent_for(part));
    client.get("/2");
    let [first, second] = ["/1", "/2"].map(|path| proxy.logged(path));
    let ms =
        |value: &serde_json::Value| value.as_f64().unwrap_or_else(|| panic!("{first} {second}"));
    for line in [&first, &second] {
        let one = &line["tries"][0];
        assert!(ms(&one["first_byte_ms"]) >= 120.0, "{line}");
        assert!(
            ms(&one["ms"]) >= ms(&one["first_byte_ms"]) + 100.0,
            "{line}"
        );
        assert!(ms(&line["duration_ms"]) >= ms(&one["ms"]), "{line}");
    }
    let one = &first["tries"][0];
    assert!(
        ms(&one["connect_ms"]) <= ms(&one["first_byte_ms"]) - 100.0,
        "{first}"
    );
    // The second one finds a connection.
    assert!(second["tries"][0]["connect_ms"].is_null(), "{second}");
    assert!(ms(&first["idle_ms"]) >= 0.0, "{first}");
    assert!(ms(&second["idle_ms"]) >= 100.0, "{second}");
}

/// In the words of `Proxy-Status`, which the client got.
#[test]
fn why_a_request_failed() {
    let origin = Origin::always(Reply::reset());
    let dead = free_port();
    let yaml = format!(
        "upstreams: {{ pool: {{ eject: off, backends: [127.0.0.1:{}] }}, dead: {{ eject: off, backends: [127.0.0.1:{dead}] }} }}
defaults: {{ retry: {{ tries: 2 }} }}
routes:
  - {{ match: {{ path: /pool }}, upstream: pool }}
  - {{ match: {{ path: /dead }}, upstream: dead }}
  - {{ match: {{ path: /stored }}, upstream: pool, cache: {{ ttl: 1s, stale_if_error: 1h }} }}
  - {{ match: {{ path: /fine }}, respond: {{ status: 200 }} }}
",
        origin.port
    );
    let proxy = Proxy::start(&yaml);
    for path in ["/pool", "/dead"] {
        let answer = get(proxy.port, path);
        let line = proxy.logged(path);
        let word = line["error.type"]
            .as_str()
            .unwrap_or_else(|| panic!("{line}"));
        let status = answer.header("proxy-status").unwrap_or_default();
        assert!(
            status.contains(&format!("error={word}")),
            "{status}: {line}"
        );
    }
    get(proxy.port, "/fine");
    assert!(proxy.logged("/fine")["error.type"].is_null());
    // Nor where a stored answer stood in for the failed one.
    origin.set(|_| Reply::ok("stored"));
    assert_eq!(get(proxy.port, "/stored").text(), "stored");
    origin.set(|_| Reply::reset());
    let stale = eventually("a stale answer", || {
        assert_eq!(get(proxy.port, "/stored").text(), "stored");
        let mut lines = proxy.log_lines().into_iter();
        lines.find(|line| line["cache"] == "stale" && line["tries"] != serde_json::json!([]))
    });
    assert!(stale["error.type"].is_null(), "{stale}");
}

#[test]
fn every_request_has_exactly_one_line() {
    let origin = Origin::always(Reply::ok("fine"));
    let yaml = format!(
        "upstreams: {{ pool: {{ backends: [127.0.0.1:{}] }}, dead: {{ backends: [127.0.0.1:{}] }} }}
routes:
  - {{ match: {{ path: /pool, methods: [GET] }}, upstream: pool }}
  - {{ match: {{ path: /dead }}, upstream: dead, retry: {{ tries: 2, wait: 1ms }} }}
  - {{ match: {{ path: /fixed }}, respond: {{ status: 200 }} }}
  - {{ match: {{ path: /moved }}, redirect: {{ to: / }} }}
",
        origin.port,
        free_port()
    );
    let proxy = Proxy::with().http2().start(&yaml);
    let mut client = Client::to(proxy.port);
    let mut expected = Vec::new();
    for (method, path, status) in [
        ("GET", "/pool", 200),
        ("POST", "/pool/post", 405),
        ("GET", "/dead", 502),
        ("GET", "/fixed", 200),
        ("GET", "/moved", 301),
        ("GET", "/nowhere", 404),
        ("GET", "/%zz", 400),
    ] {
        assert_eq!(
            client.request(method, path, &[], b"").status,
            status,
            "{path}"
        );
        expected.push((path.to_string(), u64::from(status)));
    }
    client.send("GET /fixed/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /fixed/2 HTTP/1.1\r\nHost: a\r\n\r\n");
    client.answer();
    client.answer();
    expected.extend([("/fixed/1".into(), 200), ("/fixed/2".into(), 200)]);
    Client2::to(proxy.port).get("/pool/2");
    expected.push(("/pool/2".into(), 200));
    assert_eq!(proxy.logged("/pool/2")["network.protocol.version"], "2");
    until("all lines", || proxy.log_lines().len() >= expected.len());
    let mut lines: Vec<(String, u64)> = proxy
        .log_lines()
        .iter()
        .map(|l| {
            (
                l["url.path"].as_str().unwrap().into(),
                l["http.response.status_code"].as_u64().unwrap(),
            )
        })
        .collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
    let ids: std::collections::HashSet<String> = proxy
        .log_lines()
        .iter()
        .map(|l| l["request_id"].to_string())
        .collect();
    assert_eq!(ids.len(), expected.len());
}

#[test]
fn odd_bytes_do_not_break_a_line() {
    let origin = Origin::always(Reply::ok("fine"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    for target in [
        "/quote\"quote",
        "/back\\slash",
        "/umlaut-k\u{e4}se",
        "/tab\tbed",
        "/del\u{7f}",
        "/{brace}<angle>|`^",
    ] {
        let mut client = Client::to(proxy.port);
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: a\"b\\c\r\nX-A: \u{1}\r\n\r\n"
        ));
        // Refused or served, that is not the question here.
        let _ = client.try_answer_to("GET");
    }
    for bytes in [
        &b"GET /latin\xe4\xff HTTP/1.1\r\nHost: \xff\r\n\r\n"[..],
        b"\xff\x00\r\n\r\n",
    ] {
        let mut client = Client::to(proxy.port);
        client.send(bytes);
        let _ = client.try_answer_to("GET");
    }
    // Waiting for this one parses all before it.
    get(proxy.port, "/escaped%0a%22%5c");
    let line = proxy.logged("/escaped%0a%22%5c");
    assert_eq!(line["http.response.status_code"], 200);
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(parse_line)
        .collect()
}

#[test]
fn usr1_opens_the_file_anew() {
    let proxy = Proxy::with()
        .key("access_log", "{ path: access.log }")
        .start("routes:\n  - { match: { path: / }, respond: { status: 200 } }\n");
    let (log, old) = (
        proxy.dir().join("access.log"),
        proxy.dir().join("access.log.1"),
    );
    let mut client = Client::to(proxy.port);
    client.get("/before");
    until("the first line", || lines(&log).len() == 1);
    std::fs::rename(&log, &old).unwrap();
    client.get("/between");
    until("the old file takes it", || lines(&old).len() == 2);
    proxy.signal(Signal::USR1);
    until("the new file", || log.exists());
    client.get("/after");
    until("the new file's line", || {
        lines(&log).iter().any(|l| l["url.path"] == "/after")
    });
    let paths: Vec<_> = lines(&old)
        .iter()
        .map(|l| l["url.path"].to_string())
        .collect();
    assert_eq!(paths, ["\"/before\"", "\"/between\""]);
}

#[test]
fn the_file_is_appended_to() {
    let setup = Proxy::with().key("access_log", "{ path: access.log }");
    let yaml = "routes:\n  - { match: { path: / }, respond: { status: 200 } }\n";
    let proxy = setup.start(yaml);
    get(proxy.port, "/first");
    until("a line", || {
        lines(&proxy.dir().join("access.log")).len() == 1
    });
    proxy.signal(Signal::USR1);
    get(proxy.port, "/second");
    until("another line", || {
        lines(&proxy.dir().join("access.log")).len() == 2
    });
}

#[test]
fn off_means_off() {
    let proxy = Proxy::with()
        .key("access_log", "{ path: \"off\" }")
        .start("routes:\n  - { match: { path: / }, respond: { status: 200 } }\n");
    for _ in 0..5 {
        assert_eq!(get(proxy.port, "/").status, 200);
    }
    assert!(proxy.log_lines().is_empty());
    assert!(!proxy.dir().join("off").exists());
}

#[test]
fn of_what_went_well_a_share_is_logged_and_all_of_the_rest() {
    let failed = AtomicBool::new(false);
    let origin = Origin::new(move |r| match &*r.target {
        "/bad" => Reply::status(500),
        "/mended" if !failed.swap(true, Ordering::Relaxed) => Reply::status(500),
        "/slow" => Reply::ok("").after(Duration::from_millis(400)),
        _ => Reply::ok(""),
    });
    let yaml = one_route(&[origin.port], "retry: { tries: 2, wait: 1ms, on: [500] }");
    let log = |sample: &str| format!("{{ path: stdout, sample: {sample}, slow: 300ms }}");
    let proxy = Proxy::with().key("access_log", &log("0%")).start(&yaml);
    for _ in 0..20 {
        assert_eq!(get(proxy.port, "/well").status, 200);
    }
    assert_eq!(get(proxy.port, "/slow").status, 200);
    assert_eq!(get(proxy.port, "/mended").status, 200);
    assert_eq!(get(proxy.port, "/bad").status, 500);
    for path in ["/slow", "/mended", "/bad"] {
        assert!(proxy.logged(path)["sample"].is_null());
    }
    assert!(proxy.log_lines().iter().all(|l| l["url.path"] != "/well"));
    // A third, give or take: fewer than one of 10^10 runs is outside.
    let proxy = Proxy::with().key("access_log", &log("33%")).start(&yaml);
    let mut client = Client::to(proxy.port);
    for _ in 0..400 {
        assert_eq!(client.get("/well").status, 200);
    }
    assert_eq!(get(proxy.port, "/bad").status, 500);
    proxy.logged("/bad");
    let lines = proxy.log_lines();
    let well: Vec<_> = lines.iter().filter(|l| l["url.path"] == "/well").collect();
    assert!((70..=200).contains(&well.len()), "{}", well.len());
    assert!(well.iter().all(|l| l["sample"] == 0.33));
}

#[test]
fn routes_say_which_of_their_requests_are_logged() {
    let yaml = "defaults: { access_log: { sample: 0% } }
routes:
  - { match: { path: /health }, respond: { status: 503 }, access_log: off }
  - { match: { path: /static }, respond: { status: 200 } }
  - { match: { path: /broken }, respond: { status: 503 } }
  - { match: { path: /orders }, respond: { status: 200 }, access_log: { sample: 100% } }
";
    let proxy = Proxy::with().start(yaml);
    let mut client = Client::to(proxy.port);
    for path in ["/health", "/static", "/broken", "/nowhere", "/orders"] {
        client.get(path);
    }
    // Lines come in the order in which requests end.
    proxy.logged("/orders");
    let lines = proxy.log_lines();
    let paths: Vec<&str> = lines
        .iter()
        .filter_map(|l| l["url.path"].as_str())
        .collect();
    assert_eq!(paths, ["/broken", "/nowhere", "/orders"]);
}

#[test]
fn a_file_is_moved_aside_when_it_is_large_or_old() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let start = |rotate: &str| {
        let log = format!("{{ path: {}, rotate: {rotate} }}", path.display());
        let routes = "routes: [{ respond: { status: 200 } }]";
        Proxy::with().key("access_log", &log).start(routes)
    };
    let files = || {
        let files = std::fs::read_dir(dir.path()).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    };
    let proxy = start("{ size: 4KiB, keep: 3 }");
    let mut client = Client::to(proxy.port);
    let mut sent = 0;
    until("three are kept beside it", || {
        client.get(&format!("/{sent}"));
        sent += 1;
        files().len() == 4
    });
    // Each line is in one of them, and whole, until there are too many.
    until("all are written", || {
        let texts = files()
            .into_iter()
            .map(|file| std::fs::read_to_string(file).unwrap());
        let paths: Vec<String> = texts
            .flat_map(|text| text.lines().map(parse_line).collect::<Vec<_>>())
            .map(|line| line["url.path"].as_str().unwrap().to_string())
            .collect();
        let all: Vec<String> = (0..sent).map(|n| format!("/{n}")).collect();
        let mut sorted = paths.clone();
        sorted.sort_by_key(|path| path[1..].parse::<u32>().unwrap());
        paths.len() == sent && {
            assert_eq!(sorted, all);
            true
        }
    });
    let first = files().into_iter().find(|file| *file != path).unwrap();
    until("the first goes when there is another", || {
        client.get("/more");
        !first.exists()
    });
    assert_eq!(files().len(), 4);
    drop(proxy);
    // Nothing comes any more, and it is moved aside all the same.
    let proxy = start("{ every: 1s, keep: 100 }");
    let before = files().len();
    get(proxy.port, "/last");
    until("it is old", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.is_empty() && files().len() > before
    });
}

#[test]
fn a_daemon_of_syslog_gets_each_line_as_a_message() {
    let origin = Origin::always(Reply::ok("hello"));
    let yaml = one_route(&[origin.port], "");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("log");
    let start = |place: &str| {
        let log = format!("{{ path: \"{place}\" }}");
        Proxy::with().key("access_log", &log).start(&yaml)
    };
    let line = |proxy: &Proxy, message: &[u8], head: &str| {
        let message = std::str::from_utf8(message).unwrap();
        let (before, line) = message.split_at(message.find('{').unwrap());
        assert!(before.starts_with(head), "{before}");
        assert!(before.contains("backstop") && before.contains(&proxy.pid().to_string()));
        parse_line(line)
    };
    let mut buffer = [0; 4096];
    // Of this host. It need not be there at the start, nor all the time.
    let proxy = start(&format!("syslog://{}", socket.display()));
    assert_eq!(get(proxy.port, "/before").status, 200);
    proxy.said("the access log cannot be written");
    let daemon = UnixDatagram::bind(&socket).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    for path in ["/a", "/b"] {
        assert_eq!(get(proxy.port, path).status, 200);
        let n = daemon.recv(&mut buffer).unwrap();
        assert_eq!(
            line(&proxy, &buffer[..n], "<190>backstop[")["url.path"],
            path
        );
    }
    // One that reads nothing holds up nobody.
    let mut client = Client::to(proxy.port);
    for _ in 0..2_000 {
        assert_eq!(client.get("/many").status, 200);
    }
    drop(proxy);
    // Of another.
    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let proxy = start(&format!("syslog://{}", daemon.local_addr().unwrap()));
    assert_eq!(get(proxy.port, "/c").status, 200);
    let n = daemon.recv(&mut buffer).unwrap();
    let line = line(&proxy, &buffer[..n], "<190>1 20");
    assert_eq!(
        (&line["url.path"], &line["http.response.status_code"]),
        (&"/c".into(), &200.into())
    );
}
