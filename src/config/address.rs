//! Addresses as written: of backends (`127.0.0.1:9001`, `[::1]:9001`, `api.internal:80`), of listeners and of DNS servers.
//!
//! Decides what an address looks like. It looks nothing up.

use super::written::{Complaint, Written, meant, written};
use http::Uri;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Where a backend listens. Equal addresses are the same backend, also across a reload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendAddress {
    /// An IP address or a name.
    pub host: Host,
    /// At least 1.
    pub port: u16,
}

/// The host of a [`BackendAddress`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// Used as it is.
    Ip(IpAddr),
    /// Looked up, again and again. In lower case.
    Name(String),
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Whether `name` can be looked up: dot-separated labels of letters, digits, `-` and `_` (RFC 1123 §2.1, and the
/// underscore that container networks use). A name that ends in a number is a mistyped IPv4 address.
pub(crate) fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let number = |l: &str| l.bytes().all(|b| b.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(label) && !name.rsplit('.').next().is_some_and(number)
}

/// A port from 1 to 65535 in digits only.
fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

impl Written for BackendAddress {
    const EXPECTED: &'static str = "an address such as 127.0.0.1:9001";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if let Some((scheme @ ("http" | "https"), rest)) = word.split_once("://") {
            let rest = rest.split('/').next().unwrap_or(rest);
            let complaint = Complaint::because("an address has no scheme and no path");
            let default = if scheme == "https" { 443 } else { 80 };
            return Err(
                match (Self::parse(rest), Self::parse(&format!("{rest}:{default}"))) {
                    (Ok(address), _) | (_, Ok(address)) => complaint.or(meant(address)),
                    _ => complaint,
                },
            );
        }
        if let Ok(ip) = word.parse::<Ipv6Addr>() {
            let help = format!("did you mean \"[{ip}]:80\"?");
            return Err(Complaint::because("an IPv6 address needs brackets and a port").or(help));
        }
        let Some((host, number)) = word.rsplit_once(':') else {
            let complaint = Complaint::because("an address needs a port");
            let fits = Self::parse(&format!("{word}:80"));
            return Err(match fits {
                Ok(address) => complaint.or(meant(address)),
                Err(_) => Complaint::unfit(),
            });
        };
        let Some(port) = port(number) else {
            return Err(Complaint::because(format!(
                "a port is a number from 1 to 65535, not {number:?}"
            )));
        };
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match inner {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|ip| Host::Ip(ip.into())),
            None => match host.parse() {
                Ok(ip @ IpAddr::V4(_)) => Some(Host::Ip(ip)),
                _ => is_name(host).then(|| Host::Name(host.to_ascii_lowercase())),
            },
        };
        host.map(|host| BackendAddress { host, port })
            .ok_or_else(Complaint::unfit)
    }

    fn meant_by_number(number: &str) -> Option<String> {
        port(number).map(|port| meant(format_args!("127.0.0.1:{port}")))
    }
}

/// An IP address with a port above 0: what one listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenAddress(pub(crate) SocketAddr);

impl Written for ListenAddress {
    const EXPECTED: &'static str = "an IP address and a port such as 127.0.0.1:8080";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match word.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 => return Ok(ListenAddress(address)),
            Ok(_) => {
                return Err(Complaint::because(
                    "a port is a number from 1 to 65535, not 0",
                ));
            }
            Err(_) => {}
        }
        let help = match word.rsplit_once(':') {
            Some(("" | "*", end)) => port(end).map(|p| meant(format_args!("0.0.0.0:{p}"))),
            Some(("localhost", end)) => port(end).map(|p| meant(format_args!("127.0.0.1:{p}"))),
            None => Self::meant_by_number(word),
            _ => None,
        };
        Err(Complaint {
            message: None,
            help,
        })
    }

    fn meant_by_number(number: &str) -> Option<String> {
        BackendAddress::meant_by_number(number)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A DNS server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerAddress(pub(crate) SocketAddr);

impl Written for ServerAddress {
    const EXPECTED: &'static str = "an IP address and a port such as 10.0.0.2:53";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match (word.parse::<SocketAddr>(), word.parse::<IpAddr>()) {
            (Ok(address), _) if address.port() > 0 => Ok(ServerAddress(address)),
            (_, Ok(ip)) => Err(Complaint::help(meant(SocketAddr::new(ip, 53)))),
            _ => Err(Complaint::unfit()),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written!(BackendAddress, ListenAddress, ServerAddress);

/// Reads the address of somebody who is asked by HTTP, with or without TLS. A user and a password do not belong there: `instead` says what does.
///
/// # Errors
/// It is none, or has a secret in it.
pub(crate) fn http_address(word: &str, instead: &str) -> Result<Uri, Complaint> {
    let uri: Uri = word.parse().map_err(|_| Complaint::unfit())?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(Complaint::because("an address has no user and no password").or(instead));
    }
    let host = uri.host().unwrap_or_default();
    // A port that is none is no host either.
    let has_port = authority.len() == host.len() || uri.port_u16().is_some();
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    match is_known && !host.is_empty() && has_port && !word.contains(['?', '#']) {
        true => Ok(uri),
        false => Err(Complaint::unfit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_of_backends() {
        for (text, shown) in [
            ("127.0.0.1:9001", "127.0.0.1:9001"),
            ("[::1]:9001", "[::1]:9001"),
            ("[2001:DB8:0::1]:80", "[2001:db8::1]:80"),
            ("api.internal:80", "api.internal:80"),
            ("API.Internal.:80", "api.internal.:80"),
            ("my_service:65535", "my_service:65535"),
        ] {
            assert_eq!(BackendAddress::parse(text).unwrap().to_string(), shown);
        }
        for (text, help) in [
            ("127.0.0.1", Some("did you mean 127.0.0.1:80?")),
            ("::1", Some("did you mean \"[::1]:80\"?")),
            ("http://10.0.0.1:81/x", Some("did you mean 10.0.0.1:81?")),
            (
                "https://api.internal",
                Some("did you mean api.internal:443?"),
            ),
            ("http://", None),
            ("", None),
            (":80", None),
            ("a:0", None),
            ("a:65536", None),
            ("a:+80", None),
            ("a:b", None),
            ("300.1.1.1:80", None),
            ("127.0.0.1.:80", None),
            ("a b:80", None),
            ("a..b:80", None),
            ("-a:80", None),
            ("[127.0.0.1]:80", None),
            ("[::1:80", None),
            ("::1:x", None),
        ] {
            let complaint = BackendAddress::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
    }

    #[test]
    fn addresses_of_listeners_and_servers() {
        assert!(ListenAddress::parse("[::]:80").is_ok());
        for (text, help) in [
            ("8080", Some("did you mean 127.0.0.1:8080?")),
            (":8080", Some("did you mean 0.0.0.0:8080?")),
            ("*:8080", Some("did you mean 0.0.0.0:8080?")),
            ("localhost:8080", Some("did you mean 127.0.0.1:8080?")),
            ("example.com:80", None),
            ("127.0.0.1:0", None),
        ] {
            let complaint = ListenAddress::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
        let complaint = ServerAddress::parse("10.0.0.2").unwrap_err();
        assert_eq!(complaint.help.as_deref(), Some("did you mean 10.0.0.2:53?"));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_shown_is_read_again(text in "\\PC{0,20}|[a-z0-9.:\\[\\]/-]{0,20}") {
            if let Ok(address) = BackendAddress::parse(&text) {
                prop_assert_eq!(BackendAddress::parse(&address.to_string()), Ok(address));
            }
            let _ = (ListenAddress::parse(&text), ServerAddress::parse(&text));
        }
    }
}
