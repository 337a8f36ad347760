//! Very much in a directory: one object of 2 GiB, a million small ones. Run by hand: `cargo test -- --ignored cache_huge`.

use crate::admin::{figures, with_admin};
use crate::cache_disk::{Dice, body_of, memory_of, resident, taken, until_written, with_sizes};
use crate::harness::{Proxy, one_route, until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

#[test]
#[ignore = "writes and reads 2 GiB"]
fn an_object_of_2_gib_takes_little_memory() {
    const LEN: u64 = 2 << 30;
    const PIECE: usize = 1 << 20;
    // Every piece of it begins with its number.
    fn piece(number: u64) -> Vec<u8> {
        body_of(&number.to_string(), PIECE)
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            assert_eq!(number, 0, "asked once");
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let said = format!("HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: {LEN}\r\n\r\n");
            let mut sent = stream.write_all(said.as_bytes());
            for number in 0..LEN / PIECE as u64 {
                sent = sent.and_then(|()| stream.write_all(&piece(number)));
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let route =
        "cache: { ttl: 1h, max_object: 3GiB }\nretry: { tries: 1 }\ntimeouts: { total: 10m }";
    let yaml = crate::harness::one_route(&[port], route);
    let proxy = with_sizes(dir.path(), "64MiB", "5GiB").start(&yaml);
    let read = |range: Option<(u64, u64)>| {
        let (from, to) = range.unwrap_or((0, LEN));
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
        let range = range.map(|(a, b)| format!("Range: bytes={a}-{}\r\n", b - 1));
        let asked = format!(
            "GET /large HTTP/1.1\r\nHost: example.com\r\n{}\r\n",
            range.unwrap_or_default()
        );
        stream.write_all(asked.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut one = [0];
            stream.read_exact(&mut one).unwrap();
            head.extend(one);
        }
        let mut at = from;
        while at < to {
            let number = at / PIECE as u64;
            let skip = (at % PIECE as u64) as usize;
            let expected = &piece(number)[skip..];
            let n = expected.len().min((to - at) as usize);
            let mut got = vec![0; n];
            stream.read_exact(&mut got).unwrap();
            assert!(got == expected[..n], "differs after {at}");
            at += n as u64;
        }
        String::from_utf8(head).unwrap()
    };
    // The most that it ever took.
    let before = memory_of(&proxy, "VmHWM:");
    thread::scope(|scope| {
        let first = scope.spawn(|| read(None));
        // Another joins while it fills, when the first of it is long in the file; and one that wants a part of that.
        until("a part of it", || taken(dir.path()) > LEN / 64);
        let second = scope.spawn(|| read(None));
        let part = read(Some((LEN / 128, LEN / 128 + 5_000_000)));
        assert!(part.contains(" 206 "), "{part}");
        first.join().expect("all of it");
        second.join().expect("all of it");
    });
    until_written(dir.path(), 1);
    assert!(read(None).contains("hit"));
    for from in [0, 1, 65_535, 65_536, 1 << 30, LEN - 100_000] {
        let head = read(Some((from, (from + 3_000_000).min(LEN))));
        assert!(head.contains(" 206 ") && head.contains("hit"), "{head}");
    }
    let grown = memory_of(&proxy, "VmHWM:").saturating_sub(before) >> 20;
    eprintln!("it grew by {grown} MiB at most");
    assert!(grown < 64, "it grew by {grown} MiB");
}

/// A process with this directory, and what it takes once it has seen all of it.
fn indexed(dir: &Path) -> (Proxy, u64, u64, Duration) {
    let (setup, admin) = with_admin();
    let cache = format!(
        "{{ memory: 1MiB, path: {}, max_size: 16GiB, min_free: 1MiB }}",
        dir.display()
    );
    let proxy = setup
        .key("cache", &cache)
        .start(&one_route(&[1], "cache: { ttl: 1h }"));
    let start = Instant::now();
    let patience = Duration::from_secs(300);
    let disk = loop {
        let disk = figures(admin)["disk"].clone();
        if disk["indexed_percent"] == 100 {
            break disk;
        }
        assert!(start.elapsed() < patience, "{disk}");
        thread::park_timeout(Duration::from_millis(20));
    };
    let took = start.elapsed();
    let objects = disk["objects"].as_u64().expect("a number");
    let taken = memory_of(&proxy, "RssAnon:");
    (proxy, objects, taken, took)
}

#[test]
#[ignore = "makes a million files"]
fn a_million_objects_are_found_soon_and_take_little_memory() {
    const OBJECTS: u64 = 1_000_000;
    let dir = tempfile::tempdir().expect("a directory");
    let (empty, none, before, _) = indexed(&dir.path().join("empty"));
    assert_eq!(none, 0);
    drop(empty);
    let many = dir.path().join("many");
    // What the index goes by is names, sizes and times.
    let mut dice = Dice(1);
    let mut word = || (dice.below(1 << 32) as u64) << 32 | dice.below(1 << 32) as u64;
    for shard in 0..4096 {
        std::fs::create_dir_all(many.join(format!("objects/{shard:03x}"))).expect("a directory");
    }
    for _ in 0..OBJECTS {
        let name = format!("{:016x}{:016x}{:016x}", word(), word(), word());
        let path = many.join(format!("objects/{}/{name}", &name[..3]));
        std::fs::write(path, [b'x'; 900]).expect("a file");
    }
    let (proxy, found, after, took) = indexed(&many);
    assert_eq!(found, OBJECTS);
    let each = after.saturating_sub(before) as f64 / OBJECTS as f64;
    eprintln!(
        "indexed in {took:?}; {each:.0} bytes for each; {} MiB in all",
        resident(&proxy) >> 20
    );
    assert!(each < 100.0, "{each} bytes for each");
    assert!(took < Duration::from_secs(60), "{took:?}");
}
