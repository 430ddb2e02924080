//! Any bytes as a webhook's body: total; what it becomes is an event that decoding accepts, with the same facts.

#![no_main]

use churnd_fuzz::{
    check_event, check_reject,
    event::{
        decode::{Encoding, MAX_EVENT_BYTES, decode},
        stripe::{event_body, event_id, read_webhook},
    },
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let event = match read_webhook(payload) {
        Ok(Some(event)) => event,
        Ok(None) => return,
        Err(reject) => return check_reject(&reject),
    };
    assert_eq!(event_id(payload).as_deref(), Some(event.id.as_str()));
    let body = event_body(&event);
    assert_eq!(body, event_body(&event), "the same bytes for the same webhook");
    if body.len() > MAX_EVENT_BYTES {
        return;
    }
    let mut scratch = Vec::new();
    let decoded = decode(&body, Encoding::Json, &mut scratch).expect("what we write we read");
    assert_eq!((&*decoded.name, decoded.id.as_deref()), (event.name, Some(event.id.as_str())));
    assert_eq!(decoded.facts(), event.facts);
    check_event(&decoded, Encoding::Json);
});
