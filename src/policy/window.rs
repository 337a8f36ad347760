//! What was seen lately: outcomes and latencies of the last while, in memory that does not grow.
//!
//! The canary, hedging and outlier detection keep one of these per side or backend and go by its counts. It counts and
//! forgets; it must not judge what is much or little.
//!
//! Time is cut into slices, and a slice that has become too old is dropped whole. Latencies are counted in buckets, each
//! wider than the one before by the same factor, as in DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019): with the factor
//! g a quantile is off by at most (g - 1) / (g + 1). Here g is the fourth root of 2, and that is 8.7 %.

use std::time::Duration;

/// How many slices the span is cut into.
const SLICES: usize = 10;
/// Buckets begin at 2^16 ns, which is 0.066 ms.
const FIRST_OCTAVE: u32 = 16;
/// They end at 2^37 ns, which is 137 s.
const OCTAVES: usize = 21;
const PER_OCTAVE: usize = 4;
const BUCKETS: usize = OCTAVES * PER_OCTAVE;
/// Where the second, third and fourth bucket of an octave begin: 2^63 times the fourth root of 2, of 4 and of 8, rounded up.
const QUARTERS: [u64; PER_OCTAVE - 1] = [
    0x9837_F051_8DB8_A970,
    0xB504_F333_F9DE_6485,
    0xD744_FCCA_D69D_6AF5,
];

/// Outcomes counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Those that went well.
    pub good: u64,
    /// Those that did not.
    pub failed: u64,
}

impl Totals {
    /// All of them.
    pub fn count(&self) -> u64 {
        self.good.saturating_add(self.failed)
    }

    /// The share of good ones, from 0.0 to 1.0; `None` if there were none at all.
    pub fn success(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.good as f64 / count as f64)
    }
}

/// One tenth of the span.
#[derive(Debug, Clone)]
struct Slice {
    good: u32,
    failed: u32,
    latencies: [u32; BUCKETS],
}

impl Slice {
    const EMPTY: Slice = Slice {
        good: 0,
        failed: 0,
        latencies: [0; BUCKETS],
    };
}

/// Good outcomes that were counted beside a [`Window`], all within one of its slices, until it takes them in.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Nanoseconds per slice, and the number of the one that this is of.
    length: u64,
    number: u64,
    good: u32,
    latencies: [u32; BUCKETS],
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            length: 0,
            number: 0,
            good: 0,
            latencies: [0; BUCKETS],
        }
    }
}

impl Batch {
    /// Counts a good outcome of now, in slices of this many nanoseconds, if it is in the same one as what was counted already or
    /// there is nothing yet: else that has to be taken in first.
    #[must_use]
    pub fn record(&mut self, length: u64, now: Duration, latency: Duration) -> bool {
        let length = length.max(1);
        let number = nanos(now) / length;
        if self.good == 0 {
            (self.length, self.number) = (length, number);
        }
        let fits = (self.length, self.number) == (length, number) && self.good < u32::MAX;
        if fits {
            self.good += 1;
            self.latencies[bucket(latency)] += 1;
        }
        fits
    }
}

/// Outcomes and latencies of the last `span`, to a tenth of it: what is younger than 9/10 of the span is counted, what is
/// older than the span is not.
///
/// It takes 4.2 kB, inline, and never more. Recording takes constant time, a quantile 84 additions. Where a slice would
/// count beyond what a `u32` holds, it stops counting.
///
/// A `now` that lags behind an earlier one, as happens where threads read the clock before they lock, counts as that one.
#[derive(Debug, Clone)]
pub struct Window {
    span: Duration,
    /// Nanoseconds per slice, at least 1.
    length: u64,
    /// The number of the youngest slice, counted from time 0.
    newest: u64,
    slices: [Slice; SLICES],
    /// The sums over all slices, kept so that no question has to add them up.
    totals: Totals,
    latencies: [u64; BUCKETS],
    timed: u64,
}

impl Window {
    /// Nothing seen yet. A `span` below 10 ns is taken as 10 ns.
    pub fn new(span: Duration) -> Self {
        Window {
            span,
            length: (nanos(span) / SLICES as u64).max(1),
            newest: 0,
            slices: [Slice::EMPTY; SLICES],
            totals: Totals::default(),
            latencies: [0; BUCKETS],
            timed: 0,
        }
    }

    /// How far it looks back, as given to [`new`](Self::new).
    pub fn span(&self) -> Duration {
        self.span
    }

    /// Counts one outcome, and its latency if there is one that means something: how fast a connection was refused says
    /// nothing about how fast answers come, and may be left out.
    pub fn record(&mut self, now: Duration, good: bool, latency: impl Into<Option<Duration>>) {
        self.advance(now);
        let slice = &mut self.slices[place(self.newest)];
        let (count, total) = if good {
            (&mut slice.good, &mut self.totals.good)
        } else {
            (&mut slice.failed, &mut self.totals.failed)
        };
        if *count < u32::MAX {
            *count += 1;
            *total += 1;
        }
        let Some(latency) = latency.into() else {
            return;
        };
        let bucket = bucket(latency);
        let count = &mut slice.latencies[bucket];
        if *count < u32::MAX {
            *count += 1;
            self.latencies[bucket] += 1;
            self.timed += 1;
        }
    }

