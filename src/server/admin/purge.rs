//! What a purge is asked for, as JSON; written by the command line, read by the admin address.
//!
//! URLs become what answers are kept under: host in lower case, its port as clients write it, path and query as they are.
//! Nothing is purged here.

use crate::cache::purges::Purge;
use crate::policy::cache::tags::MOST_BYTES;
use crate::policy::target::is_host;
use serde::{Deserialize, Serialize};

/// One of these, and no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// A URL, as `http://host/path?query`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How URLs begin, as `http://host/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// A tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// `true` for everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

const ONE_OF: &str = r#"one of {"url": "http://host/path"}, {"prefix": "http://host/path"}, {"tag": "x"} and {"all": true}"#;

impl Wanted {
    /// Reads a body.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        // A structure may be written as a list, too; that is not meant.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(format!("the body must be {ONE_OF}"));
        }
        serde_json::from_slice(body).map_err(|e| format!("the body must be {ONE_OF}: {e}"))
    }

    /// What is to go.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn purge(self) -> Result<Purge, String> {
        match (self.url, self.prefix, self.tag, self.all) {
            (Some(url), None, None, None) => {
                let (scheme, host, target) = split(&url).map_err(|e| format!("url: {e}"))?;
                Ok(Purge::Url {
                    scheme,
                    host,
                    target,
                })
            }
            (None, Some(prefix), None, None) => {
                let (scheme, host, path) = split(&prefix).map_err(|e| format!("prefix: {e}"))?;
                if path.contains('?') {
                    return Err("prefix: it cannot have a query; it is compared with scheme, host and path only".into());
                }
                Ok(Purge::Prefix(format!("{scheme}://{host}{path}")))
            }
            (None, None, Some(tag), None) => {
                fits(&tag).map_err(|e| format!("tag: {e}"))?;
                Ok(Purge::Tag(tag))
            }
            (None, None, None, Some(true)) => Ok(Purge::All),
            (None, None, None, Some(false)) => Err("all: it can only be true".into()),
            (None, None, None, None) => Err(format!("nothing is named: the body must be {ONE_OF}")),
            _ => Err(format!(
                "more than one thing is named: the body must be {ONE_OF}"
            )),
        }
    }
}

/// A purge's kind, for the log.
pub fn kind(what: &Purge) -> &'static str {
    match what {
        Purge::Url { .. } => "url",
        Purge::Prefix(_) => "prefix",
        Purge::Tag(_) => "tag",
        Purge::All => "all",
    }
}

/// Whether an answer can have this tag.
fn fits(tag: &str) -> Result<(), String> {
    if tag.is_empty() {
        return Err("it is empty".into());
    }
    if tag.len() > MOST_BYTES {
        return Err(format!("tags longer than {MOST_BYTES} bytes are not kept"));
    }
    if tag.trim_ascii() != tag || tag.contains(char::is_control) {
        return Err("it has spaces around it or control characters in it, which no tag has".into());
    }
    Ok(())
}

