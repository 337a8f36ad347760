//! A name, or a name with a pattern for its value: `X-Tenant`, or `{ X-Tenant: "[a-z]+" }`.

use super::written::{Complaint, Written, error, written};
use crate::policy::pattern::Pattern;
use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// A name that is wanted, and the values that are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedText<T> {
    pub(crate) name: T,
    pub(crate) pattern: Option<PatternText>,
}

/// A pattern as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatternText(pub(crate) Pattern);

impl Written for PatternText {
    const EXPECTED: &'static str = "a regular expression such as \"[0-9]+\"";

    fn parse(word: &str) -> Result<Self, Complaint> {
        Pattern::parse(word)
            .map(PatternText)
            .map_err(|why| Complaint::because(format!("this is no regular expression: {why}")))
    }
}

impl fmt::Display for PatternText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written!(PatternText);

struct WantedVisitor<T>(PhantomData<T>);

impl<'de, T: Written + Deserialize<'de>> Visitor<'de> for WantedVisitor<T> {
    type Value = WantedText<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or {{ NAME: PATTERN }}", T::EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        let name = T::deserialize(StrDeserializer::<E>::new(word))?;
        Ok(WantedText {
            name,
            pattern: None,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((name, pattern)) = map.next_entry()? else {
            return Err(A::Error::invalid_length(0, &self));
        };
        if map.next_key::<T>()?.is_some() {
            let help = "write each as an entry of the list".to_string();
            return Err(error(
                "expected one name with its pattern, found more",
                Some(help),
            ));
        }
        Ok(WantedText {
            name,
            pattern: Some(pattern),
        })
    }
}

impl<'de, T: Written + Deserialize<'de>> Deserialize<'de> for WantedText<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WantedVisitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for WantedText<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(pattern) = &self.pattern else {
            return self.name.serialize(serializer);
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&self.name, pattern)?;
        map.end()
    }
}