    /// How long each of its slices is, in nanoseconds.
    pub fn slice(&self) -> u64 {
        self.length
    }

    /// Takes in what was counted beside it. What is older than it looks back is forgotten, and so is what was counted in slices
    /// of another length.
    pub fn take_in(&mut self, batch: &mut Batch) {
        if batch.good == 0 {
            return;
        }
        let Batch {
            length,
            number,
            good,
            latencies,
        } = std::mem::take(batch);
        if length != self.length {
            return;
        }
        self.advance_to(number);
        if self.newest - number >= SLICES as u64 {
            return;
        }
        let slice = &mut self.slices[place(number)];
        let more = good.min(u32::MAX - slice.good);
        slice.good += more;
        self.totals.good += u64::from(more);
        let counts = slice.latencies.iter_mut().zip(&mut self.latencies);
        for ((count, sum), new) in counts.zip(latencies) {
            let more = new.min(u32::MAX - *count);
            *count += more;
            *sum += u64::from(more);
            self.timed += u64::from(more);
        }
    }

    /// The outcomes in the window.
    pub fn totals(&mut self, now: Duration) -> Totals {
        self.advance(now);
        self.totals
    }

    /// How many outcomes there are in the window.
    pub fn count(&mut self, now: Duration) -> u64 {
        self.totals(now).count()
    }

    /// How many of them came with a latency.
    pub fn timed(&mut self, now: Duration) -> u64 {
        self.advance(now);
        self.timed
    }

    /// The latency that the share `q` (0.0 to 1.0) of them did not exceed, at most 8.7 % off; `None` if there are none.
    /// Latencies below 0.066 ms count as 0.071 ms, those above 137 s as 126 s.
    pub fn quantile(&mut self, now: Duration, q: f64) -> Option<Duration> {
        self.advance(now);
        let rank = (q.clamp(0.0, 1.0) * self.timed as f64).ceil() as u64;
        let rank = rank.clamp(1, self.timed.max(1));
        let mut below = 0;
        let bucket = self.latencies.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(value(bucket))
    }

    /// How many latencies, each as [`rounded`](Self::rounded), exceed `bound`. So more than 5 % exceed what the 0.95
    /// quantile exceeds.
    pub fn above(&mut self, now: Duration, bound: Duration) -> u64 {
        self.advance(now);
        let nearest = bucket(bound);
        let first = if value(nearest) > bound {
            nearest
        } else {
            nearest + 1
        };
        self.latencies.iter().skip(first).sum()
    }

    /// What a latency is counted as: the value of its bucket.
    pub fn rounded(latency: Duration) -> Duration {
        value(bucket(latency))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slices = [Slice::EMPTY; SLICES];
        self.totals = Totals::default();
        self.latencies = [0; BUCKETS];
        self.timed = 0;
    }

    /// Drops what is too old at `now`.
    fn advance(&mut self, now: Duration) {
        self.advance_to(nanos(now) / self.length);
    }

    fn advance_to(&mut self, slice: u64) {
        let passed = slice.saturating_sub(self.newest);
        if passed >= SLICES as u64 {
            self.clear();
        } else {
            for step in 1..=passed {
                self.drop_slice(place(self.newest + step));
            }
        }
        self.newest = self.newest.max(slice);
    }

    fn drop_slice(&mut self, place: usize) {
        let slice = &mut self.slices[place];
        // There are no latencies without outcomes.
        if slice.good == 0 && slice.failed == 0 {
            return;
        }
        self.totals.good -= u64::from(slice.good);
        self.totals.failed -= u64::from(slice.failed);
        for (sum, count) in self.latencies.iter_mut().zip(&slice.latencies) {
            *sum -= u64::from(*count);
            self.timed -= u64::from(*count);
        }
        *slice = Slice::EMPTY;
    }
}

/// Where the slice of this number is kept.
fn place(number: u64) -> usize {
    (number % SLICES as u64) as usize
}

/// Nanoseconds, up to 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The bucket that counts this latency; the first and the last also count what lies beyond them.
fn bucket(latency: Duration) -> usize {
    let nanos = nanos(latency).max(1 << FIRST_OCTAVE);
    let octave = nanos.ilog2();
    let scaled = nanos << (u64::BITS - 1 - octave);
    let quarter = QUARTERS.iter().filter(|from| scaled >= **from).count();
    ((octave - FIRST_OCTAVE) as usize * PER_OCTAVE + quarter).min(BUCKETS - 1)
}

/// What the latencies of a bucket are taken for: the value that is off by the same part at either end of it.
fn value(bucket: usize) -> Duration {
    let edge = |bucket: usize| {
        let octaves = bucket as f64 / PER_OCTAVE as f64;
        (f64::from(FIRST_OCTAVE) + octaves).exp2()
    };
    let (low, high) = (edge(bucket), edge(bucket + 1));
    Duration::from_nanos((2.0 * low * high / (low + high)) as u64)
}

#[cfg(test)]
mod tests;