/// Scheme, host and target of a URL, as they are in keys.
fn split(url: &str) -> Result<(String, String, String), String> {
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it has a space or a control character in it; write it encoded, as %20".into());
    }
    let schemed = url.split_once("://");
    let scheme = schemed.map(|(scheme, _)| scheme.to_ascii_lowercase());
    let (Some((_, rest)), Some(scheme @ ("http" | "https"))) = (schemed, scheme.as_deref()) else {
        return Err(format!("{url:?} does not begin with http:// or https://"));
    };
    if rest.contains('#') {
        return Err(
            "it has a fragment, which no request has: leave out \"#\" and what follows".into(),
        );
    }
    let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !is_host(host.as_bytes()) {
        return Err(format!("{host:?} is no host with or without a port"));
    }
    // RFC 9110 §4.2.3: an empty path is `/`.
    let slash = if target.starts_with('/') { "" } else { "/" };
    Ok((
        scheme.to_owned(),
        host.to_ascii_lowercase(),
        format!("{slash}{target}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn purge(body: &str) -> Result<Purge, String> {
        Wanted::read(body.as_bytes()).and_then(Wanted::purge)
    }

    fn url(scheme: &str, host: &str, target: &str) -> Purge {
        Purge::Url {
            scheme: scheme.into(),
            host: host.into(),
            target: target.into(),
        }
    }

    #[test]
    fn what_can_be_asked_for() {
        for (body, expected) in [
            (r#"{"url": "http://h/a?b=c"}"#, url("http", "h", "/a?b=c")),
            (r#"{"url": "http://h"}"#, url("http", "h", "/")),
            (r#"{"url": "http://h?a"}"#, url("http", "h", "/?a")),
            (
                r#"{"url": "HTTP://H.Example:80/A?B"}"#,
                url("http", "h.example:80", "/A?B"),
            ),
            (
                r#"{"url": "https://h/%7e/../x//"}"#,
                url("https", "h", "/%7e/../x//"),
            ),
            (
                r#"{"url": "http://[::1]:8080/"}"#,
                url("http", "[::1]:8080", "/"),
            ),
            (
                r#"{"url": "http://h/a?u=http://x/"}"#,
                url("http", "h", "/a?u=http://x/"),
            ),
            (
                r#"{"url": "http://h/", "tag": null}"#,
                url("http", "h", "/"),
            ),
            (
                r#"{"prefix": "http://H/a"}"#,
                Purge::Prefix("http://h/a".into()),
            ),
            // The host ends there: it is not the beginning of another one's name.
            (
                r#"{"prefix": "http://h"}"#,
                Purge::Prefix("http://h/".into()),
            ),
            (r#"{"tag": "a b,C"}"#, Purge::Tag("a b,C".into())),
            (r#" {"all": true}"#, Purge::All),
        ] {
            assert_eq!(purge(body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn what_cannot() {
        for (body, why) in [
            ("", "one of"),
            ("[null, null, null, true]", "one of"),
            ("true", "one of"),
            ("{", "EOF"),
            ("{}", "nothing is named"),
            (r#"{"all": false}"#, "only be true"),
            (r#"{"all": "true"}"#, "expected a boolean"),
            (r#"{"everything": true}"#, "unknown field `everything`"),
            (r#"{"tag": "a", "tag": "b"}"#, "duplicate field"),
            (r#"{"tag": "a"} {}"#, "trailing"),
            (r#"{"tag": "a", "all": true}"#, "more than one"),
            (
                r#"{"url": "http://h/", "prefix": "http://h/"}"#,
                "more than one",
            ),
            (r#"{"url": "/path"}"#, "does not begin with http://"),
            (r#"{"url": "h/path"}"#, "does not begin with http://"),
            (r#"{"url": "ftp://h/path"}"#, "does not begin with http://"),
            (r#"{"url": "http:///path"}"#, "no host"),
            (r#"{"url": "http://u@h/path"}"#, "no host"),
            (r#"{"url": "http://h:x/path"}"#, "no host"),
            (r#"{"url": "http://h/path#part"}"#, "fragment"),
            (r#"{"url": "http://h/a b"}"#, "%20"),
            (r#"{"prefix": "http://h/a\n9 tag b"}"#, "%20"),
            (r#"{"prefix": "http://h/a?b"}"#, "query"),
            (r#"{"prefix": ""}"#, "does not begin with http://"),
            (r#"{"tag": ""}"#, "empty"),
            (r#"{"tag": " a"}"#, "spaces around"),
            (r#"{"tag": "a\n9 tag b"}"#, "control"),
        ] {
            let said = purge(body).unwrap_err();
            assert!(said.contains(why), "{body}: {said}");
        }
        let long = format!(r#"{{"tag": "{}"}}"#, "x".repeat(257));
        assert!(purge(&long).unwrap_err().contains("256"));
    }

    proptest! {
        #[test]
        fn what_passes_is_one_line_and_no_other_url(text in "\\PC{0,30}|(http|HTTPS)://[a-zA-Z.:@#?/% \\n]{0,20}") {
            if let Ok((scheme, host, target)) = split(&text) {
                let whole = format!("{scheme}://{host}{target}");
                prop_assert!(!whole.contains(['\n', '\r', ' ', '#']));
                prop_assert!(target.starts_with('/') && !host.contains(['/', '?']));
                prop_assert_eq!(split(&whole), Ok((scheme, host, target)));
            }
        }

        #[test]
        fn what_the_command_line_writes_is_read_again(tag in "[a-z]{1,9}", all in any::<bool>()) {
            let wanted = match all {
                true => Wanted { all: Some(true), ..Wanted::default() },
                false => Wanted { tag: Some(tag), ..Wanted::default() },
            };
            let body = serde_json::to_vec(&wanted).unwrap();
            prop_assert_eq!(Wanted::read(&body), Ok(wanted));
        }
    }
}
