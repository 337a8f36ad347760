//! Drain and exit: what was accepted is answered, and then the process is gone at once.

use crate::client::{Client, get};
use crate::client2::Client2;
use crate::harness::{Proxy, free_port, one_route, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use rustix::process::Signal;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_millis(2_500);

/// A request sent so long before the signal counts as accepted even if no backend has seen it.
const ACCEPTED: Duration = Duration::from_millis(100);

/// A backend that answers when the gate opens, and a process in front of it.
fn held(drain_timeout: &str) -> (Gate, Origin, Proxy) {
    let gate = Gate::default();
    let waits = gate.clone();
    let origin = Origin::new(move |_| Reply::ok("finished").when(&waits));
    let setup = Proxy::with().http2().key("drain_timeout", drain_timeout);
    let proxy = setup.start(&one_route(&[origin.port], ""));
    (gate, origin, proxy)
}

fn refuses_connections(proxy: &Proxy) {
    until("no new connection is taken", || {
        Client::try_to(proxy.port).is_err()
    });
}

#[test]
fn requests_under_way_finish_and_then_it_exits_at_once() {
    for signal in [Signal::TERM, Signal::QUIT] {
        let (gate, origin, mut proxy) = held("20s");
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/", &[], b"");
        let mut client2 = Client2::to(proxy.port);
        let stream = client2.begin("GET", "/", &[], true);
        origin.request(1);
        proxy.signal(signal);
        refuses_connections(&proxy);
        assert!(proxy.is_alive());
        gate.open();
        assert_eq!(client.answer().text(), "finished");
        assert_eq!(client2.answer(stream).text(), "finished");
        let (status, took) = proxy.wait_exit(SOON);
        assert!(status.success(), "{status}");
        assert!(took < SOON, "{took:?}");
    }
}

#[test]
fn an_idle_process_exits_at_once_whatever_connections_are_open() {
    let origin = Origin::always(Reply::ok("fine"));
    let setup = Proxy::with().http2().key("drain_timeout", "20s");
    let mut proxy = setup.start(&one_route(&[origin.port], ""));
    let mut used = Client::to(proxy.port);
    assert_eq!(used.get("/").text(), "fine");
    let mut used2 = Client2::to(proxy.port);
    assert_eq!(used2.get("/").text(), "fine");
    let _unused = Client::to(proxy.port);
    let mut half = Client::to(proxy.port);
    half.send("GET / HT");
    proxy.signal(Signal::TERM);
    let (status, _) = proxy.wait_exit(SOON);
    assert!(status.success(), "{status}");
}

/// Content that nobody wants is waited for, to keep its connection; not when that is to end anyway.
#[test]
fn content_that_nobody_wants_holds_up_no_exit() {
    for length in [1000, 1_000_000] {
        let origin = Origin::always(Reply::ok("fine"));
        let setup = Proxy::with().key("drain_timeout", "20s");
        let mut proxy = setup.start(&one_route(&[origin.port], "require: { methods: [GET] }"));
        let mut refused = Client::to(proxy.port);
        refused.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n1"
        ));
        assert_eq!(refused.answer().status, 405);
        proxy.signal(Signal::TERM);
        // What is sent after the answer is read for a moment.
        let (status, took) = proxy.wait_exit(2 * SOON);
        assert!(status.success(), "{status}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
}

#[test]
fn drain_timeout_ends_what_does_not_end() {
    let (_gate, origin, mut proxy) = held("600ms");
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    origin.request(0);
    proxy.signal(Signal::TERM);
    let (status, took) = proxy.wait_exit(SOON);
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(status.success(), "{status}");
}

#[test]
fn a_second_signal_or_int_ends_it_now() {
    for (first, second) in [
        (Signal::TERM, Some(Signal::TERM)),
        (Signal::QUIT, Some(Signal::QUIT)),
        (Signal::TERM, Some(Signal::QUIT)),
        (Signal::TERM, Some(Signal::INT)),
        (Signal::INT, None),
    ] {
        let (_gate, origin, mut proxy) = held("20s");
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/", &[], b"");
        origin.request(0);
        proxy.signal(first);
        if let Some(second) = second {
            refuses_connections(&proxy);
            assert!(proxy.is_alive());
            proxy.signal(second);
        }
        let (_, took) = proxy.wait_exit(SOON);
        assert!(
            took < Duration::from_secs(1),
            "{first:?} {second:?}: {took:?}"
        );
    }
}

#[test]
fn a_request_that_waits_for_its_retry_is_finished_too() {
    let origin = Origin::sequence(&[Reply::status(500), Reply::ok("finished")]);
    let mut proxy = Proxy::start(&one_route(
        &[origin.port],
        "retry: { tries: 2, wait: 600ms }",
    ));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    origin.request(0);
    proxy.signal(Signal::TERM);
    assert_eq!(client.answer().text(), "finished");
    assert!(proxy.wait_exit(SOON).0.success());
}

#[test]
fn a_long_response_is_sent_to_its_end() {
    let body = vec![b'x'; 4_000_000];
    let gate = Gate::default();
    let head = Reply::raw("HTTP/1.1 200 Fine\r\nContent-Length: 4000000\r\n\r\n");
    let origin = Origin::always(head.then(Reply::raw(&body).when(&gate)));
    let mut proxy = Proxy::start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    origin.request(0);
    proxy.signal(Signal::TERM);
    refuses_connections(&proxy);
    gate.open();
    let answer = client.answer();
    assert!(answer.complete && answer.body == body);
    assert!(proxy.wait_exit(SOON).0.success());
}

#[test]
fn the_access_log_is_whole_when_it_exits() {
    let origin = Origin::always(Reply::ok("fine"));
    let mut proxy = Proxy::with()
        .key("access_log", "{ path: access.log }")
        .start(&one_route(&[origin.port], ""));
    let mut client = Client::to(proxy.port);
    for n in 0..50 {
        client.get(&format!("/{n}"));
    }
    proxy.signal(Signal::TERM);
    proxy.wait_exit(SOON);
    let log = std::fs::read_to_string(proxy.dir().join("access.log")).unwrap();
    assert_eq!(log.lines().count(), 50);
}

#[test]
fn s16_every_accepted_request_is_answered_through_start_drain_stop_cycles() {
    let answered = Mutex::new(HashSet::new());
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let record = seen.clone();
    let origin = Origin::new(move |r| {
        record.lock().unwrap().insert(r.target.clone());
        Reply::ok(&r.target).after(Duration::from_millis(3))
    });
    let number = AtomicUsize::new(0);
    for _ in 0..12 {
        let mut proxy = Proxy::start(&one_route(&[origin.port], "retry: { tries: 1 }"));
        let port = proxy.port;
        let stopped: Mutex<Option<Instant>> = Mutex::new(None);
        thread::scope(|scope| {
            for keep in [true, true, false, false] {
                let (answered, stopped, number) = (&answered, &stopped, &number);
                scope.spawn(move || {
                    let Ok(mut client) = Client::try_to(port) else {
                        return;
                    };
                    for _ in 0..100_000 {
                        let path = format!("/{}", number.fetch_add(1, Ordering::SeqCst));
                        if !keep {
                            match Client::try_to(port) {
                                Ok(new) => client = new,
                                Err(_) => return,
                            }
                        }
                        let sent =
                            client.try_send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
                        let sent_at = Instant::now();
                        match sent.and_then(|()| client.try_answer_to("GET")) {
                            Ok(answer) => {
                                assert_eq!((answer.status, answer.text()), (200, path.clone()));
                                answered.lock().unwrap().insert(path);
                            }
                            // Closed under it: a request that had time to be accepted must not meet that.
                            Err(e) => {
                                let stopped = *stopped.lock().unwrap();
                                let lost = stopped.is_none_or(|at| sent_at + ACCEPTED < at);
                                assert!(!lost, "{path} was sent well before the signal: {e}");
                                return;
                            }
                        }
                    }
                });
            }
            let start = number.load(Ordering::SeqCst);
            until("some load", || number.load(Ordering::SeqCst) > start + 150);
            // From here on an idle connection may be closed; what a backend saw must be answered.
            *stopped.lock().unwrap() = Some(Instant::now());
            proxy.signal(Signal::TERM);
            let (status, took) = proxy.wait_exit(SOON);
            assert!(status.success() && took < SOON, "{status} after {took:?}");
        });
    }
    let (seen, answered) = (seen.lock().unwrap(), answered.into_inner().unwrap());
    let lost: Vec<&String> = seen.difference(&answered).collect();
    assert!(
        lost.is_empty(),
        "{} of {} were lost: {lost:?}",
        lost.len(),
        seen.len()
    );
}

#[test]
fn the_next_process_takes_the_port_at_once() {
    let origin = Origin::always(Reply::ok("fine"));
    let port = free_port();
    for _ in 0..3 {
        let mut proxy = Proxy::with()
            .port(port)
            .start(&one_route(&[origin.port], ""));
        // A connection that the proxy closes first leaves its port in TIME_WAIT.
        let mut client = Client::to(port);
        client.get("/");
        assert_eq!(get(port, "/").text(), "fine");
        proxy.signal(Signal::TERM);
        proxy.wait_exit(SOON);
        client.expect_close();
    }
}
