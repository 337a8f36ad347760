//! What the cache keeps in memory: no more than it may, within 5 %, by its own count and by the system's.

use crate::admin::{figures, with_admin};
use crate::cache::rules;
use crate::cache_disk::{KEPT, memory_of};
use crate::client::{Client, get};
use crate::client2::Client2;
use crate::harness::{Proxy, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const LIMIT: u64 = 64 << 20;
/// To compare with: so much that the allocator has begun blocks of all sizes on all threads.
const LITTLE: u64 = 16 << 20;
const SLACK: u64 = LIMIT / 20;

/// `/LENGTH/…` is so long.
fn lengths_asked_for() -> Origin {
    Origin::new(|r| {
        let length = r.target.split('/').nth(1).and_then(|l| l.parse().ok());
        Reply::answer(
            200,
            &[
                ("Content-Type", "text/plain"),
                ("ETag", "\"1\""),
                ("Accept-Ranges", "bytes"),
                ("Age", "1"),
                ("Link", &"<a>; rel=b, ".repeat(40)),
            ],
            &vec![b'x'; length.expect("a length")],
        )
    })
}

fn start(origin: &Origin, memory: u64, dir: Option<&Path>) -> (Proxy, u16) {
    let (setup, admin) = with_admin();
    let setup = setup.http2();
    let cache = match dir {
        Some(dir) => format!(
            "{{ memory: {memory}B, path: {}, max_size: 1GiB, min_free: 1MiB }}",
            dir.display()
        ),
        None => format!("{{ memory: {memory}B }}"),
    };
    let proxy = setup.key("cache", &cache).start(&rules(origin, KEPT));
    (proxy, admin)
}

/// Asks for these answers, with four clients; twice each, so that what is found again takes what it then takes.
fn ask(port: u16, lengths: &[usize], numbers: std::ops::Range<usize>) {
    thread::scope(|scope| {
        for worker in 0..4 {
            let numbers = numbers.clone();
            scope.spawn(move || {
                let mut client = Client::to(port);
                for n in numbers.skip(worker).step_by(4) {
                    let length = lengths[n % lengths.len()];
                    for _ in 0..2 {
                        let answer = client.get(&format!("/{length}/{n}"));
                        assert!(answer.complete && answer.body.len() == length);
                    }
                }
            });
        }
    });
}

/// What a process holds in memory that is not in a file: its program is.
fn taken(proxy: &Proxy) -> u64 {
    memory_of(proxy, "RssAnon:") + sealed(proxy).iter().sum::<u64>()
}

/// Bytes of memory that each of a process's files takes which are on no disk (memfd_create(2)).
fn sealed(proxy: &Proxy) -> Vec<u64> {
    let open = fs::read_dir(format!("/proc/{}/fd", proxy.pid())).expect("a process");
    let paths = open.filter_map(|entry| Some(entry.ok()?.path()));
    let sealed = paths.filter(|path| {
        let name = fs::read_link(path).unwrap_or_default();
        name.to_string_lossy().starts_with("/memfd:cached")
    });
    // One may be closed meanwhile.
    let sizes = sealed.filter_map(|path| Some(fs::metadata(path).ok()?.blocks() * 512));
    sizes.collect()
}

#[test]
fn without_descriptors_to_spare_large_answers_are_in_memory_all_the_same() {
    let origin = lengths_asked_for();
    let (proxy, _) = start(&origin, LIMIT, None);
    let limited = Command::new("prlimit")
        .args(["--pid", &proxy.pid().to_string(), "--nofile=120:120"])
        .status();
    assert!(limited.is_ok_and(|l| l.success()));
    for _ in 0..2 {
        ask(proxy.port, &[40_000], 0..50);
    }
    assert_eq!(origin.count(), 50, "stored, all of them");
    assert_eq!(sealed(&proxy).len(), 15, "half of a quarter");
}

/// The most that the process took while this went on, by its own count and by the system's.
///
/// The load is told what was seen so far.
fn most_during(proxy: &Proxy, admin: u16, load: impl FnOnce(&AtomicU64) + Send) -> (u64, u64) {
    let (done, seen) = (Gate::default(), AtomicU64::new(0));
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !done.is_open() {
                most = most.max(taken(proxy));
                let bytes = figures(admin)["memory"]["bytes"].as_u64();
                seen.fetch_max(bytes.expect("a number"), Ordering::SeqCst);
                thread::park_timeout(Duration::from_millis(10));
            }
            most
        });
        load(&seen);
        done.open();
        let most = watcher.join().expect("no panic");
        (seen.load(Ordering::SeqCst), most)
    })
}

