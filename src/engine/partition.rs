//! One partition's customers in memory: applies events, evaluates, notices silence, hands out checkpoints.
//!
//! A partition knows no I/O and no clock: the pipeline brings messages, loaded states and the time, stores the
//! [`Checkpoint`]s, and says when one was committed. Dirty customers are owned here and never given up; clean ones may be
//! taken out by [`Partition::evict`].

mod forget; // customers that must not be known any more

use std::{cmp::Reverse, collections::BinaryHeap, hash::BuildHasher, sync::Arc};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{
    alert::Decision,
    announce,
    checkpoint::{Checkpoint, Counters, LinkRow, OutboxRow},
    fleet::{self, Outages, tally::Tally},
    link::{self, Subject},
    resident::{Customer, UNSEEN, account_of, token_of, visible},
    rules::Rules,
    score::evaluate,
    snapshot,
    state::{Applied, Change, CustomerState},
};
use crate::event::{
    decode::Event,
    ids::{AccountId, CustomerId, PartitionId, StreamSequence},
    time::Timestamp,
};

/// How evaluations are timed.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The same level is not announced again within this.
    pub cooldown_millis: i64,
    /// An event that is older than this when it arrives is history: its customer is evaluated when the import is over.
    pub history_after_millis: i64,
    /// An import is over when no history came for this long.
    pub settle_millis: i64,
    /// A customer does not wait longer than this for an import to be over.
    pub settle_most_millis: i64,
}

/// Where a customer stands in a partition's memory. Valid until the next [`Partition::evict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// An event on its way into a state.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// What happened.
    pub event: &'a Event<'a>,
    /// When it happened, already cut off at its receipt.
    pub at: Timestamp,
    /// Where it stands in the stream.
    pub sequence: StreamSequence,
    /// When the stream stored it.
    pub stored_at: Timestamp,
}

/// A customer that is taken into memory.
#[derive(Debug)]
pub struct Admission {
    /// `<account>.<token>`.
    pub key: Box<str>,
    /// The customer's full id.
    pub customer: CustomerId,
    /// The rules of its account.
    pub rules: Arc<Rules>,
    /// What is stored of it; nothing for a new customer.
    pub stored: Option<(CustomerState, Option<Timestamp>)>,
}

/// A clean customer that was taken out of memory.
#[derive(Debug)]
pub struct Evicted {
    /// `<account>.<token>`.
    pub key: Box<str>,
    /// The customer's full id.
    pub customer: CustomerId,
    /// Its state.
    pub snapshot: Vec<u8>,
    /// When it is to be evaluated again.
    pub due_at: Option<Timestamp>,
}

/// When the last history came to a partition that has got none.
const NO_HISTORY: Timestamp = Timestamp::from_millis(i64::MIN / 2);

/// What a row takes beside its body: ids, subject, allocations.
const ROW_OVERHEAD: usize = 400;

/// A partition's customers and what they changed since the last checkpoint.
#[derive(Debug)]
pub struct Partition {
    id: PartitionId,
    policy: Policy,
    slots: Vec<Option<Customer>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    dirty: Vec<u32>,
    in_flight: Vec<u32>,
    unsettled: Vec<u32>,
    last_history: Timestamp,
    due: BinaryHeap<Reverse<(Timestamp, Box<str>)>>,
    /// Customers due before this instant stand in `due`, whether they are in memory or not.
    due_horizon: Timestamp,
    outbox: Vec<OutboxRow>,
    links: Vec<LinkRow>,
    volume: Tally,
    counters: Counters,
    /// What is not to be told because of missing events.
    outages: Arc<Outages>,
    evaluations: u64,
    kept_back: u64,
    generation: u32,
}

impl Partition {
    /// An empty partition.
    pub fn new(id: PartitionId, policy: Policy) -> Self {
        Self {
            id,
            policy,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            dirty: Vec::new(),
            in_flight: Vec::new(),
            unsettled: Vec::new(),
            last_history: NO_HISTORY,
            due: BinaryHeap::new(),
            due_horizon: Timestamp::from_millis(i64::MIN / 2),
            outbox: Vec::new(),
            links: Vec::new(),
            volume: Tally::default(),
            counters: Counters::default(),
            outages: Arc::default(),
            evaluations: 0,
            kept_back: 0,
            generation: 0,
        }
    }

    /// Which partition it is.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Customers in memory.
    pub fn resident(&self) -> usize {
        self.index.len()
    }

    /// Customers that changed since they were last stored, those on their way included.
    pub fn dirty(&self) -> usize {
        self.dirty.len() + self.in_flight.len()
    }

