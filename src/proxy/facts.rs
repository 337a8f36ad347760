//! What a request says of itself: host, target, id, client. Read once by the first callback, used by all later ones.

use super::client::Client;
use super::ctx::Ctx;
use crate::policy::balancer::{Balance, HashOn};
use crate::policy::eights;
use crate::policy::fields;
use crate::policy::forwarded;
use crate::policy::target::{is_host, normalise_host};
use crate::policy::template::Vars;
use http::{HeaderName, HeaderValue, Method, Version, header};
use pingora::http::RequestHeader;
use std::borrow::Cow;
use std::net::IpAddr;

/// The header an operator follows a request by.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The host the client asked for, as written: the target's authority where it has one (RFC 9112 §3.2.2), else `Host`.
pub(super) fn authority(request: &RequestHeader) -> &str {
    authority_by(request, fields::first(&request.headers, &header::HOST))
}

/// The same, where it is known what `Host` says.
pub(super) fn authority_by<'a>(
    request: &'a RequestHeader,
    host: Option<&'a HeaderValue>,
) -> &'a str {
    match request.uri.authority() {
        Some(authority) => authority.as_str(),
        None => host.and_then(|h| h.to_str().ok()).unwrap_or_default(),
    }
}

/// Whether the request is not what [`authority`] and [`target`] make of it: a `Host` that is no host, missing (but for
/// HTTP/1.0) or there more than once, or a target that is neither a path, nor the `*` of `OPTIONS`, nor begins with a scheme (RFC 9112 §3.2).
pub(super) fn is_odd(request: &RequestHeader) -> bool {
    let mut hosts = fields::all(&request.headers, &header::HOST);
    let host = hosts.next().map_or(&b""[..], HeaderValue::as_bytes);
    let authority = request.uri.authority();
    let authority = authority.map(|authority| authority.as_str().as_bytes());
    let may_lack_host = request.version <= Version::HTTP_10;
    let fits = |host: &[u8]| is_host(host) || may_lack_host && host.is_empty();
    let odd_host = hosts.next().is_some() || !host.is_ascii() || !fits(authority.unwrap_or(host));
    let path = request.raw_path();
    let absolute = |scheme: &[u8]| {
        path.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    // Where it is asked is said by fields of its own in HTTP/2, and so the target has no such form (RFC 9113 §8.3.1).
    let may_be_absolute = request.version != Version::HTTP_2;
    let is_target = path.starts_with(b"/")
        || path == b"*" && request.method == Method::OPTIONS
        || may_be_absolute && (absolute(b"http://") || absolute(b"https://"));
    // By HTTP/1, which backends get it by, it would end there.
    let ends = |eight| eights::below(eight, b' ' + 1) | eights::is(eight, 0x7f);
    let ends_early = eights::has(path, b'/', ends);
    odd_host || !is_target || ends_early
}

/// Path and query, as written.
pub(super) fn target(request: &RequestHeader) -> &str {
    request
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str())
}

/// The client's id of the request if it is fit for a log, else a new one.
pub(super) fn request_id(request: &RequestHeader) -> String {
    fields::first(&request.headers, &REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| is_plain(id))
        .map_or_else(new_request_id, str::to_owned)
}

/// 128 random bits in hexadecimal digits.
pub(super) fn new_request_id() -> String {
    let bits = fastrand::u128(..).to_le_bytes();
    let mut id = [0; 32];
    for (place, byte) in id.chunks_exact_mut(2).zip(bits) {
        let digit = |four_bits: u8| b"0123456789abcdef"[usize::from(four_bits & 15)];
        place.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
    }
    str::from_utf8(&id).unwrap_or_default().to_owned()
}

fn is_plain(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=".contains(&b))
}

/// The address at the other end of the connection.
pub(super) fn client(client: &dyn Client) -> Option<IpAddr> {
    Some(client.address()?.ip().to_canonical())
}

/// The values that header edits and redirects can name.
pub(super) struct Values<'a> {
    client_ip: Option<IpAddr>,
    host: Cow<'a, str>,
    request: &'a RequestHeader,
    scheme: &'static str,
    user: &'a str,
    client_cert: &'a str,
}

impl<'a> Values<'a> {
    pub(super) fn of(request: &'a RequestHeader, ctx: &'a Ctx) -> Self {
        let user = ctx.verified.as_ref().map(|(name, _)| name.as_str());
        Values {
            client_ip: ctx.client,
            host: normalise_host(authority(request)),
            request,
            scheme: ctx.scheme,
            user: user.unwrap_or_default(),
            client_cert: ctx.client_cert().unwrap_or_default(),
        }
    }

    pub(super) fn vars(&'a self, request_id: &'a str) -> Vars<'a> {
        Vars {
            client_ip: self.client_ip,
            host: &self.host,
            http_host: authority(self.request),
            request_id,
            uri: target(self.request),
            method: self.request.method.as_str(),
            scheme: self.scheme,
            user: self.user,
            client_cert: self.client_cert,
        }
    }
}

/// What a hashing upstream hashes; `None` when this one does not, or the request lacks it.
pub(super) fn hash_key<'a>(
    balance: &Balance,
    request: &'a RequestHeader,
    client: Option<IpAddr>,
) -> Option<Cow<'a, [u8]>> {
    let Balance::Hash(on) = balance else {
        return None;
    };
    match on {
        HashOn::ClientIp => client.map(|ip| Cow::Owned(forwarded::text(ip).into_bytes())),
        HashOn::Uri => Some(Cow::Borrowed(target(request).as_bytes())),
        HashOn::Header(name) => {
            fields::first(&request.headers, name).map(|v| Cow::Borrowed(v.as_bytes()))
        }
        HashOn::Cookie(name) => cookie(request, name).map(Cow::Borrowed),
    }
}

/// The value of the first cookie of that name (RFC 6265 §5.4: `a=1; b=2`).
pub(super) fn cookie<'a>(request: &'a RequestHeader, name: &str) -> Option<&'a [u8]> {
    fields::all(&request.headers, &header::COOKIE)
        .flat_map(|line| line.as_bytes().split(|b| *b == b';'))
        .filter_map(|pair| {
            let equals = pair.iter().position(|b| *b == b'=')?;
            Some((pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii()))
        })
        .find(|(key, _)| *key == name.as_bytes())
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/a?b=c", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(
            request_id(&request(&[(REQUEST_ID.as_str(), "abc-1.2:3")])),
            "abc-1.2:3"
        );
        let long = "x".repeat(129);
        for bad in ["", "a b", "a\"b", long.as_str()] {
            let id = request_id(&request(&[(REQUEST_ID.as_str(), bad)]));
            assert!(
                id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
                "{bad:?} gave {id}"
            );
        }
    }

    #[test]
    fn the_key_of_a_hash_is_what_the_file_names() {
        let request = request(&[("Cookie", "a=1; session=s-9; b"), ("X-User", "ann")]);
        let client = Some("10.0.0.1".parse().unwrap());
        let key = |on| hash_key(&Balance::Hash(on), &request, client).map(|k| k.into_owned());
        assert_eq!(key(HashOn::ClientIp), Some(b"10.0.0.1".to_vec()));
        assert_eq!(key(HashOn::Uri), Some(b"/a?b=c".to_vec()));
        assert_eq!(key(HashOn::Cookie("session".into())), Some(b"s-9".to_vec()));
        assert_eq!(key(HashOn::Cookie("other".into())), None);
        assert_eq!(
            key(HashOn::Header("x-user".parse().unwrap())),
            Some(b"ann".to_vec())
        );
        assert!(hash_key(&Balance::RoundRobin, &request, client).is_none());
    }
}
