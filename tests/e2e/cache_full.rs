//! A cache whose disk is full, cannot be written to, or is not there.

use crate::cache::{hit, is_hit, rules};
use crate::cache_disk::{KEPT, bodies, on_disk, until_written, whole};
use crate::client::{Client, get};
use crate::harness::{BACKSTOP, until};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A file system of its own, taken away at the end. Only root may make one.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path())
            .output();
        let is_mounted = mounted.is_ok_and(|m| m.status.success());
        is_mounted.then_some(Mounted(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn again(&self, options: &str) {
        let path = self.path();
        let done = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(path)
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// 30 MB of answers, small and large, all right.
fn load(port: u16, round: usize) {
    let mut client = Client::to(port);
    for n in 0..60 {
        let len = [400, 40_000, 600_000, 900_000, 1_500_000][n % 5];
        let path = format!("/{}/{len}/{round}-{n}", ["length", "chunked"][n / 5 % 2]);
        whole(&client.get(&path), &path);
    }
}

#[test]
fn a_full_disk_costs_no_answer_and_one_line() {
    let Some(disk) = Mounted::new("size=20m") else {
        return;
    };
    let origin = bodies();
    let proxy = on_disk(disk.path()).start(&rules(&origin, KEPT));
    load(proxy.port, 0);
    // Somebody else takes all the space.
    fs::create_dir(disk.path().join("theirs")).unwrap();
    let mut taken = 0;
    while fs::write(
        disk.path().join(format!("theirs/{taken}")),
        vec![1; 256 * 1024],
    )
    .is_ok()
    {
        taken += 1;
    }
    assert!(taken > 0);
    load(proxy.port, 1);
    load(proxy.port, 2);
    // One for each kind of trouble and each half minute, not for each answer.
    let lines = proxy.count_said("cache on disk");
    assert!((1..=6).contains(&lines), "{}", proxy.stderr());
}

#[test]
fn a_disk_that_becomes_read_only_costs_no_answer_and_one_line() {
    let Some(disk) = Mounted::new("size=40m") else {
        return;
    };
    let origin = bodies();
    let proxy = on_disk(disk.path()).start(&rules(&origin, KEPT));
    let kept = "/length/700000/kept";
    whole(&get(proxy.port, kept), kept);
    until_written(disk.path(), 1);
    disk.again("ro");
    load(proxy.port, 0);
    // What is there is still given out.
    let answer = get(proxy.port, kept);
    hit(&answer);
    whole(&answer, kept);
    let lines = proxy.count_said("cache on disk");
    assert!((1..=3).contains(&lines), "{}", proxy.stderr());
    assert_eq!(proxy.count_said("nothing is written for 30 s"), 1);
}

#[test]
fn without_a_directory_it_starts_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let origin = bodies();
    let proxy = on_disk(&file.join("below")).start(&rules(&origin, KEPT));
    let line = proxy.said("answers are kept in memory only");
    assert!(line.contains("ERROR") && line.contains("below"), "{line}");
    let path = "/length/1000/x";
    whole(&get(proxy.port, path), path);
    until("a hit from memory", || is_hit(&get(proxy.port, path)));
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a directory");
}

#[test]
fn a_limit_on_the_size_of_files_costs_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let proxy = on_disk(dir.path()).start(&rules(&origin, KEPT));
    let limited = Command::new("prlimit")
        .args(["--pid", &proxy.pid().to_string(), "--fsize=1000000"])
        .status();
    if !limited.is_ok_and(|l| l.success()) {
        return;
    }
    load(proxy.port, 0);
    let mut proxy = proxy;
    assert!(proxy.is_alive(), "{BACKSTOP} died of it");
    let lines = proxy.count_said("cache on disk");
    assert!((1..=3).contains(&lines), "{}", proxy.stderr());
}
