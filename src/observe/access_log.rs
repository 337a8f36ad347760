//! The access log: a line for each request, written by a thread of its own.
//!
//! A request only leaves its line in a lane that is bounded (`lanes`); it never waits for a disk. When there is no room
//! the line is dropped and counted. Decides nothing.

use super::formats::{self, Format, More};
use super::json;
use super::lanes::{Batch, Lane, Lanes};
use super::rotation::LogFile;
use super::shipping::{Progress, Shipper};
use super::syslog::Syslog;
use crate::config::{self, LogTarget};
use crate::policy::outcome::Outcome;
use crate::policy::redact::Redaction;
use crate::policy::sampling::Sampling;
use crate::policy::trace::Trace;
use jiff::Timestamp;
use log::{error, warn};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Bytes of lines that may wait: clients choose how long a line is.
const MOST_QUEUED: usize = 64 * 1024 * 1024;
/// How long the writer lets lines gather: while it sleeps, a request that logs wakes nobody.
const GATHER: Duration = Duration::from_millis(10);
/// How long the control thread waits for the log before it goes on without.
const PATIENCE: Duration = Duration::from_secs(1);

/// One request. Each form of the log has its own names for it, and writes times as it likes.
#[derive(Debug, Default)]
pub struct Line<'a> {
    /// All of it that is no text of its own.
    pub summary: Summary,
    /// Who the client says it is, where it does.
    pub identity: Option<String>,
    /// As sent upstream in `X-Request-ID`.
    pub request_id: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The host it asked for, as written, and perhaps a port.
    pub host: &'a str,
    /// Path and query, as written but for what is left out.
    pub path: Cow<'a, str>,
    /// The cipher of TLS, where that is spoken.
    pub cipher: Option<&'a str>,
    /// The program that asks, as it calls itself.
    pub user_agent: Option<&'a [u8]>,
    /// The route's name; null when none matched.
    pub route: Option<&'a str>,
    /// The upstream's name, where one was involved.
    pub upstream: Option<&'a str>,
    /// Every try in order, the last one at the last backend.
    pub tries: Vec<TryLine<'a>>,
    /// Second requests that the first one overtook; no log has them.
    pub overtaken: Vec<TryLine<'a>>,
    /// What only other forms of the log have; see [`Line::more`].
    pub more: Option<Box<More<'a>>>,
}

/// What of a [`Line`] takes the same room for each request.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    /// The address at the other end of the connection.
    pub client: Option<IpAddr>,
    /// How it was found out who the client is: nothing says whether it is true.
    pub identity_from: Option<&'static str>,
    /// By which scheme it asked.
    pub scheme: &'static str,
    /// `HTTP/1.1` and the like.
    pub protocol: &'static str,
    /// The version of TLS, where that is spoken.
    pub tls: Option<&'static str>,
    /// `hit`, `miss`, `stale` or `bypass`, where the route has a cache.
    pub cache: Option<&'static str>,
    /// Why there was no further try.
    pub retry: Option<&'static str>,
    /// Why the request was not let through.
    pub refused: Option<&'static str>,
    /// What the client got; 499 when it left before.
    pub status: u16,
    /// Why the client got an error of our own, where `Proxy-Status` has a word for that (RFC 9209 §2.3).
    pub error: Option<&'static str>,
    /// Body bytes that came from the client.
    pub received: usize,
    /// Body bytes sent to the client.
    pub bytes: usize,
    /// From the end of what was before on the connection, or its beginning, to the first byte of the request.
    pub idle: Option<Duration>,
    /// The share of such requests that is in the log, where that is not all.
    pub sample: Option<f64>,
    /// Its place in its trace, where there are traces.
    pub trace: Option<Trace>,
    /// When it began, since the epoch: in the log as [`stamp`] writes it.
    pub began: Duration,
    /// From the request head to the end.
    pub lasted: Duration,
}

