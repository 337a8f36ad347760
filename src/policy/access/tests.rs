//! Tables and properties.

use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn set(blocks: &[&str]) -> AddressSet {
    let block = |text: &&str| {
        let (address, bits) = text.split_once('/').unwrap();
        Block::new(ip(address), bits.parse().unwrap()).unwrap()
    };
    AddressSet::new(blocks.iter().map(block).collect())
}

#[test]
fn who_may_come_in() {
    let access = |allow: Option<&[&str]>, deny: &[&str]| Access {
        allow: allow.map(|list| Arc::new(set(list))),
        deny: Arc::new(set(deny)),
    };
    let ten: &[&str] = &["10.0.0.0/8"];
    for (access, client, verdict) in [
        (access(None, &[]), "1.2.3.4", Ok(())),
        (access(None, ten), "1.2.3.4", Ok(())),
        (access(None, ten), "10.9.9.9", Err(Barred::Denied)),
        (access(Some(ten), &[]), "10.9.9.9", Ok(())),
        (access(Some(ten), &[]), "11.0.0.0", Err(Barred::NotAllowed)),
        (
            access(Some(ten), &[]),
            "9.255.255.255",
            Err(Barred::NotAllowed),
        ),
        (
            access(Some(ten), &["10.1.0.0/16"]),
            "10.1.0.7",
            Err(Barred::Denied),
        ),
        (access(Some(ten), &["10.1.0.0/16"]), "10.2.0.7", Ok(())),
        (access(Some(&[]), &[]), "10.2.0.7", Err(Barred::NotAllowed)),
        // The same address in the clothes of IPv6.
        (access(Some(ten), &[]), "::ffff:10.9.9.9", Ok(())),
        (
            access(Some(&["2001:db8::/32"]), &[]),
            "2001:db8:ffff::1",
            Ok(()),
        ),
        (
            access(Some(&["2001:db8::/32"]), &[]),
            "2001:db9::",
            Err(Barred::NotAllowed),
        ),
        (access(Some(&["0.0.0.0/0"]), &[]), "255.255.255.255", Ok(())),
        (
            access(Some(&["0.0.0.0/0"]), &[]),
            "2001:db8::1",
            Err(Barred::NotAllowed),
        ),
        (access(Some(&["::/0"]), &[]), "2001:db8::1", Ok(())),
        (
            access(Some(&["::/0"]), &[]),
            "10.0.0.1",
            Err(Barred::NotAllowed),
        ),
        (access(None, &["::/0"]), "::ffff:10.0.0.1", Ok(())),
    ] {
        assert_eq!(
            access.judge(Some(ip(client))),
            verdict,
            "{access:?} {client}"
        );
    }
    assert_eq!(access(Some(ten), &[]).judge(None), Err(Barred::NotAllowed));
    assert_eq!(access(None, ten).judge(None), Ok(()));
}

#[test]
fn blocks_have_an_end() {
    assert_eq!(Block::new(ip("10.0.0.0"), 33), None);
    assert_eq!(Block::new(ip("::"), 129), None);
    let all = Block::new(ip("::"), 0).unwrap();
    assert!(all.begins_with(ip("::")));
    assert_eq!(all.last, u128::MAX);
    assert!(
        !Block::new(ip("10.0.0.1"), 8)
            .unwrap()
            .begins_with(ip("10.0.0.1"))
    );
}

#[test]
fn a_hundred_thousand_blocks_are_looked_up_in_no_time() {
    let blocks: Vec<Block> = (0..100_000_u32)
        .map(|n| Block::new(Ipv4Addr::from(n * 40_000).into(), 28).unwrap())
        .collect();
    let set = AddressSet::new(blocks);
    assert_eq!(set.v4.first.len(), 100_000);
    let found = (0..100_000_u32).filter(|n| set.contains(Ipv4Addr::from(n * 40_000 + 15).into()));
    assert_eq!(found.count(), 100_000);
    assert!(!set.contains(Ipv4Addr::from(40_016).into()));
}

proptest! {
    #[test]
    fn a_set_has_what_one_of_its_blocks_has(
        blocks in prop::collection::vec((any::<u128>(), 0..=128_u8), 0..8),
        narrow in prop::collection::vec((any::<u32>(), 20..=32_u8), 0..8),
        asked in any::<u128>(),
        near in any::<u16>(),
    ) {
        let wide = blocks.iter().map(|&(n, bits)| (IpAddr::V6(Ipv6Addr::from_bits(n)), bits));
        let small = narrow.iter().map(|&(n, bits)| (IpAddr::V4(n.into()), bits));
        let all: Vec<Block> = wide.chain(small).map(|(ip, bits)| Block::new(ip, bits).unwrap()).collect();
        let set = AddressSet::new(all.clone());
        let first = narrow.first().map_or(0, |&(n, _)| n);
        for asked in [IpAddr::V6(Ipv6Addr::from_bits(asked)), IpAddr::V4(first.wrapping_add(near.into()).into())] {
            let n = number(asked);
            let expected = all
                .iter()
                .any(|block| block.is_v4() == is_v4(n) && block.first <= n && n <= block.last);
            prop_assert_eq!(set.contains(asked), expected);
        }
    }
}
