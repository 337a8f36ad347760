//! Where the keys of tokens come from: a file, read with the configuration, or an address that is asked again and again.
//!
//! What is fetched outlives a reload. Fetching runs on the control thread; a request that bears a token of an unknown key
//! has it done ahead of time and waits a moment for it.

use super::GateError;
use super::keys::Keys;
use crate::policy::route::{KeyAddress, KeysFrom};
use crate::upstream::check;
use arc_swap::ArcSwapOption;
use http::StatusCode;
use log::{info, warn};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// From one fetch to the next.
const REFRESH: Duration = Duration::from_secs(300);
/// From one to the next where one failed, or where a key was missing.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a fetch may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a request waits for one.
const MOMENT: Duration = Duration::from_secs(2);
/// How often it is looked which are due.
const TICK: Duration = Duration::from_millis(200);
/// A longer answer is none.
const MOST: usize = 1024 * 1024;

/// Asks to look at once which are due.
static WANTED: Notify = Notify::const_new();

/// Keys, from wherever they come.
#[derive(Debug)]
pub struct Source {
    from: KeysFrom,
    keys: ArcSwapOption<Keys>,
    wanted: AtomicBool,
    /// When it was asked last, and how that went.
    asked: watch::Sender<Option<(Instant, bool)>>,
}

impl Source {
    /// Reads the file, if it is one.
    ///
    /// # Errors
    /// When there are no keys in it.
    pub fn open(from: &KeysFrom) -> Result<Arc<Self>, GateError> {
        let keys = match from {
            KeysFrom::File(path) => {
                let name = || path.display().to_string();
                let text = std::fs::read(path).map_err(|e| GateError::Io(name(), e))?;
                let keys = Keys::parse(&text).map_err(|why| GateError::Keys(name(), why))?;
                Some(Arc::new(keys))
            }
            KeysFrom::Address(_) => None,
        };
        Ok(Arc::new(Source {
            from: from.clone(),
            keys: ArcSwapOption::new(keys),
            wanted: AtomicBool::new(false),
            asked: watch::Sender::new(None),
        }))
    }

    /// Whether it is this address.
    pub fn is_of(&self, from: &KeysFrom) -> bool {
        matches!(from, KeysFrom::Address(_)) && self.from == *from
    }

    /// The keys, if there are any yet.
    pub fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.load_full()
    }

    /// Waits a moment for newer keys, if there may be any.
    pub(super) async fn renewed(&self) {
        if matches!(self.from, KeysFrom::File(_)) {
            return;
        }
        let mut asked = self.asked.subscribe();
        let is_recent = asked
            .borrow_and_update()
            .is_some_and(|(at, _)| at.elapsed() < AGAIN);
        if !is_recent {
            self.wanted.store(true, Ordering::Relaxed);
            WANTED.notify_one();
            // If nothing comes, what is there has to do.
            let _ = tokio::time::timeout(MOMENT, asked.changed()).await;
        }
    }

    fn is_due(&self) -> bool {
        let KeysFrom::Address(_) = self.from else {
            return false;
        };
        let wanted = self.wanted.load(Ordering::Relaxed);
        match *self.asked.borrow() {
            None => true,
            Some((at, true)) if !wanted => at.elapsed() >= REFRESH,
            Some((at, _)) => at.elapsed() >= AGAIN,
        }
    }

    /// Asks for the keys. What was known stays, if that fails.
    pub async fn fetch(&self) {
        let KeysFrom::Address(address) = &self.from else {
            return;
        };
        self.wanted.store(false, Ordering::Relaxed);
        let fetched = match tokio::time::timeout(PATIENCE, get(address)).await {
            Ok(Ok(text)) => Keys::parse(&text),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        };
        let went_well = fetched.is_ok();
        let before = self.asked.borrow().map(|(_, well)| well);
        match fetched {
            Ok(keys) => {
                if before != Some(true) {
                    info!("{address}: {} keys", keys.count());
                }
                self.keys.store(Some(Arc::new(keys)));
            }
            Err(why) if before != Some(false) => match self.keys().is_some() {
                true => warn!("{address}: {why}; the keys it gave before are used on"),
                false => warn!("{address}: {why}; nobody can pass until there are keys"),
            },
            Err(_) => {}
        }
        self.asked.send_replace(Some((Instant::now(), went_well)));
    }
}

/// Fetches for ever what is due. `sources` tells those in force.
pub async fn follow(sources: impl Fn() -> Vec<Arc<Source>>) {
    loop {
        let due = sources().into_iter().filter(|source| source.is_due());
        let fetches = due.map(|source| async move { source.fetch().await });
        futures::future::join_all(fetches).await;
        let _ = tokio::time::timeout(TICK, WANTED.notified()).await;
    }
}

/// One for all: each would read the system's certificates anew.
fn connector() -> &'static Connector {
    static CONNECTOR: OnceLock<Connector> = OnceLock::new();
    CONNECTOR.get_or_init(|| Connector::new(None))
}

/// What is at an address.
async fn get(address: &KeyAddress) -> Result<Vec<u8>, String> {
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let mut found = found.map_err(|e| format!("{}: {e}", address.host))?;
    let socket = found
        .next()
        .ok_or_else(|| format!("{} has no address", address.host))?;
    let peer = HttpPeer::new(socket, address.tls, address.host.clone());
    match exchange(&peer, address).await {
        Ok((status, _)) if status != StatusCode::OK => {
            Err(format!("it answers with status {status}"))
        }
        Ok((_, body)) if body.len() > MOST => Err("its answer is longer than 1 MiB".to_string()),
        Ok((_, body)) => Ok(body),
        Err(e) => Err(check::in_words(&e)),
    }
}

async fn exchange(peer: &HttpPeer, address: &KeyAddress) -> pingora::Result<(StatusCode, Vec<u8>)> {
    let (mut session, _) = connector().get_http_session(peer).await?;
    let mut request = RequestHeader::build("GET", address.path.as_bytes(), None)?;
    request.insert_header("Host", &address.authority)?;
    request.insert_header("Accept", "application/jwk-set+json, application/json")?;
    request.insert_header("User-Agent", "backstop")?;
    session.write_request_header(Box::new(request)).await?;
    session.finish_request_body().await?;
    let status = check::status(&mut session).await?;
    let mut body = Vec::new();
    while let Some(piece) = session.read_response_body().await? {
        body.extend_from_slice(&piece);
        if body.len() > MOST {
            break;
        }
    }
    Ok((status, body))
}
