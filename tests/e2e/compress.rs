//! Answers compressed on their way out: for whom, with what, and what is left as it is.

use crate::cache::{hit, stored};
use crate::client::{Answer, Client, request};
use crate::client2::Client2;
use crate::harness::{Proxy, one_route};
use crate::origin::Origin;
use crate::reply::{Gate, Reply};
use std::io::Read;

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn json() -> Vec<u8> {
    let items: Vec<String> = (0..3000).map(|n| format!("{{\"id\":{n}}}")).collect();
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

#[test]
fn an_answer_that_comes_slowly_is_sent_on_piece_by_piece() {
    let gate = Gate::default();
    let open = gate.clone();
    let origin = Origin::new(move |_| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
        let first = Reply::raw(format!("{head}5\r\nfirst\r\n"));
        first.then(Reply::raw("6\r\nsecond\r\n0\r\n\r\n").when(&open))
    });
    let proxy = Proxy::start(&one_route(&[origin.port], "compress: true"));
    let mut client = Client::to(proxy.port);
    client.begin("GET", "/", &[("Accept-Encoding", "gzip")], b"");
    client.head().expect("a head");
    // A chunk's length, and what gzip makes of the first piece.
    assert!(!client.read(12).is_empty());
    gate.open();
    proxy.logged("/");
}
