//! Other programs, as Debian has them: started in the foreground, ended by their ids.

use crate::harness::{PATIENCE, free_port, until};
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running one. Dropping it ends it.
pub(crate) struct Program(Child);

impl Program {
    /// `None` where it is not installed: then a test says so, and is over.
    pub(crate) fn start(path: &str, arguments: &[&str]) -> Option<Self> {
        if !Path::new(path).exists() {
            assert!(std::env::var_os("CI").is_none(), "{path} is missing");
            eprintln!("{path} is not installed: nothing is tested with it");
            return None;
        }
        let child = Command::new(path)
            .args(arguments)
            // Else Pebble lets some seconds pass before it looks at a proof.
            .env("PEBBLE_VA_NOSLEEP", "1")
            // And refuses one in twenty of what it should take.
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Program(child.expect("the program")))
    }
}

/// nginx, which answers everything with `fine`.
pub(crate) struct Nginx {
    pub(crate) port: u16,
    // Ended before its files go.
    _program: Program,
    dir: TempDir,
}

impl Nginx {
    /// One whose log has `line` for each request; `None` where it is not installed.
    pub(crate) fn start(line: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let (port, at) = (free_port(), dir.path().display());
        let config = format!(
            "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format one '{line}';
    access_log {at}/access.log one;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    server {{ listen 127.0.0.1:{port}; keepalive_requests 100000; location / {{ return 200 \"fine\"; }} }}
}}"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).expect("a file");
        let (at, file) = (at.to_string(), file.display().to_string());
        let program = Program::start("/usr/sbin/nginx", &["-p", &at, "-c", &file])?;
        until("it listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(Nginx {
            port,
            _program: program,
            dir,
        })
    }

    /// What its log has so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("access.log")).expect("its log")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Killed, nginx would leave its workers behind; asked, it ends them first.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(4));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
