//! What unsafe requests make void (RFC 9111 §4.4), and how references are resolved (RFC 3986 §5.4).

use super::super::tests::fields;
use super::*;
use proptest::prelude::*;

#[test]
fn which_answers_invalidate() {
    for (method, safe) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("TRACE", true),
        ("PROPFIND", true),
        ("REPORT", true),
        ("SEARCH", true),
        ("QUERY", true),
        ("POST", false),
        ("PUT", false),
        ("DELETE", false),
        ("PATCH", false),
        ("CONNECT", false),
        ("PURGE", false),
        ("M-SEARCH", false),
        ("get", false),
        ("ANYTHING", false),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for (status, ok) in [
            (101, false),
            (200, true),
            (201, true),
            (204, true),
            (299, true),
            (301, true),
            (303, true),
            (304, true),
            (399, true),
            (400, false),
            (404, false),
            (499, false),
            (500, false),
            (599, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                invalidates(&method, status),
                ok && !safe,
                "{method} {status}"
            );
        }
    }
}

#[test]
fn which_urls_are_void() {
    for (why, host, lines, expected) in [
        ("the request's own", "a", &[][..], &[][..]),
        ("an absolute path", "a", &[("location", "/x")], &["/x"]),
        (
            "a query",
            "a",
            &[("location", "/x?y=/../z")],
            &["/x?y=/../z"],
        ),
        (
            "both",
            "a",
            &[("location", "/x"), ("content-location", "/y")],
            &["/x", "/y"],
        ),
        (
            "once",
            "a",
            &[("location", "/x"), ("content-location", "/x#f")],
            &["/x"],
        ),
        (
            "the request's own once",
            "a",
            &[("location", "/b/c?d"), ("content-location", "")],
            &[],
        ),
        ("relative", "a", &[("location", "x")], &["/b/x"]),
        (
            "relative to the folder",
            "a",
            &[("location", "./")],
            &["/b/"],
        ),
        (
            "a fragment dropped",
            "a",
            &[("location", "/x#a?b")],
            &["/x"],
        ),
        ("a fragment alone", "a", &[("location", "#a")], &[]),
        ("in full", "a", &[("location", "http://a/x?y#z")], &["/x?y"]),
        ("in full, no path", "a", &[("location", "http://a")], &["/"]),
        (
            "in full, no path",
            "a",
            &[("location", "http://a?x")],
            &["/?x"],
        ),
        ("without scheme", "a", &[("location", "//a/x")], &["/x"]),
        ("case", "A", &[("location", "HTTP://a/X")], &["/X"]),
        ("case", "a", &[("location", "http://A/X")], &["/X"]),
        (
            "the usual port",
            "a",
            &[("location", "http://a:80/x")],
            &["/x"],
        ),
        (
            "the usual port",
            "a:80",
            &[("location", "http://a/x")],
            &["/x"],
        ),
        (
            "the usual port",
            "a",
            &[("location", "http://a:/x")],
            &["/x"],
        ),
        (
            "the same port",
            "a:8080",
            &[("location", "http://a:8080/x")],
            &["/x"],
        ),
        (
            "an address",
            "[::1]:8080",
            &[("location", "http://[::1]:8080/x")],
            &["/x"],
        ),
        (
            "another address",
            "[::1]",
            &[("location", "http://[::1]:8080/x")],
            &[],
        ),
        ("another port", "a", &[("location", "http://a:8080/x")], &[]),
        ("another port", "a:8080", &[("location", "http://a/x")], &[]),
        ("another port", "a", &[("location", "http://a:443/x")], &[]),
        ("another host", "a", &[("location", "http://b/x")], &[]),
        (
            "another host",
            "a",
            &[("location", "//b/x"), ("content-location", "/y")],
            &["/y"],
        ),
        ("another host", "a", &[("location", "http://a.b/x")], &[]),
        ("another host", "a", &[("location", "http://a@b/x")], &[]),
        ("a user", "a", &[("location", "http://b@a/x")], &[]),
        ("another scheme", "a", &[("location", "https://a/x")], &[]),
        ("another scheme", "a", &[("location", "mailto:a")], &[]),
        ("no host", "a", &[("location", "http:x")], &[]),
        ("no host", "a", &[("location", "http:/x")], &[]),
        ("no host", "a", &[("location", "http:///x")], &[]),
        (
            "a colon in a path",
            "a",
            &[("location", "./x:y")],
            &["/b/x:y"],
        ),
        ("a colon in a path", "a", &[("location", "/x:y")], &["/x:y"]),
        ("blanks around it", "a", &[("location", " /x ")], &["/x"]),
        ("no text", "a", &[("location", "/\u{e9}")], &[]),
        (
            "two lines",
            "a",
            &[("location", "/x"), ("location", "/y")],
            &["/x", "/y"],
        ),
        (
            "other fields",
            "a",
            &[("link", "</x>"), ("refresh", "0; url=/x")],
            &[],
        ),
    ] {
        let found = targets("http", host, "/b/c?d", &fields(lines));
        let expected: Vec<_> = ["/b/c?d"].iter().chain(expected).copied().collect();
        assert_eq!(found, expected, "{why}: {lines:?}");
    }
    let lines = fields(&[
        ("location", "https://a:443/x"),
        ("content-location", "http://a/y"),
    ]);
    assert_eq!(targets("https", "a", "/b#c", &lines), ["/b", "/x"]);
}

