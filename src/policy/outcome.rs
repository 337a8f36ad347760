//! How a try ended, in the words of the access log and of metrics.
//!
//! Told to the log by `proxy::record` and counted for each backend by `upstream::backend`.

use super::retry::Failure;
use std::fmt;

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The backend did what it was asked to.
    Ok,
    /// It did not.
    Failed(Failure),
    /// Another backend was faster.
    Hedged,
    /// The client did not send its content in time.
    ClientTimeout,
    /// The client left before the end.
    ClientLeft,
    /// The content was longer than its route takes.
    BodyTooLarge,
    /// The content was none.
    BadRequest,
    /// Something went wrong in this program.
    Internal,
}

/// All words, one for each place of [`Outcome::place`].
pub const WORDS: [&str; 12] = [
    "ok",
    "status",
    "connect_failure",
    "timeout",
    "reset",
    "refused",
    "hedged",
    "client_timeout",
    "client_left",
    "body_too_large",
    "bad_request",
    "internal",
];

impl Outcome {
    /// Whether the upstream did not do what it was asked to; what clients or this program did is not counted against it.
    pub fn is_failure(self) -> bool {
        matches!(self, Outcome::Failed(_))
    }

    /// Where its word stands among [`WORDS`].
    pub fn place(self) -> usize {
        match self {
            Outcome::Ok => 0,
            Outcome::Failed(Failure::Status(_)) => 1,
            Outcome::Failed(Failure::ConnectFailure) => 2,
            Outcome::Failed(Failure::ConnectTimeout | Failure::Timeout) => 3,
            Outcome::Failed(Failure::Reset) => 4,
            Outcome::Failed(Failure::Refused) => 5,
            Outcome::Hedged => 6,
            Outcome::ClientTimeout => 7,
            Outcome::ClientLeft => 8,
            Outcome::BodyTooLarge => 9,
            Outcome::BadRequest => 10,
            Outcome::Internal => 11,
        }
    }

    /// Its word; that of a status is without the number.
    pub fn word(self) -> &'static str {
        WORDS[self.place()]
    }
}

/// `status 503`, or a word.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Outcome::Failed(Failure::Status(status)) => write!(f, " {}", status.as_u16()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn only_upstreams_fail_and_only_statuses_have_a_number() {
        let status = Outcome::Failed(Failure::Status(StatusCode::BAD_GATEWAY));
        for (outcome, said, failure) in [
            (Outcome::Ok, "ok", false),
            (status, "status 502", true),
            (Outcome::Failed(Failure::ConnectTimeout), "timeout", true),
            (Outcome::Failed(Failure::Timeout), "timeout", true),
            (
                Outcome::Failed(Failure::ConnectFailure),
                "connect_failure",
                true,
            ),
            (Outcome::Failed(Failure::Reset), "reset", true),
            (Outcome::Failed(Failure::Refused), "refused", true),
            (Outcome::Hedged, "hedged", false),
            (Outcome::ClientTimeout, "client_timeout", false),
            (Outcome::ClientLeft, "client_left", false),
            (Outcome::BodyTooLarge, "body_too_large", false),
            (Outcome::BadRequest, "bad_request", false),
            (Outcome::Internal, "internal", false),
        ] {
            assert_eq!(outcome.to_string(), said);
            assert_eq!(outcome.is_failure(), failure, "{said}");
        }
    }
}
