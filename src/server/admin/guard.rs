//! Who may look at the admin address, and who may change something there.
//!
//! Without `auth`, whoever reaches the address may look; with it, its users may, and whoever has the key. To change something
//! takes one of these in any case.

use super::Answer;
use super::key::Key;
use crate::proxy::authenticate::basic::{CHALLENGE, Directory};
use http::{StatusCode, header};
use pingora::http::RequestHeader;
use std::net::IpAddr;
use std::sync::Arc;

/// What is asked for.
#[derive(Debug)]
pub struct Guard {
    /// Those of `auth`.
    pub users: Option<Arc<Directory>>,
    /// That of this process, where there is one.
    pub key: Option<Key>,
}

impl Guard {
    /// Whether this request may do what it asks for. `client`: who waits for the check of a password.
    ///
    /// # Errors
    /// With the answer if not.
    pub(super) async fn judge(
        &self,
        request: &RequestHeader,
        client: Option<IpAddr>,
        changes: bool,
    ) -> Result<(), Answer> {
        if !changes && self.users.is_none() || self.has_key(request) {
            return Ok(());
        }
        let Some(users) = &self.users else {
            return Err(self.denied(client, StatusCode::UNAUTHORIZED, "Bearer"));
        };
        match users.is_one(request, client).await {
            Some(true) => Ok(()),
            Some(false) => Err(self.denied(client, StatusCode::UNAUTHORIZED, CHALLENGE)),
            None => Err(self.denied(client, StatusCode::SERVICE_UNAVAILABLE, CHALLENGE)),
        }
    }

    fn has_key(&self, request: &RequestHeader) -> bool {
        let said = request.headers.get(header::AUTHORIZATION);
        let said = said.and_then(|said| said.to_str().ok()?.split_once(' '));
        let bearer = said.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let key = self.key.as_ref();
        bearer.is_some_and(|(_, text)| key.is_some_and(|key| key.is(text.trim())))
    }

    /// Where the key is, is for those on this machine to know.
    fn denied(
        &self,
        client: Option<IpAddr>,
        status: StatusCode,
        challenge: &'static str,
    ) -> Answer {
        let users = self
            .users
            .as_ref()
            .map(|_| "name and password of a user of `auth`");
        let is_here = client.is_some_and(|client| client.to_canonical().is_loopback());
        let key = self.key.as_ref().filter(|_| is_here).map(|key| {
            let place = key.place().display();
            format!("the key in {place}, which root and the user of the process can read")
        });
        let ways: Vec<String> = users.map(str::to_string).into_iter().chain(key).collect();
        let why = match ways.is_empty() {
            true if self.key.is_some() => "this takes the key of the process".to_string(),
            true => {
                "nobody may do this: there is no `auth`, and no key could be written".to_string()
            }
            false => format!("this takes {}", ways.join(", or ")),
        };
        Answer {
            challenge: Some(challenge),
            ..Answer::refusal(status, why)
        }
    }
}
