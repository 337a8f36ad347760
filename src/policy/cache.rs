//! Which requests the cache may answer, which answers it may keep, and under which key.
//!
//! For routes that force a `ttl`, the operator's word stands in for what the origin does not say. `config` compiles the
//! [`CachePolicy`]; `proxy/` asks [`lookup`] and [`key`] of each request, [`storable`] and [`vary_key`] of each answer. The
//! rule above all others: nobody gets another person's answer. Where a field can be read in two ways, the one that keeps
//! and shares less is taken. Nothing here holds an answer, and time is the store's business.

use super::cache_control::{CacheControl, is_token};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A route's rules for keeping answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePolicy {
    /// How long an answer is fresh, whatever the origin says of it; greater than zero.
    pub ttl: Duration,
    /// Whether people who send credentials share answers. If not, each has their own.
    pub shared: bool,
    /// What else tells requests apart, in either case.
    pub per: Vec<Per>,
    /// How long past its `ttl` an answer may stand in for a failing origin (RFC 5861 §4); zero is never.
    pub stale_if_error: Duration,
    /// Bodies up to this many bytes are kept.
    pub max_object: usize,
}

/// A part of a request that has its own answers for each value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Per {
    /// A cookie, by its name.
    Cookie(String),
    /// A header field: all its values.
    Header(HeaderName),
}

/// Why the cache is neither asked nor filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// Neither GET nor HEAD, or one of these with content.
    Method,
    /// The request asks for another protocol.
    Upgrade,
    /// The request says `no-store`.
    NoStore,
}

impl Bypass {
    /// The detail in `Cache-Status` (RFC 9211 §2.8).
    pub fn word(self) -> &'static str {
        match self {
            Bypass::Method => "method",
            Bypass::Upgrade => "upgrade",
            Bypass::NoStore => "request-no-store",
        }
    }
}

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStored {
    /// Answers of this status are not kept.
    Status,
    /// The answer says `no-store`.
    NoStore,
    /// The answer is for one person, and the route's are for all.
    Private,
    /// The answer sets a cookie.
    SetCookie,
    /// The answer varies on what no request shows.
    VaryStar,
    /// The answer is a part of the whole.
    Partial,
}

impl NotStored {
    /// The detail in `Cache-Status` (RFC 9211 §2.8).
    pub fn word(self) -> &'static str {
        match self {
            NotStored::Status => "status",
            NotStored::NoStore => "no-store",
            NotStored::Private => "private",
            NotStored::SetCookie => "set-cookie",
            NotStored::VaryStar => "vary-star",
            NotStored::Partial => "partial",
        }
    }
}

/// Whether a request may be answered from the cache, and its answer kept (RFC 9111 §3, §4).
pub fn lookup(method: &Method, headers: &HeaderMap) -> Result<(), Bypass> {
    // RFC 9110 §9.2.3: of the methods defined as cacheable, POST needs freshness of the origin's own making. Content is no
    // part of the key; RFC 9110 §9.3.1 gives it no meaning in a GET, yet some origins heed it, and with one such request
    // anyone could place an answer of their choice under a URL that others ask for.
    let readable = matches!(*method, Method::GET | Method::HEAD);
    if !readable || announces_content(headers) {
        return Err(Bypass::Method);
    }
    // RFC 9110 §7.8: the answer may be a change of protocol.
    if headers.contains_key(header::UPGRADE) {
        return Err(Bypass::Upgrade);
    }
    // RFC 9111 §5.2.1.5. The other directives of a request are advisory (§5.2.1) and ignored, as nginx does: under a forced
    // `ttl` the operator has said how old an answer may be, to spare an origin that cannot take every request. With
    // `no-cache` or `max-age=0`, which browsers send at each reload, every client could undo that.
    if CacheControl::parse(headers).has("no-store") {
        return Err(Bypass::NoStore);
    }
    Ok(())
}

/// Whether content follows the head, as far as the head says (RFC 9112 §6.3).
fn announces_content(headers: &HeaderMap) -> bool {
    let lengths = headers.get_all(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING)
        || lengths
            .iter()
            .any(|l| l.as_bytes().iter().any(|&b| b != b'0'))
}

