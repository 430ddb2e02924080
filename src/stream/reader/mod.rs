//! The reader: a stream's messages, each once and in order, from any position on, through whatever happens.
//!
//! Owns a consumer without acks that it creates anew ("re-seeks") at its own position whenever anything is doubtful.
//! Keeps no watermark (the caller stores positions) and looks into no payload. async-nats' ordered consumer is not used:
//! recreated before its first message it would start over, and it would retry for ever in silence.
//!
//! Invariants: positions only grow; a message at or below the position is never handed out; nothing is skipped but what
//! the stream itself dropped, and that is said with its count. [`Reader::next_batch`] may be cancelled at any point.

mod config;
mod message;
mod counters;
mod guard;
mod leftovers;
mod reading;
mod reply;
mod seek;
mod session;
mod source;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use async_nats::jetstream::Context;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, Sleep};
use tracing::{debug, info, warn};

pub use config::ReaderConfig;
pub use counters::{ReaderCounters, Reseek};
pub use guard::{Accounted, Guard, check_rollback, last_before};
pub use message::{RawMessage, ReadBatch};
pub use reading::{Batches, Reading};
pub use source::{ConsumerFacts, Source, StreamFacts};

use super::{StreamError, backoff::Backoff};
use crate::event::{ids::StreamSequence, time::Timestamp};
use seek::{Seek, Sought};
use session::{Incoming, Session};

/// How often an idle reader answers, looks at the clock and compares itself with the server.
const TICK: Duration = Duration::from_secs(1);
/// A caller that was away longer than this must not take the silence for the server's.
const AWAY: Duration = Duration::from_secs(2);
/// How long one request to the server may take before the seek is tried again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// An instance that died may have left a consumer of the same name; the next name is tried.
const NAME_TAKEN: u64 = 10_148;

/// Why a reader cannot simply go on. Calling [`Reader::next_batch`] again is always allowed.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The stream dropped messages before they were read. Said once; the next call goes on from `first`.
    #[error(
        "the stream {stream} dropped messages before they were read: expected {expected}, the first is {first}, up to {missed} missed"
    )]
    Overtaken {
        /// The stream's name.
        stream: String,
        /// The oldest sequence that is left.
        first: StreamSequence,
        /// The sequence that should have come next; 1 if nothing was ever read.
        expected: StreamSequence,
        /// How many sequences lie between; for a filtered reader some may have been others' messages.
        missed: u64,
    },
    /// The stream no longer holds what was read. The next call looks again; to go on, open a reader at another position.
    #[error("the stream {stream} no longer continues position {position}: {guard:?}")]
    RolledBack {
        /// The stream's name.
        stream: String,
        /// The position that the reader holds.
        position: StreamSequence,
        /// What was found.
        guard: Guard,
    },
    /// The server refuses to let us read. The next call tries again after a while.
    #[error("cannot read the stream")]
    Stream(#[from] StreamError),
}

