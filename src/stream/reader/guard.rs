//! The rollback guard: is the stream still the one whose messages Postgres has accounted for?
//!
//! JetStream acknowledges before fsync by default, and a stream can be deleted or restored. Then sequences at or below
//! the watermark may be missing, or stand for other messages, and reading on would skip what took their place.

use async_nats::jetstream::Context;
use serde::Deserialize;

use super::super::{
    StreamError,
    api::{self, StreamInfo},
};
use crate::event::{ids::StreamSequence, time::Timestamp};

const NO_MESSAGE_FOUND: u64 = 10_037;

/// What the guard found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing speaks against reading on after the watermark.
    Fine {
        /// When the stream was created: to be stored beside the watermark.
        created: Timestamp,
    },
    /// The stream was created after the watermark was stored: its sequences start anew.
    StreamRecreated {
        /// When it was created.
        created: Timestamp,
    },
    /// The stream ends before the watermark.
    Truncated {
        /// The stream's last sequence.
        last: StreamSequence,
    },
    /// The message at the watermark is another than the one that was accounted for.
    Rewritten {
        /// When the message that stands there now was stored.
        found: Timestamp,
        /// When the one that was accounted for was stored.
        expected: Timestamp,
    },
}

/// What is known of the last message that was accounted for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Witness {
    pub(super) sequence: u64,
    pub(super) stored_at: Option<Timestamp>,
    pub(super) created: Option<Timestamp>,
}

/// Compares a stream with what was stored beside the watermark. A message that was erased or has expired proves nothing.
pub async fn check_rollback(
    context: &Context,
    stream: &str,
    watermark: StreamSequence,
    watermark_time: Option<Timestamp>,
    stream_created: Option<Timestamp>,
) -> Result<Guard, StreamError> {
    let info = api::stream_info(context, stream).await?;
    let witness = Witness { sequence: watermark.0, stored_at: watermark_time, created: stream_created };
    examine(context, stream, &info, witness).await
}

/// Reads the message from the stream's leader: a follower that lags must not look like a truncated stream.
pub(super) async fn examine(
    context: &Context,
    stream: &str,
    info: &StreamInfo,
    witness: Witness,
) -> Result<Guard, StreamError> {
    let created = info.created;
    if witness.sequence > 0 && witness.created.is_some_and(|known| known != created) {
        return Ok(Guard::StreamRecreated { created });
    }
    if info.state.last_seq < witness.sequence {
        return Ok(Guard::Truncated { last: StreamSequence(info.state.last_seq) });
    }
    let Some(expected) = witness.stored_at else { return Ok(Guard::Fine { created }) };
    if witness.sequence < info.state.first_seq {
        return Ok(Guard::Fine { created });
    }
    match stored_time(context, stream, witness.sequence).await? {
        Some(found) if found != expected => Ok(Guard::Rewritten { found, expected }),
        Some(_) | None => Ok(Guard::Fine { created }),
    }
}

/// When the message with this sequence was stored; `None` if there is none.
async fn stored_time(context: &Context, stream: &str, sequence: u64) -> Result<Option<Timestamp>, StreamError> {
    #[derive(Deserialize)]
    struct Answer {
        message: Stored,
    }
    #[derive(Deserialize)]
    struct Stored {
        time: Timestamp,
    }
    let body = serde_json::json!({ "seq": sequence });
    match api::request::<_, Answer>(context, &format!("STREAM.MSG.GET.{stream}"), stream, &body).await {
        Ok(answer) => Ok(Some(answer.message.time)),
        Err(StreamError::Refused { code: NO_MESSAGE_FOUND, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
