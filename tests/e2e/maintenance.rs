//! What an operator does to a running process, and what it tells.

use crate::admin::{JSON, with_admin};
use crate::client::{Client, get, request};
use crate::command::run;
use crate::harness::{Proxy, bearer, one_route, until, with_upstream};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};

const LOCAL: (&str, &str) = ("Host", "localhost");

/// `GET /status` of the admin address.
pub(crate) fn status(admin: u16) -> serde_json::Value {
    let answer = request(admin, "GET", "/status", &[LOCAL], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

pub(crate) fn command(proxy: &Proxy, words: &[&str]) -> (bool, String) {
    let config = proxy.config();
    let mut all = vec!["-c", config.to_str().expect("a path")];
    all.extend(words);
    let output = run(&all, proxy.dir());
    let text = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn a_drained_backend_finishes_what_it_has_and_gets_nothing_new() {
    let gate = Gate::default();
    let open = gate.clone();
    let one = Origin::new(move |r| match &*r.target {
        "/slow" => Reply::ok("slow").when(&open),
        _ => Reply::ok("fine"),
    });
    let two = Origin::always(Reply::ok("fine"));
    let (setup, admin) = with_admin();
    let upstreams = one_route(&[one.port, two.port], "");
    let proxy = setup.start(&upstreams);
    let mut slow = Client::to(proxy.port);
    slow.begin("GET", "/slow", &[], b"");
    until("it is under way", || one.count() == 1);
    let backend = format!("127.0.0.1:{}", one.port);
    let (ok, said) = command(&proxy, &["drain", &backend]);
    assert!(ok, "{said}");
    assert_eq!(said, format!("drained {backend}, until the next reload\n"));
    for _ in 0..10 {
        assert_eq!(get(proxy.port, "/").text(), "fine");
    }
    assert_eq!(one.count(), 1);
    let backends = status(admin)["upstreams"][0]["backends"].clone();
    assert_eq!(
        (&backends[0]["state"], &backends[0]["active"]),
        (&"drain".into(), &1.into())
    );
    assert_eq!(backends[1]["state"], "up");
    gate.open();
    assert_eq!(slow.answer().text(), "slow");
    let (ok, said) = command(&proxy, &["resume", &backend, "--upstream", "pool"]);
    assert!(ok, "{said}");
    for _ in 0..10 {
        get(proxy.port, "/");
    }
    assert_eq!(one.count(), 6);
    let fixed = upstreams.replacen(
        &backend,
        &format!("{{ address: {backend}, state: drain }}"),
        1,
    );
    assert_ne!(fixed, upstreams);
    proxy.reload_with(&fixed);
    let (ok, said) = command(&proxy, &["resume", &backend]);
    assert!(!ok && said.contains("take its state: away there"), "{said}");
    proxy.reload_with(&upstreams);
    command(&proxy, &["drain", &backend]);
    proxy.reload_with(&upstreams);
    for _ in 0..10 {
        get(proxy.port, "/");
    }
    assert_eq!(one.count(), 11, "a reload puts in force what the file says");
}

/// A backend that two upstreams have, of which only one is to leave it alone.
#[test]
fn a_backend_is_drained_where_that_was_said() {
    let (one, two) = (
        Origin::always(Reply::ok("one")),
        Origin::always(Reply::ok("two")),
    );
    let (setup, admin) = with_admin();
    let backends = format!("[127.0.0.1:{}, 127.0.0.1:{}]", one.port, two.port);
    let proxy = setup.start(&format!(
        "upstreams:\n  a: {{ backends: {backends} }}\n  b: {{ backends: {backends} }}\nroutes:\n  - {{ match: {{ path: /a/ }}, upstream: a }}\n  - {{ match: {{ path: /b/ }}, upstream: b }}\n"
    ));
    let asked = |path: &str| {
        let before = one.count();
        for _ in 0..10 {
            assert_eq!(get(proxy.port, path).status, 200);
        }
        one.count() - before
    };
    assert_eq!((asked("/a/"), asked("/b/")), (5, 5));
    let backend = format!("127.0.0.1:{}", one.port);
    let (ok, said) = command(&proxy, &["drain", &backend, "--upstream", "b"]);
    assert!(ok, "{said}");
    assert_eq!((asked("/a/"), asked("/b/")), (5, 0));
    let state =
        |upstream: usize| status(admin)["upstreams"][upstream]["backends"][0]["state"].clone();
    assert_eq!((state(0), state(1)), ("up".into(), "drain".into()));
    let (ok, said) = command(&proxy, &["drain", &backend, "--upstream", "c"]);
    assert!(!ok && said.contains('c'), "{said}");
    // Without a name it is all of them.
    let (ok, said) = command(&proxy, &["drain", &backend]);
    assert!(ok, "{said}");
    assert_eq!((asked("/a/"), asked("/b/")), (0, 0));
    let (ok, said) = command(&proxy, &["resume", &backend, "--upstream", "a"]);
    assert!(ok, "{said}");
    assert_eq!((asked("/a/"), asked("/b/")), (5, 0));
}

#[test]
fn what_is_not_there_cannot_be_drained() {
    let origin = Origin::always(Reply::ok("fine"));
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], ""));
    let (ok, said) = command(&proxy, &["drain", "127.0.0.1:1"]);
    assert!(!ok);
    let known = format!(
        "backstop: drain: there is no backend 127.0.0.1:1 (there are: 127.0.0.1:{})\n",
        origin.port
    );
    assert_eq!(said, known);
    let (ok, said) = command(&proxy, &["canary", "resume"]);
    assert!(
        !ok && said == "backstop: canary: no canary was rolled back\n",
        "{said}"
    );
    for (path, body, status) in [
        ("/backends/drain", "{}", 400),
        ("/backends/drain", "{\"backend\": 1}", 400),
        ("/backends/drain", "{\"backend\": \"x\", \"more\": 1}", 400),
        ("/backends/resume", "{\"backend\": \"x\"}", 404),
        ("/canary/resume", "{\"route\": \"all\"}", 404),
    ] {
        let fields = [LOCAL, JSON, ("Authorization", &*bearer(admin))];
        let answer = request(admin, "POST", path, &fields, body.as_bytes());
        assert_eq!(answer.status, status, "{path} {body}");
    }
}

