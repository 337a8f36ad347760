//! Metrics as text: the format of Prometheus 0.0.4, and OpenMetrics 1.0, which differ in little.
//!
//! Written by hand: what is shown lives in routes, upstreams and the cache, not in a registry beside them. Decides nothing.

use std::fmt::{Display, Write};

/// What kind of numbers a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

/// The text, as far as it is written.
#[derive(Debug)]
pub struct Exposition {
    text: String,
    open: bool,
}

/// The labels of a number.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Nothing yet; `open` for OpenMetrics.
    pub fn new(open: bool) -> Self {
        Exposition {
            text: String::with_capacity(16 * 1024),
            open,
        }
    }

    /// Begins a family. `name` is without `_total`, which counters get.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let suffix = if kind == Kind::Counter && !self.open {
            "_total"
        } else {
            ""
        };
        let _ = write!(
            self.text,
            "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {word}\n"
        );
        Family {
            all: self,
            name,
            suffix: if kind == Kind::Counter { "_total" } else { "" },
        }
    }

    /// The whole.
    pub fn finish(mut self) -> String {
        if self.open {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// One family.
#[derive(Debug)]
pub struct Family<'a> {
    all: &'a mut Exposition,
    name: &'a str,
    suffix: &'static str,
}

impl Family<'_> {
    /// A number of it.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        let suffix = self.suffix;
        self.line(suffix, labels, &[], value);
    }

    /// The numbers of a histogram; `buckets` has one more than there are bounds.
    pub fn histogram(&mut self, labels: Labels<'_>, bounds: &[f64], buckets: &[u64], sum: f64) {
        let mut so_far = 0;
        for (place, number) in buckets.iter().enumerate() {
            so_far += number;
            let bound = bounds
                .get(place)
                .map_or_else(|| "+Inf".to_string(), number_text);
            self.line("_bucket", labels, &[("le", &bound)], so_far);
        }
        self.line("_sum", labels, &[], sum);
        self.line("_count", labels, &[], so_far);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, more: Labels<'_>, value: impl Display) {
        let text = &mut self.all.text;
        text.push_str(self.name);
        text.push_str(suffix);
        let mut open = '{';
        for (name, value) in labels.iter().chain(more) {
            let _ = write!(text, "{open}{name}=\"");
            escape(text, value);
            text.push('"');
            open = ',';
        }
        if open == ',' {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

/// As OpenMetrics wants numbers: never without a point.
fn number_text(number: &f64) -> String {
    format!("{number:?}")
}

/// A label's value may have any character; three of them are written otherwise.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(open: bool) -> String {
        let mut all = Exposition::new(open);
        let mut family = all.family("a_requests", Kind::Counter, "Requests.");
        family.sample(&[("route", "a\"b\\c\nd")], 7);
        family.sample(&[], 1.5);
        let mut family = all.family("a_seconds", Kind::Histogram, "Times.");
        family.histogram(&[("route", "x")], &[0.5, 1.0], &[1, 2, 3], 9.25);
        all.finish()
    }

    #[test]
    fn both_formats() {
        let text = "# HELP a_requests_total Requests.\n# TYPE a_requests_total counter\n\
            a_requests_total{route=\"a\\\"b\\\\c\\nd\"} 7\na_requests_total 1.5\n\
            # HELP a_seconds Times.\n# TYPE a_seconds histogram\n\
            a_seconds_bucket{route=\"x\",le=\"0.5\"} 1\na_seconds_bucket{route=\"x\",le=\"1.0\"} 3\n\
            a_seconds_bucket{route=\"x\",le=\"+Inf\"} 6\na_seconds_sum{route=\"x\"} 9.25\na_seconds_count{route=\"x\"} 6\n";
        assert_eq!(written(false), text);
        let open = text
            .replace("HELP a_requests_total", "HELP a_requests")
            .replace("TYPE a_requests_total", "TYPE a_requests");
        assert_eq!(written(true), format!("{open}# EOF\n"));
    }
}
