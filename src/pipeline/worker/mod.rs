//! The worker: the one task that owns partitions. It reads, applies, evaluates, and has checkpoints stored beside it.
//!
//! Everything that changes a customer happens here, in the order of the stream, so no state is ever shared. What needs
//! I/O (loading states, storing a checkpoint, publishing) runs beside the loop and comes back as a value.
//!
//! Invariants: a state changes only while its partition is owned; at most one checkpoint is under way; nothing is
//! published that is not committed; reading stops when too many customers are dirty.

mod checkpoint;
mod forget;
mod ground;
mod intake;
mod owned;
mod readers;
mod silence;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{
    checkpoint::Checkpointing,
    forget::Forgetting,
    ground::{Survey, survey},
    intake::{Leases, Loaded, Work},
    readers::Readers,
    silence::DueLoading,
};
pub(crate) use self::{intake::retry, owned::Owned};
use super::{
    accounts::Accounts,
    config::Config,
    fleet::Fleet,
    mutant::{Mutant, Mutants},
    outbox::OutboxSender,
    ownership::{LeaseUpdate, Releaser},
    rulebook::RuleBook,
    tasks::Tasks,
    warm::Warm,
};
use crate::{
    engine::{
        alert::RiskReport,
        partition::{Policy, Slot},
        rules::Rules,
        score::assess,
        silence::forecast,
        snapshot,
        state::CustomerState,
    },
    event::{
        ids::{CustomerId, Epoch, PartitionId, StreamSequence},
        time::Timestamp,
    },
    store::{leases::Lease, ledger::Ledger, partitioning::Layout},
    stream::{
        publisher::Publish,
        reader::{ReaderCounters, Reading},
    },
    telemetry::metrics::Metrics,
};

/// How often the worker looks around when nothing else happens.
const TICK: Duration = Duration::from_millis(100);
/// When a partition that could not be taken over is tried again.
const GAIN_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What may wait for a checkpoint besides customers' states, in bytes, before reading stops.
pub(crate) const WAITING_BYTES_AT_MOST: usize = 16 << 20;

/// How long silence waits for the first judgement of the accounts' volumes.
const JUDGED_WITHIN: Duration = Duration::from_secs(60);

/// What a worker works with.
#[derive(Clone)]
pub struct Tools {
    /// Postgres.
    pub store: Arc<dyn Ledger>,
    /// JetStream for reading, on a connection of its own.
    pub reading: Arc<dyn Reading>,
    /// JetStream for publishing.
    pub publisher: Arc<dyn Publish>,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Which accounts exist.
    pub accounts: Accounts,
    /// The rules in force.
    pub rules: watch::Receiver<Arc<RuleBook>>,
    /// Accounts whose events do or did not come.
    pub fleet: watch::Receiver<Fleet>,
    /// Where tasks are started.
    pub tasks: Tasks,
    /// This instance's name, for consumers.
    pub instance: String,
    /// Planted bugs; none outside of tests.
    pub mutants: Mutants,
    /// What readers count.
    pub readers: Arc<ReaderCounters>,
}

/// A question for the worker.
#[derive(Debug)]
pub struct RiskQuestion {
    /// `<account>.<token>`.
    pub key: String,
    /// As of when; now if absent.
    pub as_of: Option<Timestamp>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<RiskAnswer>,
}

/// What the worker answers.
#[derive(Debug)]
pub enum RiskAnswer {
    /// The customer is in memory.
    Report(Box<RiskReport>),
    /// The instant asked for lies before the customer's newest event.
    TooEarly {
        /// The newest event.
        newest: Timestamp,
    },
    /// The customer is not in this worker's memory: what is stored of it is current.
    NotHere,
}

/// What comes in from the other tasks.
pub struct Inlets {
    /// Changes of ownership.
    pub leases: mpsc::Receiver<LeaseUpdate>,
    /// Questions about customers.
    pub questions: mpsc::Receiver<RiskQuestion>,
    /// Message ids that were published and can be marked so.
    pub published: mpsc::Receiver<Vec<String>>,
}

