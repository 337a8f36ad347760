//! Whole numbers with bounds.
//!
//! Read wherever the configuration counts something.

use super::fault::mismatch;
use super::written::{error, meant};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounded<const MIN: u32, const MAX: u32>(pub(crate) u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(BoundedVisitor)
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Bounded<MIN, MAX> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u32(self.0)
    }
}

struct BoundedVisitor<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Visitor<'_> for BoundedVisitor<MIN, MAX> {
    type Value = Bounded<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        match u32::try_from(value) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Bounded(number)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        let number = value.trim().parse::<u32>().ok();
        let help = number.filter(|n| (MIN..=MAX).contains(n)).map(meant);
        let expected = format!("a whole number from {MIN} to {MAX}");
        Err(error(&mismatch(&expected, Unexpected::Str(value)), help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let read = |text| serde_yaml::from_str::<Bounded<1, 100>>(text);
        for (text, value) in [("1", 1), ("100", 100)] {
            assert_eq!(read(text).unwrap(), Bounded(value));
        }
        for text in ["0", "101", "-1", "1.5", "\"3\"", "many", "[]", "4294967297"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
