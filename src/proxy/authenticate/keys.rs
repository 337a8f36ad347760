//! The keys by which signatures of tokens are checked: a JWK Set (RFC 7517) or a public key in PEM.
//!
//! A key decides which algorithms it is for, never the token: a public key is no secret of HMAC (RFC 8725 §3.1). The
//! arithmetic is ring's.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use log::warn;
use ring::hmac;
use ring::signature::{self as sig, RsaPublicKeyComponents, UnparsedPublicKey};
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde::Deserialize;
use serde_json::Value;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

/// Keys that are looked at for one token at most.
const MOST: usize = 16;

/// The algorithms of RFC 7518 §3.1 and RFC 8037 §3.1 that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// Keys, at least one.
#[derive(Debug)]
pub struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The only one it is for, if it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

enum Material {
    Secret(Vec<u8>),
    /// As in PKCS #1.
    Rsa(Vec<u8>),
    /// Modulus and exponent.
    RsaParts(Vec<u8>, Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Material::Secret(_) => "a secret",
            Material::Rsa(_) | Material::RsaParts(..) => "RSA",
            Material::P256(_) => "P-256",
            Material::P384(_) => "P-384",
            Material::Ed25519(_) => "Ed25519",
        })
    }
}

/// What is known of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
    /// None of the keys is the one that it says it is by.
    NoKey,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// A JWK: the members that matter (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
}

impl Algorithm {
    pub(super) fn parse(word: &str) -> Option<Self> {
        use Algorithm::{
            EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512,
        };
        Some(match word {
            "HS256" => Hs256,
            "HS384" => Hs384,
            "HS512" => Hs512,
            "RS256" => Rs256,
            "RS384" => Rs384,
            "RS512" => Rs512,
            "PS256" => Ps256,
            "PS384" => Ps384,
            "PS512" => Ps512,
            "ES256" => Es256,
            "ES384" => Es384,
            // The second is its name in RFC 9864.
            "EdDSA" | "Ed25519" => EdDsa,
            _ => return None,
        })
    }

    /// The hash of an HMAC, and how long a key has to be at least (RFC 7518 §3.2).
    fn hmac(self) -> Option<(hmac::Algorithm, usize)> {
        match self {
            Algorithm::Hs256 => Some((hmac::HMAC_SHA256, 32)),
            Algorithm::Hs384 => Some((hmac::HMAC_SHA384, 48)),
            Algorithm::Hs512 => Some((hmac::HMAC_SHA512, 64)),
            _ => None,
        }
    }

