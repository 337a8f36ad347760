//! Many readers of one body that is still coming and goes to a file meanwhile.

use crate::cache::{is_hit, rules};
use crate::cache_disk::{KEPT, body_of, objects, on_disk, until_written};
use crate::client::{Client, get};
use crate::harness::{Proxy, eventually, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply, Step};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const LEN: usize = 20 << 20;

fn body() -> Vec<u8> {
    body_of("/growing", LEN)
}

/// Chunked, or with a length: the first half, then what the gates let through.
fn slow(chunked: bool, gates: &[Gate], end: Reply) -> Reply {
    let body = body();
    let head = match chunked {
        true => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_string(),
        false => format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n"),
    };
    let mut reply = Reply::raw(head);
    let parts = body.chunks(LEN / (gates.len() + 1));
    for (n, part) in parts.enumerate() {
        if let Some(gate) = n.checked_sub(1).and_then(|n| gates.get(n)) {
            reply.0.push(Step::Wait(gate.clone()));
        }
        for piece in part.chunks(10_007) {
            if chunked {
                reply = reply.then(Reply::raw(format!("{:x}\r\n", piece.len())));
            }
            reply.0.push(Step::Send(piece.to_vec()));
            if chunked {
                reply = reply.then(Reply::raw("\r\n"));
            }
        }
    }
    reply.then(end)
}

fn last_chunk(chunked: bool) -> Reply {
    Reply::raw(if chunked { "0\r\n\r\n" } else { "" })
}

fn asking(proxy: &Proxy, headers: &[(&str, &str)]) -> Client {
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/growing", headers, b"");
    client
}

#[test]
fn s4_who_joins_midway_gets_all_of_it_and_nobody_waits_for_the_slowest() {
    for chunked in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let gates = [Gate::default(), Gate::default()];
        let reply = slow(chunked, &gates, last_chunk(chunked));
        let origin = Origin::always(reply);
        let proxy = on_disk(dir.path()).start(&rules(&origin, KEPT));
        let leaver = asking(&proxy, &[]);
        // It reads nothing before the others are through.
        let mut slowest = asking(&proxy, &[]);
        let mut first = asking(&proxy, &[]);
        first.head().unwrap();
        let ranged = asking(&proxy, &[("Range", "bytes=3000000-9000000")]);
        leaver.leave();
        gates[0].open();
        // They come one after the other while it grows.
        let mut late: Vec<Client> = (0..5).map(|_| asking(&proxy, &[])).collect();
        for client in &mut late {
            let _ = client.is_silent_for(MS);
        }
        gates[1].open();
        let expected = body();
        for mut client in late {
            let answer = client.answer();
            assert!(answer.complete && answer.body == expected);
        }
        until_written(dir.path(), 1);
        let mut ranged = ranged;
        let part = ranged.answer();
        match part.status {
            206 => assert!(part.body == expected[3_000_000..=9_000_000]),
            _ => assert!(part.status == 200 && part.body == expected),
        }
        assert!(part.complete);
        let answer = slowest.answer();
        assert!(answer.complete && answer.body == expected);
        let answer = get(proxy.port, "/growing");
        assert!(is_hit(&answer) && answer.body == expected);
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn s4_a_body_that_breaks_off_is_whole_for_nobody_and_is_not_kept() {
    for chunked in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let gates = [Gate::default()];
        let mut reply = slow(chunked, &gates, Reply::close());
        if !chunked {
            // The last piece is missing.
            let sends = reply.0.len() - 2;
            reply.0.remove(sends);
        }
        let origin = Origin::always(reply);
        let proxy = on_disk(dir.path()).start(&rules(&origin, KEPT));
        let mut clients: Vec<Client> = (0..6).map(|_| asking(&proxy, &[])).collect();
        origin.request(0);
        let _ = clients[5].is_silent_for(100 * MS);
        gates[0].open();
        let expected = body();
        for mut client in clients {
            if let Ok(answer) = client.try_answer_to("GET") {
                assert!(!answer.complete, "{}", answer.status);
                assert!(answer.status != 200 || expected.starts_with(&answer.body));
            }
        }
        until("no file", || {
            crate::cache_disk::files(&dir.path().join("tmp")).is_empty()
        });
        assert!(objects(dir.path()).is_empty());
        let whole = expected.clone();
        origin.set(move |_| Reply::ok(&whole));
        let start = Instant::now();
        let answer = eventually("a whole answer", || {
            let answer = get(proxy.port, "/growing");
            answer.complete.then_some(answer)
        });
        assert!(answer.body == expected && start.elapsed() < 5_000 * MS);
        until_written(dir.path(), 1);
        assert!(get(proxy.port, "/growing").body == expected);
    }
}

#[test]
fn what_turns_out_too_large_on_the_way_is_whole_for_all_who_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let gates = [Gate::default()];
    let origin = Origin::always(slow(true, &gates, last_chunk(true)));
    let yaml = rules(&origin, "ttl: 1h, max_object: 15MiB");
    let proxy = on_disk(dir.path()).start(&yaml);
    let mut clients: Vec<Client> = (0..4).map(|_| asking(&proxy, &[])).collect();
    origin.request(0);
    let _ = clients[3].is_silent_for(100 * MS);
    gates[0].open();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| client.answer()))
            .collect();
        readers.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let expected = body();
    for answer in answers {
        assert!(answer.complete && answer.body == expected);
    }
    assert!(objects(dir.path()).is_empty());
}
