//! How many retries a route may make.

use crate::admin::with_admin;
use crate::client::Client;
use crate::harness::{Proxy, free_port, never_ejecting, one_route, until};
use crate::maintenance::status;
use crate::origin::Origin;
use crate::reply::Reply;
use std::thread;

#[test]
fn a_failing_upstream_gets_no_more_retries_than_the_budget_allows() {
    let origin = Origin::always(Reply::status(500));
    let rules = "retry: { tries: 5, wait: 0s, budget: 10% }";
    let proxy = Proxy::start(&never_ejecting(&one_route(&[origin.port], rules)));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::to(proxy.port);
                for _ in 0..500 {
                    assert_eq!(client.get("/").text(), "the backend's own 500\n");
                }
            });
        }
    });
    until("all lines", || proxy.log_lines().len() == 2_000);
    // A tenth of 2,000, or what any ten seconds may have; the test may last longer than that on a busy machine.
    let retries = origin.count() - 2_000;
    assert!((100..=400).contains(&retries), "{retries} retries");
    let spent = proxy
        .log_lines()
        .iter()
        .filter(|l| l["retry"] == "budget_spent")
        .count();
    assert!(spent > 1_500, "{spent}");
}

#[test]
fn in_quiet_times_every_request_gets_its_tries() {
    let origin = Origin::new(|r| match r.number % 5 {
        4 => Reply::ok("the fifth"),
        _ => Reply::status(500),
    });
    let rules = "retry: { tries: 5, wait: 1ms, budget: 0% }";
    let proxy = Proxy::start(&never_ejecting(&one_route(&[origin.port], rules)));
    let mut client = Client::to(proxy.port);
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "the fifth");
    }
}

#[test]
fn a_retry_that_goes_to_another_backend_for_lack_of_a_connection_is_free() {
    let sound = Origin::always(Reply::ok("sound"));
    // It becomes reachable and unreachable again: ever new connections fail.
    let rules = "retry: { tries: 2, wait: 0s, budget: 0% }";
    let proxy = Proxy::start(&one_route(&[free_port(), sound.port], rules));
    let mut client = Client::to(proxy.port);
    for _ in 0..300 {
        assert_eq!(client.get("/").text(), "sound");
    }
}

/// It was paid for when its wait began.
#[test]
fn a_retry_that_is_not_made_because_the_client_left_costs_nothing() {
    let origin = Origin::always(Reply::status(500));
    let (setup, admin) = with_admin();
    let rules = "retry: { tries: 2, wait: 10s }";
    let proxy = setup.start(&never_ejecting(&one_route(&[origin.port], rules)));
    let retries = || status(admin)["routes"][0]["retries"].as_u64();
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/left", &[], b"");
    until("it is charged", || retries() == Some(1));
    drop(client);
    until("it is given back", || retries() == Some(0));
    assert_eq!(proxy.logged("/left")["retry"], "client_left");
    assert_eq!(origin.count(), 1);
}
