//! Tunnels: what is sent through an open WebSocket, both ways.

use crate::client::Client;
use crate::client_tls::Authority;
use crate::harness::{PATIENCE, PHASES, Proxy, one_route, outcomes};
use crate::origin::Origin;
use crate::reply::{Reply, Request};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

const OPENING: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nx-Own: a\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nDate: Mon, 30 Nov 2026 00:00:00 GMT\r\nX-Own: b\r\n\r\n";

/// What a request is but for what is its own, and for how Pingora writes `Upgrade`.
fn sent(request: &Request) -> Vec<String> {
    let own = |name: &str| name.eq_ignore_ascii_case("x-request-id");
    let fields = request.headers.iter().filter(|(name, _)| !own(name));
    let mut lines: Vec<_> = fields
        .map(|(name, value)| format!("{name}: {value}").replacen("upgrade: ", "Upgrade: ", 1))
        .collect();
    lines.sort_unstable();
    lines.insert(0, format!("{} {}", request.method, request.target));
    lines
}

/// By the straight way, and by Pingora's.
#[test]
fn both_ways_make_the_same_tunnel() {
    let mut seen = Vec::new();
    for rules in ["", "compress: true", PHASES] {
        let origin = Origin::always(Reply::websocket());
        let proxy = Proxy::start(&one_route(&[origin.port], rules));
        let mut client = Client::to(proxy.port);
        client.send(format!(
            "GET /socket?a=b HTTP/1.1\r\nHost: a\r\n{OPENING}early"
        ));
        let head = client.head().unwrap();
        assert_eq!(client.read(5), b"early");
        for message in [
            &b"0\r\n\r\n"[..],
            &[0, 255, 13, 10],
            b"Date: x\r\n",
            &[7; 300_000],
        ] {
            client.send(message);
            assert_eq!(client.read(message.len()), message);
        }
        client.leave();
        let line = proxy.logged("/socket?a=b");
        let told = [
            "http.response.status_code",
            "http.request.body.size",
            "http.response.body.size",
            "retry",
            "error.type",
            "refused",
        ];
        seen.push((
            head.status,
            head.header("upgrade").map(str::to_owned),
            head.header("connection").map(str::to_owned),
            sent(&origin.last()),
            told.map(|field| line[field].clone()),
            outcomes(&line),
        ));
    }
    assert_eq!(seen[0], seen[1]);
    let all = 5 + 5 + 4 + 9 + 300_000;
    let told = [101, all, all].map(serde_json::Value::from);
    assert_eq!((seen[0].0, &seen[0].4[..3]), (101, &told[..]));
    assert!(
        seen[0].3.contains(&"Connection: Upgrade".to_string()),
        "{:?}",
        seen[0].3
    );
}

#[test]
fn the_head_that_switches_goes_on_as_it_came_and_what_follows_it_too() {
    let origin = Origin::always(Reply::raw(format!("{SWITCH}hello")).closing());
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    client.send(format!("GET /socket HTTP/1.1\r\nHost: a\r\n{OPENING}"));
    let head = client.head().unwrap();
    let fields = ["upgrade", "connection", "date", "x-own"].map(|name| head.header(name).unwrap());
    assert_eq!(
        fields,
        ["websocket", "Upgrade", "Mon, 30 Nov 2026 00:00:00 GMT", "b"]
    );
    assert_eq!(client.read(5), b"hello");
    // The backend's end is the client's.
    client.expect_close();
    let line = proxy.logged("/socket");
    assert_eq!(
        (&line["http.response.body.size"], outcomes(&line)),
        (&5.into(), vec!["ok".to_string()])
    );
}

#[test]
fn a_backend_that_does_not_switch_answers_as_ever() {
    let origin = Origin::always(Reply::ok("no"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    for _ in 0..2 {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{OPENING}"));
        assert_eq!(client.answer().text(), "no");
    }
}

#[test]
fn messages_pass_by_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "a", &["a.example"]);
    let origin = Origin::always(Reply::websocket());
    let proxy = Proxy::with()
        .listener(&pair.tls())
        .start(&one_route(&[origin.port], ""));
    let mut client = authority.client().to(proxy.port, "a.example").unwrap();
    client
        .send(format!("GET /socket HTTP/1.1\r\nHost: a.example\r\n{OPENING}").as_bytes())
        .unwrap();
    assert_eq!(client.answer().unwrap().status, 101);
    for message in [&b"short"[..], &[7; 300_000]] {
        client.send(message).unwrap();
        assert_eq!(client.read(message.len()).unwrap(), message);
    }
}

/// A client that takes nothing is heard all the same, and so is a backend.
#[test]
fn one_way_that_is_full_does_not_hold_up_the_other() {
    const MUCH: usize = 40 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&one_route(&[listener.local_addr().unwrap().port()], ""));
    let (heard, hears) = mpsc::channel();
    let backend = thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tcp.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        tcp.write_all(SWITCH.as_bytes()).unwrap();
        let mut writing = tcp.try_clone().unwrap();
        let writer = thread::spawn(move || writing.write_all(&vec![b'x'; MUCH]).unwrap());
        for _ in 0..3 {
            let mut message = [0; 4];
            tcp.read_exact(&mut message).unwrap();
            heard.send(message).unwrap();
        }
        writer.join().unwrap();
    });
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
        .write_all(format!("GET /socket HTTP/1.1\r\nHost: a\r\n{OPENING}").as_bytes())
        .unwrap();
    for _ in 0..3 {
        client.write_all(b"ping").unwrap();
        assert_eq!(&hears.recv_timeout(PATIENCE).unwrap(), b"ping");
    }
    let mut came = Vec::new();
    client.read_to_end(&mut came).unwrap();
    assert!(came.ends_with(&vec![b'x'; MUCH]));
    backend.join().unwrap();
}
