//! A YAML document as a tree of plain values, before any rule of the configuration is applied.
//!
//! Made once per document by [`parse`], read by `config::decode`. It is a type of its own, and not the YAML crate's, so
//! that a key written twice is one error among the others instead of the end of the reading.

use super::key::Key;
use super::keypath::{KeyPath, Step};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// Nothing was written, or `null`, or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from 0.
    Unsigned(u64),
    /// A whole number below 0.
    Signed(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file; no key occurs twice.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value under `key`, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Where in the document a path leads to, as positions to be compared with those of other paths.
    pub(crate) fn position(&self, path: &KeyPath) -> Vec<usize> {
        let mut position = Vec::with_capacity(path.0.len());
        let mut node = self;
        for step in &path.0 {
            let found = match (step, node) {
                (Step::Index(i), Node::List(items)) => items.get(*i).map(|item| (*i, item)),
                (Step::Key(key), Node::Map(entries)) => entries
                    .iter()
                    .enumerate()
                    .find(|(_, (k, _))| k == key)
                    .map(|(i, (_, v))| (i, v)),
                _ => None,
            };
            let Some((i, next)) = found else { break };
            position.push(i);
            node = next;
        }
        position
    }
}

/// Something in a document that no configuration may contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A key that its mapping already has.
    Duplicate,
    /// A YAML tag.
    Tag(String),
    /// A merge key (`<<`) with something else than mappings.
    Merge,
}

/// A document that is YAML.
pub(crate) struct Tree {
    /// Its value.
    pub(crate) root: Node,
    /// What must be put right in any case, in the order of the file.
    pub(crate) flaws: Vec<(KeyPath, Flaw)>,
}

/// Reads all documents of a text. An error is the YAML reader's own, with its location.
pub(crate) fn parse(text: &str) -> Vec<Result<Tree, serde_yaml::Error>> {
    let mut trees = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let flaws = RefCell::new(Vec::new());
        let place = Place {
            parent: None,
            step: StepRef::Index(0),
        };
        let root = TreeSeed {
            flaws: &flaws,
            place: &place,
        }
        .deserialize(document);
        let failed = root.is_err();
        trees.push(root.map(|root| Tree {
            root,
            flaws: flaws.into_inner(),
        }));
        // What follows a broken document is not worth reading, nor is a long row of documents.
        if failed || trees.len() > 2 {
            break;
        }
    }
    trees
}

/// Where the reading has got to: a list that lives on the stack, so that the way costs nothing unless it is wanted.
struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: StepRef<'p>,
}

#[derive(Clone, Copy)]
enum StepRef<'p> {
    Key(&'p str),
    Index(usize),
}

impl Place<'_> {
    fn path(&self) -> KeyPath {
        let mut steps = Vec::new();
        let mut place = self;
        // The outermost place stands for the document and is no step.
        while let Some(parent) = place.parent {
            steps.push(match place.step {
                StepRef::Key(key) => Step::Key(key.to_string()),
                StepRef::Index(index) => Step::Index(index),
            });
            place = parent;
        }
        steps.reverse();
        KeyPath(steps)
    }
}

#[derive(Clone, Copy)]
struct TreeSeed<'s> {
    flaws: &'s RefCell<Vec<(KeyPath, Flaw)>>,
    place: &'s Place<'s>,
}

impl TreeSeed<'_> {
    fn flaw(&self, path: KeyPath, flaw: Flaw) {
        self.flaws.borrow_mut().push((path, flaw));
    }
}

