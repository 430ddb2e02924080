//! Seeking: from a position to a fresh consumer that delivers everything after it, or a reason why that cannot be.

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, pull};

use super::{
    super::StreamError,
    ReaderConfig, Source,
    guard::{self, Accounted, Guard},
    session::Session,
};
use crate::event::time::Timestamp;

/// Everything a seek needs, owned, so that it can run apart from the reader.
pub(super) struct Seek<S> {
    pub(super) source: S,
    pub(super) stream: String,
    pub(super) config: ReaderConfig,
    pub(super) name: String,
    pub(super) previous: Option<String>,
    /// Up to the reader's position.
    pub(super) accounted: Accounted,
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
        let (facts, found) = guard::look(&self.source, &self.stream, &self.accounted).await?;
        let Guard::Fine { created } = found else { return Ok(Sought::RolledBack(found)) };
        if facts.first > self.accounted.watermark.0 + 1 {
            return Ok(Sought::Overtaken { first: facts.first });
        }
        let (consumer, pending) = self.source.create_consumer(&self.stream, self.consumer_config()).await?;
        let session = Session::start(self.source, consumer, self.name, &self.config, connection, connects).await?;
        Ok(Sought::Ready { session: Box::new(session), created, pending })
    }

    fn consumer_config(&self) -> pull::Config {
        pull::Config {
            name: Some(self.name.clone()),
            deliver_policy: match self.accounted.watermark.0 {
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
