//! A JetStream in memory: the event stream with its consumers, the alerts, the dead letters and the bucket.
//!
//! Consumers deliver to inboxes by tasks of the server; messages can get lost on the way, consumers vanish with a leader,
//! connections break. What of this a real server does too is held by the suite in `conformance`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_nats::{
    HeaderMap, Message, StatusCode, Subject,
    jetstream::consumer::{DeliverPolicy, pull},
};
use bytes::Bytes;
use churnd::{
    event::{ids::AccountId, subject::partition_of, time::Timestamp},
    stream::{
        BoxError, ConnectionEpoch, EVENTS, StreamError,
        publisher::{Outgoing, PubAck, Publish, PublishError},
        reader::{ConsumerFacts, Source, StreamFacts},
    },
};
use futures_util::{FutureExt as _, Stream, future::BoxFuture};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    instance::Port,
    world::{Called, Inner, START, Server, World},
};

const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
const MAX_PAYLOAD: usize = 1 << 20;
/// How long a stream knows message ids.
const DUPLICATE_WINDOW_MILLIS: i64 = 120_000;
/// How long publishing is tried.
const PATIENCE: Duration = Duration::from_secs(8);

/// A message of the event stream.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) subject: Subject,
    pub(crate) payload: Bytes,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) stored_at: Timestamp,
}

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Stored {
        stream: &'static str,
        sequence: u64,
    },
    Duplicate {
        stream: &'static str,
        sequence: u64,
    },
    SubjectTaken,
    /// Another message stands under the subject than the one that was expected.
    Outdated,
}

#[derive(Default)]
struct InboxState {
    queue: VecDeque<Message>,
    waker: Option<Waker>,
}

/// A subscription to an inbox.
pub(crate) struct Inbox(Arc<Mutex<InboxState>>);

