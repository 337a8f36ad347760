//! `access_log`: where requests are logged, which of them, and how.

use super::duration::PositiveSpan;
use super::keypath::KeyPath;
use super::number::Bounded;
use super::patterns::FileText;
use super::percentage::Percentage;
use super::report::{Document, Report};
use super::ship::{Ship, ShipSpec};
use super::size::Size;
use super::switch::{Section, Switch, over};
use super::written::{Complaint, Written, meant, written};
use crate::observe::formats::Format;
use crate::observe::rotation::Rotation;
use crate::observe::syslog::Daemon;
use crate::observe::template::Template;
use crate::policy::redact;
use crate::policy::sampling::{RouteLog, Sampling};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The access log.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Where it goes.
    pub to: LogTarget,
    /// How its lines are written.
    pub format: Format,
    /// When its file is moved aside, if it is.
    pub rotate: Option<Rotation>,
    /// Where its finished files go, if anywhere.
    pub ship: Option<Ship>,
    /// Which requests are in it.
    pub sampling: Sampling,
    /// Parameters of a query whose values are left out.
    pub hide_query: Vec<String>,
    /// Which claim of a token is the name of who asks.
    pub identity_claim: String,
}

impl Default for AccessLog {
    fn default() -> Self {
        AccessLog {
            to: LogTarget::Stdout,
            format: Format::Json,
            rotate: None,
            ship: None,
            sampling: Sampling::default(),
            hide_query: redact::USUAL.map(str::to_string).to_vec(),
            identity_claim: "sub".to_string(),
        }
    }
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// A file; the path is absolute.
    File(PathBuf),
    /// A daemon.
    Syslog(Daemon),
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogTarget::Stdout => f.write_str("stdout"),
            LogTarget::Off => f.write_str("off"),
            LogTarget::File(path) => path.display().fmt(f),
            LogTarget::Syslog(daemon) => daemon.fmt(f),
        }
    }
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { path: stdout } or { path: off }"
)]
pub(crate) struct AccessLogSpec {
    path: Option<LogPlace>,
    format: Option<FormatText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotate: Option<RotateSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ship: Option<ShipSpec>,
    hide_query: Option<Vec<String>>,
    identity_claim: Option<String>,
    sample: Option<Percentage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow: Option<PositiveSpan>,
}

impl AccessLogSpec {
    /// The log that this means, with what is not said as usual.
    pub(crate) fn compile(self, absolute: impl Fn(&str) -> PathBuf) -> AccessLog {
        let usual = AccessLog::default();
        let ship = self.ship.map(ShipSpec::compile);
        let rotate = match (self.rotate, &ship) {
            (None, None) => None,
            (None, Some(ship)) => Some(RotateSpec::for_shipping(ship)),
            (Some(own), Some(ship)) => Some(own.over(RotateSpec::for_shipping(ship))),
            (own, None) => own,
        };
        AccessLog {
            to: match self.path {
                None => usual.to,
                Some(LogPlace(LogTarget::File(path))) => {
                    LogTarget::File(absolute(&path.to_string_lossy()))
                }
                Some(LogPlace(other)) => other,
            },
            format: self.format.map_or(usual.format, |format| format.0),
            rotate: rotate.map(|rotate| Rotation {
                size: rotate.size.map(|size| size.0),
                every: rotate.every.map(|every| every.0),
                keep: rotate.keep.map_or(KEPT, |keep| keep.0),
            }),
            ship,
            sampling: Sampling {
                share: self.sample.map_or(usual.sampling.share, Percentage::share),
                slow: self.slow.map(|slow| slow.0),
            },
            hide_query: self.hide_query.unwrap_or(usual.hide_query),
            identity_claim: self.identity_claim.unwrap_or(usual.identity_claim),
        }
    }

    /// Reports what cannot work.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        let is_file = matches!(self.path, Some(LogPlace(LogTarget::File(_))));
        if self.ship.is_some() && !is_file {
            let problem = report.add(document, path.key("ship"), "only files can be shipped");
            problem.help = Some("give access_log the path of one".to_string());
        }
        let Some(rotate) = &self.rotate else { return };
        let path = path.key("rotate");
        if !is_file {
            let problem = report.add(document, path, "only a file can be moved aside");
            problem.help = Some("give access_log the path of one".to_string());
        } else if self.ship.is_none() && rotate.size.is_none() && rotate.every.is_none() {
            let problem = report.add(document, path, "nothing says when");
            problem.help = Some("add size: 100MiB, every: 1d, or both".to_string());
        } else if rotate.size.is_some_and(|size| size.0 < SMALLEST) {
            let path = path.key("size");
            let problem = report.add(document, path, "there would be a file for each line");
            problem.help = Some("it has to be 1KiB at least".to_string());
        }
    }

    /// How it is written with every key.
    pub(crate) fn of(log: &AccessLog) -> Self {
        AccessLogSpec {
            path: Some(LogPlace(log.to.clone())),
            format: Some(FormatText(log.format.clone())),
            rotate: log.rotate.map(|rotate| RotateSpec {
                size: rotate.size.map(Size),
                every: rotate.every.map(PositiveSpan),
                keep: Some(Bounded(rotate.keep)),
            }),
            ship: log.ship.as_ref().map(ShipSpec::of),
            hide_query: Some(log.hide_query.clone()),
            identity_claim: Some(log.identity_claim.clone()),
            sample: Some(Percentage::of(log.sampling.share)),
            slow: log.sampling.slow.map(PositiveSpan),
        }
    }
}

