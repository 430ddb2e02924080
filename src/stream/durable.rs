//! A durable consumer with explicit acknowledgement, for work that may be done twice: each message is handled, then
//! acknowledged, and comes again if it was not.

use std::{future::Future, time::Duration};

use async_nats::jetstream::{
    AckKind, Context, Message,
    consumer::{AckPolicy, PullConsumer, pull},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{StreamError, backoff::Backoff};
use crate::event::{ids::StreamSequence, time::Timestamp};

/// How long a message may be worked on before it is given out again.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// How many messages may be worked on at once, by all instances together.
const UNACKED_AT_MOST: i64 = 1_024;
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A message to be worked on.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The whole subject.
    pub subject: String,
    /// The body.
    pub payload: Bytes,
    /// The headers, if it came with any.
    pub headers: Option<async_nats::HeaderMap>,
    /// Its place in the stream.
    pub sequence: StreamSequence,
    /// When the server stored it.
    pub stored_at: Timestamp,
}

/// What becomes of a message that was worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done with.
    Done,
    /// It must come again after this long.
    Again(Duration),
}

/// Hands every message of a stream to `work`, `at_once` of them at a time, until `stop`. Never ends by itself.
pub async fn consume<Work, Working>(
    context: &Context,
    stream: &str,
    name: &str,
    at_once: usize,
    stop: CancellationToken,
    work: Work,
) where
    Work: Fn(Delivery) -> Working + Sync,
    Working: Future<Output = Verdict> + Send,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while !stop.is_cancelled() {
        match open(context, stream, name).await {
            Ok(messages) => {
                backoff.reset();
                drain(messages, at_once, &stop, &work).await;
            }
            Err(error) => warn!(stream, consumer = name, "cannot read {stream}, trying again: {error}"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

async fn open(context: &Context, stream: &str, name: &str) -> Result<pull::Stream, StreamError> {
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: UNACKED_AT_MOST,
        ..pull::Config::default()
    };
    let what = "open a consumer";
    let consumer: PullConsumer = context
        .create_consumer_on_stream(config, stream)
        .await
        .map_err(|error| StreamError::unavailable(what, error))?;
    consumer
        .stream()
        .max_messages_per_batch(256)
        .heartbeat(HEARTBEAT)
        .messages()
        .await
        .map_err(|error| StreamError::unavailable(what, error))
}

/// Works until the consumer is lost or `stop`.
async fn drain<Work, Working>(mut messages: pull::Stream, at_once: usize, stop: &CancellationToken, work: &Work)
where
    Work: Fn(Delivery) -> Working + Sync,
    Working: Future<Output = Verdict> + Send,
{
    let mut working = futures_util::stream::FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = working.next() => {}
            () = stop.cancelled() => break,
            message = messages.next(), if working.len() < at_once => match message {
                Some(Ok(message)) => working.push(work_on(message, work)),
                Some(Err(error)) => {
                    debug!("the consumer must be opened again: {error}");
                    break;
                }
                None => break,
            },
        }
    }
    while working.next().await.is_some() {}
}

async fn work_on<Work, Working>(message: Message, work: &Work)
where
    Work: Fn(Delivery) -> Working + Sync,
    Working: Future<Output = Verdict> + Send,
{
    let (sequence, stored_at) = match message.info() {
        Ok(info) => (
            StreamSequence(info.stream_sequence),
            Timestamp::from_millis(
                i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
            ),
        ),
        Err(error) => {
            warn!("a message came without its place in the stream: {error}");
            return;
        }
    };
    let delivery = Delivery {
        subject: message.subject.to_string(),
        payload: message.payload.clone(),
        headers: message.headers.clone(),
        sequence,
        stored_at,
    };
    let answer = match work(delivery).await {
        Verdict::Done => AckKind::Ack,
        Verdict::Again(after) => AckKind::Nak(Some(after)),
    };
    if let Err(error) = message.ack_with(answer).await {
        debug!("an acknowledgement was lost, the message will come again: {error}");
    }
}
