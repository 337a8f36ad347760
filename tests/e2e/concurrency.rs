//! How many requests at once, who waits for a place, and who is refused.

use crate::admin::with_admin;
use crate::client::{Answer, Client, get, request};
use crate::harness::{Proxy, eventually, free_port, one_route, until, with_upstream};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// A backend that answers when the gate opens.
fn held(gate: &Gate) -> Origin {
    let open = gate.clone();
    Origin::new(move |r| Reply::ok(&r.target).when(&open))
}

fn begun(proxy: &Proxy, path: &str, headers: &[(&str, &str)]) -> Client {
    let mut client = Client::to(proxy.port);
    client.begin("GET", path, headers, b"");
    client
}

/// `GET /status` of the admin address.
fn status(admin: u16) -> serde_json::Value {
    let answer = request(admin, "GET", "/status", &[("Host", "localhost")], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// How many places the route has at present.
fn limit(admin: u16) -> u64 {
    let limit = &status(admin)["routes"][0]["concurrency"]["limit"];
    limit.as_u64().expect("a number")
}

pub(crate) fn until_queued(admin: u16, n: u64) {
    until("they wait", || {
        status(admin)["routes"][0]["concurrency"]["queued"] == n
    });
}

fn refused(answer: &Answer, why: &str) {
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    let error = format!("backstop; error=connection_limit_reached; details=\"{why}\"");
    assert_eq!(answer.header("proxy-status"), Some(error.as_str()));
}

#[test]
fn s7_at_most_max_at_once_the_others_wait_their_turn_and_the_rest_is_refused_at_once() {
    let gate = Gate::default();
    let origin = held(&gate);
    let rules = "concurrency: { max: 1, queue: 3, queue_timeout: 10s }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], rules));
    let mut clients = vec![begun(&proxy, "/0", &[])];
    until("one is there", || origin.count() == 1);
    for n in 1..4 {
        clients.push(begun(&proxy, &format!("/{n}"), &[]));
        until_queued(admin, n);
    }
    let start = Instant::now();
    refused(&get(proxy.port, "/refused"), "queue_full");
    assert!(start.elapsed() < 1_000 * MS, "{:?}", start.elapsed());
    let line = proxy.logged("/refused");
    assert_eq!(
        (&line["http.response.status_code"], &line["retry"]),
        (&503.into(), &"queue_full".into())
    );
    gate.open();
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answer().text(), format!("/{n}"));
    }
    let order: Vec<String> = origin.requests().iter().map(|r| r.target.clone()).collect();
    assert_eq!(order, ["/0", "/1", "/2", "/3"], "first come, first served");
    let queued = proxy.logged("/3")["tries"][0]["queued_ms"].as_f64();
    assert!(queued.is_some_and(|ms| ms > 0.0), "{queued:?}");
}

#[test]
fn s7_nobody_waits_longer_than_queue_timeout() {
    let gate = Gate::default();
    let origin = held(&gate);
    let rules = "concurrency: { max: 1, queue: 3, queue_timeout: 200ms }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let mut first = begun(&proxy, "/first", &[]);
    until("it is there", || origin.count() == 1);
    let start = Instant::now();
    refused(&get(proxy.port, "/late"), "queue_timeout");
    let took = start.elapsed();
    assert!((200 * MS..2_000 * MS).contains(&took), "{took:?}");
    gate.open();
    assert_eq!(first.answer().status, 200);
    assert_eq!(origin.count(), 1);
}

#[test]
fn s7_queue_timeout_is_for_all_the_waits_of_a_request_together() {
    let (early, late) = (Gate::default(), Gate::default());
    let opens = (early.clone(), late.clone());
    let origin = Origin::new(move |r| match &*r.target {
        "/fails" => Reply::status(500),
        "/late" => Reply::ok("late").when(&opens.1),
        _ => Reply::ok("early").when(&opens.0),
    });
    let rules =
        "concurrency: { max: 1, queue: 3, queue_timeout: 2s }\nretry: { tries: 2, wait: 1ms }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], rules));
    let mut first = begun(&proxy, "/early", &[]);
    until("it is there", || origin.count() == 1);
    let start = Instant::now();
    let mut fails = begun(&proxy, "/fails", &[]);
    until_queued(admin, 1);
    // It is here when the first try of the one before it fails.
    let mut last = begun(&proxy, "/late", &[]);
    until_queued(admin, 2);
    until("most of the time is over", || start.elapsed() > 1_500 * MS);
    early.open();
    assert_eq!(first.answer().status, 200);
    refused(&fails.answer(), "queue_timeout");
    let took = start.elapsed();
    assert!((2_000 * MS..3_000 * MS).contains(&took), "{took:?}");
    late.open();
    assert_eq!(last.answer().status, 200);
}

