//! Finished files of the access log, on their way to a place that speaks S3.
//!
//! A thread of its own takes those that [`super::rotation`] has moved aside, the oldest first, compresses each as it reads it, and
//! puts it there under a name that follows from the file's alone: one that is sent twice, for the process ended in between, is
//! there once. What was sent is renamed, and kept for a while; what was not stays until it is, whatever happens.

mod store;

use super::rotation::{self, SENT};
use crate::config::Ship;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::FutureExt;
use log::{error, info, warn};
use object_store::path::Path as Name;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// How often it is looked for files that nobody told of, such as those of the process before.
const LOOK: Duration = Duration::from_secs(60);
/// The pause after a failure, which doubles up to the second.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The size of a part, where an object is sent in parts; S3 takes none below 5 MiB but the last.
const PART: usize = 8 * 1024 * 1024;
/// How much of a file is read at a time.
const PIECE: usize = 64 * 1024;

/// How far it is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files that were sent, and their bytes as they were sent.
    pub files: AtomicU64,
    /// See above.
    pub bytes: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
    /// Files that wait.
    pub waiting: AtomicU64,
    /// When one was sent last, in seconds since 1970; 0 for never.
    pub last: AtomicU64,
}

/// The thread.
#[derive(Debug)]
pub struct Shipper {
    ends: Arc<Ends>,
    thread: JoinHandle<()>,
}

/// Whether there is to be but one more round.
#[derive(Debug, Default)]
struct Ends {
    is_said: AtomicBool,
    told: Notify,
}

/// What it works with.
struct Job {
    /// The log's file.
    path: PathBuf,
    /// This host, of which names speak.
    host: String,
    ship: Ship,
    /// Files that stay here after they were sent.
    keep: usize,
    store: Arc<dyn ObjectStore>,
    progress: Arc<Progress>,
    /// Those that were sent, but cannot be renamed, and how many bytes they were there.
    stuck: Mutex<HashMap<PathBuf, u64>>,
    /// Those of which it was said that there is something the matter with them.
    odd: Mutex<HashSet<PathBuf>>,
}

impl Shipper {
    /// Starts it for the log at `path`; `moved` is told when a file was moved aside.
    ///
    /// # Errors
    /// When nothing can be sent there, whoever asks, or there is no further thread.
    pub fn start(
        path: &Path,
        ship: &Ship,
        keep: u32,
        moved: Arc<Notify>,
        progress: Arc<Progress>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let job = Job {
            path: path.to_owned(),
            host: host(),
            ship: ship.clone(),
            keep: usize::try_from(keep).unwrap_or(usize::MAX),
            store: store::open(ship).map_err(io::Error::other)?,
            progress,
            stuck: Mutex::default(),
            odd: Mutex::default(),
        };
        let ends = Arc::<Ends>::default();
        let ending = ends.clone();
        let thread = std::thread::Builder::new()
            .name("log-shipper".into())
            .spawn(move || runtime.block_on(follow(&job, &moved, &ending)))?;
        Ok(Shipper { ends, thread })
    }

