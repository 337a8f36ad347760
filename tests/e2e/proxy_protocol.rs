//! Who is behind a load balancer that forwards TCP and says so by the PROXY protocol.

use crate::client::Client;
use crate::client_tls::Authority;
use crate::client2::Client2;
use crate::command::run;
use crate::harness::{Proxy, Setup, eventually, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;
use std::time::{Duration, Instant};

const KEY: &str = "proxy_protocol: true";

/// A listener for proxies, which those of this machine are.
fn behind(listener: &str) -> Setup {
    let listener = [KEY, listener].join(", ");
    let listener = listener.trim_end_matches(", ");
    Proxy::with()
        .listener(listener)
        .key("trusted_proxies", "[127.0.0.1]")
}

fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    let begin = b"\r\n\r\n\0\r\nQUIT\n";
    [&begin[..], &[command, family], &length, rest].concat()
}

fn heads() -> Vec<(Vec<u8>, &'static str)> {
    let v4 = [192, 0, 2, 7, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];
    let mut v6 = [0; 36];
    v6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    v6[15] = 1;
    vec![
        (
            b"PROXY TCP4 192.0.2.9 192.0.2.2 56324 443\r\n".to_vec(),
            "192.0.2.9",
        ),
        (
            b"PROXY TCP6 2001:db8::9 2001:db8::2 1 2\r\n".to_vec(),
            "2001:db8::9",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (version_2(0x21, 0x11, &v4), "192.0.2.7"),
        (version_2(0x21, 0x21, &v6), "2001:db8::1"),
        (version_2(0x20, 0x11, &v4), "127.0.0.1"),
    ]
}

#[test]
fn the_client_is_who_connected_to_the_load_balancer() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let proxy = behind("").start(&one_route(&[origin.port], ""));
    for (n, (head, client)) in heads().into_iter().enumerate() {
        for in_parts in [false, true] {
            let mut connection = Client::to(proxy.port);
            let path = format!("/{n}/{in_parts}");
            let begin = [&head[..], b"GET "].concat();
            match in_parts {
                true => begin.iter().for_each(|byte| connection.send([*byte])),
                false => connection.send(&begin),
            }
            connection.send(format!("{path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(connection.answer().text(), "hello");
            assert_eq!(proxy.logged(&path)["client.address"], client, "{path}");
            // It is said once, not for each request.
            assert_eq!(connection.get("/again").status, 200);
        }
    }
    let asked = origin.requests();
    let first = asked.iter().find(|r| r.target == "/0/false").unwrap();
    assert_eq!(first.header("x-forwarded-for"), Some("192.0.2.9"));
}

/// The balancer is trusted, but what stands in the request was written by somebody it did not name.
#[test]
fn who_is_not_named_is_not_believed() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let proxy = behind("").http2().start(&one_route(&[origin.port], ""));
    let v4 = [192, 0, 2, 7, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];
    let trusted = b"PROXY TCP4 127.0.0.1 192.0.2.2 56324 443\r\n".to_vec();
    for (n, (head, client)) in [
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (version_2(0x20, 0x11, &v4), "127.0.0.1"),
        (version_2(0x21, 0, &[]), "127.0.0.1"),
        (trusted, "198.51.100.9"),
    ]
    .into_iter()
    .enumerate()
    {
        let forged = [
            ("X-Forwarded-For", "198.51.100.9"),
            ("X-Forwarded-Proto", "https"),
        ];
        let paths = [format!("/{n}/1"), format!("/{n}/2")];
        let mut connection = Client::to(proxy.port);
        connection.send(&head);
        connection.request("GET", &paths[0], &forged, b"");
        Client2::introduced(proxy.port, &head).request("GET", &paths[1], &forged, b"");
        for path in paths {
            let seen = origin.requests().into_iter().find(|r| r.target == path);
            let seen = seen.expect("it came");
            assert_eq!(proxy.logged(&path)["client.address"], client, "{path}");
            let way = match client {
                "127.0.0.1" => "127.0.0.1",
                _ => "198.51.100.9, 127.0.0.1",
            };
            assert_eq!(seen.header("x-forwarded-for"), Some(way), "{path}");
            let https = client != "127.0.0.1";
            let told = seen.header("x-forwarded-proto") == Some("https");
            assert_eq!(told, https, "{path}");
        }
    }
}

#[test]
fn lists_go_by_the_client_and_what_it_writes_itself_counts_for_nothing() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let proxy = behind("deny: [192.0.2.0/24]").start(&one_route(&[origin.port], ""));
    for (client, status) in [("192.0.2.9", 403), ("198.51.100.9", 200)] {
        let mut connection = Client::to(proxy.port);
        connection.send(format!("PROXY TCP4 {client} 192.0.2.2 1 2\r\n"));
        let forged = ("X-Forwarded-For", "203.0.113.1");
        connection.begin("GET", "/", &[forged], b"");
        assert_eq!(connection.answer().status, status, "{client}");
        assert_eq!(connection.get("/").status, status);
    }
    until("both lines", || proxy.log_lines().len() == 4);
    assert!(
        proxy
            .log_lines()
            .iter()
            .all(|line| line["client.address"] != "203.0.113.1")
    );
}