impl<'de> DeserializeSeed<'de> for TreeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TreeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or(Node::Signed(value), Node::Unsigned))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Float(value as f64))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Float(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        loop {
            let place = Place {
                parent: Some(self.place),
                step: StepRef::Index(items.len()),
            };
            match list.next_element_seed(TreeSeed {
                flaws: self.flaws,
                place: &place,
            })? {
                Some(item) => items.push(item),
                None => return Ok(Node::List(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut keys = Keys::default();
        let mut merged = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            let place = Place {
                parent: Some(self.place),
                step: StepRef::Key(&key),
            };
            if keys.contains(&entries, &key) {
                map.next_value::<IgnoredAny>()?;
                self.flaw(place.path(), Flaw::Duplicate);
                continue;
            }
            let value = map.next_value_seed(TreeSeed {
                flaws: self.flaws,
                place: &place,
            })?;
            if key == "<<" {
                match value {
                    Node::Map(entries) => merged.push(entries),
                    Node::List(items) if items.iter().all(|i| matches!(i, Node::Map(_))) => {
                        merged.extend(items.into_iter().filter_map(|item| match item {
                            Node::Map(entries) => Some(entries),
                            _ => None,
                        }));
                    }
                    _ => self.flaw(place.path(), Flaw::Merge),
                }
                continue;
            }
            keys.add(&entries, &key);
            entries.push((key, value));
        }
        // What the mapping says itself wins over what it merges, and the first mapping merged over the later ones.
        for (key, value) in merged.into_iter().flatten() {
            if !keys.contains(&entries, &key) {
                keys.add(&entries, &key);
                entries.push((key, value));
            }
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        let (Key(tag), content) = data.variant()?;
        let tag = format!("!{}", tag.trim_start_matches('!'));
        self.flaw(self.place.path(), Flaw::Tag(tag));
        content.newtype_variant_seed(self)
    }
}

/// The keys of a mapping, hashed once there are enough of them for that to pay.
#[derive(Default)]
struct Keys(Option<HashSet<String>>);

impl Keys {
    const FEW: usize = 24;

    fn contains(&self, entries: &[(String, Node)], key: &str) -> bool {
        match &self.0 {
            Some(keys) => keys.contains(key),
            None => entries.iter().any(|(k, _)| k == key),
        }
    }

    /// `entries` are those before `key`.
    fn add(&mut self, entries: &[(String, Node)], key: &str) {
        if self.0.is_none() && entries.len() >= Self::FEW {
            self.0 = Some(entries.iter().map(|(k, _)| k.clone()).collect());
        }
        if let Some(keys) = &mut self.0 {
            keys.insert(key.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        let mut trees = parse(text);
        assert_eq!(trees.len(), 1);
        trees.remove(0).unwrap()
    }

    fn flaws(text: &str) -> Vec<(String, Flaw)> {
        let flaws = tree(text).flaws;
        flaws
            .into_iter()
            .map(|(path, flaw)| (path.to_string(), flaw))
            .collect()
    }

    #[test]
    fn every_key_written_twice_is_found_and_the_first_stays() {
        let text = "a: 1\nb: { x: 1, x: 2 }\na: 3\nc: [ { y: 1, y: 1 } ]\n";
        let found: Vec<String> = flaws(text).into_iter().map(|(path, _)| path).collect();
        assert_eq!(found, ["b.x", "a", "c[0].y"]);
        assert_eq!(tree(text).root.get("a"), Some(&Node::Unsigned(1)));
        let many: String = (0..100).map(|i| format!("k{i}: 1\n")).collect();
        assert_eq!(flaws(&format!("{many}k7: 1\nk99: 1\n")).len(), 2);
    }

    #[test]
    fn merge_keys() {
        let text =
            "a: &a { x: 1, y: 2 }\nb: { <<: *a, y: 3 }\nc: { <<: [*a, { z: 4 }] }\nd: { <<: 5 }\n";
        let root = tree(text).root;
        let b = root.get("b").unwrap();
        assert_eq!(b.get("x"), Some(&Node::Unsigned(1)));
        assert_eq!(b.get("y"), Some(&Node::Unsigned(3)));
        assert_eq!(root.get("c").unwrap().get("z"), Some(&Node::Unsigned(4)));
        assert_eq!(flaws(text), [("d.<<".replace("<<", "\"<<\""), Flaw::Merge)]);
    }

    #[test]
    fn tags_are_flaws_and_keys_are_text() {
        assert!(
            matches!(&flaws("a: !x 1\n")[..], [(path, Flaw::Tag(tag))] if path == "a" && tag.contains('x'))
        );
        let root = tree("9001: a\ntrue: b\n~: c\n1.5: d\n").root;
        for key in ["9001", "true", "null", "1.5"] {
            assert!(root.get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn broken_yaml_is_an_error_with_a_location() {
        for text in [
            "a: [1\n",
            "a: b: c\n",
            "\t- x\n",
            "a: *nowhere\n",
            "{",
            "a: 1\n b: 2\n",
        ] {
            let trees = parse(text);
            let error = trees.into_iter().find_map(Result::err);
            assert!(error.is_some_and(|e| e.location().is_some()), "{text:?}");
        }
    }
}
