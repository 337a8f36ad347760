//! Whether a client may send one more request now, or has to wait, and what it is told about that.
//!
//! The algorithm is GCRA, the generic cell rate algorithm of ATM (ITU-T I.371, virtual scheduling): for each client one
//! number is kept, the theoretical arrival time (TAT) of its next request, were it to send at just its rate. A request
//! may come before it, as long as that is no more than a burst ahead. It decides like a token bucket of `burst` tokens
//! that is filled at the rate, without a timer.
//!
//! `config` builds the [`RateRules`], `proxy/` hashes what identifies a client and asks the [`Table`]. It must not know
//! what a key is made of, and never grows: see [`Table`] for what is forgotten instead. The header fields are those of
//! draft-ietf-httpapi-ratelimit-headers-10 and `Retry-After` (RFC 9110 §10.2.3).

use std::fmt;
use std::time::Duration;

/// How many requests a client may send: one for each interval, and a burst at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateRules {
    /// The emission interval in ns, at least 1.
    interval: u64,
    /// At least 1.
    burst: u32,
}

/// Why a rate cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateError {
    /// Nothing could ever pass.
    NothingPasses,
    /// More than one request for each nanosecond.
    TooFast,
    /// A burst takes longer to come back than is counted.
    TooSlow,
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RateError::NothingPasses => {
                "nothing would ever pass; the count and the burst have to be at least 1"
            }
            RateError::TooFast => "the rate is above one request per nanosecond; leave the limit out",
            RateError::TooSlow => {
                "a used up burst would take over a hundred years to come back; use a higher rate or a smaller burst"
            }
        })
    }
}

impl std::error::Error for RateError {}

/// The longest time in ns for a burst to come back: over a hundred years. The latest `now` as well, so that sums of
/// both fit their type.
const LONGEST: u64 = 1 << 62;

impl RateRules {
    /// `count` requests in each `period`, of which `burst` may come at once. The interval is rounded down to whole
    /// nanoseconds, so that nobody who keeps to the rate as written is refused.
    pub fn new(count: u32, period: Duration, burst: u32) -> Result<Self, RateError> {
        if count == 0 || burst == 0 {
            return Err(RateError::NothingPasses);
        }
        let interval = period.as_nanos() / u128::from(count);
        if interval == 0 {
            return Err(RateError::TooFast);
        }
        if interval.saturating_mul(burst.into()) > LONGEST.into() {
            return Err(RateError::TooSlow);
        }
        Ok(RateRules {
            interval: interval as u64,
            burst,
        })
    }

    /// The time that gives back one request.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// How many requests may come at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The time in ns that gives back the whole burst.
    fn window(&self) -> u64 {
        self.interval * u64::from(self.burst)
    }

    /// The value of `RateLimit-Policy`: the burst as the quota, and the seconds that give it back as its window. The
    /// same for all answers.
    pub fn policy_field(&self) -> String {
        let window = seconds(Duration::from_nanos(self.window()));
        // Never 0, which the draft forbids: it is a nanosecond at least, and rounded up.
        format!("\"default\";q={};w={window}", self.burst)
    }
}

/// What becomes of a request, and how its client stands then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request may pass.
    pub allowed: bool,
    /// How many more would be allowed at this moment.
    pub remaining: u32,
    /// The time until the next one is allowed, if this one is not; zero if it is.
    pub retry_after: Duration,
    /// The time until the full burst is available, if nothing else comes.
    pub reset: Duration,
}

impl Verdict {
    /// The value of `RateLimit`. Its `t` is in seconds, rounded up: for a refused request the time until one is allowed, as in
    /// `Retry-After`; else that until the full burst is back.
    pub fn limit_field(&self) -> String {
        let time = match self.allowed {
            true => self.reset,
            false => self.retry_after,
        };
        format!("\"default\";r={};t={}", self.remaining, seconds(time))
    }

    /// The value of `Retry-After` for a refused request: in whole seconds, rounded up, so that a client that obeys is
    /// allowed. Zero if the request was allowed.
    pub fn retry_after_seconds(&self) -> u64 {
        seconds(self.retry_after)
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs()
        .saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// A key and its TAT in ns. One whose TAT has passed says no more than an empty one, all zeros, does.
type Entry = (u64, u64);

/// Entries in a set.
const WAYS: usize = 8;

/// The most keys that a table may have room for: 1 GiB.
const MOST_KEYS: usize = 1 << 26;

/// How all clients of a limit stand, in memory of fixed size.
///
/// The entries are in sets of eight, and each key may be in either of two sets. A new key goes to where fewer entries
/// count (the power of two choices: Azar, Broder, Karlin and Upfal 1999; Mitzenmacher 2001), so that hardly a set is
/// full while half of the table is not. An entry counts until its client has the full burst again; overwriting it then
/// loses nothing. If both sets of a new key are full of entries that count, the one nearest to its full burst is
/// overwritten, which forgives the least: that client has its full burst back early. So a flood of new keys displaces
/// itself, while those who sent most are remembered longest, and too small a table errs towards allowing.
pub struct Table {
    sets: Vec<[Entry; WAYS]>,
    /// The latest `now` in ns.
    latest: u64,
}

/// Where a key is, or is to be.
struct Place {
    set: usize,
    way: usize,
    /// 0 for a new key.
    tat: u64,
}

/// What a set would give up for a new key. The lesser of two is the better one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Victim {
    /// How many entries of the set count.
    counting: usize,
    /// The earliest TAT of the set, and where it is.
    tat: u64,
    set: usize,
    way: usize,
}

impl Table {
    /// What one key takes.
    pub const BYTES_PER_KEY: usize = size_of::<Entry>();

