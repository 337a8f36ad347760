//! Which backend a request goes to.

use crate::client::{Client, get, request};
use crate::harness::{Proxy, free_port, one_route, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply, Request};
use std::thread;

fn origins(n: usize) -> Vec<Origin> {
    (0..n).map(|_| Origin::always(Reply::ok("fine"))).collect()
}

fn ports(origins: &[Origin]) -> Vec<u16> {
    origins.iter().map(|o| o.port).collect()
}

fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(Origin::count).collect()
}

/// One upstream with these backends, as flow mappings, and these further keys.
fn pool(backends: &[String], keys: &str) -> String {
    let backends = backends.join(", ");
    format!(
        "upstreams:\n  pool:\n    backends: [{backends}]\n{keys}routes:\n  - {{ match: {{ path: / }}, upstream: pool, retry: {{ wait: 1ms }} }}\n"
    )
}

fn plain(origins: &[Origin]) -> Vec<String> {
    origins
        .iter()
        .map(|o| format!("127.0.0.1:{}", o.port))
        .collect()
}

#[test]
fn s6_three_backends_share_3000_requests_within_one_percent() {
    let origins = origins(3);
    let proxy = Proxy::start(&one_route(&ports(&origins), ""));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = Client::to(proxy.port);
                for _ in 0..500 {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
    });
    let counts = counts(&origins);
    assert_eq!(counts.iter().sum::<usize>(), 3_000);
    assert!(
        counts.iter().all(|c| (990..=1_010).contains(c)),
        "{counts:?}"
    );
}

#[test]
fn equal_weights_take_strict_turns() {
    let origins = origins(3);
    let proxy = Proxy::start(&one_route(&ports(&origins), ""));
    for n in 1..=30 {
        // A connection each: the turn belongs to the upstream, not to a worker.
        get(proxy.port, "/");
        let counts = counts(&origins);
        let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
        assert!(most - least <= 1, "{counts:?} after {n} requests");
    }
}

#[test]
fn weights_are_spread_smoothly() {
    let origins = origins(4);
    let weights = [5, 1, 1, 0];
    let backends: Vec<String> = origins
        .iter()
        .zip(weights)
        .map(|(o, w)| format!("{{ address: 127.0.0.1:{}, weight: {w} }}", o.port))
        .collect();
    let proxy = Proxy::start(&pool(&backends, ""));
    let mut client = Client::to(proxy.port);
    let mut order = String::new();
    for _ in 0..70 {
        let before = counts(&origins);
        client.get("/");
        let after = counts(&origins);
        let which = (0..4).find(|i| before[*i] < after[*i]).unwrap();
        order.push(['a', 'b', 'c', 'd'][which]);
    }
    assert_eq!(order, "aabacaa".repeat(10));
}

#[test]
fn least_conn_goes_where_least_is_under_way() {
    for balance in ["least_conn", "random_two"] {
        let gate = Gate::default();
        let held = gate.clone();
        let script = move |r: &Request| {
            if r.target == "/hold" {
                Reply::ok("held").when(&held)
            } else {
                Reply::ok("fine")
            }
        };
        let origins = [Origin::new(script.clone()), Origin::new(script)];
        let proxy = Proxy::start(&pool(
            &plain(&origins),
            &format!("    balance: {balance}\n"),
        ));
        let start = counts(&origins);
        let mut holder = Client::to(proxy.port);
        holder.begin("GET", "/hold", &[], b"");
        until("one is held", || counts(&origins) != start);
        let busy = (0..2).find(|i| counts(&origins)[*i] > start[*i]).unwrap();
        let mut client = Client::to(proxy.port);
        for _ in 0..10 {
            client.get("/");
        }
        assert_eq!(
            origins[busy].count() - start[busy],
            1,
            "{balance} chose the busy one"
        );
        gate.open();
        assert_eq!(holder.answer().text(), "held");
    }
}

#[test]
fn random_two_and_least_conn_use_every_backend() {
    for balance in ["least_conn", "random_two"] {
        let origins = origins(3);
        let proxy = Proxy::start(&pool(
            &plain(&origins),
            &format!("    balance: {balance}\n"),
        ));
        let mut client = Client::to(proxy.port);
        for _ in 0..150 {
            client.get("/");
        }
        assert!(
            counts(&origins).iter().all(|c| *c >= 20),
            "{balance}: {:?}",
            counts(&origins)
        );
    }
}

/// Sends a request with the `n`th key.
type Key<'a> = &'a dyn Fn(usize, &mut Client);

/// Where each of 60 keys goes, by port.
fn homes(proxy: &Proxy, origins: &[Origin], key: Key<'_>) -> Vec<u16> {
    let mut client = Client::to(proxy.port);
    let mut home = |n: usize| {
        let before = counts(origins);
        key(n, &mut client);
        let after = counts(origins);
        origins[(0..origins.len()).find(|i| before[*i] < after[*i]).unwrap()].port
    };
    (0..60).map(&mut home).collect()
}

