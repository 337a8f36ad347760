//! What a route requires of a request before it is let through, and what one gets that lacks it.
//!
//! Asked by `proxy::front`, after [`super::access`] and before anything is stored, sent or counted.

use super::framing;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::path::PathBuf;

/// The requirements of a route; empty lists and `None` require nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirement {
    /// Credentials, and by which scheme (RFC 9110 §11.4).
    pub authorization: Option<Scheme>,
    /// The media types that content may have.
    pub content_types: Vec<MediaType>,
    /// The most bytes that content may have.
    pub max_body: Option<u64>,
    /// Fields that have to be there, with a value.
    pub headers: Vec<HeaderName>,
    /// Parameters that the query has to have, with a value.
    pub query: Vec<String>,
    /// What content has to be, if anything.
    pub json: Option<Json>,
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
    /// Credentials.
    Authorization(Scheme),
    /// A media type that is taken here.
    ContentType,
    /// Brevity.
    MaxBody(u64),
    /// This field.
    Header(HeaderName),
    /// This parameter.
    Query(String),
    /// That it is JSON; where it is not.
    Json(String),
    /// What the schema asks for, and where.
    Schema(String),
}

impl Lacks {
    /// The status that says so.
    pub fn status(&self) -> StatusCode {
        match self {
            Lacks::Authorization(_) => StatusCode::UNAUTHORIZED,
            Lacks::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Lacks::MaxBody(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Lacks::Header(_) | Lacks::Query(_) | Lacks::Json(_) => StatusCode::BAD_REQUEST,
            Lacks::Schema(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// The same in words, for the client. Names what the operator wrote, never what the client sent.
    pub fn reason(&self) -> String {
        match self {
            Lacks::Authorization(_) => "credentials are required".to_string(),
            Lacks::ContentType => "this content type is not taken here".to_string(),
            Lacks::MaxBody(most) => format!("the content may have {most} bytes at most"),
            Lacks::Header(name) => format!("the header field {name} is required"),
            Lacks::Query(name) => format!("the query parameter {name} is required"),
            Lacks::Json(place) => format!("the content is not JSON: {place}"),
            Lacks::Schema(what) => format!("the content is not as it should be: {what}"),
        }
    }

    /// The log's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Lacks::Authorization(_) => "authorization_required",
            Lacks::ContentType => "content_type_refused",
            Lacks::MaxBody(_) => "body_too_large",
            Lacks::Header(_) => "header_required",
            Lacks::Query(_) => "query_required",
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
        if let Some(name) = self.headers.iter().find(|name| !arrives(name)) {
            return Err(Lacks::Header(name.clone()));
        }
        if let Some(name) = self.query.iter().find(|name| !has_parameter(query, name)) {
            return Err(Lacks::Query(name.clone()));
        }
        if let Some(length) = length(headers) {
            self.judge_length(length)?;
        }
        let has_content = has_content || announces_content(headers);
        if !self.content_types.is_empty() && has_content && !self.takes(headers) {
            return Err(Lacks::ContentType);
        }
        // What is compressed cannot be looked at.
        if self.json.is_some() && has_content && headers.contains_key(header::CONTENT_ENCODING) {
            return Err(Lacks::ContentType);
        }
        Ok(())
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
        let mut values = headers.get_all(header::CONTENT_TYPE).iter();
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
    let mut values = headers.get_all(name).iter();
    values.any(|value| !value.as_bytes().trim_ascii().is_empty())
}

fn has_credentials(scheme: Scheme, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
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

fn has_parameter(query: Option<&str>, wanted: &str) -> bool {
    let pairs = query.unwrap_or_default().split('&');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.any(|(name, value)| name == wanted && !value.is_empty())
}

fn length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    value.parse().ok()
}

fn announces_content(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.contains_key(header::CONTENT_TYPE)
        || length(headers).is_some_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> HeaderMap {
        let lines = text.split('\n').filter_map(|line| line.split_once(": "));
        lines
            .map(|(n, v)| {
                (
                    n.parse::<HeaderName>().unwrap(),
                    HeaderValue::from_str(v).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn what_a_request_lacks() {
        let json = || MediaType {
            kind: "application".into(),
            subtype: "json".into(),
        };
        let images = || MediaType {
            kind: "image".into(),
            subtype: "*".into(),
        };
        let nothing = Requirement::default;
        let authorization = |scheme| Requirement {
            authorization: Some(scheme),
            ..nothing()
        };
        let types = || Requirement {
            content_types: vec![json(), images()],
            ..nothing()
        };
        let body = || Requirement {
            max_body: Some(10),
            ..nothing()
        };
        let header = || Requirement {
            headers: vec![HeaderName::from_static("x-tenant")],
            ..nothing()
        };
        let query = || Requirement {
            query: vec!["id".into()],
            ..nothing()
        };
        let unauthorized = |scheme| Err(Lacks::Authorization(scheme));
        let tenant = || Err(Lacks::Header(HeaderName::from_static("x-tenant")));
        let id = || Err(Lacks::Query("id".into()));
        for (requirement, target, head, verdict) in [
            (nothing(), "", "", Ok(())),
            (
                authorization(Scheme::Any),
                "",
                "",
                unauthorized(Scheme::Any),
            ),
            (
                authorization(Scheme::Any),
                "",
                "authorization: ",
                unauthorized(Scheme::Any),
            ),
            (
                authorization(Scheme::Any),
                "",
                "authorization: Token",
                unauthorized(Scheme::Any),
            ),
            (
                authorization(Scheme::Any),
                "",
                "authorization: Token x",
                Ok(()),
            ),
            (
                authorization(Scheme::Bearer),
                "",
                "authorization: bearer x",
                Ok(()),
            ),
            (
                authorization(Scheme::Bearer),
                "",
                "authorization: Basic x",
                unauthorized(Scheme::Bearer),
            ),
            (
                authorization(Scheme::Basic),
                "",
                "authorization: BASIC x",
                Ok(()),
            ),
            (
                authorization(Scheme::Any),
                "",
                "authorization: Token x\nauthorization: Token y",
                unauthorized(Scheme::Any),
            ),
            (types(), "", "", Ok(())),
            (types(), "", "content-length: 0", Ok(())),
            (types(), "", "content-length: 1", Err(Lacks::ContentType)),
            (
                types(),
                "",
                "transfer-encoding: chunked",
                Err(Lacks::ContentType),
            ),
            (
                types(),
                "",
                "content-type: text/plain",
                Err(Lacks::ContentType),
            ),
            (
                types(),
                "",
                "content-type: application/JSON; charset=utf-8",
                Ok(()),
            ),
            (types(), "", "content-type: image/png", Ok(())),
            (
                types(),
                "",
                "content-type: image/png, text/html",
                Err(Lacks::ContentType),
            ),
            (
                types(),
                "",
                "content-type: application/json-patch+json",
                Err(Lacks::ContentType),
            ),
            (
                types(),
                "",
                "content-type: application/json\ncontent-type: a/b",
                Err(Lacks::ContentType),
            ),
            (body(), "", "content-length: 10", Ok(())),
            (body(), "", "content-length: 11", Err(Lacks::MaxBody(10))),
            (header(), "", "x-tenant: a", Ok(())),
            (header(), "", "x-tenant: ", tenant()),
            (
                header(),
                "",
                "x-tenant: a\nconnection: close, X-Tenant",
                tenant(),
            ),
            (header(), "", "", tenant()),
            (query(), "a=b&id=7", "", Ok(())),
            (query(), "id=", "", id()),
            (query(), "id", "", id()),
            (query(), "xid=7", "", id()),
        ] {
            let query = Some(target).filter(|t| !t.is_empty());
            let judged = requirement.judge(&Method::POST, query, &fields(head), false);
            assert_eq!(judged, verdict, "{target:?} {head:?}");
        }
        let asked =
            authorization(Scheme::Any).judge(&Method::OPTIONS, None, &HeaderMap::new(), false);
        assert_eq!(asked, Ok(()));
        let unsaid = types().judge(&Method::POST, None, &HeaderMap::new(), true);
        assert_eq!(unsaid, Err(Lacks::ContentType));
    }
}
