//! A request's body: one message or a batch of them, and what is said for all.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Unmapped,
    clock::{self, Skew},
    message::{Context, fields, text},
};
use crate::event::{decode::Reject, time::Timestamp};

/// What a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One message.
    Single,
    /// Messages in a list named `batch`.
    Batch,
}

/// A body that was read.
#[derive(Debug)]
pub struct Request<'a> {
    /// The key, where it stands in the body.
    pub write_key: Option<String>,
    /// The messages, not looked at yet.
    pub messages: Vec<&'a RawValue>,
    pub(super) context: Context<'a>,
    sent_at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    write_key: Option<&'a RawValue>,
    #[serde(borrow)]
    batch: Option<&'a RawValue>,
    #[serde(borrow)]
    sent_at: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
}

impl<'a> Request<'a> {
    /// Reads a body. A key that is no text, a batch that is no list and a body that is no object are refused.
    pub fn read(body: &'a [u8], form: Form) -> Result<Self, Unmapped> {
        let whole: &RawValue = serde_json::from_slice(body).map_err(|error| Reject::of_json(&error))?;
        let envelope: Envelope<'_> = fields(whole)?;
        let messages = match form {
            Form::Single => vec![whole],
            Form::Batch => list(envelope.batch)?,
        };
        Ok(Self {
            write_key: key(envelope.write_key)?,
            messages,
            // A single message brings its own.
            context: if form == Form::Batch { Context::read(envelope.context) } else { Context::default() },
            sent_at: envelope.sent_at.and_then(clock::parse),
        })
    }

    /// How far the clock is off of whoever sent this.
    pub(super) fn skew(&self, message_sent_at: Option<Timestamp>, received_at: Timestamp) -> Skew {
        Skew::between(message_sent_at.or(self.sent_at), received_at)
    }
}

/// Unlike ids, a key that is a number is a mistake.
fn key(raw: Option<&RawValue>) -> Result<Option<String>, Reject> {
    match raw.map(RawValue::get) {
        Some(json) if !json.starts_with(['"', 'n']) => Err(Reject::NotAString { field: "writeKey" }),
        _ => text(raw, "writeKey"),
    }
}

fn list(batch: Option<&RawValue>) -> Result<Vec<&RawValue>, Reject> {
    let batch = batch.ok_or(Reject::NotAList { field: "batch" })?;
    serde_json::from_str(batch.get()).map_err(|_| Reject::NotAList { field: "batch" })
}
