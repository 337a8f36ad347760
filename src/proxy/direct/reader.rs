//! An answer of HTTP/1 as it is read from a backend's connection (RFC 9112 §4, §6).
//!
//! Fed by [`super`]. Bytes are read into room that the worker's requests share, and that none of them has while it waits for
//! more: ten thousand that wait cost no more than the few that do not.

use super::field_writer::{FieldWriter, place};
use crate::policy::chunks::{Chunks, Malformed, Piece};
use crate::policy::fields;
use crate::policy::plain;
use crate::upstream::links::Link;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use httparse::{ParserConfig, Status};
use pingora::http::{IntoCaseHeaderName, ResponseHeader, header_value_from_raw};
use pingora::{Error, ErrorType, OrErr, Result};
use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// What is read at once.
const ROOM: usize = 64 * 1024;
/// The longest head, and the most fields: what Pingora takes.
const LONGEST_HEAD: usize = 1024 * 1024;
const MOST_FIELDS: usize = 256;
/// Fields that most answers have at most.
const USUAL_FIELDS: usize = 64;
/// So many pieces of room are kept by a worker.
const SPARE: usize = 8;
/// So many chunks are looked at before what is in them goes on.
const AT_ONCE: usize = 64;

thread_local! {
    static ROOMS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What was read and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Empty while there is nothing.
    room: Vec<u8>,
    unread: Range<usize>,
}

