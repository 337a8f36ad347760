//! Bearer tokens (RFC 6750) that are JWTs: checked by signature and claims.
//!
//! Called by `authenticate::ask`. What claims must be is `policy::jwt`'s decision.

use super::Refusal;
use super::keys::{Checked, Keys};
use super::source::Source;
use super::token::Token;
use crate::policy::jwt::TokenRules;
use http::header;
use pingora::http::RequestHeader;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Who may pass by a token.
#[derive(Debug)]
pub struct Bearers {
    rules: TokenRules,
    /// By whose keys it has to be signed.
    pub source: Arc<Source>,
}

impl Bearers {
    /// Those whom the keys of `source` prove, by these rules.
    pub fn new(rules: TokenRules, source: Arc<Source>) -> Self {
        Bearers { rules, source }
    }

    /// Asks for a token.
    pub(super) async fn ask(&self, request: &RequestHeader) -> Result<String, Refusal> {
        let Some(text) = said(request) else {
            return Err(Refusal::denied(
                "authorization_required",
                "Bearer realm=\"backstop\"",
            ));
        };
        let Some(token) = Token::parse(text) else {
            return Err(invalid("token_malformed", "the token cannot be read"));
        };
        let mut checked = self.check(&token);
        if checked != Some(Checked::Right) && checked != Some(Checked::Wrong) {
            // A key that is not known yet may be a new one.
            self.source.renewed().await;
            checked = self.check(&token);
        }
        match checked {
            Some(Checked::Right) => {}
            Some(Checked::Wrong) => {
                return Err(invalid("token_signature", "the signature is wrong"));
            }
            Some(Checked::NoKey) => {
                return Err(invalid("token_key_unknown", "the key is not known"));
            }
            None => return Err(Refusal::Busy("keys_unavailable")),
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0.0, |now| now.as_secs_f64());
        let judged = self.rules.judge(&token.claims, now);
        judged.map_err(|unfit| invalid(unfit.word(), unfit.reason()))?;
        let name = token.name(&self.rules.identity);
        name.ok_or_else(|| invalid("token_nameless", "the token names nobody"))
    }

    fn check(&self, token: &Token<'_>) -> Option<Checked> {
        Some(token.check(&*self.source.keys()?))
    }
}

/// Whether this is a token that one of these keys signed; nothing of its claims is looked at.
pub fn is_signed(text: &str, keys: &Keys) -> bool {
    Token::parse(text).is_some_and(|token| token.check(keys) == Checked::Right)
}

/// RFC 6750 §3.1.
fn invalid(word: &'static str, why: &'static str) -> Refusal {
    let challenge =
        format!("Bearer realm=\"backstop\", error=\"invalid_token\", error_description=\"{why}\"");
    Refusal::denied(word, challenge)
}

/// The token that a request bears; `None` also where there are two.
fn said(request: &RequestHeader) -> Option<&str> {
    let mut values = request.headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
