//! Durations as written: `250ms`, `3s`, `2m`, `1h`, `1d`, `1m30s`.
//!
//! Read wherever the configuration has a time. A bare number is refused: one product's seconds are another's milliseconds.

use super::written::{Complaint, Written, meant, written};
use std::fmt;
use std::time::Duration;

/// A duration, possibly none (`0s`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// A duration above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PositiveSpan(pub(crate) Duration);

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
/// A year: no deadline of a proxy is further away, and sums of such times cannot overflow a clock.
const LONGEST_MS: u64 = 365 * 86_400_000;

/// Splits off a number and the letters after it.
fn part(text: &str) -> Option<(&str, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(digits);
    let end = rest
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(rest.len());
    (!number.is_empty()).then_some((number, &rest[..end], &rest[end..]))
}

fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() {
        let (number, unit, after) = part(rest)?;
        let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        // Each unit once and the larger first: `1m30s`, not `30s1m`.
        if size >= smaller_than {
            return None;
        }
        smaller_than = size;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(size)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// What something that is nearly a duration was meant for: `3 s`, `3S`, `3sec`, `1.5s`.
fn nearly(text: &str) -> Option<String> {
    let tight: String = text.to_lowercase().split_whitespace().collect();
    if tight.bytes().all(|b| b.is_ascii_digit()) && !tight.is_empty() {
        return Span::meant_by_number(&tight);
    }
    let (number, unit, rest) = part(&tight)?;
    let unit = match unit {
        "ms" | "msec" | "millis" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => return None,
    };
    if !rest.is_empty() {
        return None;
    }
    let size = UNITS.into_iter().find(|(name, _)| *name == unit)?.1;
    let ms = number.parse::<f64>().ok()? * size as f64;
    let known = ms >= 1.0 && ms <= LONGEST_MS as f64;
    known.then(|| meant(Span(Duration::from_millis(ms.round() as u64))))
}

impl Written for Span {
    const EXPECTED: &'static str = "a duration such as 3s";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match milliseconds(word) {
            Some(ms) if ms <= LONGEST_MS => Ok(Span(Duration::from_millis(ms))),
            Some(_) => Err(Complaint::because("a duration is 365d at most")),
            None => Err(Complaint {
                message: None,
                help: nearly(word),
            }),
        }
    }

    fn meant_by_number(number: &str) -> Option<String> {
        let whole = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        whole.then(|| meant(format_args!("{number}s")))
    }
}

impl Written for PositiveSpan {
    const EXPECTED: &'static str = Span::EXPECTED;

    fn parse(word: &str) -> Result<Self, Complaint> {
        match Span::parse(word)? {
            Span(Duration::ZERO) => Err(Complaint::because("this duration must be above 0")),
            Span(duration) => Ok(PositiveSpan(duration)),
        }
    }

    fn meant_by_number(number: &str) -> Option<String> {
        Span::meant_by_number(number)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_millis();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            let count = left / u128::from(size);
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
            left %= u128::from(size);
        }
        Ok(())
    }
}

impl fmt::Display for PositiveSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(self.0).fmt(f)
    }
}

written!(Span, PositiveSpan);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn read_and_shown() {
        for (text, ms, shown) in [
            ("250ms", 250, "250ms"),
            ("3s", 3_000, "3s"),
            ("2m", 120_000, "2m"),
            ("1h", 3_600_000, "1h"),
            ("1d", 86_400_000, "1d"),
            ("1m30s", 90_000, "1m30s"),
            ("90s", 90_000, "1m30s"),
            ("1d2h3m4s5ms", 93_784_005, "1d2h3m4s5ms"),
            ("0s", 0, "0s"),
            ("0ms", 0, "0s"),
            ("365d", 31_536_000_000, "365d"),
        ] {
            let span = Span::parse(text).unwrap();
            assert_eq!(
                (span.0.as_millis(), &*span.to_string()),
                (ms, shown),
                "{text}"
            );
        }
    }

    #[test]
    fn refused_with_help() {
        for (text, help) in [
            ("3", Some("did you mean 3s?")),
            ("3 s", Some("did you mean 3s?")),
            ("3S", Some("did you mean 3s?")),
            ("10sec", Some("did you mean 10s?")),
            ("1.5s", Some("did you mean 1s500ms?")),
            ("", None),
            ("s", None),
            ("soon", None),
            ("-3s", None),
            ("30s1m", None),
            ("1s1s", None),
            ("366d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            let complaint = Span::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
        assert_eq!(
            PositiveSpan::parse("0s"),
            Err(Complaint::because("this duration must be above 0"))
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(ms in 0..=LONGEST_MS) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(Span::parse(&span.to_string()), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9.]{0,30}(ms|s|m|h|d|sec| s)?") {
            let _ = Span::parse(&text);
        }
    }
}
