//! Where an answer of HTTP/1 ends, and what its trailers are, followed as its bytes come (RFC 9112 §6.3, §7.1).
//!
//! Fed by `proxy::trailing` beside Pingora, which reads the same bytes, and leaves out the trailers. What is not understood is
//! no error here, Pingora judges it: then there are no trailers, and the connection is not used again.

use super::http1::Http1;
use http::{HeaderMap, HeaderName};

/// Bytes that a head may have to be understood.
const HEAD: usize = 64 * 1024;

/// An answer as far as it came.
#[derive(Debug)]
pub struct Answer {
    at: At,
    /// What came of its head.
    head: Vec<u8>,
    /// Whether the request was one whose answer has no content, whatever its head says.
    to_head: bool,
    /// Whether the connection can be used for another request.
    keeps: bool,
    trailers: Vec<u8>,
}

#[derive(Debug)]
enum At {
    Head,
    /// Content, of which so much is to come.
    Content(u64),
    Chunks(Box<Http1>),
    Whole,
    /// Nothing can be said any more.
    Unknown,
}

impl Answer {
    /// Nothing came. `to_head`: whether the request is HEAD.
    pub fn new(to_head: bool) -> Self {
        Answer {
            at: At::Head,
            head: Vec::new(),
            to_head,
            keeps: false,
            trailers: Vec::new(),
        }
    }

    /// Whether all of it came and nothing more, on a connection that serves on.
    pub fn is_whole_and_kept(&self) -> bool {
        self.keeps && matches!(self.at, At::Whole)
    }

    /// Whether nothing of it came.
    pub fn is_awaited(&self) -> bool {
        matches!(self.at, At::Head) && self.head.is_empty()
    }

    /// Its trailers, once it is whole; empty if it has none.
    pub fn trailers(&self) -> Option<HeaderMap> {
        let is_whole = matches!(self.at, At::Whole);
        is_whole.then(|| super::trailers::read(&self.trailers))
    }

    /// These bytes came next.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.at {
                At::Head => self.see_head(bytes),
                At::Content(left) => {
                    let taken = bytes
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    if *left == 0 {
                        self.at = At::Whole;
                    }
                    taken
                }
                At::Chunks(chunks) => {
                    let trailers = &mut self.trailers;
                    let keep = |bytes: &[u8]| trailers.extend_from_slice(bytes);
                    let taken = chunks.follow_one(bytes, keep);
                    if chunks.doubt().is_some() {
                        self.at = At::Unknown;
                    } else if chunks.is_between() {
                        self.at = At::Whole;
                    }
                    taken
                }
                At::Whole => {
                    self.at = At::Unknown;
                    return;
                }
                At::Unknown => return,
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Takes what belongs to the head; says how much that was. There are parsers for which a head may end earlier, and a field
    /// have a space before its colon; a head with anything of that kind is not understood.
    fn see_head(&mut self, bytes: &[u8]) -> usize {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let from = before.saturating_sub(3);
        let mut ends = (before..self.head.len()).filter(|at| self.head.get(*at) == Some(&b'\n'));
        if ends.any(|at| at.checked_sub(1).and_then(|at| self.head.get(at)) != Some(&b'\r')) {
            self.at = At::Unknown;
            return bytes.len();
        }
        let end = self
            .head
            .get(from..)
            .and_then(|new| new.windows(4).position(|four| four == b"\r\n\r\n"));
        let Some(end) = end else {
            if self.head.len() > HEAD {
                self.at = At::Unknown;
            }
            return bytes.len();
        };
        let length = from + end + 4;
        self.head.truncate(length);
        self.at = self.content();
        self.head.clear();
        length - before
    }

