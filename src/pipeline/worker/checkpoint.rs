//! Checkpoints: what changed since the last one, stored beside the reading in one transaction, then published.
//!
//! At most one is under way. It is tried again as it is until it stands or is refused; when COMMIT's answer was lost the
//! watermarks are read back. Dead letters are published before the watermark passes them.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tracing::{debug, error, warn};

use super::Worker;
use crate::{
    engine::{
        alert::AlertKind,
        checkpoint::{OutboxKind, OutboxRow, ScoreRow},
    },
    event::{
        ids::{Epoch, PartitionId},
        time::Timestamp,
    },
    pipeline::{
        mutant::{self, Mutant, Mutants},
        tasks::Tasks,
    },
    store::{
        StoreError,
        checkpoint::{CheckpointWrite, PartWrite},
        ledger::Ledger,
    },
    stream::{
        dead::DeadLetter,
        publisher::{Outgoing, Publish},
    },
};

/// Dead letters that may wait in memory before a checkpoint is asked for.
const BURIALS_AT_MOST: usize = 2_000;
/// What a dead letter takes beside its body: subjects, reason, headers.
const LETTER_OVERHEAD: usize = 1_000;
/// How long to wait before dead letters are tried again.
const BURY_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// What stands for the rules' hash while stored scores are made by different ones: no owner takes it for its own, not even
/// one that works by the rules of before.
const MIXED_RULES: &str = "mixed";
/// A watermark that moved over other partitions' messages alone is stored this often.
const QUIET_INTERVAL: Duration = Duration::from_secs(5);

/// The checkpoint under way and what the next one must bring.
#[derive(Default)]
pub(super) struct Checkpointing {
    under_way: Option<UnderWay>,
    started: Option<Instant>,
    /// Since when something waits for a checkpoint.
    waiting_since: Option<Instant>,
    /// When the oldest message was stored that no checkpoint holds yet.
    oldest_stored_at: Option<Timestamp>,
    burials: Vec<DeadLetter>,
    published: Vec<String>,
    /// Customers became clean: some may leave memory.
    evict_wanted: bool,
}

struct UnderWay {
    stored: oneshot::Receiver<anyhow::Result<Stored>>,
    oldest_stored_at: Option<Timestamp>,
    outgoing: Pending,
}

/// What is published once it is stored.
#[derive(Default)]
struct Pending {
    messages: Vec<OutboxRow>,
    scores: Vec<ScoreRow>,
}

/// How a checkpoint ended.
pub(super) struct Stored {
    committed: Vec<(PartitionId, Epoch)>,
    fenced: Vec<(PartitionId, Epoch)>,
    took: Duration,
    published: usize,
}

impl Checkpointing {
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// A checkpoint has been tried for so long that something must be wrong.
    pub(super) fn is_overdue(&self) -> bool {
        self.is_under_way() && self.started.is_some_and(|started| started.elapsed() > Duration::from_secs(30))
    }

    /// Something changed that must be stored.
    pub(super) fn note_change(&mut self) {
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    /// Messages were applied, the first of them stored at this instant.
    pub(super) fn note_messages(&mut self, first_stored_at: Timestamp) {
        self.oldest_stored_at.get_or_insert(first_stored_at);
        self.note_change();
    }

    /// Roughly how many bytes the dead letters hold that wait to be buried.
    pub(super) fn burial_bytes(&self) -> usize {
        self.burials.iter().map(|letter| letter.payload.len() + LETTER_OVERHEAD).sum()
    }

    /// A message that must be in the dead letters before the watermark passes it.
    pub(super) fn bury(&mut self, letter: DeadLetter) {
        self.burials.push(letter);
        self.note_change();
    }

    /// Messages of the outbox that were published: the next checkpoint marks them.
    pub(super) fn published(&mut self, ids: Vec<String>) {
        self.published.extend(ids);
        self.note_change();
    }

    /// Resolves when the checkpoint under way has ended; never while there is none.
    pub(super) async fn stored(&mut self) -> anyhow::Result<Stored> {
        match &mut self.under_way {
            Some(under_way) => match (&mut under_way.stored).await {
                Ok(stored) => stored,
                Err(_) => Err(anyhow::anyhow!("the checkpoint's task ended without a result")),
            },
            None => std::future::pending().await,
        }
    }
}

impl Worker {
    pub(super) fn start_checkpoint_if_due(&mut self, now: Timestamp) {
        if self.checkpointing.is_under_way() {
            return;
        }
        let Some(since) = self.checkpointing.waiting_since else { return };
        let waited = since.elapsed();
        let outgoing = self.owned.values().any(|owned| owned.engine.has_outgoing());
        let changed =
            self.owned.values().any(|owned| !owned.engine.is_clean() || owned.releasing || owned.forget.is_wanted());
        let pause = if self.catches_up() {
            self.config.catch_up_checkpoint()
        } else if outgoing {
            self.config.checkpoint_linger()
        } else if changed || !self.checkpointing.published.is_empty() {
            self.config.checkpoint_interval()
        } else {
            QUIET_INTERVAL
        };
        let full = self.dirty() * 2 > self.config.dirty_customers_max
            || self.checkpointing.burials.len() > BURIALS_AT_MOST
            || !self.has_room();
        if waited >= pause || full {
            self.start_checkpoint(now);
        }
    }

