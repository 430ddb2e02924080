//! Publishing with confirmation: nothing counts as published before the stream's PubAck.
//!
//! Many publishes are under way at once, never more than the window. Every future that holds a place in the window is
//! polled until it gives the place back: holding un-awaited ack futures beyond the client's limit would be a deadlock.
//! Time-outs, missing responders and broken connections are tried again until the caller's patience ends, so a message
//! may be stored twice unless it carries a message id (within the stream's duplicate window).

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, Subject,
    header::{HeaderMap, HeaderValue, NATS_MESSAGE_ID},
    jetstream::{
        self, Context, ErrorCode,
        context::{ContextBuilder, PublishErrorKind},
        publish::PublishAck,
    },
};
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt, TryStreamExt as _, future::BoxFuture, stream};
use tokio::{
    sync::Semaphore,
    time::{Instant, error::Elapsed},
};
use tracing::debug;

use super::{BoxError, backoff::Backoff, risk_kv};
use crate::event::ids::{AccountId, StreamSequence};

/// How many publishes wait for their PubAck at once; measured: any window from 256 on is as fast.
pub const DEFAULT_WINDOW: usize = 512;
/// How long a publish is tried by default.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where to.
    pub subject: Subject,
    /// The body.
    pub payload: Bytes,
    /// Headers besides the message id.
    pub headers: Option<HeaderMap>,
    /// `Nats-Msg-Id`: within its duplicate window the stream stores a message of this id once.
    pub message_id: Option<String>,
}

impl Outgoing {
    /// A message without headers.
    pub fn new(subject: impl Into<Subject>, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), payload: payload.into(), headers: None, message_id: None }
    }

    /// The same message with an id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = Some(id.into());
        self
    }

    /// The same message with headers.
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = Some(headers);
        self
    }

    /// The headers with the message id, which must be fit for one.
    fn all_headers(&self) -> Result<Option<HeaderMap>, PublishError> {
        let Some(id) = &self.message_id else { return Ok(self.headers.clone()) };
        let mut headers = self.headers.clone().unwrap_or_default();
        let id: HeaderValue = id.parse().map_err(|_| PublishError::Refused {
            subject: self.subject.to_string(),
            description: "its message id holds a line break".to_owned(),
        })?;
        headers.insert(NATS_MESSAGE_ID, id);
        Ok(Some(headers))
    }
}

/// The stream's confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubAck {
    /// The stream that stored the message.
    pub stream: String,
    /// The message's place in it.
    pub sequence: StreamSequence,
    /// The stream had the message already.
    pub duplicate: bool,
}

/// Why a message was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The subject is taken for ever, as alerts are: the message arrived earlier. Success, for those who repeat.
    #[error("a message with the subject {subject} is there already")]
    AlreadyThere {
        /// The whole subject.
        subject: String,
    },
    /// Another message stands under the subject than the one that was expected.
    #[error("another message than expected stands under {subject}")]
    Outdated {
        /// The whole subject.
        subject: String,
    },
    /// No stream takes the subject, or nobody answered, until the caller's patience ended.
    #[error("nats did not confirm a message to {subject} in time")]
    Unconfirmed {
        /// The whole subject.
        subject: String,
        /// What the last attempt ended with.
        #[source]
        source: BoxError,
    },
    /// The stream has reached its size limit and refuses what is new.
    #[error("the stream is full; it refused a message to {subject}: {description}")]
    Full {
        /// The whole subject.
        subject: String,
        /// The server's own words.
        description: String,
    },
    /// The message is larger than the server or the stream takes.
    #[error("a message of {bytes} bytes to {subject} is too large")]
    TooLarge {
        /// The whole subject.
        subject: String,
        /// The body's size.
        bytes: usize,
    },
    /// The server refused the message for another reason, or confirmed something else.
    #[error("nats refused a message to {subject}: {description}")]
    Refused {
        /// The whole subject.
        subject: String,
        /// The server's own words.
        description: String,
    },
}

impl PublishError {
    /// What happened, without the subject: subjects name customers, and logs must not.
    pub fn reason(&self) -> String {
        match self {
            Self::AlreadyThere { .. } => "a message with this subject is there already".to_owned(),
            Self::Outdated { .. } => "another message than expected stands under its subject".to_owned(),
            Self::Unconfirmed { source, .. } => format!("nats did not confirm it in time: {source}"),
            Self::Full { description, .. } => format!("the stream is full: {description}"),
            Self::TooLarge { bytes, .. } => format!("its {bytes} bytes are too many"),
            Self::Refused { description, .. } => format!("nats refused it: {description}"),
        }
    }

