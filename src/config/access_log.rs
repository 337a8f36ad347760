//! `access_log`: where requests are logged, which of them, and how.

use super::duration::PositiveSpan;
use super::patterns::FileText;
use super::percentage::Percentage;
use super::written::{Complaint, Written, meant, written};
use crate::observe::formats::Format;
use crate::observe::syslog::Daemon;
use crate::policy::redact;
use crate::policy::sampling::Sampling;
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
        AccessLog {
            to: match self.path {
                None => usual.to,
                Some(LogPlace(LogTarget::File(path))) => {
                    LogTarget::File(absolute(&path.to_string_lossy()))
                }
                Some(LogPlace(other)) => other,
            },
            format: self.format.map_or(usual.format, |format| format.0),
            sampling: Sampling {
                share: self.sample.map_or(usual.sampling.share, Percentage::share),
                slow: self.slow.map(|slow| slow.0),
            },
            hide_query: self.hide_query.unwrap_or(usual.hide_query),
            identity_claim: self.identity_claim.unwrap_or(usual.identity_claim),
        }
    }

    /// How it is written with every key.
    pub(crate) fn of(log: &AccessLog) -> Self {
        AccessLogSpec {
            path: Some(LogPlace(log.to.clone())),
            format: Some(FormatText(log.format)),
            hide_query: Some(log.hide_query.clone()),
            identity_claim: Some(log.identity_claim.clone()),
            sample: Some(Percentage::of(log.sampling.share)),
            slow: log.sampling.slow.map(PositiveSpan),
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
#[derive(Debug, Clone, Copy)]
struct FormatText(Format);

const FORMATS: [(&str, Format); 4] = [
    ("json", Format::Json),
    ("combined", Format::Combined),
    ("clf", Format::Clf),
    ("alb", Format::Alb),
];

impl Written for FormatText {
    const EXPECTED: &'static str = "json, combined, clf or alb";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match FORMATS.into_iter().find(|(name, _)| *name == word) {
            Some((_, format)) => Ok(FormatText(format)),
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
        let name = FORMATS.into_iter().find(|(_, format)| *format == self.0);
        f.write_str(name.map_or("json", |(name, _)| name))
    }
}

written!(FormatText, LogPlace);
