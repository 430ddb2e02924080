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
    scores::{GivenBack, Missed, Score, Scores, earliest_of_each},
};
use crate::{
    engine::checkpoint::{OutboxRow, ScoreRow},
    event::{
        ids::{AccountId, Epoch, PartitionId},
        time::Timestamp,
    },
    store::{StoreError, ledger::Ledger, outbox::OutboxPending, partitioning::Layout, states::RecentScore},
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

/// How many customers' scores are read from the table at a time.
const SCORES_PAGE: usize = 5_000;
/// How many pages are put one after the other at most.
const SCORES_PAGES: usize = 64;
/// How soon scores that could not be put are tried again.
const SCORES_RETRY: Duration = Duration::from_secs(1);

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
    missed: Missed,
    given_back: GivenBack,
}

/// What became of a page of scores.
enum Put {
    /// It is in the bucket; the next begins after this customer.
    Page((AccountId, Box<str>)),
    /// It is in the bucket, and was the last.
    Last,
    NotNow,
}

/// A partition's scores on their way from the table into the bucket.
struct Putting {
    partition: PartitionId,
    since: Timestamp,
    after: Option<(AccountId, Box<str>)>,
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
    missed: Missed,
    scores: Scores,
    /// The partition whose missing scores are being put, and what comes next of them.
    putting: Option<Putting>,
    put_again: Instant,
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
        if let Err(mpsc::error::TrySendError::Full(Order::Publish(batch))) = self.queue.try_send(Order::Publish(batch))
        {
            self.missed.note_all(earliest_of_each(&batch.scores));
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
        let (resumed, missed, given_back) = (Arc::default(), Missed::default(), GivenBack::default());
        let inlet = OutboxSender {
            queue: sender,
            behind: Arc::clone(&behind),
            resumed: Arc::clone(&resumed),
            missed: missed.clone(),
            given_back: given_back.clone(),
        };
        let owned = BTreeMap::new();
        let scores = Scores::new(Arc::clone(&store), Arc::clone(&publisher), metrics.clone(), given_back);
        let put_again = Instant::now();
        let outbox = Self {
            store,
            publisher,
            metrics,
            now,
            mutants,
            queue,
            behind,
            resumed,
            owned,
            missed,
            scores,
            putting: None,
            put_again,
            published,
        };
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
                    self.put_missed().await;
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
        let earliest = earliest_of_each(&batch.scores);
        // This process may have been paused and superseded meanwhile: only the table knows the newest scores. Nor is there any
        // use in waiting for a bucket that takes nothing.
        let is_late = batch.committed.elapsed() > SCORES_FRESH || Instant::now() < self.put_again;
        if is_late || !self.put(batch.scores).await {
            self.missed.note_all(earliest);
        }
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

    /// Publishes what the table still holds of our partitions.
    async fn catch_up(&mut self) {
        let mut resumed = std::mem::take(&mut *self.resumed.lock().expect("no holder of this lock panics"));
        if self.mutants.has(Mutant::ForgetUnpublished) {
            resumed.clear();
        }
        for (partition, lease) in &resumed {
            // What could not be dealt with before comes after what is newer.
            let held = self.owned.entry(*partition).or_insert(*lease);
            *held = if lease.0 > held.0 { *lease } else { *held };
        }
        if let Err(error) = self.publish_from_table(&resumed).await {
            debug!("cannot read the outbox, trying again: {error}");
            self.resumed.lock().expect("no holder of this lock panics").extend(resumed);
            self.behind.store(true, Ordering::Release);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn publish_from_table(&mut self, resumed: &[Resumed]) -> Result<(), StoreError> {
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
        for (partition, (_, layout)) in resumed {
            if let Some(last) = self.store.last_score_at(*layout, *partition).await? {
                self.missed.note(*partition, last.min((self.now)()).plus_millis(-SCORES_AGAIN_MILLIS));
            }
        }
        Ok(())
    }

    /// Puts the scores that may be missing in the bucket, as the table has them; a page at least, and no more than one while
    /// something else is to be published.
    async fn put_missed(&mut self) {
        for page in 0..SCORES_PAGES {
            if Instant::now() < self.put_again || (page > 0 && !self.queue.is_empty()) {
                return;
            }
            if self.putting.is_none() {
                self.putting = self.missed.take().map(|(partition, since)| Putting { partition, since, after: None });
            }
            let Some(putting) = self.putting.take() else { return };
            match self.put_page(&putting).await {
                Ok(Put::Page(after)) => self.putting = Some(Putting { after: Some(after), ..putting }),
                Ok(Put::Last) => {}
                Ok(Put::NotNow) => self.putting = Some(putting),
                Err(error) => {
                    debug!("cannot read the scores of {}, trying again: {error}", putting.partition);
                    self.putting = Some(putting);
                    self.put_again = Instant::now() + SCORES_RETRY;
                }
            }
        }
    }

    async fn put_page(&mut self, putting: &Putting) -> Result<Put, StoreError> {
        let partition = putting.partition;
        let Some((epoch, layout)) = self.owned.get(&partition).copied() else { return Ok(Put::Last) };
        let after = putting.after.as_ref().map(|(account, token)| (account.as_str(), &**token));
        let labels = layout.labels_ever(partition);
        let page = self.store.recent_scores(&labels, putting.since, after, SCORES_PAGE).await?;
        let is_full = page.len() == SCORES_PAGE;
        let last = page.last().map(|row| (row.account.clone(), row.token.clone()));
        let ours = page.into_iter().filter(|row| layout.of(row.account.as_str(), &row.token) == partition);
        let score = |row: RecentScore| Score {
            lease: (partition, epoch),
            value: RiskValue { score: row.score, level: row.level, status: row.status, at: row.at },
            account: row.account,
            token: row.token,
        };
        if !self.put(ours.map(score).collect()).await {
            return Ok(Put::NotNow);
        }
        Ok(last.filter(|_| is_full).map_or(Put::Last, Put::Page))
    }

    /// `false` if they cannot be put now; then nothing is put for as long as it took to learn that.
    async fn put(&mut self, scores: Vec<Score>) -> bool {
        let begun = Instant::now();
        let done = self.scores.put(scores).await;
        if !done {
            self.metrics.count_error("outbox", "kv");
            self.put_again = Instant::now() + begun.elapsed().max(SCORES_RETRY);
        }
        done
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
