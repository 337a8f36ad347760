//! Other programs, as Debian has them: started in the foreground, ended by their ids.

use crate::harness::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
