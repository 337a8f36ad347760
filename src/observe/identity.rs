//! Who a request says it comes from, for the log: the user of Basic credentials or a claim of a token, never a secret.
//!
//! Nothing is verified here, and whoever reads the log is told so.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use serde_json::Value;

/// Longer names are cut.
const MOST: usize = 128;
/// Longer tokens are not looked into.
const MOST_TOKEN: usize = 16 * 1024;

/// How the user of Basic credentials is found out.
pub const BASIC: &str = "basic_unverified";

/// Who it says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// Where that was read: `basic_unverified`, `jwt_unverified`.
    pub from: &'static str,
}

/// Reads it from `Authorization` (RFC 7617, RFC 6750 with RFC 7519). `claim`: which claim of a token is the name.
pub fn of(authorization: &HeaderValue, claim: &str) -> Option<Identity> {
    let value = authorization.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    let credentials = credentials.trim();
    if credentials.len() > MOST_TOKEN {
        return None;
    }
    let (name, from) = if scheme.eq_ignore_ascii_case("basic") {
        (basic(credentials)?, BASIC)
    } else if scheme.eq_ignore_ascii_case("bearer") {
        (jwt(credentials, claim)?, "jwt_unverified")
    } else {
        return None;
    };
    let name: String = name
        .chars()
        .filter(|c| !c.is_control())
        .take(MOST)
        .collect();
    (!name.is_empty()).then_some(Identity { name, from })
}

fn basic(credentials: &str) -> Option<String> {
    let decoded = STANDARD.decode(credentials).ok()?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    String::from_utf8(decoded.get(..colon)?.to_vec()).ok()
}

fn jwt(token: &str, claim: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    match claims.get(claim)? {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn who_it_says_it_is() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let long = "x".repeat(300);
        for (value, name) in [
            (basic("ann:secret"), Some("ann")),
            (basic("ann:se:cret").replace("Basic", "bASIC"), Some("ann")),
            (basic("ann"), None),
            (basic(":secret"), None),
            (basic("a\nnn:x"), Some("ann")),
            ("Basic ???".into(), None),
            (format!("Bearer {}", token(r#"{"sub":"u-7"}"#)), Some("u-7")),
            (format!("Bearer {}", token(r#"{"sub":42}"#)), Some("42")),
            (format!("Bearer {}", token(r#"{"sub":["a"]}"#)), None),
            (format!("Bearer {}", token(r#"{"name":"a"}"#)), None),
            (format!("Bearer {}.x", token(r#"{"sub":"a"}"#)), None),
            (
                format!("Bearer {}", token(&format!(r#"{{"sub":"{long}"}}"#))),
                Some(&long[..128]),
            ),
            ("Bearer opaque".into(), None),
            ("Token abc".into(), None),
            ("".into(), None),
        ] {
            let found = of(&HeaderValue::from_str(&value).unwrap(), "sub");
            assert_eq!(found.as_ref().map(|i| i.name.as_str()), name, "{value}");
        }
    }
}
