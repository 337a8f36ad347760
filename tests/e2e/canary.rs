//! A share of a route's requests for another upstream, which is taken back by itself; and copies.

use crate::admin::{JSON, with_admin};
use crate::client::{Client, get, request};
use crate::harness::{Proxy, bearer, eventually, until};
use crate::maintenance::command;
use crate::observe::{metrics, value};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// Two upstreams, and one route with these further lines.
pub fn split(stable: &Origin, next: &Origin, rules: &str) -> String {
    let rules: String = rules.lines().map(|l| format!("    {l}\n")).collect();
    format!(
        "upstreams:\n  stable: {{ eject: off, backends: [127.0.0.1:{}] }}\n  next: {{ eject: off, backends: [127.0.0.1:{}] }}\nroutes:\n  - name: all\n    upstream: stable\n{rules}",
        stable.port, next.port
    )
}

pub fn origins() -> (Origin, Origin) {
    (
        Origin::always(Reply::ok("stable")),
        Origin::always(Reply::ok("next")),
    )
}

/// Asks until the canary is rolled back; each time is told how often it was asked before.
pub fn until_rolled_back(proxy: &Proxy, mut ask: impl FnMut(usize)) {
    let mut asked = 0;
    until("it is rolled back", || {
        ask(asked);
        asked += 1;
        proxy.count_said("is rolled back") == 1
    });
}

#[test]
fn s14_the_split_is_exact() {
    let (stable, next) = origins();
    let canary = "canary: { upstream: next, share: 5% }";
    let proxy = Proxy::start(&split(&stable, &next, canary));
    let mut clients = [Client::to(proxy.port), Client::to(proxy.port)];
    for n in 0..400 {
        assert_eq!(clients[n % 2].get("/").status, 200);
    }
    assert_eq!((stable.count(), next.count()), (380, 20));
    let line = eventually("a line of the canary", || {
        proxy
            .log_lines()
            .into_iter()
            .find(|l| l["upstream"] == "next")
    });
    assert_eq!(line["backend"], format!("127.0.0.1:{}", next.port));
}

#[test]
fn s14_a_retry_leaves_the_canary_and_never_enters_it() {
    let (stable, next) = origins();
    next.set(|_| Reply::status(500));
    let rules = "canary: { upstream: next, share: 50%, rollback: { after: 1000 } }\nretry: { tries: 3, wait: 1ms }";
    let proxy = Proxy::start(&split(&stable, &next, rules));
    for _ in 0..20 {
        assert_eq!(get(proxy.port, "/").text(), "stable");
    }
    assert_eq!((stable.count(), next.count()), (20, 10));
    next.set(|_| Reply::ok("next"));
    stable.set(|r| match r.number % 2 {
        0 => Reply::status(500),
        _ => Reply::ok("stable"),
    });
    let before = next.count();
    for _ in 0..20 {
        assert_eq!(get(proxy.port, "/").status, 200);
    }
    assert_eq!(next.count() - before, 10);
}

