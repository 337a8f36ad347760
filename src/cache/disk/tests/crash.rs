//! A process that is killed in the middle of writing leaves whole objects, and nothing that stays.

use super::*;
use std::process::{Command, Stdio};
use std::time::Duration;

const DIR: &str = "CRASH_TEST_DIR";

/// Writes until it is killed. Run by the test below, in a process of its own.
#[test]
#[ignore = "the part of another test that is killed"]
fn write_until_killed() {
    let Some(path) = std::env::var_os(DIR) else {
        return;
    };
    let disk = Disk::open(DiskSettings {
        path: path.into(),
        max_size: 20 << 20,
        min_free: 0,
    })
    .unwrap()
    .0;
    disk.start_indexing();
    let mut dice = Dice(u64::from(std::process::id()));
    loop {
        let id = id(dice.below(300));
        let len = match dice.below(3) {
            0 => dice.below(300_000),
            _ => dice.below(8000),
        };
        let seed = dice.roll();
        let mut writer = disk.create(id, 24).unwrap();
        writer.append(&body(seed, len as usize)).unwrap();
        writer
            .finish(&[seed, len, 0].map(u64::to_le_bytes).concat())
            .unwrap();
        let other = super::id(dice.below(300));
        if let Some((stored, head)) = disk.open_object(other) {
            let changes = u64::from_le_bytes(head[16..24].try_into().unwrap()) + 1;
            let mut head = [&head[..16], &changes.to_le_bytes()].concat();
            head.resize(24 + dice.below(3) as usize * 10, 0);
            update(&disk, other, &stored, &head);
        }
    }
}

#[test]
#[ignore = "takes a minute"]
fn killed_two_hundred_times() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(1);
    let mut whole = 0;
    for _ in 0..200 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["write_until_killed", "--ignored", "--nocapture"])
            .env(DIR, dir.path().join("cache"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(50 + dice.below(150)));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let disk = open(&dir, PLENTY);
        index(&disk, false);
        let tmp = std::fs::read_dir(dir.path().join("cache/tmp")).unwrap();
        assert_eq!(tmp.count(), 1, "ours");
        for n in 0..300 {
            let Some((head, got)) = load(&disk, id(n)) else {
                continue;
            };
            let word = |at| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
            assert!(got == body(word(0), word(8) as usize));
            whole += 1;
        }
        assert_eq!(disk.status().corrupt, 0);
    }
    assert!(whole > 10_000, "{whole}");
}
