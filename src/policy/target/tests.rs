//! Hosts, paths and rewrites as tables and properties.

use super::*;
use crate::policy::router::{Found, HostPattern, PathPattern, RouteMatch, Router};
use proptest::prelude::*;

#[test]
fn parameters_of_segments() {
    for (path, bare) in [
        ("/a/b", None),
        ("/a;x/b", Some("/a/b")),
        ("/a;x=1;y/b;z", Some("/a/b")),
        ("/;x/a", Some("/a")),
        ("/a/;x", Some("/a/")),
        ("/a;/", Some("/a/")),
        ("/;", Some("/")),
    ] {
        assert_eq!(without_parameters(path).as_deref(), bare, "{path}");
    }
}

#[test]
fn hosts() {
    for (raw, expected) in [
        ("example.com", "example.com"),
        ("Example.COM", "example.com"),
        ("example.com:8080", "example.com"),
        ("example.com.", "example.com"),
        ("EXAMPLE.com.:8080", "example.com"),
        ("example.com..", "example.com."),
        ("example.com:", "example.com"),
        ("example.com:http", "example.com"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[::1]:8080", "[::1]"),
        ("[FE80::A]:8080", "[fe80::a]"),
        ("[::1", "["),
        ("::1", ""),
        (":80", ""),
        (".", ""),
        ("", ""),
    ] {
        assert_eq!(normalise_host(raw), expected, "{raw}");
        let lower = raw == raw.to_lowercase();
        assert_eq!(
            matches!(normalise_host(raw), Cow::Borrowed(_)),
            lower,
            "{raw}"
        );
    }
}

#[test]
fn paths() {
    for (raw, expected) in [
        ("/", "/"),
        ("*", "*"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a?b=%zz/../c", "/a"),
        ("/a#b?c", "/a"),
        ("/?", "/"),
        ("//", "/"),
        ("//a///b//", "/a/b/"),
        ("/.", "/"),
        ("/a/./b/.", "/a/b/"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/..", "/"),
        ("/a//../b", "/b"),
        ("/.hidden/.../..x/a.", "/.hidden/.../..x/a."),
        ("/x/../admin", "/admin"),
        ("/%61dmin", "/admin"),
        ("/x/%2e%2E/admin", "/admin"),
        ("/x%2F..%2fadmin", "/admin"),
        ("/%2fadmin", "/admin"),
        ("/a%20b+c", "/a b+c"),
        ("/%c3%a9", "/é"),
        ("/é", "/é"),
        ("/caf%e9/%C3%A9%ff", "/caf%E9/é%FF"),
        ("/%25%3f%23", "/%25%3F%23"),
        ("/%2561dmin", "/%2561dmin"),
        ("/%252e%252e/a", "/%252e%252e/a"),
        ("/a%5cb/..x;y/;/.x", "/a%5Cb/..x;y/;/.x"),
    ] {
        assert_eq!(normalise_path(raw).as_deref(), Ok(expected), "{raw}");
    }
}

#[test]
fn dots_are_followed_and_all_else_is_as_it_came() {
    for (raw, expected) in [
        ("/", None),
        ("*", None),
        ("/a//b/%7Euser/.x/c..;d=e?x=/../%20&y=[1]", None),
        ("/a%2Fb/%2E%2E%2E/", None),
        ("/secret/../public/x", Some("/public/x")),
        ("/secret/%2e%2E/public/x?a=/../b", Some("/public/x?a=/../b")),
        ("/secret%2f..%2Fpublic/é x", Some("/public/%C3%A9%20x")),
        ("/secret//../public", Some("/public")),
        ("/a/.", Some("/a/")),
        ("/a/./b%25", Some("/a/b%25")),
    ] {
        assert_eq!(without_dots(raw), Ok(expected.map(str::to_owned)), "{raw}");
    }
    for (raw, why) in [
        ("/a/../../b", BadPath::AboveRoot),
        ("a", BadPath::NotAbsolute),
        ("/a\\b", BadPath::Backslash),
        ("/a\0", BadPath::Nul),
        ("/..;", BadPath::DotParameter),
    ] {
        assert_eq!(without_dots(raw), Err(why), "{raw}");
    }
}

proptest! {
    #[test]
    fn what_is_sent_leads_where_the_match_did(raw in "/([a-c./]|%2e|%2F|%41|;){0,12}") {
        let (normal, sent) = (normalise_path(&raw), without_dots(&raw));
        prop_assert_eq!(normal.is_err(), sent.is_err());
        if let (Ok(normal), Ok(sent)) = (normal, sent) {
            let sent = sent.unwrap_or_else(|| raw.clone());
            prop_assert_eq!(normalise_path(&sent).unwrap(), normal);
            prop_assert_eq!(without_dots(&sent), Ok(None));
        }
    }
}

#[test]
fn redirects_that_stay_on_this_host() {
    for (location, template, expected) in [
        ("/a//b", "{uri}", "/a//b"),
        ("//evil.example", "{uri}", "/evil.example"),
        ("/\\evil.example", "{uri}", "/evil.example"),
        ("\\/evil.example", "{query}", "/evil.example"),
        ("//cdn.example/a", "//cdn.example{uri}", "//cdn.example/a"),
        (
            "https://a.example//b",
            "https://a.example{uri}",
            "https://a.example//b",
        ),
        ("", "{query}", ""),
    ] {
        assert_eq!(on_this_host(location, template), expected, "{location}");
    }
}

#[test]
fn paths_that_have_no_normal_form() {
    for (raw, expected) in [
        ("", BadPath::NotAbsolute),
        ("a", BadPath::NotAbsolute),
        ("?a", BadPath::NotAbsolute),
        ("*?a", BadPath::NotAbsolute),
        ("%2Fa", BadPath::NotAbsolute),
        ("http://example.com/", BadPath::NotAbsolute),
        ("/%", BadPath::Encoding),
        ("/%4", BadPath::Encoding),
        ("/%4?1", BadPath::Encoding),
        ("/%zz", BadPath::Encoding),
        ("/%+1", BadPath::Encoding),
        ("/%é", BadPath::Encoding),
        ("/a%00b", BadPath::Nul),
        ("/a\0b", BadPath::Nul),
        ("/..", BadPath::AboveRoot),
        ("/../a", BadPath::AboveRoot),
        ("//../a", BadPath::AboveRoot),
        ("/a/%2e%2e/../b", BadPath::AboveRoot),
        ("/a\\b", BadPath::Backslash),
        ("/a/..\\b", BadPath::Backslash),
        ("/a/..%5Cb", BadPath::Backslash),
        ("/a/b%5c.%5cc", BadPath::Backslash),
        ("/a/..;/b", BadPath::DotParameter),
        ("/a/%2e.;x=y/b", BadPath::DotParameter),
        ("/a/.;/b", BadPath::DotParameter),
        ("/a/..;", BadPath::DotParameter),
    ] {
        assert_eq!(normalise_path(raw), Err(expected), "{raw:?}");
        assert!(!expected.to_string().is_empty());
    }
}

#[test]
fn no_spelling_gets_around_a_route() {
    let admin = RouteMatch {
        host: HostPattern::Any,
        path: PathPattern::Prefix("/admin".into()),
        methods: vec![],
    };
    let router = Router::build(vec![(admin, ())]).unwrap();
    for raw in [
        "/admin",
        "/%61dmin",
        "/%61%64%6D%69%6e/x",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x%2f..%2fadmin/",
        "//admin",
        "/./admin?x",
    ] {
        let path = normalise_path(raw).unwrap();
        assert_eq!(
            router.find("", &path, &http::Method::GET),
            Found::Route(&()),
            "{raw}"
        );
    }
}

#[test]
fn rewrites() {
    let strip = || Rewrite::StripPrefix("/patients".into());
    let set = |path: &str| Rewrite::SetPath(path.into());
    for (rewrite, raw, expected) in [
        (Rewrite::None, "/a/../%zz//b?c#d", "/a/../%zz//b?c#d"),
        (strip(), "/patients/1", "/1"),
        (strip(), "/patients/1/?a=/../b", "/1/?a=/../b"),
        (strip(), "/patients", "/"),
        (strip(), "/patients?a", "/?a"),
        (strip(), "/patients/", "/"),
        (strip(), "/patients/?a", "/?a"),
        (strip(), "/patients/a?b#c", "/a?b"),
        (strip(), "/patientsx/1?a", "/patientsx/1?a"),
        (strip(), "/other/%61?a", "/other/%61?a"),
        (strip(), "*", "*"),
        (strip(), "/%70atients/a%20b?c=%20", "/a%20b?c=%20"),
        (strip(), "/%70atients?c", "/?c"),
        (strip(), "/x/../patients/é\"", "/%C3%A9%22"),
        (
            strip(),
            "/patients//a%25%3f%23%ff%0d%0a",
            "/a%25%3F%23%FF%0D%0A",
        ),
        (strip(), "/patients/a%2Fb;c=(d)", "/a/b;c=(d)"),
        (Rewrite::StripPrefix("/a/".into()), "/a/b", "/b"),
        (Rewrite::StripPrefix("/".into()), "/a/b?c", "/a/b?c"),
        (
            Rewrite::StripPrefix("/a b".into()),
            "/a%20b/c%20d",
            "/c%20d",
        ),
        (set("/v2"), "/a?b=c", "/v2?b=c"),
        (set("/v2"), "/a", "/v2"),
        (set("/v2?x"), "/a?b", "/v2?x"),
        (set("/v2"), "/%zz?b#c", "/v2?b"),
    ] {
        assert_eq!(
            rewrite.apply(raw).as_deref(),
            Ok(expected),
            "{rewrite:?} {raw}"
        );
    }
    assert_eq!(strip().apply("/patients/%"), Err(BadPath::Encoding));
    for raw in ["/patients", "/patients/1?a", "/other"] {
        assert!(matches!(strip().apply(raw), Ok(Cow::Borrowed(_))), "{raw}");
    }
}

/// Paths dense in what normalising changes, mixed with anything at all.
const SPELLINGS: &str =
    "/(/|\\.|\\.\\.|a|é|\\?|#|%2[fFeE35]|%3f|%[0-9a-fA-F]{2}|%[cC]3%[aA]9|.){0,12}";

proptest! {
    #[test]
    fn a_normal_path_is_its_own_normal_form(raw in prop_oneof![SPELLINGS, any::<String>()]) {
        if let Ok(normal) = normalise_path(&raw) {
            let again = normalise_path(&normal);
            prop_assert_eq!(again.as_deref(), Ok(&*normal));
            prop_assert!(matches!(again, Ok(Cow::Borrowed(_))));
            prop_assert!(normal.starts_with('/') || raw == "*");
            prop_assert!(!normal.contains("//"));
            prop_assert!(!normal.split('/').any(|segment| matches!(segment, "." | "..")));
            let unchanged = raw.starts_with(&*normal)
                && (raw.len() == normal.len() || raw[normal.len()..].starts_with(['?', '#']));
            prop_assert_eq!(matches!(normal, Cow::Borrowed(_)), unchanged);
        }
    }

    /// What is taken for plain at first sight comes out the same when it is looked at closely.
    #[test]
    fn what_seems_plain_is_so(raw in prop_oneof!["/([a-c./?#;]|%2e|%2F|%41|\\\\|\0|é){0,12}", any::<String>()]) {
        if let Some((path, query)) = plain(&raw) {
            prop_assert_eq!((path, query), split_target(&raw));
            prop_assert_eq!([path, query].concat(), raw.as_str());
            let below_root = path.strip_prefix('/').unwrap();
            prop_assert_eq!(into_text(resolve(&decode(below_root).unwrap()).unwrap()), path);
        }
    }

    #[test]
    fn arbitrary_input_is_survived(raw in any::<String>()) {
        let _ = normalise_path(&raw);
        let host = normalise_host(&raw);
        prop_assert!(!host.bytes().any(|b| b.is_ascii_uppercase()));
        let _ = Rewrite::StripPrefix("/a".into()).apply(&raw);
    }

    #[test]
    fn stripping_means_the_same_in_every_spelling(rest in SPELLINGS) {
        let plain = format!("/p{rest}");
        let respelt = format!("/x/..//%70{rest}");
        let strip = Rewrite::StripPrefix("/p".into());
        let (Ok(normal), Ok(sent)) = (normalise_path(&plain), strip.apply(&plain)) else {
            return Ok(());
        };
        let Some(expected) = normal.strip_prefix("/p").filter(|rest| rest.starts_with('/')) else {
            return Ok(());
        };
        prop_assert_eq!(&*normalise_path(&sent).unwrap(), expected);
        let other = strip.apply(&respelt).unwrap();
        prop_assert_eq!(&*normalise_path(&other).unwrap(), expected);
        prop_assert_eq!(split_target(&other).1, split_target(&plain).1);
        prop_assert!(split_target(&other).0.bytes().all(|b| b.is_ascii_graphic()));
    }
}

#[test]
fn what_can_stand_in_host() {
    for good in [
        "a",
        "api.example.com",
        "a:80",
        "a:",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "a_b.c",
        "a.b.",
    ] {
        assert!(is_host(good.as_bytes()), "{good}");
    }
    for bad in [
        "", ":80", "a b", "a,b", "a/x", "a@b", "a:b", "a:80:80", "[::1", "[::1]x", "[]", "[g]",
        "a\u{e9}", "::1", ".", "..", "a..", ".a", "a..b:80",
    ] {
        assert!(!is_host(bad.as_bytes()), "{bad}");
    }
}
