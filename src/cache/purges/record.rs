//! The file in which rules outlive the process: one line each, replaced as a whole.
//!
//! Several processes may use one directory: who writes holds a lock, and takes in what the others wrote.

use super::super::disk;
use super::super::moment::Moment;
use super::What;
use super::rules::Rules;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file.
pub struct Record {
    directory: PathBuf,
    /// What was last written; held while that is done.
    written: Mutex<Option<Arc<Rules>>>,
    /// Which file was read last: its number and when it was changed.
    seen: Mutex<Option<(u64, i64, i64)>>,
}

impl Record {
    /// In this directory.
    pub fn new(directory: &Path) -> Self {
        Record {
            directory: directory.to_owned(),
            written: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.join("purges")
    }

    /// What is in it.
    pub fn read(&self) -> Vec<(What, Moment)> {
        self.see();
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        text.lines().filter_map(read_line).collect()
    }

    /// Remembers which file is there.
    fn see(&self) -> bool {
        let now = fs::metadata(self.file()).ok();
        let now = now.map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec()));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = *seen != now;
        *seen = now;
        is_other
    }

    /// Whether it is another file than was read or written last.
    pub fn is_news(&self) -> bool {
        self.see()
    }

    /// Writes down what `now` gives, unless that was done for `wanted` while this waited for others who write.
    ///
    /// # Errors
    /// When it cannot be written, or not brought to the disk.
    pub fn write(&self, wanted: &Arc<Rules>, now: impl FnOnce() -> Arc<Rules>) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let has_all = |rules: &Arc<Rules>| wanted.iter().all(|(what, at)| rules.has(what, at));
        if written.as_ref().is_some_and(|written| {
            Arc::ptr_eq(written, wanted) || wanted.len() >= written.len() && has_all(written)
        }) {
            return Ok(());
        }
        let _alone = disk::alone(&self.directory)?;
        let rules = now();
        let mut text = String::new();
        for (what, at) in rules.iter() {
            text.push_str(&line(what, at));
        }
        let beside = self.directory.join("purges.new");
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, self.file())?;
        File::open(&self.directory)?.sync_all()?;
        self.see();
        *written = Some(rules);
        Ok(())
    }
}

/// Time, kind, and the rest as it is.
fn line(what: &What, at: Moment) -> String {
    let at = at.0;
    match what {
        What::Url(url) => format!("{at} url {:032x}\n", u128::from_be_bytes(*url)),
        What::Prefix(prefix) => format!("{at} prefix {prefix}\n"),
        What::Tag(tag) => format!("{at} tag {tag}\n"),
        What::All => format!("{at} all *\n"),
    }
}

fn read_line(line: &str) -> Option<(What, Moment)> {
    let (at, rest) = line.split_once(' ')?;
    let (kind, text) = rest.split_once(' ')?;
    let what = match kind {
        "url" => What::Url(u128::from_str_radix(text, 16).ok()?.to_be_bytes()),
        "prefix" => What::Prefix(text.to_owned()),
        "tag" => What::Tag(text.to_owned()),
        "all" => What::All,
        _ => return None,
    };
    Some((what, Moment(at.parse().ok()?)))
}