#[test]
fn s7_the_origin_never_sees_more_than_max_whatever_comes() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = (now.clone(), most.clone());
    let origin = Origin::new(move |_| {
        let at_once = seen.0.fetch_add(1, Ordering::SeqCst) + 1;
        seen.1.fetch_max(at_once, Ordering::SeqCst);
        thread::park_timeout(2 * MS);
        seen.0.fetch_sub(1, Ordering::SeqCst);
        Reply::ok("fine")
    });
    let rules = "concurrency: { max: 5, queue: 100, queue_timeout: 15s }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let mut client = Client::to(proxy.port);
                for _ in 0..10 {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
    });
    assert_eq!(origin.count(), 400);
    assert!(most.load(Ordering::SeqCst) <= 5, "{most:?} at once");
    let _ = now;
}

#[test]
fn s7_a_wait_for_a_retry_holds_no_place() {
    let origin = Origin::new(|r| match (&*r.target, r.number) {
        ("/fails", 0) => Reply::status(500),
        _ => Reply::ok("fine"),
    });
    let rules = "concurrency: { max: 1, queue: 0 }\nretry: { tries: 2, wait: 1s }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    let mut waiting = begun(&proxy, "/fails", &[]);
    origin.until_released();
    for _ in 0..5 {
        assert_eq!(get(proxy.port, "/").status, 200);
    }
    assert_eq!(waiting.answer().status, 200);
}

#[test]
fn s7_an_answer_from_the_cache_takes_no_place() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |r| match &*r.target {
        "/stored" => Reply::ok("stored"),
        _ => Reply::ok("held").when(&open),
    });
    let rules = "concurrency: { max: 1, queue: 0 }\ncache: { ttl: 1h }";
    let proxy = Proxy::start(&one_route(&[origin.port], rules));
    assert_eq!(get(proxy.port, "/stored").status, 200);
    let mut holder = begun(&proxy, "/held", &[]);
    until("it holds the place", || origin.count() == 2);
    assert_eq!(get(proxy.port, "/stored").text(), "stored");
    assert_eq!(get(proxy.port, "/other").status, 503);
    gate.open();
    assert_eq!(holder.answer().text(), "held");
}

#[test]
fn s7_a_client_that_leaves_frees_its_place_and_its_turn() {
    let gate = Gate::default();
    let origin = held(&gate);
    let rules = "concurrency: { max: 1, queue: 2, queue_timeout: 15s }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], rules));
    let first = begun(&proxy, "/first", &[]);
    until("it is there", || origin.count() == 1);
    let second = begun(&proxy, "/second", &[]);
    until_queued(admin, 1);
    let mut third = begun(&proxy, "/third", &[]);
    until_queued(admin, 2);
    second.leave();
    until_queued(admin, 1);
    first.leave();
    // Only the third is left, and its turn has come.
    let reached = eventually("the third at the backend", || {
        origin.requests().get(1).cloned()
    });
    assert_eq!(reached.target, "/third");
    gate.open();
    assert_eq!(third.answer().text(), "/third");
    assert_eq!(origin.count(), 2);
}

#[test]
fn s7_who_comes_first_can_be_said_by_path_and_header() {
    let gate = Gate::default();
    let origin = held(&gate);
    let rules = "concurrency: { max: 1, queue: 4, queue_timeout: 15s, priority: { high: [{ header: X-Priority, value: high }], low: [{ path: /reports }] } }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], rules));
    let mut clients = vec![begun(&proxy, "/first", &[])];
    until("it is there", || origin.count() == 1);
    for (n, (path, headers)) in [
        ("/reports/1", &[][..]),
        ("/reports/2", &[]),
        ("/normal", &[]),
        ("/urgent", &[("X-Priority", "high")]),
    ]
    .into_iter()
    .enumerate()
    {
        clients.push(begun(&proxy, path, headers));
        until_queued(admin, n as u64 + 1);
    }
    // The queue is full: this one takes the place of the newest of the lowest.
    clients.push(begun(&proxy, "/urgent/2", &[("X-Priority", "high")]));
    let displaced = clients.remove(2).answer();
    refused(&displaced, "displaced");
    gate.open();
    assert!(clients.into_iter().all(|mut c| c.answer().status == 200));
    let order: Vec<String> = origin.requests().iter().map(|r| r.target.clone()).collect();
    assert_eq!(
        order,
        ["/first", "/urgent", "/urgent/2", "/normal", "/reports/1"]
    );
}

