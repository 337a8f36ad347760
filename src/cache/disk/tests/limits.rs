//! What may be taken, and who makes way.

use super::super::Off;
use super::*;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

fn taken(dir: &TempDir) -> u64 {
    all_files(dir)
        .iter()
        .map(|f| f.1.next_multiple_of(4096))
        .sum()
}

fn there(disk: &Disk, ids: std::ops::Range<u64>) -> Vec<u64> {
    ids.filter(|&n| path(disk, id(n)).exists()).collect()
}

#[test]
fn the_least_recently_used_makes_way() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, 10 * 4096);
    for n in 0..10 {
        store(&disk, id(n), b"head", &body(n, 1000));
    }
    assert_eq!(there(&disk, 0..10).len(), 10);
    for n in [0, 2, 4] {
        disk.used(id(n));
    }
    for (n, left) in [
        (10, vec![0, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (11, vec![0, 2, 4, 5, 6, 7, 8, 9, 10, 11]),
        (12, vec![0, 2, 4, 6, 7, 8, 9, 10, 11, 12]),
    ] {
        store(&disk, id(n), b"head", &body(n, 1000));
        assert_eq!(there(&disk, 0..13), left);
    }
    // Four at once: 6, 7, 8, 9 go.
    store(&disk, id(13), b"head", &body(13, 15_000));
    assert_eq!(there(&disk, 0..14), [0, 2, 4, 10, 11, 12, 13]);
    assert_eq!(disk.status().evicted, 7);
    assert_eq!((disk.status().bytes, taken(&dir)), (10 * 4096, 10 * 4096));
}

#[test]
fn the_order_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, 5 * 4096);
    for n in 0..5 {
        store(&disk, id(n), b"head", b"body");
        let long_ago = SystemTime::now() - Duration::from_secs(10_000 - n);
        let file = std::fs::File::open(path(&disk, id(n))).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    drop(disk);
    let disk = open(&dir, 5 * 4096);
    index(&disk, false);
    // Noted in the files when the disk is closed.
    for n in [1, 0] {
        disk.used(id(n));
        thread::sleep(Duration::from_millis(1));
    }
    drop(disk);
    let disk = open(&dir, 5 * 4096);
    index(&disk, false);
    assert_eq!((disk.status().objects, disk.status().indexed), (5, 100));
    let mut gone: Vec<u64> = Vec::new();
    let mut before = there(&disk, 0..5);
    while disk.evict().is_some() {
        let now = there(&disk, 0..5);
        gone.extend(before.iter().copied().filter(|n| !now.contains(n)));
        before = now;
    }
    assert_eq!(gone, [2, 3, 4, 1, 0]);
}

#[test]
fn uses_are_noted_in_files_seldom() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, PLENTY);
    store(&disk, id(1), b"head", b"body");
    let file = path(&disk, id(1));
    let modified = || {
        let meta = std::fs::metadata(&file);
        meta.unwrap().modified().unwrap()
    };
    let written = modified();
    for _ in 0..100 {
        disk.used(id(1));
    }
    // Two where a period of ten minutes ends just now.
    assert!(disk.touched.lock().unwrap().len() <= 1);
    drop(disk);
    let opened = std::fs::File::open(&file).unwrap();
    let long_ago = written - Duration::from_secs(1000);
    opened.set_modified(long_ago).unwrap();
    let disk = open(&dir, PLENTY);
    index(&disk, false);
    for _ in 0..100 {
        disk.used(id(1));
    }
    assert!((1..=2).contains(&disk.touched.lock().unwrap().len()));
    assert_eq!(modified(), long_ago, "it is written later");
    disk.save_uses();
    assert!(modified() > written);
    disk.used(id(9));
    assert!(disk.candidates(id(9).url, id(9).who).is_empty());
}

