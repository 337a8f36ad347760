//! `admin` of the static file, as written: where Backstop answers its operator.
//!
//! Read by `settings`. Whoever reaches this address sees how everything is doing, so by default only this machine does.

use super::address::ListenAddress;
use super::keypath::KeyPath;
use super::patterns::FileText;
use super::report::{Document, Report};
use super::written::{Complaint, Written, written};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where Backstop answers its operator, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where.
    pub address: AdminPlace,
    /// The file of those who may look and change; without one, whoever reaches the address may look.
    pub auth: Option<PathBuf>,
}

/// Where the operator is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminPlace {
    /// At an IP address and a port.
    Port(SocketAddr),
    /// At a socket in the file system, which its user and its group can reach; the path is absolute.
    Socket(PathBuf),
}

impl fmt::Display for AdminPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminPlace::Port(address) => address.fmt(f),
            AdminPlace::Socket(path) => write!(f, "{SOCKET}{}", path.display()),
        }
    }
}

/// What the path of a socket follows, as in nginx.
const SOCKET: &str = "unix:";

/// `admin`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { address: 127.0.0.1:9090 }"
)]
pub(crate) struct AdminSpec {
    address: AdminAddress,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<FileText>,
}

impl AdminSpec {
    /// Reports an address that other machines can reach, unless it has users; `path` is that of this mapping.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        if self.address().is_none_or(is_local) || self.auth.is_some() {
            return;
        }
        let message = format!(
            "{} is not a loopback address: other machines could reach it",
            self.address
        );
        let problem = report.add(document, path.key("address"), message);
        problem.help =
            Some("write auth: a file of users, made by `htpasswd -B`, beside it".to_string());
    }

    /// The port to listen on, if that is where.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.address.0 {
            AdminPlace::Port(address) => Some(address),
            AdminPlace::Socket(_) => None,
        }
    }

    /// With paths made `absolute`.
    pub(crate) fn compile(self, absolute: impl Fn(&str) -> PathBuf) -> Admin {
        Admin {
            address: match self.address.0 {
                AdminPlace::Socket(path) => AdminPlace::Socket(absolute(&path.to_string_lossy())),
                port => port,
            },
            auth: self.auth.map(|file| absolute(&file.0)),
        }
    }

    /// How it is written.
    pub(crate) fn of(admin: &Admin) -> AdminSpec {
        AdminSpec {
            address: AdminAddress(admin.address.clone()),
            auth: admin
                .auth
                .as_ref()
                .map(|path| FileText(path.to_string_lossy().into_owned())),
        }
    }
}

/// Whether only this machine reaches an address; also as IPv4 in the clothes of IPv6 (RFC 4291 §2.5.5.2).
fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// As a [`ListenAddress`], but a bare port is meant for this machine; or the path of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AdminAddress(AdminPlace);

impl Written for AdminAddress {
    const EXPECTED: &'static str =
        "an IP address and a port such as 127.0.0.1:9090, or unix: and the path of a socket";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if let Some(path) = word.strip_prefix(SOCKET) {
            let path = FileText::parse(path)?.0.into();
            return Ok(AdminAddress(AdminPlace::Socket(path)));
        }
        match (ListenAddress::parse(word), word.strip_prefix(':')) {
            (Ok(address), _) => Ok(AdminAddress(AdminPlace::Port(address.0))),
            (Err(_), Some(port)) => Err(Complaint {
                message: None,
                help: Self::meant_by_number(port),
            }),
            (Err(complaint), None) => Err(complaint),
        }
    }

    fn meant_by_number(number: &str) -> Option<String> {
        ListenAddress::meant_by_number(number)
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written!(AdminAddress);

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> usize {
        let spec: AdminSpec = serde_yaml::from_str(text).unwrap();
        let mut report = Report::default();
        spec.check(Document::first(0), &KeyPath::default(), &mut report);
        report.count()
    }

    #[test]
    fn only_this_machine_unless_more_is_meant() {
        for (address, local) in [
            ("127.0.0.1:9090", true),
            ("127.9.9.9:9090", true),
            ("[::1]:9090", true),
            ("[::ffff:127.0.0.1]:9090", true),
            ("unix:run/admin.sock", true),
            ("0.0.0.0:9090", false),
            ("[::]:9090", false),
            ("10.0.0.1:9090", false),
            ("[::ffff:10.0.0.1]:9090", false),
        ] {
            let alone = format!("{{ address: \"{address}\" }}");
            assert_eq!(errors(&alone), usize::from(!local), "{address}");
            let meant = format!("{{ address: \"{address}\", auth: users }}");
            assert_eq!(errors(&meant), 0, "{address}");
            // What is shown passes, too.
            let spec: AdminSpec = serde_yaml::from_str(&meant).unwrap();
            let shown =
                serde_yaml::to_string(&AdminSpec::of(&spec.compile(|path| path.into()))).unwrap();
            assert_eq!(errors(&shown), 0, "{shown}");
        }
    }

    #[test]
    fn addresses() {
        for (text, help) in [
            ("9090", Some("did you mean 127.0.0.1:9090?")),
            (":9090", Some("did you mean 127.0.0.1:9090?")),
            ("localhost:9090", Some("did you mean 127.0.0.1:9090?")),
            (":many", None),
            ("127.0.0.1:0", None),
            ("example.com:80", None),
        ] {
            let complaint = AdminAddress::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
    }
}
