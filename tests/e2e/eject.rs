//! Backends that fail: when they leave the rotation, and how they come back.

use crate::client::{Client, get};
use crate::harness::{
    PATIENCE, Proxy, free_port, never_ejecting, one_route, outcomes, until, with_upstream,
};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const RETRY: &str = "retry: { tries: 3, wait: 1ms }";

fn ports(origins: &[Origin]) -> Vec<u16> {
    origins.iter().map(|o| o.port).collect()
}

fn fine(n: usize) -> Vec<Origin> {
    (0..n).map(|_| Origin::always(Reply::ok("fine"))).collect()
}

fn ask(proxy: &Proxy, n: usize) {
    let mut client = Client::to(proxy.port);
    for _ in 0..n {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn s8_a_backend_that_only_fails_is_ejected_and_comes_back_by_a_trial() {
    let origins = fine(3);
    origins[0].set(|_| Reply::status(500));
    let eject = "eject: { consecutive: 3, time: 300ms, slow_start: 0s }";
    let upstreams = with_upstream(&one_route(&ports(&origins), RETRY), eject);
    let proxy = Proxy::start(&upstreams);
    ask(&proxy, 12);
    proxy.said("is ejected for 300.0ms: 3 failed tries in a row");
    // Then one at a time is let through, and it goes for longer each time.
    let deadline = Instant::now() + PATIENCE;
    while proxy.count_said("ejected for 600.0ms: the trial request failed") == 0 {
        ask(&proxy, 3);
        assert!(Instant::now() < deadline);
    }
    let failed = origins[0].count();
    assert!(
        failed <= 5,
        "{failed} requests for a backend that only fails"
    );
    origins[0].set(|_| Reply::ok("fine"));
    while proxy.count_said("is back: a trial request succeeded") == 0 {
        ask(&proxy, 3);
        assert!(Instant::now() < deadline);
    }
    let before = origins[0].count();
    ask(&proxy, 30);
    assert_eq!(origins[0].count() - before, 10, "it has its whole share");
}

#[test]
fn a_trial_is_one_request_at_a_time() {
    let origins = fine(2);
    let gate = Gate::default();
    let eject = "eject: { consecutive: 1, time: 100ms }";
    let upstreams = with_upstream(&one_route(&ports(&origins), RETRY), eject);
    let proxy = Proxy::start(&upstreams);
    origins[0].set(|_| Reply::status(500));
    ask(&proxy, 2);
    proxy.said("is ejected");
    let open = gate.clone();
    origins[0].set(move |_| Reply::ok("slow").when(&open));
    let before = origins[0].count();
    let mut waiting = Vec::new();
    // Until one of them is the trial; it hangs.
    until("a trial", || {
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/", &[], b"");
        waiting.push(client);
        origins[0].count() > before
    });
    // Nobody else is sent there, although its turn comes again and again.
    ask(&proxy, 20);
    assert_eq!(origins[0].count(), before + 1);
    gate.open();
    assert!(waiting.into_iter().all(|mut c| c.answer().status == 200));
    proxy.said("is back");
}

/// The trial was good, and goes on: that is no reason to give the backend no second one when it has failed once more.
#[test]
fn a_trial_that_goes_on_for_hours_is_over_with_its_head() {
    let origins = fine(2);
    let eject = "eject: { consecutive: 1, time: 100ms, slow_start: 0s }";
    let proxy = Proxy::start(&with_upstream(&one_route(&ports(&origins), RETRY), eject));
    origins[0].set(|_| Reply::status(500));
    ask(&proxy, 2);
    proxy.said("is ejected");
    origins[0].set(|_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n7\r\n: hello\r\n";
        Reply::raw(head).then(Reply::hang())
    });
    let mut streams = Vec::new();
    until("it is back", || {
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/", &[], b"");
        client.head().expect("a head");
        streams.push(client);
        proxy.count_said("is back: a trial request succeeded") == 1
    });
    origins[0].set(|_| Reply::status(500));
    until("it is ejected again", || {
        ask(&proxy, 2);
        proxy.count_said("is ejected for") >= 2
    });
    origins[0].set(|_| Reply::ok("fine"));
    until("it is back again", || {
        ask(&proxy, 2);
        proxy.count_said("is back: a trial request succeeded") == 2
    });
    assert!(!streams.is_empty());
}

/// Never five in a row, and yet too many.
#[test]
fn a_backend_that_fails_too_large_a_share_is_ejected() {
    let origins = fine(3);
    origins[0].set(|r| match r.number % 2 {
        0 => Reply::status(500),
        _ => Reply::ok("fine"),
    });
    let eject = "eject: { consecutive: 5, error_rate: 40%, min_tries: 10, window: 30s, time: 1m }";
    let proxy = Proxy::start(&with_upstream(&one_route(&ports(&origins), RETRY), eject));
    ask(&proxy, 24);
    assert_eq!(proxy.count_said("is ejected"), 0, "too few to tell");
    ask(&proxy, 30);
    let said = proxy.said("is ejected for 60.0s");
    assert!(said.contains("% of its tries failed"), "{said}");
    let before = origins[0].count();
    ask(&proxy, 30);
    assert_eq!(origins[0].count(), before);
}

#[test]
fn a_trial_that_meets_a_listed_status_failed_whatever_that_is() {
    let origins = fine(2);
    origins[0].set(|_| Reply::status(429));
    let eject = "eject: { consecutive: 1, time: 200ms }";
    let rules = "retry: { on: [429], tries: 1 }";
    let proxy = Proxy::start(&with_upstream(&one_route(&ports(&origins), rules), eject));
    let mut client = Client::to(proxy.port);
    until("a trial", || {
        client.get("/");
        proxy.count_said("ejected for 400.0ms: the trial request failed") == 1
    });
    assert_eq!(proxy.count_said("is back"), 0);
}

#[test]
fn a_backend_that_comes_back_begins_with_a_tenth_of_its_share() {
    let one = fine(1);
    let gone = free_port();
    let eject = "eject: { slow_start: 10h }";
    let proxy = Proxy::start(&with_upstream(
        &one_route(&[one[0].port, gone], RETRY),
        eject,
    ));
    let mut client = Client::to(proxy.port);
    until("it is found to be gone", || {
        client.get("/");
        proxy.count_said("is unreachable") == 1
    });
    let back = Origin::at(([127, 0, 0, 1], gone).into(), |_| Reply::ok("back"));
    proxy.said("takes connections again");
    let before = back.count();
    for _ in 0..2_000 {
        assert_eq!(client.get("/").status, 200);
    }
    // A tenth of the half; six times the standard deviation on either side.
    let got = back.count() - before;
    assert!((40..=160).contains(&got), "{got} of 2000");
}

#[test]
fn s8_never_more_than_half_and_never_the_last() {
    let origins = fine(4);
    for origin in &origins {
        origin.set(|_| Reply::status(500));
    }
    let eject = "eject: { consecutive: 1, time: 1m }";
    let rules = "retry: { tries: 1 }";
    let upstreams = with_upstream(&one_route(&ports(&origins), rules), eject);
    let proxy = Proxy::start(&upstreams);
    let mut client = Client::to(proxy.port);
    for _ in 0..40 {
        assert_eq!(client.get("/").text(), "the backend's own 500\n");
    }
    assert_eq!(proxy.count_said("is ejected"), 2);
    let single = fine(1);
    single[0].set(|_| Reply::status(500));
    let upstreams = with_upstream(
        &one_route(&ports(&single), rules),
        "eject: { consecutive: 1, max_ejected: 100% }",
    );
    let proxy = Proxy::start(&upstreams);
    let mut client = Client::to(proxy.port);
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 500);
    }
    assert_eq!(single[0].count(), 10);
    assert_eq!(proxy.count_said("is ejected"), 0);
}

