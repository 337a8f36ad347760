//! `cors`, `security_headers` and `error_pages` together: what answers are given, whoever made them.
//!
//! A route has them, and so have the answers that no route makes: for those, what `defaults` say holds. Used by `routes`
//! and `compile`.

use super::cors::CorsSpec;
use super::error_pages::{ErrorPagesSpec, PageFiles};
use super::switch::Switch;
use crate::policy::route::AnswerRules;
use serde::Serialize;

/// The three, merged and filled in.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AnswersSpec {
    pub(crate) cors: Switch<CorsSpec>,
    pub(crate) security_headers: bool,
    pub(crate) error_pages: Switch<ErrorPagesSpec>,
}

impl AnswersSpec {
    /// What the proxy goes by; `None` where there is nothing to do.
    pub(crate) fn compile(&self, files: &PageFiles) -> Option<AnswerRules> {
        let rules = AnswerRules {
            cors: self.cors.on().map(CorsSpec::compile),
            security_headers: self.security_headers,
            error_pages: self.error_pages.on().and_then(|pages| pages.compile(files)),
        };
        let any = rules.cors.is_some() || rules.security_headers || rules.error_pages.is_some();
        any.then_some(rules)
    }

    /// Whether there is nothing to say of it.
    pub(crate) fn is_off(&self) -> bool {
        self.cors.on().is_none() && !self.security_headers && self.error_pages.on().is_none()
    }
}