enum Phase<S: Source> {
    Wait(Pin<Box<Sleep>>),
    Seek(BoxFuture<'static, Result<Sought<S>, StreamError>>),
    Read(Box<Session<S>>),
    /// Nothing is under way: the next poll starts a seek.
    Start,
}

type Probe = BoxFuture<'static, Probed>;
type Audit = BoxFuture<'static, Result<StreamFacts, StreamError>>;

/// What the server said of the consumer, and how far it had been read when it was asked.
struct Probed {
    asked: Instant,
    sequence: u64,
    answer: Result<ConsumerFacts, StreamError>,
}

/// Reads one stream, all of it or what one filter selects.
pub struct Reader<S: Source = Context> {
    source: S,
    stream: String,
    config: ReaderConfig,
    counters: Arc<ReaderCounters>,
    phase: Phase<S>,
    serial: u32,
    consumer: Option<String>,
    backoff: Backoff,
    position: u64,
    /// The newest message that is known to be accounted for.
    witness: Option<(StreamSequence, Timestamp)>,
    created: Option<Timestamp>,
    batch: Vec<RawMessage>,
    spare: Vec<RawMessage>,
    /// What the position was before the batch in hand, and whether sequences are missing within it.
    batch_after: u64,
    batch_gaps: bool,
    audit: Option<Audit>,
    audited: Instant,
    probe: Option<Probe>,
    suspect: Option<u64>,
    caught_up: bool,
    /// When the server was asked that last said nothing was left: everything stored before was handed out, or is in hand.
    told: Option<Instant>,
    sought: Instant,
    news: bool,
    /// What the server holds behind what came last; unknown until it was asked.
    pending: Option<u64>,
    tick: Pin<Box<Sleep>>,
    polled: Instant,
    yield_first: bool,
}

impl<S: Source> Reader<S> {
    /// Prepares a reader; the first call of [`Reader::next_batch`] creates its consumer.
    pub fn open(source: &S, stream: &str, config: ReaderConfig) -> Self {
        let source = source.with_timeout(REQUEST_TIMEOUT);
        let now = Instant::now();
        let position = config.start_after.0;
        let (witness, created) = (config.start_message, config.stream_created);
        // Names tell readers apart, so two that wait for the same server do not come back in step.
        let backoff = Backoff::named(Duration::from_millis(50), Duration::from_secs(5), &config.name_prefix);
        Self {
            source,
            stream: stream.to_owned(),
            config,
            counters: Arc::default(),
            phase: Phase::Start,
            serial: 0,
            consumer: None,
            backoff,
            position,
            witness,
            created,
            batch: Vec::new(),
            spare: Vec::new(),
            batch_after: position,
            batch_gaps: false,
            audit: None,
            audited: now,
            probe: None,
            suspect: None,
            caught_up: false,
            told: None,
            sought: now,
            news: false,
            pending: None,
            tick: Box::pin(tokio::time::sleep(TICK)),
            polled: now,
            yield_first: false,
        }
    }

    /// Counts into the given counters instead of its own.
    #[must_use]
    pub fn with_counters(mut self, counters: Arc<ReaderCounters>) -> Self {
        self.counters = counters;
        self
    }

    /// What the reader counts.
    pub fn counters(&self) -> Arc<ReaderCounters> {
        self.counters.clone()
    }

    /// Everything of the filter up to here has been handed out.
    pub fn position(&self) -> StreamSequence {
        StreamSequence(self.batch.first().map_or(self.position, |_| self.batch_after))
    }

    /// When the stream was created; known once the first seek has succeeded.
    pub fn stream_created(&self) -> Option<Timestamp> {
        self.created
    }

    /// Gives a batch's memory back, to be used for the next one.
    pub fn recycle(&mut self, mut messages: Vec<RawMessage>) {
        messages.clear();
        if messages.capacity() > self.spare.capacity() {
            self.spare = messages;
        }
    }

    /// Waits for messages and takes all that are there, up to the batch's limit; answers with an empty batch after a
    /// second without any. Loses nothing when cancelled.
    pub async fn next_batch(&mut self) -> Result<ReadBatch, ReaderError> {
        if std::mem::take(&mut self.yield_first) {
            tokio::task::yield_now().await;
        }
        let now = Instant::now();
        if now - self.polled > AWAY
            && let Phase::Read(session) = &mut self.phase
        {
            session.heard = now;
            session.progressed = now;
        }
        self.polled = now;
        // A batch is bounded, and tokio's budget would end it after 128 messages.
        tokio::task::unconstrained(poll_fn(|task| self.poll_batch(task))).await
    }

    /// Deletes the consumer, best effort.
    pub async fn close(mut self) {
        self.phase = Phase::Start;
        let Some(name) = self.consumer.take() else { return };
        let deletion = self.source.delete_consumer(&self.stream, &name);
        if !matches!(tokio::time::timeout(TICK, deletion).await, Ok(true)) {
            debug!(consumer = name, "a consumer could not be deleted; the server will, once it is idle");
        }
    }

