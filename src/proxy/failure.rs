//! What an error of Pingora means: whose fault it was, and what the client is told if it stands.

use super::TOO_LONG;
use super::ctx::End;
use super::downstream::DEADLINE;
use super::watch::{SLOW_BODY, SLOW_CLIENT};
use crate::policy::admission::Why;
use crate::policy::framing::Doubt;
use crate::policy::retry::Failure;
use crate::policy::timeouts::Limit;
use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType, RetryType};
use std::io;

/// The cause of a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The backend, or the way to it.
    Backend(Failure, &'static str),
    /// The client went away, or broke the protocol.
    Client,
    /// The client's content comes too slowly.
    SlowBody,
    /// The client's content is longer than its route takes.
    TooLong,
    /// The client's request cannot be sent on.
    BadRequest,
    /// Ourselves.
    Internal,
}

/// Pingora's name for content that is not coded as it is said to be (RFC 9112 §7.1).
const INVALID_CHUNK: ErrorType = ErrorType::new("InvalidChunk");

/// Reads an error that came while connecting; nothing was sent yet.
pub(super) fn while_connecting(error: &Error) -> Cause {
    match error.root_etype() {
        ErrorType::ConnectTimedout => Cause::Backend(Failure::ConnectTimeout, "connection_timeout"),
        ErrorType::ConnectRefused => Cause::Backend(Failure::ConnectFailure, "connection_refused"),
        ErrorType::ConnectNoRoute => {
            Cause::Backend(Failure::ConnectFailure, "destination_ip_unroutable")
        }
        _ => match error.etype() {
            ErrorType::H2Error => Cause::Backend(Failure::Refused, "connection_terminated"),
            ErrorType::ConnectTimedout => {
                Cause::Backend(Failure::ConnectTimeout, "connection_timeout")
            }
            ErrorType::ConnectRefused => {
                Cause::Backend(Failure::ConnectFailure, "connection_refused")
            }
            _ => Cause::Backend(Failure::ConnectFailure, "destination_unavailable"),
        },
    }
}

/// Reads an error that came once there was a connection.
pub(super) fn while_proxying(error: &Error) -> Cause {
    // The deadline surfaces through the client's session, but it is the backend that did not keep it.
    if *error.etype() == DEADLINE {
        return Cause::Backend(Failure::Timeout, "http_response_timeout");
    }
    if *error.etype() == TOO_LONG {
        return Cause::TooLong;
    }
    if *error.etype() == SLOW_BODY {
        return Cause::SlowBody;
    }
    if *error.etype() == SLOW_CLIENT {
        return Cause::Client;
    }
    match error.esource() {
        ErrorSource::Downstream => match error.etype() {
            ErrorType::InvalidHTTPHeader => Cause::BadRequest,
            of_content if *of_content == INVALID_CHUNK => Cause::BadRequest,
            _ if doubt(error).is_some() => Cause::BadRequest,
            _ => Cause::Client,
        },
        ErrorSource::Upstream => match error.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
                Cause::Backend(Failure::Timeout, "http_response_timeout")
            }
            ErrorType::H2Error | ErrorType::H2Downgrade if is_unprocessed(error) => {
                Cause::Backend(Failure::Refused, "connection_terminated")
            }
            ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => {
                Cause::Backend(Failure::Reset, "http_protocol_error")
            }
            _ => Cause::Backend(Failure::Reset, "connection_terminated"),
        },
        ErrorSource::Internal | ErrorSource::Unset => Cause::Internal,
    }
}

/// What `server::stream` found doubtful in a client's content, if this error is of that.
pub(super) fn doubt(error: &Error) -> Option<Doubt> {
    let of_stream = error.root_cause().downcast_ref::<io::Error>()?;
    of_stream.get_ref()?.downcast_ref().copied()
}

/// Whether the backend said that it did not look at the request: by a refused stream, by going away before it came to it, or
/// by wanting HTTP/1.1. Pingora marks these, and of the errors of HTTP/2 only these, as harmless to repeat.
fn is_unprocessed(error: &Error) -> bool {
    matches!(error.retry, RetryType::Decided(true))
}

/// What the client gets when this failure stands; `limit` is the one that was armed. `is_down`: whether the upstream takes no
/// connections at all, which will pass, so that the client is told to come again.
pub(super) fn end(failure: Failure, proxy_error: &'static str, limit: Limit, is_down: bool) -> End {
    if failure.nothing_was_sent() && is_down {
        return plain(StatusCode::SERVICE_UNAVAILABLE, proxy_error);
    }
    let (status, details) = match failure {
        Failure::Status(status) => (status, None),
        Failure::ConnectFailure | Failure::Reset | Failure::Refused => {
            (StatusCode::BAD_GATEWAY, None)
        }
        Failure::ConnectTimeout | Failure::Timeout => {
            (StatusCode::GATEWAY_TIMEOUT, Some(limit.word()))
        }
    };
    End {
        status,
        proxy_error,
        details,
    }
}

const fn plain(status: StatusCode, proxy_error: &'static str) -> End {
    End {
        status,
        proxy_error,
        details: None,
    }
}

/// No backend can be tried.
pub(super) const NO_BACKEND: End =
    plain(StatusCode::SERVICE_UNAVAILABLE, "destination_unavailable");

/// No place was free, or none in time.
pub(super) const fn refused(why: Why) -> End {
    End {
        details: Some(why.word()),
        ..plain(StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached")
    }
}

/// The content has to be looked at, and cannot be held for that.
pub(super) const TOO_MUCH_HELD: End = End {
    details: Some("max_held"),
    ..plain(StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached")
};

/// `total` ran out between two tries.
pub(super) const TOTAL_TIMEOUT: End = End {
    details: Some("total"),
    ..plain(StatusCode::GATEWAY_TIMEOUT, "http_response_timeout")
};

/// The request is not HTTP as it should be.
pub(super) const BAD_REQUEST: End = plain(StatusCode::BAD_REQUEST, "http_request_error");

/// The client sends more than its route takes.
pub(super) const PAYLOAD_TOO_LARGE: End =
    plain(StatusCode::PAYLOAD_TOO_LARGE, "http_request_error");

/// The client stopped sending its body.
pub(super) const CLIENT_STALLED: End = End {
    details: Some("the request body stopped coming"),
    ..plain(StatusCode::REQUEST_TIMEOUT, "http_request_error")
};

/// A fault of this program.
pub(super) const INTERNAL: End = plain(StatusCode::INTERNAL_SERVER_ERROR, "proxy_internal_error");

/// Nginx's status for a client that left before its answer; only the log sees it.
pub(super) const CLIENT_LEFT: u16 = 499;