    /// The same publish may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unconfirmed { .. } | Self::Full { .. })
    }
}

/// Publishes over one connection; cheap to clone, and all clones share the window.
#[derive(Clone, Debug)]
pub struct Publisher {
    context: Context,
    window: Arc<Semaphore>,
    size: usize,
    patience: Duration,
}

/// Somebody who publishes: a [`Publisher`], or a simulation.
pub trait Publish: Send + Sync {
    /// See [`Publisher::publish_all`].
    fn publish_all(&self, messages: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<PubAck, PublishError>>>;
    /// The most bytes that a message may have, headers included.
    fn max_payload(&self) -> usize;
    /// The revisions of customers' entries in the risk bucket, 0 where there is none; `None` where that is not kept.
    fn risk_revisions(
        &self,
        keys: Vec<(AccountId, Box<str>)>,
    ) -> BoxFuture<'_, Result<Vec<Option<u64>>, PublishError>> {
        async move { Ok(vec![None; keys.len()]) }.boxed()
    }
}

impl Publish for Publisher {
    fn publish_all(&self, messages: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<PubAck, PublishError>>> {
        Self::publish_all(self, messages).boxed()
    }

    fn max_payload(&self) -> usize {
        self.context.client().max_payload()
    }

    fn risk_revisions(
        &self,
        keys: Vec<(AccountId, Box<str>)>,
    ) -> BoxFuture<'_, Result<Vec<Option<u64>>, PublishError>> {
        let revisions = stream::iter(keys).map(|(account, token)| self.risk_revision(account, token));
        revisions.buffered(self.size).try_collect().boxed()
    }
}

