//! Bodies, in whole and in parts, while they grow and after they were replaced.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;

#[test]
fn what_is_written_is_read() {
    let (_dir, disk) = disk();
    let lens = [
        0, 1, 100, 4096, 16_000, 16_384, 65_535, 65_536, 65_537, 131_072, 262_144, 300_000,
        1_000_000,
    ];
    for (n, len) in lens.into_iter().enumerate() {
        for piece in [1000, 65_536, 200_000] {
            let id = id(n as u64);
            let body = body(n as u64, len);
            let mut writer = disk.create(id, 100).unwrap();
            for piece in body.chunks(piece) {
                writer.append(piece).unwrap();
            }
            let stored = writer.finish(b"the head").unwrap();
            assert_eq!(stored.body_len(), len as u64);
            assert!(read_all(&stored, 50_000).unwrap() == body, "{len}");
            let (again, head) = disk.open_object(id).unwrap();
            assert_eq!(
                (again.body_len(), &head[..]),
                (len as u64, &b"the head"[..])
            );
            assert!(read_all(&again, usize::MAX).unwrap() == body, "{len}");
            assert_eq!(disk.candidates(id.url, id.who), [id]);
        }
    }
    assert_eq!(disk.status().objects, lens.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_part_of_a_body_can_be_read(
        len in prop_oneof![0..2000_usize, 0..400_000_usize],
        parts in prop::collection::vec((any::<prop::sample::Index>(), 0..300_000_usize), 20),
    ) {
        let (_dir, disk) = disk();
        let body = body(9, len);
        store(&disk, id(9), b"", &body);
        let (stored, _) = disk.open_object(id(9)).unwrap();
        for (offset, most) in parts {
            let offset = offset.index(len + 10);
            let rest = body.get(offset..).unwrap_or_default();
            for got in [
                stored.read_at(offset as u64, most),
                // Not every file system can tell what is in memory.
                stored.try_read_at(offset as u64, most).unwrap_or_else(|| stored.read_at(offset as u64, most)),
            ] {
                let got = got.unwrap();
                prop_assert!(rest.starts_with(&got));
                prop_assert!(got.len() <= most.min(4 * 65536));
                prop_assert_eq!(got.is_empty(), rest.is_empty() || most == 0);
                let end = offset + got.len();
                // Short only at the end of a block.
                prop_assert!(got.len() == most.min(rest.len()) || end % 65536 == 0);
                // No block twice.
                prop_assert!(most < 65536 || end >= len || end % 65536 == 0);
            }
        }
        prop_assert_eq!(stored.read_at(u64::MAX, 10), Ok(Bytes::new()));
        prop_assert_eq!(stored.read_at(u64::MAX - 10, usize::MAX), Ok(Bytes::new()));
    }
}

#[test]
fn blocks_can_be_read_while_the_file_grows() {
    let (_dir, disk) = disk();
    let body = body(1, 200_000);
    let mut writer = disk.create(id(1), 10).unwrap();
    let reader = writer.reader();
    assert_eq!((writer.flushed(), reader.body_len()), (0, 0));
    assert!(reader.read_at(0, 100).unwrap().is_empty());
    for (n, piece) in body.chunks(10_000).enumerate() {
        writer.append(piece).unwrap();
        let whole_blocks = ((n + 1) * 10_000 / 65_536 * 65_536) as u64;
        assert_eq!(writer.flushed(), whole_blocks);
        assert_eq!(reader.body_len(), whole_blocks);
        assert!(read_all(&reader, 70_000).unwrap() == body[..whole_blocks as usize]);
    }
    assert!(disk.open_object(id(1)).is_none());
    assert!(disk.candidates(id(1).url, id(1).who).is_empty());
    writer.finish(b"head").unwrap();
    assert!(read_all(&reader, 70_000).unwrap() == body);
    assert_eq!(load(&disk, id(1)), Some((b"head".to_vec(), body)));
}

/// The same where the head is longer than what was said, with and without a block on the disk.
#[test]
fn a_longer_head_is_no_problem() {
    let (dir, disk) = disk();
    for len in [0, 1000, 65_536, 200_000] {
        let body = body(1, len);
        let mut writer = disk.create(id(1), 10).unwrap();
        let reader = writer.reader();
        writer.append(&body).unwrap();
        let head = vec![b'h'; 40_000];
        let stored = writer.finish(&head).unwrap();
        assert!(read_all(&stored, 70_000).unwrap() == body);
        assert!(read_all(&reader, 70_000).unwrap() == body);
        assert_eq!(load(&disk, id(1)), Some((head, body)));
        assert_eq!(all_files(&dir).len(), 1);
        let sizes: u64 = all_files(&dir)
            .iter()
            .map(|f| f.1.next_multiple_of(4096))
            .sum();
        assert_eq!(disk.status().bytes, sizes);
    }
    let writer = disk.create(id(1), usize::MAX).unwrap();
    assert!(writer.finish(&vec![0; 1024 * 1024 + 1]).is_err());
    assert_eq!(all_files(&dir).len(), 1);
}

#[test]
fn readers_keep_what_they_opened() {
    let (dir, disk) = disk();
    let (old, new) = (body(1, 150_000), body(2, 90_000));
    store(&disk, id(1), b"old", &old);
    let (reader, _) = disk.open_object(id(1)).unwrap();
    let newer = store(&disk, id(1), b"new", &new);
    assert!(read_all(&reader, 70_000).unwrap() == old);
    assert_eq!(load(&disk, id(1)), Some((b"new".to_vec(), new.clone())));
    assert!(newer.begun() > reader.begun());
    assert_eq!(disk.status().objects, 1);
    assert!(disk.remove(id(1)));
    assert!(!disk.remove(id(1)));
    assert!(read_all(&newer, 70_000).unwrap() == new);
    assert!(disk.open_object(id(1)).is_none());
    assert_eq!(all_files(&dir), []);
    assert_eq!((disk.status().objects, disk.status().bytes), (0, 0));
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let (dir, disk) = disk();
    let mut writer = disk.create(id(1), 10).unwrap();
    let reader = writer.reader();
    writer.append(&body(1, 100_000)).unwrap();
    assert_eq!(all_files(&dir).len(), 1);
    assert!(disk.status().bytes >= 65_536);
    drop(writer);
    assert_eq!(all_files(&dir), []);
    assert_eq!(disk.status().bytes, 0);
    assert!(read_all(&reader, 70_000).unwrap() == body(1, 65_536));
}

#[test]
fn candidates_are_those_of_url_and_person() {
    let (_dir, disk) = disk();
    let of = |url, who, variant| Id { url, who, variant };
    let all = [
        of(1, 1, 1),
        of(1, 1, 2),
        of(1, 2, 1),
        of(2, 1, 1),
        of(1, 1, 3),
    ];
    for id in all {
        store(&disk, id, b"h", b"b");
    }
    assert_eq!(
        disk.candidates(1, 1),
        [of(1, 1, 3), of(1, 1, 2), of(1, 1, 1)]
    );
    disk.used(of(1, 1, 1));
    assert_eq!(
        disk.candidates(1, 1),
        [of(1, 1, 1), of(1, 1, 3), of(1, 1, 2)]
    );
    assert_eq!(disk.candidates(1, 2), [of(1, 2, 1)]);
    assert_eq!(disk.candidates(3, 1), []);
}
