//! The admin address: how everything is doing, purging the cache, and maintenance. HTTP/1.1 with JSON, for the operator's
//! programs.
//!
//! [`super`] starts it, on the process's own runtime beside the control of the process: workers do not know of it. What a web page
//! can make a browser send is refused, and what changes something takes a [`key`] or a user, as `guard` says. Decides nothing else: [`purge`] reads what
//! is to go, [`figures`] and [`status`] show what is there, [`maintenance`] is what an operator does to it. [`ask`] is the other
//! end, for the command line.

pub mod ask;
mod events;
pub mod figures;
mod guard;
pub mod key;
pub mod maintenance;
mod metrics;
mod page;
pub mod purge;
pub mod socket;
pub mod status;
mod terminal;
mod usage;

use super::request::Request;
use super::stream::{ClientStream, Patience};
use super::tls::TlsStore;
use super::worker::Shared;
use crate::observe::history;
use async_trait::async_trait;
use figures::Figures;
pub use guard::Guard;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, header};
use log::{debug, error, info};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use purge::Wanted;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socket::{Arrived, Listening, Socket};
use status::Status;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The largest body that is read.
const MOST_BODY: usize = 64 * 1024;
/// How much of a larger one is taken and dropped, so that its sender gets to read why.
const MOST_DROPPED: usize = 1024 * 1024;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Connections at the same time. Further ones wait: the descriptors are for clients.
const MOST_CONNECTIONS: usize = 64;
/// How long a head may take, from its first byte on, and how many bytes it may have: who trickles one takes a place.
const HEAD_TIME: Duration = Duration::from_secs(10);
const MOST_HEAD: usize = 64 * 1024;
/// How long an idle connection is kept.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long a client may take nothing of an answer.
const SEND_TIME: Duration = Duration::from_secs(60);
/// The pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(500);

/// What a purge is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Answers that were in memory; for a URL, those in files too.
    pub purged: usize,
}

/// What everything else is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why not.
    pub error: String,
}

/// Serves the admin address until the runtime ends. While the process drains, each connection ends with its next answer.
///
/// # Errors
/// When the runtime does not take the socket.
pub fn start(socket: Socket, guard: Arc<Guard>, scene: Scene) -> io::Result<()> {
    let listener = socket.listen()?;
    let shutdown = scene.shared.shutdown.clone();
    let server = Arc::new(Admin {
        scene,
        guard,
        followers: Semaphore::new(events::MOST),
    });
    tokio::spawn(remember(server.clone()));
    tokio::spawn(accept(listener, server, shutdown));
    Ok(())
}

