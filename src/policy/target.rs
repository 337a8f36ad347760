//! The host and path of a request: their one normal form for matching, and the path that goes upstream.
//!
//! `config` normalises patterns with these functions and `proxy` every request, so that no spelling of a path gets around
//! a route. What is sent upstream is the client's own spelling unless a rewrite has to change it. Decides no route.

use std::borrow::Cow;
use std::fmt;

/// A host for matching: lower-case, without port and without one trailing dot; an IPv6 literal keeps its brackets.
///
/// What is no host at all is cut in the same way, never refused: it then fits no route that names a host.
pub fn normalise_host(raw: &str) -> Cow<'_, str> {
    let host = match raw.find(']') {
        Some(end) if raw.starts_with('[') => &raw[..=end],
        // Whatever follows the colon goes, number or not: a made-up port must not get around a route for the host.
        _ => raw.split(':').next().unwrap_or(raw),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Why a path cannot be matched. The client gets a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPath {
    /// It does not begin with `/`.
    NotAbsolute,
    /// A `%` without two hexadecimal digits after it (RFC 3986 §2.1).
    Encoding,
    /// A zero byte, encoded or not.
    Nul,
    /// More `..` than there are segments before them.
    AboveRoot,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadPath::NotAbsolute => "the path does not begin with \"/\"",
            BadPath::Encoding => "the path has a \"%\" without two hexadecimal digits after it",
            BadPath::Nul => "the path contains a zero byte",
            BadPath::AboveRoot => "the path leads above the root with \"..\"",
        })
    }
}

impl std::error::Error for BadPath {}

/// The path of a request target for matching: without query and fragment, decoded once, `//` merged, then `.` and `..`
/// resolved. An encoded slash or dot counts as one, as upstreams may take it for one. `*` (RFC 9110 §9.3.7) stays.
///
/// Escapes of `%`, `?` and `#`, and of bytes that are not UTF-8, are kept (in upper case): decoded, the result would be
/// ambiguous or no text. So the result is its own normal form.
///
/// # Errors
/// A path that has no normal form; see [`BadPath`].
pub fn normalise_path(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    if raw == "*" {
        return Ok(Cow::Borrowed(raw));
    }
    let (path, _) = split_target(raw);
    let below_root = path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
    if is_normal(below_root) {
        return Ok(Cow::Borrowed(path));
    }
    let normal = into_text(resolve(&decode(below_root)?)?);
    Ok(if normal == path {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(normal)
    })
}

/// Path and query, the latter with its `?` or empty. A fragment is never part of a request (RFC 9110 §7.1): dropped.
fn split_target(raw: &str) -> (&str, &str) {
    let sent = raw.split('#').next().unwrap_or(raw);
    sent.split_at(sent.find('?').unwrap_or(sent.len()))
}

/// Whether normalising would certainly change nothing: the common case, seen without copying.
fn is_normal(below_root: &str) -> bool {
    let mut segments = below_root.split('/');
    let last = segments.next_back();
    !below_root.contains(['%', '\0'])
        && !matches!(last, Some("." | ".."))
        && segments.all(|segment| !matches!(segment, "" | "." | ".."))
}

fn decode(text: &str) -> Result<Vec<u8>, BadPath> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let value = match byte {
            b'%' => hex(bytes.next())? << 4 | hex(bytes.next())?,
            plain => plain,
        };
        match value {
            0 => return Err(BadPath::Nul),
            // Only an escape yields these: a bare `%` is none, and the others have ended the path.
            b'%' | b'?' | b'#' => decoded.extend(escape(value)),
            plain => decoded.push(plain),
        }
    }
    Ok(decoded)
}

fn hex(digit: Option<u8>) -> Result<u8, BadPath> {
    match digit {
        Some(d @ b'0'..=b'9') => Ok(d - b'0'),
        Some(d @ b'a'..=b'f') => Ok(d - b'a' + 10),
        Some(d @ b'A'..=b'F') => Ok(d - b'A' + 10),
        _ => Err(BadPath::Encoding),
    }
}

