//! Signatures of every kind of key, right and wrong, and keys that are none.

use super::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair};

/// Signed by OpenSSL with the private half of `rsa.pem`, which nobody kept.
const BY_RSA: [(&str, &str); 3] = [
    (
        "RS256",
        "eyJhbGciOiAiUlMyNTYifQ.eyJleHAiOjQxMDI0NDQ4MDAsInN1YiI6ImFubiJ9.TViihwFLFF9nhCpJjjZCJE48StpSdTRDv7zPF1rmDPW0qFIDTq8wXsSLnth--NFOQ7iNPVqK0nWld-Emc9K0QayYQexQpIDKXF9WoerCBQcauwd694rTcgoiddQlzQMMHsp6HgaVJAjkTMiyzDTCSNhP15etKizolwBKXATuKr_nqjzblyYyH684slzZdy4OwjTtjJ6zKE1cuKmDlIRXOBRPCGJT4Emr7c1BDWcL0Skr3ixyt15laANjDCSc4OCa_RvujiAujIyR4jCJM0JN94tREhOu4kzaF8mPJHmMmS8rXMbRIXCacI02co_c2TxOVk43NIwXWdV5e7MKIJXnTA",
    ),
    (
        "RS512",
        "eyJhbGciOiAiUlM1MTIifQ.eyJleHAiOjQxMDI0NDQ4MDAsInN1YiI6ImFubiJ9.t2_gdf12JaFVPj1yfvXWfzzyFeF07kb49ZmuV5yCCMY7BQmRT-STEcOezJQdt-FVLdHlwcMIex7-E4szjGwkVng-il-hzNekaJeV88yas_Priim7TeCdiskYhUhGvqPsqZcFfhFerdgfM_IU7iKZ8SkWUMwk6N8Ogrn2ocqa3weE2tx4SAhKxCXtqwFp5nHByj98Ts8MC3WSzLLJk0hiMmD6Lj6eNbyGleR1ci0uAGplTBWzqCi8Y56Ss8-NNJXEd4Oq6gsNNcJONJvf-icUBytMbznF6AQRovHdaeQ54LpLWYlzK5miquzSpYDU8YKx4UliqvUiS8oNO45pyVbb9A",
    ),
    (
        "PS256",
        "eyJhbGciOiAiUFMyNTYifQ.eyJleHAiOjQxMDI0NDQ4MDAsInN1YiI6ImFubiJ9.FVUkdKexb-KPxhX-lQ78fOi7VNjsFD4kweIZw7qR107PyzebVOF1ccWHLKuO07HMC4_vjzkdIo8mdk0xBeDGfnntT1sXpBexj1hYO8Z6lsggH0OGiBuzoqJCPeh3I9LENihDRS87drU_cmQ4wZMDCTUsuwEvuucW7Dicusvbox4w6XMGOX0PfFrurKTMd8jok73aFjKbHfIqMNjkSMKyR9Rwj6ywVT_PiJQeYkvRsGwCuRJApo0VymroQ982By5a9xLCnLAIMG1mmJMrqiKXrNhSU7IVvX_k7RNvgPXDnJOSA5Vxe57x53i26vCmocVI8Vrf0kBhS_5nuMH2ag4qUQ",
    ),
];
const MODULUS: &str = "wWuSAx1Cw-Ygyg4imR3o7VsZKq_T9E8qvCBUIx5gdUes7Vn1_KNjBeYvpQ9bbDhOfn1BjhVnGy-hJqUth7fulJIWnqVNe1_yCXiEk3kLzoBgLlVL6OxWXTJobczX7QbGB9ZohQ9MWpdeshqhTb4OoGiql4UAwj2CqY5Pyf2XO-9juACk5sWuQ7Obn7oJ9Sj57GA2SYhoPQz8UVOIF6TcAiI3VLBvNcY9XeFt4onjE01o7G496krqDjO40oDOxvnaK_BdJqD9iSZaiIsAi1T8RC-1Bw5xT60XFdp1OhLcUhJ6IGM6n-xRuZ3X4Jho3tbnrF745-x1MbGowPwdjQcaIQ";
const PEM: &[u8] = include_bytes!("rsa.pem");

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn checked(keys: &Keys, algorithm: &str, id: Option<&str>, token: &str) -> Checked {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    keys.check(algorithm, id, signed.as_bytes(), &signature)
}

