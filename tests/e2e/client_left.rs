//! A client that leaves ends the waiting at once: the next try is not made.

use crate::client::Client;
use crate::client_tls::Authority;
use crate::client2::Client2;
use crate::harness::{PATIENCE, Proxy, one_route, outcomes, until};
use crate::origin::Origin;
use crate::reply::Reply;
use std::time::{Duration, Instant};

/// Longer than any test waits: whoever sits it out fails.
const LONG: &str = "retry: { tries: 3, wait: 20s }";

/// The log says who ended it, soon, and the backend saw no further try.
fn left(proxy: &Proxy, origin: &Origin, path: &str, since: Instant, outcome: &str) {
    let line = proxy.logged(path);
    assert!(
        since.elapsed() < PATIENCE / 3,
        "noticed after {:?}",
        since.elapsed()
    );
    assert_eq!(
        (&line["http.response.status_code"], &line["retry"]),
        (&499.into(), &"client_left".into()),
        "{line}"
    );
    assert_eq!(
        outcomes(&line).first().map(String::as_str),
        Some(outcome),
        "{line}"
    );
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_http1_client_leaves_during_the_wait() {
    let origin = Origin::always(Reply::status(500));
    let proxy = Proxy::start(&one_route(&[origin.port], LONG));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/patients", &[], b"");
    origin.request(0);
    // It waits as long as the client does.
    assert!(client.is_silent_for(Duration::from_millis(200)));
    client.leave();
    left(&proxy, &origin, "/patients", Instant::now(), "status 500");
}

#[test]
fn an_http1_client_with_a_body_leaves_during_the_wait() {
    for size in [100, 300_000] {
        let origin = Origin::always(Reply::status(500));
        let proxy = Proxy::start(&one_route(&[origin.port], LONG));
        let mut client = Client::to(proxy.port);
        client.begin("PUT", "/patients", &[], &vec![b'x'; size]);
        until("the whole body", || {
            origin.requests().first().is_some_and(|r| r.complete)
        });
        assert!(client.is_silent_for(Duration::from_millis(200)));
        client.leave();
        left(&proxy, &origin, "/patients", Instant::now(), "status 500");
    }
}

#[test]
fn an_http2_client_cancels_during_the_wait() {
    let origin = Origin::always(Reply::status(500));
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], LONG));
    let mut client = Client2::to(proxy.port);
    let stream = client.begin("GET", "/patients", &[], true);
    origin.until_released();
    client.cancel(stream);
    left(&proxy, &origin, "/patients", Instant::now(), "status 500");
    // The others on its connection are not touched.
    origin.set(|_| Reply::ok("fine"));
    assert_eq!(client.get("/next").text(), "fine");
}

#[test]
fn an_http2_client_closes_its_connection_during_the_wait() {
    let origin = Origin::always(Reply::status(500));
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], LONG));
    let mut client = Client2::to(proxy.port);
    let _stream = client.begin("GET", "/patients", &[], true);
    origin.until_released();
    client.leave();
    left(&proxy, &origin, "/patients", Instant::now(), "status 500");
}

#[test]
fn a_client_that_leaves_while_a_backend_works_ends_that_too() {
    for http2 in [false, true] {
        let origin = Origin::always(Reply::hang());
        let rules = "retry: { tries: 3, wait: 1ms }\ntimeouts: { first_byte: 20s }";
        let proxy = Proxy::with()
            .http2()
            .start(&one_route(&[origin.port], rules));
        if http2 {
            let mut client = Client2::to(proxy.port);
            let _stream = client.begin("GET", "/patients", &[], true);
            origin.request(0);
            client.leave();
        } else {
            let mut client = Client::to(proxy.port);
            client.begin("GET", "/patients", &[], b"");
            origin.request(0);
            client.leave();
        }
        left(&proxy, &origin, "/patients", Instant::now(), "client_left");
        until("the backend is let go", || origin.last().abandoned);
    }
}

/// Also where all that it sent is still in our hands.
#[test]
fn a_client_of_tls_that_leaves_after_its_content_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["a.example"]);
    let tls = pair.tls();
    for size in [0, 100, 6000, 100_000] {
        let origin = Origin::always(Reply::hang());
        let rules = "retry: { tries: 3, wait: 1ms }\ntimeouts: { first_byte: 20s }";
        let proxy = Proxy::with()
            .listener(&tls)
            .start(&one_route(&[origin.port], rules));
        let mut client = authority.client().to(proxy.port, "a.example").unwrap();
        let head = format!("PUT /patients HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        let sent = [head.as_bytes(), &vec![b'x'; size]].concat();
        client.send(&sent).unwrap();
        origin.request(0);
        drop(client);
        left(&proxy, &origin, "/patients", Instant::now(), "client_left");
        until("the backend is let go", || origin.last().abandoned);
    }
}

#[test]
fn s1_a_client_that_stays_gets_its_answer_after_the_wait() {
    for http2 in [false, true] {
        let origin = Origin::sequence(&[Reply::status(500), Reply::ok("worth the wait")]);
        let rules = "retry: { tries: 2, wait: 1500ms }";
        let proxy = Proxy::with()
            .http2()
            .start(&one_route(&[origin.port], rules));
        let text = if http2 {
            Client2::to(proxy.port)
                .request("PUT", "/", &[], &[b'x'; 100_000])
                .text()
        } else {
            Client::to(proxy.port)
                .request("PUT", "/", &[], &[b'x'; 100_000])
                .text()
        };
        assert_eq!(text, "worth the wait");
        let seen = origin.requests();
        assert!(seen[1].at - seen[0].at >= Duration::from_millis(1_500));
    }
}

#[test]
fn a_client_that_sends_its_next_request_early_has_not_left() {
    let origin = Origin::sequence(&[Reply::status(500), Reply::ok("first"), Reply::ok("second")]);
    let proxy = Proxy::start(&one_route(
        &[origin.port],
        "retry: { tries: 2, wait: 500ms }",
    ));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/1", &[], b"");
    origin.request(0);
    client.begin("GET", "/2", &[], b"");
    assert_eq!(client.answer().text(), "first");
    assert_eq!(client.answer().text(), "second");
    let targets: Vec<String> = origin.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/1", "/1", "/2"]);
}
