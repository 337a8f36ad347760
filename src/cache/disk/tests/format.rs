//! The file format by itself.

use super::super::format::{
    BLOCK, PREFIX, Prefix, TooLong, block_sum, encode_slot, find_head, update,
};
use super::super::{Corrupt, Id};
use proptest::prelude::*;

fn prefix() -> impl Strategy<Value = Prefix> {
    let words = (any::<[u64; 3]>(), any::<[u64; 2]>());
    (words, 0..300_usize, 0..1_u64 << 50).prop_map(|((id, time), room, body_len)| Prefix {
        id: Id {
            url: id[0],
            who: id[1],
            variant: id[2],
        },
        stamp: time[0],
        salt: time[1],
        room,
        body_len,
    })
}

proptest! {
    #[test]
    fn a_prefix_is_read_as_it_was_written(prefix in prefix(), more in any::<[u8; 9]>()) {
        let mut bytes = prefix.encode().to_vec();
        bytes.extend(more);
        prop_assert_eq!(Prefix::decode(&bytes), Ok(prefix));
    }

    #[test]
    fn no_changed_prefix_is_read(prefix in prefix(), at in 0..PREFIX, flip in 1..=255_u8) {
        let mut bytes = prefix.encode();
        bytes[at] ^= flip;
        prop_assert!(Prefix::decode(&bytes).is_err());
        prop_assert!(Prefix::decode(&prefix.encode()[..at]).is_err());
    }

    #[test]
    fn anything_else_is_refused(bytes in any::<Vec<u8>>()) {
        prop_assert!(Prefix::decode(&bytes).is_err());
    }

    /// However much of an update was written: the head before it or the new one, or none where the few bytes that say that
    /// it is under way were torn; nothing else.
    #[test]
    fn a_torn_update_leaves_a_head(
        prefix in prefix(),
        heads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
        torn in any::<prop::sample::Index>(),
    ) {
        let heads: Vec<Vec<u8>> = heads.into_iter().map(|mut head| {
            head.truncate(prefix.room);
            head
        }).collect();
        let seed = prefix.seed();
        let mut front = prefix.front(&heads[0]).unwrap();
        prop_assert_eq!(front.len() as u64, prefix.body_start());
        for pair in heads.windows(2) {
            let now = find_head(&prefix, seed, &front).unwrap();
            prop_assert_eq!(&front[now.range.clone()], &pair[0][..]);
            let slot = 1 - now.slot;
            let steps = update(&prefix, seed, slot, now.number + 1, &pair[1]).unwrap();
            let start = prefix.slot_start(slot);
            for bytes in steps {
                let cut = torn.index(bytes.len() + 1);
                let mut half = front.clone();
                half[start..start + cut].copy_from_slice(&bytes[..cut]);
                match find_head(&prefix, seed, &half) {
                    Ok(left) => {
                        let is_new = half[start..start + 16] == encode_slot(&prefix, seed, slot, now.number + 1, &pair[1]).unwrap()[..16];
                        prop_assert_eq!(&half[left.range], &pair[usize::from(is_new)][..]);
                    }
                    Err(_) => prop_assert!((1..16).contains(&cut), "{}", cut),
                }
                front[start..start + bytes.len()].copy_from_slice(&bytes);
            }
        }
        let last = find_head(&prefix, seed, &front).unwrap();
        prop_assert_eq!(&front[last.range], &heads[heads.len() - 1][..]);
    }

    /// A block is right only in its place in its file.
    #[test]
    fn a_block_of_elsewhere_is_wrong(one in prefix(), number in 0..1000_u64, block in any::<Vec<u8>>()) {
        let sum = block_sum(one.seed(), number, &block);
        prop_assert_ne!(sum, block_sum(one.seed(), number + 1, &block));
        for other in [
            Prefix { stamp: one.stamp ^ 1, ..one },
            Prefix { salt: one.salt ^ 1, ..one },
            Prefix { id: Id { variant: one.id.variant ^ 1, ..one.id }, ..one },
        ] {
            prop_assert_ne!(sum, block_sum(other.seed(), number, &block));
        }
        // The same body under a longer head is the same.
        let wider = Prefix { room: one.room + 10, body_len: one.body_len + 1, ..one };
        prop_assert_eq!(sum, block_sum(wider.seed(), number, &block));
    }
}

#[test]
fn another_version_is_told_apart() {
    let prefix = Prefix {
        id: super::id(1),
        stamp: 1,
        salt: 2,
        room: 3,
        body_len: 4,
    };
    let mut bytes = prefix.encode();
    bytes[8] += 1;
    assert_eq!(Prefix::decode(&bytes), Err(Corrupt::Version));
    bytes[0] += 1;
    assert_eq!(Prefix::decode(&bytes), Err(Corrupt::Foreign));
    assert_eq!(Prefix::decode(b""), Err(Corrupt::Foreign));
}

/// What is written by one build is read by the next.
#[test]
fn the_format_stays() {
    let prefix = Prefix {
        id: Id {
            url: 0x0102_0304_0506_0708,
            who: 0x1112_1314_1516_1718,
            variant: 0x2122_2324_2526_2728,
        },
        stamp: 1_700_000_000_000_000,
        salt: 99,
        room: 8,
        body_len: 70_000,
    };
    assert_eq!(prefix.body_start(), 72 + 2 * 24);
    assert_eq!(prefix.file_len(), Some(120 + 70_000 + 16));
    let front = prefix.front(b"head").unwrap();
    let hex: String = front.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = concat!(
        "8942 53544f500d0a 03000000 08000000 0807060504030201 1817161514131211 2827262524232221",
        " 00401e18240a0600 6300000000000000 7011010000000000 PREFIXSUM",
        " 01000000 04000000 HEADSUM 68656164 00000000",
        " 00000000 00000000 OTHERSUM 0000000000000000",
    );
    let expected = expected
        .replace("PREFIXSUM", &hex[128..144])
        .replace("HEADSUM", &hex[160..176])
        .replace("OTHERSUM", &hex[208..224])
        .replace(' ', "");
    assert_eq!(hex, expected);
    assert_eq!(&hex[128..144], "aac93c6cd1dcbf1a");
    assert_eq!(&hex[160..176], "b9d0e77bb8c2ab21");
    assert_eq!(block_sum(prefix.seed(), 1, &[7; 100]), 672865287623722169);
    assert_eq!(BLOCK, 65536);
}

#[test]
fn a_head_beyond_its_room_is_refused() {
    let prefix = Prefix {
        id: super::id(1),
        stamp: 1,
        salt: 2,
        room: 3,
        body_len: 4,
    };
    assert!(prefix.front(b"abc").is_ok());
    assert_eq!(prefix.front(b"abcd"), Err(TooLong));
    assert_eq!(
        encode_slot(&prefix, prefix.seed(), 1, 2, b"abcd"),
        Err(TooLong)
    );
}

#[test]
fn impossible_lengths_make_no_file() {
    let prefix = Prefix {
        id: super::id(1),
        stamp: 1,
        salt: 2,
        room: 3,
        body_len: u64::MAX,
    };
    assert_eq!(prefix.file_len(), None);
}
