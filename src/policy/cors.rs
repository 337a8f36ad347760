//! Whose scripts may read a route's answers: the CORS protocol (WHATWG Fetch, §3.3), as a server speaks it.
//!
//! `config` compiles the [`CorsRules`]; `proxy::front` asks [`asked_for`] whether a request only asks for permission, and
//! `proxy` carries out the edits on each answer's way out, so that nothing of it is ever stored. Who is refused is told
//! nothing: an answer without these fields is how browsers learn that they may not (Fetch §4.10, "CORS check").

use super::fields;
use super::headers::Edit;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// One origin, or a family of them, in the form in which browsers write origins: lower case, and without the port that
/// its scheme has anyway (Fetch §3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// This one: `https://app.example.com`.
    Exact(String),
    /// Those of one or more labels between the two parts: `https://` and `.example.org`, or `.example.org:8443`.
    Below {
        /// The scheme with what follows it.
        scheme: String,
        /// The suffix, which begins with a dot.
        suffix: String,
    },
}

impl OriginPattern {
    /// Whether an origin, as a request has it, is this one or one of these. Compared byte by byte, as browsers do.
    pub fn fits(&self, origin: &[u8]) -> bool {
        match self {
            OriginPattern::Exact(text) => origin == text.as_bytes(),
            OriginPattern::Below { scheme, suffix } => origin
                .strip_prefix(scheme.as_bytes())
                .and_then(|rest| rest.strip_suffix(suffix.as_bytes()))
                .is_some_and(|labels| labels.split(|b| *b == b'.').all(is_label)),
        }
    }
}

/// Whether this can be a label of a host: what else might stand there could end the host before the suffix begins.
fn is_label(label: &[u8]) -> bool {
    let fits = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(b);
    !label.is_empty() && label.iter().all(fits)
}

/// Whose scripts may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's.
    Any,
    /// Those of these origins.
    These(Vec<OriginPattern>),
}

/// What is allowed them, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose scripts.
    pub origins: Origins,
    /// The methods they may use.
    pub methods: Vec<Method>,
    /// The request fields they may set, beside those that need no permission.
    pub headers: Vec<HeaderName>,
    /// The response fields they may read, beside those that need no permission.
    pub expose: Vec<HeaderName>,
    /// Whether the browser's cookies and the like may come along.
    pub credentials: bool,
    /// For how many seconds a permission may be remembered; `None` leaves that to the browser.
    pub max_age: Option<u64>,
}

/// A route's rules, with the values of its fields ready-made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsRules {
    origins: Origins,
    credentials: bool,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
}

static ALLOW_ORIGIN: HeaderName = header::ACCESS_CONTROL_ALLOW_ORIGIN;
static ALLOW_CREDENTIALS: HeaderName = header::ACCESS_CONTROL_ALLOW_CREDENTIALS;
static ALLOW_METHODS: HeaderName = header::ACCESS_CONTROL_ALLOW_METHODS;
static ALLOW_HEADERS: HeaderName = header::ACCESS_CONTROL_ALLOW_HEADERS;
static EXPOSE_HEADERS: HeaderName = header::ACCESS_CONTROL_EXPOSE_HEADERS;
static MAX_AGE: HeaderName = header::ACCESS_CONTROL_MAX_AGE;
static VARY: HeaderName = header::VARY;

/// The method that a request asks to be allowed to use, if that is all that it is for (Fetch §3.3.2, a "CORS-preflight
/// request").
pub fn asked_for(method: &Method, request: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS || !fields::has(request, &header::ORIGIN) {
        return None;
    }
    let wanted = only(request, &header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(wanted.as_bytes()).ok()
}

impl CorsRules {
    /// Makes the values ready.
    pub fn new(cors: Cors) -> Self {
        let methods: Vec<&str> = cors.methods.iter().map(Method::as_str).collect();
        CorsRules {
            credentials: cors.credentials,
            methods: listed(&methods),
            headers: listed(&names(&cors.headers)),
            expose: listed(&names(&cors.expose)),
            max_age: cors.max_age.map(HeaderValue::from),
            origins: cors.origins,
        }
    }

    /// How the fields of an answer change, whoever made it and whatever it says of this itself.
    pub fn edits(&self, request: &HeaderMap, response: &HeaderMap) -> Vec<Edit<'static>> {
        let mut edits = Vec::with_capacity(6);
        for name in [
            &ALLOW_ORIGIN,
            &ALLOW_CREDENTIALS,
            &ALLOW_METHODS,
            &ALLOW_HEADERS,
            &EXPOSE_HEADERS,
            &MAX_AGE,
        ] {
            if fields::has(response, name) {
                edits.push(Edit::Remove(name));
            }
        }
        if let Some(origin) = self.allows(request) {
            edits.push(Edit::Set(&ALLOW_ORIGIN, origin));
            edits.extend(self.with_credentials());
            edits.extend(set(&EXPOSE_HEADERS, self.expose.as_ref()));
        }
        edits.extend(self.vary(response));
        edits
    }

    /// The fields of the answer to a request that [`asked_for`] permission. The lists do not depend on what is asked for:
    /// the browser compares.
    pub fn permission(&self, request: &HeaderMap) -> Vec<Edit<'static>> {
        let mut edits = Vec::with_capacity(6);
        if let Some(origin) = self.allows(request) {
            edits.push(Edit::Set(&ALLOW_ORIGIN, origin));
            edits.extend(self.with_credentials());
            edits.extend(set(&ALLOW_METHODS, self.methods.as_ref()));
            edits.extend(set(&ALLOW_HEADERS, self.headers.as_ref()));
            edits.extend(set(&MAX_AGE, self.max_age.as_ref()));
        }
        edits.extend(self.vary(&HeaderMap::new()));
        edits
    }

    /// What `Access-Control-Allow-Origin` says to this request; `None` where it is not allowed.
    fn allows(&self, request: &HeaderMap) -> Option<HeaderValue> {
        match &self.origins {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::These(patterns) => {
                let origin = only(request, &header::ORIGIN)?;
                let fits = |pattern: &OriginPattern| pattern.fits(origin.as_bytes());
                patterns.iter().any(fits).then(|| origin.clone())
            }
        }
    }

    fn with_credentials(&self) -> Option<Edit<'static>> {
        let said = || Edit::Set(&ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        self.credentials.then(said)
    }

    /// Says that the answer depends on who asks (RFC 9110 §12.5.5), also to those who are told nothing: a cache on the
    /// way would else give theirs to the others.
    fn vary(&self, response: &HeaderMap) -> Option<Edit<'static>> {
        if self.origins == Origins::Any {
            return None;
        }
        let mut names = fields::all(response, &header::VARY)
            .flat_map(|line| line.as_bytes().split(|b| *b == b','))
            .map(<[u8]>::trim_ascii);
        let said = names.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"));
        (!said).then(|| Edit::Add(&VARY, HeaderValue::from_static("Origin")))
    }
}

fn set(name: &'static HeaderName, value: Option<&HeaderValue>) -> Option<Edit<'static>> {
    value.map(|value| Edit::Set(name, value.clone()))
}

fn names(names: &[HeaderName]) -> Vec<&str> {
    names.iter().map(HeaderName::as_str).collect()
}

/// `None` for nothing. Tokens and commas are always legal in a field.
fn listed(words: &[&str]) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(&words.join(", ")).ok();
    value.filter(|value| !value.is_empty())
}

/// The value of a field that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = fields::all(headers, name);
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