    /// Has everything stored that changed; does nothing where nothing did.
    pub(super) fn start_checkpoint(&mut self, now: Timestamp) {
        let mut parts = Vec::new();
        let mut outgoing = Pending::default();
        let begun = Instant::now();
        for owned in self.owned.values_mut() {
            let forgotten = owned.forget(&self.warm);
            if owned.engine.is_clean() && !owned.moved() && !owned.releasing && forgotten.is_empty() {
                continue;
            }
            if !forgotten.is_empty() {
                self.forgetting.hurry();
            }
            let checkpoint = owned.engine.take_checkpoint(now);
            outgoing.messages.extend(checkpoint.outbox.iter().cloned());
            outgoing.scores.extend(checkpoint.scores.iter().cloned());
            owned.committing = Some(owned.applied);
            parts.push(PartWrite {
                epoch: owned.epoch,
                from: owned.committed,
                to: owned.applied,
                to_time: owned.applied_at(),
                stream_created: owned.stream_created,
                rules_hash: if owned.sweep.is_none() { owned.rules_hash.clone() } else { Some(MIXED_RULES.to_owned()) },
                checkpoint,
                forgotten,
                unwanted: owned.forget.take_unwanted(),
            });
        }
        let published = std::mem::take(&mut self.checkpointing.published);
        let burials = std::mem::take(&mut self.checkpointing.burials);
        self.checkpointing.waiting_since = None;
        if parts.is_empty() && published.is_empty() && burials.is_empty() {
            return;
        }
        self.tools.metrics.observe_stage("snapshot", begun.elapsed());
        let bytes: usize =
            parts.iter().flat_map(|part| &part.checkpoint.states).map(|state| state.snapshot.len()).sum();
        self.tools.metrics.checkpoint_size_bytes.observe(bytes as f64);
        self.tools.metrics.checkpoint_age_seconds.waits_since(Some(begun.into_std()));
        let job = Job {
            store: self.tools.store.clone(),
            publisher: self.tools.publisher.clone(),
            write: CheckpointWrite::new(parts, published),
            burials,
            mutants: self.tools.mutants,
        };
        self.checkpointing.started = Some(begun);
        let oldest_stored_at = self.checkpointing.oldest_stored_at.take();
        let stored = job.start(&self.tools.tasks);
        self.checkpointing.under_way = Some(UnderWay { stored, oldest_stored_at, outgoing });
    }

    /// What follows from a checkpoint's end.
    pub(super) fn checkpoint_stored(&mut self, stored: anyhow::Result<Stored>) -> anyhow::Result<()> {
        let Some(under_way) = self.checkpointing.under_way.take() else { return Ok(()) };
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => {
                self.tools.metrics.checkpoints.get_or_create(&result("failed")).inc();
                return Err(error);
            }
        };
        let metrics = self.tools.metrics.clone();
        metrics.checkpoint_duration_seconds.observe(stored.took.as_secs_f64());
        metrics.checkpoint_age_seconds.waits_since(None);
        if let Some(stored_at) = under_way.oldest_stored_at {
            metrics.end_to_end_latency_seconds.observe(self.now().millis_since(stored_at).max(0) as f64 / 1_000.0);
        }
        metrics.checkpoints.get_or_create(&result("committed")).inc();
        for (partition, epoch) in &stored.fenced {
            metrics.fenced_writes.inc();
            metrics.checkpoints.get_or_create(&result("fenced")).inc();
            // It may be ours again, under another lease, which this does not concern.
            let drops_any = self.tools.mutants.has(Mutant::LateDrop);
            if self.owned.get(partition).is_some_and(|owned| owned.epoch == *epoch || drops_any) {
                self.drop_partition(*partition, "its checkpoint was refused: another instance has taken it over");
                // Should the lease be ours after all, it is taken anew, with the watermark that the table has.
                self.releaser.release(*partition, *epoch);
            }
        }
        let mut released = Vec::new();
        for (partition, epoch) in &stored.committed {
            let Some(owned) = self.owned.get_mut(partition).filter(|owned| owned.epoch == *epoch) else { continue };
            owned.engine.committed();
            if let Some(committed) = owned.committing.take() {
                owned.committed = committed;
                self.tools.metrics.partition_checkpointed(*partition, committed.0);
            }
            if owned.releasing && owned.engine.is_clean() && owned.applied == owned.committed {
                released.push((*partition, owned.epoch));
            }
        }
        self.progress.send_replace(Instant::now().into_std());
        self.publish(under_way.outgoing, &stored);
        self.release(released);
        self.checkpointing.evict_wanted = true;
        self.note_what_waits();
        debug!(
            partitions = stored.committed.len(),
            marked = stored.published,
            "checkpoint stored in {:?}",
            stored.took
        );
        Ok(())
    }

