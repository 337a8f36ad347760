//! `concurrency` of a route or an upstream, as written: how many requests at once, and who waits.

use super::duration::PositiveSpan;
use super::headers::ReadName;
use super::health_check::HeaderText;
use super::keypath::KeyPath;
use super::number::Bounded;
use super::patterns::PathText;
use super::report::{Document, Report};
use super::switch::{Section, over};
use crate::policy::adaptive::AdaptiveRules;
use crate::policy::admission::AdmissionRules;
use crate::policy::concurrency::{Concurrency, Mark, Priorities};
use serde::{Deserialize, Serialize};
use std::time::Duration;

type Places = Bounded<1, 1_000_000>;

/// `concurrency`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { max: 100, queue: 200 }, or off"
)]
pub(crate) struct ConcurrencySpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Places>,
    queue: Option<Bounded<0, 1_000_000>>,
    queue_timeout: Option<PositiveSpan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<PrioritySpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adaptive: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<Places>,
}

/// `priority`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { high: [{ path: /urgent }] }"
)]
struct PrioritySpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    high: Option<Vec<MarkSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low: Option<Vec<MarkSpec>>,
}

/// One entry of `high` or `low`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { path: /urgent } or { header: X-Priority, value: high }"
)]
struct MarkSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<ReadName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<HeaderText>,
}

/// How long a request waits for a place, if nothing else is said.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

impl Section for ConcurrencySpec {
    const EXPECTED: &'static str = "a mapping such as { max: 100, queue: 200 }, or off";

    fn over(&self, base: &Self) -> Self {
        over!(
            self,
            base,
            ConcurrencySpec {
                max,
                queue,
                queue_timeout,
                priority,
                adaptive,
                min
            }
        )
    }
}

impl ConcurrencySpec {
    fn is_adaptive(&self) -> bool {
        self.adaptive == Some(true)
    }

    fn most(&self) -> u32 {
        self.max.map_or(1, |max| max.0)
    }

    fn least(&self) -> u32 {
        self.min.map_or(1, |min| min.0)
    }

    /// Whether what has no default is missing.
    pub(crate) fn lacks_max(&self) -> bool {
        self.max.is_none()
    }

    /// Reports what is missing or contradicts itself, once it is merged.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        if self.lacks_max() {
            let problem = report.add(document, path.key("max"), "required, but missing");
            problem.help = Some("say how many requests may run at once: max: 100".to_string());
            return;
        }
        self.check_part(document, path, report);
    }

    /// The same of what is only a part: what is missing may stand elsewhere.
    pub(crate) fn check_part(&self, document: Document, path: &KeyPath, report: &mut Report) {
        if self.min.is_some() && !self.is_adaptive() {
            let problem = report.add(document, path.key("min"), "has no effect without adaptive");
            problem.help = Some("write adaptive: true beside it, or leave it out".to_string());
        }
        if let Some(max) = self.max
            && self.is_adaptive()
            && self.least() > max.0
        {
            let message = format!("min ({}) is larger than max ({})", self.least(), max.0);
            report.add(document, path.key("min"), message);
        }
        let marks = self.priority.iter().flat_map(|priority| {
            [("high", &priority.high), ("low", &priority.low)]
                .into_iter()
                .flat_map(|(key, list)| {
                    list.iter()
                        .flatten()
                        .enumerate()
                        .map(move |(i, mark)| (key, i, mark))
                })
        });
        for (key, i, mark) in marks {
            let at = path.key("priority").key(key).index(i);
            match (&mark.path, &mark.header, &mark.value) {
                (Some(_), None, None) | (None, Some(_), _) => {}
                (None, None, _) => {
                    let problem = report.add(document, at, "says nothing about requests");
                    problem.help = Some("give path or header".to_string());
                }
                (Some(_), Some(_), _) => {
                    report.add(document, at, "only one of path and header can be given");
                }
                (Some(_), None, Some(_)) => {
                    report.add(document, at.key("value"), "has no effect without header");
                }
            }
        }
    }

    /// Every key with a default filled in.
    pub(crate) fn filled(&self) -> ConcurrencySpec {
        self.over(&ConcurrencySpec {
            queue: Some(Bounded(self.most())),
            queue_timeout: Some(PositiveSpan(QUEUE_TIMEOUT)),
            min: self.is_adaptive().then_some(Bounded(1)),
            ..ConcurrencySpec::default()
        })
    }

    /// What the proxy goes by.
    pub(crate) fn compile(&self) -> Concurrency {
        let marks = |list: Option<&Vec<MarkSpec>>| -> Vec<Mark> {
            let mark = |mark: &MarkSpec| match (&mark.path, &mark.header) {
                (Some(path), _) => Some(Mark::Path(path.0.clone())),
                (None, Some(name)) => {
                    let value = mark.value.as_ref().map(|value| value.0.clone());
                    Some(Mark::Header(name.0.clone(), value))
                }
                (None, None) => None,
            };
            list.into_iter().flatten().filter_map(mark).collect()
        };
        let priority = self.priority.as_ref();
        Concurrency {
            admission: AdmissionRules {
                max: self.most(),
                queue: self.queue.map_or(self.most(), |queue| queue.0),
                queue_timeout: self.queue_timeout.map_or(QUEUE_TIMEOUT, |span| span.0),
            },
            adaptive: self.is_adaptive().then(|| AdaptiveRules {
                min: self.least(),
                max: self.most(),
            }),
            priorities: Priorities {
                high: marks(priority.and_then(|p| p.high.as_ref())),
                low: marks(priority.and_then(|p| p.low.as_ref())),
            },
        }
    }
}
