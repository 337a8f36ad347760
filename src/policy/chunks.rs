//! Chunked content as it comes (RFC 9112 §7.1): which of its bytes are content, and where it ends.
//!
//! Fed by `proxy::direct` with what a backend sends. What chunks say of themselves, and trailers, are left out.

use std::ops::Range;

/// Bytes that the line of a chunk may have beside its size, and those that trailers may have.
const EXTENSIONS: u32 = 1024;
const TRAILERS: u32 = 8 * 1024;

/// Content of which part came.
#[derive(Debug)]
pub struct Chunks(At);

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A size, and how many digits of it came.
    Size(u64, u8),
    /// Blanks after it, and how many came: there are servers that fill its place up with them.
    Blank(u64, u32),
    /// What else is in its line, and how much of it came.
    Extension(u64, u32),
    SizeEnd(u64),
    /// Content of which so much is to come.
    Content(u64),
    ContentEnd,
    ContentEnded,
    /// A line of trailers: how many bytes came of all of them, and whether any of this one did.
    Trailer(u32, bool),
    TrailerEnd(u32, bool),
    Whole,
}

/// What is next among bytes that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Content: these of them.
    Content(Range<usize>),
    /// Nothing any more: all was taken.
    None,
    /// The end, after so many bytes.
    End(usize),
}

/// Something that chunked content does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Default for Chunks {
    fn default() -> Self {
        Chunks(At::Size(0, 0))
    }
}

impl Chunks {
    /// Looks at `bytes` from a position on, up to the end of the next piece of content.
    ///
    /// # Errors
    /// When this is no chunked content; nothing can be said of what follows.
    pub fn next(&mut self, bytes: &[u8], mut from: usize) -> Result<Piece, Malformed> {
        while let Some(&byte) = bytes.get(from) {
            self.0 = match (self.0, byte) {
                (At::Content(left), _) => {
                    let there = bytes.len() - from;
                    let taken = usize::try_from(left).map_or(there, |left| left.min(there));
                    let left = left - taken as u64;
                    self.0 = match left {
                        0 => At::ContentEnd,
                        left => At::Content(left),
                    };
                    return Ok(Piece::Content(from..from + taken));
                }
                (At::Size(size, digits), byte) if byte.is_ascii_hexdigit() => {
                    let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                    // As many digits as a length may have that is ever counted.
                    if digits == 15 {
                        return Err(Malformed);
                    }
                    At::Size(size << 4 | digit, digits + 1)
                }
                (At::Size(_, 0), _) => return Err(Malformed),
                (At::Size(size, _), b'\r') => At::SizeEnd(size),
                (At::Size(size, _) | At::Blank(size, _), b';') => At::Extension(size, 0),
                (At::Size(size, _), b' ' | b'\t') => At::Blank(size, 1),
                (At::Blank(size, came), b' ' | b'\t') if came < EXTENSIONS => {
                    At::Blank(size, came + 1)
                }
                (At::Blank(size, _), b'\r') => At::SizeEnd(size),
                (At::Extension(size, _), b'\r') => At::SizeEnd(size),
                (At::Extension(size, came), byte)
                    if byte != b'\n' && byte != 0 && came < EXTENSIONS =>
                {
                    At::Extension(size, came + 1)
                }
                (At::SizeEnd(0), b'\n') => At::Trailer(0, false),
                (At::SizeEnd(size), b'\n') => At::Content(size),
                (At::ContentEnd, b'\r') => At::ContentEnded,
                (At::ContentEnded, b'\n') => At::Size(0, 0),
                (At::Trailer(came, any), b'\r') => At::TrailerEnd(came, any),
                (At::Trailer(came, _), byte) if byte != b'\n' && byte != 0 && came < TRAILERS => {
                    At::Trailer(came + 1, true)
                }
                (At::TrailerEnd(_, false), b'\n') => {
                    self.0 = At::Whole;
                    return Ok(Piece::End(from + 1));
                }
                (At::TrailerEnd(came, true), b'\n') => At::Trailer(came, false),
                _ => return Err(Malformed),
            };
            from += 1;
        }
        Ok(Piece::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads it in pieces of so many bytes: its content, and how much of the last piece was no part of it.
    fn read(bytes: &[u8], of: usize) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
        let (mut chunks, mut content) = (Chunks::default(), Vec::new());
        for piece in bytes.chunks(of) {
            let mut from = 0;
            loop {
                match chunks.next(piece, from)? {
                    Piece::Content(range) => {
                        content.extend_from_slice(&piece[range.clone()]);
                        from = range.end;
                    }
                    Piece::None => break,
                    Piece::End(end) => return Ok(Some((content, piece.len() - end))),
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn what_chunked_content_is() {
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1025));
        for (bytes, found) in [
            ("5\r\nhello\r\n0\r\n\r\n", Ok(Some(("hello", 0)))),
            ("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", Ok(Some(("hello!", 0)))),
            (
                "A;a=b\r\n0123456789\r\n0\r\n\r\n",
                Ok(Some(("0123456789", 0))),
            ),
            ("05 \r\nhello\r\n00;z\r\n\r\n", Ok(Some(("hello", 0)))),
            ("0\r\nx: y\r\nz: 1\r\n\r\n", Ok(Some(("", 0)))),
            ("0\r\n\r\nmore", Ok(Some(("", 4)))),
            ("5 \t ;a\r\nhello\r\n0\r\n\r\n", Ok(Some(("hello", 0)))),
            ("5 5\r\nhello\r\n0\r\n\r\n", Err(Malformed)),
            ("5\r\nhel", Ok(None)),
            ("5\r\nhello\r\n0\r\n", Ok(None)),
            ("\r\nhello", Err(Malformed)),
            ("g\r\n", Err(Malformed)),
            ("-5\r\nhello\r\n", Err(Malformed)),
            ("5\nhello\r\n0\r\n\r\n", Err(Malformed)),
            ("5\r\nhello0\r\n\r\n", Err(Malformed)),
            ("5\r\nhello\n0\r\n\r\n", Err(Malformed)),
            ("5;a\nb\r\nhello\r\n", Err(Malformed)),
            ("0\r\nx: y\n\r\n", Err(Malformed)),
            ("0\r\n\rx", Err(Malformed)),
            ("1000000000000000\r\n", Err(Malformed)),
            (long.as_str(), Err(Malformed)),
        ] {
            let found = found
                .map(|found| found.map(|(text, more): (&str, _)| (text.as_bytes().to_vec(), more)));
            assert_eq!(read(bytes.as_bytes(), usize::MAX), found, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn however_it_comes_it_is_the_same(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            of in 1..400_usize,
        ) {
            let mut bytes = Vec::new();
            for piece in &pieces {
                bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\nx: y\r\n\r\n");
            prop_assert_eq!(read(&bytes, of), Ok(Some((pieces.concat(), 0))));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), of in 1..50_usize) {
            let _ = read(&bytes, of);
        }
    }
}
