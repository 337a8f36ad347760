//! Which stored answers a request that changes something makes void (RFC 9111 §4.4).
//!
//! `proxy/` asks of each answer that comes from an origin whether it [`invalidates`], and forgets what is stored under
//! the [`targets`], by all [`spellings`] of the host: every answer for the URL, whoever it is for and whichever route
//! stored it.

use http::{HeaderMap, HeaderName, Method, StatusCode, header};

/// Whether what is stored for the target is void after this: the method may change something, and the origin did not
/// refuse. A method that is not known may change something.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    // RFC 9110 §9.2.1, and what else the registry of methods has as safe.
    const SAFE: [&str; 8] = [
        "GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "REPORT", "SEARCH",
    ];
    (status.is_success() || status.is_redirection()) && !SAFE.contains(&method.as_str())
}

/// Path and query of the URLs to forget: the request's own, and what the answer's `Location` and `Content-Location`
/// name.
///
/// `scheme` and `host` (with its port, if it has one) are the request's, `target` is its path and query. URLs of
/// another origin are left out, since nobody may void what is another's; and what is no URL at all.
pub fn targets(scheme: &str, host: &str, target: &str, headers: &HeaderMap) -> Vec<String> {
    const NAMED: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];
    let base = Base {
        scheme,
        authority: authority(scheme, host),
        target: without_fragment(target),
    };
    let mut targets = vec![base.target.to_owned()];
    for value in NAMED.iter().flat_map(|name| headers.get_all(name)) {
        let named = value.to_str().ok().and_then(|text| base.resolve(text));
        targets.extend(named.filter(|named| !targets.contains(named)));
    }
    targets
}

/// The spellings of a host, with its port if it has one, under which answers of the same origin may be stored (RFC 9110
/// §4.2.3): with the usual port, without, and with the colon alone.
pub fn spellings(scheme: &str, host: &str) -> Vec<String> {
    let plain = authority(scheme, host);
    // The colons of an IPv6 address are inside its brackets.
    let name_ends = plain.rfind(']').unwrap_or(0);
    if plain.is_empty() || plain[name_ends..].contains(':') {
        return vec![plain];
    }
    vec![
        format!("{plain}{}", usual_port(scheme)),
        format!("{plain}:"),
        plain,
    ]
}

/// The port that a URL of this scheme need not name, with its colon.
fn usual_port(scheme: &str) -> &'static str {
    match scheme {
        "https" => ":443",
        _ => ":80",
    }
}

/// The URL that a reference is relative to.
struct Base<'a> {
    scheme: &'a str,
    authority: String,
    target: &'a str,
}

impl Base<'_> {
    /// Path and query of a reference (RFC 3986 §5.2); `None` if it is of another origin, or cannot be read.
    fn resolve(&self, reference: &str) -> Option<String> {
        let reference = without_fragment(reference.trim());
        let reference = match scheme_of(reference) {
            None => reference,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(self.scheme) => {
                // A URL of this scheme has a host.
                rest.starts_with("//").then_some(rest)?
            }
            Some(_) => return None,
        };
        if let Some(rest) = reference.strip_prefix("//") {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, rest) = rest.split_at(end);
            let (path, query) = split_query(rest);
            let same = authority(self.scheme, host) == self.authority;
            // An empty path is `/` (RFC 9110 §4.2.3).
            return same.then(|| without_dots(path) + query);
        }
        let (own_path, _) = split_query(self.target);
        let (path, query) = split_query(reference);
        Some(match path {
            "" if query.is_empty() => self.target.to_owned(),
            "" => format!("{own_path}{query}"),
            absolute if absolute.starts_with('/') => without_dots(absolute) + query,
            relative => {
                let folder = own_path.rfind('/').map_or("/", |last| &own_path[..=last]);
                without_dots(&format!("{folder}{relative}")) + query
            }
        })
    }
}

/// The scheme of a reference and what follows its colon (RFC 3986 §3.1); `None` for a relative one.
fn scheme_of(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let is_scheme =
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(fits);
    is_scheme.then_some((scheme, rest))
}

/// A host and port in one spelling (RFC 9110 §4.2.3): lower-case, and the port only where it is not the usual one. With
/// a user it equals no request's, which has none (RFC 9110 §4.2.4).
fn authority(scheme: &str, host: &str) -> String {
    let host = host.strip_suffix(usual_port(scheme)).unwrap_or(host);
    host.strip_suffix(':').unwrap_or(host).to_ascii_lowercase()
}

fn without_fragment(reference: &str) -> &str {
    reference.split('#').next().unwrap_or(reference)
}

/// Path and query, the latter with its `?` or empty.
fn split_query(reference: &str) -> (&str, &str) {
    reference.split_at(reference.find('?').unwrap_or(reference.len()))
}

/// An absolute path, or an empty one, without `.` and `..` (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            name => {
                segments.push(name);
                continue;
            }
        }
        // What was taken away at the end leaves its slash.
        if last {
            segments.push("");
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests;
