//! The directory: what is made in it, who else uses it, and what is done to it under our hands.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn files_are_for_this_user_alone() {
    let (dir, disk) = disk();
    store(&disk, id(1), b"head", b"body");
    let mut writer = disk.create(id(2), 10).unwrap();
    writer.append(&[0; 70_000]).unwrap();
    let root = dir.path().join("cache");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (file, _) in all_files(&dir) {
        assert_eq!(mode(&file), 0o600, "{file:?}");
        assert_eq!(mode(file.parent().unwrap()), 0o700, "{file:?}");
    }
    assert_eq!(mode(&root.join("secret")), 0o600);
    for dir in ["", "objects", "tmp"] {
        assert_eq!(mode(&root.join(dir)), 0o700, "{dir:?}");
    }
    let name = path(
        &disk,
        Id {
            url: 0xabc0_0000_0000_0001,
            who: 2,
            variant: 3,
        },
    );
    let expected = "objects/abc/abc000000000000100000000000000020000000000000003";
    assert_eq!(name, root.join(expected));
}

#[test]
fn the_secret_stays_and_is_nobody_elses() {
    let (dir, disk) = disk();
    let secret = *disk.secret();
    assert_ne!(secret, [0; 32]);
    assert_eq!(*open(&dir, PLENTY).secret(), secret);
    assert_ne!(*super::disk().1.secret(), secret);
    // Cut by a crash: another, which stays in turn.
    fs::write(dir.path().join("cache/secret"), b"short").unwrap();
    let other = *open(&dir, PLENTY).secret();
    assert_ne!(other, secret);
    assert_eq!(*open(&dir, PLENTY).secret(), other);
}

#[test]
fn many_processes_make_one_secret() {
    let dir = tempfile::tempdir().unwrap();
    let secrets: Vec<[u8; 32]> = std::thread::scope(|scope| {
        let openers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| *open(&dir, PLENTY).secret()))
            .collect();
        openers
            .into_iter()
            .map(|opener| opener.join().unwrap())
            .collect()
    });
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
}

#[test]
fn a_place_that_cannot_be_used_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        let (disk, error) = Disk::open(DiskSettings {
            path,
            max_size: PLENTY,
            min_free: 0,
        })
        .unwrap();
        let told = error.unwrap().to_string();
        assert!(disk.status().off.is_some());
        assert!(disk.create(id(1), 10).is_err());
        assert!(told.starts_with("cannot make "), "{told}");
        assert!(
            told.contains("file") && told.contains("Not a directory"),
            "{told}"
        );
        assert!(told.contains("name a directory"), "{told}");
    }
    let deep = dir.path().join("a/b/c");
    let settings = DiskSettings {
        path: deep.clone(),
        max_size: PLENTY,
        min_free: 0,
    };
    assert!(Disk::open(settings).unwrap().1.is_none());
    assert!(deep.join("secret").exists());
}

/// What cannot be used when it is opened is read as far as it goes, and used as soon as it can be.
#[test]
fn a_place_that_can_be_used_later_is_used_later() {
    let (dir, first) = disk();
    store(&first, id(1), b"head", b"body");
    let secret = *first.secret();
    drop(first);
    let tmp = dir.path().join("cache/tmp");
    fs::remove_dir_all(&tmp).unwrap();
    fs::write(&tmp, b"in the way").unwrap();
    let (disk, error) = Disk::open(settings(&dir, PLENTY)).unwrap();
    assert!(error.unwrap().to_string().contains("tmp"));
    assert_eq!(*disk.secret(), secret);
    assert_eq!(disk.candidates(id(1).url, id(1).who), [id(1)]);
    assert!(load(&disk, id(1)).is_some());
    fs::remove_file(&tmp).unwrap();
    disk.health.end_pause();
    store(&disk, id(2), b"head", b"body");
    assert!(load(&disk, id(2)).is_some());
    assert_eq!(disk.status().off, None);
    drop(disk);
    // With nothing there at first, it is the one who makes the secret, unless another does meanwhile.
    let root = dir.path().join("cache");
    for by_another in [false, true] {
        fs::remove_dir_all(&root).unwrap();
        fs::write(&root, b"in the way").unwrap();
        let (disk, error) = Disk::open(settings(&dir, PLENTY)).unwrap();
        assert!(error.is_some());
        fs::remove_file(&root).unwrap();
        let other = by_another.then(|| open(&dir, PLENTY));
        disk.health.end_pause();
        assert_eq!(disk.create(id(1), 10).is_ok(), !by_another);
        let saved = fs::read(root.join("secret")).unwrap();
        let expected = other.as_ref().unwrap_or(&disk);
        assert_eq!(saved, *expected.secret());
    }
}

