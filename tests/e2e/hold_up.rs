//! What clients could hold up, break or get past: slow ones, silent ones, tunnels, odd hosts, a log nobody reads.

use crate::admin::with_admin;
use crate::client::{Client, get, request};
use crate::client2::Client2;
use crate::harness::{
    BACKSTOP, PATIENCE, Proxy, eventually, free_port, never_ejecting, one_route, outcomes, until,
};
use crate::observe::{metrics, value};
use crate::origin::Origin;
use crate::reply::Reply;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
/// More than the sockets between a backend and a client that does not read can hold.
const LARGE: usize = 40 * 1024 * 1024;

#[test]
fn a_websocket_that_breaks_is_neither_repeated_nor_answered() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello";
    let origin = Origin::always(Reply::raw(switch).after(50 * MS).then(Reply::reset()));
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { tries: 3, wait: 1ms }"));
    let mut client = Client::to(proxy.port);
    let headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    client.begin("GET", "/socket", &headers, b"");
    assert_eq!(client.answer().status, 101);
    assert_eq!(client.read(5), b"hello");
    client.expect_close();
    assert_eq!(origin.count(), 1);
    let line = proxy.logged("/socket");
    assert_eq!(
        (&line["http.response.status_code"], outcomes(&line)),
        (&101.into(), vec!["reset".to_string()])
    );
}

/// It may be silent on one side for as long as it likes.
#[test]
fn a_websocket_ends_when_it_is_silent_both_ways() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello";
    let origin = Origin::always(Reply::raw(switch).then(Reply::hang()));
    let limits = "timeouts: { websocket: 500ms, total: 1s, idle: 100ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], limits));
    let mut client = Client::to(proxy.port);
    let headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    client.begin("GET", "/socket", &headers, b"");
    assert_eq!(client.answer().status, 101);
    assert_eq!(client.read(5), b"hello");
    for _ in 0..8 {
        assert!(client.is_silent_for(200 * MS));
        client.send("x");
    }
    let began = Instant::now();
    client.expect_close();
    let silent = began.elapsed();
    assert!((400 * MS..4 * MS * 1000).contains(&silent), "{silent:?}");
    let line = proxy.logged("/socket");
    assert_eq!(
        (&line["http.response.status_code"], outcomes(&line)),
        (&101.into(), vec!["ok".to_string()])
    );
}

#[test]
fn a_client_that_pauses_gets_all_of_its_answer() {
    let origin = Origin::always(Reply::ok(vec![b'x'; LARGE]));
    let proxy = Proxy::start(&one_route(&[origin.port], "timeouts: { idle: 200ms }"));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    client.head().expect("a head");
    let mut left = LARGE;
    for _ in 0..3 {
        left -= client.read(1_000_000).len();
        // The pause is what is tested: three times what a backend may take.
        thread::sleep(600 * MS);
    }
    assert_eq!(client.read(left).len(), left);
    assert_eq!(proxy.logged("/")["retry"], "answered");
}

#[test]
fn a_client_that_takes_nothing_is_let_go_when_total_is_over() {
    let origin = Origin::always(Reply::ok(vec![b'x'; LARGE]));
    let proxy = Proxy::start(&one_route(&[origin.port], "timeouts: { total: 1s }"));
    let mut client = Client::to(proxy.port);
    let start = Instant::now();
    client.begin("GET", "/", &[], b"");
    let line = proxy.logged("/");
    assert!(start.elapsed() < PATIENCE / 3, "{:?}", start.elapsed());
    assert_eq!(
        (&line["http.response.status_code"], &line["retry"]),
        (&200.into(), &"client_left".into())
    );
}

#[test]
fn an_upgrade_that_is_no_websocket_keeps_the_deadlines() {
    let origin = Origin::always(Reply::hang());
    let rules = "retry: { tries: 1 }\ntimeouts: { first_byte: 200ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let headers = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
    ];
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &headers, b"");
    assert_eq!(client.answer().status, 504);
}

#[test]
fn a_websocket_that_never_opens_keeps_them_too() {
    let origin = Origin::always(Reply::hang());
    let rules = "retry: { tries: 1 }\ntimeouts: { first_byte: 200ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let mut client = Client::to(proxy.port);
    let headers = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    client.begin("GET", "/", &headers, b"");
    assert_eq!(client.answer().status, 504);
}

