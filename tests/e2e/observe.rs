//! What can be seen of a running process: metrics, success, readiness and the page.

use crate::admin::with_admin;
use crate::client::{Client, get, request};
use crate::harness::{BACKSTOP, PATIENCE, one_route, until};
use crate::maintenance::{command, status};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Prometheus's own judge; `None` where it is not installed.
fn promtool() -> Option<Command> {
    const TOOL: &str = "/usr/bin/promtool";
    if Path::new(TOOL).exists() {
        return Some(Command::new(TOOL));
    }
    assert!(std::env::var_os("CI").is_none(), "{TOOL} is missing");
    eprintln!("{TOOL} is not installed: it is not asked");
    None
}

const LOCAL: (&str, &str) = ("Host", "localhost");

pub(crate) fn metrics(admin: u16) -> String {
    let answer = request(admin, "GET", "/metrics", &[LOCAL], b"");
    assert_eq!(answer.status, 200);
    answer.text()
}

/// The value of a series, written as in the text.
pub(crate) fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

/// All series without their values.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_string()))
        .collect()
}

/// Each family is described once, before its numbers, and every number can be read.
fn is_well_formed(text: &str) {
    let mut described = BTreeSet::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_string();
            assert!(described.insert(family.clone()), "{family} is there twice");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(name.starts_with(&family), "{line} under {family}");
            let number = line.rsplit(' ').next().unwrap();
            assert!(number == "+Inf" || number.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(described.len() > 30, "{described:?}");
}

#[test]
fn s15_success_as_clients_saw_it_beside_what_the_upstream_answered() {
    let origin = Origin::new(|r| match r.number % 10 {
        0 => Reply::status(500),
        _ => Reply::ok("hello"),
    });
    let rules = "slo: 99.9%\nretry: { tries: 3, wait: 1ms }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], rules));
    let mut client = Client::to(proxy.port);
    for n in 0..90 {
        assert_eq!(client.get(&format!("/{n}")).status, 200);
    }
    assert_eq!(client.get("/%zz").status, 400);
    // The last is counted once its client has the answer.
    until("all are counted", || {
        status(admin)["success"][0]["requests"] == 91
    });
    let shown = status(admin);
    let five = &shown["routes"][0]["success"][0];
    assert_eq!(
        (&five["window"], &five["requests"]),
        (&"5m".into(), &90.into())
    );
    assert_eq!(five["client_percent"], 100.0);
    let upstream = five["upstream_percent"].as_f64().unwrap();
    assert!((89.0..91.5).contains(&upstream), "{upstream}");
    assert_eq!(five["slo_used_percent"], 0.0);
    let masked = shown["routes"][0]["masked_total"].as_u64().unwrap();
    assert!((8..=10).contains(&masked), "{masked}");
    assert_eq!(shown["routes"][0]["requests_total"], 90);
    // Of all routes together, what had none is part.
    assert_eq!(shown["success"][0]["requests"], 91);

    let text = metrics(admin);
    is_well_formed(&text);
    let of = |series: &str| value(&text, series).unwrap_or_else(|| panic!("{series} in {text}"));
    assert_eq!(
        of("backstop_requests_total{route=\"all\",method=\"GET\",code=\"200\"}"),
        90.0
    );
    assert_eq!(
        of("backstop_requests_total{route=\"\",method=\"GET\",code=\"400\"}"),
        1.0
    );
    assert_eq!(
        of("backstop_request_duration_seconds_count{route=\"all\"}"),
        90.0
    );
    assert_eq!(
        of("backstop_success_ratio{route=\"all\",window=\"1h\",seen=\"client\"}"),
        1.0
    );
    // There is one backend.
    assert_eq!(
        of("backstop_masked_requests_total{route=\"all\",by=\"retry\"}"),
        masked as f64
    );
    assert_eq!(
        five["masked"],
        json!({ "retry": masked, "failover": 0, "cache": 0 })
    );
    assert_eq!(
        of("backstop_slo_burn_rate{route=\"all\",window=\"1h\"}"),
        0.0
    );
    assert_eq!(
        of("backstop_slo_budget_remaining_ratio{route=\"all\",window=\"1h\"}"),
        1.0
    );
    let overall = "backstop_overall_success_ratio{window=\"1h\",seen";
    assert_eq!(of(&format!("{overall}=\"client\"}}")), 1.0);
    assert!((0.89..0.915).contains(&of(&format!("{overall}=\"upstream\"}}"))));
    let phases = "backstop_request_phase_seconds_count{route=\"all\",phase";
    let spent = |phase: &str| value(&text, &format!("{phases}=\"{phase}\"}}"));
    assert_eq!(
        (spent("queue"), spent("first_byte")),
        (Some(90.0), Some(90.0))
    );
    assert_eq!(spent("backoff"), Some(masked as f64));
    // Connections are kept, but for those that a failed try may have had.
    let connected = spent("connect").unwrap();
    assert!((1.0..90.0).contains(&connected), "{connected}");
    let backend = format!("{{upstream=\"pool\",backend=\"127.0.0.1:{}\"", origin.port);
    let failed = of(&format!(
        "backstop_backend_tries_total{backend},outcome=\"status\"}}"
    ));
    assert_eq!(failed, of("backstop_retries_total{route=\"all\"}"));
    assert_eq!(of(&format!("backstop_backend_up{backend}}}")), 1.0);
    for (state, is_in) in [("up", 1.0), ("ejected", 0.0), ("drain", 0.0)] {
        let series = format!("backstop_backend_state{backend},state=\"{state}\"}}");
        assert_eq!(of(&series), is_in, "{series}");
    }
    let left = of("backstop_retry_budget_remaining{route=\"all\"}");
    assert!(left >= 1.0, "{left}");

    // The backend is gone: clients see it, and so does everything else.
    drop(origin);
    until("failures", || client.get("/gone").status >= 500);
    until("the failure is known", || {
        status(admin)["failures"][0].is_object()
    });
    let shown = status(admin);
    let failure = &shown["failures"][0];
    assert_eq!(
        (&failure["request"], &failure["route"]),
        (&"GET /gone".into(), &"all".into())
    );
    assert!(failure["status"].as_u64().unwrap() >= 500, "{failure}");
    let used = shown["routes"][0]["success"][0]["slo_used_percent"]
        .as_f64()
        .unwrap();
    assert!(used > 100.0, "{used}");
    let left = "backstop_slo_budget_remaining_ratio{route=\"all\",window=\"1h\"}";
    assert!(value(&metrics(admin), left).unwrap() < 0.0);
    let refused = format!("backstop_backend_tries_total{backend},outcome=\"connect_failure\"}}");
    assert!(value(&metrics(admin), &refused).unwrap() >= 1.0);
}

/// Nobody waits for a new answer while the old one is given out: the upstream has failed for all that.
#[test]
fn tries_that_no_client_waits_for_count_for_the_upstream() {
    let origin = Origin::new(|r| match r.number {
        0 => Reply::ok("old"),
        _ => Reply::status(500),
    });
    let rules = "retry: { tries: 1 }\ncache: { ttl: 50ms, stale_while_revalidate: 1h }";
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], rules));
    let failed = || {
        let text = metrics(admin);
        let backend = format!("upstream=\"pool\",backend=\"127.0.0.1:{}\"", origin.port);
        let series = format!("backstop_backend_tries_total{{{backend},outcome=\"status\"}}");
        value(&text, &series).unwrap()
    };
    until("a new one is fetched in vain", || {
        assert_eq!(get(proxy.port, "/").text(), "old");
        failed() >= 1.0
    });
    // Who decides which backends are sent requests has heard of it, too.
    let backend = &status(admin)["upstreams"][0]["backends"][0];
    assert!(backend["failures"].as_u64() >= Some(1), "{backend}");
    let success = &status(admin)["success"][0];
    assert_eq!(success["client_percent"], 100.0);
    let upstream = success["upstream_percent"].as_f64().unwrap();
    assert!(upstream <= 50.0, "{success}");
    let text = metrics(admin);
    let ended = |result: &str| {
        let series = format!("backstop_cache_fills_ended_total{{result=\"{result}\"}}");
        value(&text, &series).unwrap()
    };
    assert_eq!((ended("stored"), ended("failed")), (1.0, 0.0));
    assert!(ended("not_stored") >= 1.0);
}