type Loading = Pin<Box<dyn Future<Output = anyhow::Result<Loaded>> + Send>>;

/// Work whose customers are being loaded.
struct Waiting {
    work: Work,
    leases: Leases,
    loading: Loading,
}

/// A look at the stream, and the leases that wait for it.
struct Surveying {
    leases: BTreeSet<(PartitionId, Epoch)>,
    looking: Pin<Box<dyn Future<Output = anyhow::Result<Survey>> + Send>>,
}

/// Owns partitions and everything in them.
pub struct Worker {
    tools: Tools,
    config: Config,
    policy: Policy,
    /// How customers belong to partitions: what all that is owned was taken by.
    layout: Layout,
    owned: BTreeMap<PartitionId, Owned>,
    /// Leases of partitions that are not taken over yet, and when to try again.
    gaining: Vec<Lease>,
    gain_again: Instant,
    surveying: Option<Surveying>,
    readers: Readers,
    warm: Warm,
    /// The rules that customers in memory are scored by; the loop takes up those that were put in place.
    rules: Arc<RuleBook>,
    outbox: OutboxSender,
    releaser: Releaser,
    /// What waits for states to be loaded, and their loading.
    work: Option<Waiting>,
    checkpointing: Checkpointing,
    forgetting: Forgetting,
    due_loading: FuturesUnordered<DueLoading>,
    scratch: Vec<u8>,
    /// Where the customers of the batch in hand stand, message by message, if none of them must be loaded.
    found: Vec<Option<Slot>>,
    /// The accounts' volumes were judged, and the partitions know what was found.
    judged: bool,
    /// Since when silence waits for the first judgement of the accounts' volumes.
    unjudged_since: Option<Instant>,
    /// The generation of the partitions' number by which a message was found that is not numbered by it.
    distrusted: Option<u64>,
    progress: watch::Sender<std::time::Instant>,
}

impl Worker {
    /// A worker that owns nothing yet; `progress` is told whenever it gets ahead or finds nothing to do.
    pub fn new(
        tools: Tools,
        config: Config,
        policy: Policy,
        outbox: OutboxSender,
        releaser: Releaser,
        progress: watch::Sender<std::time::Instant>,
    ) -> Self {
        let readers = Readers::new(&tools, config.batch);
        let rules = tools.rules.borrow().clone();
        Self {
            readers,
            rules,
            warm: Warm::new(config.cache_bytes),
            layout: Layout::new(config.partitions),
            owned: BTreeMap::new(),
            gaining: Vec::new(),
            gain_again: Instant::now(),
            surveying: None,
            outbox,
            releaser,
            work: None,
            checkpointing: Checkpointing::default(),
            forgetting: Forgetting::default(),
            due_loading: FuturesUnordered::new(),
            scratch: Vec::new(),
            found: Vec::new(),
            judged: false,
            unjudged_since: None,
            distrusted: None,
            progress,
            tools,
            config,
            policy,
        }
    }