    /// Room for this many keys, rounded up to whole sets: 16 to 2^26. The memory is taken zeroed, so that the system
    /// gives out the pages of it as keys come. To remember every client until its burst is back, have room for twice as
    /// many as are expected in that time.
    pub fn with_keys(keys: usize) -> Self {
        // Two sets at least, so that the two of a key are never the same.
        let sets = keys.min(MOST_KEYS).div_ceil(WAYS).max(2);
        Table {
            sets: vec![[(0, 0); WAYS]; sets],
            latest: 0,
        }
    }

    /// How many keys there is room for.
    pub fn keys(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// The memory of all entries, used or not. It never changes.
    pub fn bytes(&self) -> usize {
        self.keys() * Self::BYTES_PER_KEY
    }

    /// Judges one request of the client `key` and, if it is allowed, counts it. Refused ones count for nothing.
    ///
    /// Equal keys share a limit, and a key is always to come with the same rules; where rules differ by route, their
    /// name belongs into the hash. If they change at a reload, what a client used up carries over as time, up to the
    /// new burst. The hash should be a keyed one: whoever can find keys of the same sets can have others of these sets
    /// forgotten.
    pub fn take(&mut self, rules: &RateRules, key: u64, now: Duration) -> Verdict {
        let now = self.clock(now);
        let place = self.place(key, now);
        let (verdict, ahead) = judge(rules, place.tat, now);
        self.sets[place.set][place.way] = (key, now + ahead);
        verdict
    }

    /// What [`take`](Self::take) would say, for who is not sure yet that this is the key to count the request by.
    pub fn peek(&mut self, rules: &RateRules, key: u64, now: Duration) -> Verdict {
        let now = self.clock(now);
        judge(rules, self.place(key, now).tat, now).0
    }

    /// Workers read the clock before they get here in turn: an earlier `now` counts as the latest one.
    fn clock(&mut self, now: Duration) -> u64 {
        let now = u64::try_from(now.as_nanos()).map_or(LONGEST, |now| now.min(LONGEST));
        self.latest = self.latest.max(now);
        self.latest
    }

    /// Where the key is, or else which entry is to be overwritten for it.
    fn place(&self, key: u64, now: u64) -> Place {
        let [one, two] = self.sets_of(key);
        let found = self.find(one, key).or_else(|| self.find(two, key));
        found.unwrap_or_else(|| {
            let (one, two) = (self.victim(one, now), self.victim(two, now));
            let victim = one.min(two);
            Place {
                set: victim.set,
                way: victim.way,
                tat: 0,
            }
        })
    }

    /// The two sets of a key, never the same. Hashes are spread once more, in case the caller's is a weak one.
    fn sets_of(&self, key: u64) -> [usize; 2] {
        let sets = self.sets.len();
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let first = scale(hash, sets);
        let another = hash.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let second = first + 1 + scale(another, sets - 1);
        [first, second % sets]
    }

    fn find(&self, set: usize, key: u64) -> Option<Place> {
        let entries = &self.sets[set];
        // An empty entry serves key 0 as well as one of its own would.
        let way = entries.iter().position(|entry| entry.0 == key)?;
        let tat = entries[way].1;
        Some(Place { set, way, tat })
    }

    fn victim(&self, set: usize, now: u64) -> Victim {
        let mut victim = Victim {
            counting: 0,
            tat: u64::MAX,
            set,
            way: 0,
        };
        for (way, &(_, tat)) in self.sets[set].iter().enumerate() {
            victim.counting += usize::from(tat > now);
            if tat < victim.tat {
                (victim.way, victim.tat) = (way, tat);
            }
        }
        victim
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("keys", &self.keys())
            .finish_non_exhaustive()
    }
}

/// An even share of all hashes for each number below `of`.
fn scale(hash: u64, of: usize) -> usize {
    ((u128::from(hash) * of as u128) >> 64) as usize
}

/// Judges one request of a client whose next one is due at `tat`, and says how far ahead of its rate it is then.
fn judge(rules: &RateRules, tat: u64, now: u64) -> (Verdict, u64) {
    let window = rules.window();
    // How far the client is ahead of its rate. More than a window is left of rules that were replaced.
    let ahead = tat.saturating_sub(now).min(window);
    let room = window - ahead;
    let allowed = room >= rules.interval;
    let (ahead, room) = if allowed {
        (ahead + rules.interval, room - rules.interval)
    } else {
        (ahead, room)
    };
    let retry_after = if allowed { 0 } else { rules.interval - room };
    let verdict = Verdict {
        allowed,
        // At most the burst, which fits.
        remaining: (room / rules.interval) as u32,
        retry_after: Duration::from_nanos(retry_after),
        reset: Duration::from_nanos(ahead),
    };
    (verdict, ahead)
}

#[cfg(test)]
mod tests;