/// When a configuration was last read, and when the one in force was.
#[test]
fn reloads_have_their_times() {
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[9], ""));
    let times = || {
        let text = metrics(admin);
        let of = |name: &str| value(&text, name).unwrap();
        (
            of("backstop_config_since_timestamp_seconds"),
            of("backstop_config_last_reload_timestamp_seconds"),
        )
    };
    let (began, first) = times();
    assert!((began - first).abs() < 1.0);
    proxy.reload_refused("routes: [{ upstream: nobody }]");
    let (since, tried) = times();
    assert_eq!(since, began);
    assert!(tried > first);
}

/// The page, the terminal and the metrics say what made the difference.
#[test]
fn what_saved_requests_is_told() {
    let fine = Origin::always(Reply::ok("fine"));
    let stored = Origin::new(|r| match r.number {
        0 => Reply::ok("stored"),
        _ => Reply::status(500),
    });
    let broken = Origin::always(Reply::status(500));
    let yaml = format!(
        "upstreams:
  pair: {{ eject: off, backends: [127.0.0.1:{}, 127.0.0.1:{}] }}
  once: {{ eject: off, backends: [127.0.0.1:{}] }}
routes:
  - {{ match: {{ path: /pair }}, upstream: pair, retry: {{ tries: 2, wait: 1ms }} }}
  - {{ match: {{ path: /once }}, upstream: once, retry: {{ tries: 1 }}, cache: {{ ttl: 1s, stale_if_error: 1h }} }}
",
        broken.port, fine.port, stored.port
    );
    let (setup, admin) = with_admin();
    let proxy = setup.start(&yaml);
    let mut client = Client::to(proxy.port);
    for _ in 0..4 {
        assert_eq!(client.get("/pair").text(), "fine");
    }
    until("it is stale and served", || {
        assert_eq!(client.get("/once").text(), "stored");
        status(admin)["success"][0]["masked"]["cache"].as_u64() > Some(0)
    });
    let cache = &status(admin)["success"][0]["masked"]["cache"];
    let masked = json!({ "retry": 0, "failover": 2, "cache": cache });
    assert_eq!(status(admin)["success"][0]["masked"], masked);
    let text = metrics(admin);
    for (route, by, count) in [
        ("/pair", "failover", 2.into()),
        ("/once", "cache", cache.clone()),
    ] {
        let series = format!("backstop_masked_requests_total{{route=\"*{route}\",by=\"{by}\"}}");
        assert_eq!(value(&text, &series), count.as_f64(), "{series}");
    }
    let words = format!(" saved: 2 by another backend, {cache} by a stored answer");
    let page = request(admin, "GET", "/", &[LOCAL], b"").text();
    assert!(page.contains(&words), "{page}");
    let (_, table) = command(&proxy, &["status"]);
    assert!(table.contains(&words), "{table}");
}

