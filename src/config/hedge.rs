//! `hedge` of a route, as written: when a request that is late is sent a second time.

use super::duration::PositiveSpan;
use super::fault::mismatch;
use super::keypath::KeyPath;
use super::patterns::MethodText;
use super::percentage::Percentage;
use super::report::{Document, Report};
use super::switch::{Section, over};
use super::written::{Complaint, Written, meant, written};
use crate::policy::budget::BudgetRules;
use crate::policy::hedge::{After, HedgeRules};
use http::Method;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// `hedge`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { after: p95 }, or off"
)]
pub(crate) struct HedgeSpec {
    after: Option<AfterText>,
    methods: Option<MethodsSpec>,
    budget: Option<Percentage>,
}

/// `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AfterText(After);

impl Written for AfterText {
    const EXPECTED: &'static str = "p95 or a duration such as 800ms";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if word == "p95" {
            return Ok(AfterText(After::P95));
        }
        match PositiveSpan::parse(word) {
            Ok(span) => Ok(AfterText(After::Fixed(span.0))),
            Err(Complaint {
                message: None,
                help,
            }) => Err(Complaint {
                message: None,
                help: help.or_else(|| {
                    let is_quantile = word.starts_with(['p', 'P']);
                    is_quantile.then(|| "did you mean p95?".to_string())
                }),
            }),
            Err(complaint) => Err(complaint),
        }
    }

    fn meant_by_number(number: &str) -> Option<String> {
        PositiveSpan::parse(&format!("{number}ms")).ok().map(meant)
    }
}

impl fmt::Display for AfterText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            After::P95 => f.write_str("p95"),
            After::Fixed(after) => PositiveSpan(after).fmt(f),
        }
    }
}

written!(AfterText);

/// `methods` of `hedge`.
#[derive(Debug, Clone, PartialEq)]
enum MethodsSpec {
    /// Those of the idempotent ones that have no side effect.
    Idempotent,
    Only(Vec<MethodText>),
}

const METHODS: &str = "idempotent or a list such as [GET, HEAD]";
/// The share of a route's requests, if nothing else is said.
const BUDGET: u16 = 5;
/// Second requests that any ten seconds may have, however few the requests.
const FLOOR: u32 = 3;

impl Section for HedgeSpec {
    const EXPECTED: &'static str = "a mapping such as { after: p95 }, or off";

    fn over(&self, base: &Self) -> Self {
        over!(
            self,
            base,
            HedgeSpec {
                after,
                methods,
                budget
            }
        )
    }
}

impl HedgeSpec {
    /// Reports methods that are never sent twice.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        let Some(MethodsSpec::Only(list)) = &self.methods else {
            return;
        };
        for (i, method) in list.iter().enumerate().filter(|(_, m)| !m.0.is_safe()) {
            let message = format!("{method} has side effects: both backends would carry it out");
            let at = path.key("methods").index(i);
            report.add(document, at, message).help =
                Some("list only such as GET, HEAD and OPTIONS".to_string());
        }
    }

    /// Every key filled in.
    pub(crate) fn filled(&self) -> HedgeSpec {
        self.over(&HedgeSpec {
            after: Some(AfterText(After::P95)),
            methods: Some(MethodsSpec::Idempotent),
            budget: Some(Percentage::whole(BUDGET)),
        })
    }

    /// What the proxy goes by.
    pub(crate) fn compile(&self) -> HedgeRules {
        HedgeRules {
            after: self.after.map_or(After::P95, |after| after.0),
            methods: match &self.methods {
                None | Some(MethodsSpec::Idempotent) => {
                    vec![Method::GET, Method::HEAD, Method::OPTIONS]
                }
                Some(MethodsSpec::Only(list)) => list.iter().map(|m| m.0.clone()).collect(),
            },
            budget: BudgetRules {
                share: self.budget.unwrap_or(Percentage::whole(BUDGET)).fraction(),
                floor: FLOOR,
            },
        }
    }
}

impl Serialize for MethodsSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            MethodsSpec::Idempotent => s.serialize_str("idempotent"),
            MethodsSpec::Only(list) => list.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for MethodsSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(MethodsVisitor)
    }
}

struct MethodsVisitor;

impl<'de> Visitor<'de> for MethodsVisitor {
    type Value = MethodsSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(METHODS)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<MethodsSpec, E> {
        match value {
            "idempotent" => Ok(MethodsSpec::Idempotent),
            _ => Err(E::custom(mismatch(METHODS, Unexpected::Str(value)))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<MethodsSpec, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(MethodsSpec::Only)
    }
}
