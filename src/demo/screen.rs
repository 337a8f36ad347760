//! What the demo shows: its texts, and a line of counters that stays below everything else.
//!
//! Used by `demo::run` and by the threads that pass Backstop's own output on. Decides no more than the words and where
//! they go. Write errors are ignored: a demo does not end because nobody reads it any more.

use super::Demo;
use super::proxy::{InForce, first_document};
use serde::Deserialize;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Erases the line the cursor is in (ECMA-48 CR and EL).
const ERASE: &[u8] = b"\r\x1b[2K";

/// Standard output and error, with at most one live line.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    error_terminal: bool,
    /// What the live line reads; empty when there is none.
    live: Mutex<String>,
}

impl Screen {
    /// The process's own.
    pub(super) fn new() -> Self {
        Screen {
            terminal: std::io::stdout().is_terminal(),
            error_terminal: std::io::stderr().is_terminal(),
            live: Mutex::default(),
        }
    }

    /// Whether a child's standard output and error must pass through here so as not to be written into the live line.
    pub(super) fn relays(&self) -> (bool, bool) {
        (self.terminal, self.terminal && self.error_terminal)
    }

    /// Writes a text of whole lines.
    pub(super) fn say(&self, text: &str) {
        self.out(format!("{}\n", text.trim_end()).as_bytes());
    }

    /// Writes bytes that end a line to standard output.
    pub(super) fn out(&self, bytes: &[u8]) {
        self.above(|| {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        });
    }

    /// Writes bytes that end a line to standard error.
    pub(super) fn err(&self, bytes: &[u8]) {
        self.above(|| {
            let _ = std::io::stderr().lock().write_all(bytes);
        });
    }

    /// Replaces the live line, if this is a terminal.
    pub(super) fn live(&self, text: &str) {
        if self.terminal {
            let mut live = self.lock();
            *live = text.to_string();
            draw(&live);
        }
    }

    /// Leaves the live line where it is and the cursor below it.
    pub(super) fn close(&self) {
        let mut live = self.lock();
        if !live.is_empty() {
            live.clear();
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(b"\n").and_then(|()| out.flush());
        }
    }

