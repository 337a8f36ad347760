//! Sections that are either `off` or a mapping.
//!
//! Reading one, and the wording when something else stands there, is the same for all and decided here.

use super::fault::mismatch;
use super::suggest;
use super::written::{error, meant};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// A section that can be switched off.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Switch<T> {
    /// Whatever the defaults say.
    Off,
    /// By these rules.
    On(T),
}

/// The mapping of such a section.
pub(crate) trait Section: DeserializeOwned + Clone {
    /// What is expected: "a mapping such as { max: 100 }, or off".
    const EXPECTED: &'static str;

    /// What is said here, and what `base` says where this says nothing.
    fn over(&self, base: &Self) -> Self;
}

impl<T: Section> Switch<T> {
    /// What is said here, and what `base` says where this says nothing.
    pub(crate) fn over(&self, base: &Switch<T>) -> Switch<T> {
        match (self, base) {
            (Switch::On(own), Switch::On(base)) => Switch::On(own.over(base)),
            (own, _) => own.clone(),
        }
    }

    /// The rules, unless it is off.
    pub(crate) fn on(&self) -> Option<&T> {
        match self {
            Switch::Off => None,
            Switch::On(rules) => Some(rules),
        }
    }

    /// The same with other rules.
    pub(crate) fn map(&self, change: impl FnOnce(&T) -> T) -> Switch<T> {
        match self {
            Switch::Off => Switch::Off,
            Switch::On(rules) => Switch::On(change(rules)),
        }
    }
}

/// What is said here, and what the base says where nothing is: for structures of options.
macro_rules! over {
    ($own:expr, $base:expr, $name:ident { $($field:ident),+ $(,)? }) => {
        $name { $($field: $own.$field.clone().or_else(|| $base.$field.clone())),+ }
    };
}
pub(crate) use over;

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Switch::Off => s.serialize_str("off"),
            Switch::On(rules) => rules.serialize(s),
        }
    }
}

impl<'de, T: Section> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(SwitchVisitor(PhantomData))
    }
}

struct SwitchVisitor<T>(PhantomData<T>);

impl<'de, T: Section> Visitor<'de> for SwitchVisitor<T> {
    type Value = Switch<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Switch<T>, E> {
        let help = (!value).then(|| meant("off"));
        Err(error(&mismatch(T::EXPECTED, Unexpected::Bool(value)), help))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Switch<T>, E> {
        if value == "off" {
            return Ok(Switch::Off);
        }
        let help = match value {
            "no" | "none" | "never" => Some(meant("off")),
            other => suggest::nearest(other, ["off"].into_iter()).map(meant),
        };
        Err(error(&mismatch(T::EXPECTED, Unexpected::Str(value)), help))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Switch<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Switch::On)
    }
}