    fn poll_batch(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<ReadBatch, ReaderError>> {
        loop {
            if self.audit.is_some() {
                return self.poll_audit(task);
            }
            if !self.batch.is_empty() {
                return Poll::Ready(Ok(self.hand_out()));
            }
            let waiting = match &mut self.phase {
                Phase::Start => {
                    self.start_seek();
                    false
                }
                Phase::Wait(sleep) => match sleep.poll_unpin(task) {
                    Poll::Ready(()) => {
                        self.phase = Phase::Start;
                        false
                    }
                    Poll::Pending => true,
                },
                Phase::Seek(seek) => match seek.poll_unpin(task) {
                    Poll::Ready(sought) => match self.take_sought(sought) {
                        Some(error) => return Poll::Ready(Err(error)),
                        None => false,
                    },
                    Poll::Pending => true,
                },
                Phase::Read(_) => {
                    self.fill(task);
                    if std::mem::take(&mut self.news) && self.batch.is_empty() {
                        return Poll::Ready(Ok(self.hand_out()));
                    }
                    self.batch.is_empty() && matches!(self.phase, Phase::Read(_))
                }
            };
            if waiting {
                return self.poll_tick(task);
            }
        }
    }

    /// Takes what is there, up to the batch's limit.
    fn fill(&mut self, task: &mut TaskContext<'_>) {
        let Phase::Read(session) = &mut self.phase else { return };
        self.batch_after = self.position;
        if self.batch.capacity() == 0 {
            self.batch = std::mem::take(&mut self.spare);
        }
        let mut lost = None;
        while self.batch.len() < self.config.batch {
            match session.poll(task) {
                Poll::Ready(Incoming::Message(message)) => {
                    let sequence = message.sequence.0;
                    if sequence <= self.position {
                        self.counters.repeats.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    self.batch_gaps |= sequence != self.position + 1;
                    self.position = sequence;
                    self.batch.push(message);
                }
                Poll::Ready(Incoming::Scanned(sequence)) if self.batch.is_empty() => {
                    self.backoff.reset();
                    self.caught_up = self.pending == Some(0);
                    if sequence > self.position {
                        self.position = sequence;
                        self.batch_after = sequence;
                        self.news = true;
                    }
                }
                Poll::Ready(Incoming::Scanned(_)) => {}
                Poll::Ready(Incoming::Lost(reason)) => {
                    lost = Some(reason);
                    break;
                }
                Poll::Pending => break,
            }
        }
        if !self.batch.is_empty() {
            let now = Instant::now();
            session.heard = now;
            session.progressed = now;
            self.note_batch(now);
        }
        if let Some(reason) = lost {
            self.reseek(reason);
        }
    }

    /// Remembers the batch's last message, and has the stream's beginning checked if it may have passed the reader.
    fn note_batch(&mut self, now: Instant) {
        let Some(last) = self.batch.last() else { return };
        self.witness = Some((last.sequence, last.stored_at));
        self.pending = Some(last.pending);
        self.caught_up = last.pending == 0;
        self.suspect = None;
        self.backoff.reset();
        let due = self.config.filter.is_none() || now - self.audited > TICK;
        if self.batch_gaps && due {
            // Waits that only the name decides, like all of the reader's.
            let backoff = Backoff::named(Duration::from_millis(50), Duration::from_secs(2), &self.config.name_prefix);
            self.audit = Some(audit(self.source.clone(), self.stream.clone(), backoff).boxed());
        }
    }

    fn poll_audit(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<ReadBatch, ReaderError>> {
        let Some(audit) = &mut self.audit else { return Poll::Pending };
        let Poll::Ready(answer) = audit.poll_unpin(task) else { return Poll::Pending };
        self.audit = None;
        match answer {
            Ok(facts) => {
                self.audited = Instant::now();
                if let Some(error) = self.overtaken_within(facts.first) {
                    return Poll::Ready(Err(error));
                }
            }
            Err(error) => warn!(error = %error, "could not compare the stream's beginning with what was read"),
        }
        Poll::Ready(Ok(self.hand_out()))
    }

    /// Counts the sequences that are missing within the batch and lie before the stream's beginning. The batch is kept
    /// for the next call.
    fn overtaken_within(&mut self, first: u64) -> Option<ReaderError> {
        if first <= self.batch_after + 1 {
            return None;
        }
        let mut expected = self.batch_after + 1;
        let mut missed = 0;
        let mut gap = None;
        for message in &self.batch {
            let lost = message.sequence.0.min(first).saturating_sub(expected);
            if lost > 0 {
                missed += lost;
                gap.get_or_insert((expected, message.sequence));
            }
            expected = message.sequence.0 + 1;
        }
        let (expected, next) = gap?;
        self.batch_gaps = false;
        Some(self.overtaken(next, expected, missed))
    }

    fn overtaken(&self, first: StreamSequence, expected: u64, missed: u64) -> ReaderError {
        self.counters.overtaken.fetch_add(missed, Ordering::Relaxed);
        ReaderError::Overtaken { stream: self.stream.clone(), first, expected: StreamSequence(expected), missed }
    }

    fn hand_out(&mut self) -> ReadBatch {
        let messages = std::mem::take(&mut self.batch);
        self.batch_gaps = false;
        self.yield_first = messages.len() >= self.config.batch;
        if !messages.is_empty() {
            self.counters.messages.fetch_add(u64::try_from(messages.len()).unwrap_or(0), Ordering::Relaxed);
            self.counters.batches.fetch_add(1, Ordering::Relaxed);
        }
        let position = StreamSequence(self.position);
        ReadBatch {
            messages,
            position,
            caught_up_to: self.caught_up.then_some(position),
            pending: self.pending,
            told: self.told,
        }
    }

    /// Moves the position past messages that are not of the filter.
    fn advance(&mut self, scanned: u64) {
        if scanned > self.position {
            self.position = scanned;
        }
    }

    fn poll_tick(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<ReadBatch, ReaderError>> {
        let news = self.poll_probe(task);
        if self.tick.poll_unpin(task).is_pending() {
            return if news { Poll::Ready(Ok(self.hand_out())) } else { Poll::Pending };
        }
        self.tick.as_mut().reset(Instant::now() + TICK);
        self.check_life();
        Poll::Ready(Ok(self.hand_out()))
    }

    fn check_life(&mut self) {
        let now = Instant::now();
        let Phase::Read(session) = &self.phase else { return };
        if session.reconnected() {
            self.reseek(Reseek::Reconnected);
        } else if now - session.heard > 2 * self.config.heartbeat {
            self.reseek(Reseek::MissingHeartbeat);
        } else if self.pending != Some(0) && now - session.progressed > self.config.stall_after {
            self.reseek(Reseek::Stalled);
        } else if self.probe.is_none() {
            let (source, stream, name) = (self.source.clone(), self.stream.clone(), session.name().to_owned());
            let sequence = session.sequence();
            let probe =
                async move { Probed { asked: now, sequence, answer: source.consumer_facts(&stream, &name).await } };
            self.probe = Some(probe.boxed());
        }
    }

    /// Compares the server's view of the consumer with ours. Ready with `true` when the position moved.
    fn poll_probe(&mut self, task: &mut TaskContext<'_>) -> bool {
        let Some(probe) = &mut self.probe else { return false };
        let Poll::Ready(Probed { asked, sequence, answer }) = probe.poll_unpin(task) else { return false };
        self.probe = None;
        let Phase::Read(session) = &self.phase else { return false };
        let Ok(facts) = answer else { return false };
        // Also if more came meanwhile: all that was delivered when it answered is here.
        if facts.pending == 0 && facts.delivered <= session.sequence() {
            self.told = Some(asked);
        }
        if session.sequence() != sequence {
            return false;
        }
        let on_their_way = facts.delivered.saturating_sub(sequence);
        self.pending = Some(facts.pending + on_their_way);
        self.caught_up = facts.pending == 0 && facts.delivered == sequence;
        if facts.delivered == sequence {
            self.suspect = None;
            let before = self.position;
            self.advance(facts.scanned);
            return self.position > before;
        }
        // Messages may be under way; if the next look finds the same they are lost.
        if self.suspect == Some(sequence) {
            self.suspect = None;
            self.reseek(Reseek::TailLost);
            task.waker().wake_by_ref();
        } else {
            self.suspect = Some(sequence);
        }
        false
    }

    fn reseek(&mut self, reason: Reseek) {
        self.counters.count_reseek(reason);
        debug!(stream = self.stream, position = self.position, reason = reason.as_str(), "re-seeking");
        self.probe = None;
        self.suspect = None;
        self.caught_up = false;
        self.pending = None;
        self.wait();
    }

    /// The first attempt follows at once, the next ones ever later.
    fn wait(&mut self) {
        let first = self.backoff.attempts() == 0;
        let pause = self.backoff.next_wait();
        self.phase = if first { Phase::Start } else { Phase::Wait(Box::pin(tokio::time::sleep(pause))) };
    }

    fn start_seek(&mut self) {
        self.serial += 1;
        let name = format!("{}-r{}", self.config.name_prefix, self.serial);
        let previous = self.consumer.replace(name.clone());
        let accounted = Accounted {
            watermark: StreamSequence(self.position),
            messages: self.witness.into_iter().collect(),
            stream_created: self.created,
        };
        let seek = Seek {
            source: self.source.clone(),
            stream: self.stream.clone(),
            config: self.config.clone(),
            name,
            previous,
            accounted,
        };
        self.sought = Instant::now();
        self.phase = Phase::Seek(seek.run().boxed());
    }

    fn take_sought(&mut self, sought: Result<Sought<S>, StreamError>) -> Option<ReaderError> {
        match sought {
            Ok(Sought::Ready { session, created, pending }) => {
                info!(stream = self.stream, consumer = session.name(), position = self.position, pending, "reading");
                self.created = Some(created);
                self.pending = Some(pending);
                if pending == 0 {
                    self.told = Some(self.sought);
                }
                self.phase = Phase::Read(session);
                self.news = true;
                None
            }
            Ok(Sought::RolledBack(guard)) => {
                self.wait();
                let position = StreamSequence(self.position);
                Some(ReaderError::RolledBack { stream: self.stream.clone(), position, guard })
            }
            Ok(Sought::Overtaken { first }) => {
                let expected = self.position + 1;
                self.advance(first - 1);
                self.phase = Phase::Start;
                Some(self.overtaken(StreamSequence(first), expected, first - expected))
            }
            Err(error) => {
                self.counters.failed_seeks.fetch_add(1, Ordering::Relaxed);
                self.wait();
                if let StreamError::Refused { code: NAME_TAKEN, .. } = error {
                    return None;
                }
                if error.is_transient() {
                    warn!(stream = self.stream, error = %error, "cannot create a consumer yet; trying again");
                    return None;
                }
                Some(error.into())
            }
        }
    }
}

/// Describes the stream, however long it takes: a batch with gaps must not be handed out before their cause is known.
async fn audit<S: Source>(source: S, stream: String, mut backoff: Backoff) -> Result<StreamFacts, StreamError> {
    loop {
        match source.stream_facts(&stream).await {
            Err(error) if error.is_transient() => tokio::time::sleep(backoff.next_wait()).await,
            answer => return answer,
        }
    }
}