/// Keeps the history going.
async fn remember(server: Arc<Admin>) {
    let mut tick = tokio::time::interval(history::STEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first is at once.
    tick.tick().await;
    // Held so that no tally gets the place of one that is gone, by which it would be taken for that one.
    let mut _before = Vec::new();
    loop {
        tick.tick().await;
        let shared = &server.scene.shared;
        let snapshot = shared.live.load();
        let routed = snapshot.traffic.iter().map(|traffic| {
            let mut totals = traffic.tally.totals();
            totals.retries = traffic.budget().retries_total;
            (Arc::as_ptr(&traffic.tally).addr(), totals)
        });
        let unrouted = (0, shared.counts.unrouted.totals());
        shared.counts.history.step(routed.chain([unrouted]));
        let tallies = snapshot.traffic.iter().map(|traffic| traffic.tally.clone());
        _before = tallies.collect();
    }
}

/// What there is to look at.
pub struct Scene {
    /// What the workers share.
    pub shared: Shared,
    /// The certificates of each listener that has some.
    pub stores: Vec<Arc<TlsStore>>,
}

async fn accept(listener: Listening, server: Arc<Admin>, shutdown: ShutdownWatch) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok(arrived) => {
                let (server, shutdown) = (server.clone(), shutdown.clone());
                tokio::spawn(async move {
                    match arrived {
                        Arrived::Port(stream) => server.serve_connection(stream, &shutdown).await,
                        Arrived::File(stream) => {
                            ServerApp::process_new(&server, stream, &shutdown).await;
                        }
                    }
                    drop(place);
                });
            }
            Err(e) => {
                error!("the admin address cannot accept a connection: {e}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The endpoints.
struct Admin {
    scene: Scene,
    guard: Arc<Guard>,
    /// Places for those who follow the page.
    followers: Semaphore,
}

const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The endpoints and the methods they take.
const ENDPOINTS: [(&str, &str); 11] = [
    ("/", "GET, HEAD"),
    ("/events", "GET"),
    ("/metrics", "GET, HEAD"),
    ("/healthz", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/status", "GET, HEAD"),
    ("/cache", "GET, HEAD"),
    ("/cache/purge", "POST"),
    ("/backends/drain", "POST"),
    ("/backends/resume", "POST"),
    ("/canary/resume", "POST"),
];

/// A status, its body, and what is allowed where the method is not.
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    allow: Option<&'static str>,
    challenge: Option<&'static str>,
}

impl Answer {
    fn json(status: StatusCode, body: &impl Serialize) -> Self {
        Answer {
            status,
            content_type: "application/json",
            // Structures with named fields always can be written.
            body: serde_json::to_vec(body).unwrap_or_default(),
            allow: None,
            challenge: None,
        }
    }

    fn text(status: StatusCode, content_type: &'static str, body: String) -> Self {
        Answer {
            status,
            content_type,
            body: body.into_bytes(),
            allow: None,
            challenge: None,
        }
    }

    fn refusal(status: StatusCode, why: impl Into<String>) -> Self {
        Answer::json(status, &Refusal { error: why.into() })
    }

    async fn write(mut self, session: &mut ServerSession) -> pingora::Result<()> {
        if self.body.last() != Some(&b'\n') {
            self.body.push(b'\n');
        }
        let mut head = ResponseHeader::build(self.status, Some(6))?;
        head.insert_header(header::CONTENT_TYPE, self.content_type)?;
        head.insert_header(header::CONTENT_LENGTH, self.body.len())?;
        head.insert_header(header::CACHE_CONTROL, "no-store")?;
        head.insert_header(
            header::CONTENT_SECURITY_POLICY,
            page::CONTENT_SECURITY_POLICY,
        )?;
        head.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
        if let Some(allow) = self.allow {
            head.insert_header(header::ALLOW, allow)?;
        }
        if let Some(challenge) = self.challenge {
            head.insert_header(header::WWW_AUTHENTICATE, challenge)?;
        }
        let has_body = session.req_header().method != Method::HEAD;
        session.write_response_header(Box::new(head)).await?;
        match has_body {
            true => session.write_response_body(self.body.into(), true).await,
            false => session.finish_body().await,
        }
    }
}

#[async_trait]
impl HttpServerApp for Admin {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        // At a socket in the file system nothing else bounds it.
        session.set_write_timeout(Some(SEND_TIME));
        let read = tokio::time::timeout(KEEPALIVE + HEAD_TIME, session.read_request()).await;
        match read {
            Ok(Ok(true)) => {}
            Ok(Err(e)) => {
                debug!("what came to the admin address is no request: {e}");
                return None;
            }
            Ok(Ok(false)) | Err(_) => return None,
        }
        self.serve(&mut session, shutdown).await?;
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

impl Admin {
    /// Serves a connection to a port, until it ends.
    async fn serve_connection(&self, mut stream: Box<ClientStream>, shutdown: &ShutdownWatch) {
        let patience = Patience {
            idle: KEEPALIVE,
            head: HEAD_TIME,
            most: MOST_HEAD,
        };
        loop {
            let session = match Request::read(stream, patience).await {
                Ok(request) if request.doubt.is_none() => request.into_session().await,
                _ => return debug!("what came to the admin address is no request"),
            };
            let Ok(mut session) = session else { return };
            if self.serve(&mut session, shutdown).await.is_none() {
                return;
            }
            let next = session.finish().await.ok().flatten();
            match next.and_then(|next| ClientStream::from_stream(next.into_parts().0)) {
                Some(next) => stream = next,
                None => return,
            }
        }
    }

    /// Answers a request whose head was read. `None` when its connection is at its end.
    async fn serve(&self, session: &mut ServerSession, shutdown: &ShutdownWatch) -> Option<()> {
        let kept = (!*shutdown.borrow()).then_some(KEEPALIVE.as_secs());
        session.set_keepalive(kept);
        // Of bodies that are not read.
        session.set_total_drain_timeout(Some(BODY_TIME));
        let answer = match self.answer(session, shutdown).await {
            Ok(Some(answer)) | Err(answer) => answer,
            Ok(None) => return None,
        };
        if let Err(e) = answer.write(session).await {
            debug!("who asked at the admin address is gone: {e}");
            return None;
        }
        Some(())
    }
}

impl Admin {
    /// The answer; `None` if the client has it already.
    async fn answer(
        &self,
        session: &mut ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Result<Option<Answer>, Answer> {
        let client = session.client_addr().and_then(|address| address.as_inet());
        // At a port there is always one. Whoever reaches a socket in the file system is on this machine.
        let client = client.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip());
        let client = Some(client);
        if let Some(what) = self.look(session.req_header(), client).await? {
            return Ok(Some(what));
        }
        if session.req_header().uri.path() == "/events" {
            events::stream(session, &self.scene, &self.followers, shutdown).await?;
            return Ok(None);
        }
        self.change(session).await.map(Some)
    }

    /// The answer to who only looks; `None` for what is more than that.
    async fn look(
        &self,
        request: &RequestHeader,
        client: Option<IpAddr>,
    ) -> Result<Option<Answer>, Answer> {
        let path = request.uri.path();
        // A load balancer asks by whatever name, and learns nothing else.
        if !matches!(path, "/healthz" | "/readyz") {
            is_no_web_page(request)?;
        }
        let Some((path, allow)) = ENDPOINTS.into_iter().find(|(known, _)| *known == path) else {
            let known = ENDPOINTS.map(|(path, _)| path).join(", ");
            let why = format!("nothing is at {path}; there are {known}");
            return Err(Answer::refusal(StatusCode::NOT_FOUND, why));
        };
        let method = request.method.as_str();
        if !allow.split(", ").any(|allowed| allowed == method) {
            let why = format!("this takes {allow}, not {method}");
            return Err(Answer {
                allow: Some(allow),
                ..Answer::refusal(StatusCode::METHOD_NOT_ALLOWED, why)
            });
        }
        if !matches!(path, "/healthz" | "/readyz") {
            let changes = request.method == Method::POST;
            self.guard.judge(request, client, changes).await?;
        }
        match path {
            "/" => {
                let html = page::html(&Status::of(&self.scene));
                Ok(Some(Answer::text(StatusCode::OK, page::HTML, html)))
            }
            "/metrics" => {
                let accept = request.headers.get(header::ACCEPT);
                let accept = accept.and_then(|accept| accept.to_str().ok());
                let open = accept.is_some_and(|a| a.contains("application/openmetrics-text"));
                let content_type = if open { OPEN_METRICS } else { PROMETHEUS };
                let text = metrics::write(&self.scene, open);
                Ok(Some(Answer::text(StatusCode::OK, content_type, text)))
            }
            "/healthz" => Ok(Some(Answer::text(
                StatusCode::OK,
                PLAIN,
                "alive".to_string(),
            ))),
            "/readyz" => Ok(Some(self.ready())),
            "/status" => {
                let status = Status::of(&self.scene);
                Ok(Some(Answer::json(StatusCode::OK, &status)))
            }
            "/cache" => {
                let figures = Figures::from(self.scene.shared.cache.status());
                Ok(Some(Answer::json(StatusCode::OK, &figures)))
            }
            _ => Ok(None),
        }
    }

    /// Does what a request asks to be done.
    async fn change(&self, session: &mut ServerSession) -> Result<Answer, Answer> {
        let request = session.req_header();
        let path = request.uri.path().to_owned();
        if !is_json(&request.headers) {
            let why = "the body must come with Content-Type: application/json";
            return Err(Answer::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let body = read_body(session).await?;
        let live = self.scene.shared.live.load();
        let done = match &*path {
            "/cache/purge" => return self.purge(&body).await,
            "/backends/drain" => maintenance::drain(&live, &read(&body)?, true),
            "/backends/resume" => maintenance::drain(&live, &read(&body)?, false),
            _ => maintenance::resume_canary(&live, &read(&body)?),
        };
        match done {
            Ok(done) => Ok(Answer::json(StatusCode::OK, &done)),
            Err(why) => Err(Answer::refusal(StatusCode::NOT_FOUND, why)),
        }
    }

    /// Whether requests are welcome: not any more once the process is to end.
    fn ready(&self) -> Answer {
        match self.scene.shared.leaving.load(Ordering::Relaxed) {
            false => Answer::text(StatusCode::OK, PLAIN, "ready".to_string()),
            true => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Answer::text(status, PLAIN, "draining".to_string())
            }
        }
    }

    async fn purge(&self, body: &[u8]) -> Result<Answer, Answer> {
        let bad = |why| Answer::refusal(StatusCode::BAD_REQUEST, why);
        let what = Wanted::read(body).and_then(Wanted::purge).map_err(bad)?;
        let by = purge::kind(&what);
        match self.scene.shared.cache.purge(what).await {
            Ok(purged) => {
                // Not what was asked for: a query may hold secrets.
                info!("purge by {by}: {purged} answers");
                Ok(Answer::json(StatusCode::OK, &Purged { purged }))
            }
            Err(e) => {
                error!("purge by {by}: it cannot be written down: {e}");
                let why = format!(
                    "purged, but that cannot be written down ({e}): after a crash, stored files may bring some of it back"
                );
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Err(Answer::refusal(status, why))
            }
        }
    }
}

/// Reads the body of a request that says what it is about.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|e| {
        let why = format!("the body is not what is expected: {e}");
        Answer::refusal(StatusCode::BAD_REQUEST, why)
    })
}

/// Refuses what a web page can make a browser send. A name that its owner points at this machine (DNS rebinding) is in
/// `Host`, so only names that nobody else owns are taken; and browsers tell of requests across sites in `Origin`.
fn is_no_web_page(request: &RequestHeader) -> Result<(), Answer> {
    let headers = &request.headers;
    let hosts = headers.get_all(header::HOST).iter();
    let mut hosts: Vec<&str> = hosts
        .map(|host| host.to_str().unwrap_or_default())
        .collect();
    hosts.extend(request.uri.authority().map(Authority::as_str));
    if hosts.is_empty() || !hosts.into_iter().all(is_local_name) {
        let why = "Host must be an IP address or localhost";
        return Err(Answer::refusal(StatusCode::FORBIDDEN, why));
    }
    // What another page only embeds or fetches without asking comes without `Origin`; who follows a link may see the page.
    let says = |name: &str, word: &str| headers.get(name).is_some_and(|value| value == word);
    let from_elsewhere =
        says("sec-fetch-site", "cross-site") || says("sec-fetch-site", "same-site");
    let follows = says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document");
    if headers.contains_key(header::ORIGIN) || from_elsewhere && !follows {
        let why = "web pages may not ask this address: a request from another site is refused";
        return Err(Answer::refusal(StatusCode::FORBIDDEN, why));
    }
    Ok(())
}

/// Whether nobody can point this host elsewhere: an IP address, as the configured one is, or `localhost` (RFC 6761 §6.3).
fn is_local_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let literal = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let is_ip = literal.unwrap_or(name).parse::<IpAddr>().is_ok();
    !host.contains('@') && (is_ip || name.eq_ignore_ascii_case("localhost"))
}

/// Whether the body is said to be JSON: a media type that no form can send.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(one), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = one.to_str().unwrap_or_default().split(';').next();
    essence.is_some_and(|e| e.trim().eq_ignore_ascii_case("application/json"))
}

