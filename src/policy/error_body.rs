//! What an answer of our own says in its body: in which form a client takes it, and the pages that an operator has for it.
//!
//! `config` reads the [`ErrorPages`]; `proxy::respond` asks for a [`Page`] and, where there is none, for the [`Form`] that
//! goes with `Accept` (RFC 9110 §12.5.1). Nothing that a client sent gets into a body unescaped.

mod page;

pub use page::{ErrorPages, Kind, Page, PageBody, PageFor};

use super::encoding::thousandths;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::borrow::Cow;

/// What is to be said.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// What happened.
    pub status: StatusCode,
    /// Why, where there is more to say.
    pub why: Option<&'a str>,
    /// What the request is called in headers and logs.
    pub request_id: &'a str,
}

/// The words of a status: `Not Found`.
fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

/// A form that there is for every status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Two lines for people at a terminal.
    Text,
    /// Problem details (RFC 9457) under their own media type.
    Problem,
    /// The same for clients that know JSON only.
    Json,
    /// A page for people with a browser.
    Html,
}

/// What is offered, the preferred one first: that is what who takes anything gets.
const OFFERED: [(Form, &str, &str); 4] = [
    (Form::Text, "text", "plain"),
    (Form::Problem, "application", "problem+json"),
    (Form::Json, "application", "json"),
    (Form::Html, "text", "html"),
];

/// How much a client likes a form: by weight, then by how exactly it names it, then by how early it does.
type Liking = (u16, u8, usize);

impl Form {
    /// The form that a client likes best; text where it does not say, or takes none of them (RFC 9110 §12.4.1 leaves that
    /// to the server). Where several are liked equally, one that is named comes before one that is only covered by `*`, and
    /// one that is named earlier before others.
    pub fn of(request: &HeaderMap) -> Form {
        let ranges: Vec<Range<'_>> = ranges(request).collect();
        let mut best: Option<(Liking, Form)> = None;
        for (form, kind, subtype) in OFFERED {
            let Some(liking) = liking(&ranges, kind, subtype) else {
                continue;
            };
            if best.is_none_or(|(other, _)| liking > other) {
                best = Some((liking, form));
            }
        }
        best.map_or(Form::Text, |(_, form)| form)
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Form::Text => Kind::Text.content_type(),
            Form::Problem => "application/problem+json",
            Form::Json => Kind::Json.content_type(),
            Form::Html => Kind::Html.content_type(),
        })
    }

    /// The body.
    pub fn body(self, told: &Told<'_>) -> String {
        match self {
            Form::Text => text(told),
            Form::Problem | Form::Json => problem(told),
            Form::Html => page(told),
        }
    }
}

/// One media range of `Accept`.
#[derive(Debug, Clone, Copy)]
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// In thousandths.
    weight: u16,
    /// Which of them it is.
    position: usize,
}

/// The ranges of all `Accept` fields in order. What cannot be read is as if it were not there. Parameters other than the
/// weight are not looked at: there is one form of each type.
fn ranges(request: &HeaderMap) -> impl Iterator<Item = Range<'_>> {
    let lines = request.get_all(header::ACCEPT).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let items = lines.flat_map(|line| outside_quotes(line, ','));
    items.enumerate().filter_map(|(position, item)| {
        let mut parts = outside_quotes(item, ';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let is_weight = |part: &&str| part.starts_with("q=") || part.starts_with("Q=");
        let weight = match parts.find(is_weight) {
            Some(weight) => thousandths(weight)?,
            None => 1000,
        };
        Some(Range {
            kind,
            subtype,
            weight,
            position,
        })
    })
}

/// The pieces between separators that do not stand in quotation marks (RFC 9110 §5.6.4).
fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        if quoted {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
            return false;
        }
        quoted = c == '"';
        c == separator
    })
}

/// What the most exact range that fits says (RFC 9110 §12.5.1); `None` where none fits, or it says "not at all".
fn liking(ranges: &[Range<'_>], kind: &str, subtype: &str) -> Option<Liking> {
    let exactness = |range: &Range<'_>| {
        let same_kind = range.kind.eq_ignore_ascii_case(kind);
        match (same_kind, range.kind, range.subtype) {
            (true, _, own) if own.eq_ignore_ascii_case(subtype) => Some(2),
            (true, _, "*") => Some(1),
            (_, "*", "*") => Some(0),
            _ => None,
        }
    };
    let fitting = ranges.iter().filter_map(|r| Some((exactness(r)?, r)));
    let (exactness, range) = fitting.max_by_key(|(exact, r)| (*exact, r.weight))?;
    // Where nothing is named, our own order holds.
    let early = if exactness == 2 {
        usize::MAX - range.position
    } else {
        0
    };
    (range.weight > 0).then_some((range.weight, exactness, early))
}

fn text(told: &Told<'_>) -> String {
    let why = told.why.map(|why| format!(": {why}")).unwrap_or_default();
    format!(
        "{} {}{why}\nrequest id: {}\n",
        told.status.as_u16(),
        reason(told.status),
        told.request_id
    )
}

/// RFC 9457 §3, with `request_id` as an extension (§3.2). `about:blank` says that the status is all there is to the type (§4.2.1).
fn problem(told: &Told<'_>) -> String {
    let detail = told.why.map(|why| format!("\"detail\":\"{}\",", json(why)));
    format!(
        "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},{}\"request_id\":\"{}\"}}\n",
        json(reason(told.status)),
        told.status.as_u16(),
        detail.unwrap_or_default(),
        json(told.request_id)
    )
}

/// A page that loads nothing, runs nothing and fits a telephone.
fn page(told: &Told<'_>) -> String {
    let why = told.why.map(|why| format!("<p>{}</p>\n", html(why)));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>{status} {reason}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1><b>{status}</b> {reason}</h1>\n{why}<p class=\"id\">Request id: <code>{id}</code></p>\n\
         </main>\n</body>\n</html>\n",
        status = told.status.as_u16(),
        reason = html(reason(told.status)),
        why = why.unwrap_or_default(),
        id = html(told.request_id),
    )
}

const STYLE: &str = "\
:root { color-scheme: light dark; --ground: #fbfbfa; --ink: #1c1c1a; --faint: #62625c; --line: #d8d8d2 }
@media (prefers-color-scheme: dark) { :root { --ground: #161618; --ink: #ececea; --faint: #a2a29c; --line: #3a3a3e } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main { max-width: 36rem; margin: 16vh auto 2rem; padding: 0 1.25rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; font-weight: 400; margin: 0 0 1rem }
.id { color: var(--faint); font-size: .875rem; border-top: 1px solid var(--line); padding-top: 1rem }
";

/// The inside of a string of JSON (RFC 8259 §7).
fn json(text: &str) -> Cow<'_, str> {
    escaped(text, |c| {
        Some(match c {
            '"' => "\\\"".into(),
            '\\' => "\\\\".into(),
            // Control characters must be escaped; "<" need not, but some put JSON into a page.
            c if c.is_ascii_control() || c == '<' => format!("\\u{:04x}", u32::from(c)).into(),
            _ => return None,
        })
    })
}

/// Text between tags, or in an attribute.
fn html(text: &str) -> Cow<'_, str> {
    escaped(text, |c| {
        Some(Cow::Borrowed(match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\'' => "&#39;",
            _ => return None,
        }))
    })
}

fn escaped(text: &str, escape: fn(char) -> Option<Cow<'static, str>>) -> Cow<'_, str> {
    if !text.contains(|c| escape(c).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match escape(c) {
            Some(escape) => out.push_str(&escape),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