#[test]
fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
    let (dir, living) = disk();
    let mut writer = living.create(id(1), 10).unwrap();
    writer.append(&[1; 70_000]).unwrap();
    // What a killed process leaves: a directory that nobody has locked.
    let dead = dir.path().join("cache/tmp/1-0000000000000000");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("0"), b"half").unwrap();
    fs::write(dead.join("17"), b"half").unwrap();
    let other = open(&dir, PLENTY);
    assert!(!dead.exists());
    writer.finish(b"head").unwrap();
    assert!(load(&living, id(1)).is_some());
    assert!(load(&other, id(1)).is_some());
    drop((living, other));
    assert_eq!(
        fs::read_dir(dir.path().join("cache/tmp")).unwrap().count(),
        0
    );
}

#[test]
fn two_at_one_directory_find_what_the_other_does() {
    let (dir, one) = disk();
    let other = open(&dir, PLENTY);
    store(&one, id(1), b"by one", b"1");
    // It is looked for on the disk, whatever the index says.
    assert_eq!(load(&other, id(1)).unwrap().0, b"by one");
    assert!(other.candidates(id(1).url, id(1).who).is_empty());
    index(&other, true);
    assert_eq!(other.candidates(id(1).url, id(1).who), [id(1)]);
    assert_eq!(other.status().bytes, one.status().bytes);
    store(&other, id(1), b"by other", &body(1, 50_000));
    assert_eq!(load(&one, id(1)).unwrap().0, b"by other");
    index(&one, true);
    assert_eq!(other.status().bytes, one.status().bytes);
    other.remove(id(1));
    assert!(load(&one, id(1)).is_none());
    assert_eq!((one.status().objects, one.status().bytes), (0, 0));
    store(&one, id(2), b"h", b"b");
    index(&other, true);
    one.remove(id(2));
    index(&other, true);
    assert_eq!((other.status().objects, other.status().bytes), (0, 0));
    store(&one, id(3), b"h", b"b");
    one.remove_everything_before(one.open_object(id(3)).unwrap().0.begun());
    let third = open(&dir, PLENTY);
    assert!(third.open_object(id(3)).is_none());
}

#[test]
fn an_emptied_directory_is_used_again() {
    let (dir, disk) = disk();
    store(&disk, id(1), b"h", b"b");
    let mut writer = disk.create(id(2), 10).unwrap();
    writer.append(&[2; 70_000]).unwrap();
    let reader = writer.reader();
    for part in ["objects", "tmp", "secret"] {
        let path = dir.path().join("cache").join(part);
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
    assert!(load(&disk, id(1)).is_none());
    assert!(writer.finish(b"h").is_err());
    assert_eq!(read_all(&reader, 70_000).unwrap(), [2; 70_000]);
    assert_eq!(disk.status().bytes, 0);
    for n in 1..50 {
        store(&disk, id(n), b"h", b"b");
        assert!(load(&disk, id(n)).is_some());
    }
    // The new directory is locked like the one before it.
    let mut writer = disk.create(id(2), 10).unwrap();
    writer.append(&[2; 70_000]).unwrap();
    open(&dir, PLENTY);
    assert!(writer.finish(b"h").is_ok());
    assert_eq!(disk.status().off, None);
}

#[test]
fn strange_names_are_left_alone() {
    let (dir, disk) = disk();
    store(&disk, id(1), b"h", b"b");
    let shard = path(&disk, id(1)).parent().unwrap().to_owned();
    let other_shard = "0".repeat(48);
    for name in [
        "README",
        &"F".repeat(48),
        &other_shard,
        &"a".repeat(47),
        &"a".repeat(49),
    ] {
        fs::write(shard.join(name), b"?").unwrap();
    }
    fs::create_dir(shard.join(format!(
        "{}f",
        &path(&disk, id(1)).file_name().unwrap().to_str().unwrap()[..47]
    )))
    .unwrap();
    index(&disk, true);
    assert_eq!(disk.status().objects, 1);
    assert_eq!(all_files(&dir).len(), 6);
}
