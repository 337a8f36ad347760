//! Whether the claims of a token let its bearer pass (RFC 7519 §4.1).
//!
//! Asked by `proxy::authenticate` once the signature was found right. Time is passed in.

use std::time::Duration;

/// What a route asks of a token's claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// Who has to have issued it; whoever has the key, if nobody is named.
    pub issuer: Option<String>,
    /// For whom it has to be: for one of these, or for anybody if there are none.
    pub audience: Vec<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// The claim that names its bearer.
    pub identity: String,
}

/// Those claims of a token that decide.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims {
    /// `iss`.
    pub issuer: Option<String>,
    /// `aud`, of which there may be several.
    pub audience: Vec<String>,
    /// `exp`, in seconds since 1970.
    pub expires: Option<f64>,
    /// `nbf`, in the same.
    pub not_before: Option<f64>,
}

/// Why a token is not good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Its time is over.
    Expired,
    /// Its time has not come.
    Early,
    /// It would hold for ever: nobody could take it back.
    Endless,
    /// Somebody else issued it.
    Issuer,
    /// It is for somebody else.
    Audience,
}

impl Unfit {
    /// The log's word.
    pub fn word(self) -> &'static str {
        match self {
            Unfit::Expired => "token_expired",
            Unfit::Early => "token_early",
            Unfit::Endless => "token_endless",
            Unfit::Issuer => "token_issuer",
            Unfit::Audience => "token_audience",
        }
    }

    /// What its bearer is told.
    pub fn reason(self) -> &'static str {
        match self {
            Unfit::Expired => "the token has expired",
            Unfit::Early => "the token is not valid yet",
            Unfit::Endless => "the token has no exp",
            Unfit::Issuer => "the token is from another issuer",
            Unfit::Audience => "the token is for another audience",
        }
    }
}

impl TokenRules {
    /// Whether the bearer may pass, so many seconds after 1970 began.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, claims: &Claims, now: f64) -> Result<(), Unfit> {
        let leeway = self.leeway.as_secs_f64();
        let expires = claims.expires.ok_or(Unfit::Endless)?;
        // At the very second it is over (§4.1.4).
        if now >= expires + leeway {
            return Err(Unfit::Expired);
        }
        if claims.not_before.is_some_and(|begin| now + leeway < begin) {
            return Err(Unfit::Early);
        }
        if self.issuer.is_some() && self.issuer != claims.issuer {
            return Err(Unfit::Issuer);
        }
        let is_ours = claims.audience.iter().any(|a| self.audience.contains(a));
        if !self.audience.is_empty() && !is_ours {
            return Err(Unfit::Audience);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_judged() {
        let rules = TokenRules {
            issuer: Some("idp".into()),
            audience: vec!["api".into(), "web".into()],
            leeway: Duration::from_secs(30),
            identity: "sub".into(),
        };
        let open = TokenRules {
            issuer: None,
            audience: Vec::new(),
            ..rules.clone()
        };
        let claims = |exp: Option<f64>, nbf: Option<f64>, iss: &str, aud: &[&str]| Claims {
            issuer: (!iss.is_empty()).then(|| iss.to_string()),
            audience: aud.iter().map(ToString::to_string).collect(),
            expires: exp,
            not_before: nbf,
        };
        let now = 1000.0;
        for (rules, claims, judged) in [
            (&rules, claims(Some(1001.0), None, "idp", &["api"]), Ok(())),
            (
                &rules,
                claims(Some(970.1), None, "idp", &["web", "x"]),
                Ok(()),
            ),
            (
                &rules,
                claims(Some(970.0), None, "idp", &["api"]),
                Err(Unfit::Expired),
            ),
            (
                &rules,
                claims(Some(2000.0), Some(1030.0), "idp", &["api"]),
                Ok(()),
            ),
            (
                &rules,
                claims(Some(2000.0), Some(1030.1), "idp", &["api"]),
                Err(Unfit::Early),
            ),
            (
                &rules,
                claims(None, None, "idp", &["api"]),
                Err(Unfit::Endless),
            ),
            (
                &rules,
                claims(Some(2000.0), None, "other", &["api"]),
                Err(Unfit::Issuer),
            ),
            (
                &rules,
                claims(Some(2000.0), None, "", &["api"]),
                Err(Unfit::Issuer),
            ),
            (
                &rules,
                claims(Some(2000.0), None, "idp", &["API"]),
                Err(Unfit::Audience),
            ),
            (
                &rules,
                claims(Some(2000.0), None, "idp", &[]),
                Err(Unfit::Audience),
            ),
            (&open, claims(Some(2000.0), None, "", &[]), Ok(())),
            (&open, claims(Some(2000.0), None, "any", &["any"]), Ok(())),
            (
                &open,
                claims(Some(-1.0), None, "", &[]),
                Err(Unfit::Expired),
            ),
        ] {
            assert_eq!(rules.judge(&claims, now), judged, "{claims:?}");
        }
    }

    #[test]
    fn each_reason_has_a_word_of_its_own() {
        use Unfit::{Audience, Early, Endless, Expired, Issuer};
        let all = [Expired, Early, Endless, Issuer, Audience];
        let words: std::collections::BTreeSet<_> = all.map(Unfit::word).into();
        let reasons: std::collections::BTreeSet<_> = all.map(Unfit::reason).into();
        assert_eq!((words.len(), reasons.len()), (5, 5));
    }
}
