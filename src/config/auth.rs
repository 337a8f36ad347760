//! `auth` of a route, as written: who has to prove who they are, and how.
//!
//! Read by `routes`. What is in the files, `proxy::authenticate` looks at.

use super::duration::{PositiveSpan, Span};
use super::files;
use super::headers::ReadName;
use super::keypath::KeyPath;
use super::patterns::{FileText, TargetText, UpstreamName};
use super::report::{Document, Report};
use super::switch::{Section, over};
use super::written::{Complaint, Written, meant, written};
use crate::policy::jwt::TokenRules;
use crate::policy::route::{AuthPlan, ForwardAuth, KeyAddress, KeysFrom};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// By how much clocks may differ, if nothing is said.
const LEEWAY: Duration = Duration::from_secs(30);
/// And by how much at most: a token that ended an hour ago has ended.
const MOST_LEEWAY: Duration = Duration::from_secs(300);

/// How long the service that is asked may take, if nothing is said.
const PATIENCE: Duration = Duration::from_secs(5);

/// `auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { basic: users.htpasswd }, or off"
)]
pub(crate) struct AuthSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    basic: Option<FileText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<JwtSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forward: Option<ForwardSpec>,
}

/// `forward`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { upstream: login, path: /check, pass: [X-User] }"
)]
pub(crate) struct ForwardSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<UpstreamName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<TargetText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<PositiveSpan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<Vec<ReadName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<ReadName>,
}

/// `jwt`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { keys: \"https://idp.example.com/jwks.json\", issuer: \"https://idp.example.com/\", audience: [api] }"
)]
pub(crate) struct JwtSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<KeysText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<ClaimText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<Vec<ClaimText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leeway: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<ClaimText>,
}

/// A claim's name, or what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimText(String);

impl Written for ClaimText {
    const EXPECTED: &'static str = "a text such as https://idp.example.com/";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if word.is_empty() || word.chars().any(char::is_control) {
            return Err(Complaint::unfit());
        }
        Ok(ClaimText(word.to_string()))
    }
}

impl fmt::Display for ClaimText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeysText {
    File(FileText),
    Address(KeyAddress),
}

impl Written for KeysText {
    const EXPECTED: &'static str =
        "a file such as keys.json, or an address such as https://idp.example.com/jwks.json";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let Some((scheme, rest)) = word.split_once("://") else {
            return FileText::parse(word).map(KeysText::File);
        };
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(Complaint::unfit()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let is_path = path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let parsed = authority.parse::<http::uri::Authority>();
        let parsed = parsed.ok().filter(|a| {
            let says_port = a.host().len() < authority.len();
            !authority.contains('@') && !a.host().is_empty() && says_port == a.port_u16().is_some()
        });
        let (Some(parsed), true) = (parsed, is_path) else {
            let bare = rest.split(['#', '@']).next_back().unwrap_or_default();
            let help =
                (bare != rest && !bare.is_empty()).then(|| meant(format!("{scheme}://{bare}")));
            return Err(Complaint {
                message: None,
                help,
            });
        };
        let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
        Ok(KeysText::Address(KeyAddress {
            tls,
            host: host.to_ascii_lowercase(),
            port: parsed.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.to_string(),
            path: path.to_string(),
        }))
    }
}

impl fmt::Display for KeysText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeysText::File(file) => f.write_str(&file.0),
            KeysText::Address(address) => address.fmt(f),
        }
    }
}

written!(ClaimText, KeysText);

impl Section for AuthSpec {
    const EXPECTED: &'static str = "a mapping such as { basic: users.htpasswd }, or off";

    /// One way takes the place of another; only its own keys are merged.
    fn over(&self, base: &Self) -> Self {
        if self.ways() == 0 {
            return base.clone();
        }
        AuthSpec {
            basic: self.basic.clone(),
            jwt: match (&self.jwt, &base.jwt) {
                (Some(own), Some(base)) => Some(own.over(base)),
                (own, _) => own.clone(),
            },
            forward: match (&self.forward, &base.forward) {
                (Some(own), Some(base)) => Some(own.over(base)),
                (own, _) => own.clone(),
            },
        }
    }
}

impl ForwardSpec {
    fn over(&self, base: &Self) -> Self {
        over!(
            self,
            base,
            ForwardSpec {
                upstream,
                path,
                timeout,
                pass,
                identity
            }
        )
    }

    fn compile(&self, upstreams: &HashMap<&str, usize>) -> Option<ForwardAuth> {
        let name = |name: &ReadName| name.0.clone();
        Some(ForwardAuth {
            upstream: *upstreams.get(self.upstream.as_ref()?.0.as_str())?,
            path: self
                .path
                .as_ref()
                .map_or_else(|| "/".into(), |path| path.0.clone()),
            timeout: self.timeout.map_or(PATIENCE, |span| span.0),
            pass: self.pass.iter().flatten().map(name).collect(),
            identity: self.identity.as_ref().map(name),
        })
    }
}

impl JwtSpec {
    fn over(&self, base: &Self) -> Self {
        over!(
            self,
            base,
            JwtSpec {
                keys,
                issuer,
                audience,
                leeway,
                identity
            }
        )
    }

