//! Money, times, scores and levels as people read them. What is marked as HTML here holds nothing that somebody sent.

use std::fmt;

use askama::filters::HtmlSafe;

use crate::{
    engine::checkpoint::{Level, Status},
    event::{money::Money, time::Timestamp},
};

/// Currencies whose smallest unit is the whole.
const WITHOUT_CENTS: [&str; 15] =
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"];

/// An amount: `$1,290`, `€12.50`, `1,200 CHF`.
pub(super) fn money(money: &Money) -> String {
    let code = money.currency.as_str();
    let sign = if money.minor < 0 { "−" } else { "" };
    let minor = money.minor.unsigned_abs();
    let (whole, cents) = if WITHOUT_CENTS.contains(&code) { (minor, 0) } else { (minor / 100, minor % 100) };
    let cents = if cents == 0 { String::new() } else { format!(".{cents:02}") };
    let number = format!("{}{cents}", count(whole));
    match code {
        "usd" => format!("{sign}${number}"),
        "eur" => format!("{sign}€{number}"),
        "gbp" => format!("{sign}£{number}"),
        "jpy" => format!("{sign}¥{number}"),
        _ => format!("{sign}{number} {}", code.to_ascii_uppercase()),
    }
}

/// A sum of many amounts: without cents, where it is so large that they tell nothing.
pub(super) fn sum(amount: &Money) -> String {
    let has_cents = !WITHOUT_CENTS.contains(&amount.currency.as_str());
    let whole = Money { minor: amount.minor.saturating_add(50) / 100 * 100, ..*amount };
    money(if has_cents && amount.minor >= 100_000 { &whole } else { amount })
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An instant as a `<time>`: in UTC, until a script writes it in the visitor's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct When(pub(super) Timestamp);

impl fmt::Display for When {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0.millis()) {
            Ok(instant) => {
                write!(formatter, "<time datetime=\"{}\">{}</time>", self.0, instant.strftime("%-d %b %Y, %H:%M UTC"))
            }
            Err(_) => formatter.write_str("—"),
        }
    }
}

impl HtmlSafe for When {}

/// A day as a `<time>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Day(pub(super) Timestamp);

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0.millis()) {
            Ok(instant) => {
                write!(formatter, "<time datetime=\"{}\" data-day>{}</time>", self.0, instant.strftime("%-d %b %Y"))
            }
            Err(_) => formatter.write_str("—"),
        }
    }
}

impl HtmlSafe for Day {}

/// A level as a badge: by shape, word and color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Badge {
    pub(super) level: Level,
    pub(super) status: Status,
}

impl fmt::Display for Badge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, shape, word) = match (self.status, self.level) {
            (Status::Churned, _) => ("churned", "M2 2 10 10M10 2 2 10", "Churned"),
            (_, Level::High) => ("high", "M6 1 11 11H1Z", "High"),
            (_, Level::Medium) => ("medium", "M6 1 11 6 6 11 1 6Z", "Medium"),
            (_, Level::Low) => ("low", "M6 2a4 4 0 1 0 .001 0Z", "Low"),
        };
        write!(
            formatter,
            "<span class=\"badge {class}\"><svg viewBox=\"0 0 12 12\" aria-hidden=\"true\"><path d=\"{shape}\"/></svg>{word}</span>"
        )
    }
}

impl HtmlSafe for Badge {}

/// A score as a bar, beside its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) score: u8,
    pub(super) level: Level,
}

impl fmt::Display for Bar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (score, level) = (self.score, self.level.as_str());
        write!(
            formatter,
            "<svg class=\"bar {level}\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"track\" width=\"100\" height=\"8\"/><rect class=\"fill\" width=\"{score}\" height=\"8\"/></svg>"
        )
    }
}

impl HtmlSafe for Bar {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::money::Currency;

    #[test]
    fn amounts_read_as_people_write_them() {
        let said = |minor, code| money(&Money { minor, currency: Currency::parse(code).unwrap() });
        assert_eq!(said(129_000, "usd"), "$1,290");
        assert_eq!(said(1_250, "eur"), "€12.50");
        assert_eq!(said(-5, "gbp"), "−£0.05");
        assert_eq!(said(1_234_567, "jpy"), "¥1,234,567");
        assert_eq!(said(120_000, "chf"), "1,200 CHF");
        let summed = |minor, code| sum(&Money { minor, currency: Currency::parse(code).unwrap() });
        assert_eq!((summed(425_955, "usd").as_str(), summed(4_255, "usd").as_str()), ("$4,260", "$42.55"));
        assert_eq!(summed(425_955, "jpy"), "¥425,955");
        assert_eq!([0, 12, 999, 1_000, 1_234_567].map(count), ["0", "12", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn levels_are_told_by_shape_and_word() {
        let badge = Badge { level: Level::High, status: Status::Active }.to_string();
        assert!(badge.contains("M6 1 11 11H1Z") && badge.contains(">High<"), "{badge}");
        let churned = Badge { level: Level::High, status: Status::Churned }.to_string();
        assert!(churned.contains("Churned") && !churned.contains("High"), "{churned}");
        assert!(Bar { score: 40, level: Level::Medium }.to_string().contains("class=\"fill\" width=\"40\""));
    }

    #[test]
    fn instants_are_exact_for_programs_and_short_for_people() {
        let at = Timestamp::from_seconds(1_772_366_400);
        assert_eq!(When(at).to_string(), "<time datetime=\"2026-03-01T12:00:00Z\">1 Mar 2026, 12:00 UTC</time>");
        assert_eq!(Day(at).to_string(), "<time datetime=\"2026-03-01T12:00:00Z\" data-day>1 Mar 2026</time>");
        assert_eq!(When(Timestamp::from_millis(i64::MAX)).to_string(), "—");
    }
}
