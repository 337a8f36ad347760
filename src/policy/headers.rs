//! How a route edits the header fields of a request or a response, and which fields an operator may not touch.
//!
//! `config` compiles the rules, refusing what [`forbidden`] names; `proxy/` asks for the [`Edit`]s and carries them out, in
//! order. The fields that Backstop sets by itself (`X-Forwarded-For`, `Via`, …) are not decided here.

use super::template::{Template, Vars};
use http::{HeaderName, HeaderValue, header};

/// A route's edits of one direction. The default changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Fields that get this value in place of any they have.
    pub set: Vec<(HeaderName, Template)>,
    /// Fields that get this value beside those they have.
    pub add: Vec<(HeaderName, Template)>,
    /// Fields that go.
    pub remove: Vec<HeaderName>,
}

impl HeaderRules {
    /// Whether backends are told whose certificate the client showed.
    pub fn tell_client_cert(&self) -> bool {
        let mut templates = self.set.iter().chain(&self.add);
        templates.any(|(_, template)| template.names_client_cert())
    }

    /// Whether backends are told who was found to ask.
    pub fn tell_user(&self) -> bool {
        let mut templates = self.set.iter().chain(&self.add);
        templates.any(|(_, template)| template.names_user())
    }

    /// Whether a field of this name is edited in any way.
    pub fn edit(&self, name: &HeaderName) -> bool {
        self.names(name) || self.remove.contains(name)
    }
}

