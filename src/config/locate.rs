//! The line of a key path in a text.
//!
//! Asked only for errors. It reads the text a second time, walks down the path and fails there on purpose: the YAML reader
//! adds to every error the place where it arose, and that place is the answer. So there is one YAML reader and no second
//! idea of where things are. A key is found on the key's own line, a list item where the item begins; what came by way of
//! an alias is found at its anchor.

use super::key::{Key, KeySeed};
use super::keypath::{KeyPath, Step};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// Which one, of a key that is written twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occurrence {
    /// The one that counts.
    First,
    /// The one that is too many.
    Second,
}

/// The line of `path` in document number `document` (from 0) of `text`; that of the nearest value around it where the path
/// leads to nothing.
pub(crate) fn line(
    text: &str,
    document: usize,
    path: &KeyPath,
    occurrence: Occurrence,
) -> Option<usize> {
    let mut steps = &path.0[..];
    let mut occurrence = occurrence;
    loop {
        if let Some(line) = search(text, document, steps, occurrence) {
            // A document of nothing lies behind the last line.
            return Some(line.clamp(1, text.lines().count().max(1)));
        }
        // A path that is not in the text: a key that is missing, or that came with a merge key.
        steps = steps.split_last()?.1;
        occurrence = Occurrence::First;
    }
}

/// Looks in the beginning of the text first, as reading a large one takes its time: what stands before the cut is read the
/// same with or without what follows.
fn search(text: &str, document: usize, steps: &[Step], occurrence: Occurrence) -> Option<usize> {
    let mut length = 64 * 1024;
    loop {
        let part = beginning(text, length);
        if let Some(line) = walk(part, document, steps, occurrence) {
            return Some(line);
        }
        if part.len() == text.len() {
            return None;
        }
        length *= 4;
    }
}

/// Whole lines of at most `length` bytes, or all of the text if it is no longer than that.
fn beginning(text: &str, length: usize) -> &str {
    if text.len() <= length {
        return text;
    }
    let end = text.as_bytes()[..length].iter().rposition(|b| *b == b'\n');
    &text[..end.map_or(0, |end| end + 1)]
}

fn walk(text: &str, document: usize, steps: &[Step], occurrence: Occurrence) -> Option<usize> {
    let reached = Cell::new(false);
    let reader = serde_yaml::Deserializer::from_str(text).nth(document)?;
    let walk = Walk {
        steps,
        occurrence,
        reached: &reached,
    };
    let error = walk.deserialize(reader).err().filter(|_| reached.get())?;
    error.location().map(|location| location.line())
}

#[derive(Clone, Copy)]
struct Walk<'w> {
    steps: &'w [Step],
    occurrence: Occurrence,
    reached: &'w Cell<bool>,
}

