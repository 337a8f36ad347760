//! The command line, and what a wrong configuration says.

use crate::client::get;
use crate::command::run;
use crate::harness::{Proxy, ROOT, free_port, until};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

const GOOD: &str = "listeners:
  - { address: 127.0.0.1:PORT }
---
upstreams:
  hospital: { backends: [127.0.0.1:9001, 127.0.0.1:9002, { address: 127.0.0.1:9003, backup: true }] }
routes:
  - { match: { host: api.example.com, path: /patients/ }, upstream: hospital }
  - { match: { path: /admin }, respond: { status: 404, body: \"no\\n\" } }
  - { match: { host: old.example.com }, redirect: { to: \"https://api.example.com{uri}\" } }
";

fn dir_with(text: impl AsRef<[u8]>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("backstop.yaml"), text).expect("a file");
    dir
}

fn good() -> tempfile::TempDir {
    dir_with(GOOD.replace("PORT", &free_port().to_string()))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// The configuration is refused, with this in its message, and without a panic.
fn refused(dir: &Path, file: &str, parts: &[&str]) {
    for args in [
        &["-t", "-c", file][..],
        &["-T", "-c", file],
        &["-q", "-t", "-c", file],
        &["-c", file],
    ] {
        let output = run(args, dir);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        for part in parts {
            assert!(said.contains(part), "{args:?}: no {part:?} in {said}");
        }
    }
}

#[test]
fn t_checks_and_says_what_is_there() {
    let dir = good();
    let output = run(&["-t", "-c", "backstop.yaml"], dir.path());
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    for part in [
        "backstop.yaml",
        "ok",
        "3 routes",
        "1 upstream",
        "3 backends",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert_eq!(stdout(&output), "");
    let quiet = run(&["-t", "-q", "-c", "backstop.yaml"], dir.path());
    assert!(quiet.status.success());
    assert_eq!(
        (stdout(&quiet), stderr(&quiet)),
        (String::new(), String::new())
    );
}

#[test]
fn t_needs_no_free_port() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = dir_with(GOOD.replace("PORT", &listener.local_addr().unwrap().port().to_string()));
    assert!(
        run(&["-t", "-c", "backstop.yaml"], dir.path())
            .status
            .success()
    );
}

#[test]
fn capital_t_prints_a_valid_configuration_that_prints_itself() {
    let dir = good();
    let first = run(&["-T", "-c", "backstop.yaml"], dir.path());
    assert!(first.status.success(), "{}", stderr(&first));
    std::fs::write(dir.path().join("printed.yaml"), &first.stdout).unwrap();
    let check = run(&["-t", "-c", "printed.yaml"], dir.path());
    assert!(
        check.status.success(),
        "{}\n{}",
        stderr(&check),
        stdout(&first)
    );
    let second = run(&["-T", "-c", "printed.yaml"], dir.path());
    assert_eq!(stdout(&second), stdout(&first));
}

#[test]
fn capital_t_fills_in_every_default() {
    let output = run(&["-T", "-c", "backstop.yaml"], good().path());
    let text = stdout(&output);
    let documents: Vec<serde_yaml::Value> = serde_yaml::Deserializer::from_str(&text)
        .map(|d| serde::Deserialize::deserialize(d).expect("YAML"))
        .collect();
    assert_eq!(documents.len(), 2, "{text}");
    let (fixed, dynamic) = (&documents[0], &documents[1]);
    assert_eq!(fixed["drain_timeout"].as_str(), Some("30s"));
    let cores = std::thread::available_parallelism().expect("cores").get() as u64;
    assert_eq!(
        fixed["workers"].as_u64(),
        Some(cores),
        "auto, as in force here"
    );
    assert_eq!(fixed["listeners"][0]["http2"].as_bool(), Some(false));
    assert_eq!(fixed["access_log"]["path"].as_str(), Some("stdout"));
    assert_eq!(fixed["log"]["level"].as_str(), Some("info"));
    let pool = &dynamic["upstreams"]["hospital"];
    assert_eq!(pool["balance"].as_str(), Some("round_robin"));
    assert_eq!(pool["keepalive"]["idle"].as_str(), Some("55s"));
    let route = &dynamic["routes"][0];
    assert_eq!(route["name"].as_str(), Some("api.example.com/patients/"));
    assert_eq!(route["retry"]["tries"].as_u64(), Some(3));
    for (section, key, value) in [
        ("retry", "wait", "100ms"),
        ("retry", "methods", "idempotent"),
        ("retry", "max_wait", "10s"),
        ("retry", "max_body", "1MiB"),
        ("timeouts", "connect", "2s"),
        ("timeouts", "first_byte", "20s"),
        ("timeouts", "idle", "30s"),
    ] {
        assert_eq!(
            route[section][key].as_str(),
            Some(value),
            "{section}.{key} in {text}"
        );
    }
    assert!(
        ["60s", "1m"].contains(&route["timeouts"]["total"].as_str().unwrap_or("")),
        "{text}"
    );
    let on = route["retry"]["on"].as_sequence().expect("a list");
    assert_eq!(on.len(), 7, "{on:?}");
    assert_eq!(
        dynamic["routes"][2]["redirect"]["status"].as_u64(),
        Some(301)
    );
}

fn yaml_files(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(ROOT).join(dir);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {}", dir.display());
    files
}

#[test]
fn every_invalid_file_yields_its_message() {
    for file in yaml_files("tests/config/invalid") {
        let expected = std::fs::read_to_string(file.with_extension("txt"))
            .unwrap_or_else(|e| panic!("the message for {}: {e}", file.display()));
        let name = file.file_name().unwrap().to_str().unwrap();
        let output = run(&["-t", "-c", name], file.parent().unwrap());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(!said.contains("panicked"), "{name}: {said}");
        assert!(
            said.contains(expected.trim()),
            "{name} said\n{said}\nnot\n{expected}"
        );
    }
}

#[test]
fn every_valid_file_and_every_shipped_one_passes() {
    let mut files = yaml_files("tests/config/valid");
    files.push(Path::new(ROOT).join("conf/backstop.yaml"));
    for file in files {
        let output = run(&["-t", "-c", file.to_str().unwrap()], Path::new(ROOT));
        assert!(
            output.status.success(),
            "{}: {}",
            file.display(),
            stderr(&output)
        );
    }
    // Without -c: conf/backstop.yaml.
    assert!(run(&["-t"], Path::new(ROOT)).status.success());
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text = "listeners:
  - { address: 127.0.0.1 }
---
upstreams:
  hospital: { backends: [127.0.0.1:9001, nowhere] }
routes:
  - { match: { path: /a }, upstream: hopsital }
  - { match: { path: /b }, upstream: hospital, retry: { tires: 3 } }
  - { match: { path: /c }, upstream: hospital, timeouts: { total: 5 } }
  - { match: { path: /d }, respond: { status: 9 } }
  - { match: { path: /d }, respond: { status: 200 } }
";
    let dir = dir_with(text);
    let output = run(&["-t", "-c", "backstop.yaml"], dir.path());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "routes[0].upstream: no upstream is named \"hopsital\"",
        "did you mean \"hospital\"?",
        "tires",
        "\"tries\"",
        "timeouts.total",
        "5s",
        "nowhere",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let lines: Vec<usize> = said
        .lines()
        .filter_map(|l| l.split(".yaml:").nth(1)?.split(':').next()?.parse().ok())
        .collect();
    assert!(lines.len() >= 5, "{said}");
    assert!(lines.is_sorted(), "{lines:?}");
    for line in [2, 5, 7, 8, 9] {
        assert!(lines.contains(&line), "line {line} in {said}");
    }
}

#[test]
fn files_that_are_no_configuration_are_clear_errors() {
    for (bytes, part) in [
        (&b""[..], "empty"),
        (b"# nothing\n", "empty"),
        (b"listeners:\n  - { address: \xff\xfe }\n", "UTF-8"),
        (b"listeners: [\n", "backstop.yaml"),
        (b"just a word\n", "backstop.yaml"),
        (b"listeners: 7\n", "listeners"),
        (b"{}\n", "listeners"),
        (b"listeners: []\n", "listeners"),
        (b"\x00\x01\x02", "backstop.yaml"),
    ] {
        refused(dir_with(bytes).path(), "backstop.yaml", &[part]);
    }
    let dir = dir_with("");
    refused(dir.path(), "missing.yaml", &["missing.yaml"]);
    refused(dir.path(), ".", &["directory"]);
    refused(
        dir_with("listeners: [{ address: 127.0.0.1:1 }]\nupstreams_file: gone.yaml\n").path(),
        "backstop.yaml",
        &["gone.yaml"],
    );
    let text = "routes:\n  - { match: { path: / }, respond: { status: 200 } }\n".to_string();
    let large = GOOD.to_string() + &"# filler\n".repeat(1_200_000) + &text;
    refused(dir_with(large).path(), "backstop.yaml", &["8 MiB"]);
}

#[test]
fn a_bomb_of_aliases_is_refused_in_time() {
    let mut text = String::from(
        "listeners: [{ address: 127.0.0.1:1 }]\na0: &a0 [x, x, x, x, x, x, x, x, x]\n",
    );
    for n in 1..12 {
        let refs = vec![format!("*a{}", n - 1); 9].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
    }
    let start = Instant::now();
    let output = run(&["-t", "-c", "backstop.yaml"], dir_with(text).path());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn s16_a_port_in_use_is_an_error_within_a_second_that_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let dir = dir_with(GOOD.replace("PORT", &port.to_string()));
    let start = Instant::now();
    let output = run(&["-c", "backstop.yaml"], dir.path());
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("127.0.0.1:{port}")) && said.contains("in use"),
        "{said}"
    );
}

#[test]
fn an_address_that_is_not_ours_is_an_error_too() {
    let text = GOOD.replace("127.0.0.1:PORT", "192.0.2.7:8080");
    let output = run(&["-c", "backstop.yaml"], dir_with(text).path());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("192.0.2.7:8080"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn usage_errors_exit_2_and_versions_exit_0() {
    let dir = good();
    for args in [
        &["--nonsense"][..],
        &["-s", "dance"],
        &["-s"],
        &["-c"],
        &["extra", "words"],
    ] {
        let output = run(args, dir.path());
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
    }
    for args in [["-v"], ["-V"]] {
        let output = run(&args, dir.path());
        assert!(output.status.success());
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    }
}

#[test]
fn s_signals_the_process_of_the_pid_file() {
    let answers = |body: &str| {
        format!(
            "routes:\n  - {{ match: {{ path: / }}, respond: {{ status: 200, body: {body} }} }}\n"
        )
    };
    let mut proxy = Proxy::with()
        .key("pid_file", "backstop.pid")
        .key("access_log", "{ path: access.log }")
        .start(&answers("one"));
    let pid_file = proxy.dir().join("backstop.pid");
    let pid = std::fs::read_to_string(&pid_file).expect("the pid file");
    assert_eq!(pid.trim(), proxy.pid().to_string());
    let dir = proxy.dir().to_path_buf();
    let send = |word: &str| run(&["-c", "backstop.yaml", "-s", word], &dir);
    // A wrong file is not even sent.
    proxy.rewrite("routes: [{ match: { path: / } }]\n");
    let output = send("reload");
    if output.status.success() {
        proxy.said("stays in force");
    }
    proxy.rewrite(&answers("two"));
    assert!(send("reload").status.success());
    until("the new answer", || get(proxy.port, "/").text() == "two");
    std::fs::rename(dir.join("access.log"), dir.join("old.log")).unwrap();
    assert!(send("reopen").status.success());
    until("the new log", || dir.join("access.log").exists());
    assert!(send("quit").status.success());
    let (status, _) = proxy.wait_exit(Duration::from_secs(5));
    assert!(status.success(), "{status}");
    assert!(!pid_file.exists(), "the pid file outlives the process");
    let output = send("quit");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("backstop.pid"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn s_stop_ends_it_now() {
    let mut proxy = Proxy::with()
        .key("pid_file", "backstop.pid")
        .start("routes:\n  - { match: { path: / }, respond: { status: 200 } }\n");
    let dir = proxy.dir().to_path_buf();
    assert!(
        run(&["-c", "backstop.yaml", "-s", "stop"], &dir)
            .status
            .success()
    );
    proxy.wait_exit(Duration::from_secs(2));
}

#[test]
fn s_without_a_pid_file_says_what_is_missing() {
    let dir = good();
    let output = run(&["-c", "backstop.yaml", "-s", "reload"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("pid_file"), "{}", stderr(&output));
}

#[test]
fn t_finds_what_a_start_could_not_write() {
    let dir = good();
    let path = dir.path().join("backstop.yaml");
    let text = std::fs::read_to_string(&path).expect("the file");
    let (fixed, dynamic) = text.split_once("---").unwrap_or((&text, ""));
    std::fs::create_dir(dir.path().join("logs")).expect("a directory");
    let more = "access_log: { path: logs }\npid_file: logs\n";
    let separator = if dynamic.is_empty() { "" } else { "---" };
    std::fs::write(&path, format!("{fixed}{more}{separator}{dynamic}")).expect("a file");
    let output = run(&["-t", "-c", "backstop.yaml"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert_eq!(
        said.matches("is a directory, not a file").count(),
        2,
        "{said}"
    );
}

#[test]
fn a_byte_order_mark_is_no_mistake_and_a_tab_is_named() {
    let dir = good();
    let path = dir.path().join("backstop.yaml");
    let text = std::fs::read_to_string(&path).expect("the file");
    std::fs::write(&path, format!("\u{feff}{text}")).expect("a file");
    assert!(
        run(&["-t", "-c", "backstop.yaml"], dir.path())
            .status
            .success()
    );
    std::fs::write(&path, "listeners:\n\t- address: 127.0.0.1:1\n").expect("a file");
    let said = stderr(&run(&["-t", "-c", "backstop.yaml"], dir.path()));
    assert!(said.contains("has a tab"), "{said}");
}
