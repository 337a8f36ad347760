//! The process under test: writes its configuration, starts it, talks to it by signals, reads what it says.
//!
//! Every test owns its process, its directory and its ports, so that all of them can run at once. Nothing here judges
//! an answer. No fixed sleeps: [`eventually`] polls with a deadline.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long [`eventually`] and every other wait may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The program.
pub(crate) const BACKSTOP: &str = env!("CARGO_BIN_EXE_backstop");

/// The repository.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Calls `probe` until it returns something; fails the test after [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "this never came: {what}");
        thread::park_timeout(Duration::from_millis(4));
    }
}

/// As [`eventually`], for a condition.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// A port that was free a moment ago. From below the range the kernel hands out by itself, so that neither an outgoing
/// connection nor another test takes it before its owner binds it, and a closed one stays closed.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 97) as u16 * 200;
    for _ in 0..20_000 {
        let port = 11_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// What sends all requests of a route through Pingora's phases, and does nothing else to them.
pub(crate) const PHASES: &str = "hedge: { after: 30s }";

/// An upstreams document with one upstream, `pool`, and one route for everything, `all`; `rules` are further lines of
/// the route.
pub(crate) fn one_route(backends: &[u16], rules: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|p| format!("127.0.0.1:{p}")).collect();
    let mut text = format!(
        "upstreams:\n  pool:\n    backends: [{}]\nroutes:\n  - name: all\n    match: {{ path: / }}\n    upstream: pool\n",
        backends.join(", ")
    );
    for line in rules.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// The same document with these further lines in each upstream.
pub(crate) fn with_upstream(text: &str, lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    text.replace("    backends:", &format!("{lines}    backends:"))
}

/// The same document, in which tries take no backend out of rotation.
pub(crate) fn never_ejecting(text: &str) -> String {
    with_upstream(text, "eject: off")
}

/// What a process is started with.
#[derive(Clone)]
pub(crate) struct Setup {
    port: Option<u16>,
    http2: bool,
    listener: String,
    more_listeners: String,
    statics: Vec<(String, String)>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// Sets a top-level key of the static document.
    pub(crate) fn key(mut self, key: &str, value: &str) -> Self {
        self.statics.retain(|(k, _)| k != key);
        self.statics.push((key.into(), value.into()));
        self
    }

    /// Lets the listener speak HTTP/2 too.
    pub(crate) fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Adds keys to the listener, such as `tls: { … }`.
    pub(crate) fn listener(mut self, keys: &str) -> Self {
        self.listener = format!(", {keys}");
        self
    }

    /// Listens here as well: a mapping.
    pub(crate) fn and_listener(mut self, mapping: &str) -> Self {
        self.more_listeners.push_str(&format!("  - {mapping}\n"));
        self
    }

    /// With this in the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Listens on this port instead of a free one.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts the process and waits until it says it is ready.
    pub(crate) fn start(self, upstreams: &str) -> Proxy {
        for _ in 0..5 {
            match Proxy::spawn(self.clone(), upstreams) {
                Ok(proxy) => return proxy,
                Err(stderr) if self.port.is_none() && stderr.contains("in use") => {}
                Err(stderr) => panic!("it did not start:\n{stderr}"),
            }
        }
        panic!("five ports in a row were taken");
    }

    fn document(&self, port: u16, upstreams: &str) -> String {
        let mut text = format!(
            "listeners:\n  - {{ address: \"127.0.0.1:{port}\", http2: {}{} }}\n{}",
            self.http2, self.listener, self.more_listeners
        );
        for (key, value) in &self.statics {
            text.push_str(&format!("{key}: {value}\n"));
        }
        format!("{text}---\n{upstreams}")
    }
}

/// A running process. Dropping it kills that process and no other.
pub(crate) struct Proxy {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    setup: Setup,
    dir: tempfile::TempDir,
    child: Child,
    stdout: Lines,
    stderr: Lines,
    notices: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

/// Where the keys of admin addresses are, by their ports.
static KEYS: Mutex<BTreeMap<u16, PathBuf>> = Mutex::new(BTreeMap::new());

/// What `Authorization` is to be for who may change something at this admin address.
pub(crate) fn bearer(admin: u16) -> String {
    let place = KEYS.lock().expect("keys").get(&admin).cloned();
    let place = place.unwrap_or_else(|| panic!("nothing is known of {admin}"));
    let key =
        std::fs::read_to_string(&place).unwrap_or_else(|e| panic!("{}: {e}", place.display()));
    format!("Bearer {}", key.trim())
}

impl Proxy {
    /// A process with two workers, the access log on its standard output, and a drain of five seconds.
    pub(crate) fn with() -> Setup {
        let setup = Setup {
            port: None,
            http2: false,
            listener: String::new(),
            more_listeners: String::new(),
            statics: Vec::new(),
            environment: Vec::new(),
        };
        setup
            .key("workers", "2")
            .key("drain_timeout", "5s")
            .key("access_log", "{ path: stdout }")
            .key("log", "{ level: info }")
    }

    /// Starts one with that and these upstreams.
    pub(crate) fn start(upstreams: &str) -> Proxy {
        Proxy::with().start(upstreams)
    }

    fn spawn(setup: Setup, upstreams: &str) -> Result<Proxy, String> {
        let port = setup.port.unwrap_or_else(free_port);
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("backstop.yaml");
        std::fs::write(&config, setup.document(port, upstreams)).expect("the configuration");
        let admin = setup.statics.iter().find(|(key, _)| key == "admin");
        let admin = admin
            .and_then(|(_, value)| value.split(':').nth(2)?.split(['"', ',', ' ', '}']).next());
        if let Some(port) = admin.and_then(|port| port.parse().ok()) {
            let place = dir.path().join("backstop.pid.key");
            KEYS.lock().expect("keys").insert(port, place);
        }
        let socket = dir.path().join("notify");
        let notify = UnixDatagram::bind(&socket).expect("the notify socket");
        notify
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a timeout");
        let mut command = Command::new(BACKSTOP);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        let mut child = command
            .arg("-c")
            .arg(&config)
            .env("NOTIFY_SOCKET", &socket)
            .env_remove("RUST_LOG")
            .env_remove("OTEL_EXPORTER_OTLP_HEADERS")
            .envs(setup.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let notices = listen(notify, socket);
        let mut proxy = Proxy {
            port,
            setup,
            dir,
            child,
            stdout,
            stderr,
            notices,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if proxy
                .notices()
                .iter()
                .any(|n| n.lines().any(|l| l == "READY=1"))
            {
                return Ok(proxy);
            }
            if proxy.child.try_wait().expect("a child").is_some() || Instant::now() > deadline {
                // Its pipes close with it; what it said last may still be on its way.
                thread::park_timeout(Duration::from_millis(50));
                return Err(proxy.stderr());
            }
            thread::park_timeout(Duration::from_millis(4));
        }
    }

    /// The directory of its configuration.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir().join("backstop.yaml")
    }

    /// Replaces the upstreams document, and tells nobody.
    pub(crate) fn rewrite(&self, upstreams: &str) {
        // Renamed into place: a reload under way must not read half a file.
        let new = self.dir().join("new.yaml");
        std::fs::write(&new, self.setup.document(self.port, upstreams)).expect("the configuration");
        std::fs::rename(new, self.config()).expect("the configuration");
    }

    /// Sets a key of the static document; the next [`Proxy::rewrite`] writes it.
    pub(crate) fn set_key(&mut self, key: &str, value: &str) {
        self.setup = self.setup.clone().key(key, value);
    }

    /// Replaces the upstreams document, reloads, and waits until it is in force.
    pub(crate) fn reload_with(&self, upstreams: &str) {
        // The first one is said before the service manager is told, but may be read later.
        self.said("configuration 1 is in force");
        let before = self.count_said("is in force");
        self.rewrite(upstreams);
        self.signal(Signal::HUP);
        until("the new configuration is in force", || {
            self.count_said("is in force") > before
        });
    }

    /// Replaces the upstreams document, reloads, and waits until that has been refused.
    pub(crate) fn reload_refused(&self, upstreams: &str) {
        let before = self.count_said("stays in force");
        self.rewrite(upstreams);
        self.signal(Signal::HUP);
        until("the reload is refused", || {
            self.count_said("stays in force") > before
        });
    }

    /// Sends a signal to this process.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a process");
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for its end, at most so long, and tells how long that took.
    pub(crate) fn wait_exit(&mut self, deadline: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return (status, start.elapsed());
            }
            assert!(
                start.elapsed() < deadline,
                "still running after {deadline:?}"
            );
            thread::park_timeout(Duration::from_millis(4));
        }
    }

    /// All it has written to standard error.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("lines").join("\n")
    }

    /// How many lines of standard error contain this.
    pub(crate) fn count_said(&self, text: &str) -> usize {
        self.stderr
            .lock()
            .expect("lines")
            .iter()
            .filter(|l| l.contains(text))
            .count()
    }

    /// Waits until standard error contains this, and returns the line.
    pub(crate) fn said(&self, text: &str) -> String {
        eventually(&format!("{text:?} on standard error"), || {
            self.stderr
                .lock()
                .expect("lines")
                .iter()
                .find(|l| l.contains(text))
                .cloned()
        })
    }

    /// What it told the service manager, one datagram each.
    pub(crate) fn notices(&self) -> Vec<String> {
        self.notices.lock().expect("lines").clone()
    }

    /// The access log so far. Every line must be JSON.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        let lines = self.stdout.lock().expect("lines");
        lines.iter().map(|l| parse_line(l)).collect()
    }

    /// Waits for the access log's line about this path.
    pub(crate) fn logged(&self, path: &str) -> Value {
        eventually(&format!("a log line for {path}"), || {
            self.log_lines().into_iter().find(|l| target(l) == path)
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.stdout.lock().map(|l| l.clone()).unwrap_or_default();
            let tail = log[log.len().saturating_sub(20)..].join("\n");
            eprintln!(
                "--- standard error\n{}\n--- end of the access log\n{tail}",
                self.stderr()
            );
        }
    }
}

/// One line of the access log.
pub(crate) fn parse_line(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"))
}

/// Path and query of a line.
pub(crate) fn target(line: &Value) -> String {
    let [path, query] = ["url.path", "url.query"].map(|name| line[name].as_str());
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    path.unwrap_or_default().to_string() + &query
}

/// The outcomes of a log line's tries.
pub(crate) fn outcomes(line: &Value) -> Vec<String> {
    let tries = line["tries"]
        .as_array()
        .unwrap_or_else(|| panic!("no tries in {line}"));
    tries
        .iter()
        .map(|t| t["outcome"].as_str().unwrap_or("?").to_string())
        .collect()
}

fn collect(from: impl std::io::Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let into = lines.clone();
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            into.lock()
                .expect("lines")
                .push(String::from_utf8_lossy(&line).into_owned());
        }
    });
    lines
}

/// Collects datagrams until the socket's file goes with the test's directory.
fn listen(socket: UnixDatagram, path: PathBuf) -> Lines {
    let lines = Lines::default();
    let into = lines.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while path.exists() {
            if let Ok(n) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                into.lock().expect("lines").push(text);
            }
        }
    });
    lines
}
