//! The outbox: publishes what checkpoints committed, and the current scores to the KV bucket.
//!
//! The table is the truth: what cannot be published now is read from there again, so nothing is lost when this process
//! dies or the queue here is full. Publishing twice is harmless: an alert's subject takes one message for ever, and
//! everything else carries the same message id.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    mutant::{Mutant, Mutants},
    scores::{GivenBack, Score, Scores},
};
use crate::{
    engine::checkpoint::{OutboxRow, ScoreRow},
    event::{
        ids::{Epoch, PartitionId},
        time::Timestamp,
    },
    store::{ledger::Ledger, outbox::OutboxPending, partitioning::Layout},
    stream::{
        publisher::{Outgoing, Publish, PublishError},
        risk_kv::RiskValue,
    },
    telemetry::metrics::Metrics,
};

/// Checkpoints whose messages may wait here.
const QUEUE: usize = 64;
/// Rows that are read from the table at a time.
const PAGE: usize = 500;
/// How often the table is looked at for what was left behind.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How far back before its last one a partition's scores are put into the bucket again when it is taken over, however long
/// that was left lying. More than events may lie ahead of their receipt, because scores hold as of the newest event.
const SCORES_AGAIN_MILLIS: i64 = 6 * 60_000;

/// Scores that were committed longer ago are read from the table again before they are put into the bucket.
const SCORES_FRESH: Duration = Duration::from_secs(2);

/// Messages that were committed longer ago are read from the table again before they are published: meanwhile another
/// instance may have taken over, and a customer may have been erased.
const MESSAGES_FRESH: Duration = Duration::from_secs(10);

/// A partition that was taken over: under which lease, and how customers belonged to it then.
type Resumed = (PartitionId, (Epoch, Layout));