#[test]
fn connections_are_counted_by_client() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let setup = behind("").key("clients", "{ max_per_address: 2 }");
    let proxy = setup.start(&one_route(&[origin.port], ""));
    let from = |client: &str| {
        let mut connection = Client::to(proxy.port);
        connection.send(format!("PROXY TCP4 {client} 192.0.2.2 1 2\r\n"));
        connection
    };
    let mut kept: Vec<Client> = (0..2).map(|_| from("192.0.2.1")).collect();
    for connection in &mut kept {
        assert_eq!(connection.get("/").status, 200);
    }
    from("192.0.2.1").expect_close();
    assert_eq!(from("192.0.2.2").get("/").status, 200);
}

#[test]
fn it_comes_before_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let origin = Origin::new(|_| Reply::ok("hello"));
    let tls = pair.tls();
    let proxy = behind(&tls).start(&one_route(&[origin.port], ""));
    for (head, client) in heads() {
        let tls = authority.client().after(&head);
        let path = format!("/of-{client}");
        let answer = tls.to(proxy.port, "a.example").unwrap().get(&path);
        assert_eq!(answer.unwrap().status, 200);
        assert_eq!(proxy.logged(&path)["client.address"], client);
    }
    assert!(authority.client().to(proxy.port, "a.example").is_err());
}

#[test]
fn who_says_it_wrong_is_disconnected_and_logged() {
    let proxy = behind("").start(&one_route(&[9], ""));
    let wrong: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &version_2(0x21, 0x11, &[1, 2, 3]),
        &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
    ];
    for (n, bytes) in wrong.into_iter().enumerate() {
        let mut connection = Client::to(proxy.port);
        connection.send(bytes);
        connection.expect_close();
        let lines = eventually("its line", || {
            let lines = proxy.log_lines();
            (lines.len() == n + 1).then_some(lines)
        });
        assert_eq!(
            (&lines[n]["refused"], &lines[n]["client.address"]),
            (&"proxy_protocol".into(), &"127.0.0.1".into())
        );
    }
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let setup = behind("").key("clients", "{ head_timeout: 300ms }");
    let proxy = setup.start(&one_route(&[9], ""));
    for begun in ["", "PROXY TCP4 192.0"] {
        let mut connection = Client::to(proxy.port);
        connection.send(begun);
        let began = Instant::now();
        connection.expect_close();
        assert!(began.elapsed() < Duration::from_secs(3));
    }
    // Nor does it hold up the end of the process.
    let setup = behind("").key("clients", "{ head_timeout: 60s }");
    let mut proxy = setup.start(&one_route(&[9], ""));
    let mut connection = Client::to(proxy.port);
    connection.send("PROXY ");
    proxy.signal(rustix::process::Signal::TERM);
    connection.expect_close();
    let (status, took) = proxy.wait_exit(Duration::from_secs(4));
    assert!(status.success(), "{took:?}");
}

#[test]
fn only_trusted_proxies_may_say_it() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let proxy = Proxy::with()
        .listener(KEY)
        .key("trusted_proxies", "[192.0.2.1]")
        .start(&one_route(&[origin.port], ""));
    let mut connection = Client::to(proxy.port);
    connection.send("PROXY TCP4 192.0.2.9 192.0.2.2 1 2\r\n");
    connection.expect_close();
    assert!(
        proxy
            .said("turned away")
            .contains("127.0.0.1 is not among trusted_proxies")
    );
    assert_eq!(origin.count(), 0);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backstop.yaml");
    let text = format!("listeners: [{{ address: 127.0.0.1:1, {KEY} }}]\n---\nroutes: []\n");
    std::fs::write(&file, text).unwrap();
    let checked = run(&["-t", "-c", file.to_str().unwrap()], dir.path());
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        said.contains("listeners[0].proxy_protocol: no proxy is trusted"),
        "{said}"
    );
}
