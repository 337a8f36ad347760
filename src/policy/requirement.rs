//! What a route requires of a request before it is let through, and what one gets that lacks it.
//!
//! Asked by `proxy::front`, after [`super::access`] and before anything is stored, sent or counted.

use super::fields;
use super::framing;
use super::pattern::Pattern;
use form_urlencoded::parse;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::path::PathBuf;

/// The requirements of a route; empty lists and `None` require nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirement {
    /// The methods that are taken; GET brings HEAD along (RFC 9110 §9.3.2).
    pub methods: Vec<Method>,
    /// Credentials, and by which scheme (RFC 9110 §11.4).
    pub authorization: Option<Scheme>,
    /// The media types that content may have.
    pub content_types: Vec<MediaType>,
    /// The most bytes that content may have.
    pub max_body: Option<u64>,
    /// Fields that have to be there.
    pub headers: Vec<Wanted<HeaderName>>,
    /// Parameters that the query has to have.
    pub query: Vec<Wanted<String>>,
    /// The others that it may have; `None` for any.
    pub allowed_query: Option<Vec<Wanted<String>>>,
    /// What content has to be, if anything.
    pub json: Option<Json>,
}

/// A field or parameter, and the values that it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<N> {
    /// Its name; that of a parameter is decoded.
    pub name: N,
    /// What each of its values has to match; `None` for any but the empty one.
    pub pattern: Option<Pattern>,
}

impl<N> Wanted<N> {
    fn takes(&self, value: &[u8]) -> bool {
        match &self.pattern {
            Some(pattern) => pattern.matches(value),
            None => true,
        }
    }
}

/// What JSON has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// JSON (RFC 8259).
    Any,
    /// As the schema in this file has it; absolute.
    Schema(PathBuf),
}

/// The most bytes that JSON may have where nothing is said: it is held until it was looked at.
const MOST_JSON: u64 = 1024 * 1024;

/// How a client says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Any way.
    Any,
    /// RFC 6750.
    Bearer,
    /// RFC 7617.
    Basic,
}

/// A media type in lower case; the subtype may be `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    /// `application`.
    pub kind: String,
    /// `json`.
    pub subtype: String,
}

/// What a request lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lacks {
    /// One of these methods: the `Allow` of a 405 (RFC 9110 §15.5.6).
    Method(Vec<Method>),
    /// Credentials.
    Authorization(Scheme),
    /// A media type that is taken here.
    ContentType,
    /// Brevity.
    MaxBody(u64),
    /// This field.
    Header(HeaderName),
    /// Another value of this field.
    HeaderUnfit(HeaderName),
    /// This parameter.
    Query(String),
    /// Another value of this parameter.
    QueryUnfit(String),
    /// The absence of a parameter.
    QueryUnknown,
    /// A query that can be decoded (RFC 3986 §2.1).
    QueryMalformed,
    /// That it is JSON; where it is not.
    Json(String),
    /// What the schema asks for, and where.
    Schema(String),
}

impl Lacks {
    /// The status that says so.
    pub fn status(&self) -> StatusCode {
        match self {
            Lacks::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Lacks::Authorization(_) => StatusCode::UNAUTHORIZED,
            Lacks::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Lacks::MaxBody(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Lacks::Schema(_) => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The same in words, for the client. Names what the operator wrote, never what the client sent.
    pub fn reason(&self) -> String {
        match self {
            Lacks::Method(_) => "this method is not taken here".to_string(),
            Lacks::Authorization(_) => "credentials are required".to_string(),
            Lacks::ContentType => "this content type is not taken here".to_string(),
            Lacks::MaxBody(most) => format!("the content may have {most} bytes at most"),
            Lacks::Header(name) => format!("the header field {name} is required"),
            Lacks::HeaderUnfit(name) => {
                format!("the header field {name} has not the form it should have")
            }
            Lacks::Query(name) => format!("the query parameter {name} is required"),
            Lacks::QueryUnfit(name) => {
                format!("the query parameter {name} has not the form it should have")
            }
            Lacks::QueryUnknown => "the query has a parameter that is not known here".to_string(),
            Lacks::QueryMalformed => {
                "the query has a \"%\" without two hexadecimal digits after it".to_string()
            }
            Lacks::Json(place) => format!("the content is not JSON: {place}"),
            Lacks::Schema(what) => format!("the content is not as it should be: {what}"),
        }
    }

    /// The log's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Lacks::Method(_) => "method_not_allowed",
            Lacks::Authorization(_) => "authorization_required",
            Lacks::ContentType => "content_type_refused",
            Lacks::MaxBody(_) => "body_too_large",
            Lacks::Header(_) => "header_required",
            Lacks::HeaderUnfit(_) => "header_unfit",
            Lacks::Query(_) => "query_required",
            Lacks::QueryUnfit(_) => "query_unfit",
            Lacks::QueryUnknown => "query_unknown",
            Lacks::QueryMalformed => "query_malformed",
            Lacks::Json(_) => "json_malformed",
            Lacks::Schema(_) => "json_unfit",
        }
    }

    /// The challenge that goes with it (RFC 9110 §11.6.1).
    pub fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Lacks::Authorization(Scheme::Basic) => {
                Some(HeaderValue::from_static("Basic realm=\"backstop\""))
            }
            Lacks::Authorization(_) => Some(HeaderValue::from_static("Bearer")),
            _ => None,
        }
    }
}

impl Requirement {
    fn takes_method(&self, method: &Method) -> bool {
        let listed = |method: &Method| self.methods.contains(method);
        self.methods.is_empty() || listed(method) || method == Method::HEAD && listed(&Method::GET)
    }

