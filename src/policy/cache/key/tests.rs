//! Who shares a key: tables, and properties of any request. Which variants there are under one is below this module.

use super::super::tests::{date, fields, forced, respectful, secs};
use super::*;
use crate::policy::cache::{Keep, lookup, storable};
use http::{Method, StatusCode};
use proptest::prelude::*;
use std::hash::{DefaultHasher, Hash, Hasher};

mod variants;

/// Stands in for a keyed hash: no two inputs of a test are likely to share it.
fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (salt, chunk) in out.chunks_mut(8).enumerate() {
        let mut hasher = DefaultHasher::new();
        (salt, bytes).hash(&mut hasher);
        chunk.copy_from_slice(&hasher.finish().to_be_bytes());
    }
    out
}

fn asks(headers: &HeaderMap) -> Asks<'_> {
    Asks {
        headers,
        told: &[],
        canary: None,
    }
}

fn key_of(policy: &CachePolicy, lines: &[(&str, &str)]) -> KeyParts {
    key(
        policy,
        "https",
        "a.example",
        "/x?y",
        asks(&fields(lines)),
        hash,
    )
}

#[test]
fn who_shares_a_key() {
    let session = || Per::Cookie("session".to_owned());
    let tenant = || Per::Header(HeaderName::from_static("x-tenant"));
    let (own, shared) = (forced(false, &[]), forced(true, &[]));
    let by_session = forced(true, &[session()]);
    let by_tenant = forced(true, &[tenant()]);
    for (why, policy, one, other, same) in [
        ("unrelated fields", &own, &[("x-a", "1")][..], &[][..], true),
        (
            "credentials",
            &own,
            &[("authorization", "Basic YQ==")],
            &[("authorization", "Basic Yg==")],
            false,
        ),
        (
            "the same credentials",
            &own,
            &[("cookie", "a=1")],
            &[("cookie", "a=1"), ("accept", "*/*")],
            true,
        ),
        ("none", &own, &[("cookie", "a=1")], &[], false),
        ("empty ones", &own, &[("cookie", "")], &[], false),
        (
            "another field",
            &own,
            &[("authorization", "x")],
            &[("proxy-authorization", "x")],
            false,
        ),
        (
            "order",
            &own,
            &[("cookie", "a"), ("cookie", "b")],
            &[("cookie", "b"), ("cookie", "a")],
            false,
        ),
        (
            "joined",
            &own,
            &[("cookie", "a"), ("cookie", "b")],
            &[("cookie", "ab")],
            false,
        ),
        (
            "moved",
            &own,
            &[("authorization", "ab"), ("cookie", "c")],
            &[("authorization", "a"), ("cookie", "bc")],
            false,
        ),
        (
            "shared",
            &shared,
            &[("authorization", "x"), ("cookie", "a=1")],
            &[("cookie", "b")],
            true,
        ),
        (
            "per header",
            &by_tenant,
            &[("x-tenant", "1")],
            &[("X-Tenant", "2")],
            false,
        ),
        (
            "per header, the origin respected",
            &respectful(&[tenant()]),
            &[("x-tenant", "1"), ("cookie", "a")],
            &[("x-tenant", "2"), ("cookie", "a")],
            false,
        ),
        (
            "credentials, the origin respected",
            &respectful(&[tenant()]),
            &[("x-tenant", "1"), ("cookie", "a")],
            &[("x-tenant", "1"), ("authorization", "b")],
            true,
        ),
        (
            "per header, absent",
            &by_tenant,
            &[("x-tenant", "")],
            &[],
            false,
        ),
        (
            "per header, twice",
            &by_tenant,
            &[("x-tenant", "1"), ("x-tenant", "2")],
            &[("x-tenant", "1")],
            false,
        ),
        (
            "per header, the rest shared",
            &by_tenant,
            &[("x-tenant", "1"), ("cookie", "b")],
            &[("x-tenant", "1")],
            true,
        ),
        (
            "per cookie",
            &by_session,
            &[("cookie", "session=1")],
            &[("cookie", "session=2")],
            false,
        ),
        (
            "per cookie, others",
            &by_session,
            &[("cookie", "a=1; session=1")],
            &[("cookie", "session=1;b=2")],
            true,
        ),
        (
            "per cookie, absent",
            &by_session,
            &[("cookie", "session=")],
            &[("cookie", "xsession=1; sessions=2")],
            false,
        ),
        (
            "per cookie, no value",
            &by_session,
            &[("cookie", "session")],
            &[("cookie", "session=")],
            false,
        ),
        (
            "per cookie, lines",
            &by_session,
            &[("cookie", "a=1"), ("cookie", "session=1")],
            &[("cookie", "session=1")],
            true,
        ),
        (
            "per cookie, a later one",
            &by_session,
            &[("cookie", "session=1; session=2")],
            &[("cookie", "session=1")],
            false,
        ),
        (
            "per cookie, behind a comma",
            &by_session,
            &[("cookie", "a=1,session=2")],
            &[("cookie", "a=1")],
            false,
        ),
        (
            "per cookie, behind a blank",
            &by_session,
            &[("cookie", "a=1 session=2")],
            &[("cookie", "a=1")],
            false,
        ),
        (
            "per cookie, a comma in it",
            &by_session,
            &[("cookie", "session=1,2")],
            &[("cookie", "session=1,3")],
            false,
        ),
        (
            "per cookie, quoted",
            &by_session,
            &[("cookie", "session=\"1;2\"")],
            &[("cookie", "session=\"1;3\"")],
            false,
        ),
        (
            "per cookie, case",
            &by_session,
            &[("cookie", "Session=1")],
            &[],
            false,
        ),
        (
            "per cookie, blanks",
            &by_session,
            &[("cookie", "session =1")],
            &[("cookie", "session =2")],
            false,
        ),
    ] {
        let equal = key_of(policy, one) == key_of(policy, other);
        assert_eq!(equal, same, "{why}: {one:?} {other:?}");
    }
}

