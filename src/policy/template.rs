//! Texts with variables, such as `https://api.example.com{uri}`: read at load, filled in per request.
//!
//! `config` parses them; `policy::headers` and the redirects of `proxy/` render them. A template knows only the variables
//! in [`Vars`] and takes them as they are: whether a client may be believed is decided before.

use super::forwarded;
use http::HeaderValue;
use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::IpAddr;

/// What a request puts in place of the variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vars<'a> {
    /// `{client_ip}`: the client's address without its port; empty where that is not known.
    pub client_ip: Option<IpAddr>,
    /// `{host}`: the host asked for, without its port, as nginx's `$host`.
    pub host: &'a str,
    /// `{http_host}`: the same as the client wrote it, with the port if there was one.
    pub http_host: &'a str,
    /// `{request_id}`: what this request is called in headers and logs.
    pub request_id: &'a str,
    /// `{uri}`: path and query as the client sent them. `{path}` is what stands before the first `?`, `{query}` what
    /// follows it; empty if there is none.
    pub uri: &'a str,
    /// `{method}`: the method, in capitals as HTTP has it.
    pub method: &'a str,
    /// `{scheme}`: `http` or `https`, as the client came.
    pub scheme: &'a str,
    /// `{user}`: who it is, where that was proved; empty elsewhere.
    pub user: &'a str,
    /// `{client_cert}`: the subject of the certificate that the client showed, as RFC 4514 writes it; empty without one.
    pub client_cert: &'a str,
}

/// A variable that a template may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    ClientIp,
    Host,
    HttpHost,
    RequestId,
    Uri,
    Path,
    Query,
    Method,
    Scheme,
    User,
    ClientCert,
}

/// Every variable under the name that operators write.
const VARIABLES: [(&str, Variable); 11] = [
    ("client_ip", Variable::ClientIp),
    ("host", Variable::Host),
    ("http_host", Variable::HttpHost),
    ("request_id", Variable::RequestId),
    ("uri", Variable::Uri),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("method", Variable::Method),
    ("scheme", Variable::Scheme),
    ("user", Variable::User),
    ("client_cert", Variable::ClientCert),
];

impl Variable {
    fn value<'a>(self, vars: &Vars<'a>) -> Cow<'a, str> {
        let parts = || vars.uri.split_once('?').unwrap_or((vars.uri, ""));
        Cow::Borrowed(match self {
            Variable::ClientIp => {
                return vars
                    .client_ip
                    .map(forwarded::text)
                    .unwrap_or_default()
                    .into();
            }
            Variable::Host => vars.host,
            Variable::HttpHost => vars.http_host,
            Variable::RequestId => vars.request_id,
            Variable::Uri => vars.uri,
            Variable::Path => parts().0,
            Variable::Query => parts().1,
            Variable::Method => vars.method,
            Variable::Scheme => vars.scheme,
            Variable::User => vars.user,
            Variable::ClientCert => vars.client_cert,
        })
    }
}

/// A piece of a text with variables. Two literals never follow one another, and none is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<V> {
    /// As it stands.
    Literal(String),
    /// What a request puts there.
    Variable(V),
}

