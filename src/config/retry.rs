//! `retry`, as written.
//!
//! What a route leaves out comes from `defaults`, and what those leave out from the policy's own defaults.

use super::duration::{PositiveSpan, Span};
use super::fault::mismatch;
use super::number::Bounded;
use super::patterns::MethodText;
use super::percentage::Percentage;
use super::size::Size;
use super::suggest;
use super::written::{Written, error};
use crate::policy::budget::BudgetRules;
use crate::policy::retry::{Conditions, Methods, RetryPolicy, Wait};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// `retry`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { tries: 3, wait: 100ms }"
)]
pub(crate) struct RetrySpec {
    tries: Option<Bounded<1, 100>>,
    pub(crate) wait: Option<WaitSpec>,
    on: Option<Vec<Condition>>,
    methods: Option<MethodsSpec>,
    max_wait: Option<Span>,
    max_body: Option<Size>,
    budget: Option<Percentage>,
}

impl RetrySpec {
    /// What is said here, and what `base` says where this says nothing.
    pub(crate) fn over(&self, base: &RetrySpec) -> RetrySpec {
        let wait = match (&self.wait, &base.wait) {
            (Some(WaitSpec::Growing(own)), Some(WaitSpec::Growing(base))) => {
                Some(WaitSpec::Growing(GrowingSpec {
                    initial: own.initial.or(base.initial),
                    max: own.max.or(base.max),
                    jitter: own.jitter.or(base.jitter),
                }))
            }
            (own, base) => own.or(*base),
        };
        RetrySpec {
            tries: self.tries.or(base.tries),
            wait,
            on: self.on.clone().or_else(|| base.on.clone()),
            methods: self.methods.clone().or_else(|| base.methods.clone()),
            max_wait: self.max_wait.or(base.max_wait),
            max_body: self.max_body.or(base.max_body),
            budget: self.budget.or(base.budget),
        }
    }

    /// What a policy is called in the configuration, with every key.
    pub(crate) fn of(policy: &RetryPolicy) -> RetrySpec {
        let methods = match &policy.methods {
            Methods::Idempotent => MethodsSpec::Idempotent,
            Methods::Any => MethodsSpec::Any,
            Methods::Only(list) => {
                MethodsSpec::Only(list.iter().cloned().map(MethodText).collect())
            }
        };
        let word = |there: bool, word| there.then_some(Condition::Word(word));
        let statuses = policy.on.statuses.iter().map(|s| Condition::Status(*s));
        let words = [
            word(policy.on.connect_failure, Word::ConnectFailure),
            word(policy.on.reset, Word::Reset),
            word(policy.on.timeout, Word::Timeout),
        ];
        RetrySpec {
            tries: Some(Bounded(policy.tries)),
            wait: Some(match policy.wait {
                Wait::Fixed(wait) => WaitSpec::Fixed(Span(wait)),
                Wait::Growing { initial, max, .. } => WaitSpec::Growing(GrowingSpec {
                    initial: Some(PositiveSpan(initial)),
                    max: Some(PositiveSpan(max)),
                    jitter: None,
                }),
            }),
            on: Some(statuses.chain(words.into_iter().flatten()).collect()),
            methods: Some(methods),
            max_wait: Some(Span(policy.max_wait)),
            max_body: Some(Size(policy.max_body as u64)),
            budget: Some(Percentage::of(BudgetRules::default().share)),
        }
    }

    /// Every key filled in, also those of a growing wait.
    pub(crate) fn filled(&self) -> RetrySpec {
        let mut filled = self.over(&RetrySpec::of(&RetryPolicy::default()));
        if let Some(WaitSpec::Growing(growing)) = &mut filled.wait {
            *growing = growing.filled();
        }
        filled
    }

    /// What all requests of the route together may spend.
    pub(crate) fn budget(&self) -> BudgetRules {
        let default = BudgetRules::default();
        BudgetRules {
            share: self.budget.map_or(default.share, Percentage::fraction),
            ..default
        }
    }

    /// What the proxy goes by.
    pub(crate) fn compile(&self) -> RetryPolicy {
        let default = RetryPolicy::default();
        RetryPolicy {
            tries: self.tries.map_or(default.tries, |tries| tries.0),
            wait: self.wait.map_or(default.wait, |wait| wait.compile()),
            on: self.on.as_deref().map_or(default.on, conditions),
            methods: self
                .methods
                .as_ref()
                .map_or(default.methods, MethodsSpec::compile),
            max_wait: self.max_wait.map_or(default.max_wait, |span| span.0),
            max_body: self
                .max_body
                .and_then(|size| usize::try_from(size.0).ok())
                .unwrap_or(default.max_body),
        }
    }
}

/// `wait`: a duration, or one that grows.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(crate) enum WaitSpec {
    Fixed(Span),
    Growing(GrowingSpec),
}

/// A wait that doubles.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { initial: 100ms, max: 5s, jitter: 20% }"
)]
pub(crate) struct GrowingSpec {
    initial: Option<PositiveSpan>,
    max: Option<PositiveSpan>,
    jitter: Option<Percentage>,
}

impl GrowingSpec {
    const INITIAL: PositiveSpan = PositiveSpan(Duration::from_millis(100));
    const MAX: PositiveSpan = PositiveSpan(Duration::from_secs(5));
    const JITTER: Percentage = Percentage::whole(20);

