//! A client that speaks TLS, and certificates made for a test. It checks what it is shown only as far as a test asks.

use crate::client::Answer;
use crate::harness::PATIENCE;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore,
    SignatureScheme, StreamOwned,
};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key in files.
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    /// As an entry of `certificates`.
    pub(crate) fn yaml(&self) -> String {
        format!(
            "{{ cert: {}, key: {} }}",
            self.cert.display(),
            self.key.display()
        )
    }

    /// The `tls` of a listener that has no other.
    pub(crate) fn tls(&self) -> String {
        format!("tls: {{ certificates: [{}] }}", self.yaml())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.cert).unwrap()
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "the authority");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Writes its own certificate.
    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, self.0.pem()).unwrap();
    }

    /// Signs a certificate for these names and writes it, both files renamed into place.
    pub(crate) fn sign(&self, dir: &Path, file: &str, names: &[&str]) -> Pair {
        self.sign_for(dir, file, names, Duration::from_secs(90 * 86_400))
    }

    /// The same with a certificate that ends so much later than now.
    pub(crate) fn sign_for(&self, dir: &Path, file: &str, names: &[&str], lasts: Duration) -> Pair {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        self.sign_key(dir, file, names, (lasts, &key))
    }

    /// The same for an RSA key, always the same one: making one takes long.
    pub(crate) fn sign_rsa(&self, dir: &Path, file: &str, names: &[&str]) -> Pair {
        let key = KeyPair::from_pem(include_str!("rsa.key")).unwrap();
        self.sign_key(dir, file, names, (Duration::from_secs(90 * 86_400), &key))
    }

    fn sign_key(
        &self,
        dir: &Path,
        file: &str,
        names: &[&str],
        (lasts, key): (Duration, &KeyPair),
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|n| (*n).to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, file);
        params.not_before = (SystemTime::now() - Duration::from_secs(40 * 86_400)).into();
        params.not_after = (SystemTime::now() + lasts).into();
        let cert = params.signed_by(key, &self.0).unwrap();
        let pair = Pair {
            cert: dir.join(format!("{file}.pem")),
            key: dir.join(format!("{file}.key")),
        };
        for (path, text) in [(&pair.cert, cert.pem()), (&pair.key, key.serialize_pem())] {
            let new = path.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, path).unwrap();
        }
        pair
    }

    /// A client that believes this authority alone.
    pub(crate) fn client(&self) -> Tls {
        Tls::believing(self.0.pem().as_bytes())
    }
}

/// How a client connects.
#[derive(Clone)]
pub(crate) struct Tls {
    roots: Arc<RootCertStore>,
    shown: Option<(PathBuf, PathBuf)>,
    alpn: Vec<Vec<u8>>,
    old: bool,
    rsa: bool,
    before: Vec<u8>,
    resumption: Option<Arc<ClientConfig>>,
}

