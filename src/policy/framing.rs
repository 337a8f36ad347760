//! Whether it is beyond doubt where a request ends (RFC 9112 §6, §2.2).
//!
//! Asked by `proxy::front` of every head that was read, after `policy::http1`. What two programs could read in two ways is refused, so that nothing
//! ambiguous is ever sent on: each way of smuggling a request into another begins with such a head.

use super::fields;
use http::{HeaderMap, HeaderName, Version, header};
use std::fmt;

/// What is doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The first line is not a method, a target without control bytes and spaces, and HTTP/1.1 or 1.0.
    RequestLine,
    /// A line ends with a line feed alone, or a carriage return stands alone.
    LineEnd,
    /// A line is folded.
    Folded,
    /// A name has what no name has, a space before its colon for one.
    Name,
    /// A value has a control byte.
    Control,
    /// A chunk is not as chunks are.
    Chunk,
    /// There are too many trailers.
    Trailers,
    /// Both a length and a coding say where it ends.
    LengthAndCoding,
    /// The coding is not `chunked` alone, or HTTP/1.0 knows none.
    Coding,
    /// The length is not one number.
    Length,
    /// Two hosts are named.
    Host,
    /// `Connection` names a field that is not of one connection only.
    Connection,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what the client sends is in doubt: {}", self.word())
    }
}

impl std::error::Error for Doubt {}

impl Doubt {
    /// The log's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Doubt::RequestLine => "request_line",
            Doubt::LineEnd => "bare_line_end",
            Doubt::Folded => "folded_line",
            Doubt::Name => "field_name",
            Doubt::Control => "control_byte",
            Doubt::Chunk => "chunk",
            Doubt::Trailers => "trailers",
            Doubt::LengthAndCoding => "length_and_coding",
            Doubt::Coding => "transfer_coding",
            Doubt::Length => "content_length",
            Doubt::Host => "two_hosts",
            Doubt::Connection => "connection_field",
        }
    }
}

/// Judges the fields of a head; the bytes of one of HTTP/1 `policy::http1` has seen. `authority` is that of the target, if it
/// has one.
///
/// # Errors
/// With the first thing that is doubtful.
pub fn judge(version: Version, authority: Option<&str>, headers: &HeaderMap) -> Result<(), Doubt> {
    let mut lengths = fields::all(headers, &header::CONTENT_LENGTH);
    let mut codings = fields::all(headers, &header::TRANSFER_ENCODING);
    let (length, coding) = (lengths.next(), codings.next());
    if let Some(coding) = coding {
        // HTTP/2 has none, and HTTP/1.0 did not know of it (§6.1).
        let plain = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        if length.is_some() {
            return Err(Doubt::LengthAndCoding);
        }
        if !plain || version != Version::HTTP_11 {
            return Err(Doubt::Coding);
        }
    }
    if let Some(length) = length
        && (!is_number(length.as_bytes()) || lengths.next().is_some())
    {
        return Err(Doubt::Length);
    }
    // What it names is taken out on the way (RFC 9110 §7.6.1): a field that was looked at here would not be there later.
    if named(headers).any(is_end_to_end) {
        return Err(Doubt::Connection);
    }
    let mut hosts = fields::all(headers, &header::HOST);
    let host = hosts.next().map(|host| host.as_bytes());
    // Even if it is the same twice (RFC 9112 §3.2).
    if hosts.next().is_some() {
        return Err(Doubt::Host);
    }
    match (authority, host) {
        (Some(authority), Some(host)) if !same_host(authority.as_bytes(), host) => Err(Doubt::Host),
        _ => Ok(()),
    }
}

/// Judges the head of an answer: what a client could read otherwise is not sent on, and its connection is not used again.
///
/// # Errors
/// With the first thing that is doubtful.
pub fn judge_answer(version: Version, headers: &HeaderMap) -> Result<(), Doubt> {
    let mut codings = fields::all(headers, &header::TRANSFER_ENCODING);
    if let Some(coding) = codings.next() {
        let plain = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        if fields::has(headers, &header::CONTENT_LENGTH) {
            return Err(Doubt::LengthAndCoding);
        }
        // A server of HTTP/1.0 that sends one does not know what it does (RFC 9112 §6.1).
        if !plain || version != Version::HTTP_11 {
            return Err(Doubt::Coding);
        }
    }
    let mut lengths = fields::all(headers, &header::CONTENT_LENGTH);
    match (lengths.next(), lengths.next()) {
        (Some(length), None) if !is_number(length.as_bytes()) => Err(Doubt::Length),
        (Some(_), Some(_)) => Err(Doubt::Length),
        _ => Ok(()),
    }
}

/// Whether this is one length.
fn is_number(digits: &[u8]) -> bool {
    !digits.is_empty() && digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit)
}

/// Whether a field that `Connection` names concerns more than the connection: who asks, what for, and where from.
fn is_end_to_end(name: &[u8]) -> bool {
    const FIELDS: [&str; 12] = [
        "authorization",
        "cookie",
        "content-type",
        "content-encoding",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "origin",
        "range",
        "transfer-encoding",
        "x-request-id",
    ];
    FIELDS
        .iter()
        .any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
}

/// The words of `Connection`: what becomes of it, and the fields that concern it only (RFC 9110 §7.6.1).
pub fn named(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = fields::all(headers, &header::CONNECTION);
    let words = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    words.map(<[u8]>::trim_ascii)
}

