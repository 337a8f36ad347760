//! Heads, chunks and trailers as tables and properties.

use super::*;
use proptest::prelude::*;

/// What is doubtful in which of the messages.
fn doubt(bytes: &[u8]) -> Option<(u32, Doubt)> {
    let mut http1 = Http1::default();
    http1.see(bytes);
    http1.doubt.map(|doubt| (http1.message, doubt))
}

#[test]
fn request_lines() {
    for (line, is_odd) in [
        ("GET / HTTP/1.1\r\n", false),
        ("GET / HTTP/1.0\r\n", false),
        ("\r\n\r\nGET / HTTP/1.1\r\nX: a \t b\r\n", false),
        ("GET /ä?a=\"<b>\" HTTP/1.1\r\n", false),
        ("GET /", false),
        ("GET /a b HTTP/1.1\r\n", true),
        ("GET / HTTP/1.1 \r\n", true),
        ("GET /\ta HTTP/1.1\r\n", true),
        ("GET /\x01 HTTP/1.1\r\n", true),
        ("GET /\x7f HTTP/1.1\r\n", true),
        ("GET /\0", true),
        ("GET /\r\n", true),
        ("GET / HTTP/2.0\r\n", true),
        ("GET / HTTP/1.2\r\n", true),
        ("GET / http/1.1\r\n", true),
        ("GET / XHTTP/1.1\r\n", true),
        ("GET / HTTP/1.0HTTP/1.1\r\n", true),
        ("GET / HTTP/1.1HTTP/1.1\r\n", true),
        ("GET / HTTP/1\r\n", true),
        ("GET  HTTP/1.1\r\n", true),
        ("GET  / HTTP/1.1\r\n", true),
        ("GET HTTP/1.1\r\n", true),
        (" GET / HTTP/1.1\r\n", true),
        ("\x16\x03\x01", true),
    ] {
        let expected = is_odd.then_some((1, Doubt::RequestLine));
        assert_eq!(doubt(line.as_bytes()), expected, "{line:?}");
    }
    for line in [
        "GET / HTTP/1.1\n",
        "\nGET / HTTP/1.1\r\n",
        "\r\n\rGET / HTTP/1.1\r\n",
    ] {
        assert_eq!(
            doubt(line.as_bytes()),
            Some((1, Doubt::LineEnd)),
            "{line:?}"
        );
    }
}

#[test]
fn fields() {
    use Doubt::{Coding, Control, Folded, Host, Length, LengthAndCoding, LineEnd, Name};
    for (fields, expected) in [
        ("Host: a", None),
        (
            "Host:a\r\nX-Empty:\r\nX!#$%&'*+-.^_`|~9: \t a\tb \u{fc}",
            None,
        ),
        ("Content-Length: 0", None),
        ("content-length:\t0  ", None),
        ("Transfer_Encoding: xchunked", None),
        ("Host: a\nX: b", Some(LineEnd)),
        ("Host: a\rX: b", Some(LineEnd)),
        ("Host\n: a", Some(LineEnd)),
        ("Host\r\n: a", Some(Name)),
        ("X: y\r\n Z: y", Some(Folded)),
        ("X: y\r\n\tZ: y", Some(Folded)),
        (" X: y", Some(Folded)),
        ("Host : a", Some(Name)),
        ("Ho st: a", Some(Name)),
        (": a", Some(Name)),
        ("H\u{f6}st: a", Some(Name)),
        ("X: a\x01", Some(Control)),
        ("X: a\0b", Some(Control)),
        ("X: a\x7f", Some(Control)),
        ("Transfer-Encoding: \x0bchunked", Some(Control)),
        ("Host: a\r\nHOST: a", Some(Host)),
        ("Content-Length: 3\r\nContent-Length: 3", Some(Length)),
        ("Content-Length: 3, 3", Some(Length)),
        ("Content-Length: +3", Some(Length)),
        ("Content-Length:", Some(Length)),
        ("Content-Length: 99999999999999999999", Some(Length)),
        ("Content-Length: 000000000000000000003", Some(Length)),
        ("Transfer-Encoding: gzip, chunked", Some(Coding)),
        ("Transfer-Encoding: identity", Some(Coding)),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Some(Coding),
        ),
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            Some(LengthAndCoding),
        ),
        (
            "Transfer-Encoding: x\r\nContent-Length: x",
            Some(LengthAndCoding),
        ),
    ] {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
        assert_eq!(
            doubt(head.as_bytes()),
            expected.map(|doubt| (1, doubt)),
            "{fields:?}"
        );
    }
}

