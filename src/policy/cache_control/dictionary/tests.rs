//! Dictionaries as RFC 8941 has them, and as it does not.

use super::*;
use proptest::prelude::*;

/// `name` or `name=argument`, one for each member.
fn read(text: &[u8]) -> Option<String> {
    let written = |member: Directive| match member.argument {
        Some(argument) => format!("{}={argument}", member.name),
        None => member.name,
    };
    let members = parse(text)?.into_iter().map(written);
    Some(members.collect::<Vec<_>>().join(" "))
}

#[test]
fn dictionaries() {
    for (text, expected) in [
        ("", ""),
        ("  ", ""),
        ("max-age=60", "max-age=60"),
        ("  max-age=60  ", "max-age=60"),
        ("a,b,c", "a b c"),
        ("a ,\tb\t,  c", "a b c"),
        ("*a_b-c.d*0=1", "*a_b-c.d*0=1"),
        // Booleans.
        ("a=?1, b", "a b"),
        ("a, b=?0, c", "a c"),
        ("a, b, a=?0", "b"),
        // Integers, and what could be taken for them.
        ("a=0", "a=0"),
        ("a=0060", "a=0060"),
        ("a=999999999999999", "a=999999999999999"),
        ("a=-1", "a="),
        ("a=-0", "a="),
        ("a=1.0", "a="),
        ("a=123456789012.123", "a="),
        ("a=\"60\"", "a="),
        ("a=t60", "a="),
        ("a=:NjA=:", "a="),
        ("a=(60)", "a="),
        // Other values, which hide nothing and end where they should.
        ("a=\"no-store, b\", c", "a= c"),
        ("a=\"\", b", "a= b"),
        ("a=\"\\\"\\\\\", b", "a= b"),
        ("a=*t:/#, b", "a= b"),
        ("a=::, b", "a= b"),
        ("a=(), b", "a= b"),
        ("a=( 1  \"x\";p t;q=1 );r, b", "a= b"),
        // Parameters.
        ("a;p;q=1;  r=\"x\", b", "a b"),
        ("a=1;p=?0, b;p", "a=1 b"),
        // Repeated members.
        ("a=1, b, a=2", "a=2 b"),
        ("a=?0, b, a", "b a"),
    ] {
        assert_eq!(read(text.as_bytes()).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn no_dictionaries() {
    for text in [
        ",",
        ",a",
        "a,,b",
        "a b",
        "a;b c",
        "A",
        "max-Age=60",
        "1",
        "-",
        "\"a\"",
        "=1",
        "a=",
        "a =1",
        "a= 1",
        "a=,b",
        "a=&",
        "a, &&&&&",
        "a=1\u{a0}",
        "\u{e9}",
        "a=1234567890123456",
        "a=-",
        "a=--1",
        "a=+1",
        "a=.5",
        "a=1.",
        "a=1.2345",
        "a=1234567890123.1",
        "a=1.2.3",
        "a=1e3",
        "a=60s",
        "a=\"x",
        "a=\"\\x\"",
        "a=\"\\",
        "a=\"\u{e9}\"",
        "a=\"\t\"",
        "a='x'",
        "a=?",
        "a=?2",
        "a=?true",
        "a=:x",
        "a=:-:",
        "a=:",
        "a=(",
        "a=(1",
        "a=(1,2)",
        "a=(1\"x\")",
        "a=((1))",
        "a=)",
        "a;",
        "a;=1",
        "a;P",
        "a;p=",
        "a;p=(1)",
        "a ;p",
        "a=@1",
    ] {
        // What stands before the mistake counts as little as what follows.
        for before in ["", "x, ", "x=(1), "] {
            let text = format!("{before}{text}, y");
            assert_eq!(read(text.as_bytes()), None, "{text:?}");
        }
    }
    // At the ends, where one may stand between members.
    assert_eq!(read(b"\ta"), None);
    assert_eq!(read(b"a,"), None);
    assert_eq!(read(b"a, "), None);
}

fn member() -> impl Strategy<Value = (String, &'static str, &'static str)> {
    // As written, and as read.
    let values = prop::sample::select(
        &[
            ("", "1"),
            ("=?1", "1"),
            ("=?0", "0"),
            ("=5", "5"),
            ("=-5", ""),
            ("=\"a, b\"", ""),
            ("=t", ""),
            ("=(1 2)", ""),
            ("=5;p=1", "5"),
            (";p", "1"),
        ][..],
    );
    ("[a-c]{1,2}", values).prop_map(|(name, (written, read))| (name, written, read))
}

proptest! {
    #[test]
    fn any_bytes_are_read(text in prop::collection::vec(prop_oneof![
        4 => prop::sample::select(&b"\"\\,;=?:() \tab10-."[..]),
        1 => any::<u8>(),
    ], 0..40)) {
        for member in parse(&text).into_iter().flatten() {
            prop_assert!(!member.name.is_empty());
            let argument = member.argument.unwrap_or_default();
            prop_assert!(argument.bytes().all(|b| b.is_ascii_digit()));
        }
    }

    #[test]
    fn the_last_of_each_name_is_read(members in prop::collection::vec(member(), 0..6)) {
        let text: Vec<String> = members.iter().map(|(name, written, _)| format!("{name}{written}")).collect();
        let read = parse(text.join(" , ").as_bytes()).unwrap();
        for (name, _, _) in &members {
            let last = members.iter().rfind(|(other, _, _)| other == name).map(|(_, _, read)| *read);
            let found: Vec<_> = read.iter().filter(|d| d.name == *name).map(|d| d.argument.as_deref()).collect();
            let expected: &[_] = match last {
                Some("0") | None => &[],
                Some("1") => &[None],
                Some(argument) => &[Some(argument)],
            };
            prop_assert_eq!(&found, expected, "{}", text.join(", "));
        }
        // One stray byte at the end and nothing of it counts.
        let broken = text.join(", ") + "@";
        prop_assert!(parse(broken.as_bytes()).is_none());
    }
}
