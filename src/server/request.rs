//! A request of HTTP/1 as it came, and the connection that it came on.
//!
//! Read by [`crate::proxy::Front`], which answers most requests by it. What needs Pingora's phases becomes a session of Pingora's,
//! which is told the head once more.

use super::stream::{ClientStream, HeadRead, NoHead, Patience};
use crate::clock::Moment;
use crate::policy::eights;
use crate::policy::framing::{self, Doubt};
use crate::policy::target::UNFIT;
use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use percent_encoding::percent_encode;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::authority::validate_request_authority;
use pingora::protocols::http::v1::server::HttpSession;
use pingora::{Error, ErrorType, OrErr, Result};
use std::borrow::Cow;

/// The most fields that Pingora takes.
const MOST_FIELDS: usize = 256;
/// How many bytes one has, as a rule, and how many there are at most, but for few requests.
const USUAL_FIELD: usize = 32;
const USUAL: usize = 16;

/// A request and its connection.
pub struct Request {
    /// Where it came from, and its answer goes.
    pub stream: Box<ClientStream>,
    /// What it says of itself.
    pub head: Box<RequestHeader>,
    /// When all of that was there.
    pub at: Moment,
    /// What is doubtful in it.
    pub doubt: Option<Doubt>,
    /// Whether its connection can serve another one.
    pub keeps: bool,
    /// How many bytes of its content were sent on.
    pub sent: usize,
    /// The head of its answer, where that is to be remembered.
    pub written: Option<Box<ResponseHeader>>,
    /// Its own head as it came.
    bytes: Bytes,
}

/// Why there is none.
#[derive(Debug)]
pub enum NoRequest {
    /// Its head did not come.
    NoHead(NoHead),
    /// What came is none: this, and why.
    Malformed(Bytes, Box<Error>),
}

impl Request {
    /// Reads the next request of a connection.
    ///
    /// # Errors
    /// When there is none; the connection comes along.
    pub async fn read(
        mut stream: Box<ClientStream>,
        patience: Patience,
    ) -> std::result::Result<Self, (Box<ClientStream>, NoRequest)> {
        let HeadRead { bytes, at, doubt } = match stream.head(patience).await {
            Ok(read) => read,
            Err(none) => return Err((stream, NoRequest::NoHead(none))),
        };
        match parse(&bytes) {
            Ok(head) => Ok(Request {
                keeps: framing::keeps(head.version, &head.headers),
                stream,
                head,
                at,
                doubt,
                sent: 0,
                written: None,
                bytes,
            }),
            Err(e) => Err((stream, NoRequest::Malformed(bytes, e))),
        }
    }

    /// How many bytes its head has.
    pub fn head_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has content.
    pub fn has_content(&self) -> bool {
        !self.stream.is_at_end()
    }

    /// Its fields as they came: names and values.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let bytes = &self.bytes;
        let lines = Lines { bytes, at: 0 }.skip(1);
        lines.filter_map(|(start, end)| field(bytes.get(start..end)?))
    }

    /// Its head with the target that was made of one that is no text.
    fn with_text(&self) -> BytesMut {
        let version = match self.head.version {
            Version::HTTP_10 => b" HTTP/1.0",
            _ => b" HTTP/1.1",
        };
        let end = self.bytes.iter().position(|byte| *byte == b'\r');
        let fields = self.bytes.get(end.unwrap_or_default()..);
        let method = self.head.method.as_str().as_bytes();
        let mut head = BytesMut::with_capacity(2 * self.bytes.len());
        for part in [
            method,
            b" ",
            self.head.raw_path(),
            version,
            fields.unwrap_or_default(),
        ] {
            head.extend_from_slice(part);
        }
        head
    }

    /// Makes it one that Pingora serves.
    ///
    /// # Errors
    /// When Pingora does not take it; the connection comes along.
    pub async fn into_session(
        self,
    ) -> std::result::Result<Box<ServerSession>, (Option<Box<ClientStream>>, NoRequest)> {
        let told = match std::str::from_utf8(&self.bytes) {
            Ok(_) => BytesMut::from(&*self.bytes),
            // Pingora would not take a target that is no text.
            Err(_) => self.with_text(),
        };
        let mut session = HttpSession::new(self.stream);
        session.set_pipelined_prefix(told);
        let read = session.read_request().await;
        let read = read.and_then(|read| match read {
            // What was found out of one holds for the other.
            Some(_) if session.req_header().headers == self.head.headers => Ok(()),
            _ => Err(malformed()),
        });
        if let Err(e) = read {
            let stream = ClientStream::from_stream(session.into_inner());
            return Err((stream, NoRequest::Malformed(self.bytes, e)));
        }
        if session.req_header().raw_path() != self.head.raw_path() {
            session.req_header_mut().set_uri(self.head.uri.clone());
        }
        let mut session = Box::new(ServerSession::H1(session));
        // Pingora waits for no further request: any number of seconds means that one may follow.
        session.set_keepalive(self.keeps.then_some(1));
        Ok(session)
    }
}

fn malformed() -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, "a head that is none")
}

