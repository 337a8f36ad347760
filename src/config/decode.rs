//! From a tree of plain values to the specs, with every error and not just the first.
//!
//! Serde stops at the first error. So [`decode`] notes it, leaves the value at fault out, and reads again, until the rest can
//! be read or nothing more can be learnt; errors that only follow from what was left out are not reported. A correct document
//! is read exactly once. Called by `config::load` for each part of a document.

use super::fault::{Fault, NodeId, alternatives, mismatch, quoted};
use super::keypath::{KeyPath, Step};
use super::report::{Document, Report};
use super::tree::Node;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use std::collections::HashSet;

/// Errors in one value after which reading it is given up: more are no help, and each costs a further reading.
const ENOUGH: usize = 200;

/// What came of a value.
pub(crate) struct Decoded<T> {
    /// What could be read of it.
    pub(crate) value: Option<T>,
    /// Whether that is all of it. Where it is not, positions in lists have shifted and absence proves nothing.
    pub(crate) whole: bool,
}

/// Reads a value, which is found at `path` of `document`, and reports what is wrong with it.
pub(crate) fn decode<'n, T: de::Deserialize<'n>>(
    node: &'n Node,
    document: Document,
    path: &KeyPath,
    report: &mut Report,
) -> Decoded<T> {
    let mut left_out = HashSet::new();
    for _ in 0..ENOUGH {
        let fault = match T::deserialize(Decoder {
            node,
            left_out: &left_out,
        }) {
            Ok(value) => {
                return Decoded {
                    value: Some(value),
                    whole: left_out.is_empty(),
                };
            }
            Err(fault) => *fault.0,
        };
        if !fault.follows {
            let steps = path
                .0
                .iter()
                .cloned()
                .chain(fault.trail.into_iter().rev())
                .collect();
            report.add(document, KeyPath(steps), fault.message).help = fault.help;
        }
        match fault.node {
            Some(node) if left_out.insert(node) => {}
            _ => break,
        }
    }
    Decoded {
        value: None,
        whole: false,
    }
}

#[derive(Clone, Copy)]
struct Decoder<'n, 'l> {
    node: &'n Node,
    left_out: &'l HashSet<NodeId>,
}

impl<'n> Decoder<'n, '_> {
    fn unexpected(self) -> Unexpected<'n> {
        match self.node {
            Node::Null => Unexpected::Unit,
            Node::Bool(value) => Unexpected::Bool(*value),
            Node::Unsigned(value) => Unexpected::Unsigned(*value),
            Node::Signed(value) => Unexpected::Signed(*value),
            Node::Float(value) => Unexpected::Float(*value),
            Node::Text(value) => Unexpected::Str(value),
            Node::List(_) => Unexpected::Seq,
            Node::Map(_) => Unexpected::Map,
        }
    }

    fn mismatch(self, expected: &dyn Expected, help: Option<String>) -> Fault {
        Fault::new(mismatch(&expected.to_string(), self.unexpected()), help)
    }
}

impl<'de> Deserializer<'de> for Decoder<'de, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Unsigned(value) => visitor.visit_u64(*value),
            Node::Signed(value) => visitor.visit_i64(*value),
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Text(value) => visitor.visit_borrowed_str(value),
            Node::List(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                left_out: self.left_out,
            }),
            Node::Map(entries) => visitor
                .visit_map(Entries {
                    entries: entries.iter(),
                    value: None,
                    left_out: self.left_out,
                })
                .map_err(|fault| fault.in_mapping(self.node)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Bool(_) | Node::Unsigned(_) | Node::Signed(_) => {
                let written = self.unexpected().to_string();
                let word = written.split('`').nth(1).unwrap_or_default();
                Err(self.mismatch(&visitor, Some(format!("put it in quotes: \"{word}\""))))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_string(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Unsigned(value) => {
                Err(self.mismatch(&visitor, Some(format!("did you mean [{value}]?"))))
            }
            Node::Text(value) if value.len() < 80 && !value.contains(['\n', '[', ',']) => {
                Err(self.mismatch(&visitor, Some(format!("did you mean [{value}]?"))))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node {
            Node::Map(_) => self.deserialize_any(visitor),
            // Serde would read a list as the fields in their order; no operator would.
            _ => Err(self.mismatch(&visitor, None)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node {
            Node::Text(word) => visitor.visit_enum(Variant {
                word,
                content: None,
                left_out: self.left_out,
            }),
            Node::Map(entries) => match &entries[..] {
                [(word, content)] => visitor.visit_enum(Variant {
                    word,
                    content: Some(content),
                    left_out: self.left_out,
                }),
                _ => Err(self.mismatch(&&*alternatives(variants), None)),
            },
            _ => Err(self.mismatch(&&*alternatives(variants), None)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct map identifier
    }
}

struct Items<'n, 'l> {
    items: std::iter::Enumerate<std::slice::Iter<'n, Node>>,
    left_out: &'l HashSet<NodeId>,
}

impl<'n> SeqAccess<'n> for Items<'n, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'n>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let left_out = self.left_out;
        let next = self
            .items
            .find(|(_, node)| !left_out.contains(&std::ptr::from_ref(*node)));
        let Some((index, node)) = next else {
            return Ok(None);
        };
        seed.deserialize(Decoder { node, left_out })
            .map(Some)
            .map_err(|fault| fault.under(|| Step::Index(index), node))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'n, 'l> {
    entries: std::slice::Iter<'n, (String, Node)>,
    value: Option<&'n (String, Node)>,
    left_out: &'l HashSet<NodeId>,
}

impl<'n> MapAccess<'n> for Entries<'n, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'n>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let left_out = self.left_out;
        self.value = self
            .entries
            .find(|(_, node)| !left_out.contains(&std::ptr::from_ref(node)));
        let Some((key, node)) = self.value else {
            return Ok(None);
        };
        seed.deserialize(de::value::BorrowedStrDeserializer::new(key))
            .map(Some)
            .map_err(|fault: Fault| fault.under(|| Step::Key(key.clone()), node))
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, node)) = self.value else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(Decoder {
            node,
            left_out: self.left_out,
        })
        .map_err(|fault| fault.under(|| Step::Key(key.clone()), node))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A word, or a mapping with one key: `round_robin`, `hash: { on: uri }`.
struct Variant<'n, 'l> {
    word: &'n str,
    content: Option<&'n Node>,
    left_out: &'l HashSet<NodeId>,
}

impl<'n> EnumAccess<'n> for Variant<'n, '_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'n>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let variant = seed.deserialize(de::value::BorrowedStrDeserializer::new(self.word))?;
        Ok((variant, self))
    }
}

impl<'n> VariantAccess<'n> for Variant<'n, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Fault::new(
                format!("{} takes no settings of its own", quoted(self.word)),
                Some(format!("write just {}", self.word)),
            )),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'n>>(self, seed: T) -> Result<T::Value, Fault> {
        let Some(node) = self.content else {
            return Err(Fault::new(
                format!("{} needs a value of its own", quoted(self.word)),
                Some(format!("write it as a mapping, {{ {}: … }}", self.word)),
            ));
        };
        seed.deserialize(Decoder {
            node,
            left_out: self.left_out,
        })
        .map_err(|mut fault| {
            // Without its content the word is worth nothing, so it is not this node that is left out but the one around it.
            fault.0.trail.push(Step::Key(self.word.to_string()));
            fault
        })
    }

    fn tuple_variant<V: Visitor<'n>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::new(
            mismatch(&visitor_text(&visitor), Unexpected::TupleVariant),
            None,
        ))
    }

    fn struct_variant<V: Visitor<'n>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        Err(Fault::new(
            mismatch(&visitor_text(&visitor), Unexpected::StructVariant),
            None,
        ))
    }
}