    /// How often customers were evaluated since this was asked last.
    pub fn take_evaluations(&mut self) -> u64 {
        std::mem::take(&mut self.evaluations)
    }

    /// How many rises were kept back because of missing events since this was asked last.
    pub fn take_kept_back(&mut self) -> u64 {
        std::mem::take(&mut self.kept_back)
    }

    /// Evaluations from now on know of these outages.
    pub fn set_outages(&mut self, outages: Arc<Outages>) {
        self.outages = outages;
    }

    /// Something waits to be published as soon as it is stored.
    pub fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Roughly how many bytes wait for the next checkpoint besides customers' states.
    pub fn waiting_bytes(&self) -> usize {
        let messages = self.outbox.iter().map(|row| row.body.len() + ROW_OVERHEAD).sum::<usize>();
        messages + self.links.len() * ROW_OVERHEAD
    }

    /// Nothing changed since the last checkpoint.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.counters == Counters::default() && self.outbox.is_empty() && self.links.is_empty()
    }

    /// Finds a customer by `<account>.<token>`.
    pub fn find(&self, key: &str) -> Option<Slot> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |slot| &*slot_ref(&self.slots, *slot).key == key).map(|slot| Slot(*slot))
    }

    /// Takes a customer into memory that is not there yet.
    pub fn admit(&mut self, admission: Admission, now: Timestamp) -> Slot {
        debug_assert!(self.find(&admission.key).is_none(), "a customer was admitted twice");
        let hash = self.hasher.hash_one(&*admission.key);
        let token = token_of(&admission.key);
        let id = (admission.customer.as_str() != token).then(|| admission.customer.as_str().into());
        let is_new = admission.stored.is_none();
        let (state, due_at) = admission.stored.unwrap_or_else(|| (CustomerState::new(now), None));
        let customer = Customer {
            key: admission.key,
            id,
            state,
            rules: admission.rules,
            due_at,
            touched: self.generation,
            dirty: false,
            in_flight: false,
            is_new,
            score_changed: false,
            evaluated_at: now,
            steady_until: None,
            unsettled_since: None,
        };
        let unsettled = customer.state.unsettled;
        // It was out of memory until its import should be over: one customer after another that comes back for this is no
        // more history. An owner that has seen none yet does not know what came before it, and waits once.
        let comes_to_settle = due_at.is_some_and(|at| at <= now) && self.last_history > NO_HISTORY;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 customers are in memory")
        });
        self.slots[slot as usize] = Some(customer);
        let slots = &self.slots;
        let rehash = |slot: &u32| self.hasher.hash_one(&*slot_ref(slots, *slot).key);
        self.index.insert_unique(hash, slot, rehash);
        if unsettled {
            self.wait_for_import(Slot(slot), now);
            if !comes_to_settle {
                self.last_history = self.last_history.max(now);
            }
        }
        Slot(slot)
    }

    /// The full id of a customer in memory.
    pub fn customer_id(&self, slot: Slot) -> &str {
        slot_ref(&self.slots, slot.0).customer_id()
    }

    /// The state of a customer in memory.
    pub fn state(&self, slot: Slot) -> &CustomerState {
        &slot_ref(&self.slots, slot.0).state
    }

    /// The rules a customer in memory is scored by.
    pub fn rules(&self, slot: Slot) -> &Rules {
        &slot_ref(&self.slots, slot.0).rules
    }

    /// Applies an event to a customer in memory; evaluates the customer at once unless history is being imported for it.
    pub fn apply(&mut self, slot: Slot, incoming: Incoming<'_>, now: Timestamp) -> Applied {
        self.counters.received += 1;
        let customer = slot_mut(&mut self.slots, slot.0);
        if customer.is_new && !customer.dirty && !customer.in_flight {
            customer.state = CustomerState::new(incoming.at);
        }
        let anything = |applied| Change { applied, usage_alone: false };
        let Change { applied, usage_alone } = match &*incoming.event.name {
            link::LINKED | link::TRANSFERRED | "identify" => anything(self.apply_linking(slot, incoming)),
            _ if customer.state.moved_to.is_some() => anything(self.forward(slot, incoming)),
            _ => customer.state.change(incoming.event, incoming.at, &customer.rules),
        };
        match applied {
            Applied::Applied => {
                self.counters.applied += 1;
                self.count_volume(slot, incoming);
            }
            Applied::Late => self.counters.late += 1,
            Applied::Duplicate => {
                self.counters.duplicate += 1;
                return applied;
            }
        }
        self.mark_dirty(slot);
        if now.millis_since(incoming.at) > self.policy.history_after_millis {
            self.unsettle(slot, now);
        } else if !(usage_alone && slot_mut(&mut self.slots, slot.0).stays_as_it_is(now)) {
            self.evaluate_settled(slot, now);
        }
        applied
    }

    /// Counts what a service or a page sent as it happened: neither history, nor what comes from Stripe or from us.
    fn count_volume(&mut self, slot: Slot, incoming: Incoming<'_>) {
        let Incoming { event, at, stored_at, .. } = incoming;
        let is_history = stored_at.millis_since(at) > self.policy.history_after_millis;
        if !is_history && !event.has_facts() && !link::RESERVED_NAMES.contains(&&*event.name) {
            self.volume.count(&slot_ref(&self.slots, slot.0).key, fleet::slot_of(stored_at));
        }
    }

    /// Counts a message that went to the dead letters.
    pub fn count_dead(&mut self) {
        self.counters.received += 1;
        self.counters.dead += 1;
    }

    /// Counts a message that was dropped because its customer was erased.
    pub fn count_suppressed(&mut self) {
        self.counters.received += 1;
        self.counters.suppressed += 1;
    }

    fn apply_linking(&mut self, slot: Slot, incoming: Incoming<'_>) -> Applied {
        let (account, id) = self.identity(slot);
        let of = Subject { account: &account, customer: &id, at: incoming.at };
        let customer = slot_mut(&mut self.slots, slot.0);
        match (&*incoming.event.name, link::target(incoming.event)) {
            (link::LINKED, Some(to)) if link::is_stripe_customer(&id) => {
                if let Some(left) = customer.state.move_to(to.clone(), incoming.at) {
                    customer.score_changed = left.evaluated.is_some_and(|last| last.score > 0);
                    self.outbox.push(link::transfer_event(of, &to, &left));
                }
                Applied::Applied
            }
            _ if customer.state.moved_to.is_some() => self.forward(slot, incoming),
            (link::TRANSFERRED, _) => {
                link::join_transfer(&mut customer.state, incoming.event, incoming.at, &customer.rules)
            }
            _ => {
                let applied = customer.state.apply(incoming.event, incoming.at, &customer.rules);
                if let Some(link) = link::requested(incoming.event, of).filter(|_| applied != Applied::Duplicate) {
                    if customer.state.note_link(&link.stripe_customer) {
                        self.outbox.extend(link::linked_event(&link));
                    }
                    self.links.push(link);
                }
                applied
            }
        }
    }

    fn forward(&mut self, slot: Slot, incoming: Incoming<'_>) -> Applied {
        let (account, id) = self.identity(slot);
        let customer = slot_mut(&mut self.slots, slot.0);
        let Some(to) = customer.state.moved_to().cloned() else { return Applied::Late };
        if !customer.state.note_id(incoming.event.id.as_deref(), incoming.at) {
            return Applied::Duplicate;
        }
        let of = Subject { account: &account, customer: &id, at: incoming.at };
        let fallback_id = format!("{}-{}", self.id, incoming.sequence);
        self.outbox.push(link::forwarded_event(incoming.event, of, &to, &fallback_id));
        Applied::Applied
    }

    fn identity(&self, slot: Slot) -> (AccountId, CustomerId) {
        slot_ref(&self.slots, slot.0).identity()
    }

    fn mark_dirty(&mut self, slot: Slot) {
        let customer = slot_mut(&mut self.slots, slot.0);
        customer.touched = self.generation;
        if !customer.dirty {
            customer.dirty = true;
            self.dirty.push(slot.0);
        }
    }

    /// Puts a customer's evaluation off until the import that brings its history is over.
    fn unsettle(&mut self, slot: Slot, now: Timestamp) {
        self.last_history = self.last_history.max(now);
        self.wait_for_import(slot, now);
    }

    fn wait_for_import(&mut self, slot: Slot, now: Timestamp) {
        let customer = slot_mut(&mut self.slots, slot.0);
        customer.state.unsettled = true;
        if customer.unsettled_since.is_none() {
            customer.unsettled_since = Some(now);
            self.unsettled.push(slot.0);
        }
    }

    fn evaluate_settled(&mut self, slot: Slot, now: Timestamp) {
        if slot_ref(&self.slots, slot.0).unsettled_since.is_none() {
            self.evaluate(slot, now);
        }
    }

    /// Evaluates a customer in memory as of `now`, announcing what is new.
    fn evaluate(&mut self, slot: Slot, now: Timestamp) {
        self.evaluations += 1;
        let customer = slot_mut(&mut self.slots, slot.0);
        let as_of = now.max(customer.state.newest);
        customer.evaluated_at = as_of;
        customer.steady_until = None;
        let evaluation = evaluate(&mut customer.state, &customer.rules, as_of);
        let last = customer.state.evaluated;
        if last == Some(evaluation) && !customer.state.is_untold() {
            return;
        }
        customer.state.evaluated = Some(evaluation);
        customer.score_changed |= last.map_or(UNSEEN, visible) != visible(evaluation);
        let told = customer.worth_telling(evaluation, as_of, &self.outages);
        if told.level < evaluation.level && last.is_none_or(|last| last.level < evaluation.level) {
            self.kept_back += 1;
        }
        let decision = customer.state.alerts.decide(&told, as_of, self.policy.cooldown_millis);
        if decision != Decision::Nothing {
            let (account, id) = customer.identity();
            let of = Subject { account: &account, customer: &id, at: as_of };
            self.outbox.extend(announce::alert(decision, of, &customer.state, &customer.rules, told));
        }
        self.mark_dirty(slot);
    }

    /// Evaluates the customers that history was imported for, if the import is over as of `now`.
    pub fn settle(&mut self, now: Timestamp, at_once: bool) -> usize {
        let quiet = now.millis_since(self.last_history) >= self.policy.settle_millis;
        let most = self.policy.settle_most_millis;
        let waiting = std::mem::take(&mut self.unsettled);
        let mut settled = 0;
        for slot in waiting {
            let customer = slot_mut(&mut self.slots, slot);
            let waited = customer.unsettled_since.map_or(most, |since| now.millis_since(since));
            if quiet || at_once || waited >= most {
                customer.unsettled_since = None;
                customer.state.unsettled = false;
                self.evaluate(Slot(slot), now);
                self.mark_dirty(Slot(slot));
                settled += 1;
            } else {
                self.unsettled.push(slot);
            }
        }
        settled
    }

    /// When [`Partition::settle`] has something to do next.
    pub fn settles_at(&self) -> Option<Timestamp> {
        let first = slot_ref(&self.slots, *self.unsettled.first()?).unsettled_since?;
        let quiet_at = self.last_history.plus_millis(self.policy.settle_millis);
        Some(quiet_at.min(first.plus_millis(self.policy.settle_most_millis)))
    }

    /// Customers that wait for an import to be over.
    pub fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// Scores a customer in memory by other rules from now on.
    pub fn set_rules(&mut self, slot: Slot, rules: Arc<Rules>, now: Timestamp) {
        slot_mut(&mut self.slots, slot.0).rules = rules;
        self.evaluate_due(slot, now);
    }

    /// The customers in memory with their accounts, by slot.
    pub fn slots(&self) -> Vec<(Slot, &str)> {
        let numbered = self.slots.iter().zip(0..);
        numbered.filter_map(|(customer, slot)| Some((Slot(slot), account_of(&customer.as_ref()?.key)))).collect()
    }

    /// Until when due customers were loaded.
    pub fn due_horizon(&self) -> Timestamp {
        self.due_horizon
    }

    /// Notes customers that are due before `horizon`: all there are, those in memory excepted.
    pub fn schedule(&mut self, due: impl IntoIterator<Item = (Timestamp, Box<str>)>) {
        self.due.extend(due.into_iter().map(Reverse));
    }

    /// All customers that are due before `horizon` have been scheduled.
    pub fn extend_due_horizon(&mut self, horizon: Timestamp) {
        if horizon <= self.due_horizon {
            return;
        }
        let (from, slots) = (self.due_horizon, &self.slots);
        let resident = slots.iter().flatten().filter_map(|customer| Some((customer.due_at?, customer.key.clone())));
        self.due.extend(resident.filter(|(at, _)| *at >= from && *at < horizon).map(Reverse));
        self.due_horizon = horizon;
    }

    /// Takes up to `limit` customers that are due as of `now`.
    pub fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<Box<str>> {
        let mut due = Vec::new();
        while due.len() < limit && self.due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, key))) = self.due.pop() else { break };
            let stale = self.find(&key).is_some_and(|slot| slot_ref(&self.slots, slot.0).due_at != Some(at));
            if !stale && due.last() != Some(&key) {
                due.push(key);
            }
        }
        due
    }

    /// How many notes of when somebody is due are held.
    pub fn noted_due(&self) -> usize {
        self.due.len()
    }

    /// When the next scheduled customer is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Evaluates a customer in memory because silence made it due; later if history is being imported for it.
    pub fn evaluate_due(&mut self, slot: Slot, now: Timestamp) {
        // Its note was taken out, also where the clock was set back meanwhile and it is due at the same instant again.
        let customer = slot_mut(&mut self.slots, slot.0);
        customer.due_at = None;
        if customer.unsettled_since.is_none() {
            self.evaluate(slot, now);
            self.mark_dirty(slot);
            return;
        }
        // Wherever it is by then, it is looked at again.
        let again = now.plus_millis(self.policy.settle_millis);
        if again < self.due_horizon {
            customer.due_at = Some(again);
            self.due.push(Reverse((again, customer.key.clone())));
        }
    }

    /// Everything that changed since the last checkpoint. At most one checkpoint may be under way.
    pub fn take_checkpoint(&mut self, now: Timestamp) -> Checkpoint {
        assert!(self.in_flight.is_empty(), "two checkpoints of one partition are under way");
        self.generation = self.generation.wrapping_add(1);
        let dirty = std::mem::take(&mut self.dirty);
        let mut states = Vec::with_capacity(dirty.len());
        let mut scores = Vec::new();
        for slot in &dirty {
            let customer = slot_mut(&mut self.slots, *slot);
            let next = customer.next_due(now, self.policy);
            let noted = std::mem::replace(&mut customer.due_at, next);
            // Busy customers are stored every second and due at the same instant for hours.
            if let Some(at) = next.filter(|at| *at < self.due_horizon && noted != Some(*at)) {
                self.due.push(Reverse((at, customer.key.clone())));
            }
            if std::mem::take(&mut customer.score_changed) {
                scores.push(customer.score_row());
            }
            states.push(customer.state_row());
            customer.dirty = false;
            customer.is_new = false;
            customer.in_flight = true;
        }
        self.in_flight = dirty;
        Checkpoint {
            partition: self.id,
            states,
            scores,
            outbox: std::mem::take(&mut self.outbox),
            links: std::mem::take(&mut self.links),
            volume: self.volume.take(),
            counters: std::mem::take(&mut self.counters),
        }
    }

    /// The checkpoint that was under way is stored.
    pub fn committed(&mut self) {
        for slot in std::mem::take(&mut self.in_flight) {
            slot_mut(&mut self.slots, slot).in_flight = false;
        }
    }

    /// Takes clean customers out of memory, those longest untouched first, until at most `keep` are left. Those that wait for
    /// an import to be over go last; they are stored as waiting, and due.
    pub fn evict(&mut self, keep: usize) -> Vec<Evicted> {
        let surplus = self.resident().saturating_sub(keep);
        if surplus == 0 {
            return Vec::new();
        }
        let generation = self.generation;
        let mut clean: Vec<(bool, u32, u32)> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(slot, customer)| Some((u32::try_from(slot).ok()?, customer.as_ref()?)))
            .filter(|(_, customer)| customer.is_clean())
            .map(|(slot, customer)| {
                (customer.unsettled_since.is_some(), generation.wrapping_sub(customer.touched), slot)
            })
            .collect();
        clean.sort_unstable_by_key(|(waits, age, _)| (*waits, Reverse(*age)));
        clean.truncate(surplus);
        let evicted = clean.into_iter().filter_map(|(.., slot)| self.take_out(slot)).collect();
        let slots = &self.slots;
        self.unsettled.retain(|slot| slots[*slot as usize].is_some());
        evicted
    }

    fn take_out(&mut self, slot: u32) -> Option<Evicted> {
        let customer = self.slots[slot as usize].take()?;
        let hash = self.hasher.hash_one(&*customer.key);
        if let Ok(entry) = self.index.find_entry(hash, |held| *held == slot) {
            entry.remove();
        }
        self.free.push(slot);
        let (_, id) = customer.identity();
        let snapshot = snapshot::encode(&customer.state);
        // A customer that was admitted for a message that then changed nothing was never stored.
        (!customer.is_new).then_some(Evicted { key: customer.key, customer: id, snapshot, due_at: customer.due_at })
    }
}

fn slot_ref(slots: &[Option<Customer>], slot: u32) -> &Customer {
    slots[slot as usize].as_ref().expect("a slot that is indexed is taken")
}

fn slot_mut(slots: &mut [Option<Customer>], slot: u32) -> &mut Customer {
    slots[slot as usize].as_mut().expect("a slot that is indexed is taken")
}
