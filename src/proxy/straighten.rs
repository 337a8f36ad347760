//! The head of a request made such that all who look at it see the same: its target without dots, its cookies in one field.
//!
//! Called by [`super::front`] before anything is decided by either.

use super::client::Client;
use super::ctx::Ctx;
use super::facts;
use crate::policy::fields;
use crate::policy::target::{self, BadPath};
use http::{HeaderValue, Method, Uri, header};

/// Sees that host and target are what they seem, and follows the dots of the target: the path that is matched leads where the path
/// that is sent leads.
pub(super) fn straighten(session: &mut dyn Client, ctx: &mut Ctx) -> Result<(), BadTarget> {
    let request = session.req_header();
    if request.method == Method::CONNECT {
        return Ok(());
    }
    if facts::is_odd(request) {
        return Err(BadTarget::Odd);
    }
    join_cookies(session)?;
    let request = session.req_header();
    let asked = facts::target(request);
    let Some(leads_to) = target::without_dots(asked)? else {
        return Ok(());
    };
    if !request.raw_path_is_utf8() {
        return Err(BadTarget::Odd);
    }
    let asked = asked.to_owned();
    let mut parts = request.uri.clone().into_parts();
    parts.path_and_query = Some(leads_to.parse().map_err(|_| BadTarget::Odd)?);
    let uri = Uri::from_parts(parts).map_err(|_| BadTarget::Odd)?;
    session.req_header_mut().set_uri(uri);
    ctx.asked = Some(asked);
    Ok(())
}

/// Makes one field of cookies that came in several, as HTTP/2 lets clients send them and nothing else does (RFC 9113 §8.2.3).
fn join_cookies(session: &mut dyn Client) -> Result<(), BadTarget> {
    if !session.is_http2() {
        return Ok(());
    }
    let headers = &session.req_header().headers;
    if fields::all(headers, &header::COOKIE).nth(1).is_none() {
        return Ok(());
    }
    let crumbs: Vec<&[u8]> = fields::all(headers, &header::COOKIE)
        .map(HeaderValue::as_bytes)
        .collect();
    let joined = crumbs.join(&b"; "[..]);
    let joined = HeaderValue::from_bytes(&joined).map_err(|_| BadTarget::Odd)?;
    let request = session.req_header_mut();
    let written = request.insert_header(header::COOKIE, joined);
    written.map_err(|_| BadTarget::Odd)
}

/// Why a request has no host or target that can be matched.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadTarget {
    /// It is not as it looks.
    #[error("its host or its target is not as HTTP has it")]
    Odd,
    /// It leads nowhere.
    #[error("{0}")]
    Path(#[from] BadPath),
}