fn set(keys: &[String]) -> Keys {
    Keys::parse(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes()).unwrap()
}

/// A key of an elliptic curve, as JWK and in PEM, and what signs with it.
fn curve(
    kind: &'static rcgen::SignatureAlgorithm,
    how: &'static sig::EcdsaSigningAlgorithm,
    name: &str,
) -> (String, String, impl Fn(&[u8]) -> Vec<u8>) {
    let pair = KeyPair::generate_for(kind).unwrap();
    let point = pair.public_key_raw();
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    let jwk = format!(
        "{{\"kty\":\"EC\",\"crv\":\"{name}\",\"kid\":\"{name}\",\"x\":\"{}\",\"y\":\"{}\"}}",
        encode(x),
        encode(y)
    );
    let pem = pair.public_key_pem();
    let random = SystemRandom::new();
    let signer = EcdsaKeyPair::from_pkcs8(how, &pair.serialize_der(), &random).unwrap();
    let sign = move |signed: &[u8]| signer.sign(&random, signed).unwrap().as_ref().to_vec();
    (jwk, pem, sign)
}

#[test]
fn rsa_by_openssl() {
    let jwk = format!("{{\"kty\":\"RSA\",\"n\":\"{MODULUS}\",\"e\":\"AQAB\"}}");
    for keys in [
        Keys::parse(PEM).unwrap(),
        set(std::slice::from_ref(&jwk)),
        Keys::parse(jwk.as_bytes()).unwrap(),
    ] {
        for (algorithm, token) in BY_RSA {
            assert_eq!(checked(&keys, algorithm, None, token), Checked::Right);
            assert_eq!(
                checked(&keys, algorithm, Some("any"), token),
                Checked::Right
            );
            let other = BY_RSA.iter().find(|(a, _)| a != &algorithm).unwrap();
            assert_eq!(checked(&keys, other.0, None, token), Checked::Wrong);
            let mut forged = token.to_string();
            forged.replace_range(30..31, "A");
            assert_eq!(checked(&keys, algorithm, None, &forged), Checked::Wrong);
        }
    }
}

#[test]
fn each_kind_of_key_signs_for_its_own_algorithm_only() {
    let (p256, p256_pem, sign256) = curve(
        &PKCS_ECDSA_P256_SHA256,
        &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
        "P-256",
    );
    let (p384, p384_pem, sign384) = curve(
        &PKCS_ECDSA_P384_SHA384,
        &sig::ECDSA_P384_SHA384_FIXED_SIGNING,
        "P-384",
    );
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let ed = format!(
        "{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"ed\",\"x\":\"{}\"}}",
        encode(pair.public_key_raw())
    );
    let signer = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pair.serialize_der()).unwrap();
    let secret = [7; 64];
    let oct = format!(
        "{{\"kty\":\"oct\",\"kid\":\"oct\",\"k\":\"{}\"}}",
        encode(secret)
    );
    let hmac = |hash| {
        move |signed: &[u8]| {
            hmac::sign(&hmac::Key::new(hash, &secret), signed)
                .as_ref()
                .to_vec()
        }
    };
    let keys = set(&[p256, p384, ed, oct]);
    let signed = b"head.claims";
    let signatures = [
        ("ES256", "P-256", sign256(signed)),
        ("ES384", "P-384", sign384(signed)),
        ("EdDSA", "ed", signer.sign(signed).as_ref().to_vec()),
        ("Ed25519", "ed", signer.sign(signed).as_ref().to_vec()),
        ("HS256", "oct", hmac(hmac::HMAC_SHA256)(signed)),
        ("HS384", "oct", hmac(hmac::HMAC_SHA384)(signed)),
        ("HS512", "oct", hmac(hmac::HMAC_SHA512)(signed)),
    ];
    for (algorithm, id, signature) in &signatures {
        assert_eq!(
            keys.check(algorithm, Some(id), signed, signature),
            Checked::Right,
            "{algorithm}"
        );
        assert_eq!(
            keys.check(algorithm, None, signed, signature),
            Checked::Right,
            "{algorithm}"
        );
        assert_eq!(
            keys.check(algorithm, Some(id), b"other", signature),
            Checked::Wrong
        );
        assert_eq!(
            keys.check(algorithm, Some("x"), signed, signature),
            Checked::NoKey
        );
        for other in ["none", "HS256", "ES256", "ES384", "RS256", "PS256", "XX"] {
            if other != *algorithm {
                assert_eq!(
                    keys.check(other, Some(id), signed, signature),
                    Checked::Wrong,
                    "{algorithm} as {other}"
                );
            }
        }
    }
    for (pem, (algorithm, _, signature)) in [p256_pem, p384_pem].iter().zip(&signatures) {
        let keys = Keys::parse(pem.as_bytes()).unwrap();
        assert_eq!(
            keys.check(algorithm, Some("any"), signed, signature),
            Checked::Right
        );
    }
}

