//! The rollback guard: is the stream still the one whose messages Postgres has accounted for?
//!
//! JetStream acknowledges before fsync by default, and a stream can be deleted or restored. Then sequences at or below
//! the watermark may be missing, or stand for other messages, and reading on would skip what took their place.

use super::{super::StreamError, Source, StreamFacts};
use crate::event::{ids::StreamSequence, time::Timestamp};

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
pub async fn check_rollback<S: Source>(
    source: &S,
    stream: &str,
    watermark: StreamSequence,
    watermark_time: Option<Timestamp>,
    stream_created: Option<Timestamp>,
) -> Result<Guard, StreamError> {
    let facts = source.stream_facts(stream).await?;
    let witness = Witness { sequence: watermark.0, stored_at: watermark_time, created: stream_created };
    examine(source, stream, facts, witness).await
}

/// Reads the message from the stream's leader: a follower that lags must not look like a truncated stream.
pub(super) async fn examine<S: Source>(
    source: &S,
    stream: &str,
    facts: StreamFacts,
    witness: Witness,
) -> Result<Guard, StreamError> {
    let created = facts.created;
    if witness.sequence > 0 && witness.created.is_some_and(|known| known != created) {
        return Ok(Guard::StreamRecreated { created });
    }
    if facts.last < witness.sequence {
        return Ok(Guard::Truncated { last: StreamSequence(facts.last) });
    }
    let Some(expected) = witness.stored_at else { return Ok(Guard::Fine { created }) };
    if witness.sequence < facts.first {
        return Ok(Guard::Fine { created });
    }
    match source.stored_time(stream, witness.sequence).await? {
        Some(found) if found != expected => Ok(Guard::Rewritten { found, expected }),
        Some(_) | None => Ok(Guard::Fine { created }),
    }
}

/// The last sequence whose message was stored before an instant; 0 if none was.
pub async fn last_before<S: Source>(
    source: &S,
    stream: &str,
    instant: Timestamp,
) -> Result<StreamSequence, StreamError> {
    let facts = source.stream_facts(stream).await?;
    let (mut before, mut after) = (facts.first.saturating_sub(1), facts.last);
    while before < after {
        let middle = before + (after - before).div_ceil(2);
        // An erased message says nothing of its time: to stand further back is always safe.
        match source.stored_time(stream, middle).await? {
            Some(stored_at) if stored_at < instant => before = middle,
            Some(_) | None => after = middle - 1,
        }
    }
    Ok(StreamSequence(before))
}
