//! Intake: from raw messages to applied events. Finds each message's customer, has the missing ones loaded, decodes,
//! applies, and sends what cannot be understood to the dead letters.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use tracing::{debug, error, warn};

use super::{
    Loading, Owned, Waiting, Worker,
    owned::key_of,
    readers::{Origin, Read, Scope},
};
use crate::{
    engine::{
        partition::{Admission, Incoming, Slot},
        snapshot,
    },
    event::{
        decode::{Encoding, Reject, check_customer, decode},
        ids::{AccountId, Epoch, PartitionId},
        subject::{PartitionedSubject, dead_subject, parse_partitioned},
        time::Timestamp,
    },
    pipeline::{accounts::Accounts, mutant::Mutant},
    store::{StoreError, ledger::Ledger, partitioning::Layout, states::LoadedState, suppression::Known},
    stream::{
        EVENTS,
        dead::DeadLetter,
        reader::{RawMessage, ReadBatch, ReaderError},
    },
    telemetry::metrics::EventResult,
};

/// How far ahead of its receipt an event's timestamp may lie.
const AHEAD_AT_MOST_MILLIS: i64 = 5 * 60_000;

/// What waits for states to be loaded.
pub(super) enum Work {
    /// Messages of one consumer.
    Messages { batch: ReadBatch, origin: Origin },
    /// Customers that silence made due.
    Due { partition: PartitionId, keys: Vec<Box<str>> },
    /// A page of stored customers to be scored by other rules, and after whom it begins.
    Sweep { partition: PartitionId, after: Option<(String, String)> },
}

/// The leases that a piece of work was begun under: what a partition's successor has is not this work's to change.
pub(super) type Leases = BTreeMap<PartitionId, Epoch>;

/// States as they are stored, and who may not be stored.
pub(super) type Loaded = Known;

impl Worker {
    pub(super) fn take_batch(&mut self, read: Read) -> anyhow::Result<()> {
        match read.batch {
            Ok(batch) => {
                self.spot_check(&batch);
                self.begin(Work::Messages { batch, origin: read.origin })
            }
            Err(ReaderError::Overtaken { missed, first, expected, .. }) => {
                error!(
                    missed,
                    first = %first,
                    expected = %expected,
                    "the stream dropped up to {missed} events before they were read, going on at {first}: raise its limits"
                );
                self.tools.metrics.overtaken_messages.inc_by(missed);
                Ok(())
            }
            Err(error @ ReaderError::RolledBack { .. }) => {
                Err(error).context("the event stream was rolled back while reading it; the next start reads again")
            }
            Err(ReaderError::Stream(error)) => {
                self.tools.metrics.count_error("read", "stream");
                warn!("cannot read events, trying again: {error}");
                Ok(())
            }
        }
    }

    /// One message of each batch is held against the number of partitions: were the stream made to number by another one,
    /// others' events would be missed in silence. From then on everything is read.
    fn spot_check(&mut self, batch: &ReadBatch) {
        let Some(last) = batch.messages.last().filter(|last| self.layout.is_trusted(last.sequence)) else { return };
        let Some(subject) = parse_partitioned(last.subject.as_str()) else { return };
        let partition = self.layout.of(subject.account, subject.token);
        if partition != subject.partition {
            let (sequence, number) = (last.sequence, self.layout.number);
            error!(
                sequence = %sequence,
                "the stream {EVENTS} does not number by {number} partitions, as the database does: run `churnd partitions {number}`"
            );
            self.tools.metrics.count_error("read", "numbering");
            self.distrusted = Some(self.layout.generation);
            self.layout.filters_from = None;
            self.update_readers();
        }
    }

