//! A state in words: everything that is kept of a customer, for people who ask what that is.
//!
//! The names here are for reading and may grow; what programs rely on is the snapshot and the risk report.

use serde_json::{Map, Value, json};

use super::{state::CustomerState, stripe::StripeState, usage::Bucket};
use crate::event::time::Timestamp;

/// Stripe's fields that are instants in milliseconds.
const INSTANTS: [&str; 8] =
    ["created", "cancel_at", "ended_at", "failed_at", "voided_at", "paid_at", "expires", "downgraded_at"];

/// Everything that is kept of a customer.
pub fn in_words(state: &CustomerState) -> Value {
    let names = state.names.iter().map(|(name, at)| json!({"event": name.as_str(), "at": at}));
    let hours = state.usage.hours().map(|bucket| counted(bucket, Timestamp::start_of_hour));
    let days = state.usage.older_days().iter().map(|bucket| counted(*bucket, Timestamp::start_of_day));
    let announced = |level: usize| state.alerts.announced[level];
    json!({
        "firstSeen": state.first_seen,
        "newestEvent": state.newest,
        "newestEventByName": names.collect::<Vec<_>>(),
        "usageByHour": hours.collect::<Vec<_>>(),
        "usageByDayBefore": days.collect::<Vec<_>>(),
        "newestSupportInteraction": state.support.map(|support| json!({"at": support.at, "sentiment": support.sentiment})),
        "stripe": state.stripe.as_deref().map(of_stripe),
        "rememberedEventIds": state.ids.iter().len(),
        "movedTo": state.moved_to.as_ref().map(|signpost| json!({"customerId": signpost.to, "at": signpost.at})),
        "announced": {
            "level": state.alerts.level,
            "score": state.alerts.score,
            "churned": state.alerts.churned,
            "lowAt": announced(0),
            "mediumAt": announced(1),
            "highAt": announced(2),
        },
        "lastEvaluation": state.evaluated.map(|evaluation| {
            json!({"score": evaluation.score, "level": evaluation.level, "status": evaluation.status})
        }),
    })
}

fn counted(bucket: Bucket, start_of: fn(i64) -> Timestamp) -> Value {
    json!({"from": start_of(i64::from(bucket.index)), "events": bucket.count})
}

/// Subscriptions, invoices, cards and disputes, without the hashes that they are known by.
fn of_stripe(stripe: &StripeState) -> Value {
    readable(serde_json::to_value(stripe).expect("facts are plain values"))
}

fn readable(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(|item| readable(without_hash(item))).collect()),
        Value::Object(members) => Value::Object(members.into_iter().map(readable_member).collect::<Map<_, _>>()),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

fn readable_member((name, value): (String, Value)) -> (String, Value) {
    let value = match value.as_i64().filter(|_| INSTANTS.contains(&name.as_str())) {
        Some(millis) => json!(Timestamp::from_millis(millis)),
        None => readable(value),
    };
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    let camel = words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(word.len().min(1));
        name + &initial.to_ascii_uppercase() + rest
    });
    (camel, value)
}

/// The object of a pair of its hash and itself.
fn without_hash(item: Value) -> Value {
    let is_pair = item.as_array().is_some_and(|pair| pair.len() == 2 && pair[0].is_u64() && pair[1].is_object());
    if is_pair { item[1].clone() } else { item }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::rules::Rules,
        event::decode::{Encoding, decode},
    };

    #[test]
    fn a_state_s_parts_can_be_read() {
        let at = Timestamp::from_seconds(1_772_366_400);
        let mut state = CustomerState::new(at);
        let rules = Rules::default();
        let facts = r#"[{"kind":"unknown"}]"#;
        for body in [
            r#"{"event":"login","id":"1"}"#.to_owned(),
            r#"{"event":"support_ticket","properties":{"sentiment":"negative"}}"#.to_owned(),
            format!(r#"{{"event":"payment_failed","facts":{facts}}}"#),
        ] {
            let mut scratch = Vec::new();
            state.apply(&decode(body.as_bytes(), Encoding::Json, &mut scratch).unwrap(), at, &rules);
        }
        let words = in_words(&state);
        assert_eq!(words["firstSeen"], "2026-03-01T12:00:00Z");
        assert_eq!(words["usageByHour"], json!([{"from": "2026-03-01T12:00:00Z", "events": 1}]));
        assert_eq!(words["newestSupportInteraction"]["sentiment"], "negative");
        let readable =
            readable(json!({"subscriptions": [[7, {"cancel_at": 0, "ended_at": null, "mrr": {"amount": 5}}]]}));
        let expected = json!({"cancelAt": "1970-01-01T00:00:00Z", "endedAt": null, "mrr": {"amount": 5}});
        assert_eq!(readable, json!({"subscriptions": [expected]}));
    }
}
