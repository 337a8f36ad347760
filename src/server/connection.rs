//! One client connection: which HTTP it speaks, and the loop of its requests.
//!
//! Started by a worker for each accepted socket. [`Front`] hands the connection back after each request that it serves, and Pingora
//! after each other one; after one that failed but was answered properly, [`Connection::keep`] puts it back here.

use super::acme::proofs::ALPN;
use super::flag;
use super::http2::{self, Exchange};
use super::listener::Manner;
use super::origin_date::OriginDate;
use super::stream::ClientStream;
use super::subject;
use super::tls::Terminator;
use super::transport::Transport;
use crate::observe::tally::Counts;
use crate::policy::limits::is_too_odd;
use crate::proxy::{Front, Proxy, Received};
use crate::upstream::own::Own;
use log::debug;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use rustls::ProtocolVersion;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How every HTTP/2 connection begins (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long the first bytes may be an unfinished preface.
const PREFACE_TIME: Duration = Duration::from_secs(10);

/// How much of an answer waits in a connection of HTTP/2 for a client that reads nothing, of each stream.
const SEND_BUFFER: usize = 128 * 1024;

/// How long the first request may take to begin.
const FIRST_REQUEST: Duration = Duration::from_secs(60);

/// What a handshake agreed on.
#[derive(Debug)]
pub struct Secured {
    /// `TLSv1.3` and the like.
    pub version: &'static str,
    /// As IANA names it.
    pub cipher: String,
    /// The host that the client asked for.
    pub server_name: Option<String>,
    /// Whom the client's certificate is of, if it showed one; it was found good then.
    pub client_cert: Option<String>,
}

impl Secured {
    fn of(stream: &TlsStream<TcpStream>) -> Self {
        let session = stream.get_ref().1;
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        };
        let suite = session.negotiated_cipher_suite();
        Secured {
            version,
            cipher: suite
                .map(|suite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_"))
                .unwrap_or_default(),
            server_name: session.server_name().map(str::to_owned),
            client_cert: session
                .peer_certificates()
                .and_then(|chain| subject::of(chain.first()?)),
        }
    }
}

/// One client connection.
pub struct Connection {
    /// What its worker serves with.
    pub front: Arc<Front>,
    proxy: Arc<HttpProxy<Proxy>>,
    /// How its listener serves.
    pub manner: Own<Manner>,
    /// What TLS agreed on, where that is spoken.
    pub secured: Option<Arc<Secured>>,
    kept: Mutex<Option<Box<ClientStream>>>,
    /// Requests that it brought.
    requests: AtomicU32,
    /// Those among them that were none.
    malformed: AtomicU32,
    /// The date that the next response carries.
    pub date: Arc<OriginDate>,
    /// Whether it is known who is at its other end: not where a proxy was to say so, and did not.
    pub is_named: bool,
}

impl Connection {
    /// Serves a connection of `peer` until it ends, in its listener's manner. `is_named`: see [`Connection::is_named`].
    pub async fn serve(
        (front, proxy): (Arc<Front>, Arc<HttpProxy<Proxy>>),
        tcp: TcpStream,
        (peer, is_named): (SocketAddr, bool),
        manner: Own<Manner>,
        shutdown: ShutdownWatch,
    ) {
        let mut secured = None;
        let mut is_http2 = false;
        let transport = match &manner.tls {
            None => {
                is_http2 = manner.http2 && Box::pin(begins_with_preface(&tcp, &shutdown)).await;
                Transport::Plain(tcp)
            }
            Some(tls) => {
                let counts = front.counts.clone();
                let handshake = Box::pin(handshake(tls, tcp, front.clients.head_timeout));
                let Some(tls) = handshake.await else {
                    return Counts::one(&counts.handshakes_failed);
                };
                Counts::one(&counts.handshakes);
                if tls.get_ref().1.alpn_protocol() == Some(ALPN) {
                    // All that was to be shown was in the handshake (RFC 8737 §3).
                    return;
                }
                secured = Some(Arc::new(Secured::of(&tls)));
                Transport::Tls(Box::new(tls))
            }
        };
        is_http2 |= transport.chose_http2();
        let connection = Arc::new(Connection {
            front,
            proxy,
            manner,
            secured,
            kept: Mutex::new(None),
            requests: AtomicU32::new(0),
            malformed: AtomicU32::new(0),
            date: Arc::default(),
            is_named,
        });
        let date = connection.date.clone();
        let mut stream = Box::new(ClientStream::new(transport, peer, date));
        if is_http2 {
            stream.expect_frames(connection.front.clients.head_timeout);
            let options = connection.http2_options();
            Box::pin(http2::serve(&connection, stream, options, &shutdown)).await;
        } else {
            connection.serve_http1(stream, &shutdown).await;
        }
    }

    /// One request after the other, as long as the connection can be kept.
    async fn serve_http1(
        self: &Arc<Self>,
        mut stream: Box<ClientStream>,
        shutdown: &ShutdownWatch,
    ) {
        let mut idle = FIRST_REQUEST;
        let mut closes = pin!(self.front.closes());
        loop {
            let received = Front::receive(self, stream, idle, closes.as_mut());
            let next = match received.await {
                Received::Over(next) => next,
                Received::Onward(session) => {
                    let reused = self.proxy.process_new_http(*session, shutdown).await;
                    let reused = reused.and_then(ClientStream::from_reused);
                    reused.or_else(|| self.kept())
                }
            };
            match next {
                Some(next) => stream = next,
                None => return,
            }
            idle = self.front.clients.keepalive;
        }
    }

    /// Serves the request of one stream of HTTP/2.
    pub(super) async fn serve_stream(
        self: &Arc<Self>,
        exchange: Box<Exchange>,
        shutdown: &ShutdownWatch,
    ) {
        if let Some(onward) = self.front.receive_stream(exchange, self).await {
            self.proxy.process_new_http(*onward, shutdown).await;
        }
    }

    /// What was put back of it.
    fn kept(&self) -> Option<Box<ClientStream>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take()
    }

    /// Counts a request; says whether it is the last of so many.
    pub fn is_last(&self, most: u32) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1 >= most
    }

    /// Counts a request that was none, or could have hidden another one.
    pub fn note_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it brought [too much](is_too_odd) of that.
    pub(super) fn is_too_odd(&self) -> bool {
        let malformed = self.malformed.load(Ordering::Relaxed);
        is_too_odd(malformed, self.requests.load(Ordering::Relaxed))
    }

    /// Takes back a connection that can serve further requests.
    pub fn keep(&self, stream: Box<ClientStream>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    fn http2_options(&self) -> H2Options {
        let clients = &self.front.clients;
        let mut options = default_h2_options();
        options.max_concurrent_streams(clients.max_streams);
        options.max_send_buffer_size(SEND_BUFFER);
        // Counted with 32 bytes more for each field (RFC 9113 §6.5.2).
        let head = clients.limits.head + 32 * clients.limits.fields;
        options.max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX));
        options
    }
}

