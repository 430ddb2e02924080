//! An instance's way to the log: requests that take time, get lost, or are answered without the answer's arriving.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_nats::{
    Subject,
    jetstream::consumer::{DeliverPolicy, pull},
};
use churnd::{
    event::{
        ids::{AccountId, StreamSequence},
        time::Timestamp,
    },
    stream::{
        BoxError, ConnectionEpoch, StreamError,
        publisher::{Outgoing, PubAck, Publish, PublishError},
        reader::{ConsumerFacts, Source, StreamFacts},
    },
};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{Consumer, Inbox, Pull, Put, deliver};
use crate::{
    instance::Port,
    world::{Called, Inner, Server},
};

const MAX_PAYLOAD: usize = 1 << 20;
/// How long publishing is tried.
const PATIENCE: Duration = Duration::from_secs(8);

/// An instance's way to the log.
#[derive(Clone)]
pub(crate) struct LogPort {
    port: Port,
    patience: Duration,
}

impl LogPort {
    pub(crate) fn of(port: &Port) -> Self {
        Self { port: port.clone(), patience: Duration::from_secs(5) }
    }

    async fn ask<T: Send + 'static>(
        &self,
        what: &str,
        effect: impl FnOnce(&mut Inner) -> T + Send + 'static,
    ) -> Result<T, StreamError> {
        match self.port.world.call(self.port.who, Server::Log, self.patience, effect).await {
            Called::Done(answer) => Ok(answer),
            Called::Refused | Called::NoAnswer => Err(away(what)),
        }
    }
}

fn away(what: &str) -> StreamError {
    StreamError::Unavailable { what: what.to_owned(), source: "nobody answered".into() }
}

fn refused(what: &str, code: u64, description: &str) -> StreamError {
    StreamError::Refused { what: what.to_owned(), code, description: description.to_owned() }
}

impl Source for LogPort {
    type Consumer = String;
    type Inbox = Inbox;

    fn with_timeout(&self, patience: Duration) -> Self {
        Self { port: self.port.clone(), patience }
    }

