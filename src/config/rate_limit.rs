//! `rate_limit` of a route, as written: how often one client may ask.

use super::headers::ReadName;
use super::keypath::KeyPath;
use super::number::Bounded;
use super::report::{Document, Report};
use super::switch::{Section, over};
use super::upstreams::CookieName;
use super::written::{Complaint, Written, meant, written};
use crate::policy::rate::{RateError, RateRules};
use crate::policy::route::{RateKey, RateLimit};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// `rate_limit`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { rate: 10/s, burst: 20 }, or off"
)]
pub(crate) struct RateLimitSpec {
    // Else it would be written with a YAML tag.
    #[serde(serialize_with = "serde_yaml::with::singleton_map_recursive::serialize")]
    per: Option<PerSpec>,
    rate: Option<RateText>,
    burst: Option<Bounded<1, 1_000_000>>,
    keys: Option<Bounded<1000, 10_000_000>>,
}

/// `per`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum PerSpec {
    ClientIp,
    Identity,
    Header(ReadName),
    Cookie(CookieName),
}

/// How many in which time: `10/s`, `600/m`, `1000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateText {
    count: u32,
    unit: &'static str,
    per: Duration,
}

const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];
/// Clients that are told apart at the same time, if nothing else is said.
const KEYS: u32 = 100_000;

fn rate(word: &str) -> Option<RateText> {
    let (count, unit) = word.split_once('/')?;
    let (unit, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let digits = count.bytes().all(|b| b.is_ascii_digit());
    let count = count
        .parse()
        .ok()
        .filter(|n| digits && (1..=1_000_000).contains(n))?;
    Some(RateText {
        count,
        unit,
        per: Duration::from_secs(seconds),
    })
}

impl Written for RateText {
    const EXPECTED: &'static str = "a rate such as 10/s, 600/m or 1000/h";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if let Some(rate) = rate(word) {
            return Ok(rate);
        }
        let tight: String = word.to_lowercase().split_whitespace().collect();
        let near = tight
            .replace("r/", "/")
            .replace("/second", "/s")
            .replace("/sec", "/s")
            .replace("/minute", "/m")
            .replace("/min", "/m")
            .replace("/hour", "/h");
        Err(Complaint {
            message: None,
            help: rate(&near).map(meant),
        })
    }

    fn meant_by_number(number: &str) -> Option<String> {
        rate(&format!("{number}/s")).map(meant)
    }
}

impl fmt::Display for RateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit)
    }
}

written!(RateText);

impl Section for RateLimitSpec {
    const EXPECTED: &'static str = "a mapping such as { rate: 10/s, burst: 20 }, or off";

    fn over(&self, base: &Self) -> Self {
        over!(
            self,
            base,
            RateLimitSpec {
                per,
                rate,
                burst,
                keys
            }
        )
    }
}

impl RateLimitSpec {
    /// Reports what is missing once it is merged.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        if self.rate.is_none() {
            let problem = report.add(document, path.key("rate"), "required, but missing");
            problem.help = Some("say how often one client may ask: rate: 10/s".to_string());
        } else if let Err(error) = self.rules() {
            report.add(document, path.clone(), error.to_string());
        }
    }

    fn rules(&self) -> Result<RateRules, RateError> {
        let (count, per) = self
            .rate
            .map_or((1, Duration::from_secs(1)), |rate| (rate.count, rate.per));
        RateRules::new(count, per, self.burst.map_or(self.own_burst(), |b| b.0))
    }

    /// A second's worth at once, if nothing else is said.
    fn own_burst(&self) -> u32 {
        let per_second = self.rate.map_or(1, |rate| {
            let seconds = u32::try_from(rate.per.as_secs()).unwrap_or(1);
            rate.count / seconds.max(1)
        });
        per_second.max(1)
    }

    /// Every key with a default filled in.
    pub(crate) fn filled(&self) -> RateLimitSpec {
        self.over(&RateLimitSpec {
            per: Some(PerSpec::ClientIp),
            rate: None,
            burst: Some(Bounded(self.own_burst())),
            keys: Some(Bounded(KEYS)),
        })
    }

    /// What the proxy goes by; nothing only where the checks have reported why.
    pub(crate) fn compile(&self) -> Option<RateLimit> {
        Some(RateLimit {
            per: match &self.per {
                None | Some(PerSpec::ClientIp) => RateKey::ClientIp,
                Some(PerSpec::Identity) => RateKey::Identity,
                Some(PerSpec::Header(name)) => RateKey::Header(name.0.clone()),
                Some(PerSpec::Cookie(name)) => RateKey::Cookie(name.0.clone()),
            },
            rules: self.rules().ok()?,
            keys: self.keys.map_or(KEYS, |keys| keys.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, shown, help) in [
            ("10/s", Some("10/s"), None),
            ("600/m", Some("600/m"), None),
            ("1000/h", Some("1000/h"), None),
            ("10", None, None),
            ("10r/s", None, Some("did you mean 10/s?")),
            ("10 / sec", None, Some("did you mean 10/s?")),
            ("0/s", None, None),
            ("-1/s", None, None),
            ("1/d", None, None),
        ] {
            let read = RateText::parse(text);
            assert_eq!(
                read.as_ref().ok().map(ToString::to_string).as_deref(),
                shown,
                "{text}"
            );
            assert_eq!(read.err().and_then(|c| c.help).as_deref(), help, "{text}");
        }
    }
}
