//! A partition between a stream and a store, both in memory, that crashes between any two steps.
//!
//! What the store holds in the end is what an undisturbed run stores, and every message is counted once.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use super::{
    drawn::{self, DAY, HOUR, Happened, START},
    play::{POLICY, rules},
};
use crate::{
    engine::{
        alert::AlertMemory,
        checkpoint::{Checkpoint, Counters, OutboxKind, OutboxRow},
        fleet::{Outage, Outages},
        partition::{Admission, Incoming, Partition, Slot},
        snapshot,
        state::{Applied, CustomerState},
    },
    event::{
        decode::{Encoding, decode},
        ids::{AccountId, CustomerId, PartitionId, StreamSequence},
        subject,
        time::Timestamp,
    },
};

const CUSTOMERS: [&str; 5] = ["acme", "blue & co", "cus_1", "cus_2", "delta"];

/// One message of the stream; nothing in it for one that cannot be understood.
struct Message {
    customer: &'static str,
    event: Option<(Timestamp, Value)>,
    stored_at: Timestamp,
}

/// What survives a crash.
#[derive(Default)]
struct Store {
    states: BTreeMap<Box<str>, (CustomerId, Vec<u8>, Option<Timestamp>)>,
    watermark: usize,
    counters: Counters,
    outbox: Vec<OutboxRow>,
    /// Events by slot.
    volume: BTreeMap<i64, u64>,
    unpublished: VecDeque<OutboxRow>,
}

struct World {
    stream: Vec<Message>,
    message_ids: HashSet<String>,
    store: Store,
    partition: Partition,
    /// How many messages the partition has read.
    read: usize,
    /// A checkpoint that is under way, and up to where it goes.
    under_way: Option<(Checkpoint, usize)>,
    /// The slot of each message that is live usage and changed a state.
    live: BTreeMap<u64, i64>,
    outages: Arc<Outages>,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self {
            stream: Vec::new(),
            message_ids: HashSet::new(),
            store: Store::default(),
            partition: started(&Store::default(), START),
            read: 0,
            under_way: None,
            live: BTreeMap::new(),
            outages: Arc::default(),
            now: START,
        }
    }

    fn read_next(&mut self) {
        let Some(message) = self.stream.get(self.read) else { return };
        self.read += 1;
        let sequence = StreamSequence(self.read as u64);
        let (customer, event, stored_at) = (message.customer, message.event.clone(), message.stored_at);
        let Some((at, body)) = event else { return self.partition.count_dead() };
        let (text, mut scratch) = (body.to_string(), Vec::new());
        let event = decode(text.as_bytes(), Encoding::Json, &mut scratch).unwrap();
        let customer = CustomerId::parse(customer).unwrap();
        let slot = self.slot(&format!("a.{}", subject::encode(&customer)), Some(&customer)).unwrap();
        let applied = self.partition.apply(slot, Incoming { event: &event, at, sequence, stored_at }, self.now);
        let is_ours = ["subscription_linked", "subscription_transferred"].contains(&&*event.name);
        let is_live = body["facts"].is_null() && !is_ours && stored_at.millis_since(at) <= HOUR;
        if is_live && applied == Applied::Applied {
            self.live.insert(sequence.0, stored_at.millis().div_euclid(HOUR / 4));
        } else {
            self.live.remove(&sequence.0);
        }
    }

    fn slot(&mut self, key: &str, customer: Option<&CustomerId>) -> Option<Slot> {
        if let Some(slot) = self.partition.find(key) {
            return Some(slot);
        }
        let stored = self.store.states.get(key);
        let customer = stored.map(|(customer, ..)| customer).or(customer)?.clone();
        let stored = stored.map(|(_, bytes, due_at)| (snapshot::decode(bytes).unwrap(), *due_at));
        Some(self.partition.admit(Admission { key: key.into(), customer, rules: rules("default"), stored }, self.now))
    }

    fn pass(&mut self, millis: i64) {
        let until = self.now.plus_millis(millis);
        loop {
            let next = self.partition.next_due().into_iter().chain(self.partition.settles_at()).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            self.partition.settle(self.now, false);
            for key in self.partition.take_due(self.now, 3) {
                if let Some(slot) = self.slot(&key, None) {
                    self.partition.evaluate_due(slot, self.now);
                }
            }
            // A customer that is due again at once must be seen again.
            if self.under_way.is_none() {
                self.begin_checkpoint();
                self.commit();
            }
        }
        self.now = until;
    }

    fn begin_checkpoint(&mut self) {
        if self.under_way.is_none() {
            self.under_way = Some((self.partition.take_checkpoint(self.now), self.read));
        }
    }

    /// The checkpoint that is under way stands.
    fn commit(&mut self) {
        if let Some((checkpoint, upto)) = self.under_way.take() {
            self.store.take(checkpoint, upto);
            self.partition.committed();
            self.publish();
        }
    }

    fn publish(&mut self) {
        while let Some(row) = self.store.unpublished.pop_front() {
            if self.message_ids.insert(row.message_id) {
                let customer = CUSTOMERS.into_iter().find(|id| *id == row.customer.as_str()).unwrap();
                let body: Value = serde_json::from_slice(&row.body).unwrap();
                let at = body["timestamp"].as_str().unwrap().parse().unwrap();
                self.stream.push(Message { customer, event: Some((at, body)), stored_at: self.now });
            }
        }
    }

    /// Events stop coming, or come again.
    fn turn_tracking(&mut self) {
        let account = AccountId::parse("a").unwrap();
        let mut outages = Outages::default();
        let mut known = self.outages.of("a").to_vec();
        match known.iter_mut().find(|outage| outage.until.is_none()) {
            Some(open) => open.until = Some(self.now),
            None => known.push(Outage { from: self.now, until: None, expected: 0 }),
        }
        known.into_iter().for_each(|outage| outages.add(&account, outage));
        self.know_outages(outages);
    }

    fn know_outages(&mut self, outages: Outages) {
        self.outages = Arc::new(outages);
        self.partition.set_outages(Arc::clone(&self.outages));
    }

    /// The process ends here; its checkpoint under way may stand or not, and what it publishes may wait for the next one.
    fn crash(&mut self, stands: bool) {
        if let Some((checkpoint, upto)) = self.under_way.take().filter(|_| stands) {
            self.store.take(checkpoint, upto);
        }
        self.partition = started(&self.store, self.now);
        self.partition.set_outages(Arc::clone(&self.outages));
        self.read = self.store.watermark;
        self.publish();
    }

    /// Reads to the end and waits until what was held back is told, days after the last event.
    fn finish(&mut self) {
        self.know_outages(Outages::default());
        self.pass(START.plus_millis(75 * DAY).millis_since(self.now).max(0));
        for _ in 0..4 {
            self.begin_checkpoint();
            self.commit();
            while self.read < self.stream.len() {
                self.read_next();
                self.begin_checkpoint();
                self.commit();
            }
            self.pass(DAY);
        }
        self.begin_checkpoint();
        self.commit();
    }

    /// Each customer's state, less what depends on when it was looked at.
    fn states(&self) -> BTreeMap<&str, CustomerState> {
        let timeless = |bytes: &[u8]| {
            let mut state = snapshot::decode(bytes).unwrap();
            assert!(!state.unsettled, "no import goes on");
            (state.alerts, state.evaluated) = (AlertMemory::default(), None);
            state
        };
        self.store.states.iter().map(|(key, (_, bytes, _))| (&**key, timeless(bytes))).collect()
    }
}

