//! The host and path of a request: their one normal form for matching, and the path that goes upstream.
//!
//! `config` normalises patterns with these functions and `proxy` every request, so that no spelling of a path gets around
//! a route. What is sent upstream is the client's own spelling, unless dots lead elsewhere or a rewrite has to change it. Decides no route.

use super::eights;
use percent_encoding::{AsciiSet, CONTROLS};
use std::borrow::Cow;
use std::fmt;

/// What has no place in a target (RFC 3986 §2), beside all that is not ASCII.
pub const UNFIT: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// Whether `raw` can stand in `Host`: a name or address, and perhaps a port (RFC 9110 §7.2), of the characters that host
/// names in use are made of. Anything else could be read as one host here and as another by the backend.
pub fn is_host(raw: &[u8]) -> bool {
    let (place, host) = match raw {
        [b'[', literal @ ..] => (IN_LITERAL, literal),
        _ => (IN_NAME, raw),
    };
    let mut end = host.len();
    // A dot ends a name, or a part that is something.
    let mut before = b'.';
    for (at, &byte) in host.iter().enumerate() {
        if HOSTS[usize::from(byte)] & place == 0 {
            end = at;
            break;
        }
        if byte == b'.' && before == b'.' {
            return false;
        }
        before = byte;
    }
    let rest = host.get(end..).unwrap_or_default();
    let port = match (place, rest) {
        (IN_LITERAL, [b']', port @ ..]) => port,
        (IN_NAME, port) => port,
        _ => return false,
    };
    end > 0
        && match port {
            [] => true,
            [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
            _ => false,
        }
}

/// Where in a host a byte may be: in a name or an address, between brackets.
const IN_NAME: u8 = 1;
const IN_LITERAL: u8 = 2;

/// Of each byte.
const HOSTS: [u8; 256] = {
    let mut hosts = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let is = byte as u8;
        if is.is_ascii_alphanumeric() || matches!(is, b'-' | b'.' | b'_' | b'~') {
            hosts[byte] |= IN_NAME;
        }
        if is.is_ascii_hexdigit() || matches!(is, b':' | b'.') {
            hosts[byte] |= IN_LITERAL;
        }
        byte += 1;
    }
    hosts
};

/// A host for matching: lower-case, without port and without one trailing dot; an IPv6 literal keeps its brackets.
///
/// What is no host at all is cut in the same way, never refused: it then fits no route that names a host.
pub fn normalise_host(raw: &str) -> Cow<'_, str> {
    // Byte by byte, as in `split_target`.
    let bytes = raw.as_bytes();
    let at = |wanted: u8| bytes.iter().position(|byte| *byte == wanted);
    let literal = (bytes.first() == Some(&b'[')).then(|| at(b']')).flatten();
    let end = match literal {
        Some(end) => end + 1,
        // Whatever follows the colon goes, number or not: a made-up port must not get around a route for the host.
        None => at(b':').unwrap_or(raw.len()),
    };
    let host = raw.get(..end).unwrap_or(raw);
    lower_case(host.strip_suffix('.').unwrap_or(host))
}

/// A host in lower case, as nearly all are written.
pub fn lower_case(host: &str) -> Cow<'_, str> {
    match host.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
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
    /// A backslash as it is, or one beside dots: some servers take it for a slash. No URI has one (RFC 3986 §3.3).
    Backslash,
    /// A segment such as `..;x`, which some servers take for `..`.
    DotParameter,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadPath::NotAbsolute => "the path does not begin with \"/\"",
            BadPath::Encoding => "the path has a \"%\" without two hexadecimal digits after it",
            BadPath::Nul => "the path contains a zero byte",
            BadPath::AboveRoot => "the path leads above the root with \"..\"",
            BadPath::Backslash => {
                "the path has a backslash that is not encoded, or one beside dots"
            }
            BadPath::DotParameter => "the path has a \";\" after a segment of dots",
        })
    }
}

impl std::error::Error for BadPath {}

/// The path of a request target for matching: without query and fragment, decoded once, `//` merged, then `.` and `..`
/// resolved. An encoded slash or dot counts as one, as upstreams may take it for one. `*` (RFC 9110 §9.3.7) stays.
///
/// Escapes of `%`, `?`, `#` and `\`, and of bytes that are not UTF-8, are kept (in upper case): decoded, the result would be
/// ambiguous or no text. So the result is its own normal form.
///
/// # Errors
/// A path that has no normal form; see [`BadPath`].
pub fn normalise_path(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    if let Some((path, _)) = plain(raw) {
        return Ok(Cow::Borrowed(path));
    }
    if raw == "*" {
        return Ok(Cow::Borrowed(raw));
    }
    let (path, _) = split_target(raw);
    let below_root = path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
    let normal = into_text(resolve(&decode(below_root)?)?);
    Ok(if normal == path {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(normal)
    })
}

/// Path and query, the latter with its `?` or empty. A fragment is never part of a request (RFC 9110 §7.1): dropped.
fn split_target(raw: &str) -> (&str, &str) {
    // Byte by byte: looking for a character in a text this short takes several times as long.
    let bytes = raw.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b'#');
    let sent = raw.split_at(end.unwrap_or(raw.len())).0;
    let query = sent.as_bytes().iter().position(|byte| *byte == b'?');
    sent.split_at(query.unwrap_or(sent.len()))
}

