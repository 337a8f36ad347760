//! The process log: env_logger's lines, written to stderr by a thread of its own.
//!
//! A worker that logs must not wait for whoever reads stderr: one that stopped reading would stop every request on that
//! worker. So lines go through a bounded queue, and are dropped when it is full. Decides nothing.

use log::LevelFilter;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// Lines that may wait to be written.
const QUEUE: usize = 8_192;
/// How long the end of the process waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Holds the log open; dropped last, it sees to it that what was logged is written.
#[derive(Debug)]
pub struct ProcessLog {
    queue: SyncSender<Message>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// To be answered once all before it is written.
    Finish(SyncSender<()>),
}

/// Starts the process log: our own lines from `level` up, those of libraries only where `RUST_LOG` asks for them.
///
/// # Errors
/// When the system gives no further thread.
pub fn start(level: LevelFilter) -> io::Result<ProcessLog> {
    let (queue, lines) = sync_channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let pipe = Pipe {
        queue: queue.clone(),
        dropped: dropped.clone(),
    };
    thread::Builder::new()
        .name("process-log".into())
        .spawn(move || write_lines(&lines, &dropped))?;
    let mut builder = env_logger::Builder::new();
    builder
        .filter_level(LevelFilter::Off)
        .filter_module("backstop", level)
        .parse_default_env()
        .target(env_logger::Target::Pipe(Box::new(pipe)));
    // A second start in one process, as in tests, keeps the first logger.
    let _ = builder.try_init();
    Ok(ProcessLog { queue })
}

impl Drop for ProcessLog {
    fn drop(&mut self) {
        let (written, all_written) = mpsc::sync_channel(1);
        if self.queue.try_send(Message::Finish(written)).is_ok() {
            let _ = all_written.recv_timeout(PATIENCE);
        }
    }
}

/// What env_logger writes to: each call is one line.
struct Pipe {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Write for Pipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(lines: &Receiver<Message>, dropped: &AtomicU64) {
    let mut stderr = io::stderr();
    while let Ok(message) = lines.recv() {
        // There is nowhere to tell that stderr cannot be written to.
        match message {
            Message::Line(line) => {
                let _ = stderr.write_all(&line);
            }
            Message::Finish(written) => {
                let _ = written.send(());
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(
                stderr,
                "{lost} lines of this log were dropped: nobody read it"
            );
        }
    }
}
