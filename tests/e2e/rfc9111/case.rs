//! What a case is made of: steps, each of which is a request, the origin's answer to it, and what must be seen.
//!
//! Data only; `parse.rs` makes it, `play.rs` plays it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// One requirement.
pub(super) struct Case {
    pub(super) section: String,
    pub(super) title: String,
    /// The first segment of its path, which chooses the route.
    pub(super) route: String,
    pub(super) steps: Vec<Step>,
}

/// One request and what becomes of it.
#[derive(Clone, Default)]
pub(super) struct Step {
    pub(super) ask: Ask,
    pub(super) script: Script,
    pub(super) want: Want,
}

/// A header field as written, placeholders included.
pub(super) type Field = (String, String);

/// What the client does.
#[derive(Clone, Default)]
pub(super) struct Ask {
    pub(super) method: String,
    /// What follows the case's path; or a whole target, if it begins with the scheme.
    pub(super) suffix: String,
    pub(super) fields: Vec<Field>,
    /// How many clients do it at once; 0 counts as 1.
    pub(super) together: usize,
    /// Whether it is done again until it is as it must be.
    pub(super) eventually: bool,
}

/// What the origin does if it is asked.
#[derive(Clone, Default)]
pub(super) struct Script {
    /// Whether the case expects it to be asked. Otherwise its answer is there only to be noticed.
    pub(super) expected: bool,
    pub(super) status: Option<u16>,
    pub(super) fields: Vec<Field>,
    pub(super) undated: bool,
    pub(super) body: Option<String>,
    pub(super) confirms: bool,
    pub(super) resource: bool,
    pub(super) reset: bool,
    pub(super) cut: Option<usize>,
    pub(super) late: Duration,
    pub(super) chunked: bool,
    pub(super) trailers: Vec<String>,
    pub(super) interim: Vec<String>,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Source {
    /// Not asserted.
    #[default]
    Any,
    /// The cache alone.
    Hit,
    /// The cache, which then asked the origin.
    Background,
    /// The cache, after the origin failed.
    StandsIn,
    /// The origin.
    Forwarded,
    /// The cache, after the origin confirmed it.
    Validated,
    /// The proxy itself, after the origin failed.
    Error,
    /// The proxy itself, without asking anybody.
    Unasked,
}

/// What must be seen.
#[derive(Clone, Default)]
pub(super) struct Want {
    pub(super) source: Source,
    pub(super) stored: Option<bool>,
    /// The step whose answer is given out again.
    pub(super) of: Option<usize>,
    pub(super) status: Option<u16>,
    pub(super) body: Option<String>,
    pub(super) reasons: Option<String>,
    pub(super) age: Option<RangeInclusive<u64>>,
    pub(super) asked: Option<RangeInclusive<usize>>,
    pub(super) interim: Option<Vec<u16>>,
    pub(super) shows: Vec<Field>,
    pub(super) lacks: Vec<String>,
    pub(super) sent: Vec<Field>,
    pub(super) not_sent: Vec<String>,
    pub(super) sent_method: Option<String>,
    pub(super) broken: bool,
    pub(super) distinct: bool,
    pub(super) check: Option<String>,
}

/// What the placeholders of a case stand for.
#[derive(Clone)]
pub(super) struct Vars {
    /// Seconds since the epoch when the case began.
    pub(super) now: u64,
    pub(super) path: String,
}

impl Vars {
    /// The text with its placeholders replaced.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut filled = text.replace("{path}", &self.path);
        while let Some((before, rest)) = filled.split_once("{now") {
            let (offset, after) = rest.split_once('}').expect("a closing brace");
            let offset: i64 = match offset {
                "" => 0,
                _ => offset.parse().expect("seconds after {now"),
            };
            let then = self.now.checked_add_signed(offset).expect("after 1970");
            filled = format!("{before}{}{after}", date(then));
        }
        filled
    }

    /// The same for the values of fields.
    pub(super) fn fill_all(&self, fields: &[Field]) -> Vec<Field> {
        let filled = fields.iter().map(|(n, v)| (n.clone(), self.fill(v)));
        filled.collect()
    }
}

/// Seconds since the epoch as HTTP writes them.
pub(super) fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// All values of each name, in order and joined as RFC 9110 §5.3 has it. Names in lower case.
pub(super) fn joined(fields: &[Field]) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in fields {
        let values = all.entry(name.to_ascii_lowercase()).or_default();
        if !values.is_empty() {
            values.push_str(", ");
        }
        values.push_str(value);
    }
    all
}