impl<'a> Line<'a> {
    /// What only other forms of the log have.
    pub fn more(&self) -> &More<'a> {
        static NOTHING: More<'static> = More::NOTHING;
        self.more.as_deref().unwrap_or(&NOTHING)
    }

    /// The last backend tried.
    pub fn backend(&self) -> Option<&'a str> {
        self.tries.last().map(|last| last.backend)
    }
}

/// A request that ended, whose line is still to be made.
pub trait Untold: fmt::Debug + Send {
    /// The line. What is secret in a query is left out of it; `claim` is the claim of a token that is the name of who asks.
    fn line(&self, redaction: &Redaction, claim: &str) -> Line<'_>;
    /// How many bytes its texts have, as far as clients choose that.
    fn bytes(&self) -> usize;
}

/// One try in a [`Line`].
#[derive(Debug)]
pub struct TryLine<'a> {
    /// Where it went.
    pub backend: &'a str,
    /// All else.
    pub summary: TrySummary,
}

/// What of a [`TryLine`] takes the same room for each try.
#[derive(Debug, Clone, Copy)]
pub struct TrySummary {
    /// `ok`, `status 500`, `connect_failure`, `reset`, `timeout`, `client_left`.
    pub outcome: Outcome,
    /// How long it took, without the wait before it.
    pub took: Duration,
    /// The wait before it.
    pub waited: Duration,
    /// The wait for a place after that.
    pub queued: Duration,
    /// Until there was a connection, if one was made for it.
    pub connected: Option<Duration>,
    /// Until the head of the answer, from the try's beginning on.
    pub first_byte: Option<Duration>,
    /// The status it was answered with, if it was.
    pub status: Option<u16>,
    /// The name of its span, where there are traces.
    pub span: u64,
    /// When it began, from the request's beginning on.
    pub began: Duration,
}

/// A duration in microseconds, as exactly as logs write it.
pub fn micros(duration: Duration) -> u64 {
    let rest = u64::from((duration.subsec_nanos() + 500) / 1000);
    duration
        .as_secs()
        .saturating_mul(1_000_000)
        .saturating_add(rest)
}

/// The same in milliseconds.
pub fn millis(duration: Duration) -> f64 {
    micros(duration) as f64 / 1e3
}

/// A time as the log writes it: RFC 3339 with milliseconds, UTC.
pub fn stamp(since_epoch: Duration) -> String {
    let mut text = Vec::with_capacity(24);
    write_stamp(&mut text, since_epoch);
    // Digits and signs.
    String::from_utf8(text).unwrap_or_default()
}

/// Appends that.
pub fn write_stamp(out: &mut Vec<u8>, since: Duration) {
    thread_local! {
        /// The second of the line before, which most lines share, and how it is written.
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    SECOND.with_borrow_mut(|(second, written)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            let whole = i64::try_from(*second)
                .ok()
                .and_then(|s| Timestamp::from_second(s).ok());
            *written = whole.unwrap_or_default().to_string();
        }
        let digits = written.strip_suffix('Z').unwrap_or(written);
        out.extend_from_slice(digits.as_bytes());
    });
    let millis = since.subsec_millis();
    let digit = |number: u32| b"0123456789"[(number % 10) as usize];
    out.extend_from_slice(&[
        b'.',
        digit(millis / 100),
        digit(millis / 10),
        digit(millis),
        b'Z',
    ]);
}

/// What requests and the writer know of each other.
#[derive(Debug)]
struct State {
    lanes: Lanes,
    /// Whether the file is to be opened anew.
    reopen: AtomicBool,
    /// Whether the log is at its end.
    finish: AtomicBool,
}

/// Where requests put their lines.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// That of the worker whose handle this is, if it is one's and lines are wanted.
    lane: Option<Arc<Lane>>,
    is_wanted: bool,
    state: Arc<State>,
    /// What is left out of queries.
    pub redaction: Arc<Redaction>,
    /// Which claim of a token is the name of who asks.
    pub claim: Arc<str>,
    /// How lines are written.
    pub format: Format,
    /// Which requests get one.
    pub sampling: Sampling,
    /// How far its files are on their way, where they are sent anywhere.
    pub progress: Option<Arc<Progress>>,
}