    fn filled(&self) -> GrowingSpec {
        GrowingSpec {
            initial: self.initial.or(Some(Self::INITIAL)),
            max: self.max.or(Some(Self::MAX)),
            jitter: self.jitter.or(Some(Self::JITTER)),
        }
    }
}

impl WaitSpec {
    fn compile(self) -> Wait {
        match self {
            WaitSpec::Fixed(span) => Wait::Fixed(span.0),
            WaitSpec::Growing(growing) => Wait::Growing {
                initial: growing.initial.unwrap_or(GrowingSpec::INITIAL).0,
                max: growing.max.unwrap_or(GrowingSpec::MAX).0,
                jitter: growing.jitter.unwrap_or(GrowingSpec::JITTER).fraction(),
            },
        }
    }

    /// What is wrong with the wait as a whole, once merged.
    pub(crate) fn contradiction(self) -> Option<String> {
        match self.compile() {
            Wait::Growing { initial, max, .. } if initial > max => Some(format!(
                "initial ({}) is longer than max ({})",
                Span(initial),
                Span(max)
            )),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for WaitSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(WaitVisitor)
    }
}

struct WaitVisitor;

impl<'de> Visitor<'de> for WaitVisitor {
    type Value = WaitSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Span::EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<WaitSpec, E> {
        Span::deserialize(serde::de::value::StrDeserializer::new(word)).map(WaitSpec::Fixed)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<WaitSpec, E> {
        Span::deserialize(serde::de::value::U64Deserializer::new(value)).map(WaitSpec::Fixed)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WaitSpec, A::Error> {
        GrowingSpec::deserialize(MapAccessDeserializer::new(map)).map(WaitSpec::Growing)
    }
}

/// One entry of `on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Status(u16),
    Word(Word),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    ConnectFailure,
    Reset,
    Timeout,
}

const WORDS: [(&str, Word); 3] = [
    ("connect_failure", Word::ConnectFailure),
    ("reset", Word::Reset),
    ("timeout", Word::Timeout),
];

const CONDITION: &str = "a status from 400 to 599, connect_failure, reset or timeout";

fn conditions(list: &[Condition]) -> Conditions {
    let has = |word| list.contains(&Condition::Word(word));
    let mut statuses: Vec<u16> = list
        .iter()
        .filter_map(|condition| match condition {
            Condition::Status(status) => Some(*status),
            Condition::Word(_) => None,
        })
        .collect();
    statuses.sort_unstable();
    statuses.dedup();
    Conditions {
        statuses,
        connect_failure: has(Word::ConnectFailure),
        reset: has(Word::Reset),
        timeout: has(Word::Timeout),
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Condition::Status(status) => s.serialize_u16(*status),
            Condition::Word(word) => {
                let name = WORDS
                    .iter()
                    .find(|(_, w)| w == word)
                    .map_or("", |(name, _)| name);
                s.serialize_str(name)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ConditionVisitor)
    }
}

struct ConditionVisitor;

impl Visitor<'_> for ConditionVisitor {
    type Value = Condition;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CONDITION)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Condition, E> {
        match u16::try_from(value) {
            Ok(status @ 400..=599) => Ok(Condition::Status(status)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Condition, E> {
        if let Some((_, word)) = WORDS.iter().find(|(name, _)| *name == value) {
            return Ok(Condition::Word(*word));
        }
        let near = suggest::nearest(value, WORDS.iter().map(|(name, _)| *name));
        let help = match (near, value) {
            (_, status) if matches!(status.parse(), Ok(400..=599u16)) => {
                Some(format!("did you mean {status}?"))
            }
            (_, "5xx" | "5XX") => Some("list the statuses, such as 500, 502, 503, 504".to_string()),
            (near, _) => near.map(|near| format!("did you mean {near}?")),
        };
        Err(error(&mismatch(CONDITION, Unexpected::Str(value)), help))
    }
}

/// `methods` of `retry`.
#[derive(Debug, Clone)]
enum MethodsSpec {
    Idempotent,
    Any,
    Only(Vec<MethodText>),
}

impl MethodsSpec {
    fn compile(&self) -> Methods {
        match self {
            MethodsSpec::Idempotent => Methods::Idempotent,
            MethodsSpec::Any => Methods::Any,
            MethodsSpec::Only(list) => Methods::Only(list.iter().map(|m| m.0.clone()).collect()),
        }
    }
}

impl Serialize for MethodsSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            MethodsSpec::Idempotent => s.serialize_str("idempotent"),
            MethodsSpec::Any => s.serialize_str("any"),
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
        f.write_str("idempotent, any or a list such as [GET, POST]")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<MethodsSpec, E> {
        match value {
            "idempotent" => Ok(MethodsSpec::Idempotent),
            "any" => Ok(MethodsSpec::Any),
            _ => {
                let near = suggest::nearest(value, ["idempotent", "any"].into_iter());
                let help = match near {
                    Some(near) => Some(format!("did you mean {near}?")),
                    None => MethodText::parse(value)
                        .ok()
                        .map(|m| format!("did you mean [{m}]?")),
                };
                let expected = "idempotent, any or a list such as [GET, POST]";
                Err(error(&mismatch(expected, Unexpected::Str(value)), help))
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<MethodsSpec, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(MethodsSpec::Only)
    }
}
