//! Name and password (RFC 7617), checked against a file of users.
//!
//! Called by `authenticate::ask`. A check takes long on purpose; it runs on a thread that may wait, a few at a time, and one that
//! succeeded holds for some minutes.

use super::turns::Turn;
use super::{GateError, Refusal};
use crate::policy::credentials::{Known, Users};
use argon2::password_hash::{PasswordHash, PasswordVerifier};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header;
use pingora::http::RequestHeader;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Checks at the same time, over all workers and files: what is left is for requests.
static CHECKING: Semaphore = Semaphore::const_new(2);
/// How long somebody waits for a check at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a password is compared with where nobody is known.
const NOBODY: &str = "$2b$10$CwTycUXWue0Thq9StjUM0uJ8mGS2nJbWQvGkR1YcQ0P8bX0hXqvDa";

/// The form in which they are asked for.
pub const CHALLENGE: &str = "Basic realm=\"backstop\", charset=\"UTF-8\"";

/// A file of users.
pub struct Directory {
    users: Users,
    known: Mutex<Known>,
    /// What the password of somebody unknown is compared with, so that it takes as long.
    nobody: String,
    secret: [u8; 32],
    began: Instant,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is not as it should be.
    pub fn open(path: &Path) -> Result<Arc<Self>, GateError> {
        let name = || path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| GateError::Io(name(), e))?;
        let users = Users::parse(&text, is_hash).map_err(|bad| GateError::Line(name(), bad))?;
        Ok(Arc::new(Directory {
            nobody: users.any_hash().unwrap_or(NOBODY).to_string(),
            users,
            known: Mutex::default(),
            secret: std::array::from_fn(|_| fastrand::u8(..)),
            began: Instant::now(),
        }))
    }

    /// Whether a request has name and password of one of them; `None` if there was no time to find out.
    pub async fn is_one(
        self: &Arc<Self>,
        request: &RequestHeader,
        client: Option<IpAddr>,
    ) -> Option<bool> {
        match said(request) {
            Some((name, password)) => self.is_right(&name, &password, client).await,
            None => Some(false),
        }
    }

    /// Asks for name and password.
    pub(super) async fn ask(
        self: &Arc<Self>,
        request: &RequestHeader,
        client: Option<IpAddr>,
    ) -> Result<String, Refusal> {
        let Some((name, password)) = said(request) else {
            return Err(Refusal::denied("authorization_required", CHALLENGE));
        };
        match self.is_right(&name, &password, client).await {
            Some(true) => Ok(name),
            Some(false) => Err(Refusal::denied("credentials_wrong", CHALLENGE)),
            None => Err(Refusal::Busy("check_queue_full")),
        }
    }

    /// Whether this password is that of this user; `None` if there was no time to find out.
    async fn is_right(
        self: &Arc<Self>,
        name: &str,
        password: &str,
        client: Option<IpAddr>,
    ) -> Option<bool> {
        let framed = format!("{}:{name}{password}", name.len());
        let credentials = *blake3::keyed_hash(&self.secret, framed.as_bytes()).as_bytes();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&credentials, self.began.elapsed()) {
            return Some(true);
        }
        let _turn = Turn::take(client)?;
        let Ok(Ok(_place)) = tokio::time::timeout(PATIENCE, CHECKING.acquire()).await else {
            return None;
        };
        // Who came at the same time may have found out.
        if known().contains(&credentials, self.began.elapsed()) {
            return Some(true);
        }
        let hash = self.users.hash_of(name);
        let (hash, exists) = (hash.unwrap_or(&self.nobody).to_string(), hash.is_some());
        let password = password.to_string();
        let checked = tokio::task::spawn_blocking(move || fits(&hash, &password)).await;
        let right = exists && checked.unwrap_or(false);
        if right {
            known().remember(credentials, self.began.elapsed());
        }
        Some(right)
    }
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"]
        .iter()
        .any(|start| hash.starts_with(start))
        && hash.len() == 60
}

/// Whether passwords can be checked against this, and within a time that somebody would wait.
fn is_hash(hash: &str) -> bool {
    if !hash.is_ascii() {
        return false;
    }
    if is_bcrypt(hash) {
        let cost = hash
            .parse::<bcrypt::HashParts>()
            .map(|parts| parts.get_cost());
        let rest = hash.get(7..).unwrap_or_default();
        let alphabet = |b: u8| b.is_ascii_alphanumeric() || b"./".contains(&b);
        return cost.is_ok_and(|cost| (4..=16).contains(&cost)) && rest.bytes().all(alphabet);
    }
    let whole = |hash: PasswordHash<'_>| hash.hash.is_some() && hash.salt.is_some();
    hash.starts_with("$argon2") && PasswordHash::new(hash).is_ok_and(whole)
}

fn fits(hash: &str, password: &str) -> bool {
    if is_bcrypt(hash) {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    let Ok(hash) = PasswordHash::new(hash) else {
        return false;
    };
    argon2::Argon2::default()
        .verify_password(password.as_bytes(), &hash)
        .is_ok()
}

/// Name and password, as the request has them.
fn said(request: &RequestHeader) -> Option<(String, String)> {
    let mut values = request.headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else {
        return None;
    };
    let (scheme, credentials) = value.split_once(' ')?;
    let credentials = Some(credentials.trim())
        .filter(|c| scheme.eq_ignore_ascii_case("basic") && c.len() < 1024)?;
    let decoded = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_string(), password.to_string()))
}
