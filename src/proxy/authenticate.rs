//! Asking who it is, where a route wants to know: by password or by token.
//!
//! Called by `front` after everything that costs nothing.

pub mod basic; // name and password, against a file of users
mod forward; // a service that is asked
pub mod jwt; // a signed token, against keys
pub mod keys; // the keys of tokens
pub mod source; // where they come from
mod token; // a token as it comes
mod turns; // who waits for a password to be checked

use super::ctx::Ctx;
use super::respond::Answer;
use crate::policy::credentials::BadLine;
use crate::policy::route::ForwardAuth;
use bytes::Bytes;
use http::HeaderValue;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;

/// Who may pass a route, and how they prove it.
#[derive(Debug, Clone)]
pub enum Gate {
    /// Those who know a password.
    Basic(Arc<basic::Directory>),
    /// Those who bear a token.
    Jwt(Arc<jwt::Bearers>),
    /// Those whom a service lets pass.
    Forward(Arc<ForwardAuth>),
}

/// Why a file is none.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// A line of the users is wrong.
    #[error("{0}:{line}: {why}\n  help: `htpasswd -B` writes such files", line = .1.line, why = .1.why)]
    Line(String, BadLine),
    /// There are no keys in it.
    #[error("{0}: {1}\n  help: it is a JWK Set, or public keys in PEM")]
    Keys(String, String),
}

/// Why somebody may not pass.
enum Refusal {
    /// They did not prove who they are. With the log's word and what they are told.
    Denied(&'static str, Cow<'static, str>),
    /// It cannot be found out now. With the log's word.
    Busy(&'static str),
    /// The service says no, in its own words.
    Said(Box<ResponseHeader>, Bytes),
}

impl Refusal {
    fn denied(word: &'static str, challenge: impl Into<Cow<'static, str>>) -> Self {
        Refusal::Denied(word, challenge.into())
    }
}

impl Gate {
    /// What the log calls the way in which somebody proved who they are.
    fn word(&self) -> &'static str {
        match self {
            Gate::Basic(_) => "basic",
            Gate::Jwt(_) => "jwt",
            Gate::Forward(_) => "forward",
        }
    }
}

/// What came of asking.
pub(super) enum Found {
    /// It may pass.
    Passed,
    /// It may not.
    Refused(Answer),
    /// That could not be found out, which is not its fault.
    Unknown(Answer),
}

impl Found {
    /// What the client is told, unless it may pass.
    pub(super) fn answer(self) -> Option<Answer> {
        match self {
            Found::Passed => None,
            Found::Refused(answer) | Found::Unknown(answer) => Some(answer),
        }
    }
}

/// Asks who it is, where the route wants to know.
pub(super) async fn ask(request: &RequestHeader, ctx: &mut Ctx) -> Result<Found> {
    let Some(gate) = ctx.gate().cloned() else {
        return Ok(Found::Passed);
    };
    // Each is far larger than all else that a request waits with, and most routes have none.
    let found = match &gate {
        Gate::Basic(directory) => Box::pin(directory.ask(request, ctx.client)).await,
        Gate::Jwt(bearers) => Box::pin(bearers.ask(request)).await,
        Gate::Forward(plan) => match Box::pin(forward::ask(plan, request, ctx)).await? {
            Ok(passed) => {
                ctx.told = passed.told;
                ctx.verified = passed.name.map(|name| (name, gate.word()));
                return Ok(Found::Passed);
            }
            Err(refusal) => Err(refusal),
        },
    };
    match found {
        Ok(name) => {
            ctx.verified = Some((name, gate.word()));
            Ok(Found::Passed)
        }
        Err(Refusal::Said(head, body)) => {
            ctx.refused = Some("auth_said_no");
            Answer::said(*head, body).map(Found::Refused)
        }
        Err(Refusal::Busy(word)) => {
            ctx.refused = Some(word);
            Answer::busy().map(Found::Unknown)
        }
        Err(Refusal::Denied(word, challenge)) => {
            ctx.refused = Some(word);
            let challenge = match challenge {
                Cow::Borrowed(text) => Ok(HeaderValue::from_static(text)),
                Cow::Owned(text) => HeaderValue::try_from(text),
            };
            let challenge = challenge.unwrap_or(HeaderValue::from_static("Bearer"));
            Answer::unauthorized(challenge).map(Found::Refused)
        }
    }
}
