//! Requests inside of requests, by HTTP/2 to a backend of HTTP/1: what is one request there must be one here.
//!
//! The frames are written by hand, for no library sends such heads. Fields are literals without Huffman coding (RFC 7541 §6.2.3).

use crate::harness::{PATIENCE, Proxy, eventually, one_route, until};
use crate::origin::Origin;
use crate::reply::Reply;
use std::io::{Read, Write};
use std::net::TcpStream;

const HIDDEN: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn head(fields: Fields<'_>) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in fields {
        head.push(0x10);
        for text in [name, value] {
            assert!(text.len() < 127, "{text:?}");
            head.push(u8::try_from(text.len()).unwrap());
            head.extend(text.bytes());
        }
    }
    head
}

/// Sends one request, and waits for the end of its stream or of the connection. Says whether there was an answer.
fn send(port: u16, fields: Fields<'_>, content: &[u8], trailers: Option<Fields<'_>>) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, b""));
    let has_more = !content.is_empty() || trailers.is_some();
    let end = u8::from(!has_more);
    bytes.extend(frame(HEADERS, END_HEADERS | end, 1, &head(fields)));
    if has_more {
        let end = u8::from(trailers.is_none());
        bytes.extend(frame(DATA, end, 1, content));
    }
    if let Some(trailers) = trailers {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(trailers)));
    }
    stream.write_all(&bytes).unwrap();
    let mut is_answered = false;
    loop {
        let mut start = [0; 9];
        if stream.read_exact(&mut start).is_err() {
            return is_answered;
        }
        let length = u32::from_be_bytes([0, start[0], start[1], start[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).is_err() {
            return is_answered;
        }
        let is_of_it = start[8] == 1;
        match start[3] {
            HEADERS if is_of_it => is_answered = true,
            RESET if is_of_it => return is_answered,
            GOAWAY => return is_answered,
            _ => {}
        }
        if is_of_it && matches!(start[3], HEADERS | DATA) && start[4] & END_STREAM != 0 {
            return is_answered;
        }
    }
}

/// Reads frames until one ends a stream; says whether another one came before that which says that the connection ends.
fn ends(stream: &mut TcpStream) -> bool {
    let mut is_going = false;
    loop {
        let mut start = [0; 9];
        stream.read_exact(&mut start).expect("a frame");
        let length = u32::from_be_bytes([0, start[0], start[1], start[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).expect("all of it");
        is_going |= start[3] == GOAWAY;
        let is_end = matches!(start[3], HEADERS | DATA) && start[4] & END_STREAM != 0;
        if is_end || start[3] == RESET {
            return is_going;
        }
    }
}

#[test]
fn a_connection_that_brings_little_else_ends() {
    let origin = Origin::always(Reply::ok(""));
    let proxy = Proxy::with().http2().start(&one_route(&[origin.port], ""));
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    stream.write_all(&frame(4, 0, 0, b"")).unwrap();
    let mut ask = |number: u32, host: &str| {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
            ("host", host),
        ];
        let asked = frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            2 * number + 1,
            &head(&fields),
        );
        stream.write_all(&asked).unwrap();
        ends(&mut stream)
    };
    // Those who ask for what there is keep it for all.
    for number in 0..33 {
        assert!(!ask(2 * number, "b"), "{number}");
        assert!(!ask(2 * number + 1, "a"), "{number}");
    }
    for number in 66..68 {
        assert!(!ask(number, "b"), "{number}");
    }
    // And even then nobody goes without an answer.
    assert!(ask(68, "a"));
    let refused = || {
        let lines = proxy.log_lines();
        lines.iter().filter(|l| l["refused"] == "two_hosts").count()
    };
    until("all are in the log", || refused() == 35);
    assert_eq!(origin.count(), 34);
}

#[test]
fn no_request_of_http2_hides_another() {
    let origin = Origin::new(|r| Reply::ok(&r.target));
    let proxy = Proxy::with().http2().start(&one_route(
        &[origin.port],
        "retry: { tries: 1 }\nrequire: { max_body: 1MiB }",
    ));
    // Fields after the usual ones, content, trailers.
    let long = HIDDEN.len().to_string();
    let coded = [b"0\r\n\r\n", HIDDEN].concat();
    let mut cases: Vec<(Fields<'_>, &[u8], Option<Fields<'_>>)> = Vec::new();
    let fields: [Fields<'_>; 38] = [
        &[],
        // H2.CL
        &[("content-length", "0")],
        &[("content-length", "5")],
        &[("content-length", "1000")],
        &[("content-length", &long)],
        &[("content-length", &long), ("content-length", "0")],
        &[("content-length", "0"), ("content-length", &long)],
        &[("content-length", "+5")],
        &[("content-length", "-5")],
        &[("content-length", "0x5")],
        &[("content-length", "5, 5")],
        &[("content-length", "")],
        &[("content-length ", "5")],
        &[("Content-Length", "5")],
        // H2.TE
        &[("transfer-encoding", "chunked")],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("Transfer-Encoding", "chunked")],
        &[("transfer-encoding ", "chunked")],
        &[("transfer_encoding", "chunked")],
        &[("content-length", "5"), ("transfer-encoding", "chunked")],
        &[("te", "chunked")],
        &[("te", "trailers, chunked")],
        &[("connection", "transfer-encoding")],
        &[("upgrade", "h2c"), ("connection", "upgrade")],
        &[("keep-alive", "timeout=5")],
        &[("proxy-connection", "keep-alive")],
        // Lines inside of fields.
        &[("x", "a\r\nTransfer-Encoding: chunked")],
        &[("x", "a\nTransfer-Encoding: chunked")],
        &[("x", "a\rTransfer-Encoding: chunked")],
        &[("x", "a\0b")],
        &[("x", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nX: b")],
        &[("x: y\r\ntransfer-encoding", "chunked")],
        &[("x\r\n", "y")],
        &[("x:", "y")],
        &[("x y", "z")],
        &[("", "y")],
        &[("host", "a\r\nTransfer-Encoding: chunked")],
    ];
    for fields in fields {
        for content in [HIDDEN, &coded[..], b""] {
            cases.push((fields, content, None));
        }
    }
    let trailers: [Fields<'_>; 8] = [
        &[("x", "y")],
        &[("transfer-encoding", "chunked")],
        &[("content-length", "0")],
        &[("host", "b")],
        &[(":path", "/smuggled")],
        &[(":method", "GET"), (":path", "/smuggled")],
        &[("x", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")],
        &[("x\r\n\r\nGET /smuggled HTTP/1.1\r\nhost", "a")],
    ];
    for trailers in &trailers {
        for content in [HIDDEN, b"5\r\nhello\r\n0\r\n\r\n"] {
            cases.push((&[], content, Some(trailers)));
        }
    }
    let mut whole: Vec<(String, Vec<u8>)> = Vec::new();
    for (n, (fields, content, trailers)) in cases.iter().enumerate() {
        let path = format!("/{n}");
        let mut all = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", &path),
            (":authority", "example.com"),
        ];
        all.extend(*fields);
        let before = origin.count();
        if send(proxy.port, &all, content, *trailers) && origin.count() > before {
            whole.push((path.clone(), content.to_vec()));
        }
    }
    assert!(whole.len() > 10, "some are as they should be");
    // What came to the backend as a whole request has the content that was sent, byte for byte, and is all that came: a connection
    // that was broken off in the midst of a request has no second one.
    let known = |target: &str| {
        let lines = proxy.log_lines();
        let of_it = lines.iter().filter(|l| l["url.path"] == target).count();
        (of_it > 0).then_some(())
    };
    for (target, _) in &whole {
        eventually("each is in the log", || known(target));
    }
    for request in origin.requests() {
        let sent = whole.iter().find(|(target, _)| *target == request.target);
        let Some((_, content)) = sent else {
            let n = request.target.trim_start_matches('/').parse::<usize>();
            assert!(n.is_ok_and(|n| n < cases.len()), "{request:?}");
            continue;
        };
        assert_eq!(&request.body, content, "{request:?}");
        let framings = request.all("transfer-encoding").len() + request.all("content-length").len();
        assert!(framings <= 1, "{request:?}");
        assert!(
            request.all("x").is_empty() || request.all("x") == ["y"],
            "{request:?}"
        );
    }
}

#[test]
fn nor_does_its_first_line() {
    let origin = Origin::new(|r| Reply::ok(&r.target));
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], "retry: { tries: 1 }"));
    let (method, scheme) = ((":method", "GET"), (":scheme", "http"));
    let (path, authority) = ((":path", "/x"), (":authority", "a"));
    let cases: [Fields<'_>; 31] = [
        &[
            (":method", "GET / HTTP/1.1\r\nX: y\r\n\r\n"),
            scheme,
            path,
            authority,
        ],
        &[
            (":method", "GET /smuggled HTTP/1.1"),
            scheme,
            path,
            authority,
        ],
        &[(":method", "GE T"), scheme, path, authority],
        &[(":method", ""), scheme, path, authority],
        &[method, method, scheme, path, authority],
        &[scheme, path, authority],
        &[
            method,
            scheme,
            (":path", "/smuggled HTTP/1.1\r\nHost: b\r\n\r\n"),
            authority,
        ],
        &[
            method,
            scheme,
            (":path", "/ HTTP/1.1\r\n\r\nGET /smuggled"),
            authority,
        ],
        &[method, scheme, (":path", "/a /smuggled"), authority],
        &[method, scheme, (":path", "/a\t"), authority],
        &[method, scheme, (":path", "/a\0"), authority],
        &[method, scheme, (":path", ""), authority],
        &[method, scheme, (":path", "smuggled"), authority],
        &[method, scheme, (":path", "http://b/smuggled"), authority],
        &[method, scheme, (":path", "*"), authority],
        &[method, scheme, path, (":path", "/smuggled"), authority],
        &[method, scheme, authority],
        &[method, (":scheme", "http://b/smuggled?"), path, authority],
        &[method, (":scheme", "http\r\nX: y"), path, authority],
        &[method, path, authority],
        &[method, scheme, path, (":authority", "a\r\nX: y")],
        &[method, scheme, path, (":authority", "a/smuggled")],
        &[method, scheme, path, (":authority", "a b")],
        &[method, scheme, path, (":authority", "a, b")],
        &[method, scheme, path, authority, (":authority", "b")],
        &[method, scheme, path, authority, ("host", "b")],
        &[method, scheme, path, ("host", "a"), ("host", "b")],
        &[method, scheme, path],
        &[method, scheme, path, authority, (":smuggled", "x")],
        &[method, scheme, path, authority, (":status", "200")],
        &[method, scheme, ("x", "y"), path, authority],
    ];
    for case in cases {
        send(proxy.port, case, b"", None);
        assert_eq!(origin.count(), 0, "{case:?}: {:?}", origin.requests());
    }
    assert!(send(
        proxy.port,
        &[method, scheme, path, authority],
        b"",
        None
    ));
    assert_eq!(origin.last().target, "/x");
}