#[test]
fn s14_a_sick_canary_is_rolled_back_before_50_of_its_requests_have_failed() {
    let (stable, next) = origins();
    next.set(|r| match r.number % 5 {
        0 => Reply::status(500),
        _ => Reply::ok("next"),
    });
    let rules = "canary: { upstream: next, share: 5%, rollback: { success_below: 99%, after: 50 } }\nretry: { tries: 1 }";
    let (setup, admin) = with_admin();
    let upstreams = split(&stable, &next, rules);
    let proxy = setup.start(&upstreams);
    let mut client = Client::to(proxy.port);
    let mut failed = 0;
    for _ in 0..4_000 {
        failed += usize::from(client.get("/").status == 500);
    }
    assert!((1..50).contains(&failed), "{failed} clients have noticed");
    let line = proxy.said("canary of route all is rolled back");
    assert!(line.contains("is below 99 %"), "{line}");
    let seen = next.count();
    for _ in 0..100 {
        assert_eq!(client.get("/").text(), "stable");
    }
    assert_eq!(next.count(), seen, "its share is nothing");
    let status = crate::maintenance::status(admin);
    let canary = &status["routes"][0]["canary"];
    assert_eq!(canary["share_percent"], 0.0);
    assert!(
        canary["rolled_back"]
            .as_str()
            .is_some_and(|why| why.contains("99 %"))
    );
    let gauges = || {
        let text = metrics(admin);
        let of = |name| value(&text, &format!("backstop_canary_{name}{{route=\"all\"}}"));
        (of("share_ratio"), of("rolled_back"))
    };
    assert_eq!(gauges(), (Some(0.0), Some(1.0)));
    let text = metrics(admin);
    for name in ["step", "steps"] {
        let shown = value(&text, &format!("backstop_canary_{name}{{route=\"all\"}}"));
        assert!(shown.is_some() && shown == canary[name].as_f64(), "{name}");
    }
    // A reload of the same file changes nothing, the operator's word or another file does.
    proxy.reload_with(&upstreams);
    for _ in 0..100 {
        assert_eq!(client.get("/").text(), "stable");
    }
    next.set(|_| Reply::ok("next"));
    let local = ("Host", "localhost");
    let resumed = request(
        admin,
        "POST",
        "/canary/resume",
        &[local, JSON, ("Authorization", &bearer(admin))],
        b"{}",
    );
    assert_eq!(resumed.text(), "{\"changed\":1}\n");
    assert_eq!(gauges(), (Some(0.05), Some(0.0)));
    for _ in 0..100 {
        client.get("/");
    }
    assert_eq!(next.count() - seen, 5);
}

/// Also if nothing else comes after the last of the answers that show it.
#[test]
fn s14_a_rollback_takes_less_than_a_second() {
    for (sick, rules) in [
        (Reply::status(500), "success_below: 99%, after: 20"),
        (
            Reply::ok("next").after(400 * MS),
            "p95_above_stable: 3x, after: 20",
        ),
    ] {
        let (stable, next) = origins();
        next.set(move |_| sick.clone());
        let rules = format!(
            "canary: {{ upstream: next, share: 50%, rollback: {{ {rules} }} }}\nretry: {{ tries: 1 }}"
        );
        let (setup, admin) = with_admin();
        let proxy = setup.start(&split(&stable, &next, &rules));
        let mut client = Client::to(proxy.port);
        while next.count() < 20 {
            client.get("/");
        }
        let evidence = Instant::now();
        until("its share is nothing", || {
            crate::maintenance::status(admin)["routes"][0]["canary"]["share_percent"] == 0.0
        });
        let took = evidence.elapsed();
        assert!(took < 1_000 * MS, "{took:?}");
        for _ in 0..10 {
            assert_eq!(client.get("/").text(), "stable");
        }
        assert_eq!(next.count(), 20);
    }
}

#[test]
fn s14_a_rollback_lasts_until_the_file_or_the_operator_says_otherwise() {
    let (stable, next) = origins();
    next.set(|_| Reply::status(500));
    let rules = |share: &str| {
        format!(
            "canary: {{ upstream: next, share: {share}, rollback: {{ success_below: 99%, after: 5 }} }}\nretry: {{ tries: 1 }}"
        )
    };
    let (setup, _) = with_admin();
    let proxy = setup.start(&split(&stable, &next, &rules("50%")));
    let mut client = Client::to(proxy.port);
    until_rolled_back(&proxy, |_| drop(client.get("/")));
    next.set(|_| Reply::ok("next"));
    let share = |client: &mut Client| {
        let answers = (0..20).map(|_| client.get("/").text());
        answers.filter(|text| text == "next").count()
    };
    assert_eq!(share(&mut client), 0);
    let (ok, said) = command(&proxy, &["canary", "resume"]);
    assert!(ok, "{said}");
    assert_eq!(share(&mut client), 10);
    next.set(|_| Reply::status(500));
    until("it is rolled back again", || {
        client.get("/");
        proxy.count_said("is rolled back") == 2
    });
    next.set(|_| Reply::ok("next"));
    // The same file says nothing new, another one does.
    proxy.reload_with(&split(&stable, &next, &rules("50%")));
    assert_eq!(share(&mut client), 0);
    proxy.reload_with(&split(&stable, &next, &rules("20%")));
    assert_eq!(share(&mut client), 4);
}

