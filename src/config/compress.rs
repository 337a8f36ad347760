//! `compress` of a route or of `defaults`, as written.
//!
//! What a route leaves out comes from `defaults`, and what those leave out is filled in here. Which answers are
//! compressed in the end, and how, is decided by `policy::encoding`.

use super::fault::mismatch;
use super::size::Size;
use super::suggest;
use super::written::{Complaint, Written, error, meant, written};
use crate::policy::encoding::{Coding, CompressPolicy, MediaType};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// `compress`.
#[derive(Debug, Clone)]
pub(crate) enum CompressSpec {
    /// Nothing is compressed, whatever the defaults say.
    Off,
    /// Answers are compressed by these rules.
    On(RulesSpec),
}

/// The rules of a `compress` that is not off. `true` is the one without any.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { codings: [zstd, br, gzip] }"
)]
pub(crate) struct RulesSpec {
    codings: Option<Vec<CodingWord>>,
    types: Option<Vec<TypePattern>>,
    min_size: Option<Size>,
}

/// The types that are compressed if nothing else is said: those that are text in disguise.
const TYPES: [&str; 8] = [
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/*+json",
    "application/*+xml",
    "image/svg+xml",
    "application/wasm",
];

/// The smallest answer that is compressed, if nothing else is said.
const MIN_SIZE: Size = Size(1 << 10);

impl RulesSpec {
    fn over(&self, base: &RulesSpec) -> RulesSpec {
        RulesSpec {
            codings: self.codings.clone().or_else(|| base.codings.clone()),
            types: self.types.clone().or_else(|| base.types.clone()),
            min_size: self.min_size.or(base.min_size),
        }
    }

    fn filled(&self) -> RulesSpec {
        self.over(&RulesSpec {
            codings: Some(CODINGS.map(|(_, coding)| CodingWord(coding)).to_vec()),
            types: Some(TYPES.map(|t| TypePattern(t.to_string())).to_vec()),
            min_size: Some(MIN_SIZE),
        })
    }
}

impl CompressSpec {
    /// What is said here, and what `base` says where this says nothing.
    pub(crate) fn over(&self, base: &CompressSpec) -> CompressSpec {
        match (self, base) {
            (CompressSpec::On(own), CompressSpec::On(base)) => CompressSpec::On(own.over(base)),
            (own, _) => own.clone(),
        }
    }

    /// Every key filled in.
    pub(crate) fn filled(&self) -> CompressSpec {
        match self {
            CompressSpec::Off => CompressSpec::Off,
            CompressSpec::On(rules) => CompressSpec::On(rules.filled()),
        }
    }

    /// What the proxy goes by; nothing if nothing is compressed.
    pub(crate) fn compile(&self) -> Option<CompressPolicy> {
        let CompressSpec::On(rules) = self else {
            return None;
        };
        let rules = rules.filled();
        let types = rules.types.into_iter().flatten();
        Some(CompressPolicy {
            codings: rules.codings.into_iter().flatten().map(|c| c.0).collect(),
            types: types.map(|pattern| MediaType(pattern.0)).collect(),
            min_size: rules.min_size.unwrap_or(MIN_SIZE).0,
        })
    }

    /// The keys whose lists are empty.
    pub(crate) fn empty_lists(&self) -> Vec<&'static str> {
        let CompressSpec::On(rules) = self else {
            return Vec::new();
        };
        let codings = rules.codings.as_ref().is_some_and(Vec::is_empty);
        let types = rules.types.as_ref().is_some_and(Vec::is_empty);
        [(codings, "codings"), (types, "types")]
            .into_iter()
            .filter_map(|(empty, key)| empty.then_some(key))
            .collect()
    }

    /// What stands in a list twice: its key, where it stands first and where again, and what it is.
    pub(crate) fn repeated(&self) -> Vec<(&'static str, usize, usize, String)> {
        let CompressSpec::On(rules) = self else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut look = |key, words: Vec<String>| {
            for (second, word) in words.iter().enumerate() {
                let first = words.iter().position(|other| other == word);
                if let Some(first) = first.filter(|first| *first < second) {
                    found.push((key, first, second, word.clone()));
                }
            }
        };
        let codings = rules.codings.iter().flatten();
        look("codings", codings.map(CodingWord::to_string).collect());
        let types = rules.types.iter().flatten();
        look("types", types.map(TypePattern::to_string).collect());
        found
    }
}

/// One entry of `codings`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CodingWord(Coding);

/// The words in `Content-Encoding` (RFC 9110 §8.4.1), the coding preferred first where nothing else is said.
const CODINGS: [(&str, Coding); 3] = [
    ("zstd", Coding::Zstd),
    ("br", Coding::Brotli),
    ("gzip", Coding::Gzip),
];

impl Written for CodingWord {
    const EXPECTED: &'static str = "zstd, br or gzip";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if let Some((_, coding)) = CODINGS.into_iter().find(|(name, _)| *name == word) {
            return Ok(CodingWord(coding));
        }
        let lower = word.to_ascii_lowercase();
        let near = match lower.as_str() {
            "brotli" => Some("br"),
            "gz" | "x-gzip" | "deflate" => Some("gzip"),
            "zst" | "zstandard" => Some("zstd"),
            other => suggest::nearest(other, CODINGS.into_iter().map(|(name, _)| name)),
        };
        Err(Complaint {
            message: None,
            help: near.map(meant),
        })
    }

    fn meant_by_number(_: &str) -> Option<String> {
        None
    }
}

impl fmt::Display for CodingWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = CODINGS.into_iter().find(|(_, coding)| *coding == self.0);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// One entry of `types`, in lower case: `application/json`, `text/*` for all of a kind, `application/*+json` for all
/// of a kind that end so (RFC 6838 §4.2.8).
#[derive(Debug, Clone, PartialEq, Eq)]
struct TypePattern(String);

/// Whether `word` can be a part of a media type (RFC 6838 §4.2).
fn is_type_name(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 127
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
}

impl Written for TypePattern {
    const EXPECTED: &'static str = "a media type such as text/html, text/* or application/*+json";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if let Some((essence, _)) = word.split_once(';') {
            let complaint = Complaint::because("a media type is matched without its parameters");
            return Err(match Self::parse(essence.trim_end()) {
                Ok(pattern) => complaint.or(meant(pattern)),
                Err(_) => complaint,
            });
        }
        let lower = word.to_ascii_lowercase();
        if let Some((kind, subtype)) = lower.split_once('/') {
            let tail = subtype.strip_prefix('*');
            let fits = match tail {
                Some("") => true,
                Some(suffix) => suffix.strip_prefix('+').is_some_and(is_type_name),
                None => is_type_name(subtype),
            };
            if is_type_name(kind) && fits {
                return Ok(TypePattern(lower));
            }
            if kind == "*" {
                return Err(Complaint::because(
                    "compressing every type wastes time on what is compressed already: list the types",
                ));
            }
            return Err(Complaint::unfit());
        }
        // `json` for application/json, `text` for text/*.
        let whole = TYPES.into_iter().find(|known| {
            known.split_once('/').is_some_and(|(kind, subtype)| {
                subtype == lower && subtype != "*" || kind == lower && subtype == "*"
            })
        });
        let help = match (whole, lower.as_str()) {
            (Some(whole), _) => Some(whole),
            (None, "html") => Some("text/html"),
            (None, "css") => Some("text/css"),
            (None, "js") => Some("application/javascript"),
            (None, "svg") => Some("image/svg+xml"),
            _ => None,
        };
        Err(Complaint {
            message: None,
            help: help.map(meant),
        })
    }

    fn meant_by_number(_: &str) -> Option<String> {
        None
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written!(CodingWord, TypePattern);

impl Serialize for CompressSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            CompressSpec::Off => s.serialize_str("off"),
            CompressSpec::On(rules) => rules.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for CompressSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(CompressVisitor)
    }
}

struct CompressVisitor;

const COMPRESS: &str = "true, off or a mapping such as { codings: [zstd, br, gzip] }";

impl<'de> Visitor<'de> for CompressVisitor {
    type Value = CompressSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(COMPRESS)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<CompressSpec, E> {
        if value {
            return Ok(CompressSpec::On(RulesSpec::default()));
        }
        let message = mismatch(COMPRESS, Unexpected::Bool(value));
        Err(error(&message, Some(meant("off"))))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<CompressSpec, E> {
        let help = match (value, CodingWord::parse(value)) {
            ("off", _) => return Ok(CompressSpec::Off),
            ("on" | "yes", _) => Some(meant("true")),
            ("no" | "none" | "never", _) => Some(meant("off")),
            (_, Ok(coding)) => Some(meant(format_args!("{{ codings: [{coding}] }}"))),
            (_, Err(_)) => suggest::nearest(value, ["true", "off"].into_iter()).map(meant),
        };
        Err(error(&mismatch(COMPRESS, Unexpected::Str(value)), help))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CompressSpec, A::Error> {
        RulesSpec::deserialize(MapAccessDeserializer::new(map)).map(CompressSpec::On)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(text: &str) -> CompressSpec {
        serde_yaml::from_str(text).unwrap()
    }

    fn types(policy: &CompressPolicy) -> Vec<&str> {
        policy.types.iter().map(|t| &*t.0).collect()
    }

    #[test]
    fn defaults_and_off() {
        for text in ["true", "{}"] {
            let policy = spec(text).compile().unwrap();
            assert_eq!(policy.codings, CODINGS.map(|(_, coding)| coding));
            assert_eq!(types(&policy), TYPES);
            assert_eq!(policy.min_size, 1024);
            assert_eq!(spec(text).filled().compile(), Some(policy));
        }
        assert_eq!(spec("off").filled().compile(), None);
        // Every default could have been written.
        for pattern in TYPES {
            assert_eq!(TypePattern::parse(pattern), Ok(TypePattern(pattern.into())));
        }
    }

    #[test]
    fn a_route_wins_over_the_defaults_key_by_key() {
        let base = spec("{ codings: [gzip], min_size: 4KiB }");
        let merged = spec("{ codings: [br, zstd], types: [TEXT/HTML] }").over(&base);
        let policy = merged.compile().unwrap();
        assert_eq!(policy.codings, [Coding::Brotli, Coding::Zstd]);
        assert_eq!(types(&policy), ["text/html"]);
        assert_eq!(policy.min_size, 4096);
        assert_eq!(spec("true").over(&base).compile(), base.compile());
        assert_eq!(spec("off").over(&base).compile(), None);
        assert_eq!(
            spec("true").over(&spec("off")).compile(),
            spec("true").compile()
        );
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for text in [
            "off",
            "true",
            "{ codings: [br], types: [text/*, application/*+json], min_size: 0B }",
        ] {
            let shown = serde_yaml::to_string(&spec(text).filled()).unwrap();
            assert_eq!(spec(&shown).compile(), spec(text).compile(), "{shown}");
        }
    }

    #[test]
    fn lists_that_make_no_sense() {
        let odd = spec("{ codings: [br, gzip, br, br], types: [] }");
        assert_eq!(odd.empty_lists(), ["types"]);
        let twice = |second| ("codings", 0, second, "br".to_string());
        assert_eq!(odd.repeated(), [twice(2), twice(3)]);
        let fine = spec("{ types: [text/*, text/html] }");
        assert!(fine.empty_lists().is_empty() && fine.repeated().is_empty());
        let spelt = spec("{ types: [text/html, TEXT/html] }");
        assert_eq!(spelt.repeated().len(), 1);
    }

    #[test]
    fn words() {
        for (text, help) in [
            ("brotli", Some("did you mean br?")),
            ("GZIP", Some("did you mean gzip?")),
            ("gizp", Some("did you mean gzip?")),
            ("zstandard", Some("did you mean zstd?")),
            ("identity", None),
            ("", None),
        ] {
            let complaint = CodingWord::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
        for (text, help) in [
            ("json", Some("did you mean application/json?")),
            ("text", Some("did you mean text/*?")),
            ("html", Some("did you mean text/html?")),
            ("text/html; charset=utf-8", Some("did you mean text/html?")),
            ("image", None),
            ("*/*", None),
            ("*", None),
            ("text/", None),
            ("/html", None),
            ("text/*html", None),
            ("text/*+", None),
            ("text/h*", None),
            ("te xt/html", None),
            ("text/html/x", None),
            ("", None),
        ] {
            let complaint = TypePattern::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_shown_is_read_again(text in "\\PC{0,20}|[a-zA-Z*]{0,5}/[a-z*+;]{0,6}") {
            let _ = CodingWord::parse(&text);
            if let Ok(pattern) = TypePattern::parse(&text) {
                prop_assert_eq!(TypePattern::parse(&pattern.to_string()), Ok(pattern));
            }
        }
    }
}
