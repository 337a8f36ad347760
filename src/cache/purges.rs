//! Purges: what is no longer to be given out, from the moment that the purge returns.
//!
//! What is in memory or on its way is taken out at once. Files are many, so a purge by prefix or tag is a rule first, which
//! every file that is read is held against, while a thread goes through all of them. The rules are in a file of their own
//! until that is done: a crash in between brings nothing back.

use super::object::Object;
use crate::policy::cache::tags::tags;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

/// How long files are held against a rule at least.
const KEPT: Duration = Duration::from_secs(600);

/// What a purge is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// One URL, whoever it is stored for and in whatever variant.
    Url {
        /// Its scheme.
        scheme: String,
        /// Host, and port where the clients write one; in lower case.
        host: String,
        /// Path and query.
        target: String,
    },
    /// Everything whose scheme, host and path begin with this, as `http://host/path`.
    Prefix(String),
    /// Everything that the origin gave this tag, in `Cache-Tag` or `Surrogate-Key`.
    Tag(String),
    /// Everything.
    All,
}

impl Purge {
    /// Whether it is of this object; those of one URL are found by their key.
    pub fn fits(&self, object: &Object) -> bool {
        match self {
            Purge::Url { .. } => false,
            Purge::Prefix(prefix) => object.place.starts_with(prefix.as_str()),
            Purge::Tag(tag) => tags(&object.head.headers).iter().any(|t| t == tag),
            Purge::All => true,
        }
    }
}

/// A purge that files are still held against.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    what: Purge,
    /// What came before is meant; since the epoch.
    at: Duration,
}

/// The rules in force.
#[derive(Default)]
pub struct Purges {
    rules: Mutex<Vec<Rule>>,
    /// Where they outlive the process.
    file: Option<PathBuf>,
}

impl Purges {
    /// The rules that an earlier process left in this directory.
    pub fn in_directory(directory: &Path) -> Self {
        let file = directory.join("purges");
        let text = fs::read_to_string(&file).unwrap_or_default();
        Purges {
            rules: Mutex::new(text.lines().filter_map(Rule::read).collect()),
            file: Some(file),
        }
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what a file holds was purged.
    pub fn hit(&self, object: &Object) -> bool {
        let came = object.freshness.received;
        let rules = self.rules();
        rules.iter().any(|r| came <= r.at && r.what.fits(object))
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.rules().is_empty()
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// When it cannot be written down: then it holds for this process only.
    pub fn add(&self, what: Purge, at: Duration) -> io::Result<()> {
        let mut rules = self.rules();
        rules.push(Rule { what, at });
        self.save(&rules)
    }

    /// Every file was held against the rules of before `at`.
    ///
    /// # Errors
    /// When that cannot be written down: then it is done once more after a restart.
    pub fn done(&self, at: Duration) -> io::Result<()> {
        let mut rules = self.rules();
        // A purge takes its time before it adds its rule: a pass of the purge before may begin in between, and go by files
        // that it knows nothing against yet. And a pass does not see files that are still being written. So only one that
        // began well after a purge ends its rule.
        rules.retain(|rule| rule.at + KEPT > at);
        self.save(&rules)
    }

    fn save(&self, rules: &[Rule]) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let text: String = rules.iter().map(Rule::write).collect();
        let beside = file.with_extension("new");
        fs::write(&beside, text)?;
        fs::rename(beside, file)
    }
}

impl Rule {
    /// One line: time, kind, and the rest as it is.
    fn write(&self) -> String {
        let at = self.at.as_micros();
        match &self.what {
            // Those are removed at once.
            Purge::Url { .. } | Purge::All => String::new(),
            Purge::Prefix(prefix) => format!("{at} prefix {prefix}\n"),
            Purge::Tag(tag) => format!("{at} tag {tag}\n"),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let (at, rest) = line.split_once(' ')?;
        let (kind, text) = rest.split_once(' ')?;
        Some(Rule {
            at: Duration::from_micros(at.parse().ok()?),
            what: match kind {
                "prefix" => Purge::Prefix(text.to_owned()),
                "tag" => Purge::Tag(text.to_owned()),
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_outlive_the_process_until_they_are_done() {
        let directory = tempfile::tempdir().unwrap();
        let second = Duration::from_secs;
        let purges = Purges::in_directory(directory.path());
        assert!(purges.is_empty());
        purges.add(Purge::Tag("a b c".into()), second(5)).unwrap();
        let prefix = Purge::Prefix("http://h/x".into());
        purges.add(prefix.clone(), second(9)).unwrap();
        let next = Purges::in_directory(directory.path());
        assert_eq!(*next.rules(), *purges.rules());
        next.done(second(608)).unwrap();
        let last = Purges::in_directory(directory.path());
        let left = Rule {
            what: prefix,
            at: second(9),
        };
        assert_eq!(*last.rules(), [left]);
    }
}
