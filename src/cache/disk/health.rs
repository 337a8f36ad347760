//! Whether the disk can be written to: what happens after a failure, how much space is free, and what the log hears of
//! it.

use rustix::io::Errno;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::files;

/// How long nothing is written after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// It doubles up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How long an answer of the file system about its free space is believed.
const SPACE_HOLDS: Duration = Duration::from_secs(1);
/// How often the log hears of the same kind of trouble.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Time since the epoch, in microseconds.
pub fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// The switch for writing. Times are since any fixed moment.
#[derive(Debug, Default)]
pub struct Switch {
    off: Option<OffState>,
}

#[derive(Debug, Clone)]
struct OffState {
    since: Duration,
    why: String,
    pause: Duration,
    again: Duration,
}

impl Switch {
    /// Whether nothing may be written at this moment.
    pub fn is_off(&self, now: Duration) -> bool {
        self.off.as_ref().is_some_and(|off| now < off.again)
    }

    /// A writing failed. Returns for how long nothing is written, if that is news.
    pub fn failed(&mut self, now: Duration, why: String) -> Option<Duration> {
        let (since, pause) = match &self.off {
            None => (now, FIRST_PAUSE),
            // Begun before the failure that switched it off.
            Some(off) if now < off.again => return None,
            Some(off) => (off.since, (off.pause * 2).min(LONGEST_PAUSE)),
        };
        self.off = Some(OffState {
            since,
            why,
            pause,
            again: now + pause,
        });
        Some(pause)
    }

    /// A writing succeeded. Returns whether that is news.
    pub fn worked(&mut self, now: Duration) -> bool {
        // What was begun before the failure and went well says nothing about what comes after it.
        let trial = self.off.as_ref().is_some_and(|off| now >= off.again);
        if trial {
            self.off = None;
        }
        trial
    }

    /// Since when nothing is written, and why.
    pub fn off(&self) -> Option<(Duration, &str)> {
        self.off.as_ref().map(|off| (off.since, off.why.as_str()))
    }
}

/// Lets something through once a minute.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Mutex<Option<Instant>>,
    missed: AtomicU64,
}

impl Seldom {
    /// Whether it is time again; with how many times it was not since the last time.
    pub fn now(&self) -> Option<u64> {
        let mut last = lock(&self.last);
        let now = Instant::now();
        if last.is_some_and(|last| now.duration_since(last) < LOG_PAUSE) {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.missed.swap(0, Ordering::Relaxed))
    }
}

/// What is known of the disk.
#[derive(Debug)]
pub struct Health {
    began: Instant,
    began_at: Duration,
    switch: Mutex<Switch>,
    /// Whether `switch` has anything to say: asked at each writing.
    troubled: AtomicBool,
    space: Mutex<Option<(Instant, u64)>>,
    /// Since when there is too little space, and how much there was.
    low: Mutex<Option<(Duration, u64)>>,
    /// Failures to read, to write or to remove.
    pub errors: AtomicU64,
    /// Files whose contents were wrong.
    pub corrupt: AtomicU64,
    /// The log's pace for each kind of wrong contents.
    pub corrupt_log: [Seldom; 8],
    /// The log's pace for failures to read.
    pub read_log: Seldom,
    /// The log's pace for failures to remove, to list and to note times.
    pub upkeep_log: Seldom,
    /// The log's pace for lack of space.
    pub space_log: Seldom,
}

impl Health {
    /// Nothing bad is known yet.
    pub fn new() -> Self {
        Health {
            began: Instant::now(),
            began_at: Duration::from_micros(micros()),
            switch: Mutex::default(),
            troubled: AtomicBool::new(false),
            space: Mutex::default(),
            low: Mutex::default(),
            errors: AtomicU64::new(0),
            corrupt: AtomicU64::new(0),
            corrupt_log: Default::default(),
            read_log: Seldom::default(),
            upkeep_log: Seldom::default(),
            space_log: Seldom::default(),
        }
    }

    /// Whether nothing may be written at this moment.
    pub fn is_off(&self) -> bool {
        self.troubled.load(Ordering::Relaxed) && lock(&self.switch).is_off(self.began.elapsed())
    }

    /// A writing failed.
    pub fn write_failed(&self, root: &Path, doing: &str, error: Errno) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let why = format!("{doing}: {error}");
        let news = lock(&self.switch).failed(self.began.elapsed(), why.clone());
        self.troubled.store(true, Ordering::Relaxed);
        if let Some(pause) = news {
            let seconds = pause.as_secs();
            let root = root.display();
            log::warn!("cache on disk at {root}: {why}; nothing is written for {seconds} s");
        }
    }

    /// Nothing can be written from the start on.
    pub fn switch_off(&self, why: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        lock(&self.switch).failed(self.began.elapsed(), why);
        self.troubled.store(true, Ordering::Relaxed);
    }

    /// A writing succeeded.
    pub fn write_worked(&self, root: &Path) {
        if !self.troubled.load(Ordering::Relaxed) {
            return;
        }
        let mut switch = lock(&self.switch);
        if switch.worked(self.began.elapsed()) {
            self.troubled.store(false, Ordering::Relaxed);
            log::info!(
                "cache on disk at {}: it is written to again",
                root.display()
            );
        }
    }

    /// As if the time had passed.
    #[cfg(test)]
    pub fn end_pause(&self) {
        if let Some(off) = &mut lock(&self.switch).off {
            off.again = Duration::ZERO;
        }
    }

    /// Since when (since the epoch) nothing is written, and why.
    pub fn off(&self) -> Option<(Duration, String)> {
        let switch = lock(&self.switch);
        if let Some((since, why)) = switch.off() {
            return Some((self.began_at + since, why.to_owned()));
        }
        let (since, free) = (*lock(&self.low))?;
        Some((self.began_at + since, format!("only {free} bytes are free")))
    }

    /// Notes whether there is too little space: with `free` there is.
    pub fn note_low(&self, free: Option<u64>) {
        let mut low = lock(&self.low);
        let since = low.map_or_else(|| self.began.elapsed(), |(since, _)| since);
        *low = free.map(|free| (since, free));
    }

    /// Bytes that are free, as of a second ago at most, and whether they were counted just now. What cannot be found
    /// out does not keep from trying.
    pub fn free_space(&self, root: &Path) -> (u64, bool) {
        let mut space = lock(&self.space);
        if let Some((when, free)) = *space
            && when.elapsed() < SPACE_HOLDS
        {
            return (free, false);
        }
        let free = files::free_space(root).unwrap_or(u64::MAX);
        *space = Some((Instant::now(), free));
        (free, true)
    }
}

/// How a line of the log says that there would have been more of its kind.
pub fn more(missed: u64) -> String {
    match missed {
        0 => String::new(),
        _ => format!(" (and {missed} more like this)"),
    }
}

/// Locks, whatever happened to another holder: each leaves what it guards usable at any moment.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
