//! nginx and HAProxy, as Debian has them: started in the foreground in a directory of their own, ended by their ids.

use crate::harness::{PATIENCE, free_port};
use crate::{report, settings};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A running one. Dropping it ends it.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Peer {
    /// None where it is not installed.
    pub(crate) fn nginx(backends: &[u16]) -> Option<Self> {
        Self::start("nginx", &["-c"], "nginx.conf", |dir, port| {
            settings::nginx(dir, port, backends)
        })
    }

    /// None where it is not installed.
    pub(crate) fn haproxy(backends: &[u16]) -> Option<Self> {
        Self::start("haproxy", &["-db", "-f"], "haproxy.cfg", |_, port| {
            settings::haproxy(port, backends)
        })
    }

    fn start(
        name: &'static str,
        arguments: &[&str],
        file: &str,
        config: impl Fn(&str, u16) -> String,
    ) -> Option<Self> {
        let program = format!("/usr/sbin/{name}");
        if !Path::new(&program).exists() {
            assert!(std::env::var_os("CI").is_none(), "{program} is missing");
            report::say(&format!(
                "{program} is not installed: no comparison with it"
            ));
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let path = dir.path().join(file);
        let place = dir.path().to_str().expect("a plain path");
        std::fs::write(&path, config(place, port)).expect("its configuration");
        let child = Command::new(program)
            .args(arguments)
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program");
        Some(Peer {
            name,
            port,
            child,
            _dir: dir,
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Killed, nginx would leave its workers behind; asked, it ends them first.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(std::time::Duration::from_millis(4));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