#[test]
fn max_fails_within_fail_timeout_as_nginx_means_it() {
    let origins = fine(2);
    origins[0].set(|_| Reply::status(500));
    let backends = format!(
        "[{{ address: 127.0.0.1:{}, max_fails: 2, fail_timeout: 30s }}, 127.0.0.1:{}]",
        origins[0].port, origins[1].port
    );
    let upstreams = format!(
        "upstreams: {{ pool: {{ eject: off, backends: {backends} }} }}\nroutes: [{{ upstream: pool, {RETRY} }}]\n"
    );
    let proxy = Proxy::start(&upstreams);
    ask(&proxy, 10);
    assert_eq!(origins[0].count(), 2);
    proxy.said("is ejected for 30.0s: 2 failed tries within fail_timeout");
}

#[test]
fn a_slow_backend_is_ejected_when_it_is_slower_than_the_others() {
    let origins = fine(3);
    origins[2].set(|_| Reply::ok("slow").after(60 * MS));
    let eject = "eject: { latency: 5x, min_tries: 5, time: 1m }";
    let upstreams = with_upstream(&one_route(&ports(&origins), ""), eject);
    let proxy = Proxy::start(&upstreams);
    until("the slow one goes", || {
        ask(&proxy, 3);
        proxy.count_said("times as slow as the others") == 1
    });
    let before = origins[2].count();
    ask(&proxy, 10);
    assert_eq!(origins[2].count(), before);
}