/// Files of the log that are kept beside the one that is written, where nothing is said.
const KEPT: u32 = 10;
/// The size at which a file is moved aside is no less.
const SMALLEST: u64 = 1024;

/// `access_log.rotate`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { size: 100MiB, keep: 10 }"
)]
struct RotateSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<PositiveSpan>,
    keep: Option<Bounded<1, 100_000>>,
}

/// The size at which a file is finished that is to be shipped, where nothing is said.
const LARGE: u64 = 64 * 1024 * 1024;

impl RotateSpec {
    /// When files are finished that are to be shipped.
    fn for_shipping(ship: &Ship) -> Self {
        RotateSpec {
            size: Some(Size(LARGE)),
            every: Some(PositiveSpan(ship.every)),
            keep: None,
        }
    }

    /// This, with what it does not say as there; whatever comes first.
    fn over(self, other: Self) -> Self {
        let every = match (self.every, other.every) {
            (Some(own), Some(other)) => Some(PositiveSpan(own.0.min(other.0))),
            (own, other) => own.or(other),
        };
        RotateSpec {
            size: self.size.or(other.size),
            every,
            keep: self.keep.or(other.keep),
        }
    }
}

/// `access_log` of a route.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { sample: 1% }, or off"
)]
pub(crate) struct RouteLogSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<Percentage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow: Option<PositiveSpan>,
}

impl Section for RouteLogSpec {
    const EXPECTED: &'static str = "a mapping such as { sample: 1% }, or off";

    fn over(&self, base: &Self) -> Self {
        over!(self, base, RouteLogSpec { sample, slow })
    }
}

impl RouteLogSpec {
    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        *self == RouteLogSpec::default()
    }

    pub(crate) fn compile(log: &Switch<Self>) -> RouteLog {
        match log {
            Switch::Off => RouteLog::Off,
            Switch::On(rules) => RouteLog::Rules {
                share: rules.sample.map(Percentage::share),
                slow: rules.slow.map(|slow| slow.0),
            },
        }
    }
}

/// `access_log.path`.
#[derive(Debug, Clone)]
struct LogPlace(LogTarget);

impl Written for LogPlace {
    const EXPECTED: &'static str = "stdout, off, syslog or the path of a file";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let place = match (word, Daemon::parse(word)) {
            ("stdout", _) => LogTarget::Stdout,
            ("off", _) => LogTarget::Off,
            (_, Some(Ok(daemon))) => LogTarget::Syslog(daemon),
            (_, Some(Err(why))) => return Err(Complaint::because(why)),
            (_, None) => LogTarget::File(FileText::parse(word)?.0.into()),
        };
        Ok(LogPlace(place))
    }
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `access_log.format`.
#[derive(Debug, Clone)]
struct FormatText(Format);

const FORMATS: [(&str, Format); 4] = [
    ("json", Format::Json),
    ("combined", Format::Combined),
    ("clf", Format::Clf),
    ("alb", Format::Alb),
];

impl Written for FormatText {
    const EXPECTED: &'static str =
        "json, combined, clf, alb or a text with fields such as {url.path}";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match FORMATS.into_iter().find(|(name, _)| *name == word) {
            Some((_, format)) => Ok(FormatText(format)),
            None if word.contains('{') => match Template::parse(word) {
                Ok(template) => Ok(FormatText(Format::Template(template.into()))),
                Err(why) => Err(Complaint::because(why)),
            },
            None => {
                let near = super::suggest::nearest(word, FORMATS.iter().map(|(name, _)| *name));
                Err(Complaint {
                    message: None,
                    help: near.map(meant),
                })
            }
        }
    }
}

impl fmt::Display for FormatText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Format::Template(template) = &self.0 {
            return f.write_str(template.source());
        }
        let name = FORMATS.into_iter().find(|(_, format)| *format == self.0);
        f.write_str(name.map_or("json", |(name, _)| name))
    }
}

written!(FormatText, LogPlace);
