//! Any bytes as an event in JSON: total, the same twice, and of one mind with MessagePack about the same value.

#![no_main]

use churnd_fuzz::{
    decode_twice,
    event::decode::{Encoding, decode},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    decode_twice(payload, Encoding::Json);
    let mut scratch = Vec::new();
    let Ok(event) = decode(payload, Encoding::Json, &mut scratch) else { return };
    // The same fields written as MessagePack say the same; numbers may be written in more than one way, so texts only.
    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_ref().map(ToString::to_string);
    let mut fields = std::collections::BTreeMap::from([("event", event.name.to_string())]);
    fields.extend(text(&event.id).map(|id| ("id", id)));
    fields.extend(text(&event.customer_id).map(|id| ("customerId", id)));
    fields.extend(text(&event.user_id).map(|id| ("userId", id)));
    let packed = rmp_serde::to_vec_named(&fields).expect("texts can be packed");
    let mut other = Vec::new();
    let same = decode(&packed, Encoding::MessagePack, &mut other).expect("what JSON may say, MessagePack may say");
    assert_eq!(
        (&event.name, text(&event.id), text(&event.customer_id), text(&event.user_id)),
        (&same.name, text(&same.id), text(&same.customer_id), text(&same.user_id))
    );
});