#[test]
fn a_client_that_leaves_counts_against_no_backend() {
    let origins = fine(2);
    let gate = Gate::default();
    for origin in &origins {
        let open = gate.clone();
        origin.set(move |_| Reply::ok("late").when(&open));
    }
    let eject = "eject: { consecutive: 1 }";
    let upstreams = with_upstream(&one_route(&ports(&origins), RETRY), eject);
    let proxy = Proxy::start(&upstreams);
    for n in 1..=6 {
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/", &[], b"");
        until("it is under way", || {
            origins.iter().map(Origin::count).sum::<usize>() == n
        });
        client.leave();
    }
    until("all have left", || proxy.log_lines().len() == 6);
    gate.open();
    ask(&proxy, 4);
    assert_eq!(proxy.count_said("is ejected"), 0);
}

#[test]
fn s5_with_nothing_to_connect_to_a_503_comes_at_once_and_the_service_when_it_is_back() {
    let ports = [free_port(), free_port()];
    let rules = "retry: { tries: 5, wait: 100ms }\ncache: { ttl: 1h }";
    let proxy = Proxy::start(&one_route(&ports, rules));
    // The first ones pay for finding out.
    assert!(get(proxy.port, "/first").status >= 502);
    assert_eq!(get(proxy.port, "/second").status, 503);
    for port in ports {
        proxy.said(&format!("backend 127.0.0.1:{port} is unreachable"));
    }
    let mut times = Vec::new();
    for n in 0..20 {
        let start = Instant::now();
        let answer = get(proxy.port, &format!("/{n}"));
        times.push(start.elapsed());
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1"))
        );
        // One now and then finds out whether a backend is back.
        let line = proxy.logged(&format!("/{n}"));
        assert_eq!(line["retry"], "no_backend", "{line}");
        assert!(outcomes(&line).len() <= 1, "{line}");
    }
    times.sort();
    // A busy machine may be slow at times, but not mostly.
    assert!(times[times.len() / 2] < 50 * MS, "{times:?}");
    let address: SocketAddr = ([127, 0, 0, 1], ports[0]).into();
    let origin = Origin::at(address, |_| Reply::ok("back"));
    let back = Instant::now();
    until("it is noticed", || get(proxy.port, "/again").status == 200);
    assert!(back.elapsed() < 2_000 * MS, "{:?}", back.elapsed());
    assert!(origin.count() > 0);
}

