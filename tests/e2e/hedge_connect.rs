//! A second request while the first has no connection yet.

use crate::admin::with_admin;
use crate::client::{Client, get};
use crate::client_tls::Authority;
use crate::harness::{PATIENCE, Proxy, free_port, one_route, outcomes, until, with_upstream};
use crate::maintenance::status;
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use crate::timeouts::BlackHole;
use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
/// The routes of one that answers by itself.
const QUICK: &str = "routes:\n  - { match: { path: / }, respond: { status: 200, body: quick } }\n";

/// Two backends with TLS, of which the first takes connections and says nothing.
struct Hung {
    listener: TcpListener,
    _behind: Proxy,
    proxy: Proxy,
}

/// The second one has these routes, the route to both these rules, and their upstream these lines.
fn hung_and(behind: &str, rules: &str, lines: &str) -> Hung {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["api.internal"]);
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let tls = pair.tls();
    let behind = Proxy::with().listener(&tls).start(behind);
    let pool = one_route(&[listener.local_addr().unwrap().port(), behind.port], rules);
    let tls = format!(
        "tls: {{ sni: api.internal, ca: {} }}\n{lines}",
        ca.display()
    );
    Hung {
        listener,
        _behind: behind,
        proxy: Proxy::start(&with_upstream(&pool, &tls)),
    }
}

/// Also where the first has no connection yet: nobody waits for `connect`.
#[test]
fn a_late_connection_is_overtaken_as_well() {
    let hole = BlackHole::new();
    let quick = Origin::always(Reply::ok("quick"));
    let rules = "hedge: { after: 100ms }\ntimeouts: { connect: 8s }";
    let text = one_route(&[hole.port, quick.port], rules);
    let (setup, admin) = with_admin();
    let proxy = setup.start(&with_upstream(&text, "eject: off"));
    let start = Instant::now();
    assert_eq!(get(proxy.port, "/").text(), "quick");
    let took = start.elapsed();
    assert!((100 * MS..4_000 * MS).contains(&took), "{took:?}");
    assert_eq!(outcomes(&proxy.logged("/")), ["hedged", "ok"]);
    assert_eq!(quick.count(), 1);
    assert_eq!(status(admin)["routes"][0]["hedged_total"], 1);
}

/// Nobody waited for that connection, but it is known what came of it.
#[test]
fn a_host_that_is_gone_is_found_to_be_unreachable_although_others_answer_for_it() {
    let hole = BlackHole::new();
    let quick = Origin::always(Reply::ok("quick"));
    let rules = "hedge: { after: 20ms, budget: 100% }\ntimeouts: { connect: 2s }";
    let proxy = Proxy::start(&one_route(&[hole.port, quick.port], rules));
    let mut client = Client::to(proxy.port);
    until("it is unreachable", || {
        assert_eq!(client.get("/").text(), "quick");
        proxy.count_said("is unreachable") == 1
    });
    let tries = proxy.log_lines();
    assert!(
        tries
            .iter()
            .all(|l| !outcomes(l).contains(&"timeout".into()))
    );
}

/// Nor for that handshake.
#[test]
fn a_process_that_hangs_before_its_handshake_is_found_to_be_unreachable_as_well() {
    let rules = "hedge: { after: 20ms, budget: 100% }\ntimeouts: { connect: 300ms }";
    let hung = hung_and(QUICK, rules, "");
    let mut client = Client::to(hung.proxy.port);
    until("it is unreachable", || {
        assert_eq!(client.get("/").text(), "quick");
        hung.proxy.count_said("is unreachable") == 1
    });
}

/// The connection is there, and what should follow is not: a process that hangs, behind a kernel that does not.
#[test]
fn a_late_handshake_is_overtaken_as_well() {
    let rules = "hedge: { after: 100ms, budget: 100% }\ntimeouts: { connect: 3s }";
    let hung = hung_and(QUICK, rules, "eject: off");
    let mut client = Client::to(hung.proxy.port);
    let start = Instant::now();
    for n in 0..6 {
        let path = format!("/{n}");
        assert_eq!(client.get(&path).text(), "quick");
        let tries = outcomes(&hung.proxy.logged(&path));
        let expected = [&["hedged", "ok"][..], &["ok"][..]][n % 2];
        assert_eq!(tries, expected);
    }
    let took = start.elapsed();
    assert!((300 * MS..6_000 * MS).contains(&took), "{took:?}");
    // What is given up is closed, and so is, some time later, what found out what was the matter.
    hung.listener.set_nonblocking(true).unwrap();
    let given_up: Vec<_> = hung.listener.incoming().map_while(Result::ok).collect();
    assert!(given_up.len() >= 3);
    for mut stream in given_up {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut hello = Vec::new();
        stream.read_to_end(&mut hello).expect("an end");
        assert!(!hello.is_empty());
    }
}

#[test]
fn a_first_that_cannot_connect_before_it_is_late_is_retried_as_ever() {
    let quick = Origin::always(Reply::ok("quick"));
    let rules = "hedge: { after: 50ms }\nretry: { tries: 2, wait: 300ms }";
    let proxy = Proxy::start(&with_upstream(
        &one_route(&[free_port(), quick.port], rules),
        "eject: off",
    ));
    for n in 0..4 {
        let path = format!("/{n}");
        assert_eq!(get(proxy.port, &path).text(), "quick");
        let tries = outcomes(&proxy.logged(&path));
        let expected = [&["connect_failure", "ok"][..], &["ok"][..]][n % 2];
        assert_eq!(tries, expected);
    }
    assert_eq!(quick.count(), 4);
}

/// What happens later is no matter of the second request any more.
#[test]
fn an_answer_that_breaks_off_after_a_late_handshake_is_neither_repeated_nor_mixed() {
    let gate = Gate::default();
    let open = gate.clone();
    let breaks = Origin::new(move |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbeginning";
        Reply::raw(head).then(Reply::reset().when(&open))
    });
    let behind = one_route(&[breaks.port], "retry: { tries: 1 }");
    let rules = "hedge: { after: 100ms, budget: 100% }\nretry: { tries: 3, wait: 1ms }\ntimeouts: { connect: 8s }";
    let hung = hung_and(&behind, rules, "eject: off");
    let mut client = Client::to(hung.proxy.port);
    client.begin("GET", "/", &[], b"");
    until("the answer has begun", || breaks.count() == 1);
    assert!(!client.is_silent_for(5_000 * MS));
    gate.open();
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert!(!answer.complete, "{}", answer.text());
    assert!(
        b"beginning".starts_with(&answer.body[..]),
        "{}",
        answer.text()
    );
    let line = hung.proxy.logged("/");
    assert_eq!(outcomes(&line), ["hedged", "reset"]);
    assert_eq!(breaks.count(), 1);
}
