//! Request bodies sent again: byte for byte up to `retry.max_body`, and never empty or cut.

use crate::client::{Answer, Client, request};
use crate::client2::Client2;
use crate::harness::{Proxy, free_port, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;

const KIB: usize = 1024;

/// Bytes in which every cut and every shift shows.
fn bytes(n: usize) -> Vec<u8> {
    let mut state = n as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..n).map(|_| next()).collect()
}

/// Fails every first try, after reading it whole, and says on the second how long the body was.
fn every_other() -> Origin {
    Origin::new(|r| {
        if r.number % 2 == 0 {
            Reply::status(500)
        } else {
            Reply::ok(format!("{} bytes", r.body.len()))
        }
    })
}

/// Whatever a backend took for a whole body was one.
fn nothing_was_cut(origin: &Origin, body: &[u8]) {
    for seen in origin.requests() {
        assert!(
            !seen.complete || seen.body == body,
            "try {} was sent {} bytes of {} as if they were all",
            seen.number,
            seen.body.len(),
            body.len()
        );
    }
}

/// Both tries were whole and the same.
fn replayed(origin: &Origin, body: &[u8], answer: &Answer, what: &str) {
    let whole = format!("{} bytes", body.len());
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, whole.as_str()),
        "{what}"
    );
    assert_eq!(origin.count(), 2, "{what}");
    for seen in origin.requests() {
        assert!(
            seen.complete && seen.body == body,
            "{what}: try {} differs",
            seen.number
        );
    }
}

const SIZES: [usize; 6] = [
    10,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    300 * KIB,
    1024 * KIB,
];

#[test]
fn bodies_with_content_length_are_replayed_byte_for_byte() {
    for size in SIZES {
        let (origin, body) = (every_other(), bytes(size));
        let proxy = Proxy::start(&one_route(&[origin.port], "retry: { wait: 1ms }"));
        let answer = request(proxy.port, "PUT", "/", &[], &body);
        replayed(&origin, &body, &answer, &format!("{size} bytes"));
        assert_eq!(
            origin.last().header("content-length"),
            Some(size.to_string().as_str())
        );
    }
}

#[test]
fn chunked_bodies_are_replayed_byte_for_byte() {
    for size in SIZES {
        let (origin, body) = (every_other(), bytes(size));
        let proxy = Proxy::start(&one_route(&[origin.port], "retry: { wait: 1ms }"));
        let chunks: Vec<&[u8]> = body.chunks(10_007).collect();
        let answer = Client::to(proxy.port).chunked("PUT", "/", &chunks);
        replayed(&origin, &body, &answer, &format!("{size} bytes in chunks"));
    }
}

#[test]
fn http2_bodies_are_replayed_byte_for_byte() {
    for size in SIZES {
        for with_length in [true, false] {
            let (origin, body) = (every_other(), bytes(size));
            let proxy = Proxy::with()
                .http2()
                .start(&one_route(&[origin.port], "retry: { wait: 1ms }"));
            let length = size.to_string();
            let headers = [("content-length", length.as_str())];
            let headers = if with_length { &headers[..] } else { &[] };
            let mut client = Client2::to(proxy.port);
            let answer = client.request("PUT", "/", headers, &body);
            replayed(
                &origin,
                &body,
                &answer,
                &format!("{size} bytes, length: {with_length}"),
            );
            // The connection to the backend is still in step.
            origin.set(|_| Reply::ok("in step"));
            assert_eq!(client.get("/").text(), "in step");
        }
    }
}

#[test]
fn every_kind_of_failure_replays_the_body() {
    let body = bytes(200 * KIB);
    for failure in [
        Reply::reset(),
        Reply::close(),
        Reply::garbage(),
        Reply::hang(),
    ] {
        let origin = Origin::sequence(&[failure.clone(), failure, Reply::ok("204800 bytes")]);
        let rules = "retry: { tries: 3, wait: 1ms }\ntimeouts: { first_byte: 300ms }";
        let proxy = Proxy::start(&one_route(&[origin.port], rules));
        let answer = request(proxy.port, "PUT", "/", &[], &body);
        assert_eq!(answer.status, 200);
        assert_eq!(origin.count(), 3);
        assert!(
            origin
                .requests()
                .iter()
                .all(|r| r.complete && r.body == body)
        );
    }
}

#[test]
fn a_failed_connect_takes_nothing_of_the_body() {
    let origin = Origin::always(Reply::ok("stored"));
    let ports = [free_port(), free_port(), free_port(), origin.port];
    let proxy = Proxy::start(&one_route(&ports, "retry: { tries: 4, wait: 1ms }"));
    // Larger than max_body: as nothing was sent, all of it is still there.
    let body = bytes(3 * KIB * KIB);
    for _ in 0..3 {
        assert_eq!(
            request(proxy.port, "POST", "/", &[], &body).text(),
            "stored"
        );
        assert!(origin.last().body == body);
    }
}

#[test]
fn a_backend_that_fails_before_reading_the_body_never_makes_the_next_see_a_cut_one() {
    for size in [50 * KIB, 300 * KIB, 1024 * KIB] {
        let body = bytes(size);
        let rude = Origin::on_head(|r| match r.number % 3 {
            0 => Reply::status(500),
            1 => Reply::status(500).closing(),
            _ => Reply::reset(),
        });
        let sound = Origin::new(|r| Reply::ok(format!("{} bytes", r.body.len())));
        let proxy = Proxy::start(&one_route(
            &[rude.port, sound.port],
            "retry: { tries: 2, wait: 1ms }",
        ));
        for _ in 0..6 {
            let mut client = Client::to(proxy.port);
            client.begin("PUT", "/", &[], &body);
            let answer = client.answer_to("PUT");
            if answer.status == 200 {
                assert_eq!(answer.text(), format!("{size} bytes"));
            }
        }
        nothing_was_cut(&sound, &body);
    }
}

