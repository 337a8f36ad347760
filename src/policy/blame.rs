//! What a try says of the backend that it went to, if anything: one that failed, and when one that is good does.
//!
//! Asked by `proxy/` for every try that failed, a second one beside the first included, and for the head of an answer. What follows from it for the backend
//! is `policy::health`'s decision, and whether there is another try `policy::retry`'s.

use super::encoding::essence;
use super::health::Observation;
use super::retry::{Conditions, Failure};
use http::{HeaderMap, StatusCode};

/// What the backend is told; none where it is not to blame. `on`: what the route counts as a failure. `used_up`: whether the
/// limit that passed was the request's `total`, and others had taken of it: then the backend may have been as fast as ever.
pub fn blame(failure: Failure, on: &Conditions, used_up: bool) -> Option<Observation> {
    match failure {
        Failure::Timeout | Failure::ConnectTimeout if used_up => None,
        // Such as a 304 about another answer: the backend is well.
        Failure::Status(status)
            if !status.is_server_error() && !on.lists_status(status.as_u16()) =>
        {
            None
        }
        Failure::ConnectFailure | Failure::ConnectTimeout => Some(Observation::ConnectFailed),
        Failure::Refused => None,
        Failure::Status(_) | Failure::Reset | Failure::Timeout => Some(Observation::Failed),
    }
}

/// Whether a good answer speaks for its backend from its head on, because it goes on for as long as both sides like: another
/// protocol's (101), or server-sent events.
pub fn speaks_by_its_head(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_events = |kind: &str| kind.eq_ignore_ascii_case("text/event-stream");
    status == StatusCode::SWITCHING_PROTOCOLS || essence(headers).is_some_and(is_events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_TYPE;

    #[test]
    fn streams_speak_by_their_head() {
        for (status, kind, expected) in [
            (101, None, true),
            (200, None, false),
            (200, Some("text/event-stream"), true),
            (200, Some("Text/Event-Stream ; charset=utf-8"), true),
            (200, Some("text/event-streams"), false),
            (200, Some("text/plain"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                speaks_by_its_head(status, &headers),
                expected,
                "{status} {kind:?}"
            );
        }
    }

    #[test]
    fn who_is_to_blame() {
        let on = Conditions {
            statuses: vec![429, 500],
            ..Conditions::default()
        };
        let status = |code| Failure::Status(StatusCode::from_u16(code).unwrap());
        let failed = Some(Observation::Failed);
        let unconnected = Some(Observation::ConnectFailed);
        for (failure, used_up, expected) in [
            (status(500), false, failed),
            (status(501), false, failed),
            (status(429), false, failed),
            (status(304), false, None),
            (status(408), false, None),
            (status(500), true, failed),
            (Failure::Reset, true, failed),
            (Failure::Refused, true, None),
            (Failure::ConnectFailure, true, unconnected),
            (Failure::Timeout, false, failed),
            (Failure::Timeout, true, None),
            (Failure::ConnectTimeout, false, unconnected),
            (Failure::ConnectTimeout, true, None),
        ] {
            assert_eq!(
                blame(failure, &on, used_up),
                expected,
                "{failure:?} {used_up}"
            );
        }
    }
}
