//! Whether and when a request that is late is sent a second time, to another backend, while the first goes on.
//!
//! The idea and its name are from Dean and Barroso, The Tail at Scale (2013). `proxy::hedge` asks and does it. The first good
//! answer wins. Never for a request with a side effect: both backends carry it out.

use super::budget::BudgetRules;
use super::retry::Conditions;
use http::{Method, StatusCode};
use std::time::Duration;

/// A route's rules for second requests.
#[derive(Debug, Clone, PartialEq)]
pub struct HedgeRules {
    /// When a request is late.
    pub after: After,
    /// Which are sent twice at all; only of those without side effects (RFC 9110 §9.2.1).
    pub methods: Vec<Method>,
    /// How many of a route's requests are.
    pub budget: BudgetRules,
}

/// When a request is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// When it takes longer than 95 of 100 of late.
    P95,
    /// After this time.
    Fixed(Duration),
}

/// Answers without which it is not known what is late.
pub const ENOUGH: u64 = 20;

/// Whether a request with this method may be sent twice.
pub fn may(rules: &HedgeRules, method: &Method) -> bool {
    method.is_safe() && rules.methods.contains(method)
}

/// When a request is late; none while that is not known. `p95` is asked only where it counts.
pub fn delay(rules: &HedgeRules, p95: impl FnOnce() -> Option<Duration>) -> Option<Duration> {
    match rules.after {
        After::Fixed(after) => Some(after),
        After::P95 => p95(),
    }
}

/// Whether a second answer may take the place of a first that may still come: a final one, that neither failed, by what the
/// route counts as that (`on`), nor speaks of this backend rather than of what is asked for.
pub fn is_good(status: StatusCode, on: &Conditions) -> bool {
    let of_the_backend = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::MISDIRECTED_REQUEST,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    let code = status.as_u16();
    (200..500).contains(&code) && !of_the_backend.contains(&status) && !on.lists_status(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(after: After, methods: &[Method]) -> HedgeRules {
        HedgeRules {
            after,
            methods: methods.to_vec(),
            budget: BudgetRules::default(),
        }
    }

    #[test]
    fn only_what_has_no_side_effect() {
        let all = [Method::GET, Method::HEAD, Method::PUT, Method::POST];
        let rules = rules(After::P95, &all);
        for (method, expected) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::OPTIONS, false),
            (Method::PUT, false),
            (Method::POST, false),
        ] {
            assert_eq!(may(&rules, &method), expected, "{method}");
        }
    }

    #[test]
    fn what_ends_the_wait_for_the_first() {
        let on = Conditions {
            statuses: vec![410, 500],
            ..Conditions::default()
        };
        for (status, good) in [
            (103, false),
            (200, true),
            (304, true),
            (403, true),
            (404, true),
            (408, false),
            (410, false),
            (421, false),
            (425, false),
            (429, false),
            (500, false),
            (501, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_good(status, &on), good, "{status}");
        }
    }

    #[test]
    fn late_is_what_the_file_or_experience_says() {
        let ms = Duration::from_millis;
        let fixed = rules(After::Fixed(ms(800)), &[]);
        assert_eq!(delay(&fixed, || Some(ms(5))), Some(ms(800)));
        let p95 = rules(After::P95, &[]);
        assert_eq!(delay(&p95, || Some(ms(5))), Some(ms(5)));
        assert_eq!(delay(&p95, || None), None);
    }
}