    /// Starts a piece of work: at once if all its customers are in memory, else once they are loaded.
    pub(super) fn begin(&mut self, work: Work) -> anyhow::Result<()> {
        let (missing, unknown_account) = self.missing(&work);
        if missing.is_empty() {
            return self.finish_work(work, Known::default());
        }
        // Whoever is found now may have left memory when the missing have come.
        self.found.clear();
        let accounts = unknown_account.map(|stored_at| (self.tools.accounts.clone(), stored_at));
        let loading: Loading = Box::pin(load(self.tools.store.clone(), accounts, missing));
        self.wait_for(work, loading);
        Ok(())
    }

    /// Puts a piece of work aside until its customers are loaded.
    pub(super) fn wait_for(&mut self, work: Work, loading: Loading) {
        let leases = self.owned.iter().map(|(partition, owned)| (*partition, owned.epoch)).collect();
        self.work = Some(Waiting { work, leases, loading });
    }

    pub(super) fn loaded(&mut self, loaded: Loaded) -> anyhow::Result<()> {
        let Some(Waiting { work, leases, .. }) = self.work.take() else { return Ok(()) };
        self.finish_waiting(work, &leases, loaded)
    }

    /// Finishes work that waited, less what concerns partitions that were lost meanwhile: even if they are ours again,
    /// they go on from where their last owner left them.
    pub(super) fn finish_waiting(&mut self, work: Work, leases: &Leases, loaded: Loaded) -> anyhow::Result<()> {
        let stale_too = self.tools.mutants.has(Mutant::StaleStates);
        let is_same = |owned: &Owned, id| leases.get(&id) == Some(&owned.epoch) || stale_too;
        let strangers: Vec<_> =
            self.owned.iter().filter(|(id, owned)| !is_same(owned, **id)).map(|(id, _)| *id).collect();
        let aside: Vec<_> = strangers.into_iter().filter_map(|id| Some((id, self.owned.remove(&id)?))).collect();
        let finished = self.finish_work(work, loaded);
        self.owned.extend(aside);
        finished
    }

    fn finish_work(&mut self, work: Work, loaded: Loaded) -> anyhow::Result<()> {
        let now = self.now();
        let found = self.tools.metrics.window_loads.get_or_create(&label("found")).clone();
        let Known { states, suppressed } = loaded;
        found.inc_by(states.len() as u64);
        match work {
            Work::Messages { batch, origin } => {
                self.admit_loaded(states, now)?;
                self.apply_batch(batch, origin, &suppressed, now);
            }
            Work::Due { partition, keys } => {
                self.admit_loaded(states, now)?;
                self.evaluate_due(partition, &keys, now);
            }
            Work::Sweep { partition, after } => self.sweep_page(partition, after, states, now)?,
        }
        Ok(())
    }

    /// The customers of a piece of work that are not in memory, and, if some account may have been added meanwhile, when
    /// the last of its messages was stored.
    fn missing(&mut self, work: &Work) -> (Vec<(AccountId, String)>, Option<Timestamp>) {
        let now = self.now();
        let mut missing: Vec<(AccountId, String)> = Vec::new();
        let mut unknown = None;
        self.found.clear();
        match work {
            Work::Messages { batch, .. } => {
                for message in &batch.messages {
                    let (found, is_unknown) = self.note_missing(message, now, &mut missing);
                    self.found.push(found);
                    if is_unknown {
                        unknown = unknown.max(Some(message.stored_at));
                    }
                }
            }
            Work::Due { partition, keys } => {
                for key in keys {
                    let Some((account, token)) = key.split_once('.') else { continue };
                    let subject = PartitionedSubject { partition: *partition, account, token, key };
                    self.find_or_note(&subject, now, &mut missing);
                }
            }
            Work::Sweep { .. } => {}
        }
        missing.sort_unstable();
        missing.dedup();
        (missing, unknown)
    }

