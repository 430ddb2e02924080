//! A Postgres in memory: the partitions' rows with epochs and watermarks, states, scores, outbox and leases.
//!
//! What it accepts and refuses follows the statements in `store`, not the callers' hopes; the suite in `conformance`
//! holds it to the real one. Each commit is checked on the spot against what must hold in every commit.

mod port;
mod seat;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use churnd::{
    engine::checkpoint::{Checkpoint, Counters, LinkRow, OutboxKind, ScoreRow, StateRow},
    event::{
        ids::{AccountId, Epoch, PartitionId, StreamSequence},
        time::Timestamp,
    },
    store::{
        checkpoint::CheckpointWrite,
        leases::{Decision, InstanceView, Lease, Memory, Owner, PartitionView, Role, Target, View, decide},
        outbox::{OutboxPending, StoredOutboxRow},
        partitioning::Rewind,
        states::{DueRow, LoadedState, RecentScore},
    },
};
use uuid::Uuid;

pub(crate) use port::TablesPort;
pub(crate) use seat::Seat;

use crate::world::Inner;

/// A partition's row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) epoch: u64,
    pub(crate) session: Option<Uuid>,
    owner: Option<String>,
    pub(crate) lease_until: Option<Timestamp>,
    pub(crate) watermark: u64,
    watermark_time: Option<Timestamp>,
    stream_created: Option<Timestamp>,
    pub(crate) rules_hash: Option<String>,
    last_checkpoint: Option<Uuid>,
    pub(crate) counters: Counters,
}

struct Member {
    who: usize,
    life: u32,
    heartbeat_until: Timestamp,
    connected: bool,
}

/// The tables.
pub(crate) struct Tables {
    pub(crate) partitions: BTreeMap<u16, Row>,
    members: BTreeMap<Uuid, Member>,
    next_session: u128,
    pub(crate) accounts: HashSet<AccountId>,
    pub(crate) states: BTreeMap<(String, String), (u16, StateRow)>,
    pub(crate) scores: Vec<(u16, ScoreRow)>,
    pub(crate) outbox: Vec<StoredOutboxRow>,
    places: HashMap<String, usize>,
    pub(crate) links: BTreeMap<(String, String), LinkRow>,
    pub(crate) volume: BTreeMap<(String, i64), u64>,
    /// Messages that must be in the dead letters before a watermark passes them: partition and sequence.
    pub(crate) poison: Vec<(u16, u64)>,
    pub(crate) commits: u64,
    pub(crate) fenced: u64,
}

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stood {
    Now,
    Before,
    Fenced(u16, u64),
    /// Some rows fitted and others name this very write.
    Torn,
}

impl Tables {
    pub(crate) fn new(partitions: u16) -> Self {
        Self {
            partitions: (0..partitions).map(|id| (id, Row::default())).collect(),
            members: BTreeMap::new(),
            next_session: 1,
            accounts: ["acme", "blue"].into_iter().map(|name| AccountId::parse(name).expect("a name")).collect(),
            states: BTreeMap::new(),
            scores: Vec::new(),
            outbox: Vec::new(),
            places: HashMap::new(),
            links: BTreeMap::new(),
            volume: BTreeMap::new(),
            poison: Vec::new(),
            commits: 0,
            fenced: 0,
        }
    }