    /// What follows a head.
    fn content(&mut self) -> At {
        let mut lines = self.head.split(|b| *b == b'\n');
        let status = lines.next().and_then(status);
        let Some((minor, status)) = status else {
            return At::Unknown;
        };
        let (mut lengths, mut codings, mut closes) = (Vec::new(), Vec::new(), minor == 0);
        for line in lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
            if line.is_empty() {
                continue;
            }
            let colon = line.iter().position(|b| *b == b':');
            let (name, value) = line.split_at(colon.unwrap_or_default());
            if HeaderName::from_bytes(name).is_err() {
                return At::Unknown;
            }
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"content-length") {
                lengths.push(value);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                codings.push(value);
            } else if name.eq_ignore_ascii_case(b"connection") {
                let mut words = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
                closes |= words.any(|word| word.eq_ignore_ascii_case(b"close"));
            }
        }
        let length = |text: &[u8]| -> Option<u64> {
            let digits = std::str::from_utf8(text).ok()?;
            let is_number = digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.parse().ok())?
        };
        let at = match (status, lengths.as_slice(), codings.as_slice()) {
            (101, ..) => At::Unknown,
            (100..200, ..) => return At::Head,
            (204 | 304, ..) => At::Whole,
            _ if self.to_head => At::Whole,
            (_, [], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => {
                At::Chunks(Box::new(Http1::chunks()))
            }
            (_, [only], []) => match length(only) {
                Some(0) => At::Whole,
                Some(length) => At::Content(length),
                None => At::Unknown,
            },
            // Its end is that of the connection, or in doubt.
            _ => At::Unknown,
        };
        self.keeps = !closes;
        at
    }
}

/// The minor version and the status of a status line (RFC 9112 §4).
fn status(line: &[u8]) -> Option<(u8, u16)> {
    let line = std::str::from_utf8(line.get(..12)?).ok()?;
    let (minor, status) = line.strip_prefix("HTTP/1.")?.split_once(' ')?;
    Some((minor.parse().ok()?, status.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(text: &str, to_head: bool) -> Answer {
        let mut answer = Answer::new(to_head);
        answer.see(text.as_bytes());
        answer
    }

    #[test]
    fn where_answers_end() {
        const OK: &str = "HTTP/1.1 200 OK\r\n";
        for (rest, whole, kept) in [
            ("Content-Length: 0\r\n\r\n", true, true),
            ("Content-Length: 2\r\n\r\nab", true, true),
            ("content-length: 2\r\n\r\na", false, false),
            ("Content-Length: 2\r\n\r\nabc", false, false),
            (
                "Content-Length: 2\r\nConnection: a, Close\r\n\r\nab",
                true,
                false,
            ),
            (
                "Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
                false,
                false,
            ),
            ("Content-Length: -2\r\n\r\nab", false, false),
            ("\r\nab", false, false),
            (
                "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                true,
                true,
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA: b\r\n\r\n",
                true,
                true,
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA: b\r\n",
                false,
                false,
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1",
                false,
                false,
            ),
            ("Transfer-Encoding: chunked\r\n\r\nx\r\n", false, false),
            (
                "Transfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\nab",
                false,
                false,
            ),
            (
                "Content-Length: 2\r\nConnection :close\r\n\r\nab",
                false,
                false,
            ),
            (
                "Content-Length: 2\r\nX: y\r\n folded\r\n\r\nab",
                false,
                false,
            ),
            ("X: y\n\nContent-Length: 0\r\n\r\n", false, false),
            ("Content-Length: 2\n\r\nab", false, false),
            (
                "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n\r\n",
                false,
                false,
            ),
            ("Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", false, false),
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                false,
                false,
            ),
        ] {
            let answer = seen(&format!("{OK}{rest}"), false);
            assert_eq!(answer.trailers().is_some(), whole, "{rest:?}");
            assert_eq!(answer.is_whole_and_kept(), kept, "{rest:?}");
        }
        for (text, to_head, kept) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", false, true),
            ("HTTP/1.1 304\r\nContent-Length: 5\r\n\r\n", false, true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, true),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 A\r\n\r\n",
                false,
                true,
            ),
            ("HTTP/1.1 101 Switching\r\n\r\n", false, false),
            ("HTTP/1.0 204 A\r\n\r\n", false, false),
            ("HTTP/2 204\r\n\r\n", false, false),
            ("220 mail\r\n\r\n", false, false),
        ] {
            assert_eq!(seen(text, to_head).is_whole_and_kept(), kept, "{text:?}");
        }
        let large = format!("{OK}X: {}", "x".repeat(HEAD));
        assert!(matches!(seen(&large, false).at, At::Unknown));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in proptest::collection::vec(0usize..140, 0..6)) {
            let text = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                5;x=y\r\n0\r\n\r\n\r\n0\r\nX-Sum: 12\r\nX-B:\r\n\r\n";
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut answer = Answer::new(false);
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                let cut = cut.min(text.len());
                answer.see(&text[from..cut]);
                from = cut;
            }
            let trailers = answer.trailers().unwrap();
            prop_assert_eq!(&trailers["x-sum"], "12");
            prop_assert_eq!(&trailers["x-b"], "");
            prop_assert!(answer.is_whole_and_kept());
        }
    }
}