    /// Where a message's customer stands, if it need not be loaded, and whether its account may have been added meanwhile.
    fn note_missing(
        &mut self,
        message: &RawMessage,
        now: Timestamp,
        missing: &mut Vec<(AccountId, String)>,
    ) -> (Option<Slot>, bool) {
        let Some(subject) = located(&self.layout, message) else { return (None, false) };
        let applied = self.owned.get(&subject.partition).map(|owned| owned.applied);
        if applied.is_none_or(|applied| message.sequence <= applied) {
            return (None, false);
        }
        let found = self.find_or_note(&subject, now, missing);
        let accounts = &self.tools.accounts;
        let may_be_new = || !accounts.contains(subject.account) && !accounts.knows_all_before(message.stored_at);
        (found, found.is_none() && may_be_new())
    }

    /// Finds a customer in memory or among the warm ones, or notes that it must be loaded.
    fn find_or_note(
        &mut self,
        subject: &PartitionedSubject<'_>,
        now: Timestamp,
        missing: &mut Vec<(AccountId, String)>,
    ) -> Option<Slot> {
        let owned = self.owned.get_mut(&subject.partition)?;
        if let Some(slot) = owned.engine.find(subject.key) {
            return Some(slot);
        }
        if let Some(warm) = self.warm.take(subject.key, owned.epoch)
            && let Ok(state) = snapshot::decode(&warm.snapshot)
        {
            let rules = self.rules.of(subject.account);
            let stored = Some((state, warm.due_at));
            let admission = Admission { key: subject.key.into(), customer: warm.customer, rules, stored };
            return Some(owned.engine.admit(admission, now));
        }
        if let Ok(account) = AccountId::parse(subject.account) {
            missing.push((account, subject.token.to_owned()));
        }
        None
    }

    fn admit_loaded(&mut self, loaded: Vec<LoadedState>, now: Timestamp) -> anyhow::Result<()> {
        for row in loaded {
            self.admit_row(row, now)?;
        }
        Ok(())
    }

