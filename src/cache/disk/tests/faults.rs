//! A disk that fails: nothing breaks, nothing is left behind, and it is tried again later.

use super::super::Off;
use super::super::health::Switch;
use super::*;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Failures that a test asks for.
#[derive(Debug, Default)]
pub struct Faults {
    /// Making a file fails.
    pub create: Mutex<Option<Errno>>,
    /// Renaming fails.
    pub rename: Mutex<Option<Errno>>,
    /// Removing fails.
    pub unlink: Mutex<Option<Errno>>,
    /// Whether directories count: on most file systems they take something, which most tests do not go into.
    pub count_directories: AtomicBool,
    /// Writing fails, after so many bytes.
    pub write: Mutex<Option<(u64, Errno)>>,
}

impl Faults {
    pub fn check_create(&self) -> Result<(), Errno> {
        self.create.lock().unwrap().map_or(Ok(()), Err)
    }

    pub fn check_unlink(&self) -> Result<(), Errno> {
        self.unlink.lock().unwrap().map_or(Ok(()), Err)
    }

    pub fn check_rename(&self) -> Result<(), Errno> {
        self.rename.lock().unwrap().map_or(Ok(()), Err)
    }

    /// Writes what still fits, as a disk that runs full does.
    pub fn check_write(
        &self,
        file: BorrowedFd<'_>,
        pieces: &[&[u8]],
        at: u64,
    ) -> Result<(), Errno> {
        let mut write = self.write.lock().unwrap();
        let Some((left, errno)) = *write else {
            return Ok(());
        };
        let bytes = pieces.concat();
        let fits = usize::try_from(left).unwrap().min(bytes.len());
        *write = Some((left - fits as u64, errno));
        if fits == bytes.len() {
            return Ok(());
        }
        super::super::files::write_all(file, &[&bytes[..fits]], at).unwrap();
        Err(errno)
    }
}

impl super::super::Disk {
    /// Removing files fails from now on, or does not any more.
    pub fn fail_to_remove(&self, fails: bool) {
        *self.faults.unlink.lock().unwrap() = fails.then_some(Errno::ROFS);
    }
}

fn try_store(disk: &Arc<Disk>, n: u64, body: &[u8], head: &[u8]) -> Result<(), Off> {
    let mut writer = disk.create(id(n), 10)?;
    writer.append(body)?;
    writer.finish(head).map(drop)
}

/// Whatever has room on the disk when it runs full.
#[test]
fn a_full_disk_leaves_the_old_object_or_none() {
    let dir = tempfile::tempdir().unwrap();
    for (len, head) in [(1000, 10), (140_000, 10), (140_000, 5000)] {
        let whole = 72 + 32 + 2 * head + len + 3 * 8 + 5000 + len;
        for left in (0..whole as u64).step_by(whole / 50) {
            let disk = open(&dir, PLENTY);
            store(&disk, id(1), b"old", b"body");
            let files = all_files(&dir).len();
            let bytes = disk.status().bytes;
            *disk.faults.write.lock().unwrap() = Some((left, Errno::NOSPC));
            let head = vec![b'n'; head];
            let result = try_store(&disk, 1, &body(1, len), &head);
            match result {
                Ok(()) => assert_eq!(load(&disk, id(1)), Some((head, body(1, len)))),
                Err(off) => {
                    assert_eq!(off, Off::Failed);
                    assert_eq!(
                        load(&disk, id(1)),
                        Some((b"old".to_vec(), b"body".to_vec()))
                    );
                    assert_eq!(disk.status().bytes, bytes);
                    let (_, why) = disk.status().off.unwrap();
                    assert!(why.contains("No space left on device"), "{why}");
                    assert_eq!(disk.status().errors, 1);
                    assert_eq!(disk.create(id(2), 10).unwrap_err(), Off::Failed);
                }
            }
            assert_eq!(all_files(&dir).len(), files, "{left}");
        }
    }
}

#[test]
fn a_disk_that_became_read_only_still_gives_what_it_has() {
    let (dir, disk) = disk();
    store(&disk, id(1), b"head", b"body");
    *disk.faults.create.lock().unwrap() = Some(Errno::ROFS);
    assert_eq!(try_store(&disk, 1, b"x", b"y"), Err(Off::Failed));
    let (since, why) = disk.status().off.unwrap();
    assert!(why.starts_with("making a file: Read-only"), "{why}");
    assert!(since > Duration::from_secs(1_700_000_000));
    assert!(load(&disk, id(1)).is_some());
    drop(disk);
    let disk = open(&dir, PLENTY);
    *disk.faults.rename.lock().unwrap() = Some(Errno::ROFS);
    assert_eq!(try_store(&disk, 1, b"x", b"y"), Err(Off::Failed));
    let (_, why) = disk.status().off.unwrap();
    assert!(why.starts_with("naming an object: Read-only"), "{why}");
    assert_eq!(load(&disk, id(1)).unwrap().1, b"body");
    assert_eq!(all_files(&dir).len(), 1);
}

