//! Connections are spread over the workers, whoever accepts them.

use crate::admin::with_admin;
use crate::client::Client;
use crate::harness::{one_route, until};
use crate::observe::{metrics, value};
use crate::origin::Origin;
use crate::reply::Reply;

/// Connections of each of so many workers.
fn of_workers(admin: u16, workers: usize) -> Vec<f64> {
    let text = metrics(admin);
    let series = |worker| format!("backstop_worker_connections{{worker=\"{worker}\"}}");
    (0..workers)
        .map(|worker| value(&text, &series(worker)).unwrap())
        .collect()
}

#[test]
fn every_worker_has_its_share_of_a_burst_of_connections() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let (setup, admin) = with_admin();
    let proxy = setup
        .key("workers", "4")
        .start(&one_route(&[origin.port], ""));
    // At once, as a client that opens a pool of them does: whoever wakes up first finds them all.
    let mut clients: Vec<Client> = (0..64).map(|_| Client::to(proxy.port)).collect();
    until("all are there", || {
        of_workers(admin, 4).iter().sum::<f64>() >= 64.0
    });
    let open = of_workers(admin, 4);
    let (most, least) = open
        .iter()
        .fold((0.0, f64::MAX), |(most, least): (f64, f64), &n| {
            (most.max(n), least.min(n))
        });
    // Those that are accepted in the same moment do not know of each other.
    assert!(most - least <= 8.0, "{open:?}");
    // Each of them is served, wherever it is.
    for client in &mut clients {
        assert_eq!(client.get("/").body, b"hello");
    }
    drop(clients);
    until("nobody is counted any more", || {
        of_workers(admin, 4).iter().all(|open| *open == 0.0)
    });
}
