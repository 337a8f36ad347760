//! Who is behind a proxy that says so before anything else: the PROXY protocol, versions 1 and 2 (HAProxy's specification).
//!
//! Asked by `server::introduction` with what came of a connection so far.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest head of version 1, its line end included.
const LONGEST_LINE: usize = 107;
/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses.
const FIXED: usize = 16;
/// The longest head of version 2 that is taken: addresses, and all that is commonly told of TLS beside them.
const LONGEST: usize = 4096;
/// The field that holds a checksum of all of the head.
const CRC32C: u8 = 0x03;

/// What the first bytes of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Introduction {
    /// All of them belong to the head, and there is more of it.
    Incomplete,
    /// The head has so many bytes.
    Whole {
        /// How many.
        length: usize,
        /// Who connected to the proxy; `None` if the proxy speaks for itself or does not know.
        source: Option<SocketAddr>,
    },
    /// It is no such head.
    Malformed,
}

/// Reads the head at the beginning of a connection.
pub fn read(bytes: &[u8]) -> Introduction {
    let signature = bytes.len().min(SIGNATURE.len());
    if bytes[..signature] == SIGNATURE[..signature] {
        return version_2(bytes);
    }
    let begin = bytes.len().min(b"PROXY ".len());
    match bytes[..begin] == b"PROXY "[..begin] {
        true => version_1(bytes),
        false => Introduction::Malformed,
    }
}

/// A line of text (§2.1).
fn version_1(bytes: &[u8]) -> Introduction {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < LONGEST_LINE {
            true => Introduction::Incomplete,
            false => Introduction::Malformed,
        };
    };
    let line = std::str::from_utf8(&within[..end]).unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words[..] {
        // What follows is not to be looked at.
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", family, source, destination, from, to] => {
            let source = address(family, source, from);
            let destination = address(family, destination, to);
            destination.and(source).map(Some)
        }
        _ => None,
    };
    match source {
        Some(source) => Introduction::Whole {
            length: end + 2,
            source,
        },
        None => Introduction::Malformed,
    }
}

/// An address and a port of version 1, in their only form.
fn address(family: &str, address: &str, port: &str) -> Option<SocketAddr> {
    let ip = match family {
        "TCP4" => IpAddr::V4(address.parse::<Ipv4Addr>().ok()?),
        "TCP6" => IpAddr::V6(address.parse::<Ipv6Addr>().ok()?),
        _ => return None,
    };
    let is_plain =
        port.bytes().all(|b| b.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
    let port = port.parse().ok().filter(|_| is_plain)?;
    Some(SocketAddr::new(ip, port))
}

/// The binary form (§2.2).
fn version_2(bytes: &[u8]) -> Introduction {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Introduction::Incomplete;
    };
    let [.., command, family, high, low] = *fixed;
    let following = usize::from(u16::from_be_bytes([high, low]));
    let length = FIXED + following;
    if command >> 4 != 2 || command & 15 > 1 || length > LONGEST {
        return Introduction::Malformed;
    }
    let Some(rest) = rest.get(..following) else {
        return Introduction::Incomplete;
    };
    let known = match (family >> 4, family & 15) {
        // Over TCP, or over UDP, which is not for HTTP/1 but says as much.
        (1, 1 | 2) => v4(rest).map(|source| (Some(source), 12)),
        (2, 1 | 2) => v6(rest).map(|source| (Some(source), 36)),
        (3, 1 | 2) => Some((None, 216)),
        _ => Some((None, following)),
    };
    let fields = known.and_then(|(source, taken)| Some((source, rest.get(taken..)?)));
    let Some((source, fields)) = fields else {
        return Introduction::Malformed;
    };
    if !is_sound(&bytes[..length], length - fields.len()) {
        return Introduction::Malformed;
    }
    let is_local = command & 15 == 0;
    Introduction::Whole {
        length,
        source: source.filter(|_| !is_local),
    }
}

fn v4(bytes: &[u8]) -> Option<SocketAddr> {
    let (source, rest) = bytes.split_first_chunk::<4>()?;
    let port = rest.get(4..)?.first_chunk::<2>()?;
    Some(SocketAddr::new(
        IpAddr::from(*source),
        u16::from_be_bytes(*port),
    ))
}

fn v6(bytes: &[u8]) -> Option<SocketAddr> {
    let (source, rest) = bytes.split_first_chunk::<16>()?;
    let port = rest.get(16..)?.first_chunk::<2>()?;
    // An IPv4 address in the form of an IPv6 one is the same client.
    let ip = IpAddr::from(*source).to_canonical();
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// Whether the fields after the addresses are whole, and the checksum right if there is one (§2.2.3).
fn is_sound(head: &[u8], fields: usize) -> bool {
    let mut at = fields;
    while at < head.len() {
        let Some([kind, high, low]) = head[at..].first_chunk::<3>().copied() else {
            return false;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let begin = at + 3;
        let Some(value) = head.get(begin..begin + length) else {
            return false;
        };
        if kind == CRC32C {
            let Ok(said) = <[u8; 4]>::try_from(value) else {
                return false;
            };
            // Its own bytes count as zero.
            let before = crc32c(!0, &head[..begin]);
            let own = crc32c(before, &[0; 4]);
            if !crc32c(own, &head[begin + 4..]) != u32::from_be_bytes(said) {
                return false;
            }
        }
        at = begin + length;
    }
    true
}

/// Castagnoli's checksum (RFC 9260, appendix A), bit by bit: heads are short.
fn crc32c(begin: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(begin, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (0_u32.wrapping_sub(crc & 1)))
        })
    })
}

#[cfg(test)]
mod tests;