#[test]
fn s7_an_upstream_has_places_that_all_its_routes_share() {
    let gate = Gate::default();
    let origin = held(&gate);
    let upstreams = format!(
        "upstreams: {{ pool: {{ concurrency: {{ max: 1, queue: 0 }}, backends: [127.0.0.1:{}] }} }}\nroutes:\n  - {{ match: {{ path: /a }}, upstream: pool }}\n  - {{ match: {{ path: /b }}, upstream: pool }}\n",
        origin.port
    );
    let proxy = Proxy::start(&upstreams);
    let mut a = begun(&proxy, "/a", &[]);
    until("it is there", || origin.count() == 1);
    refused(&get(proxy.port, "/b"), "queue_full");
    gate.open();
    assert_eq!(a.answer().status, 200);
    assert_eq!(get(proxy.port, "/b").status, 200);
}

#[test]
fn max_conns_bounds_one_backend_and_a_queue_waits_for_it() {
    let gate = Gate::default();
    let (one, two) = (held(&gate), held(&gate));
    let backends = format!(
        "[{{ address: 127.0.0.1:{}, max_conns: 1 }}, {{ address: 127.0.0.1:{}, max_conns: 2 }}]",
        one.port, two.port
    );
    let upstreams = |keys: &str| {
        format!(
            "upstreams: {{ pool: {{ {keys} backends: {backends} }} }}\nroutes: [{{ upstream: pool }}]\n"
        )
    };
    let proxy = Proxy::start(&upstreams(""));
    let mut clients: Vec<Client> = (0..3).map(|_| begun(&proxy, "/", &[])).collect();
    until("both are full", || one.count() + two.count() == 3);
    assert_eq!((one.count(), two.count()), (1, 2));
    refused(&get(proxy.port, "/"), "queue_full");
    proxy.reload_with(&upstreams("concurrency: { max: 100, queue: 0 },"));
    refused(&get(proxy.port, "/"), "queue_full");
    proxy.reload_with(&upstreams("concurrency: { max: 100, queue_timeout: 10s },"));
    clients.push(begun(&proxy, "/waits", &[]));
    assert!(clients[3].is_silent_for(100 * MS));
    gate.open();
    assert!(clients.into_iter().all(|mut c| c.answer().status == 200));
}

#[test]
fn who_waits_for_a_full_backend_is_served_by_priority_and_arrival_and_a_reload_makes_room() {
    let gate = Gate::default();
    let origin = held(&gate);
    let upstreams = |most: u32| {
        format!(
            "upstreams: {{ pool: {{ concurrency: {{ max: 100, queue_timeout: 1m, priority: {{ high: [{{ path: /high }}], low: [{{ path: /low }}] }} }}, backends: [{{ address: 127.0.0.1:{}, max_conns: {most} }}] }} }}\nroutes: [{{ upstream: pool, timeouts: {{ total: 2m }} }}]\n",
            origin.port
        )
    };
    let (setup, admin) = with_admin();
    let proxy = setup.start(&upstreams(1));
    let active = || status(admin)["upstreams"][0]["concurrency"]["active"].clone();
    let mut clients = vec![begun(&proxy, "/first", &[])];
    until("it is full", || origin.count() == 1);
    for (n, path) in ["/low/1", "/normal/1", "/normal/2", "/high/1"]
        .iter()
        .enumerate()
    {
        clients.push(begun(&proxy, path, &[]));
        until("it waits", || active() == n + 2);
    }
    // One after the other from here on.
    gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    let order: Vec<String> = origin.requests().iter().map(|r| r.target.clone()).collect();
    assert_eq!(
        order,
        ["/first", "/high/1", "/normal/1", "/normal/2", "/low/1"]
    );
    let gate = Gate::default();
    let open = gate.clone();
    origin.set(move |_| Reply::ok("").when(&open));
    let mut clients: Vec<Client> = (0..3).map(|_| begun(&proxy, "/", &[])).collect();
    until("one is there and the others wait", || {
        origin.count() == 6 && active() == 3
    });
    proxy.reload_with(&upstreams(3));
    until("all are there", || origin.count() == 8);
    gate.open();
    assert!(clients.iter_mut().all(|c| c.answer().status == 200));
}

