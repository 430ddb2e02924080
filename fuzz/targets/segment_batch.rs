//! Any bytes as a batch of Segment's: total; what it becomes is an event that decoding accepts.

#![no_main]

use churnd_fuzz::{
    check_event,
    event::{
        decode::{Encoding, Reject, decode},
        segment::{Call, CustomerOf, Form, Mapping, Request, map},
        time::Timestamp,
    },
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let pages = ["/billing".to_owned()];
    for (form, call) in [(Form::Batch, None), (Form::Single, Some(Call::Track)), (Form::Single, Some(Call::Identify))] {
        let Ok(request) = Request::read(body, form) else { continue };
        for customer in [CustomerOf::User, CustomerOf::Group] {
            let received_at = Timestamp::from_millis(1_767_225_600_000);
            let mapping = Mapping { customer, billing_pages: &pages, drops_trait: |name| name == "email", received_at };
            for raw in &request.messages {
                match map(raw, call, &request, &mapping) {
                    Ok(bytes) => accepted(&bytes),
                    Err(unmapped) => assert!(!unmapped.code().is_empty()),
                }
            }
        }
    }
});

/// What we write we read; but what the message brought along is checked here only.
fn accepted(bytes: &[u8]) {
    let mut scratch = Vec::new();
    match decode(bytes, Encoding::Json, &mut scratch) {
        Ok(event) => check_event(&event, Encoding::Json),
        Err(reject) => assert!(!matches!(reject, Reject::NotUtf8 { .. }), "{reject}"),
    }
}