#[test]
fn s14_a_slow_canary_is_rolled_back_too() {
    let (stable, next) = origins();
    stable.set(|_| Reply::ok("stable").after(2 * MS));
    next.set(|_| Reply::ok("next").after(40 * MS));
    let rules =
        "canary: { upstream: next, share: 50%, rollback: { p95_above_stable: 3x, after: 20 } }";
    let proxy = Proxy::start(&split(&stable, &next, rules));
    let mut client = Client::to(proxy.port);
    until_rolled_back(&proxy, |_| drop(client.get("/")));
}

#[test]
fn s14_clients_stay_on_their_side() {
    for (sticky, name) in [
        ("{ header: X-User }", "X-User"),
        ("{ cookie: session }", "Cookie"),
        ("client_ip", "X-Forwarded-For"),
    ] {
        let (stable, next) = origins();
        let canary = format!("canary: {{ upstream: next, share: 30%, sticky: {sticky} }}");
        let proxy = Proxy::with()
            .key("trusted_proxies", "[127.0.0.1]")
            .start(&split(&stable, &next, &canary));
        let mut client = Client::to(proxy.port);
        let mut on_next = 0;
        for user in 0..100 {
            let mut side = |visit: usize| {
                let value = match sticky {
                    // What else a browser has collected does not count.
                    "{ cookie: session }" => format!("seen={visit}; session=of-{user}; a=b"),
                    "client_ip" => format!("203.0.113.{user}"),
                    _ => format!("user-{user}"),
                };
                let answer = client.request("GET", "/", &[(name, &value)], b"");
                answer.text()
            };
            let first = side(0);
            assert!((1..4).all(|n| side(n) == first), "{sticky} {user}");
            on_next += usize::from(first == "next");
        }
        assert!((15..=45).contains(&on_next), "{sticky}: {on_next} of 100");
    }
}

#[test]
fn s14_a_canary_that_is_well_goes_from_step_to_step() {
    let (stable, next) = origins();
    let canary =
        "canary: { upstream: next, steps: [10%, 50%, 100%], every: 300ms, rollback: { after: 5 } }";
    let proxy = Proxy::start(&split(&stable, &next, canary));
    let mut client = Client::to(proxy.port);
    let start = Instant::now();
    until("the last step", || {
        client.get("/");
        proxy.count_said("canary of route all goes from 50 % to 100 %") == 1
    });
    assert!(start.elapsed() >= 600 * MS, "{:?}", start.elapsed());
    proxy.said("canary of route all goes from 10 % to 50 %");
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "next");
    }
}

#[test]
fn s14_a_sick_canary_goes_no_step_further_where_few_requests_come() {
    let (stable, next) = origins();
    next.set(|_| Reply::status(500));
    let rules = "canary: { upstream: next, steps: [50%, 100%], every: 100ms, rollback: { after: 5, success_below: 99%, window: 1s } }\nretry: { tries: 1 }";
    let proxy = Proxy::start(&split(&stable, &next, rules));
    let mut client = Client::to(proxy.port);
    // So few that the window never holds five of the canary's.
    for _ in 0..10 {
        client.get("/");
        assert!(client.is_silent_for(250 * MS));
    }
    assert_eq!((stable.count(), next.count()), (5, 5));
    proxy.said("canary of route all is rolled back");
    assert_eq!(proxy.count_said("goes from"), 0);
}

