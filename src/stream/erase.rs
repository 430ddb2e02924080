//! Erasing messages: each by its sequence, so that the server overwrites its bytes. A purge by subject only marks them.
//!
//! Messages of a subject are looked up one by one, by requests that leave nothing behind; a consumer's filter would stand
//! in the cluster's log, with the customer in it. The server answers from the stream's leader.

use std::time::Duration;

use async_nats::{HeaderMap, header, jetstream::Context};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    DEAD, RISK_BUCKET, RISK_STREAM, StreamError, WEBHOOKS, api,
    publisher::{Outgoing, PublishError, Publisher},
    reader::{RawMessage, Reader, ReaderConfig, ReaderError},
    risk_kv::{self, RiskValue},
};
use crate::event::{
    ids::{AccountId, StreamSequence},
    subject::webhook_subject,
};

const NO_MESSAGE: u64 = 10_037;
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Nothing {}

/// The first message of a subject, which may hold wildcards, from a sequence on.
pub async fn next_of(
    context: &Context,
    stream: &str,
    subject: &str,
    from: StreamSequence,
) -> Result<Option<StreamSequence>, StreamError> {
    look_up(context, stream, &json!({ "seq": from.0.max(1), "next_by_subj": subject })).await
}

async fn look_up(context: &Context, stream: &str, which: &Value) -> Result<Option<StreamSequence>, StreamError> {
    #[derive(Deserialize)]
    struct Answer {
        message: Stored,
    }
    #[derive(Deserialize)]
    struct Stored {
        seq: u64,
    }
    match api::request::<_, Answer>(context, &format!("STREAM.MSG.GET.{stream}"), stream, which).await {
        Ok(answer) => Ok(Some(StreamSequence(answer.message.seq))),
        Err(StreamError::Refused { code: NO_MESSAGE, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Overwrites one message; `false` if there was none.
pub async fn erase(context: &Context, stream: &str, sequence: StreamSequence) -> Result<bool, StreamError> {
    let body = json!({ "seq": sequence.0, "no_erase": false });
    match api::request::<_, Nothing>(context, &format!("STREAM.MSG.DELETE.{stream}"), stream, &body).await {
        Ok(Nothing {}) => Ok(true),
        // The codes for what is not there are several, and shared with other failures.
        Err(StreamError::Refused { .. })
            if look_up(context, stream, &json!({ "seq": sequence.0 })).await?.is_none() =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The subjects of messages, as far as there are any.
pub async fn subjects_of(
    context: &Context,
    stream: &str,
    sequences: &[StreamSequence],
) -> Result<Vec<(StreamSequence, String)>, StreamError> {
    #[derive(Deserialize)]
    struct Answer {
        message: Stored,
    }
    #[derive(Deserialize)]
    struct Stored {
        subject: String,
    }
    let mut found = Vec::new();
    for sequence in sequences {
        let (what, which) = (format!("STREAM.MSG.GET.{stream}"), json!({ "seq": sequence.0 }));
        match api::request::<_, Answer>(context, &what, stream, &which).await {
            Ok(answer) => found.push((*sequence, answer.message.subject)),
            Err(StreamError::Refused { code: NO_MESSAGE, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Overwrites many messages, one after the other: each takes the server milliseconds in which it stores nothing. Says how
/// many there were.
pub async fn erase_all(context: &Context, stream: &str, sequences: &[StreamSequence]) -> Result<u64, StreamError> {
    let mut count = 0;
    for sequence in sequences {
        count += u64::from(erase(context, stream, *sequence).await?);
    }
    Ok(count)
}

/// The messages of a subject up to a sequence, and the first one behind it.
pub async fn sequences_of(
    context: &Context,
    stream: &str,
    subject: &str,
    upto: StreamSequence,
) -> Result<(Vec<StreamSequence>, Option<StreamSequence>), StreamError> {
    let mut sequences = Vec::new();
    let mut from = StreamSequence(1);
    while let Some(sequence) = next_of(context, stream, subject, from).await? {
        if sequence > upto {
            return Ok((sequences, Some(sequence)));
        }
        sequences.push(sequence);
        from = StreamSequence(sequence.0 + 1);
    }
    Ok((sequences, None))
}

/// The last sequence of a stream.
pub async fn last_sequence(context: &Context, stream: &str) -> Result<StreamSequence, StreamError> {
    Ok(StreamSequence(api::stream_info(context, stream).await?.state.last_seq))
}

/// Shows all messages of a place, but for those that come meanwhile.
pub async fn search(
    context: &Context,
    place: Place<'_>,
    see: impl FnMut(&RawMessage) + Send,
) -> Result<(), StreamError> {
    let (stream, subject) = place.stream_and_subject();
    let last = last_sequence(context, stream).await?;
    let name = format!("churnd-search-{}", uuid::Uuid::new_v4().simple());
    let mut config = ReaderConfig::new(name, StreamSequence(0));
    config.filter = Some(subject);
    // Where nothing is found, a heartbeat tells that there is nothing.
    config.heartbeat = HEARTBEAT;
    let mut reader = Reader::open(context, stream, config);
    let (mut see, mut done) = (see, last == StreamSequence(0));
    while !done {
        match reader.next_batch().await {
            Ok(batch) => {
                done = batch.caught_up_to.is_some() || batch.position >= last;
                batch.messages.iter().for_each(&mut see);
                reader.recycle(batch.messages);
            }
            // Messages are deleted meanwhile, the oldest too.
            Err(ReaderError::Overtaken { .. }) => {}
            Err(ReaderError::Stream(error)) => return Err(error),
            Err(error) => return Err(StreamError::unavailable(format!("searching {stream}"), error)),
        }
    }
    reader.close().await;
    Ok(())
}

/// Messages whose subjects do not tell whom they name.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// Stripe's webhooks of an account.
    Webhooks(&'a AccountId),
    /// An account's dead letters, some of which stand under a wrong customer's subject, or under nobody's.
    Letters(&'a AccountId),
}

impl Place<'_> {
    fn stream_and_subject(self) -> (&'static str, String) {
        match self {
            Self::Webhooks(account) => (WEBHOOKS, webhook_subject(account)),
            Self::Letters(account) => (DEAD, format!("churn.dead.{account}.*")),
        }
    }
}

/// Up to where a durable consumer has acknowledged everything; nothing if there is no such consumer.
pub async fn acknowledged(
    context: &Context,
    stream: &str,
    consumer: &str,
) -> Result<Option<StreamSequence>, StreamError> {
    #[derive(Deserialize)]
    struct Consumer {
        delivered: Position,
        ack_floor: Position,
        num_ack_pending: u64,
        num_pending: u64,
    }
    #[derive(Deserialize)]
    struct Position {
        stream_seq: u64,
    }
    const NO_CONSUMER: u64 = 10_014;
    let what = format!("CONSUMER.INFO.{stream}.{consumer}");
    match api::request::<_, Consumer>(context, &what, stream, &json!({})).await {
        Ok(info) if info.num_pending == 0 && info.num_ack_pending == 0 => {
            Ok(Some(StreamSequence(info.delivered.stream_seq.max(info.ack_floor.stream_seq))))
        }
        Ok(info) => Ok(Some(StreamSequence(info.ack_floor.stream_seq))),
        Err(StreamError::Refused { code: NO_CONSUMER, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Empties the risk bucket, files and all: nothing else rids it of entries that newer ones have replaced, because the
/// server only marks those. It is to be filled again by [`fill_bucket`].
pub async fn empty_bucket(context: &Context) -> Result<(), StreamError> {
    let subject = format!("STREAM.PURGE.{RISK_STREAM}");
    api::request::<_, Nothing>(context, &subject, RISK_STREAM, &Value::Null).await.map(|Nothing {}| ())
}

/// A customer's entry, to be put into the bucket only if there is none.
pub fn entry_if_absent(account: &AccountId, token: &str, value: &RiskValue) -> Outgoing {
    let mut absent = HeaderMap::new();
    absent.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    risk_kv::entry(account.as_str(), token, value).with_headers(absent)
}

/// Puts entries into the bucket whose customers have none: what was put since is newer.
pub async fn fill_bucket(publisher: &Publisher, entries: Vec<Outgoing>) -> Result<(), PublishError> {
    for result in publisher.publish_all(entries).await {
        match result {
            // Refused because there is one.
            Ok(_) | Err(PublishError::Outdated { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The subject of a customer's entry in the bucket.
pub fn bucket_subject(account: &AccountId, token: &str) -> String {
    format!("$KV.{RISK_BUCKET}.{account}.{token}")
}