#[test]
fn who_waits_for_a_full_backend_takes_another_that_comes_back() {
    let gate = Gate::default();
    let busy = held(&gate);
    let gone = free_port();
    let upstreams = format!(
        "upstreams: {{ pool: {{ concurrency: {{ max: 100, queue_timeout: 1m }}, backends: [{{ address: 127.0.0.1:{}, max_conns: 1 }}, 127.0.0.1:{gone}] }} }}\nroutes: [{{ upstream: pool, timeouts: {{ total: 2m }} }}]\n",
        busy.port
    );
    let proxy = Proxy::start(&upstreams);
    let mut first = begun(&proxy, "/", &[]);
    until("it is full", || busy.count() == 1);
    assert_eq!(get(proxy.port, "/").status, 502);
    proxy.said("is unreachable");
    let mut second = begun(&proxy, "/", &[]);
    assert!(second.is_silent_for(100 * MS));
    let _back = Origin::at(([127, 0, 0, 1], gone).into(), |_| Reply::ok("back"));
    assert_eq!(second.answer().text(), "back");
    gate.open();
    assert_eq!(first.answer().status, 200);
}

#[test]
fn an_adaptive_limit_finds_what_the_backend_can_do() {
    // Four at a time; further ones wait inside it, as in a pool of threads.
    let places = Arc::new((std::sync::Mutex::new(4), std::sync::Condvar::new()));
    let origin = Origin::new(move |_| {
        let (free, freed) = &*places;
        let mut free = free.lock().unwrap();
        while *free == 0 {
            free = freed.wait(free).unwrap();
        }
        *free -= 1;
        drop(free);
        thread::park_timeout(5 * MS);
        *places.0.lock().unwrap() += 1;
        places.1.notify_one();
        Reply::ok("fine")
    });
    let rules = "concurrency: { adaptive: true, min: 1, max: 60, queue: 200, queue_timeout: 15s }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], rules));
    let limit = || limit(admin);
    // What an answer takes when nobody is in its way.
    let mut client = Client::to(proxy.port);
    for _ in 0..60 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(limit(), 20, "where it begins");
    under_load(&proxy, || until("the limit comes down", || limit() <= 14));
}

#[test]
fn an_adaptive_limit_stays_between_min_and_max() {
    // One at a time: a second one waits inside it.
    let place = Arc::new(std::sync::Mutex::new(()));
    let narrow = Origin::new(move |_| {
        let one = place.lock();
        thread::park_timeout(4 * MS);
        drop(one);
        Reply::ok("fine")
    });
    let wide = Origin::new(|_| {
        thread::park_timeout(4 * MS);
        Reply::ok("fine")
    });
    for (origin, end) in [(&narrow, 8), (&wide, 24)] {
        let rules =
            "concurrency: { adaptive: true, min: 8, max: 24, queue: 200, queue_timeout: 15s }";
        let (setup, admin) = with_admin();
        let proxy = setup.start(&one_route(&[origin.port], rules));
        let mut client = Client::to(proxy.port);
        for _ in 0..60 {
            assert_eq!(client.get("/").status, 200);
        }
        assert_eq!(limit(admin), 20, "where it begins");
        under_load(&proxy, || {
            until("it has come to its bound", || limit(admin) == end);
            let begun = origin.count();
            until("there were 500 more", || {
                let now = limit(admin);
                assert!((8..=24).contains(&now), "{now}");
                origin.count() >= begun + 500
            });
        });
    }
}

