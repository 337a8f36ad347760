//! Sizes as written: `512B`, `64KiB`, `10MB`, `1GiB`.
//!
//! Read wherever the configuration has a number of bytes. A bare number is refused, and so is `10M`, which means one thing
//! to some and another to others.

use super::written::{Complaint, Written, meant, written};
use std::fmt;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// The larger and the rounder first, as that is how a size is shown.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// What something that is nearly a size was meant for: `10M`, `64kb`, `1 GiB`.
fn nearly(text: &str) -> Option<String> {
    let tight: String = text.to_lowercase().split_whitespace().collect();
    let end = tight
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(tight.len());
    let (number, unit) = tight.split_at(end);
    if number.is_empty() {
        return None;
    }
    if unit.is_empty() {
        return Size::meant_by_number(number);
    }
    // nginx's k, m and g count in powers of two.
    let short = UNITS
        .into_iter()
        .find(|(name, _)| name.to_lowercase() == format!("{unit}ib"));
    let same = UNITS
        .into_iter()
        .find(|(name, _)| name.to_lowercase() == unit);
    same.or(short)
        .map(|(name, _)| meant(format_args!("{number}{name}")))
}

impl Written for Size {
    const EXPECTED: &'static str = "a size such as 64KiB";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let end = word
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(word.len());
        let (number, unit) = word.split_at(end);
        let size = UNITS.into_iter().find(|(name, _)| *name == unit);
        let (Some((_, size)), false) = (size, number.is_empty()) else {
            return Err(Complaint {
                message: None,
                help: nearly(word),
            });
        };
        let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(size));
        // What can be counted in bytes must also be something to index memory with.
        match bytes.filter(|bytes| usize::try_from(*bytes).is_ok()) {
            Some(bytes) => Ok(Size(bytes)),
            None => Err(Complaint::because("this size is too large")),
        }
    }

    fn meant_by_number(number: &str) -> Option<String> {
        match number.parse::<u64>() {
            Ok(0) => Some(meant("0B")),
            Ok(bytes) if bytes < 1024 => Some(meant(format_args!("{bytes}KiB"))),
            Ok(bytes) => Some(meant(Size(bytes))),
            Err(_) => None,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, size): &(&str, u64)| self.0 > 0 && self.0.checked_rem(*size) == Some(0);
        let (unit, size) = UNITS.into_iter().find(fits).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

written!(Size);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn read_and_shown() {
        for (text, bytes, shown) in [
            ("0B", 0, "0B"),
            ("512B", 512, "512B"),
            ("64KiB", 65_536, "64KiB"),
            ("10MB", 10_000_000, "10MB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("1500KB", 1_500_000, "1500KB"),
        ] {
            let size = Size::parse(text).unwrap();
            assert_eq!((size.0, &*size.to_string()), (bytes, shown), "{text}");
        }
    }

    #[test]
    fn refused_with_help() {
        for (text, help) in [
            ("10M", Some("did you mean 10MiB?")),
            ("64k", Some("did you mean 64KiB?")),
            ("64kb", Some("did you mean 64KB?")),
            ("1 GiB", Some("did you mean 1GiB?")),
            ("10", Some("did you mean 10KiB?")),
            ("1048576", Some("did you mean 1MiB?")),
            ("", None),
            ("KiB", None),
            ("1.5MB", None),
            ("many", None),
            ("-1B", None),
            ("99999999999TiB", None),
        ] {
            let complaint = Size::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(bytes: u64) {
            prop_assert_eq!(Size::parse(&Size(bytes).to_string()), Ok(Size(bytes)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9]{0,30}[a-zA-Z ]{0,4}") {
            let _ = Size::parse(&text);
        }
    }
}
