//! The archive: every event of the stream as a row of a table partitioned by day, off the scoring path.
//!
//! One instance archives the whole stream under a lease of its own. The position moves in the transaction that copies the
//! rows, so each event is archived once; old days are dropped whole.
//!
//! Contact details in events that say who a customer is are stored in its row, or dropped, as `privacy.store_contact` says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::jetstream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{
    ownership::{LeaseUpdate, Releaser},
    rollback::same_until,
    worker::retry,
};
use crate::{
    event::{
        contact::{self, Contact, WHO},
        decode::{Encoding, check_customer, decode},
        ids::{AccountId, StreamSequence},
        subject::parse_partitioned,
        time::Timestamp,
    },
    store::{
        Store, StoreError,
        archive::{ArchiveWrite, ArchivedEvent},
        customers::ContactRow,
        leases::Lease,
    },
    stream::{
        EVENTS, StreamError,
        reader::{Guard, RawMessage, Reader, ReaderConfig, ReaderError},
    },
    telemetry::metrics::Metrics,
};

/// Events that are copied at once at most.
const ROWS_AT_ONCE: usize = 20_000;
/// Bytes of properties after which no more events are collected.
const BYTES_AT_ONCE: usize = 8 << 20;
/// How long events wait for a copy.
const COPY_EVERY: Duration = Duration::from_secs(2);
const DAY_MILLIS: i64 = 86_400_000;

/// Copies events into the archive.
pub struct Archiver {
    /// Postgres.
    pub store: Store,
    /// JetStream for reading.
    pub reading: jetstream::Context,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How many days are kept.
    pub retention_days: u32,
    /// Whether e-mail addresses and company names are stored.
    pub store_contact: bool,
}

/// How far the archive has come under one lease.
struct Stretch {
    lease: Lease,
    position: StreamSequence,
    /// When the last message up to there was stored.
    newest: Option<Timestamp>,
    /// The stream was rolled back: what it holds of then and before is in the archive. Until newer messages come the
    /// watermark stays, or whoever is next would not know.
    archived_until: Option<Timestamp>,
    created: Option<Timestamp>,
    events: Vec<ArchivedEvent>,
    /// How much their properties hold.
    bytes: usize,
    /// Who customers are, where that is stored.
    contacts: Option<Vec<ContactRow>>,
    copied_at: Instant,
}

impl Archiver {
    /// Archives whenever the lease is ours, until `stop`.
    pub async fn run(
        self,
        mut leases: mpsc::Receiver<LeaseUpdate>,
        releaser: Releaser,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut held: Option<Lease> = None;
        loop {
            let update = match held.take() {
                None => tokio::select! {
                    () = stop.cancelled() => break,
                    update = leases.recv() => update,
                },
                Some(lease) => {
                    let (partition, epoch) = (lease.partition, lease.epoch);
                    let update = self.archive(lease, &mut leases, &stop).await?;
                    if stop.is_cancelled() {
                        releaser.release_all(vec![(partition, epoch)]).await;
                        break;
                    }
                    update
                }
            };
            match update {
                Some(update) => held = update.gained.into_iter().next(),
                None => break,
            }
        }
        Ok(())
    }

