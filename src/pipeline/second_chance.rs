//! Dead letters: whether today's decoding and accounts would accept what was refused once.

use crate::{
    event::{
        decode::{Encoding, Reject, check_customer, decode},
        stripe::read_webhook,
    },
    stream::{dead::StoredLetter, reader::RawMessage},
};

/// Whether a letter's message would be accepted today; else why not. `is_known` says which accounts there are.
pub fn verdict(stored: &StoredLetter, is_known: impl Fn(&str) -> bool) -> Result<(), String> {
    if let Some(bytes) = stored.truncated {
        return Err(format!(
            "the message of {bytes} bytes was cut, so nobody can tell whether it is valid (too_large)"
        ));
    }
    judge(stored, is_known).map_err(|reject| format!("{reject} ({})", reject.code()))
}

fn judge(stored: &StoredLetter, is_known: impl Fn(&str) -> bool) -> Result<(), Reject> {
    let letter = &stored.letter;
    let tokens: Vec<&str> = letter.subject.split('.').collect();
    match tokens.as_slice() {
        ["churn", "webhooks", "stripe", account] => {
            read_webhook(&letter.payload)?;
            if is_known(account) { Ok(()) } else { Err(Reject::UnknownAccount) }
        }
        ["churn", "events", account, token] => {
            let encoding = if is_message_pack(stored) { Encoding::MessagePack } else { Encoding::Json };
            let mut scratch = Vec::new();
            let event = decode(&letter.payload, encoding, &mut scratch)?;
            check_customer(&event, token)?;
            if is_known(account) { Ok(()) } else { Err(Reject::UnknownAccount) }
        }
        _ => Err(Reject::MalformedSubject),
    }
}

/// As the pipeline would find it.
fn is_message_pack(stored: &StoredLetter) -> bool {
    let letter = &stored.letter;
    let message = RawMessage {
        subject: letter.subject.as_str().into(),
        payload: letter.payload.clone(),
        headers: letter.headers.clone(),
        sequence: letter.sequence,
        stored_at: stored.stored_at,
        pending: 0,
    };
    message.is_message_pack()
}
