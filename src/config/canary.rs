//! `canary` and `mirror` of a route, as written: other upstreams that get a share of its requests.

use super::duration::PositiveSpan;
use super::headers::ReadName;
use super::keypath::KeyPath;
use super::number::Bounded;
use super::patterns::UpstreamName;
use super::percentage::Percentage;
use super::report::{Document, Report};
use super::times::Times;
use super::upstreams::CookieName;
use crate::policy::canary::{CanaryRules, Rollback, Share};
use crate::policy::route::{Canary, Mirror, Sticky};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// `canary`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { upstream: NAME, share: 5% }"
)]
pub(crate) struct CanarySpec {
    pub(crate) upstream: UpstreamName,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<Percentage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Percentage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<PositiveSpan>,
    // Else it would be written with a YAML tag.
    #[serde(serialize_with = "serde_yaml::with::singleton_map_recursive::serialize")]
    sticky: Option<StickySpec>,
    rollback: Option<RollbackSpec>,
}

/// `sticky`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum StickySpec {
    None,
    ClientIp,
    Header(ReadName),
    Cookie(CookieName),
}

/// `rollback`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { success_below: 99%, after: 50 }"
)]
struct RollbackSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    success_below: Option<Percentage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_above_stable: Option<Times>,
    after: Option<Bounded<1, 1_000_000>>,
    window: Option<PositiveSpan>,
}

const EVERY: PositiveSpan = PositiveSpan(Duration::from_secs(600));
const AFTER: Bounded<1, 1_000_000> = Bounded(50);
const WINDOW: PositiveSpan = PositiveSpan(Duration::from_secs(60));

impl CanarySpec {
    /// Reports what is missing or contradicts itself.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        match (&self.share, &self.steps) {
            (None, None) => {
                let problem = report.add(document, path.key("share"), "required, but missing");
                problem.help =
                    Some("give share: 5%, or steps: [5%, 25%, 100%] with every: 10m".to_string());
            }
            (Some(_), Some(_)) => {
                report.add(
                    document,
                    path.clone(),
                    "only one of share and steps can be given",
                );
            }
            (None, Some(steps)) if steps.is_empty() => {
                report.add(document, path.key("steps"), "no step is listed");
            }
            (None, Some(steps)) => {
                if steps.first().is_some_and(|first| first.hundredths() == 0) {
                    let at = path.key("steps").index(0);
                    report.add(document, at, "nothing is learned from a step of 0%");
                }
                for (i, pair) in steps.windows(2).enumerate() {
                    if let [before, after] = pair
                        && after <= before
                    {
                        let message =
                            format!("{after} is not more than the step before it, {before}");
                        report.add(document, path.key("steps").index(i + 1), message);
                    }
                }
            }
            (Some(_), None) => {}
        }
        if self.every.is_some() && self.steps.is_none() {
            report.add(document, path.key("every"), "has no effect without steps");
        }
    }

    /// Every key with a default filled in.
    pub(crate) fn filled(mut self) -> CanarySpec {
        if self.steps.is_some() {
            self.every.get_or_insert(EVERY);
        }
        self.sticky.get_or_insert(StickySpec::None);
        let rollback = self.rollback.get_or_insert_default();
        rollback.after.get_or_insert(AFTER);
        rollback.window.get_or_insert(WINDOW);
        self
    }

    /// What the proxy goes by.
    pub(crate) fn compile(&self, upstreams: &HashMap<&str, usize>) -> Canary {
        let share = |p: Percentage| Share::new(p.hundredths()).unwrap_or(Share::ALL);
        let rollback = self.rollback.clone().unwrap_or_default();
        Canary {
            name: self.upstream.0.clone(),
            upstream: upstreams
                .get(&*self.upstream.0)
                .copied()
                .unwrap_or_default(),
            sticky: match &self.sticky {
                None | Some(StickySpec::None) => Sticky::None,
                Some(StickySpec::ClientIp) => Sticky::ClientIp,
                Some(StickySpec::Header(name)) => Sticky::Header(name.0.clone()),
                Some(StickySpec::Cookie(name)) => Sticky::Cookie(name.0.clone()),
            },
            rules: CanaryRules {
                share: self.share.map_or(Share::NONE, share),
                steps: self.steps.iter().flatten().map(|p| share(*p)).collect(),
                every: self.every.unwrap_or(EVERY).0,
                rollback: Rollback {
                    success_below: rollback.success_below.map(Percentage::fraction),
                    p95_above_stable: rollback.p95_above_stable.map(Times::factor),
                    after: rollback.after.unwrap_or(AFTER).0,
                    window: rollback.window.unwrap_or(WINDOW).0,
                },
            },
        }
    }
}

/// `mirror`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { upstream: NAME, share: 10% }"
)]
pub(crate) struct MirrorSpec {
    pub(crate) upstream: UpstreamName,
    share: Option<Percentage>,
    max: Option<Bounded<1, 10_000>>,
}

const MIRRORED: Bounded<1, 10_000> = Bounded(64);

impl MirrorSpec {
    /// Every key filled in.
    pub(crate) fn filled(mut self) -> MirrorSpec {
        self.share.get_or_insert(Percentage::whole(100));
        self.max.get_or_insert(MIRRORED);
        self
    }

    /// What the proxy goes by.
    pub(crate) fn compile(&self, upstreams: &HashMap<&str, usize>) -> Mirror {
        Mirror {
            upstream: upstreams
                .get(&*self.upstream.0)
                .copied()
                .unwrap_or_default(),
            share: self.share.map_or(1.0, Percentage::fraction),
            max: self.max.unwrap_or(MIRRORED).0,
        }
    }
}