#[test]
fn s5_dead_backends_are_not_hit_by_every_request() {
    let mut origins = fine(2);
    let upstreams = one_route(&ports(&origins), "retry: { tries: 5, wait: 1ms }");
    let proxy = Proxy::start(&upstreams);
    ask(&proxy, 4);
    for origin in &mut origins {
        origin.stop();
    }
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::to(proxy.port);
                for _ in 0..50 {
                    assert!(client.get("/down").status >= 502);
                }
            });
        }
    });
    // 400 requests with five tries each would be 2,000; none of those that come once it is known is tried.
    until("all lines", || proxy.log_lines().len() == 404);
    let tries: usize = proxy.log_lines().iter().map(|l| outcomes(l).len()).sum();
    assert!(tries < 100, "{tries} tries of dead backends");
}

/// Processor time of a process so far, in seconds (proc(5)).
fn processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
    let ticks: u64 = [fields[12], fields[13]]
        .map(|t| t.parse::<u64>().unwrap())
        .iter()
        .sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[test]
fn s5_while_all_are_down_only_probes_reach_them_and_the_process_rests() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::always(Reply::status(500))).collect();
    let upstreams = one_route(&ports(&origins), "retry: { tries: 5, wait: 1ms }");
    let check = "health_check: { path: /health, interval: 100ms, fall: 1 }";
    let proxy = Proxy::start(&with_upstream(&upstreams, check));
    until("it is known", || get(proxy.port, "/x").status == 503);
    let seen = |is_probe: bool| {
        let all = origins.iter().flat_map(Origin::requests);
        all.filter(|r| (r.target == "/health") == is_probe).count()
    };
    let before = seen(false);
    let mut client = Client::to(proxy.port);
    for _ in 0..60 {
        assert_eq!(client.get("/down").status, 503);
    }
    assert_eq!(seen(false), before);
    let (probes, spent, began) = (seen(true), processor(proxy.pid()), Instant::now());
    until("each is probed some twenty times", || {
        seen(true) >= probes + 60
    });
    let lasted = began.elapsed();
    // At most twice as often as else, so that the first to return is soon found; for a small part of one processor.
    assert!(lasted > 800 * MS, "{lasted:?}");
    let share = (processor(proxy.pid()) - spent) / lasted.as_secs_f64();
    assert!(share < 0.2, "{share}");
}

/// Also while clients go on asking: what is refused costs less than what is answered in all of Pingora's phases, as a POST is.
#[test]
fn s5_while_all_are_gone_clients_cost_less_than_before() {
    let mut origins = fine(2);
    let upstreams = one_route(&ports(&origins), "retry: { tries: 5, wait: 1ms }");
    let proxy = Proxy::start(&upstreams);
    let spent_on = |method: &str, expected: u16| {
        let before = processor(proxy.pid());
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let mut client = Client::to(proxy.port);
                    for _ in 0..50 {
                        let answer = client.request(method, "/x", &[], b"");
                        assert_eq!(answer.status, expected);
                    }
                });
            }
        });
        processor(proxy.pid()) - before
    };
    let answered = spent_on("POST", 200);
    for origin in &mut origins {
        origin.stop();
    }
    until("it is known", || get(proxy.port, "/down").status == 503);
    for method in ["POST", "GET"] {
        let refused = spent_on(method, 503);
        assert!(refused <= answered, "{method}: {refused} s, {answered} s");
    }
}

/// However the backends are gone, the first request that comes after one is back is answered by it.
#[test]
fn s5_nobody_is_refused_once_a_backend_is_back() {
    let ports = [free_port(), free_port(), free_port()];
    let plain = one_route(&ports, "retry: { tries: 2, wait: 1ms }");
    let checked = with_upstream(&plain, "health_check: { path: /, interval: 10s, fall: 1 }");
    // Probed so often that one just missed its return.
    let probed = with_upstream(
        &plain,
        "health_check: { path: /, interval: 120ms, fall: 1 }",
    );
    for rules in [plain, checked, probed] {
        nobody_is_refused(&rules, &ports);
    }
}