#[test]
fn hash_sends_the_same_key_to_the_same_backend_and_moves_little() {
    let by_header = |n: usize, c: &mut Client| {
        c.request("GET", "/", &[("X-User", &format!("user {n}"))], b"");
    };
    let by_cookie = |n: usize, c: &mut Client| {
        c.request(
            "GET",
            "/",
            &[("Cookie", &format!("a={n}{n}; session=s{n}; b={n}"))],
            b"",
        );
    };
    let by_uri = |n: usize, c: &mut Client| {
        c.get(&format!("/patients/{n}?x"));
    };
    let ways: [(&str, Key<'_>); 3] = [
        ("{ header: X-User }", &by_header),
        ("{ cookie: session }", &by_cookie),
        ("uri", &by_uri),
    ];
    for (on, key) in ways {
        let origins = origins(4);
        let keys = format!("    balance: {{ hash: {{ on: {on} }} }}\n");
        let proxy = Proxy::start(&pool(&plain(&origins[..3]), &keys));
        let first = homes(&proxy, &origins, key);
        assert_eq!(first, homes(&proxy, &origins, key), "{on}");
        assert!(
            counts(&origins)[..3].iter().all(|c| *c > 10),
            "{on}: {:?}",
            counts(&origins)
        );
        proxy.reload_with(&pool(&plain(&origins), &keys));
        let moved: Vec<(u16, u16)> = first
            .iter()
            .zip(homes(&proxy, &origins, key))
            .filter(|(a, b)| **a != *b)
            .map(|(a, b)| (*a, b))
            .collect();
        // A quarter is the ideal. Whoever moves, moves to the new one.
        assert!(moved.len() < 30, "{on}: {} of 60 moved", moved.len());
        assert!(
            moved.iter().all(|(_, to)| *to == origins[3].port),
            "{on}: {moved:?}"
        );
    }
}

#[test]
fn hash_on_the_client_address_and_a_missing_key_still_find_a_backend() {
    for (on, at_most) in [("client_ip", 1), ("{ header: X-User }", 3)] {
        let origins = origins(3);
        let proxy = Proxy::start(&pool(
            &plain(&origins),
            &format!("    balance: {{ hash: {{ on: {on} }} }}\n"),
        ));
        for _ in 0..12 {
            assert_eq!(get(proxy.port, "/").status, 200);
        }
        let used = counts(&origins).iter().filter(|c| **c > 0).count();
        assert!(
            (1..=at_most).contains(&used),
            "{on}: {:?}",
            counts(&origins)
        );
    }
}

#[test]
fn hash_goes_on_to_another_backend_when_the_first_fails() {
    let origins = origins(2);
    let mut backends = plain(&origins);
    backends.push(format!("127.0.0.1:{}", free_port()));
    let proxy = Proxy::start(&pool(&backends, "    balance: { hash: { on: uri } }\n"));
    for n in 0..30 {
        assert_eq!(get(proxy.port, &format!("/{n}")).status, 200);
    }
    assert!(
        counts(&origins).iter().all(|c| *c > 3),
        "{:?}",
        counts(&origins)
    );
}

#[test]
fn a_backup_is_used_only_when_the_others_have_failed() {
    let origins = origins(2);
    let backends = [
        format!("127.0.0.1:{}", origins[0].port),
        format!("{{ address: 127.0.0.1:{}, backup: true }}", origins[1].port),
    ];
    let proxy = Proxy::start(&pool(&backends, "    eject: off\n"));
    for _ in 0..10 {
        get(proxy.port, "/");
    }
    assert_eq!(counts(&origins), [10, 0]);
    origins[0].set(|_| Reply::status(503));
    for _ in 0..10 {
        assert_eq!(get(proxy.port, "/").text(), "fine");
    }
    assert_eq!(counts(&origins), [20, 10]);
}

#[test]
fn the_share_of_a_dead_backend_is_spread_over_the_others() {
    let mut origins = origins(4);
    let proxy = Proxy::start(&one_route(
        &ports(&origins),
        "retry: { tries: 2, wait: 0ms }",
    ));
    origins[1].stop();
    let mut client = Client::to(proxy.port);
    for _ in 0..400 {
        assert_eq!(client.get("/").text(), "fine");
    }
    let counts = counts(&origins);
    for i in [0, 2, 3] {
        assert!((105..=165).contains(&counts[i]), "{counts:?}");
    }
}

#[test]
fn an_ipv6_backend_is_reached() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let address = std::net::SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], free_port()));
    let origin = Origin::at(address, |_| Reply::ok("six"));
    let proxy = Proxy::start(&pool(&[format!("\"{address}\"")], ""));
    assert_eq!(get(proxy.port, "/").text(), "six");
    assert_eq!(
        proxy.logged("/")["backend"],
        format!("[::1]:{}", origin.port)
    );
}

#[test]
fn connections_to_a_backend_are_kept_and_reused() {
    let origin = Origin::always(Reply::ok("fine"));
    let proxy = Proxy::with()
        .key("workers", "1")
        .start(&pool(&plain(std::slice::from_ref(&origin)), ""));
    for _ in 0..10 {
        request(proxy.port, "GET", "/", &[], b"");
    }
    assert!(
        origin.last().connection < 3,
        "{} connections",
        origin.last().connection + 1
    );
    let idle = "    keepalive: { idle: 100ms }\n";
    proxy.reload_with(&pool(&plain(std::slice::from_ref(&origin)), idle));
    get(proxy.port, "/");
}
