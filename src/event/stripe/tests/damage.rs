//! Damaged webhooks: any missing or odd field gives an event or a named rejection, never a panic.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A webhook of any type over an object that has something of everything.
fn rich() -> Value {
    let mut object = with(
        &subscription(),
        json!({"id": "x_1", "charge": {"id": "ch_1", "customer": "cus_1"}, "payment_intent": "pi_1",
        "plan": {"amount": 5, "currency": "usd", "interval": "month"}, "quantity": 2, "cancel_at_period_end": true,
        "card": {"exp_month": 8, "exp_year": 2026}, "object": "card", "exp_month": 1, "exp_year": 2027, "amount_due": 0,
        "payments": {"data": [{"payment": {"charge": "ch_2"}}]}, "charges": {"data": [{"id": "ch_3"}]}, "latest_charge": "ch_4",
        "client_reference_id": "r", "mode": "payment", "current_period_end": CREATED, "customer_account": "acct_1"}),
    );
    object["items"]["data"][0]["plan"] = json!({"amount_decimal": "5.5", "interval": "week", "currency": "usd"});
    webhook(
        "?",
        &object,
        &json!({"items": object["items"], "plan": object["plan"], "quantity": 9, "customer": "cus_2"}),
    )
}

/// Replaces the value at the n-th place, counted through the whole tree.
fn replace(value: &mut Value, place: &mut usize, with: &Value) {
    if *place == 0 {
        *value = with.clone();
    }
    *place = place.wrapping_sub(1);
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|element| replace(element, place, with)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, place, with)),
        _ => {}
    }
}

fn strange() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(i64::MAX)),
        Just(json!(i64::MIN)),
        Just(json!(u64::MAX)),
        Just(json!(1.5e300)),
        Just(json!("")),
        Just(json!("cus_\u{0}")),
        Just(json!("-")),
        Just(json!([])),
        Just(json!({})),
        Just(json!(true)),
        Just(json!("9".repeat(40))),
        Just(json!("1e9")),
        Just(json!("day")),
        Just(json!({"data": 1})),
        Just(json!({"data": [null, {}]})),
        Just(json!({"id": "x".repeat(300)})),
        Just(json!([[{"id": "a"}]])),
        "\\PC{0,8}".prop_map(Value::String),
    ]
}

#[track_caller]
fn exercise(body: &[u8]) {
    if let Ok(Some(event)) = read_webhook(body) {
        let body = event_body(&event);
        let mut scratch = Vec::new();
        let decoded = decode(&body, Encoding::Json, &mut scratch).expect("what is published can be decoded");
        assert_eq!(decoded.facts(), event.facts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_change_of_a_webhook_is_survived(
        kind in proptest::sample::select(TYPES),
        changes in proptest::collection::vec((0_usize..90, strange()), 0..4),
    ) {
        let mut body = rich();
        body["type"] = json!(kind.0);
        for (place, value) in changes {
            replace(&mut body, &mut { place }, &value);
        }
        exercise(body.to_string().as_bytes());
    }

    #[test]
    fn any_damage_to_a_webhook_is_survived(
        kind in proptest::sample::select(TYPES), position in 0_usize..3_000, byte in any::<u8>(), length in 0_usize..3_000,
    ) {
        let mut body = rich();
        body["type"] = json!(kind.0);
        let mut body = body.to_string().into_bytes();
        let position = position % body.len();
        body[position] = byte;
        exercise(&body);
        body.truncate(length);
        exercise(&body);
    }

    #[test]
    fn any_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        exercise(&body);
    }
}