/// Path and query of a target whose path is its own normal form beyond doubt, and that has no fragment: the common case, seen in
/// one pass, without copying.
fn plain(raw: &str) -> Option<(&str, &str)> {
    let bytes = raw.as_bytes();
    if bytes.first() != Some(&b'/') {
        return None;
    }
    let mut before = b'/';
    let mut end = bytes.len();
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        if TELLING[usize::from(*byte)] {
            match byte {
                b'?' => {
                    end = at;
                    break;
                }
                // A segment that begins with a dot is nearly never one of dots; but whoever has one can wait.
                b'/' | b'.' if before != b'/' => {}
                _ => return None,
            }
        }
        before = *byte;
    }
    let (path, query) = raw.split_at_checked(end)?;
    (!query.bytes().any(|byte| byte == b'#')).then_some((path, query))
}

/// Bytes after which a path may not be its own normal form, or not go on.
const TELLING: [bool; 256] = {
    let mut telling = [false; 256];
    let mut rest: &[u8] = b"/.?#%\\\0";
    while let [byte, others @ ..] = rest {
        telling[*byte as usize] = true;
        rest = others;
    }
    telling
};

/// What is sent in place of a target that leads somewhere by `.` or `..`, encoded or not: where it leads, so that the upstream
/// cannot find itself elsewhere than the route that was taken. `None` where there are none: all else is sent as it came.
///
/// # Errors
/// A path that has no normal form.
pub fn without_dots(path_and_query: &str) -> Result<Option<String>, BadPath> {
    if path_and_query == "*" || plain(path_and_query).is_some() {
        return Ok(None);
    }
    let (path, query) = split_target(path_and_query);
    let below_root = path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
    let decoded = decode(below_root)?;
    let normal = resolve(&decoded)?;
    let mut segments = decoded.split(|&b| b == b'/');
    let has_dots = segments.any(|segment| matches!(segment, b"." | b".."));
    Ok(has_dots.then(|| encode(&into_text(normal)) + query))
}

/// A path without the parameters of its segments, `/a;x=1/b` being `/a/b`: how servers of Java read it, and few others
/// (RFC 3986 §3.3). `None` where there are none. `normal`: see [`normalise_path`].
pub fn without_parameters(normal: &str) -> Option<String> {
    if !eights::has(normal.as_bytes(), b'/', |eight| eights::is(eight, b';')) {
        return None;
    }
    let names = normal
        .split('/')
        .map(|segment| match segment.split_once(';') {
            Some((name, _)) => name,
            None => segment,
        });
    let last = normal.rsplit('/').next().unwrap_or_default();
    let is_directory = last.is_empty() || last.starts_with(';');
    let mut bare = String::with_capacity(normal.len());
    for name in names.filter(|name| !name.is_empty()) {
        bare.push('/');
        bare.push_str(name);
    }
    if is_directory || bare.is_empty() {
        bare.push('/');
    }
    Some(bare)
}

fn decode(text: &str) -> Result<Vec<u8>, BadPath> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let value = match byte {
            b'%' => hex(bytes.next())? << 4 | hex(bytes.next())?,
            b'\\' => return Err(BadPath::Backslash),
            plain => plain,
        };
        match value {
            0 => return Err(BadPath::Nul),
            // Only an escape yields these: a bare `%` is none, and the others have ended the path or are refused.
            b'%' | b'?' | b'#' | b'\\' => decoded.extend(escape(value)),
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
            name if is_climbing(name) => return Err(BadPath::Backslash),
            name if name.starts_with(b".;") || name.starts_with(b"..;") => {
                return Err(BadPath::DotParameter);
            }
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

/// Whether a segment has dots beside an escaped backslash, which some servers take for a slash.
fn is_climbing(segment: &[u8]) -> bool {
    let segment = String::from_utf8_lossy(segment);
    let mut parts = segment.split("%5C");
    segment.contains("%5C") && parts.any(|part| matches!(part.split(';').next(), Some("." | "..")))
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
        if *self == Rewrite::None {
            return Ok(Cow::Borrowed(path_and_query));
        }
        let plain = plain(path_and_query);
        let (path, query) = plain.unwrap_or_else(|| split_target(path_and_query));
        let prefix = match self {
            Rewrite::None => return Ok(Cow::Borrowed(path_and_query)),
            Rewrite::SetPath(new) if new.contains('?') => return Ok(Cow::Owned(new.clone())),
            Rewrite::SetPath(new) => return Ok(Cow::Owned(format!("{new}{query}"))),
            Rewrite::StripPrefix(prefix) => prefix.strip_suffix('/').unwrap_or(prefix),
        };
        let normal = match plain {
            Some(_) => Cow::Borrowed(path),
            None => normalise_path(path)?,
        };
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

/// Where a redirect leads that was made by `template`. A place on this host stays one: a path that begins with two slashes, which
/// a client may ask for, would be taken for the name of another host (RFC 3986 §4.2), and so would one with backslashes.
pub fn on_this_host<'a>(location: &'a str, template: &str) -> Cow<'a, str> {
    let rest = location.trim_start_matches(['/', '\\']);
    match location.len() - rest.len() {
        0 | 1 => Cow::Borrowed(location),
        _ if template.starts_with("//") => Cow::Borrowed(location),
        _ => Cow::Owned(format!("/{rest}")),
    }
}

#[cfg(test)]
mod tests;
