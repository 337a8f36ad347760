//! Odd and well-formed `Cache-Control` fields as tables and properties.

use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn parse(lines: &[&str]) -> CacheControl {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(
            header::CACHE_CONTROL,
            HeaderValue::from_bytes(line.as_bytes()).unwrap(),
        );
    }
    CacheControl::parse(&headers)
}

/// `name` or `name=argument`, one for each directive.
fn written(control: &CacheControl) -> Vec<String> {
    let text = |(name, argument): (&str, Option<&str>)| match argument {
        Some(argument) => format!("{name}={argument}"),
        None => name.to_owned(),
    };
    control.iter().map(text).collect()
}

#[test]
fn what_is_read() {
    for (lines, expected) in [
        (&[][..], &[][..]),
        (&[""], &[]),
        (&[" , ,;\t"], &[]),
        (&["no-store"], &["no-store"]),
        (&["max-age=60, Public"], &["max-age=60", "Public"]),
        (
            &["max-age=60,public", "no-cache"],
            &["max-age=60", "public", "no-cache"],
        ),
        (&[",,a,,b=1,,"], &["a", "b=1"]),
        (&["a, a=1, A=2"], &["a", "a=1", "A=2"]),
        // Arguments come as tokens and as quoted strings.
        (
            &[r#"private="set-cookie, x-a", a"#],
            &["private=set-cookie, x-a", "a"],
        ),
        (
            &[r#"a="no-store, \"b\" \\", c"#],
            &[r#"a=no-store, "b" \"#, "c"],
        ),
        (&[r#"max-age="60""#], &["max-age=60"]),
        (&[r#"a="";b=;c"#], &["a=", "b=", "c"]),
        // Missing and wrong separators.
        (
            &["max-age=60 no-store\tpublic"],
            &["max-age=60", "no-store", "public"],
        ),
        (&["max-age=60;no-store"], &["max-age=60", "no-store"]),
        (&["max-age =60"], &["max-age", "60"]),
        (&["max-age= 60"], &["max-age=", "60"]),
        (&["=no-store"], &["no-store"]),
        (&["a=b=no-store"], &["a=", "no-store"]),
        (&["a=(b)"], &["a=", "b"]),
        (&["a='b'"], &["a=", "b"]),
        (&["\u{a0}no-store\u{201d}"], &["no-store"]),
        // Quotes that do not pair up separate, and take the arguments with them.
        (&[r#"private="x, no-store"#], &["private=", "x", "no-store"]),
        (
            &[r#"a="x\", no-store, max-age=9"#],
            &["a=", "x", "no-store", "max-age="],
        ),
        (
            &[r#"a="x, no-store, b="y""#],
            &["a=", "x", "no-store", "b=", "y"],
        ),
        (&[r#"a="x"no-store"#], &["a=", "x", "no-store"]),
        (&[r#""no-store, max-age=60""#], &["no-store", "max-age="]),
        (&[r#"no-store"#, r#"""#], &["no-store"]),
        (&[r#"a=b"no-store""#], &["a=", "no-store"]),
        // A quote left open ends with its line.
        (
            &[r#"a="x"#, "no-store", r#"b="y""#],
            &["a=", "x", "no-store", "b=y"],
        ),
    ] {
        assert_eq!(written(&parse(lines)), expected, "{lines:?}");
    }
}

#[test]
fn names_have_no_case() {
    let control = parse(&["No-Store, MAX-AGE=5"]);
    assert!(control.has("no-store") && control.has("NO-STORE"));
    assert_eq!(control.seconds("Max-Age"), Some(5));
    assert!(!control.has("no-stor") && !control.has("store") && !control.has(""));
}

#[test]
fn arguments() {
    let control = parse(&[r#"a, a=1, b="x, y", c=, B=2"#]);
    for (name, expected) in [
        ("a", None),
        ("b", Some("x, y")),
        ("c", Some("")),
        ("d", None),
    ] {
        assert_eq!(control.argument(name).as_deref(), expected, "{name}");
    }
}

#[test]
fn seconds() {
    const MOST: u64 = 2_147_483_648;
    for (line, expected) in [
        ("max-age=0", Some(0)),
        ("max-age=60", Some(60)),
        ("max-age=0060", Some(60)),
        (r#"max-age="60""#, Some(60)),
        ("max-age=60;public", Some(60)),
        ("max-age=2147483647", Some(MOST - 1)),
        ("max-age=2147483648", Some(MOST)),
        ("max-age=2147483649", Some(MOST)),
        ("max-age=18446744073709551616", Some(MOST)),
        ("max-age=99999999999999999999999999", Some(MOST)),
        // The first of several counts, good or not.
        ("max-age=1, max-age=100", Some(1)),
        ("max-age=x, max-age=100", None),
        ("max-age, max-age=100", None),
        ("s-maxage=100", None),
        ("max-age", None),
        ("max-age=", None),
        ("max-age=-1", None),
        ("max-age=+1", None),
        ("max-age=1.5", None),
        ("max-age=1e3", None),
        ("max-age=60s", None),
        ("max-age=0x10", None),
        ("max-age=60/2", None),
        ("max-age='60'", None),
        ("max-age=\u{661}", None),
        (r#"max-age=" 60""#, None),
        (r#"max-age="60"#, None),
        (r#"max-age=60, a=""#, None),
        (r#"a="max-age=60""#, None),
        ("max-age =60", None),
        ("max-age= 60", None),
    ] {
        assert_eq!(parse(&[line]).seconds("max-age"), expected, "{line}");
    }
}

#[test]
fn spans() {
    let secs = Duration::from_secs;
    for (line, expected) in [
        ("", None),
        ("s-maxage=60", None),
        ("max-age=60", Some(60)),
        ("MAX-AGE=\"60\"", Some(60)),
        ("max-age=99999999999999999999", Some(1 << 31)),
        // Unclear is zero: not there would be another thing.
        ("max-age", Some(0)),
        ("max-age=", Some(0)),
        ("max-age=-1", Some(0)),
        ("max-age=1.5", Some(0)),
        ("max-age=x", Some(0)),
        ("max-age=60, max-age=60", Some(60)),
        ("max-age=60, max-age=060", Some(60)),
        ("max-age=60, max-age=90", Some(0)),
        ("max-age=60, max-age", Some(0)),
        ("max-age=x, max-age=60", Some(0)),
    ] {
        assert_eq!(parse(&[line]).span("max-age"), expected.map(secs), "{line}");
    }
    let lines = parse(&["max-age=60", "max-age=61"]);
    assert_eq!(lines.span("max-age"), Some(secs(0)));
}

#[test]
fn bare_directives() {
    for (line, expected) in [
        ("", false),
        ("max-stale", true),
        ("Max-Stale, max-stale", true),
        ("max-stale=", false),
        ("max-stale=5", false),
        ("max-stale, max-stale=5", false),
    ] {
        assert_eq!(parse(&[line]).is_bare("max-stale"), expected, "{line}");
    }
}

#[test]
fn other_fields() {
    let mut headers = HeaderMap::new();
    headers.append(header::PRAGMA, HeaderValue::from_static("x, No-Cache"));
    headers.append(header::CACHE_CONTROL, HeaderValue::from_static("a"));
    let pragma = CacheControl::parse_field(&headers, &header::PRAGMA);
    assert_eq!(written(&pragma), ["x", "No-Cache"]);
    assert_eq!(written(&CacheControl::parse(&headers)), ["a"]);
}

#[test]
fn targeted_fields() {
    let read = |lines: &[&'static str]| {
        let mut headers = HeaderMap::new();
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for line in lines {
            headers.append(header::CDN_CACHE_CONTROL, HeaderValue::from_static(line));
        }
        let control = CacheControl::parse_targeted(&headers, &header::CDN_CACHE_CONTROL);
        control.map(|control| written(&control).join(" "))
    };
    for (lines, expected) in [
        (&["max-age=60, public"][..], Some("max-age=60 public")),
        (&["max-age=60", "no-store"], Some("max-age=60 no-store")),
        // The last one counts, wherever it is.
        (&["max-age=60, a", "max-age=1"], Some("max-age=1 a")),
        // To be ignored: absent, empty, or with one line that is wrong.
        (&[], None),
        (&[""], None),
        (&["max-age=60", ""], None),
        (&["max-age=60", "no store"], None),
        (&["no-store=?0"], None),
    ] {
        assert_eq!(read(lines).as_deref(), expected, "{lines:?}");
    }
}

/// Bytes that a field value can hold (RFC 9110 §5.5), those that matter here more often than others.
fn field_value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b"\"\\,;= \t'ab1-".to_vec()),
        1 => prop_oneof![0x20..0x7fu8, 0x80..=0xffu8],
    ];
    prop::collection::vec(byte, 0..40)
}

/// The same, with no quote whose partner might come later.
fn unquoted() -> impl Strategy<Value = Vec<u8>> {
    field_value().prop_map(|mut bytes| {
        bytes.retain(|&b| b != b'"');
        bytes
    })
}

fn one(value: &[u8]) -> CacheControl {
    let mut headers = HeaderMap::new();
    headers.append(
        header::CACHE_CONTROL,
        HeaderValue::from_bytes(value).unwrap(),
    );
    CacheControl::parse(&headers)
}

/// What may stand before and after a directive's name.
const LEFT: &[&str] = &[",", ", ", " ", "\t", ";", " ;, ", ",=", ",\"", ",'"];
const RIGHT: &[&str] = &[
    ",", " ,", " ", "\t", ";", "=", "=1,", "=\"x\",", "=\"", "\"", "'",
];

proptest! {
    #[test]
    fn any_value_is_read(value in field_value()) {
        let control = one(&value);
        for (name, _) in control.iter() {
            prop_assert!(!name.is_empty() && name.bytes().all(is_token));
            prop_assert!(control.has(name));
            let _ = (control.argument(name), control.seconds(name));
        }
    }

    #[test]
    fn no_store_is_found_in_every_spelling(
        before in unquoted(),
        after in field_value(),
        upper in any::<u16>(),
        left in prop::sample::select(LEFT),
        right in prop::sample::select(RIGHT),
        lines in 0usize..3,
    ) {
        let name = "no-store".bytes().enumerate();
        let name = name.map(|(i, b)| if upper >> i & 1 == 1 { b.to_ascii_uppercase() } else { b });
        let name: Vec<u8> = name.collect();
        let value = [&before[..], left.as_bytes(), &name[..], right.as_bytes(), &after[..]].concat();
        prop_assert!(one(&value).has("no-store"), "{}", value.escape_ascii());
        // Nor does another line hide it, whatever it holds.
        let mut headers = HeaderMap::new();
        for line in 0..3 {
            let bytes = if line == lines { &value } else { &after };
            headers.append(header::CACHE_CONTROL, HeaderValue::from_bytes(bytes).unwrap());
        }
        prop_assert!(CacheControl::parse(&headers).has("no-store"));
    }

    #[test]
    fn a_quote_too_many_hides_nothing(before in field_value(), after in field_value()) {
        let mut whole = [&before[..], b",no-store,", &after[..]].concat();
        whole.retain(|&b| b != b'\\');
        // An odd number of quotes, none of them escaped, cannot pair up.
        if whole.iter().filter(|&&b| b == b'"').count() % 2 == 0 {
            whole.push(b'"');
        }
        prop_assert!(one(&whole).has("no-store"), "{}", whole.escape_ascii());
    }

    #[test]
    fn a_well_formed_argument_is_read_back(text in "[ -~]{0,20}", name in "[a-z-]{1,10}") {
        let quoted = text.replace('\\', r"\\").replace('"', r#"\""#);
        let control = parse(&[&format!(r#"x, {name}-="{quoted}", y=1"#)]);
        let argument = control.argument(&format!("{name}-"));
        prop_assert_eq!(argument.as_deref(), Some(&text[..]));
        prop_assert_eq!(control.iter().count(), 3);
        prop_assert_eq!(control.seconds("y"), Some(1));
    }

    #[test]
    fn seconds_are_digits(argument in "[-+0-9. x]{0,24}") {
        let seconds = parse(&[&format!("a=\"{argument}\"")]).seconds("a");
        let digits = !argument.is_empty() && argument.bytes().all(|b| b.is_ascii_digit());
        prop_assert_eq!(seconds.is_some(), digits);
        prop_assert!(seconds.unwrap_or(0) <= 1 << 31);
    }

    #[test]
    fn a_span_is_what_all_agree_on(arguments in prop::collection::vec("[0-9]{1,2}|x", 1..4)) {
        let line = arguments.iter().map(|a| format!("a={a}")).collect::<Vec<_>>().join(", ");
        let numbers: Vec<Option<u64>> = arguments.iter().map(|a| a.parse().ok()).collect();
        let agreed = numbers.iter().all(|n| *n == numbers[0]);
        let expected = numbers[0].filter(|_| agreed).unwrap_or(0);
        prop_assert_eq!(parse(&[&line]).span("a"), Some(Duration::from_secs(expected)));
    }
}
