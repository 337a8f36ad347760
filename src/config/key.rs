//! The keys of mappings as text.
//!
//! Read by `config::tree`, and by `config::locate`, which looks for one of them.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A key as text, whatever YAML takes it for: `9001:` is a name like any other.
pub(crate) struct Key(pub(crate) String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        KeySeed {
            stop_at: &|_| false,
        }
        .deserialize(deserializer)
    }
}

/// Reads a [`Key`], or fails at it when `stop_at` says so, for the sake of the error's location.
pub(crate) struct KeySeed<'s> {
    /// Asked for each key.
    pub(crate) stop_at: &'s dyn Fn(&str) -> bool,
}

impl KeySeed<'_> {
    fn key<E: Error>(self, key: String) -> Result<Key, E> {
        if (self.stop_at)(&key) {
            return Err(E::custom("here"));
        }
        Ok(Key(key))
    }
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key, which is a single word")
    }

    fn visit_unit<E: Error>(self) -> Result<Key, E> {
        self.key("null".to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Key, A::Error> {
        Err(A::Error::custom("a key is a single word, not a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Key, A::Error> {
        Err(A::Error::custom("a key is a single word, not a mapping"))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Key, E> {
        self.key(value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Key, E> {
        self.key(value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Key, E> {
        self.key(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Key, E> {
        self.key(value.to_string())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Key, E> {
        self.key(value.to_string())
    }
}
