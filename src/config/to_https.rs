//! `redirect_to_https`, as written: whether, and to which port.

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// Where clients are sent; `None`: nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ToHttps(pub Option<u16>);

/// That of `https` (RFC 9110 §4.2.2).
const HTTPS: u16 = 443;

impl Serialize for ToHttps {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => s.serialize_bool(false),
            Some(HTTPS) => s.serialize_bool(true),
            Some(port) => s.serialize_u16(port),
        }
    }
}

impl<'de> Deserialize<'de> for ToHttps {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ToHttpsVisitor)
    }
}

struct ToHttpsVisitor;

impl Visitor<'_> for ToHttpsVisitor {
    type Value = ToHttps;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or the port of a listener with TLS")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<ToHttps, E> {
        Ok(ToHttps(value.then_some(HTTPS)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<ToHttps, E> {
        let port = u16::try_from(value).ok().filter(|port| *port > 0);
        match port {
            Some(port) => Ok(ToHttps(Some(port))),
            None => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }
}