async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, Answer> {
    if session.get_header(header::EXPECT).is_some() {
        // Whoever waits for this and does not get it sends all the same, or is gone.
        let _ = session.write_continue_response().await;
    }
    let read = async {
        let (mut body, mut length) = (Vec::new(), 0);
        while let Some(piece) = session.read_request_body().await? {
            length += piece.len();
            if length <= MOST_BODY {
                body.extend_from_slice(&piece);
            } else if length > MOST_DROPPED {
                break;
            }
        }
        Ok::<_, Box<pingora::Error>>((length <= MOST_BODY).then_some(body))
    };
    let read = tokio::time::timeout(BODY_TIME, read).await;
    let refusal = match read {
        Ok(Ok(Some(body))) => return Ok(body),
        Ok(Ok(None)) => Answer::refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 64 KiB",
        ),
        Ok(Err(_)) => Answer::refusal(StatusCode::BAD_REQUEST, "the body cannot be read"),
        Err(_) => Answer::refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    };
    // There may be more of it.
    session.set_keepalive(None);
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_nobody_can_point_elsewhere() {
        for (host, local) in [
            ("127.0.0.1", true),
            ("127.0.0.1:9090", true),
            ("10.1.2.3:9090", true),
            ("[::1]", true),
            ("[::1]:9090", true),
            ("localhost", true),
            ("LOCALHOST:9090", true),
            ("", false),
            (":9090", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:9090", false),
            ("127.1", false),
            ("evil.example@127.0.0.1", false),
            ("localhost, evil.example", false),
            ("::1", false),
        ] {
            assert_eq!(is_local_name(host), local, "{host}");
        }
    }

    #[test]
    fn media_types() {
        for (values, json) in [
            (&["application/json"][..], true),
            (&["Application/JSON ; charset=utf-8"], true),
            (&[], false),
            (&["text/plain"], false),
            (&["text/plain; application/json"], false),
            (&["application/jsonp"], false),
            (&["application/json", "text/plain"], false),
            (&["application/json, text/plain"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_TYPE, value.parse().unwrap());
            }
            assert_eq!(is_json(&headers), json, "{values:?}");
        }
    }
}
