//! One consumer's subscription: keeps pull requests standing, and sorts what arrives.
//!
//! Speaks to the subscription itself instead of async-nats' pull stream: nothing is cloned or allocated per message, and
//! the heartbeats, which say how far the consumer has looked, are not hidden.

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use async_nats::{Message, StatusCode, Subject, header::HeaderMap, jetstream::consumer::pull};
use futures_util::{FutureExt, Stream as _, future::BoxFuture};
use tokio::time::Instant;
use tracing::debug;

use super::{
    super::{BoxError, ConnectionEpoch, StreamError},
    RawMessage, ReaderConfig, Reseek, Source,
    reply::Delivery,
};
use crate::event::ids::StreamSequence;

const LAST_CONSUMER: &str = "Nats-Last-Consumer";
const LAST_STREAM: &str = "Nats-Last-Stream";
const PENDING_MESSAGES: &str = "Nats-Pending-Messages";

/// What a session has to say.
pub(super) enum Incoming {
    Message(RawMessage),
    /// Everything of the filter up to this stream sequence has been received.
    Scanned(u64),
    Lost(Reseek),
}

/// A consumer being read.
pub(super) struct Session<S: Source> {
    source: S,
    connection: ConnectionEpoch,
    connects: u64,
    consumer: S::Consumer,
    name: String,
    inbox: Subject,
    subscriber: S::Inbox,
    skips_gaps: bool,
    pull: pull::BatchConfig,
    /// Messages that were requested and have neither come nor been called off.
    outstanding: usize,
    request: Option<BoxFuture<'static, Result<(), BoxError>>>,
    sequence: u64,
    pub(super) heard: Instant,
    pub(super) progressed: Instant,
}

impl<S: Source> Session<S> {
    /// Opens an inbox for a consumer that was created over the connection of this number.
    pub(super) async fn start(
        source: S,
        consumer: S::Consumer,
        name: String,
        config: &ReaderConfig,
        connection: ConnectionEpoch,
        connects: u64,
    ) -> Result<Self, StreamError> {
        let (inbox, subscriber) = source.open_inbox().await?;
        let pull = pull::BatchConfig {
            batch: config.batch.max(1),
            expires: Some(config.expires),
            idle_heartbeat: config.heartbeat,
            max_bytes: config.max_bytes_for(source.max_payload()),
            ..pull::BatchConfig::default()
        };
        let now = Instant::now();
        Ok(Self {
            source,
            connection,
            connects,
            consumer,
            name,
            inbox,
            subscriber,
            skips_gaps: config.skips_gaps(),
            pull,
            outstanding: 0,
            request: None,
            sequence: 0,
            heard: now,
            progressed: now,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The last consumer sequence that arrived.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The connection is not the one that the consumer was created over.
    pub(super) fn reconnected(&self) -> bool {
        self.connection.current() != self.connects
    }

    /// Whatever comes next. A new connection is noticed once everything that came before it has been given out.
    pub(super) fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<Incoming> {
        if let Some(reason) = self.keep_requests_standing(task) {
            return Poll::Ready(Incoming::Lost(reason));
        }
        loop {
            let message = match Pin::new(&mut self.subscriber).poll_next(task) {
                Poll::Ready(Some(message)) => message,
                Poll::Ready(None) => return Poll::Ready(Incoming::Lost(Reseek::Ended)),
                Poll::Pending if self.reconnected() => return Poll::Ready(Incoming::Lost(Reseek::Reconnected)),
                Poll::Pending => return Poll::Pending,
            };
            let incoming = match message.status {
                None | Some(StatusCode::OK) => Some(self.deliver(message)),
                Some(status) => self.take_status(status, &message),
            };
            if let Some(incoming) = incoming {
                return Poll::Ready(incoming);
            }
            if let Some(reason) = self.keep_requests_standing(task) {
                return Poll::Ready(Incoming::Lost(reason));
            }
        }
    }

    fn keep_requests_standing(&mut self, task: &mut TaskContext<'_>) -> Option<Reseek> {
        if self.request.is_none() {
            if self.outstanding > self.pull.batch / 2 {
                return None;
            }
            self.request = Some(self.source.request(&self.consumer, &self.pull, &self.inbox));
        }
        let request = self.request.as_mut()?;
        match request.poll_unpin(task) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => {
                self.request = None;
                self.outstanding += self.pull.batch;
                None
            }
            Poll::Ready(Err(error)) => {
                self.request = None;
                debug!(consumer = self.name(), error, "could not send a pull request");
                Some(Reseek::Pull)
            }
        }
    }

    fn deliver(&mut self, message: Message) -> Incoming {
        self.outstanding = self.outstanding.saturating_sub(1);
        let Some(delivery) = message.reply.as_deref().and_then(Delivery::parse) else {
            debug!(consumer = self.name(), "a message without a place in the stream came to the inbox");
            return Incoming::Lost(Reseek::Gap);
        };
        if delivery.consumer_sequence != self.sequence + 1 && !self.skips_gaps {
            return Incoming::Lost(Reseek::Gap);
        }
        self.sequence = delivery.consumer_sequence;
        Incoming::Message(RawMessage {
            subject: message.subject,
            payload: message.payload,
            headers: message.headers,
            sequence: StreamSequence(delivery.stream_sequence),
            stored_at: delivery.stored_at,
            pending: delivery.pending,
        })
    }

    fn take_status(&mut self, status: StatusCode, message: &Message) -> Option<Incoming> {
        self.heard = Instant::now();
        let description = message.description.as_deref().unwrap_or_default();
        match status {
            StatusCode::IDLE_HEARTBEAT => self.take_heartbeat(message.headers.as_ref()?),
            StatusCode::NO_RESPONDERS => Some(Incoming::Lost(Reseek::NoResponders)),
            StatusCode::TIMEOUT | StatusCode::REQUEST_TERMINATED => {
                if description == "Consumer Deleted" {
                    return Some(Incoming::Lost(Reseek::ConsumerDeleted));
                }
                let called_off = message.headers.as_ref().and_then(|headers| number(headers, PENDING_MESSAGES));
                match called_off.map(usize::try_from) {
                    Some(Ok(count)) => self.outstanding = self.outstanding.saturating_sub(count),
                    Some(Err(_)) | None => {
                        debug!(consumer = self.name(), "a pull request ended: {status} {description}");
                        return Some(Incoming::Lost(Reseek::Pull));
                    }
                }
                None
            }
            status => {
                debug!(consumer = self.name(), "a pull request was refused: {status} {description}");
                Some(Incoming::Lost(Reseek::Pull))
            }
        }
    }

    /// Heartbeats travel behind the messages: when the counts agree, everything before has arrived.
    fn take_heartbeat(&self, headers: &HeaderMap) -> Option<Incoming> {
        let delivered = number(headers, LAST_CONSUMER)?;
        let scanned = number(headers, LAST_STREAM)?;
        if delivered == self.sequence {
            Some(Incoming::Scanned(scanned))
        } else {
            Some(Incoming::Lost(Reseek::TailLost))
        }
    }
}

fn number(headers: &HeaderMap, name: &'static str) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}