    /// Whether a request has all that is required, as far as its head tells. `has_content`: whether content follows, which the
    /// head of HTTP/2 need not say.
    ///
    /// # Errors
    /// With the first that it lacks.
    pub fn judge(
        &self,
        method: &Method,
        query: Option<&str>,
        headers: &HeaderMap,
        has_content: bool,
    ) -> Result<(), Lacks> {
        if !self.takes_method(method) {
            return Err(Lacks::Method(self.methods.clone()));
        }
        if let Some(scheme) = self.authorization
            && *method != Method::OPTIONS
            && !has_credentials(scheme, headers)
        {
            // Browsers ask whether they may send credentials without any (Fetch §4.8).
            return Err(Lacks::Authorization(scheme));
        }
        // What `Connection` names does not arrive.
        let arrives =
            |name: &HeaderName| has_value(headers, name) && !framing::hides(headers, name);
        for wanted in &self.headers {
            if !arrives(&wanted.name) {
                return Err(Lacks::Header(wanted.name.clone()));
            }
            let mut values = fields::all(headers, &wanted.name);
            if !values.all(|value| wanted.takes(value.as_bytes().trim_ascii())) {
                return Err(Lacks::HeaderUnfit(wanted.name.clone()));
            }
        }
        self.judge_query(query.unwrap_or_default())?;
        if let Some(length) = length(headers) {
            self.judge_length(length)?;
        }
        let has_content = has_content || announces_content(headers);
        if !self.content_types.is_empty() && has_content && !self.takes(headers) {
            return Err(Lacks::ContentType);
        }
        // What is compressed cannot be looked at.
        if self.json.is_some() && has_content && fields::has(headers, &header::CONTENT_ENCODING) {
            return Err(Lacks::ContentType);
        }
        Ok(())
    }

    fn judge_query(&self, query: &str) -> Result<(), Lacks> {
        if self.query.is_empty() && self.allowed_query.is_none() {
            return Ok(());
        }
        if !is_decodable(query) {
            return Err(Lacks::QueryMalformed);
        }
        let allowed = self.allowed_query.as_deref();
        for (name, value) in parse(query.as_bytes()) {
            // Every one of that name: nobody knows which of them the backend takes.
            let mut known = self.query.iter().chain(allowed.unwrap_or_default());
            match known.find(|wanted| wanted.name == name) {
                Some(wanted) if !wanted.takes(value.as_bytes()) => {
                    return Err(Lacks::QueryUnfit(wanted.name.clone()));
                }
                None if allowed.is_some() => return Err(Lacks::QueryUnknown),
                _ => {}
            }
        }
        let is_there = |wanted: &&Wanted<String>| {
            parse(query.as_bytes()).any(|(name, value)| wanted.name == name && !value.is_empty())
        };
        match self.query.iter().find(|wanted| !is_there(wanted)) {
            Some(wanted) => Err(Lacks::Query(wanted.name.clone())),
            None => Ok(()),
        }
    }

    /// Whether content may be so long; asked again of content whose length the head did not tell.
    ///
    /// # Errors
    /// It may not.
    pub fn judge_length(&self, length: u64) -> Result<(), Lacks> {
        match self.most() {
            Some(most) if length > most => Err(Lacks::MaxBody(most)),
            _ => Ok(()),
        }
    }

    /// How many bytes content may have.
    pub fn most(&self) -> Option<u64> {
        let json = self.json.is_some().then_some(MOST_JSON);
        self.max_body.or(json)
    }

    fn takes(&self, headers: &HeaderMap) -> bool {
        let mut values = fields::all(headers, &header::CONTENT_TYPE);
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let essence = value
            .as_bytes()
            .split(|b| *b == b';')
            .next()
            .unwrap_or_default();
        let Ok(essence) = std::str::from_utf8(essence.trim_ascii()) else {
            return false;
        };
        let Some((kind, subtype)) = essence.split_once('/') else {
            return false;
        };
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if subtype.is_empty() || !subtype.bytes().all(token) {
            return false;
        }
        self.content_types.iter().any(|taken| {
            taken.kind.eq_ignore_ascii_case(kind)
                && (taken.subtype == "*" || taken.subtype.eq_ignore_ascii_case(subtype))
        })
    }
}

fn has_value(headers: &HeaderMap, name: &HeaderName) -> bool {
    let mut values = fields::all(headers, name);
    values.any(|value| !value.as_bytes().trim_ascii().is_empty())
}

fn has_credentials(scheme: Scheme, headers: &HeaderMap) -> bool {
    let mut values = fields::all(headers, &header::AUTHORIZATION);
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let bytes = value.as_bytes();
    let end = bytes.iter().position(|b| *b == b' ').unwrap_or(bytes.len());
    let (name, credentials) = bytes.split_at(end);
    let wanted: Option<&[u8]> = match scheme {
        Scheme::Any => None,
        Scheme::Bearer => Some(b"bearer"),
        Scheme::Basic => Some(b"basic"),
    };
    !credentials.trim_ascii().is_empty()
        && wanted.is_none_or(|wanted| name.eq_ignore_ascii_case(wanted))
}

/// Whether two hexadecimal digits follow each `%`.
fn is_decodable(query: &str) -> bool {
    let mut parts = query.as_bytes().split(|b| *b == b'%');
    parts.next();
    parts.all(|part| part.len() >= 2 && part[..2].iter().all(u8::is_ascii_hexdigit))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    let value = fields::first(headers, &header::CONTENT_LENGTH)?
        .to_str()
        .ok()?;
    value.parse().ok()
}

fn announces_content(headers: &HeaderMap) -> bool {
    fields::has(headers, &header::TRANSFER_ENCODING)
        || fields::has(headers, &header::CONTENT_TYPE)
        || length(headers).is_some_and(|length| length > 0)
}

#[cfg(test)]
mod tests;
