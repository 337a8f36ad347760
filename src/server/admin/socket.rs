//! Where the admin address is listened on: a port, or a socket in the file system.

use crate::config::AdminPlace;
use crate::server::listener;
use crate::server::stream::ClientStream;
use crate::server::transport::Transport;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as Plain;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};

/// Who reaches the socket: its user and its group.
const MODE: u32 = 0o660;

/// One that is bound.
#[derive(Debug)]
pub enum Socket {
    /// At a port.
    Port(std::net::TcpListener),
    /// In the file system.
    File(std::os::unix::net::UnixListener),
}

impl Socket {
    /// Binds it. The file of a process that is no more makes room.
    ///
    /// # Errors
    /// When the system does not let it, or somebody listens there.
    pub fn bind(place: &AdminPlace) -> io::Result<Self> {
        match place {
            AdminPlace::Port(address) => listener::bind(*address).map(Socket::Port),
            AdminPlace::Socket(path) => bind_file(path).map(Socket::File),
        }
    }

    /// For the runtime.
    ///
    /// # Errors
    /// When that does not take it.
    pub(super) fn listen(self) -> io::Result<Listening> {
        match self {
            Socket::Port(socket) => TcpListener::from_std(socket).map(Listening::Port),
            Socket::File(socket) => {
                socket.set_nonblocking(true)?;
                UnixListener::from_std(socket).map(Listening::File)
            }
        }
    }
}

fn bind_file(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net::UnixListener;
    let left = std::fs::symlink_metadata(path).is_ok_and(|known| known.file_type().is_socket());
    if left {
        match connect(path, Duration::from_secs(1)) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            // Somebody listens who has more to do than can wait.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            // Binding says what is wrong.
            Err(_) => {}
        }
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(socket)
}

/// A connection to such a socket. Where too many wait already, that is an error at once.
///
/// # Errors
/// When there is none within `limit`.
pub(super) fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.connect_timeout(&socket2::SockAddr::unix(path)?, limit)?;
    Ok(socket.into())
}

/// One that connections come from.
pub(super) enum Listening {
    Port(TcpListener),
    File(UnixListener),
}

impl Listening {
    /// The next connection.
    ///
    /// # Errors
    /// When it cannot be accepted.
    pub(super) async fn accept(&self) -> io::Result<Arrived> {
        match self {
            Listening::Port(socket) => {
                let (tcp, peer) = socket.accept().await?;
                let stream = ClientStream::new(Transport::Plain(tcp), peer, Default::default());
                Ok(Arrived::Port(Box::new(stream)))
            }
            Listening::File(socket) => {
                let (stream, _) = socket.accept().await?;
                Ok(Arrived::File(Box::new(Plain::from(stream))))
            }
        }
    }
}

/// A connection to it.
pub(super) enum Arrived {
    Port(Box<ClientStream>),
    File(Stream),
}
