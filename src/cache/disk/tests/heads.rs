//! Heads that are replaced.

use super::super::Updated;
use super::*;
use rustix::io::Errno;

/// Whether what is there now was asked for.
#[test]
fn a_head_is_replaced_only_if_the_one_that_is_there_may_be() {
    let (_dir, disk) = disk();
    for head in [b"new".to_vec(), vec![b'n'; 30_000]] {
        let stored = store(&disk, id(1), b"old", b"body");
        let seen = std::cell::RefCell::new(Vec::new());
        let keep = |head: &[u8]| {
            seen.borrow_mut().push(head.to_vec());
            false
        };
        let updated = disk.update_head(id(1), stored.copy(), &head, &keep);
        assert_eq!(updated, Updated::No);
        assert_eq!(seen.into_inner(), [b"old"]);
        assert_eq!(load(&disk, id(1)).unwrap().0, b"old");
    }
}

#[test]
fn a_head_is_replaced_in_place() {
    let (_dir, disk) = disk();
    for len in [10, 100_000] {
        let body = body(1, len);
        store(&disk, id(1), &[b'0'; 50], &body);
        let (stored, _) = disk.open_object(id(1)).unwrap();
        for n in 1..20_usize {
            let head = vec![n as u8; n * 2];
            assert!(update(&disk, id(1), &stored, &head));
            assert_eq!(load(&disk, id(1)), Some((head, body.clone())));
        }
        assert!(super::super::files::is_at(
            stored.file(),
            &disk.names.object(id(1))
        ));
        assert!(read_all(&stored, 70_000).unwrap() == body);
    }
}

#[test]
fn a_head_that_does_not_fit_makes_a_new_file() {
    let (dir, disk) = disk();
    for len in [10, 100_000, 3_000_000] {
        let body = body(1, len);
        store(&disk, id(1), b"short", &body);
        let (stored, _) = disk.open_object(id(1)).unwrap();
        let head = vec![b'x'; 30_000];
        assert!(update(&disk, id(1), &stored, &head));
        assert_eq!(load(&disk, id(1)), Some((head, body.clone())));
        assert!(read_all(&stored, 70_000).unwrap() == body);
        let (again, _) = disk.open_object(id(1)).unwrap();
        assert_eq!(again.begun(), stored.begun());
        assert!(update(&disk, id(1), &again, b"other"));
        assert_eq!(load(&disk, id(1)).unwrap().0, b"other");
        assert_eq!(all_files(&dir).len(), 1);
        let sizes: u64 = all_files(&dir)
            .iter()
            .map(|f| f.1.next_multiple_of(4096))
            .sum();
        assert_eq!(disk.status().bytes, sizes);
    }
}

#[test]
fn the_head_of_a_replaced_or_removed_object_stays() {
    let (_dir, disk) = disk();
    let old = store(&disk, id(1), b"old", b"1");
    store(&disk, id(1), b"new", b"2");
    assert!(!update(&disk, id(1), &old, b"bad"));
    assert_eq!(load(&disk, id(1)).unwrap().0, b"new");
    disk.remove(id(1));
    assert!(!update(&disk, id(1), &old, b"bad"));
    assert!(disk.open_object(id(1)).is_none());
}

/// A new version came while the old one was copied to make room for its head.
#[test]
fn a_copy_does_not_undo_a_newer_version() {
    let (dir, disk) = disk();
    let old = store(&disk, id(1), b"old", b"1");
    let front = super::super::stored::Front::read(old.file(), id(1), true).unwrap();
    store(&disk, id(1), b"new", b"2");
    let copied = disk.copy(old.file(), &front.prefix, &[b'x'; 100], None);
    assert!(copied.unwrap().is_none());
    assert_eq!(load(&disk, id(1)), Some((b"new".to_vec(), b"2".to_vec())));
    assert_eq!((all_files(&dir).len(), disk.status().bytes), (1, 4096));
}

/// However much of the update is written before the disk fails.
#[test]
fn a_failed_update_leaves_the_head_before_it() {
    let (dir, _) = disk();
    let new = [b'n'; 30];
    let whole = (16 + new.len()) as u64;
    // And then the slot's beginning once more.
    for cut in 0..whole + 16 {
        let disk = open(&dir, PLENTY);
        let stored = store(&disk, id(1), &[b'f'; 40], b"body");
        // So that the place of another head is overwritten.
        assert!(update(&disk, id(1), &stored, &[b'o'; 40]));
        *disk.faults.write.lock().unwrap() = Some((cut, Errno::IO));
        assert!(!update(&disk, id(1), &stored, &new));
        let left = load(&disk, id(1));
        let before = Some((vec![b'o'; 40], b"body".to_vec()));
        // Unless what says that it is under way was torn: then it is known to be wrong.
        if !(1..16).contains(&(cut % whole)) {
            assert_eq!(left, before, "{cut}");
        } else if left.is_none() {
            assert_eq!(disk.status().corrupt, 1, "{cut}");
        } else {
            // What was not written any more is, by chance, what was there: sums are of random numbers.
            let after = Some((new.to_vec(), b"body".to_vec()));
            assert!(left == before || left == after, "{cut}: {left:?}");
        }
        assert!(!update(&disk, id(1), &stored, &new), "switched off");
    }
}