    pub(super) fn admit_row(
        &mut self,
        row: LoadedState,
        now: Timestamp,
    ) -> anyhow::Result<Option<(PartitionId, Slot)>> {
        let account = row.account.as_str();
        let partition = self.layout.of(account, &row.token);
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(None) };
        let key = key_of(account, &row.token);
        if let Some(slot) = owned.engine.find(&key) {
            return Ok(Some((partition, slot)));
        }
        // It was loaded before the checkpoint that deletes it.
        if owned.forget.refuses(&key) {
            return Ok(None);
        }
        let mut state = snapshot::decode(&row.snapshot).with_context(|| {
            format!("the stored state of customer {} of account {account} cannot be read", row.token)
        })?;
        if self.tools.mutants.has(Mutant::ForgetIds) {
            state.ids = Default::default();
        }
        let rules = self.rules.of(account);
        let stored = Some((state, row.due_at));
        let slot = owned.engine.admit(Admission { key, customer: row.customer, rules, stored }, now);
        Ok(Some((partition, slot)))
    }

    fn apply_batch(&mut self, batch: ReadBatch, origin: Origin, suppressed: &HashSet<Box<str>>, now: Timestamp) {
        let scope = origin.scope;
        let started = std::time::Instant::now();
        let mut tally = Tally::default();
        let mut found = std::mem::take(&mut self.found);
        let some_erased = !suppressed.is_empty() || self.owned.values().any(|owned| owned.forget.refuses_some());
        for (place, message) in batch.messages.iter().enumerate() {
            let found = found.get(place).copied().flatten();
            if !(some_erased && self.drop_if_suppressed(message, scope, found, suppressed, &mut tally)) {
                self.apply_message(message, scope, found, now, &mut tally);
            }
        }
        found.clear();
        self.found = found;
        let last = batch.messages.last();
        if let Some(last) = last {
            self.tools.metrics.event_lag_seconds.set(now.millis_since(last.stored_at) as f64 / 1_000.0);
        }
        let position = batch.caught_up_to.unwrap_or(batch.position).max(batch.position);
        let message = last.map(|last| (last.sequence, last.stored_at));
        for (partition, owned) in &mut self.owned {
            let within = match scope {
                Scope::All => !owned.releasing,
                Scope::One(only) => only == *partition,
            };
            if within {
                owned.advance(position, message);
            }
        }
        if let Some(first) = batch.messages.first() {
            self.checkpointing.note_messages(first.stored_at);
        }
        self.checkpointing.note_change();
        tally.report(&self.tools.metrics);
        self.tools.metrics.consumer_pending_messages.set(i64::try_from(self.readers.pending()).unwrap_or(i64::MAX));
        self.readers.applied(origin, batch);
        self.tools.metrics.observe_stage("apply", started.elapsed());
    }

    /// Drops the message of a customer that was erased, if it is one. Asked only for those not found in memory.
    fn drop_if_suppressed(
        &mut self,
        message: &RawMessage,
        scope: Scope,
        found: Option<Slot>,
        suppressed: &HashSet<Box<str>>,
        tally: &mut Tally,
    ) -> bool {
        let Some(subject) = located(&self.layout, message).filter(|_| found.is_none()) else {
            return false;
        };
        let Some(owned) = self.owned.get_mut(&subject.partition) else { return false };
        let is_new = owned.takes(message.sequence, scope) && owned.engine.find(subject.key).is_none();
        if !is_new || !(owned.forget.refuses(subject.key) || suppressed.contains(subject.key)) {
            return false;
        }
        owned.engine.count_suppressed();
        tally.suppressed += 1;
        owned.forget.drop_event(message.sequence);
        true
    }

    fn apply_message(
        &mut self,
        message: &RawMessage,
        scope: Scope,
        found: Option<Slot>,
        now: Timestamp,
        tally: &mut Tally,
    ) {
        let Some(subject) = located(&self.layout, message) else {
            self.dead_letter(message, None, &Reject::MalformedSubject, tally);
            return;
        };
        let Some(owned) = self.owned.get_mut(&subject.partition) else { return };
        if !owned.takes(message.sequence, scope) {
            return;
        }
        let encoding = if message.is_message_pack() { Encoding::MessagePack } else { Encoding::Json };
        let applied = decode(&message.payload, encoding, &mut self.scratch).and_then(|mut event| {
            let slot = match found.or_else(|| owned.engine.find(subject.key)) {
                Some(slot) => {
                    agree(&event, subject.token, owned.engine.customer_id(slot))?;
                    slot
                }
                None => {
                    if !self.tools.accounts.contains(subject.account) {
                        return Err(Reject::UnknownAccount);
                    }
                    let customer = check_customer(&event, subject.token)?;
                    let rules = self.rules.of(subject.account);
                    owned.engine.admit(Admission { key: subject.key.into(), customer, rules, stored: None }, now)
                }
            };
            if event.id.is_none() {
                let id = event.identity(subject.account, message.message_id()).map(|id| id.to_owned().into());
                event.id = id;
            }
            let mut at = event.timestamp.unwrap_or(message.stored_at);
            if at.millis_since(message.stored_at) > AHEAD_AT_MOST_MILLIS {
                at = message.stored_at;
                tally.clamped += 1;
            }
            let (sequence, stored_at) = (message.sequence, message.stored_at);
            Ok(owned.engine.apply(slot, Incoming { event: &event, at, sequence, stored_at }, now))
        });
        match applied {
            Ok(applied) => tally.count(applied),
            Err(reject) => {
                owned.engine.count_dead();
                self.dead_letter(message, Some(&subject), &reject, tally);
            }
        }
    }

    fn dead_letter(
        &mut self,
        message: &RawMessage,
        subject: Option<&PartitionedSubject<'_>>,
        reject: &Reject,
        tally: &mut Tally,
    ) {
        tally.dead += 1;
        self.tools.metrics.count_dead("decode", reject.code());
        debug!(
            sequence = %message.sequence,
            reason = reject.code(),
            "event {} goes to the dead letters: {reject}",
            message.sequence
        );
        let original = match subject {
            Some(subject) => format!("churn.events.{}.{}", subject.account, subject.token),
            None => message.subject.to_string(),
        };
        self.checkpointing.bury(DeadLetter {
            dead_subject: subject
                .map_or_else(|| dead_subject("_", "_"), |subject| dead_subject(subject.account, subject.token)),
            reason: reject.code().to_owned(),
            detail: reject.to_string(),
            stage: "decode".to_owned(),
            subject: original,
            stream: EVENTS.to_owned(),
            sequence: message.sequence,
            // A copy of its own: the message's bytes are a piece of what was read from the server at once.
            payload: Bytes::copy_from_slice(&message.payload),
            headers: message.headers.clone(),
        });
    }
}

