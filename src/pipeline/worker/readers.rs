//! Which consumers read for the owned partitions, each in a task of its own that hands over batches.
//!
//! Whoever owns all partitions reads the whole stream through one unfiltered consumer, the cheapest way for the server;
//! whoever shares them reads each through its own filter. While the stream's numbers cannot be relied upon, because the
//! partitions are being doubled, everybody reads everything.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Owned, Tools, owned::ReadingFrom};
use crate::{
    event::{ids::PartitionId, time::Timestamp},
    pipeline::{mutant::Mutants, tasks::Tasks},
    store::partitioning::Layout,
    stream::{
        EVENTS,
        reader::{Batches, RawMessage, ReadBatch, ReaderConfig, ReaderCounters, ReaderError, Reading},
    },
};

/// Who is behind by more takes no silence for what it seems.
const LAGS_MILLIS: i64 = 10_000;
/// Batches that may wait for the worker.
const BATCHES_AHEAD: usize = 2;

/// What one consumer brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// The whole stream, for all partitions but those that are being handed over: it may have begun behind them.
    All,
    /// One partition.
    One(PartitionId),
}

/// Whose batch it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) scope: Scope,
    generation: u64,
    /// What had been stored by then was read before, or is in it.
    current: Option<Timestamp>,
}

/// A batch, or why there is none.
pub(super) struct Read {
    pub(super) origin: Origin,
    pub(super) batch: Result<ReadBatch, ReaderError>,
}

/// Memory of batches that are done, to be used for the next ones: a batch is so large that the allocator would give it
/// back to the system each time.
#[derive(Clone, Default)]
struct Spares(Arc<Mutex<Vec<Vec<RawMessage>>>>);

impl Spares {
    fn give(&self, mut messages: Vec<RawMessage>) {
        messages.clear();
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() <= BATCHES_AHEAD {
            spares.push(messages);
        }
    }

    fn take(&self) -> Option<Vec<RawMessage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

struct Active {
    generation: u64,
    stop: CancellationToken,
    backlog: Backlog,
    /// The epochs it reads for: with any other it must start anew.
    epochs: BTreeMap<PartitionId, u64>,
}

/// How far a consumer is behind, as far as its batches have told.
#[derive(Clone, Copy, Debug, Default)]
struct Backlog {
    /// What the server held behind the last batch; nothing before it has told.
    pending: Option<u64>,
    /// Everything that had been stored by then is applied.
    complete_until: Timestamp,
}

impl Backlog {
    /// Silence cannot be told from what is still to come.
    fn lags(&self, now: Timestamp) -> bool {
        now.millis_since(self.complete_until) > LAGS_MILLIS
    }
}

/// The consumers that read for the owned partitions.
pub(super) struct Readers {
    reading: Arc<dyn Reading>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    tasks: Tasks,
    #[cfg_attr(not(feature = "mutants"), expect(dead_code, reason = "only bugs are told of it"))]
    mutants: Mutants,
    counters: Arc<ReaderCounters>,
    batch: usize,
    active: BTreeMap<Scope, Active>,
    /// Everything is read although not all is ours.
    unfiltered: bool,
    generation: u64,
    sender: mpsc::Sender<Read>,
    receiver: mpsc::Receiver<Read>,
    spares: Spares,
}

impl Readers {
    pub(super) fn new(tools: &Tools, batch: usize) -> Self {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        Self {
            reading: Arc::clone(&tools.reading),
            tasks: tools.tasks.clone(),
            now: Arc::clone(&tools.now),
            mutants: tools.mutants,
            counters: Arc::clone(&tools.readers),
            batch,
            active: BTreeMap::new(),
            unfiltered: false,
            generation: 0,
            sender,
            receiver,
            spares: Spares::default(),
        }
    }

    /// The next batch of a consumer that still reads.
    pub(super) async fn next(&mut self) -> Read {
        loop {
            let read = self.receiver.recv().await.expect("the sender lives as long as the readers");
            let Some(active) = self.active_of(read.origin) else { continue };
            if let Ok(batch) = &read.batch {
                active.backlog.pending = batch.pending;
            }
            return read;
        }
    }

