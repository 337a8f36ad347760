//! What is removed on request.

use super::*;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[test]
fn a_url_goes_with_all_its_objects() {
    let (dir, disk) = disk();
    let of = |url, who, variant| Id { url, who, variant };
    for url in [1, 2] {
        for who in 0..3 {
            for variant in 0..3 {
                store(&disk, of(url, who, variant), b"h", b"b");
            }
        }
    }
    drop(disk);
    // Even before they are indexed.
    let disk = open(&dir, PLENTY);
    // And those of another process.
    let other = open(&dir, PLENTY);
    index(&disk, false);
    store(&other, of(1, 7, 7), b"h", b"b");
    assert_eq!(disk.remove_url(1, true).unwrap(), 10);
    assert_eq!(disk.remove_url(1, true).unwrap(), 0);
    assert!(disk.candidates(1, 1).is_empty());
    assert!(disk.open_object(of(1, 1, 1)).is_none());
    assert_eq!(disk.candidates(2, 1).len(), 3);
    assert_eq!(all_files(&dir).len(), 9);
}

#[test]
fn what_is_being_written_when_its_url_is_purged_is_not_kept() {
    let (dir, disk) = disk();
    for len in [10, 100_000] {
        for everything in [false, true] {
            let mut writer = disk.create(id(1), 10).unwrap();
            writer.append(&body(1, len)).unwrap();
            match everything {
                true => assert!(disk.remove_everything_before(now())),
                false => assert_eq!(disk.remove_url(id(1).url, true).unwrap(), 0),
            }
            // Those who wait for it get it.
            let stored = writer.finish_if(b"head", &|| everything).unwrap();
            assert!(read_all(&stored, 70_000).unwrap() == body(1, len));
            assert!(disk.open_object(id(1)).is_none());
            assert_eq!((all_files(&dir).len(), disk.status().bytes), (0, 0));
            store(&disk, id(1), b"head", b"body");
            assert!(load(&disk, id(1)).is_some());
            disk.remove(id(1));
        }
    }
}

#[test]
fn everything_goes_at_once_and_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = open(&dir, PLENTY);
    for n in 0..20 {
        store(&disk, id(n), b"old", b"body");
    }
    let (open_before, _) = disk.open_object(id(3)).unwrap();
    assert!(disk.remove_everything_before(now()));
    assert_eq!(all_files(&dir).len(), 20);
    assert!(read_all(&open_before, 100).unwrap() == b"body");
    for n in 0..5 {
        store(&disk, id(n), b"new", b"body");
    }
    for round in 0..3 {
        for n in 0..20 {
            let head = load(&disk, id(n)).map(|loaded| loaded.0);
            let expected = (n < 5).then(|| b"new".to_vec());
            assert_eq!(head, expected, "{n}, round {round}");
            // Looked at here and nowhere else, the others wait for the thread.
            if n == 10 {
                break;
            }
        }
        // A restart before the files are gone.
        drop(disk);
        disk = open(&dir, PLENTY);
        if round == 1 {
            index(&disk, false);
            disk.tend();
            assert_eq!(all_files(&dir).len(), 5);
        }
    }
}

#[test]
fn everything_is_no_more_than_what_is_old() {
    let (_dir, disk) = disk();
    store(&disk, id(1), b"h", b"b");
    let between = now();
    std::thread::sleep(Duration::from_millis(5));
    store(&disk, id(2), b"h", b"b");
    disk.remove_everything_before(between);
    disk.tend();
    assert!(load(&disk, id(1)).is_none());
    assert!(load(&disk, id(2)).is_some());
    // A time that is not yet does not take what comes.
    disk.remove_everything_before(Duration::MAX);
    store(&disk, id(3), b"h", b"b");
    assert!(load(&disk, id(2)).is_none());
    assert!(load(&disk, id(3)).is_some());
    assert_eq!(disk.candidates(id(3).url, id(3).who), [id(3)]);
}

#[test]
fn a_damaged_note_of_the_removal_counts_from_when_it_was_written() {
    let (dir, disk) = disk();
    store(&disk, id(1), b"h", b"b");
    disk.remove_everything_before(now());
    drop(disk);
    let note = dir.path().join("cache/cleared");
    for damaged in ["", "12", "1 0000000000000000\n", "x"] {
        std::fs::write(&note, damaged).unwrap();
        let disk = open(&dir, PLENTY);
        assert!(disk.open_object(id(1)).is_none());
        store(&disk, id(1), b"h", b"b");
        assert!(load(&disk, id(1)).is_some(), "what comes after it stays");
    }
}

#[test]
fn heads_are_shown_and_what_is_chosen_goes() {
    let (_dir, disk) = disk();
    for n in 0..50 {
        store(
            &disk,
            id(n),
            format!("tag {}", n % 5).as_bytes(),
            &body(n, 20_000),
        );
    }
    std::fs::write(path(&disk, id(7)), b"damaged").unwrap();
    let mut seen = BTreeSet::new();
    disk.each_head(&mut |id, head| {
        assert!(seen.insert(id), "once");
        // Written after it began, in a shard that is still to come or not.
        if seen.len() == 1 {
            for n in 100..110 {
                store(&disk, super::id(n), b"tag 3", b"");
            }
        }
        head == b"tag 3"
    });
    assert_eq!(seen.len(), 49);
    for n in (0..50).chain(100..110) {
        let gone = n < 50 && (n % 5 == 3 || n == 7);
        assert_eq!(load(&disk, id(n)).is_none(), gone, "{n}");
    }
    assert_eq!(disk.status().corrupt, 1);
}
