//! The head of a stored answer: its status line and its fields in one piece, as HTTP/1 writes them (RFC 9112 §4).
//!
//! Most heads are only ever written to a client again, and there may be very many of them. So a head takes what its bytes take, and
//! becomes fields in a map for those who ask more of it than a name or two.

use crate::policy::http1::is_token;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::{HeaderNameVariant, IntoCaseHeaderName, ResponseHeader};
use pingora::{Error, ErrorType, OrErr};
use std::ops::Range;

/// Values of heads up to this length are parts of them. Of a long one each is a copy: a connection of HTTP/2 remembers single values.
const SHARED: usize = 1024;

/// Status and fields of a stored answer. Names are written as their maker wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The status line and the fields, each with the end of its line; then, of each field, how long its name and its value are.
    bytes: Bytes,
    /// Where the fields begin, and where they end.
    fields_at: Range<usize>,
}

/// More fields than this few heads have.
const USUAL: usize = 64;

/// How long a name and a value are, as bytes.
const LENGTHS: usize = 2 * size_of::<u32>();

/// What becomes a head.
struct Writing {
    status: StatusCode,
    written: Vec<u8>,
    lengths: Vec<u8>,
    fields_at: usize,
}

impl Writing {
    /// One without fields.
    fn begin(status: StatusCode, reason: &str) -> Self {
        let mut written = Vec::with_capacity(1024);
        for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
            written.extend_from_slice(part.as_bytes());
        }
        Writing {
            status,
            fields_at: written.len(),
            written,
            lengths: Vec::with_capacity(32 * LENGTHS),
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        for part in [name, b": ", value, b"\r\n"] {
            self.written.extend_from_slice(part);
        }
        for part in [name, value] {
            let length = u32::try_from(part.len()).ok()?;
            self.lengths.extend_from_slice(&length.to_le_bytes());
        }
        Some(())
    }

    /// None where it would be read as another one.
    fn end(mut self) -> Option<Head> {
        let count = |wanted: u8| self.written.iter().filter(|byte| **byte == wanted).count();
        let lines = 1 + self.lengths.len() / LENGTHS;
        if count(b'\r') != lines || count(b'\n') != lines {
            return None;
        }
        let fields_at = self.fields_at..self.written.len();
        self.written.extend_from_slice(&self.lengths);
        Some(Head {
            status: self.status,
            // No more than it takes: what it was written into has room for more.
            bytes: Bytes::copy_from_slice(&self.written),
            fields_at,
        })
    }
}

impl Head {
    /// One with these fields; none where what is said to be a field cannot be one.
    pub fn with_fields<'a>(
        status: StatusCode,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Option<Self> {
        let mut head = Writing::begin(status, status.canonical_reason().unwrap_or_default());
        for (name, value) in fields {
            let is_of_value = |byte: &u8| *byte >= b' ' && *byte != 0x7f || *byte == b'\t';
            if name.is_empty()
                || !name.iter().copied().all(is_token)
                || !value.iter().all(is_of_value)
            {
                return None;
            }
            head.field(name, value)?;
        }
        head.end()
    }

