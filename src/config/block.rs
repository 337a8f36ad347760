//! `block`, as written: paths that are answered at once.
//!
//! Read by `compile`.

use super::keypath::KeyPath;
use super::report::{Document, Report};
use super::written::{Complaint, Written, written};
use crate::policy::blocklist::{Answer, Blocklist};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The list that comes with the program.
const SCANNERS: &str = include_str!("../../conf/blocklists/scanners.txt");

/// `block`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { scanners: true, answer: drop }"
)]
pub(crate) struct BlockSpec {
    scanners: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<PatternText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    except: Option<Vec<ExceptText>>,
    answer: Option<AnswerText>,
}

/// `/path`, `*/name` or another pattern with a star.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PatternText(String);

impl Written for PatternText {
    const EXPECTED: &'static str =
        "a path such as /internal/ or a pattern such as */.git or \"*.bak\"";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let is_plain = word
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"?#".contains(&b));
        match is_plain && word.starts_with(['/', '*']) && !word.trim_matches(['*', '/']).is_empty()
        {
            true => Ok(PatternText(word.to_string())),
            false => Err(Complaint::unfit()),
        }
    }
}

impl fmt::Display for PatternText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ExceptText(String);

impl Written for ExceptText {
    const EXPECTED: &'static str = "a whole path such as /wp-login.php";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let is_plain = |b: u8| b.is_ascii_graphic() && !b"?#*".contains(&b);
        match word.starts_with('/') && word.bytes().all(is_plain) {
            true => Ok(ExceptText(word.to_string())),
            false => Err(Complaint::unfit()),
        }
    }
}

impl fmt::Display for ExceptText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `answer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AnswerText(Answer);

const ANSWERS: [(&str, Answer); 4] = [
    ("403", Answer::Status(StatusCode::FORBIDDEN)),
    ("404", Answer::Status(StatusCode::NOT_FOUND)),
    ("410", Answer::Status(StatusCode::GONE)),
    ("drop", Answer::Drop),
];

impl AnswerText {
    fn named(word: &str) -> Option<Self> {
        let found = ANSWERS.into_iter().find(|(name, _)| *name == word);
        found.map(|(_, answer)| AnswerText(answer))
    }
}

impl<'de> Deserialize<'de> for AnswerText {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(AnswerVisitor)
    }
}

struct AnswerVisitor;

impl serde::de::Visitor<'_> for AnswerVisitor {
    type Value = AnswerText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("403, 404, 410 or drop")
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<AnswerText, E> {
        let unfit = serde::de::Unexpected::Unsigned(value);
        AnswerText::named(&value.to_string()).ok_or_else(|| E::invalid_value(unfit, &self))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<AnswerText, E> {
        let unfit = serde::de::Unexpected::Str(value);
        AnswerText::named(value).ok_or_else(|| E::invalid_value(unfit, &self))
    }
}

impl Serialize for AnswerText {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Answer::Status(status) => s.serialize_u16(status.as_u16()),
            Answer::Drop => s.serialize_str("drop"),
        }
    }
}

written!(PatternText, ExceptText);

impl BlockSpec {
    /// Reports that it blocks nothing.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        let is_on = self.scanners == Some(true);
        if !is_on && self.paths.as_ref().is_none_or(Vec::is_empty) {
            let problem = report.add(document, path.clone(), "nothing would be blocked");
            problem.help = Some("give scanners: true, or paths".to_string());
        }
    }

    /// The list, and what is said of what is in it.
    pub(crate) fn compile(&self) -> (Blocklist, Answer) {
        let shipped = match self.scanners {
            Some(true) => SCANNERS,
            _ => "",
        };
        let own = self.paths.iter().flatten().map(|path| &*path.0);
        let except = self.except.iter().flatten().map(|path| &*path.0);
        let list = Blocklist::new(Blocklist::lines(shipped).chain(own), except);
        let default = AnswerText(Answer::Status(StatusCode::NOT_FOUND));
        (list, self.answer.unwrap_or(default).0)
    }
}
