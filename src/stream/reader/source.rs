//! What a reader asks of JetStream, as a trait: a simulation answers the same questions without a server.
//!
//! Messages come as the client hands them out, so that everything from the reply subject on is read by the same code.
//! Readers are compiled for their source: nothing is paid per message for the choice.

use std::{future::Future, time::Duration};

use async_nats::{
    Message, Subject, Subscriber,
    client::Request,
    connection::State,
    jetstream::{
        Context, ErrorCode,
        consumer::{Consumer, pull},
        stream::ConsumerCreateStrictErrorKind,
    },
};
use futures_util::{FutureExt as _, Stream, future::BoxFuture};
use serde::Deserialize;
use tracing::debug;

use super::{
    super::{BoxError, ConnectionEpoch, StreamError, api},
    leftovers,
};
use crate::event::time::Timestamp;

const CONNECTED_POLL: Duration = Duration::from_millis(20);
const NO_MESSAGE_FOUND: u64 = 10_037;

/// What a reader must know of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// When the stream was created.
    pub created: Timestamp,
    /// The oldest sequence it holds, or would hold next if it is empty.
    pub first: u64,
    /// The newest sequence it ever gave.
    pub last: u64,
}

/// What a reader must know of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerFacts {
    /// How many messages the server has delivered.
    pub delivered: u64,
    /// How far it has looked for the next one.
    pub scanned: u64,
    /// How many messages of the filter lie beyond.
    pub pending: u64,
}

/// A server with streams.
pub trait Source: Clone + Send + Sync + 'static {
    /// What pull requests are sent through.
    type Consumer: Clone + Send + Sync + 'static;
    /// What comes to an inbox.
    type Inbox: Stream<Item = Message> + Unpin + Send;

    /// The same server, asked with this patience.
    #[must_use]
    fn with_timeout(&self, timeout: Duration) -> Self;
    /// Resolves once there is a connection: before that requests would only wait in the client, to arrive when they are
    /// no longer wanted.
    fn connected(&self) -> impl Future<Output = ()> + Send;
    /// How often the connection was established.
    fn connects(&self) -> ConnectionEpoch;
    /// The most bytes that a message may have.
    fn max_payload(&self) -> usize;
    /// Describes a stream.
    fn stream_facts(&self, stream: &str) -> impl Future<Output = Result<StreamFacts, StreamError>> + Send;
    /// When the message with this sequence was stored, by the stream's leader; `None` if there is none.
    fn stored_time(
        &self,
        stream: &str,
        sequence: u64,
    ) -> impl Future<Output = Result<Option<Timestamp>, StreamError>> + Send;
    /// Creates a consumer under a name that must be free; says how many messages wait for it.
    fn create_consumer(
        &self,
        stream: &str,
        config: pull::Config,
    ) -> impl Future<Output = Result<(Self::Consumer, u64), StreamError>> + Send;
    /// Describes a consumer.
    fn consumer_facts(
        &self,
        stream: &str,
        name: &str,
    ) -> impl Future<Output = Result<ConsumerFacts, StreamError>> + Send;
    /// Asks for a consumer's deletion without waiting: should it fail, the server deletes the consumer when it is idle.
    fn forget_consumer(&self, stream: &str, name: &str) -> impl Future<Output = ()> + Send;
    /// Deletes a consumer; `false` if that is not known to have happened.
    fn delete_consumer(&self, stream: &str, name: &str) -> impl Future<Output = bool> + Send;
    /// Opens an inbox of its own.
    fn open_inbox(&self) -> impl Future<Output = Result<(Subject, Self::Inbox), StreamError>> + Send;
    /// Asks for messages.
    fn request(
        &self,
        consumer: &Self::Consumer,
        pull: &pull::BatchConfig,
        inbox: &Subject,
    ) -> BoxFuture<'static, Result<(), BoxError>>;
}

impl Source for Context {
    type Consumer = Consumer<pull::Config>;
    type Inbox = Subscriber;

    fn with_timeout(&self, timeout: Duration) -> Self {
        let mut context = self.clone();
        context.set_timeout(timeout);
        context
    }

