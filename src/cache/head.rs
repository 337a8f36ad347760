//! The head of a stored answer: its status line and its fields in one piece, as HTTP/1 writes them (RFC 9112 §4).
//!
//! Most heads are only ever written to a client again, and there may be very many of them. So a head takes what its bytes take, and
//! becomes fields in a map for those who ask more of it than a name or two.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::{IntoCaseHeaderName, ResponseHeader};
use pingora::{ErrorType, OrErr};

/// Values of heads up to this length are parts of them. Of a long one each is a copy: a connection of HTTP/2 remembers single values.
const SHARED: usize = 2048;

/// Status and fields of a stored answer. Names are written as their maker wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The status line and the fields, each with the end of its line.
    written: Bytes,
    /// Where the fields begin.
    fields_at: usize,
}

impl Head {
    /// One without fields.
    fn begin(status: StatusCode, reason: &str) -> Vec<u8> {
        let mut written = Vec::with_capacity(512);
        for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
            written.extend_from_slice(part.as_bytes());
        }
        written
    }

    fn end(status: StatusCode, written: &[u8], fields_at: usize) -> Self {
        Head {
            status,
            // No more than it takes: what it was written into has room for more.
            written: Bytes::copy_from_slice(written),
            fields_at,
        }
    }

    /// One with these fields; none where what is said to be a field cannot be one.
    pub fn with_fields<'a>(
        status: StatusCode,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Option<Self> {
        let mut written = Self::begin(status, status.canonical_reason().unwrap_or_default());
        let fields_at = written.len();
        for (name, value) in fields {
            let ends = |byte: &u8| matches!(byte, b'\r' | b'\n');
            if name.is_empty() || name.iter().any(|byte| *byte == b':' || ends(byte)) {
                return None;
            }
            if value.iter().any(ends) {
                return None;
            }
            for part in [name, b": ", value, b"\r\n"] {
                written.extend_from_slice(part);
            }
        }
        Some(Self::end(status, &written, fields_at))
    }

    /// As HTTP/1 has it, but for the empty line at its end.
    pub fn written(&self) -> &[u8] {
        &self.written
    }

    /// The status line, with its end.
    pub fn status_line(&self) -> &[u8] {
        self.written.get(..self.fields_at).unwrap_or_default()
    }

    /// Names as they are written, and values, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.written.get(self.fields_at..).unwrap_or_default();
        std::iter::from_fn(move || {
            let colon = rest.iter().position(|byte| *byte == b':')?;
            let end = colon + rest.get(colon..)?.iter().position(|byte| *byte == b'\r')?;
            let field = (rest.get(..colon)?, rest.get(colon + 2..end)?);
            rest = rest.get(end + 2..)?;
            Some(field)
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
        self.fields().count()
    }

    fn part(&self, of: &[u8]) -> Bytes {
        match self.written.len() <= SHARED {
            true => self.written.slice_ref(of),
            false => Bytes::copy_from_slice(of),
        }
    }

    /// The fields of which this is true.
    fn map(&self, mut is_wanted: impl FnMut(&[u8]) -> bool) -> HeaderMap {
        let mut fields = HeaderMap::new();
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
        self.map(|_| true)
    }

    /// Those with one of these names.
    pub fn only(&self, names: &[HeaderName]) -> HeaderMap {
        self.map(|name| {
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
        let count = Some(self.count());
        let mut head = match with_case {
            true => ResponseHeader::build(self.status, count),
            false => ResponseHeader::build_no_case(self.status, count),
        }?;
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
        self.written.len()
    }
}

impl From<&ResponseHeader> for Head {
    fn from(head: &ResponseHeader) -> Self {
        let mut written = Self::begin(head.status, head.get_reason_phrase().unwrap_or_default());
        let fields_at = written.len();
        head.header_to_h1_wire(&mut written);
        Self::end(head.status, &written, fields_at)
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
                .written
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
            let head = Head::from(&told);
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
