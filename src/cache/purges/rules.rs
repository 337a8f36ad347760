//! The rules in force: read by every request that opens a file, so a new list takes the place of the old one as a whole.

use super::super::moment::{Clock, Moment};
use super::super::object::Object;
use super::What;
use crate::policy::cache::tags::{self, tags};
use std::collections::HashMap;
use std::time::Duration;

/// How long a rule stays at least, for what was asked for before it and has not come yet.
pub const KEPT: Duration = Duration::from_secs(600);
/// Rules at the same time. Beyond it, some of the oldest become one for everything.
pub const MOST: usize = 1000;

/// All rules.
#[derive(Debug, Default, Clone)]
pub struct Rules {
    /// In the order of their making.
    list: Vec<Rule>,
    /// What was asked for up to then is gone, whatever it is.
    all: Moment,
    urls: HashMap<[u8; 16], Moment>,
    tags: HashMap<String, Moment>,
    prefixes: Vec<(String, Moment)>,
    /// The latest of those that are gone: who began before it may bring what it meant.
    forgotten: Moment,
}

/// What was asked for up to a moment and fits is not to be given out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    what: What,
    at: Moment,
    /// Whether all files of before it were held against it.
    swept: bool,
}

impl Rules {
    /// These.
    pub fn of(list: Vec<(What, Moment)>) -> Self {
        let list = list.into_iter();
        let list = list.map(|(what, at)| Rule {
            what,
            at,
            swept: false,
        });
        Rules::build(list.collect(), Moment::default())
    }

    fn build(mut list: Vec<Rule>, mut forgotten: Moment) -> Self {
        list.sort_by_key(|rule| rule.at);
        // First those that only wait for what is on its way.
        let mut surplus = list.len().saturating_sub(MOST);
        list.retain(|rule| {
            let goes = surplus > 0 && rule.swept;
            if goes {
                surplus -= 1;
                forgotten = forgotten.max(rule.at);
            }
            !goes
        });
        if surplus > 0 {
            let over: Vec<Rule> = list.drain(..surplus.max(MOST / 10)).collect();
            if let Some(last) = over.last() {
                log::warn!(
                    "more than {MOST} purges are not done yet: all that was stored before the {}th last goes",
                    list.len()
                );
                list.insert(
                    0,
                    Rule {
                        what: What::All,
                        at: last.at,
                        swept: false,
                    },
                );
            }
        }
        let mut rules = Rules {
            forgotten,
            ..Rules::default()
        };
        // The later ones last.
        for rule in &list {
            match &rule.what {
                What::All => rules.all = rules.all.max(rule.at),
                What::Url(url) => drop(rules.urls.insert(*url, rule.at)),
                What::Tag(tag) => drop(rules.tags.insert(tag.clone(), rule.at)),
                What::Prefix(prefix) => rules.prefixes.push((prefix.clone(), rule.at)),
            }
        }
        rules.list = list;
        rules
    }

    /// With one more.
    pub fn with(&self, what: What, at: Moment) -> Self {
        let mut list = self.list.clone();
        let mut at = at;
        list.retain(|rule| {
            let same = rule.what == what;
            if same {
                at = at.max(rule.at);
            }
            !same
        });
        list.push(Rule {
            what,
            at,
            swept: false,
        });
        Rules::build(list, self.forgotten)
    }

    /// Without those that are over: files of before `began` were held against them, and they have stayed long enough.
    pub fn swept(&self, began: Moment, now: Moment) -> Self {
        let mut forgotten = self.forgotten;
        let mut list = self.list.clone();
        list.retain_mut(|rule| {
            rule.swept |= rule.at < began;
            let over = rule.swept && rule.at.plus(KEPT) <= now;
            if over {
                forgotten = forgotten.max(rule.at);
            }
            !over
        });
        Rules::build(list, forgotten)
    }

    /// Whether an object was purged.
    pub fn hit(&self, object: &Object, clock: &Clock) -> bool {
        self.latest_for(object).is_some_and(|at| {
            // One that says to come from the future was written while a clock was wrong; no telling when that was.
            object.born <= at || object.born > clock.now()
        })
    }

    /// The latest that an object fits.
    fn latest_for(&self, object: &Object) -> Option<Moment> {
        if self.list.is_empty() {
            return None;
        }
        let mut latest = self.all;
        if let Some(at) = self.urls.get(&object.key.url) {
            latest = latest.max(*at);
        }
        for (prefix, at) in &self.prefixes {
            if object.place.starts_with(prefix.as_str()) {
                latest = latest.max(*at);
            }
        }
        if !self.tags.is_empty() {
            for tag in tags(&object.head.only(&tags::FIELDS)) {
                latest = latest.max(self.tags.get(&tag).copied().unwrap_or_default());
            }
        }
        (latest > Moment::default()).then_some(latest)
    }

    /// When the latest of all was made.
    pub fn latest(&self) -> Moment {
        self.list.last().map_or(Moment::default(), |rule| rule.at)
    }

    /// The latest of those that are gone.
    pub fn forgotten(&self) -> Moment {
        self.forgotten
    }

    /// Whether all files were held against all of them.
    pub fn is_swept(&self) -> bool {
        self.list.iter().all(|rule| rule.swept)
    }

    /// Whether one of them does what this one would.
    pub fn has(&self, what: &What, at: Moment) -> bool {
        let mut list = self.list.iter();
        at <= self.all || list.any(|rule| rule.what == *what && rule.at >= at)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&What, Moment)> {
        self.list.iter().map(|rule| (&rule.what, rule.at))
    }
}