impl Store {
    fn take(&mut self, checkpoint: Checkpoint, upto: usize) {
        let accounted = usize::try_from(checkpoint.counters.received).unwrap();
        assert_eq!(self.watermark + accounted, upto, "each message is counted in the checkpoint that passes it");
        self.watermark = upto;
        for row in checkpoint.states {
            let key = format!("{}.{}", row.account, row.token).into();
            assert_eq!(row.is_new, !self.states.contains_key(&key), "{key}");
            self.states.insert(key, (row.customer, row.snapshot, row.due_at));
        }
        let mine = &mut self.counters;
        mine.received += checkpoint.counters.received;
        mine.applied += checkpoint.counters.applied;
        mine.duplicate += checkpoint.counters.duplicate;
        mine.late += checkpoint.counters.late;
        mine.dead += checkpoint.counters.dead;
        mine.suppressed += checkpoint.counters.suppressed;
        for row in checkpoint.volume {
            assert_eq!(row.account.as_str(), "a");
            *self.volume.entry(row.slot).or_default() += row.events;
        }
        self.unpublished.extend(checkpoint.outbox.iter().filter(|row| row.kind == OutboxKind::Event).cloned());
        self.outbox.extend(checkpoint.outbox);
    }
}

/// A partition as it is after a start.
fn started(store: &Store, now: Timestamp) -> Partition {
    let mut partition = Partition::new(PartitionId(0), POLICY);
    partition.extend_due_horizon(now.plus_millis(1_000 * DAY));
    partition.schedule(store.states.iter().filter_map(|(key, (_, _, due_at))| Some(((*due_at)?, key.clone()))));
    partition
}