/// One step of editing a header section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Take away every field of this name.
    Remove(&'a HeaderName),
    /// Replace every field of this name with one of this value.
    Set(&'a HeaderName, HeaderValue),
    /// Append a field of this name and value.
    Add(&'a HeaderName, HeaderValue),
}

impl HeaderRules {
    /// Whether there is nothing to edit.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Whether a field of this name is set or added.
    pub fn names(&self, name: &HeaderName) -> bool {
        self.set.iter().chain(&self.add).any(|(own, _)| own == name)
    }

    /// The edits for one request: removals first, then `set`, then `add`, each in the order written, so that a field both
    /// removed and set ends up set. Every value is legal, whatever the client sent: see [`Template::render_value`]. A value
    /// that comes out empty is an empty field, not a missing one.
    pub fn edits<'a>(&'a self, vars: &Vars<'_>) -> impl Iterator<Item = Edit<'a>> {
        let value = |template: &Template| template.render_value(vars);
        let removed = self.remove.iter().map(Edit::Remove);
        let set = self
            .set
            .iter()
            .map(move |(name, template)| Edit::Set(name, value(template)));
        let added = self
            .add
            .iter()
            .map(move |(name, template)| Edit::Add(name, value(template)));
        removed.chain(set).chain(added)
    }
}

/// Why an operator may not set this field, or `None` if they may. These belong to one connection or to the framing of one
/// message (RFC 9110 §7.6.1, RFC 9112 §6): a wrong one makes two parties disagree about where a message ends.
pub fn forbidden(name: &HeaderName) -> Option<&'static str> {
    const FRAMING: &str = "it says where the message ends, which only the proxy knows";
    const CONNECTION: &str = "it belongs to a single connection, which the proxy manages";
    match *name {
        header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::TRAILER => Some(FRAMING),
        header::CONNECTION | header::UPGRADE | header::TE => Some(CONNECTION),
        _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => Some(CONNECTION),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn vars(uri: &str) -> Vars<'_> {
        Vars {
            client_ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
            host: "api.example.com",
            http_host: "api.example.com",
            request_id: "r-1",
            uri,
            method: "GET",
            scheme: "https",
            user: "",
            client_cert: "",
        }
    }

    fn name(text: &str) -> HeaderName {
        text.parse().unwrap()
    }

    fn field(field: &str, template: &str) -> (HeaderName, Template) {
        (name(field), Template::parse(template).unwrap())
    }

    fn lines(rules: &HeaderRules, vars: &Vars<'_>) -> Vec<String> {
        let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        let line = |edit| match edit {
            Edit::Remove(name) => format!("- {name}"),
            Edit::Set(name, value) => format!("= {name}: {}", text(&value)),
            Edit::Add(name, value) => format!("+ {name}: {}", text(&value)),
        };
        rules.edits(vars).map(line).collect()
    }

    #[test]
    fn edits_come_in_order_and_rendered() {
        let rules = HeaderRules {
            set: vec![field("X-Real-IP", "{client_ip}"), field("X-Debug", "off")],
            add: vec![
                field("Link", "<{scheme}://{host}{path}>"),
                field("Link", "</b>"),
            ],
            remove: vec![name("X-Debug"), name("Server")],
        };
        assert!(!rules.is_empty());
        assert_eq!(
            lines(&rules, &vars("/a?b=c")),
            [
                "- x-debug",
                "- server",
                "= x-real-ip: 192.0.2.7",
                "= x-debug: off",
                "+ link: <https://api.example.com/a>",
                "+ link: </b>",
            ]
        );
    }

    #[test]
    fn no_rules_no_edits() {
        let rules = HeaderRules::default();
        assert!(rules.is_empty());
        assert_eq!(rules.edits(&vars("/")).count(), 0);
        let one = || vec![field("a", "b")];
        for rules in [
            HeaderRules {
                set: one(),
                ..Default::default()
            },
            HeaderRules {
                add: one(),
                ..Default::default()
            },
            HeaderRules {
                remove: vec![name("a")],
                ..Default::default()
            },
        ] {
            assert!(!rules.is_empty(), "{rules:?}");
            assert_eq!(rules.edits(&vars("/")).count(), 1, "{rules:?}");
        }
    }

    #[test]
    fn a_client_cannot_write_a_field_of_its_own() {
        let rules = HeaderRules {
            set: vec![field("X-Uri", "{uri}")],
            ..Default::default()
        };
        assert_eq!(
            lines(&rules, &vars("/\r\nX-Admin: yes")),
            ["= x-uri: /%0D%0AX-Admin: yes"]
        );
    }

    #[test]
    fn what_may_not_be_set() {
        for (field, word) in [
            ("Connection", Some("connection")),
            ("Keep-Alive", Some("connection")),
            ("Proxy-Connection", Some("connection")),
            ("TE", Some("connection")),
            ("Upgrade", Some("connection")),
            ("Content-Length", Some("ends")),
            ("Trailer", Some("ends")),
            ("Transfer-Encoding", Some("ends")),
            ("Host", None),
            ("X-Real-IP", None),
            ("Content-Type", None),
        ] {
            let reason = forbidden(&name(field));
            assert_eq!(reason.is_some(), word.is_some(), "{field}");
            assert!(
                reason
                    .unwrap_or_default()
                    .contains(word.unwrap_or_default()),
                "{field}: {reason:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn values_are_legal_whatever_a_client_sends(
            uri in "[\\x00-\\x20a-c%?\\x7f-\\u{ff}]{0,24}",
            host in prop::collection::vec(any::<char>(), 0..12),
            template in prop::sample::select(vec!["{uri}", " {host}{query}", "{path}\t", "x{host}", "\r\n"]),
        ) {
            let host: String = host.into_iter().collect();
            let rules = HeaderRules {
                set: vec![field("a", template)],
                add: vec![field("b", template)],
                ..Default::default()
            };
            for edit in rules.edits(&Vars { host: &host, ..vars(&uri) }) {
                let (Edit::Set(_, value) | Edit::Add(_, value)) = edit else { continue };
                let bytes = value.as_bytes();
                prop_assert!(HeaderValue::from_bytes(bytes).is_ok());
                prop_assert!(!bytes.iter().any(|b| b"\r\n\0\x7f".contains(b)));
                prop_assert_eq!(bytes.trim_ascii().len(), bytes.len());
            }
        }
    }
}