impl Publisher {
    /// Publishes over `client` with at most `window` messages under way.
    pub fn new(client: Client, window: usize) -> Self {
        let size = window.max(1);
        // The window is the only brake. The client's own limit must not be reached: cancelled publishes keep their
        // permits until the ack comes or times out, so it is set to twice as many.
        let context = ContextBuilder::new()
            .timeout(ACK_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(size * 2)
            .build(client);
        Self { context, window: Arc::new(Semaphore::new(size)), size, patience: DEFAULT_PATIENCE }
    }

    /// The same publisher with another patience.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The JetStream context that it publishes through.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Publishes one message and waits until it is stored, as long as the publisher's patience lasts.
    pub async fn publish(&self, message: Outgoing) -> Result<PubAck, PublishError> {
        self.publish_until(&message, Instant::now() + self.patience).await
    }

    /// Publishes one message and waits until it is stored, but not beyond `deadline`.
    pub async fn publish_until(&self, message: &Outgoing, deadline: Instant) -> Result<PubAck, PublishError> {
        let late =
            |late: Elapsed| PublishError::Unconfirmed { subject: message.subject.to_string(), source: late.into() };
        let place = tokio::time::timeout_at(deadline, self.window.acquire()).await.map_err(late)?;
        let _place = place.expect("the window is never closed");
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let error = match tokio::time::timeout_at(deadline, self.attempt(message)).await {
                Ok(Ok(ack)) => return Ok(ack),
                Ok(Err(error)) => error,
                Err(elapsed) => late(elapsed),
            };
            let pause = backoff.next_wait();
            if !matches!(error, PublishError::Unconfirmed { .. }) || Instant::now() + pause >= deadline {
                return Err(error);
            }
            debug!(subject = %message.subject, error = %error, "publishing again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Publishes all messages, each sent in the given order and up to a window of them under way at once; the results
    /// come in the same order. A message that had to be tried again may be stored after later ones.
    pub async fn publish_all<I>(&self, messages: I) -> Vec<Result<PubAck, PublishError>>
    where
        I: IntoIterator<Item = Outgoing>,
        I::IntoIter: Send,
    {
        self.pipeline(stream::iter(messages)).collect().await
    }

    /// Like [`Self::publish_all`], for any stream of messages and with each result as it comes, in order.
    pub fn pipeline<'a, S>(&'a self, messages: S) -> impl Stream<Item = Result<PubAck, PublishError>> + Send + 'a
    where
        S: Stream<Item = Outgoing> + Send + 'a,
    {
        messages.map(move |message| self.publish(message)).buffered(self.size)
    }

    /// Looks an entry's revision up, as long as the publisher's patience lasts.
    async fn risk_revision(&self, account: AccountId, token: Box<str>) -> Result<Option<u64>, PublishError> {
        let deadline = Instant::now() + self.patience;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let client = self.context.client();
        loop {
            let look = risk_kv::revision(&client, account.as_str(), &token);
            let source = match tokio::time::timeout(ACK_TIMEOUT, look).await {
                Ok(Ok(revision)) => return Ok(Some(revision)),
                Ok(Err(error)) => error,
                Err(elapsed) => elapsed.into(),
            };
            let pause = backoff.next_wait();
            if Instant::now() + pause >= deadline {
                return Err(PublishError::Unconfirmed { subject: format!("{account}.{token}"), source });
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, message: &Outgoing) -> Result<PubAck, PublishError> {
        let (subject, payload) = (message.subject.clone(), message.payload.clone());
        let sent = match message.all_headers()? {
            Some(headers) => self.context.publish_with_headers(subject, headers, payload).await,
            None => self.context.publish(subject, payload).await,
        };
        let answer = match sent {
            Ok(confirmation) => confirmation.await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(ack) => checked(message, ack),
            Err(error) => Err(classified(message, error)),
        }
    }
}

/// A confirmation must name a stream and a place in it.
fn checked(message: &Outgoing, ack: PublishAck) -> Result<PubAck, PublishError> {
    if ack.stream.is_empty() || ack.sequence == 0 {
        let description = format!("it confirmed stream `{}`, sequence {}", ack.stream, ack.sequence);
        return Err(PublishError::Refused { subject: message.subject.to_string(), description });
    }
    Ok(PubAck { stream: ack.stream, sequence: StreamSequence(ack.sequence), duplicate: ack.duplicate })
}

fn classified(message: &Outgoing, error: jetstream::context::PublishError) -> PublishError {
    let subject = message.subject.to_string();
    let bytes = message.payload.len();
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => PublishError::TooLarge { subject, bytes },
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => PublishError::Unconfirmed { subject, source: error.into() },
        PublishErrorKind::WrongLastSequence => PublishError::Outdated { subject },
        PublishErrorKind::WrongLastMessageId => PublishError::Refused { subject, description: error.to_string() },
        PublishErrorKind::Other => match refusal(&error) {
            Some(refusal) => refused(subject, bytes, refusal),
            None => PublishError::Unconfirmed { subject, source: error.into() },
        },
    }
}

fn refusal(error: &jetstream::context::PublishError) -> Option<&jetstream::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// The server gives one code to all that its store refuses; only the words tell the cases apart.
fn refused(subject: String, bytes: usize, error: &jetstream::Error) -> PublishError {
    let description = error.to_string();
    match error.error_code() {
        ErrorCode::STREAM_STORE_FAILED if description.contains("per subject") => PublishError::AlreadyThere { subject },
        ErrorCode::STREAM_STORE_FAILED if description.contains("exceeded") => {
            PublishError::Full { subject, description }
        }
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            PublishError::TooLarge { subject, bytes }
        }
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            PublishError::Outdated { subject }
        }
        // A cluster decides about the same message at this moment; or its leader cannot write, and another one may.
        ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT | ErrorCode::STREAM_STORE_FAILED => {
            PublishError::Unconfirmed { subject, source: error.clone().into() }
        }
        _ if error.code() == 503 => PublishError::Unconfirmed { subject, source: error.clone().into() },
        _ => PublishError::Refused { subject, description },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_refuses_for_the_moment_only_is_tried_again() {
        let cases = [
            (400, 10_158, "duplicate message id is in process", "did not confirm"),
            (503, 10_077, "no space left on device", "did not confirm"),
            (503, 10_008, "JetStream system temporarily unavailable", "did not confirm"),
            (503, 10_077, "maximum bytes exceeded", "is full"),
            (503, 10_077, "maximum messages per subject exceeded", "is there already"),
            (400, 10_071, "wrong last sequence: 7", "another message than expected"),
            (400, 10_164, "wrong last sequence", "another message than expected"),
            (400, 10_054, "message size exceeds maximum allowed", "too large"),
            (400, 10_055, "invalid", "refused"),
        ];
        for (code, err_code, description, expected) in cases {
            let error = serde_json::json!({"code": code, "err_code": err_code, "description": description});
            let error: jetstream::Error = serde_json::from_value(error).unwrap();
            let said = super::refused("a.subject".to_owned(), 1, &error).to_string();
            assert!(said.contains(expected), "{description}: {said}");
        }
    }
}
