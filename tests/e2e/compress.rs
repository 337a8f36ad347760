//! Answers compressed on their way out: for whom, with what, and what is left as it is.

use crate::cache::{hit, stored};
use crate::client::{Answer, Client, request};
use crate::client2::Client2;
use crate::harness::{PHASES, Proxy, one_route};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::io::Read;

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn json() -> Vec<u8> {
    items(3000)
}

fn items(count: usize) -> Vec<u8> {
    let items: Vec<String> = (0..count).map(|n| format!("{{\"id\":{n}}}")).collect();
    items.join(",").into_bytes()
}

/// What the client makes of a body.
pub(crate) fn decoded(answer: &Answer) -> Vec<u8> {
    let mut out = Vec::new();
    let body = &answer.body[..];
    match answer.header("content-encoding") {
        None => out.extend_from_slice(body),
        Some("gzip") => {
            flate2::read::GzDecoder::new(body)
                .read_to_end(&mut out)
                .expect("gzip");
        }
        Some("br") => {
            brotli::Decompressor::new(body, 4096)
                .read_to_end(&mut out)
                .expect("brotli");
        }
        Some("zstd") => out = zstd::decode_all(body).expect("zstd"),
        Some(other) => panic!("{other}"),
    }
    out
}

fn asking(proxy: &Proxy, path: &str, accept: &str) -> Answer {
    request(proxy.port, "GET", path, &[("Accept-Encoding", accept)], b"")
}

#[test]
fn one_stored_answer_is_compressed_for_each_client_as_it_likes() {
    let origin = Origin::always(Reply::answer(200, &[JSON, ("ETag", "\"v1\"")], &json()));
    let route = "cache: { ttl: 1h }\ncompress: true";
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], route));
    let first = asking(&proxy, "/", "gzip");
    stored(&first);
    for (accept, coding) in [
        ("gzip", Some("gzip")),
        ("br", Some("br")),
        ("zstd", Some("zstd")),
        ("gzip, br, zstd", Some("zstd")),
        ("gzip;q=1, br;q=0.5", Some("gzip")),
        ("gzip;q=0", None),
        ("identity", None),
        ("deflate", None),
        ("*", Some("zstd")),
    ] {
        let answer = asking(&proxy, "/", accept);
        hit(&answer);
        assert_eq!(answer.header("content-encoding"), coding, "{accept}");
        assert_eq!(decoded(&answer), json());
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        let tag = if coding.is_some() {
            "W/\"v1\""
        } else {
            "\"v1\""
        };
        assert_eq!(answer.header("etag"), Some(tag));
        assert!(coding.is_none() || answer.body.len() < json().len() / 3);
    }
    let mut client = Client2::to(proxy.port);
    let answer = client.request("GET", "/", &[("accept-encoding", "br")], b"");
    assert_eq!(answer.header("content-encoding"), Some("br"));
    assert_eq!(decoded(&answer), json());
    let head = request(proxy.port, "HEAD", "/", &[("Accept-Encoding", "br")], b"");
    assert_eq!(head.header("content-encoding"), Some("br"));
    assert_eq!((head.header("content-length"), head.body.len()), (None, 0));
    // The tag it was given fits, and a range is one of what is stored.
    let again = [("If-None-Match", "W/\"v1\""), ("Accept-Encoding", "br")];
    let unchanged = request(proxy.port, "GET", "/", &again, b"");
    assert_eq!(
        (unchanged.status, unchanged.header("etag")),
        (304, Some("W/\"v1\""))
    );
    let part = [("Range", "bytes=0-3"), ("Accept-Encoding", "br")];
    let part = request(proxy.port, "GET", "/", &part, b"");
    assert_eq!((part.status, &part.body[..]), (206, &json()[..4]));
    assert_eq!(part.header("content-encoding"), None);
    assert_eq!(origin.count(), 1);
}