    /// What the server holds behind all consumers' last batches.
    pub(super) fn pending(&self) -> u64 {
        self.active.values().filter_map(|active| active.backlog.pending).sum()
    }

    /// Nothing waits behind any consumer, and each has said so.
    pub(super) fn caught_up(&self) -> bool {
        self.active.values().all(|active| active.backlog.pending == Some(0))
    }

    /// Events of a partition may still be to come: silence cannot be told from what was not read yet.
    pub(super) fn lags(&self, partition: PartitionId, now: Timestamp) -> bool {
        let active = self.active.get(&Scope::One(partition)).or_else(|| self.active.get(&Scope::All));
        active.is_none_or(|active| active.backlog.lags(now))
    }

    /// Events of some partition may still be to come.
    pub(super) fn lag(&self, now: Timestamp) -> bool {
        self.active.values().any(|active| active.backlog.lags(now))
    }

    fn active_of(&mut self, origin: Origin) -> Option<&mut Active> {
        self.active.get_mut(&origin.scope).filter(|active| active.generation == origin.generation)
    }

    /// A batch is applied: notes how far its consumer has come, and takes the memory back.
    pub(super) fn applied(&mut self, origin: Origin, batch: ReadBatch) {
        if let Some(Active { backlog, .. }) = self.active_of(origin) {
            let stored = batch.messages.last().map(|last| last.stored_at);
            backlog.complete_until = origin.current.max(stored).unwrap_or(backlog.complete_until);
        }
        self.spares.give(batch.messages);
    }

    /// Reads for exactly these partitions from now on.
    pub(super) fn read(&mut self, positions: BTreeMap<PartitionId, ReadingFrom>, layout: &Layout, instance: &str) {
        let mut wanted: BTreeMap<Scope, BTreeMap<PartitionId, ReadingFrom>> = BTreeMap::new();
        self.unfiltered = !positions.values().all(|from| layout.may_filter_after(from.applied));
        let all = positions.len() == usize::from(layout.number) || self.unfiltered;
        for (partition, from) in positions {
            let scope = if all { Scope::All } else { Scope::One(partition) };
            wanted.entry(scope).or_default().insert(partition, from);
        }
        let epochs = |scope: &BTreeMap<PartitionId, ReadingFrom>| {
            scope.iter().map(|(partition, from)| (*partition, from.epoch.0)).collect::<BTreeMap<_, _>>()
        };
        self.active.retain(|scope, active| {
            let stays = wanted.get(scope).is_some_and(|from| epochs(from) == active.epochs);
            if !stays {
                active.stop.cancel();
            }
            stays
        });
        for (scope, from) in wanted {
            if !self.active.contains_key(&scope) {
                let epochs = epochs(&from);
                self.start(scope, &from, instance, epochs);
            }
        }
    }

    /// What is read unfiltered for want of numbers can be filtered by now.
    pub(super) fn may_filter<'a>(&self, layout: &Layout, mut owned: impl Iterator<Item = &'a Owned>) -> bool {
        self.unfiltered && owned.all(|owned| layout.may_filter_after(owned.applied))
    }

    /// Reads no more.
    pub(super) fn close(&mut self) {
        for (_, active) in std::mem::take(&mut self.active) {
            active.stop.cancel();
        }
    }

