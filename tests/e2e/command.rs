//! The program run to its end, for what it says and the code it exits with.

use crate::harness::{BACKSTOP, PATIENCE};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Runs the program to its end.
pub(crate) fn run(args: &[&str], dir: &Path) -> Output {
    let mut child = Command::new(BACKSTOP)
        .args(args)
        .current_dir(dir)
        .env_remove("RUST_LOG")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let (out, err) = (
        child.stdout.take().expect("piped"),
        child.stderr.take().expect("piped"),
    );
    let out = thread::spawn(move || read_all(out));
    let err = thread::spawn(move || read_all(err));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{args:?} did not end");
        }
        thread::park_timeout(Duration::from_millis(4));
    };
    Output {
        status,
        stdout: out.join().expect("out"),
        stderr: err.join().expect("err"),
    }
}

fn read_all(mut from: impl std::io::Read) -> Vec<u8> {
    let mut all = Vec::new();
    // What was read before an error is what there is.
    let _ = from.read_to_end(&mut all);
    all
}