    fn publish(&mut self, outgoing: Pending, stored: &Stored) {
        let lease = |account: &str, token: &str| {
            let partition = self.layout.of(account, token);
            stored.committed.iter().find(|(committed, _)| *committed == partition).copied()
        };
        let mut messages = outgoing.messages;
        messages.retain(|row| lease(row.account.as_str(), &row.token).is_some());
        let scores = outgoing.scores.into_iter();
        let scores = scores.filter_map(|row| Some((lease(row.account.as_str(), &row.token)?, row))).collect();
        for row in messages.iter().filter(|row| row.kind == OutboxKind::Alert) {
            self.count_alert(row);
        }
        let cooling = messages.iter().filter(|row| row.kind == OutboxKind::HeldAlert).count();
        self.count_held("cooldown", cooling as u64);
        messages.retain(|row| row.kind != OutboxKind::HeldAlert);
        self.outbox.send(messages, scores);
    }

    fn count_held(&self, reason: &'static str, count: u64) {
        if count > 0 {
            let label = crate::telemetry::metrics::ReasonLabel { reason };
            self.tools.metrics.alerts_held.get_or_create(&label).inc_by(count);
        }
    }

    fn count_alert(&self, row: &OutboxRow) {
        let alert: AlertKind = match serde_json::from_slice::<AlertHead>(&row.body) {
            Ok(head) => head.kind,
            Err(_) => return,
        };
        let level = row.subject.split('.').nth(3).unwrap_or_default();
        let level = ["low", "medium", "high"].into_iter().find(|known| *known == level).unwrap_or("unknown");
        let labels = crate::telemetry::metrics::AlertLabels { kind: alert.as_str(), level };
        self.tools.metrics.alerts.get_or_create(&labels).inc();
    }

    fn release(&mut self, released: Vec<(PartitionId, Epoch)>) {
        for (partition, epoch) in released {
            self.owned.remove(&partition);
            self.tools.metrics.partition_released(partition);
            self.outbox.give_back(partition, epoch);
            self.releaser.release(partition, epoch);
            self.update_readers();
        }
    }

    /// Keeps memory bounded: clean customers leave for the warm cache, those longest untouched first.
    ///
    /// Not while some work waits for stored customers: those that were in memory when it began must be there when it
    /// goes on, or it would take them for new ones; and what it loads of those that were not may by then be older.
    pub(super) fn evict_if_wanted(&mut self) {
        let waits = self.work.is_some() && !self.tools.mutants.has(Mutant::EvictWhileLoading);
        if !self.checkpointing.evict_wanted || waits {
            return;
        }
        self.checkpointing.evict_wanted = false;
        let partitions = self.owned.len().max(1);
        let keep = self.config.hot_customers / partitions;
        let mut evicted = 0;
        for owned in self.owned.values_mut() {
            for customer in owned.engine.evict(keep) {
                self.warm.put(customer, owned.epoch);
                evicted += 1;
            }
        }
        let cause = crate::telemetry::metrics::CauseLabel { cause: "size" };
        self.tools.metrics.window_evictions.get_or_create(&cause).inc_by(evicted);
        let resident: usize = self.owned.values().map(|owned| owned.engine.resident()).sum();
        let resident = resident as u64 + self.warm.len();
        self.tools.metrics.windows_resident.set(i64::try_from(resident).unwrap_or(i64::MAX));
    }