#[test]
fn what_is_not_to_be_compressed_is_left_as_it_is() {
    let body = json();
    let origin = Origin::new(move |r| match r.target.as_str() {
        "/small" => Reply::answer(200, &[JSON], b"{}"),
        "/image" => Reply::answer(200, &[("Content-Type", "image/png")], &body),
        "/encoded" => Reply::answer(200, &[JSON, ("Content-Encoding", "br")], b"as it was"),
        "/still" => Reply::answer(200, &[JSON, ("Cache-Control", "no-transform")], &body),
        _ => Reply::answer(200, &[JSON], &body),
    });
    let route = "compress: { min_size: 1KiB }\nretry: { tries: 1 }";
    let proxy = Proxy::start(&one_route(&[origin.port], route));
    for path in ["/small", "/image", "/still"] {
        let answer = asking(&proxy, path, "gzip, br, zstd");
        assert_eq!(answer.header("content-encoding"), None, "{path}");
        assert_eq!(answer.header("vary"), None, "{path}");
        assert!(answer.header("content-length").is_some());
    }
    let encoded = asking(&proxy, "/encoded", "gzip, br");
    assert_eq!(encoded.body, b"as it was");
    let plain = request(proxy.port, "GET", "/", &[], b"");
    assert_eq!(plain.body, json());
    assert_eq!(plain.header("vary"), Some("Accept-Encoding"));
}

/// What a client got, but for what differs each time: whether all of it, with which status and fields, and the content.
type Got = (bool, u16, Vec<String>, Vec<u8>);

fn got(answer: &Answer) -> Got {
    let fields = answer.headers.iter();
    let fields = fields.filter(|(name, _)| {
        !name.eq_ignore_ascii_case("x-request-id") && !name.eq_ignore_ascii_case("date")
    });
    let mut fields: Vec<_> = fields
        .map(|(name, value)| format!("{}: {value}", name.to_lowercase()))
        .collect();
    fields.sort_unstable();
    (answer.complete, answer.status, fields, decoded(answer))
}

/// Beside Pingora's phases and through them, whoever asks and however the answer is told where it ends.
#[test]
fn both_ways_compress_the_same() {
    // More than an encoder holds, and than one read gives, in more chunks than are looked at in one go.
    let long = items(14_000);
    let body = json();
    let origin = Origin::new(move |r| {
        let pieces: Vec<&[u8]> = long.chunks(701).collect();
        let tag = ("ETag", "\"v1\"");
        match r.target.as_str() {
            "/length" => Reply::answer(200, &[JSON, tag], &long),
            "/chunks" => Reply::chunked(200, &[JSON], &pieces),
            "/closed" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n";
                Reply::raw([head.as_bytes(), &body].concat()).closing()
            }
            "/image" => Reply::answer(200, &[("Content-Type", "image/png")], &body),
            "/nothing" => Reply::chunked(200, &[JSON], &[]),
            "/unchanged" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n"),
            other => panic!("{other}"),
        }
    });
    let rules = "compress: true\nheaders: { response: { set: { X-Way: same } } }";
    let ways = [rules.to_owned(), format!("{rules}\n{PHASES}")].map(|rules| {
        let proxy = Proxy::with()
            .http2()
            .start(&one_route(&[origin.port], &rules));
        let mut seen = Vec::new();
        for target in [
            "/length",
            "/chunks",
            "/closed",
            "/image",
            "/nothing",
            "/unchanged",
        ] {
            for coding in ["gzip", "br", "zstd", "identity"] {
                let fields = [("accept-encoding", coding)];
                for method in ["GET", "HEAD"] {
                    let answer = request(proxy.port, method, target, &fields, b"");
                    seen.push((target, coding, method, got_of(method, &answer)));
                }
                let mut old = Client::to(proxy.port);
                old.send(format!(
                    "GET {target} HTTP/1.0\r\nAccept-Encoding: {coding}\r\n\r\n"
                ));
                seen.push((target, coding, "GET by HTTP/1.0", got(&old.answer())));
                let mut new = Client2::to(proxy.port);
                let answer = new.request("GET", target, &fields, b"");
                seen.push((target, coding, "GET by HTTP/2", got(&answer)));
            }
        }
        seen
    });
    let [straight, phases] = ways;
    for (target, _, way, (is_whole, _, _, content)) in &straight {
        let expected = match *target {
            _ if *way == "HEAD" => Vec::new(),
            "/length" | "/chunks" => items(14_000),
            "/closed" | "/image" => json(),
            _ => Vec::new(),
        };
        assert!(*is_whole && *content == expected, "{way} {target}");
    }
    for (straight, phases) in straight.iter().zip(&phases) {
        assert_eq!(straight, phases);
    }
    assert_eq!(straight.len(), phases.len());
    let coded = straight.iter().filter(|(_, _, _, (_, _, fields, _))| {
        fields
            .iter()
            .any(|field| field.starts_with("content-encoding: "))
    });
    // Four targets, three codings, four ways to ask.
    assert_eq!(coded.count(), 4 * 3 * 4);
}