    fn rules(&self) -> TokenRules {
        let text = |claim: &ClaimText| claim.0.clone();
        TokenRules {
            issuer: self.issuer.as_ref().map(text),
            audience: self.audience.iter().flatten().map(text).collect(),
            leeway: self.leeway.map_or(LEEWAY, |span| span.0),
            identity: self.identity.as_ref().map_or_else(|| "sub".into(), text),
        }
    }
}

impl AuthSpec {
    /// Reports what is missing or too much, once it is merged; `path` is that of this mapping.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        match self.ways() {
            0 => {
                let problem = report.add(document, path.clone(), "says not how");
                problem.help = Some(
                    "give basic, a file of users as `htpasswd -B` writes it, jwt or forward"
                        .to_string(),
                );
            }
            1 => {}
            _ => {
                let message = "only one of basic, jwt and forward can be given";
                report.add(document, path.clone(), message);
            }
        }
        if let Some(forward) = &self.forward
            && forward.upstream.is_none()
        {
            let at = path.key("forward").key("upstream");
            let problem = report.add(document, at, "required, but missing");
            problem.help = Some("it is the upstream of the service that is asked".to_string());
        }
        let Some(jwt) = &self.jwt else { return };
        let path = path.key("jwt");
        if jwt.keys.is_none() {
            let problem = report.add(document, path.key("keys"), "required, but missing");
            problem.help = Some("say by whose keys tokens are signed: keys: jwks.json".to_string());
        }
        if jwt.audience.as_ref().is_some_and(Vec::is_empty) {
            let problem = report.add(document, path.key("audience"), "names nobody");
            problem.help = Some("leave it out where anybody will do".to_string());
        }
        if jwt.leeway.is_some_and(|leeway| leeway.0 > MOST_LEEWAY) {
            report.add(document, path.key("leeway"), "at most 5m");
        }
    }

    /// How many ways it names.
    fn ways(&self) -> usize {
        let ways = [
            self.basic.is_some(),
            self.jwt.is_some(),
            self.forward.is_some(),
        ];
        ways.into_iter().filter(|given| *given).count()
    }

    /// The upstream that it asks, if it asks one.
    pub(crate) fn upstream(&self) -> Option<&str> {
        Some(&self.forward.as_ref()?.upstream.as_ref()?.0)
    }

    /// Whether backends are told what the one that is asked says.
    pub(crate) fn tells(&self) -> bool {
        let pass = self
            .forward
            .as_ref()
            .and_then(|forward| forward.pass.as_ref());
        pass.is_some_and(|pass| !pass.is_empty())
    }

    /// Every key with a default filled in.
    pub(crate) fn filled(&self) -> AuthSpec {
        let defaults = JwtSpec {
            leeway: Some(Span(LEEWAY)),
            identity: Some(ClaimText("sub".into())),
            ..JwtSpec::default()
        };
        AuthSpec {
            basic: self.basic.clone(),
            jwt: self.jwt.as_ref().map(|jwt| jwt.over(&defaults)),
            forward: self.forward.as_ref().map(|forward| {
                forward.over(&ForwardSpec {
                    path: Some(TargetText("/".into())),
                    timeout: Some(PositiveSpan(PATIENCE)),
                    ..ForwardSpec::default()
                })
            }),
        }
    }

    /// What the proxy goes by; relative paths are those of this directory.
    pub(crate) fn compile(
        &self,
        directory: &Path,
        upstreams: &HashMap<&str, usize>,
    ) -> Option<AuthPlan> {
        let file = |file: &FileText| files::absolute(directory, &file.0);
        if let Some(basic) = &self.basic {
            return Some(AuthPlan::Basic(file(basic)));
        }
        if let Some(forward) = &self.forward {
            return forward.compile(upstreams).map(AuthPlan::Forward);
        }
        let jwt = self.jwt.as_ref()?;
        let keys = match jwt.keys.as_ref()? {
            KeysText::File(text) => KeysFrom::File(file(text)),
            KeysText::Address(address) => KeysFrom::Address(address.clone()),
        };
        Some(AuthPlan::Jwt(jwt.rules(), keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_keys_are() {
        for (word, meant) in [
            ("jwks.json", "jwks.json"),
            ("/etc/keys.pem", "/etc/keys.pem"),
            ("https://idp.test", "https://idp.test/"),
            (
                "https://idp.test:8443/a/b?c=d",
                "https://idp.test:8443/a/b?c=d",
            ),
            ("http://[::1]:9000/keys", "http://[::1]:9000/keys"),
        ] {
            assert_eq!(KeysText::parse(word).unwrap().to_string(), meant);
        }
        let Ok(KeysText::Address(address)) = KeysText::parse("http://[::1]/keys") else {
            panic!("an address");
        };
        assert_eq!(
            (address.host.as_str(), address.port, address.tls),
            ("::1", 80, false)
        );
        for word in [
            "",
            "keys/",
            "ftp://idp.test/",
            "https:///keys",
            "https://user@idp.test/",
            "https://idp.test/a b",
            "https://idp.test/#a",
            "https://idp.test:port/",
        ] {
            assert!(KeysText::parse(word).is_err(), "{word}");
        }
    }
}