    fn note_what_waits(&mut self) {
        let evaluations = self.owned.values_mut().map(|owned| owned.engine.take_evaluations()).sum();
        self.tools.metrics.risk_calculations.inc_by(evaluations);
        let kept_back = self.owned.values_mut().map(|owned| owned.engine.take_kept_back()).sum();
        self.count_held("tracking", kept_back);
        let waits = self
            .owned
            .values()
            .any(|owned| !owned.engine.is_clean() || owned.moved() || owned.releasing || owned.forget.is_wanted());
        if waits || !self.checkpointing.burials.is_empty() || !self.checkpointing.published.is_empty() {
            self.checkpointing.note_change();
        }
    }
}

fn result(result: &'static str) -> crate::telemetry::metrics::ResultLabel {
    crate::telemetry::metrics::ResultLabel { result }
}

/// What of an alert is counted.
#[derive(serde::Deserialize)]
struct AlertHead {
    kind: AlertKind,
}

/// A checkpoint on its way into the store.
struct Job {
    store: Arc<dyn Ledger>,
    publisher: Arc<dyn Publish>,
    write: CheckpointWrite,
    burials: Vec<DeadLetter>,
    mutants: Mutants,
}

impl Job {
    fn start(self, tasks: &Tasks) -> oneshot::Receiver<anyhow::Result<Stored>> {
        let (sender, receiver) = oneshot::channel();
        tasks.spawn(async move {
            if sender.send(self.run().await).is_err() {
                warn!("the worker ended before its checkpoint");
            }
        });
        receiver
    }

    async fn run(mut self) -> anyhow::Result<Stored> {
        let mut committed: Vec<(PartitionId, Epoch)> =
            self.write.parts.iter().map(|part| (part.checkpoint.partition, part.epoch)).collect();
        if !self.mutants.has(Mutant::BuryLate) {
            self.bury().await;
        }
        let started = Instant::now();
        mutant::before_commit(self.mutants, &*self.publisher, &self.write).await;
        let fenced = if self.mutants.has(Mutant::WatermarkApart) {
            mutant::store_watermark_apart(&*self.store, &mut self.write).await?
        } else {
            self.store_until_it_stands().await?
        };
        if self.mutants.has(Mutant::BuryLate) {
            self.bury().await;
        }
        committed.retain(|(partition, _)| !fenced.iter().any(|(refused, _)| refused == partition));
        Ok(Stored { committed, fenced, took: started.elapsed(), published: self.write.published.len() })
    }

    /// Publishes the dead letters, for as long as it takes.
    async fn bury(&mut self) {
        while !self.burials.is_empty() {
            let most = self.publisher.max_payload();
            let letters: Vec<Outgoing> = self.burials.iter().map(|letter| letter.outgoing(most)).collect();
            let results = self.publisher.publish_all(letters).await;
            let mut results = results.into_iter();
            self.burials.retain(|letter| match results.next() {
                Some(Ok(_)) => false,
                Some(Err(error)) => {
                    let (sequence, reason) = (letter.sequence, error.reason());
                    warn!(sequence = %sequence, "cannot bury message {sequence}, trying again: {reason}");
                    true
                }
                None => true,
            });
            if !self.burials.is_empty() {
                tokio::time::sleep(BURY_AGAIN_AFTER).await;
            }
        }
    }

    /// Stores the checkpoint less the parts that are refused; gives the refused partitions back.
    ///
    /// Trying the same write again is harmless: the store knows it by its id if it stood although no answer said so.
    async fn store_until_it_stands(&mut self) -> anyhow::Result<Vec<(PartitionId, Epoch)>> {
        let mut fenced = Vec::new();
        let mut pause = Duration::from_millis(20);
        while !(self.write.parts.is_empty() && self.write.published.is_empty()) {
            if self.mutants.has(Mutant::NoFencing) {
                mutant::adopt_current_leases(&*self.store, &mut self.write).await;
            }
            match self.store.store_checkpoint(&self.write).await {
                Ok(()) => break,
                Err(StoreError::Fenced { partition, epoch }) => {
                    error!(partition = %partition, epoch = %epoch, "the checkpoint of {partition} was refused");
                    fenced.push((partition, epoch));
                    let mut parts = std::mem::take(&mut self.write.parts);
                    parts.retain(|part| part.checkpoint.partition != partition);
                    self.write = CheckpointWrite::new(parts, std::mem::take(&mut self.write.published));
                }
                Err(error) if error.is_transient() => {
                    warn!("cannot store a checkpoint, trying again: {error}");
                    mutant::retry_anew(self.mutants, &*self.store, &mut self.write).await;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(fenced)
    }
}
