//! Purges: what is no longer to be given out, from the moment that the purge returns.
//!
//! Every answer has the moment at which its body was asked for, and every request that may bring one in has the moment at
//! which it began to look. Wherever something becomes findable, in a map or under a file's name, [`Purges::bars`] is asked
//! once, under a lock that purges take to remove things: what a purge does not find there comes later and is told.
//!
//! A purge of a URL removes what there is of it. One by prefix or tag, or of all, becomes a rule, which every file that is
//! read is held against while a thread goes through all of them (`sweep`). Rules are in a file of their own until
//! that is done (`record`): no crash brings anything back.

mod record;
mod rules;

use super::moment::{Clock, Moment};
use super::object::Object;
use crate::policy::cache::tags::{self, tags};
use arc_swap::ArcSwap;
use record::Record;
use rules::{KEPT, Rules};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Places for URLs. Those that share one only keep each other's answers that are on their way from being stored.
const PLACES: usize = 1 << 14;

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

/// What a rule is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum What {
    /// A URL by its key, some of whose files could not be removed.
    Url([u8; 16]),
    /// As [`Purge::Prefix`].
    Prefix(String),
    /// As [`Purge::Tag`].
    Tag(String),
    /// Everything.
    All,
}

impl What {
    /// Whether it is of this object.
    pub fn fits(&self, object: &Object) -> bool {
        match self {
            What::Url(url) => object.key.url == *url,
            What::Prefix(prefix) => object.place.starts_with(prefix.as_str()),
            What::Tag(tag) => tags(&object.head.only(&tags::FIELDS))
                .iter()
                .any(|t| t == tag),
            What::All => true,
        }
    }
}

/// A URL's purges.
#[derive(Debug, Default)]
struct Place {
    /// How many are under way.
    going: AtomicU32,
    /// When the last one ended.
    last: AtomicU64,
}

/// All that was purged and is not surely gone.
pub struct Purges {
    clock: Clock,
    urls: Box<[Place]>,
    rules: ArcSwap<Rules>,
    /// When the last rule had been put to effect.
    last: AtomicU64,
    /// Held while the rules are changed, never during I/O.
    change: Mutex<()>,
    record: Option<Record>,
}

impl Default for Purges {
    fn default() -> Self {
        Purges::new(Rules::default(), None)
    }
}

impl Purges {
    fn new(rules: Rules, record: Option<Record>) -> Self {
        Purges {
            clock: Clock::after(rules.latest()),
            urls: (0..PLACES).map(|_| Place::default()).collect(),
            rules: ArcSwap::from_pointee(rules),
            last: AtomicU64::new(0),
            change: Mutex::default(),
            record,
        }
    }

    /// With the rules that an earlier process left in this directory.
    pub fn in_directory(directory: &Path) -> Self {
        let record = Record::new(directory);
        Purges::new(Rules::of(record.read()), Some(record))
    }

    /// The moment it is.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    fn place(&self, url: &[u8; 16]) -> &Place {
        // Not the bytes that files and maps are spread by: a place is shared by as few of a shard as possible.
        let number = usize::from(url[14]) << 8 | usize::from(url[15]);
        &self.urls[number % PLACES]
    }

    /// A purge of a URL begins, and ends when this is dropped.
    pub fn begin_url(&self, url: &[u8; 16]) -> Going<'_> {
        let place = self.place(url);
        place.going.fetch_add(1, Ordering::SeqCst);
        Going {
            place,
            clock: &self.clock,
        }
    }

    /// Adds a rule, for what was asked for up to now. In effect when this returns; what is there already is to be removed,
    /// then [`Purges::settled`] called.
    pub fn add(&self, what: What) -> Moment {
        let at = self.clock.now();
        self.change(|rules| rules.with(what, at));
        at
    }

    /// What the rules so far mean was taken out of memory: no request that begins now is to wait for one that began before.
    pub fn settled(&self) {
        self.last.fetch_max(self.clock.now().0, Ordering::SeqCst);
    }

    fn change(&self, next: impl FnOnce(&Rules) -> Rules) {
        let _alone = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next(&self.rules.load());
        self.rules.store(next.into());
    }

    /// Whether this object may not become findable: what is meant by a rule, or found by a request that began before its
    /// URL was purged.
    pub fn bars(&self, object: &Object, began: Moment) -> bool {
        let rules = self.rules.load();
        self.url_changed(&object.key.url, began)
            || began <= rules.forgotten()
            || rules.hit(object, &self.clock)
    }

    /// Whether what a request that began then found for a URL may have been purged since.
    pub fn url_changed(&self, url: &[u8; 16], began: Moment) -> bool {
        let place = self.place(url);
        place.going.load(Ordering::SeqCst) > 0 || place.last.load(Ordering::SeqCst) >= began.0
    }

    /// Whether what a file holds was purged.
    pub fn hit(&self, object: &Object) -> bool {
        self.rules.load().hit(object, &self.clock)
    }

    /// Whether anything was purged since then that a request for this URL may be about to bring.
    pub fn any_since(&self, url: &[u8; 16], began: Moment) -> bool {
        self.url_changed(url, began) || self.last.load(Ordering::SeqCst) >= began.0
    }

    /// Whether there are rules that files are still to be held against.
    pub fn is_swept(&self) -> bool {
        self.rules.load().is_swept()
    }

    /// All files there were at this moment have been held against the rules of before it. Says whether any rule is over
    /// now, and the record to be written.
    pub fn swept(&self, began: Moment) -> bool {
        let before = self.rules.load_full();
        let now = self.clock.now();
        self.change(|rules| rules.swept(began, now));
        self.rules.load().len() < before.len()
    }

    /// Writes the rules down, so that they outlive the process. Waits for the disk.
    ///
    /// # Errors
    /// When they cannot be: then they hold for this process only.
    pub fn save(&self) -> io::Result<()> {
        let Some(record) = &self.record else {
            return Ok(());
        };
        let wanted = self.rules.load_full();
        record.write(&wanted, || {
            self.adopt_now(record);
            self.rules.load_full()
        })
    }

    /// Takes in what another process wrote down. Says whether there was anything. Waits for the disk.
    pub fn adopt(&self) -> bool {
        let Some(record) = self.record.as_ref().filter(|record| record.is_news()) else {
            return false;
        };
        self.adopt_now(record)
    }

    fn adopt_now(&self, record: &Record) -> bool {
        let known = self.rules.load_full();
        // Older ones that are not known here are done with.
        let recent = |at: Moment| at.plus(KEPT) > self.clock.now();
        let news: Vec<_> = record
            .read()
            .into_iter()
            .filter(|(what, at)| recent(*at) && !known.has(what, *at))
            .collect();
        for (what, at) in &news {
            self.clock.pass(*at);
            self.change(|rules| rules.with(what.clone(), *at));
        }
        !news.is_empty()
    }
}

/// A purge of a URL under way.
pub struct Going<'a> {
    place: &'a Place,
    clock: &'a Clock,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        // Later than any request that may have found what is gone now.
        let now = self.clock.now().0;
        self.place.last.fetch_max(now, Ordering::SeqCst);
        self.place.going.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
