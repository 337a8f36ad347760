//! `require` of a route, as written: what a request has to have to be let through.

use super::files;
use super::headers::ReadName;
use super::keypath::KeyPath;
use super::patterns::{FileText, MethodText};
use super::report::{Document, Report};
use super::size::Size;
use super::switch::{Section, over};
use super::wanted::WantedText;
use super::written::{Complaint, Written, written};
use crate::policy::requirement::{Json, MediaType, Requirement, Scheme, Wanted};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// `require`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { authorization: any, max_body: 1MiB }, or off"
)]
pub(crate) struct RequireSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    methods: Option<Vec<MethodText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization: Option<SchemeText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_types: Option<Vec<TypeText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_body: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Vec<WantedText<ReadName>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<Vec<WantedText<Parameter>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_query: Option<Vec<WantedText<Parameter>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<JsonText>,
}

/// `json`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum JsonText {
    /// `any`.
    Any,
    /// A file with a schema.
    Schema(FileText),
}

impl Written for JsonText {
    const EXPECTED: &'static str = "any, or a file with a JSON Schema such as order.schema.json";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match word {
            "any" => Ok(JsonText::Any),
            _ => FileText::parse(word).map(JsonText::Schema),
        }
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JsonText::Any => "any",
            JsonText::Schema(file) => &file.0,
        })
    }
}

/// `authorization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SchemeText(Scheme);

impl Written for SchemeText {
    const EXPECTED: &'static str = "any, bearer or basic";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match word {
            "any" => Ok(SchemeText(Scheme::Any)),
            "bearer" => Ok(SchemeText(Scheme::Bearer)),
            "basic" => Ok(SchemeText(Scheme::Basic)),
            _ => Err(Complaint::unfit()),
        }
    }
}

impl fmt::Display for SchemeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Scheme::Any => "any",
            Scheme::Bearer => "bearer",
            Scheme::Basic => "basic",
        })
    }
}

/// A media type without parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TypeText(MediaType);

impl Written for TypeText {
    const EXPECTED: &'static str = "a media type such as application/json or image/*";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let token = |part: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b);
            !part.is_empty() && part.bytes().all(fits)
        };
        match word.split_once('/') {
            Some((kind, subtype)) if token(kind) && (token(subtype) || subtype == "*") => {
                Ok(TypeText(MediaType {
                    kind: kind.to_ascii_lowercase(),
                    subtype: subtype.to_ascii_lowercase(),
                }))
            }
            _ => Err(Complaint::unfit()),
        }
    }
}

impl fmt::Display for TypeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.kind, self.0.subtype)
    }
}

/// The name of a parameter, as it stands in a query.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter(String);

impl Written for Parameter {
    const EXPECTED: &'static str = "the name of a query parameter such as id";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let fits = |b: u8| b.is_ascii_graphic() && !b"&=#".contains(&b);
        match !word.is_empty() && word.bytes().all(fits) {
            true => Ok(Parameter(word.to_string())),
            false => Err(Complaint::unfit()),
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written!(SchemeText, TypeText, Parameter, JsonText);

/// What the policy wants of these.
fn wanted<T, N>(texts: &[WantedText<T>], name: impl Fn(&T) -> N) -> Vec<Wanted<N>> {
    let wanted = texts.iter().map(|text| Wanted {
        name: name(&text.name),
        pattern: text.pattern.as_ref().map(|pattern| pattern.0.clone()),
    });
    wanted.collect()
}

impl Section for RequireSpec {
    const EXPECTED: &'static str =
        "a mapping such as { authorization: any, max_body: 1MiB }, or off";

    fn over(&self, base: &Self) -> Self {
        over!(
            self,
            base,
            RequireSpec {
                methods,
                authorization,
                content_types,
                max_body,
                headers,
                query,
                allowed_query,
                json
            }
        )
    }
}

impl RequireSpec {
    /// Whether content has to be JSON.
    pub(crate) fn wants_json(&self) -> bool {
        self.json.is_some()
    }

    /// The same for a route that does not read content.
    pub(crate) fn without_content(&self) -> RequireSpec {
        RequireSpec {
            json: None,
            ..self.clone()
        }
    }

    /// Reports lists that take nothing.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        if self.content_types.as_ref().is_some_and(Vec::is_empty) {
            let path = path.key("content_types");
            let problem = report.add(document, path, "no content would be taken");
            problem.help = Some("leave it out to take any".to_string());
        }
        if self.methods.as_ref().is_some_and(Vec::is_empty) {
            let path = path.key("methods");
            let problem = report.add(document, path, "no request would be taken");
            problem.help = Some("leave it out to take any".to_string());
        }
    }

    /// What the policy goes by; relative paths are those of this directory.
    pub(crate) fn compile(&self, directory: &Path) -> Requirement {
        Requirement {
            methods: self.methods.iter().flatten().map(|m| m.0.clone()).collect(),
            authorization: self.authorization.map(|scheme| scheme.0),
            content_types: self
                .content_types
                .iter()
                .flatten()
                .map(|t| t.0.clone())
                .collect(),
            max_body: self.max_body.map(|size| size.0),
            headers: wanted(self.headers.as_deref().unwrap_or_default(), |name| {
                name.0.clone()
            }),
            query: wanted(self.query.as_deref().unwrap_or_default(), |name| {
                name.0.clone()
            }),
            allowed_query: self
                .allowed_query
                .as_deref()
                .map(|allowed| wanted(allowed, |name| name.0.clone())),
            json: self.json.as_ref().map(|json| match json {
                JsonText::Any => Json::Any,
                JsonText::Schema(file) => Json::Schema(files::absolute(directory, &file.0)),
            }),
        }
    }
}