#[test]
fn s14_a_canary_of_streams_is_judged_while_they_run() {
    let stream = || {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n7\r\n: hello\r\n";
        Reply::raw(head).then(Reply::hang())
    };
    let long = || {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nbeginning";
        Reply::raw(head).then(Reply::hang())
    };
    let canary =
        "canary: { upstream: next, steps: [50%, 100%], every: 1ms, rollback: { after: 5 } }";
    for (kind, leaves) in [
        ("a stream", false),
        ("a socket", false),
        ("a download", true),
    ] {
        let (stable, next) = origins();
        for origin in [&stable, &next] {
            origin.set(move |_| match kind {
                "a stream" => stream(),
                "a socket" => Reply::websocket(),
                _ => long(),
            });
        }
        let proxy = Proxy::start(&split(&stable, &next, canary));
        let mut open = Vec::new();
        for _ in 0..10 {
            let mut client = Client::to(proxy.port);
            let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
            let headers = if kind == "a socket" {
                &upgrade[..]
            } else {
                &[]
            };
            client.begin("GET", "/", headers, b"");
            client.head().expect("a head");
            match leaves {
                true => client.leave(),
                false => open.push(client),
            }
        }
        proxy.said("canary of route all goes from 50 % to 100 %");
    }
}

/// Each request counts once, whatever it was at its beginning.
#[test]
fn s14_a_stream_that_breaks_is_not_counted_twice() {
    let (stable, next) = origins();
    next.set(|_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n7\r\n: hello\r\n";
        Reply::raw(head).then(Reply::reset())
    });
    let canary = "canary: { upstream: next, share: 50% }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&split(&stable, &next, canary));
    for n in 0..10 {
        get(proxy.port, &format!("/{n}"));
        proxy.logged(&format!("/{n}"));
    }
    assert_eq!((stable.count(), next.count()), (5, 5));
    let status = crate::maintenance::status(admin);
    let canary = &status["routes"][0]["canary"];
    assert_eq!(canary["canary"]["requests"], 5, "{canary}");
    assert_eq!(canary["stable"]["requests"], 5, "{canary}");
}

#[test]
fn s14_a_dead_canary_costs_no_answer_and_is_rolled_back() {
    let (stable, mut next) = origins();
    next.stop();
    let rules = "canary: { upstream: next, share: 50%, rollback: { success_below: 99%, after: 10 } }\nretry: { wait: 1ms }";
    let proxy = Proxy::start(&split(&stable, &next, rules));
    let mut client = Client::to(proxy.port);
    for _ in 0..60 {
        assert_eq!(client.get("/").text(), "stable");
    }
    proxy.said("canary of route all is rolled back");
}

#[test]
fn s14_a_full_route_is_not_the_canary_s_fault() {
    let (stable, next) = origins();
    let gate = Gate::default();
    let open = gate.clone();
    stable.set(move |_| Reply::ok("stable").when(&open));
    let open = gate.clone();
    next.set(move |_| Reply::ok("next").when(&open));
    let rules = "concurrency: { max: 1, queue: 0 }\ncanary: { upstream: next, share: 50%, rollback: { success_below: 99%, after: 5 } }\nretry: { tries: 1 }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&split(&stable, &next, rules));
    let mut holder = Client::to(proxy.port);
    holder.begin("GET", "/", &[], b"");
    until("it is there", || stable.count() + next.count() == 1);
    for _ in 0..40 {
        assert_eq!(get(proxy.port, "/").status, 503);
    }
    let status = crate::maintenance::status(admin);
    assert_eq!(
        status["routes"][0]["concurrency"]["queue_full"], 40,
        "each is refused once: {status}"
    );
    assert_eq!(status["routes"][0]["canary"]["share_percent"], 50.0);
    gate.open();
    assert_eq!(holder.answer().status, 200);
    for _ in 0..10 {
        assert_eq!(get(proxy.port, "/").status, 200);
    }
    assert_eq!(proxy.count_said("is rolled back"), 0);
}

