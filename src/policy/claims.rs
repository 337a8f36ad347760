//! What a client may not say of itself, because only a proxy may, and in which spellings it would be believed.

use http::HeaderName;
use std::borrow::Cow;

/// Fields that this program writes itself, which have a `-`.
const OURS: [&str; 5] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// How the names of fields begin by which services decide who may pass; not all go by the same.
const BEGINNINGS: [&str; 6] = [
    "x-forwarded-",
    "x-original-",
    "x-rewrite-",
    "x-auth-request-",
    "x-real-ip",
    "forwarded",
];

/// The name that servers that make variables of fields (RFC 3875 §4.1.18) take this one for; `None` if that is its own.
fn alias(name: &HeaderName) -> Option<HeaderName> {
    let name = name.as_str();
    let is_one = name.bytes().any(|byte| byte == b'_');
    is_one.then(|| HeaderName::try_from(name.replace('_', "-")).ok())?
}

/// Whether a field would be taken for one that is ours, or that is `told` or edited otherwise.
pub fn passes_for(name: &HeaderName, is_told: impl Fn(&HeaderName) -> bool) -> bool {
    alias(name).is_some_and(|alias| OURS.contains(&alias.as_str()) || is_told(&alias))
}

/// Whether a field says something of the request by which a service might decide.
pub fn is_claim(name: &HeaderName) -> bool {
    let name = match name.as_str().contains('_') {
        true => Cow::Owned(name.as_str().replace('_', "-")),
        false => Cow::Borrowed(name.as_str()),
    };
    BEGINNINGS.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_pass_for_others() {
        let told = |name: &HeaderName| name == "x-user";
        for (name, passes) in [
            ("x_user", true),
            ("x_forwarded-for", true),
            ("x_forwarded_for", true),
            ("x_real_ip", true),
            // The very name is replaced, not taken for another.
            ("x-user", false),
            ("x-real-ip", false),
            ("my_own", false),
            ("x__user", false),
        ] {
            assert_eq!(
                passes_for(&HeaderName::from_static(name), told),
                passes,
                "{name}"
            );
        }
    }

    #[test]
    fn what_services_decide_by() {
        for (name, claim) in [
            ("x-original-url", true),
            ("x_original_url", true),
            ("x-forwarded-prefix", true),
            ("x-rewrite-url", true),
            ("x-auth-request-redirect", true),
            ("x-real-ip", true),
            ("forwarded", true),
            ("cookie", false),
            ("authorization", false),
            ("x-forward", false),
        ] {
            assert_eq!(is_claim(&HeaderName::from_static(name)), claim, "{name}");
        }
    }
}