#[test]
fn the_file_can_drain_a_backend_and_take_it_out() {
    let (one, two) = (
        Origin::always(Reply::ok("fine")),
        Origin::always(Reply::ok("fine")),
    );
    for (state, probed) in [("drain", true), ("down", false)] {
        let backends = format!(
            "[{{ address: 127.0.0.1:{}, state: {state} }}, 127.0.0.1:{}]",
            one.port, two.port
        );
        let upstreams = format!(
            "upstreams:\n  pool:\n    backends: {backends}\nroutes: [{{ upstream: pool }}]\n"
        );
        let check = "health_check: { path: /health, interval: 50ms }";
        let before = one.count();
        let proxy = Proxy::start(&with_upstream(&upstreams, check));
        for _ in 0..6 {
            assert_eq!(get(proxy.port, "/").status, 200);
        }
        until("probes of the other", || {
            two.requests()
                .iter()
                .filter(|r| r.target == "/health")
                .count()
                > 3
        });
        let requests = one.requests();
        let new = &requests[before..];
        assert!(new.iter().all(|r| r.target == "/health"));
        assert_eq!(!new.is_empty(), probed, "{state}");
    }
}

#[test]
fn status_tells_what_is_in_force() {
    let origin = Origin::new(|r| match r.number {
        0 => Reply::status(500),
        _ => Reply::ok("fine"),
    });
    let (setup, admin) = with_admin();
    let rules = "retry: { wait: 1ms }\nconcurrency: { max: 7 }";
    let proxy = setup.start(&one_route(&[origin.port], rules));
    assert_eq!(get(proxy.port, "/").status, 200);
    let status = status(admin);
    assert_eq!(status["configuration"], 1);
    let backend = &status["upstreams"][0]["backends"][0];
    assert_eq!(backend["address"], format!("127.0.0.1:{}", origin.port));
    assert_eq!(
        (&backend["tries"], &backend["failures"]),
        (&2.into(), &1.into())
    );
    assert_eq!(backend["last_failure"]["what"], "status 500");
    let route = &status["routes"][0];
    assert_eq!(
        (&route["name"], &route["requests"]),
        (&"all".into(), &1.into())
    );
    assert_eq!(
        (&route["retries"], &route["retries_total"]),
        (&1.into(), &1.into())
    );
    assert_eq!(route["concurrency"]["limit"], 7);
    let (ok, table) = command(&proxy, &["status"]);
    assert!(ok, "{table}");
    for part in [
        "upstream pool",
        "route all",
        "status 500",
        "1 retries in all",
    ] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
    let (ok, json) = command(&proxy, &["status", "--json"]);
    assert!(ok);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["configuration"], 1);
}