/// Whether an answer to a request that [`lookup`] let pass may be kept (RFC 9111 §3). Freshness (`max-age`, `Expires`,
/// `no-cache`, `must-revalidate`, …) is not asked: the route's `ttl` is there to overrule it.
///
/// `personal`: whether the key of the request is one person's own, as [`personal`] tells; only then is a `private` answer kept.
pub fn storable(personal: bool, status: StatusCode, headers: &HeaderMap) -> Result<(), NotStored> {
    match status {
        // RFC 9110 §15.1 lets more be kept: errors, which would outlive their cause, and 300 and 410, which are rare.
        StatusCode::OK
        | StatusCode::NON_AUTHORITATIVE_INFORMATION
        | StatusCode::NO_CONTENT
        | StatusCode::MOVED_PERMANENTLY
        | StatusCode::PERMANENT_REDIRECT => {}
        // RFC 9111 §3.3: incomplete, and only to be combined by who knows how.
        StatusCode::PARTIAL_CONTENT => return Err(NotStored::Partial),
        _ => return Err(NotStored::Status),
    }
    let control = CacheControl::parse(headers);
    // RFC 9111 §5.2.2.5.
    if control.has("no-store") {
        return Err(NotStored::NoStore);
    }
    // RFC 9111 §5.2.2.7. With field names, only those fields are private; it counts for the whole answer all the same, as
    // that section notes of most caches.
    if !personal && control.has("private") {
        return Err(NotStored::Private);
    }
    // RFC 9111 §7.3 leaves it to the origin to forbid; one that sends no caching headers does not, and a session given out
    // twice is one person's in another's hands.
    if headers.contains_key(header::SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    // RFC 9111 §4.1: it never matches.
    if varies_on(headers).contains("*") {
        return Err(NotStored::VaryStar);
    }
    Ok(())
}

/// The fields that carry credentials (RFC 9110 §11.6.2 and §11.7.2, RFC 6265 §4.2).
const CREDENTIALS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
];

/// Whether the key of this request is one person's own: it carries credentials, and the route does not share.
pub fn personal(policy: &CachePolicy, headers: &HeaderMap) -> bool {
    !policy.shared && CREDENTIALS.iter().any(|name| headers.contains_key(name))
}

/// What an answer is kept under (RFC 9111 §2). The method is no part of it, since a stored GET answers HEAD too.
///
/// `host` is normalised, `target` is path and query as they are. `secret_hash` must be keyed and collision-resistant: what
/// people are told apart by enters only through it. RFC 9111 §3.5 bars answers to authorised requests from reuse for others;
/// here they are kept, and found by no others unless the route says `shared`.
pub fn key(
    policy: &CachePolicy,
    scheme: &str,
    host: &str,
    target: &str,
    headers: &HeaderMap,
    secret_hash: impl Fn(&[u8]) -> [u8; 32],
) -> Vec<u8> {
    let mut secret = Vec::new();
    if personal(policy, headers) {
        for name in &CREDENTIALS {
            frame_values(&mut secret, b'c', name, headers);
        }
    }
    for per in &policy.per {
        match per {
            Per::Header(name) => frame_values(&mut secret, b'h', name, headers),
            Per::Cookie(name) => {
                let pairs = cookie_pairs(headers, name);
                frame_list(&mut secret, b'k', name.as_bytes(), &pairs);
            }
        }
    }
    let mut key = Vec::with_capacity(128 + host.len() + target.len());
    // The mode too: after a reload that ends the sharing, what was kept for all must not be found by those who send no
    // credentials.
    frame(&mut key, b'm', &[u8::from(policy.shared)]);
    frame(&mut key, b's', scheme.as_bytes());
    frame(&mut key, b'h', host.as_bytes());
    frame(&mut key, b't', target.as_bytes());
    if !secret.is_empty() {
        frame(&mut key, b'p', &secret_hash(&secret));
    }
    key
}

/// What tells apart the answers under one [`key`] (RFC 9111 §4.1), given the answer's fields and a request's; `None` when the
/// answer does not vary. Request values are in it as they are, credentials too where the answer varies on them: to be hashed,
/// as in [`key`], before it is kept or shown.
pub fn vary_key(vary: &HeaderMap, request: &HeaderMap) -> Option<Vec<u8>> {
    let names = varies_on(vary);
    if names.is_empty() {
        return None;
    }
    let mut key = Vec::new();
    for name in names {
        let codings = (name == header::ACCEPT_ENCODING.as_str())
            .then(|| accepted_codings(request))
            .flatten();
        if let Some(codings) = codings {
            let codings: Vec<&[u8]> = codings.iter().map(String::as_bytes).collect();
            frame_list(&mut key, b'e', name.as_bytes(), &codings);
            continue;
        }
        let values = request.get_all(&name).iter();
        let values: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
        frame_list(&mut key, b'v', name.as_bytes(), &values);
    }
    Some(key)
}

/// The names in `Vary` (RFC 9110 §12.5.5), lower-case. Whatever cannot be part of a name separates, so that a forgotten comma
/// loses none.
fn varies_on(headers: &HeaderMap) -> BTreeSet<String> {
    let values = headers.get_all(header::VARY).iter();
    values
        .flat_map(|value| value.as_bytes().split(|&byte| !is_token(byte)))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
        .collect()
}

