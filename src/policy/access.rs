//! Who may come in: by address.
//!
//! Asked by `proxy::front`, of the listener's lists first and then of the route's. What is denied stays out even if it is
//! allowed; where anything is allowed, all else stays out.

use std::net::IpAddr;
use std::sync::Arc;

/// The first and the last of some addresses in a row, IPv4 as in RFC 4291 §2.5.5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    first: u128,
    last: u128,
}

impl Block {
    /// The addresses that have the first `bits` in common with this one; `None` if it has not so many.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        let (width, number) = match address {
            IpAddr::V4(_) => (32, number(address)),
            IpAddr::V6(_) => (128, number(address)),
        };
        let free = u32::from(width - u8::min(bits, width));
        let mask = u128::MAX.checked_shl(free).unwrap_or(0);
        (bits <= width).then_some(Block {
            first: number & mask,
            last: number | !mask,
        })
    }

    /// Whether all of it is IPv4.
    fn is_v4(&self) -> bool {
        is_v4(self.first) && is_v4(self.last)
    }

    /// Whether this address is the first of it.
    pub fn begins_with(&self, address: IpAddr) -> bool {
        self.first == number(address)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Some addresses. Looking one up takes the logarithm of how many blocks there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: Ranges<u32>,
    /// Those of IPv6: `::/0` is not meant for both.
    v6: Ranges<u128>,
}

/// Blocks in order, without overlap. Their beginnings stand by themselves: a search goes through those, and the more of them fit
/// into a processor's caches, the sooner it is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges<T> {
    first: Box<[T]>,
    last: Box<[T]>,
}

impl<T: Ord + Copy> Ranges<T> {
    fn new(blocks: Vec<Block>, number: impl Fn(u128) -> T) -> Self {
        let blocks = joined(blocks);
        Ranges {
            first: blocks.iter().map(|block| number(block.first)).collect(),
            last: blocks.iter().map(|block| number(block.last)).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn contains(&self, number: T) -> bool {
        let after = self.first.partition_point(|first| *first <= number);
        let before = after.checked_sub(1).and_then(|at| self.last.get(at));
        before.is_some_and(|last| number <= *last)
    }
}

/// The last 32 bits, which are an address of IPv4.
fn short(number: u128) -> u32 {
    (number & u128::from(u32::MAX)) as u32
}

impl AddressSet {
    /// All addresses of these blocks.
    pub fn new(blocks: Vec<Block>) -> Self {
        let (v4, v6) = blocks.into_iter().partition(Block::is_v4);
        AddressSet {
            v4: Ranges::new(v4, short),
            v6: Ranges::new(v6, |number| number),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether an address is among them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        match is_v4(number) {
            true => self.v4.contains(short(number)),
            false => self.v6.contains(number),
        }
    }
}

/// In order, without overlap.
fn joined(mut blocks: Vec<Block>) -> Vec<Block> {
    blocks.sort_unstable();
    let mut joined: Vec<Block> = Vec::with_capacity(blocks.len());
    for block in blocks {
        match joined.last_mut() {
            Some(before) if block.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(block.last);
            }
            _ => joined.push(block),
        }
    }
    joined
}

/// Whether this is an address of IPv4.
fn is_v4(number: u128) -> bool {
    number >> 32 == 0xffff
}

/// Two lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Who may come in; `None` for everybody.
    pub allow: Option<Arc<AddressSet>>,
    /// Who may not.
    pub deny: Arc<AddressSet>,
}

/// Why somebody has to stay out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// The address is denied.
    Denied,
    /// It is not among those that are allowed.
    NotAllowed,
}

impl Barred {
    /// The log's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Barred::Denied => "denied",
            Barred::NotAllowed => "not_allowed",
        }
    }
}

impl Access {
    /// Whether this client may come in. One whose address is not known has none that is allowed.
    ///
    /// # Errors
    /// It may not.
    pub fn judge(&self, client: Option<IpAddr>) -> Result<(), Barred> {
        let within = |set: &AddressSet| client.is_some_and(|client| set.contains(client));
        if within(&self.deny) {
            return Err(Barred::Denied);
        }
        match &self.allow {
            Some(allow) if !within(allow) => Err(Barred::NotAllowed),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