/// All requests together: who sends slowly, on however many connections, does not fill the memory.
#[test]
fn so_much_content_is_held_and_no_more() {
    let origin = Origin::always(Reply::ok("fine"));
    let pool = format!(
        "upstreams: {{ pool: {{ backends: [127.0.0.1:{}], eject: off }} }}",
        origin.port
    );
    let rules = "retry: { tries: 2, wait: 1ms, max_body: 400000B }";
    let (setup, admin) = with_admin();
    let proxy = setup
        .key("clients", "{ max_held: 300000B }")
        .start(&format!(
            "{pool}\nroutes:\n  - {{ match: {{ path: /json }}, upstream: pool, require: {{ json: any }} }}\n  - {{ upstream: pool, {rules} }}\n"
        ));
    let mut slow = Client::to(proxy.port);
    slow.send("PUT /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
    slow.send(vec![b'x'; 299_950]);
    let json = |path: &str| {
        let text = format!("[{}1]", "1,".repeat(50));
        let kind = [("Content-Type", "application/json")];
        request(proxy.port, "POST", path, &kind, text.as_bytes())
    };
    let held = || value(&metrics(admin), "backstop_held_bytes");
    until("so much is held", || held() == Some(299_950.0));
    let refused = json("/json");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let error = "backstop; error=connection_limit_reached; details=\"max_held\"";
    assert_eq!(refused.header("proxy-status"), Some(error));
    // What is not held goes through all the same, once.
    origin.set(|r| match &*r.target {
        "/once" => Reply::status(500),
        _ => Reply::ok("fine"),
    });
    let body = vec![b'y'; 160_000];
    assert_eq!(request(proxy.port, "PUT", "/once", &[], &body).status, 500);
    let line = proxy.logged("/once");
    assert_eq!(
        (&line["retry"], outcomes(&line).len()),
        (&"body_too_large".into(), 1)
    );
    assert_eq!(origin.last().body, body);
    slow.send([b'x'; 50]);
    assert_eq!(slow.answer().text(), "fine");
    // Its client hears of the end a moment before the request is over.
    until("nothing is held", || held() == Some(0.0));
    let before = origin.count();
    origin.set(move |r| match r.number == before {
        true => Reply::status(500),
        false => Reply::ok("at the second try"),
    });
    let answer = request(proxy.port, "PUT", "/again", &[], &body);
    assert_eq!(answer.text(), "at the second try");
    assert_eq!(json("/json").status, 200);
    until("nothing is held any more", || held() == Some(0.0));
}

/// Whether it is read ahead or goes to the backend as it comes. Who has been as fast as asked may pause later.
/// What is taken from them in turn comes in order and whole, with lengths and in chunks, by HTTP/2 as well.
#[test]
fn many_slow_clients_that_send_at_the_same_moment_all_send_what_they_mean() {
    let origin = Origin::new(|r| Reply::ok(&r.body));
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    let piece = |n: usize, turn: usize| format!("{:>10}", n * 10 + turn);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let mut clients: Vec<Client> = (0..300).map(|_| Client::to(proxy.port)).collect();
    let mut second = Client2::to(proxy.port);
    let mut stream = second.begin("POST", "/", &[], false);
    for (n, client) in clients.iter_mut().enumerate() {
        let framing = match n % 2 {
            0 => "Content-Length: 30",
            _ => "Transfer-Encoding: chunked",
        };
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
    }
    for turn in 0..3 {
        // Long enough that they are slow.
        assert!(
            clients
                .first_mut()
                .unwrap()
                .is_silent_for(Duration::from_millis(700))
        );
        for (n, client) in clients.iter_mut().enumerate() {
            let piece = piece(n, turn);
            client.send(match (n % 2, turn) {
                (0, _) => piece,
                (_, 2) => format!("{}0\r\n\r\n", chunk(&piece)),
                _ => chunk(&piece),
            });
        }
        second.send(&mut stream, piece(300, turn).as_bytes(), turn == 2);
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let whole: String = (0..3).map(|turn| piece(n, turn)).collect();
        assert_eq!(client.answer().text(), whole);
    }
    let whole: String = (0..3).map(|turn| piece(300, turn)).collect();
    assert_eq!(second.answer(stream).text(), whole);
}

#[test]
fn a_body_that_comes_too_slowly_is_given_up() {
    let origin = Origin::always(Reply::ok("fine"));
    let yaml = one_route(&[origin.port], "timeouts: { total: 10m }");
    let proxy = Proxy::with()
        .http2()
        .key("clients", "{ min_body_rate: 1000B }")
        .start(&yaml);
    let head = |method: &str, length: usize, more: &str| {
        format!("{method} /{length} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{more}\r\n")
    };
    // What only says that it goes both ways is as the others.
    let mut drips: Vec<_> = [
        ("POST", 30, ""),
        ("PUT", 100_000, ""),
        ("POST", 31, "Content-Type: application/grpc\r\n"),
        ("POST", 32, "Upgrade: websocket\r\n"),
    ]
    .into_iter()
    .map(|(method, length, more)| {
        let mut client = Client::to(proxy.port);
        client.send(head(method, length, more));
        (client, method, length)
    })
    .collect();
    let mut second = Client2::to(proxy.port);
    let mut stream = second.begin("POST", "/2", &[], false);
    let mut quick = Client::to(proxy.port);
    quick.send(head("POST", 30_000, ""));
    quick.send(vec![b'x'; 29_999]);
    let began = Instant::now();
    while origin.requests().iter().all(|r| !r.abandoned) && began.elapsed() < PATIENCE {
        for (client, ..) in &mut drips {
            let _ = client.try_send("x");
        }
        second.send(&mut stream, b"x", false);
        thread::park_timeout(Duration::from_millis(500));
    }
    for (client, method, length) in &mut drips {
        assert_eq!(client.answer_to(method).status, 408);
        let line = proxy.logged(&format!("/{length}"));
        assert_eq!(line["retry"], "body_unfinished");
    }
    assert_eq!(second.answer(stream).status, 408);
    let took = began.elapsed();
    assert!((9..15).contains(&took.as_secs()), "{took:?}");
    quick.send("x");
    assert_eq!(quick.answer_to("POST").status, 200);
}

#[test]
fn a_client_that_stops_sending_its_body_is_not_blamed_on_a_backend() {
    let origin = Origin::always(Reply::ok("fine"));
    let rules = "retry: { tries: 3, wait: 1ms }\ntimeouts: { first_byte: 200ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let mut client = Client::to(proxy.port);
    client.send("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nfirst");
    assert_eq!(client.answer_to("PUT").status, 408);
    let line = proxy.logged("/upload");
    assert_eq!(line["retry"], "body_unfinished");
    assert_eq!(outcomes(&line), ["client_timeout"]);
}

#[test]
fn an_early_answer_without_a_body_is_an_answer() {
    let origin = Origin::on_head(|_| Reply::answer(204, &[], b"").having_read(5));
    let proxy = Proxy::start(&one_route(&[origin.port], "timeouts: { idle: 10s }"));
    let mut client = Client::to(proxy.port);
    client.send("PUT /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nfirst");
    assert_eq!(client.answer_to("PUT").status, 204);
    let line = proxy.logged("/early");
    assert_eq!(
        (&line["http.response.status_code"], &line["retry"]),
        (&204.into(), &"answered".into())
    );
    assert_eq!(outcomes(&line), ["ok"]);
}

#[test]
fn an_answer_to_an_unwanted_body_reaches_the_client() {
    let rules = "retry: { tries: 1 }";
    // Nothing listens there: the first is told that the connection failed, later ones that the service is not there.
    let proxy = Proxy::start(&one_route(&[free_port()], rules));
    let body = vec![b'x'; 3_000_000];
    for _ in 0..10 {
        let mut client = Client::to(proxy.port);
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        for piece in body.chunks(100_000) {
            client
                .try_send(piece)
                .expect("the proxy reads on until the client is done");
        }
        assert!(matches!(client.answer_to("POST").status, 502 | 503));
    }
}

#[test]
fn a_client_that_leaves_after_100_continue_left() {
    let origin = Origin::always(Reply::ok("fine"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    let head =
        "PUT /c HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\nExpect: 100-continue\r\n\r\n";
    client.send(head);
    assert_eq!(client.head().expect("a head").status, 100);
    client.leave();
    assert_eq!(proxy.logged("/c")["http.response.status_code"], 499);
}

#[test]
fn a_host_that_is_none_is_refused() {
    let origin = Origin::always(Reply::ok("fine"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    for host in [
        "secret.test\u{ff}",
        "secret.test, a",
        "secret.test/x",
        "a b",
        ":80",
        "a:b",
        "u@a",
    ] {
        let mut client = Client::to(proxy.port);
        client.send(format!(
            "GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n",
            host.len()
        ));
        assert_eq!(client.answer().status, 400, "{host:?}");
    }
    for target in ["nopath", "no/path", "?query"] {
        let mut client = Client::to(proxy.port);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.answer().status, 400, "{target}");
    }
    let mut client = Client::to(proxy.port);
    client.send("GET /none HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    assert_eq!(origin.count(), 0);
    for host in ["a", "a.b:80", "[::1]:80", "127.0.0.1"] {
        let mut client = Client::to(proxy.port);
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.answer().status, 200, "{host:?}");
    }
}

#[test]
fn http_1_0_without_a_host_gets_one_on_its_way() {
    let origin = Origin::always(Reply::ok("fine"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let backend = format!("127.0.0.1:{}", origin.port);
    assert_eq!(origin.last().header("host"), Some(backend.as_str()));
}

#[test]
fn requests_go_on_when_nobody_reads_the_process_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let origin = Origin::always(Reply::close());
    let yaml = format!(
        "listeners: [{{ address: 127.0.0.1:{port} }}]\nworkers: 1\naccess_log: {{ path: off }}\n---\n{}",
        never_ejecting(&one_route(&[origin.port], "retry: { tries: 1 }"))
    );
    std::fs::write(dir.path().join("backstop.yaml"), yaml).expect("a file");
    let mut child = Command::new(BACKSTOP)
        .args(["-c", "backstop.yaml"])
        .current_dir(dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut client = eventually("a listener", || Client::try_to(port).ok());
    // Each leaves a line of some 200 bytes; a pipe holds 64 KiB.
    let path = format!("/{}", "x".repeat(100));
    let answered = (0..1_500)
        .filter(|_| client.get(&path).status == 502)
        .count();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(answered, 1_500);
}

/// A log that nobody takes, of lines as long as clients make them, costs no request, some memory, and is counted.
#[test]
fn an_access_log_that_nobody_reads_is_dropped_beyond_its_bound() {
    for format in ["combined", "json"] {
        drop_beyond_bound(format);
    }
}

fn drop_beyond_bound(format: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let (port, admin) = (free_port(), free_port());
    let yaml = format!(
        "listeners: [{{ address: 127.0.0.1:{port} }}]\nworkers: 1\naccess_log: {{ path: stdout, format: {format} }}\nadmin: {{ address: 127.0.0.1:{admin} }}\n---\nroutes:\n  - {{ match: {{ path: / }}, respond: {{ status: 200 }} }}\n",
    );
    std::fs::write(dir.path().join("backstop.yaml"), yaml).expect("a file");
    let mut child = Command::new(BACKSTOP)
        .args(["-c", "backstop.yaml"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let mut client = eventually("a listener", || Client::try_to(port).ok());
    let agent = "x".repeat(50_000);
    let fields = [("User-Agent", agent.as_str())];
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        let kilobytes: String = line.chars().filter(char::is_ascii_digit).collect();
        kilobytes.parse::<u64>().unwrap() / 1024
    };
    let before = memory();
    let asked = 2_500;
    let answered = (0..asked)
        .filter(|_| client.request("GET", "/", &fields, b"").status == 200)
        .count();
    let grown = memory().saturating_sub(before);
    let dropped = value(&metrics(admin), "backstop_access_log_dropped_lines_total");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(answered, asked);
    // 125 MB of lines, of which 64 MiB may wait.
    assert!(dropped > Some(500.0), "{dropped:?}");
    assert!(grown < 110, "{grown} MiB");
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let (setup, admin) = with_admin();
    let proxy = setup
        .key("access_log", "{ path: /dev/full }")
        .start("routes:\n  - { match: { path: / }, respond: { status: 200 } }\n");
    for _ in 0..10 {
        assert_eq!(get(proxy.port, "/").status, 200);
    }
    until("they are counted", || {
        value(&metrics(admin), "backstop_access_log_dropped_lines_total") == Some(10.0)
    });
}

#[test]
fn a_connection_survives_what_it_is_refused() {
    let origin = Origin::always(Reply::ok("fine"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    assert_eq!(get(proxy.port, "/").status, 200);
    let mut client = Client::to(proxy.port);
    assert_eq!(client.get("/%zz").status, 400);
    assert_eq!(client.get("/").text(), "fine");
}
