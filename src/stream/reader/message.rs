//! What a reader hands out: messages as the stream stored them, in batches that say how far they reach.

use async_nats::{
    Subject,
    header::{HeaderMap, HeaderName, NATS_MESSAGE_ID},
};
use bytes::Bytes;

use crate::event::{ids::StreamSequence, time::Timestamp};

const CONTENT_TYPE: HeaderName = HeaderName::from_static("Content-Type");
const CONTENT_TYPE_LENGTH: usize = "Content-Type".len();
const MESSAGE_PACK: &str = "application/msgpack";

/// A message as the stream stored it.
#[derive(Clone, Debug)]
pub struct RawMessage {
    /// The stored subject.
    pub subject: Subject,
    /// The body.
    pub payload: Bytes,
    /// The headers, if it came with any.
    pub headers: Option<HeaderMap>,
    /// Its place in the stream.
    pub sequence: StreamSequence,
    /// When the server stored it.
    pub stored_at: Timestamp,
    /// How many messages of the filter the server still held behind it.
    pub pending: u64,
}

impl RawMessage {
    /// The `Nats-Msg-Id` header.
    pub fn message_id(&self) -> Option<&str> {
        Some(self.headers.as_ref()?.get(NATS_MESSAGE_ID)?.as_str())
    }

    /// The body is MessagePack rather than JSON.
    pub fn is_message_pack(&self) -> bool {
        let Some(headers) = &self.headers else { return false };
        // Nearly all messages carry an id and nothing else: their headers' lengths tell, and nothing need be hashed.
        if headers.iter().all(|(name, _)| AsRef::<[u8]>::as_ref(name).len() != CONTENT_TYPE_LENGTH) {
            return false;
        }
        let value = headers.get(CONTENT_TYPE).or_else(|| {
            let is_named = |name: &HeaderName| AsRef::<str>::as_ref(name).eq_ignore_ascii_case("content-type");
            headers.iter().find(|(name, _)| is_named(name))?.1.first()
        });
        value.is_some_and(|value| {
            let media_type = value.as_str().split(';').next().unwrap_or_default();
            media_type.trim().eq_ignore_ascii_case(MESSAGE_PACK)
        })
    }
}

/// What a reader hands out at a time; empty when there was nothing for a second, and once a consumer is there.
#[derive(Debug, Default)]
pub struct ReadBatch {
    /// In the stream's order.
    pub messages: Vec<RawMessage>,
    /// Everything of the filter up to here has been handed out, this batch included.
    pub position: StreamSequence,
    /// Set when nothing is pending: the position up to which the reader knows that.
    pub caught_up_to: Option<StreamSequence>,
    /// How many messages of the filter the server holds behind this batch, as far as known; nothing before it has told.
    pub pending: Option<u64>,
    /// When the server was asked that last said nothing was left: what had been stored then was handed out before or is in
    /// this batch.
    pub told: Option<tokio::time::Instant>,
}
