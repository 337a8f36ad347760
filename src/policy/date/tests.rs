//! Dates of each form, and what only looks like one.

use super::*;
use proptest::prelude::*;

/// The middle of 2025.
const NOW: Duration = Duration::from_secs(1_750_000_000);

fn read(text: &str) -> Option<u64> {
    parse(text, NOW).map(|then| then.as_secs())
}

#[test]
fn dates() {
    for (text, expected) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ("Sun Nov  6 08:49:37 1994", 784_111_777),
        ("Sun Nov 16 08:49:37 1994", 784_975_777),
        // RFC 9111 §4.2: the case of letters does not count.
        ("sUN, 06 nOV 1994 08:49:37 gmt", 784_111_777),
        ("SUNDAY, 06-NOV-94 08:49:37 gMT", 784_111_777),
        ("SUN nov  6 08:49:37 1994", 784_111_777),
        (" Sun, 06 Nov 1994 08:49:37 GMT\t", 784_111_777),
        ("Mon, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
        ("Tue, 19 Jan 2038 14:14:08 GMT", 2_147_523_248),
        ("Sun, 21 Nov 2286 04:46:39 GMT", 10_000_039_599),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        // RFC 9110 §5.6.7: more than fifty years ahead is the past.
        ("Friday, 14-Jun-75 00:00:00 GMT", 3_327_696_000),
        ("Sunday, 22-Jun-75 00:00:00 GMT", 172_627_200),
        ("Thursday, 18-Aug-50 02:01:18 GMT", 2_544_400_878),
        ("Saturday, 01-Jan-00 00:00:00 GMT", 946_684_800),
    ] {
        assert_eq!(read(text), Some(expected), "{text}");
    }
    // Late in a century, early years are of the next one.
    let late = Duration::from_secs(4_000_000_000);
    let found = parse("Friday, 01-Jan-10 00:00:00 GMT", late);
    assert_eq!(found, Some(Duration::from_secs(4_417_977_600)));
    let leap = parse("Friday, 29-Feb-00 00:00:00 GMT", late);
    assert_eq!(
        leap,
        Some(Duration::from_secs(951_782_400)),
        "2100 has no such day"
    );
}

#[test]
fn no_dates() {
    for text in [
        "",
        "0",
        "-1",
        "now",
        "784111777",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 GMT+1",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 006 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "06 Nov 1994 08:49:37 GMT",
        "Son, 06 Nov 1994 08:49:37 GMT",
        "Su, 06 Nov 1994 08:49:37 GMT",
        ", 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 November 1994 08:49:37 GMT",
        "Sun, 06 Nix 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 29 Feb 2001 08:49:37 GMT",
        "Sun, 29 Feb 2100 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, +6 Nov 1994 08:49:37 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov 06 08:49:37 94",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sunday Nov  6 08:49:37 1994",
        "Sun Nov \u{e9} 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn days_follow_each_other(days in 0..2_900_000u64, second in 0..86_400u64) {
        // Counted year by year and month by month.
        let (mut left, mut year) = (days, 1970);
        let leap = |year: u64| match year % 400 {
            0 => true,
            rest => rest % 4 == 0 && rest % 100 != 0,
        };
        while left >= if leap(year) { 366 } else { 365 } {
            left -= if leap(year) { 366 } else { 365 };
            year += 1;
        }
        let mut month = 0;
        loop {
            let length = match month {
                1 if leap(year) => 29,
                1 => 28,
                3 | 5 | 8 | 10 => 30,
                _ => 31,
            };
            if left < length {
                break;
            }
            left -= length;
            month += 1;
        }
        let (day, month) = (left + 1, MONTHS[month]);
        let clock = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
        let then = days * 86_400 + second;
        prop_assert_eq!(read(&format!("Mon, {day:02} {month} {year:04} {clock} GMT")), Some(then));
        prop_assert_eq!(read(&format!("Mon {month} {day:>2} {clock} {year:04}")), Some(then));
        // With two digits: the same date, a century off or more, and at most fifty years ahead.
        let found = read(&format!("Monday, {day:02}-{month}-{:02} {clock} GMT", year % 100));
        let (least, most) = (NOW.as_secs() - 51 * 31_557_600, NOW.as_secs() + 50 * 31_557_600);
        prop_assert!(found.is_none_or(|found| (least..=most).contains(&found)));
        if (least + 2 * 31_557_600..most).contains(&then) {
            prop_assert_eq!(found, Some(then));
        }
    }

    #[test]
    fn any_text_is_read(
        text in "(Sun|Sunday)?,? ?[0-9 -]{0,3}(Nov)?[ -]?[0-9]{0,5} ?[0-9:]{0,9} ?(GMT)?\\PC{0,3}",
        now: u64,
    ) {
        let _ = parse(&text, Duration::from_secs(now));
    }
}