fn nobody_is_refused(rules: &str, ports: &[u16]) {
    let proxy = Proxy::start(rules);
    let mut client = Client::to(proxy.port);
    for round in 0..20 {
        until("it is known", || {
            let asked = Instant::now();
            let answer = client.get("/gone");
            answer.status == 503 && asked.elapsed() < 50 * MS
        });
        let address: SocketAddr = ([127, 0, 0, 1], ports[round % 3]).into();
        let _origin = Origin::at(address, |_| Reply::ok("back"));
        assert_eq!(client.get("/back").status, 200, "round {round}");
    }
}

#[test]
fn a_request_that_waits_for_its_retry_survives_a_restart_of_the_only_backend() {
    let port = free_port();
    let rules = "retry: { tries: 20, wait: 100ms }";
    let proxy = Proxy::start(&one_route(&[port], rules));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/patient", &[], b"");
    proxy.said("is unreachable");
    // Who comes only now is not made to wait.
    assert_eq!(get(proxy.port, "/late").status, 503);
    let _origin = Origin::at(([127, 0, 0, 1], port).into(), |_| Reply::ok("back"));
    assert_eq!(client.answer().text(), "back");
}

#[test]
fn a_reload_keeps_what_is_known_and_eject_off_ejects_nothing() {
    let origins = fine(2);
    origins[0].set(|_| Reply::status(500));
    let plain = one_route(&ports(&origins), RETRY);
    let upstreams = with_upstream(&plain, "eject: { consecutive: 2, time: 1m }");
    let proxy = Proxy::start(&upstreams);
    ask(&proxy, 6);
    proxy.said("is ejected");
    let before = origins[0].count();
    proxy.reload_with(&upstreams.replace("time: 1m", "time: 2m"));
    ask(&proxy, 10);
    assert_eq!(origins[0].count(), before);
    let proxy = Proxy::start(&never_ejecting(&plain));
    ask(&proxy, 40);
    assert_eq!(origins[0].count() - before, 20);
    assert_eq!(proxy.count_said("is ejected"), 0);
}

#[test]
fn a_backend_that_is_reached_again_but_fails_is_not_lost() {
    let port = free_port();
    let rules = "retry: { tries: 20, wait: 100ms }";
    let proxy = Proxy::start(&never_ejecting(&one_route(&[port], rules)));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[], b"");
    proxy.said("is unreachable");
    // As after a restart: it takes connections, and is not ready yet.
    let origin = Origin::at(([127, 0, 0, 1], port).into(), |r| match r.number {
        0 => Reply::status(503),
        _ => Reply::ok("ready"),
    });
    assert_eq!(client.answer().text(), "ready");
    for n in 0..5 {
        assert_eq!(get(proxy.port, &format!("/{n}")).text(), "ready");
    }
    assert!(origin.count() >= 7);
}

#[test]
fn an_unreachable_backend_is_tried_often_also_where_it_is_probed_seldom() {
    let mut origins = fine(1);
    let rules = "retry: { tries: 3, wait: 1ms }";
    let check = "health_check: { path: /, interval: 1h }";
    let proxy = Proxy::start(&with_upstream(&one_route(&ports(&origins), rules), check));
    ask(&proxy, 1);
    let address: SocketAddr = ([127, 0, 0, 1], origins[0].port).into();
    origins[0].stop();
    until("it is known", || get(proxy.port, "/").status == 503);
    let _back = Origin::at(address, |_| Reply::ok("back"));
    until("it is back", || get(proxy.port, "/").status == 200);
}

#[test]
fn a_backend_that_hangs_is_ejected_also_where_total_is_the_shorter_limit() {
    let origins = fine(2);
    origins[0].set(|_| Reply::hang());
    let rules = "retry: { tries: 1 }\ntimeouts: { total: 100ms }";
    let eject = "eject: { consecutive: 2, time: 1m }";
    let proxy = Proxy::start(&with_upstream(&one_route(&ports(&origins), rules), eject));
    let mut client = Client::to(proxy.port);
    for _ in 0..4 {
        client.get("/");
    }
    proxy.said("is ejected");
}
