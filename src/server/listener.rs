//! Listening sockets: opened once, before anything is said to be ready.

use crate::config;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpSocket;

/// Connections the kernel may hold that no worker took yet; it lowers this to its own maximum.
const BACKLOG: u32 = 4096;

/// An open listening socket.
#[derive(Debug)]
pub struct Listener {
    /// Non-blocking; each worker works on a clone.
    pub socket: std::net::TcpListener,
    /// Whether HTTP/2 in clear text is served besides HTTP/1.
    pub http2: bool,
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}\n  help: {}", remedy(.source))]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

fn remedy(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has this address; stop it, or change `listeners`"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE, which the systemd unit grants; or choose a higher port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; 0.0.0.0 stands for all it has"
        }
        _ => "see `listeners` in the configuration",
    }
}

/// Opens all of them.
///
/// # Errors
/// For each that cannot be opened.
pub fn open(settings: &[config::Listener]) -> Result<Vec<Listener>, Vec<ListenError>> {
    let (mut open, mut failed) = (Vec::new(), Vec::new());
    for listener in settings {
        match bind(listener.address) {
            Ok(socket) => open.push(Listener {
                socket,
                http2: listener.http2,
            }),
            Err(source) => failed.push(ListenError {
                address: listener.address,
                source,
            }),
        }
    }
    if failed.is_empty() {
        Ok(open)
    } else {
        Err(failed)
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}
