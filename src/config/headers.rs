//! How a route edits header fields, as written.
//!
//! Names and values are checked when they are read; [`HeadersSpec::over`] merges a route's edits with the defaults.

use super::fault::quoted;
use super::written::{Complaint, Written, written};
use crate::policy::headers::{HeaderRules, forbidden};
use crate::policy::template::Template;
use http::{HeaderName, HeaderValue};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;

/// The name of a field that may be edited.
#[derive(Debug, Clone)]
pub(crate) struct FieldName {
    written: String,
    name: HeaderName,
}

impl Written for FieldName {
    const EXPECTED: &'static str = "the name of a header field such as X-Real-IP";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let name: HeaderName = word.parse().map_err(|_| Complaint::unfit())?;
        match forbidden(&name) {
            Some(why) => Err(Complaint::because(format!(
                "{word} cannot be edited: {why}"
            ))),
            None => Ok(FieldName {
                written: word.to_string(),
                name,
            }),
        }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// The name of a header field that is only looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadName(pub(crate) HeaderName);

impl Written for ReadName {
    const EXPECTED: &'static str = "the name of a header field such as X-User";

    fn parse(word: &str) -> Result<Self, Complaint> {
        word.parse().map(ReadName).map_err(|_| Complaint::unfit())
    }
}

impl fmt::Display for ReadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl PartialOrd for ReadName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ReadName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

/// A text with variables that is fit for a header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueText(pub(crate) Template);

impl Written for ValueText {
    const EXPECTED: &'static str = "text";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if HeaderValue::from_str(word).is_err() {
            return Err(Complaint::because(
                "a header field cannot hold line feeds and other control characters",
            ));
        }
        match Template::parse(word) {
            Ok(template) => Ok(ValueText(template)),
            Err(error) => Err(Complaint::because(error.to_string())),
        }
    }
}

impl fmt::Display for ValueText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.source())
    }
}

written!(FieldName, ReadName, ValueText);

/// Fields with their values, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(Vec<(FieldName, ValueText)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(FieldsVisitor)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping such as { X-Real-IP: \"{client_ip}\" }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields: Vec<(FieldName, ValueText)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<FieldName, ValueText>()? {
            if let Some((other, _)) = fields.iter().find(|(f, _)| f.name == name.name) {
                return Err(serde::de::Error::custom(format_args!(
                    "{} and {} are the same header field",
                    quoted(&other.written),
                    quoted(&name.written)
                )));
            }
            fields.push((name, value));
        }
        Ok(Fields(fields))
    }
}

impl Fields {
    /// These, and those of `base` that are not named here nor in `removed`.
    fn over(&self, base: &Fields, removed: &[FieldName]) -> Fields {
        let mut fields: Vec<_> = base
            .0
            .iter()
            .filter(|(name, _)| !removed.iter().any(|r| r.name == name.name))
            .filter(|(name, _)| !self.0.iter().any(|(own, _)| own.name == name.name))
            .cloned()
            .collect();
        fields.extend(self.0.iter().cloned());
        Fields(fields)
    }

    fn compiled(&self) -> Vec<(HeaderName, Template)> {
        self.0
            .iter()
            .map(|(field, value)| (field.name.clone(), value.0.clone()))
            .collect()
    }
}

/// The edits of one direction.
#[derive(Debug, Clone, Default, serde::Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with set, add and remove")]
pub(crate) struct EditsSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<Fields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    add: Option<Fields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove: Option<Vec<FieldName>>,
}

impl EditsSpec {
    /// What is said here, and what `base` says beside it. A field that is removed here is not set by the base.
    fn over(&self, base: &EditsSpec) -> EditsSpec {
        let removed = self.remove.as_deref().unwrap_or_default();
        let fields = |own: &Option<Fields>, base: &Option<Fields>| match (own, base) {
            (None, None) => None,
            (own, base) => {
                let own = own.clone().unwrap_or_default();
                let merged = own.over(&base.clone().unwrap_or_default(), removed);
                (!merged.0.is_empty()).then_some(merged)
            }
        };
        EditsSpec {
            set: fields(&self.set, &base.set),
            add: fields(&self.add, &base.add),
            remove: self.remove.clone().or_else(|| base.remove.clone()),
        }
    }

    /// What the proxy goes by.
    pub(crate) fn compile(&self) -> HeaderRules {
        let fields = |fields: &Option<Fields>| fields.as_ref().map(Fields::compiled);
        let remove = self.remove.iter().flatten();
        HeaderRules {
            set: fields(&self.set).unwrap_or_default(),
            add: fields(&self.add).unwrap_or_default(),
            remove: remove.map(|field| field.name.clone()).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.set.is_none() && self.add.is_none() && self.remove.is_none()
    }
}

/// The edits of a route.
#[derive(Debug, Clone, Default, serde::Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with request and response")]
pub(crate) struct HeadersSpec {
    /// Of the request, before it goes to an upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<EditsSpec>,
    /// Of the response, before it goes to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<EditsSpec>,
}

impl HeadersSpec {
    /// What is said here, and what `base` says beside it.
    pub(crate) fn over(&self, base: &HeadersSpec) -> HeadersSpec {
        let nothing = EditsSpec::default();
        let edits = |own: &Option<EditsSpec>, base: &Option<EditsSpec>| {
            let own = own.as_ref().unwrap_or(&nothing);
            let merged = own.over(base.as_ref().unwrap_or(&nothing));
            (!merged.is_empty()).then_some(merged)
        };
        HeadersSpec {
            request: edits(&self.request, &base.request),
            response: edits(&self.response, &base.response),
        }
    }

    /// Nothing at all, if there is nothing to edit.
    pub(crate) fn unless_empty(self) -> Option<HeadersSpec> {
        (self.request.is_some() || self.response.is_some()).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> HeadersSpec {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn a_route_wins_over_the_defaults_name_by_name() {
        let base = spec(
            "request: { set: { X-A: base, X-B: base, X-C: base }, remove: [X-Gone] }\nresponse: { add: { Via: base } }",
        );
        let own = spec("request: { set: { x-a: own, X-D: own }, remove: [X-C] }");
        let rules = own.over(&base).request.unwrap().compile();
        let set: Vec<String> = rules
            .set
            .iter()
            .map(|(name, value)| format!("{name}={}", value.source()))
            .collect();
        assert_eq!(set, ["x-b=base", "x-a=own", "x-d=own"]);
        assert_eq!(rules.remove, ["x-c"]);
        assert_eq!(own.over(&base).response.unwrap().compile().add.len(), 1);
        assert!(spec("{}").over(&spec("{}")).unless_empty().is_none());
    }

    #[test]
    fn names_and_values() {
        for name in ["X-Real-IP", "host", "set-cookie"] {
            assert!(FieldName::parse(name).is_ok(), "{name}");
        }
        for name in ["", "X Real", "Content-Length", "TE", "connection", "ü"] {
            assert!(FieldName::parse(name).is_err(), "{name}");
        }
        for value in ["", "a {client_ip}", "{{x}}", "\t", "ü"] {
            assert!(ValueText::parse(value).is_ok(), "{value}");
        }
        for value in ["{nothing}", "{", "a\nb", "a\u{7f}b"] {
            assert!(ValueText::parse(value).is_err(), "{value}");
        }
    }
}