    async fn connected(&self) {
        while !self.port.world.lock().bodies[self.port.who].linked {
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn connects(&self) -> ConnectionEpoch {
        ConnectionEpoch::counted_by(Arc::clone(&self.port.world.lock().bodies[self.port.who].connects))
    }

    fn max_payload(&self) -> usize {
        MAX_PAYLOAD
    }

    async fn stream_facts(&self, _stream: &str) -> Result<StreamFacts, StreamError> {
        self.ask("STREAM.INFO", |inner| StreamFacts { created: inner.log.created, first: 1, last: inner.log.last() })
            .await
    }

    async fn stored_time(&self, _stream: &str, sequence: u64) -> Result<Option<Timestamp>, StreamError> {
        self.ask("STREAM.MSG.GET", move |inner| inner.log.at(sequence).map(|stored| stored.stored_at)).await
    }

    async fn create_consumer(&self, _stream: &str, config: pull::Config) -> Result<(String, u64), StreamError> {
        let who = self.port.who;
        let name = config.name.clone().expect("readers name their consumers");
        let (consumer, wake) = (name.clone(), Arc::new(Notify::new()));
        let notified = Arc::clone(&wake);
        let created = self
            .ask("CONSUMER.CREATE", move |inner| {
                if inner.log.consumers.contains_key(&consumer) {
                    return Err(refused(&consumer, 10_148, "consumer already exists"));
                }
                let next = match config.deliver_policy {
                    DeliverPolicy::ByStartSequence { start_sequence } => start_sequence,
                    _ => 1,
                };
                let filter = config.filter_subject.strip_suffix('>').map(str::to_owned);
                inner.note(format_args!("i{who} reads by {consumer} from {next}"));
                let consumer_state = Consumer {
                    who,
                    filter,
                    next,
                    delivered: 0,
                    pulls: VecDeque::new(),
                    inbox: None,
                    heartbeat: Duration::from_secs(5),
                    stalled: false,
                    wake,
                };
                let pending = inner.log.pending(&consumer_state);
                inner.log.consumers.insert(consumer, consumer_state);
                Ok(pending)
            })
            .await;
        let pending = created??;
        let (world, serving) = (Arc::clone(&self.port.world), name.clone());
        self.port.world.tracker.spawn(deliver(world, serving, notified));
        Ok((name, pending))
    }

    async fn consumer_facts(&self, _stream: &str, name: &str) -> Result<ConsumerFacts, StreamError> {
        let consumer = name.to_owned();
        self.ask("CONSUMER.INFO", move |inner| {
            let found = inner.log.consumers.get(&consumer);
            let found = found.ok_or_else(|| refused(&consumer, 10_014, "consumer not found"))?;
            let pending = inner.log.pending(found);
            Ok(ConsumerFacts { delivered: found.delivered, scanned: found.next - 1, pending })
        })
        .await?
    }

    async fn forget_consumer(&self, _stream: &str, name: &str) {
        let inner = &mut *self.port.world.lock();
        if inner.faults.log_up
            && inner.bodies[self.port.who].linked
            && let Some(consumer) = inner.log.consumers.remove(name)
        {
            consumer.wake.notify_one();
        }
    }

    async fn delete_consumer(&self, stream: &str, name: &str) -> bool {
        self.forget_consumer(stream, name).await;
        true
    }

    async fn open_inbox(&self) -> Result<(Subject, Inbox), StreamError> {
        let state = Arc::default();
        let mut inner = self.port.world.lock();
        inner.log.next_inbox += 1;
        let number = inner.log.next_inbox;
        inner.log.inboxes.retain(|_, (_, inbox)| inbox.strong_count() > 0);
        inner.log.inboxes.insert(number, (self.port.who, Arc::downgrade(&state)));
        Ok((Subject::from(format!("_INBOX.{number}")), Inbox(state)))
    }

    fn request(
        &self,
        consumer: &String,
        pull: &pull::BatchConfig,
        inbox: &Subject,
    ) -> BoxFuture<'static, Result<(), BoxError>> {
        let (world, who) = (Arc::clone(&self.port.world), self.port.who);
        let number = inbox.strip_prefix("_INBOX.").and_then(|number| number.parse().ok());
        let (name, batch, heartbeat) = (consumer.clone(), pull.batch, pull.idle_heartbeat);
        let expires = pull.expires.unwrap_or(Duration::from_secs(30));
        async move {
            let way = world.lock().way();
            sleep(way).await;
            let mut inner = world.lock();
            let lost = inner.faults.lost_calls;
            if !inner.faults.log_up || !inner.bodies[who].linked || inner.chance(lost) {
                // A request that nobody hears: the client does not know.
                return Ok(());
            }
            if let Some(consumer) = inner.log.consumers.get_mut(&name) {
                consumer.inbox = number;
                consumer.heartbeat = heartbeat;
                consumer.pulls.push_back(Pull { left: batch, until: Instant::now() + expires });
                consumer.wake.notify_one();
                return Ok(());
            }
            drop(inner);
            Err("no responders".into())
        }
        .boxed()
    }
}

impl Publish for LogPort {
    fn publish_all(&self, messages: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<PubAck, PublishError>>> {
        async move {
            let mut results = Vec::with_capacity(messages.len());
            for message in messages {
                results.push(self.publish(&message).await);
            }
            results
        }
        .boxed()
    }

    fn max_payload(&self) -> usize {
        MAX_PAYLOAD
    }

    fn risk_revisions(
        &self,
        keys: Vec<(AccountId, Box<str>)>,
    ) -> BoxFuture<'_, Result<Vec<Option<u64>>, PublishError>> {
        async move {
            let look = move |inner: &mut Inner| {
                let revision = |subject: String| inner.log.bucket.get(&subject).map_or(0, |(revision, _)| *revision);
                let subjects = keys.iter().map(|(account, token)| format!("$KV.churn_risk.{account}.{token}"));
                subjects.map(|subject| Some(revision(subject))).collect()
            };
            self.ask("the bucket", look)
                .await
                .map_err(|error| PublishError::Unconfirmed { subject: "the bucket".to_owned(), source: error.into() })
        }
        .boxed()
    }
}

impl LogPort {
    /// Publishes one message; repeats the attempt, as the client does, until its patience ends.
    async fn publish(&self, message: &Outgoing) -> Result<PubAck, PublishError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sent = message.clone();
            let way = {
                let mut inner = self.port.world.lock();
                inner.way()
            };
            sleep(way).await;
            let put = {
                let mut inner = self.port.world.lock();
                let life = self.port.life;
                let inner = &mut *inner;
                let taken = inner.faults.bucket_up || !message.subject.starts_with("$KV.");
                let reaches = taken && inner.faults.log_up && inner.bodies[self.port.who].linked;
                if !reaches || inner.chance(inner.faults.unconfirmed) {
                    None
                } else {
                    let put = inner.put(&sent);
                    if inner.chance(inner.faults.deadly) {
                        inner.kill(self.port.who, life, "after a publish");
                    }
                    (!inner.chance(inner.faults.unconfirmed)).then_some(put)
                }
            };
            let subject = message.subject.to_string();
            match put {
                Some(Put::Stored { stream, sequence }) => return Ok(ack(stream, sequence, false)),
                Some(Put::Duplicate { stream, sequence }) => return Ok(ack(stream, sequence, true)),
                Some(Put::SubjectTaken) => return Err(PublishError::AlreadyThere { subject }),
                Some(Put::Outdated) => return Err(PublishError::Outdated { subject }),
                None => {
                    let pause = Duration::from_millis(400);
                    let tired = self.port.world.lock().chance(400);
                    if tired || Instant::now() + pause > deadline {
                        return Err(PublishError::Unconfirmed { subject, source: "no answer".into() });
                    }
                    sleep(pause).await;
                }
            }
        }
    }
}

fn ack(stream: &str, sequence: u64, duplicate: bool) -> PubAck {
    PubAck { stream: stream.to_owned(), sequence: StreamSequence(sequence), duplicate }
}
