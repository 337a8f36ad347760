//! The origin's side: one backend for a whole table, which finds by the path what the case now wants it to say.

use super::case::{Script, Vars, date, joined};
use crate::origin::Origin;
use crate::reply::{Reply, Request, Step as Act};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// What the origin said to a request.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) body: String,
}

/// What the origin saw of a step and said to it.
#[derive(Clone, Default)]
pub(super) struct Heard {
    pub(super) requests: Vec<Request>,
    pub(super) said: Vec<Said>,
}

/// What one case wants of the origin.
#[derive(Clone)]
struct Desk {
    script: Script,
    step: usize,
    vars: Vars,
    heard: Heard,
}

/// The desks of all cases by their number, the second segment of every path.
#[derive(Clone, Default)]
pub(super) struct Board(Arc<Mutex<HashMap<String, Desk>>>);

impl Board {
    /// A backend that acts by this board.
    pub(super) fn origin(&self) -> Origin {
        let board = self.clone();
        Origin::new(move |request| board.answer(request))
    }

    /// From now on, this case is at this step, and nothing has been heard.
    pub(super) fn set(&self, case: usize, step: usize, script: &Script, vars: &Vars) {
        let desk = Desk {
            script: script.clone(),
            step,
            vars: vars.clone(),
            heard: Heard::default(),
        };
        let mut desks = self.0.lock().expect("desks");
        desks.insert(case.to_string(), desk);
    }

    /// What has been heard of this case since.
    pub(super) fn heard(&self, case: usize) -> Heard {
        let desks = self.0.lock().expect("desks");
        desks
            .get(&case.to_string())
            .map(|d| d.heard.clone())
            .unwrap_or_default()
    }

    fn answer(&self, request: &Request) -> Reply {
        let case = request.target.split(['/', '?']).nth(2).unwrap_or("");
        let mut desks = self.0.lock().expect("desks");
        let Some(desk) = desks.get_mut(case) else {
            return Reply::status(404);
        };
        let (reply, said) = desk.reply(request);
        desk.heard.requests.push(request.clone());
        desk.heard.said.push(said);
        reply
    }
}

impl Desk {
    fn reply(&self, request: &Request) -> (Reply, Said) {
        let script = &self.script;
        let count = self.heard.said.len();
        let own = format!("{} step {} answer {count}", self.vars.path, self.step);
        let whole = script.body.clone().unwrap_or(own);
        let mut fields = self.vars.fill_all(&script.fields);
        if !script.expected {
            // Not to disturb what comes after.
            fields.push(("Cache-Control".into(), "no-store".into()));
        }
        let have = joined(&fields);
        if !script.undated && !have.contains_key("date") {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            fields.push(("Date".into(), date(now.expect("after 1970").as_secs())));
        }
        let mut status = script.status.unwrap_or(200);
        let mut body = whole.clone();
        let condition = ["if-none-match", "if-modified-since"];
        if script.confirms && condition.iter().any(|c| !request.all(c).is_empty()) {
            status = 304;
        }
        if script.resource {
            let etag = have.get("etag").map_or("", String::as_str);
            let modified = have.get("last-modified").map_or("", String::as_str);
            match resource(request, etag, modified, whole.len()) {
                Found::Whole => {}
                Found::Same => status = 304,
                Found::Part(part) => {
                    let (first, last) = (part.start, part.end - 1);
                    let range = format!("bytes {first}-{last}/{}", whole.len());
                    fields.push(("Content-Range".into(), range));
                    body = whole[part].to_string();
                    status = 206;
                }
                Found::Nothing => {
                    fields.push(("Content-Range".into(), format!("bytes */{}", whole.len())));
                    status = 416;
                }
            }
        }
        if matches!(status, 204 | 304) {
            body.clear();
        }
        let said = Said {
            status,
            body: body.clone(),
        };
        (self.acts(status, &fields, &body), said)
    }

    /// The bytes, and what else happens on the wire.
    fn acts(&self, status: u16, fields: &[(String, String)], body: &str) -> Reply {
        let script = &self.script;
        if script.reset {
            return Reply::reset();
        }
        let mut acts = Vec::new();
        if script.late > Duration::ZERO {
            acts.push(Act::Pause(script.late));
        }
        let mut head = String::new();
        for interim in &script.interim {
            let (status, field) = interim.split_once(' ').unwrap_or((interim, ""));
            let end = if field.is_empty() { "" } else { "\r\n" };
            head.push_str(&format!("HTTP/1.1 {status} Interim\r\n{field}{end}\r\n"));
        }
        head.push_str(&format!("HTTP/1.1 {status} Scripted\r\n"));
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let chunked = script.chunked || !script.trailers.is_empty();
        let mut content = body.as_bytes().to_vec();
        if chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
            let end = match script.cut {
                Some(_) => String::new(),
                None => format!("0\r\n{}\r\n", lines(&script.trailers)),
            };
            content = format!("{:x}\r\n{body}\r\n{end}", body.len()).into_bytes();
        } else if !matches!(status, 204 | 304) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        acts.push(Act::Send(head.into_bytes()));
        if let (Some(length), false) = (script.cut, chunked) {
            content.truncate(length);
        }
        acts.push(Act::Body(content));
        if script.cut.is_some() {
            acts.push(Act::Close);
        }
        Reply(acts)
    }
}

fn lines(fields: &[String]) -> String {
    fields.iter().map(|field| format!("{field}\r\n")).collect()
}

/// What a request finds at an origin that heeds conditions and ranges (RFC 9110 §13.2.2, §14.2).
enum Found {
    Whole,
    Same,
    Part(Range<usize>),
    Nothing,
}

fn resource(request: &Request, etag: &str, modified: &str, length: usize) -> Found {
    let field = |name: &str| {
        let all = request.all(name);
        (!all.is_empty()).then(|| all.join(", "))
    };
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_string();
    let same = match (field("if-none-match"), field("if-modified-since")) {
        (Some(tags), _) => !etag.is_empty() && tags.split(',').any(|t| opaque(t) == opaque(etag)),
        (None, Some(since)) => since == modified,
        (None, None) => false,
    };
    if same {
        return Found::Same;
    }
    let range = field("range").filter(|_| request.method == "GET");
    let may = match field("if-range") {
        Some(tag) if tag.starts_with('"') => tag == etag,
        Some(date) => date == modified,
        None => true,
    };
    let spec = range.as_deref().and_then(|r| r.strip_prefix("bytes="));
    let Some((first, last)) = spec.filter(|_| may).and_then(|s| s.split_once('-')) else {
        return Found::Whole;
    };
    let part = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => first..length.min(last + 1),
        (Ok(first), Err(_)) => first..length,
        (Err(_), Ok(suffix)) => length.saturating_sub(suffix)..length,
        (Err(_), Err(_)) => return Found::Whole,
    };
    if part.is_empty() {
        Found::Nothing
    } else {
        Found::Part(part)
    }
}
