//! `cache` of a route or of `defaults`, as written.
//!
//! What a route leaves out comes from `defaults`, and what those leave out is filled in here; but for `ttl` or
//! `respect_origin`, one of which somebody has to say. `config::compile` sees to that. Where answers are kept is said
//! in the static file: `store`.

use super::duration::{PositiveSpan, Span};
use super::fault::mismatch;
use super::headers::ReadName;
use super::size::Size;
use super::suggest;
use super::tree::Node;
use super::upstreams::CookieName;
use super::written::{Written, error, meant};
use crate::policy::cache::{CachePolicy, Lifetime, Per};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<PositiveSpan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    respect_origin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<bool>,
    // Else its entries would be written with YAML tags.
    #[serde(serialize_with = "serde_yaml::with::singleton_map_recursive::serialize")]
    per: Option<Vec<PerSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_if_error: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_while_revalidate: Option<Span>,
    stale: Option<StaleSpec>,
    max_object: Option<Size>,
}

/// `stale`: when a stale answer stands in for an upstream that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum StaleSpec {
    /// When the retries have failed, too.
    Last,
    /// At once; the retries go on behind it.
    First,
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

impl RulesSpec {
    fn respects_origin(&self) -> bool {
        self.respect_origin == Some(true)
    }

    fn says_lifetime(&self) -> bool {
        self.ttl.is_some() || self.respects_origin()
    }

    fn over(&self, base: &RulesSpec) -> RulesSpec {
        // The two exclude each other: who says either says both.
        let (ttl, respect_origin) = if self.says_lifetime() {
            (self.ttl, self.respect_origin)
        } else {
            (base.ttl, self.respect_origin.or(base.respect_origin))
        };
        // What is shared where a `ttl` rules means nothing to a route that leaves it to the origin.
        let shared = base.shared.filter(|_| respect_origin != Some(true));
        RulesSpec {
            ttl,
            respect_origin,
            shared: self.shared.or(shared),
            per: self.per.clone().or_else(|| base.per.clone()),
            stale_if_error: self.stale_if_error.or(base.stale_if_error),
            stale_while_revalidate: self.stale_while_revalidate.or(base.stale_while_revalidate),
            stale: self.stale.or(base.stale),
            max_object: self.max_object.or(base.max_object),
        }
    }

    /// Left out and `0s` are the same: for a `ttl` never, for the origin as long as it says.
    fn window(span: Option<Span>) -> Option<Duration> {
        span.map(|span| span.0).filter(|window| !window.is_zero())
    }
}

impl CacheSpec {
    /// What is said here, and what `base` says where this says nothing.
    pub(crate) fn over(&self, base: &CacheSpec) -> CacheSpec {
        match (self, base) {
            (CacheSpec::On(own), CacheSpec::On(base)) => CacheSpec::On(own.over(base)),
            (own, _) => own.clone(),
        }
    }

    /// Every key filled in that has a default.
    pub(crate) fn filled(&self) -> CacheSpec {
        let CacheSpec::On(rules) = self else {
            return CacheSpec::Off;
        };
        // Of the origin's answers it is the origin that says how stale they may be, if the route does not.
        let never = Some(Span(Duration::ZERO)).filter(|_| !rules.respects_origin());
        let filled = rules.over(&RulesSpec {
            ttl: None,
            respect_origin: None,
            shared: Some(false),
            per: Some(Vec::new()),
            stale_if_error: never,
            stale_while_revalidate: never,
            stale: Some(StaleSpec::Last),
            max_object: Some(MAX_OBJECT),
        });
        CacheSpec::On(RulesSpec {
            respect_origin: filled.respect_origin.filter(|respected| *respected),
            ..filled
        })
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
        let lifetime = match rules.ttl {
            _ if rules.respects_origin() => Lifetime::Origin,
            ttl => Lifetime::Ttl(ttl?.0),
        };
        Some(CachePolicy {
            lifetime,
            shared: rules.shared.unwrap_or(false),
            per: per.collect(),
            stale_if_error: RulesSpec::window(rules.stale_if_error),
            stale_while_revalidate: RulesSpec::window(rules.stale_while_revalidate),
            stale_first: rules.stale == Some(StaleSpec::First),
            max_object: rules.max_object.unwrap_or(MAX_OBJECT).0,
        })
    }

