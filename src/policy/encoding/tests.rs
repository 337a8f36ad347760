//! Who gets which answer in which coding, and what its fields say then.

use super::*;
use proptest::prelude::*;

const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
/// What browsers send.
const BROWSER: &str = "gzip, deflate, br, zstd";

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn policy(codings: &[Coding]) -> CompressPolicy {
    let types = ["text/*", "application/json", "application/*+json"];
    CompressPolicy {
        codings: codings.to_vec(),
        types: types.map(|t| MediaType(t.to_owned())).to_vec(),
        min_size: 1000,
    }
}

/// What a JSON answer gets for these `Accept-Encoding` lines.
fn negotiated(codings: &[Coding], lines: &[&str]) -> Option<Coding> {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| ("accept-encoding", *line))
        .collect();
    let response = fields(&[("content-type", "application/json")]);
    choose(
        &policy(codings),
        &fields(&lines),
        StatusCode::OK,
        &response,
        None,
    )
}

#[test]
fn what_clients_accept() {
    use Coding::{Brotli, Gzip, Zstd};
    for (lines, expected) in [
        (&[BROWSER][..], Some(Zstd)),
        (&["gzip, br"], Some(Brotli)),
        (&["gzip"], Some(Gzip)),
        (&["gzip", "br"], Some(Brotli)),
        (&["GZIP"], Some(Gzip)),
        (&["x-gzip"], Some(Gzip)),
        (&["deflate, compress"], None),
        (&["identity"], None),
        (&[""], None),
        (&[], None),
        (&[" , gzip,\t,"], Some(Gzip)),
        // Weights.
        (&["gzip;q=1.0, br;q=0.9, zstd;q=0.8"], Some(Gzip)),
        (&["gzip;q=0.8, br;q=0.801"], Some(Brotli)),
        (&["gzip ; q=0.5 , br ;q=0.4"], Some(Gzip)),
        (&["gzip;Q=0.5"], Some(Gzip)),
        (&["gzip;q=0.001"], Some(Gzip)),
        (&["gzip;q=0"], None),
        (&["gzip;q=0.000, br;q=0."], None),
        (&["zstd;q=0, br, gzip"], Some(Brotli)),
        // An asterisk is all that is not named.
        (&["*"], Some(Zstd)),
        (&["*;q=0.5, gzip;q=0.5"], Some(Zstd)),
        (&["*;q=0.5, gzip"], Some(Gzip)),
        (&["zstd;q=0, *"], Some(Brotli)),
        (&["*;q=0"], None),
        (&["gzip, *;q=0"], Some(Gzip)),
        // The content as it is may be liked better.
        (&["gzip, identity"], Some(Gzip)),
        (&["gzip;q=0.5, identity"], None),
        (&["gzip;q=0.5, identity;q=0.5"], Some(Gzip)),
        (&["gzip;q=0.5, identity;q=0.4"], Some(Gzip)),
        (&["gzip, identity;q=0"], Some(Gzip)),
        (&["identity;q=0"], None),
        // What cannot be read, or is said in two ways.
        (&["gzip;q=2"], None),
        (&["gzip;q=1.1"], None),
        (&["gzip;q=1.001"], None),
        (&["gzip;q=0.1234"], None),
        (&["gzip;q=-1"], None),
        (&["gzip;q=.5"], None),
        (&["gzip;q=0.+5"], None),
        (&["gzip;q=00.5"], None),
        (&["gzip;q="], None),
        (&["gzip;q"], None),
        (&["gzip;"], None),
        (&["gzip;level=9"], None),
        (&["gzip;q=1;q=1"], None),
        (&["gzip;q=0,5"], None),
        (&[";q=1, gzip"], None),
        (&["gzip br"], None),
        (&["gzip\u{e9}"], None),
        (&["br", "gzip;q=x"], None),
        (&["deflate;q=x, gzip"], None),
        (&["gzip, gzip;q=0"], None),
        (&["gzip, x-gzip;q=0.5"], None),
        (&["gzip, gzip;q=1.000"], Some(Gzip)),
    ] {
        assert_eq!(negotiated(&ALL, lines), expected, "{lines:?}");
    }
}

#[test]
fn what_the_server_prefers() {
    use Coding::{Brotli, Gzip, Zstd};
    for (codings, accepted, expected) in [
        (&[Gzip, Brotli, Zstd][..], BROWSER, Some(Gzip)),
        (&[Brotli, Gzip], BROWSER, Some(Brotli)),
        (&[Brotli, Gzip], "gzip, br;q=0.9", Some(Gzip)),
        (&[Gzip], BROWSER, Some(Gzip)),
        (&[Gzip], "br, zstd", None),
        (&[Gzip], "*, gzip;q=0.5", None),
        (&[Zstd], "gzip, *;q=0.1", Some(Zstd)),
        (&[], BROWSER, None),
    ] {
        assert_eq!(
            negotiated(codings, &[accepted]),
            expected,
            "{codings:?} {accepted}"
        );
    }
}