/// Reads a text with variables in braces, of which `find` knows the names; `{{` and `}}` stand for the braces themselves.
///
/// # Errors
/// A variable that does not exist, or a brace without its partner.
pub fn parts<V>(
    text: &str,
    find: impl Fn(&str) -> Option<V>,
) -> Result<Vec<Part<V>>, TemplateError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            literal.push_str(&rest[..1]);
            rest = &rest[2..];
            continue;
        }
        let Some(inner) = rest.strip_prefix('{') else {
            return Err(TemplateError::NeverOpened);
        };
        // A second `{` before any `}` means that the first was never closed.
        let name = match inner.find(['{', '}']) {
            Some(end) if inner[end..].starts_with('}') => &inner[..end],
            _ => return Err(TemplateError::NeverClosed),
        };
        let Some(variable) = find(name) else {
            return Err(TemplateError::Unknown(name.to_owned()));
        };
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Variable(variable));
        rest = &inner[name.len() + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// A text with variables in braces; `{{` and `}}` stand for the braces themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part<Variable>>,
    /// The header value of a template without variables, which is the same for every request.
    ready: Option<HeaderValue>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A variable that does not exist, or a brace without its partner.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let find = |name: &str| {
            let mut known = VARIABLES.iter();
            known.find(|(known, _)| *known == name).map(|(_, v)| *v)
        };
        let parts = parts(text, find)?;
        let mut template = Template {
            source: text.to_owned(),
            parts,
            ready: None,
        };
        template.ready = template
            .as_literal()
            .map(|text| field_value(text.to_owned()));
        Ok(template)
    }

    /// The text for one request.
    pub fn render(&self, vars: &Vars<'_>) -> String {
        let mut out = String::new();
        self.render_into(vars, &mut out);
        out
    }

    /// As [`render`](Self::render), at the end of `out`.
    pub fn render_into(&self, vars: &Vars<'_>, out: &mut String) {
        out.extend(self.pieces(vars));
    }

    /// The text for one request as the value of a header field. It is always legal (RFC 9110 §5.5), whatever a client put
    /// into its request: control characters are percent-encoded, so that none can end the field and begin another, and
    /// spaces at either end, which are no part of a value, are left out. Nothing is rendered where there are no variables.
    pub fn render_value(&self, vars: &Vars<'_>) -> HeaderValue {
        match &self.ready {
            Some(value) => value.clone(),
            None => field_value(self.render(vars)),
        }
    }

    /// The text itself, its doubled braces undone, if it is the same for every request.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it says who was found to ask.
    pub fn names_user(&self) -> bool {
        self.parts.contains(&Part::Variable(Variable::User))
    }

    /// Whether the certificate of the client is in it.
    pub fn names_client_cert(&self) -> bool {
        self.parts.contains(&Part::Variable(Variable::ClientCert))
    }

    /// The template as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn pieces<'a>(&'a self, vars: &Vars<'a>) -> impl Iterator<Item = Cow<'a, str>> {
        self.parts.iter().map(|part| match part {
            Part::Literal(text) => Cow::Borrowed(text.as_str()),
            Part::Variable(variable) => variable.value(vars),
        })
    }
}

/// The nearest legal field value. HTTP/2 counts a space at either end as malformed (RFC 9113 §8.2.1), HTTP/1 drops it.
fn field_value(text: String) -> HeaderValue {
    let illegal = |c: char| c.is_ascii_control() && c != '\t';
    let trimmed = text.trim_matches([' ', '\t']);
    let legal = if trimmed.contains(illegal) {
        let mut encoded = String::with_capacity(trimmed.len() + 16);
        for c in trimmed.chars() {
            if illegal(c) {
                // Writing to a `String` cannot fail.
                let _ = write!(encoded, "%{:02X}", u32::from(c));
            } else {
                encoded.push(c);
            }
        }
        encoded
    } else if trimmed.len() < text.len() {
        trimmed.to_owned()
    } else {
        text
    };
    // Only control characters are refused, and there are none left: the empty value is never used.
    HeaderValue::try_from(legal).unwrap_or(HeaderValue::from_static(""))
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// There is no variable of this name.
    Unknown(String),
    /// A brace is opened, and never closed.
    NeverClosed,
    /// A brace is closed that was never opened.
    NeverOpened,
}

impl TemplateError {
    /// In words, with the variables that there are.
    pub fn told<'a>(&self, known: impl IntoIterator<Item = &'a str>) -> String {
        match self {
            TemplateError::Unknown(name) => {
                let mut told = format!("there is no variable {{{name}}} (known:");
                for known in known {
                    // Writing to a `String` cannot fail.
                    let _ = write!(told, " {{{known}}}");
                }
                told.push_str("; write {{ and }} for literal braces)");
                told
            }
            TemplateError::NeverClosed => {
                r#"a "{" is never closed (write "{{" for a literal brace)"#.to_owned()
            }
            TemplateError::NeverOpened => {
                r#"a "}" was never opened (write "}}" for a literal brace)"#.to_owned()
            }
        }
    }
}

/// With the variables of a [`Template`].
impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(VARIABLES.iter().map(|(name, _)| *name)))
    }
}

