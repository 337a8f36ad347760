//! Which answers are compressed for which client, and which fields change with it (RFC 9110 §8.4, §12.5.3).
//!
//! `config` compiles the [`CompressPolicy`]; `proxy/` asks [`varies`] and [`choose`] of each answer and carries out the
//! [`edits`]. What an origin has compressed, signed or wants left alone stays as it is. Nothing here compresses.

use super::cache_control::{CacheControl, is_token};
use super::headers::Edit;
use super::validator::{EntityTag, Named, only};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// A content coding (RFC 9110 §8.4.1) that answers can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Brotli,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// Its name in `Content-Encoding`.
    pub fn token(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }
}

/// A media type in lower case and without parameters, or a pattern: `text/*` for all of a kind, `application/*+json`
/// for those of a kind that end so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType(pub String);

impl MediaType {
    /// Whether a type, in any case and without parameters, is this one or one of these.
    pub fn matches(&self, essence: &str) -> bool {
        fits(&self.0, essence)
    }
}

/// Whether a type fits a pattern, in which `*` stands for one character or more.
fn fits(pattern: &str, essence: &str) -> bool {
    let Some((start, end)) = pattern.split_once('*') else {
        return pattern.eq_ignore_ascii_case(essence);
    };
    let essence = essence.as_bytes();
    let Some((own_start, rest)) = essence.split_at_checked(start.len()) else {
        return false;
    };
    let tail = rest.len().checked_sub(end.len()).filter(|&at| at > 0);
    own_start.eq_ignore_ascii_case(start.as_bytes())
        && tail.is_some_and(|at| rest[at..].eq_ignore_ascii_case(end.as_bytes()))
}

/// A route's rules for compressing answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressPolicy {
    /// What answers may be given, the preferred one first. Clients that like several equally get the first.
    pub codings: Vec<Coding>,
    /// The types that are compressed.
    pub types: Vec<MediaType>,
    /// Answers known to have fewer bytes than this are left as they are.
    pub min_size: u64,
}

/// Types whose content is read piece by piece by clients that may not expect any other coding: event streams, and gRPC,
/// which compresses by itself.
const STREAMS: [&str; 4] = [
    "text/event-stream",
    "application/grpc",
    "application/grpc+*",
    "application/grpc-*",
];

/// Fields that vouch for the content as it came: digests (RFC 9530, RFC 3230, RFC 1864) and signatures (RFC 9421).
const VOUCHERS: [&str; 5] = [
    "content-digest",
    "repr-digest",
    "digest",
    "content-md5",
    "signature",
];

/// Whether this answer is compressed for those who accept it, so that it depends on `Accept-Encoding` whether or not it
/// is for this client. `length` is that of its content, where that is known.
pub fn varies(
    policy: &CompressPolicy,
    status: StatusCode,
    response: &HeaderMap,
    length: Option<u64>,
) -> bool {
    // RFC 9110 §15: these have no content, or a part whose place is counted in bytes as they are.
    let whole = !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT
                | StatusCode::RESET_CONTENT
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
        );
    whole
        && length.is_none_or(|length| length >= policy.min_size.max(1))
        && !response.contains_key(header::CONTENT_ENCODING)
        && !VOUCHERS.iter().any(|name| response.contains_key(*name))
        && is_listed(policy, response)
        && !forbids_transformation(response)
}

/// The coding that this answer gets for this request, HEAD as GET; `None` for none.
pub fn choose(
    policy: &CompressPolicy,
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    length: Option<u64>,
) -> Option<Coding> {
    let coding = Accepted::read(request)?.preferred(&policy.codings)?;
    // RFC 9111 §5.2.1.6: a client may ask for it too.
    let may = varies(policy, status, response, length) && !forbids_transformation(request);
    may.then_some(coding)
}

static CONTENT_ENCODING: HeaderName = header::CONTENT_ENCODING;
static CONTENT_LENGTH: HeaderName = header::CONTENT_LENGTH;
static ACCEPT_RANGES: HeaderName = header::ACCEPT_RANGES;
static ETAG: HeaderName = header::ETAG;
static VARY: HeaderName = header::VARY;

/// How the fields change of an answer that [`varies`], given what [`choose`] says for this request.
pub fn edits(response: &HeaderMap, coding: Option<Coding>) -> Vec<Edit<'static>> {
    let mut edits = Vec::new();
    if let Some(coding) = coding {
        let token = HeaderValue::from_static(coding.token());
        edits.push(Edit::Set(&CONTENT_ENCODING, token));
        edits.push(Edit::Remove(&CONTENT_LENGTH));
        // Nobody could say which bytes of what is compressed anew each time a range would be.
        edits.push(Edit::Remove(&ACCEPT_RANGES));
        edits.extend(weakened(response));
    }
    edits.extend(vary(response));
    edits
}