/// The codings that a request accepts (RFC 9110 §12.5.3), so that browsers who list the same ones in different words share
/// answers. `None` without the field, which is not the same as an empty one, and where it cannot be understood.
///
/// A refusal (`q=0`) is left out, as not listing the coding says the same; save where it says more: of `identity`, of `*`,
/// and beside an accepted `*`. Those come with a word and a space before them, which no coding's name can hold.
fn accepted_codings(request: &HeaderMap) -> Option<BTreeSet<String>> {
    let mut codings = BTreeMap::new();
    let values = request.get_all(header::ACCEPT_ENCODING);
    values.iter().next()?;
    for value in values {
        for item in value.to_str().ok()?.split(',') {
            let (coding, weight) = match item.split_once(';') {
                Some((coding, weight)) => (coding.trim(), accepts(weight.trim())?),
                None => (item.trim(), true),
            };
            if coding.is_empty() && !item.contains(';') {
                continue;
            }
            if coding.is_empty() || !coding.bytes().all(is_token) {
                return None;
            }
            let coding = coding.to_ascii_lowercase();
            // RFC 9110 §8.4.1: the same coding under an older name.
            let coding = match coding.as_str() {
                "x-gzip" => "gzip".to_owned(),
                "x-compress" => "compress".to_owned(),
                _ => coding,
            };
            if codings
                .insert(coding, weight)
                .is_some_and(|old| old != weight)
            {
                return None;
            }
        }
    }
    let any = codings.get("*") == Some(&true);
    let said = codings.into_iter().filter_map(|(coding, accepted)| {
        if accepted {
            Some(coding)
        } else {
            (any || coding == "*" || coding == "identity").then(|| format!("no {coding}"))
        }
    });
    Some(said.collect())
}

/// Whether a weight (RFC 9110 §12.4.2) is above zero; `None` if it is none.
fn accepts(weight: &str) -> Option<bool> {
    let number = weight
        .strip_prefix("q=")
        .or_else(|| weight.strip_prefix("Q="))?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |allowed: fn(u8) -> bool| decimals.len() <= 3 && decimals.bytes().all(allowed);
    match whole {
        "0" if digits(|b| b.is_ascii_digit()) => Some(decimals.bytes().any(|b| b != b'0')),
        "1" if digits(|b| b == b'0') => Some(true),
        _ => None,
    }
}

/// Every pair of this name in `Cookie` (RFC 6265 §4.2), as sent, up to where the next pair begins.
///
/// Origins differ in what they take for a cookie of that name: some split at commas (RFC 2965 §3.3.4) or at blanks, some
/// ignore case, some heed quotes, some take the first of several and some the last. Whatever one of them could take is in the
/// list, so that nobody can send a session that the origin sees and the key does not.
fn cookie_pairs<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    let separates = |byte: &u8| b";, \t".contains(byte);
    let mut pairs = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        let mut rest = value.as_bytes();
        while !rest.is_empty() {
            let found = rest
                .split_at_checked(name.len())
                .is_some_and(|(start, after)| {
                    start.eq_ignore_ascii_case(name.as_bytes())
                        && after.first().is_none_or(|b| *b == b'=' || separates(b))
                });
            if found {
                let mut quoted = false;
                let end = rest.iter().position(|&byte| {
                    quoted ^= byte == b'"';
                    byte == b';' && !quoted
                });
                let (pair, after) = rest.split_at(end.unwrap_or(rest.len()));
                pairs.push(pair.trim_ascii());
                rest = after;
            }
            // On to where the next pair may begin.
            let word = rest.iter().position(separates).unwrap_or(rest.len());
            let gap = rest[word..].iter().position(|b| !separates(b));
            rest = &rest[gap.map_or(rest.len(), |gap| word + gap)..];
        }
    }
    pairs
}

/// Appends a component so that its end is known: two sequences of components give the same bytes only if they are the same.
fn frame(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend((bytes.len() as u64).to_be_bytes());
    out.extend(bytes);
}

/// Appends a name and a list, whose length tells an absent value from an empty one.
fn frame_list(out: &mut Vec<u8>, tag: u8, name: &[u8], values: &[&[u8]]) {
    frame(out, tag, name);
    out.extend((values.len() as u64).to_be_bytes());
    for value in values {
        frame(out, b'=', value);
    }
}

fn frame_values(out: &mut Vec<u8>, tag: u8, name: &HeaderName, headers: &HeaderMap) {
    let values = headers.get_all(name).iter();
    let values: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
    frame_list(out, tag, name.as_str().as_bytes(), &values);
}

#[cfg(test)]
mod tests;