    /// Works until `stop`; then finishes what is in hand, stores a last checkpoint and gives the partitions back.
    pub async fn run(mut self, mut inlets: Inlets, stop: CancellationToken) -> anyhow::Result<()> {
        let mut rules = self.tools.rules.clone();
        self.rules = rules.borrow_and_update().clone();
        let mut fleet = self.tools.fleet.clone();
        fleet.mark_unchanged();
        self.take_outages();
        loop {
            let wake = tokio::time::sleep(self.wake_after());
            let may_read = self.work.is_none() && self.has_room();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                update = inlets.leases.recv() => match update {
                    Some(update) => self.take_leases(update),
                    None => break,
                },
                stored = self.checkpointing.stored() => self.checkpoint_stored(stored)?,
                Some(due) = self.due_loading.next() => {
                    let (partition, rows) = due?;
                    self.schedule(partition, rows);
                }
                loaded = poll_work(&mut self.work) => self.loaded(loaded?)?,
                (leases, found) = poll_survey(&mut self.surveying) => {
                    self.surveying = None;
                    self.surveyed(&leases, found);
                }
                found = self.forgetting.found() => self.take_erasures(found),
                Some(question) = inlets.questions.recv() => self.answer(question),
                Some(ids) = inlets.published.recv() => self.checkpointing.published(ids),
                Ok(()) = rules.changed() => self.change_rules(),
                Ok(()) = fleet.changed() => self.take_outages(),
                read = self.readers.next(), if may_read => self.take_batch(read)?,
                () = wake => {}
            }
            if !self.gaining.is_empty() && self.surveying.is_none() && Instant::now() >= self.gain_again {
                self.start_survey();
            }
            self.look_around()?;
        }
        self.finish(inlets).await
    }

    fn now(&self) -> Timestamp {
        (self.tools.now)()
    }

    fn dirty(&self) -> usize {
        self.owned.values().map(|owned| owned.engine.dirty()).sum()
    }

    /// What waits to be stored still leaves room for more: customers, and whatever else a message may leave behind.
    fn has_room(&self) -> bool {
        let waiting: usize = self
            .owned
            .values()
            .map(|owned| owned.engine.waiting_bytes() + owned.forget.dropped() * size_of::<StreamSequence>())
            .sum();
        self.dirty() < self.config.dirty_customers_max
            && waiting + self.checkpointing.burial_bytes() < WAITING_BYTES_AT_MOST
    }

    fn wake_after(&self) -> Duration {
        let outgoing = self.owned.values().any(|owned| owned.engine.has_outgoing());
        if outgoing && !self.checkpointing.is_under_way() { self.config.checkpoint_linger().min(TICK) } else { TICK }
    }

    /// The server holds more than a batch for us: throughput counts, not latency.
    fn catches_up(&self) -> bool {
        self.readers.pending() > self.config.batch as u64
    }

    /// What does not wait for a message: silence, checkpoints, loading.
    fn look_around(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        self.tools.metrics.windows_dirty.set(i64::try_from(self.dirty()).unwrap_or(i64::MAX));
        self.evict_if_wanted();
        let lag = self.readers.lag(now);
        if lag {
            self.unjudged_since = None;
        }
        if self.judged || (!lag && self.may_break_silence()) {
            self.notice_silence(now)?;
        }
        self.forgetting.look_if_due(&self.tools.store);
        if self.readers.may_filter(&self.layout, self.owned.values()) {
            self.update_readers();
        }
        self.start_checkpoint_if_due(now);
        // What waits for Postgres waits for progress.
        if self.readers.caught_up() && self.work.is_none() && !self.checkpointing.is_overdue() {
            self.progress.send_replace(Instant::now().into_std());
        }
        Ok(())
    }

    /// Silence means nothing before it is known whose events come at all. It waits for that at the start, but not for ever.
    fn may_break_silence(&mut self) -> bool {
        self.judged || self.unjudged_since.get_or_insert_with(Instant::now).elapsed() > JUDGED_WITHIN
    }

    fn take_outages(&mut self) {
        let Fleet { outages, judged } = self.tools.fleet.borrow().clone();
        self.judged = judged;
        for owned in self.owned.values_mut() {
            owned.engine.set_outages(Arc::clone(&outages));
        }
    }

    fn take_leases(&mut self, update: LeaseUpdate) {
        let renumbered = self.layout.number != update.layout.number;
        for partition in update.lost {
            self.gaining.retain(|lease| lease.partition != partition);
            let why = if renumbered { "the partitions were doubled" } else { "another instance has taken it over" };
            self.drop_partition(partition, why);
        }
        if renumbered {
            info!(partitions = update.layout.number, "working by {} partitions", update.layout.number);
        }
        self.layout = update.layout;
        if self.distrusted == Some(self.layout.generation) {
            self.layout.filters_from = None;
        }
        for partition in update.surplus {
            if let Some(owned) = self.owned.get_mut(&partition)
                && !owned.releasing
            {
                info!(partition = %partition, "handing {partition} over to another instance");
                owned.releasing = true;
                // Where nothing else is owned nothing is read any more, and nothing else would ask for the checkpoint.
                self.checkpointing.note_change();
            }
        }
        self.gaining.extend(update.gained);
        self.gain_again = Instant::now();
        self.update_readers();
    }

    /// Has the stream looked at before the partitions are taken over whose leases are ours.
    fn start_survey(&mut self) {
        let leases = self.gaining.iter().map(|lease| (lease.partition, lease.epoch)).collect();
        let looking = survey(Arc::clone(&self.tools.store), Arc::clone(&self.tools.reading));
        self.surveying = Some(Surveying { leases, looking: Box::pin(looking) });
    }

    /// Takes over the partitions whose leases were ours when the look at the stream began.
    fn surveyed(&mut self, leases: &BTreeSet<(PartitionId, Epoch)>, found: anyhow::Result<Survey>) {
        self.gain_again = Instant::now();
        let grounds = match found {
            Ok(Survey::Fine(grounds)) => grounds,
            Ok(Survey::PutBack) => {
                // Leases of the new epochs may have come already.
                self.gaining.retain(|lease| !leases.contains(&(lease.partition, lease.epoch)));
                let owned: Vec<_> = self.owned.iter().map(|(partition, owned)| (*partition, owned.epoch)).collect();
                for (partition, epoch) in owned {
                    self.drop_partition(partition, "the stream was rolled back");
                    // Nobody works under this lease any more, whatever became of it.
                    self.releaser.release(partition, epoch);
                }
                leases.iter().for_each(|(partition, epoch)| self.releaser.release(*partition, *epoch));
                return;
            }
            Err(error) => {
                let left = self.gaining.len();
                warn!("cannot take {left} partitions over yet, trying again: {error:#}");
                self.gain_again += GAIN_AGAIN_AFTER;
                return;
            }
        };
        let mut taken = 0;
        for lease in std::mem::take(&mut self.gaining) {
            let ground = grounds.get(&lease.stream_created).copied();
            let Some(ground) = ground.filter(|_| leases.contains(&(lease.partition, lease.epoch))) else {
                self.gaining.push(lease);
                continue;
            };
            let (layout, hash) = (self.layout, self.rules.hash());
            let owned = Owned::take_over(&lease, ground, layout, &self.tools, hash, self.policy, &self.outbox);
            self.tools.metrics.partition_acquired(lease.partition, owned.epoch.0);
            self.tools.metrics.takeovers.inc();
            self.owned.insert(lease.partition, owned);
            taken += 1;
        }
        if taken > 0 {
            self.forgetting.hurry();
            info!(partitions = self.owned.len(), "owning {} partitions, {taken} of them new", self.owned.len());
            self.update_readers();
        }
    }

    fn update_readers(&mut self) {
        let positions = self
            .owned
            .iter()
            .filter(|(_, owned)| !owned.releasing)
            .map(|(partition, owned)| (*partition, owned.reading_from()))
            .collect();
        self.readers.read(positions, &self.layout, &self.tools.instance);
    }

    fn drop_partition(&mut self, partition: PartitionId, why: &str) {
        if let Some(owned) = self.owned.remove(&partition) {
            warn!(partition = %partition, epoch = %owned.epoch, "dropped {partition}: {why}");
            self.tools.metrics.partition_released(partition);
            self.update_readers();
        }
    }

    /// New rules: those in memory are scored at once, the others by a sweep.
    fn change_rules(&mut self) {
        self.rules = self.tools.rules.borrow().clone();
        let (book, now) = (Arc::clone(&self.rules), self.now());
        let mut rescored = 0;
        for owned in self.owned.values_mut() {
            rescored += owned.change_rules(&book, now);
        }
        // So many may be dirty now that nothing is read before they are stored: nothing else would ask for it.
        if !self.tools.mutants.has(Mutant::UnnotedRules) {
            self.checkpointing.note_change();
        }
        self.tools.metrics.rescored_customers.inc_by(rescored);
        info!(rules = book.hash(), customers = rescored, "rules changed: scored {rescored} customers in memory anew");
    }

    fn answer(&self, question: RiskQuestion) {
        let answer = self.look_up(&question);
        if question.answer.send(answer).is_err() {
            debug!("nobody waits for the answer any more");
        }
    }

    fn look_up(&self, question: &RiskQuestion) -> RiskAnswer {
        let Some((account, token)) = question.key.split_once('.') else { return RiskAnswer::NotHere };
        let Some(owned) = self.owned.get(&self.layout.of(account, token)) else { return RiskAnswer::NotHere };
        let now = self.now();
        if let Some(slot) = owned.engine.find(&question.key) {
            let Ok(customer) = CustomerId::parse(owned.engine.customer_id(slot)) else { return RiskAnswer::NotHere };
            return report(customer, owned.engine.state(slot), owned.engine.rules(slot), question.as_of, now);
        }
        let warm = self.warm.peek(&question.key, owned.epoch);
        match warm.map(|warm| (snapshot::decode(&warm.snapshot), warm.customer)) {
            Some((Ok(state), customer)) => report(customer, &state, &self.rules.of(account), question.as_of, now),
            _ => RiskAnswer::NotHere,
        }
    }

    /// Stores what is in hand, publishes what can be, gives the partitions back.
    async fn finish(mut self, mut inlets: Inlets) -> anyhow::Result<()> {
        self.readers.close();
        if let Some(Waiting { work, leases, loading }) = self.work.take() {
            match loading.await {
                Ok(loaded) => self.finish_waiting(work, &leases, loaded)?,
                Err(error) => warn!("leaving the last batch to the next start: {error:#}"),
            }
        }
        for _ in 0..2 {
            while self.checkpointing.is_under_way() {
                let stored = self.checkpointing.stored().await;
                self.checkpoint_stored(stored)?;
            }
            while let Ok(ids) = inlets.published.try_recv() {
                self.checkpointing.published(ids);
            }
            let now = self.now();
            self.start_checkpoint(now);
        }
        while self.checkpointing.is_under_way() {
            let stored = self.checkpointing.stored().await;
            self.checkpoint_stored(stored)?;
        }
        // What was published since is marked here; from now on the outbox marks by itself.
        inlets.published.close();
        let mut published = Vec::new();
        while let Ok(ids) = inlets.published.try_recv() {
            published.extend(ids);
        }
        if !published.is_empty()
            && let Err(error) = self.tools.store.mark_published(&published).await
        {
            debug!("cannot mark published messages, they will be offered again: {error}");
        }
        let mut leases: Vec<_> = self.owned.iter().map(|(partition, owned)| (*partition, owned.epoch)).collect();
        leases.extend(self.gaining.iter().map(|lease| (lease.partition, lease.epoch)));
        info!(partitions = leases.len(), "stored the last checkpoint, giving {} partitions back", leases.len());
        leases.iter().for_each(|(partition, epoch)| self.outbox.give_back(*partition, *epoch));
        self.releaser.release_all(leases).await;
        Ok(())
    }
}

