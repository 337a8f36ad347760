//! Small files that stay open.

use super::super::kept;
use super::*;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// How often this process has the object's file open, by whatever name it had.
fn open_times(inode: u64) -> usize {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let inodes = entries.filter_map(|entry| fs::metadata(entry.ok()?.path()).ok());
    inodes.filter(|meta| meta.ino() == inode).count()
}

fn inode(disk: &Disk, id: Id) -> u64 {
    fs::metadata(path(disk, id)).unwrap().ino()
}

/// Without waiting for the disk, which the system refuses now and then for no reason that is visible.
fn read(disk: &Disk, id: Id) -> Option<(Vec<u8>, Vec<u8>)> {
    for _ in 0..1000 {
        if let Some((stored, head)) = disk.try_open_object(id) {
            return Some((head, read_all(&stored, 100_000).unwrap()));
        }
        disk.open_object(id)?;
    }
    panic!("this file system never says what it has in memory");
}

/// Long enough between two closings.
fn later(times: u64) -> u64 {
    times * 2 * kept::UNUSED
}

#[test]
fn a_small_file_is_opened_once_and_closed_when_nobody_asks_for_it_any_more() {
    let (_dir, disk) = disk();
    drop(store(&disk, id(1), b"head", b"body"));
    let inode = inode(&disk, id(1));
    assert_eq!(open_times(inode), 0);
    for _ in 0..3 {
        assert_eq!(
            read(&disk, id(1)).unwrap(),
            (b"head".to_vec(), b"body".to_vec())
        );
        assert_eq!(open_times(inode), 1);
    }
    disk.close_unused(later(1));
    assert_eq!(open_times(inode), 1, "it was used");
    disk.close_unused(later(1));
    assert_eq!(open_times(inode), 1, "that was a moment ago");
    disk.close_unused(later(2));
    assert_eq!(open_times(inode), 0);
}

#[test]
fn a_large_file_is_not_kept_for_its_name() {
    let (_dir, disk) = disk();
    drop(store(&disk, id(1), b"head", &body(1, 100_000)));
    let inode = inode(&disk, id(1));
    assert!(read(&disk, id(1)).is_some());
    assert_eq!(open_times(inode), 0);
}

#[test]
fn what_was_removed_or_replaced_is_closed_and_not_read() {
    let (_dir, disk) = disk();
    drop(store(&disk, id(1), b"head", b"body"));
    let first = inode(&disk, id(1));
    read(&disk, id(1)).unwrap();
    drop(store(&disk, id(1), b"other head", b"other body"));
    assert_eq!(open_times(first), 0);
    assert_eq!(read(&disk, id(1)).unwrap().1, b"other body");
    let second = inode(&disk, id(1));
    assert_eq!(open_times(second), 1);
    assert!(disk.remove(id(1)));
    assert_eq!(open_times(second), 0);
    assert_eq!(read(&disk, id(1)), None);
}

#[test]
fn what_another_process_removed_or_replaced_is_not_read() {
    let (dir, disk) = disk();
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
    let (_dir, disk) = disk();
    let stored = store(&disk, id(1), b"head", b"body");
    read(&disk, id(1)).unwrap();
    assert!(update(&disk, id(1), &stored, b"new!"));
    assert_eq!(read(&disk, id(1)).unwrap().0, b"new!");
    let mut bytes = fs::read(path(&disk, id(1))).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    // In the same file.
    fs::write(path(&disk, id(1)), bytes).unwrap();
    let inode = inode(&disk, id(1));
    assert_eq!(read(&disk, id(1)), None);
    drop(stored);
    assert_eq!(open_times(inode), 0);
}
