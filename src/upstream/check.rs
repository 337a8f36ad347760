//! One probe of one backend: a connection, an HTTP request, or a gRPC health request.
//!
//! Implements pingora-load-balancing's `HealthCheck`, whose own checks neither look at the body of an answer nor speak gRPC.
//! When to probe is decided by [`super::probes`], what follows by `policy::health`.

use super::tls::UpstreamTls;
use super::{Backend, http2};
use crate::config::{CheckKind, CheckPlan, HttpCheck};
use crate::policy::health::ProbeRules;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_load_balancing::Backend as Target;
use pingora_load_balancing::health_check::HealthCheck;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;

/// The error of an answer that came and says no.
const UNHEALTHY: ErrorType = ErrorType::Custom("unhealthy");
/// How much of a body is looked at.
const MOST_BODY: usize = 64 * 1024;
/// The method of the gRPC health checking protocol.
const GRPC_CHECK: &[u8] = b"/grpc.health.v1.Health/Check";

/// How the backends of one upstream are probed.
#[derive(Debug)]
pub struct Check {
    tls: Option<Arc<UpstreamTls>>,
    http2: bool,
    kind: CheckKind,
    /// Instead of the backend's own port.
    port: Option<u16>,
    /// From one probe to the next, but for a tenth of it that is left to chance.
    pub interval: Duration,
    /// How long a probe may take in all.
    pub timeout: Duration,
    /// When probes turn a backend's state.
    pub rules: ProbeRules,
}

impl Check {
    /// As the file says.
    pub fn new(plan: &CheckPlan, tls: Option<Arc<UpstreamTls>>, http2: bool) -> Self {
        Check {
            tls,
            http2,
            kind: plan.kind.clone(),
            port: plan.port,
            interval: plan.interval,
            timeout: plan.timeout,
            rules: plan.rules,
        }
    }

    /// Probes a backend once, at this address of its.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub async fn probe(&self, mut address: SocketAddr, backend: &Backend) -> Result<(), String> {
        if let Some(port) = self.port {
            address.set_port(port);
        }
        let probe = Probe {
            check: self,
            backend,
        };
        let target = Target::new(&address.to_string()).map_err(|e| in_words(&e))?;
        match tokio::time::timeout(self.timeout, probe.check(&target)).await {
            Ok(checked) => checked.map_err(|e| in_words(&e)),
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }
}

/// Whether a backend takes connections at this address of its, to the end of the handshake where TLS is spoken.
///
/// # Errors
/// In words, why not.
pub async fn connect(
    address: SocketAddr,
    backend: &Backend,
    (tls, http2): (Option<&UpstreamTls>, bool),
    timeout: Duration,
) -> Result<(), String> {
    let connected = async {
        match tls {
            None => TcpStream::connect(address)
                .await
                .map(drop)
                .map_err(|e| e.to_string()),
            // Much larger, and what it is part of is moved as a whole.
            Some(_) => Box::pin(handshake(address, backend, (tls, http2))).await,
        }
    };
    match tokio::time::timeout(timeout, connected).await {
        Ok(connected) => connected,
        Err(_) => Err(format!("no connection within {timeout:?}")),
    }
}

async fn handshake(
    address: SocketAddr,
    backend: &Backend,
    (tls, http2): (Option<&UpstreamTls>, bool),
) -> Result<(), String> {
    let mut peer = dial(address, backend, tls);
    if http2 {
        http2::offer(&mut peer);
    }
    let connected = connector().get_http_session(&peer).await;
    connected.map(drop).map_err(|e| in_words(&e))
}

fn dial(address: SocketAddr, backend: &Backend, tls: Option<&UpstreamTls>) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    if let Some(tls) = tls {
        tls.apply(&mut peer, backend, address);
    }
    peer
}

struct Probe<'a> {
    check: &'a Check,
    backend: &'a Backend,
}

#[async_trait]
impl HealthCheck for Probe<'_> {
    async fn check(&self, target: &Target) -> Result<()> {
        let Some(address) = target.addr.as_inet() else {
            return Error::e_explain(UNHEALTHY, "not an address");
        };
        match &self.check.kind {
            CheckKind::Tcp => match TcpStream::connect(address).await {
                Ok(_) => Ok(()),
                Err(e) => Error::e_explain(UNHEALTHY, e.to_string()),
            },
            CheckKind::Http(check) => self.ask(*address, check).await,
            CheckKind::Grpc(service) => self.ask_grpc(*address, service).await,
        }
    }

    /// Counting is `policy::health`'s.
    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