/// Whether the connection of a request with this head can serve another one after it (RFC 9112 §9.3).
pub fn keeps(version: Version, headers: &HeaderMap) -> bool {
    let mut keeps = version >= Version::HTTP_11;
    for word in named(headers) {
        if word.eq_ignore_ascii_case(b"close") {
            return false;
        }
        keeps |= word.eq_ignore_ascii_case(b"keep-alive");
    }
    keeps
}

/// Whether clients of this version know chunks (RFC 9112 §7.1) and interim answers (RFC 9110 §15.2).
pub fn knows_chunks(version: Version) -> bool {
    version >= Version::HTTP_11
}

/// Whether `Connection` names this field, which then is not there for the upstream.
pub fn hides(headers: &HeaderMap, field: &HeaderName) -> bool {
    named(headers).any(|name| name.eq_ignore_ascii_case(field.as_str().as_bytes()))
}

/// Without a case; a user's name in the authority is not part of the host.
fn same_host(authority: &[u8], host: &[u8]) -> bool {
    let at = authority
        .iter()
        .rposition(|b| *b == b'@')
        .map_or(0, |at| at + 1);
    authority
        .get(at..)
        .unwrap_or_default()
        .eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn answers_that_are_doubtful() {
        let eleven = Version::HTTP_11;
        for (version, fields, verdict) in [
            (eleven, &[][..], Ok(())),
            (eleven, &["content-length: 5"], Ok(())),
            (eleven, &["transfer-encoding: Chunked"], Ok(())),
            (Version::HTTP_10, &["content-length: 5"], Ok(())),
            (Version::HTTP_2, &["content-length: 5"], Ok(())),
            (
                eleven,
                &["content-length: 5", "content-length: 5"],
                Err(Doubt::Length),
            ),
            (eleven, &["content-length: 5, 5"], Err(Doubt::Length)),
            (eleven, &["content-length: -5"], Err(Doubt::Length)),
            (eleven, &["content-length: "], Err(Doubt::Length)),
            (
                eleven,
                &["transfer-encoding: gzip, chunked"],
                Err(Doubt::Coding),
            ),
            (eleven, &["transfer-encoding: identity"], Err(Doubt::Coding)),
            (
                eleven,
                &["transfer-encoding: chunked", "transfer-encoding: chunked"],
                Err(Doubt::Coding),
            ),
            (
                Version::HTTP_10,
                &["transfer-encoding: chunked"],
                Err(Doubt::Coding),
            ),
            (
                eleven,
                &["transfer-encoding: chunked", "content-length: 5"],
                Err(Doubt::LengthAndCoding),
            ),
        ] {
            let mut map = HeaderMap::new();
            for field in fields {
                let (name, value) = field.split_once(": ").unwrap();
                let name: HeaderName = name.parse().unwrap();
                map.append(name, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(judge_answer(version, &map), verdict, "{fields:?}");
        }
    }

    #[test]
    fn what_is_doubtful() {
        use Doubt::{Coding, Host, Length, LengthAndCoding};
        let eleven = Version::HTTP_11;
        for (version, fields, verdict) in [
            (eleven, "host: a", Ok(())),
            (eleven, "host: a\r\ncontent-length: 3", Ok(())),
            (eleven, "host: a\r\ntransfer-encoding: chunked", Ok(())),
            (eleven, "host: a\r\ntransfer-encoding: Chunked", Ok(())),
            (
                eleven,
                "content-length: 3\r\ntransfer-encoding: chunked",
                Err(LengthAndCoding),
            ),
            (eleven, "transfer-encoding: chunked, chunked", Err(Coding)),
            (eleven, "transfer-encoding: gzip, chunked", Err(Coding)),
            (eleven, "transfer-encoding: identity", Err(Coding)),
            (
                eleven,
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
                Err(Coding),
            ),
            (Version::HTTP_10, "transfer-encoding: chunked", Err(Coding)),
            (Version::HTTP_2, "transfer-encoding: chunked", Err(Coding)),
            (eleven, "content-length: +3", Err(Length)),
            (eleven, "content-length: 3, 3", Err(Length)),
            (
                eleven,
                "content-length: 3\r\ncontent-length: 3",
                Err(Length),
            ),
            (eleven, "content-length: 0x3", Err(Length)),
            (eleven, "content-length: ", Err(Length)),
            (eleven, "content-length: 99999999999999999999", Err(Length)),
            (eleven, "connection: close, x-mine", Ok(())),
            (
                eleven,
                "connection: close, Authorization",
                Err(Doubt::Connection),
            ),
            (eleven, "host: a\r\nhost: a", Err(Host)),
        ] {
            let headers = fields.split("\r\n").filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                Some((
                    name.parse::<HeaderName>().ok()?,
                    HeaderValue::from_str(value).ok()?,
                ))
            });
            let mut map = HeaderMap::new();
            headers.for_each(|(name, value)| {
                map.append(name, value);
            });
            assert_eq!(judge(version, None, &map), verdict, "{fields:?}");
        }
        for (authority, host, verdict) in [
            ("a.example", "a.example", Ok(())),
            ("A.example", "a.Example", Ok(())),
            ("ann@a.example", "a.example", Ok(())),
            ("a.example:80", "a.example", Err(Host)),
            ("a.example", "b.example", Err(Host)),
        ] {
            let host = HeaderValue::from_str(host).unwrap();
            let map = [(header::HOST, host)].into_iter().collect();
            assert_eq!(
                judge(Version::HTTP_2, Some(authority), &map),
                verdict,
                "{authority}"
            );
        }
    }
}
