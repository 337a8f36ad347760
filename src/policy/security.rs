//! The fields by which browsers are told to be careful, and those that tell too much.
//!
//! `proxy` asks for the [`edits`] of each answer of a route with `security_headers`. `Strict-Transport-Security` is not
//! among them: it belongs to a listener.

use super::headers::Edit;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Set where the upstream says nothing of its own. Content is taken for what its type says; other sites may not frame it,
/// learn from where on the site a link was followed, or hold on to its window; it gets at none of the devices.
static CAREFUL: [(HeaderName, HeaderValue); 5] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::X_FRAME_OPTIONS,
        HeaderValue::from_static("SAMEORIGIN"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("strict-origin-when-cross-origin"),
    ),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// What only tells which programs to attack.
static TELLING: [HeaderName; 2] = [header::SERVER, HeaderName::from_static("x-powered-by")];

/// How the fields of an answer change.
pub fn edits(response: &HeaderMap) -> Vec<Edit<'static>> {
    let telling = TELLING.iter().filter(|name| response.contains_key(*name));
    let missing = CAREFUL
        .iter()
        .filter(|(name, _)| !response.contains_key(name));
    telling
        .map(Edit::Remove)
        .chain(missing.map(|(name, value)| Edit::Set(name, value.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(response: &[(&'static str, &'static str)]) -> Vec<String> {
        let fields = response
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        edits(&fields.collect())
            .into_iter()
            .map(|edit| match edit {
                Edit::Remove(name) => format!("- {name}"),
                Edit::Set(name, _) => format!("= {name}"),
                Edit::Add(name, _) => format!("+ {name}"),
            })
            .collect()
    }

    #[test]
    fn what_is_missing_is_set_and_what_tells_goes() {
        let all = [
            "= x-content-type-options",
            "= x-frame-options",
            "= referrer-policy",
            "= permissions-policy",
            "= cross-origin-opener-policy",
        ];
        assert_eq!(said(&[("content-type", "text/html")]), all);
        assert_eq!(
            said(&[
                ("server", "old/1.0"),
                ("x-powered-by", "older"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "no-referrer"),
            ]),
            [
                "- server",
                "- x-powered-by",
                "= x-content-type-options",
                "= permissions-policy",
                "= cross-origin-opener-policy",
            ]
        );
    }
}