/// The writing end.
#[derive(Debug)]
pub struct Writer {
    log: AccessLog,
    thread: Option<JoinHandle<()>>,
    shipper: Option<Shipper>,
}

impl Writer {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn start(settings: &config::AccessLog) -> io::Result<Self> {
        let redaction = Arc::new(Redaction::new(settings.hide_query.clone()));
        let claim: Arc<str> = settings.identity_claim.as_str().into();
        let mut log = AccessLog {
            lane: None,
            is_wanted: !matches!(settings.to, LogTarget::Off),
            state: Arc::new(State {
                lanes: Lanes::new(MOST_QUEUED, json::write, (redaction.clone(), claim.clone())),
                reopen: AtomicBool::new(false),
                finish: AtomicBool::new(false),
            }),
            redaction,
            claim,
            format: settings.format.clone(),
            sampling: settings.sampling,
            progress: None,
        };
        let mut shipper = None;
        let target = match &settings.to {
            LogTarget::Off => {
                return Ok(Writer {
                    log,
                    thread: None,
                    shipper,
                });
            }
            LogTarget::Stdout => Target::Stdout(io::stdout()),
            LogTarget::File(path) => {
                let moved = settings.ship.is_some().then(Arc::<Notify>::default);
                let file = LogFile::open(path, settings.rotate, moved.clone())?;
                if let (Some(ship), Some(moved)) = (&settings.ship, moved) {
                    let keep = settings.rotate.map_or(0, |rotate| rotate.keep);
                    let progress = Arc::<Progress>::default();
                    log.progress = Some(progress.clone());
                    shipper = Some(Shipper::start(path, ship, keep, moved, progress)?);
                }
                Target::File(file)
            }
            LogTarget::Syslog(daemon) => Target::Syslog(Syslog::open(daemon)?),
        };
        let state = log.state.clone();
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(target, &state))?;
        Ok(Writer {
            log,
            thread: Some(thread),
            shipper,
        })
    }

    /// What workers get their handles from.
    pub fn log(&self) -> AccessLog {
        self.log.clone()
    }

    /// Opens the file anew, after it was moved away.
    pub fn reopen(&self) {
        self.log.state.reopen.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Writes what is queued and ends the thread; gives up on a reader that takes nothing. Where its files are sent somewhere, the
    /// last one is, if that takes no longer than `shipping`.
    pub fn finish(self, shipping: Duration) {
        self.log.state.finish.store(true, Ordering::Release);
        self.wake();
        let began = Instant::now();
        let patience = match &self.shipper {
            Some(_) => PATIENCE.max(shipping),
            None => PATIENCE,
        };
        if let Some(thread) = self.thread {
            // Whoever reads stdout may have stopped reading.
            while !thread.is_finished() {
                if began.elapsed() > patience {
                    error!("the access log takes nothing");
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        if let Some(shipper) = self.shipper {
            shipper.finish(shipping.saturating_sub(began.elapsed()));
        }
    }
}

impl AccessLog {
    /// A handle for one worker.
    pub fn for_worker(&self) -> Self {
        AccessLog {
            lane: self.is_wanted.then(|| self.state.lanes.open()),
            ..self.clone()
        }
    }

    /// Whether lines are wanted at all, and this is a worker's.
    pub fn enabled(&self) -> bool {
        self.lane.is_some()
    }

    /// Lines that were dropped since the start, for want of room or because they could not be written.
    pub fn dropped(&self) -> u64 {
        self.state.lanes.dropped()
    }

    /// Queues a line; never waits. It is made only if it is wanted.
    #[inline]
    pub fn write<'a>(&self, line: impl FnOnce() -> Line<'a>) {
        match (&self.lane, &self.format) {
            (None, _) => {}
            // All that it has is in the line itself. What is made for this alone need not be there as a whole.
            (Some(lane), Format::Json) => lane.pend(&line()),
            (Some(lane), _) => self.append(lane, &line()),
        }
    }

    /// Whether lines are wanted, and made later of requests that are handed over.
    pub fn keeps(&self) -> bool {
        self.lane.is_some() && matches!(self.format, Format::Json)
    }

    /// Takes over a request whose line is to be made, where that [is done](Self::keeps); never waits.
    pub fn keep(&self, untold: Box<dyn Untold>) {
        if let Some(lane) = &self.lane {
            lane.keep(untold);
        }
    }

    #[inline(never)]
    fn append(&self, lane: &Lane, line: &Line<'_>) {
        lane.append(|out| match &self.format {
            Format::Json => json::write(out, line),
            Format::Combined => out.extend_from_slice(formats::combined(line, true).as_bytes()),
            Format::Clf => out.extend_from_slice(formats::combined(line, false).as_bytes()),
            Format::Alb => out.extend_from_slice(formats::alb(line).as_bytes()),
            Format::Template(template) => {
                out.extend_from_slice(template.line(line, &self.redaction).as_bytes());
            }
        });
    }
}

enum Target {
    Stdout(io::Stdout),
    File(LogFile),
    Syslog(Syslog),
}

impl Target {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Target::Stdout(out) => {
                out.write_all(bytes)?;
                out.flush()
            }
            Target::File(file) => file.write_all(bytes),
            Target::Syslog(syslog) => syslog.send(bytes),
        }
    }

    fn reopen(&mut self) {
        if let Target::File(file) = self {
            file.reopen();
        }
    }

    fn hand_over(&mut self) {
        if let Target::File(file) = self {
            file.hand_over();
        }
    }

    /// Moves the file aside, where that is due; says how long it is until then.
    fn rotate(&mut self) -> Option<Duration> {
        match self {
            Target::File(file) => {
                file.rotate();
                file.left()
            }
            _ => None,
        }
    }
}

