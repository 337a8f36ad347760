//! The file of a log, which is moved aside when it is large or old enough, and of which only the last are kept.
//!
//! What was moved aside is never written again: its name is the file's and the time, so that names sort as they came about.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use log::{error, warn};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// What the name of a file ends in that was sent elsewhere.
pub const SENT: &str = ".sent";
/// Why something is not moved aside.
const NO_FILE: &str = "it is no regular file, which `rotate` could move aside";

/// When a file is moved aside, and how many of those are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// At so many bytes.
    pub size: Option<u64>,
    /// When it is so old.
    pub every: Option<Duration>,
    /// Files beside the one that is written.
    pub keep: u32,
}

impl Rotation {
    /// Whether a file of this size and age is to be moved aside. An empty one never is.
    fn is_due(&self, size: u64, age: Duration) -> bool {
        let large = self.size.is_some_and(|most| size >= most);
        let old = self.every.is_some_and(|most| age >= most);
        size > 0 && (large || old)
    }
}

/// The file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    since: Instant,
    rotation: Option<Rotation>,
    /// Who takes those that were moved aside, and looks after them; else only the last are kept.
    taken_by: Option<Arc<Notify>>,
    /// Whether moving it aside failed the last time.
    failing: bool,
}

impl LogFile {
    /// Opens it, at its end.
    ///
    /// # Errors
    /// When it cannot be opened for appending, or is to be moved aside and no file: nobody wants `/dev/stdout` renamed, nor a link.
    pub fn open(
        path: &Path,
        rotation: Option<Rotation>,
        taken_by: Option<Arc<Notify>>,
    ) -> io::Result<Self> {
        let (file, size, since) = open(path)?;
        if rotation.is_some() && !std::fs::symlink_metadata(path)?.is_file() {
            return Err(io::Error::other(NO_FILE));
        }
        Ok(LogFile {
            path: path.to_owned(),
            file,
            size,
            since,
            rotation,
            taken_by,
            failing: false,
        })
    }

    /// Writes all of it, which are whole lines, and moves the file aside if it is time.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        self.rotate();
        Ok(())
    }

    /// How long until it is time, if age is what counts and there is something in it.
    pub fn left(&self) -> Option<Duration> {
        let every = self.rotation?.every.filter(|_| self.size > 0)?;
        Some(every.saturating_sub(self.age()))
    }

    /// Moves the file aside if it is time.
    pub fn rotate(&mut self) {
        if self
            .rotation
            .is_some_and(|r| r.is_due(self.size, self.age()))
        {
            self.finish();
        }
    }

    /// The process ends: who takes finished files gets what there is.
    pub fn hand_over(&mut self) {
        if self.taken_by.is_some() && self.size > 0 {
            self.finish();
        }
    }

    /// Moves the file aside.
    fn finish(&mut self) {
        match self.move_aside() {
            Ok(()) => self.failing = false,
            Err(e) => {
                // Not again at once: with as much again, or when it is as old again.
                (self.size, self.since) = (0, Instant::now());
                if !std::mem::replace(&mut self.failing, true) {
                    error!(
                        "the log {} cannot be moved aside and grows on: {e}",
                        self.path.display()
                    );
                }
                return;
            }
        }
        match (&self.taken_by, self.rotation) {
            (Some(taker), _) => taker.notify_one(),
            (None, Some(rotation)) => {
                if let Err(e) = prune(&self.path, rotation.keep) {
                    warn!("old files of the log {} stay: {e}", self.path.display());
                }
            }
            (None, None) => {}
        }
    }

    /// Opens it anew, after somebody else moved it away.
    pub fn reopen(&mut self) {
        match open(&self.path) {
            Ok((file, size, since)) => (self.file, self.size, self.since) = (file, size, since),
            Err(e) => error!(
                "the access log {} cannot be reopened, the old file is kept: {e}",
                self.path.display()
            ),
        }
    }

    fn age(&self) -> Duration {
        self.since.elapsed()
    }

    fn move_aside(&mut self) -> io::Result<()> {
        if !self.is_there()? {
            // Somebody else has moved it away, and its lines with it.
            (self.file, self.size, self.since) = open(&self.path)?;
            return match std::fs::symlink_metadata(&self.path)?.is_file() {
                true => Ok(()),
                false => Err(io::Error::other(NO_FILE)),
            };
        }
        let sent = aside_as(&self.path, SENT)?.pop();
        let sent = sent.and_then(|sent| Some(PathBuf::from(sent.to_str()?.strip_suffix(SENT)?)));
        let newest = aside(&self.path)?.pop().max(sent);
        let aside = after(&self.path, newest.as_deref(), SystemTime::now());
        std::fs::rename(&self.path, &aside)?;
        match open(&self.path) {
            Ok((file, size, since)) => {
                (self.file, self.size, self.since) = (file, size, since);
                Ok(())
            }
            Err(e) => {
                // Lines go on to where the name leads.
                std::fs::rename(&aside, &self.path)?;
                Err(e)
            }
        }
    }

    /// Whether the file that is written is the one that the path leads to.
    fn is_there(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        Ok(std::fs::symlink_metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
    }
}

