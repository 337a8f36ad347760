//! Files with wrong contents: never a wrong byte, and they go.

use super::super::{Corrupt, Disk, Id};
use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::symlink;

/// Head and body as far as they can be read, under a name that held `bytes`.
fn try_bytes(disk: &Disk, id: Id, bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ()> {
    put(disk, id, bytes);
    let before = disk.status().corrupt;
    let loaded = load(disk, id).ok_or(());
    let noticed = disk.status().corrupt - before;
    assert_eq!(noticed, u64::from(loaded.is_err()), "counted once");
    assert_eq!(path(disk, id).exists(), loaded.is_ok(), "removed");
    loaded
}

/// Puts this there, also where the directory went with what was in it.
fn put(disk: &Disk, id: Id, bytes: &[u8]) {
    let path = path(disk, id);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Every byte of small files, changed in three ways; every length.
#[test]
fn no_flipped_byte_and_no_cut_in_small_files_goes_unnoticed() {
    for (body_len, updates) in [(0, 0), (1, 0), (300, 0), (40, 1), (40, 2)] {
        let (_dir, disk) = disk();
        let id = id(body_len as u64);
        let body = body(1, body_len);
        let mut writer = disk.create(id, 12).unwrap();
        writer.append(&body).unwrap();
        let stored = writer.finish(b"head 0").unwrap();
        for n in 1..=updates {
            assert!(update(&disk, id, &stored, format!("head {n}").as_bytes()));
        }
        let newest = format!("head {updates}").into_bytes();
        let good = fs::read(path(&disk, id)).unwrap();
        assert_eq!(
            good.len(),
            72 + 2 * (16 + 12) + body_len + 8 * usize::from(body_len > 0)
        );
        // Each slot begins with what says whether it counts, which no byte of may be wrong; and the one that counts
        // has its head after it. Behind them is room.
        let (counts, other) = match updates % 2 {
            0 => (72, 72 + 28),
            _ => (72 + 28, 72),
        };
        let of_other = if updates == 0 { 0 } else { newest.len() };
        let matters = |at: usize| {
            !(72..72 + 56).contains(&at)
                || (counts..counts + 16 + newest.len()).contains(&at)
                || (other..other + 16 + of_other).contains(&at)
        };
        for at in 0..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                let got = try_bytes(&disk, id, &bytes);
                let expected = match matters(at) {
                    true => Err(()),
                    false => Ok((newest.clone(), body.clone())),
                };
                assert_eq!(got, expected, "byte {at} of {}", good.len());
            }
        }
        for len in 0..good.len() {
            assert_eq!(try_bytes(&disk, id, &good[..len]), Err(()), "cut to {len}");
        }
        for more in [1, 8, 5000, 20_000] {
            let longer = [&good[..], &vec![0; more]].concat();
            assert_eq!(try_bytes(&disk, id, &longer), Err(()), "{more} more");
        }
        assert_eq!(try_bytes(&disk, id, &good), Ok((newest, body)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens to a file in many places.
    #[test]
    fn no_damage_gives_a_wrong_byte(
        len in 0..70_000_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 20]>(), 0..20_usize), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (_dir, disk) = disk();
        let body = body(1, len);
        let stored = store(&disk, id(1), b"first head", &body);
        prop_assert!(update(&disk, id(1), &stored, b"second"));
        let mut bytes = fs::read(path(&disk, id(1))).unwrap();
        for (at, with, len) in damage {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + len);
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(path(&disk, id(1)), bytes).unwrap();
        if let Some((head, got)) = load(&disk, id(1)) {
            prop_assert!(head == b"second" || head == b"first head");
            prop_assert!(got == body);
        } else {
            prop_assert!(!path(&disk, id(1)).exists());
            prop_assert!(disk.status().corrupt > 0);
        }
    }
}

#[test]
fn damage_in_large_files_is_found_where_it_is() {
    let (_dir, disk) = disk();
    let id = id(3);
    let body = body(3, 3 * 65536 + 1000);
    store(&disk, id, b"head", &body);
    let good = fs::read(path(&disk, id)).unwrap();
    let start = good.len() - body.len() - 4 * 8;
    let mut dice = Dice(5);
    for round in 0..60 {
        let at = start + dice.below((good.len() - start) as u64) as usize;
        let mut bytes = good.clone();
        bytes[at] ^= 1 << dice.below(8);
        put(&disk, id, &bytes);
        let (stored, head) = disk.open_object(id).unwrap();
        assert_eq!(head, b"head");
        let broken = match (at - start).checked_sub(body.len()) {
            Some(in_sums) => in_sums / 8,
            None => (at - start) / 65536,
        };
        for block in 0..4 {
            let offset = block * 65536;
            let got = stored.read_at(offset as u64, 65536);
            if block == broken {
                assert_eq!(got, Err(Corrupt::Block), "{at}");
            } else {
                let end = body.len().min(offset + 65536);
                assert_eq!(got.unwrap(), body[offset..end], "{at}");
            }
        }
        assert!(!path(&disk, id).exists());
        // A part of the body is refused with the block that it is in, even where the part itself is right.
        let offset = (broken * 65536) as u64;
        assert_eq!(stored.read_at(offset, 1), Err(Corrupt::Block));
        let tried = stored.try_read_at(offset, 1);
        assert!(tried.is_none_or(|tried| tried == Err(Corrupt::Block)));
        assert!(disk.status().corrupt > round);
        assert!(disk.open_object(id).is_none());
    }
    let mut cuts = vec![
        good.len() - 1,
        good.len() - 9,
        start,
        start + 65536,
        16384,
        16385,
    ];
    cuts.extend((0..60).map(|_| dice.below(good.len() as u64) as usize));
    for cut in cuts {
        assert_eq!(try_bytes(&disk, id, &good[..cut]), Err(()), "{cut}");
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_read_ends_in_an_error() {
    let (_dir, disk) = disk();
    let id = id(4);
    let stored = store(&disk, id, b"head", &body(4, 200_000));
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path(&disk, id))
        .unwrap();
    file.set_len(100_000).unwrap();
    // The checksums were cut off with the rest: nothing says that the beginning is right.
    assert_eq!(stored.read_at(0, 65536), Err(Corrupt::Length));
    assert!(!path(&disk, id).exists());
    assert_eq!(disk.status().objects, 0);
}

#[test]
fn what_is_no_object_of_that_name_goes() {
    let (dir, disk) = disk();
    let (one, other) = (id(5), id(6));
    store(&disk, one, b"head", b"body");
    store(&disk, other, b"head", b"body");
    let of_other = fs::read(path(&disk, other)).unwrap();
    let right = fs::read(path(&disk, one)).unwrap();
    assert_eq!(try_bytes(&disk, one, &of_other), Err(()));
    assert_eq!(try_bytes(&disk, one, b""), Err(()));
    assert_eq!(try_bytes(&disk, one, b"#!/bin/sh\nexit 0\n"), Err(()));
    assert_eq!(try_bytes(&disk, one, &[0; 70_000]), Err(()));
    let target = dir.path().join("precious");
    fs::write(&target, right).unwrap();
    put(&disk, one, b"");
    fs::remove_file(path(&disk, one)).unwrap();
    symlink(&target, path(&disk, one)).unwrap();
    assert!(load(&disk, one).is_none());
    assert!(target.exists() && path(&disk, one).symlink_metadata().is_err());
    assert!(load(&disk, other).is_some());
}

/// Another wrote its object under the name while a damaged one was open.
#[test]
fn only_the_damaged_file_itself_is_removed() {
    let (_dir, disk) = disk();
    let id = id(7);
    let damaged = store(&disk, id, b"old", &body(7, 100_000));
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path(&disk, id))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 50_000).unwrap();
    store(&disk, id, b"new", b"good");
    assert_eq!(damaged.read_at(0, 1000), Err(Corrupt::Block));
    assert_eq!(load(&disk, id), Some((b"new".to_vec(), b"good".to_vec())));
}
