//! `cache`, as written: that of a route or of `defaults`, and that of the static file.
//!
//! What a route leaves out comes from `defaults`, and what those leave out is filled in here; but for `ttl`, which somebody
//! has to say. `config::compile` sees to that, `settings` reads the [`StoreSpec`].

use super::duration::{PositiveSpan, Span};
use super::fault::mismatch;
use super::headers::ReadName;
use super::size::Size;
use super::suggest;
use super::tree::Node;
use super::upstreams::CookieName;
use super::written::{Complaint, Written, error, meant, written};
use crate::policy::cache::{CachePolicy, Per};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// `cache` of a route or of `defaults`.
#[derive(Debug, Clone)]
pub(crate) enum CacheSpec {
    /// Nothing is stored, whatever the defaults say.
    Off,
    /// Answers are stored by these rules.
    On(RulesSpec),
}

/// The rules of a `cache` that is not off.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping such as { ttl: 2m }")]
pub(crate) struct RulesSpec {
    ttl: Option<PositiveSpan>,
    shared: Option<bool>,
    // Else its entries would be written with YAML tags.
    #[serde(serialize_with = "serde_yaml::with::singleton_map_recursive::serialize")]
    per: Option<Vec<PerSpec>>,
    stale_if_error: Option<Span>,
    max_object: Option<Size>,
}

/// One entry of `per`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum PerSpec {
    Cookie(CookieName),
    Header(ReadName),
}

/// The largest answer that is stored, if nothing else is said.
const MAX_OBJECT: Size = Size(1 << 20);

impl CacheSpec {
    /// What is said here, and what `base` says where this says nothing.
    pub(crate) fn over(&self, base: &CacheSpec) -> CacheSpec {
        match (self, base) {
            (CacheSpec::On(own), CacheSpec::On(base)) => CacheSpec::On(RulesSpec {
                ttl: own.ttl.or(base.ttl),
                shared: own.shared.or(base.shared),
                per: own.per.clone().or_else(|| base.per.clone()),
                stale_if_error: own.stale_if_error.or(base.stale_if_error),
                max_object: own.max_object.or(base.max_object),
            }),
            (own, _) => own.clone(),
        }
    }

    /// Every key filled in that has a default.
    pub(crate) fn filled(&self) -> CacheSpec {
        self.over(&CacheSpec::On(RulesSpec {
            ttl: None,
            shared: Some(false),
            per: Some(Vec::new()),
            stale_if_error: Some(Span(Duration::ZERO)),
            max_object: Some(MAX_OBJECT),
        }))
    }

    /// What the proxy goes by; nothing if nothing is stored. The spec is merged and has passed the checks.
    pub(crate) fn compile(&self) -> Option<CachePolicy> {
        let CacheSpec::On(rules) = self else {
            return None;
        };
        let per = rules.per.iter().flatten().map(|per| match per {
            PerSpec::Cookie(name) => Per::Cookie(name.0.clone()),
            PerSpec::Header(name) => Per::Header(name.0.clone()),
        });
        let max_object = rules.max_object.unwrap_or(MAX_OBJECT).0;
        Some(CachePolicy {
            ttl: rules.ttl?.0,
            shared: rules.shared.unwrap_or(false),
            per: per.collect(),
            stale_if_error: rules.stale_if_error.map_or(Duration::ZERO, |span| span.0),
            max_object: usize::try_from(max_object).unwrap_or(usize::MAX),
        })
    }

    /// Whether answers are to be stored, but nobody has said for how long.
    pub(crate) fn lacks_ttl(&self) -> bool {
        matches!(self, CacheSpec::On(rules) if rules.ttl.is_none())
    }
}

/// Whether a `ttl` was written in `around`, a route or the defaults, but could not be read: then it is not missing.
pub(crate) fn ttl_left_out(around: Option<&Node>, read: Option<&CacheSpec>) -> bool {
    let there = |node: &&Node| **node != Node::Null;
    let cache = around.and_then(|node| node.get("cache")).filter(there);
    match read {
        None => cache.is_some(),
        Some(spec) => {
            spec.lacks_ttl()
                && cache
                    .and_then(|node| node.get("ttl"))
                    .filter(there)
                    .is_some()
        }
    }
}

impl Serialize for CacheSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            CacheSpec::Off => s.serialize_str("off"),
            CacheSpec::On(rules) => rules.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for CacheSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(CacheVisitor)
    }
}

struct CacheVisitor;

const CACHE: &str = "a mapping such as { ttl: 2m }, or off";

