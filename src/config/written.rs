//! Values that are written as one word: what they have in common when they are read.
//!
//! A type says in [`Written`] how it is parsed and what it is called; reading it from a document, and the wording when
//! something else stands there, is the same for all and decided here.

use super::fault::{mismatch, quoted};
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A value that is written as one word.
pub(crate) trait Written: Sized {
    /// What it is, with an example: "a duration such as 3s".
    const EXPECTED: &'static str;

    /// Reads the word.
    ///
    /// # Errors
    /// It is no such value.
    fn parse(word: &str) -> Result<Self, Complaint>;

    /// What a bare number may have been meant for.
    fn meant_by_number(number: &str) -> Option<String> {
        Some(format!("put it in quotes: \"{number}\""))
    }
}

/// Why a word is not the value that was expected.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// In place of "expected …, found …".
    pub(crate) message: Option<String>,
    /// What may put it right.
    pub(crate) help: Option<String>,
}

impl Complaint {
    /// It is something else altogether.
    pub(crate) fn unfit() -> Self {
        Complaint::default()
    }

    /// It is something else, and `help` may put it right.
    pub(crate) fn help(help: impl Into<String>) -> Self {
        Complaint {
            message: None,
            help: Some(help.into()),
        }
    }

    /// It cannot be used for a reason of its own.
    pub(crate) fn because(message: impl Into<String>) -> Self {
        Complaint {
            message: Some(message.into()),
            help: None,
        }
    }

    /// The same with a remedy.
    pub(crate) fn or(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// `did you mean this?`
pub(crate) fn meant(this: impl fmt::Display) -> String {
    format!("did you mean {this}?")
}

/// Reads a [`Written`] value from a document.
pub(crate) fn deserialize<'de, T: Written, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    d.deserialize_any(WrittenVisitor(PhantomData))
}

/// An error with a help line, in the form that `config::decode` takes apart again.
pub(crate) fn error<E: Error>(message: &str, help: Option<String>) -> E {
    let message = message.replace('\n', " ");
    match help {
        Some(help) => E::custom(format_args!("{message}\n{help}")),
        None => E::custom(message),
    }
}

struct WrittenVisitor<T>(PhantomData<T>);

impl<T: Written> WrittenVisitor<T> {
    fn number<E: Error>(self, found: Unexpected<'_>, number: String) -> Result<T, E> {
        Err(error(
            &mismatch(T::EXPECTED, found),
            T::meant_by_number(&number),
        ))
    }
}

impl<T: Written> Visitor<'_> for WrittenVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<T, E> {
        T::parse(word).map_err(|complaint| {
            let plain = || format!("expected {}, found {}", T::EXPECTED, quoted(word));
            error(&complaint.message.unwrap_or_else(plain), complaint.help)
        })
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        self.number(Unexpected::Unsigned(value), value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        self.number(Unexpected::Signed(value), value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        self.number(Unexpected::Float(value), value.to_string())
    }
}

/// `Deserialize` by way of [`Written`], and `Serialize` by way of `Display`.
macro_rules! written {
    ($($type:ty),+) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                $crate::config::written::deserialize(d)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
    )+};
}
pub(crate) use written;