impl Stream for Inbox {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut state = self.0.lock().expect("nobody panics in here");
        match state.queue.pop_front() {
            Some(message) => Poll::Ready(Some(message)),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

struct Consumer {
    who: usize,
    filter: Option<String>,
    /// The next sequence to look at.
    next: u64,
    delivered: u64,
    pulls: VecDeque<Pull>,
    inbox: Option<u64>,
    heartbeat: Duration,
    /// Says nothing and delivers nothing, as consumers do that lost their leader.
    stalled: bool,
    wake: Arc<Notify>,
}

struct Pull {
    left: usize,
    until: Instant,
}

/// The streams.
pub(crate) struct Log {
    partitions: u16,
    pub(crate) created: Timestamp,
    pub(crate) events: Vec<Stored>,
    known_ids: BTreeMap<(&'static str, String), (u64, Timestamp)>,
    /// Subject and message id of each alert, in order.
    pub(crate) alerts: Vec<(Subject, String, Bytes)>,
    alert_subjects: BTreeSet<String>,
    /// Which messages have a dead letter, and how many.
    pub(crate) dead: BTreeMap<u64, u32>,
    dead_letters: u64,
    /// The newest entry under each subject, and its revision.
    pub(crate) bucket: BTreeMap<String, (u64, Bytes)>,
    bucket_sequence: u64,
    consumers: BTreeMap<String, Consumer>,
    inboxes: BTreeMap<u64, (usize, Weak<Mutex<InboxState>>)>,
    next_inbox: u64,
}

impl Log {
    pub(crate) fn new(partitions: u16) -> Self {
        Self {
            partitions,
            created: Timestamp::from_millis(START - 1_000_000),
            events: Vec::new(),
            known_ids: BTreeMap::new(),
            alerts: Vec::new(),
            alert_subjects: BTreeSet::new(),
            dead: BTreeMap::new(),
            dead_letters: 0,
            bucket: BTreeMap::new(),
            bucket_sequence: 0,
            consumers: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            next_inbox: 0,
        }
    }

    /// The last sequence of the event stream.
    pub(crate) fn last(&self) -> u64 {
        self.events.len() as u64
    }

    fn at(&self, sequence: u64) -> Option<&Stored> {
        self.events.get(usize::try_from(sequence.checked_sub(1)?).ok()?)
    }

    /// Takes a message in, as a stream's leader does.
    pub(crate) fn put(&mut self, message: &Outgoing, now: Timestamp) -> Put {
        let subject = message.subject.as_str();
        let stream = match subject.split('.').take(2).collect::<Vec<_>>()[..] {
            ["churn", "events"] => EVENTS,
            ["churn", "alerts"] => "CHURN_ALERTS",
            ["churn", "dead"] => "CHURN_DEAD",
            ["$KV", _] => "KV_churn_risk",
            _ => panic!("no stream takes {subject}"),
        };
        if let Some(id) = &message.message_id
            && let Some((sequence, at)) = self.known_ids.get(&(stream, id.clone()))
            && now.millis_since(*at) < DUPLICATE_WINDOW_MILLIS
        {
            return Put::Duplicate { stream, sequence: *sequence };
        }
        let sequence = match stream {
            EVENTS => self.store_event(message, now),
            "CHURN_ALERTS" => {
                if !self.alert_subjects.insert(subject.to_owned()) {
                    return Put::SubjectTaken;
                }
                let id = message.message_id.clone().unwrap_or_default();
                self.alerts.push((message.subject.clone(), id, message.payload.clone()));
                self.alerts.len() as u64
            }
            "CHURN_DEAD" => {
                let headers = message.headers.as_ref();
                let original = headers.and_then(|headers| headers.get("Churnd-Sequence"));
                let original = original.and_then(|original| original.as_str().parse().ok());
                *self.dead.entry(original.expect("a letter names its message")).or_default() += 1;
                self.dead_letters += 1;
                self.dead_letters
            }
            _ => {
                let expected = message.headers.as_ref().and_then(|headers| headers.get(EXPECTED));
                let revision = self.bucket.get(subject).map_or(0, |(revision, _)| *revision);
                if expected.is_some_and(|expected| expected.as_str().parse() != Ok(revision)) {
                    return Put::Outdated;
                }
                self.bucket_sequence += 1;
                self.bucket.insert(subject.to_owned(), (self.bucket_sequence, message.payload.clone()));
                self.bucket_sequence
            }
        };
        if let Some(id) = &message.message_id {
            self.known_ids.insert((stream, id.clone()), (sequence, now));
        }
        Put::Stored { stream, sequence }
    }

    /// Stores an event under its partition's subject.
    fn store_event(&mut self, message: &Outgoing, now: Timestamp) -> u64 {
        let mut tokens = message.subject.split('.').skip(2);
        let (account, token) = (tokens.next().unwrap_or_default(), tokens.next().unwrap_or_default());
        let partition = partition_of(account, token, self.partitions);
        let mut headers = message.headers.clone();
        if let Some(id) = &message.message_id {
            headers.get_or_insert_default().insert("Nats-Msg-Id", id.as_str());
        }
        let subject = Subject::from(format!("churn.p.{}.{account}.{token}", partition.0));
        self.events.push(Stored { subject, payload: message.payload.clone(), headers, stored_at: now });
        self.wake_all();
        self.last()
    }

    fn wake_all(&self) {
        self.consumers.values().for_each(|consumer| consumer.wake.notify_one());
    }

    /// The server is there again: what waited goes on.
    pub(crate) fn go_on(&mut self) {
        for consumer in self.consumers.values_mut() {
            consumer.stalled = false;
        }
        self.wake_all();
    }

    /// A new leader, or a restart: consumers in memory are gone.
    pub(crate) fn forget_consumers(&mut self) {
        for (_, consumer) in std::mem::take(&mut self.consumers) {
            consumer.wake.notify_one();
        }
    }

    /// A consumer says and delivers nothing any more.
    pub(crate) fn stall_one(&mut self, number: usize) {
        let count = self.consumers.len().max(1);
        if let Some(consumer) = self.consumers.values_mut().nth(number % count) {
            consumer.stalled = true;
        }
    }

    /// The connection of an instance is gone, and with it what was on its way.
    pub(crate) fn hang_up(&mut self, who: usize) {
        self.inboxes.retain(|_, (owner, _)| *owner != who);
    }

    fn matches(consumer: &Consumer, stored: &Stored) -> bool {
        consumer.filter.as_ref().is_none_or(|filter| stored.subject.starts_with(filter.as_str()))
    }

    fn pending(&self, consumer: &Consumer) -> u64 {
        let from = usize::try_from(consumer.next - 1).expect("streams are short");
        let rest = self.events.get(from..).unwrap_or_default();
        rest.iter().filter(|stored| Self::matches(consumer, stored)).count() as u64
    }

    /// What a consumer has to say now: messages in order, or the end of a pull request. `None` if it is gone.
    fn say(&mut self, name: &str) -> Option<Vec<Message>> {
        let mut consumer = self.consumers.remove(name)?;
        let mut said = Vec::new();
        while !consumer.stalled
            && let Some(pull) = consumer.pulls.front_mut()
        {
            if Instant::now() >= pull.until {
                said.push(status(
                    StatusCode::TIMEOUT,
                    "Request Timeout",
                    &[("Nats-Pending-Messages", pull.left as u64)],
                ));
                consumer.pulls.pop_front();
                continue;
            }
            let Some(stored) = self.at(consumer.next) else { break };
            let (stored, sequence) = (stored.clone(), consumer.next);
            consumer.next += 1;
            if !Self::matches(&consumer, &stored) {
                continue;
            }
            consumer.delivered += 1;
            let pull = consumer.pulls.front_mut().expect("it was there");
            pull.left -= 1;
            if pull.left == 0 {
                consumer.pulls.pop_front();
            }
            let (delivered, pending) = (consumer.delivered, self.pending(&consumer));
            let nanos = stored.stored_at.millis() * 1_000_000;
            let reply = format!("$JS.ACK.{EVENTS}.{name}.1.{sequence}.{delivered}.{nanos}.{pending}");
            said.push(Message {
                subject: stored.subject,
                reply: Some(reply.into()),
                payload: stored.payload,
                headers: stored.headers,
                status: None,
                description: None,
                length: 0,
            });
        }
        self.consumers.insert(name.to_owned(), consumer);
        Some(said)
    }

    fn heartbeat(&self, name: &str) -> Option<Message> {
        let consumer = self.consumers.get(name).filter(|consumer| !consumer.stalled && !consumer.pulls.is_empty())?;
        let counts = [("Nats-Last-Consumer", consumer.delivered), ("Nats-Last-Stream", consumer.next - 1)];
        Some(status(StatusCode::IDLE_HEARTBEAT, "Idle Heartbeat", &counts))
    }
}

fn status(status: StatusCode, description: &str, counts: &[(&'static str, u64)]) -> Message {
    let mut headers = HeaderMap::new();
    for (name, count) in counts {
        headers.insert(*name, count.to_string().as_str());
    }
    Message {
        subject: Subject::from_static("_INBOX"),
        reply: None,
        payload: Bytes::new(),
        headers: Some(headers),
        status: Some(status),
        description: Some(description.to_owned()),
        length: 0,
    }
}

/// A consumer's life on the server: delivers what is asked for, and gives signs of life.
async fn deliver(world: Arc<World>, name: String, wake: Arc<Notify>) {
    loop {
        let (said, way, heartbeat) = {
            let mut inner = world.lock();
            let said = if inner.faults.log_up { inner.log.say(&name) } else { Some(Vec::new()) };
            let Some(said) = said else { return };
            let Some(consumer) = inner.log.consumers.get(&name) else { return };
            let heartbeat = consumer.heartbeat;
            (said, inner.way(), heartbeat)
        };
        if !said.is_empty() {
            sleep(way).await;
            world.lock().post(&name, said);
            continue;
        }
        if timeout(heartbeat, wake.notified()).await.is_err() {
            let mut inner = world.lock();
            if inner.faults.log_up
                && let Some(heartbeat) = inner.log.heartbeat(&name)
            {
                inner.post(&name, vec![heartbeat]);
            }
        }
    }
}

impl Inner {
    /// Puts messages into a consumer's inbox, less those that get lost.
    fn post(&mut self, name: &str, messages: Vec<Message>) {
        let Some((who, inbox)) = self.log.consumers.get(name).map(|consumer| (consumer.who, consumer.inbox)) else {
            return;
        };
        let inbox = inbox.and_then(|inbox| self.log.inboxes.get(&inbox)).and_then(|(_, inbox)| inbox.upgrade());
        let Some(inbox) = inbox.filter(|_| self.bodies[who].linked) else { return };
        let kept: Vec<Message> = messages.into_iter().filter(|_| !self.chance(self.faults.lost_messages)).collect();
        let mut state = inbox.lock().expect("nobody panics in here");
        state.queue.extend(kept);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A client's publish, beyond all faults.
    pub(crate) fn put(&mut self, message: &Outgoing) -> Put {
        let now = self.wall();
        let put = self.log.put(message, now);
        self.note(format_args!("put {} {:?} {put:?}", message.subject, message.message_id));
        let is_alert = matches!(put, Put::Stored { stream: "CHURN_ALERTS", .. });
        if is_alert && !self.tables.has_message(message.message_id.as_deref().unwrap_or_default()) {
            self.complain(format!("an alert was published that is not committed: {}", message.subject));
        }
        put
    }
}

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
                let reaches = inner.faults.log_up && inner.bodies[self.port.who].linked;
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
    PubAck { stream: stream.to_owned(), sequence: churnd::event::ids::StreamSequence(sequence), duplicate }
}
