//! Which requests are in the access log, where not all are to be.
//!
//! Asked by `proxy::front` when a request has ended. What somebody will look for later is always kept; of the rest, a share.

use std::time::Duration;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Of requests that nothing is the matter with, from 0 to 1.
    pub share: f64,
    /// Those that take so long are always kept.
    pub slow: Option<Duration>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            share: 1.0,
            slow: None,
        }
    }
}

/// What a route says of its own requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RouteLog {
    /// None of them is in the log, whatever becomes of it.
    Off,
    /// As here, and as for all where nothing is said.
    Rules {
        /// See [`Sampling::share`].
        share: Option<f64>,
        /// See [`Sampling::slow`].
        slow: Option<Duration>,
    },
}

/// Whether a request is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kept {
    /// For what it is, or because all are.
    Always,
    /// By chance; it stands for others.
    Sample(f64),
    /// It is not.
    Not,
}

impl Sampling {
    /// What holds for a route; `None` where its requests are not in the log.
    pub fn on(self, route: Option<RouteLog>) -> Option<Sampling> {
        match route {
            None => Some(self),
            Some(RouteLog::Off) => None,
            Some(RouteLog::Rules { share, slow }) => Some(Sampling {
                share: share.unwrap_or(self.share),
                slow: slow.or(self.slow),
            }),
        }
    }

    /// Judges a request that ended with `status` after so long, `tries_failed` of its tries in vain. `chance` is random, from 0
    /// to 1 without 1.
    pub fn judge(&self, status: u16, tries_failed: u32, took: Duration, chance: f64) -> Kept {
        let is_slow = self.slow.is_some_and(|slow| took >= slow);
        if self.share >= 1.0 || status >= 500 || tries_failed > 0 || is_slow {
            Kept::Always
        } else if chance < self.share {
            Kept::Sample(self.share)
        } else {
            Kept::Not
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_the_last_word() {
        let all = Sampling::default();
        let slow = Some(Duration::from_secs(1));
        let own = |share, slow| Some(RouteLog::Rules { share, slow });
        assert_eq!(all.on(None), Some(all));
        assert_eq!(all.on(Some(RouteLog::Off)), None);
        assert_eq!(all.on(own(None, None)), Some(all));
        let some = Sampling { share: 0.5, slow };
        assert_eq!(all.on(own(Some(0.5), slow)), Some(some));
        assert_eq!(some.on(own(None, None)), Some(some));
    }

    #[test]
    fn what_is_kept() {
        let sampling = |share, slow| Sampling {
            share,
            slow: Some(Duration::from_millis(slow)),
        };
        let none = sampling(0.0, 1000);
        let some = sampling(0.25, 1000);
        for (sampling, status, tries_failed, ms, chance, kept) in [
            (Sampling::default(), 200, 0, 0, 0.99, Kept::Always),
            (none, 200, 0, 999, 0.0, Kept::Not),
            (none, 200, 0, 1000, 0.0, Kept::Always),
            (none, 200, 1, 0, 0.0, Kept::Always),
            (none, 499, 0, 0, 0.0, Kept::Not),
            (none, 500, 0, 0, 0.0, Kept::Always),
            (none, 504, 0, 0, 0.0, Kept::Always),
            (some, 200, 0, 0, 0.2499, Kept::Sample(0.25)),
            (some, 200, 0, 0, 0.25, Kept::Not),
            (some, 404, 0, 0, 0.1, Kept::Sample(0.25)),
            (some, 503, 0, 0, 0.9, Kept::Always),
        ] {
            let took = Duration::from_millis(ms);
            let judged = sampling.judge(status, tries_failed, took, chance);
            assert_eq!(
                judged, kept,
                "{sampling:?} {status} {tries_failed} {ms} {chance}"
            );
        }
    }
}