/// How the fields change of a 304, where the route compresses. Whoever got an answer compressed asks with the weak form
/// of its tag, and has to find that form again: by the strong one it would not know its own answer (RFC 9111 §4.3.4).
pub fn not_modified(request: &HeaderMap, response: &HeaderMap) -> Vec<Edit<'static>> {
    let Some(Named::Tags(named)) = Named::read(request, &header::IF_NONE_MATCH) else {
        return Vec::new();
    };
    let Some(tag) = EntityTag::of(response) else {
        return Vec::new();
    };
    let known_as = |same: fn(EntityTag<'_>, EntityTag<'_>) -> bool| {
        named.iter().any(|&named| same(tag, named))
    };
    let weakly_only = known_as(|a, b| a.is_weakly(b)) && !known_as(|a, b| a.is_strongly(b));
    match weakened(response) {
        Some(edit) if weakly_only => [edit].into_iter().chain(vary(response)).collect(),
        _ => Vec::new(),
    }
}

/// RFC 9110 §8.8.1: a strong tag would promise the bytes that it came with. What is no tag goes, lest someone reads a
/// strong one into it.
fn weakened(response: &HeaderMap) -> Option<Edit<'static>> {
    let value = response.get(header::ETAG)?.as_bytes().trim_ascii();
    match EntityTag::of(response) {
        Some(tag) if tag.is_weak() => None,
        Some(_) => {
            let weak = HeaderValue::from_bytes(&[b"W/", value].concat());
            weak.ok().map(|weak| Edit::Set(&ETAG, weak))
        }
        None => Some(Edit::Remove(&ETAG)),
    }
}

/// Says that the answer depends on the codings accepted (RFC 9110 §12.5.5), unless it says so.
fn vary(response: &HeaderMap) -> Option<Edit<'static>> {
    let mut names = response
        .get_all(header::VARY)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&b| b == b','))
        .map(<[u8]>::trim_ascii);
    let said = names.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
    (!said).then(|| Edit::Add(&VARY, HeaderValue::from_static("Accept-Encoding")))
}

/// RFC 9110 §7.7.
fn forbids_transformation(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CACHE_CONTROL) && CacheControl::parse(headers).has("no-transform")
}

/// The media type of an answer without its parameters, where there is exactly one (RFC 9110 §8.3.1).
pub(super) fn essence(response: &HeaderMap) -> Option<&str> {
    let value = std::str::from_utf8(only(response, &header::CONTENT_TYPE)?).ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

/// Whether the answer is of a type that the route compresses.
fn is_listed(policy: &CompressPolicy, response: &HeaderMap) -> bool {
    let Some(essence) = essence(response) else {
        return false;
    };
    policy.types.iter().any(|listed| listed.matches(essence))
        && !STREAMS.iter().any(|pattern| fits(pattern, essence))
}

/// What `Accept-Encoding` says of the codings that there are here, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Accepted {
    zstd: Option<u16>,
    brotli: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    /// `*`: those that are not named.
    any: Option<u16>,
}

impl Accepted {
    /// `None` without the field: all would do (RFC 9110 §12.5.3), but who does not ask might not be able to read it.
    /// `None` also where anything in it cannot be read or is said in two ways.
    fn read(request: &HeaderMap) -> Option<Self> {
        let lines = request.get_all(header::ACCEPT_ENCODING);
        lines.iter().next()?;
        let mut accepted = Accepted::default();
        for line in lines {
            for item in line.to_str().ok()?.split(',') {
                let (coding, weight) = match item.split_once(';') {
                    Some((coding, weight)) => (coding.trim(), thousandths(weight.trim())?),
                    None => (item.trim(), 1000),
                };
                if coding.is_empty() && !item.contains(';') {
                    continue;
                }
                if coding.is_empty() || !coding.bytes().all(is_token) {
                    return None;
                }
                let Some(place) = accepted.place(coding) else {
                    continue;
                };
                if place.is_some_and(|other| other != weight) {
                    return None;
                }
                *place = Some(weight);
            }
        }
        Some(accepted)
    }

    fn place(&mut self, coding: &str) -> Option<&mut Option<u16>> {
        let is = |name: &str| coding.eq_ignore_ascii_case(name);
        Some(match coding {
            "*" => &mut self.any,
            _ if is("zstd") => &mut self.zstd,
            _ if is("br") => &mut self.brotli,
            // RFC 9110 §8.4.1.3.
            _ if is("gzip") || is("x-gzip") => &mut self.gzip,
            _ if is("identity") => &mut self.identity,
            _ => return None,
        })
    }

    /// The coding with the highest weight, of equal ones the first. `None` if there is none, or the client would rather
    /// have the content as it is.
    fn preferred(self, codings: &[Coding]) -> Option<Coding> {
        let weight = |coding: Coding| {
            let named = match coding {
                Coding::Zstd => self.zstd,
                Coding::Brotli => self.brotli,
                Coding::Gzip => self.gzip,
            };
            named.or(self.any).unwrap_or(0)
        };
        let best = codings.iter().copied().map(weight).max()?;
        let plain = self.identity.or(self.any).unwrap_or(0);
        let first = codings.iter().find(|&&coding| weight(coding) == best);
        first.copied().filter(|_| best > 0 && best >= plain)
    }
}

/// A weight (RFC 9110 §12.4.2) in thousandths; `None` if it is none.
pub(super) fn thousandths(weight: &str) -> Option<u16> {
    let number = weight
        .strip_prefix("q=")
        .or_else(|| weight.strip_prefix("Q="))?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    match (whole, decimals) {
        ("0", decimals) => Some(decimals),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
