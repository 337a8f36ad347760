//! Backstop as a child process of the demo: started, waited for, ended.
//!
//! Used by `demo::run`. It knows Backstop only from outside: by its command line, its signals and what it tells
//! `NOTIFY_SOCKET`, as systemd would.

use super::screen::Screen;
use rustix::process::{Pid, Signal as ToSend, kill_process};
use serde::Deserialize;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::UnixDatagram;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the demo needs to know of the configuration in force.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct InForce {
    #[serde(default)]
    pub(super) listeners: Vec<Listener>,
    #[serde(default)]
    pub(super) access_log: AccessLog,
    /// Where the page is, if there is one.
    pub(super) admin: Option<Listener>,
    /// Both documents as printed.
    #[serde(skip)]
    pub(super) text: String,
}

/// A listener.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Listener {
    pub(super) address: String,
}

/// The access log.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct AccessLog {
    #[serde(default)]
    pub(super) path: String,
}

/// Asks `program` for the configuration in force, by `-T`. The inner error is the exit code it refused with; it has then
/// written to stderr what is wrong.
pub(super) fn in_force(program: &Path, config: &Path) -> io::Result<Result<InForce, i32>> {
    let output = Command::new(program)
        .arg("-c")
        .arg(config)
        .args(["-T", "-q"])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Ok(Err(exit_code(output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut in_force: InForce = first_document(&text).unwrap_or_default();
    in_force.text = text;
    Ok(Ok(in_force))
}

/// What the first YAML document of `text` says of `T`; keys that `T` does not know are passed over.
pub(super) fn first_document<T: for<'a> Deserialize<'a>>(text: &str) -> Option<T> {
    T::deserialize(serde_yaml::Deserializer::from_str(text).next()?).ok()
}

fn exit_code(status: ExitStatus) -> i32 {
    let by_signal = || 128 + status.signal().unwrap_or_default();
    status.code().unwrap_or_else(by_signal)
}

/// What happens to the child.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Every listener accepts, for the first time or after a reload.
    Ready,
    /// It has ended, with this exit code.
    Ended(i32),
}

/// The running child. Dropped early, it is killed, so that an error of the demo leaves no server behind.
#[derive(Debug)]
pub(super) struct Proxy {
    child: Child,
    child_changed: Signal,
    notices: UnixDatagram,
    notify_path: PathBuf,
    relays: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Starts `program` on `config`. Where `screen` shows a live line, what Backstop writes goes through it.
    pub(super) fn start(program: &Path, config: &Path, screen: &Arc<Screen>) -> io::Result<Self> {
        let name = format!("backstop-demo-{}.notify", std::process::id());
        let notify_path = std::env::temp_dir().join(name);
        let notices = UnixDatagram::bind(&notify_path)?;
        // Before the child exists, so that no end of it can be missed.
        let child_changed = signal(SignalKind::child())?;
        let (stdout, stderr) = screen.relays();
        let pipe_or_share = |relay| {
            if relay {
                Stdio::piped()
            } else {
                Stdio::inherit()
            }
        };
        let spawned = Command::new(program)
            .arg("-c")
            .arg(config)
            .env("NOTIFY_SOCKET", &notify_path)
            .stdin(Stdio::null())
            .stdout(pipe_or_share(stdout))
            .stderr(pipe_or_share(stderr))
            // A group of its own: Ctrl-C reaches the demo alone, which then ends Backstop in the orderly way.
            .process_group(0)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(e) => {
                let _ = std::fs::remove_file(&notify_path);
                return Err(e);
            }
        };
        let relays = [
            child
                .stdout
                .take()
                .map(|out| relay(out, screen.clone(), Screen::out)),
            child
                .stderr
                .take()
                .map(|err| relay(err, screen.clone(), Screen::err)),
        ];
        Ok(Proxy {
            child,
            child_changed,
            notices,
            notify_path,
            relays: relays.into_iter().flatten().collect(),
        })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next thing that happens to it. Its notices are taken off the socket all the while: were that full, Backstop
    /// would block on it.
    pub(super) async fn event(&mut self) -> io::Result<Event> {
        let mut notice = [0; 4096];
        loop {
            if let Some(status) = self.child.try_wait()? {
                // All it has written is on the screen before anything is said about its end.
                for relay in self.relays.drain(..) {
                    let _ = relay.join();
                }
                return Ok(Event::Ended(exit_code(status)));
            }
            tokio::select! {
                _ = self.child_changed.recv() => {}
                length = self.notices.recv(&mut notice) => {
                    if notice[..length?].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
                        return Ok(Event::Ready);
                    }
                }
            }
        }
    }

    /// Waits for its end and returns its exit code.
    pub(super) async fn ended(&mut self) -> io::Result<i32> {
        loop {
            if let Event::Ended(code) = self.event().await? {
                return Ok(code);
            }
        }
    }

    /// Asks it to drain and exit; asked twice, it exits at once.
    pub(super) fn terminate(&mut self) -> io::Result<()> {
        // Not yet waited for, so that its id cannot belong to another process.
        if self.child.try_wait()?.is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                kill_process(pid, ToSend::TERM)?;
            }
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = std::fs::remove_file(&self.notify_path);
    }
}

fn relay(
    source: impl Read + Send + 'static,
    screen: Arc<Screen>,
    write: fn(&Screen, &[u8]),
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while matches!(source.read_until(b'\n', &mut line), Ok(1..)) {
            write(&screen, &line);
            line.clear();
        }
    })
}
