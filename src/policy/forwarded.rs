//! Who the client is behind proxies that are believed (RFC 7239 §5.2, in the older form of `X-Forwarded-For`).
//!
//! Asked by `proxy::front` for each request. Anybody can write such a field; so it counts only from a peer that is trusted, and
//! only as far as those are trusted whom it names, beginning at its end.

use super::access::AddressSet;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// Who asks.
    pub client: IpAddr,
    /// Whom the request passed on its way, nearest to the client first, the peer last; empty if it came straight.
    pub hops: Vec<IpAddr>,
}

/// Who asks, given the address at the other end of the connection and the values of `X-Forwarded-For` in their order.
pub fn client<'a>(
    peer: IpAddr,
    trusted: &AddressSet,
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> Forwarded {
    let mut forwarded = Forwarded {
        client: peer,
        hops: Vec::new(),
    };
    let named = lines
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','));
    for name in named {
        if !trusted.contains(forwarded.client) {
            break;
        }
        // What is no address ends what can be believed.
        let name = std::str::from_utf8(name.trim_ascii()).unwrap_or_default();
        let Some(before) = address(name) else {
            break;
        };
        forwarded.hops.insert(0, forwarded.client);
        forwarded.client = before;
    }
    forwarded
}

/// The client and those it came through, as the next one is to be told.
pub fn way(client: IpAddr, hops: &[IpAddr]) -> String {
    let mut way = text(client);
    for hop in hops {
        way.push_str(", ");
        way.push_str(&text(*hop));
    }
    way
}

/// An address as it is written.
pub fn text(address: IpAddr) -> String {
    let mut out = Vec::with_capacity(15);
    write(&mut out, address);
    // Digits, letters, points and colons.
    String::from_utf8(out).unwrap_or_default()
}

/// Appends that.
pub fn write(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        // The formatting of the standard library takes ten times as long, and that of a library for any number is repeated for
        // each octet.
        IpAddr::V4(address) => {
            let (mut text, mut end) = ([b'.'; 16], 0);
            let mut put = |byte: u8| {
                if let Some(place) = text.get_mut(end) {
                    *place = byte;
                    end += 1;
                }
            };
            for octet in address.octets() {
                if octet >= 100 {
                    put(b'0' + octet / 100);
                }
                if octet >= 10 {
                    put(b'0' + octet / 10 % 10);
                }
                put(b'0' + octet % 10);
                put(b'.');
            }
            // As many as are known when it is compiled, which are stored and not copied. Without the last point.
            let before = out.len();
            out.extend_from_slice(&text);
            out.truncate(before + end - 1);
        }
        // A `Vec` takes everything.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

/// `10.0.0.1`, `10.0.0.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let alone = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let address = alone.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::super::access::Block;
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["0.0.0.0", "192.168.100.255", "::1", "2001:db8::7"] {
            let address = text.parse().unwrap();
            assert_eq!(super::text(address), text);
            let hop = "10.0.0.1".parse().unwrap();
            assert_eq!(
                way(address, &[hop, hop]),
                format!("{text}, 10.0.0.1, 10.0.0.1")
            );
        }
    }

    #[test]
    fn the_last_who_is_not_trusted_is_the_client() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let trusted = AddressSet::new(vec![
            Block::new(ip("10.0.0.0"), 8).unwrap(),
            Block::new(ip("2001:db8::"), 32).unwrap(),
        ]);
        for (peer, lines, client_is, hops) in [
            ("9.9.9.9", &["1.1.1.1"][..], "9.9.9.9", &[][..]),
            ("10.0.0.1", &[], "10.0.0.1", &[]),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1", &["10.0.0.1"]),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1", &["10.0.0.1"]),
            (
                "10.0.0.1",
                &["6.6.6.6", "1.1.1.1,10.0.0.2"],
                "1.1.1.1",
                &["10.0.0.2", "10.0.0.1"],
            ),
            // Everybody on the way is trusted: the first is the client.
            (
                "10.0.0.1",
                &["10.0.0.3, 10.0.0.2"],
                "10.0.0.3",
                &["10.0.0.2", "10.0.0.1"],
            ),
            ("10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1", &[]),
            (
                "10.0.0.1",
                &["1.1.1.1, unknown, 10.0.0.2"],
                "10.0.0.2",
                &["10.0.0.1"],
            ),
            ("10.0.0.1", &["\u{ff}, 1.1.1.1"], "1.1.1.1", &["10.0.0.1"]),
            ("10.0.0.1", &[""], "10.0.0.1", &[]),
            ("10.0.0.1", &["1.1.1.1:80"], "1.1.1.1", &["10.0.0.1"]),
            (
                "2001:db8::1",
                &["[2001:db9::1]:80"],
                "2001:db9::1",
                &["2001:db8::1"],
            ),
            (
                "2001:db8::1",
                &["[2001:db9::1]"],
                "2001:db9::1",
                &["2001:db8::1"],
            ),
            ("10.0.0.1", &["::ffff:10.0.0.2"], "10.0.0.2", &["10.0.0.1"]),
        ] {
            let found = client(ip(peer), &trusted, lines.iter().map(|line| line.as_bytes()));
            let expected = Forwarded {
                client: ip(client_is),
                hops: hops.iter().map(|hop| ip(hop)).collect(),
            };
            assert_eq!(found, expected, "{peer} {lines:?}");
        }
    }
}
