//! The words of a route: host and path patterns, methods, names and targets.
//!
//! Each is checked when it is read, against the very functions that bring requests into their normal form, so that a
//! pattern no request can ever match is an error and not a riddle.

use super::address::is_name;
use super::fault::quoted;
use super::written::{Complaint, Written, meant, written};
use crate::policy::router::HostPattern;
use crate::policy::target::{normalise_host, normalise_path};
use http::Method;
use http::uri::PathAndQuery;
use std::fmt;
use std::net::Ipv6Addr;

/// Shows what the operator wrote.
macro_rules! shown_as_written {
    ($($type:ty),+) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}
pub(super) use shown_as_written;

/// A host: `api.example.com`, `*.example.com`, `[::1]`. In normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostText(String);

impl HostText {
    /// What the router takes.
    pub(crate) fn pattern(&self) -> HostPattern {
        match self.0.strip_prefix('*') {
            Some(suffix) => HostPattern::Wildcard(suffix.to_string()),
            None => HostPattern::Exact(self.0.clone()),
        }
    }
}

impl Written for HostText {
    const EXPECTED: &'static str = "a host such as api.example.com or *.example.com";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if word == "*" {
            return Err(Complaint::help("leave \"host\" out to match every host"));
        }
        if let Some((_, rest)) = word.split_once("://") {
            let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
            let help = Self::parse(&normalise_host(host)).ok().map(meant);
            return Err(Complaint {
                message: Some("a host has no scheme and no path".to_string()),
                help,
            });
        }
        let normal = normalise_host(word);
        let (bare, wildcard) = match normal.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (&*normal, false),
        };
        let ip = |host: &str| {
            let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            inner.is_some_and(|i| i.parse::<Ipv6Addr>().is_ok())
                || host.parse::<std::net::Ipv4Addr>().is_ok()
        };
        if !is_name(bare) && (wildcard || !ip(bare)) {
            if !word.is_ascii() {
                return Err(
                    Complaint::unfit().or("write the name as it is sent, beginning with xn--")
                );
            }
            return Err(Complaint::unfit());
        }
        // Case and a dot at the end are a matter of spelling; a port would be left out of sight.
        let spelling = word.to_ascii_lowercase();
        if spelling.strip_suffix('.').unwrap_or(&spelling) != normal {
            return Err(
                Complaint::because("a host is matched without its port").or(meant(&*normal))
            );
        }
        Ok(HostText(normal.into_owned()))
    }
}

/// A path to match: begins with `/` and is in normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathText(pub(crate) String);

impl Written for PathText {
    const EXPECTED: &'static str = "a path such as /patients/";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match normalise_path(word) {
            Ok(normal) if normal == word && word != "*" => Ok(PathText(word.to_string())),
            Ok(normal) if normal.starts_with('/') => {
                let message = "no request matches this path: paths are compared decoded, without query, `//`, `.` and `..`";
                Err(Complaint::because(message).or(meant(normal)))
            }
            Err(_) if !word.starts_with('/') && !word.contains("://") => {
                let help = normalise_path(&format!("/{word}")).ok().map(meant);
                Err(Complaint {
                    message: Some("a path begins with \"/\"".to_string()),
                    help,
                })
            }
            Ok(_) => Err(Complaint::unfit()),
            Err(error) => Err(Complaint::because(error.to_string())),
        }
    }
}

/// A path to match exactly: as [`PathText`], or `*`, which is that of `OPTIONS *`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExactPathText(pub(crate) String);

impl Written for ExactPathText {
    const EXPECTED: &'static str = PathText::EXPECTED;

    fn parse(word: &str) -> Result<Self, Complaint> {
        if word == "*" {
            return Ok(ExactPathText(word.to_string()));
        }
        PathText::parse(word).map(|path| ExactPathText(path.0))
    }
}

/// A path to send, with or without a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetText(pub(crate) String);

impl Written for TargetText {
    const EXPECTED: &'static str = "a path such as /v2/patients";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if !word.starts_with('/') {
            return Err(Complaint::because("a path begins with \"/\""));
        }
        let legal = word.bytes().all(|b| b.is_ascii_graphic()) && !word.contains('#');
        match PathAndQuery::try_from(word) {
            Ok(_) if legal => Ok(TargetText(word.to_string())),
            _ => Err(Complaint::because(
                "this path cannot be sent: it holds characters that must be percent-encoded",
            )),
        }
    }
}

/// A method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MethodText(pub(crate) Method);

impl Written for MethodText {
    const EXPECTED: &'static str = "a method such as GET";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let upper = word.to_ascii_uppercase();
        // Methods are told apart by case (RFC 9110 §9.1); no one means `get`.
        if upper != word {
            return Err(Complaint::help(meant(upper)));
        }
        Method::from_bytes(word.as_bytes())
            .map(MethodText)
            .map_err(|_| Complaint::unfit())
    }
}

impl fmt::Display for MethodText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// The name of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct UpstreamName(pub(crate) String);

