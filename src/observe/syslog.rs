//! Lines sent to a syslog daemon: the one of this host at its socket, or another by UDP (RFC 5426).
//!
//! Called by the thread that writes the access log. A datagram is a line; nothing is acknowledged, so what a daemon does not
//! take is lost.

use super::access_log::stamp;
use crate::clock;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// Facility local7 and severity "informational", as nginx has it (RFC 5424 §6.2.1).
const PRIORITY: u8 = 23 * 8 + 6;
/// Longer lines are cut: a datagram of UDP takes no more.
const LONGEST: usize = 60_000;
/// Where the daemon of this host listens.
const LOCAL: &str = "/dev/log";
const SCHEME: &str = "syslog://";

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Daemon {
    /// At this socket; absolute.
    Local(PathBuf),
    /// At this address, by UDP.
    Remote(SocketAddr),
}

impl Daemon {
    /// Reads `syslog`, `syslog:///run/log.socket` or `syslog://10.0.0.5:514`; `None` if it is none of these kinds.
    ///
    /// # Errors
    /// It is, but not so that anything could be sent there.
    pub fn parse(text: &str) -> Option<Result<Self, &'static str>> {
        if text == "syslog" {
            return Some(Ok(Daemon::Local(LOCAL.into())));
        }
        let place = text.strip_prefix(SCHEME)?;
        Some(match place.strip_prefix('/') {
            Some("") => Err("the path of the socket is missing"),
            Some(_) => Ok(Daemon::Local(place.into())),
            None => match place.parse::<SocketAddr>() {
                Ok(address) if address.port() > 0 => Ok(Daemon::Remote(address)),
                _ => Err(
                    "syslog:// is followed by an IP address and a port, or by the path of a socket",
                ),
            },
        })
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Daemon::Local(path) if path.as_os_str() == LOCAL => f.write_str("syslog"),
            Daemon::Local(path) => write!(f, "{SCHEME}{}", path.display()),
            Daemon::Remote(address) => write!(f, "{SCHEME}{address}"),
        }
    }
}

/// A socket for it.
#[derive(Debug)]
pub struct Syslog {
    socket: Socket,
    process: u32,
    host: String,
}

#[derive(Debug)]
enum Socket {
    Local(UnixDatagram, PathBuf),
    Remote(UdpSocket, SocketAddr),
}

impl Syslog {
    /// Makes the socket. The daemon need not be there yet.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn open(daemon: &Daemon) -> io::Result<Self> {
        let socket = match daemon {
            Daemon::Local(path) => Socket::Local(UnixDatagram::unbound()?, path.clone()),
            Daemon::Remote(address) => {
                let any: IpAddr = match address {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                Socket::Remote(UdpSocket::bind((any, 0))?, *address)
            }
        };
        Ok(Syslog {
            socket,
            process: std::process::id(),
            host: host(),
        })
    }

    /// Sends lines, each by itself.
    ///
    /// # Errors
    /// With the first that the daemon does not take; those after it are lost too.
    pub fn send(&self, lines: &[u8]) -> io::Result<()> {
        let head = self.head();
        for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let line = &line[..line.len().min(LONGEST)];
            let datagram = [head.as_bytes(), line].concat();
            match &self.socket {
                Socket::Local(socket, path) => socket.send_to(&datagram, path)?,
                Socket::Remote(socket, address) => socket.send_to(&datagram, address)?,
            };
        }
        Ok(())
    }

    fn head(&self) -> String {
        match &self.socket {
            // The daemon knows time and host itself, and the older form is the one that all read at that socket (RFC 3164 §4.1).
            Socket::Local(..) => format!("<{PRIORITY}>backstop[{}]: ", self.process),
            Socket::Remote(..) => format!(
                "<{PRIORITY}>1 {} {} backstop {} - - ",
                stamp(clock::since_epoch()),
                self.host,
                self.process
            ),
        }
    }
}

/// The name of this host as it may stand in a message; `-` for none (RFC 5424 §6.2.4).
fn host() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let fits = !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        name.into_owned()
    } else {
        "-".to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let local = |path: &str| Some(Ok(Daemon::Local(path.into())));
        for (text, daemon) in [
            ("syslog", local("/dev/log")),
            ("syslog:///run/my.socket", local("/run/my.socket")),
            (
                "syslog://10.0.0.5:514",
                Some(Ok(Daemon::Remote(([10, 0, 0, 5], 514).into()))),
            ),
            (
                "syslog://[::1]:514",
                Some(Ok(Daemon::Remote("[::1]:514".parse().unwrap()))),
            ),
            ("syslog.log", None),
            ("/var/log/syslog", None),
        ] {
            assert_eq!(Daemon::parse(text), daemon, "{text}");
            if let Some(Ok(daemon)) = daemon {
                assert_eq!(daemon.to_string(), text);
            }
        }
        for text in [
            "syslog://",
            "syslog:///",
            "syslog://host:514",
            "syslog://10.0.0.5",
            "syslog://10.0.0.5:0",
        ] {
            assert!(matches!(Daemon::parse(text), Some(Err(_))), "{text}");
        }
    }
}
