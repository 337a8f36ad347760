//! Dates in header fields (RFC 9110 §5.6.7), as time since the epoch.
//!
//! The decisions of [`cache`](super::cache) take a function that reads dates; this is one. All three forms are read, in
//! upper or lower case, as RFC 9111 §4.2 asks of caches. Beyond that nothing is guessed: what is off by a blank is no
//! date. Whether the day of the week is the right one is not looked at.

use std::time::Duration;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// Reads a date; `None` if it is none, or before 1970. `now`, since the epoch, tells the century of a year with two
/// digits.
pub fn parse(text: &str, now: Duration) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    let Some((weekday, rest)) = text.split_once(", ") else {
        return in_asctime_form(&text);
    };
    let rest = rest.strip_suffix(" gmt")?;
    if WEEKDAYS.contains(&weekday) {
        in_rfc850_form(rest, now)
    } else if is_short_weekday(weekday) {
        // 06 Nov 1994 08:49:37
        let [day, month, year, clock] = split(rest, ' ')?;
        moment(number(year, 4)?, month, number(day, 2)?, clock)
    } else {
        None
    }
}

/// `06-nov-94 08:49:37`. More than fifty years ahead means the century before.
fn in_rfc850_form(text: &str, now: Duration) -> Option<Duration> {
    const FIFTY_YEARS: Duration = Duration::from_secs(50 * 31_557_600);
    let [date, clock] = split(text, ' ')?;
    let [day, month, year] = split(date, '-')?;
    let (day, year) = (number(day, 2)?, number(year, 2)?);
    let latest = now.saturating_add(FIFTY_YEARS);
    // From the last century that `latest` lies in; the one before where that is too late, or has no such day.
    let century = (1970 + latest.as_secs() / 31_556_952) / 100 * 100;
    [century, century.saturating_sub(100)]
        .iter()
        .filter_map(|century| moment(century + year, month, day, clock))
        .find(|then| *then <= latest)
}

/// `sun nov  6 08:49:37 1994`.
fn in_asctime_form(text: &str) -> Option<Duration> {
    let (weekday, rest) = text.split_once(' ')?;
    let (month, rest) = rest.split_once(' ')?;
    let (day, rest) = rest.split_at_checked(2)?;
    let day = match day.strip_prefix(' ') {
        Some(digit) => number(digit, 1)?,
        None => number(day, 2)?,
    };
    let [clock, year] = split(rest.strip_prefix(' ')?, ' ')?;
    is_short_weekday(weekday).then_some(())?;
    moment(number(year, 4)?, month, day, clock)
}

fn is_short_weekday(word: &str) -> bool {
    word.len() == 3 && WEEKDAYS.iter().any(|day| day.starts_with(word))
}

/// Exactly as many parts as are wanted.
fn split<const N: usize>(text: &str, separator: char) -> Option<[&str; N]> {
    text.split(separator).collect::<Vec<_>>().try_into().ok()
}

/// A number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let fits = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

/// The time since the epoch of a day (of the Gregorian calendar) and a clock such as `08:49:37`.
fn moment(year: u64, month: &str, day: u64, clock: &str) -> Option<Duration> {
    let month = MONTHS.iter().position(|name| *name == month)?;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let [hour, minute, second] = split(clock, ':')?;
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    // 60 is a leap second.
    let valid = (1..=lengths[month]).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !valid || !(1970..=9999).contains(&year) {
        return None;
    }
    // Leap years up to the one before, less those up to 1969.
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400 - 477;
    let days = (year - 1970) * 365 + leaps + lengths[..month].iter().sum::<u64>() + day - 1;
    Some(Duration::from_secs(
        ((days * 24 + hour) * 60 + minute) * 60 + second,
    ))
}

#[cfg(test)]
mod tests;