#[test]
fn which_answers_are_compressed() {
    const JSON: (&str, &str) = ("content-type", "application/json");
    let request = fields(&[("accept-encoding", BROWSER)]);
    for (status, lines, length, expected) in [
        (200, &[JSON][..], None, true),
        (200, &[JSON], Some(1000), true),
        (200, &[JSON], Some(999), false),
        (200, &[JSON], Some(0), false),
        (203, &[JSON], None, true),
        (404, &[JSON], None, true),
        (500, &[JSON], None, true),
        (100, &[JSON], None, false),
        (101, &[JSON], None, false),
        (204, &[JSON], None, false),
        (205, &[JSON], None, false),
        (206, &[JSON], None, false),
        (304, &[JSON], None, false),
        (200, &[], None, false),
        (200, &[("content-type", "image/png")], None, false),
        (200, &[("content-type", "text/event-stream")], None, false),
        (
            200,
            &[("content-type", "Text/Event-Stream; charset=utf-8")],
            None,
            false,
        ),
        (200, &[("content-type", "text/event-streams")], None, true),
        (200, &[JSON, ("content-encoding", "gzip")], None, false),
        (200, &[JSON, ("content-encoding", "identity")], None, false),
        (200, &[JSON, ("content-encoding", "")], None, false),
        (
            200,
            &[JSON, ("cache-control", "max-age=1, No-Transform")],
            None,
            false,
        ),
        (200, &[JSON, ("cache-control", "no-cache")], None, true),
        (
            200,
            &[JSON, ("content-digest", "sha-256=:AA==:")],
            None,
            false,
        ),
        (200, &[JSON, ("repr-digest", "sha-256=:AA==:")], None, false),
        (200, &[JSON, ("digest", "sha-256=AA==")], None, false),
        (200, &[JSON, ("content-md5", "AA==")], None, false),
        (200, &[JSON, ("signature", "a=:AA==:")], None, false),
        (200, &[JSON, JSON], None, false),
        (
            200,
            &[
                JSON,
                ("set-cookie", "a=b"),
                ("etag", "\"a\""),
                ("vary", "*"),
            ],
            None,
            true,
        ),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let response = fields(lines);
        let varies = varies(&policy(&ALL), status, &response, length);
        assert_eq!(varies, expected, "{status} {lines:?} {length:?}");
        // It varies if and only if someone gets it compressed.
        let chosen = choose(&policy(&ALL), &request, status, &response, length);
        assert_eq!(chosen.is_some(), expected, "{status} {lines:?} {length:?}");
    }
    // Not even without a smallest size is nothing compressed.
    let any = CompressPolicy {
        min_size: 0,
        ..policy(&ALL)
    };
    let json = fields(&[JSON]);
    assert!(!varies(&any, StatusCode::OK, &json, Some(0)));
    assert!(varies(&any, StatusCode::OK, &json, Some(1)));
    // gRPC has its own coding, even where all of a kind is listed.
    let every = CompressPolicy {
        types: vec![MediaType("application/*".into())],
        ..any
    };
    for (kind, expected) in [
        ("application/octet-stream", true),
        ("application/grpc", false),
        ("application/grpc+proto", false),
        ("application/gRPC-web+proto", false),
        ("application/grpcish", true),
    ] {
        let response = fields(&[("content-type", kind)]);
        assert_eq!(
            varies(&every, StatusCode::OK, &response, None),
            expected,
            "{kind}"
        );
    }
}

#[test]
fn a_client_may_want_it_untouched() {
    let lines = [
        ("accept-encoding", BROWSER),
        ("cache-control", "no-transform"),
    ];
    let response = fields(&[("content-type", "text/html")]);
    let chosen = choose(
        &policy(&ALL),
        &fields(&lines),
        StatusCode::OK,
        &response,
        None,
    );
    assert_eq!(chosen, None);
    assert!(varies(&policy(&ALL), StatusCode::OK, &response, None));
}

#[test]
fn types() {
    for (pattern, kind, expected) in [
        ("text/html", "text/html", true),
        ("text/html", "TEXT/Html", true),
        ("text/html", "text/htm", false),
        ("text/*", "text/html", true),
        ("text/*", "Text/x", true),
        ("text/*", "text/", false),
        ("text/*", "text", false),
        ("text/*", "textual/html", false),
        ("text/*", "", false),
        ("application/*+json", "application/ld+json", true),
        ("application/*+json", "Application/LD+JSON", true),
        ("application/*+json", "application/+json", false),
        ("application/*+json", "application/json", false),
        ("application/*+json", "application/ld+json2", false),
        ("application/*+json", "image/ld+json", false),
        ("application/*+json", "application/\u{e9}+json", true),
        ("text/*", "tex\u{e9}/html", false),
    ] {
        let found = MediaType(pattern.to_owned()).matches(kind);
        assert_eq!(found, expected, "{pattern} {kind}");
    }
    let listed = |value: &str| is_listed(&policy(&ALL), &fields(&[("content-type", value)]));
    for value in [
        "text/html;charset=utf-8",
        " text/html ; a=b",
        "text/css",
        "application/a+json",
    ] {
        assert!(listed(value), "{value}");
    }
    for value in ["", ";", "html", "image/png; x=text/html", "application/xml"] {
        assert!(!listed(value), "{value}");
    }
}

