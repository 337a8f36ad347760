//! Which methods are sent again: a POST that a backend may have seen must not be executed twice unless someone vouches.

use crate::client::{Client, get, request};
use crate::harness::{Proxy, free_port, one_route, outcomes};
use crate::origin::Origin;
use crate::reply::Reply;

#[test]
fn idempotent_methods_are_retried_and_post_and_patch_are_not() {
    let origin = Origin::new(|r| {
        if r.number % 2 == 0 {
            Reply::status(500)
        } else {
            Reply::ok("")
        }
    });
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { wait: 1ms }"));
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        let body: &[u8] = if method == "PUT" { b"body" } else { b"" };
        let path = format!("/{method}");
        assert_eq!(
            request(proxy.port, method, &path, &[], body).status,
            200,
            "{method}"
        );
        assert_eq!(proxy.logged(&path)["retry"], "answered", "{method}");
    }
    for method in ["POST", "PATCH"] {
        let before = origin.count();
        origin.set(|_| Reply::status(500));
        let path = format!("/{method}");
        let answer = request(proxy.port, method, &path, &[], b"order");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (500, "the backend's own 500\n")
        );
        assert_eq!(origin.count() - before, 1, "{method} was executed twice");
        let line = proxy.logged(&path);
        assert_eq!(
            (outcomes(&line).len(), &line["retry"]),
            (1, &"method_not_idempotent".into())
        );
    }
}

#[test]
fn a_post_that_was_reset_or_timed_out_is_not_repeated() {
    let origin = Origin::new(|r| match r.target.as_str() {
        "/reset" => Reply::reset(),
        "/close" => Reply::close(),
        "/garbage" => Reply::garbage(),
        _ => Reply::hang(),
    });
    let rules = "retry: { tries: 5, wait: 1ms }\ntimeouts: { first_byte: 200ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    for (path, status) in [
        ("/reset", 502),
        ("/close", 502),
        ("/garbage", 502),
        ("/hang", 504),
    ] {
        let before = origin.count();
        assert_eq!(
            request(proxy.port, "POST", path, &[], b"order").status,
            status,
            "{path}"
        );
        assert_eq!(origin.count() - before, 1, "{path} was executed twice");
        assert_eq!(
            proxy.logged(path)["retry"],
            "method_not_idempotent",
            "{path}"
        );
    }
}

#[test]
fn a_post_that_could_not_be_sent_is_retried() {
    let origin = Origin::always(Reply::ok("stored"));
    let ports = [free_port(), free_port(), origin.port];
    let proxy = Proxy::start(&one_route(&ports, "retry: { tries: 3, wait: 1ms }"));
    for n in 0..6 {
        let body = format!("order {n}").into_bytes();
        let answer = request(proxy.port, "POST", "/orders", &[], &body);
        assert_eq!((answer.status, answer.text().as_str()), (200, "stored"));
        assert_eq!(origin.last().body, body);
    }
    assert_eq!(origin.count(), 6);
}

#[test]
fn a_post_with_idempotency_key_is_retried_with_body_and_key() {
    let origin = Origin::sequence(&[
        Reply::status(500),
        Reply::reset(),
        Reply::status(502),
        Reply::ok("stored"),
    ]);
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { tries: 4, wait: 1ms }"));
    let key = [("Idempotency-Key", "\"8e03978e\"")];
    let answer = request(proxy.port, "POST", "/orders", &key, b"two cats");
    assert_eq!((answer.status, answer.text().as_str()), (200, "stored"));
    assert_eq!(origin.count(), 4);
    for seen in origin.requests() {
        assert_eq!(
            (seen.method.as_str(), seen.body.as_slice()),
            ("POST", &b"two cats"[..])
        );
        assert_eq!(seen.header("idempotency-key"), Some("\"8e03978e\""));
        assert!(seen.complete);
    }
    assert_eq!(proxy.logged("/orders")["retry"], "answered");
}

#[test]
fn a_route_may_vouch_for_all_methods_or_for_some() {
    for (methods, post, patch, get_too) in [
        ("any", 2, 2, 2),
        ("[POST]", 2, 1, 1),
        ("[GET, POST]", 2, 1, 2),
        ("idempotent", 1, 1, 2),
    ] {
        let origin = Origin::always(Reply::status(500));
        let rules = format!("retry: {{ tries: 2, wait: 1ms, methods: {methods} }}");
        let proxy = Proxy::start(&one_route(&[origin.port], &rules));
        for (method, expected) in [("POST", post), ("PATCH", patch), ("GET", get_too)] {
            let before = origin.count();
            assert_eq!(request(proxy.port, method, "/", &[], b"").status, 500);
            assert_eq!(
                origin.count() - before,
                expected,
                "{method} with methods: {methods}"
            );
        }
    }
}

#[test]
fn a_get_on_a_pooled_connection_that_its_backend_closed_is_not_lost() {
    // The race every keep-alive has: the backend closes just as the next request is sent.
    let origin = Origin::new(|r| {
        if r.number % 2 == 1 && r.target == "/second" {
            Reply::close()
        } else {
            Reply::ok("fine")
        }
    });
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { tries: 2, wait: 1ms }"));
    let mut client = Client::to(proxy.port);
    assert_eq!(client.get("/first").text(), "fine");
    assert_eq!(client.get("/second").text(), "fine");
    assert_eq!(origin.count(), 3);
    assert_eq!(get(proxy.port, "/third").text(), "fine");
}

#[test]
fn a_post_on_a_pooled_connection_that_breaks_is_executed_once() {
    let origin = Origin::new(|r| {
        if r.method == "POST" {
            Reply::reset()
        } else {
            Reply::ok("")
        }
    });
    let proxy = Proxy::start(&one_route(&[origin.port], "retry: { tries: 5, wait: 1ms }"));
    let mut client = Client::to(proxy.port);
    client.get("/");
    assert_eq!(
        client.request("POST", "/orders", &[], b"one cat").status,
        502
    );
    assert_eq!(origin.count(), 2);
}
