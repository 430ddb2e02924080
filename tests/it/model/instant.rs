//! RFC 3339 by hand: instants are milliseconds since 1970, what is finer is cut off.

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

pub(crate) const SECOND: i64 = 1_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Reads `2026-03-01T12:00:00.25+01:00`.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let mut numbers = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let (clock, offset) = if let Some(clock) = time.strip_suffix('Z') {
        (clock, 0)
    } else {
        let sign = time.rfind(['+', '-'])?;
        let (hours, minutes) = time[sign + 1..].split_once(':')?;
        let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
        (&time[..sign], if time[sign..].starts_with('-') { -minutes } else { minutes })
    };
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut numbers = whole.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + (minute - offset) * 60 + second;
    Some(seconds * SECOND + millis)
}

/// Writes an instant in UTC with milliseconds.
pub(crate) fn utc(millis: i64) -> String {
    spelled(millis, 0, "Z", &format!(".{:03}", millis.rem_euclid(SECOND)))
}

/// Writes an instant in one of its many spellings; digits beyond the millisecond may say anything.
pub(crate) fn in_any_spelling(millis: i64, rng: &mut StdRng) -> String {
    let offset_minutes: i64 = *[0, 0, 0, 60, 330, -480, 845, -210, 1].choose(rng).expect("not empty");
    let suffix = match offset_minutes {
        0 => (*["Z", "Z", "+00:00"].choose(rng).expect("not empty")).to_owned(),
        minutes => {
            let sign = if minutes < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
        }
    };
    let part = millis.rem_euclid(SECOND);
    let fraction = match (part, rng.random_range(0..4)) {
        (0, 0 | 1) => String::new(),
        (_, 2) => format!(".{part:03}{:03}", rng.random_range(0..1_000)),
        (_, 3) => format!(".{part:03}{:06}", rng.random_range(0..1_000_000)),
        _ if part % 100 == 0 => format!(".{}", part / 100),
        _ => format!(".{part:03}"),
    };
    spelled(millis, offset_minutes, &suffix, &fraction)
}

fn spelled(millis: i64, offset_minutes: i64, suffix: &str, fraction: &str) -> String {
    let local = millis.div_euclid(SECOND) + offset_minutes * 60;
    let (year, month, day) = date_of(local.div_euclid(86_400));
    let clock = local.rem_euclid(86_400);
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{suffix}")
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn length_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counted day by day, year by year: slow and plainly right.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let years: i64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: i64 = (1..month).map(|month| length_of(year, month)).sum();
    years + months + day - 1
}

fn date_of(mut days: i64) -> (i64, i64, i64) {
    let mut year = 1970;
    while days >= if is_leap(year) { 366 } else { 365 } {
        days -= if is_leap(year) { 366 } else { 365 };
        year += 1;
    }
    let mut month = 1;
    while days >= length_of(year, month) {
        days -= length_of(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn known_instants_are_read() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2026-03-01T12:00:00Z"), Some(1_772_366_400_000));
        assert_eq!(parse("2026-03-01T13:00:00.25+01:00"), Some(1_772_366_400_250));
        assert_eq!(parse("2024-02-29T23:59:59.9999999-00:30"), Some(1_709_252_999_999));
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn every_spelling_means_the_same_instant() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..2_000 {
            let millis = rng.random_range(1_600_000_000_000..1_900_000_000_000_i64);
            let millis = if rng.random_bool(0.3) { millis - millis % 1_000 } else { millis };
            let text = in_any_spelling(millis, &mut rng);
            assert_eq!(parse(&text), Some(millis), "{text}");
            assert_eq!(text.parse::<churnd::event::time::Timestamp>().unwrap().millis(), millis, "{text}");
        }
    }
}
