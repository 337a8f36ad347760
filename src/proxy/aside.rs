//! Requests to an upstream beside those of clients: copies of them, and the question whether one may pass.
//!
//! Used by [`super::mirror`] and `authenticate::forward`. Backends learn from them as from others.

use super::facts::authority;
use super::lent::Lent;
use super::peer::Use;
use super::{forward, peer};
use crate::policy::health::Observation;
use crate::policy::outcome::Outcome;
use crate::policy::retry::Failure;
use crate::policy::timeouts::Timeouts;
use crate::upstream::{Picked, Upstream, http2};
use bytes::Bytes;
use http::{Method, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::{ErrorType, Result};
use std::time::{Duration, Instant};

/// What concerns the connection that a request came on (RFC 9110 §7.6.1).
const OF_THE_CONNECTION: [&str; 10] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// An answer.
pub(super) struct Said {
    pub(super) head: ResponseHeader,
    /// As much of its content as was wanted.
    pub(super) body: Vec<u8>,
}

/// A client's request as Pingora hands it to be prepared for a backend: without what concerned its connection only.
pub(super) fn same(original: &RequestHeader) -> Result<RequestHeader> {
    let mut request = original.clone();
    request.set_version(Version::HTTP_11);
    let nominated = forward::nominated(&original.headers);
    forward::remove(&mut request, |name| {
        nominated.contains(name) || OF_THE_CONNECTION.contains(&name.as_str())
    });
    request.insert_header(header::HOST, authority(original))?;
    Ok(request)
}

/// A request with the fields of another, as they go to a backend.
pub(super) fn alike(
    original: &RequestHeader,
    method: Method,
    target: &[u8],
) -> Result<RequestHeader> {
    let mut request = same(original)?;
    request.set_method(method);
    request.set_raw_path(target)?;
    Ok(request)
}

/// Takes out of such a request what cannot be sent with another one.
pub(super) fn strip(request: &mut RequestHeader, body: &Bytes) -> Result<()> {
    for name in OF_THE_CONNECTION {
        request.remove_header(name);
    }
    // The content is there.
    request.remove_header(&header::EXPECT);
    if body.is_empty() {
        request.remove_header(&header::CONTENT_LENGTH);
    } else {
        request.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    Ok(())
}

/// Sends a request, and keeps of the content of its answer so many bytes. `None` if there is no answer within
/// `timeouts.total`, of which the backend is told as of any other failure.
pub(super) async fn ask(
    upstream: &Upstream,
    picked: &Picked,
    (request, body): (RequestHeader, Bytes),
    timeouts: &Timeouts,
    most: usize,
) -> Option<Said> {
    let began = Instant::now();
    let place = (picked.index, picked.address);
    let peer = peer::dial(place, upstream, timeouts, Duration::ZERO, Use::Exchange);
    let end = |seen, outcome| {
        upstream.observe(picked.index, &picked.active, seen);
        picked.active.backend().count_outcome(outcome);
    };
    let asked = async {
        let lent = Lent::open(peer, upstream.keepalive_idle).await;
        let mut lent = lent.map_err(|_| (Observation::ConnectFailed, Failure::ConnectFailure))?;
        let request = (request, body, lent.is_tls());
        let answer = exchange(lent.session(), request, timeouts, began, most).await;
        let answer = answer.map_err(|e| {
            let failure = match e.etype() {
                ErrorType::ReadTimedout => {
                    upstream.distrust(picked.index);
                    Failure::Timeout
                }
                _ => Failure::Reset,
            };
            (Observation::Failed, failure)
        })?;
        lent.give_back().await;
        Ok(answer)
    };
    let asked = tokio::time::timeout(timeouts.total, asked);
    let Ok(answer) = asked.await else {
        upstream.distrust(picked.index);
        end(Observation::Failed, Outcome::Failed(Failure::Timeout));
        return None;
    };
    match answer {
        Ok((said, _)) if said.head.status.is_server_error() => {
            let failure = Failure::Status(said.head.status);
            end(Observation::Failed, Outcome::Failed(failure));
            Some(said)
        }
        Ok((said, latency)) => {
            end(Observation::Good(latency), Outcome::Ok);
            Some(said)
        }
        Err((seen, failure)) => {
            end(seen, Outcome::Failed(failure));
            None
        }
    }
}

/// Sends a request on a connection, and takes its answer and how long the head of that took.
async fn exchange(
    session: &mut HttpSession,
    (request, body, tls): (RequestHeader, Bytes, bool),
    timeouts: &Timeouts,
    began: Instant,
    most: usize,
) -> Result<(Said, Duration)> {
    session.set_read_timeout(Some(timeouts.first_byte));
    http2::write_head(session, request, tls).await?;
    if !body.is_empty() {
        session.write_request_body(body, true).await?;
    }
    session.finish_request_body().await?;
    let head = loop {
        session.read_response_header().await?;
        match session.response_header() {
            Some(head) if head.status.is_informational() => {}
            Some(head) => break head.clone(),
            None => return pingora::Error::e_explain(ErrorType::ReadError, "no head"),
        }
    };
    let latency = began.elapsed();
    let mut kept = Vec::new();
    // All of it: a backend that is hung up on in the middle of its answer may log that as a failure.
    while let Some(piece) = session.read_response_body().await? {
        let left = most.saturating_sub(kept.len()).min(piece.len());
        kept.extend_from_slice(piece.get(..left).unwrap_or_default());
    }
    Ok((Said { head, body: kept }, latency))
}
