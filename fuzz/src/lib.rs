//! The pure modules of churnd as they are, without the rest: what servers and clients send meets them first, and they build
//! in a minute.

#![allow(clippy::unwrap_used, dead_code, reason = "the modules are used by targets, which fail by panicking")]

#[path = "../../src/event/mod.rs"]
pub mod event;
#[path = "../../src/engine/mod.rs"]
pub mod engine;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use event::decode::{Encoding, Event, Reject, check_customer, decode};

/// What must hold of everything that was decoded.
pub fn check_event(event: &Event<'_>, encoding: Encoding) {
    assert!((1..=100).contains(&event.name.chars().count()));
    assert!(event.id.as_ref().is_none_or(|id| (1..=100).contains(&id.chars().count())));
    // Postgres cannot store it.
    for text in [Some(&event.name), event.id.as_ref(), event.user_id.as_ref(), event.customer_id.as_ref()] {
        assert!(!text.is_some_and(|text| text.contains('\0')), "NUL in {text:?} of {encoding:?}");
    }
    if let Some(properties) = event.properties_json() {
        // Numbers may be greater than any that we could hold; they are handed on as they came.
        let members = serde_json::from_str::<BTreeMap<String, &RawValue>>(properties);
        assert!(members.is_ok(), "properties are no object: {members:?}");
    }
    // None of these may fail, whatever stands in the properties.
    let _ = (event.sentiment(), event.facts(), event.has_facts(), event.stripe_customer());
    let _ = event.property_str("plan");
    for token in ["acme", "=40", "=hAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "", "a.b"] {
        let Ok(customer) = check_customer(event, token) else { continue };
        assert_eq!(event::subject::encode(&customer).as_str(), token, "two tokens for one customer");
    }
}

/// Decodes twice: once is as good as again, and a reject has a name that metrics can carry.
pub fn decode_twice(payload: &[u8], encoding: Encoding) {
    let (mut one, mut other) = (Vec::new(), b"left over".to_vec());
    let first = decode(payload, encoding, &mut one);
    let second = decode(payload, encoding, &mut other);
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    match first {
        Ok(event) => check_event(&event, encoding),
        Err(reject) => check_reject(&reject),
    }
}

/// Codes are short and stable, so that they can be labels.
pub fn check_reject(reject: &Reject) {
    let code = reject.code();
    assert!(
        !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    );
}
