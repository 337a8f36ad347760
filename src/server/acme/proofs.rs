//! What proves to an authority that names are ours, while it asks: an answer in clear text, or a handshake of TLS.

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The path below which an authority asks, in clear text (RFC 8555 §8.3).
pub const PATH: &str = "/.well-known/acme-challenge/";
/// The protocol by which it asks, in a handshake (RFC 8737 §4).
pub const ALPN: &[u8] = b"acme-tls/1";

/// The proofs of the moment.
#[derive(Debug, Default)]
pub struct Proofs {
    /// By token.
    answers: Mutex<HashMap<String, String>>,
    /// By name.
    certificates: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

/// A proof that is shown; until dropped.
pub struct Shown<'a> {
    proofs: &'a Proofs,
    what: What,
}

enum What {
    Answer(String),
    Certificate(String),
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        match &self.what {
            What::Answer(token) => drop(lock(&self.proofs.answers).remove(token)),
            What::Certificate(name) => drop(lock(&self.proofs.certificates).remove(name)),
        }
    }
}

impl Proofs {
    /// Shows an answer to who asks for this token.
    pub fn show_answer(&self, token: &str, answer: &str) -> Shown<'_> {
        lock(&self.answers).insert(token.to_string(), answer.to_string());
        Shown {
            proofs: self,
            what: What::Answer(token.to_string()),
        }
    }

    /// Shows a certificate with this digest in it to who asks for this name (RFC 8737 §3).
    ///
    /// # Errors
    /// When none can be made.
    pub fn show_certificate(&self, name: &str, digest: &[u8]) -> Result<Shown<'_>, rcgen::Error> {
        let mut params = CertificateParams::new([name.to_string()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = self_signed(&params)?;
        lock(&self.certificates).insert(name.to_string(), certificate);
        Ok(Shown {
            proofs: self,
            what: What::Certificate(name.to_string()),
        })
    }

    /// The answer to a request for this path, if it asks for a proof that is there.
    pub fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PATH)?;
        lock(&self.answers).get(token).cloned()
    }

    /// The certificate for a handshake that asks for the proof of this name.
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        lock(&self.certificates).get(name).cloned()
    }
}

/// A certificate that nobody signed but itself.
///
/// # Errors
/// When none can be made.
pub fn self_signed(params: &CertificateParams) -> Result<Arc<CertifiedKey>, rcgen::Error> {
    let pair = KeyPair::generate()?;
    let certificate = params.self_signed(&pair)?;
    let key = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
    let key = any_supported_type(&key).map_err(|_| rcgen::Error::UnsupportedSignatureAlgorithm)?;
    Ok(Arc::new(CertifiedKey::new(
        vec![certificate.der().clone()],
        key,
    )))
}

fn lock<K: Eq + Hash, V>(map: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_there_while_it_is_shown() {
        let proofs = Proofs::default();
        let path = format!("{PATH}token");
        let shown = proofs.show_answer("token", "token.thumb");
        assert_eq!(proofs.answer(&path).as_deref(), Some("token.thumb"));
        assert_eq!(proofs.answer(&format!("{path}x")), None);
        assert_eq!(proofs.answer("/token"), None);
        drop(shown);
        assert_eq!(proofs.answer(&path), None);
        let shown = proofs.show_certificate("a.example", &[7; 32]).unwrap();
        assert!(proofs.certificate("a.example").is_some());
        assert!(proofs.certificate("b.example").is_none());
        drop(shown);
        assert!(proofs.certificate("a.example").is_none());
    }
}
