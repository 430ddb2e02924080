//! Recurring revenue: what a subscription's prices bring a month, in whole numbers only.
//!
//! A price counts its unit amount times the quantity, spread over a month: a year has 12 months, 52 weeks and 365 days.
//! Metered and tiered prices have no amount known beforehand and count nothing; discounts and taxes are left out.
//! Amounts are reckoned in 10^-12 of a minor unit, as exact as Stripe's decimals, and rounded once, half up.

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

use super::view::{List, lax};
use crate::event::money::{Currency, Money};

const DECIMALS: usize = 12;
const SCALE: i128 = 1_000_000_000_000;

/// What is billed again and again: a price and how many of it.
#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(default, deserialize_with = "lax")]
    price: Option<Price>,
    #[serde(default, deserialize_with = "lax")]
    plan: Option<Plan>,
    #[serde(default, deserialize_with = "lax")]
    quantity: Option<u64>,
}

#[derive(Deserialize)]
struct Price {
    #[serde(default, deserialize_with = "lax")]
    unit_amount: Option<i64>,
    #[serde(default, deserialize_with = "lax")]
    unit_amount_decimal: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    currency: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    recurring: Option<Recurrence>,
}

/// A price as it was written before there were prices; newer payloads still carry both.
pub(super) struct Plan {
    amount: PlanAmount,
    recurrence: Recurrence,
}

#[derive(Deserialize)]
struct PlanAmount {
    #[serde(default, deserialize_with = "lax")]
    amount: Option<i64>,
    #[serde(default, deserialize_with = "lax")]
    amount_decimal: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    currency: Option<String>,
}

impl<'de> Deserialize<'de> for Plan {
    /// Two views of one object. (serde's `flatten` would keep all its fields, by recursion.)
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let plan = <&RawValue>::deserialize(deserializer)?.get();
        let amount = serde_json::from_str(plan).map_err(D::Error::custom)?;
        let recurrence = serde_json::from_str(plan).map_err(D::Error::custom)?;
        Ok(Self { amount, recurrence })
    }
}

#[derive(Deserialize)]
struct Recurrence {
    #[serde(default, deserialize_with = "lax")]
    interval: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    interval_count: Option<u64>,
    #[serde(default, deserialize_with = "lax")]
    usage_type: Option<String>,
}

impl Item {
    /// The only item of a subscription that has just a plan and a quantity.
    pub(super) fn of_plan(plan: Plan, quantity: Option<u64>) -> Self {
        Self { price: None, plan: Some(plan), quantity }
    }

    fn currency(&self) -> Option<Currency> {
        let price = self.price.as_ref().and_then(|price| price.currency.as_deref());
        let plan = self.plan.as_ref().and_then(|plan| plan.amount.currency.as_deref());
        price.into_iter().chain(plan).find_map(|text| Currency::parse(text).ok())
    }

    /// What it brings a month, scaled; `None` if that is more than can be reckoned.
    fn monthly(&self) -> Option<i128> {
        let Some((amount, recurrence)) = self.amount() else { return Some(0) };
        if recurrence.usage_type.as_deref() == Some("metered") {
            return Some(0);
        }
        let (times, parts) = match recurrence.interval.as_deref() {
            Some("day") => (365, 12),
            Some("week") => (52, 12),
            Some("month") => (1, 1),
            Some("year") => (1, 12),
            _ => return Some(0),
        };
        let count = i128::from(recurrence.interval_count.unwrap_or(1).max(1));
        let whole = amount.checked_mul(i128::from(self.quantity.unwrap_or(1)))?.checked_mul(times)?;
        Some(divide_half_up(whole, parts * count))
    }

    /// The unit amount, scaled, and how often it is billed.
    fn amount(&self) -> Option<(i128, &Recurrence)> {
        let of_price = self.price.as_ref().and_then(|price| {
            let amount = scaled(price.unit_amount, price.unit_amount_decimal.as_deref())?;
            let recurrence = price.recurring.as_ref().or(self.plan.as_ref().map(|plan| &plan.recurrence))?;
            Some((amount, recurrence))
        });
        of_price.or_else(|| {
            let plan = self.plan.as_ref()?;
            Some((scaled(plan.amount.amount, plan.amount.amount_decimal.as_deref())?, &plan.recurrence))
        })
    }
}

/// What items bring a month together; `None` where it is not all known.
pub(super) fn monthly(items: &[Item], currency: Option<&str>) -> Option<Money> {
    let currency =
        currency.and_then(|text| Currency::parse(text).ok()).or_else(|| items.iter().find_map(Item::currency))?;
    let sum = items.iter().try_fold(0_i128, |sum, item| sum.checked_add(item.monthly()?))?;
    Some(Money { minor: i64::try_from(divide_half_up(sum, SCALE)).ok()?, currency })
}

/// A list's items, unless it holds only some of them.
pub(super) fn all_of(list: List<Item>) -> Option<Vec<Item>> {
    if list.has_more == Some(true) { None } else { Some(list.data) }
}