fn escape(byte: u8) -> [u8; 3] {
    let digit = |four_bits: u8| b"0123456789ABCDEF"[usize::from(four_bits)];
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

/// Merges slashes first and resolves dots then, as nginx does: `/a//../b` is `/b`.
fn resolve(below_root: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut path = Vec::with_capacity(below_root.len() + 1);
    let mut ends_in_slash = false;
    for segment in below_root.split(|&b| b == b'/') {
        ends_in_slash = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => match path.iter().rposition(|&b| b == b'/') {
                Some(parent) => path.truncate(parent),
                None => return Err(BadPath::AboveRoot),
            },
            name => {
                path.push(b'/');
                path.extend(name);
            }
        }
    }
    if ends_in_slash {
        path.push(b'/');
    }
    Ok(path)
}

/// Escapes what is not UTF-8.
fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let mut text = String::new();
        for chunk in error.as_bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            let escapes = chunk.invalid().iter().flat_map(|&b| escape(b));
            text.extend(escapes.map(char::from));
        }
        text
    })
}

/// Writes a normalised path as it may stand in a request: all but the characters of RFC 3986 §3.3 escaped. Escapes that
/// normalising kept stay as they are.
fn encode(normal: &str) -> String {
    let mut text = String::with_capacity(normal.len() + 16);
    for byte in normal.bytes() {
        if byte.is_ascii_alphanumeric() || b"/%-._~!$&'()*+,;=:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.extend(escape(byte).map(char::from));
        }
    }
    text
}

/// How the path changes on its way upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// Not at all.
    None,
    /// These leading segments are taken off. In normalised form; with or without a slash at the end is the same.
    StripPrefix(String),
    /// This takes the place of the whole path, and of the query if it has one of its own. Begins with `/`; sent as it is.
    SetPath(String),
}

