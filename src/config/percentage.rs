//! Percentages as written: `5%`, `0.5%`, `100%`.
//!
//! Read wherever the configuration has a share. A bare number is refused: 0.2 and 20 could mean the same.

use super::written::{Complaint, Written, meant, written};
use std::fmt;

/// A share from 0 % to 100 %, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Percentage(u16);

impl Percentage {
    /// As a share of 1.
    pub(crate) fn share(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// A whole number of percents; more than 100 counts as 100.
    pub(crate) const fn whole(percent: u16) -> Self {
        Percentage(if percent > 100 { 10_000 } else { percent * 100 })
    }

    /// The nearest one to this fraction from 0.0 to 1.0.
    pub(crate) fn of(fraction: f64) -> Self {
        // Between 0 and 10 000 after the clamp.
        Percentage((fraction.clamp(0.0, 1.0) * 10_000.0).round() as u16)
    }

    /// In hundredths of a percent.
    pub(crate) fn hundredths(self) -> u16 {
        self.0
    }

    /// As a fraction from 0.0 to 1.0.
    pub(crate) fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

fn hundredths(number: &str) -> Option<u16> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
        return None;
    }
    let whole = whole.parse::<u16>().ok().filter(|w| *w <= 100)?;
    let scale = if fraction.len() == 1 { 10 } else { 1 };
    let value = whole * 100 + fraction.parse::<u16>().ok()? * scale;
    (value <= 10_000).then_some(value)
}

impl Written for Percentage {
    const EXPECTED: &'static str = "a percentage from 0% to 100%, such as 5% or 0.25%";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if let Some(value) = word.strip_suffix('%').and_then(hundredths) {
            return Ok(Percentage(value));
        }
        let tight: String = word.split_whitespace().collect();
        let number = tight.strip_suffix('%').unwrap_or(&tight);
        Err(Complaint {
            message: None,
            help: Self::meant_by_number(number),
        })
    }

    fn meant_by_number(number: &str) -> Option<String> {
        hundredths(number).map(|value| meant(Percentage(value)))
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}%"),
        }
    }
}

written!(Percentage);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_shown() {
        for (text, fraction, shown) in [
            ("0%", 0.0, "0%"),
            ("5%", 0.05, "5%"),
            ("0.5%", 0.005, "0.5%"),
            ("0.25%", 0.0025, "0.25%"),
            ("99.09%", 0.9909, "99.09%"),
            ("100%", 1.0, "100%"),
        ] {
            let share = Percentage::parse(text).unwrap();
            assert_eq!(
                (share.fraction(), &*share.to_string()),
                (fraction, shown),
                "{text}"
            );
        }
    }

    #[test]
    fn refused_with_help() {
        for (text, help) in [
            ("20", Some("did you mean 20%?")),
            ("20 %", Some("did you mean 20%?")),
            ("101%", None),
            ("-1%", None),
            ("100.01%", None),
            ("0.001%", None),
            (".5%", None),
            ("%", None),
            ("few", None),
        ] {
            let complaint = Percentage::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for value in 0..=10_000 {
            let share = Percentage(value);
            assert_eq!(Percentage::parse(&share.to_string()), Ok(share));
        }
    }
}