#[test]
fn prometheus_takes_the_metrics() {
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[9], "concurrency: { max: 3 }\nrate_limit: { rate: 100/s }\ncanary: { upstream: pool, share: 5% }\nhedge: {}"));
    get(proxy.port, "/");
    let text = metrics(admin);
    is_well_formed(&text);
    let open = request(
        admin,
        "GET",
        "/metrics",
        &[LOCAL, ("Accept", "application/openmetrics-text")],
        b"",
    );
    assert!(open.text().ends_with("# EOF\n"));
    assert!(
        open.header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    // Its own judgement, where it is installed.
    if let Some(mut tool) = promtool() {
        let mut tool = tool
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        tool.stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let output = tool.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

#[test]
fn whatever_clients_send_makes_no_further_series() {
    let origin = Origin::new(|_| Reply::ok("hello"));
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], "cache: { ttl: 1m }"));
    let mut client = Client::to(proxy.port);
    let mut ask = |n: usize| {
        let host = format!("h{n}.example");
        let fields = [("Host", host.as_str()), ("X-Request-ID", host.as_str())];
        for method in ["GET", "BREW", "PUT"] {
            let method = if n > 0 && method == "BREW" {
                format!("BREW{n}")
            } else {
                method.to_string()
            };
            client.request(&method, &format!("/{n}?q={n}"), &fields, b"");
        }
    };
    ask(0);
    until("all three are counted", || {
        status(admin)["success"][0]["requests"] == 3
    });
    let before = series(&metrics(admin));
    (1..300).for_each(&mut ask);
    assert_eq!(series(&metrics(admin)), before);
}

