//! Backends with names: looked up off the request path, again and again, the last good answer kept.

use crate::client::get;
use crate::harness::{Proxy, free_port, until};
use crate::origin::Origin;
use crate::reply::Reply;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What the name server says about every name.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    Address(Ipv4Addr),
    ServerFailure,
    NoSuchName,
    Nothing,
}

/// A name server with one answer (RFC 1035 §4), for A; for AAAA there is none.
struct NameServer {
    port: u16,
    shared: Arc<(Mutex<Says>, AtomicUsize, AtomicUsize)>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let port = socket.local_addr().unwrap().port();
        let shared = Arc::new((Mutex::new(says), AtomicUsize::new(0), AtomicUsize::new(0)));
        let state = shared.clone();
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while state.2.load(Ordering::SeqCst) == 0 {
                let Ok((n, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let says = *state.0.lock().unwrap();
                if let Some(reply) = answer(&buffer[..n], says) {
                    let _ = socket.send_to(&reply, from);
                }
                state.1.fetch_add(1, Ordering::SeqCst);
            }
        });
        NameServer {
            port,
            shared,
            thread: Some(thread),
        }
    }

    fn say(&self, says: Says) {
        *self.shared.0.lock().unwrap() = says;
    }

    fn asked(&self) -> usize {
        self.shared.1.load(Ordering::SeqCst)
    }

    /// The static key that makes a process ask this one.
    fn key(&self) -> String {
        format!(
            "{{ servers: [\"127.0.0.1:{}\"], interval: 200ms }}",
            self.port
        )
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.2.store(1, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(query: &[u8], says: Says) -> Option<Vec<u8>> {
    let question_end = 12 + query.get(12..)?.iter().position(|b| *b == 0)? + 5;
    let question = query.get(12..question_end)?;
    let asks_a = question[question.len() - 4..] == [0, 1, 0, 1];
    let (code, address) = match says {
        Says::Address(address) => (0, asks_a.then_some(address)),
        Says::ServerFailure => (2, None),
        Says::NoSuchName => (3, None),
        Says::Nothing => return None,
    };
    let mut reply = query[..2].to_vec();
    // A response, recursion desired and available; one question, at most one answer.
    reply.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::from(address.is_some()),
        0,
        0,
        0,
        0,
    ]);
    reply.extend(question);
    if let Some(address) = address {
        // The name in the question, A, IN, good for five minutes, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Two backends on one port, at [`FIRST`] and [`SECOND`], that say which they are.
fn two() -> (Origin, Origin) {
    let port = free_port();
    let at = |ip: Ipv4Addr, name: &'static str| {
        Origin::at(SocketAddr::from((ip, port)), move |_| Reply::ok(name))
    };
    (at(FIRST, "first"), at(SECOND, "second"))
}

fn yaml(port: u16) -> String {
    format!(
        "upstreams: {{ pool: {{ backends: [\"pool.example.com:{port}\"] }} }}
routes:
  - {{ match: {{ path: / }}, upstream: pool, retry: {{ tries: 1 }}, timeouts: {{ connect: 1s }} }}
"
    )
}

#[test]
fn a_name_is_looked_up_again_and_its_new_address_used() {
    let (first, _second) = two();
    let server = NameServer::start(Says::Address(FIRST));
    let proxy = Proxy::with()
        .key("resolver", &server.key())
        .start(&yaml(first.port));
    until("the first address", || {
        get(proxy.port, "/").text() == "first"
    });
    server.say(Says::Address(SECOND));
    until("the second address", || {
        get(proxy.port, "/").text() == "second"
    });
    // Nothing goes back to the old one.
    let before = first.count();
    for _ in 0..5 {
        assert_eq!(get(proxy.port, "/").text(), "second");
    }
    assert_eq!(first.count(), before);
}

#[test]
fn the_last_good_answer_is_kept_when_lookups_fail() {
    let (first, _second) = two();
    let server = NameServer::start(Says::Address(FIRST));
    let proxy = Proxy::with()
        .key("resolver", &server.key())
        .start(&yaml(first.port));
    until("the first address", || {
        get(proxy.port, "/").text() == "first"
    });
    for failure in [Says::ServerFailure, Says::NoSuchName, Says::Nothing] {
        server.say(failure);
        let asked = server.asked();
        until("two more questions", || server.asked() >= asked + 2);
        for _ in 0..5 {
            let start = Instant::now();
            assert_eq!(get(proxy.port, "/").text(), "first");
            assert!(
                start.elapsed() < Duration::from_millis(900),
                "it waited for a name"
            );
        }
    }
    server.say(Says::Address(SECOND));
    until("it recovers", || get(proxy.port, "/").text() == "second");
}

#[test]
fn a_name_that_cannot_be_resolved_is_503_until_it_can() {
    let (first, _second) = two();
    let server = NameServer::start(Says::NoSuchName);
    let proxy = Proxy::with()
        .key("resolver", &server.key())
        .start(&yaml(first.port));
    let answer = get(proxy.port, "/");
    assert_eq!(answer.status, 503);
    assert!(answer.header("proxy-status").is_some());
    assert_eq!(proxy.logged("/")["retry"], "no_backend");
    server.say(Says::Address(FIRST));
    until("the name is found", || {
        get(proxy.port, "/").text() == "first"
    });
}

#[test]
fn a_name_server_that_is_silent_does_not_hold_up_the_start() {
    let server = NameServer::start(Says::Nothing);
    let origin = Origin::always(Reply::ok("fine"));
    let yaml = format!(
        "upstreams:
  named: {{ backends: [\"pool.example.com:80\"] }}
  plain: {{ backends: [127.0.0.1:{}] }}
routes:
  - {{ match: {{ path: /named }}, upstream: named }}
  - {{ match: {{ path: / }}, upstream: plain }}
",
        origin.port
    );
    let start = Instant::now();
    let proxy = Proxy::with().key("resolver", &server.key()).start(&yaml);
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(get(proxy.port, "/").text(), "fine");
}

#[test]
fn a_reload_keeps_what_was_resolved() {
    let (first, _second) = two();
    let server = NameServer::start(Says::Address(FIRST));
    let proxy = Proxy::with()
        .key("resolver", &server.key())
        .start(&yaml(first.port));
    until("the first address", || {
        get(proxy.port, "/").text() == "first"
    });
    server.say(Says::ServerFailure);
    proxy.reload_with(&yaml(first.port).replace("tries: 1", "tries: 2"));
    assert_eq!(get(proxy.port, "/").text(), "first");
}