    async fn connected(&self) {
        let client = self.client();
        while client.connection_state() != State::Connected {
            tokio::time::sleep(CONNECTED_POLL).await;
        }
    }

    fn connects(&self) -> ConnectionEpoch {
        ConnectionEpoch::of(&self.client())
    }

    fn max_payload(&self) -> usize {
        self.client().max_payload()
    }

    async fn stream_facts(&self, stream: &str) -> Result<StreamFacts, StreamError> {
        let info = api::stream_info(self, stream).await?;
        Ok(StreamFacts { created: info.created, first: info.state.first_seq, last: info.state.last_seq })
    }

    async fn stored_time(&self, stream: &str, sequence: u64) -> Result<Option<Timestamp>, StreamError> {
        #[derive(Deserialize)]
        struct Answer {
            message: Stored,
        }
        #[derive(Deserialize)]
        struct Stored {
            time: Timestamp,
        }
        let body = serde_json::json!({ "seq": sequence });
        match api::request::<_, Answer>(self, &format!("STREAM.MSG.GET.{stream}"), stream, &body).await {
            Ok(answer) => Ok(Some(answer.message.time)),
            Err(StreamError::Refused { code: NO_MESSAGE_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create_consumer(&self, stream: &str, config: pull::Config) -> Result<(Self::Consumer, u64), StreamError> {
        let name = config.name.clone().unwrap_or_default();
        match self.create_consumer_strict_on_stream(config, stream).await {
            Ok(consumer) => {
                let pending = consumer.cached_info().num_pending;
                Ok((consumer, pending))
            }
            Err(error) => Err(match error.kind() {
                ConsumerCreateStrictErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::MAXIMUM_CONSUMERS_LIMIT =>
                {
                    // Those that killed instances left behind are deleted when they are idle. But a node that restarts
                    // begins to count anew, and a cluster in trouble collects them until it takes no more.
                    leftovers::delete(self, stream, &name).await;
                    api::refused(&format!("the consumer {name}"), stream, &error)
                }
                ConsumerCreateStrictErrorKind::JetStream(error) => {
                    api::refused(&format!("the consumer {name}"), stream, &error)
                }
                ConsumerCreateStrictErrorKind::AlreadyExists => StreamError::Refused {
                    what: format!("the consumer {name}"),
                    code: ErrorCode::CONSUMER_ALREADY_EXISTS.0,
                    description: "a consumer of this name exists".to_owned(),
                },
                _ => StreamError::unavailable(format!("creating the consumer {name}"), error),
            }),
        }
    }

    async fn consumer_facts(&self, stream: &str, name: &str) -> Result<ConsumerFacts, StreamError> {
        let info = api::consumer_info(self, stream, name).await?;
        Ok(ConsumerFacts {
            delivered: info.delivered.consumer_seq,
            scanned: info.delivered.stream_seq,
            pending: info.num_pending,
        })
    }

    async fn forget_consumer(&self, stream: &str, name: &str) {
        if let Err(error) = self.send_request(format!("CONSUMER.DELETE.{stream}.{name}"), Request::new()).await {
            debug!(consumer = name, error = %error, "could not ask for the deletion of a consumer");
        }
    }

    async fn delete_consumer(&self, stream: &str, name: &str) -> bool {
        self.delete_consumer_from_stream(name, stream).await.is_ok()
    }

    async fn open_inbox(&self) -> Result<(Subject, Self::Inbox), StreamError> {
        let client = self.client();
        let inbox = Subject::from(client.new_inbox());
        let subscriber = client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| StreamError::unavailable("subscribing to an inbox", error))?;
        Ok((inbox, subscriber))
    }

    fn request(
        &self,
        consumer: &Self::Consumer,
        pull: &pull::BatchConfig,
        inbox: &Subject,
    ) -> BoxFuture<'static, Result<(), BoxError>> {
        let (consumer, pull, inbox) = (consumer.clone(), pull.clone(), inbox.clone());
        async move { consumer.request_batch(pull, inbox).await.map_err(Into::into) }.boxed()
    }
}
