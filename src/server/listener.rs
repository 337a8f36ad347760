//! Listening sockets: opened once, before anything is said to be ready.

use super::acme::proofs::Proofs;
use super::admin::socket::Socket;
use super::tls::{Terminator, TlsError};
use crate::config::Settings;
use socket2::{SockFilter, SockRef};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use tokio::net::TcpSocket;

/// Connections the kernel may hold that no worker took yet; it lowers this to its own maximum.
const BACKLOG: u32 = 4096;

/// An open listening socket.
#[derive(Debug)]
pub struct Listener {
    /// Non-blocking; each worker works on a clone.
    pub socket: std::net::TcpListener,
    /// How it serves.
    pub manner: Arc<Manner>,
}

/// How a listener serves.
#[derive(Debug)]
pub struct Manner {
    /// Whether HTTP/2 is served besides HTTP/1.
    pub http2: bool,
    /// What TLS takes, if that is spoken.
    pub tls: Option<Arc<Terminator>>,
    /// Whether clients are sent to the same URL by TLS, and to which port of it.
    pub redirect_to_https: Option<u16>,
    /// Which of the listeners it is, by which its door is found.
    pub index: usize,
    /// Whether only proxies connect here, and say first for whom.
    pub proxy_protocol: bool,
    /// What an authority that issues certificates is shown when it asks in clear text.
    pub proofs: Arc<Proofs>,
}

impl Manner {
    /// The scheme of what is asked for here (RFC 9110 §4.2).
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// The value of `Strict-Transport-Security`, if that is sent.
    pub fn hsts(&self) -> Option<&str> {
        self.tls.as_ref()?.hsts.as_deref()
    }
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system refuses the address; `key` of the configuration has it.
    #[error("cannot listen on {address}: {source}\n  help: {}", remedy(.source, .key))]
    Address {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
        /// `listeners` or `admin`.
        key: &'static str,
    },
    /// TLS cannot be spoken there.
    #[error("cannot speak TLS on {address}: {source}")]
    Tls {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: TlsError,
    },
}

fn remedy(e: &io::Error, key: &str) -> String {
    match e.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another process has this address; stop it, or change `{key}`")
        }
        io::ErrorKind::PermissionDenied if key == "listeners" => {
            "ports below 1024 need CAP_NET_BIND_SERVICE, which the systemd unit grants; or choose a higher port".into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; 0.0.0.0 stands for all it has".into()
        }
        _ => format!("see `{key}` in the configuration"),
    }
}

/// All that are opened.
#[derive(Debug)]
pub struct Open {
    /// For clients.
    pub listeners: Vec<Listener>,
    /// For the operator, where there is one.
    pub admin: Option<Socket>,
    /// What authorities are shown, at all of them.
    pub proofs: Arc<Proofs>,
}

/// Opens all of them.
///
/// # Errors
/// For each that cannot be opened.
pub fn open(settings: &Settings) -> Result<Open, Vec<ListenError>> {
    let (mut open, mut failed) = (Vec::new(), Vec::new());
    let proofs = Arc::<Proofs>::default();
    for (index, listener) in settings.listeners.iter().enumerate() {
        let address = listener.address;
        let tls = listener.tls.as_ref();
        let tls = tls.map(|tls| Terminator::open(tls, listener.http2, proofs.clone()));
        let tls = match tls.transpose() {
            Ok(tls) => tls,
            Err(source) => {
                failed.push(ListenError::Tls { address, source });
                continue;
            }
        };
        match bind(address) {
            Ok(socket) => open.push(Listener {
                socket,
                manner: Arc::new(Manner {
                    http2: listener.http2,
                    tls: tls.map(Arc::new),
                    redirect_to_https: listener.redirect_to_https,
                    index,
                    proxy_protocol: listener.proxy_protocol,
                    proofs: proofs.clone(),
                }),
            }),
            Err(source) => failed.push(ListenError::Address {
                address: address.to_string(),
                source,
                key: "listeners",
            }),
        }
    }
    let admin = settings.admin.as_ref().and_then(|admin| {
        let wrong = |source| ListenError::Address {
            address: admin.address.to_string(),
            source,
            key: "admin",
        };
        let bound = Socket::bind(&admin.address);
        bound.map_err(|e| failed.push(wrong(e))).ok()
    });
    if failed.is_empty() {
        Ok(Open {
            listeners: open,
            admin,
            proofs,
        })
    } else {
        Err(failed)
    }
}

/// Lets no further connection begin on a socket that is about to close; those under way are completed and can be accepted.
///
/// A connection that the kernel completes between the last accept and the close would be reset. So SYN packets are dropped
/// from here on: a client's kernel sends its own again after a second, and finds the next process, or none.
///
/// # Errors
/// When the kernel takes no filter; the socket can be closed all the same.
pub fn hang_up(socket: &impl AsFd) -> io::Result<()> {
    // All codes are 16 bits wide in the kernel's interface.
    let step = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
    SockRef::from(socket).attach_filter(&[
        // The flags of the TCP header (RFC 9293 §3.1): drop what has SYN and not ACK.
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x12),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 0x02),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ])
}

/// Listens there.
///
/// # Errors
/// When the system does not let it.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Small packets at once: what is accepted has it from here, and need not be told each time. A failure only costs speed.
    let _ = socket.set_nodelay(true);
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_sends_small_packets_at_once() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = bind(address.parse().unwrap()) else {
                assert!(address.starts_with('['), "there may be no IPv6");
                continue;
            };
            let listener = tokio::net::TcpListener::from_std(socket).unwrap();
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(listener.accept().await.unwrap().0.nodelay().unwrap());
        }
    }
}