/// Completes a handshake in so much time. Of those that fail the client is told by rustls, and nobody else need be.
async fn handshake(
    tls: &Terminator,
    tcp: TcpStream,
    within: Duration,
) -> Option<TlsStream<TcpStream>> {
    let accepting = TlsAcceptor::from(tls.config()).accept(tcp);
    match tokio::time::timeout(within, accepting).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(e)) => {
            debug!("a handshake failed: {e}");
            None
        }
        Err(_) => {
            debug!("a handshake took longer than {within:?}");
            None
        }
    }
}

/// Looks at the first bytes without taking them, and no further than needed: a short HTTP/1 request must not be made to
/// wait for the 24 bytes of a preface.
async fn begins_with_preface(tcp: &TcpStream, shutdown: &ShutdownWatch) -> bool {
    let look = async {
        let mut seen = [0; HTTP2_PREFACE.len()];
        let mut pause = Duration::from_millis(1);
        loop {
            match tcp.peek(&mut seen).await {
                Ok(n) if n > 0 && seen[..n] == HTTP2_PREFACE[..n] => {
                    if n == HTTP2_PREFACE.len() {
                        return true;
                    }
                    // The rest is on its way; the socket stays readable meanwhile, so readiness tells nothing.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(200));
                }
                _ => return false,
            }
        }
    };
    tokio::select! {
        biased;
        found = look => found,
        () = tokio::time::sleep(PREFACE_TIME) => false,
        () = flag::raised(shutdown) => false,
    }
}