impl Rewrite {
    /// What is sent upstream in place of the client's `path_and_query`. [`Rewrite::None`] keeps it byte for byte, and so
    /// does a prefix that is not there. A path that is not normal as sent is stripped in its normal form and encoded anew.
    ///
    /// # Errors
    /// A path that has no normal form, where a prefix is to be stripped from it.
    pub fn apply<'a>(&self, path_and_query: &'a str) -> Result<Cow<'a, str>, BadPath> {
        let (path, query) = split_target(path_and_query);
        let prefix = match self {
            Rewrite::None => return Ok(Cow::Borrowed(path_and_query)),
            Rewrite::SetPath(new) if new.contains('?') => return Ok(Cow::Owned(new.clone())),
            Rewrite::SetPath(new) => return Ok(Cow::Owned(format!("{new}{query}"))),
            Rewrite::StripPrefix(prefix) => prefix.strip_suffix('/').unwrap_or(prefix),
        };
        let normal = normalise_path(path)?;
        let rest = match normal.strip_prefix(prefix) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => return Ok(Cow::Borrowed(path_and_query)),
        };
        Ok(match &normal {
            Cow::Borrowed(path) if path.len() > prefix.len() => {
                Cow::Borrowed(&path_and_query[prefix.len()..path.len() + query.len()])
            }
            Cow::Borrowed(_) if query.is_empty() => Cow::Borrowed("/"),
            Cow::Borrowed(_) => Cow::Owned(format!("/{query}")),
            Cow::Owned(_) => Cow::Owned(encode(rest) + query),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::router::{Found, HostPattern, PathPattern, RouteMatch, Router};
    use proptest::prelude::*;

    #[test]
    fn hosts() {
        for (raw, expected) in [
            ("example.com", "example.com"),
            ("Example.COM", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com.", "example.com"),
            ("EXAMPLE.com.:8080", "example.com"),
            ("example.com..", "example.com."),
            ("example.com:", "example.com"),
            ("example.com:http", "example.com"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::1]:8080", "[::1]"),
            ("[FE80::A]:8080", "[fe80::a]"),
            ("[::1", "["),
            ("::1", ""),
            (":80", ""),
            (".", ""),
            ("", ""),
        ] {
            assert_eq!(normalise_host(raw), expected, "{raw}");
            let lower = raw == raw.to_lowercase();
            assert_eq!(
                matches!(normalise_host(raw), Cow::Borrowed(_)),
                lower,
                "{raw}"
            );
        }
    }

    #[test]
    fn paths() {
        for (raw, expected) in [
            ("/", "/"),
            ("*", "*"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/a?b=%zz/../c", "/a"),
            ("/a#b?c", "/a"),
            ("/?", "/"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/.", "/"),
            ("/a/./b/.", "/a/b/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/a//../b", "/b"),
            ("/.hidden/.../..x/a.", "/.hidden/.../..x/a."),
            ("/x/../admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/x/%2e%2E/admin", "/admin"),
            ("/x%2F..%2fadmin", "/admin"),
            ("/%2fadmin", "/admin"),
            ("/a%20b+c", "/a b+c"),
            ("/%c3%a9", "/é"),
            ("/é", "/é"),
            ("/caf%e9/%C3%A9%ff", "/caf%E9/é%FF"),
            ("/%25%3f%23", "/%25%3F%23"),
            ("/%2561dmin", "/%2561dmin"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/a%0a\\..\\b", "/a\n\\..\\b"),
        ] {
            assert_eq!(normalise_path(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn paths_that_have_no_normal_form() {
        for (raw, expected) in [
            ("", BadPath::NotAbsolute),
            ("a", BadPath::NotAbsolute),
            ("?a", BadPath::NotAbsolute),
            ("*?a", BadPath::NotAbsolute),
            ("%2Fa", BadPath::NotAbsolute),
            ("http://example.com/", BadPath::NotAbsolute),
            ("/%", BadPath::Encoding),
            ("/%4", BadPath::Encoding),
            ("/%4?1", BadPath::Encoding),
            ("/%zz", BadPath::Encoding),
            ("/%+1", BadPath::Encoding),
            ("/%é", BadPath::Encoding),
            ("/a%00b", BadPath::Nul),
            ("/a\0b", BadPath::Nul),
            ("/..", BadPath::AboveRoot),
            ("/../a", BadPath::AboveRoot),
            ("//../a", BadPath::AboveRoot),
            ("/a/%2e%2e/../b", BadPath::AboveRoot),
        ] {
            assert_eq!(normalise_path(raw), Err(expected), "{raw:?}");
            assert!(!expected.to_string().is_empty());
        }
    }

    #[test]
    fn no_spelling_gets_around_a_route() {
        let admin = RouteMatch {
            host: HostPattern::Any,
            path: PathPattern::Prefix("/admin".into()),
            methods: vec![],
        };
        let router = Router::build(vec![(admin, ())]).unwrap();
        for raw in [
            "/admin",
            "/%61dmin",
            "/%61%64%6D%69%6e/x",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/x%2f..%2fadmin/",
            "//admin",
            "/./admin?x",
        ] {
            let path = normalise_path(raw).unwrap();
            assert_eq!(
                router.find("", &path, &http::Method::GET),
                Found::Route(&()),
                "{raw}"
            );
        }
    }

    #[test]
    fn rewrites() {
        let strip = || Rewrite::StripPrefix("/patients".into());
        let set = |path: &str| Rewrite::SetPath(path.into());
        for (rewrite, raw, expected) in [
            (Rewrite::None, "/a/../%zz//b?c#d", "/a/../%zz//b?c#d"),
            (strip(), "/patients/1", "/1"),
            (strip(), "/patients/1/?a=/../b", "/1/?a=/../b"),
            (strip(), "/patients", "/"),
            (strip(), "/patients?a", "/?a"),
            (strip(), "/patients/", "/"),
            (strip(), "/patients/?a", "/?a"),
            (strip(), "/patients/a?b#c", "/a?b"),
            (strip(), "/patientsx/1?a", "/patientsx/1?a"),
            (strip(), "/other/%61?a", "/other/%61?a"),
            (strip(), "*", "*"),
            (strip(), "/%70atients/a%20b?c=%20", "/a%20b?c=%20"),
            (strip(), "/%70atients?c", "/?c"),
            (strip(), "/x/../patients/é\"", "/%C3%A9%22"),
            (
                strip(),
                "/patients//a%25%3f%23%ff%0d%0a",
                "/a%25%3F%23%FF%0D%0A",
            ),
            (strip(), "/patients/a%2Fb;c=(d)", "/a/b;c=(d)"),
            (Rewrite::StripPrefix("/a/".into()), "/a/b", "/b"),
            (Rewrite::StripPrefix("/".into()), "/a/b?c", "/a/b?c"),
            (
                Rewrite::StripPrefix("/a b".into()),
                "/a%20b/c%20d",
                "/c%20d",
            ),
            (set("/v2"), "/a?b=c", "/v2?b=c"),
            (set("/v2"), "/a", "/v2"),
            (set("/v2?x"), "/a?b", "/v2?x"),
            (set("/v2"), "/%zz?b#c", "/v2?b"),
        ] {
            assert_eq!(
                rewrite.apply(raw).as_deref(),
                Ok(expected),
                "{rewrite:?} {raw}"
            );
        }
        assert_eq!(strip().apply("/patients/%"), Err(BadPath::Encoding));
        for raw in ["/patients", "/patients/1?a", "/other"] {
            assert!(matches!(strip().apply(raw), Ok(Cow::Borrowed(_))), "{raw}");
        }
    }

    /// Paths dense in what normalising changes, mixed with anything at all.
    const SPELLINGS: &str =
        "/(/|\\.|\\.\\.|a|é|\\?|#|%2[fFeE35]|%3f|%[0-9a-fA-F]{2}|%[cC]3%[aA]9|.){0,12}";

    proptest! {
        #[test]
        fn a_normal_path_is_its_own_normal_form(raw in prop_oneof![SPELLINGS, any::<String>()]) {
            if let Ok(normal) = normalise_path(&raw) {
                let again = normalise_path(&normal);
                prop_assert_eq!(again.as_deref(), Ok(&*normal));
                prop_assert!(matches!(again, Ok(Cow::Borrowed(_))));
                prop_assert!(normal.starts_with('/') || raw == "*");
                prop_assert!(!normal.contains("//"));
                prop_assert!(!normal.split('/').any(|segment| matches!(segment, "." | "..")));
                let unchanged = raw.starts_with(&*normal)
                    && (raw.len() == normal.len() || raw[normal.len()..].starts_with(['?', '#']));
                prop_assert_eq!(matches!(normal, Cow::Borrowed(_)), unchanged);
            }
        }

        #[test]
        fn arbitrary_input_is_survived(raw in any::<String>()) {
            let _ = normalise_path(&raw);
            let host = normalise_host(&raw);
            prop_assert!(!host.bytes().any(|b| b.is_ascii_uppercase()));
            let _ = Rewrite::StripPrefix("/a".into()).apply(&raw);
        }

        #[test]
        fn stripping_means_the_same_in_every_spelling(rest in SPELLINGS) {
            let plain = format!("/p{rest}");
            let respelt = format!("/x/..//%70{rest}");
            let strip = Rewrite::StripPrefix("/p".into());
            let (Ok(normal), Ok(sent)) = (normalise_path(&plain), strip.apply(&plain)) else {
                return Ok(());
            };
            let Some(expected) = normal.strip_prefix("/p").filter(|rest| rest.starts_with('/')) else {
                return Ok(());
            };
            prop_assert_eq!(&*normalise_path(&sent).unwrap(), expected);
            let other = strip.apply(&respelt).unwrap();
            prop_assert_eq!(&*normalise_path(&other).unwrap(), expected);
            prop_assert_eq!(split_target(&other).1, split_target(&plain).1);
            prop_assert!(split_target(&other).0.bytes().all(|b| b.is_ascii_graphic()));
        }
    }
}