/// Resolves when the states that the work waits for are loaded; never while nothing waits.
async fn poll_work(work: &mut Option<Waiting>) -> anyhow::Result<Loaded> {
    match work {
        Some(waiting) => (&mut waiting.loading).await,
        None => std::future::pending().await,
    }
}

/// Resolves when the stream was looked at; never while nobody looks.
async fn poll_survey(surveying: &mut Option<Surveying>) -> (BTreeSet<(PartitionId, Epoch)>, anyhow::Result<Survey>) {
    match surveying {
        Some(Surveying { leases, looking }) => {
            let found = looking.await;
            (std::mem::take(leases), found)
        }
        None => std::future::pending().await,
    }
}

/// A customer's risk, or why it cannot be told.
pub(crate) fn report(
    customer: CustomerId,
    state: &CustomerState,
    rules: &Rules,
    as_of: Option<Timestamp>,
    now: Timestamp,
) -> RiskAnswer {
    let newest = state.newest();
    if as_of.is_some_and(|as_of| as_of < newest) {
        return RiskAnswer::TooEarly { newest };
    }
    let as_of = as_of.unwrap_or(now).max(newest);
    let assessment = assess(state, rules, as_of);
    let forecast = forecast(state, rules, as_of);
    RiskAnswer::Report(Box::new(RiskReport::new(customer, assessment, state.mrr(), as_of, forecast)))
}