#[test]
fn s14_a_canary_without_room_leaves_its_requests_to_stable_which_takes_their_place_along() {
    let (stable, next) = origins();
    let gate = Gate::default();
    let open = gate.clone();
    next.set(move |_| Reply::ok("next").when(&open));
    let rules = "concurrency: { max: 2, queue: 0 }\ncanary: { upstream: next, share: 50%, rollback: { after: 1000 } }";
    let upstreams = split(&stable, &next, rules).replace(
        "next: { eject: off,",
        "next: { eject: off, concurrency: { max: 1, queue: 0 },",
    );
    let proxy = Proxy::start(&upstreams);
    let mut holders: Vec<Client> = Vec::new();
    while next.count() == 0 {
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/", &[], b"");
        until("it is there", || {
            stable.count() + next.count() > holders.len()
        });
        holders.push(client);
    }
    let mut client = Client::to(proxy.port);
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "stable");
    }
    assert_eq!(next.count(), 1);
    gate.open();
    assert!(holders.iter_mut().all(|c| c.answer().status == 200));
}

#[test]
fn s14_a_restart_forgets_no_rollback_and_no_step() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.json");
    let (stable, next) = origins();
    let canary = |after: u32| {
        let rules = format!(
            "canary: {{ upstream: next, steps: [50%, 80%, 100%], every: 50ms, rollback: {{ success_below: 99%, after: {after} }} }}\nretry: {{ wait: 1ms }}"
        );
        split(&stable, &next, &rules)
    };
    let start = |upstreams: &str| {
        let (setup, admin) = with_admin();
        let setup = setup.key("state_file", &file.display().to_string());
        (setup.start(upstreams), admin)
    };
    let share = |admin: u16| {
        crate::maintenance::status(admin)["routes"][0]["canary"]["share_percent"].clone()
    };
    let until_written = |what: &str| {
        until("it is written", || {
            std::fs::read_to_string(&file).is_ok_and(|text| text.contains(what))
        });
    };
    let (proxy, _) = start(&canary(10));
    let mut client = Client::to(proxy.port);
    until("the last step", || {
        client.get("/");
        proxy.count_said("goes from 80 % to 100 %") == 1
    });
    until_written("\"step\":2");
    // As by kill -9.
    drop(proxy);
    let (proxy, admin) = start(&canary(10));
    assert_eq!(share(admin), 100.0);
    let mut client = Client::to(proxy.port);
    next.set(|_| Reply::status(500));
    until_rolled_back(&proxy, |_| drop(client.get("/")));
    until_written("\"rule\":\"success_below\"");
    drop(proxy);
    let (proxy, admin) = start(&canary(10));
    proxy.said("canary of route all stays rolled back");
    assert_eq!(share(admin), 0.0);
    drop(proxy);
    // What was said of another plan does not hold.
    let (_proxy, admin) = start(&canary(11));
    assert_eq!(share(admin), 50.0);
}

#[test]
fn s14_another_upstream_in_the_file_does_not_resume_a_canary() {
    let (stable, next) = origins();
    next.set(|_| Reply::status(500));
    let rules = "canary: { upstream: next, share: 50%, rollback: { success_below: 99%, after: 10 } }\nretry: { wait: 1ms }";
    let upstreams = split(&stable, &next, rules);
    let proxy = Proxy::start(&upstreams);
    let mut client = Client::to(proxy.port);
    until_rolled_back(&proxy, |_| drop(client.get("/")));
    let seen = next.count();
    let more = upstreams.replace(
        "upstreams:\n",
        "upstreams:\n  first: { backends: [127.0.0.1:1] }\n",
    );
    proxy.reload_with(&more);
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "stable");
    }
    assert_eq!(next.count(), seen);
}