/// An amount in scaled minor units, from its whole or else its decimal form.
fn scaled(whole: Option<i64>, decimal: Option<&str>) -> Option<i128> {
    match whole {
        Some(whole) => Some(i128::from(whole) * SCALE),
        None => parse_decimal(decimal?),
    }
}

/// Reads `12`, `-0.5` and `.25`; further decimals than Stripe gives are cut off.
fn parse_decimal(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && !fraction.contains('.')
        && whole.len() + fraction.len() > 0
        && whole.len() <= 18;
    if !is_number {
        return None;
    }
    let digits = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(DECIMALS));
    let value = digits.fold(0_i128, |value, digit| value * 10 + i128::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

/// Rounds to the nearest, halves up.
fn divide_half_up(value: i128, by: i128) -> i128 {
    let (quotient, remainder) = (value.div_euclid(by), value.rem_euclid(by));
    if remainder >= by - remainder { quotient + 1 } else { quotient }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn monthly_of(items: &Value, currency: Option<&str>) -> Option<String> {
        let items: Vec<Item> = serde_json::from_str(&items.to_string()).unwrap();
        monthly(&items, currency).map(|money| format!("{} {}", money.minor, money.currency))
    }

    #[track_caller]
    fn check(item: Value, expected: &str) {
        assert_eq!(monthly_of(&json!([item]), None).as_deref(), Some(expected), "{item}");
    }

    fn price(amount: Value, interval: &str, count: u64) -> Value {
        json!({"unit_amount": amount, "currency": "usd", "recurring": {"interval": interval, "interval_count": count}})
    }

    #[test]
    fn intervals_become_months() {
        for (amount, interval, count, expected) in [
            (2_000, "month", 1, "2000 usd"),
            (6_000, "month", 3, "2000 usd"),
            (12_000, "year", 1, "1000 usd"),
            (36_000, "year", 3, "1000 usd"),
            (100, "day", 1, "3042 usd"),
            (1_000, "week", 1, "4333 usd"),
            (1_000, "week", 2, "2167 usd"),
            (1, "month", 2, "1 usd"),
            (1, "month", 3, "0 usd"),
            (6, "year", 1, "1 usd"),
            (5, "year", 1, "0 usd"),
            (-500, "month", 1, "-500 usd"),
            (2_000, "month", 0, "2000 usd"),
        ] {
            check(json!({"price": price(json!(amount), interval, count), "quantity": 1}), expected);
        }
    }

    #[test]
    fn quantities_decimals_and_plans_count() {
        check(json!({"price": price(json!(1_500), "month", 1), "quantity": 7}), "10500 usd");
        check(json!({"price": price(json!(1_500), "month", 1), "quantity": 0}), "0 usd");
        check(json!({"price": price(json!(1_500), "month", 1)}), "1500 usd");
        let mut decimal = price(Value::Null, "month", 1);
        for (text, expected) in
            [("0.5", "5 usd"), ("12", "120 usd"), ("0.04999", "0 usd"), ("x", "0 usd"), ("1.2.3", "0 usd")]
        {
            decimal["unit_amount_decimal"] = json!(text);
            check(json!({"price": decimal, "quantity": 10}), expected);
        }
        let plan = json!({"amount": 900, "currency": "EUR", "interval": "month", "interval_count": 1});
        check(json!({"plan": plan, "quantity": 2}), "1800 eur");
        let no_recurrence = json!({"unit_amount": 800, "currency": "eur"});
        check(json!({"price": no_recurrence, "plan": plan, "quantity": 2}), "1600 eur");
    }

    #[test]
    fn usage_and_tiers_count_nothing() {
        let mut metered = price(json!(2_000), "month", 1);
        metered["recurring"]["usage_type"] = json!("metered");
        check(json!({"price": metered}), "0 usd");
        check(json!({"price": price(Value::Null, "month", 1), "quantity": 3}), "0 usd");
        check(json!({"price": price(json!(2_000), "fortnight", 1), "quantity": 3}), "0 usd");
    }

    #[test]
    fn items_are_summed_before_rounding() {
        let third = json!({"price": price(json!(1), "month", 3), "quantity": 1});
        assert_eq!(monthly_of(&json!([third, third]), None).as_deref(), Some("1 usd"));
        let sixth = json!({"price": price(json!(1), "month", 6), "quantity": 1});
        assert_eq!(monthly_of(&json!([third, sixth]), None).as_deref(), Some("1 usd"));
        assert_eq!(monthly_of(&json!([third, third]), Some("JPY")).as_deref(), Some("1 jpy"));
    }

    #[test]
    fn the_unknown_is_not_guessed() {
        assert_eq!(monthly_of(&json!([]), None), None);
        assert_eq!(monthly_of(&json!([]), Some("usd")).as_deref(), Some("0 usd"));
        let huge = json!({"price": price(json!(i64::MAX), "day", 1), "quantity": u64::MAX});
        assert_eq!(monthly_of(&json!([huge]), None), None);
        let large = json!({"price": price(json!(i64::MAX), "month", 1), "quantity": 2});
        assert_eq!(monthly_of(&json!([large]), None), None);
    }
}