fn lines(edits: &[Edit<'_>]) -> Vec<String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let line = |edit: &Edit<'_>| match edit {
        Edit::Remove(name) => format!("- {name}"),
        Edit::Set(name, value) => format!("= {name}: {}", text(value)),
        Edit::Add(name, value) => format!("+ {name}: {}", text(value)),
    };
    edits.iter().map(line).collect()
}

#[test]
fn what_changes_in_an_answer() {
    const VARY: &str = "+ vary: Accept-Encoding";
    for (response, expected) in [
        (&[][..], &[VARY][..]),
        (&[("etag", "\"a\"")], &["= etag: W/\"a\"", VARY]),
        (&[("etag", " \"a\"")], &["= etag: W/\"a\"", VARY]),
        (&[("etag", "W/\"a\"")], &[VARY]),
        (&[("etag", "a")], &["- etag", VARY]),
        (&[("etag", "\"a\""), ("etag", "\"b\"")], &["- etag", VARY]),
        (&[("vary", "Origin")], &[VARY]),
        (&[("vary", "X-Accept-Encoding")], &[VARY]),
        (&[("vary", "Origin, accept-encoding")], &[]),
        (&[("vary", "Origin"), ("vary", "Accept-Encoding")], &[]),
        (&[("vary", "*")], &[]),
    ] {
        let response = fields(response);
        for coding in ALL {
            let encoding = format!("= content-encoding: {}", coding.token());
            let mut all = vec![&*encoding, "- content-length", "- accept-ranges"];
            all.extend(expected);
            assert_eq!(lines(&edits(&response, Some(coding))), all, "{response:?}");
        }
        // The others are told, and nothing else.
        let told: Vec<_> = expected
            .iter()
            .filter(|line| line.contains("vary"))
            .copied()
            .collect();
        assert_eq!(lines(&edits(&response, None)), told, "{response:?}");
    }
    assert_eq!(ALL.map(Coding::token), ["zstd", "br", "gzip"]);
}

#[test]
fn a_304_names_the_tag_as_the_client_does() {
    let weak = &["= etag: W/\"a\"", "+ vary: Accept-Encoding"][..];
    for (named, tag, expected) in [
        (&["W/\"a\""][..], "\"a\"", weak),
        (&["W/\"b\", W/\"a\""], "\"a\"", weak),
        (&["W/\"b\"", "W/\"a\""], "\"a\"", weak),
        // It has the answer as it is, too.
        (&["W/\"a\", \"a\""], "\"a\"", &[]),
        (&["\"a\""], "\"a\"", &[]),
        (&["W/\"a\""], "W/\"a\"", &[]),
        (&["W/\"b\""], "\"a\"", &[]),
        (&["*"], "\"a\"", &[]),
        (&[], "\"a\"", &[]),
        (&["W/\"a\""], "a", &[]),
    ] {
        let request: Vec<_> = named
            .iter()
            .map(|value| ("if-none-match", *value))
            .collect();
        let found = not_modified(&fields(&request), &fields(&[("etag", tag)]));
        assert_eq!(lines(&found), expected, "{named:?} {tag}");
    }
    let request = fields(&[("if-none-match", "W/\"a\"")]);
    assert!(not_modified(&request, &HeaderMap::new()).is_empty());
}

proptest! {
    #[test]
    fn nobody_gets_what_they_did_not_name(
        line in "[a-z;=*q0-9., -]{0,24}|((gzip|br|zstd|identity|\\*)(;q=[01](\\.[05]{1,3})?)?, ?){0,5}",
    ) {
        let Some(chosen) = negotiated(&ALL, &[&line]) else { return Ok(()) };
        prop_assert!(line.contains(chosen.token()) || line.contains('*'), "{:?}", chosen);
        // Where only this one is refused, another one is found or none.
        let refusing = format!("{line},{};q=0", chosen.token());
        prop_assert_ne!(negotiated(&ALL, &[&refusing]), Some(chosen));
    }

    #[test]
    fn weights_are_three_digits(whole in 0u32..3, decimals in "[0-9]{0,4}") {
        let text = format!("q={whole}.{decimals}");
        let expected = (decimals.len() <= 3)
            .then(|| format!("{whole}{decimals:0<3}").parse::<u16>().unwrap())
            .filter(|&weight| weight <= 1000);
        prop_assert_eq!(thousandths(&text), expected);
    }

    #[test]
    fn any_weight_is_read(text in "[qQ=0-9.+ ]{0,8}") {
        prop_assert!(thousandths(&text).is_none_or(|weight| weight <= 1000));
    }

    #[test]
    fn any_type_is_compared(pattern in "[aA/*é]{0,5}", kind in "[aA/é]{0,6}") {
        let (low, small) = (pattern.to_ascii_lowercase(), kind.to_ascii_lowercase());
        let expected = match low.split_once('*') {
            None => low == small,
            Some((start, end)) => {
                let long_enough = small.len() > start.len() + end.len();
                long_enough && small.starts_with(start) && small.ends_with(end)
            }
        };
        prop_assert_eq!(MediaType(pattern).matches(&kind), expected);
    }
}
