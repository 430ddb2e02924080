//! RFC 3339 times, fast: the common form is read by hand, every other is left to jiff.
//!
//! Invariant: both ways give the same instant for what the fast one accepts.

use crate::event::time::Timestamp;

/// Reads a time; `None` if it is not one.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    common_form(text.as_bytes()).or_else(|| text.parse().ok())
}

/// `YYYY-MM-DDTHH:MM:SS`, a fraction of up to nine digits, `Z` or an offset; years 1970 to 9998.
fn common_form(text: &[u8]) -> Option<Timestamp> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let separators = [date_time[4], date_time[7], date_time[10], date_time[13], date_time[16]];
    if separators != *b"--T::" {
        return None;
    }
    let year = two_digits(date_time, 0)? * 100 + two_digits(date_time, 2)?;
    let month = two_digits(date_time, 5)?;
    let day = two_digits(date_time, 8)?;
    let hour = two_digits(date_time, 11)?;
    let minute = two_digits(date_time, 14)?;
    let second = two_digits(date_time, 17)?;
    let known = (1970..=9998).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 59;
    if !known {
        return None;
    }
    let (millis, rest) = fraction(rest)?;
    let seconds = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - offset(rest)?;
    // Before the epoch jiff rounds towards it; rather than imitate that, leave it to jiff.
    if seconds < 0 { None } else { Some(Timestamp::from_millis(seconds * 1_000 + millis)) }
}

fn two_digits(text: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    if tens <= 9 && ones <= 9 { Some(i64::from(tens * 10 + ones)) } else { None }
}

/// The milliseconds of a fraction, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&length) {
        return None;
    }
    let (digits, rest) = digits.split_at(length);
    let millis = (0..3).fold(0, |millis, place| {
        let digit = digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
        millis * 10 + digit
    });
    Some((millis, rest))
}

/// The offset's seconds east of UTC.
fn offset(rest: &[u8]) -> Option<i64> {
    match rest {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (two_digits(rest, 1)?, two_digits(rest, 4)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = (hours * 60 + minutes) * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar, counting years from March so that the leap day comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_jiff(text: &str) -> Option<Timestamp> {
        text.parse().ok()
    }

    #[test]
    fn common_times_are_read_by_hand() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.001Z", 1),
            ("2026-03-01T12:00:00Z", 1_772_366_400_000),
            ("2026-03-01T12:00:00.5Z", 1_772_366_400_500),
            ("2026-03-01T12:00:00.123456789Z", 1_772_366_400_123),
            ("2026-03-01T12:00:00+01:30", 1_772_361_000_000),
            ("2026-03-01T12:00:00-00:00", 1_772_366_400_000),
            ("2024-02-29T23:59:59.999Z", 1_709_251_199_999),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
        ] {
            assert_eq!(common_form(text.as_bytes()), Some(Timestamp::from_millis(millis)), "{text}");
            assert_eq!(by_jiff(text), Some(Timestamp::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_times_are_left_to_jiff() {
        for text in [
            "1969-12-31T23:59:59.9999Z",
            "2026-03-01t12:00:00z",
            "2026-03-01 12:00:00Z",
            "2016-12-31T23:59:60Z",
            "1970-01-01T00:00:00+05:00",
            "9999-12-30T00:00:00Z",
        ] {
            assert_eq!(common_form(text.as_bytes()), None, "{text}");
            assert_eq!(parse(text), by_jiff(text), "{text}");
            assert!(parse(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-03-01",
            "2026-03-01T12:00:00",
            "2026-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-01-32T12:00:00Z",
            "2026-01-01T25:00:00Z",
            "2026-01-01T12:60:00Z",
            "2026-01-01T12:00:00.Z",
            "2026-01-01T12:00:00.1234567890Z",
            "2026-01-01T12:00:00ZZ",
            "1772366400",
            "99999-01-01T00:00:00Z",
            "2026-01-01T12:00:00+1:00",
            "２026-01-01T12:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn well_formed_times_equal_jiff(
            (year, month, day) in (1965_i64..10_000, 0_i64..14, 0_i64..33),
            (hour, minute, second) in (0_i64..26, 0_i64..62, 0_i64..62),
            rest in "(\\.[0-9]{1,10})?(Z|z|[+-][0-2][0-9]:[0-6][0-9])",
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{rest}");
            prop_assert_eq!(parse(&text), by_jiff(&text));
            if let Some(instant) = common_form(text.as_bytes()) {
                prop_assert_eq!(Some(instant), by_jiff(&text));
            }
        }

        #[test]
        fn any_text_equals_jiff(text in ".{0,40}|[0-9TZ:.+-]{15,30}") {
            prop_assert_eq!(parse(&text), by_jiff(&text));
        }
    }
}
