//! Rows to store, in a few words.

use crate::{
    engine::checkpoint::{
        Checkpoint, Counters, Factor, Level, LinkRow, OutboxKind, OutboxRow, ScoreRow, StateRow, Status,
    },
    event::{
        ids::{AccountId, CustomerId, Epoch, PartitionId, StreamSequence},
        subject,
        time::Timestamp,
    },
    store::checkpoint::{CheckpointWrite, PartWrite},
};

pub(super) const HOUR: i64 = 3_600_000;

pub(super) fn account(name: &str) -> AccountId {
    AccountId::parse(name).unwrap()
}

pub(super) fn customer(id: &str) -> CustomerId {
    CustomerId::parse(id).unwrap()
}

/// An instant so many hours after the beginning of 2026.
pub(super) fn hours(hours: i64) -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000 + hours * HOUR)
}

fn token(id: &str) -> Box<str> {
    subject::encode(&customer(id)).as_str().into()
}

/// A new customer of `acme` that is never due.
pub(super) fn state(id: &str) -> StateRow {
    StateRow {
        account: account("acme"),
        token: token(id),
        customer: customer(id),
        snapshot: format!("snapshot of {id}").into_bytes(),
        score: 0,
        level: Level::Low,
        status: Status::Active,
        mrr: None,
        due_at: None,
        is_new: true,
    }
}

pub(super) fn level_of(score: u8) -> Level {
    match score {
        70.. => Level::High,
        40..70 => Level::Medium,
        0..40 => Level::Low,
    }
}

pub(super) fn score(id: &str, at: Timestamp, score: u8) -> ScoreRow {
    ScoreRow {
        account: account("acme"),
        token: token(id),
        customer: customer(id),
        at,
        score,
        level: level_of(score),
        status: Status::Active,
        factors: vec![Factor {
            factor: "login_inactivity".into(),
            points: score,
            reason: "No login for 15 days".into(),
        }],
    }
}

pub(super) fn message(id: &str, kind: OutboxKind, message_id: &str) -> OutboxRow {
    OutboxRow {
        account: account("acme"),
        token: token(id),
        customer: customer(id),
        message_id: message_id.into(),
        subject: format!("churn.alerts.acme.high.{id}.{message_id}"),
        body: b"{}".to_vec(),
        kind,
        at: hours(1),
    }
}

pub(super) fn link(stripe_customer: &str, id: &str, at: Timestamp) -> LinkRow {
    LinkRow { account: account("acme"), stripe_customer: stripe_customer.into(), customer: customer(id), at }
}

pub(super) fn counters(applied: u64) -> Counters {
    Counters { received: applied, applied, ..Counters::default() }
}

/// An empty part.
pub(super) fn part(partition: u16, epoch: u64, from: u64, to: u64) -> PartWrite {
    PartWrite {
        epoch: Epoch(epoch),
        from: StreamSequence(from),
        to: StreamSequence(to),
        to_time: None,
        stream_created: None,
        rules_hash: None,
        checkpoint: Checkpoint {
            partition: PartitionId(partition),
            states: vec![],
            scores: vec![],
            outbox: vec![],
            links: vec![],
            volume: vec![],
            counters: Counters::default(),
        },
        forgotten: vec![],
        unwanted: vec![],
    }
}

pub(super) fn write(parts: Vec<PartWrite>) -> CheckpointWrite {
    CheckpointWrite::new(parts, vec![])
}

/// A write of partition 0 in epoch 0, changed by `change`.
pub(super) fn write_of(from: u64, to: u64, change: impl FnOnce(&mut Checkpoint)) -> CheckpointWrite {
    let mut part = part(0, 0, from, to);
    change(&mut part.checkpoint);
    write(vec![part])
}