    pub(crate) fn has_message(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// The kernel closes the sockets of an instance that died.
    pub(crate) fn hang_up(&mut self, who: usize, life: u32) {
        for member in self.members.values_mut().filter(|member| member.who == who && member.life <= life) {
            member.connected = false;
        }
    }

    /// As the statements of a checkpoint: all rows move, or nothing is written.
    pub(crate) fn store(&mut self, write: &CheckpointWrite, now: Timestamp, lease: Duration) -> Stood {
        let fits = |row: &Row, part: &churnd::store::checkpoint::PartWrite| {
            row.epoch == part.epoch.0 && row.watermark == part.from.0
        };
        let mut parts: Vec<_> = write.parts.iter().collect();
        parts.sort_by_key(|part| part.checkpoint.partition);
        let row_of = |part: &churnd::store::checkpoint::PartWrite| &self.partitions[&part.checkpoint.partition.0];
        let moves = |part: &&&churnd::store::checkpoint::PartWrite| {
            fits(row_of(part), part) && row_of(part).last_checkpoint != Some(write.id)
        };
        let moved = parts.iter().filter(moves).count();
        if moved < parts.len() {
            let still: Vec<_> = parts.iter().filter(|part| !moves(part)).collect();
            if still.iter().any(|part| row_of(part).last_checkpoint == Some(write.id)) {
                return if moved == 0 { Stood::Before } else { Stood::Torn };
            }
            let unfit = still.iter().find(|part| !fits(row_of(part), part)).expect("else it would have moved");
            self.fenced += 1;
            return Stood::Fenced(unfit.checkpoint.partition.0, unfit.epoch.0);
        }
        for part in &parts {
            let row = self.partitions.get_mut(&part.checkpoint.partition.0).expect("it was there");
            row.watermark_time = part.to_time.or(if part.to == part.from { row.watermark_time } else { None });
            row.watermark = part.to.0;
            row.stream_created = part.stream_created.or(row.stream_created);
            row.rules_hash = part.rules_hash.clone().or(row.rules_hash.take());
            row.last_checkpoint = Some(write.id);
            if row.session.is_some() {
                row.lease_until = row.lease_until.max(Some(now.plus(lease)));
            } else {
                row.lease_until = None;
            }
            add(&mut row.counters, part.checkpoint.counters);
        }
        for part in &parts {
            self.insert(part);
        }
        self.mark(&write.published, now);
        self.commits += 1;
        Stood::Now
    }

    fn insert(&mut self, part: &churnd::store::checkpoint::PartWrite) {
        let partition = part.checkpoint.partition;
        for state in &part.checkpoint.states {
            let key = (state.account.as_str().to_owned(), state.token.to_string());
            self.states.insert(key, (partition.0, state.clone()));
        }
        self.scores.extend(part.checkpoint.scores.iter().map(|score| (partition.0, score.clone())));
        for row in &part.checkpoint.outbox {
            if self.places.contains_key(&row.message_id) {
                continue;
            }
            self.places.insert(row.message_id.clone(), self.outbox.len());
            let id = self.outbox.len() as u64 + 1;
            self.outbox.push(StoredOutboxRow { id, partition, row: row.clone(), published_at: None });
        }
        for link in &part.checkpoint.links {
            let key = (link.account.as_str().to_owned(), link.stripe_customer.clone());
            let held = self.links.get(&key);
            if held.is_none_or(|held| (link.at, link.customer.as_str()) > (held.at, held.customer.as_str())) {
                self.links.insert(key, link.clone());
            }
        }
        for row in &part.checkpoint.volume {
            *self.volume.entry((row.account.as_str().to_owned(), row.slot)).or_default() += row.events;
        }
    }

    pub(crate) fn mark(&mut self, ids: &[String], now: Timestamp) {
        for id in ids {
            if let Some(place) = self.places.get(id) {
                self.outbox[*place].published_at.get_or_insert(now);
            }
        }
    }

    fn loaded(&self, partition: u16, state: &StateRow) -> LoadedState {
        LoadedState {
            partition: PartitionId(partition),
            account: state.account.clone(),
            token: state.token.clone(),
            customer: state.customer.clone(),
            snapshot: state.snapshot.clone(),
            score: state.score,
            level: state.level,
            status: state.status,
            mrr: state.mrr,
            due_at: state.due_at,
            updated_at: Timestamp::default(),
        }
    }

    pub(crate) fn load(&self, keys: &[(String, String)]) -> Vec<LoadedState> {
        keys.iter().filter_map(|key| self.states.get(key)).map(|(id, state)| self.loaded(*id, state)).collect()
    }

    pub(crate) fn due(
        &self,
        partitions: &[PartitionId],
        until_hour: i64,
        after: Option<(i64, String, String)>,
        limit: usize,
    ) -> Vec<DueRow> {
        let mut rows: Vec<(i64, DueRow)> = self
            .states
            .values()
            .filter(|(partition, _)| partitions.contains(&PartitionId(*partition)))
            .filter_map(|(partition, state)| {
                let due_at = state.due_at?;
                let (account, token) = (state.account.clone(), state.token.clone());
                Some((due_at.hour(), DueRow { partition: PartitionId(*partition), account, token, due_at }))
            })
            .filter(|(hour, row)| {
                let place = (*hour, row.account.as_str().to_owned(), row.token.to_string());
                *hour <= until_hour && after.as_ref().is_none_or(|after| place > *after)
            })
            .collect();
        rows.sort_by(|(hour, row), (other_hour, other)| {
            (hour, row.account.as_str(), &row.token).cmp(&(other_hour, other.account.as_str(), &other.token))
        });
        rows.into_iter().map(|(_, row)| row).take(limit).collect()
    }

    pub(crate) fn page(&self, of: &[PartitionId], after: Option<(String, String)>, limit: usize) -> Vec<LoadedState> {
        let of = self
            .states
            .iter()
            .filter(|(key, (id, _))| of.contains(&PartitionId(*id)) && after.as_ref().is_none_or(|after| *key > after));
        of.take(limit).map(|(_, (id, state))| self.loaded(*id, state)).collect()
    }

    pub(crate) fn unpublished(&self, partitions: &[PartitionId], after: u64, limit: usize) -> Vec<StoredOutboxRow> {
        let waits = |row: &&StoredOutboxRow| {
            row.published_at.is_none()
                && row.row.kind != OutboxKind::HeldAlert
                && row.id > after
                && partitions.contains(&row.partition)
        };
        self.outbox.iter().filter(waits).take(limit).cloned().collect()
    }

    pub(crate) fn pending(&self) -> OutboxPending {
        let waits = |row: &&StoredOutboxRow| row.published_at.is_none() && row.row.kind != OutboxKind::HeldAlert;
        let rows = || self.outbox.iter().filter(waits);
        OutboxPending { count: rows().count() as u64, oldest: rows().map(|row| row.row.at).min() }
    }

    pub(crate) fn last_score_at(&self, partition: PartitionId) -> Option<Timestamp> {
        self.scores.iter().rfind(|(id, _)| *id == partition.0).map(|(_, score)| score.at)
    }

    pub(crate) fn recent(
        &self,
        partitions: &[PartitionId],
        since: Timestamp,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Vec<RecentScore> {
        let mut newest: BTreeMap<(&str, &str), (u16, &ScoreRow)> = BTreeMap::new();
        for (id, score) in &self.scores {
            if score.at >= since && partitions.contains(&PartitionId(*id)) {
                newest.insert((score.account.as_str(), &score.token), (*id, score));
            }
        }
        let recent = |(id, score): (u16, &ScoreRow)| RecentScore {
            partition: PartitionId(id),
            account: score.account.clone(),
            token: score.token.clone(),
            customer: score.customer.clone(),
            at: score.at,
            score: score.score,
            level: score.level,
            status: score.status,
            factors: score.factors.clone(),
        };
        let rest = newest.into_iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
        rest.map(|(_, score)| recent(score)).take(limit).collect()
    }

    pub(crate) fn owners(&self, now: Timestamp) -> Vec<Owner> {
        let owner = |(id, row): (&u16, &Row)| Owner {
            role: Role::Engine,
            partition: PartitionId(*id),
            owner: row.owner.clone(),
            epoch: Epoch(row.epoch),
            since: None,
            lease_until: row.lease_until,
            expired: row.lease_until.is_none_or(|until| until <= now),
            watermark: StreamSequence(row.watermark),
            watermark_time: row.watermark_time,
            stream_created: row.stream_created,
            rules_hash: row.rules_hash.clone(),
            counters: row.counters,
        };
        self.partitions.iter().map(owner).collect()
    }

    /// Whose a partition is.
    pub(crate) fn owner_of(&self, partition: PartitionId) -> Option<usize> {
        let session = self.partitions.get(&partition.0)?.session?;
        self.members.get(&session).map(|member| member.who)
    }

    pub(crate) fn rewind(&mut self, rewind: &Rewind) -> bool {
        if self.partitions.values().map(|row| row.epoch).sum::<u64>() != rewind.epochs {
            return false;
        }
        for row in self.partitions.values_mut() {
            (row.owner, row.session, row.lease_until) = (None, None, None);
            row.epoch += 1;
        }
        for row in self.partitions.values_mut().filter(|row| row.stream_created == rewind.stream_created) {
            row.watermark = row.watermark.min(rewind.to.0);
            (row.watermark_time, row.stream_created) = (None, rewind.created_anew);
        }
        true
    }

    fn join(&mut self, who: usize, life: u32) -> Uuid {
        let id = Uuid::from_u128(self.next_session);
        self.next_session += 1;
        let member = Member { who, life, heartbeat_until: Timestamp::default(), connected: true };
        self.members.insert(id, member);
        id
    }

    /// One round of leases, as the statements of a session.
    fn round(&mut self, me: Uuid, target: Target, memory: &Memory, now: Timestamp, lease: Duration) -> Round {
        if let Some(member) = self.members.get_mut(&me) {
            (member.heartbeat_until, member.connected) = (now.plus(lease), true);
        }
        let expired = |row: &Row| row.lease_until.is_none_or(|until| until <= now);
        let view = View {
            partitions: self
                .partitions
                .iter()
                .map(|(id, row)| PartitionView {
                    id: PartitionId(*id),
                    epoch: Epoch(row.epoch),
                    session: row.session,
                    expired: expired(row),
                })
                .collect(),
            instances: self
                .members
                .iter()
                .filter(|(_, member)| member.heartbeat_until > Timestamp::default())
                .map(|(id, member)| InstanceView {
                    session: *id,
                    fresh: member.heartbeat_until > now,
                    connected: member.connected,
                })
                .collect(),
        };
        let decision = decide(&view, me, target, memory);
        for row in self.partitions.values_mut().filter(|row| row.session == Some(me)) {
            row.lease_until = Some(now.plus(lease));
        }
        for (id, epoch) in &decision.take {
            let row = self.partitions.get_mut(&id.0).expect("the view shows what is there");
            let free = row.session.is_none_or(|session| expired(row) || decision.dead.contains(&session));
            if row.epoch == epoch.0 && free {
                row.epoch += 1;
                (row.session, row.owner) = (Some(me), Some(format!("{me}")));
                row.lease_until = Some(now.plus(lease));
            }
        }
        let held = self.partitions.iter().filter(|(_, row)| row.session == Some(me)).map(|(id, row)| Lease {
            partition: PartitionId(*id),
            epoch: Epoch(row.epoch),
            watermark: StreamSequence(row.watermark),
            watermark_time: row.watermark_time,
            stream_created: row.stream_created,
            rules_hash: row.rules_hash.clone(),
            counters: row.counters,
        });
        Round { held: held.collect(), decision }
    }

    fn release(&mut self, me: Uuid, partition: PartitionId, epoch: Epoch) -> bool {
        let row = self.partitions.get_mut(&partition.0).expect("it was held");
        let ours = row.session == Some(me) && row.epoch == epoch.0;
        if ours {
            (row.session, row.owner, row.lease_until) = (None, None, None);
        }
        ours
    }

    fn leave(&mut self, me: Uuid) {
        for row in self.partitions.values_mut().filter(|row| row.session == Some(me)) {
            (row.session, row.owner, row.lease_until) = (None, None, None);
        }
        self.members.remove(&me);
    }
}

struct Round {
    held: Vec<Lease>,
    decision: Decision,
}

fn add(sum: &mut Counters, more: Counters) {
    sum.received += more.received;
    sum.applied += more.applied;
    sum.duplicate += more.duplicate;
    sum.late += more.late;
    sum.dead += more.dead;
    sum.suppressed += more.suppressed;
}

impl Inner {
    /// Stores a checkpoint for an instance; says aloud what must never be.
    fn store(&mut self, write: &CheckpointWrite, who: usize, life: u32, lease: Duration) -> Stood {
        let now = self.wall();
        let last = self.log.last();
        let stood = self.tables.store(write, now, lease);
        let moves: Vec<String> = write
            .parts
            .iter()
            .map(|part| {
                let Checkpoint { partition, states, scores, outbox, .. } = &part.checkpoint;
                let states: Vec<&str> = states.iter().map(|row| &*row.token).collect();
                let scores: Vec<String> = scores.iter().map(|row| format!("{}={}", row.token, row.score)).collect();
                let (states, scores, outbox) = (states.join(","), scores.join(","), outbox.len());
                format!("{partition}e{}:{}→{}({states};{scores};{outbox})", part.epoch, part.from, part.to)
            })
            .collect();
        let marks = write.published.len();
        self.note(format_args!("i{who} checkpoint {} marks {marks}: {stood:?}", moves.join(" ")));
        if stood != Stood::Now {
            return stood;
        }
        for part in &write.parts {
            let (id, partition) = (part.checkpoint.partition.0, part.checkpoint.partition);
            let row = &self.tables.partitions[&id];
            let owner = row.session.and_then(|session| self.tables.members.get(&session));
            if owner.is_some_and(|owner| (owner.who, owner.life) != (who, life)) {
                self.complain(format!("a zombie wrote: i{who} moved {partition}, which another instance owns"));
            }
            if part.to < part.from || part.to.0 > last {
                self.complain(format!("the watermark of {partition} went from {} to {} of {last}", part.from, part.to));
            }
            let Counters { received, applied, duplicate, late, dead, suppressed } = part.checkpoint.counters;
            if received != applied + duplicate + late + dead + suppressed {
                self.complain(format!("{partition} lost count: {:?}", part.checkpoint.counters));
            }
            let passed = |poison: &&(u16, u64)| poison.0 == id && part.from.0 < poison.1 && poison.1 <= part.to.0;
            let unburied: Vec<u64> = self.tables.poison.iter().filter(passed).map(|(_, sequence)| *sequence).collect();
            for sequence in unburied {
                if !self.log.dead.contains_key(&sequence) {
                    self.complain(format!("the watermark passed message {sequence} before its dead letter stood"));
                }
            }
        }
        stood
    }
}
