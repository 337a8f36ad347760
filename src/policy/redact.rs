//! Which values of a query are secrets, and a target without them, fit for a log.
//!
//! `observe::access_log` holds the names, `proxy` asks for each line. It knows names only: a secret under a name that is not
//! listed is not found out.

use super::eights;
use std::borrow::Cow;

/// Names under which secrets commonly come, in lower case.
pub const USUAL: [&str; 24] = [
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth",
    "authorization",
    "client_secret",
    "code",
    "id_token",
    "jwt",
    "key",
    "passwd",
    "password",
    "pwd",
    "refresh_token",
    "secret",
    "session",
    "sessionid",
    "sig",
    "signature",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
];

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// The names of parameters whose values are secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    names: Vec<String>,
}

impl Default for Redaction {
    fn default() -> Self {
        Redaction::new(USUAL)
    }
}

impl Redaction {
    /// Of parameters with these names, in any case.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names = names
            .into_iter()
            .map(|name| name.into().to_ascii_lowercase());
        Redaction {
            names: names.collect(),
        }
    }

    /// The target with `***` for each secret. Names are compared decoded, so that `%74oken` is `token`.
    pub fn redact<'a>(&self, target: &'a str) -> Cow<'a, str> {
        // Most have none, and looking for a character in a text this short takes several times as long.
        if !eights::has(target.as_bytes(), b'/', |eight| eights::is(eight, b'?')) {
            return Cow::Borrowed(target);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let is_secret = |pair: &str| {
            pair.split_once('=')
                .is_some_and(|(name, value)| !value.is_empty() && self.names_it(name))
        };
        if !query.split(['&', ';']).any(is_secret) {
            return Cow::Borrowed(target);
        }
        let mut told = String::with_capacity(target.len());
        told.push_str(path);
        told.push('?');
        let mut rest = query;
        loop {
            let end = rest.find(['&', ';']).unwrap_or(rest.len());
            let (pair, after) = rest.split_at(end);
            match pair.split_once('=') {
                Some((name, _)) if is_secret(pair) => {
                    told.push_str(name);
                    told.push('=');
                    told.push_str(HIDDEN);
                }
                _ => told.push_str(pair),
            }
            let Some(delimiter) = after.chars().next() else {
                return Cow::Owned(told);
            };
            told.push(delimiter);
            rest = after.get(1..).unwrap_or_default();
        }
    }

    fn names_it(&self, name: &str) -> bool {
        let mut decoded = String::new();
        let mut bytes = name.bytes();
        while let Some(byte) = bytes.next() {
            let byte = match byte {
                b'+' => b' ',
                b'%' => {
                    let mut digit = || char::from(bytes.next()?).to_digit(16);
                    let (Some(high), Some(low)) = (digit(), digit()) else {
                        return false;
                    };
                    // Two hexadecimal digits fit into a byte.
                    (high * 16 + low) as u8
                }
                byte => byte,
            };
            decoded.push(char::from(byte.to_ascii_lowercase()));
        }
        // `a[token]` and `a.token` are ways of frameworks to name a token.
        let last = decoded.rsplit(['[', '.']).next().unwrap_or_default();
        let last = last.trim_end_matches(']');
        self.names
            .iter()
            .any(|known| *known == decoded || *known == last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_is_as_it_was() {
        let redaction = Redaction::default();
        for (target, told) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?b=c", "/a?b=c"),
            ("/token=x", "/token=x"),
            ("/a?token=s3cret", "/a?token=***"),
            ("/a?TOKEN=s3cret&b=c", "/a?TOKEN=***&b=c"),
            ("/a?b=c;token=s3cret;d", "/a?b=c;token=***;d"),
            ("/a?%74oken=s3cret", "/a?%74oken=***"),
            ("/a?user[password]=s3cret", "/a?user[password]=***"),
            ("/a?token", "/a?token"),
            ("/a?token=", "/a?token="),
            ("/a?tokens=2", "/a?tokens=2"),
            ("/a?token=a=b&token=c", "/a?token=***&token=***"),
            ("/a?x?token=s3cret&", "/a?x?token=s3cret&"),
            ("/a?%zz=1&token=s3cret", "/a?%zz=1&token=***"),
        ] {
            assert_eq!(redaction.redact(target), told, "{target}");
        }
        let own = Redaction::new(["Patient"]);
        assert_eq!(own.redact("/a?patient=1&token=2"), "/a?patient=***&token=2");
    }

    proptest! {
        #[test]
        fn no_value_of_a_listed_name_remains(
            before in "[a-z=&;%0-9]{0,12}",
            after in "[a-z=&;%0-9]{0,12}",
        ) {
            let target = format!("/p?{before}&token=S3CRET&{after}");
            prop_assert!(!Redaction::default().redact(&target).contains("S3CRET"));
        }
    }
}
