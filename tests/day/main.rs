//! A bad day of three backends, in half a minute, through Backstop and then through nginx and HAProxy: who keeps answering.
//!
//! Each proxy has three backends of its own and lives through the same day, from the same seed, one after the other so that
//! they do not disturb each other. What is compared is what clients got and how often the backends were asked.
// A test says what it expects by failing where it does not come.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../e2e/harness.rs"]
#[allow(dead_code)]
mod harness; // the process under test, as in the other end-to-end tests

mod load; // the clients
mod origins; // the backends
mod peers; // nginx and HAProxy
mod report; // what came of it
mod script; // what happens when
mod settings; // how the proxies are configured

use harness::Proxy;
use origins::Origins;
use peers::Peer;
use report::Day;
use serde_json::Value;
use std::time::Duration;

/// The share of requests that have to succeed while at least one backend works.
const SUCCESS: f64 = 0.9995;
/// The requests that the backends may have to take for each request of a client.
const AMPLIFICATION: f64 = 1.25;
/// How much slower Backstop may be than the others. Without optimisation it takes some milliseconds more for every answer; a
/// request that is held up by a backend takes 200 ms more at least.
const HANDICAP: Duration = Duration::from_millis(if cfg!(debug_assertions) { 30 } else { 2 });

#[test]
fn a_bad_day_goes_better_with_backstop_than_with_nginx_and_haproxy() {
    let origins = Origins::start();
    let proxy = Proxy::start(&settings::backstop(&origins.ports()));
    let ours = live("Backstop", &origins, proxy.port);
    let log = proxy.log_lines();
    let said = proxy.stderr();
    drop(proxy);
    let mut days = vec![ours];
    for start in [Peer::nginx, Peer::haproxy] {
        let origins = Origins::start();
        if let Some(peer) = start(&origins.ports()) {
            days.push(live(peer.name, &origins, peer.port));
        }
    }
    report::print(&days);
    let complaints = complaints(&days[0], &days[1..]);
    if !complaints.is_empty() {
        explain(&days[0], &log, &said);
    }
    assert!(complaints.is_empty(), "{}", complaints.join("; "));
}

/// Lets a proxy that listens on `port` live through the day.
fn live(name: &'static str, origins: &Origins, port: u16) -> Day {
    load::warm(port);
    let outcomes = load::run(port, |phase| origins.turn(phase));
    Day::new(name, outcomes, origins.taken())
}

/// Where Backstop is not as good as it has to be.
fn complaints(ours: &Day, peers: &[Day]) -> Vec<String> {
    let mut all = Vec::new();
    let mut demand = |holds: bool, complaint: String| {
        if !holds {
            all.push(complaint);
        }
    };
    demand(ours.success() >= SUCCESS, "too few succeed".into());
    // Also of those that come before it can be known that the backends are back: they wait for it.
    let prompt = ours.promptly() >= SUCCESS;
    demand(prompt, "too few succeed as soon as all are back".into());
    let takes = ours.amplification();
    demand(takes <= AMPLIFICATION, "too many retries".into());
    for peer in peers {
        let name = peer.name;
        let ahead = ours.success() > peer.success() || ours.success() == 1.0;
        demand(ahead, format!("not ahead of {name}"));
        // Who sees first that the backends are back is a matter of luck, if only a little.
        let soon = ours.promptly() >= peer.promptly();
        demand(soon, format!("behind {name} when all are back"));
        // A client that the machine let wait before it asked counts that, too.
        let allowed = peer.quantile(0.99) + HANDICAP + ours.late();
        let keeps_up = ours.quantile(0.99) <= allowed;
        demand(keeps_up, format!("p99 is above that of {name}"));
        // While a backend is sick, more than one request in a hundred meets that one by the others.
        let trouble = ours.quantile_in_trouble(0.99) < peer.quantile_in_trouble(0.99);
        demand(
            trouble,
            format!("p99 in trouble is not below that of {name}"),
        );
    }
    all
}

/// Says what Backstop made of the requests that went worst.
fn explain(day: &Day, log: &[Value], said: &str) {
    report::say(said);
    for number in day.worst(20) {
        let path = script::path(number);
        let line = log.iter().find(|line| line["url.path"] == path);
        let line = line.map_or("not in the access log".to_string(), Value::to_string);
        report::say(&format!("{:?}\n  {line}", day.outcomes[number]));
    }
}
