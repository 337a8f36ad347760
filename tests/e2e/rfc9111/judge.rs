//! What must be seen of a step: where the answer came from, what it says, and what was forwarded.

use super::case::{Field, Source, Step, Vars, Want, joined};
use super::script::{Heard, Said};
use crate::client::Answer;
use crate::reply::Request;

/// What was seen of a step.
pub(super) struct Seen {
    /// What each client got, or why it got nothing.
    pub(super) answers: Vec<Result<Answer, String>>,
    pub(super) heard: Heard,
}

/// All that is not as it must be. `stored` is the answer that a hit gives out again.
pub(super) fn faults(step: &Step, seen: &Seen, stored: Option<&Said>, vars: &Vars) -> Vec<String> {
    let mut faults = Vec::new();
    for answer in &seen.answers {
        let judge = Judge {
            step,
            want: &step.want,
            heard: &seen.heard,
            stored,
            vars,
        };
        match answer {
            Ok(answer) => judge.answer(answer, &mut faults),
            Err(_) if step.want.broken => {}
            Err(why) => faults.push(why.clone()),
        }
    }
    if step.want.distinct {
        let bodies = seen.answers.iter().flatten().map(Answer::text);
        let mut bodies: Vec<String> = bodies.collect();
        bodies.sort();
        bodies.dedup();
        if bodies.len() != seen.answers.len() {
            faults.push(format!("only {} different answers", bodies.len()));
        }
    }
    faults
}

struct Judge<'a> {
    step: &'a Step,
    want: &'a Want,
    heard: &'a Heard,
    stored: Option<&'a Said>,
    vars: &'a Vars,
}