#[test]
fn what_cannot_fit_is_refused_and_costs_nobody_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, 100 * 4096);
    store(&disk, id(1), b"head", b"body");
    store(&disk, id(4), b"head", &[1; 150_000]);
    let mut writer = disk.create(id(2), 10).unwrap();
    let mut result = Ok(());
    for _ in 0..10 {
        result = result.and_then(|()| writer.append(&[1; 65_536]));
    }
    assert_eq!(result, Err(Off::NoRoom));
    assert_eq!(writer.append(b"more"), Err(Off::NoRoom));
    assert_eq!(writer.finish(b"head").unwrap_err(), Off::NoRoom);
    assert_eq!(taken(&dir), disk.status().bytes);
    // Something without end takes no more than half before it ends.
    assert_eq!((there(&disk, 0..5), disk.status().evicted), (vec![1, 4], 0));
    assert_eq!(disk.create(id(3), 1 << 20).unwrap_err(), Off::NoRoom);
    assert!(disk.status().off.is_none());
}

#[test]
fn too_little_free_space_stops_writing_and_frees_some() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, PLENTY);
    for n in 0..100 {
        store(&disk, id(n), b"head", b"body");
    }
    drop(disk);
    let disk = Disk::open(DiskSettings {
        min_free: 1 << 62,
        ..settings(&dir, PLENTY)
    })
    .unwrap()
    .0;
    index(&disk, false);
    assert_eq!(disk.create(id(1), 10).unwrap_err(), Off::LowSpace);
    // A few at a time while somebody waits, once a second; as many as it takes in the background.
    assert_eq!(disk.status().evicted, 64);
    assert_eq!(disk.create(id(1), 10).unwrap_err(), Off::LowSpace);
    assert_eq!(disk.status().evicted, 64);
    let (_, why) = disk.status().off.unwrap();
    assert!(why.ends_with("bytes are free"), "{why}");
    thread::sleep(Duration::from_millis(1050));
    disk.tend();
    assert_eq!((disk.status().evicted, taken(&dir)), (100, 0));
}

/// As the system counts: with the directories, on a file system where they take something.
#[test]
fn directories_count() {
    let dir = tempfile::tempdir().unwrap();
    let du = || -> u64 {
        let du = std::process::Command::new("du")
            .args(["-s", "-B1"])
            .arg(dir.path().join("cache"))
            .output();
        let du = String::from_utf8(du.unwrap().stdout).unwrap();
        du.split_whitespace().next().unwrap().parse().unwrap()
    };
    const MAX: u64 = 400 * 4096;
    for round in 0..2 {
        let disk = open(&dir, MAX);
        disk.faults.count_directories.store(true, Ordering::Relaxed);
        index(&disk, false);
        disk.tend();
        for n in 0..1000 {
            let _ = disk
                .create(id(n * 2 + round), 10)
                .and_then(|writer| writer.finish(b"head"));
            if n % 100 == 0 {
                disk.tend();
            }
        }
        disk.tend();
        let (du, status) = (du(), disk.status());
        assert!(du <= MAX && du > MAX / 10 * 9, "{du} of {MAX}");
        assert!(status.bytes.abs_diff(du) <= 2 * 4096, "{status:?}, {du}");
        assert!(status.objects > 100, "{status:?}");
    }
}

/// Clients choose what an answer varies by.
#[test]
fn of_very_many_variants_the_last_used_stay() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, PLENTY);
    let of = |who, variant| Id {
        url: 5,
        who,
        variant,
    };
    for who in [1, 2] {
        for variant in 0..64 {
            store(&disk, of(who, variant), b"head", b"body");
        }
    }
    assert_eq!(disk.status().evicted, 0);
    disk.used(of(1, 0));
    for variant in 100..105 {
        store(&disk, of(1, variant), b"head", b"body");
    }
    let mut left: Vec<u64> = disk.candidates(5, 1).iter().map(|id| id.variant).collect();
    left.sort_unstable();
    let expected = [0].into_iter().chain(6..64).chain(100..105);
    assert!(left.iter().copied().eq(expected), "{left:?}");
    assert_eq!(disk.candidates(5, 2).len(), 64);
    assert_eq!(all_files(&dir).len(), 128);
    drop(disk);
    // Of more that others left there, too.
    let disk = open(&dir, PLENTY);
    let one = path(&disk, of(1, 0));
    for variant in 200..300 {
        std::fs::copy(&one, path(&disk, of(1, variant))).unwrap();
    }
    assert_eq!(disk.candidates(5, 1).len(), 64);
    assert_eq!(all_files(&dir).len(), 128);
}

