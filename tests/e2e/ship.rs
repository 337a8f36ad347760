//! Finished files of the access log reach a server of S3, each line once, whatever happens on the way.

use crate::admin::with_admin;
use crate::client::Client;
use crate::harness::{Proxy, Setup, free_port, one_route, parse_line, target, until};
use crate::observe::{metrics, value};
use crate::origin::Origin;
use crate::reply::Reply;
use flate2::read::GzDecoder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustix::process::Signal;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;

const BUCKET: &str = "web-logs";

/// A server of S3 with one bucket, which lets in who has the key.
struct Store {
    dir: tempfile::TempDir,
    /// Where the log is that is shipped to it.
    logs: tempfile::TempDir,
    port: u16,
    running: Option<(Arc<Notify>, JoinHandle<()>)>,
}

impl Store {
    /// One that is not running.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        Store {
            dir,
            logs: tempfile::tempdir().unwrap(),
            port: free_port(),
            running: None,
        }
    }

    fn started() -> Self {
        let mut store = Store::new();
        store.start();
        store
    }

    fn start(&mut self) {
        let files = FileSystem::new(self.dir.path()).unwrap();
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single("shipper", "a secret"));
        let service = builder.build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::<Notify>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    tokio::select! {
                        Ok((tcp, _)) = listener.accept() => {
                            let service = service.clone();
                            tokio::spawn(async move {
                                let http = auto::Builder::new(TokioExecutor::new());
                                let _ = http.serve_connection(TokioIo::new(tcp), service).await;
                            });
                        }
                        () = stopped.notified() => return,
                    }
                }
            });
        });
        self.running = Some((stop, thread));
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.notify_one();
            thread.join().unwrap();
        }
    }

    /// `access_log` that goes there.
    fn log(&self, more: &str) -> String {
        format!(
            "{{ path: {}, ship: {{ s3: {{ bucket: {BUCKET}, prefix: logs/web, endpoint: \"http://127.0.0.1:{}\", every: 200ms }} }}{more} }}",
            self.logs.path().join("access.log").display(),
            self.port
        )
    }

    /// The files of the log that have this in their names.
    fn files(&self, part: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.logs.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
        paths.filter(|path| name(path).contains(part)).collect()
    }

    /// The names of what is there.
    fn names(&self) -> Vec<String> {
        let root = self.dir.path().join(BUCKET);
        let mut names = Vec::new();
        let mut open = vec![root.clone()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => open.push(path),
                    false => {
                        let name = path.strip_prefix(&root).unwrap();
                        names.push(name.to_str().unwrap().to_string());
                    }
                }
            }
        }
        names.retain(|name| name.ends_with(".gz"));
        names.sort();
        names
    }

    /// The lines of all that is there.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in self.names() {
            let Ok(file) = std::fs::File::open(self.dir.path().join(BUCKET).join(&name)) else {
                continue;
            };
            let mut text = String::new();
            if GzDecoder::new(file).read_to_string(&mut text).is_ok() {
                lines.extend(text.lines().map(str::to_string));
            }
        }
        lines
    }

    /// Waits until exactly these were asked for, by the lines that are there.
    fn holds(&self, paths: &[String]) {
        let mut expected = paths.to_vec();
        expected.sort();
        until("each line is there once", || {
            let lines = self.lines();
            let mut found: Vec<_> = lines.iter().map(|line| target(&parse_line(line))).collect();
            found.sort();
            found == expected
        });
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

fn with_key(setup: Setup) -> Setup {
    setup
        .env("AWS_ACCESS_KEY_ID", "shipper")
        .env("AWS_SECRET_ACCESS_KEY", "a secret")
        .env("AWS_REGION", "eu-central-1")
}

fn shipped(admin: u16, name: &str) -> f64 {
    value(&metrics(admin), &format!("backstop_access_log_{name}")).unwrap()
}

/// Asks for so many paths of this name.
fn ask(proxy: &Proxy, name: &str, count: usize) -> Vec<String> {
    let mut client = Client::to(proxy.port);
    let paths = (0..count).map(|n| format!("/{name}/{n}"));
    paths
        .inspect(|path| assert_eq!(client.get(path).status, 200))
        .collect()
}

#[test]
fn finished_files_are_shipped_by_the_hour() {
    let store = Store::started();
    let origin = Origin::always(Reply::ok("x"));
    let (setup, admin) = with_admin();
    let mut proxy = with_key(setup)
        .key("access_log", &store.log(", rotate: { keep: 2 }"))
        .start(&one_route(&[origin.port], ""));
    let mut asked = Vec::new();
    for round in 0..4 {
        asked.extend(ask(&proxy, &format!("round-{round}"), 5));
        store.holds(&asked);
    }
    for name in store.names() {
        let parts: Vec<_> = name.split('/').collect();
        let [a, b, year, month, day, hour, file] = parts[..] else {
            panic!("{name}");
        };
        assert_eq!((a, b), ("logs", "web"));
        assert!(
            year.starts_with("year=20") && month.starts_with("month="),
            "{name}"
        );
        assert!(
            day.starts_with("day=") && hour.starts_with("hour="),
            "{name}"
        );
        // The hour is that of the file's own name.
        assert!(file.contains("-access.log."), "{file}");
        let stamp = file.split(".log.").nth(1).unwrap();
        assert_eq!(&stamp[9..11], &hour["hour=".len()..]);
    }
    let figure = |name: &str| shipped(admin, name);
    until("it is counted", || figure("waiting_files") == 0.0);
    assert!(figure("shipped_files_total") >= 4.0 && figure("shipped_bytes_total") > 100.0);
    assert!(figure("last_shipped_timestamp_seconds") > 1e9);
    assert_eq!(figure("ship_failures_total"), 0.0);
    until("only the last stay", || store.files(".sent").len() == 2);
    // At the end the last one goes too, however young.
    asked.extend(ask(&proxy, "last", 3));
    proxy.signal(Signal::TERM);
    proxy.wait_exit(Duration::from_secs(10));
    store.holds(&asked);
}

#[test]
fn what_cannot_be_shipped_waits_and_outlives_the_process() {
    let mut store = Store::new();
    let origin = Origin::always(Reply::ok("x"));
    let (setup, admin) = with_admin();
    // One file only has place among those that were shipped; these were not.
    let log = store.log(", rotate: { keep: 1 }");
    let upstreams = one_route(&[origin.port], "");
    let mut proxy = with_key(setup).key("access_log", &log).start(&upstreams);
    let mut asked = Vec::new();
    let waiting = |admin| shipped(admin, "waiting_files");
    for round in 1..=3 {
        asked.extend(ask(&proxy, &format!("before-{round}"), 2));
        until("it waits", || store.files(".log.20").len() >= round);
    }
    until("it is counted", || waiting(admin) >= 1.0);
    let said = proxy.said("cannot be shipped to s3://web-logs/logs/web");
    assert!(said.contains("onnection refused"), "{said}");
    proxy.signal(Signal::KILL);
    proxy.wait_exit(Duration::from_secs(5));
    // What was sent, but not marked as such, is sent again, and is there once.
    let oldest = store.files(".log.20").into_iter().min().unwrap();
    let text = std::fs::read(&oldest).unwrap();
    store.start();
    let (setup, admin) = with_admin();
    let proxy = with_key(setup).key("access_log", &log).start(&upstreams);
    store.holds(&asked);
    until("they are marked", || store.files(".sent").len() == 1);
    let aside = store.logs.path().join("aside");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(&aside, &oldest).unwrap();
    asked.extend(ask(&proxy, "after", 2));
    store.holds(&asked);
    until("nothing waits", || waiting(admin) == 0.0);
    // A server that goes away and comes back.
    store.stop();
    asked.extend(ask(&proxy, "gone", 2));
    until("it is noticed", || {
        proxy.count_said("cannot be shipped") >= 1
    });
    store.start();
    store.holds(&asked);
    proxy.said("is shipped to s3://web-logs/logs/web again");
}

#[test]
fn a_wrong_key_loses_nothing() {
    let store = Store::started();
    let origin = Origin::always(Reply::ok("x"));
    let setup = Proxy::with()
        .env("AWS_ACCESS_KEY_ID", "shipper")
        .env("AWS_SECRET_ACCESS_KEY", "another secret")
        .key("access_log", &store.log(""));
    let proxy = setup.start(&one_route(&[origin.port], ""));
    ask(&proxy, "a", 2);
    let said = proxy.said("cannot be shipped");
    assert!(said.contains("SignatureDoesNotMatch"), "{said}");
    assert!(!said.contains("secret") && said.len() < 900, "{said}");
    assert!(store.names().is_empty());
    assert!(!store.files(".log.20").is_empty());
}

/// One for whose name there is no room in the store is in nobody's way.
#[test]
fn one_that_cannot_be_shipped_does_not_hold_up_the_others() {
    let store = Store::started();
    let at = |n: u32| {
        let name = format!("access.log.20261129T10203{n}.203Z");
        store.logs.path().join(name)
    };
    for n in 0..4 {
        std::fs::write(at(n), format!("{{\"url.path\":\"/{n}\"}}\n")).unwrap();
    }
    // Where its object would be there is a directory.
    let name = at(0);
    let name = name
        .to_str()
        .unwrap()
        .trim_start_matches('/')
        .replace('/', "-");
    let host = rustix::system::uname();
    let host = host.nodename().to_str().unwrap();
    let there = store.dir.path().join(BUCKET);
    let there = there.join("logs/web/year=2026/month=11/day=29/hour=10");
    std::fs::create_dir_all(there.join(format!("{host}-{name}.gz/x"))).unwrap();
    let origin = Origin::always(Reply::ok("x"));
    let (setup, admin) = with_admin();
    let setup = with_key(setup).key("access_log", &store.log(""));
    let proxy = setup.start(&one_route(&[origin.port], ""));
    until("the others are marked", || store.files(".sent").len() == 3);
    let lines = ["/1", "/2", "/3"].map(String::from);
    store.holds(&lines);
    let said = proxy.said("of the access log cannot be shipped");
    assert!(said.contains("102030.203Z"), "{said}");
    until("one waits", || shipped(admin, "waiting_files") == 1.0);
    // What comes next is not kept waiting either.
    store.holds(&[&lines[..], &ask(&proxy, "after", 1)].concat());
    assert_eq!(proxy.count_said("cannot be shipped"), 1);
}

/// An address of the link, as instances have it, that says who they are.
#[test]
fn the_role_of_an_instance_is_asked_for() {
    let store = Store::started();
    let metadata = Origin::new(|request| match (&*request.method, &*request.target) {
        ("PUT", "/latest/api/token") => Reply::ok("a token"),
        ("GET", _) if request.header("x-aws-ec2-metadata-token") != Some("a token") => {
            Reply::status(401)
        }
        ("GET", "/latest/meta-data/iam/security-credentials/") => Reply::ok("web"),
        ("GET", "/latest/meta-data/iam/security-credentials/web") => Reply::ok(
            r#"{"AccessKeyId":"shipper","SecretAccessKey":"a secret","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#,
        ),
        _ => Reply::status(404),
    });
    let origin = Origin::always(Reply::ok("x"));
    let place = format!("http://127.0.0.1:{}", metadata.port);
    let setup = Proxy::with().env("AWS_METADATA_ENDPOINT", &place);
    let proxy = setup
        .key("access_log", &store.log(""))
        .start(&one_route(&[origin.port], ""));
    store.holds(&ask(&proxy, "a", 2));
    assert!(metadata.count() >= 3);
}

#[test]
fn a_large_file_goes_in_parts() {
    let store = Store::started();
    let origin = Origin::always(Reply::ok("x"));
    let setup = with_key(Proxy::with()).key("access_log", &store.log(""));
    let dir = {
        let proxy = setup.start(&one_route(&[origin.port], ""));
        // As if it had been finished before: what cannot be compressed much.
        let mut random = fastrand::Rng::with_seed(3);
        let mut text = String::new();
        while text.len() < 24 * 1024 * 1024 {
            text.push_str("{\"url.path\":\"/");
            text.extend(std::iter::repeat_with(|| random.alphanumeric()).take(4000));
            text.push_str("\"}\n");
        }
        let path = store.logs.path().join("access.log.20261129T102030.123Z");
        std::fs::write(&path, &text).unwrap();
        // Whoever is told of another one sees it.
        ask(&proxy, "a", 1);
        until("both are there", || store.files(".sent").len() == 2);
        let sent = text.lines().map(str::to_string);
        let all = store.lines();
        assert_eq!(all.len(), text.lines().count() + 1);
        assert!(sent.zip(&all).all(|(sent, there)| sent == *there));
        store.names()
    };
    assert!(dir[0].starts_with("logs/web/year=2026/month=11/day=29/hour=10/"));
    assert_eq!(dir.len(), 2);
}