impl Judge<'_> {
    fn answer(&self, answer: &Answer, faults: &mut Vec<String>) {
        let before = faults.len();
        if !answer.complete && !self.want.broken {
            faults.push("the answer is cut short".into());
        }
        self.source(answer, faults);
        self.outcome(answer, faults);
        self.head(answer, faults);
        self.forwarded(faults);
        if let Some(check) = &self.want.check {
            faults.extend(special(check, answer, self.heard));
        }
        if faults.len() > before {
            faults.push(format!(
                "(got {} with Cache-Status {:?}; the origin saw {})",
                answer.status,
                answer.all("cache-status").join(", "),
                told(&self.heard.requests)
            ));
        }
    }

    /// Where it came from: by what the origin saw, and by what the proxy says of it (RFC 9211).
    fn source(&self, answer: &Answer, faults: &mut Vec<String>) {
        let status = Status::of(answer);
        let asked = self.heard.requests.len();
        let (expected, hit) = match self.want.source {
            Source::Any => (0..=usize::MAX, None),
            Source::Hit => (0..=0, Some(true)),
            Source::Background => (1..=1, Some(true)),
            Source::StandsIn => (1..=usize::MAX, Some(true)),
            Source::Forwarded | Source::Validated => (1..=1, Some(false)),
            Source::Error => (1..=usize::MAX, None),
            Source::Unasked => (0..=0, None),
        };
        let expected = self.want.asked.clone().unwrap_or(expected);
        if !expected.contains(&asked) {
            faults.push(format!("the origin was asked {asked} times"));
        }
        match hit {
            Some(true) if !status.hit || status.reason.is_some() => {
                faults.push("Cache-Status tells of no hit".into())
            }
            Some(false) if status.hit || status.reason.is_none() => {
                faults.push("Cache-Status does not tell that it was forwarded".into())
            }
            None if status.hit && self.want.source != Source::Any => {
                faults.push("Cache-Status tells of a hit".into())
            }
            _ => {}
        }
        if self
            .want
            .stored
            .is_some_and(|stored| stored != status.stored)
        {
            let not = if status.stored { "" } else { "not " };
            faults.push(format!("Cache-Status tells that it was {not}stored"));
        }
        let reason = status.reason.as_deref().unwrap_or("");
        if let Some(reasons) = &self.want.reasons
            && !reasons.split('/').any(|r| r == reason)
        {
            faults.push(format!("fwd={reason} is not fwd={reasons}"));
        }
    }

    /// Status and body.
    fn outcome(&self, answer: &Answer, faults: &mut Vec<String>) {
        let said = self.heard.said.last();
        let model = match self.want.source {
            Source::Hit | Source::Background | Source::StandsIn | Source::Validated => self.stored,
            Source::Forwarded if self.step.ask.together < 2 => said,
            _ => None,
        };
        let status = self.want.status.or(model.map(|said| said.status));
        match status {
            Some(status) if status != answer.status => {
                faults.push(format!("the status is not {status}"))
            }
            None if self.want.source == Source::Error && answer.status < 500 => {
                faults.push("the status is not an error".into())
            }
            _ => {}
        }
        let bodyless = self.step.ask.method == "HEAD" || answer.status == 304;
        let same = model.filter(|said| said.status == answer.status);
        let body = match &self.want.body {
            _ if bodyless => Some(""),
            Some(body) => Some(body.as_str()),
            None if self.wants_parts() => None,
            None => same.map(|said| said.body.as_str()),
        };
        if let Some(body) = body.filter(|body| *body != answer.text() && !self.want.broken) {
            faults.push(format!("the body {:?} is not {body:?}", answer.text()));
        }
        let served = matches!(self.want.source, Source::Hit | Source::StandsIn);
        if served && self.stored.is_none() && self.want.body.is_none() {
            faults.push("nothing was stored before".into());
        }
    }

    /// Whether a check looks at the body, part by part.
    fn wants_parts(&self) -> bool {
        let check = self.want.check.as_deref();
        check.is_some_and(|check| check.starts_with("parts "))
    }

    fn head(&self, answer: &Answer, faults: &mut Vec<String>) {
        let fields = joined(&answer.headers);
        let shown = |name: &str| fields.get(&name.to_ascii_lowercase());
        for (name, value) in self.vars.fill_all(&self.want.shows) {
            differs("the answer", &name, &value, shown(&name), faults);
        }
        for name in &self.want.lacks {
            if let Some(value) = shown(name) {
                faults.push(format!("the answer has {name}: {value}"));
            }
        }
        if let Some(range) = &self.want.age {
            let age = shown("age").and_then(|age| age.parse().ok());
            if !age.is_some_and(|age| range.contains(&age)) {
                faults.push(format!("Age {:?} is not in {range:?}", shown("age")));
            }
        }
        if let Some(interim) = self.want.interim.as_ref()
            && *interim != answer.informational
        {
            let came = &answer.informational;
            faults.push(format!("interim answers were {came:?}"));
        }
    }

    /// What went to the origin: all of it, if it was asked more than once.
    fn forwarded(&self, faults: &mut Vec<String>) {
        let Some(request) = self.heard.requests.last() else {
            if !self.want.sent.is_empty() || self.want.sent_method.is_some() {
                faults.push("nothing was forwarded".into());
            }
            return;
        };
        let fields = joined(&request.headers);
        let sent = |name: &str| fields.get(&name.to_ascii_lowercase());
        for (name, value) in self.vars.fill_all(&self.want.sent) {
            differs("the request", &name, &value, sent(&name), faults);
        }
        for name in &self.want.not_sent {
            if let Some(value) = sent(name) {
                faults.push(format!("forwarded with {name}: {value}"));
            }
        }
        let method = self.want.sent_method.as_ref();
        if method.is_some_and(|method| *method != request.method) {
            faults.push(format!("forwarded as {}", request.method));
        }
        let conditional = sent("if-none-match").or(sent("if-modified-since"));
        if self.want.source == Source::Validated && conditional.is_none() {
            faults.push("forwarded without a condition".into());
        }
    }
}

