//! What must hold in the end: nothing lost, nothing doubled, everything told once, every score right.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use churnd::{
    engine::{
        checkpoint::{Checkpoint, Counters, OutboxKind, Status},
        partition::{Admission, Incoming, Partition, Policy},
        rules::Rules,
        snapshot,
        state::CustomerState,
    },
    event::{
        decode::{Encoding, check_customer, decode},
        ids::{PartitionId, StreamSequence},
        subject::{self, parse_partitioned},
        time::Timestamp,
    },
};
use serde_json::Value;

use crate::{
    log::Log,
    model::scoring::{Parameters, score},
    traffic::Histories,
    world::Inner,
};

/// What a world amounted to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) events: u64,
    pub(crate) alerts: u64,
    pub(crate) commits: u64,
    pub(crate) fenced: u64,
}

/// What is still to be done; empty when the world is at rest.
pub(crate) fn unrest(inner: &Inner) -> String {
    let mut last: BTreeMap<u16, u64> = BTreeMap::new();
    for (stored, sequence) in inner.log.events.iter().zip(1..) {
        if let Some(subject) = parse_partitioned(stored.subject.as_str()) {
            last.insert(subject.partition.0, sequence);
        }
    }
    let mut open = Vec::new();
    for (id, row) in &inner.tables.partitions {
        let last = last.get(id).copied().unwrap_or(0);
        if row.session.is_none() {
            open.push(format!("nobody owns p{id}"));
        }
        if row.watermark < last {
            open.push(format!("p{id} is at {} of {last}", row.watermark));
        }
    }
    let pending = inner.tables.pending().count;
    if pending > 0 {
        open.push(format!("{pending} messages wait in the outbox"));
    }
    open.join(", ")
}

/// What is wrong in a world at rest.
pub(crate) fn wrong(inner: &Inner, histories: &Histories, book: usize, policy: Policy, clocks: bool) -> Vec<String> {
    let skew = inner.bodies.iter().map(|body| body.skew).max().unwrap_or(0);
    let now = inner.wall().plus_millis(skew);
    let expected = replay(&inner.log, inner.tables.partitions.len(), policy, now);
    let mut found = Vec::new();
    compare_states(inner, &expected, &mut found);
    compare_counts(inner, &expected, &mut found);
    compare_messages(inner, &expected, &mut found);
    compare_scores(inner, histories, book, now, &mut found);
    // After a takeover the scores of the last minutes are put again, by the clock that they were made with.
    if !clocks {
        found.extend(wrong_in_bucket(inner));
    }
    found
}

/// What was seen in a world.
pub(crate) fn facts(inner: &Inner) -> Facts {
    Facts {
        events: inner.log.last(),
        alerts: inner.log.alerts.len() as u64,
        commits: inner.tables.commits,
        fenced: inner.tables.fenced,
    }
}

/// One partition after another applies the whole log in peace.
fn replay(log: &Log, partitions: usize, policy: Policy, now: Timestamp) -> BTreeMap<u16, Checkpoint> {
    let rules = Arc::new(Rules::default());
    let count = u16::try_from(partitions).expect("few");
    let mut engines: Vec<Partition> = (0..count).map(|id| Partition::new(PartitionId(id), policy)).collect();
    let mut scratch = Vec::new();
    for (stored, sequence) in log.events.iter().zip(1..) {
        let subject = parse_partitioned(stored.subject.as_str()).expect("a partitioned subject");
        let engine = &mut engines[usize::from(subject.partition.0)];
        let event = decode(&stored.payload, Encoding::Json, &mut scratch)
            .and_then(|event| check_customer(&event, subject.token).map(|customer| (event, customer)));
        let (mut event, customer) = match event {
            Ok(event) if subject.account != "ghost" => event,
            _ => {
                engine.count_dead();
                continue;
            }
        };
        let slot = engine.find(subject.key).unwrap_or_else(|| {
            let rules = Arc::clone(&rules);
            engine.admit(Admission { key: subject.key.into(), customer, rules, stored: None }, now)
        });
        if event.id.is_none() {
            let header = stored.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
            let header = header.map(async_nats::HeaderValue::as_str);
            let id = event.identity(subject.account, header).map(|id| id.to_owned().into());
            event.id = id;
        }
        let stored_at = stored.stored_at;
        let ahead = |at: &Timestamp| at.millis_since(stored_at) > 5 * 60_000;
        let at = event.timestamp.filter(|at| !ahead(at)).unwrap_or(stored_at);
        engine.apply(slot, Incoming { event: &event, at, sequence: StreamSequence(sequence), stored_at }, now);
    }
    (0..count).zip(engines.iter_mut().map(|engine| engine.take_checkpoint(now))).collect()
}

