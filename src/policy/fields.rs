//! Looking for a field in a head.
//!
//! A head has few fields, and each request has some thirty questions of this kind asked, nearly all of them in vain. To walk
//! along the names of so few is faster than to hash one for each question.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Up to how many fields are walked along.
const FEW: usize = 16;

/// Whether a field is there.
pub fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    match headers.keys_len() <= FEW {
        true => headers.keys().any(|other| other == name),
        false => headers.contains_key(name),
    }
}

/// Its first value.
pub fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    match headers.keys_len() <= FEW {
        // The first of several values comes first.
        true => headers
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value),
        false => headers.get(name),
    }
}

/// The first value of each of these, in one walk.
pub fn firsts<'a, const N: usize>(
    headers: &'a HeaderMap,
    names: [&HeaderName; N],
) -> [Option<&'a HeaderValue>; N] {
    if headers.keys_len() > FEW {
        return names.map(|name| headers.get(name));
    }
    let mut found = [None; N];
    for (other, value) in headers {
        for (name, first) in names.iter().zip(&mut found) {
            if first.is_none() && *name == other {
                *first = Some(value);
            }
        }
    }
    found
}

/// All its values, in order.
pub fn all<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a HeaderValue> + use<'a> {
    let values = has(headers, name).then(|| headers.get_all(name).iter());
    values.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However many there are.
        #[test]
        fn what_is_found_is_what_is_there(
            fields in prop::collection::vec(("[a-c]{1,3}|host|cookie|range", "[a-z]{0,5}"), 0..60),
            name in "[a-c]{1,3}|host|cookie|range",
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                headers.append(
                    HeaderName::try_from(name.as_str()).unwrap(),
                    HeaderValue::try_from(value.as_str()).unwrap(),
                );
            }
            let name = HeaderName::try_from(name.as_str()).unwrap();
            prop_assert_eq!(has(&headers, &name), headers.contains_key(&name));
            prop_assert_eq!(first(&headers, &name), headers.get(&name));
            let other = HeaderName::from_static("a");
            let expected = [headers.get(&other), headers.get(&name), headers.get(&name)];
            prop_assert_eq!(firsts(&headers, [&other, &name, &name]), expected);
            prop_assert!(all(&headers, &name).eq(headers.get_all(&name).iter()));
        }
    }
}