/// Too many open files are not the disk's fault.
#[test]
fn a_lack_of_descriptors_switches_nothing_off() {
    let (_dir, disk) = disk();
    *disk.faults.create.lock().unwrap() = Some(Errno::MFILE);
    assert_eq!(try_store(&disk, 1, b"x", b"y"), Err(Off::Failed));
    *disk.faults.create.lock().unwrap() = None;
    assert_eq!(disk.status().off, None);
    assert_eq!(try_store(&disk, 1, b"x", b"y"), Ok(()));
}

/// What cannot be removed is known all the same: it is found again when it can be used, and makes way when it can.
#[test]
fn what_cannot_be_removed_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, 8 * 4096);
    for n in 0..8 {
        store(&disk, id(n), b"head", b"body");
    }
    *disk.faults.unlink.lock().unwrap() = Some(Errno::ROFS);
    assert_eq!(disk.evict(), None);
    assert!(!disk.remove(id(3)));
    assert!(disk.remove_url(id(4).url, true).is_err());
    assert_eq!(try_store(&disk, 9, b"body", b"head"), Err(Off::NoRoom));
    disk.tend();
    assert_eq!((disk.status().objects, disk.status().evicted), (8, 0));
    assert_eq!(disk.status().bytes, 8 * 4096);
    for n in 0..8 {
        assert_eq!(disk.candidates(id(n).url, id(n).who), [id(n)]);
        assert!(load(&disk, id(n)).is_some(), "{n}");
    }
    *disk.faults.unlink.lock().unwrap() = None;
    assert_eq!(try_store(&disk, 9, b"body", b"head"), Ok(()));
    assert_eq!((disk.status().objects, disk.status().evicted), (8, 1));
}

/// Also where others are to be left more space than there is.
#[test]
fn too_little_space_on_a_disk_that_cannot_be_written_to_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, PLENTY);
    for n in 0..100 {
        store(&disk, id(n), b"head", b"body");
    }
    drop(disk);
    let settings = DiskSettings {
        min_free: 1 << 62,
        ..settings(&dir, PLENTY)
    };
    let (disk, _) = Disk::open(settings).unwrap();
    *disk.faults.unlink.lock().unwrap() = Some(Errno::ROFS);
    index(&disk, false);
    disk.tend();
    assert_eq!(disk.create(id(1), 10).unwrap_err(), Off::LowSpace);
    assert_eq!((disk.status().objects, disk.status().evicted), (100, 0));
}

#[test]
fn writing_is_tried_again_after_growing_pauses() {
    let at = Duration::from_secs;
    let mut switch = Switch::default();
    assert!(!switch.is_off(at(0)));
    assert!(!switch.worked(at(0)));
    let mut now = at(100);
    for pause in [30, 60, 120, 240, 480, 600, 600] {
        assert_eq!(switch.failed(now, "why".into()), Some(at(pause)));
        // Others that were on their way fail too: no news, and no longer pause. Or they do not.
        assert_eq!(switch.failed(now + at(1), "other".into()), None);
        assert!(!switch.worked(now + at(2)));
        assert!(switch.is_off(now + at(pause) - Duration::from_nanos(1)));
        now += at(pause);
        assert!(!switch.is_off(now));
        assert_eq!(switch.off(), Some((at(100), "why")));
    }
    assert!(switch.worked(now));
    assert_eq!(switch.off(), None);
    assert_eq!(switch.failed(now, "again".into()), Some(at(30)));
}

#[test]
fn a_disk_is_written_to_again_when_it_works() {
    let (_dir, disk) = disk();
    *disk.faults.create.lock().unwrap() = Some(Errno::IO);
    assert_eq!(try_store(&disk, 1, b"x", b"y"), Err(Off::Failed));
    *disk.faults.create.lock().unwrap() = None;
    assert_eq!(try_store(&disk, 1, b"x", b"y"), Err(Off::Failed));
    disk.health.end_pause();
    assert!(disk.status().off.is_some(), "until something was written");
    assert_eq!(try_store(&disk, 1, b"x", b"y"), Ok(()));
    assert_eq!(disk.status().off, None);
}

/// A file system that really is full.
#[test]
#[ignore = "mounts a file system, which takes privileges"]
fn a_really_full_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "none"])
        .arg(dir.path())
        .status();
    assert!(mount.unwrap().success());
    let result = std::panic::catch_unwind(|| {
        let disk = open(&dir, PLENTY);
        let stored = (0..100).take_while(|&n| try_store(&disk, n, &body(n, 50_000), b"h").is_ok());
        let stored = stored.count() as u64;
        assert!((10..100).contains(&stored), "{stored}");
        assert!(disk.status().off.is_some());
        for n in 0..stored {
            assert_eq!(load(&disk, id(n)).unwrap().1, body(n, 50_000));
        }
        assert_eq!(all_files(&dir).len() as u64, stored);
        // With a limit of free space it does not come to that.
        drop(disk);
        let settings = DiskSettings {
            min_free: 1 << 20,
            ..settings(&dir, PLENTY)
        };
        let disk = Disk::open(settings).unwrap().0;
        index(&disk, false);
        disk.tend();
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(try_store(&disk, 200, &body(200, 50_000), b"h"), Ok(()));
        assert!(disk.status().off.is_none());
    });
    let umount = std::process::Command::new("umount")
        .arg(dir.path())
        .status();
    assert!(umount.unwrap().success());
    result.unwrap();
}