    fn rsa(self) -> Option<&'static sig::RsaParameters> {
        match self {
            Algorithm::Rs256 => Some(&sig::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Some(&sig::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Some(&sig::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Some(&sig::RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Some(&sig::RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Some(&sig::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }
}

impl Key {
    /// Whether it could have made a signature by this algorithm.
    fn is_for(&self, algorithm: Algorithm) -> bool {
        if self.algorithm.is_some_and(|only| only != algorithm) {
            return false;
        }
        match &self.material {
            Material::Secret(secret) => algorithm
                .hmac()
                .is_some_and(|(_, least)| secret.len() >= least),
            Material::Rsa(_) | Material::RsaParts(..) => algorithm.rsa().is_some(),
            Material::P256(_) => algorithm == Algorithm::Es256,
            Material::P384(_) => algorithm == Algorithm::Es384,
            Material::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }

    fn made(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let by = |how: &'static dyn sig::VerificationAlgorithm, key: &Vec<u8>| {
            UnparsedPublicKey::new(how, key).verify(signed, signature)
        };
        let checked = match (&self.material, algorithm.rsa()) {
            (Material::Secret(secret), _) => match algorithm.hmac() {
                Some((hash, _)) => hmac::verify(&hmac::Key::new(hash, secret), signed, signature),
                None => return false,
            },
            (Material::Rsa(key), Some(how)) => by(how, key),
            (Material::RsaParts(n, e), Some(how)) => {
                RsaPublicKeyComponents { n, e }.verify(how, signed, signature)
            }
            (Material::P256(key), _) => by(&sig::ECDSA_P256_SHA256_FIXED, key),
            (Material::P384(key), _) => by(&sig::ECDSA_P384_SHA384_FIXED, key),
            (Material::Ed25519(key), _) => by(&sig::ED25519, key),
            (Material::Rsa(_) | Material::RsaParts(..), None) => return false,
        };
        checked.is_ok()
    }
}

impl Keys {
    /// Reads a JWK Set, one JWK, or public keys and certificates in PEM.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let keys = match text.trim_ascii_start().first() {
            Some(b'{') => jwks(text)?,
            _ => pem(text)?,
        };
        if keys.is_empty() {
            return Err("no key is in it by which signatures can be checked".to_string());
        }
        Ok(Keys(keys))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether a signature was made by the key of this id, or by any of them if none is named.
    pub(super) fn check(
        &self,
        algorithm: &str,
        id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Checked {
        let Some(algorithm) = Algorithm::parse(algorithm) else {
            return Checked::Wrong;
        };
        // A key without an id may be any.
        let is_meant = |key: &&Key| match (id, &key.id) {
            (Some(id), Some(own)) => id == own,
            _ => true,
        };
        let mut meant = self.0.iter().filter(is_meant).peekable();
        if meant.peek().is_none() {
            return Checked::NoKey;
        }
        let mut fit = meant.filter(|key| key.is_for(algorithm)).take(MOST);
        match fit.any(|key| key.made(algorithm, signed, signature)) {
            true => Checked::Right,
            false => Checked::Wrong,
        }
    }
}

fn jwks(text: &[u8]) -> Result<Vec<Key>, String> {
    let value: Value = serde_json::from_slice(text).map_err(|e| format!("it is not JSON: {e}"))?;
    let all = match value.get("keys") {
        Some(_) => {
            serde_json::from_value::<Set>(value)
                .map_err(|e| e.to_string())?
                .keys
        }
        None => vec![value],
    };
    let (mut keys, mut unfit) = (Vec::new(), None);
    for (i, jwk) in all.into_iter().enumerate() {
        let key = serde_json::from_value::<Jwk>(jwk).map_err(|e| e.to_string());
        let key = key.and_then(|jwk| read(jwk).map_err(str::to_string));
        match key {
            Ok(key) => keys.extend(key),
            Err(e) => {
                let why = format!("key {} of it: {e}", i + 1);
                warn!("a set of keys is used without one: {why}");
                unfit.get_or_insert(why);
            }
        }
    }
    // One that is not understood must not take the others along (RFC 7517 section 5); but none at all is a mistake.
    match unfit {
        Some(why) if keys.is_empty() => Err(why),
        _ => Ok(keys),
    }
}

/// A key; `None` for one that is for something else or of a kind that is not known, which is to be passed over
/// (RFC 7517 §5).
fn read(jwk: Jwk) -> Result<Option<Key>, &'static str> {
    let is_for_signatures = jwk.r#use.as_deref().is_none_or(|u| u == "sig")
        && jwk
            .key_ops
            .as_ref()
            .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let algorithm = jwk.alg.as_deref().map(Algorithm::parse);
    if !is_for_signatures || algorithm == Some(None) {
        return Ok(None);
    }
    let bytes = |member: Option<&String>, missing| {
        let text = member.ok_or(missing)?;
        URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| "a member is not base64url")
    };
    let point = |length: usize| {
        let (x, y) = (
            bytes(jwk.x.as_ref(), "there is no x")?,
            bytes(jwk.y.as_ref(), "there is no y")?,
        );
        if x.len() != length || y.len() != length {
            return Err("x or y is not as long as the curve has it");
        }
        Ok([vec![4], x, y].concat())
    };
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("oct", _) => {
            let secret = bytes(jwk.k.as_ref(), "there is no k")?;
            let least = algorithm
                .flatten()
                .and_then(Algorithm::hmac)
                .map_or(32, |(_, least)| least);
            if secret.len() < least {
                return Err("the secret is shorter than its hash (RFC 7518 section 3.2)");
            }
            Material::Secret(secret)
        }
        ("RSA", _) => {
            let n = bytes(jwk.n.as_ref(), "there is no n")?;
            let significant = n.iter().skip_while(|b| **b == 0).count();
            if significant < 256 {
                return Err("the modulus has less than 2048 bits");
            }
            Material::RsaParts(
                n.into_iter().skip_while(|b| *b == 0).collect(),
                bytes(jwk.e.as_ref(), "there is no e")?,
            )
        }
        ("EC", Some("P-256")) => Material::P256(point(32)?),
        ("EC", Some("P-384")) => Material::P384(point(48)?),
        ("OKP", Some("Ed25519")) => {
            let x = bytes(jwk.x.as_ref(), "there is no x")?;
            if x.len() != 32 {
                return Err("x is not 32 bytes long");
            }
            Material::Ed25519(x)
        }
        _ => return Ok(None),
    };
    Ok(Some(Key {
        id: jwk.kid,
        algorithm: algorithm.flatten(),
        material,
    }))
}

fn pem(text: &[u8]) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|e| e.to_string())?;
        let material = match kind {
            SectionKind::PublicKey => public(&der)?,
            SectionKind::Certificate => {
                let (_, certificate) =
                    X509Certificate::from_der(&der).map_err(|e| e.to_string())?;
                of_info(certificate.public_key())?
            }
            SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey => {
                return Err("there is a private key in it; only its public part is needed".into());
            }
            _ => continue,
        };
        keys.push(Key {
            id: None,
            algorithm: None,
            material,
        });
    }
    if keys.is_empty() {
        return Err("it is neither a JWK Set nor a public key in PEM".to_string());
    }
    Ok(keys)
}

fn public(der: &[u8]) -> Result<Material, String> {
    let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|e| e.to_string())?;
    of_info(&info)
}

/// The key of a `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Material, String> {
    let key = info.subject_public_key.data.to_vec();
    let curve = info
        .algorithm
        .parameters
        .as_ref()
        .and_then(|p| p.as_oid().ok());
    let curve = curve.map(|oid| oid.to_id_string());
    match (
        info.algorithm.algorithm.to_id_string().as_str(),
        curve.as_deref(),
    ) {
        ("1.2.840.113549.1.1.1", _) if key.len() < 256 => {
            Err("the modulus of its key has less than 2048 bits".to_string())
        }
        ("1.2.840.113549.1.1.1", _) => Ok(Material::Rsa(key)),
        ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => Ok(Material::P256(key)),
        ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => Ok(Material::P384(key)),
        ("1.3.101.112", _) => Ok(Material::Ed25519(key)),
        _ => Err("its key is neither RSA, P-256, P-384 nor Ed25519".to_string()),
    }
}

#[cfg(test)]
mod tests;
