//! Whom a message names: finds the ids of erased customers in bodies whose subjects say nothing of them.
//!
//! An id is looked for where a program would write it, as a whole text of the body's JSON, and among the words of longer
//! texts if it cannot be mistaken for a word. So the customer `42` does not take others' webhooks along.

use std::collections::HashMap;

use serde_json::Value;

use crate::{
    event::stripe::{CustomerRef, read_webhook},
    stream::reader::RawMessage,
};

/// Ids shorter than this are not looked for among words.
const WORD_BYTES: usize = 6;

/// The ids to look for, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<String, usize>,
    charges: HashMap<String, usize>,
}

impl Names {
    /// Adds an id of a customer.
    pub(super) fn add_id(&mut self, id: &str, whose: usize) {
        self.ids.insert(id.to_owned(), whose);
    }

    /// Adds a charge or payment intent of a customer: a dispute names nothing else.
    pub(super) fn add_charge(&mut self, charge: &str, whose: usize) {
        self.charges.insert(charge.to_owned(), whose);
    }

    /// Whom a webhook is about or names, if it is one of these.
    pub(super) fn in_webhook(&self, body: &[u8]) -> Option<usize> {
        self.in_body(body).or_else(|| {
            let event = read_webhook(body).ok()??;
            let disputed = match &event.customer {
                CustomerRef::Charge(charges) => charges.as_slice(),
                CustomerRef::Customer(_) => &[],
            };
            disputed.iter().chain(&event.charges).find_map(|charge| self.charges.get(charge).copied())
        })
    }

    /// Whom a dead letter is about or names, in its body or its headers.
    pub(super) fn in_letter(&self, message: &RawMessage) -> Option<usize> {
        let headers = message.headers.iter().flat_map(async_nats::HeaderMap::iter).flat_map(|(_, values)| values);
        let mut headers = headers.map(async_nats::HeaderValue::as_str);
        headers
            .find_map(|value| self.in_text(value).or_else(|| value.split(['.', ':']).find_map(|part| self.whole(part))))
            .or_else(|| self.in_webhook(&message.payload))
    }

    fn in_body(&self, body: &[u8]) -> Option<usize> {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => self.in_value(&value),
            // Whatever it is, its texts stand in it as they are.
            Err(_) => self.in_text(&String::from_utf8_lossy(body)),
        }
    }

    fn in_value(&self, value: &Value) -> Option<usize> {
        match value {
            Value::String(text) => self.in_text(text),
            Value::Array(values) => values.iter().find_map(|value| self.in_value(value)),
            Value::Object(fields) => {
                fields.iter().find_map(|(key, value)| self.whole(key).or_else(|| self.in_value(value)))
            }
            // An id that is a number may be written as one.
            Value::Number(number) => self.whole(&number.to_string()).filter(|_| number.as_u64() > Some(99_999)),
            Value::Null | Value::Bool(_) => None,
        }
    }

    fn in_text(&self, text: &str) -> Option<usize> {
        self.whole(text).or_else(|| text.split(|letter: char| !in_word(letter)).find_map(|word| self.word(word)))
    }

    fn whole(&self, text: &str) -> Option<usize> {
        self.ids.get(text).copied()
    }

    fn word(&self, word: &str) -> Option<usize> {
        let word = word.trim_end_matches(['.', '-', '+']);
        let is_telling = word.len() >= WORD_BYTES && word.bytes().any(|byte| byte.is_ascii_digit() || byte == b'@');
        if is_telling { self.whole(word) } else { None }
    }
}

/// What an address or an id is made of.
fn in_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '@' | '+' | '/')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(ids: &[&str]) -> Names {
        let mut names = Names::default();
        for (whose, id) in ids.iter().enumerate() {
            names.add_id(id, whose);
        }
        names
    }

    fn found(ids: &[&str], body: &Value) -> Option<usize> {
        names(ids).in_webhook(body.to_string().as_bytes())
    }

    #[test]
    fn an_id_is_found_wherever_a_program_writes_it() {
        for body in [
            json!({"customer": "c-17"}),
            json!({"data": {"object": {"metadata": {"id": "c-17"}}}}),
            json!([{"x": ["c-17"]}]),
            json!({"c-17": 1}),
        ] {
            assert_eq!(found(&["other", "c-17"], &body), Some(1), "{body}");
        }
    }

    #[test]
    fn an_address_is_found_within_a_text() {
        for text in ["Subscription of jane@example.com.", "jane@example.com", "to: <jane@example.com>"] {
            assert_eq!(found(&["jane@example.com"], &json!({ "description": text })), Some(0), "{text}");
        }
    }

    #[test]
    fn nobody_is_taken_for_another() {
        for (id, body) in [
            ("42", json!({"amount": 42, "description": "42 seats for 42"})),
            ("company", json!({"description": "our company"})),
            ("cus_12", json!({"customer": "cus_123", "other": "xcus_12"})),
            ("jane@example.com", json!({"email": "mary-jane@example.com", "x": "jane@example.com.evil"})),
            ("c-17", json!({"note": "c-17 and c-18"})),
        ] {
            assert_eq!(found(&[id], &body), None, "{id} {body}");
        }
    }

    #[test]
    fn what_is_no_json_is_searched_as_text() {
        assert_eq!(names(&["jane@example.com"]).in_webhook(b"\x81\xa2id\xb0jane@example.com\x01"), Some(0));
        assert_eq!(names(&["c17-abc"]).in_webhook(b"{\"customerId\":\"c17-abc\""), Some(0));
    }

    #[test]
    fn a_dispute_is_found_by_its_charge() {
        let mut names = names(&["cus_1"]);
        names.add_charge("ch_7", 0);
        let dispute = |charge: &str| {
            let object = json!({"id": "dp_1", "object": "dispute", "charge": charge, "status": "needs_response"});
            json!({"id": "evt_1", "object": "event", "type": "charge.dispute.created", "created": 1,
                "data": {"object": object}})
        };
        assert_eq!(names.in_webhook(dispute("ch_7").to_string().as_bytes()), Some(0));
        assert_eq!(names.in_webhook(dispute("ch_8").to_string().as_bytes()), None);
    }
}
