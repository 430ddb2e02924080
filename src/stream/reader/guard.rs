//! The rollback guard: is the stream still the one whose messages Postgres has accounted for?
//!
//! JetStream acknowledges before fsync by default, and a stream can be deleted or restored. Then sequences at or below
//! the watermark may be missing, or stand for other messages, and reading on would skip what took their place.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{super::StreamError, Source, StreamFacts};
use crate::event::{ids::StreamSequence, time::Timestamp};

/// How often a stream that seems shorter than it was is asked again.
const SECOND_LOOKS: u32 = 4;
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(500);
/// How many messages are asked for at a time.
const COMPARED_AT_ONCE: usize = 16;

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
    /// The stream ends before what was accounted for.
    Truncated {
        /// The stream's last sequence.
        last: StreamSequence,
        /// When a message was stored that was accounted for before the stream was cut: the newest that is missing, else the
        /// oldest that is known.
        expected: Option<Timestamp>,
    },
    /// Where a message was accounted for stands another one.
    Rewritten {
        /// When the message that stands there now was stored.
        found: Timestamp,
        /// When the one that was accounted for was stored.
        expected: Timestamp,
    },
}

/// What was accounted for of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounted {
    /// Everything up to it.
    pub watermark: StreamSequence,
    /// Messages that are known to be accounted for, by whomever, and when each was stored: who reads by a filter moves its
    /// watermark past messages that it never sees.
    pub messages: Vec<(StreamSequence, Timestamp)>,
    /// When the stream was created that this counts in.
    pub stream_created: Option<Timestamp>,
}

/// Compares a stream with what was accounted for. A message that was erased or has expired proves nothing.
pub async fn check_rollback<S: Source>(source: &S, stream: &str, accounted: Accounted) -> Result<Guard, StreamError> {
    Ok(look(source, stream, &accounted).await?.1)
}

/// What the stream's leader says of it, and what follows from that: a follower that lags must not look like a truncated
/// stream, nor must a new leader that is still applying its log.
pub(super) async fn look<S: Source>(
    source: &S,
    name: &str,
    accounted: &Accounted,
) -> Result<(StreamFacts, Guard), StreamError> {
    let mut looks = 0;
    loop {
        let facts = source.stream_facts(name).await?;
        let found = examine(source, name, facts, accounted).await?;
        if looks == SECOND_LOOKS || !matches!(found, Guard::Truncated { .. }) {
            return Ok((facts, found));
        }
        looks += 1;
        tokio::time::sleep(SECOND_LOOK_AFTER).await;
    }
}

async fn examine<S: Source>(
    source: &S,
    name: &str,
    facts: StreamFacts,
    accounted: &Accounted,
) -> Result<Guard, StreamError> {
    let created = facts.created;
    let mut messages = accounted.messages.clone();
    messages.sort_unstable();
    messages.dedup();
    let newest = accounted.watermark.max(messages.last().map_or(StreamSequence(0), |(sequence, _)| *sequence));
    if newest.0 > 0 && accounted.stream_created.is_some_and(|known| known != created) {
        return Ok(Guard::StreamRecreated { created });
    }
    if facts.last < newest.0 {
        let missing = messages.iter().rfind(|(sequence, _)| sequence.0 > facts.last);
        let expected = missing.or(messages.first()).map(|(_, stored_at)| *stored_at);
        return Ok(Guard::Truncated { last: StreamSequence(facts.last), expected });
    }
    // Who did not notice may have accounted for messages of the stream as it is by now: each is compared, newest first.
    messages.retain(|(sequence, _)| sequence.0 >= facts.first);
    let mut answers = stream::iter(messages.into_iter().rev())
        .map(async |(sequence, expected)| Ok((source.stored_time(name, sequence.0).await?, expected)))
        .buffered(COMPARED_AT_ONCE);
    while let Some((found, expected)) = answers.try_next().await? {
        if let Some(found) = found.filter(|found| *found != expected) {
            return Ok(Guard::Rewritten { found, expected });
        }
    }
    Ok(Guard::Fine { created })
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
