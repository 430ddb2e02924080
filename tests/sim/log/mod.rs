//! A JetStream in memory: the event stream with its consumers, the alerts, the dead letters and the bucket.
//!
//! Consumers deliver to inboxes by tasks of the server; messages can get lost on the way, consumers vanish with a leader,
//! connections break. What of this a real server does too is held by the suite in `conformance`.

mod port;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_nats::{HeaderMap, Message, StatusCode, Subject};
use bytes::Bytes;
use churnd::{
    event::{subject::partition_of, time::Timestamp},
    stream::{EVENTS, publisher::Outgoing},
};
use futures_util::Stream;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

pub(crate) use port::LogPort;

use crate::world::{Inner, START, World};

const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// How long a stream knows message ids.
const DUPLICATE_WINDOW_MILLIS: i64 = 120_000;

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

    /// The event stream is put back to where it was, as from a backup.
    pub(crate) fn roll_back(&mut self, last: usize) {
        self.events.truncate(last);
        let stays = |stream: &str, sequence: u64| stream != EVENTS || sequence <= last as u64;
        self.known_ids.retain(|(stream, _), (sequence, _)| stays(stream, *sequence));
        self.forget_consumers();
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