impl Walk<'_> {
    /// Fails, here: the reader adds the location.
    fn here<T, E: Error>(self) -> Result<T, E> {
        if self.steps.is_empty() {
            self.reached.set(true);
        }
        Err(E::custom("here"))
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value that is looked for")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.here()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.here()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.here()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.here()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.here()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.here()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.here()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.here()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.here()
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        // A tag is an error of its own; the value that carries it is as near as one gets.
        self.reached.set(true);
        Err(A::Error::custom("here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Some((Step::Index(index), rest)) = self.steps.split_first() {
            for _ in 0..*index {
                if list.next_element::<IgnoredAny>()?.is_none() {
                    return self.here();
                }
            }
            list.next_element_seed(Walk {
                steps: rest,
                ..self
            })?;
        }
        self.here()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.steps.split_first() else {
            return self.here();
        };
        let last = rest.is_empty();
        let skip = Cell::new(usize::from(last && self.occurrence == Occurrence::Second));
        let stop_at = |key: &str| {
            if !last || key != wanted {
                return false;
            }
            if skip.get() > 0 {
                skip.set(skip.get() - 1);
                return false;
            }
            self.reached.set(true);
            true
        };
        while let Some(Key(key)) = map.next_key_seed(KeySeed { stop_at: &stop_at })? {
            if !last && key == *wanted {
                return map.next_value_seed(Walk {
                    steps: rest,
                    ..self
                });
            }
            map.next_value::<IgnoredAny>()?;
        }
        self.here()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
base: &base
  tries: 3
  wait:
    3s
routes:
  - match: { path: /a,
      methods: [GET,
        POST] }
    retry: *base
  -
    name: \"two\"
    on: [500,
         502]
  - <<: *base
    name: three
  - *base
base: 5
\"9\": x
9.5: [
  a
]
---
second: document
list:
- 1

- 2
";

    fn at(path: &[&str]) -> Option<usize> {
        line(TEXT, 0, &path_of(path), Occurrence::First)
    }

    fn path_of(path: &[&str]) -> KeyPath {
        let step = |s: &&str| match s.parse() {
            Ok(index) if !["9", "9.5"].contains(s) => Step::Index(index),
            _ => Step::Key(s.to_string()),
        };
        KeyPath(path.iter().map(step).collect())
    }

    #[test]
    fn keys_scalars_and_items_in_block_and_flow_style() {
        for (path, expected) in [
            (&[][..], 2),
            (&["base"], 2),
            (&["base", "tries"], 3),
            (&["base", "wait"], 4),
            (&["routes"], 6),
            (&["routes", "0"], 7),
            (&["routes", "0", "match", "path"], 7),
            (&["routes", "0", "match", "methods"], 8),
            (&["routes", "0", "match", "methods", "0"], 8),
            (&["routes", "0", "match", "methods", "1"], 9),
            (&["routes", "1"], 12),
            (&["routes", "1", "on", "1"], 14),
            (&["9"], 19),
            (&["9.5", "0"], 21),
        ] {
            assert_eq!(at(path), Some(expected), "{path:?}");
        }
    }

    #[test]
    fn aliases_are_found_at_their_anchor_and_the_key_at_its_own_line() {
        assert_eq!(at(&["routes", "0", "retry"]), Some(10));
        assert_eq!(at(&["routes", "0", "retry", "wait"]), Some(4));
        assert_eq!(at(&["routes", "3", "tries"]), Some(3));
    }

    #[test]
    fn what_is_not_there_is_found_at_the_nearest_value_around_it() {
        assert_eq!(at(&["nothing"]), Some(2));
        assert_eq!(at(&["routes", "9"]), Some(6));
        assert_eq!(at(&["routes", "1", "missing", "deeper"]), Some(12));
        assert_eq!(at(&["base", "tries", "deeper"]), Some(3));
        // Merged, so not written there.
        assert_eq!(at(&["routes", "2", "tries"]), Some(15));
        assert_eq!(at(&["routes", "0", "0"]), Some(7));
    }

    #[test]
    fn large_texts_are_searched_from_their_beginning() {
        let items: String = (0..20_000)
            .map(|i| format!("- {{ a: {i},\n    b: [1,\n 2] }}\n"))
            .collect();
        let text = format!("list:\n{items}last: x\n");
        let find = |path: &[&str]| line(&text, 0, &path_of(path), Occurrence::First);
        for i in [0, 1, 1_000, 3_000, 5_000, 19_999] {
            assert_eq!(
                find(&["list", &i.to_string(), "b", "1"]),
                Some(4 + 3 * i),
                "{i}"
            );
        }
        assert_eq!(find(&["last"]), Some(60_002));
        assert_eq!(find(&["list", "20000"]), Some(1));
    }

    #[test]
    fn second_occurrences_and_second_documents() {
        let second = |path: &[&str]| line(TEXT, 0, &path_of(path), Occurrence::Second);
        assert_eq!(second(&["base"]), Some(18));
        assert_eq!(second(&["routes", "0", "match"]), Some(7));
        assert_eq!(
            line(TEXT, 1, &path_of(&["second"]), Occurrence::First),
            Some(24)
        );
        assert_eq!(
            line(TEXT, 1, &path_of(&["list", "1"]), Occurrence::First),
            Some(28)
        );
        assert_eq!(
            line(TEXT, 2, &path_of(&["second"]), Occurrence::First),
            None
        );
    }
}
