//! Factors as written: `1.5x`, `3x`.
//!
//! Read where something is compared with something else. A bare number is refused, as everywhere.

use super::written::{Complaint, Written, meant, written};
use std::fmt;

/// How many times as much, in hundredths; more than 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times(u32);

impl Times {
    /// As a number.
    pub(crate) fn factor(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

fn hundredths(number: &str) -> Option<u32> {
    let value = number.parse::<f64>().ok()?;
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let hundredths = (value * 100.0).round();
    // Far from where a float could not hold it.
    let fits = plain && (101.0..=100_000.0).contains(&hundredths);
    fits.then_some(hundredths as u32)
}

impl Written for Times {
    const EXPECTED: &'static str = "a factor above 1, such as 1.5x";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if let Some(value) = word.strip_suffix('x').and_then(hundredths) {
            return Ok(Times(value));
        }
        let bare = word.trim_end_matches(['x', 'X', ' ']);
        Err(Complaint {
            message: None,
            help: Self::meant_by_number(bare),
        })
    }

    fn meant_by_number(number: &str) -> Option<String> {
        hundredths(number).map(|value| meant(Times(value)))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}x"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}x", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}x"),
        }
    }
}

written!(Times);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_shown() {
        for (text, factor) in [
            ("2x", 2.0),
            ("1.5x", 1.5),
            ("1.01x", 1.01),
            ("1000x", 1000.0),
        ] {
            let times = Times::parse(text).unwrap();
            assert_eq!((times.factor(), &*times.to_string()), (factor, text));
        }
        for (text, help) in [
            ("2", Some("did you mean 2x?")),
            ("1.5 x", Some("did you mean 1.5x?")),
            ("1x", None),
            ("0.5x", None),
            ("-2x", None),
            ("1e3x", None),
            ("many", None),
            ("x", None),
        ] {
            assert_eq!(
                Times::parse(text).unwrap_err().help.as_deref(),
                help,
                "{text}"
            );
        }
    }
}