fn differs(what: &str, name: &str, value: &str, found: Option<&String>, faults: &mut Vec<String>) {
    match found {
        None => faults.push(format!("{what} has no {name}")),
        Some(found) if value != "*" && found != value => {
            faults.push(format!("{what} has {name}: {found}, not {value}"))
        }
        Some(_) => {}
    }
}

fn told(requests: &[Request]) -> String {
    let told = requests.iter().map(|r| {
        let of_note = |(name, _): &&Field| {
            let name = name.to_ascii_lowercase();
            name.starts_with("if-") || name == "range" || name == "cache-control"
        };
        let fields = r.headers.iter().filter(of_note);
        let fields: Vec<String> = fields.map(|(n, v)| format!("{n}: {v}")).collect();
        format!("{} {} [{}]", r.method, r.target, fields.join(", "))
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        "nothing".into()
    } else {
        told.join(" and ")
    }
}

/// The proxy's own member of `Cache-Status`, the last one (RFC 9211 §2).
struct Status {
    hit: bool,
    reason: Option<String>,
    stored: bool,
}

impl Status {
    fn of(answer: &Answer) -> Status {
        let all = answer.all("cache-status").join(", ");
        let own = all.rfind("backstop").map_or("", |at| &all[at..]);
        let mut parameters = own.split(';').skip(1).map(str::trim);
        let mut status = Status {
            hit: false,
            reason: None,
            stored: false,
        };
        for parameter in &mut parameters {
            match parameter.split_once('=') {
                None if parameter == "hit" => status.hit = true,
                None if parameter == "stored" => status.stored = true,
                Some(("fwd", reason)) => status.reason = Some(reason.to_string()),
                _ => {}
            }
        }
        status
    }
}

/// What no word of the language says.
fn special(check: &str, answer: &Answer, heard: &Heard) -> Option<String> {
    if let Some(ranges) = check.strip_prefix("parts ") {
        return not_these_parts(ranges, answer);
    }
    let text = answer.text();
    let content_type = answer.all("content-type").join(", ");
    let fine = match check {
        // A precondition that only the origin may judge: it is ignored, or the origin's answer passed on.
        "not judged here" => match heard.said.last() {
            None => answer.status == 200,
            Some(said) => answer.status == said.status,
        },
        "2 to 5 or the whole" => {
            [(206, "2345"), (200, "0123456789")].contains(&(answer.status, text.as_str()))
        }
        "own first" => answer
            .all("cache-status")
            .join(", ")
            .starts_with("own; hit; ttl=5, backstop;"),
        "not the old one" => answer.status != 304 && text != "old",
        "the tag \"a\" is asked for" => heard.requests.iter().any(|request| {
            let tags = request.all("if-none-match").join(", ");
            tags.split(',').any(|tag| tag.trim() == "\"a\"")
        }),
        _ => return Some(format!("no such check: {check}")),
    };
    (!fine).then(|| format!("{check}: {} {text:?} {content_type}", answer.status))
}

/// These parts of "0123456789", each for itself and in this order (RFC 9110 §14.6, §15.3.7.2).
fn not_these_parts(ranges: &str, answer: &Answer) -> Option<String> {
    let content_type = answer.all("content-type").concat();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=");
    let Some(boundary) = boundary.filter(|_| answer.status == 206) else {
        return Some(format!("no parts: {} {content_type}", answer.status));
    };
    let mut expected = String::new();
    for range in ranges.split(' ') {
        let (first, last) = range.split_once('-').expect("a range");
        let place = |text: &str| text.parse::<usize>().expect("a number");
        let part = &"0123456789"[place(first)..=place(last)];
        expected.push_str(&format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/10\r\n\r\n{part}"
        ));
    }
    expected.push_str(&format!("\r\n--{boundary}--\r\n"));
    let text = answer.text();
    let whole = answer.header("content-length") == Some(expected.len().to_string().as_str());
    (text != expected || !whole).then(|| format!("not the parts {ranges}: {text:?}"))
}