impl Probe<'_> {
    fn dial(&self, address: SocketAddr) -> HttpPeer {
        dial(address, self.backend, self.check.tls.as_deref())
    }

    async fn ask(&self, address: SocketAddr, check: &HttpCheck) -> Result<()> {
        let mut request = RequestHeader::build(check.method.clone(), check.path.as_bytes(), None)?;
        let host = check.host.as_deref().unwrap_or(&self.backend.label);
        request.insert_header("Host", host)?;
        request.insert_header("User-Agent", "backstop-health-check")?;
        for (name, value) in &check.headers {
            request.insert_header(name.clone(), value.clone())?;
        }
        let mut peer = self.dial(address);
        if self.check.http2 {
            http2::offer(&mut peer);
        }
        let (mut session, _) = connector().get_http_session(&peer).await?;
        http2::write_head(&mut session, request, peer.is_tls()).await?;
        session.finish_request_body().await?;
        let status = status(&mut session).await?;
        if !check.expect.contains(&status.as_u16()) {
            return Error::e_explain(UNHEALTHY, format!("it answers with status {status}"));
        }
        let Some(wanted) = &check.body else {
            return Ok(());
        };
        let body = body(&mut session).await?;
        let found = body
            .windows(wanted.len().max(1))
            .any(|w| w == wanted.as_bytes());
        if !found && check.method != Method::HEAD {
            let what = format!("the body of its answer does not contain {wanted:?}");
            return Error::e_explain(UNHEALTHY, what);
        }
        Ok(())
    }

    /// As the gRPC health checking protocol has it: one unary call over HTTP/2.
    async fn ask_grpc(&self, address: SocketAddr, service: &str) -> Result<()> {
        let mut request = RequestHeader::build("POST", GRPC_CHECK, None)?;
        request.insert_header("Host", self.backend.label.as_str())?;
        request.insert_header("Content-Type", "application/grpc")?;
        request.insert_header("TE", "trailers")?;
        let mut peer = self.dial(address);
        http2::insist(&mut peer);
        let (mut session, _) = connector().get_http_session(&peer).await?;
        http2::write_head(&mut session, request, peer.is_tls()).await?;
        session
            .write_request_body(grpc_request(service), true)
            .await?;
        session.finish_request_body().await?;
        let status = status(&mut session).await?;
        if status != StatusCode::OK {
            return Error::e_explain(UNHEALTHY, format!("it answers with status {status}"));
        }
        let failure = session
            .response_header()
            .and_then(|head| head.headers.get("grpc-status"))
            .filter(|status| *status != "0");
        if let Some(status) = failure {
            let status = status.to_str().unwrap_or("?");
            return Error::e_explain(UNHEALTHY, format!("it answers with grpc-status {status}"));
        }
        match grpc_serving(&body(&mut session).await?) {
            Some(1) => Ok(()),
            Some(other) => {
                Error::e_explain(UNHEALTHY, format!("it says {}", serving_status(other)))
            }
            None => Error::e_explain(UNHEALTHY, "its answer is no health of gRPC"),
        }
    }
}

/// One for all upstreams: each would read the system's certificates anew.
fn connector() -> &'static Connector {
    static CONNECTOR: OnceLock<Connector> = OnceLock::new();
    CONNECTOR.get_or_init(|| Connector::new(None))
}

/// The status of an answer; interim ones are passed over.
///
/// # Errors
/// When there is none.
pub async fn status(session: &mut HttpSession) -> Result<StatusCode> {
    loop {
        session.read_response_header().await?;
        match session.response_header() {
            Some(head) if head.status.is_informational() => {}
            Some(head) => return Ok(head.status),
            None => return Error::e_explain(UNHEALTHY, "it does not answer"),
        }
    }
}

async fn body(session: &mut HttpSession) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = session.read_response_body().await? {
        body.extend_from_slice(&piece);
        if body.len() >= MOST_BODY {
            break;
        }
    }
    Ok(body)
}

/// A `HealthCheckRequest`: its one field is the service's name.
fn grpc_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        // Names are at most 127 bytes long, see `config`: one byte holds their length.
        message.push(u8::try_from(service.len()).unwrap_or(0));
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(0);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// The `status` of a `HealthCheckResponse`; 0 (unknown) where it is left out.
fn grpc_serving(body: &[u8]) -> Option<u8> {
    let (head, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(head.get(1..5)?.try_into().ok()?);
    let message = message.get(..usize::try_from(length).ok()?)?;
    match message {
        [] => Some(0),
        [0x08, status, ..] => Some(*status),
        _ => None,
    }
}

fn serving_status(status: u8) -> &'static str {
    match status {
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "a status that is not known",
    }
}

/// The innermost cause of an error of Pingora, short enough for a log line and a status page.
pub fn in_words(error: &Error) -> String {
    let root = error.root_cause().to_string();
    let line = root.lines().next().unwrap_or_default().trim();
    let line = line.strip_prefix("unhealthy context: ").unwrap_or(line);
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_messages() {
        assert_eq!(&grpc_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(
            &grpc_request("ab")[..],
            [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']
        );
        for (body, status) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 2, 8], None),
            (&[0, 0, 0], None),
            (&[0, 0, 0, 0, 1, 9], None),
            (&[], None),
        ] {
            assert_eq!(grpc_serving(body), status, "{body:?}");
        }
    }
}