    /// That of an answer that comes.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(head: &ResponseHeader) -> pingora::Result<Self> {
        let reason = head.get_reason_phrase().unwrap_or_default();
        let mut writing = Writing::begin(head.status, reason);
        let mut end = Some(());
        let mut add = |name: &[u8], value: &HeaderValue| {
            end = end.and_then(|()| writing.field(name, value.as_bytes()));
        };
        head.map(|name, value| {
            match name {
                HeaderNameVariant::Case(name) => add(name.as_slice(), value),
                HeaderNameVariant::Titled(name) => add(name.as_bytes(), value),
            }
            Ok(())
        })?;
        let head = end.and_then(|()| writing.end());
        head.ok_or_else(|| {
            Error::explain(ErrorType::InvalidHTTPHeader, "a head that cannot be stored")
        })
    }

    /// As HTTP/1 has it, but for the empty line at its end.
    pub fn written(&self) -> &[u8] {
        self.bytes.get(..self.fields_at.end).unwrap_or_default()
    }

    /// The status line, with its end.
    pub fn status_line(&self) -> &[u8] {
        self.bytes.get(..self.fields_at.start).unwrap_or_default()
    }

    /// Names as they are written, and values, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lengths = self.bytes.get(self.fields_at.end..).unwrap_or_default();
        let (lengths, _) = lengths.as_chunks::<4>();
        let length =
            |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).unwrap_or_default();
        let mut at = self.fields_at.start;
        lengths
            .as_chunks::<2>()
            .0
            .iter()
            .filter_map(move |[name, value]| {
                let name = at..at + length(name);
                let value = name.end + 2..name.end + 2 + length(value);
                at = value.end + 2;
                Some((self.bytes.get(name)?, self.bytes.get(value)?))
            })
    }

    /// The values of one field, in order.
    pub fn values(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let name = name.as_str().as_bytes();
        let named = self
            .fields()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value)
    }

    /// How many fields there are.
    fn count(&self) -> usize {
        (self.bytes.len() - self.fields_at.end) / LENGTHS
    }

    fn part(&self, of: &[u8]) -> Bytes {
        match self.bytes.len() <= SHARED {
            true => self.bytes.slice_ref(of),
            false => Bytes::copy_from_slice(of),
        }
    }

    /// Those fields of which this is true, put into this.
    fn map(&self, mut fields: HeaderMap, is_wanted: impl Fn(&[u8]) -> bool) -> HeaderMap {
        for (name, value) in self.fields().filter(|(name, _)| is_wanted(name)) {
            let name = HeaderName::from_bytes(name);
            let value = HeaderValue::from_maybe_shared(self.part(value));
            // What is stored was both.
            if let (Ok(name), Ok(value)) = (name, value) {
                let _ = fields.try_append(name, value);
            }
        }
        fields
    }

    /// All fields.
    pub fn headers(&self) -> HeaderMap {
        self.map(HeaderMap::with_capacity(self.count().min(USUAL)), |_| true)
    }

    /// Those with one of these names.
    pub fn only(&self, names: &[HeaderName]) -> HeaderMap {
        self.map(HeaderMap::new(), |name| {
            names
                .iter()
                .any(|wanted| name.eq_ignore_ascii_case(wanted.as_str().as_bytes()))
        })
    }

    /// As Pingora has it. `with_case`: whether names are to be written as they are here.
    ///
    /// # Errors
    /// When Pingora does not take it.
    pub fn response(&self, with_case: bool) -> pingora::Result<ResponseHeader> {
        if !with_case {
            let (mut parts, ()) = http::Response::new(()).into_parts();
            parts.status = self.status;
            parts.headers = self.headers();
            return Ok(parts.into());
        }
        let mut head = ResponseHeader::build(self.status, Some(self.count()))?;
        let line = self.status_line().strip_suffix(b"\r\n");
        let reason = line.and_then(|line| line.get("HTTP/1.1 200 ".len()..));
        let reason = reason.and_then(|reason| str::from_utf8(reason).ok());
        let reason = reason.filter(|reason| !reason.is_empty());
        head.set_reason_phrase(reason)?;
        for (name, value) in self.fields() {
            let value = HeaderValue::from_maybe_shared(self.part(value));
            let value = value.or_err(ErrorType::InvalidHTTPHeader, "a stored value")?;
            head.append_header(self.part(name).into_case_header_name(), value)?;
        }
        Ok(head)
    }

    /// How many bytes it takes, beside itself.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header;
    use proptest::prelude::*;

    fn head(fields: &[(&str, &str)]) -> Head {
        let fields = fields.iter();
        let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        Head::with_fields(StatusCode::OK, fields).unwrap()
    }

    #[test]
    fn what_it_has() {
        let head = head(&[
            ("ETag", "\"a\""),
            ("X-b", "1"),
            ("x-B", ""),
            ("Vary", "c: d"),
        ]);
        assert_eq!(
            str::from_utf8(head.written()).unwrap(),
            "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nX-b: 1\r\nx-B: \r\nVary: c: d\r\n"
        );
        assert_eq!(head.status_line(), b"HTTP/1.1 200 OK\r\n");
        let values = |name: HeaderName| head.values(&name).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(
            values(HeaderName::from_static("x-b")),
            [b"1".to_vec(), b"".to_vec()]
        );
        assert_eq!(values(header::VARY), [b"c: d"]);
        assert!(values(header::AGE).is_empty());
        let some = head.only(&[header::VARY, header::ETAG]);
        assert_eq!(
            (some.len(), &some["vary"], &some["etag"]),
            (
                2,
                &HeaderValue::from_static("c: d"),
                &HeaderValue::from_static("\"a\"")
            )
        );
        assert_eq!(head.headers().len(), 4);
    }

    #[test]
    fn what_is_no_field_makes_no_head() {
        for (name, value) in [
            ("a", "b\r\nc: d"),
            ("a", "b\n"),
            ("a:b", "c"),
            ("a\r", "b"),
            ("a ", "b"),
            ("a\u{e4}", "b"),
            ("a(b", "c"),
            ("a", "\0"),
            ("a", "\u{1b}[2J"),
            ("a", "\u{7f}"),
            ("", "b"),
        ] {
            let fields = [(name.as_bytes(), value.as_bytes())].into_iter();
            assert_eq!(
                Head::with_fields(StatusCode::OK, fields),
                None,
                "{name:?} {value:?}"
            );
        }
    }

    #[test]
    fn a_long_one_lends_none_of_its_bytes() {
        let long = "v".repeat(SHARED);
        let head = head(&[("a", &long), ("b", "w")]);
        let fields = head.headers();
        assert_eq!(fields["b"], "w");
        assert!(
            !head
                .bytes
                .as_ptr_range()
                .contains(&fields["b"].as_bytes().as_ptr())
        );
    }

    proptest! {
        #[test]
        fn it_becomes_what_it_was(
            status in 200u16..600,
            reason in prop::option::of("[A-Za-z ]{1,12}"),
            with_case: bool,
            fields in prop::collection::vec(("[A-Za-z-]{1,9}", "[ -~\u{80}-\u{ff}\t]{0,20}"), 0..12),
        ) {
            let mut told = match with_case {
                true => ResponseHeader::build(status, None),
                false => ResponseHeader::build_no_case(status, None),
            }.unwrap();
            told.set_reason_phrase(reason.as_deref()).unwrap();
            for (name, value) in &fields {
                told.append_header(name.clone(), value.as_bytes()).unwrap();
            }
            let wire = |head: &ResponseHeader| {
                let mut out = Vec::new();
                head.header_to_h1_wire(&mut out);
                out
            };
            let head = Head::of(&told).unwrap();
            prop_assert_eq!(head.count(), fields.len());
            prop_assert_eq!(&head.headers(), &told.headers);
            let again = head.response(true).unwrap();
            prop_assert_eq!(&again.headers, &told.headers);
            prop_assert_eq!(wire(&again), wire(&told));
            prop_assert_eq!((again.status, again.get_reason_phrase()), (told.status, told.get_reason_phrase()));
            prop_assert_eq!(&head.response(false).unwrap().headers, &told.headers);
            // As the disk tier writes it down, where its reason is the usual one.
            let fields = head.fields();
            let read = Head::with_fields(head.status, fields).unwrap();
            prop_assert_eq!(read.headers(), head.headers());
        }
    }
}
