//! States to test with: made of events, some by hand, some drawn.

use serde_json::{Value, json};

use crate::{
    engine::{
        rules::Rules,
        state::{Applied, CustomerState},
    },
    event::{
        decode::{Encoding, decode},
        time::Timestamp,
    },
};

pub(super) const HOUR: i64 = 3_600_000;
pub(super) const DAY: i64 = 24 * HOUR;

/// 1 March 2026, 00:00 UTC.
pub(super) const START: Timestamp = Timestamp::from_millis(1_772_323_200_000);

/// An event of a name.
pub(super) fn named(name: &str) -> Value {
    json!({ "event": name })
}

/// The same event with an id.
pub(super) fn with_id(mut body: Value, id: impl ToString) -> Value {
    body["id"] = json!(id.to_string());
    body
}

/// Applies an event to a state, by way of its JSON.
pub(super) fn apply(state: &mut CustomerState, body: &Value, at: Timestamp, rules: &Rules) -> Applied {
    let (text, mut scratch) = (body.to_string(), Vec::new());
    let event = decode(text.as_bytes(), Encoding::Json, &mut scratch).expect("the test writes valid events");
    state.apply(&event, at, rules)
}
