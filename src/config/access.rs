//! `allow`, `deny` and `trusted_proxies`, as written: addresses and blocks of them.
//!
//! Read by `routes` and `settings`.

use super::written::{Complaint, Written, meant, written};
use crate::policy::access::{Access, AddressSet, Block};
use std::fmt;
use std::net::IpAddr;

/// `10.0.0.0/8`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockText {
    address: IpAddr,
    bits: u8,
    block: Block,
}

impl Written for BlockText {
    const EXPECTED: &'static str = "an IP address or a block of them such as 10.0.0.0/8";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let (address, bits) = match word.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (word, None),
        };
        let address: IpAddr = address.parse().map_err(|_| Complaint::unfit())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let digits = |bits: &&str| bits.bytes().all(|b| b.is_ascii_digit());
        let bits = match bits {
            None => width,
            Some(bits) => Some(bits)
                .filter(digits)
                .and_then(|bits| bits.parse().ok())
                .ok_or_else(Complaint::unfit)?,
        };
        let Some(block) = Block::new(address, bits) else {
            return Err(Complaint::because(format!(
                "an address of this kind has {width} bits, not {bits}"
            )));
        };
        if !block.begins_with(address) {
            let complaint = Complaint::because(format!("{word} is not the beginning of a block"));
            return Err(complaint.or(meant(first(address, bits))));
        }
        Ok(BlockText {
            address,
            bits,
            block,
        })
    }
}

/// The block that an address is in, as it is written.
fn first(address: IpAddr, bits: u8) -> String {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            format!(
                "{}/{bits}",
                std::net::Ipv4Addr::from_bits(v4.to_bits() & mask)
            )
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            format!(
                "{}/{bits}",
                std::net::Ipv6Addr::from_bits(v6.to_bits() & mask)
            )
        }
    }
}

impl fmt::Display for BlockText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

written!(BlockText);

/// The addresses of a list.
pub(crate) fn set(list: &[BlockText]) -> AddressSet {
    AddressSet::new(list.iter().map(|text| text.block).collect())
}

/// The rules that two lists make.
pub(crate) fn access(allow: Option<&[BlockText]>, deny: Option<&[BlockText]>) -> Access {
    Access {
        allow: allow.map(set),
        deny: set(deny.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_as_they_are_written() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(BlockText::parse(text).unwrap().to_string(), shown);
        }
        for (text, help) in [
            ("10.0.0.1/8", Some("did you mean 10.0.0.0/8?")),
            ("2001:db8::1/64", Some("did you mean 2001:db8::/64?")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/+8", None),
            ("10.0.0/8", None),
            ("localhost", None),
            ("", None),
        ] {
            let complaint = BlockText::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
    }
}