fn timeless(bytes: &[u8]) -> CustomerState {
    snapshot::decode(bytes).expect("a readable state").timeless()
}

fn compare_states(inner: &Inner, expected: &BTreeMap<u16, Checkpoint>, found: &mut Vec<String>) {
    let mut keys = BTreeSet::new();
    for row in expected.values().flat_map(|checkpoint| &checkpoint.states) {
        let key = (row.account.as_str().to_owned(), row.token.to_string());
        match inner.tables.states.get(&key) {
            None => found.push(format!("the state of {key:?} is lost")),
            Some((_, stored)) if timeless(&stored.snapshot) != timeless(&row.snapshot) => {
                found.push(format!("the state of {key:?} is not what its events make it"));
            }
            Some(_) => {}
        }
        keys.insert(key);
    }
    for key in inner.tables.states.keys().filter(|key| !keys.contains(key)) {
        found.push(format!("{key:?} has a state and no events"));
    }
    let links: BTreeMap<_, _> =
        expected.values().flat_map(|checkpoint| &checkpoint.links).fold(BTreeMap::new(), |mut links, link| {
            let place: &mut (Timestamp, String) =
                links.entry((link.account.as_str().to_owned(), link.stripe_customer.clone())).or_default();
            *place = place.clone().max((link.at, link.customer.as_str().to_owned()));
            links
        });
    let stored: BTreeMap<_, _> = inner
        .tables
        .links
        .iter()
        .map(|(key, link)| (key.clone(), (link.at, link.customer.as_str().to_owned())))
        .collect();
    if links != stored {
        found.push(format!("links are {stored:?}, not {links:?}"));
    }
}

fn compare_counts(inner: &Inner, expected: &BTreeMap<u16, Checkpoint>, found: &mut Vec<String>) {
    for (id, row) in &inner.tables.partitions {
        let Counters { received, .. } = row.counters;
        if row.counters != expected[id].counters {
            found.push(format!("p{id} counted {:?} of {:?}", row.counters, expected[id].counters));
        } else if received != row.counters.applied + row.counters.duplicate + row.counters.late + row.counters.dead {
            found.push(format!("p{id} lost count: {:?}", row.counters));
        }
    }
    let mut volume: BTreeMap<(String, i64), u64> = BTreeMap::new();
    for row in expected.values().flat_map(|checkpoint| &checkpoint.volume) {
        *volume.entry((row.account.as_str().to_owned(), row.slot)).or_default() += row.events;
    }
    if volume != inner.tables.volume {
        found.push(format!("volumes are {:?}, not {volume:?}", inner.tables.volume));
    }
    let poison: BTreeSet<u64> = inner.tables.poison.iter().map(|(_, sequence)| *sequence).collect();
    let dead: BTreeSet<u64> = inner.log.dead.keys().copied().collect();
    if poison != dead || inner.log.dead.values().any(|count| *count != 1) {
        found.push(format!("dead letters are {:?}, not one for each of {poison:?}", inner.log.dead));
    }
}

