//! What an answer is kept under: the URL, who shares it, and what it varies on (RFC 9111 §2, §4.1).
//!
//! `proxy/` asks [`key()`] of each request and [`vary_key`] of each stored answer. The rule above all others: nobody
//! gets another person's answer. Where a field can be read in two ways, the one that shares less is taken. Nothing here
//! says whether an answer may be kept.

use super::super::cache_control::is_token;
use super::super::fields;
use super::{CachePolicy, Lifetime, Per};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::collections::{BTreeMap, BTreeSet};

/// The fields that carry credentials (RFC 9110 §11.6.2 and §11.7.2, RFC 6265 §4.2).
const CREDENTIALS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
];

/// Whether the key of this request is one person's own: it carries credentials, and the route does not share. Never
/// where the origin is respected: there it says what may be shared (RFC 9111 §3.5), and [`storable`](super::storable)
/// obeys.
pub fn personal(policy: &CachePolicy, headers: &HeaderMap) -> bool {
    !policy.respects_origin() && !policy.shared && carries_credentials(headers)
}

/// Whether a request says who makes it.
pub fn carries_credentials(headers: &HeaderMap) -> bool {
    CREDENTIALS.iter().any(|name| fields::has(headers, name))
}

/// The credentials of a request, as they are: to be hashed before they are kept or shown.
pub fn credentials(headers: &HeaderMap) -> Vec<u8> {
    let mut all = Vec::new();
    for name in &CREDENTIALS {
        frame_values(&mut all, b'c', name, headers);
    }
    all
}

/// What an answer is kept under, in two parts. Neither holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyParts {
    /// Scheme, host and target: all that a purge of a URL, or an invalidation (RFC 9111 §4.4), can name.
    pub url: Vec<u8>,
    /// Tells apart requests for one URL.
    pub who: Who,
}

/// Who shares an answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// All whose request a cache in this mode may answer.
    Everybody(Mode),
    /// Whom these bytes tell of: the mode of the cache, the person, what the route's `per` names, and the canary.
    These(Vec<u8>),
}

/// By what rules answers are kept. After a reload that ends the sharing, what was kept for all must not be found by those who send no
/// credentials; nor may what was kept by other rules be found by those who respect the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// For a time that the route says, those to requests with credentials for whoever sent them only.
    Ttl,
    /// For such a time and for all.
    Shared,
    /// As the origin says.
    Origin,
}

impl Mode {
    /// Each of them.
    pub const ALL: [Mode; 3] = [Mode::Ttl, Mode::Shared, Mode::Origin];

    fn of(policy: &CachePolicy) -> Self {
        match (policy.lifetime, policy.shared) {
            (Lifetime::Ttl(_), false) => Mode::Ttl,
            (Lifetime::Ttl(_), true) => Mode::Shared,
            (Lifetime::Origin, _) => Mode::Origin,
        }
    }

    /// What stands for all who share an answer in this mode.
    pub fn everybody(self) -> Vec<u8> {
        let mut who = Vec::with_capacity(64);
        // Written into the names of files.
        let number = match self {
            Mode::Ttl => 0,
            Mode::Shared => 1,
            Mode::Origin => 2,
        };
        frame(&mut who, b'm', &[number]);
        who
    }
}

/// What a request is told apart by, beside its URL.
#[derive(Debug, Clone, Copy)]
pub struct Asks<'a> {
    /// The request's fields.
    pub headers: &'a HeaderMap,
    /// What backends are told of the client beside.
    pub told: &'a [&'a [u8]],
    /// The upstream it goes to, where that is not the route's own: a canary, whose answers are not for the clients of stable.
    pub canary: Option<&'a str>,
}

