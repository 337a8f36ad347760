//! `cors` of a route, as written: whose scripts may read its answers.
//!
//! Read by `routes`. An origin is checked against the form in which browsers send it: one that no browser would send is an
//! error and not a riddle.

use super::duration::Span;
use super::fault::mismatch;
use super::headers::ReadName;
use super::keypath::KeyPath;
use super::patterns::{HostText, MethodText};
use super::report::{Document, Report};
use super::switch::{Section, over};
use super::written::{Complaint, Written, error, meant, written};
use crate::policy::cors::{Cors, CorsRules, OriginPattern, Origins};
use http::Method;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// `cors`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { origins: [\"https://app.example.com\"] }, or off"
)]
pub(crate) struct CorsSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    origins: Option<OriginsSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    methods: Option<Vec<MethodText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Vec<ReadName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expose: Option<Vec<ReadName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<Span>,
}

/// `origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OriginsSpec {
    /// Everybody's.
    Any,
    These(Vec<OriginText>),
}

const ORIGINS: &str = "any or a list such as [\"https://app.example.com\"]";

/// The methods that scripts may use anyway (Fetch §2.2.1), which is what is said where nothing is.
const METHODS: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];

/// An origin, or a family of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OriginText {
    written: String,
    pattern: OriginPattern,
}

impl Written for OriginText {
    const EXPECTED: &'static str =
        "an origin such as https://app.example.com or https://*.example.com";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match word {
            "any" | "*" => {
                return Err(Complaint::help("write origins: any for all of them"));
            }
            "null" => {
                let why = "pages of any site can make themselves the origin \"null\"";
                return Err(Complaint::because(why));
            }
            _ => {}
        }
        let Some((scheme, rest)) = word.split_once("://") else {
            let help = Self::parse(&format!("https://{word}")).ok();
            return Err(Complaint {
                message: None,
                help: help.filter(|_| !word.contains(':')).map(meant),
            });
        };
        if word.bytes().any(|b| b.is_ascii_uppercase()) {
            let lower = Self::parse(&word.to_ascii_lowercase()).ok();
            return Err(Complaint {
                message: Some("browsers write origins in lower case".to_string()),
                help: lower.map(meant),
            });
        }
        if let Some((bare, _)) = rest.split_once(['/', '?', '#']) {
            let bare = Self::parse(&format!("{scheme}://{bare}")).ok();
            return Err(Complaint {
                message: Some("an origin has no path".to_string()),
                help: bare.map(meant),
            });
        }
        let (host, port) = parts(rest).ok_or_else(Complaint::unfit)?;
        let usual = match scheme {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        };
        if port.is_some() && port == usual {
            let bare = Self::parse(&format!("{scheme}://{host}")).ok();
            return Err(Complaint {
                message: Some("browsers leave out the port that the scheme has anyway".to_string()),
                help: bare.map(meant),
            });
        }
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        // Told apart by the very rules that hosts of routes are read by.
        let is_host = HostText::parse(host).is_ok_and(|normal| normal.to_string() == host);
        if !is_scheme || !is_host {
            return Err(Complaint::unfit());
        }
        let pattern = match rest.strip_prefix('*') {
            Some(suffix) => OriginPattern::Below {
                scheme: format!("{scheme}://"),
                suffix: suffix.to_string(),
            },
            None => OriginPattern::Exact(word.to_string()),
        };
        Ok(OriginText {
            written: word.to_string(),
            pattern,
        })
    }
}

/// Host and port; `None` where what follows the host is no port.
fn parts(rest: &str) -> Option<(&str, Option<u16>)> {
    // An IPv6 address has colons of its own, within brackets.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return Some((rest, None)),
    };
    let plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    let port = port.parse().ok().filter(|_| plain)?;
    Some((host, Some(port)))
}

impl fmt::Display for OriginText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

written!(OriginText);

impl Section for CorsSpec {
    const EXPECTED: &'static str =
        "a mapping such as { origins: [\"https://app.example.com\"] }, or off";

    fn over(&self, base: &Self) -> Self {
        over!(
            self,
            base,
            CorsSpec {
                origins,
                methods,
                headers,
                expose,
                credentials,
                max_age
            }
        )
    }
}

