//! Many threads at the same few objects: whoever gets one, gets a whole one.

use super::super::Corrupt;
use super::*;
use std::thread;

/// A body that tells its own seed and length, and a head that goes with it.
fn telling(seed: u64, len: usize) -> (Vec<u8>, Vec<u8>) {
    let mut all = body(seed, len.max(16));
    all[..8].copy_from_slice(&seed.to_le_bytes());
    (format!("{seed}").into_bytes(), all)
}

fn check(head: &[u8], got: &[u8]) {
    let seed = u64::from_le_bytes(got[..8].try_into().unwrap());
    let (mut told, expected) = telling(seed, got.len());
    told.push(b'.');
    assert!(
        head.iter().zip(&told).all(|(a, b)| a == b),
        "the head of another"
    );
    assert!(got == expected, "a wrong byte");
}

fn stress(disks: &[Arc<Disk>], rounds: u64) -> u64 {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|n| {
                let disk = &disks[n as usize % disks.len()];
                scope.spawn(move || {
                    let mut dice = Dice(n * 77);
                    let mut hits = 0;
                    for _ in 0..rounds {
                        let id = id(dice.below(6));
                        match dice.below(10) {
                            0..3 => {
                                let len = match dice.below(4) {
                                    0 => dice.below(200_000),
                                    _ => dice.below(5000),
                                };
                                let (head, body) = telling(dice.roll(), len as usize);
                                let Ok(mut writer) = disk.create(id, 30) else {
                                    continue;
                                };
                                let appended = writer.append(&body);
                                if dice.below(5) > 0 && appended.is_ok() {
                                    let _ = writer.finish(&head);
                                }
                            }
                            3 => {
                                disk.remove(id);
                            }
                            4 if dice.below(10) == 0 => {
                                disk.remove_url(id.url, false).unwrap();
                            }
                            5 => {
                                if let Some((stored, mut head)) = disk.open_object(id) {
                                    // Longer each time, so that it has to move at last.
                                    head.resize(head.len() + 1 + dice.below(20) as usize, b'.');
                                    update(disk, id, &stored, &head);
                                }
                            }
                            6 => disk.index_shard(super::super::files::shard_of(id.url), true),
                            7 => disk.used(id),
                            _ => {
                                let found = match dice.below(2) {
                                    0 => disk.open_object(id),
                                    _ => disk.try_open_object(id),
                                };
                                if let Some((stored, head)) = found {
                                    check(&head, &read_all(&stored, 100_000).unwrap());
                                    hits += 1;
                                }
                            }
                        }
                    }
                    hits
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    })
}

#[test]
fn threads_of_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, 200 * 4096);
    assert!(stress(std::slice::from_ref(&disk), 1500) > 500);
    assert_eq!(disk.status().corrupt, 0);
    assert_eq!(disk.status().errors, 0);
    index(&disk, true);
    assert_eq!(disk.status().objects, all_files(&dir).len() as u64);
    let sizes: u64 = all_files(&dir)
        .iter()
        .map(|f| f.1.next_multiple_of(4096))
        .sum();
    assert_eq!(disk.status().bytes, sizes);
}

#[test]
fn threads_of_two_processes() {
    let dir = tempfile::tempdir().unwrap();
    let disks = [open(&dir, 200 * 4096), open(&dir, 200 * 4096)];
    assert!(stress(&disks, 1500) > 500);
    for disk in &disks {
        assert_eq!(disk.status().corrupt, 0);
        index(disk, true);
        assert_eq!(disk.status().objects, all_files(&dir).len() as u64);
        let sizes: u64 = all_files(&dir)
            .iter()
            .map(|f| f.1.next_multiple_of(4096))
            .sum();
        assert_eq!(disk.status().bytes, sizes);
    }
}

/// Readers follow a file that grows, and never get ahead of it.
#[test]
fn readers_follow_a_writer() {
    let (_dir, disk) = disk();
    let body = body(5, 3_000_000);
    let mut writer = disk.create(id(5), 100).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            let (reader, body) = (writer.reader(), &body);
            scope.spawn(move || -> Result<(), Corrupt> {
                let mut got = 0;
                while got < body.len() {
                    let piece = reader.read_at(got as u64, 100_000)?;
                    assert!(piece == body[got..got + piece.len()]);
                    got += piece.len();
                    thread::yield_now();
                }
                Ok(())
            });
        }
        for piece in body.chunks(20_000) {
            writer.append(piece).unwrap();
        }
        writer.finish(b"head").unwrap();
    });
    assert_eq!(disk.status().corrupt, 0);
}