    /// Sends what there is, and ends; what takes longer than that is left for the next process.
    pub fn finish(self, within: Duration) {
        let deadline = Instant::now() + within;
        self.ends.is_said.store(true, Ordering::Release);
        self.ends.told.notify_one();
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends one file after the other.
async fn follow(job: &Job, moved: &Notify, ends: &Ends) {
    let mut failed = false;
    let mut pause = PAUSE;
    loop {
        // Asked before: what is moved aside after this is told of.
        let is_last = ends.is_said.load(Ordering::Acquire);
        let round = AssertUnwindSafe(job.round()).catch_unwind().await;
        let round = round.unwrap_or_else(|_| {
            job.progress.failures.fetch_add(1, Ordering::Relaxed);
            Err("it panicked, see above".to_string())
        });
        let wait = match round {
            Ok(sent) => {
                if sent && std::mem::take(&mut failed) {
                    info!("the access log is shipped to {} again", job.place());
                }
                pause = PAUSE;
                LOOK
            }
            Err(e) => {
                if !std::mem::replace(&mut failed, true) {
                    error!(
                        "the access log cannot be shipped to {}, its files wait: {e}",
                        job.place()
                    );
                }
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                wait
            }
        };
        if is_last {
            return;
        }
        tokio::select! {
            biased;
            () = ends.told.notified() => {}
            // What failed is not tried sooner because there is more of it.
            () = moved.notified(), if !failed => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Job {
    /// `s3://bucket/prefix`.
    fn place(&self) -> String {
        match self.ship.prefix.as_str() {
            "" => format!("s3://{}", self.ship.bucket),
            prefix => format!("s3://{}/{prefix}", self.ship.bucket),
        }
    }

    /// Sends all that wait. One that cannot be read, or is not taken, is no reason to keep the others; if two in a row are not
    /// taken, something else is the matter.
    ///
    /// Says whether any was sent.
    ///
    /// # Errors
    /// When none was taken, and some should have been.
    async fn round(&self) -> Result<bool, String> {
        let progress = &self.progress;
        let files = rotation::aside(&self.path).map_err(|e| {
            progress.failures.fetch_add(1, Ordering::Relaxed);
            e.to_string()
        })?;
        let mut waiting = files.len() as u64;
        let mut refused = None;
        let (mut sent, mut not_taken) = (false, 0);
        progress.waiting.store(waiting, Ordering::Relaxed);
        for file in files {
            match self.send(&file).await {
                Ok(bytes) => {
                    sent = true;
                    not_taken = 0;
                    waiting -= 1;
                    progress.waiting.store(waiting, Ordering::Relaxed);
                    if let Some(bytes) = bytes {
                        progress.files.fetch_add(1, Ordering::Relaxed);
                        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
                        let now = SystemTime::now().duration_since(UNIX_EPOCH);
                        let now = now.unwrap_or_default().as_secs();
                        progress.last.store(now, Ordering::Relaxed);
                    }
                    if let Err(e) = self.prune() {
                        warn!("files of the access log that were shipped stay: {e}");
                    }
                }
                Err(Failure::File(e)) => {
                    progress.failures.fetch_add(1, Ordering::Relaxed);
                    self.say_odd(file, &e);
                }
                Err(e @ Failure::Store(_)) => {
                    not_taken += 1;
                    progress.failures.fetch_add(1, Ordering::Relaxed);
                    refused = Some((file, e));
                    if not_taken == 2 {
                        break;
                    }
                }
            }
        }
        match refused {
            // Others were taken: it is something of its own.
            Some((file, e)) if sent => {
                self.say_odd(file, &e);
                Ok(true)
            }
            Some((_, e)) => Err(e.to_string()),
            None => Ok(sent),
        }
    }

    /// Says once of a file that it cannot be shipped: it may stay so for ever, and is no reason to wait with the others.
    fn say_odd(&self, file: PathBuf, why: &dyn std::fmt::Display) {
        let mut odd = self.odd.lock().unwrap_or_else(PoisonError::into_inner);
        if odd.insert(file.clone()) {
            error!(
                "{} of the access log cannot be shipped: {why}",
                file.display()
            );
        }
    }

    /// Sends one and marks it as sent. Says how many bytes it was there; nothing if somebody else has sent it.
    async fn send(&self, file: &Path) -> Result<Option<u64>, Failure> {
        let of_file = Failure::File;
        let stuck = || self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = stuck().get(file).copied();
        if bytes.is_none() {
            let name = object(&self.ship.prefix, &self.host, file)
                .ok_or_else(|| of_file(io::ErrorKind::InvalidFilename.into()))?;
            let mut source = match Compressed::open(file) {
                // Another process with the same log.
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened.map_err(of_file)?,
            };
            let first = source.part().map_err(of_file)?;
            bytes = Some(match source.is_over() {
                true => {
                    let bytes = first.len() as u64;
                    self.store.put(&name, PutPayload::from(first)).await?;
                    bytes
                }
                false => self.send_parts(&name, first, &mut source).await?,
            });
        }
        let mut sent = file.as_os_str().to_owned();
        sent.push(SENT);
        match std::fs::rename(file, sent) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                stuck().insert(file.to_owned(), bytes.unwrap_or_default());
                return Err(of_file(e));
            }
            _ => stuck().remove(file),
        };
        Ok(bytes)
    }

    async fn send_parts(
        &self,
        name: &Name,
        first: Vec<u8>,
        source: &mut Compressed,
    ) -> Result<u64, Failure> {
        let mut upload = self.store.put_multipart(name).await?;
        let sent = send_each(&mut *upload, first, source).await;
        if sent.is_err() {
            // What came there would be paid for until somebody looks.
            let _ = upload.abort().await;
        }
        sent
    }

    /// Removes those that were sent, but for the last.
    fn prune(&self) -> io::Result<()> {
        let files = rotation::aside_as(&self.path, SENT)?;
        let too_many = files.len().saturating_sub(self.keep);
        let removed = files.iter().take(too_many).map(std::fs::remove_file);
        removed.fold(Ok(()), io::Result::and)
    }
}

async fn send_each(
    upload: &mut dyn MultipartUpload,
    first: Vec<u8>,
    source: &mut Compressed,
) -> Result<u64, Failure> {
    let mut bytes = 0;
    let mut part = first;
    loop {
        bytes += part.len() as u64;
        upload.put_part(PutPayload::from(part)).await?;
        if source.is_over() {
            upload.complete().await?;
            return Ok(bytes);
        }
        part = source.part().map_err(Failure::File)?;
    }
}

/// Why a file was not sent.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    File(io::Error),
    #[error("{}", store::reason(.0))]
    Store(#[from] object_store::Error),
}

/// A file, compressed as it is read.
struct Compressed {
    file: File,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Compressed {
    fn open(path: &Path) -> io::Result<Self> {
        let encoder = GzEncoder::new(Vec::new(), Compression::default());
        let file = File::open(path)?;
        // What is sent is not to be more than what is here after the power has failed: it would be sent again, and be less.
        file.sync_all()?;
        Ok(Compressed {
            file,
            encoder: Some(encoder),
        })
    }

    /// Whether nothing follows.
    fn is_over(&self) -> bool {
        self.encoder.is_none()
    }

    /// The next [`PART`], or what is left.
    fn part(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; PIECE];
        while let Some(encoder) = &mut self.encoder {
            let read = self.file.read(&mut piece)?;
            match piece.get(..read).filter(|piece| !piece.is_empty()) {
                Some(piece) => {
                    encoder.write_all(piece)?;
                    if encoder.get_ref().len() >= PART {
                        return Ok(std::mem::take(encoder.get_mut()));
                    }
                }
                None => break,
            }
        }
        self.encoder
            .take()
            .map_or(Ok(Vec::new()), GzEncoder::finish)
    }
}

/// This host, as far as its name fits into that of an object.
fn host() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    name.chars().filter(fits).collect()
}

/// Under which name a file goes: `prefix/year=2026/month=11/day=29/hour=10/host-var-log-access.log.20261129T102030.123Z.gz`, the hour
/// being that in which it was finished. Several logs of a host may have the same prefix. `None` if its own name does not say when
/// that was.
fn object(prefix: &str, host: &str, file: &Path) -> Option<Name> {
    let stamp = rotation::stamp(file)?;
    let part = |from: usize, to: usize| stamp.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let hour = part(9, 11)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '=');
    let plain = |c: char| if fits(c) { c } else { '-' };
    let file: String = file
        .to_str()?
        .trim_start_matches('/')
        .chars()
        .map(plain)
        .collect();
    let name = format!("{prefix}/year={year}/month={month}/day={day}/hour={hour}/{host}-{file}.gz");
    Name::parse(name.trim_start_matches('/')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;

    #[test]
    fn names_of_objects() {
        let file = Path::new("/var/log/backstop/access.log.20261129T102030.123Z");
        assert_eq!(
            object("logs/web", "ip-10-0-0-1", file).unwrap().as_ref(),
            "logs/web/year=2026/month=11/day=29/hour=10/ip-10-0-0-1-var-log-backstop-access.log.20261129T102030.123Z.gz"
        );
        // Whatever the clock and the digits after it are.
        for (file, expected) in [
            (
                "/a b.log.20261129T102030.203Z",
                "year=2026/month=11/day=29/hour=10/h-a-b.log.20261129T102030.203Z.gz",
            ),
            (
                "/a.log.19700101T000000.200Z",
                "year=1970/month=01/day=01/hour=00/h-a.log.19700101T000000.200Z.gz",
            ),
        ] {
            assert_eq!(object("", "h", Path::new(file)).unwrap().as_ref(), expected);
        }
        assert!(object("", "h", Path::new("/var/log/access.log")).is_none());
    }

    #[test]
    fn parts_make_up_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        // What cannot be compressed, so that there are several.
        let mut random = fastrand::Rng::with_seed(7);
        let text: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
            .take(2 * PART + 5)
            .collect();
        for length in [0, 1, PIECE, text.len()] {
            std::fs::write(&path, &text[..length]).unwrap();
            let mut source = Compressed::open(&path).unwrap();
            let mut parts = Vec::new();
            while !source.is_over() {
                parts.push(source.part().unwrap());
            }
            let last = parts.len() - 1;
            assert!(
                parts[..last].iter().all(|part| part.len() >= PART),
                "{length}"
            );
            assert_eq!(last > 0, length > PART, "{length}");
            let mut read = Vec::new();
            GzDecoder::new(&*parts.concat())
                .read_to_end(&mut read)
                .unwrap();
            assert!(read == text[..length], "{length}");
        }
    }
}