fn compare_messages(inner: &Inner, expected: &BTreeMap<u16, Checkpoint>, found: &mut Vec<String>) {
    let of_kind = |kind| inner.tables.outbox.iter().map(|row| &row.row).filter(move |row| row.kind == kind);
    let committed: BTreeSet<&str> = of_kind(OutboxKind::Alert).map(|row| row.subject.as_str()).collect();
    let published: BTreeSet<&str> = inner.log.alerts.iter().map(|(subject, ..)| subject.as_str()).collect();
    for subject in committed.difference(&published) {
        found.push(format!("an alert was never published: {subject}"));
    }
    for subject in published.difference(&committed) {
        found.push(format!("an alert was published that nobody committed: {subject}"));
    }
    let mut ids = BTreeSet::new();
    for (subject, _, body) in &inner.log.alerts {
        let body: Value = serde_json::from_slice(body).expect("alerts are JSON");
        if !ids.insert(body["id"].as_str().unwrap_or_default().to_owned()) {
            found.push(format!("an alert was published twice: {subject}"));
        }
    }
    let sent: BTreeSet<&str> = of_kind(OutboxKind::Event).map(|row| row.message_id.as_str()).collect();
    let due: BTreeSet<&str> = expected
        .values()
        .flat_map(|checkpoint| &checkpoint.outbox)
        .filter(|row| row.kind == OutboxKind::Event)
        .map(|row| row.message_id.as_str())
        .collect();
    if sent != due {
        found.push(format!("events sent on are {sent:?}, not {due:?}"));
    }
}

/// The scores by the naive model, and what was told of them.
fn compare_scores(inner: &Inner, histories: &Histories, book: usize, now: Timestamp, found: &mut Vec<String>) {
    let mut parameters = Parameters::default();
    if book == 1 {
        parameters.login.1 = 45;
    }
    for ((account, customer), history) in &histories.merged() {
        let id = churnd::event::ids::CustomerId::parse(customer).expect("an id");
        let key = (account.clone(), subject::encode(&id).as_str().to_owned());
        let Some((_, row)) = inner.tables.states.get(&key) else { continue };
        let newest = history.iter().map(|past| past.at).max().unwrap_or(0);
        let line = score(customer, history, now.millis().max(newest), &parameters);
        if (row.score, row.level.as_str()) != (line.score, &*line.level) {
            found.push(format!(
                "{key:?} is stored with {} {}, and is {} {} by {:?}",
                row.score,
                row.level.as_str(),
                line.score,
                line.level,
                line.factors
            ));
        }
        if row.status == Status::Moved {
            continue;
        }
        let of = |row: &&churnd::engine::checkpoint::OutboxRow| {
            row.kind == OutboxKind::Alert && row.account.as_str() == account && *row.token == *key.1
        };
        let told = inner.tables.outbox.iter().map(|row| &row.row).rfind(of);
        let told = told.map_or("low", |row| row.subject.split('.').nth(3).unwrap_or_default());
        if told != row.level.as_str() {
            found.push(format!("receivers know {key:?} to be at {told}, and it is at {}", row.level.as_str()));
        }
        let last = inner
            .tables
            .scores
            .iter()
            .map(|(_, score)| score)
            .rfind(|score| score.account.as_str() == account && *score.token == *key.1);
        let last = last.map_or(0, |score| score.score);
        if last != row.score {
            found.push(format!("the history of {key:?} ends with {last}, and its score is {}", row.score));
        }
    }
}

/// Where the bucket does not show what is stored.
pub(crate) fn wrong_in_bucket(inner: &Inner) -> Vec<String> {
    let mut found = Vec::new();
    for (key, (_, row)) in &inner.tables.states {
        let entry = inner.log.bucket.get(&format!("$KV.churn_risk.{}.{}", key.0, key.1));
        let shown = entry.map_or(Value::Null, |(_, body)| serde_json::from_slice(body).expect("JSON"));
        if shown["score"].as_u64().unwrap_or(0) != u64::from(row.score) {
            found.push(format!("the bucket shows {shown} for {key:?}, and its score is {}", row.score));
        }
    }
    found
}
