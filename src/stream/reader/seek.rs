//! Seeking: from a position to a fresh consumer that delivers everything after it, or a reason why that cannot be.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, pull};

use super::{
    super::StreamError,
    ReaderConfig, Source,
    guard::{self, Guard, Witness},
    session::Session,
};
use crate::event::time::Timestamp;

/// How often a stream that seems shorter than the watermark is asked again: a new leader may still be applying its log.
const SECOND_LOOKS: u32 = 4;
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(500);

/// Everything a seek needs, owned, so that it can run apart from the reader.
pub(super) struct Seek<S> {
    pub(super) source: S,
    pub(super) stream: String,
    pub(super) config: ReaderConfig,
    pub(super) name: String,
    pub(super) previous: Option<String>,
    pub(super) after: u64,
    pub(super) witness: Witness,
}

/// How a seek ended.
pub(super) enum Sought<S: Source> {
    Ready { session: Box<Session<S>>, created: Timestamp, pending: u64 },
    RolledBack(Guard),
    Overtaken { first: u64 },
}

impl<S: Source> Seek<S> {
    /// Deletes the previous consumer, checks that the stream still continues the position, creates the new consumer.
    pub(super) async fn run(self) -> Result<Sought<S>, StreamError> {
        self.source.connected().await;
        let connection = self.source.connects();
        let connects = connection.current();
        if let Some(previous) = &self.previous {
            self.source.forget_consumer(&self.stream, previous).await;
        }
        let facts = self.source.stream_facts(&self.stream).await?;
        let created = match guard::examine(&self.source, &self.stream, facts, self.witness).await? {
            Guard::Fine { created } => created,
            found => match self.look_again(found).await? {
                Some(found) => return Ok(Sought::RolledBack(found)),
                None => facts.created,
            },
        };
        if facts.first > self.after + 1 {
            return Ok(Sought::Overtaken { first: facts.first });
        }
        let (consumer, pending) = self.source.create_consumer(&self.stream, self.consumer_config()).await?;
        let session = Session::start(self.source, consumer, self.name, &self.config, connection, connects).await?;
        Ok(Sought::Ready { session: Box::new(session), created, pending })
    }

    async fn look_again(&self, mut found: Guard) -> Result<Option<Guard>, StreamError> {
        for _ in 0..SECOND_LOOKS {
            if !matches!(found, Guard::Truncated { .. }) {
                break;
            }
            tokio::time::sleep(SECOND_LOOK_AFTER).await;
            let facts = self.source.stream_facts(&self.stream).await?;
            found = guard::examine(&self.source, &self.stream, facts, self.witness).await?;
            if matches!(found, Guard::Fine { .. }) {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    fn consumer_config(&self) -> pull::Config {
        pull::Config {
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
        }
    }
}
