//! Whom a certificate is of, in the form that people write it (RFC 4514): `CN=ann,OU=Ward 3,O=Example`.

use rustls::pki_types::CertificateDer;
use x509_parser::der_parser::asn1_rs::{Any, ToDer};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// Longer ones are cut: it goes into a header.
const MOST: usize = 1024;

/// The subject of a certificate; `None` if that is nobody.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let text: String = write(certificate.subject()).chars().take(MOST).collect();
    (!text.is_empty()).then_some(text)
}

/// The last part first (RFC 4514 §2.1), as LDAP and nginx have it.
fn write(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter()
        .map(|part| {
            let attributes = part.iter().map(|attribute| {
                let oid = attribute.attr_type();
                let kind = oid2abbrev(oid, oid_registry());
                let kind = kind.map_or_else(|_| oid.to_id_string(), str::to_string);
                match attribute.as_str() {
                    Ok(text) => format!("{kind}={}", escape(text)),
                    // A kind of text that is read nowhere else: its encoding tells one from another (RFC 4514 §2.4).
                    Err(_) => format!("{kind}=#{}", encoding(attribute.attr_value())),
                }
            });
            attributes.collect::<Vec<_>>().join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

/// A value in hexadecimal digits, with its type and length.
fn encoding(value: &Any<'_>) -> String {
    let bytes = value.to_der_vec().unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 4514 §2.4.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (i, c) in value.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=')
            || (c == ' ' && (i == 0 || i == last))
            || (c == '#' && i == 0);
        if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("\\{byte:02X}"));
            }
            continue;
        }
        if special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::string::BmpString;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    fn subject<V: Into<DnValue> + Clone>(parts: &[(DnType, V)]) -> Option<String> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        of(certificate.der())
    }

    #[test]
    fn subjects_are_written_so_that_nothing_is_taken_for_another_part() {
        let (o, cn) = (DnType::OrganizationName, DnType::CommonName);
        for (parts, written) in [
            (vec![], None),
            (
                vec![(o.clone(), "Example"), (cn.clone(), "ann")],
                Some("CN=ann,O=Example"),
            ),
            (
                vec![(cn.clone(), "ann,O=Other")],
                Some("CN=ann\\,O\\=Other"),
            ),
            (vec![(cn.clone(), " a\n#\\ ")], Some("CN=\\ a\\0A#\\\\\\ ")),
            (vec![(cn.clone(), "#1")], Some("CN=\\#1")),
            (vec![(cn, "J\u{fc}rg")], Some("CN=J\u{fc}rg")),
        ] {
            assert_eq!(subject(&parts).as_deref(), written);
        }
    }

    #[test]
    fn odd_kinds_of_text_are_told_apart() {
        let name = |text: &str| BmpString::try_from(text).unwrap();
        let written = |text| subject(&[(DnType::CommonName, DnValue::BmpString(name(text)))]);
        assert_eq!(written("ann").as_deref(), Some("CN=#1e060061006e006e"));
        assert_eq!(written("bob").as_deref(), Some("CN=#1e060062006f0062"));
    }
}
