//! Who is allowed, and what they are told.

use super::*;
use proptest::prelude::*;

fn fields(text: &str) -> HeaderMap {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let name: HeaderName = name.parse().expect("a name");
        map.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    map
}

fn below(scheme: &str, suffix: &str) -> OriginPattern {
    OriginPattern::Below {
        scheme: scheme.into(),
        suffix: suffix.into(),
    }
}

fn cors() -> Cors {
    Cors {
        origins: Origins::These(vec![
            OriginPattern::Exact("https://app.example.com".into()),
            below("https://", ".example.org"),
        ]),
        methods: vec![Method::GET, Method::PUT],
        headers: vec![header::AUTHORIZATION, header::CONTENT_TYPE],
        expose: vec![HeaderName::from_static("x-request-id")],
        credentials: false,
        max_age: Some(600),
    }
}

fn lines(edits: Vec<Edit<'_>>) -> Vec<String> {
    let text = |value: HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let line = |edit| match edit {
        Edit::Remove(name) => format!("- {name}"),
        Edit::Set(name, value) => format!("{name}: {}", text(value)),
        Edit::Add(name, value) => format!("+ {name}: {}", text(value)),
    };
    edits.into_iter().map(line).collect()
}

#[test]
fn which_origins_fit() {
    let exact = OriginPattern::Exact("https://app.example.com".into());
    let wild = below("https://", ".example.org");
    let port = below("http://", ".test:8080");
    for (pattern, origin, fits) in [
        (&exact, "https://app.example.com", true),
        (&exact, "http://app.example.com", false),
        (&exact, "https://app.example.com:8443", false),
        (&exact, "https://app.example.com.evil.test", false),
        (&exact, "https://app.example.com/", false),
        (&exact, "https://APP.example.com", false),
        (&exact, "null", false),
        (&exact, "", false),
        (&wild, "https://a.example.org", true),
        (&wild, "https://a.b-2.example.org", true),
        (&wild, "https://example.org", false),
        (&wild, "https://.example.org", false),
        (&wild, "https://a..example.org", false),
        (&wild, "http://a.example.org", false),
        (&wild, "https://a.example.org:444", false),
        (&wild, "https://evil.test/.example.org", false),
        (&wild, "https://evil.test?.example.org", false),
        (&wild, "https://evil.test:1.example.org", false),
        (&wild, "https://evil.test\\.example.org", false),
        (&wild, "https://evil.test@a.example.org", false),
        (&wild, "https://notexample.org", false),
        (&wild, "https://a.example.org.evil.test", false),
        (&port, "http://a.test:8080", true),
        (&port, "http://a.test", false),
        (&port, "http://a.test:80801", false),
    ] {
        assert_eq!(pattern.fits(origin.as_bytes()), fits, "{origin}");
    }
}

#[test]
fn what_asks_for_permission() {
    let both = "origin: https://a.test\naccess-control-request-method: PUT";
    for (method, head, wanted) in [
        (Method::OPTIONS, both, Some(Method::PUT)),
        (Method::GET, both, None),
        (Method::OPTIONS, "origin: https://a.test", None),
        (Method::OPTIONS, "access-control-request-method: PUT", None),
        (
            Method::OPTIONS,
            "origin: null\naccess-control-request-method: GE T",
            None,
        ),
        (
            Method::OPTIONS,
            "origin: a\naccess-control-request-method: GET\naccess-control-request-method: PUT",
            None,
        ),
    ] {
        assert_eq!(asked_for(&method, &fields(head)), wanted, "{method} {head}");
    }
}

#[test]
fn what_an_answer_is_given() {
    let list = CorsRules::new(cors());
    let trusting = CorsRules::new(Cors {
        credentials: true,
        expose: Vec::new(),
        ..cors()
    });
    let any = CorsRules::new(Cors {
        origins: Origins::Any,
        ..cors()
    });
    let own = "access-control-allow-origin: *\naccess-control-allow-credentials: true\n\
               access-control-max-age: 5\nvary: Accept, origin";
    let cases: [(&CorsRules, &str, &str, &[&str]); 9] = [
        (
            &list,
            "origin: https://app.example.com",
            "",
            &[
                "access-control-allow-origin: https://app.example.com",
                "access-control-expose-headers: x-request-id",
                "+ vary: Origin",
            ],
        ),
        (
            &list,
            "origin: https://x.example.org",
            "vary: *",
            &[
                "access-control-allow-origin: https://x.example.org",
                "access-control-expose-headers: x-request-id",
            ],
        ),
        (&list, "origin: https://evil.test", "", &["+ vary: Origin"]),
        (&list, "origin: null", "", &["+ vary: Origin"]),
        (&list, "", "vary: Accept", &["+ vary: Origin"]),
        (
            &list,
            "origin: https://app.example.com\norigin: https://app.example.com",
            "",
            &["+ vary: Origin"],
        ),
        (
            &list,
            "origin: https://evil.test",
            own,
            &[
                "- access-control-allow-origin",
                "- access-control-allow-credentials",
                "- access-control-max-age",
            ],
        ),
        (
            &trusting,
            "origin: https://app.example.com",
            "",
            &[
                "access-control-allow-origin: https://app.example.com",
                "access-control-allow-credentials: true",
                "+ vary: Origin",
            ],
        ),
        (
            &any,
            "",
            "",
            &[
                "access-control-allow-origin: *",
                "access-control-expose-headers: x-request-id",
            ],
        ),
    ];
    for (rules, request, response, said) in cases {
        let edits = rules.edits(&fields(request), &fields(response));
        assert_eq!(lines(edits), said, "{request:?} {response:?}");
    }
}

#[test]
fn what_permission_says() {
    let rules = CorsRules::new(cors());
    assert_eq!(
        lines(rules.permission(&fields("origin: https://app.example.com"))),
        [
            "access-control-allow-origin: https://app.example.com",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: authorization, content-type",
            "access-control-max-age: 600",
            "+ vary: Origin",
        ]
    );
    assert_eq!(
        lines(rules.permission(&fields("origin: https://evil.test"))),
        ["+ vary: Origin"]
    );
    let bare = CorsRules::new(Cors {
        origins: Origins::Any,
        headers: Vec::new(),
        max_age: None,
        ..cors()
    });
    assert_eq!(
        lines(bare.permission(&fields("origin: https://evil.test"))),
        [
            "access-control-allow-origin: *",
            "access-control-allow-methods: GET, PUT",
        ]
    );
}

proptest! {
    /// Whatever stands before the suffix, a host that fits ends with it and has no other end before.
    #[test]
    fn what_fits_is_below(middle in "[a-z0-9.:/@?#\\\\_%\\[\\]-]{0,12}") {
        let origin = format!("https://{middle}.example.org");
        if below("https://", ".example.org").fits(origin.as_bytes()) {
            prop_assert!(!middle.is_empty() && !middle.contains(|c: char| ":/@?#\\%[]".contains(c)));
        }
    }
}