/// The key of a request (RFC 9111 §2). The method is no part of it, since a stored GET answers HEAD too.
///
/// `host` is normalised, `target` is path and query as they are. `secret_hash` must be keyed and collision-resistant: what
/// people are told apart by enters only through it. RFC 9111 §3.5 bars answers to authorised requests from reuse for others;
/// under a forced `ttl` they are kept, and found by no others unless the route says `shared`.
pub fn key(
    policy: &CachePolicy,
    scheme: &str,
    host: &str,
    target: &str,
    asks: Asks<'_>,
    secret_hash: impl Fn(&[u8]) -> [u8; 32],
) -> KeyParts {
    let headers = asks.headers;
    let mut secret = Vec::new();
    if personal(policy, headers) {
        secret = credentials(headers);
    }
    for per in &policy.per {
        match per {
            Per::Header(name) => frame_values(&mut secret, b'h', name, headers),
            Per::Cookie(name) => {
                let pairs = cookie_pairs(headers, name);
                frame_list(&mut secret, b'k', name.as_bytes(), &pairs);
            }
            Per::Told => frame_list(&mut secret, b'z', b"", asks.told),
        }
    }
    let mode = Mode::of(policy);
    let who = match (secret.is_empty(), asks.canary) {
        (true, None) => Who::Everybody(mode),
        (is_anybody, canary) => {
            let mut who = mode.everybody();
            if !is_anybody {
                frame(&mut who, b'p', &secret_hash(&secret));
            }
            if let Some(name) = canary {
                frame(&mut who, b'u', name.as_bytes());
            }
            Who::These(who)
        }
    };
    KeyParts {
        url: url(scheme, host, target),
        who,
    }
}

/// The part of the key that a URL makes up, for whoever names one: a purge, or an invalidation.
pub fn url(scheme: &str, host: &str, target: &str) -> Vec<u8> {
    let mut url = Vec::with_capacity(32 + scheme.len() + host.len() + target.len());
    frame(&mut url, b's', scheme.as_bytes());
    frame(&mut url, b'h', host.as_bytes());
    frame(&mut url, b't', target.as_bytes());
    url
}

/// What tells apart the answers under one [`key()`] (RFC 9111 §4.1), given the answer's fields and a request's; `None`
/// when the answer does not vary. Request values are in it as they are, credentials too where the answer varies on
/// them: to be hashed, as in [`key()`], before it is kept or shown.
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
        let whole = CREDENTIALS.iter().any(|credential| *credential == *name);
        let members = (!whole).then(|| members(&values)).flatten();
        frame_list(&mut key, b'v', name.as_bytes(), &members.unwrap_or(values));
    }
    Some(key)
}

/// The members of a list over several lines (RFC 9110 §5.3, §5.6.1): the same ones in other lines, or with other space
/// around them, mean the same (RFC 9111 §4.1). `None` where quotes do not pair up and nobody can tell.
fn members<'a>(lines: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    let mut members = Vec::new();
    for line in lines {
        let (mut quoted, mut escaped, mut start) = (false, false, 0);
        for (at, byte) in line.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    members.push(line[start..at].trim_ascii());
                    start = at + 1;
                }
                _ => {}
            }
        }
        if quoted {
            return None;
        }
        members.push(line[start..].trim_ascii());
    }
    Some(members)
}

/// The names in `Vary` (RFC 9110 §12.5.5), lower-case. Whatever cannot be part of a name separates, so that a forgotten
/// comma loses none.
pub(super) fn varies_on(headers: &HeaderMap) -> BTreeSet<String> {
    let values = fields::all(headers, &header::VARY);
    values
        .flat_map(|value| value.as_bytes().split(|&byte| !is_token(byte)))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
        .collect()
}

/// The codings that a request accepts (RFC 9110 §12.5.3), so that browsers who list the same ones in different words
/// share answers. `None` without the field, which is not the same as an empty one, and where it cannot be understood.
///
/// A refusal (`q=0`) is left out, as not listing the coding says the same; save where it says more: of `identity`, of
/// `*`, and beside an accepted `*`. Those come with a word and a space before them, which no coding's name can hold.
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
/// Origins differ in what they take for a cookie of that name: some split at commas (RFC 2965 §3.3.4) or at blanks,
/// some ignore case, some heed quotes, some take the first of several and some the last. Whatever one of them could
/// take is in the list, so that nobody can send a session that the origin sees and the key does not.
fn cookie_pairs<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    let separates = |byte: &u8| b";, \t".contains(byte);
    let mut pairs = Vec::new();
    for value in fields::all(headers, &header::COOKIE) {
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

/// Appends a component so that its end is known: two sequences of components give the same bytes only if they are the
/// same.
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
    let values = fields::all(headers, name);
    let values: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
    frame_list(out, tag, name.as_str().as_bytes(), &values);
}

#[cfg(test)]
mod tests;