    fn above(&self, write: impl FnOnce()) {
        let live = self.lock();
        if live.is_empty() {
            return write();
        }
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(ERASE).and_then(|()| out.flush());
        drop(out);
        write();
        draw(&live);
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn draw(live: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(ERASE)
        .and_then(|()| out.write_all(live.as_bytes()))
        .and_then(|()| out.flush());
}

fn addresses(demo: &Demo) -> impl Iterator<Item = String> {
    (demo.port..=u16::MAX)
        .take(demo.backends.into())
        .map(|port| format!("127.0.0.1:{port}"))
}

/// What the backends are.
pub(super) fn backends(demo: &Demo) -> String {
    let first_to_last = match demo.backends {
        1 => format!("127.0.0.1:{}", demo.port),
        n => format!("127.0.0.1:{} to {}", demo.port, demo.port + (n - 1)),
    };
    let slow = match demo.slow.is_zero() {
        true => String::new(),
        false => format!(", each answer after {:?}", demo.slow),
    };
    format!(
        "Flaky backends: {first_to_last}. {:.4} % of requests fail (500, 502 or a reset, a third each){slow}.",
        Trimmed(demo.fail * 100.0),
    )
}

/// A number without the zeros that end its fraction.
struct Trimmed(f64);

impl std::fmt::Display for Trimmed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.*}", f.precision().unwrap_or(2), self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// What runs where, and what to try on it.
pub(super) fn tour(
    demo: &Demo,
    config: &Path,
    program: &Path,
    id: u32,
    in_force: &InForce,
) -> String {
    let front = in_force
        .listeners
        .first()
        .map_or("127.0.0.1:8080".into(), |l| reachable(&l.address));
    let upstreams = upstreams_file(config);
    let loop_on = |address: &str| {
        format!(
            "    for i in $(seq 20); do curl -s -o /dev/null -w '%{{http_code}} ' http://{address}/; done; echo\n"
        )
    };
    let mut text = format!(
        "\n{}\nBackstop: http://{front}/, process {id}, on {} and {}.\n\nIn another terminal, try:\n\n",
        backends(demo),
        config.display(),
        upstreams.display(),
    );
    text += "  20 requests straight to one backend; some fail (000 is a reset connection):\n";
    text += &loop_on(&format!("127.0.0.1:{}", demo.port));
    text += "  The same through Backstop, which tries again elsewhere:\n";
    text += &loop_on(&front);
    text += "  Which backend answers:\n";
    let _ = writeln!(text, "    curl http://{front}/");
    text += match in_force.access_log.path.as_str() {
        "stdout" => {
            "  Each request through Backstop is a line of JSON below: `tries` says what each try met, `retry`\n  why there was no further one.\n"
        }
        _ => "",
    };
    if let Some(admin) = &in_force.admin {
        let _ = writeln!(
            text,
            "  What clients saw beside what the backends answered, and what made the difference, in a browser:\n    http://{}/",
            reachable(&admin.address)
        );
    }
    let _ = writeln!(
        text,
        "  Change {}, then have it read without losing a request:",
        upstreams.display()
    );
    let _ = writeln!(
        text,
        "    {} -c {} -s reload",
        program.display(),
        config.display()
    );
    let unused: Vec<_> = addresses(demo)
        .filter(|address| !in_force.text.contains(address.as_str()))
        .collect();
    if !unused.is_empty() {
        let _ = writeln!(
            text,
            "\nNot in use: the configuration does not name {}.",
            unused.join(", ")
        );
    }
    text + "\nCtrl-C ends all of it.\n\n"
}

/// Where a client on this machine finds a listener.
fn reachable(address: &str) -> String {
    if let Some(port) = address.strip_prefix("0.0.0.0:") {
        return format!("127.0.0.1:{port}");
    }
    if let Some(port) = address.strip_prefix("[::]:") {
        return format!("[::1]:{port}");
    }
    address.to_string()
}

/// The file with the upstreams: `config` itself if it holds both documents or cannot be read.
fn upstreams_file(config: &Path) -> PathBuf {
    #[derive(Deserialize)]
    struct Names {
        upstreams_file: PathBuf,
    }
    let named = std::fs::read_to_string(config)
        .ok()
        .and_then(|text| first_document::<Names>(&text));
    let Some(Names { upstreams_file }) = named else {
        return config.to_path_buf();
    };
    let directory = config.parent().unwrap_or(Path::new(""));
    match upstreams_file.strip_prefix("..") {
        // `conf/../upstreams.yaml` is `upstreams.yaml`, unless `conf` is a link; then the longer path stays.
        Ok(rest) if !directory.as_os_str().is_empty() && !directory.is_symlink() => {
            directory.parent().unwrap_or(Path::new("")).join(rest)
        }
        _ => directory.join(upstreams_file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn demo() -> Demo {
        Demo {
            backends: 3,
            port: 9001,
            fail: 0.1,
            slow: Duration::ZERO,
        }
    }

    fn toured(printed: &str) -> String {
        let mut in_force: InForce = first_document(printed).unwrap();
        in_force.text = printed.to_string();
        let (config, program) = (Path::new("no/conf.yaml"), Path::new("bin/backstop"));
        tour(&demo(), config, program, 4711, &in_force)
    }

    #[test]
    fn the_backends_are_described() {
        assert_eq!(
            backends(&demo()),
            "Flaky backends: 127.0.0.1:9001 to 9003. 10 % of requests fail (500, 502 or a reset, a third each)."
        );
        let one = Demo {
            backends: 1,
            fail: 0.125,
            slow: Duration::from_millis(1500),
            ..demo()
        };
        assert_eq!(
            backends(&one),
            "Flaky backends: 127.0.0.1:9001. 12.5 % of requests fail (500, 502 or a reset, a third each), each answer after 1.5s."
        );
    }

    #[test]
    fn the_tour_names_what_the_configuration_says() {
        let text = toured(
            "listeners: [{ address: '0.0.0.0:8080', http2: false }]\nadmin: { address: '127.0.0.1:9090' }\naccess_log: { path: stdout }\n---\nupstreams: { a: { backends: ['127.0.0.1:9001', '127.0.0.1:9003'] } }\n",
        );
        for expected in [
            "http://127.0.0.1:8080/",
            "http://127.0.0.1:9001/",
            "http://127.0.0.1:9090/",
            "-s reload",
            "`tries`",
            "does not name 127.0.0.1:9002.",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn the_tour_keeps_quiet_about_logs_elsewhere() {
        let text = toured("listeners: [{ address: '[::]:80' }]\naccess_log: { path: a.log }\n");
        assert!(
            text.contains("bin/backstop -c no/conf.yaml -s reload"),
            "{text}"
        );
        assert!(text.contains("http://[::1]:80/"), "{text}");
        assert!(!text.contains("`tries`"), "{text}");
    }
}