/// A message's subject, with the partition in force whatever number the server gave it.
fn located<'m>(layout: &Layout, message: &'m RawMessage) -> Option<PartitionedSubject<'m>> {
    let mut subject = parse_partitioned(message.subject.as_str())?;
    subject.partition = layout.of_message(subject.partition, message.sequence, subject.account, subject.token);
    Some(subject)
}

/// The body may name the customer, but no other one than the subject; it must where the token is a hash, whether or not
/// the customer is known.
fn agree(event: &crate::event::decode::Event<'_>, token: &str, customer: &str) -> Result<(), Reject> {
    match event.customer_id.as_deref() {
        Some(named) if named != customer => Err(Reject::CustomerMismatch),
        None if token.starts_with("=h") => Err(Reject::HashedWithoutId),
        _ => Ok(()),
    }
}

/// What became of a batch's messages.
#[derive(Default)]
struct Tally {
    applied: u64,
    duplicate: u64,
    late: u64,
    dead: u64,
    suppressed: u64,
    clamped: u64,
}

impl Tally {
    fn count(&mut self, applied: crate::engine::state::Applied) {
        match applied {
            crate::engine::state::Applied::Applied => self.applied += 1,
            crate::engine::state::Applied::Duplicate => self.duplicate += 1,
            crate::engine::state::Applied::Late => self.late += 1,
        }
    }

    fn report(&self, metrics: &crate::telemetry::metrics::Metrics) {
        metrics.events_received.inc_by(self.applied + self.duplicate + self.late + self.dead + self.suppressed);
        for (result, count) in [
            (EventResult::applied, self.applied),
            (EventResult::duplicate, self.duplicate),
            (EventResult::late, self.late),
            (EventResult::dead, self.dead),
            (EventResult::suppressed, self.suppressed),
        ] {
            if count > 0 {
                metrics.count_events(result, count);
            }
        }
        if self.clamped > 0 {
            metrics.clamped_timestamps.inc_by(self.clamped);
        }
    }
}

fn label(result: &'static str) -> crate::telemetry::metrics::ResultLabel {
    crate::telemetry::metrics::ResultLabel { result }
}

/// Loads states, trying again for as long as Postgres is away.
async fn load(
    store: Arc<dyn Ledger>,
    accounts: Option<(Accounts, Timestamp)>,
    keys: Vec<(AccountId, String)>,
) -> anyhow::Result<Loaded> {
    if let Some((accounts, stored_at)) = &accounts {
        retry("look up accounts", || accounts.look_for_those_before(*stored_at)).await?;
    }
    let keys: Vec<(&str, &str)> = keys.iter().map(|(account, token)| (account.as_str(), token.as_str())).collect();
    retry("load customers", || store.load_customers(&keys)).await
}

/// Tries until it succeeds or cannot succeed.
pub(crate) async fn retry<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = Duration::from_millis(50);
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if error.is_transient() => {
                warn!("cannot {what}, trying again: {error}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            Err(error) => return Err(error).with_context(|| format!("cannot {what}")),
        }
    }
}