fn visitor_text(expected: &dyn Expected) -> String {
    expected.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, expecting = "an outer mapping")]
    struct Outer {
        number: u8,
        list: Vec<Inner>,
        word: Option<Word>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, expecting = "an inner mapping")]
    struct Inner {
        flag: bool,
        text: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Plain,
        With(Inner),
    }

    fn read(text: &str) -> (Decoded<Outer>, Vec<String>) {
        let root = tree::parse(text).remove(0).unwrap().root;
        let mut report = Report::default();
        let decoded = decode(&root, Document::first(0), &KeyPath::default(), &mut report);
        let sources = [super::super::report::Source {
            name: "f".into(),
            text: text.to_string(),
        }];
        let roots = std::iter::once((Document::first(0), &root)).collect();
        let errors = report.finish(&sources, &roots).err();
        let lines = errors.iter().flat_map(|e| e.iter());
        (
            decoded,
            lines
                .map(|e| format!("{}: {}", e.path, e.message))
                .collect(),
        )
    }

    #[test]
    fn a_correct_value_is_read_whole() {
        let (decoded, errors) =
            read("number: 1\nlist: [{ flag: true }]\nword: { with: { flag: false } }\n");
        let value = decoded.value.unwrap();
        assert!(decoded.whole && errors.is_empty());
        assert_eq!((value.number, value.list.len()), (1, 1));
        assert!(value.list[0].flag && value.list[0].text.is_none());
        assert!(matches!(value.word, Some(Word::With(inner)) if !inner.flag));
        let (decoded, _) = read("number: 1\nlist: []\nword: plain\n");
        assert!(matches!(decoded.value.unwrap().word, Some(Word::Plain)));
    }

    #[test]
    fn every_error_is_found_and_none_that_only_follows() {
        let (decoded, errors) = read(
            "number: many\nextra: 1\nlist:\n- { flag: 3, text: 4 }\n- { flag: true, txt: a, more: b }\n- [true]\n- {}\n\
             - { flag: true }\nword: plane\nother: 2\n",
        );
        assert!(decoded.value.is_none() && !decoded.whole);
        assert_eq!(
            errors,
            [
                "number: expected u8, found \"many\"",
                "extra: unknown key",
                "list[0].flag: expected true or false, found the number 3",
                "list[0].text: expected text, found the number 4",
                "list[1].txt: unknown key",
                "list[1].more: unknown key",
                "list[2]: expected an inner mapping, found a list",
                "list[3].flag: required, but missing",
                "word: expected plain or with, found \"plane\"",
                "other: unknown key",
            ]
        );
    }

    #[test]
    fn what_remains_is_still_read() {
        let (decoded, errors) = read("number: 1\nlist: [{ flag: x }, { flag: true }]\n");
        assert_eq!(
            (decoded.value.unwrap().list.len(), decoded.whole),
            (1, false)
        );
        assert_eq!(
            errors,
            ["list[0].flag: expected true or false, found \"x\""]
        );
    }
}
