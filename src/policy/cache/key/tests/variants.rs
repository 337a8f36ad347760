//! Which requests share one of several answers.

use super::*;

#[test]
fn variants() {
    const ENCODING: &[(&str, &str)] = &[("vary", "accept-encoding")];
    for (vary, one, other, same) in [
        (
            &[("vary", "Accept")][..],
            &[("accept", "a")][..],
            &[("accept", "b")][..],
            false,
        ),
        (&[("vary", "Accept")], &[("accept", "")], &[], false),
        (
            &[("vary", "Accept")],
            &[("accept", "a"), ("x", "1")],
            &[("accept", "a")],
            true,
        ),
        (
            &[("vary", "X-A, x-b")],
            &[("x-a", "1"), ("x-b", "")],
            &[("x-a", "1")],
            false,
        ),
        (
            &[("vary", "x-a x-b")],
            &[("x-b", "1")],
            &[("x-b", "2")],
            false,
        ),
        (
            &[("vary", "x-a"), ("vary", "x-b")],
            &[("x-b", "1")],
            &[("x-b", "2")],
            false,
        ),
        (
            &[("vary", "x-a")],
            &[("x-a", "1"), ("x-a", "2")],
            &[("x-a", "12")],
            false,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip, br")],
            &[("accept-encoding", "BR;q=0.5 ,, x-gzip;q=1.000")],
            true,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip, br;q=0")],
            &[("accept-encoding", "gzip")],
            true,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip"), ("accept-encoding", "br")],
            &[("accept-encoding", "br,gzip")],
            true,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip")],
            &[("accept-encoding", "br")],
            false,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip;q=0.001")],
            &[("accept-encoding", "gzip;q=0.000")],
            false,
        ),
        (ENCODING, &[("accept-encoding", "")], &[], false),
        (
            ENCODING,
            &[("accept-encoding", "gzip;q=0")],
            &[("accept-encoding", "")],
            true,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip, identity;q=0")],
            &[("accept-encoding", "gzip")],
            false,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip, *;q=0")],
            &[("accept-encoding", "gzip")],
            false,
        ),
        (
            ENCODING,
            &[("accept-encoding", "*, br;q=0")],
            &[("accept-encoding", "*")],
            false,
        ),
        // What cannot be understood matches only itself.
        (
            ENCODING,
            &[("accept-encoding", "gzip;q=2")],
            &[("accept-encoding", "gzip")],
            false,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip;q=0.0001")],
            &[("accept-encoding", "gzip")],
            false,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip;level=1")],
            &[("accept-encoding", "gzip")],
            false,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip, gzip;q=0")],
            &[("accept-encoding", "gzip")],
            false,
        ),
        (
            ENCODING,
            &[("accept-encoding", "gzip br")],
            &[("accept-encoding", "gzip, br")],
            false,
        ),
        (
            ENCODING,
            &[("accept-encoding", ";q=1")],
            &[("accept-encoding", "")],
            false,
        ),
    ] {
        let of = |lines| vary_key(&fields(vary), &fields(lines)).unwrap();
        assert_eq!(of(one) == of(other), same, "{vary:?} {one:?} {other:?}");
    }
    let request = fields(&[("accept", "a"), ("x", "b")]);
    let of = |value| vary_key(&fields(&[("vary", value)]), &request);
    assert_eq!(of("X, accept,x"), of("Accept, X"));
    assert_ne!(of("x"), of("accept, x"));
    assert_eq!(of(" , "), None);
    assert_eq!(vary_key(&HeaderMap::new(), &request), None);
}

const NAMES: [&str; 3] = ["cookie", "x-a", "x-b"];

/// Short values that could run into each other, each for one of [`NAMES`].
fn lines() -> impl Strategy<Value = Vec<(usize, String)>> {
    prop::collection::vec((0..NAMES.len(), "[ab,= ]{0,3}"), 0..4)
}

fn request(lines: &[(usize, String)]) -> HeaderMap {
    let lines = lines.iter().map(|(name, value)| (NAMES[*name], &value[..]));
    fields(&lines.collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn keys_are_equal_exactly_when_values_are(one in lines(), other in lines()) {
        let of = |lines| vary_key(&fields(&[("vary", "x-b, cookie, X-A")]), &request(lines));
        // Of what is a list, the members count; of a cookie, every byte.
        let values = |lines: &[(usize, String)]| {
            let members = lines.iter().flat_map(|(name, value)| match name {
                0 => vec![(*name, value.clone())],
                _ => value.split(',').map(|m| (*name, m.trim().to_owned())).collect(),
            });
            let mut values: Vec<_> = members.collect();
            values.sort_by_key(|(name, _)| *name);
            values
        };
        prop_assert_eq!(of(&one) == of(&other), values(&one) == values(&other));
        prop_assert_eq!(of(&one), of(&values(&one)));
    }
}