impl Written for UpstreamName {
    const EXPECTED: &'static str = "a name of letters, digits, \"_\", \"-\" and \".\"";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if word.is_empty() || word.len() > 200 || !word.bytes().all(legal) {
            return Err(Complaint::unfit());
        }
        Ok(UpstreamName(word.to_string()))
    }
}

/// The name of a route: what the log calls it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RouteName(pub(crate) String);

impl Written for RouteName {
    const EXPECTED: &'static str = "a name of 1 to 200 printable characters";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if word.trim().is_empty()
            || word.chars().count() > 200
            || word.chars().any(char::is_control)
        {
            return Err(Complaint::unfit());
        }
        Ok(RouteName(word.to_string()))
    }
}

/// The path of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileText(pub(crate) String);

impl Written for FileText {
    const EXPECTED: &'static str = "the path of a file";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if word.is_empty() || word.contains('\0') {
            return Err(Complaint::unfit());
        }
        if word.ends_with('/') {
            return Err(Complaint::because(format!(
                "{} is a directory, not a file",
                quoted(word)
            )));
        }
        Ok(FileText(word.to_string()))
    }
}

/// The path of a directory, relative to that of the file it is written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirectoryText(pub(crate) String);

impl Written for DirectoryText {
    const EXPECTED: &'static str = "the path of a directory";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if word.is_empty() || word.contains('\0') {
            return Err(Complaint::unfit());
        }
        Ok(DirectoryText(word.to_string()))
    }
}

shown_as_written!(
    HostText,
    PathText,
    ExactPathText,
    TargetText,
    UpstreamName,
    RouteName,
    FileText,
    DirectoryText
);
written!(
    HostText,
    PathText,
    ExactPathText,
    TargetText,
    MethodText,
    UpstreamName,
    RouteName,
    FileText,
    DirectoryText
);

#[cfg(test)]
mod tests {
    use super::*;

    fn help<T: Written + fmt::Debug>(word: &str) -> String {
        T::parse(word).unwrap_err().help.unwrap_or_default()
    }

    #[test]
    fn hosts() {
        for (text, pattern) in [
            (
                "api.example.com",
                HostPattern::Exact("api.example.com".into()),
            ),
            (
                "API.example.com.",
                HostPattern::Exact("api.example.com".into()),
            ),
            (
                "*.Example.com",
                HostPattern::Wildcard(".example.com".into()),
            ),
            ("10.0.0.1", HostPattern::Exact("10.0.0.1".into())),
            ("[::1]", HostPattern::Exact("[::1]".into())),
            ("localhost", HostPattern::Exact("localhost".into())),
        ] {
            assert_eq!(HostText::parse(text).unwrap().pattern(), pattern, "{text}");
        }
        for text in [
            "",
            "*.",
            "a*.b",
            "*.*.b",
            "a b",
            "*.10.0.0.1",
            "http://a",
            "a/b",
            "::1",
            "1.2.3",
        ] {
            assert!(HostText::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            help::<HostText>("a.example.com:80"),
            "did you mean a.example.com?"
        );
        assert_eq!(
            help::<HostText>("https://a.example.com:80/b"),
            "did you mean a.example.com?"
        );
        assert!(help::<HostText>("*").contains("leave \"host\" out"));
        assert!(help::<HostText>("bücher.example").contains("xn--"));
    }

    #[test]
    fn paths() {
        for text in ["/", "/a", "/a/", "/a b", "/100%25", "/ü"] {
            assert!(PathText::parse(text).is_ok(), "{text}");
        }
        for (text, expected) in [
            ("a/b", "did you mean /a/b?"),
            ("/a//b", "did you mean /a/b?"),
            ("/a/../b", "did you mean /b?"),
            ("/a%20b", "did you mean /a b?"),
            ("/a?b", "did you mean /a?"),
            ("/100%", ""),
            ("/..", ""),
            ("", "did you mean /?"),
            ("*", ""),
        ] {
            assert_eq!(help::<PathText>(text), expected, "{text}");
        }
        assert!(ExactPathText::parse("*").is_ok());
        assert!(TargetText::parse("/v2/a?b=c").is_ok());
        for text in ["v2", "/a b", "/a#b", "/ü", "/a\r\n"] {
            assert!(TargetText::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn methods_and_names() {
        assert_eq!(MethodText::parse("PURGE").unwrap().to_string(), "PURGE");
        assert_eq!(help::<MethodText>("get"), "did you mean GET?");
        assert!(MethodText::parse("").is_err() && MethodText::parse("A B").is_err());
        assert!(UpstreamName::parse("a_B-9.x").is_ok());
        assert!(UpstreamName::parse("a b").is_err() && UpstreamName::parse("").is_err());
        assert!(RouteName::parse("any text").is_ok() && RouteName::parse(" ").is_err());
        assert!(FileText::parse("logs/").is_err() && FileText::parse("").is_err());
        assert!(DirectoryText::parse("cache/").is_ok());
        assert!(DirectoryText::parse("").is_err() && DirectoryText::parse("a\0b").is_err());
    }
}
