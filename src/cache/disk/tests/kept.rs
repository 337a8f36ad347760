//! Small files that stay open.

use super::super::kept;
use super::*;
use std::fs;

/// How often this process has the object's file open, also one that was removed.
fn open_times(disk: &Disk, id: Id) -> usize {
    let name = path(disk, id);
    let name = name.to_str().unwrap();
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with(name))
        .count()
}

/// A disk on a file system that says what it has in memory. Where it does not, nothing is kept open.
fn disk_that_tells() -> Option<(TempDir, Arc<Disk>)> {
    let (dir, disk) = disk();
    drop(store(&disk, id(99), b"head", b"body"));
    let tells = (0..1000).any(|_| {
        disk.open_object(id(99));
        disk.try_open_object(id(99)).is_some()
    });
    disk.remove(id(99));
    if !tells {
        eprintln!("this file system never says what it has in memory");
    }
    tells.then_some((dir, disk))
}

/// Without waiting for the disk, which the system refuses now and then for no reason that is visible.
fn read(disk: &Disk, id: Id) -> Option<(Vec<u8>, Vec<u8>)> {
    for _ in 0..1000 {
        if let Some((stored, head)) = disk.try_open_object(id) {
            return Some((head, read_all(&stored, 100_000).unwrap()));
        }
        disk.open_object(id)?;
    }
    panic!("it is never opened without waiting");
}

/// Long enough between two closings.
fn later(times: u64) -> u64 {
    times * 2 * kept::UNUSED
}

#[test]
fn a_small_file_is_opened_once_and_closed_when_nobody_asks_for_it_any_more() {
    let Some((_dir, disk)) = disk_that_tells() else {
        return;
    };
    drop(store(&disk, id(1), b"head", b"body"));
    assert_eq!(open_times(&disk, id(1)), 0);
    for _ in 0..3 {
        assert_eq!(
            read(&disk, id(1)).unwrap(),
            (b"head".to_vec(), b"body".to_vec())
        );
        assert_eq!(open_times(&disk, id(1)), 1);
    }
    disk.close_unused(later(1));
    assert_eq!(open_times(&disk, id(1)), 1, "it was used");
    disk.close_unused(later(1));
    assert_eq!(open_times(&disk, id(1)), 1, "that was a moment ago");
    disk.close_unused(later(2));
    assert_eq!(open_times(&disk, id(1)), 0);
}

#[test]
fn a_large_file_is_not_kept_for_its_name() {
    let Some((_dir, disk)) = disk_that_tells() else {
        return;
    };
    drop(store(&disk, id(1), b"head", &body(1, 100_000)));
    assert!(read(&disk, id(1)).is_some());
    assert_eq!(open_times(&disk, id(1)), 0);
}

#[test]
fn what_was_removed_or_replaced_is_closed_and_not_read() {
    let Some((_dir, disk)) = disk_that_tells() else {
        return;
    };
    drop(store(&disk, id(1), b"head", b"body"));
    read(&disk, id(1)).unwrap();
    drop(store(&disk, id(1), b"other head", b"other body"));
    assert_eq!(open_times(&disk, id(1)), 0);
    assert_eq!(read(&disk, id(1)).unwrap().1, b"other body");
    assert_eq!(open_times(&disk, id(1)), 1);
    assert!(disk.remove(id(1)));
    assert_eq!(open_times(&disk, id(1)), 0);
    assert_eq!(read(&disk, id(1)), None);
}

#[test]
fn what_another_process_removed_or_replaced_is_not_read() {
    let Some((dir, disk)) = disk_that_tells() else {
        return;
    };
    let other = open(&dir, PLENTY);
    drop(store(&disk, id(1), b"head", b"body"));
    read(&disk, id(1)).unwrap();
    drop(store(&other, id(1), b"head", b"its body"));
    assert_eq!(read(&disk, id(1)).unwrap().1, b"its body");
    fs::remove_file(path(&disk, id(1))).unwrap();
    assert_eq!(read(&disk, id(1)), None);
}

#[test]
fn a_head_that_changed_and_a_body_that_is_damaged_are_seen_in_an_open_file() {
    let Some((_dir, disk)) = disk_that_tells() else {
        return;
    };
    let stored = store(&disk, id(1), b"head", b"body");
    read(&disk, id(1)).unwrap();
    assert!(update(&disk, id(1), &stored, b"new!"));
    assert_eq!(read(&disk, id(1)).unwrap().0, b"new!");
    let mut bytes = fs::read(path(&disk, id(1))).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    // In the same file.
    fs::write(path(&disk, id(1)), bytes).unwrap();
    assert_eq!(read(&disk, id(1)), None);
    drop(stored);
    assert_eq!(open_times(&disk, id(1)), 0);
}

/// A URL that has an answer for each of very many persons.
#[test]
fn so_many_of_one_directory_are_kept_and_those_in_use_stay() {
    const MANY: u64 = 40;
    let Some((_dir, disk)) = disk_that_tells() else {
        return;
    };
    let whose = |who: u64| Id { who, ..id(1) };
    let open = |who: u64| open_times(&disk, whose(who));
    for who in 0..MANY {
        drop(store(&disk, whose(who), b"head", b"body"));
        assert!(read(&disk, whose(who)).is_some());
    }
    assert_eq!((0..MANY).map(open).sum::<usize>(), kept::MOST);
    // All but the first one go unused for a while: it stays, and another takes the place of one of them.
    disk.close_unused(later(1));
    assert!(read(&disk, whose(0)).is_some());
    assert!(read(&disk, whose(MANY - 1)).is_some());
    assert_eq!((open(0), open(MANY - 1)), (1, 1));
    assert_eq!((0..MANY).map(open).sum::<usize>(), kept::MOST);
    disk.close_unused(later(2));
    assert_eq!((0..MANY).map(open).sum::<usize>(), 2);
}