impl CorsSpec {
    /// Reports what is missing once it is merged, and what browsers would refuse.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        let mut add = |key: &str, message: &str, help: &str| {
            report.add(document, path.key(key), message).help = Some(help.to_string());
        };
        match &self.origins {
            None => add(
                "origins",
                "required, but missing",
                "say whose scripts may read: origins: [\"https://app.example.com\"]",
            ),
            Some(OriginsSpec::These(list)) if list.is_empty() => {
                add(
                    "origins",
                    "no origin is allowed",
                    "write cors: off to allow none",
                );
            }
            Some(OriginsSpec::Any) if self.credentials == Some(true) => add(
                "credentials",
                "with origins: any, every page on the web could read what the visitor may see",
                "list the origins, or leave credentials out",
            ),
            Some(_) => {}
        }
        if self.methods.as_ref().is_some_and(Vec::is_empty) {
            add(
                "methods",
                "no method is listed",
                "leave methods out for GET, HEAD and POST",
            );
        }
    }

    /// Every key filled in that has a default.
    pub(crate) fn filled(&self) -> CorsSpec {
        self.over(&CorsSpec {
            methods: Some(METHODS.map(MethodText).to_vec()),
            credentials: Some(false),
            ..CorsSpec::default()
        })
    }

    /// What the proxy goes by.
    pub(crate) fn compile(&self) -> CorsRules {
        let names = |list: &Option<Vec<ReadName>>| {
            let names = list.iter().flatten();
            names.map(|name| name.0.clone()).collect()
        };
        CorsRules::new(Cors {
            origins: match &self.origins {
                Some(OriginsSpec::Any) => Origins::Any,
                Some(OriginsSpec::These(list)) => {
                    Origins::These(list.iter().map(|origin| origin.pattern.clone()).collect())
                }
                None => Origins::These(Vec::new()),
            },
            methods: match &self.methods {
                Some(list) => list.iter().map(|method| method.0.clone()).collect(),
                None => METHODS.to_vec(),
            },
            headers: names(&self.headers),
            expose: names(&self.expose),
            credentials: self.credentials == Some(true),
            max_age: self.max_age.map(|span| span.0.as_secs()),
        })
    }
}

impl Serialize for OriginsSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            OriginsSpec::Any => s.serialize_str("any"),
            OriginsSpec::These(list) => list.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for OriginsSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(OriginsVisitor)
    }
}

struct OriginsVisitor;

impl<'de> Visitor<'de> for OriginsVisitor {
    type Value = OriginsSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ORIGINS)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<OriginsSpec, E> {
        let help = match value {
            "any" => return Ok(OriginsSpec::Any),
            "*" | "all" => Some(meant("any")),
            other => OriginText::parse(other)
                .ok()
                .map(|origin| meant(format_args!("[\"{origin}\"]"))),
        };
        Err(error(&mismatch(ORIGINS, Unexpected::Str(value)), help))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OriginsSpec, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(OriginsSpec::These)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn origins() {
        for word in [
            "https://app.example.com",
            "http://localhost:3000",
            "https://10.0.0.1",
            "https://[::1]:8443",
            "https://[::1]",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            let origin = OriginText::parse(word).unwrap();
            assert_eq!(origin.pattern, OriginPattern::Exact(word.to_string()));
            assert_eq!(origin.to_string(), word);
        }
        for (word, scheme, suffix) in [
            ("https://*.example.org", "https://", ".example.org"),
            ("http://*.test:8080", "http://", ".test:8080"),
        ] {
            let below = OriginPattern::Below {
                scheme: scheme.into(),
                suffix: suffix.into(),
            };
            assert_eq!(OriginText::parse(word).unwrap().pattern, below);
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_help() {
        for (word, help) in [
            ("app.example.com", "did you mean https://app.example.com?"),
            ("*.example.org", "did you mean https://*.example.org?"),
            ("localhost:3000", ""),
            ("https://a.test/", "did you mean https://a.test?"),
            ("https://a.test/x?y", "did you mean https://a.test?"),
            ("https://A.test", "did you mean https://a.test?"),
            ("https://a.test:443", "did you mean https://a.test?"),
            ("http://*.a.test:80", "did you mean http://*.a.test?"),
            ("*", "write origins: any for all of them"),
            ("null", ""),
            ("https://", ""),
            ("https://*", ""),
            ("https://a.*.test", ""),
            ("https://user@a.test", ""),
            ("https://a.test:", ""),
            ("https://a.test:0", ""),
            ("https://a.test:65536", ""),
            ("https://a.test:+1", ""),
            ("https://a.test.", ""),
            ("://a.test", ""),
            ("", ""),
        ] {
            let complaint = OriginText::parse(word).unwrap_err();
            assert_eq!(complaint.help.as_deref().unwrap_or(""), help, "{word}");
        }
    }

    #[test]
    fn a_route_wins_over_the_defaults_key_by_key() {
        let spec = |text: &str| serde_yaml::from_str::<CorsSpec>(text).unwrap();
        let base = spec("{ origins: any, max_age: 10m, headers: [Authorization] }");
        let own = spec("{ origins: [\"https://a.test\"], methods: [PUT], credentials: true }");
        let all = spec(
            "{ origins: [\"https://a.test\"], methods: [PUT], credentials: true, max_age: 600s, headers: [authorization] }",
        );
        assert_eq!(own.over(&base), all);
        let filled = base.filled();
        assert_eq!(filled.compile(), base.compile());
        let shown = serde_yaml::to_string(&filled).unwrap();
        assert_eq!(spec(&shown), filled);
    }

    proptest! {
        /// What is taken is what a browser can send, and fits itself.
        #[test]
        fn no_text_panics(word in "\\PC{0,20}|https?://[a-z.*:/0-9\\[\\]]{0,16}") {
            if let Ok(origin) = OriginText::parse(&word) {
                prop_assert_eq!(origin.to_string(), word.clone());
                if let OriginPattern::Exact(_) = origin.pattern {
                    prop_assert!(origin.pattern.fits(word.as_bytes()));
                }
            }
        }
    }
}