impl<'de> Visitor<'de> for CacheVisitor {
    type Value = CacheSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CACHE)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<CacheSpec, E> {
        let help = (!value).then(|| meant("off"));
        Err(error(&mismatch(CACHE, Unexpected::Bool(value)), help))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<CacheSpec, E> {
        let ttl = PositiveSpan::parse(&format!("{value}s")).ok();
        let help = ttl.map(|_| meant(format_args!("{{ ttl: {value}s }}")));
        Err(error(&mismatch(CACHE, Unexpected::Unsigned(value)), help))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<CacheSpec, E> {
        if value == "off" {
            return Ok(CacheSpec::Off);
        }
        let help = match PositiveSpan::parse(value) {
            Ok(ttl) => Some(meant(format_args!("{{ ttl: {ttl} }}"))),
            Err(_) if matches!(value, "no" | "none" | "never") => Some(meant("off")),
            Err(_) => suggest::nearest(value, ["off"].into_iter()).map(meant),
        };
        Err(error(&mismatch(CACHE, Unexpected::Str(value)), help))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CacheSpec, A::Error> {
        RulesSpec::deserialize(MapAccessDeserializer::new(map)).map(CacheSpec::On)
    }
}

/// `cache` of the static file: where answers are kept.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping such as { memory: 64MiB }")]
pub(crate) struct StoreSpec {
    memory: Option<MemorySize>,
}

impl StoreSpec {
    /// How the settings are written.
    pub(crate) fn of(memory: u64) -> StoreSpec {
        StoreSpec {
            memory: Some(MemorySize(memory)),
        }
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.map_or(64 << 20, |size| size.0)
    }
}

/// The size of the memory tier in bytes: below a mebibyte it would be full with one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MemorySize(u64);

impl MemorySize {
    const LEAST: u64 = 1 << 20;
}

impl Written for MemorySize {
    const EXPECTED: &'static str = "a size such as 64MiB";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match Size::parse(word) {
            Ok(Size(bytes)) if bytes >= Self::LEAST => Ok(MemorySize(bytes)),
            Ok(_) => Err(Complaint::because("this size must be at least 1MiB")),
            // Of a bare number a general size makes kibibytes.
            Err(Complaint { message: None, .. }) if word.bytes().all(|b| b.is_ascii_digit()) => {
                Err(Complaint {
                    message: None,
                    help: Self::meant_by_number(word),
                })
            }
            Err(complaint) => Err(complaint),
        }
    }

    fn meant_by_number(number: &str) -> Option<String> {
        match number.parse::<u64>() {
            Ok(0) | Err(_) => None,
            Ok(mebibytes) if mebibytes < Self::LEAST => Some(meant(format_args!("{mebibytes}MiB"))),
            Ok(bytes) => Some(meant(Size(bytes))),
        }
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Size(self.0).fmt(f)
    }
}

written!(MemorySize);

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::super::keypath::KeyPath;
    use super::super::report::{Document, Report};
    use super::super::tree;
    use super::*;
    use http::HeaderName;

    /// Read as in a file: the YAML crate alone would want tags in `per`.
    fn spec(text: &str) -> CacheSpec {
        let root = tree::parse(text).remove(0).unwrap().root;
        let mut report = Report::default();
        let read = decode(&root, Document::first(0), &KeyPath::default(), &mut report);
        assert_eq!((report.count(), read.whole), (0, true), "{text}");
        read.value.unwrap()
    }

    #[test]
    fn defaults_and_off() {
        let policy = spec("{ ttl: 2m }").filled().compile().unwrap();
        assert_eq!(
            policy,
            CachePolicy {
                ttl: Duration::from_secs(120),
                shared: false,
                per: Vec::new(),
                stale_if_error: Duration::ZERO,
                max_object: 1 << 20,
            }
        );
        // The defaults hold with and without having been filled in.
        assert_eq!(spec("{ ttl: 2m }").compile(), Some(policy));
        assert!(spec("off").filled().compile().is_none());
        assert!(spec("{}").filled().lacks_ttl() && !spec("off").lacks_ttl());
    }

    #[test]
    fn a_route_wins_over_the_defaults_key_by_key() {
        let base = spec("{ ttl: 2m, per: [{ cookie: session }], stale_if_error: 1h }");
        let own = spec("{ per: [{ header: X-Tenant }], max_object: 64KiB }");
        let policy = own.over(&base).filled().compile().unwrap();
        assert_eq!(
            policy,
            CachePolicy {
                ttl: Duration::from_secs(120),
                shared: false,
                per: vec![Per::Header(HeaderName::from_static("x-tenant"))],
                stale_if_error: Duration::from_secs(3600),
                max_object: 65_536,
            }
        );
        let dropped = spec("{ per: [] }").over(&base).compile().unwrap();
        assert!(dropped.per.is_empty());
        assert!(spec("off").over(&base).compile().is_none());
        let alone = spec("{ ttl: 1s }").over(&spec("off")).compile().unwrap();
        assert_eq!(alone.ttl, Duration::from_secs(1));
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for text in [
            "off",
            "{ ttl: 2m, shared: true }",
            "{ ttl: 1d, per: [{ cookie: session }, { header: X-Tenant }], stale_if_error: 1h }",
        ] {
            let shown = serde_yaml::to_string(&spec(text).filled()).unwrap();
            assert!(!shown.contains('!'), "{shown}");
            assert_eq!(spec(&shown).compile(), spec(text).compile(), "{shown}");
        }
    }

    #[test]
    fn memory() {
        assert_eq!(StoreSpec::default().memory(), 64 << 20);
        assert_eq!(MemorySize::parse("1MiB"), Ok(MemorySize(1 << 20)));
        assert_eq!(StoreSpec::of(5_000_000).memory(), 5_000_000);
        for (text, help) in [
            ("1023KiB", None),
            ("0B", None),
            ("64", Some("did you mean 64MiB?")),
            ("67108864", Some("did you mean 64MiB?")),
            ("64M", Some("did you mean 64MiB?")),
            ("0", None),
            ("much", None),
            ("", None),
        ] {
            let complaint = MemorySize::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
    }
}