/// What services publish: events of all customers, links, repeats of the newest, and what nobody understands.
fn published(random: &mut StdRng) -> Vec<Message> {
    let mut messages = Vec::new();
    for customer in CUSTOMERS {
        let of_stripe = customer.starts_with("cus_");
        for (at, body) in events(random, of_stripe).into_iter().take(7) {
            let body = drawn::with_id(body, format!("{customer}-{}", messages.len()));
            let times = if random.random_bool(0.1) { 2 } else { 1 };
            let stored_at = at.plus_millis(if random.random_bool(0.3) { HOUR + 1 } else { 1_000 });
            messages.extend((0..times).map(|_| Message { customer, event: Some((at, body.clone())), stored_at }));
        }
    }
    for (customer, stripe_customer) in [("acme", "cus_1"), ("delta", "cus_2"), ("acme", "cus_1")] {
        let body = json!({ "event": "identify", "id": format!("link-{customer}"),
            "properties": { "stripeCustomerId": stripe_customer }, "timestamp": START });
        messages.push(Message { customer, event: Some((START, body)), stored_at: START });
    }
    messages.extend((0..3).map(|_| Message { customer: "acme", event: None, stored_at: START }));
    messages
}

fn events(random: &mut StdRng, of_stripe: bool) -> Vec<Happened> {
    if !of_stripe {
        return drawn::events(random);
    }
    let instants: Vec<Timestamp> = (0..8).map(|_| START.plus_millis(random.random_range(0..200) * HOUR)).collect();
    instants.into_iter().map(|at| (at, drawn::stripe_event(random, at))).collect()
}

/// Lets a world live through drawn steps, crashes among them if asked for.
fn live(seed: u64, crashes: bool) -> World {
    let mut messages = published(&mut StdRng::seed_from_u64(seed));
    let mut random = StdRng::seed_from_u64(seed ^ u64::from(crashes) << 40);
    let mut world = World::new();
    while !messages.is_empty() {
        match random.random_range(0..21) {
            0..6 => {
                let place = random.random_range(0..messages.len());
                world.stream.push(messages.swap_remove(place));
            }
            6..13 => world.read_next(),
            13 | 14 => world.begin_checkpoint(),
            15 => world.commit(),
            16 => world.pass(*[1, 4_000, HOUR, 30 * HOUR].choose(&mut random).unwrap()),
            17 => drop(world.partition.evict(random.random_range(0..4))),
            18 => world.turn_tracking(),
            _ if crashes => world.crash(random.random_bool(0.5)),
            _ => {}
        }
    }
    world.finish();
    world
}

#[test]
fn silence_that_fell_while_nobody_watched_is_noticed_with_the_next_usage() {
    let message = |name: &str, at: Timestamp| Message {
        customer: "acme",
        event: Some((at, json!({ "event": name, "id": format!("{name}-{at}"), "timestamp": at }))),
        stored_at: at,
    };
    let mut world = World::new();
    world.stream.push(message("login", START));
    world.read_next();
    world.begin_checkpoint();
    world.commit();
    world.now = START.plus_millis(14 * DAY + HOUR);
    world.partition = Partition::new(PartitionId(0), POLICY);
    world.stream.push(message("feature_used", world.now));
    world.read_next();
    let checkpoint = world.partition.take_checkpoint(world.now);
    assert_eq!(checkpoint.states[0].score, 30, "no login for 14 days");
}

#[test]
fn crashes_change_nothing() {
    let mut moved = 0;
    for seed in 0..300 {
        let (calm, crashed) = (live(seed, false), live(seed, true));
        let (expected, found) = (calm.states(), crashed.states());
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "seed {seed}");
        for (key, state) in &expected {
            assert_eq!(&found[key], state, "seed {seed}, {key}");
            moved += usize::from(state.moved_to().is_some());
        }
        for world in [&calm, &crashed] {
            let Counters { received, applied, duplicate, late, dead, suppressed } = world.store.counters;
            assert_eq!(received, applied + duplicate + late + dead + suppressed, "seed {seed}");
            assert_eq!((received, dead), (world.stream.len() as u64, 3), "seed {seed}: each message counts once");
            alerts_are_told(world, seed);
            let mut live = BTreeMap::new();
            world.live.values().for_each(|slot| *live.entry(*slot).or_default() += 1);
            assert_eq!(world.store.volume, live, "seed {seed}: what is live counts once");
        }
    }
    assert_eq!(moved, 600, "both Stripe customers are linked in each world");
}

/// Days after the last event receivers know each customer's level, and no alert has the id of another.
fn alerts_are_told(world: &World, seed: u64) {
    let mut ids = HashSet::new();
    let alerts: Vec<&OutboxRow> = world.store.outbox.iter().filter(|row| row.kind == OutboxKind::Alert).collect();
    assert!(alerts.iter().all(|row| ids.insert(&row.message_id)), "seed {seed}: an id was given twice");
    for (key, (customer, bytes, _)) in &world.store.states {
        let state = snapshot::decode(bytes).unwrap();
        if state.moved_to().is_some() {
            continue;
        }
        let last = alerts.iter().rfind(|row| row.customer == *customer);
        let told = last.map_or("low", |row| row.subject.split('.').nth(3).unwrap());
        assert_eq!(told, state.evaluated.unwrap().level.as_str(), "seed {seed}, {key}");
    }
}
