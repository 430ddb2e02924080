//! Amounts, instants and names in words, as messages have them.

use jiff::{Timestamp as Instant, civil::Date, tz::TimeZone};

use crate::{
    engine::{checkpoint::Level, score::ForecastStep},
    event::{money::Money, time::Timestamp},
};

/// Currencies without minor units, as Stripe has them.
const WHOLE: [&str; 16] =
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"];
/// Currencies of a thousand minor units.
const THOUSANDTHS: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];
/// The longest name that a message holds.
const NAME_CHARS: usize = 80;

/// `1,200.00 EUR`.
pub(super) fn money(amount: Money) -> String {
    let code = amount.currency.as_str();
    let digits: u32 = if WHOLE.contains(&code) {
        0
    } else if THOUSANDTHS.contains(&code) {
        3
    } else {
        2
    };
    let (sign, minor) = (if amount.minor < 0 { "-" } else { "" }, amount.minor.unsigned_abs());
    let unit = 10_u64.pow(digits);
    let whole = grouped(minor / unit);
    let code = code.to_ascii_uppercase();
    match digits {
        0 => format!("{sign}{whole} {code}"),
        _ => format!("{sign}{whole}.{:0width$} {code}", minor % unit, width = digits as usize),
    }
}

/// The part of a monthly amount that a score puts at risk.
pub(super) fn at_risk(mrr: Money, score: u8) -> Money {
    let part = i128::from(mrr.minor) * i128::from(score) / 100;
    Money { minor: i64::try_from(part).unwrap_or(i64::MAX), currency: mrr.currency }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3 December`, with its year where that is not the year of `seen_from`.
fn day(at: Timestamp, seen_from: Timestamp) -> String {
    let (Some(date), Some(from)) = (date(at), date(seen_from)) else { return at.to_string() };
    if date.year() == from.year() {
        date.strftime("%-d %B").to_string()
    } else {
        date.strftime("%-d %B %Y").to_string()
    }
}

/// `22 November 2026, 14:05 UTC`.
pub(super) fn moment(at: Timestamp) -> String {
    match Instant::from_millisecond(at.millis()) {
        Ok(instant) => instant.to_zoned(TimeZone::UTC).strftime("%-d %B %Y, %H:%M UTC").to_string(),
        Err(_) => at.to_string(),
    }
}

fn date(at: Timestamp) -> Option<Date> {
    Instant::from_millisecond(at.millis()).ok().map(|instant| instant.to_zoned(TimeZone::UTC).date())
}

/// `silent until 3 December → high (score 80)`.
pub(super) fn silence(step: &ForecastStep, seen_from: Timestamp) -> String {
    format!("silent until {} → {} (score {})", day(step.silent_until, seen_from), step.level.as_str(), step.score)
}

/// `High`.
pub(super) fn capital(level: Level) -> &'static str {
    match level {
        Level::Low => "Low",
        Level::Medium => "Medium",
        Level::High => "High",
    }
}

/// `1 customer`, `2 customers`.
pub(super) fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A name or a reason as one line: without characters that control, or turn the direction of what stands around them.
pub(super) fn line(text: &str) -> String {
    shortened(text, NAME_CHARS * 3)
}

/// A name, short enough for a subject.
pub(super) fn name(text: &str) -> String {
    shortened(text, NAME_CHARS)
}

/// A subject: one line, bounded.
pub(super) fn subject(text: &str, most: usize) -> String {
    shortened(text, most)
}

fn shortened(text: &str, most: usize) -> String {
    let turns =
        |sign: char| matches!(sign, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = |sign: char| sign.is_control() || matches!(sign, '\u{2028}' | '\u{2029}');
    let plain = text.chars().filter(|sign| !turns(*sign)).map(|sign| if breaks(sign) { ' ' } else { sign });
    cut(plain.collect::<String>().trim(), most)
}

/// At most so many characters; what is cut off leaves an ellipsis.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::money::Currency;

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        let told = |minor, code| money(Money { minor, currency: Currency::parse(code).unwrap() });
        assert_eq!(told(120_000, "eur"), "1,200.00 EUR");
        assert_eq!(told(123_456_789, "usd"), "1,234,567.89 USD");
        assert_eq!(told(5, "usd"), "0.05 USD");
        assert_eq!(told(-250_000, "usd"), "-2,500.00 USD");
        assert_eq!(told(120_000, "jpy"), "120,000 JPY");
        assert_eq!(told(1_234_567, "kwd"), "1,234.567 KWD");
        assert_eq!(told(i64::MIN, "usd"), "-92,233,720,368,547,758.08 USD");
        let risk = at_risk(Money { minor: i64::MAX, currency: Currency::parse("usd").unwrap() }, 100);
        assert_eq!(risk.minor, i64::MAX);
    }

    #[test]
    fn days_name_their_year_where_it_is_another() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(day(at("2026-12-03T00:00:00Z"), at("2026-11-22T10:00:00Z")), "3 December");
        assert_eq!(day(at("2027-01-03T00:00:00Z"), at("2026-11-22T10:00:00Z")), "3 January 2027");
        assert_eq!(moment(at("2026-11-22T14:05:59Z")), "22 November 2026, 14:05 UTC");
        assert_eq!(moment(Timestamp::from_millis(i64::MAX)), "9223372036854775807 ms");
    }

    #[test]
    fn names_are_one_line_and_do_not_turn_the_text_around_them() {
        assert_eq!(name(" Acme\r\nBcc: x\u{202e}\u{0} "), "Acme  Bcc: x");
        assert_eq!(name(&"é".repeat(200)), format!("{}…", "é".repeat(79)));
        assert_eq!(cut("abc", 3), "abc");
    }
}