#[test]
fn a_changed_rule_changes_the_key() {
    let lines = [("x-a", "1"), ("x-b", "1"), ("cookie", "x-a=1")];
    let header = |name| Per::Header(HeaderName::from_static(name));
    let pers = [
        vec![],
        vec![header("x-a")],
        vec![header("x-b")],
        vec![header("x-a"), header("x-b")],
        vec![Per::Cookie("x-a".to_owned())],
    ];
    let mut keys = BTreeSet::new();
    for per in &pers {
        keys.insert(key_of(&forced(false, per), &lines));
        keys.insert(key_of(&forced(true, per), &lines));
        keys.insert(key_of(&respectful(per), &lines));
    }
    assert_eq!(keys.len(), 3 * pers.len());
    // Who sends no credentials finds nothing of the time when all shared, or when the origin had its say.
    let plain = [forced(true, &[]), forced(false, &[]), respectful(&[])];
    let keys = plain.map(|policy| key_of(&policy, &[]));
    assert_eq!(BTreeSet::from(keys.clone()).len(), 3);
    // All of that is one URL's, and a different time to keep is no different rule.
    assert_eq!(
        keys.map(|key| key.url),
        [(); 3].map(|()| url("https", "a.example", "/x?y"))
    );
    let longer = CachePolicy {
        lifetime: Lifetime::Ttl(secs(1)),
        ..forced(true, &[])
    };
    assert_eq!(key_of(&longer, &[]), key_of(&forced(true, &[]), &[]));
}

#[test]
fn whose_key_is_their_own() {
    for name in ["authorization", "proxy-authorization", "cookie"] {
        assert!(personal(&forced(false, &[]), &fields(&[(name, "")])));
        assert!(!personal(&forced(true, &[]), &fields(&[(name, "x")])));
    }
    // Where the origin is respected, it says itself who may share.
    let lines = [("authorization", "x"), ("cookie", "a=1")];
    for shared in [false, true] {
        let policy = CachePolicy {
            shared,
            ..respectful(&[])
        };
        assert!(!personal(&policy, &fields(&lines)));
        assert_eq!(key_of(&policy, &lines), key_of(&respectful(&[]), &[]));
    }
    let per = [Per::Header(HeaderName::from_static("x-tenant"))];
    assert!(!personal(
        &forced(false, &per),
        &fields(&[("x-tenant", "1")])
    ));
}

#[test]
fn no_hash_is_made_without_secrets() {
    let none = |_: &[u8]| -> [u8; 32] { panic!("nothing is secret here") };
    let _ = key(
        &forced(false, &[]),
        "http",
        "a",
        "/",
        asks(&fields(&[("accept", "x")])),
        none,
    );
    for policy in [forced(true, &[]), respectful(&[])] {
        let headers = fields(&[("cookie", "x"), ("authorization", "x")]);
        let _ = key(&policy, "http", "a", "/", asks(&headers), none);
    }
}

#[test]
fn many_cookies_of_one_name_are_read_once() {
    let cookie = "session=,".repeat(7000);
    let headers = fields(&[("cookie", &cookie), ("cookie", "session=1;session=2")]);
    let pairs = cookie_pairs(&headers, "session");
    assert_eq!(pairs, [cookie.as_bytes(), b"session=1", b"session=2"]);
}

/// Components short and alike enough to run into each other if nothing kept them apart.
fn piece() -> impl Strategy<Value = String> {
    "[ab:/;= ,1]{0,4}"
}

fn request() -> impl Strategy<Value = ([String; 3], Vec<(usize, String)>)> {
    let lines = prop::collection::vec((0usize..4, piece()), 0..4);
    ([piece(), piece(), piece()], lines)
}

const NAMES: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-tenant"];

