//! Ten thousand clients at once, and a backend that takes a hundred.

use crate::harness::{Proxy, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CLIENTS: usize = 10_000;
/// What the backend takes at once.
const MOST: usize = 100;
/// How long it takes for each: the queue of 3,000 would need one and a half seconds.
const SERVICE: Duration = Duration::from_millis(50);
/// How long anybody waits.
const PATIENCE_MS: f64 = 1_000.0;
/// How much later a request may go on than it was told to. An unoptimised build needs seconds for what comes at once here, so
/// that of times it can only be said that they are not endless.
const LATE_MS: f64 = if cfg!(debug_assertions) {
    5_000.0
} else {
    20.0
};
/// How long a refusal takes at most, but for one in a hundred.
const REFUSAL_MS: f64 = if cfg!(debug_assertions) { 100.0 } else { 5.0 };

/// Connects all clients, then has all of them ask, each for its number. Says what each got.
fn ask_all(port: u16) -> Vec<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut clients = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            let stream = TcpStream::connect(("127.0.0.1", port)).await;
            clients.push(stream.expect("a connection; this takes more than 10,000 descriptors"));
        }
        let asking: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(n, mut stream)| {
                tokio::spawn(async move {
                    let request = format!("GET /{n} HTTP/1.1\r\nHost: example.com\r\n\r\n");
                    stream.write_all(request.as_bytes()).await.expect("sent");
                    let mut head = [0; 12];
                    stream.read_exact(&mut head).await.expect("an answer");
                    let status = String::from_utf8_lossy(&head[9..]).parse();
                    status.expect("a status")
                })
            })
            .collect();
        let mut statuses = Vec::with_capacity(CLIENTS);
        for client in asking {
            statuses.push(client.await.expect("no panic"));
        }
        statuses
    })
}

/// Milliseconds since some midnight at which a request began, as its line says.
fn began(line: &Value) -> f64 {
    let time = line["time"].as_str().expect("a time");
    let part = |range: std::ops::Range<usize>| -> f64 {
        let part = time.get(range).and_then(|part| part.parse().ok());
        part.unwrap_or_else(|| panic!("{time}"))
    };
    ((part(11..13) * 60.0 + part(14..16)) * 60.0 + part(17..23)) * 1_000.0
}

fn milliseconds(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// The greatest of these but for one in a hundred.
fn p99(times: impl Iterator<Item = f64>) -> f64 {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

#[test]
fn s7_100_at_once_and_10_000_clients() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = (now, most.clone());
    let origin = Origin::new(move |_| {
        let at_once = seen.0.fetch_add(1, Ordering::SeqCst) + 1;
        seen.1.fetch_max(at_once, Ordering::SeqCst);
        thread::park_timeout(SERVICE);
        seen.0.fetch_sub(1, Ordering::SeqCst);
        Reply::ok("fine")
    });
    let rules = "concurrency: { max: 100, queue: 3000, queue_timeout: 1s }\nretry: { tries: 1 }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let statuses = ask_all(proxy.port);
    let count = |status: u16| statuses.iter().filter(|s| **s == status).count();
    let (served, refused) = (count(200), count(503));
    assert_eq!(served + refused, CLIENTS);
    assert_eq!(origin.count(), served);
    let most = most.load(Ordering::SeqCst);
    assert!((MOST / 10..=MOST).contains(&most), "{most} at once");

    until("all lines", || proxy.log_lines().len() == CLIENTS);
    let lines = proxy.log_lines();
    let of = |retry: &'static str| lines.iter().filter(move |l| l["retry"] == retry);
    // What the proxy needs for it: the clients of this test answer for themselves.
    let refusals = || of("queue_full").map(|l| milliseconds(&l["duration_ms"]));
    let refusal = p99(refusals());
    let queued = |line: &Value| milliseconds(&line["tries"][0]["queued_ms"]);
    let longest = of("answered").map(queued).fold(0.0, f64::max);
    let given_up: Vec<f64> = of("queue_timeout")
        .map(|l| milliseconds(&l["duration_ms"]))
        .collect();
    println!(
        "served {served}, refused {} at once and {} later; p99 of a refusal {refusal} ms, longest wait {longest} ms",
        refusals().count(),
        given_up.len(),
    );
    // First come, first served: by when they came, they went on one after the other.
    let mut order: Vec<(f64, f64)> = of("answered")
        .map(|line| (began(line), began(line) + queued(line)))
        .filter(|(came, went)| went - came > 1.0)
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(order.len() > 50, "{} waited", order.len());
    let mut latest: f64 = 0.0;
    let mut worst: f64 = 0.0;
    for (_, went) in &order {
        worst = worst.max(latest - went);
        latest = latest.max(*went);
    }
    println!(
        "{} waited, and nobody went more than {worst} ms before one who had come earlier",
        order.len()
    );
    assert!(worst <= LATE_MS / 5.0);

    // More than the queue has room for, and more in it than can be served in time.
    assert!(refusals().count() > 1_000 && given_up.len() > 100);
    assert!(refusal < REFUSAL_MS);
    assert!(longest <= PATIENCE_MS + LATE_MS);
    let patient = PATIENCE_MS..PATIENCE_MS + LATE_MS;
    assert!(given_up.iter().all(|took| patient.contains(took)));
}
