//! What an answer that is not kept means for those who waited for it, and for those who come next.
//!
//! `proxy/` asks when a fill ends without anything to give to others.

use http::StatusCode;

/// What an answer tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Of what the URL names: whoever asks next gets the like, and need not wait for another to find out.
    Url,
    /// Of who asked, or how: the same client gets the like again, others may not.
    Asker,
    /// Of nothing: it answers a question that was not asked.
    Nothing,
    /// Of how the origin is just now. It would not help it if all who waited asked for themselves.
    Moment,
}

/// What an answer with this status tells of.
pub fn about(status: StatusCode) -> About {
    if status.is_server_error() {
        return About::Moment;
    }
    match status {
        StatusCode::NOT_MODIFIED => About::Nothing,
        StatusCode::NOT_FOUND | StatusCode::GONE => About::Url,
        _ if status.is_success() || status.is_redirection() => About::Url,
        _ => About::Asker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_statuses_tell_of() {
        for (statuses, expected) in [
            (&[200, 204, 206, 301, 302, 404, 410][..], About::Url),
            (&[304], About::Nothing),
            (&[400, 401, 403, 405, 407, 412, 429, 451], About::Asker),
            (&[500, 501, 502, 503, 504, 599], About::Moment),
        ] {
            for status in statuses {
                let status = StatusCode::from_u16(*status).unwrap();
                assert_eq!(about(status), expected, "{status}");
            }
        }
    }
}