    /// Archives under one lease until it is lost or `stop`.
    async fn archive(
        &self,
        lease: Lease,
        leases: &mut mpsc::Receiver<LeaseUpdate>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<LeaseUpdate>> {
        info!(epoch = %lease.epoch, position = %lease.watermark, "archiving events from sequence {}", lease.watermark);
        let mut config = ReaderConfig::new(format!("churnd-archive-e{}", lease.epoch), lease.watermark);
        config.batch = 1_000;
        config.start_message = lease.watermark_time.map(|stored_at| (lease.watermark, stored_at));
        config.stream_created = lease.stream_created;
        let mut reader = Reader::open(&self.reading, EVENTS, config.clone());
        let mut stretch = Stretch {
            position: lease.watermark,
            newest: lease.watermark_time,
            archived_until: None,
            created: lease.stream_created,
            events: Vec::new(),
            contacts: self.store_contact.then(Vec::new),
            bytes: 0,
            copied_at: Instant::now(),
            lease,
        };
        let mut cleaned = None;
        let ended = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                update = leases.recv() => match update {
                    Some(update) if update.lost.is_empty() && update.gained.is_empty() => {}
                    other => break other,
                },
                batch = reader.next_batch() => match batch {
                    Ok(batch) => {
                        stretch.created = reader.stream_created();
                        stretch.take(&batch.messages, batch.caught_up_to.unwrap_or(batch.position));
                        reader.recycle(batch.messages);
                    }
                    Err(ReaderError::Overtaken { missed, .. }) => {
                        error!(missed, "the stream dropped up to {missed} events before they were archived");
                    }
                    Err(ReaderError::RolledBack { guard, .. }) => {
                        if !self.copy(&mut stretch).await? {
                            break Some(LeaseUpdate::default());
                        }
                        match self.go_back(&mut stretch, guard).await {
                            Ok(()) => {
                                reader.close().await;
                                reader = Reader::open(&self.reading, EVENTS, stretch.reader_config(&config));
                            }
                            Err(error) => warn!("cannot find where to archive on after a rollback, trying again: {error}"),
                        }
                    }
                    Err(error) => warn!("cannot read events to archive, trying again: {error}"),
                },
            }
            if stretch.is_due() && !self.copy(&mut stretch).await? {
                break Some(LeaseUpdate::default());
            }
            self.clean(&mut cleaned).await;
        };
        if ended.is_none() {
            self.copy(&mut stretch).await?;
        }
        reader.close().await;
        Ok(ended)
    }

    /// The stream is another than the one that was archived: begins where it may be, and leaves out what was archived.
    async fn go_back(&self, stretch: &mut Stretch, found: Guard) -> Result<(), StreamError> {
        let same_until = same_until(&self.reading, found).await?;
        stretch.position = stretch.position.min(same_until);
        stretch.archived_until = stretch.newest;
        if let Guard::StreamRecreated { created } = found {
            stretch.created = Some(created);
        }
        let position = stretch.position;
        warn!(
            ?found,
            "the stream {EVENTS} was rolled back: archiving again from sequence {position}, without what is archived"
        );
        Ok(())
    }

    /// Copies what was collected; `false` if another instance has taken the archive over.
    async fn copy(&self, stretch: &mut Stretch) -> anyhow::Result<bool> {
        stretch.copied_at = Instant::now();
        stretch.bytes = 0;
        let moved = stretch.position != stretch.lease.watermark || !stretch.events.is_empty();
        if !moved || stretch.archived_until.is_some() {
            return Ok(true);
        }
        let write = ArchiveWrite {
            id: Uuid::new_v4(),
            partition: stretch.lease.partition,
            epoch: stretch.lease.epoch,
            from: stretch.lease.watermark,
            to: stretch.position,
            to_time: stretch.newest,
            stream_created: stretch.created,
            events: std::mem::take(&mut stretch.events),
            contacts: stretch.contacts.as_mut().map(std::mem::take).unwrap_or_default(),
        };
        let count = write.events.len() as u64;
        let outcome = retry("archive events", || async {
            match self.store.copy_events(&write).await {
                Err(StoreError::Fenced { .. }) => Ok(false),
                other => other.map(|()| true),
            }
        })
        .await?;
        if outcome {
            stretch.lease.watermark = stretch.position;
            self.metrics.archive_events.inc_by(count);
        } else {
            self.metrics.fenced_writes.inc();
            warn!("another instance has taken the archive over");
        }
        Ok(outcome)
    }

    /// Drops the days that are kept no longer, once a day.
    async fn clean(&self, cleaned: &mut Option<i64>) {
        let now = (self.now)();
        if *cleaned == Some(now.day()) {
            return;
        }
        *cleaned = Some(now.day());
        let before = now.plus_millis(-i64::from(self.retention_days) * DAY_MILLIS);
        match self.store.drop_archive_before(before).await {
            Ok(0) => {}
            Ok(days) => info!(days, "dropped {days} days of archived events"),
            Err(error) => warn!("cannot drop old days of the archive, trying again tomorrow: {error}"),
        }
    }
}

impl Stretch {
    fn take(&mut self, messages: &[RawMessage], position: StreamSequence) {
        let archived_until = self.archived_until;
        let is_new = |message: &&RawMessage| archived_until.is_none_or(|until| message.stored_at > until);
        for message in messages.iter().filter(is_new) {
            self.archived_until = None;
            let Some(mut event) = archived(message) else { continue };
            if WHO.contains(&event.name.as_str()) {
                self.keep_or_drop_contact(&mut event);
            }
            self.bytes += event.properties.as_ref().map_or(0, String::len);
            self.events.push(event);
        }
        if position > self.position {
            self.position = position;
            self.newest = messages.last().map(|last| last.stored_at).max(self.newest);
        }
    }

    fn keep_or_drop_contact(&mut self, event: &mut ArchivedEvent) {
        let Some(properties) = &event.properties else { return };
        let Some(contacts) = &mut self.contacts else {
            if let Some(rest) = contact::without_contact(properties) {
                event.properties = Some(rest);
            }
            return;
        };
        let contact = Contact::of(&event.name, properties);
        if let Some(customer) = event.customer.clone().filter(|_| !contact.is_empty()) {
            // An instant in the future would count for ever.
            let at = event.occurred_at.min(event.stored_at);
            contacts.push(ContactRow { account: event.account.clone(), customer, contact, at });
        }
    }

    /// A reader of where it has come to.
    fn reader_config(&self, before: &ReaderConfig) -> ReaderConfig {
        let mut config = before.clone();
        config.name_prefix = format!("churnd-archive-e{}-s{}", self.lease.epoch, self.position);
        config.start_after = self.position;
        config.start_message = None;
        config.stream_created = self.created;
        config
    }

    fn is_due(&self) -> bool {
        self.events.len() >= ROWS_AT_ONCE || self.bytes >= BYTES_AT_ONCE || self.copied_at.elapsed() >= COPY_EVERY
    }
}

/// A message as the archive keeps it; what cannot be used is in the dead letters.
fn archived(message: &RawMessage) -> Option<ArchivedEvent> {
    let subject = parse_partitioned(message.subject.as_str())?;
    let encoding = if message.is_message_pack() { Encoding::MessagePack } else { Encoding::Json };
    let mut scratch = Vec::new();
    let event = decode(&message.payload, encoding, &mut scratch).ok()?;
    Some(ArchivedEvent {
        sequence: message.sequence,
        stored_at: message.stored_at,
        partition: subject.partition,
        account: AccountId::parse(subject.account).ok()?,
        token: subject.token.into(),
        customer: Some(check_customer(&event, subject.token).ok()?),
        name: event.name.to_string(),
        event_id: event.identity(subject.account, message.message_id()).map(str::to_owned),
        occurred_at: event.timestamp.unwrap_or(message.stored_at),
        user_id: event.user_id.as_ref().map(ToString::to_string),
        properties: event.properties_json().map(str::to_owned),
    })
}