#[test]
fn ready_until_it_is_to_end_and_alive_until_it_does() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |r| match &*r.target {
        "/slow" => Reply::ok("slow").when(&open),
        _ => Reply::ok("hello"),
    });
    let (setup, admin) = with_admin();
    let mut proxy = setup
        .key("pre_drain", "1s")
        .start(&one_route(&[origin.port], ""));
    let ask = |path: &str| request(admin, "GET", path, &[LOCAL], b"").status;
    assert_eq!((ask("/healthz"), ask("/readyz")), (200, 200));
    let mut slow = Client::to(proxy.port);
    slow.begin("GET", "/slow", &[], b"");
    origin.request(0);
    proxy.signal(Signal::TERM);
    until("it is not ready", || ask("/readyz") == 503);
    // Those who have not noticed yet are served all the same.
    assert_eq!(get(proxy.port, "/late").status, 200);
    assert_eq!(ask("/healthz"), 200);
    gate.open();
    assert_eq!(slow.answer().status, 200);
    let (ended, _) = proxy.wait_exit(Duration::from_secs(10));
    assert!(ended.success());
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut proxy = with_admin()
        .0
        .key("pre_drain", "1m")
        .start(&one_route(&[9], ""));
    proxy.signal(Signal::TERM);
    proxy.said("not ready any more");
    proxy.signal(Signal::TERM);
    let (_, took) = proxy.wait_exit(Duration::from_secs(10));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn half_an_answer_is_no_success() {
    let origin =
        Origin::new(|_| Reply::answer(200, &[("Content-Length", "100")], b"half").cut_after(60));
    let (setup, admin) = with_admin();
    let proxy = setup.start(&one_route(&[origin.port], "retry: { tries: 1 }"));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/half", &[], b"");
    let _ = client.try_answer_to("GET");
    until("it is counted", || {
        status(admin)["success"][0]["requests"] == 1
    });
    let shown = status(admin);
    assert_eq!(shown["routes"][0]["success"][0]["client_percent"], 0.0);
    assert_eq!(shown["routes"][0]["masked_total"], 0);
}

#[test]
fn success_is_remembered_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.json");
    let origin = Origin::new(|_| Reply::ok("hello"));
    let yaml = one_route(&[origin.port], "");
    let start = || {
        let (setup, admin) = with_admin();
        let setup = setup.key("state_file", &file.display().to_string());
        (setup.start(&yaml), admin)
    };
    let requests = |admin: u16| {
        status(admin)["routes"][0]["success"][3]["requests"]
            .as_u64()
            .unwrap()
    };
    let (mut proxy, admin) = start();
    for _ in 0..7 {
        get(proxy.port, "/");
    }
    until("all are counted", || requests(admin) == 7);
    proxy.signal(Signal::TERM);
    proxy.wait_exit(Duration::from_secs(10));
    let (proxy, admin) = start();
    get(proxy.port, "/");
    until("both are counted", || requests(admin) == 8);
    // What is in the file is not believed blindly.
    drop(proxy);
    std::fs::write(&file, "{ \"routes\": 7 }").unwrap();
    let (proxy, admin) = start();
    proxy.said("of the past is lost");
    assert_eq!(requests(admin), 0);
}

#[test]
fn the_page_shows_it_without_a_script() {
    let origin = Origin::new(|r| match r.number {
        0 => Reply::status(500),
        _ => Reply::ok("hello"),
    });
    let (setup, admin) = with_admin();
    let yaml = one_route(&[origin.port], "slo: 99.9%\nretry: { tries: 2, wait: 1ms }");
    let proxy = setup.start(&yaml);
    get(proxy.port, "/");
    until("it is counted", || {
        status(admin)["success"][0]["requests"] == 1
    });
    let page = request(admin, "GET", "/", &[LOCAL], b"");
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    let text = page.text();
    for shown in [
        "100 %",
        "50 %",
        "as clients saw it",
        "status 500",
        "objective 99.9 %",
        "1 saved: 1 by another try",
    ] {
        assert!(text.contains(shown), "{shown} is not on the page");
    }
    proxy.reload_refused("routes: []");
    assert!(
        request(admin, "GET", "/", &[LOCAL], b"")
            .text()
            .contains("The last reload failed")
    );
    // Nothing that a client sends is markup.
    drop(origin);
    until("a failure", || {
        get(proxy.port, "/'a'&b?secret=1").status >= 500
    });
    let page = || request(admin, "GET", "/", &[LOCAL], b"").text();
    until("it is on the page", || {
        page().contains("/&#39;a&#39;&amp;b")
    });
    assert!(!page().contains("secret"));
}

