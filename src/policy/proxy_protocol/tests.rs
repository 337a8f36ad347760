//! Heads of both versions, whole, in parts and wrong.

use super::*;
use proptest::prelude::*;

fn whole(bytes: &[u8], source: Option<&str>) -> Introduction {
    Introduction::Whole {
        length: bytes.len(),
        source: source.map(|source| source.parse().expect("an address")),
    }
}

#[test]
fn lines_of_version_1() {
    for (line, source) in [
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
            Some("192.0.2.1:56324"),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Some("255.255.255.255:65535"),
        ),
        (
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n",
            Some("[2001:db8::1]:1"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff:f 1 2 3\r\n", None),
    ] {
        assert_eq!(
            read(line.as_bytes()),
            whole(line.as_bytes(), source),
            "{line:?}"
        );
        let more = [line, "GET / HTTP/1.1\r\n"].concat();
        assert_eq!(
            read(more.as_bytes()),
            whole(line.as_bytes(), source),
            "{line:?}"
        );
        for end in 0..line.len() {
            assert_eq!(
                read(&line.as_bytes()[..end]),
                Introduction::Incomplete,
                "{line:?} {end}"
            );
        }
    }
}

#[test]
fn lines_that_are_none() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "PROXY\r\n",
        "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Introduction::Malformed, "{line:?}");
    }
    let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert_eq!(read(long.as_bytes()), Introduction::Malformed);
    assert_eq!(read(&long.as_bytes()[..106]), Introduction::Incomplete);
}

fn head(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];

fn v6_of(source: &str) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().expect("an address");
    [&source.octets()[..], &[0; 16], &[0, 7, 0, 8]].concat()
}

#[test]
fn heads_of_version_2() {
    let with_field = [&V4[..], &[0x04, 0, 2, 1, 1]].concat();
    for (head, source) in [
        (head(0x21, 0x11, &V4), Some("192.0.2.1:56324")),
        (head(0x21, 0x12, &V4), Some("192.0.2.1:56324")),
        (head(0x20, 0x11, &V4), None),
        (head(0x20, 0, &[]), None),
        (head(0x21, 0, &[1, 2, 3]), None),
        (
            head(0x21, 0x21, &v6_of("2001:db8::1")),
            Some("[2001:db8::1]:7"),
        ),
        (
            head(0x21, 0x21, &v6_of("::ffff:192.0.2.1")),
            Some("192.0.2.1:7"),
        ),
        (head(0x21, 0x31, &[7; 216]), None),
        (head(0x21, 0x11, &with_field), Some("192.0.2.1:56324")),
    ] {
        assert_eq!(read(&head), whole(&head, source), "{head:?}");
        for end in 0..head.len() {
            assert_eq!(
                read(&head[..end]),
                Introduction::Incomplete,
                "{head:?} {end}"
            );
        }
    }
}

#[test]
fn heads_that_are_wrong() {
    let cut_field = [&V4[..], &[0x04, 0, 3, 1, 1]].concat();
    for wrong in [
        head(0x11, 0x11, &V4),
        head(0x22, 0x11, &V4),
        head(0x21, 0x11, &V4[..11]),
        head(0x21, 0x21, &V4),
        head(0x21, 0x31, &[7; 215]),
        head(0x21, 0x11, &cut_field),
        head(0x21, 0x11, &[&V4[..], &[0; 5000]].concat()),
    ] {
        assert_eq!(read(&wrong), Introduction::Malformed, "{wrong:?}");
    }
}

#[test]
fn a_checksum_has_to_be_right() {
    // The check value of the algorithm.
    assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
    let rest = [&V4[..], &[CRC32C, 0, 4, 0, 0, 0, 0], &[0x04, 0, 1, 9]].concat();
    let mut good = head(0x21, 0x11, &rest);
    let sum = (!crc32c(!0, &good)).to_be_bytes();
    good[31..35].copy_from_slice(&sum);
    assert_eq!(read(&good), whole(&good, Some("192.0.2.1:56324")));
    // Without the kind of its field it is no checksum.
    for at in (16..good.len()).filter(|at| *at != 28) {
        let mut wrong = good.clone();
        wrong[at] ^= 1;
        assert_eq!(read(&wrong), Introduction::Malformed, "{at}");
    }
}

proptest! {
    #[test]
    fn nothing_that_comes_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..3_u8) {
        let bytes = match kind {
            0 => bytes,
            1 => [b"PROXY TCP4 ", &bytes[..]].concat(),
            _ => [&SIGNATURE[..], &[0x21, 0x11, 0, 40], &bytes[..]].concat(),
        };
        if let Introduction::Whole { length, .. } = read(&bytes) {
            prop_assert!(length <= bytes.len());
            // Of a part of it, nothing else is said.
            for end in 0..length {
                prop_assert_eq!(read(&bytes[..end]), Introduction::Incomplete);
            }
        }
    }
}