/// There is nothing to decode in what a HEAD got.
fn got_of(method: &str, answer: &Answer) -> Got {
    match method {
        "HEAD" => {
            assert!(answer.body.is_empty());
            let mut bare = answer.clone();
            let coding =
                |field: &(String, String)| field.0.eq_ignore_ascii_case("content-encoding");
            let codings: Vec<_> = bare
                .headers
                .iter()
                .filter(|field| coding(field))
                .cloned()
                .collect();
            bare.headers.retain(|field| !coding(field));
            let mut got = got(&bare);
            got.2.extend(
                codings
                    .iter()
                    .map(|(_, value)| format!("content-encoding: {value}")),
            );
            got
        }
        _ => got(answer),
    }
}

/// What breaks off is not taken for whole, and what a backend sends after it has paused is not waited for.
#[test]
fn what_is_compressed_comes_piece_by_piece_and_breaks_off() {
    for route in ["compress: true", &format!("compress: true\n{PHASES}")] {
        let gate = Gate::default();
        let open = gate.clone();
        let origin = Origin::new(move |_| {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
            let first = Reply::raw(format!("{head}5\r\nfirst\r\n3\r\nand\r\n"));
            first.then(Reply::raw("6\r\nsecond\r\n5\r\nhal").when(&open).closing())
        });
        let proxy = Proxy::with()
            .http2()
            .start(&one_route(&[origin.port], route));
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/", &[("Accept-Encoding", "gzip")], b"");
        client.head().expect("a head");
        // All that came so far can be read.
        let mut sent = Vec::new();
        while read_of(&sent) != b"firstand" {
            let piece = client.chunk_bytes();
            assert!(!piece.is_empty(), "{route}");
            sent.extend(piece);
        }
        let mut two = Client2::to(proxy.port);
        let fields = [("accept-encoding", "gzip")];
        let stream = two.begin("GET", "/two", &fields, true);
        let body = two.begun(stream);
        gate.open();
        assert!(two.breaks_off(body), "{route}");
        while read_of(&sent) != b"firstandsecondhal" {
            let piece = client.chunk_bytes();
            assert!(!piece.is_empty(), "{route}");
            sent.extend(piece);
        }
        // No last chunk: it is not whole.
        client.expect_close();
        proxy.logged("/");
    }
}

/// However many chunks one read gives, and wherever it ends, all that came is sent on before more does.
#[test]
fn what_has_come_in_many_chunks_is_sent_on() {
    for (chunks, rest) in [
        (63, ""),
        (64, ""),
        (64, "5"),
        (64, "5\r"),
        (65, ""),
        (129, "5\r\n"),
    ] {
        let gate = Gate::default();
        let open = gate.clone();
        let origin = Origin::new(move |_| {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
            let first = format!("{head}{}{rest}", "1\r\nx\r\n".repeat(chunks));
            let all = "5\r\nthere\r\n0\r\n\r\n";
            let last = Reply::raw(all.strip_prefix(rest).expect("its beginning"));
            Reply::raw(first).then(last.when(&open))
        });
        let proxy = Proxy::start(&one_route(&[origin.port], "compress: true"));
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/", &[("Accept-Encoding", "gzip")], b"");
        client.head().expect("a head");
        let mut sent = Vec::new();
        let mut until = |content: &str| {
            while read_of(&sent) != content.as_bytes() {
                let piece = client.chunk_bytes();
                assert!(!piece.is_empty(), "{chunks} {rest:?}");
                sent.extend(piece);
            }
        };
        let first = "x".repeat(chunks);
        until(&first);
        gate.open();
        until(&format!("{first}there"));
    }
}

/// What can be read of content whose end has not come.
fn read_of(gzip: &[u8]) -> Vec<u8> {
    let (mut out, mut reader) = (Vec::new(), flate2::read::GzDecoder::new(gzip));
    let mut byte = [0];
    while let Ok(1) = reader.read(&mut byte) {
        out.extend(byte);
    }
    out
}
