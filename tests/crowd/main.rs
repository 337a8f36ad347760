//! Ten thousand clients at once, and a backend that takes a hundred. By itself, for it looks at times.
// A test says what it expects by failing where it does not come.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../e2e/harness.rs"]
#[allow(dead_code)]
mod harness; // the process under test, as in the other end-to-end tests
#[path = "../e2e/origin.rs"]
#[allow(dead_code)]
mod origin; // its backend
#[path = "../e2e/reply.rs"]
#[allow(dead_code)]
mod reply; // what that says

use harness::{Proxy, one_route, until};
use origin::Origin;
use reply::Reply;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CLIENTS: usize = 10_000;
/// So many of them ask at once, the others one after the other, so that the machine can see to it.
const AT_ONCE: usize = 1_000;
const APART: Duration = Duration::from_millis(2);
/// What the backend takes at once.
const MOST: usize = 100;
/// How long it takes for each: 250 in a second, half of those who come.
const SERVICE: Duration = Duration::from_millis(400);
/// How long anybody waits: 250 can be served meanwhile, and 600 may wait.
const PATIENCE_MS: f64 = 1_000.0;
/// How much later a request may go on than it was told to. An unoptimised build takes longer for everything.
const LATE_MS: f64 = if cfg!(debug_assertions) {
    1_000.0
} else {
    50.0
};
/// How much later than one who came later it may go on, but for one in a hundred.
const BEHIND_MS: f64 = if cfg!(debug_assertions) { 400.0 } else { 50.0 };
/// How long a refusal takes at most, but for one in a hundred.
const REFUSAL_MS: f64 = 5.0;

/// How much longer the proxy may take for each millisecond that the clients are late: it has more to do than they.
const SLOWER: f64 = 4.0;

/// Connects all clients, then has all of them ask, each for its number. Says what each got, and how many
/// milliseconds later than it was to it asked: if it is much, the machine was busy with something else.
fn ask_all(port: u16) -> Vec<(u16, f64)> {
    // They, and the connections to the backend.
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit).expect("as many descriptors as there may be");
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
        let start = tokio::time::Instant::now();
        let asking: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(n, stream)| {
                let turn = u32::try_from(n.saturating_sub(AT_ONCE)).expect("few");
                tokio::spawn(ask(n, stream, start + turn * APART))
            })
            .collect();
        let mut statuses = Vec::with_capacity(CLIENTS);
        for client in asking {
            statuses.push(client.await.expect("no panic"));
        }
        statuses
    })
}

async fn ask(n: usize, mut stream: TcpStream, at: tokio::time::Instant) -> (u16, f64) {
    tokio::time::sleep_until(at).await;
    let late = at.elapsed().as_secs_f64() * 1_000.0;
    let request = format!("GET /{n} HTTP/1.1\r\nHost: example.com\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.expect("an answer");
    let status = String::from_utf8_lossy(&head[9..]).parse();
    (status.expect("a status"), late)
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
    let rules = "concurrency: { max: 100, queue: 600, queue_timeout: 1s }\nretry: { tries: 1 }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let clients = ask_all(proxy.port);
    let count = |status: u16| clients.iter().filter(|c| c.0 == status).count();
    let late = p99(clients.iter().skip(AT_ONCE).map(|c| c.1));
    let (served, refused) = (count(200), count(503));
    assert_eq!(served + refused, CLIENTS);
    assert_eq!(origin.count(), served);
    let most = most.load(Ordering::SeqCst);
    assert_eq!(most, MOST, "at once");

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
    println!("p99 of how late the clients themselves were {late} ms");
    println!(
        "served {served}, refused {} at once and {} later; p99 of a refusal {refusal} ms, longest wait {longest} ms",
        refusals().count(),
        given_up.len(),
    );
    // First come, first served: by when they came, they went on one after the other, or gave up. The first of them say
    // nothing: with a thousand at once, it counts who is given a processor.
    let number = |line: &Value| {
        let path = line["url.path"].as_str().expect("a path");
        path[1..].parse::<usize>().expect("its number")
    };
    let waited = |line: &&Value| number(line) > 2 * AT_ONCE && queued(line) > 1.0;
    let went = of("answered").filter(waited).map(|l| (began(l), queued(l)));
    let gave_up = of("queue_timeout").filter(|l| number(l) > 2 * AT_ONCE);
    let gave_up = gave_up.map(|l| (began(l), milliseconds(&l["duration_ms"])));
    let mut order: Vec<(f64, f64)> = went.chain(gave_up).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut latest: f64 = 0.0;
    let behind = p99(order.iter().map(|(came, waited)| {
        let behind = latest - came - waited;
        latest = latest.max(came + waited);
        behind
    }));
    println!(
        "{} waited, p99 of what they went on after one who had come later {behind} ms",
        order.len()
    );
    assert!(order.len() > 1_000);
    // Where the last went first, or anybody, it would be as long as the wait.
    assert!(behind <= BEHIND_MS + SLOWER * late);

    // More than the queue has room for, and more in it than can be served in time.
    assert!(refusals().count() > 200 && given_up.len() > 100);
    assert!(refusal < REFUSAL_MS + SLOWER * late);
    let most = PATIENCE_MS + LATE_MS + SLOWER * late;
    assert!(longest <= most);
    let patient = PATIENCE_MS..most;
    assert!(given_up.iter().all(|took| patient.contains(took)));
}
