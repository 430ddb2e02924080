//! Seeking: from a position to a fresh consumer that delivers everything after it, or a reason why that cannot be.

use std::time::Duration;

use async_nats::{
    client::Request,
    connection::State,
    jetstream::{
        Context, ErrorCode,
        consumer::{AckPolicy, Consumer, DeliverPolicy, ReplayPolicy, pull},
        stream::ConsumerCreateStrictErrorKind,
    },
};
use tracing::debug;

use super::{
    super::{ConnectionEpoch, StreamError, api},
    ReaderConfig,
    guard::{self, Guard, Witness},
    session::Session,
};
use crate::event::time::Timestamp;

const CONNECTED_POLL: Duration = Duration::from_millis(20);
/// How often a stream that seems shorter than the watermark is asked again: a new leader may still be applying its log.
const SECOND_LOOKS: u32 = 4;
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(500);

/// Everything a seek needs, owned, so that it can run apart from the reader.
pub(super) struct Seek {
    pub(super) context: Context,
    pub(super) stream: String,
    pub(super) config: ReaderConfig,
    pub(super) name: String,
    pub(super) previous: Option<String>,
    pub(super) after: u64,
    pub(super) witness: Witness,
}

/// How a seek ended.
pub(super) enum Sought {
    Ready { session: Box<Session>, created: Timestamp, pending: u64 },
    RolledBack(Guard),
    Overtaken { first: u64 },
}

impl Seek {
    /// Deletes the previous consumer, checks that the stream still continues the position, creates the new consumer.
    pub(super) async fn run(self) -> Result<Sought, StreamError> {
        self.connected().await;
        let epoch = ConnectionEpoch::of(&self.context.client()).current();
        if let Some(previous) = &self.previous {
            forget(&self.context, &self.stream, previous).await;
        }
        let info = api::stream_info(&self.context, &self.stream).await?;
        let created = match guard::examine(&self.context, &self.stream, &info, self.witness).await? {
            Guard::Fine { created } => created,
            found => match self.look_again(found).await? {
                Some(found) => return Ok(Sought::RolledBack(found)),
                None => info.created,
            },
        };
        if info.state.first_seq > self.after + 1 {
            return Ok(Sought::Overtaken { first: info.state.first_seq });
        }
        let consumer = self.create().await?;
        let pending = consumer.cached_info().num_pending;
        let session = Session::start(&self.context, consumer, &self.config, epoch).await?;
        Ok(Sought::Ready { session: Box::new(session), created, pending })
    }

    /// While there is no connection requests would only wait in the client, to arrive when they are no longer wanted.
    async fn connected(&self) {
        let client = self.context.client();
        while client.connection_state() != State::Connected {
            tokio::time::sleep(CONNECTED_POLL).await;
        }
    }

    async fn look_again(&self, mut found: Guard) -> Result<Option<Guard>, StreamError> {
        for _ in 0..SECOND_LOOKS {
            if !matches!(found, Guard::Truncated { .. }) {
                break;
            }
            tokio::time::sleep(SECOND_LOOK_AFTER).await;
            let info = api::stream_info(&self.context, &self.stream).await?;
            found = guard::examine(&self.context, &self.stream, &info, self.witness).await?;
            if matches!(found, Guard::Fine { .. }) {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    async fn create(&self) -> Result<Consumer<pull::Config>, StreamError> {
        let config = pull::Config {
            name: Some(self.name.clone()),
            deliver_policy: match self.after {
                0 => DeliverPolicy::All,
                after => DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            },
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            filter_subject: self.config.filter.clone().unwrap_or_default(),
            inactive_threshold: self.config.inactive_threshold,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let created = self.context.create_consumer_strict_on_stream(config, &self.stream).await;
        created.map_err(|error| match error.kind() {
            ConsumerCreateStrictErrorKind::JetStream(error) => {
                api::refused(&format!("the consumer {}", self.name), &self.stream, &error)
            }
            ConsumerCreateStrictErrorKind::AlreadyExists => StreamError::Refused {
                what: format!("the consumer {}", self.name),
                code: ErrorCode::CONSUMER_ALREADY_EXISTS.0,
                description: "a consumer of this name exists".to_owned(),
            },
            _ => StreamError::unavailable(format!("creating the consumer {}", self.name), error),
        })
    }
}

/// Asks for a consumer's deletion without waiting: should it fail, the server deletes the consumer when it is idle.
pub(super) async fn forget(context: &Context, stream: &str, name: &str) {
    if let Err(error) = context.send_request(format!("CONSUMER.DELETE.{stream}.{name}"), Request::new()).await {
        debug!(consumer = name, error = %error, "could not ask for the deletion of a consumer");
    }
}