impl Tls {
    /// Believes this authority alone.
    pub(crate) fn believing(pem: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(pem).unwrap())
            .unwrap();
        Tls {
            roots: Arc::new(roots),
            shown: None,
            alpn: Vec::new(),
            old: false,
            rsa: false,
            before: Vec::new(),
            resumption: None,
        }
    }
    /// Shows this certificate.
    pub(crate) fn showing(mut self, pair: &Pair) -> Self {
        self.shown = Some((pair.cert.clone(), pair.key.clone()));
        self
    }

    /// Speaks TLS 1.2 and nothing newer.
    pub(crate) fn old(mut self) -> Self {
        self.old = true;
        self
    }

    /// Can verify RSA and nothing newer. What it is shown has to be RSA; its authority need not be, for it does not ask.
    pub(crate) fn of_rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    /// Offers these protocols.
    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self
    }

    /// Sends this before the handshake.
    pub(crate) fn after(mut self, bytes: &[u8]) -> Self {
        self.before = bytes.to_vec();
        self
    }

    /// Keeps what it is given to resume a session.
    pub(crate) fn resuming(mut self) -> Self {
        self.resumption = Some(Arc::new(self.config()));
        self
    }

    fn config(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let versions = match self.old {
            true => &[&rustls::version::TLS12][..],
            false => rustls::DEFAULT_VERSIONS,
        };
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = match self.rsa {
            true => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(OfRsa)),
            false => builder.with_root_certificates(self.roots.clone()),
        };
        let mut config = match &self.shown {
            Some((cert, key)) => {
                let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = Resumption::in_memory_sessions(8);
        config
    }

    /// Connects and completes the handshake.
    pub(crate) fn to(&self, port: u16, host: &str) -> Result<TlsClient, std::io::Error> {
        let config = self
            .resumption
            .clone()
            .unwrap_or_else(|| Arc::new(self.config()));
        let name = ServerName::try_from(host.to_string()).unwrap();
        let mut session = ClientConnection::new(config, name).unwrap();
        let mut tcp = TcpStream::connect(("127.0.0.1", port))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        tcp.write_all(&self.before)?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(TlsClient {
            stream: StreamOwned::new(session, tcp),
            host: host.to_string(),
            came: Vec::new(),
        })
    }
}

/// Believes whatever is shown that is signed by RSA.
#[derive(Debug)]
struct OfRsa;

impl ServerCertVerifier for OfRsa {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}

/// A connection.
pub(crate) struct TlsClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
    host: String,
    /// Of the next answer.
    came: Vec<u8>,
}

impl TlsClient {
    /// The certificate it was shown.
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        self.stream.conn.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }

    /// Waits until the connection is closed, whatever comes before.
    pub(crate) fn wait_for_close(&mut self) {
        let mut piece = [0; 1024];
        while let Ok(1..) = self.stream.read(&mut piece) {}
        let end = self.stream.read(&mut piece).map_err(|e| e.kind());
        assert!(!matches!(end, Err(ErrorKind::WouldBlock)), "it stays open");
    }

    /// The protocol that was chosen.
    pub(crate) fn protocol(&self) -> Option<String> {
        let chosen = self.stream.conn.alpn_protocol()?;
        Some(String::from_utf8_lossy(chosen).into_owned())
    }

    /// Whether a session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Asks by HTTP/1.
    pub(crate) fn get(&mut self, target: &str) -> std::io::Result<Answer> {
        self.begin(target)?;
        self.answer()
    }

    /// Asks, in a write of its own, and waits for nothing.
    pub(crate) fn begin(&mut self, target: &str) -> std::io::Result<()> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes())
    }

    /// Sends these bytes as they are, in a write of its own.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next bytes, so many.
    pub(crate) fn read(&mut self, n: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.came);
        let mut piece = [0; 16 * 1024];
        while bytes.len() < n {
            match self.stream.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => bytes.extend_from_slice(&piece[..read]),
            }
        }
        self.came = bytes.split_off(n);
        Ok(bytes)
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> std::io::Result<Answer> {
        let mut bytes = std::mem::take(&mut self.came);
        let mut piece = [0; 16 * 1024];
        let (head, start) = loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break (String::from_utf8_lossy(&bytes[..end]).into_owned(), end + 4);
            }
            match self.stream.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => bytes.extend_from_slice(&piece[..n]),
            }
        };
        let mut lines = head.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_string();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        let length = headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map_or(0, |(_, v)| v.parse().unwrap());
        while bytes.len() < start + length {
            match self.stream.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => bytes.extend_from_slice(&piece[..n]),
            }
        }
        self.came = bytes.split_off(start + length);
        Ok(Answer {
            status: first_line.split(' ').nth(1).unwrap().parse().unwrap(),
            first_line,
            headers,
            body: bytes[start..].to_vec(),
            complete: true,
            trailers: Vec::new(),
            informational: Vec::new(),
        })
    }
}