#[test]
fn who_follows_the_page_is_told_what_changes() {
    let origin = Origin::always(Reply::ok("hello"));
    let (setup, admin) = with_admin();
    let mut proxy = setup.start(&one_route(&[origin.port], ""));
    let mut follower = Client::to(admin);
    follower.send("GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let head = follower.head().unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    // One at once, and others as time goes on.
    let first = follower.chunk();
    assert!(first.starts_with("data: <div id=\"notices\">"), "{first}");
    assert!(
        first.ends_with("\n\n") && first.lines().rev().skip(1).all(|l| l.starts_with("data: "))
    );
    assert!(!first.contains(" saved: "));
    origin.set(|r| match r.number {
        0 => Reply::status(500),
        _ => Reply::ok("hello"),
    });
    assert_eq!(get(proxy.port, "/").status, 200);
    until("it is told", || {
        follower.chunk().contains("1 saved: 1 by another try")
    });
    // It ends with the process, and does not keep that from ending.
    proxy.signal(Signal::TERM);
    while !follower.chunk().is_empty() {}
    let (exit, _) = proxy.wait_exit(PATIENCE);
    assert!(exit.success());
}

#[test]
fn so_many_follow_and_the_others_still_get_their_answers() {
    let (setup, admin) = with_admin();
    let _proxy = setup.start("routes:\n  - { respond: { status: 204 } }\n");
    let ask = "GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let followers: Vec<Client> = (0..32)
        .map(|_| {
            let mut follower = Client::to(admin);
            follower.send(ask);
            assert_eq!(follower.head().unwrap().status, 200);
            follower
        })
        .collect();
    assert_eq!(request(admin, "GET", "/events", &[LOCAL], b"").status, 503);
    assert_eq!(request(admin, "GET", "/readyz", &[LOCAL], b"").status, 200);
    let abroad = [LOCAL, ("Origin", "http://evil.example")];
    assert_eq!(request(admin, "GET", "/events", &abroad, b"").status, 403);
    drop(followers);
    until("there is a place again", || {
        let mut follower = Client::to(admin);
        follower.send(ask);
        follower.head().unwrap().status == 200
    });
}

#[test]
fn status_can_be_watched() {
    let (setup, admin) = with_admin();
    let proxy = setup.start("routes:\n  - { respond: { status: 204 } }\n");
    assert_eq!(request(admin, "GET", "/readyz", &[LOCAL], b"").status, 200);
    let mut watch = Command::new(BACKSTOP)
        .args(["-c", "backstop.yaml", "status", "--watch", "--json"])
        .current_dir(proxy.dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        let status: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(status["process"].is_object(), "{line}");
    }
    // Once nobody reads it, it ends by itself.
    drop(lines);
    until("it ends", || watch.try_wait().unwrap().is_some());
}

/// All that the files of a directory of the source have in them.
fn include_dir(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let files = std::fs::read_dir(path).unwrap();
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(file.unwrap().path()).unwrap()
    };
    files.map(read).collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_there_are() {
    let source = [
        &include_dir("src/server/admin/metrics"),
        include_str!("../../conf/monitoring/grafana.json"),
        include_str!("../../conf/monitoring/alerts.yml"),
    ];
    let name = regex::Regex::new(r"\b(?:backstop|process)_[a-z0-9_]+\b").unwrap();
    let written = |text: &str| -> BTreeSet<String> {
        name.find_iter(text)
            .map(|m| m.as_str().to_string())
            .collect()
    };
    let known = written(source[0]);
    assert!(known.len() > 40, "{known:?}");
    for used in source[1..].iter().flat_map(|text| written(text)) {
        let ends = ["", "_total", "_bucket", "_sum", "_count"];
        let base = ends.iter().filter_map(|end| used.strip_suffix(end));
        assert!(base.into_iter().any(|base| known.contains(base)), "{used}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(source[1]).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 30);
    if let Some(mut tool) = promtool() {
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/monitoring/alerts.yml");
        let output = tool.args(["check", "rules", rules]).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
