//! Which answers are stored, how large they may be, and that they come back as they were.

use crate::cache::{caching, hit, is_hit, not_stored, rules, stored, told};
use crate::client::{Client, get, request};
use crate::client_tls::Authority;
use crate::client2::Client2;
use crate::harness::{Proxy, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply, Step};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

#[test]
fn answers_are_stored_by_their_status() {
    let origin = Origin::new(|r| {
        let status: u16 = r.target[1..].parse().unwrap();
        let of_part = [("Content-Range", "bytes 0-3/10")];
        match status {
            204 => Reply::raw("HTTP/1.1 204 No Content\r\nX-Is: kept\r\n\r\n"),
            206 => Reply::answer(206, &of_part, b"0123"),
            301 | 308 => Reply::answer(status, &[("Location", "/elsewhere")], b"over there"),
            _ => Reply::status(status),
        }
    });
    let proxy = caching(&origin, "ttl: 1h");
    let mut client = Client::to(proxy.port);
    for status in [200, 203, 204, 301, 308] {
        let path = format!("/{status}");
        let first = client.get(&path);
        stored(&first);
        let second = client.get(&path);
        hit(&second);
        assert_eq!((second.status, &second.body), (status, &first.body));
        for name in ["location", "x-is"] {
            assert_eq!(second.header(name), first.header(name));
        }
    }
    assert_eq!(origin.count(), 5);
    for status in [302, 404, 410, 206, 403, 500, 503] {
        for _ in 0..2 {
            let answer = client.get(&format!("/{status}"));
            assert_eq!(answer.status, status);
            not_stored(&answer);
        }
    }
    assert_eq!(origin.count(), 5 + 14);
}

#[test]
fn answers_that_must_not_be_stored_are_not() {
    for (name, value) in [
        ("Set-Cookie", "session=1"),
        ("Cache-Control", "no-store"),
        ("Cache-Control", "max-age=60, NO-STORE"),
        ("Cache-Control", "public,no-store ,x=\"y\""),
        ("CDN-Cache-Control", "no-store"),
        ("CDN-Cache-Control", "max-age=60, No-Store, &&&"),
        ("Vary", "*"),
        ("Vary", "Accept, *"),
    ] {
        for cache in ["ttl: 1h", "ttl: 1h, shared: true"] {
            let headers = [
                ("Cache-Control", "max-age=60"),
                ("Vary", "X-Any"),
                (name, value),
            ];
            let origin =
                Origin::new(move |r| Reply::answer(200, &headers, r.number.to_string().as_bytes()));
            let proxy = caching(&origin, cache);
            for expected in ["0", "1"] {
                let answer = get(proxy.port, "/");
                not_stored(&answer);
                assert_eq!(answer.text(), expected, "{name}: {value}");
                if name == "Set-Cookie" {
                    assert_eq!(
                        told(&answer),
                        "backstop; fwd=uri-miss; fwd-status=200; detail=\"set-cookie\""
                    );
                    assert_eq!(answer.header(name), Some(value));
                }
            }
        }
    }
}

#[test]
fn what_is_larger_than_max_object_is_delivered_whole_and_not_stored() {
    let large: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let gate = Gate::default();
    let (body, open) = (large.clone(), gate.clone());
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/length" => Reply::ok(&body),
        "/chunked" => Reply::chunked(200, &[], &[&body[..200_000], &body[200_000..]]),
        // The others come while its first bytes are there and it may still turn out small enough.
        "/slow" => {
            let whole = Reply::chunked(200, &[], &[&body[..5_000], &body[5_000..]]);
            let Some((Step::Send(head), Step::Body(rest))) = whole.0.first().zip(whole.0.last())
            else {
                panic!("a head and a body")
            };
            let first = Reply::raw(head).then(Reply::raw(&rest[..4_000]));
            first.then(Reply::raw(&rest[4_000..]).when(&open))
        }
        _ => Reply::ok(&body[..8_000]),
    });
    let proxy = caching(&origin, "ttl: 1h, max_object: 10KiB");
    stored(&get(proxy.port, "/small"));
    hit(&get(proxy.port, "/small"));
    for path in ["/length", "/chunked"] {
        let before = origin.count();
        for _ in 0..3 {
            let answer = get(proxy.port, path);
            assert!(answer.complete && answer.body == large, "{path}");
            assert!(!is_hit(&answer));
            if path == "/length" {
                not_stored(&answer);
            }
        }
        assert_eq!(origin.count(), before + 3);
    }
    let mut clients: Vec<Client> = (0..10).map(|_| Client::to(proxy.port)).collect();
    for client in &mut clients {
        client.begin("GET", "/slow", &[], b"");
    }
    until("the slow one", || origin.last().target == "/slow");
    // Whoever comes late to it, before the gate opens or after, gets all of it.
    let _ = clients[9].is_silent_for(200 * MS);
    gate.open();
    for mut client in clients {
        let answer = client.answer();
        assert!(answer.complete && answer.body == large, "{}", told(&answer));
    }
}