/// The file, how large it is, and since when it is written.
fn open(path: &Path) -> io::Result<(File, u64, Instant)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let known = file.metadata()?;
    let age = match known.len() {
        0 => None,
        // Not all file systems know it.
        _ => known.created().ok().and_then(|at| at.elapsed().ok()),
    };
    let now = Instant::now();
    let since = age.and_then(|age| now.checked_sub(age)).unwrap_or(now);
    Ok((file, known.len(), since))
}

/// The form of the time in a name.
const STAMP: &str = "%Y%m%dT%H%M%S.%3fZ";

/// `access.log.20261129T102030.123Z`: the name for one that is moved aside now, after the newest that there is, whatever the clock says.
fn after(path: &Path, newest: Option<&Path>, now: SystemTime) -> PathBuf {
    let named = |at: Timestamp| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", at.strftime(STAMP)));
        PathBuf::from(name)
    };
    let name = named(Timestamp::try_from(now).unwrap_or_default());
    let Some(newest) = newest.filter(|newest| *newest >= &*name) else {
        return name;
    };
    let text = newest.to_string_lossy();
    let stamp = text.get(text.len().saturating_sub(FORM.len())..);
    let read = DateTime::strptime("%Y%m%dT%H%M%S%.fZ", stamp.unwrap_or_default());
    let at = read.and_then(|at| at.to_zoned(TimeZone::UTC));
    let next = at.and_then(|at| at.timestamp().checked_add(Duration::from_millis(1)));
    next.map_or(name, named)
}

/// The files that were moved aside, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    aside_as(path, "")
}

/// The same of those whose names were given this end since.
///
/// # Errors
/// When the directory cannot be read.
pub fn aside_as(path: &Path, end: &str) -> io::Result<Vec<PathBuf>> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let other = entry.file_name();
        let rest = other.to_string_lossy();
        let stamp = rest
            .strip_prefix(&*name)
            .and_then(|rest| rest.strip_prefix('.')?.strip_suffix(end));
        if stamp.is_some_and(is_stamp) && entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The time that is in the name of such a file.
pub fn stamp(file: &Path) -> Option<&str> {
    let name = file.file_name()?.to_str()?;
    let stamp = name.get(name.len().checked_sub(FORM.len())?..)?;
    is_stamp(stamp).then_some(stamp)
}

/// What such a time looks like.
const FORM: &[u8] = b"00000000T000000.000Z";

/// `20261129T102030.123Z`: nothing else of the directory is touched.
fn is_stamp(text: &str) -> bool {
    let fits = |(is, form): (u8, &u8)| match form {
        b'0' => is.is_ascii_digit(),
        form => is == *form,
    };
    text.len() == FORM.len() && text.bytes().zip(FORM).all(fits)
}