impl std::error::Error for TemplateError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const VARS: Vars<'static> = Vars {
        client_ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        host: "api.example.com",
        http_host: "api.example.com:8443",
        request_id: "r-1",
        uri: "/a/b?c=d?e",
        method: "GET",
        scheme: "https",
        user: "ann",
        client_cert: "CN=ann,O=Example",
    };

    #[test]
    fn variables_and_braces() {
        for (text, rendered, literal) in [
            ("", "", true),
            ("plain", "plain", true),
            ("{client_ip}", "192.0.2.7", false),
            ("{request_id} {method}", "r-1 GET", false),
            (
                "{scheme}://{host}{uri}",
                "https://api.example.com/a/b?c=d?e",
                false,
            ),
            ("{path}|{query}", "/a/b|c=d?e", false),
            ("{{host}}", "{host}", true),
            ("{{{host}}}", "{api.example.com}", false),
            ("}}{{", "}{", true),
            ("é{host}é", "éapi.example.comé", false),
            ("$host", "$host", true),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.render(&VARS), rendered, "{text}");
            assert_eq!(template.as_literal(), literal.then_some(rendered), "{text}");
            assert_eq!(template.source(), text);
            let mut out = String::from("> ");
            template.render_into(&VARS, &mut out);
            assert_eq!(out, format!("> {rendered}"), "{text}");
        }
    }

    #[test]
    fn path_and_query_of_a_uri() {
        let template = Template::parse("{path}|{query}").unwrap();
        for (uri, rendered) in [
            ("/", "/|"),
            ("/a?", "/a|"),
            ("/?a", "/|a"),
            ("*", "*|"),
            ("", "|"),
        ] {
            assert_eq!(template.render(&Vars { uri, ..VARS }), rendered, "{uri}");
        }
    }

    #[test]
    fn what_is_no_template() {
        for (text, message) in [
            (
                "a {hots} b",
                "there is no variable {hots} (known: {client_ip} {host} {http_host} {request_id} {uri} {path} {query} {method} \
                 {scheme} {user} {client_cert}; write {{ and }} for literal braces)",
            ),
            ("{}", "there is no variable {} (known: "),
            ("{ host }", "there is no variable { host } (known: "),
            ("{Host}", "there is no variable {Host} (known: "),
            (
                "{host",
                r#"a "{" is never closed (write "{{" for a literal brace)"#,
            ),
            (
                "{host{uri}",
                r#"a "{" is never closed (write "{{" for a literal brace)"#,
            ),
            (
                "{",
                r#"a "{" is never closed (write "{{" for a literal brace)"#,
            ),
            (
                "host}",
                r#"a "}" was never opened (write "}}" for a literal brace)"#,
            ),
            (
                "{{host}",
                r#"a "}" was never opened (write "}}" for a literal brace)"#,
            ),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn header_values_are_made_legal() {
        for (text, uri, value) in [
            ("a\tb", "/", "a\tb"),
            ("  a b\t", "/", "a b"),
            ("a\r\nX-Evil: 1", "/", "a%0D%0AX-Evil: 1"),
            ("to {uri}", "/\r\n\0\x7f ", "to /%0D%0A%00%7F"),
            ("{uri}", "\n", "%0A"),
            ("{uri}", " ", ""),
            ("{uri}", "/%0d%0a", "/%0d%0a"),
            ("café", "/", "café"),
            ("", "/", ""),
        ] {
            let rendered = Template::parse(text)
                .unwrap()
                .render_value(&Vars { uri, ..VARS });
            assert_eq!(rendered.as_bytes(), value.as_bytes(), "{text:?} {uri:?}");
        }
    }

    proptest! {
        #[test]
        fn a_literal_survives_the_round_trip(text in "[{}a-z\\x00-\\x20é]{0,20}") {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            let template = Template::parse(&escaped).unwrap();
            prop_assert_eq!(template.as_literal(), Some(text.as_str()));
            prop_assert_eq!(template.render(&VARS), text);
            prop_assert_eq!(template.source(), escaped);
        }

        #[test]
        fn rendering_joins_the_parts(names in prop::collection::vec(0..VARIABLES.len(), 0..6), text in "[a-z{}]{0,4}") {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            let (mut source, mut expected) = (escaped.clone(), text.clone());
            for (name, variable) in names.into_iter().map(|i| VARIABLES[i]) {
                source += &format!("{{{name}}}{escaped}");
                expected += &variable.value(&VARS);
                expected += &text;
            }
            prop_assert_eq!(Template::parse(&source).unwrap().render(&VARS), expected);
        }

        #[test]
        fn parsing_never_panics(text in "([{}é ]|host|uri){0,12}") {
            if let Err(error) = Template::parse(&text) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