/// Reads a head whose lines are as they should be.
fn parse(bytes: &Bytes) -> Result<Box<RequestHeader>> {
    let mut lines = Lines { bytes, at: 0 };
    let (start, end) = lines.next().ok_or_else(malformed)?;
    let line = bytes.get(start..end).unwrap_or_default();
    let (method, rest) = parted(line, b' ').ok_or_else(malformed)?;
    let (target, version) = parted(rest, b' ').ok_or_else(malformed)?;
    if target.is_empty() {
        return Err(malformed());
    }
    let target = match std::str::from_utf8(target) {
        Ok(_) => Cow::Borrowed(target),
        Err(_) => {
            let text: Cow<'_, str> = percent_encode(target, UNFIT).into();
            Cow::Owned(text.into_owned().into_bytes())
        }
    };
    let version = match version {
        b"HTTP/1.0" => Version::HTTP_10,
        b"HTTP/1.1" => Version::HTTP_11,
        _ => return Err(malformed()),
    };
    let mut headers = HeaderMap::with_capacity((bytes.len() / USUAL_FIELD).min(USUAL));
    for (start, end) in lines {
        let Some((name, value)) = bytes.get(start..end).and_then(field) else {
            continue;
        };
        if headers.len() >= MOST_FIELDS {
            return Err(malformed());
        }
        let name = HeaderName::from_bytes(name);
        let name = name.or_err(ErrorType::InvalidHTTPHeader, "a name that is none")?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value));
        let value = value.or_err(ErrorType::InvalidHTTPHeader, "a value that is none")?;
        let added = headers.try_append(name, value);
        added.or_err(ErrorType::InvalidHTTPHeader, "too many fields")?;
    }
    match target {
        Cow::Borrowed(path @ [b'/', ..]) => {
            with_path(method, bytes.slice_ref(path), version, headers)
        }
        _ => with_target(method, &target, version, &headers),
    }
    .map(Box::new)
}

/// The head of a request for a path, as nearly all are. Its names are read once, and what is not changed is not copied.
fn with_path(
    method: &[u8],
    path: Bytes,
    version: Version,
    headers: HeaderMap,
) -> Result<RequestHeader> {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    let method = Method::from_bytes(method);
    parts.method = method.or_err(ErrorType::InvalidHTTPHeader, "a method that is none")?;
    let path = PathAndQuery::from_maybe_shared(path);
    parts.uri = path
        .or_err(ErrorType::InvalidHTTPHeader, "a target that is none")?
        .into();
    parts.version = version;
    parts.headers = headers;
    Ok(parts.into())
}

/// The same for any other target, which Pingora has to judge.
fn with_target(
    method: &[u8],
    target: &[u8],
    version: Version,
    headers: &HeaderMap,
) -> Result<RequestHeader> {
    let mut head = RequestHeader::build_no_case(method, target, Some(headers.len()))?;
    head.set_version(version);
    for (name, value) in headers {
        head.append_header(name, value.clone())?;
    }
    // A path has none, and what `Host` may be is seen to by who routes by it.
    if !target.starts_with(b"/") {
        validate_request_authority(&head)?;
    }
    Ok(head)
}

/// Name and value of a line.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = parted(line, b':')?;
    Some((name, value.trim_ascii()))
}

/// What is before and after the first of these bytes.
fn parted(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let (before, from) = bytes.split_at_checked(place(bytes, byte))?;
    Some((before, from.get(1..)?))
}

/// Where the first of these bytes is, or the end.
fn place(bytes: &[u8], byte: u8) -> usize {
    eights::before(
        bytes,
        |eight| eights::is(eight, byte),
        |other| other == byte,
    )
}

/// Where the lines of a head are.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let rest = self.bytes.get(self.at..)?;
        let end = place(rest, b'\r');
        let line = (self.at, self.at + end);
        self.at += end + 2;
        (end > 0 && end < rest.len()).then_some(line)
    }
}

/// Whether content comes only once its client is told to send it (RFC 9110 §10.1.1).
pub fn waits_to_be_told(head: &RequestHeader) -> bool {
    let expects = head.headers.get(header::EXPECT);
    expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heads() {
        let text = b"POST /a?b=\xe4 HTTP/1.0\r\nHost: a.example\r\nx-Empty:\r\nX-Two: \t1 \t2 \t\r\nX-Two:3\r\n\r\n";
        let head = parse(&Bytes::from_static(text)).unwrap();
        assert_eq!(
            (head.method.as_str(), head.version),
            ("POST", Version::HTTP_10)
        );
        assert_eq!(head.raw_path(), b"/a?b=%E4");
        let two = head.headers.get_all("x-two").iter();
        assert_eq!(two.collect::<Vec<_>>(), ["1 \t2", "3"]);
        assert_eq!(head.headers["x-empty"], "");
        assert_eq!(head.headers.len(), 4);
        let absolute = |host| {
            let text = format!("GET http://a.example/x HTTP/1.1\r\nHost: {host}\r\n\r\n");
            parse(&Bytes::from(text))
        };
        assert_eq!(
            absolute("a.example").unwrap().raw_path(),
            b"http://a.example/x"
        );
        assert!(absolute("b.example").is_err());
        let many = "A: b\r\n".repeat(MOST_FIELDS + 1);
        assert!(parse(&Bytes::from(format!("GET / HTTP/1.1\r\n{many}\r\n"))).is_err());
        assert!(parse(&Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")).is_ok());
    }
    proptest! {
        #[test]
        fn a_path_is_taken_as_pingora_takes_it(rest in "[ -~\u{7f}\u{e4}#?%]{0,12}") {
            let target = Bytes::from(format!("/{rest}"));
            let path = with_path(b"GET", target.clone(), Version::HTTP_11, HeaderMap::new());
            let pingora = with_target(b"GET", &target, Version::HTTP_11, &HeaderMap::new());
            let told = |head: Result<RequestHeader>| {
                let head = head.ok()?;
                Some((head.uri.clone(), head.raw_path().to_vec(), head.raw_path_is_utf8()))
            };
            prop_assert_eq!(told(path), told(pingora));
        }
    }
}
