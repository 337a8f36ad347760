//! A token as it comes with a request: a JWT in the compact form (RFC 7519 §3, RFC 7515 §7.1).
//!
//! Read here, and nothing of it believed: its signature is looked at by [`super::keys`], its claims by `policy::jwt`.

use super::keys::{Checked, Keys};
use crate::policy::jwt::Claims;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longer ones are none.
const MOST: usize = 16 * 1024;

/// A token, taken apart.
#[derive(Debug)]
pub(super) struct Token<'a> {
    /// `alg`, as written.
    pub(super) algorithm: String,
    /// `kid`.
    pub(super) key: Option<String>,
    /// What the signature is of.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
    pub(super) claims: Claims,
    all: Map<String, Value>,
}

/// The JOSE header (RFC 7515 §4.1). What is there twice is an error.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Extensions that have to be understood; there are none that are.
    crit: Option<Value>,
}

/// Claims that decide, in their forms (RFC 7519 §4.1). One in another form makes the token none.
#[derive(Deserialize)]
struct Registered {
    iss: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl<'a> Token<'a> {
    /// Takes a token apart; `None` if it is none.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MOST {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let head: Head = serde_json::from_slice(&decode(head)?).ok()?;
        if head.crit.is_some() {
            return None;
        }
        let claims = decode(claims)?;
        let registered: Registered = serde_json::from_slice(&claims).ok()?;
        Some(Token {
            algorithm: head.alg,
            key: head.kid,
            signed,
            signature: decode(signature)?,
            claims: Claims {
                issuer: registered.iss,
                audience: match registered.aud {
                    None => Vec::new(),
                    Some(Audience::One(one)) => vec![one],
                    Some(Audience::Several(several)) => several,
                },
                expires: registered.exp,
                not_before: registered.nbf,
            },
            all: serde_json::from_slice(&claims).ok()?,
        })
    }

    /// What these keys say of its signature.
    pub(super) fn check(&self, keys: &Keys) -> Checked {
        let (signed, signature) = (self.signed.as_bytes(), &self.signature);
        keys.check(&self.algorithm, self.key.as_deref(), signed, signature)
    }

    /// What a claim says that names somebody.
    pub(super) fn name(&self, claim: &str) -> Option<String> {
        match self.all.get(claim)? {
            Value::String(name) if !name.is_empty() => Some(name.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(head: &str, claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(head), encode(claims))
    }

    #[test]
    fn tokens_are_taken_apart() {
        let text = token(
            r#"{"alg":"ES256","kid":"1","typ":"JWT"}"#,
            r#"{"iss":"idp","aud":["a","b"],"exp":12.5,"nbf":3,"sub":"ann","n":7,"o":{}}"#,
        );
        let token = Token::parse(&text).unwrap();
        assert_eq!(
            (&*token.algorithm, token.key.as_deref()),
            ("ES256", Some("1"))
        );
        assert_eq!(token.signature, b"sig");
        assert!(text.starts_with(token.signed) && text.len() == token.signed.len() + 5);
        let claims = Claims {
            issuer: Some("idp".into()),
            audience: vec!["a".into(), "b".into()],
            expires: Some(12.5),
            not_before: Some(3.0),
        };
        assert_eq!(token.claims, claims);
        let names = ["sub", "n", "o", "absent"].map(|claim| token.name(claim));
        assert_eq!(names, [Some("ann".into()), Some("7".into()), None, None]);
    }

    #[test]
    fn what_is_no_token() {
        let head = r#"{"alg":"HS256"}"#;
        for text in [
            String::new(),
            "..".into(),
            "a.b".into(),
            format!("{}.x", token(head, "{}")),
            format!("{}=", token(head, "{}")),
            token(head, "[]"),
            token(head, "{"),
            token("{}", "{}"),
            token(r#"{"alg":"HS256","alg":"none"}"#, "{}"),
            token(r#"{"alg":"HS256","crit":["exp"]}"#, "{}"),
            token(r#"{"alg":5}"#, "{}"),
            token(head, r#"{"exp":"soon"}"#),
            token(head, r#"{"exp":1,"exp":9}"#),
            token(head, r#"{"nbf":"0"}"#),
            token(head, r#"{"aud":7}"#),
            token(head, r#"{"iss":7}"#),
            token(head, &format!(r#"{{"sub":"{}"}}"#, "x".repeat(MOST))),
        ] {
            assert!(Token::parse(&text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,40}", head in "\\PC{0,30}", claims in "\\PC{0,30}") {
            let _ = Token::parse(&text);
            let _ = Token::parse(&token(&head, &claims));
        }
    }
}