#[test]
fn an_adaptive_limit_learns_nothing_from_failures_that_come_at_once() {
    let broken = Gate::default();
    let mended = broken.clone();
    let origin = Origin::new(move |_| match mended.is_open() {
        false => Reply::status(500),
        true => Reply::ok("fine").after(20 * MS),
    });
    let rules = "concurrency: { adaptive: true, min: 1, max: 60, queue: 200, queue_timeout: 15s }\nretry: { tries: 1 }";
    let (setup, admin) = with_admin();
    let upstreams = with_upstream(&one_route(&[origin.port], rules), "eject: off");
    let proxy = setup.start(&upstreams);
    let limit = || limit(admin);
    let mut client = Client::to(proxy.port);
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 500);
    }
    assert_eq!(limit(), 20, "where it begins");
    broken.open();
    let mut lowest = 20;
    under_load(&proxy, || {
        until("it grows, for there is no queue", || {
            lowest = limit().min(lowest);
            limit() > 22
        });
    });
    // Twenty times as long as the failures took is not late.
    assert!(lowest >= 18, "{lowest}");
}

/// While 40 clients ask again and again.
fn under_load(proxy: &Proxy, meanwhile: impl FnOnce()) {
    let done = Gate::default();
    thread::scope(|scope| {
        let _end = OpenAtEnd(&done);
        for _ in 0..40 {
            scope.spawn(|| {
                let mut client = Client::to(proxy.port);
                while !done.is_open() {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
        meanwhile();
    });
}

/// Lets threads end that wait for this gate, also when the test fails.
struct OpenAtEnd<'a>(&'a Gate);

impl Drop for OpenAtEnd<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[test]
fn a_limit_that_a_reload_raises_lets_in_who_waits() {
    let gate = Gate::default();
    let origin = held(&gate);
    let rules = |max: u32| format!("concurrency: {{ max: {max}, queue: 5, queue_timeout: 15s }}");
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], &rules(1)));
    let mut clients = vec![begun(&proxy, "/1", &[])];
    until("it is there", || origin.count() == 1);
    clients.push(begun(&proxy, "/2", &[]));
    until_queued(admin, 1);
    proxy.reload_with(&one_route(&[origin.port], &rules(3)));
    clients.push(begun(&proxy, "/3", &[]));
    until("all are there", || origin.count() == 3);
    gate.open();
    assert!(clients.into_iter().all(|mut c| c.answer().status == 200));
}

#[test]
fn a_reload_lets_in_who_waits_at_once_and_a_removed_limit_everybody() {
    for (keys, rules) in [
        (
            "more places",
            "concurrency: { max: 3, queue: 5, queue_timeout: 1m }",
        ),
        ("no limit", ""),
    ] {
        let gate = Gate::default();
        let origin = held(&gate);
        let one = "concurrency: { max: 1, queue: 5, queue_timeout: 1m }";
        let (setup, admin) = with_admin();
        let proxy = setup.start(&one_route(&[origin.port], one));
        let mut clients = Vec::new();
        for n in 0..3 {
            clients.push(begun(&proxy, "/", &[]));
            until("it is there or waits", || {
                let queued = status(admin)["routes"][0]["concurrency"]["queued"].as_u64();
                origin.count() as u64 + queued.unwrap_or(0) == n + 1
            });
        }
        assert_eq!(origin.count(), 1, "{keys}");
        proxy.reload_with(&one_route(&[origin.port], rules));
        // And nobody else comes.
        until("all are there", || origin.count() == 3);
        gate.open();
        assert!(clients.into_iter().all(|mut c| c.answer().status == 200));
    }
}

#[test]
fn a_request_from_before_a_reload_brings_no_old_limit_back() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |r| match (&*r.target, r.number) {
        ("/fails", 0) => Reply::status(500),
        ("/fails", _) => Reply::ok("fine"),
        _ => Reply::ok("held").when(&open),
    });
    let rules = |max: u32| {
        format!("concurrency: {{ max: {max}, queue: 0 }}\nretry: {{ tries: 2, wait: 2s }}")
    };
    let proxy = Proxy::start(&one_route(&[origin.port], &rules(1)));
    let mut old = begun(&proxy, "/fails", &[]);
    until("its first try fails", || origin.count() == 1);
    proxy.reload_with(&one_route(&[origin.port], &rules(3)));
    let mut held: Vec<Client> = (0..2).map(|_| begun(&proxy, "/", &[])).collect();
    until("they are there", || origin.count() == 3);
    assert_eq!(old.answer().text(), "fine");
    gate.open();
    assert!(held.iter_mut().all(|c| c.answer().status == 200));
}
