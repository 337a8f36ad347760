//! Tests of the whole tier, and what they have in common.

mod concurrent;
mod crash;
mod damage;
mod faults;
mod format;
mod heads;
mod index;
mod kept;
mod limits;
mod purge;
mod reading;
mod sharing;

pub use faults::Faults;

use super::{Disk, DiskSettings, Id, Stored};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// Room enough that nothing has to go.
const PLENTY: u64 = 1 << 30;

fn settings(dir: &TempDir, max_size: u64) -> DiskSettings {
    DiskSettings {
        path: dir.path().join("cache"),
        max_size,
        min_free: 0,
    }
}

fn open(dir: &TempDir, max_size: u64) -> Arc<Disk> {
    let (disk, trouble) = Disk::open(settings(dir, max_size)).unwrap();
    assert!(trouble.is_none());
    disk
}

/// A disk of its own, in a directory that goes with the test.
fn disk() -> (TempDir, Arc<Disk>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, PLENTY);
    (dir, disk)
}

/// Ids that fall into different shards.
fn id(n: u64) -> Id {
    Id {
        url: n.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        who: n + 1,
        variant: n + 2,
    }
}

/// Bytes in which no two blocks are alike.
fn body(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(dice.roll().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn store(disk: &Arc<Disk>, id: Id, head: &[u8], body: &[u8]) -> Arc<Stored> {
    let mut writer = disk.create(id, head.len()).unwrap();
    writer.append(body).unwrap();
    writer.finish(head).unwrap()
}

/// Gives the file that was opened another head, whatever head it has.
fn update(disk: &Disk, id: Id, stored: &Stored, head: &[u8]) -> bool {
    disk.update_head(id, stored.copy(), head, &|_| true) == super::Updated::Yes
}

/// The whole body, read in pieces of up to `most`.
fn read_all(stored: &Stored, most: usize) -> Result<Vec<u8>, super::Corrupt> {
    let mut all = Vec::new();
    loop {
        let piece = stored.read_at(all.len() as u64, most)?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend(&piece[..]);
    }
}

/// Head and body of an object, if it is there and right.
fn load(disk: &Disk, id: Id) -> Option<(Vec<u8>, Vec<u8>)> {
    let (stored, head) = disk.open_object(id)?;
    Some((head, read_all(&stored, 100_000).ok()?))
}

fn path(disk: &Disk, id: Id) -> PathBuf {
    PathBuf::from(String::from_utf8(disk.names.object(id)).unwrap())
}

/// All files of objects and of what is being written, with their lengths.
fn all_files(dir: &TempDir) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut left = vec![
        dir.path().join("cache/objects"),
        dir.path().join("cache/tmp"),
    ];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => left.push(entry.path()),
                Ok(meta) => found.push((entry.path(), meta.len())),
                Err(_) => {}
            }
        }
    }
    found
}

/// Index all of it, as the thread in the background does.
fn index(disk: &Disk, again: bool) {
    for shard in 0..super::SHARDS {
        disk.index_shard(shard, again);
    }
}

/// Chance that is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
}