fn holds(lengths: &[usize], count: usize, on_disk: bool) {
    let origin = lengths_asked_for();
    let most = |memory: u64| {
        let dir = tempfile::tempdir().expect("a directory");
        let (proxy, admin) = start(&origin, memory, on_disk.then_some(dir.path()));
        let port = proxy.port;
        most_during(&proxy, admin, |_| {
            ask(port, lengths, 0..count);
            if on_disk {
                // And once more, from there.
                ask(port, lengths, 0..count);
            }
        })
    };
    // Bodies of less than 16 KiB have no pages of their own, and the heap has holes between them.
    compare(
        most(LITTLE),
        most(LIMIT),
        if lengths.iter().all(|l| *l < 32 << 10) {
            15
        } else {
            5
        },
    );
}

/// What one takes more than another that may keep next to nothing is what it counts more, within so many percent.
fn compare(little: (u64, u64), much: (u64, u64), percent: u64) {
    let said = format!(
        "may {LITTLE}, counted {}, taken {}; may {LIMIT}, counted {}, taken {}",
        little.0, little.1, much.0, much.1
    );
    eprintln!("{said}");
    assert!(much.0 > LIMIT / 10 * 9 && much.0 <= LIMIT + SLACK, "{said}");
    let more = much.1.saturating_sub(little.1);
    let counted = much.0.saturating_sub(little.0);
    assert!(more <= counted / 100 * (100 + percent), "{said}");
}

#[test]
fn large_answers_take_no_more_memory_than_they_may() {
    holds(&[20_000, 100_000, 300_000, 500_000], 500, false);
}

#[test]
fn small_answers_take_no_more_memory_than_they_may() {
    holds(&[100, 2_000, 7_000], 16_000, false);
}

#[test]
fn answers_that_are_in_files_too_take_no_more_memory_than_they_may() {
    // Larger ones are left to their files.
    holds(&[10_000, 20_000, 30_000], 4_200, true);
}

/// Slow clients hold what they read: it counts until the last of them has it.
#[test]
fn what_slow_clients_hold_counts() {
    let origin = lengths_asked_for();
    let path = |n: usize| format!("/600000/{n}");
    let most = |memory: u64| {
        let dir = tempfile::tempdir().expect("a directory");
        let (proxy, admin) = start(&origin, memory, Some(dir.path()));
        let port = proxy.port;
        for n in 0..280 {
            assert_eq!(get(port, &path(n)).body.len(), 600_000);
        }
        most_during(&proxy, admin, |seen| {
            // Windows of HTTP/2, so that nothing depends on how much the kernel takes. All streams together could hold
            // more than the limit.
            let mut clients: Vec<Client2> = (0..3).map(|_| Client2::to(port)).collect();
            let streams: Vec<_> = (0..280)
                .map(|n| clients[n % 3].begin("GET", &path(n), &[], true))
                .collect();
            let begun: Vec<_> = (0..280)
                .zip(streams)
                .map(|(n, stream)| clients[n % 3].begun(stream))
                .collect();
            until("what they hold is counted", || {
                seen.load(Ordering::SeqCst) > memory
            });
            drop(begun);
        })
    };
    // Streams and their tasks have a part in it too.
    compare(most(LITTLE), most(LIMIT), 10);
}