impl Reader {
    /// Reads what is there; says how many bytes. None at the end.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
    ) -> Poll<io::Result<usize>> {
        // Whoever waits has no room, and it is asked before there is any.
        self.rest();
        ready!(link.tcp.poll_read_ready(cx))?;
        if self.room.is_empty() {
            let spare = ROOMS.with_borrow_mut(Vec::pop);
            self.room = spare.unwrap_or_else(|| vec![0; ROOM]);
        }
        if self.unread.start > 0 {
            self.room.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.room.len() {
            self.room.resize(2 * self.room.len(), 0);
        }
        let free = self.room.get_mut(self.unread.end..).unwrap_or_default();
        let mut free = ReadBuf::new(free);
        // Unlike a mere attempt it takes note of it when that was all there is, which saves another one.
        let read = Pin::new(&mut link.tcp).poll_read(cx, &mut free);
        let bytes = free.filled().len();
        self.unread.end += bytes;
        if bytes == 0 {
            self.rest();
        }
        read.map_ok(|()| bytes)
    }

    /// Gives the room back, if there is nothing in it.
    pub(super) fn rest(&mut self) {
        if self.unread.is_empty() && !self.room.is_empty() {
            let room = std::mem::take(&mut self.room);
            self.unread = 0..0;
            ROOMS.with_borrow_mut(|rooms| {
                if rooms.len() < SPARE && room.len() == ROOM {
                    rooms.push(room);
                }
            });
        }
    }

    /// What is there.
    pub(super) fn unread(&self) -> &[u8] {
        self.room.get(self.unread.clone()).unwrap_or_default()
    }

    /// Takes so much of it.
    pub(super) fn take(&mut self, bytes: usize) {
        self.unread.start = (self.unread.start + bytes).min(self.unread.end);
    }

    /// Takes a head, if all of it is there and it is a plain one of which this holds: writes it as it goes to the
    /// client, but for its end. All others stay where they are.
    pub(super) fn plain_head(
        &mut self,
        is_fit: impl FnOnce(StatusCode, &plain::Answer) -> bool,
        out: &mut Vec<u8>,
    ) -> Option<(StatusCode, plain::Answer)> {
        self.plain(is_fit, |code, parsed, (bytes, _)| {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(code.as_str().as_bytes());
            out.push(b' ');
            let reason = parsed.reason.or(code.canonical_reason());
            out.extend_from_slice(reason.unwrap_or_default().as_bytes());
            out.extend_from_slice(b"\r\n");
            let mut writer = FieldWriter::of(bytes);
            for field in parsed.headers.iter() {
                if !plain::is_of_connection(field.name) {
                    writer.write(out, field.name.as_bytes(), field.value);
                }
            }
            writer.end(out);
            Some(code)
        })
    }

    /// The same for HTTP/2, which has no need of its bytes.
    pub(super) fn plain_fields(
        &mut self,
        is_fit: impl FnOnce(StatusCode, &plain::Answer) -> bool,
    ) -> Option<((StatusCode, HeaderMap), plain::Answer)> {
        let is_passed = |name: &str| {
            // Where content ends is said by its frames.
            !plain::is_of_connection(name) && !name.eq_ignore_ascii_case("transfer-encoding")
        };
        self.plain(is_fit, |code, parsed, bytes| {
            let mut fields = HeaderMap::with_capacity(parsed.headers.len() + 1);
            let part = parts(bytes);
            for field in parsed.headers.iter().filter(|field| is_passed(field.name)) {
                let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
                let value = HeaderValue::from_maybe_shared(part(field.value)).ok()?;
                fields.append(name, value);
            }
            Some((code, fields))
        })
    }

    /// Takes such a head, and makes something of it: of its status, its fields, and its bytes with how many of them those are.
    fn plain<T>(
        &mut self,
        is_fit: impl FnOnce(StatusCode, &plain::Answer) -> bool,
        make: impl FnOnce(StatusCode, &httparse::Response<'_, '_>, (&[u8], usize)) -> Option<T>,
    ) -> Option<(T, plain::Answer)> {
        let unread = self.unread();
        let mut fields = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let status = ParserConfig::default()
            .parse_response_with_uninit_headers(&mut parsed, unread, &mut fields)
            .ok()?;
        let Status::Complete(length) = status else {
            return None;
        };
        let code = StatusCode::from_u16(parsed.code?).ok()?;
        if parsed.version != Some(1) {
            return None;
        }
        let fields = parsed.headers.iter();
        let answer = plain::answer(fields.map(|field| (field.name, field.value)))?;
        if !is_fit(code, &answer) {
            return None;
        }
        let made = make(code, &parsed, (unread, length))?;
        self.take(length);
        Some((made, answer))
    }

    /// Takes a head, if all of it is there. `with_case`: whether it matters how the names of its fields are written.
    ///
    /// # Errors
    /// When this is none.
    pub(super) fn head(&mut self, with_case: bool) -> Result<Option<Box<ResponseHeader>>> {
        let unread = self.unread();
        if unread.is_empty() {
            return Ok(None);
        }
        let mut config = ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(true);
        config.allow_obsolete_multiline_headers_in_responses(true);
        let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let status = config
            .parse_response_with_uninit_headers(&mut parsed, unread, &mut fields)
            .or_err(ErrorType::InvalidHTTPHeader, "the head of an answer")
            .map_err(|e| e.into_up())?;
        let Status::Complete(length) = status else {
            if unread.len() > LONGEST_HEAD {
                let error = Error::explain(ErrorType::InvalidHTTPHeader, "the head is too long");
                return Err(error.into_up());
            }
            return Ok(None);
        };
        let head = build((unread, length), &parsed, with_case);
        let mut head = head.map_err(|e| e.into_up())?;
        if fields::has(&head.headers, &header::TRANSFER_ENCODING) {
            // It says nothing beside a coding (RFC 9112 §6.3).
            head.remove_header(&header::CONTENT_LENGTH);
        }
        self.take(length);
        Ok(Some(Box::new(head)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.unread = 0..0;
        self.rest();
    }
}

/// Makes a head.
fn build(
    (bytes, length): (&[u8], usize),
    parsed: &httparse::Response<'_, '_>,
    with_case: bool,
) -> Result<ResponseHeader> {
    let code = parsed.code.unwrap_or_default();
    let fields = Some(parsed.headers.len());
    let mut head = match with_case {
        true => ResponseHeader::build(code, fields)?,
        false => ResponseHeader::build_no_case(code, fields)?,
    };
    head.set_version(match parsed.version {
        Some(1) => Version::HTTP_11,
        _ => Version::HTTP_10,
    });
    head.set_reason_phrase(parsed.reason)?;
    let part = parts((bytes, length));
    for field in parsed.headers.iter() {
        let name = part(field.name.as_bytes()).into_case_header_name();
        head.append_header(name, header_value_from_raw(part(field.value)))?;
    }
    Ok(head)
}

/// Gives parts of the first `length` of these bytes, as parts of one copy.
fn parts<'a>((bytes, length): (&'a [u8], usize)) -> impl Fn(&[u8]) -> Bytes + 'a {
    let copy = Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default());
    move |of: &[u8]| {
        let place = place(bytes, of);
        match place.end <= copy.len() {
            true => copy.slice(place),
            false => Bytes::copy_from_slice(of),
        }
    }
}