fn of_request(
    (url, lines): &([String; 3], Vec<(usize, String)>),
    policy: &CachePolicy,
) -> KeyParts {
    let lines: Vec<_> = lines
        .iter()
        .map(|(name, value)| (NAMES[*name], &value[..]))
        .collect();
    key(
        policy,
        &url[0],
        &url[1],
        &url[2],
        asks(&fields(&lines)),
        hash,
    )
}

/// What a request's key is to tell apart: the URL, and each field's values in order.
fn parts((url, lines): &([String; 3], Vec<(usize, String)>)) -> (Vec<String>, Vec<Vec<String>>) {
    let values = |field| {
        lines
            .iter()
            .filter(move |(name, _)| *name == field)
            .map(|(_, v)| v.clone())
    };
    (
        url.to_vec(),
        (0..NAMES.len())
            .map(|field| values(field).collect())
            .collect(),
    )
}

proptest! {
    #[test]
    fn keys_are_equal_exactly_when_requests_are(
        one in request(),
        other in request(),
        which in 0usize..4,
        with in piece(),
    ) {
        let policy = forced(false, &[Per::Header(HeaderName::from_static("x-tenant"))]);
        // Unrelated ones, and neighbours: one component changed, one moved on by a byte, one value more.
        let mut changed = one.clone();
        match changed.0.get_mut(which) {
            Some(part) => part.clone_from(&with),
            None => changed.1.push((which, with.clone())),
        }
        let mut moved = one.clone();
        let joined = one.0.concat();
        let cut = which.min(joined.len());
        moved.0 = [joined[..cut].to_owned(), joined[cut..].to_owned(), String::new()];
        let mut swapped = one.clone();
        swapped.1.reverse();
        for candidate in [&one, &other, &changed, &moved, &swapped] {
            let (left, right) = (of_request(&one, &policy), of_request(candidate, &policy));
            let ((url, values), (other_url, other_values)) = (parts(&one), parts(candidate));
            prop_assert_eq!(left.url == right.url, url == other_url, "{:?} {:?}", one, candidate);
            prop_assert_eq!(left.who == right.who, values == other_values, "{:?} {:?}", one, candidate);
        }
    }

    #[test]
    fn no_secret_is_in_a_key(
        secrets in prop::collection::vec("[A-Z0-9._~+=-]{8,40}", 4),
        shared: bool,
        url in "/[a-z/?]{0,20}",
    ) {
        let lines = fields(&[
            ("authorization", &format!("Bearer {}", secrets[0])),
            ("proxy-authorization", &secrets[1]),
            ("cookie", &format!("a={}; session={}", secrets[2], secrets[0])),
            ("x-tenant", &secrets[3]),
        ]);
        let per = [Per::Cookie("session".to_owned()), Per::Header(HeaderName::from_static("x-tenant"))];
        let KeyParts { url, who } = key(&forced(shared, &per), "https", "a.example", &url, asks(&lines), hash);
        let who = match who {
            Who::These(who) => who,
            // There is always what tells somebody apart.
            Who::Everybody(mode) => return Err(TestCaseError::fail(format!("{mode:?}"))),
        };
        for secret in &secrets {
            // Not even a part of one.
            for (part, key) in secret.as_bytes().windows(6).flat_map(|part| [(part, &url), (part, &who)]) {
                prop_assert!(!key.windows(6).any(|w| w == part), "{}", key.escape_ascii());
            }
        }
    }

    #[test]
    fn any_request_has_a_key(
        value in prop::collection::vec(prop_oneof![0x20..0x7fu8, 0x80..=0xffu8], 0..40),
        name in "[a-c]{0,2}",
    ) {
        let mut headers = HeaderMap::new();
        for field in ["cookie", "vary", "accept-encoding", "cache-control", "a"] {
            headers.append(field, HeaderValue::from_bytes(&value).unwrap());
        }
        let policy = forced(true, &[Per::Cookie(name)]);
        let once = key(&policy, "", "", "", asks(&headers), hash);
        prop_assert_eq!(once, key(&policy, "", "", "", asks(&headers), hash));
        prop_assert_eq!(vary_key(&headers, &headers), vary_key(&headers, &headers));
        for policy in [policy, respectful(&[])] {
            let _ = lookup(&policy, &Method::GET, &headers);
            let _ = storable(&policy, Keep::Whole, &headers, StatusCode::OK, &headers, secs(1), &date);
        }
    }
}

#[test]
fn each_canary_is_a_side_of_its_own() {
    let (policy, headers) = (forced(true, &[]), fields(&[]));
    let of = |canary| {
        let asks = Asks {
            canary,
            ..asks(&headers)
        };
        key(&policy, "https", "a.example", "/", asks, hash)
    };
    let sides = [of(None), of(Some("next")), of(Some("later"))];
    assert!(sides.iter().all(|side| side.url == sides[0].url));
    assert_eq!(
        sides.iter().collect::<std::collections::HashSet<_>>().len(),
        3
    );
}
