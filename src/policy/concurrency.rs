//! How many requests may run at once at a route or an upstream, and which of those that wait come first.
//!
//! The rules only: who gets a place is `policy::admission`'s decision, where the limit lies by itself `policy::adaptive`'s.

use super::adaptive::AdaptiveRules;
use super::admission::{AdmissionRules, Priority};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The rules of one `concurrency`.
#[derive(Debug, Clone, PartialEq)]
pub struct Concurrency {
    /// The places, and the queue behind them.
    pub admission: AdmissionRules,
    /// Where the limit finds itself, between these bounds; none where it is fixed.
    pub adaptive: Option<AdaptiveRules>,
    /// Who comes first in the queue.
    pub priorities: Priorities,
}

/// Which requests come before the others, and which after them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Priorities {
    /// Those that any of these marks come first.
    pub high: Vec<Mark>,
    /// Those that any of these marks come last, unless they are marked high.
    pub low: Vec<Mark>,
}

/// What marks a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// Its path begins with this, by whole segments.
    Path(String),
    /// It has this header field, with this value if one is named.
    Header(HeaderName, Option<HeaderValue>),
}

impl Mark {
    fn fits(&self, path: &str, headers: &HeaderMap) -> bool {
        match self {
            Mark::Path(prefix) => {
                let prefix = prefix.trim_end_matches('/');
                let rest = path.strip_prefix(prefix);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Mark::Header(name, None) => headers.contains_key(name),
            Mark::Header(name, Some(value)) => headers.get_all(name).iter().any(|v| v == value),
        }
    }
}

impl Priorities {
    /// The priority of a request with this normalised path.
    pub fn of(&self, path: &str, headers: &HeaderMap) -> Priority {
        let any = |marks: &[Mark]| marks.iter().any(|mark| mark.fits(path, headers));
        if any(&self.high) {
            Priority::High
        } else if any(&self.low) {
            Priority::Low
        } else {
            Priority::Normal
        }
    }

    /// Whether all requests are alike.
    pub fn is_empty(&self) -> bool {
        self.high.is_empty() && self.low.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks() {
        let header = |name: &'static str, value: Option<&'static str>| {
            Mark::Header(
                HeaderName::from_static(name),
                value.map(HeaderValue::from_static),
            )
        };
        let priorities = Priorities {
            high: vec![
                Mark::Path("/urgent/".into()),
                header("x-priority", Some("high")),
            ],
            low: vec![Mark::Path("/reports".into()), header("x-batch", None)],
        };
        for (path, name, value, expected) in [
            ("/", "x-other", "1", Priority::Normal),
            ("/urgent", "x-other", "1", Priority::High),
            ("/urgent/x", "x-other", "1", Priority::High),
            ("/urgently", "x-other", "1", Priority::Normal),
            ("/", "x-priority", "high", Priority::High),
            ("/", "x-priority", "low", Priority::Normal),
            ("/reports", "x-other", "1", Priority::Low),
            ("/", "x-batch", "", Priority::Low),
            ("/reports", "x-priority", "high", Priority::High),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
            assert_eq!(priorities.of(path, &headers), expected, "{path} {name}");
        }
        assert_eq!(
            Priorities::default().of("/x", &HeaderMap::new()),
            Priority::Normal
        );
    }
}