#[test]
fn a_body_above_max_body_goes_through_and_is_not_retried() {
    for (rule, size) in [
        ("", 1024 * KIB + 1),
        ("", 3000 * KIB),
        (", max_body: 10KiB", 10_241),
    ] {
        let (origin, body) = (Origin::always(Reply::status(500)), bytes(size));
        let rules = format!("retry: {{ tries: 3, wait: 1ms{rule} }}");
        let proxy = Proxy::with()
            .http2()
            .start(&one_route(&[origin.port], &rules));
        let mut answers = vec![request(proxy.port, "PUT", "/length", &[], &body)];
        let chunks: Vec<&[u8]> = body.chunks(60_000).collect();
        answers.push(Client::to(proxy.port).chunked("PUT", "/chunked", &chunks));
        answers.push(Client2::to(proxy.port).request("PUT", "/http2", &[], &body));
        for answer in answers {
            assert_eq!(answer.text(), "the backend's own 500\n");
        }
        assert_eq!(origin.count(), 3, "one try for each of the three requests");
        assert!(
            origin
                .requests()
                .iter()
                .all(|r| r.complete && r.body == body)
        );
        for path in ["/length", "/chunked", "/http2"] {
            assert_eq!(
                proxy.logged(path)["retry"],
                "body_too_large",
                "{path} with {size} bytes"
            );
        }
    }
}

#[test]
fn a_body_of_exactly_max_body_is_retried() {
    let (origin, body) = (every_other(), bytes(10 * KIB));
    let rules = "retry: { wait: 1ms, max_body: 10KiB }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    replayed(
        &origin,
        &body,
        &request(proxy.port, "PUT", "/", &[], &body),
        "10 KiB",
    );
}

#[test]
fn an_unfinished_body_is_not_retried() {
    // The backend has read half of the body and fails while the client still holds the other half.
    let origin = Origin::on_head(|_| Reply::status(503).closing().having_read(500));
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], "retry: { tries: 3, wait: 1ms }"));
    let body = bytes(1_000);
    let mut client = Client::to(proxy.port);
    client.send("PUT /http1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    client.send(&body[..500]);
    assert_eq!(client.answer().text(), "the backend's own 503\n");
    let mut client = Client2::to(proxy.port);
    let mut stream = client.begin("PUT", "/http2", &[("content-length", "1000")], false);
    client.send(&mut stream, &body[..500], false);
    assert_eq!(client.answer(stream).text(), "the backend's own 503\n");
    for path in ["/http1", "/http2"] {
        assert_eq!(proxy.logged(path)["retry"], "body_unfinished", "{path}");
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn expect_100_continue_is_served_and_its_body_is_replayed() {
    let (origin, body) = (every_other(), bytes(100 * KIB));
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { wait: 1ms }"));
    let mut client = Client::to(proxy.port);
    client.send(format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    assert_eq!(client.head().expect("the interim response").status, 100);
    client.send(&body);
    let answer = client.answer_to("PUT");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "102400 bytes")
    );
    nothing_was_cut(&origin, &body);
    assert!(origin.last().complete);
}

#[test]
fn empty_bodies_stay_empty() {
    for head in [
        "Content-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let origin = every_other();
        let proxy = Proxy::start(&one_route(&[origin.port], "retry: { wait: 1ms }"));
        let mut client = Client::to(proxy.port);
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{head}"));
        replayed(&origin, b"", &client.answer(), head.trim());
        origin.set(|_| Reply::ok("in step"));
        assert_eq!(client.get("/").text(), "in step");
    }
}

#[test]
fn a_large_upload_streams_through() {
    let origin = Origin::always(Reply::ok("stored"));
    let proxy = Proxy::start(&one_route(&[origin.port], ""));
    let body = bytes(8 * KIB * KIB);
    let mut client = Client::to(proxy.port);
    client.send(format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body[..2 * KIB * KIB]);
    // It is on its way before the client has sent it all: nothing collects it.
    until("the first half at the backend", || {
        origin
            .requests()
            .first()
            .is_some_and(|r| r.body.len() > KIB * KIB)
    });
    client.send(&body[2 * KIB * KIB..]);
    assert_eq!(client.answer().text(), "stored");
    assert!(origin.last().body == body);
}

#[test]
fn a_client_that_breaks_off_its_body_makes_no_whole_request() {
    let origin = Origin::always(Reply::ok("stored"));
    let rules = "retry: { tries: 3, wait: 1ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    for (path, head) in [
        ("/short", "Content-Length: 1000\r\n\r\n12345"),
        ("/long", "Content-Length: 100000\r\n\r\n12345"),
        ("/huge", "Content-Length: 9000000\r\n\r\n12345"),
        (
            "/chunked",
            "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        ),
    ] {
        let mut client = Client::to(proxy.port);
        client.send(format!("PUT {path} HTTP/1.1\r\nHost: a\r\n{head}"));
        client.leave();
        assert_eq!(
            proxy.logged(path)["http.response.status_code"],
            499,
            "{path}"
        );
    }
    assert!(origin.requests().iter().all(|r| !r.complete));
    assert!(origin.count() <= 4, "tried again without a client");
}