/// The public key as the secret of an HMAC: the oldest trick.
#[test]
fn a_public_key_is_no_secret() {
    let keys = Keys::parse(PEM).unwrap();
    for secret in [PEM, PEM.trim_ascii_end()] {
        let forged = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"head.claims");
        assert_eq!(
            keys.check("HS256", None, b"head.claims", forged.as_ref()),
            Checked::Wrong
        );
    }
}

#[test]
fn a_key_that_names_its_algorithm_is_for_no_other() {
    let jwk = format!("{{\"kty\":\"RSA\",\"alg\":\"RS512\",\"n\":\"{MODULUS}\",\"e\":\"AQAB\"}}");
    let keys = set(&[jwk]);
    let told = BY_RSA.map(|(algorithm, token)| checked(&keys, algorithm, None, token));
    assert_eq!(told, [Checked::Wrong, Checked::Right, Checked::Wrong]);
}

#[test]
fn what_cannot_be_used() {
    let wrong = |text: &str| Keys::parse(text.as_bytes()).unwrap_err();
    let one = |jwk: &str| wrong(&format!("{{\"keys\":[{jwk}]}}"));
    let short = encode([9; 31]);
    for (said, part) in [
        (wrong(""), "neither a JWK Set nor"),
        (wrong("{"), "not JSON"),
        (wrong("{\"keys\":[]}"), "no key is in it"),
        (wrong("{\"keys\":7}"), "invalid type"),
        (one("{\"kid\":\"1\"}"), "key 1 of it: missing field `kty`"),
        (one("{\"kty\":\"oct\"}"), "there is no k"),
        (
            one(&format!("{{\"kty\":\"oct\",\"k\":\"{short}\"}}")),
            "shorter than its hash",
        ),
        (
            one("{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}"),
            "2048 bits",
        ),
        (
            one("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AQAB\",\"y\":\"AQAB\"}"),
            "as the curve",
        ),
        (
            one("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AQAB\"}"),
            "32 bytes",
        ),
        (
            one("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"!\"}"),
            "base64url",
        ),
        // What is for something else is passed over, and then there is nothing.
        (
            one("{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"AQAB\"}"),
            "no key is in it",
        ),
        (one("{\"kty\":\"oct\",\"use\":\"enc\"}"), "no key is in it"),
        (
            one("{\"kty\":\"oct\",\"key_ops\":[\"sign\"]}"),
            "no key is in it",
        ),
        (
            one("{\"kty\":\"oct\",\"alg\":\"A128KW\"}"),
            "no key is in it",
        ),
        (
            wrong(&KeyPair::generate().unwrap().serialize_pem()),
            "private key",
        ),
    ] {
        assert!(said.contains(part), "{said} has no {part}");
    }
}

#[test]
fn one_key_that_is_unfit_does_not_take_the_others_along() {
    let good = format!("{{\"kty\":\"oct\",\"k\":\"{}\"}}", encode([7; 32]));
    let short = format!("{{\"kty\":\"oct\",\"k\":\"{}\"}}", encode([7; 3]));
    let all = |keys: &[&str]| Keys::parse(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes());
    assert!(all(&[&short, &good]).is_ok());
    assert!(all(&["7", &good, "{}"]).is_ok());
    assert!(all(&[&short]).unwrap_err().contains("key 1 of it"));
}