fn prune(path: &Path, keep: u32) -> io::Result<()> {
    let files = aside(path)?;
    let too_many = files.len().saturating_sub(keep as usize);
    let removed = files.iter().take(too_many).map(std::fs::remove_file);
    // One that stays is no reason to keep the others.
    removed.fold(Ok(()), io::Result::and)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(path: &Path) -> Vec<String> {
        let mut files = aside(path).unwrap();
        files.push(path.to_owned());
        files
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect()
    }

    #[test]
    fn by_size_and_only_the_last_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        for other in [
            "a.log.1",
            "a.log.20261129T102030.123Z.gz",
            "b.log.20261129T102030.123Z",
        ] {
            std::fs::write(dir.path().join(other), "of somebody else").unwrap();
        }
        std::fs::write(&path, "old\n").unwrap();
        let rotation = Rotation {
            size: Some(8),
            every: None,
            keep: 2,
        };
        let mut file = LogFile::open(&path, Some(rotation), None).unwrap();
        for line in [
            "one\n",
            "two\n",
            "three is long\n",
            "four\n",
            "five\n",
            "six\n",
        ] {
            file.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(
            contents(&path),
            ["two\nthree is long\n", "four\nfive\n", "six\n"]
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 6);
    }

    #[test]
    fn by_age_and_never_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let rotation = Rotation {
            size: None,
            every: Some(Duration::from_secs(60)),
            keep: 10,
        };
        let mut file = LogFile::open(&path, Some(rotation), None).unwrap();
        file.since -= Duration::from_secs(100);
        file.rotate();
        assert_eq!((contents(&path), file.left()), (vec![String::new()], None));
        file.since = Instant::now();
        file.write_all(b"one\n").unwrap();
        assert!(
            file.left()
                .is_some_and(|left| left > Duration::from_secs(50))
        );
        file.since -= Duration::from_secs(60);
        assert_eq!(file.left(), Some(Duration::ZERO));
        file.write_all(b"two\n").unwrap();
        assert_eq!(contents(&path), ["one\ntwo\n", ""]);
    }

    #[test]
    fn one_that_somebody_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let rotation = Rotation {
            size: Some(8),
            every: None,
            keep: 1,
        };
        let mut file = LogFile::open(&path, Some(rotation), None).unwrap();
        std::fs::rename(&path, dir.path().join("a.log.1")).unwrap();
        file.write_all(b"one is moved\n").unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(contents(&path), ["two\n"]);
    }

    #[test]
    fn names_go_on_though_the_clock_is_set_back() {
        let path = Path::new("/x/a.log");
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let first = after(path, None, at(1_764_374_400));
        assert_eq!(first, Path::new("/x/a.log.20251129T000000.000Z"));
        let second = after(path, Some(&first), at(1_764_370_000));
        assert_eq!(second, Path::new("/x/a.log.20251129T000000.001Z"));
        assert_eq!(after(path, Some(&first), at(1_764_374_400)), second);
        let third = after(path, Some(&second), at(1_764_374_401));
        assert_eq!(third, Path::new("/x/a.log.20251129T000001.000Z"));
    }

    #[test]
    fn one_that_cannot_be_removed_is_no_reason_to_keep_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, "").unwrap();
        let aside_one = |n: u32| dir.path().join(format!("a.log.20261129T10203{n}.123Z"));
        std::fs::create_dir(aside_one(0)).unwrap();
        (1..4).for_each(|n| std::fs::write(aside_one(n), "x").unwrap());
        prune(&path, 1).unwrap();
        assert_eq!(aside(&path).unwrap(), [aside_one(3)]);
        assert!(aside_one(0).exists());
    }

    #[test]
    fn only_a_file_can_be_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link.log");
        std::fs::write(dir.path().join("a.log"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("a.log"), &link).unwrap();
        let rotation = Rotation {
            size: Some(8),
            every: None,
            keep: 1,
        };
        assert!(LogFile::open(&link, None, None).is_ok());
        assert!(LogFile::open(&link, Some(rotation), None).is_err());
        // Nor one that becomes a link later; its lines are written all the same, and it is not tried again at once.
        let path = dir.path().join("b.log");
        let mut file = LogFile::open(&path, Some(rotation), None).unwrap();
        std::fs::rename(&path, dir.path().join("moved.log")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("moved.log"), &path).unwrap();
        file.write_all(b"one is long\n").unwrap();
        assert!(file.failing && file.size == 0);
        file.write_all(b"two\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "one is long\ntwo\n"
        );
    }
}