// By its name `benches/instructions.py` counts what lines cost that are written here.
#[inline(never)]
fn write_lines(target: Target, state: &State) {
    let mut out = Output {
        target,
        failing: false,
        lost: 0,
        unwritten: 0,
    };
    let (mut told, mut failed) = (0, 0);
    loop {
        // Asked before the lanes: what was written before it was said is seen.
        let is_last = state.finish.load(Ordering::Acquire);
        let reopen = state.reopen.swap(false, Ordering::Acquire);
        let any = state.lanes.take(|batch| out.write(batch));
        if reopen {
            out.target.reopen();
        }
        // Of those it was told where it could not be done.
        state.lanes.lost(out.unwritten - failed);
        failed = out.unwritten;
        let refused = state.lanes.refused();
        if refused > told {
            warn!(
                "{} access log lines were dropped because the log is too slow",
                refused - told
            );
            told = refused;
        }
        if is_last {
            return out.target.hand_over();
        }
        let left = out.target.rotate();
        if any {
            std::thread::park_timeout(GATHER);
        } else {
            let is_told =
                || state.finish.load(Ordering::Acquire) || state.reopen.load(Ordering::Acquire);
            state.lanes.sleep(left, is_told);
        }
    }
}

struct Output {
    target: Target,
    failing: bool,
    /// Lines since it fails.
    lost: u64,
    /// Lines that could not be written, in all.
    unwritten: u64,
}

impl Output {
    fn write(&mut self, mut batch: Batch) {
        if self.failing {
            // Part of a line may have been written: the next one begins on its own.
            batch.text.insert(0, b'\n');
        }
        match self.target.write_all(&batch.text) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    warn!(
                        "the access log can be written again, some {} lines are lost",
                        self.lost
                    );
                    self.lost = 0;
                }
            }
            Err(e) => {
                self.lost += batch.lines;
                self.unwritten += batch.lines;
                if !std::mem::replace(&mut self.failing, true) {
                    error!("the access log cannot be written, lines are lost until it can: {e}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds() {
        let at = |millis| stamp(Duration::from_millis(millis));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(999), "1970-01-01T00:00:00.999Z");
        assert_eq!(at(1_764_122_400_070), "2025-11-26T02:00:00.070Z");
        assert_eq!(at(7), "1970-01-01T00:00:00.007Z");
    }
}