#[test]
fn references_are_resolved() {
    // The examples of RFC 3986 §5.4.1 and §5.4.2, against http://a/b/c/d;p?q.
    for (reference, expected) in [
        ("g", "/b/c/g"),
        ("./g", "/b/c/g"),
        ("g/", "/b/c/g/"),
        ("/g", "/g"),
        ("?y", "/b/c/d;p?y"),
        ("g?y", "/b/c/g?y"),
        ("#s", "/b/c/d;p?q"),
        ("g#s", "/b/c/g"),
        ("g?y#s", "/b/c/g?y"),
        (";x", "/b/c/;x"),
        ("g;x", "/b/c/g;x"),
        ("g;x?y#s", "/b/c/g;x?y"),
        ("", "/b/c/d;p?q"),
        (".", "/b/c/"),
        ("./", "/b/c/"),
        ("..", "/b/"),
        ("../", "/b/"),
        ("../g", "/b/g"),
        ("../..", "/"),
        ("../../", "/"),
        ("../../g", "/g"),
        ("../../../g", "/g"),
        ("../../../../g", "/g"),
        ("/./g", "/g"),
        ("/../g", "/g"),
        ("g.", "/b/c/g."),
        (".g", "/b/c/.g"),
        ("g..", "/b/c/g.."),
        ("..g", "/b/c/..g"),
        ("./../g", "/b/g"),
        ("./g/.", "/b/c/g/"),
        ("g/./h", "/b/c/g/h"),
        ("g/../h", "/b/c/h"),
        ("g;x=1/./y", "/b/c/g;x=1/y"),
        ("g;x=1/../y", "/b/c/y"),
        ("g?y/./x", "/b/c/g?y/./x"),
        ("g?y/../x", "/b/c/g?y/../x"),
        ("g#s/./x", "/b/c/g"),
        ("//a", "/"),
        // Empty segments count.
        ("/g//h", "/g//h"),
        ("/g//..", "/g/"),
        ("//a//g", "//g"),
    ] {
        let base = Base {
            scheme: "http",
            authority: "a".to_owned(),
            target: "/b/c/d;p?q",
        };
        assert_eq!(
            base.resolve(reference).as_deref(),
            Some(expected),
            "{reference}"
        );
    }
    // Targets that are no paths.
    for (target, reference, expected) in [
        ("*", "g", "/g"),
        ("", "g", "/g"),
        ("?x", "g", "/g"),
        ("/", "", "/"),
    ] {
        let found = targets("http", "a", target, &fields(&[("location", reference)]));
        assert_eq!(
            found.last().map(String::as_str),
            Some(expected),
            "{target} {reference}"
        );
    }
}

#[test]
fn a_host_is_forgotten_by_all_its_spellings() {
    for (scheme, host, expected) in [
        ("http", "a", &["a:80", "a:", "a"][..]),
        ("http", "A:80", &["a:80", "a:", "a"]),
        ("http", "a:", &["a:80", "a:", "a"]),
        ("https", "a:443", &["a:443", "a:", "a"]),
        ("https", "a:80", &["a:80"]),
        ("http", "a:8080", &["a:8080"]),
        ("http", "[::1]", &["[::1]:80", "[::1]:", "[::1]"]),
        ("http", "[::1]:81", &["[::1]:81"]),
    ] {
        assert_eq!(spellings(scheme, host), expected, "{scheme} {host}");
    }
}

proptest! {
    #[test]
    fn only_paths_without_dots_come_out(
        reference in "[a./?#:]{0,12}|(http:)?//[ab:@]{0,3}[a./?]{0,8}|[ -~\u{e9}]{0,12}",
        target in "/[a./?]{0,8}",
    ) {
        let found = targets("http", "a", &target, &fields(&[("location", &reference)]));
        prop_assert_eq!(&found[0], &target);
        prop_assert!(found.len() <= 2);
        for named in &found[1..] {
            let (path, _) = split_query(named);
            prop_assert!(named.starts_with('/') && !named.contains('#'), "{named}");
            // `?x` alone keeps the path of the request as it is.
            let own = path == split_query(&target).0;
            prop_assert!(own || !path.split('/').any(|s| s == "." || s == ".."), "{named}");
        }
    }

    #[test]
    fn another_host_voids_nothing(host in "[a-z]{1,5}(\\.[a-z]{1,5})?(:[0-9]{1,4})?", path in "/[a-z/.]{0,9}") {
        prop_assume!(host != "a" && host != "a:80");
        for reference in [format!("http://{host}{path}"), format!("//{host}{path}"), format!("http://a@{host}{path}")] {
            let found = targets("http", "a", "/own", &fields(&[("location", &reference)]));
            prop_assert_eq!(found, ["/own"], "{}", reference);
        }
    }

    #[test]
    fn a_path_is_found_however_it_is_given(path in "/[a-z]{1,5}(/[a-z]{1,5}){0,3}(\\?[a-z./]{0,5})?") {
        for reference in [
            path.clone(),
            format!("http://a{path}"),
            format!("//A:80{path}#x"),
            format!("/..{path}"),
            format!("../..{path}"),
            format!(".{path}"),
        ] {
            let found = targets("http", "a", "/", &fields(&[("location", &reference)]));
            prop_assert_eq!(found, ["/", &path], "{}", reference);
        }
    }
}