#[test]
fn large_and_chunked_answers_come_back_byte_for_byte() {
    let big: Vec<u8> = (0..900 * 1024_u32)
        .flat_map(|n| [(n * 31 % 251) as u8])
        .collect();
    let body = big.clone();
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/big" => Reply::ok(&body),
        "/empty" => Reply::chunked(200, &[], &[]),
        _ => Reply::chunked(200, &[], &[b"one ", &body[..100_000], b" end"]),
    });
    let proxy = Proxy::with().http2().start(&rules(&origin, "ttl: 1h"));
    let chunked = [b"one ", &big[..100_000], b" end"].concat();
    for (path, expected) in [
        ("/big", &big),
        ("/chunked", &chunked),
        ("/empty", &Vec::new()),
    ] {
        let first = get(proxy.port, path);
        stored(&first);
        assert!(&first.body == expected, "{path} from the origin");
        for _ in 0..3 {
            let again = get(proxy.port, path);
            hit(&again);
            assert!(&again.body == expected, "{path} from the cache");
        }
        let http2 = Client2::to(proxy.port).get(path);
        hit(&http2);
        assert!(&http2.body == expected, "{path} for HTTP/2");
    }
    // A part of an answer that came without a length is that part, or all of it.
    let part = request(
        proxy.port,
        "GET",
        "/chunked",
        &[("Range", "bytes=4-99")],
        b"",
    );
    let whole = part.status == 200 && part.body == chunked;
    assert!(whole || part.status == 206 && part.body == chunked[4..100]);
    assert_eq!(origin.count(), 3);
}

#[test]
fn nor_does_tls_change_them() {
    let body: Vec<u8> = (0..700_000_u32).map(|n| (n * 31 % 251) as u8).collect();
    let sent = body.clone();
    let origin = Origin::new(move |r| {
        let length: usize = r.target[1..].parse().unwrap();
        Reply::ok(&sent[..length])
    });
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(dir.path(), "site", &["localhost"]);
    let tls = pair.tls();
    let proxy = Proxy::with()
        .listener(&tls)
        .start(&rules(&origin, "ttl: 1h"));
    let client = authority.client().offering(&["http/1.1"]);
    let mut client = client.to(proxy.port, "localhost").unwrap();
    for length in [10, 40_000, 300_000, 700_000] {
        stored(&client.get(&format!("/{length}")).unwrap());
        for _ in 0..2 {
            let again = client.get(&format!("/{length}")).unwrap();
            hit(&again);
            assert!(again.body == body[..length], "{length}");
        }
    }
}

#[test]
fn s4_a_full_memory_loses_old_answers_and_nothing_else() {
    let origin = Origin::new(|r| Reply::ok(r.target.repeat(16 * 1024 / r.target.len())));
    let proxy = Proxy::with()
        .key("cache", "{ memory: 1MiB }")
        .start(&rules(&origin, "ttl: 1h, max_object: 4MiB"));
    let mut client = Client::to(proxy.port);
    let mut ask = |n: usize| {
        let path = format!("/object-{n}");
        let answer = client.get(&path);
        assert!(
            answer.text() == path.repeat(16 * 1024 / path.len()),
            "{path}"
        );
        answer
    };
    for n in 0..300 {
        stored(&ask(n));
    }
    hit(&ask(299));
    stored(&ask(0));
    hit(&ask(0));
    for n in 0..300 {
        ask(n);
    }
    let asked = origin.count();
    assert!(
        (500..=602).contains(&asked),
        "{asked} for 300 objects, asked for twice"
    );
    // Larger than all of it.
    let larger = vec![b'x'; 3 << 20];
    let body = larger.clone();
    origin.set(move |_| Reply::ok(&body));
    for _ in 0..3 {
        assert!(get(proxy.port, "/larger").body == larger);
    }
    origin.set(|_| Reply::ok("small"));
    assert_eq!(get(proxy.port, "/after").text(), "small");
    hit(&get(proxy.port, "/after"));
}