#[derive(Debug)]
enum Order {
    Publish(Batch),
    /// Say when everything that was ordered before has been dealt with.
    Tell(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Batch {
    messages: Vec<OutboxRow>,
    scores: Vec<Score>,
    committed: Instant,
}

/// Where the worker hands committed messages over; never blocks.
#[derive(Clone, Debug)]
pub struct OutboxSender {
    queue: mpsc::Sender<Order>,
    behind: Arc<AtomicBool>,
    resumed: Arc<Mutex<Vec<Resumed>>>,
    given_back: GivenBack,
}

/// Publishes what the worker hands over.
pub struct Outbox {
    store: Arc<dyn Ledger>,
    publisher: Arc<dyn Publish>,
    metrics: Metrics,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    mutants: Mutants,
    queue: mpsc::Receiver<Order>,
    behind: Arc<AtomicBool>,
    resumed: Arc<Mutex<Vec<Resumed>>>,
    owned: BTreeMap<PartitionId, (Epoch, Layout)>,
    scores: Scores,
    published: mpsc::Sender<Vec<String>>,
}

impl OutboxSender {
    /// Hands over what a checkpoint committed, scores with the leases they were stored under. If the queue is full the
    /// table is read later.
    pub(crate) fn send(&self, messages: Vec<OutboxRow>, scores: Vec<((PartitionId, Epoch), ScoreRow)>) {
        if messages.is_empty() && scores.is_empty() {
            return;
        }
        let value = |row: &ScoreRow| RiskValue { score: row.score, level: row.level, status: row.status, at: row.at };
        let scores = scores
            .into_iter()
            .map(|(lease, row)| Score { lease, value: value(&row), account: row.account, token: row.token })
            .collect();
        let batch = Batch { messages, scores, committed: Instant::now() };
        if self.queue.try_send(Order::Publish(batch)).is_err() {
            self.behind.store(true, Ordering::Release);
        }
    }

    /// Waits until everything handed over so far was published, or left to the table; `false` if that cannot be told.
    pub(crate) async fn drained(&self) -> bool {
        let (tell, told) = oneshot::channel();
        self.queue.send(Order::Tell(tell)).await.is_ok() && told.await.is_ok()
    }

    /// Something was put into the table by another way than a checkpoint.
    pub(crate) fn look(&self) {
        self.behind.store(true, Ordering::Release);
    }

    /// A partition was taken over: what its last owner left unpublished is published now.
    pub(crate) fn resume(&self, partition: PartitionId, epoch: Epoch, layout: Layout) {
        self.resumed.lock().expect("no holder of this lock panics").push((partition, (epoch, layout)));
        self.behind.store(true, Ordering::Release);
    }

    /// A partition is given back: what is not told yet is left to whoever takes it.
    pub(crate) fn give_back(&self, partition: PartitionId, epoch: Epoch) {
        self.given_back.note(partition, epoch);
    }
}

impl Outbox {
    /// An outbox, its inlet, and where it says what was published.
    pub fn new(
        store: Arc<dyn Ledger>,
        publisher: Arc<dyn Publish>,
        metrics: Metrics,
        now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        mutants: Mutants,
    ) -> (Self, OutboxSender, mpsc::Receiver<Vec<String>>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (published, marks) = mpsc::channel(QUEUE * 4);
        let behind = Arc::new(AtomicBool::new(false));
        let (resumed, given_back) = (Arc::default(), GivenBack::default());
        let inlet = OutboxSender {
            queue: sender,
            behind: Arc::clone(&behind),
            resumed: Arc::clone(&resumed),
            given_back: given_back.clone(),
        };
        let owned = BTreeMap::new();
        let scores = Scores::new(Arc::clone(&store), Arc::clone(&publisher), metrics.clone(), given_back);
        let outbox = Self { store, publisher, metrics, now, mutants, queue, behind, resumed, owned, scores, published };
        (outbox, inlet, marks)
    }

    /// Publishes until `stop`, and then what is still in the queue.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut soon = tokio::time::interval(Duration::from_millis(200));
        soon.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                order = self.queue.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => break,
                },
                () = stop.cancelled() => break,
                _ = look.tick() => self.look_at_table().await,
                _ = soon.tick() => {
                    if self.behind.swap(false, Ordering::AcqRel) {
                        self.catch_up().await;
                    }
                }
            }
        }
        while let Ok(order) = self.queue.try_recv() {
            self.obey(order).await;
        }
        Ok(())
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Publish(batch) => self.publish(batch).await,
            Order::Tell(tell) => {
                if tell.send(()).is_err() {
                    debug!("nobody waits for the outbox any more");
                }
            }
        }
    }

    async fn publish(&mut self, batch: Batch) {
        if !batch.messages.is_empty() && batch.committed.elapsed() > MESSAGES_FRESH {
            self.behind.store(true, Ordering::Release);
        } else if !batch.messages.is_empty() {
            let mut done = publish_rows(&*self.publisher, &batch.messages).await;
            if self.mutants.has(Mutant::MarkUnconfirmed) {
                done = batch.messages.iter().map(|row| row.message_id.clone()).collect();
            }
            if done.len() < batch.messages.len() {
                self.fall_behind(batch.messages.len() - done.len());
            }
            self.mark(done).await;
        }
        if batch.committed.elapsed() > SCORES_FRESH {
            // This process may have been paused and superseded meanwhile: only the table knows the newest scores.
            self.resume_owned();
            return;
        }
        self.put_scores(batch.scores).await;
    }

    fn fall_behind(&self, left: usize) {
        warn!(messages = left, "{left} messages of the outbox cannot be published now; they stay in the table");
        self.metrics.count_error("outbox", "publish");
        self.behind.store(true, Ordering::Release);
    }

    /// Has published rows marked: by the worker's next checkpoint, or at once where it does not listen any more.
    async fn mark(&self, ids: Vec<String>) {
        if ids.is_empty() {
            return;
        }
        if let Err(refused) = self.published.try_send(ids) {
            let ids = refused.into_inner();
            if let Err(error) = self.store.mark_published(&ids).await {
                debug!("cannot mark published messages, they will be offered again: {error}");
            }
        }
    }

    async fn put_scores(&mut self, scores: Vec<Score>) {
        if !self.scores.put(scores).await {
            self.metrics.count_error("outbox", "kv");
            self.resume_owned();
        }
    }

    /// Has what the table holds of our partitions published, scores included.
    fn resume_owned(&self) {
        self.resumed.lock().expect("no holder of this lock panics").extend(self.owned.clone());
        self.behind.store(true, Ordering::Release);
    }

    /// Publishes what the table still holds of our partitions.
    async fn catch_up(&mut self) {
        let mut resumed = std::mem::take(&mut *self.resumed.lock().expect("no holder of this lock panics"));
        if self.mutants.has(Mutant::ForgetUnpublished) {
            resumed.clear();
        }
        self.owned.extend(resumed.iter().copied());
        if let Err(error) = self.publish_from_table(&resumed).await {
            debug!("cannot read the outbox, trying again: {error}");
            self.resumed.lock().expect("no holder of this lock panics").extend(resumed);
            self.behind.store(true, Ordering::Release);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn publish_from_table(&mut self, resumed: &[Resumed]) -> Result<(), crate::store::StoreError> {
        let mut after = 0;
        let owned: Vec<PartitionId> = self.owned.keys().copied().collect();
        loop {
            let rows = self.store.load_unpublished(&owned, after, PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            let messages: Vec<OutboxRow> = rows.into_iter().map(|row| row.row).collect();
            let done = publish_rows(&*self.publisher, &messages).await;
            if done.len() < messages.len() {
                self.fall_behind(messages.len() - done.len());
                self.resumed.lock().expect("no holder of this lock panics").extend(resumed);
                self.store.mark_published(&done).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
                return Ok(());
            }
            self.store.mark_published(&done).await?;
        }
        for (partition, (epoch, layout)) in resumed {
            let ours = |account: &str, token: &str| layout.of(account, token) == *partition;
            let (lease, labels) = ((*partition, *epoch), layout.labels_ever(*partition));
            let Some(last) = self.store.last_score_at(*layout, *partition).await? else { continue };
            let since = last.min((self.now)()).plus_millis(-SCORES_AGAIN_MILLIS);
            let recent = self.store.recent_scores(&labels, since).await?;
            let scores: Vec<Score> = recent
                .into_iter()
                .filter(|row| ours(row.account.as_str(), &row.token))
                .map(|row| {
                    let value = RiskValue { score: row.score, level: row.level, status: row.status, at: row.at };
                    Score { lease, account: row.account, token: row.token, value }
                })
                .collect();
            self.put_scores(scores).await;
        }
        Ok(())
    }

    async fn look_at_table(&mut self) {
        match self.store.outbox_pending().await {
            Ok(OutboxPending { count, oldest }) => {
                let age = oldest.map_or(0, |oldest| (self.now)().millis_since(oldest)).max(0);
                self.metrics.outbox_pending.set(i64::try_from(count).unwrap_or(i64::MAX));
                let since = Instant::now().checked_sub(Duration::from_millis(age.unsigned_abs()));
                self.metrics.outbox_oldest_age_seconds.waits_since(since.filter(|_| count > 0).map(Instant::into_std));
                if age > 30_000 {
                    self.behind.store(true, Ordering::Release);
                }
            }
            Err(error) => debug!("cannot look at the outbox: {error}"),
        }
    }
}

/// Publishes rows in order; gives back the message ids of those that are in the stream now.
pub(super) async fn publish_rows(publisher: &dyn Publish, rows: &[OutboxRow]) -> Vec<String> {
    let outgoing = rows
        .iter()
        .map(|row| Outgoing::new(row.subject.clone(), row.body.clone()).with_id(row.message_id.clone()))
        .collect::<Vec<_>>();
    let results = publisher.publish_all(outgoing).await;
    let mut done = Vec::with_capacity(rows.len());
    for (row, result) in rows.iter().zip(results) {
        match result {
            Ok(_) => done.push(row.message_id.clone()),
            Err(PublishError::AlreadyThere { .. }) => done.push(row.message_id.clone()),
            Err(error) => warn!("cannot publish a message of the outbox: {}", error.reason()),
        }
    }
    done
}