    fn start(
        &mut self,
        scope: Scope,
        from: &BTreeMap<PartitionId, ReadingFrom>,
        instance: &str,
        epochs: BTreeMap<PartitionId, u64>,
    ) {
        self.generation += 1;
        let (generation, stop) = (self.generation, CancellationToken::new());
        let Some(first) = from.values().min_by_key(|from| from.applied) else { return };
        let newest_epoch = epochs.values().max().copied().unwrap_or_default();
        let part = match scope {
            Scope::All => "all".to_owned(),
            Scope::One(partition) => partition.to_string(),
        };
        let mut config =
            ReaderConfig::new(format!("churnd-{part}-e{newest_epoch}-{}", consumer_name(instance)), first.applied);
        config.batch = self.batch;
        #[cfg(feature = "mutants")]
        {
            config.skips_gaps = self.mutants.has(crate::pipeline::mutant::Mutant::SkipGaps);
        }
        config.start_message = from.values().filter_map(|from| from.message).max();
        config.stream_created = first.stream_created;
        if let Scope::One(PartitionId(number)) = scope {
            config.filter = Some(format!("churn.p.{number}.>"));
        }
        let reader = self.reading.open(EVENTS, config, Arc::clone(&self.counters));
        let (now, sender) = (Arc::clone(&self.now), self.sender.clone());
        let task = read_on(reader, (scope, generation), now, sender, self.spares.clone(), stop.clone());
        self.tasks.spawn(task);
        self.active.insert(scope, Active { generation, stop, backlog: Backlog::default(), epochs });
    }
}

async fn read_on(
    mut reader: Box<dyn Batches>,
    (scope, generation): (Scope, u64),
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    sender: mpsc::Sender<Read>,
    spares: Spares,
    stop: CancellationToken,
) {
    let mut current: Option<(Instant, Timestamp)> = None;
    loop {
        if let Some(messages) = spares.take() {
            reader.recycle(messages);
        }
        let (begun_at, begun) = (now(), Instant::now());
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            batch = reader.next_batch() => batch,
        };
        if let Ok(batch) = &batch
            && batch.told != current.map(|(told, _)| told)
        {
            // Instants stand still while the machine sleeps, so each is put on the wall's clock once, from before it.
            let on_the_wall = |told: Instant| {
                begun_at.plus(told.saturating_duration_since(begun)).minus(begun.saturating_duration_since(told))
            };
            current = batch.told.map(|told| (told, on_the_wall(told)));
        }
        let origin = Origin { scope, generation, current: current.map(|(_, at)| at) };
        let read = Read { origin, batch };
        let sent = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            sent = sender.send(read) => sent,
        };
        if sent.is_err() {
            break;
        }
    }
    reader.close().await;
}

/// A consumer's name may hold only some characters.
fn consumer_name(instance: &str) -> String {
    instance.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).take(48).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use futures_util::{FutureExt as _, future::BoxFuture};

    use super::*;
    use crate::event::ids::StreamSequence;

    /// Says the same again and again: the server was asked once.
    struct Same(Instant);

    impl Batches for Same {
        fn next_batch(&mut self) -> BoxFuture<'_, Result<ReadBatch, ReaderError>> {
            let (position, told) = (StreamSequence(0), Some(self.0));
            let batch = ReadBatch { messages: Vec::new(), position, caught_up_to: None, pending: Some(0), told };
            async { Ok(batch) }.boxed()
        }

        fn recycle(&mut self, _: Vec<RawMessage>) {}

        fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
            async {}.boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_before_a_machine_slept_is_of_before() {
        let wall = Arc::new(AtomicI64::new(1_000_000));
        let clock = Arc::clone(&wall);
        let now = Arc::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed)));
        let ((sender, mut receiver), stop) = (mpsc::channel(1), CancellationToken::new());
        let reader = Box::new(Same(Instant::now()));
        let reading = read_on(reader, (Scope::All, 1), now, sender, Spares::default(), stop.clone());
        let looking = async {
            for _ in 0..5 {
                let read = receiver.recv().await.unwrap();
                assert_eq!(read.origin.current, Some(Timestamp::from_millis(1_000_000)));
                // The machine slept for an hour, and its instants stood still.
                wall.fetch_add(3_600_000, Ordering::Relaxed);
            }
            stop.cancel();
        };
        tokio::join!(reading, looking);
    }

    #[test]
    fn who_is_behind_or_has_said_nothing_yet_takes_no_silence_for_what_it_seems() {
        let lags = |until| {
            let backlog = Backlog { pending: Some(0), complete_until: Timestamp::from_seconds(until) };
            backlog.lags(Timestamp::from_seconds(1_000))
        };
        assert!(Backlog::default().lags(Timestamp::from_seconds(1_000)), "nothing was read yet");
        assert!(lags(900) && !lags(995));
    }
}