    /// Whether answers are to be stored, but nobody has said for how long.
    pub(crate) fn lacks_lifetime(&self) -> bool {
        matches!(self, CacheSpec::On(rules) if !rules.says_lifetime())
    }

    /// Whether it says twice how long answers are stored, in ways that exclude each other.
    pub(crate) fn contradicts_itself(&self) -> bool {
        matches!(self, CacheSpec::On(rules) if rules.ttl.is_some() && rules.respects_origin())
    }

    /// Whether it says who shares answers, though once `merged` it is the origin that does.
    pub(crate) fn shares_for_the_origin(&self, merged: &CacheSpec) -> bool {
        matches!((self, merged), (CacheSpec::On(own), CacheSpec::On(merged))
            if own.shared.is_some() && merged.respects_origin())
    }
}

/// Whether `around`, a route or the defaults, says how long answers are stored in a way that could not be read: then
/// it is not missing.
pub(crate) fn lifetime_left_out(around: Option<&Node>, read: Option<&CacheSpec>) -> bool {
    let there = |node: &&Node| **node != Node::Null;
    let cache = around.and_then(|node| node.get("cache")).filter(there);
    let written = |key| cache.and_then(|node| node.get(key)).filter(there).is_some();
    match read {
        None => cache.is_some(),
        Some(CacheSpec::Off) => false,
        Some(CacheSpec::On(rules)) => {
            rules.ttl.is_none() && written("ttl")
                || rules.respect_origin.is_none() && written("respect_origin")
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
            Err(_) if value == "respect_origin" => Some(meant("{ respect_origin: true }")),
            Err(_) => suggest::nearest(value, ["off"].into_iter()).map(meant),
        };
        Err(error(&mismatch(CACHE, Unexpected::Str(value)), help))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CacheSpec, A::Error> {
        RulesSpec::deserialize(MapAccessDeserializer::new(map)).map(CacheSpec::On)
    }
}

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
                lifetime: Lifetime::Ttl(Duration::from_secs(120)),
                shared: false,
                per: Vec::new(),
                stale_if_error: None,
                stale_while_revalidate: None,
                stale_first: false,
                max_object: 1 << 20,
            }
        );
        // The defaults hold with and without having been filled in.
        assert_eq!(spec("{ ttl: 2m }").compile().as_ref(), Some(&policy));
        assert!(spec("off").filled().compile().is_none());
        assert!(spec("{}").filled().lacks_lifetime() && !spec("off").lacks_lifetime());
        assert!(spec("{ respect_origin: false }").lacks_lifetime());
        let origin = spec("{ respect_origin: true }");
        assert!(!origin.lacks_lifetime());
        let compiled = origin.compile().unwrap();
        assert_eq!(
            compiled,
            CachePolicy {
                lifetime: Lifetime::Origin,
                ..policy
            }
        );
        assert_eq!(origin.filled().compile(), Some(compiled));
    }

    #[test]
    fn a_route_wins_over_the_defaults_key_by_key() {
        let base = spec(
            "{ ttl: 2m, per: [{ cookie: session }], stale_if_error: 1h, stale_while_revalidate: 30s, stale: first }",
        );
        let own =
            spec("{ per: [{ header: X-Tenant }], stale_while_revalidate: 0s, max_object: 5GiB }");
        let policy = own.over(&base).filled().compile().unwrap();
        assert_eq!(
            policy,
            CachePolicy {
                lifetime: Lifetime::Ttl(Duration::from_secs(120)),
                shared: false,
                per: vec![Per::Header(HeaderName::from_static("x-tenant"))],
                stale_if_error: Some(Duration::from_secs(3600)),
                stale_while_revalidate: None,
                stale_first: true,
                max_object: 5 << 30,
            }
        );
        let dropped = spec("{ per: [] }").over(&base).compile().unwrap();
        assert!(dropped.per.is_empty());
        assert!(spec("off").over(&base).compile().is_none());
        let alone = spec("{ ttl: 1s }").over(&spec("off")).compile().unwrap();
        assert_eq!(alone.lifetime, Lifetime::Ttl(Duration::from_secs(1)));
    }

    #[test]
    fn a_route_replaces_how_the_defaults_say_the_lifetime() {
        let second = Lifetime::Ttl(Duration::from_secs(1));
        for (own, base, lifetime, shared) in [
            (
                "{ ttl: 1s }",
                "{ respect_origin: true }",
                Some(second),
                false,
            ),
            (
                "{ ttl: 1s, shared: true }",
                "{ respect_origin: true }",
                Some(second),
                true,
            ),
            (
                "{ respect_origin: true }",
                "{ ttl: 1s, shared: true }",
                Some(Lifetime::Origin),
                false,
            ),
            (
                "{ max_object: 1B }",
                "{ respect_origin: true }",
                Some(Lifetime::Origin),
                false,
            ),
            (
                "{ max_object: 1B }",
                "{ ttl: 1s, shared: true }",
                Some(second),
                true,
            ),
            (
                "{ respect_origin: false }",
                "{ ttl: 1s, shared: true }",
                Some(second),
                true,
            ),
            (
                "{ respect_origin: false, ttl: 1s }",
                "{ respect_origin: true }",
                Some(second),
                false,
            ),
            (
                "{ respect_origin: false }",
                "{ respect_origin: true }",
                None,
                false,
            ),
            (
                "{ respect_origin: true }",
                "off",
                Some(Lifetime::Origin),
                false,
            ),
        ] {
            let merged = spec(own).over(&spec(base));
            let policy = merged.filled().compile();
            assert_eq!(
                merged.lacks_lifetime(),
                policy.is_none(),
                "{own} over {base}"
            );
            assert!(!merged.contradicts_itself(), "{own} over {base}");
            let found = policy.map(|policy| (policy.lifetime, policy.shared));
            assert_eq!(found, lifetime.map(|l| (l, shared)), "{own} over {base}");
        }
    }

    #[test]
    fn what_excludes_each_other() {
        for (text, contradicts, shares) in [
            ("{ ttl: 1s, respect_origin: true }", true, false),
            (
                "{ ttl: 1s, respect_origin: false, shared: true }",
                false,
                false,
            ),
            ("{ respect_origin: true, shared: false }", false, true),
            (
                "{ respect_origin: true, per: [{ cookie: a }] }",
                false,
                false,
            ),
            ("off", false, false),
        ] {
            let spec = spec(text);
            assert_eq!(spec.contradicts_itself(), contradicts, "{text}");
            assert_eq!(spec.shares_for_the_origin(&spec), shares, "{text}");
        }
        let (own, base) = (spec("{ shared: true }"), spec("{ respect_origin: true }"));
        assert!(own.shares_for_the_origin(&own.over(&base)));
        assert!(!own.shares_for_the_origin(&own.over(&spec("{ ttl: 1s }"))));
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for text in [
            "off",
            "{ ttl: 2m, shared: true }",
            "{ ttl: 1d, per: [{ cookie: session }, { header: X-Tenant }], stale_if_error: 1h }",
            "{ ttl: 1s, respect_origin: false, stale_while_revalidate: 30s, stale: first }",
            "{ respect_origin: true }",
            "{ respect_origin: true, stale_if_error: 1h, stale: first, per: [{ cookie: a }] }",
        ] {
            let shown = serde_yaml::to_string(&spec(text).filled()).unwrap();
            assert!(!shown.contains('!'), "{shown}");
            assert_eq!(spec(&shown).compile(), spec(text).compile(), "{shown}");
        }
    }
}
