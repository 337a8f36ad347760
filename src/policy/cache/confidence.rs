//! Whether the head of an answer repeats what its request said in confidence: then no file may have it.
//!
//! `proxy/` asks of each answer before it is stored. Bodies are not looked at; what they say is stored as it is.

use super::{CachePolicy, Per};
use http::{HeaderMap, header};

/// Values shorter than this are in nearly every head by chance, and no secrets.
const SECRET: usize = 8;

/// How often a value is decoded: a URL in the query of a URL in a query.
const DEPTH: usize = 3;

/// Whether a field of an answer contains the query of its request (`target` is path and query), a value in it, or a
/// credential, escaped (RFC 3986 §2.1) or not.
///
/// Short values count only together with their name, `session=1`, and a query with its `?`. What a route's `per` names
/// counts as a credential: it is what the route knows people by.
pub fn repeats_request(
    policy: &CachePolicy,
    target: &str,
    request: &HeaderMap,
    answer: &HeaderMap,
) -> bool {
    let said = said_in_confidence(policy, target, request);
    if said.is_empty() {
        return false;
    }
    let has = |text: &[u8]| said.iter().any(|secret| contains(text, secret));
    answer
        .values()
        .any(|value| any_decoding(value.as_bytes(), has))
}

/// What no file may have, as it stands and decoded.
fn said_in_confidence(policy: &CachePolicy, target: &str, request: &HeaderMap) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    if let Some((_, query)) = target.split_once('?') {
        add(&mut said, format!("?{query}").as_bytes(), 2);
        add(&mut said, query.as_bytes(), SECRET);
        for part in query.split(['&', ';']) {
            let value = part.split_once('=').map_or(part, |(_, value)| value);
            add(&mut said, value.as_bytes(), SECRET);
        }
    }
    for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION] {
        for value in request.get_all(name) {
            add(&mut said, value.as_bytes(), SECRET);
            // The scheme, and what of it might be repeated without.
            for word in value.as_bytes().split(|b| b" \t,\"".contains(b)) {
                add(&mut said, word, SECRET);
            }
        }
    }
    for line in request.get_all(header::COOKIE) {
        for pair in line.as_bytes().split(|b| b";, \t".contains(b)) {
            let equals = pair.iter().position(|b| *b == b'=');
            let Some(equals) = equals.filter(|equals| *equals > 0) else {
                add(&mut said, pair, SECRET);
                continue;
            };
            add(&mut said, pair, 3);
            add(&mut said, pair[equals + 1..].trim_ascii(), SECRET);
        }
    }
    for per in &policy.per {
        if let Per::Header(name) = per {
            for value in request.get_all(name) {
                add(&mut said, value.as_bytes(), SECRET);
            }
        }
    }
    said
}

/// Adds a value of at least so many bytes, and what it stands for.
fn add(said: &mut Vec<Vec<u8>>, value: &[u8], least: usize) {
    let mut next = Some(value.trim_ascii().to_vec());
    for _ in 0..DEPTH {
        let Some(value) = next.filter(|value| value.len() >= least) else {
            return;
        };
        next = decoded(&value);
        said.push(value);
    }
}

/// Whether this holds of a text, or of what it stands for.
fn any_decoding(text: &[u8], holds: impl Fn(&[u8]) -> bool) -> bool {
    if holds(text) {
        return true;
    }
    let mut next = decoded(text);
    for _ in 0..DEPTH {
        let Some(text) = next else { return false };
        if holds(&text) {
            return true;
        }
        next = decoded(&text);
    }
    false
}

/// With its escapes resolved; `None` where there are none.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut found = false;
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = after;
        let escaped = match (byte, digit(after.first()), digit(after.get(1))) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        if escaped.is_some() {
            found = true;
            rest = after.get(2..).unwrap_or_default();
        }
        out.push(escaped.unwrap_or(*byte));
    }
    found.then_some(out)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.len() <= text.len() && text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fields, forced, respectful};
    use super::*;

    const CREDENTIALS: [(&str, &str); 3] = [
        ("authorization", "Bearer token-of-ann"),
        ("cookie", "a=1; session=secret%20of-ann"),
        ("x-key", "key-of-ann"),
    ];

    fn repeats(target: &str, name: &str, value: &str) -> bool {
        let (request, answer) = (fields(&CREDENTIALS), fields(&[(name, value)]));
        let per = [Per::Header("x-key".parse().unwrap())];
        let one = repeats_request(&respectful(&per), target, &request, &answer);
        let other = repeats_request(&forced(false, &per), target, &request, &answer);
        assert_eq!(one, other);
        one
    }

    #[test]
    fn what_is_repeated_is_found() {
        for (target, value) in [
            ("/a?b", "/a/?b"),
            ("/a?b=1&token=x", "/a/?b=1&token=x#end"),
            (
                "/a?token=query-secret",
                "</a?x=1&token=query-secret>; rel=next",
            ),
            ("/a?token=query-secret", "query-secret"),
            (
                "/a?token=query-secret",
                "/login?next=%2Fa%3ftoken%3Dquery-secret",
            ),
            (
                "/a?token=query-secret",
                "/x?n=%252Fa%253Ftoken%253Dquery%252Dsecret",
            ),
            ("/a?token=query%2Dsecret", "query-secret"),
            ("/", "Bearer token-of-ann"),
            ("/", "token-of-ann"),
            ("/", "for=token-of-ann;x"),
            ("/", "a=1"),
            ("/", "secret%20of-ann"),
            ("/", "\"secret of-ann\""),
            ("/", "key-of-ann"),
        ] {
            assert!(repeats(target, "x-any", value), "{target}: {value}");
            assert!(repeats(target, "location", value), "{target}: {value}");
        }
    }

    #[test]
    fn what_is_not_repeated_does_not_count() {
        for (target, value) in [
            ("/a?page=1", "Sat, 21 Nov 2026 01:02:03 GMT"),
            ("/a?page=1", "</a?page=2>; rel=next"),
            ("/a?b", "b"),
            ("/a?", "/a/?"),
            ("/path-is-no-secret", "/path-is-no-secret/"),
            ("/", "Bearer"),
            ("/", "token-of-bob"),
            ("/", "1"),
            ("/", "50%"),
        ] {
            assert!(!repeats(target, "x-any", value), "{target}: {value}");
        }
    }
}
