//! The file of a log, which is moved aside when it is large or old enough, and of which only the last are kept.
//!
//! What was moved aside is never written again: its name is the file's and the time, so that names sort as they came about.

use jiff::Timestamp;
use log::{error, warn};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
    since: SystemTime,
    rotation: Option<Rotation>,
    /// Whether moving it aside failed the last time.
    failing: bool,
}

impl LogFile {
    /// Opens it, at its end.
    ///
    /// # Errors
    /// When it cannot be opened for appending.
    pub fn open(path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        let (file, size, since) = open(path)?;
        Ok(LogFile {
            path: path.to_owned(),
            file,
            size,
            since,
            rotation,
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
        let Some(rotation) = self.rotation.filter(|r| r.is_due(self.size, self.age())) else {
            return;
        };
        match self.move_aside() {
            Ok(()) => self.failing = false,
            Err(e) => {
                // Not again at once: with as much again, or when it is as old again.
                (self.size, self.since) = (0, SystemTime::now());
                if !std::mem::replace(&mut self.failing, true) {
                    error!(
                        "the log {} cannot be moved aside and grows on: {e}",
                        self.path.display()
                    );
                }
                return;
            }
        }
        if let Err(e) = prune(&self.path, rotation.keep) {
            warn!("old files of the log {} stay: {e}", self.path.display());
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
        self.since.elapsed().unwrap_or_default()
    }

    fn move_aside(&mut self) -> io::Result<()> {
        let mut at = SystemTime::now();
        let mut aside = named(&self.path, at);
        while aside.try_exists()? {
            at += Duration::from_millis(1);
            aside = named(&self.path, at);
        }
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
}

/// The file, how large it is, and since when it is written.
fn open(path: &Path) -> io::Result<(File, u64, SystemTime)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let known = file.metadata()?;
    let since = match known.len() {
        0 => SystemTime::now(),
        // Not all file systems know it.
        _ => known.created().unwrap_or_else(|_| SystemTime::now()),
    };
    Ok((file, known.len(), since))
}

/// `access.log.20261129T102030.123Z`.
fn named(path: &Path, at: SystemTime) -> PathBuf {
    let at = Timestamp::try_from(at).unwrap_or_default();
    let mut name = path.as_os_str().to_owned();
    name.push(at.strftime(".%Y%m%dT%H%M%S.%3fZ").to_string());
    name.into()
}

/// The files that were moved aside, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn aside(path: &Path) -> io::Result<Vec<PathBuf>> {
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
            .and_then(|rest| rest.strip_prefix('.'));
        if stamp.is_some_and(is_stamp) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// `20261129T102030.123Z`: nothing else of the directory is touched.
fn is_stamp(text: &str) -> bool {
    const FORM: &[u8] = b"00000000T000000.000Z";
    let fits = |(is, form): (u8, &u8)| match form {
        b'0' => is.is_ascii_digit(),
        form => is == *form,
    };
    text.len() == FORM.len() && text.bytes().zip(FORM).all(fits)
}

fn prune(path: &Path, keep: u32) -> io::Result<()> {
    let files = aside(path)?;
    let too_many = files.len().saturating_sub(keep as usize);
    for file in files.iter().take(too_many) {
        std::fs::remove_file(file)?;
    }
    Ok(())
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
        let mut file = LogFile::open(&path, Some(rotation)).unwrap();
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
        let mut file = LogFile::open(&path, Some(rotation)).unwrap();
        file.since -= Duration::from_secs(100);
        file.rotate();
        assert_eq!((contents(&path), file.left()), (vec![String::new()], None));
        file.since = SystemTime::now();
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
    fn what_cannot_be_moved_is_written_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let rotation = Rotation {
            size: Some(1),
            every: None,
            keep: 1,
        };
        let mut file = LogFile::open(&path, Some(rotation)).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"one\n").unwrap();
        assert!(file.failing);
        file.write_all(b"two\n").unwrap();
    }
}