/// The content of an answer: how it is told where it ends.
#[derive(Debug)]
pub(super) enum Content {
    /// There is none, or none any more.
    None,
    /// So many bytes are to come.
    Length(u64),
    Chunks(Chunks),
    /// All that comes until the connection is closed.
    UntilClosed,
}

impl Content {
    /// That of a plain answer.
    pub(super) fn of_plain(answer: plain::Answer) -> Content {
        match answer.length {
            Some(0) => Content::None,
            Some(length) => Content::Length(length),
            None => Content::Chunks(Chunks::default()),
        }
    }

    /// That of an answer to a request of this method (RFC 9112 §6.3).
    pub(super) fn of(method: &Method, head: &ResponseHeader) -> Content {
        let fields = &head.headers;
        if *method == Method::HEAD
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
        {
            return Content::None;
        }
        if fields::has(fields, &header::TRANSFER_ENCODING) {
            return Content::Chunks(Chunks::default());
        }
        let length = fields::first(fields, &header::CONTENT_LENGTH);
        match length.and_then(|length| length.to_str().ok()?.parse().ok()) {
            Some(0) => Content::None,
            Some(length) => Content::Length(length),
            None => Content::UntilClosed,
        }
    }

    /// Whether all of it came.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Content::None)
    }

    /// Whether the answer's own length says where it ends, to the client as well.
    pub(super) fn has_length(&self) -> bool {
        matches!(self, Content::Length(_) | Content::None)
    }

    /// Finds content among `bytes`: into `found` goes where it is. Says how much was looked at; what is left, if the content is
    /// not whole, is for another time.
    ///
    /// # Errors
    /// When this is no content of its kind.
    pub(super) fn find(
        &mut self,
        bytes: &[u8],
        found: &mut Vec<Range<usize>>,
    ) -> Result<usize, Malformed> {
        found.clear();
        match self {
            Content::None => Ok(0),
            Content::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |l| l.min(bytes.len()));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Content::None;
                }
                found.push(0..taken);
                Ok(taken)
            }
            Content::UntilClosed => {
                found.push(0..bytes.len());
                Ok(bytes.len())
            }
            Content::Chunks(chunks) => {
                let mut from = 0;
                while found.len() < AT_ONCE {
                    match chunks.next(bytes, from)? {
                        Piece::Content(range) => {
                            from = range.end;
                            found.push(range);
                        }
                        Piece::None => return Ok(bytes.len()),
                        Piece::End(end) => {
                            *self = Content::None;
                            return Ok(end);
                        }
                    }
                }
                Ok(from)
            }
        }
    }
}

/// Whether a connection serves on after this answer (RFC 9112 §9.3).
pub(super) fn keeps(head: &ResponseHeader, content: &Content) -> bool {
    let says = |word: &[u8]| names(&head.headers, word);
    let is_kept = match head.version {
        Version::HTTP_11 => !says(b"close"),
        _ => says(b"keep-alive"),
    };
    is_kept && !matches!(content, Content::UntilClosed)
}

fn names(headers: &HeaderMap, word: &[u8]) -> bool {
    crate::policy::framing::named(headers).any(|name| name.eq_ignore_ascii_case(word))
}