/// Until all is known, hardly anything may be added; once it is, the limit holds.
#[test]
fn a_lowered_limit_and_an_unknown_directory() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, PLENTY);
    for n in 0..300 {
        store(&disk, id(n), b"head", b"body");
    }
    drop(disk);
    let disk = open(&dir, 100 * 4096);
    assert!(disk.status().indexed < 100);
    let stored = (1000..1200).filter(|&n| {
        let writer = disk.create(id(n), 10);
        writer.is_ok_and(|writer| writer.finish(b"head").is_ok())
    });
    stored.count();
    assert!(taken(&dir) <= 304 * 4096, "{}", taken(&dir) / 4096);
    index(&disk, false);
    disk.tend();
    assert_eq!(disk.status().indexed, 100);
    assert!(taken(&dir) <= 100 * 4096);
    assert_eq!(taken(&dir), disk.status().bytes);
}

/// The sum of what lies there, looked at between their steps while threads write, replace and remove.
#[test]
fn the_limit_holds_under_load() {
    const MAX: u64 = 400 * 4096;
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, MAX);
    let (done, step) = (AtomicBool::new(false), RwLock::new(()));
    let (highest, looks) = thread::scope(|scope| {
        let (disk, step) = (&disk, &step);
        let writer = |n| {
            let mut dice = Dice(n);
            for _ in 0..400 {
                let len = match dice.below(10) {
                    0 => dice.below(300_000),
                    _ => dice.below(10_000),
                };
                let body = body(dice.roll(), len as usize);
                let id = id(dice.below(200));
                let writer = {
                    let _step = step.read().unwrap();
                    disk.create(id, 100)
                };
                let Ok(mut writer) = writer else {
                    continue;
                };
                let ends = dice.below(8) > 0;
                let appended = body.chunks(50_000).try_for_each(|piece| {
                    let _step = step.read().unwrap();
                    writer.append(piece)
                });
                let _step = step.read().unwrap();
                if ends && appended.is_ok() {
                    let _ = writer.finish(b"head");
                } else {
                    drop(writer);
                }
                if dice.below(8) == 0 {
                    disk.remove(super::id(dice.below(200)));
                }
            }
        };
        let writers: Vec<_> = (0..6).map(|n| scope.spawn(move || writer(n))).collect();
        let (done, dir) = (&done, &dir);
        let watcher = scope.spawn(move || {
            let (mut highest, mut looks) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let stopped = step.write().unwrap();
                let taken = taken(dir);
                assert!(taken <= disk.status().bytes);
                drop(stopped);
                highest = highest.max(taken);
                looks += 1;
                thread::sleep(Duration::from_millis(3));
            }
            (highest, looks)
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert!(looks > 10 && highest <= MAX, "{looks}: {highest}");
    assert!(highest > MAX / 10 * 9, "{highest}");
    assert_eq!(disk.status().bytes, taken(&dir));
    assert_eq!(disk.status().objects, all_files(&dir).len() as u64);
    assert!(disk.status().evicted > 100);
}

#[test]
fn the_thread_finds_everything_and_ends_with_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, PLENTY);
    for n in 0..500 {
        store(&disk, id(n), b"head", b"body");
    }
    drop(disk);
    let disk = open(&dir, 200 * 4096);
    disk.start_indexing();
    disk.start_indexing();
    let until = Instant::now() + Duration::from_secs(20);
    while disk.status().indexed < 100 || disk.status().bytes > 200 * 4096 {
        assert!(Instant::now() < until, "{:?}", disk.status());
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(disk.status().objects, 200);
    let weak = Arc::downgrade(&disk);
    drop(disk);
    while weak.strong_count() > 0 {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(5));
    }
}