#[test]
fn chunks_and_trailers() {
    use Doubt::{Chunk, Control, Folded, LineEnd, Name, Trailers};
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1100));
    let many = format!("0\r\n{}\r\n", "X: yyyyyyyy\r\n".repeat(1000));
    for (content, expected) in [
        ("5\r\nhello\r\n0\r\n\r\n", None),
        (
            "0000000000000005;a=\"b\"\r\nhello\r\n0;x\r\nX: y\r\nZ:\r\n\r\n",
            None,
        ),
        ("0x5\r\nhello", Some(Chunk)),
        ("+5\r\nhello", Some(Chunk)),
        ("-5\r\nhello", Some(Chunk)),
        ("5 \r\nhello", Some(Chunk)),
        (" 5\r\nhello", Some(Chunk)),
        ("\r\n5\r\nhello", Some(Chunk)),
        (";a\r\nhello", Some(Chunk)),
        ("00000000000000005\r\nhello", Some(Chunk)),
        ("5\nhello", Some(Chunk)),
        ("5;a\nhello", Some(Chunk)),
        ("5;a\rb\r\nhello", Some(Chunk)),
        ("5;\x01\r\nhello", Some(Chunk)),
        ("5\r\nhelloX", Some(Chunk)),
        ("5\r\nhello\n", Some(Chunk)),
        ("5\r\nhello\rX", Some(Chunk)),
        ("0\r\nX : y\r\n\r\n", Some(Name)),
        ("0\r\nX: y\n\r\n", Some(LineEnd)),
        ("0\r\nX: y\r\n z\r\n\r\n", Some(Folded)),
        ("0\r\nX: \0\r\n\r\n", Some(Control)),
        ("0\r\n\rX", Some(LineEnd)),
        (&long, Some(Chunk)),
        (&many, Some(Trailers)),
    ] {
        let request = format!("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n{content}");
        assert_eq!(
            doubt(request.as_bytes()),
            expected.map(|doubt| (1, doubt)),
            "{content:?}"
        );
    }
}

/// Heads and messages are followed to where they end, and no further.
#[test]
fn of_several_messages() {
    let sent = b"\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\0\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 4 HTTP/1.1\r\n\r\n";
    let mut http1 = Http1::default();
    let (head, is_whole) = http1.follow_head(sent);
    assert!(is_whole && sent[..head].ends_with(b" 3\r\n\r\n"), "{head}");
    assert!(!http1.is_between());
    let content = http1.follow_one(&sent[head..], |_| {});
    assert_eq!(content, 3);
    assert!(http1.is_between());
    let rest = &sent[head + content..];
    // In parts, the first of which is an empty line.
    for cut in 0..19 {
        let mut http1 = http1;
        let (first, is_whole) = http1.follow_head(&rest[..cut]);
        assert!(first == cut && !is_whole, "{cut}");
        let (second, is_whole) = http1.follow_head(&rest[cut..]);
        assert!(is_whole && first + second == 21, "{cut}");
        assert_eq!(http1.doubt(), None);
        assert_eq!(http1.follow_head(&rest[21..]), (9, false));
        assert_eq!(http1.doubt(), Some(Doubt::RequestLine));
    }
}

/// What shows at the end of a head is known there.
#[test]
fn of_a_whole_head() {
    let sent =
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut http1 = Http1::default();
    assert_eq!(http1.follow_head(sent), (sent.len() - 5, true));
    assert_eq!(http1.doubt(), Some(Doubt::LengthAndCoding));
}

proptest! {
    #[test]
    fn however_it_comes(
        bytes in "((POST|P ST|) /[ a]? HTTP/1.[012] ?\r\n(Transfer-Encoding: chunked {0,20}|Content-Length: {0,2}[45]\t{0,30}|Host: a\n?|X : b)\r\n\r\n[0-4;a\r\n\u{0}]{0,12}){1,3}",
        cut in any::<prop::sample::Index>(),
    ) {
        let mut parts = Http1::default();
        let (one, two) = bytes.as_bytes().split_at(cut.index(bytes.len() + 1));
        parts.see(one);
        parts.see(two);
        prop_assert_eq!(doubt(bytes.as_bytes()), parts.doubt.map(|doubt| (parts.message, doubt)));
        let (mut whole, mut single) = (Http1::default(), Http1::default());
        whole.see(bytes.as_bytes());
        for byte in bytes.as_bytes() {
            single.see(&[*byte]);
        }
        let state = |h: &Http1| (h.doubt, h.message, h.lengths, h.codings, h.hosts, h.length);
        prop_assert_eq!(state(&whole), state(&single));
        if whole.doubt.is_none() {
            prop_assert_eq!(whole.at, single.at);
        }
    }

    /// What is sent as it should be is in no doubt, and ends where it ends: what follows it is found out.
    #[test]
    fn what_is_as_it_should_be(
        contents in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..4),
        size in 1_usize..9,
    ) {
        let mut sent = Vec::new();
        for (is_chunked, content) in &contents {
            sent.extend_from_slice(b"PUT /x HTTP/1.1\r\nHost: a\r\n");
            if *is_chunked {
                sent.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in content.chunks(size) {
                    sent.extend_from_slice(format!("{:X};e\r\n", chunk.len()).as_bytes());
                    sent.extend_from_slice(chunk);
                    sent.extend_from_slice(b"\r\n");
                }
                sent.extend_from_slice(b"0\r\nT: u\r\n\r\n");
            } else {
                sent.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
                sent.extend_from_slice(content);
            }
        }
        prop_assert_eq!(doubt(&sent), None);
        sent.push(b'(');
        let next = u32::try_from(contents.len()).unwrap() + 1;
        prop_assert_eq!(doubt(&sent), Some((next, Doubt::RequestLine)));
    }
}
